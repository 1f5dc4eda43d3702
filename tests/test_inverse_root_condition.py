"""Condition numbers of the inverse root: the derivative is that of the truth, the suprema are attained and no more."""

from fractions import Fraction as Q
from itertools import product

import jax
import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.arithmetic import formats
from precond_lab.diagnosis.inverse_root_condition import (
    condition_of_spectrum,
    derivative,
    divided_differences,
    entrywise_condition,
    inverse_root_condition,
    worst_direction,
)
from precond_lab.truth.inverse_root import inverse_root

U64 = 2.0**-53
EXPONENTS = [1, 2, 3, 4, 8, Q(3, 2), Q(1, 2), Q(7, 3)]
P = pytest.mark.parametrize("p", EXPONENTS, ids=str)


def shifted(A: np.ndarray, h: Q, E: np.ndarray) -> np.ndarray:
    """A + h E without rounding."""
    pairs = zip(A.ravel().tolist(), E.ravel().tolist(), strict=True)
    return np.array([Q(x) + h * Q(y) for x, y in pairs], dtype=object).reshape(A.shape)


def root(A: np.ndarray, p: int | Q) -> np.ndarray:
    return inverse_root(A, p, digits=60).value


def dyads(n: int) -> list[np.ndarray]:
    """An orthonormal basis of all matrices."""
    return [np.outer(x, y) for x, y in product(np.eye(n), repeat=2)]


def symmetric_dyads(n: int) -> list[np.ndarray]:
    """An orthonormal basis of the symmetric matrices."""
    one, pairs = np.eye(n), zip(*np.tril_indices(n), strict=True)
    bases = [np.outer(one[i], one[j]) + np.outer(one[j], one[i]) for i, j in pairs]
    return [E / np.linalg.norm(E) for E in bases]


@P
def test_the_derivative_is_the_difference_quotient_of_the_truth(p):
    n, h = 5, Q(1, 2**100)
    for condition, seed in [(10.0, 0), (1e4, 1), (1e8, 2)]:
        A = gallery.spd(n, condition=condition, seed=seed)
        E = np.random.default_rng(seed).standard_normal((n, n))
        E = E + E.T
        with mpmath.workdps(60):
            exact = ((root(shifted(A, h, E), p) - root(shifted(A, -h, E), p)) * 2**99).astype(float)
        # float64 eigenvalues move by a few n u, which the second derivative amplifies by (1 + 1/p) / l_min
        slope = condition ** (1 + 1 / float(p)) / float(p)
        bound = 4 * (1 + 1 / float(p)) * n * condition * U64 * slope * np.linalg.norm(E)
        assert np.linalg.norm(derivative(A, E, p) - exact) <= bound, condition


@pytest.mark.parametrize("p", [2, 3, 4])
def test_the_derivative_is_that_of_jax_through_its_eigenvectors(p):
    n, condition = 6, 100.0
    A = gallery.spd(n, condition=condition, seed=p)
    E = np.random.default_rng(p).standard_normal((n, n))
    E = E + E.T

    def of_eigenvectors(M: jax.Array) -> jax.Array:
        values, V = jnp.linalg.eigh(M)
        return (V * values ** (-1 / p)) @ V.T

    with jax.enable_x64(True):
        tangent = np.asarray(jax.jvp(of_eigenvectors, (jnp.asarray(A),), (jnp.asarray(E),))[1])
    spectrum = np.linalg.eigvalsh(A)
    gap = np.min(np.diff(spectrum))  # by which JAX divides, and this derivative does not
    bound = 10 * n * U64 / gap * condition ** (1 + 1 / p) * np.linalg.norm(E)
    assert np.linalg.norm(derivative(A, E, p) - tangent) <= bound


@P
def test_divided_differences_do_not_cancel(p):
    x = np.array([1e-9, 0.3, 0.3, 0.3 * (1 + 2.0**-50), 0.30001, 1.0, 7e5])
    found = divided_differences(x, p)
    with mpmath.workdps(80):
        power = -mpmath.mpf(Q(p).denominator) / Q(p).numerator
        points = [mpmath.mpf(y) for y in x]
        exact = [
            [power * s ** (power - 1) if s == t else (s**power - t**power) / (s - t) for t in points] for s in points
        ]
    # a and b products and sums, and powers of rounded roots: a factor of 1 + u each
    operations = 8 * (Q(p).numerator + Q(p).denominator)
    np.testing.assert_allclose(found, np.array(exact, dtype=float), rtol=operations * U64)
    assert np.array_equal(found, found.T)


