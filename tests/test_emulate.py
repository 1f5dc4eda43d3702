"""Laws of `emulate`: its results and counts are those of the scalar interpreter, bit for bit; and the traps of XLA.

A trap is something that XLA does to a program and that would silently change an emulated one. The name of its test
says which defence it needs.
"""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax
from programs import BY_NAME, PROGRAMS, landmarks
from scalar_interpreter import ScalarInterpreter

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.rounding import round_to
from precond_lab.arithmetic.specification import Arithmetic

f32 = np.float32
FORMATS = ["bfloat16", "float16", "tfloat32", "float32", "float8_e4m3fn", "float8_e5m2"]
AWKWARD = [
    Format("twelve bits", 12, -14, 15),  # one too many for float32 to round once
    Format("saturating e4m3", 4, -6, 8, overflow="saturate", missing_top=1),
    Format("no subnormals", 5, -6, 7, subnormals=False),
    Format("bfloat16 that saturates", 8, -126, 127, overflow="saturate"),
]


def bits(x):
    """The bits of numbers as float64, all NaNs alike; what is no float stays as it is."""
    x = np.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    x = x.astype(np.float64)
    return np.where(np.isnan(x), np.nan, x).view(np.int64)


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True):
        assert np.shape(a) == np.shape(b), jax.tree_util.keystr(path)
        np.testing.assert_array_equal(bits(a), bits(b), err_msg=jax.tree_util.keystr(path))


def assert_is_the_oracle(program, arithmetic, count=True):
    args = program.arguments(arithmetic.result)
    oracle = ScalarInterpreter(arithmetic.result, arithmetic.rounding, arithmetic.accumulator)
    want, counts = oracle(program.function, *args)
    got = emulate(program.function, arithmetic, events=count)(*args)
    if count:
        got, events = got
        assert {name: int(n) for name, n in events._asdict().items()} == counts
    assert_same_bits(got, want)


SAMPLE = [
    ("elementwise", Arithmetic("float8_e4m3fn", "toward_zero")),
    ("library", Arithmetic("float16", "toward_zero")),
    ("sums", Arithmetic("bfloat16", "toward_zero", accumulate="float32")),
    ("moves", Arithmetic("float8_e5m2")),
    ("control", Arithmetic("bfloat16", "toward_zero")),
    ("newton_schulz", Arithmetic("float32", "toward_zero")),
]


@pytest.mark.parametrize(("name", "arithmetic"), SAMPLE, ids=str)
def test_results_and_counts_are_those_of_the_scalar_interpreter(name, arithmetic):
    assert_is_the_oracle(BY_NAME[name], arithmetic)


@pytest.mark.parametrize(
    ("name", "arithmetic"),
    [("attention", Arithmetic("bfloat16", accumulate="float32")), ("adam", Arithmetic("float16"))],
    ids=str,
)
def test_unmodified_code_of_others_gives_the_results_of_the_scalar_interpreter(name, arithmetic):
    assert_is_the_oracle(BY_NAME[name], arithmetic, count=False)


def product():
    """All programs in all arithmetics; the awkward formats and the accumulator only where they matter."""
    for program in PROGRAMS:
        kinds = [*FORMATS, *AWKWARD] if program.name in {"elementwise", "library", "sums"} else FORMATS
        accumulators = [None, "float32"] if program.name == "sums" else [None]
        for format, rounding, accumulate in itertools.product(kinds, ["nearest_even", "toward_zero"], accumulators):
            arithmetic = Arithmetic(format, rounding, accumulate)
            yield pytest.param(program, arithmetic, id=f"{program.name}, {arithmetic}")


@pytest.mark.slow
@pytest.mark.parametrize(("program", "arithmetic"), list(product()))
def test_every_program_in_every_arithmetic_is_that_of_the_scalar_interpreter(program, arithmetic):
    assert_is_the_oracle(program, arithmetic, count=program.name not in {"attention", "adam"})


