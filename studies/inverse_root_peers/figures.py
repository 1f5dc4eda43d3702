"""The pictures of the study, each drawn from its own table."""

import math
from typing import Any

from precond_lab.study import Figure, Row

from .cases import CHANGES, CONDITIONS, EXPONENTS, INPUTS, PADDED, SCALED, STARTS, SUBJECTS, Part
from .rows import UNIT, cells, of, typical

POWER = 4
LEAST, MOST = 1e-8, 10.0
"""Figures outside are drawn at these."""
GREY, GREEN, RED, BLUE, PURPLE, PINK = "#7B8794", "#15803D", "#C2410C", "#2563EB", "#9333EA", "#DB2777"


def _shown(value: float) -> float:
    return MOST if math.isnan(value) else min(max(value, LEAST), MOST)


def _logarithmic(panel: Any, *, both: bool = True) -> None:
    panel.set_yscale("log")
    panel.set_ylim(LEAST / 2, 2 * MOST)
    if both:
        panel.set_xscale("log")


def exponents_table(rows: list[Row]) -> list[dict]:
    """Errors and reports by p."""
    table = []
    for subject in ("optax", "coupled_newton"):
        for p in EXPONENTS:
            found = of(rows, Part.EXPONENTS, subject=subject, p=p, condition=1e4)
            figures = {name: typical(found, name) for name in ("error", "error_other", "reported", "residual")}
            table.append({"subject": subject, "p": p, **figures})
    return table


