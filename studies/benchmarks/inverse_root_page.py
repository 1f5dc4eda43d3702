"""The page of the benchmark of inverse roots: what was aimed at, what is fastest, and all figures."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import jax
from inverse_root_batches import TOGETHER, title
from inverse_root_cells import LIMIT, LONG, Cell, Found, Scale, Skipped
from inverse_root_emulated import MILD, Overhead
from inverse_root_programs import PEER, PEER_WITHOUT_RIDGE, RIDGE, WIDE
from inverse_root_truth import CERTIFIED, reference
from measure import Entry, Timing, machine, number, table, threads, today

BEST, RATIONAL = "refined", "rational_minimax"
FURTHER = 50
"""Times below the error of the public codes that the error of the best method is to be."""
STATED = {PEER: 2.0e-3, RATIONAL: 8.4e-4}
"""Errors of public codes in float32 that were stated for one place."""
STATED_PLACE = Cell(4, 1e6, 512)
MOST_OVERHEAD = 2
LEAST_GAIN = 5
GOALS = (1e-2, 1e-3, 1e-4, 1e-5)


class Run(NamedTuple):
    """What a run has measured.

    Attributes:
        scale: how much was to be.
        found: the root functions, by cell.
        skipped: those that were left out.
        limits: the times of one product, by cell.
        overheads: of emulated iterations.
        emulated: their times.
        batches: times of blocks.
    """

    scale: Scale
    found: list[Found]
    skipped: list[Skipped]
    limits: list[tuple[Cell, Timing]]
    overheads: list[Overhead]
    emulated: list[Entry]
    batches: list[Entry]

    def entries(self) -> list[Entry]:
        """All times, as the file of figures has them."""
        roots = [Entry(section(cell), LIMIT, column(cell), 0, timing) for cell, timing in self.limits]
        roots += [Entry(section(found.cell), found.case, column(found.cell), 0, found.timing) for found in self.found]
        return roots + self.emulated + self.batches


def section(cell: Cell) -> str:
    """The heading of an exponent and a condition number."""
    return f"p = {cell.p}, condition number {cell.condition:.0e}"


def column(cell: Cell) -> str:
    """The head of a size's column."""
    return f"n = {cell.n}"


def seconds(x: float) -> str:
    """A time."""
    return f"{number(x)} s" if x >= 1 else f"{number(1e3 * x)} ms"


# Targets


def target_place(scale: Scale) -> Cell:
    """Where the targets are looked at: the hardest matrices that are timed in all rounds."""
    return Cell(scale.powers[-1], scale.conditions[-1], max(n for n in scale.sizes if n < scale.large))


