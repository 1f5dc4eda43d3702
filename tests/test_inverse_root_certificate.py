"""The certificate tells a root from what is none, up to the last digit that the arithmetic has."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precond_lab import Arithmetic, emulate, gallery
from precond_lab.preconditioners.inverse_root.catalog import METHODS
from precond_lab.preconditioners.inverse_root.certificate import certificate, factored
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY, LOOPS
from precond_lab.preconditioners.inverse_root.newton import coupled_newton
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.ridges import Ridge
from precond_lab.preconditioners.inverse_root.solution import Setting, prepare
from precond_lab.preconditioners.inverse_root.split import digits_of, gram_remainder
from precond_lab.preconditioners.inverse_root.tracking import tracked

U = 2.0**-24
FAST = Setting(kernels=LIBRARY)
rational = np.vectorize(lambda x: Fraction(float(x)), otypes=[object])


def nearly_singular(count):
    """2 by 2, [[a, b], [b, b^2 / a (1 + k u)]] in float32: their condition numbers are 1 / u and above."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 1, count).astype(np.float32), rng.uniform(0.3, 1, count).astype(np.float32)
    c = ((b.astype(float) ** 2 / a) * (1 + rng.integers(-3, 40, count) * U)).astype(np.float32)
    return np.stack([np.stack([a, b], -1), np.stack([b, c], -1)], -2)


def errors(A, X, p):
    """Of roots of 2 by 2 matrices relative to the exact ones in the 2-norm, and the condition numbers.

    In closed form: the determinants of float32 matrices, products of 24 bits that nearly cancel, are exact in float64.
    """
    a, b, c = (A[:, i, j].astype(float) for i, j in ((0, 0), (0, 1), (1, 1)))
    determinant = a * c - b * b
    largest = (a + c) / 2 + np.hypot((a - c) / 2, b)
    smallest = np.where(determinant > 0, determinant, 1) / largest
    angle = np.arctan2(2 * b, a - c) / 2
    along = np.stack([np.cos(angle), np.sin(angle)], -1)
    across = np.stack([-np.sin(angle), np.cos(angle)], -1)
    values = smallest ** (-1 / p)
    F = (largest ** (-1 / p))[:, None, None] * along[:, :, None] * along[:, None]
    F = F + values[:, None, None] * across[:, :, None] * across[:, None]
    off = np.linalg.norm(np.nan_to_num(np.asarray(X, float)) - F, 2, axis=(1, 2)) / values
    return off, np.where(determinant > 0, largest / smallest, np.inf)


def theorem(residual, condition, p):
    """The error that a residual allows, with the roundings of the residual itself.

    With s = p times the residual it is 1 - (1 - s)^{1/p}. A product of two 2 by 2 matrices is rounded by 2 u of
    that of the magnitudes, whose norm is at most twice |X^{p/2}| |G| = sqrt(kappa). In W = X^2 G these are 2 u
    sqrt(kappa) for the rounding of G, 4 for the square, 4 for the product, which count twice in W^T W: 20; what E
    is rounded by, at most 4 on either side, makes it 28. The products of slices leave 2^-24 u kappa of the matrix,
    of which 8 may come together.
    """
    s = p * residual + 32 * U * np.sqrt(condition) + 8 * U * U * condition
    return 1 - np.maximum(1 - s, 0) ** (1 / p)


@pytest.mark.parametrize("name", ["coupled_newton", "refined", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("eigen", "newton_schulz", "rational_minimax")
)])  # fmt: skip
def test_a_root_that_counts_as_converged_is_one_however_ill_conditioned_the_matrix(name):
    """Where kappa u is about one, a Cholesky factor is one of a matrix with another root: it is no judge by itself."""
    A, p = nearly_singular(4000), 2 if name == "coupled_newton" else 4
    found = jax.jit(jax.vmap(partial(METHODS[name], p=p, setting=FAST)))(A)
    off, condition = errors(A, found.root, p)
    converged = np.asarray(found.result) == Result.CONVERGED
    assert np.sum(converged) > 2000  # most of them have a root that is found
    residual = np.asarray(found.residual, float)[converged]
    assert np.all(p * residual <= 1 - (1 - 2.0**-4) ** p + 8 * U)
    assert np.all(off[converged] <= theorem(residual, condition[converged], p))
    assert np.median(condition[converged]) > 2.0**21
    # and the theorem says something: it allows no more than twice the tolerance in most of them
    assert np.median(theorem(residual, condition[converged], p)) < 2 * 2.0**-4


@pytest.mark.parametrize("kernels", [LOOPS, LIBRARY], ids=["loops", "library"])
def test_a_corrected_factor_is_right_twice_as_far(kernels):
    """In rationals: A - G G^T is within the defect of A, where that of a Cholesky factor is not by far."""
    A = np.concatenate([nearly_singular(40), [gallery.spd(2, condition=30.0, seed=1)]]).astype(np.float32)
    found = jax.jit(jax.vmap(partial(factored, kernels=kernels)))(A)
    L = np.asarray(jax.vmap(kernels.cholesky)(A))
    far, usable = 0, 0
    for matrix, plain, G, definite, defect in zip(A, L, *found, strict=True):
        if not definite or defect > 0.1:
            continue
        usable += 1
        remaining, before = (relative_remainder(matrix, np.asarray(factor, float)) for factor in (G, plain))
        # The factor's own rounding is u |G|, and G^{-1} has a norm of sqrt(kappa) / |G|.
        condition = np.linalg.cond(np.asarray(G, float)) ** 2
        assert remaining <= defect * 1.01 + 8 * U * np.sqrt(condition) + 8 * U * U * condition
        far += before > 16 * max(remaining, U)
    assert usable > 20
    assert far > usable / 2


