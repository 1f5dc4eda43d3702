"""The pictures of the study, each drawn from its own table."""

import math
from collections.abc import Callable
from statistics import median
from typing import Any

from precond_lab.study import Figure, Row

from .cases import FORMATS, FORMS, METHODS, RATIOS, SIDES, TASKS, Part
from .rows import ALONG, ROUNDOFF, STALLS_FROM, largest, least, of

LINES = {
    ("closed", "rounded"): ("every operation rounded", "o", "-"),
    ("closed", "accumulated"): ("sums in float32", "^", "-"),
    ("closed", "scalars"): ("sums and scalars in float32", "D", "-"),
    ("split", "rounded"): ("two-pass split, every operation rounded", "s", "-"),
    ("closed", "inside"): ("float32 inside", "v", "--"),
}
QUIET = "#7B8794"
WARNING = "#D55E00"


def cancellation_table(rows: list[Row]) -> list[dict]:
    """By format, program and sigma / gamma, over seeds and shapes: largest error and least <G, P>, G near b a^T."""
    table = []
    for format in FORMATS:
        for (program, arithmetic), (label, _, _) in LINES.items():
            axes = {"program": program, "arithmetic": arithmetic, "format": format, "noise": ALONG}
            found = of(rows, Part.CANCELLATION, **axes)
            for ratio in RATIOS:
                here = [row for row in found if row["log_ratio"] == ratio]
                table.append({
                    "format": format,
                    "computed": label,
                    "ratio": 10.0**ratio,
                    "law": ROUNDOFF[format] * (1 + 10.0**ratio),
                    "largest_error": largest(here, "curved_error"),
                    "least_descent": least(here, "descent"),
                    "least_cosine": least(here, "cosine"),
                })
    return table


LAW = r"$u\,(1+\sigma/\gamma)$"


def _by_format(figure: Any, table: list[dict], name: str, law: str | None = None) -> Any:
    """One panel a format, with a line for every way of computing, and one for the law; the panels."""
    figure.set_size_inches(9.4, 4.9)
    panels = figure.subplots(1, len(FORMATS), sharey=True)
    handles = []
    for panel, format in zip(panels, FORMATS, strict=True):
        handles = []
        for label, marker, line in LINES.values():
            found = [row for row in table if (row["format"], row["computed"]) == (format, label)]
            x, y = [row["ratio"] for row in found], [row[name] for row in found]
            handles.append(panel.plot(x, y, line, marker=marker, label=label)[0])
        if law is not None:
            points = {row["ratio"]: row[law] for row in table if row["format"] == format}
            style = {"color": "black", "linestyle": ":", "linewidth": 1.6, "label": LAW}
            handles += panel.plot(list(points), list(points.values()), **style)
        panel.set_xscale("log")
        panel.set_xlabel(r"$\sigma/\gamma$")
        panel.set_title(format)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return panels


def draw_law(figure: Any, table: list[dict]) -> None:
    """Errors with the law beside them."""
    panels = _by_format(figure, table, "largest_error", "law")
    for panel in panels:
        panel.axhline(1, color=QUIET, linewidth=0.9)
        panel.set_yscale("log")
    panels[0].text(1, 1.25, "nothing is left", fontsize=9, color=QUIET)
    panels[0].set_ylabel(r"relative error of $b^T P a$")


def draw_descent(figure: Any, table: list[dict]) -> None:
    """Inner products with the gradient, their window of flips shaded."""
    panels = _by_format(figure, table, "least_descent")
    for panel, format in zip(panels, FORMATS, strict=True):
        u = ROUNDOFF[format]
        panel.axvspan(0.25 / u, 16 / u, color="#F0E9DC", zorder=0)
        panel.axhspan(-300, 0, color=WARNING, alpha=0.07, zorder=0)
        panel.axhline(0, color="black", linewidth=0.9)
        panel.set_yscale("symlog", linthresh=1, linscale=1.5)
        panel.set_ylim(-300, 3)
        panel.set_yticks([-100, -10, -1, 0, 1], ["-100", "-10", "-1", "0", "1"])
        panel.text(0.25 / u * 1.15, 1.7, "1/(4u) to 16/u", fontsize=9, color=QUIET)
    panels[0].text(1, -100, "uphill", fontsize=11, color=WARNING)
    panels[0].set_ylabel(r"$\langle G,P\rangle$ over its exact value, worst seed")


