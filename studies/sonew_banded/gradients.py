"""Banded statistics of a real training run, made once and kept on disk."""

import functools
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import precond_lab as pl
from precond_lab.preconditioners import logdet
from precond_lab.training import Images, gradient_stream, load_images
from precond_lab.training.curves import curves

from .cases import BANDS, PIPELINES
from .settings import Settings

WIDEST = max(BANDS)
STORAGES = tuple(dict.fromkeys(storage for storage, _ in PIPELINES))
VERSION = 1  # of what is kept


class Stretch(NamedTuple):
    """A part of a layer's chain.

    Attributes:
        layer: number of the layer, from 0.
        start: its first vertex.
    """

    layer: int
    start: int


def stretches(settings: Settings) -> list[Stretch]:
    """Which parts of the layers are looked at: evenly spaced, without overlap; at least one of each layer."""
    found = []
    for layer, (m, n) in enumerate(zip(settings.widths[:-1], settings.widths[1:], strict=True)):
        count = max(1, min(settings.stretches, m * n // settings.length))
        found += [Stretch(layer, int(start)) for start in np.linspace(0, m * n - settings.length, count)]
    return found


def location(settings: Settings, cache: Path) -> Path:
    """The folder of these settings' statistics.

    Args:
        settings: of the training run.
        cache: folder of the study's prerequisites.

    Returns:
        A folder that exists only when it is complete.
    """
    text = repr((VERSION, WIDEST, STORAGES, settings._replace(folder=None)))
    return cache / f"bands-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def load(settings: Settings) -> Images:
    """The images that are trained on."""
    if settings.folder is not None:
        return load_images(settings.folder)
    return curves(settings.images, seed=settings.seed)


def prepare(settings: Settings, cache: Path) -> None:
    """Train, and keep the statistics of every stretch at every step that is asked for.

    Kept are, of the widest band: the exact average of g g^T (float64), and the same average carried in each storage
    format with its scale; and the momentum. A run that is interrupted leaves nothing; what one leaves that is killed,
    the next one clears away.

    Args:
        settings: of the training run.
        cache: folder of the study's prerequisites.
    """
    goal = location(settings, cache)
    if goal.is_dir():
        return
    cache.mkdir(parents=True, exist_ok=True)
    prefix = f"unfinished-{goal.name}-"
    for killed in cache.glob(f"{prefix}*"):  # runs of the same settings exclude each other
        shutil.rmtree(killed, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=cache))
    try:
        _train(settings, folder)
        os.replace(folder, goal)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(settings: Settings, folder: Path) -> None:
    steps, state = max(settings.steps), Averages(settings)
    stream = gradient_stream(
        load(settings),
        settings.widths,
        steps=steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )
    spoke = time.monotonic()
    for step in stream:
        state.take([layer.kernel for layer in step.gradients])
        if step.t in settings.steps:
            state.keep(folder, step.t)
        if time.monotonic() - spoke > 5:
            spoke = time.monotonic()
            print(f"gradient statistics: step {step.t} of {steps}, loss {step.loss:.1f}", file=sys.stderr, flush=True)


@functools.lru_cache
def average_in(storage: str) -> Callable:
    """The exponential average of many stretches, carried in a storage format at a scale of its own for each."""

    def step(state: logdet.Scaled, g: jax.Array, beta2: jax.Array, target: jax.Array) -> logdet.Scaled:
        return logdet.scaled(logdet.average, target)(state, g, beta2)

    return jax.vmap(pl.emulate(step, storage), in_axes=(0, 0, None, None))


class Averages:
    """The statistics of all stretches along the stream."""

    def __init__(self, settings: Settings) -> None:
        """Statistics at zero.

        Args:
            settings: of the training run.
        """
        self.settings, self.parts = settings, stretches(settings)
        shape = (len(self.parts), WIDEST + 1, settings.length)
        self.exact, self.momentum, self.weights = np.zeros(shape), np.zeros((shape[0], shape[2])), np.zeros(2)
        zero = logdet.Scaled(
            logdet.Statistics(jnp.zeros(shape, jnp.float32), jnp.zeros(shape[0], jnp.float32)),
            jnp.ones(shape[0], jnp.float32),
        )
        self.stored = dict.fromkeys(STORAGES, zero)

    def take(self, kernels: list[jax.Array]) -> None:
        """Average one gradient into everything."""
        chains = [np.asarray(logdet.chain(kernel)) for kernel in kernels]
        g = np.stack([chains[part.layer][part.start : part.start + self.settings.length] for part in self.parts])
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        wide = g.astype(np.float64)
        self.weights = np.array([beta1, beta2]) * self.weights + np.array([1 - beta1, 1 - beta2])
        self.momentum = beta1 * self.momentum + (1 - beta1) * wide
        self.exact *= beta2
        for k in range(WIDEST + 1):
            n = wide.shape[1] - k
            self.exact[:, k, :n] += (1 - beta2) * wide[:, k:] * wide[:, :n]
        for name, state in self.stored.items():
            self.stored[name] = average_in(name)(state, g, np.float32(beta2), np.float32(self.settings.target))

    def keep(self, folder: Path, t: int) -> None:
        """Write what `directions` needs at this step."""
        np.save(folder / f"exact-{t}.npy", self.exact / self.weights[1])
        np.save(folder / f"momentum-{t}.npy", self.momentum / self.weights[0])
        for name, (statistics, scale) in self.stored.items():
            assert isinstance(statistics, logdet.Statistics)  # not compensated
            np.savez(folder / f"{name}-{t}.npz", H=statistics.H, weight=statistics.weight, scale=scale)
