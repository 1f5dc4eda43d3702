"""Certificates of a step of rank one: judged by rationals, attacked by errors of chosen signs."""

from fractions import Fraction as Q
from itertools import product as pairs

import numpy as np
import pytest
from rank_one_exact import (
    computed_product,
    definite,
    dot,
    inverse,
    random_definite,
    rationals,
    store,
    symmetric,
)

import precond_lab as pl
from precond_lab.arithmetic.formats import named
from precond_lab.diagnosis import (
    gain_certificate,
    gain_condition,
    integer_certificate,
    order_certificate,
    rounding_certificate,
    sign_certificate,
)


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


def test_the_certificate_of_a_gain_is_sharp_where_the_condition_matters():
    """e^T P^{-1} e dominates: what is lost comes within a tenth of the bound."""
    v, u, margins = np.array([1.0, 0.0]), 2.0**-8, []
    for width in np.linspace(1, 8, 57) * 2.0**-16:
        P = np.array([[1.0, 1 - width], [1 - width, 1.0]])
        margin = gain_certificate(P, v, 1.0, "bfloat16", roundings=1, scalar_roundings=1).margin
        if worst_step(P, v, 1.0, u, 1, 1):
            margins.append(margin)
        else:
            assert margin > 0.9
    assert 0.9 < max(margins) < 1


def computed_step(P: np.ndarray, v: np.ndarray, tau: np.ndarray, format) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    w = computed_product(P, v, format)
    s = computed_product(v[..., None, :], w, format)[..., 0]
    return w, s, np.asarray(pl.round_to(np.asarray(pl.round_to(tau, format)) + s, format))


@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_computed_gains_and_signs_are_judged_rightly(format):
    u, rng, count = named(format).unit_roundoff, np.random.default_rng(1), 60
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


def test_numbers_of_roundings_are_positive():
    """With a negative one, the error of s was negative, and a positive definite P was called lost."""
    P, v = np.eye(2), np.ones(2)
    for wrong, error in ((0, ValueError), (-1, ValueError), (0.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="roundings"):
            sign_certificate(P, v, 2.0, "bfloat16", wrong)
        for name in ("roundings", "scalar_roundings"):
            with pytest.raises(error, match=name):
                gain_certificate(P, v, 1.0, "bfloat16", **{name: wrong})
    assert gain_certificate(P, v, 1.0, "bfloat16", roundings=np.int64(2)).roundings == 2


@pytest.mark.parametrize("d", [np.inf, -np.inf])
def test_an_infinite_d_changes_nothing(d):
    matrices = np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.0, 1.5], [1.5, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]])
    for P, verdict in zip(matrices, ("certified", "lost", "lost"), strict=True):
        assert gain_condition(P, np.ones(2), d).verdict == verdict
    assert gain_condition(matrices[0], [np.inf, 1.0], d).verdict == "lost"
    assert gain_condition(matrices[0], np.ones(2), np.nan).verdict == "lost"


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


EXTREMES = [0, -0.0, 1, -1, 3, 0.5, 1e-320, 5e-324, 1e308, -1e308, 1e-200, 1e200, 1e-30, 1e30, np.inf, -np.inf, np.nan]


def test_extreme_numbers_make_no_certificate_wrong():
    rng, decided = np.random.default_rng(0), 0
    for t in range(150):
        n = int(rng.integers(1, 4))
        P, after = (symmetric(rng.choice(EXTREMES, (n, n))) for _ in range(2))
        if t % 2:
            np.fill_diagonal(P, np.abs(np.diagonal(P)))
        v, d = rng.choice(EXTREMES, n), rng.choice(EXTREMES)
        kept = definite(P)
        for format in ("bfloat16", "float8_e4m3fn", "float64"):
            verdict = rounding_certificate(P, format).verdict
            assert verdict != "certified" or kept
            assert verdict != "lost" or not kept or format != "float64"
        assert kept or integer_certificate(P).verdict != "certified"
        assert (
            not kept or order_certificate(np.stack([P, after]), v[None], 0.5).verdict != "lost" or not definite(after)
        )
        sign_certificate(P, v, d, "bfloat16")
        condition = gain_condition(P, v, d).verdict
        if np.isfinite(P).all() and np.isfinite(v).all() and np.isfinite(d) and d and condition != "undecided":
            assert (condition == "certified") == definite(corrected(rationals(P), v, Q(float(d))))
            decided += 1
        if np.isfinite(v).all():
            assert kept or gain_certificate(P, v, 1.0, "bfloat16").verdict != "certified"
    assert decided > 20
