"""Loop forms of the factorizations."""

from fractions import Fraction
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.extend as jex
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg

import precond_lab as pl
from precond_lab import gallery, interpreter, linalg

A = np.array([[4.0, 2.0, -2.0], [2.0, 10.0, 5.0], [-2.0, 5.0, 21.0]])
L = [[2.0, 0.0, 0.0], [1.0, 3.0, 0.0], [-1.0, 2.0, 4.0]]
N, M = 6, 4  # rows of all matrices of the laws, columns of the tall one

# Worked examples whose every intermediate result is a number with 8 bits.
EXACT = {
    "cholesky": (lambda: linalg.cholesky(jnp.array(A)), L),
    "ldl": (lambda: linalg.ldl(jnp.array([[2.0, 4.0], [4.0, 5.0]])), ([[1, 0], [2, 1]], [2, -3])),
    "forward": (lambda: linalg.solve_triangular(jnp.array(L), jnp.array([2.0, 7.0, 15.0])), [1, 2, 3]),
    "backward": (lambda: linalg.solve_triangular(jnp.array(L).T, jnp.array([1.0, 12.0, 12.0]), lower=False), [1, 2, 3]),
    "transposed": (
        lambda: linalg.solve_triangular(jnp.array(L), jnp.array([1.0, 12.0, 12.0]), transpose=True),
        [1, 2, 3],
    ),
    "unit diagonal": (
        lambda: linalg.solve_triangular(jnp.array(L), jnp.array([[1.0, 2], [3, 5], [6, 10]]), unit_diagonal=True),
        [[1, 2], [2, 3], [3, 6]],
    ),
    "other triangle": (lambda: linalg.solve_triangular(jnp.array(A), jnp.array([6.0, 25, 21]), lower=False), [1, 2, 1]),
    "lu": (
        lambda: linalg.lu(jnp.array([[1.0, 3, 5], [2, 4, 2], [4, 4, 8]])),
        ([[4, 4, 8], [0.5, 2, -2], [0.25, 1, 5]], [2, 1, 2], [2, 1, 0]),
    ),
    "lu of a singular matrix": (
        lambda: linalg.lu(jnp.array([[0.0, 0, 1], [0, 0, 2], [0, 0, 3]])),
        ([[0, 0, 1], [0, 0, 2], [0, 0, 3]], [0, 1, 2], [0, 1, 2]),
    ),
    "solve": (lambda: linalg.solve(jnp.array([[0.0, 2.0], [4.0, 1.0]]), jnp.array([4.0, 6.0])), [1, 2]),
    "solve_spd": (lambda: linalg.solve_spd(jnp.array(A), jnp.array([2.0, 37.0, 71.0])), [1, 2, 3]),
    "tridiagonal": (
        lambda: linalg.tridiagonal_solve(*jnp.array([[9.0, 2, 4], [2, 5, 9], [4, 2, 9]]), jnp.array([10, 18, 35])),
        [1, 2, 3],
    ),
    "qr": (lambda: linalg.qr(jnp.array([[3.0, 5.0], [4.0, 0.0]]))[1], [[-5, -3], [0, -4]]),
    "pivots": (lambda: linalg.householder(jnp.array([[1.0, 0], [0, 2]]), pivoting=True).permutation, [1, 0]),
    "eigh": (lambda: linalg.eigh(jnp.diag(jnp.array([3.0, 1.0, 2.0]))), ([1, 2, 3], [[0, 0, 1], [1, 0, 0], [0, 1, 0]])),
    "eigh of a number": (lambda: linalg.eigh(jnp.array([[-3.0]])), ([-3], [[1]])),
    "eigh of nothing": (lambda: linalg.eigh(jnp.zeros((3, 3))), (np.zeros(3), np.eye(3))),
    "repeated": (lambda: linalg.eigh(2 * jnp.eye(3)), ([2, 2, 2], np.eye(3))),
    "svd": (
        lambda: linalg.svd(jnp.array([[0.0, 2.0], [-4.0, 0.0]])),
        ([[0, 1], [-1, 0]], [4, 2], [[1, 0], [0, 1]]),
    ),
    "svd of nothing": (lambda: linalg.svd(jnp.zeros((3, 2)), full=True), (np.eye(3), np.zeros(2), np.eye(2))),
    "power": (lambda: linalg.power_iteration(jnp.diag(jnp.array([1.0, -4.0])), jnp.ones(2), steps=12), (-4, [0, 1])),
}


