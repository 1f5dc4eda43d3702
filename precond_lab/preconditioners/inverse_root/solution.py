"""The way that every method goes: the matrix is prepared, its root computed, and the root judged."""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like, square_matrix
from precond_lab.preconditioners.inverse_root.certificate import judged, residual_of
from precond_lab.preconditioners.inverse_root.exponents import Exponent, check_exponent
from precond_lab.preconditioners.inverse_root.kernels import LOOPS, Kernels
from precond_lab.preconditioners.inverse_root.powers import exponent, number_like, scale
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.ridges import MEASURES, Ridge, check_ridge


class Setting(NamedTuple):
    """What all methods can be told.

    Attributes:
        ridge: to be added to the matrix, or None.
        size: how many rows and columns count, an int32 scalar; the others are padding, and zero in the root. None for
            all.
        tolerance: of the error relative to the root, in the 2-norm, that the residual of a converged root allows.
        kernels: the linear algebra to use.
    """

    ridge: Ridge | None = None
    size: jax.Array | int | None = None
    tolerance: jax.Array | float = 2.0**-4
    kernels: Kernels = LOOPS


MOST_ASYMMETRIC = 2.0**-4
"""How large an entry of A - A^T may be beside the largest of A, whatever the dtype."""

DEFAULTS = Setting()
"""Of every method."""


class Iterate(NamedTuple):
    """What the core of a method hands back.

    Attributes:
        root: of the prepared matrix, ``[n, n]``; need not be exactly symmetric.
        steps: an int32 scalar.
        result: CONVERGED, MODIFIED, MAX_STEPS or DIVERGED, an int32 scalar, by what the method itself can see.
    """

    root: jax.Array
    steps: jax.Array
    result: jax.Array


Core = Callable[[jax.Array], Iterate]
"""Takes a symmetric matrix with its largest entry in [1/2, 2), or zero; with ones on the diagonal of the padding."""


class Problem(NamedTuple):
    """A matrix that is prepared.

    Attributes:
        B: the matrix that the core gets, ``[n, n]``: 2^-e (A + A^T) / 2 + delta I, the identity in rows that are
            padding, and where there is no problem to solve.
        exponent: e.
        counts: bool ``[n]``, which rows are not padding.
        result: ZERO_MATRIX, ASYMMETRIC, OUT_OF_RANGE or NOT_FINITE where it is one of these, else CONVERGED.
    """

    B: jax.Array
    exponent: jax.Array
    counts: jax.Array
    result: jax.Array


def prepare(A: jax.Array, setting: Setting) -> Problem:
    """Scale a matrix by a power of two, add its ridge, and say what cannot be solved.

    A matrix counts as symmetric if A - A^T has no entry above n eps times the largest of A, with eps that of its dtype,
    nor above MOST_ASYMMETRIC times it.
    Where a device takes subnormal numbers for zero, so do the tests here: a matrix of such numbers is a zero matrix.

    Args:
        A: ``[n, n]``.
        setting: ridge and size.

    Returns:
        The problem.

    Raises:
        ValueError: if A is not square, or the ridge or the size is none.
        TypeError: if A does not hold floating-point numbers.
    """
    A = square_matrix(A)
    n = A.shape[0]
    _check_size(setting.size, n)
    counts = jnp.arange(n) < (n if setting.size is None else setting.size)
    both = counts[:, None] & counts
    A = jnp.where(both, A, jnp.zeros_like(A))
    finite = jnp.all(jnp.isfinite(A))  # a maximum may pass over NaN
    A = jnp.where(finite, A, jnp.zeros_like(A))
    e = _exponent(jnp.max(jnp.abs(A)), setting.ridge)
    B = scale(A, -e)
    apart, largest = jnp.max(jnp.abs(B - B.T)), jnp.max(jnp.abs(B))
    symmetric = apart <= min(n * float(jnp.finfo(A.dtype).eps), MOST_ASYMMETRIC) * largest
    B = (B + B.T) / 2
    diagonal = identity_like(B)
    if setting.ridge is not None:
        one = scale(jnp.ones_like(largest), -e)
        size = jnp.full_like(largest, n if setting.size is None else setting.size)
        measure = MEASURES[setting.ridge.relative_to](B, one, size)
        B = B + (setting.ridge.amount * measure) * jnp.where(counts, diagonal, 0)
        # Where the ridge is above the matrix, what is a unit for one is none for the other.
        further = jnp.maximum(exponent(jnp.max(jnp.diagonal(B))) - 1, 0)
        B, e = scale(B, -further), e + further
    within = jnp.all(jnp.isfinite(B))
    zero = jnp.all(B == 0) & jnp.any(counts)
    result = jnp.where(zero, int(Result.ZERO_MATRIX), int(Result.CONVERGED))
    result = jnp.where(symmetric, result, int(Result.ASYMMETRIC))
    result = jnp.where(within, result, int(Result.OUT_OF_RANGE))
    result = jnp.where(finite, result, int(Result.NOT_FINITE))
    B = jnp.where(both & (result == int(Result.CONVERGED)), B, diagonal)
    return Problem(B, e, counts, result.astype(jnp.int32))


