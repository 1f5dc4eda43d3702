"""How many passes of Algorithm 3 short drawn chains need, next to singularity."""

from collections.abc import Mapping
from typing import Any

import numpy as np

import precond_lab as pl

from .directions import edges_of, exact, stabilized_in, tolerance_of

CHUNK = 2**15
LEAST_PIVOT = 1e-10  # at which float64 knows a window to be definite
METHODS_OF = {  # one pass, and all that it takes
    ("coefficients", "one_sided"): ("one_pass", "iterated"),
    ("coefficients", "literal"): ("printed", "iterated_literal"),
    ("pivots", "one_sided"): ("pivots", "pivots"),  # where that is one as well
    ("pivots", "literal"): ("pivots_literal", "pivots_literal"),
}


def drawn(format: str, band: int, inputs: str, rng: np.random.Generator) -> np.ndarray:
    """Statistics of short histories, ``[CHUNK, b+1, n]``, values of the format.

    - ``degenerate``: the Gram matrix of at most b gradients, whose inner windows are all singular, rounded;
    - otherwise that of at most b + 1 gradients and a little noise, from u/8 to 256 u of it: next to singularity.
    """
    n, u = 2 * band + 4, pl.formats.named(format).unit_roundoff
    most = band if inputs == "degenerate" else band + 1
    steps = rng.integers(1, most + 1, (CHUNK, 1, 1))
    history = rng.standard_normal((CHUNK, most, n)) * (np.arange(most)[:, None] < steps)
    gram = np.einsum("cti,ctj->cij", history, history) / steps
    if inputs != "degenerate":
        noise = rng.standard_normal((CHUNK, n + 2, n))
        size = u * 2.0 ** rng.uniform(-3, 8, (CHUNK, 1, 1)) / (n + 2)
        gram += size * np.einsum("cti,ctj->cij", noise, noise)
    scale = 2.0 ** rng.uniform(-3, 3, (CHUNK, n))
    gram *= scale[:, :, None] * scale[:, None]
    H = np.zeros((CHUNK, band + 1, n))
    for k in range(band + 1):
        H[:, k, : n - k] = np.diagonal(gram, k, 1, 2)
    return np.asarray(pl.round_to(H, format), np.float32)


def measure_drawn(cases: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Measure cases of one format, band, form and rule."""
    return [_measure(case) for case in cases]


def _measure(case: Mapping[str, Any]) -> dict[str, Any]:
    rng, totals = np.random.default_rng(case["seed"]), {}
    for _ in range(0, case["chains"], CHUNK):
        found = _chunk(case, drawn(case["format"], case["band"], case["inputs"], rng))
        for name, value in found.items():
            totals[name] = max(totals.get(name, 0), value) if name == "most_passes" else totals.get(name, 0) + value
    return {"vertices": 2 * case["band"] + 4, **totals}


def _chunk(case: Mapping[str, Any], H: np.ndarray) -> dict[str, int]:
    """Counts over the drawn chains, or those with definite windows alone."""
    band, n = case["band"], H.shape[2]
    tolerance, every = tolerance_of(case["tolerance"], case["format"]), edges_of(H)
    wide, nothing = H.astype(np.float64), np.zeros((len(H), n))
    used = np.ones(len(H), bool)
    if case["inputs"] == "definite":
        used = np.all(exact(wide, nothing, every)[1] > LEAST_PIVOT, axis=1)
    first, last = (
        stabilized_in(case["format"], method)(H, np.zeros_like(H[:, 0]), np.float32(tolerance))
        for method in METHODS_OF[case["form"], case["rule"]]
    )
    kept, D, first_D = (np.asarray(x) for x in (last.kept, last.D, first.D))
    passes, stable = np.asarray(last.passes), np.asarray(last.stable)
    # Of a fixed point no s fails: an infinite D there is an s whose reciprocal overflows the format.
    overflowed, roundoff = np.isinf(D) & stable[:, None], pl.formats.named(case["format"]).unit_roundoff
    with np.errstate(invalid="ignore"):
        # s > gamma H_ii before the reciprocal was rounded; a vertex without later neighbors has s = H_ii
        above = overflowed | (D.astype(float) * tolerance * wide[:, 0] <= 1 + roundoff)
    sound = stable & np.all((D > 0) & above, axis=1) & (passes <= n)
    projected = np.all(exact(wide, nothing, kept)[1] > 0, axis=1)
    inner = np.all(kept[:, :, : n - band], axis=1)[used]
    return {
        "used": int(used.sum()),
        "triggered": int((passes > 0)[used].sum()),
        "failed_again": int((passes > 1)[used].sum()),
        "bad_D_after_one_pass": int((~np.all(np.isfinite(first_D) & (first_D > 0), axis=1))[used].sum()),
        "most_passes": int(passes[used].max(initial=0)),
        "violations": int((~sound)[used].sum()),
        "overflowed": int(np.any(overflowed, axis=1)[used].sum()),
        "without_projection": int((~projected)[used].sum()),
        "windows": int(inner.size),
        "windows_kept": int(inner.sum()),
        "edges": int(every[used].sum()),
        "edges_kept": int(kept[used].sum()),
    }
