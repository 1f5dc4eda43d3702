"""Laws of emulated programs that are divided among devices; `test_devices.py` runs them in a process of eight.

Each law is checked with and without JAX's account of what is divided (`check_vma`).
"""

import json
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.regions import precision
from precond_lab.arithmetic.specification import Arithmetic

f32 = np.float32
X = np.random.default_rng(0).normal(size=(8, 3)).astype(f32)
STOCHASTIC = Arithmetic("bfloat16", "stochastic", seed=3)
ARITHMETICS = [
    Arithmetic("bfloat16"),
    Arithmetic("float16", "toward_zero", order="pairwise"),
    Arithmetic("bfloat16", accumulate="float32", order="reversed"),
]
CHECKED = (True, False)


def mesh(*sizes, names="ij"):
    return jax.make_mesh(sizes, tuple(names[: len(sizes)]), axis_types=(AxisType.Auto,) * len(sizes))


def same(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def copies(x):
    """What each device holds."""
    return [np.asarray(shard.data) for shard in x.addressable_shards]


def step(c, total):
    return c * total + 1


def divided(x):
    """Sums, exchanges and a loop, on one device's row [1, 3]."""
    total = lax.psum(x, "i")
    looped = lax.fori_loop(0, 2, lambda _, c: step(c, x.sum()), x.sum() * 0)
    part = lax.psum_scatter(x * jnp.arange(1.0, 9.0)[:, None], "i", tiled=True)
    untiled = lax.psum_scatter(x * jnp.arange(1.0, 9.0)[:, None], "i")
    everything = lax.all_gather(x, "i", tiled=True)
    product = (x @ everything.T) @ everything
    beside = lax.ppermute(x, "i", [(k, (k + 1) % 8) for k in range(8)])
    place = lax.axis_index("i") * x
    turned = lax.all_to_all(jnp.broadcast_to(x, (8, 3)), "i", 0, 0, tiled=True)
    by_row = (
        x / total,
        looped[None],
        part,
        untiled[None],
        everything.sum()[None],
        beside,
        place,
        turned[:, :1].T,
        product,
    )
    return by_row, (total, lax.pmean(x, "i"), lax.pmax(x, "i"), lax.psum(3, "i") * total)


def whole(x):
    """The same on a single device."""
    total = x.sum(0)[None]
    looped = jnp.stack([lax.fori_loop(0, 2, lambda _, c, r=r: step(c, r.sum()), r.sum() * 0) for r in x])
    part = jnp.sum(x[:, None] * jnp.arange(1.0, 9.0)[:, None], 0)
    everything, product = jnp.broadcast_to(x.sum(), (8,)), (x @ x.T) @ x
    turned = jnp.broadcast_to(x[:, 0], (8, 8))
    by_row = (x / total, looped, part, part, everything, jnp.roll(x, 1, 0), jnp.arange(8)[:, None] * x, turned, product)
    return by_row, (total, total / 8, x.max(0)[None], 24 * total)


OUT = ((P("i"),) * 9, (P(), P(), P(), P()))


def mapped(f, checked, out=OUT, **options):
    return jax.shard_map(f, mesh=mesh(8), in_specs=P("i"), out_specs=out, check_vma=checked, **options)


def single_is_divided(arithmetic, checked):
    want = emulate(whole, arithmetic)(X)
    same(emulate(mapped(divided, checked), arithmetic)(X), want)
    inside = jax.jit(mapped(emulate(divided, arithmetic), checked))
    same(inside(jax.device_put(X, NamedSharding(mesh(8), P("i")))), want)


def law_a_divided_program_is_that_of_a_single_device():
    single_is_divided(ARITHMETICS[0], checked=True)


def slow_law_a_divided_program_is_that_of_a_single_device_in_every_arithmetic():
    for checked in CHECKED:
        for arithmetic in ARITHMETICS:
            single_is_divided(arithmetic, checked)


def law_events_are_added_up():
    """The sum of 8 x 3 products of 300 and 250 overflows in each; a loop has as many steps as its device says."""

    def f(x):
        y = lax.while_loop(
            lambda s: s[1] < lax.axis_index("i"), lambda s: (s[0] * 1e-9, s[1] + 1), (x * 300, x[0, 0] * 0)
        )
        return y[0]

    def rows_of_counts(x):
        return jax.tree.map(lambda n: n[None], emulate(f, "float16", events=True)(x)[1])

    def total(tree):
        return [int(np.sum(n)) for n in tree]

    x = np.full((8, 3), 250, f32)
    for checked in CHECKED:
        _, events = emulate(mapped(f, checked, P("i")), "float16", events=True)(x)
        assert total(events)[0] == 24, events
        parts = mapped(rows_of_counts, checked, P("i"))
        assert total(parts(x)) == total(events)
        _, lines = emulate(mapped(f, checked, P("i")), "float16", events="lines")(x)
        assert total(jax.tree.map(lambda *n: sum(map(int, n)), *lines.values())) == total(events)
        assert all(len(set(map(int, copies(n)))) == 1 for n in events)


def law_random_bits_are_each_devices_own_and_those_of_shared_values_are_shared():
    def f(x, w):
        y, v = x / 3, w / 3
        return y, v, lax.psum(y, ("i", "j")), y / 3

    x = np.ones((8, 200), f32)
    rows = P(("i", "j"))
    for checked in CHECKED:
        options = {
            "mesh": mesh(4, 2),
            "in_specs": (rows, P()),
            "out_specs": (rows, P(), P(), rows),
            "check_vma": checked,
        }
        outside = emulate(jax.shard_map(f, **options), STOCHASTIC)
        for g in (outside, jax.shard_map(emulate(f, STOCHASTIC), **options)):
            y, v, total, z = g(x, x[0])
            for result in (y, z):
                assert len({row.tobytes() for row in np.asarray(result)}) == 8
            assert len({copy.tobytes() for copy in copies(total)}) == 1
            if checked:
                assert len({copy.tobytes() for copy in copies(v)}) == 1
            assert set(np.unique(y)) == set(np.unique(v))  # the two neighbors of 1/3
        same(outside(x, x[0]), outside(x, x[0]))
    third = x / 3
    first = emulate(mapped(jnp.square, True, P("i")), STOCHASTIC)(third)[:1]
    same(first, emulate(jnp.square, STOCHASTIC)(third[:1]))


def law_loops_of_different_lengths_leave_the_draws_alike():
    def f(x):
        n = lax.axis_index("i")
        y, _ = lax.while_loop(lambda s: s[1] < n, lambda s: (s[0] / 3, s[1] + 1), (x, 0 * n))
        return lax.psum(y, "i"), y

    x = np.ones((8, 200), f32)
    for checked in CHECKED:
        g = mapped(f, checked, (P(), P("i")))
        total, _ = emulate(g, STOCHASTIC)(x)
        assert len({copy.tobytes() for copy in copies(total)}) == 1
        after = emulate(lambda x, g=g: g(x)[1] / 3, STOCHASTIC)
        same(after(x), after(x))


def law_pmap_is_vmap():
    def f(x):
        return x / lax.psum(x, "p") + lax.axis_index("p"), lax.all_gather(x, "p"), lax.pmax(x, "p")

    want = emulate(jax.vmap(f, axis_name="p"), "bfloat16")(X)
    e = emulate(f, "bfloat16")
    same(emulate(jax.pmap(f, axis_name="p"), "bfloat16")(X), want)
    same(jax.pmap(e, axis_name="p")(X), want)
    for rows in (8, 4):  # traced anew for axes of another size
        want = emulate(jax.vmap(f, axis_name="p"), "bfloat16")(X[:rows])
        same(jax.vmap(e, axis_name="p")(X[:rows]), want)


def law_derivatives():
    def loss(w, x):
        return lax.psum(jnp.sum(w * x), "i")

    w = f32([1.5, 0.75, -2])
    x = np.round(X * 8) / 8  # products and their sums are numbers of float32
    single = jax.grad(lambda w, x: jnp.sum(jnp.sum(w * x, 1)))
    for checked in CHECKED:
        options = {"mesh": mesh(8), "in_specs": (P(), P("i")), "out_specs": P(), "check_vma": checked}
        f = jax.shard_map(loss, **options)
        same(emulate(jax.grad(f), "bfloat16")(w, x), emulate(single, "bfloat16")(w, x))
        same(jax.grad(emulate(f, "bfloat16"))(w, x), single(w, x))
        same(jax.grad(jax.shard_map(emulate(loss, "bfloat16"), **options))(w, x), single(w, x))
        ws = np.stack([w, 2 * w])
        same(
            jax.vmap(emulate(f, "bfloat16"), (0, None))(ws, x),
            emulate(jax.vmap(f, (0, None)), "bfloat16")(ws, x),
        )


def law_regions_and_overrides_hold_on_devices():
    x = np.full((8, 1), 2**-9, f32)
    x[0] = 1

    def f(x):
        low = lax.psum(x, "i")
        with precision("float32"):
            high = lax.psum(x, "i") - 1
        return low - 1, high

    for checked, name in ((True, "psum_invariant"), (False, "psum")):
        g = mapped(f, checked, (P(), P()))
        low, high = emulate(g, "bfloat16")(x)
        assert (float(low[0, 0]), float(high[0, 0])) == (0, 7 * 2**-9)
        overridden, _ = emulate(g, Arithmetic("bfloat16", overrides={name: "float32"}))(x)
        assert float(overridden[0, 0]) == 2**-6  # 1 + 7 * 2^-9, rounded to bfloat16 where it is used


def law_some_axes_of_a_mesh_may_stay_automatic():
    f = jax.shard_map(
        lambda x: x / lax.psum(x, "i"), mesh=mesh(4, 2), in_specs=P("i"), out_specs=P("i"), axis_names={"i"}
    )
    x = np.repeat(X[:4], 2, 0)
    want = emulate(lambda x: x / x.reshape(4, 2, 3).sum(0)[None].repeat(4, 0).reshape(8, 3), "bfloat16")(x)
    same(emulate(f, "bfloat16")(x), want)


LAWS = {name: law for name, law in globals().items() if name.startswith("law_")}
SLOW = {name: law for name, law in globals().items() if name.startswith("slow_law_")}

if __name__ == "__main__":
    outcome = {}
    for name in sys.argv[1:]:
        try:
            globals()[name]()
            outcome[name] = ""
        except Exception:  # noqa: BLE001 - whatever it is belongs in the report
            outcome[name] = traceback.format_exc()
    json.dump(outcome, sys.stdout)
