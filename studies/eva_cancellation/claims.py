"""What is claimed of Eva in low precision and of its released code, and how the rows settle it."""

import math
from collections.abc import Callable

from precond_lab.study import Claim, Judgement, Row

from .cases import FORMATS, NOISES, ROUNDED, Part
from .error_claims import (
    LOW,
    SUMMED,
    error_law,
    float32_norms,
    norms_leave_float16,
    nothing_is_left,
    shapes_of,
    split_law,
    sums_law,
    terms,
)
from .rows import ALONG, CODED, ROUNDOFF, STALLS_FROM, largest, least, of, settle
from .training_claims import (
    bias_gradient,
    by_sample_corrects,
    correction,
    negligible,
    same_as_plain,
    sigma_decays,
)

EVA = "Eva (Zhang, Shi and Li, ICLR 2023)"
CODE = "the code released with Eva (lzhangbv/eva, 2023)"


def closed_form_is_the_solve(rows: list[Row]) -> Judgement:
    """E1."""
    found = of(rows, Part.SOLVE)
    different, worst = sum(row["different"] for row in found), largest(found, "program_difference")
    return settle(
        different == 0 and worst <= 1e-45,
        f"{different} of {sum(row['trials'] for row in found)} closed forms in rationals differ from the dense solve; "
        f"the program, run with 50 digits, differs by {worst:.1e} relative to the largest entry.",
    )


def descent_inequality(rows: list[Row]) -> Judgement:
    """E2."""
    found = of(rows, Part.DESCENT)
    violations, tested = sum(row["violations"] for row in found), sum(row["tested"] for row in found)
    return settle(
        violations == 0 and tested >= 10**4,
        f"{violations} violations in {tested:,} cases in rationals with G other than zero; <G, P> (gamma + sigma) / "
        f"|G|^2 is at least {least(found, 'least_ratio'):.9g}, and exactly one in "
        f"{sum(row['equalities'] for row in found):,} of them.",
    )


def first_flip(rows: list[Row], format: str, arithmetic: str) -> float:
    """The least sigma / gamma at which <G, P> is negative for a G near b a^T; infinite if it never is."""
    axes = {"program": "closed", "arithmetic": arithmetic, "format": format, "noise": ALONG}
    return min((r["ratio"] for r in of(rows, Part.CANCELLATION, **axes) if r["descent"] < 0), default=math.inf)


def signs_flip(rows: list[Row]) -> Judgement:
    """E3-flips."""
    figures, holds = [], True
    for format in FORMATS:
        u, found = ROUNDOFF[format], {arithmetic: first_flip(rows, format, arithmetic) for arithmetic in LOW}
        low, high = 0.25 / u, 16 / u
        holds &= all(low <= ratio <= high for ratio in found.values())
        listed = ", ".join(f"{ratio:.3g} {arithmetic}" for arithmetic, ratio in found.items())
        figures.append(f"{format}, where the window is {low:.0f} to {high:.0f}: {listed}")
    return settle(holds, f"The least sigma / gamma with a negative <G, P> in {'; in '.join(figures)}.")


def float32_inside(rows: list[Row]) -> Judgement:
    """E3-float32."""
    axes = {"program": "closed", "arithmetic": "inside"}
    found = [row for format in FORMATS for row in of(rows, Part.CANCELLATION, format=format, **axes)]
    within = [row for row in found if row["log_ratio"] <= 4]
    return settle(
        least(within, "descent") > 0,
        f"<G, P> is at least {least(within, 'descent'):.3f} of what it should be up to sigma / gamma = 1e4, and at "
        f"least {least(found, 'descent'):.3f} up to 1e6.",
    )


SQUARE = 0.25 / ROUNDOFF["bfloat16"] ** 2  # the sigma / gamma up to which the split is said to descend


def split_descends(*arithmetics: str, up_to: float = math.inf) -> Callable[[list[Row]], Judgement]:
    """Whether the split never turns uphill in bfloat16, in some of the arithmetics."""

    def judge(rows: list[Row]) -> Judgement:
        figures, worst = [], math.inf
        for arithmetic in arithmetics:
            axes = {"program": "split", "arithmetic": arithmetic, "format": "bfloat16"}
            found = [row for row in of(rows, Part.CANCELLATION, **axes) if 10 ** row["log_ratio"] <= up_to]
            worst = min(worst, least(found, "descent"))
            noise = {n: least([r for r in found if r["noise"] == n], "descent") for n in NOISES}
            listed = ", ".join(f"{value:.2f} at {n:g}" for n, value in noise.items())
            up = min((row["ratio"] for row in found if not row["descent"] > 0), default=None)
            flips = "never negative" if up is None else f"negative from sigma / gamma = {up:.2g}"
            figures.append(f"{arithmetic}, by the noise beside b a^T: {listed}; {flips}")
        return settle(worst > 0, f"Least <G, P> in bfloat16 over what it should be, {'. '.join(figures)}.")

    return judge