def equals(name, found):
    wanted = EXACT[name][1]
    for got, want in zip(jax.tree.leaves(found), wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        # what the power method has not yet suppressed may be left
        np.testing.assert_allclose(
            np.asarray(got, float), want, rtol=0, atol=2.0**-20 * (name == "power"), err_msg=name
        )


def test_worked_examples_are_exact():
    found = jax.jit(lambda: {name: run() for name, (run, _) in EXACT.items()})()
    for name, result in found.items():
        equals(name, result)


def test_worked_examples_are_exact_in_few_bits():
    names = ("cholesky", "ldl", "lu", "tridiagonal", "qr")
    found = pl.emulate(lambda: {name: EXACT[name][0]() for name in names}, "bfloat16")()
    for name, result in found.items():
        equals(name, result)


def test_evaluate_gives_rationals():
    b = np.array([1.0, 2.0, 3.0])
    exact = [Fraction(19, 64), Fraction(1, 16), Fraction(5, 32)]
    residual = [sum(Fraction(int(a)) * v for a, v in zip(row, exact, strict=True)) for row in A]
    assert residual == [1, 2, 3]
    for solve in (linalg.solve_spd, linalg.solve):
        for value, wanted in zip(pl.evaluate(solve, A, b), exact, strict=True):
            assert abs(value - wanted.numerator / type(value)(wanted.denominator)) < type(value)(10) ** -45


def test_evaluate_gives_eigenvalues_to_all_digits():
    B = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])  # 2 - sqrt 2, 2, 2 + sqrt 2
    values = pl.evaluate(lambda B: (linalg.eigh(B).values, linalg.svd(B).s), B, digits=40)
    with mpmath.workdps(50):
        for found in (values[0], values[1][::-1]):
            for value, square in zip(found, (2, 0, 2), strict=True):
                assert abs((value - 2) ** 2 - square) < mpmath.mpf(10) ** -38


# Laws over matrices: what each theorem bounds


def matrices():
    """Symmetric positive definite, symmetric and tall matrices, one of each kind that is hard, [k, ...]."""
    rng = np.random.default_rng(7)
    B, v = rng.normal(size=(N, N)), rng.normal(size=N)
    Q = np.linalg.qr(B)[0]
    spd = [gallery.spd(N, condition=c, seed=3) for c in (10.0, 20.0, 2.0, 5.0)] + [np.eye(N) + np.ones((N, N))]
    symmetric = [B + B.T, np.outer(v, v), np.ones((N, N)), Q * [1, 1, 1, 2, 2, 2] @ Q.T, 1e-3 * (B + B.T)]
    tall = [B[:, :M], np.outer(v, v[:M]), np.eye(N)[:, :M], B[:, :M] * [1, 0, 1, 1e-2], 1e-2 * B[:, :M]]
    S = np.stack(symmetric)
    return np.stack(spd), (S + S.swapaxes(1, 2)) / 2, np.stack(tall), np.stack([B] * 5), np.stack([v] * 5)


def factorizations(P, S, T, G, b):
    """Those that are also run in low precision."""
    return {
        "cholesky": linalg.cholesky(P),
        "solve_spd": linalg.solve_spd(P, b),
        "lu": linalg.lu(G),
        "solve": linalg.solve(G, b),
        "qr": linalg.qr(T, full=True),
        "eigh": linalg.eigh(S),
        "svd": linalg.svd(T),
    }


