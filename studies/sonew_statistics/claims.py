"""What is claimed of statistics in low precision, and how the rows settle it."""

import math
from collections.abc import Callable, Iterable
from statistics import median

from precond_lab.study import Claim, Judgement, Row, Status

from .cases import BETAS, RANGES

SONEW = "SONew (Devvrit et al., NeurIPS 2023, arXiv 2311.10085)"
ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
SAFE, TUNED, LOST = (
    0.975,
    0.972396,
    0.99,
)  # up to the first an average in bfloat16 is claimed to hold, from the last not


def of(rows: Iterable[Row], **axes: object) -> list[Row]:
    """The rows at given values of their axes; to find none is an error, which leaves a claim open."""
    found = [row for row in rows if all(row[name] == value for name, value in axes.items())]
    if not found:
        raise LookupError(f"no rows with {axes}")
    return found


def carried(rows: Iterable[Row], format: str, scheme: str, **axes: object) -> list[Row]:
    """The rows of one recurrence on gradients of size one, scaled where the range of the format asks for it."""
    return of(rows, format=format, scheme=scheme, exponent=0, scaling=RANGES[format].target is not None, **axes)


def worst(rows: Iterable[Row], name: str = "median_error") -> float:
    """The largest value, infinite where one is not a number."""
    return max(math.inf if math.isnan(row[name]) else row[name] for row in rows)


def least_cosine(rows: Iterable[Row]) -> float:
    """The least cosine, 0 where a direction is not finite."""
    return min(0.0 if math.isnan(row["cosine"]) else row["cosine"] for row in rows)


def by_decay(rows: list[Row], format: str, scheme: str) -> dict[float, list[Row]]:
    """The rows of one recurrence, by its decay."""
    return {beta2: carried(rows, format, scheme, beta2=beta2) for beta2 in BETAS}


def listed(values: dict[float, float], form: str = "{:.2%}") -> str:
    """Values by decay, as a reader takes them in."""
    return ", ".join(f"{form.format(value)} at {beta2}" for beta2, value in values.items())


def _settle(holds: bool, figure: str) -> Judgement:
    return Judgement(Status.CONFIRMED if holds else Status.REFUTED, figure)


def published_average(rows: list[Row]) -> Judgement:
    """C21."""
    found = by_decay(rows, "bfloat16", "average")
    errors = {beta2: worst(cell) for beta2, cell in found.items()}
    fails = min(row["median_error"] for beta2, cell in found.items() if beta2 >= LOST for row in cell)
    stored = found[0.999][0]["stored_beta2"]
    holds = all(error < 0.05 for beta2, error in errors.items() if beta2 <= SAFE)
    return _settle(
        holds and fails >= 0.05 and stored == 1,
        f"Median error of H_ii in bfloat16: {listed(errors)}; 0.999 is stored as {stored:g}, and H is then "
        f"{median(row['mean_ratio'] for row in found[0.999]):.2f} times what it should be.",
    )


def increments(rows: list[Row]) -> Judgement:
    """C21-increment."""
    errors = {beta2: worst(cell) for beta2, cell in by_decay(rows, "bfloat16", "increment").items()}
    holds = all(error < 0.05 for beta2, error in errors.items() if beta2 <= LOST) and errors[0.999] >= 0.05
    return _settle(holds, f"Median error in bfloat16: {listed(errors)}.")


def as_good_as_rounding(scheme: str) -> Callable[[list[Row]], Judgement]:
    """A cure that leaves an error below the unit roundoff of the format at every decay."""

    def judge(rows: list[Row]) -> Judgement:
        figures, holds = [], True
        for format, roundoff in ROUNDOFF.items():
            errors = {beta2: worst(cell) for beta2, cell in by_decay(rows, format, scheme).items()}
            holds &= all(error <= roundoff for error in errors.values())
            figures.append(f"{format}: at most {max(errors.values()) / roundoff:.2f} u ({listed(errors, '{:.3%}')})")
        return _settle(holds, f"Median error in {'; in '.join(figures)}.")

    return judge


