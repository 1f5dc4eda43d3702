"""The page of the benchmark of updates of rank one: what was aimed at, what was reached, and all figures."""

import os
from collections.abc import Callable, Iterable, Sequence

import jax
from measure import Entry, machine, number, threads, today
from rank_one_cells import BATCH, BATCH32, COPY, LOOP, MATMUL, NATIVE, PEER, ROUNDING, TWINS, Cell, Check, Found, Scale

STEPS = 100
"""Steps of what the page calls a case."""
AIM, AT = 100, 32
"""Times as many cases a second as the peer, and the order of the matrices there."""
ROWS = (PEER, LOOP, MATMUL, BATCH, BATCH32, NATIVE, ROUNDING, COPY)


def section(cell: Cell) -> str:
    """The heading of a form and a format."""
    return f"{cell.form}, {cell.format}"


def column(cell: Cell) -> str:
    """The head of a size's column."""
    return f"n = {cell.n}"


def entries(found: Iterable[Found]) -> list[Entry]:
    """All figures, as the file has them: work is cases, so that a rate is one of cases.

    Args:
        found: what was measured.

    Returns:
        An entry for each program of each cell.
    """
    return [
        Entry(section(one.cell), name, column(one.cell), 1 / STEPS, one.timings[name])
        for one in found
        for name in ROWS
        if name in one.timings
    ]


def times(found: Found, program: str, peer: str) -> float:
    """How many times as many cases a second one program does as another."""
    return found.timings[peer].ratio / found.timings[program].ratio


# Targets


def target_lines(found: Sequence[Found]) -> list[str]:
    """Whether the target is met, a row a form and format, against every peer.

    Args:
        found: what was measured.

    Returns:
        Lines of Markdown.
    """
    aimed = [one for one in found if one.cell.n == AT]
    lines = [
        f"| One call, n = {AT}: at least {AIM} times the cases a second of | {' | met | '.join(TWINS)} | met |",
        "|---" * (1 + 2 * len(TWINS)) + "|",
    ]
    for one in aimed:
        cells = [_judged(times(one, twin, peer)) for peer, twin in TWINS.items()]
        lines.append(f"| {section(one.cell)} | {' | '.join(cells)} |")
    if not aimed:
        lines.append(f"| n = {AT} was not measured " + "| " * (2 * len(TWINS)) + "|")
    return lines


def _judged(reached: float) -> str:
    return f"{number(reached)} | {'yes' if reached >= AIM else 'no'}"


# Tables


def rate_lines(found: Sequence[Found]) -> list[str]:
    """Cases a second, a row a program, a column a size.

    Args:
        found: of one section.

    Returns:
        Lines of Markdown.
    """
    rows = [name for name in ROWS if any(name in one.timings for one in found)]
    return _table(rows, found, lambda one, name: _rate(one, name) if name in one.timings else "")


def _rate(found: Found, name: str) -> str:
    timing = found.timings[name]
    return f"{number(1 / (STEPS * timing.seconds))} ({number(1 / timing.ratio)}x)"


def share_lines(found: Sequence[Found]) -> list[str]:
    """What the batch costs over native float32, and which yardstick is how near.

    Args:
        found: of one section.

    Returns:
        Lines of Markdown.
    """

    def slowdown(one: Found) -> str:
        return f"{number(times(one, NATIVE, BATCH))} times the time"

    def yardstick(one: Found) -> str:
        nearest = max((ROUNDING, COPY), key=lambda name: one.timings[name].ratio)
        share = one.timings[nearest].ratio / one.timings[BATCH].ratio
        return f"{'arithmetic' if nearest == ROUNDING else 'memory'}: {share:.0%} of the time"

    rows = {"emulated against native float32": slowdown, "the nearer yardstick": yardstick}
    return _table(list(rows), found, lambda one, name: rows[name](one))