def target_lines(run: Run) -> list[str]:
    """Whether the targets are met, as a table.

    Args:
        run: what was measured.

    Returns:
        Lines of Markdown.
    """
    rows = [*_error_targets(run), *_emulation_targets(run), *_batch_targets(run)]
    return ["| target | measured | met |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def _error_targets(run: Run) -> list[tuple[str, str, str]]:
    """The best method in float32 beside the coupled Newton iteration of the Shampoo codes, and the rational form."""
    place = target_place(run.scale)
    here = {found.case: found for found in run.found if found.cell == place}
    best, rational = here[BEST], here[RATIONAL]
    as_is, plain = here[PEER], here[PEER_WITHOUT_RIDGE]
    stated = STATED if place == STATED_PLACE else {}
    errors = [plain.errors.error, as_is.errors.own, *([stated[PEER]] if stated else [])]
    below = min(errors) / best.errors.error
    peer = min(as_is, plain, key=lambda found: found.timing.ratio)
    bound = min(rational.errors.error, stated.get(RATIONAL, rational.errors.error))
    told = {name: f"; stated {error:.1e}" if stated else "" for name, error in STATED.items()}
    where = f"{section(place)}, {column(place)}"

    def time_row(name: str, other: Found) -> tuple[str, str, str]:
        ratio = best.timing.ratio / other.timing.ratio
        text = f"{seconds(best.timing.seconds)} against {seconds(other.timing.seconds)}: {number(ratio)} times"
        return f"in no more time than {name}", text, _yes(ratio <= 1)

    return [
        (
            (
                f"`{BEST}`, {where}: an error at least {FURTHER} times below that of float32 coupled Newton in the "
                "public Shampoo codes"
            ),
            (
                f"{best.errors.error:.1e} against {plain.errors.error:.1e} of optax without its ridge, and "
                f"{as_is.errors.own:.1e} with it, against the root of the matrix with the ridge{told[PEER]}: "
                f"{number(below)} times below the least"
            ),
            _yes(below >= FURTHER),
        ),
        time_row("that", peer),
        (
            "an error below that of the rational minimax form",
            f"{best.errors.error:.1e} against {rational.errors.error:.1e}{told[RATIONAL]}",
            _yes(best.errors.error < bound),
        ),
        time_row("the rational minimax form", rational),
    ]


def _emulation_targets(run: Run) -> list[tuple[str, str, str]]:
    """How near emulated iterations come to their limit, a row an arithmetic."""
    rows = []
    for arithmetic in dict.fromkeys(overhead.arithmetic for overhead in run.overheads):
        some = [overhead for overhead in run.overheads if overhead.arithmetic == arithmetic]
        rows.append((
            f"coupled Newton emulated in {arithmetic}: at most {MOST_OVERHEAD} times the time of its emulated products",
            "; ".join(
                f"{number(one.ratio)} times at n = {one.n}, of which the certificate {number(one.certificate)}"
                for one in some
            ),
            _yes(all(overhead.ratio <= MOST_OVERHEAD for overhead in some)),
        ))
    return rows


def _batch_targets(run: Run) -> list[tuple[str, str, str]]:
    """What batches save, a row a method."""
    rows, what = [], title(*run.scale.batch).partition(": ")[2]
    where = ", but on a CPU" if jax.default_backend() == "cpu" else ""
    for entry in (entry for entry in run.batches if entry.column == TOGETHER):
        gain = 1 / entry.timing.ratio
        text = f"{entry.case}, {what}: in one vmap at least {LEAST_GAIN} times as fast as one at a time, on a GPU"
        rows.append((text, f"{number(gain)} times as fast", _yes(gain >= LEAST_GAIN) + where))
    return rows


def _yes(met: bool) -> str:
    return "yes" if met else "no"


# Tables


def fastest_lines(run: Run) -> list[str]:
    """For each cell and each error the fastest function that reaches it, without float64; and that with it.

    Args:
        run: what was measured.

    Returns:
        Lines of Markdown.
    """
    lines = [f"| | {' | '.join(f'error {goal:.0e}' for goal in GOALS)} | {WIDE} |", "|---" * (len(GOALS) + 2) + "|"]
    for cell in dict.fromkeys(found.cell for found in run.found):
        here = [found for found in run.found if found.cell == cell]
        texts = [_fastest([f for f in here if f.case != WIDE and f.errors.error <= goal]) for goal in GOALS]
        wide = [f"{seconds(f.timing.seconds)}, {f.errors.error:.1e}" for f in here if f.case == WIDE]
        lines.append(f"| {section(cell)}, {column(cell)} | {' | '.join([*texts, *(wide or ['left out'])])} |")
    return lines


def _fastest(found: Sequence[Found]) -> str:
    if not found:
        return "none"
    best = min(found, key=lambda one: one.timing.seconds)
    return f"{best.case}, {seconds(best.timing.seconds)}"


def root_lines(run: Run, title: str) -> list[str]:
    """The tables of an exponent and a condition number: times and errors, and what the methods say of themselves.

    Args:
        run: what was measured.
        title: of the section.

    Returns:
        Lines of Markdown.
    """
    here = [found for found in run.found if section(found.cell) == title]
    marks = {(found.case, column(found.cell)): _mark(found) for found in here}
    marks |= {
        (left.case, column(left.cell)): f"left out: {number(left.foreseen)} s foreseen"
        for left in run.skipped
        if section(left.cell) == title
    }
    said = {
        (found.case, column(found.cell)): f"{found.certificate:.1e}, {found.result}, {found.steps}"
        for found in here
        if found.certificate is not None
    }
    entries = [entry for entry in run.entries() if entry.section == title]
    return [
        "Time (against optax), error, error of the update:",
        "",
        *table(entries, marks),
        "",
        "Certificate, result, steps:",
        "",
        *table([], said),
        "",
    ]


def _mark(found: Found) -> str:
    text = f"{found.errors.error:.1e}, {found.errors.update:.1e}"
    return text if found.errors.own == found.errors.error else f"{text} (with the ridge {found.errors.own:.1e})"


def _about(run: Run, name: str) -> list[str]:
    """What one must know to read the tables."""
    scale = run.scale
    proved = {found.cell for found in run.found if found.cell.n <= CERTIFIED}
    apart = [x for x in (reference(cell.n, cell.condition, cell.p).apart for cell in proved) if x is not None]
    large = (
        f" At n of {scale.large} and more there is one round, at the last condition number and exponent alone, a call "
        f"of more than {number(LONG)} s is made once, and what is foreseen (by the cube of n) to take more than "
        f"{number(scale.patience)} s a call is left out: {len(run.skipped)} here."
        if max(scale.sizes) >= scale.large
        else ""
    )
    return [
        (
            "Inverse roots of float32 matrices: `gallery.spd(n, condition=..., seed=0)`, eigenvalues in geometric "
            f"progression, stored in float32. Medians of {scale.rounds} rounds of wall-clock time, compilation left "
            "out; in brackets against the time of optax's function, bare, in the same round. "
            "The methods of the package stand with their certificate, and are as `METHODS` has them, with the linear "
            "algebra of the library; what is called bare is judged by nobody."
            f"{large} The quartiles of the ratios are in the {{download}}`CSV file <{name}.csv>`, the errors in the "
            f"{{download}}`file of errors <{name}-errors.csv>`."
        ),
        "",
        (
            f"The error is |X - F|_F / |F|_F against the root F of the float32 matrix, that of the update |(X - F) "
            f"A^(1/2)|_F / |F A^(1/2)|_F. F is certified up to n = {CERTIFIED}, and above it that of a decomposition "
            f"in float64; the two differ by {max(apart, default=0):.1e} of the root at most where both are there. "
            f"optax adds {RIDGE:.0e} times the largest eigenvalue to the matrix unless it is told not to; in brackets "
            "is its error against the root of the matrix with that ridge."
        ),
        "",
    ]


def _threads_of_lapack() -> list[str]:
    name = "OPENBLAS_NUM_THREADS"
    return [f"- `{name}={os.environ[name]}`"] if os.environ.get(name) else []


def page(name: str, run: Run) -> str:
    """All tables with what one must know to read them, in Markdown.

    Args:
        name: of the files.
        run: what was measured.

    Returns:
        The page.
    """
    cores = "one core" if threads() == 1 else f"{threads()} cores"
    lines = [
        "<!-- Written by studies/benchmarks/inverse_root.py: a change made here is lost. -->",
        "",
        f"# Inverse roots: {today()}, {jax.default_backend()}, {cores}",
        "",
        *target_lines(run),
        "",
        *_about(run, name),
        *machine(jax.devices()[0]),
        *_threads_of_lapack(),
        "",
        "## The fastest to reach an error",
        "",
        *fastest_lines(run),
        "",
    ]
    for heading in dict.fromkeys(section(found.cell) for found in run.found):
        lines += [f"## {heading}", "", *root_lines(run, heading)]
    lines += [
        "## Emulated",
        "",
        (
            f"`coupled_newton` for p = 4 with all its operations emulated, the certificate included, at a condition "
            f"number of {number(MILD)}; in brackets the time over that of one emulated product times their number."
        ),
        "",
    ]
    for heading in dict.fromkeys(entry.section for entry in run.emulated):
        entries = [entry for entry in run.emulated if entry.section == heading]
        lines += [f"### {heading}", "", *table(entries), ""]
    return "\n".join([*lines, f"## {title(*run.scale.batch)}", "", *table(run.batches), ""])
