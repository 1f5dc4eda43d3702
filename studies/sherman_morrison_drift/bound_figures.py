"""Pictures of certificates and bounds."""

from statistics import median
from typing import Any

from precond_lab.study import Row

from .cases import REFINEMENTS, ROUNDOFF, Part
from .rows import cells, of

COLORS = {"float32": "#0072B2", "float16": "#D55E00", "bfloat16": "#009E73", "float8_e4m3fn": "#CC79A7"}


def inflation_law(beta: float, eta: float, steps: int) -> float:
    """The trace of C <- (beta C + (1 - beta) v v^T) / (1 - eta) after some steps, over that without errors.

    The stream is stationary, and the start its stationary state without errors.
    For eta < 1 - beta it tends to 1 + eta / (1 - beta - eta).
    """
    growth = beta / (1 - eta)
    kept = growth**steps
    return kept + (1 - beta) / (1 - eta) * (1 - kept) / (1 - growth)


def bounds_table(rows: list[Row]) -> list[dict]:
    """A table for all four panels: what lies on the axes, and the name of the line."""
    table = []
    kinds = ("rotated", "graded", "underflow", "adversarial")
    for (kind, format), cell in cells(of(rows, Part.ROUNDING), "kind", "format"):
        worst = max(row["largest_margin_lost"] for row in cell)
        share = sum(row["lost_by_order"] for row in cell)
        table.append({"panel": "margin", "name": format, "x": kinds.index(kind), "y": worst, "order_failures": share})
    for (kind, eta), cell in cells(of(rows, Part.SANDWICH), "kind", "eta"):
        law = inflation_law(cell[0]["beta"], eta, cell[0]["steps"])
        table.append({"panel": "order", "name": kind, "x": eta, "y": median(r["inflation"] for r in cell), "law": law})
    for (format, condition), cell in cells(of(rows, Part.FORWARD), "format", "condition"):
        table.append({"panel": "forward", "name": format, "x": condition, "y": median(r["tightness"] for r in cell)})
    for (condition,), cell in cells(of(rows, Part.REFINEMENT), "condition"):
        for k in range(REFINEMENTS + 1):
            error = median(row[f"backward_{k}"] for row in cell)
            table.append({"panel": "refinement", "name": str(k), "x": condition, "y": error})
    return table


def draw_bounds(figure: Any, table: list[dict]) -> None:
    """Four panels."""
    figure.set_size_inches(10.5, 7.4)
    (margin, order), (forward, refinement) = figure.subplots(2, 2)
    _draw_margins(margin, [x for x in table if x["panel"] == "margin"])
    _draw_order(order, [x for x in table if x["panel"] == "order"])
    for format, color in COLORS.items():
        found = [x for x in table if (x["panel"], x["name"]) == ("forward", format)]
        if found:
            forward.plot([x["x"] for x in found], [x["y"] for x in found], color=color, marker="o", label=format)
    forward.axhline(1, color="k", linewidth=1)
    forward.axhline(0.05, color="k", linewidth=0.8, linestyle=":")
    forward.set_title("Ma et al.: error of an update over its bound, median", fontsize=10)
    forward.set_xlabel("condition number")
    forward.legend(fontsize=8)
    shades = ("#B91C1C", "#93C5FD", "#3B82F6", "#1E3A8A")
    found = [x for x in table if x["panel"] == "refinement"]
    for k, color in enumerate(shades[: REFINEMENTS + 1]):
        line = [x for x in found if x["name"] == str(k)]
        label = f"{k} refinements" if k != 1 else "1 refinement"
        refinement.plot([x["x"] for x in line], [x["y"] for x in line], color=color, marker="o", label=label)
    kappas = sorted({x["x"] for x in found})
    u = ROUNDOFF["float32"]
    refinement.plot(
        kappas, [kappa * u for kappa in kappas], color="k", linestyle="--", linewidth=1.2, label="$\\kappa\\, u$"
    )
    refinement.axhline(u, color="k", linewidth=0.8, linestyle=":")
    refinement.set_title("Backward error of Sherman-Morrison, float32", fontsize=10)
    refinement.set_xlabel("condition number of A, before the update")
    refinement.legend(fontsize=8)
    for panel in (forward, refinement):
        panel.set_xscale("log")
        panel.set_yscale("log")


def _draw_margins(panel: Any, table: list[dict]) -> None:
    for k, (format, color) in enumerate(item for item in COLORS.items() if item[0] != "float32"):
        found = [x for x in table if x["name"] == format]
        places = [x["x"] + 0.18 * (k - 1) for x in found]
        panel.bar(places, [x["y"] for x in found], 0.16, color=color, label=format)
    panel.axhline(1, color="k", linewidth=1.2)
    panel.text(-0.4, 1.02, "certified above this line", fontsize=8, va="bottom")
    panel.set_ylim(0, 1.25)
    panel.set_xticks(range(4), ["rotated", "graded", "underflow", "adversarial"])
    panel.set_title("Largest certificate of a matrix that rounding lost", fontsize=10)
    panel.legend(fontsize=8, loc="upper right")


def _draw_order(panel: Any, table: list[dict]) -> None:
    for name, color, mark in (("outward", "#B91C1C", "o"), ("random", "#2563EB", "s")):
        found = sorted((x for x in table if x["name"] == name), key=lambda x: x["x"])
        panel.plot([x["x"] for x in found], [x["y"] for x in found], color=color, marker=mark, label=f"{name} errors")
    found = sorted((x for x in table if x["name"] == "outward"), key=lambda x: x["x"])
    panel.plot([x["x"] for x in found], [x["law"] for x in found], color="k", linestyle="--", label="law of the worst")
    panel.axvline(0.05, color="k", linewidth=0.8, linestyle=":")
    panel.set_ylim(0.7, 1e4)
    panel.text(0.051, 2e3, "$\\eta = 1 - \\beta$", fontsize=9)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("$\\eta$: relative error of a step")
    panel.set_title("Trace of the inverse over the exact one, 600 steps", fontsize=10)
    panel.legend(fontsize=8, loc="upper left")
