"""The statistics of a band: any band, exact recurrences, what rounding loses of them, and what keeps it."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners.logdet.gradient_scaling import Scaled, rescaled, scaled
from precond_lab.preconditioners.logdet.statistics import (
    Compensated,
    Statistics,
    add,
    add_compensated,
    average,
    average_by_increment,
    average_compensated,
    band_outer,
    compensate,
    damp,
    initialize,
)

# The recurrences, each with the state that it starts from.
SUMS = {"add": (add, lambda s: s), "add_compensated": (add_compensated, compensate)}
AVERAGES = {
    "average": (average, lambda s: s),
    "average_by_increment": (average_by_increment, lambda s: s),
    "average_compensated": (average_compensated, compensate),
}
BITS = {"bfloat16": 8, "float16": 11}


def total(state) -> Statistics:
    """What a state stands for, in rationals or mpmath numbers."""
    if isinstance(state, Compensated):
        return Statistics(*(a + b for a, b in zip(state.statistics, state.lost, strict=True)))
    return state


def significands(name: str) -> np.ndarray:
    """Every number of the format in [1, 2)."""
    return 1 + np.arange(2 ** (BITS[name] - 1)) / 2.0 ** (BITS[name] - 1)


# Any band


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_band_of_an_outer_product(n):
    """Row k of the band is the k-th subdiagonal of g g^T; past the end there are zeros, for bands beyond n as well."""
    g = np.random.default_rng(n).integers(-9, 9, n).astype(np.float32)
    for band in (0, 1, 4, 7):
        H = np.asarray(band_outer(g, band=band))
        assert H.shape == (band + 1, n)
        for k in range(band + 1):
            diagonal = np.diagonal(np.outer(g, g), -k) if k < n else []
            assert np.array_equal(H[k], np.append(diagonal, np.zeros(min(k, n))))


def test_every_recurrence_takes_any_band_and_keeps_its_dtype():
    g = jnp.arange(1, 6, dtype=jnp.float16)
    for update, start in (*SUMS.values(), *AVERAGES.values()):
        zero = jnp.zeros((), g.dtype)
        state = update(start(initialize(5, band=3, epsilon=zero)), g, jnp.asarray(0.5, g.dtype))
        shapes = {(x.shape, x.dtype) for x in jax.tree.leaves(state)}
        assert shapes == {((4, 5), g.dtype), ((), g.dtype)}
    damped = damp(band_outer(g, band=3), jnp.asarray(0.5, g.dtype), zero)
    assert damped.shape == (4, 5)
    with pytest.raises(ValueError, match="number of subdiagonals"):
        band_outer(g, band=-1)


# The recurrences without rounding


@pytest.mark.parametrize("name", [*SUMS, *AVERAGES])
def test_a_recurrence_is_the_sum_that_it_stands_for(name):
    """In 50 digits, from H_0 = I / 2: exactly the weighted sum, and its weight with 1 in place of g g^T."""
    G = np.random.default_rng(3).integers(-8, 9, (6, 3)) / 4.0
    rates = np.array([1.0, 2.0, 4.0, 2.0, 8.0, 1.0]) if name in SUMS else np.full(6, 0.75)
    update, start = {**SUMS, **AVERAGES}[name]

    def run(G, rates):
        state = start(initialize(3, band=2, epsilon=jnp.asarray(0.5, G.dtype)))
        for g, rate in zip(G, rates, strict=True):
            state = update(state, g, rate)
        return state

    H, weight = np.zeros((3, 3), object), Fraction(0)
    H[0] = Fraction(1, 2)
    for g, rate in zip(G, rates, strict=True):
        keep, take = (1, 1 / Fraction(rate)) if name in SUMS else (Fraction(rate), 1 - Fraction(rate))
        product = np.array([[Fraction(x) for x in row] for row in np.asarray(band_outer(g, band=2), float)])
        H, weight = keep * H + take * product, keep * weight + take
    found = total(pl.evaluate(run, np.float32(G), np.float32(rates)))
    for i in np.ndindex(3, 3):
        assert found.H[i] * H[i].denominator == H[i].numerator  # all of it dyadic: no rounding at 50 digits
    assert found.weight * weight.denominator == weight.numerator


def test_a_complement_from_outside_is_used():
    for update, start in AVERAGES.values():
        state = start(initialize(2))
        inside, outside = update(state, jnp.ones(2), jnp.array(0.75)), update(state, jnp.ones(2), 1.0, jnp.array(0.25))
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), inside, outside))


# What rounding loses


@pytest.mark.parametrize("name", BITS)
def test_once_beta2_rounds_to_one_nothing_lets_H_fall(name):
    """Every significand, gradients of zero: 1 - beta2 = u/2 leaves H as it is, 1.5 u lets every one fall.

    Half the spacing below H is at least u/2 of it, and at most u.
    """
    u = pl.formats.named(name).unit_roundoff
    H = np.float32(np.stack([significands(name)] * 2))

    def step(H, g, beta2, complement):
        return [f(Statistics(H, beta2), g, beta2, complement).H for f in (average, average_by_increment)]

    step = pl.emulate(step, name)
    for complement, falls in ((u / 2, False), (1.5 * u, True)):
        beta2 = np.float32(pl.round_to(np.float64(1 - complement), name))
        assert (beta2 == 1) == (not falls)
        for new in step(H, np.zeros(H.shape[1], np.float32), beta2, np.float32(complement)):
            assert ((np.asarray(new) < H) == falls).all()
            assert (np.asarray(new) <= H).all()


@pytest.mark.parametrize("name", BITS)
def test_a_compensated_step_errs_by_what_its_docstring_says(name):
    """|H + c - exact| <= u (|c| + 4 |d|) or so, with d the exact change: no term is u |H|."""
    u, subnormal = Fraction(pl.formats.named(name).unit_roundoff), Fraction(2) ** (-24 if name == "float16" else -133)
    rng = np.random.default_rng(BITS[name])
    n = 150
    H = rng.choice(significands(name), (1, n)) * 2.0 ** rng.integers(-2, 3, (1, n))
    lost = pl.round_to(H * rng.uniform(-1, 1, (1, n)) * float(u) / 2, name)
    g = np.asarray(pl.round_to(rng.uniform(0, 3, n), name))
    square = np.asarray(pl.round_to(g * g, name), np.float64)
    step = pl.emulate(average_compensated, name)
    for beta2 in (0.5, 0.875, 1 - float(u), 1 - float(u) / 8):
        complement = np.float32(1 - beta2)
        start = Compensated(Statistics(np.float32(H), np.float32(1)), Statistics(np.float32(lost), np.float32(0)))
        new = step(start, np.float32(g), np.float32(beta2), complement)
        for i in range(n):
            h, c, p = (Fraction(float(x)) for x in (H[0, i], lost[0, i], square[i]))
            change = Fraction(float(complement)) * (p - h - c)
            found = sum(Fraction(float(part.H[0, i])) for part in new)
            # three roundings of d and one of c + d; that of p - h may be of more than of what is left of it
            slack = Fraction(float(complement)) * u * abs(p - h) + subnormal / 2
            assert abs(found - (h + c + change)) <= (u * (abs(c) + 3 * abs(change)) + slack) * (1 + 4 * u)
            assert abs(Fraction(float(new.lost.H[0, i]))) <= u * abs(Fraction(float(new.statistics.H[0, i])))


def test_the_compensation_decays():
    """Of H = 1 and c = 2^-9 half is left after a gradient of square one at beta2 = 1/2: c/2, not c."""
    state = Compensated(
        Statistics(jnp.ones((1, 1), jnp.bfloat16), jnp.ones((), jnp.bfloat16)),
        Statistics(jnp.full((1, 1), 2.0**-9, jnp.bfloat16), jnp.full((), 2.0**-9, jnp.bfloat16)),
    )
    half = jnp.asarray(0.5, jnp.bfloat16)
    new = average_compensated(state, jnp.ones(1, jnp.bfloat16), half)
    assert new.statistics.H[0, 0] == new.statistics.weight == 1
    assert new.lost.H[0, 0] == new.lost.weight == 2.0**-10


# What keeps it, over a stream


def streamed(update, start, arithmetic, G, *arguments):
    """The last state of a recurrence over gradients, in an arithmetic or in JAX's own."""

    def run(G, *arguments):
        first = start(initialize(G.shape[1], epsilon=jnp.zeros((), G.dtype)))
        return jax.lax.scan(lambda state, g: (update(state, g, *arguments), None), first, G)[0]

    run = jax.jit(run) if arithmetic is None else pl.emulate(run, arithmetic)
    return run(G, *arguments)


