"""Speed of rounding and of emulated programs, as ratios in one run.

    python studies/benchmarks/first_light.py [--quick] [--output DIR]

prints one table: the kernel of `round_to` against a memory copy, the emulated LogDet projection and matrix
product against the same programs in native float32, and what it takes to compile them. Run it on a CPU that
does nothing else. With big arrays the time is the memory allocator's too, so choose one, and the table says
which; this one keeps the memory that it has:

    export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from measure import (
    Buffer,
    Entry,
    Sampler,
    compilation,
    interleaved,
    machine,
    sampler,
    size,
    table,
    threads,
    today,
    write,
)

from precond_lab import Arithmetic, emulate, formats, round_to
from precond_lab.arithmetic.rounding import ROUNDINGS, round_bits
from precond_lab.preconditioners import logdet


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        rounding: sizes of the float32 arrays that are rounded.
        wide: size of the float64 array.
        programs: lengths of the chains that are projected.
        product: order of the matrices that are multiplied, and length of the dot product that is compiled.
        rounds: how often everything is measured.
    """

    rounding: tuple[int, ...]
    wide: int
    programs: tuple[int, ...]
    product: int
    rounds: int


FULL = Scale(rounding=(10**4, 10**6, 10**7), wide=10**6, programs=(10**6, 10**7), product=256, rounds=11)
QUICK = Scale(rounding=(10**4, 10**5), wide=10**5, programs=(10**5,), product=64, rounds=7)

COPY, NATIVE = "copy: negation, in place", "native float32"

ARITHMETICS = {
    "bfloat16, carried in float64 (the default)": Arithmetic("bfloat16"),
    "bfloat16, carried in float32": Arithmetic("bfloat16", carrier="float32"),
    "float16": Arithmetic("float16"),
    "float16, carried in float64": Arithmetic("float16", carrier="float64"),
    "float8_e4m3fn": Arithmetic("float8_e4m3fn"),
}


# Rounding


def rounded(x: jax.Array, *words: jax.Array, format: formats.Format, rounding: str) -> jax.Array:
    """The kernel, with random words if the mode needs them."""
    return round_bits(x, format, rounding, *words)


def rounding_samplers(n: int, dtype: type) -> dict[str, Sampler]:
    """Every format and mode, and what they are compared with, over arrays of one size."""
    generator = np.random.default_rng(n)
    host = generator.standard_normal(n).astype(dtype)
    other = np.empty_like(host)
    buffer = Buffer(jnp.array(host))
    words = jax.random.bits(jax.random.key(0), (n,), jnp.uint32 if dtype is np.float32 else jnp.uint64)

    def numpy_copy() -> np.ndarray:
        np.copyto(other, host)
        return other

    calls: dict[str, Callable] = {
        COPY: buffer.through(jnp.negative),
        "copy: NumPy, one thread": numpy_copy,
    }
    for format in formats.NAMED.values():
        for rounding in ROUNDINGS:
            given = (words,) if ROUNDINGS[rounding].random else ()
            kernel = partial(rounded, format=format, rounding=rounding)
            calls[f"{format}, {rounding}"] = buffer.through(kernel, *given)
    x, key = jnp.array(host), jax.random.key(1)
    calls["`round_to` as called, bfloat16"] = partial(round_to, x, "bfloat16")
    calls["`round_to` as called, bfloat16, stochastic"] = partial(round_to, x, "bfloat16", "stochastic", key=key)
    return {name: sampler(call) for name, call in calls.items()}


def measure_rounding(title: str, scale: Scale) -> list[Entry]:
    """The kernel from float32, at every size."""
    entries = []
    for n in scale.rounding:
        timings = interleaved(rounding_samplers(n, np.float32), COPY, scale.rounds)
        entries += [Entry(title, name, size(n), n / 1e9, timing) for name, timing in timings.items()]
    return entries


def measure_wide(title: str, scale: Scale) -> list[Entry]:
    """The kernel from float64."""
    with jax.enable_x64(True):
        timings = interleaved(rounding_samplers(scale.wide, np.float64), COPY, scale.rounds)
    column = size(scale.wide)
    return [Entry(title, name, column, scale.wide / 1e9, timing) for name, timing in timings.items()]


# Programs


def project_and_apply(H: jax.Array, g: jax.Array) -> jax.Array:
    """The direction of tridiagonal SONew with its stabilization."""
    factor, _ = logdet.stabilize(H, 2.0**-7)
    return logdet.apply(factor, g)


def chain(n: int) -> tuple[jax.Array, jax.Array]:
    """Statistics whose edges range from uncorrelated to hopeless, and a gradient."""
    generator = np.random.default_rng(n)
    diagonal = generator.uniform(0.5, 2, n)
    beta = np.sqrt(1 - np.exp2(-generator.uniform(0, 12, n - 1)))
    edge = beta * np.sqrt(diagonal[:-1] * diagonal[1:])
    H = np.stack([diagonal, np.append(edge, 0)]).astype(np.float32)
    return jnp.asarray(H), jnp.asarray(generator.standard_normal(n), dtype=jnp.float32)


