"""The grid: number formats, exponents, spectra, condition numbers and ridges."""

from collections.abc import Iterator
from typing import Any

from precond_lab.study import Options

FORMATS = ("float32", "bfloat16")
POWERS = (2, 4)
SPECTRA = ("geometric", "one_small", "arithmetic")
CONDITIONS = tuple(10.0**k for k in range(2, 11))
RIDGES = (0.0, *(10.0**k for k in range(-12, 0)))
DEFAULT = 1e-6
"""What the Shampoo codes add, relative to the largest eigenvalue."""


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; the ridge is relative to the largest eigenvalue, which is one.
    """
    n, seeds = (32, 3) if options.quick else (128, 10)
    for format in FORMATS:
        for p in POWERS:
            for spectrum in SPECTRA:
                for condition in CONDITIONS:
                    for ridge in RIDGES:
                        for seed in range(seeds):
                            yield {
                                "format": format,
                                "p": p,
                                "spectrum": spectrum,
                                "condition": condition,
                                "ridge": ridge,
                                "n": n,
                                "seed": seed,
                            }
