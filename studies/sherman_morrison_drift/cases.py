"""The grid: forms, formats, arithmetics, and streams of vectors."""

import enum
import math
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from typing import Any

from precond_lab.study import Options


class Part(enum.StrEnum):
    """What kind of case a row is."""

    ASYMMETRY = "asymmetry"
    TILT = "tilt"
    PERTURBATION = "perturbation"
    STAGNATION = "stagnation"
    WINDUP = "windup"
    SURVIVAL = "survival"
    THRESHOLDS = "thresholds"
    EIGHT_BITS = "eight bits"
    OVERFLOW = "overflow"
    ROUNDING = "rounding"
    SANDWICH = "sandwich"
    FORWARD = "forward"
    REFINEMENT = "refinement"


ROUNDOFF = {
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "int8": 1 / 254,
    "float8_e4m3fn": 2.0**-4,
    "float64": 2.0**-53,
}
"""Half the spacing at one; of integers, half a step of the largest number."""


def loss_law(beta: float, format: str) -> float:
    """After how many steps an antisymmetric part of size u is as large as the inverse, when each divides it by beta."""
    return math.log(1 / ROUNDOFF[format]) / math.log(1 / beta)


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "gain": ("gain", {}),
    "outer": ("outer", {}),
    "both_sided": ("both_sided", {}),
    "symmetric": ("symmetric", {}),
    "joseph": ("joseph", {}),
    "scaled": ("scaled", {}),
    "refreshed 10": ("refreshed", {"k": 10}),
    "refreshed 50": ("refreshed", {"k": 50}),
    "master_copy": ("master_copy", {}),
    "ldl": ("ldl", {}),
    "information_cholesky": ("information_cholesky", {}),
    "potter": ("potter", {}),
    "potter, one root": ("potter", {"roots": "product"}),
    "bierman_ud": ("bierman_ud", {}),
}
"""Names of methods with their settings. "potter, one root" takes the root of a product that may overflow."""

DAMPING = 2.0**-6
"""What damping adds to every eigenvalue of C, in the mean, over the weight of a step."""

BLENDS = {"blending": 2.0**-4, "weak blending": 2.0**-5}
"""What is taken of the identity in every step by the cures of these names: more than 1 - beta = 0.05, and less."""


@cache
def stagnation_law(steps: int, format: str) -> float:
    """The relative error of P after so many steps of C <- C + v v^T with independent normal v, for n much below them.

    To first order a diagonal entry of P is 1 / m and a step takes v_i^2 / m of it, relatively. Rounding to nearest
    makes
    of v_i^2 the next multiple of 2 d m, where d is half the spacing, between u / 2 and u relatively; m grows by
    the mean of
    that, (2 d m) sum_k P(v_i^2 > (2 k - 1) d m): by 1 as long as d m is small, by ever less afterwards. The steps
    before
    add errors of root mean square d / 3^(1/2) that shrink as C grows.

    Args:
        steps: at least 1.
        format: of P.

    Returns:
        The root of the sum of squares of steps / m - 1 and of the random part.
    """
    u = ROUNDOFF[format]
    m = t = 1.0
    while t < steps:
        dt = min(max(1.0, t / 100), steps - t)
        m += dt * sum(_mean_rounded(u * m * 2 ** (-(i + 0.5) / 4)) for i in range(4)) / 4
        t += dt
    typical = u * 0.72 / 3**0.5  # the mean of d over a binade is u / (2 ln 2)
    return math.hypot(typical * (steps / 3) ** 0.5, steps / m - 1)


def _mean_rounded(y: float) -> float:
    """The mean of the square of a normal number when it is rounded to multiples of 2 y."""
    if y < 0.05:
        return 1.0
    total, k, tail = 0.0, 1, 1.0
    while tail > 1e-9:
        tail = math.erfc(((2 * k - 1) * y / 2) ** 0.5)
        total, k = total + 2 * y * tail, k + 1
    return total


LARGEST = {"float16": 65504.0, "bfloat16": 3.39e38, "float32": 3.40e38}


def windup_law(beta: float, format: str, blend: float = 0.0) -> int | None:
    """The step in which x <- (1 - blend) x / beta + blend, from one, leaves a format; None where it does not grow."""
    growth = (1 - blend) / beta
    if growth <= 1:
        return None
    rest = blend / (growth - 1)
    return math.ceil(math.log((LARGEST[format] + rest) / (1 + rest)) / math.log(growth))


REFINEMENTS = 3
ORDER = 32
"""Of the matrices of the map of survival."""

STARTS = {"gain": "symmetric", "outer": "asymmetric", "both_sided": "asymmetric", "symmetric": "asymmetric"}
"""Forms of the part about asymmetry, and what they start from."""