@P
def test_the_condition_numbers_are_the_norms_of_the_derivative(p):
    A = gallery.spd(4, condition=300.0, seed=11)
    condition, F = inverse_root_condition(A, p), root(A, p).astype(float)
    values, V = np.linalg.eigh(A)
    half = (V * np.sqrt(values)) @ V.T
    images = [derivative(A, E, p) for E in symmetric_dyads(4)]
    every = [derivative(A, E, p) for E in dyads(4)]
    norm, size = np.linalg.norm, np.linalg.norm(A)
    wanted = {
        "frobenius": norm([x.ravel() for x in every], 2) * size / norm(F),
        "update": norm([(x @ half).ravel() for x in images], 2) * size / norm(F @ half),
        "frobenius_rms": norm(every) * size / 4 / norm(F),
        "update_rms": norm([x @ half for x in every]) * size / 4 / norm(F @ half),
    }
    for name, value in wanted.items():
        # eigenvalues are off by a few n kappa u, relatively, and what depends on them by 1 + 1/p times that
        assert getattr(condition, name) == pytest.approx(value, rel=10 * (1 + 1 / float(p)) * 4 * 300 * U64), name
    # symmetric changes are as bad as any in the Frobenius norm
    assert norm([x.ravel() for x in images], 2) == pytest.approx(norm([x.ravel() for x in every], 2), rel=1e5 * U64)


@P
def test_the_condition_in_the_2_norm_is_kappa_over_p_and_attained(p):
    kappa, n = 2.0**10, 5
    A = gallery.spd(n, condition=kappa, seed=3)
    condition = inverse_root_condition(A, p)
    rounding = 10 * (1 + 1 / float(p)) * n * kappa * U64
    assert condition.kappa == pytest.approx(kappa, rel=rounding)
    assert condition.spectral == pytest.approx(kappa / float(p), rel=rounding)
    size = np.linalg.norm(A, 2) / kappa ** (1 / float(p))
    for E in (np.eye(n), worst_direction(A)):
        assert np.linalg.norm(E, 2) == pytest.approx(1.0, rel=10 * n * U64)
        assert np.linalg.norm(derivative(A, E, p), 2) * size == pytest.approx(condition.spectral, rel=rounding)
    generator = np.random.default_rng(0)
    for _ in range(200):
        E = generator.standard_normal((n, n))
        ratio = np.linalg.norm(derivative(A, E, p), 2) / np.linalg.norm(E, 2) * size
        assert ratio <= condition.spectral * (1 + rounding)


@P
def test_changes_of_entries_do_what_is_said_of_them(p):
    n = 3
    A = gallery.spd(n, condition=50.0, seed=7)
    found, F = entrywise_condition(A, p), np.linalg.norm(root(A, p).astype(float))
    rows, columns = np.tril_indices(n)
    images = []
    for i, j in zip(rows, columns, strict=True):
        E = np.zeros((n, n))
        E[i, j] = E[j, i] = A[i, j]
        images.append(derivative(A, E, p))
    rounding = 10 * (1 + 1 / float(p)) * n * 50 * U64
    assert found.rms == pytest.approx(np.linalg.norm(images) / F, rel=rounding)
    # a convex function is largest at a corner
    corners = [sum(s * x for s, x in zip(signs, images, strict=True)) for signs in product([-1, 1], repeat=len(images))]
    worst = max(np.linalg.norm(x) for x in corners) / F
    assert found.rms <= found.attained * (1 + rounding)
    assert found.attained <= worst * (1 + rounding)
    assert worst <= found.bound * (1 + rounding)
    assert np.array_equal(np.abs(found.direction), np.abs(A))
    assert np.linalg.norm(derivative(A, found.direction, p)) / F == pytest.approx(found.attained, rel=rounding)
    assert found.bound <= inverse_root_condition(A, p).frobenius * (1 + rounding)


def test_relative_changes_of_a_diagonal_matrix_are_divided_by_p():
    found = entrywise_condition(gallery.diagonal(7, condition=1e9), 4)
    assert found.bound == pytest.approx(0.25, rel=100 * U64)
    assert found.attained == pytest.approx(0.25, rel=100 * U64)


