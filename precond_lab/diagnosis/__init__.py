"""Judgement of a computed result against what its condition allows."""

from precond_lab.diagnosis.condition import condition_number
from precond_lab.diagnosis.diagnose import Diagnosis, diagnose
from precond_lab.diagnosis.errors import direction_cosine, forward_error
from precond_lab.diagnosis.logdet_band_condition import BandCondition, band_condition, band_direction_condition
from precond_lab.diagnosis.logdet_condition import ProjectionCondition, projection_condition
from precond_lab.diagnosis.logdet_thresholds import Thresholds, least_kept_pivot, thresholds
from precond_lab.diagnosis.tracker import Track, track
from precond_lab.diagnosis.verdict import Verdict, judge

__all__ = [
    "BandCondition",
    "Diagnosis",
    "ProjectionCondition",
    "Thresholds",
    "Track",
    "Verdict",
    "band_condition",
    "band_direction_condition",
    "condition_number",
    "diagnose",
    "direction_cosine",
    "forward_error",
    "judge",
    "least_kept_pivot",
    "projection_condition",
    "thresholds",
    "track",
]
