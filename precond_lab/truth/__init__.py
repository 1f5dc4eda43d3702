"""Ground truth: programs without rounding, and mathematical targets by their definition."""

from precond_lab.truth.evaluate import evaluate
from precond_lab.truth.inverse_root import inverse_root
from precond_lab.truth.logdet import logdet_projection
from precond_lab.truth.rank_one import accumulated, rank_one_inverse, rank_one_inverses

__all__ = ["accumulated", "evaluate", "inverse_root", "logdet_projection", "rank_one_inverse", "rank_one_inverses"]
