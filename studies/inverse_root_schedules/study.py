"""At which steps does an iteration for inverse roots need its precision?"""

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
    from . import chains, polar, roots, scalings

    measures = {
        Part.SCHEDULE: roots.measure_all,
        Part.CHAINS: chains.measure_all,
        Part.SCALING: scalings.measure_all,
        Part.QUOTIENT: scalings.measure_quotients,
        Part.ACCELERATED: scalings.measure_accelerated,
        Part.GRAM: polar.measure_grams,
        Part.OUTLIERS: polar.measure_outliers,
    }
    return measures[Part(cases[0]["part"])](cases)


STUDY = Study(
    name="inverse_root_schedules",
    version=1,
    question="At which steps does an iteration for inverse roots need its precision?",
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("condition", "switch", "seed"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
