"""The built-in images: smooth curves through three random points."""

import os
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import platformdirs

from precond_lab.training.idx import Images, from_levels

SIZE = 28
"""Rows and columns of an image."""

INNER = (4.5, 23.5)
"""The three points are uniform on this square, in pixels. A parabola through values within 9.5 of the center
at t = 0, 1/2, 1 stays within 5/4 * 9.5 (the Lebesgue constant of three equidistant nodes), so that the
stroke, which reaches 2 farther, ends 13.875 from the center, inside the frame at 14: no curve is ever cut."""

REACH = 2.0
"""Distance from the curve, in pixels, at which the stroke has faded to nothing. It is full up to 1."""

STAMPS = 129
"""Points of the curve at which the round pen is set down: less than a pixel apart, and mostly a
quarter of one. Their intervals are a power of two, so that the weights of the three points are exact."""

VERSION = 1
"""Of the drawing. To be raised when the same seed would give another image, which retires what is cached."""

BATCH = 128


def curves(count: int, seed: int = 0, cache: str | Path | None = None) -> Images:
    """Draw the CURVES images: smooth curves through three random points of the plane, 28 x 28 grey pixels.

    Image i is drawn so. Three points are uniform on the square [4.5, 23.5]^2 of the frame [0, 28]^2: six
    degrees of freedom. They are joined along the two shorter sides of their triangle, so that no curve folds
    back on itself. With P_1 the point where those sides meet, the curve is the parabola that passes through
    P_0, P_1, P_2 at t = 0, 1/2, 1,

        B(t) = (2t - 1)(t - 1) P_0 + 4t(1 - t) P_1 + t(2t - 1) P_2,     0 <= t <= 1.

    A round pen is set down at t = 0, 1/128, ..., 1. With r the distance from a pixel's center to the nearest
    of these 129 points, the pixel's level is 2 - r cut to [0, 1], rounded to a multiple of 1/255: a stroke of
    width 3, about that of handwritten digits at this size, whose edge fades over one pixel. No stroke leaves
    the frame.

    The points come from the raw output of the counter-based generator Philox, and the drawing uses IEEE
    single precision sums, products and square roots one by one. The images are therefore the same bits on
    every machine and with every version of NumPy, and the first images of a larger set are the images of a
    smaller one.

    The original set (20,000 training and 10,000 test images) is described in the literature as curves made
    from three randomly chosen points in two dimensions, 28 x 28. How its points are distributed, in which
    order and by which interpolant they are joined, and how wide and how soft the stroke is, is not known
    here: those choices are this function's own, and losses on this set are not comparable with published
    ones.

    Args:
        count: How many images, at least 1.
        seed: At least 0; another seed gives other curves.
        cache: The folder in which the images are kept; the user's cache folder when None. A damaged file
            there is drawn anew; one that cannot be written costs a warning.

    Returns:
        The images. 10,000 take one to two seconds to draw.

    Raises:
        ValueError: If `count` is less than 1 or `seed` is negative.

    References:
        Hinton and Salakhutdinov, Reducing the dimensionality of data with neural networks, Science, 2006.
        Martens, Deep learning via Hessian-free optimization, ICML 2010.
    """
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 image")
    if seed < 0:
        raise ValueError(f"seed is {seed}; give an integer of at least 0")
    folder = Path(platformdirs.user_cache_dir("precond_lab")) if cache is None else Path(cache)
    path = folder / f"curves-v{VERSION}-count{count}-seed{seed}.npz"
    source = f"curves(count={count}, seed={seed})"
    images = _read(path, count, source)
    if images is None:
        levels = draw(in_order(random_points(count, seed)))
        images = from_levels(levels, source)
        _write(path, levels, images.fingerprint)
    return images


def random_points(count: int, seed: int) -> np.ndarray:
    """Draw the points that the curves pass through.

    Args:
        count: How many curves.
        seed: At least 0.

    Returns:
        Three points (x, y) a curve in pixels, `[count, 3, 2]` of float32.
    """
    # The stream of a bit generator is fixed by NumPy's compatibility policy; that of Generator.uniform is
    # not.
    draws = np.random.Philox(seed).random_raw(6 * count).reshape(count, 3, 2)
    uniform = (draws >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    low, high = INNER
    return np.float32(low) + np.float32(high - low) * uniform


def in_order(points: np.ndarray) -> np.ndarray:
    """Put in the middle, of each three points, the one that lies opposite the longest side of their triangle.

    The curve through them then turns by at most 120 degrees from one chord to the next.

    Args:
        points: Three points a curve, `[N, 3, 2]`.

    Returns:
        The same points, the other two in the order they had, `[N, 3, 2]`.
    """
    sides = np.stack([_squared_distance(points[:, i], points[:, j]) for i, j in ((1, 2), (0, 2), (0, 1))], axis=1)
    orders = np.array([(1, 0, 2), (0, 1, 2), (0, 2, 1)])  # row k has point k in the middle
    return np.take_along_axis(points, orders[np.argmax(sides, axis=1)][:, :, None], axis=1)


def _squared_distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    difference = p - q
    return difference[:, 0] * difference[:, 0] + difference[:, 1] * difference[:, 1]


def draw(points: np.ndarray) -> np.ndarray:
    """Draw the parabola through each three points with a soft round pen.

    Args:
        points: Three points (x, y) a curve in pixels, `[N, 3, 2]` of float32.

    Returns:
        Grey levels from 0 to 255, `[N, 28, 28]` of uint8.
    """
    levels = np.empty((len(points), SIZE, SIZE), np.uint8)
    for start in range(0, len(points), BATCH):  # a batch's working set stays in the processor's cache
        levels[start : start + BATCH] = _draw_batch(points[start : start + BATCH])
    return levels


def _draw_batch(points: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, STAMPS, dtype=np.float32)[:, None]
    weights = ((2 * t - 1) * (t - 1), 4 * t * (1 - t), t * (2 * t - 1))
    # Written as products and sums of arrays: a matrix product may be summed in any order.
    x, y = (
        weights[0] * points[:, 0, axis] + weights[1] * points[:, 1, axis] + weights[2] * points[:, 2, axis]
        for axis in (0, 1)
    )
    centers = np.arange(SIZE, dtype=np.float32)[:, None] + np.float32(0.5)
    nearest = np.full((SIZE, SIZE, len(points)), np.inf, np.float32)
    distance = np.empty_like(nearest)
    for stamp in range(STAMPS):
        rows, columns = np.square(centers - y[stamp]), np.square(centers - x[stamp])
        np.add(rows[:, None], columns[None, :], out=distance)
        np.minimum(nearest, distance, out=nearest)
    level = np.clip(np.float32(REACH) - np.sqrt(nearest), 0, 1)
    return np.rint(level * np.float32(255)).astype(np.uint8).transpose(2, 0, 1)


def _read(path: Path, count: int, source: str) -> Images | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            levels, fingerprint = stored["levels"], str(stored["fingerprint"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if levels.shape != (count, SIZE, SIZE) or levels.dtype != np.uint8:
        return None
    images = from_levels(levels, source)
    return images if images.fingerprint == fingerprint else None


def _write(path: Path, levels: np.ndarray, fingerprint: str) -> None:
    # Whole or not at all: several processes may ask for the same images at once.
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            temporary = Path(file.name)
            np.savez_compressed(file, levels=levels, fingerprint=np.array(fingerprint))
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        warnings.warn(f"the images could not be kept in {path}: {error}", RuntimeWarning, stacklevel=3)
