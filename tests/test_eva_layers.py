"""What Eva needs around its closed form: one factor for all layers, running averages, the vectors of a layer."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners.rank_one.averages import AVERAGES, average_step, average_vector, start_average
from precond_lab.preconditioners.rank_one.clipping import kl_clip, norm_graft
from precond_lab.preconditioners.rank_one.layers import convolution_vectors, layer_vectors

F = Fraction


def fractions(*shape, generator):
    x = np.empty(shape, object)
    for index in np.ndindex(*shape):
        x[index] = F(int(generator.integers(-9, 10)), int(generator.integers(1, 10)))
    return x


def recovered(x):
    """The rational numbers, of denominators below 10^80, that results with 200 digits stand for."""

    def one(value):
        near = F(*value.as_integer_ratio())
        found = near.limit_denominator(10**80)
        assert abs(found - near) < F(1, 10**180)
        return found

    return np.vectorize(one, otypes=[object])(x)


# The clip


def test_the_clip_is_one_factor_for_all_layers():
    P = {"first": jnp.array([[1.0, 2.0]]), "second": jnp.array([2.0])}
    G = {"first": jnp.array([[2.0, 1.0]]), "second": jnp.array([6.0])}
    scaled = kl_clip(P, G, 0.5, 0.25)  # sum 16, sqrt(1/4 / 16) / (1/2)
    assert scaled.factor.item() == 0.25
    assert scaled.gradients["first"].tolist() == [[0.25, 0.5]]
    assert kl_clip(P, G, 2.0**-10, 0.25).factor.item() == 1.0
    opposite = jax.tree.map(jnp.negative, P)
    assert kl_clip(opposite, G, 0.5).factor.item() == 1.0
    zero = jax.tree.map(jnp.zeros_like, P)
    assert kl_clip(zero, zero, 0.5).factor.item() == 1.0
    assert norm_graft(zero, zero).gradients["second"].tolist() == [0.0]
    grafted = norm_graft(P, G)
    assert grafted.factor.item() == pytest.approx((41 / 9) ** 0.5, rel=16 * 2.0**-24)
    bounded = kl_clip(P, G, 3.0, 0.01)
    inner = sum(float(jnp.vdot(bounded.gradients[k], P[k] * 0 + bounded.factor * G[k])) for k in P)
    assert 9 * inner == pytest.approx(0.01, rel=128 * 2.0**-24)  # rate^2 <nu P, nu G> is kappa


def test_the_square_of_the_rate_is_not_formed():
    P, G, rate = jnp.full(1, 64.0), jnp.full(1, 64.0), 2.0**-13
    wide = kl_clip(P, G, rate, 2.0**-20).factor.item()
    assert wide < 1
    assert pl.emulate(kl_clip, "float16")(P, G, np.float32(rate), np.float32(2.0**-20)).factor == pytest.approx(wide)


# Averages


def averages_of(form, samples, weight, start):
    state = start_average(start)
    step = lambda state, y: (average_step(state, y, new_weight=weight, form=form), None)  # noqa: E731
    return jax.lax.scan(step, state, samples)[0]


def test_the_forms_are_one_average_in_exact_arithmetic():
    samples = fractions(4, 2, generator=np.random.default_rng(3))
    wanted = np.array([F(1), F(-1)])
    for y in samples:
        wanted = F(3, 7) * y + F(4, 7) * wanted
    for form in AVERAGES:
        state = pl.evaluate(partial(averages_of, form), samples, F(3, 7), np.array([F(1), F(-1)]), digits=200)
        assert (recovered(state.value) == wanted).all()
        assert max(abs(state.lost)) < 1e-190


def test_the_weights_of_both_conventions_add_up_to_one():
    x, y = jnp.array([1.0, -2.0]), jnp.array([3.0, 5.0])
    new, old = average_vector(x, y, new_weight=0.25), average_vector(x, y, old_weight=0.75)
    np.testing.assert_array_equal(new, old)
    assert new.tolist() == [1.5, -0.25]
    assert average_vector(x, y, new_weight=0.25, form="incremental").tolist() == [1.5, -0.25]


@pytest.mark.parametrize("form", AVERAGES)
def test_averages_stand_still_in_bfloat16_unless_compensated(form):
    """From 1 to 1.3 with an old weight of 0.99: the change 0.003 is below half the spacing of one, 2^-8."""
    samples = np.full((1500, 1), 1.296875, np.float32)
    wide = {"scalars": "float32"}
    arithmetic = pl.Arithmetic("bfloat16", overrides=wide)
    run = jax.jit(pl.emulate(partial(averages_of, form), arithmetic))
    state = jax.tree.map(np.asarray, run(samples, np.float32(2.0**-7), np.ones(1, np.float32)))
    if form == "compensated":
        assert abs(state.value[0] - 1.296875) <= 2.0**-7  # one spacing of it
    else:
        assert state.value[0] == 1.0


# The vectors of layers


def test_the_scale_of_b_is_explicit_and_the_bias_gradient_is_b():
    generator = np.random.default_rng(8)
    batch, n, m = 4, 3, 2
    X = generator.integers(-4, 5, (batch, n)).astype(np.float32)
    W, bias, target = np.ones((m, n), np.float32), np.ones(m, np.float32), np.zeros((batch, m), np.float32)

    def loss(bias, outputs):
        return jnp.mean(jnp.sum((X @ W.T + bias + outputs - target) ** 2, axis=1))

    gradients = jax.grad(loss, argnums=(0, 1))
    wanted, at_outputs = map(np.asarray, jax.jit(gradients)(bias, np.zeros((batch, m), np.float32)))
    released, means, without, sequences = jax.jit(
        lambda X, Y: (
            layer_vectors(X, Y, mean_loss=False),
            layer_vectors(X, Y),
            layer_vectors(X, Y, bias=False),
            layer_vectors(X.reshape(2, 2, n), Y.reshape(2, 2, m)),
        )
    )(X, at_outputs)
    np.testing.assert_array_equal(means.b, wanted)
    np.testing.assert_array_equal(batch * released.b, wanted)
    np.testing.assert_array_equal(means.a, [*X.mean(axis=0), 1])
    np.testing.assert_array_equal(without.a, X.mean(axis=0))
    np.testing.assert_array_equal(sequences.a, means.a)
    np.testing.assert_array_equal(sequences.b, wanted / 2)  # two of the four are samples


@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (0, 0)), ((2, 1), (1, 2))])
def test_the_vectors_of_a_convolution_are_means_of_its_patches(stride, padding):
    generator = np.random.default_rng(9)
    X = generator.integers(-8, 9, (2, 3, 5, 6)).astype(np.float32)
    sides = [(size, size) for size in padding]
    places = (4, 4) if stride == (1, 1) else (3, 8)
    Y = generator.integers(-8, 9, (2, 4, *places)).astype(np.float32)

    @jax.jit
    def run(X, Y):
        patches = jax.lax.conv_general_dilated_patches(X, (2, 3), stride, sides)
        return patches, convolution_vectors(X, Y, (2, 3), stride=stride, padding=padding)

    patches, (a, b) = run(X, Y)
    np.testing.assert_allclose(a, [*np.mean(patches, axis=(0, 2, 3)), 1], rtol=16 * 2.0**-24, atol=16 * 2.0**-24)
    np.testing.assert_allclose(b, 2 * Y.mean(axis=(0, 2, 3)), rtol=16 * 2.0**-24, atol=16 * 2.0**-24)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_clip([jnp.ones(2)], [jnp.ones(3)], 0.1), "same layers"),
        (lambda: kl_clip([jnp.ones(2)], [jnp.ones(2)], 0.1, 0.0), "norm_graft"),
        (lambda: norm_graft([jnp.ones(2)], (jnp.ones(2),)), "same layers"),
        (lambda: average_vector(jnp.ones(2), jnp.ones(2)), "give one of them"),
        (lambda: average_vector(jnp.ones(2), jnp.ones(2), new_weight=0.1, old_weight=0.9), "give one of them"),
        (lambda: average_vector(jnp.ones(2), jnp.ones(2), new_weight=1.5), "from 0 to 1"),
        (lambda: average_vector(jnp.ones(2), jnp.ones(3), new_weight=0.5), "shape"),
        (lambda: average_vector(jnp.ones(2), jnp.ones(2), new_weight=0.5, form="compensated"), "average_step"),
        (lambda: average_vector(jnp.ones(2), jnp.ones(2), new_weight=0.5, form="kahan"), "known are convex"),
        (lambda: layer_vectors(jnp.ones((4, 3)), jnp.ones((5, 2))), "same axes"),
        (lambda: convolution_vectors(jnp.ones((2, 1, 4, 4)), jnp.ones((2, 1, 4, 4)), (2, 2)), r"has \(3, 3\)"),
        (lambda: convolution_vectors(jnp.ones((2, 4, 4)), jnp.ones((2, 1, 4, 4)), (2, 2)), "batch, C, H, W"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
