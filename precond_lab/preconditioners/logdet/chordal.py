r"""The LogDet projection onto any chordal graph, by its cliques and separators.

With [A]^n for a small matrix that is padded by zeros to the size n, the minimizer of -log det X + tr(X H) over the
matrices that vanish off the graph of a tree of cliques is

    X = sum over cliques of [H_CC^{-1}]^n - sum over separators of [H_SS^{-1}]^n,
    det X^{-1} = product over cliques of det H_CC / product over separators of det H_SS,

and X is positive definite exactly if every H_CC is (Grone, Johnson, Sa, Wolkowicz, "Positive definite completions of
partial Hermitian matrices", Linear Algebra Appl. 58, 1984; Barrett, Johnson, Lundquist, "Determinantal formulae for
matrix completions associated with chordal graphs", Linear Algebra Appl. 121, 1989). Bands and blocks are chordal: this
is the theory behind their programs, on dense matrices ``[n, n]``.

Every function takes H as ``[n, n]``, symmetric, and reads it on the graph alone.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg import ldl, solve_triangular
from precond_lab.preconditioners.logdet.cliques import CliqueTree, band_tree, block_tree, clique_tree, edges

__all__ = [
    "ChordalFactor",
    "CliqueTree",
    "apply",
    "band_tree",
    "block_tree",
    "clique_tree",
    "edges",
    "factor",
    "log_det",
    "objective",
    "project",
]


def project(H: jax.Array, tree: CliqueTree) -> jax.Array:
    """The LogDet projection of H, by inverses on cliques and separators.

    Order: every H_CC and H_SS, its rows in the elimination order, is inverted as (L D) L^T, L and D as in
    :func:`factor`; the inverses of cliques are added, then those of separators subtracted; in both, the small ones
    before the large ones, and those of one size in the order of the tree.

    Where a separator is nearly singular, large numbers cancel in these sums: in low precision the X of :func:`factor`,
    which has no differences of inverses, is closer and stays positive definite. Off the graph X is exactly zero.

    Args:
        H: ``[n, n]``, symmetric.
        tree: of the graph's cliques.

    Returns:
        X ``[n, n]``, symmetric. Not positive definite where some H_CC is not. Cost: about 3 k^3 flops for a clique of k
        vertices, and the same for its separator.

    Raises:
        ValueError: if H does not have the size of the graph.

    Example:
        >>> H = jnp.array([[2.0, 2.0, 9.0], [2.0, 4.0, 1.0], [9.0, 1.0, 1.25]])
        >>> project(H, band_tree(3, 1)).tolist()
        [[1.0, -0.5, 0.0], [-0.5, 0.5625, -0.25], [0.0, -0.25, 1.0]]
    """
    H = _check_size(H, tree)
    X = jnp.zeros_like(H)
    for index in _batches(tree, tree.cliques):
        X = X.at[index[:, :, None], index[:, None, :]].add(_inverses(H, index))
    for index in _batches(tree, tree.separators):
        X = X.at[index[:, :, None], index[:, None, :]].add(-_inverses(H, index))
    return X


class ChordalFactor(NamedTuple):
    """X = P L D L^T P^T: X[order][:, order] = L D L^T.

    Attributes:
        L: unit lower triangular, with its unit diagonal, ``[n, n]``; zero off the graph.
        D: the reciprocals of the Schur complements, ``[n]``.
        order: the vertex that each row stands for, int ``[n]``.
    """

    L: jax.Array
    D: jax.Array
    order: jax.Array


def factor(H: jax.Array, tree: CliqueTree) -> ChordalFactor:
    """The LogDet projection of H as X = P L D L^T P^T, in the tree's perfect elimination order.

    Every vertex j has a regression of its own on its neighbors I that come later: psi_j = H_II^{-1} H_Ij, s_j = H_jj -
    H_jI psi_j, L_Ij = -psi_j, D_jj = 1 / s_j, as on a band.

    Order, for every clique independently, its rows in the elimination order: H_CC = U diag(s) U^T by
    :func:`precond_lab.linalg.ldl` from the last row to the first; U^T L = I by
    :func:`precond_lab.linalg.solve_triangular`. The columns of the vertices that the separator has not are those of the
    whole.

    Args:
        H: ``[n, n]``, symmetric.
        tree: of the graph's cliques.

    Returns:
        L, D and the order. D has a number that is not positive exactly if some H_CC is not positive definite (up to
        rounding). Cost: about 2 k^3 flops for a clique of k vertices.

    Raises:
        ValueError: if H does not have the size of the graph.

    Example:
        >>> H = jnp.array([[2.0, 2.0, 9.0], [2.0, 4.0, 1.0], [9.0, 1.0, 2.0]])
        >>> L, D, order = factor(H, band_tree(3, 1))
        >>> (L + 0).tolist(), D.tolist(), order.tolist()
        ([[1.0, 0.0, 0.0], [-0.5, 1.0, 0.0], [0.0, -0.5, 1.0]], [1.0, 0.2857142984867096, 0.5], [0, 1, 2])
    """
    H = _check_size(H, tree)
    place = {v: i for i, v in enumerate(tree.order)}
    residuals = dict(zip(tree.cliques, map(len, tree.separators), strict=True))
    L, D = jnp.zeros_like(H), jnp.zeros_like(H[0])
    for size, group in _by_size(tree.cliques):
        ordered = [sorted(clique, key=place.__getitem__) for clique in group]
        index = jnp.array(ordered)
        small, s = _factors(H, index)
        at = jnp.array([[place[v] for v in clique] for clique in ordered])
        # The separator comes last in a clique: what other cliques own is sent past the end, and dropped.
        own = jnp.array([[i < size - residuals[clique] for i in range(size)] for clique in group])
        column = jnp.where(own, at, tree.n)
        L = L.at[at[:, :, None], column[:, None, :]].set(small, mode="drop")
        D = D.at[column].set(1 / s, mode="drop")
    return ChordalFactor(L, D, jnp.array(tree.order))


def apply(chordal: ChordalFactor, g: jax.Array) -> jax.Array:
    """The direction X g, as P (L (D (L^T (P^T g)))), by products with the dense L.

    Args:
        chordal: from :func:`factor`.
        g: ``[n]``.

    Returns:
        X g, ``[n]``. Cost: 4 n^2 flops.

    Raises:
        ValueError: if g does not have the length of D.
    """
    L, D, order = chordal
    g = jnp.asarray(g)
    if g.shape != D.shape:
        raise ValueError(f"g of shape {g.shape} given; a factor with D of shape {D.shape} needs that shape")
    y = jnp.matmul(g[order], L, precision="highest")
    u = jnp.matmul(L, D * y, precision="highest")
    return jnp.zeros_like(u).at[order].set(u)


def log_det(H: jax.Array, tree: CliqueTree) -> jax.Array:
    """Log det X of the projection X of H: its sum over separators minus that over cliques.

    Args:
        H: ``[n, n]``, symmetric.
        tree: of the graph's cliques.

    Returns:
        A scalar; NaN where a Schur complement within a clique or separator is negative.

    Raises:
        ValueError: if H does not have the size of the graph.

    Example:
        >>> float(log_det(4 * jnp.eye(2), block_tree(2, 1)) / jnp.log(jnp.array(4.0)))
        -2.0
    """
    H = _check_size(H, tree)
    total = jnp.zeros_like(H[0, 0])
    for index in _batches(tree, tree.separators):
        total = total + jnp.sum(jnp.log(_factors(H, index)[1]))
    for index in _batches(tree, tree.cliques):
        total = total - jnp.sum(jnp.log(_factors(H, index)[1]))
    return total


def objective(X: jax.Array, H: jax.Array, tree: CliqueTree) -> jax.Array:
    """What the projection minimizes among all X on the graph: -log det X + tr(X H), of any X.

    Args:
        X: ``[n, n]``, symmetric; its entries off the graph count for the determinant alone.
        H: ``[n, n]``, symmetric.
        tree: of the graph's cliques.

    Returns:
        A scalar; NaN where X is not positive definite.

    Raises:
        ValueError: if one of them does not have the size of the graph.
    """
    X, H = _check_size(X, tree), _check_size(H, tree)
    index = jnp.array([(v, v) for v in range(tree.n)] + [*edges(tree)] + [(j, i) for i, j in edges(tree)])
    i, j = index[:, 0], index[:, 1]
    return jnp.sum(X[i, j] * H[i, j]) - jnp.sum(jnp.log(ldl(X).d))


# What the above share


def _check_size(H: jax.Array, tree: CliqueTree) -> jax.Array:
    H = jnp.asarray(H)
    if H.shape != (tree.n, tree.n):
        raise ValueError(f"a matrix of shape {H.shape} given; the graph has {tree.n} vertices, 0 to {tree.n - 1}")
    return H


def _by_size(sets: Iterable[tuple[int, ...]]) -> list[tuple[int, list[tuple[int, ...]]]]:
    return [(size, [*group]) for size, group in itertools.groupby(sorted(sets, key=len), key=len) if size]


def _batches(tree: CliqueTree, sets: Iterable[tuple[int, ...]]) -> list[jax.Array]:
    """The sets that are not empty, one array ``[m, k]`` for each size, their vertices in the elimination order."""
    place = {v: i for i, v in enumerate(tree.order)}
    return [jnp.array([sorted(s, key=place.__getitem__) for s in group]) for _, group in _by_size(sets)]


def _factors(H: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """L ``[m, k, k]`` and s ``[m, k]`` with H_CC^{-1} = L diag(1/s) L^T, for cliques ``[m, k]``."""
    reverse = index[:, ::-1]
    M, d = jax.vmap(ldl)(H[reverse[:, :, None], reverse[:, None, :]])  # H_CC = U diag(s) U^T, both ways reversed
    identity = jnp.eye(index.shape[1], dtype=H.dtype)
    L = jax.vmap(lambda T: solve_triangular(T, identity, transpose=True, unit_diagonal=True))(M)
    return L[:, ::-1, ::-1], d[:, ::-1]


def _inverses(H: jax.Array, index: jax.Array) -> jax.Array:
    L, s = _factors(H, index)
    A = jnp.matmul(L * (1 / s)[:, None, :], jnp.swapaxes(L, 1, 2), precision="highest")
    return jnp.where(jnp.tri(index.shape[1], dtype=bool), A, jnp.swapaxes(A, 1, 2))  # symmetric in every rounding
