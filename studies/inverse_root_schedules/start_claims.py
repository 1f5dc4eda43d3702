"""What is claimed of starts, of accelerated steps and of two chains, and how the rows settle it."""

import math
from statistics import median

from precond_lab.study import Claim, Judgement, Row

from .cases import CHAINS, FORMATS, ROUNDOFF, SCALINGS, STARTS, Part
from .law import GENEROUS, growth
from .selection import extremes, of, one, place, settle

DASH = "DASH (IST-DASLab, 2026)"
GUO_HIGHAM = "Guo & Higham, A Schur-Newton method for the matrix pth root and its inverse (2006)"
NVIDIA = "NVIDIA-NeMo/Emerging-Optimizers, scaled_cans_coupled_ns; CANS (arXiv 2506.10935)"
NARROW = FORMATS[1:]


def _against(rows: list[Row], scaling: str) -> list[tuple[Row, Row]]:
    """Rows of the Frobenius norm, each with that of another scaling."""
    axes = ("p", "n", "spectrum", "condition")
    others = {tuple(row[name] for name in axes): row for row in of(rows, Part.SCALING, scaling=scaling)}
    return [(row, others[tuple(row[name] for name in axes)]) for row in of(rows, Part.SCALING, scaling="frobenius")]


def fewer_steps(rows: list[Row]) -> Judgement:
    """R13."""
    saved = [(a["taken"] - b["taken"], a) for a, b in _against(rows, "largest_eigenvalue")]
    (low, _), (high, row) = extremes(saved)
    middle = median(x for x, _ in saved)
    return settle(
        low >= 0 and middle >= 1,
        f"Between {low:g} and {high:g} steps are saved ({place(row)}), {middle:g} in the median of {len(saved)} cases.",
    )


def few_steps(rows: list[Row]) -> Judgement:
    """R13 as a bound."""
    beyond = [
        (a["taken"] - b["taken"] - 1 - math.log(a["norm"]) / math.log(growth(a["p"])), a)
        for a, b in _against(rows, "largest_eigenvalue")
    ]
    most, row = max(beyond, key=lambda x: x[0])
    return settle(most <= 0, f"The saving less that is at most {most:.2f} steps ({place(row)}).")


def more_accurate(rows: list[Row]) -> Judgement:
    """R13, the accuracy."""
    ratios = [a["error"] / b["error"] for a, b in _against(rows, "largest_eigenvalue")]
    better = sum(ratio > 1 for ratio in ratios)
    return settle(
        better >= 0.9 * len(ratios),
        f"It is in {better} of {len(ratios)} cases; the error by the Frobenius norm is {median(ratios):.2g} times as "
        f"large in the median, and up to {max(ratios):.2g} times.",
    )


def optimal_steps(rows: list[Row]) -> Judgement:
    """The scaling of Guo and Higham, its steps."""
    others = [name for name in SCALINGS if name != "guo_higham_known"]
    least = [
        (min(b["taken"] for b in group) - best["taken"], best)
        for best, *group in zip(
            [b for _, b in _against(rows, "guo_higham_known")],
            *([b for _, b in _against(rows, name)] for name in others),
            strict=True,
        )
    ]
    (low, row), (high, _) = extremes(least)
    return settle(low >= 0, f"Steps of the best of the others, less its own: {low:+g} ({place(row)}) to {high:+g}.")


def optimal_accuracy(rows: list[Row]) -> Judgement:
    """The scaling of Guo and Higham, its errors."""
    ratios = [(b["error"] / a["error"], a) for a, b in _against(rows, "guo_higham_known")]
    most, row = max(ratios, key=lambda x: x[0])
    middle = median(x for x, _ in ratios)
    return settle(most <= 2, f"Up to {most:.2g} times as large ({place(row)}), {middle:.2g} times in the median.")


def _quotients(rows: list[Row], *starts: str) -> Judgement:
    parts, low = [], []
    for start in starts:
        found = of(rows, Part.QUOTIENT, start=start)
        below = sum(2 * row["quotient"] < 1 for row in found)
        low.append(below)
        least = min(row["quotient"] for row in found)
        parts.append(f"{start}: below in {below} of {len(found)} cases, the least quotient {least:.2g}")
    return settle(not any(low), f"In units of the largest eigenvalue, {'; '.join(parts)}.")


def quotient_bounds(rows: list[Row]) -> Judgement:
    """Twice the Rayleigh quotient, from any start."""
    return _quotients(rows, *STARTS)


def quotient_bounds_at_random(rows: list[Row]) -> Judgement:
    """Twice the Rayleigh quotient, from a random start."""
    return _quotients(rows, "random")


def _accelerated(rows: list[Row], schedule: str) -> Judgement:
    ratios = []
    for row in of(rows, Part.ACCELERATED, schedule=schedule):
        axes = {"n": row["n"], "condition": row["condition"]}
        ratios.append((row["error"] / one(rows, Part.ACCELERATED, schedule="newton_schulz", **axes)["error"], row))
    (_, _), (most, row) = extremes(ratios)
    least = min(row["error"] for _, row in ratios)
    return settle(
        most <= 2,
        f"Up to {most:.2g} times as large ({row['error']:.2g}; {place(row)}); the least error is {least:.2g}.",
    )


def published_schedule(rows: list[Row]) -> Judgement:
    """R17."""
    return _accelerated(rows, "published")


def tube(rows: list[Row]) -> Judgement:
    """R17, a remedy."""
    return _accelerated(rows, "chebyshev_accelerated")


