"""Solving, and factorizations, over whatever scalars a matrix holds.

Matrices are object arrays of `Fraction`, of FLINT's rationals, or of mpmath numbers of one context: every function
is a textbook's loop, exact over rationals, and of as many digits as the context has over mpmath's. Those with square
roots need mpmath's.
"""

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from numpy.typing import ArrayLike

from precond_lab.truth.logdet.graph import rational


def exact(x: Any) -> Fraction | None:
    """A number without rounding.

    Args:
        x: a float of any format, a rational, or an mpmath number of any context.

    Returns:
        The rational; None where it is not finite.
    """
    if isinstance(x, float):
        return Fraction(x) if math.isfinite(x) else None
    value = rational(mpmath.mp.make_mpf(x._mpf_) if hasattr(x, "_mpf_") else x)
    # Their parts may be numbers of gmpy2, which FLINT does not take.
    return None if value is None else Fraction(int(value.numerator), int(value.denominator))


def scalars(x: ArrayLike, context: Any = None) -> np.ndarray:
    """An array of exact scalars.

    Args:
        x: floats of any format, rationals, or mpmath numbers, finite.
        context: an mpmath context; None for rationals.

    Returns:
        An object array of Fraction, or of the context's numbers, rounded to its precision where they have more.

    Raises:
        ValueError: a number is not finite.
    """
    given = np.asarray(x)
    values = np.empty(given.shape, dtype=object)
    for index, stored in zip(np.ndindex(given.shape), given.ravel().tolist(), strict=True):
        value = exact(stored)
        if value is None:
            raise ValueError(f"{stored} given; wanted finite numbers")
        values[index] = value if context is None else context.mpf(value.numerator) / value.denominator
    return values


def context_of(digits: int) -> Any:
    """An mpmath context of its own.

    Args:
        digits: its decimal digits.

    Returns:
        The context; mpmath's global one is not touched.
    """
    context = mpmath.MPContext()
    context.dps = digits
    return context


def published(x: np.ndarray) -> np.ndarray:
    """Numbers of any context as mpmath's own, with all of their digits.

    Args:
        x: of mpmath numbers.

    Returns:
        Of the same shape.
    """
    values = np.empty(x.shape, dtype=object)
    for index in np.ndindex(x.shape):
        number: Any = x[index]
        values[index] = mpmath.mp.make_mpf(number._mpf_)
    return values


def root(x: Any) -> Any:
    """The square root of an mpmath number, in its own context.

    Args:
        x: not negative.

    Returns:
        The root.

    Raises:
        TypeError: x is a rational, whose root need not be one.
    """
    if not hasattr(x, "context"):
        raise TypeError(f"the square root of a {type(x).__name__} asked for; take mpmath numbers, which have one")
    return x.context.sqrt(x)


def identity(A: np.ndarray) -> np.ndarray:
    """The identity in the scalars of a square matrix.

    Args:
        A: ``[n, n]``.

    Returns:
        ``[n, n]``.
    """
    return 0 * A + np.eye(len(A), dtype=int)


def solve(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A^{-1} B by Gaussian elimination with the largest pivot of each column.

    Args:
        A: ``[n, n]``.
        B: ``[n, k]``.

    Returns:
        ``[n, k]``.

    Raises:
        ZeroDivisionError: A is singular.

    Example:
        >>> solve(scalars([[0, 2], [1, 1]]), scalars([[2], [3]])).ravel().tolist()
        [Fraction(2, 1), Fraction(1, 1)]
    """
    A, B = A.copy(), B.copy()
    n = len(A)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(A[i, k]))
        A[[k, pivot]], B[[k, pivot]] = A[[pivot, k]], B[[pivot, k]]
        B[k] = B[k] / A[k, k]
        A[k] = A[k] / A[k, k]
        for i in range(n):
            if i != k and A[i, k] != 0:
                B[i] = B[i] - A[i, k] * B[k]
                A[i] = A[i] - A[i, k] * A[k]
    return B


def inverse(A: np.ndarray) -> np.ndarray:
    """A^{-1}.

    Args:
        A: ``[n, n]``.

    Returns:
        ``[n, n]``. Where A is singular, a ZeroDivisionError comes from `solve`.
    """
    return solve(A, identity(A))


def ldl(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A = L D L^T, L unit lower triangular.

    Args:
        A: symmetric with leading minors that are not zero, ``[n, n]``.

    Returns:
        L ``[n, n]`` and the diagonal of D ``[n]``. D has as many negative entries as A has negative eigenvalues.

    Example:
        >>> L, d = ldl(scalars([[2, 1], [1, 3]]))
        >>> str(L[1, 0]), [str(x) for x in d]
        ('1/2', ['2', '5/2'])
    """
    S, L = A.copy(), identity(A)
    d = 0 * np.diag(A)
    for j in range(len(A)):
        d[j] = S[j, j]
        L[j + 1 :, j] = S[j + 1 :, j] / d[j]
        S = S - d[j] * np.outer(L[:, j], L[:, j])
    return L, d


def udu(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A = U D U^T, U unit upper triangular: `ldl` of A with its rows and columns in reverse.

    Args:
        A: symmetric with trailing minors that are not zero, ``[n, n]``.

    Returns:
        U ``[n, n]`` and the diagonal of D ``[n]``.

    Example:
        >>> U, d = udu(scalars([[2, 1], [1, 3]]))
        >>> str(U[0, 1]), [str(x) for x in d]
        ('1/3', ['5/3', '3'])
    """
    L, d = ldl(A[::-1, ::-1])
    return L[::-1, ::-1], d[::-1]


def cholesky(A: np.ndarray) -> np.ndarray:
    """A = L L^T, L lower triangular with a positive diagonal.

    Args:
        A: symmetric positive definite, ``[n, n]`` of mpmath numbers.

    Returns:
        ``[n, n]``.
    """
    L, d = ldl(A)
    return L * np.array([root(x) for x in d], dtype=object)


def floats(A: np.ndarray) -> np.ndarray:
    """The nearest float64 numbers.

    Args:
        A: of exact scalars.

    Returns:
        Of the same shape.
    """
    return np.vectorize(lambda x: float(Fraction(x) if isinstance(x, int) else x), otypes=[float])(A)
