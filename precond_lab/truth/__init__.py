"""Ground truth: programs without rounding, and mathematical targets by their definition."""

from precond_lab.truth.evaluate import evaluate
from precond_lab.truth.inverse_root import inverse_root
from precond_lab.truth.logdet import logdet_projection

__all__ = ["evaluate", "inverse_root", "logdet_projection"]