def relative_remainder(A, G):
    """|G^{-1} (A - G G^T) G^{-T}|_F, whose difference is exact."""
    exact = (rational(A) - rational(G) @ rational(G.T)).astype(float)
    inverse = np.linalg.inv(G)
    return np.linalg.norm(inverse @ exact @ inverse.T)


@pytest.mark.parametrize("n", [2, 16])
def test_the_remainder_of_a_factor_is_exact_but_for_what_lies_behind_the_slices(n):
    L = np.tril(np.random.default_rng(n).standard_normal((n, n))).astype(np.float32)
    A = jnp.asarray((L.astype(float) @ L.T.astype(float)).astype(np.float32))
    exact = (rational(A) - rational(L) @ rational(L.T)).astype(float)
    bits = (24 - (2 * n - 1).bit_length()) // 2 + 1
    rows = 2.0 ** np.ceil(np.log2(np.max(np.abs(L), axis=1)))
    # Three products of what lies 2^{-2b} below the rows, each with n + 2 roundings, and the last rounding of the sum.
    bound = 3 * n * (n + 2) * U * 2.0 ** (-2 * bits) * np.outer(rows, rows) + 2 * U * np.abs(exact)
    got, sliced = jax.jit(gram_remainder)(A, L)
    assert sliced
    got = np.asarray(got, float)
    assert np.all(np.abs(got - exact) <= bound)
    np.testing.assert_array_equal(got, got.T)


@pytest.mark.parametrize("rounding", ["nearest_away", "toward_zero", "up", "down", "odd"])
def test_in_every_rounding_mode(rounding):
    for format, digits in (("bfloat16", 8), ("float16", 11)):
        assert int(emulate(digits_of, Arithmetic(format, rounding=rounding))(jnp.float32(1))) == digits


@pytest.mark.parametrize("format", ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("carrier", ["float64", "float32"])
def test_an_emulated_arithmetic_shows_its_own_digits(format, carrier):
    digits = {"float32": 24, "float16": 11, "bfloat16": 8, "float8_e4m3fn": 4, "float8_e5m2": 3}
    if (format, carrier) == ("float32", "float32"):
        assert int(jax.jit(digits_of)(jnp.float32(1))) == 24
    else:
        assert int(emulate(digits_of, Arithmetic(format, carrier=carrier))(jnp.float32(1))) == digits[format]


def test_arrays_of_too_few_digits_have_a_certificate_too():
    """bfloat16 has none to slice for 64 rows: the remainder is the plain difference, and a bad root is still one."""
    A = jnp.eye(64, dtype=jnp.bfloat16) * 4
    good, bad = A / 8, A / 4
    assert float(certificate(A, good, 2)) == 0
    assert float(certificate(A, bad, 2)) > 1


# Ends of what a matrix can be


RIDGES = [Ridge(2.0**20, "one"), Ridge(2.0**12, "trace"), Ridge(2.0**12, "largest_entry")]


def padded(A):
    return np.pad(A, (0, 1)).astype(np.float32)


@pytest.mark.parametrize("ridge", RIDGES, ids=str)
def test_padding_is_as_large_as_the_matrix_where_a_ridge_is_above_it(ridge):
    A = padded(gallery.spd(3, condition=10.0, seed=0))
    problem = prepare(A, Setting(ridge, size=3, kernels=LIBRARY))
    B = np.asarray(problem.B, float)
    assert 0.5 <= np.max(B[:3, :3]) < 2
    np.testing.assert_array_equal(B[3], [0, 0, 0, 1])
    measure = {"one": 1, "trace": np.trace(A), "largest_entry": np.max(A)}[ridge.relative_to]
    want = A[:3, :3] + ridge.amount * measure * np.eye(3)
    np.testing.assert_allclose(B[:3, :3] * 2.0 ** int(problem.exponent), want, rtol=8 * U, atol=8 * U * np.max(want))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["newton_schulz", "rational_minimax", "refined"])
def test_padding_has_no_part_in_a_root_where_a_ridge_is_above_the_matrix(name):
    """It is within a factor of two of the matrix: a step more or less at most, and the same root to rounding."""
    A = gallery.spd(3, condition=10.0, seed=0).astype(np.float32)
    setting = Setting(RIDGES[1], kernels=LIBRARY)
    alone = METHODS[name](A, 2, setting=setting)
    beside = METHODS[name](padded(A), 2, setting=setting._replace(size=3))
    assert alone.result == beside.result == Result.CONVERGED
    assert abs(int(alone.steps) - int(beside.steps)) <= 1
    np.testing.assert_allclose(beside.root[:3, :3], alone.root, atol=16 * U * np.max(np.abs(alone.root)))


def test_a_ridge_beyond_the_range_is_out_of_range():
    setting = Setting(Ridge(3e38, "trace"), kernels=LIBRARY)
    found = jax.jit(partial(coupled_newton, setting=setting))(jnp.eye(3))
    assert found.result == Result.OUT_OF_RANGE
    assert np.isnan(found.root).all()


@pytest.mark.parametrize("size", [4, -3])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=f"a size of {size} given for a matrix of 3 rows; it must be from 0 to 3"):
        coupled_newton(jnp.eye(3), setting=Setting(size=size))


def test_a_root_that_is_not_finite_has_not_merely_stagnated():
    found = tracked(jnp.eye(3) * 2, 2, basis=jnp.full((3, 3), jnp.nan), setting=FAST)
    assert found.result == Result.DIVERGED
