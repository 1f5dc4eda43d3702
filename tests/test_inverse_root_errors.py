"""Measures of a computed inverse root are what their definitions say, and relate as the theory says."""

import math
from fractions import Fraction as Q

import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.diagnosis.inverse_root_condition import condition_of_spectrum, inverse_root_condition
from precond_lab.diagnosis.inverse_root_errors import InverseRootErrors, inverse_root_errors, quotients
from precond_lab.diagnosis.ridge_bias import ridge_bias
from precond_lab.truth.inverse_root import inverse_root

U64 = 2.0**-53
EXPONENTS = [1, 2, 3, 4, 8, Q(3, 2), Q(1, 2)]
P = pytest.mark.parametrize("p", EXPONENTS, ids=str)


def float64_root(A: np.ndarray, p: int | Q) -> np.ndarray:
    values, V = np.linalg.eigh(A)
    X = (V * values ** (-1 / float(p))) @ V.T
    return (X + X.T) / 2


def by_definition(X: np.ndarray, A: np.ndarray, p: int | Q, digits: int = 80) -> InverseRootErrors:
    """Every measure from mpmath's eigenvectors, Cholesky factor and singular values."""
    a, b = Q(p).numerator, Q(p).denominator
    with mpmath.workdps(digits):
        x, matrix = mpmath.matrix(X.tolist()), mpmath.matrix(A.tolist())
        values, V = mpmath.eigsy(matrix)
        F = V * mpmath.diag([v ** (-mpmath.mpf(b) / a) for v in values]) * V.T
        half = V * mpmath.diag([mpmath.sqrt(v) for v in values]) * V.T
        L, one = mpmath.cholesky(matrix**b), mpmath.eye(len(A))

        def size(M):
            return mpmath.norm(M, 2)

        def largest_singular_value(M):
            return max(mpmath.svd_r(M, compute_uv=False))

        figures = (
            largest_singular_value(x - F) / largest_singular_value(F),
            size(x - F) / size(F),
            size((x - F) * half) / size(F * half),
            size(L.T * x**a * L - one) / a,
            max(abs(y) for y in x**a * matrix**b - one),
            size(x - x.T) / size(x),
            min(mpmath.eigsy((x + x.T) / 2, eigvals_only=True)),
        )
        return InverseRootErrors(*map(float, figures))


@P
def test_every_measure_is_as_defined(p):
    n = 4
    for condition, error, seed in [(10.0, 0.1, 0), (1e6, 1e-9, 1)]:
        A = gallery.spd(n, condition=condition, seed=seed)
        E = np.random.default_rng(seed).standard_normal((n, n))
        for X in (float64_root(A, p) + error * (E + E.T), float64_root(A, p) + error * E):
            found, exact = inverse_root_errors(X, A, p), by_definition(X, A, p)
            # sums of n^2 squares, and a singular value, in float64
            np.testing.assert_allclose(found[:6], exact[:6], rtol=8 * n**2 * U64)
            assert abs(found.smallest_eigenvalue - exact.smallest_eigenvalue) <= 4 * n * U64 * np.linalg.norm(X)


def test_a_worked_example():
    found = inverse_root_errors(np.diag([1.0, 4.5]), np.diag([1.0, 2.0**-8]), 4)
    assert found.spectral == 0.125
    assert found.frobenius == pytest.approx(0.5 / math.sqrt(17), rel=2 * U64)
    assert found.update == pytest.approx(0.5 / 16 / math.sqrt(1 + 1 / 16), rel=2 * U64)
    assert found.certificate == pytest.approx((1.125**4 - 1) / 4, rel=2 * U64)
    assert found.residual == 1.125**4 - 1
    assert (found.symmetry_defect, found.smallest_eigenvalue) == (0.0, 1.0)


