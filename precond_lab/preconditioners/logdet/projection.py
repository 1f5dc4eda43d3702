r"""The LogDet projection of SONew onto banded preconditioners, as X = L D L^T.

Among all symmetric positive definite X that vanish off the graph, SONew steps with the minimizer of

    -log det X + tr(X H),        equivalently the X whose inverse agrees with H on the graph.

On a band of b subdiagonals every vertex j has a regression of its own on the window I = {j+1, ..., j+b} of its
successors, psi_j = H_II^{-1} H_Ij, and with the Schur complement s_j = H_jj - H_jI psi_j

    L_Ij = -psi_j,      D_jj = 1 / s_j.

The vertices are independent of each other: errors do not build up along the chain, and nothing is sequential.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.logdet.band import check_banded, check_graph, check_mask, cut, earlier, later, within

Form = Literal["pivots", "coefficients"]


class Factor(NamedTuple):
    """X = L D L^T with unit lower triangular L.

    Attributes:
        L: subdiagonals of L, unit diagonal left out, ``[b, n]``: ``L[k-1, i]`` is :math:`L_{i+k,i}`.
        D: diagonal of D, ``[n]``; the reciprocals of the Schur complements s.
    """

    L: jax.Array
    D: jax.Array


# Projection


def project(H: jax.Array, kept: jax.Array | None = None) -> Factor:
    """The LogDet projection of H as X = L D L^T, with nothing to guard it (SONew, Theorem 3.1 and its band form).

    Order, for each vertex j independently, with A = H_II of its window and e = H_Ij: A = M diag(d) M^T, unit lower
    triangular M, column by column (c = a_k / d_k, then a_m - c_m a_k for the later columns m); z = M^{-1} e; s = H_jj -
    z_1 (z_1 / d_1) - z_2 (z_2 / d_2) - ... from left to right; psi = M^{-T} (z / d); D = 1 / s; L = -psi. For a chain
    this is psi = H_{j+1,j} / H_{j+1,j+1} and s = H_jj - psi H_{j+1,j}.

    X is positive definite exactly if every s is positive, and a breakdown is left in sight: s computed as 0 gives an
    infinite D, s < 0 a negative one. On a chain, with beta_j the correlation of edge j and u the unit roundoff, the
    computed s has a relative error up to 2u / (1 - beta_j^2), and can be zero or negative once 1 - beta_j^2 < 2u.

    Args:
        H: ``[b+1, n]``, with a positive diagonal.
        kept: bool ``[b, n]``, the edges of a reduced graph, None for all. The later neighbors of every vertex must be
            linked with each other, as they are between the cuts of :func:`stabilize` and in :func:`row_edges`. The
            stored entries of other edges are not looked at.

    Returns:
        Factor of L ``[b, n]`` and D ``[n]``. Cost: b^3 / 3 + 5 b^2 / 2 + O(b) flops a parameter; for a chain 4, two of
        them divisions.

    Raises:
        ValueError: for a shape other than ``[b+1, n]``, or a mask that does not fit or is no such graph (a traced one
            has no values yet, and passes).

    Example:
        >>> factor = project(jnp.array([[2.0, 4.0, 1.0], [2.0, 0.0, 0.0]]))
        >>> (factor.L + 0).tolist(), factor.D.tolist()
        ([[-0.5, 0.0, 0.0]], [1.0, 0.25, 1.0])
    """
    return factor_of(*schur_complements(H, kept))


def factor_of(psi: jax.Array, s: jax.Array) -> Factor:
    """The factor of a projection from its regressions.

    Args:
        psi: ``[b, n]``.
        s: ``[n]``.

    Returns:
        L = -psi and D = 1 / s.
    """
    return Factor(-psi, 1 / s)


def schur_complements(H: jax.Array, kept: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """The regression of every vertex on its later neighbors: what :func:`project` takes the reciprocal of.

    Where an edge is not there, the window has a one on its diagonal and zeros beside it: psi is zero, exactly, and no
    NaN or infinity of a vertex that is not a neighbor enters.

    Args:
        H: ``[b+1, n]``.
        kept: bool ``[b, n]``, the edges of a reduced graph; None for all.

    Returns:
        Coefficients psi ``[b, n]``, zero where there is no edge, and Schur complements s ``[n]``.

    Raises:
        ValueError: for a shape other than ``[b+1, n]``, or a mask that does not fit or is no such graph (a traced one
            has no values yet, and passes).
    """
    H = check_banded(H)
    band = H.shape[0] - 1
    if kept is None:
        H = cut(H, within(H.shape[1], band))
    else:
        kept = check_mask(H, kept)
        check_graph(kept)
    return regress(with_following(H), kept)


def with_following(H: jax.Array) -> jax.Array:
    """H with b more vertices after its last one, alone and of H_ii = 1.

    Args:
        H: ``[b+1, n]``.

    Returns:
        ``[b+1, n+b]``.
    """
    band, n = H.shape[0] - 1, H.shape[1]
    # Not by concatenation, which XLA on a CPU computes number by number.
    padded = lax.pad(H, jnp.zeros((), H.dtype), [(0, 0, 0), (0, band, 0)])
    place = jnp.arange(n + band) >= n
    return jnp.where(place & (jnp.arange(band + 1) == 0)[:, None], jnp.ones((), H.dtype), padded)


def regress(H: jax.Array, kept: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """The regressions of the first m vertices of a chain of m + b.

    Args:
        H: ``[b+1, m+b]``.
        kept: bool ``[b, m]``; None where H has zeros for the edges that are not there.

    Returns:
        psi ``[b, m]`` and s ``[m]``, as :func:`schur_complements`.
    """
    return regress_and_judge(H, kept)[:2]


def regress_and_judge(
    H: jax.Array, kept: jax.Array | None = None, *, form: Form = "pivots"
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same, and whether the window of each vertex has a regression at all.

    Args:
        H: ``[b+1, m+b]``.
        kept: bool ``[b, m]``; None where H has zeros for the edges that are not there.
        form: how s is formed; see :func:`iterate`.

    Returns:
        psi ``[b, m]``, s ``[m]``, and bool ``[m]``, whether all pivots d of H_II are positive.
    """
    band = H.shape[0] - 1
    s, m = H[0, : H.shape[1] - band], H.shape[1] - band
    if band == 0:
        return H[1:], s, jnp.ones(m, bool)
    A, e = windows_of(H, m, kept)
    stored = list(e)
    M = [eliminate(A, e, k) for k in range(band)]
    psi = [e[k] / A[k][k] for k in range(band)]
    terms = [psi[k] * e[k] for k in range(band)]
    substitute_back(M, psi)
    if form == "coefficients":
        terms = [psi[k] * stored[k] for k in range(band)]
    definite = jnp.ones(m, bool)
    for k in range(band):
        s = s - terms[k]
        definite &= A[k][k] > 0
    return jnp.stack(psi), s, definite


