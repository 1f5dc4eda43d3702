"""Triangular factors as the state, of the inverse or of the matrix itself.

What the factors stand for is semidefinite by construction. A sweep over the columns is a scan of n steps of O(n) work;
what does not depend on the column before is done for the whole matrix. Unit diagonals are left out of what is kept.
"""

import enum
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab import linalg
from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.rank_one.recursion import Recursion, matrix_or_diagonal


class UD(NamedTuple):
    """The state of Bierman's algorithm: P = (I + U) D (I + U)^T.

    Attributes:
        U: strictly upper triangular, ``[n, n]``.
        d: the diagonal of D, ``[n]``, positive.
    """

    U: jax.Array
    d: jax.Array


def _start_ud(C: jax.Array) -> UD:
    factors = _ldl(C)
    inverse = linalg.invert_lower(_unit(factors.L))
    return UD(jnp.tril(inverse, -1).T, 1 / factors.d)


def _ldl(C: jax.Array) -> linalg.LDL:
    """C = (I + L) D (I + L)^T."""
    C = matrix_or_diagonal(C)
    if C.ndim == 1:
        return linalg.LDL(jnp.zeros_like(C, shape=C.shape * 2), C)
    L, d = linalg.ldl(C)
    return linalg.LDL(jnp.tril(L, -1), d)


def _unit(T: jax.Array) -> jax.Array:
    """The triangular matrix with ones on its diagonal."""
    index = jnp.arange(T.shape[0])
    return jnp.where(index[:, None] == index[None, :], 1, T)


