"""State kept in short formats: one test a contract, over a table of optimizers and storages."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.blocks import MX, NVFP4, CodeBook, Integer
from precond_lab.arithmetic.quantization import Quantized, round_blocks
from precond_lab.arithmetic.storage import Stored, load, store, stored

OPTIMIZERS = {
    "adam": lambda: optax.adam(0.1),
    "momentum": lambda: optax.sgd(0.05, momentum=0.9),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(10.0), optax.scale_by_adam(), optax.scale(-0.1)),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
}
STORAGES = {
    "int8 blocks": Integer(8, "block"),
    "int8 rows": Integer(8, "row"),
    "mxfp8": MX("e4m3fn"),
    "nvfp4": NVFP4(),
    "dynamic": CodeBook("dynamic", block=256),
    "bfloat16": "bfloat16",
    "e5m2": formats.float8_e5m2,
}
PARAMS = {"W": jnp.linspace(-1.0, 1.0, 24 * 64).reshape(24, 64), "b": jnp.ones(3), "s": jnp.float32(2.0)}


def loss(params):
    return sum(jnp.sum(jnp.square(leaf - 0.25)) for leaf in jax.tree.leaves(params))


def step(optimizer):
    def one(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), loss(params)

    return one


def signature(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


CASES = [("adam", kind) for kind in STORAGES] + [(name, "int8 blocks") for name in OPTIMIZERS if name != "adam"]
# Adam divides by the root of second moments, and formats without small numbers round them to zero: it stays bounded.
ROUGH = {"int8 blocks", "int8 rows", "nvfp4", "e5m2"}


COMMON = {"int8 blocks", "dynamic", "bfloat16"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[1] not in COMMON)) for case in CASES],
)
def test_an_optimizer_in_storage_keeps_its_structure_and_still_converges(name, kind):
    optimizer = stored(OPTIMIZERS[name](), STORAGES[kind])
    carry = start = (PARAMS, optimizer.init(PARAMS))
    compiled = jax.jit(step(optimizer))
    losses = []
    for _ in range(60):
        carry, value = compiled(carry, None)
        losses.append(float(value))
    assert signature(carry) == signature(start)
    assert compiled._cache_size() == 1
    assert losses[-1] <= (1.0 if kind in ROUGH and name != "momentum" else 0.02) * losses[0]


@pytest.mark.parametrize(
    ("kind", "at_most"),
    [("int8 blocks", 1.07), ("mxfp8", 1.04), ("nvfp4", 1.07), ("dynamic", 1.04), ("bfloat16", 2.01), ("e5m2", 1.01)],
)
def test_memory_is_that_of_codes_and_scales(kind, at_most):
    params = {"W": jnp.ones((64, 512))}
    plain, short = optax.adam(0.1).init(params), stored(optax.adam(0.1), STORAGES[kind]).init(params)
    numbers = 2 * 64 * 512
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(plain)) > 4 * numbers
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(short)) <= at_most * numbers + 8


def test_a_step_computes_with_what_its_storage_holds():
    optimizer, q = optax.adam(0.1), Integer(8, "block", 32)
    short = stored(optimizer, q)
    gradient = jax.grad(loss)(PARAMS)
    state, kept = short.init(PARAMS), optimizer.init(PARAMS)
    rounded = lambda x: round_blocks(x, q, axis=None) if x.size >= 2 and x.dtype == jnp.float32 else x  # noqa: E731
    for _ in range(3):
        updates, state = short.update(gradient, state, PARAMS)
        want, kept = optimizer.update(gradient, jax.tree.map(rounded, kept), PARAMS)
        kept = jax.tree.map(rounded, kept)
        for x, y in zip(jax.tree.leaves((updates, load(state))), jax.tree.leaves((want, kept)), strict=True):
            assert (np.asarray(x) == np.asarray(y)).all()


@pytest.mark.parametrize("name", ["chain", "injected"])
@pytest.mark.parametrize("storage", ["float32", "float64"])
def test_storage_that_holds_every_number_is_the_identity(name, storage):
    plain, short = OPTIMIZERS[name](), stored(OPTIMIZERS[name](), storage)
    runs = [lax.scan(step(o), (PARAMS, o.init(PARAMS)), None, length=5) for o in (plain, short)]
    assert signature(runs[1][0][1].tree) == signature(runs[0][0][1])
    for x, y in zip(jax.tree.leaves(runs[0]), jax.tree.leaves(runs[1]), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_an_arithmetic_says_what_its_state_is_stored_in():
    class Described(NamedTuple):
        storage: Any

    tree = {"m": jnp.ones(8)}
    assert store(tree, Described(Integer(8))).tree["m"].record == Integer(8)
    with pytest.raises(ValueError, match="has no storage: pass"):
        store(tree, Described(None))


def test_counts_scalars_and_small_arrays_are_left_alone():
    tree = {"count": jnp.arange(8), "flag": jnp.ones(8, bool), "scalar": jnp.float32(1.3), "small": jnp.ones(7) / 3}
    tree["large"] = jnp.ones(8) / 3
    kept = store(tree, "bfloat16", min_size=8).tree
    assert isinstance(kept["large"], Quantized)
    assert all(kept[name] is tree[name] for name in tree if name != "large")


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow), "float32"])
def test_the_dtype_of_the_state_is_kept(dtype):
    tree = {"m": jnp.linspace(-1, 1, 64).astype(dtype)}
    for kind in STORAGES.values():
        assert load(store(tree, kind))["m"].dtype == dtype
    assert load(store(tree, "bfloat16"))["m"][0] == -1


def test_every_leaf_may_have_a_storage_of_its_own():
    def choose(path, leaf):
        if "nu" in path:
            return CodeBook("dynamic", signed=False)
        return Integer(8, "row") if leaf.ndim == 2 else None

    state = stored(optax.adam(0.1), choose).init(PARAMS).tree[0]
    assert state.nu["W"].record == CodeBook("dynamic", signed=False)
    assert state.mu["W"].record == Integer(8, "row")
    assert state.mu["b"].dtype == jnp.float32


def test_a_scan_step_keeps_its_carry_in_storage():
    def accumulate(carry, x):
        total, count = carry
        return (total + x, count + 1), total.sum()

    start = (jnp.zeros(64), jnp.int32(0))
    xs = jnp.ones((40, 64)) * 0.01
    for q in (Integer(8, "block", 32), "float8_e4m3fn", CodeBook("linear", block=64)):
        last, ys = lax.scan(stored(accumulate, q), store(start, q), xs)
        total, count = load(last)
        assert count == 40
        want = start[0]
        for x in xs:
            want = round_blocks(want + x, q, axis=None)
        assert (total == want).all()
        assert ys.shape == (40,)


def test_stochastic_rounding_keeps_small_updates_and_depends_on_the_seed_alone():
    def accumulate(carry, x):
        return carry + x, None

    xs = jnp.full((400, 512), 2.0**-12)
    run = jax.jit(
        lambda seed_state, seed: lax.scan(
            stored(accumulate, "bfloat16", rounding="stochastic", seed=seed), seed_state, xs
        )[0],
        static_argnums=1,
    )
    start = jnp.ones(512)
    nearest, _ = lax.scan(stored(accumulate, "bfloat16"), store(start, "bfloat16"), xs)
    assert (load(nearest) == 1).all()
    initial = store(start, "bfloat16", rounding="stochastic", seed=3)
    once, again, other = run(initial, 3), run(initial, 3), run(initial, 2**40 + 3)
    assert (load(once) == load(again)).all()
    assert (load(once) != load(other)).any()
    assert once.draws == 401
    # The mean grows by 400 * 2**-12 in expectation. A step has a variance below 2**-12 * 2**-7: Chebyshev, 6 sigma.
    assert abs(float(load(once).mean()) - (1 + 400 * 2.0**-12)) < 6 * (400 * 2.0**-19 / 512) ** 0.5


def test_the_state_is_a_pytree_of_arrays_that_can_be_saved():
    state = stored(optax.adam(0.1), Integer(8, "block")).init(PARAMS)
    assert isinstance(state, Stored)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    saved = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    assert len(saved) == len(leaves)
    back = jax.tree.unflatten(jax.tree.structure(state), [jnp.asarray(x) for x in saved.values()])
    assert signature(back) == signature(state)
    assert jax.tree.structure(state) == structure


def test_misuse_is_refused():
    with pytest.raises(TypeError, match="expected an optimizer of optax or a step"):
        stored(3, "bfloat16")
    with pytest.raises(ValueError, match="no format is named 'bf17'"):
        stored(optax.adam(0.1), "bf17")
    with pytest.raises(ValueError, match="no rounding is named"):
        stored(optax.adam(0.1), "bfloat16", rounding="closest")
