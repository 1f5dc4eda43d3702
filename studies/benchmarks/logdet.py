"""Speed and memory of the direction of LogDet preconditioners, against a copy of the bytes that it must move.

    python studies/benchmarks/logdet.py [--quick] [--large] [--cores N] [--devices N] [--output DIR]

A direction of band b reads b + 1 diagonals and a gradient, and writes one vector: b + 3 numbers a parameter. The limit
is the time in which a copy, a negation in place, moves as many. Every program is timed beside it, as a whole and in
chunks, native and emulated; with `--devices 8` divided among so many virtual devices, in a run of its own, since XLA
then divides all programs among more threads. Run it on a CPU that does nothing else, with an allocator that keeps the
memory that it has:

    export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from measure import Buffer, Entry, interleaved, machine, number, pin, sampler, size, table, threads, today, write

from precond_lab import Arithmetic, emulate
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet.chunks import direction_in_chunks, stabilized_in_chunks
from precond_lab.preconditioners.logdet.sharding import stabilized_on_devices

TOLERANCE = 2.0**-7
LIMIT = "limit: a copy of the bytes"
NATIVE, STABILIZED = "native, in chunks", "native, stabilized, in chunks"
FAST, DEFAULT = "bfloat16 carried in float32", "bfloat16 carried in float64"
ARITHMETICS = {FAST: Arithmetic("bfloat16", carrier="float32"), DEFAULT: Arithmetic("bfloat16")}

Program = Callable[[jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        bands: numbers of subdiagonals.
        lengths: of the chains.
        slow: the longest chain for programs that need many times the memory of the chain, or that much time.
        wide: the longest chain for bands that take XLA minutes to compile, by the fastest programs alone.
        rounds: how often everything is measured.
    """

    bands: tuple[int, ...]
    lengths: tuple[int, ...]
    slow: int
    wide: int
    rounds: int


FULL = Scale(bands=(0, 1, 2, 4, 10), lengths=(10**6, 10**7), slow=10**6, wide=10**6, rounds=7)
QUICK = Scale(bands=(0, 1, 2), lengths=(10**5,), slow=10**5, wide=0, rounds=3)
LARGE = Scale(bands=(1,), lengths=(10**8,), slow=0, wide=0, rounds=5)
LARGEST = 10**9
"""In the place of that, on an accelerator."""
WIDE = 8
"""The least of those bands."""


class Row(NamedTuple):
    """What a program needs beside its arguments and its result.

    Attributes:
        band: number of subdiagonals.
        case: the program.
        n: length of the chain.
        temporaries: bytes, by XLA's account.
    """

    band: int
    case: str
    n: int
    temporaries: int


# Programs


def whole(H: jax.Array, g: jax.Array) -> jax.Array:
    """The direction with nothing to guard it, in one piece."""
    return logdet.apply(logdet.project(H), g)


def stabilized(H: jax.Array, g: jax.Array) -> jax.Array:
    """The direction after Algorithm 3, in one piece."""
    return logdet.apply(logdet.stabilize(H, TOLERANCE)[0], g)


def in_chunks(H: jax.Array, g: jax.Array, through: Callable | None = None) -> jax.Array:
    """The direction after Algorithm 3, in chunks."""
    return stabilized_in_chunks(H, g, TOLERANCE, through=through).u


@cache
def all_devices() -> jax.sharding.Mesh:
    """The devices that a chain is divided among."""
    return jax.make_mesh((jax.device_count(),), ("d",), axis_types=(jax.sharding.AxisType.Auto,))


def on_devices(H: jax.Array, g: jax.Array, through: Callable | None = None) -> jax.Array:
    """The same, divided among all devices."""
    return stabilized_on_devices(H, g, all_devices(), "d", TOLERANCE, through=through).u


def emulation(arithmetic: Arithmetic) -> Callable[[Callable], Callable]:
    """What turns a program into its emulation."""
    return lambda f: emulate(f, arithmetic)


