"""Judges of what is lost, from which condition number on, and of the cures."""

import math
from statistics import mean, median

from precond_lab.study import Judgement, Row

from .cases import FACTORS, LONG, ORDER, ROUNDOFF, Part, decay
from .rows import cells, lost, of, settle, strain, thresholds, typical

SIXTEEN = ("bfloat16", "float16")


def _share(rows: list[Row]) -> str:
    return f"{sum(map(lost, rows))} of {len(rows)}"


def _plain(rows: list[Row]) -> list[Row]:
    return of(rows, Part.THRESHOLDS, form="symmetric", arithmetic="stored")


def threshold_of_dense(rows: list[Row]) -> Judgement:
    """E9."""
    found = _plain(rows)
    low = [row for row in found if strain(row) <= 0.25]
    high = [row for row in found if strain(row) >= 4]
    first = min(strain(row) for row in found if lost(row))
    last = max(strain(row) for row in found if not lost(row))
    sizes = sorted({row["n"] for row in found})
    return settle(
        not any(map(lost, low)) and mean(map(lost, high)) >= 0.5,
        f"Lost: {_share(low)} up to kappa u = 0.25, {_share(high)} from 4 on (n = {', '.join(map(str, sizes))}); the "
        f"first loss is at {first:.2g}, the last survivor at {last:.2g}.",
    )


def threshold_by_order(rows: list[Row]) -> Judgement:
    """E9: whether the threshold depends on the order."""
    sizes = sorted({row["n"] for row in of(_plain(rows), beta=LONG)})
    return _alike(rows, {f"n = {n}": (n, LONG) for n in sizes}, f"At beta = {LONG:.4g}")


def threshold_by_memory(rows: list[Row]) -> Judgement:
    """E9: whether it depends on the decay."""
    return _alike(rows, {f"beta = {beta:.4g}": (8, beta) for beta in (decay(8), LONG)}, "At n = 8")


def _alike(rows: list[Row], settings: dict[str, tuple[int, float]], where: str) -> Judgement:
    parts, worst = [], 1.0
    for format in SIXTEEN:
        edges = {name: thresholds(rows, "symmetric", n=n, beta=beta)[format] for name, (n, beta) in settings.items()}
        worst = max(worst, max(edges.values()) / min(edges.values()))
        parts.append(f"{format} {', '.join(f'{edge:.2g} ({name})' for name, edge in edges.items())}")
    return settle(worst <= 2, f"{where}, thresholds of kappa u: {'; '.join(parts)}.")


def graded_is_benign(rows: list[Row]) -> Judgement:
    """E9 for spectra along the axes."""
    found = of(rows, Part.SURVIVAL, form="symmetric", arithmetic="stored", stream="graded", format="bfloat16")
    bad = [row for row in found if lost(row) or row["error"] > 0.1]
    return settle(
        not bad,
        f"Lost or off by more than a tenth: {len(bad)} of {len(found)} runs in bfloat16 with condition numbers up to "
        f"{max(row['largest_condition'] for row in found):.1e}; errors of {max(row['error'] for row in found):.2g} "
        f"at most.",
    )


def _ratio(rows: list[Row], form: str, arithmetic: str = "stored") -> dict[str, float]:
    """The threshold of a form over that of the symmetric form, by format."""
    plain = thresholds(rows, "symmetric")
    return {format: edge / plain[format] for format, edge in thresholds(rows, form, arithmetic).items()}


def _times(ratios: dict[str, float]) -> str:
    return ", ".join(f"{ratio:.2f} ({format})" for format, ratio in ratios.items())


def joseph_does_not_help(rows: list[Row]) -> Judgement:
    """E12."""
    ratios = _ratio(rows, "joseph")
    holds = all(0.5 <= ratio <= 2 for ratio in ratios.values())
    return settle(holds, f"Its threshold is {_times(ratios)} times that of the symmetric form.")


def stochastic_does_not_help(rows: list[Row]) -> Judgement:
    """E30."""
    ratios = _ratio(rows, "symmetric", "stochastic")
    holds = all(ratio <= 2 for ratio in ratios.values())
    return settle(holds, f"Its threshold is {_times(ratios)} times that of rounding to nearest.")


def arrays_cost(rows: list[Row]) -> Judgement:
    """Roundings of arrays beside those of the state."""
    ratios = _ratio(rows, "symmetric", "computed")
    holds = all(1 / 3 <= ratio <= 1 for ratio in ratios.values())
    return settle(holds, f"The threshold is {_times(ratios)} times that with arrays in float32.")


def _factors(rows: list[Row]) -> list[Row]:
    return [row for row in of(rows, Part.SURVIVAL) if row["form"] in FACTORS]


def never_negative(rows: list[Row]) -> Judgement:
    """E13."""
    found = _factors(rows)
    negative = [row for row in found if row["negative"] or row["outcome"] == "indefinite"]
    formats = sorted({row["format"] for row in found})
    unknown = sum(row["unknown"] for row in found)
    return settle(
        not negative,
        f"{len(negative)} of {len(found)} runs have one ({', '.join(formats)}); float64 left {unknown} states "
        f"undecided "
        "that are semidefinite by construction.",
    )


