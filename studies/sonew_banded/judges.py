"""How the rows settle what is claimed of wider bands."""

import math
from collections.abc import Callable, Iterable
from statistics import median

from precond_lab.study import Judgement, Row, Status

from .cases import BANDS, NONE, TOLERANCES, Part


def of(rows: Iterable[Row], part: Part, **axes: object) -> list[Row]:
    """The rows of a part at given values of its axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if row["part"] == part.value and all(row[k] == v for k, v in axes.items())]
    if not found:
        raise LookupError(f"no rows of part {part.value} with {axes}")
    return found


def real(rows: Iterable[Row], method: str, tolerance: str, storage: str = "bfloat16", **axes: object) -> list[Row]:
    """The gradient rows of one method in one storage format, computed in that format if nothing else is said."""
    axes = {"arithmetic": storage, **axes}
    return of(rows, Part.GRADIENTS, storage=storage, method=method, tolerance=tolerance, **axes)


def wide(rows: Iterable[Row]) -> list[Row]:
    """Those of bands of two and more."""
    return [row for row in rows if row["band"] > 1]


def or_zero(x: float) -> float:
    """A cosine, or 0 where there is none: a direction that is not finite, or no exact one to compare with."""
    return 0.0 if math.isnan(x) else x


def median_cosine(rows: Iterable[Row], name: str = "cosine_to_reduced") -> float:
    """The median of cosines, counted as 0 where there is none."""
    return median(or_zero(row[name]) for row in rows)


def sound(row: Row) -> bool:
    """Whether a direction is finite, descends, and comes of finite positive D."""
    return row["nonfinite_directions"] == row["bad_D"] == 0 and row["descent"]


def total(rows: Iterable[Row], name: str) -> int:
    """The sum of a count."""
    return sum(row[name] for row in rows)


def by_band(rows: list[Row], value: Callable[[list[Row]], str]) -> str:
    """A figure for each band, as a reader takes them in."""
    bands = sorted({row["band"] for row in rows})
    return ", ".join(f"{value([row for row in rows if row['band'] == band])} at b = {band}" for band in bands)


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


WRONG = {
    "not_optimal": "entries of the closed form that are not the optimum's",
    "wrong_existence": "matrices with all s > 0 but no projection, or the reverse",
    "wrong_trace": "traces tr(X H) other than n",
    "wrong_determinant": "determinants other than prod s or prod cliques / prod separators",
    "increasing_s": "s that grow with b",
    "wrong_inverse": "X other than H^-1 at b = n - 1",
}


def closed_form(chain: bool) -> Callable[[list[Row]], Judgement]:
    """C1 on chains, C2 on wider bands."""

    def judge(rows: list[Row]) -> Judgement:
        found = [row for row in of(rows, Part.CLOSED_FORM) if (row["band"] == 1) == chain]
        counts = {name: total(found, name) for name in (list(WRONG)[:2] if chain else WRONG)}
        texts = ", ".join(f"{count} {WRONG[name]}" for name, count in counts.items())
        return _settle(
            not any(counts.values()),
            f"In rationals, over {total(found, 'trials')} matrices and {total(found, 'entries'):,} entries of X: "
            f"{texts} (of as many other matrices {total(found, 'without_projection')} have no projection).",
        )

    return judge


def degenerate(rows: list[Row]) -> Judgement:
    """C7-band."""
    found = of(rows, Part.DEGENERATE)
    wrong = total(found, "few_not_degenerate") + total(found, "twins_not_degenerate")
    return _settle(
        wrong == 0,
        f"{wrong} of {total(found, 'few') + total(found, 'twins'):,} Schur complements of bands 1 to 10, in rationals, "
        f"are neither zero nor undefined; of those of few gradients {total(found, 'few_undefined'):,} are undefined.",
    )


def degenerate_computed(rows: list[Row]) -> Judgement:
    """C7-band-computed."""
    found = of(rows, Part.PASSES, inputs="degenerate", form="pivots", rule="one_sided", tolerance="2u")
    shares = [row["windows_kept"] / row["windows"] for row in found]
    low = [row for row in found if row["format"] == "bfloat16"]
    at_zero = of(
        rows, Part.PASSES, inputs="degenerate", form="pivots", rule="one_sided", tolerance="0", format="bfloat16"
    )
    share = lambda part: f"{total(part, 'windows_kept') / total(part, 'windows'):.2%}"  # noqa: E731
    return _settle(
        max(shares) < 0.01,
        f"Windows that survive in bfloat16 at 2u: {by_band(low, share)}; at tolerance 0: {by_band(at_zero, share)}; "
        f"in any format at 2u at most {max(shares):.2%}.",
    )


def one_pass_exact(windows: str) -> Callable[[list[Row]], Judgement]:
    """C11, and the same for windows that are not semidefinite."""

    def judge(rows: list[Row]) -> Judgement:
        found = of(rows, Part.ONE_PASS, windows=windows)
        again, smaller = total(found, "failed_again"), total(found, "decreased")
        return _settle(
            again == smaller == 0,
            f"Of {total(found, 'triggered'):,} applications in rationals, bands 1 to 4, both rules, four tolerances, "
            f"{again:,} leave a vertex that fails again, and {smaller:,} an s that is smaller or undefined.",
        )

    return judge


def one_pass_computed(rows: list[Row]) -> Judgement:
    """C12: the algorithm as printed, on windows that are positive definite as stored."""
    found = wide(of(rows, Part.PASSES, form="coefficients"))
    figures = []
    for inputs, name in (
        ("definite", "definite windows"),
        ("stored", "rounded ones"),
        ("degenerate", "degenerate ones"),
    ):
        cells = [row for row in found if row["inputs"] == inputs]
        shares = ", ".join(
            f"{total(part, 'failed_again') / total(part, 'triggered'):.2%} ({rule})"
            for rule in ("literal", "one_sided")
            for part in [[row for row in cells if row["rule"] == rule]]
        )
        figures.append(f"{name} {shares}")
    examples = "; ".join(
        f"{row['rule']}, {row['vertices']} vertices, diagonals {row['H']}: D = {row['D_after_one_pass']}, exactly "
        f"s = {row['exact_s']}"
        for row in of(rows, Part.EXAMPLE)
        if row["vertices"]
    )
    again = total(found, "failed_again")
    return _settle(
        again == 0,
        f"Drawn chains that fail again after one pass, of those that fail at all, b > 1: {'; '.join(figures)}. "
        f"Smallest found in integers, in bfloat16 at tolerance 0 ({examples}).",
    )


def one_pass_on_gradients(rows: list[Row]) -> Judgement:
    """C12-gradients."""
    found = [row for t in TOLERANCES for row in wide(real(rows, "printed", t))]
    bad = [row for row in found if row["unstable_stretches"]]
    broken = by_band(found, lambda part: f"{sum(not sound(row) for row in part)} of {len(part)}")
    return _settle(
        not bad,
        f"In {len(bad)} of {len(found)} layers, steps and tolerances a vertex fails again after the pass as printed "
        f"in bfloat16; what it leaves is not a finite descent direction from finite positive D in {broken}.",
    )


def iterated(rows: list[Row]) -> Judgement:
    """C12-iterated."""
    drawn = of(rows, Part.PASSES, form="coefficients")
    found = [row for m in ("iterated", "iterated_literal") for t in TOLERANCES for row in real(rows, m, t)]
    violations, unstable = total(drawn, "violations"), total(found, "unstable_stretches")
    bad = total(found, "bad_D")
    return _settle(
        violations == unstable == bad == 0,
        f"{violations} of {total(drawn, 'used'):,} drawn chains end otherwise (in {total(drawn, 'overflowed'):,} the "
        f"reciprocal of an s overflows the format), after "
        f"{max(row['most_passes'] for row in drawn)} passes at most; of the stretches of real gradients in "
        f"bfloat16 {unstable} do, with {bad} D not finite and positive, after "
        f"{max(row['passes'] for row in found)} passes at most.",
    )


def pivots(rows: list[Row]) -> Judgement:
    """C12-pivots."""
    drawn = of(rows, Part.PASSES, form="pivots")
    found = [
        row for row in of(rows, Part.GRADIENTS) if row["method"] in {"pivots", "pivots_literal"} and row["passes"] > 1
    ]
    again, bad = total(drawn, "failed_again"), total(drawn, "violations")
    return _settle(
        again == bad == 0 and not found,
        f"{again} of {total(drawn, 'triggered'):,} drawn chains that fail do so again, {bad} end with an s that fails "
        f"or a D that is not positive (in {total(drawn, 'overflowed'):,} the reciprocal of an s overflows the format); "
        f"of the real gradients {len(found)} cases need a second pass.",
    )


def survives(rows: list[Row]) -> Judgement:
    """C13-band."""
    naive = [row for row in wide(real(rows, NONE, NONE)) if row["t"] > 1]
    broken = [row for row in naive if not sound(row)]
    cured = [row for t in ("0", "2u") for row in wide(real(rows, "pivots", t))]
    good = [row for row in cured if sound(row)]
    return _settle(
        len(broken) > len(naive) / 2 and len(good) == len(cured),
        f"Past the first step {len(broken)} of {len(naive)} unguarded directions in bfloat16 are not finite, ascend or "
        f"have a D that is not positive; with Algorithm 3 at 0 or 2u {len(good)} of {len(cured)} are sound.",
    )


def accuracy(rows: list[Row]) -> Judgement:
    """C14-band."""
    two, zero, eight = (wide(real(rows, "pivots", t)) for t in ("2u", "0", "8u"))
    share = sum(or_zero(row["cosine_to_reduced"]) >= 0.98 for row in two) / len(two)
    medians = "; ".join(
        f"{t}: {by_band(found, lambda part: f'{median_cosine(part):.3f}')}"
        for t, found in (("0", zero), ("2u", two), ("8u", eight))
    )
    checks = [
        row["reference_error"]
        for row in of(rows, Part.GRADIENTS, method="pivots", tolerance="2u")
        if row["reference_error"] is not None and not math.isnan(row["reference_error"])
    ]
    return _settle(
        share >= 0.9,
        f"At 2u the cosine is at least 0.98 in {share:.0%} of cases in bfloat16. Medians at {medians}. The exact "
        f"directions were checked with 50 digits on {len(checks)} stretches: largest error "
        f"{max(checks, default=0):.1e}.",
    )


def wide_arithmetic(rows: list[Row]) -> Judgement:
    """C15-band."""
    own, other = (
        sorted(wide(found), key=lambda row: (row["band"], row["layer"], row["t"]))
        for found in (real(rows, "pivots", "2u"), real(rows, "pivots", "0", arithmetic="float32"))
    )
    name = "cosine_to_full"
    worse = sum(or_zero(a[name]) < or_zero(b[name]) for a, b in zip(other, own, strict=True))
    return _settle(
        worse >= 0.9 * len(own),
        f"float32 arithmetic at tolerance 0 is further from the exact direction of unrounded statistics than bfloat16 "
        f"at 2u in {worse} of {len(own)} cases (median cosine {median_cosine(other, name):.3f} against "
        f"{median_cosine(own, name):.3f}).",
    )


def state(rows: list[Row]) -> Judgement:
    """C20; scalars that do not grow with n are left out."""
    found = sorted(of(rows, Part.MEMORY), key=lambda row: row["band"])
    holds = all(abs(row["state"] - row["band"] - 2) <= 8 / row["n"] for row in found)
    figures = by_band(found, lambda part: f"{part[0]['state']:.4g}")
    return _settle(holds, f"Numbers a parameter in the optimizer's state: {figures}.")


def temporaries(rows: list[Row]) -> Judgement:
    """C20-temporaries."""
    found = sorted(of(rows, Part.MEMORY), key=lambda row: row["band"])
    small = all(row["temporaries_in_chunks"] < row["band"] + 2 for row in found)
    figures = by_band(
        found,
        lambda part: (
            f"{part[0]['temporaries_of_direction']:.3g} at once and {part[0]['temporaries_in_chunks']:.2g} in chunks"
        ),
    )
    steps = by_band(found, lambda part: f"{part[0]['temporaries_of_step']:.3g}")
    return _settle(
        small,
        f"Numbers a parameter that a compiled direction holds besides its input and result: {figures} (a tensor of "
        f"all windows: {max(row['window_tensor'] for row in found)} at the widest); a whole step of the optimizer: "
        f"{steps}.",
    )


def edge_rates(rows: list[Row]) -> Judgement:
    """C23."""
    limits = {"0": ((0.55, 0.8), 0.24, 0.19), "2u": ((0.85, 1.0), 0.33, 0.22)}
    holds, figures = True, []
    for tolerance, ((low, high), of_first, of_others) in limits.items():
        found = real(rows, "pivots", tolerance, band=1)
        begin = median(row["dropped_share"] for row in found if row["t"] == 1)
        late = [row for row in found if row["t"] >= 10]
        first = max(row["dropped_share"] for row in late if row["layer"].startswith("1:"))
        others = max(row["dropped_share"] for row in late if not row["layer"].startswith("1:"))
        holds &= low <= begin <= high and first <= of_first and others <= of_others
        figures.append(
            f"at {tolerance} {begin:.0%} (median) at t = 1, from t = 10 on at most {first:.0%} in the first layer and "
            f"{others:.0%} in the others"
        )
    return _settle(holds, f"Dropped: {'; '.join(figures)}.")


def edges_of_bands(rows: list[Row]) -> Judgement:
    """C23-band."""
    found = [row for row in real(rows, "pivots", "2u") if row["band"] > 0]
    shares: dict[tuple, dict[int, float]] = {}
    for row in found:
        shares.setdefault((row["layer"], row["t"]), {})[row["band"]] = row["dropped_share"]
    ordered = [[cell[band] for band in sorted(cell)] for cell in shares.values()]
    grows = sum(a == sorted(a) for a in ordered)
    middle = by_band(found, lambda part: f"{median(row['dropped_share'] for row in part):.0%}")
    return _settle(
        grows == len(ordered),
        f"In bfloat16 at 2u the share dropped grows with the band in {grows} of {len(ordered)} layers and steps; its "
        f"median is {middle}.",
    )


def masking(rows: list[Row]) -> Judgement:
    """The masked variant in rationals: on a chain the optimum, on wider bands not."""
    found = of(rows, Part.MASKED)
    missed = total(found, "masked_not_optimal") + total(found, "solved_not_optimal")
    figures = by_band(
        found,
        lambda part: (
            f"{part[0]['masked_not_optimal']} of {part[0]['trials']} (median {part[0]['median_residual']:.3f}, "
            f"largest {part[0]['largest_residual']:.3f})"
        ),
    )
    return _settle(
        missed == 0,
        f"In rationals X^-1 differs from H on the graph, by that much relative to sqrt(H_ii H_jj), in {figures}; "
        f"{total(found, 'masked_not_definite')} are not positive definite; solved again, "
        f"{total(found, 'solved_not_optimal')} differ.",
    )


def masking_of_gradients(rows: list[Row]) -> Judgement:
    """The masked variant on real gradients."""
    found, solved = (wide(real(rows, method, "2u")) for method in ("masked", "pivots"))
    share = sum(or_zero(row["cosine_to_reduced"]) >= 0.98 for row in found) / len(found)
    return _settle(
        share >= 0.9,
        f"At 2u in bfloat16 the cosine is at least 0.98 in {share:.0%} of cases; "
        f"{sum(not sound(row) for row in found)} of {len(found)} directions are not sound. Median cosine "
        f"{by_band(found, lambda part: f'{median_cosine(part):.3f}')}; solved again "
        f"{by_band(solved, lambda part: f'{median_cosine(part):.3f}')}.",
    )


def answer(rows: list[Row]) -> str:
    """The study's question, answered by its bfloat16 rows, with float32 beside them."""
    widest = max(BANDS)
    printed, guarded = (wide(real(rows, method, "2u")) for method in ("printed", "pivots"))
    chain, own, full = (
        real(rows, "pivots", "2u", storage, band=band)
        for storage, band in (("bfloat16", 1), ("bfloat16", widest), ("float32", widest))
    )
    near = [median_cosine(found, "cosine_to_widest") for found in (chain, own, full)]
    dropped = [median(row["dropped_share"] for row in found) for found in (chain, own)]
    return (
        f"{'Yes' if near[1] >= 0.9 * near[2] else 'No'}: in bfloat16 at a tolerance of 2u Algorithm 3 drops "
        f"{dropped[1]:.0%} of the edges of b = {widest} ({dropped[0]:.0%} of a chain's), and the direction has a "
        f"median cosine of {near[1]:.2f} to the exact one of that band, a chain {near[0]:.2f}, and b = {widest} in "
        f"float32 {near[2]:.2f}. After one pass as printed, where b > 1, a vertex fails again in "
        f"{sum(row['unstable_stretches'] > 0 for row in printed)} of {len(printed)} layers and steps, and "
        f"{sum(not sound(row) for row in printed)} directions are not sound; if windows without positive pivots fail "
        f"as well, one pass suffices, and {sum(sound(row) for row in guarded)} of {len(guarded)} are."
    )