def further(P, S, T, G, b):
    d, off = 3 + jnp.abs(b), b / (1 + jnp.abs(b))  # diagonally dominant
    return {
        "ldl": linalg.ldl(P),
        "tall lu": linalg.lu(T),
        "wide lu": linalg.lu(T.T),
        "tridiagonal": (d, off, linalg.tridiagonal_solve(off, d, off, b)),
        "reduced qr": linalg.qr(T),
        "wide qr": linalg.qr(T.T),
        "pivoted": linalg.householder(T, pivoting=True),
        "full svd": linalg.svd(T, full=True),
        "wide svd": linalg.svd(T.T, full=True),
        "power": linalg.power_iteration(P, b, steps=64),
    }


ARITHMETICS = {
    "float64": None,
    "float32": None,
    "bfloat16": pl.Arithmetic("bfloat16"),
    "float16 down": pl.Arithmetic("float16", rounding="down"),
    "float16 stochastic": pl.Arithmetic("float16", rounding="stochastic", seed=1),
}
FURTHER = ("float64",)


class Run(NamedTuple):
    """Factorizations in one arithmetic, in float64: results, unit roundoff, and the matrices as they are in it."""

    results: dict
    u: float
    P: np.ndarray
    S: np.ndarray
    T: np.ndarray
    G: np.ndarray
    b: np.ndarray


@cache
def run(name):
    arithmetic = ARITHMETICS[name]
    both = jax.vmap(lambda *x: factorizations(*x) | (further(*x) if name in FURTHER else {}))
    with jax.enable_x64(name == "float64"):
        inputs = [jnp.asarray(x) for x in matrices()]
        if arithmetic is None:
            found, u = jax.jit(both)(*inputs), float(jnp.finfo(inputs[0].dtype).eps) / 2
        else:
            inputs = [pl.round_to(x, arithmetic.format) for x in inputs]
            found, u = pl.emulate(both, arithmetic)(*inputs), arithmetic.unit_roundoff
    wide = partial(jax.tree.map, lambda x: np.asarray(x).astype(int if x.dtype.kind == "i" else float))
    return Run(wide(found), u, *wide(inputs))


def norm(X):
    return np.linalg.norm(X, axis=(-2, -1))


def flip(X):
    return np.swapaxes(X, -1, -2)


def column(x):
    return x[..., None]


def distance_from_orthogonal(Q):
    return norm(flip(Q) @ Q - np.eye(Q.shape[-1]))


def triangles(factors):
    """L and U of a packed factorization, and the same of absolute values."""
    m, n = factors.shape[-2:]
    r = min(m, n)
    return np.tril(factors, -1)[..., :r] + np.eye(m, r), np.triu(factors)[..., :r, :]


SLOW = ("float32", "float16 stochastic", "float16 down")
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ARITHMETICS]
)
native = pytest.mark.parametrize("name", FURTHER)


@every
def test_cholesky_is_backward_stable(name):
    r = run(name)
    L, x = r.results["cholesky"], column(r.results["solve_spd"])
    size = norm(np.abs(L) @ np.abs(flip(L)))
    assert np.all(np.triu(L, 1) == 0)
    assert np.all(norm(L @ flip(L) - r.P) <= 1.1 * (N + 1) * r.u * size)  # Higham, theorem 10.3
    assert np.all(norm(r.P @ x - column(r.b)) <= 1.2 * (3 * N + 1) * r.u * size * norm(x))  # theorem 10.4


