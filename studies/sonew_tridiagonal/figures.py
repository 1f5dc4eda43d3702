"""The pictures of the study, each drawn from its own table."""

import math
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from precond_lab.study import Figure, Row

from .cases import PIPELINES, STABILIZATIONS, Part
from .claims import of, or_zero, pipeline

NAMES = {
    ("bfloat16", "bfloat16"): "bfloat16",
    ("float16", "float16"): "float16",
    ("float32", "float32"): "float32",
    ("float8_e4m3fn", "float8_e4m3fn"): "float8_e4m3fn",
    ("bfloat16", "float32"): "bfloat16 stored, float32 arithmetic",
}
VERDICTS = {"accurate": "#009E73", "conditioning": "#56B4E9", "unstable": "#E69F00", "breakdown": "#D55E00"}


def _axis(rows: Iterable[Row], name: str) -> list[Any]:
    return sorted({row[name] for row in rows})


def directions_table(rows: list[Row]) -> list[dict]:
    """Median, least and largest cosines by pipeline and stabilization; a direction that is not finite counts as 0."""
    table = []
    for storage, arithmetic in PIPELINES:
        for stabilization in STABILIZATIONS:
            found = pipeline(rows, storage, arithmetic, stabilization)
            if not found:
                continue
            record: dict[str, Any] = {"pipeline": NAMES[storage, arithmetic], "stabilization": stabilization}
            for name in ("cosine_to_reduced", "cosine_to_full"):
                values = [or_zero(row[name]) for row in found]
                record |= {
                    f"{name}_median": median(values),
                    f"{name}_least": min(values),
                    f"{name}_largest": max(values),
                }
            table.append(record)
    return table


def draw_directions(figure: Any, table: list[dict]) -> None:
    """Two panels of cosines against stabilization."""
    figure.set_size_inches(9, 4.4)
    panels = figure.subplots(1, 2, sharey=True)
    titles = {
        "cosine_to_reduced": "to the exact direction on the same edges",
        "cosine_to_full": "to the exact full direction",
    }
    handles = []
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        handles = []
        for number, label in enumerate(dict.fromkeys(row["pipeline"] for row in table)):
            found = [row for row in table if row["pipeline"] == label]
            x = [STABILIZATIONS.index(row["stabilization"]) for row in found]
            line = panel.plot(
                x, [row[f"{name}_median"] for row in found], marker="osD^v"[number], markersize=5, label=label, zorder=3
            )[0]
            handles.append(line)
            if label == "bfloat16":
                low, high = ([row[f"{name}_{end}"] for row in found] for end in ("least", "largest"))
                panel.fill_between(x, low, high, color=line.get_color(), alpha=0.13, linewidth=0)
        panel.set_xticks(range(len(STABILIZATIONS)), STABILIZATIONS)
        panel.set_xlabel("tolerance of Algorithm 3 (u of the storage format)")
        panel.set_title(f"cosine {title}", fontsize=10)
        panel.set_ylim(-0.05, 1.05)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def breakdown_table(rows: list[Row]) -> list[dict]:
    """What unstabilized bfloat16 gives, by layer and step."""
    return [
        {
            "layer": row["layer"],
            "t": row["t"],
            "nonfinite_fraction": row["nonfinite_directions"] / (row["edges"] + 1),
            "negative_D_fraction": row["negative_D"] / (row["edges"] + 1),
            "infinite_D_fraction": row["nonfinite_D"] / (row["edges"] + 1),
        }
        for row in sorted(pipeline(rows, "bfloat16", "bfloat16", "none"), key=lambda r: (r["layer"], r["t"]))
    ]


def draw_breakdown(figure: Any, table: list[dict]) -> None:
    """A heat map of layers and steps for each way to fail."""
    figure.set_size_inches(9, 0.9 + 0.36 * len({row["layer"] for row in table}))
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"nonfinite_fraction": "entries of u that are not finite", "negative_D_fraction": "negative entries of D"}
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        _heat_map(figure, panel, table, name)
        panel.set_title(title, fontsize=10)


