"""Updates of rank one in exact numbers: the target is proved, and every textbook's recursion meets it."""

from fractions import Fraction as Q
from typing import NamedTuple

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery, truth
from precond_lab.preconditioners import kronecker, rank_one
from precond_lab.preconditioners.rank_one import mkor
from precond_lab.truth.rank_one import (
    RECURSIONS,
    Status,
    accumulated,
    closed_forms,
    factorizations,
    rank_one_inverse,
    rank_one_inverses,
    recurred,
    reference,
)
from precond_lab.truth.rank_one.factorizations import context_of, inverse, scalars

N, DIGITS = 4, 60
EXACT = mpmath.mpf(10) ** -45  # to which mpmath's numbers of 60 digits have to agree: 15 digits for rounding and kappa
WEIGHTS = {
    "an average": (Q(9, 10), None),
    "an average in binary": (0.95, None),
    "a sum": (1, 1),
    "anything": (Q(2, 3), Q(5, 7)),
}
INVERSES = [name for name, definition in RECURSIONS.items() if definition.accumulates]


def integers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape)


def positive_definite(seed: int, n: int = N) -> np.ndarray:
    G = integers(seed, n, n)
    return G @ G.T + np.eye(n, dtype=int)


def naive(C0, V, beta, alpha) -> np.ndarray:
    """The definition, by loops over rationals."""
    C = scalars(C0)
    C = np.diag(C) + 0 * np.outer(C, C) if C.ndim == 1 else C
    beta, alpha = Q(beta), 1 - Q(beta) if alpha is None else Q(alpha)
    for item in V:
        C = beta * C
        for v in np.atleast_2d(scalars(item)):
            C = C + alpha * np.outer(v, v)
    return C


def distance(X, Y):
    """The largest difference of entries, relative to the largest entry."""
    context = context_of(100)
    X, Y = scalars(X, context), scalars(Y, context)
    return max(abs(X - Y).ravel()) / max(abs(Y).ravel())


# The target


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_accumulated_matrix_is_its_definition(weights):
    beta, alpha = WEIGHTS[weights]
    for C0 in (positive_definite(1), [Q(1, 3), 2, 5, 7], np.float32([0.1, 0.2, 0.3, 0.4])):
        for V in (integers(2, 5, N), np.random.default_rng(3).standard_normal((3, 2, N))):
            assert (accumulated(C0, V, beta, alpha) == naive(C0, V, beta, alpha)).all()


def test_inputs_are_taken_bit_by_bit():
    V = jnp.asarray([[0.1, 0.2]], jnp.bfloat16)
    third = mpmath.mpf(1) / 3
    C = accumulated([third, 1], V, np.float32(0.98), third)
    assert C[0, 0] == Q(float(np.float32(0.98))) * Q(*third.as_integer_ratio()) + Q(*third.as_integer_ratio()) * (
        Q(float(V[0, 0])) ** 2
    )


def test_matrices_on_the_way_are_those_of_the_first_steps():
    C0, V = positive_definite(4), integers(5, 6, N)
    matrices = accumulated(C0, V, Q(3, 4), every=2)
    found = rank_one_inverses(C0, V, Q(3, 4), every=2, digits=30)
    assert len(matrices) == len(found) == 3
    for k, (C, certified) in enumerate(zip(matrices, found, strict=True), 1):
        assert (accumulated(C0, V[: 2 * k], Q(3, 4)) == C).all()
        assert distance(certified.value, inverse(C)) < 1e-30
    assert (accumulated(C0, V[:0], Q(3, 4)) == C0).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_inverse_is_within_its_radius_of_the_rational_one(weights):
    beta, alpha = WEIGHTS[weights]
    for seed in range(4):
        C0, V = positive_definite(seed), integers(seed + 100, 7, N)
        certified = rank_one_inverse(C0, V, beta, alpha, digits=20)
        exact = inverse(accumulated(C0, V, beta, alpha))
        assert certified.status is Status.CERTIFIED
        assert certified.relative <= 1e-20
        assert (certified.value == certified.value.T).all()
        error = scalars(certified.value) - exact
        radius = Q(*map(int, certified.radius.as_integer_ratio()))
        assert (error @ error.T).trace() <= N * radius**2  # |E|_F^2 <= n |E|_2^2


