"""The vectors that update an inverse."""

import numpy as np

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
    rng = np.random.default_rng([seed, n, *name.encode()])
    mean, noise = rng.standard_normal(n), rng.standard_normal((steps, n))
    mean *= np.sqrt(n) / np.linalg.norm(mean)
    if name == "isotropic":
        return noise
    if name == "constant":
        return np.tile(mean, (steps, 1))
    return (mean + SHARE * noise) / np.sqrt(1 + SHARE**2)
