"""Real numbers of many digits, with the infinities and the NaN of IEEE 754.

A number is an mpmath `mpf`; its raw form, on which the functions below work, is mpmath's quadruple. mpmath
raises an exception where IEEE arithmetic has a value (1/0, the square root of -1, the logarithm of 0), or
leaves the real line; here every operation has the value that JAX gives it. Two things differ from IEEE
arithmetic for good: there is one zero, without a sign, and exponents have no bounds, so nothing overflows
or underflows.
"""

from collections.abc import Callable, Sequence
from numbers import Rational
from typing import Any

import mpmath
import numpy as np
from mpmath import libmp as _libmp

libmp: Any = _libmp  # its types, inferred branch by branch, say nothing
Raw = tuple[int, int, int, int]

ZERO, ONE, TWO, HALF = libmp.fzero, libmp.fone, libmp.ftwo, libmp.fhalf
INFINITY, MINUS_INFINITY, NAN = libmp.finf, libmp.fninf, libmp.fnan
_GUARD = 10  # extra bits inside of composite functions
_LARGEST = 2**14  # from 2^_LARGEST on, a number is infinity to the functions that grow or oscillate like exp, sin
_WIDEST_ROW = 4096  # bits between the largest and the least number of a row that is worth aligning


def is_finite(x: Raw) -> bool:
    """Whether x is a number: neither infinite nor NaN."""
    return bool(x[1]) or x == ZERO


def is_negative(x: Raw) -> bool:
    """Whether x < 0."""
    return bool(x[0]) or x == MINUS_INFINITY


def _magnitude(x: Raw) -> int:
    """The e of 2^(e-1) <= |x| < 2^e, for a finite nonzero x."""
    return x[2] + x[3]


def _odd_integer(x: Raw) -> bool:
    return bool(x[1]) and x[2] == 0  # mpmath keeps mantissas odd


def _integer(x: Raw) -> bool:
    return x == ZERO or (bool(x[1]) and x[2] >= 0)


def _rounded(function: Callable[[Raw, int, str], Raw]) -> Callable[[Raw, int], Raw]:
    return lambda x, precision: function(x, precision, "n")


def _bounded(function: Callable[[Raw, int], Raw]) -> Callable[[Raw, int], Raw]:
    return lambda x, precision: function(_limit(x), precision)


def _limit(x: Raw) -> Raw:
    """A number, or infinity in the place of one whose exponential would fill the memory."""
    if not x[1] or _magnitude(x) <= _LARGEST:
        return x
    return MINUS_INFINITY if x[0] else INFINITY


def _sign(x: Raw, precision: int) -> Raw:
    del precision
    return x if x in {NAN, ZERO} else libmp.fnone if is_negative(x) else ONE


def _reciprocal(x: Raw, precision: int) -> Raw:
    return divide(ONE, x, precision)


def _rsqrt(x: Raw, precision: int) -> Raw:
    return divide(ONE, libmp.mpf_sqrt(x, precision + _GUARD, "n"), precision)


def _cbrt(x: Raw, precision: int) -> Raw:
    root = libmp.mpf_cbrt(libmp.mpf_abs(x), precision, "n")
    return libmp.mpf_neg(root) if is_negative(x) else root


def _exp2(x: Raw, precision: int) -> Raw:
    return power(TWO, x, precision)


def _log2(x: Raw, precision: int) -> Raw:
    logarithm = libmp.mpf_log(x, precision + _GUARD, "n")
    return divide(logarithm, libmp.mpf_ln2(precision + _GUARD), precision)


def _expm1(x: Raw, precision: int) -> Raw:
    small = -_magnitude(x) if x[1] else 0
    if small > precision:  # exp(x) - 1 = x + x^2/2 + ...
        half_square = libmp.mpf_shift(libmp.mpf_mul(x, x), -1)
        return libmp.mpf_add(x, half_square, precision, "n")
    exponential = libmp.mpf_exp(x, precision + max(0, small) + _GUARD, "n")
    return libmp.mpf_sub(exponential, ONE, precision, "n")


def _log1p(x: Raw, precision: int) -> Raw:
    if x[1] and -_magnitude(x) > precision:  # log(1 + x) = x - x^2/2 + ...
        half_square = libmp.mpf_shift(libmp.mpf_mul(x, x), -1)
        return libmp.mpf_sub(x, half_square, precision, "n")
    if x[1] and _magnitude(x) > 2 * precision:  # 1 + x is x, to the last digit
        return libmp.mpf_log(x, precision, "n")
    return libmp.mpf_log(libmp.mpf_add(ONE, x), precision, "n")


