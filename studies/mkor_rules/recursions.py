"""The printed rule and the released one in float64: one step, many steps, their stabilizers."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one import mkor
from precond_lab.preconditioners.rank_one.dense import Dense

from .cases import CODED, Part
from .streams import stream

THRESHOLD = 2.0  # epsilon of the printed stabilizer, and of the released test
ZETA = 0.9  # of the printed stabilizer in the tracks
DIRECTIONS = 32  # gradients that are preconditioned at every row of a track


def bound(gamma: float) -> float:
    """1 / (gamma + gamma^-3): the largest zeta that is claimed to bound the printed rule."""
    return 1 / (gamma + gamma**-3)


@jax.jit
def one_step(J: jax.Array, j: jax.Array, gamma: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """j^T J j, and what it becomes of by the printed rule and by the correct one."""
    found = [
        update(Dense(J), j, gamma, 1 - gamma).P
        for update in (mkor.printed.update, rank_one.METHODS["symmetric"].update)
    ]
    return j @ J @ j, j @ found[0] @ j, j @ found[1] @ j


def measure_step(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By what one step multiplies the direction j.

    Args:
        cases: of the grid.

    Returns:
        For each: j^T J+ j / j^T J j by the printed rule and by the correct one, and the laws of both.
    """
    found = []
    for case in cases:
        rng = np.random.default_rng([case["seed"], case["n"]])
        half, j = rng.standard_normal((case["n"], case["n"])), rng.standard_normal(case["n"])
        J, gamma = half @ half.T + np.eye(case["n"]), case["gamma"]
        j *= np.sqrt(10 ** case["log_gain"] / (j @ J @ j))
        with jax.enable_x64(True):
            s, printed, true = (float(x) for x in one_step(J, j, np.float64(gamma)))
        found.append({
            "s": s,
            "printed_factor": printed / s,
            "true_factor": true / s,
            "printed_law": gamma + (1 - gamma) * s / (gamma**2 * (1 + gamma * (1 - gamma) * s)),
            "true_law": 1 / (gamma + (1 - gamma) * s),
        })
    return found


RULES: dict[str, rank_one.Recursion] = {
    "printed": mkor.printed,
    "printed, blended": mkor.stabilized(mkor.printed, partial(mkor.blend, threshold=THRESHOLD, weight=ZETA)),
    "released": mkor.released,
    "true inverse": rank_one.METHODS["symmetric"],
}


@lru_cache(maxsize=32)
def track(rule: str, name: str, n: int, steps: int, seed: int) -> np.ndarray:
    """J after every step, from J = I: ``[steps + 1, n, n]``."""
    recursion, V = RULES[rule], stream(name, steps, n, seed)
    with jax.enable_x64(True):
        start = recursion.start(jnp.ones(n, np.float64))
        _, states = _run(rule, start, V, np.float64(CODED))
        return np.concatenate([np.asarray(start.P)[None], np.asarray(states.P)])


@partial(jax.jit, static_argnums=0)
def _run(rule: str, start: Any, V: jax.Array, gamma: jax.Array) -> Any:
    return rank_one.run(RULES[rule], start, V, gamma, every=1)


