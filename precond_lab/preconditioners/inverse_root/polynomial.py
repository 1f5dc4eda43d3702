"""Coupled iterations for inverse p-th roots with a schedule of polynomials."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.iterations import Scheme, iterated, patience
from precond_lab.preconditioners.inverse_root.normalization import check_bound, normalized
from precond_lab.preconditioners.inverse_root.powers import Product, matrix_power
from precond_lab.preconditioners.inverse_root.results import InverseRoot
from precond_lab.preconditioners.inverse_root.schedules import Schedule, schedule_of
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Setting, solved, unscaled


def polynomial_value(R: jax.Array, coefficients: jax.Array | Sequence[float], product: Product) -> jax.Array:
    """b_0 I + b_1 R + ... + b_d R^d by Horner's rule, from the highest power to the lowest.

    Args:
        R: ``[n, n]``.
        coefficients: b_0 to b_d, d at least 1.
        product: of two matrices.

    Returns:
        ``[n, n]``. Cost: d - 1 products.
    """
    identity = identity_like(R)
    *others, last = range(len(coefficients))
    T = coefficients[last] * R + coefficients[others[-1]] * identity
    for i in reversed(others[:-1]):
        T = product(R, T) + coefficients[i] * identity
    return T


def remaining(M: jax.Array, k: jax.Array, plan: Schedule, p: int) -> jax.Array:
    """How far an iteration with a schedule is from its end.

    It is |M - I|_F once the schedule is done. Before, when that may rise and fall and says nothing, it is a number that
    falls from 2 n to n; but for an M that is larger than the schedule lets it be, which has diverged.

    Args:
        M: ``[n, n]``.
        k: how many steps are done, an int32 scalar.
        plan: the schedule.
        p: that M has its eigenvalues multiplied by h(m)^p in a step.

    Returns:
        A scalar; NaN for an M that has such.
    """
    D = M - identity_like(M)
    norm = jnp.sqrt(jnp.sum(D * D))
    first, n = len(plan.first), M.shape[0]
    if not first:
        return norm
    left = jnp.full_like(norm, n) * ((2 * first - k).astype(M.dtype) / first)
    roof = 4 * n * max((1 + h.error) ** p for h in plan.first)
    return jnp.where((k < first) & (norm <= roof), left, norm)


def static_exponent(p: object, method: str) -> int:
    """The exponent as a Python integer.

    Args:
        p: as it was given.
        method: which asks.

    Returns:
        The integer.

    Raises:
        ValueError: if it is traced, or not a positive whole number.
    """
    if isinstance(p, Tracer):
        raise ValueError(f"a traced p given; the coefficients of {method} are computed from p: make it static")  # noqa: TRY004
    return int(whole_exponent(p))  # pyright: ignore[reportArgumentType]


def minimax_polynomial(
    A: jax.Array,
    p: int = 2,
    *,
    setting: Setting = DEFAULTS,
    schedule: str | Schedule = "chebyshev_accelerated",
    degree: int = 2,
    lower: float = 2.0**-24,
    safety: float = 1.1,
    bound: str = "infinity_norm",
    steps: int = 100,
    switch: int | jax.Array = 0,
    early_product: Product | None = None,
) -> InverseRoot:
    r"""A^{-1/p} by a coupled iteration whose polynomials are the best for the interval that the eigenvalues are in.

    With M = 2^-e A, whose eigenvalues are in (0, 1], and X = I at the start, one step is

        T = b_0 I + b_1 (I - M) + ... + b_d (I - M)^d,    X <- X T,    M <- T^p M,

    by Horner's rule, repeated squaring, and in this order. The first coefficients are those of the schedule; the Taylor
    polynomial of m^{-1/p} follows until the iteration is at rest, so that it converges, more slowly, for eigenvalues
    below the lower bound too. From kappa = 10^6 it needs a third of the steps of Newton's iteration.

    It loses accuracy as Newton's iteration does: M is rounded to the unit roundoff u at every step, which changes its
    small eigenvalues by the most while they are smallest, and X with them by about kappa u / p. Compute the first steps
    in a wider format if that is too much. Where u exceeds the smallest eigenvalue of M it becomes negative, and the
    iteration diverges. So it does where M is rounded beyond the end of an interval: the safety has to be more than one
    by some p u sqrt(n), and with `polar_express` the lower bound above u too.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer, static.
        setting: ridge, padding, tolerance, kernels.
        schedule: a name in SCHEDULES, or a :class:`Schedule`.
        degree: d of a schedule by name; the odd polynomial of the literature for p = 2 has degree 2 d + 1.
        lower: a lower bound of the eigenvalues of M. The steps of the schedule are as many as it asks for.
        safety: by how much intervals are extended upwards, to allow for a rounded bound and rounded eigenvalues.
        bound: of the eigenvalues of A, a name in BOUNDS.
        steps: at most so many, those of the schedule included.
        switch: how many are early steps, in the scope ``early``.
        early_product: the product of matrices there; None for that of the setting.

    Returns:
        The root. Cost: a step takes d + 1 + floor(log2 p) products for p a power of two.

    Raises:
        ValueError: for a p that is traced or not a positive integer, an unknown name, or numbers out of range.
    """
    p = static_exponent(p, "a polynomial schedule")
    check_bound(bound)
    plan = schedule_of(schedule, p, degree, lower, safety)
    first, late = len(plan.first), setting.kernels.product

    def scheme(product: Product, table: jax.Array, wait: jax.Array | int) -> Scheme:
        def advance(state: tuple) -> tuple:
            X, M, k = state
            T = polynomial_value(identity_like(M) - M, table[jnp.minimum(k, first)], product)
            return product(X, T), product(matrix_power(T, p, product), M), k + 1

        def error(state: tuple) -> jax.Array:
            return remaining(state[1], state[2], plan, p)

        return Scheme(advance, error, lambda state: state[0], wait)

    def core(B: jax.Array) -> Iterate:
        table = jnp.asarray(plan.table, B.dtype)
        M, e = normalized(B, bound)
        start = identity_like(B), M, jnp.int32(0)
        early, rest = (scheme(product, table, patience(len(B), p)) for product in (early_product or late, late))
        found = iterated(early, rest, start, steps, switch)
        return found._replace(root=unscaled(found.root, e, p))

    return solved(A, p, setting, core)
