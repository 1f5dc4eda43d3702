"""Laws over the table of forms: exact recursion, scaling, symmetry, batches, what is refused."""

from fractions import Fraction as Q
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one import METHODS, recursion, run

FORMS = {
    **METHODS,
    "refreshed, every 2": recursion("refreshed", k=2),
    "potter, root of the product": recursion("potter", roots="product"),
}
DENSE = ("gain", "outer", "symmetric", "both_sided", "joseph", "woodbury", "refreshed", "master_copy")
float32 = partial(np.asarray, dtype=np.float32)
DIGITS = 60
EXACT = Q(1, 10**45)


def fractions(x: Any) -> Any:
    return np.vectorize(Q, otypes=[object])(np.asarray(x))


def inverse(A: Any) -> np.ndarray:
    """By Gauss and Jordan, in rationals."""
    n = len(A)
    T = np.concatenate([fractions(A), fractions(np.eye(n, dtype=int))], axis=1)
    for j in range(n):
        pivot = next(i for i in range(j, n) if T[i, j])
        T[[j, pivot]] = T[[pivot, j]]
        T[j] = T[j] / T[j, j]
        for i in range(n):
            if i != j:
                T[i] = T[i] - T[i, j] * T[j]
    return T[:, n:]


def accumulated(C: np.ndarray, V: np.ndarray, beta: Q, alpha: Q) -> np.ndarray:
    C = np.diag(C) if C.ndim == 1 else C
    for v in V:
        W = v[None] if v.ndim == 1 else v
        C = beta * C + alpha * (W.T @ W)
    return C


def rational(mpf: Any) -> Q:
    """An mpf as the rational number that it is."""
    sign, mantissa, exponent, _ = mpf._mpf_
    return (-1) ** sign * Q(int(mantissa)) * Q(2) ** exponent


class Case(NamedTuple):
    C: Any
    V: Any
    beta: Q
    alpha: Q | None = None


SQUARE = [[4, 1, 0, -1], [1, 3, 1, 0], [0, 1, 5, 2], [-1, 0, 2, 6]]
CASES = {
    "an average": Case(SQUARE, [[1, -2, 3, 0], [0, 0, 0, 0], [2, 1, 1, -1]], Q(15, 16)),
    "a sum": Case([2, 5, 1], [[1, 0, 1], [0, 3, -1], [1, 1, 1], [-2, 0, 5]], Q(1), Q(1)),
    "a decimal": Case([1, 1], [[1, 1], [3, 0], [0, 7]], Q(99, 100)),
    "of order one": Case([[3]], [[2], [0], [-1]], Q(1, 2)),
    "of rank two": Case(SQUARE, [[[1, 0, 2, 1], [0, 1, 1, -1]], [[3, 1, 0, 0], [1, 1, 1, 1]]], Q(7, 8)),
    "a downdate": Case(SQUARE, [[1, 0, 1, 0], [0, 1, 0, -1]], Q(1), Q(-1, 4)),
    "worked by hand": Case([[Q(4, 7), Q(-2, 7)], [Q(-2, 7), Q(8, 7)]], [[1, 2]], Q(19, 20)),
    "of no steps": Case(SQUARE, np.zeros((0, 4), int), Q(1, 2)),
}


ALWAYS, SELECTED = {"an average", "of rank two"}, {"bierman_ud", "woodbury"}
PAIRS = [
    pytest.param(
        name, case, marks=[] if case in ALWAYS or name in SELECTED else [pytest.mark.slow], id=f"{name}, {case}"
    )
    for case in CASES
    for name in FORMS
    if (name, case) != ("information_cholesky", "a downdate")
]


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_every_form_is_the_inverse_of_the_accumulated_matrix(name, case):
    form = FORMS[name]
    C, V, beta, alpha = CASES[case]
    C, V = fractions(C), fractions(V)
    alpha = 1 - beta if alpha is None else alpha
    g = fractions(range(1, C.shape[0] + 1))

    def program(C: Any, V: Any, beta: Any, alpha: Any, g: Any) -> tuple:
        last, _ = run(form, form.start(C), V, beta, alpha)
        return form.inverse(last), form.apply(last, g)

    P, product = pl.evaluate(program, C, V, beta, alpha, g, digits=DIGITS)
    want = inverse(accumulated(C, V, beta, alpha))
    error = np.abs(np.vectorize(rational, otypes=[object])(P) - want)
    assert error.max() <= EXACT * np.abs(want).max()
    error = np.abs(np.vectorize(rational, otypes=[object])(product) - want @ g)
    assert error.max() <= EXACT * np.abs(want).max() * g.sum()


