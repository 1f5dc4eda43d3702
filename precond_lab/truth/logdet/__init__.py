r"""The LogDet projection by its definition, in many digits or in rationals.

X minimizes -log det X + tr(X H) over the positive definite matrices that vanish off the graph G. The
problem is strictly convex, so X is the minimizer exactly if it satisfies the optimality condition

    X positive definite,   X = 0 off G,   X^{-1} = H on G.

A candidate may therefore come from anywhere: the condition judges it, and measures it too, since a
candidate whose inverse is H + E on G is the exact projection of H + E. Two ways of finding one are here,
and both are judged so: Newton's method on the convex problem, and an elimination of the condition's own
equations, whose cost is linear in the number of vertices. Neither knows the formulas of the program that it
is to judge.

The graphs are chordal: a band, a band without some of its edges, or the union of given cliques.
"""

from precond_lab.truth.logdet.exact import ExactProjection, exact_projection
from precond_lab.truth.logdet.projection import (
    Projection,
    Status,
    chordal_projection,
    direction,
    logdet_projection,
)

__all__ = [
    "ExactProjection",
    "Projection",
    "Status",
    "chordal_projection",
    "direction",
    "exact_projection",
    "logdet_projection",
]
