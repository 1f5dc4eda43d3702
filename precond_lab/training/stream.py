"""The gradients of an autoencoder's training, step by step."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from precond_lab.training import autoencoder
from precond_lab.training.autoencoder import WIDTHS, Layer
from precond_lab.training.idx import Images


class Step(NamedTuple):
    """One step of training.

    Attributes:
        t: The step's number, from 1.
        gradients: The gradient of the minibatch's loss at the parameters *before* update t: a tuple of
            `Layer` with the shapes of the parameters, in float32.
        loss: The minibatch's loss at the same parameters, in nats an image.
    """

    t: int
    gradients: tuple[Layer, ...]
    loss: float


def gradient_stream(
    images: Images | np.ndarray,
    widths: Sequence[int] = WIDTHS,
    *,
    steps: int,
    batch_size: int = 1000,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Iterator[Step]:
    """Train the autoencoder with Adam in float32, and hand out the gradient of each step.

    Each epoch goes through the images in an order of its own, in minibatches; what is left over at its end is
    dropped. The stream is a function of its arguments: on one machine, bitwise the same twice, and the same
    whether 64-bit types are switched on in JAX or not. The step is compiled once for each shape.

    Args:
        images: Grey levels in [0, 1], `[N, d]`.
        widths: Widths of the layers, the first and the last of them d.
        steps: How many steps.
        batch_size: Images in a minibatch, at most N.
        learning_rate: Of Adam, whose other constants are b1 = 0.9, b2 = 0.999, eps = 1e-8.
        seed: Of the first parameters and of the order of the images.

    Returns:
        The steps, 1 to `steps`, each computed when it is asked for. The iterator raises `FloatingPointError`
        in place of a step whose loss is infinite or not a number: its gradients would be statistics of
        nothing.

    Raises:
        ValueError: If the arguments do not fit together. Raised at once, not at the first step.
    """
    observed = observed_stream(
        images, widths, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, observe=_nothing
    )
    return (step for step, _ in observed)


def observed_stream(
    images: Images | np.ndarray,
    widths: Sequence[int] = WIDTHS,
    *,
    observe: Callable[[tuple[Layer, ...], np.ndarray], Any],
    steps: int,
    batch_size: int = 1000,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Iterator[tuple[Step, Any]]:
    """The same steps, each with something else that is computed before its update.

    Args:
        images: As for `gradient_stream`.
        widths: As there.
        observe: From the parameters before the update, which are gone after it, and the images of the minibatch,
            `[batch_size, d]`, what is wanted of them. It has no influence on the training.
        steps: As there.
        batch_size: As there.
        learning_rate: As there.
        seed: As there.

    Returns:
        The steps, each with what `observe` returned. The iterator raises as that of `gradient_stream` does.

    Raises:
        ValueError: If the arguments do not fit together. Raised at once, not at the first step.
    """
    pixels = np.asarray(images.pixels if isinstance(images, Images) else images, np.float32)
    if pixels.ndim != 2 or not np.all((pixels >= 0) & (pixels <= 1)):
        raise ValueError(f"images have shape {pixels.shape}; give [N, d] with every grey level in [0, 1]")
    widths = autoencoder.validate_widths(widths, pixels.shape[1])
    if not 1 <= batch_size <= len(pixels):
        raise ValueError(f"batch_size is {batch_size}; with {len(pixels)} images give 1 to {len(pixels)}")
    if steps < 0 or seed < 0:
        raise ValueError(f"steps is {steps} and seed is {seed}; neither may be negative")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate is {learning_rate}; give a positive number")
    return _train(pixels, widths, steps, batch_size, learning_rate, seed, observe)


def minibatches(count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Choose the images of one minibatch after another, without end.

    Args:
        count: How many images there are.
        batch_size: How many a minibatch has, at most `count`.
        seed: At least 0.

    Yields:
        Indices of images, `[batch_size]`; within an epoch of floor(count / batch_size) minibatches no index
        comes twice.
    """
    epoch = 0
    while True:
        # Sorting raw draws, because the stream of a bit generator is fixed and that of Generator.permutation
        # is not.
        draws = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(count)
        order = np.argsort(draws, kind="stable")
        for start in range(0, count - batch_size + 1, batch_size):
            yield order[start : start + batch_size]
        epoch += 1


@partial(jax.jit, donate_argnums=(0, 1))
def update(
    params: tuple[Layer, ...], state: optax.OptState, batch: jax.Array, learning_rate: jax.Array
) -> tuple[tuple[Layer, ...], optax.OptState, tuple[Layer, ...], jax.Array]:
    """Take one step of Adam.

    Args:
        params: The layers; donated, not to be used afterwards.
        state: The state of `optax.adam`; donated, not to be used afterwards.
        batch: Grey levels, `[batch_size, d]`.
        learning_rate: A scalar.

    Returns:
        The new parameters, the new state, and the gradient and the loss at the old parameters.
    """
    value, gradients = jax.value_and_grad(autoencoder.loss)(params, batch)
    updates, state = optax.adam(learning_rate).update(gradients, state)
    return optax.apply_updates(params, updates), state, gradients, value  # pyright: ignore[reportReturnType]


def _nothing(params: tuple[Layer, ...], batch: np.ndarray) -> None:
    del params, batch


def _train(
    pixels: np.ndarray,
    widths: tuple[int, ...],
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    observe: Callable[[tuple[Layer, ...], np.ndarray], Any],
) -> Iterator[tuple[Step, Any]]:
    # Bias corrections would be computed in float64 where 64-bit types are on. The setting is taken back
    # before each yield, since a generator that is suspended inside a context would leave it to its caller.
    with jax.enable_x64(False):
        params = autoencoder.initialize(jax.random.key(seed), widths)
        state = optax.adam(learning_rate).init(params)
    for t, chosen in zip(range(1, steps + 1), minibatches(len(pixels), batch_size, seed), strict=False):
        with jax.enable_x64(False):
            observed = observe(params, pixels[chosen])
            params, state, gradients, value = update(params, state, pixels[chosen], np.float32(learning_rate))
        value = float(value)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {t} of training; lower learning_rate, which is {learning_rate}"
            )
        yield Step(t, gradients, value), observed
