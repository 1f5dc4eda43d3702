"""What is claimed of inverse roots in few digits, and how the rows settle it."""

import math
from collections.abc import Iterable
from statistics import median

from precond_lab.study import Claim, Judgement, Row, Status

from .cases import CONDITIONS, FORMATS, FRONTIER, GUARDED, POWERS, ROUNDOFF

ANIL = "Anil et al., Scalable Second Order Optimization for Deep Learning (arXiv 2002.09018)"
SCALABLE_SHAMPOO = "google-research/google-research, scalable_shampoo (README)"
GOOGLE = "google-research/precondition, matrix_inverse_pth_root"
HIGHAM = "Higham, Functions of Matrices, section 7.3; Guo & Higham (2006)"
MUON = "Jordan et al., Muon (2024), whose iteration for the polar factor is run in bfloat16"
META = "facebookresearch/optimizers (CoupledHigherOrder); Lakic (1998)"
PRODUCTS = {2: {"coupled_newton": 3, "coupled_higher_order": 4}, 4: {"coupled_newton": 4, "coupled_higher_order": 5}}
"""Of matrices, by p, in a step; the order is 3."""


def of(rows: Iterable[Row], **axes: object) -> list[Row]:
    """The rows at given values of their axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if all(row[name] == value for name, value in axes.items())]
    if not found:
        raise LookupError(f"no rows with {axes}")
    return found


def measured(rows: Iterable[Row], **axes: object) -> list[Row]:
    """Those with a condition number."""
    return [row for row in of(rows, **axes) if row["condition"] is not FRONTIER]


def usual(rows: Iterable[Row]) -> list[Row]:
    """The largest matrices, with eigenvalues in geometric progression: what figures show, and medians are over."""
    found = of(rows, spectrum="geometric")
    return of(found, n=max(row["n"] for row in found))


def cells(rows: Iterable[Row], *names: str) -> dict[tuple, list[Row]]:
    """Rows by the values of their axes."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def typical(rows: Iterable[Row], name: str) -> float:
    """The median, with what is not a number as infinite."""
    return median(math.inf if math.isnan(row[name]) else row[name] for row in rows)


def place(row: Row) -> str:
    """Where a figure comes from."""
    return f"{row['format']}, {row['method']}, p = {row['p']}, {row['spectrum']}, n = {row['n']}, {row['condition']:g}"


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def limit_of_float32(rows: list[Row]) -> Judgement:
    """R1."""
    last, parts, rows = [], [], usual(rows)
    for p in POWERS:
        axes = {"format": "float32", "method": "coupled_newton", "p": p}
        error = {kappa: typical(of(rows, condition=kappa, **axes), "error_frobenius") for kappa in CONDITIONS}
        last.append(max((kappa for kappa in CONDITIONS if error[kappa] < 0.1), default=1.0))
        at = ", ".join(f"{error[kappa]:.2g} at {kappa:.0e}" for kappa in (1e6, 1e7, 1e8, 1e9))
        parts.append(f"p = {p}: {at}")
    return _settle(all(1e6 <= kappa < 1e7 for kappa in last), f"Errors in the Frobenius norm, {'; '.join(parts)}.")


def _bits_over(rows: list[Row]) -> list[tuple[float, Row]]:
    """By how many bits float32 roots are better than log2(kappa / p) lost of 24, where the law leaves any."""
    found = []
    for row in measured(rows, format="float32", method="coupled_newton"):
        lost = row["condition"] / row["p"] * ROUNDOFF["float32"]
        if row["condition"] >= 100 and lost < 0.5:
            found.append((math.log2(lost / row["error"]), row))
    return found


def bits_lost(rows: list[Row]) -> Judgement:
    """R2."""
    over = [bits for bits, _ in _bits_over(rows)]
    return _settle(
        all(abs(bits) <= 1 for bits in over),
        f"Between {min(over):.1f} and {max(over):.1f} bits more are kept than that, {median(over):.1f} in the median.",
    )


