"""The theorems on banded projections, in rationals: closed form, degenerate histories, one pass, masking."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import prod, sqrt
from typing import Any

import jax.numpy as jnp
import numpy as np

from precond_lab.preconditioners.logdet import edges_between_cuts
from precond_lab.truth.logdet import Status, exact_projection
from precond_lab.truth.logdet.graph import band_graph, determinant
from precond_lab.truth.logdet.optimality import inverse_on_graph

from .cases import Part

RATIONAL_TOLERANCES = (Fraction(0), Fraction(1, 128), Fraction(1, 16), Fraction(1, 2))
RULES = ("one_sided", "literal")


def gram(rng: np.random.Generator, steps: int, n: int) -> np.ndarray:
    """The Gram matrix of a history of nonzero integer gradients, as exact Python integers ``[n, n]``."""
    history = rng.integers(1, 10, (steps, n)) * rng.choice([-1, 1], (steps, n))
    return (history.T @ history).astype(object)


def band_of(matrix: np.ndarray, band: int) -> np.ndarray:
    """The band of a symmetric matrix, ``[b+1, n]``."""
    n = len(matrix)
    return np.array([[matrix[i + k, i] if i + k < n else 0 for i in range(n)] for k in range(band + 1)], dtype=object)


def dense(band: np.ndarray) -> list[list[Fraction]]:
    """The symmetric matrix of a band."""
    n, b = band.shape[1], len(band) - 1
    entry = lambda i, j: Fraction(band.item(i - j, j)) if i - j <= b else Fraction(0)  # noqa: E731
    return [[entry(max(i, j), min(i, j)) for j in range(n)] for i in range(n)]


def assembled(psi: np.ndarray, s: np.ndarray) -> dict[tuple[int, int], Fraction]:
    """X = L D L^T from its regressions, on the edges of the band."""
    b, n = psi.shape
    x = {(i, j): Fraction(0) for j in range(n) for i in range(j, min(j + b, n - 1) + 1)}
    for j in range(n):
        column = {j: Fraction(1), **{j + k: -psi[k - 1, j] for k in range(1, min(b, n - 1 - j) + 1)}}
        for i, p in column.items():
            for m, q in column.items():
                if m <= i:
                    x[i, m] += p * q / s[j]
    return x


def closed_form(case: Mapping[str, Any]) -> dict[str, Any]:
    """The closed form against the optimality condition, with the identities that follow.

    The exact projection has met its condition with equality and owes nothing to the closed form, whose psi and s come
    as quotients of minors.
    """
    band, rng = case["band"], np.random.default_rng(case["seed"])
    n = 24 if band == 1 else band + 4
    names = ("not_optimal", "wrong_trace", "wrong_determinant", "increasing_s", "wrong_inverse", "wrong_existence")
    counts: dict[str, Any] = dict.fromkeys((*names, "entries", "without_projection"), 0)
    for _ in range(case["trials"]):
        matrix = gram(rng, n + 2, n)
        H = band_of(matrix, band)
        exact, narrow = exact_projection(H), exact_projection(H[:-1])
        x = assembled(exact.psi, exact.s)
        counts["entries"] += len(x)
        counts["not_optimal"] += sum(value != exact.band[i - j, j] for (i, j), value in x.items())
        trace = sum(x[i, j] * H[i - j, j] * (1 if i == j else 2) for i, j in x)
        counts["wrong_trace"] += trace != n
        counts["wrong_determinant"] += not _determinants_agree(H, exact.band, exact.s)
        counts["increasing_s"] += sum(a > b for a, b in zip(exact.s, narrow.s, strict=True))
        counts["wrong_inverse"] += not _is_inverse(matrix[: band + 1, : band + 1])
        there = exact_projection(_perturbed(H[:, : band + 3], rng))
        counts["without_projection"] += there.status is not Status.SOLVED
        positive = all(s is not None and s > 0 for s in there.s)
        counts["wrong_existence"] += positive != (there.status is Status.SOLVED)
    return {"n": n, **counts}


def _perturbed(H: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """H with its entries off by so much that its projection may or may not exist."""
    largest = int(rng.integers(1, 2 * H[0].max() // len(H) + 2))
    changed = H + rng.integers(-largest, largest + 1, H.shape).astype(object)
    changed[0] = np.maximum(changed[0], 1)
    return changed


def _determinants_agree(H: np.ndarray, X: np.ndarray, s: np.ndarray) -> bool:
    """Whether det X^-1 is the product of all s, and that of the cliques over that of the separators."""
    matrix, band, n = dense(H), len(H) - 1, H.shape[1]

    def minor(first: int, last: int) -> Fraction:
        return determinant([row[first:last] for row in matrix[first:last]])

    cliques = prod(minor(j, j + band + 1) for j in range(n - band))
    separators = prod(minor(j + 1, j + band + 1) for j in range(n - band - 1))
    return prod(s) == 1 / determinant(dense(X)) == cliques / separators


def _is_inverse(matrix: np.ndarray) -> bool:
    """Whether a band of n - 1 subdiagonals gives the inverse."""
    n = len(matrix)
    X = dense(exact_projection(band_of(matrix, n - 1)).band)
    return all(sum(X[i][k] * matrix[k, j] for k in range(n)) == (i == j) for i in range(n) for j in range(n))


def degenerate(case: Mapping[str, Any]) -> dict[str, Any]:
    """Schur complements of degenerate gradient histories."""
    band, rng = case["band"], np.random.default_rng(case["seed"])
    few, twins = [], []
    for _ in range(case["trials"]):
        n = band + 3
        H = band_of(gram(rng, int(rng.integers(1, band + 1)), n), band)
        few += list(exact_projection(H).s[: n - band])
        matrix = gram(rng, n + 2, n)
        j = int(rng.integers(0, n - 1))
        matrix[:, j + 1] = matrix[:, j]
        matrix[j + 1] = matrix[j]
        twins.append(exact_projection(band_of(matrix, band)).s[j])
    return {
        "few": len(few),
        "few_not_degenerate": sum(s is not None and s != 0 for s in few),
        "few_undefined": sum(s is None for s in few),
        "twins": len(twins),
        "twins_not_degenerate": sum(s is not None and s != 0 for s in twins),
    }


def one_pass(case: Mapping[str, Any]) -> dict[str, Any]:
    """What one pass of Algorithm 3 leaves, for windows that are semidefinite or not.

    Indefinite ones are what rounding makes of semidefinite ones: entries off by a little.
    """
    band, rng = case["band"], np.random.default_rng(case["seed"])
    counts: dict[str, Any] = dict.fromkeys(("triggered", "failed_again", "decreased"), 0)
    for _ in range(case["trials"]):
        n = band + 4
        H = band_of(gram(rng, int(rng.integers(1, band + 3)), n), band)
        if case["windows"] == "indefinite":
            H = H + rng.integers(-2, 3, H.shape).astype(object)
            H[0] = np.maximum(H[0], 1)
        first = exact_projection(H).s
        for tolerance in RATIONAL_TOLERANCES:
            failed = _failed(first, H[0], tolerance)
            if not failed[:-1].any():
                continue
            for rule in RULES:
                kept = np.asarray(edges_between_cuts(jnp.asarray(failed), band, rule))
                second = exact_projection(H, kept).s
                counts["triggered"] += 1
                counts["failed_again"] += bool(_failed(second, H[0], tolerance).any())
                counts["decreased"] += any(
                    a is not None and (b is None or b < a) for a, b in zip(first, second, strict=True)
                )
    return counts


def _failed(s: np.ndarray, diagonal: np.ndarray, tolerance: Fraction) -> np.ndarray:
    return np.array([x is None or not x > tolerance * h for x, h in zip(s, diagonal, strict=True)])


def masked(case: Mapping[str, Any]) -> dict[str, Any]:
    """By how much striking entries of psi misses the optimality condition of the reduced graph; solving again does not.

    The residual is the largest |X^-1 - H|_ij / sqrt(H_ii H_jj) on the graph.
    """
    band, rng = case["band"], np.random.default_rng(case["seed"])
    worst, residuals, indefinite, solved_wrong = 0.0, [], 0, 0
    for _ in range(case["trials"]):
        n = band + 4
        H = band_of(gram(rng, n, n), band)
        cuts = rng.random(n) < 0.3
        kept = np.asarray(edges_between_cuts(jnp.asarray(cuts), band, "one_sided"))
        whole, reduced = exact_projection(H), exact_projection(H, kept)
        psi = whole.psi * kept
        s = H[0] - (psi * H[1:]).sum(axis=0)
        solved_wrong += _residual(reduced.psi, reduced.s, H, kept) != 0
        if min(s) <= 0:
            indefinite += 1
            continue
        residuals.append(_residual(psi, s, H, kept))
        worst = max(worst, residuals[-1])
    return {
        "solved_not_optimal": solved_wrong,
        "masked_not_optimal": sum(r > 0 for r in residuals) + indefinite,
        "masked_not_definite": indefinite,
        "median_residual": float(np.median(residuals)),
        "largest_residual": worst,
    }


def _residual(psi: np.ndarray, s: np.ndarray, H: np.ndarray, kept: np.ndarray) -> float:
    band, n = psi.shape
    graph = band_graph(band, n, kept)
    x = assembled(psi, s)
    S = inverse_on_graph({edge: x[edge] for edge in graph.edges}, graph)
    assert S is not None  # every s is positive
    return max(float(abs(S[i, j] - H[i - j, j])) / sqrt(H[0, i] * H[0, j]) for i, j in graph.edges)


MEASURES: dict[Part, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    Part.CLOSED_FORM: closed_form,
    Part.DEGENERATE: degenerate,
    Part.ONE_PASS: one_pass,
    Part.MASKED: masked,
}
