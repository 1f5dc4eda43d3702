"""Jacobi's rotations of all pairs of a matrix."""

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import nonzero


def partners(n: int, k: jax.Array) -> jax.Array:
    """The pairs of round k: i and j are a pair when i + j = k modulo n, and i is left out when 2 i = k.

    In n rounds every pair meets exactly once, those of one round at the same time. This is the modulus ordering, which
    converges as the cyclic one does (Luk & Park, On parallel Jacobi orderings, SIAM J. Sci. Stat. Comput. 10, 1989).

    Args:
        n: how many there are.
        k: the round.

    Returns:
        The partner of each, [n]; itself where it is left out.
    """
    return (k - jnp.arange(n)) % n


def rotation(gap: jax.Array, twice: jax.Array, partner: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The rotations that annihilate the off-diagonal elements of 2 x 2 matrices (Golub & Van Loan, algorithm 8.5.1).

    For [[a, b], [b, d]] the tangent is sign(d - a) 2b / (|d - a| + sqrt((d - a)^2 + (2b)^2)), at most one in magnitude.
    Both members of a pair hold the same b and the opposite d - a, and so the opposite tangent: element i of a vector x
    becomes c_i x_i - s_i x_j, j its partner.

    Args:
        gap: the partner's diagonal element less one's own, [n].
        twice: two times the off-diagonal element of the pair, zero where there is no partner, [n].
        partner: [n].

    Returns:
        cosines, sines and tangents, [n] each.
    """
    scale = jnp.maximum(jnp.abs(gap), jnp.abs(twice))  # so that squares neither overflow nor both underflow
    x = jnp.where(scale == 0, 1, jnp.abs(gap) / nonzero(scale))
    y = twice / nonzero(scale)
    t = y / (x + jnp.sqrt(x * x + y * y))
    t = jnp.where((gap < 0) | ((gap == 0) & (partner < jnp.arange(gap.shape[0]))), -t, t)
    c = 1 / jnp.sqrt(1 + t * t)
    return c, t * c, t
