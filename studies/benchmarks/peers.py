"""Other libraries that round arrays, each behind the same few lines, so that all are timed and judged alike.

None of them is needed: one that is not installed is reported as such. The extra `peers` of this package brings what
PyPI has for every platform; torch and qtorch (which compiles itself when it is imported) are used where they can be
imported, and CPFloat where the environment variable CPFLOAT_LIBRARY names its shared library.
"""

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from cpfloat import CPFloat
from jax import lax

from precond_lab.arithmetic.formats import NAMED, Format

Rounder = Callable[[Any], Any]
"""Takes an array of the library, and returns one of the same dtype that holds the rounded numbers."""


class Peer(NamedTuple):
    """A library, or one of its ways.

    Attributes:
        name: what tables call it.
        note: how it is used here, as far as one must know to read its figures.
        kind: whose arrays it takes: "numpy", "jax" (then it is compiled, with a donated array) or "torch".
        rounder: the function that rounds to a format in a mode; None where the peer has no such thing.
        dtypes: what it rounds from.
    """

    name: str
    note: str
    kind: str
    rounder: Callable[[Format, str], Rounder | None]
    dtypes: tuple[str, ...] = ("float32", "float64")

    def take(self, x: np.ndarray) -> Any:
        """An array of the peer's kind."""
        if self.kind == "jax":
            return jnp.array(x)
        return importlib.import_module("torch").from_numpy(x.copy()) if self.kind == "torch" else x

    def apply(self, rounder: Rounder, x: np.ndarray) -> np.ndarray:
        """Round an array and fetch the result."""
        with jax.enable_x64(True), np.errstate(all="ignore"):
            run = jax.jit(rounder) if self.kind == "jax" else rounder
            return np.asarray(run(self.take(x)))


def ieee_bits(format: Format) -> tuple[int, int] | None:
    """Exponent and fraction bits, if the format is what these two numbers mean in IEEE 754's way."""
    bias = 2 ** (format.exponent_bits - 1) - 1
    regular = (format.min_exponent, format.max_exponent, format.missing_top) == (1 - bias, bias, 0)
    plain = format.overflow == "infinity" and format.nan_codes == "ieee" and format.signed_zero
    return (format.exponent_bits, format.precision - 1) if regular and plain and format.precision > 1 else None


def _same_dtype(rounder: Rounder) -> Rounder:
    """Undo NumPy's promotion of float32 to float64."""

    def call(x: Any) -> Any:
        result = rounder(x)
        return result if result.dtype == x.dtype else result.astype(x.dtype)

    return call


# Casts of array libraries


def _there_and_back(x: Any, dtype: Any) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype).astype(x.dtype)


def _cast(find: Callable[[str], Any], format: Format, rounding: str) -> Rounder | None:
    dtype = find(format.name)
    if dtype is None or rounding != "nearest_even" or NAMED.get(format.name) != format:
        return None
    return partial(_there_and_back, dtype=dtype)


def _jax_dtype(name: str) -> Any:
    return getattr(jnp, name, None) if name.startswith(("bfloat", "float")) else None


def _numpy_dtype(name: str) -> Any:
    return np.float16 if name == "float16" else None


def _reduce_precision(format: Format, rounding: str) -> Rounder | None:
    bits = ieee_bits(format)
    if bits is None or rounding != "nearest_even" or bits[0] > 8:
        return None
    return partial(lax.reduce_precision, exponent_bits=bits[0], mantissa_bits=bits[1])


def casts() -> Iterator[Peer]:
    """Casts of JAX, ml_dtypes and NumPy, there and back."""
    yield Peer("jnp.astype, jitted", "there and back", "jax", partial(_cast, _jax_dtype))
    yield Peer("lax.reduce_precision, jitted", "IEEE-like formats only", "jax", _reduce_precision)
    yield Peer("ml_dtypes on NumPy", "there and back", "numpy", partial(_cast, partial(_attribute, ml_dtypes)))
    yield Peer("NumPy float16", "there and back", "numpy", partial(_cast, _numpy_dtype))


def _attribute(module: Any, name: str) -> Any:
    return getattr(module, name, None)


# gfloat

GFLOAT_MODES = {
    "nearest_even": "TiesToEven",
    "nearest_away": "TiesToAway",
    "toward_zero": "TowardZero",
    "up": "TowardPositive",
    "down": "TowardNegative",
    "stochastic": "StochasticFastest",
}
GFLOAT_BITS = 16
"""Random bits that gfloat is given for an element."""


def gfloat_format(format: Format) -> Any:
    """The record of gfloat for a format."""
    types = importlib.import_module("gfloat.types")
    return types.FormatInfo(
        name=format.name,
        k=format.bits,
        precision=format.precision,
        bias=format.bias,
        is_signed=format.signed,
        domain=types.Domain.Extended if format.has_infinity else types.Domain.Finite,
        has_nz=format.signed_zero,
        num_high_nans=format.codes // (1 + format.signed) - 1 - format.last_index - format.has_infinity,
        has_subnormals=format.subnormals,
        is_twos_complement=False,
    )


