"""Inverse roots by decompositions, and by square roots before Newton's iteration."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY
from precond_lab.preconditioners.inverse_root.refined import refined
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.schur_newton import schur_newton, square_root
from precond_lab.preconditioners.inverse_root.solution import Setting
from precond_lab.preconditioners.inverse_root.spectral import POLICIES, eigen, first_order_root, svd
from precond_lab.preconditioners.inverse_root.tracking import tracked

U = 2.0**-24
N = 8
METHODS = {"eigen": eigen, "svd": svd, "tracked": tracked, "schur_newton": schur_newton, "refined": refined}
FAST = Setting(kernels=LIBRARY)  # compiles sooner
CONDITIONS = (1e2, 1e4, 1e6)
PS = (1, 2, 3, 4)


def rounded(A):
    A = np.asarray(A).astype(np.float32)
    return (A + np.swapaxes(A, -1, -2)) / 2


def exact(A, p):
    """The root of a float32 matrix: float64 is good for kappa 2^-53, far below every tolerance here."""
    w, V = np.linalg.eigh(np.asarray(A, float))
    return (V * w ** (-1 / float(p))) @ V.T


def error(X, F):
    return np.linalg.norm(np.asarray(X, float) - F, 2) / np.linalg.norm(F, 2)


CASES = [
    (rounded(gallery.spd(N, condition=condition, spectrum=spectrum, seed=7)), p, condition)
    for spectrum in ("geometric", "one_small", "one_large")  # the last two have repeated eigenvalues
    for condition in CONDITIONS
    for p in PS
]
G = np.random.default_rng(3).standard_normal((N, 3))
LOW_RANK = rounded(G @ G.T)
BASIS = np.linalg.qr(np.random.default_rng(2).standard_normal((N, N)))[0]
INDEFINITE = rounded((BASIS * ([-0.5] + [1.0] * (N - 1))) @ BASIS.T)
OUTCOMES = {
    "zero": (np.zeros((N, N)), {Result.ZERO_MATRIX}),
    "not finite": (np.where(np.eye(N) == 1, np.nan, 0.0), {Result.NOT_FINITE}),
    "infinite": (np.where(np.eye(N) == 1, np.inf, 0.0), {Result.NOT_FINITE}),
    "asymmetric": (np.eye(N) + np.eye(N, k=1), {Result.ASYMMETRIC}),
    "indefinite": (INDEFINITE, {Result.NOT_POSITIVE_DEFINITE, Result.DIVERGED}),
    # its small eigenvalues are roundings, of either sign
    "rank": (LOW_RANK, {Result.NOT_POSITIVE_DEFINITE, Result.STAGNATED, Result.DIVERGED}),
}


SLOW = {"svd", "schur_newton"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in METHODS],
)
def found(request):
    """All cases of a method go through one compiled program, with p an argument."""
    matrices = np.stack([A for A, _, _ in CASES] + [A for A, _ in OUTCOMES.values()]).astype(np.float32)
    ps = np.array([p for _, p, _ in CASES] + [2] * len(OUTCOMES))
    loops = request.param in {"eigen", "svd"}
    method = partial(METHODS[request.param], setting=Setting() if loops else FAST)
    run = jax.jit(jax.vmap(lambda A, p: method(A, p)))  # noqa: PLW0108, a keyword would not be batched
    return request.param, lambda k: jax.device_get(run(np.ldexp(matrices, (k * ps)[:, None, None]), ps))


def test_errors_are_within_the_condition_number(found):
    name, roots = found[0], found[1](0)
    # Decompositions and Cholesky's sums are backward stable; here, at n = 8, with errors of 2 u |A|_2. Each of the two
    # products of a congruence has one of n u |Q|_F |A|_F at most (Higham, section 3.5), and |Q|_F is sqrt(n). Square
    # roots double their errors with every squaring: 2^6 at most.
    own = {"schur_newton": 2**6}.get(name, 4)
    for i, (A, p, condition) in enumerate(CASES):
        products = 2 * N * math.sqrt(N) * np.linalg.norm(A) / np.linalg.norm(A, 2)
        backward = {"tracked": 2 + products, "refined": 0}.get(name, 2)
        assert error(roots.root[i], exact(A, p)) <= (backward * condition / p + own * N) * U, (name, p, condition)
        # at the largest condition number the residual may be above the tolerance
        assert roots.result[i] <= (Result.STAGNATED if condition == max(CONDITIONS) else Result.CONVERGED)
        np.testing.assert_array_equal(roots.root[i], roots.root[i].T)


def test_scaling_by_powers_of_two_changes_no_bit(found):
    _, run = found
    roots = run(0)
    for k in (-20, 7, 20):
        scaled = run(k)
        np.testing.assert_array_equal(np.ldexp(scaled.root, k), roots.root)
        np.testing.assert_array_equal(scaled.residual, roots.residual)
        np.testing.assert_array_equal(scaled.result, roots.result)


def test_every_hopeless_case_has_its_result(found):
    name, roots = found[0], found[1](0)
    for i, (case, (_, wanted)) in enumerate(OUTCOMES.items()):
        assert Result(int(roots.result[len(CASES) + i])) in wanted, (name, case)


def test_an_order_of_one():
    run = jax.jit(lambda A: {name: method(A, 4, setting=FAST)[:2] for name, method in METHODS.items()})
    for name, (X, result) in run(jnp.array([[16.0]])).items():
        assert result == Result.CONVERGED, name
        assert abs(X.item() - 0.5) <= 2.0**6 * U, name


@pytest.mark.slow
def test_padding_is_zero_and_changes_nothing():
    A = rounded(gallery.spd(5, condition=30.0, seed=1)) / 8
    padded = jnp.array(np.pad(A, (0, N - 5), constant_values=7.0))
    run = jax.jit(lambda A, size: {k: f(A, 2, setting=FAST._replace(size=size)) for k, f in METHODS.items()})
    for name, (X, result, *_) in run(padded, jnp.int32(5)).items():
        assert result == Result.CONVERGED, name
        assert not np.any(np.asarray(X)[5:]), name
        assert error(X[:5, :5], exact(A, 2)) <= (2 * 30 / 2 + 2.0**6 * N) * U, name


def test_a_floor_is_relative_to_the_matrix_without_its_padding():
    B = jnp.diag(jnp.array([0.5, 0.5, 0.0125, 0.0]))  # 1/64 of 1/2 is below every eigenvalue, 1/64 of 1 is not
    results = jax.jit(
        jax.vmap(lambda size: eigen(B, 2, setting=FAST._replace(size=size), policy="clamp", floor=2.0**-6).result)
    )(jnp.array([3, 4]))
    assert results.tolist() == [Result.CONVERGED, Result.MODIFIED]


@pytest.mark.slow
def test_a_batch_is_its_members():
    A = jnp.array(rounded(np.stack([gallery.spd(N, condition=10.0, seed=seed) for seed in range(3)])))
    roots = lambda A: {name: method(A, 2, setting=FAST).root for name, method in METHODS.items()}  # noqa: E731
    many = jax.jit(jax.vmap(roots))(A)
    one = jax.jit(roots)
    for i in range(3):
        for name, X in one(A[i]).items():  # sums of products may be taken in another order
            assert error(many[name][i], np.asarray(X, float)) <= (2 * 10 + 2.0**6 * N) * U, name


# Policies

FLOOR = 2.0**-4
WANTED = {
    "none": None,
    "clamp": [0.5, 1, 1],
    "shift": [18**-0.25, 3**-0.25, 1],
    "cut": [0.5, 0, 0],
    "absolute": [0.5, 1, 1],
}


@pytest.mark.parametrize("relative", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_policies_by_hand(relative):
    assert set(WANTED) == set(POLICIES)
    options = {"setting": FAST, "floor": FLOOR if relative else 1.0, "relative": relative}
    run = jax.jit(lambda A: {policy: eigen(A, 4, policy=policy, **options)[:2] for policy in POLICIES})
    found = run(jnp.diag(jnp.array([16.0, 1.0, -1.0])))
    for policy, wanted in WANTED.items():
        X, result = found[policy]
        if wanted is None:
            assert result == Result.NOT_POSITIVE_DEFINITE
        else:
            assert result == Result.MODIFIED, policy
            np.testing.assert_allclose(X, np.diag(wanted), rtol=4 * U, atol=0, err_msg=policy)


@pytest.mark.parametrize("method", [eigen, svd])
@pytest.mark.parametrize("floor", [-1e-9, float("nan"), float("inf")])
def test_a_floor_that_is_none_is_misuse(method, floor):
    with pytest.raises(ValueError, match=r"a floor of .* given; it must be zero or positive"):
        method(jnp.eye(2), 2, policy="clamp", floor=floor)


def test_a_policy_that_changes_nothing_is_no_modification():
    run = jax.jit(
        lambda A: [
            f(A, 2, policy=policy, floor=FLOOR, setting=FAST).result for policy in POLICIES for f in (eigen, svd)
        ]
    )
    assert not any(run(jnp.diag(jnp.array([16.0, 4.0, 2.0]))))


def test_policies_act_on_eigenvalues():
    floors = {"shift": 1e-3, "clamp": 1e-3, "absolute": 1e-3, "cut": 1e-3}
    run = jax.jit(lambda A: {k: eigen(A, 2, policy=k, floor=x, setting=FAST)[:2] for k, x in floors.items()})
    found = run(jnp.array(INDEFINITE))
    w, V = np.linalg.eigh(INDEFINITE.astype(float))
    for policy, floor in floors.items():
        values, counts = (np.asarray(x) for x in POLICIES[policy](jnp.array(w, jnp.float32), jnp.float32(floor)))
        wanted = (V * np.where(counts, np.abs(values).astype(float) ** -0.5, 0)) @ V.T
        assert error(found[policy][0], wanted) <= 4 * N * U * np.max(values) / np.min(np.abs(values))
        assert found[policy][1] == Result.MODIFIED
    # relative to the largest magnitude: 16 of an A that is negative, and has no largest eigenvalue above the floor
    flipped = jax.jit(partial(eigen, p=4, policy="clamp", floor=FLOOR, setting=FAST))(jnp.diag(jnp.array([-16.0, -1])))
    np.testing.assert_allclose(flipped.root, np.eye(2), rtol=4 * U, atol=0)
    # clamped with a floor of zero, a zero is left: no success
    clamped = jax.jit(partial(eigen, policy="clamp", setting=FAST))(jnp.diag(jnp.array([1.0, -1.0])))
    assert clamped.result == Result.NOT_POSITIVE_DEFINITE


def test_the_root_of_a_matrix_of_low_rank_is_that_of_its_pseudo_inverse():
    w, V = np.linalg.eigh(LOW_RANK.astype(float))
    wanted = (V[:, -3:] * w[-3:] ** -0.5) @ V[:, -3:].T
    X, result, _, _ = jax.jit(partial(eigen, policy="cut", floor=1e-5, setting=FAST))(jnp.array(LOW_RANK))
    assert result == Result.MODIFIED
    # what is cut off, at 8 u, turns the space that is left by that over its smallest eigenvalue
    assert error(X, wanted) <= 4 * N * U * w[-1] / w[-3]


def test_wrong_policies_are_refused():
    with pytest.raises(ValueError, match="known are none, clamp"):
        eigen(jnp.eye(2), policy="hope")


# Fractions


def test_fractions():
    A, _, condition = CASES[len(PS)]
    ps = Fraction(4, 3), Fraction(1, 2), Fraction(7, 2)
    run = jax.jit(lambda A: [[method(A, p, setting=FAST) for p in (*ps, Fraction(4, 2), 2)] for method in (eigen, svd)])
    for *roots, two, same in run(jnp.array(A)):
        for p, (X, result, _, residual) in zip(ps, roots, strict=True):
            assert result == Result.CONVERGED
            assert np.isnan(residual)
            assert error(X, exact(A, p)) <= (2 * condition / float(p) + 4 * N / min(1, float(p))) * U
        np.testing.assert_array_equal(two.root, same.root)


def test_fractions_judge_themselves():
    half = Fraction(1, 2)
    blurred = LIBRARY._replace(
        eigh=lambda A: LIBRARY.eigh(A + 0.01 * jnp.eye(N)), svd=lambda A: LIBRARY.svd(A + 0.01 * jnp.eye(N))
    )
    run = jax.jit(
        lambda bad, A: [
            (method(bad, half, setting=FAST).result, method(A, half, setting=Setting(kernels=blurred)).result)
            for method in (eigen, svd)
        ]
    )
    for results in run(jnp.array(INDEFINITE), jnp.array(CASES[len(PS)][0])):
        assert results == (Result.NOT_POSITIVE_DEFINITE, Result.STAGNATED)


# What singular values hide


def test_singular_values_hide_a_negative_eigenvalue():
    X, result, _, _ = jax.jit(partial(svd, setting=FAST))(jnp.array(INDEFINITE))
    U_, _, Vt = LIBRARY.svd(jnp.array(INDEFINITE))
    assert np.min(np.sum(np.asarray(U_) * np.asarray(Vt).T, axis=0)) < 0  # U is not V
    assert np.all(np.isfinite(X))  # nothing in the root tells
    w = np.linalg.eigvals(np.linalg.matrix_power(np.asarray(X, float), 2) @ INDEFINITE)
    np.testing.assert_allclose(sorted(w.real), [-1] + [1] * (N - 1), atol=2.0**-16)
    assert result == Result.NOT_POSITIVE_DEFINITE  # the certificate does


# Pieces


def test_square_roots():
    A = rounded(gallery.spd(N, condition=1e4, seed=1))
    R = np.asarray(jax.jit(lambda A: square_root(A, LIBRARY).root)(jnp.array(A)), float)
    # backward: R^2 = A + 4 n u |A|_2
    assert np.linalg.norm(R @ R - A, 2) <= 4 * N * U * np.linalg.norm(A, 2) * np.sqrt(1e4)


def test_a_root_to_first_order_is_off_by_the_second():
    rng = np.random.default_rng(0)
    w = np.array([1e-4, 1.0001e-4, 2e-3, 0.5, 1.0])
    G = rng.standard_normal((5, 5))
    G = (G + G.T) * (1 - np.eye(5)) / 10
    ps = (1, 2, 5, Fraction(3, 2))
    with jax.enable_x64(True):
        run = jax.jit(lambda E: [first_order_root(jnp.array(w), E, p) for p in ps])
        for t in (1e-2, 1e-4):
            E = t * G * np.sqrt(np.outer(w, w))
            for p, X in zip(ps, run(jnp.array(E)), strict=True):
                assert error(X, exact(np.diag(w) + E, p)) <= t**2


# Other arithmetics


def test_evaluated_to_many_digits():
    A = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 3.0]])
    for name in ("eigen", "refined"):
        X = pl.evaluate(lambda A, name=name: METHODS[name](A, 2).root, A, digits=40)
        with mpmath.workdps(60):
            product = mpmath.matrix(X.tolist()) ** 2 * mpmath.matrix(A.tolist())
            assert mpmath.mnorm(product - mpmath.eye(3), 1) < mpmath.mpf(10) ** -36, name


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "name"), [(8, "bfloat16"), (11, "float16")])
def test_emulated(precision, name):
    A = gallery.spd(N, condition=8.0, seed=4)
    A = np.asarray(jnp.asarray(A).astype(name).astype(jnp.float32))
    A = (A + A.T) / 2
    for method in (eigen, svd, refined):
        X = pl.emulate(lambda A, method=method: method(A, 2).root, name)(jnp.array(A))
        # every entry of some n^2 / 2 rotations a sweep is rounded, and of the products
        assert error(X, exact(A, 2)) <= (2 * 8 / 2 + 4 * N) * 2.0**-precision, method.__name__
