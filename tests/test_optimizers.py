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


def few(*names):
    """`make` for optimizers of these names, and for the others in the slow tier."""
    slow = [pytest.mark.slow]
    return pytest.mark.parametrize(
        "make", [pytest.param(f, marks=slow * (name not in names), id=name) for name, f in OPTIMIZERS.items()]
    )


@few("sonew", "sonew diagonal")
def test_converges_on_a_quadratic(make):
    steps = 200
    optimizer = make(optax.cosine_decay_schedule(0.1, steps))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(quadratic)(params), state, params)
        return (optax.apply_updates(params, updates), state), quadratic(params)

    _, losses = jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), None, length=steps)
    assert losses[-1] < 1e-4 * losses[0]


@few("sonew", "sonew diagonal")
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
    state = jax.eval_shape(optimizer.init, params)
    updates, new = jax.eval_shape(optimizer.update, params, state, params)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, new)


@few("sonew", "sonew diagonal")
def test_no_arithmetic_is_that_of_binary64(make):
    # without contraction the two would be equal; a fused multiply-add in either sum may move the last bits, which
    # the condition number of the projection of these statistics (below 2^10 by the tolerance) may amplify
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), PARAMS)
        more = {"tolerance": 2.0**-8}
        plain, emulated = make(0.1, **more), make(0.1, arithmetic="float64", **more)
        states = [plain.init(params), emulated.init(params)]
        updates = [jax.jit(plain.update), jax.jit(emulated.update)]
        for i in range(3):
            grads = jax.tree.map(lambda x, i=i: jnp.sin(x * (i + 1)), params)
            (a, states[0]), (b, states[1]) = (f(grads, state) for f, state in zip(updates, states, strict=True))
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
                np.testing.assert_allclose(x, y, rtol=2.0**10 * 100 * 2.0**-53, atol=0)


@few("sonew")
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
@few("sonew", "sonew diagonal")
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


@few("sonew")
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


@pytest.mark.parametrize(
    ("band", "arithmetic"),
    [
        (1, "float16"),
        pytest.param(2, "bfloat16", marks=pytest.mark.slow),
        *(pytest.param(b, "float16", marks=pytest.mark.slow) for b in (2, 4)),
    ],
)
def test_in_chunks_the_steps_are_the_same(band, arithmetic):
    """With edges dropped, entries dead, infinite D that end segments, and chunks that do not divide the chain."""
    rng = np.random.default_rng(band)
    g = rng.standard_normal((3, 150)) * np.exp2(rng.integers(-9, 1, 150))
    g[:, 40:60] = g[:, 39:40]  # identical histories
    g[:, 70] = 0.0
    whole, parts = (optimizers.scale_by_sonew(band, arithmetic, chunk=chunk) for chunk in (None, 16))

    @jax.jit
    def step(g, state):
        return whole.update(g, state), parts.update(g, state)

    state = whole.init(jnp.zeros(150))
    for row in jnp.asarray(g, jnp.float32):
        (u, state), other = step(row, state)
        for x, y in zip(jax.tree.leaves((u, state)), jax.tree.leaves(other), strict=True):
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    if arithmetic == "float16":
        assert np.any((np.asarray(u) == 0) & (g[-1] != 0)), "no D was infinite"


def temporaries(band, arithmetic=None, n=2**20):
    """In numbers a parameter."""
    optimizer, g = optimizers.scale_by_sonew(band, arithmetic), jax.ShapeDtypeStruct((n,), jnp.float32)
    compiled = jax.jit(optimizer.update).lower(g, jax.eval_shape(optimizer.init, g)).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 4 / n


def test_the_temporaries_of_a_step_are_bounded():
    """By 3 (b+1) + 6 numbers a parameter.

    Three bands: the statistics corrected for their bias, those damped, and on the way to their one-norm the absolute
    values of all rows; beside them a few vectors such as u, the momentum and the cuts, and the windows of a chunk.
    """
    for band in (1, 4):
        assert temporaries(band) <= 3 * (band + 1) + 6


@pytest.mark.slow
def test_the_temporaries_of_an_emulated_step_are_bounded():
    """By twice as many, and two numbers for every vertex of a chunk and operation: the carrier is float64."""
    assert temporaries(4, "bfloat16") <= 2 * (3 * 5 + 6)


def test_a_draw_is_made_once_a_vertex():
    """Windows overlap, and would be drawn for twice: under stochastic rounding no chunks are made."""
    g = jnp.ones(40)
    drawn = pl.Arithmetic("bfloat16", "stochastic")
    for arithmetic in (drawn, pl.Arithmetic("bfloat16", overrides={"div": drawn})):
        optimizer = optimizers.scale_by_sonew(1, arithmetic, chunk=8)
        program = jax.make_jaxpr(optimizer.update)(g, optimizer.init(g))
        assert "dynamic_update_slice" not in str(program)


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
    with pytest.raises(ValueError, match="chunks of 0 entries"):
        optimizers.sonew(0.1, chunk=0)
