"""The speed of block formats and integers, and of the random words of stochastic rounding."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from arithmetic_rounding import COPY, JUDGED, SLOW, Beside, RoundingScale, normal, rounding_call
from measure import Buffer, Entry, interleaved, sampler, size

from precond_lab.arithmetic.blocks import MX, NVFP4, Integer
from precond_lab.arithmetic.formats import named
from precond_lab.arithmetic.quantization import round_blocks
from precond_lab.arithmetic.rounding import round_bits

ROW = 2**10
"""Elements of a row, where a scale belongs to a row."""

QUANTIZATIONS = {
    "MX float8_e4m3fn, blocks of 32": MX("float8_e4m3fn", 32),
    "MX float8_e5m2, blocks of 32": MX("float8_e5m2", 32),
    "MX float6_e3m2fn, blocks of 32": MX("float6_e3m2fn", 32),
    "MX float6_e2m3fn, blocks of 32": MX("float6_e2m3fn", 32),
    "MX float4_e2m1fn, blocks of 32": MX("float4_e2m1fn", 32),
    "NVFP4, blocks of 16": NVFP4(),
    "int8, a scale a row": Integer(8, scale="row"),
    "int8, a scale a block of 64": Integer(8, scale="block", block=64),
    "int8, one scale": Integer(8, scale="tensor"),
}
MX_CASE, ROW_CASE = "MX float8_e4m3fn, blocks of 32", "int8, a scale a row"


def rows(n: int) -> np.ndarray:
    """About `n` numbers in rows."""
    return normal(max(1, n // ROW) * ROW, np.float32).reshape(-1, ROW)


def pychop_blocks() -> Iterator[tuple[str, str, Callable]]:
    """The same roundings by pychop."""
    pychop = importlib.import_module("pychop")
    yield MX_CASE, "pychop on NumPy", partial(pychop.mx_quantize, format="mxfp8_e4m3")
    integer = pychop.Chopi(bits=8, symmetric=True, per_channel=True, axis=0)
    yield ROW_CASE, "pychop on NumPy", lambda x: integer.dequantize(integer.quantize(x))


def torch_blocks() -> Iterator[tuple[str, str, Callable]]:
    """The same rounding by torch."""
    torch = importlib.import_module("torch")

    def quantize(x: np.ndarray) -> Any:
        X = torch.from_numpy(x)
        scale = X.abs().amax(dim=1) / 127
        zeros = torch.zeros(len(X), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(X, scale, zeros, 0, -127, 127)

    yield ROW_CASE, "torch", quantize


BLOCK_PEERS = {"pychop": pychop_blocks, "torch": torch_blocks}
"""Other libraries that round blocks, under the name of the distribution."""


def measure_blocks(title: str, present: Sequence[str], scale: RoundingScale) -> Beside:
    """Blocks and integers, rounded in place, against a copy.

    Args:
        title: of the section.
        present: the distributions that are there.
        scale: how much is measured.

    Returns:
        A row for every kind of block and for every other library that has it.
    """
    beside = Beside([], {})
    for n in scale.sizes[1:]:
        host = rows(n)
        buffer = Buffer(jnp.array(host))
        samplers = {COPY: sampler(buffer.through(jnp.negative))}
        for name, record in QUANTIZATIONS.items():
            samplers[name] = sampler(buffer.through(lambda x, record=record: round_blocks(x, record)))
        probe = rows(ROW)
        for distribution in present:
            for case, peer, call in BLOCK_PEERS.get(distribution, tuple)():
                name = f"{case}, {peer}"
                if sampler(partial(call, probe))() * host.size / probe.size > scale.patience:
                    beside.marks[name, size(n)] = SLOW
                else:
                    samplers[name] = sampler(partial(call, host))
        timings = interleaved(samplers, COPY, scale.rounds)
        beside.entries.extend(Entry(title, name, size(n), host.size / 1e9, t) for name, t in timings.items())
    return beside


# Random words

GIVEN, HASH, THREEFRY = "words given", "words drawn by the counter hash", "words drawn by threefry"


def measure_random(title: str, scale: RoundingScale) -> list[Entry]:
    """Stochastic rounding in place, by where its random words come from."""
    n, entries = scale.sizes[1], []
    key = jax.random.key(0, impl="threefry2x32")
    words = jax.random.bits(key, (n,), jnp.uint32)
    for name in JUDGED:
        format, buffer = named(name), Buffer(jnp.array(normal(n, np.float32)))

        def given(x: jax.Array, words: jax.Array, format: Any = format) -> jax.Array:
            return round_bits(x, format, "stochastic", words)

        def threefry(x: jax.Array, key: jax.Array, format: Any = format) -> jax.Array:
            return round_bits(x, format, "stochastic", jax.random.bits(key, x.shape, jnp.uint32))

        samplers = {
            COPY: sampler(buffer.through(jnp.negative)),
            GIVEN: sampler(buffer.through(given, words)),
            HASH: sampler(rounding_call(buffer, format, "stochastic")),
            THREEFRY: sampler(buffer.through(threefry, key)),
        }
        timings = interleaved(samplers, COPY, scale.rounds)
        entries += [Entry(title, case, name, n / 1e9, timing) for case, timing in timings.items()]
    return entries
