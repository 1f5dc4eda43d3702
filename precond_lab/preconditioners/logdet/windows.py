r"""The programs of windows of a chain, which :mod:`precond_lab.preconditioners.logdet.chunks` runs.

A window has b vertices (or more) before and after those that it is for. Where it reaches beyond the chain it holds
vertices that are alone: H_ii = 1 and no edges.

A program is a row of stages, each of which takes what the one before returns. The last returns two arrays: one with an
entry for each vertex that the window is for, and one of flags.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.logdet.band import cut, edges_between_cuts, within
from precond_lab.preconditioners.logdet.projection import factor_of, regress, regress_and_judge
from precond_lab.preconditioners.logdet.stabilization import Judgment, regress_and_fail

# Programs, for the m vertices in the middle of a window

Stage = Callable[..., tuple]
"""From arrays, or None, to such."""

Stages = tuple[Stage, ...]

Interpreter = Callable[[Callable], Callable]
"""Makes a program compute otherwise, as an emulation does."""


def project_window(H: jax.Array, g: jax.Array, inside: jax.Array | None) -> tuple:
    """The regressions of the m vertices and of those before them.

    Args:
        H: ``[b+1, b+m+b]``, with zeros for the edges that lead out of the chain.
        g: ``[b+m+b]``.
        inside: bool ``[b+m+b]``, which vertices are of the chain; None for all.

    Returns:
        psi ``[b, b+m]``, s ``[b+m]``, g, inside, and no flags.
    """
    return *regress(H), g, inside, jnp.zeros(0, bool)


def reduce_window(
    H: jax.Array, g: jax.Array, cuts: jax.Array, inside: jax.Array | None, *, judgment: Judgment
) -> tuple:
    """The same on a graph that is cut.

    Args:
        H: ``[b+1, b+m+b]``.
        g: ``[b+m+b]``.
        cuts: bool ``[b+m+b]``, the failed vertices.
        inside: as for :func:`project_window`.
        judgment: which edges they lose, and the form of s.

    Returns:
        As :func:`project_window`.
    """
    band = H.shape[0] - 1
    kept = edges_between_cuts(cuts, band, judgment.rule)[:, : H.shape[1] - band]
    psi, s, _ = regress_and_judge(H, kept, form=judgment.form)
    return psi, s, g, inside, jnp.zeros(0, bool)


def judge_window(
    H: jax.Array, cuts: jax.Array, inside: jax.Array | None, tolerance: jax.Array, *, judgment: Judgment
) -> tuple[jax.Array, jax.Array]:
    """A pass of Algorithm 3.

    Args:
        H: ``[b+1, b+m+b]``.
        cuts: bool ``[b+m+b]``, the vertices that have failed before.
        inside: as for :func:`project_window`.
        tolerance: a scalar.
        judgment: how a vertex is judged.

    Returns:
        The cuts at the m vertices after the pass, and at which of them it drops an edge, both bool ``[m]``.
    """
    band = H.shape[0] - 1
    m = H.shape[1] - 2 * band
    kept = edges_between_cuts(cuts[band:], band, judgment.rule)[:, :m]
    _, _, fails = regress_and_fail(H[:, band:], kept, tolerance, judgment)
    own = slice(band, band + m)
    if inside is not None:
        fails &= inside[own]
    # An edge between distant vertices is in the graph only if those between their neighbors are: so a vertex that was
    # no cut before has an edge to lose exactly if one of these is left.
    stands = ~cuts if inside is None else inside & ~cuts
    follower, leader = stands[band + 1 : band + m + 1], stands[band - 1 : band + m - 1]
    if judgment.rule == "literal":
        linked = follower | leader
    else:
        linked = jnp.ones(m, bool) if inside is None else inside[band + 1 : band + m + 1]
    return cuts[own] | fails, fails & ~cuts[own] & linked


def stabilize_window(
    H: jax.Array, g: jax.Array, inside: jax.Array | None, tolerance: jax.Array, *, judgment: Judgment
) -> tuple:
    """The regressions after Algorithm 3 on a chain, where one pass is the fixed point.

    Args:
        H: ``[2, 1+m+2]``.
        g: ``[1+m+2]``.
        inside: bool ``[1+m+2]``, or None.
        tolerance: a scalar.
        judgment: how a vertex is judged.

    Returns:
        psi ``[1, 1+m]``, s ``[1+m]``, g and inside ``[1+m+1]``, and as flags which of the vertices lose the edge to the
            next one, bool ``[m]``.
    """
    psi, s, fails = regress_and_fail(H, None, tolerance, judgment)
    if inside is not None:
        fails &= inside[:-1]
    kept = edges_between_cuts(fails, 1, judgment.rule)[:, :-1]
    # As on a whole chain the selections come before the reciprocal.
    psi, s = jnp.where(kept, psi[:, :-1], jnp.zeros_like(psi[:, :-1])), jnp.where(kept[0], s[:-1], H[0, :-2])
    dropped = ~kept[0, 1:] if inside is None else ~kept[0, 1:] & inside[2:-1]
    return psi, s, g[:-1], None if inside is None else inside[:-1], dropped


def substitute(psi: jax.Array, s: jax.Array, g: jax.Array, inside: jax.Array | None, flags: jax.Array) -> tuple:
    """The first two factors of :func:`apply`.

    Args:
        psi: ``[b, b+m]``.
        s: ``[b+m]``.
        g: ``[b+m+b]``.
        inside: bool ``[b+m+b]``, or None.
        flags: as they are.

    Returns:
        L ``[b, b+m]``, z = D L^T g ``[b+m]``, and the flags.
    """
    L, D = factor_of(psi, s)
    band, length = L.shape
    y = g[:length]
    for k in range(1, band + 1):
        y = y + L[k - 1] * g[k : k + length]
    z = D * y
    if inside is not None:
        # Before its beginning the chain hands on zeros, whatever stands in g.
        stands = inside[:length]
        L, z = jnp.where(stands, L, jnp.zeros_like(L)), jnp.where(stands, z, jnp.zeros_like(z))
    return L, z, flags


def spread(L: jax.Array, z: jax.Array, flags: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The last factor.

    Args:
        L: ``[b, b+m]``.
        z: ``[b+m]``.
        flags: as they are.

    Returns:
        u = L z ``[m]``, and the flags.
    """
    band, length = L.shape
    u = z[band:]
    for k in range(1, band + 1):
        u = u + L[k - 1, band - k : length - k] * z[band - k : length - k]
    return u, flags


