"""The matrices of the public Shampoo test suites, given to every method here.

Matrices and figures are those of the test that each suite names; what is asked is theirs where that is right, and for
every case a theorem besides: a backward stable method has errors of n u |A|, and of kappa / p times that relative to
the root, in the 2-norm. Left out are tests of whole optimizers, of low-rank sketches and of polar factors, and the
stable difference of two scalar roots but for its end points.

All matrices of at most N rows go through one program per method, as leading blocks of padded ones.
"""

from collections.abc import Callable
from functools import cache
from itertools import product
from math import inf
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import scipy.stats

import precond_lab as pl
from precond_lab.preconditioners.inverse_root import LIBRARY, METHODS, InverseRoot, Result, Ridge, Setting
from precond_lab.preconditioners.inverse_root.newton import uncoupled_threshold

U = 2.0**-24
EPS = 2 * U
N = 17
PLACES = 64
TRACED = ("coupled_newton", "eigen", "svd", "refined", "tracked", "coupled_higher_order", "newton", "schur_newton")
STATIC = ("rational_minimax", "minimax_polynomial", "newton_schulz", "chebyshev")
QUICK = ("coupled_newton", "eigen")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*TRACED, *STATIC)]
"""All methods but the foreign one, which takes neither padding nor a ridge: it has a test of its own."""


class Case(NamedTuple):
    """A matrix whose root is wanted; the ridge is relative to the largest eigenvalue."""

    label: str
    A: np.ndarray
    p: int
    ridge: float = 0.0
    exact: Any = None


@cache
def compiled(name, p):
    """A method on a stack; case after case, since a loop over a whole batch waits for its slowest."""

    def root(case):
        A, exponent, size, ridge = case
        setting = Setting(Ridge(ridge, "largest_eigenvalue"), size=size, kernels=LIBRARY)
        return InverseRoot(*METHODS[name](A, exponent if p is None else p, setting=setting)[:4])

    return jax.jit(lambda *cases: jax.lax.map(root, cases))


EXPONENTS = {"rational_minimax": {2, 3, 4}, "minimax_polynomial": {2, 3, 4}, "newton_schulz": {2, 4}, "chebyshev": {2}}
"""Of the methods that are compiled for each p; a choice, but that there is no other of these for newton_schulz."""


def takes(name, p):
    return name in TRACED or p in EXPONENTS[name]


def roots(name, cases, places=PLACES, n=N) -> list[Any]:
    """By few programs: stacks are filled up to the same number of places; None where the method does not take p."""
    found: list[Any] = [None] * len(cases)
    groups = {}
    for i, case in enumerate(cases):
        if takes(name, case.p):
            groups.setdefault(None if name in TRACED else case.p, []).append(i)
    for p, members in groups.items():
        for start in range(0, len(members), places):
            chosen = members[start : start + places]
            A = np.broadcast_to(np.eye(n, dtype=np.float32), (places, n, n)).copy()
            exponents, sizes = np.ones(places, np.int32), np.full(places, n, np.int32)
            ridges = np.zeros(places, np.float32)
            for row, i in enumerate(chosen):
                size = len(cases[i].A)
                A[row] = 0
                A[row, :size, :size] = cases[i].A
                exponents[row], sizes[row], ridges[row] = cases[i].p, size, cases[i].ridge
            stack = jax.tree.map(np.asarray, compiled(name, p)(A, exponents, sizes, ridges))
            for row, i in enumerate(chosen):
                one = jax.tree.map(lambda leaf, row=row: leaf[row], stack)
                size = sizes[row]
                assert not one.root[size:].any(), f"{cases[i].label}: padding is not zero"
                assert not one.root[:, size:].any(), f"{cases[i].label}: padding is not zero"
                found[i] = one._replace(root=one.root[:size, :size])
    return found


def rounded(A):
    A = np.asarray(A, np.float32)
    return (A + A.T) / 2


