"""Rows by the values of their axes, and what judges have in common."""

import math
from collections.abc import Iterable
from statistics import median

from precond_lab.study import Judgement, Row, Status

from .cases import Part

UNIT = 2.0**-24
RIGHT = 2.0**-4
"""An error up to which a root counts as one: the tolerance of the package's methods."""


def of(rows: Iterable[Row], part: Part | None = None, **axes: object) -> list[Row]:
    """The rows of a part at given values of their axes.

    Args:
        rows: all.
        part: or None for any.
        **axes: names and values.

    Returns:
        They.

    Raises:
        LookupError: if there are none, which leaves a claim open.
    """
    wanted = axes if part is None else {"part": part.value, **axes}
    found = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
    if not found:
        raise LookupError(f"no rows with {wanted}")
    return found


def cells(rows: Iterable[Row], *names: str) -> dict[tuple, list[Row]]:
    """Rows by the values of some axes.

    Args:
        rows: some.
        *names: of the axes.

    Returns:
        They, in the order of their first.
    """
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def number(value: float) -> float:
    """A figure, infinite where it is not a number.

    Args:
        value: it.

    Returns:
        It.
    """
    return math.inf if math.isnan(value) else value


def typical(rows: Iterable[Row], name: str) -> float:
    """The median of a figure.

    Args:
        rows: some.
        name: of the figure.

    Returns:
        It, with what is not a number as infinite.
    """
    return median(number(row[name]) for row in rows)


def worst(rows: Iterable[Row], name: str) -> Row:
    """The row in which a figure is the largest.

    Args:
        rows: some.
        name: of the figure.

    Returns:
        It.
    """
    return max(rows, key=lambda row: number(row[name]))


def settled(holds: bool, figure: str) -> Judgement:
    """A claim that holds or does not.

    Args:
        holds: whether it does.
        figure: by what it was decided.

    Returns:
        The judgement.
    """
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def off_rounding(row: Row) -> bool:
    """Whether a root has changed by more than ten times kappa u.

    Args:
        row: with `difference` and `condition`.

    Returns:
        Whether it has.
    """
    return not row["difference"] <= 10 * row["condition"] * UNIT
