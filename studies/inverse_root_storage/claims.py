"""What is claimed of storage, and how the rows settle it."""

import math
from collections.abc import Iterable, Iterator
from statistics import mean, median

from precond_lab.study import Claim, Judgement, Row, Status

from .cases import CONDITIONS, CORRECTIONS, DEFAULT, FEEDBACK, FORMS, STREAM_CONDITIONS

FOUR_BIT = "Wang et al., 4-bit Shampoo for Memory-Efficient Network Training (arXiv 2405.18144)"
CHOLESKY = "Li et al., Memory-Efficient 4-bit Preconditioned Stochastic Optimization (arXiv 2412.10663)"
GOOGLE = "google-research/precondition, best_effort_memory_usage_reduction: int16, diagonal apart, ridge 1e-6"
PLAIN, CORRECTED = "eigenvectors", "eigenvectors, 4 steps"
MEASURES = {"repaired_error": "in the Frobenius norm", "repaired_update": "of the update"}


def of(rows: Iterable[Row], **axes: object) -> list[Row]:
    """The rows at given values of their axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if all(row[name] == value for name, value in axes.items())]
    if not found:
        raise LookupError(f"no rows with {axes}")
    return found


def typical(rows: Iterable[Row], name: str) -> float:
    """The median, with what is not a number as infinite."""
    return median(math.inf if math.isnan(row[name]) else row[name] for row in rows)


def once(rows: list[Row], subject: str = "statistics", ridge: float = 0.0) -> list[Row]:
    """What was stored once."""
    return of(rows, subject=subject, steps=0, ridge=ridge)


def streamed(rows: list[Row]) -> list[Row]:
    """What was stored in every step of a moving average."""
    return [row for row in rows if row["steps"]]


def cells(rows: list[Row], *names: str) -> Iterator[tuple[tuple, list[Row]]]:
    """The rows by the values of some axes."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from found.items()


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def vectors_not_matrix(rows: list[Row]) -> Judgement:
    """R11: which of the two survives eight bits."""
    found = of(once(rows), format="int8", p=4)
    bad = [row for row in of(found, form="diagonal apart") if row["condition"] >= 1e4]
    share = mean(row["indefinite"] for row in bad)
    worst = max(typical(of(found, form=PLAIN, condition=kappa), "error") for kappa in CONDITIONS)
    return _settle(
        share > 0.5 and worst <= 0.02,
        f"In int8 and without a ridge {share:.0%} of the matrices of condition 1e4 and more come back indefinite; "
        f"the root by stored eigenvectors is off by {worst:.2%} at most.",
    )


def correction(rows: list[Row]) -> Judgement:
    """R11: what Bjorck's iteration gives back."""
    gains = []
    for (format, kappa, p), cell in cells(once(rows), "format", "condition", "p"):
        if kappa >= 1e2:
            gain = typical(of(cell, form=PLAIN), "error") / typical(of(cell, form=CORRECTED), "error")
            gains.append((gain, f"{format}, condition {kappa:g}, p = {p}"))
    least, where = min(gains)
    return _settle(
        least >= 2,
        f"The error falls by a factor of {least:.2g} ({where}) to {max(gains)[0]:.2g}, "
        f"{median(gain for gain, _ in gains):.2g} in the median.",
    )


def one_step_suffices(rows: list[Row]) -> Judgement:
    """Whether more than one step of Bjorck's iteration is worth its products, in eight bits and more."""
    ratios = []
    for (format, kappa, p), cell in cells(once(rows), "format", "condition", "p"):
        if format not in ("int4", "dynamic4"):
            one, four = (typical(of(cell, form=form), "error") for form in (list(CORRECTIONS)[1], CORRECTED))
            ratios.append((one / four, f"{format}, condition {kappa:g}, p = {p}"))
    worst, where = max(ratios)
    return _settle(worst <= 1.1, f"With one step the error is at most {worst:.3g} times that with four ({where}).")