def _heat_map(figure: Any, panel: Any, table: list[dict], name: str) -> None:
    layers, steps = _axis(table, "layer"), _axis(table, "t")
    values = {(row["layer"], row["t"]): row[name] for row in table}
    grid = [[values.get((layer, t), math.nan) for t in steps] for layer in layers]
    largest = max((v for v in values.values() if not math.isnan(v)), default=1.0) or 1.0
    panel.imshow(grid, cmap="cividis", vmin=0, vmax=largest, aspect="auto")
    for i, line in enumerate(grid):
        for j, value in enumerate(line):
            text = "0" if value == 0 else f"{value:.1%}"
            panel.text(j, i, text, ha="center", va="center", fontsize=7.5, color="w" if value < 0.6 * largest else "k")
    panel.set_xticks(range(len(steps)), [str(t) for t in steps])
    panel.set_yticks(range(len(layers)), layers)
    panel.set_xlabel("step t")
    panel.grid(visible=False)


def verdict_table(rows: list[Row]) -> list[dict]:
    """The share of every verdict, by pipeline and stabilization."""
    table = []
    for storage, arithmetic in PIPELINES:
        for stabilization in STABILIZATIONS:
            found = pipeline(rows, storage, arithmetic, stabilization)
            if found:
                shares = {v: sum(row["verdict"] == v for row in found) / len(found) for v in VERDICTS}
                table.append({"pipeline": NAMES[storage, arithmetic], "stabilization": stabilization, **shares})
    return table


def draw_verdicts(figure: Any, table: list[dict]) -> None:
    """Stacked bars, a panel for each pipeline."""
    labels = list(dict.fromkeys(row["pipeline"] for row in table))
    figure.set_size_inches(9, 4.6)
    panels = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    for panel, label in zip(panels, labels, strict=False):
        found = [row for row in table if row["pipeline"] == label]
        x, bottom = range(len(found)), [0.0] * len(found)
        for verdict, color in VERDICTS.items():
            heights = [row[verdict] for row in found]
            panel.bar(x, heights, bottom=bottom, color=color, label=verdict, width=0.82)
            bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
        panel.set_xticks(list(x), [row["stabilization"] for row in found], fontsize=8)
        panel.set_title(label, fontsize=9.5)
        panel.grid(visible=False)
    for panel in panels[len(labels) :]:
        panel.axis("off")
    handles, names = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, names, loc="center", frameon=False, fontsize=10)
    figure.supylabel("share of layers and steps", fontsize=9.5)


def track_table(rows: list[Row]) -> list[dict]:
    """The track of the bfloat16 statistics of every layer."""
    names = ("layer", "t", "loss", "smallest_pivot", "dropped_fraction", "condition_before", "condition_after")
    found = sorted(of(rows, Part.TRACK), key=lambda row: (row["layer"], row["t"]))
    return [{name: row[name] for name in names} for row in found]


def draw_track(figure: Any, table: list[dict]) -> None:
    """Pivots, edges and conditions along training, a line for each layer."""
    figure.set_size_inches(9, 4.2)
    panels = figure.subplots(1, 3)
    names = {
        "smallest_pivot": "smallest pivot $1-\\beta^2$",
        "dropped_fraction": "edges dropped at 2u",
        "condition_after": "condition on the kept edges",
    }
    for panel, (name, title) in zip(panels, names.items(), strict=True):
        for layer in _axis(table, "layer"):
            found = [row for row in table if row["layer"] == layer]
            panel.plot([row["t"] for row in found], [row[name] for row in found], linewidth=1.1, label=layer)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step t")
    panels[0].axhline(0, color="k", linewidth=0.8)
    panels[2].set_yscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)


def edges_table(rows: list[Row]) -> list[dict]:
    """Edges dropped from bfloat16 statistics, by layer, step and tolerance."""
    found = [row for tolerance in ("0", "2u", "8u") for row in pipeline(rows, "bfloat16", "bfloat16", tolerance)]
    names = ("layer", "t", "stabilization", "dropped_fraction", "cosine_to_reduced", "cosine_to_full")
    return [
        {name: row[name] for name in names}
        for row in sorted(found, key=lambda r: (r["stabilization"], r["layer"], r["t"]))
    ]


