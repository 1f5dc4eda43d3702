"""Products of slices, and roots that they have refined."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY
from precond_lab.preconditioners.inverse_root.newton import coupled_newton
from precond_lab.preconditioners.inverse_root.refined import congruence, refined, shortened
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.solution import Setting
from precond_lab.preconditioners.inverse_root.split import (
    power_above,
    product_terms,
    slice_bits,
    slices,
    split_product,
    two_float_product,
    two_sum,
)

U = 2.0**-24
FAST = Setting(kernels=LIBRARY)
product = LIBRARY.product
LEVELS = [2, *(pytest.param(levels, marks=pytest.mark.slow) for levels in (1, 3))]


def rounded(A):
    A = np.asarray(A).astype(np.float32)
    return (A + A.T) / 2


def exact(A, p):
    w, V = np.linalg.eigh(np.asarray(A, float))
    return (V * w ** (-1 / p)) @ V.T


def error(X, F):
    return np.linalg.norm(np.asarray(X, float) - F) / np.linalg.norm(F)


def operands(n, seed=0, decades=4):
    """Matrices with rows and columns of many sizes, and of all digits."""
    rng = np.random.default_rng(seed)
    A, B = (rng.standard_normal((n, n)) * 10.0 ** rng.uniform(-decades, 0, (n, n)) for _ in range(2))
    A *= 10.0 ** rng.uniform(-decades, decades, (n, 1))
    return jnp.array(A, jnp.float32), jnp.array(B, jnp.float32)


# Slices


def test_two_sums_are_exact():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1000)).astype(np.float32)
    b *= np.float32(2.0) ** rng.integers(-30, 30, 1000)
    high, low = jax.jit(two_sum)(a, b)
    np.testing.assert_array_equal(high, a + b)
    for x, y, h, l in zip(a, b, high, low, strict=True):
        assert Fraction(float(x)) + Fraction(float(y)) == Fraction(float(h)) + Fraction(float(l))


@pytest.mark.parametrize("levels", LEVELS)
def test_slices_add_up_to_the_matrix_and_are_short(levels):
    A, _ = operands(16)
    A = A.at[3].set(0)
    bits = slice_bits(16, levels, 24)
    for axis in (0, 1):
        parts, rests = jax.jit(lambda A, axis=axis: tuple(slices(A, axis, bits, levels)))(A)
        largest = np.max(np.abs(np.asarray(A, float)), axis=axis, keepdims=True)
        unit = 2.0 ** (np.floor(np.log2(np.where(largest > 0, largest, 1))) + 2 - bits)
        total = np.zeros_like(A, float)
        for i, part in enumerate(parts):
            integers = np.asarray(part, float) / unit * 2.0 ** (bits * i)
            np.testing.assert_array_equal(integers, np.round(integers))
            assert np.max(np.abs(integers)) <= 2 ** (bits - 1)
            total += np.asarray(part, float)
            np.testing.assert_array_equal(total + np.asarray(rests[i + 1], float), np.asarray(A, float))


@pytest.mark.parametrize(("n", "levels"), [pytest.param(512, 2, marks=pytest.mark.slow), (48, 3)])
def test_products_of_slices_have_no_rounding_error(n, levels):
    # The worst cases for the sums: all of one sign, as large as slices can be, or nearly so with all bits in use.
    A = jnp.full((n, n), 1 - 2.0**-24, jnp.float32)
    C = jnp.array(np.random.default_rng(0).uniform(0.9, 1, (n, n)), jnp.float32)
    bits = slice_bits(n, levels, 24)

    @jax.jit
    def run(left, right):
        S, T = slices(left, 1, bits, levels), slices(right, 0, bits, levels)
        return S, T, product_terms(S, T, product)[0]

    for left, right in ((A, A), (C, C), operands(n)):
        S, T, terms = run(left, right)
        for level, term in enumerate(terms):
            # float64's sums of integers below 2^24 are exact
            wanted = sum(
                np.asarray(S.parts[i], float) @ np.asarray(T.parts[level - i], float) for i in range(level + 1)
            )
            np.testing.assert_array_equal(np.asarray(term, float), wanted)


def test_one_bit_more_is_one_too_many():
    n, levels = 512, 1
    bits = slice_bits(n, levels, 24) + 1
    A = jnp.array(np.random.default_rng(0).uniform(0.9, 1, (n, n)), jnp.float32)
    S, T = jax.jit(lambda A: (slices(A, 1, bits, levels), slices(A.T, 0, bits, levels)))(A)
    assert n * 2 ** (2 * (bits - 1)) > 2**24
    wanted = np.asarray(S.parts[0], float) @ np.asarray(T.parts[0], float)
    assert np.any(np.asarray(product_terms(S, T, product)[0][0], float) != wanted)


@pytest.mark.parametrize("levels", LEVELS)
def test_a_product_is_as_accurate_as_it_is_said_to_be(levels):
    n = 16
    A, B = operands(n)
    high, low = jax.jit(lambda A, B: two_float_product(A, B, levels=levels))(A, B)
    bits = slice_bits(n, levels, 24)
    alpha = np.asarray(power_above(jnp.max(jnp.abs(A), axis=1)), float)[:, None]
    beta = np.asarray(power_above(jnp.max(jnp.abs(B), axis=0)), float)
    rational = np.vectorize(lambda x: Fraction(float(x)), otypes=[object])
    wanted = rational(A) @ rational(B)
    off = np.abs((rational(high) + rational(low) - wanted).astype(float))
    size = np.abs(wanted.astype(float))
    bound = (levels + 1) * (n + levels) * n * U * 2.0 ** (-bits * levels) * alpha * beta + 2 * (levels * U) ** 2 * size
    assert np.all(off <= bound)
    plain = np.abs(np.asarray(product(A, B), float) - wanted.astype(float))
    assert np.max(off / (alpha * beta)) < 2.0 ** (5 - bits * levels) * np.max(plain / (alpha * beta))
    np.testing.assert_array_equal(jax.jit(lambda A, B: split_product(A, B, levels=levels))(A, B), high)


def test_too_long_sums_are_refused():
    with pytest.raises(ValueError, match="too few"):
        slice_bits(2**23, 2, 24)


def test_short_numbers():
    w = jnp.array([1 + 2.0**-20, -3 - 2.0**-10, 0.0, 2.0**-100 * (1 + 2.0**-7)], jnp.float32)
    assert shortened(w, 8).tolist() == [1.0, -3.0, 0.0, 2.0**-100 * (1 + 2.0**-7)]


# Congruences


def test_a_congruence_shows_small_eigenvalues_to_relative_accuracy():
    A = rounded(gallery.spd(64, condition=1e6, seed=0))

    def run(A):
        w, V = LIBRARY.eigh(A)
        return w, congruence(A, V, w, LIBRARY)

    w, (basis, values, E) = jax.jit(run)(jnp.array(A))
    basis, C = np.asarray(basis, float), np.diag(np.asarray(values, float)) + np.asarray(E, float)
    exact_C = basis.T @ A.astype(float) @ basis
    exact_w = np.linalg.eigvalsh(A.astype(float))
    scale = np.sqrt(np.outer(exact_w, exact_w))
    # An eigenvalue of C is off by what U is from orthonormal, 2 (n u), and by u^2 kappa n with 2^-8 to spare.
    np.testing.assert_allclose(np.linalg.eigvalsh(C), exact_w, rtol=4 * 64 * U, atol=0)
    assert np.max(np.abs(np.asarray(w, float) / exact_w - 1)) > 2.0**-8  # the decomposition alone is far off
    # ... and the basis is U only up to its roundings, u in the large eigenvalues, which couple to small ones
    assert np.linalg.norm((C - exact_C) / scale, 2) <= 4 * 64 * U * np.sqrt(1e6)


# Roots


@pytest.fixture(scope="module")
def programs():
    return {
        passes: jax.jit(lambda A, passes=passes: refined(A, 4, setting=FAST, passes=passes)) for passes in (1, 2, 3)
    }


@pytest.mark.parametrize("spectrum", list(gallery.SPECTRA))
def test_roots_do_not_see_the_condition_number(programs, spectrum):
    n = 64
    for condition in (1e2, 1e4, 1e6):
        A = rounded(gallery.spd(n, condition=condition, spectrum=spectrum, seed=1))
        r = programs[2](jnp.array(A))
        # n u of the products, and what the first order neglects where the decomposition is off by n u
        bound = n * U + (n * U) ** 2 * condition
        assert error(r.root, exact(A, 4)) <= bound, condition
        assert r.result == Result.CONVERGED


@pytest.mark.slow
def test_passes_gain(programs):
    A = rounded(gallery.spd(64, condition=1e7, seed=1))
    errors = [error(programs[passes](jnp.array(A)).root, exact(A, 4)) for passes in (1, 2, 3)]
    assert errors[0] > 100 * errors[1]
    assert errors[2] <= 64 * U


@pytest.mark.slow
def test_the_target():
    """Fifty times below coupled Newton, at n = 512, p = 4, and a condition number of 1e6."""
    A = rounded(gallery.spd(512, condition=1e6, seed=0))
    F = exact(A, 4)
    ours = error(jax.jit(lambda A: refined(A, 4, setting=FAST))(jnp.array(A)).root, F)
    newton = error(jax.jit(lambda A: coupled_newton(A, 4, setting=FAST))(jnp.array(A)).root, F)
    assert ours <= 512 * U
    assert ours < newton / 50


@pytest.mark.slow
def test_split_products_emulated():
    """In an arithmetic of few digits products of slices are products."""
    A, B = operands(4, decades=1)
    A, B = (jnp.asarray(x.astype(jnp.bfloat16), jnp.float32) for x in (A, B))
    found = np.asarray(pl.emulate(split_product, "bfloat16")(A, B), float)
    size = np.abs(np.asarray(A, float)) @ np.abs(np.asarray(B, float))
    # each of 6 products of 4 terms, and their sums
    assert np.all(np.abs(found - np.asarray(A, float) @ np.asarray(B, float)) <= 16 * 2.0**-8 * size)


@pytest.mark.parametrize("wrong", [{"passes": 0}, {"levels": 0}, {"passes": -1}])
def test_no_passes_or_levels_are_misuse(wrong):
    with pytest.raises(ValueError, match="given; at least 1 of each is wanted"):
        refined(jnp.eye(3), **wrong)