def test_a_root_that_is_exact_has_no_error():
    A, X = np.diag([1.0, 2.0**-8, 2.0**40]), np.diag([1.0, 4.0, 2.0**-10])
    found = inverse_root_errors(X, A, 4)
    assert max(found[:3]) <= 1e-50  # the reference is not exact
    assert found[3:6] == (0.0, 0.0, 0.0)
    value = inverse_root(gallery.spd(4, condition=1e4)).value
    found = inverse_root_errors(value, gallery.spd(4, condition=1e4))
    assert found.spectral == found.frobenius == found.update == 0.0
    assert 0 < found.certificate <= 1e-50


METHODS = {
    "float64": float64_root,
    "stored in float32": lambda A, p: float64_root(A, p).astype(np.float32),
    "stored in bfloat16": lambda A, p: float64_root(A, p).astype(ml_dtypes.bfloat16),
    "of float32 entries": lambda A, p: float64_root(A.astype(np.float32).astype(float), p),
    "with a ridge": lambda A, p: float64_root(A + 0.01 * np.eye(len(A)) * np.linalg.eigvalsh(A)[0], p),
}


@P
def test_the_certificate_bounds_the_error(p):
    a, judged = Q(p).numerator, 0
    for condition in (10.0, 1e3, 1e5):
        A = gallery.spd(6, condition=condition, seed=4)
        reference = inverse_root(A, p)
        F = reference.value.astype(float)
        for name, method in METHODS.items():
            X = method(A, p)
            found = inverse_root_errors(X, A, p, reference)
            s = a * found.certificate
            if s < 1 and found.smallest_eigenvalue > 0:
                judged += 1
                assert found.spectral <= -math.expm1(math.log1p(-s) / a) * (1 + 100 * U64), name
            # to first order, in the Frobenius norm: what is neglected is of the order of s relatively
            if s < 0.01:
                ratio = np.linalg.norm(F) / np.linalg.norm(F, 2)
                assert found.frobenius * ratio <= found.certificate * (1 + s), name
    assert judged >= 9


@P
def test_the_certificate_is_met_by_an_error_at_the_smallest_eigenvalue(p):
    # the error is that of the largest entry of the root: a relative change t becomes ((1 + t)^a - 1) / a
    values, t = np.array([1.0, 0.1, 1e-5]), 2.0**-20
    root = inverse_root(np.diag(values), p)
    with mpmath.workdps(60):
        X = root.value * np.array([1, 1, 1 + mpmath.mpf(t)])
    found = inverse_root_errors(X, np.diag(values), p, root)
    a = Q(p).numerator
    assert found.spectral == pytest.approx(t, rel=4 * U64)
    assert found.certificate == pytest.approx(((1 + t) ** a - 1) / a, rel=2.0**-30)


def test_measures_rank_the_same_errors_differently():
    A, p = gallery.spd(16, condition=1e6, seed=1), 2
    reference = inverse_root(A, p)
    stored = inverse_root_errors(METHODS["stored in bfloat16"](A, p), A, p, reference)
    rounded = inverse_root_errors(METHODS["of float32 entries"](A, p), A, p, reference)
    assert stored.spectral < 2.0**-7  # each entry is off by 2^-9 of itself
    assert stored.update > 10 * stored.spectral
    assert rounded.update < rounded.spectral
    # the entries of X^p A - I carry eigenvalues of A from one side alone
    assert stored.residual > 10 * stored.certificate


def test_errors_do_not_depend_on_the_scale():
    A, p = gallery.spd(5, condition=1e4, seed=2), 4
    X = float64_root(A, p).astype(np.float32).astype(float)
    one = inverse_root_errors(X, A, p)
    for k in (-200, 200):
        scaled = inverse_root_errors(np.ldexp(X, -k), np.ldexp(A, p * k), p)
        np.testing.assert_allclose(scaled[:6], one[:6], rtol=200 * U64)
        assert math.ldexp(scaled.smallest_eigenvalue, k) == pytest.approx(one.smallest_eigenvalue, rel=100 * U64)


