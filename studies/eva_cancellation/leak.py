"""Damping that is added in place to a running average of K-FAC's factors, beside damping of a copy."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab.preconditioners.kronecker import leaking_step

DAMPING = 0.03
DECADES = 3.0  # of the spectrum of the factor
MEMORIES = 20  # how many times 1 / (1 - old weight) steps are taken: e^-20 of the leak is still to come


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What is in the factor, when it has settled, beside its average and the damping that was asked for.

    Args:
        cases: of the grid.

    Returns:
        For each: the mean eigenvalue of the extra damping over lambda; its distance from that multiple of the identity;
        and the cosine between A^{-1} g with the leak and without.
    """
    return [_measure(case) for case in cases]


def _measure(case: Mapping[str, Any]) -> Mapping[str, Any]:
    old, n, batch = case["old_weight"], case["n"], case["batch"]
    rng = np.random.default_rng([case["seed"], round(1000 * old)])
    deviations = np.logspace(0, -DECADES / 2, n)
    X = rng.standard_normal((round(MEMORIES / (1 - old)), batch, n)) * deviations
    with jax.enable_x64(True):
        kept, leaked = jax.device_get(_run(X, np.float64(old), np.float64(DAMPING)))
    damped = kept + DAMPING * np.eye(n)
    extra = (leaked - damped) / DAMPING
    share = np.trace(extra) / n
    g = rng.standard_normal(n) * deviations
    directions = np.linalg.solve(leaked, g), np.linalg.solve(damped, g)
    lengths = np.prod([np.linalg.norm(x) for x in directions])
    return {
        "extra_over_damping": float(share),
        "unevenness": float(np.abs(extra - share * np.eye(n)).max()),
        "cosine": float(directions[0] @ directions[1] / lengths),
    }


@jax.jit
def _run(X: jax.Array, old: jax.Array, damping: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The average without damping, and the one that its damping leaks into, over all batches."""

    def step(averages: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        statistic = x.T @ x / x.shape[0]
        kept = leaking_step(averages[0], statistic, jnp.zeros_like(damping), old_weight=old)
        return (kept, leaking_step(averages[1], statistic, damping, old_weight=old)), None

    start = jnp.eye(X.shape[-1], dtype=X.dtype)
    return jax.lax.scan(step, (start, start), X)[0]