def test_cures_of_a_stagnating_average():
    """Gradients of square one, then of square a quarter, at beta2 = 0.999 in bfloat16: H is to fall.

    After t steps of the second kind H is (1 + 3 exp(-t/1000)) / 4 to three digits. To nearest it does not move.
    """
    G = np.ones((4000, 8), np.float32)
    G[2000:] = 0.5
    arguments = np.float32(0.999), np.float32(0.001)
    weights = 0.001 * 0.999 ** np.arange(4000)[::-1]
    exact, u = float(weights @ G[:, 0] ** 2), 2.0**-8
    error = {
        name: float(
            np.abs(np.asarray(total(streamed(*AVERAGES[name], arithmetic, G, *arguments)).H)[0] / exact - 1).max()
        )
        for name, arithmetic in (
            ("average", "bfloat16"),
            ("average_by_increment", "bfloat16"),
            ("average_compensated", "bfloat16"),
        )
    }
    assert min(error["average"], error["average_by_increment"]) > 0.2
    # 1 - beta2 is stored to within u, which moves H by u (1 + ln 2) at most; each step errs by u |c| besides.
    assert error["average_compensated"] <= 2 * u
    unbiased = streamed(
        *AVERAGES["average_by_increment"], pl.Arithmetic("bfloat16", rounding="stochastic"), np.tile(G, 64), *arguments
    )
    # Each of 512 entries has a standard deviation below sqrt(u / 2); four of that of their mean.
    assert abs(np.asarray(unbiased.H)[0].mean() / exact - 1) <= 2 * u + 4 * np.sqrt(u / 2 / 512)


