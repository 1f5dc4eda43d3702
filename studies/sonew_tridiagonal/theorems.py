"""The theorems on breakdown, descent and condition, on enumerated and drawn inputs.

Inputs are values of the format; the projection runs emulated; what is exact is computed in float64 where every product
of two entries is exact there (at most 26 bits), else in rationals.
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import jax
import numpy as np

import precond_lab as pl
from precond_lab.diagnosis.logdet_condition import pivots
from precond_lab.preconditioners import logdet

from .cases import Part

NEAREST = 40  # values of H12 next to singularity that are taken for each pair of diagonal entries
CHUNK = 2**20


@lru_cache
def _schur(format: str) -> Callable:
    """Schur complements and D of many chains of two, in a format."""

    def schur(H: Any) -> tuple:
        return logdet.schur_complements(H)[1][0], logdet.project(H).D[0]

    return jax.vmap(pl.emulate(schur, format))


def near_singular(format: str, stride: int) -> Iterator[np.ndarray]:
    """Triples (H11, H22, H12) next to singularity, in chunks [m, 3].

    H11 runs through the significands in [1, 2), H22 through those in [1, 4), H12 through the 40 largest values above
    1/2 with H12^2 < H11 H22. Scaling by powers of two changes neither the condition nor, short of overflow and
    underflow, any relative error: with a stride of 1 every pair of diagonal entries is there, with the 40 edges
    nearest to singularity.

    Args:
        format: name of the format.
        stride: take every so many-th significand of H11, and of H22 where the format is float32.

    Yields:
        Arrays of float64 that hold values of the format.
    """
    p = pl.formats.named(format).precision
    step = 2.0 ** (1 - p)
    first = 1 + step * np.arange(0, 2 ** (p - 1), stride)
    inner = stride if format == "float32" else 1
    second = 1 + step * np.arange(0, 2 ** (p - 1), inner)
    second = np.concatenate([second, 2 * second])
    rows = max(1, CHUNK // (NEAREST * len(second)))
    for i in range(0, len(first), rows):
        a, c = (x.ravel() for x in np.meshgrid(first[i : i + rows], second, indexing="ij"))
        yield _edges(a, c, step)


def _edges(a: np.ndarray, c: np.ndarray, step: float) -> np.ndarray:
    """The largest values e with e^2 < a c, 40 of them, for each pair."""
    top = np.sqrt(a * c)
    spacing = np.where(top >= 2, 2 * step, step)
    e = np.floor(top / spacing) * spacing
    e = np.where(e * e < a * c, e, _previous(e, step))  # products of 24-bit numbers are exact: the test is
    triples = []
    for _ in range(NEAREST):
        triples.append(np.stack([a, c, e], axis=-1))
        e = _previous(e, step)
    triples = np.concatenate(triples)
    return triples[triples[:, 2] > 0.5]


def _previous(e: np.ndarray, step: float) -> np.ndarray:
    """The next smaller value of the format, for values in [1/2, 4)."""
    return e - np.select([e > 2, e > 1, e > 0.5], [2 * step, step, step / 2])


def significands(case: Mapping[str, Any]) -> dict[str, Any]:
    """How large rounding errors of s get next to singularity, and when they break the projection."""
    u = pl.formats.named(case["format"]).unit_roundoff
    triples = breakdowns = infinite = negative = 0
    worst_ratio = worst_pivot = worst_kept = 0.0
    for batch in near_singular(case["format"], case["stride"]):
        a, c, e = batch.T
        H = np.stack([np.stack([a, c], -1), np.stack([e, np.zeros_like(e)], -1)], 1)
        s, D = (np.asarray(x, np.float64) for x in _schur(case["format"])(_padded(H)))
        s, D = s[: len(a)], D[: len(a)]
        pivot = (a * c - e * e) / (a * c)
        exact = pivot * a
        ratio = np.abs(s - exact) / exact / (2 / pivot * u)
        broken = ~(s > 0)
        triples += len(a)
        breakdowns += int(broken.sum())
        infinite += int((~np.isfinite(D)).sum())
        negative += int((D < 0).sum())
        worst_ratio = max(worst_ratio, float(ratio.max()))
        worst_pivot = max(worst_pivot, float((pivot[broken] / u).max(initial=0)))
        worst_kept = max(worst_kept, float((s / exact).max()))
    return {
        "triples": triples,
        "largest_error_over_bound": worst_ratio,
        "breakdowns": breakdowns,
        "nonfinite_D": infinite,
        "negative_D": negative,
        "largest_pivot_of_breakdown_in_u": worst_pivot,
        "largest_overestimate_of_s": worst_kept,
    }


def _padded(H: np.ndarray) -> np.ndarray:
    """Every batch in one shape, so that it compiles once."""
    size = -(-len(H) // CHUNK) * CHUNK
    return np.concatenate([H, np.repeat(H[:1], size - len(H), axis=0)]).astype(np.float32)


@lru_cache
def _directions(format: str) -> tuple[Callable, Callable, Callable]:
    """Of many short chains: D and edges with their events; the direction with its own; that by the explicit X."""

    def factors(H: Any, tolerance: Any) -> tuple:
        factor, kept = logdet.stabilize(H, tolerance)
        return factor.D, kept

    def directions(H: Any, g: Any, tolerance: Any) -> Any:
        return logdet.apply(logdet.stabilize(H, tolerance)[0], g)

    def explicit(H: Any, g: Any, tolerance: Any) -> Any:
        return logdet.multiply(logdet.explicit(logdet.stabilize(H, tolerance)[0]), g)

    # Apart, so that an overflow in the one is no excuse for the other.
    return (
        jax.vmap(pl.emulate(factors, format, events=True), in_axes=(0, None)),
        jax.vmap(pl.emulate(directions, format, events=True), in_axes=(0, 0, None)),
        jax.vmap(pl.emulate(explicit, format), in_axes=(0, 0, None)),
    )


def drawn_chains(format: str, chains: int, seed: int, length: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Chains with positive diagonals and edges of every kind: indefinite, singular, nearly so, NaN; and gradients.

    Args:
        format: name of the format whose values they are.
        chains: how many.
        seed: of the generator.
        length: of a chain.

    Returns:
        H [chains, 2, length] and g [chains, length], float32, no overflow or underflow within reach: diagonals and
        gradients lie in [2^-5, 2^5].
    """
    rng = np.random.default_rng(seed)
    u = pl.formats.named(format).unit_roundoff
    diagonal = 2.0 ** rng.uniform(-5, 5, (chains, length))
    size = np.sqrt(diagonal[:, 1:] * diagonal[:, :-1])
    near = 1 - rng.uniform(-4, 16, size.shape) * u
    kinds = [np.ones(size.shape), near, rng.uniform(0, 1.2, size.shape), np.full(size.shape, np.nan)]
    kind = rng.choice(4, size.shape, p=[0.1, 0.6, 0.28, 0.02])
    beta = np.choose(kind, kinds) * rng.choice([-1.0, 1.0], size.shape)
    # half the gradients run along the correlated direction, where L^T g cancels
    along = np.concatenate([np.ones((chains, 1)), np.cumprod(np.sign(np.nan_to_num(beta, nan=1.0)), axis=1)], axis=1)
    along = along * np.sqrt(diagonal)
    g = np.where(rng.random((chains, 1)) < 0.5, along, rng.choice([-1.0, 1.0], diagonal.shape) * along[:, ::-1])
    H = np.zeros((chains, 2, length))
    H[:, 0], H[:, 1, :-1] = diagonal, beta * size
    rounded = [np.asarray(pl.round_to(x, format), np.float32) for x in (H, g)]
    return rounded[0], rounded[1]