def programs(slow: bool) -> dict[str, Program]:
    """The programs by name; the slow ones, and those that need much memory, only where they are wanted."""
    found: dict[str, Program] = {NATIVE: direction_in_chunks, STABILIZED: in_chunks}
    for name, arithmetic in ARITHMETICS.items():
        found[f"{name}, in chunks"] = partial(direction_in_chunks, through=emulation(arithmetic))
        found[f"{name}, stabilized, in chunks"] = partial(in_chunks, through=emulation(arithmetic))
    if (devices := jax.device_count()) > 1:
        found[f"native, stabilized, {devices} devices"] = on_devices
        found[f"{FAST}, stabilized, {devices} devices"] = partial(on_devices, through=emulation(ARITHMETICS[FAST]))
    if slow:
        found |= {"native, whole": whole, "native, stabilized, whole": stabilized}
        for name, arithmetic in ARITHMETICS.items():
            found[f"{name}, stabilized, whole"] = emulate(stabilized, arithmetic)
    return found


@partial(jax.jit, static_argnums=(0, 1))
def chain(n: int, band: int) -> tuple[jax.Array, jax.Array]:
    """Positive definite statistics, and a gradient; made on the device, with nothing else as long."""
    place = jnp.arange(n, dtype=jnp.float32)
    rows = [2 + jnp.sin(0.37 * place)]
    rows += [jnp.sin((1.3 + k) * place) * (0.45 / band) for k in range(band)]
    return jnp.stack(rows), jnp.cos(place)


# Measurement