NAIVE = ("gain", "outer")
BETAS = (0.9, 0.95, 0.99)
TILT_STEPS = (8, 24, 40, 64, 88, 112, 136, 160, 200, 240, 280, 320, 360)
STAGNATION_STEPS = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)
STAGNANT = (("symmetric", "stored"), ("symmetric", "stochastic"), ("bierman_ud", "stored"), ("master_copy", "stored"))
MAPPED = (
    "gain",
    "symmetric",
    "both_sided",
    "joseph",
    "scaled",
    "refreshed 10",
    "master_copy",
    "ldl",
    "information_cholesky",
    "potter",
    "bierman_ud",
)
"""Forms of the map of survival, those that keep the inverse itself first."""

FACTORS = ("ldl", "information_cholesky", "potter", "bierman_ud")
MAP_FORMATS = ("float32", "float16", "bfloat16", "int8", "float8_e4m3fn")
RIVALS = (
    ("symmetric", "stored"),
    ("symmetric", "computed"),
    ("symmetric", "stochastic"),
    ("joseph", "stored"),
    ("refreshed 10", "stored"),
    ("refreshed 50", "stored"),
    ("master_copy", "stored"),
)
"""Forms and arithmetics whose thresholds are compared."""

OCTAVES = tuple(range(-4, 9))
"""Condition numbers of the thresholds: 2^k / u."""

STEPS = {True: 300, False: 600}
"""Of the quick and the full form of the map and the thresholds."""

QUICK = {
    ("bfloat16", "stored", "rotated"): MAPPED,
    ("float16", "stored", "rotated"): ("symmetric", "joseph", "master_copy", *FACTORS),
    ("int8", "stored", "rotated"): ("symmetric", "scaled", "potter", "bierman_ud"),
    ("float8_e4m3fn", "stored", "rotated"): ("symmetric", "potter", "bierman_ud"),
    ("float32", "stored", "rotated"): ("symmetric",),
    ("bfloat16", "computed", "rotated"): ("symmetric", "joseph", "potter", "bierman_ud"),
    ("bfloat16", "stored", "graded"): ("symmetric",),
    ("int8", "stored", "graded"): ("symmetric", "scaled", "bierman_ud"),
}
"""What the quick form of the map looks at: forms by format, arithmetic and stream."""


LONG = 1 - 2.0**-8
"""A decay at which thresholds of all orders are compared: that of order 128."""


