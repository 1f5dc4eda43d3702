"""Coupled iterations for inverse p-th roots with rational minimax functions."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.kernels import Kernels
from precond_lab.preconditioners.inverse_root.minimax import Rational, rational
from precond_lab.preconditioners.inverse_root.normalization import check_bound, normalized
from precond_lab.preconditioners.inverse_root.polynomial import static_exponent
from precond_lab.preconditioners.inverse_root.powers import matrix_power
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Setting, solved, unscaled

MOST_STEPS = 20
"""More than an interval needs, whose ends differ by a factor of the largest double."""


def rational_schedule(
    p: int, poles: int, lower: float, *, constant: bool = True, accuracy: float = 2.0**-24
) -> tuple[Rational, ...]:
    """The minimax function of [l, 1], that of the interval it leaves, and so on.

    Args:
        p: a positive integer.
        poles: v, of each function.
        lower: l, in (0, 1].
        constant: whether they are of type (v, v), otherwise (v - 1, v).
        accuracy: the error of the last one is at most this.

    Returns:
        The functions.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> [f"{h.error:.0e}" for h in rational_schedule(2, 2, 1e-6)]
        ['2e-01', '2e-05', '0e+00']
    """
    if not 0 < lower <= 1 or not accuracy > 0:
        raise ValueError(f"lower {lower}, accuracy {accuracy} given; in (0, 1], positive wanted")
    upper = 1.0
    functions: list[Rational] = []
    while len(functions) < MOST_STEPS:
        h = rational(p, poles, lower, upper, constant=constant)
        functions.append(h)
        if h.error <= accuracy:
            break
        lower, upper = (1 - h.error) ** p, (1 + h.error) ** p
    return tuple(functions)


class Row(NamedTuple):
    """The numbers of one step.

    Attributes:
        constant: c_0, a scalar.
        residues: c_1 to c_v.
        poles: b_1 to b_v.
    """

    constant: jax.Array
    residues: jax.Array
    poles: jax.Array


def _symmetric(M: jax.Array) -> jax.Array:
    return (M + M.T) / 2


def _inverses(M: jax.Array, N: jax.Array, row: Row, kernels: Kernels) -> jax.Array:
    """The sum of c_j (M + b_j N)^-1, in the order of the poles."""
    identity = identity_like(M)
    # All poles at once: a batch of systems takes little longer than one.
    each = jax.vmap(lambda c, b: c * kernels.solve_spd(M + b * N, identity))(row.residues, row.poles)
    return _symmetric(jnp.sum(each, axis=0))


def _coupled(state: tuple, row: Row, p: int, kernels: Kernels) -> tuple:
    """X <- X T, M <- T^{p/2} M T^{p/2} with T = h(M); for odd p a factor T more on the right."""
    X, M = state
    product = kernels.product
    T = row.constant * identity_like(M) + _inverses(M, identity_like(M), row, kernels)
    half = matrix_power(T, p // 2, product) if p > 1 else None
    M = M if half is None else product(half, product(M, half))
    M = product(M, T) if p % 2 else M
    return _symmetric(product(X, T)), _symmetric(M)


def _symmetric_factors(state: tuple, row: Row, p: int, kernels: Kernels) -> tuple:
    r"""Y <- h(Y X) Y and X <- X F^{p-1} with F = h(Y X), both symmetric.

    Y X itself is not symmetric in rounded arithmetic, but (Y X + b)^-1 Y = (X + b Y^-1)^-1 is the inverse of a sum of
    positive definite matrices. F comes from the new Y and the old, F^T = Y^-1 (F Y), and with F^T X = X F the other
    factor is (F^T)^k X F^k or, for even p, (F^T)^k (X F) F^k.
    """
    Y, X = state
    product, solve = kernels.product, kernels.solve_spd
    following = row.constant * Y + _inverses(X, _symmetric(solve(Y, identity_like(Y))), row, kernels)
    if p == 1:
        return following, X
    F = solve(Y, following).T
    if p % 2 == 0:
        X = _symmetric(product(X, F))
    if p > 2:
        W = matrix_power(F, (p - 1) // 2, product)
        X = _symmetric(product(W.T, product(X, W)))
    return following, X


FORMS: Mapping[str, Callable[[tuple, Row, int, Kernels], tuple]] = MappingProxyType({
    "coupled": _coupled,
    "symmetric_factors": _symmetric_factors,
})
"""What a step does, by name: functions of the approximate root and the other matrix, the numbers, p, the kernels."""


def rational_minimax(
    A: jax.Array,
    p: int = 2,
    *,
    setting: Setting = DEFAULTS,
    form: str = "symmetric_factors",
    poles: int = 2,
    constant: bool = True,
    lower: float | None = None,
    accuracy: float | None = None,
    bound: str = "infinity_norm",
    switch: int | jax.Array = 0,
) -> InverseRoot:
    r"""A^{-1/p} by composed rational minimax functions, with symmetric positive definite systems only.

    h(m) = c_0 + c_1 / (m + b_1) + ... + c_v / (m + b_v) is the best approximation of m^{-1/p}, in the relative sense,
    on the interval that the eigenvalues are in; after a step that interval is [(1 - E)^p, (1 + E)^p]. All b and c are
    positive, but for p = 1, where h(m) = 1 / m and the other terms are zero. Three steps with two poles do for kappa =
    10^12. With M = 2^-e A, whose eigenvalues are in (0, 1], at the start, the forms are

        coupled: T = h(M),  X <- X T,  M <- T^{p/2} M T^{p/2},  from X = I;
        symmetric_factors: Y <- h(Y X) Y,  X <- X h(Y X)^{p-1},  from Y = I and X = M,  by inverses of X + b Y^-1.

    Results that are symmetric in exact arithmetic are replaced by (T + T^T) / 2. Systems M + b I have condition numbers
    of at most 1 / b, so a step is backward stable, and there are so few that the error stays at about kappa u / p. The
    second form carries no residual that could part from the root.

    No step corrects the one before: what the last function is off by is in the root, and so are the roundings of its
    coefficients, which are binary64 numbers. With more digits than those it is the root to `accuracy`, or to about
    2^-53 if that is smaller.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer, static.
        setting: ridge, padding, tolerance, kernels.
        form: a name in FORMS.
        poles: v, of each function.
        constant: whether they are of type (v, v), otherwise (v - 1, v).
        lower: a lower bound of the eigenvalues of M; None for the unit roundoff of the dtype of A. Smaller ones are not
            brought to their root; one far below all of them costs steps, and a little accuracy.
        accuracy: of the last function; None for the unit roundoff of that dtype.
        bound: of the eigenvalues of A, a name in BOUNDS.
        switch: how many steps are early, in the scope ``early``.

    Returns:
        The root. Cost of a step of the coupled form: v inverses, 2 n^3 flops each, and 3 products for p = 2, 4 for
        p = 4; of the other: v + 2 inverses, and 1 product for p = 2, 3 for p = 4.

    Raises:
        ValueError: for a p that is traced or not a positive integer, an unknown name, or numbers out of range.
    """
    p = static_exponent(p, "rational_minimax")
    check_bound(bound)
    if form not in FORMS:
        raise ValueError(f"the form {form!r} given; known are {', '.join(FORMS)}")

    def core(B: jax.Array) -> Iterate:
        u = float(jnp.finfo(B.dtype).eps) / 2
        least, goal = (u if given is None else given for given in (lower, accuracy))
        functions = rational_schedule(p, poles, least, constant=constant, accuracy=goal)
        rows = Row(*(jnp.asarray(column, B.dtype) for column in zip(*(h[:3] for h in functions), strict=True)))
        count = len(functions)

        def step(k: int | jax.Array, state: tuple) -> tuple:
            return FORMS[form](state, jax.tree.map(lambda x: x[k], rows), p, setting.kernels)

        M, e = normalized(B, bound)
        # As a Python number, where it is one: loops of known length have derivatives in reverse mode.
        early = min(switch, count) if isinstance(switch, int) else jnp.minimum(switch, count)
        with jax.named_scope("early"):
            state = lax.fori_loop(0, early, step, (identity_like(B), M))
        with jax.named_scope("late"):
            X, _ = lax.fori_loop(early, count, step, state)
        return Iterate(unscaled(X, e, p), jnp.int32(count), jnp.int32(Result.CONVERGED))

    return solved(A, p, setting, core)
