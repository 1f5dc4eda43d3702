"""When does Eva's closed form lose the curved direction, and what keeps it?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import Part, grid
from .settings import settings_for


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases that differ in numbers, in the step, or in the layer only, by one compiled program."""
    match Part(cases[0]["part"]):
        case Part.SOLVE | Part.DESCENT as part:
            from . import rationals

            return [rationals.MEASURES[part](case) for case in cases]
        case Part.CANCELLATION | Part.RANGE:
            from .cancellation import measure_all

            return measure_all(cases)
        case Part.AVERAGE:
            from .averages import measure_all

            return measure_all(cases)
        case Part.LEAK:
            from .leak import measure_all

            return measure_all(cases)
        case part:
            from . import training

            return training.MEASURES[part](cases, settings_for(context.options))


STUDY = Study(
    name="eva_cancellation",
    version=2,
    question="When does Eva's closed form lose the curved direction in low precision, and what keeps it?",
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("log_ratio", "noise", "exponent", "change_in_units", "t", "layer"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