DIRECTION: Stages = (substitute, spread)
"""What follows upon regressions."""


# Surroundings


def surround(x: jax.Array, margins: tuple[int, int]) -> jax.Array:
    """An array of a chain with the vertices that stand before its beginning and after its end.

    Args:
        x: H ``[b+1, n]``, or ``[n]``.
        margins: how many vertices before, and after.

    Returns:
        H with further vertices that are alone, or a vector with zeros.
    """
    # Not by concatenation, which XLA on a CPU computes number by number.
    surrounded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0)] * (x.ndim - 1) + [(*margins, 0)])
    if x.ndim == 1:
        return surrounded
    diagonal = (jnp.arange(x.shape[0]) == 0)[:, None]
    return jnp.where(diagonal & ~inside_of(x.shape[1], margins), jnp.ones((), x.dtype), surrounded)


def inside_of(n: int, margins: tuple[int, int]) -> jax.Array:
    """Which vertices of a surrounded chain are its own.

    Args:
        n: its length.
        margins: as for :func:`surround`.

    Returns:
        bool ``[before + n + after]``.
    """
    place = jnp.arange(sum(margins) + n) - margins[0]
    return (place >= 0) & (place < n)


def closed(H: jax.Array) -> jax.Array:
    """H without what is stored past the end of its diagonals.

    Args:
        H: ``[b+1, n]``.

    Returns:
        ``[b+1, n]``.
    """
    return cut(H, within(H.shape[1], H.shape[0] - 1))


# Sweeps


def stages_of(through: Interpreter | None, first: Stage, *rest: Stage, scalars: tuple[jax.Array, ...] = ()) -> Stages:
    """A program, as it is to be run.

    Left to itself XLA makes one loop of all stages, and computes z anew wherever it is used. That is fast for a native
    program. An interpreted one has so many operations for each of the program's that it would take ten times as long:
    its stages are kept apart.

    Args:
        through: makes every stage compute otherwise; None for one native stage.
        first: a function of windows and the scalars.
        rest: what follows.
        scalars: further arguments.

    Returns:
        The stages, functions of windows alone.
    """
    if through is None:
        return (lambda *windows: reduce(lambda values, stage: stage(*values), rest, first(*windows, *scalars)),)
    begin = through(first)
    return lambda *windows: begin(*windows, *scalars), *map(through, rest)


