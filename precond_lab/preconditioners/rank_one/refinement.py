"""Systems with a matrix that is changed by an update of rank one, by a solver for the matrix before."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg import lu, solve_triangular
from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.rank_one.recursion import check_vectors

Solver = Callable[[jax.Array], jax.Array]
"""From b ``[n]`` the x of A x = b."""


def elimination(A: jax.Array) -> Solver:
    """The solver of A by its factors, with partial pivoting; they are computed once.

    Args:
        A: ``[n, n]``.

    Returns:
        From b ``[n]`` the solution, for 4 n^2 flops. Cost: 4 n^3 flops for the factors.

    Example:
        >>> import jax.numpy as jnp
        >>> elimination(jnp.array([[0.0, 2.0], [4.0, 1.0]]))(jnp.array([4.0, 6.0])).tolist()
        [1.0, 2.0]
    """
    factors, _, permutation = lu(A)

    def solver(b: jax.Array) -> jax.Array:
        y = solve_triangular(factors, b[permutation], unit_diagonal=True)
        return solve_triangular(factors, y, lower=False)

    return solver


def sherman_morrison_solve(solver: Solver, u: jax.Array, v: jax.Array, b: jax.Array) -> jax.Array:
    """The x of (A + u v^T) x = b: x = y - z (v^T y) / (1 + v^T z), y = A^{-1} b, z = A^{-1} u.

    Order: z, y, (v^T y) / (1 + v^T z), its product with z, the difference. Not backward stable: where A is ill
    conditioned and x is of ordinary size, y and z are not, and the backward error is about u kappa(A) whatever the
    condition of A + u v^T (Hashemi and Nakatsukasa, arXiv 2510.01696).

    Args:
        solver: solves A x = b.
        u: ``[n]``.
        v: ``[n]``.
        b: ``[n]``.

    Returns:
        x, ``[n]``; infinite or NaN where A + u v^T is singular. Cost: two solutions and 6 n flops.

    Example:
        >>> import jax.numpy as jnp
        >>> u, v, b = jnp.array([1.0, 0.0]), jnp.array([1.0, 2.0]), jnp.array([6.0, 2.0])
        >>> sherman_morrison_solve(lambda b: b, u, v, b).tolist()
        [1.0, 2.0]
    """
    return _corrected(solver, solver(u), v, b)


def _corrected(solver: Solver, z: jax.Array, v: jax.Array, b: jax.Array) -> jax.Array:
    y = solver(b)
    with jax.named_scope("scalars"):
        theta = product(v, y) / (1 + product(v, z))
        correction = theta * z
    return y - correction


class Refined(NamedTuple):
    """A solution with what led to it.

    Attributes:
        x: the solution, ``[n]``.
        iterates: before any refinement, and after each, ``[steps + 1, n]``.
    """

    x: jax.Array
    iterates: jax.Array


def refined_sherman_morrison_solve(
    A: jax.Array, solver: Solver, u: jax.Array, v: jax.Array, b: jax.Array, *, steps: int = 1
) -> Refined:
    """Sherman and Morrison's solution with iterative refinement in the same precision, by the same factors.

    Order: z = A^{-1} u once; x as of `sherman_morrison_solve`; then in every step the residual
    r = (b - A x) - u (v^T x) and x <- x + y - z (v^T y) / (1 + v^T z), y = A^{-1} r. No precision is higher than the
    others. One step or a few make the backward error small where kappa(A) u is well below one (Hashemi and Nakatsukasa,
    arXiv 2510.01696, SM-IR).

    Args:
        A: the matrix before the update, ``[n, n]``.
        solver: solves A x = b.
        u: ``[n]``.
        v: ``[n]``.
        b: ``[n]``.
        steps: of refinement.

    Returns:
        The solution, and all iterates. Cost: 2 + steps solutions, and 2 n^2 flops a step.

    Raises:
        ValueError: shapes do not fit, or `steps` is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> A, u, v, b = 2 * jnp.eye(2), jnp.array([2.0, 0.0]), jnp.array([1.0, 2.0]), jnp.array([8.0, 4.0])
        >>> refined_sherman_morrison_solve(A, lambda b: b / 2, u, v, b, steps=2).iterates.tolist()
        [[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]
    """
    A, u, v, b = (jnp.asarray(x) for x in (A, u, v, b))
    check_vectors(A, (u, v, b))
    if steps < 0:
        raise ValueError(f"steps = {steps} given; give a number of refinements, not negative")
    z = solver(u)
    x = _corrected(solver, z, v, b)

    def refine(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        rest = b - product(A, x)
        with jax.named_scope("scalars"):
            part = u * product(v, x)
        x = x + _corrected(solver, z, v, rest - part)
        return x, x

    last, refined = lax.scan(refine, x, None, length=steps)
    return Refined(last, jnp.concatenate([x[None], refined]))
