"""Runs of every form in every format: when they lose definiteness, and how far off they are until then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .definiteness import Outcome, outcome, signs
from .programs import inverses, run_all, started
from .streams import Truth, errors, stream, truth

SAMPLES = 12
"""At how many steps errors are looked at."""


def chunks(cases: Sequence[Mapping[str, Any]], batch: int) -> Iterator[tuple[list[Mapping[str, Any]], int]]:
    """Full batches, the last one filled by repetition so that nothing is compiled twice; and how many are meant."""
    for begin in range(0, len(cases), batch):
        some = list(cases[begin : begin + batch])
        yield some + [some[-1]] * (batch - len(some)), len(some)


def batch_of(n: int) -> int:
    """How many runs are made at once: what keeps their states below about 100 MB."""
    return {8: 39, 16: 12, 32: 26}.get(n, 8)


def every_of(n: int) -> int:
    """Between how many steps definiteness is looked at."""
    return 1 if n <= 32 else 8


def measure(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cases of one form, format, arithmetic, size and number of steps.

    Args:
        cases: of the part "survival" or "eight bits".

    Returns:
        The figures of each.
    """
    first = cases[0]
    form, n, steps = first["form"], first["n"], first["steps"]
    every = every_of(n)
    look = steps // SAMPLES
    found = []
    for some, count in chunks(cases, batch_of(n)):
        given = [stream(c["stream"], n, steps, c["condition"], c["seed"]) for c in some]
        beta = np.array([c["beta"] for c in some], np.float32)
        states = run_all(
            form,
            first["format"],
            first["arithmetic"],
            started(form, np.array([s.C for s in given])),
            np.array([s.V for s in given]),
            beta,
            np.float32(1) - beta,
            every,
        )
        P = inverses(form, states)
        codes = signs(P)
        for i, case in enumerate(some[:count]):
            exact = truth(case["stream"], n, steps, case["condition"], case["seed"], float(beta[i]), look)
            ended = outcome(codes[i], form, jax.tree.map(lambda x, i=i: x[i], states))
            found.append(figures(P[i], ended, exact, every, look))
    return found


def figures(P: np.ndarray, ended: Outcome, exact: Truth, every: int, look: int) -> dict[str, Any]:
    """The figures of one run.

    Args:
        P: the inverses kept, ``[times, n, n]``.
        ended: how it ended.
        exact: the truth at every `look` steps.
        every: steps between two of P.
        look: a multiple of `every`.

    Returns:
        The first step at which definiteness is lost, or None; what was found there; how many states have a negative
        eigenvalue for certain, and how many were not decided; the largest errors; the largest condition number of C.
    """
    norm, against = errors(P[look // every - 1 :: look // every], exact)
    return {
        "first_loss": None if ended.first is None else (ended.first + 1) * every,
        "outcome": ended.kind,
        "negative": ended.negative,
        "unknown": ended.unknown,
        "error": float(norm.max()),
        "error_update": float(against.max()),
        "largest_condition": exact.condition,
    }
