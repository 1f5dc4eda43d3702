"""The two sizes of the study: what is trained, for how long, and how much of it is looked at."""

from typing import NamedTuple

from precond_lab.study import Options

CURVES = "curves"


class Settings(NamedTuple):
    """What the gradient statistics depend on.

    Attributes:
        data: "curves", or the fingerprint of a folder's images.
        folder: that folder, or None; no part of what is measured.
        images: number of images of the synthetic set.
        widths: of the autoencoder's layers.
        steps: at which statistics are kept.
        learning_rate: of Adam.
        stretches: at most so many stretches of a layer's chain are looked at, each a chain of its own.
        length: vertices of a stretch.
        batch_size: images a step.
        beta1: decay of the momentum that is preconditioned.
        beta2: decay of the statistics.
        epsilon: damping relative to the one-norm.
        target: size to which gradients are scaled, by powers of two, so that their squares fit into float16.
        seed: of the initial weights and the batches.
    """

    data: str
    folder: str | None
    images: int
    widths: tuple[int, ...]
    steps: tuple[int, ...]
    learning_rate: float
    stretches: int
    length: int = 1024
    batch_size: int = 1000
    beta1: float = 0.9
    beta2: float = 0.972396  # as tuned for bfloat16 by SONew's authors, with the damping below
    epsilon: float = 3.35397e-6
    target: float = 2.0**7
    seed: int = 0

    @property
    def network(self) -> str:
        """The widths as a text."""
        return "-".join(map(str, self.widths))

    @property
    def layers(self) -> list[str]:
        """The names of the layers, by number and shape."""
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        return [f"{number}: {m}x{n}" for number, (m, n) in enumerate(pairs, start=1)]


FULL_WIDTHS = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
QUICK_WIDTHS = (784, 200, 100, 30, 100, 200, 784)


def settings_for(options: Options) -> Settings:
    """The settings of a run.

    Args:
        options: what was asked for on the command line.

    Returns:
        The settings; reading the images of `options.data` for their fingerprint.

    Raises:
        ValueError: the folder has no usable images.
    """
    data, images = CURVES, 4000 if options.quick else 20000
    if options.data is not None:
        from precond_lab.training import load_images

        loaded = load_images(options.data)
        data, images = loaded.fingerprint, len(loaded.pixels)
    if options.quick:
        return Settings(data, options.data, images, QUICK_WIDTHS, (1, 2, 5, 10, 30, 100), 5e-3, stretches=8)
    return Settings(data, options.data, images, FULL_WIDTHS, (1, 2, 5, 10, 30, 100, 300), 1e-3, stretches=64)
