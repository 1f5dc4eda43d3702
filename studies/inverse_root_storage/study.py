"""In which form should statistics and roots be kept, when they are kept in few bits?"""

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
    from .forms import measure_all

    return measure_all(cases)


STUDY = Study(
    name="inverse_root_storage",
    version=1,
    question=(
        "Statistics and their inverse roots are kept in 16, 8 or 4 bits between steps: in which form does the root "
        "lose the least, and by which measure?"
    ),
    grid=grid,
    measure=measure,
    measure_batch=measure_batch,
    batched=("subject", "ridge", "p", "condition", "seed"),
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
