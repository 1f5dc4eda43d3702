r"""The LogDet projection onto block-diagonal preconditioners.

A chain is cut into blocks of k consecutive vertices, and all edges within a block are in the graph. The minimizer of
-log det X + tr(X H) is then the inverse of every block of H. It is held as

    H = U S U^T,      X = L D L^T  with  L = U^{-T},  D = S^{-1},

U unit upper triangular, eliminated from the last vertex of a block to its first: L and D are those of the banded
program of band k-1 on this graph, with the Schur complement s_j of vertex j on all later vertices of its block.

A batch of blocks is an array ``[m, k, k]``. The last block of a chain whose length is not a multiple of k is padded by
an identity: its padded vertices have a one on the diagonal and no edges, and change nothing for the others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.logdet.stabilization import check_tolerance, default_tolerance


class BlockFactor(NamedTuple):
    """X = U^{-T} D U^{-1}, block by block.

    Attributes:
        U: unit upper triangular, ``[m, k, k]``.
        D: the reciprocals of the Schur complements s, ``[m, k]``.
    """

    U: jax.Array
    D: jax.Array


def block_outer(g: jax.Array, size: int) -> jax.Array:
    """The blocks of g g^T.

    Args:
        g: gradient, ``[n]``.
        size: k, the number of vertices of a block.

    Returns:
        ``[m, k, k]``, with m k >= n; the last block is padded by an identity. A mean of such arrays is padded by an
        identity again, a sum of them by a positive multiple of it. Cost: k n flops.

    Raises:
        ValueError: if g is no vector, or the size is not positive.

    Example:
        >>> block_outer(jnp.array([1.0, 2.0, 3.0]), 2).tolist()
        [[[1.0, 2.0], [2.0, 4.0]], [[9.0, 0.0], [0.0, 1.0]]]
    """
    g = jnp.asarray(g)
    if g.ndim != 1 or not g.size:
        raise ValueError(f"g of shape {g.shape} given; a chain has shape [n]: flatten it with `chain`")
    if size < 1:
        raise ValueError(f"blocks of size {size} given; a block has one vertex or more")
    rows = _rows(g, -(-len(g) // size), size)
    padding = (jnp.arange(rows.size) >= len(g)).reshape(rows.shape)
    alone = padding[:, :, None] & jnp.eye(size, dtype=bool)
    return jnp.where(alone, jnp.ones_like(g[0]), rows[:, :, None] * rows[:, None, :])


# Projection


def project_blocks(H: jax.Array, kept: jax.Array | None = None) -> BlockFactor:
    """The LogDet projection of H, with nothing to guard it: the factors of every block.

    Order, in all blocks at once, for j = k-1, ..., 0 on a copy A of H: s_j = A_jj; u_i = A_ij / s_j and then
    A_il = A_il - u_i A_lj for i, l < j; column j of U is u. At the end D = 1 / s. Of H the diagonal and what lies above
    it are read.

    X is positive definite exactly if every s is positive, and a breakdown is left in sight. This is the LDL^T
    factorization of the block in reverse order: the computed factors are those of a matrix with |Delta H| <=
    gamma_{k+2} |U| |S| |U^T|, gamma_i = i u / (1 - i u) (Higham, Accuracy and Stability of Numerical Algorithms,
    theorem 10.3 and section 10.1).

    Args:
        H: ``[m, k, k]``, symmetric, with a positive diagonal.
        kept: bool ``[m, k, k]``, symmetric, the edges of a reduced graph, as from :func:`stabilize_blocks`; None for
            all. The stored entries of other edges are not looked at.

    Returns:
        Factors U ``[m, k, k]`` and D ``[m, k]``. Cost: 2 k^2 flops a parameter in this form, which updates whole
            blocks.

    Raises:
        ValueError: for a shape other than ``[m, k, k]``, or a mask that does not fit.

    Example:
        >>> factor = project_blocks(jnp.array([[[2.0, 2.0], [2.0, 4.0]]]))
        >>> factor.U.tolist(), factor.D.tolist()
        ([[[1.0, 0.5], [0.0, 1.0]]], [[1.0, 0.25]])
    """
    H = _check_blocks(H)
    if kept is not None:
        kept = jnp.asarray(kept)
        if kept.shape != H.shape:
            raise ValueError(f"kept has shape {kept.shape}; H of shape {H.shape} needs a mask of that shape")
        H = jnp.where(kept | jnp.eye(H.shape[1], dtype=bool), H, jnp.zeros_like(H))
    U, s, _ = _eliminate(H, None)
    return BlockFactor(U, 1 / s)


def stabilize_blocks(
    H: jax.Array, tolerance: jax.Array | float | None = None, *, relative: bool = True
) -> tuple[BlockFactor, jax.Array]:
    """The projection without the edges that the arithmetic cannot carry, in one sweep.

    Vertex j fails unless s_j > tolerance H_jj (relative) or s_j > tolerance (absolute), with s as
    :func:`project_blocks` computes it; written so, a NaN fails. Then the block is cut after vertex j: all edges go that
    lead from it, or from an earlier vertex, to a later one, and s_j = H_jj.

    The vertices are tested during the elimination, each with the cuts that later vertices have made already. So one
    sweep ends at a fixed point in any arithmetic: the result is :func:`project_blocks` on the reduced graph, bit for
    bit, and there no vertex fails that has an edge left to drop. Algorithm 3 of SONew, which tests every vertex on the
    whole graph first, also cuts at vertices that fail only for having a failed one among their later neighbors: for
    positive semidefinite blocks and in exact arithmetic, all edges that it keeps are kept here.

    For finite H with a positive diagonal, D is finite and positive (unless 1 / s overflows).

    Args:
        H: ``[m, k, k]``, symmetric, with a positive diagonal; damp first where it has a zero.
        tolerance: gamma >= 0, a scalar. None for :func:`default_tolerance` of H's dtype.
        relative: whether the tolerance is relative to H_jj.

    Returns:
        The factor, and the edges that are kept, bool ``[m, k, k]``, symmetric and False on the diagonal. Cost: that of
        :func:`project_blocks`, with one selection more an entry and step.

    Raises:
        ValueError: for a shape other than ``[m, k, k]``, or a tolerance that is negative or NaN (a traced one has no
            value yet, and passes).

    Example:
        >>> factor, kept = stabilize_blocks(jnp.array([[[2.0, 2.0], [2.0, 2.0]]]), 0.0)
        >>> kept.any().item(), factor.D.tolist()
        (False, [[0.5, 0.5]])
    """
    H = _check_blocks(H)
    tolerance = default_tolerance(H.dtype) if tolerance is None else tolerance
    check_tolerance(tolerance)
    diagonal = jnp.diagonal(H, axis1=1, axis2=2)
    U, s, cuts = _eliminate(H, jnp.broadcast_to(tolerance * diagonal if relative else tolerance, diagonal.shape))
    segment = jnp.cumsum(cuts, axis=1) - cuts  # the number of cuts before a vertex
    together, alone = segment[:, :, None] == segment[:, None, :], jnp.eye(H.shape[1], dtype=bool)
    # A later vertex knew nothing of the cuts to come: its column of U ends at the last of them.
    return BlockFactor(jnp.where(together, U, jnp.zeros_like(U)), 1 / s), together & ~alone


def _eliminate(H: jax.Array, threshold: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """U, s, and the vertices ``[m, k]`` whose s is not above its threshold, if there is one.

    A loop, so that a program of large blocks compiles as fast as one of small ones.
    """
    k = H.shape[1]
    index = jnp.arange(k)

    def vertex(step: jax.Array, state: tuple) -> tuple:
        A, U, s, cuts = state
        j = k - 1 - step
        pivot = A[:, j, j]
        if threshold is not None:
            fails = ~(pivot > threshold[:, j])
            cuts = cuts.at[:, j].set(fails)
            A = jnp.where(fails[:, None, None], H, A)  # as if the later vertices had subtracted nothing
            pivot = A[:, j, j]
        column = jnp.where(index < j, A[:, :, j], jnp.zeros_like(s))
        u = jnp.where(index < j, column / pivot[:, None], jnp.zeros_like(s))  # not 0 / 0 elsewhere
        A = A - u[:, :, None] * column[:, None, :]
        return A, U.at[:, :, j].set(jnp.where(index == j, jnp.ones_like(u), u)), s.at[:, j].set(pivot), cuts

    start = (H, jnp.zeros_like(H), jnp.zeros_like(H[:, 0]), jnp.zeros(H.shape[:2], bool))
    return lax.fori_loop(0, k, vertex, start)[1:]


# What a factor gives


def apply_blocks(factor: BlockFactor, g: jax.Array) -> jax.Array:
    """The direction X g, by two triangular systems in every block: U y = g, and U^T u = D y.

    Order: y_i = g_i - U_{i,k-1} y_{k-1} - ... - U_{i,i+1} y_{i+1} from left to right; z = D y; u_i = z_i - U_{0,i} u_0
    - ... - U_{i-1,i} u_{i-1}. Both are backward stable (Higham, theorem 8.5).

    Args:
        factor: U ``[m, k, k]`` and D ``[m, k]``.
        g: ``[n]``, with (m-1) k < n <= m k.

    Returns:
        X g, ``[n]``. Cost: 4 k flops a parameter in this form, which updates whole vectors.

    Raises:
        ValueError: if g does not fit the blocks.

    Example:
        >>> factor = project_blocks(jnp.array([[[2.0, 2.0], [2.0, 4.0]]]))
        >>> apply_blocks(factor, jnp.array([1.0, 4.0])).tolist()
        [-1.0, 1.5]
    """
    g = jnp.asarray(g)
    m, k = factor.D.shape
    if g.ndim != 1 or not (m - 1) * k < len(g) <= m * k:
        raise ValueError(f"g of shape {g.shape} given; {m} blocks of {k} need {(m - 1) * k + 1} to {m * k} numbers")
    return _solved(factor, _rows(g, m, k)[:, :, None]).reshape(-1)[: len(g)]


def explicit_blocks(factor: BlockFactor) -> jax.Array:
    """The blocks of X, column by column as :func:`apply_blocks` computes them.

    Args:
        factor: U ``[m, k, k]`` and D ``[m, k]``.

    Returns:
        ``[m, k, k]``, symmetric: what is computed above the diagonal is not used. Cost: 4 k^2 flops a parameter.

    Example:
        >>> explicit_blocks(project_blocks(jnp.array([[[2.0, 2.0], [2.0, 4.0]]]))).tolist()
        [[[1.0, -0.5], [-0.5, 0.5]]]
    """
    k = factor.U.shape[1]
    identity = jnp.where(jnp.eye(k, dtype=bool), jnp.ones_like(factor.U), jnp.zeros_like(factor.U))
    X = _solved(factor, identity)
    return jnp.where(jnp.tri(k, dtype=bool), X, jnp.swapaxes(X, 1, 2))


def inverse_blocks(factor: BlockFactor) -> jax.Array:
    """The blocks of X^{-1} = U S U^T: by the optimality condition those of H, where X is the projection of H.

    Order: S = 1 / D; the sum over j = k-1, ..., 0 of (U_ij S_j) U_lj.

    Args:
        factor: U ``[m, k, k]`` and D ``[m, k]``.

    Returns:
        ``[m, k, k]``. Cost: 2 k^2 flops a parameter.

    Example:
        >>> inverse_blocks(project_blocks(jnp.array([[[2.0, 2.0], [2.0, 4.0]]]))).tolist()
        [[[2.0, 2.0], [2.0, 4.0]]]
    """
    U, D = factor
    k = U.shape[1]
    scaled = U * (1 / D)[:, None, :]
    total = scaled[:, :, None, -1] * U[:, None, :, -1]
    return lax.fori_loop(1, k, lambda i, S: S + scaled[:, :, None, k - 1 - i] * U[:, None, :, k - 1 - i], total)


def log_det_blocks(factor: BlockFactor, n: int | None = None) -> jax.Array:
    """Log det X, the sum of the logarithms of D.

    Args:
        factor: U ``[m, k, k]`` and D ``[m, k]``.
        n: number of vertices; None for m k. The padded ones, which damping or a sum moves from 1, do not count.

    Returns:
        A scalar; NaN where some D is negative.
    """
    return jnp.sum(jnp.log(factor.D.reshape(-1)[:n]))


def objective_blocks(factor: BlockFactor, H: jax.Array, n: int | None = None) -> jax.Array:
    """What the projection minimizes: -log det X + tr(X H). At the minimizer tr(X H) = n.

    Args:
        factor: U ``[m, k, k]`` and D ``[m, k]`` of X.
        H: ``[m, k, k]``.
        n: number of vertices; None for m k. The padded ones do not count.

    Returns:
        A scalar.

    Raises:
        ValueError: if H does not have the shape of U.
    """
    H = _check_blocks(H)
    if H.shape != factor.U.shape:
        raise ValueError(f"H of shape {H.shape} given; the factor has blocks of shape {factor.U.shape}")
    traces = jnp.sum(explicit_blocks(factor) * H, axis=2)
    return jnp.sum(traces.reshape(-1)[:n]) - log_det_blocks(factor, n)


# What the above share


def _check_blocks(H: jax.Array) -> jax.Array:
    H = jnp.asarray(H)
    if H.ndim != 3 or H.shape[1] != H.shape[2] or not H.size:
        raise ValueError(f"blocks of shape {H.shape} given; wanted is [m, k, k], as `block_outer` makes them")
    return H


def _rows(g: jax.Array, m: int, k: int) -> jax.Array:
    return jnp.concatenate([g, jnp.zeros_like(g, shape=m * k - len(g))]).reshape(m, k)


def _solved(factor: BlockFactor, g: jax.Array) -> jax.Array:
    """X g for right-hand sides ``[m, k, c]``."""
    U, D = factor
    y = _substituted(U, g, backward=True)
    return _substituted(jnp.swapaxes(U, 1, 2), D[:, :, None] * y, backward=False)


def _substituted(T: jax.Array, y: jax.Array, *, backward: bool) -> jax.Array:
    """The solution of T y = right-hand sides, unit triangular T: each unknown is subtracted from all that remain."""
    k = T.shape[1]
    index = jnp.arange(k)

    def unknown(step: jax.Array, y: jax.Array) -> jax.Array:
        j = k - 1 - step if backward else step
        remain = index < j if backward else index > j
        column = jnp.where(remain, T[:, :, j], jnp.zeros_like(T[:, :, j]))
        return y - column[:, :, None] * y[:, j][:, None, :]

    return lax.fori_loop(0, k - 1, unknown, y)
