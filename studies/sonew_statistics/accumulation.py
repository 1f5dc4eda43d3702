"""Statistics of a stream of gradients, carried in a format and held against float64."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import precond_lab as pl
from precond_lab import gallery
from precond_lab.diagnosis import direction_cosine
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet import gradient_scaling, statistics

from .cases import RANGES, SCHEMES

CORRELATION, DECADES, DEAD = 0.9, 1.0, 8  # of neighbors; of standard deviations; every eighth parameter is dead
BETA1 = 0.9  # of the momentum that is preconditioned
TUNED = (3.35397e-6, 1e-16)  # damping relative to the one-norm and its least value, as tuned for bfloat16
DEFAULT = (1e-8, 1e-16)  # the same by default


class Stream(NamedTuple):
    """Gradients as a format has them, and what float64 makes of them.

    Attributes:
        G: gradients, ``[steps, n]``, numbers of the format.
        momentum: of the last step, scaled to a largest entry between 1/2 and 1.
        variance: mean of g^2 over all steps, ``[n]``.
    """

    G: np.ndarray
    momentum: np.ndarray
    variance: np.ndarray


@functools.lru_cache(maxsize=4)
def drawn(steps: int, n: int, seed: int) -> np.ndarray:
    """The gradients before they are rounded; parameters that are dead get none."""
    G = gallery.gradient_stream(steps, n, correlation=CORRELATION, decades=DECADES, seed=seed)
    G[:, DEAD - 1 :: DEAD] = 0.0
    return G


@functools.lru_cache(maxsize=4)
def stream(format: str, exponent: int, steps: int, n: int, seed: int) -> Stream:
    """The gradients of a case."""
    G = np.asarray(pl.round_to(drawn(steps, n, seed) * 2.0**exponent, format), np.float64)
    momentum = np.array(BETA1 ** np.arange(steps)[::-1]) @ G
    peak = np.abs(momentum).max()
    return Stream(G, momentum / 2.0 ** np.frexp(peak)[1], np.mean(G * G, axis=0))


def exact(G: np.ndarray, beta2: float | None) -> tuple[np.ndarray, float]:
    """H and its weight in float64, from the sum that the recurrence stands for."""
    steps = len(G)
    if beta2 is None:
        weights = 1 / np.sqrt(np.arange(1, steps + 1))
    else:
        weights = (1 - beta2) * beta2 ** np.arange(steps)[::-1].astype(float)
    return np.stack([weights @ (G * G), np.append(weights @ (G[:, 1:] * G[:, :-1]), 0.0)]), float(weights.sum())


@functools.lru_cache
def accumulate(format: str, scheme: str, scaling: bool, seed: int) -> Callable:
    """The recurrence over a whole stream, in the arithmetic of the format; batched over decays.

    The function of gradients, step weights, beta2 and 1 - beta2 gives the state, its scale, and in how many of the
    steps of the second half an entry did not change.
    """
    program, rounding, wide = SCHEMES[scheme]
    update, summed = getattr(statistics, program), SCHEMES[scheme].summed
    if scaling:
        update = gradient_scaling.scaled(update, jnp.float32(RANGES[format].target))

    def run(G: Any, step_weights: Any, beta2: Any, complement: Any) -> Any:
        state: Any = statistics.initialize(G.shape[1])
        if program.endswith("compensated"):
            state = statistics.compensate(state)
        if scaling:
            state = gradient_scaling.Scaled(state, jnp.float32(1))

        def step(carry: Any, inputs: Any) -> Any:
            state, idle = carry
            g, step_weight, late = inputs
            new = update(state, g, step_weight) if summed else update(state, g, beta2, complement)
            return (new, idle + (late & unchanged(state, new))), None

        idle = jnp.zeros((2, G.shape[1]), jnp.int32)
        late = jnp.arange(len(G)) >= len(G) // 2
        return jax.lax.scan(step, (state, idle), (G, step_weights, late))[0]

    arithmetic = pl.Arithmetic("float32" if wide else format, rounding=rounding, seed=seed)
    return jax.jit(jax.vmap(pl.emulate(run, arithmetic), (None, None, 0, 0)))


def unchanged(old: Any, new: Any) -> Any:
    """Which entries of the band a step leaves as they are, compensation and all."""
    pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    return functools.reduce(jnp.logical_and, [a == b for a, b in pairs if a.ndim == 2])


@functools.lru_cache
def direction(format: str) -> Callable:
    """Correction, damping, projection at a tolerance of 2u, and the direction; batched over decays.

    The function gives the direction, the edges that are kept, and the diagonal of a dead parameter: the damping.
    """

    def run(H: Any, weight: Any, momentum: Any, epsilon: Any, floor: Any, tolerance: Any) -> Any:
        damped = logdet.damp(logdet.corrected(logdet.Statistics(H, weight)), epsilon, floor)
        factor, kept = logdet.stabilize(damped, tolerance)
        return logdet.apply(factor, momentum), kept, damped[0, DEAD - 1]

    return jax.jit(jax.vmap(pl.emulate(run, format), (0, 0, None, None, None, None)))


def exact_direction(H: np.ndarray, momentum: np.ndarray, epsilon: float) -> np.ndarray:
    """X m in float64, with X the sum of the inverses of the 2 by 2 blocks of H less what they count twice."""
    diagonal, edge = H[0].copy(), H[1, :-1]
    sums = diagonal + np.abs(np.append(edge, 0.0)) + np.abs(np.insert(edge, 0, 0.0))
    diagonal += epsilon * sums.max()
    a, c = diagonal[:-1], diagonal[1:]
    determinant = a * c - edge * edge
    u = np.append((c * momentum[:-1] - edge * momentum[1:]) / determinant, 0.0)
    u[1:] += (a * momentum[1:] - edge * momentum[:-1]) / determinant
    u[1:-1] -= momentum[1:-1] / diagonal[1:-1]
    return u


def measure_all(cases: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Measure cases of one format and scheme."""
    results: list[dict[str, Any]] = [{}] * len(cases)
    for exponent in dict.fromkeys(case["exponent"] for case in cases):
        here = [i for i, case in enumerate(cases) if case["exponent"] == exponent]
        for i, figures in zip(here, _measure([cases[i] for i in here]), strict=True):
            results[i] = figures
    return results


