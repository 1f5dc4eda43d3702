"""How the rows settle each claim."""

import math
from collections.abc import Iterable

from precond_lab.study import Judgement, Row

from .cases import GUARDS, NOISES, OURS, PUBLISHED, REPORTING, ROUTINES, SCALED, SCALED_OURS, TURNS, USERS, Part
from .rows import RIGHT, UNIT, cells, number, of, off_rounding, settled, typical, worst

REPORTED = 0.1
"""What is reported below this is taken."""


def _named(names: Iterable[object]) -> str:
    return ", ".join(map(str, dict.fromkeys(names))) or "none"


def any_exponent(rows: list[Row], subject: str = "optax") -> Judgement:
    """R24."""
    found = of(rows, Part.EXPONENTS, subject=subject)
    wrong = [row for row in found if not row["error"] <= 1e-3]
    top = worst(found, "error")
    figure = (
        f"Wrong for p in: {_named(row['p'] for row in wrong)}; at most off by {top['error']:.2g} (p = {top['p']}, "
        f"condition {top['condition']:g})."
    )
    return settled(not wrong, figure)


def any_exponent_here(rows: list[Row]) -> Judgement:
    """R24, for the package."""
    return any_exponent(rows, "coupled_newton")


def _other_powers(rows: list[Row]) -> list[Row]:
    return [row for row in of(rows, Part.EXPONENTS, subject="optax") if row["p"] != row["power"]]


def another_power(rows: list[Row]) -> Judgement:
    """R24: what it is that optax returns."""
    found = [(row["error_other"] / (row["condition"] * UNIT), row) for row in _other_powers(rows)]
    ratio, top = max(found, key=lambda x: number(x[0]))
    return settled(
        all(x <= 10 for x, _ in found),
        f"In {len(found)} cases off that by at most {ratio:.2g} kappa u (p = {top['p']}, condition "
        f"{top['condition']:g}); off the root of p by {min(row['error'] for _, row in found):.2g} at least.",
    )


def wrong_power_is_reported(rows: list[Row]) -> Judgement:
    """R24: the indicator."""
    found = _other_powers(rows)
    top = worst(found, "reported")
    return settled(
        all(row["reported"] >= REPORTED for row in found),
        f"At most {top['reported']:.1g} is reported, for errors of {min(row['error'] for row in found):.2g} to "
        f"{max(row['error'] for row in found):.2g}; the certificate passes "
        f"{sum(row['certified'] for row in found if row['error'] > RIGHT)} of those above 1/16.",
    )


def _scaled(rows: list[Row], ours: bool) -> list[Row]:
    names = SCALED_OURS if ours else tuple(name for name in SCALED if name not in {*SCALED_OURS, *USERS})
    return [row for row in of(rows, Part.SCALES) if row["subject"] in names]


def scale_is_free(rows: list[Row]) -> Judgement:
    """R16."""
    parts = []
    for (subject,), found in cells(_scaled(rows, ours=False), "subject").items():
        off = [row["scale"] for row in found if off_rounding(row)]
        below, above = (max((k for k in off if k < 0), default=None), min((k for k in off if k > 0), default=None))
        if off:
            parts.append(
                f"{subject} (k <= {below}, k >= {above})".replace("k <= None, ", "").replace(", k >= None", "")
            )
    return settled(not parts, f"Not: {_named(parts)}, as far as the k that were tried tell.")


def spoiled_by_scale_is_seen(rows: list[Row]) -> Judgement:
    """R16: whether somebody notices."""
    spoiled = [row for row in _scaled(rows, ours=False) if not row["error_root"] <= RIGHT]
    taken = [row for row in spoiled if row["accepted"]]
    passed = sum(row["certified"] for row in spoiled)
    refused = [row for row in _scaled(rows, ours=False) if row["error_root"] <= RIGHT and not row["accepted"]]
    return settled(
        not taken,
        f"{len(taken)} of {len(spoiled)} are taken ({_named(row['subject'] for row in taken)}), and {len(refused)} "
        f"good ones are not ({_named(row['subject'] for row in refused)}); the certificate passes {passed} of the "
        "former.",
    )


def scale_is_exact_here(rows: list[Row]) -> Judgement:
    """R16, for the package."""
    found = _scaled(rows, ours=True)
    other = [row for row in found if not row["same"]]
    return settled(
        not other, f"Of {len(found)} roots {len(other)} have other bits ({_named(r['subject'] for r in other)})."
    )


