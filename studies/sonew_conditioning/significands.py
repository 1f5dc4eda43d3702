"""Pairs of vertices over the significands of a format.

Scaling H by powers of two rounds nothing. So all pairs of diagonal entries are covered by H11 in [1, 2) and H22 in
[1, 4), and an edge is a number H12 below about 2.83. Numbers of a precision p are addressed by an index: 0 is 1, each
step goes to the next number. Everything is float64, in which products of two numbers of at most 26 bits are exact.
"""

from collections.abc import Iterator

import numpy as np


def number(index: np.ndarray, precision: int) -> np.ndarray:
    """The numbers at these indices."""
    exponent, fraction = np.divmod(index, 2 ** (precision - 1))
    return np.ldexp(1 + fraction * 2.0 ** (1 - precision), exponent)


def index_below(x: np.ndarray, precision: int) -> np.ndarray:
    """The index of the largest number that is at most x > 0."""
    significand, exponent = np.frexp(x)
    steps = 2 ** (precision - 1)
    return (exponent - 1) * steps + np.floor((2 * significand - 1) * steps).astype(int)


def pairs(precision: int, stride: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """H11 and H22, in batches.

    Args:
        precision: significant bits.
        stride: every so many-th significand of H11; of H22 too from 24 bits on.
        size: pairs in a batch, at most.

    Yields:
        Two arrays of one length.
    """
    count = 2 ** (precision - 1)
    first = np.arange(0, count, stride)
    second = np.arange(0, 2 * count, stride if precision >= 24 else 1)
    rows = max(1, size // len(second))
    for start in range(0, len(first), rows):
        a, c = np.meshgrid(first[start : start + rows], second, indexing="ij")
        yield number(a.ravel(), precision), number(c.ravel(), precision)


def singular_index(a: np.ndarray, c: np.ndarray, precision: int) -> np.ndarray:
    """The index of the largest edge e with e^2 <= a c, exactly, up to 24 bits.

    Where a c is not the square of a number it is 2^-46 or more away from it, and the root is not rounded across one.
    """
    return index_below(np.sqrt(a * c), precision)


def pivot(a: np.ndarray, c: np.ndarray, e: np.ndarray) -> np.ndarray:
    """1 - e^2 / (a c), with a relative error of two roundings: the products are exact."""
    return (a * c - e * e) / (a * c)


def cell(x: np.ndarray, precision: int) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the interval of real numbers that round to each of these numbers."""
    index = index_below(x, precision)
    below, above = number(index - 1, precision), number(index + 1, precision)
    return (below + x) / 2, (x + above) / 2


def largest_pivot_before_rounding(a: np.ndarray, c: np.ndarray, e: np.ndarray, precision: int) -> np.ndarray:
    """The supremum of the pivots of all entries that are stored as these: the corner of their cell."""
    return pivot(cell(a, precision)[1], cell(c, precision)[1], cell(e, precision)[0])


def least_pivot_before_rounding(a: np.ndarray, c: np.ndarray, e: np.ndarray, precision: int) -> np.ndarray:
    """Their infimum: the opposite corner."""
    return pivot(cell(a, precision)[0], cell(c, precision)[0], cell(e, precision)[1])
