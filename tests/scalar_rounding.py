"""Rounding to a format from its definition, one exact fraction at a time, for the scalar interpreter."""

import math
from fractions import Fraction

from exact_operations import binade, power_of_two


def round_magnitude(m, format, rounding, minus=False):
    """One of the two neighbors of m > 0 in the format, as if the exponent had no upper end; minus tells its sign."""
    exponent = max(binade(m), format.min_exponent)
    quantum = power_of_two(exponent - format.precision + 1)
    k, rest = divmod(m / quantum, 1)
    odd = k % 2 == 1
    if format.precision == 1 and k:  # all significands are one, and the last bit is that of the exponent's field
        odd = (exponent - format.min_exponent + format.zero) % 2 == 1
    half = Fraction(1, 2)
    up = {
        "nearest_even": rest > half or (rest == half and odd),
        "nearest_away": rest >= half,
        "toward_zero": False,
        "up": rest > 0 and not minus,
        "down": rest > 0 and minus,
        "odd": rest > 0 and not odd,
    }[rounding]
    return (k + up) * quantum


def largest(format):
    significand = 2**format.precision - 1 - format.missing_top
    return significand * power_of_two(format.max_exponent - format.precision + 1)


def beyond(format):
    """What a number beyond the largest becomes."""
    return {"infinity": math.inf, "nan": math.nan, "saturate": float(largest(format))}[format.overflow]


def unrounded(x, format):
    """What a zero, an infinity or NaN becomes in a format."""
    if x == 0:
        return (x if format.signed_zero else 0.0) if format.zero else math.nan
    if math.isinf(x):
        if x < 0 and not format.signed:
            return math.nan
        return x if format.has_infinity else math.copysign(beyond(format), x)
    return x
