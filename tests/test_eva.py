"""Eva and its kin: worked examples, the dense Kronecker solve in rationals, and laws of their errors."""

import itertools
from fractions import Fraction
from functools import cache, partial

import flint
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners.rank_one.eva import eva, eva_f, eva_s, eva_split
from precond_lab.preconditioners.rank_one.roots import (
    apply_root,
    apply_root_split,
    rank_one_root,
    root_coefficient,
    root_kept,
)

F = Fraction
FORMS = {
    "eva": eva,
    "eva_split": eva_split,
    "eva_f": eva_f,
    "eva_s": eva_s,
    "eva_s_root": partial(eva_s, form="root"),
}
NARROW = {name: pl.Arithmetic(name, accumulate="float32") for name in ("bfloat16", "float16")}


def fractions(*shape, generator):
    x = np.empty(shape, object)
    for index in np.ndindex(*shape):
        x[index] = F(int(generator.integers(-9, 10)), int(generator.integers(1, 10)))
    return x


def recovered(x):
    """The rational numbers, of denominators below 10^80, that results with 200 digits stand for."""

    def one(value):
        near = F(*value.as_integer_ratio())
        found = near.limit_denominator(10**80)
        assert abs(found - near) < F(1, 10**180)
        return found

    return np.vectorize(one, otypes=[object])(x)


def exactly(x):
    """The numbers of any array as rationals."""
    return np.vectorize(lambda value: F(*value.as_integer_ratio()), otypes=[object])(x)


def solved(A, b):
    """A^{-1} b in rationals."""
    to = lambda x: flint.fmpq(x.numerator, x.denominator)  # noqa: E731
    n = len(b)
    x = flint.fmpq_mat(n, n, [to(F(v)) for v in np.ravel(A)]).solve(flint.fmpq_mat(n, 1, [to(F(v)) for v in b]))
    return np.array([F(int(x[i, 0].p), int(x[i, 0].q)) for i in range(n)], object)


def identity(n):
    return np.array([[F(int(i == j)) for j in range(n)] for i in range(n)], object)


def dense(G, a, b, damping):
    v = np.kron(b, a)
    return solved(np.outer(v, v) + damping * identity(v.size), G.ravel()).reshape(G.shape)


# Exact arithmetic


def test_the_worked_example():
    a, b = np.array([F(1), F(2), F(-1)]), np.array([F(1, 2), F(-1)])
    G = np.array([[F(1), F(-2), F(3)], [F(0), F(1, 2), F(-1)]])
    wanted = [[F(505, 38), F(-255, 19), F(1015, 38)], [F(-125, 19), F(-155, 19), F(-65, 19)]]
    for form in (eva, eva_split):
        P = recovered(pl.evaluate(form, G, a, b, F(1, 10), digits=200))
        assert P.tolist() == wanted
    assert b @ P @ a == F(-25, 38)
    assert (G * P).sum() == F(4545, 38) >= F(305, 152)
    assert dense(G, a, b, F(1, 10)).tolist() == wanted


@pytest.mark.parametrize("shape", list(itertools.product(range(2, 6), range(3, 8))))
def test_eva_is_the_dense_kronecker_solve(shape):
    m, n = shape
    generator = np.random.default_rng([m, n])
    G, a, b = (fractions(*size, generator=generator) for size in ((m, n), (n,), (m,)))
    damping = F(int(generator.integers(1, 9)), 7)
    wanted = dense(G, a, b, damping)
    assert (recovered(pl.evaluate(eva, G, a, b, damping, digits=200)) == wanted).all()
    split = pl.evaluate(eva_split, G, a, b, damping, digits=50)
    assert abs(exactly(split) - wanted).max() < F(1, 10**45)


def test_eva_f_is_the_solve_of_the_input_side_and_eva_s_that_of_its_means():
    generator = np.random.default_rng(5)
    G, a = fractions(3, 4, generator=generator), fractions(4, generator=generator)
    A = np.outer(a, a) + F(2, 3) * identity(4)
    wanted = np.array([solved(A, row) for row in G])
    assert (recovered(pl.evaluate(lambda G, a, d: eva_f(G, a, damping=d), G, a, F(2, 3), digits=200)) == wanted).all()
    wanted = dense(G, G.sum(axis=0) / 3, G.sum(axis=1) / 4, F(2, 3))
    found = recovered(pl.evaluate(lambda G, d: eva_s(G, damping=d), G, F(2, 3), digits=200))
    assert (found == wanted).all()