def stalling(rows: list[Row], format: str = "bfloat16") -> list[Row]:
    """Averages that are said to stall: plain forms, old weights of 0.99 or more, changes below u / (1 - beta)."""
    forms = ("convex", ROUNDED, "incremental")
    found = [row for form in forms for row in of(rows, Part.AVERAGE, form=form, format=format)]
    return [row for row in found if row["old_weight"] >= STALLS_FROM and row["change_in_units"] < 1]


def averages_stall(name: str) -> Callable[[list[Row]], Judgement]:
    """Whether less than half of the change is covered: by the mean over the entries, or by every entry."""

    def judge(rows: list[Row]) -> Judgement:
        found = stalling(rows)
        forms = dict.fromkeys(row["form"] for row in found)
        worst = {form: largest([r for r in found if r["form"] == form], name) for form in forms}
        figures = ", ".join(f"{value:.0%} {form}" for form, value in worst.items())
        return settle(max(worst.values()) < 0.5, f"At most covered of a change below u / (1 - beta): {figures}.")

    return judge


def averages_cured(rows: list[Row]) -> Judgement:
    """E25-cures."""
    figures, holds = [], True
    for form in ("wide", "compensated"):
        found = [row for row in of(rows, Part.AVERAGE, form=form, format="bfloat16") if row["moved"]]
        holds &= least(found, "least_covered") >= 0.9
        figures.append(f"{least(found, 'least_covered'):.1%} {form}")
    return settle(holds, f"Least share of a change that an entry covers in bfloat16: {', '.join(figures)}.")


def coded_average_is_safe(rows: list[Row]) -> Judgement:
    """E25-coded."""
    gaps = {}
    for form in ("convex", ROUNDED, "incremental"):
        found = [r for r in of(rows, Part.AVERAGE, form=form, format="bfloat16", old_weight=0.05) if r["moved"]]
        gaps[form] = max(
            (1 - min(r["least_covered"], 2 - r["most_covered"])) * r["change"] / ROUNDOFF["bfloat16"] for r in found
        )
    figures = ", ".join(f"{gap:.2f} u {form}" for form, gap in gaps.items())
    return settle(max(gaps.values()) <= 3, f"Largest gap that is left, relative to where the average was: {figures}.")


def damping_leaks(rows: list[Row]) -> Judgement:
    """E27."""
    found = sorted(of(rows, Part.LEAK), key=lambda row: row["old_weight"])
    law = {row["old_weight"]: row["old_weight"] / (1 - row["old_weight"]) for row in found}
    apart = max(abs(row["extra_over_damping"] / law[row["old_weight"]] - 1) + row["unevenness"] for row in found)
    figures = ", ".join(
        f"{r['extra_over_damping']:.4g} at {r['old_weight']:g} (cosine {r['cosine']:.3f})" for r in found
    )
    return settle(
        apart <= 1e-6,
        f"Extra damping over lambda, and the cosine of the direction to that without the leak: {figures}; off the "
        f"law by {apart:.0e} at most.",
    )


def answer(rows: list[Row]) -> str:
    """The study's question, answered by its bfloat16 rows."""
    flips = {name: first_flip(rows, "bfloat16", name) for name in LOW}
    summed = [r for name in SUMMED for r in of(rows, Part.CANCELLATION, program="closed", arithmetic=name)]
    rounded = of(rows, Part.CANCELLATION, program="closed", arithmetic="rounded")
    last = shapes_of(rounded)[-1]
    grown = largest([row for row in rounded if row["shape"] == last], "error_over_law")
    split = of(rows, Part.CANCELLATION, program="split", format="bfloat16", arithmetic="accumulated")
    kept = least([row for row in split if 10 ** row["log_ratio"] <= SQUARE], "descent")
    up = min((10 ** row["log_ratio"] for row in split if not row["descent"] > 0), default=None)
    lost = "and beyond" if up is None else f"but not always from {up:.1g} on"
    share = max(correction(rows, "classes", CODED).values())
    return (
        "Where sigma / gamma nears 1/u: with sums in float32 the error of the curved direction is at most "
        f"{largest(summed, 'error_over_law'):.1f} u (1 + sigma / gamma), and with every operation rounded it grows "
        f"with the layer, to {grown:.0f} of these at {last}. In bfloat16 <G, P> turns negative from sigma / gamma = "
        f"{flips['rounded']:.0f} with every operation rounded and from {flips['scalars']:.0f} with scalars in float32. "
        "Float32 inside keeps it up to 1e4 and beyond; so does the two-pass split in bfloat16 with sums in float32 up "
        f"to 1 / (4 u^2), with at least {kept:.2f} of <G, P>, {lost}. The released code is not near any of it on the "
        f"classifier: its correction changes G by {share:.1g}."
    )


def _claim(name: str, sentence: str, judge: Callable[[list[Row]], Judgement], source: str = "derived") -> Claim:
    return Claim(name, sentence, source, judge)


