"""Whether a device computes what the emulator promises, bit for bit, and how fast it rounds.

    python studies/benchmarks/device.py [--quick] [--output DIR]

takes the first device that JAX finds. It compares rounding with an oracle in NumPy, and with ml_dtypes, on
every value, midpoint and neighbor of narrow formats, on random bit patterns and on subnormals; then emulated
programs with the same programs on the CPU; and it times the kernel against a copy. Any difference is a FAIL
and ends in exit code 1. Where there is no accelerator, the CPU is compared with NumPy and with itself.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax
from measure import Buffer, Device, Entry, interleaved, machine, sampler, table, today, write
from rounding_oracle import BLOCK, UNSIGNED, boundaries, oracle, random_patterns, subnormals

from precond_lab import Arithmetic, emulate
from precond_lab.arithmetic.formats import named
from precond_lab.arithmetic.rounding import ROUNDINGS, round_bits
from precond_lab.preconditioners import logdet

DETERMINISTIC = [name for name, mode in ROUNDINGS.items() if not mode.random]
RANDOM = [name for name, mode in ROUNDINGS.items() if mode.random]
DTYPES = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


@dataclass(frozen=True)
class Scale:
    """How much is checked and timed.

    Args:
        patterns: how many random bit patterns are rounded.
        timed: how many elements are rounded at a time where the time counts.
        rounds: how often everything is timed.
    """

    patterns: int
    timed: int
    rounds: int


FULL, QUICK = Scale(2**24, 2**27, 11), Scale(2**18, 2**20, 7)
FULL_ON_CPU = Scale(2**24, 10**7, 11)


class Check(NamedTuple):
    """One row of the verdict.

    Attributes:
        name: what was compared.
        compared: how many numbers.
        wrong: how many of them differ in a bit; NaNs are all alike.
        example: one that differs.
    """

    name: str
    compared: int
    wrong: int
    example: str = ""

    def __str__(self) -> str:
        """The row in Markdown."""
        status = "FAIL" if self.wrong else "PASS"
        return f"| {status} | {self.name} | {self.compared} | {self.wrong} | {self.example} |"


# Rounding


def differences(name: str, computed: np.ndarray, expected: np.ndarray, given: np.ndarray | None = None) -> Check:
    """Compare bits. NaNs are alike.

    Args:
        name: what is compared.
        computed: what the device gave.
        expected: what is right.
        given: what both were computed from, for the example.

    Returns:
        The row.
    """
    computed, expected = np.asarray(computed), np.asarray(expected)
    if computed.dtype in UNSIGNED:
        unsigned = UNSIGNED[computed.dtype]
        wrong = computed.view(unsigned) != expected.view(unsigned)
        wrong &= ~(np.isnan(computed) & np.isnan(expected))
    else:
        wrong = computed != expected
    example = ""
    if wrong.any():
        place = np.flatnonzero(wrong)[0]
        source = "" if given is None else f"{given.flat[place]!s}: "
        example = f"{source}{computed.flat[place]!s}, not {expected.flat[place]!s}"
    return Check(name, computed.size, int(wrong.sum()), example)


def on(device: Device, f: Callable, *arguments: np.ndarray) -> np.ndarray:
    """Run a compiled function on a device."""
    with jax.enable_x64(True):
        return np.asarray(f(*(jax.device_put(x, device) for x in arguments)))


def together(checks: Sequence[Check]) -> Check:
    """One row for the blocks of one comparison."""
    return Check(
        checks[0].name,
        sum(check.compared for check in checks),
        sum(check.wrong for check in checks),
        next((check.example for check in checks if check.example), ""),
    )


def check_rounding(device: Device, scale: Scale) -> Iterator[Check]:
    """The kernel on the device against the oracle, and the oracle against ml_dtypes."""
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        for name, native in DTYPES.items():
            format, label = named(name), f"{name} from {dtype}"
            inputs = [boundaries(format, dtype), subnormals(scale.patterns // 16, dtype)]
            for rounding in DETERMINISTIC:
                kernel = jax.jit(partial(round_bits, format=format, rounding=rounding))
                checks = []
                for x in (*inputs, *random_patterns(scale.patterns, dtype)):
                    expected, computed = [oracle(x, format, rounding)], on(device, kernel, x)
                    # ml_dtypes rounds float64 twice, so that it judges float32 alone.
                    if rounding == "nearest_even" and dtype == np.float32:
                        with np.errstate(over="ignore", invalid="ignore"):
                            expected.append(x.astype(native).astype(dtype))
                    checks += [differences(f"{label}, {rounding}", computed, right, x) for right in expected]
                yield together(checks)


def check_random_rounding(device: Device, scale: Scale) -> Iterator[Check]:
    """Random rounding with given bits: the same on the device as on the CPU."""
    cpu = jax.devices("cpu")[0]
    for dtype, unsigned in UNSIGNED.items():
        x = next(random_patterns(min(scale.patterns, BLOCK), dtype))
        bits = np.random.default_rng(1).integers(0, np.iinfo(unsigned).max, x.size, unsigned, endpoint=True)
        for name in DTYPES:
            for rounding in RANDOM:
                kernel = jax.jit(partial(round_bits, format=named(name), rounding=rounding))
                run = partial(_with_bits, kernel)
                yield differences(
                    f"{name} from {dtype}, {rounding}, against the CPU",
                    on(device, run, x, bits),
                    on(cpu, run, x, bits),
                    x,
                )


def _with_bits(kernel: Callable, x: jax.Array, bits: jax.Array) -> jax.Array:
    return kernel(x, random_bits=bits)


# Programs against the CPU


def add_and_remove_constant(x: jax.Array, y: jax.Array) -> jax.Array:
    """A sum that compilers like to undo: the constant cancels, the rounding does not."""
    return (x + 100.0) - 100.0


def recurrence(x: jax.Array, y: jax.Array) -> jax.Array:
    """An exponential average, in a loop."""

    def step(state: jax.Array, pair: tuple) -> tuple:
        state = 0.5 * state + pair[0] * pair[1]
        return state, state

    return lax.scan(step, jnp.zeros(()), (x, y))[1]


def direction(x: jax.Array, y: jax.Array) -> jax.Array:
    """The LogDet projection of one gradient's statistics, damped, applied to it."""
    H = jnp.stack([x * x + 0.0625, jnp.append(x[1:] * x[:-1], 0)])
    factor, _ = logdet.stabilize(H, 2.0**-7)
    return logdet.apply(factor, y)


