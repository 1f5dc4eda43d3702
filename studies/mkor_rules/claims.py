"""What is claimed of MKOR's two rules, and how the rows settle it."""

import math
from collections.abc import Callable, Iterable
from statistics import median

from precond_lab.study import Claim, Judgement, Row, Status

from .cases import CODED, GAMMAS, KINDS, STORES, STREAMS, Part

MKOR = "MKOR (Mozaffari et al., NeurIPS 2023)"
CODE = "the code released with MKOR"
SIXTEEN = ("float16", "bfloat16")
ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


def of(rows: Iterable[Row], part: Part, **axes: object) -> list[Row]:
    """The rows of a part at given values of its axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if row["part"] == part.value and all(row[k] == v for k, v in axes.items())]
    if not found:
        raise LookupError(f"no rows of part {part.value} with {axes}")
    return found


def factor(gamma: float) -> float:
    """Gamma + gamma^-3, by which the printed rule multiplies a direction of large s."""
    return gamma + gamma**-3


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def growth(rows: list[Row]) -> Judgement:
    """E16."""
    found = of(rows, Part.STEP)
    apart = max(abs(row["printed_factor"] / row["printed_law"] - 1) for row in found)
    last = max(row["log_gain"] for row in found)
    ends = {row["gamma"]: row["printed_factor"] for row in found if row["log_gain"] == last}
    limits = {gamma: abs(value / factor(gamma) - 1) for gamma, value in ends.items()}
    figures = ", ".join(f"{value:.4f} for {factor(gamma):.4f} at gamma = {gamma}" for gamma, value in ends.items())
    return _settle(
        apart <= 1e-9 and max(limits.values()) <= 1e-2,
        f"Factor of one step at s = 1e{last:.0f}: {figures}; off the law in s by {apart:.0e} at most.",
    )


def inverts(rows: list[Row]) -> Judgement:
    """E16-inverse."""
    found = of(rows, Part.STEP, gamma=CODED)
    wrong = sum(row["printed_factor"] > 1 > row["true_factor"] for row in found)
    large = [row for row in found if row["log_gain"] >= 0]
    worst = max(abs(row["printed_factor"] / row["true_factor"] - 1) for row in found)
    one = min(large, key=lambda row: abs(row["log_gain"] - 1))
    return _settle(
        worst <= 1e-9,
        f"At s = {one['s']:.3g} one step multiplies j^T J j by {one['printed_factor']:.3f} as printed and by "
        f"{one['true_factor']:.3f} in the inverse of gamma C + (1 - gamma) j j^T; at {wrong} of {len(found)} sizes "
        "of s it grows where the inverse shrinks.",
    )


def stabilizer(*starts: float) -> Callable[[list[Row]], Judgement]:
    """Whether the stabilized rule is bounded just where zeta is below 1 / (gamma + gamma^-3), from some starts."""

    def judge(rows: list[Row]) -> Judgement:
        found = [row for start in starts for row in of(rows, Part.STABILIZER, start=start)]
        figures, wrong = [], 0
        for gamma in GAMMAS:
            here = [row for row in found if row["gamma"] == gamma]
            below = [row for row in here if row["weight_over_bound"] < 1]
            above = [row for row in here if row["weight_over_bound"] > 1]
            wrong += sum(not row["bounded"] for row in below) + sum(row["bounded"] for row in above)
            figures.append(
                f"gamma = {gamma}, bound {1 / factor(gamma):.4f}: {sum(r['bounded'] for r in below)} of "
                f"{len(below)} runs below it bounded, {sum(r['bounded'] for r in above)} of {len(above)} above it"
            )
        return _settle(wrong == 0, f"{'; '.join(figures)}.")

    return judge


def last_rows(rows: list[Row], rule: str, stream: str) -> list[Row]:
    """A rule at the end of its runs."""
    found = of(rows, Part.TRACK, rule=rule, stream=stream)
    return [row for row in found if row["t"] == row["steps"]]


def directions(rows: list[Row]) -> Judgement:
    """E16-direction."""
    cosines = {
        rule: {stream: median(row["cosine"] for row in last_rows(rows, rule, stream)) for stream in STREAMS}
        for rule in ("printed", "released")
    }
    figures = "; ".join(
        f"{rule}: {', '.join(f'{value:.2f} {stream}' for stream, value in found.items())}"
        for rule, found in cosines.items()
    )
    largest = median(row["largest"] for row in last_rows(rows, "printed", "noisy"))
    return _settle(
        all(cosines["printed"][stream] < 0.1 < cosines["released"][stream] for stream in ("constant", "noisy")),
        f"Median cosine of J g to the inverse applied to g after {of(rows, Part.TRACK)[0]['steps']} steps, "
        f"{figures}; the largest entry of the printed J is {largest:.0e}.",
    )


def spectrum(rows: list[Row]) -> Judgement:
    """E17-spectrum."""
    found = of(rows, Part.RELEASED, format="float64")
    low, high = min(row["least_over_law"] for row in found), max(row["largest_eigenvalue"] for row in found)
    tight = {row["log_energy"]: 0.0 for row in found}
    for row in found:
        tight[row["log_energy"]] = max(tight[row["log_energy"]], 1 / row["least_over_law"])
    last = max(tight)
    return _settle(
        low >= 1 - 1e-9 and high <= 1 + 1e-12,
        f"The least eigenvalue times 20 + |v|^2 is at least {low:.6f}, the largest eigenvalue at most {high:.12g}; "
        f"1 over the former comes to {tight[last]:.4f} at |v|^2 = {2**last - 20:.0f}.",
    )


def losses(rows: list[Row], format: str, mode: str) -> dict[float, list[bool]]:
    """By u (20 + |v|^2), whether each run was lost."""
    found: dict[float, list[bool]] = {}
    for row in of(rows, Part.RELEASED, format=format, mode=mode):
        found.setdefault(row["energy_in_u"], []).append(row["lost"])
    return dict(sorted(found.items()))


def first_loss(rows: list[Row], format: str, mode: str) -> float:
    """The least u (20 + |v|^2) at which a run was lost; infinite if none was."""
    return min((x for x, lost in losses(rows, format, mode).items() if any(lost)), default=math.inf)


def transition(rows: list[Row]) -> Judgement:
    """E17: with the value before the first loss, which is how finely it is known."""
    found = {(format, mode): first_loss(rows, format, mode) for format in SIXTEEN for mode in STORES[format]}
    before = {key: max((y for y in losses(rows, *key) if y < x), default=0.0) for key, x in found.items()}
    figures = ", ".join(f"{x:.3g} {key[0]} {key[1]} (none at {before[key]:.3g})" for key, x in found.items())
    return _settle(
        all(0.5 <= x <= 8 for x in found.values()),
        f"The least u (20 + |v|^2) with a loss, on a grid of a factor 2^(1/4) from 2 to 16: {figures}.",
    )


def always_lost(rows: list[Row]) -> Judgement:
    """E17-every."""
    figures, holds = [], True
    for format in SIXTEEN:
        for mode in STORES[format]:
            above = {x: lost for x, lost in losses(rows, format, mode).items() if x > 8}
            kept = {x: lost for x, lost in above.items() if not all(lost)}
            holds &= bool(above) and not kept
            last = f", the last at {max(kept):.3g}" if kept else ""
            total, alive = sum(map(len, above.values())), sum(len(x) - sum(x) for x in kept.values())
            figures.append(f"{alive} of {total} {format} {mode}{last}")
    return _settle(holds, f"Runs beyond u (20 + |v|^2) = 8 that stayed definite: {'; '.join(figures)}.")


def lemma_ratios(rows: list[Row]) -> str:
    """The largest error over the bound, by kind."""
    found = of(rows, Part.LEMMA)
    return ", ".join(f"{max(r['error_over_bound'] for r in found if r['kind'] == k):.8f} {k}" for k in KINDS)


def lemma_holds(rows: list[Row]) -> Judgement:
    """E18."""
    worst = max(of(rows, Part.LEMMA), key=lambda row: row["error_over_bound"])
    return _settle(
        worst["error_over_bound"] <= 1,
        f"Largest error over the bound: {lemma_ratios(rows)}; the largest, {worst['error_over_bound'] - 1:.1e} from "
        f"one at d = {worst['d']} and entries up to {worst['entry']:g}, with 50 digits.",
    )


def lemma_holds_of_both(rows: list[Row]) -> Judgement:
    """E18-both."""
    found = of(rows, Part.LEMMA)
    worst = {k: max(r["error_over_larger_bound"] for r in found if r["kind"] == k) for k in KINDS}
    figures = ", ".join(f"{value:.8f} {kind}" for kind, value in worst.items())
    return _settle(max(worst.values()) <= 1, f"Largest error over the bound with that m: {figures}.")


def lemma_holds_to_first_order(rows: list[Row]) -> Judgement:
    """E18-first-order."""
    excess = max((row["error_over_bound"] - 1) / ROUNDOFF[row["format"]] for row in of(rows, Part.LEMMA))
    return _settle(
        excess <= 2, f"Largest error over the bound: {lemma_ratios(rows)}, which is {excess:.2g} u above one at most."
    )


def lemma_is_vacuous(*entries: float) -> Callable[[list[Row]], Judgement]:
    """Whether at d of 1024 or more the error is below 1e-4 of the bound, for some sizes of the entries."""

    def judge(rows: list[Row]) -> Judgement:
        found = [row for entry in entries for row in of(rows, Part.LEMMA, entry=entry) if row["d"] >= 1024]
        figures = []
        for entry in entries:
            here = [row for row in found if row["entry"] == entry and row["kind"] == "definite"]
            ratio, size = (max(row[name] for row in here) for name in ("error_over_bound", "relative_bound"))
            figures.append(f"{ratio:.1e} with entries up to {entry:g}, the bound being {size:.2g} of J's largest entry")
        worst = max(row["error_over_bound"] for row in found)
        return _settle(worst < 1e-4, f"Error over the bound: at most {worst:.1e}; for drawn J, {'; '.join(figures)}.")

    return judge


def poisoned(stabilizers: tuple[str, ...], poison: str, *, caught: bool) -> Callable[[list[Row]], Judgement]:
    """Whether stabilizers catch what is not finite, or let it pass."""

    def judge(rows: list[Row]) -> Judgement:
        found = [row for name in stabilizers for row in of(rows, Part.POISON, stabilizer=name, poison=poison)]
        figures = ", ".join(
            f"{row['stabilizer']}: {'reset' if row['caught'] else 'passed'}, J is "
            f"{'' if row['finite_at_the_end'] else 'not '}finite {row['steps']} steps later"
            for row in found
        )
        return _settle(all(row["caught"] == row["finite_at_the_end"] == caught for row in found), f"{figures}.")

    return judge


def threshold(rows: list[Row], format: str) -> float:
    """The largest |v|^2 up to which no run of the format was lost, in any mode."""
    found = of(rows, Part.RELEASED, format=format)
    lost = min((row["log_energy"] for row in found if row["lost"]), default=math.inf)
    return max((2.0 ** row["log_energy"] - 20 for row in found if row["log_energy"] < lost), default=0.0)


def answer(rows: list[Row]) -> str:
    """The study's question, answered by its rows."""
    cosine = {rule: median(r["cosine"] for r in last_rows(rows, rule, "noisy")) for rule in ("printed", "released")}
    kept = ", ".join(
        f"{threshold(rows, format):.0f} in {format}" for format in ("float16", "bfloat16", "int8", "float8_e4m3fn")
    )
    return (
        "No, it does not follow the inverse: as printed a direction that is hit again grows by "
        f"{factor(CODED):.3f} a step where the inverse shrinks, and the preconditioned gradient ends at a cosine of "
        f"{cosine['printed']:.2f} to the right one. The released recursion is another algorithm, damped by its blend "
        f"with the identity: cosine {cosine['released']:.2f}, condition number at most 20 + |v|^2, and J stayed "
        f"positive definite up to |v|^2 of {kept}."
    )


