"""Factorizations as loops of plain operations, which an emulated arithmetic can see into.

JAX's own call a library whose roundings are hidden; these are the textbook algorithms (Golub & Van Loan, Matrix
Computations, sections 3.1 and 4.2), one column or row a step of the loop. Breakdown is not guarded: it shows as NaN or
infinity in the result.
"""

import jax
import jax.numpy as jnp
from jax import lax


def cholesky(A: jax.Array) -> jax.Array:
    """The Cholesky factor: A = L L^T, column by column.

    Args:
        A: symmetric positive definite, [n, n]; the upper triangle is not read.

    Returns:
        L, lower triangular, [n, n]; NaN from the column on in which a pivot is negative. Cost: n^3 flops in this form,
        which updates whole columns.

    Raises:
        ValueError: A is not a square matrix.

    Example:
        >>> import jax.numpy as jnp
        >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
        [[2.0, 0.0], [1.0, 2.0]]
    """
    n = _square(A)
    below = jnp.arange(n)

    def column(j: jax.Array, L: jax.Array) -> jax.Array:
        rest = A[:, j] - L @ L[j]
        return L.at[:, j].set(jnp.where(below >= j, rest / jnp.sqrt(rest[j]), jnp.zeros_like(rest)))

    return lax.fori_loop(0, n, column, jnp.zeros_like(A))


def solve_triangular(L: jax.Array, b: jax.Array, *, transpose: bool = False) -> jax.Array:
    """Forward or backward substitution, row by row.

    Args:
        L: lower triangular, [n, n]; the upper triangle is not read.
        b: right-hand sides, [n] or [n, m].
        transpose: solve L^T x = b, from the last row up, instead of L x = b.

    Returns:
        x, of the shape of b. Cost: 2 n^2 flops a right-hand side in this form.

    Raises:
        ValueError: L is not a square matrix, or b has another length.

    Example:
        >>> import jax.numpy as jnp
        >>> solve_triangular(jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([2.0, 9.0])).tolist()
        [1.0, 2.0]
    """
    n = _square(L)
    if b.shape[:1] != (n,):
        raise ValueError(f"L of shape {L.shape} needs a right-hand side of {n} rows, got shape {b.shape}")
    T = L.T if transpose else L
    T = jnp.where(jnp.tril(jnp.ones((n, n), bool)).T if transpose else jnp.tril(jnp.ones((n, n), bool)), T, 0)

    def row(k: jax.Array, x: jax.Array) -> jax.Array:
        i = n - 1 - k if transpose else k
        return x.at[i].set((b[i] - T[i] @ x) / T[i, i])

    return lax.fori_loop(0, n, row, jnp.zeros_like(b))


def solve_spd(A: jax.Array, b: jax.Array) -> jax.Array:
    """The solution of A x = b for a symmetric positive definite A, by its Cholesky factor.

    Backward stable: the normwise error is at most about 3 n^2 u kappa(A) (Higham, Accuracy and Stability of
    Numerical Algorithms, theorem 10.4).

    Args:
        A: symmetric positive definite, [n, n].
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


def _square(A: jax.Array) -> int:
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"a square matrix is needed, got shape {A.shape}")
    return A.shape[0]
