"""A square root of the inverse as the state: Potter's algorithm.

P = S S^T is semidefinite whatever is rounded in S, and the condition number of S is the root of that of P.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg import cholesky, invert_lower
from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.rank_one.recursion import Recursion, matrix_or_diagonal


class SquareRoot(NamedTuple):
    """The state of Potter's algorithm.

    Attributes:
        S: P = S S^T, ``[n, n]``, of no shape in particular.
    """

    S: jax.Array


def start(C: jax.Array) -> SquareRoot:
    """S = L^{-T}, for C = L L^T.

    Args:
        C: symmetric positive definite, ``[n, n]``, or the diagonal of one, ``[n]``.

    Returns:
        The state.
    """
    C = matrix_or_diagonal(C)
    if C.ndim == 1:
        return SquareRoot(jnp.diag(1 / jnp.sqrt(C)))
    return SquareRoot(invert_lower(cholesky(C)).T)


def separate_roots(tau: jax.Array, d: jax.Array) -> jax.Array:
    """The root of tau d as a product of roots, which overflows only where tau and d would.

    Args:
        tau: not negative.
        d: not negative.

    Returns:
        sqrt(tau) sqrt(d), with three roundings.
    """
    return jnp.sqrt(tau) * jnp.sqrt(d)


def root_of_product(tau: jax.Array, d: jax.Array) -> jax.Array:
    """The root of tau d as it is printed: tau d overflows in float16 from a d of about 256 sqrt(d / tau) on.

    The update is then a division by infinity: S <- S / sqrt(beta), and grows from step to step.

    Args:
        tau: not negative.
        d: not negative.

    Returns:
        sqrt(tau d), with two roundings.
    """
    return jnp.sqrt(tau * d)


ROOTS: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = MappingProxyType({
    "separate": separate_roots,
    "product": root_of_product,
})
"""How the root of tau d is formed."""


def update(
    state: SquareRoot,
    v: jax.Array,
    beta: jax.Array,
    alpha: jax.Array,
    *,
    root: Callable[[jax.Array, jax.Array], jax.Array] = separate_roots,
) -> SquareRoot:
    """Potter's step: S <- (S - (S f) f^T / (d + sqrt(tau d))) / sqrt(beta), f = S^T v, d = tau + f^T f.

    Order: f, d, z = S f, k = z / (d + root), S - k f^T, the quotient by sqrt(beta) (Battin, "Astronautical Guidance",
    1964; Bierman, "Factorization Methods for Discrete Sequential Estimation", 1977, section V.3). As
    I - f f^T / d = (I - a f f^T)^2 with a = 1 / (d + sqrt(tau d)), P = S S^T is that of Sherman and Morrison.

    A downdate, alpha < 0, has d = |tau| - f^T f and adds k f^T. Where C stops being positive definite, d is negative
    and the result NaN.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.
        root: a function of `ROOTS`.

    Returns:
        The next state. Cost: 7 n^2 flops, and three square roots.
    """
    S = state.S
    f = product(v, S)
    z = product(S, f)
    with jax.named_scope("scalars"):
        sign = jnp.sign(alpha)
        tau = jnp.abs(beta / alpha)
        d = tau + sign * product(f, f)
        k = (sign * z) / (d + root(tau, d))
    difference = S - k[:, None] * f[None, :]
    with jax.named_scope("scalars"):
        return SquareRoot(difference / jnp.sqrt(beta))


def inverse(state: SquareRoot) -> jax.Array:
    """P = S S^T.

    Args:
        state: of any step.

    Returns:
        ``[n, n]``. Cost: 2 n^3 flops.
    """
    return product(state.S, state.S.T)


def apply(state: SquareRoot, g: jax.Array) -> jax.Array:
    """S (S^T g).

    Args:
        state: of any step.
        g: ``[n]``.

    Returns:
        ``[n]``. Cost: 4 n^2 flops.
    """
    return product(state.S, product(g, state.S))


@cache
def potter(roots: str = "separate") -> Recursion:
    """Potter's recursion.

    Args:
        roots: a name in `ROOTS`: "separate", or "product", which overflows.

    Returns:
        The recursion.

    Raises:
        ValueError: no such name.
    """
    if roots not in ROOTS:
        raise ValueError(f"roots {roots!r} given; known are {', '.join(ROOTS)}")
    return Recursion(start, partial(update, root=ROOTS[roots]), inverse, apply, ("S",))
