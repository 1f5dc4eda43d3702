"""Certificates of steps of rank one: judged by rationals, attacked by errors of chosen signs."""

from fractions import Fraction as Q
from itertools import product as pairs

import numpy as np
import pytest
from rank_one_exact import (
    combined,
    definite,
    dot,
    image,
    inverse,
    product,
    random_definite,
    rationals,
    symmetric,
)

import precond_lab as pl
from precond_lab.arithmetic.formats import named
from precond_lab.diagnosis import (
    capacitance_bounds,
    eva_certificate,
    gain_certificate,
    gain_condition,
    mkor_certificate,
    order_certificate,
    recursion_certificate,
    rounding_certificate,
    sandwich,
    sign_certificate,
    woodbury_bound,
    woodbury_quantities,
)

TINY = Q(1, 2**300)


def store(P, format) -> np.ndarray:
    return symmetric(np.asarray(pl.round_to(np.asarray(P, dtype=np.float64), format)))


def floats(rows) -> np.ndarray:
    return np.array([[float(x) for x in row] for row in rows])


def trajectory(
    seed: int, n: int, steps: int, format: str, beta: float, condition: float
) -> tuple[np.ndarray, np.ndarray]:
    """Exact steps, each rounded once to a format."""
    rng = np.random.default_rng(seed)
    V = np.asarray(pl.round_to(rng.standard_normal((steps, n)) * condition ** -np.linspace(0, 0.5, n), "bfloat16"))
    states = [store(random_definite(seed, 1, n, 0, np.log10(condition))[0], format)]
    for v in V:
        states.append(store(floats(image(rationals(states[-1]), v.tolist(), Q(beta), 1 - Q(beta))), format))
        if not definite(states[-1]):
            return np.array(states), V[: len(states) - 1]
    return np.array(states), V


@pytest.mark.parametrize("format", ["bfloat16", "float16", "float32", "float64", "float8_e4m3fn"])
def test_the_errors_of_steps_are_bounded_closely(format):
    checked = 0
    for seed, n in pairs(range(3), (1, 2, 4)):
        states, V = trajectory(seed, n, 4, format, 0.75, 30.0)
        certificate = order_certificate(states, V, 0.75)
        if not definite(states[-1]):
            assert certificate.verdict == "lost"
            continue
        assert (certificate.verdict == "certified") == (max(certificate.eta) < 1)
        for before, after, v, eta in zip(states[:-1], states[1:], V, certificate.eta, strict=True):
            X, e = image(rationals(before), v.tolist(), Q(3, 4), Q(1, 4)), Q(float(eta))
            E = combined(after, X, -1)
            wide = [[(e + TINY) * x for x in row] for row in X]
            assert definite(combined(wide, E))
            assert definite(combined(wide, E, -1))
            close = [[(e * (1 - Q(1, 2**20)) - Q(1, 2**40)) * x for x in row] for row in X]
            assert not (definite(combined(close, E)) and definite(combined(close, E, -1)))
            checked += 1
    assert checked >= 12


def reflections(X: list[list[Q]], rng, eta: Q) -> list[list[Q]]:
    """E with X^{-1/2} E X^{-1/2} = +- eta (I - 2 z z^T): a norm of eta, exactly, in a random direction."""
    y = [Q(int(k)) for k in rng.integers(-9, 10, len(X))]
    w = [dot(row, y) for row in X]
    share = 2 / dot(w, y) if any(y) else Q(0)
    sign = int(rng.choice([-1, 1]))
    return [
        [sign * eta * (x - share * a * b) for x, b in zip(row, w, strict=True)] for row, a in zip(X, w, strict=True)
    ]


def bounds_of(C, vectors, beta, alpha, eta):
    low, high = C, C
    for v in vectors:
        outer = [[alpha * Q(a) * Q(b) for b in v] for a in v]
        low = [
            [(beta * x + y) / (1 + eta) for x, y in zip(*rows, strict=True)] for rows in zip(low, outer, strict=True)
        ]
        high = [
            [(beta * x + y) / (1 - eta) for x, y in zip(*rows, strict=True)] for rows in zip(high, outer, strict=True)
        ]
    return low, high


