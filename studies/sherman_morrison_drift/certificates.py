"""Judges of certificates and bounds."""

import math
from statistics import median

from precond_lab.study import Judgement, Row

from .cases import ROUNDOFF, Part
from .rows import cells, of, settle


def _normal(rows: list[Row]) -> list[Row]:
    return [row for row in of(rows, Part.ROUNDING) if row["kind"] != "underflow"]


def _rounding(found: list[Row], certified: str, failures: str) -> Judgement:
    total, bad, lost = (sum(row[name] for row in found) for name in (certified, failures, "lost"))
    matrices = sum(row["matrices"] for row in found)
    return settle(
        not bad and total > 0,
        f"{bad} of {total} certified matrices are lost; of the other {matrices - total} {lost - bad} are.",
    )


def by_order(rows: list[Row]) -> Judgement:
    """E10 in the normal range."""
    return _rounding(_normal(rows), "certified_by_order", "lost_by_order")


def by_order_underflow(rows: list[Row]) -> Judgement:
    """E10 below it."""
    return _rounding(of(rows, Part.ROUNDING, kind="underflow"), "certified_by_order", "lost_by_order")


def by_norm(rows: list[Row]) -> Judgement:
    """The certificate of the package, everywhere."""
    found = of(rows, Part.ROUNDING)
    judged = _rounding(found, "certified", "lost_certified")
    most = max(row["largest_margin_lost"] for row in found)
    return judged._replace(figure=f"{judged.figure} The largest margin that was lost is {most:.3f}; one is certified.")


def stays_between(rows: list[Row]) -> Judgement:
    """E11: the bounds."""
    found = of(rows, Part.SANDWICH)
    worst = max(row["exceeded"] for row in found)
    return settle(worst <= 1e-12, f"They are exceeded by {worst:.1g}, relatively, at most, in {len(found)} runs.")


def _bounded(row: Row) -> bool:
    """Whether what is left of it is within twice the fixed point of the mean, where there is one."""
    room = 1 - row["beta"] - row["eta"]
    return room > 0 and row["inflation"] <= 2 * (1 + row["eta"] / room)


def bounded_below(rows: list[Row]) -> Judgement:
    """E11: when they stay bounded."""
    found = of(rows, Part.SANDWICH, kind="outward")
    wrong = []
    for row in found:
        room = 1 - row["beta"] - row["eta"]
        grown = row["inflation"] >= 0.5 * (row["beta"] / (1 - row["eta"])) ** row["steps"]
        wrong += [] if (_bounded(row) if room > 0 else grown) else [row]
    parts = [f"{median(row['inflation'] for row in cell):.3g} at {eta}" for (eta,), cell in cells(found, "eta")]
    return settle(
        not wrong,
        f"With E = -eta X in every step and 1 - beta = {1 - found[0]['beta']:.2f} the trace of the inverse is, after "
        f"{found[0]['steps']} steps, {', '.join(parts)} times the exact one.",
    )


def random_errors_grow(rows: list[Row]) -> Judgement:
    """E11: whether random errors do the same."""
    found = [row for row in of(rows, Part.SANDWICH, kind="random") if row["eta"] > 1 - row["beta"]]
    parts = [f"{max(row['inflation'] for row in cell):.3g} at {eta}" for (eta,), cell in cells(found, "eta")]
    return settle(
        all(row["inflation"] >= 0.5 * (row["beta"] / (1 - row["eta"])) ** row["steps"] for row in found),
        f"With random errors the trace is at most {', '.join(parts)} times the exact one.",
    )


def forward_bound(rows: list[Row]) -> Judgement:
    """E22."""
    found = of(rows, Part.FORWARD)
    bad, total = (sum(row[name] for row in found) for name in ("violations", "updates"))
    return settle(
        not bad, f"{bad} of {total} updates; the nearest is {max(row['largest'] for row in found):.4f} of it."
    )


def forward_tightness(rows: list[Row]) -> Judgement:
    """E22: how near it is."""
    found = [
        (median(row["tightness"] for row in cell), *where)
        for where, cell in cells(of(rows, Part.FORWARD), "condition", "format")
    ]
    least, condition, format = min(found)
    return settle(
        least > 0.05,
        f"The median is {least:.2g} of the bound at a condition number of {condition:g} in {format}, "
        f"{min(x for x, kappa, _ in found if kappa == 10):.2g} at 10.",
    )


def refined(rows: list[Row]) -> Judgement:
    """E23: one refinement."""
    u = ROUNDOFF["float32"]
    found = [row for row in of(rows, Part.REFINEMENT) if row["condition"] * u <= 1e-3]
    worst = max(found, key=lambda row: row["backward_1"])
    return settle(
        worst["backward_1"] <= 10 * u,
        f"At most {worst['backward_1'] / u:.2g} u after one refinement (condition {worst['condition']:.3g}); before it "
        f"{max(row['backward_0'] for row in found) / u:.2g} u, after two "
        f"{max(row['backward_2'] for row in found) / u:.2g} u.",
    )


def refined_twice(rows: list[Row]) -> Judgement:
    """E23: two refinements."""
    u = ROUNDOFF["float32"]
    found = [row for row in of(rows, Part.REFINEMENT) if row["condition"] * u <= 1e-3]
    worst = max(row["backward_2"] for row in found)
    return settle(worst <= 10 * u, f"At most {worst / u:.2g} u after two refinements.")


def unrefined(rows: list[Row]) -> Judgement:
    """E23: how the error grows without."""
    points = [
        (math.log(condition), math.log(median(row["backward_0"] for row in cell)))
        for (condition,), cell in cells(of(rows, Part.REFINEMENT), "condition")
        if 10 <= condition <= 1e6
    ]
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    slope = sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)
    return settle(
        0.8 <= slope <= 1.2, f"It grows like the {slope:.2f}th power of the condition number, from 10 to 1e6."
    )