def sweep(
    stages: Stages, arrays: tuple[jax.Array, ...], inside: jax.Array | None, margins: tuple[int, int], chunk: int
) -> tuple[jax.Array, jax.Array]:
    """What a program gives between the margins of long arrays.

    A pipeline: at step i stage k takes the window i - k, which stage k - 1 has handed on in the step before, and the
    window i + 1 is read. A window that was used in the very step that reads it would be read again at every use, one
    number at a time: on a CPU that takes four times as long for b = 4.

    Args:
        stages: of the program.
        arrays: each ``[..., before + n + after]``; the first result has the dtype of the second of them.
        inside: bool ``[before + n + after]``, the last argument of the first stage, or None.
        margins: before and after.
        chunk: how many vertices between the margins of a window.

    Returns:
        The first result in the middle of an array of the same length, whose margins say nothing, and whether a flag is
        set anywhere.
    """
    before, total = margins[0], arrays[1].shape[0]
    n = total - sum(margins)
    chunk = min(chunk, n)
    size, windows, delay = chunk + sum(margins), -(-n // chunk), len(stages) - 1

    def start(i: jax.Array | int) -> jax.Array:  # the last window covers again what others have covered
        return jnp.clip(i * chunk, 0, total - size)

    def read(i: jax.Array | int) -> tuple:
        return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start(i), size, x.ndim - 1), (*arrays, inside))

    def step(i: jax.Array, state: tuple) -> tuple:
        inputs, result, flagged = state
        *outputs, (own, flags) = [stage(*values) for stage, values in zip(stages, inputs, strict=True)]
        done = i - delay  # negative while the pipeline fills up: what comes out then is written over by window 0
        result = lax.dynamic_update_slice_in_dim(result, own, start(done) + before, 0)
        return (read(i + 1), *outputs), result, flagged | (jnp.any(flags) & (done >= 0))

    inputs = [read(0)]
    for stage in stages[:-1]:
        shapes = jax.eval_shape(stage, *inputs[-1])
        inputs.append(jax.tree.map(partial(_blank, arrays[1]), shapes))
    state = tuple(inputs), _blank(arrays[1], arrays[1]), _blank(arrays[1], jax.ShapeDtypeStruct((), bool))
    _, result, flagged = lax.fori_loop(0, windows + delay, step, state)
    return result, flagged


def _blank(source: jax.Array, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros like an array, made from another and divided among its devices."""
    zero = jnp.zeros_like(source[0], like.dtype)
    return jnp.broadcast_to(zero, like.shape) if like.size else jnp.zeros(like.shape, like.dtype)


def sweep_chain(
    stages: Stages, arrays: tuple[jax.Array, ...], margins: tuple[int, int], chunk: int
) -> tuple[jax.Array, jax.Array]:
    """What a program gives for a whole chain.

    Args:
        stages: of the program; the last argument of the first one is `inside`.
        arrays: H first, ``[b+1, n]``, then what is ``[n]``.
        margins: before and after, the second not the smaller one.
        chunk: how many vertices between the margins of a window, at least 1.

    Returns:
        The first result ``[n]``, and whether a flag is set anywhere.

    """
    (before, after), n = margins, arrays[0].shape[1]
    if not after:  # nothing depends on a neighbor: compiled, the whole is one loop that keeps nothing
        own, flags = _through_all(stages, *arrays, None)
        return own, jnp.any(flags)
    if n <= max(chunk, before + 2 * after):
        whole = (closed(arrays[0]), *arrays[1:])
        own, flags = _through_all(stages, *(surround(x, margins) for x in whole), inside_of(n, margins))
        return own, jnp.any(flags)
    result, flagged = sweep(stages, arrays, None, margins, chunk)
    # The first and the last vertices, from two short chains that go on after and before them.
    first = [x[..., : 2 * after] for x in (*arrays, jnp.ones(n, bool))]
    last = [x[..., n - before - after :] for x in (*arrays, jnp.ones(n, bool))]
    last[0] = closed(last[0])
    ends = [jnp.stack([surround(x, (before, 0)), surround(y, (0, after))]) for x, y in zip(first, last, strict=True)]
    own, flags = jax.vmap(partial(_through_all, stages))(*ends)
    result = result.at[:before].set(own[0, :before]).at[n - after :].set(own[1])
    return result, flagged | jnp.any(flags)


def _through_all(stages: Stages, *values: Any) -> tuple[jax.Array, jax.Array]:
    own, flags = reduce(lambda values, stage: stage(*values), stages, values)
    return own, flags