@pytest.mark.parametrize("p", [1, 2, 4, F(5, 2)])
def test_the_root_form_of_eva_s_scales_b_a_t_by_both_eigenvalues(p):
    generator = np.random.default_rng(6)
    a, b = fractions(4, generator=generator), fractions(3, generator=generator)
    root = partial(eva_s, form="root", p=p)
    P = pl.evaluate(root, np.outer(b, a), a, b, F(1, 3))
    scaled = (F(1, 3) + a @ a) * (F(1, 3) + b @ b)
    with mpmath.workdps(60):
        factor = mpmath.power(mpmath.mpf(scaled.numerator) / scaled.denominator, mpmath.mpf(-1) * 2 / int(2 * p))
    assert abs(exactly(P) - exactly(factor) * np.outer(b, a)).max() < F(1, 10**45)


def test_the_descent_inequality_in_many_cases():
    """<G, P> >= |G|^2 / (gamma + sigma), with equality where G is a multiple of b a^T."""
    generator = np.random.default_rng(2)
    count, m, n = 1000, 2, 3
    G, a, b = (generator.integers(-5, 6, (count, *size)).astype(float) for size in ((m, n), (n,), (m,)))
    G[:100] = b[:100, :, None] * a[:100, None]
    damping = 2.0 ** generator.integers(-20, 5, count)
    P = exactly(pl.evaluate(jax.vmap(eva), G, a, b, damping, digits=50))
    inner = (P * exactly(G)).sum(axis=(1, 2))
    least = exactly((G * G).sum(axis=(1, 2))) / exactly(damping + (a * a).sum(axis=1) * (b * b).sum(axis=1))
    assert min(inner - least) > -F(1, 10**35)
    assert max(abs(inner - least)[:100]) < F(1, 10**35)
    assert max(inner - least) > 1


# Errors


def noisy(ratio, noise, seed, m=32, n=48, damping=2.0**-10):
    """G near b a^T, with sigma / gamma as asked."""
    generator = np.random.default_rng(seed)
    a, b = generator.uniform(0.5, 1.5, n), generator.uniform(0.5, 1.5, m)
    size = (ratio * damping / ((a @ a) * (b @ b))) ** 0.25
    a, b = (np.asarray(pl.round_to((size * x).astype(np.float32), "bfloat16"), np.float32) for x in (a, b))
    G = np.outer(b, a) * (1 + noise * generator.standard_normal((m, n)))
    return np.asarray(pl.round_to(G.astype(np.float32), "bfloat16"), np.float32), a, b, np.float32(damping)


def curved_error(P, G, a, b, damping):
    a, b, G = (np.asarray(x, float) for x in (a, b, G))
    exact = (b @ G @ a) / (damping + (a @ a) * (b @ b))
    return abs(b @ np.asarray(P, float) @ a - exact) / abs(exact)


RATIOS = (1.0, 1e2, 1e3, 1e4, 1e6)
ROUNDINGS = 12
"""From G a to the quotient by gamma eleven results are rounded once each, with sums in float32, and no error that this
makes is above u |b|^T |G| |a| (1 + sigma / gamma) of the exact result. The twelfth is for what is of second order."""


def stacked(cases):
    return [np.stack(x) for x in zip(*cases, strict=True)]


CASES = [(ratio, *noisy(ratio, 0.01, seed)) for ratio in RATIOS for seed in range(4)]


@cache
def emulated(name):
    """Both forms on all cases."""
    program = jax.vmap(lambda *case: (eva(*case), eva_split(*case)))
    arguments = stacked([case for _, *case in CASES])
    if name == "float32":
        return tuple(map(np.asarray, jax.jit(program)(*arguments)))
    return tuple(map(np.asarray, jax.jit(pl.emulate(program, NARROW[name]))(*arguments)))


