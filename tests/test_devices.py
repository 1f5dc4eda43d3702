"""The laws of programs that are divided among devices, in a process that has eight of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from eight_devices import LAWS, SLOW
from jax import lax

from precond_lab.arithmetic.emulate import emulate
from precond_lab.interpreter import UnsupportedPrimitiveError

HERE = Path(__file__).parent


def outcome(laws):
    """What each law has to say in a process of eight devices: nothing, where it holds."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    paths = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "eight_devices.py"), *laws],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def laws():
    return outcome(LAWS)


@pytest.mark.parametrize("law", LAWS)
def test_on_eight_devices(laws, law):
    assert not laws[law], laws[law]


@pytest.mark.slow
@pytest.mark.parametrize("law", SLOW)
def test_more_on_eight_devices(law):
    found = outcome([law])[law]
    assert not found, found


def test_an_axis_of_vmap_is_an_axis():
    """Sums over the lanes of a vmap are sequential wherever the emulation stands, and groups of lanes are sums too."""

    def f(x):
        return lax.psum(x, "i"), lax.pmean(x * 3, "i"), lax.psum(1, "i") * x, lax.axis_index("i") + x

    x = np.array([1, *[2**-9] * 8], np.float32)
    got = jax.vmap(emulate(f, "bfloat16"), axis_name="i")(x)
    for a, b in zip(got, emulate(jax.vmap(f, axis_name="i"), "bfloat16")(x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert got[0].tolist() == [1] * 9
    both = jax.vmap(jax.vmap(emulate(lambda x: lax.psum(x, ("i", "j")), "bfloat16"), axis_name="j"), axis_name="i")
    np.testing.assert_array_equal(both(x.reshape(3, 3)), np.full((3, 3), 1))
    turned = jax.vmap(jax.vmap(emulate(lambda x: lax.psum(x, ("j", "i")), "bfloat16"), axis_name="j"), axis_name="i")
    assert turned(x[::-1].reshape(3, 3))[0, 0] == emulate(jnp.sum, "bfloat16")(x[::-1].reshape(3, 3).T)


def test_what_concerns_effects_is_refused():
    with pytest.raises(UnsupportedPrimitiveError, match="debug"):
        emulate(lambda x: jax.debug.print("{}", x), "bfloat16")(1.0)