@pytest.mark.parametrize("eta", [Q(1, 100), Q(3, 100), Q(1, 5), Q(9, 10)])
@pytest.mark.parametrize("adversary", ["random", "least", "largest"])
def test_the_sandwich_holds_and_no_narrower_one(eta, adversary):
    rng, n, beta, alpha = np.random.default_rng(int(100 * eta)), 3, Q(3, 4), Q(1, 4)
    P = rationals(random_definite(4, 1, n, 0, 2)[0])
    C, vectors = inverse(P), []
    for _ in range(6):
        vectors.append([int(k) for k in rng.integers(-4, 5, n)])
        X = image(P, vectors[-1], beta, alpha)
        share = {"least": -eta, "largest": eta}.get(adversary)
        E = reflections(X, rng, eta) if share is None else [[share * x for x in row] for row in X]
        P = combined(X, E)
        assert definite(P)
    computed = inverse(P)

    def inside(width: Q) -> tuple[bool, bool]:
        low, high = bounds_of(C, vectors, beta, alpha, width)
        return definite(combined(computed, low, -1)), definite(combined(high, computed, -1))

    assert inside(eta * (1 + Q(1, 10**9))) == (True, True)
    if adversary != "random":
        assert inside(eta * Q(999, 1000)) != (True, True)
    low, high = sandwich(floats(C), vectors, float(beta), float(alpha), float(eta))
    for found, exact in zip((low[-1], high[-1]), bounds_of(C, vectors, beta, alpha, Q(float(eta))), strict=True):
        assert found == pytest.approx(floats(exact), rel=1e-12, abs=1e-12 * np.abs(floats(exact)).max())


def test_the_upper_bound_stays_bounded_below_one_less_beta_and_no_higher():
    V = np.ones((4000, 1))
    for eta, bounded in ((0.04, True), (0.051, False), (0.06, False)):
        low, high = sandwich([[1.0]], V, 0.95, 0.05, eta)
        assert not bounded or high[-1, 0, 0] == pytest.approx(0.05 / (0.05 - eta), rel=1e-9)
        assert (high[-1, 0, 0] / high[2000, 0, 0] < 1.01) == bounded
        assert low[-1, 0, 0] == pytest.approx(0.05 / (0.05 + eta), rel=1e-9)
        certificate = recursion_certificate(eta / 2.0**-8, "bfloat16", 1, 0.95)
        assert (certificate.bounded_margin > 1) == (np.isfinite(certificate.inflation)) == bounded
    excited, _ = sandwich([[1.0]], 0 * V, 0.95, 0.05, 0.0)
    _, idle = sandwich([[1.0]], 0 * V, 0.95, 0.05, 0.01)
    assert (
        idle[2000, 0, 0] / excited[2000, 0, 0] > 1e8
    )  # without excitation no eta > 0 keeps the relative error bounded


def test_trajectories_of_batches_and_of_what_is_lost():
    states, V = trajectory(0, 3, 3, "bfloat16", 0.75, 10.0)
    batch = order_certificate(np.stack([states, states * 4.0]), np.stack([V, V / 2]), np.array([0.75, 0.75]), 0.25)
    one = order_certificate(states, V, 0.75)
    assert batch.eta == pytest.approx(np.stack([one.eta, one.eta]), rel=1e-9)
    assert batch.verdict.tolist() == [one.verdict] * 2
    assert batch.margin[0] == pytest.approx(1 / max(one.eta))
    bad = states.copy()
    bad[2, 0, 0] = np.nan
    assert order_certificate(bad, V, 0.75).verdict == "lost"
    bad[2] = -np.eye(3)
    assert order_certificate(bad, V, 0.75).verdict == "lost"
    with pytest.raises(ValueError, match="wanted"):
        order_certificate(states, V[:-1], 0.75)
    with pytest.raises(ValueError, match="positive"):
        order_certificate(states, V, 1.0)
    with pytest.raises(ValueError, match="eta"):
        sandwich(np.eye(1), [[1.0]], 0.5, None, 1.0)


