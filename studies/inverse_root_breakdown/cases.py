"""The grid: number formats, methods, exponents, spectra and condition numbers."""

from collections.abc import Iterator
from typing import Any

from precond_lab.study import Options

FORMATS = ("float32", "float16", "bfloat16", "float8_e4m3fn")
ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "float8_e4m3fn": 2.0**-4}
POWERS = (2, 4)
GUARDED = (
    "eigen",
    "rational_minimax",
    "coupled_newton",
    "coupled_higher_order",
    "newton_schulz",
    "minimax_polynomial",
    "newton",
)
"""Methods of the package, which keep their best iterate and know when to stop."""
BARE = ("bare_coupled_newton", "bare_newton")
"""Newton's iterations stopped by max|M - I| as in the Shampoo codes, and looked at long after."""
METHODS = (*GUARDED, *BARE)
EVERYWHERE = ("eigen", "rational_minimax", "coupled_newton", "newton_schulz", "bare_coupled_newton")
"""What the quick form of the study looks at in all formats; at other methods in two, since compiling takes its time."""
CONDITIONS = (2.0, 4.0, 10.0, 30.0, *(10.0**k for k in range(2, 11)))
FRONTIER = None
"""In the place of a condition number: the largest one at which the method still works is looked for."""


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries.
    """
    sizes, spectra, seeds = ((16,), ("geometric",), 3) if options.quick else ((16, 64), ("geometric", "one_small"), 10)
    for method in METHODS:
        for format in FORMATS if method in EVERYWHERE or not options.quick else ("float32", "bfloat16"):
            for p in POWERS:
                for n in sizes:
                    for spectrum in spectra:
                        for condition in (*CONDITIONS, FRONTIER):
                            for seed in range(seeds):
                                yield {
                                    "format": format,
                                    "method": method,
                                    "p": p,
                                    "n": n,
                                    "spectrum": spectrum,
                                    "condition": condition,
                                    "seed": seed,
                                }
