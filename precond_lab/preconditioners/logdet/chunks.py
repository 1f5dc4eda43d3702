r"""The direction u = X g of the LogDet projection in bounded memory, chunk by chunk of the chain.

What u is at a vertex depends on the b vertices before it and the b after it alone. So a window of the chain, longer
than a chunk by b at both ends, gives the chunk's part of u, and the same numbers as the whole chain does: those of
:func:`apply` with the factor of :func:`project`, or of :func:`iterate`, bit for bit, in any arithmetic that rounds
every operation by itself and without a draw. A compiler that contracts a product and a sum into one operation rounds
once where it does so, which depends on what else it computes there; so does XLA on a CPU, unless it is told to use no
instructions that can (``XLA_FLAGS=--xla_cpu_max_isa=AVX``).

With stabilization the cuts in one window change what is found in the windows before it. A pass goes over the whole
chain, as in :func:`iterate`, and the cuts are all that is kept from one pass to the next: three bytes a vertex.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.preconditioners.logdet.band import Rule, check_banded
from precond_lab.preconditioners.logdet.projection import Form
from precond_lab.preconditioners.logdet.stabilization import Judgment, one_pass_settles, settled, to_fixed_point
from precond_lab.preconditioners.logdet.windows import (
    DIRECTION,
    Interpreter,
    judge_window,
    project_window,
    reduce_window,
    stabilize_window,
    stages_of,
    sweep_chain,
)

CHUNK = 2**13
"""Vertices of a chunk on a CPU: what is computed on the way in a window of so many stays in a core's cache."""

WIDE_CHUNK = 2**25
"""(b + 1)^2 times the vertices of a chunk on other devices: enough to keep all of one busy. What is computed on the way
grows like that, at most."""


class Direction(NamedTuple):
    """The direction after Algorithm 3.

    Attributes:
        u: ``[n]``.
        passes: how often the problem was solved again on a smaller graph, an int32 scalar.
        stable: whether no vertex fails that has an edge left to drop, a bool scalar.
    """

    u: jax.Array
    passes: jax.Array
    stable: jax.Array


# Directions


def direction_in_chunks(
    H: jax.Array, g: jax.Array, *, chunk: int | None = None, through: Interpreter | None = None
) -> jax.Array:
    """The direction of the projection, with nothing to guard it: ``apply(project(H), g)``.

    Args:
        H: ``[b+1, n]``, with a positive diagonal.
        g: ``[n]``.
        chunk: vertices that are computed at a time, at least 1; need not divide n. None for CHUNK where JAX's
            default backend is a CPU, and for WIDE_CHUNK / (b + 1)^2 elsewhere.
        through: makes the programs of windows compute otherwise, such as ``lambda f: precond_lab.emulate(f,
            "bfloat16")``, in a format that is no wider than the dtype of H. An emulation of this function as a whole
            gives the same, but converts all of H at once and takes longer.

    Returns:
        X g, ``[n]``. Storage on the way, under jit: a small multiple of (b+1) (chunk + 2b) numbers; none for b = 0.

    Raises:
        ValueError: if the shapes do not fit, or for a chunk that is not positive.

    Example:
        >>> H = jnp.array([[2.0, 4.0, 1.0, 2.0], [2.0, 0.0, 0.5, 0.0]])
        >>> direction_in_chunks(H, jnp.array([1.0, 2.0, 3.0, 4.0]), chunk=1).tolist()
        [0.0, 0.5, 2.2857143878936768, 1.4285714626312256]
    """
    H, g = check_pair(H, g)
    band = H.shape[0] - 1
    return sweep_chain(stages_of(through, project_window, *DIRECTION), (H, g), (band, band), chunk_here(chunk, band))[0]