def range_table(rows: list[Row]) -> list[dict]:
    """Errors in float16 by the size of one vector."""
    names = ("side", "arithmetic", "exponent", "curved_error", "error_over_law")
    return [{name: row[name] for name in names} for row in of(rows, Part.RANGE)]


TOP = 1e4  # where what is not a number is drawn


def draw_range(figure: Any, table: list[dict]) -> None:
    """A panel for small b, one for large a, and one for a layer in which sigma alone is large."""
    figure.set_size_inches(10.4, 4.4)
    panels = figure.subplots(1, len(SIDES), sharey=True)
    handles = []
    for panel, side in zip(panels, SIDES, strict=True):
        handles = []
        for arithmetic, size in (("rounded", 9), ("accumulated", 6), ("scalars", 4)):
            label, marker, line = LINES["closed", arithmetic]
            found = [row for row in table if (row["side"], row["arithmetic"]) == (side, arithmetic)]
            found.sort(key=lambda row: row["exponent"])
            x = [row["exponent"] for row in found]
            y = [row["curved_error"] if math.isfinite(row["curved_error"]) else TOP for row in found]
            handles.append(panel.plot(x, y, line, marker=marker, markersize=size, label=label)[0])
        style = {"color": "black", "linestyle": ":", "linewidth": 1.6, "label": LAW}
        handles.append(panel.axhline(ROUNDOFF["float16"] * 11, **style))
        panel.axhline(1, color=QUIET, linewidth=0.9)
        panel.set_yscale("log")
    exponents = sorted({row["exponent"] for row in table})
    panels[0].set_xticks(exponents, ["1", *(f"$10^{{-{k}}}$" for k in exponents[1:])])
    panels[1].set_xticks(exponents, [str(2**k) for k in exponents])
    panels[2].set_xticks(exponents, ["1/16", "1/8", "1/4", "1/2", "1", "2"])
    panels[0].set_ylim(top=3 * TOP)
    places = ("entries of b", "entries of a, 1024 of them", "entries of b, 256 by 384")
    titles = (r"$|b|^2$ underflows", r"$|a|^2$ overflows", r"$\sigma$ overflows")
    for panel, place, title in zip(panels, places, titles, strict=True):
        panel.set_xlabel(place)
        panel.set_title(title)
    panels[2].text(3.6, TOP, "not a number", fontsize=9, color=QUIET, ha="right", va="center")
    panels[0].text(0, 1.25, "nothing is left", fontsize=9, color=QUIET)
    panels[0].set_ylabel(r"relative error of $b^T P a$ in float16")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)


def training_table(rows: list[Row]) -> list[dict]:
    """Medians over seeds along training, for the smallest batch; with the least and largest loss."""
    table, everything = [], of(rows, Part.TRAINING)
    batch = min(row["batch"] for row in everything)
    for task in TASKS:
        for method in METHODS:
            found = of(everything, Part.TRAINING, task=task, method=method, batch=batch)
            for t in sorted({row["t"] for row in found}):
                here = [row for row in found if row["t"] == t]
                losses = [row["loss"] for row in here]
                table.append({
                    "task": task,
                    "method": method,
                    "batch": batch,
                    "t": t,
                    "correction": median(row["correction"] for row in here),
                    "ratio": median(row["ratio"] for row in here),
                    "loss": median(losses),
                    "least_loss": min(losses),
                    "largest_loss": max(losses),
                })
    return table


def draw_training(figure: Any, table: list[dict]) -> None:
    """The share of the correction on the left, losses on the right."""
    figure.set_size_inches(10.4, 4.4)
    left, *right = figure.subplots(1, 3)
    for task, line in zip(TASKS, ("-", "--"), strict=True):
        for method, color in ((METHODS[0], "#0072B2"), (METHODS[2], "#009E73")):
            found = [row for row in table if (row["task"], row["method"]) == (task, method)]
            x, y = [row["t"] for row in found], [row["correction"] for row in found]
            left.plot(x, y, line, color=color, label=f"{task}: {method}")
    left.set_yscale("log")
    left.set_ylim(1e-5, 2)
    left.axhline(1e-2, color=QUIET, linewidth=0.9, linestyle=":")
    left.set_title("what is subtracted from G")
    left.set_ylabel(r"$\|c\,b\,a^T\|\,/\,\|G\|$")
    handles = []
    for panel, task in zip(right, TASKS, strict=True):
        handles = []
        for method, color in zip(METHODS, ("#0072B2", "#D55E00", "#009E73"), strict=True):
            found = [row for row in table if (row["task"], row["method"]) == (task, method)]
            x = [row["t"] for row in found]
            line = "--" if method == METHODS[1] else "-"
            handles += panel.plot(x, [row["loss"] for row in found], line, color=color, label=method)
            low, high = ([row[name] for row in found] for name in ("least_loss", "largest_loss"))
            panel.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        panel.set_yscale("log")
        panel.set_title(f"loss: {task}")
    for panel in (left, *right):
        panel.set_xlabel("step")
    left.legend(fontsize=8, loc="lower right")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)


