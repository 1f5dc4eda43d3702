"""Updates of rank one: the programs of one form, format and size, timed beside each other and compared bit by bit."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from measure import Sampler, Timing, interleaved, sampler, threads
from rank_one_peers import BY_LOOP, BY_MATMUL, IN_SEQUENCE, Sums, dtype_of, run

from precond_lab import Arithmetic, emulate
from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one.batches import piece, run_cases

PEER = "NumPy, sums in sequence"
LOOP, MATMUL = "NumPy, sums by a loop over columns", "NumPy, sums in float32 by @"
BATCH, BATCH32 = "one call", "one call, sums in float32"
NATIVE = "one call, native float32"
ROUNDING, COPY = "yardstick: its roundings in a loop of their own", "yardstick: a copy of the state"
PEERS = {PEER: IN_SEQUENCE, LOOP: BY_LOOP, MATMUL: BY_MATMUL}
TWINS = {PEER: BATCH, LOOP: BATCH, MATMUL: BATCH32}
"""Which program computes what a peer computes."""
ROUNDED = {"gain": 5, "symmetric": 6, "potter": 7, "bierman_ud": 6}
"""Rounded operations of an update, in units of n^2, as the forms state them."""
IN_CACHE, REPEATS = 4096, 256


class Cell(NamedTuple):
    """What is varied.

    Attributes:
        form: a name in `METHODS`.
        format: of all that is rounded.
        n: order of the matrices.
    """

    form: str
    format: str
    n: int


class Size(NamedTuple):
    """How much is run at once.

    Attributes:
        n: order of the matrices.
        cases: in a call.
        steps: of each.
        peers: cases that a peer runs in a sample.
    """

    n: int
    cases: int
    steps: int
    peers: int


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        sizes: see `Size`.
        forms: names in `METHODS`.
        formats: names.
        few: the size from which on only the first format, and the programs whose sums are in sequence, are measured.
        rounds: how often each is.
    """

    sizes: tuple[Size, ...]
    forms: tuple[str, ...]
    formats: tuple[str, ...]
    few: int
    rounds: int


class Check(NamedTuple):
    """A comparison with a peer, bit by bit.

    Attributes:
        cell: where.
        peer: its name.
        numbers: how many were compared.
        different: how many differ.
    """

    cell: Cell
    peer: str
    numbers: int
    different: int


class Found(NamedTuple):
    """What was measured in a cell.

    Attributes:
        cell: which.
        size: how much was run.
        timings: seconds of an update, by program; ratios against the peer.
        checks: whether the same was computed.
    """

    cell: Cell
    size: Size
    timings: dict[str, Timing]
    checks: list[Check]


class Inputs(NamedTuple):
    """The cases.

    Attributes:
        states: at the start, with a first axis of cases.
        V: streams, [cases, steps, n].
        beta: [cases].
        alpha: [cases].
    """

    states: Any
    V: jax.Array
    beta: jax.Array
    alpha: jax.Array


def inputs(form: str, size: Size) -> Inputs:
    """Cases over condition number, decay and seed, of numbers that every format holds without much loss.

    Args:
        form: a name in `METHODS`.
        size: how many.

    Returns:
        The cases.
    """
    draw = np.random.default_rng(0)
    V = (draw.standard_normal((size.cases, size.steps, size.n)) / np.sqrt(size.n)).astype(np.float32)
    conditions = 2.0 ** draw.integers(0, 7, size.cases)
    powers = np.linspace(0, 1, size.n)
    C = jnp.asarray(conditions[:, None] ** -powers, jnp.float32)
    beta = draw.choice([0.75, 0.875, 0.9375], size.cases).astype(np.float32)
    states = jax.jit(jax.vmap(rank_one.METHODS[form].start))(C)
    return Inputs(states, jnp.asarray(V), jnp.asarray(beta), jnp.asarray(1 - beta))


def programs(cell: Cell, few: bool) -> dict[str, Callable]:
    """The functions of (states, V, beta, alpha) with a first axis of cases, to be compiled.

    Args:
        cell: form and format.
        few: leave out sums in float32.

    Returns:
        They by name; each returns the last states.
    """
    recursion = rank_one.METHODS[cell.form]
    found = {BATCH: _last(emulate(partial(run_cases, recursion), Arithmetic(cell.format, carrier="float32")))}
    if not few:
        arithmetic = Arithmetic(cell.format, carrier="float32", accumulate="float32")
        found[BATCH32] = _last(emulate(partial(run_cases, recursion), arithmetic))
    one = partial(rank_one.run, recursion)

    def native(states: Any, V: jax.Array, beta: jax.Array, alpha: jax.Array) -> Any:
        size = piece(sum(x[0].size for x in jax.tree.leaves(states)), len(V))
        return jax.lax.map(lambda case: one(*case)[0], (states, V, beta, alpha), batch_size=size)

    found[NATIVE] = native
    return found


def _last(function: Callable) -> Callable:
    return lambda *arguments: function(*arguments)[0]


def compiled(function: Callable, *arguments: Any) -> Callable:
    """A program compiled for such arguments, with wide vectors on a CPU.

    Args:
        function: of arrays.
        arguments: like those it will get.

    Returns:
        The compiled function.
    """
    options = {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=options).lower(*arguments).compile()


