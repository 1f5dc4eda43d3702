"""Data sets, networks, and gradient streams of real training."""