def _check_size(size: jax.Array | int | None, n: int) -> None:
    """A traced one has no value yet."""
    if isinstance(size, int) and not 0 <= size <= n:
        raise ValueError(f"a size of {size} given for a matrix of {n} rows; it must be from 0 to {n}")


def _exponent(largest: jax.Array, ridge: Ridge | None) -> jax.Array:
    """Of the largest entry, or of an absolute ridge above it: neither overflows when both are scaled by it."""
    if ridge is not None:
        check_ridge(ridge)
        if ridge.relative_to == "one":
            largest = jnp.maximum(largest, jnp.full_like(largest, ridge.amount))
    return jnp.where(largest > 0, exponent(largest), 0)


def solved(A: jax.Array, p: Exponent, setting: Setting, core: Core) -> InverseRoot:
    """An inverse root by the core of a method.

    Args:
        A: symmetric, ``[n, n]``.
        p: as the core takes it.
        setting: as for every method.
        core: gives the root of the prepared matrix.

    Returns:
        The root, and what came of it.

    Raises:
        ValueError: for a p that is not positive, an A that is not square, or a ridge that is none.
        TypeError: if A does not hold floating-point numbers.
    """
    check_exponent(p)
    problem = prepare(A, setting)
    return finished(problem, core(problem.B), p, setting)


def finished(problem: Problem, found: Iterate, p: Exponent, setting: Setting) -> InverseRoot:
    """The root of a matrix from that of the prepared one, which is judged first.

    Args:
        problem: the prepared matrix.
        found: its root, by the core of a method.
        p: as for :func:`solved`.
        setting: as for every method.

    Returns:
        The root, and what came of it.
    """
    p = check_exponent(p)
    X = (found.root + found.root.T) / 2
    residual, definite = residual_of(problem.B, X, p, setting.kernels)
    # That of a fraction says nothing, and the methods for fractions judge themselves.
    result = found.result
    if not isinstance(p, Fraction):
        result = _combined(result, judged(residual, definite, p, setting.tolerance))
    broken = ~jnp.all(jnp.isfinite(X))
    result = jnp.where(broken, jnp.maximum(result, int(Result.DIVERGED)), result)
    counts = problem.counts[:, None] & problem.counts
    X = jnp.where(counts, X, jnp.zeros_like(X))
    scaled = unscaled(X, problem.exponent, p)
    lost = jnp.any(jnp.isfinite(X) & ~jnp.isfinite(scaled)) | jnp.any(jnp.diagonal((X != 0) & (scaled == 0)))
    result = jnp.where(lost, int(Result.OUT_OF_RANGE), result)
    failed = problem.result != int(Result.CONVERGED)
    result = jnp.where(failed, problem.result, result).astype(jnp.int32)
    X = jnp.where(failed & counts, jnp.full_like(X, jnp.nan), scaled)
    return InverseRoot(X, result, found.steps, jnp.where(failed, jnp.full_like(residual, jnp.nan), residual))


def _combined(seen: jax.Array, judged: jax.Array) -> jax.Array:
    """The result by what the method saw, and by the residual."""
    # A policy that has changed eigenvalues answers for them itself.
    return jnp.where(seen == int(Result.MODIFIED), seen, jnp.maximum(seen, judged))


def unscaled(X: jax.Array, e: jax.Array, p: Exponent) -> jax.Array:
    """The root of 2^e B from that of B: exact for the whole part of e / p, rounded once for the rest.

    Args:
        X: the root of B, ``[n, n]``.
        e: an int32 scalar.
        p: as for :func:`solved`.

    Returns:
        2^(-e/p) X, ``[n, n]``.
    """
    if isinstance(p, Fraction):
        # e / p = whole + rest / numerator, with an integer rest
        whole, rest = jnp.divmod(e * p.denominator, p.numerator)
        divisor = number_like(X, p.numerator)
    else:
        whole, rest = jnp.divmod(e, p)
        divisor = number_like(X, p)
    factor = jnp.exp2(-(rest.astype(X.dtype) / divisor))
    return scale(X * jnp.where(rest == 0, 1, factor), -whole)
