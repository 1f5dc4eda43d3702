"""What the emulator is meant to reach on one core of a CPU, and whether a run has reached it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from arithmetic_blocks import HASH, MX_CASE
from arithmetic_programs import ARITHMETICS, DEFAULT, FAST, LENGTHS, chain_column
from measure import Entry

from precond_lab.arithmetic.rounding import ROUNDINGS

Figures = Mapping[tuple[str, str, str], Entry]
"""The entries of a run by section, case and column."""


class Target(NamedTuple):
    """A bound on some of a run's figures.

    Attributes:
        name: what is meant.
        wanted: the bound.
        most: whether the figures must not exceed it; else they must reach it.
        unit: of the figures.
        figures: takes them from a run, by the names of the cases.
    """

    name: str
    wanted: float
    most: bool
    unit: str
    figures: Callable[[Figures], dict[str, float]]

    def reached(self, figure: float) -> bool:
        """Whether a figure is within the bound."""
        return figure <= self.wanted if self.most else figure >= self.wanted


class Titles(NamedTuple):
    """The sections that targets speak of, and their columns.

    Attributes:
        formats: rounding of float32 arrays that stay in cache.
        random: stochastic rounding.
        chains: long chains.
        products: matrix products.
        largest: column of the largest matrix product.
        blocks: block formats.
        cached: column of the blocks that stay in cache.
    """

    formats: str
    random: str
    chains: str
    products: str
    largest: str
    blocks: str
    cached: str


def rate(entry: Entry) -> float:
    """Work per second, in units of 1e9."""
    return entry.work / entry.timing.seconds


def targets(titles: Titles) -> list[Target]:
    """The targets.

    Args:
        titles: where a run has their figures.

    Returns:
        One for every row of the table.
    """

    def of_copy(run: Figures, modes: Sequence[str]) -> dict[str, float]:
        cells = {(case, mode): e for (section, case, mode), e in run.items() if section == titles.formats}
        return {f"{case}, {mode}": 1 / e.timing.ratio for (case, mode), e in cells.items() if mode in modes}

    def rates(run: Figures, section: str, column: str, cases: Sequence[str]) -> dict[str, float]:
        return {case: rate(run[section, case, column]) for case in cases}

    def ratios(run: Figures, column: str) -> dict[str, float]:
        return {case: run[titles.chains, case, column].timing.ratio for case in ARITHMETICS}

    def stochastic(run: Figures) -> dict[str, float]:
        return {c: rate(e) for (section, case, c), e in run.items() if (section, case) == (titles.random, HASH)}

    deterministic = [name for name, mode in ROUNDINGS.items() if not mode.random and name != "nearest_even"]
    chains = [
        Target(
            f"chain of {column}, time against the native program",
            {2: 1.5, 5: 4.0, 12: 7.0}[length],
            True,
            "x",
            lambda run, column=column: ratios(run, column),
        )
        for length, column in ((length, chain_column(length)) for length in LENGTHS)
    ]
    eight = [name for name in ARITHMETICS if name.startswith("float")]
    return [
        Target("rounding to nearest, of a copy's rate", 0.8, False, "", lambda run: of_copy(run, ["nearest_even"])),
        Target("the other deterministic modes, likewise", 0.8, False, "", lambda run: of_copy(run, deterministic)),
        Target("stochastic rounding with a counter hash", 5.0, False, " G/s", stochastic),
        *chains,
        Target(
            "sequential matrix product, bfloat16",
            12.0,
            False,
            " G/s",
            lambda run: rates(run, titles.products, titles.largest, [DEFAULT, FAST]),
        ),
        Target(
            "sequential matrix product, float16 and float8",
            8.0,
            False,
            " G/s",
            lambda run: rates(run, titles.products, titles.largest, eight),
        ),
        Target("MX blocks", 3.0, False, " G/s", lambda run: rates(run, titles.blocks, titles.cached, [MX_CASE])),
    ]


def target_table(entries: Sequence[Entry], titles: Titles) -> list[str]:
    """Say for each target what was measured.

    Args:
        entries: the figures of a run.
        titles: where the targets' figures are among them.

    Returns:
        Lines of a Markdown table.
    """
    run = {(entry.section, entry.case, entry.column): entry for entry in entries}
    lines = ["| target | wanted | measured | met |", "|---|---|---|---|"]
    for target in targets(titles):
        figures = target.figures(run)
        met = [name for name, figure in figures.items() if target.reached(figure)]
        verdict = "yes" if len(met) == len(figures) else f"{len(met)} of {len(figures)}" if met else "no"
        bound = f"at {'most' if target.most else 'least'} {target.wanted:g}{target.unit}"
        lines.append(f"| {target.name} | {bound} | {_summary(target, figures)} | {verdict} |")
    return lines


def _summary(target: Target, figures: dict[str, float]) -> str:
    """All figures if they are few, or else the worst and the best."""
    ordered = sorted(figures, key=figures.__getitem__, reverse=target.most)
    shown = ordered if len(ordered) <= len(ARITHMETICS) else [ordered[0], ordered[-1]]
    words = [f"{name} {figures[name]:.3g}{target.unit}" for name in shown]
    return "; ".join(words) if shown is ordered else f"from {words[0]} to {words[1]}"
