"""Where roundings keep an iteration from converging, it comes to rest nevertheless."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery
from precond_lab.preconditioners.inverse_root import (
    LIBRARY,
    Result,
    Setting,
    coupled_newton,
    eigen,
    minimax_polynomial,
)
from precond_lab.preconditioners.inverse_root.iterations import Scheme, iterated, patience

LAPACK = Setting(kernels=LIBRARY)
E4M3 = pl.Arithmetic("float8_e4m3fn", accumulate="float32", overrides={"certificate": "float32"}, linalg="expand")


def exact_root(A, p):
    values, vectors = np.linalg.eigh(np.asarray(A, float))
    return (vectors * values ** (-1 / p)) @ vectors.T


def test_an_iteration_is_at_rest_when_its_patience_ends():
    """Errors among roundings, above HALF, whose root no longer grows; and such as rest while it does."""
    errors = jnp.array([4.0] + [0.8, 0.9, 0.85, 0.8] * 25)

    def steps(sizes, patience):
        table = jnp.array(sizes)
        scheme = Scheme(lambda k: k + 1, lambda k: errors[k], lambda k: table[k], patience)
        found = iterated(scheme, scheme, jnp.int32(0), 50, 0)
        assert found.root == sizes[1]  # that of the least error
        return Result(int(found.result)), int(found.steps)

    grown = [float(k) for k in range(1, 100)]
    assert steps([1.0] * 99, None) == (Result.CONVERGED, 50)
    assert steps([1.0] * 99, 7) == (Result.CONVERGED, 8)  # the last that gained was the first
    assert steps(grown, 7) == (Result.CONVERGED, 50)
    assert steps(grown[:20] + [20.0] * 79, 7) == (Result.CONVERGED, 26)


def test_patience_lasts_until_the_smallest_eigenvalue_shows():
    """Its part of X grows by 1 + 1/p a step, and stands alone at the maximum of n of them when it has grown by n."""
    for p in (1, 2, 3, 4, 8, 100, 2**10):
        for n in (1, 2, 3, 8, 64, 1000, 2**12):
            assert n < (1 + 1 / p) ** int(patience(n, p))


@pytest.mark.slow
@pytest.mark.parametrize("method", [coupled_newton, partial(minimax_polynomial, lower=2.0**-4, safety=1.5)])
def test_eight_bits_come_to_rest(method):
    """|M - I|_F stays above HALF, in e4m3; it is no use to wait for it, and no small eigenvalue is left behind."""
    rounded = [pl.round_to(jnp.float32(gallery.spd(32, condition=c, seed=3)), "float8_e4m3fn") for c in (4.0, 30.0)]
    found = jax.jit(jax.vmap(pl.emulate(partial(method, p=4, setting=LAPACK), E4M3)))(jnp.stack(rounded))
    for A, X, steps in zip(rounded, found.root, found.steps, strict=True):
        assert int(steps) <= 12 + 2 * patience(32, 4)
        F = exact_root(A, 4)
        assert np.linalg.norm(X - F, 2) < 0.25 * np.linalg.norm(F, 2)


def test_a_small_eigenvalue_is_waited_for():
    """Down to the end of the range, where |M - I|_F does not feel it for a hundred steps; and for the largest p."""
    A = jnp.diag(jnp.float32([1.0, 1.0, 2.0**-100]))
    found = jax.jit(lambda A, p: coupled_newton(A, p, setting=LAPACK, steps=200))(A, jnp.int32(2))
    assert int(found.steps) > 80
    np.testing.assert_allclose(np.diagonal(found.root), [1, 1, 2.0**50], rtol=2.0**-16)
    assert patience(2**12, 2**31 - 1) < 2**31
    assert int(patience(2**12, jnp.int32(2**31 - 1))) == patience(2**12, 2**31 - 1)


@pytest.mark.slow
def test_eigenvalues_in_eight_bits():
    """Jacobi's rotations of 16 x 16 matrices err by more than their smallest eigenvalue, a tenth of the largest one.

    So some are negative, and the root is none; with a policy it is finite.
    """
    A = jnp.stack([pl.round_to(jnp.float32(gallery.spd(16, condition=10.0, seed=s)), "float8_e4m3fn") for s in (0, 1)])
    plain = jax.jit(jax.vmap(pl.emulate(lambda A: eigen(A)[:2], "float8_e4m3fn")))(A)
    assert set(plain[1].tolist()) == {Result.NOT_POSITIVE_DEFINITE}
    assert not jnp.isfinite(plain[0]).all()
    clamped = pl.emulate(lambda A: eigen(A, policy="clamp", floor=2.0**-4)[:2], "float8_e4m3fn")
    X, result = jax.jit(jax.vmap(clamped))(A)
    assert set(result.tolist()) == {Result.MODIFIED}
    assert jnp.isfinite(X).all()
