"""Pictures of what survives: maps, thresholds, ranking."""

import math
from statistics import mean
from typing import Any

from precond_lab.study import Row

from .cases import MAP_FORMATS, MAPPED, ORDER, RIVALS, ROUNDOFF, Part, decay
from .rows import cells, lost, of, strain, threshold, typical

NAMES = {
    "gain": "gain form",
    "symmetric": "symmetric",
    "both_sided": "both sides",
    "joseph": "Joseph",
    "scaled": "scaled, diagonal apart",
    "refreshed 10": "anew every 10 steps",
    "refreshed 50": "anew every 50 steps",
    "master_copy": "copy of float32 master",
    "ldl": "$LDL^T$ of C",
    "information_cholesky": "Cholesky factor of C",
    "potter": "Potter's square root",
    "bierman_ud": "$UDU^T$",
}
WHERE = {
    "bfloat16 kept, the rest float32": ("bfloat16", "stored", "rotated"),
    "bfloat16 for arrays too": ("bfloat16", "computed", "rotated"),
    "bfloat16, eigenvectors along the axes": ("bfloat16", "stored", "graded"),
    "int8, eigenvectors along the axes": ("int8", "stored", "graded"),
}


def _cells(rows: list[Row], panel: str, format: str, arithmetic: str, stream: str) -> list[dict]:
    found = [
        row
        for row in of(rows, Part.SURVIVAL)
        if (row["format"], row["arithmetic"], row["stream"]) == (format, arithmetic, stream)
    ]
    table = []
    for (form, condition), cell in cells(found, "form", "condition"):
        axes = {"panel": panel, "format": format, "form": form, "condition": condition}
        table.append({**axes, "error": typical(cell, "error"), "lost": mean(map(lost, cell))})
    return table


def survival_table(rows: list[Row]) -> list[dict]:
    """Errors and losses by format, form and condition number, eigenvectors in general position."""
    return [x for format in MAP_FORMATS for x in _cells(rows, f"{format} kept", format, "stored", "rotated")]


def where_table(rows: list[Row]) -> list[dict]:
    """The same by what is rounded, and where the eigenvectors are."""
    table = [x for panel, axes in WHERE.items() for x in _cells(rows, panel, *axes)]
    elsewhere = {x["form"] for x in table if x["panel"] != next(iter(WHERE))}
    return [x for x in table if x["form"] in elsewhere]


def draw_map(figure: Any, table: list[dict]) -> None:
    """A panel for each format: forms by condition numbers."""
    panels = list(dict.fromkeys(x["panel"] for x in table))
    forms = [form for form in MAPPED if any(x["form"] == form for x in table)]
    across = 3 if len(panels) > 4 else 2
    down = math.ceil(len(panels) / across)
    figure.set_size_inches(5.2 + 2.6 * across, 1.1 + down * (0.6 + 0.24 * len(forms)))
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    image = None
    for place, panel in zip(panels, axes.flat, strict=False):
        image = _draw_panel(panel, [x for x in table if x["panel"] == place], forms)
        panel.set_title(place, fontsize=10)
    places = sorted({math.log2(x["condition"]) for x in table})
    margin = (places[1] - places[0]) / 2
    axes[0, 0].set_xlim(places[0] - margin, places[-1] + margin)
    for panel in axes.flat[len(panels) :]:
        panel.set_axis_off()
    for panel in axes[-1]:
        panel.set_xlabel("condition number")
    bar = figure.colorbar(image, ax=axes, label="error of P", shrink=0.8, extend="both")
    bar.set_ticks([-3, -2, -1, 0], labels=["0.1 %", "1 %", "10 %", "100 %"])


def _draw_panel(panel: Any, found: list[dict], forms: list[str]) -> Any:
    conditions = sorted({x["condition"] for x in found})
    places = [math.log2(condition) for condition in conditions]
    step = places[1] - places[0]
    values = {(x["form"], x["condition"]): x for x in found}
    grid = [
        [math.log10(max(values[f, k]["error"], 1e-9)) if (f, k) in values else math.nan for k in conditions]
        for f in forms
    ]
    grid = [[3.0 if value == math.inf else value for value in line] for line in grid]
    extent = (places[0] - step / 2, places[-1] + step / 2, len(forms) - 0.5, -0.5)
    image = panel.imshow(grid, cmap="YlGnBu", vmin=-3.5, vmax=0, aspect="auto", extent=extent)
    panel.set_facecolor("#F3F4F6")
    for i, form in enumerate(forms):
        for place, condition in zip(places, conditions, strict=True):
            share = values.get((form, condition), {"lost": 0})["lost"]
            if share:
                color = "#B91C1C" if share >= 0.5 else "#F59E0B"
                panel.add_patch(_cell(place, i, step, color))
                panel.text(place, i, "\u00d7", ha="center", va="center", fontsize=8, color="w")
    edge = math.log2(1 / ROUNDOFF[found[0]["format"]])
    if edge <= extent[1]:
        panel.axvline(edge, color="k", linewidth=1.4, linestyle="--")
    marks = [mark for mark in range(0, 64, 4) if extent[0] <= mark <= extent[1]]
    panel.set_xticks(marks, [f"$2^{{{mark}}}$" for mark in marks])
    panel.set_yticks(range(len(forms)), [NAMES[form] for form in forms])
    panel.tick_params(length=0)
    panel.grid(visible=False)
    return image


def _cell(place: float, i: int, width: float, color: str) -> Any:
    from matplotlib.patches import Rectangle  # only where something is drawn

    return Rectangle((place - width / 2, i - 0.5), width, 1, facecolor=color, edgecolor="none")


