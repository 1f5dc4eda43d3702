"""The inverse root in many digits: its certificate is sound, its refusals are proved, each rung of its ladder holds."""

from fractions import Fraction as Q

import flint
import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest
from flint import arb, arb_mat, fmpq, fmpq_mat

from precond_lab import gallery
from precond_lab.truth.inverse_root import Status, balls, certificate, definiteness, inverse_root, reference
from precond_lab.truth.logdet.graph import determinant

EXPONENTS = [1, 2, 3, 4, 6, 8, Q(3, 2), Q(1, 2), Q(7, 3)]
HARD = {
    "two by two": gallery.spd(2, condition=1e8),
    "one": np.array([[3.0]]),
    "geometric": gallery.spd(8, condition=1e10),
    "clustered": gallery.spd(8, condition=1e6, spectrum="clustered"),
    "one small": gallery.spd(8, condition=1e8, spectrum="one_small"),
    "identity": np.eye(8),
    "identity and a dyad": np.eye(8) + np.ones((8, 8)),
    "singular to float64": gallery.spd(8, condition=1e16, seed=1),
    "rank two and a ridge": gallery.rank_deficient(8, rank=2, ridge=1e-10),
    "graded": gallery.graded(8),
    "blocks": gallery.block_scales(8, decades=6.0),
    "Toeplitz": gallery.toeplitz(8),
    "statistics": gallery.wishart_average(8, decades=3.0),
    "huge": 1e300 * gallery.spd(4, condition=1e3),
    "tiny": 1e-300 * gallery.spd(4, condition=1e3),
}


def fractions(M: fmpq_mat) -> list[list[Q]]:
    return [[Q(int(x.p), int(x.q)) for x in row] for row in M.tolist()]


def with_a_rational_root(a: int, b: int, seed: int, n: int = 3) -> tuple[list[list[Q]], list[list[Q]]]:
    """A and F = A^{-b/a}, both rational: A = G^{-a} and F = G^b with a random positive definite G."""
    entries = np.random.default_rng(seed).integers(-4, 5, (n, n))
    G = fmpq_mat(n, n, [fmpq(int(x), 3) for x in (entries @ entries.T + np.eye(n, dtype=int)).ravel()])
    power, root = G, G
    for _ in range(a - 1):
        power *= G
    for _ in range(b - 1):
        root *= G
    return fractions(power.inv()), fractions(root)


def rational(x: mpmath.mpf) -> Q:
    return Q(*(int(k) for k in x.as_integer_ratio()))


def combined(s: Q, X: list[list[Q]], t: Q, Y: list[list[Q]]) -> list[list[Q]]:
    return [[s * x + t * y for x, y in zip(*rows, strict=True)] for rows in zip(X, Y, strict=True)]


def proved_between(X: list[list[Q]], F: list[list[Q]], relative: Q) -> bool:
    """Whether (1 - r) F < X < (1 + r) F, by exact determinants."""
    below, above = combined(Q(1), X, relative - 1, F), combined(Q(-1), X, 1 + relative, F)
    return all(determinant([row[:k] for row in M[:k]]) > 0 for M in (below, above) for k in range(1, len(M) + 1))


def by_eigenvalues(A: np.ndarray, p: Q | int, digits: int) -> np.ndarray:
    with mpmath.workdps(digits):
        values, V = mpmath.eigsy(mpmath.matrix(A.tolist()))
        exponent = -mpmath.mpf(1) * Q(p).denominator / Q(p).numerator
        X = V * mpmath.diag([x**exponent for x in values]) * V.T
        return np.array(X.tolist(), dtype=object)


@pytest.mark.parametrize("p", EXPONENTS, ids=str)
def test_roots_that_are_rational_are_met_within_the_bounds(p):
    a, b = Q(p).numerator, Q(p).denominator
    for seed in range(3):
        A, F = with_a_rational_root(a, b, seed)
        found = inverse_root(np.array(A, dtype=object), p, digits=40)
        assert found.status is Status.CERTIFIED
        assert 0 < found.relative <= 1e-40
        X = [[rational(x) for x in row] for row in found.value]
        assert proved_between(X, F, rational(found.relative))
        error = np.array(combined(Q(1), X, Q(-1), F), dtype=float)
        assert np.linalg.norm(error, 2) <= float(found.radius)
        assert np.array_equal(found.value, found.value.T)


