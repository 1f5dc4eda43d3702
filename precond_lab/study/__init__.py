"""Declared experiments: their grid, their runner, their stored rows, their claims."""

from precond_lab.study.claims import JudgedClaim, judge_claims
from precond_lab.study.declaration import (
    Case,
    Claim,
    Context,
    Failure,
    Figure,
    Judgement,
    Options,
    Plain,
    Provenance,
    Row,
    Status,
    Study,
    StudyError,
    cases,
    identity,
)
from precond_lab.study.loading import available, load, locate

__all__ = [
    "Case",
    "Claim",
    "Context",
    "Failure",
    "Figure",
    "JudgedClaim",
    "Judgement",
    "Options",
    "Plain",
    "Provenance",
    "Row",
    "Status",
    "Study",
    "StudyError",
    "available",
    "cases",
    "identity",
    "judge_claims",
    "load",
    "locate",
]
