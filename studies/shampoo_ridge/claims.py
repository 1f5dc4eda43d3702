"""What is claimed of ridges, and how the rows settle it."""

import math
from collections.abc import Iterable
from statistics import median

from precond_lab.study import Claim, Judgement, Row, Status

from .cases import DEFAULT, POWERS

SHAMPOO = "Shampoo's public codes: google-research/precondition, facebookresearch/optimizers, optax"
ANIL = "Anil et al., Scalable Second Order Optimization for Deep Learning (arXiv 2002.09018)"
ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8}


def of(rows: Iterable[Row], **axes: object) -> list[Row]:
    """The rows at given values of their axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if all(row[name] == value for name, value in axes.items())]
    if not found:
        raise LookupError(f"no rows with {axes}")
    return found


def typical(rows: Iterable[Row], name: str) -> float:
    """The median, with what is not a number as infinite."""
    return median(math.inf if math.isnan(row[name]) else row[name] for row in rows)


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def default_is_harmless(rows: list[Row]) -> Judgement:
    """R26."""
    parts, worst = [], 0.0
    for p in POWERS:
        found = of(rows, format="float32", p=p, spectrum="geometric", condition=1e6, ridge=DEFAULT)
        bias, update = typical(found, "bias"), typical(found, "bias_update")
        worst = max(worst, bias)
        parts.append(f"p = {p}: {bias:.1%} of the root, {update:.2%} of the update")
    return _settle(worst < 0.01, f"At a condition number of 1e6 the ridge alone changes, {'; '.join(parts)}.")


def needs_float64(rows: list[Row]) -> Judgement:
    """R3."""
    parts, least = [], math.inf
    for p in POWERS:
        by_ridge = errors(rows)["float32", p, 1e10]
        best = min((r for r in by_ridge if r <= DEFAULT), key=by_ridge.__getitem__)
        least = min(least, by_ridge[best])
        parts.append(f"p = {p}: {by_ridge[best]:.0%} with a ridge of {best:g}, {by_ridge[DEFAULT]:.0%} with 1e-06")
    return _settle(
        least > 0.5, f"The least errors of the float32 root at a condition number of 1e10, {'; '.join(parts)}."
    )


def rounding_is_capped(rows: list[Row]) -> Judgement:
    """A ridge bounds the rounding error by what the condition number of the damped matrix allows."""
    worst, where = 0.0, ""
    for row in rows:
        ridge, p = row["ridge"], row["p"]
        attainable = (1 + ridge) / (1 / row["condition"] + ridge) / p * ROUNDOFF[row["format"]]
        if ridge >= DEFAULT and attainable < 2.0**-5 and row["rounding"] / attainable > worst:
            worst = row["rounding"] / attainable
            where = f"{row['format']}, p = {p}, {row['spectrum']}, condition {row['condition']:g}, ridge {ridge:g}"
    return _settle(worst <= 10, f"The largest rounding error is {worst:.2g} times kappa u / p ({where}).")


Errors = dict[tuple[str, int, float], dict[float, float]]
"""By format, p and condition number: the error by ridge."""


def errors(rows: list[Row]) -> Errors:
    """The whole errors on the geometric spectrum, over the seeds."""
    cells: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["spectrum"] == "geometric":
            cells.setdefault((row["format"], row["p"], row["condition"], row["ridge"]), []).append(row)
    found: Errors = {}
    for (*place, ridge), cell in cells.items():
        found.setdefault(tuple(place), {})[ridge] = typical(cell, "error")
    return found


def balance(rows: list[Row]) -> Judgement:
    """The ridge of least error where kappa u exceeds one."""
    off = []
    for (format, p, condition), by_ridge in errors(rows).items():
        u = ROUNDOFF[format]
        if condition * u >= 1:
            best, predicted = min(by_ridge, key=by_ridge.__getitem__), math.sqrt(u / condition)
            ratio = math.log10(best / predicted) if best else -math.inf
            off.append((abs(ratio), f"{format}, p = {p}, condition {condition:g}: {best:g}, not {predicted:.1g}"))
    distance, where = max(off)
    return _settle(distance <= 1, f"Furthest from it of {len(off)}: {where}.")


def none_is_needed(rows: list[Row]) -> Judgement:
    """Where kappa u is small, no ridge does better than none by much."""
    found = [
        (by_ridge[0.0] / min(by_ridge.values()), f"{format}, p = {p}, condition {condition:g}")
        for (format, p, condition), by_ridge in errors(rows).items()
        if condition * ROUNDOFF[format] <= 2.0**-4
    ]
    worst, where = max(found)
    return _settle(worst <= 1.5, f"At most {worst:.2f} times the error with the best ridge ({where}).")


CLAIMS = (
    Claim(
        "R26",
        "A ridge of 1e-6 of the largest eigenvalue is harmless: it changes the root by less than one percent.",
        SHAMPOO + " (default)",
        default_is_harmless,
    ),
    Claim(
        "R3",
        "Inverse roots need float64: at a condition number of 1e10 no ridge up to 1e-6 leaves half of the root right.",
        ANIL,
        needs_float64,
    ),
    Claim(
        "R26-cap",
        "With a ridge the rounding error is at most ten times kappa u / p, kappa the condition number with the ridge, "
        "as long as that is small.",
        "derived",
        rounding_is_capped,
    ),
    Claim(
        "R26-balance",
        "Where kappa u exceeds one, the ridge of the least error is within a factor of ten of sqrt(u / kappa), "
        "relative to the largest eigenvalue.",
        "derived",
        balance,
    ),
    Claim(
        "R26-none",
        "Where kappa u is below 1/16 no ridge is needed for rounding: without one the error is at most 1.5 times the "
        "least.",
        "derived",
        none_is_needed,
    ),
)


def answer(rows: list[Row]) -> str:
    """The sentence below the question."""
    axes = {"format": "float32", "p": 4, "spectrum": "geometric", "condition": 1e6}
    found, bare = of(rows, ridge=DEFAULT, **axes), of(rows, ridge=0.0, **axes)
    gain, where = max(
        (by_ridge[0.0] / error, f"{ridge:g} in {format} at {condition:g}, p = {p}")
        for (format, p, condition), by_ridge in errors(rows).items()
        for ridge, error in by_ridge.items()
    )
    return (
        f"At a condition number of 1e6 and p = 4 the customary ridge of 1e-6 changes the root by "
        f"{typical(found, 'bias'):.1%} to save a rounding error of {typical(bare, 'rounding'):.2%} in float32; the "
        f"update of an optimizer feels {typical(found, 'bias_update'):.2%}. With an iteration that returns its best "
        f"iterate no ridge lessens the error of the root by more than a factor of {gain:.2g} ({where})."
    )
