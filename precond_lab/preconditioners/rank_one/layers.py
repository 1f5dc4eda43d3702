"""The vectors of a layer that Eva needs, from its inputs and its output gradients.

The scale of b is a choice. The gradient of a mean loss by the outputs of one sample carries 1 / batch. The code
released with Eva takes the mean of such rows, so that its b is 1 / batch times the mean over samples, its sigma = |a|^2
|b|^2 1 / batch^2 times theirs, and its correction to the gradient mostly negligible. `mean_loss=True` multiplies by the
batch, which makes b a mean of gradients of single samples, at any batch size; `mean_loss=False` takes the rows as they
are, which is the released convention for a mean loss, and right for a sum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Vectors(NamedTuple):
    """The Kronecker vectors of a layer.

    Attributes:
        a: mean of the inputs, ``[n]``, with a last element of one for the bias.
        b: mean of the output gradients, ``[m]``.
    """

    a: jax.Array
    b: jax.Array


def layer_vectors(
    inputs: jax.Array, output_gradients: jax.Array, *, bias: bool = True, mean_loss: bool = True
) -> Vectors:
    """The means of a batch, over all axes but the last.

    Order: the output gradients times the batch size, the sums, the quotients by the number of rows.

    Args:
        inputs: of the layer, ``[batch, ..., n]``.
        output_gradients: of the loss by the outputs of the layer, before its activation, ``[batch, ..., m]``.
        bias: whether an element of one is appended to a; the gradient of the weights then has the bias in its last
            column.
        mean_loss: whether the loss is a mean over the batch, whose 1 / batch is taken out; False for a sum, and for the
            released convention.

    Returns:
        The vectors. Cost: rows (m + n) flops.

    Raises:
        ValueError: the two have not the same axes but for the last.

    Example:
        >>> import jax.numpy as jnp
        >>> x, y = jnp.array([[1.0], [3.0]]), jnp.array([[0.5], [0.5]])
        >>> [v.tolist() for v in layer_vectors(x, y)]
        [[2.0, 1.0], [1.0]]
        >>> [v.tolist() for v in layer_vectors(x, y, mean_loss=False)]
        [[2.0, 1.0], [0.5]]
    """
    with jax.named_scope("arrays"):
        X, Y = layer_rows(inputs, output_gradients, bias=bias, mean_loss=mean_loss)
        return Vectors(_mean(X), _mean(Y))


def layer_rows(
    inputs: jax.Array, output_gradients: jax.Array, *, bias: bool, mean_loss: bool
) -> tuple[jax.Array, jax.Array]:
    """The rows whose means, or whose mean outer products, are the statistics of a layer.

    Args:
        inputs: ``[batch, ..., n]``.
        output_gradients: ``[batch, ..., m]``.
        bias: whether a one is appended to every input.
        mean_loss: whether the output gradients are multiplied by the batch size.

    Returns:
        Arrays ``[rows, n]`` or ``[rows, n + 1]``, and ``[rows, m]``.

    Raises:
        ValueError: the two have not the same axes but for the last.
    """
    X, Y = jnp.asarray(inputs), jnp.asarray(output_gradients)
    if X.ndim < 2 or X.shape[:-1] != Y.shape[:-1] or not X.size or not Y.size:
        raise ValueError(
            f"inputs of shape {X.shape} given with output gradients of shape {Y.shape}; give [batch, ..., n] and "
            "[batch, ..., m], with the same axes in between"
        )
    if mean_loss:
        with jax.named_scope("scalars"):
            Y = X.shape[0] * Y
    X, Y = X.reshape(-1, X.shape[-1]), Y.reshape(-1, Y.shape[-1])
    return (jnp.concatenate([X, jnp.ones_like(X[:, :1])], axis=1) if bias else X), Y


def convolution_vectors(
    images: jax.Array,
    output_gradients: jax.Array,
    kernel: Sequence[int],
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    bias: bool = True,
    mean_loss: bool = True,
) -> Vectors:
    """The vectors of a convolution, whose gradient is taken as m rows of C height width columns, in this order.

    As the released code has it: the mean image of the batch first, the patches of it that the kernel sees, and their
    mean over positions. Order: sum and quotient over the batch, then over positions; b over both at once.

    Args:
        images: inputs, ``[batch, C, H, W]``.
        output_gradients: ``[batch, m, H', W']``.
        kernel: height and width.
        stride: of the positions, down and across.
        padding: zeros on every side, above and below, left and right.
        bias: whether an element of one is appended to a.
        mean_loss: whether the loss is a mean over the batch, whose 1 / batch is taken out; False for a sum, and for the
            released convention.

    Returns:
        The vectors, a ``[C height width]`` or one longer, b ``[m]``.

    Raises:
        ValueError: shapes do not fit: H' is not (H + 2 padding - height) // stride + 1, or W' alike.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.arange(6.0).reshape(1, 1, 2, 3)
        >>> [v.tolist() for v in convolution_vectors(image, jnp.ones((1, 1, 2, 2)), (1, 2), bias=False)]
        [[2.0, 3.0], [1.0]]
    """
    X, Y = jnp.asarray(images), jnp.asarray(output_gradients)
    if X.ndim != 4 or Y.ndim != 4 or X.shape[0] != Y.shape[0]:
        raise ValueError(
            f"images of shape {X.shape} given with output gradients of shape {Y.shape}; give [batch, C, H, W] and "
            "[batch, m, H', W']"
        )
    places = tuple((X.shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in range(2))
    if Y.shape[2:] != places:
        raise ValueError(
            f"output gradients of {Y.shape[2:]} positions given; a kernel of {tuple(kernel)} with stride "
            f"{tuple(stride)} and padding {tuple(padding)} has {places} on images of {X.shape[2:]}"
        )
    with jax.named_scope("arrays"):
        if mean_loss:
            with jax.named_scope("scalars"):
                Y = X.shape[0] * Y
        b = _mean(jnp.moveaxis(Y, 1, -1).reshape(-1, Y.shape[1]))
        image = jnp.pad(_mean(X), ((0, 0), *((size, size) for size in padding)))
        a = jnp.stack(
            [
                _mean(_seen(image, (i, j), places, stride).reshape(X.shape[1], -1).T)
                for i in range(kernel[0])
                for j in range(kernel[1])
            ],
            axis=1,
        ).reshape(-1)
        return Vectors(jnp.concatenate([a, jnp.ones_like(a[:1])]) if bias else a, b)


def _seen(image: jax.Array, start: Sequence[int], places: Sequence[int], stride: Sequence[int]) -> jax.Array:
    """What one weight of the kernel sees of an image ``[C, H, W]``, at all positions."""
    rows, columns = (
        slice(first, first + (count - 1) * step + 1, step)
        for first, count, step in zip(start, places, stride, strict=True)
    )
    return image[:, rows, columns]


def _mean(X: jax.Array) -> jax.Array:
    """Over the first axis."""
    total = jnp.sum(X, axis=0)
    with jax.named_scope("scalars"):
        return total / X.shape[0]
