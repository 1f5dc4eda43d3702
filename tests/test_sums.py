"""Sums in every order equal the definition, evaluated one exact rational operation at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scalar_sums import Sums, fold

import precond_lab as pl

ORDERS = ["sequential", "reversed", "pairwise", "blocked(3)", "exact"]
ARITHMETICS = [
    pl.Arithmetic("bfloat16", order="sequential"),
    pl.Arithmetic("float16", order="pairwise"),
    pl.Arithmetic("float16", order="reversed", rounding="down"),
    pl.Arithmetic("float8_e4m3fn", order="blocked(3)", rounding="odd"),
    pytest.param(pl.Arithmetic("float16", order="blocked(3)", accumulate="bfloat16"), marks=pytest.mark.slow),
    pytest.param(pl.Arithmetic("bfloat16", order="exact"), marks=pytest.mark.slow),
    pl.Arithmetic("bfloat16", order="pairwise", accumulate="float32", rounding="toward_zero"),
    pl.Arithmetic("float8_e5m2", order="exact", rounding="up"),
    pytest.param(pl.Arithmetic("float16", order="exact", rounding="down"), marks=pytest.mark.slow),
    pl.Arithmetic("float32", order="exact"),
]


def name(arithmetic):
    return str(arithmetic).replace(" ", "_")


def numbers(seed, shape, format):
    """Numbers of a format of many magnitudes, with some that cancel, zeros of both signs, and what is not finite."""
    generator = np.random.default_rng(seed)
    middle = (format.min_exponent + format.max_exponent) / 2 if format.max_exponent < 100 else 0
    x = generator.choice([-1.0, 1.0], shape) * 2.0 ** generator.normal(middle, 4, shape)
    x[..., 1] = generator.normal(size=shape[:-1])
    x[1] = -x[0]
    x[..., 0] = generator.choice([0.0, -0.0], shape[:-1])
    x[2, ..., -1] = format.max
    x[3, ..., -2] = np.inf
    x[4, ..., -2] = generator.choice([np.inf, -np.inf, np.nan], shape[1:-1])
    x = pl.round_to(x, format, "toward_zero")
    return np.asarray(x, np.float64)


def same(got, want):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    np.testing.assert_array_equal(got, want)
    there = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[there]), np.signbit(want[there]))


def program(x, u):
    y = x[:, :, 0]
    return {
        "sum": jnp.sum(x, axis=(2, 0)),
        "cumsum": jnp.cumsum(y, axis=0),
        "reverse cumsum": lax.cumsum(y, axis=0, reverse=True),
        "product": jnp.prod(y[:, 1:] / 4, axis=0),
        "scatter": y.at[jnp.array([1, 3, 1, 1, 99, 3, 1])].add(u),
        "scatter columns": y.at[:, jnp.array([0, 2, 2])].add(u[:, :3]),
    }


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=name)
def test_sums_equal_the_definition(arithmetic):
    x = numbers(1, (7, 9, 2), arithmetic.result)
    x = np.swapaxes(x, 1, 2).reshape(7, 2, 9).swapaxes(1, 2)
    u = numbers(2, (7, 9), arithmetic.result)
    with jax.enable_x64(True):
        got = pl.emulate(program, arithmetic)(x, u)
    law, y = Sums(arithmetic), x[:, :, 0]
    columns = range(9)
    same(got["sum"], [law.sum([float(x[i, j, k]) for k in range(2) for i in range(7)]) for j in columns])
    same(got["cumsum"], [[law.sum(y[: i + 1, j].tolist()) for j in columns] for i in range(7)])
    same(got["reverse cumsum"], [[law.sum(y[i:, j].tolist()[::-1]) for j in columns] for i in range(7)])
    quarter = np.asarray([[law.scalars.mul(float(v), 0.25, law.format) for v in row] for row in y[:, 1:]])
    same(got["product"], [law.product(quarter[:, j].tolist()) for j in range(8)])
    hits = {1: (0, 2, 3, 6), 3: (1, 5)}
    want = [[law.add_to([y[i, j], *(u[r, j] for r in hits.get(i, ()))]) for j in columns] for i in range(7)]
    same(got["scatter"], want)
    hits = {0: (0,), 2: (1, 2)}
    want = [[law.add_to([y[i, j], *(u[i, r] for r in hits.get(j, ()))]) for j in columns] for i in range(7)]
    same(got["scatter columns"], want)


def test_the_sum_over_two_axes_counts_its_terms_in_row_major_order():
    # In float8_e5m2, 8 absorbs each 1 that comes after it, but not their sum.
    x = np.array([[8.0, 1.0], [1.0, 1.0]], np.float32)
    sequential, last = (pl.emulate(jnp.sum, pl.Arithmetic("e5m2", order=order)) for order in ("sequential", "reversed"))
    assert (float(sequential(x)), float(last(x))) == (8.0, 12.0)
    assert float(sequential(x.T)) == 8.0
    assert float(sequential(x[::-1])) == 12.0  # 1 + 1 + 8 + 1: the last addition is a tie


def test_exact_sums_of_float64_and_of_numbers_that_cancel():
    generator = np.random.default_rng(3)
    x = generator.normal(size=(50, 8)) * 2.0 ** generator.integers(-1074, 960, (50, 8))
    x[25:] = -x[:25][::-1]
    x[0] += 2.0**-1074
    with jax.enable_x64(True):
        got = pl.emulate(lambda x: jnp.sum(x, axis=0), pl.Arithmetic("float64", order="exact"))(x)
    same(
        got,
        [
            fold(
                "exact",
                [x[:, j].tolist()],
                lambda t: Sums(pl.Arithmetic("float64")).scalars.sum(t, pl.formats.float64),
                None,
                None,
            )
            for j in range(8)
        ],
    )


@pytest.mark.parametrize("order", ORDERS)
def test_stochastic_sums_stay_between_their_neighbors(order):
    """With two terms each order has one sum, and stochastic rounding takes one of its two neighbors, both at times."""
    a, b = np.float32([1.0] * 400), np.float32([2.0**-9] * 400)
    total = pl.emulate(lambda x: jnp.sum(x, axis=0), pl.Arithmetic("bfloat16", rounding="stochastic", order=order))
    values, counts = np.unique(np.asarray(total(np.stack([a, b]))), return_counts=True)
    assert values.tolist() == [1.0, 1.0078125]
    # A quarter goes up; 5 standard deviations of 400 draws are 44
    assert abs(counts[1] - 100) <= 44


@pytest.mark.parametrize("order", ["pairwise", "exact", "blocked(2)"])
def test_the_derivative_of_a_sum_is_that_of_a_sum(order):
    arithmetic = pl.Arithmetic("bfloat16", order=order)
    x = np.float32([1.0, 2.0, 4.0, 8.0, 16.0])

    def f(x):
        return jnp.sum(x), jnp.cumsum(x)[3], jnp.zeros(2).at[jnp.array([0, 1, 0, 1, 1])].add(x)[1]

    jacobian = jax.jacrev(pl.emulate(f, arithmetic))(x)
    want = jax.jacrev(f)(x)
    for ours, plain in zip(jacobian, want, strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_cumulative_logsumexp_rounds_every_step():
    x = np.float32([0.5, -1.25, 3.0, -np.inf, 2.0])
    got = pl.emulate(lax.cumlogsumexp, "bfloat16")(x)
    step = pl.emulate(lambda a, b: jnp.maximum(a, b) + jnp.log1p(jnp.exp(-jnp.abs(a - b))), "bfloat16")
    want = [x[0]]
    for value in x[1:]:
        want.append(np.float32(step(want[-1], value)))
    np.testing.assert_array_equal(got, want)
    ends = pl.emulate(lax.cumlogsumexp, "bfloat16")(np.float32([-np.inf, -np.inf, 1.0, np.inf, np.inf]))
    np.testing.assert_array_equal(ends, [-np.inf, -np.inf, 1.0, np.inf, np.inf])


def test_a_reduction_by_an_operation_of_its_own_is_rounded_and_counted():
    def horner(x, init):
        return lax.reduce(x, init, lambda a, b: a * 3 + b, (0,))

    x = np.float32([[1.0, 300.0], [2.0, 1.0], [0.4, 40000.0]])
    got, counts = pl.emulate(horner, "float16", events=True)(x, np.float32(1.0))
    step = pl.emulate(lambda a, b: a * 3 + b, "float16")
    total = np.ones(2, np.float32)
    for row in x:
        total = np.asarray(step(total, row))
    np.testing.assert_array_equal(got, total)
    assert int(counts.overflow) == 0
    _, counts = pl.emulate(horner, "float16", events=True)(x * 100, np.float32(1.0))
    assert (
        int(counts.overflow) == 3 - 1
    )  # 40000 * 100 on entering, then the last sum is of an infinity; 30000 * 3 + 100
