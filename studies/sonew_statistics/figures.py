"""The pictures of the study, each drawn from its own table."""

import math
from collections.abc import Callable
from statistics import median
from typing import Any

from precond_lab.study import Figure, Row

from .cases import BETAS, RANGES, SCHEMES
from .claims import ROUNDOFF, TUNED, of

STYLES = {
    "as published": ("o", "-"),
    "increment form": ("^", "-"),
    "stochastic rounding": ("D", "-"),
    "compensated": ("s", "-"),
    "float32 state": ("v", "--"),
}
LABELS = {
    "average": "as published",
    "increment": "increment form",
    "stochastic": "stochastic rounding",
    "compensated": "compensated",
    "wide": "float32 state",
    "sum": "as published",
    "sum_stochastic": "stochastic rounding",
    "sum_compensated": "compensated",
    "sum_wide": "float32 state",
}
TITLES = {"bfloat16": "bfloat16", "float16": "float16, scaled", "float8_e4m3fn": "float8_e4m3fn, scaled"}
SUM = "sum"


def _median(rows: list[Row], name: str) -> float:
    """The median over seeds; not a number if one of them is not."""
    values = [row[name] for row in rows]
    return float("nan") if any(map(math.isnan, values)) else median(values)


def decay_table(rows: list[Row]) -> list[dict]:
    """Errors and cosines by format, recurrence and decay, on gradients of size one."""
    table = []
    for format in TITLES:
        for scheme, label in LABELS.items():
            for beta2 in (None,) if SCHEMES[scheme].summed else BETAS:
                axes = {"scaling": RANGES[format].target is not None, "exponent": 0, "beta2": beta2}
                found = of(rows, format=format, scheme=scheme, **axes)
                names = ("median_error", "mean_ratio", "correlation", "idle_share", "dropped_share", "cosine")
                table.append({
                    "format": format,
                    "carried": label,
                    "beta2": SUM if beta2 is None else str(beta2),
                    **{name: _median(found, name) for name in names},
                })
    return table


def _panels(figure: Any, formats: tuple[str, ...], table: list[dict], name: str) -> Any:
    """One panel a format: a line for each way of carrying an average, and a mark apart for the sum."""
    places = [str(beta2) for beta2 in BETAS]
    panels = figure.subplots(1, len(formats), sharey=True)
    handles = []
    for panel, format in zip(panels, formats, strict=True):
        handles = []
        for label, (marker, line) in STYLES.items():
            found = [row for row in table if row["format"] == format and row["carried"] == label]
            values = {row["beta2"]: row[name] for row in found}
            drawn = panel.plot(range(len(places)), [values[p] for p in places], line, marker=marker, label=label)[0]
            handles.append(drawn)
            if SUM in values:
                panel.plot([len(places) + 0.4], [values[SUM]], marker=marker, color=drawn.get_color(), linestyle="none")
        panel.set_xticks([*range(len(places)), len(places) + 0.4], [*places, SUM], rotation=60, fontsize=8.5)
        panel.axvline(len(places) - 0.3, color="#7B8794", linewidth=0.8)
        panel.set_title(TITLES[format], fontsize=10)
        panel.set_xlabel("beta2 of the average")
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return panels


def draw_errors(figure: Any, table: list[dict]) -> None:
    """Median errors, with the unit roundoff and five percent."""
    figure.set_size_inches(9.4, 4.6)
    panels = _panels(figure, tuple(TITLES), table, "median_error")
    for panel, roundoff in zip(panels, (*ROUNDOFF.values(), 2.0**-4), strict=True):
        panel.axhline(roundoff, color="k", linewidth=0.9, linestyle=":")
        panel.text(-0.2, roundoff * 1.08, "u", fontsize=9)
        panel.axhline(0.05, color="#7B8794", linewidth=0.9, linestyle=":")
    panels[0].text(-0.2, 0.054, "5%", fontsize=9, color="#7B8794")
    panels[0].set_yscale("log")
    panels[0].set_ylabel("median error of $H_{ii}$")


def draw_directions(figure: Any, table: list[dict]) -> None:
    """Cosines to the exact direction."""
    figure.set_size_inches(9, 4.4)
    panels = _panels(figure, ("bfloat16", "float16"), table, "cosine")
    panels[0].set_ylabel("cosine to the exact direction")
    panels[0].set_ylim(0, 1.03)


