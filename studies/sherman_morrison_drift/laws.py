"""Judges of the laws in time: of asymmetry, of what is forgotten, of sums that freeze, of wind-up."""

import math
from statistics import median

from precond_lab.study import Judgement, Row

from .cases import BETAS, NAIVE, ROUNDOFF, STAGNATION_STEPS, Part
from .rows import cells, of, settle, typical


def place(row: Row) -> str:
    """Where a figure comes from."""
    return f"{row['form']}, {row['format']}, beta = {row['beta']}"


def _against_law(found: list[Row]) -> tuple[bool, str]:
    ratios = [(math.inf if row["first_loss"] is None else row["first_loss"] / row["law"], row) for row in found]
    low, high = (end(ratios, key=lambda item: item[0]) for end in (min, max))
    text = (
        f"The first loss comes after {low[0]:.2f} ({place(low[1])}: step {low[1]['first_loss']}) to {high[0]:.2f} "
        f"times "
        f"as many steps ({place(high[1])}: step {high[1]['first_loss']}, law {high[1]['law']:.0f}), "
        f"{median(ratio for ratio, _ in ratios):.2f} in the median of {len(found)} runs."
    )
    return low[0] >= 0.75 and high[0] <= 1.25, text


def _naive(rows: list[Row], arithmetic: str) -> list[Row]:
    found = of(rows, Part.ASYMMETRY, arithmetic=arithmetic)
    return [row for row in found if row["form"] in NAIVE]


def asymmetry_law(rows: list[Row]) -> Judgement:
    """E7."""
    return settle(*_against_law(_naive(rows, "computed")))


def rounded_decay(rows: list[Row]) -> Judgement:
    """E7 where the decay is rounded too."""
    found = _naive(rows, "all")
    holds, text = _against_law(found)
    stored = of(found, format="bfloat16", beta=BETAS[-1])
    exact = math.log(1 / ROUNDOFF["bfloat16"]) / math.log(1 / BETAS[-1])
    return settle(
        holds, f"{text} In bfloat16 0.99 becomes 0.98828: {stored[0]['law']:.0f} steps instead of {exact:.0f}."
    )


def asymmetry_grows(rows: list[Row]) -> Judgement:
    """E7: the growth in a step."""
    found = [row for row in _naive(rows, "computed") if row["growth"] is not None]
    missing = len(_naive(rows, "computed")) - len(found)
    shares = [(math.log(row["growth"]) / math.log(1 / row["beta"]), row) for row in found]
    far, row = max(shares, key=lambda item: abs(item[0] - 1))
    return settle(
        not missing and abs(far - 1) <= 0.05,
        f"The logarithm of the growth in a step is at most {abs(far - 1):.1%} from that of 1/beta ({place(row)}: "
        f"{row['growth']:.5f} for {1 / row['beta']:.5f}); {missing} runs grew too little to tell.",
    )


def symmetric_survives(rows: list[Row]) -> Judgement:
    """E7: the cure."""
    found = of(rows, Part.ASYMMETRY, form="symmetric")
    dead = [row for row in found if row["first_loss"] is not None]
    least = min(row["steps"] / row["law"] for row in found)
    return settle(
        not dead and least >= 10,
        f"{len(dead)} of {len(found)} runs are lost within {found[0]['steps']} steps, {least:.1f} times the law or "
        f"more.",
    )


def both_contract(rows: list[Row]) -> Judgement:
    """E7: the form for any square matrix."""
    found = of(rows, Part.ASYMMETRY, form="both_sided")
    dead = [row for row in found if row["first_loss"] is not None]
    most, row = max(((row["largest_asymmetry"] / ROUNDOFF[row["format"]], row) for row in found), key=lambda x: x[0])
    return settle(
        not dead and most <= 10,
        f"The antisymmetric part is {most:.2g} u of the symmetric one at most ({place(row)}); {len(dead)} of "
        f"{len(found)} runs are lost within {row['steps']} steps.",
    )


def forgets(rows: list[Row]) -> Judgement:
    """E8."""
    found = of(rows, Part.PERTURBATION)
    worst = max(found, key=lambda row: row["deviation"])
    return settle(
        worst["deviation"] <= 1e-8,
        f"At most {worst['deviation']:.1g} of beta^t dC_0 off in {worst['steps']} steps (beta = {worst['beta']}).",
    )


def _curve(rows: list[Row], format: str, form: str = "symmetric", arithmetic: str = "stored") -> dict[int, list[Row]]:
    found = of(rows, Part.STAGNATION, form=form, arithmetic=arithmetic, format=format)
    return {step: of(found, step=step) for step in STAGNATION_STEPS}


