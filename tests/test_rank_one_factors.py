"""Forms whose state is a factor: semidefinite whatever is rounded, downdates, overflow, the error of rotations."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners.rank_one import METHODS, Outcome, recursion, run
from precond_lab.preconditioners.rank_one.factored import givens

float32 = partial(np.asarray, dtype=np.float32)
U32, U64 = 2.0**-24, 2.0**-53
N, STEPS, CASES = 6, 60, 4
BETA = 0.9375
STORES = {
    "bfloat16": partial(pl.round_to, format="bfloat16"),
    "float16": partial(pl.round_to, format="float16"),
    "float8_e4m3fn": partial(pl.round_to, format="float8_e4m3fn"),
    "int8": partial(pl.round_blocks, q=pl.Integer(8, scale="tensor"), axis=None),
}
FACTORS = ("potter", "bierman_ud", "ldl", "information_cholesky")


def stream(kappa: float, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Rotated matrices C of condition kappa and vectors whose second moment they are."""
    draws = np.random.default_rng(int(kappa))
    C, V = [], []
    for seed in range(CASES):
        Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((N, N)))
        eigenvalues = np.geomspace(1, kappa, N)
        C.append(Q * eigenvalues @ Q.T)
        V.append(draws.standard_normal((steps, N)) * np.sqrt(eigenvalues) @ Q.T)
    return float32(C), float32(V)


@cache
def kept(name: str, kappa: float = 1e3) -> dict:
    """The states of a form in every kind of storage; one compiled program."""
    form = METHODS[name]
    C, V = stream(kappa)

    def program(C: Any, V: Any) -> dict:
        return {store: run(form, form.start(C), V, BETA, every=4, store=f)[1] for store, f in STORES.items()}

    return jax.jit(jax.vmap(program))(C, V)


def represented(name: str, state: Any) -> np.ndarray:
    """The matrix that a factor stands for, in binary64: C for the last two."""
    fields = {field: np.asarray(x, np.float64) for field, x in state._asdict().items()}
    if name == "potter":
        return fields["S"] @ fields["S"].swapaxes(-1, -2)
    if name == "information_cholesky":
        return fields["R"].swapaxes(-1, -2) @ fields["R"]
    T = np.eye(N) + fields["U" if name == "bierman_ud" else "L"]
    return (T * fields["d"][..., None, :]) @ T.swapaxes(-1, -2)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", FACTORS)
def test_factors_are_semidefinite_in_every_storage(name, store):
    state = kept(name)[store]
    A = represented(name, state)
    assert np.isfinite(A).all()
    if name in {"bierman_ud", "ldl"}:
        assert np.asarray(state.d >= 0).all()
    # What is semidefinite itself has eigenvalues of -4 n^2 u at least once it is formed and decomposed in binary64.
    smallest = np.linalg.eigvalsh(A)[..., 0]
    assert (smallest >= -4 * N**2 * U64 * np.linalg.norm(A, axis=(-2, -1))).all()


@pytest.mark.slow
def test_the_inverse_itself_is_not():
    smallest = np.linalg.eigvalsh(np.asarray(kept("symmetric")["bfloat16"].P, np.float64))[..., 0]
    assert (smallest < 0).any()


@pytest.mark.parametrize("name", FACTORS)
def test_triangles_and_diagonals_are_where_they_belong(name):
    for state in kept(name).values():
        if name == "bierman_ud":
            assert not np.tril(state.U).any()
        elif name == "ldl":
            assert not np.triu(state.L).any()
            assert not np.asarray(state.outcome).any()
        elif name == "information_cholesky":
            assert not np.tril(state.R, -1).any()
            assert (np.diagonal(state.R, axis1=-2, axis2=-1) >= 0).all()


ROTATION = 8
"""Roundings of a rotated element, to first order: of t, t t, 1 + t t, h, 1 / h or t / h, rho; a product, a sum."""


def test_rotations_are_backward_stable():
    # Higham, theorem 19.10: a sequence of m disjoint stages of rotations computes the exact factor of a matrix whose
    # columns are perturbed by gamma relative to their norm. Each row of R meets n rotations a step, and sqrt(beta),
    # sqrt(alpha) add two roundings. Perturbations decay as the columns do, as both are multiplied by sqrt(beta).
    form, (C, V) = METHODS["information_cholesky"], stream(1e3)
    R = np.asarray(jax.jit(jax.vmap(lambda C, V: run(form, form.start(C), V, BETA)[0].R))(C, V), np.float64)
    for i in range(CASES):
        want = C[i].astype(np.float64)
        for v in V[i].astype(np.float64):
            want = BETA * want + (1 - BETA) * np.outer(v, v)
        steps = min(STEPS, 1 / (1 - BETA)) + 1  # what was done longer ago has decayed
        norm = np.linalg.norm(want)
        assert np.linalg.norm(R[i].T @ R[i] - want) <= 2 * (ROTATION * N + 4) * steps * np.sqrt(N) * U32 * norm


@pytest.mark.parametrize("a", [0.0, 1e-30, -3.0, 1e30])
@pytest.mark.parametrize("b", [0.0, -1e-30, 4.0, -1e30])
def test_rotations_neither_overflow_nor_lose_what_is_small(a, b):
    c, s, rho = (float(x) for x in givens(jnp.float32(a), jnp.float32(b)))
    assert abs(c * c + s * s - 1) <= 2 * ROTATION * U32
    assert rho >= 0
    assert abs(rho - np.hypot(a, b)) <= ROTATION * U32 * np.hypot(a, b)
    assert abs(c * a + s * b - rho) <= 2 * ROTATION * U32 * max(abs(a), abs(b))
    assert np.signbit(s) == (b < 0)