def eliminate(A: list[list[jax.Array]], e: list[jax.Array], k: int) -> dict[int, jax.Array]:
    """A step of the elimination, in place: d_k is what stands on the diagonal of A before it, z_k what stands in e.

    Args:
        A: rows of the lower triangle of H_II, after the steps before this one.
        e: H_Ij, likewise.
        k: the column.

    Returns:
        Column k of M below the diagonal, by rows.
    """
    below = {row: A[row][k] / A[k][k] for row in range(k + 1, len(e))}
    for row, factor in below.items():
        for column in range(k + 1, row + 1):
            A[row][column] = A[row][column] - factor * A[column][k]
        e[row] = e[row] - factor * e[k]
    return below


def substitute_back(M: list[dict[int, jax.Array]], x: list[jax.Array]) -> None:
    """M^{-T} x, in place.

    Args:
        M: the columns of M below the diagonal, by rows.
        x: a vector.
    """
    for k in reversed(range(len(x))):
        for row, factor in M[k].items():
            x[k] = x[k] - factor * x[row]


def windows_of(H: jax.Array, m: int, kept: jax.Array | None = None) -> tuple[list[list[jax.Array]], list[jax.Array]]:
    """The windows of m vertices at once.

    Args:
        H: ``[b+1, m+b]``.
        m: how many vertices.
        kept: bool ``[b, m]``; None where H has zeros for the edges that are not there.

    Returns:
        Rows of the lower triangle of H_II, each entry ``[m]``, and H_Ij.
    """
    band = H.shape[0] - 1
    A = [[H[row - k, k + 1 : k + 1 + m] for k in range(row + 1)] for row in range(band)]
    e = [H[k + 1, :m] for k in range(band)]
    if kept is None:
        return A, e
    zero, one = jnp.zeros_like(H, shape=m), jnp.ones_like(H, shape=m)
    for row in range(band):
        A[row] = [jnp.where(kept[row] & kept[k], A[row][k], one if k == row else zero) for k in range(row + 1)]
        e[row] = jnp.where(kept[row], e[row], zero)
    return A, e


# What a factor gives


