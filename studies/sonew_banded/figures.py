"""The pictures of the study, each drawn from its own table."""

import math
from collections.abc import Callable
from statistics import median
from typing import Any

from precond_lab.study import Figure, Row

from .cases import BANDS, NONE, TOLERANCES, Part
from .judges import median_cosine, of, or_zero, real, sound

LABELS = {
    NONE: "no stabilization",
    "printed": "one pass, as printed",
    "one_pass": "one pass, one-sided",
    "masked": "entries struck out, not solved again",
    "iterated_literal": "as printed, iterated",
    "iterated": "one-sided, iterated",
    "pivots_literal": "one pass, pivots judged",
    "pivots": "one pass, pivots judged, one-sided",
}
STORAGES = ("bfloat16", "float16", "float32")


def bands_table(rows: list[Row]) -> list[dict]:
    """Cosines by storage, tolerance and band, over layers and steps."""
    table = []
    for storage in STORAGES:
        for tolerance in TOLERANCES:
            for band in BANDS:
                found = (
                    real(rows, "pivots", tolerance, storage, band=band)
                    if band
                    else real(rows, NONE, NONE, storage, band=0)
                )
                reduced = [or_zero(row["cosine_to_reduced"]) for row in found]
                table.append({
                    "storage": storage,
                    "tolerance": tolerance,
                    "band": band,
                    "cosine_to_reduced_median": median(reduced),
                    "cosine_to_reduced_least": min(reduced),
                    "cosine_to_reduced_largest": max(reduced),
                    "cosine_to_widest_median": median_cosine(found, "cosine_to_widest"),
                })
    return table