def compiled(program: Program, H: jax.Array, g: jax.Array) -> jax.stages.Compiled:
    """A program for chains like this one, which writes its result where the one before it lies.

    As the limit does: otherwise a CPU spends a third of the time on faulting in pages of new memory.
    """

    def in_place(u: jax.Array, H: jax.Array, g: jax.Array) -> jax.Array:
        del u
        return program(H, g)

    options = {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else None
    return jax.jit(in_place, donate_argnums=0, keep_unused=True, compiler_options=options).lower(g, H, g).compile()


def divided(H: jax.Array, g: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Buffer]:
    """The arrays, and one for results, where a program that is divided among devices has them."""
    spec = jax.sharding.PartitionSpec
    place = partial(jax.sharding.NamedSharding, all_devices())
    arrays = jax.device_put(H, place(spec(None, "d"))), jax.device_put(g, place(spec("d")))
    return arrays, Buffer(jnp.zeros_like(arrays[1]))


def measure(band: int, n: int, scale: Scale) -> tuple[list[Entry], list[Row]]:
    """All programs beside the limit, for one band and length."""
    H, g = jax.block_until_ready(chain(n, band))
    moved = Buffer(jnp.ones((band + 3) * n // 2, jnp.float32))  # half are read, half are written
    result = Buffer(jnp.zeros_like(g))
    samplers, rows = {LIMIT: sampler(moved.through(jnp.negative))}, []
    chosen = programs(slow=n <= scale.slow and band < WIDE)
    if band >= WIDE:
        chosen = {name: program for name, program in chosen.items() if not name.startswith(DEFAULT)}
    for name, program in chosen.items():
        arrays, u = ((H, g), result) if "devices" not in name else divided(H, g)
        call = compiled(program, *arrays)
        if analysis := call.memory_analysis():  # not every platform gives one
            rows.append(Row(band, name, n, analysis.temp_size_in_bytes))
        samplers[name] = sampler(u.through(call, *arrays))
    timings = interleaved(samplers, LIMIT, scale.rounds)
    section = title(band)
    return [Entry(section, name, size(n), n / 1e9, timing) for name, timing in timings.items()], rows


def title(band: int) -> str:
    """The heading of a band."""
    return f"Band {band}"


# The page


def ratio(entries: Sequence[Entry], case: str, base: str, section: str, column: str) -> float | None:
    """How many times as long one program takes as another, where both were timed."""
    found = {e.case: e.timing.ratio for e in entries if (e.section, e.column) == (section, column)}
    return found[case] / found[base] if case in found and base in found else None


def target_lines(entries: Sequence[Entry], scale: Scale) -> list[str]:
    """Whether the tridiagonal direction comes near the speed of memory, and its emulation near to it."""
    column, lines = size(scale.lengths[-1]), ["| target | found | met |", "|---|---|---|"]
    slower = 4 if jax.default_backend() == "cpu" else 1.3
    emulated = f"{FAST}, in chunks"
    goals = [
        ("native tridiagonal at 0.5 or more of the limit", NATIVE, LIMIT, lambda x: 1 / x, lambda x: x <= 2),
        (f"its emulation in at most {slower} times its time", emulated, NATIVE, float, lambda x: x <= slower),
    ]
    for text, case, base, shown, met in goals:
        found = ratio(entries, case, base, title(1), column)
        if found is not None:
            lines.append(f"| {text}, n = {column} | {number(shown(found))} | {'yes' if met(found) else 'no'} |")
    return lines


def memory_table(rows: Sequence[Row]) -> list[str]:
    """What the programs need, a row a program, a column a length."""
    columns, cases = dict.fromkeys(row.n for row in rows), dict.fromkeys(row.case for row in rows)
    cells = {(row.case, row.n): f"{number(row.temporaries / 2**20)} MiB" for row in rows}
    return [
        f"| | {' | '.join(map(size, columns))} |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {case} | {' | '.join(cells.get((case, n), '') for n in columns)} |" for case in cases),
    ]


def page(name: str, entries: Sequence[Entry], rows: Sequence[Row], scale: Scale) -> str:
    """The tables with what one must know to read them, in Markdown."""
    cores = "one core" if threads() == 1 else f"{threads()} cores"
    what = " and ".join(map(size, scale.lengths))
    what += f" on {jax.device_count()} devices" if jax.device_count() > 1 else ""
    lines = [
        "<!-- Written by studies/benchmarks/logdet.py: a change made here is lost. -->",
        "",
        f"# LogDet directions: {what}, {today()}, {jax.default_backend()}",
        "",
        f"The direction of LogDet preconditioners on {cores}, float32 arrays.",
        "",
        *target_lines(entries, scale),
        "",
        (
            f"G parameters/s; in brackets the time against the limit in the same round: a copy of b + 3 numbers a "
            f"parameter. Medians of {scale.rounds} rounds; wall-clock time. The quartiles of the ratios are in the "
            f"{{download}}`CSV file <{name}.csv>`. With stabilization a band of two and more is gone over three times "
            "or more."
        ),
        *(
            [f"Bands of {WIDE} and more take minutes to compile: of them, the fastest programs at {size(scale.wide)}."]
            if scale.wide
            else []
        ),
        "",
        *machine(jax.devices()[0]),
        "",
    ]
    for band in scale.bands:
        found = [entry for entry in entries if entry.section == title(band)]
        lines += [f"## {title(band)}", "", *table(found), "", "Temporaries, by XLA's account:", ""]
        lines += [*memory_table([row for row in rows if row.band == band]), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short chains, to try it")
    parser.add_argument("--large", action="store_true", help="a chain of 1e8, in 4 GiB; of 1e9 on a GPU or TPU")
    parser.add_argument("--cores", type=int, default=1, metavar="N", help="how many cores to use, 0 for all")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="virtual devices to divide chains among")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write DIR/DATE-logdet-cpu.md and .csv")
    options = parser.parse_args(arguments)
    scale = LARGE if options.large else QUICK if options.quick else FULL
    pin(options.cores)
    if options.devices > 1:
        flag = f"--xla_force_host_platform_device_count={options.devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    if options.large and jax.default_backend() != "cpu":
        scale = replace(scale, lengths=(LARGEST,))
    entries, rows = [], []
    for band in scale.bands:
        for n in scale.lengths:
            if band >= WIDE and n > scale.wide:
                continue
            print(f"band {band}, {size(n)} ...", file=sys.stderr)
            found, needed = measure(band, n, scale)
            entries, rows = entries + found, rows + needed
            jax.clear_caches()
    kind = f"{'-large' if options.large else ''}{f'-{options.devices}-devices' if options.devices > 1 else ''}"
    name = f"{today()}-logdet{kind}-{jax.default_backend()}"
    text = page(name, entries, rows, scale)
    print(text)
    if options.output:
        write(options.output, name, text, entries)


if __name__ == "__main__":
    main()