def _measure(cases: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    format, scheme, scaling, seed = (cases[0][name] for name in ("format", "scheme", "scaling", "seed"))
    gradients = stream(format, cases[0]["exponent"], cases[0]["steps"], cases[0]["n"], seed)
    G, momentum, _ = gradients
    betas = np.array([0.0 if case["beta2"] is None else case["beta2"] for case in cases])
    step_weights = np.sqrt(np.arange(1, len(G) + 1))
    own = seed if SCHEMES[scheme].rounding == "stochastic" else 0  # one program for all seeds where none are used
    state, idle = accumulate(format, scheme, scaling, own)(
        *(np.asarray(x, np.float32) for x in (G, step_weights, betas, 1 - betas))
    )
    scale = np.asarray(state.scale, np.float64) if scaling else np.ones(len(cases))
    state = state.state if scaling else state
    H, weight = state.statistics if isinstance(state, statistics.Compensated) else state
    H, weight = (np.asarray(pl.round_to(np.asarray(x), format), np.float32) for x in (H, weight))
    tolerance = np.float32(2 * pl.formats.named(format).unit_roundoff)
    run = direction(format)
    tuned, default = (
        run(H, weight, np.float32(momentum), *map(np.float32, damping), tolerance) for damping in (TUNED, DEFAULT)
    )
    results = []
    for k, case in enumerate(cases):
        reference, exact_weight = exact(G, case["beta2"])
        carried = {
            **_errors(np.float64(H[k]) / scale[k] ** 2, reference, gradients.variance),
            **_idleness(np.asarray(idle[k]), reference, len(G) - len(G) // 2),
            "weight_ratio": float(weight[k]) / exact_weight,
            "scale": float(scale[k]),
        }
        best = exact_direction(reference, momentum, TUNED[0])
        u, kept, damping = (np.asarray(x[k]) for x in tuned)
        results.append({
            **carried,
            "stored_beta2": float(pl.round_to(np.float64(betas[k]), format)),
            "nonfinite_tuned": int(np.sum(~np.isfinite(u))),
            "nonfinite_default": int(np.sum(~np.isfinite(np.asarray(default[0][k])))),
            "damping": float(damping),
            "dropped_share": float(np.mean(~kept[0, :-1][reference[1, :-1] != 0])),
            "cosine": direction_cosine(u, best),
        })
    return results


def _errors(H: np.ndarray, reference: np.ndarray, variance: np.ndarray) -> dict[str, float]:
    """How far H is from the exact one, on the entries that have gradients.

    The correlation is that of H_ii over the mean of g^2: how well the fluctuations of the average are followed.
    """
    live = reference[0] > 0
    diagonal, goal, mean = H[0][live], reference[0][live], variance[live]
    edges = reference[1, :-1] != 0
    size = np.sqrt(reference[0, :-1] * reference[0, 1:])[edges]
    with np.errstate(all="ignore"):
        varies = np.isfinite(diagonal).all() and np.ptp(diagonal / mean) > 0
        return {
            "mean_ratio": float(np.mean(diagonal / goal)),
            "median_error": float(np.median(np.abs(diagonal / goal - 1))),
            "largest_error": float(np.max(np.abs(diagonal / goal - 1))),
            "median_edge_error": float(np.median(np.abs(H[1, :-1] - reference[1, :-1])[edges] / size)),
            "correlation": float(np.corrcoef(diagonal / mean, goal / mean)[0, 1]) if varies else float("nan"),
            "underflowed_share": float(np.mean(diagonal == 0)),
            "overflowed_share": float(np.mean(~np.isfinite(diagonal))),
        }


def _idleness(idle: np.ndarray, reference: np.ndarray, steps: int) -> dict[str, float]:
    """The share of steps of the second half that change nothing, and of entries that never change in it."""
    live = idle[0][reference[0] > 0]
    return {"idle_share": float(np.mean(live) / steps), "stagnated_share": float(np.mean(live == steps))}
