"""Rules by which public codes compute inverse roots, written from their formulas."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.inverse_root import POLICIES
from precond_lab.preconditioners.inverse_root.powers import matrix_power

RIDGE = 1e-6
"""Of Google's Shampoo and of optax, relative to the largest eigenvalue."""
EPSILON = 1e-12
"""Of Meta's Shampoo, absolute."""
TOLERANCE = 1e-6
STEPS = 100
GROWTH = 1.2
TRIES = 6
RETRIED_ABOVE = 0.05
SMALLEST = 1e-25


Power = int | jax.Array


class Said(NamedTuple):
    """What a rule returns.

    Attributes:
        root: X, ``[n, n]``.
        reported: its error, as the rule reports it; NaN if it reports none.
        steps: an int32 scalar; 0 for a direct rule.
    """

    root: jax.Array
    reported: jax.Array
    steps: jax.Array


def _product(A: jax.Array, B: jax.Array) -> jax.Array:
    return jnp.matmul(A, B, precision="highest")


def _silent(X: jax.Array) -> Said:
    return Said(X, jnp.full_like(X, jnp.nan, shape=()), jnp.int32(0))


def _eye(A: jax.Array) -> jax.Array:
    return jnp.eye(A.shape[0], dtype=A.dtype)


def absolute_power_iteration(A: jax.Array) -> jax.Array:
    """The Rayleigh quotient of power iteration that stops when it changes by less than 1e-6, whatever the scale.

    Args:
        A: symmetric, ``[n, n]``.

    Returns:
        A scalar.
    """
    v = jax.random.uniform(jax.random.key(0), A.shape[:1], A.dtype, -1.0, 1.0)

    def step(state: tuple) -> tuple:
        k, v, value, _ = state
        v = v / jnp.linalg.norm(v)
        w = _product(A, v)
        return k + 1, w, jnp.sum(v * w), jnp.abs(jnp.sum(v * w) - value)

    begin = (jnp.int32(0), v, jnp.zeros_like(A, shape=()), jnp.full_like(A, jnp.inf, shape=()))
    return lax.while_loop(lambda s: (s[0] < STEPS) & (s[3] > TOLERANCE), step, begin)[2]


def newton_by_report(B: jax.Array, p: Power, *, growth: float, start: tuple | None = None) -> Said:
    """Coupled Newton, stopped where max|M - I| is small, has grown, or 100 steps are done.

    The root before the last is returned where it has grown, chosen by a product with zero or one.

    Args:
        B: symmetric, with its ridge, ``[n, n]``.
        p: a positive integer; it may be traced.
        growth: by which max|M - I| may grow in a step; infinite for no guard.
        start: X_0 and M_0; None for z^{1/p} I and z B, z = (p+1) / (2 |B|_F).

    Returns:
        The root, with max|M - I| of the last M.
    """
    eye = _eye(B)
    z = (p + 1) / (2 * jnp.linalg.norm(B))
    X, M = (z ** (1 / p) * eye, z * B) if start is None else start

    def distance(M: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(M - eye))

    def step(state: tuple) -> tuple:
        k, X, M, _, error, _ = state
        T = ((p + 1) * eye - M) / p
        M = _product(matrix_power(T, p, _product), M)
        following = distance(M)
        return k + 1, _product(X, T), M, X, following, following < growth * error

    def goes_on(state: tuple) -> jax.Array:
        return (state[0] < STEPS) & (state[4] > TOLERANCE) & state[5]

    begin = (jnp.int32(0), X, M, X, distance(M), jnp.array(True))
    k, X, M, before, _, kept = lax.while_loop(goes_on, step, begin)
    if growth != jnp.inf:
        kept = kept.astype(X.dtype)
        X = kept * X + (1 - kept) * before
    return Said(X, distance(M), k)


def retried_newton(A: jax.Array, p: Power, *, ridge: float = EPSILON) -> Said:
    """Coupled Newton of Google's Shampoo: a ridge that is made tenfold while max|M - I| is above 0.05.

    Args:
        A: symmetric, ``[n, n]``.
        p: a positive integer; it may be traced.
        ridge: the first, relative to the largest eigenvalue by :func:`absolute_power_iteration`.

    Returns:
        The root of the last attempt.
    """
    unit = jnp.maximum(absolute_power_iteration(A), SMALLEST)

    def attempt(state: tuple) -> tuple:
        i, delta, found = state
        B = A + delta * unit * _eye(A)
        following = newton_by_report(B, p, growth=GROWTH)
        return i + 1, 10 * delta, following._replace(steps=found.steps + following.steps)

    def again(state: tuple) -> jax.Array:
        return (state[0] == 0) | ((state[0] < TRIES) & (state[2].reported > RETRIED_ABOVE))

    nothing = Said(A, jnp.full_like(A, jnp.inf, shape=()), jnp.int32(0))
    return lax.while_loop(again, attempt, (jnp.int32(0), jnp.full_like(A, ridge, shape=()), nothing))[2]


