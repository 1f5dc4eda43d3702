"""What does a ridge hide?"""

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
    name="shampoo_ridge",
    version=1,
    question=(
        "A ridge makes Shampoo's inverse roots computable in few digits: how much of the error does it only hide, and "
        "how large should it be?"
    ),
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("condition", "ridge", "seed"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
