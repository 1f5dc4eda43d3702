"""The health of LogDet statistics along a stream of gradients."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import Arithmetic
from precond_lab.diagnosis.logdet_band_condition import band_condition
from precond_lab.diagnosis.logdet_condition import projection_condition
from precond_lab.preconditioners import logdet


class Track(NamedTuple):
    """What one step of a stream did to the statistics of one tensor.

    Attributes:
        step: number of gradients seen.
        condition: condition number of the projection of the damped statistics, all entries perturbed; infinite where
            no projection exists. On a chain the componentwise one; on wider bands X_ij may be zero by cancellation, and
            changes are relative to sqrt(X_ii X_jj) (``scaled`` of
            :class:`~precond_lab.diagnosis.logdet_band_condition.BandCondition`).
        smallest_pivot: smallest s_i / H_ii, on a chain 1 - beta_i^2 over the edges; not positive, or NaN, where no
            projection exists.
        dropped: number of edges that stabilization drops.
        edges: number of edges before.
        condition_kept: condition number on the reduced graph.
    """

    step: int
    condition: float
    smallest_pivot: float
    dropped: int
    edges: int
    condition_kept: float


class Progress(NamedTuple):
    """Where a track stands: statistics after `step` gradients."""

    step: int
    statistics: logdet.Statistics


class Settings(NamedTuple):
    """How statistics are averaged, damped and stabilized.

    Attributes:
        beta2: decay of the exponential average.
        epsilon: damping relative to the one-norm.
        floor: least damping.
        tolerance: of the stabilization, relative to the diagonal.
        arithmetic: that statistics are kept and stabilized in; None for the arrays' own.
        band: number of subdiagonals that :func:`track` follows.
    """

    beta2: float = 0.95
    epsilon: float = 1e-6
    floor: float = 0.0
    tolerance: float = 0.0
    arithmetic: Arithmetic | Format | str | None = None
    band: int = 1


def begin(n: int, dtype: Any = jnp.float32, band: int = 1) -> Progress:
    """A track before its first gradient.

    Args:
        n: length of the chain.
        dtype: of the statistics.
        band: number of subdiagonals.

    Returns:
        Statistics at zero.
    """
    return Progress(0, logdet.initialize(n, band=band, epsilon=jnp.zeros((), dtype)))


def advance(
    progress: Progress, gradient: jax.Array, settings: Settings, edges: np.ndarray | None = None
) -> tuple[Progress, Track]:
    """Take one gradient into the statistics, and look at them.

    Args:
        progress: where the track stands, with statistics of any band.
        gradient: chain of the tensor's gradient, [n]; taken in the dtype that JAX's mode gives it.
        settings: of the statistics.
        edges: bool [b, n], the edges that exist (`logdet.row_edges` cuts at row ends); all by default.

    Returns:
        Where the track stands then, and what was seen. Cost: O(n) on a chain, most of it the exact pivots in float64;
        O(n b^5) on wider bands, on one core some ten microseconds a vertex for b = 2 and a millisecond for b = 10.
    """
    gradient = jnp.asarray(gradient)
    n = gradient.shape[0]
    present = np.asarray(logdet.within(n, progress.statistics.H.shape[0] - 1))
    edges = present if edges is None else np.asarray(edges)
    statistics, H, kept = _program(settings.arithmetic)(
        progress.statistics, gradient, jnp.asarray(edges), *settings[:4]
    )
    kept = np.asarray(kept)
    (before, pivot), (after, _) = _condition(H, edges), _condition(H, kept)
    # Counted here: where a diagonal entry is zero there is no condition to be had, but there are edges.
    number, remaining = (int(np.count_nonzero(mask & present)) for mask in (edges, kept))
    track = Track(progress.step + 1, before, pivot, number - remaining, number, after)
    return Progress(progress.step + 1, statistics), track


def track(gradients: Iterable[jax.Array], settings: Settings, edges: np.ndarray | None = None) -> Iterator[Track]:
    """Follow a stream of gradients of one tensor.

    Args:
        gradients: chains [n], all of one length, such as `logdet.chain(kernel)` of every step.
        settings: of the statistics.
        edges: bool [b, n], the edges that exist; all by default.

    Yields:
        One `Track` a gradient.

    Example:
        >>> import jax.numpy as jnp
        >>> twins = [jnp.array([1.0, 1.0, 2.0]), jnp.array([2.0, 2.0, -1.0])]
        >>> [(t.dropped, round(t.condition_kept, 2)) for t in track(twins, Settings(epsilon=0.0, tolerance=2**-7))]
        [(2, 1.0), (1, 3.0)]
    """
    progress = None
    for gradient in map(jnp.asarray, gradients):
        progress = progress or begin(gradient.shape[0], gradient.dtype, settings.band)
        progress, seen = advance(progress, gradient, settings, edges)
        yield seen


def _condition(H: jax.Array, kept: np.ndarray) -> tuple[float, float]:
    """The condition number of a track, and the smallest pivot."""
    if len(kept) <= 1:
        found = projection_condition(H, kept)
        return found.all_entries, found.smallest_pivot
    found = band_condition(H, kept)
    return found.scaled, found.smallest_pivot


@lru_cache
def _program(arithmetic: Arithmetic | Format | str | None) -> Any:
    """One compiled program for all streams in an arithmetic."""

    def step(
        statistics: logdet.Statistics,
        gradient: jax.Array,
        edges: jax.Array,
        beta2: jax.Array,
        epsilon: jax.Array,
        floor: jax.Array,
        tolerance: jax.Array,
    ) -> tuple[logdet.Statistics, jax.Array, jax.Array]:
        statistics = logdet.average(statistics, gradient, beta2)
        H = logdet.cut(logdet.damp(logdet.corrected(statistics), epsilon, floor), edges)
        _, kept = logdet.stabilize(H, tolerance)
        return statistics, H, kept & edges

    return jax.jit(step) if arithmetic is None else emulate(step, arithmetic)
