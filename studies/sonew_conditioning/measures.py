"""What is measured: condition numbers by differentiation, errors and decisions of the emulated projection."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jax
import numpy as np

import precond_lab as pl
from precond_lab import gallery
from precond_lab.diagnosis.logdet_band_condition import band_condition
from precond_lab.diagnosis.logdet_thresholds import least_kept_pivot, thresholds
from precond_lab.preconditioners import logdet
from precond_lab.truth.logdet import exact_projection

from .cases import PRECISION, Part
from .significands import (
    index_below,
    largest_pivot_before_rounding,
    least_pivot_before_rounding,
    number,
    pairs,
    pivot,
    singular_index,
)

BATCH = 2**19  # pairs of vertices a call
AROUND = (2, 1, 0, -1, -2)  # edges beside singularity; a breakdown needs 1 - beta^2 < 2u: the third, if any
REVERSED_AT = 0.15  # the tolerance of reversed bands: it drops some edges of theirs, far from rounding
GRADIENTS = 100  # that random statistics are the mean of


def chain_of(a: np.ndarray, c: np.ndarray, e: np.ndarray, size: int) -> np.ndarray:
    """Pairs of vertices, side by side in one chain ``[2, 2 size]`` without edges between them; ones fill it up."""
    H = np.zeros((2, 2 * size))
    H[0] = 1
    H[0, 0 : 2 * len(a) : 2], H[0, 1 : 2 * len(a) : 2], H[1, 0 : 2 * len(a) : 2] = a, c, e
    return H


@lru_cache
def _schur(format: str) -> Callable:
    return pl.emulate(lambda H: logdet.schur_complements(H)[1], format)


@lru_cache
def _kept(format: str) -> Callable:
    return pl.emulate(lambda H, tolerance: logdet.stabilize(H, tolerance)[1], format)


@jax.jit
def _kept_in_float64(H: jax.Array) -> jax.Array:
    return logdet.stabilize(H, REVERSED_AT)[1]


def _size(count: int) -> int:
    return min(BATCH, 1 << (count - 1).bit_length())


def schur(format: str, a: np.ndarray, c: np.ndarray, e: np.ndarray) -> np.ndarray:
    """The Schur complement of the first vertex of each pair, computed in a format."""
    H = chain_of(a, c, e, _size(len(a))).astype(np.float32)
    return np.asarray(_schur(format)(H), np.float64)[0 : 2 * len(a) : 2]


def kept(format: str, a: np.ndarray, c: np.ndarray, e: np.ndarray, tolerance: float) -> np.ndarray:
    """Which pairs keep their edge, as decided in a format."""
    H = chain_of(a, c, e, _size(len(a))).astype(np.float32)
    return np.asarray(_kept(format)(H, np.float32(tolerance)))[0, 0 : 2 * len(a) : 2]


def beside_singularity(precision: int, stride: int, offsets: tuple[int, ...]) -> Iterator[tuple[np.ndarray, ...]]:
    """Pairs with edges at these steps from the largest e with e^2 <= a c: a, c, e and the step, in batches."""
    for a, c in pairs(precision, stride, BATCH // len(offsets)):
        top = singular_index(a, c, precision)
        steps, times = np.repeat(offsets, len(a)), len(offsets)
        yield np.tile(a, times), np.tile(c, times), number(np.tile(top, times) + steps, precision), steps


def spread(
    a: np.ndarray, c: np.ndarray, low: np.ndarray, high: np.ndarray, precision: int, edges: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair with so many edges, evenly from the one index to the other, both included."""
    part = np.linspace(0, 1, edges)[:, None]
    e = number((high - np.floor(part * (high - low)).astype(int)).ravel(), precision)
    return np.tile(a, edges), np.tile(c, edges), e


# Condition numbers


