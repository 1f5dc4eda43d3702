"""Judgement of a computed result against what its condition allows."""

from precond_lab.diagnosis.certainty import Certainty
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
from precond_lab.diagnosis.rank_one_certificates import (
    RoundingCertificate,
    integer_certificate,
    rounding_certificate,
)
from precond_lab.diagnosis.rank_one_forward_error import (
    EvaCertificate,
    WoodburyBound,
    capacitance_bounds,
    eva_certificate,
    woodbury_bound,
    woodbury_quantities,
)
from precond_lab.diagnosis.rank_one_gain import (
    ComputedGain,
    GainCertificate,
    SignCertificate,
    gain_certificate,
    gain_condition,
    sign_certificate,
)
from precond_lab.diagnosis.rank_one_order import (
    OrderCertificate,
    RecursionCertificate,
    mkor_certificate,
    order_certificate,
    recursion_certificate,
    sandwich,
)
from precond_lab.diagnosis.ridge_bias import RidgeBias, ridge_bias
from precond_lab.diagnosis.tracker import Track, track
from precond_lab.diagnosis.verdict import Verdict, judge

__all__ = [
    "BandCondition",
    "Certainty",
    "ComputedGain",
    "Diagnosis",
    "EntrywiseCondition",
    "EvaCertificate",
    "GainCertificate",
    "InverseRootCondition",
    "InverseRootErrors",
    "OrderCertificate",
    "ProjectionCondition",
    "Quotients",
    "RecursionCertificate",
    "RidgeBias",
    "RoundingCertificate",
    "SignCertificate",
    "Thresholds",
    "Track",
    "Verdict",
    "WoodburyBound",
    "band_condition",
    "band_direction_condition",
    "capacitance_bounds",
    "condition_number",
    "condition_of_spectrum",
    "diagnose",
    "direction_cosine",
    "entrywise_condition",
    "eva_certificate",
    "forward_error",
    "gain_certificate",
    "gain_condition",
    "integer_certificate",
    "inverse_root_condition",
    "inverse_root_errors",
    "judge",
    "least_kept_pivot",
    "mkor_certificate",
    "order_certificate",
    "projection_condition",
    "quotients",
    "recursion_certificate",
    "ridge_bias",
    "rounding_certificate",
    "sandwich",
    "sign_certificate",
    "thresholds",
    "track",
    "woodbury_bound",
    "woodbury_quantities",
]