PROGRAMS: dict[str, Callable] = {
    "a b + c": lambda x, y: x * y + x[::-1],
    "a b - c d": lambda x, y: x * y - x[::-1] * y[::-1],
    "(x + C) - C": add_and_remove_constant,
    "x / 3": lambda x, y: x / 3,
    "x / 7 * 7": lambda x, y: x / 7 * 7,
    "x / y": lambda x, y: x / y,
    "square root": lambda x, y: jnp.sqrt(jnp.abs(x)),
    "reciprocal square root": lambda x, y: lax.rsqrt(jnp.abs(x)),
    "exp, log, tanh": lambda x, y: jnp.exp(x) + jnp.log(jnp.abs(y)) + jnp.tanh(x),
    "underflow: x y 2^-60 2^-60": lambda x, y: x * y * 2.0**-60 * 2.0**-60,
    "sum": lambda x, y: jnp.sum(x)[None],
    "sums of rows": lambda x, y: jnp.sum(x.reshape(-1, 64), axis=0),
    "cumulative sum": lambda x, y: jnp.cumsum(x),
    "dot product": lambda x, y: jnp.vdot(x, y)[None],
    "matrix product": lambda x, y: x.reshape(32, -1) @ y.reshape(-1, 32),
    "scan": recurrence,
    "LogDet projection": direction,
}
ELEMENTS = 1024

COUNTED = Arithmetic("float16")

