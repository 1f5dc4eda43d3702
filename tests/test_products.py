"""Matrix products in every order equal the definition, evaluated one exact rational operation at a time."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scalar_sums import Sums, power, rounded
from test_sums import name, numbers, same

import precond_lab as pl
from precond_lab.arithmetic import native_loops, product_loops
from precond_lab.arithmetic.integer_products import round_operands

ARITHMETICS = [
    pl.Arithmetic("bfloat16"),
    pl.Arithmetic("float16", fma=True),
    pl.Arithmetic("bfloat16", order="pairwise", fma=True, rounding="up"),
    pl.Arithmetic("bfloat16", accumulate="float32", order="blocked(2)"),
    pl.Arithmetic("float8_e4m3fn", accumulate="float16", order="reversed", rounding="toward_zero"),
    pl.Arithmetic("float16", order="exact", rounding="down"),
    pytest.param(pl.Arithmetic("bfloat16", order="exact"), marks=pytest.mark.slow),
    pytest.param(
        pl.Arithmetic("float16", operands="float8_e4m3fn", order="exact", rounding="nearest_away"),
        marks=pytest.mark.slow,
    ),
]


def program(a, b):
    return {
        "matrix": jnp.tensordot(a, b, axes=((0, 2), (0, 2))),
        "batched": jnp.einsum("kij,kil->ijl", a, b),
        "vmapped": jax.vmap(jnp.matmul, in_axes=(1, None))(a, b[0].T),
        "dot": a[:, 0, 0] @ b[:, 0, 1],
    }


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=name)
def test_products_equal_the_definition(arithmetic):
    format = arithmetic.operands or arithmetic.result
    a, b = numbers(5, (5, 2, 4), format), numbers(6, (5, 3, 4), format)
    a, b = (np.where(np.isfinite(x), x, 1.5) if format.overflow == "nan" else x for x in (a, b))
    with jax.enable_x64(True):
        got = pl.emulate(program, arithmetic)(a, b[:, :2])
        wide = pl.emulate(lambda a, b: jnp.tensordot(a, b, axes=((0, 2), (0, 2))), arithmetic)(a, b)
    law = Sums(arithmetic)

    def dot(x, y):
        return law.dot(list(zip(map(float, x), map(float, y), strict=True)))

    same(wide, [[dot(a[:, i].ravel(), b[:, j].ravel()) for j in range(3)] for i in range(2)])
    same(got["batched"], [[[dot(a[:, i, j], b[:, i, l]) for l in range(4)] for j in range(4)] for i in range(2)])
    same(got["dot"], dot(a[:, 0, 0], b[:, 0, 1]))
    same(got["vmapped"], [[[dot(a[k, i], b[0, l]) for l in range(2)] for k in range(5)] for i in range(2)])


FAST = [
    pl.Arithmetic("bfloat16"),
    pytest.param(pl.Arithmetic("float16", order="reversed"), marks=pytest.mark.slow),
    pytest.param(pl.Arithmetic("float8_e4m3fn"), marks=pytest.mark.slow),
    pl.Arithmetic("float8_e5m2", accumulate="bfloat16"),
    pytest.param(pl.Arithmetic("bfloat16", accumulate="float32"), marks=pytest.mark.slow),
    pytest.param(pl.Arithmetic(pl.Format("flushing", 9, -40, 40, subnormals=False)), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("arithmetic", FAST, ids=name)
def test_the_fast_loop_is_the_general_one(arithmetic, monkeypatch):
    """Where it is taken, and where the numbers do not let it: both are the same to the bit."""
    generator, format = np.random.default_rng(7), arithmetic.result
    a, b = generator.normal(size=(5, 70)), generator.normal(size=(70, 9))
    a[0], a[1, 3], a[2], b[5] = 0, -0.0, -np.abs(a[2]), 0
    scales = [1.0, format.min_normal**0.5, format.max**0.5 / 8, format.max**0.5]
    cases = [(a * scale, b * scale) for scale in scales]
    cases.append((np.where(a > 2, np.inf, a), np.where(b < -2.2, np.nan, b)))
    results = []
    for worthwhile, native in ((0, "1"), (0, "0"), (10**12, "0")):
        monkeypatch.setattr(product_loops, "WORTHWHILE", worthwhile)
        monkeypatch.setenv(native_loops.SWITCH, native)
        with jax.enable_x64(True):
            one = pl.emulate(jnp.matmul, arithmetic)
            results.append([one(*case) for case in cases])
            together = jax.vmap(pl.emulate(jnp.matmul, arithmetic))
            results[-1].append(together(*map(np.stack, zip(*cases, strict=True))))
    for native, fast, general in zip(*results, strict=True):
        same(fast, general)
        same(native, general)
    same(results[0][-1], np.stack(results[0][:-1]))


def test_the_fast_loop_is_taken_for_ordinary_numbers_and_left_for_others():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(8).normal(size=(64, 1, 3)))
        for format, scale, taken in [
            ("bfloat16", 1.0, True),
            ("bfloat16", 2.0**-60, False),
            ("bfloat16", 2.0**60, False),
            ("float16", 2.0**-10, True),
            ("float16", 2.0**8, False),
            ("float8_e4m3fn", 1.0, True),
            ("float8_e4m3fn", 16.0, False),
        ]:
            arithmetic = pl.Arithmetic(format)
            loop = product_loops.loop_of(arithmetic, counting=False)
            y = pl.round_to(x * scale, format)
            assert bool(product_loops.attempt(loop, y, y)[1]) is taken, (format, scale)
    assert product_loops.loop_of(pl.Arithmetic("bfloat16", rounding="up"), counting=False) is None
    assert product_loops.loop_of(pl.Arithmetic("float32"), counting=False) is None


def test_the_fast_loop_is_left_where_an_operand_alone_is_not_moderate(monkeypatch):
    """Products of ordinary size, of operands that float32 flushes, or that times a power of two leave it."""
    ones = np.ones((3, 4))
    wide = pl.Arithmetic(pl.Format("wide", 8, -400, 400))
    for arithmetic, powers in [
        (pl.Arithmetic("bfloat16"), (120, -100)),
        (pl.Arithmetic("bfloat16"), (-130, 60)),
        (pl.Arithmetic("bfloat16", accumulate="float32"), (-130, 60)),
        (wide, (200, -190)),
        (wide, (-300, 299)),
    ]:
        a, b = (ones * 2.0**power for power in powers)
        monkeypatch.setattr(product_loops, "WORTHWHILE", 0)
        with jax.enable_x64(True):
            got, other = pl.emulate(lambda a, b: (a @ b.T, b @ a.T), arithmetic)(a, b)
        same(got, np.full((3, 3), 4 * 2.0 ** sum(powers)))
        same(other, got)


def test_the_fast_loop_is_left_for_operands_with_more_bits_than_results(monkeypatch):
    """Numbers of a code book: their products are inexact in float32, so that a rounding there would be one too many."""
    generator = np.random.default_rng(12)
    a, b = (generator.normal(size=shape).astype(np.float32) for shape in ((200, 64), (64, 200)))
    arithmetic = pl.Arithmetic("bfloat16", operands=pl.CodeBook())
    results = []
    for worthwhile in (0, 10**12):
        monkeypatch.setattr(product_loops, "WORTHWHILE", worthwhile)
        results.append(pl.emulate(lambda a, b: a @ b, arithmetic)(a, b))
    same(*results)


def test_exact_products_of_operands_beyond_the_format_of_results():
    """Operands of a code book are no numbers of it; of float64, they hold them all: the sum is rounded once."""
    a = np.float32([[2.0**-20 * 1.37, 3.3 * 2.0**-19, 2.0**-21]])
    b = np.full((3, 1), 2.0**10, np.float32)
    book = pl.CodeBook()
    x, y = round_operands(pl.round_to(a, "float16"), b, (((1,), (0,)), ((), ())), book)
    exact = sum(Fraction(float(u)) * Fraction(float(v)) for u, v in zip(np.ravel(x), np.ravel(y), strict=True))
    got = pl.emulate(jnp.matmul, pl.Arithmetic("float16", operands=book, order="exact"))(a, b)
    assert float(got[0, 0]) == rounded(exact, pl.formats.named("float16"), "nearest_even")
    a, b = np.float64([[1.0, 1.0, 2.0**-40]]), np.float64([[1.0], [2.0**-11], [2.0**-20]])
    with jax.enable_x64(True):
        wide = pl.Format("wide", 11, -60, 60)
        tie = pl.emulate(jnp.matmul, pl.Arithmetic(wide, operands="float64", order="exact"))(a, b)
    assert float(tie[0, 0]) == 1 + 2.0**-10


def test_the_loop_in_c_is_that_in_jax_on_tiles_of_every_size(monkeypatch):
    """Rows and columns that fill no tile, several members of a batch, sums that leave the format within a chunk."""
    if native_loops.target() is None:
        pytest.skip("there is no C compiler")
    generator = np.random.default_rng(10)
    for format in ("bfloat16", "float16", "float8_e4m3fn"):
        loop = product_loops.loop_of(pl.Arithmetic(format), counting=False)
        with jax.enable_x64(True):
            a, b = (pl.round_to(generator.normal(size=(150, 3, n)), format) for n in (130, 67))
            results = []
            for native in ("1", "0"):
                monkeypatch.setenv(native_loops.SWITCH, native)
                attempt = jax.jit(lambda a, b, loop=loop: product_loops.attempt(loop, a, b))
                results.append([attempt(a, b), attempt(a * 2, b * 2)])
        for (one, good), (other, well) in zip(*results, strict=True):
            assert bool(good) == bool(well)
            if good:
                same(one, other)
        assert bool(results[0][0][1])


def test_without_a_compiler_the_loop_in_jax_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(native_loops.shutil, "which", lambda name: None)
    native_loops._registered.cache_clear()
    try:
        assert native_loops.target() is None
        monkeypatch.setattr(native_loops.shutil, "which", lambda name: "/bin/false")
        monkeypatch.setattr(native_loops.platformdirs, "user_cache_dir", lambda name: str(tmp_path))
        native_loops._registered.cache_clear()
        assert native_loops.target() is None
    finally:
        native_loops._registered.cache_clear()


@pytest.mark.parametrize("precision", [2, 3, 4, 8, 11])
def test_the_fast_rounding_is_rounding_to_nearest_even(precision):
    """All float32 significands that are near a breakpoint or an end of the binade, by the loop's three operations."""
    scale = np.float32(2.0 ** (24 - precision))
    spacing = 2 ** (24 - precision)
    near = np.arange(2**23, 2**24, max(spacing // 2, 2**23 // 256))[:, None] + np.arange(-2, 3)
    x = np.unique(np.concatenate([near.ravel(), 2**23 + np.arange(300), 2**24 - 1 - np.arange(300)]))
    x = x[(x >= 2**23) & (x < 2**24)].astype(np.float32)
    h = x * scale
    got = h - (h - x)
    format = pl.Format("unbounded", precision, -100, 100)
    want = [rounded(Fraction(float(v)), format, "nearest_even") for v in x]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("counting", [False, True])
def test_events_of_a_product_are_counted_in_either_loop(counting, monkeypatch):
    a = np.float32([[1.0, 2.0, 3e38, -0.0], [1e-30, 1.0, 0.5, 1.0]])
    b = np.float32([[1.0, 1e-3], [2.0, 3.0], [2.0, 1.0], [1.0, 4.0]])
    monkeypatch.setattr(product_loops, "WORTHWHILE", 0 if counting else 10**12)
    for x, counts in [(a, (1, 0, 0)), (np.nan_to_num(a) * np.float32(2.0**-20), (0, 0, 0))]:
        _, events = pl.emulate(jnp.matmul, "bfloat16", events=True)(x, b)
        assert (int(events.overflow), int(events.underflow), int(events.invalid)) == counts


@pytest.mark.parametrize(
    "format", ["float8_e4m3fn", "float32", *(pytest.param(f, marks=pytest.mark.slow) for f in ("float16", "bfloat16"))]
)
def test_exact_products_of_every_format_cancel_to_the_last_bit(format):
    """Sums of k products and their negatives, but for one product of the smallest numbers."""
    record = pl.formats.named(format)
    generator = np.random.default_rng(9)
    x = pl.round_to(generator.normal(size=(3, 40)) * 2.0 ** generator.integers(-5, 5, (3, 40)), format)
    small = np.full((3, 1), 2.0 ** (record.min_exponent // 2))
    a = np.concatenate([x, small, -np.asarray(x)], axis=1)
    b = np.concatenate([x, small, np.asarray(x)], axis=1)
    with jax.enable_x64(True):
        got = pl.emulate(lambda a, b: jnp.sum(a * 0) + a @ b.T, pl.Arithmetic(format, order="exact"))(a, b)
    assert np.diag(got).tolist() == [2.0 ** (record.min_exponent // 2 * 2)] * 3


def test_a_narrower_type_of_results_is_rounded_to():
    a = np.float32([[1.0, 2.0**-9]])
    half = pl.emulate(lambda a: lax.dot(a, a.T, preferred_element_type=jnp.bfloat16), "float32")(a.astype(np.float32))
    assert half.dtype == jnp.bfloat16
    assert float(half[0, 0]) == 1.0
    assert float(pl.emulate(lambda a: lax.dot(a, a.T), "float32")(a)[0, 0]) == 1 + 2.0**-18


@pytest.mark.parametrize(
    "arithmetic",
    [pl.Arithmetic("bfloat16"), pytest.param(pl.Arithmetic("float16", order="exact"), marks=pytest.mark.slow)],
    ids=name,
)
def test_the_derivative_is_that_of_the_product(arithmetic, monkeypatch):
    monkeypatch.setattr(product_loops, "WORTHWHILE", 0)
    a, b = np.float32([[1.0, 2.0], [3.0, 4.0]]), np.float32([[2.0, -1.0], [0.5, 8.0]])

    def loss(a, b):
        return jnp.sum(pl.emulate(jnp.matmul, arithmetic)(a, b) * jnp.arange(4.0).reshape(2, 2))

    def plain(a, b):
        return jnp.sum((a @ b) * jnp.arange(4.0).reshape(2, 2))

    for ours, theirs in zip(jax.grad(loss, (0, 1))(a, b), jax.grad(plain, (0, 1))(a, b), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    inside = pl.emulate(jax.grad(plain), arithmetic)(a, b)
    np.testing.assert_array_equal(inside, jax.grad(plain)(a, b))


def test_integers_times_a_float_scale():
    """Quantized operands: the exact integer product, times both scales."""
    a = np.float32([[127.0, -64.0, 1.0], [2.0, 0.5, -127 / 64]])
    got = pl.emulate(lambda a: a @ a.T, pl.Arithmetic("float32", operands=pl.Integer(8, scale="row")))(a)
    exact = np.array([[127, -64, 1], [127, 32, -126]], float)
    want = exact @ exact.T * np.outer([1, 2 / 127], [1, 2 / 127])
    np.testing.assert_allclose(got, want, rtol=4 * float(power(-24)))


def test_scaled_integer_sums_of_blocks_are_terms_of_a_sum():
    """Each is rounded to the accumulator, and so is every partial sum, in the order of the arithmetic."""
    operands, a = pl.Integer(8, scale="block", block=1), np.float32([[16, 1, 1]])
    for order, accumulate, want in (("sequential", None, 256), ("reversed", None, 258), ("sequential", "float32", 258)):
        arithmetic = pl.Arithmetic("bfloat16", operands=operands, order=order, accumulate=accumulate)
        assert pl.emulate(lambda a: a @ a.T, arithmetic)(a).item() == want, (order, accumulate)


@pytest.mark.parametrize(
    "arithmetic",
    [
        pytest.param(pl.Arithmetic("bfloat16", order="exact"), marks=pytest.mark.slow),
        pl.Arithmetic("bfloat16"),
        pytest.param(pl.Arithmetic.preset("h100-bf16"), marks=pytest.mark.slow),
    ],
    ids=name,
)
def test_sums_and_products_compile_within_a_program_that_has_no_float64(arithmetic, monkeypatch):
    """JAX lowers them after x64 mode has ended: alone, under vmap, and in a backward pass."""
    monkeypatch.setattr(product_loops, "WORTHWHILE", 0)
    x = np.random.default_rng(11).normal(size=(6, 5)).astype(np.float32)

    def program(x):
        added = jnp.zeros(3).at[jnp.array([0, 1, 1, 2, 0, 1])].add(x[:, 0])
        windows = lax.reduce_window(x, 0.0, lax.add, (2, 2), (1, 1), "SAME")
        return jnp.cumsum(x, axis=0), x @ x.T, added, windows

    emulated = pl.emulate(program, arithmetic)
    eager, lanes = emulated(x), jax.jit(jax.vmap(emulated))(np.stack([x, 2 * x]))
    jax.tree.map(np.testing.assert_array_equal, jax.jit(emulated)(x), eager)
    jax.tree.map(lambda many, one: np.testing.assert_array_equal(many[0], one), lanes, eager)
    gradient = jax.jit(jax.grad(lambda x: sum(map(jnp.sum, emulated(x)))))(x)
    assert gradient.dtype == jnp.float32
    assert np.isfinite(gradient).all()
