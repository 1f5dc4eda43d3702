"""Scalings z of the start M = z A of an iteration."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import nonzero
from precond_lab.preconditioners.inverse_root.powers import number_like
from precond_lab.preconditioners.inverse_root.ridges import largest_eigenvalue

Extremes = tuple[jax.Array | float, jax.Array | float]
"""The smallest and the largest eigenvalue."""

Scaling = Callable[[jax.Array, int | jax.Array, Extremes | None], jax.Array]
"""Of a matrix whose rows that are padding are zero, of p, and of its extreme eigenvalues where they are known."""


def _frobenius(B: jax.Array, p: int | jax.Array, extremes: Extremes | None) -> jax.Array:
    del extremes
    return (number_like(B, p) + 1) / (2 * nonzero(jnp.sqrt(jnp.sum(B * B))))


def _infinity_norm(B: jax.Array, p: int | jax.Array, extremes: Extremes | None) -> jax.Array:
    del extremes
    return (number_like(B, p) + 1) / (2 * nonzero(jnp.max(jnp.sum(jnp.abs(B), axis=1))))


def _trace(B: jax.Array, p: int | jax.Array, extremes: Extremes | None) -> jax.Array:
    del p, extremes
    return 1 / nonzero(jnp.sum(jnp.diagonal(B)))


def _largest_eigenvalue(B: jax.Array, p: int | jax.Array, extremes: Extremes | None) -> jax.Array:
    known = largest_eigenvalue(B) if extremes is None else jnp.full_like(B, extremes[1], shape=())
    return (number_like(B, p) + 1) / (2 * nonzero(known))


ESTIMATED_ABOVE = 1.125
"""What the estimate of the largest eigenvalue, a lower bound, is multiplied by where there is no other margin."""

ESTIMATED_BELOW = 2.0**-10
"""The least ratio of the extremes that is estimated."""


def estimated_extremes(B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The extreme eigenvalues by power iterations on B and on b I - B, where b is to be a bound of the largest.

    Args:
        B: symmetric positive definite, ``[n, n]``, but for zero rows, which are padding.

    Returns:
        A number above the smallest eigenvalue, at least b / 2^10, and b. Cost: 4 n^2 flops a step of the iterations.
    """
    b = ESTIMATED_ABOVE * largest_eigenvalue(B)
    diagonal = jnp.diagonal(B)
    rows = jnp.arange(B.shape[0])
    complement = jnp.where((rows[:, None] == rows) & (diagonal > 0), b, jnp.zeros_like(B)) - B
    return jnp.maximum(b - largest_eigenvalue(complement), ESTIMATED_BELOW * b), b


def _guo_higham(B: jax.Array, p: int | jax.Array, extremes: Extremes | None) -> jax.Array:
    """(p+1) (b^{1/p} - a^{1/p}) / (b^{1+1/p} - a^{1+1/p}), without cancellation.

    With s = (a/b)^{1/p} it is (p+1) / (b (1 + s + ... + s^p)).
    """
    a, b = estimated_extremes(B) if extremes is None else (jnp.full_like(B, x, shape=()) for x in extremes)
    s = (a / nonzero(b)) ** (1 / number_like(B, p))
    total = lax.fori_loop(0, p, lambda _, total: total * s + 1, jnp.ones_like(s))
    return (number_like(B, p) + 1) / (nonzero(b) * total)


SCALINGS: Mapping[str, Scaling] = MappingProxyType({
    "frobenius": _frobenius,
    "infinity_norm": _infinity_norm,
    "trace": _trace,
    "largest_eigenvalue": _largest_eigenvalue,
    "guo_higham": _guo_higham,
})
r"""z by name. Newton's iteration converges for eigenvalues of z A in (0, p + 1), that of order m in (0, 2).

frobenius: (p+1) / (2 \|A\|_F), as in the Shampoo codes of Google and Meta: eigenvalues up to (p+1)/2, but smaller by a
factor of sqrt(n) than they might be if all are alike. infinity_norm: (p+1) / (2 \|A\|_inf). trace: 1 / tr A,
eigenvalues up to 1, for the iterations of higher order. largest_eigenvalue: (p+1) / (2 b), where b is given or is
estimated from below by power iteration: the factor 2 is the margin, and the iteration fails where the estimate is below
half the eigenvalue. guo_higham: the optimum, which maps the largest eigenvalue b and the smallest one a to the same
number in the first step (Guo & Higham 2006): z b is just below p + 1, and extremes that are given should not have b
below the largest eigenvalue; an estimated b is multiplied by ESTIMATED_ABOVE.
"""