def check_lines(found: Sequence[Found]) -> list[str]:
    """How many numbers of the last states differ from a peer's.

    Args:
        found: what was measured.

    Returns:
        Lines of Markdown.
    """
    lines = ["| | compared with | " + " | ".join(dict.fromkeys(column(one.cell) for one in found)) + " |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    columns = list(dict.fromkeys(column(one.cell) for one in found))
    checks = [made for one in found for made in one.checks]
    for title in dict.fromkeys(section(one.cell) for one in found):
        for peer in TWINS:
            cells = {column(c.cell): _differing(c) for c in checks if (section(c.cell), c.peer) == (title, peer)}
            if cells:
                lines.append(f"| {title} | {peer} | {' | '.join(cells.get(x, '') for x in columns)} |")
    return lines


def _differing(made: Check) -> str:
    return f"{made.different} of {made.numbers}"


def _table(rows: Sequence[str], found: Sequence[Found], cell: Callable[[Found, str], str]) -> list[str]:
    return [
        f"| | {' | '.join(column(one.cell) for one in found)} |",
        "|---" * (len(found) + 1) + "|",
        *(f"| {name} | {' | '.join(cell(one, name) for one in found)} |" for name in rows),
    ]


def _about(name: str, found: Sequence[Found], scale: Scale) -> list[str]:
    """What one must know to read the tables."""
    sizes = "; ".join(f"n = {s.n}: {s.cases} cases of {s.steps} steps" for s in scale.sizes)
    threads_used = "one thread a core, each with a call of its own" if jax.default_backend() == "cpu" else "one call"
    return [
        (
            f"Cases a second, a case being {STEPS} steps; in brackets how many times that of the peer, `{PEER}`. "
            f"Medians of {scale.rounds} rounds of wall-clock time; the quartiles of the ratios of times are in the "
            f"{{download}}`CSV file <{name}.csv>`. Cases differ in condition number, decay and stream. Run at once, in "
            f"{threads_used}: {sizes}. Peers run one case after the other."
        ),
        "",
        (
            f"`{BATCH}` is `run_cases`, emulated, with every operation rounded to the format and float32 as the "
            f"carrier; `{BATCH32}` has sums in float32, rounded once. Peers are NumPy on arrays of ml_dtypes: `{PEER}` "
            f"forms sums of products by one `np.add.reduce`, `{LOOP}` as one writes it first, `{MATMUL}` by a product "
            f"in float32 whose result is rounded. `{NATIVE}` rounds nothing. `{ROUNDING}`: as many rounded products "
            f"and sums as an update has, of numbers in the first cache, which a step that is compiled as a "
            f"whole can undercut. `{COPY}`: the state is read and written once. Each peer "
            "is judged beside the call whose sums are formed as its own are."
        ),
        "",
    ]


def page(name: str, found: Sequence[Found], scale: Scale) -> str:
    """All tables with what one must know to read them, in Markdown.

    Args:
        name: of the files.
        found: what was measured.
        scale: how much was to be.

    Returns:
        The page.
    """
    cores = "one core" if threads() == 1 else f"{threads()} cores"
    lines = [
        "<!-- Written by studies/benchmarks/rank_one.py: a change made here is lost. -->",
        "",
        f"# Updates of rank one: {today()}, {jax.default_backend()}, {cores}",
        "",
        *target_lines(found),
        "",
        *_about(name, found, scale),
        *machine(jax.devices()[0]),
        *([f"- `NPROC={os.environ['NPROC']}`"] if os.environ.get("NPROC") else []),
        "",
    ]
    for title in dict.fromkeys(section(one.cell) for one in found):
        here = [one for one in found if section(one.cell) == title]
        lines += [f"## {title}", "", *rate_lines(here), "", *share_lines(here), ""]
    return "\n".join([
        *lines,
        "## The same bits",
        "",
        (
            "Numbers of the last states of two cases that differ from the peer's. Sums in sequence are the same "
            f"computation on both sides, and none may differ; `{MATMUL}` adds up in an order of its own where a "
            "library for products of matrices does it."
        ),
        "",
        *check_lines(found),
        "",
    ])
