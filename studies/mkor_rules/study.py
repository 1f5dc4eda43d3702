"""Does MKOR's printed update invert what it is said to, and in which formats does the released one stay definite?"""

from collections.abc import Mapping, Sequence
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import Part, grid


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case: a shard of one."""
    return measure_batch([case], context)[0]


def measure_batch(cases: list[Mapping[str, Any]], context: Context) -> Sequence[Mapping[str, Any]]:
    """Cases that differ in numbers only, or in the step, by one compiled program."""
    del context
    part = Part(cases[0]["part"])
    if part is Part.LEMMA:
        from .lemma import measure_lemma

        return [measure_lemma(case) for case in cases]
    if part is Part.RELEASED:
        from .storage import measure_all

        return measure_all(cases)
    from . import recursions

    return recursions.MEASURES[part](cases)


STUDY = Study(
    name="mkor_rules",
    version=2,
    question=(
        "Does MKOR's printed update follow the inverse that it stands for, and in which number formats does the "
        "released recursion stay positive definite?"
    ),
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("log_gain", "t", "weight_over_bound", "log_energy", "seed", "gamma"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