def _claim(name: str, sentence: str, judge: Callable[[list[Row]], Judgement], source: str = "derived") -> Claim:
    return Claim(name, sentence, source, judge)


CLAIMS = (
    _claim(
        "E16",
        "One step of the printed rule multiplies j^T J j by gamma + (1 - gamma) s / (gamma^2 (1 + gamma (1 - "
        "gamma) s)), which tends to gamma + gamma^-3 > 1 as s = j^T J j grows.",
        growth,
    ),
    _claim(
        "E16-inverse",
        "The printed rule is the inverse of gamma C + (1 - gamma) j j^T.",
        inverts,
        f"{MKOR}, eq. 5 and 6, algorithm 1",
    ),
    _claim(
        "E16-stabilizer",
        "From a large J the stabilizer zeta J + (1 - zeta) I bounds the printed rule if and only if zeta < 1 / "
        "(gamma + gamma^-3).",
        stabilizer(1000.0),
    ),
    _claim("E16-stabilizer-identity", "So it does from J = I.", stabilizer(1.0)),
    _claim(
        "E16-direction",
        "Where vectors have a mean, the printed rule's preconditioned gradient ends nearly orthogonal to the right "
        "one, below a cosine of 0.1, and the released recursion's does not.",
        directions,
    ),
    _claim(
        "E17-spectrum",
        "In exact arithmetic the released recursion keeps every eigenvalue of J between 1 / (20 + |v|^2) and 1.",
        spectrum,
    ),
    _claim(
        "E17",
        "In 16 bits J first ceases to be positive definite at a u (20 + |v|^2) between 0.5 and 8, whether every "
        "operation on arrays is rounded or J alone when it is stored.",
        transition,
    ),
    _claim("E17-every", "Beyond u (20 + |v|^2) = 8 it does so in every run.", always_lost),
    _claim(
        "E18",
        "One step's error from quantized inputs is always at most (gamma + 4 (1 - gamma) / gamma^2 m^3 d^2) epsilon, m "
        "being the largest entry of the inputs as they were and epsilon the largest error of one.",
        lemma_holds,
        f"{MKOR}, lemma 3.3.2, which has it to a constant",
    ),
    _claim(
        "E18-both",
        "With m the largest entry of the inputs before and after they are quantized it always is.",
        lemma_holds_of_both,
    ),
    _claim(
        "E18-first-order",
        "With the m of the inputs as they were the error passes the bound by no more than 2u of it, a term of second "
        "order.",
        lemma_holds_to_first_order,
    ),
    _claim(
        "E18-vacuous",
        "At d of 1024 or more the error is below 1e-4 of that bound, with entries m of one or ten.",
        lemma_is_vacuous(1.0, 10.0),
    ),
    _claim("E18-vacuous-small", "So it is with entries of at most 0.1.", lemma_is_vacuous(0.1)),
    _claim(
        "E19",
        "NaN passes the stabilizers, the printed one and the released test for entries above 2.",
        poisoned(("printed blend", "released reset"), "nan", caught=False),
        CODE,
    ),
    _claim(
        "E19-infinity",
        "The released test catches an infinity.",
        poisoned(("released reset",), "infinity", caught=True),
        CODE,
    ),
    _claim(
        "E19-finite",
        "A test whether all entries are finite catches NaN.",
        poisoned(("reset unless finite",), "nan", caught=True),
    ),
)
