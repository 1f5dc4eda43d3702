"""Pictures of the laws in time."""

from typing import Any

from precond_lab.study import Row

from .cases import ROUNDOFF, STAGNANT, STAGNATION_STEPS, TILT_STEPS, Part, stagnation_law
from .rows import cells, of, typical

COLORS = {"float32": "#0072B2", "float16": "#D55E00", "bfloat16": "#009E73"}
MARKS = {"gain": "o", "outer": "s"}
FORMS = {
    "gain": ("#B91C1C", "gain: $k w^T$"),
    "outer": ("#EA580C", "$w w^T$, P not symmetric before"),
    "both_sided": ("#2563EB", "both $P v$ and $v^T P$"),
    "symmetric": ("#15803D", "mirrored triangle: zero"),
}


def losses_table(rows: list[Row]) -> list[dict]:
    """Steps of first losses and of overflows, beside their laws."""
    table = [
        {
            "panel": "asymmetry",
            "what": row["form"],
            "format": row["format"],
            "beta": row["beta"],
            "law": row["law"],
            "step": row["first_loss"],
        }
        for row in of(rows, Part.ASYMMETRY, arithmetic="computed")
        if row["form"] in MARKS
    ]
    for row in of(rows, Part.WINDUP, cure="none"):
        axes = {"panel": "wind-up", "format": row["format"], "beta": row["beta"]}
        name = "coordinates" if row["stream"] == "graded" else "directions"
        table.append({**axes, "what": f"overflow, {name}", "law": row["law"], "step": row["overflow"]})
        if row["stream"] == "rotated":
            table.append({**axes, "what": "no longer definite", "law": row["loss_law"], "step": row["first_loss"]})
    return table


def draw_losses(figure: Any, table: list[dict]) -> None:
    """Measured against predicted, a panel for each law."""
    figure.set_size_inches(10.5, 4.6)
    left, right = figure.subplots(1, 2)
    for panel, name in ((left, "asymmetry"), (right, "wind-up")):
        found = [x for x in table if x["panel"] == name and x["step"] is not None]
        ends = [0.7 * min(x["law"] for x in found), 1.4 * max(x["law"] for x in found)]
        panel.plot(ends, ends, color="k", linewidth=1)
        panel.fill_between(ends, [0.75 * x for x in ends], [1.25 * x for x in ends], color="k", alpha=0.08, linewidth=0)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("step by the law")
    for format, color in COLORS.items():
        for form, mark in MARKS.items():
            found = [x for x in table if (x["panel"], x["format"], x["what"]) == ("asymmetry", format, form)]
            found = [x for x in found if x["step"] is not None]
            style = {"color": color, "marker": mark, "linestyle": "none", "markersize": 6, "markerfacecolor": "none"}
            left.plot([x["law"] for x in found], [x["step"] for x in found], label=f"{format}, {form}", **style)
    kinds = {
        "overflow, coordinates": ("s", "#B91C1C"),
        "overflow, directions": ("D", "#EA580C"),
        "no longer definite": ("o", "#2563EB"),
    }
    for what, (mark, color) in kinds.items():
        found = [x for x in table if x["panel"] == "wind-up" and x["what"] == what and x["step"] is not None]
        style = {"color": color, "marker": mark, "linestyle": "none", "markersize": 7, "markerfacecolor": "none"}
        right.plot([x["law"] for x in found], [x["step"] for x in found], label=what, **style)
    left.set_title("Asymmetry: ln(1/u) / ln(1/$\\beta$)", fontsize=10)
    right.set_title("Directions left alone (float16): ln(65504 or 1/u) / ln(1/$\\beta$)", fontsize=10)
    left.set_ylabel("step in which it happened")
    left.legend(fontsize=8)
    right.legend(fontsize=8)


