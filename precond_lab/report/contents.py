"""What a report says, before it is set as a page."""

from collections.abc import Iterable
from typing import NamedTuple

from precond_lab.report.figures import draw
from precond_lab.report.tables import RowsFile, csv_text, rows_file
from precond_lab.report.values import Row, Value, brief, columns, in_order, order, plain
from precond_lab.study.claims import JudgedClaim, judge_claims
from precond_lab.study.declaration import Figure, Provenance, Study

MARKS = {"confirmed": "✓", "refuted": "✗", "open": "○"}
"""A mark for each status of a claim: color alone tells nothing to some readers."""

SHOWN_VALUES = 12
SHOWN_FAILURES = 20


class Picture(NamedTuple):
    """A figure with its table; `svg` is None where `problem` says why."""

    name: str
    title: str
    caption: str
    table: list[dict]
    columns: tuple[str, ...]
    csv: str
    svg: str | None
    problem: str | None


class Axis(NamedTuple):
    """An axis of the grid with the values that were run."""

    name: str
    values: tuple[Value, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """The values for a person: all of a few, the ends of many."""
        few = len(self.values) <= SHOWN_VALUES
        kept = self.values if few else (*self.values[:3], "…", self.values[-1])
        return tuple("none" if value is None else brief(value) for value in kept)


class Contents(NamedTuple):
    """All that the pages of a report show."""

    name: str
    version: int
    question: str
    answer: str
    pictures: tuple[Picture, ...]
    claims: tuple[JudgedClaim, ...]
    axes: tuple[Axis, ...]
    rows: int
    rows_file: RowsFile
    provenance: Provenance
    problems: tuple[str, ...]

    @property
    def notices(self) -> tuple[str, ...]:
        """What the reader must know before believing the page."""
        provenance, notices = self.provenance, []
        total = provenance.cases_ok + provenance.cases_failed + provenance.cases_missing
        if provenance.cases_missing:
            notices.append(f"Preliminary: {provenance.cases_missing} of {total} cases have not been run.")
        if provenance.cases_failed:
            notices.append(f"{provenance.cases_failed} of {total} cases failed; they are listed below.")
        return tuple(notices)

    @property
    def statuses(self) -> dict[str, int]:
        """How many claims have each status, those that occur."""
        found = [claim.judgement.status.value for claim in self.claims]
        return {status: found.count(status) for status in MARKS if status in found}

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Label and text of what the rows were measured with."""
        provenance = self.provenance
        times = [_minute(time) for time in (provenance.started, provenance.finished) if time]
        when = " to ".join(dict.fromkeys(times))
        versions = [f"{name} {' / '.join(found)}" for name, found in sorted(provenance.versions.items())]
        facts = {
            "Study": f"{self.name}, version {self.version}, {provenance.options.label}",
            "Measured": when and f"{when} UTC",
            "Time spent": _duration(provenance.compute_seconds) if provenance.compute_seconds else "",
            "Device": ", ".join(provenance.devices),
            "Versions": ", ".join(versions),
            "Commit": ", ".join(_short(commit) for commit in provenance.commits),
        }
        return tuple((label, text or "not known") for label, text in facts.items())


def gather(study: Study, rows: Iterable[Row], provenance: Provenance) -> Contents:
    """Ask the study everything that its pages show.

    Args:
        study: The declaration.
        rows: The measured rows, in any order.
        provenance: Where they come from.

    Returns:
        The contents; whatever of the study's own code raises becomes a problem in them, not an exception.
    """
    grid, problems = _grid(study, provenance)
    names = columns(grid)
    ordered = in_order(rows, names)
    answer, failed = _answer(study, ordered)
    pictures = tuple(_picture(study, figure, ordered) for figure in study.figures)
    problems += failed
    problems += [f"figure {picture.name}: {picture.problem}" for picture in pictures if picture.problem]
    return Contents(
        name=study.name,
        version=study.version,
        question=study.question,
        answer=answer,
        pictures=pictures,
        claims=tuple(judge_claims(study, list(ordered), provenance.cases_missing, provenance.cases_failed)),
        axes=_axes(grid, ordered, provenance),
        rows=len(ordered),
        rows_file=rows_file(csv_text(ordered, columns(ordered, names))),
        provenance=provenance,
        problems=tuple(problems),
    )


def _grid(study: Study, provenance: Provenance) -> tuple[list[Row], list[str]]:
    """List the cases again: a row holds parameters and figures alike, and only the grid tells them apart."""
    try:
        return list(study.grid(provenance.options)), []
    except Exception as error:  # noqa: BLE001  the data set of the run may be gone; the rows still make a page
        return [], [f"the grid cannot be listed: {type(error).__name__}: {error}"]


def _axes(grid: list[Row], rows: list[dict[str, Value]], provenance: Provenance) -> tuple[Axis, ...]:
    """Collect the values that were run, failed cases included: numbers by size, names in grid order."""
    run: list[Row] = [*rows, *(failure.parameters for failure in provenance.failures)]
    axes = []
    for name in columns(grid):
        found = {plain(row[name]) for row in run if name in row}
        declared = dict.fromkeys(plain(case[name]) for case in grid if name in case)
        if any(isinstance(value, str) for value in found):
            values = [value for value in declared if value in found]
        else:
            values = sorted(found, key=order)
        axes.append(Axis(name, tuple(values)))
    return tuple(axes)


def _answer(study: Study, rows: list[dict[str, Value]]) -> tuple[str, list[str]]:
    """Answer the question from the rows, or say why not."""
    if not rows:
        return "No case of this study has been measured yet.", []
    try:
        return study.answer(rows), []
    except Exception as error:  # noqa: BLE001  a missing sentence must not cost the reader the figures
        problem = f"{type(error).__name__}: {error}"
        return "The rows at hand do not answer it.", [f"the answer could not be formed: {problem}"]


def _picture(study: Study, figure: Figure, rows: list[dict[str, Value]]) -> Picture:
    """Make the table of a figure, then draw it."""
    table: list[dict] = []
    try:
        table = [dict(row) for row in figure.table(rows)]
        svg, problem = draw(figure, table, f"{study.name}/{figure.name}")
    except Exception as error:  # noqa: BLE001  one table that cannot be made must not cost the reader the others
        svg, problem = None, f"its table raised {type(error).__name__}: {error}"
    names = columns(table)
    csv = csv_text(table, names) if names else ""
    return Picture(figure.name, figure.title, figure.caption, table, names, csv, svg, problem)


def _minute(time: str) -> str:
    """Shorten an ISO 8601 time to the minute."""
    return time[:16].replace("T", " ")


def _duration(seconds: float) -> str:
    """Write a time for a person."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def _short(commit: str) -> str:
    """Shorten a commit, its mark of uncommitted changes kept."""
    digest, _, mark = commit.partition("-")
    return f"{digest[:12]} with uncommitted changes" if mark else digest[:12]