def sigma_table(rows: list[Row]) -> list[dict]:
    """Sigma over what it was at the first step, by layer: median, least and largest over seeds."""
    table, found = [], of(rows, Part.INTERPOLATION)
    for layer in sorted({row["layer"] for row in found}):
        for t in sorted({row["t"] for row in found}):
            here = [row for row in found if (row["layer"], row["t"]) == (layer, t)]
            values = [row["sigma_over_first"] for row in here]
            table.append({
                "layer": layer,
                "t": t,
                "sigma_over_first": median(values),
                "least": min(values),
                "largest": max(values),
                "loss": median(row["loss"] for row in here),
            })
    return table


def draw_sigma(figure: Any, table: list[dict]) -> None:
    """A line for each layer, and the loss."""
    panel = figure.subplots()
    for layer in dict.fromkeys(row["layer"] for row in table):
        found = [row for row in table if row["layer"] == layer]
        x = [row["t"] for row in found]
        drawn = panel.plot(x, [row["sigma_over_first"] for row in found], label=f"layer {layer}")[0]
        bounds = ([row[name] for row in found] for name in ("least", "largest"))
        panel.fill_between(x, *bounds, color=drawn.get_color(), alpha=0.15, linewidth=0)
    first = [row for row in table if row["layer"] == table[0]["layer"]]
    panel.plot([r["t"] for r in first], [r["loss"] for r in first], color="black", linestyle=":", label="loss, nats")
    panel.axhline(0.1, color=QUIET, linewidth=0.9)
    panel.set_yscale("log")
    panel.set_xlabel("step")
    panel.set_ylabel(r"$\sigma$ over what it was at first")
    panel.legend(ncols=4, fontsize=9, loc="upper right")


def average_table(rows: list[Row]) -> list[dict]:
    """What an average in bfloat16 covers of a change, by form, old weight and change."""
    names = ("form", "old_weight", "change_in_units", "change", "least_covered", "mean_covered", "most_covered")
    found = [row for row in of(rows, Part.AVERAGE, format="bfloat16") if row["moved"]]
    return [{name: row[name] for name in names} for row in found]


def draw_averages(figure: Any, table: list[dict]) -> None:
    """A panel for each of three old weights."""
    figure.set_size_inches(9.8, 4.6)
    weights = (0.05, 0.9, 0.99)
    panels = figure.subplots(1, len(weights), sharey=True)
    handles = []
    for panel, weight in zip(panels, weights, strict=True):
        handles = []
        for form, marker in zip(FORMS, "o^Dso", strict=True):
            found = [row for row in table if (row["form"], row["old_weight"]) == (form, weight)]
            found.sort(key=lambda row: row["change"])
            x, y = [row["change_in_units"] for row in found], [row["mean_covered"] for row in found]
            style: dict[str, Any] = {"marker": marker, "label": form}
            if form == "wide":  # on the compensated one: a ring around its marks
                style |= {"label": "convex, float32", "linestyle": "", "markersize": 10, "fillstyle": "none"}
            handles.append(panel.plot(x, y, **style)[0])
        if weight >= STALLS_FROM:
            panel.axvspan(1 / 20, 1, color="#F0E9DC", zorder=0)
            panel.text(1 / 18, 0.55, "said to stall", fontsize=9, color=QUIET)
        panel.set_xscale("log", base=2)
        panel.set_xlim(1 / 20, 80)
        panel.set_ylim(-0.05, 1.1)
        panel.set_title(rf"old weight $\beta$ = {weight}")
        panel.set_xlabel(r"change, in units of $u/(1-\beta)$")
    panels[0].set_ylabel("share of the change covered, mean")
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9)