def tilt_table(rows: list[Row]) -> list[dict]:
    """The relative antisymmetric part by format, form and step."""
    table = []
    for (format, form, step), cell in cells(of(rows, Part.TILT), "format", "form", "step"):
        table.append({
            "format": format,
            "form": form,
            "step": step,
            "beta": cell[0]["beta"],
            "asymmetry": cell[0]["asymmetry"],
        })
    return table


def draw_tilt(figure: Any, table: list[dict]) -> None:
    """A panel for each format, the law beside it."""
    figure.set_size_inches(10.5, 3.9)
    panels = figure.subplots(1, 3, sharey=True)
    handles = []
    for panel, format in zip(panels, COLORS, strict=True):
        handles = []
        for form, (color, label) in FORMS.items():
            found = [x for x in table if (x["format"], x["form"]) == (format, form) and 0 < x["asymmetry"] <= 1]
            handles += panel.plot(
                [x["step"] for x in found],
                [x["asymmetry"] for x in found],
                color=color,
                marker="o",
                markersize=3.5,
                linewidth=1.4,
                label=label,
            )
        beta = table[0]["beta"]
        law = [min(1.0, ROUNDOFF[format] * beta**-step) for step in TILT_STEPS]
        handles += panel.plot(TILT_STEPS, law, color="k", linestyle="--", linewidth=1.2, label="law: $u\\,\\beta^{-t}$")
        panel.set_yscale("log")
        panel.set_ylim(1e-8, 2)
        panel.set_title(f"{format}, $\\beta$ = {beta}", fontsize=10)
        panel.set_xlabel("step t")
    panels[0].set_ylabel("$|P - P^T|_F\\ /\\ |P + P^T|_F$")
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


LABELS = {
    ("symmetric", "stored"): ("-", "o", "P itself"),
    ("symmetric", "stochastic"): ("-", "^", "P itself, rounded stochastically"),
    ("bierman_ud", "stored"): ("none", "x", "$UDU^T$"),
    ("master_copy", "stored"): (":", "s", "copy of a float32 master"),
}


def stagnation_table(rows: list[Row]) -> list[dict]:
    """Errors by format, form and step, the law beside them."""
    table = []
    found = of(rows, Part.STAGNATION)
    for (format, form, arithmetic, step), cell in cells(found, "format", "form", "arithmetic", "step"):
        axes = {"format": format, "form": form, "arithmetic": arithmetic, "step": step}
        table.append({**axes, "error": typical(cell, "error"), "law": cell[0]["law"]})
    return table


def draw_stagnation(figure: Any, table: list[dict]) -> None:
    """A panel for each format."""
    figure.set_size_inches(10.5, 4.0)
    panels = figure.subplots(1, 3, sharex=True)
    handles = []
    for panel, format in zip(panels, ("bfloat16", "float16", "float32"), strict=True):
        handles = []
        for kind, color in zip(STAGNANT, ("#B91C1C", "#2563EB", "#7B8794", "#15803D"), strict=True):
            line, mark, label = LABELS[kind]
            found = [x for x in table if (x["format"], x["form"], x["arithmetic"]) == (format, *kind)]
            handles += panel.plot(
                [x["step"] for x in found],
                [x["error"] for x in found],
                color=color,
                linestyle=line,
                marker=mark,
                linewidth=1.4,
                label=label,
            )
        law = [stagnation_law(step, format) for step in STAGNATION_STEPS]
        handles += panel.plot(STAGNATION_STEPS, law, color="k", linestyle="--", linewidth=1.2, label="law")
        if ROUNDOFF[format] > 1e-6:
            panel.axvline(1 / ROUNDOFF[format], color="k", linewidth=0.6, linestyle=":")
            panel.text(1 / ROUNDOFF[format], 0.02, " t = 1/u", fontsize=8, transform=panel.get_xaxis_transform())
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_title(format, fontsize=10)
        panel.set_xlabel("step t")
    panels[0].set_ylabel("relative error of P, Frobenius norm")
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
