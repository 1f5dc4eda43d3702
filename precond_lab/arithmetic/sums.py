"""Emulated sums and products of many terms, in the order that the arithmetic names."""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from precond_lab.arithmetic import exact_sums, orders
from precond_lab.arithmetic.machine import Machine, State
from precond_lab.arithmetic.orders import Steps
from precond_lab.interpreter import Operation, Walk


def reduce_sum(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Sum over axes; the terms are counted in row-major order of the reduced axes."""
    axes = tuple(sorted(operation.params["axes"]))
    value, state = orders.plain_sum(machine, orders.leading(jax.lax.stop_gradient(operands[0]), axes), state)
    return [orders.straight_through(partial(jnp.sum, axis=axes), value, operands[0])], state


def reduce_prod(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Product over axes, every partial product rounded to the format of results; "exact" is taken as sequential."""
    terms = orders.leading(operands[0], tuple(sorted(operation.params["axes"])))
    if not len(terms):
        return [jnp.ones(terms.shape[1:], terms.dtype)], state
    steps = Steps(lambda term, state: (term, state), machine.multiply, machine.multiply)
    total, state = orders.fold(machine.arithmetic, steps, terms, state)
    return [total], state


def cumulative(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Cumulative sum or product along an axis: each partial one is formed of its terms in the arithmetic's order.

    Partial sums are kept in the accumulator's format. A reverse one starts at the other end of the axis.
    """
    axis, reverse = operation.params["axis"], operation.params["reverse"]
    if operands[0].shape[axis] == 0:
        return list(operands), state
    terms = _along(operands[0], axis, reverse=reverse)
    if operation.name == "cumprod":
        totals, state = orders.cumulate(machine.arithmetic, machine.multiply, terms, state)
        return [_back(totals, axis, reverse=reverse)], state
    totals, state = _cumulative_sum(machine, jax.lax.stop_gradient(terms), state)
    totals = orders.straight_through(partial(jnp.cumsum, axis=0), totals, terms)
    return [_back(totals, axis, reverse=reverse)], state


def _cumulative_sum(machine: Machine, terms: jax.Array, state: State) -> tuple[jax.Array, State]:
    arithmetic = machine.arithmetic
    if arithmetic.order == "exact":
        down = arithmetic.rounding == "down"
        totals = exact_sums.exact_sum(terms, arithmetic.result, cumulative=True, down=down)
        return machine.settle(totals.value, state, "cumsum", (totals.witness,))
    terms, state = orders.as_terms(machine, terms, state)
    add = partial(machine.add, format=arithmetic.accumulator)
    totals, state = orders.cumulate(arithmetic, add, terms, state)
    return orders.finish(machine, totals, state)


def _along(x: jax.Array, axis: int, *, reverse: bool) -> jax.Array:
    """The axis first, from the end at which the sums start."""
    x = jnp.moveaxis(x, axis, 0)
    return x[::-1] if reverse else x


def _back(x: jax.Array, axis: int, *, reverse: bool) -> jax.Array:
    return jnp.moveaxis(x[::-1] if reverse else x, 0, axis)


def cumulative_logsumexp(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """Cumulative log(sum(exp(x))): one term after the other by log(e^a + e^b) = max(a, b) + log1p(exp(-abs(a - b))).

    The difference, the exponential, the logarithm and the sum are each rounded to the format of results.
    """
    axis, reverse = operation.params["axis"], operation.params["reverse"]
    if operands[0].shape[axis] == 0:
        return list(operands), state

    def join(a: jax.Array, b: jax.Array, state: State) -> tuple[jax.Array, State]:
        program = jax.make_jaxpr(_log_of_sum)(a, b)
        (total,), state = walk(program, [a, b], state)
        return total, state

    totals, state = orders.cumulate(machine.arithmetic, join, _along(operands[0], axis, reverse=reverse), state)
    return [_back(totals, axis, reverse=reverse)], state


def _log_of_sum(a: jax.Array, b: jax.Array) -> jax.Array:
    """The logarithm of e^a + e^b; equal infinities have no difference, and are their own result."""
    difference = -jnp.abs(a - jnp.where((a == b) & jnp.isinf(a), jnp.zeros_like(a), b))
    difference = jnp.where((a == b) & jnp.isinf(a), -jnp.abs(a), difference)
    return jnp.maximum(a, b) + jnp.log1p(jnp.exp(difference))


def reduce(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """`lax.reduce` with an operation of the program's own, from the initial value on, one term after the other."""
    half = len(operands) // 2
    axes = tuple(sorted(operation.params["dimensions"]))
    terms = [orders.leading(x, axes) for x in operands[:half]]
    return fold_program(machine, operation, terms, operands[half:], state, walk)


def fold_program(
    machine: Machine, operation: Operation, terms: list, start: list, state: State, walk: Walk
) -> tuple[list, State]:
    """Combine terms by a program of scalars, which is walked as any other, one after the other.

    Args:
        machine: the arithmetic at work.
        operation: it has the program.
        terms: arrays [k, ...].
        start: the scalars to begin with.
        state: the state before.
        walk: walks a program.

    Returns:
        The totals, [...], and the state after.

    Raises:
        UnsupportedPrimitiveError: rounding is stochastic.
    """
    if machine.arithmetic.rounding == "stochastic":
        raise operation.refuse("emulate", "with an operation of its own it draws no random bits; use jnp.sum or a scan")
    none_yet = jax.tree.map(jnp.zeros_like, state.events)

    def scalars(*pair: jax.Array) -> tuple[list, Any]:
        results, after = walk(operation.params["jaxpr"], list(pair), state._replace(events=none_yet))
        return results, after.events

    combine = functools.reduce(lambda f, _: jax.vmap(f), range(terms[0].ndim - 1), scalars)

    def step(carry: tuple, term: list) -> tuple:
        totals, new = combine(*carry[0], *term)
        new = jax.tree.map(lambda old, one: old + jnp.sum(one, axis=tuple(range(one.ndim - old.ndim))), carry[1], new)
        return (totals, new), None

    totals = [jnp.broadcast_to(x, term.shape[1:]) for x, term in zip(start, terms, strict=True)]
    (totals, events), _ = jax.lax.scan(step, (totals, state.events), terms)
    return totals, state._replace(events=events)
