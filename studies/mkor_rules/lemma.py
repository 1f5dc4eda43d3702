"""Lemma 3.3.2 of MKOR: what quantized inputs cost one step of the printed rule, and what the lemma allows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import precond_lab as pl

from .cases import CODED


def step(J: np.ndarray, j: np.ndarray, gamma: float) -> np.ndarray:
    """The printed rule, batched over leading axes."""
    w = np.einsum("...ik,...k->...i", J, j)
    s = np.sum(w * j, axis=-1)
    c = (1 - gamma) / (gamma**2 * (1 + gamma * (1 - gamma) * s))
    return gamma * J + c[..., None, None] * w[..., :, None] * w[..., None, :]


def allowed(gamma: float, entry: Any, d: int, error: Any) -> Any:
    """(gamma + 4 (1 - gamma) / gamma^2 m^3 d^2) epsilon, with m the largest entry and epsilon the largest error."""
    return (gamma + 4 * (1 - gamma) / gamma**2 * entry**3 * d**2) * error


def definite(rng: np.random.Generator, d: int, entry: float) -> tuple[np.ndarray, np.ndarray]:
    """J = D + x x^T, D diagonal, with largest entry m, and a j of entries up to m."""
    x, j = rng.standard_normal(d), rng.standard_normal(d)
    J = np.outer(x, x) + np.diag(rng.uniform(0.5, 1.5, d))
    return J * (entry / np.abs(J).max()), j * (entry / np.abs(j).max())


def aligned(d: int, entry: float, u: float) -> tuple[np.ndarray, np.ndarray]:
    """All entries just below the middle of a power of two and its next: each is rounded down, by u of itself."""
    x = 2.0 ** np.floor(np.log2(entry)) * (1 + u * (1 - 2.0**-12))
    return np.full((d, d), x), np.full(d, x)


def measure_lemma(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """The largest error of an entry after one step in float64 of inputs that were quantized, over what is allowed.

    Args:
        case: of the grid.

    Returns:
        That ratio, the largest of all trials; the error over the largest entry of the result; the allowance over it.
    """
    d, entry, format = case["d"], case["entry"], case["format"]
    u = pl.formats.named(format).unit_roundoff
    rng = np.random.default_rng([case["seed"], d, round(10 * entry)])
    if case["kind"] == "searched":
        return _searched(rng, case, u)
    J, j = definite(rng, d, entry) if case["kind"] == "definite" else aligned(d, entry, u)
    quantized = [np.asarray(pl.round_to(x, format), np.float64) for x in (J, j)]
    error = max(np.abs(x - q).max() for x, q in zip((J, j), quantized, strict=True))
    largest = max(np.abs(J).max(), np.abs(j).max())
    exact, found = step(J, j, CODED), step(quantized[0], quantized[1], CODED)
    return _figures(np.abs(found - exact).max(), allowed(CODED, largest, d, error), np.abs(exact).max())


def _searched(rng: np.random.Generator, case: Mapping[str, Any], u: float) -> Mapping[str, Any]:
    """Small cases with errors of size epsilon in every entry and any signs, the symmetric ones of J in pairs."""
    d, trials, entry = case["d"], case["trials"], case["entry"]
    half = rng.standard_normal((trials, d, d)) * np.exp(rng.uniform(-3, 0, (trials, 1, d)))
    J = half @ half.swapaxes(1, 2)
    J *= entry / np.abs(J).max(axis=(1, 2), keepdims=True)
    j = rng.choice([-1.0, 1.0], (trials, d)) * entry * rng.uniform(0, 1, (trials, d)) ** 0.2
    error = entry * u
    signs = rng.choice([-1.0, 1.0], (trials, d, d))
    signs = np.tril(signs) + np.tril(signs, -1).swapaxes(1, 2)
    exact = step(J, j, CODED)
    found = step(J + error * signs, j + error * rng.choice([-1.0, 1.0], (trials, d)), CODED)
    apart = np.abs(found - exact).max(axis=(1, 2))
    largest = np.maximum(np.abs(J).max(axis=(1, 2)), np.abs(j).max(axis=1))
    worst = int(np.argmax(apart / allowed(CODED, largest, d, error)))
    return _figures(apart[worst], allowed(CODED, largest[worst], d, error), np.abs(exact[worst]).max())


def _figures(apart: float, allowance: Any, size: float) -> Mapping[str, Any]:
    return {
        "error_over_bound": float(apart / allowance),
        "relative_error": float(apart / size),
        "relative_bound": float(allowance / size),
    }