def _gfloat(format: Format, rounding: str) -> Rounder | None:
    gfloat = importlib.import_module("gfloat")
    record, mode = gfloat_format(format), GFLOAT_MODES.get(rounding)
    if mode is None:
        return None

    def call(x: Any) -> Any:
        given = {}
        if rounding == "stochastic":
            bits = given_bits(x.shape)
            given = {"srbits": jnp.asarray(bits) if isinstance(x, jax.Array) else bits, "srnumbits": GFLOAT_BITS}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where JAX has no 64-bit integers, gfloat's become shorter
            return gfloat.round_ndarray(record, x, gfloat.RoundMode[mode], format.overflow == "saturate", **given)

    return _same_dtype(call)


@lru_cache(maxsize=1)
def given_bits(shape: tuple[int, ...]) -> np.ndarray:
    """Random bits for gfloat, drawn once for a shape, so that only rounding is timed."""
    return np.random.default_rng(0).integers(0, 2**GFLOAT_BITS, shape)


def gfloat_peers() -> Iterator[Peer]:
    """The package gfloat on NumPy, and compiled by JAX."""
    importlib.import_module("gfloat")
    given = "stochastic rounding with bits that are given"
    yield Peer("gfloat on NumPy", given, "numpy", _gfloat)
    yield Peer("gfloat, jitted", given, "jax", _gfloat)


# pychop

PYCHOP_MODES = {
    "nearest_even": 1,
    "up": 2,
    "down": 3,
    "toward_zero": 4,
    "stochastic": 5,
    "nearest_away": 8,
    "odd": 9,
}


def _pychop(format: Format, rounding: str, stochastic: bool) -> Rounder | None:
    bits = ieee_bits(format)
    if bits is None or (rounding == "stochastic" and not stochastic):
        return None
    return _same_dtype(importlib.import_module("pychop").Chop(*bits, rmode=PYCHOP_MODES[rounding]))


def pychop_peers() -> Iterator[Peer]:
    """The package pychop on NumPy and on JAX."""
    importlib.import_module("pychop").backend("auto")
    yield Peer("pychop on NumPy", "IEEE-like formats only", "numpy", partial(_pychop, stochastic=True))
    note = "IEEE-like formats only; no stochastic rounding, as a compiled call would draw the same numbers each time"
    yield Peer("pychop on JAX, jitted", note, "jax", partial(_pychop, stochastic=False))


# torch

TORCH_NAMES = (
    "bfloat16",
    "float16",
    "float8_e5m2",
    "float8_e4m3fn",
    "float8_e5m2fnuz",
    "float8_e4m3fnuz",
    "float8_e8m0fnu",
)


def _torch_cast(format: Format, rounding: str) -> Rounder | None:
    dtype = getattr(importlib.import_module("torch"), format.name, None)
    if format.name not in TORCH_NAMES or dtype is None or rounding != "nearest_even":
        return None
    return lambda x: x.to(dtype).to(x.dtype)


def torch_peers() -> Iterator[Peer]:
    """The casts of torch."""
    importlib.import_module("torch").set_num_threads(len(os.sched_getaffinity(0)))
    yield Peer("torch casts", "there and back", "torch", _torch_cast)


def _qtorch(format: Format, rounding: str) -> Rounder | None:
    quantize = importlib.import_module("qtorch.quant").float_quantize
    # Its documentation says of "nearest" that it is to nearest even.
    bits, mode = ieee_bits(format), {"nearest_even": "nearest", "stochastic": "stochastic"}.get(rounding)
    if bits is None or mode is None:
        return None
    return lambda x: quantize(x, exp=bits[0], man=bits[1], rounding=mode)


def qtorch_peers() -> Iterator[Peer]:
    """Rounding by qtorch, float32 only."""
    importlib.import_module("qtorch.quant")
    yield Peer("qtorch", "IEEE-like formats only; from float32 alone", "torch", _qtorch, dtypes=("float32",))


# CPFloat


def cpfloat_peers() -> Iterator[Peer]:
    """CPFloat through ctypes, without OpenMP's threads beyond those of this process."""
    path = os.environ.get("CPFLOAT_LIBRARY")
    if not path:
        raise ImportError("the environment variable CPFLOAT_LIBRARY does not name its shared library")
    library = CPFloat(path)
    yield Peer("CPFloat", "IEEE-like formats only; through ctypes, into a fresh array", "numpy", library.rounder)


SOURCES: dict[str, Callable[[], Iterator[Peer]]] = {
    "jax": casts,
    "gfloat": gfloat_peers,
    "pychop": pychop_peers,
    "torch": torch_peers,
    "qtorch": qtorch_peers,
    "CPFloat": cpfloat_peers,
}
"""What gives peers, under the name of the distribution."""


class Found(NamedTuple):
    """What is there.

    Attributes:
        peers: the peers that can be used.
        versions: the distributions behind them, with versions.
        missing: the distributions that cannot be used, with the reason.
    """

    peers: list[Peer]
    versions: dict[str, str]
    missing: dict[str, str]


def find() -> Found:
    """Look for every peer.

    Returns:
        Those that are there, and why the others are not.
    """
    found = Found([], {}, {})
    for name, source in SOURCES.items():
        try:
            found.peers.extend(source())
        except (ImportError, OSError, RuntimeError, ValueError) as failure:
            found.missing[name] = str(failure).strip().partition("\n")[0]
            continue
        found.versions[name] = "" if name == "CPFloat" else metadata.version(name)
    found.versions["ml_dtypes"] = metadata.version("ml_dtypes")
    found.versions["numpy"] = metadata.version("numpy")
    return found
