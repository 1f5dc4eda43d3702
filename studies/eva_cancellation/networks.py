"""The two small networks of the training runs, and what Eva sees of their layers."""

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab.preconditioners.rank_one.layers import layer_vectors
from precond_lab.training import Layer, autoencoder, load_images
from precond_lab.training.curves import curves

CLASSES = 10


class Task(NamedTuple):
    """A network and its loss.

    Attributes:
        initialize: from a key and widths, the first layers.
        signals: from layers and inputs, the inputs of every layer and the outputs of the last; a bias may have a row
            for each sample.
        loss: from outputs and targets, the loss of each sample.
    """

    initialize: Callable
    signals: Callable
    loss: Callable[[jax.Array, jax.Array], jax.Array]


class Vectors(NamedTuple):
    """What Eva sees of a layer.

    Attributes:
        G: gradient, outputs by inputs, the bias as a last column, ``[m, n + 1]``.
        a: mean of the inputs with a one for the bias, ``[n + 1]``.
        b: mean of the gradients by the outputs, ``[m]``, of the mean loss.
    """

    G: jax.Array
    a: jax.Array
    b: jax.Array


def normal_layers(key: jax.Array, widths: Sequence[int]) -> tuple[Layer, ...]:
    """Kernels of variance 2 / inputs (He et al., 2015) and biases of zero."""
    draw, pairs = jax.nn.initializers.he_normal(), list(itertools.pairwise(widths))
    keys = jax.random.split(key, len(pairs))
    return tuple(
        Layer(draw(k, pair, jnp.float32), jnp.zeros(pair[1], jnp.float32)) for k, pair in zip(keys, pairs, strict=True)
    )


def class_signals(params: Sequence[Layer], inputs: jax.Array) -> tuple[jax.Array, ...]:
    """As `autoencoder.signals`, with a rectifier after every layer but the last."""
    passed = [inputs]
    for layer in params:
        x = passed[-1] if len(passed) == 1 else jax.nn.relu(passed[-1])
        passed[-1] = x
        passed.append(jnp.matmul(x, layer.kernel, precision=jax.lax.Precision.HIGHEST) + layer.bias)
    return tuple(passed)


def class_loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of the softmax, in nats a sample; targets are rows of zeros and a one."""
    return -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1)


def image_loss(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of the pixels, summed over them, in nats an image."""
    return jnp.sum(autoencoder.cross_entropy(outputs, targets), axis=-1)


TASKS = {
    "classes": Task(normal_layers, class_signals, class_loss),
    "images": Task(autoencoder.initialize, autoencoder.signals, image_loss),
}


@lru_cache(maxsize=2)
def pixels_of(folder: str | None, count: int) -> np.ndarray:
    """The images of a run."""
    return np.asarray((load_images(folder) if folder is not None else curves(count)).pixels, np.float32)


def classes_of(pixels: np.ndarray) -> np.ndarray:
    """Which tenth of the half circle the longer axis of what is drawn points into, as rows of zeros and a one.

    Args:
        pixels: square images, ``[N, d]``.

    Returns:
        ``[N, 10]``.
    """
    size = int(np.sqrt(pixels.shape[1]))
    rows, columns = (x.ravel() for x in np.mgrid[:size, : pixels.shape[1] // size])
    weights = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1e-12)
    y, x = (place - (weights @ place)[:, None] for place in (rows, columns))
    angle = 0.5 * np.arctan2(2 * np.sum(weights * x * y, axis=1), np.sum(weights * (x * x - y * y), axis=1))
    tenth = np.floor((angle / np.pi + 0.5) * CLASSES).astype(int).clip(0, CLASSES - 1)
    return np.eye(CLASSES, dtype=np.float32)[tenth]


@lru_cache(maxsize=4)
def data_of(task: str, folder: str | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets."""
    pixels = pixels_of(folder, count)
    return pixels, classes_of(pixels) if task == "classes" else pixels


def observe(
    task: Task, params: Sequence[Layer], inputs: jax.Array, targets: jax.Array, samples: int
) -> tuple[jax.Array, list[Vectors]]:
    """The mean loss of a batch, and the vectors of every layer from its first samples.

    Args:
        task: of which network.
        params: its layers.
        inputs: ``[B, d]``.
        targets: what the loss compares with, ``[B, c]``.
        samples: how many of the batch a and b are means of; G is that of the whole.

    Returns:
        The loss, and the vectors.
    """
    biases = [jnp.broadcast_to(layer.bias, (len(inputs), layer.bias.size)) for layer in params]

    def loss(biases: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        own = [Layer(layer.kernel, bias) for layer, bias in zip(params, biases, strict=True)]
        *seen, outputs = task.signals(own, inputs)
        return jnp.mean(task.loss(outputs, targets)), seen

    (value, seen), gradients = jax.value_and_grad(loss, has_aux=True)(biases)
    found = []
    for x, d in zip(seen, gradients, strict=True):
        A = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], axis=1)
        G = jnp.matmul(d.T, A, precision=jax.lax.Precision.HIGHEST)
        found.append(Vectors(G, *layer_vectors(x[:samples], d[:samples], mean_loss=False)))
    return value, found
