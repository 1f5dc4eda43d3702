"""Chordal graphs, with the numbers stored on them as rationals."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import lcm, log10, prod
from typing import Any, NamedTuple

import mpmath
import numpy as np
from numpy.typing import ArrayLike

Edge = tuple[int, int]  # (i, j) with i >= j; the diagonal counts as edges


class Graph(NamedTuple):
    """A graph whose natural order is a perfect elimination order.

    Attributes:
        later: for each vertex its later neighbors, ascending; they are linked to each other.
    """

    later: list[list[int]]

    @property
    def n(self) -> int:
        """The number of vertices."""
        return len(self.later)

    @property
    def edges(self) -> list[Edge]:
        """The edges by their earlier vertex, each vertex's own (j, j) first."""
        return [(i, j) for j in range(self.n) for i in (j, *self.later[j])]

    def clique(self, j: int) -> list[int]:
        """Vertex j after its later neighbors: all maximal cliques are among these."""
        return [*reversed(self.later[j]), j]


def band_rows(H: ArrayLike) -> tuple[list[list[Any]], int, int]:
    """The rows of a band, with b and n.

    Args:
        H: ``[b+1, n]``.

    Returns:
        The rows, b and n.

    Raises:
        ValueError: if H is no band.
    """
    array = np.asarray(H)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"a band of shape {array.shape} given; wanted [b+1, n] with a row and a column at least")
    return array.tolist(), array.shape[0] - 1, array.shape[1]


def band_graph(b: int, n: int, kept: ArrayLike | None) -> Graph:
    """The graph of a band, or what is kept of it.

    Args:
        b: the number of diagonals below the main one.
        n: the number of vertices.
        kept: bool ``[b, n]``, the edges (i+k, i) that remain in row k-1; None for all.

    Returns:
        The graph.

    Raises:
        ValueError: if the mask does not fit, or the order is no perfect elimination order.
    """
    mask = np.ones((b, n), bool) if kept is None else np.asarray(kept, bool)
    if mask.shape != (b, n):
        raise ValueError(f"kept has shape {mask.shape}; H needs a mask of shape {(b, n)}")
    later = [[j + k for k in range(1, min(b, n - 1 - j) + 1) if mask[k - 1, j]] for j in range(n)]
    for j, neighbors in enumerate(later):
        for k, i in _pairs(neighbors):
            if not mask[i - k - 1, k]:
                raise ValueError(
                    f"kept links vertex {j} to {k} and {i} but not these to each other; on the reduced graph "
                    "the later neighbors of each vertex must be linked pairwise (a perfect elimination order)"
                )
    return Graph(later)


def clique_graph(cliques: Iterable[Iterable[int]], n: int) -> tuple[Graph, list[int]]:
    """The union of cliques, its vertices renumbered in a perfect elimination order.

    The order takes the first vertex whose remaining neighbors are linked pairwise, again and again; on a
    chordal graph there always is one.

    Args:
        cliques: the vertices of each clique, of range(n).
        n: the number of vertices.

    Returns:
        The graph, and the given number of each of its vertices.

    Raises:
        ValueError: for vertices that do not exist or are in no clique, and if the graph is not chordal.
    """
    linked: dict[int, set[int]] = {}
    for clique in map(set, cliques):
        if not clique <= set(range(n)):
            raise ValueError(f"the clique {sorted(clique)} names a vertex that is none of 0 to {n - 1}")
        for v in clique:
            linked.setdefault(v, set()).update(clique - {v})
    if len(linked) < n:
        missing = next(v for v in range(n) if v not in linked)
        raise ValueError(f"vertex {missing} is in no clique; give it one of its own if it has no neighbors")
    neighbors = {}  # in the order of elimination
    while linked:
        simplicial = (v for v in sorted(linked) if all(i in linked[k] for k, i in _pairs(sorted(linked[v]))))
        v = next(simplicial, None)
        if v is None:
            raise ValueError(f"the graph is not chordal: it has a cycle without a chord among {sorted(linked)}")
        neighbors[v] = linked.pop(v)
        for i in neighbors[v]:
            linked[i].remove(v)
    position = {v: p for p, v in enumerate(neighbors)}
    return Graph([sorted(position[i] for i in later) for later in neighbors.values()]), list(neighbors)


def _pairs(vertices: Sequence[int]) -> list[tuple[int, int]]:
    return [(k, i) for p, k in enumerate(vertices) for i in vertices[p + 1 :]]


def rationals(entry: Callable[[int, int], Any], graph: Graph) -> tuple[dict[Edge, Fraction], int | None]:
    """The entries on the graph as rationals.

    Args:
        entry: the stored number of an edge: of any float format, a rational or an mpmath number.
        graph: the graph.

    Returns:
        The rationals by edge, and the first vertex at whose edges to later ones a number is not finite.
    """
    stored = {}
    for i, j in graph.edges:
        x = rational(entry(i, j))
        if x is None:
            return {}, j
        stored[i, j] = x
    return stored, None


def rational(x: Any) -> Fraction | None:
    """A stored number without rounding; None if it is not finite."""
    if isinstance(x, int | Fraction):
        return Fraction(x)
    x = x if isinstance(x, mpmath.mpf) else float(x)
    return Fraction(*x.as_integer_ratio()) if mpmath.isfinite(x) else None


def submatrix(stored: dict[Edge, Any], vertices: Sequence[int]) -> list[list[Any]]:
    """The symmetric matrix of the entries between vertices that are linked pairwise."""
    return [[stored[max(p, q), min(p, q)] for q in vertices] for p in vertices]


def definite_cliques(stored: dict[Edge, Fraction], graph: Graph) -> tuple[int, int | None]:
    """Whether H is positive definite on every clique, which on a chordal graph decides existence.

    Args:
        stored: H on the graph.
        graph: the graph.

    Returns:
        How singular H is: the decimal exponent of the smallest determinant of a clique scaled to a unit
        diagonal. And the first vertex whose clique with its later neighbors fails, if there is one.
    """
    exponent = 0
    for j in range(graph.n):
        A = submatrix(stored, graph.clique(j))
        minors = [determinant([row[:k] for row in A[:k]]) for k in range(1, len(A) + 1)]
        if min(minors) <= 0:
            return 0, j
        exponent = min(exponent, _decimal_exponent(minors[-1] / prod(A[k][k] for k in range(len(A)))))
    return exponent, None


def determinant(A: list[list[Fraction]]) -> Fraction:
    """The determinant of a square matrix of rationals, by Bareiss's elimination in integers.

    Args:
        A: the rows.

    Returns:
        The determinant; 1 for a matrix without rows.
    """
    scale = lcm(*(x.denominator for row in A for x in row))
    M = [[x.numerator * (scale // x.denominator) for x in row] for row in A]
    sign, previous = 1, 1
    for k in range(len(M)):
        found = next((r for r in range(k, len(M)) if M[r][k]), None)
        if found is None:
            return Fraction(0)
        if found != k:
            M[k], M[found], sign = M[found], M[k], -sign
        top = M[k]
        for row in M[k + 1 :]:
            row[k + 1 :] = [
                (x * top[k] - row[k] * y) // previous for x, y in zip(row[k + 1 :], top[k + 1 :], strict=True)
            ]
        previous = top[k]
    return Fraction(sign * previous, scale ** len(M))


def _decimal_exponent(x: Fraction) -> int:
    return int((x.numerator.bit_length() - x.denominator.bit_length()) * log10(2)) - 1
