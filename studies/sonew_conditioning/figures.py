"""The pictures of the study, each drawn from its own table."""

import math
from statistics import median
from typing import Any

from precond_lab.study import Figure, Row

from .cases import Part
from .claims import formats, of

MARKS = {"float8_e5m2": "v", "float8_e4m3fn": "^", "bfloat16": "o", "float16": "s", "float32": "D"}
KINDS = {
    "arithmetic": "stored exactly,\ncomputed s <= 0",
    "storage": "rounded for storage,\nno longer definite",
    "both": "rounded for storage,\ncomputed s <= 0",
}
BOUND, GREY = "k", "#7B8794"


def errors_table(rows: list[Row]) -> list[dict]:
    """The largest errors by format and octave of the pivot."""
    names = ("format", "octave", "triples", "largest_error_over_bound", "largest_error_over_exact_condition")
    return [{name: row[name] for name in names} for row in of(rows, Part.ERRORS)]


def draw_errors(figure: Any, table: list[dict]) -> None:
    """Errors over the paper's bound against the pivot, below the exact condition number."""
    figure.set_size_inches(8.6, 4.4)
    panel = figure.subplots()
    for format in formats(table):
        found = [row for row in table if row["format"] == format]
        x = [2.0 ** (0.5 - row["octave"]) for row in found]
        y = [row["largest_error_over_bound"] for row in found]
        panel.plot(x, y, marker=MARKS[format], markersize=5, label=format)
    # the largest value of (1 + beta^2) / 2 in an octave is at its lower end
    octaves = sorted({row["octave"] for row in table})
    edges = [2.0**-k for k in octaves for _ in range(2)]
    steps = [1.0, *edges[:-1]]
    panel.plot(steps, [1 - p / 2 for p in edges], color=BOUND, linewidth=1.4, label="exact condition number", zorder=1)
    panel.axhline(1, color=GREY, linewidth=1, linestyle="--")
    panel.text(1.1, 1.015, "the paper's bound", ha="left", fontsize=9, color=GREY)
    panel.set_xscale("log", base=2)
    panel.invert_xaxis()
    panel.set_ylim(0, 1.09)
    panel.set_xlabel("pivot $1-\\beta^2$ of the edge (octaves; nearly singular to the right)")
    panel.set_ylabel("largest error of s, over $2u/(1-\\beta^2)$")
    panel.legend(loc="lower left", ncols=2, fontsize=9)


def thresholds_table(rows: list[Row]) -> list[dict]:
    """The largest pivots of breakdowns, with their bounds, in units of u."""
    names = ("format", "stride", "triples", *(f"{kind}{end}" for kind in KINDS for end in ("", "_bound")))
    return [{name: row[name] for name in names} for row in of(rows, Part.THRESHOLDS)]


def draw_thresholds(figure: Any, table: list[dict]) -> None:
    """A group of bars for each way to break down, with the derived bound of each bar."""
    figure.set_size_inches(9, 4.2)
    panel, width = figure.subplots(), 0.16
    for number, row in enumerate(table):
        x = [group + (number - (len(table) - 1) / 2) * width for group in range(len(KINDS))]
        panel.bar(x, [row[kind] for kind in KINDS], width * 0.9, label=row["format"])
        for place, kind in zip(x, KINDS, strict=True):
            bound = row[f"{kind}_bound"]
            panel.plot([place - 0.45 * width, place + 0.45 * width], [bound, bound], color=BOUND, linewidth=2.2)
            panel.text(place, row[kind] - 0.06, f"{row[kind]:.2f}", ha="center", va="top", color="w", fontsize=7.5)
    panel.plot([], [], color=BOUND, linewidth=2.2, label="derived bound")
    for group, multiple in enumerate((2, 4, 6)):
        left, right = group - 0.46, group + 0.46
        panel.plot([left, right], [multiple, multiple], color=GREY, linewidth=1, linestyle="--", zorder=0)
        panel.text(left, multiple + 0.05, f"{multiple}u", fontsize=9, color=GREY)
    panel.set_xticks(range(len(KINDS)), list(KINDS.values()))
    panel.set_ylabel("largest $1-\\beta^2$ of a breakdown, in u")
    panel.set_ylim(0, 6.6)
    panel.grid(axis="x", visible=False)
    panel.legend(fontsize=9, loc="upper left")