def _logistic(x: Raw, precision: int) -> Raw:
    exponential = libmp.mpf_exp(libmp.mpf_neg(x), precision + _GUARD, "n")
    return divide(ONE, libmp.mpf_add(ONE, exponential, precision + _GUARD, "n"), precision)


def _asin(x: Raw, precision: int) -> Raw:
    return NAN if not is_finite(x) else libmp.mpf_asin(x, precision, "n")


def _lgamma(x: Raw, precision: int) -> Raw:
    if x in {INFINITY, MINUS_INFINITY}:
        return INFINITY
    if is_negative(x) or x == ZERO:
        if _integer(x):
            return INFINITY
        gamma = libmp.mpf_gamma(x, 2 * precision, "n")  # its logarithm may be near 0
        return libmp.mpf_log(libmp.mpf_abs(gamma), precision, "n")
    return libmp.mpf_loggamma(x, precision, "n")


def _round_away(x: Raw, precision: int) -> Raw:
    if not is_finite(x) or _integer(x):
        return x
    magnitude = libmp.mpf_floor(libmp.mpf_add(libmp.mpf_abs(x), HALF))
    return libmp.mpf_neg(magnitude) if is_negative(x) else magnitude


def _one_minus_square(x: Raw, precision: int) -> Raw:
    return libmp.mpf_sub(ONE, libmp.mpf_mul(x, x), precision, "n")


def divide(x: Raw, y: Raw, precision: int) -> Raw:
    """The quotient x / y, where x / 0 is infinite and 0 / 0 is NaN."""
    if y != ZERO:
        return libmp.mpf_div(x, y, precision, "n")
    return NAN if x in {ZERO, NAN} else MINUS_INFINITY if is_negative(x) else INFINITY


def power(x: Raw, y: Raw, precision: int) -> Raw:
    """The power x ** y with C's special cases: 1 if y = 0 or x = 1, NaN if x < 0 and y is no integer."""
    if y == ZERO or x == ONE:
        return ONE
    if NAN in {x, y}:
        return NAN
    y = _limit(y)
    if y in {INFINITY, MINUS_INFINITY}:
        size = libmp.mpf_cmp(libmp.mpf_abs(x), ONE)
        grows = size > 0 if y == INFINITY else size < 0
        return ONE if size == 0 else INFINITY if grows else ZERO
    if x == ZERO or not is_finite(x):
        grows = (x == ZERO) == is_negative(y)
        odd = x == MINUS_INFINITY and _odd_integer(y)
        return ZERO if not grows else MINUS_INFINITY if odd else INFINITY
    return libmp.mpf_pow(x, y, precision, "n")


def remainder(x: Raw, y: Raw, precision: int) -> Raw:
    """The remainder x - y trunc(x / y), C's fmod: exact, with the sign of x."""
    if not is_finite(x) or y in {ZERO, NAN}:
        return NAN
    if not is_finite(y):
        return x
    rest = libmp.mpf_mod(libmp.mpf_abs(x), libmp.mpf_abs(y), precision, "n")
    return libmp.mpf_neg(rest) if is_negative(x) else rest


def polygamma(m: Raw, x: Raw, precision: int) -> Raw:
    """The derivative of order m of digamma, for a natural number m: infinite at its poles where m is odd."""
    if not _integer(m) or is_negative(m) or x in {NAN, MINUS_INFINITY}:
        return NAN
    order = libmp.to_int(m)
    if order and x == INFINITY:
        return ZERO
    if order % 2 and _integer(x) and (is_negative(x) or x == ZERO):
        return INFINITY
    return libmp.mpf_psi(order, x, precision, "n")


