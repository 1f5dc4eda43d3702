"""Factorizations of symmetric matrices without interchanges."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import product, square_matrix
from precond_lab.linalg.triangular import solve_triangular

PANEL = 128
"""Columns of a Cholesky factor that are computed in one loop."""


def cholesky(A: jax.Array) -> jax.Array:
    """The Cholesky factor: A = L L^T, column by column (Golub & Van Loan, algorithm 4.2.1).

    The computed factor is that of a matrix with |Delta A| <= gamma_{n+1} |L| |L^T|, gamma_k = k u / (1 - k u) (Higham,
    theorem 10.3); it exists if the condition number of A, scaled to a unit diagonal, is below about 1 / (n^2 u)
    (theorem 10.7).

    Args:
        A: symmetric positive definite, [n, n]; the upper triangle is not read.

    Returns:
        L, lower triangular, [n, n]; NaN from the column on in which a pivot is not positive. Cost: 2 n^3 flops for up
        to PANEL columns, which are updated as a whole; about n^3 / 3 for many panels, each of which is a loop of its
        own over what is below and left.

    Example:
        >>> import jax.numpy as jnp
        >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
        [[2.0, 0.0], [1.0, 2.0]]
    """
    A = square_matrix(A)
    n = A.shape[0]
    L = jnp.zeros_like(A)
    for start in range(0, n, PANEL):
        stop = min(start + PANEL, n)
        L = L.at[start:, :stop].set(_panel(A[start:, start:stop], L[start:, :stop]))
    return L


def _panel(A: jax.Array, L: jax.Array) -> jax.Array:
    """The columns of A's panel in the factor, whose rows left of them are known, ``[m, start + width]``."""
    index, start = jnp.arange(A.shape[0]), L.shape[1] - A.shape[1]

    def column(j: jax.Array, L: jax.Array) -> jax.Array:
        below = index >= j
        rest = jnp.where(below, A[:, j], 0) - product(jnp.where(below[:, None], L, 0), L[j])
        return L.at[:, start + j].set(jnp.where(below, rest / jnp.sqrt(rest[j]), 0))

    return lax.fori_loop(0, A.shape[1], column, L)


class LDL(NamedTuple):
    """A = L D L^T.

    Attributes:
        L: unit lower triangular, [n, n].
        d: the diagonal of D, [n].
    """

    L: jax.Array
    d: jax.Array


def ldl(A: jax.Array) -> LDL:
    """The factors of A = L D L^T, column by column, without interchanges (Golub & Van Loan, section 4.1).

    The computed factors are those of a matrix with |Delta A| <= gamma_{n+2} |L| |D| |L^T| (Higham, section 10.1,
    counting one more rounding than theorem 10.3). That is small beside |A| if A is positive definite. An indefinite
    matrix may have small pivots, and the elements of L then grow without bound.

    Args:
        A: symmetric, [n, n], with nonzero leading principal minors; the upper triangle is not read.

    Returns:
        The factors; infinity or NaN after a pivot that is zero. Cost: n^3 flops in this form.

    Example:
        >>> import jax.numpy as jnp
        >>> factors = ldl(jnp.array([[2.0, 4.0], [4.0, 5.0]]))
        >>> factors.L.tolist(), factors.d.tolist()
        ([[1.0, 0.0], [2.0, 1.0]], [2.0, -3.0])
    """
    A = square_matrix(A)
    index = jnp.arange(A.shape[0])

    def column(j: jax.Array, factors: LDL) -> LDL:
        L, d = factors
        below = index >= j
        rest = jnp.where(below, A[:, j], 0) - product(jnp.where(below[:, None], L, 0), L[j] * d)
        multipliers = jnp.where(index > j, rest, 0) / rest[j]
        return LDL(L.at[:, j].set(jnp.where(index > j, multipliers, index == j)), d.at[j].set(rest[j]))

    return lax.fori_loop(0, A.shape[0], column, LDL(jnp.zeros_like(A), jnp.zeros_like(A, shape=index.shape)))


def solve_spd(A: jax.Array, b: jax.Array) -> jax.Array:
    """The solution of A x = b for a symmetric positive definite A, by its Cholesky factor.

    Backward stable: the normwise error is at most about 3 n^2 u kappa(A) (Higham, theorem 10.4).

    Args:
        A: symmetric positive definite, [n, n]; the upper triangle is not read.
        b: right-hand sides, [n] or [n, m].

    Returns:
        x, of the shape of b. Cost: n^3 flops, and 4 n^2 a right-hand side.

    Example:
        >>> import jax.numpy as jnp
        >>> solve_spd(jnp.array([[4.0, 2.0], [2.0, 5.0]]), jnp.array([8.0, 12.0])).tolist()
        [1.0, 2.0]
    """
    L = cholesky(A)
    return solve_triangular(L, solve_triangular(L, b), transpose=True)
