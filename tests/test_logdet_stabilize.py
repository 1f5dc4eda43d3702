"""The stabilized LogDet program: Algorithm 3, and the breakdowns that it cures."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab import gallery
from precond_lab.diagnosis.logdet_condition import pivots
from precond_lab.preconditioners import logdet

U64 = 2.0**-53


def in_float64(function: Callable, *arguments: Any, **options: Any) -> Any:
    """The function on float64 arrays, its result as NumPy arrays."""
    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.asarray, arguments)
        return jax.tree.map(np.asarray, function(*arguments, **options))


chains = st.builds(
    gallery.chain_by_condition,
    st.sampled_from([2, 9]),  # few shapes: every new one is compiled
    condition=st.floats(1, 40).map(lambda k: 2.0**k),
    seed=st.integers(0, 2**32 - 1),
)


def test_identical_histories_have_no_projection():
    G = np.random.default_rng(3).integers(-8, 9, (6, 5)).astype(float)
    G[:, 3] = G[:, 2]
    H = np.stack([np.sum(G * G, 0), np.append(np.sum(G[:, 1:] * G[:, :-1], 0), 0.0)])
    assert np.isinf(in_float64(logdet.project, H).D[2])
    factor, kept = in_float64(logdet.stabilize, H, 0.0)
    assert kept.tolist() == [[True, True, False, True, False]]
    assert factor.D[2] == 1 / H[0, 2]


def test_one_gradient_makes_every_edge_singular():
    # Powers of two: H12^2 / H22 is exact, so s is exactly zero.
    g = jnp.array([1.0, -2.0, 0.5, 4.0])
    factor = logdet.project(logdet.band_outer(g))
    assert np.isinf(factor.D[:-1]).all()
    _, kept = logdet.stabilize(logdet.band_outer(g), 0.0)
    assert not kept.any()


def test_literal_rule_drops_both_edges_of_a_vertex():
    H = jnp.array([[2.0, 4.0, 4.0, 2.0], [1.0, 4.0, 1.0, 9.0]])  # vertex 1 fails: 4 - 4 * 4 / 4 = 0
    one_sided, kept = logdet.stabilize(H, 0.0)
    assert kept.tolist() == [[True, False, True, False]]
    assert one_sided.D.tolist() == [1 / np.float32(1.75), 0.25, 1 / np.float32(3.5), 0.5]
    literal, kept = logdet.stabilize(H, 0.0, rule="literal")
    assert kept.tolist() == [[False, False, True, False]]
    assert literal.D.tolist() == [0.5, 0.25, 1 / np.float32(3.5), 0.5]
    assert literal.L.tolist() == [[0.0, 0.0, -0.5, 0.0]]


wild = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False) | st.just(np.nan) | st.just(np.inf)


@given(
    st.data(),
    st.sampled_from([2, 9]),
    st.sampled_from([0.0, 2.0**-23, 2.0**-7]),
    st.sampled_from(["one_sided", "literal"]),
)
@settings(max_examples=100, deadline=None)
def test_stabilized_factors_are_finite_and_positive(data, n, tolerance, rule):
    """Any finite positive diagonal, any edges at all: D is finite and positive, u finite and a descent."""
    diagonal = data.draw(st.lists(st.floats(2.0**-20, 2.0**20, width=32), min_size=n, max_size=n))
    edge = data.draw(st.lists(wild, min_size=n, max_size=n))
    H = jnp.array([diagonal, edge], jnp.float32)
    factor, kept = logdet.stabilize(H, tolerance, rule=rule)
    assert np.isfinite(factor.D).all()
    assert (factor.D > 0).all()
    assert np.isfinite(factor.L).all()
    assert not kept[0, -1]
    assert not (kept[0, :-1] & ~np.isfinite(H[1, :-1])).any()
    g = jnp.array(data.draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)), jnp.float32)
    u = logdet.apply(factor, g)
    assert np.isfinite(u).all()
    # What is dropped is as if it had never been there.
    again = logdet.project(logdet.cut(H, kept))
    assert np.array_equal(again.D, factor.D)
    assert np.array_equal(again.L, factor.L)


@given(chains, st.integers(-30, 30))
@settings(max_examples=20, deadline=None)
def test_relative_tolerance_is_scale_free(H, k):
    _, kept = in_float64(logdet.stabilize, H, 0.125)
    _, scaled = in_float64(logdet.stabilize, H * 2.0**k, 0.125)
    assert np.array_equal(kept, scaled)
    assert np.array_equal(kept[0, :-1], pivots(H) > 0.125) or np.any(np.abs(pivots(H) - 0.125) < 1e-12)


def test_absolute_tolerance_is_not_scale_free():
    H = jnp.array([[2.0, 2.0], [1.0, 0.0]])  # s = 1.5
    assert logdet.stabilize(H, 1.0, relative=False)[1][0, 0]
    assert not logdet.stabilize(H / 2, 1.0, relative=False)[1][0, 0]


@pytest.mark.parametrize("tolerance", [-1e-3, np.nan, np.float32(-1), jnp.array(np.nan), jnp.array(-1.0, jnp.bfloat16)])
@pytest.mark.parametrize("rows", [1, 2])
def test_tolerances_that_are_negative_or_nan_are_refused(rows, tolerance):
    H = jnp.array([[2.0, 2.0], [1.0, 0.0]])[:rows]
    with pytest.raises(ValueError, match=r"tolerance .* given; it must be zero or positive"):
        logdet.stabilize(H, tolerance)
    with pytest.raises(ValueError, match="zero or positive"):
        jax.jit(lambda H: logdet.stabilize(H, tolerance))(H)
    jax.jit(logdet.stabilize)(H, tolerance)  # traced: there is no value to look at


@given(chains, st.sampled_from([2.0**-4, 2.0**-8, 2.0**-16]))
@settings(max_examples=20, deadline=None)
def test_stabilization_bounds_the_condition(H, tolerance):
    """The kept edges have 2 / (1 - beta^2) < 2 / tolerance, up to the error of the tested s."""
    _, kept = in_float64(logdet.stabilize, H, tolerance)
    remaining = pivots(H)[kept[0, :-1]]
    assert (remaining > tolerance - 4 * U64).all()


def test_negative_pivot_in_bfloat16_is_seen_and_cured():
    """A positive definite chain whose first pivot comes out negative in bfloat16: the direction ascends."""
    H = [[1.7890625, 1.59375, 2.0], [1.6875, 0.5, 0.0]]
    g = [1.0, -1.0, 0.5]
    factor = in_float64(logdet.project, H)
    assert factor.D[0] == pytest.approx(435.2, rel=1557 * U64)
    u = in_float64(logdet.apply, factor, g)
    np.testing.assert_allclose(u, [896.0, -949.4718398, 0.4414894], rtol=1e-7)  # seven digits are known
    assert u @ g == pytest.approx(1845.69, rel=1e-5)

    low, g = jnp.array(H, jnp.bfloat16), jnp.array(g, jnp.bfloat16)
    naive = logdet.project(low)
    assert float(naive.D[0]) == -128.0
    assert logdet.apply(naive, g).tolist() == [-264.0, 280.0, 0.44140625]
    for tolerance in (0, 2**-7):
        stable, kept = logdet.stabilize(low, tolerance)
        assert kept.tolist() == [[False, True, False]]
        assert stable.D.tolist() == [0.55859375, 0.6796875, 0.5]
        assert logdet.apply(stable, g).tolist() == [0.55859375, -0.765625, 0.44140625]


def test_small_pivots_in_bfloat16_are_noise():
    garbage = jnp.array([[1.8203125, 3.921875], [2.671875, 0.0]], jnp.bfloat16)
    factor, kept = logdet.stabilize(garbage, 0)
    assert kept[0, 0]
    assert float(factor.D[0]) == 128.0  # s = 2^-7, where 3.1125e-5 is exact
    assert not logdet.stabilize(garbage, 2**-7)[1][0, 0]
    zero = jnp.array([[1.03125, 3.546875], [1.90625, 0.0]], jnp.bfloat16)
    assert np.isinf(logdet.project(zero).D[0])
    assert not logdet.stabilize(zero, 0)[1][0, 0]