def stochastic_averages(rows: list[Row]) -> Judgement:
    """C21-stochastic."""
    found = by_decay(rows, "bfloat16", "stochastic")
    errors = {beta2: worst(cell) for beta2, cell in found.items()}
    bias = max(abs(median(row["mean_ratio"] for row in cell) - 1) for cell in found.values())
    return _settle(
        all(error < 0.05 for error in errors.values()) and bias < 0.01,
        f"Median error in bfloat16: {listed(errors)}; the mean of H over all entries is off by {bias:.2%} at most.",
    )


def directions(scheme: str) -> Callable[[list[Row]], Judgement]:
    """Whether the direction that comes of the statistics is the exact one, in both formats at every decay."""

    def judge(rows: list[Row]) -> Judgement:
        figures, holds = [], True
        for format in ROUNDOFF:
            cosines = {beta2: least_cosine(cell) for beta2, cell in by_decay(rows, format, scheme).items()}
            holds &= all(cosine >= 0.98 for cosine in cosines.values())
            figures.append(f"{format}: {listed(cosines, '{:.4f}')}")
        return _settle(holds, f"Least cosine to the exact direction in {'; in '.join(figures)}.")

    return judge


def sums(rows: list[Row]) -> Judgement:
    """C21-sum."""
    plain, cured = (carried(rows, "bfloat16", scheme) for scheme in ("sum", "sum_compensated"))
    return _settle(
        all(row["mean_ratio"] < 0.5 for row in plain) and worst(cured) <= ROUNDOFF["bfloat16"],
        f"After {plain[0]['steps']} steps in bfloat16 the sum has come to "
        f"{median(row['mean_ratio'] for row in plain):.0%} of what it should be, the compensated one to a median error "
        f"of {worst(cured):.2%}; in float16 {median(r['mean_ratio'] for r in carried(rows, 'float16', 'sum')):.0%} and "
        f"{worst(carried(rows, 'float16', 'sum_compensated')):.3%}.",
    )


def float16_needs_scaling(rows: list[Row]) -> Judgement:
    """C22: where squares or the damping underflow, something is not finite; scaled and damped, nothing is."""
    plain = of(rows, format="float16", scaling=False)
    lost = [row for row in plain if row["underflowed_share"] > 0.5 or row["damping"] == 0]
    poisoned = sum(row["nonfinite_tuned"] > 0 for row in lost)
    undamped = of(rows, format="float16", scaling=True)
    default = sum(row["nonfinite_default"] > 0 for row in undamped)
    sound = _in_range(undamped)
    finite = sum(row["nonfinite_tuned"] == 0 for row in sound)
    return _settle(
        poisoned == len(lost) and default == len(undamped) and finite == len(sound),
        f"Unscaled, {poisoned} of {len(lost)} directions whose statistics or damping underflowed are not finite. "
        f"Scaled, {finite} of {len(sound)} are finite with gradients down to 2^{min(r['exponent'] for r in sound)}; "
        f"with a damping of 1e-8, which float16 does not have, {len(undamped) - default} of {len(undamped)} are.",
    )


def _in_range(rows: list[Row]) -> list[Row]:
    """Rows of gradients whose largest entries, of four standard deviations or so, are normal numbers of float16."""
    return [row for row in rows if row["exponent"] >= -14]


def representable_damping_suffices(rows: list[Row]) -> Judgement:
    """C22-reciprocal: what damps is there, no square was lost, and still the direction is not finite."""
    found = [
        row
        for row in of(rows, format="float16")
        if row["damping"] >= 2.0**-24 and row["underflowed_share"] == row["overflowed_share"] == 0
    ]
    bad = [row["damping"] for row in found if row["nonfinite_tuned"]]
    good = [row["damping"] for row in found if not row["nonfinite_tuned"]]
    return _settle(
        not bad,
        f"{len(bad)} of {len(found)} such directions are not finite, with dampings up to {max(bad, default=0):.2e}; "
        f"the least damping of a finite one is {min(good):.2e}, and 1 / x overflows float16 below 1.53e-05.",
    )


