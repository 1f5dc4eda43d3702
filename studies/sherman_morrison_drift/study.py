"""Does an inverse that is carried by updates of rank one survive low precision?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import Part, grid


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases of one part that differ in numbers only."""
    del context
    from .parts import MEASURES

    return MEASURES[Part(cases[0]["part"])](cases)


STUDY = Study(
    name="sherman_morrison_drift",
    version=1,
    question=(
        "Does an inverse that is carried from step to step by updates of rank one survive low precision, when does it "
        "break, and what cures it?"
    ),
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("condition", "seed", "beta", "stream", "step", "eta"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
