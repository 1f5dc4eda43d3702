"""Certificates and bounds of updates, on matrices that look for a counter-example."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import jax
import numpy as np

from precond_lab import Arithmetic, emulate, formats, round_to
from precond_lab.diagnosis.rank_one_certificates import rounding_certificate
from precond_lab.diagnosis.rank_one_forward_error import woodbury_bound, woodbury_quantities
from precond_lab.diagnosis.rank_one_order import sandwich
from precond_lab.preconditioners.rank_one.refinement import elimination, refined_sherman_morrison_solve

from .cases import REFINEMENTS, ROUNDOFF
from .definiteness import DEFINITE, UNKNOWN, decided, signs


def rounded(x: np.ndarray, format: str) -> np.ndarray:
    """Numbers of float64 in a format, rounded once."""
    with jax.enable_x64(True):
        return np.asarray(round_to(np.float64(x), format))


def candidates(kind: str, format: str, n: int, count: int, seed: int) -> np.ndarray:
    """Matrices near the edge of the certificate, on both sides of it.

    Args:
        kind: "rotated": random eigenvectors. "graded": D M D with such an M and D of powers of two. Entries below the
            normal range are zero in both. "underflow": graded with such entries. "adversarial": multiples of
            I - (1 - m) x x^T / n with a vector x of signs and a small m, every entry moved next to the midpoint from
            which rounding takes most from x^T P x.
        format: of storage.
        n: order.
        count: of matrices.
        seed: of all.

    Returns:
        ``[count, n, n]``, symmetric.
    """
    generator = np.random.default_rng([seed, n])
    u, record = ROUNDOFF[format], formats.named(format)
    if kind == "adversarial":
        x = generator.choice([-1.0, 1.0], (count, n))
        outer = x[:, :, None] * x[:, None, :]
        least = 4 * u * generator.uniform(-1, 1, (count, 1, 1))
        scale = 1 + 0.9 * generator.random((count, 1, 1))
        grid = rounded(scale * (np.eye(n) - (1 - least) / n * outer), format)
        return grid + outer * np.ldexp(u, np.frexp(grid)[1] - 1) * (1 - 2.0**-12)
    w = np.minimum(2.0 ** generator.uniform(-2, 4, (count, 1)) / u, 1e6) ** -np.linspace(0, 1, n)
    Q = np.linalg.qr(generator.standard_normal((count, n, n)))[0]
    P = (Q * w[:, None, :]) @ Q.swapaxes(-1, -2)
    if kind != "rotated":
        room = np.log2(record.min_normal) / 2
        D = 2.0 ** np.round(np.linspace(0, room / 2 if kind == "graded" else 1.2 * room, n))
        P *= D[:, None] * D
    if kind != "underflow":
        P = np.where(abs(P) < record.min_normal, 0, P)
    return (P + P.swapaxes(-1, -2)) / 2


def measure_rounding(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How often rounding every entry of a matrix takes its definiteness, with and without a certificate.

    Args:
        cases: of one kind, format, order and count.

    Returns:
        The number of matrices that are positive definite; of those certified, by the norm of |H| and by the order; of
        losses among them and the others; and the largest margins among what was lost.
    """
    return [_rounding(**{k: c[k] for k in ("kind", "format", "n", "count", "seed")}) for c in cases]


def _rounding(kind: str, format: str, n: int, count: int, seed: int) -> dict[str, Any]:
    P = candidates(kind, format, n, count, seed)
    P = P[signs(P[None])[0] == DEFINITE]
    kept = rounded(P, format)
    codes = signs(kept[None])[0]
    lost = codes != DEFINITE
    for place in np.flatnonzero(codes == UNKNOWN):
        lost[place] = decided([[Fraction(float(x)) for x in row] for row in kept[place]]) != "definite"
    found = rounding_certificate(P, format)
    margin, order = np.asarray(found.margin), np.asarray(found.order_margin)
    return {
        "matrices": len(P),
        "certified": int((margin > 1).sum()),
        "certified_by_order": int((order > 1).sum()),
        "lost": int(lost.sum()),
        "lost_certified": int((lost & (margin > 1)).sum()),
        "lost_by_order": int((lost & (order > 1)).sum()),
        "largest_margin_lost": float(margin[lost].max(initial=0.0)),
    }