def leak_table(rows: list[Row]) -> list[dict]:
    """Extra damping and its law, and what it does to the direction."""
    return [
        {
            "old_weight": row["old_weight"],
            "extra_over_damping": row["extra_over_damping"],
            "law": row["old_weight"] / (1 - row["old_weight"]),
            "cosine": row["cosine"],
        }
        for row in sorted(of(rows, Part.LEAK), key=lambda row: row["old_weight"])
    ]


def draw_leak(figure: Any, table: list[dict]) -> None:
    """Extra damping on the left, the direction on the right."""
    figure.set_size_inches(8.6, 4.0)
    left, right = figure.subplots(1, 2)
    x = [row["old_weight"] for row in table]
    places = range(len(x))
    left.plot(places, [row["law"] for row in table], ":", color="black", label="w / (1 - w)")
    left.plot(places, [row["extra_over_damping"] for row in table], "o", label="measured")
    left.set_yscale("log")
    left.set_ylabel(r"extra damping over $\lambda$")
    left.legend(fontsize=9)
    right.plot(places, [row["cosine"] for row in table], "o-")
    right.set_ylim(0, 1.03)
    right.set_ylabel("cosine to the direction without the leak")
    for panel in (left, right):
        panel.set_xticks(places, [f"{w:g}" for w in x])
        panel.set_xlabel("old weight w of the average")


def _figure(name: str, title: str, caption: str, table: Callable, draw: Callable) -> Figure:
    return Figure(name, title, caption, table, draw)


FIGURES = (
    _figure(
        "law",
        "What is left of the curved direction",
        "Relative error of b^T P a, worst seed and shape, for G within 1% of b a^T; above one, nothing of it is left. "
        "With sums in float32 the closed form follows u (1 + sigma / gamma) whatever the sizes; sums in the format "
        "raise it with their length. Float32 inside moves the law by the ratio of the two roundoffs, until the "
        "rounding of the result itself is all that is seen.",
        cancellation_table,
        draw_law,
    ),
    _figure(
        "descent",
        "Where Eva goes uphill",
        "Inner product of the computed P with G over its exact value, worst seed and shape, for G within 1% of b a^T. "
        "Below zero the step goes uphill. The band is where the first change of sign is claimed to lie.",
        cancellation_table,
        draw_descent,
    ),
    _figure(
        "range",
        "The range of float16",
        "One vector is made small or large, and gamma with it, so that sigma / gamma is 10 throughout: but for "
        "range, the error would stay near the dotted line. Squares of b underflow below 1e-4; |a|^2 overflows at "
        "1024 entries of 8, or a little later where the sum, formed in float16, is too small by then; sigma = m n "
        "overflows in a layer of 256 by 384 whose entries are of size one.",
        range_table,
        draw_range,
    ),
    _figure(
        "training",
        "What the released code's convention of b costs",
        "Left: the share of G that Eva subtracts, median over five seeds. The released code takes b from the mean "
        "loss, so that it is 1 / B of what it is by sample. Right: losses (band: least and largest of five seeds). "
        "On the classifier Eva as coded and G / gamma with the same clip are one method; for images, whose loss is "
        "a sum over pixels, the correction is larger, and runs can stay where only the biases of the output have "
        "been learned.",
        training_table,
        draw_training,
    ),
    _figure(
        "sigma",
        "Sigma falls as a network interpolates",
        "Adam on all of a few images in every step. For a layer with a bias b is the gradient of that bias, so "
        "that sigma goes to zero with it, and Eva becomes G / gamma. Bands: three seeds.",
        sigma_table,
        draw_sigma,
    ),
    _figure(
        "averages",
        "Averages of vectors that stand still",
        "Samples move once, and the average has eight times its memory to follow; bfloat16, mean over 64 "
        "significands or more. Plain forms end u / (1 - beta) or so short of the goal, relative to what it is "
        "there. The convex forms drift a little where the increments stand still: a few of their entries go all "
        "the way, most do not move.",
        average_table,
        draw_averages,
    ),
    _figure(
        "leak",
        "Damping that leaks into the average",
        "The K-FAC that Eva is compared with adds its damping in place to the running factor. Left: what is there "
        "beside the lambda that was asked for. The code's own old weight is 0.05, the usual one 0.95. Right: what "
        "that does to the preconditioned direction, on a factor whose spectrum covers three decades.",
        leak_table,
        draw_leak,
    ),
)