def workers() -> int:
    """How many calls run side by side: one a core, each in its own thread; on an accelerator one."""
    return threads() if jax.default_backend() == "cpu" else 1


def side_by_side(call: Callable, parts: Sequence[tuple]) -> Callable[[], list]:
    """A call for each part, in threads of their own.

    Args:
        call: compiled.
        parts: its arguments.

    Returns:
        A function that does all, and waits for none on an accelerator.
    """
    if len(parts) == 1:
        return lambda: [call(*parts[0])]
    pool = ThreadPoolExecutor(len(parts))
    return lambda: list(pool.map(lambda part: jax.block_until_ready(call(*part)), parts))


def divided(tree: Any, count: int) -> list[tuple]:
    """A tuple of arrays in as many parts, along the cases; what does not come out even is left out."""
    each = max(1, len(jax.tree.leaves(tree)[0]) // count)
    return [tuple(jax.tree.map(lambda x, i=i: x[i * each : (i + 1) * each], tree)) for i in range(count)]


def per_update(sample: Sampler, updates: float) -> Sampler:
    """Seconds of one update."""
    return lambda: sample() / updates


# Peers


def narrow(cell: Cell, cases: Inputs, index: int) -> tuple:
    """One case as a peer takes it, in the dtype of the format."""
    dtype = dtype_of(cell.format)
    state = tuple(np.asarray(x[index]).astype(dtype) for x in cases.states)
    V, beta, alpha = (np.asarray(x[index]).astype(dtype) for x in (cases.V, cases.beta, cases.alpha))
    return state, V, beta[()], alpha[()]


def peer_call(cell: Cell, sums: Sums, cases: Inputs, count: int) -> Callable[[], list]:
    """Some cases, one after the other."""
    arguments = [narrow(cell, cases, i) for i in range(count)]
    return lambda: [run(cell.form, sums, *case) for case in arguments]


def check(cell: Cell, peer: str, program: Callable, cases: Inputs, count: int) -> Check:
    """Compare the last states of some cases with a peer's, bit by bit, NaN being NaN.

    Args:
        cell: where.
        peer: its name.
        program: what the peer is compared with, not compiled.
        cases: the cases.
        count: how many of them.

    Returns:
        What was found.
    """
    some = jax.tree.map(lambda x: x[:count], cases)
    ours = jax.jit(program)(*some)
    theirs = peer_call(cell, PEERS[peer], some, count)()
    numbers = different = 0
    for mine, other in zip(ours, zip(*theirs, strict=True), strict=True):
        a, b = np.asarray(mine), np.stack([x.astype(np.float32) for x in other])
        same = (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))
        numbers, different = numbers + a.size, different + int(np.sum(~same))
    return Check(cell, peer, numbers, different)


# Yardsticks


def rounding_sampler(cell: Cell) -> Sampler:
    """Seconds that the roundings of an update take where nothing else does: products and sums of what lies in cache."""

    def program(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, REPEATS, lambda _, x: x * a + b, x)

    x = jnp.ones(IN_CACHE * (1 if jax.default_backend() == "cpu" else 4096))
    constants = jnp.full(x.shape, 0.5), jnp.ones_like(x)
    call = compiled(emulate(program, Arithmetic(cell.format, carrier="float32")), x, *constants)
    parts = [(x, *constants)] * workers()
    rounded = 2 * REPEATS * x.size * len(parts)
    return per_update(sampler(side_by_side(call, parts)), rounded / (ROUNDED[cell.form] * cell.n**2))


def copy_sampler(cell: Cell, cases: Inputs) -> Sampler:
    """Seconds in which the state of a case is read and written once, in pieces as the programs work on them."""
    numbers = sum(x[0].size for x in cases.states)
    count, updates = piece(numbers, max(1, len(cases.V) // workers())), 16

    def program(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, updates, lambda _, x: -x, x)

    x = jnp.ones(count * numbers)
    call, parts = compiled(program, x), [(x,)] * workers()
    return per_update(sampler(side_by_side(call, parts)), updates * count * len(parts))


def measure(cell: Cell, size: Size, scale: Scale) -> Found:
    """All programs of a cell.

    Args:
        cell: which.
        size: how much is run.
        scale: says what is left out, and how often the rest is measured.

    Returns:
        What was found.
    """
    few, cases = size.n >= scale.few, inputs(cell.form, size)
    chosen = programs(cell, few)
    parts = divided(cases, min(workers(), size.cases))
    samplers: dict[str, Sampler] = {}
    for name, program in chosen.items():
        call = compiled(program, *parts[0])
        updates = len(parts) * len(parts[0][1]) * size.steps
        samplers[name] = per_update(sampler(side_by_side(call, parts)), updates)
    for name, sums in PEERS.items():
        if TWINS[name] in chosen:
            samplers[name] = per_update(sampler(peer_call(cell, sums, cases, size.peers)), size.peers * size.steps)
    samplers |= {ROUNDING: rounding_sampler(cell), COPY: copy_sampler(cell, cases)}
    count = min(2, size.cases)
    checks = [check(cell, name, chosen[twin], cases, count) for name, twin in TWINS.items() if twin in chosen]
    return Found(cell, size, interleaved(samplers, PEER, scale.rounds), checks)
