"""The dense linear algebra that the methods are built on, in two forms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precond_lab import linalg
from precond_lab.linalg.matrices import identity_like, product


class Kernels(NamedTuple):
    """Operations on whole matrices.

    Attributes:
        product: of two matrices.
        cholesky: the lower factor of a symmetric matrix; NaN where there is none.
        eigh: eigenvalues in ascending order, and eigenvectors as columns.
        svd: U, singular values in descending order, and V^T.
        qr: Q and R.
        solve_spd: the solution of systems with a symmetric positive definite matrix; NaN where it is not.
        invert_lower: the inverse of a lower triangular matrix.
    """

    product: Callable[[jax.Array, jax.Array], jax.Array]
    cholesky: Callable[[jax.Array], jax.Array]
    eigh: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    svd: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]
    qr: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    solve_spd: Callable[[jax.Array, jax.Array], jax.Array]
    invert_lower: Callable[[jax.Array], jax.Array]


def _widened(f: Callable) -> Callable:
    """A function of matrices that takes those of 16 bits to float32 and back: libraries have no routines for them."""

    def of_any_width(*matrices: jax.Array) -> Any:
        dtype = matrices[0].dtype
        if jnp.finfo(dtype).bits >= 32:
            return f(*matrices)
        return jax.tree.map(lambda x: x.astype(dtype), f(*(x.astype(jnp.float32) for x in matrices)))

    return of_any_width


@_widened
def _library_solve_spd(A: jax.Array, b: jax.Array) -> jax.Array:
    L = jnp.linalg.cholesky(A, symmetrize_input=False)
    y = jax.scipy.linalg.solve_triangular(L, b, lower=True)
    return jax.scipy.linalg.solve_triangular(L, y, lower=True, trans=1)


@_widened
def _library_invert_lower(L: jax.Array) -> jax.Array:
    return jax.scipy.linalg.solve_triangular(L, identity_like(L), lower=True)


@_widened
def _library_cholesky(A: jax.Array) -> jax.Array:
    return jnp.linalg.cholesky(A, symmetrize_input=False)


@_widened
def _library_eigh(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, vectors = jnp.linalg.eigh(A, symmetrize_input=False)
    return values, vectors


@_widened
def _library_svd(A: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    U, s, Vt = jnp.linalg.svd(A)
    return U, s, Vt


@_widened
def _library_qr(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    Q, R = jnp.linalg.qr(A)
    return Q, R


LOOPS = Kernels(product, linalg.cholesky, linalg.eigh, linalg.svd, linalg.qr, linalg.solve_spd, linalg.invert_lower)
"""Loops of plain operations, which every interpreter sees into."""

LIBRARY = Kernels(
    product,
    _library_cholesky,
    _library_eigh,
    _library_svd,
    _library_qr,
    _library_solve_spd,
    _library_invert_lower,
)
"""What JAX calls on the device at hand: fast, and emulated only with ``linalg="expand"``, as the loops.

Matrices of 16 bits are factored in float32, and the factors rounded once: they are better than those of the loops."""