@pytest.mark.parametrize("format", ["bfloat16", "float8_e4m3fn"])
def test_the_error_of_storage_is_bounded_a_priori(format):
    """By n^{1/2} u kappa, and no random matrix or worst rounding exceeds it; some come within a factor of three."""
    u, best = named(format).unit_roundoff, 0.0
    for n in (2, 4):
        for X in random_definite(n, 30, n, 0.5, 1.5):
            # E is the worst of the errors of rounding: -+ u |X| with the signs of an eigenvector
            x = np.linalg.eigh(X)[1][:, 0]
            E = -u * np.abs(X) * np.outer(np.sign(x), np.sign(x))
            values, T = np.linalg.eigh(X)
            whitened = T / np.sqrt(values)
            eta = np.abs(np.linalg.eigvalsh(whitened.T @ E @ whitened)).max()
            kappa = values[-1] / values[0]
            certificate = recursion_certificate(kappa, format, n, 0.9)
            assert eta <= certificate.eta * (1 + 1e-9)
            best = max(best, eta / certificate.eta)
    assert best > 1 / 3


def released(J: list[list[Q]], v, blend: Q) -> list[list[Q]]:
    mixed = [[(1 - blend) * x + (blend if i == j else 0) for j, x in enumerate(row)] for i, row in enumerate(J)]
    return image(mixed, v, Q(1), Q(1))


@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_released_mkor_keeps_what_is_certified(format):
    rng = np.random.default_rng(0)
    for n, size in pairs((2, 4), (1.0, 20.0, 150.0, 1500.0)):
        certificate = mkor_certificate(size, format, n)
        J = np.eye(n)
        direction = rng.standard_normal(n)
        for t in range(6):
            v = direction + 0.1 * rng.standard_normal(n) if t else direction
            v *= np.sqrt(size * 0.999 / (v @ v))
            X = released(rationals(J), v.tolist(), Q(0.05))
            J = store(floats(X), format)
            if certificate.verdict == "certified":
                assert definite(J)
                kappa = Q(float(certificate.kappa))
                values = np.linalg.eigvalsh(floats(X))
                assert values[-1] / values[0] <= kappa
    assert mkor_certificate(1.0, "float16", 8).verdict == "certified"
    assert mkor_certificate(1e4, "float16", 8).verdict == "undecided"
    assert mkor_certificate(0.0, "float8_e5m2", 64).verdict == "undecided"


def test_the_condition_of_released_mkor_is_attained():
    """kappa(J) <= 1 / blend + |v|^2, within a thousandth: v first in one direction for long, then in it once more."""
    J, v = [[Q(1), Q(0)], [Q(0), Q(1)]], [Q(100), Q(0)]
    for _ in range(2):
        J = released(J, v, Q(1, 20))
        assert definite(combined([[Q(1) + TINY, Q(0)], [Q(0), Q(1) + TINY]], J, -1))
        assert J[1][1] / J[0][0] <= 20 + 10**4
    assert J[1][1] / J[0][0] > Q(999, 1000) * (20 + 10**4)


def corrected(P: list[list[Q]], z, d: Q) -> list[list[Q]]:
    return [[x - Q(a) * Q(b) / d for x, b in zip(row, z, strict=True)] for row, a in zip(P, z, strict=True)]


def worst_step(P: np.ndarray, v: np.ndarray, tau: float, u: float, k: int, m: int) -> bool:
    """Whether some signs of the errors that are allowed for lose definiteness; all of those of w, the worst of d."""
    rows, x, n = rationals(P), [Q(float(t)) for t in v], len(v)
    g, h = Q(k) * Q(u) / (1 - k * Q(u)), Q(m) * Q(u) / (1 - m * Q(u))
    w = [dot(row, x) for row in rows]
    a = [dot([abs(y) for y in row], [abs(y) for y in x]) for row in rows]
    for signs in pairs((-1, 1), repeat=n):
        z = [y + s * g * b for y, s, b in zip(w, signs, a, strict=True)]
        d = Q(tau) + dot(x, z) - h * (Q(tau) + dot([abs(y) for y in x], [abs(y) for y in z]))
        if d <= 0 or not definite(corrected(rows, z, d)):
            return True
    return False


