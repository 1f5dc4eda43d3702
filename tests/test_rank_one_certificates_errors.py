"""Bounds of forward errors: of updated inverses, and of the closed form of Eva."""

from fractions import Fraction as Q
from itertools import product as pairs

import jax
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
from precond_lab.preconditioners import rank_one


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


def kept_by(P: np.ndarray, G, a, b, damping: float) -> tuple[bool, Q | float]:
    """Exactly: whether P has a positive product with G and the right sign along b a^T, and its relative error there."""
    if not np.isfinite(P).all():
        return False, np.inf
    along = dot(b, [dot(row, a) for row in G])
    exact = along / (Q(float(damping)) + dot(a, a) * dot(b, b))
    found = dot(b, [dot(row, a) for row in P])
    descent = sum(dot(g, p) for g, p in zip(G, P, strict=True))
    return descent > 0 and found * exact > 0, abs((found - exact) / exact) if exact else np.inf


def emulated_eva(G, a, b, damping, format) -> np.ndarray:
    run = jax.jit(jax.vmap(pl.emulate(rank_one.eva, pl.Arithmetic(format))))
    return np.asarray(run(*(np.asarray(x, dtype=np.float32) for x in (G, a, b, damping)))).astype(np.float64)


def over_the_range(rng, format, m: int, n: int, count: int) -> tuple[np.ndarray, ...]:
    """Arguments of every scale, near b a^T and not, sigma / gamma from 1/100 to 100; the second half of the format."""
    record = named(format)
    low, high = np.log2(record.min_subnormal) - 1, np.log2(record.max)

    def vector(size: int) -> np.ndarray:
        common = rng.choice([0.1, 0.3, 1.0], (count, 1)) * rng.uniform(low, high, (count, 1))
        exponents = np.clip(common + 0.05 * (high - low) * rng.standard_normal((count, size)), low, high)
        return 2.0**exponents * rng.choice([-1, 1], (count, size))

    a, b = vector(n), vector(m)
    outer = b[:, :, None] * a[:, None, :]
    noise = rng.choice([0.0, 0.1, 1.0], (count, 1, 1)) * rng.standard_normal(outer.shape)
    size = 2.0 ** rng.uniform(low, high, (count, 1, 1)) / np.abs(outer).max((1, 2), keepdims=True)
    G = outer * (1 + noise) * size * rng.choice([-1, 1], (count, 1, 1))
    damping = (a**2).sum(1) * (b**2).sum(1) * 10.0 ** rng.uniform(-2, 2, count)
    damping = np.clip(np.where(rng.uniform(size=count) < 0.8, damping, vector(1)[:, 0] ** 2), 2.0**low, 2.0**high)
    with np.errstate(over="ignore"):
        narrow = [x.astype(np.float32).astype(np.float64) for x in (G, a, b, damping)]
    stored = [np.asarray(pl.round_to(x, format)) for x in narrow]
    halves = (
        np.where((np.arange(count) < count // 2).reshape(-1, *[1] * (x.ndim - 1)), x, y)
        for x, y in zip(narrow, stored, strict=True)
    )
    return tuple(np.where(np.isfinite(x), x, 1.0) for x in halves)


@pytest.mark.parametrize("format", ["float16", "float8_e4m3fn", "bfloat16"])
def test_no_certified_step_of_eva_is_refuted_by_its_emulation(format):
    rng, certified, closest = np.random.default_rng(5), 0, 0.0
    G, a, b, damping = over_the_range(rng, format, 1, 2, 400)
    a[::2, 1] = G[::2, :, 1] = 0  # as of order one, where the bounds are attained most closely
    damping = np.maximum(damping, named(format).min_subnormal)
    for *given, P in zip(G, a, b, damping, emulated_eva(G, a, b, damping, format), strict=True):
        certificate = eva_certificate(*given, format)
        assert (certificate.verdict == "certified") == (certificate.margin > 1)
        if certificate.curved < np.inf or certificate.margin > 1:
            kept, error = kept_by(P, *given)
            assert error <= certificate.curved
            assert kept or certificate.margin <= 1
            certified += certificate.margin > 1
            closest = max(closest, error / Q(certificate.curved))
    assert certified > 10
    assert closest > 0.1


OUT_OF_RANGE = [
    (300.0, 16.0, 16.0, 6e4),  # x overflows
    (2.0**-20, 2.0**-8, 2.0**-8, 2.0**6),  # the quotient by gamma underflows
    (-9.9897e-5, -0.00209045, 35.40625, 0.000161290),  # c a_j is subnormal, and P has the wrong sign
    (1.0, 2.0**-7, 2.0**-7, 2.0**-20),  # sigma underflows
    (2.0**-30, 1.0, 1.0, 1.0),  # an argument becomes zero
    (1.0, 1.0, 1.0, 2.0**17),  # and one infinite
]


def test_a_step_of_eva_out_of_range_is_not_certified():
    G, a, b, damping = np.array(OUT_OF_RANGE).T
    G, a, b = G[:, None, None], a[:, None], b[:, None]
    for *given, P in zip(G, a, b, damping, emulated_eva(G, a, b, damping, "float16"), strict=True):
        assert eva_certificate(*given, "float16").verdict == "undecided"
        kept, error = kept_by(P, *given)
        assert not kept or error > Q(1, 100)
        assert eva_certificate(*given, "float32").verdict == "certified"


def test_arguments_of_eva_are_checked():
    ones = ([[1.0]], [1.0], [1.0])
    for damping in (np.inf, np.nan, 0.0, -1.0, np.ones(2), np.ones(1)):
        with pytest.raises(ValueError, match="one positive and finite number"):
            eva_certificate(*ones, damping, "float16")
    assert eva_certificate(*ones, np.float32(0.5), "float16").verdict == "certified"
    for roundings, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="roundings"):
            eva_certificate(*ones, 1.0, "float16", roundings)
    with pytest.raises(ValueError, match="lacks zero or a sign"):
        eva_certificate(*ones, 1.0, "e8m0")
    with pytest.raises(ValueError, match="none empty"):
        eva_certificate(np.ones((1, 0)), [], [1.0], 1.0, "float16")
    exact, rounded = (eva_certificate([[x]], [1.0], [1.0], 1.0, "float16") for x in (1.0, 1.0001))
    assert (exact.roundings, rounded.roundings) == (12, 22)
    assert exact.margin > rounded.margin
    for G in (np.nan, np.inf, 0.0):
        assert eva_certificate([[G]], [1.0], [1.0], 1.0, "float16").verdict == "undecided"


def exact_bounds(a: float, size: float, alpha: float, e1: float, e2: float) -> tuple[Q, Q, Q, Q]:
    """h, and the three bounds of the theorem."""
    A, S, Z, e, f = (Q(x) for x in (a, size, alpha, e1, e2))
    h, first, squared = e * S * Z, e + e * S * Z * (2 * A + e), S * (A + e) ** 2
    sharper = first + squared * (f + e * S * Z**2 / (1 - h)) if h < 1 else Q(0)
    return h, first + squared * (f + 2 * e * S * Z**2), sharper, 8 * e + Q(9, 8) * A * f


def test_bounds_of_the_forward_error_are_rounded_up_at_every_scale():
    rng = np.random.default_rng(0)
    cases = 10.0 ** np.concatenate([rng.uniform(-320, 100, (300, 5)), rng.uniform(-2, 0, (300, 5))])
    cases[rng.uniform(size=cases.shape) < 0.1] = 0
    given = [(1e-170, 1, 1, 0, 1), (1.1e-160, 1, 1, 0, 1), (1e-300, 1, 1, 0, 1e-100), (1, 0.5, 1, 0, 0), *cases]
    result, certified = woodbury_bound(*np.array(given).T), 0
    for i, case in enumerate(given):
        h, *exact = exact_bounds(*case)
        assert result.verdict[i] != "certified" or h <= Q(1, 2)
        certified += result.verdict[i] == "certified"
        for bound, least in zip((result.bound[i], result.sharper[i], result.corollary[i]), exact, strict=True):
            assert bound == np.inf or Q(float(bound)) >= least
        assert h == 0 or result.margin[i] <= 1 / (2 * h)
    assert certified > 300
    assert result.bound[3] == 0


def test_bounds_of_a_capacitance_are_rounded_outward():
    rng = np.random.default_rng(1)
    cases = 10.0 ** np.concatenate([rng.uniform(-200, 200, (200, 5)), rng.uniform(-1, 1, (200, 5))])
    cases[:, 4] = np.maximum(cases[:, 4], 1)
    low, high = capacitance_bounds(*cases.T)
    for (a, b, c, d, k), lower, upper in zip(cases, low, high, strict=True):
        assert Q(float(lower)) <= 1 / (Q(k) * Q(a) * Q(d))
        assert upper == np.inf or Q(float(upper)) >= Q(k) * Q(c) * Q(b)
    assert (np.abs(low[200:] * cases[200:, 4] * cases[200:, 0] * cases[200:, 3] - 1) < 1e-14).all()
    for wrong in ((np.nan, 1, 1, 1), (0, 1, 1, 1), (1, -1, 1, 1), (1, 1, 1, 1, 0.5), (1, 1, 1, 1, np.nan)):
        with pytest.raises(ValueError, match="positive numbers"):
            capacitance_bounds(*wrong)
    assert np.isfinite(capacitance_bounds(1e-200, 1.0, 1.0, 1e-200)).all()
