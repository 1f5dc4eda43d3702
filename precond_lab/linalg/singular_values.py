"""Singular values and vectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like, nonzero, real_matrix
from precond_lab.linalg.orthogonal import qr
from precond_lab.linalg.rotations import partners, rotation


class SVD(NamedTuple):
    """A = U diag(s) Vt.

    Attributes:
        U: orthonormal columns, [m, r], or [m, m] in full.
        s: descending, not negative, [r], r = min(m, n).
        Vt: orthonormal rows, [r, n], or [n, n] in full.
    """

    U: jax.Array
    s: jax.Array
    Vt: jax.Array


def svd(A: jax.Array, *, full: bool = False, sweeps: int = 30) -> SVD:
    """Singular values and vectors by one-sided Jacobi rotations, all pairs of a round at once (Hestenes).

    Golub & Van Loan, section 8.6, in the parallel ordering. Rotations make the columns of A orthogonal; what they then
    are is U diag(s), and the product of the rotations is V. Sweeps end when no cosine between two columns exceeded m u,
    which is asked as 1 + cosine / m = 1 and so means the same in every format. U is completed where singular values are
    zero, or where it is full, by a QR factorization of the columns.

    To first order r rounds leave singular values within (9 r + n m + m) u |A|_F of the exact ones, as each round is one
    multiplication by disjoint rotations (Higham, lemmas 19.8 and 19.9), the columns are orthogonal to m u, and their
    lengths are rounded; V is within 9 r u sqrt(n) of an orthogonal matrix. That is the worst case: errors of n u are
    the rule. Singular vectors are determined up to a common sign and as well as their singular values are separated. A
    derivative is that of the steps: forward mode only.

    Args:
        A: [m, n].
        full: whether U and Vt are square.
        sweeps: the most that are done.

    Returns:
        The decomposition; NaN if A has any. Cost: 16 m n^2 flops a sweep for m >= n; otherwise A^T is decomposed.

    Example:
        >>> import jax.numpy as jnp
        >>> svd(jnp.array([[0.0, 2.0], [-3.0, 0.0]])).s.tolist()
        [3.0, 2.0]
    """
    A = real_matrix(A)
    m, n = A.shape
    if m < n:
        V, s, Ut = svd(A.T, full=full, sweeps=sweeps)
        return SVD(Ut.T, s, V.T)
    scale = jnp.max(jnp.abs(A))  # so that no square overflows
    W, V = _orthogonal_columns(A / nonzero(scale), sweeps)
    s = jnp.sqrt(jnp.sum(W * W, axis=0))
    order = jnp.argsort(-s)
    W, s, V = W[:, order], s[order], V[:, order]
    Q, R = qr(W / nonzero(s), full=full)
    index = jnp.arange(n)
    signs = jnp.where(R[index, index] < 0, -1, jnp.ones_like(s))
    U = Q.at[:, :n].set(Q[:, :n] * signs)
    return SVD(U, scale * s, V.T)


def _orthogonal_columns(W: jax.Array, sweeps: int) -> tuple[jax.Array, jax.Array]:
    """W V and V, V a product of rotations that makes the columns of W V orthogonal."""
    m, n = W.shape
    index = jnp.arange(n)

    def turn(k: jax.Array, carry: tuple) -> tuple:
        W, V, largest = carry
        partner = partners(n, k)
        squares = jnp.sum(W * W, axis=0)
        inner = jnp.where(partner == index, 0, jnp.sum(W * W[:, partner], axis=0))
        inner = inner[jnp.minimum(index, partner)]  # both of a pair turn by one angle, however its sum was rounded
        lengths = jnp.sqrt(squares)
        cosine = jnp.abs(inner) / nonzero(lengths * lengths[partner])
        c, s, _ = rotation(squares[partner] - squares, 2 * inner, partner)
        W, V = c * W - s * W[:, partner], c * V - s * V[:, partner]
        return W, V, jnp.maximum(largest, jnp.max(cosine))

    def unfinished(carry: tuple) -> jax.Array:
        done, _, _, largest = carry
        return (done < sweeps) & ~(1 + largest / m == 1)

    def sweep(carry: tuple) -> tuple:
        done, W, V, _ = carry
        return done + 1, *lax.fori_loop(0, n, turn, (W, V, jnp.zeros_like(W, shape=())))

    V = identity_like(jnp.zeros_like(W, shape=(n, n)))
    _, W, V, _ = lax.while_loop(unfinished, sweep, (0, W, V, jnp.ones_like(W, shape=())))
    return W, V