def test_a_compensated_sum_goes_on():
    """2000 steps of one: the sum in bfloat16 stops at 256, the compensated one is rounded once."""
    G = np.ones((2000, 2), np.float32)
    plain = streamed(*SUMS["add"], "bfloat16", G, np.float32(1))
    cured = streamed(*SUMS["add_compensated"], "bfloat16", G, np.float32(1))
    assert plain.H[0, 0] == plain.weight == 256
    assert cured.statistics.H[0, 0] == cured.statistics.weight == 2000
    assert not np.asarray(cured.lost.H).any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_compiler_does_not_undo_the_compensation(dtype):
    """JAX's own arithmetic, compiled: bit for bit what the emulated one gives, and far from what plain steps give."""
    G = np.random.default_rng(5).choice([0.5, 0.75, 1.0, 1.25], (1500, 8)).astype(np.float32)
    arguments = [np.float32(pl.round_to(np.float64(x), jnp.dtype(dtype).name)) for x in (0.999, 0.001)]
    native = streamed(*AVERAGES["average_compensated"], None, jnp.asarray(G, dtype), *(dtype(x) for x in arguments))
    emulated = streamed(*AVERAGES["average_compensated"], jnp.dtype(dtype).name, G, *arguments)
    for a, b in zip(jax.tree.leaves(native), jax.tree.leaves(emulated), strict=True):
        assert np.array_equal(np.asarray(a, np.float32), np.asarray(b))


def test_the_sum_that_is_compensated_is_held_back_from_excess_precision():
    """What a CPU does here leaves bfloat16 alone; compilers that keep sums in float32 find a barrier."""
    state = compensate(initialize(2, epsilon=jnp.zeros((), jnp.bfloat16)))
    program = str(jax.make_jaxpr(add_compensated)(state, jnp.ones(2, jnp.bfloat16), jnp.bfloat16(1)))
    assert program.count("optimization_barrier") == 2  # of H and of the weight


# Scaling

