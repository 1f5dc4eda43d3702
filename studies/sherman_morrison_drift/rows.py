"""Rows by the values of their axes, and what is asked of them by judges and figures."""

import math
from collections.abc import Iterable, Iterator
from statistics import median

from precond_lab.study import Judgement, Row, Status

from .cases import ROUNDOFF, Part, decay


def of(rows: Iterable[Row], part: Part | None = None, **axes: object) -> list[Row]:
    """The rows at given values of their axes; to find none is an error, which leaves a claim open."""
    if part is not None:
        axes["part"] = part.value
    found = [row for row in rows if all(row.get(name) == value for name, value in axes.items())]
    if not found:
        raise LookupError(f"no rows with {axes}")
    return found


def cells(rows: Iterable[Row], *names: str) -> Iterator[tuple[tuple, list[Row]]]:
    """The rows by the values of some axes."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.items()


def typical(rows: Iterable[Row], name: str) -> float:
    """The median, with what is not a number as infinite."""
    return median(math.inf if math.isnan(row[name]) else row[name] for row in rows)


def settle(holds: bool, figure: str) -> Judgement:
    """Confirmed or refuted, with the figure that decided."""
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def strain(row: Row) -> float:
    """The largest condition number of the accumulated matrix, times the unit roundoff of what is kept."""
    return row["largest_condition"] * ROUNDOFF[row["format"]]


def lost(row: Row) -> bool:
    """Whether definiteness was lost."""
    return row["first_loss"] is not None


def threshold(rows: Iterable[Row]) -> float:
    """The condition number, times u, from which on definiteness is lost: the median over the seeds.

    For each seed it is the geometric mean of the two neighbors between which the first loss lies.

    Args:
        rows: of one form, format, arithmetic and size.

    Returns:
        The threshold; infinite where nothing is lost.
    """
    edges = []
    for _, found in cells(rows, "seed"):
        ordered = sorted(found, key=lambda row: row["condition"])
        first = next((k for k, row in enumerate(ordered) if lost(row)), None)
        if first is None:
            edges.append(math.inf)
        else:
            edges.append((strain(ordered[max(first - 1, 0)]) * strain(ordered[first])) ** 0.5)
    return median(edges)


def thresholds(
    rows: Iterable[Row], form: str, arithmetic: str = "stored", n: int = 32, beta: float | None = None
) -> dict[str, float]:
    """The thresholds of a form by format; the decay is that of the order where None is given."""
    beta = decay(n) if beta is None else beta
    found = of(rows, Part.THRESHOLDS, form=form, arithmetic=arithmetic, n=n, beta=beta)
    return {format: threshold(cell) for (format,), cell in cells(found, "format")}