def thresholds_table(rows: list[Row]) -> list[dict]:
    """The share lost by kappa u and order, and thresholds by form."""
    table = []
    plain = of(rows, Part.THRESHOLDS, form="symmetric", arithmetic="stored")
    for (format, beta, n), cell in cells(sorted(plain, key=lambda row: (row["beta"], row["n"])), "format", "beta", "n"):
        for row in sorted(cell, key=strain):
            near = [x for x in cell if abs(math.log2(strain(x) / strain(row))) <= 0.75]
            name = f"$1 - \\beta$ = 1/{round(1 / (1 - beta))}, n = {n}"
            axes = {"panel": "share", "format": format, "name": name, "strain": strain(row)}
            table.append({**axes, "value": mean(map(lost, near))})
    rivals = of(rows, Part.THRESHOLDS, n=ORDER, beta=decay(ORDER))
    for (form, arithmetic, format), cell in cells(rivals, "form", "arithmetic", "format"):
        name = NAMES[form] + {"stored": "", "computed": ", arrays too", "stochastic": ", stochastic"}[arithmetic]
        order = RIVALS.index((form, arithmetic))
        table.append({"panel": "threshold", "format": format, "name": name, "strain": threshold(cell), "value": order})
    return table


def draw_thresholds(figure: Any, table: list[dict]) -> None:
    """Shares on the left, thresholds on the right."""
    figure.set_size_inches(10.5, 4.2)
    left, right = figure.subplots(1, 2)
    colors = {"bfloat16": "#009E73", "float16": "#D55E00"}
    found = [x for x in table if (x["panel"], x["format"]) == ("share", "bfloat16")]
    hues, lines = {"1/16": "#15803D", "1/64": "#2563EB", "1/256": "#B91C1C"}, {"8": ":", "32": "-", "128": "--"}
    for name in dict.fromkeys(x["name"] for x in found):
        memory, n = name.split(" = ", 1)[1].split(", n = ")
        some = [x for x in found if x["name"] == name]
        style = {"color": hues.get(memory, "k"), "linestyle": lines.get(n, "-."), "linewidth": 1.5}
        left.plot([x["strain"] for x in some], [x["value"] for x in some], label=name, **style)
    left.axvspan(1e-3, 0.25, color="#15803D", alpha=0.10, linewidth=0)
    left.axvspan(4, 1e4, color="#B91C1C", alpha=0.08, linewidth=0)
    left.set_xlim(0.03, 300)
    left.set_ylabel("share of runs that lose definiteness")
    left.set_title("Symmetric form, bfloat16; claimed safe, claimed lost", fontsize=10)
    left.legend(fontsize=8)
    found = [x for x in table if x["panel"] == "threshold"]
    names = [name for _, name in sorted({(x["value"], x["name"]) for x in found})]
    for format, color in colors.items():
        some = [x for x in found if x["format"] == format and x["strain"] < math.inf]
        style = {"color": color, "linestyle": "none", "marker": "o", "markersize": 8, "markerfacecolor": "none"}
        right.plot([x["strain"] for x in some], [names.index(x["name"]) for x in some], label=format, **style)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set_title("From where on forms lose it, n = 32", fontsize=10)
    right.legend(fontsize=8)
    for panel in (left, right):
        panel.set_xscale("log")
        panel.set_xlabel("$\\kappa\\, u$")


RANKED = (2.0**6, 2.0**10, 2.0**14)


def ranking_table(rows: list[Row]) -> list[dict]:
    """Errors of forms in 16 bits at three condition numbers."""
    found = [
        row
        for row in of(rows, Part.SURVIVAL, arithmetic="stored", stream="rotated")
        if row["format"] in {"bfloat16", "float16"} and row["condition"] in RANKED
    ]
    return [
        {
            "format": format,
            "condition": condition,
            "form": form,
            "error": typical(cell, "error"),
            "lost": mean(map(lost, cell)),
        }
        for (format, condition, form), cell in cells(found, "format", "condition", "form")
    ]


def draw_ranking(figure: Any, table: list[dict]) -> None:
    """Forms by their error, a panel for each condition number and format."""
    conditions = sorted({x["condition"] for x in table})
    figure.set_size_inches(10.5, 6.4)
    panels = figure.subplots(2, len(conditions), squeeze=False, sharex="row", sharey=True)
    score: dict[str, float] = {}
    for x in table:
        if x["format"] == "bfloat16":
            score[x["form"]] = score.get(x["form"], 0.0) + (10 if x["lost"] else 0) + math.log10(min(x["error"], 1e6))
    forms = sorted(score, key=score.__getitem__)
    for line, format in zip(panels, ("bfloat16", "float16"), strict=True):
        for panel, condition in zip(line, conditions, strict=True):
            for x in table:
                if (x["format"], x["condition"]) == (format, condition):
                    dead = x["lost"] >= 0.5
                    style = {"marker": "X" if dead else "o", "color": "#B91C1C" if dead else "#0072B2", "markersize": 8}
                    panel.plot(min(x["error"], 9.0), forms.index(x["form"]), **style)
            panel.set_xscale("log")
            panel.set_xlim((5e-4 if format == "bfloat16" else 5e-5), 20)
            panel.set_title(f"{format}, $\\kappa$ = {condition:.0f}", fontsize=10)
        line[0].set_yticks(range(len(forms)), [NAMES[form] for form in forms])
        line[0].set_ylim(len(forms) - 0.5, -0.5)
    for panel in panels[-1]:
        panel.set_xlabel("error of P (red cross: lost)")