def range_table(rows: list[Row]) -> list[dict]:
    """float16 by the size of the gradients, at the tuned decay, with and without scaling."""
    table = []
    for scheme in ("average", "compensated"):
        for scaling in (False, True):
            for exponent in RANGES["float16"].exponents:
                axes = {"scheme": scheme, "scaling": scaling, "exponent": exponent, "beta2": TUNED}
                found = of(rows, format="float16", **axes)
                n = found[0]["n"]
                table.append({
                    "carried": LABELS[scheme],
                    "scaling": scaling,
                    "exponent": exponent,
                    "median_error": _median(found, "median_error"),
                    "underflowed_share": _median(found, "underflowed_share"),
                    "scale": _median(found, "scale"),
                    "nonfinite_share": _median(found, "nonfinite_tuned") / n,
                    "nonfinite_share_default": _median(found, "nonfinite_default") / n,
                })
    return table


def draw_range(figure: Any, table: list[dict]) -> None:
    """Errors of the statistics, and what of the direction is not finite, against the size of the gradients."""
    figure.set_size_inches(9.4, 4.4)
    left, right = figure.subplots(1, 2)
    for number, (scaling, carried) in enumerate((s, c) for s in (False, True) for c in ("as published", "compensated")):
        found = [row for row in table if row["scaling"] == scaling and row["carried"] == carried]
        x = [row["exponent"] for row in found]
        name = f"{'scaled' if scaling else 'not scaled'}, {carried}"
        style = {"marker": "osD^"[number], "linestyle": "-" if scaling else "--"}
        left.plot(x, [row["median_error"] for row in found], label=name, **style)
    for number, (scaling, column, name) in enumerate((
        (False, "nonfinite_share", "not scaled, damping 3.4e-6"),
        (True, "nonfinite_share", "scaled, damping 3.4e-6"),
        (True, "nonfinite_share_default", "scaled, damping 1e-8"),
    )):
        found = [row for row in table if row["scaling"] == scaling and row["carried"] == "compensated"]
        right.plot([row["exponent"] for row in found], [row[column] for row in found], marker="oD^"[number], label=name)
    left.set_yscale("log")
    left.set_title("median error of $H_{ii}$", fontsize=10)
    right.set_title("entries of the direction that are not finite", fontsize=10)
    right.set_ylim(-0.03, 1.05)
    for panel in (left, right):
        ticks = sorted({row["exponent"] for row in table})
        panel.set_xticks(ticks, [f"$2^{{{e}}}$" for e in ticks])
        panel.set_xlabel("largest standard deviation of the gradients")
        panel.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _figure(name: str, title: str, caption: str, table: Callable, draw: Callable) -> Figure:
    return Figure(name, title, caption, table, draw)


FIGURES = (
    _figure(
        "errors",
        "What each way of carrying the statistics loses",
        "Median over the parameters of the relative error of the diagonal of H at the last step, against float64 on "
        "the same gradients; at the right of each panel the sum with lambda_t = sqrt(t). Compensated statistics and a "
        "float32 state lie together on the error of a single rounding, a quarter to a half of u, until 1 - beta2 comes "
        "near u^2: in 8 bits that is so at 0.999.",
        decay_table,
        draw_errors,
    ),
    _figure(
        "directions",
        "What the projection makes of it",
        "Cosine of the direction, projected at a tolerance of 2u in the same format, to the exact one. Errors of a few "
        "percent that differ from entry to entry, as stochastic rounding leaves them, are multiplied by the condition "
        "number of the projection (about 20 here: neighbors are correlated by 0.9) and make edges fall.",
        decay_table,
        draw_directions,
    ),
    _figure(
        "range",
        "The range of float16",
        f"Average at beta2 = {TUNED}, by the size of the gradients; standard deviations reach over a factor of ten, "
        "and every eighth parameter is dead. Left: unscaled, squares leave the range on both sides (a missing mark is "
        "not a number). Right, with compensated statistics: the damping relative to the norm that was tuned for "
        "bfloat16 saves the dead parameters once the gradients are scaled; one of 1e-8 is zero in float16, whatever "
        "the scale. Below about 2^-14 the gradients themselves are subnormal, and the scale ends at 2^15, the largest "
        "power of two that float16 has.",
        range_table,
        draw_range,
    ),
)
