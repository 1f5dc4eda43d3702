"""The LogDet projection in rationals."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.truth.logdet.graph import (
    Edge,
    Graph,
    band_graph,
    band_rows,
    definite_cliques,
    determinant,
    rationals,
    submatrix,
)
from precond_lab.truth.logdet.optimality import eliminate, inverse_on_graph
from precond_lab.truth.logdet.projection import Status


class ExactProjection(NamedTuple):
    """The projection in rationals, with its factors L D L^T.

    Let N be the later neighbors of vertex j on the graph. What is undefined is None: ``band`` where there is
    no projection, ``psi`` and ``s`` at each vertex where det H_NN = 0 or an entry of H is not finite.

    Attributes:
        status: SOLVED, or why there is no projection.
        band: X in SciPy's lower form, ``[b+1, n]`` of Fraction.
        psi: ``[b, n]`` of Fraction, H_NN^{-1} H_Nj by Cramer's rule: row k-1 belongs to the edge (j+k, j). It is
            0 off the graph. Column j of L is -psi below its 1.
        s: ``[n]`` of Fraction, the Schur complements det H_CC / det H_NN, with C = N and j; the reciprocals of
            D where there is a projection, and of either sign where there is none.
        vertex: the first vertex of the first clique on which H fails; None where solved.
    """

    status: Status
    band: np.ndarray
    psi: np.ndarray
    s: np.ndarray
    vertex: int | None


def exact_projection(H: ArrayLike, kept: ArrayLike | None = None) -> ExactProjection:
    """The LogDet projection of the stored H without any rounding.

    Args:
        H: ``[b+1, n]``, as for :func:`~precond_lab.truth.logdet.logdet_projection`.
        kept: bool ``[b, n]``, the edges of the reduced graph, as there.

    Returns:
        X and its factors in rationals. X has passed the optimality condition with equality; the factors are
        quotients of minors of H, which owe nothing to X. The cost is n b^4 operations on rationals.

    Raises:
        ValueError: for arguments that do not fit.
        ArithmeticError: if the candidate fails the optimality condition.

    Example:
        >>> exact = exact_projection([[2, 3, 1], [1, -1, 0]])
        >>> [str(x) for x in exact.band[0]], [str(s) for s in exact.s], [str(psi) for psi in exact.psi[0]]
        (['3/5', '17/30', '3/2'], ['5/3', '2', '1'], ['1/3', '-1', '0'])
        >>> exact_projection([[1, 1], [1, 0]]).s.tolist()
        [Fraction(0, 1), Fraction(1, 1)]
    """
    rows, b, n = band_rows(H)
    graph = band_graph(b, n, kept)
    band, psi, s = (np.full(shape, None, dtype=object) for shape in ((b + 1, n), (b, n), n))
    stored, vertex = rationals(lambda i, j: rows[i - j][j], graph)
    if vertex is not None:
        return ExactProjection(Status.NOT_FINITE, band, psi, s, vertex)
    for j in range(n):
        s[j], psi[:, j] = _quotients(stored, graph, j, b)
    _, vertex = definite_cliques(stored, graph)
    if vertex is not None:
        return ExactProjection(Status.NO_MINIMIZER, band, psi, s, vertex)
    x = eliminate(stored, graph)
    if inverse_on_graph(x, graph) != stored:
        raise ArithmeticError("the optimality condition is missed")
    band[:] = Fraction(0)
    for (i, j), value in x.items():
        band[i - j, j] = value
    return ExactProjection(Status.SOLVED, band, psi, s, None)


def _quotients(stored: dict[Edge, Fraction], graph: Graph, j: int, b: int) -> tuple[Fraction | None, list[Any]]:
    """The Schur complement of vertex j, with column j of psi, as quotients of determinants."""
    later = graph.later[j]
    separator = submatrix(stored, later)
    denominator = determinant(separator)
    if denominator == 0:
        return None, [None] * b
    psi = {}
    for p, i in enumerate(later):
        replaced = [[*row[:p], stored[k, j], *row[p + 1 :]] for k, row in zip(later, separator, strict=True)]
        psi[i] = determinant(replaced) / denominator
    s = determinant(submatrix(stored, graph.clique(j))) / denominator
    return s, [psi.get(j + k, Fraction(0)) for k in range(1, b + 1)]