def measure_track(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """J along a stream.

    Args:
        cases: of one rule and stream.

    Returns:
        For each: the largest entry of J, its condition number, and the median cosine of J g to C^{-1} g over gradients
        g about the first vector of the stream, C the average that the rule is said to invert.
    """
    found = []
    for case in cases:
        size = case["n"], case["steps"], case["seed"]
        J, true = (track(rule, case["stream"], *size)[case["t"]] for rule in (case["rule"], "true inverse"))
        G = np.random.default_rng([case["seed"], 7]).standard_normal((case["n"], DIRECTIONS))
        G += stream(case["stream"], 1, case["n"], case["seed"])[0][:, None]
        # powers of two beyond float64 when squared: directions are compared at size one
        P, goal = (X / np.abs(X).max() @ G for X in (J, true))
        cosines = np.sum(P * goal, axis=0) / (np.linalg.norm(P, axis=0) * np.linalg.norm(goal, axis=0))
        w = np.linalg.eigvalsh(J / np.abs(J).max())
        found.append({
            "largest": float(np.abs(J).max()),
            "cosine": float(np.median(cosines)),
            "condition": float(w[-1] / w[0]) if w[0] > 0 else float("inf"),
        })
    return found


@jax.jit
def blended(V: jax.Array, start: jax.Array, gamma: jax.Array, weight: jax.Array) -> jax.Array:
    """The infinity norm of J at every step of the printed rule with its stabilizer; batched over gamma and zeta."""

    def one(gamma: jax.Array, weight: jax.Array) -> jax.Array:
        rule = mkor.stabilized(mkor.printed, partial(mkor.blend, threshold=THRESHOLD, weight=weight))

        def step(state: Dense, v: jax.Array) -> tuple[Dense, jax.Array]:
            state = rule.update(state, v, gamma, 1 - gamma)
            return state, jnp.max(jnp.sum(jnp.abs(state.P), axis=1))

        return jax.lax.scan(step, rule.start(jnp.ones(V.shape[1], V.dtype) / start), V)[1]

    return jax.vmap(one)(gamma, weight)


def measure_stabilizer(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Norms along a stream.

    Args:
        cases: of one stream, which differ in gamma and zeta.

    Returns:
        For each: zeta, the largest norm in the second and in the fourth quarter of the run, and whether the later is no
        more than twice the earlier: bounded, as far as one can see.
    """
    first = cases[0]
    V = stream(first["stream"], first["steps"], first["n"], first["seed"])
    gammas = np.array([case["gamma"] for case in cases])
    zetas = np.array([min(case["weight_over_bound"] * bound(case["gamma"]), 1.0) for case in cases])
    with jax.enable_x64(True):
        norms = np.asarray(blended(V, np.float64(first["start"]), gammas, zetas))
    quarter = first["steps"] // 4
    early, late = norms[:, quarter : 2 * quarter].max(axis=1), norms[:, 3 * quarter :].max(axis=1)
    return [
        {"zeta": float(z), "early": float(e), "late": float(x), "bounded": bool(x <= 2 * e)}
        for z, e, x in zip(zetas, early, late, strict=True)
    ]


STABILIZERS: dict[str, tuple[rank_one.Recursion, Callable]] = {
    "printed blend": (mkor.printed, partial(mkor.blend, threshold=THRESHOLD, weight=0.4)),
    "released reset": (mkor.released, partial(mkor.reset, threshold=THRESHOLD)),
    "reset unless finite": (mkor.released, mkor.reset_unless_finite),
}


def measure_poison(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What becomes of a J with one entry that is not finite.

    Args:
        cases: of the grid.

    Returns:
        For each: whether the stabilizer alone gave a finite J, and whether J is finite after all steps of its rule.
    """
    found = []
    for case in cases:
        rule, stabilizer = STABILIZERS[case["stabilizer"]]
        V = np.float32(stream("noisy", case["steps"], case["n"], case["seed"]))
        J = np.eye(case["n"], dtype=np.float32)
        J[0, 0] = {"nan": np.nan, "infinity": np.inf}[case["poison"]]
        at_once = stabilizer(J)
        last, _ = jax.jit(partial(rank_one.run, mkor.stabilized(rule, stabilizer)))(
            Dense(jnp.asarray(J)), V, np.float32(CODED)
        )
        found.append({
            "caught": bool(np.isfinite(at_once).all()),
            "finite_at_the_end": bool(np.isfinite(last.P).all()),
        })
    return found


MEASURES: dict[Part, Callable] = {
    Part.STEP: measure_step,
    Part.TRACK: measure_track,
    Part.STABILIZER: measure_stabilizer,
    Part.POISON: measure_poison,
}
