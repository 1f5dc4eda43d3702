"""The two sizes of the study's training runs, and the images that they see."""

from typing import NamedTuple

from precond_lab.study import Options

CURVES = "curves"


class Settings(NamedTuple):
    """What the training runs depend on.

    Attributes:
        data: "curves", or the fingerprint of a folder's images.
        folder: that folder, or None; no part of what is measured.
        images: how many there are, or are drawn of the synthetic set.
        pixels: of an image.
        hidden: by task, the widths between the first layer and the last.
        steps: of a run with minibatches.
        batches: sizes of minibatches.
        few: how many images the interpolating network sees.
        long: steps of its training.
        times: how many steps of a run are rows.
    """

    data: str
    folder: str | None
    images: int
    pixels: int
    hidden: tuple[tuple[str, tuple[int, ...]], ...]
    steps: int
    batches: tuple[int, ...]
    few: int
    long: int
    times: int = 20

    def widths(self, task: str) -> tuple[int, ...]:
        """The widths of a network, from the image to what the loss compares.

        Args:
            task: "classes", of which there are ten, or "images".

        Returns:
            One more than there are layers.
        """
        return (self.pixels, *dict(self.hidden)[task], 10 if task == "classes" else self.pixels)

    def network(self, task: str) -> str:
        """The widths as a text.

        Args:
            task: as above.

        Returns:
            Such as "784-128-128-10".
        """
        return "-".join(map(str, self.widths(task)))

    def recorded(self, steps: int) -> tuple[int, ...]:
        """The steps that are rows, evenly spaced, from 1 to the last.

        Args:
            steps: of the run.

        Returns:
            Numbers of steps, ascending.
        """
        count = min(self.times, steps)
        return tuple(sorted({1 + round(k * (steps - 1) / max(count - 1, 1)) for k in range(count)}))


def settings_for(options: Options) -> Settings:
    """The settings of a run.

    Args:
        options: what was asked for on the command line.

    Returns:
        The settings; reading the images of `options.data` for their fingerprint.

    Raises:
        ValueError: the folder has no usable images.
    """
    data, images, pixels = CURVES, 2000 if options.quick else 10000, 784
    if options.data is not None:
        from precond_lab.training import load_images

        loaded = load_images(options.data)
        data, images, pixels = loaded.fingerprint, *loaded.pixels.shape
    if options.quick:
        hidden = (("classes", (64, 64)), ("images", (64, 16, 64)))
        return Settings(data, options.data, images, pixels, hidden, 300, (128,), 64, 400)
    hidden = (("classes", (128, 128)), ("images", (128, 32, 16, 32, 128)))
    return Settings(data, options.data, images, pixels, hidden, 500, (128, 512), 256, 1200)