def draw_bands(figure: Any, table: list[dict]) -> None:
    """Cosines against the band: on the same edges by tolerance, and to the widest band by storage."""
    figure.set_size_inches(9, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    places = list(range(len(BANDS)))
    for number, tolerance in enumerate(TOLERANCES):
        found = [row for row in table if row["storage"] == "bfloat16" and row["tolerance"] == tolerance]
        line = left.plot(
            places, [r["cosine_to_reduced_median"] for r in found], marker="osD"[number], label=f"tolerance {tolerance}"
        )[0]
        low, high = ([r[f"cosine_to_reduced_{end}"] for r in found] for end in ("least", "largest"))
        left.fill_between(places, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    for number, storage in enumerate(STORAGES):
        found = [row for row in table if row["storage"] == storage and row["tolerance"] == "2u"]
        right.plot(places, [r["cosine_to_widest_median"] for r in found], marker="osD"[number], label=storage)
    left.set_title("bfloat16: to the exact direction on the same edges", fontsize=10)
    right.set_title(f"at 2u: to the exact direction of band {BANDS[-1]}", fontsize=10)
    left.set_ylabel("cosine")
    left.set_ylim(-0.05, 1.05)
    for panel in (left, right):
        panel.set_xticks(places, [str(band) for band in BANDS])
        panel.set_xlabel("band b")
        panel.legend(frameon=False, fontsize=9)


def methods_table(rows: list[Row]) -> list[dict]:
    """The share of bfloat16 cases whose direction is not sound, by method, band and tolerance."""
    table, everything = [], of(rows, Part.GRADIENTS, storage="bfloat16", arithmetic="bfloat16")
    for method, label in LABELS.items():
        for tolerance in TOLERANCES:
            for band in BANDS[1:]:
                axes = {"band": band, "method": method, "tolerance": NONE if method == NONE else tolerance}
                found = [row for row in everything if all(row[k] == v for k, v in axes.items())]
                if not found:  # the quick study has not all of them on the widest band
                    continue
                table.append({
                    "method": label,
                    "tolerance": tolerance,
                    "band": band,
                    "unsound_share": sum(not sound(row) for row in found) / len(found),
                    "failed_again_share": sum(row["unstable_stretches"] > 0 for row in found) / len(found),
                    "most_passes": max(row["passes"] for row in found),
                })
    return table


def draw_methods(figure: Any, table: list[dict]) -> None:
    """A heat map of methods and bands for each tolerance."""
    methods = list(dict.fromkeys(row["method"] for row in table))
    figure.set_size_inches(9.6, 1.1 + 0.36 * len(methods))
    panels = figure.subplots(1, len(TOLERANCES), sharey=True)
    for panel, tolerance in zip(panels, TOLERANCES, strict=True):
        found = {(r["method"], r["band"]): r["unsound_share"] for r in table if r["tolerance"] == tolerance}
        _heat_map(panel, [[found.get((method, band), math.nan) for band in BANDS[1:]] for method in methods], 1.0)
        panel.set_xticks(range(len(BANDS) - 1), [str(band) for band in BANDS[1:]])
        panel.set_yticks(range(len(methods)), methods)
        panel.set_xlabel("band b")
        panel.set_title(f"tolerance {tolerance}", fontsize=10)


def edges_table(rows: list[Row]) -> list[dict]:
    """The median share of edges dropped from bfloat16 statistics, by tolerance, band and step."""
    table = []
    for tolerance in TOLERANCES:
        for band in BANDS[1:]:
            found = real(rows, "pivots", tolerance, band=band)
            for t in sorted({row["t"] for row in found}):
                shares = [row["dropped_share"] for row in found if row["t"] == t]
                table.append({
                    "tolerance": tolerance,
                    "band": band,
                    "t": t,
                    "dropped_share_median": median(shares),
                    "dropped_share_least": min(shares),
                    "dropped_share_largest": max(shares),
                })
    return table


def draw_edges(figure: Any, table: list[dict]) -> None:
    """A heat map of bands and steps for each tolerance."""
    figure.set_size_inches(9.6, 2.8)
    panels = figure.subplots(1, len(TOLERANCES), sharey=True)
    steps = sorted({row["t"] for row in table})
    for panel, tolerance in zip(panels, TOLERANCES, strict=True):
        found = {(r["band"], r["t"]): r["dropped_share_median"] for r in table if r["tolerance"] == tolerance}
        _heat_map(panel, [[found[band, t] for t in steps] for band in BANDS[1:]], 1.0)
        panel.set_xticks(range(len(steps)), [str(t) for t in steps])
        panel.set_yticks(range(len(BANDS) - 1), [f"b = {band}" for band in BANDS[1:]])
        panel.set_xlabel("step t")
        panel.set_title(f"tolerance {tolerance}", fontsize=10)


def _heat_map(panel: Any, grid: list[list[float]], largest: float) -> None:
    panel.imshow(grid, cmap="cividis", vmin=0, vmax=largest, aspect="auto")
    for i, line in enumerate(grid):
        for j, value in enumerate(line):
            text = "" if math.isnan(value) else "0" if value == 0 else f"{value:.0%}"
            panel.text(j, i, text, ha="center", va="center", fontsize=8.5, color="w" if value < 0.6 * largest else "k")
    panel.grid(visible=False)


def drawn_table(rows: list[Row]) -> list[dict]:
    """The share of drawn chains that fail again after one pass, of those that fail."""
    table = []
    for row in sorted(of(rows, Part.PASSES), key=lambda r: (r["format"], r["form"], r["rule"], r["inputs"], r["band"])):
        names = ("format", "form", "rule", "inputs", "tolerance", "band", "used", "triggered", "failed_again")
        share = row["failed_again"] / row["triggered"] if row["triggered"] else 0.0
        table.append({**{name: row[name] for name in names}, "share": share, "most_passes": row["most_passes"]})
    return table


def draw_drawn(figure: Any, table: list[dict]) -> None:
    """Shares against the band, as printed, for each kind of input, at tolerance 0 in bfloat16."""
    figure.set_size_inches(9, 3.9)
    titles = {"definite": "definite windows", "stored": "rounded windows", "degenerate": "at most b gradients"}
    panels = figure.subplots(1, len(titles), sharey=True)
    styles = {
        ("coefficients", "literal"): ("as printed", "o"),
        ("coefficients", "one_sided"): ("one-sided", "s"),
        ("pivots", "literal"): ("pivots judged", "D"),
    }
    handles = []
    for panel, (inputs, title) in zip(panels, titles.items(), strict=True):
        handles = []
        for (form, rule), (label, marker) in styles.items():
            axes = {"form": form, "rule": rule, "inputs": inputs, "format": "bfloat16", "tolerance": "0"}
            found = [row for row in table if all(row[k] == v for k, v in axes.items())]
            x = range(len(found))
            handles += panel.plot(x, [100 * row["share"] for row in found], marker=marker, label=label)
            panel.set_xticks(list(x), [str(row["band"]) for row in found])
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("band b")
        panel.set_yscale("symlog", linthresh=0.01)
        panel.set_ylim(-0.002, 100)
    panels[0].set_ylabel("fail again after one pass (%)")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _figure(name: str, title: str, caption: str, table: Callable, draw: Callable) -> Figure:
    return Figure(name, title, caption, table, draw)


FIGURES = (
    _figure(
        "methods",
        "What becomes of a direction",
        "Share of layers and steps in which a direction from bfloat16 statistics is not finite, not a descent "
        "direction, or comes of a D that is not finite and positive. One pass is the fixed point on a chain (b = 1); "
        "as printed it is not on wider bands, where rounding makes windows indefinite. Iterated it is always sound, "
        "and so is a single pass that lets windows without positive pivots fail as well.",
        methods_table,
        draw_methods,
    ),
    _figure(
        "bands",
        "Whether a wider band survives",
        "Median over layers and steps. Left: what rounding leaves of the direction on the edges that were kept (area: "
        "least to largest). Right: how near each band comes to what the widest one would do with unrounded statistics "
        "and all its edges, in each storage format. A direction without a cosine counts as 0.",
        bands_table,
        draw_bands,
    ),
    _figure(
        "edges",
        "The price: edges dropped",
        "Median share over the layers of the edges that one pass with judged pivots drops from bfloat16 statistics. A "
        "band b has b edges a vertex, and every failed vertex takes up to b (b + 1) / 2 of them with it.",
        edges_table,
        draw_edges,
    ),
    _figure(
        "drawn",
        "How often one pass does not suffice",
        "Short drawn chains next to singularity, in bfloat16 at tolerance 0: of those in which a vertex fails, the "
        "share in which one fails again after one pass.",
        drawn_table,
        draw_drawn,
    ),
)
