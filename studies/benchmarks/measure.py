"""Times of programs as ratios within a round, which a busy machine slows alike."""

import csv
import datetime
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

Sampler = Callable[[], float]
"""Runs something and returns the seconds that it took."""

Device = Any
"""A device of JAX, whose class is not among its public types."""

ALLOCATOR = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "XLA_FLAGS",
)
"""What decides whether big blocks of memory go back to the system, to be faulted in again at every call."""


def number(x: float) -> str:
    """A figure with three digits, or more if it has more before the point."""
    return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}"


class Timing(NamedTuple):
    """What the rounds of one program say.

    Attributes:
        seconds: median time of a call.
        ratio: median, over the rounds, of its time divided by that of the baseline in the same round.
        low: lower quartile of these.
        high: upper quartile.
    """

    seconds: float
    ratio: float
    low: float
    high: float


class Entry(NamedTuple):
    """One cell of the table.

    Attributes:
        section: the table's part.
        case: the row.
        column: the column, usually a size.
        work: units of work in a call, in the section's unit times seconds; 0 where the time itself is shown.
        timing: what was measured.
    """

    section: str
    case: str
    column: str
    work: float
    timing: Timing

    def __str__(self) -> str:
        """The rate or the time, then the ratio."""
        seconds = self.timing.seconds
        time = f"{number(seconds)} s" if seconds >= 1 else f"{number(1e3 * seconds)} ms"
        return f"{number(self.work / seconds) if self.work else time} ({number(self.timing.ratio)}x)"


class Buffer:
    """An array that donated calls hand on to each other: each writes where the last one wrote."""

    def __init__(self, x: jax.Array) -> None:
        """Take over an array, which nobody else may use from then on.

        Args:
            x: the array.
        """
        self.x = x

    def through(self, function: Callable[..., jax.Array], *others: jax.Array) -> Callable[[], jax.Array]:
        """A call that replaces the array by its image.

        Args:
            function: maps the array, which is donated to it, to one of the same shape and dtype; one that is compiled
                already must do so by itself.
            others: its further arguments, which stay as they are.

        Returns:
            The call.
        """
        ready = isinstance(function, jax.stages.Compiled)
        compiled = function if ready else jax.jit(function, donate_argnums=0)

        def call() -> jax.Array:
            self.x = compiled(self.x, *others)
            return self.x

        return call


def sampler(call: Callable[[], Any], least: float = 2e-3) -> Sampler:
    """Compile and warm a call, and repeat it within a sample until that is long enough for the clock.

    Args:
        call: what to time; returns the arrays to wait for.
        least: seconds that a sample should last.

    Returns:
        A sampler of the seconds of one call.
    """
    jax.block_until_ready(call())
    count = 1

    def sample() -> float:
        start, result = time.perf_counter(), None
        for _ in range(count):
            result = call()
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / count

    count = max(1, round(least / min(sample() for _ in range(3))))
    return sample


def interleaved(samplers: Mapping[str, Sampler], baseline: str, rounds: int) -> dict[str, Timing]:
    """Time programs in rounds, each in a new order.

    Args:
        samplers: the programs by name.
        baseline: the name of the one that the others are compared with.
        rounds: how often each is sampled.

    Returns:
        The timings by name.
    """
    order, shuffle = list(samplers), random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            seconds[name].append(samplers[name]())
    timings = {}
    for name, times in seconds.items():
        ratios = [time / base for time, base in zip(times, seconds[baseline], strict=True)]
        low, ratio, high = statistics.quantiles(ratios, method="inclusive") if rounds > 1 else ratios * 3
        timings[name] = Timing(statistics.median(times), ratio, low, high)
    return timings


def threads() -> int:
    """The number of cores that this process may use, and XLA on a CPU does use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: Device) -> list[str]:
    """Describe the class of machine, with nothing that would tell which machine it is.

    Args:
        device: the device that computes.

    Returns:
        Lines of Markdown.
    """
    model = platform.processor() or platform.machine()
    if (listing := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in listing.read_text(encoding="utf-8").splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), model)
    settings = [f"`{name}={os.environ[name]}`" for name in ALLOCATOR if os.environ.get(name)]
    load = f", load average at the end {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    accelerator = [] if device.platform == "cpu" else [f"- device: {device.device_kind}"]
    return [
        *accelerator,
        f"- CPU: {model}, {os.cpu_count()} cores, of which {threads()} may be used{load}",
        f"- Python {platform.python_version()}, jax {jax.__version__}",
        f"- allocator: {', '.join(settings) or 'the default'}",
    ]


def table(entries: Iterable[Entry], marks: Mapping[tuple[str, str], str] = MappingProxyType({})) -> list[str]:
    """Lay out one section: a row a case, a column a size.

    Args:
        entries: the cells.
        marks: what is to be written after a figure, or where there is none, by case and column.

    Returns:
        Lines of a Markdown table.
    """
    cells = {(entry.case, entry.column): str(entry) for entry in entries}
    for place, mark in marks.items():
        cells[place] = f"{cells.get(place, '')} {mark}".strip()
    rows, columns = dict.fromkeys(row for row, _ in cells), dict.fromkeys(column for _, column in cells)
    return [
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {row} | {' | '.join(cells.get((row, column), '') for column in columns)} |" for row in rows),
    ]


def size(n: int) -> str:
    """A size as the table's head has it, a big one as ``1e6``."""
    return f"{n:.0e}".replace("e+0", "e") if n >= 10**4 else str(n)


def pin(cores: int) -> int:
    """Keep this process to some of its cores, before JAX starts its threads.

    Args:
        cores: how many; 0 for all that it may use.

    Returns:
        How many it may use from now on.
    """
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    return threads()


def compilation(make: Callable[[], Callable], arguments: tuple) -> Sampler:
    """A sampler of the time from a Python function to a compiled program, nothing being cached.

    Args:
        make: makes the function.
        arguments: of the function.

    Returns:
        The sampler.
    """

    def sample() -> float:
        jax.clear_caches()
        start = time.perf_counter()
        jax.jit(make()).lower(*arguments).compile()
        return time.perf_counter() - start

    return sample


def today() -> str:
    """The date, as files and headings have it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def write(folder: Path, name: str, page: str, entries: Iterable[Entry]) -> None:
    """Write a page, and its figures as CSV beside it.

    Args:
        folder: where; it is made if need be.
        name: the files' name without suffix.
        page: the Markdown text.
        entries: the figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["section", "case", "column", "work", *Timing._fields])
        for entry in entries:
            rows.writerow([*entry[:-1], *(f"{x:.4g}" for x in entry.timing)])
