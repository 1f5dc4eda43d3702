r"""The LogDet projection of SONew onto diagonal or tridiagonal preconditioners.

Among all symmetric positive definite X that vanish outside the band, SONew steps with the minimizer of

    -log det X + tr(X H),        equivalently the X whose inverse agrees with H on the band.

The storage of H, its statistics and its damping are those of :mod:`precond_lab.preconditioners.banded`,
whose functions are names of this module too.

Source: Devvrit, Duvvuri, Anil, Gupta, Hsieh, Dhillon, "A Computationally Efficient Sparsified Online Newton
Method", NeurIPS 2023 (arXiv 2311.10085), cited below as SONew.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.preconditioners.banded import (
    Statistics,
    add,
    average,
    band_outer,
    chain,
    check_banded,
    corrected,
    cut,
    damp,
    damp_absolute,
    initialize,
    one_norm,
    row_edges,
    unchain,
)

__all__ = [
    "Factor",
    "Rule",
    "Statistics",
    "add",
    "apply",
    "average",
    "band_outer",
    "chain",
    "corrected",
    "cut",
    "damp",
    "damp_absolute",
    "explicit",
    "initialize",
    "log_det",
    "multiply",
    "objective",
    "one_norm",
    "project",
    "row_edges",
    "schur_complements",
    "stabilize",
    "unchain",
]

Rule = Literal["one_sided", "literal"]


class Factor(NamedTuple):
    """X = L D L^T with unit lower triangular L.

    Attributes:
        L: subdiagonals of L, unit diagonal left out, ``[b, n]``: ``L[k-1, i]`` is :math:`L_{i+k,i}`.
        D: diagonal of D, ``[n]``; the reciprocals of the Schur complements s.
    """

    L: jax.Array
    D: jax.Array


# Projection


def project(H: jax.Array) -> Factor:
    """The LogDet projection of H as X = L D L^T, with nothing to guard it (SONew, Theorem 3.1).

    Order, for each edge independently: psi = H_{i+1,i} / H_{i+1,i+1}; s = H_ii - psi H_{i+1,i}; D = 1 / s;
    L = -psi; the last vertex has s = H_nn. X is positive definite exactly if every s is positive, and a
    breakdown is left in sight: s computed as 0 gives an infinite D, s < 0 a negative one.

    With beta_i the correlation of edge i and u the unit roundoff, the computed s has a relative error up to
    2u / (1 - beta_i^2), and can be zero or negative once 1 - beta_i^2 < 2u. Errors do not build up along
    the chain.

    Args:
        H: ``[b+1, n]``, b 0 or 1, with a positive diagonal.

    Returns:
        Factor of L ``[b, n]`` and D ``[n]``. Cost: 4 flops a parameter, two of them divisions.

    Raises:
        ValueError: for a shape other than ``[1, n]`` or ``[2, n]``.

    Example:
        >>> factor = project(jnp.array([[2.0, 4.0, 1.0], [2.0, 0.0, 0.0]]))
        >>> factor.L.tolist(), factor.D.tolist()
        ([[-0.5, -0.0, 0.0]], [1.0, 0.25, 1.0])
    """
    H = check_banded(H)
    if H.shape[0] == 1:
        return Factor(H[1:], 1 / H[0])
    psi, s = schur_complements(H)
    return _factor(psi, s)


def apply(factor: Factor, g: jax.Array) -> jax.Array:
    """The direction X g, as L (D (L^T g)).

    Order: y_i = g_i + L_i g_{i+1}; z = D y; u_{i+1} = z_{i+1} + L_i z_i. The product with an explicit X loses
    more: in low precision it can turn X indefinite on a single edge. L D L^T with D > 0 cannot, but the rounding
    of the last sum adds up along a chain: on thousands of vertices whose edges are all within rounding of
    singular, g^T u can become negative too. A tolerance of 2u in :func:`stabilize` drops such edges.

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
    if L.shape[0] == 0:
        return D * g
    edge = L[0, :-1]
    y = jnp.concatenate([g[:-1] + edge * g[1:], g[-1:]])
    z = D * y
    return jnp.concatenate([z[:1], z[1:] + edge * z[:-1]])


