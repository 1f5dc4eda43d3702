"""The table of methods, somebody else's roots in it, and roots beyond the range of their dtype."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.diagnosis.inverse_root_condition import derivative
from precond_lab.preconditioners import inverse_root as roots
from precond_lab.preconditioners.inverse_root import LIBRARY, METHODS, Result, Ridge, Setting, foreign, inverse_root
from precond_lab.preconditioners.inverse_root.solution import prepare

U = 2.0**-24
LAPACK = Setting(kernels=LIBRARY)


def exact(A, p):
    w, V = np.linalg.eigh(np.asarray(A, np.float64))
    return (V * w ** (-1 / p)) @ V.T


def named(r):
    return Result(int(r.result))


def traced(function):
    return str(jax.make_jaxpr(function)(jnp.eye(3)))


def test_a_name_calls_the_method_with_its_options():
    by_name = traced(lambda A: inverse_root(A, 2, method="eigen", policy="clamp", floor=2.0**-6))
    assert by_name == traced(lambda A: roots.eigen(A, 2, policy="clamp", floor=2.0**-6))
    assert by_name != traced(lambda A: roots.eigen(A, 2, policy="clamp", floor=2.0**-7))
    assert traced(lambda A: inverse_root(A, 3)) == traced(lambda A: roots.coupled_newton(A, 3))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"method 'eigenvalues' given; known are eigen, svd"):
        inverse_root(jnp.eye(2), 2, method="eigenvalues")
    with pytest.raises(TypeError, match="policy"):
        inverse_root(jnp.eye(2), 2, method="coupled_newton", policy="clamp")


def test_what_is_exported_is_there():
    assert all(hasattr(roots, name) for name in roots.__all__)
    own = {name for name, method in METHODS.items() if getattr(roots, name, None) is method}
    assert own == set(METHODS) - {"optax"}


@pytest.mark.slow
@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in {"newton", "chebyshev", "optax"}])
def test_every_method_is_as_good_as_the_condition_allows(method, p):
    n, kappa = 16, 1e4
    A = jnp.float32(gallery.spd(n, condition=kappa))
    r = inverse_root(A, p, method=method)
    F = exact(A, p)
    assert named(r) is Result.CONVERGED
    # a backward stable method has errors of n u in A, and of kappa / p times that in the root
    assert np.linalg.norm(r.root - F, 2) <= n * kappa / p * U * np.linalg.norm(F, 2)


# Foreign methods


def by_eigenvalues(A, p, *, shift=0.0):
    w, V = jnp.linalg.eigh(A)
    return (V * (w + shift) ** (-1 / p)) @ V.T, jnp.float32(0)


def test_a_foreign_root_is_judged_by_the_certificate():
    A = jnp.float32(gallery.spd(8, condition=100.0))
    method = foreign(by_eigenvalues)
    right, wrong = method(A, 2), method(A, 2, shift=1.0)
    assert named(right) is Result.CONVERGED
    assert named(wrong) is Result.STAGNATED
    assert named(method(-A, 2)) is Result.NOT_POSITIVE_DEFINITE
    assert jnp.array_equal(right.root, by_eigenvalues(A, 2)[0])
    for setting in (Setting(ridge=Ridge(1e-6)), Setting(size=4)):
        with pytest.raises(ValueError, match="a foreign function gets its matrix as it is"):
            method(A, 2, setting=setting)


def test_what_is_no_root_is_not_certified():
    A = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    unsymmetric = foreign(lambda A, p: jnp.linalg.inv(jnp.linalg.cholesky(A)))  # W^T W is the identity for it
    assert named(unsymmetric(A, 2)) is Result.STAGNATED
    unit = foreign(lambda A, p: jnp.eye(len(A)))
    assert named(unit(jnp.eye(2), 2)) is Result.CONVERGED
    assert named(unit(jnp.array([[1.0, jnp.nan], [0.0, 1.0]]), 2)) is Result.NOT_FINITE
    assert named(unit(jnp.array([[1.0, 0.5], [0.0, 1.0]]), 2)) is Result.ASYMMETRIC
    assert named(unit(jnp.zeros((2, 2)), 2)) is Result.ZERO_MATRIX
    assert named(foreign(lambda A, p: jnp.full_like(A, jnp.nan))(A, 2)) is Result.STAGNATED
    with pytest.raises(ValueError, match="whole numbers only"):
        unit(A, Fraction(3, 2))


def test_a_small_residual_of_a_large_p_bounds_nothing():
    short = foreign(lambda A, p: jnp.eye(2))
    r = short(jnp.diag(jnp.float32([1.0, 2.0**-20])), 64)  # the root of the second is 1.24
    assert float(r.residual) <= 2.0**-4
    assert named(r) is Result.STAGNATED


def test_a_residual_of_one_bounds_nothing_for_any_p():
    """(1 - t)^p vanishes beside one, and so does a power of a root that is too small."""
    for X in (jnp.zeros((1, 1)), jnp.full((1, 1), 0.5)):
        r = foreign(lambda A, p, X=X: X)(jnp.eye(1), 301, setting=LAPACK)
        assert float(r.residual) * 301 <= 1
        assert named(r) is Result.STAGNATED
    good = foreign(lambda A, p: A)(jnp.eye(1), 301, setting=LAPACK)
    assert named(good) is Result.CONVERGED


@pytest.mark.parametrize("p", [0, -2])
def test_a_p_that_is_not_positive_is_refused_as_an_array_too(p):
    with pytest.raises(ValueError, match="must be a positive integer"):
        inverse_root(jnp.eye(2), jnp.int32(p))


def test_narrow_dtypes_do_not_hide_asymmetry():
    A = jnp.eye(128, dtype=jnp.bfloat16).at[0, 1].set(0.9)
    assert named(prepare(A, Setting())) is Result.ASYMMETRIC


def test_optax_is_right_for_powers_of_two_alone_and_does_not_know_it():
    A = jnp.float32(gallery.spd(8, condition=100.0))
    for p in (2, 3):
        reported = float(roots.optax_root(A, p, ridge_epsilon=1e-12)[1])
        r = inverse_root(A, p, method="optax", ridge_epsilon=1e-12)
        assert reported < 1e-5
        assert named(r) is (Result.CONVERGED if p == 2 else Result.STAGNATED)


@pytest.mark.parametrize("p", [2**31, Fraction(1, 10**10), Fraction(10**10, 3), Fraction(1, 2**20 + 1)], ids=str)
def test_a_p_that_the_programs_cannot_hold_is_refused(p):
    with pytest.raises(ValueError, match=r"may be at most 2147483647, and a denominator 1048576"):
        inverse_root(jnp.eye(2), p, method="eigen")


def test_the_largest_p_are_taken():
    A = jnp.float32([[3e38]])
    for p in (2**31 - 1, Fraction(2**20 + 1, 2**20)):
        root = jax.jit(lambda A, p=p: inverse_root(A, p, method="eigen", setting=LAPACK).root)
        found = float(root(A)[0, 0])
        assert found == pytest.approx(float(A[0, 0]) ** (-1 / float(p)), rel=256 * U)  # of a logarithm up to 128


# Derivatives


@pytest.mark.slow
def test_derivatives_in_reverse_are_those_of_the_root():
    A, E = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 0.25], [0.25, -0.5]])
    exact_derivative = derivative(A, E, 4)
    A, E = jnp.float32(A), jnp.float32(E)

    def along(root):
        return lambda A: jnp.sum(root(A, 4, setting=LAPACK).root * E)

    reverse = {name: METHODS[name] for name in ("eigen", "svd", "refined", "tracked", "rational_minimax")}
    found = jax.jit(lambda A: {name: jax.grad(along(root))(A) for name, root in reverse.items()})(A)
    for gradient in found.values():
        np.testing.assert_allclose(gradient, exact_derivative, atol=32 * U)
    for name in ("coupled_newton", "newton_schulz", "minimax_polynomial", "schur_newton"):
        with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
            jax.eval_shape(jax.grad(along(METHODS[name])), A)


@pytest.mark.slow
def test_derivatives_where_eigenvalues_coincide():
    """Of x^{-1/4} I in the direction E: -E x^{-5/4} / 4. An eigen-decomposition has none."""
    E = jnp.float32([[1.0, 0.25], [0.25, -0.5]])

    def forward(name, setting):
        return jax.jvp(lambda A: METHODS[name](A, 4, setting=setting).root, (16 * jnp.eye(2),), (E,))[1]

    def all_of_them():
        right = {name: forward(name, LAPACK) for name in ("coupled_newton", "minimax_polynomial", "rational_minimax")}
        return right, forward("eigen", LAPACK), forward("eigen", Setting())

    right, nan, wrong = jax.jit(all_of_them)()
    for found in right.values():
        np.testing.assert_allclose(found, -np.asarray(E) / 128, atol=32 * U / 128)
    assert jnp.isnan(nan).any()
    assert jnp.isfinite(wrong).all()
    assert float(jnp.max(jnp.abs(wrong + E / 128))) > 1e-4


# Narrow dtypes


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_library_routines_take_narrow_dtypes(dtype):
    """Their factors are those of float32, rounded once; the rest of a method is in the dtype."""
    A = jnp.asarray(gallery.spd(8, condition=8.0, seed=1), dtype)
    wide = A.astype(jnp.float32)
    for kernel in (LIBRARY.cholesky, LIBRARY.eigh, LIBRARY.svd, LIBRARY.qr):
        for narrow, exact_factor in zip(jax.tree.leaves(kernel(A)), jax.tree.leaves(kernel(wide)), strict=True):
            assert narrow.dtype == dtype
            np.testing.assert_array_equal(narrow, exact_factor.astype(dtype))
    L = LIBRARY.cholesky(A)
    inverse = LIBRARY.invert_lower(L).astype(jnp.float32)
    u = float(jnp.finfo(dtype).eps) / 2
    np.testing.assert_allclose(L.astype(jnp.float32) @ inverse, jnp.eye(8), atol=8 * u)
    r = jax.jit(lambda A: inverse_root(A, 2, method="eigen", setting=LAPACK))(A)
    assert r.root.dtype == dtype
    assert named(r) is Result.CONVERGED
    X = np.asarray(r.root.astype(jnp.float32), float)
    assert np.linalg.norm(X - exact(wide, 2), 2) <= 4 * u * np.linalg.norm(exact(wide, 2), 2)


# Range


def test_a_root_beyond_the_range_of_its_dtype_is_reported():
    tiny = float(jnp.finfo(jnp.float32).tiny)
    compute = jax.jit(roots.eigen, static_argnums=1)
    for scale, result in ((1.0, Result.CONVERGED), (tiny, Result.CONVERGED), (2.0**127, Result.OUT_OF_RANGE)):
        assert named(compute(scale * jnp.eye(2), 1)) is result  # 1 / 2^127 is subnormal, and flushed on a CPU
        assert named(compute(scale * jnp.eye(2), 2)) is Result.CONVERGED


def test_every_result_is_explained():
    assert [int(member) for member in Result] == list(range(len(Result)))
    assert all(member.prose.endswith(".") for member in Result)
