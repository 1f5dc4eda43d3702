"""What is wrong with the inverse roots that optimizers ship, and does their error indicator say so?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import Part, grid


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases that differ in numbers only, in one compiled program."""
    del context
    from .measures import MEASURES

    return MEASURES[Part(cases[0]["part"])](cases)


STUDY = Study(
    name="inverse_root_peers",
    version=1,
    question="What is wrong with the inverse roots that optimizers ship, and does their error indicator say so?",
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("p", "condition", "scale", "change", "drift", "decay", "noise", "input", "fill", "guard", "seed"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
