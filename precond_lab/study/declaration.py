"""What a study declares: its question, its grid of cases, what is measured, what is claimed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import matplotlib.figure

Plain = str | int | float | bool | None
"""What a parameter or a figure may be; a parameter is finite, a figure may also be nan or infinite."""

Row = dict[str, Any]
"""Parameters and figures of one measured case, merged flat; the values are plain."""


class StudyError(ValueError):
    """A study that cannot be found, loaded or run as declared; the text says what to do."""


@dataclass(frozen=True)
class Options:
    """What the person asked for on the command line; stored with the run.

    Attributes:
        quick: The small form of the study, minutes instead of hours.
        data: The folder given with `--data`, as absolute path, or None.
    """

    quick: bool = False
    data: str | None = None

    @property
    def label(self) -> str:
        """Name of the folder that keeps the rows of these options: `quick`, `full`, `full-mnist-3f2a`.

        The last part is a hash of the data's path, so that two folders of one name do not share their rows.
        """
        label = "quick" if self.quick else "full"
        if self.data is None:
            return label
        path = hashlib.sha256(os.fsencode(self.data)).hexdigest()
        return f"{label}-{Path(self.data).name or 'root'}-{path[:4]}"


class Context(NamedTuple):
    """What `prepare` and `measure` are told besides the case.

    Attributes:
        options: What the person asked for.
        cache: Folder for expensive prerequisites; exists, shared by all runs of the study, safe to delete.
    """

    options: Options
    cache: Path


class Status(Enum):
    """Where a claim stands after the rows have been looked at."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    OPEN = "open"


class Judgement(NamedTuple):
    """Status of a claim, with the figure that decided it as one sentence with the number in it."""

    status: Status
    figure: str


@dataclass(frozen=True)
class Claim:
    """A sentence that the rows of a study can confirm or refute.

    Attributes:
        name: Short name, unique in the study, for instance `C5`.
        sentence: The claim itself.
        source: The paper with its equation or section, or `derived`.
        judge: Looks at the measured rows; may raise where they do not suffice, which leaves the claim open.
    """

    name: str
    sentence: str
    source: str
    judge: Callable[[list[Row]], Judgement]


