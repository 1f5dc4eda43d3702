"""What the literature and the theory claim of condition and breakdown, and how the rows settle it."""

from collections.abc import Callable, Iterable

from precond_lab.study import Claim, Judgement, Row, Status

from .cases import PRECISION, Part

SONEW = "SONew (Devvrit et al., NeurIPS 2023, arXiv 2311.10085)"
FLOAT64 = 2.0**-53
TRUSTED = 64 * FLOAT64  # a derivative in float64, over the condition number: a few dozen operations


def of(rows: Iterable[Row], part: Part, **axes: object) -> list[Row]:
    """The rows of a part at given values of its axes, from narrow formats and bands to wide ones.

    To find none is an error, which leaves a claim open.
    """
    found = [row for row in rows if row["part"] == part.value and all(row[k] == v for k, v in axes.items())]
    if not found:
        raise LookupError(f"no rows of part {part.value} with {axes}")
    return sorted(found, key=_width)


def _width(row: Row) -> tuple:
    format = list(PRECISION).index(row["format"]) if "format" in row else -1
    tolerance = multiple_of(row) if "tolerance" in row else 0
    return format, tolerance, *(row.get(axis, 0) for axis in ("octave", "band", "correlation", "seed"))


def multiple_of(row: Row) -> float:
    """The tolerance of a row in units of the unit roundoff."""
    return float(row["tolerance"].removesuffix("u"))


def formats(rows: Iterable[Row]) -> list[str]:
    """The formats of these rows, each once."""
    return list(dict.fromkeys(row["format"] for row in rows))


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def bound_of_paper(rows: list[Row]) -> Judgement:
    """C3."""
    found, chains = of(rows, Part.CONDITIONS), of(rows, Part.BANDS, band=1)
    ratios = [row["off_diagonal"] * row["smallest_pivot"] / 2 for row in chains]
    largest = max(row["largest_over_bound"] for row in found)
    listed = ", ".join(f"{row['largest_over_bound']:.5f} in {row['format']}" for row in found)
    return _settle(
        largest <= 1 + TRUSTED and max(ratios) <= 1 + TRUSTED,
        f"Condition number over its bound, by differentiation of {sum(row['triples'] for row in found):,} pairs: "
        f"{min(row['least_over_bound'] for row in found):.3f} at least, and at most {listed}; {max(ratios):.5f} on "
        f"chains of {chains[0]['n']:,} vertices.",
    )


def _deviation(rows: list[Row], name: str, shift: float) -> Judgement:
    """How far a derivative is from its closed form, shift / p - 1 of the pivot p, over the condition number."""
    found, chains = of(rows, Part.CONDITIONS), of(rows, Part.BANDS, band=1)
    worst = max(row[f"deviation_{name}"] for row in found)
    ends = [abs(row[name] / (shift / row["smallest_pivot"] - 1) - 1) * row["smallest_pivot"] / 2 for row in chains]
    return _settle(
        max(worst, *ends) <= TRUSTED,
        f"Largest relative difference between derivative and closed form, in units of the condition number times "
        f"2^-53: {worst / FLOAT64:.1f} over {sum(row['triples'] for row in found):,} pairs, "
        f"{max(ends) / FLOAT64:.1f} over {len(chains)} long chains.",
    )


def off_diagonal_is_exact(rows: list[Row]) -> Judgement:
    """C3-exact."""
    return _deviation(rows, "off_diagonal", 2)


def all_entries_are_exact(rows: list[Row]) -> Judgement:
    """C4."""
    return _deviation(rows, "all_entries", 4)


def bound_on_bands(rows: list[Row]) -> Judgement:
    """C3-band."""
    found = [row for row in of(rows, Part.BANDS) if row["band"] > 1]
    figures = []
    for band in dict.fromkeys(row["band"] for row in found):
        ratios = {
            name: max(row[name] * row["smallest_pivot"] / 2 for row in found if row["band"] == band)
            for name in ("off_diagonal", "schur", "scaled")
        }
        figures.append(
            f"b = {band}: {ratios['off_diagonal']:.2g} times for the entries of X, {ratios['scaled']:.1f} relative to "
            f"the diagonal of X, {ratios['schur']:.1f} for s"
        )
    holds = all(row["off_diagonal"] * row["smallest_pivot"] <= 2 for row in found)
    return _settle(holds, f"Largest condition number over 2 / (smallest s_i / H_ii): {'; '.join(figures)}.")