def test_the_radius_holds_against_a_second_precision():
    # Ill-conditioned by winding up: 0.9^400 of the first matrix is left in half of the directions.
    V = gallery.STREAMS["lattice"](400, 16, seed=2)
    coarse, fine = (rank_one_inverse(np.ones(16), V, 0.9, digits=digits) for digits in (15, 70))
    assert coarse.status is fine.status is Status.CERTIFIED
    with mpmath.workdps(200):
        assert max(abs(coarse.value - fine.value).ravel()) <= coarse.radius + fine.radius
        # The relative bound, in the order of Loewner: -r F <= X - F <= r F, checked on the diagonal.
        difference = abs(np.diag(coarse.value) - np.diag(fine.value))
        assert all(difference <= (coarse.relative + 2 * fine.relative) * np.diag(fine.value))
    assert max(fine.value.diagonal()) > 0.9**-390 / 16


def test_a_radius_that_is_too_small_would_be_seen():
    V = gallery.STREAMS["rotated"](20, 3, condition=1e6, seed=1)
    coarse, fine = (rank_one_inverse(np.ones(3), V, 0.9, digits=digits) for digits in (10, 60))
    with mpmath.workdps(100):
        error = max(abs(coarse.value - fine.value).ravel())
        assert 0 < error <= coarse.radius


@pytest.mark.parametrize(
    ("C0", "V", "alpha", "status"),
    [
        ([1, 1], [[1, 0]], -1, Status.SINGULAR),
        ([1, 1], [[1, 0]], -2, Status.NOT_POSITIVE_DEFINITE),
        ([0, 0, 0], [[1, 2, 3], [1, 1, 1]], 1, Status.SINGULAR),
        (np.ones(6), np.ones((3, 6)), -0.5, Status.NOT_POSITIVE_DEFINITE),
        # of which no ball tells the second leading minor from zero
        (scalars([[1, 1, 0], [1, 1, 1], [0, 1, 1]]) / 3, np.zeros((1, 3)), 1, Status.NOT_POSITIVE_DEFINITE),
        (scalars([[1, 1], [1, 1]]) / 3, np.zeros((1, 2)), 1, Status.SINGULAR),
        ([1, np.inf], [[1, 0]], 1, Status.NOT_FINITE),
        ([1, 1], [[1, np.nan]], 1, Status.NOT_FINITE),
        ([1, 1], [[1, 1]], np.inf, Status.NOT_FINITE),
    ],
)
def test_a_matrix_without_an_inverse_is_reported(C0, V, alpha, status):
    for certified in [rank_one_inverse(C0, V, 1, alpha), *rank_one_inverses(C0, V, 1, alpha, every=len(V))]:
        assert certified.status is status
        assert all(mpmath.isnan(x) for x in certified.value.ravel())
        assert certified.value.shape == (len(C0), len(C0))
        assert certified.radius == certified.relative == mpmath.inf


def test_every_status_has_its_prose():
    assert len({status.prose for status in Status}) == len(Status)


def test_precision_grows_as_far_as_it_must_and_no_farther(monkeypatch):
    C0 = scalars([[1, 1], [1, 1]])
    C0[1, 1] += Q(1, 2**3000)
    empty = np.zeros((0, 2))
    certified = rank_one_inverse(C0, empty, 1, 1)
    assert certified.status is Status.CERTIFIED
    assert distance(certified.value, inverse(C0)) < 1e-50
    monkeypatch.setattr(reference, "_LIMIT", 64)
    assert rank_one_inverse(C0, empty, 1, 1).status is Status.UNAVAILABLE


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[1, 2], [3, 4]], [[1, 1]], 1, 1), {}, "not symmetric"),
        (([[1, 2, 3]], [[1, 1]], 1, 1), {}, "C0 has shape"),
        (([1, 1], [[1, 1, 1]], 1, 1), {}, "V has shape"),
        (([1, 1], [1, 1], 1, 1), {}, "V has shape"),
        ((3, [[1, 1]], 1, 1), {}, "C0 has shape"),
        (([], np.ones((3, 0)), 1, 1), {}, "V has shape"),
        (([1, 1], [[1, 1]], -1, 1), {}, "beta is -1"),
        (([1, 1], [[1, 1]], [1, 1], 1), {}, "each is a number"),
        (([1, 1], np.ones((3, 0, 2)), 1, 1), {}, "V has shape"),
        (([1, 1], [[1, 1]], 1, 1), {"digits": 0}, "digits asked for"),
    ],
)
def test_wrong_arguments_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        rank_one_inverse(*arguments, **options)
    if not options:
        with pytest.raises(ValueError, match=message):
            accumulated(*arguments)


