"""Emulated matrix products: every product and partial sum rounded, in the order that the arithmetic names."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic import exact_sums, formats, orders, product_loops
from precond_lab.arithmetic.blocks import Integer
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.integer_products import integer_terms, quantized_dot_general
from precond_lab.arithmetic.machine import Machine, State, is_float
from precond_lab.arithmetic.orders import Steps
from precond_lab.arithmetic.specification import CARRIERS, Arithmetic, within
from precond_lab.arithmetic.unit_products import unit_product
from precond_lab.interpreter import Operation, Walk

TERMS = 2**24
"""How many products are held at once where they are added pairwise."""


def dot_general(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """A matrix product, batched, over any axes; the terms are counted in row-major order of the contracted axes.

    The operands are rounded to the arithmetic's `operands`. Then each product is rounded to the accumulator's format,
    and added to the partial sum, which is rounded to it again; with `fma` the product is added unrounded. Pairwise, a
    fused multiply-add combines the two terms of a pair, of which the first is rounded. "exact" rounds the exact sum of
    the exact products once, to the format of results.
    """
    dimensions = operation.params["dimension_numbers"]
    a, b = operands
    value, state = product(machine, lax.stop_gradient(a), lax.stop_gradient(b), dimensions, state)
    value, state = cast(machine, value, operation.outputs[0].dtype, state)
    if is_float(a.dtype) and is_float(b.dtype):
        linear = partial(lax.dot_general, dimension_numbers=dimensions, precision=lax.Precision.HIGHEST)
        value = orders.straight_through(linear, value, a, b)
    return [value], state


def product(machine: Machine, a: jax.Array, b: jax.Array, dimensions: Any, state: State) -> tuple[jax.Array, State]:
    """The product of two arrays as `lax.dot_general` has it.

    Args:
        machine: the arithmetic at work.
        a: values of the machine, or integers.
        b: values of the machine, or integers.
        dimensions: the dimension numbers of `lax.dot_general`.
        state: the state before.

    Returns:
        The product, whose numbers are of the format of results, and the state after.
    """
    arithmetic = machine.arithmetic
    if not isinstance(arithmetic.operands, Format | None):
        return _quantized(machine, a, b, dimensions, state)
    a, state = _operand(machine, a, state)
    b, state = _operand(machine, b, state)
    if _lanes_are_last(arithmetic, a, b, dimensions):
        return _over_lanes(machine, a, b, dimensions, state)
    left, right, shape = _matrices(a, b, dimensions)
    if left.shape[0] * math.prod(shape) == 0:
        return jnp.zeros(shape, machine.carrier), state
    value, state = matrix_product(machine, left, right, state)
    return value.reshape(shape), state


def _quantized(machine: Machine, a: jax.Array, b: jax.Array, dimensions: Any, state: State) -> tuple[jax.Array, State]:
    """Blocks of numbers that share scales: integers are multiplied exactly, others as any numbers in the carrier."""
    arithmetic = machine.arithmetic
    # An exact sum must reach as far as its terms, which are any numbers of the carrier.
    wide = CARRIERS[machine.carrier.name] if arithmetic.order == "exact" and arithmetic.unit is None else None
    plain = replace(machine, arithmetic=replace(arithmetic, operands=wide))

    def dot(a: jax.Array, b: jax.Array, dimensions: Any) -> jax.Array:
        nonlocal state
        value, state = product(plain, a, b, dimensions, state)
        return value

    record: Any = arithmetic.operands
    x, y = (x if is_float(x.dtype) else x.astype(machine.carrier) for x in (a, b))
    if isinstance(record, Integer) and record.block and arithmetic.order != "exact":
        return _sum_of_blocks(machine, integer_terms(x, y, dimensions, record), state)
    value = quantized_dot_general(x, y, dimensions, record, dot)
    return machine.settle(value, state, "dot_general", (value,))


def _sum_of_blocks(machine: Machine, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Scaled integer sums, one for each block of the contracted index, are added up as the terms of any sum are."""
    accumulator = machine.arithmetic.accumulator
    terms, state = machine.settle(terms, state, "dot_general", (terms,), accumulator)
    inner = replace(machine.arithmetic, format=accumulator, accumulate=None, operands=None)
    total, state = orders.plain_sum(replace(machine, arithmetic=inner, wide=machine.carrier.name), terms, state)
    return orders.finish(machine, total, state)


