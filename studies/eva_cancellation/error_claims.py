"""How rows settle what is claimed of errors: the laws of both programs, and the range of float16."""

from collections.abc import Callable, Mapping

from precond_lab.study import Judgement, Row

from .cases import FORMATS, PROGRAMS, Part
from .rows import ROUNDOFF, largest, of, settle

LOW = PROGRAMS["closed"][:3]  # the arithmetics in which operations on arrays are rounded
SUMMED = LOW[1:]  # those of them with sums in float32
MODERATE = 10.0  # the constant that error laws are allowed


def terms(row: Mapping) -> int:
    """The m + n of a row's layer."""
    return sum(map(int, row["shape"].split("x")))


def shapes_of(rows: list[Row]) -> list[str]:
    """The shapes, smallest first."""
    return list({row["shape"]: None for row in sorted(rows, key=terms)})


def error_law(*arithmetics: str) -> Callable[[list[Row]], Judgement]:
    """Whether the closed form's error is at most ten times u (1 + sigma / gamma), in some of the arithmetics."""

    def judge(rows: list[Row]) -> Judgement:
        figures, worst = [], 0.0
        for arithmetic in arithmetics:
            for format in FORMATS:
                found = of(rows, Part.CANCELLATION, program="closed", arithmetic=arithmetic, format=format)
                by_shape = {
                    shape: largest([row for row in found if row["shape"] == shape], "error_over_law")
                    for shape in shapes_of(found)
                }
                worst = max(worst, *by_shape.values())
                listed = ", ".join(f"{value:.1f} at {shape}" for shape, value in by_shape.items())
                figures.append(f"{format} {arithmetic}: {listed}")
        return settle(worst <= MODERATE, f"Largest error over u (1 + sigma / gamma), {'; '.join(figures)}.")

    return judge


def sums_law(rows: list[Row]) -> Judgement:
    """E3-sums."""
    figures, worst = [], 0.0
    for format in FORMATS:
        found = of(rows, Part.CANCELLATION, program="closed", arithmetic="rounded", format=format)
        by_shape = {
            shape: largest([row for row in found if row["shape"] == shape], "error_over_law") / terms({"shape": shape})
            for shape in shapes_of(found)
        }
        worst = max(worst, *by_shape.values())
        figures.append(f"{format}: {', '.join(f'{value:.3f} at {shape}' for shape, value in by_shape.items())}")
    return settle(worst <= 1, f"Largest error over (m + n) u (1 + sigma / gamma), {'; '.join(figures)}.")


def split_law(*arithmetics: str, sums: Callable[[Row], int]) -> Callable[[list[Row]], Judgement]:
    """Whether the split's error is at most ten times u + u (k u + rho) sigma / gamma, k roundings being in a sum."""

    def judge(rows: list[Row]) -> Judgement:
        figures, worst = [], 0.0
        for arithmetic in arithmetics:
            for format in FORMATS:
                u = ROUNDOFF[format]
                found = of(rows, Part.CANCELLATION, program="split", arithmetic=arithmetic, format=format)
                over = [
                    {**row, "over": row["curved_error"] / (u + u * (sums(row) * u + row["rho"]) * row["ratio"])}
                    for row in found
                ]
                by_shape = {
                    shape: largest([row for row in over if row["shape"] == shape], "over") for shape in shapes_of(found)
                }
                worst = max(worst, *by_shape.values())
                listed = ", ".join(f"{value:.1f} at {shape}" for shape, value in by_shape.items())
                figures.append(f"{format} {arithmetic}: {listed}")
        return settle(worst <= MODERATE, f"Largest error over that, {'; '.join(figures)}.")

    return judge


def beyond(rows: list[Row]) -> list[Row]:
    """The rows of E3-range: entries of b of 1e-4 or less, of a of 16 or more at n = 1024, or sigma of m n or more."""
    return [row for name in LOW[:2] for row in of(rows, Part.RANGE, arithmetic=name) if row["exponent"] >= 4]


def _first_beyond(found: list[Row]) -> str:
    return "; ".join(
        f"{row['side']}, {row['arithmetic']}: {row['curved_error']:.2g}" for row in found if row["exponent"] == 4
    )


def norms_leave_float16(rows: list[Row]) -> Judgement:
    """E3-range."""
    found = beyond(rows)
    outside = sum(row["out_of_range"] for row in found)
    broken = sum(not row["error_over_law"] <= MODERATE for row in found)
    return settle(
        broken == outside == len(found) > 0,
        f"|a|^2, |b|^2 or sigma is no normal number of float16 in {outside} of {len(found)} such cases, and the error "
        f"is outside the law in {broken}; the first of each, at sigma / gamma = 10: {_first_beyond(found)}.",
    )


def nothing_is_left(rows: list[Row]) -> Judgement:
    """E3-range-lost."""
    found = beyond(rows)
    lost = sum(not row["curved_error"] < 1 for row in found)
    return settle(
        lost == len(found) > 0,
        f"The error is one or more, or not a number, in {lost} of {len(found)} cases; the first of each: "
        f"{_first_beyond(found)}.",
    )


def float32_norms(rows: list[Row]) -> Judgement:
    """E3-range-float32."""
    found = of(rows, Part.RANGE, arithmetic="scalars")
    worst = largest(found, "error_over_law")
    return settle(
        worst <= MODERATE,
        f"Largest error over u (1 + sigma / gamma), with b down to 1e-{max(r['exponent'] for r in found)}, a up to "
        f"{2 ** max(r['exponent'] for r in found)}, and sigma beyond the range: {worst:.2f}.",
    )