ARITHMETICS = (
    Arithmetic("bfloat16"),
    Arithmetic("bfloat16", carrier="float32"),
    Arithmetic("bfloat16", accumulate="float32"),
    COUNTED,
    Arithmetic("float16", rounding="stochastic"),
    Arithmetic("float8_e4m3fn"),
    Arithmetic("float32"),
)


def check_programs(device: Device) -> Iterator[Check]:
    """Every program in every arithmetic on the device and on the CPU; in one, with its events."""
    x, y = np.random.default_rng(0).standard_normal((2, ELEMENTS)).astype(np.float32)
    cpu = jax.devices("cpu")[0]
    for name, program in PROGRAMS.items():
        checks = []
        for arithmetic in ARITHMETICS:
            emulated = emulate(program, arithmetic, events=arithmetic == COUNTED)
            results = []
            for place in (device, cpu):
                with jax.default_device(place):
                    result = emulated(jax.device_put(x, place), jax.device_put(y, place))
                    results.append([np.atleast_1d(leaf) for leaf in jax.tree.leaves(result)])
            for computed, expected in zip(*results, strict=True):
                check = differences(name, computed, expected)
                note = f"{arithmetic}: {check.example}" if check.example else ""
                checks.append(check._replace(example=note))
        yield together(checks)


# Speed

COPY = "copy: negation, in place"


def measure_rounding(device: Device, scale: Scale) -> list[Entry]:
    """The kernel against a copy, on the device."""
    entries = []
    for dtype in (jnp.float32, jnp.float64):
        with jax.enable_x64(True), jax.default_device(device):
            buffer = Buffer(jax.random.normal(jax.random.key(0), (scale.timed,), dtype))
            calls = {COPY: buffer.through(jnp.negative)}
            for name in DTYPES:
                for rounding in DETERMINISTIC:
                    calls[f"{name}, {rounding}"] = buffer.through(
                        partial(round_bits, format=named(name), rounding=rounding)
                    )
            samplers = {name: sampler(call) for name, call in calls.items()}
            timings = interleaved(samplers, COPY, scale.rounds)
        column = f"{jnp.dtype(dtype)}, {scale.timed} elements"
        entries += [Entry("rounding", name, column, scale.timed / 1e9, t) for name, t in timings.items()]
    return entries


# The report


def page(device: Device, checks: Sequence[Check], entries: Sequence[Entry], scale: Scale) -> str:
    """Verdicts and speeds, in Markdown."""
    alone = device.platform == "cpu"
    failed = sum(check.wrong > 0 for check in checks)
    verdict = f"{failed} FAIL" if failed else "All pass"
    against = "No accelerator was found: the CPU is compared with NumPy and with itself." if alone else ""
    lines = [
        "<!-- Written by studies/benchmarks/device.py: a change made here is lost. -->",
        "",
        f"# Device check, {today()}, {device.device_kind}",
        "",
        f"{verdict}, of {len(checks)} comparisons, bit for bit. {against}".strip(),
        "",
        *machine(device),
        "",
        "| | comparison | numbers | different | for example |",
        "|---|---|---|---|---|",
        *map(str, checks),
        "",
        "## Rounding",
        "",
        (
            "G elements/s of the kernel, which writes where it reads; in brackets its time against a copy in "
            f"the same round. Medians of {scale.rounds} rounds, wall-clock time."
        ),
        "",
        *table(entries),
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, time, print; the exit code says whether all was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer numbers")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write DATE-device-PLATFORM.md and .csv")
    options = parser.parse_args(arguments)
    device = jax.devices()[0]
    scale = QUICK if options.quick else FULL_ON_CPU if device.platform == "cpu" else FULL
    checks = [
        *check_rounding(device, scale),
        *check_random_rounding(device, scale),
        *check_programs(device),
    ]
    entries = measure_rounding(device, scale)
    text = page(device, checks, entries, scale)
    print(text)
    if options.output:
        write(options.output, f"{today()}-device-{device.platform}", text, entries)
    return 1 if any(check.wrong for check in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