def test_a_narrower_accumulator_rounds_the_terms_too():
    arithmetic = Arithmetic("float32", accumulate="bfloat16")
    x = np.array([1 + 1.5 * 2**-9, 2**-9, -1.0], f32)
    want, _ = ScalarInterpreter(formats.float32, accumulate=formats.bfloat16)(lambda x: (x.sum(), x.cumsum()), x)
    assert_same_bits(emulate(lambda x: (x.sum(), x.cumsum()), arithmetic)(x), want)
    assert float(want[0]) == 0


def test_events_are_counted_where_they_arise_and_nowhere_else():
    def f(x):
        y = x.at[jnp.array([0])].add(1.0)  # the others, which are large and small, are not touched
        return jnp.where(x > 0, y, -jnp.inf) * 1.0

    x = np.array([1.0, 60000.0, 2.0**-24, np.inf, np.nan], f32)
    _, events = emulate(f, "float16", events=True)(x)
    assert tuple(map(int, events)) == (0, 0, 0, 0)
    _, events = emulate(lambda x: (x * x, 1 / (x - 1), lax.sqrt(-x), x / 4), "float16", events=True)(x)
    assert tuple(map(int, events)) == (1, 2, 4, 1)


def test_counts_beyond_sixteen_bits_are_not_mixed_up():
    x = np.full(70000, 2.0**-20, f32)
    _, events = emulate(lambda x: (x * x, x[:65535] * x[:65535], x * 1e5 / x), "float16", events=True)(x)
    assert int(events.underflow) == 70000 + 65535
    assert int(events.overflow) == 1 + 0 * 70000  # the constant 1e5
    assert int(events.invalid) == 0
    assert int(events.divide_by_zero) == 0


def test_the_float32_carrier_of_bfloat16_flushes_subnormals_and_says_so():
    def f(x, y):
        return x * y

    x, y = f32(2.0**-100), f32(2.0**-30)
    (exact, events), (flushed, counted) = (
        emulate(f, Arithmetic("bfloat16", carrier=carrier), events=True)(x, y) for carrier in ("auto", "float32")
    )
    assert exact == f32(2.0**-130)
    assert int(events.underflow) == 0
    assert flushed == 0
    assert int(counted.underflow) == 1
    y, events = emulate(f, Arithmetic("bfloat16", "toward_zero", carrier="float32"), events=True)(
        f32(2.0**100), f32(-(2.0**30))
    )
    assert float(y) == -formats.bfloat16.max
    assert int(events.overflow) == 1


def test_64_bit_integers_are_rounded_once():
    with jax.enable_x64(True):
        i = np.array([2**60 - 1, -(2**60) + 1, 2**60 + 2**36 + 1, 2**53 + 1, 7, 0])
        got = emulate(lambda i: i.astype(jnp.float32), Arithmetic("float32", "toward_zero"))(i)
        nearest = emulate(lambda i: i.astype(jnp.float32), "float32")(i)
    np.testing.assert_array_equal(got, [2**60 - 2**36, 2**36 - 2**60, 2**60, 2**53, 7, 0])
    np.testing.assert_array_equal(nearest, i.astype(f32))


def test_narrowing_in_a_program_stays_in_the_format():
    y = emulate(lambda x: (x.astype(jnp.bfloat16), lax.reduce_precision(x, 8, 7)), "float16")(f32(65504.0))
    assert [float(v) for v in y] == [np.inf, np.inf]


# The traps of XLA.


def test_trap_1_subnormals_need_a_carrier_in_which_they_are_normal():
    tiny = 2.0**-133  # the smallest bfloat16, a subnormal of float32
    x = np.array([2.0**-120, 3 * tiny, -tiny, 2.0**-126], f32)

    def f(x):
        return x * 2.0**-10, x + x, x / 2, jnp.maximum(x, tiny), x > 0, jnp.sqrt(jnp.abs(x)), x[::-1].sum()

    want, counts = ScalarInterpreter(formats.bfloat16)(f, x)
    got, events = emulate(f, "bfloat16", events=True)(x)
    assert_same_bits(got, want)
    assert int(events.underflow) == counts["underflow"]
    assert float(got[0][0]) == 2.0**-130
    assert float(emulate(lambda x: x, "float32")(f32(1e-45))) == float(f32(1e-45))


