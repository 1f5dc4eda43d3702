"""Matrices of balls: numbers with a bound of their error, by FLINT's arb.

Every operation on balls rounds its bound outward, so that a result contains the exact value for all numbers that its
operands contain. The precision of FLINT is one number for the whole process: :func:`precision` sets it for a block, and
lets one thread at a time in.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from threading import RLock
from typing import Any

import flint
import mpmath
import numpy as np
from flint import arb, arb_mat
from mpmath import libmp
from numpy.typing import ArrayLike

from precond_lab.truth.logdet.graph import rational

Rows = Sequence[Sequence[Fraction]]

_COMPLEX = (complex, np.complexfloating, mpmath.mpc)  # that an array of objects may hold

_LOCK = RLock()


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with balls whose midpoints have this many bits.

    Args:
        bits: the precision.

    Yields:
        Nothing.
    """
    with _LOCK, flint.ctx.workprec(bits):
        yield


def rationals(A: ArrayLike) -> list[list[Fraction]] | None:
    """The numbers of a square matrix without rounding.

    Args:
        A: ``[n, n]``: floats of any format, rationals, or mpmath numbers.

    Returns:
        The rows; None where a number is not finite.

    Raises:
        ValueError: if A is not square, or empty.
        TypeError: if it holds complex numbers.
    """
    array = np.asarray(A)
    if array.ndim != 2 or not array.size or array.shape[0] != array.shape[1]:
        raise ValueError(f"a matrix of shape {array.shape} given; wanted [n, n] with a row at least")
    if np.iscomplexobj(array) or (array.dtype == object and any(isinstance(x, _COMPLEX) for x in array.flat)):
        raise TypeError("a matrix of complex numbers given; it must be real: give its real part if that is meant")
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return [[Fraction(x) for x in row] for row in array.tolist()] if np.isfinite(array).all() else None
    rows = []
    for row in array.tolist():
        stored = [rational(x) for x in row]
        rows.append([x for x in stored if x is not None])
    return rows if all(len(row) == len(rows) for row in rows) else None


def symmetric_rationals(A: ArrayLike) -> list[list[Fraction]] | None:
    """The same of a matrix that has to be symmetric.

    Args:
        A: ``[n, n]``.

    Returns:
        The rows; None where a number is not finite.

    Raises:
        ValueError: if A is not square, or not symmetric.
        TypeError: if it holds complex numbers.
    """
    rows = rationals(A)
    if rows is None:
        return None
    for i, row in enumerate(rows):
        for j in range(i):
            if row[j] != rows[j][i]:
                raise ValueError(
                    f"A is not symmetric: {row[j]} at {i}, {j} but {rows[j][i]} at {j}, {i}; "
                    "give (A + A.T) / 2 if that is meant"
                )
    return rows


def ball(x: Fraction) -> arb:
    """The ball of a rational: the number itself where its denominator is a power of two."""
    numerator, denominator = int(x.numerator), int(x.denominator)  # of mpmath they may be those of gmpy2
    exponent = denominator.bit_length() - 1
    if denominator == 1 << exponent:
        return arb((numerator, -exponent))
    return arb(flint.fmpq(numerator, denominator))


def balls(rows: Rows) -> arb_mat:
    """The matrix of these rationals."""
    return arb_mat([[ball(x) for x in row] for row in rows])


def identity(n: int) -> arb_mat:
    """The identity of order n."""
    return arb_mat([[int(i == j) for j in range(n)] for i in range(n)])


def diagonal(M: arb_mat) -> list[arb]:
    """The diagonal of a square matrix."""
    return [M[i, i] for i in range(M.nrows())]


def symmetric(M: arb_mat) -> arb_mat:
    """The midpoints of (M + M^T) / 2."""
    return ((M + M.transpose()) * arb(0.5)).mid()


def power(M: arb_mat, k: int, *, midpoints: bool = False) -> arb_mat:
    """M^k by squaring.

    Args:
        M: a square matrix.
        k: at least 1.
        midpoints: whether to drop the bounds of errors after each product.

    Returns:
        The power.
    """
    result = None
    while True:
        if k & 1:
            result = M if result is None else _product(result, M, midpoints)
        k >>= 1
        if not k:
            return result if result is not None else M
        M = _product(M, M, midpoints)


def _product(M: arb_mat, N: arb_mat, midpoints: bool) -> arb_mat:
    return (M * N).mid() if midpoints else M * N


def infinity_norm(M: arb_mat) -> arb:
    """An upper bound of the largest sum of the magnitudes in a row; not finite where a ball is not."""
    sums = [sum((x.abs_upper() for x in row), arb(0)) for row in M.tolist()]
    if not all(s.is_finite() for s in sums):
        return arb.pos_inf()
    return max(s.upper() for s in sums)


def frobenius_square(M: arb_mat) -> arb:
    """The sum of the squares of the entries."""
    return sum((x * x for x in M.entries()), arb(0))


def trace_of_product(M: arb_mat, N: arb_mat) -> arb:
    """The trace of M N^T: the sum of the products of the entries."""
    return sum((x * y for x, y in zip(M.entries(), N.entries(), strict=True)), arb(0))


def number(x: arb) -> Any:
    """The midpoint of a ball as an mpmath number, with all of its bits."""
    if not x.is_finite():
        return mpmath.nan if x.is_nan() else mpmath.inf if x > 0 else mpmath.ninf
    mantissa, exponent = x.mid().man_exp()
    return mpmath.mp.make_mpf(libmp.from_man_exp(int(mantissa), int(exponent)))


def numbers(M: arb_mat) -> np.ndarray:
    """The midpoints of a matrix of balls as an object array of mpmath numbers, with all of their bits."""
    values = np.empty((M.nrows(), M.ncols()), dtype=object)
    for i, row in enumerate(M.tolist()):
        values[i] = [number(x) for x in row]
    return values


def floats(M: arb_mat) -> np.ndarray:
    """The midpoints of a matrix of balls, rounded to float64; magnitudes out of its range become zero or infinite."""
    return np.array([[float(x) for x in row] for row in M.tolist()])


def magnitude(x: arb) -> int:
    """The exponent e of 2^(e-1) <= |x| < 2^e of the midpoint of a ball; 0 for zero."""
    mantissa, exponent = x.mid().man_exp()
    return int(exponent) + int(mantissa).bit_length() if mantissa else 0


def bits_of(digits: int) -> int:
    """The bits of this many decimal digits."""
    return math.ceil(digits * math.log2(10))
