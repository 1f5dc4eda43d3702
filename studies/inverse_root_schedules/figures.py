"""The pictures of the study, each drawn from its own table."""

import math
from typing import Any

from precond_lab.study import Figure, Row

from .cases import CHAINS, CONDITIONS, DESCENDING, FORMATS, METHODS, POWERS, ROUNDOFF, Part
from .law import GENEROUS, developed, predicted_switch
from .selection import curves, of

SIZE = 16
COLORS = {1e2: "#2563EB", 1e3: "#0891B2", 1e4: "#15803D", 1e5: "#CA8A04", 1e6: "#C2410C"}
PAIRS = DESCENDING[:3]
MOST = 3.0
"""Larger errors are drawn as this."""


def switches_table(rows: list[Row]) -> list[dict]:
    """Errors of coupled Newton by the step at which the format changes, and what the law says of them."""
    table = []
    for (_, p, _, early, late, condition), curve in curves(rows, method="coupled_newton", n=SIZE).items():
        if (early, late) not in PAIRS:
            continue
        u = ROUNDOFF[late]
        predicted = predicted_switch(curve, GENEROUS * u)
        for row in curve:
            axes = {"p": p, "early": early, "late": late, "condition": condition, "switch": row["switch"]}
            table.append({**axes, "error": row["error"], "law": u / row["smallest"], "predicted": predicted})
    return table


def draw_switches(figure: Any, table: list[dict]) -> None:
    """A panel for each p and pair of formats."""
    figure.set_size_inches(11, 6)
    panels = figure.subplots(len(POWERS), len(PAIRS), sharex=True)
    handles = {}
    for line, p in zip(panels, POWERS, strict=True):
        for panel, (early, late) in zip(line, PAIRS, strict=True):
            u = ROUNDOFF[late]
            for condition, color in COLORS.items():
                axes = (p, early, late, condition)
                found = [x for x in table if (x["p"], x["early"], x["late"], x["condition"]) == axes]
                if not found:
                    continue
                steps, errors = [x["switch"] for x in found], [min(x["error"], MOST) for x in found]
                label = f"$\\kappa$ = {condition:.0e}"
                style = {"marker": "o", "markersize": 3, "linewidth": 1.2, "color": color}
                handles[label] = panel.plot(steps, errors, label=label, **style)[0]
                inside = [x for x in found if u <= x["law"] <= MOST]
                law = {"color": color, "linewidth": 1, "linestyle": "--"}
                panel.plot([x["switch"] for x in inside], [x["law"] for x in inside], **law)
                panel.plot([found[0]["predicted"]], [GENEROUS * u], marker="|", markersize=12, color=color)
            panel.axhline(GENEROUS * u, color="k", linewidth=0.7, linestyle=":")
            panel.axhline(u, color="k", linewidth=0.7)
            panel.set_yscale("log")
            panel.set_title(f"{early}, then {late}, p = {p}", fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("steps in the wider format")
    for line in panels:
        line[0].set_ylabel("error of the root, 2-norm")
    figure.legend(handles=handles.values(), loc="outside lower center", ncols=5, frameon=False, fontsize=9)


NARROW, FIRST_NARROW, CHANGED, WIDE = "all bfloat16", "first step bfloat16", "from m = 1/16 bfloat16", "all float32"
SCHEDULES = (NARROW, FIRST_NARROW, CHANGED, WIDE)
SHOWN = (1e4, 1e6)


def schedules_table(rows: list[Row]) -> list[dict]:
    """Errors by method and schedule, for p = 2."""
    table = []
    for method in METHODS:
        for condition in SHOWN:
            axes = {"method": method, "p": 2, "n": SIZE, "condition": condition}
            (high,) = curves(rows, early="float32", late="bfloat16", **axes).values()
            (low,) = curves(rows, early="bfloat16", late="float32", **axes).values()
            at = developed(high)
            if at is None:
                continue
            errors = dict(zip(SCHEDULES, (high[0], low[1], at, high[-1]), strict=True))
            steps = {NARROW: 0, FIRST_NARROW: 1, CHANGED: at["switch"], WIDE: high[-1]["taken"]}
            for schedule, row in errors.items():
                found = {"schedule": schedule, "error": row["error"], "first_steps": steps[schedule]}
                table.append({"method": method, "condition": condition, **found})
    return table


def draw_schedules(figure: Any, table: list[dict]) -> None:
    """A map for each condition number, with the errors written in it."""
    figure.set_size_inches(11, 3.4)
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    image = None
    for panel, condition in zip(panels, SHOWN, strict=True):
        found = {(x["method"], x["schedule"]): x for x in table if x["condition"] == condition}
        errors = [[found[m, s]["error"] if (m, s) in found else math.nan for s in SCHEDULES] for m in METHODS]
        grid = [[math.log10(min(error, 1.0)) for error in line] for line in errors]
        image = panel.imshow(grid, cmap="YlOrRd", vmin=-3, vmax=0, aspect="auto")
        for i, method in enumerate(METHODS):
            for j, schedule in enumerate(SCHEDULES):
                if (method, schedule) not in found:
                    continue
                text = f"{errors[i][j]:.1e}"
                if schedule == CHANGED:
                    text += f"\nafter {found[method, schedule]['first_steps']:g} steps"
                panel.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if grid[i][j] > -0.8 else "k")
        panel.set_xticks(range(len(SCHEDULES)), [s.replace(" bf", "\nbf").replace(" fl", "\nfl") for s in SCHEDULES])
        panel.set_yticks(range(len(METHODS)), METHODS)
        panel.tick_params(length=0, labelsize=8)
        panel.grid(visible=False)
        panel.set_title(f"p = 2, $\\kappa$ = {condition:.0e}", fontsize=10)
    figure.colorbar(image, ax=panels, label="$\\log_{10}$ of the error", shrink=0.9)


