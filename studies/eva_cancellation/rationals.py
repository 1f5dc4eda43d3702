"""Eva's two theorems in exact rationals, and its program beside them with 50 digits."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import flint
import mpmath
import numpy as np

import precond_lab as pl
from precond_lab.preconditioners.rank_one.eva import eva

from .cases import Part

DIGITS = 50


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Integers from -9 to 9 over denominators from 1 to 9, as an object array of Fractions."""
    above, below = rng.integers(-9, 10, shape), rng.integers(1, 10, shape)
    return np.vectorize(lambda p, q: Fraction(int(p), int(q)), otypes=[object])(above, below)


def damping(rng: np.random.Generator) -> Fraction:
    """A positive rational between 1e-6 and 9."""
    return Fraction(int(rng.integers(1, 10)), 10 ** int(rng.integers(0, 7)))


def closed_form(G: np.ndarray, a: np.ndarray, b: np.ndarray, gamma: Fraction) -> np.ndarray:
    """(G - (b^T G a) / (gamma + |a|^2 |b|^2) b a^T) / gamma."""
    c = (b @ G @ a) / (gamma + (a @ a) * (b @ b))
    return (G - c * np.outer(b, a)) / gamma


def rational(x: Fraction) -> flint.fmpq:
    """The same number."""
    return flint.fmpq(x.numerator, x.denominator)


def dense_solve(G: np.ndarray, a: np.ndarray, b: np.ndarray, gamma: Fraction) -> np.ndarray:
    """(b b^T (x) a a^T + gamma I)^{-1} vec(G), by elimination on the matrix of order m n."""
    v = np.outer(b, a).ravel()
    size = len(v)
    C = flint.fmpq_mat([[rational(v[i] * v[j] + (gamma if i == j else 0)) for j in range(size)] for i in range(size)])
    solution = C.solve(flint.fmpq_mat([[rational(x)] for x in G.ravel()]))
    values = [Fraction(int(solution[i, 0].p), int(solution[i, 0].q)) for i in range(size)]
    return np.array(values, object).reshape(G.shape)


def measure_solve(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """How many closed forms differ from the dense solve, and how far the program is from either with 50 digits."""
    rng = np.random.default_rng([case["seed"], case["m"], case["n"]])
    different, worst = 0, 0.0
    for _ in range(case["trials"]):
        G, a, b = drawn(rng, case["m"], case["n"]), drawn(rng, case["n"]), drawn(rng, case["m"])
        gamma = damping(rng)
        goal = dense_solve(G, a, b, gamma)
        different += int((closed_form(G, a, b, gamma) != goal).any())
        found = pl.evaluate(eva, G, a, b, gamma, digits=DIGITS)
        worst = max(worst, relative_difference(found, goal))
    return {"different": different, "program_difference": worst}


def relative_difference(found: np.ndarray, goal: np.ndarray) -> float:
    """The largest difference of two matrices over the largest entry of the second."""
    with mpmath.workdps(2 * DIGITS):
        exact = [mpmath.mpf(x.numerator) / x.denominator for x in goal.ravel()]
        size = max(abs(x) for x in exact)
        largest = max(abs(x - y) for x, y in zip(found.ravel(), exact, strict=True))
        return float(largest / size) if size else float(largest)


def measure_descent(case: Mapping[str, Any]) -> Mapping[str, Any]:
    """How often <G, P> is below |G|^2 / (gamma + sigma) for a G that is not zero, and the least of their ratios."""
    rng = np.random.default_rng([case["seed"], *case["direction"].encode()])
    tested, violations, least, equal = 0, 0, Fraction(10**9), 0
    for _ in range(case["trials"]):
        m, n = (int(k) for k in rng.integers(2, 6, 2))
        a, b, gamma = drawn(rng, n), drawn(rng, m), damping(rng)
        along, beside = Fraction(int(rng.integers(1, 10))) * np.outer(b, a), drawn(rng, m, n)
        G = {"drawn": beside, "aligned": along + beside / 1000, "parallel": along}[case["direction"]]
        squares = np.sum(G * G)
        if not squares:
            continue
        tested += 1
        sigma = (a @ a) * (b @ b)
        ratio = np.sum(G * closed_form(G, a, b, gamma)) * (gamma + sigma) / squares
        violations += int(ratio < 1)
        equal += int(ratio == 1)
        least = min(least, ratio)
    return {"tested": tested, "violations": violations, "least_ratio": float(least), "equalities": equal}


MEASURES = {Part.SOLVE: measure_solve, Part.DESCENT: measure_descent}
