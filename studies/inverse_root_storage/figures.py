"""The pictures of the study, each drawn from its own table."""

from functools import partial
from statistics import mean
from typing import Any

from precond_lab.study import Figure, Row

from .cases import CONDITIONS, FORMATS, FORMS, STREAM_CONDITIONS, STREAMED
from .claims import cells, of, once, streamed, typical

POWER = 4
STYLES = {
    "matrix": ("#7B8794", "o"),
    "diagonal apart": ("#111827", "s"),
    "eigenvectors": ("#93C5FD", "v"),
    "eigenvectors, 1 step": ("#3B82F6", "D"),
    "eigenvectors, 4 steps": ("#1E3A8A", "^"),
    "Cholesky": ("#C2410C", "P"),
    "Cholesky, feedback": ("#FDBA74", "X"),
}
LABELS = {"error": "error of the root, Frobenius norm", "update": "error of the update"}


def curves_table(subject: str, measure: str, rows: list[Row]) -> list[dict]:
    """Errors against the condition number."""
    table = []
    found = dict(cells(of(once(rows, subject), p=POWER), "format", "form", "condition"))
    for format in FORMATS:
        for form in FORMS:
            for condition in CONDITIONS:
                cell = found[format, form, condition]
                table.append({
                    "measure": measure,
                    "format": format,
                    "form": form,
                    "condition": condition,
                    "value": typical(cell, f"repaired_{measure}"),
                    "indefinite": mean(row["indefinite"] for row in cell),
                })
    return table


def draw_curves(figure: Any, table: list[dict]) -> None:
    """A panel for each format."""
    figure.set_size_inches(11, 5.6)
    panels = figure.subplots(2, len(FORMATS) // 2, sharex=True, sharey=True)
    handles = []
    for panel, format in zip(panels.flat, FORMATS, strict=True):
        handles = []
        for form in FORMS:
            color, marker = STYLES[form]
            found = [x for x in table if (x["format"], x["form"]) == (format, form)]
            place, value = [x["condition"] for x in found], [x["value"] for x in found]
            handles += panel.plot(place, value, color=color, marker=marker, markersize=4, linewidth=1.2, label=form)
            lost = [k for k, x in enumerate(found) if x["indefinite"] >= 0.5]
            hollow = {"markerfacecolor": "white", "markeredgecolor": color, "markersize": 5, "linestyle": "none"}
            panel.plot([place[k] for k in lost], [value[k] for k in lost], marker=marker, **hollow)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_ylim(1e-6, 10)
        panel.set_title(format, fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("condition number")
    for row in panels:
        row[0].set_ylabel(LABELS[table[0]["measure"]])
    figure.legend(handles=handles, loc="outside lower center", ncols=len(FORMS), frameon=False, fontsize=9)


def stream_table(rows: list[Row]) -> list[dict]:
    """Errors after many steps, by both measures."""
    table = []
    found = dict(cells(of(streamed(rows), p=POWER), "format", "form", "condition"))
    for measure in LABELS:
        for condition in STREAM_CONDITIONS:
            for format in FORMATS:
                for form in STREAMED:
                    cell = found[format, form, condition]
                    table.append({
                        "measure": measure,
                        "condition": condition,
                        "format": format,
                        "form": form,
                        "value": typical(cell, f"repaired_{measure}"),
                        "indefinite": mean(row["indefinite"] for row in cell),
                    })
    return table


def draw_stream(figure: Any, table: list[dict]) -> None:
    """A panel for each condition number and measure; a line of marks for each format."""
    figure.set_size_inches(10.5, 6.4)
    panels = figure.subplots(len(LABELS), len(STREAM_CONDITIONS), sharex=True, sharey=True)
    handles = []
    for row, (measure, label) in zip(panels, LABELS.items(), strict=True):
        for panel, condition in zip(row, STREAM_CONDITIONS, strict=True):
            handles = []
            for form in STREAMED:
                color, marker = STYLES[form]
                found = [x for x in table if (x["measure"], x["condition"], x["form"]) == (measure, condition, form)]
                for x in found:
                    face = "white" if x["indefinite"] >= 0.5 else color
                    place = FORMATS.index(x["format"])
                    panel.plot(x["value"], place, marker, color=color, markerfacecolor=face, markersize=6)
                handles += panel.plot([], [], marker, color=color, label=form)
            panel.set_xscale("log")
            panel.grid(axis="y", linewidth=0.4)
            panel.set_title(f"$\\kappa$ = {condition:.0e}", fontsize=10)
            panel.set_xlabel(label)
        row[0].set_yticks(range(len(FORMATS)), FORMATS)
        row[0].invert_yaxis()
    panels[0][0].set_ylim(len(FORMATS) - 0.5, -0.5)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(STREAMED), frameon=False, fontsize=8)


HOLLOW = (
    "Hollow marks: at least half of the matrices came back indefinite, and have a root only after their eigenvalues "
    "were raised to the true smallest one, the kindest repair."
)


def _curves(subject: str, measure: str, title: str, caption: str) -> Figure:
    table = partial(curves_table, subject, measure)
    return Figure(f"{subject}_{measure}", title, caption, table, draw_curves)


FIGURES = (
    _curves(
        "statistics",
        "error",
        "Statistics stored once: the root",
        f"Relative error of the inverse fourth root in the Frobenius norm, without a ridge. {HOLLOW}",
    ),
    _curves(
        "statistics",
        "update",
        "Statistics stored once: the update",
        f"The same as an optimizer feels it: |(X - F) A^(1/2)| / |F A^(1/2)|. {HOLLOW}",
    ),
    _curves(
        "root",
        "error",
        "Roots stored: the root",
        "Relative error in the Frobenius norm of an exact inverse fourth root after storage. Hollow marks: the root "
        "came back indefinite.",
    ),
    _curves(
        "root",
        "update",
        "Roots stored: the update",
        "The same as an optimizer feels it. It grows with the condition number, though the norm does not: what is "
        "rounded are the largest entries of the root, which belong to directions with little gradient.",
    ),
    Figure(
        "stream",
        "Statistics stored in every step",
        "A moving average with a decay of 0.95 whose state is read and stored again in every step; errors of its "
        f"inverse fourth root with a ridge of 1e-6 after the last step. {HOLLOW}",
        stream_table,
        draw_stream,
    ),
)