def draw_exponents(figure: Any, table: list[dict]) -> None:
    """Bars would hide how small the good errors are: points."""
    figure.set_size_inches(8, 4)
    panel = figure.subplots()
    lines = (
        ("optax", "error", RED, "o", "optax: error"),
        ("optax", "error_other", RED, "x", "optax: error as a multiple of $A^{-1/q}$"),
        ("optax", "reported", GREY, "v", "optax: reported"),
        ("optax", "residual", GREEN, "^", "optax: certificate"),
        ("coupled_newton", "error", BLUE, "s", "coupled Newton here: error"),
    )
    for subject, name, color, marker, label in lines:
        found = [row for row in table if row["subject"] == subject]
        values = [_shown(row[name]) for row in found]
        panel.plot(range(len(found)), values, marker, color=color, label=label, markersize=6)
    panel.set_xticks(range(len(EXPONENTS)), [str(p) for p in EXPONENTS])
    panel.set_xlabel("p")
    _logarithmic(panel, both=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def scales_table(rows: list[Row]) -> list[dict]:
    """How much a root changes with the scale."""
    found = cells(of(rows, Part.SCALES, p=POWER, condition=1e4), "subject", "scale")
    return [
        {
            "subject": subject,
            "scale": scale,
            "difference": typical(some, "difference"),
            "accepted": sum(row["accepted"] for row in some) / len(some),
        }
        for (subject, scale), some in found.items()
    ]


def draw_scales(figure: Any, table: list[dict]) -> None:
    """A panel for each rule; what its caller refuses is hollow."""
    figure.set_size_inches(10, 4.4)
    panels = figure.subplots(2, 5, sharex=True, sharey=True)
    for panel, subject in zip(panels.flat, SCALED, strict=True):
        found = [row for row in table if row["subject"] == subject]
        panel.plot(
            [row["scale"] for row in found], [_shown(row["difference"]) for row in found], color=GREY, linewidth=0.8
        )
        for row in found:
            face = RED if row["accepted"] else "white"
            panel.plot(row["scale"], _shown(row["difference"]), "o", color=RED, markerfacecolor=face, markersize=5)
        panel.axhline(1e4 * UNIT, color="k", linewidth=0.7, linestyle=":")
        panel.set_title(subject, fontsize=9)
        _logarithmic(panel, both=False)
    for panel in panels[-1]:
        panel.set_xlabel("k, of $2^k A$")
    for row in panels:
        row[0].set_ylabel("change of the root")


def indicators_table(rows: list[Row]) -> list[dict]:
    """What is said of each root, and its error."""
    names = ("subject", "p", "condition", "seed", "error_root", "reported", "residual")
    parts = [row for row in rows if row["part"] in {Part.INDICATORS.value, Part.EXPONENTS.value, Part.SCALES.value}]
    return [{name: row[name] for name in names} for row in parts]


def draw_indicators(figure: Any, table: list[dict]) -> None:
    """Two panels: what the rules report, and the certificate of the same roots."""
    figure.set_size_inches(9, 4.6)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    reporting = {"optax": RED, "retried_newton": BLUE, "eigh_clamp": PURPLE}
    for name, color in reporting.items():
        found = [row for row in table if row["subject"] == name]
        y = [_shown(row["error_root"]) for row in found]
        reported = [_shown(row["reported"]) for row in found]
        panels[0].plot(reported, y, ".", color=color, markersize=3, label=name)
        panels[1].plot([_shown(row["residual"]) for row in found], y, ".", color=color, markersize=3)
    for panel, title in zip(panels, ("reported by the rule", "certificate"), strict=True):
        panel.plot((LEAST, MOST), (LEAST, MOST), color="k", linewidth=0.8)
        _logarithmic(panel)
        panel.set_xlim(LEAST / 2, 2 * MOST)
        panel.set_xlabel(title)
    panels[0].axvline(0.1, color="k", linestyle=":", linewidth=0.8)
    panels[0].set_ylabel("error of the root of A")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


OUTCOMES = {"right": GREEN, "refused": "#BFD8C6", "false alarm": "#E8C468", "silent": RED}


def outcomes_table(rows: list[Row]) -> list[dict]:
    """What becomes of each input."""
    names = ("subject", "input", "outcome", "certified", "reported")
    return [{name: row[name] for name in names} for row in of(rows, Part.INPUTS, p=POWER)]


def draw_outcomes(figure: Any, table: list[dict]) -> None:
    """Rules by inputs; a cross where the certificate passes a root that is wrong."""
    figure.set_size_inches(9.5, 5)
    panel = figure.subplots()
    kinds = list(OUTCOMES)
    found = {(row["subject"], row["input"]): row for row in table}
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    grid = [[kinds.index(found[subject, name]["outcome"]) for name in INPUTS] for subject in SUBJECTS]
    panel.imshow(grid, cmap=ListedColormap(list(OUTCOMES.values())), vmin=0, vmax=len(kinds) - 1, aspect="auto")
    for i, subject in enumerate(SUBJECTS):
        for j, name in enumerate(INPUTS):
            row = found[subject, name]
            if row["certified"]:
                panel.text(j, i, "c", ha="center", va="center", fontsize=8, color="w")
    panel.set_xticks(range(len(INPUTS)), [name.replace("_", "\n") for name in INPUTS], fontsize=7)
    panel.set_yticks(range(len(SUBJECTS)), SUBJECTS, fontsize=8)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    handles = [Patch(color=color, label=kind) for kind, color in OUTCOMES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def warm_table(rows: list[Row]) -> list[dict]:
    """Errors by what has changed."""
    table = []
    for condition in (1e2, 1e4, 1e6):
        for subject in STARTS:
            for change in CHANGES:
                found = of(rows, Part.WARM, p=POWER, condition=condition, subject=subject, change=change)
                figures = {name: typical(found, name) for name in ("error", "reported", "steps")}
                table.append({"condition": condition, "subject": subject, "change": change, **figures})
    return table


def draw_warm(figure: Any, table: list[dict]) -> None:
    """A panel for each condition number."""
    figure.set_size_inches(10, 3.8)
    panels = figure.subplots(1, 3, sharey=True)
    styles = {"cold": (GREY, "o"), "previous_root": (RED, "s"), "previous_basis": (GREEN, "^")}
    handles = []
    for panel, condition in zip(panels, (1e2, 1e4, 1e6), strict=True):
        handles = []
        for subject, (color, marker) in styles.items():
            found = [r for r in table if (r["condition"], r["subject"]) == (condition, subject) and r["change"] > 0]
            x, y = [row["change"] for row in found], [_shown(row["error"]) for row in found]
            handles += panel.plot(x, y, marker=marker, color=color, label=f"from {subject}: error", markersize=4)
            if subject == "previous_root":
                said = [_shown(row["reported"]) for row in found]
                handles += panel.plot(x, said, ":", color=color, label="reported for it")
        _logarithmic(panel)
        panel.set_title(f"condition {condition:.0e}", fontsize=10)
        panel.set_xlabel("change of the matrix")
    panels[0].set_ylabel("p = 4")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def padding_table(rows: list[Row]) -> list[dict]:
    """How much padding changes a root."""
    found = cells(of(rows, Part.PADDING, p=POWER, condition=1e4), "subject", "scale")
    return [{"subject": s, "scale": k, "difference": typical(some, "difference")} for (s, k), some in found.items()]


def draw_padding(figure: Any, table: list[dict]) -> None:
    """Lines over the scale."""
    figure.set_size_inches(7, 3.8)
    panel = figure.subplots()
    for subject, color, marker in zip(PADDED, (RED, BLUE, PURPLE, GREEN, GREY), "osx^v", strict=True):
        found = [row for row in table if row["subject"] == subject]
        x, y = [row["scale"] for row in found], [_shown(row["difference"]) for row in found]
        panel.plot(x, y, marker=marker, color=color, label=subject, markersize=4, linewidth=1)
    panel.set_xlabel("k, of $2^k A$")
    panel.set_ylabel("change of the root")
    _logarithmic(panel, both=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def tracking_table(rows: list[Row]) -> list[dict]:
    """Errors with a tracked basis."""
    found = cells(of(rows, Part.TRACKING, p=POWER), "drift", "decay", "condition", "subject")
    names = ("error", "error_update", "apart")
    axes = ("drift", "decay", "condition", "subject")
    return [
        dict(zip(axes, place, strict=True)) | {name: typical(some, name) for name in names}
        for place, some in found.items()
    ]


def draw_tracking(figure: Any, table: list[dict]) -> None:
    """A panel for each drift and decay."""
    drifts, decays = (sorted({row[name] for row in table}) for name in ("drift", "decay"))
    figure.set_size_inches(9, 1 + 2.6 * len(drifts))
    panels = figure.subplots(len(drifts), len(decays), sharex=True, sharey=True, squeeze=False)
    handles = []
    for i, drift in enumerate(drifts):
        for j, decay in enumerate(decays):
            panel, handles = panels[i, j], []
            some = [row for row in table if (row["drift"], row["decay"]) == (drift, decay)]
            for subject, color in (("quotients", RED), ("eigen", GREEN)):
                for name, line in (("error", "-"), ("error_update", "--")):
                    found = [row for row in some if row["subject"] == subject]
                    x, y = [row["condition"] for row in found], [_shown(row[name]) for row in found]
                    label = f"{subject}: {'root' if name == 'error' else 'update'}"
                    handles += panel.plot(x, y, line, marker="o", color=color, label=label, markersize=4)
            _logarithmic(panel)
            panel.set_title(f"decay {decay:g}, drift {drift:g}", fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("condition of the covariance")
    for row in panels:
        row[0].set_ylabel("error, p = 4")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def routines_table(rows: list[Row]) -> list[dict]:
    """Errors of routines over the attainable ones."""
    largest = max(row["n"] for row in of(rows, Part.ROUTINES))
    found = cells(of(rows, Part.ROUTINES, p=POWER, n=largest), "subject", "condition")
    return [{"subject": s, "condition": k, "n": largest, "error": typical(x, "error")} for (s, k), x in found.items()]


def draw_routines(figure: Any, table: list[dict]) -> None:
    """Errors over the condition number."""
    figure.set_size_inches(7, 4.2)
    panel = figure.subplots()
    styles = dict(zip(dict.fromkeys(row["subject"] for row in table), "osx^v+", strict=False))
    colors = (RED, PINK, BLUE, PURPLE, GREY, GREEN)
    for (subject, marker), color in zip(styles.items(), colors, strict=True):
        found = [row for row in table if row["subject"] == subject]
        x, y = [row["condition"] for row in found], [_shown(row["error"]) for row in found]
        panel.plot(x, y, marker=marker, color=color, label=subject, markersize=5, linewidth=1)
    line = [kappa for kappa in CONDITIONS if kappa <= max(row["condition"] for row in table)]
    panel.plot(line, [kappa * UNIT / POWER for kappa in line], color="k", label="$\\kappa u / p$")
    panel.set_xlabel("condition number")
    panel.set_ylabel("error of the root, p = 4")
    _logarithmic(panel)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)


FIGURES = (
    Figure(
        "outcomes",
        "What becomes of each input",
        "p = 4. Right: taken, and within 1/16 of the root of the matrix or of the one that the rule documents. Silent: "
        "taken, and not. False alarm: right, and not taken. c: the certificate of this package passes the root.",
        outcomes_table,
        draw_outcomes,
    ),
    Figure(
        "indicators",
        "What is said of a root, and what is so",
        "Every point is a root, in both panels the same; the line is where an indicator is the error. Left of the "
        "dotted line an optimizer takes the root. What is no number is drawn at the end "
        "of the scale, and ridges are counted as errors.",
        indicators_table,
        draw_indicators,
    ),
    Figure(
        "exponents",
        "p that are no powers of two",
        "Errors in the 2-norm at a condition number of 1e4, without a ridge. What optax returns for other p is, to "
        "rounding, a multiple of the root of another power, q.",
        exponents_table,
        draw_exponents,
    ),
    Figure(
        "scales",
        "The scale of the matrix",
        "By how much the root of 2^k A, scaled back, differs from that of A; p = 4, condition number 1e4. Hollow where "
        "the caller refuses the root. Dotted: kappa u. The last three are this package's, and differ by nothing, "
        "which is drawn at the lower end.",
        scales_table,
        draw_scales,
    ),
    Figure(
        "warm",
        "Warm starts",
        "The error of a root for a matrix that has changed, from nothing, from the previous root, and in the previous "
        "eigenbasis. Dotted: what the iteration from the previous root reports.",
        warm_table,
        draw_warm,
    ),
    Figure(
        "padding",
        "Padding",
        "By how much a root with a ridge of 1e-6 of the largest eigenvalue changes when a third more rows are padded; "
        "p = 4, condition number 1e4. The lowest line is no change at all.",
        padding_table,
        draw_padding,
    ),
    Figure(
        "tracking",
        "A basis that follows",
        "A decaying average of G G^T, and a basis that makes one QR step every ten updates: with the Rayleigh "
        "quotients taken as eigenvalues, and with an eigen-decomposition in that basis. Drift: radians by which the "
        "directions of the gradients turn in an update.",
        tracking_table,
        draw_tracking,
    ),
    Figure(
        "routines",
        "Which eigen-decomposition",
        "Errors of float32 roots. The routine of LAPACK decides: jax calls divide and conquer on a CPU.",
        routines_table,
        draw_routines,
    ),
)