def bits_bound(rows: list[Row]) -> Judgement:
    """R2 as a bound."""
    bits, row = min(_bits_over(rows), key=lambda found: found[0])
    return _settle(bits >= 0, f"At least {bits:.1f} bits more are kept ({place(row)}).")


def few_steps(rows: list[Row]) -> Judgement:
    """R4."""
    found = [r for r in measured(rows, format="float32", method="bare_coupled_newton") if r["condition"] <= 1e6]
    most = max(found, key=lambda row: row["steps"])
    missed = [row for row in found if not row["reported"] <= 1e-6]
    figure = f"At most {most['steps']} steps ({place(most)}); the tolerance is missed in {len(missed)} of {len(found)}."
    return _settle(most["steps"] <= 25 and not missed, figure)


def report_is_error(rows: list[Row]) -> Judgement:
    """R5."""
    found = [r for r in measured(rows, format="float32", method="bare_coupled_newton") if 1e4 <= r["condition"] <= 1e8]
    unit = ROUNDOFF["float32"]  # what is reported may be exactly zero
    ratio, worst = max(((row["error"] / max(row["reported"], unit), row) for row in found), key=lambda x: x[0])
    return _settle(
        ratio <= 10,
        f"The error is up to {ratio:.1g} times what is reported: {worst['error']:.2g} for {worst['reported']:.1g} "
        f"({place(worst)}).",
    )


def uncoupled_is_unstable(rows: list[Row]) -> Judgement:
    """R6."""
    from precond_lab.preconditioners.inverse_root.newton import uncoupled_threshold

    wrong, kept, left, count = [], 0.0, math.inf, 0
    for row in measured(rows, method="bare_newton"):
        if row["format"] in {"float32", "bfloat16"} and row["condition"] <= 10:
            count += 1
            growth = row["error_last"] / row["error"]
            if row["condition"] > uncoupled_threshold(row["p"]):
                left = min(left, growth)
                wrong += [row] if growth < 10 else []
            else:
                kept = max(kept, growth)
                wrong += [row] if not growth <= 10 else []
    figure = (
        f"After 80 steps the error is at most {kept:.2g} times that at the stop below the threshold, and at least "
        f"{left:.2g} times above it; {len(wrong)} of {count} cases are otherwise."
    )
    return _settle(not wrong, figure)


def coupled_is_stable(rows: list[Row]) -> Judgement:
    """R6, the other half."""
    found = [
        row
        for row in measured(rows, method="bare_coupled_newton")
        if row["format"] in {"float32", "bfloat16"} and row["condition"] * ROUNDOFF[row["format"]] <= 0.1
    ]
    worst = max(found, key=lambda row: row["error_last"] / row["error"])
    growth = worst["error_last"] / worst["error"]
    return _settle(growth <= 10, f"After 80 steps at most {growth:.2g} times the error at the stop ({place(worst)}).")


BOUNDED_UP_TO = {"bfloat16": 1e3, "float16": 1e4}
DIVERGES_FROM = {"bfloat16": 1e4, "float16": 1e6}


def bounded(rows: list[Row]) -> Judgement:
    """R8: where the iteration stays bounded."""
    found = [
        r for r in measured(rows, method="bare_coupled_newton") if r["condition"] <= BOUNDED_UP_TO.get(r["format"], 0)
    ]
    return _settle(all(r["bounded"] for r in found), _shares(found, BOUNDED_UP_TO, "at most"))


def diverges(rows: list[Row]) -> Judgement:
    """R8: where it does not."""
    found = [
        r
        for r in measured(rows, method="bare_coupled_newton")
        if r["condition"] >= DIVERGES_FROM.get(r["format"], math.inf)
        or (r["format"], r["p"], r["condition"]) == ("float8_e4m3fn", 2, 100)
    ]
    where = DIVERGES_FROM | {"float8_e4m3fn": 100}
    return _settle(not any(r["bounded"] for r in found), _shares(found, where, "from"))


