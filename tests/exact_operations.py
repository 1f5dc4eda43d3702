"""Exact operations on floats, for the scalar interpreter.

Floats go in. Out comes the exact result: a nonzero fraction, or a float that is a zero, an infinity or NaN. Library
functions are evaluated to 50 digits and rounded as a perfect float64 library would.
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


def add(a, b):
    if not (math.isfinite(a) and math.isfinite(b)):
        return rough(a) + rough(b)
    return Fraction(a) + Fraction(b) or signed_zero(negative(a) and negative(b))


def sub(a, b):
    return add(a, -b)


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


def reciprocal_root(x):
    return 1 / mpmath.sqrt(x)


# Library functions: by mpmath, and by NumPy where an operand is zero or infinite.
LIBRARY = {
    "exp": (mpmath.exp, np.exp),
    "exp2": (lambda x: mpmath.power(2, x), np.exp2),
    "expm1": (mpmath.expm1, np.expm1),
    "log": (mpmath.log, np.log),
    "log1p": (mpmath.log1p, np.log1p),
    "tanh": (mpmath.tanh, np.tanh),
    "logistic": (lambda x: 1 / (1 + mpmath.exp(-x)), lambda x: 1 / (1 + np.exp(-x))),
    "rsqrt": (reciprocal_root, lambda x: 1 / np.sqrt(x)),
    "sin": (mpmath.sin, np.sin),
    "cos": (mpmath.cos, np.cos),
    "erf": (mpmath.erf, math.erf),
    "erfc": (mpmath.erfc, math.erfc),
    "erf_inv": (mpmath.erfinv, lambda x: x if x == 0 else math.nan),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), np.cbrt),
    "pow": (mpmath.power, np.power),
    "atan2": (mpmath.atan2, np.arctan2),
}
FLOAT64_PRECISION = 53
TRUSTED_PRECISION = 48  # of float64 results of functions that can hit a number of a format, or a tie, exactly
HIT_EXACTLY = frozenset({"cbrt", "exp2", "log2", "pow", "rsqrt"})
BEYOND_FLOAT64 = 1100


def library(name):
    exact, at_special = LIBRARY[name]
    precision = TRUSTED_PRECISION if name in HIT_EXACTLY else FLOAT64_PRECISION

    def evaluate(*operands):
        if any(x == 0 or not math.isfinite(x) for x in operands):
            with np.errstate(all="ignore"):
                return identity(float(at_special(*map(np.float64, operands))))
        with mpmath.workdps(50):
            y = exact(*map(mpmath.mpf, operands))
            if isinstance(y, mpmath.mpc):
                return math.nan
            if not mpmath.isfinite(y) or y == 0:
                return float(y)
            man, exp = mpmath.frexp(abs(y))
            if abs(exp) > BEYOND_FLOAT64:
                size = power_of_two(BEYOND_FLOAT64 if exp > 0 else -BEYOND_FLOAT64)
            else:  # what a perfect float64 library would return
                size = Fraction(int(mpmath.nint(mpmath.ldexp(man, precision))))
                size *= power_of_two(int(exp) - precision)
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
