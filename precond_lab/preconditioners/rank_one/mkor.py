"""MKOR: the update of an inverse as it is printed, and as it is released. Neither is the inverse of an average.

A layer has two factors, of its output gradients (L) and of its inputs (R), each with an inverse J ``[n, n]`` that a
vector j updates; the direction is L^{-1} G R^{-1}. Both rules keep the signature of :mod:`.recursion`, in which beta is
MKOR's gamma and alpha its 1 - gamma. What the inverse of gamma C + (1 - gamma) j j^T really is, "symmetric" among
METHODS has it.

Mozaffari, Li, Zhang and Mehri Dehnavi, "MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1 Updates",
NeurIPS 2023.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like, nonzero, norm, product
from precond_lab.preconditioners.rank_one.dense import Dense, mirrored, recursion_of
from precond_lab.preconditioners.rank_one.recursion import Recursion


def printed_update(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """The printed rule: J <- gamma J + (1 - gamma) / (gamma^2 (1 + gamma (1 - gamma) s)) (J j) (J j)^T, s = j^T J j.

    Equations 5 and 6 of the paper and its algorithm 1. The correct inverse has 1 / gamma where this has gamma, minus
    where it has plus, and (1 - gamma) / gamma where it has gamma (1 - gamma). J stays positive definite, being a sum of
    such; but where s is large it is multiplied by gamma + gamma^{-3} > 1 in a step, where the inverse divides it by
    gamma + (1 - gamma) s.

    Order: w = J j, s = j^T w, c = alpha / (beta^2 (1 + (beta alpha) s)), beta J, c (w_i w_j), the sum; the lower
    triangle is mirrored.

    Args:
        state: of the step before.
        v: j, ``[n]``.
        beta: gamma.
        alpha: 1 - gamma.

    Returns:
        The next state. Cost: 6 n^2 flops.
    """
    J = state.P
    w = product(J, v)
    with jax.named_scope("scalars"):
        c = alpha / (beta * beta * (1 + beta * alpha * product(v, w)))
    outer = w[:, None] * w[None, :]
    with jax.named_scope("scalars"):
        kept, added = beta * J, c * outer
    return Dense(mirrored(kept + added))


def released_update(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """The released recursion: B = beta J + alpha I, J <- B - (B v) (v^T B) / (1 + v^T B v); beta = 0.95 in the code.

    The blend with the identity is damping by another name: from J = I on, I / (1 / alpha + |v|^2) <= J <= I in the
    order of Loewner where alpha = 1 - beta, so that the condition number of J is at most 20 + |v|^2.

    Order: beta J, alpha added to its diagonal, w = B v, z = v^T B, 1 + v^T w, the outer product w_i z_j, its quotient
    by that, the difference.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: weight of J.
        alpha: weight of the identity.

    Returns:
        The next state. Cost: 9 n^2 flops.
    """
    B = _blended(state.P, beta, alpha)
    w, z = product(B, v), product(v, B)
    with jax.named_scope("scalars"):
        d = 1 + product(v, w)
    outer = w[:, None] * z[None, :]
    with jax.named_scope("scalars"):
        corrections = outer / d
    return Dense(B - corrections)


printed: Recursion = recursion_of(printed_update)
"""The printed rule without its stabilizer."""

released: Recursion = recursion_of(released_update)
"""The released recursion without its test for infinities."""


def blend(J: jax.Array, threshold: jax.Array | float, weight: jax.Array | float) -> jax.Array:
    """The printed stabilizer: zeta J + (1 - zeta) I where the infinity norm of J is above epsilon, else J.

    It multiplies by zeta once in a step what the rule may multiply by gamma + gamma^{-3}: only if zeta is below
    1 / (gamma + gamma^{-3}) does it bound the printed rule from any J. A row with a NaN is above nothing.

    Args:
        J: ``[n, n]``.
        threshold: epsilon.
        weight: zeta.

    Returns:
        ``[n, n]``. Cost: 3 n^2 flops.
    """
    above = jnp.any(jnp.sum(jnp.abs(J), axis=1) > threshold)
    with jax.named_scope("scalars"):
        rest = 1 - jnp.asarray(weight, J.dtype)
    return jnp.where(above, _blended(J, weight, rest), J)


def reset(J: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """The released test: I where the largest entry of J is above the threshold (2 in the code) in magnitude, else J.

    Where J <= I in exact arithmetic no entry is above one, so that only a breakdown is caught; and of these not NaN,
    which is above nothing.

    Args:
        J: ``[n, n]``.
        threshold: of the largest magnitude.

    Returns:
        ``[n, n]``.
    """
    # The code asks torch's maximum, which is NaN where an entry is; XLA's on a CPU may pass over it.
    above = jnp.any(jnp.abs(J) > threshold) & ~jnp.any(jnp.isnan(J))
    return jnp.where(above, identity_like(J), J)


def reset_unless_finite(J: jax.Array) -> jax.Array:
    """What the released test is for: I where an entry of J is infinite or NaN, else J.

    Args:
        J: ``[n, n]``.

    Returns:
        ``[n, n]``.
    """
    return jnp.where(jnp.all(jnp.isfinite(J)), J, identity_like(J))


def stabilized(recursion: Recursion, stabilizer: Callable[[jax.Array], jax.Array]) -> Recursion:
    """A recursion of dense state that looks at J before it updates it, as algorithm 1 does.

    Args:
        recursion: whose state is `Dense`.
        stabilizer: takes J to the J that is updated.

    Returns:
        The recursion.

    Example:
        >>> import jax.numpy as jnp
        >>> from functools import partial
        >>> bounded = stabilized(printed, partial(blend, threshold=2.0, weight=0.4))
        >>> state = bounded.update(Dense(4 * jnp.eye(1)), jnp.ones(1), jnp.array(0.5), jnp.array(0.5))
        >>> round(state.P.item(), 4)
        7.3452
    """

    def update(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
        return recursion.update(Dense(stabilizer(state.P)), v, beta, alpha)

    return recursion._replace(update=update)


def direction(left: jax.Array, right: jax.Array, G: jax.Array) -> jax.Array:
    """The preconditioned gradient of a layer: L^{-1} G R^{-1}, the left product first.

    Args:
        left: L^{-1}, ``[m, m]``.
        right: R^{-1}, ``[n, n]``.
        G: gradient of the weights, ``[m, n]``.

    Returns:
        ``[m, n]``. Cost: 2 m n (m + n) flops.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> direction(2 * jnp.eye(1), 3 * jnp.eye(2), jnp.array([[1.0, 2.0]])).tolist()
        [[6.0, 12.0]]
    """
    left, right, G = jnp.asarray(left), jnp.asarray(right), jnp.asarray(G)
    m, n = G.shape if G.ndim == 2 else (0, 0)
    if G.ndim != 2 or left.shape != (m, m) or right.shape != (n, n):
        raise ValueError(
            f"a gradient of shape {G.shape} given with inverses of shapes {left.shape} and {right.shape}; "
            "give [m, n] with [m, m] and [n, n]"
        )
    with jax.named_scope("arrays"):
        return product(product(left, G), right)


def rescaled(P: jax.Array, G: jax.Array) -> jax.Array:
    """The direction at the length of the gradient: P |G| / |P|, in Frobenius norms; P where it is zero.

    Order: |G|, |P|, their quotient, its product with P. Norms are scaled by their largest entry.

    Args:
        P: the direction, of any shape.
        G: the gradient.

    Returns:
        Of the shape of P. Cost: 7 flops an element.

    Example:
        >>> import jax.numpy as jnp
        >>> rescaled(jnp.array([[0.0, 2.0]]), jnp.array([[3.0, 4.0]])).tolist()
        [[0.0, 5.0]]
    """
    P, G = jnp.asarray(P), jnp.asarray(G)
    with jax.named_scope("arrays"), jax.named_scope("scalars"):
        return norm(G.reshape(-1)) / nonzero(norm(P.reshape(-1))) * P


def _blended(J: jax.Array, weight: jax.Array | float, rest: jax.Array | float) -> jax.Array:
    """The sum of weight J and rest I; what is off the diagonal is rounded once."""
    with jax.named_scope("scalars"):
        scaled = weight * J
        return jnp.where(identity_like(J) == 1, scaled + rest, scaled)
