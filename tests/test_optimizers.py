"""One contract for all optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import precond_lab as pl
from precond_lab import optimizers

OPTIMIZERS = {
    "sonew": optimizers.sonew,
    "sonew diagonal": lambda rate, **more: optimizers.sonew(rate, band=0, **more),
    "sonew band 2": lambda rate, **more: optimizers.sonew(rate, band=2, averaging="compensated", **more),
}
PARAMS = {"w": jnp.arange(12.0).reshape(3, 4) / 8 - 0.5, "b": jnp.array([1.0, -2.0]), "s": jnp.array(0.5)}


def quadratic(params):
    """Curved differently along neighbors that move together."""
    flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(params)])
    curvature = 1.0 + 9.0 * jnp.arange(flat.size) / flat.size
    return jnp.sum(curvature * flat**2) + 5 * jnp.sum((flat[1:] - flat[:-1]) ** 2)


@pytest.fixture(params=OPTIMIZERS, ids=str)
def make(request):
    return OPTIMIZERS[request.param]


def test_converges_on_a_quadratic(make):
    steps = 200
    optimizer = make(optax.cosine_decay_schedule(0.1, steps))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(quadratic)(params), state, params)
        return (optax.apply_updates(params, updates), state), quadratic(params)

    _, losses = jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), None, length=steps)
    assert losses[-1] < 1e-4 * losses[0]


def test_extra_arguments_are_ignored_and_nothing_is_compiled_twice(make):
    optimizer, traces = optax.with_extra_args_support(make(0.1)), []

    @jax.jit
    def step(grads, state, value):
        traces.append(1)
        return optimizer.update(grads, state, PARAMS, value=value)

    state = optimizer.init(PARAMS)
    for i in range(3):
        _, state = step(PARAMS, state, jnp.float32(i))
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=str)
def test_dtypes_and_shapes_are_kept(make, dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    optimizer = make(0.1)
    state = optimizer.init(params)
    updates, new = optimizer.update(params, state, params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, new)


def test_no_arithmetic_is_that_of_binary64(make):
    # without contraction the two would be equal; a fused multiply-add in either sum may move the last bits, which
    # the condition number of the projection of these statistics (below 2^10 by the tolerance) may amplify
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), PARAMS)
        more = {"tolerance": 2.0**-8}
        plain, emulated = make(0.1, **more), make(0.1, arithmetic="float64", **more)
        states = [plain.init(params), emulated.init(params)]
        for i in range(3):
            grads = jax.tree.map(lambda x, i=i: jnp.sin(x * (i + 1)), params)
            (a, states[0]), (b, states[1]) = plain.update(grads, states[0]), emulated.update(grads, states[1])
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
                np.testing.assert_allclose(x, y, rtol=2.0**10 * 100 * 2.0**-53, atol=0)


def test_in_bfloat16_everything_kept_is_a_bfloat16(make):
    optimizer = make(1.0, arithmetic="bfloat16", tolerance=2.0**-7)
    state = optimizer.init(PARAMS)
    grads = jax.tree.map(jnp.cos, PARAMS)
    for _ in range(3):
        updates, state = optimizer.update(grads, state)
    for x in jax.tree.leaves((updates, state)):
        assert np.isfinite(x).all()
        if x.dtype == jnp.float32:
            np.testing.assert_array_equal(pl.round_to(x, "bfloat16"), x)


def test_the_step_has_the_norm_of_adams():
    optimizer = optimizers.scale_by_sonew(beta1=0.0, epsilon=0.0, floor=0.0, tolerance=2.0**-8)
    g = jnp.array([1.0, -2.0, 0.5, 4.0])
    updates, _ = optimizer.update(g, optimizer.init(g))
    # after one gradient m / sqrt(diag H) is the sign of g, and every edge is degenerate: the direction is diagonal
    np.testing.assert_allclose(jnp.linalg.norm(updates), 2.0, rtol=1e-6)
    np.testing.assert_allclose(updates * g, jnp.full(4, (updates * g)[0]), rtol=1e-6)


def test_a_tensor_of_zero_gradients_gets_a_zero_step():
    optimizer = optimizers.sonew(0.1)
    g = jnp.zeros(3)
    updates, _ = optimizer.update(g, optimizer.init(g))
    np.testing.assert_array_equal(updates, 0)


@pytest.mark.parametrize(("dtype", "arithmetic"), [("float16", None), ("float32", "float16"), ("float32", None)])
@pytest.mark.parametrize("g", [[0.0, 0.0, 0.0], [0.0, 1e-2, 1.0], [1.0, 0.0, 0.5], [1e-4, 1.0, 0.0]])
def test_dead_entries_get_a_zero_step(make, dtype, arithmetic, g):
    """In float16 the floor is zero, so is the square of 1e-4, and 1 / H_ii may be infinite."""
    g = jnp.array(g, dtype)
    optimizer = make(0.1, arithmetic=arithmetic)
    state = optimizer.init(g)
    for _ in range(3):
        updates, state = optimizer.update(g, state)
        assert np.isfinite(updates).all()
        np.testing.assert_array_equal(updates[g == 0], 0)
        assert np.all(updates[jnp.abs(g) >= 1e-2] != 0)


def test_a_gradient_that_is_not_a_number_is_not_hidden(make):
    g = jnp.array([np.nan, 1.0, 1.0])
    optimizer = make(0.1)
    assert np.isnan(optimizer.update(g, optimizer.init(g))[0]).any()


def test_an_empty_tensor_passes_through(make):
    params = {"none": jnp.zeros(0), "one": jnp.ones(1)}
    optimizer = make(0.1)
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(params, state)
    assert updates["none"].shape == (0,)
    assert float(updates["one"][0]) < 0


def test_numpy_arrays_of_float64_are_taken(make):
    """Without x64 mode they are float32 to JAX, and a warning would be an error here."""
    params = {"w": np.ones((2, 3)), "s": np.float64(0.5)}
    optimizer = make(0.1)
    updates, state = optimizer.update(params, optimizer.init(params))
    assert {x.dtype for x in jax.tree.leaves((updates, state)) if jnp.issubdtype(x.dtype, jnp.floating)} == {
        jnp.dtype("float32")
    }


def test_the_state_has_as_many_numbers_a_parameter_as_said():
    for band in (0, 1, 4):
        for averaging, numbers in (("average", band + 2), ("increment", band + 2), ("compensated", 2 * band + 3)):
            state = optimizers.scale_by_sonew(band, averaging=averaging).init(jnp.zeros(100))
            assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) == numbers * 100


def test_the_tolerance_follows_the_format_of_the_statistics():
    """An edge of 1 - beta^2 = 0.01: above 2u in float32, below it in bfloat16, whose 2u is kept by hand in both."""
    G = jnp.array([[1.0, 1.0], [1.0, 0.8]])
    for arithmetic, kept in (("float32", 2.0**-23), ("bfloat16", 2.0**-7)):
        steps = []
        for tolerance in (None, kept, 0.5):
            optimizer = optimizers.scale_by_sonew(arithmetic=arithmetic, epsilon=0.0, beta2=0.5, tolerance=tolerance)
            state = optimizer.init(G[0])
            for g in G:
                updates, state = optimizer.update(g, state)
            steps.append(np.asarray(updates))
        np.testing.assert_array_equal(steps[0], steps[1])
        assert np.any(steps[0] != steps[2])


def test_the_tolerance_follows_the_storage_too():
    G = jnp.array([[1.0, 1.0], [1.0, 0.8]])

    def steps(**more):
        optimizer = optimizers.scale_by_sonew(epsilon=0.0, beta2=0.5, **more)
        state = optimizer.init(G[0])
        for g in G:
            updates, state = optimizer.update(g, state)
        return np.asarray(updates)

    stored = pl.Arithmetic("float32", storage="bfloat16")
    np.testing.assert_array_equal(steps(arithmetic=stored), steps(arithmetic="float32", tolerance=2.0**-7))
    with pytest.raises(ValueError, match="no default tolerance"):
        steps(arithmetic=pl.Arithmetic("float32", storage=pl.Integer(8)))


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="band -1"):
        optimizers.sonew(0.1, band=-1)
    with pytest.raises(ValueError, match="unknown averaging 'mean'"):
        optimizers.sonew(0.1, averaging="mean")