def test_the_truth_is_right_about_an_example_worked_by_hand():
    C, v, beta, _ = CASES["worked by hand"]
    want = fractions([[Q(100, 57), Q(40, 171)], [Q(40, 171), Q(415, 513)]])
    assert (inverse(C) == fractions([[2, Q(1, 2)], [Q(1, 2), 1]])).all()
    assert (inverse(accumulated(fractions(C), fractions(v), beta, 1 - beta)) == want).all()


@pytest.mark.parametrize("name", DENSE)
def test_dyadic_numbers_make_no_error(name):
    # tau = 1, s = 3: every intermediate, the root of the capacitance 4 too, is a dyadic number of few bits.
    form = METHODS[name]
    last, _ = run(form, form.start(jnp.ones(3)), jnp.ones((1, 3)), jnp.ones(()), jnp.ones(()))
    assert form.inverse(last).tolist() == [[0.75, -0.25, -0.25], [-0.25, 0.75, -0.25], [-0.25, -0.25, 0.75]]


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


BATCH, ORDER, STEPS = 4, 5, 6
WEIGHTS = float32([0.9, 0.99, 0.5, 1.0])
SCALES = float32([2.0, 0.25, 1.0, 8.0])


def spd(count: int, n: int, seed: int) -> np.ndarray:
    A = normal(count, n, n, seed=seed)
    return A @ A.transpose(0, 2, 1) + np.eye(n, dtype=np.float32)


@cache
def batch(name: str) -> tuple:
    """Last states, those of every third step, inverses: of a batch kept in bfloat16, and of the same scaled."""
    form = METHODS[name]
    C, V = spd(BATCH, ORDER, 1), normal(BATCH, STEPS, ORDER, seed=2)
    C, V = np.concatenate([C, C * SCALES[:, None, None] ** 2]), np.concatenate([V, V * SCALES[:, None, None]])
    beta = np.concatenate([WEIGHTS, WEIGHTS])

    def program(C: Any, V: Any, beta: Any, alpha: Any) -> tuple:
        store = partial(pl.round_to, format="bfloat16")
        last, states = run(form, form.start(C), V, beta, alpha, every=3, store=store)
        return last, states, form.inverse(last)

    return jax.jit(jax.vmap(program))(C, V, beta, np.float32(1.25) - beta)


QUICK = {"symmetric", "woodbury", "potter", "bierman_ud", "scaled"}


def marked(names: Any) -> list:
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in names]


@pytest.mark.parametrize("name", marked(METHODS))
def test_what_is_kept_is_of_the_format_of_the_state(name):
    last, states, _ = batch(name)
    for field in METHODS[name].stored:
        kept = getattr(states, field)
        np.testing.assert_array_equal(kept, pl.round_to(kept, "bfloat16"), err_msg=field)
    for field, x in last._asdict().items():
        np.testing.assert_array_equal(getattr(states, field)[:, -1], x)
        if field not in METHODS[name].stored and x.dtype == jnp.float32:
            assert np.any(np.asarray(x) != pl.round_to(x, "bfloat16")), field


@pytest.mark.parametrize("name", marked(METHODS))
def test_a_scaling_by_powers_of_two_changes_exponents_alone(name):
    # C -> 4^k C and v -> 2^k v: P -> 4^-k P, bit for bit, as nothing with a scale is compared with a constant.
    P = np.asarray(batch(name)[2])
    assert np.isfinite(P).all()
    np.testing.assert_array_equal(P[BATCH:] * SCALES[:, None, None] ** 2, P[:BATCH])


SYMMETRIC = ("outer", "symmetric", "joseph", "woodbury", "refreshed", "master_copy", "scaled")


def assert_symmetric(states: Any) -> None:
    for x in jax.tree.leaves(states):
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2] == ORDER:
            np.testing.assert_array_equal(x, jnp.swapaxes(x, -1, -2))


@pytest.mark.parametrize("name", marked(SYMMETRIC))
def test_symmetric_forms_are_symmetric_bit_for_bit(name):
    assert_symmetric(batch(name)[:2])


