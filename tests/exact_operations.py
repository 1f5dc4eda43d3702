"""Exact operations on floats, for the scalar interpreter.

Floats go in. Out comes the exact result: a nonzero fraction, or a float that is a zero, an infinity or NaN. That of a
library function is exact to some 270 digits, and on the right side of the limits that it approaches.
"""

import math
from fractions import Fraction

import mpmath
import numpy as np


def power_of_two(e):
    return Fraction(2**e) if e >= 0 else Fraction(1, 2**-e)


def binade(m):
    """The exponent e of 2**e <= m < 2**(e + 1)."""
    e = m.numerator.bit_length() - m.denominator.bit_length()
    return e if power_of_two(e) <= m else e - 1


def negative(x):
    return math.copysign(1.0, x) < 0


def rough(x):
    """What matters of an operand beside an infinity or NaN."""
    return x if not math.isfinite(x) or x == 0 else math.copysign(1.0, x)


def signed_zero(minus):
    return -0.0 if minus else 0.0


def add(a, b, down=False):
    """The sum; one that vanishes is minus zero if both terms are negative, and under rounding down if either is."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return rough(a) + rough(b)
    return Fraction(a) + Fraction(b) or vanishing(negative(a), negative(b), down)


def vanishing(first, second, down):
    return signed_zero((first or second) if down else (first and second))


def sub(a, b, down=False):
    return add(a, -b, down)


def fma(a, b, c, down=False):
    """a b + c."""
    if not all(map(math.isfinite, (a, b, c))):
        return rough(a) * rough(b) + rough(c)
    return Fraction(a) * Fraction(b) + Fraction(c) or vanishing(negative(a) != negative(b), negative(c), down)


def exact_sum(*terms, down=False):
    """The sum of any number of terms."""
    if not all(map(math.isfinite, terms)):
        return sum(map(rough, terms))
    minus = [negative(x) for x in terms]
    return sum(map(Fraction, terms)) or signed_zero(any(minus) if down else all(minus))


def exact_dot(*operands, down=False):
    """The sum of the products of the first half of the operands with the second."""
    pairs = list(zip(operands[: len(operands) // 2], operands[len(operands) // 2 :], strict=True))
    if not all(map(math.isfinite, operands)):
        return sum(rough(a) * rough(b) for a, b in pairs)
    minus = [negative(a) != negative(b) for a, b in pairs]
    return sum(Fraction(a) * Fraction(b) for a, b in pairs) or signed_zero(any(minus) if down else all(minus))


def mul(a, b):
    if not (math.isfinite(a) and math.isfinite(b)):
        return rough(a) * rough(b)
    return Fraction(a) * Fraction(b) or signed_zero(negative(a) != negative(b))


def div(a, b):
    minus = negative(a) != negative(b)
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else (-math.inf if minus else math.inf)
    if not (math.isfinite(a) and math.isfinite(b)):
        return rough(a) / rough(b)
    return Fraction(a) / Fraction(b) or signed_zero(minus)


def rem(a, b):
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or b == 0:
        return math.nan
    if math.isinf(b):
        return Fraction(a) or a
    size = abs(Fraction(a)) % abs(Fraction(b))
    return (-size if negative(a) else size) or signed_zero(negative(a))


def sqrt(a):
    """The integer square root of a much enlarged number; a bit more where it is not the exact root."""
    if a == 0 or not math.isfinite(a) or a < 0:
        return a if a in {0, math.inf} else math.nan
    k = 2000
    enlarged = Fraction(a) * 4**k
    root = math.isqrt(enlarged.numerator)  # a float is a dyadic number, so the enlarged one is an integer
    return Fraction(2 * root + (root * root != enlarged), 2 ** (k + 1))


def identity(a):
    return Fraction(a) if math.isfinite(a) and a != 0 else a


# Library functions: by mpmath, and by NumPy where an operand is zero or infinite.
LIBRARY = {
    "exp": (mpmath.exp, np.exp),
    "exp2": (lambda x: mpmath.power(2, x), np.exp2),
    "expm1": (mpmath.expm1, np.expm1),
    "log": (mpmath.log, np.log),
    "log2": (lambda x: mpmath.log(x, 2), np.log2),
    "log1p": (mpmath.log1p, np.log1p),
    "tanh": (mpmath.tanh, np.tanh),
    "sinh": (mpmath.sinh, np.sinh),
    "cosh": (mpmath.cosh, np.cosh),
    "logistic": (lambda x: 1 / (1 + mpmath.exp(-x)), lambda x: 1 / (1 + np.exp(-x))),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), lambda x: 1 / np.sqrt(x)),
    "sin": (mpmath.sin, np.sin),
    "cos": (mpmath.cos, np.cos),
    "tan": (mpmath.tan, np.tan),
    "asin": (mpmath.asin, np.arcsin),
    "acos": (mpmath.acos, np.arccos),
    "atan": (mpmath.atan, np.arctan),
    "asinh": (mpmath.asinh, np.arcsinh),
    "acosh": (mpmath.acosh, np.arccosh),
    "atanh": (mpmath.atanh, np.arctanh),
    "erf": (mpmath.erf, math.erf),
    "erfc": (mpmath.erfc, math.erfc),
    "erf_inv": (mpmath.erfinv, lambda x: x if x == 0 else math.nan),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), np.cbrt),
    "pow": (mpmath.power, np.power),
    "atan2": (mpmath.atan2, np.arctan2),
}
# A result this near to a number of a format, or to a tie of two, is that number: there are bits enough to tell sin(x)
# from x at the smallest float32, and 1 from the tanh of all but large arguments. Those lie beyond LIMIT.
BITS, SPARE = 960, 60
LIMITS = {"tanh": 1, "erf": 1, "logistic": 1, "expm1": 1, "erfc": 2}  # in magnitude
LIMIT = 25.0  # erf and erfc come within 2**-900 of their limits there, the others within 2**-36
BEYOND_FLOAT64 = 1100


def library(name):
    exact, at_special = LIBRARY[name]

    def evaluate(*operands):
        if any(x == 0 or not math.isfinite(x) for x in operands):
            with np.errstate(all="ignore"):
                return identity(float(at_special(*map(np.float64, operands))))
        with mpmath.workprec(BITS):
            try:
                y = exact(*map(mpmath.mpf, operands))
            except ValueError:  # not in the domain
                return math.nan
            if isinstance(y, mpmath.mpc):
                return math.nan
            if not mpmath.isfinite(y) or y == 0:
                return float(y)
            man, exp = mpmath.frexp(abs(y))
            if abs(exp) > BEYOND_FLOAT64:
                size = power_of_two(BEYOND_FLOAT64 if exp > 0 else -BEYOND_FLOAT64)
            else:
                size = Fraction(int(mpmath.nint(mpmath.ldexp(man, BITS - SPARE))))
                size *= power_of_two(int(exp) - BITS + SPARE)
        if size == LIMITS.get(name) and abs(operands[0]) > LIMIT:
            size -= power_of_two(SPARE - BITS)  # every limit is approached from the side of zero
        return size if y > 0 else -size

    return evaluate


ROUNDED = {
    **{name: library(name) for name in LIBRARY},
    "add": add,
    "add_any": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "rem": rem,
    "sqrt": sqrt,
    "square": lambda a: mul(a, a),
}