def windows_bound(rows: list[Row]) -> Judgement:
    """C3-window."""
    found, figures, holds = of(rows, Part.BANDS), [], True
    for band in dict.fromkeys(row["band"] for row in found):
        these = [row for row in found if row["band"] == band]
        ratios = (
            max(row["schur"] * row["smallest_eigenvalue"] for row in these) / (band + 1),
            max(row["scaled"] * row["smallest_eigenvalue"] for row in these) / ((band + 1) ** 2 + band**2),
        )
        holds &= max(ratios) <= 1
        figures.append(f"b = {band}: {ratios[0]:.3f} for s, {ratios[1]:.3f} for X")
    return _settle(holds, f"Largest condition number over its bound: {'; '.join(figures)}.")


def error_below_exact_condition(rows: list[Row]) -> Judgement:
    """C5-exact."""
    found = of(rows, Part.ERRORS)
    worst = {
        format: max(row["largest_error_over_exact_condition"] for row in found if row["format"] == format)
        for format in formats(found)
    }
    listed = ", ".join(f"{value:.3f} in {format}" for format, value in worst.items())
    return _settle(
        max(worst.values()) <= 1 + TRUSTED,
        f"Largest error of s over u (1 + beta^2) / (1 - beta^2): {listed}; {sum(row['triples'] for row in found):,} "
        f"pairs with beta^2 >= 1/16.",
    )


def below_threshold(name: str) -> Callable[[list[Row]], Judgement]:
    """C6-arithmetic, C6-stored, C6-computed: breakdowns exist, and lie below the derived bound."""

    def judge(rows: list[Row]) -> Judgement:
        found = of(rows, Part.THRESHOLDS)
        listed = "; ".join(f"{row['format']} {row[name]:.3f} u of {row[f'{name}_bound']:.3f} u" for row in found)
        holds = all(0 < row[name] <= row[f"{name}_bound"] and not row["breakdowns_at_the_end"] for row in found)
        sampled = ", ".join(f"1 in {row['stride']} of {row['format']}" for row in found if row["stride"] != 1)
        return _settle(
            holds, f"Largest 1 - beta^2: {listed}. All pairs of significands{f', but {sampled}' if sampled else ''}."
        )

    return judge


def float32_tells_the_sign(rows: list[Row]) -> Judgement:
    """C6-upcast."""
    found = of(rows, Part.SIGNS)
    wrong = sum(row["determinant_wrong"] for row in found)
    listed = ", ".join(
        f"{row['schur_wrong']} in {row['format']} ({row['schur_keeps_wrongly']} computed positive; "
        f"{row['schur_wrong_not_singular']} not singular)"
        for row in found
        if row["schur_wrong"]
    )
    return _settle(
        wrong == 0,
        f"{wrong} of {sum(row['triples'] for row in found):,} signs of H11 H22 - H12^2 wrong in float32. Of s = H11 - "
        f"(H12 / H22) H12, computed in float32, wrong: {listed or 'none'}; {sum(row['singular'] for row in found):,} "
        f"pairs are exactly singular.",
    )


def tolerance_bounds_condition(rows: list[Row]) -> Judgement:
    """C10-kept: kappa < 2 / gamma would be a pivot above gamma."""
    found = [row for row in of(rows, Part.TOLERANCES) if row["tolerance"] != "0"]
    listed = "; ".join(f"{row['least_kept_pivot']:.2f} u at {row['tolerance']} in {row['format']}" for row in found)
    holds = all(row["least_kept_pivot"] >= multiple_of(row) for row in found)
    return _settle(holds, f"Smallest 1 - beta^2 of a kept edge: {listed}.")