@pytest.mark.slow
@pytest.mark.parametrize("format", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float32"])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_forms_are_symmetric_in_every_format(name, format):
    form = METHODS[name]
    program = pl.emulate(lambda C, V, beta: run(form, form.start(C), V, beta)[0], format)
    assert_symmetric(jax.vmap(program, (0, 0, None))(spd(BATCH, ORDER, 3), normal(BATCH, STEPS, ORDER, seed=4), 0.875))


@pytest.mark.slow
def test_the_gain_form_is_not_symmetric_unless_what_is_kept_is_much_narrower():
    form, C, V = METHODS["gain"], spd(1, ORDER, 5)[0], normal(4 * STEPS, ORDER, seed=6)
    for arrays, symmetric in (("bfloat16", False), ("float32", True)):
        arithmetic = by_role(state="bfloat16", arrays=arrays, scalars="float32")
        P = pl.emulate(partial(run, form), arithmetic)(form.start(C), V, np.float32(0.9), np.float32(1))[0].P
        assert bool((P == P.T).all()) is symmetric


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_batch_is_one_after_the_other(name):
    form = FORMS["refreshed, every 2"] if name == "refreshed" else METHODS[name]
    C, V = spd(3, 2, 7), normal(3, 3, 2, seed=8)

    def program(C: Any, V: Any, beta: Any) -> Any:
        return form.inverse(run(form, form.start(C), V, beta)[0])

    with jax.enable_x64(True):
        C, V, beta = jnp.asarray(C, float), jnp.asarray(V, float), jnp.asarray(WEIGHTS[:3], float)
        single = jax.jit(program)
        found = jax.jit(jax.vmap(program))(C, V, beta)
        # Compiled differently, sums are ordered and fused differently; C is of a condition below 100.
        for i in range(3):
            np.testing.assert_allclose(found[i], single(C[i], V[i], beta[i]), rtol=0, atol=1000 * 100 * 2.0**-53)


def test_woodbury_is_the_changed_inverse():
    P, U, V = (fractions(x) for x in ([[2, 1], [1, 3]], [[1, 0, 1], [2, 1, 0]], [[1, 1, 0], [0, 2, 1]]))
    found = pl.evaluate(rank_one.woodbury, P, U, V, digits=DIGITS)
    want = inverse(inverse(P) + U @ V.T)
    assert np.abs(np.vectorize(rational, otypes=[object])(found) - want).max() <= EXACT
    one = pl.evaluate(rank_one.sherman_morrison, P, U[:, 0], V[:, 0], digits=DIGITS)
    want = inverse(inverse(P) + np.outer(U[:, 0], V[:, 0]))
    assert np.abs(np.vectorize(rational, otypes=[object])(one) - want).max() <= EXACT


E = jnp.eye(3)
REFUSED = {
    "a stream of another order": (
        lambda: run(METHODS["gain"], METHODS["gain"].start(E[0]), jnp.ones((2, 4)), 0.5),
        "order 3",
    ),
    "a single vector": (lambda: run(METHODS["gain"], METHODS["gain"].start(E[0]), jnp.ones(3), 0.5), "steps"),
    "vectors of rank zero": (
        lambda: run(METHODS["woodbury"], METHODS["woodbury"].start(E[0]), jnp.ones((2, 0, 3)), 0.5),
        "k > 0",
    ),
    "several decays": (lambda: run(METHODS["ldl"], METHODS["ldl"].start(E[0]), jnp.ones((2, 3)), jnp.ones(2)), "vmap"),
    "steps that do not divide": (
        lambda: run(METHODS["ldl"], METHODS["ldl"].start(E[0]), jnp.ones((3, 3)), 0.5, every=2),
        "divisor",
    ),
    "every zero": (lambda: run(METHODS["ldl"], METHODS["ldl"].start(E[0]), jnp.ones((3, 3)), 0.5, every=0), "divisor"),
    "a matrix that is not square": (lambda: METHODS["potter"].start(jnp.ones((2, 3))), "matrix"),
    "an empty matrix": (lambda: METHODS["potter"].start(jnp.ones((0, 0))), "matrix"),
    "an unknown form": (lambda: recursion("bierman_du"), "did you mean 'bierman_ud'"),
    "unknown roots": (lambda: recursion("potter", roots="square"), "separate, product"),
    "no refreshment": (lambda: recursion("refreshed", k=0), "positive"),
    "factors that do not fit": (lambda: rank_one.woodbury(E, jnp.ones((3, 2)), jnp.ones((3, 1))), "twice"),
    "a P that is not square": (lambda: rank_one.woodbury(E[:2], jnp.ones((3, 1)), jnp.ones((3, 1))), "square"),
    "vectors that do not fit": (lambda: rank_one.sherman_morrison(E, jnp.ones(3), jnp.ones(2)), "order 3"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_misuse_is_refused_with_what_to_do(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()


def test_settings_and_types_are_refused():
    with pytest.raises(TypeError, match="'gain' has none"):
        recursion("gain", k=3)
    with pytest.raises(TypeError, match="floating-point"):
        METHODS["gain"].start(jnp.eye(2, dtype=int))


def test_no_steps_in_groups_of_three():
    form = METHODS["symmetric"]
    state = form.start(jnp.ones(3))
    last, states = run(form, state, jnp.ones((0, 3)), 0.5, every=3)
    assert last.P.tolist() == E.tolist()
    assert jax.tree.map(jnp.shape, states) == ((0, 3, 3),)


def test_all_forms_are_exported_with_their_settings():
    assert set(rank_one.SETTINGS) <= set(METHODS)
    assert recursion("refreshed", k=3) is recursion("refreshed", k=3)
