"""Certificates of rounding: nothing certified is lost to any rounding, and what is lost lies close below the bound."""

from dataclasses import replace
from fractions import Fraction as Q
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_one_exact import (
    combined,
    definite,
    equicorrelated,
    random_definite,
    rationals,
    shifted,
    symmetric,
    worst_signs,
)

import precond_lab as pl
from precond_lab.arithmetic.formats import named
from precond_lab.arithmetic.modes import ROUNDINGS
from precond_lab.diagnosis import Certainty, integer_certificate, rounding_certificate
from precond_lab.diagnosis.rank_one_certificates import rounding_errors
from precond_lab.diagnosis.rank_one_enclosures import extreme_eigenvalues, perron_root, unit_diagonal

FORMATS = ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"]
F = pytest.mark.parametrize("format", FORMATS)


def rounded(P: np.ndarray, format, mode: str = "nearest_even") -> np.ndarray:
    key = jax.random.key(P.shape[-1]) if mode == "stochastic" else None
    return symmetric(np.asarray(pl.round_to(P, format, mode, key)))


def population(seed: int, count: int, n: int, u: float, scale: float = 1.0) -> np.ndarray:
    """Matrices on both sides of the bound: with lambda_min(H) from about u / 8 to 30 n u."""
    low, high = -np.log10(min(30 * n * u, 0.5)), -np.log10(u / 8)
    parts = [make(seed + i, count // 2, n, low, high) for i, make in enumerate((random_definite, equicorrelated))]
    return np.concatenate(parts) * scale


def attacked(P: np.ndarray, format, mode: str) -> list[list[Q]]:
    """P with the errors that the certificate allows for, of the signs that hurt."""
    R, _, _ = rounding_errors(P, named(format), mode)
    return combined(P, -R * worst_signs(P))


def check_population(P: np.ndarray, format, mode: str) -> tuple[int, int]:
    certificate = rounding_certificate(P, format, mode)
    stored, allowed = rounded(P, format, mode), np.asarray(certificate.margin) > 1
    for i in np.flatnonzero(allowed):
        assert definite(stored[i]), (P[i], stored[i])
        assert definite(attacked(P[i], format, mode)), P[i]
    refused = np.flatnonzero(~allowed)
    lost = sum(not (definite(stored[i]) and definite(attacked(P[i], format, mode))) for i in refused)
    return int(allowed.sum()), lost


@F
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_no_certified_matrix_is_lost(format, n):
    P = population(10 * n, 110, n, named(format).unit_roundoff)
    kept, lost = check_population(P, format, "nearest_even")
    assert kept > 10
    assert n == 1 or lost > 5


@pytest.mark.parametrize("format", ["float16", "float8_e4m3fn"])
@pytest.mark.parametrize("mode", [mode for mode in ROUNDINGS if mode != "nearest_even"])
def test_no_certified_matrix_is_lost_in_other_modes(format, mode):
    P = population(7, 50, 4, 2 * named(format).unit_roundoff)
    kept, lost = check_population(P, format, mode)
    assert kept > 10
    assert lost > 5


@F
@pytest.mark.parametrize("mode", ["nearest_even", "up"])
def test_no_certified_matrix_is_lost_to_underflow(format, mode):
    record = named(format)
    for exponent in range(-record.precision - 1, 4, 2):
        scale = 2.0**exponent * record.min_normal
        check_population(population(exponent + 50, 40, 3, record.unit_roundoff, scale), format, mode)


def test_underflow_counts():
    """Where the relative errors alone would certify, a matrix is lost."""
    record = named("e4m3fn")
    P = np.array([[1.0, 0.0], [0.0, 1.0]]) * record.min_subnormal / 2
    certificate = rounding_certificate(P, record)
    assert certificate.order_margin > 1
    assert certificate.verdict == "undecided"
    assert not definite(rounded(P, record))
    assert rounding_certificate(P * 2.125, record).verdict == "certified"
    flushed = replace(record, name="flushed", subnormals=False)
    assert rounding_certificate(P * 4, flushed).verdict == "undecided"
    assert not definite(rounded(P * 4, flushed))
    assert rounding_certificate(np.diag([1.0, record.min_normal]), flushed).verdict == "certified"


def test_every_scale_of_a_matrix_of_order_one():
    record = named("float8_e4m3fn")
    numbers = np.concatenate([2.0 ** np.arange(-40.0, 20), [record.max, record.min_subnormal * 0.5001]])
    for mode in ROUNDINGS:
        verdicts = rounding_certificate(numbers[:, None, None], record, mode).verdict
        stored = rounded(numbers[:, None, None], record, mode)
        for x, y, verdict in zip(numbers, stored.ravel(), verdicts, strict=True):
            assert verdict != "certified" or 0 < y < np.inf, (x, mode)
            assert verdict != "lost" or not 0 < y < np.inf, (x, mode)


def test_overflow_is_told_from_the_largest_number():
    expected = {463.0: "certified", 464.0: "undecided", 464.5: "lost", 1e9: "lost", np.inf: "lost", np.nan: "lost"}
    for x, verdict in expected.items():
        assert rounding_certificate([[x]], "e4m3fn").verdict == verdict, x
    assert rounding_certificate([[65519.0]], "float16").verdict == "certified"
    assert rounding_certificate([[65521.0]], "float16").verdict == "lost"
    assert rounding_certificate([[448.5]], "e4m3fn", "up").verdict == "undecided"
    saturating = named("e2m3fn")
    assert rounding_certificate([[14.0]], saturating).verdict == "certified"
    assert rounding_certificate([[14.0, 13.9], [13.9, 14.0]], saturating).verdict == "undecided"


def at_ties(format, n: int, step: int) -> np.ndarray:
    """Entries just beside ties: rounding costs x = (1, -1, 1, ...) half a spacing in every one of them.

    Off the diagonal 1 + u, moved down within a class of indices of one parity and up between the two; on it `step`
    spacings more, moved down.
    """
    u = named(format).unit_roundoff
    parity = np.arange(n) % 2
    same = parity[:, None] == parity[None, :]
    P = np.where(same, 1 + u - 2.0**-40, 1 + u + 2.0**-40)
    np.fill_diagonal(P, 1 + (2 * step + 1) * u - 2.0**-40)
    return P


@F
@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_a_real_rounding_loses_what_lies_just_below_the_bound(format, n):
    u = named(format).unit_roundoff
    steps = range(1, 2 * n) if n * u < 1 else [n // 2]
    judged = [
        (rounding_certificate(at_ties(format, n, k), format), rounded(at_ties(format, n, k), format)) for k in steps
    ]
    margins = [certificate.margin for certificate, stored in judged if not definite(stored)]
    assert max(margins) < 1
    # Half n spacings are lost: x^T P x / n is n u before and 0 after, where | |H| |_2 u is at most n u (1 + (n + 1) u).
    assert max(margins) > 1 / (1 + (n + 1) * u) - 1e-6
    assert n * u >= 1 or any(certificate.verdict == "certified" for certificate, _ in judged)


@pytest.mark.parametrize("format", ["bfloat16", "float16", "float8_e4m3fn"])
def test_signs_of_errors_lose_what_lies_below_the_bound_by_a_thousandth(format):
    u, n = named(format).unit_roundoff, 6
    for factor, kept in ((1.001, True), (0.999, False)):
        # l = factor u (n - (n - 1) l)
        l = factor * u * n / (1 + factor * u * (n - 1))
        P = symmetric(l * np.eye(n) + (1 - l))
        certificate = rounding_certificate(P, format)
        assert certificate.margin == pytest.approx(factor, rel=1e-9)
        assert (certificate.verdict == "certified") == kept
        signs = np.outer((-1.0) ** np.arange(n), (-1.0) ** np.arange(n))
        assert definite(combined(P, np.abs(P) * signs, -Q(u))) == kept


def lost_of_order_three(stored: np.ndarray) -> np.ndarray:
    """Exactly, in integers: entries have at most 11 bits and lie within 6 binades."""
    a = np.round(stored * 2.0**14).astype(np.int64)
    minor = a[:, 0, 0] * a[:, 1, 1] - a[:, 1, 0] ** 2
    last = a[:, 2, 2] * minor - a[:, 1, 1] * a[:, 2, 0] ** 2 - a[:, 0, 0] * a[:, 2, 1] ** 2
    last += 2 * a[:, 1, 0] * a[:, 2, 1] * a[:, 2, 0]
    return (a[:, 0, 0] <= 0) | (minor <= 0) | (last <= 0)


@F
def test_climbing_among_lost_matrices_stops_below_the_bound(format):
    """An adversary that keeps only matrices that a real rounding loses, and of these the best certified."""
    u, rng = named(format).unit_roundoff, np.random.default_rng(3)
    P = population(5, 400, 3, u)
    P = P[(np.abs(P) < 8).all((1, 2)) & (np.abs(P) > 2.0**-3).all((1, 2))]
    best, margin = P, np.full(len(P), -np.inf)
    for size in np.repeat([u, u / 2, u / 4, u / 16, u / 64], 16):
        change = 1 + size * rng.standard_normal(best.shape) * (rng.uniform(size=best.shape) < 0.5)
        trial = symmetric(best * change)
        lost = lost_of_order_three(rounded(trial, format))
        values = np.where(lost, rounding_certificate(trial, format).margin, -np.inf)
        better = values > margin
        best, margin = np.where(better[:, None, None], trial, best), np.where(better, values, margin)
        assert margin.max() < 1
    assert margin.max() > 0.5


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_small_matrix_at_ties_refutes_the_certificate(data):
    format = data.draw(st.sampled_from(FORMATS))
    n, p = data.draw(st.integers(1, 4)), named(format).precision
    # Half spacings of [1, 2), and a hair to either side
    numbers = st.builds(
        lambda k, hair: (1 + k * 2.0**-p) * (1 + hair * 2.0**-50), st.integers(0, 2**p), st.integers(-2, 2)
    )
    A = np.array([[data.draw(numbers) for _ in range(n)] for _ in range(n)])
    A *= np.where(np.array([[data.draw(st.booleans()) for _ in range(n)] for _ in range(n)]), 1, -1)
    np.fill_diagonal(A, np.abs(np.diagonal(A)) * data.draw(st.sampled_from([1, 2, 4])))
    A = symmetric(A)
    certificate = rounding_certificate(A, format)
    if certificate.verdict == Certainty.CERTIFIED:
        assert definite(rounded(A, format))
    if certificate.verdict == Certainty.LOST:
        assert not definite(A)


def test_verdicts_of_what_is_no_definite_matrix():
    for P in ([[1.0, 1.5], [1.5, 1.0]], [[0.0]], [[-1.0]], [[1.0, 9.0], [9.0, 1.0]], [[1.0, 0.0], [0.0, np.nan]]):
        assert rounding_certificate(P, "bfloat16").verdict == "lost"
        assert integer_certificate(P).verdict == "lost"
    singular = rounding_certificate([[1.0, 1.0], [1.0, 1.0]], "float64")
    assert singular.verdict == "undecided"
    assert "may be true or false" in singular.verdict.prose
    with pytest.raises(ValueError, match="not symmetric"):
        rounding_certificate([[1.0, 0.5], [0.25, 1.0]], "bfloat16")
    with pytest.raises(ValueError, match="wanted"):
        rounding_certificate([1.0], "bfloat16")
    with pytest.raises(ValueError, match="beyond 2"):
        rounding_certificate([[2**53 + 1]], "float32")
    with pytest.raises(TypeError, match="64 bits"):
        rounding_certificate([[Q(1, 3)]], "float32")
    with pytest.raises(ValueError, match="no rounding"):
        rounding_certificate([[1.0]], "float32", "sideways")
    with pytest.raises(ValueError, match="lacks zero"):
        rounding_certificate([[1.0]], "e8m0")


def test_batches_are_what_their_members_are():
    P = population(3, 12, 4, 2.0**-8).reshape(3, 4, 4, 4)
    batch = rounding_certificate(P, "bfloat16")
    integer = integer_certificate(P)
    for i, j in np.ndindex(3, 4):
        one = rounding_certificate(P[i, j], "bfloat16")
        assert isinstance(one.margin, float)
        assert isinstance(one.verdict, Certainty)
        assert (batch.verdict[i, j], batch.margin[i, j]) == (one.verdict, pytest.approx(one.margin, rel=1e-9))
        assert integer.margin[i, j] == pytest.approx(integer_certificate(P[i, j]).margin, rel=1e-9)
        assert isinstance(integer.verdict[i, j], Certainty)


@pytest.mark.parametrize("exponent", [-1000, -500, 0, 500, 1000])
def test_scale_does_not_matter_to_a_format_with_the_range(exponent):
    P = random_definite(1, 20, 5, 0, 3)
    wide = replace(named("float16"), name="wide", min_exponent=-1022, max_exponent=1023)
    plain, scaled = (rounding_certificate(np.ldexp(P, e), wide) for e in (0, exponent))
    assert np.array_equal(plain.margin, scaled.margin)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("condition", [0, 8, 14, 17])
def test_bounds_of_eigenvalues_hold_exactly(n, condition):
    for A in unit_diagonal(random_definite(n + condition, 6, n, condition, condition + 1)).H:
        bounds = extreme_eigenvalues(A)
        least, largest = (Q(float(bounds[i])) for i in (0, 3))
        assert definite(shifted(A, least - Q(1, 2**200)))
        assert not definite(shifted(A, Q(float(bounds.least_upper)) + Q(1, 2**200)))
        if n == 1:
            assert largest >= Q(float(A[0, 0]))
        else:
            assert definite(combined(np.diag([float(largest) + 1e-300] * n), A, -1))
        assert bounds.least_upper - bounds.least_lower <= 2.0**-44 * n**1.5 * bounds.largest_upper


def test_bounds_of_eigenvalues_hold_within_a_radius():
    rng = np.random.default_rng(0)
    for n in (2, 4):
        for A in unit_diagonal(random_definite(n, 20, n, 1, 3)).H:
            radius = 10.0 ** rng.uniform(-6, -1)
            bound = extreme_eigenvalues(A, radius).least_lower
            moved = combined(A, -radius * worst_signs(A))
            assert definite(shifted(moved, Q(float(bound)) - Q(1, 2**200)))


@pytest.mark.parametrize("n", [1, 2, 6])
def test_the_perron_root_is_bounded_closely(n):
    rng = np.random.default_rng(n)
    for sparse in (0.0, 0.6):
        R = symmetric(rng.uniform(size=(20, n, n)) * (rng.uniform(size=(20, n, n)) >= sparse))
        R += np.eye(n) * 1e-3
        for A, bound in zip(R, perron_root(R), strict=True):
            assert definite(combined(np.diag([bound] * n), A, -1)) or n == 1
            assert bound >= A[0, 0]
            assert not definite(combined(np.diag([bound * (1 - 1e-7)] * n), A, -1))


INTEGERS = {
    "tensor": pl.Integer(8),
    "row": pl.Integer(8, scale="row"),
    "column": pl.Integer(8, scale="column"),
    "block": pl.Integer(8, scale="block", block=3),
    "int4": pl.Integer(4),
}


@pytest.mark.parametrize(("name", "mode"), [*((name, "nearest_even") for name in INTEGERS), ("tensor", "down")])
def test_no_certified_matrix_is_lost_to_integers(name, mode):
    integer = INTEGERS[name]
    P = population(11, 140, 4, 1 / integer.largest)
    P[::2] *= (10.0 ** np.array([0.0, 0.5, 0.2, 0.1]))[:, None] * 10.0 ** np.array([0.0, 0.5, 0.2, 0.1])
    P[:40] = symmetric(unit_diagonal(equicorrelated(2, 40, 4, 0.0, 0.2)).H)
    round_all = jax.vmap(partial(pl.round_blocks, q=integer, rounding=mode))
    stored = np.asarray(round_all(P.astype(np.float32))).astype(np.float64)
    margins = integer_certificate(P, integer, mode).margin
    for x, y, margin in zip(P, stored, margins, strict=True):
        if margin > 1:
            half = (rationals(y), rationals(y.T))
            assert definite(combined(half[0], half[1])), (x, y)
            assert definite(symmetric(y))
    assert (margins > 1).sum() > 10
    assert any(not definite(symmetric(y)) for y, margin in zip(stored, margins, strict=True) if margin < 1)


def test_integers_lose_what_lies_just_below_the_bound():
    hair = 2.0**-10
    P = np.array([[127.0, 0, 0], [0, 4.5 - hair, 3.5 + hair], [0, 3.5 + hair, 4.5 - hair]])
    assert not definite(np.asarray(pl.round_blocks(P.astype(np.float32), pl.Integer(8))).astype(float))
    certificate = integer_certificate(P)
    assert 0.99 < certificate.margin < 1
    assert integer_certificate(P + np.diag([0, 4 * hair, 4 * hair])).verdict == "certified"


def stored_scaled(P: np.ndarray) -> np.ndarray:
    """The int8 correlation of P, in float32 throughout."""
    P = P.astype(np.float32)
    d = np.sqrt(np.diagonal(P, axis1=-2, axis2=-1))
    H = P / d[..., :, None] / d[..., None, :]
    return np.asarray(jax.vmap(partial(pl.round_blocks, q=pl.Integer(8)))(H)).astype(np.float64)


def test_no_certified_matrix_is_lost_to_scaled_integers():
    P = population(17, 300, 4, 1 / 254)
    d = 10.0 ** np.random.default_rng(1).uniform(-6, 6, (300, 4))
    P = symmetric(P * d[:, :, None] * d[:, None, :])
    margins, stored = integer_certificate(P, scaled=True).margin, stored_scaled(P)
    for H, margin in zip(stored, margins, strict=True):
        assert margin <= 1 or definite(symmetric(H))
    assert 20 < (margins > 1).sum() < 280
    for h, kept in ((126.4 / 127, True), (126.6 / 127, False)):
        A = np.array([[1.0, h], [h, 1.0]])
        certificate = integer_certificate(A, scaled=True)
        assert (certificate.verdict == "certified") == kept == definite(stored_scaled(A[None])[0])
        assert certificate.margin == pytest.approx((1 - h) * 254, rel=1e-3)
    assert integer_certificate(np.eye(2) * 1e-37, scaled=True).verdict == "undecided"
    with pytest.raises(ValueError, match="symmetric codes"):
        integer_certificate(np.eye(2), pl.Integer(8, symmetric=False))


@pytest.mark.slow
@F
def test_no_matrix_of_a_hundred_thousand_is_lost(format):
    """Five orders, 5,000 matrices each, at random, under the worst signs: certified means kept."""
    u = named(format).unit_roundoff
    for n in (2, 3, 4, 6, 8):
        kept, _ = check_population(population(1000 + n, 5000, n, u), format, "nearest_even")
        assert kept > 500
