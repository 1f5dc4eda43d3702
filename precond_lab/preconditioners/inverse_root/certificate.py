"""The residual by which a root is judged."""

from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.exponents import Exponent, check_exponent
from precond_lab.preconditioners.inverse_root.kernels import LOOPS, Kernels
from precond_lab.preconditioners.inverse_root.powers import Product, matrix_power, number_like
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.split import gram_remainder


class Factor(NamedTuple):
    """A factor of a matrix to nearly twice the precision, A = G (I + E') G^T.

    Attributes:
        G: ``[n, n]``; NaN where the arithmetic finds no Cholesky factor.
        definite: whether it has found one.
        defect: a bound of |E'|_F, but for the rounding of G, about u sqrt(kappa); infinite where the factor that was
            found is that of another matrix.
    """

    G: jax.Array
    definite: jax.Array
    defect: jax.Array


def factored(A: jax.Array, kernels: Kernels) -> Factor:
    r"""The Cholesky factor of a matrix, corrected.

    The computed factor L is that of a matrix that differs from A by about u \|A\|, which is as much as roundings of A
    do to its root. With E = L^{-1} (A - L L^T) L^{-T}, whose difference is computed by products of slices,

        G = L (I + E / 2),    A = G (I + E') G^T,    E' = -(I + E/2)^{-1} (E / 2)^2 (I + E/2)^{-1},

    and \|E'\|_F <= (\|E\|_F / (2 - \|E\|_F))^2: the digits of G are right twice as far. Where an arithmetic has too
    few digits for slices of its matrices, E is as much rounding as difference, and \|E\|_F itself is the defect.

    Args:
        A: symmetric, ``[n, n]``.
        kernels: the linear algebra to use.

    Returns:
        The factor. Cost: n^3 / 3 flops, a triangular inverse, and 7 products.
    """
    product = kernels.product
    L = kernels.cholesky(A)
    definite = jnp.all(jnp.diagonal(L) > 0)  # false for NaN
    inverse = kernels.invert_lower(L)
    remainder, exact = gram_remainder(A, L, product)
    E = product(product(inverse, remainder), inverse.T)
    size = jnp.sqrt(jnp.sum(E * E))
    part = size / (2 - size)
    defect = jnp.where(exact, part * part, size)
    defect = jnp.where(size < 1, defect, jnp.full_like(part, jnp.inf))  # infinite for NaN
    return Factor(L + product(L, (E + E.T) / 4), definite, defect)


def certificate(A: jax.Array, X: jax.Array, p: Exponent, kernels: Kernels = LOOPS) -> jax.Array:
    r"""The residual |G^T X^p G - I|_F / p of an inverse root, with A = G G^T.

    The matrix is orthogonally similar to A^{1/2} X^p A^{1/2} - I. To first order an error dX of the root appears in it,
    in the eigenbasis, with the weight sqrt(l_i l_j) (b_i^{p-1} + b_i^{p-2} b_j + ... + b_j^{p-1}), b = l^{-1/p}, which
    is at least p / |A^{-1/p}|_2: the residual bounds |dX|_F / |A^{-1/p}|_2. It is conservative for errors along large
    eigenvalues.

    That A is not quite G G^T is part of what is returned: with s = |G^T X^p G - I|_F and the defect d of
    :func:`factored`, it is (s + d + s d) / p. Then the eigenvalues of A^{1/2} X^p A^{1/2} are within s + d + s d of
    one, but for the roundings of these products: those of G^T X^p G are u sqrt(kappa) n or so, where a plain Cholesky
    factor would leave u kappa. That of X^p A - I, whose elements cancel, is off by more.

    For even p it is formed as W^T W - I with W = X^{p/2} G, for odd p as W^T (X W) - I with W = X^{(p-1)/2} G. Such an
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
        A scalar; NaN where the arithmetic finds no Cholesky factor of A, infinite where that is one of another matrix.
        Cost: that of the factor, and two products more than the power takes; n^3 / 3 flops more for even p, a product
        more for odd p above one.
    """
    return residual_of(A, X, check_exponent(p), kernels)[0]


def residual_of(A: jax.Array, X: jax.Array, p: Exponent, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
    """The certificate, and whether A has a Cholesky factor.

    Args:
        A: as for :func:`certificate`, and so are the others.
        X: ``[n, n]``.
        p: as :func:`~precond_lab.preconditioners.inverse_root.exponents.check_exponent` returns it.
        kernels: the linear algebra to use.

    Returns:
        Two scalars.
    """
    if isinstance(p, Fraction):
        return jnp.full_like(A, jnp.nan, shape=()), jnp.array(True)
    product = kernels.product
    with jax.named_scope("certificate"):
        G, definite, defect = factored(A, kernels)
        W, odd = _half_power(X, p, G, product)
        right = W if odd is False else jnp.where(odd, product(X, W), W)
        R = product(W.T, right) - identity_like(A)
        size = jnp.sqrt(jnp.sum(R * R))
        residual = (size + defect + size * defect) / number_like(R, p)
        if odd is not True:
            positive = odd | jnp.all(jnp.diagonal(kernels.cholesky(X)) > 0)
            residual = jnp.where(positive, residual, jnp.full_like(residual, jnp.inf))
        return jnp.where(definite, residual, jnp.full_like(residual, jnp.nan)), definite


def _half_power(X: jax.Array, p: int | jax.Array, G: jax.Array, product: Product) -> tuple[jax.Array, bool | jax.Array]:
    if isinstance(p, int):
        return (product(matrix_power(X, p // 2, product), G) if p > 1 else G), bool(p % 2)
    W = product(matrix_power(X, jnp.maximum(p // 2, 1), product), G)
    return jnp.where(p > 1, W, G), p % 2 == 1


def judged(residual: jax.Array, definite: jax.Array, p: int | jax.Array, tolerance: jax.Array | float) -> jax.Array:
    """The result by the residual alone.

    If s = p times the residual is below one, the error relative to the root in the 2-norm is at most 1 - (1 - s)^{1/p}
    (as t^{1/p} is monotone): it is within the tolerance t where s <= 1 - (1 - t)^p. That is about p t for small p; for
    large p a small residual says less: there s <= 1 - t is asked for as well, since (1 - t)^p may vanish beside one.

    Args:
        residual: of :func:`certificate`.
        definite: whether the matrix has a Cholesky factor.
        p: a positive integer; it may be traced.
        tolerance: t.

    Returns:
        CONVERGED, STAGNATED or NOT_POSITIVE_DEFINITE.
    """
    degree = number_like(residual, p)
    most = 1 - jnp.maximum((1 - tolerance) ** degree, tolerance)
    within = (residual >= 0) & (degree * residual <= most)  # false for NaN, and a negative p
    result = jnp.where(within, int(Result.CONVERGED), int(Result.STAGNATED))
    return jnp.where(definite, result, int(Result.NOT_POSITIVE_DEFINITE))
