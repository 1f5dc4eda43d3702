r"""Forms in which statistics and roots are kept between steps, when that is done in few bits.

What is stored in few bits goes through a function ``store``, which returns the numbers that come back: a program knows
no format. With :func:`precond_lab.round_blocks` or :func:`precond_lab.round_to` it can be any::

    store = functools.partial(precond_lab.round_blocks, format=precond_lab.Integer(8, scale="column"))

Rounding a symmetric positive definite matrix moves its eigenvalues by up to u n |A|: the smallest ones become negative
once kappa u exceeds a modest constant. Eigenvectors and Cholesky factors can be rounded to anything: V diag(w) V^T and
L L^T stay positive semidefinite.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import square_matrix
from precond_lab.preconditioners.inverse_root.kernels import LOOPS, Kernels

Store = Callable[[jax.Array], jax.Array]
"""From numbers to those that come back from storage."""


class StoredSpectrum(NamedTuple):
    """A symmetric matrix by its eigenpairs.

    Attributes:
        values: ``[n]``, kept as they are.
        vectors: ``[n, n]``, columns that need be orthogonal only up to the rounding of their storage.
    """

    values: jax.Array
    vectors: jax.Array


class StoredFactor(NamedTuple):
    """A Cholesky factor, and what its storage has left out so far.

    Attributes:
        L: lower triangular, ``[n, n]``, as it comes back.
        error: ``[n, n]``, strictly lower triangular; stored in as few bits, it fills the other triangle of L's array.
    """

    L: jax.Array
    error: jax.Array


def keep_matrix(A: jax.Array, store: Store, *, diagonal_apart: bool = True) -> jax.Array:
    """A symmetric matrix that is stored entry by entry.

    Args:
        A: ``[n, n]``.
        store: what becomes of numbers in storage.
        diagonal_apart: whether the diagonal is kept as it is (as in Google's Shampoo and in 4-bit Shampoo), and scales
            are found without it.

    Returns:
        What comes back, ``[n, n]``, made symmetric: scales by column are not.
    """
    A = square_matrix(A)
    diagonal = _diagonal(A)
    off = A - diagonal if diagonal_apart else A
    back = store(off)
    back = (back + back.T) / 2
    return diagonal + (back - _diagonal(back)) if diagonal_apart else back


def keep_eigenvectors(A: jax.Array, store: Store, *, kernels: Kernels = LOOPS) -> StoredSpectrum:
    """A symmetric matrix of which the eigenvectors are stored (Wang et al., arXiv 2405.18144).

    Args:
        A: ``[n, n]``.
        store: what becomes of numbers in storage.
        kernels: the linear algebra to use.

    Returns:
        The eigenvalues as they were computed, and the vectors as they come back.
    """
    values, vectors = kernels.eigh(square_matrix(A))
    return StoredSpectrum(values, store(vectors))


def bjorck(V: jax.Array, steps: int, *, kernels: Kernels = LOOPS) -> jax.Array:
    """Columns made more orthogonal, by V <- 1.5 V - 0.5 V V^T V (Bjorck & Bowie 1971).

    A singular value 1 + e becomes 1 - 1.5 e^2 - 0.5 e^3 in a step: what is left of an error of storage is its part that
    turns V without making it less orthogonal.

    Args:
        V: ``[n, n]``, singular values in (0, sqrt(3)).
        steps: how many.
        kernels: the linear algebra to use.

    Returns:
        ``[n, n]``. Cost: two products a step.

    Example:
        >>> float(abs(bjorck(1.1 * jnp.eye(1), 3)[0, 0] - 1)) < 1e-6
        True
    """
    for _ in range(steps):
        V = (3 * V - kernels.product(V, kernels.product(V.T, V))) / 2
    return V


def matrix_of(spectrum: StoredSpectrum, *, corrections: int = 1, kernels: Kernels = LOOPS) -> jax.Array:
    """The matrix that was stored by its eigenvectors.

    Args:
        spectrum: as it comes back.
        corrections: steps of :func:`bjorck`.
        kernels: the linear algebra to use.

    Returns:
        V diag(w) V^T, ``[n, n]``, symmetric.
    """
    V = bjorck(spectrum.vectors, corrections, kernels=kernels)
    A = kernels.product(V * spectrum.values, V.T)
    return (A + A.T) / 2


def root_of(
    spectrum: StoredSpectrum, p: int, *, floor: jax.Array | float, corrections: int = 4, kernels: Kernels = LOOPS
) -> jax.Array:
    """The inverse p-th root of a matrix that was stored by its eigenvectors.

    Args:
        spectrum: as it comes back.
        p: a positive integer.
        floor: times the largest eigenvalue, is added to all.
        corrections: steps of :func:`bjorck`.
        kernels: the linear algebra to use.

    Returns:
        V (diag(w) + floor max(w) I)^{-1/p} V^T, ``[n, n]``; negative eigenvalues count as zero.
    """
    values = jnp.maximum(spectrum.values, jnp.zeros_like(spectrum.values))
    values = values + floor * jnp.max(values)
    degree = jnp.full_like(values, p, shape=())
    return matrix_of(
        StoredSpectrum(values ** (-(1 / degree)), spectrum.vectors), corrections=corrections, kernels=kernels
    )


def keep_cholesky(
    A: jax.Array,
    store: Store,
    error: jax.Array | None = None,
    *,
    memory: jax.Array | float = 0.75,
    kernels: Kernels = LOOPS,
) -> StoredFactor:
    """A positive definite matrix of which the Cholesky factor is stored, with error feedback.

    What storage has left out of earlier factors is added to the next one before it is stored, as a moving average: e'
    = memory e + (1 - memory) (L + e - stored) (the form of Li et al., arXiv 2412.10663). The diagonal is kept apart.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        store: what becomes of numbers in storage.
        error: of the step before, ``[n, n]``; None to begin with, or for no feedback.
        memory: of the moving average, in [0, 1).
        kernels: the linear algebra to use.

    Returns:
        The factor and the error, as they come back. L L^T is positive semidefinite, and definite for a positive
        diagonal, which L has where A has a factor.
    """
    L = kernels.cholesky(square_matrix(A))
    diagonal = _diagonal(L)
    fed = L - diagonal if error is None else (L - diagonal) + error
    stored = _below(store(fed))
    left = fed - stored
    left = left if error is None else memory * error + (1 - memory) * left
    return StoredFactor(diagonal + stored, _below(store(left)))


def _diagonal(A: jax.Array) -> jax.Array:
    index = jnp.arange(A.shape[0])
    return jnp.where(index[:, None] == index, A, jnp.zeros_like(A))


def _below(A: jax.Array) -> jax.Array:
    index = jnp.arange(A.shape[0])
    return jnp.where(index[:, None] > index, A, jnp.zeros_like(A))
