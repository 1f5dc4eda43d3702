"""Running averages of vectors or of any arrays, in both conventions of their weight.

An exponential average is x <- (1 - w) x + w y for a new sample y. Papers on K-FAC call 1 - w, the weight of what was
there already, the decay; the code released with Eva calls w itself the decay of its statistics (0.95, so that what was
there keeps a twentieth). Functions here take one of `new_weight` and `old_weight` by name, and nothing else.

In a format of unit roundoff u the convex form stands still where w |y - x| is below u |x| / 2 or so, as does the
incremental one: with an old weight of 0.99 a bfloat16 average never moves by a third. The compensated form keeps what
each addition loses, and moves.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Weight = jax.Array | float


class Average(NamedTuple):
    """The state of a running average.

    Attributes:
        value: the average, of any shape.
        lost: what the last addition lost, of the same shape; the compensated form adds it to the next one, and the sum
            of the two is its average. Zero in the other forms.
    """

    value: jax.Array
    lost: jax.Array


Form = Callable[[Average, jax.Array, jax.Array, jax.Array], Average]
"""Takes the state, the new sample, and the weights of the new and the old; gives the next state."""


def convex(state: Average, sample: jax.Array, new: jax.Array, old: jax.Array) -> Average:
    """The form x <- old x + new y: two products, a sum.

    Args:
        state: of the step before.
        sample: y.
        new: its weight.
        old: the weight of x.

    Returns:
        The next state.
    """
    with jax.named_scope("scalars"):
        kept, added = old * state.value, new * sample
    return Average(kept + added, state.lost)


def incremental(state: Average, sample: jax.Array, new: jax.Array, old: jax.Array) -> Average:
    """The form x <- x + new (y - x): a difference, a product, a sum; x = y is a fixed point in any arithmetic.

    Args:
        state: of the step before.
        sample: y.
        new: its weight.
        old: not used.

    Returns:
        The next state.
    """
    del old
    change = sample - state.value
    with jax.named_scope("scalars"):
        change = new * change
    return Average(state.value + change, state.lost)


def compensated(state: Average, sample: jax.Array, new: jax.Array, old: jax.Array) -> Average:
    """The incremental form with the sum of Kahan and Babuska: what an addition loses is added to the next change.

    The average is x + e. Order: d = (y - x) - e, c = new d + e, the sum s = x + c, and by Knuth's TwoSum what it lost,
    with t = s - x: (x - (s - t)) + (c - t). In a format of unit roundoff u each step errs by about u |c|, not u |x|.

    Args:
        state: of the step before.
        sample: y.
        new: its weight.
        old: not used.

    Returns:
        The next state.
    """
    del old
    x, lost = state
    change = (sample - x) - lost
    with jax.named_scope("scalars"):
        change = new * change
    change = change + lost
    # Without the barriers a compiler may see that nothing is lost in exact arithmetic.
    total = lax.optimization_barrier(x + change)
    moved = lax.optimization_barrier(total - x)
    rest = lax.optimization_barrier(total - moved)
    return Average(total, (x - rest) + (change - moved))


AVERAGES: Mapping[str, Form] = MappingProxyType({
    "convex": convex,
    "incremental": incremental,
    "compensated": compensated,
})
"""The forms by name; equal in exact arithmetic."""


def start_average(value: jax.Array) -> Average:
    """The state that begins with a value.

    Args:
        value: of any shape.

    Returns:
        The state.
    """
    value = jnp.asarray(value)
    return Average(value, jnp.zeros_like(value))


def average_step(
    state: Average,
    sample: jax.Array,
    *,
    new_weight: Weight | None = None,
    old_weight: Weight | None = None,
    form: str = "convex",
) -> Average:
    """One step of a running average.

    Args:
        state: of the step before.
        sample: y, of the shape of the average.
        new_weight: of the sample; the released code of Eva calls it `stat_decay`.
        old_weight: of the average that was, one less the other; exactly one of the two is given.
        form: a name in AVERAGES.

    Returns:
        The next state, with its arrays in the scope "state". Cost: 3 flops an element, 10 for the compensated form.

    Raises:
        ValueError: shapes differ, both weights or none are given, one is not from 0 to 1, or the form is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> average_step(start_average(jnp.zeros(1)), jnp.ones(1), new_weight=0.75).value.tolist()
        [0.75]
        >>> average_step(start_average(jnp.zeros(1)), jnp.ones(1), old_weight=0.75).value.tolist()
        [0.25]
    """
    sample = jnp.asarray(sample)
    if form not in AVERAGES:
        raise ValueError(f"form {form!r} given; known are {', '.join(AVERAGES)}")
    if state.value.shape != sample.shape:
        raise ValueError(f"a sample of shape {sample.shape} given for an average of shape {state.value.shape}")
    with jax.named_scope("arrays"):
        new, old = _weights(new_weight, old_weight)
        value, lost = AVERAGES[form](state, sample, new, old)
        with jax.named_scope("state"):
            return Average(jnp.copy(value), jnp.copy(lost))


def average_vector(
    average: jax.Array,
    sample: jax.Array,
    *,
    new_weight: Weight | None = None,
    old_weight: Weight | None = None,
    form: str = "convex",
) -> jax.Array:
    """One step of a running average that keeps nothing but itself.

    Args:
        average: x, ``[n]``, or of any shape.
        sample: y, of the same shape.
        new_weight: of the sample; the released code of Eva calls it `stat_decay`.
        old_weight: of the average that was, one less the other; exactly one of the two is given.
        form: "convex" or "incremental".

    Returns:
        The next average, of the same shape. Cost: 3 flops an element.

    Raises:
        ValueError: as for `average_step`, and for the compensated form, which needs its state.

    Example:
        >>> import jax.numpy as jnp
        >>> average_vector(jnp.array([1.0, 0.0]), jnp.array([3.0, 4.0]), old_weight=0.75).tolist()
        [1.5, 1.0]
    """
    if form == "compensated":
        raise ValueError("the compensated form has a state: give it to average_step")
    state = start_average(average)
    return average_step(state, sample, new_weight=new_weight, old_weight=old_weight, form=form).value


def _weights(new_weight: Weight | None, old_weight: Weight | None) -> tuple[jax.Array, jax.Array]:
    if (new_weight is None) == (old_weight is None):
        raise ValueError(
            f"new_weight = {new_weight} and old_weight = {old_weight} given; give one of them: the weight of the new "
            "sample, or that of the average that was"
        )
    given = old_weight if new_weight is None else new_weight
    if isinstance(given, int | float) and not 0 <= given <= 1:
        raise ValueError(f"a weight of {given} given; give one from 0 to 1")
    with jax.named_scope("scalars"):
        given = jnp.asarray(given)
        other = 1 - given
    return (other, given) if new_weight is None else (given, other)
