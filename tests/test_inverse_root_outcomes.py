"""Every iterative method on every kind of matrix: each has a stated outcome, and none is silent.

The laws run over ITERATIVE; a method that joins the table is held to all of them. Matrices for which a root is wanted
have a condition of 2 at most, where all of them are stable, the uncoupled ones too.
"""

from collections import defaultdict
from fractions import Fraction
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.preconditioners.inverse_root.batches import roots_of_stack, stacked, unstacked
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.higher_order import coupled_higher_order
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY, LOOPS
from precond_lab.preconditioners.inverse_root.newton import coupled_newton, newton
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.ridges import MEASURES, Ridge
from precond_lab.preconditioners.inverse_root.solution import Setting, prepare

f32 = np.float32
U = 2.0**-24
N = 4
ITERATIVE = {
    "coupled_newton": coupled_newton,
    "newton": newton,
    "coupled_higher_order": partial(coupled_higher_order, order=4),
}
NAMES = sorted(ITERATIVE)
KERNELS = defaultdict(lambda: LIBRARY, coupled_newton=LOOPS)
"""One method by the loops; the library compiles sooner."""


@cache
def compiled(name):
    """A method on a stack of matrices with an exponent and a size each: one program for all laws."""
    method = ITERATIVE[name]
    return jax.jit(jax.vmap(lambda A, p, size: method(A, p, setting=Setting(size=size, kernels=KERNELS[name]))))


def roots(name, matrices, p, sizes=N):
    """By one call; filled up to the same number of matrices in each, so that nothing is compiled twice."""
    count, places = len(matrices), 24
    A = np.broadcast_to(np.eye(N, dtype=f32), (places, N, N)).copy()
    A[:count] = matrices
    p, sizes = (np.resize(np.broadcast_to(x, count), places).astype(np.int32) for x in (p, sizes))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], compiled(name)(A, p, sizes))


def exact_root(A, p):
    """By float64 eigenvalues: of float32 matrices of condition 2, to 1e-15."""
    values, vectors = np.linalg.eigh(np.asarray(A, float))
    return (vectors * values ** (-1 / p)) @ vectors.T


def distance(X, F):
    return np.linalg.norm(np.asarray(X, float) - F, 2) / np.linalg.norm(F, 2)


def spd(seed, spectrum="arithmetic", n=N):
    return gallery.spd(n, condition=2.0, spectrum=spectrum, seed=seed).astype(f32)


LAPACK = Setting(kernels=LIBRARY)
Q = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]


def of_eigenvalues(*values):
    A = (Q * np.array(values)) @ Q.T
    return ((A + A.T) / 2).astype(f32)


def changed(i, j, value):
    A = spd(1)
    A[i, j] = value
    return A


GOOD = {
    "identity": np.eye(N, dtype=f32),
    "diagonal": np.diag([1, 1.5, 1.25, 2]).astype(f32),
    "repeated": of_eigenvalues(1, 1, 2, 2),
    "multiple of the identity": 3 * np.eye(N, dtype=f32),
    "asymmetric by rounding": changed(0, 1, spd(1)[0, 1] * f32(1 + 2 * U)),
}
REFUSED = {
    "zero": (np.zeros((N, N), f32), Result.ZERO_MATRIX),
    "asymmetric": (changed(0, 1, 0.9), Result.ASYMMETRIC),
    "skew": (np.triu(np.ones((N, N), f32), 1) - np.tril(np.ones((N, N), f32), -1), Result.ASYMMETRIC),
    "NaN": (changed(2, 3, np.nan), Result.NOT_FINITE),
    "NaN on the diagonal": (changed(2, 2, np.nan), Result.NOT_FINITE),
    "infinite": (changed(0, 0, np.inf), Result.NOT_FINITE),
    "minus infinity": (changed(3, 1, -np.inf), Result.NOT_FINITE),
    "all NaN": (np.full((N, N), np.nan, f32), Result.NOT_FINITE),
}
INDEFINITE = {
    "minus the identity": -np.eye(N, dtype=f32),
    "one negative": of_eigenvalues(1, 1, 1, -0.5),
    "of trace zero": np.diag([1, -1, 1, -1]).astype(f32),
    "zero diagonal": (np.ones((N, N)) - np.eye(N)).astype(f32),
    "rank one": np.ones((N, N), f32),
    "zero rows": np.diag([1, 1, 0, 0]).astype(f32),
    "slightly negative": of_eigenvalues(1, 1, 1, -(2.0**-10)),
}


@pytest.mark.parametrize("name", NAMES)
def test_good_matrices_have_roots(name):
    for p in (1, 2, 3, 4, 7):
        found = roots(name, list(GOOD.values()), p)
        assert (found.result == Result.CONVERGED).all()
        for A, X in zip(GOOD.values(), found.root, strict=True):
            # A few roundings a step, of which there are at most 8, in products of 4 terms.
            assert distance(X, exact_root((A + A.T) / 2, p)) < 8 * N * U
            np.testing.assert_array_equal(X, X.T)
        assert (found.residual < 8 * N * U).all()