@every
def test_elimination_is_backward_stable(name):
    r = run(name)
    for kind, A in {"lu": r.G, "tall lu": r.T, "wide lu": flip(r.T)}.items():
        if kind not in r.results:
            continue
        factors, pivots, permutation = r.results[kind]
        L, U = triangles(factors)
        assert np.all(np.abs(L) <= 1)
        shuffled = np.take_along_axis(A, column(permutation), axis=1)
        assert np.all(norm(L @ U - shuffled) <= 1.1 * N * r.u * norm(np.abs(L) @ np.abs(U)))  # Higham, theorem 9.3
        for swaps, order in zip(pivots, permutation, strict=True):
            rows = list(range(len(order)))
            for k, p in enumerate(swaps):
                rows[k], rows[p] = rows[p], rows[k]
            assert rows == list(order)
    L, U = triangles(r.results["lu"].factors)
    x = column(r.results["solve"])
    assert np.all(norm(r.G @ x - column(r.b)) <= 1.2 * 3 * N * r.u * norm(np.abs(L) @ np.abs(U)) * norm(x))  # 9.4


@every
def test_householder_is_backward_stable(name):
    r = run(name)
    Q, R = r.results["qr"]
    assert np.all(np.tril(R, -1) == 0)
    assert np.all(norm(Q @ R - r.T) <= N * M * r.u * norm(r.T))  # Higham, theorem 19.4 with c = 1
    assert np.all(distance_from_orthogonal(Q) <= 2 * np.sqrt(N) * N * M * r.u)  # equation 19.13


@every
def test_jacobi_finds_eigenvalues(name):
    """The constant of n u is 4 for values and residuals and 8 for orthogonality; the worst case allows more."""
    r = run(name)
    values, V = r.results["eigh"]
    size = norm(r.S)
    assert np.all(np.diff(values) >= 0)
    assert np.all(np.max(np.abs(values - np.linalg.eigvalsh(r.S)), axis=-1) <= 4 * N * r.u * size)
    assert np.all(norm(r.S @ V - V * values[:, None, :]) <= 4 * N * r.u * size)
    assert np.all(distance_from_orthogonal(V) <= 8 * N * r.u)


@every
def test_jacobi_finds_singular_values(name):
    """The constants are those of the eigenvalues."""
    r = run(name)
    for kind, A in {"svd": r.T, "full svd": r.T, "wide svd": flip(r.T)}.items():
        if kind not in r.results:
            continue
        U, s, Vt = r.results[kind]
        size = norm(A)
        assert np.all(np.diff(s) <= 0)
        assert np.all(s >= 0)
        assert np.all(np.max(np.abs(s - np.linalg.svd(A, compute_uv=False)), axis=-1) <= 4 * N * r.u * size)
        assert np.all(norm(U[..., :M] * s[:, None, :] @ Vt[..., :M, :] - A) <= 4 * N * r.u * size)
        assert np.all(distance_from_orthogonal(U) <= 8 * N * r.u)
        assert np.all(distance_from_orthogonal(flip(Vt)) <= 8 * N * r.u)


@native
def test_ldl_is_backward_stable(name):
    r = run(name)
    L, d = r.results["ldl"]
    product = np.abs(L) * np.abs(d)[:, None, :] @ np.abs(flip(L))
    assert np.all(np.triu(L, 1) == 0)
    assert np.all(L.diagonal(axis1=1, axis2=2) == 1)
    assert np.all(norm(L * d[:, None, :] @ flip(L) - r.P) <= 1.1 * (N + 2) * r.u * norm(product))


@native
def test_a_dominant_tridiagonal_system_is_solved(name):
    r = run(name)
    d, off, x = r.results["tridiagonal"]
    A = np.stack([np.diag(a) + np.diag(c[1:], -1) + np.diag(c[:-1], 1) for a, c in zip(d, off, strict=True)])
    # Higham, section 9.6: 4 u |L| |U| each way of the elimination, and |L| |U| <= 3 |A| for dominant rows
    bound = 4 * 3 * r.u * np.abs(A) @ column(np.abs(x))
    assert np.all(np.abs(A @ column(x) - column(r.b)) <= 1.1 * bound)