@pytest.mark.parametrize("format", ["bfloat16", "float8_e4m3fn"])
def test_no_certified_gain_is_lost_to_any_signs(format):
    u, rng, counts, best = named(format).unit_roundoff, np.random.default_rng(0), [0, 0], 0.0
    for n, (k, m) in pairs((1, 2, 3), ((1, 1), (3, 5))):
        P = store(random_definite(n, 24, n, 0, 2), format)
        v = np.asarray(pl.round_to(rng.standard_normal((24, n)), format))
        s = np.einsum("bi,bij,bj->b", v, P, v)
        tau = np.abs(s) * 10.0 ** rng.uniform(np.log10(u), 1, 24) + 1e-6
        certificate = gain_certificate(P, v, tau, format, roundings=k, scalar_roundings=m)
        for i, margin in enumerate(certificate.margin):
            if not definite(P[i]):
                assert margin == -np.inf
                continue
            lost = worst_step(P[i], v[i], tau[i], u, k, m)
            assert not (lost and margin > 1), (P[i], v[i], tau[i])
            counts[lost] += 1
            best = max(best, margin) if lost else best
    assert min(counts) > 10
    assert 0.5 < best < 1


def test_an_error_along_w_is_not_the_worst():
    """2 u s / tau is far below one, and yet a rounding of w alone loses definiteness."""
    P = np.array([[1.0, 1 - 2.0**-16], [1 - 2.0**-16, 1.0]])
    v, tau, u = np.array([1.0, 0.0]), 1.0, 2.0**-8
    certificate = gain_certificate(P, v, tau, "bfloat16", roundings=1, scalar_roundings=1)
    assert certificate.simple_margin > 100
    assert certificate.verdict == "undecided"
    z = [1 + u, (1 - 2.0**-16) * (1 - u)]
    assert not definite(corrected(rationals(P), z, Q(tau) + Q(z[0])))
    assert gain_condition(P, z, tau + z[0]).verdict == "lost"


def in_format(x: float, format) -> float:
    return float(pl.round_to(np.float64(x), format))


def computed_product(P: np.ndarray, v: np.ndarray, format) -> np.ndarray:
    """P v with every operation rounded, in the order of the columns."""
    terms = np.asarray(pl.round_to(P * v[..., None, :], format))
    total = terms[..., 0]
    for j in range(1, v.shape[-1]):
        total = np.asarray(pl.round_to(total + terms[..., j], format))
    return total


def computed_step(P: np.ndarray, v: np.ndarray, tau: np.ndarray, format) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    w = computed_product(P, v, format)
    s = computed_product(v[..., None, :], w, format)[..., 0]
    return w, s, np.asarray(pl.round_to(np.asarray(pl.round_to(tau, format)) + s, format))


@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_computed_gains_and_signs_are_judged_rightly(format):
    u, rng, count = named(format).unit_roundoff, np.random.default_rng(1), 160
    seen = {"gain": set(), "condition": set(), "sign": set()}
    for n in (2, 4):
        P = store(random_definite(n, count, n, 0, -1.5 * np.log10(u)), format)
        v = np.array(pl.round_to(rng.standard_normal((count, n)), format))
        v[::2] = np.asarray(pl.round_to(np.linalg.eigh(P[::2])[1][..., 0], format))
        tau = 10.0 ** rng.uniform(-4, 1, count)
        w, s, d = computed_step(P, v, tau, format)
        gain, condition = gain_certificate(P, v, tau, format), gain_condition(P, w, d)
        sign = sign_certificate(P, v, s, format)
        for i in range(count):
            rows = rationals(P[i])
            kept = definite(rows)
            after = d[i] > 0 and definite(corrected(rows, w[i], Q(float(d[i]))))
            truth = dot(v[i], [dot(row, v[i]) for row in rows])
            assert after or gain.verdict[i] != "certified"
            assert not kept or gain.verdict[i] != "lost"
            assert after or condition.verdict[i] != "certified"
            assert not after or condition.verdict[i] != "lost"
            assert truth < 0 or (truth == 0 and v[i].any()) or sign.verdict[i] != "lost"
            assert truth > 0 or sign.verdict[i] != "passed"
            assert sign.error[i] == np.inf or abs(truth - Q(float(s[i]))) <= Q(float(sign.error[i]))
            for name, certificate in (("gain", gain), ("condition", condition), ("sign", sign)):
                seen[name].add(str(certificate.verdict[i]))
    assert seen["gain"] == {"certified", "lost", "undecided"}
    assert seen["condition"] >= {"certified", "lost"}
    assert seen["sign"] >= {"passed", "undecided"}