def fuzz(case: Mapping[str, Any]) -> dict[str, Any]:
    """Whether Algorithm 3 keeps D finite and positive, the direction finite, and the descent."""
    format = pl.formats.named(case["format"])
    tolerance = float(case["tolerance"].removesuffix("u")) * format.unit_roundoff
    counts = dict.fromkeys(
        [
            "bad_D",
            "nonfinite_directions",
            "nonfinite_without_overflow",
            "ascents",
            "ascents_of_explicit_X",
            "edges",
            "dropped",
        ],
        0,
    )
    H, g = drawn_chains(case["format"], case["chains"], case["seed"])
    for i in range(0, len(H), 2**16):
        h, v = H[i : i + 2**16], g[i : i + 2**16]
        factors, directions, explicit = _directions(case["format"])
        (D, kept), of_factors = factors(h, np.float32(tolerance))
        u, of_directions = directions(h, v, np.float32(tolerance))
        D, kept, u, x = (np.asarray(y) for y in (D, kept, u, explicit(h, v, np.float32(tolerance))))
        finite, overflowed = np.isfinite(u).all(1), np.asarray(of_directions.overflow) > 0
        with np.errstate(invalid="ignore"):
            slope, slope_of_x = ((v.astype(float) * y).sum(1) for y in (u, x))
        counts["bad_D"] += int(((~(np.isfinite(D) & (D > 0))).any(1) & (np.asarray(of_factors.overflow) == 0)).sum())
        counts["nonfinite_directions"] += int((~finite).sum())
        counts["nonfinite_without_overflow"] += int((~finite & ~overflowed).sum())
        counts["ascents"] += int((finite & ~(slope > 0)).sum())
        counts["ascents_of_explicit_X"] += int((np.isfinite(x).all(1) & ~(slope_of_x > 0)).sum())
        counts["edges"] += kept[:, 0, :-1].size
        counts["dropped"] += int((~kept[:, 0, :-1]).sum())
    return counts