def test_trap_3_contraction_needs_integer_operations_between_product_and_sum():
    rng = np.random.default_rng(3)
    a, b, c = rng.normal(size=(3, 500))
    with jax.enable_x64(True):
        wide = emulate(lambda a, b, c: a * b + c, "float64")(a, b, c)
        fused = jax.jit(lambda a, b, c: a * b + c)(a, b, c)
    np.testing.assert_array_equal(wide, a * b + c)
    a, b, c = (x.astype(f32) for x in (a, b, c))
    native = emulate(lambda a, b, c: a * b + c, Arithmetic("float32", carrier="float32"))(a, b, c)
    np.testing.assert_array_equal(native, a * b + c)
    assert fused.dtype == np.float64


def test_trap_4_regrouping_needs_integer_operations_between_or_hidden_constants():
    x = np.linspace(1, 2, 301)

    def f(x):
        return (x + 1e8) - 1e8, (x * 1.1) * 1.3, (x + 1.1) + 1.3, (x / 7) * 7, (x + 8) - 8

    want = f(x)
    with jax.enable_x64(True):
        assert_same_bits(emulate(f, "float64")(x), want)
    x = x.astype(f32)
    assert_same_bits(emulate(f, Arithmetic("float32", carrier="float32"))(x), f(x))


def test_trap_5_division_by_a_constant_needs_a_divisor_that_depends_on_the_dividend():
    x = np.arange(1, 300).astype(f32)
    got = emulate(lambda x: x / 3, Arithmetic("float32", carrier="float32"))(x)
    np.testing.assert_array_equal(got, x / f32(3))
    with jax.enable_x64(True):
        wide = x.astype(np.float64)
        np.testing.assert_array_equal(emulate(lambda x: x / 3, "float64")(wide), wide / 3)
    multiples = (np.arange(1, 20) * 49).astype(f32)
    quotients = emulate(lambda x: x / 49, Arithmetic("float16", "toward_zero", accumulate="float32"))(multiples)
    np.testing.assert_array_equal(quotients, multiples / 49)


def test_trap_5_reciprocal_roots_need_float64_and_trusted_bits():
    x = np.concatenate([np.arange(1, 300), 4.0 ** np.arange(-5, 5)]).astype(f32)
    for arithmetic in (Arithmetic("float32"), Arithmetic("float16", "toward_zero")):
        want, _ = ScalarInterpreter(arithmetic.result, arithmetic.rounding)(lax.rsqrt, x)
        assert_same_bits(emulate(lax.rsqrt, arithmetic)(x), want)


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero"])
def test_trap_5_exact_powers_need_trusted_bits(rounding):
    n = np.arange(-12, 13).astype(f32)
    arithmetic = Arithmetic("float16", rounding)
    base = np.linspace(1, 2, 129).astype(f32)  # squares of eight bits: many ties between numbers of eleven
    exp2, cbrt, square = emulate(lambda n, x: (jnp.exp2(n), jnp.cbrt(n**3), lax.pow(x, 2.0)), arithmetic)(n, base)
    np.testing.assert_array_equal(exp2, 2.0**n)
    np.testing.assert_array_equal(cbrt, n)
    np.testing.assert_array_equal(square, emulate(jnp.square, arithmetic)(base))


def test_trap_6_sums_need_an_order_of_their_own():
    rng = np.random.default_rng(6)
    A, B = rng.normal(size=(2, 33, 33))
    total = A[:, 0]
    for column in A.T[1:]:
        total = total + column
    product = np.outer(A[:, 0], B[0])
    for k in range(1, 33):
        product = product + np.outer(A[:, k], B[k])
    with jax.enable_x64(True):
        got = emulate(lambda A, B: (jnp.sum(A, axis=1), A @ B, jnp.cumsum(A, axis=1)[:, -1]), "float64")(A, B)
    for value, want in zip(got, (total, product, total), strict=True):
        np.testing.assert_array_equal(value, want)