def measure_sandwich(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Whether an inverse with errors -eta X <= E <= eta X in every step stays between its bounds, in float64.

    Args:
        cases: of one kind and size: errors "random", or "outward": E = -eta X in every step.

    Returns:
        By how much the bounds are exceeded, relatively, at most; the trace of P^{-1} against that of C at the end; the
        growth of it in a step over the second half of the run.
    """
    return [_sandwich(c["kind"], c["n"], c["steps"], c["beta"], c["eta"], c["seed"]) for c in cases]


def _sandwich(kind: str, n: int, steps: int, beta: float, eta: float, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng([seed, n])
    V = generator.standard_normal((steps, n))
    low, high = sandwich(np.eye(n), V, beta, None, eta)
    C = exact = np.eye(n)
    over, traces = 0.0, []
    for step, v in enumerate(V, 1):
        X = beta * C + (1 - beta) * np.outer(v, v)
        exact = beta * exact + (1 - beta) * np.outer(v, v)
        if kind == "outward":
            C = X / (1 - eta)
        else:
            # P = X^{-1} + E with E = X^{-1/2} S X^{-1/2}, |S| <= eta: its inverse is X^{1/2} (I + S)^{-1} X^{1/2}
            L = np.linalg.cholesky(X)
            Q = np.linalg.qr(generator.standard_normal((n, n)))[0]
            C = L @ ((Q / (1 + eta * generator.uniform(-1, 1, n))) @ Q.T) @ L.T
            C = (C + C.T) / 2
        for sign, bound in ((1, high[step]), (-1, low[step])):
            T = np.linalg.inv(np.linalg.cholesky(bound))
            w = np.linalg.eigvalsh(T @ C @ T.T) - 1
            over = max(over, float((sign * w).max()))
        traces.append(np.trace(C))
    half = len(traces) // 2
    return {
        "exceeded": over,
        "inflation": float(traces[-1] / np.trace(exact)),
        "growth": float((traces[-1] / traces[half - 1]) ** (1 / (steps - half))),
    }


def measure_forward(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The error of one update with an inverse and a capacitance that were rounded, against the bound of Ma et al.

    Args:
        cases: of one format, order and count; they differ in condition and seed.

    Returns:
        The number of updates to which the bound applies, of those that exceed it, and how near they come to it.
    """
    return [_forward(c["format"], c["n"], c["count"], c["condition"], c["seed"]) for c in cases]


def _forward(format: str, n: int, count: int, condition: float, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng([seed, n])
    w = condition ** np.linspace(-0.5, 0.5, n)
    Q = np.linalg.qr(generator.standard_normal((count, n, n)))[0]
    A = (Q * w) @ Q.swapaxes(-1, -2)
    inverse = (Q / w) @ Q.swapaxes(-1, -2)
    B = rounded((inverse + inverse.swapaxes(-1, -2)) / 2, format)
    U = generator.standard_normal((count, n, 1)) * 10 ** generator.uniform(-2, 2, (count, 1, 1))
    s = U.swapaxes(-1, -2) @ B @ U
    usable = (1 + s > 0).all((-1, -2))
    Z = rounded(1 / np.where(1 + s > 0, 1 + s, 1.0), format)
    bound = woodbury_bound(*woodbury_quantities(inverse, B, U, U, Z))
    exact = np.linalg.inv(A + U @ U.swapaxes(-1, -2))
    error = np.linalg.norm(B - (B @ U) @ Z @ (U.swapaxes(-1, -2) @ B) - exact, 2, axis=(-2, -1))
    applies = usable & np.isfinite(np.asarray(bound.bound))
    # what float64 leaves of the difference of matrices that are known to a few roundings
    correction = np.linalg.norm(U, 2, axis=(-2, -1)) ** 2 * np.linalg.norm(B, 2, axis=(-2, -1)) ** 2 * Z[:, 0, 0]
    noise = n * condition * 2.0**-50 * (np.linalg.norm(B, 2, axis=(-2, -1)) + correction)
    ratio = np.maximum(error - noise, 0)[applies] / np.asarray(bound.bound)[applies]
    return {
        "updates": int(applies.sum()),
        "violations": int((ratio > 1).sum()),
        "tightness": float(np.median(ratio)) if ratio.size else None,
        "largest": float(ratio.max(initial=0.0)),
    }


@cache
def _refined(format: str) -> Any:
    def solve(A: jax.Array, u: jax.Array, v: jax.Array, b: jax.Array) -> jax.Array:
        return refined_sherman_morrison_solve(A, elimination(A), u, v, b, steps=REFINEMENTS).iterates

    return emulate(jax.vmap(solve), Arithmetic(format, carrier="float32" if format == "float32" else "auto"))


def measure_refinement(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Backward errors of Sherman and Morrison's solution before and after refinements.

    A = Q (I - (1 - 1/kappa) x x^T) for a random orthogonal Q and a random unit vector x, and the update makes Q of
    it: the
    matrix before is ill conditioned, that after is as well conditioned as can be, and so is the solution. All are
    stored
    in the format first.

    Args:
        cases: of one format and order; they differ in condition and seed.

    Returns:
        |b - M y| / (|M| |y| + |b|) with M = A + u v^T for each iterate.
    """
    format, n = cases[0]["format"], cases[0]["n"]
    given = [_system(format, n, c["condition"], c["seed"]) for c in cases]
    A, u, v, b = (np.array(x) for x in zip(*given, strict=True))
    iterates = np.asarray(_refined(format)(*(np.float32(x) for x in (A, u, v, b))), np.float64)
    M = A + u[:, :, None] * v[:, None, :]
    norm = np.linalg.norm
    found = []
    for i in range(len(cases)):
        with np.errstate(invalid="ignore", over="ignore"):
            rests = norm(b[i] - iterates[i] @ M[i].T, axis=-1)
        scale = norm(M[i], 2) * norm(iterates[i], axis=-1) + norm(b[i])
        errors = np.where(np.isfinite(rests), rests / scale, np.inf)
        found.append({f"backward_{k}": float(x) for k, x in enumerate(errors)})
    return found


def _system(format: str, n: int, condition: float, seed: int) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng([seed, n])
    Q = np.linalg.qr(generator.standard_normal((n, n)))[0]
    x = generator.standard_normal(n)
    x /= np.linalg.norm(x)
    share = 1 - 1 / condition
    A = Q - share * np.outer(Q @ x, x)
    b = Q @ generator.standard_normal(n)
    return tuple(rounded(y, format) for y in (A, share * (Q @ x), x, b))
