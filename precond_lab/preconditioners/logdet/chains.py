"""The chain of a tensor: the order in which its entries become the vertices of a graph."""

import jax
import jax.numpy as jnp


def chain(tensor: jax.Array, *, input_axis: int = 0) -> jax.Array:
    """A parameter tensor as one chain, in which neighbors are neighboring inputs of the same output unit.

    A JAX kernel is ``[in, out]``: its input axis 0 is moved last and the result read row by row. This is
    the order of SONew's code (whose PyTorch weights are ``[out, in]``).

    Args:
        tensor: parameters or gradient of any shape.
        input_axis: the axis of inputs; ignored for a scalar.

    Returns:
        ``[n]``.

    Example:
        >>> chain(jnp.array([[1, 2, 3], [4, 5, 6]])).tolist()
        [1, 4, 2, 5, 3, 6]
    """
    tensor = jnp.asarray(tensor)
    return (jnp.moveaxis(tensor, input_axis, -1) if tensor.ndim > 1 else tensor).reshape(-1)


def unchain(vector: jax.Array, shape: tuple[int, ...], *, input_axis: int = 0) -> jax.Array:
    """The tensor of which :func:`chain` made this vector.

    Args:
        vector: ``[n]``.
        shape: of the tensor.
        input_axis: as given to :func:`chain`.

    Returns:
        A tensor of that shape.
    """
    if len(shape) < 2:
        return vector.reshape(shape)
    moved = list(shape)
    moved.append(moved.pop(input_axis))
    return jnp.moveaxis(vector.reshape(moved), -1, input_axis)
