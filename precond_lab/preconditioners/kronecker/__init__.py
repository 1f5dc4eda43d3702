"""Curvatures of a layer that are Kronecker products: K-FAC, FOOF and Shampoo."""

from precond_lab.preconditioners.kronecker.damping import (
    balance,
    factored,
    factored_by_scale,
    leaked_damping,
    leaking_step,
)
from precond_lab.preconditioners.kronecker.directions import (
    apply_inverses,
    by_eigenvectors,
    by_inverses,
    by_solves,
    foof,
    inverses,
)
from precond_lab.preconditioners.kronecker.factors import Factors, average_factors, layer_factors
from precond_lab.preconditioners.kronecker.shampoo import (
    Direction,
    Statistics,
    averaged,
    shampoo,
    statistics,
    summed,
)

__all__ = [
    "Direction",
    "Factors",
    "Statistics",
    "apply_inverses",
    "average_factors",
    "averaged",
    "balance",
    "by_eigenvectors",
    "by_inverses",
    "by_solves",
    "factored",
    "factored_by_scale",
    "foof",
    "inverses",
    "layer_factors",
    "leaked_damping",
    "leaking_step",
    "shampoo",
    "statistics",
    "summed",
]
