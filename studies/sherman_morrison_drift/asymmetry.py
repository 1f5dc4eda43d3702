"""The antisymmetric part of a kept inverse: how it grows, and when definiteness is lost to it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from precond_lab import gallery, round_to
from precond_lab.preconditioners.rank_one.dense import Dense

from .cases import ROUNDOFF, loss_law
from .definiteness import outcome, signs
from .programs import inverses, run_all, started
from .survival import chunks

BATCH = 9
WINDOW = (8.0, 0.25)
"""The growth is fitted while the relative antisymmetric part is between so many roundoffs and this number."""


def held(beta: float, format: str, arithmetic: str) -> float:
    """The decay as the arithmetic of scalars holds it."""
    return float(round_to(np.float32(beta), format if arithmetic == "all" else "float32"))


def runs(cases: Sequence[Mapping[str, Any]], every: int) -> tuple[np.ndarray, np.ndarray]:
    """Inverses along the runs of cases, and their relative antisymmetric parts.

    The stream is of independent normal vectors, from C = I. An inverse that starts "asymmetric" has entries off by one
    spacing of its format, with opposite signs in the two triangles.

    Args:
        cases: of one form, start, format, arithmetic, size and number of steps.
        every: steps between two.

    Returns:
        ``[batch, times, n, n]`` and ``[batch, times]``.
    """
    first = cases[0]
    form, format, n = first["form"], first["format"], first["n"]
    state = started(form, np.repeat(np.eye(n)[None], len(cases), 0))
    if first["start"] == "asymmetric":
        amount = 2 * ROUNDOFF[format]
        tilted = [gallery.asymmetric(n, condition=2.0, amount=amount, seed=c["seed"]) for c in cases]
        state = state._replace(P=np.array(tilted, np.float32))
    V = np.array([np.random.default_rng(c["seed"]).standard_normal((c["steps"], n)) for c in cases])
    beta = np.array([c["beta"] for c in cases], np.float32)
    states = run_all(form, format, first["arithmetic"], state, V, beta, np.float32(1) - beta, every)
    P = inverses(form, states)
    with np.errstate(invalid="ignore", over="ignore"):
        K, S = (np.linalg.norm(P + sign * P.swapaxes(-1, -2), axis=(-2, -1)) for sign in (-1, 1))
        return P, K / S


def measure(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """First losses of definiteness, and the growth of the antisymmetric part.

    Args:
        cases: of one form, start, format, arithmetic, size and number of steps.

    Returns:
        The figures of each.
    """
    found = []
    every = cases[0]["every"]
    for some, count in chunks(cases, BATCH):
        P, asymmetry = runs(some, every)
        codes = signs(P)
        for i, case in enumerate(some[:count]):
            ended = outcome(codes[i], case["form"], Dense(P[i]))
            found.append({
                "first_loss": None if ended.first is None else (ended.first + 1) * every,
                "outcome": ended.kind,
                "law": loss_law(held(case["beta"], case["format"], case["arithmetic"]), case["format"]),
                "growth": growth(P[i], asymmetry[i], ROUNDOFF[case["format"]], every),
                "largest_asymmetry": float(asymmetry[i][: ended.first].max(initial=0.0)),
                "last_asymmetry": float(asymmetry[i][-1]),
            })
    return found


def growth(P: np.ndarray, asymmetry: np.ndarray, u: float, every: int) -> float | None:
    """The factor a step of the antisymmetric part, by least squares of its logarithm; None where it does not grow."""
    low, high = WINDOW[0] * u, WINDOW[1]
    above = np.flatnonzero(~(asymmetry <= high))
    end = int(above[0]) if above.size else len(asymmetry)
    below = np.flatnonzero(asymmetry[:end] < low)
    begin = int(below[-1]) + 1 if below.size else 0
    if end - begin < 5 or end == len(asymmetry):
        return None
    part = P[begin:end]
    sizes = np.linalg.norm(part - part.swapaxes(-1, -2), axis=(-2, -1))
    slope = np.polynomial.polynomial.polyfit(np.arange(len(sizes)) * every, np.log(sizes), 1)[1]
    return float(np.exp(slope))


def measure_curve(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The relative antisymmetric part after some steps.

    Args:
        cases: of one form, start, format, arithmetic, size and number of steps; they differ in the decay, the seed and
            `step`, the step that is looked at.

    Returns:
        The figures of each.
    """
    kinds = {(c["beta"], c["seed"]): c for c in cases}
    found: dict[tuple, np.ndarray] = {}
    for some, count in chunks(list(kinds.values()), BATCH):
        _, asymmetry = runs(some, cases[0]["every"])
        for i, case in enumerate(some[:count]):
            found[case["beta"], case["seed"]] = asymmetry[i]
    return [{"asymmetry": float(found[c["beta"], c["seed"]][c["step"] // c["every"] - 1])} for c in cases]
