"""Code of others, unmodified, gives under `emulate` what the scalar interpreter gives, bit for bit.

Optimizers of optax, a step of K-FAC, a block of a transformer and a layer of a convolutional network, with their
gradients: written as their users write them, knowing no number format.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from scalar_interpreter import ScalarInterpreter
from test_emulate import assert_same_bits

import precond_lab as pl

f32 = np.float32


def assert_is_the_oracle(function, arithmetic, *args):
    """Results, and their shapes, in an arithmetic; at least one result is a number other than zero."""
    record = arithmetic.result, arithmetic.rounding, arithmetic.accumulate, arithmetic.order, arithmetic.fma
    want, _ = ScalarInterpreter(*record)(function, *args)
    got = pl.emulate(function, arithmetic)(*args)
    assert_same_bits(got, want)
    floats = [x for x in map(np.asarray, jax.tree.leaves(got)) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert any((np.isfinite(x) & (x != 0)).any() for x in floats)


# Optimizers.

OPTIMIZERS = {
    "sgd": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=1e-2),
    "nadam": optax.nadam(1e-2),
    "adamax": optax.adamax(1e-2),
    "amsgrad": optax.amsgrad(1e-2),
    "adabelief": optax.adabelief(1e-2),
    "adagrad": optax.adagrad(0.1),
    "adadelta": optax.adadelta(0.1),
    "rmsprop": optax.rmsprop(1e-2, momentum=0.9, centered=True),
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=2),
    "adan": optax.adan(1e-2),
    "lion": optax.lion(1e-3),
    "lars": optax.lars(0.1),
    "lamb": optax.lamb(1e-2),
    "radam": optax.radam(1e-2),
    "rprop": optax.rprop(1e-2),
    "sm3": optax.sm3(0.1),
    "yogi": optax.yogi(1e-2),
    "novograd": optax.novograd(1e-2),
    "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(optax.cosine_decay_schedule(1e-2, 10))),
    "muon": optax.contrib.muon(1e-2),
    "ademamix": optax.contrib.ademamix(1e-2),
    "adopt": optax.contrib.adopt(1e-2),
    "acprop": optax.contrib.acprop(1e-2),
    "cocob": optax.contrib.cocob(),
    "dadapt_adamw": optax.contrib.dadapt_adamw(),
    "dog": optax.contrib.dog(),
    "dowg": optax.contrib.dowg(),
    "madgrad": optax.contrib.madgrad(1e-2),
    "prodigy": optax.contrib.prodigy(),
    "schedule_free": optax.contrib.schedule_free_sgd(0.1),
    "simplified_ademamix": optax.contrib.simplified_ademamix(1e-2),
}


def steps(optimizer, parameters, gradients):
    """Two steps of an optimizer from its first state."""
    state = optimizer.init(parameters)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return parameters, state


def draw_step(seed=0):
    rng = np.random.default_rng(seed)

    def tree():
        return {"weights": rng.normal(size=(3, 2)).astype(f32), "bias": rng.normal(size=2).astype(f32)}

    return tree(), [tree(), tree()]


COMMON = ("sgd", "adamw", "lion", "muon", "clipped")
OTHERS = (
    pl.Arithmetic("float16", "toward_zero"),
    pl.Arithmetic("float8_e4m3fn"),
    pl.Arithmetic("bfloat16", "up", accumulate="float32"),
    pl.Arithmetic("float8_e5m2", "odd"),
)


@pytest.mark.parametrize("name", COMMON)
def test_steps_of_common_optimizers(name):
    assert_is_the_oracle(functools.partial(steps, OPTIMIZERS[name]), pl.Arithmetic("bfloat16"), *draw_step())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - set(COMMON)))
def test_steps_of_other_optimizers(name):
    assert_is_the_oracle(functools.partial(steps, OPTIMIZERS[name]), pl.Arithmetic("bfloat16"), *draw_step())


@pytest.mark.slow
@pytest.mark.parametrize(("i", "name"), list(enumerate(OPTIMIZERS)))
def test_steps_of_optimizers_in_other_arithmetics(i, name):
    for k in range(2):
        arithmetic = OTHERS[(i + k) % len(OTHERS)]
        assert_is_the_oracle(functools.partial(steps, OPTIMIZERS[name]), arithmetic, *draw_step())


# Networks.


def layer_norm(x, scale, shift):
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * scale + shift


def block(p, x):
    """A block of a transformer: causal attention with two heads, then two dense layers, each beside a shortcut."""
    batch, length, width = x.shape
    q, k, v = jnp.split(layer_norm(x, p["scale"], p["shift"]) @ p["qkv"], 3, axis=-1)
    heads = [y.reshape(batch, length, 2, width // 2) for y in (q, k, v)]
    x = x + jax.nn.dot_product_attention(*heads, is_causal=True).reshape(x.shape) @ p["out"]
    return x + jax.nn.gelu(layer_norm(x, p["scale"], p["shift"]) @ p["up"]) @ p["down"]


def draw_block(seed=1):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(f32)

    p = {"qkv": normal(4, 12), "out": normal(4, 4), "up": normal(4, 5), "down": normal(5, 4)}
    p |= {"scale": 1 + normal(4) / 8, "shift": normal(4) / 8}
    return p, normal(1, 3, 4)


def gradient_of_block(p, x):
    return jax.value_and_grad(lambda p: jnp.mean(optax.l2_loss(block(p, x), x[:, ::-1])))(p)


def network(p, images):
    """Two convolutions, one strided, a bias, a maximum over windows and a dense layer; the loss of a classifier."""
    y = jax.lax.conv_general_dilated(images, p["first"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = jax.nn.relu(y + p["bias"])
    y = jax.lax.conv_general_dilated(y, p["second"], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    logits = jax.nn.silu(y.reshape(y.shape[0], -1)) @ p["dense"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(images.shape[0])))


def draw_network(seed=2):
    rng = np.random.default_rng(seed)
    shapes = {"first": (3, 3, 1, 2), "bias": (2,), "second": (2, 2, 2, 2), "dense": (8, 3)}
    return {k: rng.normal(size=s).astype(f32) for k, s in shapes.items()}, rng.normal(size=(2, 4, 5, 1)).astype(f32)


def kfac(p, x, labels):
    """A step of K-FAC (Martens & Grosse 2015) on a dense layer: Kronecker factors, damped, solved with, two-sided."""

    def loss(w):
        logits = jnp.tanh(x @ w)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels)), logits

    gradient, logits = jax.grad(loss, has_aux=True)(p)
    residual = (jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[1])) * (1 - logits**2)
    A, G = x.T @ x / x.shape[0], residual.T @ residual / x.shape[0]
    pi = jnp.sqrt((jnp.trace(A) / A.shape[0]) / (jnp.trace(G) / G.shape[0]))
    left = A + 0.25 * pi * jnp.eye(A.shape[0])
    right = G + 0.25 / pi * jnp.eye(G.shape[0])
    return p - 0.5 * jnp.linalg.solve(left, jnp.linalg.solve(right, gradient.T).T)


def draw_kfac(n=3, seed=3):
    rng = np.random.default_rng(seed)
    p, x = rng.normal(size=(n, 2)), rng.normal(size=(n + 1, n))
    return p.astype(f32), x.astype(f32), np.array([0, 1, 1, 0])[: n + 1]


@pytest.mark.parametrize("f", [block, pytest.param(gradient_of_block, marks=pytest.mark.slow)])
def test_a_transformer_block_and_its_gradient(f):
    assert_is_the_oracle(f, pl.Arithmetic("bfloat16", accumulate="float32"), *draw_block())


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_step_of_kfac(n):
    assert_is_the_oracle(kfac, pl.Arithmetic("float16", linalg="expand"), *draw_kfac(n))


def test_a_convolutional_network_and_its_gradient():
    assert_is_the_oracle(jax.value_and_grad(network), pl.Arithmetic("bfloat16"), *draw_network())


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", [a for a in OTHERS if a.result.has_infinity], ids=str)  # for masks
def test_networks_in_other_arithmetics(arithmetic):
    assert_is_the_oracle(gradient_of_block, arithmetic, *draw_block())
    assert_is_the_oracle(kfac, dataclasses.replace(arithmetic, linalg="expand"), *draw_kfac())
    assert_is_the_oracle(jax.value_and_grad(network), arithmetic, *draw_network())
