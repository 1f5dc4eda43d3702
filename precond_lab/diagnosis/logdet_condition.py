r"""Condition numbers of the LogDet projection onto a chain, in closed form.

With the correlation beta_i = H_{i+1,i} / sqrt(H_ii H_{i+1,i+1}) of each edge, the componentwise condition
number of H -> X,

    lim_{eps -> 0} sup { |dX_ij| / (eps |X_ij|) : |dH_kl| <= eps |H_kl| },

is the largest of these over the edges, attained by X_{i+1,i}:

- (1 + beta^2) / (1 - beta^2), exactly, where the off-diagonal entries alone are perturbed;
- (3 + beta^2) / (1 - beta^2), exactly, where all entries are: the number for rounding of stored statistics.

SONew (NeurIPS 2023, section 3.4) bounds the first by 2 / (1 - beta^2), which is larger by exactly 1. The
derivation: X_{i+1,i} = -H_{i+1,i} / (H_ii H_{i+1,i+1} - H_{i+1,i}^2). To a relative change of H_{i+1,i} it
responds by 1 + 2 beta^2 / (1 - beta^2) times that, to one of either diagonal entry by -1 / (1 - beta^2)
times that; the supremum is the sum of the magnitudes. The diagonal of X responds less.

A stored H_{i+1,i} = 0 is no edge: relative perturbations leave it zero, and X_{i+1,i} with it.

Wider bands have no such forms: see :func:`~precond_lab.diagnosis.logdet_band_condition.band_condition`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.diagnosis.logdet_band_condition import band_direction_condition


class ProjectionCondition(NamedTuple):
    """Condition numbers of a projection, infinite where there is none.

    Attributes:
        bound: largest 2 / (1 - beta^2), the paper's bound.
        off_diagonal: largest (1 + beta^2) / (1 - beta^2), for perturbed off-diagonal entries; bound - 1.
        all_entries: largest (3 + beta^2) / (1 - beta^2), for perturbed entries of any kind; 2 bound - 1.
        schur: largest (1 + 3 beta^2) / (1 - beta^2), that of the Schur complements s for perturbed entries.
        smallest_pivot: smallest s_i / H_ii = 1 - beta_i^2; not positive, or NaN, where no projection exists.
        worst_edge: the edge at which these are attained; None without edges.
        edges: number of edges, those with H_{i+1,i} = 0 left out.
    """

    bound: float
    off_diagonal: float
    all_entries: float
    schur: float
    smallest_pivot: float
    worst_edge: int | None
    edges: int


def projection_condition(H: ArrayLike, kept: ArrayLike | None = None) -> ProjectionCondition:
    """Condition numbers of the LogDet projection of a diagonal or tridiagonal H.

    Computed from :func:`pivots`: the results have a relative error of a few 2^-53, whatever the condition.

    Args:
        H: ``[b+1, n]``, b 0 or 1, floats; converted to float64.
        kept: bool ``[b, n]``, the edges of the reduced graph; None for all.

    Returns:
        The condition numbers. An edge with H_{i+1,i} = 0 counts as none. Without edges X is the reciprocal of the
        diagonal: bound 1, off_diagonal 0, the others 1.

    Raises:
        ValueError: for a shape other than ``[1, n]`` or ``[2, n]``, or a mask that does not fit.

    Example:
        >>> condition = projection_condition([[2.0, 3.0, 1.0], [1.0, -1.0, 0.0]])
        >>> [round(x, 12) for x in condition[:4]], condition.worst_edge
        ([3.0, 2.0, 5.0, 3.0], 1)
    """
    H = _banded(H)
    if kept is not None and np.shape(kept) != H[1:].shape:
        raise ValueError(f"kept has shape {np.shape(kept)}; H needs a mask of shape {H[1:].shape}")
    if not np.all((H[0] > 0) & np.isfinite(H[0])):
        return _condition(np.nan, None, 0, exists=False)
    there = H[1:] != 0
    return condition_of_pivots(pivots(H), there if kept is None else there & np.asarray(kept, bool))


def condition_of_pivots(pivot: np.ndarray, kept: ArrayLike | None = None) -> ProjectionCondition:
    """The same from the pivots of an H with a positive diagonal, where these are at hand.

    Pivots do not tell an edge with H_{i+1,i} = 0 from one with beta^2 below 2^-53: both have the pivot 1, and both are
    taken for edges, with condition numbers 2, 1, 3 and 1. Leave the first kind out of `kept`.

    Args:
        pivot: ``[n-1]``, as :func:`pivots` gives them.
        kept: bool ``[1, n]``, the edges of the reduced graph; None for all.

    Returns:
        The condition numbers.
    """
    edges = np.arange(len(pivot)) if kept is None else np.flatnonzero(np.asarray(kept, bool)[:, :-1])
    if len(edges) == 0:
        return _condition(1.0, None, 0, exists=True)
    values = pivot[edges]
    worst = int(np.argmin(np.where(np.isnan(values), -np.inf, values)))
    return _condition(float(values[worst]), int(edges[worst]), len(edges), exists=True)


def _condition(pivot: float, worst: int | None, edges: int, *, exists: bool) -> ProjectionCondition:
    if not (exists and pivot > 0):
        return ProjectionCondition(np.inf, np.inf, np.inf, np.inf, pivot, worst, edges)
    if worst is None:
        return ProjectionCondition(1.0, 0.0, 1.0, 1.0, pivot, worst, edges)
    # beta^2 = 1 - pivot enters sums with positive terms alone.
    return ProjectionCondition(
        2 / pivot, (2 - pivot) / pivot, (4 - pivot) / pivot, (4 - 3 * pivot) / pivot, pivot, worst, edges
    )


def pivots(H: ArrayLike) -> np.ndarray:
    """The pivots s_i / H_ii = 1 - beta_i^2 of all edges, without cancellation.

    Computed in float64 as (H_ii H_jj - H_ij^2) / (H_ii H_jj). The products of entries with at most 26 bits
    (float32, tfloat32, and everything narrower) are exact in float64, so that the sign of the result is exact
    and its relative error a few 2^-53. Those of wider entries are kept as the unevaluated sum of two numbers:
    the absolute error is then a few 2^-105, the relative one a few 2^-53 for pivots above 2^-52.

    Args:
        H: ``[b+1, n]``, b 0 or 1, floats; converted to float64.

    Returns:
        ``[n-1]``, or ``[0]`` for b = 0; not positive where the edge has no projection, NaN where a diagonal
        entry is not positive or an entry not finite.

    Raises:
        ValueError: for a shape other than ``[1, n]`` or ``[2, n]``.

    Example:
        >>> pivots([[4.0, 4.0, 4.0], [2.0, 4.0, 0.0]]).tolist()
        [0.75, 0.0]
    """
    H = _banded(H)
    if H.shape[0] == 1:
        return np.empty(0)
    first, second, edge = H[0, :-1], H[0, 1:], H[1, :-1]
    with np.errstate(all="ignore"):
        # Scale to significands in [1/2, 2): no product overflows, and none that matters underflows.
        a, p = np.frexp(first)
        c, q = np.frexp(second)
        odd = (p + q) % 2
        a = np.ldexp(a, odd)
        e = np.ldexp(edge, -((p + q - odd) // 2))
        product, product_error = _two_product(a, c)
        square, square_error = _two_product(e, e)
        pivot = ((product - square) + (product_error - square_error)) / product
    positive = (first > 0) & (second > 0)
    finite = np.isfinite(first) & np.isfinite(second) & np.isfinite(edge)
    return np.where(positive & finite, pivot, np.nan)


def direction_condition(
    H: ArrayLike, g: ArrayLike, kept: ArrayLike | None = None, exact_pivots: np.ndarray | None = None
) -> float:
    """Condition number of the direction u = X g for relative changes of every stored number, of H and of g.

    || |J| |(H, g)| ||_2 / || |u| ||_2, with J the derivative of u: to first order, rounding every entry of H and g in a
    format of unit roundoff v changes u by at most v times this, relative to its norm (a mixed condition number,
    Gohberg and Koltracht 1993). On a chain X is the sum over the kept edges of the inverses of their 2 x 2 blocks of H,
    less (m_j - 1) / H_jj at each vertex j with m_j kept edges, and the derivative is taken of that, term by term. On
    any other band it is taken by :func:`~precond_lab.diagnosis.logdet_band_condition.band_direction_condition`.

    Args:
        H: ``[b+1, n]``.
        g: ``[n]``.
        kept: bool ``[b, n]``, the edges of the reduced graph; None for all.
        exact_pivots: :func:`pivots` of H, if at hand; of a chain alone.

    Returns:
        The condition number; infinite where a kept edge has pivot zero, a diagonal entry is not positive, or u is zero.
        Cost: O(n), in float64; O(n b^3) on a band.

    Raises:
        ValueError: for shapes other than these.

    Example:
        >>> round(direction_condition([[4.0, 4.0], [2.0, 0.0]], [1.0, -1.0]), 12)
        4.0
    """
    if np.ndim(H) != 2 or np.shape(H)[0] != 2:
        return band_direction_condition(H, g, kept)
    H, g = _banded(H), np.asarray(g, np.float64)
    n = H.shape[1]
    if g.shape != (n,):
        raise ValueError(f"H of shape {H.shape} and g of shape {g.shape} given; [b+1, n] and [n] are needed")
    mask = np.ones(n - 1, bool) if kept is None else np.asarray(kept, bool)[0, :-1]
    pivot = pivots(H) if exact_pivots is None else exact_pivots
    with np.errstate(all="ignore"):
        a, c, e = H[0, :-1], H[0, 1:], np.where(mask, H[1, :-1], 0.0)
        weight = np.where(mask, 1 / (a * c * pivot), 0.0)  # one over the determinant, nothing where the edge is dropped
        # for each edge: w = P^-1 (g_i, g_i+1), and what relative changes of a, e and c make of it
        w1, w2 = (c * g[:-1] - e * g[1:]) * weight, (a * g[1:] - e * g[:-1]) * weight
        a_here, a_next = -a * w1 * c * weight, a * w1 * e * weight
        c_here, c_next = c * w2 * e * weight, -c * w2 * a * weight
        e_here, e_next = -e * (c * w2 - e * w1) * weight, -e * (a * w1 - e * w2) * weight
        edges = np.concatenate([mask, [False]]).astype(float) + np.concatenate([[False], mask])
        left, right = (lambda x: np.append(x, 0.0)), (lambda x: np.insert(x, 0, 0.0))
        own = left(a_here) + right(c_next) + (edges - 1) * g / H[0]
        u = left(w1) + right(w2) - (edges - 1) * g / H[0]
        diagonal = left(c * weight) + right(a * weight) - (edges - 1) / H[0]
        off = np.abs(e * weight)
        change = np.abs(own) + left(np.abs(c_here) + np.abs(e_here)) + right(np.abs(a_next) + np.abs(e_next))
        change += np.abs(diagonal * g) + left(off * np.abs(g[1:])) + right(off * np.abs(g[:-1]))
        condition = np.linalg.norm(change) / np.linalg.norm(u)
    return float(condition) if np.isfinite(condition) and np.all(H[0] > 0) else np.inf


def _banded(H: ArrayLike) -> np.ndarray:
    H = np.asarray(H).astype(np.float64)
    if H.ndim != 2 or H.shape[0] not in {1, 2} or H.shape[1] == 0:
        raise ValueError(f"a band of shape {H.shape} given; supported are [1, n] and [2, n]; else band_condition")
    return H


def _two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The product and its rounding error (Dekker 1971, with Veltkamp's splitting)."""
    split = 2.0**27 + 1
    a_high = split * a - (split * a - a)
    b_high = split * b - (split * b - b)
    a_low, b_low = a - a_high, b - b_high
    product = a * b
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error