def measure_programs(title: str, scale: Scale) -> list[Entry]:
    """The emulated projection against the native one."""
    entries = []
    for n in scale.programs:
        programs = {NATIVE: project_and_apply}
        programs |= {name: emulate(project_and_apply, a) for name, a in ARITHMETICS.items()}
        if n == scale.programs[0]:
            counting = emulate(project_and_apply, Arithmetic("float16"), events=True)
            programs["float16, counting events"] = counting
        arguments = chain(n)
        samplers = {name: sampler(partial(jax.jit(f), *arguments)) for name, f in programs.items()}
        timings = interleaved(samplers, NATIVE, scale.rounds)
        entries += [Entry(title, name, size(n), 0, timing) for name, timing in timings.items()]
    return entries


def measure_products(title: str, scale: Scale) -> list[Entry]:
    """The emulated matrix product, in which everything is rounded, against the native one."""
    n = scale.product
    A, B = np.random.default_rng(n).standard_normal((2, n, n)).astype(np.float32)
    A, B = jnp.asarray(A), jnp.asarray(B)
    native = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    programs = {NATIVE: native} | {name: emulate(native, a) for name, a in ARITHMETICS.items()}
    samplers = {name: sampler(partial(jax.jit(f), A, B)) for name, f in programs.items()}
    timings = interleaved(samplers, NATIVE, scale.rounds)
    return [Entry(title, name, str(n), n**3 / 1e9, timing) for name, timing in timings.items()]


# Compilation


def measure_compilation(title: str, scale: Scale) -> list[Entry]:
    """Trace and compile: the projection, and a sequential dot product."""
    x = jnp.ones(scale.product)
    examples = {
        "projection and apply": (project_and_apply, chain(scale.programs[0])),
        f"dot product of {scale.product}": (jnp.vdot, (x, x)),
    }
    entries = []
    for column, (program, arguments) in examples.items():
        samplers = {NATIVE: compilation(lambda f=program: f, arguments)}
        for name, arithmetic in ARITHMETICS.items():
            samplers[name] = compilation(partial(emulate, program, arithmetic), arguments)
        for sample in samplers.values():
            sample()  # the first compilation of all loads libraries
        timings = interleaved(samplers, NATIVE, min(scale.rounds, 7))
        entries += [Entry(title, name, column, 0, timing) for name, timing in timings.items()]
    return entries


# The table


class Section(NamedTuple):
    """A part of the table: its title, what its cells say, and what fills it."""

    title: str
    text: str
    measure: Callable[[str, Scale], list[Entry]]


SECTIONS = (
    Section(
        "Rounding float32 arrays",
        "The kernel of `round_to` in G elements/s; in brackets its time against a copy, a negation in place. "
        "It writes where it reads (the array is donated); for stochastic rounding the random words are given. "
        "The last two rows are `round_to` as a user calls it: with a fresh result, and with the random bits "
        "drawn from the key. At 1e4 elements the time is that of calling a compiled JAX program.",
        measure_rounding,
    ),
    Section("Rounding float64 arrays", "As before, from float64.", measure_wide),
    Section(
        "The LogDet projection: stabilize, then apply",
        "Time of a call; in brackets against the same program in native float32. Every one of its operations "
        "is rounded. Nothing is donated: on both sides every result is a fresh array. Columns: parameters.",
        measure_programs,
    ),
    Section(
        "Matrix product",
        "G multiply-adds/s; in brackets the time against the native product. Emulated, every product and "
        "every partial sum is rounded, in sequence. Column: order of the matrices.",
        measure_products,
    ),
    Section(
        "Compilation",
        "Time to trace and compile, JAX's caches cleared and its persistent cache off; in brackets against "
        "the native program.",
        measure_compilation,
    ),
)


def measure(scale: Scale) -> list[Entry]:
    """Measure everything.

    Args:
        scale: how much of it.

    Returns:
        The cells of the table.
    """
    return [entry for section in SECTIONS for entry in section.measure(section.title, scale)]


def page(name: str, entries: Sequence[Entry], scale: Scale) -> str:
    """The table with what one must know to read it, in Markdown."""
    lines = [
        "<!-- Written by studies/benchmarks/first_light.py: a change made here is lost. -->",
        "",
        f"# First light, {today()}, {jax.default_backend()}",
        "",
        (
            "Speed of rounding and of emulated programs. A ratio is a time divided by that of the section's "
            f"baseline in the same round: 2x takes twice as long. Medians of {scale.rounds} rounds (7 for "
            "compilation), each of which runs everything once, in a new order; wall-clock time, "
            f"{threads()} threads. The quartiles of the ratios are in the {{download}}`CSV file <{name}.csv>`."
        ),
        "",
        *machine(jax.devices()[0]),
        "",
    ]
    for section in SECTIONS:
        cells = [entry for entry in entries if entry.section == section.title]
        lines += [f"## {section.title}", "", section.text, "", *table(cells), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small arrays, to try it")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write DIR/DATE-cpu.md and .csv")
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else FULL
    jax.config.update("jax_enable_compilation_cache", False)
    entries = measure(scale)
    name = f"{today()}-{jax.default_backend()}"
    text = page(name, entries, scale)
    print(text)
    if options.output:
        write(options.output, name, text, entries)


if __name__ == "__main__":
    main()