def scaling_restores(rows: list[Row]) -> Judgement:
    """C22-scaling."""
    axes = {"format": "float16", "scheme": "compensated", "beta2": TUNED}
    scaled, plain = (of(rows, scaling=scaling, **axes) for scaling in (True, False))
    sound, error = _in_range(scaled), worst(_in_range(scaled))
    widest = [row["exponent"] for row in plain if row["median_error"] <= ROUNDOFF["float16"]]
    return _settle(
        error <= ROUNDOFF["float16"],
        f"Median error with scaling: at most {error:.3%} from gradients of 2^{max(r['exponent'] for r in sound)} down "
        f"to 2^{min(r['exponent'] for r in sound)}; without it that holds from 2^{max(widest)} to 2^{min(widest)}.",
    )


def answer(rows: list[Row]) -> str:
    """The study's question, answered by its bfloat16 rows at the decay of 0.999."""
    errors = {name: worst(by_decay(rows, "bfloat16", name)[0.999]) for name in ("average", "stochastic", "compensated")}
    cosine = least_cosine(by_decay(rows, "bfloat16", "stochastic")[0.999])
    tuned = worst(by_decay(rows, "bfloat16", "average")[TUNED])
    return (
        f"With a second array: at beta2 = 0.999 the published average in bfloat16 is off by {errors['average']:.0%} "
        f"(at the tuned {TUNED} by {tuned:.1%}), under stochastic rounding by {errors['stochastic']:.1%}, which the "
        f"projection turns into a direction at cosine {cosine:.2f}, and compensated by {errors['compensated']:.2%}, as "
        f"good as a float32 state. float16 needs a scale on top, and a damping whose reciprocal it can hold."
    )


def _claim(name: str, sentence: str, judge: Callable[[list[Row]], Judgement], source: str = "derived") -> Claim:
    return Claim(name, sentence, source, judge)


CLAIMS = (
    _claim(
        "C21",
        "The exponential average as published keeps a median error below 5% in bfloat16 for beta2 up to 0.975, and not "
        "for beta2 of 0.99 or more; 0.999 rounds to 1.",
        published_average,
    ),
    _claim(
        "C21-increment",
        "Written as H + (1 - beta2) (g g^T - H), which needs no more storage, the average keeps a median error below "
        "5% in bfloat16 for beta2 up to 0.99, and not at 0.999.",
        increments,
    ),
    _claim(
        "C21-compensated",
        "Compensated in the format itself, bfloat16 or scaled float16, the average has a median error of at most u, as "
        "if it were only rounded, for beta2 up to 0.999.",
        as_good_as_rounding("compensated"),
        "derived, after Kahan (1965) and Knuth (TAOCP 2, 4.2.2)",
    ),
    _claim(
        "C21-float32",
        "Kept in float32 and rounded where it is used, the average has a median error of at most u, for beta2 up to "
        "0.999.",
        as_good_as_rounding("wide"),
    ),
    _claim(
        "C21-stochastic",
        "Under stochastic rounding the increment form of the average is unbiased, to within 1%, and has a median error "
        "below 5% in bfloat16, for beta2 up to 0.999.",
        stochastic_averages,
    ),
    _claim(
        "C21-stochastic-direction",
        "Under stochastic rounding the direction that the average gives, in bfloat16 and scaled float16, has a cosine "
        "of 0.98 or more to the exact one, for beta2 up to 0.999.",
        directions("stochastic"),
    ),
    _claim(
        "C21-compensated-direction",
        "The direction that the compensated average gives, in bfloat16 and scaled float16, has a cosine of 0.98 or "
        "more to the exact one, for beta2 up to 0.999.",
        directions("compensated"),
    ),
    _claim(
        "C21-sum",
        "The sum of the theory, with lambda_t = sqrt(t), stops growing in bfloat16 before it is half of what it should "
        "be; the compensated sum does not.",
        sums,
        SONEW + ", Algorithm 1; stagnation derived",
    ),
    _claim(
        "C22",
        "float16 needs gradients scaled so that g^2 does not underflow, and a damping that it can represent; otherwise "
        "directions are not finite.",
        float16_needs_scaling,
    ),
    _claim(
        "C22-reciprocal",
        "A damping of 6e-8 or more, which float16 can represent, suffices where no g^2 underflows.",
        representable_damping_suffices,
    ),
    _claim(
        "C22-scaling",
        "With a power of two found from max |g| the compensated average in float16 has a median error of at most u at "
        "every size of the gradients that float16 holds as normal numbers.",
        scaling_restores,
    ),
)
