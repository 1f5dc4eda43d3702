"""The inverse itself as the state: the algebraic versions of Sherman and Morrison's update.

They differ in how P - w w^T / (tau + s) is formed. Where the two triangles are rounded differently, or w = P v alone
stands for v^T P too, the antisymmetric part of P is divided by beta in every step and grows without bound.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg import cholesky, invert_lower
from precond_lab.linalg.matrices import floating, product
from precond_lab.preconditioners.rank_one.recursion import Recursion, check_vectors, matrix_or_diagonal


class Dense(NamedTuple):
    """The state of the dense forms.

    Attributes:
        P: the inverse, ``[n, n]``.
    """

    P: jax.Array


def sherman_morrison(P: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    """(P^{-1} + u v^T)^{-1} = P - (P u) (v^T P) / (1 + v^T P u).

    Order: P u, v^T P, the outer product of the two, its quotient by 1 + v^T (P u), the difference. Where u is v and P
    is symmetric bit for bit, so is the result under emulation, which sums both products in one order. Not backward
    stable: the error is proportional to kappa(P) u even where the result is well conditioned (Hashemi and Nakatsukasa,
    arXiv 2510.01696).

    Args:
        P: inverse of the matrix that is updated, ``[n, n]``.
        u: ``[n]``.
        v: ``[n]``.

    Returns:
        ``[n, n]``; infinite or NaN where 1 + v^T P u is zero and the updated matrix singular. Cost: 7 n^2 flops.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> sherman_morrison(jnp.eye(2), jnp.array([1.0, 0.0]), jnp.array([1.0, 2.0])).tolist()
        [[0.5, -1.0], [0.0, 1.0]]
    """
    P, u, v = floating(P), floating(u), floating(v)
    check_vectors(P, (u, v))
    with jax.named_scope("arrays"):
        left, right = product(P, u), product(v, P)
        with jax.named_scope("scalars"):
            capacitance = 1 + product(v, left)
        products = left[:, None] * right[None, :]
        with jax.named_scope("scalars"):
            correction = products / capacitance
        return P - correction


def start(C: jax.Array) -> Dense:
    """The inverse of C, through its Cholesky factor.

    Args:
        C: symmetric positive definite, ``[n, n]``, or the diagonal of one, ``[n]``.

    Returns:
        The state; symmetric bit for bit.
    """
    C = matrix_or_diagonal(C)
    if C.ndim == 1:
        return Dense(jnp.diag(1 / C))
    L = invert_lower(cholesky(C))
    P = product(L.T, L)
    lower = jnp.tril(P)
    return Dense(lower + jnp.tril(P, -1).T)


def denominator(v: jax.Array, w: jax.Array, beta: jax.Array, alpha: jax.Array) -> jax.Array:
    """The denominator tau + s = beta / alpha + v^T w, in the arithmetic of scalars.

    Args:
        v: ``[n]``.
        w: P v, ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        A scalar, at least tau where P is positive definite.
    """
    with jax.named_scope("scalars"):
        return beta / alpha + product(v, w)


def gain(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """The gain form of recursive least squares: k = w / (tau + s), P <- (P - k w^T) / beta.

    fl(k_i w_j) is not fl(k_j w_i): every step makes an antisymmetric part of relative size u, the roundoff of the
    arithmetic of arrays, and divides that of the step before by beta, so that positive definiteness is lost after about
    ln(1/u) / ln(1/beta) steps in any format. Arrays much wider than what is kept of them hide it for a while.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 5 n^2 flops.
    """
    P = state.P
    w = product(P, v)
    with jax.named_scope("scalars"):
        k = w / denominator(v, w, beta, alpha)
    difference = P - k[:, None] * w[None, :]
    with jax.named_scope("scalars"):
        return Dense(difference / beta)


def outer(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """The outer-product form: P <- (P - fl(w_i w_j) / (tau + s)) / beta.

    From a symmetric P it is symmetric bit for bit, as w_i w_j is w_j w_i. An antisymmetric part that P brings with it
    is divided by beta in every step, as in the gain form.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 6 n^2 flops.
    """
    P = state.P
    w = product(P, v)
    d = denominator(v, w, beta, alpha)
    products = w[:, None] * w[None, :]
    with jax.named_scope("scalars"):
        corrections = products / d
    difference = P - corrections
    with jax.named_scope("scalars"):
        return Dense(difference / beta)


def symmetric(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """The outer-product form of a mirrored lower triangle: no antisymmetric part is ever read.

    The result is symmetric bit for bit in any deterministic rounding. Where rounding is stochastic the two triangles
    are drawn apart, and the lower one is what the next step, `inverse` and `apply` go by.

    Args:
        state: of the step before; the part above the diagonal is not read.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 6 n^2 flops.
    """
    return outer(Dense(mirrored(state.P)), v, beta, alpha)


def mirrored(P: jax.Array) -> jax.Array:
    """The symmetric matrix of a lower triangle; nothing is rounded.

    Args:
        P: ``[n, n]``; what lies above the diagonal is not read.

    Returns:
        ``[n, n]``.
    """
    n = P.shape[0]
    return jnp.where(jnp.arange(n)[:, None] >= jnp.arange(n)[None, :], P, P.T)


def both_sided(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """The form for any square P: w = P v, z = v^T P, P <- (P - w_i z_j / (tau + s)) / beta.

    Both products see the antisymmetric part, so that the update damps it where v excites it.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 8 n^2 flops.
    """
    P = state.P
    w, z = product(P, v), product(v, P)
    d = denominator(v, w, beta, alpha)
    products = w[:, None] * z[None, :]
    with jax.named_scope("scalars"):
        corrections = products / d
    difference = P - corrections
    with jax.named_scope("scalars"):
        return Dense(difference / beta)


def joseph(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """Joseph's form: P <- ((I - k v^T) P (I - v k^T) + tau k k^T) / beta, a sum of two semidefinite matrices.

    Order: k = w / (tau + s), A = P - k w^T, y = A v, A - y k^T + (tau k) k^T, the lower triangle mirrored. An error in
    k enters to second order only (Bucy and Joseph, "Filtering for Stochastic Processes", 1968); rounding of the P that
    is kept is not helped.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 11 n^2 flops.
    """
    P = state.P
    w = product(P, v)
    with jax.named_scope("scalars"):
        tau = beta / alpha
        k = w / (tau + product(v, w))
        scaled = tau * k
    A = P - k[:, None] * w[None, :]
    y = product(A, v)
    total = (A - y[:, None] * k[None, :]) + scaled[:, None] * k[None, :]
    with jax.named_scope("scalars"):
        return Dense(mirrored(total / beta))


def inverse(state: Dense) -> jax.Array:
    """P itself.

    Args:
        state: any with a field P.

    Returns:
        ``[n, n]``.
    """
    return state.P


def apply(state: Dense, g: jax.Array) -> jax.Array:
    """P g.

    Args:
        state: any with a field P.
        g: ``[n]``.

    Returns:
        ``[n]``. Cost: 2 n^2 flops.
    """
    return product(state.P, g)


def recursion_of(update: Callable[..., Dense]) -> Recursion:
    """A recursion whose state is the inverse itself.

    Args:
        update: a step.

    Returns:
        The recursion.
    """
    return Recursion(start, update, inverse, apply)


SYMMETRIC = Recursion(
    start,
    symmetric,
    lambda state: mirrored(state.P),
    lambda state, g: product(mirrored(state.P), g),
)
"""The recursion that goes by the lower triangle alone."""