def apply(factor: Factor, g: jax.Array) -> jax.Array:
    """The direction X g, as L (D (L^T g)).

    Order: y_i = g_i + L_{i+1,i} g_{i+1} + ... + L_{i+b,i} g_{i+b} from left to right; z = D y; u_i = z_i + L_{i,i-1}
    z_{i-1} + ... + L_{i,i-b} z_{i-b}. The product with an explicit X loses more: in low precision it can turn X
    indefinite on a single edge. L D L^T with D > 0 cannot, but the rounding of the last sum adds up along a chain: on
    thousands of vertices whose edges are all within rounding of singular, g^T u can become negative too. A tolerance of
    2u in :func:`stabilize` drops such edges.

    Args:
        factor: L ``[b, n]`` and D ``[n]``.
        g: ``[n]``.

    Returns:
        X g, ``[n]``. Cost: (4b + 1) n flops.

    Raises:
        ValueError: if g does not have the length of the chain.

    Example:
        >>> factor = project(jnp.array([[2.0, 4.0, 1.0], [2.0, 0.0, 0.0]]))
        >>> apply(factor, jnp.array([1.0, 2.0, 3.0])).tolist()
        [0.0, 0.5, 3.0]
    """
    L, D = factor
    g = jnp.asarray(g)
    if g.shape != D.shape:
        raise ValueError(f"g of shape {g.shape} given; a factor with D of shape {D.shape} needs that shape")
    y = g
    for k in range(1, L.shape[0] + 1):
        y = y + L[k - 1] * later(g, k)
    u = z = D * y
    for k in range(1, L.shape[0] + 1):
        u = u + earlier(L[k - 1] * z, k)
    return u


def explicit(factor: Factor) -> jax.Array:
    """The band of X, as SONew's published code forms it.

    Order: w_k = L_{i+k,i} D_i; X_{i+k,i} = w_k (or D_i for k = 0), plus L_{i+k,i-m} w_m of vertex i-m for m = 1, 2, ...
    For comparison with :func:`apply` only: the rounded band need not be positive definite.

    Args:
        factor: L ``[b, n]`` and D ``[n]``.

    Returns:
        ``[b+1, n]``. Cost: (b + 1)^2 n flops.
    """
    L, D = factor
    band = L.shape[0]
    scaled = [D] + [L[k] * D for k in range(band)]
    rows = []
    for k in range(band + 1):
        x = scaled[k]
        for m in range(1, band - k + 1):
            x = x + earlier(L[k + m - 1] * scaled[m], m)
        rows.append(x)
    return jnp.stack(rows)


def inverse_band(factor: Factor) -> jax.Array:
    """The band of X^{-1}: by the optimality condition that of H, where X is the projection of H.

    Order, from the last vertex to the first (Takahashi's recurrence), with psi = -L_Ij and S = X^{-1}: S_Ij = S_II psi,
    each entry summed from left to right; S_jj = 1 / D_j + psi_1 S_{j+1,j} + ... + psi_b S_{j+b,j}. Sequential, unlike
    all else here: meant as a check.

    Args:
        factor: L ``[b, n]`` and D ``[n]``.

    Returns:
        ``[b+1, n]``. Cost: 2 b (b + 1) n flops.

    Example:
        >>> inverse_band(project(jnp.array([[2.0, 4.0, 1.0], [2.0, 0.0, 0.0]]))).tolist()
        [[2.0, 4.0, 1.0], [2.0, 0.0, 0.0]]
    """
    L, D = factor
    band = L.shape[0]

    def step(S: jax.Array, vertex: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        l, d = vertex
        column = jnp.zeros_like(l)
        total = 1 / d
        for k in range(band):
            column = column + S[:, k] * -l[k]
        for k in range(band):
            total = total - l[k] * column[k]
        whole = jnp.concatenate([total[None], column])
        return jnp.concatenate([whole[:band, None], jnp.concatenate([column[None, : band - 1], S[:-1, :-1]])], 1), whole

    if band == 0:
        return (1 / D)[None]
    _, columns = lax.scan(step, jnp.zeros((band, band), D.dtype), (L.T, D), reverse=True)
    return columns.T


def log_det(factor: Factor) -> jax.Array:
    """Log det X, the sum of the logarithms of D.

    Args:
        factor: L ``[b, n]`` and D ``[n]``.

    Returns:
        A scalar; NaN where some D is negative.
    """
    return jnp.sum(jnp.log(factor.D))


def objective(factor: Factor, H: jax.Array) -> jax.Array:
    """What the projection minimizes: -log det X + tr(X H). At the minimizer tr(X H) = n.

    Args:
        factor: L ``[b, n]`` and D ``[n]`` of X.
        H: ``[b+1, n]``.

    Returns:
        A scalar.

    Raises:
        ValueError: for an H other than ``[b+1, n]``.
    """
    H, X = check_banded(H), explicit(factor)
    inside = within(H.shape[1], H.shape[0] - 1)
    return jnp.sum(X[0] * H[0]) + 2 * jnp.sum(cut(X, inside)[1:] * cut(H, inside)[1:]) - log_det(factor)