def _shares(found: list[Row], where: dict[str, float], relation: str) -> str:
    parts = []
    for format, kappa in where.items():
        some = of(found, format=format)
        diverged = sum(not row["bounded"] for row in some)
        parts.append(f"{diverged} of {len(some)} in {format} ({relation} {kappa:g})")
    return f"Diverged: {', '.join(parts)}."


def frontier_law(rows: list[Row]) -> Judgement:
    """One constant for all formats."""
    found = [
        (row["frontier"] * ROUNDOFF[row["format"]], row)
        for row in of(rows, method="coupled_newton", condition=FRONTIER)
    ]
    low, high = min(found, key=lambda x: x[0]), max(found, key=lambda x: x[0])
    figure = (
        f"From {low[0]:.2g} ({low[1]['format']}, p = {low[1]['p']}, {low[1]['spectrum']}) to {high[0]:.2g} "
        f"({high[1]['format']}, p = {high[1]['p']}, {high[1]['spectrum']}); {median(x for x, _ in found):.2g} in the "
        "median."
    )
    return _settle(low[0] >= 1 and high[0] <= 30, figure)


def newton_schulz_in_bfloat16(rows: list[Row]) -> Judgement:
    """R9."""
    rows = usual(rows)
    axes = {"format": "bfloat16", "method": "newton_schulz", "p": 2}
    error = {kappa: typical(of(rows, condition=kappa, **axes), "error") for kappa in (1e2, 1e3, 1e4)}
    far = of(rows, condition=1e4, **axes)
    failed = sum(not row["works"] for row in far)
    return _settle(
        max(error.values()) < 0.01 and not failed,
        f"Errors of {', '.join(f'{e:.2g} at {kappa:g}' for kappa, e in error.items())}; at 1e4 {failed} of {len(far)} "
        "fail.",
    )


def higher_order_is_less_work(rows: list[Row]) -> Judgement:
    """R23."""
    parts, less, rows = [], [], usual(rows)
    for p in POWERS:
        axes = {"format": "float32", "p": p, "condition": 1e6}
        steps = {method: typical(of(rows, method=method, **axes), "steps") for method in PRODUCTS[p]}
        work = {method: steps[method] * PRODUCTS[p][method] for method in steps}
        less.append(work["coupled_higher_order"] < 0.95 * work["coupled_newton"])
        parts.append(
            f"p = {p}: {steps['coupled_higher_order']:g} steps of order 3 with {work['coupled_higher_order']:g} "
            f"products, {steps['coupled_newton']:g} of Newton with {work['coupled_newton']:g}"
        )
    return _settle(all(less), f"At a condition number of 1e6, {'; '.join(parts)}.")


def certificate_bounds(rows: list[Row]) -> Judgement:
    """R29."""
    found = [
        (row["residual"] / row["error_stored"], row)
        for row in measured(rows, format="float32")
        if row["method"] in GUARDED and row["method"] != "newton" and 100 <= row["condition"] <= 1e6
    ]
    if any(math.isnan(ratio) for ratio, _ in found):
        return _settle(False, "It is not a number somewhere.")
    (low, row), high = min(found, key=lambda x: x[0]), max(x for x, _ in found)
    return _settle(low >= 0.9, f"The certificate is between {low:.2f} ({place(row)}) and {high:.2g} times the error.")


def tolerance_is_reached(rows: list[Row]) -> Judgement:
    """R30."""
    parts, reached, rows = [], True, usual(rows)
    for format in FORMATS:
        for p in POWERS:
            found = of(rows, format=format, method="bare_coupled_newton", p=p, condition=10.0)
            least = typical(found, "least")
            reached = reached and least <= 1e-6
            parts.append(f"{least:.2g} in {format}, p = {p} ({least / ROUNDOFF[format]:.2g} u)")
    return _settle(reached, f"At a condition number of 10 the smallest max|M - I| of 80 steps is {'; '.join(parts)}.")


