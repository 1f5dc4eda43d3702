"""How are SONew's statistics to be carried in low precision?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import grid


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases that differ in decay and gradient size only, in one compiled program."""
    del context
    from .accumulation import measure_all

    return measure_all(cases)


STUDY = Study(
    name="sonew_statistics",
    version=1,
    question="In which form can SONew's statistics, sums and averages of g g^T, be carried in low precision?",
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("beta2", "exponent"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
