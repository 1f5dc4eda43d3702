"""Eva and K-FAC as optimizers: what they are told of a batch, and one contract for both."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precond_lab as pl
from precond_lab import optimizers
from precond_lab.arithmetic.roles import by_role
from precond_lab.optimizers.layers import Rows, is_layer, layer_of, matrix_of
from precond_lab.preconditioners import kronecker, rank_one
from precond_lab.preconditioners.inverse_root import LIBRARY

OPTIMIZERS = {
    "eva": optimizers.eva,
    "eva split": lambda rate, **more: optimizers.eva(rate, split=True, **more),
    "kfac": optimizers.kfac,
    "kfac eigen": lambda rate, **more: optimizers.kfac(rate, form="eigen", **more),
}
SIZES = (3, 4, 2)


@pytest.fixture(params=OPTIMIZERS, ids=str)
def make(request):
    return OPTIMIZERS[request.param]


def network(seed=0):
    generator = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(generator.standard_normal(shape), jnp.float32)  # noqa: E731
    layers = [{"b": 0.1 * draw(m), "w": draw(n, m) / n} for n, m in pairwise(SIZES)]
    return {"layers": layers, "scale": jnp.ones(2)}


def batch(seed=0, count=32):
    generator = np.random.default_rng([seed, 1])
    x = generator.standard_normal((count, SIZES[0])).astype(np.float32)
    y = np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2])], axis=1)
    return jnp.asarray(x), jnp.asarray(y, jnp.float32)


def gradients_and_rows(params, x, y):
    """The gradient of a mean squared error, and what the two layers saw, from the derivatives by their outputs."""
    first, _ = params["layers"]

    def loss(params, nudges):
        first, second = params["layers"]
        hidden = jnp.tanh(x @ first["w"] + first["b"] + nudges[0])
        out = (hidden @ second["w"] + second["b"] + nudges[1]) * params["scale"]
        return jnp.mean(jnp.sum((out - y) ** 2, axis=1))

    nudges = tuple(jnp.zeros((len(x), m)) for m in SIZES[1:])
    value, (gradients, by_output) = jax.value_and_grad(loss, argnums=(0, 1))(params, nudges)
    hidden = jnp.tanh(x @ first["w"] + first["b"])
    return value, gradients, [(x, by_output[0]), (hidden, by_output[1])]


def test_layers_are_found_and_restored():
    params = network()
    assert [is_layer(x) for x in (params, params["layers"], params["layers"][0], params["scale"])] == [0, 0, 1, 0]
    G = matrix_of(params["layers"][0])
    assert G.shape == (4, 4)
    jax.tree.map(np.testing.assert_array_equal, layer_of(G, params["layers"][0]), params["layers"][0])
    kernel, vector = jnp.zeros((3, 2)), jnp.zeros(2)
    assert [is_layer(x) for x in ((kernel, vector), {"w": kernel, "bias": vector})] == [1, 1]
    assert [is_layer(x) for x in ({"w": kernel, "scale": vector}, (kernel, jnp.zeros(3)))] == [0, 0]
    bare = jnp.arange(6.0).reshape(3, 2)
    assert matrix_of(bare).shape == (2, 3)
    np.testing.assert_array_equal(layer_of(matrix_of(bare), bare), bare)


def test_the_gradient_is_the_mean_of_output_gradients_times_inputs():
    """So that the rows of a layer are those of its gradient, in this order and with the bias last."""
    _, gradients, rows = gradients_and_rows(network(), *batch())
    for layer, (inputs, by_output) in zip(gradients["layers"], rows, strict=True):
        extended = jnp.concatenate([inputs, jnp.ones((len(inputs), 1))], axis=1)
        bound = 40 * 2.0**-24 * (jnp.abs(by_output).T @ jnp.abs(extended))  # 32 terms
        assert jnp.all(jnp.abs(matrix_of(layer) - by_output.T @ extended) <= bound)


def test_the_first_direction_is_that_of_the_formula():
    """Without clip and momentum, with the weight one of a first batch; a lone parameter takes gradient / gamma."""
    params = network()
    _, gradients, rows = gradients_and_rows(params, *batch())
    for scaled, formula in (
        (optimizers.scale_by_eva(0.1, kappa=None), lambda G, pair: rank_one.eva(G, *rank_one.layer_vectors(*pair))),
        (
            optimizers.scale_by_kfac(0.1, form="eigen", kappa=None),
            lambda G, pair: kronecker.by_eigenvectors(G, kronecker.layer_factors(*pair), 0.03, kernels=LIBRARY),
        ),
    ):
        directions, state = jax.jit(scaled.update)(gradients, scaled.init(params), params, rows=rows)
        assert state.taken == 1
        np.testing.assert_allclose(directions["scale"], gradients["scale"] / 0.03, rtol=2.0**-22)
        for P, G, pair in zip(directions["layers"], gradients["layers"], rows, strict=True):
            wanted = jax.jit(formula)(matrix_of(G), pair)
            # The same program twice, once with what the compiler makes of it inside of another: n u kappa each.
            A, B = kronecker.layer_factors(*pair)
            kappa = 1 + jnp.trace(A) * jnp.trace(B) / 0.03
            bound = min(2 * len(A) * len(B) * 2.0**-24 * kappa, 2.0**-14)
            assert jnp.linalg.norm(matrix_of(P) - wanted) <= bound * jnp.linalg.norm(wanted)


def test_the_clip_bounds_the_change_of_the_model():
    params = network()
    _, gradients, rows = gradients_and_rows(params, *batch())
    rate, kappa = 0.5, 1e-4
    scaled = optimizers.scale_by_eva(rate, kappa=kappa)
    directions, _ = scaled.update(gradients, scaled.init(params), params, rows=rows)
    total = sum(jnp.vdot(p, g) for p, g in zip(jax.tree.leaves(directions), jax.tree.leaves(gradients), strict=True))
    free, _ = (one := optimizers.scale_by_eva(rate, kappa=None)).update(gradients, one.init(params), rows=rows)
    before = sum(jnp.vdot(p, g) for p, g in zip(jax.tree.leaves(free), jax.tree.leaves(gradients), strict=True))
    # <nu P, G> = nu <P, G> with nu = sqrt(kappa / <P, G>) / rate
    # Sums of 25 products, twice, and a square root of them.
    np.testing.assert_allclose(total, np.sqrt(kappa * before) / rate, rtol=64 * 2.0**-24)
    assert rate**2 * before > kappa


def test_the_loss_falls(make):
    params, (x, y) = network(), batch()
    optimizer = make(optax.cosine_decay_schedule(0.1, 60))

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            value, gradients, rows = gradients_and_rows(params, x, y)
            updates, state = optimizer.update(gradients, state, params, rows=rows, value=value)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, optimizer.init(params)), None, length=60)[1]

    losses = train(params)
    assert losses[-1] < 0.5 * losses[0]


# LAPACK has no bfloat16, and with it K-FAC has none.
@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in OPTIMIZERS), ("eva", "bfloat16")])
def test_dtypes_and_shapes_are_kept(name, dtype):
    params, rows = network(), gradients_and_rows(network(), *batch())[2]
    params, rows = jax.tree.map(lambda x: x.astype(dtype), (params, rows))
    optimizer = OPTIMIZERS[name](0.1)
    state = jax.eval_shape(optimizer.init, params)
    updates, new = jax.eval_shape(lambda g, s: optimizer.update(g, s, rows=rows), params, state)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, new)


def test_no_arithmetic_is_that_of_binary64():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), network())
        _, gradients, rows = gradients_and_rows(params, *(z.astype(jnp.float64) for z in batch()))
        results = []
        for arithmetic in (None, "float64"):
            optimizer = optimizers.eva(0.1, arithmetic=arithmetic)
            updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), rows=rows)
            results.append(updates)
    # Compiled natively, products are summed in another order: 64 u of the largest.
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * 2.0**-53 * np.abs(b).max())


@pytest.mark.parametrize("arithmetic", ["bfloat16", by_role(arrays="bfloat16")], ids=str)
def test_the_state_is_kept_in_the_format(arithmetic):
    params = network()
    _, gradients, rows = gradients_and_rows(params, *batch())
    optimizer = optimizers.scale_by_eva(0.1, arithmetic=arithmetic, split=True)
    directions, state = jax.jit(optimizer.update)(gradients, optimizer.init(params), rows=rows)
    for x in jax.tree.leaves((directions["layers"], state.statistics)):
        np.testing.assert_array_equal(pl.round_to(x, "bfloat16"), x)


@pytest.mark.parametrize(
    "settings", [{"damping": 0.0}, {"kappa": 0.0}, {"new_weight": 0.0}, {"new_weight": 1.5}], ids=str
)
def test_numbers_out_of_range_are_refused(settings):
    for make in (optimizers.eva, optimizers.kfac):
        with pytest.raises(ValueError, match="given"):
            make(0.1, **settings)


def test_wrong_rows_are_refused():
    params = network()
    optimizer = optimizers.eva(0.1)
    state = optimizer.init(params)
    _, gradients, rows = gradients_and_rows(params, *batch())
    for wrong, message in (
        (None, "nothing given for 2 layers"),
        (rows[:1], "1 given for 2 layers"),
        (rows[::-1], "given for a kernel"),
        ([Rows(*pair[::-1]) for pair in rows], "given for a kernel"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.update(gradients, state, params, rows=wrong)
    with pytest.raises(ValueError, match="known are inverse, eigen"):
        optimizers.kfac(0.1, form="qr")
