"""Symmetric banded matrices, and the graphs that a band falls into when it is cut.

H is stored in SciPy's lower form: row k of an array ``[b+1, n]`` holds H_{i+k,i} at position i, and what lies past the
end of a diagonal is ignored. A mask of edges has shape ``[b, n]``: row k-1 holds at position i whether the edge
(i, i+k) is in the graph, and False past the end.

The graphs of this package are bands that are cut between certain vertices and their successors: no edge leads across a
cut, so that what remains is a row of segments with all their edges within the band.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Rule = Literal["one_sided", "literal"]

# Checks


def check_band(band: int) -> None:
    """Refuse what is no number of subdiagonals.

    Args:
        band: number of subdiagonals.

    Raises:
        ValueError: if it is negative.
    """
    if band < 0:
        raise ValueError(f"band {band} given; it is the number of subdiagonals: 0 (diagonal), 1 (tridiagonal), 2, ...")


def check_banded(H: jax.Array) -> jax.Array:
    """H as an array, if it is ``[b+1, n]``.

    Args:
        H: anything that jax.numpy takes for an array.

    Returns:
        The same values.

    Raises:
        ValueError: for any other shape, or numbers that are not floating-point.
    """
    H = jnp.asarray(H)
    if H.ndim != 2 or 0 in H.shape:
        raise ValueError(f"a band of shape {H.shape} given; wanted is [b+1, n], row k holding H[i+k, i]: b+1 rows")
    if not jnp.issubdtype(H.dtype, jnp.floating):
        raise ValueError(f"a band of dtype {H.dtype} given; wanted are floating-point numbers: use H.astype(float)")
    return H


def check_mask(H: jax.Array, kept: jax.Array) -> jax.Array:
    """A mask of edges as an array, if it fits H, with nothing past the end.

    Args:
        H: ``[b+1, n]``.
        kept: anything that jax.numpy takes for an array.

    Returns:
        The same edges, bool ``[b, n]``.

    Raises:
        ValueError: for any other shape.
    """
    kept = jnp.asarray(kept).astype(bool)
    if kept.shape != (H.shape[0] - 1, H.shape[1]):
        wanted = (H.shape[0] - 1, H.shape[1])
        raise ValueError(f"kept has shape {kept.shape}; H of shape {H.shape} needs a mask of shape {wanted}")
    return kept & within(H.shape[1], H.shape[0] - 1)


def check_graph(kept: jax.Array) -> None:
    """Refuse a graph whose vertices cannot be regressed on their later neighbors.

    Args:
        kept: bool ``[b, n]``, nothing past the end.

    Raises:
        ValueError: if two later neighbors of a vertex are not linked with each other; a traced mask has no values yet,
            and passes.
    """
    for k in range(2, len(kept) + 1):
        for m in range(1, k):
            apart = kept[k - 1] & kept[m - 1] & ~later(kept[k - m - 1], m, fill=False)
            try:
                if not apart.any():
                    continue
            except jax.errors.ConcretizationTypeError:
                return
            j = int(jnp.argmax(apart))
            raise ValueError(
                f"kept links vertex {j} to {j + m} and to {j + k}, but not these to each other: the later neighbors of "
                "a vertex must be linked, as they are in a band that is cut"
            )


# Neighbors


def later(x: jax.Array, k: int, fill: float | bool = 0) -> jax.Array:
    """What stands k places later: x_{i+k} at position i, and the filling past the end.

    Args:
        x: ``[n]``.
        k: 0 or more.
        fill: what stands past the end.

    Returns:
        ``[n]``.
    """
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(-k, k, 0)])


def earlier(x: jax.Array, k: int) -> jax.Array:
    """What stood k places earlier: x_{i-k} at position i, and zero before the beginning.

    Args:
        x: ``[n]``.
        k: 0 or more.

    Returns:
        ``[n]``.
    """
    return lax.pad(x, jnp.zeros((), x.dtype), [(k, -k, 0)])


# Edges


def within(n: int, band: int) -> jax.Array:
    """All edges of a chain of n vertices: those that do not lead past its end.

    Args:
        n: number of vertices.
        band: number of subdiagonals.

    Returns:
        bool ``[b, n]``.

    Raises:
        ValueError: if the band is negative.

    Example:
        >>> within(3, 2).tolist()
        [[True, True, False], [True, False, False]]
    """
    check_band(band)
    return jnp.arange(n)[None] + jnp.arange(1, band + 1)[:, None] < n


def row_edges(shape: tuple[int, ...], *, input_axis: int = 0, band: int = 1) -> jax.Array:
    """The edges of a tensor's chain that stay within one output unit.

    At the end of each row the chain links the last inputs of one unit to the first inputs of the next, parameters that
    have nothing to do with each other; SONew's code keeps these edges. ``project(H, row_edges(shape))`` does not, nor
    does ``stabilize(cut(H, row_edges(shape)), tolerance)``.

    Args:
        shape: of the tensor.
        input_axis: as given to :func:`chain`.
        band: number of subdiagonals.

    Returns:
        bool ``[b, n]``, False at row ends.

    Example:
        >>> row_edges((3, 2)).tolist()
        [[True, True, False, True, True, False]]
    """
    return block_edges(math.prod(shape), shape[input_axis] if shape else 1, band)


def block_edges(n: int, size: int, band: int) -> jax.Array:
    """The edges within blocks of consecutive vertices.

    With ``size = band + 1`` the graph is that of a block-diagonal preconditioner.

    Args:
        n: number of vertices.
        size: of a block; the last one may be shorter.
        band: number of subdiagonals.

    Returns:
        bool ``[b, n]``.

    Raises:
        ValueError: for a size that is not positive, or a negative band.

    Example:
        >>> block_edges(5, 3, 2).tolist()
        [[True, True, False, True, False], [True, False, False, False, False]]
    """
    if size < 1:
        raise ValueError(f"blocks of {size} vertices given; a block has at least one")
    place = jnp.arange(n)[None] % size
    return (place + jnp.arange(1, band + 1)[:, None] < size) & within(n, band)


def edges_between_cuts(cuts: jax.Array, band: int, rule: Rule = "one_sided") -> jax.Array:
    """The edges that remain when the graph is cut at the vertices that failed.

    - ``one_sided``: an edge (j, k) goes if a failed vertex i has j <= i < k. Vertex i keeps its edges to earlier
      vertices, and is the last of its segment.
    - ``literal``: it goes if j <= i <= k. Vertex i is alone, as Algorithm 3 of SONew is printed: all edges incident to
      i, and all that lead from an earlier neighbor of i to a later one.

    Args:
        cuts: bool ``[n]``, the failed vertices.
        band: number of subdiagonals.
        rule: which edges a failed vertex takes with it.

    Returns:
        bool ``[b, n]``.

    Raises:
        ValueError: for an unknown rule.

    Example:
        >>> edges_between_cuts(jnp.array([False, True, False, False]), 2).tolist()
        [[True, False, True, False], [False, False, False, False]]
    """
    if rule not in {"one_sided", "literal"}:
        raise ValueError(f"unknown rule {rule!r}; use 'one_sided' or 'literal'")
    stands, rows = ~cuts, []
    whole = stands
    for k in range(1, band + 1):
        end = later(stands, k, fill=False)
        rows.append(whole & end if rule == "literal" else whole)
        whole &= end
    rows = jnp.stack(rows) if rows else jnp.zeros((0, len(cuts)), bool)
    return rows & within(len(cuts), band)


def cut(H: jax.Array, kept: jax.Array) -> jax.Array:
    """H on the reduced graph: the entries of edges that are not kept are zero.

    Args:
        H: ``[b+1, n]``.
        kept: bool ``[b, n]``, from :func:`stabilize` or :func:`row_edges`.

    Returns:
        ``[b+1, n]``.

    Raises:
        ValueError: if the mask does not fit H, or H is not ``[b+1, n]``.
    """
    H = check_banded(H)
    kept = check_mask(H, kept)
    every = lax.pad(kept, jnp.bool(True), [(1, 0, 0), (0, 0, 0)])
    return jnp.where(every, H, jnp.zeros_like(H))


def edges(kept: jax.Array) -> jax.Array:
    """The edges of a graph as pairs of vertices.

    Args:
        kept: bool ``[b, n]``, with values (not traced: their number is not known before).

    Returns:
        int ``[m, 2]``, pairs (i, i+k) ordered by k and then by i.

    Example:
        >>> edges(row_edges((3, 2))).tolist()
        [[0, 1], [1, 2], [3, 4], [4, 5]]
    """
    kept = jnp.asarray(kept)
    k, i = jnp.nonzero(kept & within(kept.shape[1], kept.shape[0]))
    return jnp.stack([i, i + k + 1], axis=1)


# Sums over a band


def multiply(X: jax.Array, g: jax.Array) -> jax.Array:
    """The product of a symmetric banded matrix and a vector.

    Order in row i: X_ii g_i, plus X_{i+k,i} g_{i+k} for k = 1, ..., b, plus X_{i,i-k} g_{i-k} for k = 1, ..., b.

    Args:
        X: ``[b+1, n]``.
        g: ``[n]``.

    Returns:
        X g, ``[n]``. Cost: (4b + 1) n flops.

    Raises:
        ValueError: for an X that is not ``[b+1, n]``, or a g that does not fit.
    """
    X, g = check_banded(X), jnp.asarray(g)
    if g.shape != X.shape[1:]:
        raise ValueError(f"g of shape {g.shape} given; a band of shape {X.shape} needs shape {X.shape[1:]}")
    X = cut(X, within(X.shape[1], X.shape[0] - 1))
    product = X[0] * g
    for k in range(1, X.shape[0]):
        product = product + X[k] * later(g, k)
    for k in range(1, X.shape[0]):
        product = product + earlier(X[k] * g, k)
    return product


def one_norm(H: jax.Array) -> jax.Array:
    """The one-norm of a symmetric banded matrix: its largest column sum of magnitudes.

    Order in column i: |H_ii|, plus |H_{i+k,i}| for k = 1, ..., b, plus |H_{i,i-k}| for k = 1, ..., b. SONew's published
    code overwrites the sum with each diagonal in turn and so can return half the norm.

    Args:
        H: ``[b+1, n]``.

    Returns:
        A scalar. Cost: 2 b n additions.

    Example:
        >>> float(one_norm(jnp.array([[1.0, 10.0, 1.0], [3.0, 3.0, 0.0]])))
        16.0
    """
    H = check_banded(H)
    size = jnp.abs(cut(H, within(H.shape[1], H.shape[0] - 1)))
    sums = size[0]
    for k in range(1, H.shape[0]):
        sums = sums + size[k]
    for k in range(1, H.shape[0]):
        sums = sums + earlier(size[k], k)
    return jnp.max(sums)
