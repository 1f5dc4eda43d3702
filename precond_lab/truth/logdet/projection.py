"""The LogDet projection in many digits: a candidate with its proof."""

from collections.abc import Callable, Iterable
from enum import Enum
from math import ceil, log10
from typing import Any, Literal, NamedTuple

import mpmath
import numpy as np
from numpy.typing import ArrayLike

from precond_lab.truth.logdet.graph import (
    Graph,
    band_graph,
    band_rows,
    clique_graph,
    definite_cliques,
    rational,
    rationals,
)
from precond_lab.truth.logdet.optimality import eliminate, newton, residual

Method = Literal["auto", "newton", "elimination"]

_NEWTON_UNKNOWNS = 15


class Status(Enum):
    """Whether there is a projection."""

    SOLVED = "solved"
    NO_MINIMIZER = "no minimizer"
    NOT_FINITE = "not finite"

    @property
    def prose(self) -> str:
        """What this means for H."""
        return _PROSE[self]


_PROSE = {
    Status.SOLVED: "The projection exists, and X satisfies its optimality condition.",
    Status.NO_MINIMIZER: "H is not positive definite on a clique: -log det X + tr(X H) has no minimum.",
    Status.NOT_FINITE: "H holds an infinity or a NaN on the graph.",
}


class Projection(NamedTuple):
    """The projection and its proof.

    Attributes:
        status: SOLVED, or why there is no projection.
        band: X in SciPy's lower form, ``[b+1, n]`` of mpmath numbers; NaN throughout where there is none.
        residual: largest |X^{-1} - H|_ij / sqrt(H_ii H_jj) over the graph; infinite where there is none.
        vertex: the first vertex of the first clique on which H fails; None where solved.
    """

    status: Status
    band: np.ndarray
    residual: Any
    vertex: int | None

    @property
    def X(self) -> np.ndarray:
        """The dense matrix, ``[n, n]`` of mpmath numbers."""
        n = self.band.shape[1]
        X = np.full((n, n), mpmath.mpf(0), dtype=object)
        for k, row in enumerate(self.band):
            for i in range(n - k):
                X[i + k, i] = X[i, i + k] = row[i]
        return X


def logdet_projection(
    H: ArrayLike, digits: int = 50, kept: ArrayLike | None = None, *, method: Method = "auto"
) -> Projection:
    """The LogDet projection of the stored H onto its band, or onto the reduced graph.

    Whether there is a minimizer is decided exactly, from the stored numbers as rationals.

    Args:
        H: ``[b+1, n]``, row k holding H_{i+k,i}: floats of any format (taken as they are, bit by bit),
            rationals, or mpmath numbers. What lies past the end of a diagonal is ignored.
        digits: the residual is at most 10^-digits. The work is done with more digits than that, by as many as
            the cliques of H are singular, so that X is as accurate.
        kept: bool ``[b, n]``, the edges of the reduced graph, (i+k, i) in row k-1; None for all. The later
            neighbors of each vertex must be linked pairwise.
        method: "newton" (cost n^3 b^3 a step), "elimination" (cost n b^3), or the first where there are few
            entries to find and else the second.

    Returns:
        The band of X with its residual, or the reason why there is none.

    Raises:
        ValueError: for arguments that do not fit.
        ArithmeticError: if the candidate fails the optimality condition.

    Example:
        >>> projection = logdet_projection([[2.0, 3.0, 1.0], [1.0, -1.0, 0.0]], digits=30)
        >>> [mpmath.nstr(x, 10) for x in projection.band[0]]
        ['0.6', '0.5666666667', '1.5']
        >>> logdet_projection([[1.0, 1.0], [1.0, 0.0]]).status
        <Status.NO_MINIMIZER: 'no minimizer'>
    """
    rows, b, n = band_rows(H)
    graph = band_graph(b, n, kept)
    return _projection(lambda i, j: rows[i - j][j], graph, list(range(n)), b, digits, method)


