"""Gaussian elimination with partial pivoting."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import nonzero, product, real_matrix, right_hand_sides, square_matrix
from precond_lab.linalg.triangular import solve_triangular


class LU(NamedTuple):
    """A[permutation] = L U, as LAPACK stores it.

    Attributes:
        factors: U in the upper triangle and L below it, without its diagonal of ones, [m, n].
        pivots: row k was exchanged with row pivots_k, [min(m, n)].
        permutation: the rows of A in the order of those of L U, [m].
    """

    factors: jax.Array
    pivots: jax.Array
    permutation: jax.Array


def lu(A: jax.Array) -> LU:
    """The factors of P A = L U with partial pivoting, a column of L and a row of U a step.

    Doolittle's method (Higham, algorithm 9.2), which forms every element as one inner product. The computed factors are
    those of a matrix with |Delta A| <= gamma_n |L| |U| (theorem 9.3), and |l_ij| <= 1. U may grow to 2^(n-1) times A,
    and hardly ever does.

    Args:
        A: [m, n].

    Returns:
        The factors. A column without any nonzero pivot leaves a zero on the diagonal of U, as LAPACK does. Cost:
        4 m n min(m, n) flops in this form, which updates whole columns and rows.

    Example:
        >>> import jax.numpy as jnp
        >>> factors, pivots, permutation = lu(jnp.array([[1.0, 3.0], [2.0, 4.0]]))
        >>> factors.tolist(), permutation.tolist()
        ([[2.0, 4.0], [0.5, 1.0]], [1, 0])
    """
    A = real_matrix(A)
    m, n = A.shape
    rank = min(m, n)
    rows, columns, index = jnp.arange(m), jnp.arange(n), jnp.arange(rank)

    def step(k: jax.Array, carry: LU) -> LU:
        F, pivots, permutation = carry
        known = index < k
        L = jnp.where(known & (rows[:, None] >= k), F[:, :rank], 0)
        column = F[:, k] - product(L, jnp.where(known, F[:rank, k], 0))
        pivot = jnp.argmax(jnp.where(rows >= k, jnp.abs(column), -1))
        order = jnp.where(rows == k, pivot, jnp.where(rows == pivot, k, rows))
        F, permutation, column = F[order], permutation[order], column[order]
        below = rows > k
        F = F.at[:, k].set(jnp.where(below, jnp.where(below, column, 0) / nonzero(column[k]), column))
        U = jnp.where(known[:, None] & (columns > k), F[:rank], 0)
        F = F.at[k].set(F[k] - product(jnp.where(known, F[k, :rank], 0), U))
        return LU(F, pivots.at[k].set(pivot), permutation)

    return lax.fori_loop(0, rank, step, LU(A, index, rows))


def solve(A: jax.Array, b: jax.Array) -> jax.Array:
    """The solution of A x = b by elimination with partial pivoting.

    The computed x solves a system with |Delta A| <= gamma_{3n} |L| |U| (Higham, theorem 9.4): its normwise error is at
    most about 3 n^2 u kappa(A) times the growth of U.

    Args:
        A: [n, n].
        b: right-hand sides, [n] or [n, m].

    Returns:
        x, of the shape of b; infinity or NaN if a pivot is zero. Cost: 4 n^3 flops, and 4 n^2 a right-hand side.

    Example:
        >>> import jax.numpy as jnp
        >>> solve(jnp.array([[0.0, 2.0], [4.0, 1.0]]), jnp.array([4.0, 6.0])).tolist()
        [1.0, 2.0]
    """
    b = right_hand_sides(square_matrix(A), b)
    factors, _, permutation = lu(A)
    y = solve_triangular(factors, b[permutation], unit_diagonal=True)
    return solve_triangular(factors, y, lower=False)
