"""Systems that are solved by substitution."""

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like, product, real_matrix, right_hand_sides, square_matrix


def solve_triangular(
    T: jax.Array, b: jax.Array, *, lower: bool = True, transpose: bool = False, unit_diagonal: bool = False
) -> jax.Array:
    """Forward or backward substitution, row by row (Golub & Van Loan, algorithms 3.1.1 and 3.1.2).

    Row i is x_i = (b_i - sum_j t_ij x_j) / t_ii over the rows j that are already solved. The computed x solves a system
    with |Delta T| <= gamma_n |T|, gamma_n = n u / (1 - n u) (Higham, theorem 8.5): its error is at most about
    n u cond(T, x).

    Args:
        T: triangular, [n, n]; the other triangle is not read.
        b: right-hand sides, [n] or [n, m].
        lower: whether T is lower triangular, and not upper.
        transpose: solve T^T x = b instead of T x = b.
        unit_diagonal: take the diagonal of T as ones; it is not read.

    Returns:
        x, of the shape of b; infinity or NaN where the diagonal of T has a zero. Cost: 2 n^2 flops a right-hand side.

    Example:
        >>> import jax.numpy as jnp
        >>> solve_triangular(jnp.array([[2.0, 0.0], [1.0, 4.0]]), jnp.array([2.0, 9.0])).tolist()
        [1.0, 2.0]
    """
    T = square_matrix(T)
    b = right_hand_sides(T, b)
    n = T.shape[0]
    T, forward = (T.T, not lower) if transpose else (T, lower)
    index = jnp.arange(n)
    diagonal = T[index, index]
    T = jnp.where(index[:, None] > index if forward else index[:, None] < index, T, 0)

    def row(k: jax.Array, x: jax.Array) -> jax.Array:
        i = k if forward else n - 1 - k
        rest = b[i] - product(T[i], x)
        return x.at[i].set(rest if unit_diagonal else rest / diagonal[i])

    return lax.fori_loop(0, n, row, jnp.zeros_like(b))


LEAF = 64
"""Rows of a triangular matrix that is inverted by substitution."""


def invert_lower(L: jax.Array) -> jax.Array:
    """The inverse of a lower triangular matrix, by blocks.

    The diagonal blocks of LEAF rows are inverted by substitution, all at once. Then two neighbors at a time become one,

        [A, 0; C, B]^{-1} = [A^{-1}, 0; -B^{-1} (C A^{-1}), B^{-1}],

    so that most of the work is in products. Each inverse that is computed is one of a matrix with small errors relative
    to its own condition (Higham, sections 14.2.2 and 14.2.3; Golub & Van Loan, section 3.1.3).

    Args:
        L: lower triangular, [n, n]; the upper triangle is not read.

    Returns:
        L^{-1}, [n, n]; infinity or NaN where the diagonal has a zero. Cost: 2 n^3 flops for n up to LEAF, less than
        2 n^3 / 3 in products and 2 n LEAF^2 beside them for larger ones.

    Example:
        >>> import jax.numpy as jnp
        >>> invert_lower(jnp.array([[2.0, 0.0], [1.0, 4.0]])).tolist()
        [[0.5, 0.0], [-0.125, 0.25]]
    """
    L = square_matrix(L)
    n = L.shape[0]
    if n <= LEAF:
        return solve_triangular(L, identity_like(L))
    count = 1 << (-(-n // LEAF) - 1).bit_length()
    size = -(-n // count)
    padded = jnp.pad(L, (0, count * size - n))
    padded = jnp.where(jnp.arange(count * size) < n, padded, identity_like(padded))
    blocks = padded.reshape(count, size, count, size)
    inverse = jax.vmap(invert_lower)(jnp.stack([blocks[i, :, i] for i in range(count)]))
    while inverse.shape[0] > 1:
        size = inverse.shape[1]
        first, second = inverse[::2], inverse[1::2]
        rows = padded.reshape(-1, 2, size, padded.shape[0])
        below = jnp.stack([rows[i, 1, :, 2 * i * size : (2 * i + 1) * size] for i in range(rows.shape[0])])
        corner = -jax.vmap(product)(second, jax.vmap(product)(below, first))
        upper = jnp.concatenate([first, jnp.zeros_like(first)], axis=2)
        inverse = jnp.concatenate([upper, jnp.concatenate([corner, second], axis=2)], axis=1)
    return inverse[0, :n, :n]


def tridiagonal_solve(lower: jax.Array, diagonal: jax.Array, upper: jax.Array, b: jax.Array) -> jax.Array:
    """A tridiagonal system by elimination without interchanges: the algorithm of Thomas.

    Golub & Van Loan, section 4.3. Row i of the system is lower_i x_{i-1} + diagonal_i x_i + upper_i x_{i+1} = b_i. The
    computed x solves a system with |Delta A| <= f(u) |L| |U|, f(u) = 4u + 3u^2 + u^3, which is small beside |A| if A is
    symmetric positive definite, an M-matrix or diagonally dominant (Higham, section 9.6); for others rows may have to
    be interchanged, which `solve` does.

    Args:
        lower: below the diagonal, [n]; its first element is not read.
        diagonal: [n].
        upper: above the diagonal, [n]; its last element is not read.
        b: right-hand sides, [n] or [n, m].

    Returns:
        x, of the shape of b; NaN or infinity after a pivot that is zero. Cost: 3 n flops, and 5 n a right-hand side.

    Raises:
        ValueError: the diagonals differ in length, or from that of b.

    Example:
        >>> import jax.numpy as jnp
        >>> off, d = jnp.array([1.0, 1.0, 1.0]), jnp.array([2.0, 2.5, 2.0])
        >>> tridiagonal_solve(off, d, off, jnp.array([3.0, 4.5, 3.0])).tolist()
        [1.0, 1.0, 1.0]
    """
    lower, diagonal, upper = (jnp.asarray(x) for x in (lower, diagonal, upper))
    if not lower.shape == diagonal.shape == upper.shape or diagonal.ndim != 1:
        raise ValueError(
            f"three diagonals of one length are needed, got shapes {lower.shape}, {diagonal.shape}, {upper.shape}"
        )
    lower, diagonal, upper = real_matrix(jnp.stack([lower, diagonal, upper]))
    b = right_hand_sides(diagonal, b)
    n = diagonal.shape[0]

    def eliminate(i: jax.Array, carry: tuple) -> tuple:
        pivots, y = carry
        multiplier = lower[i] / pivots[i - 1]
        pivots = pivots.at[i].set(diagonal[i] - multiplier * upper[i - 1])
        return pivots, y.at[i].set(y[i] - multiplier * y[i - 1])

    def substitute(k: jax.Array, x: jax.Array) -> jax.Array:
        i = n - 2 - k
        return x.at[i].set((x[i] - upper[i] * x[i + 1]) / pivots[i])

    pivots, y = lax.fori_loop(1, n, eliminate, (diagonal, b))
    return lax.fori_loop(0, n - 1, substitute, y.at[n - 1].set(y[n - 1] / pivots[n - 1]))
