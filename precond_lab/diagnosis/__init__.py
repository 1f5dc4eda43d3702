"""Judgement of a computed result against what its condition allows."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precond_lab.diagnosis.condition import condition_number
    from precond_lab.diagnosis.diagnose import Diagnosis, diagnose
    from precond_lab.diagnosis.errors import direction_cosine, forward_error
    from precond_lab.diagnosis.logdet_condition import ProjectionCondition, projection_condition
    from precond_lab.diagnosis.tracker import Track, track
    from precond_lab.diagnosis.verdict import Verdict, judge

__all__ = [
    "Diagnosis",
    "ProjectionCondition",
    "Track",
    "Verdict",
    "condition_number",
    "diagnose",
    "direction_cosine",
    "forward_error",
    "judge",
    "projection_condition",
    "track",
]

_MODULES = {
    "condition": ("condition_number",),
    "diagnose": ("Diagnosis", "diagnose"),
    "errors": ("direction_cosine", "forward_error"),
    "logdet_condition": ("ProjectionCondition", "projection_condition"),
    "tracker": ("Track", "track"),
    "verdict": ("Verdict", "judge"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(import_module(f"precond_lab.diagnosis.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'precond_lab.diagnosis' has no attribute {name!r}")
