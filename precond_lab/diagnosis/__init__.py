"""Judgement of a computed result against what its condition allows."""

from precond_lab.diagnosis.condition import condition_number
from precond_lab.diagnosis.diagnose import Diagnosis, diagnose
from precond_lab.diagnosis.errors import direction_cosine, forward_error
from precond_lab.diagnosis.inverse_root_condition import (
    EntrywiseCondition,
    InverseRootCondition,
    condition_of_spectrum,
    entrywise_condition,
    inverse_root_condition,
)
from precond_lab.diagnosis.inverse_root_errors import InverseRootErrors, Quotients, inverse_root_errors, quotients
from precond_lab.diagnosis.logdet_band_condition import BandCondition, band_condition, band_direction_condition
from precond_lab.diagnosis.logdet_condition import ProjectionCondition, projection_condition
from precond_lab.diagnosis.logdet_thresholds import Thresholds, least_kept_pivot, thresholds
from precond_lab.diagnosis.ridge_bias import RidgeBias, ridge_bias
from precond_lab.diagnosis.tracker import Track, track
from precond_lab.diagnosis.verdict import Verdict, judge

__all__ = [
    "BandCondition",
    "Diagnosis",
    "EntrywiseCondition",
    "InverseRootCondition",
    "InverseRootErrors",
    "ProjectionCondition",
    "Quotients",
    "RidgeBias",
    "Thresholds",
    "Track",
    "Verdict",
    "band_condition",
    "band_direction_condition",
    "condition_number",
    "condition_of_spectrum",
    "diagnose",
    "direction_cosine",
    "entrywise_condition",
    "forward_error",
    "inverse_root_condition",
    "inverse_root_errors",
    "judge",
    "least_kept_pivot",
    "projection_condition",
    "quotients",
    "ridge_bias",
    "thresholds",
    "track",
]