def test_quotients_are_over_the_attainable_errors():
    A, p, u = gallery.spd(6, condition=1e3, seed=3), 4, 2.0**-24
    errors, condition = inverse_root_errors(METHODS["of float32 entries"](A, p), A, p), inverse_root_condition(A, p)
    found, attainable = quotients(errors, condition, u), condition.attainable("float32")
    measured = (errors.spectral, errors.frobenius, errors.update, errors.frobenius, errors.update)
    np.testing.assert_allclose(found, np.divide(measured, attainable), rtol=4 * U64)
    # |dA|_F is at most u |A|_F, and what is beyond first order at most a factor of 1 / (1 - t)^(1 + 1/p)
    t = 1e3 * u * np.linalg.norm(A)
    assert 0 < found.frobenius <= 1 / (1 - t) ** 1.25
    assert found.frobenius < found.frobenius_rms
    worst = quotients(errors, condition_of_spectrum([1.0, 0.0]), u)
    assert set(worst) == {0.0}


def test_results_that_are_none_are_measured_as_such():
    A = gallery.spd(3, condition=10.0)
    for bad in (np.nan, np.inf):
        found = inverse_root_errors(np.full((3, 3), bad), A)
        assert found[:5] == (np.inf,) * 5
        assert np.isnan(found[5:]).all()
    zero = inverse_root_errors(np.zeros((3, 3)), A)
    assert zero[:3] == pytest.approx((1.0, 1.0, 1.0), rel=10 * U64)
    assert zero[5:] == (0.0, 0.0)


def test_errors_at_the_ends_of_the_range():
    """Of the root 1e-154 of 1e308, and of A itself in its place: 1e462 times as much."""
    large = np.array([[1e308]])
    assert inverse_root_errors(large, large, 2) == (np.inf,) * 5 + (0.0, 1e308)
    beyond = np.array([[mpmath.mpf("-1e400")]], dtype=object)
    assert inverse_root_errors(beyond, large, 2)[5:] == (0.0, -np.inf)
    tiny = inverse_root_errors(-beyond, np.array([[mpmath.mpf("1e-800")]], dtype=object), 2)
    assert max(tiny[:5]) < 4 * U64  # 400 decimal digits of exponent, and an input rounded to 53 bits
    assert tiny.smallest_eigenvalue == np.inf


def test_complex_numbers_are_refused():
    for complex_matrix in (np.array([[1j]]), np.array([[1 + 0j]], object), np.array([[mpmath.mpc(1, 1)]], object)):
        for X, A in ((complex_matrix, np.eye(1)), (np.eye(1), complex_matrix)):
            with pytest.raises(TypeError, match="complex numbers given"):
                inverse_root_errors(X, A)


def test_without_a_root_there_is_no_error_and_there_is_a_residual():
    found = inverse_root_errors(np.eye(2), np.diag([1.0, -1.0]), 2)
    assert np.isnan(found[:4]).all()
    assert found[4:] == (2.0, 0.0, 1.0)
    found = inverse_root_errors(np.eye(2), np.diag([1.0, np.inf]), 2)
    assert np.isnan(found[:5]).all()


def test_a_reference_with_another_root_or_shape_is_not_excused():
    A = gallery.spd(3, condition=10.0)
    assert inverse_root_errors(float64_root(A, 2), A, 2, inverse_root(A, 2)).spectral < 1e-14
    assert inverse_root_errors(jnp.asarray(float64_root(A, 2)), A, 2).spectral < 1e-6
    with pytest.raises(ValueError, match="agree"):
        inverse_root_errors(np.eye(2), A)
    with pytest.raises(ValueError, match="symmetric"):
        inverse_root_errors(np.eye(2), np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="p = "):
        inverse_root_errors(np.eye(2), np.eye(2), 2.0)


