"""Emulated convolutions: matrix products of patches."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic import orders, products
from precond_lab.arithmetic.machine import Machine, State
from precond_lab.arithmetic.windows import take_windows, window_places
from precond_lab.interpreter import Operation, Walk

PRODUCT = (((2,), (1,)), ((0,), (0,)))


def conv_general_dilated(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """A convolution with any padding, strides, dilations, groups and layout.

    Each result is a sum of products like an element of a matrix product, with the same roundings. The terms are counted
    over the window in row-major order, and at each of its places over the input features. Padding, and what lies
    between the elements of a dilated operand, is zeros, which are multiplied and have their place in the order.
    """
    x, kernel = operands
    params = operation.params
    numbers = params["dimension_numbers"]
    shape = operation.outputs[0].shape
    if math.prod(shape) * kernel.size == 0:
        return [jnp.zeros(shape, machine.carrier)], state
    image = jnp.transpose(lax.stop_gradient(x), numbers.lhs_spec)  # [batch, feature, place...]
    weights = jnp.transpose(lax.stop_gradient(kernel), numbers.rhs_spec)  # [output feature, feature, place...]
    left, places = _patches(image, weights.shape, operation)
    groups = left.shape[0]
    right = jnp.moveaxis(weights.reshape(groups, -1, *weights.shape[1:]), 2, -1)  # [group, output, place..., feature]
    outputs = right.shape[1]
    right = jnp.swapaxes(right.reshape(groups, outputs, left.shape[2]), 1, 2)
    value, state = products.product(machine, left, right, PRODUCT, state)
    value = value.reshape(groups, -1, math.prod(places), outputs)
    value = jnp.transpose(value, (1, 0, 3, 2)).reshape(value.shape[1], groups * outputs, *places)
    value = jnp.transpose(value, [numbers.out_spec.index(i) for i in range(value.ndim)])
    value, state = products.cast(machine, value, operation.outputs[0].dtype, state)
    names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers", "feature_group_count")
    linear = partial(
        lax.conv_general_dilated,
        batch_group_count=params["batch_group_count"],
        precision=lax.Precision.HIGHEST,
        **{name: params[name] for name in names},
    )
    return [orders.straight_through(linear, value, x, kernel)], state


def _patches(image: jax.Array, kernel: tuple[int, ...], operation: Operation) -> tuple[jax.Array, tuple[int, ...]]:
    """What each result is a product with, [group, batch and places, window and features], and the places' shape."""
    params = operation.params
    batch, features, *sizes = image.shape
    axes = zip(
        sizes,
        kernel[2:],
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    )
    where = [window_places(*axis) for axis in axes]
    windows = take_windows(image, where, range(2, image.ndim), 0.0)
    outer = [*range(2, windows.ndim, 2)]
    windows = jnp.transpose(windows, (0, *outer, *range(3, windows.ndim, 2), 1))
    shape = tuple(len(one) for one in where)
    count = math.prod(kernel[2:])
    if params["batch_group_count"] > 1:
        windows = windows.reshape(params["batch_group_count"], -1, count * features)
        return windows, shape
    groups = params["feature_group_count"]
    windows = windows.reshape(batch * math.prod(shape), count, groups, features // groups)
    return jnp.transpose(windows, (2, 0, 1, 3)).reshape(groups, batch * math.prod(shape), -1), shape