def decay(n: int) -> float:
    """The decay of an average whose memory is twice the order: 1 - 1 / (2n), a number of every format."""
    return 1 - 1 / (2 * n)


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are.
    """
    quick = options.quick
    for part, cases in (
        (Part.ASYMMETRY, _asymmetry(quick)),
        (Part.TILT, _tilt(quick)),
        (Part.PERTURBATION, _perturbation(quick)),
        (Part.STAGNATION, _stagnation(quick)),
        (Part.WINDUP, _windup(quick)),
        (Part.SURVIVAL, _survival(quick)),
        (Part.THRESHOLDS, _thresholds(quick)),
        (Part.EIGHT_BITS, _eight_bits(quick)),
        (Part.OVERFLOW, _overflow(quick)),
        (Part.ROUNDING, _rounding(quick)),
        (Part.SANDWICH, _sandwich(quick)),
        (Part.FORWARD, _forward(quick)),
        (Part.REFINEMENT, _refinement(quick)),
    ):
        for case in cases:
            yield {"part": part.value, **case}


Cases = Iterator[dict[str, Any]]


def _asymmetry(quick: bool) -> Cases:
    for form, start in STARTS.items():
        naive = form in NAIVE
        axes = {"form": form, "start": start, "n": 16, "steps": 2400 if naive else 16800, "every": 1 if naive else 8}
        for format in ("float32", "float16", "bfloat16"):
            for arithmetic in ("computed", "all") if naive and format != "float32" else ("computed",):
                for beta, seed in product(BETAS, range(3 if quick else 5)):
                    yield {**axes, "format": format, "arithmetic": arithmetic, "beta": beta, "seed": seed}


def _tilt(quick: bool) -> Cases:
    for case in _asymmetry(quick):
        if (case["arithmetic"], case["beta"], case["seed"]) == ("computed", 0.95, 0):
            for step in TILT_STEPS:
                yield {**case, "step": step}


def _perturbation(quick: bool) -> Cases:
    for beta, seed in product((*BETAS, 1.0), range(3 if quick else 10)):
        yield {"form": "symmetric", "n": 8, "steps": 100, "beta": beta, "seed": seed}


def _stagnation(quick: bool) -> Cases:
    for form, arithmetic in STAGNANT:
        for format in ("bfloat16", "float16", "float32"):
            if format == "float32" and (form, arithmetic) != STAGNANT[0]:
                continue
            for step, seed in product(STAGNATION_STEPS, range(2 if quick else 5)):
                axes = {"form": form, "arithmetic": arithmetic, "format": format, "n": 16, "steps": 20000}
                yield {**axes, "step": step, "seed": seed}


def _windup(quick: bool) -> Cases:
    cures = ("none", "damping", *BLENDS)
    for beta, cure, stream, seed in product((0.95, 0.99), cures, ("graded", "rotated"), range(2 if quick else 4)):
        if cure not in BLENDS or beta == 0.95:
            law = windup_law(beta, "float16", BLENDS["weak blending"] if cure in BLENDS else 0.0)
            axes = {"form": "symmetric", "format": "float16", "arithmetic": "stored", "n": 16, "cure": cure}
            yield {**axes, "steps": int(1.2 * (law or 0)), "beta": beta, "stream": stream, "seed": seed}


def _runs(n: int, steps: int, beta: float, stream: str, conditions: Iterable[float], seeds: int) -> Cases:
    for condition, seed in product(conditions, range(seeds)):
        axes = {"n": n, "steps": steps, "beta": beta, "stream": stream}
        yield {**axes, "condition": condition, "seed": seed}


def _survival(quick: bool) -> Cases:
    for form, format, arithmetic, stream in product(MAPPED, MAP_FORMATS, ("stored", "computed"), ("rotated", "graded")):
        if arithmetic == "computed" and (format not in {"bfloat16", "float16"} or stream == "graded"):
            continue
        if quick and form not in QUICK.get((format, arithmetic, stream), ()):
            continue
        sparse = quick or (arithmetic, stream) != ("stored", "rotated")
        conditions = [2.0**k for k in range(2, 27, 2 if sparse else 1)]
        for run in _runs(ORDER, STEPS[quick], decay(ORDER), stream, conditions, 2 if sparse else 3):
            yield {"form": form, "format": format, "arithmetic": arithmetic, **run}


def _thresholds(quick: bool) -> Cases:
    seeds = 3 if quick else 5
    for (form, arithmetic), format in product(RIVALS, ("bfloat16", "float16")):
        if quick and (form == "refreshed 50" or (arithmetic == "stochastic" and format == "float16")):
            continue
        conditions = [2.0**k / ROUNDOFF[format] for k in OCTAVES]
        for run in _runs(ORDER, STEPS[quick], decay(ORDER), "rotated", conditions, seeds):
            yield {"form": form, "format": format, "arithmetic": arithmetic, **run}
        if (form, arithmetic) == RIVALS[0]:
            long = [(n, 1200, LONG) for n in ((8, ORDER) if quick else (8, ORDER, 128))]
            for n, steps, beta in ((8, 240, decay(8)), *long):
                for run in _runs(n, steps, beta, "rotated", conditions, 2 if steps > 600 and quick else seeds):
                    yield {"form": form, "format": format, "arithmetic": arithmetic, **run}


def _eight_bits(quick: bool) -> Cases:
    for form, seed in product(("symmetric", "scaled"), range(4 if quick else 10)):
        for condition in (2e2, 2e3, 2e4):
            axes = {"n": 16, "steps": 192, "beta": 0.95, "stream": "graded", "condition": condition, "seed": seed}
            yield {"form": form, "format": "int8", "arithmetic": "stored", **axes}


def _overflow(quick: bool) -> Cases:
    for form, arithmetic in product(("potter", "potter, one root"), ("computed", "all")):
        for run in _runs(ORDER, 600, 1 - 2.0**-7, "from one", (1e2, 1e3, 1e4, 1e5), 2 if quick else 5):
            yield {"form": form, "format": "float16", "arithmetic": arithmetic, **run}


def _rounding(quick: bool) -> Cases:
    kinds = ("rotated", "graded", "underflow", "adversarial")
    for kind, format, n in product(kinds, ("bfloat16", "float16", "float8_e4m3fn"), (2, 8, 32)):
        if (kind, format) != ("underflow", "bfloat16"):  # which has the range of float32
            for seed in range(1 if quick else 5):
                yield {"kind": kind, "format": format, "n": n, "count": 300 if quick else 1000, "seed": seed}


def _sandwich(quick: bool) -> Cases:
    for kind, eta, seed in product(("random", "outward"), (0.01, 0.03, 0.045, 0.055, 0.2), range(2 if quick else 10)):
        yield {"kind": kind, "n": 8, "steps": 600, "beta": 0.95, "eta": eta, "seed": seed}


def _forward(quick: bool) -> Cases:
    for format, condition in product(("float32", "float16", "bfloat16"), (1.0, 10.0, 100.0, 1e3, 1e4)):
        for seed in range(1 if quick else 5):
            yield {"format": format, "n": 8, "count": 300 if quick else 1000, "condition": condition, "seed": seed}


def _refinement(quick: bool) -> Cases:
    for condition, seed in product([10.0 ** (k / 2) for k in range(2, 14)], range(3 if quick else 10)):
        yield {"format": "float32", "n": 40, "condition": condition, "seed": seed}
