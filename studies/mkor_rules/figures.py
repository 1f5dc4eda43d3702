"""The pictures of the study, each drawn from its own table."""

import itertools
import math
from collections.abc import Callable
from statistics import fmean, median
from typing import Any

from precond_lab.study import Figure, Row

from .cases import CODED, GAMMAS, RULES, STORES, STREAMS, WEIGHTS, Part
from .claims import factor, of

QUIET = "#7B8794"
COLORS = {
    "printed": {"color": "#EFA06B", "linewidth": 5},
    "released": {"color": "#7FB8DA", "linewidth": 5},
    "printed, blended": {"color": "#8A2B00", "linestyle": "--"},
    "true inverse": {"color": "black", "linestyle": ":", "linewidth": 2.2},
}
"""Broad lines first: others lie on them in places."""

UNITS = {
    "float64": "$2^{-53}$",
    "float32": "$2^{-24}$",
    "float16": "$2^{-11}$",
    "bfloat16": "$2^{-8}$",
    "float8_e4m3fn": "$2^{-4}$",
    "int8": "1/254",
}
LARGEST = {"float16": 65504.0}


def step_table(rows: list[Row]) -> list[dict]:
    """Factors of one step by gamma and s, measured and by their laws."""
    names = ("gamma", "s", "printed_factor", "printed_law", "true_factor", "true_law")
    return [{name: row[name] for name in names} for row in sorted(of(rows, Part.STEP), key=lambda r: r["s"])]


def draw_step(figure: Any, table: list[dict]) -> None:
    """What one step does to j, printed and right."""
    figure.set_size_inches(7.8, 4.4)
    panel = figure.subplots()
    for gamma, color in zip(GAMMAS, ("#E69F00", "#D55E00", "#CC79A7"), strict=True):
        found = [row for row in table if row["gamma"] == gamma]
        x = [row["s"] for row in found]
        panel.plot(x, [row["printed_law"] for row in found], "-", color=color, linewidth=1.2)
        panel.plot(x, [row["printed_factor"] for row in found], "o", color=color, label=rf"printed, $\gamma$ = {gamma}")
    found = [row for row in table if row["gamma"] == CODED]
    x = [row["s"] for row in found]
    panel.plot(x, [row["true_factor"] for row in found], "s-", color="#0072B2", label=rf"inverse, $\gamma$ = {CODED}")
    panel.axhline(1, color="black", linewidth=0.9)
    panel.axhline(factor(CODED), color="#D55E00", linewidth=0.9, linestyle=":")
    panel.text(
        1.2e-3, factor(CODED) + 0.05, rf"$\gamma + \gamma^{{-3}}$ = {factor(CODED):.3f}", color="#D55E00", fontsize=9
    )
    panel.text(8e2, 1.04, "grows above, shrinks below", color=QUIET, fontsize=9)
    panel.set_xscale("log")
    panel.set_ylim(0, 2.6)
    panel.set_xlabel(r"$s = j^T J j$")
    panel.set_ylabel(r"$j^T J^+ j \,/\, j^T J j$ after one step")
    panel.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def track_table(rows: list[Row]) -> list[dict]:
    """Medians over seeds along streams, by rule."""
    table, everything = [], of(rows, Part.TRACK)
    for stream in STREAMS:
        for rule in RULES:
            found = of(everything, Part.TRACK, rule=rule, stream=stream)
            for t in sorted({row["t"] for row in found}):
                here = [row for row in found if row["t"] == t]
                table.append({
                    "stream": stream,
                    "rule": rule,
                    "t": t,
                    "law": factor(CODED) ** t,
                    "largest": median(row["largest"] for row in here),
                    "cosine": median(row["cosine"] for row in here),
                })
    return table


def _tracks(figure: Any, table: list[dict], name: str, streams: tuple[str, ...]) -> Any:
    figure.set_size_inches(9.6, 4.4)
    panels = figure.subplots(1, len(streams), sharey=True)
    handles = []
    for panel, stream in zip(panels, streams, strict=True):
        handles = []
        for rule, style in COLORS.items():
            found = [row for row in table if (row["stream"], row["rule"]) == (stream, rule)]
            x, y = [row["t"] for row in found], [row[name] for row in found]
            handles.append(panel.plot(x, y, label=rule, **style)[0])
        panel.set_title(f"j: {stream}")
        panel.set_xlabel("step")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    return panels


def draw_growth(figure: Any, table: list[dict]) -> None:
    """The largest entry of J, the law beside it."""
    panels = _tracks(figure, table, "largest", STREAMS)
    law = {row["t"]: row["law"] for row in table}
    for panel in panels:
        panel.plot(list(law), list(law.values()), color=QUIET, linewidth=5, alpha=0.35, zorder=0)
        panel.axhline(LARGEST["float16"], color=QUIET, linewidth=0.9)
        panel.set_yscale("log")
    last = max(law)
    panels[0].text(last * 0.98, LARGEST["float16"] * 8, "largest of float16", ha="right", fontsize=9, color=QUIET)
    panels[0].text(last * 0.5, law[last], r"$(\gamma+\gamma^{-3})^t$", ha="right", fontsize=10, color=QUIET)
    panels[0].set_ylabel("largest entry of J")


