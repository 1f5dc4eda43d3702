"""Newton-Schulz for the polar factor of a wide matrix, by its small Gram matrix."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like, real_matrix
from precond_lab.preconditioners.inverse_root.kernels import LOOPS
from precond_lab.preconditioners.inverse_root.normalization import BOUNDS, check_bound
from precond_lab.preconditioners.inverse_root.polynomial import polynomial_value
from precond_lab.preconditioners.inverse_root.powers import Product, exponent, scale
from precond_lab.preconditioners.inverse_root.schedules import Schedule, schedule_of


class Polar(NamedTuple):
    """An approximate polar factor.

    Attributes:
        factor: (G G^T)^{-1/2} G, ``[m, n]``.
        gram: what the iteration made of the Gram matrix of the factor, ``[m, m]``; a negative eigenvalue is rounding.
        residual: |Q Q^T - I|_F of the factor Q, a scalar; NaN for a matrix without polar factor.
    """

    factor: jax.Array
    gram: jax.Array
    residual: jax.Array


def gram_newton_schulz(
    G: jax.Array,
    *,
    product: Product = LOOPS.product,
    schedule: str | Schedule = "chebyshev_accelerated",
    degree: int = 2,
    lower: float = 2.0**-24,
    safety: float = 1.1,
    bound: str = "infinity_norm",
    steps: int = 10,
    restart: int | None = None,
) -> Polar:
    r"""The polar factor of a wide matrix by iterating its Gram matrix.

    With R = G G^T, brought to eigenvalues in (0, 1], and X = I, one step is

        T = h(R),    X <- X T,    R <- T (R T),

    and the factor is X G: steps cost m^3 instead of m^2 n. R is never formed from X G again, so that rounding can make
    an eigenvalue of it negative that was small, which then grows by h(0)^2 in every step: 225 / 64 for the quintic
    Taylor polynomial. A restart replaces G by X G, R by its Gram matrix and X by I, which has no negative eigenvalues
    but of rounding.

    Args:
        G: of full row rank, ``[m, n]`` with m <= n.
        product: of two matrices.
        schedule: a name in SCHEDULES, or a :class:`Schedule` for p = 2.
        degree: of h.
        lower: a lower bound of the eigenvalues of the first R.
        safety: by how much intervals are extended upwards.
        bound: of the eigenvalues of G G^T, a name in BOUNDS.
        steps: how many.
        restart: after how many steps G and R are formed anew, each time; None for never.

    Returns:
        The factor and its residual. Cost: 3 + degree - 1 products of m x m matrices a step, and two products with G
        for each start.

    Raises:
        ValueError: for a tall matrix, an unknown name, or numbers out of range.
        TypeError: if G does not hold floating-point numbers.
    """
    G = real_matrix(G)
    if G.shape[0] > G.shape[1]:
        raise ValueError(
            f"shape {G.shape} given; a matrix with at least as many columns as rows is wanted: transpose it"
        )
    if steps < 0 or (restart is not None and restart < 1):
        raise ValueError(f"steps = {steps}, restart = {restart} given; at least 0, and at least 1 or None, are wanted")
    check_bound(bound)
    plan = schedule_of(schedule, 2, degree, lower, safety)
    table = jnp.asarray(plan.table, G.dtype)
    first = len(plan.first)

    def step(k: int | jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        X, R = state
        T = polynomial_value(identity_like(R) - R, table[jnp.minimum(k, first)], product)
        return product(X, T), product(T, product(R, T))

    largest = jnp.max(jnp.abs(G))
    G = scale(G, -jnp.where(largest > 0, exponent(largest), 0))
    R = product(G, G.T)
    e = exponent(BOUNDS[bound](R))
    e = e + (e & 1)  # even, for its root to be a power of two
    G, R = scale(G, -(e // 2)), scale(R, -e)
    every, done = restart or steps, 0
    while done < steps:
        if done:
            R = product(G, G.T)
        end = min(done + every, steps)
        X, R = lax.fori_loop(done, end, step, (identity_like(R), R))
        G = product(X, G)
        done = end
    D = product(G, G.T) - identity_like(R)
    return Polar(G, R, jnp.sqrt(jnp.sum(D * D)))
