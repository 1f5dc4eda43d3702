"""The grid: theorems in rationals, cancellation by format, averages of vectors, damping, and training runs."""

import enum
from collections.abc import Iterator
from itertools import product
from typing import Any

from precond_lab.study import Options

from .settings import Settings, settings_for


class Part(enum.StrEnum):
    """What kind of case a row is."""

    SOLVE = "solve"
    DESCENT = "descent"
    CANCELLATION = "cancellation"
    RANGE = "range"
    AVERAGE = "average"
    LEAK = "leak"
    TRAINING = "training"
    INTERPOLATION = "interpolation"


FORMATS = ("bfloat16", "float16")
PROGRAMS = {"closed": ("rounded", "accumulated", "scalars", "inside"), "split": ("rounded", "accumulated", "scalars")}
"""Closed form and two-pass split, each by the arithmetics that it is run in.

"rounded" rounds every operation to the format, partial sums too; "accumulated" forms sums in float32, as matrix units
do; "scalars" has every operation with a scalar in float32 besides, and "inside" everything. G, a, b and the result are
numbers of the format always.
"""

RATIOS = tuple(k / 2 for k in range(13))
"""Decimal logarithms of sigma / gamma."""

NOISES = (0.0, 0.01, 0.1, 1.0)
"""Size of the part of G that is not along b a^T, relative to the part that is."""

DIRECTIONS = ("drawn", "aligned", "parallel")
"""Of E2's cases: G drawn, G near b a^T, G a multiple of b a^T."""

SHAPES = {"32x48": 5, "128x192": 5, "256x384": 2}
"""Seeds by shape; the last is the dearest."""

SEARCHED, SEARCHES = "16x16", 40
"""A small layer and how many seeds of it: what the split may do with sums in float32, it does in few of many."""

QUICK_SHAPES = {"32x48": 5, "256x384": 1}
SIDES = ("small b", "large a", "large sigma")
"""Entries of b are 10^-k, or entries of a 2^k, or those of b 2^(k - 4) in a layer with sigma = m n at k = 4."""

EXPONENTS = tuple(range(6))

ROUNDED = "convex, rounded"
FORMS = ("convex", ROUNDED, "incremental", "compensated", "wide")
"""Of a running average, with products by its weights in float32; but for the second, which rounds these too, and the
last, which is the convex one in float32 altogether."""

OLD_WEIGHTS = (0.05, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999)
LEAKING = OLD_WEIGHTS[:-1]
CHANGES = tuple(2.0**k for k in range(-4, 7))
"""By how much what is averaged moves, relative to itself, in units of u over the weight of what is new."""

TASKS = ("classes", "images")
"""Ten classes of images by the loss of a softmax, and the images themselves by the loss summed over their pixels."""

METHODS = ("eva as coded", "G / gamma", "eva, b by sample")
"""All three with the clip; in the first b is that of the mean loss, 1 / B of what it is by sample."""


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are.
    """
    settings, quick = settings_for(options), options.quick
    for m, n in ((2, 3), (3, 5), (4, 4), (5, 7)):
        yield {"part": Part.SOLVE.value, "m": m, "n": n, "trials": 10 if quick else 50, "seed": 0}
    for direction, seed in product(DIRECTIONS, range(4)):
        yield {"part": Part.DESCENT.value, "direction": direction, "trials": 850, "seed": seed}
    yield from _roundings(quick=quick)
    for old_weight in LEAKING:
        yield {"part": Part.LEAK.value, "old_weight": old_weight, "n": 16, "batch": 16, "seed": 0}
    yield from _training(settings, 5)


def _roundings(*, quick: bool) -> Iterator[dict[str, Any]]:
    for shape, seeds in (QUICK_SHAPES if quick else SHAPES).items():
        for program, arithmetics in PROGRAMS.items():
            for arithmetic, format, ratio, noise in product(arithmetics, FORMATS, RATIOS, NOISES):
                for seed in range(seeds):
                    yield {
                        "part": Part.CANCELLATION.value,
                        "program": program,
                        "arithmetic": arithmetic,
                        "format": format,
                        "shape": shape,
                        "log_ratio": ratio,
                        "noise": noise,
                        "seed": seed,
                    }
    for arithmetic, format, ratio, seed in product(
        PROGRAMS["split"][1:], FORMATS, [x for x in RATIOS if x >= 3], range(SEARCHES)
    ):
        yield {
            "part": Part.CANCELLATION.value,
            "program": "split",
            "arithmetic": arithmetic,
            "format": format,
            "shape": SEARCHED,
            "log_ratio": ratio,
            "noise": 0.0,
            "seed": seed,
        }
    for arithmetic, side, exponent in product(PROGRAMS["closed"][:3], SIDES, EXPONENTS):
        yield {
            "part": Part.RANGE.value,
            "arithmetic": arithmetic,
            "format": "float16",
            "side": side,
            "exponent": exponent,
            "seed": 0,
        }
    for form, format, old_weight, change in product(FORMS, FORMATS, OLD_WEIGHTS, CHANGES):
        yield {
            "part": Part.AVERAGE.value,
            "form": form,
            "format": format,
            "old_weight": old_weight,
            "change_in_units": change,
            "n": 64 if quick else 256,
            "seed": 0,
        }


def _training(settings: Settings, seeds: int) -> Iterator[dict[str, Any]]:
    origin = {"data": settings.data, "images": settings.images}
    for task, method, batch, seed in product(TASKS, METHODS, settings.batches, range(seeds)):
        for t in settings.recorded(settings.steps):
            yield {
                "part": Part.TRAINING.value,
                **origin,
                "task": task,
                "network": settings.network(task),
                "method": method,
                "batch": min(batch, settings.images),
                "seed": seed,
                "t": t,
            }
    network = settings.network("classes")
    for layer, seed in product(range(len(settings.widths("classes")) - 1), range(3)):
        for t in settings.recorded(settings.long):
            yield {
                "part": Part.INTERPOLATION.value,
                **origin,
                "network": network,
                "few": min(settings.few, settings.images // 3),
                "layer": layer + 1,
                "seed": seed,
                "t": t,
            }
