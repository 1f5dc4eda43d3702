"""Inverse p-th roots of the identity plus one outer product, in closed form.

    (gamma I + v v^T)^{-1/p} = gamma^{-1/p} (I - kappa q q^T),   q = v / |v|,   kappa = 1 - (1 + |v|^2 / gamma)^{-1/p}

since v is an eigenvector of gamma + |v|^2, and whatever is orthogonal to it one of gamma. Where |v|^2 / gamma is small,
the difference in kappa would lose all its digits; it is formed as -expm1(-log1p(|v|^2 / gamma) / p).
"""

from fractions import Fraction
from numbers import Real

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import floating, identity_like, nonzero, norm, product

Power = jax.Array | float | Fraction
"""A positive p: a number, an array that may be traced, or a fraction."""


def is_positive(x: jax.Array | float | Fraction) -> bool:
    """Whether a number is positive and finite; an array may be traced, and has no value then.

    Args:
        x: a number of any type, or an array.

    Returns:
        False for a number that is not; True for arrays.
    """
    return not isinstance(x, Real) or 0 < x < float("inf")


def check_power(p: Power) -> None:
    """Refuse what is no root; an array may be traced, and then has no value yet.

    Args:
        p: as it was given.

    Raises:
        ValueError: p is a number that is not positive and finite.
    """
    if not is_positive(p):
        raise ValueError(f"p = {p} given; give a positive number: (gamma I + v v^T)^(-1/p) is wanted")


def check_damping(damping: jax.Array | float) -> None:
    """Refuse what is no damping; an array has no value yet.

    Args:
        damping: as it was given.

    Raises:
        ValueError: it is a number that is not positive and finite.
    """
    if not is_positive(damping):
        raise ValueError(f"damping = {damping} given; give a positive number: it is divided by")


def check_vector(v: jax.Array) -> jax.Array:
    """The vector as a JAX array.

    Args:
        v: ``[n]``.

    Returns:
        The same.

    Raises:
        ValueError: v is no vector.
    """
    v = floating(v)
    if v.ndim != 1 or not v.size:
        raise ValueError(
            f"a vector with elements is needed, got shape {v.shape}: give [n], and use jax.vmap for a batch"
        )
    return v


def _over(x: jax.Array, p: Power) -> jax.Array:
    return x * p.denominator / p.numerator if isinstance(p, Fraction) else x / p


