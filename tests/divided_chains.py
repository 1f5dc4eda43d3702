"""Laws of directions that are computed in parts; `test_logdet_scale.py` runs them in processes of their own.

The processor is told to use no instructions that compute a product and a sum at once, so that native programs too
round every operation by itself.

    divided_chains.py LAW ...               in a process of eight devices
    divided_chains.py --process I PORT native|emulated
                                            one of two processes with four devices each
"""

import json
import os
import sys
import traceback
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.specification import Arithmetic
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet import chunks, sharding

NATIVE_IS_EXACT = "xla_cpu_max_isa=AVX" in os.environ.get("XLA_FLAGS", "")
FAST = Arithmetic("bfloat16", carrier="float32")
TOLERANCE = 2.0**-7


def emulated(f):
    return emulate(f, FAST)


def chain(b, n, seed=0):
    """Statistics of b + 2 gradients, identical in places, with anything past the ends of the diagonals."""
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(b + 2, n))
    for start in range(0, n - 2 * b, n // 3):
        G[:, start : start + b + 1] = G[:, start : start + 1]
    H = np.full((b + 1, n), np.nan)
    for k in range(b + 1):
        H[k, : n - k] = (G[:, k:] * G[:, : n - k]).sum(0)
    H[0] *= 1 + 2.0**-9
    g = rng.normal(size=n)
    g[0] = -0.0
    return jnp.asarray(H, jnp.float32), jnp.asarray(g, jnp.float32)


def mesh():
    return jax.make_mesh((jax.device_count(),), ("d",), axis_types=(AxisType.Auto,))


def same(got, want):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(x), np.asarray(y)
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes(), np.flatnonzero(a != b)


def whole(H, g):
    return logdet.apply(logdet.project(H), g)


def stabilized(H, g, **options):
    result = logdet.iterate(H, TOLERANCE, **options)
    return logdet.apply(result.factor, g), result.passes, result.stable


def parts_are_the_whole(b, through, n=101, chunk=16, **options):
    """In chunks that do not divide the chain, and on devices that do not divide it either."""
    H, g = chain(b, n)
    interpret = through or (lambda f: f)
    want = jax.jit(interpret(whole))(H, g)
    settings = {"chunk": chunk, "through": through}
    same(jax.jit(partial(chunks.direction_in_chunks, **settings))(H, g), want)
    same(jax.jit(partial(sharding.direction_on_devices, mesh=mesh(), axis="d", **settings))(H, g), want)
    want = jax.jit(interpret(partial(stabilized, **options)))(H, g)
    assert want[1] > 0, "nothing was cut"
    settings |= {"tolerance": TOLERANCE, **options}
    same(tuple(jax.jit(partial(chunks.stabilized_in_chunks, **settings))(H, g)), want)
    same(tuple(jax.jit(partial(sharding.stabilized_on_devices, mesh=mesh(), axis="d", **settings))(H, g)), want)
    return want


def law_native_parts_are_the_whole():
    for b in (1, 2) if NATIVE_IS_EXACT else ():
        parts_are_the_whole(b, None)


def law_emulated_parts_are_the_whole():
    parts_are_the_whole(1, emulated)


def slow_law_native_parts_of_wider_bands_are_the_whole():
    for b in (3, 4) if NATIVE_IS_EXACT else ():
        parts_are_the_whole(b, None)


def slow_law_emulated_parts_of_wider_bands_are_the_whole():
    for b in (2, 4):
        parts_are_the_whole(b, emulated)


def slow_law_other_arithmetics_are_exact_too():
    parts_are_the_whole(1, lambda f: emulate(f, "bfloat16"))
    parts_are_the_whole(1, lambda f: emulate(f, Arithmetic("bfloat16", "up", carrier="float32")))


def slow_law_every_rule_and_bound_is_that_of_the_whole():
    if NATIVE_IS_EXACT:
        for b, (rule, form, passes) in product(
            (1, 2), product(("one_sided", "literal"), ("pivots", "coefficients"), (None, 0, 1))
        ):
            H, g = chain(b, 101)
            options = {"rule": rule, "form": form, "passes": passes}
            want = jax.jit(partial(stabilized, **options))(H, g)
            for chunk in (7, 200):
                settings = {"tolerance": TOLERANCE, "chunk": chunk, **options}
                same(tuple(jax.jit(partial(chunks.stabilized_in_chunks, **settings))(H, g)), want)
                settings |= {"mesh": mesh(), "axis": "d"}
                same(tuple(jax.jit(partial(sharding.stabilized_on_devices, **settings))(H, g)), want)


def law_a_device_has_b_vertices_or_the_call_is_refused():
    H, g = chain(2, 15)  # one device has a vertex of the chain and one that only fills it up
    if NATIVE_IS_EXACT:
        same(jax.jit(partial(sharding.direction_on_devices, mesh=mesh(), axis="d"))(H, g), jax.jit(whole)(H, g))
    with pytest.raises(ValueError, match="at least 2"):  # one vertex each, and a band of two
        sharding.direction_on_devices(H[:, :8], g[:8], mesh(), "d")


def law_layers_are_a_batch():
    pairs = [chain(1, 24, seed) for seed in range(3)]
    H, g = (jnp.stack(x) for x in zip(*pairs, strict=True))
    on_devices = partial(
        sharding.stabilized_on_devices, mesh=mesh(), axis="d", tolerance=TOLERANCE, through=emulated, chunk=2
    )
    got = jax.jit(jax.vmap(on_devices))(H, g)
    same(tuple(got), jax.vmap(emulated(stabilized))(H, g))


LAWS = {name: law for name, law in globals().items() if name.startswith("law_")}
SLOW = {name: law for name, law in globals().items() if name.startswith("slow_law_")}


def in_two_processes(process, port, case):
    """The parts that both processes hold are those of the direction, which each computes by itself as well."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process, initialization_timeout=60)
    assert (jax.process_count(), jax.device_count(), jax.local_device_count()) == (2, 8, 4)
    b, through = (1, emulated) if case == "emulated" else (2, None)
    if through or NATIVE_IS_EXACT:
        H, g = chain(b, 96)
        with jax.default_device(jax.local_devices()[0]):
            want = jax.jit(through(stabilized) if through else stabilized)(H, g)
        H, g = (
            jax.make_array_from_callback(x.shape, NamedSharding(mesh(), spec), lambda index, x=x: np.asarray(x)[index])
            for x, spec in ((H, P(None, "d")), (g, P("d")))
        )
        f = partial(sharding.stabilized_on_devices, mesh=mesh(), axis="d", tolerance=TOLERANCE, through=through)
        u, passes, stable = jax.jit(f)(H, g)
        assert not u.is_fully_addressable
        for part in u.addressable_shards:
            same(part.data, want[0][part.index])
        assert (int(passes), bool(stable)) == (int(want[1]), bool(want[2]))
    jax.distributed.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "--process":
        in_two_processes(int(sys.argv[2]), *sys.argv[3:])
        sys.exit()
    outcome = {}
    for name in sys.argv[1:]:
        try:
            globals()[name]()
            outcome[name] = ""
        except Exception:  # noqa: BLE001 - whatever it is belongs in the report
            outcome[name] = traceback.format_exc()
    json.dump(outcome, sys.stdout)