def test_other_wrong_arguments_are_refused():
    for call in (accumulated, rank_one_inverses):
        for every in (0, 2, -1):
            with pytest.raises(ValueError, match="divisor"):
                call([1, 1], np.ones((3, 2)), 1, 1, every=every)
    with pytest.raises(ValueError, match="infinity or a NaN"):
        accumulated([1, 1], [[1, np.inf]], 1, 1)
    for C0 in ([1j, 1], np.eye(2) * 1j):
        with pytest.raises(TypeError):
            accumulated(C0, [[1, 1]], 1, 1)


# The recursions


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", INVERSES)
def test_every_recursion_is_the_inverse_of_what_is_accumulated(name, weights):
    beta, alpha = WEIGHTS[weights]
    C0, V = positive_definite(6), integers(7, 7, N)
    exact = inverse(accumulated(C0, V, beta, alpha))
    if RECURSIONS[name].roots:
        assert distance(recurred(name, C0, V, beta, alpha, digits=DIGITS), exact) < EXACT
    else:
        assert (recurred(name, C0, V, beta, alpha) == exact).all()
        assert (
            distance(recurred(name, np.ones(N), V, beta, alpha, digits=DIGITS), inverse(naive([1] * N, V, beta, alpha)))
            < EXACT
        )


def test_woodbury_takes_several_vectors_at_once():
    C0, V = positive_definite(8), integers(9, 3, 2, N)
    assert (recurred("woodbury", C0, V, Q(4, 5)) == inverse(accumulated(C0, V, Q(4, 5)))).all()


def test_downdates_undo_updates():
    C0, v = positive_definite(10), integers(11, 1, N)
    C = accumulated(C0, v, 1, 1)
    for name in ("ldl", "outer", "gain", "woodbury"):
        assert (recurred(name, C, v, 1, -1) == inverse(scalars(C0))).all()


def test_the_rules_of_mkor():
    # By hand: J = [[2, 1/2], [1/2, 1]], j = (1, 2), gamma = 19/20, so that j^T J j = 8.
    C = inverse(scalars([[2, Q(1, 2)], [Q(1, 2), 1]]))
    printed = recurred("mkor_printed", C, [[1, 2]], Q(19, 20))
    s = np.array([1, 2]) @ printed @ np.array([1, 2])
    assert s == Q(19, 20) * 8 + Q(1, 20) / (Q(19, 20) ** 2 * (1 + Q(19, 400) * 8)) * 64
    assert s == Q(1266542, 124545)
    assert recurred("outer", C, [[1, 2]], Q(19, 20)).tolist() == [[Q(100, 57), Q(40, 171)], [Q(40, 171), Q(415, 513)]]
    released = recurred("mkor_released", C, [[1, 2]], Q(19, 20))
    blended = Q(19, 20) * inverse(C) + Q(1, 20) * factorizations.identity(C)
    assert (inverse(released) == inverse(blended) + np.outer([1, 2], [1, 2])).all()


def test_a_recursion_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="unknown recursion"):
        recurred("kalman", [1], [[1]], 1, 1)
    with pytest.raises(TypeError, match="square roots"):
        recurred("potter", [1], [[1]], 1, 1)
    with pytest.raises(ValueError, match="finite"):
        recurred("gain", [1], [[np.nan]], 1, 1)
    for beta, alpha in ((0, 1), (-1, 1), (1, 0), (1, None)):
        with pytest.raises(ValueError, match="must be positive"):
            recurred("gain", [1], [[1]], beta, alpha)


# Programs, evaluated with many digits


PROGRAMS = {**rank_one.METHODS, "mkor_printed": mkor.printed, "mkor_released": mkor.released}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_their_recursions_without_rounding(name):
    method = PROGRAMS[name]
    C0, V, beta = scalars(positive_definite(12, 3)), scalars(integers(13, 4, 3)), scalars(Q(7, 8))

    def program(C0, V, beta):
        return method.inverse(rank_one.run(method, method.start(C0), V, beta)[0])

    P = pl.evaluate(program, C0, V, beta, digits=DIGITS)
    if name in RECURSIONS:
        assert distance(P, recurred(name, C0, V, beta, digits=DIGITS)) < EXACT
    if name in rank_one.METHODS:
        assert distance(P, rank_one_inverse(C0, V, Q(7, 8), digits=DIGITS).value) < EXACT