def kept_edges_have_their_pivot(rows: list[Row]) -> Judgement:
    """C10-guarantee."""
    found = of(rows, Part.TOLERANCES)
    names = (
        ("least_kept_pivot", "guaranteed_pivot"),
        (
            "least_kept_pivot_before_rounding",
            "guaranteed_pivot_before_rounding",
        ),
    )
    margins = [row[least] - row[guaranteed] for row in found for least, guaranteed in names]
    late = sum(row["kept_without_projection"] for row in found if multiple_of(row) >= 2)
    indefinite = "; ".join(
        f"{row['kept_without_projection']} at {row['tolerance']} in {row['format']}"
        for row in found
        if row["kept_without_projection"]
    )
    return _settle(
        min(margins) >= 0 and late == 0,
        f"Smallest distance to the bound: {min(margins):.2f} u over {sum(row['kept'] for row in found):,} kept edges. "
        f"Kept edges without projection: {indefinite or 'none'}; {late} from 2u on.",
    )


def tolerance_for_ten_percent(rows: list[Row]) -> Judgement:
    """C10-accuracy."""
    found = [row for row in of(rows, Part.TOLERANCES) if row["tolerance"] in {"2u", "4u", "8u", "20u"}]
    listed = "; ".join(f"{row['largest_error_of_kept']:.2%} at {row['tolerance']} in {row['format']}" for row in found)
    holds = all(
        (row["largest_error_of_kept"] <= 0.1) if row["tolerance"] == "20u" else (row["largest_error_of_kept"] > 0.1)
        for row in found
    )
    return _settle(holds, f"Largest relative error of s on kept edges: {listed}.")


def projection_has_no_order(rows: list[Row]) -> Judgement:
    """C24."""
    found = of(rows, Part.REVERSALS)
    wrong, solved = (sum(row[name] for row in found) for name in ("changed_by_reversal", "projections"))
    bands = ", ".join(str(row["band"]) for row in found)
    return _settle(wrong == 0, f"{wrong} of {solved} projections in rationals changed, b = {bands}.")


def chains_drop_alike(rows: list[Row]) -> Judgement:
    """C24-rounded."""
    found = of(rows, Part.TOLERANCES)
    chain = of(rows, Part.REVERSALS, band=1)[0]
    farthest = max(found, key=lambda row: row["farthest_disagreement"])
    share = sum(row["reversed_differs"] for row in found) / sum(row["triples"] for row in found)
    return _settle(
        farthest["farthest_disagreement"] <= 2 and chain["kept_differently"] == 0,
        f"{share:.1%} of the pairs beside singularity are decided otherwise when reversed, all of them with 1 - beta^2 "
        f"within {farthest['farthest_disagreement']:.2f} u of the tolerance; {chain['kept_differently']} of "
        f"{chain['edges']:,} edges of long chains in float64.",
    )


def bands_drop_alike(rows: list[Row]) -> Judgement:
    """C24-band."""
    found = [row for row in of(rows, Part.REVERSALS) if row["band"] > 1]
    listed = "; ".join(
        f"{row['kept_differently']:,} of {row['edges']:,} edges ({row['kept_differently'] / row['edges']:.1%}) at b = "
        f"{row['band']}"
        for row in found
    )
    return _settle(not any(row["kept_differently"] for row in found), f"Decided otherwise in float64: {listed}.")


def answer(rows: list[Row]) -> str:
    """How far condition, errors and breakdowns come up to what is derived of them."""
    conditions, (bf16,) = of(rows, Part.CONDITIONS), of(rows, Part.THRESHOLDS, format="bfloat16")
    error = max(row["largest_error_over_exact_condition"] for row in of(rows, Part.ERRORS))
    wide = max(row["scaled"] * row["smallest_pivot"] / 2 for row in of(rows, Part.BANDS) if row["band"] > 1)
    return (
        f"On a chain the condition number is at most {max(row['largest_over_bound'] for row in conditions):.4f} of "
        f"2 / (1 - beta^2), and computed Schur complements have errors of up to {error:.3f} u (1 + beta^2) / (1 - "
        f"beta^2). bfloat16 breaks edges down up to 1 - beta^2 = {bf16['arithmetic']:.2f} u by arithmetic, "
        f"{bf16['storage']:.2f} u by storage and {bf16['both']:.2f} u by both; the bounds for any format are 2u, 4u "
        f"and 6u. On bands b = 2 and 4 the condition number, relative to the diagonal of X, is up to {wide:.1f} "
        f"times 2 over the smallest pivot."
    )


