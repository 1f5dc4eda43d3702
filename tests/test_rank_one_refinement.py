"""Systems changed by an update of rank one: exact, unstable, and stable after refinement."""

from fractions import Fraction as Q
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners.rank_one import (
    elimination,
    refined_sherman_morrison_solve,
    sherman_morrison_solve,
)

float32 = partial(np.asarray, dtype=np.float32)
U32 = 2.0**-24
N, SYSTEMS = 16, 6


def program(A: Any, u: Any, v: Any, b: Any, *, steps: int = 2) -> Any:
    return refined_sherman_morrison_solve(A, elimination(A), u, v, b, steps=steps)


def fractions(x: Any) -> np.ndarray:
    return np.vectorize(Q, otypes=[object])(np.asarray(x))


def test_without_rounding_every_iterate_is_the_solution():
    A, u, v = fractions([[0, 2, 1], [1, 1, -1], [3, 0, 2]]), fractions([1, -1, 2]), fractions([2, 1, 1])
    x = fractions([Q(1, 3), -2, 5])
    b = A @ x + u * (v @ x)
    found = pl.evaluate(program, A, u, v, b, digits=60)
    exact = np.vectorize(lambda q: pl.evaluate(lambda a, c: a / c, q.numerator, q.denominator, digits=70).item())(x)
    assert np.abs(found.iterates - exact).max() <= 1e-55
    np.testing.assert_array_equal(found.x, found.iterates[-1])
    plain = pl.evaluate(lambda A, u, v, b: sherman_morrison_solve(elimination(A), u, v, b), A, u, v, b, digits=60)
    np.testing.assert_array_equal(plain, found.iterates[0])


def systems(kappa: float) -> tuple[np.ndarray, ...]:
    """A = B - u v^T of condition kappa, with a B of orthogonal rows: (A, u, v, b)."""
    draws = np.random.default_rng(int(kappa))
    cases = []
    for _ in range(SYSTEMS):
        B, _ = np.linalg.qr(draws.standard_normal((N, N)))
        v = draws.standard_normal(N)
        v /= np.linalg.norm(v)
        u = (1 - 1 / kappa) * (B @ v)  # A v = B v / kappa, and A is B where v is not
        cases.append((B - np.outer(u, v), u, v, B @ draws.standard_normal(N)))
    return tuple(float32(np.stack(x)) for x in zip(*cases, strict=True))


SOLUTIONS = jax.jit(jax.vmap(partial(program, steps=3)))


def backward_errors(kappa: float) -> np.ndarray:
    """Normwise, of every iterate; in binary64, ``[SYSTEMS, 4]``."""
    A, u, v, b = systems(kappa)
    X = np.asarray(SOLUTIONS(A, u, v, b).iterates, np.float64)
    A, u, v, b = (x.astype(np.float64) for x in (A, u, v, b))
    errors = np.empty(X.shape[:2])
    for i in range(SYSTEMS):
        B = A[i] + np.outer(u[i], v[i])
        residuals = np.linalg.norm(b[i] - X[i] @ B.T, axis=1)
        errors[i] = residuals / (np.linalg.norm(B, 2) * np.linalg.norm(X[i], axis=1) + np.linalg.norm(b[i]))
    return errors


@pytest.mark.parametrize("kappa", [1e2, 1e4])
def test_one_refinement_makes_the_backward_error_small(kappa):
    # The condition of A is what is asked for: kappa u is at most 1e-3.
    A = systems(kappa)[0].astype(np.float64)
    np.testing.assert_allclose(np.linalg.cond(A), kappa, rtol=0.05)
    errors = backward_errors(kappa)
    assert (errors[:, 1:] <= 10 * U32).all()
    if kappa == 1e4:
        assert np.median(errors[:, 0]) >= 100 * U32


def test_without_refinement_it_grows_as_the_condition():
    medians = [np.median(backward_errors(kappa)[:, 0]) for kappa in (1e3, 1e4, 1e5)]
    assert all(3 <= after / before <= 30 for before, after in pairwise(medians))


def test_it_can_be_emulated():
    d, u, v, b = float32([[3, 5, 7, 9], [1, -1, 1, 1], [1, 1, 3, 1], [1, 2, 3, 5]])

    def diagonal(d: Any, u: Any, v: Any, b: Any) -> Any:
        return refined_sherman_morrison_solve(jnp.diag(d), lambda r: r / d, u, v, b)

    found = pl.emulate(diagonal, "bfloat16")(d, u, v, b).iterates
    np.testing.assert_array_equal(found, pl.round_to(found, "bfloat16"))
    B = np.diag(d) + np.outer(u, v)
    errors = np.linalg.norm(found - np.linalg.solve(B, b), axis=1)
    # A backward error of 10 u, as for the native ones.
    assert errors[1] <= 10 * 2.0**-8 * np.linalg.cond(B) * np.linalg.norm(np.linalg.solve(B, b))


def test_misuse_is_refused():
    A, x = jnp.eye(3), jnp.ones(3)
    with pytest.raises(ValueError, match="order 3"):
        refined_sherman_morrison_solve(A, lambda b: b, x, x[:2], x)
    with pytest.raises(ValueError, match="not negative"):
        refined_sherman_morrison_solve(A, lambda b: b, x, x, x, steps=-1)
    with pytest.raises(ValueError, match="square"):
        refined_sherman_morrison_solve(A[:2], lambda b: b, x, x, x)


def test_no_refinement_and_order_one():
    found = refined_sherman_morrison_solve(
        jnp.full((1, 1), 2.0), lambda b: b / 2, *jnp.float32([[2], [1], [8]]), steps=0
    )
    assert found.iterates.tolist() == [[2.0]]
    assert found.x.tolist() == [2.0]