@P
def test_the_bias_of_a_ridge_is_that_of_the_truth(p):
    spectrum = np.array([1.0, 3e-2, 7e-5, 2e-9])
    for delta in (2.0**-70, 1e-6, 10.0):
        found = ridge_bias(spectrum, p, delta)
        A = np.diag([Q(x) for x in spectrum.tolist()]) + 0 * Q(1)
        with_ridge = A + np.diag([Q(delta)] * 4)
        biased = inverse_root_errors(inverse_root(with_ridge, p).value, A, p)
        # a logarithm, a quotient and an exponential, and sums of positive terms
        exact = (biased.spectral, biased.frobenius, biased.update)
        np.testing.assert_allclose(found[1:], exact, rtol=40 * (1 + 1 / float(p)) * U64)
        with mpmath.workdps(60):
            each = [
                1 - (1 + mpmath.mpf(delta) / x) ** (-1 / (mpmath.mpf(1) * Q(p).numerator / Q(p).denominator))
                for x in spectrum
            ]
        np.testing.assert_allclose(found.eigenvalues, np.array(each, dtype=float), rtol=16 * U64)


def test_the_bias_of_a_ridge_is_that_of_a_matrix_which_is_not_diagonal():
    n, condition, p = 6, 1e5, 4
    A, delta = gallery.spd(n, condition=condition, seed=9), 2.0**-17
    exact = [[Q(x) + (i == j) * Q(delta) for j, x in enumerate(row)] for i, row in enumerate(A.tolist())]
    measured = inverse_root_errors(inverse_root(np.array(exact, dtype=object), p).value, A, p)
    found = ridge_bias(np.linalg.eigvalsh(A), p, delta)
    rounding = 4 * n * condition * U64  # of the eigenvalues, relatively
    assert found[1:] == pytest.approx((measured.spectral, measured.frobenius, measured.update), rel=rounding)


def test_the_bias_of_a_ridge_at_its_ends():
    assert ridge_bias([2.0, 1e-300], 2, 0.0)[1:] == (0.0, 0.0, 0.0)
    assert ridge_bias([1e-300], 2, 1e300).spectral == 1.0  # 1 - 1e-300
    assert ridge_bias([1.0], 4, 2.0**-1000).spectral == 2.0**-1002
    assert ridge_bias([1e-300], 300, 1e300).spectral == pytest.approx(0.99, rel=4e3 * U64)


@P
@pytest.mark.parametrize(
    ("spectrum", "delta"),
    [([1e-200, 1e200], 1e-200), ([1e200, 1e-200], 1e190), ([5e-324, 1.0, 1.7e308], 1e308), ([1.0, 2.0], 1e-200)],
)
def test_the_bias_of_a_ridge_over_the_whole_range(spectrum, delta, p):
    """Condition numbers, and squares of the bias, that no float64 is."""
    found, s = ridge_bias(spectrum, p, delta), 1 / Q(p)
    with mpmath.workdps(700):
        r, x = mpmath.mpf(s.numerator) / s.denominator, [mpmath.mpf(y) for y in spectrum]
        bias = [1 - (1 + delta / y) ** -r for y in x]
        norms = [
            mpmath.sqrt(sum((b * y**t) ** 2 for b, y in zip(bias, x, strict=True)) / sum(y ** (2 * t) for y in x))
            for t in (-r, mpmath.mpf(1) / 2 - r)
        ]
        exact = [float(y) for y in (*bias, max(bias), *norms)]
    # as above; logarithms of up to 1500 are rounded before they are exponentials
    np.testing.assert_allclose([*found.eigenvalues, *found[1:]], exact, rtol=2000 * (1 + float(s)) * U64)


@pytest.mark.parametrize(
    ("spectrum", "p", "delta"),
    [([1.0, 0.0], 2, 0.1), ([-1.0], 2, 0.1), ([], 2, 0.1), ([[1.0]], 2, 0.1), ([1.0], 2, -1e-9), ([1.0], 0, 0.1)],
)
def test_a_ridge_that_is_none_is_misuse(spectrum, p, delta):
    with pytest.raises(ValueError, match="given"):
        ridge_bias(spectrum, p, delta)
    with pytest.raises(TypeError, match="complex numbers given"):
        ridge_bias([1j], 2, 0.1)