def bierman_ud(state: UD, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> UD:
    """Bierman's measurement update of P = (I + U) D (I + U)^T, column by column.

    Order: f = U^T v + v, g = d f; a_0 = tau, a_j = a_{j-1} + f_j g_j; d_j <- (d_j (a_{j-1} / a_j)) / beta; k_1 = 0,
    k_{j+1} = k_j + g_j (u_j + e_j); u_j <- u_j - (f_j / a_{j-1}) k_j. The a_j, and what they multiply or divide, are in
    the arithmetic of scalars. Where alpha is positive, so is everything that D is made of, and nothing is subtracted
    in it (Bierman, "Factorization Methods for Discrete Sequential Estimation", 1977, section V.3).

    A downdate, alpha < 0, starts from a_0 = tau < 0. Where C stops being positive definite, some a_j changes its sign:
    that d_j is negative, and stays as the sign of it.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 3 n^2 flops on triangles, which this form does for the full squares: 6 n^2.
    """
    U, d = state
    f = product(v, U) + v
    g = d * f
    with jax.named_scope("scalars"):
        before, after = _running_sums(beta / alpha, f * g)
        factors = f / before
        d = (d * (before / after)) / beta
    index = jnp.arange(d.shape[0])
    products = jnp.where(index[:, None] == index[None, :], g, U * g)
    _, K = lax.scan(lambda k, column: (k + column, k), jnp.zeros_like(d), products.T)
    with jax.named_scope("scalars"):
        corrections = K.T * factors
    return UD(U - corrections, d)


def _running_sums(first: jax.Array, terms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums before and after each term, in sequence."""
    first = first.astype(jnp.result_type(first, terms))

    def add(total: jax.Array, term: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return total + term, (total, total + term)

    return lax.scan(add, first, terms)[1]


def _inverse_ud(state: UD) -> jax.Array:
    U = _unit(state.U)
    return product(U * state.d, U.T)


def _apply_ud(state: UD, g: jax.Array) -> jax.Array:
    y = state.d * (product(g, state.U) + g)
    return product(state.U, y) + y


BIERMAN_UD = Recursion(_start_ud, bierman_ud, _inverse_ud, _apply_ud, stored=("U", "d"))
"""The recursion of the factors U and D of the inverse."""


class Outcome(enum.IntEnum):
    """What became of an LDL^T factorization; each member carries its explanation in `prose`.

    Outcomes are codes, so that a compiled program can return them: ``Outcome(int(state.outcome))`` is the member.
    """

    prose: str

    def __new__(cls, code: int, prose: str) -> Self:
        """A code with an explanation.

        Args:
            code: the member's value.
            prose: what it means and what follows from it.

        Returns:
            The member.
        """
        member = int.__new__(cls, code)
        member._value_ = code
        member.prose = prose
        return member

    UPDATED = (0, "Every step was taken, and every pivot is positive.")
    NOT_POSITIVE_DEFINITE = (
        1,
        (
            "A pivot was zero, negative or NaN: the matrix of some step is not positive definite in this arithmetic. "
            "Such a step is left out as a whole, its decay too: the factors are those of the other steps."
        ),
    )


class LDL(NamedTuple):
    """The state of the update of C = (I + L) D (I + L)^T.

    Attributes:
        L: strictly lower triangular, ``[n, n]``.
        d: the diagonal of D, ``[n]``, positive.
        outcome: of all steps so far, a code of `Outcome`.
    """

    L: jax.Array
    d: jax.Array
    outcome: jax.Array


def _start_ldl(C: jax.Array) -> LDL:
    L, d = _ldl(C)
    return LDL(L, d, _code(jnp.all(d > 0)))


def _code(positive: jax.Array) -> jax.Array:
    return jnp.where(positive, int(Outcome.UPDATED), int(Outcome.NOT_POSITIVE_DEFINITE)).astype(jnp.int32)


def ldl(state: LDL, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> LDL:
    """The update and downdate of C = (I + L) D (I + L)^T, column by column.

    Method C1 of Gill, Golub, Murray and Saunders ("Methods for modifying matrix factorizations", Mathematics of
    Computation 28, 1974), also Fletcher and Powell's (same volume). Order: r_1 = v, p_j = (r_j)_j,
    r_{j+1} = r_j - p_j l_j; d_j <- beta d_j; a_1 = alpha, q_j = a_j p_j, e_j = d_j + q_j p_j, b_j = q_j / e_j,
    a_{j+1} = a_j (d_j / e_j); l_j <- l_j + b_j r_{j+1}, d_j <- e_j. The a_j, e_j and b_j, and what they multiply, are
    in the arithmetic of scalars.

    The other form of a column, (d_j / e_j) l_j + b_j r_j, is the same in exact arithmetic and multiplies the whole of
    l_j by a rounded number in every step, where this one adds a correction that is mostly smaller than l_j.

    Where alpha is positive, so is every e_j. A downdate, alpha < 0, subtracts in e_j; a step in which some e_j is not
    positive is not taken, and `outcome` says so from then on.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 2 n^2 flops on triangles, which this form does for the full squares: 4 n^2.
    """
    L, d, outcome = state
    p, R = _eliminate(L, v)
    with jax.named_scope("scalars"):
        pivots, b = _pivots(beta * d, p, alpha)
        corrections = R * b
        positive = jnp.all(pivots > 0)
        d = jnp.where(positive, pivots, d)
    L = jnp.where(positive, jnp.tril(L + corrections, -1), L)
    return LDL(L, d, jnp.maximum(outcome, _code(positive)))


def _eliminate(L: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(I + L)^{-1} v by columns, ``[n]``, and what was left of v after each of them, ``[n, n]``."""

    def column(r: jax.Array, item: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        j, l = item
        r = r - r[j] * l
        return r, r

    r = v.astype(jnp.promote_types(v.dtype, L.dtype))
    p, rest = lax.scan(column, r, (jnp.arange(v.shape[0]), L.T))
    return p, rest.T


def _pivots(d: jax.Array, p: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new pivots and the multipliers of the columns, ``[n]`` each."""

    def pivot(a: jax.Array, item: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        d, p = item
        q = a * p
        e = d + q * p
        return a * (d / e), (e, q / e)

    return lax.scan(pivot, alpha.astype(jnp.result_type(alpha, d, p)), (d, p))[1]


def _inverse_ldl(state: LDL) -> jax.Array:
    X = linalg.invert_lower(_unit(state.L))
    return product(X.T, X / state.d[:, None])


def _apply_ldl(state: LDL, g: jax.Array) -> jax.Array:
    y = linalg.solve_triangular(state.L, g, unit_diagonal=True)
    return linalg.solve_triangular(state.L, y / state.d, transpose=True, unit_diagonal=True)


LDL_UPDATE = Recursion(_start_ldl, ldl, _inverse_ldl, _apply_ldl, stored=("L", "d"))
"""The recursion of the factors L and D of the matrix."""


class Information(NamedTuple):
    """The state of the information form: C = R^T R.

    Attributes:
        R: upper triangular, ``[n, n]``, its diagonal not negative.
    """

    R: jax.Array


def _start_information(C: jax.Array) -> Information:
    C = matrix_or_diagonal(C)
    return Information(jnp.diag(jnp.sqrt(C)) if C.ndim == 1 else linalg.cholesky(C).T)


def information_cholesky(state: Information, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Information:
    """The triangular factor of [sqrt(beta) R; sqrt(alpha) v^T], by Givens rotations of a row with what is left of v.

    Order: sqrt(beta) R, x = sqrt(alpha) v; for every row r_j of it the rotation c, s with c r_jj + s x_j = rho and
    c x_j - s r_jj = 0; r_j <- c r_j + s x, x <- c x - s r_j, with rho on the diagonal (Golub & Van Loan, sections 5.1.8
    and 6.5.4). Rotations, and products with c and s, are in the arithmetic of scalars, the sums of the products in that
    of arrays. An update has no breakdown. A downdate, alpha < 0, is not a product of rotations: its result is NaN.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight, not negative.

    Returns:
        The next state. Cost: 3.5 n^2 flops on a triangle, which this form does for the full square: 7 n^2, and n roots.
    """
    with jax.named_scope("scalars"):
        R, x = jnp.sqrt(beta) * state.R, jnp.sqrt(alpha) * v
    index = jnp.arange(R.shape[0])

    def rotate(x: jax.Array, item: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        j, row = item
        with jax.named_scope("scalars"):
            c, s, rho = givens(row[j], x[j])
            kept, added, left, taken = c * row, s * x, c * x, s * row
        new = jnp.where(index == j, rho.astype(row.dtype), kept + added)
        return jnp.where(index > j, left - taken, 0), new

    x = x.astype(jnp.promote_types(x.dtype, R.dtype))
    return Information(lax.scan(rotate, x, (index, R))[1])


def givens(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The rotation with c a + s b = rho >= 0 and c b - s a = 0.

    Order: t = min(|a|, |b|) / max(|a|, |b|), h = sqrt(1 + t t), rho = max(|a|, |b|) h, and of |c| and |s| the greater
    is 1 / h, the other t / h: no square of a or b is formed, so that nothing overflows unless rho does (Golub & Van
    Loan, algorithm 5.1.3).

    Args:
        a: a scalar.
        b: a scalar.

    Returns:
        c, s and rho; 1, 0 and 0 where both are zero.
    """
    larger, smaller = jnp.maximum(jnp.abs(a), jnp.abs(b)), jnp.minimum(jnp.abs(a), jnp.abs(b))
    t = smaller / jnp.where(larger == 0, 1, larger)
    h = jnp.sqrt(1 + t * t)
    first = jnp.abs(a) >= jnp.abs(b)
    c, s = jnp.where(first, 1 / h, t / h), jnp.where(first, t / h, 1 / h)
    return jnp.where(a < 0, -c, c), jnp.where(b < 0, -s, s), larger * h


def _inverse_information(state: Information) -> jax.Array:
    X = linalg.invert_lower(state.R.T)
    return product(X.T, X)


def _apply_information(state: Information, g: jax.Array) -> jax.Array:
    y = linalg.solve_triangular(state.R, g, lower=False, transpose=True)
    return linalg.solve_triangular(state.R, y, lower=False)


INFORMATION_CHOLESKY = Recursion(
    _start_information, information_cholesky, _inverse_information, _apply_information, stored=("R",)
)
"""The recursion of the Cholesky factor of the matrix."""
