"""Laws of the autoencoder and of the stream of its gradients."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest

from precond_lab.training import autoencoder, gradient_stream, load_images
from precond_lab.training.curves import curves
from precond_lab.training.stream import minibatches, update

MNIST = Path(__file__).parents[1].parent / "shared" / "data" / "mnist"
SMALL = (784, 40, 20, 6, 20, 40, 784)
UNIT_ROUNDOFF = {np.float32: 2.0**-24, np.float64: 2.0**-53}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return curves(600, seed=0, cache=tmp_path_factory.mktemp("curves"))


def in_float64(params):
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), params)


def leaves_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


# The network


def test_the_network_of_the_benchmark_has_its_parameters():
    shapes = jax.eval_shape(autoencoder.initialize, jax.random.key(0))
    assert [layer.kernel.shape for layer in shapes] == list(
        zip(autoencoder.WIDTHS[:-1], autoencoder.WIDTHS[1:], strict=True)
    )
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == 2_837_314


def test_kernels_are_glorot_uniform_and_biases_zero():
    for layer in autoencoder.initialize(jax.random.key(1), SMALL):
        m, n = layer.kernel.shape
        bound = math.sqrt(6 / (m + n))
        kernel = np.asarray(layer.kernel, np.float64)
        assert np.abs(kernel).max() <= bound * (1 + 4 * 2**-24)
        # The variance is bound^2 / 3, within five standard deviations of its estimate from m n draws.
        assert abs(kernel.var() - bound**2 / 3) <= 5 * bound**2 * math.sqrt((1 / 5 - 1 / 9) / (m * n))
        assert not layer.bias.any()
        assert layer.kernel.dtype == layer.bias.dtype == jnp.float32


def test_the_code_and_the_output_are_linear(images):
    # By hand, with tanh after layers 0, 1, 3, 4 of six. The bound: each of six products sums at most 784
    # terms, and the kernels' norms do not enlarge a difference more than a few times on the way.
    params = autoencoder.initialize(jax.random.key(2), SMALL)
    x = np.asarray(images.pixels[:10], np.float64)
    for position, layer in enumerate(params):
        x = x @ np.asarray(layer.kernel, np.float64) + np.asarray(layer.bias, np.float64)
        x = np.tanh(x) if position in {0, 1, 3, 4} else x
    logits = autoencoder.reconstruct(params, jnp.asarray(images.pixels[:10]))
    assert np.abs(np.asarray(logits) - x).max() <= 6 * 784 * 2**-24 * np.abs(x).max()


@pytest.mark.parametrize(
    "widths",
    [
        (),
        (4,),
        (4, 4),
        (4, 2, 2, 4),
        (4, 2, 3),
        (4, 0, 4),
        (4, -2, 4),
        (4, 2.0, 4),
        (4, 3, 2, 1, 4),
        ("4", "2", "4"),
    ],
)
def test_wrong_widths_are_refused(widths):
    with pytest.raises(ValueError, match=r"widths are .*; give an odd number of positive integers"):
        autoencoder.initialize(jax.random.key(0), widths)


# The loss


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_is_accurate_for_every_logit(dtype):
    # Terms are non-negative, so relative errors do not grow in their sum: exp, log1p, 1 - x, two products and
    # two sums, with at most 4 u for each of the two functions, stay below 16 u. A term that underflows is
    # worth less than the smallest normal number.
    u, tiny = UNIT_ROUNDOFF[dtype], float(np.finfo(dtype).tiny)
    sizes = [0.0, 1e-30, 1e-7, 1e-3, 0.1, 0.5, 1.0, 3.0, 10.0, 50.0, 100.0, 1e4, 1e30]
    z = np.array([sign * size for size in sizes for sign in (1, -1)], dtype)
    x = np.array([0, 1, 0.5, 1 / 255, 254 / 255, 1e-6, 1 - 1e-6], dtype)
    z, x = (grid.ravel() for grid in np.meshgrid(z, x))
    with jax.enable_x64(True), mpmath.workdps(60):
        computed = np.asarray(autoencoder.cross_entropy(jnp.asarray(z), jnp.asarray(x)), np.float64)
        logits, greys = (list(map(mpmath.mpf, grid.tolist())) for grid in (z, x))
        for value, logit, grey in zip(computed, logits, greys, strict=True):
            exact = grey * mpmath.log1p(mpmath.exp(-logit)) + (1 - grey) * mpmath.log1p(mpmath.exp(logit))
            if abs(logit) > 1e3:  # log1p(exp(z)) = z to far more than 60 digits, without exp(1e30)
                exact = grey * max(-logit, 0) + (1 - grey) * max(logit, 0)
            assert abs(value - exact) <= 16 * u * exact + tiny


def test_the_derivative_of_cross_entropy_is_the_residual():
    # sigma(z) - x, computed from terms of size at most 1: an absolute error of at most 8 u.
    z, x = (grid.ravel().astype(np.float32) for grid in np.meshgrid(np.linspace(-60, 60, 121), np.linspace(0, 1, 11)))
    derivative = jax.vmap(jax.grad(autoencoder.cross_entropy))(jnp.asarray(z), jnp.asarray(x))
    exact = 1 / (1 + np.exp(-z.astype(np.float64))) - x.astype(np.float64)
    assert np.abs(np.asarray(derivative) - exact).max() <= 8 * 2**-24


def test_at_zero_logits_the_loss_is_a_bit_a_pixel(images):
    params = jax.tree.map(jnp.zeros_like, autoencoder.initialize(jax.random.key(0), SMALL))
    value = float(autoencoder.loss(params, jnp.asarray(images.pixels)))
    assert abs(value - 784 * math.log(2)) <= (784 + 600) * 2**-24 * value


def test_no_reconstruction_beats_the_entropy_floor(images):
    x = images.pixels.astype(np.float64)
    floor = autoencoder.entropy_floor(x)
    with jax.enable_x64(True), np.errstate(divide="ignore"):
        logits = jnp.clip(np.log(x) - np.log1p(-x), -800, 800)  # of the images themselves
        best = float(jnp.mean(jnp.sum(autoencoder.cross_entropy(logits, jnp.asarray(x)), axis=1)))
        for shift in (-0.1, 0.1):
            assert float(jnp.mean(jnp.sum(autoencoder.cross_entropy(logits + shift, jnp.asarray(x)), axis=1))) > floor
    assert abs(best - floor) <= (784 + 600) * 2**-53 * floor
    assert autoencoder.entropy_floor(np.array([[0.0, 1.0]])) == 0


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not beside this repository")
def test_the_entropy_floor_of_mnist():
    assert round(autoencoder.entropy_floor(load_images(MNIST).pixels), 2) == 45.53


# The gradient


def test_gradients_are_directional_derivatives(images):
    # With D(h) the central difference, D(h) - D = c h^2 + O(h^4), so that the truncation error of D(h) is
    # close to (D(2h) - D(h)) / 3 and below |D(2h) - D(h)|. Each loss is rounded relatively by at most m u,
    # where m counts the terms of the longest chain of sums; the difference divides two of these errors by 2h.
    h, m = 1e-4, sum(SMALL) + 784 + 50
    with jax.enable_x64(True):
        batch = jnp.asarray(images.pixels[:50], jnp.float64)
        params = in_float64(autoencoder.initialize(jax.random.key(3), SMALL))
        rng = np.random.default_rng(4)
        direction = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), params)
        value, gradient = jax.jit(jax.value_and_grad(autoencoder.loss))(params, batch)
        slope = sum(float(jnp.vdot(g, v)) for g, v in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        at = jax.jit(lambda s: autoencoder.loss(jax.tree.map(lambda p, v: p + s * v, params, direction), batch))
        one, two = ((float(at(s)) - float(at(-s))) / (2 * s) for s in (h, 2 * h))
    rounding = m * 2**-53 * float(value) / h
    assert abs(one - slope) <= abs(two - one) + rounding
    assert abs(two - one) + rounding <= 1e-3 * abs(slope)  # the law has teeth


def test_the_first_gradient_is_that_of_the_initial_parameters(images):
    # In float32 a sum of m terms adds at most m u; m is the length of the longest chain of sums, forward and
    # back.
    (step,) = gradient_stream(images, SMALL, steps=1, batch_size=100, seed=5)
    chosen = next(minibatches(600, 100, seed=5))
    with jax.enable_x64(True):
        params = in_float64(autoencoder.initialize(jax.random.key(5), SMALL))
        value, exact = jax.jit(jax.value_and_grad(autoencoder.loss))(
            params, jnp.asarray(images.pixels[chosen], jnp.float64)
        )
    bound = 2 * (sum(SMALL) + 100) * 2**-24
    assert abs(step.loss - float(value)) <= bound * float(value)
    for computed, wanted in zip(jax.tree.leaves(step.gradients), jax.tree.leaves(exact), strict=True):
        assert computed.dtype == jnp.float32
        assert np.linalg.norm(np.asarray(computed, np.float64) - np.asarray(wanted)) <= bound * np.linalg.norm(wanted)


# The stream


def test_one_step_of_adam_is_the_written_formula(images):
    # m = (1 - b1) g and v = (1 - b2) g^2 are divided by 1 - b1 and 1 - b2 again, and those are formed in
    # float32 from rounded b1, b2: relative errors of u / (1 - b1) and u / (1 - b2), the latter halved by the
    # root. Eight more roundings and the final subtraction, relative to the parameter, complete the bound.
    rate, u = 1e-3, 2.0**-24
    batch = jnp.asarray(images.pixels[:100])
    before = autoencoder.initialize(jax.random.key(6), SMALL)
    old = [np.asarray(x, np.float64) for x in jax.tree.leaves(before)]
    after, _, gradients, _ = update(before, optax.adam(rate).init(before), batch, np.float32(rate))
    relative = (1 / (1 - 0.9) + 0.5 / (1 - 0.999) + 8) * u
    for p, g, q in zip(old, jax.tree.leaves(gradients), jax.tree.leaves(after), strict=True):
        slope = np.asarray(g, np.float64)
        wanted = p - rate * slope / (np.abs(slope) + 1e-8)
        assert np.all(np.abs(q - wanted) <= relative * rate + u * np.abs(wanted))


def test_the_second_gradient_is_taken_after_one_update(images):
    first, second = gradient_stream(images, SMALL, steps=2, batch_size=100, seed=7)
    batches = minibatches(600, 100, seed=7)
    params = autoencoder.initialize(jax.random.key(7), SMALL)
    state = optax.adam(1e-3).init(params)
    for step in (first, second):
        params, state, gradients, value = update(params, state, images.pixels[next(batches)], np.float32(1e-3))
        assert step.loss == float(value)
        assert leaves_equal(step.gradients, gradients)
    assert [first.t, second.t] == [1, 2]


def test_the_stream_is_bitwise_the_same_twice_and_with_64_bit_types(images):
    def run(seed):
        return list(gradient_stream(images, SMALL, steps=8, batch_size=100, seed=seed))

    once, again, other = run(0), run(0), run(1)
    with jax.enable_x64(True):
        wide = run(0)
    for a, b, c in zip(once, again, wide, strict=True):
        assert a.loss == b.loss == c.loss
        assert leaves_equal(a.gradients, b.gradients)
        assert leaves_equal(a.gradients, c.gradients)
    assert once[0].loss != other[0].loss


def test_a_suspended_stream_leaves_jax_settings_alone(images):
    with jax.enable_x64(True):
        stream = gradient_stream(images, SMALL, steps=2, batch_size=100)
        next(stream)
        assert jnp.ones(1).dtype == jnp.float64
        next(stream)
    assert jnp.ones(1).dtype == jnp.float32


def test_the_step_is_traced_once(images, monkeypatch):
    traces = []
    original = autoencoder.loss
    monkeypatch.setattr(autoencoder, "loss", lambda *args: (traces.append(1), original(*args))[1])
    for rate in (1e-3, 2e-3):  # widths that no other test has compiled
        for _ in gradient_stream(images, (784, 17, 5, 17, 784), steps=7, batch_size=150, learning_rate=rate):
            pass
    assert len(traces) == 1


def test_training_lowers_the_loss(images):
    # Over the last epoch, a quarter of the first step's excess is left, and less than the best constant
    # picture has.
    widths = (784, 100, 20, 100, 784)
    stream = gradient_stream(images, widths, steps=300, batch_size=100, learning_rate=1e-2)
    losses = [step.loss for step in stream]
    floor = autoencoder.entropy_floor(images.pixels)
    constant = autoencoder.entropy_floor(images.pixels.astype(np.float64).mean(axis=0, keepdims=True))
    final = np.mean(losses[-6:])
    assert final < constant
    assert final - floor < (losses[0] - floor) / 4


@pytest.mark.parametrize(("count", "size"), [(10, 10), (10, 3), (7, 1)])
def test_minibatches_of_an_epoch_are_disjoint(count, size):
    batches = minibatches(count, size, seed=9)
    epochs = [[next(batches) for _ in range(count // size)] for _ in range(3)]
    for epoch in epochs:
        chosen = np.concatenate(epoch)
        assert len(set(chosen.tolist())) == len(chosen) == count // size * size
        assert set(chosen.tolist()) <= set(range(count))
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 601}, "batch_size is 601; with 600 images give 1 to 600"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"widths": (10, 5, 10)}, "images have 784 pixels"),
        ({"steps": -1}, "steps is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"images": np.ones((5, 28, 28))}, r"images have shape \(5, 28, 28\)"),
        ({"images": np.full((5, 784), 255.0)}, "every grey level in"),
        ({"images": np.full((5, 784), np.nan)}, "every grey level in"),
    ],
)
def test_wrong_arguments_are_refused_at_once(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        gradient_stream(**{"images": images, "widths": SMALL, "steps": 1, "batch_size": 1, **arguments})


def test_a_diverged_training_is_an_error(images):
    stream = gradient_stream(images, SMALL, steps=50, batch_size=100, learning_rate=1e38)
    with pytest.raises(FloatingPointError, match="at step 2 of training; lower learning_rate, which is 1e"):
        list(stream)
