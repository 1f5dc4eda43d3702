"""What is claimed of steps and their digits, and how the rows settle it."""

from math import isfinite, log2
from statistics import median

from precond_lab.study import Claim, Judgement, Row

from .cases import DESCENDING, POWERS, ROUNDOFF
from .law import GENEROUS, TOLERANCES, developed, growth, measured_switch, predicted_switch
from .selection import curves, descends, extremes, place, settle

DERIVED = "derived: an error u of M in the direction of its eigenvalue m changes X by u / m"
PAIRS = DESCENDING[:3]
"""Those whose wider format is wide enough for every condition number."""
PRODUCTS = {"coupled_newton": {2: 3, 4: 4}, "coupled_higher_order": {2: 4, 4: 5}}
"""Of matrices in a step, by p; the order is 3."""


def _high_first(rows: list[Row], *methods: str) -> Judgement:
    """Whether the error is of some u where the format changes at the developed step, if the wider format is enough."""
    found = []
    for key, curve in curves(rows).items():
        at = developed(curve)
        u = ROUNDOFF[curve[0]["late"]]
        if key[0] in methods and at is not None and descends(at) and 2 * curve[-1]["error"] <= GENEROUS * u:
            found.append((at["error"] / u, at))
    if not found:
        raise LookupError(f"no schedules of {methods}")
    most, worst = max(found, key=lambda x: x[0])
    wrong = sum(x > GENEROUS for x, _ in found)
    return settle(
        not wrong,
        f"The error is larger in {wrong} of {len(found)} schedules; at most it is {most:.2g} u, or "
        f"{worst['error']:.2g} ({place(worst)}, step {worst['switch']}).",
    )


def high_first(rows: list[Row]) -> Judgement:
    """R10."""
    return _high_first(rows, "coupled_newton")


def high_first_others(rows: list[Row]) -> Judgement:
    """R10 for iterations that carry M along as coupled Newton does."""
    return _high_first(rows, "coupled_higher_order", "minimax_polynomial")


def high_first_newton_schulz(rows: list[Row]) -> Judgement:
    """R10 for an iteration that forms M from what it returns."""
    return _high_first(rows, "newton_schulz")


def share(rows: list[Row]) -> Judgement:
    """How many steps high first saves."""
    found = []
    for curve in curves(rows, method="coupled_newton").values():
        at = developed(curve)
        if at is not None and descends(at) and (at["early"], at["late"]) in PAIRS:
            found.append((1 - at["switch"] / curve[-1]["taken"], at))
    (low, row), (high, _) = extremes(found)
    return settle(low >= 1 / 3, f"Between {low:.0%} ({place(row)}) and {high:.0%} of the steps.")


def low_first(rows: list[Row]) -> Judgement:
    """R10, the other half."""
    everything = curves(rows)
    ratios = []
    for key, curve in everything.items():
        method, p, n, early, late, condition = key
        if not descends(curve[0]):
            narrow = everything[method, p, n, late, early, condition][0]["error"]
            # What is lost in both is not made good.
            ratios += [
                (row["error"] / narrow if isfinite(narrow) else 1 if not isfinite(row["error"]) else 0, row)
                for row in curve
                if row["switch"] > 0
            ]
    (low, row), _ = extremes(ratios)
    less = sum(ratio < 0.5 for ratio, _ in ratios)
    first = median(ratio for ratio, row in ratios if row["switch"] == 1)
    return settle(
        not less,
        f"The error is at least {low:.2g} times that of all steps in the narrower format ({place(row)}, "
        f"{row['switch']} narrow), and less than half in {less} of {len(ratios)} schedules; with a single narrow step "
        f"it is {first:.2g} times that in the median.",
    )


def _switches(rows: list[Row]) -> list[tuple[int, int, float, list[Row]]]:
    """Measured and predicted switches of coupled Newton, with the tolerance, where there is anything to predict."""
    found = []
    for curve in curves(rows, method="coupled_newton").values():
        if (curve[0]["early"], curve[0]["late"]) not in PAIRS:
            continue
        for multiple in TOLERANCES:
            tolerance = multiple * ROUNDOFF[curve[0]["late"]]
            measured, predicted = measured_switch(curve, tolerance), predicted_switch(curve, tolerance)
            if measured is not None and 0 < predicted < len(curve):
                found.append((measured, predicted, tolerance, curve))
    if not found:
        raise LookupError("no switches to predict")
    return found


def law_suffices(rows: list[Row]) -> Judgement:
    """The digits law as a promise."""
    over = [
        (curve[predicted]["error"] / tolerance, curve[predicted]) for _, predicted, tolerance, curve in _switches(rows)
    ]
    ratio, row = max(over, key=lambda x: x[0])
    return settle(
        ratio <= 1,
        f"At the predicted step the error is at most {ratio:.2g} of the tolerance, over {len(over)} cases "
        f"({place(row)}, step {row['switch']}).",
    )


def law_is_sharp(rows: list[Row]) -> Judgement:
    """The digits law as an equation."""
    early = [(predicted - measured, curve[measured]) for measured, predicted, _, curve in _switches(rows)]
    (least, _), (most, row) = extremes(early)
    middle = median(x for x, _ in early)
    return settle(
        max(-least, most) <= 1,
        f"The format can change between {least} and {most} steps before the predicted one ({place(row)}), {middle:g} "
        f"in the median of {len(early)} cases.",
    )