def matrix_product(machine: Machine, left: jax.Array, right: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Sum the products over the first axis, in the arithmetic's order or as its matrix unit does.

    Args:
        machine: the arithmetic at work.
        left: values of the machine, [k, batch, m] with k >= 1.
        right: likewise, [k, batch, n].
        state: the state before.

    Returns:
        The sums, [batch, m, n], rounded to the format of results, and the state after.
    """
    arithmetic = machine.arithmetic
    if arithmetic.unit is not None:
        return _by_unit(machine, left, right, state)
    if arithmetic.order == "exact":
        among = [f for f in (arithmetic.result, arithmetic.operands) if isinstance(f, Format)]
        exact = partial(exact_sums.exact_dot, among=among, down=arithmetic.rounding == "down")
        total = _batched_by_vmap(exact)(left, right)
        return machine.settle(total.value, state, "dot_general", (total.witness,))
    loop = product_loops.loop_of(arithmetic, counting=machine.counting)
    slender = min(left.shape[2], right.shape[2]) < product_loops.SLENDER
    worthwhile = left.size * right.shape[2] >= product_loops.WORTHWHILE and not slender
    if loop is not None and worthwhile and arithmetic.order in {"sequential", "reversed"}:
        total, state = _fast(machine, loop, left, right, state)
    elif arithmetic.order == "pairwise":
        total, state = _in_panels(machine, left, right, state)
    else:
        total, state = _general(machine, left, right, state)
    return orders.finish(machine, total, state)


def _by_unit(machine: Machine, left: jax.Array, right: jax.Array, state: State) -> tuple[jax.Array, State]:
    """As the arithmetic's matrix unit does; what happens inside of it is one operation to the counters of events."""
    arithmetic, unit = machine.arithmetic, machine.arithmetic.unit
    assert unit is not None
    operands = arithmetic.operands if isinstance(arithmetic.operands, Format) else arithmetic.result
    total = _batched_by_vmap(partial(unit_product, unit, format=operands))(left, right)
    kind = [jnp.sum(jnp.where(jnp.isfinite(x), jnp.zeros_like(x), jnp.abs(x)), axis=0) for x in (left, right)]
    witness = kind[0][:, :, None] + kind[1][:, None, :]
    return machine.settle(total, state, "dot_general", (witness,))


def _operand(machine: Machine, x: jax.Array, state: State) -> tuple[jax.Array, State]:
    if not is_float(x.dtype):
        x, state = machine.enter(x, state, "dot_general")
    format = machine.arithmetic.operands
    if not isinstance(format, Format) or within(machine.arithmetic.result, format):
        return x, state
    return machine.settle(x, state, "dot_general", (x,), format)


def cast(machine: Machine, x: jax.Array, dtype: Any, state: State) -> tuple[jax.Array, State]:
    """Round results to the dtype that the program asks for, where that is narrower than the format of results.

    Args:
        machine: the arithmetic at work.
        x: values of the machine.
        dtype: the dtype of the results in the program.
        state: the state before.

    Returns:
        Values of the machine, and the state after.
    """
    if not is_float(dtype):
        return x.astype(dtype), state
    target, result = formats.named(jnp.dtype(dtype).name), machine.arithmetic.result
    if within(result, target):
        return x, state
    x, state = machine.settle(x, state, "dot_general", (x,), target)
    return (x, state) if within(target, result) else machine.settle(x, state, "dot_general", (x,))


def _matrices(a: jax.Array, b: jax.Array, dimensions: Any) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """The operands as [k, batch, m] and [k, batch, n], and the shape of the product."""
    (a_contract, b_contract), (a_batch, b_batch) = dimensions
    a_free = [i for i in range(a.ndim) if i not in {*a_contract, *a_batch}]
    b_free = [i for i in range(b.ndim) if i not in {*b_contract, *b_batch}]
    batch = tuple(a.shape[i] for i in a_batch)
    shape = (*batch, *(a.shape[i] for i in a_free), *(b.shape[i] for i in b_free))
    k = math.prod(a.shape[i] for i in a_contract)
    m, n = math.prod(a.shape[i] for i in a_free), math.prod(b.shape[i] for i in b_free)
    left = jnp.transpose(a, (*a_contract, *a_batch, *a_free)).reshape(k, math.prod(batch), m)
    right = jnp.transpose(b, (*b_contract, *b_batch, *b_free)).reshape(k, math.prod(batch), n)
    return left, right, shape


def _all_pairs(term: tuple) -> tuple[jax.Array, jax.Array]:
    return term[0][..., :, None], term[1][..., None, :]


def _steps(machine: Machine, pairs: Callable[[tuple], tuple[jax.Array, jax.Array]] = _all_pairs) -> Steps:
    """One step is a rank-one update of the whole result, so that the compiler vectorizes over the result."""
    accumulator, fma = machine.arithmetic.accumulator, machine.arithmetic.fma

    def multiply(term: tuple, state: State) -> tuple[jax.Array, State]:
        return machine.multiply(*pairs(term), state, accumulator)

    def join(a: jax.Array, b: jax.Array, state: State) -> tuple[jax.Array, State]:
        return machine.add(a, b, state, accumulator)

    def step(total: jax.Array, term: tuple, state: State) -> tuple[jax.Array, State]:
        if fma:
            return machine.fma(*pairs(term), total, state, accumulator)
        product, state = multiply(term, state)
        return join(total, product, state)

    return Steps(multiply, step, join)


def _lanes_are_last(arithmetic: Arithmetic, a: jax.Array, b: jax.Array, dimensions: Any) -> bool:
    """Whether many small products lie side by side along the last axis of both operands, to be summed in sequence."""
    contracted, (a_batch, b_batch) = dimensions
    in_sequence = arithmetic.order == "sequential" and arithmetic.unit is None and arithmetic.rounding != "stochastic"
    last = (tuple(a_batch), tuple(b_batch)) == ((a.ndim - 1,), (b.ndim - 1,))
    return in_sequence and last and all(len(axes) == 1 for axes in contracted) and a.size * b.size > 0


def _over_lanes(machine: Machine, a: jax.Array, b: jax.Array, dimensions: Any, state: State) -> tuple[jax.Array, State]:
    """In the order of the operands' own axes, as moving the last one to the front would cost more than the sums."""
    ((a_axis,), (b_axis,)), _ = dimensions
    rows, columns = a.ndim - 2, b.ndim - 2

    def term(i: Any) -> tuple[jax.Array, jax.Array]:
        left = lax.dynamic_index_in_dim(a, i, a_axis, keepdims=False)
        return left, lax.dynamic_index_in_dim(b, i, b_axis, keepdims=False)

    def pairs(term: tuple) -> tuple[jax.Array, jax.Array]:
        left, right = term
        return jnp.expand_dims(left, range(rows, rows + columns)), jnp.expand_dims(right, range(rows))

    steps = _steps(machine, pairs)

    def step(carry: tuple, i: jax.Array) -> tuple:
        return steps.step(carry[0], term(i), carry[1]), None

    start = steps.start(term(0), state)
    (total, state), _ = lax.scan(step, start, jnp.arange(1, a.shape[a_axis], dtype=jnp.int32))
    total, state = orders.finish(machine, total, state)
    return jnp.moveaxis(total, -1, 0), state


def _general(machine: Machine, left: jax.Array, right: jax.Array, state: State) -> tuple[jax.Array, State]:
    return orders.fold(machine.arithmetic, _steps(machine), (left, right), state)


def _in_panels(machine: Machine, left: jax.Array, right: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Some rows of the result after the others, as all products of those rows are held at once."""
    (k, batch, m), n = left.shape, right.shape[2]
    rows = max(1, TERMS // (k * batch * n))
    if rows >= m:
        return _general(machine, left, right, state)
    whole = m - m % rows
    split = jnp.moveaxis(left[:, :, :whole].reshape(k, batch, -1, rows), 2, 0)

    def panel(state: State, rows: jax.Array) -> tuple:
        total, state = _general(machine, rows, right, state)
        return state, total

    state, totals = lax.scan(panel, state, split)
    parts = [jnp.moveaxis(totals, 0, 1).reshape(batch, whole, n)]
    if whole < m:
        last, state = _general(machine, left[:, :, whole:], right, state)
        parts.append(last)
    return jnp.concatenate(parts, axis=1), state


def _fast(
    machine: Machine, loop: product_loops.Loop, left: jax.Array, right: jax.Array, state: State
) -> tuple[jax.Array, State]:
    """By the fast loop where that is right, which depends on the operands, else by the general one."""
    backwards = machine.arithmetic.order == "reversed"

    def run(left: jax.Array, right: jax.Array, state: State) -> tuple[jax.Array, State]:
        forwards = (left[::-1], right[::-1]) if backwards else (left, right)
        total, good = product_loops.attempt(loop, *forwards)

        def keep(left: jax.Array, right: jax.Array, state: State) -> tuple[jax.Array, State]:
            return total.astype(machine.carrier), state

        return lax.cond(good, keep, partial(_general, machine), left, right, state)

    if machine.counting:
        return run(left, right, state)
    # Nothing else is threaded through rounding to nearest. Under vmap a condition would become a choice, and both
    # loops would run: the lanes become members of the batch instead.
    together = _batched_by_vmap(lambda left, right: run(left, right, State(None, None))[0])
    return together(left, right), state


def _batched_by_vmap(run: Callable) -> Callable:
    """A function of [k, batch, m] and [k, batch, n] that takes on the lanes of a vmap as more of a batch.

    Its conditions stay conditions then, and its slices slices, which JAX can lower when x64 mode has ended.
    """
    wrapped = jax.custom_batching.custom_vmap(run)

    def rule(size: int, batched: list, left: jax.Array, right: jax.Array) -> tuple[Any, Any]:
        def merge(x: jax.Array, moves: bool) -> jax.Array:
            x = x if moves else jnp.broadcast_to(x, (size, *x.shape))
            return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], size * x.shape[2], x.shape[3])

        result = _batched_by_vmap(run)(merge(left, batched[0]), merge(right, batched[1]))
        result = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), result)
        return result, jax.tree.map(lambda _: True, result)

    wrapped.def_vmap(rule)
    return wrapped