def outcomes(name: str, C: Any, V: Any, alpha: float) -> Any:
    form = METHODS[name]
    return jax.jit(lambda C, V: run(form, form.start(C), V, 1.0, alpha)[0])(jnp.float32(C), jnp.float32(V))


MATRIX = np.diag([1.25, 1.0])
TAKEN, TOO_MUCH = [[0.5, 0.5]], [[1.0, 1.0]]  # with alpha = -1


def test_a_downdate_of_ldl_that_cannot_be_is_left_out_and_said():
    state = outcomes("ldl", MATRIX, TAKEN, -1.0)
    assert Outcome(int(state.outcome)) is Outcome.UPDATED
    assert represented_small(state) == [[1.0, -0.25], [-0.25, 0.75]]
    state = outcomes("ldl", MATRIX, [*TOO_MUCH, *TAKEN], -1.0)
    assert Outcome(int(state.outcome)) is Outcome.NOT_POSITIVE_DEFINITE
    assert "left out" in Outcome(int(state.outcome)).prose
    assert represented_small(state) == [[1.0, -0.25], [-0.25, 0.75]]
    form = METHODS["ldl"]
    assert int(form.start(jnp.float32([[1, 2], [2, 1]])).outcome) == Outcome.NOT_POSITIVE_DEFINITE
    assert int(outcomes("ldl", MATRIX, [[np.nan, 0.0]], 1.0).outcome) == Outcome.NOT_POSITIVE_DEFINITE


def represented_small(state: Any) -> list:
    L = jnp.eye(2) + state.L
    return ((L * state.d) @ L.T).tolist()


SIGNS_OF_BREAKDOWN = {
    "potter": lambda state: bool(jnp.isnan(state.S).any()),
    "woodbury": lambda state: bool(jnp.isnan(state.P).any()),
    "bierman_ud": lambda state: bool((state.d < 0).any()),
    "symmetric": lambda state: bool(np.linalg.eigvalsh(state.P)[0] < 0),
}


@pytest.mark.parametrize("name", SIGNS_OF_BREAKDOWN)
def test_what_a_downdate_that_cannot_be_leaves(name):
    broken = SIGNS_OF_BREAKDOWN[name]
    assert not broken(outcomes(name, MATRIX, TAKEN, -1.0))
    assert broken(outcomes(name, MATRIX, TOO_MUCH, -1.0))


def test_rotations_take_nothing_away():
    assert np.isnan(outcomes("information_cholesky", MATRIX, TAKEN, -1.0).R).any()


def test_the_root_of_a_product_overflows_where_the_product_of_roots_does_not():
    # tau = 63, and d = 63 + |v|^2 = 4159: tau d is beyond 65504, the largest number of float16, and neither factor is.
    v, beta = float32([[64.0, 0.0]]), np.float32(63 / 64)
    found = {}
    for roots, scalars in (("separate", "float16"), ("product", "float16"), ("product", "float32")):
        form, arithmetic = recursion("potter", roots=roots), by_role(state="float16", scalars=scalars)
        found[roots, scalars] = pl.emulate(partial(run, form), arithmetic)(form.start(jnp.ones(2)), v, beta)[0].S
    want = 1 / np.sqrt(float(beta) + 64)
    for (roots, scalars), S in found.items():
        wrong = roots == "product" and scalars == "float16"
        assert (float(S[0, 0]) > 1) is wrong
        # S is a difference here, 1 - (1 - 1/8): seven roundings of numbers of at most one, and of the quotients.
        assert wrong or abs(float(S[0, 0]) - want) <= 8 * 2.0**-11


def test_the_copy_is_rounded_and_the_master_is_not():
    form, V = METHODS["master_copy"], float32([[1.0, 3.0], [2.0, -1.0]])
    arithmetic = by_role(state="bfloat16", arrays="float32", scalars="float32")
    state = pl.emulate(partial(run, form), arithmetic)(form.start(jnp.ones(2)), V, np.float32(0.9))[0]
    assert np.any(np.asarray(state.copy) != state.P)
    np.testing.assert_array_equal(state.copy, pl.round_to(state.P, "bfloat16"))
    np.testing.assert_array_equal(form.inverse(state), state.copy)
    g = jnp.float32([1, -2])
    np.testing.assert_array_equal(form.apply(state, g), state.copy @ g)


def test_a_refreshment_forgets_what_was_rounded():
    form = recursion("refreshed", k=2)
    C, V = jnp.float32([[2, 1], [1, 3]]), float32([[1, 2], [3, 1], [1, 1]])
    coarse = STORES["float8_e4m3fn"]
    state = form.start(C)
    program = jax.jit(jax.vmap(lambda P: run(form, state._replace(P=P), V, 0.5, every=1, store=coarse)[1]))
    states = program(jnp.stack([state.P, 100 * state.P]))
    assert np.any(states.P[0, 0] != states.P[1, 0])
    np.testing.assert_array_equal(states.P[0, 1:], states.P[1, 1:])
    assert states.age.tolist() == [[1, 0, 1]] * 2


@pytest.mark.slow
def test_factors_follow_the_matrix_where_the_inverse_is_lost():
    C, V = stream(1e3)
    for name in FACTORS:
        A = represented(name, kept(name)["bfloat16"])[:, -1]
        for i in range(CASES):
            want = C[i].astype(np.float64)
            for v in V[i].astype(np.float64):
                want = BETA * want + (1 - BETA) * np.outer(v, v)
            want = want if name in {"ldl", "information_cholesky"} else np.linalg.inv(want)
            assert np.linalg.norm(A[i] - want, 2) < np.linalg.norm(want, 2), name
