"""Chordal graphs, as trees of their maximal cliques.

A graph is chordal if its maximal cliques can be linked to a tree (or a forest) in which the cliques that hold a vertex
hang together: the running-intersection property. The separators are the intersections of the cliques that are linked.
Bands and blocks are chordal.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax


@jax.tree_util.register_static
@dataclass(frozen=True)
class CliqueTree:
    """The maximal cliques of a chordal graph, linked. Made by :func:`clique_tree`, which checks it.

    Hashable, and static wherever JAX sees it: an argument that a trace takes as it is.

    Attributes:
        cliques: the vertices of each clique, ascending.
        parents: of each clique the one that it is linked to, -1 for a root.
    """

    cliques: tuple[tuple[int, ...], ...]
    parents: tuple[int, ...]

    @cached_property
    def n(self) -> int:
        """The number of vertices."""
        return 1 + max(map(max, self.cliques))

    @cached_property
    def separators(self) -> tuple[tuple[int, ...], ...]:
        """Of each clique the vertices that its parent has too, ascending; none for a root."""
        return tuple(
            () if p < 0 else tuple(sorted({*C} & {*self.cliques[p]}))
            for C, p in zip(self.cliques, self.parents, strict=True)
        )

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A perfect elimination order: the neighbors of a vertex that come after it are linked with each other.

        Cliques that are far from their root come first, each with the vertices that its parent has not.
        """
        depths = _depths(self.parents)
        leaves_first = sorted(range(len(self.cliques)), key=lambda i: (-depths[i], i))
        return tuple(v for i in leaves_first for v in self.cliques[i] if v not in self.separators[i])


def clique_tree(cliques: Iterable[Iterable[int]], parents: Sequence[int] | None = None) -> CliqueTree:
    """The tree of these cliques, checked.

    Args:
        cliques: the vertices of each maximal clique; together they are 0, ..., n-1.
        parents: of each clique the index of the one that it is linked to, -1 for a root. None for a spanning tree of
            largest total separator size, which has the running-intersection property if any tree has.

    Returns:
        The tree. Cost, for m cliques: m^2 intersections where the parents are to be found.

    Raises:
        ValueError: for a vertex that is missing, negative, or twice in one clique; a clique that is empty, or within
            another one that it is linked to; parents that are no forest; a vertex whose cliques do not hang together.

    Example:
        >>> tree = clique_tree([[0, 1], [1, 2, 3], [3, 4]])
        >>> tree.parents, tree.separators, tree.order
        ((-1, 0, 1), ((), (1,), (3,)), (4, 2, 3, 0, 1))
    """
    listed = [[*map(int, clique)] for clique in cliques]
    for i, clique in enumerate(listed):
        if len(set(clique)) < len(clique) or not clique or min(clique) < 0:
            raise ValueError(f"clique {i} is {clique}; a clique has one vertex or more, each once and none negative")
    sets = [frozenset(clique) for clique in listed]
    if not sets:
        raise ValueError("no cliques given; a vertex without edges is a clique of its own")
    present = frozenset().union(*sets)
    missing = sorted(frozenset(range(len(present))) - present)
    if missing:
        raise ValueError(f"vertex {missing[0]} is in no clique; the vertices must be 0, ..., {max(present)}")
    parents = _spanning_tree(sets) if parents is None else tuple(map(int, parents))
    _check_forest(parents, len(sets))
    for i, p in enumerate(parents):
        if p >= 0 and (sets[i] <= sets[p] or sets[p] <= sets[i]):
            raise ValueError(f"cliques {i} and {p} are linked, and one is within the other: leave out the smaller")
    _check_running_intersection(sets, parents)
    return CliqueTree(tuple(tuple(sorted(clique)) for clique in sets), parents)


