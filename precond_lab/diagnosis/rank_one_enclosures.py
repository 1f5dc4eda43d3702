r"""Bounds of eigenvalues and of products that hold in spite of the roundings of float64.

Every function works over leading axes. Two facts carry all of it, e = 2^-53 and k e <= 1/2:

1. a product, sum or inner product of k factors or terms, in whatever order and with or without fused operations, has a
   relative error, or an error relative to the sum of magnitudes, of at most k e / (1 - k e) <= 2 k e (Higham, Accuracy
   and Stability of Numerical Algorithms, chapter 3): `slack(k)`. It is twice what is needed, which pays for the
   roundings of the bounds themselves;
2. results below 2^-1022 have an absolute error of at most 2^-1074 an operation. Matrices are scaled by powers of two,
   exactly, until the diagonal is near one; `TINY`, far above what then can underflow and far below what matters, is
   added.
"""

import operator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.arithmetic.formats import Format

EPSILON = 2.0**-53
TINY = 2.0**-900
_WIDEST = 2**53
_LEAST_KEPT = 2.0**-126


def slack(k: float) -> float:
    """A bound of the relative error of k roundings to float64.

    Args:
        k: their number.

    Returns:
        2 k 2^-53.
    """
    return 2 * k * EPSILON


def exact_floats(x: ArrayLike, what: str) -> np.ndarray:
    """Numbers in float64, refused where that would change them.

    Args:
        x: floats of at most 64 bits, or integers.
        what: a name for the message.

    Returns:
        An array of float64 of the same shape.

    Raises:
        TypeError: if they are complex, wider than float64, or objects.
        ValueError: if an integer is beyond 2^53.
    """
    array = np.asarray(x)
    if array.dtype.kind in "iub":
        if array.size and (int(np.max(array)) > _WIDEST or int(np.min(array)) < -_WIDEST):
            raise ValueError(f"{what} holds integers beyond 2^53, which float64 cannot; give floats")
        return array.astype(np.float64)
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    if not narrow and not array.dtype.name.startswith(("bfloat", "float4", "float6", "float8")):
        raise TypeError(f"{what} is an array of {array.dtype}; give real floats of at most 64 bits, which are exact")
    return array.astype(np.float64)


def positive_count(x: object, what: str) -> int:
    """A number of roundings.

    Args:
        x: an integer.
        what: a name for the message.

    Returns:
        It.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is below one.
    """
    if isinstance(x, bool | np.bool_) or not hasattr(x, "__index__"):
        raise TypeError(f"{what} = {x!r} given; give an integer, the number of roundings")
    count = operator.index(x)  # pyright: ignore[reportArgumentType]
    if count < 1:
        raise ValueError(f"{what} = {count} given; give one at least: no bound holds of fewer than are made")
    return count


def absolute_error(format: Format) -> float:
    """A bound of the error of one operation where its result lies below the smallest normal number.

    Args:
        format: of the result.

    Returns:
        The smallest subnormal number; the smallest normal one without these, or where they are below 2^-126, which
        processors flush to zero.
    """
    kept = format.subnormals and format.min_subnormal >= _LEAST_KEPT
    return format.min_subnormal if kept else format.min_normal


def symmetric_floats(P: ArrayLike) -> np.ndarray:
    """The same of symmetric matrices.

    Args:
        P: ``[..., n, n]``; infinities and NaNs are let through.

    Returns:
        An array of float64.

    Raises:
        TypeError: if they are not real floats of at most 64 bits.
        ValueError: if they are not square, empty, or not symmetric.
    """
    A = exact_floats(P, "P")
    if A.ndim < 2 or A.shape[-1] != A.shape[-2] or not A.shape[-1]:
        raise ValueError(f"a matrix of shape {A.shape} given; wanted [..., n, n] with a row at least")
    if not np.array_equal(A, A.swapaxes(-1, -2), equal_nan=True):
        raise ValueError("P is not symmetric; give (P + P.T) / 2 if that is meant")
    return A


class Scaled(NamedTuple):
    """A matrix brought to unit diagonal by a congruence.

    Attributes:
        H: D^{-1} P D^{-1}, ``[..., n, n]``, rounded; the identity where `broken`.
        radius: bound of its errors, entry by entry.
        exponents: of the powers of two in D, ``[..., n]``; D is the identity where `broken`.
        mantissas: the other factor of D, ``[..., n]``, in [1/2, 1].
        broken: where P is not finite, or has a diagonal entry that is not positive, or |p_ij| > 2 (p_ii p_jj)^{1/2}:
            where it is not positive definite for sure.
    """

    H: np.ndarray
    radius: np.ndarray
    exponents: np.ndarray
    mantissas: np.ndarray
    broken: np.ndarray


