"""Does SONew's tridiagonal LogDet projection survive bfloat16, and what does its stabilization buy?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import Part, grid
from .settings import settings_for


def prepare(context: Context) -> None:
    """Train the autoencoder once and keep its gradient statistics."""
    from .gradients import prepare as train

    train(settings_for(context.options), context.cache)


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases that differ in numbers only, in one compiled program."""
    part = Part(cases[0]["part"])
    if part is Part.GRADIENTS:
        from .directions import measure_all

        return measure_all(cases, context)
    if part is Part.TRACK:
        from .directions import measure_tracks

        return measure_tracks(cases, context)
    from . import theorems

    return [theorems.MEASURES[part](case) for case in cases]


STUDY = Study(
    name="sonew_tridiagonal",
    version=1,
    question=(
        "Does SONew's tridiagonal LogDet projection survive bfloat16 on real gradient statistics, and what does its "
        "stabilization (Algorithm 3) buy?"
    ),
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("t", "stabilization"),
    prepare=prepare,
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