@native
def test_other_shapes_of_qr(name):
    r = run(name)
    (Q, R), (full_Q, full_R) = r.results["reduced qr"], r.results["qr"]
    np.testing.assert_allclose(Q, full_Q[..., :M], rtol=0, atol=N * M * r.u)
    np.testing.assert_array_equal(R, full_R[..., :M, :])
    Q, R = r.results["wide qr"]
    assert Q.shape[1:] == (M, M)
    assert np.all(norm(Q @ R - flip(r.T)) <= N * M * r.u * norm(r.T))
    assert np.all(distance_from_orthogonal(Q) <= 2 * np.sqrt(M) * N * M * r.u)


@native
def test_pivoting_takes_the_longest_column(name):
    r = run(name)
    factors, _, permutation = r.results["pivoted"]
    for A, R, order in zip(r.T, np.triu(factors), permutation, strict=True):
        wanted, pivots = scipy.linalg.qr(A, mode="r", pivoting=True)
        lengths = np.abs(np.diag(R))
        np.testing.assert_allclose(lengths, np.abs(np.diag(wanted)), rtol=0, atol=N * M * r.u * np.linalg.norm(A))
        if np.min(lengths[:-1] - lengths[1:]) > 1e-3:  # no two columns are nearly as long as each other
            np.testing.assert_array_equal(order, pivots)


@native
def test_power_iteration_finds_the_largest_eigenvalue(name):
    r = run(name)
    value, x = r.results["power"]
    assert abs(value[-1] - (N + 1)) <= 4 * N * r.u * (N + 1)  # the identity and a matrix of ones
    assert norm(r.P[-1] @ column(x[-1]) - value[-1] * column(x[-1])) <= 4 * N * r.u * (N + 1)


# Breakdown, transformations, shape of the program


def test_breakdown_is_seen_and_ends():
    indefinite, nan = jnp.array([[1.0, 2.0], [2.0, 1.0]]), jnp.array([[jnp.nan, 0.0], [0.0, 1.0]])
    singular = jnp.array([[1.0, 2.0], [2.0, 4.0]])

    @jax.jit
    def broken():
        return {
            "cholesky": linalg.cholesky(indefinite)[1, 1],
            "solve": linalg.solve(singular, jnp.ones(2)),
            "solve_triangular": linalg.solve_triangular(singular.at[0, 0].set(0), jnp.ones(2)),
            "tridiagonal": linalg.tridiagonal_solve(jnp.ones(2), jnp.zeros(2), jnp.ones(2), jnp.ones(2)),
            "ldl": linalg.ldl(jnp.array([[0.0, 1.0], [1.0, 0.0]])).L[1, 0],
            "eigh": linalg.eigh(nan),
            "svd": linalg.svd(nan),
        }

    for name, leaf in broken().items():
        for x in jax.tree.leaves(leaf):
            assert not np.isfinite(x).any(), name


def test_derivatives_agree_with_those_of_jax():
    P, _, _, G, b = (x[0] for x in matrices())
    weights = np.random.default_rng(11).normal(size=(N, N))
    pairs = {
        "cholesky": (P, lambda A: linalg.cholesky((A + A.T) / 2), jnp.linalg.cholesky),
        "solve": (G, lambda A: linalg.solve(A, b), lambda A: jnp.linalg.solve(A, b)),
        "qr": (G, lambda A: linalg.qr(A)[1], lambda A: jnp.linalg.qr(A)[1]),
    }

    def gradient(f):
        return jax.grad(lambda A: jnp.sum(f(A) * weights[: f(A).shape[0]].reshape(N, -1)[:, : f(A)[0].size].squeeze()))

    with jax.enable_x64(True):
        found = jax.jit(lambda: {name: (gradient(f)(A), gradient(g)(A)) for name, (A, f, g) in pairs.items()})()
    for name, (ours, theirs) in found.items():
        bound = N**3 * 2.0**-53 * np.linalg.cond(pairs[name][0]) ** 2 * np.linalg.norm(theirs)
        assert np.linalg.norm(ours - theirs) <= bound, name


