"""The way that every method goes: the matrix is prepared, its root computed, and the root judged."""

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like, square_matrix
from precond_lab.preconditioners.inverse_root.kernels import LOOPS, Kernels
from precond_lab.preconditioners.inverse_root.powers import Product, exponent, matrix_power, number_like, scale
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.ridges import MEASURES, Ridge, check_ridge

Exponent = int | Fraction | jax.Array
"""p of A^{-1/p}: a positive integer; a fraction or a traced integer scalar where the method allows it."""


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
"""Takes a symmetric matrix with its largest entry in [1/2, 1), plus a ridge; one in rows that are padding."""


class Problem(NamedTuple):
    """A matrix that is prepared.

    Attributes:
        B: the matrix that the core gets, ``[n, n]``: 2^-e (A + A^T) / 2 + delta I, the identity in rows that are
            padding, and where there is no problem to solve.
        exponent: e; with an absolute ridge that is above every entry of A, that of the ridge.
        counts: bool ``[n]``, which rows are not padding.
        result: ZERO_MATRIX, ASYMMETRIC or NOT_FINITE where it is one of these, else CONVERGED.
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
        ValueError: if A is not square, or the ridge is none.
        TypeError: if A does not hold floating-point numbers.
    """
    A = square_matrix(A)
    n = A.shape[0]
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
    zero = jnp.all(B == 0) & jnp.any(counts)
    result = jnp.where(zero, int(Result.ZERO_MATRIX), int(Result.CONVERGED))
    result = jnp.where(symmetric, result, int(Result.ASYMMETRIC))
    result = jnp.where(finite, result, int(Result.NOT_FINITE))
    B = jnp.where(both & (result == int(Result.CONVERGED)), B, diagonal)
    return Problem(B, e, counts, result.astype(jnp.int32))


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
    counts = problem.counts[:, None] & problem.counts
    X = jnp.where(counts, X, jnp.zeros_like(X))
    scaled = unscaled(X, problem.exponent, p)
    lost = jnp.any(jnp.isfinite(X) & ~jnp.isfinite(scaled)) | jnp.any(jnp.diagonal((X != 0) & (scaled == 0)))
    result = jnp.where(lost, int(Result.OUT_OF_RANGE), result)
    failed = problem.result != int(Result.CONVERGED)
    result = jnp.where(failed, problem.result, result).astype(jnp.int32)
    X = jnp.where(failed & counts, jnp.full_like(X, jnp.nan), scaled)
    return InverseRoot(X, result, found.steps, jnp.where(failed, jnp.full_like(residual, jnp.nan), residual))


def certificate(A: jax.Array, X: jax.Array, p: Exponent, kernels: Kernels = LOOPS) -> jax.Array:
    r"""The residual |L^T X^p L - I|_F / p of an inverse root, with A = L L^T.

    The matrix is orthogonally similar to A^{1/2} X^p A^{1/2} - I. To first order an error dX of the root appears in it,
    in the eigenbasis, with the weight sqrt(l_i l_j) (b_i^{p-1} + b_i^{p-2} b_j + ... + b_j^{p-1}), b = l^{-1/p}, which
    is at least p / |A^{-1/p}|_2: the residual bounds |dX|_F / |A^{-1/p}|_2. It is conservative for errors along large
    eigenvalues. As it is computed, it is the residual for a matrix L L^T that differs from A by about u |A|, so that it
    is off by about kappa u / p, which is what roundings of A may do to the root: it tells a root that is as good as the
    arithmetic allows from one that is not, but neither of two good ones from the other. That of X^p A - I, whose
    elements cancel, is off by more.

    For even p it is formed as W^T W - I with W = X^{p/2} L, for odd p as W^T (X W) - I with W = X^{(p-1)/2} L. Such an
    even power does not show the sign of an eigenvalue of X, which an iteration from outside of its region gets wrong:
    the residual is infinite for an X without Cholesky factor.

    Its operations stand in the scope ``certificate``, by which an emulated arithmetic can compute them in a wider
    format than the root: in the same format there may be no Cholesky factor of A where the root is still good.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        X: symmetric, ``[n, n]``.
        p: a positive integer; NaN is returned for a fraction.
        kernels: the linear algebra to use.

    Returns:
        A scalar; NaN where the arithmetic finds no Cholesky factor of A. Cost: n^3 / 3 flops, as many for even p, and
        two products more than the power takes.
    """
    return residual_of(A, X, check_exponent(p), kernels)[0]


