"""Emulated sums and products of many terms: sequential, every partial result rounded."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic.machine import Machine, State
from precond_lab.arithmetic.specification import within
from precond_lab.interpreter import Operation, Walk


def _leading(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The reduced axes first and flattened: [k, ...]."""
    kept = [i for i in range(x.ndim) if i not in axes]
    k = math.prod(x.shape[i] for i in axes)
    return jnp.transpose(x, (*axes, *kept)).reshape(k, *(x.shape[i] for i in kept))


def _fold(combine: Any, terms: jax.Array, empty: float, state: State) -> tuple[jax.Array, State]:
    """Combine the slices of [k, ...] one after the other, from the first to the last."""
    if terms.shape[0] == 0:
        return jnp.full(terms.shape[1:], empty, terms.dtype), state

    def step(carry: tuple, term: jax.Array) -> tuple:
        total, state = combine(carry[0], term, carry[1])
        return (total, state), None

    (total, state), _ = lax.scan(step, (terms[0], state), terms[1:])
    return total, state


def reduce_sum(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Sum over axes, sequential in row-major order of the reduced axes."""
    accumulator = machine.arithmetic.accumulator
    terms, state = _as_terms(machine, operands[0], state)
    terms = _leading(terms, tuple(sorted(operation.params["axes"])))
    total, state = _fold(lambda a, b, s: machine.add(a, b, s, accumulator), terms, 0.0, state)
    return _finish(machine, total, state)


def _as_terms(machine: Machine, x: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Numbers of the format of results as terms of a sum: rounded where the accumulator does not hold them."""
    accumulator = machine.arithmetic.accumulator
    if within(machine.arithmetic.result, accumulator):
        return x, state
    return machine.settle(x, state, "reduce_sum", (x,), accumulator)


def reduce_prod(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Product over axes, sequential, every partial product rounded to the format of results."""
    terms = _leading(operands[0], tuple(sorted(operation.params["axes"])))
    total, state = _fold(machine.multiply, terms, 1.0, state)
    return [total], state


def _finish(machine: Machine, total: jax.Array, state: State) -> tuple[list, State]:
    """Round a finished sum from the accumulator's format to that of results."""
    if machine.arithmetic.accumulator == machine.arithmetic.result:
        return [total], state
    total, state = machine.settle(total, state, "reduce_sum", (total,))
    return [total], state


def cumulative(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Cumulative sum or product along an axis; partial sums are kept in the accumulator's format."""
    axis, reverse = operation.params["axis"], operation.params["reverse"]
    if operands[0].shape[axis] == 0:
        return list(operands), state
    product = operation.name == "cumprod"
    x, state = (operands[0], state) if product else _as_terms(machine, operands[0], state)
    terms = jnp.moveaxis(x, axis, 0)
    format = machine.arithmetic.result if product else machine.arithmetic.accumulator
    combine = machine.multiply if product else machine.add

    def step(carry: tuple, term: jax.Array) -> tuple:
        total, state = combine(carry[0], term, carry[1], format)
        return (total, state), total

    first, rest = (terms[-1], terms[:-1]) if reverse else (terms[0], terms[1:])
    (_, state), partials = lax.scan(step, (first, state), rest, reverse=reverse)
    parts = [partials, first[None]] if reverse else [first[None], partials]
    totals = jnp.moveaxis(jnp.concatenate(parts), 0, axis)
    return ([totals], state) if product else _finish(machine, totals, state)


def dot_general(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Matrix product, sequential in the contracted index: product rounded, then added to the partial sum and rounded.

    One step of the scan is a rank-one update of the whole result, so that the compiler vectorizes over the result.
    """
    a, b = operands
    (a_contract, b_contract), (a_batch, b_batch) = operation.params["dimension_numbers"]
    a_free = [i for i in range(a.ndim) if i not in {*a_contract, *a_batch}]
    b_free = [i for i in range(b.ndim) if i not in {*b_contract, *b_batch}]
    batch = tuple(a.shape[i] for i in a_batch)
    shape = (*batch, *(a.shape[i] for i in a_free), *(b.shape[i] for i in b_free))
    k = math.prod(a.shape[i] for i in a_contract)
    m, n = math.prod(a.shape[i] for i in a_free), math.prod(b.shape[i] for i in b_free)
    left = jnp.transpose(a, (*a_contract, *a_batch, *a_free)).reshape(k, *batch, m, 1)
    right = jnp.transpose(b, (*b_contract, *b_batch, *b_free)).reshape(k, *batch, 1, n)
    if k == 0:
        return [jnp.zeros(shape, a.dtype)], state
    accumulator = machine.arithmetic.accumulator

    def step(carry: tuple, pair: tuple) -> tuple:
        product, state = machine.multiply(pair[0], pair[1], carry[1], accumulator)
        total, state = machine.add(carry[0], product, state, accumulator)
        return (total, state), None

    first, state = machine.multiply(left[0], right[0], state, accumulator)
    (total, state), _ = lax.scan(step, (first, state), (left[1:], right[1:]))
    return _finish(machine, total.reshape(shape), state)


def scatter_combine(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """`x.at[i].add(u)` and its kin: the updates are applied one index after the other, each result rounded.

    Where the indices are known to be unique, all updates are combined at once.
    """
    x, indices, updates = operands
    numbers, mode = operation.params["dimension_numbers"], operation.params["mode"]
    combine, neutral = {
        "scatter-add": (machine.add, 0.0),
        "scatter-sub": (lambda a, b, s: machine.add(a, -b, s), 0.0),
        "scatter-mul": (machine.multiply, 1.0),
    }[operation.name]

    def apply(numbers: Any, x: jax.Array, indices: jax.Array, updates: jax.Array, state: State) -> tuple:
        place = partial(lax.scatter, scatter_indices=indices, dimension_numbers=numbers, mode=mode, unique_indices=True)
        touched = place(jnp.zeros(x.shape, bool), updates=jnp.ones(updates.shape, bool))
        combined, state = combine(x, place(jnp.full_like(x, neutral), updates=updates), state)
        return jnp.where(touched, combined, x), state

    rows = math.prod(indices.shape[:-1])
    if operation.params["unique_indices"] or rows == 1:
        result, state = apply(numbers, x, indices, updates, state)
        return [result], state
    numbers, indices = _batch_as_index(numbers, indices)
    window = tuple(numbers.update_window_dims)
    terms = _leading(updates, tuple(i for i in range(updates.ndim) if i not in window))[:, None]
    single = numbers._replace(update_window_dims=tuple(range(1, 1 + len(window))))

    def step(carry: tuple, row: tuple) -> tuple:
        return apply(single, carry[0], row[0], row[1], carry[1]), None

    (result, state), _ = lax.scan(step, (x, state), (indices.reshape(rows, 1, indices.shape[-1]), terms))
    return [result], state


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
