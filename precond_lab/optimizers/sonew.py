"""SONew: steps preconditioned by the banded LogDet projection of the gradients' statistics."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.formats import Format, named
from precond_lab.arithmetic.specification import Arithmetic, as_arithmetic
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet import windows
from precond_lab.preconditioners.logdet.projection import regress

Averaging = Literal["average", "increment", "compensated"]
AVERAGING: Mapping[str, Callable] = MappingProxyType({
    "average": logdet.average,
    "increment": logdet.average_by_increment,
    "compensated": logdet.average_compensated,
})
"""How statistics decay, by name."""
CHUNK = 2**16
"""Vertices of a chunk: enough to keep an accelerator busy, and of little weight beside the state of a long tensor."""


class SonewState(NamedTuple):
    """What SONew carries from step to step.

    Attributes:
        tensors: for each leaf of the parameters, its `TensorState`.
    """

    tensors: Any


class TensorState(NamedTuple):
    """The state of one tensor of n entries, as one chain.

    Attributes:
        statistics: exponential average of the band of g g^T with its weight, compensated where that was asked for.
        momentum: exponential average of g, [n].
        momentum_weight: the sum of its weights.
    """

    statistics: logdet.Statistics | logdet.Compensated
    momentum: jax.Array
    momentum_weight: jax.Array


def sonew(
    learning_rate: optax.ScalarOrSchedule,
    band: int = 1,
    arithmetic: Arithmetic | Format | str | None = None,
    **settings: Any,
) -> optax.GradientTransformation:
    """SONew with a banded preconditioner (NeurIPS 2023), grafted to the norm of Adam's step.

    Args:
        learning_rate: a number or a schedule.
        band: number of subdiagonals: 0 (diagonal), 1 (tridiagonal), 2, ...
        arithmetic: the arithmetic in which statistics, projection and direction are computed and kept; None for the
            gradients' own dtype. The learning rate is applied outside of it.
        **settings: of `scale_by_sonew`.

    Returns:
        An optax transformation.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = sonew(0.1)
        >>> params = {"w": jnp.ones(4)}
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update({"w": jnp.array([1.0, 2.0, 3.0, 4.0])}, state)
        >>> optax.apply_updates(params, updates)["w"].shape
        (4,)
    """
    return optax.chain(scale_by_sonew(band, arithmetic, **settings), optax.scale_by_learning_rate(learning_rate))


def scale_by_sonew(
    band: int = 1,
    arithmetic: Arithmetic | Format | str | None = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.95,
    epsilon: float = 1e-6,
    floor: float = 1e-16,
    tolerance: float | None = None,
    averaging: Averaging = "average",
    chunk: int | None = CHUNK,
) -> optax.GradientTransformationExtraArgs:
    """The direction of SONew, without the learning rate.

    Every tensor is one chain, its inputs consecutive (`logdet.chain`). With H the damped average of g g^T and m the
    momentum, both corrected for their bias, the direction is X m with X the stabilized LogDet projection of H,
    scaled to the norm of Adam's step m / sqrt(diag H).

    A narrow format may hold no floor, and no reciprocal of a small H_ii. An entry whose damped H_ii is zero gets a zero
    step and loses its edges. An edge whose D would be infinite is dropped, and an entry whose 1 / H_ii is infinite gets
    a zero step too: in float16 that is |g| below about 2^-8, so scale the loss.

    Args:
        band: number of subdiagonals: 0 (diagonal), 1 (tridiagonal), 2, ...
        arithmetic: emulated, or None.
        beta1: decay of the momentum.
        beta2: decay of the statistics.
        epsilon: damping, relative to the one-norm of H.
        floor: least damping.
        tolerance: of Algorithm 3, relative to the diagonal; None for twice the unit roundoff of the arithmetic's format
            or storage, the larger one (without arithmetic, of the parameters' dtype), below which what is kept may be
            rounding noise. To be set where the state is kept in yet another format, or in integers.
        averaging: how the statistics decay: "average" as published, which in bfloat16 stagnates from a decay of 0.99
            on; "increment", in 16 bits more accurate at the same cost; "compensated", with a second number for each.
        chunk: of a tensor with more entries than this, so many are preconditioned at a time, from windows of the chain:
            the numbers are the same as with None, all at once, if no operation is contracted (see
            `precond_lab.preconditioners.logdet.chunks`). Where gradients are divided among devices, None keeps them so.
            Under stochastic rounding it is always None, since windows overlap and would be drawn for twice.

    Returns:
        An optax transformation; extra arguments are ignored. State: (b + 2) n numbers, (2b + 3) n where compensated.
        Cost: about 40 n flops on a chain; in chunks the regressions are computed three times. Storage on the way: about
        3 (b + 1) n numbers, twice that where an arithmetic is carried in float64; at once, without chunks, up to 140 n
        for b = 10.

    Raises:
        ValueError: the band is negative, the averaging unknown, or a chunk not positive; on the first update, if there
            is no tolerance to take.
    """
    if averaging not in AVERAGING:
        raise ValueError(f"unknown averaging {averaging!r}; known are {', '.join(AVERAGING)}")
    average = AVERAGING[averaging]
    logdet.within(1, band)  # refuses a negative band
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunks of {chunk} entries given; a chunk has at least one, or is None")
    chunk = None if _draws(arithmetic) else chunk
    # What is emulated is quicker stage by stage; see windows.stages_of.
    through = None if arithmetic is None else lambda f: f

    def direction(state: TensorState, g: jax.Array, decay1: Any, decay2: Any, rest: tuple) -> tuple:
        statistics = average(state.statistics, g, decay2)
        momentum = decay1 * state.momentum + (1 - decay1) * g
        weight = decay1 * state.momentum_weight + (1 - decay1)
        m = momentum / weight
        plain = statistics.statistics if isinstance(statistics, logdet.Compensated) else statistics
        H = logdet.damp(logdet.corrected(plain), rest[0], rest[1])
        H, m = _without_dead_entries(H, m)
        u = _finite_direction(H, m, rest[2], chunk, through)
        adam = m / jnp.sqrt(H[0])
        u = u / _one_for_zero(jnp.max(jnp.abs(u)))  # else the squares of a narrow format overflow
        size, wanted = jnp.sqrt(jnp.sum(u * u)), jnp.sqrt(jnp.sum(adam * adam))
        return u * (wanted / _one_for_zero(size)), TensorState(statistics, momentum, weight)

    step = direction if arithmetic is None else emulate(direction, arithmetic)

    def initialize(tensor: jax.Array) -> TensorState:
        tensor = jnp.asarray(tensor)
        zero = jnp.zeros((), tensor.dtype)
        statistics = logdet.initialize(tensor.size, band=band, epsilon=zero)
        if averaging == "compensated":
            statistics = logdet.compensate(statistics)
        return TensorState(statistics, jnp.zeros(tensor.size, tensor.dtype), zero)

    def init(params: Any) -> SonewState:
        return SonewState(jax.tree.map(initialize, params))

    def update(updates: Any, state: SonewState, params: Any = None, **extra: Any) -> tuple[Any, SonewState]:
        del params, extra
        leaves, tree = jax.tree.flatten(updates)
        results = []
        for g, tensor in zip(map(jnp.asarray, leaves), tree.flatten_up_to(state.tensors), strict=True):
            if g.size == 0:
                results.append((g, tensor))
                continue
            gamma = _tolerance(arithmetic, tensor.momentum.dtype) if tolerance is None else tolerance
            decay1, decay2, *rest = (jnp.asarray(x, g.dtype) for x in (beta1, beta2, epsilon, floor, gamma))
            u, new = step(tensor, logdet.chain(g), decay1, decay2, tuple(rest))
            results.append((logdet.unchain(u, g.shape), new))
        directions, states = zip(*results, strict=True) if results else ((), ())
        return tree.unflatten(directions), SonewState(tree.unflatten(states))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def _tolerance(arithmetic: Arithmetic | Format | str | None, dtype: Any) -> float:
    """Twice the unit roundoff of the coarsest format that the statistics go through."""
    if arithmetic is None:
        return logdet.default_tolerance(dtype)
    if not isinstance(arithmetic, Arithmetic):
        arithmetic = Arithmetic(arithmetic)
    kept_in = arithmetic.storage if arithmetic.storage is not None else arithmetic.format
    if not isinstance(kept_in, Format | str):
        raise ValueError(  # noqa: TRY004  the storage is a right one, but says nothing of a tolerance
            f"statistics stored as {kept_in} given: there is no default tolerance for them; set tolerance"
        )
    return 2 * max(named(form).unit_roundoff for form in (kept_in, arithmetic.format))


def _draws(arithmetic: Arithmetic | Format | str | None) -> bool:
    """Whether what is computed again may come out otherwise."""
    if arithmetic is None:
        return False
    whole = as_arithmetic(arithmetic)
    return "stochastic" in {whole.rounding, *(other.rounding for _, other in whole.overrides)}


def _without_dead_entries(H: jax.Array, m: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The problem without the entries of H_ii = 0: their edges cut, one on the diagonal, no momentum."""
    dead = H[0] == 0  # a NaN is not dead: it is to be seen in the step
    n, band = len(dead), H.shape[0] - 1
    ends = jnp.stack([jnp.roll(dead, -k) for k in range(1, band + 1)]) if band else jnp.zeros((0, n), bool)
    H = logdet.cut(H, ~(dead | ends) & logdet.within(n, band))
    H = jnp.concatenate([jnp.where(dead, jnp.ones_like(H[:1]), H[:1]), H[1:]])
    return H, jnp.where(dead, jnp.zeros_like(m), m)


def _finite_direction(
    H: jax.Array, m: jax.Array, tolerance: jax.Array, chunk: int | None, through: windows.Interpreter | None
) -> jax.Array:
    """The stabilized direction, with vertices of infinite D at the ends of segments."""
    if len(H) == 1 or chunk is None or m.size <= chunk:
        return logdet.apply(_finite_factor(H, tolerance), m)
    return _finite_direction_in_chunks(H, m, tolerance, chunk, through)


def _finite_factor(H: jax.Array, tolerance: jax.Array) -> logdet.Factor:
    """The stabilized projection: vertices of infinite D end segments, and where 1 / H_ii is infinite D is zero."""
    factor, kept = logdet.stabilize(H, tolerance)
    infinite = jnp.isinf(factor.D)
    factor = jax.lax.cond(
        jnp.any(infinite),
        lambda: logdet.project(H, kept & logdet.edges_between_cuts(infinite, len(kept))),
        lambda: factor,
    )
    return factor._replace(D=jnp.where(jnp.isinf(factor.D), jnp.zeros_like(factor.D), factor.D))


def _finite_direction_in_chunks(
    H: jax.Array, m: jax.Array, tolerance: jax.Array, chunk: int, through: windows.Interpreter | None
) -> jax.Array:
    """``apply(_finite_factor(H, tolerance), m)`` from windows of the chain; between sweeps only the cuts are kept."""
    band, n = H.shape[0] - 1, H.shape[1]
    margins, judgment = (band, band), windows.Judgment()
    judge = windows.stages_of(through, partial(windows.judge_window, judgment=judgment), scalars=(tolerance,))
    inside = windows.inside_of(n, margins)
    H, m = windows.surround(H, margins), windows.surround(m, margins)
    cuts = jnp.zeros_like(inside)
    for stages in (judge, windows.stages_of(through, _cut_infinite)):  # judged by pivots one pass is the fixed point
        cuts = windows.sweep(stages, (H, cuts), inside, margins, chunk)[0] & inside
    reduced = partial(windows.reduce_window, judgment=judgment)
    stages = windows.stages_of(through, reduced, _without_infinite, *windows.DIRECTION)
    return windows.sweep(stages, (H, m, cuts), inside, margins, chunk)[0][band : band + n]


def _cut_infinite(H: jax.Array, cuts: jax.Array, inside: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A program of windows: the cuts, and the vertices whose D on the graph that is cut would be infinite."""
    del inside  # beyond the chain D is one
    band = H.shape[0] - 1
    H, cuts = H[:, band:], cuts[band:]
    size = H.shape[1] - band
    _, s = regress(H, logdet.edges_between_cuts(cuts, band)[:, :size])
    return cuts[:size] | jnp.isinf(1 / s), jnp.zeros(0, bool)


def _without_infinite(psi: jax.Array, s: jax.Array, *others: Any) -> tuple:
    """A stage of windows: an infinite s in the place of one whose reciprocal is, so that D is zero."""
    D = 1 / s
    return psi, jnp.where(jnp.isinf(D), jnp.abs(D), s), *others


def _one_for_zero(x: jax.Array) -> jax.Array:
    """A divisor of zeros that leaves them zero."""
    return jnp.where(x == 0, jnp.ones_like(x), x)