def residual_of(A: jax.Array, X: jax.Array, p: Exponent, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
    """The certificate, and whether A has a Cholesky factor.

    Args:
        A: as for :func:`certificate`, and so are the others.
        X: ``[n, n]``.
        p: as :func:`check_exponent` returns it.
        kernels: the linear algebra to use.

    Returns:
        Two scalars.
    """
    if isinstance(p, Fraction):
        return jnp.full_like(A, jnp.nan, shape=()), jnp.array(True)
    product = kernels.product
    with jax.named_scope("certificate"):
        L = kernels.cholesky(A)
        definite = jnp.all(jnp.diagonal(L) > 0)  # false for NaN
        W, odd = _half_power(X, p, L, product)
        right = W if odd is False else jnp.where(odd, product(X, W), W)
        R = product(W.T, right) - identity_like(A)
        residual = jnp.sqrt(jnp.sum(R * R)) / number_like(R, p)
        if odd is not True:
            positive = odd | jnp.all(jnp.diagonal(kernels.cholesky(X)) > 0)
            residual = jnp.where(positive, residual, jnp.full_like(residual, jnp.inf))
        return jnp.where(definite, residual, jnp.full_like(residual, jnp.nan)), definite


def _half_power(X: jax.Array, p: int | jax.Array, L: jax.Array, product: Product) -> tuple[jax.Array, bool | jax.Array]:
    if isinstance(p, int):
        return (product(matrix_power(X, p // 2, product), L) if p > 1 else L), bool(p % 2)
    W = product(matrix_power(X, jnp.maximum(p // 2, 1), product), L)
    return jnp.where(p > 1, W, L), p % 2 == 1


def check_exponent(p: Exponent) -> Exponent:
    """Refuse what is no p.

    Args:
        p: as it was given.

    Returns:
        An int for a whole number of any type, a fraction for another; an array stays: it may be traced, and then has no
        value yet.

    Raises:
        ValueError: if it is not positive, or not a whole number or a fraction.
    """
    if isinstance(p, jax.Array):
        if p.shape or not jnp.issubdtype(p.dtype, jnp.integer):
            raise ValueError(
                f"an array of shape {p.shape} and type {p.dtype} given for p; it must be an integer scalar"
            )
        try:
            value = int(p)
        except jax.errors.ConcretizationTypeError:
            return p
        if value < 1:
            raise ValueError(f"p = {value} given; it must be a positive integer")
        return p
    if isinstance(p, Fraction) and p.denominator != 1:
        whole = p
    else:
        try:
            whole = int(p) if isinstance(p, Fraction) else operator.index(p)
        except TypeError:
            whole = 0
    if isinstance(p, bool) or whole <= 0:
        raise ValueError(f"p = {p!r} given; it must be a positive integer, or a fractions.Fraction where allowed")
    return whole


def whole_exponent(p: Exponent) -> int | jax.Array:
    """Refuse what is no whole p.

    Args:
        p: as it was given.

    Returns:
        A positive int, or the array, which may be traced.

    Raises:
        ValueError: if it is not positive, or not a whole number.
    """
    whole = check_exponent(p)
    if isinstance(whole, int | jax.Array):
        return whole
    raise ValueError(f"p = {p} given; this method takes whole numbers only: take one for fractions")


def judged(residual: jax.Array, definite: jax.Array, p: int | jax.Array, tolerance: jax.Array | float) -> jax.Array:
    """The result by the residual alone.

    If s = p times the residual is below one, the error relative to the root in the 2-norm is at most 1 - (1 - s)^{1/p}
    (as t^{1/p} is monotone): it is within the tolerance t where s <= 1 - (1 - t)^p. That is about p t for small p; for
    large p a small residual says less.

    Args:
        residual: of :func:`certificate`.
        definite: whether the matrix has a Cholesky factor.
        p: a positive integer; it may be traced.
        tolerance: t.

    Returns:
        CONVERGED, STAGNATED or NOT_POSITIVE_DEFINITE.
    """
    degree = number_like(residual, p)
    within = (residual >= 0) & (degree * residual <= 1 - (1 - tolerance) ** degree)  # false for NaN, and a negative p
    result = jnp.where(within, int(Result.CONVERGED), int(Result.STAGNATED))
    return jnp.where(definite, result, int(Result.NOT_POSITIVE_DEFINITE))


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