def draw_cosine(figure: Any, table: list[dict]) -> None:
    """Directions against those of the right inverse."""
    panels = _tracks(figure, table, "cosine", STREAMS)
    panels[0].set_ylim(-0.05, 1.05)
    panels[0].set_ylabel(r"cosine of $J g$ to $C^{-1} g$")


def stabilizer_table(rows: list[Row]) -> list[dict]:
    """Norms at the end over those before, by gamma, stream, start and zeta."""
    names = ("gamma", "stream", "start", "weight_over_bound", "zeta", "early", "late", "bounded")
    return [{name: row[name] for name in names} for row in of(rows, Part.STABILIZER)]


def draw_stabilizer(figure: Any, table: list[dict]) -> None:
    """Late norms against zeta over its bound, a panel for each start."""
    figure.set_size_inches(9.2, 4.4)
    starts = sorted({row["start"] for row in table}, reverse=True)
    panels = figure.subplots(1, len(starts), sharey=True)
    handles = []
    for panel, start in zip(panels, starts, strict=True):
        handles = []
        for gamma, marker, size in zip(GAMMAS, "o^s", (10, 7, 4), strict=True):
            found = [r for r in table if (r["gamma"], r["start"], r["stream"]) == (gamma, start, STREAMS[1])]
            found.sort(key=lambda row: row["zeta"])
            x, y = [row["weight_over_bound"] for row in found], [row["late"] for row in found]
            handles.append(panel.plot(x, y, marker=marker, markersize=size, label=rf"$\gamma$ = {gamma}")[0])
        panel.axvline(1, color="black", linewidth=0.9)
        panel.set_yscale("log")
        panel.set_xlim(min(WEIGHTS) - 0.05, max(WEIGHTS) + 0.05)
        panel.set_xlabel(r"$\zeta\,(\gamma+\gamma^{-3})$")
        panel.set_title("from J = I" if start == 1 else f"from J = {start:g} I")
    panels[0].set_ylabel("norm of J at the end of the run")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)


def survival_table(rows: list[Row]) -> list[dict]:
    """The share of runs that stay positive definite, by format, mode and 20 + |v|^2."""
    table = []
    for format, modes in STORES.items():
        for mode in modes:
            found = of(rows, Part.RELEASED, format=format, mode=mode)
            for energy in sorted({row["log_energy"] for row in found}):
                here = [row for row in found if row["log_energy"] == energy]
                table.append({
                    "carried": format if len(modes) == 1 else f"{format}, {mode}",
                    "log_energy": energy,
                    "energy_in_u": here[0]["energy_in_u"],
                    "definite_share": 1 - fmean(row["lost"] for row in here),
                    "least_eigenvalue_over_law": min(row["least_over_law"] for row in here),
                })
    return table


