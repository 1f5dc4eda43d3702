"""How ill conditioned is the LogDet projection, and when exactly does low precision break it?"""

from collections.abc import Mapping
from typing import Any

from precond_lab.study import Context, Study

from . import claims, figures
from .cases import Part, grid


def measure(case: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """One case."""
    del context
    from .measures import MEASURES

    return MEASURES[Part(case["part"])](case)


STUDY = Study(
    name="sonew_conditioning",
    version=1,
    question=(
        "How ill conditioned is the LogDet projection, how much of that do rounding errors use up, and from which "
        "pivot on can low precision not break it?"
    ),
    grid=grid,
    measure=measure,
    answer=claims.answer,
    figures=figures.FIGURES,
    claims=claims.CLAIMS,
)
