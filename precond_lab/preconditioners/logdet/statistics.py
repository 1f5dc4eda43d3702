"""The banded statistics of a gradient: sums and averages of g g^T on the band, and damping.

Under low precision the form of the recurrence decides what is learned. With u the unit roundoff of the format and
rounding to nearest, :func:`average` and :func:`average_by_increment` stagnate: an update that comes to less than half
a spacing of H is lost. Once 1 - beta2 <= u/2, beta2 itself rounds to 1 and no update lets H fall: it only ever rises.
:func:`add` stops at about 1/u steps of equal size. What helps is

- :func:`average_compensated` and :func:`add_compensated`, which carry what rounding cuts off in a second array;
- a state of a wider format than the gradients (the same programs on wider arrays), rounded where it is used;
- :func:`average_by_increment` under stochastic rounding, whose updates are right on average. The form matters: a
  rounded beta2 is no longer beta2 however the result is rounded, a rounded 1 - beta2 is off by 2u of itself at most.

Squares that leave the range of the format are the matter of :mod:`precond_lab.preconditioners.logdet.gradient_scaling`.

Source: SONew (Devvrit et al., "A Computationally Efficient Sparsified Online Newton Method", NeurIPS 2023).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.logdet.band import check_band, check_banded, later, one_norm

# Statistics


class Statistics(NamedTuple):
    """The band of the gradients' Gram matrix.

    Attributes:
        H: the band, ``[b+1, n]``.
        weight: the sum of the weights that the gradients in H carry, a scalar.
    """

    H: jax.Array
    weight: jax.Array


def band_outer(g: jax.Array, *, band: int = 1) -> jax.Array:
    """The band of g g^T.

    Cost: (b+1) n flops. In float16 an entry with |g| < 2^-12.5 underflows to zero.

    Args:
        g: gradient, ``[n]``.
        band: number of subdiagonals, any.

    Returns:
        ``[b+1, n]``, row k holding g_{i+k} g_i, padded by zeros.

    Example:
        >>> import jax.numpy as jnp
        >>> band_outer(jnp.array([1.0, 2.0, 3.0])).tolist()
        [[1.0, 4.0, 9.0], [2.0, 6.0, 0.0]]
    """
    check_band(band)
    g = jnp.asarray(g)
    return jnp.stack([later(g, k) * g for k in range(band + 1)])


def initialize(n: int, *, band: int = 1, epsilon: jax.Array | None = None) -> Statistics:
    """Statistics before the first gradient: H_0 = epsilon I (SONew, Algorithm 1), or zero.

    Args:
        n: number of parameters.
        band: number of subdiagonals, any.
        epsilon: scalar array, zero where None; the statistics take its dtype.

    Returns:
        Statistics of weight zero.

    Example:
        >>> initialize(3, epsilon=jnp.array(0.5)).H.tolist()
        [[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]
    """
    check_band(band)
    epsilon = jnp.zeros(()) if epsilon is None else jnp.asarray(epsilon)
    diagonal = jnp.broadcast_to(epsilon, (1, n))
    H = jnp.concatenate([diagonal] + [jnp.zeros_like(diagonal)] * band)
    return Statistics(H, jnp.zeros_like(epsilon))


def add(statistics: Statistics, g: jax.Array, step_weight: jax.Array) -> Statistics:
    """The sum of the theory: H + band(g g^T) / lambda_t.

    Order: the product g_{i+k} g_i, its quotient by lambda_t, the sum. The weight grows by 1 / lambda_t, so
    that :func:`corrected` is the weighted mean of the gradients' outer products (and of H_0, if that is not
    zero).

    Args:
        statistics: H ``[b+1, n]`` and its weight.
        g: gradient, ``[n]``.
        step_weight: lambda_t, a positive scalar, of order sqrt(t) for SONew's regret bound.

    Returns:
        The statistics one step later. Cost: 3 (b+1) n flops.

    Example:
        >>> once = add(initialize(2), jnp.array([1.0, 2.0]), jnp.array(2.0))
        >>> once.H.tolist(), float(once.weight)
        ([[0.5, 2.0], [1.0, 0.0]], 0.5)
    """
    H, weight = statistics
    band = H.shape[0] - 1
    return Statistics(H + band_outer(g, band=band) / step_weight, weight + 1 / step_weight)


def average(statistics: Statistics, g: jax.Array, beta2: jax.Array, complement: jax.Array | None = None) -> Statistics:
    """The exponential average of practice: beta2 H + (1 - beta2) band(g g^T).

    Order: 1 - beta2, then the two products (that by H, that by the band of g g^T), then their sum. The
    weight goes through the same recurrence with 1 in place of g g^T, so that it equals 1 - beta2^t without
    a power.

    beta2 is an argument and rounded like one: in bfloat16 0.999 is 1, so that 1 - beta2 is 0 and nothing is
    ever learned. Code that forms 1 - beta2 in a wider format outside the program hands it over as
    `complement`. In bfloat16 the sum stagnates for beta2 of 0.99 or more: the update falls under half a
    unit of H.

    Args:
        statistics: H ``[b+1, n]`` and its weight.
        g: gradient, ``[n]``.
        beta2: decay, a scalar array in [0, 1).
        complement: 1 - beta2, a scalar array, if it is not to be formed here.

    Returns:
        The statistics one step later. Cost: 4 (b+1) n flops.

    Example:
        >>> once = average(initialize(2), jnp.array([1.0, 2.0]), jnp.array(0.75))
        >>> once.H.tolist(), float(once.weight), corrected(once).tolist()
        ([[0.25, 1.0], [0.5, 0.0]], 0.25, [[1.0, 4.0], [2.0, 0.0]])
    """
    H, weight = statistics
    complement = 1 - beta2 if complement is None else complement
    band = H.shape[0] - 1
    return Statistics(beta2 * H + complement * band_outer(g, band=band), beta2 * weight + complement)


def average_by_increment(
    statistics: Statistics, g: jax.Array, beta2: jax.Array, complement: jax.Array | None = None
) -> Statistics:
    """The exponential average as a correction: H + (1 - beta2) (band(g g^T) - H).

    Order: 1 - beta2, the difference, the product, the sum; the weight likewise with 1 in place of g g^T. With
    `complement` given beta2 does not enter at all, so that the decay is as accurate as 1 - beta2 can be stored. To
    nearest it stagnates as :func:`average` does; under stochastic rounding it does not.

    Args:
        statistics: H ``[b+1, n]`` and its weight.
        g: gradient, ``[n]``.
        beta2: decay, a scalar array in [0, 1).
        complement: 1 - beta2, a scalar array, if it is not to be formed here.

    Returns:
        The statistics one step later. Cost: 4 (b+1) n flops.

    Example:
        >>> once = average_by_increment(initialize(2), jnp.array([1.0, 2.0]), jnp.array(0.75))
        >>> once.H.tolist(), float(once.weight)
        ([[0.25, 1.0], [0.5, 0.0]], 0.25)
    """
    H, weight = statistics
    complement = 1 - beta2 if complement is None else complement
    product = band_outer(g, band=H.shape[0] - 1)
    return Statistics(H + complement * (product - H), weight + complement * (1 - weight))


def corrected(statistics: Statistics) -> jax.Array:
    """H divided by its weight: the bias correction of an exponential average.

    For :func:`average` from zero the weight is 1 - beta2^t, so this is Adam's correction.

    Args:
        statistics: H ``[b+1, n]`` and its weight, at least one gradient in it.

    Returns:
        ``[b+1, n]``; NaN before the first gradient.
    """
    return statistics.H / statistics.weight


# Compensation


class Compensated(NamedTuple):
    """Statistics beside what rounding has cut off them: what they stand for is the sum of the two, left as it is.

    H is that sum rounded: whatever uses statistics uses `statistics`.

    Attributes:
        statistics: H ``[b+1, n]`` and its weight.
        lost: the same of what H and the weight lack, at most half a spacing of them.
    """

    statistics: Statistics
    lost: Statistics


def compensate(statistics: Statistics) -> Compensated:
    """Statistics that have lost nothing yet.

    Args:
        statistics: H ``[b+1, n]`` and its weight.

    Returns:
        The same with zeros beside them.
    """
    return Compensated(statistics, Statistics(*map(jnp.zeros_like, statistics)))


def add_compensated(state: Compensated, g: jax.Array, step_weight: jax.Array) -> Compensated:
    """The sum of :func:`add`, with Kahan's compensation.

    Order: the product g_{i+k} g_i, its quotient by lambda_t, the sum y of that and what was lost, then Knuth's
    two-sum of H and y, which is exact whichever of the two is larger.

    Args:
        state: statistics and what they lack.
        g: gradient, ``[n]``.
        step_weight: lambda_t, a positive scalar.

    Returns:
        The state one step later. Cost: 9 (b+1) n flops. An overflow gives NaN one step later.

    Example:
        >>> state = compensate(initialize(1, epsilon=jnp.array(2.0**24)))
        >>> for _ in range(4):
        ...     state = add_compensated(state, jnp.array([1.0]), jnp.array(1.0))
        >>> float(state.statistics.H[0, 0]) - 2**24
        4.0
    """
    H, lost = state.statistics.H, state.lost
    increment = band_outer(g, band=H.shape[0] - 1) / step_weight
    return _carried(state, Statistics(lost.H + increment, lost.weight + 1 / step_weight))


def average_compensated(
    state: Compensated, g: jax.Array, beta2: jax.Array, complement: jax.Array | None = None
) -> Compensated:
    """The exponential average, with Kahan's compensation.

    In a sum what was lost is only ever added. In an average the decay takes its share of H and of what was lost alike,
    so with c for the latter the step is

        d = (1 - beta2) ((band(g g^T) - H) - c),     y = c + d,     H + c' = H + y exactly (Knuth's two-sum),

    in that order. A compensation that does not decay keeps what belongs to gradients long forgotten. One step errs by
    about u (|c| + 4 |d|) and no longer by u H: the average stagnates only once 1 - beta2 comes to u^2. What is lost is
    smaller than H by a factor u, and underflows that much earlier: where the range is short, scale.

    Args:
        state: statistics and what they lack.
        g: gradient, ``[n]``.
        beta2: decay, a scalar array in [0, 1).
        complement: 1 - beta2, a scalar array, if it is not to be formed here.

    Returns:
        The state one step later. Cost: 11 (b+1) n flops, twice the storage. An overflow gives NaN one step later.

    Example:
        >>> once = average_compensated(compensate(initialize(2)), jnp.array([1.0, 2.0]), jnp.array(0.75))
        >>> once.statistics.H.tolist(), float(once.statistics.weight)
        ([[0.25, 1.0], [0.5, 0.0]], 0.25)
    """
    (H, weight), lost = state
    complement = 1 - beta2 if complement is None else complement
    product = band_outer(g, band=H.shape[0] - 1)
    return _carried(
        state,
        Statistics(
            lost.H + complement * ((product - H) - lost.H),
            lost.weight + complement * ((1 - weight) - lost.weight),
        ),
    )


def _carried(state: Compensated, change: Statistics) -> Compensated:
    """The state after a change that what was lost is part of already."""
    H, lost = _two_sum(state.statistics.H, change.H)
    weight, lost_weight = _two_sum(state.statistics.weight, change.weight)
    return Compensated(Statistics(H, weight), Statistics(lost, lost_weight))


def _two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rounded sum and its error, a + b = total + error exactly in any rounding to nearest (Knuth, TAOCP 2, 4.2.2).

    The barrier keeps a compiler that computes bfloat16 or float16 in float32 from using the sum before it is rounded.
    """
    total = lax.optimization_barrier(a + b)
    near = total - b
    return total, (a - near) + (b - (total - near))


# Damping


def damp(H: jax.Array, epsilon: jax.Array, floor: jax.Array | float = 0) -> jax.Array:
    """H with max(epsilon ||H||_1, floor) added to its diagonal.

    In a format with unit roundoff u the damping does nothing to a diagonal entry above about epsilon
    ||H||_1 / u.

    Args:
        H: ``[b+1, n]``.
        epsilon: scalar array, relative to the norm.
        floor: scalar array, absolute; saves an H of zeros, if the format can represent it at all.

    Returns:
        ``[b+1, n]``. Cost: (2b + 1) n flops.
    """
    return damp_absolute(H, jnp.maximum(epsilon * one_norm(H), floor))


def damp_absolute(H: jax.Array, epsilon: jax.Array) -> jax.Array:
    """H + epsilon I.

    Args:
        H: ``[b+1, n]``.
        epsilon: scalar array, in the units of H.

    Returns:
        ``[b+1, n]``. Cost: n flops.

    Raises:
        ValueError: for a shape other than ``[b+1, n]``.
    """
    H = check_banded(H)
    return jnp.concatenate([H[:1] + epsilon, H[1:]])
