"""The orders in which an emulated arithmetic adds up terms.

Terms are numbered from 0 in row-major order of the summed axes. The orders are

sequential
    ``((t0 + t1) + t2) + ...``
reversed
    the same from the last term to the first.
pairwise
    neighbors are added, ``t0 + t1``, ``t2 + t3``, ...; then neighbors among those sums, and so on until one is left. An
    odd one out at the end of a level goes up to the next as it is.
blocked(K)
    every K consecutive terms are added in sequence (the last block may be shorter), then the sums of the blocks are.
exact
    the exact sum is rounded once (not here: see `exact_sums`).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic import exact_sums
from precond_lab.arithmetic.machine import Machine, State
from precond_lab.arithmetic.specification import Arithmetic, within


class Steps(NamedTuple):
    """How terms become a total. Each function works on all elements at once and returns a total and a state.

    Attributes:
        start: `(term, state)`: the sum of one term.
        step: `(total, term, state)`: the sum with one more.
        join: `(total, total, state)`: the sum of two sums.
    """

    start: Callable
    step: Callable
    join: Callable


def leading(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The reduced axes first and flattened: [k, ...].

    Args:
        x: any array.
        axes: which of its axes are reduced, in the order in which their elements are counted.

    Returns:
        An array of the same elements.
    """
    kept = [i for i in range(x.ndim) if i not in axes]
    k = math.prod(x.shape[i] for i in axes)
    return jnp.transpose(x, (*axes, *kept)).reshape(k, *(x.shape[i] for i in kept))


def fold(arithmetic: Arithmetic, steps: Steps, terms: Any, state: State) -> tuple[Any, State]:
    """Add up terms in the arithmetic's order; "exact" is taken as sequential.

    Args:
        arithmetic: has the order.
        steps: what a term is, and how one is added.
        terms: arrays [k, ...] in a pytree, with k >= 1.
        state: the state before.

    Returns:
        The total and the state after.
    """
    if arithmetic.order == "pairwise":
        return _tree(steps, terms, state)
    if arithmetic.block is not None and arithmetic.block < _length(terms):
        return _blocks(steps, terms, arithmetic.block, state)
    return _sequence(steps, terms, state, reverse=arithmetic.order == "reversed")


def cumulate(arithmetic: Arithmetic, join: Callable, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
    """All partial sums, each formed of its terms in the arithmetic's order; "exact" is taken as sequential.

    That takes k steps sequentially or in blocks, log k steps of all sums at once pairwise, and k steps of all sums at
    once in reverse.

    Args:
        arithmetic: has the order.
        join: `(total, total, state)`.
        terms: [k, ...] with k >= 1.
        state: the state before.

    Returns:
        The partial sums, [k, ...], and the state after.
    """
    if arithmetic.order == "pairwise":
        return _tree_of_prefixes(join, terms, state)
    if arithmetic.order == "reversed":
        return _backward_prefixes(join, terms, state)
    if arithmetic.block is not None and arithmetic.block < len(terms):
        return _block_prefixes(join, terms, arithmetic.block, state)
    return _prefixes(join, terms, state)


def _length(terms: Any) -> int:
    return jax.tree.leaves(terms)[0].shape[0]


def _part(terms: Any, *bounds: int | None) -> Any:
    return jax.tree.map(lambda x: x[slice(*bounds)], terms)


def _sequence(steps: Steps, terms: Any, state: State, *, reverse: bool = False) -> tuple[Any, State]:
    k = _length(terms)
    first = jax.tree.map(lambda x: x[k - 1 if reverse else 0], terms)
    rest = _part(terms, None, k - 1) if reverse else _part(terms, 1, None)

    def step(carry: tuple, term: Any) -> tuple:
        return steps.step(carry[0], term, carry[1]), None

    return lax.scan(step, steps.start(first, state), rest, reverse=reverse)[0]


def _blocks(steps: Steps, terms: Any, size: int, state: State) -> tuple[Any, State]:
    k = _length(terms)
    whole = k // size
    blocks = jax.tree.map(lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), terms)
    first, state = _sequence(steps, jax.tree.map(lambda x: x[0], blocks), state)

    def step(carry: tuple, block: Any) -> tuple:
        total, state = _sequence(steps, block, carry[1])
        return steps.join(carry[0], total, state), None

    (total, state), _ = lax.scan(step, (first, state), _part(blocks, 1, None))
    if whole * size < k:
        last, state = _sequence(steps, _part(terms, whole * size, None), state)
        total, state = steps.join(total, last, state)
    return total, state