@pytest.mark.parametrize("name", HARD)
def test_hard_matrices_have_the_root_that_mpmath_finds(name):
    A = HARD[name]
    for p in (2, 3, 4):
        found = inverse_root(A, p)
        assert found.status is Status.CERTIFIED, name
        exact = by_eigenvalues(A, p, 110)
        with mpmath.workdps(110):
            # both the error of mpmath, whose digits exceed the condition numbers by 60, and ours
            slack = 1e-60 * max(abs(x) for x in exact.ravel())
            assert max(abs(x) for x in (found.value - exact).ravel()) <= found.radius + slack, name


@pytest.mark.parametrize("p", EXPONENTS, ids=str)
def test_the_certificate_bounds_the_error_of_whatever_it_is_given(p):
    a, b = Q(p).numerator, Q(p).denominator
    generator, accepted = np.random.default_rng(5), 0
    for seed in range(30):
        A, F = with_a_rational_root(a, b, seed)
        E = generator.integers(-9, 10, (3, 3))
        size = Q(1, 10 ** int(generator.integers(1, 45)))
        X = combined(Q(1), F, size, [[Q(int(x)) for x in row] for row in E + E.T])
        with balls.precision(400):
            approximation = balls.balls(X).mid()
            bound = certificate.certified(approximation, balls.balls(A), a, b, arb(0.5))
            entries = [[rational(balls.number(x)) for x in row] for row in approximation.tolist()]
        if bound is not None:
            accepted += 1
            assert proved_between(entries, F, rational(balls.number(bound.relative)))
            error = np.array(combined(Q(1), entries, Q(-1), F), dtype=float)
            assert np.linalg.norm(error, 2) <= float(bound.radius)
    assert accepted >= 10


def test_a_root_that_is_not_the_positive_one_is_not_certified():
    A = arb_mat([[1, 0], [0, arb(0.25)]])
    assert certificate.certified(arb_mat([[1, 0], [0, 2]]), A, 2, 1, arb(0.5)) is not None
    assert certificate.certified(arb_mat([[1, 0], [0, -2]]), A, 2, 1, arb(0.5)) is None


def rows_of(A: np.ndarray) -> list[list[Q]]:
    return [[Q(x) for x in row] for row in A.tolist()]


def test_definiteness_is_decided_as_by_exact_minors():
    generator, seen = np.random.default_rng(0), set()
    for _ in range(300):
        n = int(generator.integers(1, 5))
        entries = generator.integers(-2, 5, (n, n))
        M = rows_of(np.tril(entries) + np.tril(entries, -1).T)
        minors = [determinant([row[:k] for row in M[:k]]) for k in range(1, n + 1)]
        answer = definiteness.positive_definite(M)
        assert answer is (min(minors) > 0)
        seen.add((answer, minors[-1] == 0))
    assert seen == {(True, False), (False, False), (False, True)}


@pytest.mark.parametrize("n", [17, 40])
def test_definiteness_is_decided_by_halves(n):
    singular = rows_of(gallery.rank_deficient(n, rank=n - 2))
    assert definiteness.positive_definite(rows_of(gallery.graded(n, binades=60))) is True
    assert definiteness.positive_definite(rows_of(gallery.indefinite(n, negative=1e-10))) is False
    assert definiteness.positive_definite(singular) is False
    for sign in (1, -1):  # far below what the first precision can tell
        shifted = [[x + sign * (i == j) * Q(1, 2**250) for j, x in enumerate(row)] for i, row in enumerate(singular)]
        assert definiteness.positive_definite(shifted) is (sign > 0)


def test_definiteness_may_remain_open():
    hidden = [[Q(1, 3), Q(1, 7)], [Q(1, 7), Q(3, 49) + Q(1, 2**4000)]]  # thirds and sevenths are rounded
    assert definiteness.positive_definite(hidden) is None
    assert inverse_root(np.array(hidden, dtype=object)).status is Status.UNAVAILABLE


