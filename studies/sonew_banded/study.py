"""Do wider bands survive low precision, and does one pass of SONew's stabilization suffice for them?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures, judges
from .cases import Part, grid
from .settings import settings_for


def prepare(context: Context) -> None:
    """Train the autoencoder once and keep the banded statistics of its gradients."""
    from .gradients import prepare as train

    train(settings_for(context.options), context.cache)


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases of one part that share their compiled programs."""
    part = Part(cases[0]["part"])
    if part is Part.GRADIENTS:
        from .directions import measure_all

        return measure_all(cases, context)
    if part is Part.PASSES:
        from .passes import measure_drawn

        return measure_drawn(cases)
    if part is Part.EXAMPLE:
        from .examples import smallest

        return [smallest(case) for case in cases]
    if part is Part.MEMORY:
        from .memory import measure_memory

        return [measure_memory(case) for case in cases]
    from . import rationals

    return [rationals.MEASURES[part](case) for case in cases]


STUDY = Study(
    name="sonew_banded",
    version=1,
    question=(
        "Do wider bands of SONew's LogDet projection survive low precision on real gradient statistics, and does one "
        "pass of its stabilization (Algorithm 3) suffice for them?"
    ),
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("layer", "t", "tolerance", "method", "inputs"),
    prepare=prepare,
    answer=judges.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