# Functions of one raw number and the precision. An exception of mpmath (not real, a pole) stands for NaN.
UNARY: dict[str, Callable[[Raw, int], Raw]] = {
    "acos": lambda x, p: NAN if not is_finite(x) else libmp.mpf_acos(x, p, "n"),
    "acosh": _rounded(libmp.mpf_acosh),
    "asin": _asin,
    "asinh": _rounded(libmp.mpf_asinh),
    "atan": _rounded(libmp.mpf_atan),
    "atanh": _rounded(libmp.mpf_atanh),
    "cbrt": _cbrt,
    "ceil": lambda x, p: libmp.mpf_ceil(x),
    "cos": _bounded(_rounded(libmp.mpf_cos)),
    "cosh": _bounded(_rounded(libmp.mpf_cosh)),
    "digamma": _bounded(_rounded(libmp.mpf_psi0)),
    "erf": _rounded(libmp.mpf_erf),
    "erfc": _rounded(libmp.mpf_erfc),
    "exp": _bounded(_rounded(libmp.mpf_exp)),
    "exp2": _exp2,
    "expm1": _bounded(_expm1),
    "floor": lambda x, p: libmp.mpf_floor(x),
    "lgamma": _bounded(_lgamma),
    "log": _rounded(libmp.mpf_log),
    "log1p": _log1p,
    "log2": _log2,
    "logistic": _bounded(_logistic),
    "one_minus_square": _one_minus_square,
    "reciprocal": _reciprocal,
    "round_away": _round_away,
    "round_even": lambda x, p: libmp.mpf_nint(x),
    "rsqrt": _rsqrt,
    "sign": _sign,
    "sin": _bounded(_rounded(libmp.mpf_sin)),
    "sinh": _bounded(_rounded(libmp.mpf_sinh)),
    "sqrt": _rounded(libmp.mpf_sqrt),
    "tan": _bounded(_rounded(libmp.mpf_tan)),
    "tanh": _bounded(_rounded(libmp.mpf_tanh)),
}
BINARY: dict[str, Callable[[Raw, Raw, int], Raw]] = {
    "atan2": lambda y, x, p: NAN if NAN in {x, y} else libmp.mpf_atan2(y, x, p, "n"),
    "div": divide,
    "polygamma": polygamma,
    "pow": power,
    "rem": remainder,
}


