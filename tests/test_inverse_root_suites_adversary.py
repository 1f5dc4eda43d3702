"""Matrices drawn to make a method claim a root that it does not have.

The laws are those of the documentation. With s = p times the residual, the error relative to the root in the 2-norm
is at most 1 - (1 - s)^{1/p}, where s is known up to the roundings of the products that it is formed of: the bound of
these is computed here from the matrices at hand. A method that says CONVERGED is held to that bound for its
tolerance, one that returns a residual to that for the residual; references are certified, or proofs that there is none.
"""

from math import inf
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_inverse_root_suites import QUICK, STATIC, TRACED, Case, U, roots, rounded

import precond_lab as pl
from precond_lab import gallery
from precond_lab.preconditioners.inverse_root import Result, Setting

SIZES = (1, 2, 3, 5, 17)
EXPONENTS = (*range(1, 10), 16)
MOST = 120
"""The largest power of two that a matrix is scaled by."""


def rotated(w, rng):
    Q = np.linalg.qr(rng.standard_normal((len(w), len(w))))[0]
    return (Q * w) @ Q.T


def logarithmic(n, kappa, rng):
    return rotated(kappa ** -rng.random(n), rng)


def clusters(n, kappa, rng):
    centers = kappa ** (-np.round(np.linspace(0, 2, n)) / 2)
    return rotated(centers * (1 + rng.uniform(-1, 1, n) * 10.0 ** -rng.integers(1, 8)), rng)


def repeated(n, kappa, rng):
    return rotated(np.append(1, rng.choice([1, kappa**-0.5, 1 / kappa], n - 1)), rng)


def one_small(n, kappa, rng):
    return rotated(np.append(np.ones(n - 1), 1 / kappa), rng)


def graded(n, kappa, rng):
    d = rng.integers(0, 21, n)
    return np.ldexp(logarithmic(n, min(kappa, 1e3), rng), -np.add.outer(d, d))


def block_scales(n, kappa, rng):
    if n < 6:
        return np.diag(10.0 ** rng.choice([-8, 0, 8], n))
    return gallery.block_scales(n, condition=min(kappa, 1e4), seed=int(rng.integers(2**31)))


def average(n, kappa, rng):
    steps, columns = int(rng.integers(2, 40)), int(rng.integers(1, 4))
    A = gallery.wishart_average(n, columns=columns, steps=steps, decay=0.9, seed=int(rng.integers(2**31)))
    return A + np.trace(A) / kappa * np.eye(n)


def nearly_singular(n, kappa, rng):
    """Of two rows, as near to singular as the format allows, among ones: where a condition of 1 / u is by design."""
    del kappa
    A = np.eye(max(n, 2))
    digits = int(rng.integers(12, 25))
    first, second, off = gallery.near_singular_triples(1, precision=digits, seed=int(rng.integers(2**31)))[0]
    A[:2, :2] = [[first, off], [off, second]]
    return A


FAMILIES = (logarithmic, clusters, repeated, one_small, graded, block_scales, average, nearly_singular)


class Attack(NamedTuple):
    """A matrix, its scale as a power of two to the p, and its certified root."""

    case: Case
    k: int
    reference: Any


