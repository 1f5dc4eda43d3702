"""Inverse roots from an earlier basis."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.solution import Setting
from precond_lab.preconditioners.inverse_root.tracking import FINISHES, TRACKERS, tracked, warm_started_newton

U = 2.0**-24
N = 8
FAST = Setting(kernels=LIBRARY)


def rounded(A):
    A = np.asarray(A).astype(np.float32)
    return (A + A.T) / 2


def exact(A, p):
    w, V = np.linalg.eigh(np.asarray(A, float))
    return (V * w ** (-1 / p)) @ V.T


def error(X, F):
    return np.linalg.norm(np.asarray(X, float) - F) / np.linalg.norm(F)


def turned(A, angle, seed=0):
    """A in a basis that is turned by about so much."""
    K = np.random.default_rng(seed).standard_normal(A.shape)
    K = angle * (K - K.T) / np.linalg.norm(K - K.T, 2)
    I = np.eye(len(A))
    Q = np.linalg.solve(I - K / 2, I + K / 2)
    return rounded(Q @ np.asarray(A, float) @ Q.T)


BEFORE = rounded(gallery.spd(N, condition=1e3, seed=1))
AFTER = turned(BEFORE, 1e-2)
BASIS = np.linalg.eigh(BEFORE.astype(float))[1].astype(np.float32)[:, ::-1]


@pytest.fixture(scope="module")
def found():
    def run(A, basis):
        return {
            (tracker, finish, steps): tracked(
                A, 4, basis=basis, setting=FAST, tracker=tracker, finish=finish, steps=steps
            )
            for tracker in TRACKERS
            for finish in FINISHES
            for steps in ((1, 3) if finish == "quotients" else (1,))
        }

    return jax.device_get(jax.jit(run)(jnp.array(AFTER), jnp.array(BASIS)))


def test_a_congruence_is_a_correct_warm_start(found):
    # The start is far from eigenvectors, the root right all the same: two products at n u each, and the decomposition.
    for tracker in TRACKERS:
        r = found[tracker, "eigen", 1]
        assert error(r.root, exact(AFTER, 4)) <= (4 * 1e3 / 4 + 4 * N) * U
        assert r.result == Result.CONVERGED
        assert r.apart > 1e-5
        C = r.basis.astype(float).T @ AFTER @ r.basis
        np.testing.assert_allclose(C, np.diag(np.diag(C)), rtol=0, atol=4 * N * U)


def test_quotients_alone_give_no_root(found):
    for tracker in TRACKERS:
        wrong = error(found[tracker, "quotients", 1].root, exact(AFTER, 4))
        better = error(found[tracker, "quotients", 3].root, exact(AFTER, 4))
        corrected = error(found[tracker, "first_order", 1].root, exact(AFTER, 4))
        assert wrong > 1e-4  # of the first order in what is off the diagonal
        assert better < wrong  # linear convergence
        assert corrected < wrong / 10  # of the second order


def test_trackers_agree_but_for_signs_and_order(found):
    power, algorithm = (found[tracker, "quotients", 1] for tracker in TRACKERS)
    assert power.apart > 0
    # the ratio of neighboring eigenvalues, 1e3^(1/7), magnifies roundings by kappa at most
    np.testing.assert_allclose(power.root, algorithm.root, rtol=0, atol=N * 1e3 * U * np.max(power.root))
    for r in (power, algorithm):
        np.testing.assert_allclose(r.basis.T @ r.basis, np.eye(N), rtol=0, atol=4 * N * U)


def test_tracking_converges_to_eigenvectors():
    run = jax.jit(lambda A: tracked(A, 2, setting=FAST, steps=60, finish="quotients"))
    A = jnp.array(rounded(gallery.spd(N, condition=1e3, seed=2)))
    r = run(A)  # from the identity
    assert r.apart <= 4 * N * U
    assert error(r.root, exact(A, 2)) <= (4 * 1e3 / 2 + 4 * N) * U
    assert (int(r.steps), int(r.result)) == (60, Result.CONVERGED)


@pytest.mark.slow
def test_the_basis_of_a_hopeless_matrix_is_orthonormal():
    run = jax.jit(lambda A: tracked(A, 2, basis=jnp.array(BASIS), setting=FAST))
    for A, wanted in ((jnp.zeros((N, N)), Result.ZERO_MATRIX), (jnp.full((N, N), jnp.nan), Result.NOT_FINITE)):
        r = run(A)
        assert r.result == wanted
        assert np.all(np.isnan(r.root))
        np.testing.assert_allclose(r.basis.T @ r.basis, np.eye(N), rtol=0, atol=4 * N * U)


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="known are power, qr_algorithm, and quotients"):
        tracked(jnp.eye(2), tracker="nose")


def test_a_naive_warm_start_converges_to_a_wrong_matrix():
    """Three quick steps to a matrix that is off by as much as A has changed, where the commuting start is right."""
    n, condition = 32, 1e2
    before = gallery.spd(n, condition=condition, seed=0)
    G = np.random.default_rng(1).standard_normal((n, n))
    after = rounded(before + 1e-3 * (G + G.T) / np.linalg.norm(G + G.T, 2) * np.linalg.eigvalsh(before)[0] * 10)
    run = jax.jit(lambda A, X: warm_started_newton(A, 4, previous=X, setting=FAST))
    cold = (2 * condition / 4 + 4 * n) * U

    wrong = run(jnp.array(after), jnp.array(exact(before, 4), jnp.float32))
    assert wrong.steps <= 4
    assert error(wrong.root, exact(after, 4)) > 10 * cold
    assert wrong.residual > 10 * cold  # the certificate tells

    same = run(jnp.array(after), jnp.array(exact(after, 4), jnp.float32))
    assert error(same.root, exact(after, 4)) <= cold
    identity = run(jnp.array(after), jnp.eye(n) / 1.1)
    assert error(identity.root, exact(after, 4)) <= cold

    # A change that is large beside the smallest eigenvalue: eigenvalues of M_0 above p + 1.
    ill = gallery.spd(n, condition=1e6, seed=0)
    far = run(jnp.array(turned(ill, 1e-1)), jnp.array(exact(ill, 4), jnp.float32))
    assert far.result != Result.CONVERGED


def test_misuse():
    A = jnp.eye(3)
    with pytest.raises(ValueError, match="steps = -2 given"):
        tracked(A, steps=-2)
    for wrong in (jnp.eye(2), jnp.ones(3), jnp.ones((3, 2))):
        with pytest.raises(ValueError, match=r"a basis of shape .* given for a matrix of shape \(3, 3\)"):
            tracked(A, basis=wrong)
        with pytest.raises(ValueError, match=r"a previous root of shape .* given"):
            warm_started_newton(A, previous=wrong)
    with pytest.raises(TypeError, match="a basis of bfloat16 given for a matrix of float32"):
        tracked(A, basis=A.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="takes whole numbers only"):
        tracked(A, Fraction(3, 2))  # pyright: ignore[reportArgumentType]