def test_trap_7_excess_precision_needs_a_carrier_and_no_pairs_of_casts():
    a, b = np.random.default_rng(7).normal(size=(2, 400)).astype(ml_dtypes.bfloat16)
    got = emulate(lambda a, b: (a * b).astype(jnp.float32) - a.astype(jnp.float32), "bfloat16")(a, b)
    exact = [x.astype(np.float64) for x in (a, b)]
    product = np.asarray(round_to(exact[0] * exact[1], "bfloat16"))
    np.testing.assert_array_equal(got, np.asarray(round_to(product - exact[0], "bfloat16")))


def test_trap_11_directed_sums_need_their_residual():
    arithmetic = Arithmetic("bfloat16", "toward_zero")

    def f(x, y):
        return x + y, x - y, jnp.sum(jnp.stack([x, y])), lax.cumsum(jnp.stack([x, y]))[1]

    for y in (-(2.0**-30), -(2.0**-60), -(2.0**-120)):
        plus, minus, total, cumulative = emulate(f, arithmetic)(f32(1), f32(y))
        assert float(plus) == float(total) == float(cumulative) == 1 - 2.0**-8
        assert float(minus) == 1
    assert float(emulate(f, Arithmetic("float16", "toward_zero"))(f32(1), f32(-(2.0**-24)))[0]) == 1 - 2.0**-11


def test_trap_11_more_than_eleven_bits_need_more_than_float32():
    """The sum lies just below a tie of twelve bits; float32 would round it to the tie, and that to even."""
    y = emulate(lambda x, y: x + y, AWKWARD[0])(f32(1 + 2.0**-11), f32(2.0**-12 - 2.0**-24))
    assert float(y) == 1 + 2.0**-11


@pytest.mark.parametrize("format", FORMATS)
def test_trap_12_every_nan_needs_to_stay_one(format):
    payloads = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000], np.uint32).view(f32)
    for rounding in ("nearest_even", "toward_zero"):
        y = emulate(lambda x: (x, x + 1, -x * 0), Arithmetic(format, rounding))(payloads)
        assert np.isnan(y).all()


def test_trap_13_float64_needs_the_x64_context_when_x64_is_off():
    assert not jax.config.jax_enable_x64
    x = f32(1)
    e = emulate(lambda x, y: x + y, Arithmetic("float32", "toward_zero"))
    assert float(e(x, f32(-(2.0**-50)))) == 1 - 2.0**-24
    assert "f64" in jax.jit(e).lower(x, x).as_text()
    assert e(x, x).dtype == np.float32
    assert not jax.config.jax_enable_x64


def test_trap_17_random_bits_need_a_key_of_every_operation_and_step():
    e = emulate(
        lambda x: (x / 3, x / 3, lax.scan(lambda c, _: (c, x / 3), 0.0, length=3)[1]),
        Arithmetic("bfloat16", "stochastic"),
    )
    first, second, steps = jax.jit(e)(np.ones(64, f32))
    rows = np.stack([first, second, *steps])
    assert all((a != b).any() for a, b in itertools.combinations(rows, 2))


@pytest.mark.parametrize("format", [*FORMATS, *AWKWARD], ids=str)
def test_inputs_are_rounded_and_come_out_as_numbers_of_the_format(format):
    x = landmarks(formats.named(format))
    got = emulate(lambda x: x, format)(x)
    assert_same_bits(got, round_to(x, format))


@pytest.mark.parametrize("arithmetic", [Arithmetic("bfloat16", carrier="float32"), "float16"], ids=str)
def test_every_nan_that_comes_in_stays_one(arithmetic):
    """Also a signaling one, whose payload is rounded away, and one full of ones, to which nothing can be added."""
    x = np.array([0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF, 0xFF800001], np.uint32).view(np.float32)
    assert np.isnan(emulate(lambda x: x * 1, arithmetic)(x)).all()
