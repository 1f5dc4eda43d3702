"""How far roots are from the truth."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import gallery
from precond_lab.truth.inverse_root import Status, inverse_root

CERTIFIED = 256
"""The largest matrices whose reference is certified."""
DIGITS = 30


def matrix(n: int, condition: float, seed: int = 0) -> jax.Array:
    """`spd` of the gallery in float32, with eigenvalues in geometric progression.

    Args:
        n: the size.
        condition: the condition number.
        seed: of the eigenvectors.

    Returns:
        A, ``[n, n]``.
    """
    return jnp.asarray(gallery.spd(n, condition=condition, seed=seed), jnp.float32)


class Reference(NamedTuple):
    """The root of a float32 matrix, as it is stored.

    Attributes:
        A: the matrix in float64, ``[n, n]``.
        values: its eigenvalues, in float64, ``[n]``.
        vectors: its eigenvectors, likewise, ``[n, n]``.
        root: A^{-1/p}, ``[n, n]``.
        apart: how far the root of the decomposition is from the certified one, relative to it in the Frobenius norm;
            None where there is none, and the root is that of the decomposition.
    """

    A: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    root: np.ndarray
    apart: float | None


@cache
def reference(n: int, condition: float, p: int) -> Reference:
    """The reference of `matrix`: certified up to a size, above it a decomposition in float64.

    Its error is about kappa 2^-53 / p relative to the root, 2^29 times smaller than what float32 does.

    Args:
        n: the size.
        condition: the condition number.
        p: the exponent.

    Returns:
        The reference.
    """
    A = np.asarray(matrix(n, condition), np.float64)
    w, V = np.linalg.eigh(A)
    root, apart = (V * w ** (-1 / p)) @ V.T, None
    if n <= CERTIFIED:
        proof = inverse_root(A, p, digits=DIGITS)
        if proof.status is Status.CERTIFIED:
            exact = proof.value.astype(np.float64)
            root, apart = exact, float(np.linalg.norm(root - exact) / np.linalg.norm(exact))
    return Reference(A, w, V, root, apart)


class Errors(NamedTuple):
    """How far a root is from the truth.

    Attributes:
        error: |X - F|_F / |F|_F.
        update: |(X - F) A^{1/2}|_F / |F A^{1/2}|_F, what an optimizer feels.
        own: the first, against the root of the matrix with the ridge that the function adds.
    """

    error: float
    update: float
    own: float


def errors_of(X: Any, truth: Reference, ridge: float, p: int) -> Errors:
    """The errors of a root, in float64.

    Args:
        X: the root, ``[n, n]``.
        truth: the reference.
        ridge: what the function added, over the largest eigenvalue.
        p: the exponent.

    Returns:
        The errors; infinite for a root that is not finite.
    """
    X = np.asarray(X, np.float64)
    if not np.isfinite(X).all():
        return Errors(np.inf, np.inf, np.inf)
    F, A, own = truth.root, truth.A, truth.root
    if ridge:
        own = (truth.vectors * (truth.values + ridge * truth.values[-1]) ** (-1 / p)) @ truth.vectors.T

    def size(M: np.ndarray) -> float:
        return float(np.sqrt(max(0.0, np.sum(M @ A * M))))  # |M A^{1/2}|_F, whose square is the trace of M A M^T

    apart, norm = X - F, np.linalg.norm
    return Errors(float(norm(apart) / norm(F)), size(apart) / size(F), float(norm(X - own) / norm(own)))
