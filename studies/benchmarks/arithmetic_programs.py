"""The speed of emulated programs: chains of operations, matrix products, an iteration, and what emulation adds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from arithmetic_rounding import JUDGED, OURS, SLOW, Beside
from jax import lax
from measure import Buffer, Entry, Sampler, compilation, interleaved, sampler, size
from peers import Peer

from precond_lab import Arithmetic, emulate
from precond_lab.arithmetic.formats import named
from precond_lab.arithmetic.presets import PRESETS

NATIVE = "native float32"
LENGTHS = (2, 5, 12)
DEFAULT, FAST = "bfloat16 (carried in float64, the default)", "bfloat16, carried in float32"
ARITHMETICS = {
    DEFAULT: Arithmetic("bfloat16"),
    FAST: Arithmetic("bfloat16", carrier="float32"),
    "float16": Arithmetic("float16"),
    "float8_e4m3fn": Arithmetic("float8_e4m3fn"),
    "float8_e5m2": Arithmetic("float8_e5m2"),
}
UNIT = "h100-bf16"
"""The preset in which the iteration runs."""


@dataclass(frozen=True)
class ProgramScale:
    """How much is computed.

    Args:
        chain: elements of the long chains.
        short_chain: elements of the chains that other libraries run.
        products: orders of the matrices that are multiplied.
        peer_product: order of those that other libraries multiply.
        iteration: order of the matrix of the Newton-Schulz iteration.
        steps: of this iteration.
        rounds: how often everything is timed.
        patience: seconds that one call may take, of another library or of a matrix product.
        long_patience: seconds that the iteration may take.
    """

    chain: int
    short_chain: int
    products: tuple[int, ...]
    peer_product: int
    iteration: int
    steps: int
    rounds: int
    patience: float
    long_patience: float


def normal(n: int, *shape: int) -> np.ndarray:
    """Standard normal float32 numbers."""
    return np.random.default_rng(n).standard_normal(shape or n).astype(np.float32)


# Chains

FACTORS = np.array([0.75, 0.6875, 0.8125, 0.625, 0.875, 0.5625], np.float32)
TERMS = np.array([0.25, -0.125, 0.5, 0.375, -0.3125, 0.4375], np.float32)


def chain(x: jax.Array, factors: jax.Array, terms: jax.Array, length: int) -> jax.Array:
    """Products and sums in turn, with factors and terms that the compiler does not know."""
    for step in range(length):
        x = x + terms[step // 2] if step % 2 else x * factors[step // 2]
    return x


def chain_column(length: int) -> str:
    """The head of a chain's column."""
    return f"{length} operations"


def measure_chains(title: str, scale: ProgramScale) -> list[Entry]:
    """Chains in place, emulated and native."""
    entries = []
    for length in LENGTHS:
        buffer, program = Buffer(jnp.array(normal(scale.chain))), partial(chain, length=length)
        arguments = jnp.array(FACTORS), jnp.array(TERMS)
        samplers = {NATIVE: sampler(buffer.through(program, *arguments))}
        for name, arithmetic in ARITHMETICS.items():
            samplers[name] = sampler(buffer.through(emulate(program, arithmetic), *arguments))
        timings = interleaved(samplers, NATIVE, scale.rounds)
        entries += [Entry(title, name, chain_column(length), 0, timing) for name, timing in timings.items()]
    return entries


def fast(format: str) -> Arithmetic:
    """The arithmetic whose carrier is float32, as that of the other libraries is."""
    return Arithmetic(format, carrier="float32" if format == "bfloat16" else "auto")


