"""Shampoo for matrices: statistics of both sides of a gradient, and their inverse roots applied to it.

Gupta, Koren and Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018, algorithm 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.inverse_root import InverseRoot, Ridge, Setting, TrackedRoot, inverse_root
from precond_lab.preconditioners.inverse_root.exponents import Exponent
from precond_lab.preconditioners.kronecker.factors import Factors, check_factors
from precond_lab.preconditioners.rank_one.averages import Weight, average_vector


class Statistics(NamedTuple):
    """Of the gradients of a matrix ``[m, n]``.

    Attributes:
        L: sum or average of G G^T, ``[m, m]``.
        R: that of G^T G, ``[n, n]``.
    """

    L: jax.Array
    R: jax.Array


class Direction(NamedTuple):
    """A preconditioned gradient, with what came of its roots.

    Attributes:
        direction: L^{-1/p} G R^{-1/p}, ``[m, n]``.
        left: the root of L, its result and residual.
        right: those of R.
    """

    direction: jax.Array
    left: InverseRoot | TrackedRoot
    right: InverseRoot | TrackedRoot


def statistics(G: jax.Array) -> Statistics:
    """G G^T and G^T G of one gradient.

    Args:
        G: ``[m, n]``.

    Returns:
        The statistics. Cost: 2 m n (m + n) flops.

    Raises:
        ValueError: G is no matrix.

    Example:
        >>> import jax.numpy as jnp
        >>> statistics(jnp.array([[1.0, 2.0]])).R.tolist()
        [[1.0, 2.0], [2.0, 4.0]]
    """
    G = jnp.asarray(G)
    if G.ndim != 2 or not G.size:
        raise ValueError(f"a gradient of shape {G.shape} given; give [m, n]")
    with jax.named_scope("arrays"):
        return Statistics(product(G, G.T), product(G.T, G))


def summed(total: Statistics, G: jax.Array) -> Statistics:
    """The sums of Shampoo as published: L <- L + G G^T, R <- R + G^T G.

    Args:
        total: of the gradients so far; epsilon times the identity to begin with.
        G: the next, ``[m, n]``.

    Returns:
        The next sums. Cost: 2 m n (m + n) flops.

    Raises:
        ValueError: G is no matrix.
    """
    sample = statistics(G)
    with jax.named_scope("arrays"):
        return Statistics(total.L + sample.L, total.R + sample.R)


def averaged(
    average: Statistics, G: jax.Array, *, new_weight: Weight | None = None, old_weight: Weight | None = None
) -> Statistics:
    """The running averages of later versions, which forget: L <- old L + new G G^T, and R alike.

    Args:
        average: of the gradients so far.
        G: the next, ``[m, n]``.
        new_weight: of its statistics.
        old_weight: of the average that was, beta_2; exactly one of the two is given.

    Returns:
        The next averages. Cost: 2 m n (m + n) flops.

    Raises:
        ValueError: G is no matrix, or both weights or none are given.
    """
    pairs = zip(average, statistics(G), strict=True)
    return Statistics(*(average_vector(x, y, new_weight=new_weight, old_weight=old_weight) for x, y in pairs))


def shampoo(
    G: jax.Array,
    given: Statistics,
    *,
    p: Exponent = 4,
    ridge: Ridge | None = None,
    method: str = "eigen",
    setting: Setting | None = None,
) -> Direction:
    """L^{-1/p} G R^{-1/p}, with p = 4 for a matrix, the left product first.

    Args:
        G: ``[m, n]``.
        given: L and R.
        p: of both roots.
        ridge: added to L and to R; None: none. Statistics of fewer gradients than rows have no inverse without one.
        method: of the roots, a name in :data:`..inverse_root.METHODS`.
        setting: of the roots, but for its ridge; None: as of every method.

    Returns:
        The direction, and the roots with their results: a breakdown is a value there, and NaN here. Cost: that of two
        roots, and 2 m n (m + n) flops.

    Raises:
        ValueError: shapes do not fit, or the method or p is not known.

    Example:
        >>> import jax.numpy as jnp
        >>> G = jnp.array([[3.0, 0.0], [0.0, 2.0]])
        >>> shampoo(G, statistics(G)).direction.round(4).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    G, (R, L) = check_factors(G, Factors(given.R, given.L))
    setting = (Setting() if setting is None else setting)._replace(ridge=ridge)
    with jax.named_scope("arrays"):
        left = inverse_root(L, p, method=method, setting=setting)
        right = inverse_root(R, p, method=method, setting=setting)
        return Direction(product(product(left.root, G), right.root), left, right)