TARGET = np.float32(2.0**7)


def test_scaled_statistics_do_not_depend_on_the_size_of_the_gradients():
    """In float16, gradients of 2^-6 to 2^8: the same statistics, whatever power of two is taken out."""

    def run(G, beta2):
        step = scaled(average, jnp.asarray(TARGET))
        start = Scaled(initialize(G.shape[1], band=0), jnp.float32(1))
        return jax.lax.scan(lambda state, g: (step(state, g, beta2), None), start, G)[0]

    run = pl.emulate(jax.vmap(run, (0, None)), "float16")
    G = np.random.default_rng(6).choice([0.5, -0.75, 1.0, 1.75], (50, 4)).astype(np.float32)
    G[:, 0] = 1.75
    exponents = np.array([8, 4, 0, -4, -6])
    state = run(G[None] * np.float32(2.0) ** exponents[:, None, None], np.float32(0.9375))
    scales = np.asarray(state.scale, np.float64)
    assert np.array_equal(scales, 2.0 ** np.array([-2, 1, 5, 9, 11]))  # 1.75 goes to 112 from above, to 56 from below
    sizes = np.asarray(state.state.H, np.float64) / (scales * 2.0**exponents)[:, None, None] ** 2
    assert (sizes == sizes[2]).all()
    assert (sizes[:, 0] > 0).all()


def test_the_scale_follows_the_gradients():
    """Up at first, down before a large gradient overflows, up again as H decays; H stays what it is, in its units."""
    state = Scaled(initialize(1), jnp.float32(1))
    state = rescaled(state, jnp.float32([2.0**-10]), jnp.float32(1))
    assert float(state.scale) == 2.0**9
    assert float(rescaled(state, jnp.float32([2.0**-9]), jnp.float32(1)).scale) == 2.0**9
    state = state._replace(state=Statistics(jnp.float32([[1.0], [0.5]]), jnp.float32(0.5)))
    down = rescaled(state, jnp.float32([3.0]), jnp.float32(1))
    assert float(down.scale) == 0.25
    assert (np.asarray(down.state.H) == np.asarray([[1.0], [0.5]]) * 2.0**-22).all()
    assert float(down.state.weight) == 0.5
    held = rescaled(state, jnp.float32([2.0**-20]), jnp.float32(1))
    assert float(held.scale) == 2.0**9  # H fills the range
    decayed = state._replace(state=Statistics(jnp.float32([[2.0**-8], [0.0]]), jnp.float32(0.5)))
    assert float(rescaled(decayed, jnp.float32([2.0**-20]), jnp.float32(1)).scale) == 2.0**12


def test_the_scale_ends_where_the_format_ends():
    start = Scaled(initialize(1, epsilon=jnp.zeros((), jnp.float16)), jnp.float16(1))
    assert float(rescaled(start, jnp.full(1, 2.0**-24, jnp.float16), jnp.float16(1)).scale) == 2.0**15


def test_a_gradient_that_measures_nothing_leaves_the_scale():
    state = Scaled(compensate(initialize(2)), jnp.float32(4))
    for bad in (0.0, np.inf, np.nan):
        new = rescaled(state, jnp.float32([bad, bad]), jnp.float32(1))
        assert float(new.scale) == 4
        assert not np.asarray(new.state.statistics.H).any()


def test_a_sum_in_float16_does_not_overflow():
    """2000 squares of 128 come to 2^25: unscaled infinite, scaled right to within its stagnation and its units."""
    G = np.full((2000, 2), 128.0, np.float32)
    plain = streamed(*SUMS["add_compensated"], "float16", G, np.float32(1))
    assert not np.isfinite(np.asarray(plain.statistics.H)[0]).any()

    def begin(statistics):
        return Scaled(compensate(statistics), jnp.ones_like(statistics.weight))

    state = streamed(scaled(add_compensated, jnp.asarray(TARGET)), begin, "float16", G, np.float32(1))
    H = np.asarray(state.state.statistics.H, np.float64)[0] / float(state.scale) ** 2
    assert (np.abs(H / (2000 * 2.0**14) - 1) <= 2.0**-11).all()
