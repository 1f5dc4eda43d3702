"""The pictures of the study, each drawn from its own table."""

from typing import Any

from precond_lab.study import Figure, Row

from .cases import CONDITIONS, FORMATS, RIDGES
from .claims import ROUNDOFF, of, typical

SHOWN = (1e4, 1e6, 1e8, 1e10)
POWER = 4
LEAST = RIDGES[1]


def parts_table(rows: list[Row]) -> list[dict]:
    """Bias, rounding and whole error by ridge."""
    table = []
    for format in FORMATS:
        for condition in SHOWN:
            for ridge in RIDGES:
                found = of(rows, format=format, p=POWER, spectrum="geometric", condition=condition, ridge=ridge)
                names = ("bias", "rounding", "error")
                figures = {name: typical(found, name) for name in names}
                table.append({"format": format, "condition": condition, "ridge": ridge, **figures})
    return table


def draw_parts(figure: Any, table: list[dict]) -> None:
    """A panel for each format and condition number."""
    figure.set_size_inches(10, 5.2)
    panels = figure.subplots(len(FORMATS), len(SHOWN), sharex=True, sharey=True)
    lines = {
        "bias": ("#7B8794", "--", "bias of the ridge"),
        "rounding": ("#C2410C", ":", "rounding"),
        "error": ("k", "-", "whole error"),
    }
    handles = []
    for row, format in zip(panels, FORMATS, strict=True):
        for panel, condition in zip(row, SHOWN, strict=True):
            found = [x for x in table if (x["format"], x["condition"]) == (format, condition) and x["ridge"] > 0]
            handles = [
                panel.plot([x["ridge"] for x in found], [x[name] for x in found], line, color=color, label=label)[0]
                for name, (color, line, label) in lines.items()
            ]
            panel.axvline((ROUNDOFF[format] / condition) ** 0.5, color="#2563EB", linewidth=0.8)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_ylim(1e-8, 3)
            panel.set_title(f"{format}, $\\kappa$ = {condition:.0e}", fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("ridge / largest eigenvalue")
    for row in panels:
        row[0].set_ylabel("error of the root")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def measures_table(rows: list[Row]) -> list[dict]:
    """The whole error with the customary ridge and without, as a norm and as the update feels it."""
    table = []
    for format in FORMATS:
        for condition in CONDITIONS:
            for ridge in (0.0, 1e-6):
                found = of(rows, format=format, p=POWER, spectrum="geometric", condition=condition, ridge=ridge)
                table.append({
                    "format": format,
                    "condition": condition,
                    "ridge": ridge,
                    "error": typical(found, "error"),
                    "error_update": typical(found, "error_update"),
                })
    return table


def draw_measures(figure: Any, table: list[dict]) -> None:
    """Errors against the condition number, with the attainable line."""
    figure.set_size_inches(9, 4.4)
    panels = figure.subplots(1, len(FORMATS), sharey=True)
    styles = {0.0: ("o", "without ridge"), 1e-6: ("s", "ridge 1e-6")}
    for panel, format in zip(panels, FORMATS, strict=True):
        for ridge, (marker, label) in styles.items():
            found = [x for x in table if (x["format"], x["ridge"]) == (format, ridge)]
            x = [row["condition"] for row in found]
            line = panel.plot(x, [row["error"] for row in found], marker=marker, label=f"{label}, root")[0]
            updates = [row["error_update"] for row in found]
            panel.plot(x, updates, "--", marker=marker, color=line.get_color(), label=f"{label}, update")
        attainable = [kappa * ROUNDOFF[format] / POWER for kappa in CONDITIONS]
        panel.plot(CONDITIONS, attainable, color="k", linewidth=1, label="$\\kappa u / p$")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_ylim(1e-8, 3)
        panel.set_title(format, fontsize=10)
        panel.set_xlabel("condition number")
    panels[0].set_ylabel("relative error")
    panels[0].legend(loc="upper left", fontsize=8)


FIGURES = (
    Figure(
        "parts",
        "What a ridge costs and what it saves",
        "Relative errors in the Frobenius norm, p = 4, geometric spectrum. Left of the crossing rounding dominates, "
        "right of it the bias. The blue line is sqrt(u / kappa).",
        parts_table,
        draw_parts,
    ),
    Figure(
        "measures",
        "What the root loses, and what the update feels",
        "The same errors against the condition number, with the customary ridge and without one. The black line is "
        "what rounding the matrix once can cause in the 2-norm.",
        measures_table,
        draw_measures,
    ),
)