CLAIMS = (
    _claim(
        "E1", "Eva's closed form equals the dense solve with b b^T (x) a a^T + gamma I.", closed_form_is_the_solve, EVA
    ),
    _claim("E2", "In exact arithmetic <G, P> >= |G|^2 / (gamma + sigma), sigma = |a|^2 |b|^2.", descent_inequality),
    _claim(
        "E3",
        "With sums in float32 the relative error of b^T P a is at most c u (1 + sigma / gamma) with c <= 10, whatever "
        "the sizes, in bfloat16 and float16, for sigma / gamma from 1 to 1e6.",
        error_law(*SUMMED),
    ),
    _claim(
        "E3-rounded",
        "So it is with every operation and every partial sum rounded to the format.",
        error_law("rounded"),
    ),
    _claim(
        "E3-sums",
        "With every operation and partial sum rounded the error is at most (m + n) u (1 + sigma / gamma) for a layer "
        "of m by n.",
        sums_law,
    ),
    _claim(
        "E3-flips",
        "For G within 1% of b a^T the first negative <G, P> comes at a sigma / gamma between 1 / (4u) and 16 / u, with "
        "every operation rounded, with sums in float32, and with scalars in float32.",
        signs_flip,
    ),
    _claim("E3-float32", "Computed in float32 inside, <G, P> > 0 up to sigma / gamma = 1e4.", float32_inside),
    _claim(
        "E3-range",
        "In float16 entries of b of 1e-4 or less, entries of a of 16 or more at n = 1024, or entries of size one in "
        "a layer of 256 by 384 put |b|^2, |a|^2 or sigma outside the normal numbers, and the error of b^T P a is more "
        "than ten times the law of E3.",
        norms_leave_float16,
    ),
    _claim("E3-range-lost", "Nothing is left of the curved direction then: an error of one or more.", nothing_is_left),
    _claim(
        "E3-range-float32", "With all scalars in float32 the law of E3 holds at these sizes as well.", float32_norms
    ),
    _claim(
        "E4",
        "The two-pass split keeps <G, P> > 0 in bfloat16 for all sigma / gamma up to 1e6, every operation and "
        "every partial sum rounded.",
        split_descends("rounded"),
    ),
    _claim("E4-accumulated", "It does with sums in float32.", split_descends("accumulated", "scalars")),
    _claim(
        "E4-square",
        "With sums in float32 the split keeps <G, P> > 0 for all sigma / gamma up to 1 / (4 u^2), 16384 in bfloat16.",
        split_descends("accumulated", "scalars", up_to=SQUARE),
    ),
    _claim(
        "E4-error",
        "By the split with sums and scalars in float32 the error of b^T P a is at most 10 (u + u (u + rho) sigma / "
        "gamma), rho being the part of G beside b a^T over that along it.",
        split_law("scalars", sums=lambda row: 1),
    ),
    _claim(
        "E4-error-accumulated", "So it is with sums alone in float32.", split_law("accumulated", sums=lambda row: 1)
    ),
    _claim("E4-error-rounded", "So it is with every operation rounded.", split_law("rounded", sums=lambda row: 1)),
    _claim(
        "E4-error-sums",
        "With every operation rounded it is at most 10 (u + u ((m + n) u + rho) sigma / gamma).",
        split_law("rounded", sums=terms),
    ),
    _claim(
        "E5",
        "With b of the mean loss, as coded, the correction is negligible on a classifier: |c b a^T| / |G|, as the "
        "median over seeds and windows of steps of its median in each window, is below 1e-2 at batches of 128 or more "
        "(above 0.1 it would be refuted).",
        negligible("classes"),
        CODE,
    ),
    _claim("E5-images", "The same on an autoencoder whose loss is summed over the pixels.", negligible("images"), CODE),
    _claim(
        "E5-by-sample",
        "With b by sample, B times as large, the same median is more than a tenth on both networks.",
        by_sample_corrects,
    ),
    _claim(
        "E5-companion",
        "On the classifier the losses of Eva as coded and of G / gamma, both with the clip, medians of the last "
        "window of steps, differ in the mean over seeds by no more than the standard deviation of their difference at "
        "the same seed.",
        same_as_plain("classes"),
    ),
    _claim("E5-companion-images", "The same on the autoencoder.", same_as_plain("images")),
    _claim(
        "E6",
        "On a network that interpolates, sigma falls below a tenth of what it was at the first step, in every layer.",
        sigma_decays,
    ),
    _claim("E6-bias", "Averaged over the whole batch, b is the gradient of the bias over B.", bias_gradient),
    _claim(
        "E25",
        "An average in bfloat16 with an old weight beta of 0.99 or more stalls for relative changes below u / (1 - "
        "beta): its entries cover less than half of the change in the mean.",
        averages_stall("mean_covered"),
    ),
    _claim("E25-every", "No entry of it covers half of such a change.", averages_stall("most_covered")),
    _claim(
        "E25-cures",
        "Kept in float32, or compensated in bfloat16, every entry covers 90% of any change that bfloat16 resolves.",
        averages_cured,
    ),
    _claim(
        "E25-coded",
        "With the old weight of the released code, 0.05, an average in bfloat16 stops within 3u of its goal.",
        coded_average_is_safe,
        CODE,
    ),
    _claim(
        "E27",
        "Damping that is added in place to a running factor settles at lambda w / (1 - w) above what was asked "
        "for, w the old weight.",
        damping_leaks,
        f"K-FAC in {CODE}",
    ),
)
