"""Updates of rank one: an inverse carried from step to step, and the closed forms of Eva and its kin."""

from precond_lab.preconditioners.rank_one.catalog import METHODS, SETTINGS, recursion
from precond_lab.preconditioners.rank_one.dense import sherman_morrison
from precond_lab.preconditioners.rank_one.factored import Outcome
from precond_lab.preconditioners.rank_one.recursion import Recursion, run
from precond_lab.preconditioners.rank_one.refinement import (
    Refined,
    elimination,
    refined_sherman_morrison_solve,
    sherman_morrison_solve,
)
from precond_lab.preconditioners.rank_one.woodbury import woodbury

__all__ = [
    "METHODS",
    "SETTINGS",
    "Outcome",
    "Recursion",
    "Refined",
    "elimination",
    "recursion",
    "refined_sherman_morrison_solve",
    "run",
    "sherman_morrison",
    "sherman_morrison_solve",
    "woodbury",
]