def test_negative_s_of_a_definite_matrix_is_no_proof():
    """A computed s below zero may be all rounding; below its error it is not."""
    P = np.array([[1.0, -1.0 + 2.0**-8], [-1.0 + 2.0**-8, 1.0]])
    v = np.array([1.0, 1.0])
    assert definite(P)
    assert sign_certificate(P, v, -(2.0**-7), "bfloat16").verdict == "undecided"
    assert sign_certificate(np.array([[1.0, -2.0], [-2.0, 1.0]]), v, -2.0, "bfloat16").verdict == "lost"
    assert sign_certificate(np.zeros((2, 2)), v, 0.0, "bfloat16").verdict == "lost"
    assert sign_certificate(np.zeros((2, 2)), 0 * v, 0.0, "bfloat16").verdict == "undecided"
    assert sign_certificate(np.eye(2) * 1e-300, v * 1e-20, 0.0, "float64").verdict == "undecided"
    assert sign_certificate(np.eye(2) * np.nan, v, np.nan, "bfloat16").verdict == "lost"
    assert sign_certificate(np.eye(2) * 60000, v, np.inf, "float16").verdict == "undecided"
    assert gain_condition(np.eye(2), v, -1.0).verdict == "certified"
    assert gain_condition(np.eye(2), v, 0.0).verdict == "lost"
    with pytest.raises(ValueError, match="tau"):
        gain_certificate(np.eye(2), v, 0.0, "bfloat16")


@pytest.mark.parametrize("hair", [0, 1, -1])
def test_the_gain_condition_is_decided_to_the_last_digits(hair):
    for seed, n in pairs(range(6), (1, 3, 5)):
        P = random_definite(seed, 1, n, 0, 6)[0]
        z = P @ np.random.default_rng(seed).standard_normal(n)
        exact = dot(z, [dot(row, z.tolist()) for row in inverse(P)])
        d = float(exact) * (1 + hair * 2.0**-20)
        condition = gain_condition(P, z, d)
        assert Q(float(condition.least)) <= exact <= Q(float(condition.largest))
        assert condition.verdict == {0: condition.verdict, 1: "certified", -1: "lost"}[hair]
        if hair == 0 and condition.verdict != "undecided":
            assert (condition.verdict == "certified") == definite(corrected(rationals(P), z, Q(d)))


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
    assert (values[:, 0] > 0.5 * high).any() or n == 6


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


def test_certificates_of_steps_are_those_of_rounding():
    """eta of a storage error is at most the error norm over the least eigenvalue of the certificate of rounding."""
    for X in random_definite(8, 20, 4, 0, 1):
        certificate = rounding_certificate(X, "bfloat16")
        eta = np.abs(np.linalg.eigvals(np.linalg.solve(X, store(X, "bfloat16"))) - 1).max()
        assert eta <= (1 / certificate.margin) * (1 + 1e-9)


def test_exact_products_agree():
    """The judges themselves: the image of a step is the inverse of beta C + alpha v v^T."""
    P, v = rationals(random_definite(1, 1, 3, 0, 2)[0]), [Q(1), Q(-2), Q(1, 2)]
    C = combined([[Q(3, 4) * x for x in row] for row in inverse(P)], [[Q(1, 4) * a * b for b in v] for a in v])
    assert product(C, image(P, v, Q(3, 4), Q(1, 4))) == [[Q(int(i == j)) for j in range(3)] for i in range(3)]
