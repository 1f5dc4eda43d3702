"""Inverse roots from an eigenbasis that products of slices have refined."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.kernels import Kernels
from precond_lab.preconditioners.inverse_root.powers import power_of_two
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Setting, solved
from precond_lab.preconditioners.inverse_root.spectral import first_order_root
from precond_lab.preconditioners.inverse_root.split import (
    accumulated,
    digits_of,
    fitting_bits,
    power_above,
    product_terms,
    slices,
)


class Congruence(NamedTuple):
    """A matrix in a basis that nearly diagonalizes it, U^T B U = diag(values) + E.

    Attributes:
        basis: U, orthonormal up to rounding, ``[n, n]``.
        values: its diagonal, ``[n]``.
        E: symmetric, zero on the diagonal, ``[n, n]``.
    """

    basis: jax.Array
    values: jax.Array
    E: jax.Array


def shortened(w: jax.Array, bits: jax.Array | int) -> jax.Array:
    """Numbers rounded to so many bits.

    Args:
        w: ``[n]``.
        bits: of the significand.

    Returns:
        An array of the same shape.
    """
    size = jnp.where(w == 0, 1, jnp.abs(w))
    unit = power_above(size) * power_of_two(w, -bits)
    unit = jnp.where(unit > 0, unit, 1)
    return jnp.round(w / unit) * unit


def eigen_residual(B: jax.Array, V: jax.Array, w: jax.Array, kernels: Kernels, levels: int = 2) -> jax.Array:
    """B V - V diag(w), which mostly cancels, from the product of slices.

    The slices of V times w are exact as well where w has no more bits than a slice leaves.

    Args:
        B: ``[n, n]``.
        V: ``[n, n]``.
        w: rounded by :func:`shortened` to the digits of the format less those of a slice, ``[n]``.
        kernels: the linear algebra to use.
        levels: of the product.

    Returns:
        ``[n, n]``, with the error of :func:`~precond_lab.preconditioners.inverse_root.split.two_float_product`.
        Cost: 6 products for 2 levels.
    """
    bits = fitting_bits(V, V.shape[0], levels)
    right = slices(V, 0, bits, levels)
    exact, rest = product_terms(slices(B, 1, bits, levels), right, kernels.product)
    terms = [term for product, part in zip(exact, right.parts, strict=True) for term in (product, -(part * w))]
    return accumulated(terms, rest - right.rests[levels] * w).high


def congruence(B: jax.Array, V: jax.Array, w: jax.Array, kernels: Kernels, levels: int = 2) -> Congruence:
    r"""A matrix in the basis of its approximate eigenvectors, so that small eigenvalues come out to relative accuracy.

    With V^T V = I + F, the basis U = V (I - F / 2) is orthonormal up to F^2, and from R = B V - V diag(w)

        U^T B U = diag(w) + (V^T R + R^T V) / 2

    up to terms of the order F^2 B and F R. R is that of :func:`eigen_residual`: its elements are as small as the errors
    of the eigenpairs, so that the product V^T R can be an ordinary one. The small eigenvalues do not see the large
    ones: what F, R and roundings do to elements that couple them changes them by second order only.

    Args:
        B: symmetric, ``[n, n]``.
        V: approximate eigenvectors, ``[n, n]``.
        w: approximate eigenvalues, ``[n]``.
        kernels: the linear algebra to use.
        levels: of the product of slices.

    Returns:
        The congruence. Cost: 9 products for 2 levels.
    """
    identity = identity_like(B)
    w = shortened(w, digits_of(V) - fitting_bits(V, V.shape[0], levels))
    R = eigen_residual(B, V, w, kernels, levels)
    F = kernels.product(V.T, V) - identity
    C = kernels.product(V.T, R)
    C = (C + C.T) / 2
    basis = V - kernels.product(V, F) / 2
    return Congruence(basis, w + jnp.diagonal(C), jnp.where(identity == 1, 0, C))


def refined(
    A: jax.Array, p: int | jax.Array = 2, *, setting: Setting = DEFAULTS, passes: int = 2, levels: int = 2
) -> InverseRoot:
    r"""A^{-1/p} to nearly the accuracy of twice the precision, by eigen-decompositions in the format at hand.

    1.  A decomposition B = V diag(w) V^T leaves errors of c u \|B\|_2 in all eigenvalues: of the small ones, nothing
        need be right.
    2.  B is transformed to that basis by products of slices (:func:`congruence`). The result is graded: the block of
        the small eigenvalues is itself small, and right to c u^2 \|B\|_2 n or so, not c u \|B\|_2.
    3.  In every further pass the block of the eigenvalues below a threshold is decomposed alone, scaled by it: the
        errors are now c u times the threshold. The matrix is transformed to that basis in the same way. Of m passes the
        thresholds are \|B\|_2 kappa^{-j/m}, so that what remains off the diagonal, relative to the square root of
        the product of its two eigenvalues, is of the order of c u kappa^{1/m}.
    4.  The root of that nearly diagonal matrix is taken to first order
        (:func:`~precond_lab.preconditioners.inverse_root.spectral.first_order_root`), at an error of the square of
        that: c^2 u^2 kappa for two passes.

    So the relative error is about c u + c' kappa u^2 n / p in place of c kappa u / p.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer, which may be traced.
        setting: ridge, padding, tolerance, kernels.
        passes: how many decompositions; one is enough for c u kappa < 0.01, three where c u sqrt(kappa) > 0.01.
        levels: of the products of slices.

    Returns:
        The root. Cost of two passes: two decompositions and 21 products, beside the certificate.

    Raises:
        ValueError: for no passes or levels, too many levels for the digits of the dtype, or a p that is no positive
            integer.

    Example:
        >>> import jax.numpy as jnp
        >>> refined(jnp.diag(jnp.array([16.0, 1.0])), 4).root.tolist()
        [[0.5, 0.0], [0.0, 1.0]]
    """
    if passes < 1 or levels < 1:
        raise ValueError(f"passes = {passes}, levels = {levels} given; at least 1 of each is wanted")
    p, kernels = whole_exponent(p), setting.kernels

    def core(B: jax.Array) -> Iterate:
        w, V = kernels.eigh(B)
        found = congruence(B, V, w, kernels, levels)
        for done in range(1, passes):
            found = _again(found, done / passes, kernels, levels)
        Y = first_order_root(found.values, found.E, p)
        root = kernels.product(kernels.product(found.basis, Y), found.basis.T)
        return Iterate(root, jnp.int32(0), jnp.int32(Result.CONVERGED))

    return solved(A, p, setting, core)


def _again(found: Congruence, part: float, kernels: Kernels, levels: int) -> Congruence:
    """A further pass, for the eigenvalues that are small."""
    d = found.values
    # A smallest one below the reach of the products of slices is not known yet.
    ratio = jnp.maximum(jnp.min(d) / jnp.max(d), 4 * power_of_two(d, -digits_of(d)) ** 2)
    threshold = power_above((jnp.max(d) * ratio**part)[None])[0] / 2
    identity = identity_like(found.E)
    C = found.E + jnp.where(identity == 1, d, 0)
    # The first rows, in the order of the decomposition before; so the new eigenvectors stand in the first columns.
    count = jnp.sum(d < threshold)
    small = jnp.arange(d.shape[0]) < count
    block = small[:, None] & small
    w, V = _leading_eigh(jnp.where(block, C / threshold, 4 * identity), count, kernels)
    V = jnp.where(block, V, identity)
    w = jnp.where(small, w * threshold, d)
    new = congruence(C, V, w, kernels, levels)
    return new._replace(basis=kernels.product(found.basis, new.basis))


def _leading_eigh(M: jax.Array, count: jax.Array, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
    """That of a matrix that is diagonal but for its first rows, at an eighth of the cost if these are few."""
    n = M.shape[0]
    half = (n + 1) // 2

    def of_half(M: jax.Array) -> tuple[jax.Array, jax.Array]:
        w, V = kernels.eigh(M[:half, :half])
        return jnp.diagonal(M).at[:half].set(w), identity_like(M).at[:half, :half].set(V)

    return lax.cond(count <= half, of_half, lambda M: tuple(kernels.eigh(M)), M)