# Factorizations


def test_factorizations_are_exact():
    A = scalars(positive_definite(14, 6))
    L, d = factorizations.ldl(A)
    assert (L * d @ L.T == A).all()
    assert (np.tril(L) == L).all()
    assert (np.diag(L) == 1).all()
    U, d = factorizations.udu(A)
    assert (U * d @ U.T == A).all()
    assert (np.triu(U) == U).all()
    assert (np.diag(U) == 1).all()
    assert (A @ inverse(A) == np.eye(6, dtype=int)).all()
    F = factorizations.cholesky(scalars(A, context_of(DIGITS)))
    assert distance(F @ F.T, A) < EXACT
    assert (np.tril(F) == F).all()
    assert (np.diag(F) > 0).all()
    assert factorizations.floats(A).tolist() == positive_definite(14, 6).tolist()


def test_solving_pivots_and_reports_a_singular_matrix():
    A = scalars([[0, 1, 0], [0, 0, 2], [3, 0, 0]])
    assert (A @ factorizations.solve(A, A[:, :2]) == A @ factorizations.identity(A)[:, :2]).all()
    with pytest.raises(ZeroDivisionError):
        inverse(scalars([[1, 2], [2, 4]]))
    with pytest.raises(TypeError, match="square root of a Fraction"):
        factorizations.root(Q(4))


# Closed forms


def layer(seed: int, m: int = 2, n: int = 3):
    G, a, b = integers(seed, m, n), integers(seed + 1, n) + Q(1, 2), integers(seed + 2, m) + Q(1, 3)
    return scalars(G) / 4, a, b


def test_eva_by_hand():
    G = [[1, -2, 3], [0, Q(1, 2), -1]]
    P = closed_forms.eva(G, [1, 2, -1], [Q(1, 2), -1], Q(1, 10))
    assert (P * 38).tolist() == [[505, -510, 1015], [-250, -310, -130]]


@pytest.mark.parametrize("seed", range(5))
def test_closed_forms_satisfy_their_equations(seed):
    (G, a, b), gamma = layer(seed), Q(1, 10)
    P = closed_forms.eva(G, a, b, gamma)
    assert (np.outer(b, a) * (b @ P @ a) + gamma * P == G).all()
    assert (P * G).sum() * (gamma + a @ a * (b @ b)) >= (G * G).sum()
    F = closed_forms.eva_f(G, a, gamma)
    assert (F @ np.outer(a, a) + gamma * F == G).all()
    A, B = scalars(positive_definite(seed, 3)), scalars(positive_definite(seed + 50, 2))
    K = closed_forms.kfac(G, A, B, gamma, form="eigen")
    assert (B @ K @ A + gamma * K == G).all()
    assert (closed_forms.foof(G, A, 0) @ A == G).all()
    # Factored damping: B K A, with pi^{-1} B + pi A added by sqrt(gamma), is G again.
    K = closed_forms.kfac(G, A, B, gamma, digits=DIGITS)
    context = context_of(DIGITS)
    A, B, K = (scalars(x, context) for x in (A, B, K))
    pi = context.sqrt(A.trace() / 3 / (B.trace() / 2))
    shift = context.sqrt(scalars(gamma, context).item())
    assert distance(B @ K @ A + shift / pi * K @ A + pi * shift * B @ K + shift**2 * K, G) < EXACT


class Case(NamedTuple):
    """A layer, its factors, and a damping."""

    G: np.ndarray
    a: np.ndarray
    b: np.ndarray
    A: np.ndarray
    B: np.ndarray
    gamma: np.ndarray


def newton(c):
    """The point after two steps from a, with a and the first row of G for gradients."""
    method = rank_one.METHODS["outer"]
    state = rank_one.start_newton(method, c.a, c.gamma)
    for g in (c.a, c.G[0]):
        state = rank_one.newton_step(method, state, g, c.gamma)
    return state.x


def exact_newton(c):
    x, A = c.a, c.gamma * factorizations.identity(c.A)
    for g in (c.a, c.G[0]):
        x, A = closed_forms.online_newton(x, A, g, c.gamma)
    return x


def by_roots(c):
    return closed_forms.eva_s(c.G, c.gamma, form="root", p=4, digits=DIGITS)


