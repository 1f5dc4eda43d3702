"""Inverse roots by rational minimax functions."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY
from precond_lab.preconditioners.inverse_root.rational import rational_minimax, rational_schedule
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.solution import Setting

N = 8
EPS = 2.0**-23
FAST = Setting(kernels=LIBRARY)

METHODS = {
    "factors 4": (4, partial(rational_minimax, setting=FAST)),
    "factors 3": (3, partial(rational_minimax, setting=FAST, poles=3, constant=False)),
    "coupled 3": (3, partial(rational_minimax, setting=FAST, form="coupled", lower=2.0**-40)),
}
OTHERS = {
    "factors 2": (2, partial(rational_minimax, setting=FAST)),
    "factors 1": (1, partial(rational_minimax, setting=FAST)),
    "factors 6": (6, partial(rational_minimax, setting=FAST)),
    "factors 8": (8, partial(rational_minimax, setting=FAST, poles=1)),
    "coupled 1": (1, partial(rational_minimax, setting=FAST, form="coupled")),
    "coupled 2": (2, partial(rational_minimax, setting=FAST, form="coupled", constant=False)),
    "coupled 4": (4, partial(rational_minimax, setting=FAST, form="coupled")),
}
CASES = np.array(
    [
        gallery.spd(N, condition=kappa, spectrum=s, seed=17)
        for s in ("geometric", "arithmetic", "one_small", "one_large")
        for kappa in (1e1, 1e3, 1e5)
    ]
    + [np.eye(N), np.diag([1.0, 1, 1, 1, 4, 4, 4, 4]), 2.0**-60 * gallery.spd(N, condition=30.0, seed=1)],
    dtype=np.float32,
)


@cache
def compiled(name):
    p, method = (METHODS | OTHERS)[name]
    return p, jax.jit(jax.vmap(partial(method, p=p)))


def true_root(A, p):
    """In float64: its error, some kappa 2^-53, is nothing to that of float32."""
    w, V = np.linalg.eigh(np.float64(A))
    return (V * w ** (-1 / p)) @ V.T


def condition(A):
    w = np.linalg.eigvalsh(np.float64(A))
    return w[-1] / w[0]


def error(X, A, p):
    F = true_root(A, p)
    return np.linalg.norm(np.float64(X) - F, 2) / np.linalg.norm(F, 2)


def bound(A, eps=EPS):
    """3 kappa eps, and 8 eps for a matrix near an identity.

    A step is backward stable, so that each of three at most costs kappa u / p and a constant; the published test of
    this family of methods asks the same.
    """
    return (3 * condition(A) + 8) * eps


@pytest.mark.parametrize("name", [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_error_is_that_of_backward_stable_steps(name):
    p, roots = compiled(name)
    found = roots(jnp.asarray(CASES))
    for A, X, result in zip(CASES, np.asarray(found.root), found.result, strict=True):
        assert error(X, A, p) <= bound(A)
        assert (X == X.T).all()
        # The coupled form is not as accurate in directions of large eigenvalues, which the residual counts.
        assert result == Result.CONVERGED or ("coupled" in name and condition(A) > 1e4)


@pytest.mark.parametrize("name", METHODS)
def test_powers_of_two_change_no_bit(name):
    p, roots = compiled(name)
    k = np.resize([-9, -1, 3, 12], len(CASES))[:, None, None]
    plain = np.asarray(roots(jnp.asarray(CASES)).root)
    scaled = np.asarray(roots(jnp.asarray(CASES * np.float32(2.0) ** (p * k).astype(np.float32))).root)
    np.testing.assert_array_equal(scaled, plain * np.float32(2.0) ** (-k).astype(np.float32))


@pytest.mark.parametrize("name", ["factors 4", "coupled 3"])
def test_outcomes(name):
    _, roots = compiled(name)
    Q = np.linalg.qr(np.random.default_rng(11).standard_normal((N, N)))[0]
    indefinite = (Q * np.r_[-0.5, np.linspace(0.1, 1, N - 1)]) @ Q.T
    asked = {
        Result.ZERO_MATRIX: np.zeros((N, N)),
        Result.NOT_FINITE: np.where(np.eye(N) == 1, np.inf, 0.0),
        Result.ASYMMETRIC: np.triu(np.ones((N, N))),
        Result.NOT_POSITIVE_DEFINITE: (indefinite + indefinite.T) / 2,
    }
    singular = np.diag(np.r_[0.0, np.ones(N - 1)])
    batch = np.array([*asked.values(), singular, *[np.eye(N)] * (len(CASES) - 5)], np.float32)
    found = roots(jnp.asarray(batch))
    assert found.result[:5].tolist() == [*map(int, asked), int(Result.NOT_POSITIVE_DEFINITE)]
    assert np.isnan(found.root[:3]).all()
    assert (np.asarray(found.result[5:]) == Result.CONVERGED).all()


@pytest.mark.slow
def test_a_batch_is_a_map():
    p, roots = compiled("factors 3")
    alone = jax.jit(partial(METHODS["factors 3"][1], p=p))
    together = roots(jnp.asarray(CASES))
    for i, A in enumerate(CASES):
        one = alone(jnp.asarray(A))
        assert np.linalg.norm(np.float64(one.root) - np.float64(together.root[i]), 2) <= 2 * bound(A) * np.linalg.norm(
            true_root(A, p), 2
        )
        assert one.result == together.result[i]


def test_a_number():
    found = jax.jit(partial(rational_minimax, p=1, setting=FAST))(jnp.array([[0.3]], jnp.float32))
    assert float(found.root[0, 0]) == pytest.approx(1 / 0.3, rel=8 * EPS)


@pytest.mark.slow
def test_eigenvalues_below_the_lower_bound_are_seen():
    """They are not brought to their root, and the residual says so."""
    A = jnp.asarray(gallery.spd(N, condition=1e4, seed=1), jnp.float32)
    found = jax.jit(partial(rational_minimax, p=2, lower=0.1, accuracy=1e-2, setting=FAST))(A)
    assert found.result == Result.STAGNATED


@pytest.mark.slow
@pytest.mark.parametrize(("form", "p"), [("symmetric_factors", 4), ("coupled", 3)])
def test_with_fifty_digits(form, p):
    """The program is its functions with their binary64 coefficients, composed on the eigenvalues, and no more."""
    A = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 1.0]])
    found = pl.evaluate(partial(rational_minimax, p=p, form=form, lower=2.0**-10, accuracy=1e-6), A)
    functions = rational_schedule(p, 2, 2.0**-10, accuracy=1e-6)
    assert len(functions) == int(found.steps) == 2
    X = mpmath.matrix(found.root.tolist())
    with mpmath.workdps(50):
        w, V = mpmath.eigsy(mpmath.matrix(A.tolist()))
        exact = [x ** (mpmath.mpf(-1) / p) for x in w]
        composed = [mpmath.mpf(8) ** (mpmath.mpf(-1) / p)] * len(w)  # 8 is above the infinity norm of A, 4.25
        for i, x in enumerate(w):
            m = x / 8
            for h in functions:
                value = h(m)
                composed[i], m = composed[i] * value, m * value**p
        assert mpmath.mnorm(X - V * mpmath.diag(composed) * V.T) < mpmath.mpf(10) ** -45
        off = max(abs(x - y) for x, y in zip(composed, exact, strict=True)) / max(exact)
    assert off <= functions[-1].error + 2.0**-48  # of 10 rounded coefficients, that solve a system


@pytest.mark.slow
@pytest.mark.parametrize(("arithmetic", "u"), [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
def test_emulated(arithmetic, u):
    A = np.asarray(pl.round_to(jnp.asarray(gallery.spd(N, condition=8.0, seed=5), jnp.float32), arithmetic))
    found = pl.emulate(partial(rational_minimax, p=2, lower=2.0**-6, accuracy=u), arithmetic)(A)
    assert error(found.root, A, 2) <= bound(A, 2 * u)


@pytest.mark.slow
def test_precision_is_needed_early():
    """One step of two in float32 and the other in bfloat16 is better than both in bfloat16."""
    A = np.asarray(pl.round_to(jnp.asarray(gallery.spd(N, condition=200.0, seed=6), jnp.float32), "bfloat16"))
    errors = []
    for early in ("float32", "bfloat16"):
        arithmetic = pl.Arithmetic("bfloat16", overrides={"early": early})
        found = pl.emulate(partial(rational_minimax, p=2, lower=2.0**-12, accuracy=2.0**-8, switch=1), arithmetic)(A)
        errors.append(error(found.root, A, 2))
    assert errors[0] < errors[1] / 2


def test_misuse():
    A = jnp.eye(3)
    with pytest.raises(ValueError, match="the form 'stable' given"):
        rational_minimax(A, form="stable")
    with pytest.raises(ValueError, match="a traced p given"):
        jax.jit(lambda p: rational_minimax(A, p))(2)
    with pytest.raises(ValueError, match="0 poles"):
        rational_schedule(2, 0, 0.1)
    with pytest.raises(ValueError, match="the bound 'norm' given"):
        rational_minimax(A, bound="norm")
