"""The online Newton step and its sketches: exact recursions, projections, regret, and guarantees of sketches."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners.inverse_root import LIBRARY
from precond_lab.preconditioners.rank_one import METHODS
from precond_lab.preconditioners.rank_one.online_newton import (
    newton_step,
    parameters,
    project,
    run_newton,
    start_newton,
)
from precond_lab.preconditioners.rank_one.sketches import (
    Sketch,
    run_sketch,
    sketch_step,
    sketched_direction,
    start_sketch,
)

F = Fraction
SYMMETRIC = METHODS["symmetric"]


def exactly(x):
    return np.vectorize(lambda value: F(*value.as_integer_ratio()), otypes=[object])(x)


def inverse_of_order_two(A):
    determinant = A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0]
    return np.array([[A[1, 1], -A[0, 1]], [-A[1, 0], A[0, 0]]]) / determinant


@pytest.mark.parametrize("name", METHODS)
def test_every_form_of_the_inverse_takes_the_steps_of_the_definition(name):
    """x <- x - A^{-1} g / gamma, A <- A + g g^T for the losses (c^T x - 1)^2 / 2, in rationals."""
    recursion = METHODS[name]
    data = np.array([[1.0, 2.0], [-1.0, 0.5], [3.0, 1.0]])
    gradient = lambda x, c: (c @ x - 1) * c  # noqa: E731

    def program(data, x, epsilon, gamma):
        return run_newton(recursion, gradient, start_newton(recursion, x, epsilon), data, gamma)[0].x

    found = pl.evaluate(program, data, np.array([0.0, 1.0]), 2.0, 0.5)
    x, A = np.array([F(0), F(1)]), np.array([[F(2), F(0)], [F(0), F(2)]])
    for c in exactly(data):
        g = (c @ x - 1) * c
        A = A + np.outer(g, g)
        x = x - inverse_of_order_two(A) @ g / F(1, 2)
    assert abs(exactly(found) - x).max() < F(1, 10**40)


def test_the_projection_meets_the_conditions_of_optimality():
    """|x| = R and A (y - x) = mu x with mu > 0, which for a convex problem is the minimum."""
    P = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.25], [0.0, 0.25, 0.125]])
    y = np.array([3.0, -4.0, 2.0])
    x = pl.evaluate(project, P, y, 0.75)
    with mpmath.workdps(60):
        assert abs(mpmath.sqrt(sum(x * x)) - mpmath.mpf(3) / 4) < 1e-45
        A = mpmath.matrix(P.tolist()) ** -1
        pull = np.array(list(A * mpmath.matrix(list(y - x))), object)
        mu = sum(pull * x) / sum(x * x)
        assert mu > 0
        assert max(abs(pull - mu * x)) < 1e-42
    inside = pl.evaluate(project, P, y, 6.0)
    assert inside.tolist() == y.tolist()


def test_the_projection_of_a_point_on_an_axis_without_inverse_is_that_axis():
    """Directions in which P is zero, A infinite, stay as they are; and zero stays zero. In float32."""
    P = np.array([np.diag([0.0, 1.0]), np.diag([0.0, 1.0]), np.zeros((2, 2))], np.float32)
    y = np.array([[0.5, 8.0], [0.25, 0.5], [0.0, 0.0]], np.float32)
    x = jax.jit(jax.vmap(partial(project, radius=1.0, kernels=LIBRARY)))(P, y)
    np.testing.assert_allclose(x, [[0.5, 0.75**0.5], [0.25, 0.5], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("name", ["symmetric", pytest.param("bierman_ud", marks=pytest.mark.slow)])
def test_the_regret_is_below_its_bound(name):
    """5 (1 / alpha + G D) n log T for (c^T x - y)^2, which is 1 / (2 M^2)-exp-concave where |c^T x - y| <= M."""
    n, steps, radius = 3, 300, 1.0
    generator = np.random.default_rng(4)
    c = generator.standard_normal((steps, n))
    c /= np.linalg.norm(c, axis=1, keepdims=True)
    y = np.clip(c @ np.array([0.5, -0.5, 0.3]) + 0.3 * generator.standard_normal(steps), -1, 1)
    largest = 2.0  # of |c^T x - y| in the ball
    G, D, alpha = 2 * largest, 2 * radius, 1 / (2 * largest**2)
    gamma, epsilon = parameters(G, D, alpha)
    recursion = METHODS[name]
    gradient = lambda x, datum: 2 * (datum[0] @ x - datum[1]) * datum[0]  # noqa: E731
    with jax.enable_x64(True):
        state = start_newton(recursion, jnp.zeros(n), epsilon)
        program = jax.jit(partial(run_newton, recursion, gradient, radius=radius, kernels=LIBRARY))
        _, points = program(state, (c, y), gamma)
        points = np.asarray(points)
    assert (np.linalg.norm(points, axis=1) <= radius * (1 + 1e-12)).all()
    best = np.linalg.lstsq(c, y, rcond=None)[0]
    assert np.linalg.norm(best) <= radius
    regret = ((np.sum(c * points, axis=1) - y) ** 2).sum() - ((c @ best - y) ** 2).sum()
    assert regret <= 5 * (1 / alpha + G * D) * n * np.log(steps)
    # and the steps are no idle ones: it is below that of never moving
    assert regret < (y**2).sum() - ((c @ best - y) ** 2).sum()


# Sketches


@pytest.mark.parametrize("robust", [True, False])
def test_the_sketch_is_within_the_guarantee_of_frequent_directions(robust):
    """For every k, in float64, over streams of flat and of falling spectra; the sum of what is lost is exact."""
    rows, n, steps = 4, 6, 40
    streams = np.stack([
        np.random.default_rng(seed).standard_normal((steps, n)) @ np.diag(fall ** np.arange(n))
        for fall in (1.0, 0.5, 0.1)
        for seed in range(3)
    ])
    with jax.enable_x64(True):
        start = start_sketch(rows, n, jnp.float64(1.0))
        run = jax.jit(jax.vmap(lambda V: run_sketch(start, V, robust=robust, kernels=LIBRARY)))
        S, alpha = map(np.asarray, run(jnp.asarray(streams)))
    for A, sketch, regularizer in zip(streams, S, alpha, strict=True):
        gap = A.T @ A - sketch.T @ sketch
        values, size = np.linalg.eigvalsh(gap), np.linalg.norm(A) ** 2
        tail = [(np.linalg.svd(A)[1][k:] ** 2).sum() for k in range(rows)]
        bounds = [tail[k] / (rows - k) for k in range(rows)]
        tolerance = steps * n * 2.0**-52 * size  # of so many decompositions
        assert values.min() >= -tolerance
        assert values.max() <= min(bounds) + tolerance
        assert not sketch[-1].any()
        if robust:
            taken = regularizer - 1
            centered = np.abs(values - taken).max()
            assert centered <= min(bounds) / 2 + tolerance
            # Each step takes the same from the squares of all rows: the trace knows their sum.
            assert abs(2 * rows * taken - np.trace(gap)) <= tolerance
        else:
            assert regularizer == 1


def test_a_sketch_with_room_loses_nothing():
    V = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
    S, alpha = pl.evaluate(lambda V: run_sketch(start_sketch(3, 2, 0.5), V), V)
    with mpmath.workdps(60):
        gap = S.T @ S - (V * mpmath.mpf(1)).T @ (V * mpmath.mpf(1))
        assert max(abs(gap).ravel()) < 1e-45
    assert alpha.item() == 0.5


def test_a_sketch_has_the_trace_of_what_it_lost_at_fifty_digits():
    V = np.array([[1.0, 2.0, 0.0], [3.0, -1.0, 1.0], [0.5, 0.25, -2.0], [1.0, 1.0, 1.0]])
    S, alpha = pl.evaluate(lambda V: run_sketch(start_sketch(2, 3, 0.5), V), V)
    with mpmath.workdps(60):
        lost = (V * V).sum() - sum((S * S).ravel())
        assert abs(4 * (alpha.item() - mpmath.mpf(1) / 2) - lost) < 1e-44
        assert lost > 1


def test_the_sketched_direction_is_that_of_the_dense_matrix():
    S = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 2.0]])
    g = np.array([1.0, -2.0, 3.0])
    found = pl.evaluate(lambda S, alpha, g: sketched_direction(Sketch(S, alpha), g), S, 0.25, g)
    with mpmath.workdps(60):
        A = mpmath.matrix(S.tolist()).T * mpmath.matrix(S.tolist()) + mpmath.eye(3) / 4
        wanted = np.array(list(mpmath.lu_solve(A, mpmath.matrix(g.tolist()))), object)
        assert max(abs(found - wanted)) < 1e-45


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: start_sketch(1, 3, 1.0), "2 rows or more"),
        (lambda: sketch_step(start_sketch(2, 3, 1.0), jnp.ones(2)), r"give \[3\]"),
        (lambda: sketched_direction(start_sketch(2, 3, 1.0), jnp.ones((1, 3))), r"give \[3\]"),
        (lambda: parameters(0.0, 1.0, 1.0), "positive"),
        (lambda: newton_step(SYMMETRIC, start_newton(SYMMETRIC, jnp.ones(2), 1.0), jnp.ones(3), 1.0), "give"),
        (lambda: project(jnp.eye(2), jnp.ones(3), 1.0), "give"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
