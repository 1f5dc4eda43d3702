"""What the literature and the theory claim of the tridiagonal projection, and how the rows settle it."""

import math
from collections.abc import Callable, Iterable
from statistics import median

from precond_lab.study import Claim, Judgement, Row, Status

from .cases import Part

SONEW = "SONew (Devvrit et al., NeurIPS 2023, arXiv 2311.10085)"


def of(rows: Iterable[Row], part: Part, **axes: object) -> list[Row]:
    """The rows of a part at given values of its axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if row["part"] == part.value and all(row[k] == v for k, v in axes.items())]
    if not found:
        raise LookupError(f"no rows of part {part.value} with {axes}")
    return found


def pipeline(rows: Iterable[Row], storage: str, arithmetic: str, stabilization: str) -> list[Row]:
    """The gradient rows of one pipeline, statistics accumulated in its storage format."""
    axes = {"storage": storage, "arithmetic": arithmetic, "stabilization": stabilization}
    return of(rows, Part.GRADIENTS, statistics="accumulated", **axes)


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def error_within_bound(rows: list[Row]) -> Judgement:
    """C5."""
    found = of(rows, Part.SIGNIFICANDS)
    figures = ", ".join(
        f"{row['largest_error_over_bound']:.4f} in {row['format']} ({row['triples']:,} triples, stride {row['stride']})"
        for row in found
    )
    worst = max(row["largest_error_over_bound"] for row in found)
    return _settle(worst <= 1, f"Largest |fl(s) - s| / (s kappa u): {figures}.")


def breakdown_below_two_u(rows: list[Row]) -> Judgement:
    """C6."""
    found = of(rows, Part.SIGNIFICANDS)
    figures = "; ".join(
        f"{row['format']}: {row['breakdowns']:,} breakdowns ({row['nonfinite_D']:,} D not finite, "
        f"{row['negative_D']:,} "
        f"negative), the last at 1 - beta^2 = {row['largest_pivot_of_breakdown_in_u']:.3f} u"
        for row in found
    )
    occur = all(row["breakdowns"] > 0 for row in found)
    return _settle(occur and all(row["largest_pivot_of_breakdown_in_u"] < 2 for row in found), figures + ".")


def degenerate_inputs(rows: list[Row]) -> Judgement:
    """C7."""
    found = of(rows, Part.DEGENERATE)
    wrong = sum(row["schur_of_few_gradients_not_degenerate"] + row["schur_of_twins_not_degenerate"] for row in found)
    total = sum(row["schur_of_few_gradients"] + row["schur_of_twins"] for row in found)
    return _settle(wrong == 0, f"{wrong} of {total:,} Schur complements, in rationals, neither zero nor undefined.")


def finite_after_stabilization(rows: list[Row]) -> Judgement:
    """C8."""
    found = of(rows, Part.FUZZ)
    bad = sum(row["bad_D"] + row["nonfinite_without_overflow"] for row in found)
    overflow = ", ".join(
        f"{row['nonfinite_directions']:,} in {row['format']} at tolerance {row['tolerance']}"
        for row in found
        if row["nonfinite_directions"]
    )
    return _settle(
        bad == 0,
        f"{bad} violations in {sum(row['chains'] for row in found):,} drawn chains; directions that are not finite "
        f"because a result overflowed the format: {overflow or 'none'}. Of the stabilized real gradients, not finite: "
        f"{_nonfinite_by_storage(rows)}.",
    )


def _nonfinite_by_storage(rows: list[Row]) -> str:
    """How often a stabilized direction of real gradients is not finite, and whether a zero diagonal is why."""
    real = [row for row in of(rows, Part.GRADIENTS) if row["stabilization"] != "none"]
    texts = []
    for storage in dict.fromkeys(row["storage"] for row in real):
        found = [row for row in real if row["storage"] == storage]
        bad = [row for row in found if row["nonfinite_directions"]]
        zero = sum(row["zero_diagonal"] > 0 for row in bad)
        texts.append(
            f"{len(bad)} of {len(found)} in {storage}"
            + (f" ({zero} of them with a zero on the diagonal)" if bad else "")
        )
    return ", ".join(texts)


def descent_at(tolerance: str) -> Callable[[list[Row]], Judgement]:
    """C9, as L D L^T, at one tolerance: drawn chains, long periodic ones, real gradients."""

    def judge(rows: list[Row]) -> Judgement:
        drawn = of(rows, Part.FUZZ, tolerance=tolerance)
        ascents, chains = sum(row["ascents"] for row in drawn), sum(row["chains"] for row in drawn)
        real = [row for row in of(rows, Part.GRADIENTS, stabilization=tolerance) if row["nonfinite_directions"] == 0]
        uphill = sum(not row["descent"] for row in real)
        periodic = of(rows, Part.PERIODIC, tolerance=tolerance)
        periods = sum(row["ascending_periods"] for row in periodic)
        longest = min(periodic, key=lambda row: row["slope_of_long_chain"])
        return _settle(
            ascents == uphill == periods == 0,
            f"{ascents} ascent directions in {chains:,} drawn chains of four, {uphill} in {len(real):,} cases of real "
            f"gradients; {periods} of {sum(row['periods'] for row in periodic):,} periodic chains ascend if they are "
            f"long: the worst in {longest['format']} has g^T u = {longest['slope_of_long_chain']:.4g} at "
            f"{longest['vertices_of_long_chain']:,} vertices.",
        )

    return judge


def descent_of_explicit(rows: list[Row]) -> Judgement:
    """C9, with X formed."""
    found = of(rows, Part.FUZZ)
    figures = ", ".join(f"{row['ascents_of_explicit_X']:,} in {row['format']} at {row['tolerance']}" for row in found)
    chains = found[0]["chains"]
    return _settle(
        not any(row["ascents_of_explicit_X"] for row in found),
        f"Ascent directions in {chains:,} drawn chains: {figures}.",
    )


def relative_rule_is_invariant(rows: list[Row]) -> Judgement:
    """C10."""
    found = of(rows, Part.SCALING)
    relative = sum(row["changed_by_scaling_relative"] for row in found)
    absolute = sum(row["changed_by_scaling_absolute"] for row in found)
    rounded = sum(row["changed_by_rounding_3H"] for row in found)
    edges = sum(row["edges"] for row in found)
    return _settle(
        relative == 0 and absolute > 0,
        f"Of {edges:,} edges, scaling H by 2, 4 (in low precision) and 3 (exactly) changed {relative} decisions of the "
        f"relative rule; scaling by 2 and 4 changed {absolute:,} of the absolute one. Rounding 3 H to the format "
        f"changed "
        f"{rounded:,}.",
    )


def bound_survives_rounding(rows: list[Row]) -> Judgement:
    """C10, with s itself computed in low precision."""
    found = of(rows, Part.SCALING)
    worst = max(row["largest_bound_after_times_tolerance"] for row in found)
    indefinite = sum(row["kept_without_projection"] for row in found)
    figures = ", ".join(f"{row['largest_bound_after_times_tolerance']:.2f} in {row['format']}" for row in found)
    return _settle(
        worst <= 1 and not indefinite,
        f"Largest kappa gamma / 2 over kept edges, at gamma = 2u: {figures}; {indefinite} kept edges have no "
        f"projection.",
    )


def stabilization_rescues(rows: list[Row]) -> Judgement:
    """C13, past the first step, at which any statistics are degenerate."""
    naive = [row for row in pipeline(rows, "bfloat16", "bfloat16", "none") if row["t"] > 1]
    layers = dict.fromkeys(row["layer"] for row in naive)
    shares = {
        layer: _mean(row["nonfinite_directions"] > 0 for row in naive if row["layer"] == layer) for layer in layers
    }
    broken = sum(share > 0.5 for share in shares.values())
    cured = [row for tolerance in ("0", "2u") for row in pipeline(rows, "bfloat16", "bfloat16", tolerance)]
    failed = [row for row in cured if row["nonfinite_directions"] or not row["descent"]]
    return _settle(
        broken == len(layers) and not failed,
        f"Without it the direction is not finite at most of the steps t > 1 in {broken} of {len(layers)} layers (at "
        f"{_mean(shares.values()):.0%} of all); with tolerance 0 or 2u it is finite and a descent direction in "
        f"{len(cured) - len(failed)} of {len(cured)} cases.",
    )


def _share(rows: list[Row], threshold: float) -> float:
    return sum(row["cosine_to_reduced"] >= threshold for row in rows) / len(rows)


def or_zero(x: float) -> float:
    """A cosine, or 0 where there is none: a direction that is not finite, or no exact one to compare with."""
    return 0.0 if math.isnan(x) else x


def _median_cosine(rows: list[Row], name: str = "cosine_to_reduced") -> float:
    return median(or_zero(row[name]) for row in rows)


def _least_cosine(rows: list[Row]) -> float:
    return min(or_zero(row["cosine_to_reduced"]) for row in rows)


def tolerance_buys_accuracy(rows: list[Row]) -> Judgement:
    """C14."""
    zero, two, eight = (pipeline(rows, "bfloat16", "bfloat16", tolerance) for tolerance in ("0", "2u", "8u"))
    shares = _share(zero, 0.98), _share(two, 0.98), _share(eight, 0.998)
    formal = [row for row in zero if row["nonpositive_kept"]]
    sound = [row for row in zero if not row["nonpositive_kept"]]
    checks = [row["reference_error"] for row in two if not math.isnan(row["reference_error"])]
    figure = (
        f"Cosine to the exact direction on the kept edges: at least 0.98 in {shares[0]:.0%} of cases at tolerance "
        f"0, in "
        f"{shares[1]:.0%} at 2u (median {_median_cosine(two):.4f}, least {_least_cosine(two):.4f}); at least 0.998 in "
        f"{shares[2]:.0%} at 8u (least {_least_cosine(eight):.4f}). At tolerance 0, {len(formal)} of {len(zero)} cases "
        f"keep an edge that has no projection (median cosine to the indefinite X of the closed form "
        f"{_median_cosine(formal):.3f}, against {_median_cosine(sound):.3f} in the others). The exact directions were "
        f"checked with 50 digits on {len(checks)} stretches: largest error {max(checks, default=0.0):.1e}."
    )
    return _settle(shares[0] < 0.9 and shares[1] >= 0.9 and shares[2] >= 0.9, figure)


def wide_arithmetic_is_no_cure(rows: list[Row]) -> Judgement:
    """C15: the tolerance makes the difference, the arithmetic does not."""
    tied, wide, wide_tied = (
        _ordered(pipeline(rows, "bfloat16", arithmetic, tolerance))
        for arithmetic, tolerance in (("bfloat16", "2u"), ("float32", "0"), ("float32", "2u"))
    )
    name = "cosine_to_full"
    worse = [math.isnan(a[name]) or a[name] < b[name] for a, b in zip(wide, tied, strict=True)]
    apart = [abs(a[name] - b[name]) for a, b in zip(wide_tied, tied, strict=True)]
    return _settle(
        sum(worse) >= 0.9 * len(worse) and median(apart) <= 0.02,
        f"float32 arithmetic at tolerance 0 is further from the exact full direction than bfloat16 at 2u in "
        f"{sum(worse)} "
        f"of {len(worse)} cases (median cosine {_median_cosine(wide, name):.3f} against "
        f"{_median_cosine(tied, name):.3f}); at 2u of bfloat16 it is as far (median difference {median(apart):.4f}).",
    )


def _ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["layer"], row["t"]))


def answer(rows: list[Row]) -> str:
    """The study's question, answered by its bfloat16 rows."""
    naive, zero, two = (pipeline(rows, "bfloat16", "bfloat16", s) for s in ("none", "0", "2u"))
    broken = sum(row["verdict"] == "breakdown" for row in naive)
    sound = sum(row["nonfinite_directions"] == 0 and row["descent"] for row in zero)
    indefinite = sum(row["nonpositive_kept"] > 0 for row in zero)
    return (
        f"{'Not by itself' if broken else 'Yes'}: without stabilization {broken} of {len(naive)} bfloat16 projections "
        f"break down. Algorithm 3 with tolerance 0 makes {sound} of {len(zero)} finite descent directions, but in "
        f"{indefinite} it keeps edges that have no projection, and the median cosine to the exact direction on the "
        f"same "
        f"edges is {_median_cosine(zero):.2f}. With a tolerance of 2u, twice the unit roundoff of the storage format, "
        f"that is {_median_cosine(two):.3f}, at the price of dropping "
        f"{_mean(r['dropped_fraction'] for r in two):.0%} of "
        f"the edges."
    )


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _claim(name: str, sentence: str, source: str, judge: Callable[[list[Row]], Judgement]) -> Claim:
    return Claim(name, sentence, source, judge)