def unit(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The direction of a vector and its length, in the arithmetic of scalars; no square overflows.

    Args:
        v: ``[n]``.

    Returns:
        v / |v| ``[n]``, zero where v is zero, and |v|.
    """
    with jax.named_scope("scalars"):
        length = norm(v)
        return v / nonzero(length), length


def root_scale(p: Power, damping: jax.Array | float) -> jax.Array:
    """gamma^{-1/p}, as exp(-log(gamma) / p).

    Args:
        p: of the root.
        damping: gamma, positive.

    Returns:
        A scalar, with an error of about (2 + |log gamma| / p) u.
    """
    with jax.named_scope("scalars"):
        return jnp.exp(-_over(jnp.log(damping), p))


def root_coefficient(length: jax.Array, p: Power, damping: jax.Array | float) -> jax.Array:
    """The kappa = 1 - (1 + |v|^2 / gamma)^{-1/p}, with an error of a few u wherever it lies between 0 and 1.

    Order: t = |v| / sqrt(gamma), x = log1p(t^2), or log1p(t^-2) + 2 log(t) where t is above one, so that t^2 cannot
    overflow, and -expm1(-x / p).

    Args:
        length: |v|, a scalar.
        p: of the root.
        damping: gamma, positive.

    Returns:
        A scalar; zero where |v| is.
    """
    check_power(p)
    with jax.named_scope("scalars"):
        return -jnp.expm1(-_over(_logarithm(length, damping), p))


def rank_one_root(v: jax.Array, p: Power = 4, damping: jax.Array | float = 0.03) -> jax.Array:
    """(gamma I + v v^T)^{-1/p} as a matrix.

    Order: q = v / |v|, kappa, (kappa q_i) q_j of the lower triangle, the difference with I, its product with
    gamma^{-1/p}; the lower triangle is mirrored. The eigenvalue of v is formed by a difference: its relative error is
    about u (1 + |v|^2 / gamma)^{1/p}.

    Args:
        v: ``[n]``; may be zero.
        p: of the root, positive; may be traced, large, or a fraction.
        damping: gamma, positive.

    Returns:
        ``[n, n]``, symmetric bit for bit. Cost: 3 n^2 flops.

    Raises:
        ValueError: v is no vector, or p or damping not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> root = rank_one_root(jnp.array([1.0, 1.0]), 1, jnp.ones(()))
        >>> [[round(x, 5) for x in row] for row in root.tolist()]
        [[0.66667, -0.33333], [-0.33333, 0.66667]]
    """
    check_damping(damping)
    v = check_vector(v)
    with jax.named_scope("arrays"):
        q, length = unit(v)
        with jax.named_scope("scalars"):
            kappa_q = root_coefficient(length, p, damping) * q
        outer = kappa_q[:, None] * q[None, :]
        difference = identity_like(outer) - jnp.tril(outer) - jnp.tril(outer, -1).T
        with jax.named_scope("scalars"):
            return root_scale(p, damping) * difference


def apply_root(x: jax.Array, v: jax.Array, p: Power = 4, damping: jax.Array | float = 0.03) -> jax.Array:
    """(gamma I + v v^T)^{-1/p} x, without the matrix.

    Order: q = v / |v|, y = q^T x, (kappa q) y, the difference with x, its product with gamma^{-1/p}. The part of x
    along v is formed by a difference: its relative error is about u (1 + |v|^2 / gamma)^{1/p}, for p = 4 no more than 6
    u where |v|^2 / gamma is a thousand; `apply_root_split` has it to a few u.

    Args:
        x: ``[n]``, or ``[n, k]`` for its columns.
        v: ``[n]``; may be zero.
        p: of the root, positive; may be traced, large, or a fraction.
        damping: gamma, positive.

    Returns:
        Of the shape of x. Cost: 5 n k flops.

    Raises:
        ValueError: shapes do not fit, or p or damping is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> apply_root(jnp.array([3.0, 5.0]), jnp.array([0.0, 3.0]), 2, jnp.array(16.0)).tolist()
        [0.75, 1.0]
    """
    check_damping(damping)
    x, v = _checked(x, v)
    with jax.named_scope("arrays"):
        q, length = unit(v)
        with jax.named_scope("scalars"):
            kappa_q = root_coefficient(length, p, damping) * q
        difference = x - _outer(kappa_q, _inner(q, x))
        with jax.named_scope("scalars"):
            return root_scale(p, damping) * difference


def apply_root_split(x: jax.Array, v: jax.Array, p: Power = 4, damping: jax.Array | float = 0.03) -> jax.Array:
    """(gamma I + v v^T)^{-1/p} x, the parts along v and orthogonal to it apart.

    Order: q = v / |v|, r = x - q (q^T x), once more r <- r - q (q^T r), and gamma^{-1/p} (r + (1 - kappa) q (y_1 +
    y_2)) with the two inner products y, where 1 - kappa = exp(-log(1 + |v|^2 / gamma) / p) is no difference.

    Args:
        x: ``[n]``, or ``[n, k]`` for its columns.
        v: ``[n]``; may be zero.
        p: of the root, positive; may be traced, large, or a fraction.
        damping: gamma, positive.

    Returns:
        Of the shape of x. Cost: 11 n k flops.

    Raises:
        ValueError: shapes do not fit, or p or damping is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> apply_root_split(jnp.array([3.0, 5.0]), jnp.array([0.0, 3.0]), 2, jnp.array(16.0)).tolist()
        [0.75, 1.0]
    """
    check_damping(damping)
    x, v = _checked(x, v)
    with jax.named_scope("arrays"):
        q, length = unit(v)
        y = _inner(q, x)
        r = x - _outer(q, y)
        again = _inner(q, r)
        r = r - _outer(q, again)
        with jax.named_scope("scalars"):
            kept = root_kept(length, p, damping) * (y + again)
        total = r + _outer(q, kept)
        with jax.named_scope("scalars"):
            return root_scale(p, damping) * total


def root_kept(length: jax.Array, p: Power, damping: jax.Array | float) -> jax.Array:
    """1 - kappa = (1 + |v|^2 / gamma)^{-1/p}, which is no difference.

    Args:
        length: |v|, a scalar.
        p: of the root.
        damping: gamma, positive.

    Returns:
        A scalar in (0, 1], with an error of about (2 + |log(1 + |v|^2 / gamma)| / p) u.
    """
    check_power(p)
    with jax.named_scope("scalars"):
        return jnp.exp(-_over(_logarithm(length, damping), p))


def _logarithm(length: jax.Array, damping: jax.Array | float) -> jax.Array:
    """log(1 + |v|^2 / gamma)."""
    t = length / jnp.sqrt(damping)
    large = t > 1
    above = jnp.where(large, t, jnp.ones_like(t))
    r = jnp.where(large, 1 / above, t)
    return jnp.log1p(r * r) + 2 * jnp.log(above)


def _inner(q: jax.Array, x: jax.Array) -> jax.Array:
    """q^T x: a scalar where x is a vector, and then in the arithmetic of scalars."""
    if x.ndim == 2:
        return product(q, x)
    with jax.named_scope("scalars"):
        return product(q, x)


def _outer(q: jax.Array, y: jax.Array) -> jax.Array:
    """The vector q y^T, or q y where y is a scalar."""
    if y.ndim == 1:
        return q[:, None] * y[None, :]
    with jax.named_scope("scalars"):
        return q * y


def _checked(x: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, v = jnp.asarray(x), check_vector(v)
    if x.ndim not in {1, 2} or x.shape[:1] != v.shape:
        raise ValueError(f"x of shape {x.shape} given for a v of {v.shape[0]} elements; give [n] or [n, k]")
    return x, v
