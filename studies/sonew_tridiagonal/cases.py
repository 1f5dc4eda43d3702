"""The grid: gradient statistics, their track, and the theorems on drawn or enumerated inputs."""

import enum
from collections.abc import Iterator
from typing import Any

from precond_lab.study import Options

from .settings import settings_for


class Part(enum.StrEnum):
    """What kind of case a row is."""

    GRADIENTS = "gradients"
    TRACK = "track"
    SIGNIFICANDS = "significands"
    FUZZ = "fuzz"
    PERIODIC = "periodic"
    DEGENERATE = "degenerate"
    SCALING = "scaling"


# Where statistics are stored, and the arithmetic that projects them. The last keeps bfloat16 statistics and computes
# in float32.
PIPELINES = (
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
    ("float32", "float32"),
    ("float8_e4m3fn", "float8_e4m3fn"),
    ("bfloat16", "float32"),
)
# Multiples of the unit roundoff of the *storage* format; "none" is the projection without stabilization.
STABILIZATIONS = ("none", "0", "2u", "4u", "8u", "20u", "64u")
STATISTICS = ("accumulated", "rounded")


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are.
    """
    settings = settings_for(options)
    origin = {"data": settings.data, "network": settings.network, "images": settings.images}
    for layer in range(len(settings.widths) - 1):
        shape = f"{layer + 1}: {settings.widths[layer]}x{settings.widths[layer + 1]}"
        for t in range(1, max(settings.steps) + 1):
            yield {"part": Part.TRACK.value, **origin, "layer": shape, "t": t}
        for storage, arithmetic in PIPELINES:
            for statistics in STATISTICS:
                for t in settings.steps:
                    for stabilization in STABILIZATIONS:
                        yield {
                            "part": Part.GRADIENTS.value,
                            **origin,
                            "layer": shape,
                            "storage": storage,
                            "arithmetic": arithmetic,
                            "statistics": statistics,
                            "t": t,
                            "stabilization": stabilization,
                        }
    yield from _theorems(quick=options.quick)


def _theorems(*, quick: bool) -> Iterator[dict[str, Any]]:
    # float16 has 64 times as many near-singular triples as bfloat16: the quick form takes every 32nd first significand
    for format, stride in (
        ("bfloat16", 1),
        ("float16", 32 if quick else 1),
        ("float8_e4m3fn", 1),
        ("float8_e5m2", 1),
    ):
        yield {"part": Part.SIGNIFICANDS.value, "format": format, "stride": stride}
    # of float32's, a sample: a stride that is prime leaves no bit of the significands at rest
    yield {"part": Part.SIGNIFICANDS.value, "format": "float32", "stride": 16381 if quick else 8191}
    for format in ("bfloat16", "float16", "float32"):
        for part, tolerances in ((Part.FUZZ, ("0", "2u", "64u")), (Part.PERIODIC, ("0", "2u"))):
            for tolerance in tolerances:
                yield {
                    "part": part.value,
                    "format": format,
                    "tolerance": tolerance,
                    "chains": 2**17 if quick else 2**19,
                    "seed": 0,
                }
    for band in (1, 2, 3):
        yield {"part": Part.DEGENERATE.value, "band": band, "trials": 50 if quick else 400, "seed": 0}
    for format in ("bfloat16", "float16", "float32"):
        yield {"part": Part.SCALING.value, "format": format, "chains": 2**12 if quick else 2**15, "seed": 0}