def accepted_is_right(rows: list[Row]) -> Judgement:
    """R5, as a rule by which roots are taken."""
    found = [row for row in of(rows, Part.INDICATORS) if row["subject"] in REPORTING and row["accepted"]]
    wrong = [row for row in found if not row["error"] <= 0.1]
    if not found:
        raise LookupError("no root is accepted")
    decades = max(math.log10(row["error"] / max(row["reported"], UNIT)) for row in found if row["error"] > 0)
    parts = f"{len(wrong)} of {len(found)} are not"
    if wrong:
        top = worst(wrong, "error")
        parts += f": {top['subject']} is off by {top['error']:.2g} and reports {top['reported']:.1g}"
        parts += f" (condition {top['condition']:g}, p = {top['p']})"
    return settled(not wrong, f"{parts}; errors are up to {decades:.1f} decades above what is reported.")


def _certifiable(rows: list[Row]) -> list[Row]:
    """Rows with a certificate and the error of the root of the matrix as it was given."""
    found = []
    for row in rows:
        if "certified" in row:
            given = next(row[name] for name in ("error_stored", "error_root", "error") if name in row)
            found.append(row | {"error_given": given})
    if not found:
        raise LookupError("no rows with a certificate")
    return found


def certified_is_right(rows: list[Row]) -> Judgement:
    """R5, for the certificate."""
    found = [row for row in _certifiable(rows) if row["certified"]]
    wrong = [row for row in found if not row["error_given"] <= RIGHT]
    top = worst(wrong or found, "error_given")
    return settled(
        not wrong,
        f"Of {len(found)} that it passes {len(wrong)} are; the largest error is {top['error_given']:.2g} "
        f"({top['part']}, {top['subject']}, p = {top['p']}).",
    )


def right_is_certified(rows: list[Row]) -> Judgement:
    """R5, the other way."""
    found = [row for row in _certifiable(rows) if row["error_given"] <= RIGHT / 4]
    alarms = [row for row in found if not row["certified"]]
    return settled(
        not alarms,
        f"It does not pass {len(alarms)} of {len(found)} ({_named(row['subject'] for row in alarms)}).",
    )


def _at_1e10(rows: list[Row], subject: str) -> tuple[float, str]:
    found = of(rows, Part.INDICATORS, subject=subject, condition=1e10)
    parts = [
        f"p = {p}: off by {typical(some, 'error_root'):.2g}, reported {typical(some, 'reported'):.1g}"
        for (p,), some in cells(found, "p").items()
    ]
    return max(typical(some, "error_root") for some in cells(found, "p").values()), "; ".join(parts) + "."


def retrying_helps(rows: list[Row]) -> Judgement:
    """R3, for the rule that raises the ridge."""
    error, figure = _at_1e10(rows, "retried_newton")
    return settled(error <= 0.1, figure)


def float64_does(rows: list[Row]) -> Judgement:
    """R3, in float64."""
    error, figure = _at_1e10(rows, "retried_newton_float64")
    return settled(error <= 0.01, figure)


def maximum_of_nan(rows: list[Row]) -> Judgement:
    """R22."""
    found = of(rows, Part.GUARDS, guard="maximum")
    passed = [row for row in found if not row["flagged"]]
    fewest = f", from {min(row['elements'] for row in passed)} elements on" if passed else ""
    return settled(
        not passed,
        f"On {_named(row['backend'] for row in found)} it is not in {len(passed)} of {len(found)} arrays "
        f"({_named(row['format'] for row in passed)}{fewest}).",
    )


def other_guards(rows: list[Row]) -> Judgement:
    """R22, for what to do instead."""
    found = [
        row for name in GUARDS if name not in {"maximum", "threshold"} for row in of(rows, Part.GUARDS, guard=name)
    ]
    passed = [row for row in found if not row["flagged"]]
    return settled(not passed, f"They miss {len(passed)} of {len(found)} ({_named(row['guard'] for row in passed)}).")


def nan_is_refused(rows: list[Row]) -> Judgement:
    """R22, in the rules."""
    found = [row for row in of(rows, Part.INPUTS, input="nan") if row["subject"] in REPORTING]
    taken = [row for row in found if row["accepted"]]
    said = f", which report {_named(row['reported'] for row in taken)}" if taken else ""
    return settled(not taken, f"{len(taken)} of {len(found)} are taken ({_named(r['subject'] for r in taken)}{said}).")


