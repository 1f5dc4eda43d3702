"""What a pipeline of storage, arithmetic and stabilization makes of real gradient statistics."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import precond_lab as pl
from precond_lab.diagnosis import direction_cosine, judge
from precond_lab.diagnosis.logdet_condition import condition_of_pivots, direction_condition, pivots
from precond_lab.diagnosis.tracker import Track
from precond_lab.preconditioners import logdet
from precond_lab.study import Context
from precond_lab.truth.logdet import direction

from .gradients import location
from .settings import Settings, settings_for

# The float64 reference is checked against 50 digits on so many vertices, at one tolerance of each layer and step.
SAMPLE, CHECKED = 100, "2u"


class Stored(NamedTuple):
    """One layer at one step, as a pipeline finds it."""

    H: np.ndarray
    pivots: np.ndarray
    zero_diagonal: int
    g: np.ndarray


def tolerance_of(stabilization: str, storage: str) -> float | None:
    """The relative tolerance that a label names, in unit roundoffs of the storage; None for no stabilization."""
    if stabilization == "none":
        return None
    return float(stabilization.removesuffix("u")) * pl.formats.named(storage).unit_roundoff


@functools.lru_cache
def programs(arithmetic: str) -> tuple[Callable, Callable, Callable]:
    """Damping, the naive direction, and the stabilized one, in an arithmetic; compiled once a shape."""

    def damped(H: Any, weight: Any, epsilon: Any, floor: Any) -> Any:
        return logdet.damp(logdet.corrected(logdet.Statistics(H, weight)), epsilon, floor)

    def naive(H: Any, g: Any) -> Any:
        factor = logdet.project(H)
        return logdet.apply(factor, g), factor.D, jnp.arange(H.shape[1])[None] < H.shape[1] - 1

    def stabilized(H: Any, g: Any, tolerance: Any) -> Any:
        factor, kept = logdet.stabilize(H, tolerance)
        return logdet.apply(factor, g), factor.D, kept

    damp, plain, stable = (pl.emulate(f, arithmetic) for f in (damped, naive, stabilized))
    return damp, plain, stable


def stored(settings: Settings, folder: Path, case: Mapping[str, Any]) -> Stored:
    """The damped statistics of a case, in its storage format, with the momentum rounded to its arithmetic."""
    layer, t, storage = int(case["layer"].partition(":")[0]) - 1, case["t"], case["storage"]
    g = np.asarray(pl.round_to(np.load(folder / f"momentum-{layer}-{t}.npy"), case["arithmetic"]))
    if case["statistics"] == "rounded":
        exact = np.load(folder / f"exact-{layer}-{t}.npy")
        H = np.asarray(pl.round_to(damp_exactly(exact, settings), storage))
        return Stored(H, pivots(H), int(np.sum(H[0] == 0)), g)
    with np.load(folder / f"{storage}-{layer}-{t}.npz") as kept:
        H, weight = kept["H"], kept["weight"]
    damp = programs(storage)[0]
    damped = np.asarray(damp(H, weight, np.float32(settings.epsilon), np.float32(settings.floor)), np.float64)
    return Stored(damped, pivots(damped), int(np.sum(damped[0] == 0)), g)


def damp_exactly(H: np.ndarray, settings: Settings) -> np.ndarray:
    """The damping in float64."""
    sums = np.abs(H[0]) + np.abs(H[1]) + np.concatenate([[0.0], np.abs(H[1, :-1])])
    damped = H.copy()
    damped[0] += max(settings.epsilon * sums.max(), settings.floor)
    return damped


def reference(H: np.ndarray, g: np.ndarray, kept: np.ndarray, exact_pivots: np.ndarray) -> np.ndarray:
    """X g on the edges that are kept, in float64 from pivots without cancellation.

    X is where the objective is stationary: the projection, or where a pivot is negative and no projection exists, the
    indefinite X that the closed form still gives. NaN where a pivot is zero or not a number: no such X exists.
    """
    edge = np.where(kept[0, :-1], H[1, :-1], 0.0)
    with np.errstate(all="ignore"):
        pivot = np.where(kept[0, :-1], exact_pivots, 1.0)
        if not np.all(np.abs(pivot) > 0) or not np.all(H[0] > 0):
            return np.full_like(g, np.nan)
        psi = edge / H[0, 1:]
        y = g.copy()
        y[:-1] -= psi * g[1:]
        y[:-1] /= H[0, :-1] * pivot
        y[-1] /= H[0, -1]
        u = y.copy()
        u[1:] -= psi * y[:-1]
    return u


def reference_error(H: np.ndarray, g: np.ndarray, kept: np.ndarray, exact_pivots: np.ndarray) -> float:
    """Relative error of the reference against 50 digits, on the stretch around the worst edge that is kept.

    Raises:
        ArithmeticError: the error is larger than 16 kappa 2^-53, with kappa the condition number of the direction: the
            reference is no reference, and the case fails.
    """
    worst = int(np.argmin(np.where(kept[0, :-1], exact_pivots, np.inf)))
    start = max(0, min(worst - SAMPLE // 2, H.shape[1] - SAMPLE))
    part = slice(start, start + SAMPLE)
    H, g, edges = H[:, part], g[part], kept[:, part].copy()
    edges[0, -1] = False
    exact = np.array([float(x) for x in direction(H, g, kept=edges)])
    if not np.isfinite(exact).all():
        return float("nan")
    short = reference(H, g, edges, pivots(H))
    error = float(np.linalg.norm(short - exact) / np.linalg.norm(exact)) if exact.any() else 0.0
    if error > 16 * direction_condition(H, g, edges) * 2.0**-53:
        raise ArithmeticError(f"the float64 reference is off by {error} on vertices {part.start} to {part.stop}")
    return error


def measure_all(cases: list[Mapping[str, Any]], context: Context) -> list[dict[str, Any]]:
    """Measure cases of one layer, pipeline and kind of statistics."""
    settings = settings_for(context.options)
    folder = location(settings, context.cache)
    results: dict[int, dict[str, Any]] = {}
    for t in {case["t"] for case in cases}:
        here = [i for i, case in enumerate(cases) if case["t"] == t]
        inputs = stored(settings, folder, cases[here[0]])
        layer = int(cases[here[0]]["layer"].partition(":")[0]) - 1
        exact = damp_exactly(np.load(folder / f"exact-{layer}-{t}.npy"), settings)
        momentum = np.load(folder / f"momentum-{layer}-{t}.npy")
        every = np.arange(exact.shape[1])[None] < exact.shape[1] - 1
        full = reference(exact, momentum, every, pivots(exact))
        for i in here:
            results[i] = _measure(cases[i], inputs, full)
    return [results[i] for i in range(len(cases))]


def _measure(case: Mapping[str, Any], inputs: Stored, full: np.ndarray) -> dict[str, Any]:
    arithmetic, tolerance = case["arithmetic"], tolerance_of(case["stabilization"], case["storage"])
    _, plain, stable = programs(arithmetic)
    H, g = inputs.H, inputs.g
    computed = plain(H, g) if tolerance is None else stable(H, g, tolerance)
    u, D, kept = (np.asarray(x) for x in computed)
    u, D = u.astype(np.float64), D.astype(np.float64)
    best = reference(H, g, kept, inputs.pivots)
    before, after = condition_of_pivots(inputs.pivots), condition_of_pivots(inputs.pivots, kept)
    finite = bool(np.isfinite(u).all())
    error = forward_error_of(u, best) if finite else float("nan")
    condition = direction_condition(H, g, kept, inputs.pivots)
    roundoff = pl.formats.named(arithmetic).unit_roundoff
    slope = float(g @ u) if finite else float("nan")
    return {
        "nonfinite_directions": int(np.sum(~np.isfinite(u))),
        "nonfinite_D": int(np.sum(~np.isfinite(D))),
        "negative_D": int(np.sum(D < 0)),
        "zero_diagonal": inputs.zero_diagonal,
        "edges": before.edges,
        "dropped_fraction": 1 - after.edges / before.edges,
        "nonpositive_kept": int(np.sum(kept[0, :-1] & ~(inputs.pivots > 0))),
        "cosine_to_reduced": direction_cosine(u, best),
        "cosine_to_full": direction_cosine(u, full),
        "descent": bool(slope > 0),
        "error": error,
        "condition_before": before.all_entries,
        "condition_after": after.all_entries,
        "bound_before": before.bound,
        "bound_after": after.bound,
        "smallest_pivot": before.smallest_pivot,
        "condition_of_direction": condition,
        "verdict": judge(error, condition, roundoff, finite).value,
        "reference_error": reference_error(H, g, kept, inputs.pivots) if case["stabilization"] == CHECKED else None,
    }


def forward_error_of(u: np.ndarray, best: np.ndarray) -> float:
    """Normwise relative error; infinite where there is no exact direction."""
    if not np.isfinite(best).all():
        return float("inf")
    return float(np.linalg.norm(u - best) / np.linalg.norm(best)) if best.any() else float(u.any())


def measure_tracks(cases: list[Mapping[str, Any]], context: Context) -> list[dict[str, Any]]:
    """The track of one layer, step by step."""
    folder = location(settings_for(context.options), context.cache)
    layer = int(cases[0]["layer"].partition(":")[0]) - 1
    table, losses = np.load(folder / f"track-{layer}.npy"), np.load(folder / "loss.npy")
    rows = []
    for case in cases:
        track = Track(*table[case["t"] - 1])
        rows.append({
            "loss": float(losses[case["t"] - 1]),
            "condition_before": track.condition,
            "condition_after": track.condition_kept,
            "smallest_pivot": track.smallest_pivot,
            "dropped_fraction": track.dropped / track.edges,
        })
    return rows