def draw_survival(figure: Any, table: list[dict]) -> None:
    """A row for each format: blue where all runs stay definite; marks where u (20 + |v|^2) is one and eight."""
    figure.set_size_inches(9.2, 4.8)
    panel = figure.subplots()
    names = list(dict.fromkeys(row["carried"] for row in table))
    marks: dict[int, list[tuple[float, int]]] = {1: [], 8: []}
    image = None
    for place, name in enumerate(names):
        found = [row for row in table if row["carried"] == name]
        energies = [row["log_energy"] for row in found]
        middles = [(x + y) / 2 for x, y in itertools.pairwise(energies)]
        edges = [2 * energies[0] - middles[0], *middles, 2 * energies[-1] - middles[-1]]
        shares = [[row["definite_share"] for row in found]]
        image = panel.pcolormesh(
            edges, [place - 0.48, place + 0.48], shares, cmap="RdYlBu", vmin=0, vmax=1, edgecolors="face"
        )
        unit = math.log2(found[0]["energy_in_u"]) - energies[0]
        for level, points in marks.items():
            if edges[0] <= (x := math.log2(level) - unit) <= edges[-1]:
                points.append((x, place))
    for (level, points), marker in zip(marks.items(), "oD", strict=True):
        style = {"color": "white", "markeredgecolor": "black", "markeredgewidth": 1.6, "markersize": 8}
        label = rf"$u\,(20 + |v|^2)$ = {level}"
        panel.plot([x for x, _ in points], [y for _, y in points], marker, label=label, **style)
    panel.set_yticks(range(len(names)), [f"{name}: u = {UNITS[name.partition(',')[0]]}" for name in names])
    panel.invert_yaxis()
    ticks = range(math.ceil(min(row["log_energy"] for row in table)), 17, 2)
    panel.set_xticks(ticks, [f"$2^{{{e}}}$" for e in ticks])
    panel.set_xlabel(r"$20 + |v|^2$")
    panel.grid(visible=False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    figure.colorbar(image, ax=panel, label="share of runs in which J stays definite")


def lemma_table(rows: list[Row]) -> list[dict]:
    """Errors over the lemma's bound in bfloat16."""
    names = ("kind", "entry", "d", "error_over_bound", "relative_error", "relative_bound")
    return [{name: row[name] for name in names} for row in of(rows, Part.LEMMA, format="bfloat16")]


SHAPES = {
    "searched": ("^", "left: worst of many small draws"),
    "aligned": ("s", "left: all entries at their largest"),
    "definite": ("o", "left: drawn J"),
}


def draw_lemma(figure: Any, table: list[dict]) -> None:
    """Left: error over bound by d. Right: both, relative to J's largest entry."""
    figure.set_size_inches(9.6, 5.0)
    left, right = figure.subplots(1, 2)
    colors = {0.1: "#0072B2", 1.0: "#009E73", 10.0: "#D55E00"}
    for entry, color in colors.items():
        for kind, (marker, _) in SHAPES.items():
            found = sorted((r for r in table if (r["entry"], r["kind"]) == (entry, kind)), key=lambda r: r["d"])
            left.plot([r["d"] for r in found], [r["error_over_bound"] for r in found], marker, color=color)
            if kind == "definite":
                d = [r["d"] for r in found]
                right.plot(d, [r["relative_bound"] for r in found], "-", marker="v", color=color)
                right.plot(d, [r["relative_error"] for r in found], "--", marker="o", color=color)
    handles = [left.plot([], [], "s", color=c, markersize=9, label=f"entries to {e:g}")[0] for e, c in colors.items()]
    handles += [left.plot([], [], m, color=QUIET, label=label)[0] for m, label in SHAPES.values()]
    handles += [
        right.plot([], [], line, marker=marker, color=QUIET, label=label)[0]
        for line, marker, label in (("-", "v", "right: bound"), ("--", "o", "right: error"))
    ]
    for panel in (left, right):
        panel.axhline(1, color="black", linewidth=0.9)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xlabel("d")
    left.set_title("error over the lemma's bound")
    left.set_ylabel("largest error of an entry over the bound")
    right.set_title("bound and error, drawn J")
    right.set_ylabel("relative to J's largest entry")
    figure.legend(handles=handles, fontsize=9, loc="outside lower center", ncols=3)


def _figure(name: str, title: str, caption: str, table: Callable, draw: Callable) -> Figure:
    return Figure(name, title, caption, table, draw)


FIGURES = (
    _figure(
        "step",
        "One step grows where it should shrink",
        "What one update does to the direction j that it is made of. A curvature that is seen again must make the "
        "inverse smaller along it; the printed rule makes it larger once s is above one or so. Lines through the "
        "marks: the law.",
        step_table,
        draw_step,
    ),
    _figure(
        "growth",
        "The printed rule along a stream",
        "Largest entry of J in float64 from J = I at gamma = 0.95, median of three seeds; the gray line is (gamma "
        "+ gamma^-3)^t. The published stabilizer, blended with zeta = 0.9 above a norm of 2, only slows it. The "
        "true inverse winds up in directions that are not excited. The released recursion stays below one.",
        track_table,
        draw_growth,
    ),
    _figure(
        "cosine",
        "The direction that comes of it",
        "Cosine of J g to C^{-1} g, C the average gamma C + (1 - gamma) j j^T that the rule is said to invert, "
        "median over 32 gradients about the first vector of the stream and three seeds. The printed rule and its "
        "blend are one where vectors have a mean.",
        track_table,
        draw_cosine,
    ),
    _figure(
        "stabilizer",
        "What the stabilizer bounds",
        "Norm of the printed rule's J in the last quarter of a run, noisy stream, by zeta relative to the claimed "
        "bound. From a large J the bound is sharp; from J = I, with gamma = 0.99, the rule does not reach the "
        "sizes at which it grows.",
        stabilizer_table,
        draw_stabilizer,
    ),
    _figure(
        "survival",
        "Where the released recursion stays positive definite",
        "Share of runs, over two streams and all seeds, in which no J that was looked at had an eigenvalue of zero "
        "or less. Rounded: every operation on arrays, with sums and scalars in float32; stored: J alone, once a "
        "step, as the 8-bit formats are. From u (20 + |v|^2) = 2 to 16 the formats of 16 bits are looked at in steps "
        "of a factor 2^(1/4), at no point on either mark.",
        survival_table,
        draw_survival,
    ),
    _figure(
        "lemma",
        "The lemma on quantization",
        "One step of the printed rule with inputs rounded to bfloat16. Left: the error over the bound of lemma 3.3.2, "
        "which it passes by a millionth for one small draw. Right: for drawn J the bound passes J itself where the "
        "error stays at a unit roundoff.",
        lemma_table,
        draw_lemma,
    ),
)