def freezes(rows: list[Row]) -> Judgement:
    """E21."""
    parts, holds = [], True
    for format in ("bfloat16", "float16"):
        late = {step: cell for step, cell in _curve(rows, format).items() if step > 4 / ROUNDOFF[format]}
        least = min(row["error"] for cell in late.values() for row in cell)
        holds = holds and least > 0.2
        parts.append(f"{format} at least {least:.2g} after {min(late)} steps and more")
    last = max(row["error"] for row in _curve(rows, "float32")[STAGNATION_STEPS[-1]])
    return settle(
        holds and last < 1e-5, f"{', '.join(parts)}; float32 {last:.2g} at most after {STAGNATION_STEPS[-1]}."
    )


def freezing_law(rows: list[Row]) -> Judgement:
    """E21: the law drawn beside it."""
    found = []
    for format in ("bfloat16", "float16"):
        for step, cell in _curve(rows, format).items():
            found.append((typical(cell, "error") / cell[0]["law"], format, step))
    low, high = min(found), max(found)
    return settle(
        low[0] >= 0.5 and high[0] <= 2,
        f"From {low[0]:.2f} ({low[1]}, {low[2]} steps) to {high[0]:.2f} times the law ({high[1]}, {high[2]} steps).",
    )


def stochastic_goes_on(rows: list[Row]) -> Judgement:
    """E21: a cure."""
    last = STAGNATION_STEPS[-1]
    errors = {
        format: [typical(_curve(rows, format, arithmetic=kind)[last], "error") for kind in ("stochastic", "stored")]
        for format in ("bfloat16", "float16")
    }
    text = ", ".join(f"{format} {new:.2g} instead of {old:.2g}" for format, (new, old) in errors.items())
    return settle(max(new for new, _ in errors.values()) <= 0.2, f"Errors after {last} steps: {text}.")


def _windup(rows: list[Row], **axes: object) -> list[Row]:
    return of(rows, Part.WINDUP, **axes)


def _overflows(rows: list[Row], stream: str) -> Judgement:
    found = _windup(rows, cure="none", stream=stream)
    far = [(math.inf if row["overflow"] is None else abs(row["overflow"] / row["law"] - 1), row) for row in found]
    worst, row = max(far, key=lambda item: item[0])
    steps = ", ".join(
        f"{sorted(r['overflow'] or math.inf for r in cell)} for a law of {cell[0]['law']}"
        for _, cell in cells(found, "beta")
    )
    return settle(worst <= 0.02, f"Steps {steps}: at most {worst:.1%} off (beta = {row['beta']}).")


def winds_up(rows: list[Row]) -> Judgement:
    """E20 where coordinates are left alone."""
    return _overflows(rows, "graded")


def winds_up_rotated(rows: list[Row]) -> Judgement:
    """E20 where other directions are."""
    return _overflows(rows, "rotated")


def windup_loses(rows: list[Row]) -> Judgement:
    """E20: definiteness before the overflow."""
    found = _windup(rows, cure="none", stream="rotated")
    ratios = [(row["first_loss"] or math.inf) / row["loss_law"] for row in found]
    return settle(
        min(ratios) >= 0.75 and max(ratios) <= 1.25,
        f"After {min(ratios):.2f} to {max(ratios):.2f} times ln(1/u) / ln(1/beta) steps, "
        f"{max(row['first_loss'] / row['overflow'] for row in found):.2f} of the way to the overflow at most.",
    )


def cured(rows: list[Row]) -> Judgement:
    """E20: cures that are enough."""
    found = _windup(rows, cure="damping") + _windup(rows, cure="blending")
    dead = [row for row in found if row["overflow"] is not None or row["first_loss"] is not None]
    largest = max(found, key=lambda row: row["largest_entry"])
    return settle(
        not dead,
        f"{len(dead)} of {len(found)} runs overflow or lose definiteness; the largest entry is "
        f"{largest['largest_entry']:.3g} ({largest['cure']}, beta = {largest['beta']}).",
    )


def weak_blend(rows: list[Row]) -> Judgement:
    """E20: a cure that is not."""
    found = _windup(rows, cure="weak blending")
    dead = [row for row in found if row["overflow"] is not None]
    steps = sorted(row["overflow"] for row in of(found, stream="graded") if row["overflow"] is not None)
    return settle(
        not dead,
        f"With 1/32 of the identity and beta = 0.95 {len(dead)} of {len(found)} runs overflow, where coordinates "
        f"are left "
        f"alone in steps {steps} (law: {found[0]['law']}).",
    )