CLAIMS = (
    Claim(
        "R1",
        "A condition number of about 1e6 is the limit in float32: at 1e6 the error of coupled Newton, without a ridge, "
        "is below 10 percent, at 1e7 it is not.",
        SCALABLE_SHAMPOO,
        limit_of_float32,
    ),
    Claim(
        "R2",
        "A float32 root loses log2(kappa / p) of its 24 bits, to within one bit (2-norm, coupled Newton).",
        ANIL,
        bits_lost,
    ),
    Claim(
        "R2-bound",
        "A float32 root by coupled Newton loses no more than log2(kappa / p) of its 24 bits.",
        "derived: the condition number in the 2-norm is kappa / p",
        bits_bound,
    ),
    Claim(
        "R4",
        "In float32 coupled Newton gets max|M - I| below 1e-6 in at most 25 steps for condition numbers up to 1e6.",
        GOOGLE + " (100 steps allowed)",
        few_steps,
    ),
    Claim(
        "R5",
        "What the iteration reports, max|M - I|, is the error of the root to within a factor of ten, for condition "
        "numbers from 1e4 to 1e8 in float32.",
        GOOGLE + " (roots with less than 0.1 are accepted)",
        report_is_error,
    ),
    Claim(
        "R6",
        "Uncoupled Newton leaves its root, in float32 as in bfloat16, exactly where the condition number exceeds 2.44 "
        "(p = 2) or 2.83 (p = 4).",
        HIGHAM,
        uncoupled_is_unstable,
    ),
    Claim(
        "R6-coupled",
        "Coupled Newton stays at its root where kappa u is at most 0.1: 80 steps leave the error within a factor of "
        "ten.",
        HIGHAM,
        coupled_is_stable,
    ),
    Claim(
        "R8",
        "Coupled Newton stays bounded in bfloat16 up to a condition number of 1e3, and in float16 up to 1e4.",
        "derived: kappa u below about five",
        bounded,
    ),
    Claim(
        "R8-diverges",
        "It diverges in bfloat16 from a condition number of 1e4 on, in float16 from 1e6, and in e4m3 with p = 2 at "
        "1e2.",
        "derived: kappa u far above five",
        diverges,
    ),
    Claim(
        "R8-law",
        "The condition number at which guarded coupled Newton breaks down, times u, is between 1 and 30 in every "
        "format.",
        "derived: rounding makes an eigenvalue of M negative",
        frontier_law,
    ),
    Claim(
        "R9",
        "Newton-Schulz is accurate in bfloat16 as an inverse square root: errors below one percent for condition "
        "numbers from 1e2 to 1e4.",
        MUON,
        newton_schulz_in_bfloat16,
    ),
    Claim(
        "R23",
        "The iteration of order 3 needs less work than Newton's: fewer products of matrices, by five percent at least.",
        META,
        higher_order_is_less_work,
    ),
    Claim(
        "R29",
        "The certificate |L^T X^p L - I|_F / p, all in float32, is at least 0.9 of the error in the 2-norm for "
        "condition numbers from 1e2 to 1e6 and every stable method.",
        "derived, to first order",
        certificate_bounds,
    ),
    Claim(
        "R30",
        "A tolerance of 1e-6 for max|M - I| can be reached in every format.",
        GOOGLE + " and facebookresearch/optimizers (defaults)",
        tolerance_is_reached,
    ),
)


def answer(rows: list[Row]) -> str:
    """The sentence below the question."""
    parts, found = [], cells(usual(of(rows, p=4, condition=FRONTIER)), "format", "method")
    for format in FORMATS:
        edges = {m: typical(found[format, m], "frontier") for m in GUARDED if (format, m) in found}
        best = max(edges, key=edges.__getitem__)
        parts.append(f"{format} up to {edges[best]:.1e} ({best}; coupled_newton {edges['coupled_newton']:.1e})")
    return (
        "With half of the root right as the mark, p = 4 and eigenvalues in geometric progression, a format carries an "
        f"inverse root of condition numbers in {', '.join(parts)}."
    )
