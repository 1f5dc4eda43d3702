"""Bounds in the order of symmetric matrices: sandwiches by rationals, attacked by errors of the norm they allow."""

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
    store,
)

import precond_lab as pl
from precond_lab.arithmetic.formats import named
from precond_lab.diagnosis import (
    mkor_certificate,
    order_certificate,
    recursion_certificate,
    rounding_certificate,
    sandwich,
)

TINY = Q(1, 2**300)


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
    """By u kappa (1 + n^{1/2}) / 2, and no random matrix or worst rounding exceeds it; some come near it."""
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
    assert best > 0.75


def released(J: list[list[Q]], v, blend: Q) -> list[list[Q]]:
    mixed = [[(1 - blend) * x + (blend if i == j else 0) for j, x in enumerate(row)] for i, row in enumerate(J)]
    return image(mixed, v, Q(1), Q(1))


@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_released_mkor_keeps_what_is_certified(format):
    rng, lost = np.random.default_rng(0), 0
    for n, size in pairs((2, 4), (1.0, 20.0, 150.0, 1500.0, 5e4)):
        certificate = mkor_certificate(size, format, n)
        J = np.eye(n)
        direction = rng.standard_normal(n)
        for t in range(6):
            v = direction + 0.1 * rng.standard_normal(n) if t else direction
            v *= np.sqrt(size * 0.999 / (v @ v))
            X = released(rationals(J), v.tolist(), Q(0.05))
            J = store(floats(X), format)
            if not definite(J):
                assert certificate.verdict == "undecided"
                lost += 1
                break
            if certificate.verdict == "certified":
                kappa = Q(float(certificate.kappa))
                values = np.linalg.eigvalsh(floats(X))
                assert values[-1] / values[0] <= kappa
    assert lost > 0
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
    assert J[1][1] / J[0][0] <= Q(mkor_certificate(1e4, "float64", 2).kappa) <= Q(1001, 1000) * (20 + 10**4)


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
