"""Ground truth: programs without rounding, and mathematical targets by their definition."""

from precond_lab.truth.evaluate import evaluate
from precond_lab.truth.logdet import logdet_projection

__all__ = ["evaluate", "logdet_projection"]
