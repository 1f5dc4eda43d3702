"""What a user may hand to the programs of rank one, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one import METHODS

ONES = np.ones((1, 2), np.float32)


def test_whole_numbers_do_not_wrap_around():
    square = 70000.0**2  # more than 2^32, and what 1 + square has to do with 1 costs square u of the result
    with jax.enable_x64(True):
        P = rank_one.sherman_morrison(jnp.eye(2, dtype=jnp.int32), [70000, 0], [70000, 0])
        step = rank_one.eva(np.int32([[70000]]), np.int32([70000]), np.int32([1]), 1)
    assert abs(float(P[0, 0]) * (1 + square) - 1) <= 4 * 2.0**-53 * square
    assert abs(float(step[0, 0]) * (1 + square) / 70000 - 1) <= 4 * 2.0**-53 * square
    np.testing.assert_array_equal(rank_one.woodbury([[1, 0], [0, 1]], [[1], [0]], [[1], [2]]), [[0.5, -1], [0, 1]])
    form = METHODS["bierman_ud"]
    last, _ = rank_one.run(form, form.start(jnp.ones(2)), [[1, 0]], 1.0, 1.0)
    np.testing.assert_array_equal(form.inverse(last), [[0.5, 0], [0, 1]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_weights_that_are_numbers_take_the_type_of_the_state(dtype):
    for name in ("symmetric", "bierman_ud", "ldl"):
        form = METHODS[name]
        last, _ = jax.jit(lambda V, form=form: rank_one.run(form, form.start(jnp.ones(2, V.dtype)), V, 0.5, 0.5))(
            jnp.ones((1, 2), dtype)
        )
        assert {x.dtype for x in last if jnp.issubdtype(x.dtype, jnp.floating)} == {jnp.dtype(dtype)}


def test_a_stream_wider_than_the_state_is_refused():
    form = METHODS["symmetric"]
    with pytest.raises(TypeError, match="state of bfloat16 given with vectors of float32"):
        rank_one.run(form, form.start(jnp.ones(2, jnp.bfloat16)), ONES, 0.5)


@pytest.mark.parametrize("beta", [0.0, 1.0, 1.5])
def test_a_decay_that_leaves_no_weight_is_refused(beta):
    form = METHODS["symmetric"]
    with pytest.raises(ValueError, match="for a sum give alpha = 1"):
        rank_one.run(form, form.start(jnp.ones(2)), ONES, beta)


def test_what_is_no_recursion_is_refused():
    with pytest.raises(TypeError, match=r"give one of rank_one\.METHODS"):
        rank_one.run("symmetric", METHODS["symmetric"].start(jnp.ones(2)), ONES, 0.5)  # pyright: ignore


@pytest.mark.parametrize("damping", [0, -1.0, np.float32(-1), float("inf")], ids=str)
def test_damping_that_is_not_positive_is_refused(damping):
    G, a, b = np.ones((2, 3)), np.ones(3), np.ones(2)
    for call in (
        lambda: rank_one.eva(G, a, b, damping),
        lambda: rank_one.eva_split(G, a, b, damping),
        lambda: rank_one.eva_f(G, a, b, damping),
        lambda: rank_one.eva_s(G, damping=damping),
        lambda: rank_one.rank_one_root(a, 2, damping),
        lambda: rank_one.apply_root(a, a, 2, damping),
    ):
        with pytest.raises(ValueError, match="give a positive number"):
            call()


def test_a_power_that_is_not_positive_is_refused():
    for p in (0, -1, np.int64(-1), np.float32(-2)):
        with pytest.raises(ValueError, match="give a positive number"):
            rank_one.rank_one_root([1.0, 1.0], p, 1.0)


def test_a_damping_in_the_place_of_b_is_refused():
    with pytest.raises(ValueError, match="b of shape"):
        rank_one.eva_f(np.ones((2, 3)), np.ones(3), 0.1)


def test_dense_programs_state_their_symmetry_under_emulation():
    """The claim of the docstring: products of both sides are summed in one order, whatever the size."""
    generator = np.random.default_rng(0)
    P, u = np.float32(pl.gallery.spd(16, condition=10.0)), np.float32(generator.standard_normal(16))
    X = pl.emulate(rank_one.sherman_morrison, "bfloat16")(P, u, u)
    np.testing.assert_array_equal(X, X.T)
