"""Updates of rank one: an inverse carried from step to step, and the closed forms of Eva and its kin."""

from precond_lab.preconditioners.rank_one.catalog import METHODS
from precond_lab.preconditioners.rank_one.dense import sherman_morrison
from precond_lab.preconditioners.rank_one.recursion import Recursion, run

__all__ = [
    "METHODS",
    "Recursion",
    "run",
    "sherman_morrison",
]
