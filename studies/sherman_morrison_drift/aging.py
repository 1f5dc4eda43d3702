"""What long runs come to: perturbations that are forgotten or not, sums that freeze, directions that no one excites."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .cases import BLENDS, DAMPING, loss_law, stagnation_law, windup_law
from .definiteness import DEFINITE, NOT_FINITE, signs
from .programs import inverses, run_all, started
from .streams import accumulated, errors, stream, truth_of
from .survival import chunks

EVERY = 100
"""Between how many steps a sum is looked at."""


def measure_perturbation(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How a symmetric perturbation of P lives on: against beta^t dC_0, in float64.

    Two runs from P and P + E; dC is the difference of the inverses of what they come to.

    Args:
        cases: of one form, size and number of steps; they differ in decay and seed.

    Returns:
        The largest |dC_t - beta^t dC_0|_F / |beta^t dC_0|_F of each.
    """
    form, n, steps = (cases[0][name] for name in ("form", "n", "steps"))
    beta = np.array([c["beta"] for c in cases])
    C, V = (np.array(x) for x in zip(*(stream("rotated", n, steps, 4.0, c["seed"]) for c in cases), strict=True))
    generator = np.random.default_rng([c["seed"] for c in cases])
    E = generator.standard_normal((len(cases), n, n)) * 0.02
    clean = started(form, C, np.float64)
    shaken = clean._replace(P=clean.P + E + E.swapaxes(-1, -2))
    paths = []
    for state in (clean, shaken):
        later = inverses(form, run_all(form, "float64", "", state, V, beta, np.where(beta == 1, 1, 1 - beta), 1))
        paths.append(np.linalg.inv(np.concatenate([state.P[:, None], later], 1)))
    change = paths[1] - paths[0]
    law = change[:, :1] * (beta[:, None] ** np.arange(steps + 1))[:, :, None, None]
    off = np.linalg.norm(change - law, axis=(-2, -1)) / np.linalg.norm(law, axis=(-2, -1))
    return [{"deviation": float(x)} for x in off.max(1)]


def measure_stagnation(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The error of a sum's inverse after many steps: beta = alpha = 1, C_0 = I, independent normal vectors.

    Args:
        cases: of one form, format, arithmetic, size and number of steps; they differ in the seed and `step`, the step
            that is looked at.

    Returns:
        Errors, and the law beside them.
    """
    first = cases[0]
    form, n, steps = first["form"], first["n"], first["steps"]
    seeds = sorted({c["seed"] for c in cases})
    places = sorted({c["step"] for c in cases})
    V = np.array([np.random.default_rng([s, n]).standard_normal((steps, n)).astype(np.float32) for s in seeds])
    C = np.repeat(np.eye(n)[None], len(seeds), 0)
    one = np.ones(len(seeds))
    states = run_all(form, first["format"], first["arithmetic"], started(form, C), V, one, one, EVERY)
    P = inverses(form, states)
    index = np.array(places) // EVERY - 1
    found = {}
    for i, seed in enumerate(seeds):
        exact = truth_of(accumulated(C[i], V[i].astype(np.float64), 1.0, 1.0, EVERY)[index])
        norm, against = errors(P[i][index], exact)
        sure = signs(P[i][index][None])[0] == 1
        for k, step in enumerate(places):
            found[seed, step] = {"error": float(norm[k]), "error_update": float(against[k]), "definite": bool(sure[k])}
    return [{**found[c["seed"], c["step"]], "law": stagnation_law(c["step"], c["format"])} for c in cases]


def measure_windup(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """When an inverse overflows along directions that the stream leaves alone, and whether a cure prevents it.

    The vectors lie in a subspace of half the dimension: the first coordinates ("graded"), or at random ("rotated").
    Damping adds a multiple of e_i e_i^T in every step, i in turn; blending takes (1 - b) P + b I for P.

    Args:
        cases: of one form, format, arithmetic, size, number of steps, decay and cure; they differ in stream and seed.

    Returns:
        The first step with an entry that is not finite, or None, and its law; the first with a matrix that float64
        cannot
        prove to be positive definite, and the law of that; the largest entry before.
    """
    first = cases[0]
    form, n, steps, cure = first["form"], first["n"], first["steps"], first["cure"]
    found = []
    for some, count in chunks(cases, 4):
        V = np.zeros((len(some), steps, 2 if cure == "damping" else 1, n), np.float32)
        for i, c in enumerate(some):
            generator = np.random.default_rng([c["seed"], n])
            Q = np.linalg.qr(generator.standard_normal((n, n)))[0] if c["stream"] == "rotated" else np.eye(n)
            V[i, :, 0] = generator.standard_normal((steps, n // 2)) @ Q[:, : n // 2].T
        if cure == "damping":
            V[:, np.arange(steps), 1, np.arange(steps) % n] = (DAMPING * n) ** 0.5
        C = np.repeat(np.eye(n)[None], len(some), 0)
        beta, blend = np.full(len(some), first["beta"], np.float32), BLENDS.get(cure, 0.0)
        start = started(form, C)
        states = run_all(form, first["format"], first["arithmetic"], start, V, beta, 1 - beta, 1, blend=blend)
        P = np.asarray(states.P, np.float64)
        codes = signs(P)
        size = np.where(np.isfinite(P), abs(P), 0).max((-2, -1))
        for i in range(count):
            overflow = first_of(codes[i] == NOT_FINITE)
            found.append({
                "overflow": overflow,
                "law": windup_law(first["beta"], first["format"], blend),
                "first_loss": first_of(codes[i] != DEFINITE),
                "loss_law": loss_law(first["beta"], first["format"]),
                "largest_entry": float(size[i][: (overflow or steps + 1) - 1].max()),
            })
    return found


def first_of(where: np.ndarray) -> int | None:
    """The first step at which something is so, counted from one, or None."""
    return int(where.argmax()) + 1 if where.any() else None