def stabilize(
    H: jax.Array, tolerance: jax.Array | float, *, rule: Rule = "one_sided", relative: bool = True
) -> tuple[Factor, jax.Array]:
    """The projection after Algorithm 3 of SONew has dropped the edges that the arithmetic cannot carry.

    Vertex i fails unless s_i > tolerance H_ii (relative) or s_i > tolerance (absolute), with s as
    :func:`project` computes it; written so, a NaN fails. An edge is dropped if

    - ``one_sided``: its first vertex i fails. This suffices for a chain, since s_{i-1} does not involve s_i;
    - ``literal``: either of its vertices fails, as the algorithm is printed (all edges incident to i).

    The problem is then solved on the reduced graph: where the edge is dropped psi = 0 and s = H_ii. On
    chains one pass reaches the fixed point. For finite H with a positive diagonal, D is finite and positive
    (unless 1 / s overflows). What comes out approximates the projection on the reduced graph, which by
    design is far from that of H.

    The relative rule is invariant under scaling of H, the absolute rule is not. With a relative tolerance
    gamma the condition number 2 / (1 - beta^2) that remains is below 2 / gamma up to rounding: gamma = 2u,
    for the unit roundoff u of the format in which H is *stored*, guarantees signs alone; ten percent of
    accuracy in s needs 20u.

    Args:
        H: ``[b+1, n]``, b 0 or 1, with a positive diagonal. A zero on the diagonal has no projection:
            its own D is infinite, and :func:`apply` hands the NaN of 0 * inf to its neighbor; damp first.
        tolerance: gamma >= 0, a scalar.
        rule: which edges a failed vertex loses.
        relative: whether the tolerance is relative to H_ii.

    Returns:
        The factor, and the edges that are kept, bool ``[b, n]``. Cost: that of :func:`project`, with one
        more product, comparison, and two selections a parameter.

    Raises:
        ValueError: for an unknown rule, a shape other than ``[1, n]`` or ``[2, n]``, or a tolerance that is
            negative or NaN (a traced one has no value yet, and passes).

    Example:
        >>> factor, kept = stabilize(jnp.array([[2.0, 2.0, 3.0], [2.0, 1.0, 0.0]]), 0.0)
        >>> kept.tolist(), factor.D[:1].tolist()
        ([[False, True, False]], [0.5])
    """
    H = check_banded(H)
    if rule not in {"one_sided", "literal"}:
        raise ValueError(f"unknown rule {rule!r}; use 'one_sided' or 'literal'")
    _check_tolerance(tolerance)
    if H.shape[0] == 1:
        return project(H), H[1:] > 0
    psi, s = schur_complements(H)
    stands = s > (tolerance * H[0] if relative else tolerance)
    kept = stands[:-1] & stands[1:] if rule == "literal" else stands[:-1]
    # The selections come before the reciprocal: no NaN or infinity of a dropped edge enters what follows.
    psi = jnp.where(kept, psi, jnp.zeros_like(psi))
    s = jnp.concatenate([jnp.where(kept, s[:-1], H[0, :-1]), s[-1:]])
    return _factor(psi, s), jnp.concatenate([kept, jnp.zeros_like(kept, shape=1)])[None]


# The explicit X, and the objective


def explicit(factor: Factor) -> jax.Array:
    """The band of X, as SONew's published code forms it.

    Order: X_{i+1,i} = L_i D_i; X_{i+1,i+1} = D_{i+1} + L_i X_{i+1,i}. For comparison with :func:`apply`
    only: the rounded band need not be positive definite.

    Args:
        factor: L ``[b, n]`` and D ``[n]``.

    Returns:
        ``[b+1, n]``. Cost: 3 b n flops.
    """
    L, D = factor
    if L.shape[0] == 0:
        return D[None]
    edge = L[0, :-1] * D[:-1]
    diagonal = jnp.concatenate([D[:1], D[1:] + L[0, :-1] * edge])
    edge = jnp.concatenate([edge, jnp.zeros_like(D[:1])])
    return jnp.concatenate([diagonal[None], edge[None]])


def multiply(X: jax.Array, g: jax.Array) -> jax.Array:
    """The product of a symmetric banded matrix and a vector.

    Order in row i: (X_ii g_i + X_{i+1,i} g_{i+1}) + X_{i,i-1} g_{i-1}.

    Args:
        X: ``[b+1, n]``.
        g: ``[n]``.

    Returns:
        X g, ``[n]``. Cost: (4b + 1) n flops.

    Raises:
        ValueError: for a shape other than ``[1, n]`` or ``[2, n]``.
    """
    X, g = check_banded(X), jnp.asarray(g)
    product = X[0] * g
    if X.shape[0] == 1:
        return product
    edge = X[1, :-1]
    product = jnp.concatenate([product[:-1] + edge * g[1:], product[-1:]])
    return jnp.concatenate([product[:1], product[1:] + edge * g[:-1]])


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
        ValueError: for an H other than ``[1, n]`` or ``[2, n]``.
    """
    H = check_banded(H)
    X = explicit(factor)
    return jnp.sum(X[0] * H[0]) + 2 * jnp.sum(X[1:, :-1] * H[1:, :-1]) - log_det(factor)


# What the above share


def schur_complements(H: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The regression of every vertex on its successor: what :func:`project` takes the reciprocal of.

    Args:
        H: ``[2, n]``.

    Returns:
        Coefficients psi ``[n-1]`` and Schur complements s ``[n]``. Cost: 3 n flops.
    """
    edge = H[1, :-1]
    psi = edge / H[0, 1:]
    return psi, jnp.concatenate([H[0, :-1] - psi * edge, H[0, -1:]])


def _check_tolerance(tolerance: jax.Array | float) -> None:
    try:
        value = float(tolerance)
    except jax.errors.ConcretizationTypeError:  # traced
        return
    if not value >= 0:
        raise ValueError(f"tolerance {value} given; it must be zero or positive")


def _factor(psi: jax.Array, s: jax.Array) -> Factor:
    return Factor(jnp.concatenate([-psi, jnp.zeros_like(s[:1])])[None], 1 / s)
