"""The numbers of code books, and the search for the nearest.

A code book is a sorted list of rational numbers in [-1, 1], rounded to float32 once. Which of them is nearest to a
number is decided exactly: between two neighbors lies a threshold, the midpoint or the machine's last number before it.
"""

import bisect
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic.blocks import CodeBook

LEADING = 7
"""How many bits after the leading one the first guess of a search looks at."""


def rationals(book: CodeBook) -> list[Fraction]:
    """List the numbers of a code book as they are defined, ascending.

    Linear: ``k / (2**(bits - 1) - 1)`` for ``|k| < 2**(bits - 1)``, which leaves one code unused; without sign
    ``k / (2**bits - 1)``.

    Dynamic (Dettmers et al. 2022, arXiv:2110.02861, section 1.3): in the decade of ``10**-e``, for ``e`` from 0 to
    ``bits - 2``, the e zero bits and the indicator bit leave ``bits - 2 - e`` bits of fraction, one more without sign.
    They divide [0.1, 1] into equal intervals, whose midpoints times ``10**-e`` are the numbers. With both signs, 0 and
    1, these are ``2**bits``.

    Args:
        book: The code book.

    Returns:
        Exact numbers, the place of each being its code.

    >>> [str(value) for value in rationals(CodeBook("dynamic", bits=3))]
    ['-31/40', '-13/40', '-11/200', '0', '11/200', '13/40', '31/40', '1']
    """
    if book.kind == "linear":
        last = 2 ** (book.bits - book.signed) - 1
        return [Fraction(k, last) for k in range(-last if book.signed else 0, last + 1)]
    positive = []
    for e in range(book.bits - 1):
        parts = 2 ** (book.bits - 2 - e + (not book.signed))
        positive += [(Fraction(1, 10) + Fraction(9, 10) * Fraction(2 * j + 1, 2 * parts)) / 10**e for j in range(parts)]
    negative = [-value for value in positive] if book.signed else []
    return sorted([*positive, *negative, Fraction(0), Fraction(1)])


@lru_cache
def values(book: CodeBook) -> np.ndarray:
    """Give the numbers of a code book, each the float32 nearest to its definition.

    Args:
        book: The code book.

    Returns:
        float32 array, ascending, read-only.

    >>> values(CodeBook("linear", bits=3)).tolist()[3:]
    [0.0, 0.3333333432674408, 0.6666666865348816, 1.0]
    """
    # No number here is so near to the midpoint of two float32 that going through float64 would round twice.
    table = np.array([float(value) for value in rationals(book)]).astype(np.float32)
    table.flags.writeable = False
    return table


@lru_cache
def thresholds(book: CodeBook, dtype: np.dtype) -> np.ndarray:
    """Give the largest number of a dtype that is still nearest to each code, ascending.

    A number halfway between two codes belongs to the even one.

    Args:
        book: The code book.
        dtype: float32 or float64.

    Returns:
        Array of the dtype, one shorter than the table.
    """
    table, found = values(book), []
    for code, (low, high) in enumerate(zip(table[:-1].tolist(), table[1:].tolist(), strict=True)):
        middle = (Fraction(low) + Fraction(high)) / 2
        last = dtype.type(float(middle))
        if Fraction(float(last)) > middle or (Fraction(float(last)) == middle and code % 2):
            last = np.nextafter(last, dtype.type(-2))
        found.append(last)
    return np.array(found, dtype)


class Search(NamedTuple):
    """A table from the leading bits of a number to the first threshold that it may exceed."""

    shift: int  # bits of a magnitude that are not looked at
    lowest: int  # leading bits of the magnitude below which no threshold lies
    highest: int  # and above which none lies
    first: np.ndarray  # of every bucket of magnitudes, positive ones and then negative ones
    most: int  # how many thresholds a bucket has at the most
    ends: np.ndarray  # the thresholds, and infinities behind them


@lru_cache
def _search(book: CodeBook, dtype: np.dtype) -> Search:
    ends = thresholds(book, dtype)
    fraction, integer = (23, np.int32) if dtype == np.float32 else (52, np.int64)
    shift = fraction - LEADING
    lowest, highest = (int(dtype.type(x).view(integer)) >> shift for x in (np.abs(ends[ends != 0]).min(), 1.0))
    lowest, highest = lowest - 1, highest + 1
    ordered, first, most = ends.tolist(), [], 0
    for sign in (1, -1):
        for bucket in range(lowest, highest + 1):
            edges = [integer(edge << shift).view(dtype) for edge in (bucket, bucket + 1)]
            low, high = sorted(sign * float(edge) for edge in edges)
            if bucket == lowest:  # all magnitudes below are in this bucket
                low, high = min(low, 0.0), max(high, 0.0)
            start = bisect.bisect_left(ordered, low)
            first.append(start)
            most = max(most, bisect.bisect_right(ordered, high) - start)
    padded = np.concatenate([ends, np.full(most, np.inf, dtype)])
    return Search(shift, lowest, highest, np.array(first, np.int32), most, padded)


def nearest(x: jax.Array, book: CodeBook) -> jax.Array:
    """Find the codes of the numbers of a code book that are nearest.

    A number halfway between two codes gets the even one. Numbers beyond the ends get the code of the end; NaN gets one
    that means nothing.

    Args:
        x: float32 or float64 array.
        book: The code book.

    Returns:
        uint8 array of the shape of `x`.

    >>> nearest(jnp.float32([-1.0, 0.0, 0.5, 1.0]), CodeBook("linear", bits=2)).tolist()
    [0, 1, 2, 2]
    """
    search = _search(book, np.dtype(x.dtype))
    integer = np.int32 if x.dtype == jnp.float32 else np.int64
    bits = lax.bitcast_convert_type(x, integer)
    magnitude = bits & np.iinfo(integer).max
    bucket = lax.clamp(np.int32(search.lowest), (magnitude >> search.shift).astype(np.int32), np.int32(search.highest))
    count = search.highest - search.lowest + 1
    bucket = bucket - np.int32(search.lowest) + jnp.where(bits < 0, np.int32(count), np.int32(0))
    start = take(search.first, bucket)
    code = start
    for step in range(search.most):
        end = take(search.ends, start + np.int32(step))
        code = code + (x > end).astype(np.int32)
    return code.astype(np.uint8)


def take(table: np.ndarray, index: jax.Array) -> jax.Array:
    """Look every index up in a table.

    Args:
        table: One-dimensional.
        index: int32 array; every element must be within the table.

    Returns:
        Array of the shape of `index` and the dtype of the table.
    """
    return jnp.asarray(table).at[index].get(mode="promise_in_bounds")
