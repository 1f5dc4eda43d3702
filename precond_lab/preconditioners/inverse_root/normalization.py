"""The power of two that brings the eigenvalues of a matrix into (0, 1]."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from precond_lab.preconditioners.inverse_root.powers import exponent, scale


def _infinity_norm(B: jax.Array) -> jax.Array:
    return jnp.max(jnp.sum(jnp.abs(B), axis=1))


def _frobenius_norm(B: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(B * B))


def _trace(B: jax.Array) -> jax.Array:
    return jnp.sum(jnp.diagonal(B))


BOUNDS: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType({
    "infinity_norm": _infinity_norm,
    "frobenius_norm": _frobenius_norm,
    "trace": _trace,
})
"""Upper bounds of the largest eigenvalue of a symmetric positive definite matrix, by name. The infinity norm sums n
numbers in a row, the Frobenius norm n^2, which in few digits may come out too small."""


def check_bound(name: str) -> None:
    """Refuse what is no bound.

    Args:
        name: as it was given.

    Raises:
        ValueError: if it is not in BOUNDS.
    """
    if name not in BOUNDS:
        raise ValueError(f"the bound {name!r} given; known are {', '.join(BOUNDS)}")


def normalized(B: jax.Array, bound: str) -> tuple[jax.Array, jax.Array]:
    """A matrix over a power of two at least as large as a bound of its eigenvalues.

    That division is exact, unlike one by the bound itself, whose rounding the small eigenvalues would feel.

    Args:
        B: symmetric positive definite, ``[n, n]``.
        bound: a name in BOUNDS.

    Returns:
        M = 2^-e B, and e.
    """
    e = exponent(BOUNDS[bound](B))
    return scale(B, -e), e