STYLES = {
    ("float32", "float32"): ("k", "-", "s"),
    ("float16", "float32"): ("#2563EB", "-", "o"),
    ("float32", "float16"): ("#2563EB", "--", "v"),
    ("float16", "float16"): ("#2563EB", ":", "x"),
    ("bfloat16", "float32"): ("#C2410C", "-", "o"),
    ("float32", "bfloat16"): ("#C2410C", "--", "v"),
    ("bfloat16", "bfloat16"): ("#C2410C", ":", "x"),
}
"""By the formats of X and of M."""


def chains_table(rows: list[Row]) -> list[dict]:
    """Errors by p, the formats of X and M, and the condition number."""
    names = ("p", "X", "M", "condition", "error")
    found = [row for X, M in CHAINS for row in of(rows, Part.CHAINS, X=X, M=M, n=SIZE)]
    return [{name: row[name] for name in names} for row in sorted(found, key=lambda row: row["condition"])]


def draw_chains(figure: Any, table: list[dict]) -> None:
    """A panel for each p."""
    figure.set_size_inches(11, 4)
    panels = figure.subplots(1, len(POWERS), sharey=True)
    handles = []
    for panel, p in zip(panels, POWERS, strict=True):
        handles = []
        for (X, M), (color, line, marker) in STYLES.items():
            found = [x for x in table if (x["p"], x["X"], x["M"]) == (p, X, M)]
            style = {"color": color, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.2}
            errors = [min(x["error"], MOST) for x in found]
            handles += panel.plot([x["condition"] for x in found], errors, label=f"X {X}, M {M}", **style)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("condition number $\\kappa$")
        panel.set_title(f"coupled Newton, p = {p}", fontsize=10)
    panels[0].set_ylabel("error of the root, 2-norm")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def grams_table(rows: list[Row]) -> list[dict]:
    """The largest singular value of a factor, by format, restart, steps and condition number."""
    names = ("format", "restart", "steps", "condition", "excess", "failed")
    return [{name: row[name] for name in names} for row in of(rows, Part.GRAM, n=SIZE)]


def draw_grams(figure: Any, table: list[dict]) -> None:
    """A panel for each format, a line for each number of steps and restart."""
    shown = [format for format in FORMATS if any(x["format"] == format for x in table)]
    figure.set_size_inches(3.7 * len(shown) + 1, 3.8)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    steps = sorted({x["steps"] for x in table})
    handles = {}
    for panel, format in zip(panels, shown, strict=True):
        for count, color in zip(steps, ("#2563EB", "#C2410C", "#7B8794"), strict=False):
            for restart, line in ((0, "-"), (2, "--")):
                found = {x["condition"]: x for x in table if _is(x, format, restart, count)}
                errors = [min(max(found[k]["excess"], 1e-4), 1e3) for k in CONDITIONS if k in found]
                label = f"{count} steps, " + (f"restart every {restart}" if restart else "no restart")
                style = {"color": color, "linestyle": line, "marker": "o", "markersize": 4}
                handles[label] = panel.plot(sorted(found), errors, label=label, **style)[0]
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("condition number of the Gram matrix")
        panel.set_title(format, fontsize=10)
    panels[0].set_ylabel("largest singular value less one")
    figure.legend(handles=handles.values(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _is(row: dict, format: str, restart: int, steps: int) -> bool:
    return (row["format"], row["restart"], row["steps"]) == (format, restart, steps)


FIGURES = (
    Figure(
        "switches",
        "The error against the step at which the format changes",
        "Coupled Newton, medians over eight matrices with eigenvalues in geometric progression. Dashed: u over the "
        "smallest eigenvalue of M at that step. The horizontal lines are u and 16 u of the narrower format, the ticks "
        "on the dotted one the steps that the law predicts for 16 u.",
        switches_table,
        draw_switches,
    ),
    Figure(
        "schedules",
        "What a schedule costs",
        "Errors of the inverse square root, float32 and bfloat16. Third column: float32 until the smallest eigenvalue "
        "of M is 1/16, after the steps that are written there. All roots but those of the second column are stored in "
        "bfloat16.",
        schedules_table,
        draw_schedules,
    ),
    Figure(
        "chains",
        "Which of the two matrices needs the digits",
        "Coupled Newton with X in one format and M, with the factor that is made of it, in another. An X in 16 bits "
        "(solid) costs a few of its own roundings, an M in 16 bits (dashed) as much as all in 16 bits (dotted).",
        chains_table,
        draw_chains,
    ),
    Figure(
        "grams",
        "Polar factors by their Gram matrices",
        "The largest singular value of eight factors less one, for the quintic of Newton-Schulz; drawn as 1e-4 and as "
        "1e3 where it is less and where it is more.",
        grams_table,
        draw_grams,
    ),
)
