"""Orthogonal factorization by Householder's reflections."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like, nonzero, product, real_matrix, right_hand_sides


class Reflectors(NamedTuple):
    """A[:, permutation] = Q R with Q = H_0 H_1 ..., H_k = I - tau_k v_k v_k^T, as LAPACK stores it.

    Attributes:
        factors: R in the upper triangle; below it in column k the vector v_k, whose element k is one, [m, n].
        taus: [min(m, n)].
        permutation: the columns of A in the order of those of R, [n].
    """

    factors: jax.Array
    taus: jax.Array
    permutation: jax.Array


def householder(A: jax.Array, *, pivoting: bool = False) -> Reflectors:
    """The factorization A = Q R with Q as reflections (Golub & Van Loan, algorithm 5.2.1).

    With `pivoting` every step brings the longest remaining column to the front (algorithm 5.4.1, with the lengths
    computed anew), so that the diagonal of R does not grow. For the error see `qr`.

    Args:
        A: [m, n].
        pivoting: whether columns are exchanged.

    Returns:
        The reflections. Cost: 4 m n min(m, n) flops in this form, which updates whole columns.

    Example:
        >>> import jax.numpy as jnp
        >>> householder(jnp.array([[3.0], [4.0]])).factors.tolist()
        [[-5.0], [0.5]]
    """
    A = real_matrix(A)
    rank = min(A.shape)
    rows, columns = (jnp.arange(size) for size in A.shape)

    def step(k: jax.Array, carry: Reflectors) -> Reflectors:
        F, taus, permutation = carry
        if pivoting:
            order = _longest_first(F, k)
            F, permutation = F[:, order], permutation[order]
        v, tau, end = _reflector(F[:, k], k)
        right = jnp.where(columns > k, F, 0)
        right -= v[:, None] * (tau * product(v, right))
        column = jnp.where(rows < k, F[:, k], jnp.where(rows == k, end, v))
        F = jnp.where(columns > k, right, F).at[:, k].set(column)
        return Reflectors(F, taus.at[k].set(tau), permutation)

    start = Reflectors(A, jnp.zeros_like(A, shape=rank), columns)
    return lax.fori_loop(0, rank, step, start)


def _reflector(x: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The reflection that leaves of x[k:] only its first element (Golub & Van Loan, algorithm 5.1.1; signs of LAPACK).

    The result has the sign opposite to x_k, so that nothing cancels in v. Where there is nothing to annihilate the
    reflection is the identity: tau = 0.
    """
    rows = jnp.arange(x.shape[0])
    x = jnp.where(rows >= k, x, 0)
    scale = nonzero(jnp.max(jnp.abs(x)))  # so that squares neither overflow nor all underflow
    y = x / scale
    squares = y * y
    done = jnp.sum(jnp.where(rows > k, squares, 0)) == 0
    length = jnp.sqrt(nonzero(jnp.sum(squares)))
    end = jnp.where(y[k] < 0, length, -length)
    v = jnp.where(rows > k, y, 0) / (y[k] - end)
    v = jnp.where(rows == k, 1, jnp.where(done, 0, v))
    return v, jnp.where(done, 0, (end - y[k]) / end), jnp.where(done, x[k], scale * end)


def _longest_first(F: jax.Array, k: jax.Array) -> jax.Array:
    """The order of columns that exchanges column k with the longest of those from k on, over the rows from k on."""
    rows, columns = (jnp.arange(size) for size in F.shape)
    rest = jnp.where((rows[:, None] >= k) & (columns >= k), F, 0)
    rest /= nonzero(jnp.max(jnp.abs(rest)))
    longest = jnp.argmax(jnp.where(columns >= k, jnp.sum(rest * rest, axis=0), -1))
    return jnp.where(columns == k, longest, jnp.where(columns == longest, k, columns))


def apply_reflectors(factors: jax.Array, taus: jax.Array, C: jax.Array, *, transpose: bool = False) -> jax.Array:
    """Q C, or Q^T C, one reflection after the other (Golub & Van Loan, section 5.1).

    The result is that of an exactly orthogonal Q applied to C + Delta C, with each column |Delta c|_2 <= r gamma_{cm}
    |c|_2, c a small integer (Higham, lemma 19.3).

    Args:
        factors: below its diagonal in column k the vector of reflection k, [m, n].
        taus: [r], r <= n.
        C: [m, l].
        transpose: whether Q^T is applied.

    Returns:
        [m, l]. Cost: 4 m l r flops.

    Example:
        >>> import jax.numpy as jnp
        >>> R = householder(jnp.array([[3.0], [4.0]]))
        >>> apply_reflectors(R.factors, R.taus, jnp.array([[-5.0], [0.0]])).tolist()
        [[3.0], [4.0]]
    """
    factors, taus = real_matrix(factors), jnp.asarray(taus)
    C = right_hand_sides(factors, C)
    rows, r = jnp.arange(factors.shape[0]), taus.shape[0]

    def step(i: jax.Array, C: jax.Array) -> jax.Array:
        k = i if transpose else r - 1 - i
        v = jnp.where(rows > k, factors[:, k], rows == k)
        return C - v[:, None] * (taus[k] * product(v, C))

    return lax.fori_loop(0, r, step, C)


def qr(A: jax.Array, *, full: bool = False) -> tuple[jax.Array, jax.Array]:
    """The factors of A = Q R, Q with orthonormal columns and R upper triangular, by Householder's reflections.

    The computed R is that of a matrix with column-wise |Delta a_j|_2 <= gamma_{cmn} |a_j|_2, and the computed Q is
    within sqrt(n) gamma_{cmn} of an exactly orthonormal one, c a small integer (Higham, theorem 19.4 and equation
    19.13). The diagonal of R has the signs that LAPACK gives it.

    Args:
        A: [m, n].
        full: make Q square, [m, m], and R [m, n]; otherwise they are [m, r] and [r, n], r = min(m, n).

    Returns:
        Q and R. Cost: 8 m n r flops in this form.

    Example:
        >>> import jax.numpy as jnp
        >>> Q, R = qr(jnp.array([[3.0, 1.0], [4.0, 2.0]]))
        >>> R.tolist()
        [[-5.0, -2.200000047683716], [0.0, 0.3999999761581421]]
    """
    return unpack(householder(A), full=full)


def unpack(reflectors: Reflectors, *, full: bool = False) -> tuple[jax.Array, jax.Array]:
    """Q and R themselves.

    Args:
        reflectors: of an [m, n] matrix.
        full: whether Q is square.

    Returns:
        Q and R, as `qr` gives them.
    """
    factors, taus, _ = reflectors
    m, n = factors.shape
    size = m if full else min(m, n)
    rows, columns = jnp.arange(size), jnp.arange(n)
    R = jnp.where(rows[:, None] <= columns, factors[:size], 0)
    return apply_reflectors(factors, taus, identity_like(jnp.zeros_like(factors, shape=(m, size)))), R
