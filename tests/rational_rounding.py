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
    """Zero and the positive numbers of a format with subnormals, ascending, and the one that would be next."""
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
        """The largest value not above, the next one, and whether the first has an even code."""
        index = min(bisect.bisect_right(self.values, units), len(self.values) - 1)
        code = index - 1 if self.format.zero else index - 1 - 2 ** (self.format.precision - 1)
        return self.values[index - 1], self.values[index], code % 2 == 0


class Computed:
    """Rounds by computing the two neighbors from the exponent: for formats too large to list."""

    def __init__(self, format):
        self.format = format

    def neighbors(self, units: int) -> tuple[int, int, bool]:
        p, low, high = self.format.precision, self.format.min_exponent, self.format.max_exponent
        largest = 2**p - self.format.missing_top - 1
        exponent = min(max(units.bit_length() - 1 - UNIT, low), high)
        ulp = exponent - p + 1 + UNIT
        if ulp < 0:
            return units, units + 1, True  # the format is finer than the carrier
        k = units >> ulp
        if exponent == high:
            k = min(k, largest)
        code_is_even = k % 2 == 0 if p > 1 or k == 0 else (exponent - low + self.format.zero) % 2 == 0
        return k << ulp, (k + 1) << ulp, code_is_even


def goes_up(oracle, units: int, negative: bool, rounding: str, random: Fraction | None) -> bool:
    """Whether a magnitude strictly between two neighbors goes to the larger one.

    Stochastic rounding takes a random number in [0, 1) of finitely many bits, given as (number, bits).
    """
    lower, upper, lower_is_even = oracle.neighbors(units)
    below, above = units - lower, upper - units
    match rounding:
        case "nearest_even":
            return below > above or (below == above and not lower_is_even)
        case "nearest_away":
            return below >= above
        case "toward_zero":
            return False
        case "up":
            return not negative
        case "down":
            return negative
        case "odd":
            return lower_is_even
        case "stochastic":
            number, bits = random
            return (below << bits) // (upper - lower) + number >= 1 << bits
    raise AssertionError(rounding)


OVERFLOWS = {"nearest_even": "+-", "nearest_away": "+-", "toward_zero": "", "up": "+", "down": "-", "odd": ""}


def rounded(oracle, x, rounding: str, random=None) -> float:
    """Round one float from the definition."""
    format, x = oracle.format, float(x)
    negative = math.copysign(1, x) < 0
    if math.isnan(x) or (not format.zero and x <= 0) or (not format.signed and x < 0):
        return math.nan
    beyond = {"infinity": math.inf, "nan": math.nan, "saturate": format.max}[format.overflow]
    if math.isinf(x):
        return math.copysign(math.inf if format.has_infinity else beyond, x)
    units = magnitude(x)
    lower, upper, _ = oracle.neighbors(units)
    largest, smallest = magnitude(format.max), magnitude(format.min_normal)
    reaches = units >= upper  # the one that would follow the largest, or a larger one
    if not reaches and units > lower:
        reaches = goes_up(oracle, units, negative, rounding, random)
    result = upper if reaches else lower
    if not format.zero:
        result = max(result, smallest)
    elif not format.subnormals and result < smallest:
        result = 0
    if max(result, units) > largest and ("-" if negative else "+") not in OVERFLOWS.get(rounding, "+-"):
        result = largest
    result = beyond if result > largest else as_float(result)
    return abs(result) if result == 0 and not format.signed_zero else math.copysign(result, x)


def table(oracle, xs: np.ndarray, rounding: str, randoms=None) -> np.ndarray:
    """Round an array, one element at a time."""
    randoms = [None] * len(xs) if randoms is None else randoms
    results = [rounded(oracle, x, rounding, random) for x, random in zip(xs.tolist(), randoms, strict=True)]
    return np.array(results, dtype=xs.dtype)


class Listed:
    """The definition once more, for whole arrays: all numbers of the format in one sorted list of float64."""

    def __init__(self, format):
        """Every operation on these is exact: halves of gaps, differences of neighbors, their share of a gap."""
        self.format = format
        self.values = np.array([as_float(units) for units in grid(format)[:-1]])
        last_gap = np.ldexp(1.0, format.max_exponent - format.precision + 1)
        self.gaps = np.append(np.diff(self.values), last_gap)

    def goes_up(self, x: np.ndarray, rounding: str, words=None, random_bits=None):
        """The index of the number below each magnitude, and whether to go to the next one."""
        magnitudes = np.abs(x.astype(np.float64))
        index = np.searchsorted(self.values, magnitudes, side="right") - 1
        code = index if self.format.zero else index - 2 ** (self.format.precision - 1)
        part, gap, odd = magnitudes - self.values[index], self.gaps[index], code % 2 == 1
        up = {
            "nearest_even": lambda: (part > gap / 2) | ((part == gap / 2) & odd),
            "nearest_away": lambda: part >= gap / 2,
            "toward_zero": lambda: part < 0,
            "up": lambda: (part > 0) & ~np.signbit(x),
            "down": lambda: (part > 0) & np.signbit(x),
            "odd": lambda: (part > 0) & ~odd,
            "stochastic": lambda: (
                np.floor(np.ldexp(np.minimum(part, gap) / gap, random_bits))
                + (words >> words.dtype.type(8 * words.itemsize - random_bits)).astype(np.float64)
                >= 2.0**random_bits
            ),
        }[rounding]()
        return index, up | (part >= gap)

    def rounded(self, x: np.ndarray, rounding: str, words=None, random_bits=None) -> np.ndarray:
        """Round an array."""
        format, negative = self.format, np.signbit(x)
        number = np.where(np.isfinite(x), x, 0)
        index, up = self.goes_up(number, rounding, words, random_bits)
        result = np.append(self.values, np.inf)[index + up]
        least = format.min_normal
        if not format.zero or not format.subnormals:
            result = np.where(result < least, 0.0 if format.zero else least, result)
        beyond = {"infinity": np.inf, "nan": np.nan, "saturate": format.max}[format.overflow]
        overflows = np.where(negative, "-" in OVERFLOWS.get(rounding, "+-"), "+" in OVERFLOWS.get(rounding, "+-"))
        result = np.where(np.isinf(result), np.where(overflows, beyond, format.max), result)
        result = np.where(np.isinf(x), np.inf if format.has_infinity else beyond, result)
        result = np.where(negative & ((result != 0) | format.signed_zero), -result, result)
        outside = np.isnan(x) | (not format.zero and x <= 0) | (not format.signed and x < 0)
        return np.where(outside, np.nan, result).astype(x.dtype)


def around(points: np.ndarray) -> np.ndarray:
    """Points, with both of their neighbors in their dtype, and the negatives of all."""
    largest = np.finfo(points.dtype).max
    above, below = (np.nextafter(points, end, dtype=points.dtype) for end in (largest, -largest))
    positive = np.concatenate([points, above, below])
    return np.concatenate([positive, -positive])