CLAIMS = (
    Claim(
        "C3",
        "The componentwise condition number of the projection onto a chain, for perturbed off-diagonal entries, is at "
        "most 2 / (1 - beta^2) of the worst edge.",
        SONEW + ", section 3.4",
        bound_of_paper,
    ),
    Claim("C3-exact", "It is exactly (1 + beta^2) / (1 - beta^2), the bound less 1.", "derived", off_diagonal_is_exact),
    Claim(
        "C3-band",
        "2 / (smallest s_i / H_ii) bounds it on bands b = 2 and 4 as well.",
        "generalized from " + SONEW,
        bound_on_bands,
    ),
    Claim(
        "C3-window",
        "With the smallest eigenvalue lambda of the windows' correlation matrices, the condition number of s is at "
        "most (b + 1) / lambda, and that of X, relative to its diagonal, at most ((b + 1)^2 + b^2) / lambda.",
        "derived",
        windows_bound,
    ),
    Claim(
        "C4",
        "With the diagonal entries perturbed too, as rounding does to stored statistics, it is exactly (3 + beta^2) / "
        "(1 - beta^2): twice the bound for off-diagonal entries, less 1.",
        "derived",
        all_entries_are_exact,
    ),
    Claim(
        "C5-exact",
        "The computed Schur complement of an edge has a relative error of at most u (1 + beta^2) / (1 - beta^2).",
        "derived",
        error_below_exact_condition,
    ),
    Claim(
        "C6-arithmetic",
        "From exactly stored positive definite entries s <= 0 is computed only if 1 - beta^2 <= u (2 + 3u) / "
        "(1 + 2u)^2 < 2u.",
        "derived",
        below_threshold("arithmetic"),
    ),
    Claim(
        "C6-stored",
        "Rounding a positive definite pair of vertices to its format makes it indefinite or singular only if 1 - "
        "beta^2 <= 4u (1 + u) / (1 + 2u)^2 < 4u.",
        "derived",
        below_threshold("storage"),
    ),
    Claim(
        "C6-computed",
        "s <= 0 is computed from entries so rounded only if 1 - beta^2 <= 1 - (1 + u)^2 / (1 + 2u)^4 < 6u.",
        "derived",
        below_threshold("both"),
    ),
    Claim(
        "C6-upcast",
        "The determinant H11 H22 - H12^2 of entries with at most 11 bits has the right sign in float32.",
        "derived",
        float32_tells_the_sign,
    ),
    Claim(
        "C10-kept",
        "Edges that Algorithm 3 keeps with a relative tolerance gamma have 2 / (1 - beta^2) <= 2 / gamma, with s "
        "computed in low precision.",
        SONEW + ", theorem on Algorithm 3, taken to low precision",
        tolerance_bounds_condition,
    ),
    Claim(
        "C10-guarantee",
        "They have 1 - beta^2 > gamma - 2u as stored and > gamma - 6u before rounding, up to second order; so that "
        "from gamma = 2u on every kept edge has a projection.",
        "derived",
        kept_edges_have_their_pivot,
    ),
    Claim(
        "C10-accuracy",
        "A tolerance of 20u keeps the error of s within ten percent; 2u, 4u and 8u do not.",
        "derived",
        tolerance_for_ten_percent,
    ),
    Claim(
        "C24",
        "Reversing the order of the vertices reverses X and does not change it.",
        "derived",
        projection_has_no_order,
    ),
    Claim(
        "C24-rounded",
        "Algorithm 3 drops the same edges of a chain and of its reversal, but for edges whose 1 - beta^2 is within "
        "rounding (2u) of the tolerance.",
        "derived",
        chains_drop_alike,
    ),
    Claim(
        "C24-band",
        "It drops the same edges of a band and of its reversal for b = 2 and 4 too.",
        "generalized from the chain",
        bands_drop_alike,
    ),
)