CLAIMS = (
    _claim(
        "C5",
        "The Schur complement s computed in a low precision has a relative error of at most kappa u, where kappa = "
        "2 / (1 - "
        "beta^2) is the condition number bound and u the unit roundoff.",
        "derived from the condition number of " + SONEW,
        error_within_bound,
    ),
    _claim(
        "C6",
        "From exactly stored positive definite inputs the computed s can be zero or negative, and only where 1 - "
        "beta^2 < 2u.",
        "derived",
        breakdown_below_two_u,
    ),
    _claim(
        "C7",
        "Identical adjacent gradient histories give s = 0, and with at most b gradients every s_j (j <= n - b) of a "
        "band b "
        "is zero or undefined.",
        SONEW + ", theorem on degenerate inputs",
        degenerate_inputs,
    ),
    _claim(
        "C8",
        "After Algorithm 3 with any tolerance of at least 0, all D are finite and positive and the direction is "
        "finite, "
        "for every H with a positive diagonal, short of overflow.",
        SONEW + ", Algorithm 3",
        finite_after_stabilization,
    ),
    _claim(
        "C9",
        "After Algorithm 3 with tolerance 0 the direction u = L (D (L^T g)) is a descent direction, g^T u > 0, in low "
        "precision too.",
        SONEW,
        descent_at("0"),
    ),
    _claim(
        "C9-2u",
        "After Algorithm 3 with a tolerance of 2u it is.",
        "derived",
        descent_at("2u"),
    ),
    _claim(
        "C9-explicit",
        "u = X g is a descent direction with the entries of X formed first, as in the published code.",
        SONEW + ", published code",
        descent_of_explicit,
    ),
    _claim(
        "C10",
        "The relative rule drops the same edges of H and of c H; an absolute one does not. (That dropping edges lowers "
        "the condition number, a maximum over edges, needs no test.)",
        SONEW + ", theorem on Algorithm 3; invariance derived",
        relative_rule_is_invariant,
    ),
    _claim(
        "C10-rounded",
        "After the relative rule with tolerance gamma the condition number is below 2 / gamma, although s is itself "
        "computed in low precision.",
        "derived",
        bound_survives_rounding,
    ),
    _claim(
        "C13",
        "Without Algorithm 3 the projection fails in bfloat16 on real gradient statistics; with it, it works: finite "
        "descent directions.",
        SONEW,
        stabilization_rescues,
    ),
    _claim(
        "C14",
        "Tolerance 0 is safe but inaccurate; in at least nine cases of ten, 2u gives a cosine of at least 0.98 to the "
        "exact direction on the reduced graph, 8u at least 0.998.",
        "derived",
        tolerance_buys_accuracy,
    ),
    _claim(
        "C15",
        "Doing the arithmetic in float32 on statistics stored in bfloat16 does not replace a tolerance tied to the "
        "storage "
        "format.",
        "derived",
        wide_arithmetic_is_no_cure,
    ),
)
