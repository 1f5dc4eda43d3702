"""The table of methods, somebody else's roots in it, and roots beyond the range of their dtype."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.preconditioners import inverse_root as roots
from precond_lab.preconditioners.inverse_root import METHODS, Result, Ridge, Setting, foreign, inverse_root
from precond_lab.preconditioners.inverse_root.solution import prepare

U = 2.0**-24


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
