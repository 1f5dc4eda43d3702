"""Newton's iteration after square roots that bring the spectrum near one."""

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.iterations import Scheme, iterated
from precond_lab.preconditioners.inverse_root.kernels import Kernels
from precond_lab.preconditioners.inverse_root.powers import matrix_power
from precond_lab.preconditioners.inverse_root.results import InverseRoot
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Setting, solved


def square_root(A: jax.Array, kernels: Kernels, *, steps: int = 30) -> Iterate:
    r"""A^{1/2} by the product form of the Denman-Beavers iteration, scaled.

    With X_0 = M_0 = A, and m^2 = (\|M^{-1}\|_F / \|M\|_F)^{1/2}, which brings the extreme eigenvalues of m^2 M
    to either side of one,

        X <- m X (I + m^-2 M^-1) / 2,    M <- (I + (m^2 M + m^-2 M^-1) / 2) / 2.

    (Cheng, Higham, Kenney and Laub 2001; Higham, Functions of Matrices, section 6.3.) X tends to A^{1/2} and M to the
    identity, quadratically at the end.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        kernels: the linear algebra to use.
        steps: at most so many.

    Returns:
        The square root. Cost of a step: the inverse of a symmetric matrix, and a product.
    """
    identity = identity_like(A)

    def norm(M: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(M * M))

    def advance(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        X, M = state
        inverse = kernels.solve_spd(M, identity)
        square = jnp.sqrt(norm(inverse) / norm(M))
        inverse, M = inverse / square, square * M
        X = jnp.sqrt(square) * kernels.product(X, identity + inverse) / 2
        M = (identity + (M + inverse) / 2) / 2
        return (X + X.T) / 2, (M + M.T) / 2

    scheme = Scheme(advance, lambda state: norm(state[1] - identity), lambda state: state[0])
    # The first step is scaled the most, and its error need not be below that of the start.
    return iterated(scheme, scheme, advance((A, A)), steps, 0)


def schur_newton(
    A: jax.Array, p: int | jax.Array = 2, *, setting: Setting = DEFAULTS, square_roots: int = 6, steps: int = 30
) -> InverseRoot:
    r"""A^{-1/p} from k square roots, Newton's iteration, and k squarings, as in the Schur-Newton method.

    Guo and Higham (2006) reduce A to its Schur form, of whose triangular factor square roots are found element by
    element; k of them bring the spectrum near one, where the coupled Newton iteration takes few steps and its errors
    are not magnified; the root is squared k times. The Schur form of a symmetric matrix is diagonal: the method is then
    the eigen-decomposition, and its iteration that of numbers. What is left of it as a method of its own is this: the
    square roots are taken of the whole matrix, by :func:`square_root`, and no eigenvalue is computed.

    Square roots are taken until \|A^{1/2^k} / c - I\|_F <= 1/2, with c its largest row sum, or k = `square_roots`.
    Newton's iteration is then done on A^{1/2^k} / c, from where all eigenvalues are in (0, 1].

    The first square root loses about kappa u in the smallest eigenvalue, as any method would. Every later one halves
    that, and adds an error of its own, which the squarings at the end double again: the rounding errors of k square
    roots add up to some 2^k u, which is more than other methods' where kappa is small.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer; it may be traced.
        setting: ridge, padding, tolerance, kernels.
        square_roots: at most so many.
        steps: of each iteration, at most so many.

    Returns:
        The root; its steps are those of all iterations together. Cost: for each square root about 10 inverses and
        products at first, fewer for the later ones.

    Example:
        >>> import jax.numpy as jnp
        >>> r = schur_newton(jnp.diag(jnp.array([16.0, 1.0])), 4)
        >>> [round(x, 5) for x in jnp.diagonal(r.root).tolist()]
        [0.5, 1.0]
    """
    p, kernels = whole_exponent(p), setting.kernels

    def core(B: jax.Array) -> Iterate:
        identity = identity_like(B)

        def far(state: tuple) -> jax.Array:
            R, k, _, _ = state
            D = R / _row_sum(R) - identity
            return (k < square_roots) & (jnp.sqrt(jnp.sum(D * D)) > 0.5)

        def halve(state: tuple) -> tuple:
            R, k, done, seen = state
            found = square_root(R, kernels, steps=steps)
            return found.root, k + 1, done + found.steps, jnp.maximum(seen, found.result)

        R, k, done, seen = lax.while_loop(far, halve, (B, jnp.int32(0), jnp.int32(0), jnp.int32(0)))
        found = _newton(R, p, kernels, steps)
        X = lax.fori_loop(0, k, lambda _, X: kernels.product(X, X), found.root)
        return Iterate(X, done + found.steps, jnp.maximum(seen, found.result))

    return solved(A, p, setting, core)


def _row_sum(R: jax.Array) -> jax.Array:
    """The infinity norm, a bound of the eigenvalues."""
    return jnp.max(jnp.sum(jnp.abs(R), axis=1))


def _newton(R: jax.Array, p: int | jax.Array, kernels: Kernels, steps: int) -> Iterate:
    """The coupled Newton iteration from z = 1 / c, for a matrix whose eigenvalues are near c."""
    product, identity = kernels.product, identity_like(R)
    c = _row_sum(R)

    def advance(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        X, M = state
        T = ((p + 1) * identity - M) / p
        return product(X, T), product(matrix_power(T, p, product), M)

    def error(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        D = state[1] - identity
        return jnp.sqrt(jnp.sum(D * D))

    scheme = Scheme(advance, error, lambda state: state[0])
    degree = jnp.asarray(p).astype(R.dtype)
    return iterated(scheme, scheme, (identity / c ** (1 / degree), R / c), steps, 0)