def never_singular(rows: list[Row]) -> Judgement:
    """E13: whether that is enough."""
    found = _factors(rows)
    bad = [row for row in found if lost(row)]
    where = {f"{row['form']} in {row['format']}, {row['outcome']}" for row in bad}
    least = min((row["condition"] for row in bad), default=math.inf)
    return settle(
        not bad,
        f"{len(bad)} of {len(found)} runs are lost"
        + (f": {'; '.join(sorted(where))}, from a condition number of {least:.1e} on." if bad else "."),
    )


def ud_before_potter(rows: list[Row]) -> Judgement:
    """E13: the ranking."""
    found = [row for row in of(rows, Part.SURVIVAL, stream="rotated") if row["condition"] <= 1e4]
    ratios = []
    axes = ("format", "arithmetic", "condition")
    potter = dict(cells(of(found, form="potter"), *axes))
    for where, cell in cells(of(found, form="bierman_ud"), *axes):
        if where in potter:
            ratios.append((typical(cell, "error") / typical(potter[where], "error"), where))
    worst, where = max(ratios)
    sixteen = max(ratio for ratio, (format, *_) in ratios if format in SIXTEEN)
    return settle(
        worst <= 1,
        f"In 16 bits at most {sixteen:.2f} times it, in all {worst:.2f} ({where[0]}, {where[1]}, condition "
        f"{where[2]:.3g}), "
        f"{median(r for r, _ in ratios):.2f} "
        f"in the median of {len(ratios)} cells.",
    )


def ud_is_best(rows: list[Row]) -> Judgement:
    """The ranking of factors in 16 bits."""
    found = of(rows, Part.SURVIVAL, stream="rotated", arithmetic="stored")
    worse, count = [], 0
    for (format, condition), cell in cells(found, "format", "condition"):
        errors = {form: typical(some, "error") for (form,), some in cells(cell, "form") if form in FACTORS}
        if format in SIXTEEN and condition <= 1e5:
            count += 1
            best = min(errors, key=errors.__getitem__)
            gain = errors["bierman_ud"] / errors[best]
            worse += [(gain, f"{best} in {format} at {condition:.3g}")] if gain > 1.1 else []
    if not worse:
        return settle(True, f"It is, to ten percent, in all {count} cells.")
    gain, where = max(worse)
    return settle(False, f"In {len(worse)} of {count} cells it is not; most of all {where} is {gain:.2g} times better.")


def root_overflows(rows: list[Row]) -> Judgement:
    """E14."""
    found = of(rows, Part.OVERFLOW, form="potter, one root", condition=1e5)
    narrow, wide = (typical(of(found, arithmetic=kind), "error") for kind in ("all", "computed"))
    separate = typical(of(rows, Part.OVERFLOW, form="potter", arithmetic="all", condition=1e5), "error")
    return settle(
        narrow > 0.2 and wide <= 0.05,
        f"At a condition number of 1e5 the error is {narrow:.2g} with scalars in float16, {wide:.2g} with scalars in "
        f"float32; with a product of two roots {separate:.2g} in float16 throughout.",
    )


def integers(rows: list[Row]) -> Judgement:
    """E15."""
    bare, scaled = (of(rows, Part.EIGHT_BITS, form=form) for form in ("symmetric", "scaled"))
    steps = sorted(row["first_loss"] or math.inf for row in of(bare, condition=2e2))
    return settle(
        all(map(lost, bare)) and not any(map(lost, scaled)),
        f"Lost: {_share(bare)} with one scale for all, at 2e2 in steps {', '.join(map(str, steps))}; "
        f"{_share(scaled)} with "
        f"the diagonal apart, whose error is {max(row['error'] for row in scaled):.2g} at most.",
    )


def refresh_caps(rows: list[Row]) -> Judgement:
    """E24."""
    found = [row for row in of(rows, Part.THRESHOLDS) if row["form"].startswith("refreshed") and 4 < strain(row) <= 64]
    plain = [row for row in of(_plain(rows), n=ORDER, beta=decay(ORDER)) if 4 < strain(row) <= 64]
    forms = {form: [row for row in found if row["form"] == form] for form in sorted({row["form"] for row in found})}
    error = max(row["error"] for row in forms["refreshed 10"])
    shares = ", ".join(f"{_share(rows)} {form}" for form, rows in forms.items())
    return settle(
        all(mean(map(lost, rows)) >= 0.5 for rows in forms.values()) and error <= 0.1,
        f"For kappa u from 4 to 64 runs are lost in {shares}; the error is {error:.2g} at most with k = 10, "
        f"{typical(plain, 'error'):.2g} in the median without refreshment.",
    )


def master_threshold(rows: list[Row]) -> Judgement:
    """E26: when the copy is lost."""
    ratios = _ratio(rows, "master_copy")
    return settle(
        min(ratios.values()) >= 4, f"The threshold of the copy is {_times(ratios)} times that of the recursion."
    )


def master_error(rows: list[Row], strain_up_to: float = math.inf) -> Judgement:
    """E26: the error of the copy, also where it is no longer definite."""
    copies = [row for row in of(rows, Part.THRESHOLDS, form="master_copy") if strain(row) <= strain_up_to]
    worst, where = max(((row["error"] / ROUNDOFF[row["format"]], row) for row in copies), key=lambda pair: pair[0])
    return settle(
        worst <= 2,
        f"At most {worst:.3g} u, in {where['format']} at a kappa u of {strain(where):.3g}; the largest kappa u here is "
        f"{max(map(strain, copies)):.3g}.",
    )