def rate(rows: list[Row]) -> Judgement:
    """What a step in the wider format gains."""
    parts, near = [], []
    for p in POWERS:
        gains = []
        for curve in curves(rows, method="coupled_newton", p=p).values():
            u = ROUNDOFF[curve[0]["late"]]
            least = max(GENEROUS * u, 4 * curve[-1]["error"])
            inside = [row for row in curve if descends(row) and least <= row["error"] <= 0.25]
            if inside and (steps := inside[-1]["switch"] - inside[0]["switch"]) >= 3:
                gains.append(log2(inside[0]["error"] / inside[-1]["error"]) / steps)
        wanted = log2(growth(p))
        near.append(abs(median(gains) / wanted - 1) <= 0.15)
        parts.append(f"p = {p}: {median(gains):.2f} bits, of {wanted:.2f}, over {len(gains)} schedules")
    return settle(all(near), f"In the median, {'; '.join(parts)}.")


def formats(rows: list[Row]) -> Judgement:
    """Whether the switch knows the formats."""
    switches: dict[tuple, list[int | None]] = {}
    for (_, p, n, early, late, condition), curve in curves(rows, method="coupled_newton").items():
        if (early, late) in PAIRS:
            found = measured_switch(curve, GENEROUS * ROUNDOFF[late])
            switches.setdefault((p, n, condition), []).append(found)
    spreads = []
    for key, found in switches.items():
        if len(found) == len(PAIRS) and None not in found:
            known = [x for x in found if x is not None]
            spreads.append((max(known) - min(known), key))
    (_, _), (most, (p, n, condition)) = extremes(spreads)
    return settle(
        most <= 2,
        f"They differ by up to {most} steps (p = {p}, n = {n}, {condition:g}), {median(x for x, _ in spreads):g} in "
        f"the median of {len(spreads)} cases.",
    )


def early_products(rows: list[Row]) -> Judgement:
    """Whether a higher order makes the part in the wider format shorter."""
    parts, fewer = [], []
    condition = 1e6
    for p in POWERS:
        work = {}
        for method, products in PRODUCTS.items():
            axes = {"method": method, "p": p, "n": 16, "early": "float32", "late": "bfloat16", "condition": condition}
            (curve,) = curves(rows, **axes).values()
            switch = measured_switch(curve, GENEROUS * ROUNDOFF["bfloat16"])
            if switch is None:
                raise LookupError(f"no switch for {axes}")
            work[method] = switch * products[p], switch
        (newton, steps), (third, thirds) = work["coupled_newton"], work["coupled_higher_order"]
        fewer.append(third < 0.95 * newton)
        parts.append(f"p = {p}: {third} products in {thirds} steps of order 3, {newton} in {steps} of Newton")
    return settle(all(fewer), f"At {condition:.0e} and an error of {GENEROUS} u, {'; '.join(parts)}.")


CLAIMS = (
    Claim(
        "R10",
        "High precision first suffices: coupled Newton may go on in a narrower format as soon as the smallest "
        "eigenvalue of M is 1/16. The error is then at most 16 unit roundoffs of that format, wherever it is at most "
        "half of that with all steps in the wider one.",
        DERIVED,
        high_first,
    ),
    Claim(
        "R10-share",
        "That leaves at least a third of the steps to the narrower format, up to a condition number of 1e6.",
        DERIVED,
        share,
    ),
    Claim(
        "R10-low-first",
        "Low precision first is not made good by half: however few of the first steps are in a narrower format, the "
        "error is at least half of what it is with all steps in it.",
        DERIVED,
        low_first,
    ),
    Claim(
        "R10-others",
        "High precision first suffices for the iterations of order 3 and by minimax polynomials too.",
        DERIVED,
        high_first_others,
    ),
    Claim(
        "R10-newton-schulz",
        "It suffices for coupled Newton-Schulz, p = 2, too.",
        "the same, generalized to an iteration that forms M = Z Y anew",
        high_first_newton_schulz,
    ),
    Claim(
        "R10-law",
        "Step k of coupled Newton needs no more than log2(1 / t) + log2(1 / m_0) - k p log2(1 + 1/p) bits for an error "
        "t: if the format changes where its digits fulfill that, the error is at most t, wherever it is with all steps "
        "in the wider format.",
        DERIVED,
        law_suffices,
    ),
    Claim(
        "R10-law-sharp",
        "It needs as many: to within a step, the format cannot change earlier, wherever it can change at all.",
        DERIVED,
        law_is_sharp,
    ),
    Claim(
        "R10-rate",
        "Each further step in the wider format gains p log2(1 + 1/p) bits, to within 15 percent.",
        DERIVED,
        rate,
    ),
    Claim(
        "R10-formats",
        "When the format may change is a matter of the tolerance in unit roundoffs of the narrower format, and not of "
        "the formats: for 16 u it is the same step, up to two, for float32 after float64 as for float16 and bfloat16 "
        "after float32, wherever all three reach 16 u.",
        DERIVED,
        formats,
    ),
    Claim(
        "R23-early",
        "The iteration of order 3 needs fewer products of matrices in the wider format than Newton's, by five percent "
        "at least.",
        "derived: it has fewer first steps",
        early_products,
    ),
)