def _tree(steps: Steps, terms: Any, state: State) -> tuple[Any, State]:
    k = _length(terms)
    totals, state = steps.start(_part(terms, 0, None, 2), state)
    if k > 1:
        pairs, state = steps.step(totals[: k // 2], _part(terms, 1, None, 2), state)
        totals = jnp.concatenate([pairs, totals[k // 2 :]])
    while (k := totals.shape[0]) > 1:
        pairs, state = steps.join(totals[0 : k - 1 : 2], totals[1::2], state)
        totals = jnp.concatenate([pairs, totals[k - k % 2 :]])
    return totals[0], state


def _prefixes(join: Callable, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
    def step(carry: tuple, term: jax.Array) -> tuple:
        total, state = join(carry[0], term, carry[1])
        return (total, state), total

    (_, state), totals = lax.scan(step, (terms[0], state), terms[1:])
    return jnp.concatenate([terms[:1], totals]), state


def _block_prefixes(join: Callable, terms: jax.Array, size: int, state: State) -> tuple[jax.Array, State]:
    k, whole = len(terms), len(terms) // size

    def block(before: jax.Array, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
        inside, state = _prefixes(join, terms, state)
        return join(jnp.broadcast_to(before, inside.shape), inside, state)

    def step(carry: tuple, terms: jax.Array) -> tuple:
        before, state = carry
        totals, state = block(before, terms, state)
        return (totals[-1], state), totals

    first, state = _prefixes(join, terms[:size], state)
    middle = terms[size : whole * size].reshape(whole - 1, size, *terms.shape[1:])
    (last, state), totals = lax.scan(step, (first[-1], state), middle)
    parts = [first, totals.reshape((whole - 1) * size, *terms.shape[1:])]
    if whole * size < k:
        rest, state = block(last, terms[whole * size :], state)
        parts.append(rest)
    return jnp.concatenate(parts), state


def _backward_prefixes(join: Callable, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Sum i starts at term i; after d steps it holds the terms from i - d to i."""
    k = len(terms)
    position = jnp.arange(k, dtype=jnp.int32).reshape(k, *[1] * (terms.ndim - 1))

    def step(carry: tuple, distance: jax.Array) -> tuple:
        totals, state = carry
        active = position >= distance
        added = jnp.where(active, jnp.roll(terms, distance, axis=0), jnp.zeros((), terms.dtype))
        new, state = join(jnp.where(active, totals, jnp.zeros((), terms.dtype)), added, state)
        return (jnp.where(active, new, totals), state), None

    return lax.scan(step, (terms, state), jnp.arange(1, k, dtype=jnp.int32))[0]


def _tree_of_prefixes(join: Callable, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
    """A pairwise sum of n terms consists of whole blocks, one for each bit of n; the smallest are joined first."""
    k = len(terms)
    count = jnp.arange(1, k + 1, dtype=jnp.int32)
    totals, empty = jnp.zeros_like(terms), jnp.ones(k, bool)
    blocks, level = terms, 0
    zero = jnp.zeros((), terms.dtype)

    def over(flags: jax.Array) -> jax.Array:
        return flags.reshape(k, *[1] * (terms.ndim - 1))

    while True:
        here = (count >> level) & 1 == 1
        block = blocks[jnp.maximum((count >> level) - 1, 0)]
        both = over(here & ~empty)
        joined, state = join(jnp.where(both, block, zero), jnp.where(both, totals, zero), state)
        totals = jnp.where(both, joined, jnp.where(over(here & empty), block, totals))
        empty &= ~here
        if len(blocks) < 2:
            return totals, state
        even = len(blocks) - len(blocks) % 2
        blocks, state = join(blocks[0:even:2], blocks[1:even:2], state)
        level += 1


def as_terms(machine: Machine, x: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Numbers of the format of results as terms of a sum: rounded where the accumulator does not hold them."""
    accumulator = machine.arithmetic.accumulator
    if within(machine.arithmetic.result, accumulator):
        return x, state
    return machine.settle(x, state, "reduce_sum", (x,), accumulator)


def finish(machine: Machine, total: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Round a finished sum from the accumulator's format to that of results."""
    if machine.arithmetic.accumulator == machine.arithmetic.result:
        return total, state
    return machine.settle(total, state, "reduce_sum", (total,))


def plain_sum(machine: Machine, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
    """The sum over the first axis of numbers of the format of results, in the arithmetic's order, rounded to it."""
    arithmetic = machine.arithmetic
    if not len(terms):
        return jnp.zeros(terms.shape[1:], terms.dtype), state
    if arithmetic.order == "exact":
        total = exact_sums.exact_sum(terms, arithmetic.result, down=arithmetic.rounding == "down")
        return machine.settle(total.value, state, "reduce_sum", (total.witness,))
    terms, state = as_terms(machine, terms, state)
    total, state = fold(arithmetic, _of_terms(machine), terms, state)
    return finish(machine, total, state)


def _of_terms(machine: Machine) -> Steps:
    join = partial(_add, machine)
    return Steps(lambda term, state: (term, state), join, join)


def _add(machine: Machine, a: jax.Array, b: jax.Array, state: State) -> tuple[jax.Array, State]:
    return machine.add(a, b, state, machine.arithmetic.accumulator)


def straight_through(linear: Callable, value: jax.Array, *operands: jax.Array) -> jax.Array:
    """The value, with the derivative of a function that is linear in each of its operands (or in all together).

    Args:
        linear: a function of the operands, differentiable, without any rounding of its own.
        value: what stands for its result; itself taken as constant.
        operands: floating-point arrays.

    Returns:
        The value.
    """

    @jax.custom_jvp
    def stand_in(value: jax.Array, *operands: jax.Array) -> jax.Array:
        return value

    @stand_in.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple:
        value, *operands = primals
        tangent = jax.jvp(linear, tuple(operands), tangents[1:])[1]
        return stand_in(value, *operands), tangent.astype(value.dtype)

    return stand_in(lax.stop_gradient(value), *operands)
