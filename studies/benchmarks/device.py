"""Whether a device computes what the emulator promises, bit for bit, and how near it comes to its memory's speed.

    python studies/benchmarks/device.py [--quick] [--output DIR]

takes the first device that JAX finds. It compares rounding, in every format and mode, with an oracle in NumPy
(and with ml_dtypes) on every value, midpoint and neighbor of narrow formats, on random bit patterns and on
subnormals; then every operation on every pair of 8-bit numbers with its definition; then random words, blocks and
emulated programs, sums in every order among them, with the same on the CPU. And it times rounding and element-wise
programs against a copy. Any difference is a FAIL and ends in exit code 1. Where there is no accelerator, the CPU is
compared with NumPy and with itself.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from arithmetic_programs import ARITHMETICS, FACTORS, LENGTHS, TERMS, chain, chain_column
from arithmetic_rounding import rounding_call
from device_checks import (
    Check,
    check_blocks,
    check_operations,
    check_programs,
    check_random_rounding,
    check_rounding,
)
from measure import Buffer, Device, Entry, interleaved, machine, sampler, table, today, write

from precond_lab import emulate
from precond_lab.arithmetic.formats import NAMED
from precond_lab.arithmetic.rounding import ROUNDINGS


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


FULL, QUICK = Scale(2**21, 2**27, 11), Scale(2**14, 2**18, 3)
FULL_ON_CPU = Scale(2**21, 10**7, 11)

LIMIT = 1.3
"""On an accelerator an element-wise program is to take at most this many times the time of a copy."""

COPY = "copy: negation, in place"
ROUNDING, PROGRAMS = "Rounding", "Element-wise programs"


def measure_rounding(device: Device, scale: Scale) -> list[Entry]:
    """The kernel against a copy, on the device: every mode from float32, the nearest even from float64."""
    entries = []
    for dtype in (jnp.float32, jnp.float64):
        modes = list(ROUNDINGS) if dtype == jnp.float32 else ["nearest_even"]
        with jax.enable_x64(True), jax.default_device(device):
            for format in NAMED.values():
                buffer = Buffer(jax.random.normal(jax.random.key(0), (scale.timed,), dtype))
                calls = {"copy": buffer.through(jnp.negative)}
                calls |= {rounding: rounding_call(buffer, format, rounding) for rounding in modes}
                timings = interleaved({name: sampler(call) for name, call in calls.items()}, "copy", scale.rounds)
                suffix = "" if dtype == jnp.float32 else ", float64"
                entries += [
                    Entry(ROUNDING, format.name, f"{name}{suffix}", scale.timed / 1e9, timing)
                    for name, timing in timings.items()
                ]
    return entries


def measure_programs(device: Device, scale: Scale) -> list[Entry]:
    """Chains of operations, emulated and native, against a copy."""
    entries = []
    with jax.default_device(device):
        arguments = jnp.array(FACTORS), jnp.array(TERMS)
        for length in LENGTHS:
            buffer = Buffer(jax.random.normal(jax.random.key(0), (scale.timed,), jnp.float32))
            program = partial(chain, length=length)
            calls = {COPY: buffer.through(jnp.negative), "native float32": buffer.through(program, *arguments)}
            for name, arithmetic in ARITHMETICS.items():
                calls[name] = buffer.through(emulate(program, arithmetic), *arguments)
            timings = interleaved({name: sampler(call) for name, call in calls.items()}, COPY, scale.rounds)
            column = chain_column(length)
            entries += [Entry(PROGRAMS, name, column, scale.timed / 1e9, timing) for name, timing in timings.items()]
    return entries


def target_line(entries: Sequence[Entry], device: Device) -> str:
    """Whether element-wise programs come near the speed of memory."""
    programs = [entry for entry in entries if entry.section == PROGRAMS and entry.case in ARITHMETICS]
    met = sum(entry.timing.ratio <= LIMIT for entry in programs)
    worst = max(programs, key=lambda entry: entry.timing.ratio)
    where = "This is a target for accelerators, and the CPU is none. " if device.platform == "cpu" else ""
    return (
        f"Target: at most {LIMIT:g} times the time of a copy. {where}Met by {met} of {len(programs)}; the slowest is "
        f"{worst.case}, {worst.column}: {worst.timing.ratio:.3g}x."
    )


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
        f"## {PROGRAMS}",
        "",
        (
            f"G elements/s of products and sums in turn, {scale.timed} elements in place; in brackets the time "
            f"against a copy in the same round. Medians of {scale.rounds} rounds, wall-clock time. "
            f"{target_line(entries, device)}"
        ),
        "",
        *table(entry for entry in entries if entry.section == PROGRAMS),
        "",
        f"## {ROUNDING}",
        "",
        (
            f"G elements/s of the kernel, which writes where it reads, {scale.timed} elements; in brackets its time "
            "against a copy in the same round. Stochastic rounding draws its words."
        ),
        "",
        *table(entry for entry in entries if entry.section == ROUNDING),
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
        *check_rounding(device, scale.patterns),
        *check_random_rounding(device, scale.patterns),
        *check_operations(device),
        *check_blocks(device),
        *check_programs(device),
    ]
    entries = [*measure_programs(device, scale), *measure_rounding(device, scale)]
    text = page(device, checks, entries, scale)
    print(text)
    if options.output:
        write(options.output, f"{today()}-device-{device.platform}", text, entries)
    return 1 if any(check.wrong for check in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
