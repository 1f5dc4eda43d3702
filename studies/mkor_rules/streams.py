"""The vectors that update an inverse: streams of the gallery, at a mean square length of n."""

from math import sqrt

import numpy as np

from precond_lab.gallery import STREAMS

SHARE = 1 / 3  # length of the noise of a "noisy" stream, relative to its mean


def stream(name: str, steps: int, n: int, seed: int) -> np.ndarray:
    """Vectors of a mean square length of n.

    Args:
        name: one of `cases.STREAMS`.
        steps: how many.
        n: their length.
        seed: of the draw.

    Returns:
        ``[steps, n]``.
    """
    if name == "constant":
        return STREAMS["constant"](steps, n, length=sqrt(n), seed=seed)
    if name == "isotropic":
        return STREAMS["rotated"](steps, n, condition=1.0, seed=seed)
    size = 1 / sqrt(1 + SHARE**2)
    return STREAMS["mean_and_noise"](steps, n, mean=size * sqrt(n), noise=size * SHARE, seed=seed)