@pytest.mark.parametrize("name", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_the_error_along_the_curvature_is_u_times_one_plus_sigma_over_gamma(name):
    u = pl.formats.named(name).unit_roundoff
    sigma = np.array([ratio for ratio, *_ in CASES])
    errors, split = (
        np.array([curved_error(P, *case) for P, (_, *case) in zip(results, CASES, strict=True)])
        for results in emulated(name)
    )
    # |b|^T |G| |a| = b^T G a for these, where no element of G, a or b is negative
    assert (errors <= ROUNDINGS * u * (1 + sigma)).all()
    large = sigma > 16 / u
    assert (errors[large] > u * sigma[large] / 100).all()  # the law is no overestimate
    # Twice that many roundings make alpha, and the part of G off b a^T is 0.01 of it.
    assert (split <= 4 * ROUNDINGS * u * (1 + (u + 0.01) * sigma)).all()
    assert np.median(split[large] / errors[large]) < 0.1


def test_the_inner_product_with_the_gradient_turns_negative_in_bfloat16_and_not_in_float32():
    """For some G where sigma / gamma is between 1 / (4 u) and 16 / u = 4096, if all operations are rounded."""
    inner = {
        name: np.array([
            (np.asarray(P, float) * G).sum() for P, (_, G, *_) in zip(emulated(name)[0], CASES, strict=True)
        ])
        for name in ("bfloat16", "float32")
    }
    within = np.array([64 <= ratio <= 4096 for ratio, *_ in CASES])
    assert (inner["bfloat16"][within] < 0).any()
    moderate = np.array([ratio <= 1e4 for ratio, *_ in CASES])
    assert (inner["float32"][moderate] > 0).all()


# Extremes


def test_without_curvature_it_is_the_gradient_divided_by_a_power_of_the_damping():
    G = np.array([[3.0, -1.0, 2.0], [1.0, 0.5, -2.0]], np.float32)
    zero_a, zero_b, ones_a, ones_b = (np.full(size, x, np.float32) for x in (0, 1) for size in (3, 2))
    A, B = np.stack([zero_a, zero_a, ones_a]), np.stack([zero_b, ones_b, zero_b])
    run = jax.jit(jax.vmap(lambda a, b: {name: form(G, a, b, 0.25) for name, form in FORMS.items()}))
    for name, found in run(A, B).items():
        scale = 2.0 if name == "eva_s_root" else 4.0  # 4^(2/4)
        np.testing.assert_allclose(found[0], scale * G, rtol=16 * 2.0**-24)
        assert np.isfinite(found).all()
        if name in {"eva", "eva_split", "eva_s"}:
            np.testing.assert_array_equal(found, np.stack([4 * G] * 3))


VECTORS = (np.ones((2, 3), np.float32), np.ones(3, np.float32), np.ones(2, np.float32))


@pytest.mark.parametrize("name", FORMS)
def test_arrays_and_scalars_can_be_set_apart(name):
    """An arithmetic for a scope that a program does not have is refused; nothing is run."""
    arithmetic = pl.Arithmetic("float32", overrides={"arrays": "bfloat16", "scalars": "float32"})
    found = jax.eval_shape(pl.emulate(FORMS[name], arithmetic), *VECTORS)
    assert found.shape == (2, 3)


def test_one_weight():
    run = jax.jit(lambda G, a, b: {name: form(G, a, b, 1.0) for name, form in FORMS.items()})
    found = run(np.full((1, 1), 3, np.float32), np.full(1, 2, np.float32), np.full(1, 0.5, np.float32))
    wanted = {"eva": 3 / 2, "eva_split": 3 / 2, "eva_f": 3 / 5, "eva_s": 3 / 2, "eva_s_root": 3 / 6.25**0.25}
    assert {name: P.item() for name, P in found.items()} == pytest.approx(wanted, rel=16 * 2.0**-24)


def test_wide_scalars_keep_float16_in_range():
    """|a|^2 is above the largest number, and squares of b are below the least."""
    m, n, damping = 4, 64, 2.0**-5
    a, b = np.full(n, 40.0, np.float32), np.full(m, 2.0**-13, np.float32)
    G = np.full((m, n), 2.0**-6, np.float32)
    G[0, 0] = 1.0
    exact = pl.evaluate(eva, G, a, b, damping).astype(float)
    assert a @ a > 65504
    assert (b * b < 2.0**-25).all()
    wide = pl.Arithmetic("float16", accumulate="float32", overrides={"scalars": "float32"})
    P = np.asarray(jax.jit(pl.emulate(eva, wide))(G, a, b, damping))
    assert np.abs(P - exact).max() <= 8 * 2.0**-11 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eva(jnp.ones(3), jnp.ones(3), jnp.ones(2)), r"give \[m, n\]"),
        (lambda: eva(jnp.ones((2, 3)), jnp.ones(2), jnp.ones(2)), r"mean of the inputs, \[3\]"),
        (lambda: eva_split(jnp.ones((2, 3)), jnp.ones(3), jnp.ones(3)), r"mean of the outputs, \[2\]"),
        (lambda: eva_f(jnp.ones((2, 3)), jnp.ones(4)), r"element for the bias"),
        (lambda: eva_s(jnp.ones((2, 3)), form="shampoo"), "known are"),  # pyright: ignore
        (lambda: eva_s(jnp.ones((2, 3)), form="root", p=0), "positive number"),
        (lambda: rank_one_root(jnp.ones((2, 2))), "a vector"),
        (lambda: apply_root(jnp.ones(3), jnp.ones(2)), r"give \[n\] or \[n, k\]"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Roots


@pytest.mark.parametrize("p", [1, 2, 3, 8])
def test_a_whole_root_to_its_power_times_the_matrix_is_the_identity(p):
    v, gamma = np.array([F(1, 2), F(-3), F(2)]), F(1, 5)
    X = pl.evaluate(lambda v, gamma: rank_one_root(v, p, gamma), v, gamma)
    product = np.outer(v, v) + gamma * identity(3)
    for _ in range(p):
        product = product @ exactly(X)
    assert abs(product - identity(3)).max() < F(1, 10**45)
    for apply in (apply_root, apply_root_split):
        found = pl.evaluate(lambda x, v, gamma, apply=apply: apply(x, v, p, gamma), np.eye(3), v, gamma)
        assert abs(exactly(found) - exactly(X)).max() < F(1, 10**45)


def test_roots_are_accurate_for_every_length_and_every_p():
    """1 - (1 + t^2)^(-1/p) within 8 u, t from 2^-40 to 2^40, where no form of it as a difference is."""
    t = 2.0 ** np.arange(-40, 41, 5.0, dtype=np.float32)
    p = np.array([0.5, 1, 1.5, 4, 7.25, 1e3, 1e6], np.float32)
    over = jax.vmap(jax.vmap(lambda t, p: (root_coefficient(t, p, 1.0), root_kept(t, p, 1.0)), (None, 0)), (0, None))
    kappa, kept = jax.jit(over)(t, p)
    with mpmath.workdps(60):
        for i, j in np.ndindex(len(t), len(p)):
            log = mpmath.log1p(mpmath.mpf(float(t[i])) ** 2) / mpmath.mpf(float(p[j]))
            exact = -mpmath.expm1(-log)
            assert abs(float(kappa[i, j]) - exact) <= 8 * 2.0**-24 * exact
            if mpmath.exp(-log) > 1e-37:
                assert abs(float(kept[i, j]) / mpmath.exp(-log) - 1) <= (4 + 2 * log) * 2.0**-24


def test_roots_of_fractions_are_those_of_their_value_and_nothing_leaves_the_range():
    v = jnp.array([1.0, 2.0])
    roots = jax.jit(
        lambda v: (rank_one_root(v, F(5, 2), 0.5), rank_one_root(v, 2.5, 0.5), rank_one_root(0 * v, 2, 0.25))
    )
    exact, rounded, flat = roots(v)
    np.testing.assert_allclose(exact, rounded, rtol=16 * 2.0**-24)
    np.testing.assert_array_equal(flat, 2 * np.eye(2))
    x = jnp.array([1.0, 0.0])
    sizes = np.array([[1e-20, 1e-37], [1e30, 1.0]], np.float32)  # the square of neither size is a float32
    run = jax.vmap(
        lambda size, damping: (rank_one_root(size * x, 4, damping), apply_root_split(x, size * x, 4, damping))
    )
    for (size, damping), root, split in zip(sizes.astype(float), *map(np.asarray, jax.jit(run)(*sizes.T)), strict=True):
        wanted, scale = (damping + size * size) ** -0.25, damping**-0.25
        assert root[0, 0] == pytest.approx(
            wanted, rel=128 * 2.0**-24, abs=4 * 2.0**-24 * scale
        )  # a difference from one
        assert root[1, 1] == pytest.approx(scale, rel=128 * 2.0**-24)
        assert split[0] == pytest.approx(wanted, rel=128 * 2.0**-24)
    kappa = root_coefficient(jnp.float32(1e-20), 4, 1e-37)
    assert kappa == pytest.approx(1 - 1.001**-0.25, rel=128 * 2.0**-24)