def unit_diagonal(P: np.ndarray) -> Scaled:
    """H = D^{-1} P D^{-1} with D within one rounding of diag(P)^{1/2}.

    D is what its floats are: the congruence is exact, and definiteness is unchanged whether or not H has ones.

    Args:
        P: symmetric, ``[..., n, n]``.

    Returns:
        H and how it was made.
    """
    diagonal = np.diagonal(P, axis1=-2, axis2=-1)
    broken = np.asarray(~(np.isfinite(P).all((-1, -2)) & (diagonal > 0).all(-1)))
    safe = np.where(broken[..., None, None], np.eye(P.shape[-1]), P)
    diagonal = np.diagonal(safe, axis1=-2, axis2=-1)
    exponents = (np.frexp(diagonal)[1] + 1) // 2
    mantissas = np.sqrt(np.ldexp(diagonal, -2 * exponents))
    with np.errstate(over="ignore"):
        H = scaled_down(safe, exponents, mantissas)
    outside = np.asarray((np.abs(H) > 2).any((-1, -2)))
    H = np.where(outside[..., None, None], np.eye(P.shape[-1]), H)
    exponents, mantissas = (np.where(outside[..., None], x, y) for x, y in ((0, exponents), (1.0, mantissas)))
    return Scaled(H, slack(3) * np.abs(H) + TINY, exponents, mantissas, broken | outside)


def scaled_down(M: np.ndarray, exponents: np.ndarray, mantissas: np.ndarray) -> np.ndarray:
    """M_ij / (d_i d_j), with at most two roundings but for underflow, d = mantissa 2^exponent.

    Args:
        M: ``[..., n, n]``.
        exponents: ``[..., n]``.
        mantissas: ``[..., n]``.

    Returns:
        ``[..., n, n]``.
    """
    shifted = np.ldexp(M, -exponents[..., :, None] - exponents[..., None, :])
    return shifted / mantissas[..., :, None] / mantissas[..., None, :]


class Extremes(NamedTuple):
    """Bounds of the extreme eigenvalues of a symmetric matrix, each ``[...]``.

    Attributes:
        least_lower: the least eigenvalue is no smaller.
        least_upper: nor larger than this.
        largest_lower: the largest eigenvalue is no smaller.
        largest_upper: nor larger than this.
    """

    least_lower: np.ndarray
    least_upper: np.ndarray
    largest_lower: np.ndarray
    largest_upper: np.ndarray


def row_sums(R: np.ndarray) -> np.ndarray:
    """An upper bound of the largest sum of magnitudes in a row, so of the 2-norm where R is symmetric.

    Args:
        R: ``[..., n, n]``.

    Returns:
        ``[...]``.
    """
    return np.abs(R).sum(-1).max(-1) * (1 + slack(R.shape[-1])) + TINY


def extreme_eigenvalues(A: np.ndarray, radius: np.ndarray | float = 0.0) -> Extremes:
    """Bounds of the extreme eigenvalues of all symmetric matrices within a radius of A.

    With any floats Q and l, Q near orthogonal, the k-th eigenvalue of A is within |A - Q diag(l) Q^T|_2 of that of
    Q diag(l) Q^T (Weyl), which is l_k times a number between the extreme eigenvalues of Q^T Q (Ostrowski); the latter
    are within |Q^T Q - I|_2 of 1. So nothing need be believed of the program that computed Q and l.

    Args:
        A: symmetric, ``[..., n, n]``, finite, of moderate size.
        radius: bound of the entries of the deviation, that broadcasts with A.

    Returns:
        The bounds; about n^{3/2} 2^-52 |A|_2 apart at radius 0. Cost: O(n^3).
    """
    n = A.shape[-1]
    values, Q = np.linalg.eigh(A)
    size, QT = np.abs(Q), Q.swapaxes(-1, -2)
    product = (Q * values[..., None, :]) @ QT
    of_product = (size * np.abs(values)[..., None, :]) @ size.swapaxes(-1, -2)
    residual = row_sums(np.abs(A - product) * (1 + slack(1)) + slack(n + 4) * of_product + radius + TINY)
    angle = row_sums(QT @ Q - np.eye(n)) * (1 + slack(2))
    angle = angle + row_sums(slack(n + 2) * (size.swapaxes(-1, -2) @ size)) + TINY
    low, high = values[..., 0], values[..., -1]

    def end(value: np.ndarray, sign: int) -> np.ndarray:
        moved = value + sign * (np.abs(value) * angle + residual)
        return moved + sign * (slack(4) * (np.abs(value) * (1 + angle) + residual) + TINY)

    bounds = (end(low, -1), end(low, 1), end(high, -1), end(high, 1))
    usable = angle < 0.5
    return Extremes(*(np.where(usable, x, s * np.inf) for x, s in zip(bounds, (-1, 1, -1, 1), strict=True)))


def perron_root(R: np.ndarray) -> np.ndarray:
    """An upper bound of the spectral radius of a symmetric matrix without negative entries.

    max_i (R x)_i / x_i bounds it for every x > 0 (Collatz; Wielandt). The x taken is (s I - R)^{-1} 1 with s just above
    the radius, which is positive also where R is reducible.

    Args:
        R: ``[..., n, n]``, finite.

    Returns:
        ``[...]``: also a bound of |E|_2 for all symmetric E with |E| <= R.
    """
    n = R.shape[-1]
    crude = row_sums(R)
    unit = R / crude[..., None, None]
    s = np.linalg.eigvalsh(unit)[..., -1] * (1 + 2.0**-30) + 2.0**-40
    x = np.linalg.solve(s[..., None, None] * np.eye(n) - unit, np.ones((*R.shape[:-1], 1)))[..., 0]
    positive = np.asarray((np.isfinite(x) & (x > 0)).all(-1))
    x = np.where(positive[..., None], x, 1.0)
    ratios = (R @ x[..., None])[..., 0] / x
    return np.minimum(crude, ratios.max(-1) * (1 + slack(n + 2)) + TINY)
