"""What is added to the diagonal before a root is taken."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg import power_iteration


class Ridge(NamedTuple):
    """A multiple of the identity, delta I, to be added to a matrix.

    It makes the condition number at most (1 + delta / lambda_max) lambda_max / delta, and changes every eigenvalue of
    the root by a factor (1 + delta / lambda)^(-1/p).

    Attributes:
        amount: delta, or its ratio to a measure of the matrix.
        relative_to: a name in MEASURES.
    """

    amount: float
    relative_to: str = "largest_eigenvalue"


def _one(B: jax.Array, one: jax.Array, size: jax.Array) -> jax.Array:
    del B, size
    return one


def _largest_entry(B: jax.Array, one: jax.Array, size: jax.Array) -> jax.Array:
    del one, size
    return jnp.max(jnp.abs(B))


def _largest_eigenvalue(B: jax.Array, one: jax.Array, size: jax.Array) -> jax.Array:
    del one, size
    return largest_eigenvalue(B)


def largest_eigenvalue(B: jax.Array) -> jax.Array:
    """A lower bound of it, a Rayleigh quotient, by power iteration from the column of the largest diagonal element.

    Zeros of that column are replaced by a small number, since it may be an eigenvector of another eigenvalue. A start
    whose square has the share w along the eigenvector leads, after k steps, to at least w^{1/(2k+1)} of the eigenvalue:
    by Jensen's inequality the quotient m_{2k+1} / m_{2k} of moments of the spectrum is at least m_{2k+1}^{1/(2k+1)}.

    Args:
        B: symmetric positive semidefinite, ``[n, n]``, with its largest entry about one.

    Returns:
        A scalar. Cost: 2 n^2 flops for each of POWER_STEPS.
    """
    start = B[:, jnp.argmax(jnp.diagonal(B))]
    return power_iteration(B, jnp.where(start == 0, 2.0**-6, start), steps=POWER_STEPS).value


def _trace(B: jax.Array, one: jax.Array, size: jax.Array) -> jax.Array:
    del one, size
    return jnp.sum(jnp.diagonal(B))


def _mean_eigenvalue(B: jax.Array, one: jax.Array, size: jax.Array) -> jax.Array:
    # The rows that are padding are zero, but are no eigenvalues; without any rows the sum is zero.
    return _trace(B, one, size) / jnp.maximum(size, 1)


def _frobenius_norm(B: jax.Array, one: jax.Array, size: jax.Array) -> jax.Array:
    del one, size
    return jnp.sqrt(jnp.sum(B * B))


def _infinity_norm(B: jax.Array, one: jax.Array, size: jax.Array) -> jax.Array:
    del one, size
    return jnp.max(jnp.sum(jnp.abs(B), axis=1))


POWER_STEPS = 20
"""Of the power iteration."""

MEASURES: Mapping[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = MappingProxyType({
    "one": _one,
    "largest_entry": _largest_entry,
    "largest_eigenvalue": _largest_eigenvalue,
    "mean_eigenvalue": _mean_eigenvalue,
    "trace": _trace,
    "frobenius_norm": _frobenius_norm,
    "infinity_norm": _infinity_norm,
})
"""What a ridge can be relative to; "one" for an absolute ridge.

Functions of the matrix, whose rows that are padding are zero, of one in its scale, and of how many rows are none.
"""


def check_ridge(ridge: Ridge) -> None:
    """Refuse what is no ridge.

    Args:
        ridge: as it was given.

    Raises:
        ValueError: for an unknown measure, or an amount that is negative, infinite or NaN (an array may be traced, and
            then has no value yet).
        TypeError: for an amount that is no real number.
    """
    if ridge.relative_to not in MEASURES:
        raise ValueError(f"a ridge relative to {ridge.relative_to!r} given; known are {', '.join(MEASURES)}")
    if not _is_real_number(ridge.amount):
        raise TypeError(f"a ridge of {ridge.amount!r} given; it must be a real number")
    if not isinstance(ridge.amount, jax.Array) and not 0 <= ridge.amount < float("inf"):
        raise ValueError(f"a ridge of {ridge.amount} given; it must be zero or positive, and finite")


def _is_real_number(x: object) -> bool:
    if x is None:
        return False
    try:
        dtype = jnp.result_type(x)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return False
    return jnp.shape(x) == () and (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))  # pyright: ignore[reportArgumentType]
