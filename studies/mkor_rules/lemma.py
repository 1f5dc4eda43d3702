"""Lemma 3.3.2 of MKOR: what quantized inputs cost one step of the printed rule, and what the lemma allows."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax
import mpmath
import numpy as np

import precond_lab as pl
from precond_lab.preconditioners.rank_one import mkor
from precond_lab.preconditioners.rank_one.dense import Dense

from .cases import CODED

DIGITS = 50


def printed(J: Any, j: Any, gamma: Any, alpha: Any) -> Any:
    """The printed rule, of arrays."""
    return mkor.printed_update(Dense(J), j, gamma, alpha).P


@jax.jit
def _printed(J: jax.Array, j: jax.Array, gamma: jax.Array) -> jax.Array:
    return jax.vmap(printed, (0, 0, None, None))(J, j, gamma, 1 - gamma)


def step(J: np.ndarray, j: np.ndarray, gamma: float) -> np.ndarray:
    """The printed rule in float64, batched over the leading axis."""
    with jax.enable_x64(True):
        return np.asarray(_printed(J, j, np.float64(gamma)))


def allowed(gamma: Any, entry: Any, d: int, error: Any) -> Any:
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
    """The largest error of an entry after one step of inputs that were quantized, over what is allowed.

    The step is in float64, which errs by much less than the inputs; but the worst of a search, of which it is asked
    whether it is above one at all, is computed again with 50 digits.

    Args:
        case: of the grid.

    Returns:
        That ratio, the largest of all trials; the same with m the largest entry before and after; the error over the
        largest entry of the result; the allowance over it.
    """
    d, entry, format = case["d"], case["entry"], case["format"]
    u = pl.formats.named(format).unit_roundoff
    rng = np.random.default_rng([case["seed"], d, round(10 * entry)])
    if case["kind"] == "searched":
        return _searched(rng, case, u)
    J, j = definite(rng, d, entry) if case["kind"] == "definite" else aligned(d, entry, u)
    quantized = [np.asarray(pl.round_to(x, format), np.float64) for x in (J, j)]
    error = max(np.abs(x - q).max() for x, q in zip((J, j), quantized, strict=True))
    before, after = (max(np.abs(x).max() for x in given) for given in ((J, j), quantized))
    exact, found = step(np.stack([J, quantized[0]]), np.stack([j, quantized[1]]), CODED)
    allowance, larger = (allowed(CODED, entry, d, error) for entry in (before, max(before, after)))
    return _figures(np.abs(found - exact).max(), allowance, larger, np.abs(exact).max())


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
    flips = rng.choice([-1.0, 1.0], (trials, d))
    exact = step(J, j, CODED)
    found = step(J + error * signs, j + error * flips, CODED)
    apart = np.abs(found - exact).max(axis=(1, 2))
    before, after = (
        np.maximum(np.abs(A).max(axis=(1, 2)), np.abs(x).max(axis=1))
        for A, x in ((J, j), (J + error * signs, j + error * flips))
    )
    figures = []
    for entry in (before, np.maximum(before, after)):
        worst = int(np.argmax(apart / allowed(CODED, entry, d, error)))
        figures.append(_figures(*precisely(J[worst], j[worst], signs[worst], flips[worst], error)))
    return {**figures[0], "error_over_larger_bound": figures[1]["error_over_larger_bound"]}


def precisely(J: np.ndarray, j: np.ndarray, signs: np.ndarray, flips: np.ndarray, error: float) -> tuple:
    """The largest error of an entry, what is allowed of it, and the largest entry of the result, with 50 digits.

    Args:
        J: ``[d, d]``; its numbers, as those of all arguments, are taken as they are.
        j: ``[d]``.
        signs: of the errors of J.
        flips: of the errors of j.
        error: their size.

    Returns:
        That error; what is allowed with the largest entry of the inputs as they were for m, and with the largest of
        these and the moved ones; the largest entry. By the program itself, and gamma = 0.95 without rounding.
    """
    gamma, epsilon = Fraction(str(CODED)), Fraction(error)
    exactly = np.vectorize(Fraction, otypes=[object])
    inputs = [exactly(x) for x in (J, j)]
    moved = [x + epsilon * np.vectorize(int, otypes=[object])(s) for x, s in zip(inputs, (signs, flips), strict=True)]
    goal, found = (pl.evaluate(printed, *x, gamma, 1 - gamma, digits=DIGITS) for x in (inputs, moved))
    before, after = (max(abs(x) for x in (*given[0].ravel(), *given[1])) for given in (inputs, moved))
    allowances = [allowed(gamma, entry, len(j), epsilon) for entry in (before, max(before, after))]
    with mpmath.workdps(DIGITS):
        apart = max(abs(x - y) for x, y in zip(found.ravel(), goal.ravel(), strict=True))
        size = max(abs(x) for x in goal.ravel())
        return apart, *(mpmath.mpf(x.numerator) / x.denominator for x in allowances), size


def _figures(apart: Any, allowance: Any, larger: Any, size: Any) -> Mapping[str, Any]:
    return {
        "error_over_bound": float(apart / allowance),
        "error_over_larger_bound": float(apart / larger),
        "relative_error": float(apart / size),
        "relative_bound": float(allowance / size),
    }
