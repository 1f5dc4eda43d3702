"""Up to which condition number does a format carry an inverse root?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import grid


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases that differ in numbers only, in one compiled program."""
    del context
    from .roots import measure_all

    return measure_all(cases)


STUDY = Study(
    name="inverse_root_breakdown",
    version=1,
    question="Up to which condition number does a number format carry an inverse root, and by which method?",
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("condition", "spectrum", "seed"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
