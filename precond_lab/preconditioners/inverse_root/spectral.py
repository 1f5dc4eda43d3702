"""Inverse roots by eigenvalues and by singular values."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like, nonzero
from precond_lab.preconditioners.inverse_root.exponents import Exponent, check_exponent
from precond_lab.preconditioners.inverse_root.powers import scale
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Problem, Setting, finished, prepare


class Spectrum(NamedTuple):
    """Eigenvalues as a policy leaves them.

    Attributes:
        values: ``[n]``.
        counts: bool ``[n]``; the root is zero along the eigenvectors of the others.
    """

    values: jax.Array
    counts: jax.Array


def _all(values: jax.Array) -> Spectrum:
    return Spectrum(values, jnp.full(values.shape, True))


def _none(values: jax.Array, floor: jax.Array) -> Spectrum:
    del floor
    return _all(values)


def _clamp(values: jax.Array, floor: jax.Array) -> Spectrum:
    return _all(jnp.maximum(values, floor))


def _shift(values: jax.Array, floor: jax.Array) -> Spectrum:
    smallest = jnp.min(values)
    return _all(jnp.where(smallest < floor, (values - smallest) + floor, values))


def _cut(values: jax.Array, floor: jax.Array) -> Spectrum:
    return Spectrum(values, values > floor)


def _absolute(values: jax.Array, floor: jax.Array) -> Spectrum:
    return _all(jnp.maximum(jnp.abs(values), floor))


POLICIES: Mapping[str, Callable[[jax.Array, jax.Array], Spectrum]] = MappingProxyType({
    "none": _none,
    "clamp": _clamp,
    "shift": _shift,
    "cut": _cut,
    "absolute": _absolute,
})
"""What to do about eigenvalues w that are small or negative, by name; functions of them and of the floor.

