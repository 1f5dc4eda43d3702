"""Which rows a question is about."""

from collections.abc import Iterable, Sequence
from typing import Any

from precond_lab.study import Judgement, Row, Status

from .cases import ROUNDOFF, Part


def of(rows: Iterable[Row], part: Part, **axes: object) -> list[Row]:
    """The rows of a part at given values of their axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if row["part"] == part and all(row[name] == value for name, value in axes.items())]
    if not found:
        raise LookupError(f"no rows of {part.value} with {axes}")
    return found


def one(rows: Iterable[Row], part: Part, **axes: object) -> Row:
    """The only such row."""
    (found,) = of(rows, part, **axes)
    return found


CURVE = ("method", "p", "n", "early", "late", "condition")
"""What a curve is for."""


def curves(rows: Iterable[Row], **axes: object) -> dict[tuple, list[Row]]:
    """The rows of schedules with the same axes but the switch, by which they are sorted."""
    found: dict[tuple, list[Row]] = {}
    for row in sorted(of(rows, Part.SCHEDULE, **axes), key=lambda row: row["switch"]):
        found.setdefault(tuple(row[name] for name in CURVE), []).append(row)
    return found


def descends(row: Row) -> bool:
    """Whether the digits come first."""
    return ROUNDOFF[row["early"]] < ROUNDOFF[row["late"]]


def place(row: Row) -> str:
    """Where a figure comes from, in the words of its row."""
    names = ("method", "early", "late", "X", "M", "scaling", "schedule", "format", "spectrum", "start", "p", "n")
    words = [
        f"{name} = {row[name]}" if name in {"p", "n", "X", "M"} else str(row[name]) for name in names if row.get(name)
    ]
    return ", ".join([*words, f"{row['condition']:g}"])


def settle(holds: bool, figure: str) -> Judgement:
    """Confirmed or refuted, by that figure."""
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def extremes(found: Sequence[tuple[float, Any]]) -> tuple[tuple[float, Any], tuple[float, Any]]:
    """The pair with the least number, and that with the largest."""
    return min(found, key=lambda x: x[0]), max(found, key=lambda x: x[0])