def _chain(rows: list[Row], row: Row, X: str, M: str) -> Row:
    axes = {name: row[name] for name in ("p", "n", "condition")}
    return one(rows, Part.CHAINS, X=X, M=M, **axes)


def no_loss(rows: list[Row]) -> Judgement:
    """R20."""
    found = [row for row in of(rows, Part.CHAINS, X="float32", M="float16") if row["condition"] <= 1e4]
    ratios = [(row["error"] / _chain(rows, row, "float32", "float32")["error"], row) for row in found]
    (low, _), (high, row) = extremes(ratios)
    return settle(
        high <= 2,
        f"The error is {low:.2g} to {high:.2g} times that of float32 throughout, up to {row['error']:.2g} "
        f"({place(row)}).",
    )


def wide_X(rows: list[Row]) -> Judgement:
    """R20, what a wide X is good for."""
    ratios = []
    for format in NARROW:
        for row in of(rows, Part.CHAINS, X="float32", M=format):
            narrow = _chain(rows, row, format, format)["error"]
            if narrow < 0.5:
                ratios.append(narrow / row["error"])
    if not ratios:
        raise LookupError("no narrow chains that work")
    return settle(
        median(ratios) >= 2,
        f"The error is {median(ratios):.2g} times smaller in the median, between {min(ratios):.2g} and "
        f"{max(ratios):.2g} times.",
    )


def wide_M(rows: list[Row]) -> Judgement:
    """R20, what a wide M is good for."""
    over = []
    for format in NARROW:
        for row in of(rows, Part.CHAINS, X=format, M="float32"):
            wide = _chain(rows, row, "float32", "float32")["error"]
            over.append((row["error"] / (2 * wide + GENEROUS * ROUNDOFF[format]), row))
    ratio, row = max(over, key=lambda x: x[0])
    return settle(
        ratio <= 1,
        f"At most {ratio:.2g} of that: {row['error']:.2g}, or {row['error'] / ROUNDOFF[row['X']]:.2g} u "
        f"({place(row)}).",
    )


def drift(rows: list[Row]) -> Judgement:
    """R20, what happens after the best step."""
    found = [
        (row["last"] / row["error"], row)
        for X, M in CHAINS
        for row in of(rows, Part.CHAINS, X=X, M=M)
        if X == "float32" and M in NARROW and row["most"] < 0.5
    ]
    if not found:
        raise LookupError("no chains that work")
    (_, _), (most, row) = extremes(found)
    worse = sum(x > 1.1 for x, _ in found)
    return settle(
        2 * worse > len(found),
        f"The error grows by more than a tenth in {worse} of {len(found)} cases, at most {most:.2g} times "
        f"({place(row)}).",
    )


CLAIMS = (
    Claim(
        "R13",
        "Scaling by the Frobenius norm costs steps: by the largest eigenvalue, from a power iteration, coupled Newton "
        "never takes more, and in the median at least one less.",
        DASH,
        fewer_steps,
    ),
    Claim(
        "R13-bound",
        "It saves at most 1 + ln(|A|_F / |A|_2) / (p ln(1 + 1/p)) steps, which is little.",
        "derived: by so much are small eigenvalues larger at the start",
        few_steps,
    ),
    Claim(
        "R13-accuracy",
        "It makes the root more accurate, in nine cases of ten, in float32.",
        DASH,
        more_accurate,
    ),
    Claim(
        "R13-optimum",
        "The scaling of Guo and Higham, with known extreme eigenvalues, takes the fewest steps of all.",
        GUO_HIGHAM,
        optimal_steps,
    ),
    Claim(
        "R13-optimum-accuracy",
        "Its roots are as accurate: the error is at most twice that by the Frobenius norm.",
        "the optimum of Guo & Higham (2006), taken to accuracy",
        optimal_accuracy,
    ),
    Claim(
        "R13-quotient",
        "Twice the Rayleigh quotient of a power iteration bounds the largest eigenvalue, whatever the start.",
        DASH + ", whose scaling relies on it",
        quotient_bounds,
    ),
    Claim(
        "R13-quotient-random",
        "From a random start it does, after five steps at the latest.",
        DASH,
        quotient_bounds_at_random,
    ),
    Claim(
        "R17",
        "The ten published steps of Chebyshev-accelerated Newton-Schulz attain float32 accuracy: the error of the "
        "inverse square root is at most twice that of Newton-Schulz run to its end.",
        NVIDIA,
        published_schedule,
    ),
    Claim(
        "R17-tube",
        "A schedule whose polynomials let no eigenvalue fall below 1/4 that has been above does.",
        "derived: the published polynomials throw the largest eigenvalues down to the smallest",
        tube,
    ),
    Claim(
        "R20",
        "Coupled Newton with M in float16 and X in float32 loses no accuracy: the error is at most twice that of "
        "float32 throughout, up to a condition number of 1e4.",
        DASH + ", which keeps X in float32",
        no_loss,
    ),
    Claim(
        "R20-X",
        "With M in 16 bits an X in float32 makes the error at least two times smaller than an X in 16 bits.",
        DASH + ", which keeps X in float32",
        wide_X,
    ),
    Claim(
        "R20-M",
        "M is what needs the digits: with M in float32, an X in 16 bits has an error of at most twice that of float32 "
        "throughout and 16 unit roundoffs of its format.",
        "derived: a rounding of X is never made larger",
        wide_M,
    ),
    Claim(
        "R20-drift",
        "With M in 16 bits and X in float32 the error grows after the step with the least |M - I|, by more than a "
        "tenth in most cases.",
        "derived: roundings of M go on being multiplied into X",
        drift,
    ),
)