def scale_within_range(A, p, rng):
    """A power of two to the p, by which no entry becomes subnormal, as devices flush these, nor infinite."""
    exponents = np.frexp(A[A != 0])[1]
    low, high = max(-MOST, -120 - exponents.min()), min(MOST, 120 - exponents.max())
    return int(rng.integers(-(-low // p), high // p + 1)) if low <= 0 <= high else 0


def attacks(seed, count, sizes=SIZES, exponents=EXPONENTS):
    """Four of ten are drawn with kappa u between 2^-9 and 2^3, where roots begin to be lost."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        family, n, p = FAMILIES[rng.integers(len(FAMILIES))], int(rng.choice(sizes)), int(rng.choice(exponents))
        kappa = 2.0 ** rng.uniform(15, 27) if rng.random() < 0.4 else 10.0 ** rng.uniform(0, 9)
        A = rounded(family(n, kappa, rng))
        reference = pl.truth.inverse_root(A, p, digits=20)
        label = f"attacks({seed}), number {i}: {family.__name__}, n = {len(A)}, p = {p}"
        yield Attack(Case(label, A, p), scale_within_range(A, p, rng), reference)


def hidden(X, A, p):
    """What roundings do to s = |G^T X^p G - I|_F at most, to first order, in whatever order sums are formed.

    |fl(BC) - BC|_F <= n u |B|_F |C|_F for a product, and so k n u |X|_F^k |G|_F for W = X^k G with k factors X; or
    n in the place of the excess of these norms over those in the 2-norm, since powers of a symmetric X have |X|_2^i.
    """
    X, G = np.asarray(X, float), np.linalg.cholesky(np.asarray(A, float))
    n, k, norm = len(A), p // 2, np.linalg.norm
    W = np.linalg.matrix_power(X, k) @ G
    # One product more than G takes with its correction.
    of_W = (k + 1) * n * U * min(norm(X) ** k * norm(G), n * norm(X, 2) ** k * norm(G, 2))
    if p % 2 == 0:
        return 2 * norm(W) * of_W + n * U * norm(W) ** 2
    Y = X @ W
    of_Y = norm(X) * of_W + n * U * norm(X) * norm(W)
    return norm(Y) * of_W + norm(W) * of_Y + n * U * norm(W) * norm(Y)


def largest_error(s, p):
    """Of a root with |G^T X^p G - I|_2 <= s."""
    return 1 - (1 - s) ** (1 / p) if s < 1 else inf


def relative_error(X, reference):
    """Of X - F formed in the digits of F."""
    difference = np.vectorize(float)(np.vectorize(float, otypes=[object])(X) - reference.value).astype(float)
    return np.linalg.norm(difference, 2) / np.linalg.norm(reference.value.astype(float), 2)


NO_ROOT = {Result.DIVERGED, Result.NOT_POSITIVE_DEFINITE, Result.OUT_OF_RANGE}
"""The results that say that what is returned may not be finite, of a matrix that is, and is not zero."""


def violations(attack, found):
    """The laws that a result breaks."""
    (_, A, p, *_), _, reference = attack
    result = Result(int(found.result))
    if not np.isfinite(found.root).all():
        return [] if result in NO_ROOT else [f"not finite, and {result.name}"]
    if reference.status.value != "certified":
        claims = result is Result.CONVERGED and reference.status.value == "not positive definite"
        return ["converged to the root of what is not positive definite"] if claims else []
    error, roundings = relative_error(found.root, reference), 4 * U
    s = hidden(found.root, A, p)
    wrong = []
    if result is Result.CONVERGED:
        allowed = largest_error(1 - max((1 - Setting().tolerance) ** p, Setting().tolerance) + s, p) + roundings
        wrong += [f"converged, with an error of {error:.3g} above {allowed:.3g}"] if error > allowed else []
    if np.isfinite(found.residual):
        allowed = largest_error(p * float(found.residual) + s, p) + roundings
        wrong += [f"a residual of {found.residual:.3g}, and an error of {error:.3g}"] if error > allowed else []
    return wrong


def says_something(attack, found):
    """Whether the law allows a root that has converged no more than half of it."""
    _, A, p, *_ = attack.case
    s = p * float(found.residual) + hidden(found.root, A, p)
    return largest_error(s, p) < 0.5


def same_but_for_the_scale(attack, found, scaled):
    """Bit by bit, but for elements that the scale makes subnormal; or too large for float32, and then it is said so."""
    expected = np.ldexp(found.root.astype(float), -attack.k)
    if np.isfinite(expected).all() and abs(expected).max() > np.finfo(np.float32).max:
        return scaled.result == Result.OUT_OF_RANGE
    normal = ~(abs(expected) < np.finfo(np.float32).tiny) | (expected == 0)
    bits = np.array_equal(scaled.root[normal], expected[normal], equal_nan=True)
    residuals = np.array_equal(scaled.residual, found.residual, equal_nan=True)
    return bits and residuals and scaled.steps == found.steps and scaled.result == found.result


def attacked(name, drawn, **options):
    found = roots(name, [attack.case for attack in drawn], **options)
    moved = [
        attack.case._replace(A=np.ldexp(attack.case.A, attack.case.p * attack.k).astype(np.float32)) for attack in drawn
    ]
    scaled = roots(name, moved, **options)
    wrong, converged, silent = [], 0, 0
    for attack, one, other in zip(drawn, found, scaled, strict=True):
        if one is None:
            continue
        converged += one.result == Result.CONVERGED
        silent += one.result == Result.CONVERGED and not says_something(attack, one)
        wrong += [(attack.case.label, law) for law in violations(attack, one)]
        if not same_but_for_the_scale(attack, one, other):
            wrong.append((attack.case.label, f"not the same at a scale of 2^{attack.case.p * attack.k}"))
    assert silent <= converged / 4
    return wrong, converged


@pytest.mark.parametrize("name", QUICK)
def test_a_root_that_is_said_to_be_right_is_right(name):
    drawn = list(attacks(1, 128))
    wrong, converged = attacked(name, drawn)
    assert not wrong
    assert converged > len(drawn) / 2
    assert sum(attack.reference.status.value == "certified" for attack in drawn) > len(drawn) * 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRACED, *STATIC])
def test_many_roots_that_are_said_to_be_right_are_right(name):
    wrong, converged = attacked(name, list(attacks(2, 512)))
    assert not wrong
    assert converged > 4  # even uncoupled Newton, and the methods of few exponents


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [("coupled_newton", 33), ("eigen", 33), ("refined", 65)])
def test_larger_roots_that_are_said_to_be_right_are_right(name, n):
    drawn = list(attacks(3, 24, sizes=(n - 2, n)))
    wrong, converged = attacked(name, drawn, n=n, places=24)
    assert not wrong
    assert converged > 4