def test_programs_do_not_grow_know_no_format_and_hide_nothing():
    def equations(n):
        x = np.ones((5, n, n))
        arguments = (x, x, np.ones((5, n, n - 1)), x, np.ones((5, n)))
        program = interpreter.trace(lambda *a: jax.vmap(factorizations)(*a) | jax.vmap(further)(*a), arguments)
        return program.jaxpr

    def count(jaxpr):
        inner = [count(j) for e in jaxpr.eqns for j in jex.core.jaxprs_in_params(e.params)]
        return len(jaxpr.eqns) + sum(inner)

    small = equations(4)
    assert count(small.jaxpr) == count(equations(9).jaxpr)
    for name in ("cholesky", "triangular_solve", "lu", "qr", "eigh", "svd", "custom_linear_solve", "reduce_precision"):
        assert name not in interpreter.primitives(small), name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linalg.cholesky(jnp.ones((2, 3))), ValueError, "square"),
        (lambda: linalg.qr(jnp.ones((2, 2, 2))), ValueError, "vmap"),
        (lambda: linalg.eigh(jnp.ones((0, 0))), ValueError, "elements"),
        (lambda: linalg.lu(jnp.ones((2, 2), int)), TypeError, "int32"),
        (lambda: linalg.svd(jnp.ones((2, 2), complex)), TypeError, "complex"),
        (lambda: linalg.solve_triangular(jnp.eye(2), jnp.ones(3)), ValueError, "2 rows"),
        (lambda: linalg.solve(jnp.eye(2), jnp.ones((2, 1, 1))), ValueError, "2 rows"),
        (lambda: linalg.tridiagonal_solve(*[jnp.ones(2)] * 2, jnp.ones(1), jnp.ones(2)), ValueError, "one length"),
        (lambda: linalg.power_iteration(jnp.eye(2), jnp.ones(3), steps=1), ValueError, "2 elements"),
    ],
)
def test_misuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_operands_of_several_dtypes_and_of_numpy():
    """The loops carry the dtype of their results from the start."""
    eye = np.eye(2, dtype=np.float32)
    pair = linalg.power_iteration(eye, np.ones(2, np.float16), steps=2)
    assert pair.vector.dtype == np.float32
    for C in (np.ones((2, 2), np.float16), np.ones((2, 2), int), eye):
        assert linalg.apply_reflectors(eye, np.zeros(1, np.float32), C).dtype == np.float32


@pytest.mark.parametrize("n", [100, 140])
def test_large_factors_and_inverses_go_by_blocks(n):
    """More columns than a panel, more rows than a leaf, and no multiple of either."""
    A = gallery.spd(n, condition=1e2, seed=0).astype(np.float32)
    L = np.asarray(jax.jit(linalg.cholesky)(jnp.asarray(A)), float)
    gamma = (n + 1) * 2.0**-24 / (1 - (n + 1) * 2.0**-24)
    assert np.all(np.abs(A - L @ L.T) <= gamma * np.abs(L) @ np.abs(L).T)
    assert not np.triu(L, 1).any()
    X = np.asarray(jax.jit(linalg.invert_lower)(jnp.asarray(L, jnp.float32)), float)
    exact = np.linalg.inv(L)
    # To first order (Higham, section 14.2): n roundings on the way through L, and products add as many again.
    bound = 2 * n * 2.0**-24 * np.abs(exact) @ np.abs(L) @ np.abs(exact)
    assert np.all(np.abs(X - exact) <= bound)
    assert not np.triu(X, 1).any()


def test_what_is_above_a_triangle_is_not_read():
    L = np.tril(np.random.default_rng(0).standard_normal((100, 100))).astype(np.float32) + 4 * np.eye(
        100, dtype=np.float32
    )
    garbage = np.triu(np.full_like(L, 7), 1)
    np.testing.assert_array_equal(linalg.invert_lower(L + garbage), linalg.invert_lower(L))