def vectors_in_a_stream(rows: list[Row]) -> Judgement:
    """R11 where the statistics are stored in every step."""
    found = [row for row in streamed(rows) if row["p"] == 4 and row["form"] == CORRECTED and row["format"] == "int8"]
    errors = [typical(of(found, condition=kappa), "error") for kappa in STREAM_CONDITIONS]
    text = ", ".join(f"{e:.1%} at {kappa:g}" for e, kappa in zip(errors, STREAM_CONDITIONS, strict=True))
    return _settle(max(errors) <= 0.02, f"After {found[0]['steps']} steps in int8, p = 4: {text}.")


def sixteen_bits(rows: list[Row]) -> Judgement:
    """R12."""
    found = of(once(rows, ridge=DEFAULT), form="diagonal apart", format="int16", p=4)
    errors = {kappa: typical(of(found, condition=kappa), "repaired_error") for kappa in CONDITIONS if kappa <= 1e6}
    lost = sum(row["indefinite"] for row in of(found, condition=1e6))
    bare = of(once(rows), form="diagonal apart", format="int16", p=4, condition=1e6)
    return _settle(
        max(errors.values()) <= 0.01,
        f"The root with a ridge of 1e-6, p = 4, is off by {errors[1e4]:.2%} at a condition number of 1e4 and "
        f"{errors[1e6]:.0%} at 1e6; there {lost} of {len(of(found, condition=1e6))} matrices are indefinite with the "
        f"ridge, {sum(row['indefinite'] for row in bare)} of {len(bare)} without.",
    )


def norm_tells(rows: list[Row]) -> Judgement:
    """R25: whether the Frobenius norm of the error tells that of the update."""
    found = [
        (typical(cell, "update") / typical(cell, "error"), *place)
        for place, cell in cells(once(rows, "root"), "form", "format", "condition", "p")
    ]
    worst, form, format, kappa, p = max(found)
    bfloat16 = of(once(rows, "root"), form="matrix", format="bfloat16", condition=1e6, p=2)
    return _settle(
        worst <= 3,
        f"At most {worst:.3g} times it ({form}, {format}, condition {kappa:g}, p = {p}). The exact root for p = 2 at "
        f"1e6, kept in bfloat16: {typical(bfloat16, 'error'):.2%} in the norm, {typical(bfloat16, 'update'):.0%} of "
        "the update.",
    )


def winners(rows: list[Row], p: int, condition: float, name: str) -> dict[str, str]:
    """By format: the form with the least error."""
    best: dict[str, tuple[float, str]] = {}
    for (format, form), cell in cells(of(rows, p=p, condition=condition), "format", "form"):
        best[format] = min(best.get(format, (math.inf, form)), (typical(cell, name), form))
    return {format: form for format, (_, form) in best.items()}


def _at(rows: list[Row], form: str, format: str, name: str) -> float:
    return typical(of(rows, form=form, format=format), name)


def same_ranking(rows: list[Row]) -> Judgement:
    """R25: whether both measures rank forms alike."""
    found, differ = 0, []
    whole = [row for row in rows if not row["steps"] and not row["ridge"]]
    for (subject, p, kappa, format), cell in cells(whole, "subject", "p", "condition", "format"):
        found += 1
        norm, update = (winners(cell, p, kappa, name)[format] for name in MEASURES)
        gain = _at(cell, norm, format, "repaired_update") / _at(cell, update, format, "repaired_update")
        if gain > 1.1:
            place = f"{subject}, {format}, condition {kappa:g}, p = {p}"
            differ.append((gain, f"{place}: {norm} by the norm, {update} by the update"))
    if not differ:
        return _settle(True, f"The form that is first by the norm is within 10 % of the first in all {found} cells.")
    gain, where = max(differ)
    return _settle(
        False, f"In {len(differ)} of {found} cells it is not; most of all {where}, which is {gain:.2g} times better."
    )