def band_tree(n: int, band: int) -> CliqueTree:
    """The graph of a band: its cliques are the windows of b+1 successive vertices, each linked to the next.

    Args:
        n: number of vertices.
        band: b, number of subdiagonals.

    Returns:
        The tree, whose elimination order is 0, ..., n-1.

    Raises:
        ValueError: if n is not positive, or b is negative.

    Example:
        >>> band_tree(4, 2)
        CliqueTree(cliques=((0, 1, 2), (1, 2, 3)), parents=(1, -1))
    """
    if n < 1 or band < 0:
        raise ValueError(f"{n} vertices with band {band} given; wanted are one or more, and a band of zero or more")
    if band == 0:
        return block_tree(n, 1)
    windows = max(1, n - band)
    cliques = tuple(tuple(range(i, min(i + band + 1, n))) for i in range(windows))
    return CliqueTree(cliques, (*range(1, windows), -1))


def block_tree(n: int, size: int) -> CliqueTree:
    """The graph of a block-diagonal matrix: blocks of successive vertices, not linked.

    Args:
        n: number of vertices.
        size: of a block; the last one may be shorter.

    Returns:
        The forest, whose elimination order is 0, ..., n-1.

    Raises:
        ValueError: if one of them is not positive.

    Example:
        >>> block_tree(5, 3)
        CliqueTree(cliques=((0, 1, 2), (3, 4)), parents=(-1, -1))
    """
    if n < 1 or size < 1:
        raise ValueError(f"{n} vertices in blocks of {size} given; wanted are one or more of each")
    cliques = tuple(tuple(range(i, min(i + size, n))) for i in range(0, n, size))
    return CliqueTree(cliques, (-1,) * len(cliques))


def edges(tree: CliqueTree) -> tuple[tuple[int, int], ...]:
    """The edges of the graph.

    Args:
        tree: of its cliques.

    Returns:
        Pairs (i, j) with i < j, in ascending order.

    Example:
        >>> edges(clique_tree([[0, 1], [1, 2, 3]]))
        ((0, 1), (1, 2), (1, 3), (2, 3))
    """
    return tuple(sorted({pair for clique in tree.cliques for pair in itertools.combinations(clique, 2)}))


# What the above share


def _depths(parents: Sequence[int]) -> list[int]:
    """The number of steps from each clique to its root; more than there are cliques where there is none."""
    depths = []
    for i in range(len(parents)):
        depth, at = 0, i
        while parents[at] >= 0 and depth <= len(parents):
            depth, at = depth + 1, parents[at]
        depths.append(depth)
    return depths


def _check_forest(parents: Sequence[int], count: int) -> None:
    if len(parents) != count:
        raise ValueError(f"{len(parents)} parents given for {count} cliques; give each clique one, -1 for a root")
    for i, p in enumerate(parents):
        if not -1 <= p < count:
            raise ValueError(f"clique {i} has the parent {p}; there are cliques 0 to {count - 1}, and -1 for a root")
    for i, depth in enumerate(_depths(parents)):
        if depth > count:
            raise ValueError(f"the parents of clique {i} lead to no root but round a cycle; a tree has none")


def _check_running_intersection(sets: Sequence[frozenset[int]], parents: Sequence[int]) -> None:
    """A forest that has one edge less than vertices is connected: so count, for each vertex of the graph."""
    pieces: dict[int, int] = {}
    for i, p in enumerate(parents):
        for v in sets[i]:
            pieces[v] = pieces.get(v, 0) + (p < 0 or v not in sets[p])
    for v in sorted(pieces):
        if pieces[v] > 1:
            holding = [i for i, clique in enumerate(sets) if v in clique]
            raise ValueError(
                f"vertex {v} is in cliques {holding}, which the tree does not link by cliques that hold it (running "
                f"intersection): link them so, or add the edges that make the graph chordal"
            )


def _spanning_tree(sets: Sequence[frozenset[int]]) -> tuple[int, ...]:
    """Of the largest total separator size, by Prim's algorithm; cliques that share no vertex are not linked."""
    parents, sizes = [-1] * len(sets), [0] * len(sets)
    outside = [*range(len(sets))]
    while outside:
        new = max(outside, key=lambda i: (sizes[i], -i))
        outside.remove(new)
        for i in outside:
            shared = len(sets[i] & sets[new])
            if shared > sizes[i]:
                parents[i], sizes[i] = new, shared
    return tuple(parents)
