"""Loop forms of the factorizations."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery, linalg

A = np.array([[4.0, 2.0, -2.0], [2.0, 10.0, 5.0], [-2.0, 5.0, 21.0]])
L = [[2.0, 0.0, 0.0], [1.0, 3.0, 0.0], [-1.0, 2.0, 4.0]]


@pytest.mark.parametrize("format", ["bfloat16", "float16", "float32"])
def test_an_exact_factor_is_found_in_every_format(format):
    np.testing.assert_array_equal(pl.emulate(linalg.cholesky, format)(jnp.asarray(A, jnp.float32)), L)


def test_evaluate_gives_rationals():
    b = np.array([1.0, 2.0, 3.0])
    x = pl.evaluate(linalg.solve_spd, A, b)
    exact = [Fraction(19, 64), Fraction(1, 16), Fraction(5, 32)]
    residual = [sum(Fraction(int(a)) * v for a, v in zip(row, exact, strict=True)) for row in A]
    assert residual == [1, 2, 3]
    for value, wanted in zip(x, exact, strict=True):
        assert abs(value - wanted.numerator / type(value)(wanted.denominator)) < type(value)(10) ** -45


@pytest.mark.parametrize("condition", [10.0, 1e6])
def test_backward_stability(condition):
    n, u = 12, 2.0**-53
    with jax.enable_x64(True):
        M = jnp.asarray(gallery.spd(n, condition=condition, seed=3))
        b = jnp.asarray(np.random.default_rng(4).normal(size=n))
        factor, x = linalg.cholesky(M), linalg.solve_spd(M, b)
        # Higham, Accuracy and Stability: theorem 10.3, |M - L L^T| <= gamma_{n+1} |L| |L^T|, and theorem 10.4
        assert jnp.linalg.norm(M - factor @ factor.T, 2) <= 2 * n * (n + 1) * u * jnp.linalg.norm(M, 2)
        assert jnp.linalg.norm(M @ x - b) <= 4 * n * (3 * n + 1) * u * jnp.linalg.norm(M, 2) * jnp.linalg.norm(x)


def test_matrices_on_the_right_and_the_transpose():
    with jax.enable_x64(True):
        T, B = jnp.asarray(L), jnp.arange(6.0).reshape(3, 2)
        np.testing.assert_array_equal(linalg.solve_triangular(T, T @ B), B)
        np.testing.assert_array_equal(linalg.solve_triangular(T, T.T @ B, transpose=True), B)


def test_an_indefinite_matrix_breaks_down_in_sight():
    assert np.isnan(linalg.cholesky(jnp.array([[1.0, 2.0], [2.0, 1.0]]))).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linalg.cholesky(jnp.ones((2, 3))), "square"),
        (lambda: linalg.solve_triangular(jnp.eye(2), jnp.ones(3)), "2 rows"),
    ],
)
def test_misuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()