def conditions(case: Mapping[str, Any]) -> dict[str, Any]:
    """Derivatives of X on pairs of vertices, against the closed forms."""
    precision, edges = PRECISION[case["format"]], case["edges"]
    count, least_ratio, largest_ratio, deviation = 0, np.inf, 0.0, {"off_diagonal": 0.0, "all_entries": 0.0}
    for first, second in pairs(precision, case["stride"], BATCH // (8 * edges)):
        low = index_below(np.sqrt(first * second) / 8, precision)
        triples = spread(first, second, low, singular_index(first, second, precision), precision, edges)
        p = pivot(*triples)
        definite = p > 0
        a, c, e = (x[definite] for x in triples)
        condition = band_condition(chain_of(a, c, e, len(a)))
        p = p[definite]
        off, every = condition.entries_off_diagonal[1, ::2], condition.entries[1, ::2]
        count += len(p)
        least_ratio, largest_ratio = min(least_ratio, (off * p / 2).min()), max(largest_ratio, (off * p / 2).max())
        for name, found, exact in (("off_diagonal", off, (2 - p) / p), ("all_entries", every, (4 - p) / p)):
            deviation[name] = max(deviation[name], float((np.abs(found / exact - 1) * p / 2).max()))
        for rows in (condition.entries_off_diagonal, condition.entries):
            assert (rows[0].reshape(-1, 2).max(1) <= rows[1, ::2]).all()  # the diagonal of X responds less
    return {
        "triples": count,
        "least_over_bound": float(least_ratio),
        "largest_over_bound": float(largest_ratio),
        "deviation_off_diagonal": deviation["off_diagonal"],
        "deviation_all_entries": deviation["all_entries"],
    }


def statistics(band: int, n: int, correlation: float, seed: int) -> np.ndarray:
    """The band of the mean of g g^T over gradients with neighbors that are correlated."""
    G = gallery.gradient_stream(GRADIENTS, n, correlation=correlation, decades=2.0, seed=seed)
    rows = [(G[:, k:] * G[:, : n - k]).mean(0) for k in range(band + 1)]
    return np.stack([np.append(row, np.zeros(k)) for k, row in enumerate(rows)])


def bands(case: Mapping[str, Any]) -> dict[str, Any]:
    """Condition numbers of a random band, with the two quantities that may bound them."""
    condition = band_condition(statistics(case["band"], case["n"], case["correlation"], case["seed"]))
    names = ("off_diagonal", "all_entries", "schur", "scaled", "smallest_pivot", "smallest_eigenvalue")
    return {name: getattr(condition, name) for name in names}


# Rounding errors


def errors(case: Mapping[str, Any]) -> dict[str, Any]:
    """The largest error of the computed s over pairs whose pivot lies in one octave."""
    format, edges = case["format"], case["edges"]
    precision, u = PRECISION[format], pl.formats.named(format).unit_roundoff
    # beta^2 from 1/16 on: below, an 8-bit format underflows
    low, high = max(1 - 2.0 ** (1 - case["octave"]), 1 / 16), 1 - 2.0 ** -case["octave"]
    count, of_paper, of_sharp = 0, 0.0, 0.0
    for first, second in pairs(precision, case["stride"], BATCH // edges):
        least, most = (index_below(np.sqrt(first * second * square), precision) for square in (low, high))
        there = most > least
        if not there.any():
            continue
        a, c, e = spread(first[there], second[there], least[there] + 1, most[there], precision, edges)
        p = pivot(a, c, e)
        exact = p * a
        error = np.abs(schur(format, a, c, e) - exact) / exact / u
        count += len(a)
        of_paper = max(of_paper, float((error * p / 2).max()))
        of_sharp = max(of_sharp, float((error * p / (2 - p)).max()))
    return {"triples": count, "largest_error_over_bound": of_paper, "largest_error_over_exact_condition": of_sharp}


# Breakdown


def breakdowns(case: Mapping[str, Any]) -> dict[str, Any]:
    """The largest pivots at which an edge breaks down: by arithmetic, by storage, by both."""
    format = case["format"]
    precision, u = PRECISION[format], pl.formats.named(format).unit_roundoff
    count = zeros = negative = indefinite = outside = 0
    worst: dict[str, float] = dict.fromkeys(("arithmetic", "storage", "both"), 0.0)
    for a, c, e, step in beside_singularity(precision, case["stride"], AROUND):
        s, p = schur(format, a, c, e), pivot(a, c, e)
        before = largest_pivot_before_rounding(a, c, e, precision)
        broken, definite = s <= 0, p > 0
        count += len(a)
        zeros, negative = zeros + int((definite & (s == 0)).sum()), negative + int((definite & (s < 0)).sum())
        indefinite += int((~definite & (before > 0)).sum())
        outside += int((broken & (step == AROUND[-1])).sum())
        for name, chosen, values in (
            ("arithmetic", broken, p),
            ("storage", ~definite, before),
            ("both", broken, before),
        ):
            worst[name] = max(worst[name], float(values[chosen].max(initial=0) / u))
    bounds = {f"{name}_bound": bound / u for name, bound in thresholds(u)._asdict().items()}
    figures = {"triples": count, "zero_s": zeros, "negative_s": negative, "stored_indefinite": indefinite}
    return {**figures, "breakdowns_at_the_end": outside, **worst, **bounds}


def signs(case: Mapping[str, Any]) -> dict[str, Any]:
    """Whether float32 tells the sign of s from entries that are stored in a narrower format."""
    precision = PRECISION[case["format"]]
    wrong_ones = ("schur_wrong", "schur_wrong_not_singular", "schur_keeps_wrongly")
    figures: dict[str, Any] = dict.fromkeys(("triples", "singular", "determinant_wrong", *wrong_ones), 0)
    for a, c, e, _ in beside_singularity(precision, case["stride"], AROUND):
        exact = np.sign(a * c - e * e)
        x, y, z = (v.astype(np.float32) for v in (a, c, e))
        s = schur("float32", a, c, e)
        wrong = np.sign(s) != exact
        figures["triples"] += len(a)
        figures["singular"] += int((exact == 0).sum())
        figures["determinant_wrong"] += int((np.sign(x * y - z * z) != exact).sum())
        figures["schur_wrong"] += int(wrong.sum())
        figures["schur_wrong_not_singular"] += int((wrong & (exact != 0)).sum())
        figures["schur_keeps_wrongly"] += int((wrong & (s > 0)).sum())
    return figures


def tolerances(case: Mapping[str, Any]) -> dict[str, Any]:
    """What Algorithm 3 keeps and drops about its tolerance, and whether the reversed pair decides alike."""
    format = case["format"]
    precision, u = PRECISION[format], pl.formats.named(format).unit_roundoff
    multiple = float(case["tolerance"].removesuffix("u"))
    tolerance = multiple * u
    # a step of the edge changes the pivot by 2u or more
    offsets = tuple(range(2, -4 - int(multiple / 2), -1))
    figures = dict.fromkeys(("triples", "kept", "kept_without_projection", "reversed_differs"), 0)
    least = {"kept": np.inf, "kept_before_rounding": np.inf}
    dropped = error = farthest = 0.0
    for a, c, e, _ in beside_singularity(precision, case["stride"], offsets):
        p, stays, s = pivot(a, c, e), kept(format, a, c, e, tolerance), schur(format, a, c, e)
        differs = stays != kept(format, c, a, e, tolerance)
        figures["triples"] += len(a)
        figures["kept"] += int(stays.sum())
        figures["kept_without_projection"] += int((stays & (p <= 0)).sum())
        figures["reversed_differs"] += int(differs.sum())
        for name, values in (("kept", p), ("kept_before_rounding", least_pivot_before_rounding(a, c, e, precision))):
            least[name] = min(least[name], float(values[stays].min(initial=np.inf) / u))
        dropped = max(dropped, float(p[~stays].max(initial=0) / u))
        farthest = max(farthest, float(np.abs(p - tolerance)[differs].max(initial=0) / u))
        sound = stays & (p > 0)
        error = max(error, float(np.abs(s[sound] / (p * a)[sound] - 1).max(initial=0)))
    return {
        **figures,
        "least_kept_pivot": least["kept"],
        "least_kept_pivot_before_rounding": least["kept_before_rounding"],
        "guaranteed_pivot": least_kept_pivot(tolerance, u) / u,
        "guaranteed_pivot_before_rounding": least_kept_pivot(tolerance, u, rounded=True) / u,
        "largest_dropped_pivot": dropped,
        "largest_error_of_kept": error,
        "farthest_disagreement": farthest,
    }


# Order


def reversed_band(H: np.ndarray) -> np.ndarray:
    """The same matrix with its vertices in the opposite order."""
    n = H.shape[1]
    rows = [np.append(row[: n - k][::-1], np.zeros(k, H.dtype)) for k, row in enumerate(H)]
    return np.stack(rows)


def reversals(case: Mapping[str, Any]) -> dict[str, Any]:
    """Whether X and the edges that are kept depend on the order of the vertices."""
    band, rng = case["band"], np.random.default_rng(case["seed"])
    solved = wrong = edges = differing = 0
    for _ in range(case["trials"]):
        history = rng.integers(-9, 10, (band + 3, band + 4))
        gram = history.T @ history
        H = np.stack([np.append(np.diagonal(gram, -k), np.zeros(k, int)) for k in range(band + 1)])
        X, Y = exact_projection(H), exact_projection(reversed_band(H))
        if X.status is Y.status and X.vertex is None:
            solved += 1
            wrong += int((reversed_band(X.band) != Y.band).any())
    for seed in range(4):
        H = statistics(band, 2**12, 0.9, seed)
        with jax.enable_x64(True):
            one, other = (np.asarray(_kept_in_float64(h)) for h in (H, reversed_band(H)))
        edges += int(np.asarray(logdet.within(H.shape[1], band)).sum())
        one, other = (np.concatenate([np.ones_like(mask[:1]), mask]) for mask in (one, other))
        differing += int((reversed_band(one) != other).sum())
    return {"projections": solved, "changed_by_reversal": wrong, "edges": edges, "kept_differently": differing}


MEASURES: dict[Part, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    Part.CONDITIONS: conditions,
    Part.BANDS: bands,
    Part.ERRORS: errors,
    Part.THRESHOLDS: breakdowns,
    Part.SIGNS: signs,
    Part.TOLERANCES: tolerances,
    Part.REVERSALS: reversals,
}
