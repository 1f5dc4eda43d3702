"""What is claimed of polar factors in few digits, and how the rows settle it."""

import math

from precond_lab.study import Claim, Judgement, Row

from .cases import CONDITIONS, DRAWN, MARGINS, MATRICES, Part
from .selection import of, one, settle

NOTEBOOK = "Polar Express (arXiv 2505.16932), remarks on the Gram form"
STEP = "Step 3.5 Flash (arXiv 2602.10604)"
LARGEST = 1e6
DIVERGED_AT = 8


def restart(rows: list[Row]) -> Judgement:
    """R21."""
    axes = {"format": "bfloat16", "restart": 0, "condition": LARGEST}
    without = one(rows, Part.GRAM, steps=DIVERGED_AT, **axes)
    cured = [row for row in of(rows, Part.GRAM, format="bfloat16") if row["restart"]]
    left = sum(row["failed"] for row in cured)
    return settle(
        2 * without["failed"] > MATRICES and not left,
        f"Without, {without['failed']} of {MATRICES} factors have a singular value above 2 after {DIVERGED_AT} steps; "
        f"with restarts {left} of {MATRICES * len(cured)}, at condition numbers from {CONDITIONS[0]:g} on.",
    )


def indefinite(rows: list[Row]) -> Judgement:
    """R21, the cause."""
    wrong, bad, count = 0, [], 0
    for row in of(rows, Part.GRAM, restart=0, steps=DIVERGED_AT):
        if row["failed"]:
            count += 1
            axes = {name: row[name] for name in ("format", "n", "condition")}
            before = one(rows, Part.GRAM, restart=0, steps=5, **axes)
            if not before["indefinite"] or before["indefinite"] < row["failed"]:
                wrong += 1
                bad.append(f"{row['format']} at {row['condition']:g}")
    if not count:
        raise LookupError("nothing diverges")
    where = f" ({', '.join(bad)})" if bad else ""
    return settle(not wrong, f"Of {count} formats and condition numbers with divergence it is not in {wrong}{where}.")


def float16_is_safer(rows: list[Row]) -> Judgement:
    """R21, the other format."""
    parts, failed = [], {}
    for format in ("float16", "bfloat16"):
        found = of(rows, Part.GRAM, format=format, restart=0, steps=DIVERGED_AT)
        failed[format] = sum(row["failed"] for row in found)
        parts.append(f"{failed[format]} of {MATRICES * len(found)} in {format}")
    later = [row for row in rows if row["part"] == Part.GRAM and row["format"] == "float16" and not row["restart"]]
    last = max(later, key=lambda row: row["steps"])["steps"]
    after = sum(row["failed"] for row in later if row["steps"] == last)
    more = f"; after {last} steps, {after} in float16" if last > DIVERGED_AT else ""
    return settle(
        not failed["float16"] and failed["bfloat16"] > 0,
        f"Factors with a singular value above 2 after {DIVERGED_AT} steps: {', '.join(parts)}{more}.",
    )


def _worst(rows: list[Row], format: str, margin: float) -> tuple[float, int, int]:
    """The worst distance from one, how many are no factors, and of how many."""
    found = of(rows, Part.OUTLIERS, format=format, margin=margin)
    return max(row["worst"] for row in found), sum(row["failed"] for row in found), DRAWN * len(found)


def outliers(rows: list[Row]) -> Judgement:
    """R28."""
    (wide, lost, count), (narrow, fewer, _) = (_worst(rows, f, MARGINS[0]) for f in ("bfloat16", "float16"))
    return settle(
        wide > 10 * narrow and math.isfinite(narrow),
        f"Of {count} matrices the worst max|s - 1| is {wide:.2g} in bfloat16, {narrow:.2g} in float16; {lost} and "
        f"{fewer} have a singular value above 2.",
    )


def rare(rows: list[Row]) -> Judgement:
    """R28, how many."""
    _, lost, count = _worst(rows, "bfloat16", MARGINS[0])
    return settle(0 < lost <= 0.01 * count, f"{lost} of {count}.")


def margin(rows: list[Row]) -> Judgement:
    """R28, the remedy."""
    (worst, lost, count), (narrow, _, _) = (_worst(rows, f, MARGINS[1]) for f in ("bfloat16", "float16"))
    return settle(
        not lost,
        f"{lost} of {count} in bfloat16 have a singular value above 2; the worst max|s - 1| is {worst:.2g}, in float16 "
        f"{narrow:.2g}.",
    )


CLAIMS = (
    Claim(
        "R21",
        "The Gram form of Newton-Schulz needs restarts in bfloat16: at a condition number of the Gram matrix of 1e6 "
        "most factors have diverged after 8 steps of the quintic; with a restart every second step none has at any.",
        NOTEBOOK,
        restart,
    ),
    Claim(
        "R21-cause",
        "Where it diverges after 8 steps the Gram matrix is indefinite after 5, for as many matrices at least.",
        NOTEBOOK,
        indefinite,
    ),
    Claim(
        "R21-float16",
        "float16 is safer: no factor diverges in 8 steps up to 1e6, without restarts, where some do in bfloat16.",
        NOTEBOOK,
        float16_is_safer,
    ),
    Claim(
        "R28",
        "Polar Express in bfloat16 has extreme outliers that float16 has not: of random square matrices the worst "
        "max|s - 1| is more than ten times that in float16, where all are finite, with a margin of one percent.",
        STEP,
        outliers,
    ),
    Claim(
        "R28-rare",
        "They are rare: one matrix in a hundred at most. (The same setting.)",
        STEP,
        rare,
    ),
    Claim(
        "R28-margin",
        "A margin of ten percent of the eigenvalues, above 2 u sqrt(n), prevents them in bfloat16.",
        "derived: rounding takes an eigenvalue beyond the end of the interval",
        margin,
    ),
)