def tolerances_table(rows: list[Row]) -> list[dict]:
    """What the edges kept at each tolerance are worth."""
    names = (
        "format",
        "tolerance",
        "kept",
        "kept_without_projection",
        "least_kept_pivot",
        "guaranteed_pivot",
        "least_kept_pivot_before_rounding",
        "guaranteed_pivot_before_rounding",
        "largest_error_of_kept",
    )
    return [{name: row[name] for name in names} for row in of(rows, Part.TOLERANCES)]


def draw_tolerances(figure: Any, table: list[dict]) -> None:
    """The smallest pivots of kept edges, and the largest errors of s, against the tolerance."""
    figure.set_size_inches(9, 4.2)
    left, right = figure.subplots(1, 2)
    labels = list(dict.fromkeys(row["tolerance"] for row in table))
    for number, format in enumerate(formats(table)):
        found = [row for row in table if row["format"] == format]
        x = range(len(found))
        stored, before = ([row[f"least_kept_pivot{end}"] for row in found] for end in ("", "_before_rounding"))
        style: dict[str, Any] = {"marker": MARKS[format], "color": f"C{number}"}
        left.plot(x, stored, label=f"{format}, as stored", **style)
        left.plot(x, before, "--", label=f"{format}, before rounding", **style)
        # where a kept edge has no projection its s has no correct digit, not even the sign
        sound = [i for i in x if not found[i]["kept_without_projection"]]
        right.plot(sound, [found[i]["largest_error_of_kept"] for i in sound], marker=MARKS[format], label=format)
    bounds = [row for row in table if row["format"] == "float16"]
    for name, line in (("guaranteed_pivot", "-"), ("guaranteed_pivot_before_rounding", "--")):
        left.plot(range(len(bounds)), [row[name] for row in bounds], line, color=BOUND, linewidth=1.2, label="_")
    left.axhline(0, color="k", linewidth=0.8)
    left.set_title("smallest $1-\\beta^2$ of a kept edge, in u", fontsize=10)
    left.plot([], [], color=BOUND, linewidth=1.2, label="derived bounds")
    left.legend(fontsize=8.5)
    right.axhline(0.1, color=GREY, linestyle="--", linewidth=1)
    right.set_yscale("log")
    right.set_title("largest relative error of s on a kept edge", fontsize=10)
    right.legend(fontsize=8.5)
    for panel in (left, right):
        panel.set_xticks(range(len(labels)), labels)
        panel.set_xlim(-0.3, len(labels) - 0.7)
        panel.set_xlabel("tolerance of Algorithm 3")


def bands_table(rows: list[Row]) -> list[dict]:
    """Condition numbers over the two bounds that one may think of, medians over seeds."""
    found, table = of(rows, Part.BANDS), []
    for band in sorted({row["band"] for row in found}):
        for correlation in sorted({row["correlation"] for row in found}):
            these = of(found, Part.BANDS, band=band, correlation=correlation)
            table.append({
                "band": band,
                "correlation": correlation,
                "smallest_pivot": median(row["smallest_pivot"] for row in these),
                "smallest_eigenvalue": median(row["smallest_eigenvalue"] for row in these),
                **{
                    f"{name}_times_pivot": median(row[name] * row["smallest_pivot"] / 2 for row in these)
                    for name in ("off_diagonal", "scaled", "schur")
                },
                "schur_over_window": median(row["schur"] * row["smallest_eigenvalue"] for row in these) / (band + 1),
                "scaled_over_window": median(row["scaled"] * row["smallest_eigenvalue"] for row in these)
                / ((band + 1) ** 2 + band**2),
            })
    return table