@cache
def certified(stored, p, ridge):
    """The root of a float32 matrix with its ridge, and the condition number of that."""
    A = np.frombuffer(stored, np.float32).astype(float)
    A = A.reshape(2 * (round(len(A) ** 0.5),))
    w = np.linalg.eigvalsh(A)
    reference = pl.truth.inverse_root(A + ridge * w[-1] * np.eye(len(A)), p, digits=20)
    condition = (w[-1] + ridge * w[-1]) / (w[0] + ridge * w[-1]) if w[0] > -ridge * w[-1] else inf
    return (reference.value.astype(float) if reference.status.value == "certified" else None), condition


def truth(case) -> tuple[Any, float]:
    return certified(np.ascontiguousarray(case.A, np.float32).tobytes(), case.p, case.ridge)


def distance(X, F):
    if not np.isfinite(X).all():
        return inf
    return np.linalg.norm(np.asarray(X, float) - F, 2) / np.linalg.norm(F, 2)


def haar(n, rng):
    return scipy.stats.ortho_group.rvs(n, random_state=rng) if n > 1 else np.eye(1)


def rotated(w, Q):
    return (Q * w) @ Q.T


# What the suites ask. A check takes the case, what a method has found, the certified root, and its condition number.


def no_more(case, found, F, kappa):
    del case, found, F, kappa
    return True


def geometric():
    """Theirs: the largest |M - I|, as the iteration knows it, is below 0.1 for kappa < 1e7; ours bounds the error.

    For kappa >= 1e7 they promise nothing: see the law of honesty. Their ridge is below the unit roundoff beside the
    diagonal.
    """
    yield from geometric_spectra(range(2, 7))


def geometric_spectra(decades):
    rng = np.random.default_rng(1234)
    for e in decades:
        A = rounded(rotated((10.0**e) ** (-np.arange(16) / 15), haar(16, rng)))
        yield Case(f"kappa 1e{e}", A, 4, 1e-12)


def small_residual(case, found, F, kappa):
    del case, F, kappa
    return found.residual < 0.1


def scalars():
    """The end points of (w + a)^(-1/p) - (w + b)^(-1/p); each root is within half of what they allow a difference."""
    for p, a, w in product((2, 4, 6, 8), (1e-6, 1e-5, 0.0, 1.0), (1e-6, 1e-5, 1.0, 1e3)):
        yield Case(f"{w} + {a}, p = {p}", np.full((1, 1), w + a, np.float32), p, exact=np.full((1, 1), w + a))


def within_a_hundredth(case, found, F, kappa):
    del F, kappa
    return abs(found.root[0, 0] - float(case.exact[0, 0]) ** (-1 / case.p)) <= 0.5e-2


def powers_of_two():
    for p in range(2, 9):
        yield Case(f"2^{p}", np.full((1, 1), 2.0**p, np.float32), p, exact=np.full((1, 1), 0.5))
        corner = np.diag(np.array([4 + 0.4, 0.4, 0.4, 0.4], np.float32))
        yield Case(
            f"diag(4, 0, 0, 0) + 0.4, p = {p}", corner, p, exact=np.diag(np.float64(np.diag(corner)) ** (-1 / p))
        )


def ten_eps(case, found, F, kappa):
    """Theirs are absolute, of roots near one: of the largest element here."""
    del F, kappa
    return abs(found.root - case.exact).max() <= 10 * EPS * case.exact.max()


def grams():
    a = np.random.RandomState(42).random((11, 11)).astype(np.float32)
    A = a.T @ a
    for p in (2, 4, 8):
        yield Case(f"11 by 11, p = {p}", rounded(A + 1e-4 * np.linalg.eigvalsh(A)[-1] * np.eye(11)), p)
    a = np.random.default_rng(1234).standard_normal((5, 5))
    yield Case("5 by 5, p = 2", rounded(a.T @ a + 0.1 * np.eye(5)), 2)


def entries_within_a_hundredth(case, found, F, kappa):
    del case, kappa
    return abs(found.root - F).max() <= 1e-2


