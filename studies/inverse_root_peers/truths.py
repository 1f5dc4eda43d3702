"""Errors of roots, against those in float64."""

from typing import NamedTuple

import numpy as np


class Eigen(NamedTuple):
    """Eigenvalues in ascending order and eigenvectors of a matrix.

    Attributes:
        values: ``[n]``.
        vectors: as columns, ``[n, n]``.
    """

    values: np.ndarray
    vectors: np.ndarray


class Errors(NamedTuple):
    """Relative errors of a root.

    Attributes:
        spectral: in the 2-norm.
        update: of the update of an optimizer, |(X - F) A^{1/2}|_F / |F A^{1/2}|_F.
    """

    spectral: float
    update: float


def eigen(A: np.ndarray, least: float = 0.0) -> Eigen:
    """The decomposition in float64.

    Args:
        A: symmetric, ``[n, n]``.
        least: eigenvalues are not below this, where that is known.

    Returns:
        It.
    """
    w, V = np.linalg.eigh(np.asarray(A, np.float64))
    return Eigen(np.maximum(w, least) if least > 0 else w, V)


def errors(X: np.ndarray, A: Eigen, p: int, means: np.ndarray | None = None) -> Errors:
    """The errors of X as a root; infinite where X is not finite, NaN where there is no root.

    Args:
        X: ``[n, n]``.
        A: the matrix.
        p: of the root.
        means: the eigenvalues meant, if not those of A; infinite where the root is zero.

    Returns:
        The errors.
    """
    wanted = A.values if means is None else means
    if not (wanted > 0).all():
        return Errors(np.nan, np.nan)
    if not np.isfinite(X).all():
        return Errors(np.inf, np.inf)
    root = wanted ** (-1 / p)
    V = A.vectors
    D = V.T @ np.asarray(X, np.float64) @ V
    D -= np.diag(root)
    half = np.sqrt(np.maximum(A.values, 0))
    return Errors(
        float(np.linalg.norm(D, 2) / root.max()), float(np.linalg.norm(D * half) / np.linalg.norm(root * half))
    )
