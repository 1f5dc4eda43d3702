"""Ground truth: programs without rounding, and mathematical targets by their definition."""