def warm_start_is_accurate(rows: list[Row]) -> Judgement:
    """R14."""
    axes = ("p", "condition", "change", "seed")
    cold = {place: some[0]["error"] for place, some in cells(of(rows, Part.WARM, subject="cold"), *axes).items()}
    found = [row for row in of(rows, Part.WARM, subject="previous_root") if 0 < row["change"] <= 0.01]
    worse = [row for row in found if not row["error"] <= 10 * cold[tuple(row[name] for name in axes)]]
    some = of(found, condition=100.0, change=1e-3)
    far = of(found, condition=1e4, change=1e-2)
    return settled(
        not worse,
        f"In {len(worse)} of {len(found)} cases it is larger. A change of 0.1% at a condition number of 100: off by "
        f"{typical(some, 'error'):.2g} after {typical(some, 'steps'):g} steps; one of 1% at 1e4: "
        f"{typical(far, 'error'):.2g}.",
    )


def warm_start_is_reported(rows: list[Row]) -> Judgement:
    """R14: the indicator."""
    found = [row for row in of(rows, Part.WARM, subject="previous_root") if not row["error"] <= 0.1]
    hidden = [row for row in found if row["reported"] < REPORTED]
    passed = sum(row["certified"] for row in found)
    return settled(
        not hidden, f"It is smaller in {len(hidden)} of {len(found)} cases; the certificate passes {passed} of these."
    )


def basis_is_accurate(rows: list[Row]) -> Judgement:
    """R14, for the start that is right."""
    return _congruence(of(rows, Part.WARM, subject="previous_basis"))


def _congruence(found: list[Row]) -> Judgement:
    # A condition that float64 cannot tell is negative, or infinite.
    ratios = [
        number(row["error"]) / (row["condition_now"] * UNIT / row["p"]) if row["condition_now"] > 0 else math.inf
        for row in found
    ]
    return settled(max(ratios) <= 10, f"At most {max(ratios):.2g} kappa u / p in {len(found)} cases.")


def _unchanged(found: list[Row]) -> Judgement:
    off = [row for row in found if off_rounding(row)]
    top = worst(found, "difference")
    return settled(
        not off,
        f"{len(off)} of {len(found)} change by more, at most by {top['difference']:.2g} (by {top['subject']}, "
        f"2^{top['scale']}, "
        f"condition {top['condition']:g}).",
    )


def identity_padding(rows: list[Row]) -> Judgement:
    """R15."""
    return _unchanged([row for row in of(rows, Part.PADDING) if row["subject"].endswith("identity")])


def zero_padding(rows: list[Row]) -> Judgement:
    """R15, for zeros."""
    return _unchanged(of(rows, Part.PADDING, subject="optax_zeros"))


def sized_padding(rows: list[Row]) -> Judgement:
    """R15, for the package."""
    return _unchanged([row for row in of(rows, Part.PADDING) if row["subject"].endswith("size")])


def entries_agree(rows: list[Row]) -> Judgement:
    """R15, entry by entry."""
    found = [row for row in of(rows, Part.PADDING) if not off_rounding(row)]
    if not found:
        raise LookupError("no root has stayed the same")
    off = [row for row in found if not row["difference_entries"] <= 0.05]
    top = worst(found, "difference_entries")
    return settled(
        not off,
        f"In {len(off)} of {len(found)} cases they do not; they differ by up to {top['difference_entries']:.1%}, where "
        f"the root has changed by {top['difference']:.1g}.",
    )


def minimax_bound(rows: list[Row]) -> Judgement:
    """R18."""
    found = [(row["error"] / (2 * UNIT * row["condition"] / row["p"]), row) for row in of(rows, Part.MINIMAX)]
    ratio, top = max(found, key=lambda x: number(x[0]))
    over = sum(not x <= 3 for x, _ in found)
    return settled(
        not over,
        f"At most {ratio:.2g} kappa eps / p (p = {top['p']}, n = {top['n']}, condition {top['condition']:g}); above 3 "
        f"in {over} of {len(found)}.",
    )


def truncation_of_low_rank(rows: list[Row]) -> Judgement:
    """R19."""
    parts, better = [], []
    for noise in (x for x in NOISES if x <= 1e-7):
        cut, ridge = (
            typical(of(rows, Part.TRUNCATION, subject=name, noise=noise), "error_update")
            for name in ("cut_n_eps", "ridge_1e-6")
        )
        better.append(cut < ridge)
        parts.append(f"{cut:.1g} to {ridge:.1g} with noise {noise:g}")
    return settled(all(better), f"Errors of the update, cut to ridge: {', '.join(parts)}.")


