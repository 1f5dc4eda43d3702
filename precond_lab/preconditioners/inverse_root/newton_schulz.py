"""The coupled Newton-Schulz iteration for inverse roots whose p is a power of two."""

from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.iterations import Scheme, iterated
from precond_lab.preconditioners.inverse_root.normalization import check_bound, normalized
from precond_lab.preconditioners.inverse_root.polynomial import polynomial_value, remaining, static_exponent
from precond_lab.preconditioners.inverse_root.powers import Product
from precond_lab.preconditioners.inverse_root.results import InverseRoot
from precond_lab.preconditioners.inverse_root.schedules import Schedule, schedule_of
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Setting, solved, unscaled

SYMMETRIZED: Mapping[str, frozenset[str]] = MappingProxyType({
    "nothing": frozenset(),
    "factors": frozenset({"factors"}),
    "everything": frozenset({"factors", "residual"}),
})
"""Which of the products are made symmetric: the factors Y and Z, and the residual M = Z Y."""


def newton_schulz(
    A: jax.Array,
    p: int = 2,
    *,
    setting: Setting = DEFAULTS,
    symmetrized: str = "nothing",
    schedule: str | Schedule = "newton_schulz",
    degree: int = 1,
    lower: float = 2.0**-24,
    safety: float = 1.1,
    bound: str = "infinity_norm",
    steps: int = 100,
    switch: int | jax.Array = 0,
    early_product: Product | None = None,
) -> InverseRoot:
    r"""A^{-1/2}, A^{-1/4} or A^{-1/8} by the coupled Newton-Schulz iteration.

    With Y = 2^-e A, whose eigenvalues are in (0, 1], and Z = I at the start, one step is

        M = Z Y,    T = I + (I - M) / 2,    Y <- Y T,    Z <- T Z;

    Y tends to the square root of the first Y, Z to its inverse. It converges for eigenvalues in (0, 3); a small one of
    M grows by 9/4 in a step, then convergence is quadratic. It is the iteration for the sign of [[0, A], [I, 0]], and
    the product form of Denman and Beavers without inverses (Higham, Functions of Matrices, section 6.7); unlike an
    iteration that carries M along, it forms M from what it returns, and so sees its own errors.

    For p = 4 the root Y is computed first, and its inverse root Z by a second run: A^{-1/4} = (A^{1/2})^{-1/2}; for
    p = 8 there are three. Other schedules than Newton-Schulz replace T, as in :func:`minimax_polynomial`; in a run that
    starts from a square root, the lower bound is a square root too.

    In exact arithmetic all these matrices are symmetric, and a product with a symmetric result needs half of its
    entries. Y and Z may be made so, but not M: let dY and dZ be small symmetric perturbations at the fixed point, in
    the basis of eigenvectors, and r the quotient of the eigenvalues i and j of Y. One step of Newton-Schulz takes the
    pair of their entries (i, j) to a linear image of it. With an M as it comes the eigenvalues of that map are 0 and 1.
    With M made symmetric they are 1 and 1 - (2 + r + 1 / r) / 4, less than -1 for r > 3 + sqrt(8): "everything" is
    unstable for kappa > 17 + 12 sqrt(2), about 34.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: 2, 4 or 8, static.
        setting: ridge, padding, tolerance, kernels.
        symmetrized: a name in SYMMETRIZED: which products are replaced by (P + P^T) / 2 as soon as they are formed.
        schedule: a name in SCHEDULES, or a :class:`Schedule` for p = 2, which all runs take.
        degree: of the polynomials of a schedule by name, in M.
        lower: a lower bound of the eigenvalues of the first Y.
        safety: by how much intervals are extended upwards.
        bound: of the eigenvalues of A, a name in BOUNDS.
        steps: at most so many, in each run.
        switch: how many of each run are early steps, in the scope ``early``.
        early_product: the product of matrices there; None for that of the setting.

    Returns:
        The root; `steps` are those of all runs. Cost: 3 products a step, and one more for each degree above 1.

    Raises:
        ValueError: for another p, an unknown name, or numbers out of range.
    """
    p = static_exponent(p, "newton_schulz")
    if p not in {2, 4, 8}:
        raise ValueError(f"p = {p} given; newton_schulz composes square roots, for p = 2, 4, 8: take coupled_newton")
    if symmetrized not in SYMMETRIZED:
        raise ValueError(f"symmetrized = {symmetrized!r} given; known are {', '.join(SYMMETRIZED)}")
    check_bound(bound)
    runs = p.bit_length() - 1
    plans = [schedule_of(schedule, 2, degree, lower ** (2.0**-i), safety) for i in range(runs)]
    late = setting.kernels.product

    def core(B: jax.Array) -> Iterate:
        found, total = Iterate(B, jnp.int32(0), jnp.int32(0)), jnp.int32(0)
        for i, plan in enumerate(plans):
            last = i == runs - 1
            Y, e = normalized(found.root, bound)
            table = jnp.asarray(plan.table, B.dtype)
            early, rest = (
                _scheme(product, table, plan, symmetrized, inverse=last) for product in (early_product or late, late)
            )
            start = Y, identity_like(Y), Y, jnp.int32(0)
            previous = found.result
            found = iterated(early, rest, start, steps, switch)
            total = total + found.steps
            # The root of 2^e is the reciprocal of its inverse root.
            root = unscaled(found.root, e if last else -e, 2)
            found = Iterate(root, total, jnp.maximum(previous, found.result))
        return found

    return solved(A, p, setting, core)


def _scheme(product: Product, table: jax.Array, plan: Schedule, symmetrized: str, *, inverse: bool) -> Scheme:
    """The iteration for the square root, or its inverse."""

    def formed(P: jax.Array, name: str) -> jax.Array:
        return (P + P.T) / 2 if name in SYMMETRIZED[symmetrized] else P

    def advance(state: tuple) -> tuple:
        Y, Z, M, k = state
        T = polynomial_value(identity_like(M) - M, table[jnp.minimum(k, len(plan.first))], product)
        Y, Z = formed(product(Y, T), "factors"), formed(product(T, Z), "factors")
        return Y, Z, formed(product(Z, Y), "residual"), k + 1

    def error(state: tuple) -> jax.Array:
        return remaining(state[2], state[3], plan, 2)

    return Scheme(advance, error, lambda state: state[1] if inverse else state[0])