def blocks():
    """Scales in a batch that must not see each other; theirs within rtol 2e-5 and atol 1e-6 together."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    for p, Q, scale in product((2, 4, 6), (np.eye(2), turn), (1e-8, 1.0, 1e8)):
        yield Case(f"{scale}, p = {p}", rounded(rotated(scale * np.array([1.0, 4.0]), Q)), p)


def close_entries(case, found, F, kappa):
    del case, kappa
    return np.allclose(found.root, F, rtol=2e-5, atol=1e-6)


META = np.array([[1195.0, -944.0, -224.0], [-944.0, 746.0, 177.0], [-224.0, 177.0, 42.0]])
META_ROOT = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, -3.0], [1.0, -3.0, 18.0]])
"""Integers, and exact: META_ROOT^2 META = I; kappa = 6.8e5."""


def integers():
    """Theirs: entries within 0.05 + 1 %; for the small ones that is a seventh of what kappa u / p allows them."""
    for p, root in ((2, META_ROOT), (1, META_ROOT @ META_ROOT)):
        yield Case(f"3 by 3, p = {p}", META, p, exact=root)
        yield Case(f"diag(1, 4), p = {p}", np.diag([1.0, 4.0]), p, exact=np.diag([1.0, 4.0 ** (-1 / p)]))


def their_integers(case, found, F, kappa):
    del F, kappa
    return np.allclose(found.root, case.exact, rtol=0.01, atol=0.05)


PAIRS = [(a, b) for a, b in product((0.001, 0.01, 0.1, 1.0, 10.0, 100.0), repeat=2) if 2 * b <= a]


def tridiagonal(n, a, b, first, last):
    A = np.diag(np.full(n, a)) + np.diag(np.full(n - 1, b), 1) + np.diag(np.full(n - 1, b), -1)
    A[0, 0], A[-1, -1] = a + first, a + last
    return A


def toeplitz(n=10):
    for p in (1, 2, 4, 8):
        yield Case(f"identity, p = {p}", np.eye(n), p)
        for a, b in PAIRS:
            yield Case(f"({a}, {b}), p = {p}", tridiagonal(n, a, b, b, b), p)
            yield Case(f"({a}, {b}) less {b}, p = {p}", tridiagonal(n, a, b, -b, 0), p)


def power_is_the_matrix(case, found, F, kappa):
    """Theirs: |X^-p - A| <= 1e-4 max(1, |A|_inf), absolute below one; ours is 1e-4 of A at every scale."""
    del F, kappa
    back = np.linalg.matrix_power(np.linalg.inv(found.root.astype(float)), case.p)
    return abs(back - case.A).max() <= (1e-6 if case.label[0] == "i" else 1e-4) * abs(case.A).max()


def near_identities():
    """Of Toeplitz(2, 1/4), whole batches of multiples of it, and a 2 by 2 matrix; the random one is theirs by form."""
    for n, scale in product((8, 16), (1, 2, 3)):
        yield Case(f"{scale} times, n = {n}", scale * tridiagonal(n, 2.0, 0.25, 0, 0), 2)
    yield Case("2 by 2", np.array([[2.0, 0.5], [0.5, 1.5]]), 2)
    x = np.random.default_rng(0).standard_normal((4, 4))
    yield Case("random", rounded(x @ x.T + 0.1 * np.eye(4)), 2)


def whitens(case, found, F, kappa):
    """Theirs: X A X = I and X^-2 = A, both within 2e-4; of A relative to it."""
    X, A = found.root.astype(float), case.A
    white = abs(X @ A @ X - np.eye(len(A))).max() <= 2e-4
    return white and power_is_the_matrix(case._replace(label="within"), found, F, kappa)


def random_spectrum(n, least, rng):
    w = least ** rng.random(n)
    w[0], w[1] = least, 1
    return w


def random_svd(n):
    for p, scale in product((1, 2, 3, 4, 6, 8), (1e-6, 1.0, 1e6)):
        rng = np.random.RandomState(42)
        for k in range(1, 7):
            haar(n, rng)  # the other factor, which they draw too
            Q = haar(n, rng)
            w = random_spectrum(n, 10.0**-k, rng) * scale
            yield Case(f"1e{k}, scale {scale}, p = {p}", rounded(rotated(w, Q)), p, exact=rotated(w ** (-1 / p), Q))


def three_eps_condition(case, found, F, kappa):
    """Theirs, the one bound of all suites that knows the condition; from the matrix before it was rounded."""
    del F
    return distance(found.root, case.exact) <= 3 * kappa / case.p * EPS


def diagonals():
    w = random_spectrum(16, EPS, np.random.RandomState(37))
    for p in (1, 2, 3, 4, 6, 8):
        yield Case(f"diagonal, p = {p}", np.diag(w), p)


def every_entry(case, found, F, kappa):
    """Theirs: though kappa is 8e6, each entry is right, to 300 eps, and the others are zero."""
    del case, kappa
    off = found.root - np.diag(np.diag(found.root))
    return not off.any() and (abs(np.diag(found.root) - np.diag(F)) <= 300 * EPS * np.diag(F)).all()


class Suite(NamedTuple):
    """The cases of a test, what it asks, and of whom this is not asked, with the reason."""

    cases: Callable
    asked: Callable = no_more
    but: tuple = ()


SQUARINGS = "schur_newton"  # what 6 square roots and as many squarings lose is above a bound of a few eps
TURNED = "tracked"  # its basis is not that of the diagonal, up to roundings
SUITES = {
    "google-research/precondition and optax: test_matrix_inverse_root": Suite(geometric, small_residual),
    "precondition: test_pth_root_difference": Suite(scalars, within_a_hundredth),
    "precondition: LowRankInverseRootTest.test_dynamic_exponent, test_nonzero_epsilon": Suite(
        powers_of_two, ten_eps, (SQUARINGS,)
    ),
    "precondition: test_lobpcg_preconditioning, LowRankInverseRootTest.test_basic": Suite(
        grams, entries_within_a_hundredth
    ),
    "precondition: BlockLocalCutoffTest.test_inverse_roots_match_independent_matrices": Suite(blocks, close_entries),
    "facebookresearch/optimizers: test_matrix_inverse_root": Suite(integers, their_integers),
    "optimizers: test_eigen_root_identity, _tridiagonal, test_newton_root_inverse_identity, _tridiagonal": Suite(
        toeplitz, power_is_the_matrix, (SQUARINGS,)
    ),
    "NVIDIA-NeMo/Emerging-Optimizers: test_scaled_cans_inverse_root_accuracy": Suite(near_identities, whitens),
    "google/init2winit: test_random_matrix, test_singular_matrix": Suite(
        lambda: random_svd(2), three_eps_condition, (SQUARINGS,)
    ),
    "init2winit: test_random_diagonal_matrix": Suite(diagonals, every_entry, (TURNED,)),
}
ACCURATE = NAMES[:-1]
"""Without chebyshev: the expansion of degree 64 has an error of its own."""


def stable(name, p, kappa):
    return name != "newton" or kappa < uncoupled_threshold(p)


def attainable(n, p, kappa, name=""):
    """Backward stability, and 4 roundings of relative size n u: of the last steps, and of the factor 2^(-e/p)."""
    return n * U * (kappa / p + 4) + (2**6 * U if name == SQUARINGS else 0)


@pytest.mark.parametrize("name", ACCURATE)
def test_what_the_suites_ask(name):
    rows = [(source, suite, case) for source, suite in SUITES.items() for case in suite.cases()]
    found = roots(name, [case for *_, case in rows])
    wrong, judged = [], set()
    for (source, suite, case), one in zip(rows, found, strict=True):
        F, kappa = truth(case)
        if one is None or not stable(name, case.p, kappa):
            continue
        judged.add(source)
        right = one.result == Result.CONVERGED and distance(one.root, F) <= attainable(len(F), case.p, kappa, name)
        if not right or not (name in suite.but or suite.asked(case, one, F, kappa)):
            wrong.append((source, case.label, Result(int(one.result)).name, distance(one.root, F)))
    assert not wrong
    assert len(judged) >= (4 if name == "newton" else len(SUITES))


def symmetrized(*rows):
    A = np.array(rows)
    return (A + A.T) / 2


def refusals():
    """Matrices without a root, as the suites have them, and what is said of each."""
    for n in (2, N):
        # init2winit test_zero_matrix: theirs is finite there, and the root of nothing.
        yield Case(f"zero, n = {n}", np.zeros((n, n)), 4), Result.ZERO_MATRIX
    # optimizers test_eigen_root_nonfull_rank: not symmetric, and so not of rank one for a method that reads a triangle;
    # theirs is infinite throughout, and what they ask of the pseudo-inverse is that a real tensor be real.
    yield Case("rank one but not symmetric", np.array([[2.0, 1.0], [2.0, 1.0]]), 2), Result.ASYMMETRIC
    yield Case("the same with a ridge", np.array([[2.0, 1.0], [2.0, 1.0]]), 2, 1e-6), Result.ASYMMETRIC
    yield Case("symmetrized", symmetrized([2.0, 1.0], [2.0, 1.0]), 2), Result.NOT_POSITIVE_DEFINITE
    # optimizers test_test_perturbation_before_computation_with_disportionate_epsilon: theirs asks for finite numbers.
    large = np.array([[3e4, 3e4, -1e5], [4e4, 4e4, -1e5], [-1e5, -1e5, 4e5]]) + 1e-5 * np.eye(3)
    yield Case("entries of 1e5", large, 2), Result.ASYMMETRIC
    yield Case("entries of 1e5, symmetrized", symmetrized(*large), 2), Result.NOT_POSITIVE_DEFINITE
    # optimizers test_matrix_inverse_root_higher_order_tf32_preservation: theirs raises.
    yield Case("an infinity", np.diag([1.0, np.inf]), 2), Result.NOT_FINITE
    yield Case("a NaN", np.array([[1.0, np.nan], [np.nan, 1.0]]), 2), Result.NOT_FINITE
    yield Case("minus the identity", -np.eye(5), 4), Result.NOT_POSITIVE_DEFINITE
    yield Case("a negative number", -np.ones((1, 1)), 4), Result.NOT_POSITIVE_DEFINITE


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_root_is_said_to_have_none(name):
    rows = [(case._replace(p=p), why) for case, why in refusals() for p in (case.p, 3)]
    found = roots(name, [case for case, _ in rows])
    told = [(case.label, Result(int(one.result)), why) for (case, why), one in zip(rows, found, strict=True) if one]
    assert [row for row in told if row[1] is not row[2]] == []
    for (_, why), one in zip(rows, found, strict=True):
        if one and why is not Result.NOT_POSITIVE_DEFINITE:
            assert np.isnan(one.root).all()
            assert np.isnan(one.residual)


def hard():
    """Matrices of which it is for the roundings to say whether they have a root; the scales are no difficulty."""
    for e in range(7, 12):
        for p in (1, 2, 4, 8):
            (case,) = geometric_spectra([e])
            yield case._replace(label=f"kappa 1e{e}, p = {p}", p=p)
    yield Case("of rank one", np.array([[4.0, 2.0], [2.0, 1.0]]), 2)
    v = np.random.default_rng(5).standard_normal((8, 1))
    for p in (2, 3, 4):
        yield Case(f"rank one, 1e-12 added, p = {p}", rounded(v @ v.T + 1e-12 * np.eye(8)), p)
        yield Case(f"rank one, with a ridge of 1e-6, p = {p}", rounded(v @ v.T), p, 1e-6)
        scaled = np.kron(np.diag([1e-8, 1.0, 1e8]), [[2.0, 1.0], [1.0, 2.0]])
        yield Case(f"blocks of a matrix, p = {p}", scaled, p)


@pytest.mark.parametrize("name", NAMES)
def test_no_suite_has_a_matrix_whose_root_is_wrong_and_converged(name):
    """The tolerance, and with it the law, is that of the setting; roundings of the certificate are below 1 % here.

    They are of the order of n p u sqrt(kappa), as the certificate says, and kappa is below 1e9 wherever it converges.
    """
    cases = list(hard())
    tolerance = Setting().tolerance + 0.01
    for case, one in zip(cases, roots(name, cases), strict=True):
        F, _ = truth(case)
        if one and one.result == Result.CONVERGED:
            assert F is not None, case.label
            assert distance(one.root, F) <= tolerance, case.label
