"""The deep tanh autoencoder of the optimization literature."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import entr

WIDTHS = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
"""The network of the benchmark: 2,837,314 parameters."""


class Layer(NamedTuple):
    """A dense layer, x -> x kernel + bias.

    Attributes:
        kernel: `[inputs, outputs]`.
        bias: `[outputs]`.
    """

    kernel: jax.Array
    bias: jax.Array


def validate_widths(widths: Sequence[int], pixels: int | None = None) -> tuple[int, ...]:
    """Check the widths of an autoencoder.

    Args:
        widths: From the image, by way of the code in the middle, back to the image.
        pixels: How many pixels an image has, where that is known.

    Returns:
        The widths as a tuple of integers.

    Raises:
        ValueError: If they are fewer than three or even in number, not positive integers, do not read the
            same backwards, or do not begin with the number of pixels.

    >>> validate_widths([784, 100, 30, 100, 784])
    (784, 100, 30, 100, 784)
    """
    widths = tuple(widths)
    wanted = "give an odd number of positive integers that read the same backwards, such as 784, 100, 30, 100, 784"
    if not all(isinstance(width, int | np.integer) and width >= 1 for width in widths):
        raise ValueError(f"widths are {widths}; {wanted}")
    if len(widths) < 3 or len(widths) % 2 == 0 or widths != widths[::-1]:
        raise ValueError(f"widths are {widths}; {wanted}: the code is the one in the middle")
    if pixels is not None and widths[0] != pixels:
        raise ValueError(f"widths are {widths} and the images have {pixels} pixels; begin and end with {pixels}")
    return tuple(int(width) for width in widths)


def initialize(key: jax.Array, widths: Sequence[int] = WIDTHS) -> tuple[Layer, ...]:
    """Draw the parameters: Glorot-uniform kernels and zero biases.

    Each entry of a kernel `[m, n]` is uniform on [-a, a] with a = sqrt(6 / (m + n)).

    Args:
        key: A JAX random key.
        widths: See `validate_widths`, which raises ValueError where they are wrong.

    Returns:
        One layer for each two neighboring widths, in float32.

    References:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
    """
    widths = validate_widths(widths)
    draw = jax.nn.initializers.glorot_uniform()
    keys = jax.random.split(key, len(widths) - 1)
    return tuple(
        Layer(draw(k, (m, n), jnp.float32), jnp.zeros(n, jnp.float32))
        for k, m, n in zip(keys, widths[:-1], widths[1:], strict=True)
    )


def reconstruct(params: Sequence[Layer], images: jax.Array) -> jax.Array:
    """Encode images and decode them again.

    Every layer is followed by tanh, but for the code, in the middle, and the output.

    Args:
        params: The layers.
        images: Grey levels in [0, 1], `[N, d]`.

    Returns:
        The logits of the reconstructed grey levels, `[N, d]`.
    """
    return signals(params, images)[-1]


def signals(params: Sequence[Layer], images: jax.Array) -> tuple[jax.Array, ...]:
    """What goes into each layer, and what comes out of the last.

    Args:
        params: The layers; a bias may be `[N, outputs]`, one for each image.
        images: Grey levels in [0, 1], `[N, d]`.

    Returns:
        The inputs of the layers, `[N, inputs]`, the images first, and at the end the logits of `reconstruct`.
    """
    linear = (len(params) // 2 - 1, len(params) - 1)
    x, passed = images, [images]
    for position, layer in enumerate(params):
        # Some devices multiply float32 matrices in a shorter format unless they are told not to.
        x = jnp.matmul(x, layer.kernel, precision=jax.lax.Precision.HIGHEST) + layer.bias
        if position not in linear:
            x = jnp.tanh(x)
        passed.append(x)
    return tuple(passed)


def cross_entropy(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Compute the binary cross-entropy of each pixel against its grey level, in nats.

    With s the logistic function, -x log s(z) - (1 - x) log(1 - s(z)) is evaluated as

        x max(-z, 0) + (1 - x) max(z, 0) + log(1 + exp(-|z|)),

    in which no term is negative, so that nothing cancels, and nothing overflows: for finite z the relative
    error is a few unit roundoffs, however large z is.

    Args:
        logits: z, `[N, d]`, finite.
        images: x, grey levels in [0, 1], `[N, d]`.

    Returns:
        The cross-entropy of each pixel, `[N, d]`.

    >>> float(cross_entropy(jnp.float32(-1000), jnp.float32(1)))
    1000.0
    """
    # |z| as the sum of its two parts, one of them zero: the derivative of jnp.abs at zero is one-sided.
    positive, negative = jnp.maximum(logits, 0), jnp.maximum(-logits, 0)
    return images * negative + (1 - images) * positive + jnp.log1p(jnp.exp(-(positive + negative)))


def loss(params: Sequence[Layer], images: jax.Array) -> jax.Array:
    """Compute the reconstruction loss: cross-entropy, summed over the pixels and averaged over the images.

    Args:
        params: The layers.
        images: Grey levels in [0, 1], `[N, d]`.

    Returns:
        The loss in nats an image, a scalar. It cannot fall below `entropy_floor`.
    """
    return jnp.mean(jnp.sum(cross_entropy(reconstruct(params, images), images), axis=-1))


def entropy_floor(images: np.ndarray) -> float:
    """Compute the least loss that any reconstruction can reach: the mean entropy of the grey levels.

    Cross-entropy against a grey level x is least where the reconstruction is x itself, and is then
    -x log x - (1 - x) log(1 - x). A loss says something about a network only as excess over this floor.

    Args:
        images: Grey levels in [0, 1], `[N, d]`.

    Returns:
        The floor in nats an image, computed in float64.

    >>> round(entropy_floor(np.array([[0.0, 0.5, 1.0]])), 6)
    0.693147
    """
    x = np.asarray(images, np.float64)
    return float(np.mean(np.sum(entr(x) + entr(1 - x), axis=-1)))