CLOSED = {
    "eva": (lambda c: rank_one.eva(c.G, c.a, c.b, c.gamma), lambda c: closed_forms.eva(c.G, c.a, c.b, c.gamma)),
    "eva_split": (
        lambda c: rank_one.eva_split(c.G, c.a, c.b, c.gamma),
        lambda c: closed_forms.eva(c.G, c.a, c.b, c.gamma),
    ),
    "eva_f": (lambda c: rank_one.eva_f(c.G, c.a, None, c.gamma), lambda c: closed_forms.eva_f(c.G, c.a, c.gamma)),
    "eva_s": (
        lambda c: rank_one.eva_s(c.G, damping=c.gamma),
        lambda c: closed_forms.eva_s(c.G, c.gamma, form="sherman_morrison"),
    ),
    "eva_s by roots": (lambda c: rank_one.eva_s(c.G, damping=c.gamma, form="root", p=4), by_roots),
    "foof": (lambda c: kronecker.foof(c.G, c.A, c.gamma), lambda c: closed_forms.foof(c.G, c.A, c.gamma)),
    "kfac by inverses": (
        lambda c: kronecker.by_inverses(c.G, kronecker.Factors(c.A, c.B), c.gamma),
        lambda c: closed_forms.kfac(c.G, c.A, c.B, c.gamma, digits=DIGITS),
    ),
    "kfac by eigenvectors": (
        lambda c: kronecker.by_eigenvectors(c.G, kronecker.Factors(c.A, c.B), c.gamma),
        lambda c: closed_forms.kfac(c.G, c.A, c.B, c.gamma, form="eigen"),
    ),
    "online newton": (newton, exact_newton),
}


@pytest.mark.parametrize("name", CLOSED)
def test_programs_are_their_closed_forms_without_rounding(name):
    program, definition = CLOSED[name]
    factors = scalars(positive_definite(31, 3)), scalars(positive_definite(32, 2))
    case = Case(*layer(30), *factors, scalars(Q(1, 10)))
    assert distance(pl.evaluate(program, case, digits=DIGITS), definition(case)) < EXACT


def test_eva_s_in_both_forms():
    G, gamma = layer(20)[0], Q(1, 4)
    b, a = G.sum(axis=1) / 3, G.sum(axis=0) / 2
    assert (closed_forms.eva_s(G, gamma, form="sherman_morrison") == closed_forms.eva(G, a, b, gamma)).all()
    P = closed_forms.eva_s(G, gamma, form="root", p=2, digits=DIGITS)
    # Twice the square root is the inverse.
    context = context_of(DIGITS)
    left, right = (scalars(closed_forms.rank_one_root(x, gamma, 2, DIGITS), context) for x in (b, a))
    twice = left @ scalars(P, context) @ right
    B, A = (np.outer(x, x) + gamma * factorizations.identity(np.outer(x, x)) for x in (b, a))
    assert distance(twice, inverse(B) @ G @ inverse(A)) < EXACT
    for form, call in {"forms": closed_forms.eva_s, "eigenvalues": closed_forms.kfac}.items():
        with pytest.raises(ValueError, match="unknown form"):
            call(*((G, gamma) if call is closed_forms.eva_s else (G, [[1]], [[1]], gamma)), form=form)
    with pytest.raises(ValueError, match="no root"):
        closed_forms.rank_one_root([1, 0], 0)


def test_the_online_newton_step_and_its_projection():
    x, A = closed_forms.online_newton([1, 2], [[2, 0], [0, 1]], [1, 1], Q(1, 2))
    assert A.tolist() == [[3, 1], [1, 2]]
    assert x.tolist() == [1 - Q(2, 5), 2 - Q(4, 5)]
    context = context_of(DIGITS)
    z = scalars(closed_forms.projection(x, A, Q(1, 2), digits=DIGITS), context)
    assert abs(z @ z - context.mpf(1) / 4) < EXACT
    # Stationary: A (x - z) is a positive multiple of z.
    g = scalars(A, context) @ (scalars(x, context) - z)
    assert abs(g[0] * z[1] - g[1] * z[0]) < EXACT
    assert g @ z > 0
    assert distance(closed_forms.projection(x, A, 5), x) < EXACT


def test_the_target_is_at_the_front_door():
    assert truth.rank_one_inverse is rank_one_inverse
    assert truth.accumulated is accumulated
