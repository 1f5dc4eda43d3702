"""Gradients preconditioned by the inverse of a Kronecker product."""

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.inverse_root.kernels import LOOPS, Kernels
from precond_lab.preconditioners.kronecker.damping import factored, shifted
from precond_lab.preconditioners.kronecker.factors import Factors, check_factors


def inverses(factors: Factors, *, kernels: Kernels = LOOPS) -> Factors:
    """The inverses of both factors, L^{-T} L^{-1} by Cholesky factors.

    Args:
        factors: damped, symmetric positive definite; only lower triangles are read.
        kernels: the linear algebra to use.

    Returns:
        A^{-1} and B^{-1}; NaN where a factor is not positive definite. Cost: about m^3 + n^3 times what kernels
        document.
    """

    def inverse(A: jax.Array) -> jax.Array:
        L = kernels.invert_lower(kernels.cholesky(A))
        return kernels.product(L.T, L)

    return Factors(*map(inverse, factors))


def apply_inverses(G: jax.Array, inverse: Factors) -> jax.Array:
    """B^{-1} G A^{-1}, the left product first.

    Args:
        G: gradient of the weights, ``[m, n]``.
        inverse: of the factors.

    Returns:
        ``[m, n]``. Cost: 2 m n (m + n) flops.

    Raises:
        ValueError: shapes do not fit.
    """
    G, inverse = check_factors(G, inverse)
    with jax.named_scope("arrays"):
        return product(product(inverse.B, G), inverse.A)


def by_inverses(G: jax.Array, factors: Factors, damping: jax.Array | float, *, kernels: Kernels = LOOPS) -> jax.Array:
    """K-FAC as published: P = (B + sqrt(lambda) / pi I)^{-1} G (A + pi sqrt(lambda) I)^{-1}.

    Order: the damped factors, their inverses by Cholesky factors, the left product, the right.

    Args:
        G: gradient of the weights, ``[m, n]``.
        factors: A and B.
        damping: lambda, positive.
        kernels: the linear algebra to use.

    Returns:
        The preconditioned gradient, ``[m, n]``. Cost: that of two inverses, and 2 m n (m + n) flops.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> round(by_inverses(jnp.array([[25.0]]), Factors(jnp.array([[4.0]]), jnp.array([[1.0]])), 0.25).item(), 4)
        4.0
    """
    G, factors = check_factors(G, factors)
    with jax.named_scope("arrays"):
        return apply_inverses(G, inverses(factored(factors, damping), kernels=kernels))


def by_solves(G: jax.Array, factors: Factors, damping: jax.Array | float, *, kernels: Kernels = LOOPS) -> jax.Array:
    """The same without inverses: two systems, each with many right-hand sides, solved by Cholesky factors.

    Order: the damped factors, X from (B + sqrt(lambda) / pi I) X = G, P from (A + pi sqrt(lambda) I) P^T = X^T.

    Args:
        G: gradient of the weights, ``[m, n]``.
        factors: A and B.
        damping: lambda, positive.
        kernels: the linear algebra to use.

    Returns:
        The preconditioned gradient, ``[m, n]``.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> by_solves(jnp.array([[25.0]]), Factors(jnp.array([[4.0]]), jnp.array([[1.0]])), 0.25).tolist()
        [[4.0]]
    """
    G, factors = check_factors(G, factors)
    with jax.named_scope("arrays"):
        A, B = factored(factors, damping)
        return kernels.solve_spd(A, kernels.solve_spd(B, G).T).T


def by_eigenvectors(
    G: jax.Array, factors: Factors, damping: jax.Array | float, *, kernels: Kernels = LOOPS
) -> jax.Array:
    """The exact inverse of B (x) A + lambda I, as KAISA has it: P = Q_B ((Q_B^T G Q_A) / (d_B d_A^T + lambda)) Q_A^T.

    Order: eigenvalues of both factors, negative ones set to zero; Q_B^T G, its product with Q_A; the outer product of
    the eigenvalues, lambda added; the quotients; the two products back.

    Args:
        G: gradient of the weights, ``[m, n]``.
        factors: A and B.
        damping: lambda, positive.
        kernels: the linear algebra to use.

    Returns:
        The preconditioned gradient, ``[m, n]``. Cost: that of two eigen-decompositions, and 4 m n (m + n) flops.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> by_eigenvectors(jnp.array([[17.0]]), Factors(jnp.array([[4.0]]), jnp.array([[1.0]])), 0.25).tolist()
        [[4.0]]
    """
    G, factors = check_factors(G, factors)
    with jax.named_scope("arrays"):
        (a, Q), (b, U) = kernels.eigh(factors.A), kernels.eigh(factors.B)
        a, b = jnp.maximum(a, jnp.zeros_like(a)), jnp.maximum(b, jnp.zeros_like(b))
        rotated = product(product(U.T, G), Q)
        eigenvalues = b[:, None] * a[None, :]
        with jax.named_scope("scalars"):
            eigenvalues = eigenvalues + damping
        return product(product(U, rotated / eigenvalues), Q.T)


def foof(G: jax.Array, A: jax.Array, damping: jax.Array | float, *, kernels: Kernels = LOOPS) -> jax.Array:
    """The input side alone: P = G (A + gamma I)^{-1} (Benzing, "Gradient Descent on Neurons", 2022).

    Order: gamma added to the diagonal, the Cholesky factor, two substitutions with the columns of G^T.

    Args:
        G: gradient of the weights, ``[m, n]``.
        A: mean of a a^T over the inputs, ``[n, n]``.
        damping: gamma, positive.
        kernels: the linear algebra to use.

    Returns:
        The preconditioned gradient, ``[m, n]``.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> foof(jnp.array([[2.0], [4.0]]), jnp.array([[3.0]]), 1.0).tolist()
        [[0.5], [1.0]]
    """
    G, A = jnp.asarray(G), jnp.asarray(A)
    if G.ndim != 2 or A.shape != (G.shape[1],) * 2:
        raise ValueError(
            f"a gradient of shape {G.shape} given with a factor of shape {A.shape}; give [m, n] and [n, n]"
        )
    with jax.named_scope("arrays"):
        return kernels.solve_spd(shifted(A, damping), G.T).T
