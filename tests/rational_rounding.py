"""Rounding from the definition, in exact integer arithmetic: the oracle of the rounding tests.

Every float32 and float64 is an integer multiple of 2**-1074. A magnitude is that integer here, so comparing
and halving a gap are exact. Nothing is shared with the kernels: a format is the sorted list of its values.
"""

import bisect
import math
from fractions import Fraction
from functools import cache

import numpy as np

UNIT = 1074


def magnitude(x) -> int:
    """|x| as a multiple of 2**-1074."""
    numerator, denominator = abs(float(x)).as_integer_ratio()
    return (numerator << UNIT) // denominator


@cache
def as_float(units: int) -> float:
    """The float64 that is this multiple of 2**-1074; it must be one."""
    exact = Fraction(units, 2**UNIT)
    assert Fraction(float(exact)) == exact
    return float(exact)


def grid(format) -> list[int]:
    """The non-negative numbers of a format with subnormals, ascending, and the one that would be next."""
    p, low, high = format.precision, format.min_exponent, format.max_exponent
    values = [k << (low - p + 1 + UNIT) for k in range(2 ** (p - 1))]
    for e in range(low, high + 1):
        values += [k << (e - p + 1 + UNIT) for k in range(2 ** (p - 1), 2**p)]
    top = len(values) - format.missing_top
    past = values[top] if format.missing_top else 2 ** (high + 1 + UNIT)
    return [*values[:top], past]


class Enumerated:
    """Rounds by looking the two neighbors up in the list of all values."""

    def __init__(self, format):
        self.format = format
        self.values = grid(format)

    def neighbors(self, units: int) -> tuple[int, int, bool]:
        """The largest value not above, the next one, and whether the first has an even significand."""
        index = min(bisect.bisect_right(self.values, units), len(self.values) - 1)
        return self.values[index - 1], self.values[index], index % 2 == 1


class Computed:
    """Rounds by computing the two neighbors from the exponent: for formats too large to list."""

    def __init__(self, format):
        self.format = format
        p = format.precision
        self.past_largest = (2**p - format.missing_top) << (format.max_exponent - p + 1 + UNIT)

    def neighbors(self, units: int) -> tuple[int, int, bool]:
        p, low = self.format.precision, self.format.min_exponent
        units = min(units, self.past_largest)
        ulp = max(units.bit_length() - 1 - UNIT, low) - p + 1 + UNIT
        if ulp < 0:
            return units, units + 1, True  # the format is finer than the carrier
        k = units >> ulp
        return k << ulp, (k + 1) << ulp, k % 2 == 0


def rounded(oracle, x, rounding: str) -> float:
    """Round one float from the definition."""
    format = oracle.format
    if math.isnan(x):
        return math.nan
    beyond = {"infinity": math.inf, "nan": math.nan, "saturate": format.max}[format.overflow]
    if math.isinf(x):
        return math.copysign(beyond, x)
    units = magnitude(x)
    lower, upper, lower_is_even = oracle.neighbors(units)
    largest = magnitude(format.max)
    if rounding == "toward_zero":
        result = min(lower, largest)
    else:
        from_lower, from_upper = units - lower, upper - units
        up = from_lower > from_upper or (from_lower == from_upper and not lower_is_even)
        result = upper if up else lower
    if not format.subnormals and result < magnitude(format.min_normal):
        result = 0
    return math.copysign(beyond if result > largest else as_float(result), x)


def table(oracle, xs: np.ndarray, rounding: str) -> np.ndarray:
    """Round an array, one element at a time."""
    return np.array([rounded(oracle, x, rounding) for x in xs.tolist()], dtype=xs.dtype)


def around(points, dtype) -> np.ndarray:
    """The points, given in units, with both of their neighbors in the dtype, and the negatives of all."""
    exact = np.array([as_float(units) for units in points])
    points = exact.astype(dtype)
    assert (points == exact).all()
    largest = np.finfo(dtype).max
    above = np.nextafter(points, largest, dtype=dtype)
    below = np.nextafter(points, -largest, dtype=dtype)
    positive = np.concatenate([points, above, below])
    return np.concatenate([positive, -positive])
