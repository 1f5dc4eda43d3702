"""What the layers of the autoencoder see and send back, step by step of its training.

A layer maps its input x to x kernel + bias. Its activations are a = (x, 1) ``[n]``, with the one that the bias is
multiplied by, and its output gradients b ``[m]`` are the derivatives of the loss by what it maps to, before tanh. By
the chain rule the gradient of the weights, (kernel, bias) transposed, is the mean over the minibatch of b a^T.

Two conventions for b are in use, a factor of the batch size apart. "sample" takes the loss of each image by itself, so
that b has the same size whatever the batch, and its mean is the gradient of the bias. "batch" takes the loss of the
minibatch, a mean, as a framework's backward pass hands it out: every b has a factor of 1 / batch_size, and so has their
mean.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import gallery
from precond_lab.training import autoencoder
from precond_lab.training.autoencoder import WIDTHS, Layer
from precond_lab.training.curves import curves
from precond_lab.training.idx import Images
from precond_lab.training.stream import Step, observed_stream

Convention = Literal["sample", "batch"]
Side = Literal["activations", "output_gradients"]


class Observation(NamedTuple):
    """One layer at one minibatch.

    Attributes:
        activations: a, with the one of the bias at the end, `[batch_size, inputs + 1]`, in float32.
        output_gradients: b by the convention "sample", `[batch_size, outputs]`, in float32.
    """

    activations: jax.Array
    output_gradients: jax.Array


class LayerVectors(NamedTuple):
    """What Eva takes of one layer.

    Attributes:
        G: The gradient of the minibatch's loss by the weights, bias last, `[outputs, inputs + 1]`.
        a: The mean of the activations over the minibatch, `[inputs + 1]`.
        b: The mean of the output gradients, `[outputs]`.
    """

    G: np.ndarray
    a: np.ndarray
    b: np.ndarray


@jax.jit
def observe(params: tuple[Layer, ...], batch: jax.Array) -> tuple[Observation, ...]:
    """Look at every layer.

    A bias of its own for each image makes the output gradients of single images derivatives by the biases.

    Args:
        params: The layers.
        batch: Grey levels, `[batch_size, d]`.

    Returns:
        One observation for each layer.
    """
    count = batch.shape[0]
    ones = jnp.ones((count, 1), batch.dtype)
    biases = [jnp.broadcast_to(layer.bias, (count, layer.bias.size)) for layer in params]

    def total(biases: list[jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        own = [Layer(layer.kernel, bias) for layer, bias in zip(params, biases, strict=True)]
        *inputs, logits = autoencoder.signals(own, batch)
        return jnp.sum(autoencoder.cross_entropy(logits, batch)), tuple(inputs)

    gradients, inputs = jax.grad(total, has_aux=True)(biases)
    return tuple(Observation(jnp.concatenate([x, ones], axis=1), b) for x, b in zip(inputs, gradients, strict=True))


def layer_stream(
    images: Images | np.ndarray,
    widths: Sequence[int] = WIDTHS,
    *,
    steps: int,
    batch_size: int = 1000,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Iterator[tuple[Step, tuple[Observation, ...]]]:
    """Train the autoencoder as `gradient_stream` does, and look at every layer before each update.

    The steps are those of `gradient_stream` with the same arguments, bit for bit.

    Args:
        images: Grey levels in [0, 1], `[N, d]`.
        widths: Widths of the layers, the first and the last of them d.
        steps: How many steps.
        batch_size: Images in a minibatch, at most N.
        learning_rate: Of Adam.
        seed: Of the first parameters and of the order of the images.

    Returns:
        The steps, each with one observation for each layer. The cost is twice that of `gradient_stream`.

    Raises:
        ValueError: If the arguments do not fit together. Raised at once, not at the first step.
    """
    return observed_stream(
        images,
        widths,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        observe=observe,
    )


def vectors(
    step: Step, observations: Sequence[Observation], layer: int, *, convention: Convention = "sample"
) -> LayerVectors:
    """What Eva takes of one layer at one step.

    Args:
        step: Of the training.
        observations: Of the same step, as `layer_stream` yields them.
        layer: Which layer, from 0.
        convention: Of the output gradients; "batch" divides their mean by the batch size.

    Returns:
        The gradient and the two means, in float64.

    Raises:
        ValueError: For a layer or a convention that there is not.
    """
    _check_layer(layer, len(observations))
    gradient, seen = step.gradients[layer], observations[layer]
    G = np.vstack([np.asarray(gradient.kernel, np.float64), np.asarray(gradient.bias, np.float64)]).T
    a, b = (np.mean(np.asarray(x, np.float64), axis=0) for x in seen)
    return LayerVectors(G, a, _by_convention(b, convention, len(seen.activations)))


def vector_stream(
    steps: int,
    n: int | None = None,
    *,
    side: Side,
    layer: int,
    each: Literal["mean", "sample"] = "mean",
    convention: Convention = "sample",
    images: Images | np.ndarray | None = None,
    widths: Sequence[int] | None = None,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> np.ndarray:
    """One vector of one layer from each step of a training.

    Args:
        steps: How many steps, and vectors.
        n: Their length, checked where it is given; without `widths` it makes the network: widths d, h, h / 4, h, d with
            the h that gives layer 1 n activations, or layer 0 n output gradients.
        side: Which vectors.
        layer: Of which layer, from 0.
        each: Their mean over the minibatch, or that of its first image.
        convention: Of the output gradients; "batch" divides by the batch size.
        images: Grey levels in [0, 1], `[N, d]`; 1000 images of CURVES when None.
        widths: Of the network; made from n when None.
        batch_size: Images in a minibatch.
        learning_rate: Of Adam.
        seed: Of the first parameters and of the order of the images.

    Returns:
        `[steps, n]` of float64.

    Raises:
        ValueError: If the arguments do not fit together.
    """
    if side not in Observation._fields or each not in {"mean", "sample"}:
        raise ValueError(f"side is {side!r} and each {each!r}; give {' or '.join(Observation._fields)}, mean or sample")
    images = curves(1000) if images is None else images
    pixels = np.shape(images.pixels if isinstance(images, Images) else images)[-1]
    widths = _network(side, n, pixels) if widths is None else autoencoder.validate_widths(widths)
    _check_layer(layer, len(widths) - 1)
    length = widths[layer] + 1 if side == "activations" else widths[layer + 1]
    if n not in {None, length}:
        raise ValueError(f"n is {n}, but the {side} of layer {layer} of widths {widths} have length {length}")
    V = np.empty((steps, length))
    stream = layer_stream(images, widths, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    for t, (_, observations) in enumerate(stream):
        rows = np.asarray(getattr(observations[layer], side), np.float64)
        V[t] = np.mean(rows, axis=0) if each == "mean" else rows[0]
    return V if side == "activations" else _by_convention(V, convention, batch_size)


def activations(steps: int, n: int | None = None, *, layer: int = 1, seed: int = 0, **options: Any) -> np.ndarray:
    """The activations of a layer along a training, the one of the bias at the end.

    Args:
        steps: How many.
        n: Their length; see `vector_stream`.
        layer: Of which layer.
        seed: Of the training.
        **options: Of `vector_stream`.

    Returns:
        `[steps, n]` of float64.
    """
    return vector_stream(steps, n, side="activations", layer=layer, seed=seed, **options)


def output_gradients(steps: int, n: int | None = None, *, layer: int = 0, seed: int = 0, **options: Any) -> np.ndarray:
    """The output gradients of a layer along a training.

    Args:
        steps: How many.
        n: Their length; see `vector_stream`.
        layer: Of which layer.
        seed: Of the training.
        **options: Of `vector_stream`, the convention among them.

    Returns:
        `[steps, n]` of float64.
    """
    return vector_stream(steps, n, side="output_gradients", layer=layer, seed=seed, **options)


STREAMS: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType({
    **gallery.STREAMS,
    "activations": activations,
    "output_gradients": output_gradients,
})
"""The streams of the gallery, and those of a training: each a function of steps, n, its own parameters, and a seed."""


def _network(side: Side, n: int | None, pixels: int) -> tuple[int, ...]:
    if n is None:
        raise ValueError("neither n nor widths given; give the length of the vectors, or the widths of the network")
    hidden = n - 1 if side == "activations" else n
    if hidden < 1:
        raise ValueError(f"n is {n}; activations have length 2 at least, output gradients 1")
    return pixels, hidden, max(hidden // 4, 1), hidden, pixels


def _check_layer(layer: int, count: int) -> None:
    if not 0 <= layer < count:
        raise ValueError(f"layer is {layer}; the network has layers 0 to {count - 1}")


def _by_convention(b: np.ndarray, convention: Convention, batch_size: int) -> np.ndarray:
    if convention not in {"sample", "batch"}:
        raise ValueError(f"convention is {convention!r}; give sample or batch")
    return b if convention == "sample" else b / batch_size