@dataclass(frozen=True)
class Figure:
    """A picture with the table behind it.

    Attributes:
        name: File stem of the SVG and the CSV.
        title: Heading.
        caption: What the reader should see in it.
        table: Rows of the study to the table of the figure, which is what the CSV holds.
        draw: Draws from that table alone on an empty matplotlib figure.
    """

    name: str
    title: str
    caption: str
    table: Callable[[list[Row]], list[dict]]
    draw: Callable[[matplotlib.figure.Figure, list[dict]], None]


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Study:
    """A question that a grid of measured cases answers.

    Attributes:
        name: Letters, digits, `_` and `-`; names the folder of its rows.
        version: Raised when `measure` changes meaning: rows of other versions are not used again.
        question: One sentence.
        grid: Options to the cases, plain mappings in any order; may raise ValueError for unusable data.
        measure: One case to its figures; a pure function of the case and the prepared cache.
        answer: Rows to one sentence (Markdown) that answers the question.
        figures: What the report draws.
        claims: What the rows settle.
        batched: Axes that are only numbers: cases that differ in these alone form one shard.
        measure_batch: The cases of one shard to their figures, in the same order; None to measure each alone.
        prepare: Called once in one process before anything is measured; must be idempotent.

    Raises:
        StudyError: The declaration contradicts itself.
    """

    name: str
    version: int
    question: str
    grid: Callable[[Options], Iterable[Mapping[str, Plain]]]
    measure: Callable[[Mapping[str, Any], Context], Mapping[str, Any]]
    answer: Callable[[list[Row]], str]
    figures: tuple[Figure, ...] = ()
    claims: tuple[Claim, ...] = ()
    batched: tuple[str, ...] = ()
    measure_batch: Callable[[list[Mapping[str, Any]], Context], Sequence[Mapping[str, Any]]] | None = None
    prepare: Callable[[Context], None] | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that could only fail later."""
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise StudyError(
                f"study name {self.name!r}: use letters, digits, '_' and '-' only, because it names a folder"
            )
        if not isinstance(self.version, int) or isinstance(self.version, bool) or self.version < 1:
            raise StudyError(f"study {self.name}: version {self.version!r} must be a whole number from 1")
        if not (isinstance(self.question, str) and self.question.strip()):
            raise StudyError(f"study {self.name}: question is empty; ask it in one sentence")
        if isinstance(self.batched, str):
            raise StudyError(f"study {self.name}: batched={self.batched!r} is text; write ({self.batched!r},)")
        if self.measure_batch is not None and not self.batched:
            raise StudyError(f"study {self.name}: measure_batch needs batched=(axis, ...) to know what to batch")
        for kind, members in (("figure", self.figures), ("claim", self.claims)):
            names = [member.name for member in members]
            for name in names:
                if not _NAME.fullmatch(name):
                    raise StudyError(f"study {self.name}: {kind} name {name!r}: use letters, digits, '_' and '-'")
                if names.count(name) > 1:
                    raise StudyError(f"study {self.name}: two {kind}s are named {name!r}; rename one")


class Failure(NamedTuple):
    """A case that failed: its parameters, the last line of its traceback, the whole traceback."""

    parameters: dict[str, Any]
    reason: str
    traceback: str


@dataclass(frozen=True)
class Provenance:
    """Where the rows of a report come from.

    Attributes:
        study: Name of the study.
        version: Version of the study that the rows belong to.
        options: Options of the run.
        command: Command line that reproduces the run, for instance `precond-lab run studies/NAME --quick`.
        commits: Git commits the rows were measured at (`-dirty` if with changes); empty if not known.
        versions: Library to the versions that took part, usually one each.
        devices: Devices that took part.
        started: UTC time at which the first row was begun, ISO 8601 to the second, or None without rows.
        finished: UTC time at which the last row was finished, or None without rows.
        cases_ok: Number of cases measured.
        cases_failed: Number of cases that failed.
        cases_missing: Number of cases of the grid not run yet.
        compute_seconds: Seconds spent measuring, summed over all cases and workers.
        failures: The failed cases.
    """

    study: str
    version: int
    options: Options
    command: str
    commits: tuple[str, ...] = ()
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    started: str | None = None
    finished: str | None = None
    cases_ok: int = 0
    cases_failed: int = 0
    cases_missing: int = 0
    compute_seconds: float = 0.0
    failures: tuple[Failure, ...] = ()


class Case(NamedTuple):
    """One point of the grid with its identity."""

    id: str
    parameters: dict[str, Any]


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: object) -> str:
    """The one JSON text of a plain value: sorted keys, no spaces, ASCII, shortest exact numbers.

    Args:
        value: Anything JSON can hold, without nan and infinities.

    Returns:
        The text.

    >>> canonical({"b": 1.0, "a": None})
    '{"a":null,"b":1.0}'
    """
    return _ENCODER.encode(value)


def identity(study: Study, parameters: Mapping[str, Plain]) -> str:
    """Identity of a case: SHA-256 over study name, version and parameters, and nothing else.

    Args:
        study: The study.
        parameters: The case.

    Returns:
        64 hexadecimal digits.
    """
    text = canonical({"study": study.name, "version": study.version, "parameters": dict(parameters)})
    return hashlib.sha256(text.encode()).hexdigest()


def order(parameters: Mapping[str, Plain]) -> list[tuple[str, int, float, str]]:
    """Sort key of a case that does not depend on the order of the grid: numbers as numbers, text as text.

    Args:
        parameters: The case.

    Returns:
        A key for `sorted`.
    """
    key: list[tuple[str, int, float, str]] = []
    for name, value in sorted(parameters.items()):
        match value:
            case None:
                key.append((name, 0, 0, ""))
            case bool():
                key.append((name, 1, value, ""))
            case str():
                key.append((name, 3, 0, value))
            case _:
                key.append((name, 2, value, type(value).__name__))
    return key


def _checked(study: Study, case: object) -> dict[str, Plain]:
    if not isinstance(case, Mapping):
        raise StudyError(f"study {study.name}: grid gave {case!r}; every case is a dict of axis names to values")
    for name, value in case.items():
        if not isinstance(name, str) or not name or name.startswith("_"):
            raise StudyError(f"study {study.name}: axis name {name!r}; use text that begins without the reserved '_'")
        if type(value) not in {str, int, float, bool, type(None)}:
            raise StudyError(
                f"study {study.name}: axis {name!r} has the value {value!r} of type {type(value).__name__}; "
                "use str, int, float, bool or None (for a NumPy scalar its .item(), for a record its name)"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise StudyError(
                f"study {study.name}: axis {name!r} has the value {value}; parameters are finite, "
                "so use None or a text such as 'infinite' for it"
            )
    return dict(case)


def cases(study: Study, options: Options) -> list[Case]:
    """The grid of a study, checked, in an order that does not depend on the order of the grid.

    Args:
        study: The study.
        options: Passed to its grid.

    Returns:
        The cases.

    Raises:
        StudyError: The grid cannot be formed, is empty, has duplicates, or values that are not plain.
    """
    try:
        points = [_checked(study, point) for point in study.grid(options)]
    except StudyError:
        raise
    except (ValueError, OSError) as error:
        raise StudyError(f"study {study.name}: {error}") from error
    if not points:
        raise StudyError(f"study {study.name}: the grid is empty; grid(options) must give at least one case")
    for axis in study.batched:
        if not any(axis in point for point in points):
            axes = ", ".join(sorted({name for point in points for name in point}))
            raise StudyError(f"study {study.name}: batched axis {axis!r} occurs in no case; the axes are {axes}")
    found: dict[str, Case] = {}
    for point in points:
        case = Case(identity(study, point), point)
        if case.id in found:
            raise StudyError(f"study {study.name}: the grid gives the case {canonical(point)} twice; give it once")
        found[case.id] = case
    return sorted(found.values(), key=lambda case: order(case.parameters))
