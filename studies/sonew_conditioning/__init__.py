"""Condition numbers and breakdown thresholds of the LogDet projection, over enumerated significands."""
