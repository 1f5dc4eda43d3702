"""Gradient statistics of a real training run, made once and kept on disk."""

import functools
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precond_lab as pl
from precond_lab.diagnosis import tracker
from precond_lab.preconditioners import logdet
from precond_lab.training import Images, gradient_stream, load_images
from precond_lab.training.curves import curves

from .settings import Settings

STORAGES = ("bfloat16", "float16", "float32", "float8_e4m3fn")
TRACKED = "bfloat16"
VERSION = 1  # of what is kept


def location(settings: Settings, cache: Path) -> Path:
    """The folder of these settings' statistics.

    Args:
        settings: of the training run.
        cache: folder of the study's prerequisites.

    Returns:
        A folder that exists only when it is complete.
    """
    text = repr((VERSION, settings._replace(folder=None)))
    return cache / f"gradients-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def load(settings: Settings) -> Images:
    """The images that are trained on."""
    if settings.folder is not None:
        return load_images(settings.folder)
    return curves(settings.images, seed=settings.seed)


def prepare(settings: Settings, cache: Path) -> None:
    """Train, and keep the statistics of every layer at every step that is asked for.

    Kept are, for each layer: the exact average of g g^T (float64), the same average carried in each storage format,
    the momentum, and the track of the bfloat16 statistics at every step. A run that is interrupted leaves nothing; what
    one leaves that is killed, the next one clears away.

    Args:
        settings: of the training run.
        cache: folder of the study's prerequisites.
    """
    goal = location(settings, cache)
    if goal.is_dir():
        return
    cache.mkdir(parents=True, exist_ok=True)
    prefix = f"unfinished-{goal.name}-"
    for killed in cache.glob(f"{prefix}*"):  # of a run that was killed: runs of the same settings exclude each other
        shutil.rmtree(killed, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=cache))
    try:
        _train(settings, folder)
        os.replace(folder, goal)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(settings: Settings, folder: Path) -> None:
    steps = max(settings.steps)
    layers = [Layer((m, n), settings) for m, n in zip(settings.widths[:-1], settings.widths[1:], strict=True)]
    stream = gradient_stream(
        load(settings),
        settings.widths,
        steps=steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )
    losses, spoke = [], time.monotonic()
    for step in stream:
        losses.append(step.loss)
        for layer, gradient in zip(layers, step.gradients, strict=True):
            layer.take(gradient.kernel)
        if step.t in settings.steps:
            for number, layer in enumerate(layers):
                layer.keep(folder, number, step.t)
        if time.monotonic() - spoke > 5:
            spoke = time.monotonic()
            print(f"gradient statistics: step {step.t} of {steps}, loss {step.loss:.1f}", file=sys.stderr, flush=True)
    for number, layer in enumerate(layers):
        np.save(folder / f"track-{number}.npy", np.array(layer.tracks, float))
    np.save(folder / "loss.npy", np.array(losses))


@functools.lru_cache
def average_in(storage: str) -> Callable:
    """The exponential average, carried in a storage format."""
    return pl.emulate(logdet.average, storage)


class Layer:
    """The statistics of one layer's kernel along the stream."""

    def __init__(self, shape: tuple[int, int], settings: Settings) -> None:
        """Statistics at zero.

        Args:
            shape: of the kernel, [inputs, outputs].
            settings: of the training run.
        """
        n = shape[0] * shape[1]
        self.settings = settings
        self.track_settings = tracker.Settings(
            beta2=settings.beta2,
            epsilon=settings.epsilon,
            floor=settings.floor,
            tolerance=2 * pl.formats.named(TRACKED).unit_roundoff,
            arithmetic=TRACKED,
        )
        self.exact, self.momentum, self.weights = np.zeros((2, n)), np.zeros(n), np.zeros(2)
        self.stored: dict[str, Any] = {name: logdet.initialize(n) for name in STORAGES if name != TRACKED}
        self.progress, self.tracks = tracker.begin(n), []

    def take(self, kernel: jax.Array) -> None:
        """Average one gradient into everything."""
        g = logdet.chain(kernel)
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        wide = np.asarray(g, np.float64)
        self.weights = np.array([beta1, beta2]) * self.weights + np.array([1 - beta1, 1 - beta2])
        self.momentum = beta1 * self.momentum + (1 - beta1) * wide
        self.exact *= beta2
        self.exact[0] += (1 - beta2) * wide * wide
        self.exact[1, :-1] += (1 - beta2) * wide[1:] * wide[:-1]
        for name, statistics in self.stored.items():
            self.stored[name] = average_in(name)(statistics, g, jnp.float32(beta2))
        self.progress, seen = tracker.advance(self.progress, g, self.track_settings)
        self.tracks.append(seen)

    def keep(self, folder: Path, number: int, t: int) -> None:
        """Write what `directions` needs at this step."""
        np.save(folder / f"exact-{number}-{t}.npy", self.exact / self.weights[1])
        np.save(folder / f"momentum-{number}-{t}.npy", self.momentum / self.weights[0])
        for name, statistics in {**self.stored, TRACKED: self.progress.statistics}.items():
            np.savez(folder / f"{name}-{number}-{t}.npz", H=statistics.H, weight=statistics.weight)
