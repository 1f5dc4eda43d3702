"""The loop that the iterative methods share, which knows when to stop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.solution import Iterate


class Scheme(NamedTuple):
    """An iteration.

    Attributes:
        advance: the next state from one, arrays both, or tuples of such.
        error: how far a state is from the fixed point, a scalar. Without rounding a step never makes it more than
            GROWTH times larger, and at least halves one that is below HALF.
        root: X of a state, ``[n, n]``.
        patience: an iteration is at rest that in so many steps has had neither a smaller error nor a larger root than
            ever before; None to go on. :func:`patience` gives it for roots that grow.
    """

    advance: Callable[[Any], Any]
    error: Callable[[Any], jax.Array]
    root: Callable[[Any], jax.Array]
    patience: jax.Array | int | None = None


def patience(n: int, p: jax.Array | int) -> jax.Array | int:
    r"""How long a growing root may seem to stand still, p times the bits of n and a few.

    In few digits \|M - I\|_F, which sums n^2 roundings, need not get below HALF, nor change while small eigenvalues of
    M grow. But from X = I on the root grows in their eigenvectors by a factor of 1 + 1 / p in every step, or more. Its
    largest element is one of the diagonal, to which such an eigenvalue x of X adds x / n at least. In a format of unit
    roundoff u <= 1 / p that growth shows once x / (n p) > u: for x > n, after some p ln n steps.

    Args:
        n: of the matrix.
        p: of the root.

    Returns:
        A number of steps.
    """
    p = min(p, LARGEST) if isinstance(p, int) else jnp.minimum(p, LARGEST)
    return p * n.bit_length() + 4


LARGEST = 2**16
"""A p beyond which no format shows the growth of a step."""


class Progress(NamedTuple):
    """Where an iteration is.

    Attributes:
        state: the last one.
        error: its error.
        best: X of the state with the least error.
        least: that error.
        largest: the largest magnitude of an element of any X so far.
        idle: for how many steps neither of the two has changed, an int32 scalar.
        steps: how many are done, an int32 scalar.
        result: CONVERGED where the iteration has come to rest, DIVERGED where it has grown, MAX_STEPS while it goes on.
    """

    state: Any
    error: jax.Array
    best: jax.Array
    least: jax.Array
    largest: jax.Array
    idle: jax.Array
    steps: jax.Array
    result: jax.Array


HALF = 0.5
"""Below such an error the iteration is in the region of fast convergence, and an error is at rest that the next step
does not halve. Above, it may stand still in few digits while small eigenvalues grow."""

GROWTH = 2.0
"""An error that is so many times the least one, and not in the region of fast convergence, will not come back."""


def begin(scheme: Scheme, state: Any) -> Progress:
    """Where an iteration starts.

    Args:
        scheme: the iteration.
        state: its first.

    Returns:
        The progress.
    """
    error, root = scheme.error(state), scheme.root(state)
    none = jnp.int32(0)
    return Progress(state, error, root, error, jnp.max(jnp.abs(root)), none, none, jnp.int32(Result.MAX_STEPS))


def run(scheme: Scheme, progress: Progress, steps: int | jax.Array) -> Progress:
    """Go on until the iteration is at rest, or grows, or has done its steps.

    It is never the size of the error that stops it: how small that can get depends on the arithmetic, and it is not
    that of the root. Nor is it an error that goes up and down among roundings: only one that leaves the region of fast
    convergence has grown. Where roundings keep it out of that region, the patience of the scheme ends it.

    Args:
        scheme: the iteration; need not be the one that has brought it here, so that the first steps can be done by
            other means than the last.
        progress: so far.
        steps: that are allowed, those so far included.

    Returns:
        The progress.
    """

    def goes_on(progress: Progress) -> jax.Array:
        return (progress.steps < steps) & (progress.result == int(Result.MAX_STEPS))

    def step(progress: Progress) -> Progress:
        state = scheme.advance(progress.state)
        error = scheme.error(state)
        better = error < progress.least  # false for NaN
        root = scheme.root(state)
        least = jnp.where(better, error, progress.least)
        best = jnp.where(better, root, progress.best)
        at_rest = (progress.error < HALF) & ~(error < HALF * progress.error)
        largest, idle = progress.largest, progress.idle
        if scheme.patience is not None:
            size = jnp.max(jnp.abs(root))
            larger = size > largest
            largest = jnp.where(larger, size, largest)
            idle = jnp.where(better | larger, 0, idle + 1)
            at_rest = at_rest | (idle >= scheme.patience)
        grown = ~(error < HALF) & ~(error <= GROWTH * progress.least)  # true for NaN
        result = jnp.where(at_rest, int(Result.CONVERGED), int(Result.MAX_STEPS))
        result = jnp.where(grown, int(Result.DIVERGED), result).astype(jnp.int32)
        return Progress(state, error, best, least, largest, idle, progress.steps + 1, result)

    return lax.while_loop(goes_on, step, progress)


def iterated(early: Scheme, late: Scheme, state: Any, steps: int, switch: int | jax.Array) -> Iterate:
    """An iteration whose first steps may be computed otherwise than the rest.

    The first steps stand in the scope ``early``, as their start should, the others in ``late``, the names by which an
    emulated arithmetic can give each its format: ``Arithmetic("bfloat16", overrides={"early": "float32"})``.

    Args:
        early: the iteration, as its first steps are computed.
        late: as the others are.
        state: where it starts.
        steps: at most so many.
        switch: how many of them are early.

    Returns:
        The best iterate.

    Raises:
        ValueError: for a negative number of steps.
    """
    for given in (steps, switch):
        if isinstance(given, int) and given < 0:
            raise ValueError(f"{given} steps given; a number of steps must not be negative")
    with jax.named_scope("early"):
        progress = run(early, begin(early, state), jnp.minimum(switch, steps))
    # What was at rest in one arithmetic may have further to go in another.
    came_to_rest = progress.result == int(Result.CONVERGED)
    result = jnp.where(came_to_rest, int(Result.MAX_STEPS), progress.result)
    progress = progress._replace(result=result, idle=jnp.int32(0))
    with jax.named_scope("late"):
        progress = run(late, progress, steps)
    # At the last step that is allowed, what is no better than before is not improving.
    stands = (progress.result == int(Result.MAX_STEPS)) & (progress.error > progress.least)
    result = jnp.where(stands, int(Result.CONVERGED), progress.result).astype(jnp.int32)
    return Iterate(progress.best, progress.steps, result)
