"""The smallest matrices of integers on which one pass of Algorithm 3, as printed, does not suffice."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import precond_lab as pl
from precond_lab.truth.logdet import Status, exact_projection

from .directions import stabilized_in

CHUNK = 2**14
NEAR = np.arange(-3, 4)  # how far from the value that makes a window singular its corner is tried


def smallest(case: Mapping[str, Any]) -> dict[str, Any]:
    """A positive definite matrix of band two with the least largest entry, on the fewest vertices that there can be.

    One pass fails again at vertex 1 if its edge to vertex 2 alone makes it fail, but the window {2, 3} does not, since
    its coefficients are noise. Edges are tried next to singularity, where s can be computed zero or negative at all.
    With the rule one_sided three vertices will do, with vertex 2 failing. With literal vertex 2 would be alone then: it
    takes a fourth vertex, with vertex 3 failing.

    Args:
        case: format, rule, and the largest entry to try.

    Returns:
        The matrix as a text, with its exact s, those of the reduced graph, and D after the pass.
    """
    fl = lambda x: np.asarray(pl.round_to(x.astype(np.float32), case["format"]), np.float64)  # noqa: E731
    method = "one_pass" if case["rule"] == "one_sided" else "printed"
    largest = 8
    while largest <= case["largest"]:
        found = _tops(fl, largest, definite_pair=case["rule"] == "literal")
        if case["rule"] == "literal":
            found = _extended(found, fl, largest)
        found = found[np.lexsort([found.sum(axis=(1, 2)), np.abs(found).max(axis=(1, 2))])] if len(found) else found
        for start in range(0, len(found), CHUNK):
            best = _first(found[start : start + CHUNK], stabilized_in(case["format"], method))
            if best is not None:
                return best
        largest *= 2
    return {"vertices": 0, "largest_entry": 0, "H": "", "exact_s": "", "exact_reduced_s": "", "D_after_one_pass": ""}


def _first(candidates: np.ndarray, one_pass: Callable) -> dict[str, Any] | None:
    """The first candidate on which one pass does not suffice, with what it makes of it."""
    padded = np.concatenate([candidates, np.repeat(candidates[:1], CHUNK - len(candidates), axis=0)])
    padded = padded.astype(np.float32)
    computed = one_pass(padded, np.zeros_like(padded[:, 0]), np.float32(0))
    for i in np.flatnonzero(~np.asarray(computed.stable)[: len(candidates)]):
        H = candidates[i].astype(int).astype(object)
        exact = exact_projection(H)
        if exact.status is Status.SOLVED:
            reduced = exact_projection(H, np.asarray(computed.kept)[i])
            return {
                "vertices": H.shape[1],
                "largest_entry": int(np.abs(H).max()),
                "H": "; ".join(" ".join(str(x) for x in row[: H.shape[1] - k]) for k, row in enumerate(H)),
                "exact_s": " ".join(f"{float(s):.4g}" for s in exact.s),
                "exact_reduced_s": " ".join(f"{float(s):.4g}" for s in reduced.s),
                "D_after_one_pass": " ".join(f"{x:g}" for x in np.asarray(computed.D)[i]),
            }
    return None


def _near_singular(fl: Callable, largest: int) -> np.ndarray:
    """Pairs of vertices (a, c, e) in integers with the largest e for which they are definite."""
    a, c = (x.ravel() for x in np.meshgrid(np.arange(1, largest + 1), np.arange(1, largest + 1), indexing="ij"))
    e = np.floor(np.sqrt(a * c - 0.5))
    return np.stack([a, c, e], axis=1)[(e > 0) & (fl(a) == a) & (fl(c) == c) & (fl(e) == e)]


def _fails(fl: Callable, pairs: np.ndarray) -> np.ndarray:
    """Whether s = a - (e / c) e is computed as zero or negative."""
    a, c, e = pairs.T
    return fl(a - fl(fl(e / c) * e)) <= 0


def _tops(fl: Callable, largest: int, *, definite_pair: bool) -> np.ndarray:
    """Vertices 1 to 3, ``[m, 3, 3]``, definite: by its edge (1, 2) vertex 1 fails, and not by its window.

    Vertex 2 fails by its edge (2, 3), or with `definite_pair` any edge next to singularity will do.
    """
    pairs = _near_singular(fl, largest)
    first = pairs[_fails(fl, pairs)]  # H11, H22, H12
    window = pairs if definite_pair else first  # H22, H33, H23
    left, right = (np.concatenate([np.zeros((0, 3)), *rows]) for rows in _joined(first, 1, window))
    H = np.zeros((len(left), 3, 3))
    H[:, 0] = np.stack([left[:, 0], left[:, 1], right[:, 1]], axis=1)
    H[:, 1, :2] = np.stack([left[:, 2], right[:, 2]], axis=1)
    H[:, 2, 0] = np.round(left[:, 2] * right[:, 2] / left[:, 1]) + np.resize(NEAR, len(left))
    corner = H[:, 2, 0]
    H = H[(np.abs(corner) <= largest) & (fl(corner) == corner) & _definite(H)]
    return H[_window_passes(fl, H)]


def _joined(first: np.ndarray, place: int, second: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """All pairs that share a vertex, `place` of the first and 0 of the second, each as often as corners are tried."""
    left, right = [], []
    for value in np.unique(first[:, place]):
        a, b = first[first[:, place] == value], second[second[:, 0] == value]
        left.append(np.repeat(np.repeat(a, len(b), axis=0), len(NEAR), axis=0))
        right.append(np.repeat(np.tile(b, (len(a), 1)), len(NEAR), axis=0))
    return left, right


def _definite(H: np.ndarray) -> np.ndarray:
    """Whether 3 by 3 matrices of integers up to 2^16 are definite; all is exact in float64."""
    (a, c, e), (p, q), r = H[:, 0].T, H[:, 1, :2].T, H[:, 2, 0]
    return (a * c > p * p) & (a * c * e + 2 * p * q * r - a * q * q - c * r * r - e * p * p > 0)


def _window_passes(fl: Callable, H: np.ndarray) -> np.ndarray:
    """Whether s_1 = H_11 - psi_1 H_21 - psi_2 H_31 is computed as positive: what is not, needs no trial."""
    (a, c, e), (p, q), r = H[:, 0].T, H[:, 1, :2].T, H[:, 2, 0]
    with np.errstate(all="ignore"):
        factor = fl(q / c)
        second = fl(fl(r - fl(factor * p)) / fl(e - fl(factor * q)))
        first = fl(fl(p / c) - fl(factor * second))
        return fl(fl(a - fl(first * p)) - fl(second * r)) > 0


def _extended(tops: np.ndarray, fl: Callable, largest: int) -> np.ndarray:
    """With a fourth vertex, ``[m, 3, 4]``: vertex 3 fails by its edge (3, 4)."""
    pairs = _near_singular(fl, largest)
    pairs = pairs[_fails(fl, pairs)]
    found = [np.zeros((0, 3, 4))]
    for top in tops:
        fits = np.repeat(pairs[pairs[:, 0] == top[0, 2]], len(NEAR), axis=0)
        H = np.zeros((len(fits), 3, 4))
        H[:, :, :3] = top
        H[:, 0, 3], H[:, 1, 2] = fits[:, 1], fits[:, 2]
        H[:, 2, 1] = np.round(top[1, 1] * fits[:, 2] / top[0, 2]) + np.resize(NEAR, len(fits))
        corner = H[:, 2, 1]
        found.append(H[(np.abs(corner) <= largest) & (fl(corner) == corner) & _definite(H[:, :, 1:])])
    return np.concatenate(found)
