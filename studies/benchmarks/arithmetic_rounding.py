"""The speed of rounding an array, in every format and mode, and beside other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from measure import Buffer, Entry, Sampler, interleaved, sampler, size
from peers import Peer
from rounding_oracle import UNSIGNED

from precond_lab.arithmetic import draws
from precond_lab.arithmetic.formats import NAMED, Format, named
from precond_lab.arithmetic.rounding import ROUNDINGS, round_bits

COPY = "copy: negation, in place"
OURS = "precond_lab"
JUDGED = ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
"""The formats in which other libraries are judged and timed."""
CARRIERS = (np.dtype(np.float32), np.dtype(np.float64))
SLOW = "–"
"""Stands where a call would have taken longer than the scale allows."""


@dataclass(frozen=True)
class RoundingScale:
    """How much is rounded.

    Args:
        sizes: of the float32 arrays, ascending.
        wide: size of the float64 array.
        rounds: how often everything is timed.
        patience: seconds that one call of another library may take.
    """

    sizes: tuple[int, ...]
    wide: int
    rounds: int
    patience: float


# Every format and mode


def rounding_call(buffer: Buffer, format: Format, rounding: str) -> Any:
    """A call that rounds the buffer in place; random words are drawn within it, from the counter hash."""
    if not ROUNDINGS[rounding].random:
        return buffer.through(partial(round_bits, format=format, rounding=rounding))
    unsigned = UNSIGNED[np.dtype(buffer.x.dtype)]

    def stochastic(x: jax.Array, seed: jax.Array, draw: jax.Array) -> jax.Array:
        return round_bits(x, format, rounding, draws.words(seed, draw, x.shape, unsigned))

    # The seed is an argument, lest the compiler draw the words once and for all.
    return buffer.through(stochastic, jnp.asarray(draws.seed_words(0)), jnp.uint32(1))


def normal(n: int, dtype: Any) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(n).standard_normal(n).astype(dtype)


def measure_formats(title: str, n: int, dtype: np.dtype, rounds: int) -> list[Entry]:
    """Every format and mode against a copy, format by format.

    Args:
        title: of the section.
        n: number of elements.
        dtype: of the carrier.
        rounds: how often everything is timed.

    Returns:
        A row for every format, a column for every mode.
    """
    entries = []
    with jax.enable_x64(dtype == np.float64):
        for format in NAMED.values():
            buffer = Buffer(jnp.array(normal(n, dtype)))
            samplers = {"copy": sampler(buffer.through(jnp.negative))}
            for rounding in ROUNDINGS:
                samplers[rounding] = sampler(rounding_call(buffer, format, rounding))
            timings = interleaved(samplers, "copy", rounds)
            entries += [Entry(title, format.name, column, n / 1e9, timing) for column, timing in timings.items()]
    return entries


def format_title(n: int, dtype: np.dtype) -> str:
    """The title of such a section."""
    return f"Every format and mode, {dtype}, {size(n)} elements"


# Beside other libraries


def peer_sampler(peer: Peer, rounder: Any, host: np.ndarray) -> Sampler:
    """A sampler of a peer's rounding; with a donated array where it is compiled by JAX."""
    if peer.kind == "jax":
        return sampler(Buffer(jnp.array(host)).through(rounder))
    return sampler(partial(rounder, peer.take(host)))


def columns() -> dict[str, tuple[str, bool]]:
    """What other libraries are timed in: to nearest, and stochastically."""
    return {name: (name, False) for name in JUDGED} | {f"{name}, stochastic": (name, True) for name in JUDGED}


class Beside(NamedTuple):
    """A comparison with other libraries.

    Attributes:
        entries: the figures.
        marks: what is to be said of cells without one.
    """

    entries: list[Entry]
    marks: dict[tuple[str, str], str]


def measure_beside(title: str, n: int, dtype: np.dtype, peers: Sequence[Peer], scale: RoundingScale) -> Beside:
    """Every peer on the same array, one format after the other.

    Args:
        title: of the section.
        n: number of elements.
        dtype: of the array.
        peers: the other libraries.
        scale: how much is measured.

    Returns:
        A row for every library; a dash where a call takes longer than is waited for.
    """
    beside, host = Beside([], {}), normal(n, dtype)
    probe = host[: max(1, n // 100)]
    with jax.enable_x64(dtype == np.float64):
        for column, (name, stochastic) in columns().items():
            format = named(name)
            buffer = Buffer(jnp.array(host))
            mode = "stochastic" if stochastic else "nearest_even"
            samplers = {
                COPY: sampler(buffer.through(jnp.negative)),
                OURS: sampler(rounding_call(buffer, format, mode)),
            }
            for peer in peers:
                rounder = peer.rounder(format, mode)
                if rounder is None or dtype.name not in peer.dtypes:
                    continue
                # A hundredth of the array tells how long all of it takes, give or take the call itself.
                if 100 * peer_sampler(peer, rounder, probe)() > scale.patience:
                    beside.marks[peer.name, column] = SLOW
                    continue
                samplers[peer.name] = peer_sampler(peer, rounder, host)
            timings = interleaved(samplers, COPY, scale.rounds)
            beside.entries.extend(Entry(title, case, column, n / 1e9, t) for case, t in timings.items())
    return beside


def beside_title(n: int, dtype: np.dtype) -> str:
    """The title of such a section."""
    return f"Beside other libraries, {dtype}, {size(n)} elements"