@pytest.mark.parametrize(("format", "dtype"), [("float32", np.float32), ("bfloat16", ml_dtypes.bfloat16)])
def test_no_rounding_does_more_than_is_attainable(format, dtype):
    kappa, u = 20.0, formats.named(format).unit_roundoff
    for seed in range(3):
        A = gallery.spd(6, condition=kappa, seed=seed)
        exact, rounded = (root(M, 4).astype(float) for M in (A, A.astype(dtype).astype(float)))
        error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
        # beyond first order: 1/l changes by a factor of at most 1 / (1 - t), with t = |dA|_2 / l_min
        t = kappa * u * np.linalg.norm(A)
        bound = entrywise_condition(A).bound * u
        assert t < 1
        assert error <= bound / (1 - t) ** 1.25
        assert bound <= inverse_root_condition(A).attainable(format).frobenius * (1 + 1e4 * U64)


def test_conditions_do_not_depend_on_the_scale():
    spectrum = gallery.SPECTRA["geometric"](9, 1e6)
    one = condition_of_spectrum(spectrum, 3)
    for k in (-900, -60, 60, 900):
        assert condition_of_spectrum(np.ldexp(spectrum, k), 3) == one


@P
def test_conditions_over_the_whole_range(p):
    """Whatever float64 the condition number is, none of the others overflows on its way."""
    spectrum = np.array([1e-200, 3e-70, 1.0])
    found = condition_of_spectrum(spectrum, p)
    with mpmath.workdps(700):
        x, r = [mpmath.mpf(y) for y in spectrum], mpmath.mpf(Q(p).denominator) / Q(p).numerator
        D = [[r * s ** (-r - 1) if s == t else (s**-r - t**-r) / (t - s) for t in x] for s in x]

        def norm(numbers):
            return mpmath.sqrt(sum(y**2 for y in numbers))

        size, F, update = norm(x), norm(y**-r for y in x), norm(y ** (mpmath.mpf(1) / 2 - r) for y in x)
        exact = (
            x[2] / x[0],
            x[2] / x[0] * r,
            D[0][0] * size / F,
            D[0][0] * mpmath.sqrt(x[0]) * size / update,
            norm(d for row in D for d in row) * size / (3 * F),
            norm(d * mpmath.sqrt(y) for row in D for d, y in zip(row, x, strict=True)) * size / (3 * update),
        )
        exact = [float(y) for y in exact]
    # quotients, powers of logarithms up to 500, and sums of positive terms
    np.testing.assert_allclose(found, exact, rtol=1000 * U64)
    assert set(condition_of_spectrum([1e-200, 1e200], p)) == {np.inf}


def test_bits_lost_and_attainable_errors():
    condition = condition_of_spectrum([1.0, 2.0**-20], 4)
    assert condition.bits_lost == 18.0
    assert condition.attainable("float32").spectral == 2.0**18 * 2.0**-24
    assert condition.attainable("bfloat16")[1:] == tuple(2.0**-8 * x for x in condition[2:])
    assert condition_of_spectrum([1.0, 1.0], 4).bits_lost == 0.0


@pytest.mark.parametrize("spectrum", [[1.0, 0.0], [1.0, -1e-9], [0.0], [1.0, np.nan]])
def test_without_a_root_the_condition_is_infinite(spectrum):
    assert set(condition_of_spectrum(spectrum)) == {np.inf}
    if np.isfinite(spectrum).all():
        assert set(inverse_root_condition(np.diag(spectrum))) == {np.inf}
        with pytest.raises(ValueError, match="positive definite"):
            worst_direction(np.diag(spectrum))


def test_misuse_is_refused():
    for A in (np.ones((2, 3)), np.ones(3), np.array([[1.0, 2.0], [0.0, 1.0]]), np.diag([1.0, np.nan])):
        with pytest.raises(ValueError, match=r"wanted|symmetric|finite"):
            inverse_root_condition(A)
    for p in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="p = "):
            inverse_root_condition(np.eye(2), p)
    with pytest.raises(ValueError, match="agree"):
        derivative(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="eigenvalues"):
        condition_of_spectrum(np.eye(2))
    for call in (inverse_root_condition, condition_of_spectrum, lambda A: derivative(np.eye(2), A)):
        with pytest.raises(TypeError, match="complex numbers given"):
            call(np.array([1j, 1.0]) if call is condition_of_spectrum else np.eye(2, dtype=complex))
