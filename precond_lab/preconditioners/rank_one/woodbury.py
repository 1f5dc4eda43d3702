"""Updates of rank k at once, by Woodbury's identity."""

import jax
import jax.numpy as jnp

from precond_lab.linalg import cholesky, solve, solve_triangular
from precond_lab.linalg.matrices import floating, product
from precond_lab.preconditioners.rank_one.dense import Dense, mirrored, recursion_of


def woodbury(P: jax.Array, U: jax.Array, V: jax.Array) -> jax.Array:
    """(P^{-1} + U V^T)^{-1} = P - (P U) (I + V^T P U)^{-1} (V^T P), Woodbury 1950.

    Order: P U, V^T P, the capacitance I + V^T (P U), the solution X of capacitance X = V^T P by elimination with
    partial pivoting, (P U) X, the difference. The capacitance and its solution are in the arithmetic of scalars. Its
    condition number is at most min(kappa(U)^2, kappa(V)^2) kappa(P) times that of the result (Yip, "A note on the
    stability of solving a rank-p modification of a linear system by the Sherman-Morrison-Woodbury formula", 1986).

    Args:
        P: inverse of the matrix that is updated, ``[n, n]``.
        U: ``[n, k]``.
        V: ``[n, k]``.

    Returns:
        ``[n, n]``; infinite or NaN where the updated matrix is singular. Cost: 6 k n^2 + O(k^2 n + k^3) flops.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> U = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> woodbury(jnp.eye(2), U, jnp.array([[1.0, 0.0], [2.0, 3.0]])).tolist()
        [[0.5, -0.25], [0.0, 0.25]]
    """
    P, U, V = floating(P), floating(U), floating(V)
    if P.ndim != 2 or P.shape[0] != P.shape[1]:
        raise ValueError(f"a matrix of shape {P.shape} given; a square one is wanted, [n, n]")
    if U.shape != V.shape or U.ndim != 2 or U.shape[0] != P.shape[0] or not U.shape[1]:
        raise ValueError(
            f"factors of shapes {U.shape}, {V.shape} given for order {P.shape[0]}; give [n, k] twice, k > 0"
        )
    with jax.named_scope("arrays"):
        left, right = product(P, U), product(V.T, P)
        with jax.named_scope("scalars"):
            X = solve(jnp.eye(U.shape[1], dtype=left.dtype) + product(V.T, left), right)
        return P - product(left, X)


def update(state: Dense, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Dense:
    """C <- beta C + alpha V^T V: P <- (P - Y^T Y) / beta, Y = K^{-1} W^T, K K^T = tau I + V W, W = P V^T.

    Order: W, the capacitance tau I + V W, its Cholesky factor K, the substitution Y = K^{-1} W^T, all three in the
    arithmetic of scalars, then Y^T Y, the difference, the quotient; the lower triangle is mirrored. What is subtracted
    is semidefinite by construction.

    A downdate, alpha < 0, takes the capacitance |tau| I - V W and adds Y^T Y. Where C stops being positive definite,
    the capacitance does too, and the result is NaN.

    Args:
        state: of the step before; the part above the diagonal is not read.
        v: ``[k, n]``, or ``[n]`` for k = 1.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 4 k n^2 + 2 n^2 + O(k^2 n + k^3) flops.
    """
    V = v[None] if v.ndim == 1 else v
    P = mirrored(state.P)
    W = product(P, V.T)
    with jax.named_scope("scalars"):
        sign = jnp.sign(alpha)
        tau = jnp.abs(beta / alpha)
        capacitance = tau * jnp.eye(V.shape[0], dtype=W.dtype) + sign * product(V, W)
        Y = solve_triangular(cholesky(capacitance), W.T)
    products = product(Y.T, Y)
    with jax.named_scope("scalars"):
        products = sign * products
    difference = P - products
    with jax.named_scope("scalars"):
        return Dense(mirrored(difference / beta))  # a product of matrices may sum the two triangles differently


WOODBURY = recursion_of(update)._replace(block=True)
"""The recursion that takes k vectors at once."""
