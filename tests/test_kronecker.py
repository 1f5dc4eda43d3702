"""K-FAC, FOOF and Shampoo: dense solves at fifty digits, and the laws of their damping."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners import inverse_root, kronecker
from precond_lab.preconditioners.kronecker import Factors, Statistics

F = Fraction
LIBRARY = inverse_root.LIBRARY
SHAPE = (2, 3)


def positive(n, seed):
    X = np.random.default_rng(seed).integers(-3, 4, (n + 2, n)).astype(float)
    return X.T @ X


def factors_of(A, B):
    return Factors(A, B)


def problem(seed=0):
    m, n = SHAPE
    G = np.random.default_rng(seed + 10).integers(-5, 6, (m, n)).astype(float)
    return G, factors_of(positive(n, seed), positive(m, seed + 20) / 4)


def high(x):
    return mpmath.matrix([[mpmath.mpf(v) for v in row] for row in np.atleast_2d(x)])


def kron(B, A):
    m, n = B.rows, A.rows
    K = mpmath.matrix(m * n, m * n)
    for i in range(m * n):
        for j in range(m * n):
            K[i, j] = B[i // n, j // n] * A[i % n, j % n]
    return K


def solved(K, G):
    """K^{-1} vec(G), row by row."""
    x = mpmath.lu_solve(K, mpmath.matrix([mpmath.mpf(v) for v in G.ravel()]))
    return np.array(list(x), object).reshape(G.shape)


def apart(X, Y):
    with mpmath.workdps(60):
        return max(abs(X - Y).ravel())


def test_eigenvectors_give_the_inverse_of_the_kronecker_product_plus_damping():
    G, factors = problem()
    P = pl.evaluate(kronecker.by_eigenvectors, G, factors, 0.125)
    with mpmath.workdps(60):
        K = kron(high(factors.B), high(factors.A)) + mpmath.eye(6) / 8
        assert apart(P, solved(K, G)) < 1e-45


@pytest.mark.parametrize("form", [kronecker.by_inverses, kronecker.by_solves])
def test_inverses_and_solves_are_those_of_both_damped_factors(form):
    G, (A, B) = problem(1)
    P = pl.evaluate(form, G, Factors(A, B), 0.125)
    with mpmath.workdps(60):
        A, B = high(A), high(B)
        pi = mpmath.sqrt((sum(A[i, i] for i in range(3)) / 3) / (sum(B[i, i] for i in range(2)) / 2))
        root = mpmath.sqrt(mpmath.mpf(1) / 8)
        K = kron(B + root / pi * mpmath.eye(2), A + pi * root * mpmath.eye(3))
        assert apart(P, solved(K, G)) < 1e-45


def test_foof_is_the_solve_of_the_input_side():
    G, (A, _) = problem(2)
    P = pl.evaluate(kronecker.foof, G, A, 0.5)
    with mpmath.workdps(60):
        wanted = np.array([list(mpmath.lu_solve(high(A) + mpmath.eye(3) / 2, high(row).T)) for row in G], object)
        assert apart(P, wanted) < 1e-45


@pytest.mark.slow
def test_libraries_agree_with_loops():
    G, factors = problem(3)
    G, factors = np.float32(G), jax.tree.map(np.float32, factors)
    forms = (kronecker.by_inverses, kronecker.by_solves, kronecker.by_eigenvectors)
    run = jax.jit(lambda *given, kernels: [form(*given, kernels=kernels) for form in forms], static_argnames="kernels")
    for loops, library in zip(*(run(G, factors, 0.25, kernels=k) for k in (inverse_root.LOOPS, LIBRARY)), strict=True):
        # All of them solve systems of condition number below 10^4 backward stably, in a norm in which n is 6.
        np.testing.assert_allclose(loops, library, atol=6 * 1e4 * 2.0**-24 * np.abs(loops).max())


# Damping


def test_damping_by_scale_is_that_by_pi_up_to_a_scale():
    _, factors = problem(4)
    by_pi = pl.evaluate(kronecker.factored, factors, 0.5)
    A, B = pl.evaluate(lambda A, B: kronecker.factored_by_scale([A, B], 0.5), *factors)
    with mpmath.workdps(60):
        assert apart(np.kron(B, A), np.kron(by_pi.B, by_pi.A)) < 1e-45
        # What is too much of it is pi sqrt(lambda) B (x) I + sqrt(lambda) / pi I (x) A.
        more = np.kron(by_pi.B, by_pi.A) - np.kron(*(x * mpmath.mpf(1) for x in (factors.B, factors.A)))
        more = more - mpmath.mpf(0.5) * np.eye(6)
        pi = pl.evaluate(kronecker.balance, factors).item()
        root = mpmath.sqrt(mpmath.mpf(1) / 2)
        extra = pi * root * np.kron(factors.B, np.eye(3)) + root / pi * np.kron(np.eye(2), factors.A)
        assert apart(more, extra) < 1e-45


def test_damping_by_scale_forms_no_product_of_scales():
    matrices = [np.float32(scale) * np.eye(2, dtype=np.float32) for scale in (1e-30, 1e-30, 1e30)]
    damped = jax.jit(kronecker.factored_by_scale)(matrices, 1e-30)
    assert all(np.isfinite(A).all() for A in damped)
    product = np.prod([float(A[0, 0]) for A in damped])
    share = 1e-10 / 1e-10  # lambda^(1/3) over the geometric mean
    assert product == pytest.approx(1e-30 * (1 + share) ** 3, rel=1e-4)


def test_a_zero_factor_leaves_the_damping_alone():
    zero, B = jnp.zeros((2, 2)), jnp.array([[4.0]])
    both = (kronecker.by_inverses, kronecker.by_eigenvectors)

    def run(G, factors):
        pis = kronecker.balance(factors), kronecker.balance(Factors(*factors[::-1]))
        return (
            pis,
            kronecker.factored_by_scale(factors, 0.25),
            [form(G, factors, 0.25, kernels=LIBRARY) for form in both],
        )

    pis, (A, C), (factored, exact) = jax.jit(run)(jnp.ones((1, 2)), Factors(zero, B))
    assert pis == (1, 1)
    np.testing.assert_allclose(np.kron(C, A), 0.25 * np.eye(2), rtol=1e-6)
    assert jnp.isfinite(factored).all()
    np.testing.assert_array_equal(exact, [[4.0, 4.0]])


@pytest.mark.parametrize("old", [F(1, 20), F(19, 20)])
def test_damping_that_is_added_in_place_accumulates(old):
    """To lambda / (1 - old): 20 / 19 of it at an old weight of 1/20, twenty times as much at 19/20."""
    steps, damping, statistic = 30, F(3, 100), np.array([[F(2), F(1)], [F(1), F(5)]])

    def run(start, statistic, old, damping):
        step = lambda A, _: (kronecker.leaking_step(A, statistic, damping, old_weight=old), None)  # noqa: E731
        return jax.lax.scan(step, start, None, length=steps)[0]

    A = pl.evaluate(run, statistic, statistic, old, damping)
    leaked = damping * (1 - old**steps) / (1 - old)
    wanted = statistic + leaked * np.array([[F(1), F(0)], [F(0), F(1)]])
    assert max(abs(F(*x.as_integer_ratio()) - y) for x, y in zip(A.ravel(), wanted.ravel(), strict=True)) < F(1, 10**45)
    law = pl.evaluate(lambda old, damping: kronecker.leaked_damping(steps, old, damping), old, damping).item()
    assert abs(F(*law.as_integer_ratio()) - leaked) < F(1, 10**45)
    assert abs(leaked - damping / (1 - old)) == damping * old**steps / (1 - old)


# Statistics


@pytest.mark.parametrize("mean_loss", [True, False])
def test_factors_are_mean_outer_products(mean_loss):
    generator = np.random.default_rng(5)
    X, Y = (generator.integers(-4, 5, (4, 2, size)).astype(np.float32) for size in (3, 2))
    A, B = jax.jit(partial(kronecker.layer_factors, mean_loss=mean_loss))(X, Y)
    rows = np.concatenate([X.reshape(8, 3), np.ones((8, 1))], axis=1)
    np.testing.assert_array_equal(A, rows.T @ rows / 8)
    Y = Y.reshape(8, 2) * (4 if mean_loss else 1)
    np.testing.assert_array_equal(B, Y.T @ Y / 8)
    zero = Factors(*map(np.zeros_like, (A, B)))
    half = kronecker.average_factors(zero, Factors(A, B), new_weight=0.25)
    np.testing.assert_array_equal(half.A, A / 4)


def test_shampoo_of_one_gradient_is_its_polar_factor():
    """(G G^T)^{-1/4} G (G^T G)^{-1/4} = U V^T."""
    G = np.array([[3.0, 1.0], [-1.0, 2.0]])
    found = pl.evaluate(lambda G: kronecker.shampoo(G, kronecker.statistics(G)).direction, G)
    with mpmath.workdps(60):
        assert apart(found @ found.T, np.eye(2)) < 1e-40
        symmetric = found.T @ (G * mpmath.mpf(1))
        assert abs(symmetric[0, 1] - symmetric[1, 0]) < 1e-40


def test_statistics_of_shampoo_are_summed_or_averaged():
    G = np.array([[3.0, 1.0, 2.0], [-1.0, 2.0, 0.0]], np.float32)

    @jax.jit
    def run(G):
        once = kronecker.statistics(G)
        return kronecker.summed(once, G), kronecker.averaged(kronecker.summed(once, G), G, old_weight=0.75)

    total, average = run(G)
    np.testing.assert_array_equal(total.L, 2 * G @ G.T)
    np.testing.assert_array_equal(average.R, 1.75 * G.T @ G)


@pytest.mark.slow
def test_shampoo_says_what_came_of_its_roots():
    G = jnp.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    setting = inverse_root.Setting(kernels=LIBRARY)
    run = jax.jit(partial(kronecker.shampoo, ridge=inverse_root.Ridge(2.0**-10, "trace"), setting=setting))
    L, R = kronecker.statistics(G)
    found = run(G, Statistics(L, R))
    assert inverse_root.Result(int(found.right.result)) == inverse_root.Result.CONVERGED
    assert jnp.isfinite(found.direction).all()
    broken = run(G, Statistics(jnp.full((2, 2), jnp.nan), R))
    assert inverse_root.Result(int(broken.left.result)) == inverse_root.Result.NOT_FINITE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kronecker.by_inverses(jnp.ones((2, 3)), Factors(jnp.eye(2), jnp.eye(3)), 1.0), r"A \[n, n\]"),
        (lambda: kronecker.by_eigenvectors(jnp.ones(3), Factors(jnp.eye(2), jnp.eye(3)), 1.0), r"\[m, n\]"),
        (lambda: kronecker.foof(jnp.ones((2, 3)), jnp.eye(2), 1.0), r"give \[m, n\] and \[n, n\]"),
        (lambda: kronecker.shampoo(jnp.ones((2, 3)), Statistics(jnp.eye(3), jnp.eye(2))), "factors A"),
        (lambda: kronecker.shampoo(jnp.ones((1, 1)), Statistics(jnp.eye(1), jnp.eye(1)), method="x"), "known are"),
        (lambda: kronecker.statistics(jnp.ones(3)), r"give \[m, n\]"),
        (lambda: kronecker.factored_by_scale([], 1.0), "one or more"),
        (lambda: kronecker.layer_factors(jnp.ones((2, 3)), jnp.ones((3, 2))), "same axes"),
        (lambda: kronecker.leaking_step(jnp.eye(2), jnp.eye(2), 1.0), "give one of them"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