def never_indefinite(rows: list[Row]) -> Judgement:
    """Factors and eigenvectors."""
    safe = [row for row in rows if row["subject"] == "statistics" and row["form"] not in FORMS[:2]]
    bad = sum(row["indefinite"] for row in safe)
    other = of(rows, subject="statistics", form="matrix")
    return _settle(
        bad == 0,
        f"{bad} of {len(safe)} are; of those stored entry by entry {mean(row['indefinite'] for row in other):.0%}.",
    )


def feedback(rows: list[Row]) -> Judgement:
    """What error feedback does to a stream of factors."""
    gains: dict[str, list[float]] = {}
    for (format, _, _), cell in cells(streamed(rows), "format", "condition", "p"):
        without, with_it = (typical(of(cell, form=form), "error") for form in ("Cholesky", FEEDBACK))
        gains.setdefault(format, []).append(without / with_it)
    middle = {format: median(of_format) for format, of_format in gains.items()}
    least, most = min(middle, key=middle.__getitem__), max(middle, key=middle.__getitem__)
    each = [gain for of_format in gains.values() for gain in of_format]
    return _settle(
        middle[least] > 1,
        f"In the median over exponents and condition numbers it divides the error by {middle[least]:.2f} ({least}) to "
        f"{middle[most]:.2f} ({most}); in single cells by {min(each):.2f} to {max(each):.2f}.",
    )


CLAIMS = (
    Claim(
        "R11",
        "Quantize eigenvectors, not the matrix: in int8 most matrices with a condition number of 1e4 or more come back "
        "indefinite, and the root by eigenvectors is within two percent at any.",
        FOUR_BIT,
        vectors_not_matrix,
    ),
    Claim(
        "R11-bjorck",
        "Four Bjorck steps at least halve the error of the root by stored eigenvectors, from a condition number of 1e2 "
        "on.",
        FOUR_BIT,
        correction,
    ),
    Claim(
        "R11-one-step",
        "With eight bits or more one Bjorck step is as good as four, to ten percent.",
        "derived",
        one_step_suffices,
    ),
    Claim(
        "R11-stream",
        "That holds for statistics that are stored in every step as well: int8, four Bjorck steps, within two percent "
        "up to a condition number of 1e6.",
        FOUR_BIT,
        vectors_in_a_stream,
    ),
    Claim(
        "R11-definite",
        "Statistics that are stored as eigenvectors or as a Cholesky factor never come back indefinite.",
        "derived",
        never_indefinite,
    ),
    Claim(
        "R12",
        "To keep statistics in int16 is harmless: the root is within one percent up to a condition number of 1e6.",
        GOOGLE,
        sixteen_bits,
    ),
    Claim(
        "R25",
        "The relative error of a stored root in the Frobenius norm tells what the optimizer feels: the error of the "
        "update is at most three times it.",
        "derived",
        norm_tells,
    ),
    Claim(
        "R25-rank",
        "The form that is first in the Frobenius norm is first for the update as well, to ten percent, for statistics "
        "and roots that are stored once.",
        "derived",
        same_ranking,
    ),
    Claim(
        "EF",
        "Error feedback lessens the error of the root by stored Cholesky factors, in the median of every format.",
        CHOLESKY,
        feedback,
    ),
)


def answer(rows: list[Row]) -> str:
    """The sentence below the question."""
    kappa, format = 1e6, "int8"
    parts = []
    for text, found in (
        ("Statistics stored once", once(rows)),
        ("Roots", once(rows, "root")),
        ("Statistics stored in every step", streamed(rows)),
    ):
        cell = of(found, p=4, condition=kappa)
        firsts = []
        for name, measure in MEASURES.items():
            best = winners(cell, 4, kappa, name)[format]
            firsts.append(f"{measure} {best} ({_at(cell, best, format, name):.2g})")
        parts.append(
            f"{text}: first {' and '.join(firsts)}; the plain matrix has "
            f"{' and '.join(f'{_at(cell, FORMS[0], format, name):.2g}' for name in MEASURES)}."
        )
    return f"In int8, at a condition number of 1e6 and p = 4. {' '.join(parts)}"