@pytest.mark.parametrize("name", NAMES)
def test_refused_matrices_give_NaN_and_say_why(name):
    for p in (1, 2, 3):
        found = roots(name, [A for A, _ in REFUSED.values()], p)
        assert [Result(code) for code in found.result] == [why for _, why in REFUSED.values()]
        assert np.isnan(found.root).all()
        assert np.isnan(found.residual).all()


@pytest.mark.parametrize("name", NAMES)
def test_indefinite_and_singular_matrices_are_not_positive_definite(name):
    for p in (1, 2, 3, 4):
        found = roots(name, list(INDEFINITE.values()), p)
        assert (found.result == Result.NOT_POSITIVE_DEFINITE).all(), found.result
        assert np.isnan(found.residual).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_singular_but_for_rounding_does_not_count_as_converged(name):
    """Whether there is a Cholesky factor is for the roundings to say; either way the certificate gives the alarm."""
    G = np.random.default_rng(3).standard_normal((20, N, 2))
    found = roots(name, (G @ G.transpose(0, 2, 1)).astype(f32), 2)
    assert (found.result >= Result.STAGNATED).all()


@pytest.mark.parametrize("name", NAMES)
def test_scaling_by_a_power_of_two_scales_the_root_bitwise(name):
    """From 2^-100 to 2^100, which is 1e-30 to 1e30."""
    A = spd(5)
    for p in (1, 2, 4, 5):
        k = np.arange(-(100 // p), 100 // p + 1, max(200 // p // 16, 1))
        found = roots(name, A * (2.0 ** (p * k)).astype(f32)[:, None, None], p)
        plain = roots(name, [A], p)
        np.testing.assert_array_equal(found.root, plain.root * (2.0**-k).astype(f32)[:, None, None])
        np.testing.assert_array_equal(found.residual, np.repeat(plain.residual, len(k)))
        assert (found.result == Result.CONVERGED).all()


@pytest.mark.parametrize("name", NAMES)
def test_any_scaling_scales_the_root_up_to_rounding(name):
    A = spd(6)
    for p in (1, 2, 3, 4):
        scaled = np.stack([(A * f32(c)).astype(f32) for c in 10.0 ** np.arange(-30, 31, 3)])
        found = roots(name, scaled, p)
        assert (found.result == Result.CONVERGED).all()
        assert max(distance(X, exact_root(B, p)) for B, X in zip(scaled, found.root, strict=True)) < 8 * N * U


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_not_read_and_zero_in_the_root(name):
    for size in range(1, N + 1):
        A = np.full((N, N), np.nan, f32)
        A[:size, :size] = 3 * spd(7, n=N)[:size, :size]
        A[size:, :size] = 1e30
        found = roots(name, [A], 3, size)
        X = found.root[0]
        assert found.result[0] == Result.CONVERGED
        assert distance(X[:size, :size], exact_root(A[:size, :size], 3)) < 8 * N * U
        assert not X[size:].any()
        assert not X[:, size:].any()
    empty = roots(name, [np.full((N, N), np.nan, f32)], 3, 0)
    assert empty.result[0] == Result.CONVERGED
    assert not empty.root.any()


@pytest.mark.parametrize("name", NAMES)
def test_one_by_one(name):
    a = np.array([4.0, 0.0, -1.0, np.inf, 2.0**-100, 1e30, 1.0], f32)
    found = jax.jit(jax.vmap(partial(ITERATIVE[name], p=2, setting=LAPACK)))(a[:, None, None])
    converged = Result.CONVERGED
    assert found.result.tolist() == [
        converged, Result.ZERO_MATRIX, Result.NOT_POSITIVE_DEFINITE, Result.NOT_FINITE, converged, converged, converged,
    ]  # fmt: skip
    good = [0, 4, 5, 6]
    np.testing.assert_allclose(np.asarray(found.root, float)[good, 0, 0], a[good].astype(float) ** -0.5, rtol=8 * U)


@pytest.mark.parametrize("name", NAMES)
def test_misuse_is_refused(name):
    method, A = ITERATIVE[name], spd(0)
    for p in (0, -1, True, 0.5, Fraction(1, 2), "2", jnp.float32(2.0), jnp.array([2, 2])):
        with pytest.raises(ValueError, match=r"p = |given for p"):
            jax.eval_shape(partial(method, p=p), A)
    with pytest.raises(ValueError, match="square"):
        jax.eval_shape(method, A[:2])
    with pytest.raises(TypeError, match="floating-point"):
        jax.eval_shape(method, np.eye(3, dtype=int))
    with pytest.raises(ValueError, match="scaling 'none' given"):
        jax.eval_shape(partial(method, scaling="none"), A)
    for ridge in (Ridge(-1.0), Ridge(float("nan")), Ridge(float("inf")), Ridge(1.0, "nothing")):
        with pytest.raises(ValueError, match="ridge"):
            jax.eval_shape(partial(method, setting=Setting(ridge=ridge)), A)
    for amount in ("1e-6", None, 1j, True, [1.0], Fraction(1, 3)):
        with pytest.raises(TypeError, match=r"a ridge of .* given; it must be a real number"):
            jax.eval_shape(partial(method, setting=Setting(ridge=Ridge(amount))), A)
    with pytest.raises(ValueError, match="-1 steps given"):
        jax.eval_shape(partial(method, steps=-1), A)


def test_whole_numbers_of_any_type_are_exponents():
    for p in (2, np.int64(2), Fraction(4, 2), np.uint8(2)):
        assert type(whole_exponent(p)) is int
        assert whole_exponent(p) == 2
    traced = jnp.int32(2)
    assert whole_exponent(traced) is traced


def measured(name, A):
    """What a ridge is relative to, by float64."""
    return {
        "one": 1.0,
        "largest_entry": np.abs(A).max(),
        "largest_eigenvalue": np.linalg.eigvalsh(A).max(),
        "mean_eigenvalue": np.trace(A) / len(A),
        "trace": np.trace(A),
        "frobenius_norm": np.linalg.norm(A),
        "infinity_norm": np.linalg.norm(A, np.inf),
    }[name]


@pytest.mark.parametrize("relative_to", sorted(MEASURES))
def test_a_ridge_is_what_it_says_with_padding_and_at_every_scale(relative_to):
    """At scales from 1e-30 to 1e30; nothing overflows where the ridge is far above the matrix or below."""
    size = 3
    scales = 10.0 ** np.array([-30, -12, -3, 0, 3, 12, 30])
    matrices = np.zeros((len(scales), N, N), f32)
    matrices[:, :size, :size] = spd(1)[:size, :size] * scales[:, None, None]
    setting = Setting(Ridge(0.5, relative_to), size=size)
    problem = jax.jit(jax.vmap(lambda A: prepare(A, setting)))(matrices)
    assert not problem.result.any()
    damped = np.asarray(problem.B, float)[:, :size, :size] * 2.0 ** np.asarray(problem.exponent)[:, None, None]
    # The power iteration stops somewhat below the largest eigenvalue.
    tolerance = 1e-3 if relative_to == "largest_eigenvalue" else 8 * N * U
    for A, got in zip(matrices[:, :size, :size].astype(float), damped, strict=True):
        assert distance(got, A + 0.5 * measured(relative_to, A) * np.eye(size)) < tolerance


def test_an_absolute_ridge_makes_a_problem_of_the_zero_matrix():
    problem = prepare(np.zeros((2, 2), f32), Setting(Ridge(2.0**-80, "one")))
    assert problem.result == Result.CONVERGED
    assert problem.exponent == -79
    np.testing.assert_array_equal(problem.B, np.eye(2) / 2)


def test_a_stack_of_mixed_sizes_and_exponents():
    sizes, exponents = [3, 4, 1, 4, 2], [2, 4, 3, 1, 8]
    matrices = [spd(i)[:n, :n] for i, n in enumerate(sizes)]
    stack = stacked([jnp.asarray(A) for A in matrices], count=8)
    assert stack.matrices.shape == (8, N, N)
    found = jax.jit(partial(roots_of_stack, setting=LAPACK))(stack, jnp.array([*exponents, 1, 1, 1]))
    assert (found.result == int(Result.CONVERGED)).all()
    for A, p, X in zip(matrices, exponents, unstacked(found.root, sizes), strict=True):
        assert distance(X, exact_root(A, p)) < 8 * N * U
    assert not found.root[len(sizes) :].any()
    alone = roots("coupled_newton", [matrices[1]], 4)
    assert found.steps[1] == alone.steps[0]


@pytest.mark.slow
def test_a_stack_of_one_exponent():
    stack = stacked([jnp.asarray(spd(i)) for i in range(3)])
    found = jax.jit(partial(roots_of_stack, p=2, setting=LAPACK))(stack)
    for A, X in zip(stack.matrices, found.root, strict=True):
        assert distance(X, exact_root(A, 2)) < 8 * N * U


def test_stacks_refuse_what_does_not_fit():
    A = jnp.eye(3)
    for arguments in ({"size": 2}, {"count": 1}, {"size": 0}, {"count": 0}):
        with pytest.raises(ValueError, match="do not fit"):
            stacked([A, A], **arguments)
    with pytest.raises(ValueError, match="no matrices"):
        stacked([])
    stack = stacked([A, A])
    with pytest.raises(ValueError, match="2 matrices"):
        roots_of_stack(stack, jnp.array([1, 2, 3]))
    with pytest.raises(ValueError, match="size"):
        roots_of_stack(stack, 2, setting=Setting(size=2))
