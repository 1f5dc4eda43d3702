"""Statistics of gradients whose squares leave the range of the format.

In float16 the square of a gradient below 2^-12.5 is zero and that of one above 2^8 infinite. A power of two s, chosen
as the gradients come, brings those of s g into range; the direction does not change, but for the same factor.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.logdet.statistics import Compensated, Statistics


class Scaled(NamedTuple):
    """Statistics of s g in place of g.

    H is in units of s^2: with X the projection of H, the direction for a momentum m is s (X (s m)), every factor a
    power of two; where the step is grafted, its length comes from elsewhere and X (s m) will do. Damping relative to
    the norm of H needs no change, an absolute one is in units of s^2.

    Attributes:
        state: what is carried.
        scale: s, a power of two.
    """

    state: Statistics | Compensated
    scale: jax.Array


def rescaled(state: Scaled, g: jax.Array, target: jax.Array) -> Scaled:
    """The same statistics at a scale at which neither they nor the next gradient leave the range of the format.

    The scale is halved while max |s g| > target or max |H| > target^2, and otherwise doubled while max |s g| is at most
    target / 4, max |H| at most target^2 / 16, and 2s finite: gradients that vary by less than a factor of two leave it
    where it is. It moves by powers of two, so H is multiplied exactly, but for entries that become subnormal. What is
    zero or not finite is no measure, and has no say.

    A gradient whose largest entry is below the smallest normal number of the format is subnormal, and has lost digits
    before it comes here: scale the loss. The scale then ends at the largest power of two of the format, and the test
    whether it may be doubled is an overflow, which an emulation counts.

    Args:
        state: statistics and their scale; start from scale 1.
        g: the next gradient, ``[n]``, not scaled.
        target: scalar array, 2 target^2 finite in the format: 1, or 2^7 in float16 for the sake of small entries.

    Returns:
        The state at its new scale. Cost: n + (b+1) n comparisons, and 2 (b+1) n products.

    Example:
        >>> from precond_lab.preconditioners.logdet.statistics import initialize
        >>> state = Scaled(initialize(2), jnp.array(1.0))
        >>> float(rescaled(state, jnp.array([3e-5, -1e-5]), jnp.array(1.0)).scale) == 2.0**14
        True
    """
    statistics = state.state.statistics if isinstance(state.state, Compensated) else state.state
    peak, size = (jnp.max(jnp.abs(x)) for x in (g, statistics.H))
    peak = jnp.where(jnp.isfinite(peak), peak, jnp.zeros_like(peak))
    size = jnp.where(jnp.isfinite(size), size, jnp.zeros_like(size))
    limit = target * target

    def too_large(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        scale, size = carry
        return (peak * scale > target) | (size > limit)

    def too_small(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        scale, size = carry
        room = (peak * scale <= target / 4) & (size <= limit / 16)
        return room & ((peak > 0) | (size > 0)) & jnp.isfinite(scale * 2)

    carry = lax.while_loop(too_large, lambda carry: (carry[0] / 2, carry[1] / 4), (state.scale, size))
    scale, _ = lax.while_loop(too_small, lambda carry: (carry[0] * 2, carry[1] * 4), carry)
    factor = scale / state.scale
    return Scaled(_multiplied(state.state, factor), scale)


def scaled(update: Callable[..., Any], target: jax.Array) -> Callable[..., Scaled]:
    """A recurrence with the scale of its statistics kept in range: :func:`rescaled`, then one step on s g.

    Args:
        update: :func:`add`, :func:`average`, or another of the recurrences.
        target: as for :func:`rescaled`.

    Returns:
        The recurrence of a :class:`Scaled` state, with the arguments of `update`.

    Example:
        >>> from precond_lab.preconditioners.logdet.statistics import average, initialize
        >>> step = scaled(average, jnp.array(1.0))
        >>> state = step(Scaled(initialize(1), jnp.array(1.0)), jnp.array([0.25]), jnp.array(0.5))
        >>> float(state.scale), float(state.state.H[0, 0]), float(state.state.weight)
        (2.0, 0.125, 0.5)
    """

    def step(state: Scaled, g: jax.Array, *arguments: jax.Array) -> Scaled:
        state = rescaled(state, g, target)
        return Scaled(update(state.state, g * state.scale, *arguments), state.scale)

    return step


def _multiplied(state: Statistics | Compensated, factor: jax.Array) -> Statistics | Compensated:
    """The state with H times the factor's square, in two steps: the square itself may leave the range."""
    if isinstance(state, Compensated):
        return Compensated(*(part._replace(H=part.H * factor * factor) for part in state))
    return state._replace(H=state.H * factor * factor)