def chordal_projection(
    H: ArrayLike, cliques: Iterable[Iterable[int]], digits: int = 50, *, method: Method = "auto"
) -> Projection:
    """The LogDet projection of the stored H onto the union of cliques.

    The union alone counts: not the order of the cliques, nor which of its cliques are given.

    Args:
        H: symmetric ``[n, n]``: numbers as for :func:`logdet_projection`. What is not on the graph is not read.
        cliques: the vertices 0 to n-1 of each clique; every vertex is in one at least, and the graph of all
            pairs inside of cliques is chordal.
        digits: as for :func:`logdet_projection`.
        method: as for :func:`logdet_projection`.

    Returns:
        The whole of X as a band with n-1 diagonals below the main one (``.X`` is the matrix) with its residual,
        or the reason why there is none. The vertex of a failure is the first in the order of elimination.

    Raises:
        ValueError: for arguments that do not fit.
        ArithmeticError: if the candidate fails the optimality condition.

    Example:
        A star: 0 and 1 are linked to 2 alone.

        >>> H = [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0]]
        >>> projection = chordal_projection(H, [(0, 2), (1, 2)], digits=30)
        >>> [mpmath.nstr(x, 10) for x in projection.X[2]]
        ['-1.0', '-0.5', '2.5']
    """
    array = np.asarray(H)
    n = len(array) if array.ndim else 0
    if not n or array.shape != (n, n):
        raise ValueError(f"a matrix of shape {array.shape} given; wanted [n, n] with a row at least")
    rows, (graph, order) = array.tolist(), clique_graph(cliques, n)
    for i, j in ((order[p], order[q]) for p, q in graph.edges):
        if rational(rows[i][j]) != rational(rows[j][i]):
            raise ValueError(f"H is not symmetric: {rows[i][j]} at {i}, {j} but {rows[j][i]} at {j}, {i}")
    return _projection(lambda p, q: rows[order[p]][order[q]], graph, order, n - 1, digits, method)


def _projection(
    entry: Callable[[int, int], Any], graph: Graph, order: list[int], b: int, digits: int, method: Method
) -> Projection:
    """X in a band, for a graph whose vertex p is the caller's order[p]."""
    if method not in {"auto", "newton", "elimination"}:
        raise ValueError(f"there is no method {method!r}: use 'auto', 'newton' or 'elimination'")
    if method == "auto":
        method = "newton" if len(graph.edges) <= _NEWTON_UNKNOWNS else "elimination"
    stored, bad = rationals(entry, graph)
    if bad is not None:
        return _none(Status.NOT_FINITE, b, graph.n, order[bad])
    singular, bad = definite_cliques(stored, graph)
    if bad is not None:
        return _none(Status.NO_MINIMIZER, b, graph.n, order[bad])
    # The inverse loses as many digits as the worst clique is singular, once for X and once for the check.
    guard = 10 + ceil(log10(graph.n)) - 2 * singular
    with mpmath.workdps(digits + guard):
        h = {edge: mpmath.mpf(x.numerator) / x.denominator for edge, x in stored.items()}
        x = newton(h, graph.n, digits) if method == "newton" else eliminate(h, graph)
        missed = residual(x, h, graph)
        if not missed <= mpmath.mpf(10) ** -digits:
            raise ArithmeticError(f"the optimality condition is missed by {mpmath.nstr(missed, 3)}")
        band = np.full((b + 1, graph.n), mpmath.mpf(0), dtype=object)
        for (p, q), value in x.items():
            i, j = sorted((order[p], order[q]))
            band[j - i, i] = value
    return Projection(Status.SOLVED, band, missed, None)


def _none(status: Status, b: int, n: int, vertex: int) -> Projection:
    return Projection(status, np.full((b + 1, n), mpmath.nan, dtype=object), mpmath.inf, vertex)


def direction(H: ArrayLike, g: ArrayLike, digits: int = 50, kept: ArrayLike | None = None) -> np.ndarray:
    """The direction X g, for the LogDet projection X of H.

    Args:
        H: ``[b+1, n]``, as for :func:`logdet_projection`.
        g: ``[n]``, floats, rationals or mpmath numbers.
        digits: of X; cancellation in the product is not counted.
        kept: bool ``[b, n]``, the edges of the reduced graph, as for :func:`logdet_projection`.

    Returns:
        ``[n]`` of mpmath numbers; NaN throughout where no projection exists.

    Raises:
        ValueError: if g does not have the length of the chain.
    """
    n = band_rows(H)[2]
    vector = np.asarray(g)
    if vector.shape != (n,):
        raise ValueError(f"g has length {vector.size} and shape {vector.shape}; H has {n} vertices: wanted [{n}]")
    band = logdet_projection(H, digits, kept).band
    with mpmath.workdps(digits + 10):
        v = [_multiprecision(x) for x in vector.tolist()]
        u = [band[0, i] * v[i] for i in range(n)]
        for k, row in enumerate(band[1:], start=1):
            for i in range(n - k):
                u[i + k] += row[i] * v[i]
                u[i] += row[i] * v[i + k]
    return np.array(u, dtype=object)


def _multiprecision(x: Any) -> Any:
    if isinstance(x, mpmath.mpf):
        return x
    exact = rational(x)
    return mpmath.mpf(float(x)) if exact is None else mpmath.mpf(exact.numerator) / exact.denominator
