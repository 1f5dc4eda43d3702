"""JAX's opaque linear algebra, expanded into loops that are emulated."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest
import scipy.linalg as sl
from jax import lax

import precond_lab as pl
from precond_lab.arithmetic import expansions
from precond_lab.arithmetic.primitives import KINDS, Kind
from precond_lab.interpreter import UnsupportedPrimitiveError

N = 5
FLOAT32 = pl.Arithmetic("float32", linalg="expand")
U = FLOAT32.unit_roundoff
_rng = np.random.default_rng(2)
A = _rng.normal(size=(N, N)).astype(np.float32)
T = _rng.normal(size=(N, 3)).astype(np.float32)
b = _rng.normal(size=N).astype(np.float32)
S = (A @ A.T + np.eye(N)).astype(np.float32)
S = (S + S.T) / 2
wide = np.float64


def condition(X):
    return np.linalg.cond(X.astype(wide))


class Case(NamedTuple):
    """A function of JAX, its arguments, the same in float64, and the condition number of the problem."""

    f: object
    args: tuple
    reference: object
    condition: float


CASES = {
    "cholesky": Case(jnp.linalg.cholesky, (S,), np.linalg.cholesky, condition(S)),
    "upper cholesky": Case(jsl.cholesky, (S,), sl.cholesky, condition(S)),
    "solve": Case(jnp.linalg.solve, (A, b), np.linalg.solve, condition(A)),
    "solve for columns": Case(jnp.linalg.solve, (A, T), np.linalg.solve, condition(A)),
    "inv of a batch": Case(jnp.linalg.inv, (np.stack([A, S])[:, None],), np.linalg.inv, max(map(condition, (A, S)))),
    "det": Case(jnp.linalg.det, (A,), np.linalg.det, N * condition(A)),
    "slogdet": Case(jnp.linalg.slogdet, (A,), lambda A: tuple(np.linalg.slogdet(A)), N * condition(A)),
    "matrix_power": Case(
        lambda A: jnp.linalg.matrix_power(A, -2), (A,), lambda A: np.linalg.matrix_power(A, -2), condition(A) ** 2
    ),
    "qr": Case(jnp.linalg.qr, (T,), lambda T: tuple(np.linalg.qr(T)), condition(T)),
    "wide qr": Case(lambda T: jnp.linalg.qr(T.T)[1], (T,), lambda T: np.linalg.qr(T.T)[1], condition(T)),
    "raw qr": Case(lambda T: jnp.linalg.qr(T, mode="raw"), (T,), lambda T: np.linalg.qr(T, mode="raw"), condition(T)),
    "pivoted qr": Case(
        lambda T: jsl.qr(T, mode="economic", pivoting=True),
        (T,),
        lambda T: sl.qr(T, mode="economic", pivoting=True),
        condition(T),
    ),
    "qr_multiply": Case(jsl.qr_multiply, (T, A[:3]), sl.qr_multiply, condition(T)),
    "eigvalsh": Case(jnp.linalg.eigvalsh, (S,), np.linalg.eigvalsh, 1),
    "svdvals": Case(lambda T: jnp.linalg.svd(T.T, compute_uv=False), (T,), lambda T: np.linalg.svd(T)[1], 1),
    "norm": Case(lambda T: jnp.linalg.norm(T, ord="nuc"), (T,), lambda T: np.linalg.norm(T, ord="nuc"), 1),
    "pinv": Case(jnp.linalg.pinv, (T,), np.linalg.pinv, condition(T) ** 2),
    "lstsq": Case(
        lambda T, b: jnp.linalg.lstsq(T, b)[0], (T, b), lambda T, b: np.linalg.lstsq(T, b)[0], condition(T) ** 2
    ),
    "cho_solve": Case(lambda S, b: jsl.cho_solve(jsl.cho_factor(S), b), (S, b), np.linalg.solve, condition(S)),
    "solve_triangular": Case(
        lambda S, b: jsl.solve_triangular(S, b, trans=1, lower=True),
        (S, b),
        lambda S, b: np.linalg.solve(np.tril(S).T, b),
        condition(np.tril(S)),
    ),
    "lu": Case(jsl.lu, (A,), sl.lu, condition(A)),
    "lu_factor": Case(jsl.lu_factor, (T,), sl.lu_factor, condition(T)),
    "solve spd": Case(lambda S, b: jsl.solve(S, b, assume_a="pos"), (S, b), np.linalg.solve, condition(S)),
    "tridiagonal_solve": Case(
        lambda d, T: lax.linalg.tridiagonal_solve(d / 4, d, d / 2, T),
        (3 + b, T),
        lambda d, T: np.linalg.solve(np.diag(d) + np.diag(d[1:] / 4, -1) + np.diag(d[:-1] / 2, 1), T),
        10,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_float32_is_as_near_as_its_condition_allows(name):
    """The constant of n u kappa is 4."""
    case = CASES[name]
    found = jax.tree.leaves(pl.emulate(case.f, FLOAT32)(*case.args))
    wanted = jax.tree.leaves(case.reference(*(x.astype(wide) for x in case.args)))
    native = jax.tree.leaves(jax.eval_shape(case.f, *case.args))
    for got, want, like in zip(found, wanted, native, strict=True):
        assert (got.shape, got.dtype) == (like.shape, like.dtype)
        assert np.linalg.norm(np.ravel(got - want)) <= 4 * N * U * case.condition * np.linalg.norm(np.ravel(want))


def factorizations(A, S, T, b):
    x = jnp.linalg.solve(A, b)
    return x, jnp.linalg.cholesky(S), jnp.linalg.eigh(S), jnp.linalg.svd(T), jnp.linalg.qr(T, mode="complete")


def test_bfloat16_is_backward_stable():
    """The constant of n u is 4 for residuals and 8 for orthogonality."""
    arithmetic = pl.Arithmetic("bfloat16", linalg="expand")
    inputs = [pl.round_to(jnp.asarray(x), "bfloat16") for x in (A, S, T, b)]
    found = pl.emulate(factorizations, arithmetic)(*inputs)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, pl.round_to(leaf, "bfloat16"))
    x, L, (w, V), (Y, s, Zt), (Q, R) = jax.tree.map(lambda leaf: np.asarray(leaf, wide), found)
    G, P, B, c = (np.asarray(x, wide) for x in inputs)
    nu, norm = N * arithmetic.unit_roundoff, np.linalg.norm
    assert norm(G @ x - c) <= 4 * nu * norm(G) * norm(x)
    assert norm(L @ L.T - P) <= 4 * nu * norm(P)
    assert norm(P @ V - V * w) <= 4 * nu * norm(P)
    assert norm(Y[:, :3] * s @ Zt - B) <= 4 * nu * norm(B)
    assert norm(Q @ R - B) <= 4 * nu * norm(B)
    for orthogonal in (V, Y, Zt, Q):
        assert norm(orthogonal.T @ orthogonal - np.eye(len(orthogonal))) <= 8 * nu


def test_failure_is_nan_or_infinity():
    indefinite, singular = jnp.array([[1.0, 2.0], [2.0, 1.0]]), jnp.array([[1.0, 2.0], [2.0, 4.0]])
    nan = jnp.array([[1.0, jnp.nan], [jnp.nan, 1.0]])

    def failing(indefinite, singular, nan):
        return {
            "cholesky": jnp.linalg.cholesky(indefinite),
            "solve": jnp.linalg.solve(singular, jnp.ones(2)),
            "eigh": jnp.linalg.eigh(nan),
            "svd": jnp.linalg.svd(nan, compute_uv=False),
        }, jnp.linalg.det(singular)

    broken, determinant = pl.emulate(failing, pl.Arithmetic("float16", linalg="expand"))(indefinite, singular, nan)
    assert determinant == 0
    # as JAX has it: the loop form keeps the columns before the failure
    np.testing.assert_array_equal(broken.pop("cholesky"), jnp.linalg.cholesky(indefinite))
    for name, results in broken.items():
        for x in jax.tree.leaves(results):
            assert not np.isfinite(x).any(), name


def test_derivatives():
    def logdet(S):
        return 2 * jnp.sum(jnp.log(jnp.linalg.cholesky(S)[np.arange(N), np.arange(N)]))

    bound = 8 * N * U * condition(S) * np.linalg.norm(np.linalg.inv(S))
    for gradient in (pl.emulate(jax.grad(logdet), FLOAT32), jax.grad(pl.emulate(logdet, FLOAT32))):
        assert np.linalg.norm(gradient(S) - np.linalg.inv(S.astype(wide))) <= bound


def test_an_empty_matrix_is_left_to_jax():
    assert pl.emulate(jnp.linalg.inv, FLOAT32)(jnp.zeros((0, 0))).shape == (0, 0)
    assert pl.emulate(jnp.linalg.svd, FLOAT32)(jnp.zeros((3, 0)))[0].shape == (3, 3)


# Parameters of the primitives, in the carrier itself: no rounding is emulated here


def agree(f, g, *args):
    with jax.enable_x64(True):
        found, wanted = jax.jit(lambda *args: (f(*args), g(*args)))(*(jnp.asarray(x, wide) for x in args))
    for x, y in zip(found, wanted, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        np.testing.assert_allclose(x, y, rtol=0, atol=1e3 * N * 2.0**-53 * np.max(np.abs(y)))


def test_every_triangular_system():
    batch = np.stack([S, 2 * S])
    sides = {True: np.stack([T, T]), False: np.stack([T.T, T.T])}
    options = [(*map(bool, (i & 1, i & 2, i & 4, i & 8)),) for i in range(16)]

    def solved(solve):
        def all_of_them(batch, left, right):
            results = []
            for side, lower, transpose, unit in options:
                params = {"left_side": side, "lower": lower, "transpose_a": transpose, "unit_diagonal": unit}
                results += solve(batch, left if side else right, conjugate_a=False, **params)
            return results

        return all_of_them

    native = solved(lambda *operands, **params: [lax.linalg.triangular_solve(*operands, **params)])
    scaled = batch / np.max(np.abs(batch), axis=-1, keepdims=True)
    agree(solved(expansions.EXPANSIONS["triangular_solve"]), native, scaled, sides[True], sides[False])


def test_layouts_of_results():
    table = expansions.EXPANSIONS
    C = np.stack([A, A])

    def ours(A, T, S, C):
        a, taus = table["geqrf"](T)
        subset = table["eigh"](S, lower=True, sort_eigenvalues=True, subset_by_index=(1, 3), algorithm=None)
        part = table["svd"](T, full_matrices=False, compute_uv=True, subset_by_index=(0, 2))
        applied = [table["ormqr"](a, taus, C[0], left=left, transpose=t)[0] for left in (0, 1) for t in (0, 1)]
        return [
            a,
            taus,
            *table["householder_product"](a, taus),
            *applied,
            *table["lu"](C),
            *table["symmetric_product"](T, S, alpha=2.0, beta=-1.0),
            subset[1],
            jnp.abs(subset[0]),
            part[0],
            jnp.abs(part[1]),
            jnp.abs(part[2]),
        ]

    def jax_own(A, T, S, C):
        raw, taus = jnp.linalg.qr(T, mode="raw")
        Q = jnp.linalg.qr(T, mode="complete")[0]
        w, V = jnp.linalg.eigh(S)
        Y, s, Zt = jnp.linalg.svd(T, full_matrices=False)
        return [
            raw.T,
            taus,
            Q[:, :3],
            *(C[0] @ Q, C[0] @ Q.T, Q @ C[0], Q.T @ C[0]),
            *lax.linalg.lu(C),
            2 * T @ T.T - S,
            w[1:3],
            jnp.abs(V[:, 1:3]),
            s[:2],
            jnp.abs(Y[:, :2]),
            jnp.abs(Zt[:2]),
        ]

    agree(ours, jax_own, A, T, S, C)


def test_the_upper_triangle_is_read_where_it_is_asked_for():
    def upper(S):
        return [jnp.linalg.eigh(jnp.triu(S) - jnp.eye(N), UPLO="U", symmetrize_input=False)[0]]

    found = pl.emulate(upper, FLOAT32)(S)[0]
    wanted = np.linalg.eigvalsh(S.astype(wide) - np.eye(N))
    assert np.max(np.abs(found - wanted)) <= 4 * N * U * np.linalg.norm(S)


# Refusals


def test_the_table_and_the_kinds_agree():
    assert all(
        KINDS[name] is Kind.OPAQUE for name in (*expansions.EXPANSIONS, *expansions.HIDDEN, "custom_linear_solve")
    )
    assert not expansions.EXPANSIONS.keys() & expansions.HIDDEN.keys()


@pytest.mark.parametrize(
    ("f", "linalg", "message"),
    [
        (jnp.linalg.cholesky, "refuse", r'linalg="expand".*precond_lab\.linalg'),
        (jnp.linalg.solve, "refuse", r'linalg="expand".*precond_lab\.linalg'),
        (lambda A: jsl.schur(A)[0], "expand", "schur.*no loop form"),
        (jsl.hessenberg, "expand", "hessenberg.*no loop form"),
        (lambda A: lax.linalg.tridiagonal(A)[1], "expand", "tridiagonal.*no loop form"),
        (lambda A: jsl.qr_multiply(A, A, pivoting=True)[0], "expand", "geqp3.*pivoting"),
        (jnp.fft.irfft, "expand", "hidden in a library routine|complex"),
        (
            lambda A: lax.linalg.tridiagonal_solve(A[0], A[1], A[2], A, perturb_singular=True),
            "expand",
            "perturb_singular",
        ),
    ],
)
def test_refusals_say_what_to_do(f, linalg, message):
    args = (A, b) if f is jnp.linalg.solve else (A,)
    with pytest.raises(UnsupportedPrimitiveError, match=message):
        pl.emulate(f, pl.Arithmetic("float32", linalg=linalg))(*args)
