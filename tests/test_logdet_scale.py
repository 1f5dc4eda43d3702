"""Directions of long chains: in bounded memory, on many devices and in many processes, and for other platforms."""

import json
import os
import platform
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from divided_chains import LAWS, SLOW, emulated
from jax.sharding import AbstractMesh, AxisType

from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet import chunks, sharding
from precond_lab.preconditioners.logdet.stabilization import iterate

HERE = Path(__file__).parent
LIMIT = 300
"""Seconds after which a process is taken to hang."""


CONTRACTS = platform.machine().lower() not in {"x86_64", "amd64"}
"""Whether the compiler cannot be kept from contracting: then native programs are the same up to that alone."""


def skip_if_not_exact(name):
    if CONTRACTS and "native" in name:
        pytest.skip("native programs round once for a product and a sum here, depending on what surrounds them")


def start(devices, *arguments):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    if not CONTRACTS:
        flags += " --xla_cpu_max_isa=AVX"
    paths = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(HERE / "divided_chains.py"), *arguments],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes):
    try:
        return [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()


def outcome(laws):
    process = start(8, *laws)
    ((out, err),) = finish([process])
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def laws():
    return outcome(LAWS)


@pytest.mark.parametrize("law", LAWS)
def test_in_parts(laws, law):
    skip_if_not_exact(law)
    assert not laws[law], laws[law]


@pytest.mark.slow
@pytest.mark.parametrize("law", SLOW)
def test_more_in_parts(law):
    skip_if_not_exact(law)
    found = outcome([law])[law]
    assert not found, found


@pytest.mark.parametrize("case", ["native", pytest.param("emulated", marks=pytest.mark.slow)])
def test_in_two_processes(case):
    skip_if_not_exact(case)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = [start(4, "--process", str(i), port, case) for i in range(2)]
    for process, (_, err) in zip(processes, finish(processes), strict=True):
        assert process.returncode == 0, err


# Memory


def temporaries(n, chunk, f):
    shapes = [jax.ShapeDtypeStruct((2, n), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.float32)]
    return jax.jit(partial(f, chunk=chunk)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes


def test_memory_on_the_way_is_that_of_a_chunk():
    """For b = 1: 16 numbers a vertex of a chunk, however long the chain; emulated in float32, 24."""
    chunk, n = 2**13, 2**22
    for through, numbers in ((None, 16), (emulated, 24)):
        f = partial(chunks.stabilized_in_chunks, tolerance=2.0**-7, through=through)
        assert temporaries(n, chunk, f) <= 4 * numbers * chunk


# Other platforms


@pytest.mark.parametrize("through", [None, emulated])
def test_lowered_for_accelerators(through):
    shapes = jax.ShapeDtypeStruct((2, 4096), jnp.float32), jax.ShapeDtypeStruct((4096,), jnp.float32)
    mesh = AbstractMesh((8,), ("d",), axis_types=(AxisType.Auto,))
    divided = partial(sharding.stabilized_on_devices, mesh=mesh, axis="d", tolerance=2.0**-7, through=through)
    in_chunks = partial(chunks.stabilized_in_chunks, tolerance=2.0**-7, chunk=512, through=through)
    for f in (in_chunks, divided):
        exported = jax.export.export(jax.jit(f), platforms=("tpu", "cuda"))(*shapes)
        assert exported.platforms == ("tpu", "cuda")
        assert exported.out_avals[0].shape == (4096,)
    assert "collective_permute" in exported.mlir_module()


# Misuse

H, G = jnp.ones((2, 8)), jnp.ones(8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "at least one"),
        ({"passes": -1}, "zero or more"),
        ({"rule": "both"}, "unknown rule"),
        ({"form": "sum"}, "unknown form"),
        ({"tolerance": -1.0}, "zero or positive"),
    ],
)
def test_misuse_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        chunks.stabilized_in_chunks(H, G, **options)
    if "chunk" not in options:
        with pytest.raises(ValueError, match=message):
            iterate(H, **options)


def test_g_must_fit():
    with pytest.raises(ValueError, match="needs shape"):
        chunks.direction_in_chunks(H, G[1:])


# What is taken where nothing is given


def test_chunks_follow_the_platform_and_the_band():
    assert chunks.chunk_here(None, 4, "cpu") == chunks.CHUNK
    assert chunks.chunk_here(None, 1, "cuda") == chunks.WIDE_CHUNK // 4
    assert chunks.chunk_here(None, 10**4, "tpu") == 1
    assert chunks.chunk_here(5, 1, "cuda") == 5
    H, g = jnp.ones((2, 4)), jnp.ones(4)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    for call in (
        lambda: chunks.direction_in_chunks(H, g, chunk=0),
        lambda: sharding.direction_on_devices(H, g, mesh, "d", chunk=-1),
        lambda: sharding.stabilized_on_devices(H, g, mesh, "d", chunk=0),
    ):
        with pytest.raises(ValueError, match="a chunk has at least one"):
            call()


@pytest.mark.parametrize("passes", [1.0, "2", jnp.ones(2, int)])
def test_passes_that_are_no_integer_are_refused(passes):
    with pytest.raises(ValueError, match="wanted is an integer, or None"):
        logdet.iterate(jnp.ones((2, 4)), 0.0, passes=passes)


def test_a_mask_of_zeros_and_ones_is_a_mask():
    H = jnp.array([[4.0, 4.0, 4.0], [1.0, 1.0, 0.0]])
    whole, flags = np.array([[1, 0, 0]]), np.array([[True, False, False]])
    assert jnp.array_equal(logdet.cut(H, whole), logdet.cut(H, flags))
    assert jnp.array_equal(logdet.project(H, whole).L, logdet.project(H, flags).L)
