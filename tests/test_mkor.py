"""MKOR's two rules: worked examples in rationals, and where each of them stays."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners.rank_one import METHODS, mkor, run
from precond_lab.preconditioners.rank_one.dense import Dense

F = Fraction
GAMMA = F(19, 20)
GROWTH = 0.95 + 0.95**-3
"""Of the printed rule along j where s is large."""


def recovered(x):
    """The rational numbers, of denominators below 10^80, that results with 200 digits stand for."""
    return np.vectorize(lambda v: F(*v.as_integer_ratio()).limit_denominator(10**80), otypes=[object])(x)


def stepped(recursion, J, v, beta, alpha):
    """One step in rationals."""
    program = lambda J, v, beta, alpha: recursion.update(Dense(J), v, beta, alpha).P  # noqa: E731
    return recovered(pl.evaluate(program, J, v, beta, alpha, digits=200))


def test_one_step_of_the_printed_rule_beside_the_inverse_that_it_stands_for():
    J, j = np.array([[F(2), F(1, 2)], [F(1, 2), F(1)]]), np.array([F(1), F(2)])
    true = stepped(METHODS["symmetric"], J, j, GAMMA, 1 - GAMMA)
    assert true.tolist() == [[F(100, 57), F(40, 171)], [F(40, 171), F(415, 513)]]
    printed = stepped(mkor.printed, J, j, GAMMA, 1 - GAMMA)
    assert printed.tolist() == [
        [F(187757, 83030), F(257757, 332120)],
        [F(257757, 332120), F(598271, 498180)],
    ]
    assert j @ J @ j == 8
    assert j @ true @ j == F(160, 27)
    assert j @ printed @ j == F(1266542, 124545)


def scalar_run(recursion, steps, start=4.0, j=2.0):
    with jax.enable_x64(True):
        V = jnp.full((steps, 1), j)
        last, _ = jax.jit(partial(run, recursion))(Dense(jnp.full((1, 1), start)), V, jnp.float64(0.95))
        return last.P.item()


def test_the_printed_rule_grows_where_the_inverse_settles():
    assert scalar_run(mkor.printed, 12) == pytest.approx(9266, abs=1)
    assert scalar_run(METHODS["symmetric"], 600) == pytest.approx(0.25, rel=1e-12)


def test_a_large_s_is_multiplied_by_gamma_and_its_inverse_cube():
    """s -> gamma s + (1 - gamma) s^2 / (gamma^2 (1 + gamma (1 - gamma) s)), from s = 0.943 on by more than one."""
    s = np.array([F(10**9)]).reshape(1, 1)
    after = stepped(mkor.printed, s, np.array([F(1)]), GAMMA, 1 - GAMMA).item()
    assert abs(after / 10**9 / (GAMMA + 1 / GAMMA**3) - 1) < F(1, 10**7)
    fixed = GAMMA**2 / (1 - GAMMA**3 * (1 - GAMMA))
    same = stepped(mkor.printed, np.array([[fixed]]), np.array([F(1)]), GAMMA, 1 - GAMMA).item()
    assert same == fixed


@pytest.mark.parametrize("zeta", [0.45, 0.5])
def test_the_printed_stabilizer_bounds_it_only_below_the_inverse_of_that(zeta):
    """Above the threshold J <- GROWTH (zeta J + 1 - zeta) at most, and nearly so where J is large."""
    recursion = mkor.stabilized(mkor.printed, partial(mkor.blend, threshold=2.0, weight=zeta))
    J = scalar_run(recursion, 800, start=1e6)
    if zeta * GROWTH < 1:
        assert max(2 * GROWTH, GROWTH * (1 - zeta) / (1 - zeta * GROWTH)) + 1e-3 >= J
    else:
        assert J > 1e12


# The released recursion


def test_the_released_recursion_from_the_identity():
    J, found = np.array([[F(1), F(0)], [F(0), F(1)]]), []
    for v in np.array([[1, 2], [2, -1], [3, 3], [1, 0]]) * F(1):
        B = GAMMA * J + (1 - GAMMA) * np.array([[F(1), F(0)], [F(0), F(1)]])
        w = B @ v
        wanted = B - np.outer(w, w) / (1 + v @ w)
        J = stepped(mkor.released, J, v, GAMMA, 1 - GAMMA)
        assert (wanted == J).all()
        found.append(np.linalg.eigvalsh(J.astype(float)))
        assert found[-1][0] >= 1 / (20 + float(v @ v))
    np.testing.assert_allclose(found, [(1 / 6, 1), (0.167, 0.208), (0.0452, 0.212), (0.0884, 0.226)], rtol=3e-3)


def stream(length, steps=40, n=6, seed=0):
    V = np.random.default_rng(seed).standard_normal((steps, n))
    return length * V / np.linalg.norm(V, axis=1, keepdims=True)


def test_the_released_recursion_stays_between_the_identity_and_its_bound():
    """I / (20 + |v|^2) <= J <= I in float64, for vectors of any one length."""
    lengths = np.array([0.1, 1.0, 10.0, 300.0])
    with jax.enable_x64(True):
        V = jnp.asarray(np.stack([stream(length) for length in lengths]))
        start, beta = mkor.released.start(jnp.ones(6)), jnp.float64(0.95)
        _, states = jax.jit(jax.vmap(lambda V: run(mkor.released, start, V, beta, every=1)))(V)
        P = np.asarray(jax.tree.leaves(states)[0])
    values = np.linalg.eigvalsh(P)
    assert values.max() <= 1 + 1e-14
    assert (values.min(axis=(1, 2)) >= (1 - 1e-10) / (20 + lengths**2)).all()


@pytest.mark.parametrize("recursion", [pytest.param(mkor.printed, marks=pytest.mark.slow), mkor.released])
def test_both_rules_run_with_state_arrays_and_scalars_apart(recursion):
    arithmetic = by_role(state="bfloat16", arrays="float32", scalars="float32")
    V = stream(2.0, steps=4).astype(np.float32)
    program = jax.jit(pl.emulate(partial(run, recursion), arithmetic))
    last, _ = program(Dense(jnp.eye(6)), V, np.float32(0.95))
    exact, _ = pl.evaluate(partial(run, recursion), Dense(jnp.eye(6)), V, np.float32(0.95))
    assert (pl.round_to(np.asarray(last.P, np.float32), "bfloat16") == np.asarray(last.P)).all()
    # Four steps, each multiplying by GROWTH at most and rounding J, which is I and larger for the printed rule.
    assert np.abs(last.P - exact.P.astype(float)).max() <= 4 * 6 * 2.0**-8 * GROWTH**4


def test_the_released_test_sees_infinities_and_no_nan():
    J, inf, nan = np.array([[1.0, 0.5], [0.5, 1.0]]), np.inf, np.nan
    cases = np.array([J, [[1, inf], [0.5, 1]], [[1, nan], [0.5, 1]], [[nan, inf], [0.5, 1]], 3 * J], np.float32)
    guarded = mkor.stabilized(mkor.released, partial(mkor.reset, threshold=2.0))

    @jax.jit
    @jax.vmap
    def run(J):
        after = guarded.update(Dense(J), jnp.ones(2), jnp.float32(0.95), jnp.float32(0.05)).P
        return mkor.reset(J, 2.0), mkor.reset_unless_finite(J), mkor.blend(J, 2.0, 0.5), after

    reset, cured, blended, after = map(np.asarray, run(cases))
    np.testing.assert_array_equal(reset, [cases[0], np.eye(2), cases[2], cases[3], np.eye(2)])
    np.testing.assert_array_equal(cured, [cases[0], *[np.eye(2)] * 3, cases[4]])
    np.testing.assert_array_equal(blended[[0, 4]], [cases[0], (cases[4] + np.eye(2)) / 2])
    np.testing.assert_array_equal(blended[2], cases[2])
    assert np.isnan(after[2:4]).any(axis=(1, 2)).all()
    assert np.isfinite(after[[0, 1, 4]]).all()


def test_the_direction_of_a_layer_and_its_length():
    L, R = np.array([[F(2), F(1)], [F(1), F(1)]]), np.array([[F(1, 3)]])
    G = np.array([[F(3)], [F(-1)]])
    found = recovered(pl.evaluate(mkor.direction, L, R, G, digits=200))
    assert (found == L @ G @ R).all()
    assert jnp.linalg.norm(mkor.rescaled(jnp.array([1e-30, 2e-30]), jnp.array([3.0, 4.0]))) == pytest.approx(
        5, rel=1e-6
    )
    np.testing.assert_array_equal(mkor.rescaled(jnp.zeros(2), jnp.array([3.0, 4.0])), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"give \[m, n\] with"):
        mkor.direction(jnp.eye(2), jnp.eye(2), jnp.ones((2, 3)))