def stabilized_in_chunks(
    H: jax.Array,
    g: jax.Array,
    tolerance: jax.Array | float | None = None,
    *,
    rule: Rule = "one_sided",
    relative: bool = True,
    passes: jax.Array | int | None = None,
    form: Form = "pivots",
    chunk: int | None = None,
    through: Interpreter | None = None,
) -> Direction:
    """The direction after Algorithm 3: ``apply(iterate(H, tolerance).factor, g)``.

    Args:
        H: ``[b+1, n]``, with a positive diagonal.
        g: ``[n]``.
        tolerance: as for :func:`iterate`.
        rule: as for :func:`iterate`.
        relative: as for :func:`iterate`.
        passes: as for :func:`iterate`.
        form: as for :func:`iterate`.
        chunk: as for :func:`direction_in_chunks`.
        through: as for :func:`direction_in_chunks`.

    Returns:
        The direction, the number of passes, and whether the fixed point was reached. Cost: for a chain one sweep over
        H; else a sweep for every pass and two more. Storage on the way: that of :func:`direction_in_chunks`, and three
        bytes a vertex where b > 1.

    Raises:
        ValueError: as :func:`iterate` and :func:`direction_in_chunks`.

    Example:
        >>> H = jnp.array([[2.0, 2.0, 3.0], [2.0, 1.0, 0.0]])
        >>> u, passes, stable = stabilized_in_chunks(H, jnp.array([1.0, 3.0, 3.0]), 0.0, chunk=1)
        >>> u[0].item(), passes.item(), stable.item()
        (0.5, 1, True)
    """
    H, g = check_pair(H, g)
    judgment = Judgment(rule, relative, form)
    scalar, limit = settled(H, tolerance, passes, rule, form)
    band, n = H.shape[0] - 1, H.shape[1]
    if band == 0:
        return Direction(direction_in_chunks(H, g, chunk=chunk, through=through), jnp.int32(0), jnp.bool(True))
    if one_pass_settles(band, limit):
        first = partial(stabilize_window, judgment=judgment)
        stages = stages_of(through, first, *DIRECTION, scalars=(scalar,))
        u, dropped = sweep_chain(stages, (H, g), (1, 2), chunk_here(chunk, band))
        return Direction(u, dropped.astype(jnp.int32), jnp.bool(True))
    judge = stages_of(through, partial(judge_window, judgment=judgment), scalars=(scalar,))
    stages = stages_of(through, partial(reduce_window, judgment=judgment), *DIRECTION)
    cuts, done, stable = judged_to_fixed_point(
        lambda cuts: sweep_chain(judge, (H, cuts), (band, band), chunk_here(chunk, band)), jnp.zeros(n, bool), limit
    )
    return Direction(sweep_chain(stages, (H, g, cuts), (band, band), chunk_here(chunk, band))[0], done, stable)


def judged_to_fixed_point(
    sweep: Callable[[jax.Array], tuple[jax.Array, jax.Array]], cuts: jax.Array, limit: jax.Array | int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Repeat a pass of Algorithm 3 until it drops no edge.

    Args:
        sweep: from the cuts that the problem is solved with to those after it, and whether an edge has gone.
        cuts: bool, to start with.
        limit: at most so many solutions after the first; may be traced.

    Returns:
        The cuts that the problem was last solved with, the number of solutions after the first, and whether the last
        one dropped no edge.
    """

    def solve(state: tuple) -> tuple[tuple, jax.Array]:
        after, changed = sweep(state[1])
        return (state[1], after), changed

    (solved, _), done, stable = to_fixed_point(solve, (cuts, cuts), limit)
    return solved, done, stable


def chunk_here(chunk: int | None, band: int, platform: str | None = None) -> int:
    """How many vertices a chunk has.

    Args:
        chunk: as it was given.
        band: number of subdiagonals.
        platform: where the program is to run; None for JAX's default backend.

    Returns:
        That number, or what is right for the platform.

    Raises:
        ValueError: for a chunk that is not positive.
    """
    if chunk is None:
        return CHUNK if (platform or jax.default_backend()) == "cpu" else max(1, WIDE_CHUNK // (band + 1) ** 2)
    if chunk < 1:
        raise ValueError(f"chunks of {chunk} vertices given; a chunk has at least one")
    return chunk


def check_pair(H: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """H and g as arrays, if they fit.

    Args:
        H: ``[b+1, n]``.
        g: ``[n]``.

    Returns:
        The same values.

    Raises:
        ValueError: if they do not.
    """
    H, g = check_banded(H), jnp.asarray(g)
    if g.shape != H.shape[1:]:
        raise ValueError(f"g of shape {g.shape} given; H of shape {H.shape} needs shape {H.shape[1:]}")
    return H, g
