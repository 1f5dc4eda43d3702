"""Bounds of forward errors: of updated inverses, and of the closed form of Eva."""

from fractions import Fraction as Q
from itertools import product as pairs

import numpy as np
import pytest
from rank_one_exact import (
    computed_product,
    dot,
    in_format,
)

import precond_lab as pl
from precond_lab.arithmetic.formats import named
from precond_lab.diagnosis import (
    capacitance_bounds,
    eva_certificate,
    woodbury_bound,
    woodbury_quantities,
)


def woodbury_cases(seed: int, count: int, n: int, k: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((count, n, n)) + 2 * np.eye(n)
    U, V = rng.standard_normal((2, count, n, k)) * 10.0 ** rng.uniform(-2, 0.5, (count, 1, 1))
    exact = np.linalg.inv(A)
    E = rng.standard_normal((count, n, n)) * 10.0 ** rng.uniform(-6, 0, (count, 1, 1))
    B = exact + E
    core = np.linalg.inv(np.eye(k) + V.swapaxes(-1, -2) @ B @ U)
    Z = core + rng.standard_normal((count, k, k)) * 10.0 ** rng.uniform(-8, 0, (count, 1, 1))
    return A, exact, B, U, V, Z


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (6, 1), (6, 2)])
def test_the_bound_of_the_forward_error_holds(n, k):
    A, exact, B, U, V, Z = woodbury_cases(n, 3000, n, k)
    result = woodbury_bound(*woodbury_quantities(exact, B, U, V, Z))
    X = B - B @ U @ Z @ V.swapaxes(-1, -2) @ B
    M = A + U @ V.swapaxes(-1, -2)
    inverse_of_M = np.linalg.inv(M)
    error = np.linalg.norm(X - inverse_of_M, 2, axis=(1, 2))
    doubt = 1e-13 * np.linalg.cond(M) * np.linalg.norm(inverse_of_M, 2, axis=(1, 2)) * np.linalg.cond(A)
    for bound in (result.bound, result.sharper, result.corollary):
        assert (error <= bound * (1 + 1e-9) + doubt).all()
    assert (result.sharper <= result.bound * (1 + 1e-12)).all()
    assert np.isfinite(result.corollary).sum() > 30
    known = np.isfinite(result.bound) & (doubt < 1e-3 * error)
    assert known.sum() > 500
    assert (error / result.bound)[known].max() > 0.5
    values = np.linalg.svd(np.eye(k) + V.swapaxes(-1, -2) @ exact @ U, compute_uv=False)
    norms = (np.linalg.norm(x, 2, axis=(1, 2)) for x in (A, exact, M, inverse_of_M))
    low, high = capacitance_bounds(*norms, np.minimum(np.linalg.cond(U), np.linalg.cond(V)))
    assert (low <= values[:, -1] * (1 + 1e-9)).all()
    assert (values[:, 0] <= high * (1 + 1e-9)).all()
    if n < 6:
        assert (values[:, 0] > 0.5 * high).any()


def test_scalars_come_within_a_hundredth_of_the_bound_of_the_forward_error():
    """In order one the errors add up, sign by sign; without its last factor 2 the bound would be wrong."""
    a, size, e1, e2 = 1.0, 0.5, 2.0**-12, 2.0**-8
    Z = 1 / (1 - size * a)
    ratios = []
    for s, t in pairs((-1, 1), repeat=2):
        B = a + s * e1
        core = 1 / (1 - size * B) + t * e2
        error = abs(B + B * size * core * B - 1 / (1 / a - size))
        ratios.append(error / woodbury_bound(a, size, Z, e1, e2).sharper)
    assert 0.99 < max(ratios) <= 1
    B, core = a + e1 * 512, 1 / (1 - size * (a + e1 * 512))
    error = B + B * size * core * B - 1 / (1 / a - size)
    bound = woodbury_bound(a, size, Z, e1 * 512, 0.0)
    first = e1 * 512 * (1 + size * Z * (2 * a + e1 * 512))
    assert error <= bound.sharper <= bound.bound
    assert error > first + size * (a + e1 * 512) ** 2 * (e1 * 512 * size * Z**2)
    assert woodbury_bound(1.0, 1.0, 1.0, 0.51, 0.0).verdict == "undecided"
    assert woodbury_bound(1.0, 1.0, 1.0, 0.51, 0.0).bound == np.inf
    with pytest.raises(ValueError, match="negative"):
        woodbury_bound(1.0, 1.0, 1.0, -0.5, 0.0)


def eva_in(G: np.ndarray, a: np.ndarray, b: np.ndarray, damping: float, format) -> np.ndarray:
    """Eva's closed form with every operation rounded."""

    def fl(x) -> np.ndarray:
        return np.asarray(pl.round_to(np.asarray(x, dtype=np.float64), format))

    def inner(x, y) -> float:
        return computed_product(np.asarray(x)[None, :], np.asarray(y), format)[0]

    x = inner(b, computed_product(G, a, format))
    denominator = fl(damping + fl(inner(a, a) * inner(b, b)))
    c = fl(x / denominator)
    return fl(fl(G - fl(fl(c * b)[:, None] * a[None, :])) / damping)


@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_eva_keeps_what_is_certified(format):
    rng, seen, violated = np.random.default_rng(2), {}, 0
    u = named(format).unit_roundoff
    for ratio, noise in pairs((0.1, 1.0, 10.0, 100.0, 1000.0), (0.0, 0.1, 1.0)):
        for _ in range(3):
            a, b, N = (np.asarray(pl.round_to(rng.standard_normal(s), format)) for s in (3, 2, (2, 3)))
            G = np.asarray(pl.round_to(np.outer(b, a) + noise * N, format))
            damping = in_format((a @ a) * (b @ b) / ratio, format)
            P = eva_in(G, a, b, damping, format)
            certificate = eva_certificate(G, a, b, damping, format)
            sigma = dot(a, a) * dot(b, b)
            x = dot(b, [dot(row, a) for row in G])
            exact, found = x / (Q(damping) + sigma), dot(b, [dot(row, a) for row in P])
            error = abs((found - exact) / exact)
            assert error <= Q(certificate.curved)
            violated += error > Q(u) * (1 + sigma / Q(damping))
            descent = sum(dot(g, p) for g, p in zip(G, P, strict=True))
            if certificate.verdict == "certified":
                assert descent > 0
                assert found * exact > 0
            seen.setdefault(str(certificate.verdict), set()).add(bool(descent > 0))
    assert seen["certified"] == {True}
    assert False in seen["undecided"] or format == "float16"
    assert violated > 0  # u (1 + sigma / gamma) alone is no bound