def draw_bands(figure: Any, table: list[dict]) -> None:
    """Condition numbers over the smallest pivot's bound, and over that of the windows."""
    figure.set_size_inches(9, 4.0)
    panels = figure.subplots(1, 2)
    titles = {
        "times_pivot": "condition number over 2 / (smallest $s_i/H_{ii}$)",
        "over_window": "condition number over the bound by windows",
    }
    lines = {"off_diagonal": ("entries of X", ":"), "scaled": ("X relative to its diagonal", "-"), "schur": ("s", "--")}
    bands = list(dict.fromkeys(row["band"] for row in table))
    places = list(dict.fromkeys(row["correlation"] for row in table))
    for panel, (end, title) in zip(panels, titles.items(), strict=True):
        for number, band in enumerate(bands):
            found = [row for row in table if row["band"] == band]
            for name, (label, line) in lines.items():
                if f"{name}_{end}" not in found[0]:
                    continue
                values = [row[f"{name}_{end}"] for row in found]
                style: dict[str, Any] = {"marker": "osD"[number], "color": f"C{number}"}
                panel.plot(range(len(found)), values, line, label=f"b = {band}: {label}", **style)
        panel.axhline(1, color=BOUND, linewidth=1.4)
        panel.set_yscale("log")
        panel.set_xticks(range(len(places)), [str(place) for place in places])
        panel.set_xlabel("correlation of neighboring gradients")
        panel.set_title(title, fontsize=10)
    lowest = min(row["scaled_over_window"] for row in table)
    panels[1].set_ylim(10 ** math.floor(math.log10(lowest)), 2)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)


FIGURES = (
    Figure(
        "errors",
        "Rounding errors use up the condition number",
        "The largest relative error of a computed Schur complement among pairs of vertices whose 1 - beta^2 lies in an "
        "octave, divided by u times the paper's bound 2 / (1 - beta^2) on the condition number. The black steps are "
        "the exact condition number (1 + beta^2) / (1 - beta^2) over that bound, at the far end of the octave: the "
        "errors are proved to lie below them, and from 8 bits on they come near.",
        errors_table,
        draw_errors,
    ),
    Figure(
        "thresholds",
        "Three thresholds of breakdown",
        "The largest 1 - beta^2, in units of the unit roundoff u, at which a positive definite pair of vertices breaks "
        "down: because s is computed as zero or negative from entries that are stored exactly; because rounding the "
        "entries leaves a pair that is not positive definite; because of both. For the last two, the largest 1 - "
        "beta^2 that any three real numbers can have which are stored as the given ones: a corner of their rounding "
        "cells. Black: the bound derived for the format; dashed: its limit for small u.",
        thresholds_table,
        draw_thresholds,
    ),
    Figure(
        "tolerances",
        "What a tolerance guarantees",
        "Over enumerated pairs of vertices beside singularity. Left: the smallest 1 - beta^2 that an edge kept by "
        "Algorithm 3 can have, as it is stored, and before it was rounded; below zero an edge without projection is "
        "kept. A tolerance of 2u excludes that for what is stored, 6u for what was rounded (thin: derived). Right: the "
        "largest relative error of s on a kept edge, for the tolerances that keep no edge without projection; dashed: "
        "ten percent.",
        tolerances_table,
        draw_tolerances,
    ),
    Figure(
        "bands",
        "On bands the smallest pivot does not bound the condition number",
        "Random statistics of 100 gradients whose neighboring entries are correlated. Left: condition numbers over the "
        "bound that holds on a chain (for perturbed off-diagonal entries: dotted); the entries of X themselves are "
        "arbitrarily ill conditioned where one happens to be near zero. Right: over the bound by the smallest "
        "eigenvalue of the windows' correlation matrices, which always holds.",
        bands_table,
        draw_bands,
    ),
)
