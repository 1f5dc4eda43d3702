"""What a band, a pipeline and a method of stabilization make of real gradient statistics."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import precond_lab as pl
from precond_lab.diagnosis import direction_cosine, judge
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet.projection import Form
from precond_lab.preconditioners.logdet.published_bands import masked
from precond_lab.study import Context
from precond_lab.truth.logdet import direction

from .cases import METHODS, NONE
from .gradients import WIDEST, Stretch, location, stretches
from .settings import Settings, settings_for

# The float64 reference is checked against 50 digits on so many vertices, in one case of each layer and pipeline.
SAMPLE, CHECKED = 24, ("pivots", "2u")


class Stored(NamedTuple):
    """All stretches at one step, as a pipeline finds them: in units of their scale.

    Attributes:
        H: damped statistics, ``[S, b+1, m]`` of float64.
        g: momentum, rounded to the arithmetic, ``[S, m]``.
        scale: of each stretch, ``[S, 1]``: u = X g comes out 1 / scale of what it is.
    """

    H: np.ndarray
    g: np.ndarray
    scale: np.ndarray


class Computed(NamedTuple):
    """A direction with what led to it, for all stretches.

    Attributes:
        u: ``[S, m]``.
        D: ``[S, m]``.
        kept: bool ``[S, b, m]``.
        passes: ``[S]``.
        stable: bool ``[S]``.
    """

    u: Any
    D: Any
    kept: Any
    passes: Any
    stable: Any


def tolerance_of(label: str, storage: str) -> float:
    """The relative tolerance that a label names, in unit roundoffs of the storage."""
    return float(label.removesuffix("u")) * pl.formats.named(storage).unit_roundoff


def arithmetic_of(name: str) -> pl.Arithmetic:
    """An arithmetic in float32, which is quick: here no number is so small that float32 would flush it."""
    return pl.Arithmetic(name, carrier="float32")


@functools.lru_cache
def damped_in(arithmetic: str) -> Callable:
    """Damping of stored statistics, over all stretches."""

    def damped(H: Any, weight: Any, epsilon: Any) -> Any:
        return logdet.damp(logdet.corrected(logdet.Statistics(H, weight)), epsilon)

    return jax.vmap(pl.emulate(damped, arithmetic_of(arithmetic)), in_axes=(0, 0, None))


def stabilized_in(arithmetic: str, method: str) -> Callable:
    """The direction after Algorithm 3, over all stretches."""
    rule, passes, form = METHODS[method]
    assert rule is not None  # what masks is no form of Algorithm 3
    program = _iterated_in(arithmetic, rule, form)
    return lambda H, g, tolerance: program(H, g, tolerance, np.int32(H.shape[2] if passes is None else passes))


@functools.lru_cache
def _iterated_in(arithmetic: str, rule: logdet.Rule, form: Form) -> Callable:
    """One program for any number of passes: to compile it for a wide band takes longer than to run it."""

    def stabilized(H: Any, g: Any, tolerance: Any, passes: Any) -> Computed:
        factor, kept, done, stable = logdet.iterate(H, tolerance, rule=rule, passes=passes, form=form)
        return Computed(logdet.apply(factor, g), factor.D, kept, done, stable)

    return jax.vmap(pl.emulate(stabilized, arithmetic_of(arithmetic)), in_axes=(0, 0, None, None))


@functools.lru_cache
def unguarded_in(arithmetic: str) -> Callable:
    """The direction without stabilization, and that of struck-out entries, over all stretches."""

    def unguarded(H: Any, g: Any, kept: Any) -> tuple:
        whole, struck = logdet.project(H), masked(H, kept)
        return logdet.apply(whole, g), whole.D, logdet.apply(struck, g), struck.D

    return jax.vmap(pl.emulate(unguarded, arithmetic_of(arithmetic)))


@jax.jit
@jax.vmap
def _exact(H: Any, g: Any, kept: Any) -> tuple:
    psi, s = logdet.schur_complements(H, kept)
    return logdet.apply(logdet.factor_of(psi, s), g), s / H[0]


@jax.jit
@jax.vmap
def _change(H: Any, g: Any, kept: Any, changes: tuple) -> Any:
    return jax.jvp(lambda H, g: _exact_direction(H, g, kept), (H, g), changes)[1]


def _exact_direction(H: Any, g: Any, kept: Any) -> Any:
    return logdet.apply(logdet.project(H, kept), g)


def exact(H: np.ndarray, g: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X g on the edges that are kept and the pivots s_i / H_ii, in float64.

    X is where the objective is stationary: the projection, or where a pivot is negative and none exists, the indefinite
    X that the closed form still gives.
    """
    with jax.enable_x64(True):
        u, pivots = _exact(H, g, kept)
        return np.asarray(u), np.asarray(pivots)


