"""Eigenvalues and eigenvectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like, nonzero, norm, product, right_hand_sides, square_matrix
from precond_lab.linalg.rotations import partners, rotation


class Eigenpairs(NamedTuple):
    """A = V diag(values) V^T.

    Attributes:
        values: ascending, [n].
        vectors: the eigenvector of each in the column of its number, orthonormal, [n, n].
    """

    values: jax.Array
    vectors: jax.Array


def eigh(A: jax.Array, *, sweeps: int = 30) -> Eigenpairs:
    """Eigenvalues and eigenvectors of a symmetric matrix by Jacobi's method, all pairs of a round at once.

    Golub & Van Loan, section 8.5, in the parallel ordering. Rounds follow each other in sweeps, until no off-diagonal
    element changes a diagonal element of its row or column when it is added to it: a test that needs no tolerance and
    means the same in every format. Convergence is quadratic at the end; 5 to 10 sweeps are the rule.

    To first order r rounds leave eigenvalues within 27 r u |A|_F of the exact ones, and V within 9 r u sqrt(n) of an
    orthogonal matrix: a round is a multiplication by disjoint rotations from both sides (9 u each: Higham, lemmas 19.8
    and 19.9) and sets elements to zero that are 9 u of A at most. That is the worst case: errors of n u are the rule.
    Eigenvectors are determined up to their sign and as well as their eigenvalues are separated. A derivative is that of
    the steps: forward mode only.

    Args:
        A: symmetric, [n, n]; the upper triangle is not read.
        sweeps: the most that are done.

    Returns:
        The eigenpairs; NaN if A has any. Cost: 9 n^3 flops a sweep.

    Example:
        >>> import jax.numpy as jnp
        >>> values, vectors = eigh(jnp.array([[2.0, 1.0], [1.0, 2.0]]))
        >>> [round(x, 5) for x in values.tolist()]
        [1.0, 3.0]
    """
    A = square_matrix(A)
    n = A.shape[0]
    index = jnp.arange(n)
    lower = index[:, None] >= index

    def turn(k: jax.Array, carry: tuple) -> tuple:
        A, V = carry
        partner = partners(n, k)
        diagonal, off = A[index, index], jnp.where(partner == index, 0, A[index, partner])
        c, s, t = rotation(diagonal[partner] - diagonal, 2 * off, partner)
        A = c[:, None] * A - s[:, None] * A[partner]
        A = jnp.where(partner[:, None] == index, 0, c * A - s * A[:, partner])  # zero by the choice of the angle
        A = jnp.where(index[:, None] == index, diagonal - t * off, jnp.where(lower, A, A.T))
        return A, c * V - s * V[:, partner]

    def unfinished(carry: tuple) -> jax.Array:
        done, A, _ = carry
        diagonal = jnp.abs(A[index, index])[:, None]
        off = jnp.where(index[:, None] == index, 0, jnp.abs(A))
        return (done < sweeps) & ~jnp.all(diagonal + off == diagonal)

    def sweep(carry: tuple) -> tuple:
        done, A, V = carry
        return done + 1, *lax.fori_loop(0, n, turn, (A, V))

    _, A, V = lax.while_loop(unfinished, sweep, (0, jnp.where(lower, A, A.T), identity_like(A)))
    diagonal = A[index, index]
    order = jnp.argsort(diagonal)
    return Eigenpairs(diagonal[order], V[:, order])


class Eigenpair(NamedTuple):
    """An eigenvalue with its eigenvector.

    Attributes:
        value: a scalar.
        vector: of norm one, [n].
    """

    value: jax.Array
    vector: jax.Array


def power_iteration(A: jax.Array, x: jax.Array, *, steps: int) -> Eigenpair:
    """The eigenvalue of largest magnitude, by repeated multiplication (Golub & Van Loan, section 7.3.1).

    The part of x along the other eigenvectors shrinks by |lambda_2 / lambda_1| a step, until roundings stop it: the
    pair then has a residual of about n u |A|_2.

    Args:
        A: [n, n], with one eigenvalue that is larger in magnitude than all others.
        x: where to start, [n]; not orthogonal to the eigenvector.
        steps: how many.

    Returns:
        The Rayleigh quotient and the vector of the last step; NaN or infinity only if A x overflows. Cost: 2 n^2 flops
        a step.

    Raises:
        ValueError: x is no vector of n elements.

    Example:
        >>> import jax.numpy as jnp
        >>> power_iteration(jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([1.0, 1.0]), steps=20).value.item()
        2.0
    """
    A, x = square_matrix(A), jnp.asarray(x)
    if x.shape != A.shape[:1]:
        raise ValueError(f"A of shape {A.shape} needs a vector of {A.shape[0]} elements, got shape {x.shape}")

    x = right_hand_sides(A, x)

    def step(_: jax.Array, x: jax.Array) -> jax.Array:
        y = product(A, x)
        return y / nonzero(norm(y))

    x = lax.fori_loop(0, steps, step, x / nonzero(norm(x)))
    return Eigenpair(product(x, product(A, x)), x)