def unguarded_newton(A: jax.Array, p: Power) -> Said:
    """Coupled Newton of Meta's Shampoo: an absolute ridge, and no guard.

    Args:
        A: symmetric, ``[n, n]``.
        p: a positive integer; it may be traced.

    Returns:
        The root; what the rule reports is only warned of.
    """
    return newton_by_report(A + EPSILON * _eye(A), p, growth=float("inf"))


def warm_newton(A: jax.Array, p: Power, *, previous: jax.Array) -> Said:
    """Coupled Newton from an earlier root: X_0 = F, M_0 = F^p A.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer; it may be traced.
        previous: F, ``[n, n]``.

    Returns:
        What it converges to.
    """
    return newton_by_report(A, p, growth=GROWTH, start=(previous, _product(matrix_power(previous, p, _product), A)))


def _from_spectrum(w: jax.Array, V: jax.Array, p: Power, kept: jax.Array | None = None) -> jax.Array:
    if kept is None:
        return _product(V * w ** (-1 / p), V.T)
    return _product(V * jnp.where(kept, jnp.where(kept, w, 1) ** (-1 / p), 0), V.T)


def eigh_clamp(A: jax.Array, p: Power) -> Said:
    """Eigen-decomposition in Google's Shampoo: a ridge, eigenvalues at least as large, an error in units of A.

    Args:
        A: symmetric, ``[n, n]``.
        p: a positive integer; it may be traced.

    Returns:
        The root, with max|V^T A V - diag w|.
    """
    delta = RIDGE * jnp.maximum(absolute_power_iteration(A), TOLERANCE)
    B = A + delta * _eye(A)
    w, V = jnp.linalg.eigh(B)
    w = POLICIES["clamp"](w, delta).values
    reported = jnp.max(jnp.abs(_product(V.T, _product(B, V)) - jnp.diag(w)))
    return Said(_from_spectrum(w, V, p), reported, jnp.int32(0))


def eigh_shift(A: jax.Array, p: Power) -> Said:
    """Eigen-decomposition in Meta's Shampoo: an absolute ridge, and all eigenvalues shifted if one is below it.

    Args:
        A: symmetric, ``[n, n]``.
        p: a positive integer; it may be traced.

    Returns:
        The root.
    """
    w, V = jnp.linalg.eigh(A + EPSILON * _eye(A))
    return _silent(_from_spectrum(POLICIES["shift"](w, jnp.asarray(EPSILON, A.dtype)).values, V, p))


def eigh_pseudo(A: jax.Array, p: Power) -> Said:
    """The pseudo-inverse root of Meta's Shampoo: zero along eigenvalues up to n eps times the largest.

    Args:
        A: symmetric, ``[n, n]``.
        p: a positive integer; it may be traced.

    Returns:
        The root.
    """
    w, V = jnp.linalg.eigh(A)
    spectrum = POLICIES["cut"](w, A.shape[0] * jnp.finfo(A.dtype).eps * jnp.max(w))
    return _silent(_from_spectrum(spectrum.values, V, p, spectrum.counts))


def eigh_batch_cut(A: jax.Array, p: Power) -> Said:
    """The pseudo-inverse roots of Tearfree: zero along eigenvalues up to 1e-6 times the largest of the whole batch.

    Args:
        A: symmetric, ``[b, n, n]``: a batch.
        p: a positive integer; it may be traced.

    Returns:
        The roots.
    """
    w, V = lax.map(lambda A: tuple(jnp.linalg.eigh(A)), A)
    floor = RIDGE * jnp.max(w)
    return jax.vmap(lambda w, V: _silent(_from_spectrum(w, V, p, POLICIES["cut"](w, floor).counts)))(w, V)


def user_eigh(A: jax.Array, p: Power) -> Said:
    """V diag(w^{-1/p}) V^T.

    Args:
        A: symmetric, ``[n, n]``.
        p: a positive integer; it may be traced.

    Returns:
        The root.
    """
    w, V = jnp.linalg.eigh(A)
    return _silent(_from_spectrum(w, V, p))


def user_svd(A: jax.Array, p: Power) -> Said:
    """U diag(s^{-1/p}) V^T.

    Args:
        A: symmetric, ``[n, n]``.
        p: a positive integer; it may be traced.

    Returns:
        The root.
    """
    U, s, Vt = jnp.linalg.svd(A)
    return _silent(_product(U * s ** (-1 / p), Vt))
