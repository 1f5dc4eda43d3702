"""Convolutions and sums over windows equal the definition; where nothing is rounded they equal JAX's own."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scalar_sums import Sums
from test_sums import name, same

import precond_lab as pl

ARITHMETICS = [
    pl.Arithmetic("bfloat16"),
    pl.Arithmetic("float8_e5m2", order="pairwise", accumulate="float16", rounding="toward_zero"),
    pl.Arithmetic("float16", order="exact"),
]


def small_integers(seed, *shape):
    return np.random.default_rng(seed).integers(-8, 8, shape).astype(np.float32)


def convolve(x, w, **options):
    return lax.conv_general_dilated(x, w, **options)


CONVOLUTIONS = {
    "padded, strided, dilated, in groups": lambda x, w: convolve(
        x,
        w,
        window_strides=(2, 1),
        padding=((1, 2), (0, -1)),
        lhs_dilation=(1, 2),
        rhs_dilation=(2, 1),
        dimension_numbers=("NCHW", "OIHW", "NHWC"),
        feature_group_count=2,
    ),
    "same, in groups of the batch": lambda x, w: convolve(
        x,
        jnp.tile(w, (1, 2, 1, 1)),
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
        batch_group_count=2,
    ),
    "valid, features last": lambda x, w: convolve(
        jnp.transpose(x, (0, 2, 3, 1)),
        jnp.transpose(jnp.tile(w, (1, 2, 1, 1)), (2, 3, 1, 0)),
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ),
    "two filters along one axis": lambda x, w: convolve(
        x[:, :3, 0], w[:4, :, 0], window_strides=(3,), padding=((2, 2),)
    ),
}


def pooling(x):
    window, strides = (1, 1, 3, 2), (1, 1, 2, 1)
    return {
        "sums": lax.reduce_window(x, 0.0, lax.add, (1, 2, 3, 2), (1, 2, 1, 1), "SAME"),
        "dilated": lax.reduce_window(x, 0.0, lax.add, window, strides, "VALID", (1, 1, 2, 1), (1, 1, 1, 3)),
        "max": lax.reduce_window(x, -jnp.inf, lax.max, window, strides, "SAME"),
        "product": lax.reduce_window(x, 1.0, lambda a, b: a * b, (1, 1, 1, 2), strides, "VALID"),
        "gradient of averages": jax.grad(lambda x: jnp.sum(_average(x) ** 2))(x),
        "gradient of maxima": jax.grad(lambda x: jnp.sum(_maximum(x) * (jnp.arange(x.size) % 7).reshape(x.shape)))(x),
    }


def _average(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 1, 3, 2), (1, 1, 2, 1), "VALID") / 8


def _maximum(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 2), (1, 1, 1, 1), "SAME")


@pytest.mark.parametrize("order", ["sequential", pytest.param("pairwise", marks=pytest.mark.slow)])
def test_what_needs_no_rounding_is_what_jax_computes(order):
    x, w = small_integers(1, 4, 6, 7, 8), small_integers(2, 6, 3, 2, 4)

    def everything(x, w):
        return {key: f(x, w) for key, f in CONVOLUTIONS.items()} | pooling(x)

    got = pl.emulate(everything, pl.Arithmetic("float32", order=order))(x, w)
    for key, want in jax.jit(everything)(x, w).items():
        np.testing.assert_array_equal(got[key], want, err_msg=key)
        assert got[key].dtype == want.dtype


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=name)
def test_convolutions_and_windows_equal_the_definition(arithmetic):
    generator = np.random.default_rng(3)
    x = np.asarray(pl.round_to(generator.normal(size=(2, 2, 4, 3)), arithmetic.result))
    w = np.asarray(pl.round_to(generator.normal(size=(3, 2, 2, 2)), arithmetic.result))

    def both(x, w):
        conv = convolve(x, w, window_strides=(2, 1), padding=((1, 0), (0, 1)))
        return conv, lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 1), ((0, 0), (0, 0), (1, 0), (0, 1)))

    conv, sums = pl.emulate(both, arithmetic)(x.astype(np.float32), w.astype(np.float32))
    law = Sums(arithmetic)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 1)))
    for n, i, j in itertools.product(range(2), range(2), range(3)):
        window = padded[n, :, 2 * i : 2 * i + 2, j : j + 2]
        for o in range(3):
            pairs = [(float(window[c, p, q]), float(w[o, c, p, q])) for p, q, c in np.ndindex(2, 2, 2)]
            same(conv[n, o, i, j], law.dot(pairs))
        for c in range(2):
            same(sums[n, c, i, j], law.sum(window[c].ravel().tolist()))


def test_the_derivatives_are_those_of_the_linear_operations():
    x, w = small_integers(4, 4, 6, 7, 8), small_integers(5, 6, 3, 2, 4)

    def loss(run):
        def f(x, w):
            return jnp.sum(CONVOLUTIONS["padded, strided, dilated, in groups"](x, w)) + jnp.sum(_average(x) * 8)

        return jax.grad(run(f), (0, 1))(x, w)

    for ours, plain in zip(loss(lambda f: pl.emulate(f, "bfloat16")), loss(lambda f: f), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_convolutions_and_cumulative_sums_of_nothing():
    kernel, arithmetic = np.ones((2, 1, 2, 2), np.float32), pl.Arithmetic("bfloat16", order="blocked(2)")
    for x, w in [(np.zeros((0, 1, 4, 4)), kernel), (np.zeros((1, 0, 4, 4)), kernel[:, :0])]:
        got = pl.emulate(lambda x, w: lax.conv(x, w, (1, 1), "SAME"), arithmetic)(x.astype(np.float32), w)
        assert got.shape == (len(x), 2, 4, 4)
        assert not got.any()
    assert pl.emulate(lambda x: jnp.cumsum(x, 0), arithmetic)(np.zeros((3, 0), np.float32)).shape == (3, 0)
