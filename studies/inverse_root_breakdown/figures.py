"""The pictures of the study, each drawn from its own table."""

import math
from itertools import product
from typing import Any

from precond_lab.study import Figure, Row

from .cases import CONDITIONS, FORMATS, FRONTIER, METHODS, POWERS, ROUNDOFF
from .claims import cells, typical, usual

SHOWN = {
    "eigen": ("#7B8794", "s"),
    "rational_minimax": ("#15803D", "^"),
    "coupled_newton": ("#C2410C", "o"),
    "newton_schulz": ("#2563EB", "D"),
    "minimax_polynomial": ("#9333EA", "v"),
    "newton": ("#DB2777", "x"),
}
POWER = 4
LEAST, MOST = 1e-8, 3.0
"""Larger errors are drawn as the latter."""


def errors_table(rows: list[Row]) -> list[dict]:
    """Errors by format, p, method and condition number."""
    table = []
    axes = ("format", "p", "method", "condition")
    found = cells(usual(rows), *axes)
    for place in filter(found.__contains__, product(FORMATS, POWERS, SHOWN, CONDITIONS)):
        format, p, _, condition = place
        attainable = condition / p * ROUNDOFF[format]
        error = typical(found[place], "error")
        table.append(dict(zip(axes, place, strict=True), error=error, attainable=attainable))
    return table


def draw_errors(figure: Any, table: list[dict]) -> None:
    """A panel for each format and p."""
    figure.set_size_inches(11, 6)
    panels = figure.subplots(len(POWERS), len(FORMATS), sharex=True, sharey=True)
    handles = []
    for row, p in zip(panels, POWERS, strict=True):
        for panel, format in zip(row, FORMATS, strict=True):
            handles = []
            for method, (color, marker) in SHOWN.items():
                found = [x for x in table if (x["format"], x["p"], x["method"]) == (format, p, method)]
                kappas, errors = [x["condition"] for x in found], [min(x["error"], MOST) for x in found]
                style = {"color": color, "marker": marker, "markersize": 3.5, "linewidth": 1}
                handles += panel.plot(kappas, errors, label=method, **style)
            found = [x for x in table if (x["format"], x["p"], x["method"]) == (format, p, "eigen")]
            kappas, line = [x["condition"] for x in found], [x["attainable"] for x in found]
            handles += panel.plot(kappas, line, color="k", linewidth=1.2, label="attainable: $\\kappa u / p$")
            panel.axhline(0.5, color="k", linewidth=0.6, linestyle=":")
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_ylim(LEAST, 2 * MOST)
            panel.set_title(f"{format}, p = {p}", fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("condition number $\\kappa$")
    for row in panels:
        row[0].set_ylabel("error of the root, 2-norm")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def frontier_table(rows: list[Row]) -> list[dict]:
    """The frontier by p, method and format: the median over seeds, and the extremes."""
    table = []
    axes = ("p", "method", "format")
    found = cells([row for row in usual(rows) if row["condition"] is FRONTIER], *axes)
    for place in filter(found.__contains__, product(POWERS, METHODS, FORMATS)):
        edges = [row["frontier"] for row in found[place]]
        figures = {"frontier": typical(found[place], "frontier"), "least": min(edges), "most": max(edges)}
        table.append(dict(zip(axes, place, strict=True), **figures))
    return table


def draw_frontier(figure: Any, table: list[dict]) -> None:
    """A map for each p: methods by formats, with the condition numbers written in it."""
    figure.set_size_inches(11, 4.6)
    panels = figure.subplots(1, len(POWERS), sharey=True)
    image = None
    for panel, p in zip(panels, POWERS, strict=True):
        values = {(x["method"], x["format"]): x["frontier"] for x in table if x["p"] == p}
        grid = [[math.log10(values.get((method, format), math.nan)) for format in FORMATS] for method in METHODS]
        image = panel.imshow(grid, cmap="YlGnBu", vmin=0, vmax=10, aspect="auto")
        for i, line in enumerate(grid):
            for j, level in enumerate(line):
                text = "none" if level == 0 else "" if math.isnan(level) else f"{10**level:.1e}"
                panel.text(j, i, text, ha="center", va="center", fontsize=9, color="w" if level > 5 else "k")
        panel.set_xticks(range(len(FORMATS)), FORMATS)
        panel.set_yticks(range(len(METHODS)), METHODS)
        panel.tick_params(length=0)
        panel.grid(visible=False)
        panel.set_title(f"p = {p}", fontsize=10)
    figure.colorbar(image, ax=panels, label="$\\log_{10}$ of the condition number", shrink=0.9)


def reported_table(rows: list[Row]) -> list[dict]:
    """What bare coupled Newton reports, and its error."""
    table = []
    found = cells([row for row in usual(rows) if row["p"] == POWER], "method", "format", "condition")
    for format, condition in product(FORMATS, CONDITIONS):
        bare, guarded = (found[m, format, condition] for m in ("bare_coupled_newton", "coupled_newton"))
        figures = {name: typical(bare, name) for name in ("reported", "error", "error_update")}
        certificate = typical(guarded, "residual")
        table.append({"p": POWER, "format": format, "condition": condition, **figures, "certificate": certificate})
    return table


def draw_reported(figure: Any, table: list[dict]) -> None:
    """A panel for each format."""
    figure.set_size_inches(11, 3.6)
    panels = figure.subplots(1, len(FORMATS), sharex=True, sharey=True)
    lines = {
        "error": ("k", "-", "error of the root, 2-norm"),
        "error_update": ("#2563EB", "--", "error of the update"),
        "certificate": ("#15803D", "-", "certificate"),
        "reported": ("#C2410C", ":", "reported: max|M - I|"),
    }
    handles = []
    for panel, format in zip(panels, FORMATS, strict=True):
        found = [x for x in table if x["format"] == format]
        handles = [
            panel.plot([x["condition"] for x in found], [x[name] for x in found], line, color=color, label=label)[0]
            for name, (color, line, label) in lines.items()
        ]
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_ylim(LEAST, 2 * MOST)
        panel.set_title(format, fontsize=10)
        panel.set_xlabel("condition number")
    panels[0].set_ylabel("p = 4")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


FIGURES = (
    Figure(
        "errors",
        "The error of the root against the condition number",
        "Median relative errors in the 2-norm, eigenvalues in geometric progression. The black line is what one "
        "rounding of the matrix can do at worst, the dotted one the mark of a breakdown. Errors that are infinite are "
        "drawn at the top. Methods that are not drawn in a format are left to the full form of the study.",
        errors_table,
        draw_errors,
    ),
    Figure(
        "frontier",
        "How far each method goes in each format",
        "The largest condition number at which the error is below one half and the method does not report a failure: "
        "medians over the seeds, found by bisection. Cells without a number are left to the full form of the study.",
        frontier_table,
        draw_frontier,
    ),
    Figure(
        "reported",
        "What the iteration reports, and what is so",
        "Coupled Newton, p = 4: what it reports has no relation to its error. The certificate has, where there is one: "
        "none is drawn where the stored matrix has no Cholesky factor.",
        reported_table,
        draw_reported,
    ),
)
