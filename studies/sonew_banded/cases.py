"""The grid: gradient statistics by band, drawn chains, theorems in rationals, and memory."""

import enum
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from precond_lab.study import Options

from .settings import settings_for


class Part(enum.StrEnum):
    """What kind of case a row is."""

    GRADIENTS = "gradients"
    PASSES = "passes"
    EXAMPLE = "example"
    CLOSED_FORM = "closed form"
    ONE_PASS = "one pass"
    DEGENERATE = "degenerate"
    MASKED = "masked"
    MEMORY = "memory"


class Method(NamedTuple):
    """What is done about vertices that fail.

    Attributes:
        rule: which edges a failed vertex takes with it; None where nothing is solved again.
        passes: at most so many; None for as many as it takes.
        form: of s, as :func:`precond_lab.preconditioners.logdet.iterate` explains.
    """

    rule: Literal["one_sided", "literal"] | None
    passes: int | None
    form: Literal["pivots", "coefficients"] = "coefficients"


METHODS = {
    "printed": Method("literal", 1),  # Algorithm 3 as the paper has it
    "one_pass": Method("one_sided", 1),
    "iterated_literal": Method("literal", None),
    "iterated": Method("one_sided", None),
    "pivots_literal": Method("literal", None, "pivots"),
    "pivots": Method("one_sided", None, "pivots"),
    "masked": Method(None, None),  # the edges of "pivots", their entries of L struck out
}
FEW = ("printed", "pivots", "masked")
BANDS = (0, 1, 2, 4, 10)
# Where statistics are stored, and the arithmetic that projects them.
PIPELINES = (
    ("bfloat16", "bfloat16"),
    ("float16", "float16"),
    ("float32", "float32"),
    ("bfloat16", "float32"),
)
TOLERANCES = ("0", "2u", "8u")  # multiples of the unit roundoff of the *storage* format
INPUTS = ("definite", "stored", "degenerate")
NONE = "none"


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are.
    """
    settings = settings_for(options)
    origin = {"data": settings.data, "network": settings.network, "images": settings.images}
    for band in BANDS:
        for storage, arithmetic in PIPELINES:
            for layer in settings.layers:
                for t in settings.steps:
                    for method, tolerance in _methods(band, (storage, arithmetic), quick=options.quick):
                        yield {
                            "part": Part.GRADIENTS.value,
                            **origin,
                            "band": band,
                            "storage": storage,
                            "arithmetic": arithmetic,
                            "layer": layer,
                            "t": t,
                            "method": method,
                            "tolerance": tolerance,
                        }
    yield from _drawn(quick=options.quick)
    yield from _rational(quick=options.quick)
    for band in BANDS:
        yield {"part": Part.MEMORY.value, "band": band, "n": 2**20}


def _methods(band: int, pipeline: tuple[str, str], *, quick: bool) -> list[tuple[str, str]]:
    """Methods and tolerances; the quick study has all of them where all is bfloat16, and few on the widest band.

    To compile a program of the widest band takes longer than all the others together.
    """
    if not band:
        return [(NONE, NONE)]
    widest = band == max(BANDS)
    if not quick or (pipeline == PIPELINES[0] and not widest):
        chosen = tuple(METHODS)
    else:
        chosen = FEW if pipeline == PIPELINES[0] else ("pivots",)
    unguarded = [] if quick and widest and pipeline != PIPELINES[0] else [(NONE, NONE)]
    return [*unguarded, *((method, tolerance) for method in chosen for tolerance in TOLERANCES)]


def _drawn(*, quick: bool) -> Iterator[dict[str, Any]]:
    for format in ("bfloat16", "float16") if quick else ("bfloat16", "float16", "float32"):
        for band in (1, 2, 3) if quick else (1, 2, 3, 4, 10):
            for form in ("coefficients", "pivots"):
                for rule in ("one_sided", "literal"):
                    for inputs in INPUTS:
                        for tolerance in TOLERANCES:
                            yield {
                                "part": Part.PASSES.value,
                                "format": format,
                                "band": band,
                                "form": form,
                                "rule": rule,
                                "inputs": inputs,
                                "tolerance": tolerance,
                                "chains": 2**15 if quick else 2**20,
                                "seed": 0,
                            }
    for rule in ("one_sided", "literal"):
        yield {"part": Part.EXAMPLE.value, "format": "bfloat16", "rule": rule, "largest": 256}


def _rational(*, quick: bool) -> Iterator[dict[str, Any]]:
    for band in range(1, 11):
        yield {"part": Part.CLOSED_FORM.value, "band": band, "trials": 12 if quick else 100, "seed": 0}
        yield {"part": Part.DEGENERATE.value, "band": band, "trials": 40 if quick else 400, "seed": 0}
    for band in (1, 2, 3, 4):
        for windows in ("semidefinite", "indefinite"):
            yield {
                "part": Part.ONE_PASS.value,
                "band": band,
                "windows": windows,
                "trials": 200 if quick else 2000,
                "seed": 0,
            }
        yield {"part": Part.MASKED.value, "band": band, "trials": 200 if quick else 2000, "seed": 0}