def draw_edges(figure: Any, table: list[dict]) -> None:
    """A heat map of layers and steps for each tolerance."""
    figure.set_size_inches(9.6, 0.9 + 0.36 * len({row["layer"] for row in table}))
    tolerances = ("0", "2u", "8u")
    panels = figure.subplots(1, len(tolerances), sharey=True)
    for panel, tolerance in zip(panels, tolerances, strict=True):
        _heat_map(figure, panel, [row for row in table if row["stabilization"] == tolerance], "dropped_fraction")
        panel.set_title(f"edges dropped, tolerance {tolerance}", fontsize=10)


def significands_table(rows: list[Row]) -> list[dict]:
    """The exhaustive counts."""
    return [
        {key: value for key, value in row.items() if key != "part"}
        for row in sorted(of(rows, Part.SIGNIFICANDS), key=lambda row: row["format"])
    ]


def draw_significands(figure: Any, table: list[dict]) -> None:
    """Worst error and worst breakdown against their bounds."""
    figure.set_size_inches(9, 2.5)
    panels = figure.subplots(1, 2, sharey=True)
    bars = {
        "largest_error_over_bound": ("largest error of s, in units of its bound", 1.0),
        "largest_pivot_of_breakdown_in_u": ("largest $1-\\beta^2$ of a breakdown, in u", 2.0),
    }
    for panel, (name, (title, bound)) in zip(panels, bars.items(), strict=True):
        values = [row[name] for row in table]
        panel.barh([row["format"] for row in table], values, height=0.55)
        for i, value in enumerate(values):
            panel.text(value - 0.02 * bound, i, f"{value:.3f}", ha="right", va="center", color="w", fontsize=9)
        panel.axvline(bound, color="#D55E00", linewidth=2)
        panel.set_xlim(0, 1.08 * bound)
        panel.set_title(title, fontsize=10)
        panel.grid(visible=False)


def _figure(name: str, title: str, caption: str, table: Callable, draw: Callable) -> Figure:
    return Figure(name, title, caption, table, draw)


FIGURES = (
    _figure(
        "directions",
        "What stabilization buys",
        "Cosine of the computed direction to the exact one, median over layers and steps (band: least to largest for "
        "bfloat16). Left: against the exact solution on the edges that were kept, which is the best that could be done "
        "with them. Right: against the exact solution with all edges and unrounded statistics, which is what was "
        "wanted. "
        "A direction that is not finite counts as 0; so float16 and float8_e4m3fn lie together at 0, because "
        "products of "
        "unscaled gradients leave their range (claim C8 counts them). Where a kept edge has no projection, the exact "
        "direction is that of the indefinite X which the closed form gives, and its cosine counts as 0 if a pivot is "
        "exactly zero.",
        directions_table,
        draw_directions,
    ),
    _figure(
        "breakdown",
        "Where bfloat16 breaks down without stabilization",
        "Share of the entries of a layer, by layer (inputs x outputs) and training step, for statistics accumulated "
        "and "
        "projected in bfloat16.",
        breakdown_table,
        draw_breakdown,
    ),
    _figure(
        "verdicts",
        "Verdicts",
        "The error of the direction judged against the unit roundoff of the arithmetic and the condition number of the "
        "direction for relative changes of every stored entry, as shares of all layers and steps. Conditioning: "
        "rounding "
        "the stored statistics once more in that format could cost as much.",
        verdict_table,
        draw_verdicts,
    ),
    _figure(
        "edges",
        "The price: edges dropped",
        "Share of the edges of the chain that Algorithm 3 drops from bfloat16 statistics, by layer, step and "
        "tolerance.",
        edges_table,
        draw_edges,
    ),
    _figure(
        "track",
        "The statistics along training",
        "At every step, for statistics carried in bfloat16: the smallest pivot (negative: no projection exists), "
        "the share of "
        "edges dropped at a tolerance of 2u, and the condition number of what is left.",
        track_table,
        draw_track,
    ),
    _figure(
        "significands",
        "The two thresholds, over enumerated significands",
        "Every near-singular pair of vertices (bfloat16; float16 in the full study) or a regular sample of them: "
        "the largest "
        "error of the computed Schur complement relative to kappa u, and the largest 1 - beta^2 at which it is "
        "computed as "
        "zero or negative. The lines are the bounds that claims C5 and C6 state.",
        significands_table,
        draw_significands,
    ),
)