class Reals:
    """The reals at a given number of digits: makes numbers, and gives every function as a NumPy ufunc.

    The numbers belong to an mpmath context of their own, so mpmath's global precision is neither read nor
    set, and threads do not disturb each other.

    Attributes:
        precision: in bits.
        zero: the number 0.
        functions: by the name of their primitive, ufuncs over object arrays of numbers.
    """

    def __init__(self, digits: int) -> None:
        """The reals at `digits` decimal digits."""
        self._context: Any = mpmath.mp.clone()
        self._context.dps = digits
        self.precision: int = self._context.prec
        self.number: Callable[[Raw], Any] = self._context.make_mpf
        self.zero = self.number(ZERO)
        self.functions: dict[str, np.ufunc] = {
            **{name: np.frompyfunc(self._unary(raw), 1, 1) for name, raw in UNARY.items()},
            **{name: np.frompyfunc(self._binary(raw), 2, 1) for name, raw in BINARY.items()},
            "erf_inv": np.frompyfunc(self._erf_inv, 1, 1),
            "is_finite": np.frompyfunc(lambda x: is_finite(x._mpf_), 1, 1),
            "eq_to": np.frompyfunc(lambda x, y: not _total_order(x, y) and not _total_order(y, x), 2, 1),
            "le_to": np.frompyfunc(lambda x, y: not _total_order(y, x), 2, 1),
            "lt_to": np.frompyfunc(_total_order, 2, 1),
            "logaddexp": np.frompyfunc(self._logaddexp, 2, 1),
            "max": np.frompyfunc(_maximum, 2, 1),
            "min": np.frompyfunc(_minimum, 2, 1),
        }

    def _unary(self, function: Callable[[Raw, int], Raw]) -> Callable:
        number, precision = self.number, self.precision

        def scalar(x: Any) -> Any:
            try:
                return number(function(x._mpf_, precision))
            except (libmp.ComplexResult, ValueError, ZeroDivisionError):
                return number(NAN)

        return scalar

    def _binary(self, function: Callable[[Raw, Raw, int], Raw]) -> Callable:
        number, precision = self.number, self.precision

        def scalar(x: Any, y: Any) -> Any:
            try:
                return number(function(x._mpf_, y._mpf_, precision))
            except (libmp.ComplexResult, ValueError, ZeroDivisionError):
                return number(NAN)

        return scalar

    def _erf_inv(self, x: Any) -> Any:
        if abs(x) < 1:
            return self._context.erfinv(x)
        return x * self.number(INFINITY) if abs(x) == 1 else self.number(NAN)

    def _logaddexp(self, x: Any, y: Any) -> Any:
        large, small = _maximum(x, y), _minimum(x, y)
        if not is_finite(large._mpf_) or not is_finite(small._mpf_):
            return large
        return large + self.functions["log1p"](self.functions["exp"](small - large))

    def exact(self, value: Any) -> Any:
        """The number that a Python, NumPy or mpmath scalar is.

        Args:
            value: an integer or a binary number, which are taken exactly, or a `Fraction`, which is divided
            out.

        Returns:
            The number.

        Raises:
            TypeError: the value is no real number.
        """
        if hasattr(value, "_mpf_"):
            return self.number(value._mpf_)
        if isinstance(value, (bool, int, np.integer, np.bool_)):
            return self.number(libmp.from_int(int(value)))
        if isinstance(value, Rational):
            return self.number(libmp.from_rational(value.numerator, value.denominator, self.precision, "n"))
        if isinstance(value, (float, np.generic)):
            return self.number(libmp.from_float(float(value)))
        msg = f"expected a real number (int, float, Fraction, mpf), got {type(value).__name__}"
        raise TypeError(msg)

    def array(self, values: Any) -> np.ndarray:
        """An object array of numbers, from an array of any real type, exactly."""
        values = np.asarray(values)
        if values.dtype.kind not in "fiubO":  # bfloat16 and float8 are all values of float64
            values = values.astype(np.float64)
        make = self.number
        if values.dtype.kind == "O":
            elements = [self.exact(value) for value in values.ravel()]
        else:
            raw = libmp.from_float if values.dtype.kind == "f" else libmp.from_int
            elements = [make(raw(value)) for value in values.ravel().tolist()]
        return _object_array(elements, values.shape)

    def sums(self, lanes: np.ndarray) -> np.ndarray:
        """Sums over the last axis, each rounded once."""
        rows = lanes.reshape(int(np.prod(lanes.shape[:-1])), lanes.shape[-1]).tolist()
        return _object_array([self._context.fsum(row) for row in rows], lanes.shape[:-1])

    def product(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        """The matrix product of ``[m, k]`` and ``[k, n]``, each inner product rounded once.

        Rows of A and columns of B are aligned to a common exponent, so that the sums run over Python
        integers: exact, and several times faster than multiplying and adding one number after the other.
        """
        if not A.size or not B.size:
            return np.full((A.shape[0], B.shape[1]), self.zero, dtype=object)
        rows, columns = _aligned(A), _aligned(B.T)
        if rows is None or columns is None:
            return np.asarray(A @ B, dtype=object)
        integers = rows[0] @ columns[0].T
        exponents = np.add.outer(np.asarray(rows[1], dtype=object), np.asarray(columns[1], dtype=object))
        to_number = np.frompyfunc(lambda man, exp: self.number(libmp.from_man_exp(man, exp, self.precision, "n")), 2, 1)
        return to_number(integers, exponents)


def _aligned(A: np.ndarray) -> tuple[np.ndarray, list[int]] | None:
    """Integers and an exponent for each row; None where a row is not finite or spreads too far."""
    integers, exponents = np.zeros(A.shape, dtype=object), []
    for i, row in enumerate(A):
        raws = [x._mpf_ for x in row]
        if not all(map(is_finite, raws)):
            return None
        nonzero = [raw for raw in raws if raw[1]]
        low = min((raw[2] for raw in nonzero), default=0)
        if max((_magnitude(raw) for raw in nonzero), default=low) - low > _WIDEST_ROW:
            return None
        integers[i] = [(-raw[1] if raw[0] else raw[1]) << (raw[2] - low) if raw[1] else 0 for raw in raws]
        exponents.append(low)
    return integers, exponents


def _maximum(x: Any, y: Any) -> Any:
    return x if x >= y or x != x else y  # noqa: PLR0124  # NaN wins


def _minimum(x: Any, y: Any) -> Any:
    return x if x <= y or x != x else y  # noqa: PLR0124


def published(numbers: np.ndarray, digits: int) -> np.ndarray:
    """The same array in mpmath's own numbers, `mpmath.mpf`, rounded to `digits` digits."""
    bits, make, rounded = libmp.dps_to_prec(digits), mpmath.mp.make_mpf, libmp.mpf_pos
    elements = [make(rounded(x._mpf_, bits, "n")) for x in numbers.ravel().tolist()]
    return _object_array(elements, numbers.shape)


def _object_array(elements: list, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def _total_order(x: Any, y: Any) -> bool:
    """Whether x < y where NaN comes last."""
    return bool(x < y) or (x == x and y != y)  # noqa: PLR0124


def ordering(values: Sequence[Any]) -> list[tuple]:
    """Keys that sort as JAX does: ascending, NaN last. Most comparisons end at a number's float64."""
    return [(x != x, float(x), x) for x in values]  # noqa: PLR0124