=============  ============================================================================================
``none``       nothing: a negative one makes the root NaN, and the result says why
``clamp``      max(w, floor), as in Google's Shampoo
``shift``      if the smallest is below the floor, all are shifted so that it is the floor, as in Meta's
``cut``        at or below the floor, the root is zero: the pseudo-inverse, as in Meta's and in Tearfree
``absolute``   max(abs(w), floor)
=============  ============================================================================================
"""


def eigen(
    A: jax.Array,
    p: Exponent = 2,
    *,
    setting: Setting = DEFAULTS,
    policy: str = "none",
    floor: jax.Array | float = 0.0,
    relative: bool = True,
) -> InverseRoot:
    r"""A^{-1/p} = V diag(w^{-1/p}) V^T from A = V diag(w) V^T.

    The decomposition is backward stable: computed eigenvalues have errors of about c u \|A\|_2, the small ones as the
    large. So the root has a relative error of about c kappa u / p in the 2-norm, and from c kappa u = 1 on an
    eigenvalue may come out negative. c depends on the routine: that of divide and conquer, which libraries call, is
    some ten times that of Jacobi's method or of QR iterations. In formats of 8 bits that is soon reached: Jacobi's
    rotations of a 16 by 16 matrix in e4m3 err by 0.1 to 0.3 of its norm, so that without a policy there is no root from
    kappa = 10 on.

    Where p is a fraction that is no whole number, the result is judged by the decomposition alone: the residual
    \|A V - V diag(w)\|_F / (p min w), a bound of the relative error to first order, must be within the tolerance.

    Args:
        A: symmetric, ``[n, n]``; with a policy it need not be positive definite.
        p: a positive integer, which may be traced, or a positive fraction.
        setting: ridge, padding, tolerance, kernels.
        policy: for small and negative eigenvalues, a name in POLICIES.
        floor: what is small; zero or positive.
        relative: whether the floor is a ratio to the largest magnitude of an eigenvalue; else it is in the units of A.

    Returns:
        The root; its result is MODIFIED if the policy has changed an eigenvalue. Cost: about 9 n^3 flops for the
        decomposition, and a product.

    Raises:
        ValueError: for an unknown policy, or a negative floor.

    Example:
        >>> import jax.numpy as jnp
        >>> r = eigen(jnp.diag(jnp.array([16.0, 0.0])), 4, policy="cut")
        >>> r.root.tolist(), Result(int(r.result)).name
        ([[0.5, 0.0], [0.0, 0.0]], 'MODIFIED')
    """
    p = _checked(p, policy, floor)
    problem = prepare(A, setting)
    B = quotient_padding(problem)
    w, V = setting.kernels.eigh(B)
    spectrum, seen = _applied(policy, w, floor, None if relative else problem.exponent)
    X = setting.kernels.product(V * _roots(spectrum, p), V.T)
    if isinstance(p, Fraction):
        R = setting.kernels.product(B, V) - V * w
        seen = jnp.maximum(seen, _judged(R, spectrum.values, p, setting.tolerance))
    return finished(problem, Iterate(unit_padding(X, problem), jnp.int32(0), seen), p, setting)


def svd(
    A: jax.Array,
    p: Exponent = 2,
    *,
    setting: Setting = DEFAULTS,
    policy: str = "none",
    floor: jax.Array | float = 0.0,
    relative: bool = True,
) -> InverseRoot:
    r"""U diag(s^{-1/p}) V^T from A = U diag(s) V^T: the inverse root of a matrix that is positive definite.

    It costs more than :func:`eigen` and hides what that shows: singular values are not negative, so those of an
    indefinite matrix look like the eigenvalues of a definite one. Its U differs from V by the sign of each eigenvalue,
    and what comes out is V diag(sign(w) \|w\|^{-1/p}) V^T, which is no inverse root: its p-th power times A has
    eigenvalues of both signs for even p. Only the certificate, whose Cholesky factorization fails, tells. Where p is no
    whole number there is no certificate, and the signs of U and V are compared: a u_i^T v_i that is negative gives
    NOT_POSITIVE_DEFINITE.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer, which may be traced, or a positive fraction.
        setting: ridge, padding, tolerance, kernels.
        policy: for small singular values, a name in POLICIES.
        floor: what is small; zero or positive.
        relative: whether the floor is a ratio to the largest singular value; else it is in the units of A.

    Returns:
        The root; its result is MODIFIED if the policy has changed a singular value. Cost: two to three times that of
        :func:`eigen`.

    Raises:
        ValueError: for an unknown policy, or a negative floor.
    """
    p = _checked(p, policy, floor)
    problem = prepare(A, setting)
    B = quotient_padding(problem)
    U, s, Vt = setting.kernels.svd(B)
    spectrum, seen = _applied(policy, s, floor, None if relative else problem.exponent)
    X = setting.kernels.product(U * _roots(spectrum, p), Vt)
    if isinstance(p, Fraction):
        signed = spectrum.values * jnp.where(jnp.sum(U * Vt.T, axis=0) < 0, -1, jnp.ones_like(s))
        R = setting.kernels.product(B, Vt.T) - U * s
        seen = jnp.maximum(seen, _judged(R, signed, p, setting.tolerance))
    return finished(problem, Iterate(unit_padding(X, problem), jnp.int32(0), seen), p, setting)


def _checked(p: Exponent, policy: str, floor: jax.Array | float) -> Exponent:
    if policy not in POLICIES:
        raise ValueError(f"the policy {policy!r} given; known are {', '.join(POLICIES)}")
    # An array may be traced, and then has no value yet.
    if not isinstance(floor, jax.Array) and not 0 <= floor < float("inf"):
        raise ValueError(f"a floor of {floor} given; it must be zero or positive, and finite")
    return check_exponent(p)


def _applied(
    policy: str, values: jax.Array, floor: jax.Array | float, unit: jax.Array | None
) -> tuple[Spectrum, jax.Array]:
    """The spectrum after a policy, and the result by what that has done."""
    # Of the magnitudes: the largest eigenvalue of an indefinite matrix may be rounding, or negative.
    lowest = floor * jnp.max(jnp.abs(values)) if unit is None else scale(jnp.full_like(values, floor, shape=()), -unit)
    spectrum = POLICIES[policy](values, lowest)
    same = jnp.all((spectrum.values == values) & spectrum.counts)
    seen = jnp.where(same, int(Result.CONVERGED), int(Result.MODIFIED))
    positive = jnp.all((spectrum.values > 0) | ~spectrum.counts)
    return spectrum, jnp.where(positive, seen, int(Result.NOT_POSITIVE_DEFINITE)).astype(jnp.int32)


def _roots(spectrum: Spectrum, p: Exponent) -> jax.Array:
    values = jnp.where(spectrum.counts, spectrum.values, 1)
    return jnp.where(spectrum.counts, values ** -reciprocal(p, values), 0)


def _judged(R: jax.Array, values: jax.Array, p: Fraction, tolerance: jax.Array | float) -> jax.Array:
    """The result by the residual of the decomposition, for what no policy has changed."""
    smallest = jnp.min(values)
    # Multiplied out, so that nothing is divided by zero.
    accurate = jnp.sqrt(jnp.sum(R * R)) <= tolerance * (smallest / reciprocal(p, values))
    seen = jnp.where(accurate, int(Result.CONVERGED), int(Result.STAGNATED))
    return jnp.where(jnp.all(values > 0), seen, int(Result.NOT_POSITIVE_DEFINITE)).astype(jnp.int32)


def quotient_padding(problem: Problem) -> jax.Array:
    """The prepared matrix with its first diagonal element on the diagonal of the padding, instead of one.

    That is a Rayleigh quotient: the smallest and the largest eigenvalue are those of the matrix without padding, and a
    floor or a threshold that is relative to them is the same.

    Args:
        problem: a prepared matrix.

    Returns:
        ``[n, n]``.
    """
    B = problem.B
    both = problem.counts[:, None] & problem.counts
    return jnp.where(both, B, B[0, 0] * identity_like(B))


def unit_padding(X: jax.Array, problem: Problem) -> jax.Array:
    """The root with ones on the diagonal of the padding, as that of the prepared matrix has.

    Args:
        X: ``[n, n]``.
        problem: the prepared matrix.

    Returns:
        ``[n, n]``.
    """
    return jnp.where(problem.counts[:, None] & problem.counts, X, identity_like(X))


def reciprocal(p: Exponent, x: jax.Array) -> jax.Array:
    """The number 1 / p, rounded once.

    Args:
        p: a positive integer or a fraction.
        x: an array, in whose dtype it is wanted.

    Returns:
        A scalar.
    """
    if isinstance(p, Fraction):
        return jnp.full_like(x, p.denominator, shape=()) / p.numerator
    return jnp.ones_like(x, shape=()) / jnp.asarray(p).astype(x.dtype)


def first_order_root(values: jax.Array, E: jax.Array, p: Exponent) -> jax.Array:
    r"""The inverse root of diag(values) + E to first order in E.

    (Daleckii and Krein; Higham, Functions of Matrices, theorem 3.11.) Each element of E is multiplied by the divided
    difference f[a, b] of f(x) = x^{-1/p}, which for a <= b is formed without cancellation as

        a^{-1/p} expm1(-log1p(d) / p) / (b - a),    d = (b - a) / a.

    What is neglected is of the order of the square of G = diag(values)^{-1/2} E diag(values)^{-1/2}, relative to the
    root. Equal or clustered eigenvalues do no harm, as they would to eigenvectors.

    Args:
        values: positive, ``[n]``.
        E: symmetric, ``[n, n]``.
        p: a positive integer or a fraction.

    Returns:
        ``[n, n]``.

    Example:
        >>> import jax.numpy as jnp
        >>> first_order_root(jnp.array([1.0, 4.0]), jnp.array([[0.0, 0.5], [0.5, 0.0]]), 1).tolist()
        [[1.0, -0.125], [-0.125, 0.25]]
    """
    s = reciprocal(p, values)
    low = jnp.minimum(values[:, None], values)
    d = (jnp.maximum(values[:, None], values) - low) / low
    slope = jnp.where(d == 0, -s, jnp.expm1(-s * jnp.log1p(d)) / nonzero(d))
    roots = values**-s
    return jnp.where(identity_like(E) == 1, roots, 0) + (jnp.maximum(roots[:, None], roots) * slope) * (E / low)
