"""Emulated sums over windows, and their gradients."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic import orders, scatter_sums, sums
from precond_lab.arithmetic.machine import Machine, State
from precond_lab.interpreter import Operation, Walk


def window_places(
    size: int, window: int, stride: int, padding: tuple[int, int], base_dilation: int = 1, window_dilation: int = 1
) -> np.ndarray:
    """Where the elements of the windows along one axis are.

    Args:
        size: of the axis.
        window: length of a window.
        stride: from one window to the next.
        padding: how much the axis is extended at its two ends; negative: shortened.
        base_dilation: distance of the elements of the axis.
        window_dilation: distance of the elements of a window.

    Returns:
        Indices, [windows, window]; `size` where there is no element.
    """
    spread = (size - 1) * base_dilation + 1 if size else 0
    extent = (window - 1) * window_dilation + 1
    windows = max(0, (spread + sum(padding) - extent) // stride + 1)
    places = np.arange(windows)[:, None] * stride + np.arange(window)[None] * window_dilation - padding[0]
    inside = (places >= 0) & (places < spread) & (places % base_dilation == 0)
    return np.where(inside, places // base_dilation, size).astype(np.int32)


def take_windows(x: jax.Array, places: Sequence[np.ndarray], axes: Sequence[int], fill: Any) -> jax.Array:
    """The elements of windows.

    Args:
        x: any array.
        places: of the windows along each axis, as from `window_places`.
        axes: the axes, ascending.
        fill: what stands where there is no element.

    Returns:
        An array in which each of the axes has become two, [windows, window].
    """
    for axis, where in reversed(list(zip(axes, places, strict=True))):
        padded = jnp.pad(x, [(0, int(i == axis)) for i in range(x.ndim)], constant_values=fill)
        x = jnp.take(padded, where, axis=axis, mode="clip")
    return x


def _terms(operation: Operation, x: jax.Array, fill: Any) -> jax.Array:
    """The elements of all windows in row-major order, [elements, windows...]."""
    params, ndim = operation.params, x.ndim
    ones = (1,) * ndim
    places = [
        window_places(*one)
        for one in zip(
            x.shape,
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            params.get("base_dilation") or ones,
            params.get("window_dilation") or ones,
            strict=True,
        )
    ]
    windows = take_windows(x, places, range(ndim), fill)
    return orders.leading(windows, tuple(range(1, 2 * ndim, 2)))


def reduce_window_sum(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """The sum of every window, its elements counted in row-major order; padding is zeros and has a place in it."""
    x = operands[0]
    value, state = orders.plain_sum(machine, _terms(operation, lax.stop_gradient(x), -0.0), state)
    return [orders.straight_through(lambda x: operation.bind(x)[0], value, x)], state


def reduce_window(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """`lax.reduce_window` with an operation of the program's own, from the initial value, which is its padding too."""
    half = len(operands) // 2
    terms = [_terms(operation, x, init) for x, init in zip(operands[:half], operands[half:], strict=True)]
    return sums.fold_program(machine, operation, terms, operands[half:], state, walk)


def select_and_scatter_add(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """The gradient of max pooling: every element of the source goes to the first extreme of its window.

    What comes to one place is added in the arithmetic's order, in row-major order of the source, and every sum rounded
    to the format of results.
    """
    source, x = operands
    params = operation.params
    largest = params["select_prim"].name in {"ge", "gt"}
    values = _terms(operation, lax.stop_gradient(x), -jnp.inf if largest else jnp.inf)
    targets = _terms(operation, lax.iota(jnp.int32, x.size).reshape(x.shape), x.size)

    def select(best: tuple, other: tuple) -> tuple:
        stays = params["select_prim"].bind(best[0], other[0]) | (best[1] < x.size) & (other[1] == x.size)
        return tuple(jnp.where(stays, a, b) for a, b in zip(best, other, strict=True)), None

    (_, place), _ = lax.scan(select, (values[0], targets[0]), (values[1:], targets[1:]))
    overlap = int(
        np.prod([-(-w // s) for w, s in zip(params["window_dimensions"], params["window_strides"], strict=True)])
    )
    zeros = jnp.zeros(x.shape, x.dtype)
    add = partial(scatter_sums.by_element, machine, machine.add, 0.0)
    value, state = add(zeros, place, lax.stop_gradient(source), overlap + 1, state)
    linear = partial(_transpose_of_windows, shape=x.shape, place=place)
    return [orders.straight_through(linear, value, source)], state


def _transpose_of_windows(source: jax.Array, shape: tuple[int, ...], place: jax.Array) -> jax.Array:
    flat = jnp.zeros(int(np.prod(shape)), source.dtype)
    return flat.at[place.reshape(-1)].add(source.reshape(-1), mode="drop").reshape(shape)
