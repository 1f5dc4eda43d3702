"""The grid: what is stored, in which form and format, and of which matrices."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from precond_lab.study import Options

FORMATS = ("int16", "float16", "int8", "bfloat16", "e4m3fn", "e5m2", "int4", "dynamic4")
"""Integers have a scale a column, both kinds of four bits one every 64 numbers, floats a power of two for all."""

CORRECTIONS = {"eigenvectors": 0, "eigenvectors, 1 step": 1, "eigenvectors, 4 steps": 4}
"""Forms by eigenvectors, with their numbers of Bjorck steps."""

FEEDBACK = "Cholesky, feedback"
FORMS = ("matrix", "diagonal apart", *CORRECTIONS, "Cholesky")
STREAMED = (*FORMS, FEEDBACK)
SUBJECTS = ("statistics", "root")
POWERS = (2, 4)
CONDITIONS = tuple(10.0**k for k in range(1, 9))
STREAM_CONDITIONS = (1e2, 1e4, 1e6)
DEFAULT = 1e-6
"""The ridge of the Shampoo codes, relative to the largest eigenvalue."""

RIDGES = (0.0, DEFAULT)


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries. Without steps a matrix is stored once; with them its form is the state of a moving average,
        which is read and stored again in every step.
    """
    n, seeds, steps = (64, 3, 50) if options.quick else (128, 10, 100)
    once = product(SUBJECTS, FORMS, [0], RIDGES, POWERS, CONDITIONS)
    stream = product(["statistics"], STREAMED, [steps], [DEFAULT], POWERS, STREAM_CONDITIONS)
    for subject, form, count, ridge, p, condition in (*once, *stream):
        if subject == "root" and ridge:
            continue  # what is stored is the root: what it is the root of makes no difference but by its condition
        for format in FORMATS:
            for seed in range(seeds):
                yield {
                    "subject": subject,
                    "form": form,
                    "format": format,
                    "steps": count,
                    "ridge": ridge,
                    "p": p,
                    "condition": condition,
                    "n": n,
                    "seed": seed,
                }