def truncation_of_full_rank(rows: list[Row]) -> Judgement:
    """R19, where the rank is full."""
    found = of(rows, Part.TRUNCATION, noise=None)
    error = {name: typical(of(found, subject=name), "error") for name in ("cut_n_eps", "cut_1e-6", "ridge_1e-6")}
    return settled(error["cut_n_eps"] <= 0.1, f"Off by: {', '.join(f'{name} {e:.2g}' for name, e in error.items())}.")


def _tracked(rows: list[Row], name: str) -> Judgement:
    found = cells(of(rows, Part.TRACKING, subject="quotients"), "drift", "decay", "condition", "p")
    values = {place: typical(some, name) for place, some in found.items()}
    parts = []
    for drift, decay in dict.fromkeys(place[:2] for place in values):
        some = [value for place, value in values.items() if place[:2] == (drift, decay)]
        parts.append(f"{min(some):.2g} to {max(some):.2g} (drift {drift:g}, decay {decay:g})")
    return settled(max(values.values()) <= 0.1, f"Off by {'; '.join(parts)}.")


def tracked_root(rows: list[Row]) -> Judgement:
    """R27."""
    return _tracked(rows, "error")


def tracked_update(rows: list[Row]) -> Judgement:
    """R27, for the update."""
    return _tracked(rows, "error_update")


def turned_basis(rows: list[Row]) -> Judgement:
    """R27, after a jump."""
    found = cells(of(rows, Part.TURNED, subject="quotients"), "change", "condition", "p", "n")
    values = {place: typical(some, "error") for place, some in found.items()}
    most = {angle: max(value for place, value in values.items() if place[0] == angle) for angle in TURNS}
    parts = [f"{value:.2g} at {angle:g} rad" for angle, value in most.items()]
    return settled(all(most[angle] <= 0.1 for angle in TURNS if angle <= 0.01), f"Off by up to {', '.join(parts)}.")


def tracked_congruence(rows: list[Row]) -> Judgement:
    """R27, for what to do instead."""
    return _congruence(of(rows, Part.TRACKING, subject="eigen") + of(rows, Part.TURNED, subject="eigen"))


def _over_newton(rows: list[Row], subject: str) -> float:
    """The least by which its median error is above that of coupled Newton."""
    found = [row for row in of(rows, Part.ROUTINES) if row["condition"] >= 1e4]
    axes = ("p", "n", "condition")
    newton = cells(of(found, subject="coupled_newton"), *axes)
    return min(
        typical(some, "error") / typical(newton[place], "error")
        for place, some in cells(of(found, subject=subject), *axes).items()
    )


def newton_beats_all_routines(rows: list[Row]) -> Judgement:
    """R7."""
    ratios = {name: _over_newton(rows, name) for name in ROUTINES if name not in {"coupled_newton", "rational_minimax"}}
    return settled(
        min(ratios.values()) > 2,
        "Errors over that of coupled Newton, at least: " + ", ".join(f"{k} {x:.2g}" for k, x in ratios.items()) + ".",
    )


def newton_beats_divide_and_conquer(rows: list[Row]) -> Judgement:
    """R7, for the routine that JAX calls."""
    ratio = _over_newton(rows, "divide_and_conquer")
    return settled(ratio > 2, f"Its error is at least {ratio:.2g} times that of coupled Newton.")


def batch_cut(rows: list[Row]) -> Judgement:
    """The cut-off of a whole batch."""
    found = of(rows, Part.INPUTS, subject="eigh_batch_cut", input="beside_large")
    top = worst(found, "error_root")
    return settled(top["error_root"] <= RIGHT, f"The root is off by {top['error_root']:.2g}.")


def published_outcomes(rows: list[Row]) -> Judgement:
    """All inputs."""
    found = [row for row in of(rows, Part.INPUTS) if row["subject"] in PUBLISHED]
    parts = [
        f"{subject} {sum(row['outcome'] == 'silent' for row in some)}"
        for (subject,), some in cells(found, "subject").items()
    ]
    silent = sum(row["outcome"] == "silent" for row in found)
    return settled(not silent, f"{silent} of {len(found)} do: {', '.join(parts)}.")


def outcomes_here(rows: list[Row]) -> Judgement:
    """All inputs, for the package."""
    found = of(rows, Part.INPUTS)
    own = [row for row in found if row["subject"] in OURS]
    silent = [row for row in own if row["outcome"] == "silent"]
    passed = [row for row in found if row["certified"] and not number(row.get("error_root", math.nan)) <= RIGHT]
    return settled(
        not silent and not passed,
        f"{len(silent)} of {len(own)} do; of {len(found)} roots of all rules the adapter passes {len(passed)} that are "
        "wrong.",
    )
