"""The grid: one part for each question about digits and steps."""

import enum
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from precond_lab.study import Options


class Part(enum.StrEnum):
    """What kind of case a row is."""

    SCHEDULE = "schedule"
    """A root whose first steps are computed in one format, the others in another."""
    CHAINS = "chains"
    """Coupled Newton with X in one format, M in another."""
    SCALING = "scaling"
    """Coupled Newton in float32 from starts of different scalings."""
    QUOTIENT = "quotient"
    """The Rayleigh quotient of a power iteration."""
    ACCELERATED = "accelerated"
    """Newton-Schulz in float32 by schedules of cubic polynomials."""
    GRAM = "gram"
    """Polar factors of wide matrices by their Gram matrices."""
    OUTLIERS = "outliers"
    """The worst polar factors of many random matrices."""


ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
MATRICES = 8
"""By so many matrices every case is measured."""

POWERS = (2, 4)
CONDITIONS = (1e2, 1e3, 1e4, 1e5, 1e6)
SPECTRUM = "geometric"
SWITCHES = {"coupled_newton": 24, "coupled_higher_order": 18, "newton_schulz": 24, "minimax_polynomial": 12}
"""By method, the most steps that a first format has: more than they take to come to rest."""
METHODS = tuple(SWITCHES)
DESCENDING = (("float64", "float32"), ("float32", "float16"), ("float32", "bfloat16"), ("float16", "bfloat16"))
"""First format, then that of the other steps: the digits first."""
ASCENDING = (("float32", "float64"), ("float16", "float32"), ("bfloat16", "float32"))
"""The digits last."""
QUICK = (*DESCENDING, ("float32", "float64"), ("bfloat16", "float32"))
"""What the quick form looks at with coupled Newton."""
QUICK_OTHERS = {2: (("float32", "bfloat16"), ("bfloat16", "float32")), 4: (("float32", "bfloat16"),)}
"""With the other methods, by p."""

FORMATS = ("float32", "float16", "bfloat16")
CHAINS = (
    *((format, format) for format in FORMATS),
    *(("float32", format) for format in FORMATS[1:]),
    *((format, "float32") for format in FORMATS[1:]),
)
"""The formats of X and of M."""

SCALINGS = ("frobenius", "infinity_norm", "trace", "largest_eigenvalue", "guo_higham", "guo_higham_known")
"""Of the package, the last with the extreme eigenvalues given."""
STARTS = ("random", "orthogonal", "orthogonal_diagonal")
"""Of power iterations. Orthogonal to the top eigenvector up to rounding, or, with a diagonal matrix, exactly."""
ACCELERATED = (("newton_schulz", 100), ("published", 10), ("chebyshev_accelerated", 100))
"""Schedules of cubic polynomials, with the most steps; the published one is that of ten fixed steps."""

GRAM_STEPS = (5, 8, 10)
RESTARTS = (0, 2)
"""After how many steps the Gram matrix is formed anew; 0 for never."""
MARGINS = (1.02, 1.1)
"""By what the upper ends of the intervals of a schedule are multiplied; 1.01 for singular values is 1.02 here."""
DRAWN = 1000
"""Random matrices in a row."""


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are.
    """
    yield from _schedules(options.quick)
    for pair, p, n, condition in product(CHAINS, POWERS, (16,) if options.quick else (16, 64), CONDITIONS):
        axes = {"X": pair[0], "M": pair[1], "p": p, "n": n, "condition": condition}
        yield {"part": Part.CHAINS.value, **axes}
    for part, axes in _axes(options.quick).items():
        for values in product(*axes.values()):
            yield {"part": part.value, **dict(zip(axes, values, strict=True))}


def _schedules(quick: bool) -> Iterator[dict[str, Any]]:
    """Schedules, at all steps where the format may change."""
    conditions = (1e2, 1e4, 1e6) if quick else CONDITIONS
    for method, p, pair, condition in product(METHODS, POWERS, (*DESCENDING, *ASCENDING), conditions):
        newton = method == "coupled_newton"
        if quick and pair not in (QUICK if newton else QUICK_OTHERS[p]):
            continue
        for n in (16,) if quick or not newton else (16, 64):
            for switch in range(SWITCHES[method] + 1):
                yield {
                    "part": Part.SCHEDULE.value,
                    "method": method,
                    "p": p,
                    "early": pair[0],
                    "late": pair[1],
                    "n": n,
                    "condition": condition,
                    "switch": switch,
                }


def _axes(quick: bool) -> Mapping[Part, Mapping[str, tuple]]:
    sizes = (16,) if quick else (16, 64, 256)
    return {
        Part.SCALING: {
            "scaling": SCALINGS,
            "p": POWERS,
            "spectrum": ("geometric", "one_small", "one_large"),
            "n": sizes,
            "condition": (1e2, 1e4, 1e6),
        },
        Part.QUOTIENT: {
            "start": STARTS,
            "steps": (5, 20, 100),
            "spectrum": ("geometric", "one_large"),
            "n": sizes,
            "condition": (1e2, 1e4, 1e6),
        },
        Part.ACCELERATED: {
            "schedule": tuple(name for name, _ in ACCELERATED),
            "n": sizes,
            "condition": (10.0, 1e2, 1e3, 1e4, 1e5),
        },
        Part.GRAM: {
            "format": FORMATS[1:] if quick else FORMATS,
            "restart": RESTARTS,
            "steps": GRAM_STEPS[:2] if quick else GRAM_STEPS,
            "n": (16,),
            "condition": CONDITIONS,
        },
        Part.OUTLIERS: {
            "format": FORMATS[1:],
            "margin": MARGINS,
            "n": (8,) if quick else (8, 16),
            "seed": tuple(range(1 if quick else 10)),
        },
    }