def periodic(case: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the slope g^T u of a long chain can be negative although every D is positive.

    Vertices and gradient repeat with period two. An inner entry of u depends on its two neighbors alone, so every
    period adds the same to g^T u: where that is negative, a chain that is long enough ascends. The worst is tried.
    """
    format = pl.formats.named(case["format"])
    tolerance = np.float32(float(case["tolerance"].removesuffix("u")) * format.unit_roundoff)
    factors, directions, _ = _directions(case["format"])
    rng, kept_chains, ascending, least = np.random.default_rng(case["seed"]), 0, 0, np.inf
    long_H, long_g = np.zeros((1, 2, 2)), np.zeros((1, 2))
    for _ in range(0, case["chains"], 2**16):
        periods = _periods(format, 2**16, rng)
        H, v = _repeated(*periods, 3)
        u = np.asarray(directions(H, v, tolerance)[0], np.float64)
        kept = np.asarray(factors(H, tolerance)[0][1])[:, 0, :-1].all(1)
        slope = np.where(kept, (v * u)[:, 2:4].sum(1), np.inf)
        kept_chains, ascending = kept_chains + int(kept.sum()), ascending + int((slope < 0).sum())
        if slope.min() < least:
            least, k = float(slope.min()), [slope.argmin()]
            p, e, g = (x[k] for x in periods)
            long_H, long_g = _repeated(p, e, g, 2**12)
    u = np.asarray(directions(long_H, long_g, tolerance)[0], np.float64)
    return {
        "periods": kept_chains,
        "ascending_periods": ascending,
        "least_slope_of_a_period": least,
        "vertices_of_long_chain": long_H.shape[2],
        "slope_of_long_chain": float((long_g * u).sum()),
    }


def _periods(format: Any, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diagonals [count, 2], an edge next to singularity [count], and a gradient along the correlation [count, 2]."""
    step = 2 * format.unit_roundoff
    p = np.asarray(pl.round_to(rng.uniform(1, 2, (count, 2)), format), np.float64)
    top = np.sqrt(p.prod(1))
    e = np.floor(top / step) * step
    e = np.where(e * e < p.prod(1), e, e - step) - step * rng.integers(0, 4, count)
    along = np.sqrt(p) * rng.uniform(1, 2, (count, 1)) * (1 + rng.uniform(-4, 4, (count, 2)) * format.unit_roundoff)
    return p, e, np.asarray(pl.round_to(along, format), np.float64)


def _repeated(p: np.ndarray, e: np.ndarray, g: np.ndarray, periods: int) -> tuple[np.ndarray, np.ndarray]:
    H = np.stack([np.tile(p, (1, periods)), np.repeat(e[:, None], 2 * periods, axis=1)], axis=1)
    H[:, 1, -1] = 0
    return H.astype(np.float32), np.tile(g, (1, periods)).astype(np.float32)


def degenerate(case: Mapping[str, Any]) -> dict[str, Any]:
    """Schur complements of degenerate gradient histories, in rationals."""
    band, rng = case["band"], np.random.default_rng(case["seed"])
    few = twins = few_wrong = twins_wrong = 0
    n = band + 4
    for _ in range(case["trials"]):
        steps = int(rng.integers(1, band + 1))
        s = _rational_schur(rng.integers(-9, 10, (steps, n)), band)
        few += n - band
        few_wrong += sum(x is not None and x != 0 for x in s[: n - band])
        history = rng.integers(-9, 10, (n + 4, n))
        j = int(rng.integers(0, n - 1))
        history[:, j + 1] = history[:, j]
        twins += 1
        twins_wrong += _rational_schur(history, band)[j] not in {0, None}
    return {
        "schur_of_few_gradients": few,
        "schur_of_few_gradients_not_degenerate": few_wrong,
        "schur_of_twins": twins,
        "schur_of_twins_not_degenerate": twins_wrong,
    }


def _rational_schur(history: np.ndarray, band: int) -> list[Fraction | None]:
    """The Schur complements s_j of the Gram matrix of a gradient history; None where H_II is singular."""
    gram = [[Fraction(int(x)) for x in row] for row in history.T @ history]
    n, result = len(gram), []
    for j in range(n):
        rows = [*range(j + 1, min(j + band, n - 1) + 1), j]  # eliminate the neighbors, look at j last
        matrix = [[gram[a][b] for b in rows] for a in rows]
        value: Fraction | None = None
        for k in range(len(rows)):
            if k == len(rows) - 1:
                value = matrix[k][k]
                break
            if matrix[k][k] == 0:
                break
            for i in range(k + 1, len(rows)):
                factor = matrix[i][k] / matrix[k][k]
                matrix[i] = [x - factor * y for x, y in zip(matrix[i], matrix[k], strict=True)]
        result.append(value)
    return result


def scaling(case: Mapping[str, Any]) -> dict[str, Any]:
    """Whether dropping edges bounds the condition number, and which rule is invariant under scaling.

    Scaling by powers of two rounds nothing, so the emulated decisions themselves are compared. Scaling by 3 is exact in
    float64, where the decisions are those of the exact pivots; in the format it rounds H, which may change decisions.
    """
    format = pl.formats.named(case["format"])
    tolerance = 2 * format.unit_roundoff
    H, _ = drawn_chains(case["format"], case["chains"], case["seed"])
    keep = {
        relative: jax.vmap(
            pl.emulate(lambda h, t, relative=relative: logdet.stabilize(h, t, relative=relative)[1], case["format"]),
            in_axes=(0, None),
        )
        for relative in (True, False)
    }
    # scales at which nothing underflows or overflows, in float16 neither
    base, *others = 2.0**6, 2.0**5, 2.0**8
    edges = {
        (relative, scale): np.asarray(keep[relative](H * np.float32(scale), np.float32(tolerance)))[:, 0, :-1]
        for relative in (True, False)
        for scale in (base, *others)
    }
    changed = {
        relative: sum(int((edges[relative, c] != edges[relative, base]).sum()) for c in others)
        for relative in (True, False)
    }
    pivot, tripled = (np.concatenate([pivots(h)[None] for h in scaled]) for scaled in (H, 3 * H.astype(float)))
    kept = edges[True, base]
    of_tripled = np.asarray(keep[True](pl.round_to(3 * base * H, format), np.float32(tolerance)))[:, 0, :-1]
    return {
        "changed_by_scaling_relative": changed[True] + int(((pivot > tolerance) != (tripled > tolerance)).sum()),
        "changed_by_scaling_absolute": changed[False],
        "changed_by_rounding_3H": int((of_tripled != kept).sum()),
        "edges": int(pivot.size),
        "largest_bound_after_times_tolerance": float((tolerance / pivot[kept & (pivot > 0)]).max()),
        "kept_without_projection": int((kept & ~(pivot > 0)).sum()),
    }


MEASURES: dict[Part, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    Part.SIGNIFICANDS: significands,
    Part.FUZZ: fuzz,
    Part.PERIODIC: periodic,
    Part.DEGENERATE: degenerate,
    Part.SCALING: scaling,
}