def measure_chains_beside(title: str, peers: Sequence[Peer], scale: ProgramScale) -> Beside:
    """The shortest chain with every result rounded by hand, in other libraries."""
    beside, n, program = Beside([], {}), scale.short_chain, partial(chain, length=2)
    host, arguments = normal(n), (jnp.array(FACTORS), jnp.array(TERMS))
    workload = Workload((host,), (host[: max(1, n // 100)],), 100)

    def by_hand(x: Any, rounder: Callable) -> Any:
        return rounder(rounder(x * FACTORS[0]) + TERMS[0])

    for name in JUDGED:
        buffer = Buffer(jnp.array(host))
        own = {
            NATIVE: sampler(buffer.through(program, *arguments)),
            OURS: sampler(buffer.through(emulate(program, fast(name)), *arguments)),
        }
        theirs = [(peer, partial(by_hand, rounder=rounder)) for peer, rounder in with_rounding(peers, name)]
        compare(beside, title, name, own, theirs, workload, n, scale)
    return beside


def with_rounding(peers: Sequence[Peer], format: str) -> list[tuple[Peer, Callable]]:
    """The peers that round to a format, with their function."""
    found = ((peer, peer.rounder(named(format), "nearest_even")) for peer in peers)
    return [(peer, rounder) for peer, rounder in found if rounder is not None]


class Workload(NamedTuple):
    """What a peer's program is given.

    Attributes:
        arguments: arrays.
        probe: smaller ones, which tell how long the program would take.
        factor: how much more work the arguments are.
    """

    arguments: tuple[np.ndarray, ...]
    probe: tuple[np.ndarray, ...]
    factor: float


def peer_sampler(peer: Peer, program: Callable, workload: Workload, patience: float) -> Sampler | None:
    """The sampler of a peer's program; None where one call would take too long."""
    run = jax.jit(program) if peer.kind == "jax" else program
    probe, arguments = ([peer.take(x) for x in xs] for xs in (workload.probe, workload.arguments))
    if sampler(partial(run, *probe))() * workload.factor > patience:
        return None
    return sampler(partial(run, *arguments))


def compare(
    beside: Beside,
    title: str,
    format: str,
    own: dict[str, Sampler],
    programs: Sequence[tuple[Peer, Callable]],
    workload: Workload,
    work: float,
    scale: ProgramScale,
) -> None:
    """Add a column to a comparison: own programs, of which one is the baseline, and those of other libraries."""
    samplers = dict(own)
    for peer, program in programs:
        sample = peer_sampler(peer, program, workload, scale.patience)
        if sample is None:
            beside.marks[peer.name, format] = SLOW
        else:
            samplers[peer.name] = sample
    timings = interleaved(samplers, NATIVE, scale.rounds)
    beside.entries.extend(Entry(title, case, format, work / 1e9, timing) for case, timing in timings.items())


# Matrix products


def product_arithmetics() -> dict[str, Arithmetic]:
    """The arithmetics of the matrix products: the formats, then one thing changed at a time."""
    changed = {
        "reversed": {"order": "reversed"},
        "pairwise": {"order": "pairwise"},
        "blocks of 32": {"order": "blocked(32)"},
        "exact, rounded once": {"order": "exact"},
        "fused multiply-add": {"fma": True},
        "sums in float32": {"accumulate": "float32"},
    }
    settings = {f"{FAST}, {name}": Arithmetic("bfloat16", carrier="float32", **how) for name, how in changed.items()}
    presets = {f"preset {name}": preset.arithmetic for name, preset in PRESETS.items()}
    return ARITHMETICS | settings | presets


def measure_products(title: str, scale: ProgramScale) -> Beside:
    """Emulated products of square matrices against the native one, as far as they do not take too long."""
    beside, last = Beside([], {}), 0
    program = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    cases = {NATIVE: program} | {name: emulate(program, how) for name, how in product_arithmetics().items()}
    for n in scale.products:
        A, B = (jnp.asarray(x) for x in normal(n, 2, n, n))
        expected = {entry.case: entry.timing.seconds * (n / last) ** 3 for entry in beside.entries if last}
        slow = [name for name, seconds in expected.items() if seconds > scale.patience]
        beside.marks.update({(name, str(n)): SLOW for name in slow})
        samplers = {name: sampler(partial(jax.jit(f), A, B)) for name, f in cases.items() if name not in slow}
        timings = interleaved(samplers, NATIVE, scale.rounds)
        beside.entries.extend(Entry(title, name, str(n), n**3 / 1e9, timing) for name, timing in timings.items())
        last = n
    return beside


def product_by_hand(A: Any, B: Any, rounder: Callable, compiled: bool) -> Any:
    """The product as a loop of outer products, each rounded, and each sum."""

    def step(k: Any, C: Any) -> Any:
        return rounder(C + rounder(A[:, k, None] * B[k]))

    C = A * 0
    if compiled:
        return lax.fori_loop(0, len(A), step, C)
    for k in range(len(A)):
        C = step(k, C)
    return C


def measure_products_beside(title: str, peers: Sequence[Peer], scale: ProgramScale) -> Beside:
    """The same product in other libraries."""
    beside, n = Beside([], {}), scale.peer_product
    small = max(1, n // 8)
    workload = Workload(tuple(normal(n, 2, n, n)), tuple(normal(n, 2, small, small)), (n / small) ** 3)
    A, B = (jnp.asarray(x) for x in workload.arguments)
    native = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    for name in JUDGED:
        own = {
            NATIVE: sampler(partial(jax.jit(native), A, B)),
            OURS: sampler(partial(jax.jit(emulate(native, fast(name))), A, B)),
        }
        theirs = [
            (peer, partial(product_by_hand, rounder=rounder, compiled=peer.kind == "jax"))
            for peer, rounder in with_rounding(peers, name)
        ]
        compare(beside, title, name, own, theirs, workload, n**3, scale)
    return beside


# An iteration of matrix products


def newton_schulz(X: jax.Array, steps: int) -> jax.Array:
    """The orthogonal polar factor, by X := (3 X - X X^T X) / 2: two products a step."""
    multiply = partial(jnp.matmul, precision=lax.Precision.HIGHEST)

    def step(X: jax.Array, _: None) -> tuple[jax.Array, None]:
        return (3 * X - multiply(multiply(X, X.T), X)) / 2, None

    return lax.scan(step, X, None, length=steps)[0]


def iteration_arithmetics() -> dict[str, Arithmetic]:
    """Results of products rounded once, or every product and sum within them."""
    return {
        "bfloat16, sums in float32": Arithmetic("bfloat16", accumulate="float32"),
        f"preset {UNIT}": Arithmetic.preset(UNIT),
        "bfloat16, carried in float32, products exact and rounded once": Arithmetic(
            "bfloat16", carrier="float32", order="exact"
        ),
        **ARITHMETICS,
    }


def measure_iteration(title: str, scale: ProgramScale) -> Beside:
    """The whole iteration, emulated and native, as far as it does not take too long."""
    n, beside, samplers = scale.iteration, Beside([], {}), {}
    cases = {NATIVE: partial(newton_schulz, steps=scale.steps)}
    cases |= {name: emulate(cases[NATIVE], arithmetic) for name, arithmetic in iteration_arithmetics().items()}
    for name, program in cases.items():
        small, X = (jnp.asarray(normal(k, k, k) / (2 * np.sqrt(k))) for k in (n // 4, n))
        if sampler(partial(jax.jit(program), small))() * 4**3 > scale.long_patience:
            beside.marks[name, str(n)] = SLOW
        else:
            samplers[name] = sampler(partial(jax.jit(program), X))
    timings = interleaved(samplers, NATIVE, min(scale.rounds, 5))
    beside.entries.extend(Entry(title, name, str(n), 0, timing) for name, timing in timings.items())
    return beside


# Events


def measure_events(title: str, scale: ProgramScale) -> list[Entry]:
    """The longest chain with and without its events counted."""
    entries, program = [], partial(chain, length=max(LENGTHS))
    x, arguments = jnp.array(normal(scale.short_chain)), (jnp.array(FACTORS), jnp.array(TERMS))
    column = f"{chain_column(max(LENGTHS))}, {size(scale.short_chain)} elements"
    samplers = {NATIVE: sampler(partial(jax.jit(program), x, *arguments))}
    for name in (DEFAULT, FAST, "float16"):
        for counting in (False, True):
            emulated = jax.jit(emulate(program, ARITHMETICS[name], events=counting))
            case = f"{name}, counting events" if counting else name
            samplers[case] = sampler(partial(emulated, x, *arguments))
    timings = interleaved(samplers, NATIVE, scale.rounds)
    entries += [Entry(title, name, column, 0, timing) for name, timing in timings.items()]
    return entries


# Compilation


def compiled_programs(scale: ProgramScale) -> Mapping[str, tuple[Callable, tuple]]:
    """What is compiled, with the arguments that give the shapes."""
    n = scale.peer_product
    x, A, ends = jnp.ones(scale.short_chain), jnp.ones((n, n)), (jnp.array(FACTORS), jnp.array(TERMS))
    return {
        chain_column(max(LENGTHS)): (partial(chain, length=max(LENGTHS)), (x, *ends)),
        f"dot product of {n}": (jnp.vdot, (A[0], A[0])),
        f"matrix product of {n}": (jnp.matmul, (A, A)),
        "Newton-Schulz": (partial(newton_schulz, steps=scale.steps), (A,)),
    }


def measure_compilation(title: str, scale: ProgramScale) -> list[Entry]:
    """Trace and compile, nothing being cached."""
    entries = []
    for column, (program, arguments) in compiled_programs(scale).items():
        samplers = {NATIVE: compilation(partial(partial, program), arguments)}
        for name, arithmetic in ARITHMETICS.items():
            samplers[name] = compilation(partial(emulate, program, arithmetic), arguments)
        for sample in samplers.values():
            sample()  # the first compilation of all loads libraries
        timings = interleaved(samplers, NATIVE, min(scale.rounds, 5))
        entries += [Entry(title, name, column, 0, timing) for name, timing in timings.items()]
    return entries
