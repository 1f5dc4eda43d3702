"""Emulated scatters that add or multiply: several updates of one element are combined in a stated order."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic import exact_sums, orders
from precond_lab.arithmetic.machine import Machine, State
from precond_lab.interpreter import Operation, Walk


def scatter_combine(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """`x.at[i].add(u)` and its kin, every result rounded to the format of results.

    The terms of an element are the element itself, then its updates in row-major order of the indices. They are
    combined in the arithmetic's order; "exact" products are taken as sequential.
    """
    x, indices, updates = operands
    combine, neutral = {
        "scatter-add": (machine.add, 0.0),
        "scatter-sub": (machine.add, 0.0),
        "scatter-mul": (machine.multiply, 1.0),
    }[operation.name]
    if operation.name == "scatter-sub":
        updates = -updates
    numbers, mode = operation.params["dimension_numbers"], operation.params["mode"]
    rows, order = math.prod(indices.shape[:-1]), machine.arithmetic.order
    if order == "exact" and combine == machine.add:
        return _exact(machine, operation, [x, indices, updates], state)
    if operation.params["unique_indices"] or rows == 1 or rows * x.size * updates.size == 0:
        result, state = _apply(combine, neutral, numbers, mode, x, indices, updates, state)
        return [result], state
    numbers, indices = _batch_as_index(numbers, indices)
    window = tuple(numbers.update_window_dims)
    terms = orders.leading(updates, tuple(i for i in range(updates.ndim) if i not in window))
    single = numbers._replace(update_window_dims=tuple(range(1, 1 + len(window))))
    indices = indices.reshape(rows, indices.shape[-1])
    if order not in {"sequential", "exact"}:
        targets = _targets(single, mode, x, indices, terms)
        result, state = by_element(machine, combine, neutral, x, targets, terms, rows + 1, state)
        return [result], state

    def step(carry: tuple, row: tuple) -> tuple:
        return _apply(combine, neutral, single, mode, carry[0], row[0][None], row[1][None], carry[1]), None

    (result, state), _ = lax.scan(step, (x, state), (indices, terms))
    return [result], state


def _apply(
    combine: Callable,
    neutral: float,
    numbers: Any,
    mode: Any,
    x: jax.Array,
    indices: jax.Array,
    updates: jax.Array,
    state: State,
) -> tuple[jax.Array, State]:
    """Combine all updates at once, where no two are of one element."""
    place = partial(lax.scatter, scatter_indices=indices, dimension_numbers=numbers, mode=mode, unique_indices=True)
    touched = place(jnp.zeros(x.shape, bool), updates=jnp.ones(updates.shape, bool))
    combined, state = combine(x, place(jnp.full_like(x, neutral), updates=updates), state)
    return jnp.where(touched, combined, x), state


def _exact(machine: Machine, operation: Operation, operands: list, state: State) -> tuple[list, State]:
    x, indices, updates = operands
    names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
    scatter = partial(lax.scatter_add, **{name: operation.params[name] for name in names})

    def add(terms: list) -> jax.Array:
        return scatter(terms[0], indices, terms[1])

    format, down = machine.arithmetic.result, machine.arithmetic.rounding == "down"
    total = exact_sums.exact_total(add, [lax.stop_gradient(x), lax.stop_gradient(updates)], format, down=down)
    value, state = machine.settle(total.value, state, "reduce_sum", (total.witness,))
    return [orders.straight_through(lambda x, updates: add([x, updates]), value, x, updates)], state


def _targets(numbers: Any, mode: Any, x: jax.Array, indices: jax.Array, terms: jax.Array) -> jax.Array:
    """Where in the flattened operand every element of the updates [rows, ...] goes; its size where it is dropped."""
    window = iter(terms.shape[1:])
    positions = lax.iota(jnp.int32, x.size).reshape(x.shape)
    gather = lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
    )
    sizes = tuple(1 if i in numbers.inserted_window_dims else next(window) for i in range(x.ndim))
    return lax.gather(positions, indices, gather, sizes, mode=mode, fill_value=x.size)


def by_element(
    machine: Machine,
    combine: Callable,
    neutral: float,
    x: jax.Array,
    targets: jax.Array,
    updates: jax.Array,
    longest: int,
    state: State,
) -> tuple[jax.Array, State]:
    """Combine every element with its updates, in the arithmetic's order.

    The terms are sorted by the element that they belong to, and those of each combine with their neighbors there.

    Args:
        machine: the arithmetic at work.
        combine: `machine.add` or `machine.multiply`.
        neutral: what changes nothing.
        x: values of the machine.
        targets: for each update its position in the flattened x; the size of x where it is dropped.
        updates: values of the machine.
        longest: how many terms an element may have at most, itself included.
        state: the state before.

    Returns:
        An array like x, and the state after.
    """
    order = machine.arithmetic.order
    keys = jnp.concatenate([lax.iota(jnp.int32, x.size), targets.reshape(-1)])
    terms = jnp.concatenate([x.reshape(-1), updates.reshape(-1)])
    if order == "reversed":
        keys, terms = keys[::-1], terms[::-1]
    keys, terms = lax.sort((keys, terms), num_keys=1, is_stable=True)
    position = lax.iota(jnp.int32, keys.size)
    first = jnp.concatenate([jnp.ones(1, bool), keys[1:] != keys[:-1]])
    rank = position - lax.cummax(jnp.where(first, position, 0))

    def absorb(carry: tuple, distance: Any, every: int) -> tuple[jax.Array, State]:
        """Each term whose rank is a multiple of `every` takes in the one that stands `distance` further on."""
        terms, state = carry
        active = (jnp.roll(keys, -distance) == keys) & (position + distance < keys.size)
        active &= (rank % every == 0) & (keys < x.size)
        other = jnp.where(active, jnp.roll(terms, -distance), jnp.asarray(neutral, terms.dtype))
        combined, state = combine(jnp.where(active, terms, jnp.asarray(neutral, terms.dtype)), other, state)
        return jnp.where(active, combined, terms), state

    if order == "pairwise":
        distance = 1
        while distance < longest:
            terms, state = absorb((terms, state), distance, 2 * distance)
            distance *= 2
    else:
        block = min(machine.arithmetic.block or longest, longest)
        for step, stop, every in ((1, block, block), (block, longest, longest)):
            distances = jnp.arange(step, stop, step, dtype=jnp.int32)
            loop = partial(_stepwise, absorb, every)
            (terms, state), _ = lax.scan(loop, (terms, state), distances)
    places = jnp.where(first, keys, x.size)
    return jnp.zeros_like(x.reshape(-1)).at[places].set(terms, mode="drop").reshape(x.shape), state


def _stepwise(absorb: Callable, every: int, carry: tuple, distance: jax.Array) -> tuple:
    return absorb(carry, distance, every), None


def _batch_as_index(numbers: Any, indices: jax.Array) -> tuple[Any, jax.Array]:
    """State the batching dimensions of a scatter as further components of its indices."""
    columns = [
        lax.broadcasted_iota(indices.dtype, (*indices.shape[:-1], 1), axis)
        for axis in numbers.scatter_indices_batching_dims
    ]
    batching = tuple(numbers.operand_batching_dims)
    plain = numbers._replace(
        inserted_window_dims=tuple(sorted((*numbers.inserted_window_dims, *batching))),
        scatter_dims_to_operand_dims=(*numbers.scatter_dims_to_operand_dims, *batching),
        operand_batching_dims=(),
        scatter_indices_batching_dims=(),
    )
    return plain, jnp.concatenate([indices, *columns], axis=-1)
