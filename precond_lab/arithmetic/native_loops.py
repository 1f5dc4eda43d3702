"""The fast loop of matrix products in C, compiled on this machine when it is first needed.

Nothing depends on it: without a compiler, or where `PRECOND_LAB_NATIVE=0` is set in the environment, the loop in JAX
does the same to the bit. The library is kept in the user's cache folder, under a name made of its source, the
compiler's command and the processor.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs

SOURCE = Path(__file__).with_name("native_loop.c")
SWITCH = "PRECOND_LAB_NATIVE"
TARGET = "precond_lab_product_loop"
OPTIONS = ("-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread")
WIDE = "-mprefer-vector-width=512"
SMALL = 2**24
"""Multiplications below which one thread does it all."""


def target() -> str | None:
    """The name under which XLA knows the loop; it is compiled if need be.

    Returns:
        The name; None where the loop is switched off or cannot be compiled.
    """
    return None if os.environ.get(SWITCH) == "0" else _registered()


@functools.cache
def _registered() -> str | None:
    library = _library()
    if library is None:
        return None
    try:
        function = getattr(ctypes.cdll.LoadLibrary(str(library)), TARGET)
    except (OSError, AttributeError):  # AttributeError: a library without the loop
        return None
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(function), platform="cpu")
    return TARGET


def _library() -> Path | None:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    wide = (WIDE,) if platform.machine() in {"x86_64", "AMD64"} else ()
    command = (compiler, *OPTIONS, *wide, f"-I{jax.ffi.include_dir()}", str(SOURCE), "-lm")
    identity = "\0".join((*command, SOURCE.read_text(encoding="utf-8"), metadata.version("jaxlib"), _processor()))
    folder = Path(platformdirs.user_cache_dir("precond_lab")) / "native"
    library = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "library.so"
            subprocess.run([*command, "-o", str(made)], check=True, capture_output=True, timeout=60)
            made.replace(library)  # whole or not at all, whoever else compiles it now
    except (OSError, subprocess.SubprocessError):
        return None
    return library


def _processor() -> str:
    """What the processor can do: a library for another one must not be loaded."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def call(
    left: jax.Array, right: jax.Array, bounds: jax.Array, numbers: tuple[float, ...]
) -> tuple[jax.Array, jax.Array]:
    """Run the loop.

    Args:
        left: float32, [batch, k, m].
        right: float32, [batch, k, n].
        bounds: float32, how much a partial sum may grow in each chunk.
        numbers: 2^(24 - p); the least magnitude to subtract products from, or 0; the largest partial sum; the steps
            of a chunk, or 0: all.

    Returns:
        The sums in float32, [batch, m, n], and whether they are right.
    """
    (batch, k, m), n = left.shape, right.shape[2]
    threads = (
        1 if batch * k * m * n < SMALL else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    )
    shapes = (jax.ShapeDtypeStruct((batch, m, n), jnp.float32), jax.ShapeDtypeStruct((), jnp.uint32))
    run = jax.ffi.ffi_call(TARGET, shapes, vmap_method="sequential")
    result, good = run(left, right, bounds, np.asarray((*numbers, threads), np.float32))
    return result, good != np.uint32(0)