REFUSED = {
    "zero": (np.zeros((3, 3)), Status.NOT_POSITIVE_DEFINITE),
    "negative": (-np.eye(3), Status.NOT_POSITIVE_DEFINITE),
    "a zero and no other": (np.array([[0.0, 1.0], [1.0, 0.0]]), Status.NOT_POSITIVE_DEFINITE),
    "indefinite": (gallery.indefinite(6), Status.NOT_POSITIVE_DEFINITE),
    "singular": (gallery.rank_deficient(6, rank=3), Status.NOT_POSITIVE_DEFINITE),
    "indefinite by rounding": (gallery.spd(12, condition=1e20), Status.NOT_POSITIVE_DEFINITE),
    "infinite": (np.diag([1.0, np.inf]), Status.NOT_FINITE),
    "not a number": (np.diag([1.0, np.nan]), Status.NOT_FINITE),
    "infinite object": (np.array([[mpmath.inf]], dtype=object), Status.NOT_FINITE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_root_is_refused(name):
    A, status = REFUSED[name]
    found = inverse_root(A)
    assert found.status is status
    assert found.status.prose
    assert found.value.shape == A.shape
    assert all(mpmath.isnan(x) for x in found.value.ravel())
    assert found.radius == found.relative == mpmath.inf


@pytest.mark.parametrize("p", [4, Q(3, 2)], ids=str)
def test_each_rung_of_the_ladder_is_enough(p, monkeypatch):
    A = gallery.spd(6, condition=1e4)
    first = inverse_root(A, p)
    monkeypatch.setattr(reference, "newton_in_eigenbasis", lambda *_: None)
    second = inverse_root(A, p)
    assert first.status is second.status is Status.CERTIFIED
    assert not np.array_equal(first.value, second.value)
    with mpmath.workdps(100):
        assert max(abs(x) for x in (first.value - second.value).ravel()) <= first.radius + second.radius


def test_a_wrong_candidate_is_passed_over_and_nothing_certified_is_no_value(monkeypatch):
    A, right = gallery.spd(4, condition=1e3), reference.newton_in_eigenbasis
    exact = inverse_root(A)

    def wrong(*arguments):
        return (right(*arguments) * arb(1 + 2.0**-40)).mid()

    monkeypatch.setattr(reference, "newton_in_eigenbasis", wrong)
    found = inverse_root(A)
    with mpmath.workdps(100):
        assert max(abs(x) for x in (found.value - exact.value).ravel()) <= found.radius + exact.radius
    monkeypatch.setattr(reference, "coupled_newton", lambda *_: None)
    assert inverse_root(A).status is Status.UNAVAILABLE


@pytest.mark.parametrize("digits", [1, 16, 120])
def test_digits_are_those_asked_for(digits):
    before = flint.ctx.prec, mpmath.mp.prec
    found = inverse_root(gallery.spd(5, condition=1e7), 4, digits)
    assert (flint.ctx.prec, mpmath.mp.prec) == before
    with mpmath.workdps(digits + 10):
        assert 0 < found.relative <= mpmath.mpf(10) ** -digits
        assert found.radius <= 2 * found.relative * sum(abs(x) for x in found.value.ravel())


def test_every_format_is_taken_as_it_is():
    A = np.array([[2.0, 0.5], [0.5, 1.0]])
    exact = inverse_root(A).value
    objects = np.array([[mpmath.mpf(2), Q(1, 2)], [0.5, 1]], dtype=object)
    for same in (A.tolist(), A.astype(np.float32), A.astype(ml_dtypes.bfloat16), jnp.asarray(A, jnp.float16), objects):
        assert np.array_equal(inverse_root(same).value, exact)
    third = np.array([[Q(1, 3)]], dtype=object)
    with mpmath.workdps(60):
        assert abs(inverse_root(third, 2).value[0, 0] - mpmath.sqrt(3)) < 1e-49


@pytest.mark.parametrize("A", [np.ones((2, 3)), np.ones(4), np.zeros((0, 0)), np.array([[1.0, 2.0], [0.0, 1.0]])])
def test_a_matrix_that_is_none_is_misuse(A):
    with pytest.raises(ValueError, match=r"wanted|symmetric"):
        inverse_root(A)


@pytest.mark.parametrize("A", [np.eye(2) + 0j, np.array([[4j]]), [[mpmath.mpc(4, 1)]], np.array([[1 + 0j]], object)])
def test_a_complex_matrix_is_misuse(A):
    with pytest.raises(TypeError, match="complex numbers given"):
        inverse_root(A)


@pytest.mark.parametrize("p", [0, -2, 2.0, True, Q(-1, 2)])
def test_an_exponent_that_is_none_is_misuse(p):
    with pytest.raises(ValueError, match="p = "):
        inverse_root(np.eye(2), p)
    with pytest.raises(ValueError, match="digits"):
        inverse_root(np.eye(2), digits=0)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "condition"), [(64, 1e14), (128, 1e6), (256, 1e6)])
def test_large_matrices_are_certified(n, condition):
    found = inverse_root(gallery.spd(n, condition=condition))
    assert found.status is Status.CERTIFIED
    assert found.relative <= 1e-50
