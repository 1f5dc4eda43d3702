"""Rows of the study, chosen by their axes, and what is made of many."""

import math
from collections.abc import Iterable

from precond_lab.study import Judgement, Row, Status

from .cases import METHODS, Part

ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
ALONG = 0.01  # the noise of a G that is b a^T but for this
STALLS_FROM = 0.99  # the old weight from which an average in bfloat16 is said to stall
CODED, PLAIN, SCALED = METHODS


def of(rows: Iterable[Row], part: Part, **axes: object) -> list[Row]:
    """The rows of a part at given values of its axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if row["part"] == part.value and all(row[k] == v for k, v in axes.items())]
    if not found:
        raise LookupError(f"no rows of part {part.value} with {axes}")
    return found


def largest(rows: Iterable[Row], name: str) -> float:
    """The largest value, infinite where one is not a number."""
    return max(math.inf if math.isnan(row[name]) else row[name] for row in rows)


def least(rows: Iterable[Row], name: str) -> float:
    """The least value, minus infinity where one is not a number."""
    return min(-math.inf if math.isnan(row[name]) else row[name] for row in rows)


def settle(holds: bool, figure: str) -> Judgement:
    """A claim that holds or not, with the figure that decided it."""
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)