def change(H: np.ndarray, g: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What relative changes of all stored numbers by random signs make of X g, to first order, ``[S, m]``.

    Over the norm of X g this estimates a condition number of the direction (statistical condition estimation: Kenney
    and Laub 1994), smaller than the worst case as random signs are smaller than those in concert. One draw will do: its
    norm is a sum over thousands of vertices, which depend on the signs nearby alone.
    """
    rng = np.random.default_rng(0)
    signs = tuple(rng.choice([-1.0, 1.0], x.shape) * x for x in (H, g))
    with jax.enable_x64(True):
        return np.asarray(_change(H, g, kept, signs))


def measure_all(cases: list[Mapping[str, Any]], context: Context) -> list[dict[str, Any]]:
    """Measure cases of one band and pipeline."""
    settings = settings_for(context.options)
    folder, parts = location(settings, context.cache), stretches(settings)
    band, storage, arithmetic = (cases[0][name] for name in ("band", "storage", "arithmetic"))
    results: dict[int, dict[str, Any]] = {}
    for t in sorted({case["t"] for case in cases}):
        here = [i for i, case in enumerate(cases) if case["t"] == t]
        inputs = stored(settings, folder, t, band, storage, arithmetic)
        wanted = [full_direction(settings, folder, t, width) for width in (band, WIDEST)]
        for method, label in dict.fromkeys((cases[i]["method"], cases[i]["tolerance"]) for i in here):
            computed = compute(inputs, arithmetic, storage, method, label)
            judged = Judged.of(inputs, computed, parts, wanted, pl.formats.named(arithmetic).unit_roundoff)
            for i in here:
                if (cases[i]["method"], cases[i]["tolerance"]) == (method, label):
                    layer = settings.layers.index(cases[i]["layer"])
                    results[i] = judged.layer(layer, (method, label) == CHECKED and t == max(settings.steps))
    return [results[i] for i in range(len(cases))]


def stored(settings: Settings, folder: Path, t: int, band: int, storage: str, arithmetic: str) -> Stored:
    """The damped statistics of a step in their storage format, and the momentum that is preconditioned."""
    with np.load(folder / f"{storage}-{t}.npz") as kept:
        H, weight, scale = kept["H"][:, : band + 1], kept["weight"], kept["scale"].astype(np.float64)[:, None]
    H = np.asarray(damped_in(storage)(H, weight, np.float32(settings.epsilon)), np.float64)
    g = pl.round_to(np.load(folder / f"momentum-{t}.npy") * scale, arithmetic)
    return Stored(H, np.asarray(g, np.float64), scale)


def full_direction(settings: Settings, folder: Path, t: int, band: int) -> np.ndarray:
    """The direction of unrounded, damped statistics with all edges of a band, in float64."""
    H, g = np.load(folder / f"exact-{t}.npy")[:, : band + 1], np.load(folder / f"momentum-{t}.npy")
    sums = np.abs(H).sum(axis=1)
    for k in range(1, band + 1):
        sums[:, k:] += np.abs(H[:, k, : H.shape[2] - k])
    H[:, 0] += settings.epsilon * sums.max(axis=1, keepdims=True)
    return exact(H, g, edges_of(H))[0]


def edges_of(H: np.ndarray) -> np.ndarray:
    """All edges of a batch of bands."""
    every = np.asarray(logdet.within(H.shape[2], H.shape[1] - 1))
    return np.broadcast_to(every, (len(H), *every.shape))


def compute(inputs: Stored, arithmetic: str, storage: str, method: str, label: str) -> Computed:
    """The direction of one method at one tolerance."""
    H, g = inputs.H.astype(np.float32), inputs.g.astype(np.float32)
    if method not in {NONE, "masked"}:
        found = stabilized_in(arithmetic, method)(H, g, np.float32(tolerance_of(label, storage)))
        return Computed(*(np.asarray(x) for x in found))
    ended, kept = np.zeros(len(H), int), edges_of(H)
    if method == "masked":
        kept = compute(inputs, arithmetic, storage, "pivots", label).kept
    plain = tuple(np.asarray(x) for x in unguarded_in(arithmetic)(H, g, kept))
    u, D = plain[:2] if method == NONE else plain[2:]
    return Computed(u, D, kept, ended, ended == 0)


class Judged(NamedTuple):
    """All stretches of one computation, judged against the exact direction on the edges that it kept.

    Attributes:
        inputs: what was projected.
        computed: what came of it.
        parts: the stretches.
        wanted: the directions of unrounded statistics, with all edges of this band and of the widest.
        roundoff: of the arithmetic.
        best: X g on the same edges, ``[S, m]``.
        pivots: s / H_ii on the same edges, ``[S, m]``.
        change: of `best`, ``[S, m]``.
    """

    inputs: Stored
    computed: Computed
    parts: list[Stretch]
    wanted: list[np.ndarray]
    roundoff: float
    best: np.ndarray
    pivots: np.ndarray
    change: np.ndarray

    @classmethod
    def of(
        cls, inputs: Stored, computed: Computed, parts: list[Stretch], wanted: list[np.ndarray], roundoff: float
    ) -> "Judged":
        """With the exact direction on the edges that were kept."""
        H, g, _ = inputs
        best, pivots = exact(H, g, computed.kept)
        return cls(inputs, computed, parts, wanted, roundoff, best, pivots, change(H, g, computed.kept))

    def layer(self, layer: int, checked: bool) -> dict[str, Any]:
        """The figures of one layer."""
        here = [i for i, part in enumerate(self.parts) if part.layer == layer]
        H, g, scale = (x[here] for x in self.inputs)
        u, D, kept, passes, stable = (x[here] for x in self.computed)
        u, D = u.astype(np.float64), D.astype(np.float64)
        best, pivots = self.best[here], self.pivots[here]
        finite, edges = bool(np.isfinite(u).all()), edges_of(H)
        with np.errstate(all="ignore"):
            size = np.linalg.norm(best * scale)
            error = float(np.linalg.norm((u - best) * scale) / size) if finite and size else float("nan")
            condition = float(np.linalg.norm(self.change[here] * scale) / size)
            slope = float((g * u).sum()) if finite else float("nan")  # s g and u / s: the scale cancels
        condition = condition if np.isfinite(condition) else float("inf")
        return {
            "vertices": u.size,
            "edges": int(edges.sum()),
            "nonfinite_directions": int((~np.isfinite(u)).sum()),
            "bad_D": int((~(np.isfinite(D) & (D > 0))).sum()),
            "dropped_share": 1 - float(kept.sum() / edges.sum()) if edges.any() else 0.0,
            "passes": int(passes.max()),
            "unstable_stretches": int((~stable).sum()),
            "stretches": len(here),
            "without_projection": int((~(pivots > 0)).sum()),
            "cosine_to_reduced": direction_cosine(u * scale, best * scale),
            "cosine_to_full": direction_cosine(u * scale, self.wanted[0][here]),
            "cosine_to_widest": direction_cosine(u * scale, self.wanted[1][here]),
            "descent": bool(slope > 0),
            "error": error,
            "condition": condition,
            "verdict": judge(error if np.isfinite(error) else float("inf"), condition, self.roundoff, finite).value,
            "reference_error": self.reference_error(here) if checked else None,
        }

    def reference_error(self, here: list[int]) -> float:
        """Relative error of the reference against 50 digits around the smallest pivot of these stretches.

        Raises:
            ArithmeticError: the error is larger than 16 (b+1)^2 kappa 2^-53, with kappa the condition number of the
                direction as estimated: the reference is no reference, and the case fails.
        """
        H, g, _ = self.inputs
        band, m = H.shape[1] - 1, H.shape[2]
        least = {i: self.pivots[i].min() for i in here if (self.pivots[i] > 0).all()}
        if not least:
            return float("nan")
        worst = min(least, key=lambda i: least[i])
        start = max(0, min(int(self.pivots[worst].argmin()) - SAMPLE // 2, m - SAMPLE))
        part, i = slice(start, start + SAMPLE), np.arange(m)
        alone = self.computed.kept.copy()
        for k in range(1, band + 1):  # no edge leads into the part, or out of it
            alone[worst, k - 1] &= (i >= start) & (i + k < start + SAMPLE)
        goal = direction(H[worst, :, part], g[worst, part], kept=alone[worst, :, part])
        goal = np.array([float(x) for x in goal])
        found = exact(H, g, alone)[0][worst, part]
        error = float(np.linalg.norm(found - goal) / np.linalg.norm(goal)) if goal.any() else 0.0
        condition = np.linalg.norm(change(H, g, alone)[worst, part]) / np.linalg.norm(goal)
        if error > 16 * (band + 1) ** 2 * condition * 2.0**-53:
            raise ArithmeticError(f"the float64 reference is off by {error} on vertices {part.start} to {part.stop}")
        return error
