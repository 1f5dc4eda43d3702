"""The traps of compilers and casts: each is real, is avoided, and catches the arithmetic whose defence is taken away.

Every test shows three things: that JAX on this machine falls into the trap (or the test is skipped, and says so), that
`emulate` and `round_to` do not, and that a copy of the arithmetic without the defence does.
"""

import re
from pathlib import Path

import jax
import jax.extend as jex
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax
from planted import copied
from scalar_interpreter import ScalarInterpreter
from test_emulate import assert_same_bits, bits

import precond_lab as pl
from precond_lab.arithmetic import formats
from precond_lab.arithmetic.emulate import WIDE_VECTORS
from precond_lab.interpreter import UnsupportedPrimitiveError

f32 = np.float32
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "rounding_traps.md"
NATIVE = {"format": "float32", "carrier": "float32"}  # the arithmetic of the machine itself: there is nothing to spare


def need(condition, reason):
    """Skip where the machine does not have the trap."""
    if not condition:
        pytest.skip(reason)


def assert_differs(got, want):
    assert (bits(got) != bits(want)).any()


def unrounded(x, *_, **__):
    return x


class Without:
    """A module in which some names are replaced."""

    def __init__(self, module, **names):
        self._module, self.__dict__ = module, {"_module": module, **names}

    def __getattr__(self, name):
        return getattr(self._module, name)


def test_1_subnormals_are_flushed():
    x, y = f32(2.0**-100), f32(2.0**-30)
    need(float(jax.jit(jnp.multiply)(x, y)) == 0, "the device keeps subnormals")
    assert float(pl.emulate(jnp.multiply, "bfloat16")(x, y)) == 2.0**-130
    assert float(pl.emulate(jnp.multiply, pl.Arithmetic("bfloat16", carrier="float32"))(x, y)) == 0
    tiny = np.array([3 * 2.0**-133, -(2.0**-127)], f32)
    assert_same_bits(pl.emulate(lambda x: x, "bfloat16")(tiny), tiny)
    with copied() as copy:
        copy.machine.widen = lambda x: x.astype(jnp.float64)
        assert_same_bits(abs(copy.emulate.emulate(lambda x: x, "bfloat16")(tiny)), np.zeros(2))
    with copied() as copy:
        copy.machine.narrow = lambda x: x.astype(jnp.float32)
        assert_same_bits(abs(copy.emulate.emulate(lambda x: x, "bfloat16")(tiny)), np.zeros(2))


def test_2_what_is_known_beforehand_is_not_flushed():
    """So an oracle must take its inputs at run time; and NumPy in a callback flushes as well."""
    x = f32(2e-40)
    folded = jax.jit(lambda: jnp.asarray(x) * 1)()
    at_run_time = jax.jit(lambda x: x * 2)(x)
    need(float(at_run_time) == 0 and float(folded) == float(x), "the device treats both alike")

    def f(x):
        return x * 3, x + x, x / 4

    known, given = pl.emulate(lambda: f(jnp.asarray(x)), "float32")(), pl.emulate(f, "float32")(x)
    assert_same_bits(known, given)
    assert_same_bits(given, f(x))

    def callback(x):
        return jax.pure_callback(lambda x: np.asarray(x) * f32(2), jax.ShapeDtypeStruct((), f32), x)

    with pytest.raises(UnsupportedPrimitiveError, match="pure_callback"):
        pl.emulate(callback, "float32")(x)
    with copied() as copy:
        copy.rules.KINDS["pure_callback"] = copy.primitives.Kind.EXACT
        arithmetic = copy.specification.Arithmetic(**NATIVE)
        assert float(copy.emulate.emulate(callback, arithmetic)(x)) != float(f32(2) * x)


def test_3_a_product_and_a_sum_are_contracted():
    a, b, c = np.random.default_rng(3).normal(size=(3, 500)).astype(f32)

    def f(a, b, c):
        return a * b + c

    need((jax.jit(f)(a, b, c) != f(a, b, c)).any(), "the compiler does not contract")
    assert_same_bits(pl.emulate(f, pl.Arithmetic(**NATIVE))(a, b, c), f(a, b, c))
    with jax.enable_x64(True):
        wide = [x.astype(np.float64) / 3 for x in (a, b, c)]
        assert_same_bits(pl.emulate(f, "float64")(*wide), f(*wide))
    with copied() as copy:
        copy.machine.round_bits = unrounded
        assert_differs(copy.emulate.emulate(f, copy.specification.Arithmetic(**NATIVE))(a, b, c), f(a, b, c))


def test_4_sums_and_products_with_constants_are_regrouped():
    x = np.linspace(1, 2, 301).astype(f32)

    def f(x):
        return (x + f32(1e8)) - f32(1e8), (x * f32(1.1)) * f32(1.3), (x + f32(1.1)) + f32(1.3), (x / f32(7)) * f32(7)

    # The last is trap 5 as well, which has a defence of its own.
    need(any((a != b).any() for a, b in zip(jax.jit(f)(x)[:3], f(x)[:3], strict=True)), "the compiler does not regroup")
    assert_same_bits(pl.emulate(f, pl.Arithmetic(**NATIVE))(x), f(x))
    with copied() as copy:
        copy.machine.round_bits = unrounded
        copy.machine.lax = Without(lax, optimization_barrier=lambda x: x)
        got = copy.emulate.emulate(f, copy.specification.Arithmetic(**NATIVE))(x)
        assert any((bits(a) != bits(b)).any() for a, b in zip(got, f(x), strict=True))


def test_5_division_by_a_constant_is_multiplication_by_its_reciprocal():
    x = np.arange(1, 2000).astype(f32)

    def f(x):
        return x / 3, x / 49

    want = x / f32(3), x / f32(49)
    need((jax.jit(f)(x)[0] != want[0]).any(), "the compiler divides")
    assert_same_bits(pl.emulate(f, pl.Arithmetic(**NATIVE))(x), want)
    with copied() as copy:
        copy.machine.Machine.divide = lambda self, a, b, state: self.settle(a / b, state, "div", (a, b))
        got = copy.emulate.emulate(f, copy.specification.Arithmetic(**NATIVE))(x)
        assert_differs(got[0], want[0])


def test_5_reciprocal_roots_are_not_correctly_rounded():
    x = np.concatenate([np.arange(1, 300), 4.0 ** np.arange(-5, 5)]).astype(f32)
    want, _ = ScalarInterpreter(formats.float32)(lax.rsqrt, x)
    need((np.asarray(jax.jit(lax.rsqrt)(x)) != want).any(), "the device's rsqrt is correctly rounded")
    assert_same_bits(pl.emulate(lax.rsqrt, "float32")(x), want)
    toward_zero = pl.Arithmetic("float16", "toward_zero")
    want, _ = ScalarInterpreter(formats.float16, "toward_zero")(lax.rsqrt, x)
    assert_same_bits(pl.emulate(lax.rsqrt, toward_zero)(x), want)
    with copied() as copy:
        copy.rules.WITH_EXACT_RESULTS = frozenset()
        cube_roots = copy.emulate.emulate(jnp.cbrt, copy.specification.Arithmetic("float16", "toward_zero"))(x**3)
        exact = pl.emulate(jnp.cbrt, toward_zero)(x**3)
        assert_differs(cube_roots, exact)


def test_6_sums_have_no_order_of_their_own():
    A, B = np.random.default_rng(6).normal(size=(2, 64, 33)).astype(f32)

    def f(A, B):
        return jnp.sum(A, axis=1), A @ B.T

    total, product = A[:, 0], np.outer(A[:, 0], B[:, 0])
    for k in range(1, A.shape[1]):
        total = total + A[:, k]
        product = product + np.outer(A[:, k], B[:, k])
    native = jax.jit(f)(A, B)
    need(any((a != b).any() for a, b in zip(native, (total, product), strict=True)), "the device adds in sequence")
    arithmetic = pl.Arithmetic(**NATIVE)
    assert_same_bits(pl.emulate(f, arithmetic)(A, B), (total, product))
    with copied() as copy:
        for name in ("reduce_sum", "dot_general"):
            copy.rules.SPECIAL[name] = copy.rules._rounded
        got = copy.emulate.emulate(f, copy.specification.Arithmetic(**NATIVE))(A, B)
        assert any((bits(a) != bits(b)).any() for a, b in zip(got, (total, product), strict=True))


def test_7_a_narrow_product_keeps_its_excess_precision():
    a, b = np.random.default_rng(7).normal(size=(2, 400)).astype(ml_dtypes.bfloat16)

    def f(a, b):
        return (a * b).astype(jnp.float32)

    want = (a * b).astype(f32)  # ml_dtypes rounds every product
    need((jax.jit(f)(a, b) != want).any(), "the compiler rounds in between")
    assert_same_bits(pl.emulate(f, "bfloat16")(a, b), want)
    with copied() as copy:
        copy.machine.round_bits = unrounded  # and leaves the dtypes to the compiler
        assert_differs(copy.emulate.emulate(f, "bfloat16")(a, b), want)


def test_8_reduce_precision_flushes_the_subnormals_of_its_target():
    x = (np.arange(1, 2000) * 2.0**-26).astype(f32)

    def reduced(x, format=None, *_, **__):
        return lax.reduce_precision(x, exponent_bits=5, mantissa_bits=10)

    need((jax.jit(reduced)(x) != x.astype(np.float16).astype(f32)).any(), "the device keeps the subnormals")
    want = x.astype(np.float16).astype(f32)  # NumPy's own
    assert_same_bits(pl.round_to(x, "float16"), want)
    assert_same_bits(pl.emulate(lambda x: x, "float16")(x), want)
    assert_same_bits(pl.emulate(lambda x: lax.reduce_precision(x, 5, 10), "float32")(x), want)
    with copied() as copy:
        copy.machine.round_bits = reduced
        assert_differs(copy.emulate.emulate(lambda x: x, "float16")(x), want)


CONVENTIONS = {  # what becomes of a little too much, of far too much, of infinity, of -1e-30, and the largest number
    "float8_e4m3fn": (448.0, np.nan, np.nan, -0.0, 448),
    "float8_e4m3": (240.0, np.inf, np.inf, -0.0, 240),
    "float8_e5m2": (57344.0, np.inf, np.inf, -0.0, 57344),
    "float8_e3m4": (15.5, np.inf, np.inf, -0.0, 15.5),
    "float8_e4m3b11fnuz": (30.0, np.nan, np.nan, 0.0, 30),
    "float8_e4m3fnuz": (240.0, np.nan, np.nan, 0.0, 240),
    "float8_e5m2fnuz": (57344.0, np.nan, np.nan, 0.0, 57344),
    "float8_e8m0fnu": (2.0**127, np.nan, np.nan, np.nan, 2.0**127),
    "float6_e3m2fn": (28.0, 28.0, 28.0, -0.0, 28),
    "float6_e2m3fn": (7.5, 7.5, 7.5, -0.0, 7.5),
    "float4_e2m1fn": (6.0, 6.0, 6.0, -0.0, 6),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_9_every_eight_bit_format_has_conventions_of_its_own(name):
    little, far, infinite, tiny, largest = CONVENTIONS[name]
    format = formats.named(name)
    assert format.max == largest
    x = np.array([largest * (1 + format.unit_roundoff / 2), largest * 1.9, np.inf, -1e-30, np.nan])
    with jax.enable_x64(True):
        got = pl.emulate(lambda x: x, name)(x)
    assert_same_bits(got, np.array([little, far, infinite, tiny, np.nan]))


def test_9_one_convention_for_all_is_wrong():
    x = np.array([448.0, 464.0, 465.0, 1e6, np.inf], f32)
    want = np.array([448, 448, np.nan, np.nan, np.nan], f32)
    assert_same_bits(pl.round_to(x, "float8_e4m3fn"), want)
    saturating = pl.Format("e4m3 that saturates", 4, -6, 8, overflow="saturate", missing_top=1)
    assert_same_bits(pl.round_to(x, saturating), np.full(x.shape, 448, f32))  # as PyTorch has it
    assert_differs(lax.reduce_precision(x, exponent_bits=4, mantissa_bits=3), want)  # as IEEE would have it
    with copied() as copy:
        plain = copy.formats.Format("e4m3 with the policy of IEEE", 4, -6, 8)
        assert_differs(copy.rounding.round_to(x, plain), want)


def test_10_a_cast_from_float64_rounds_twice():
    x = 1 + 2.0**-8 + 2.0**-40 * np.arange(1, 50)
    need((x.astype(ml_dtypes.bfloat16) == 1).all(), "the cast rounds once")
    assert_same_bits(pl.round_to(x, "bfloat16"), np.full(x.shape, 1 + 2.0**-7))
    assert_same_bits(pl.emulate(lambda x: x, "bfloat16")(x), np.full(x.shape, 1 + 2.0**-7))
    with copied() as copy:
        once = copy.machine.round_bits

        def twice(x, format, *rest, **options):
            return once(once(x, copy.formats.float32, "nearest_even"), format, *rest, **options)

        copy.machine.round_bits = twice
        assert_same_bits(copy.emulate.emulate(lambda x: x, "bfloat16")(x), np.ones(x.shape))


def test_11_a_directed_sum_is_rounded_twice():
    def f(x, y):
        return x + y, jnp.sum(jnp.stack([x, y])), lax.cumsum(jnp.stack([x, y]))[1]

    x, y = f32(1), f32(-(2.0**-60))
    assert float(pl.round_to(x + y, "bfloat16", "toward_zero")) == 1  # the trap: the sum is rounded before
    for mode, want in {"toward_zero": 1 - 2.0**-8, "down": 1 - 2.0**-8, "odd": 1 - 2.0**-8, "up": 1.0}.items():
        assert [float(v) for v in pl.emulate(f, pl.Arithmetic("bfloat16", mode))(x, y)] == [want] * 3
    with copied() as copy:
        copy.machine.sum_to_odd = jnp.add
        arithmetic = copy.specification.Arithmetic("bfloat16", "toward_zero")
        assert [float(v) for v in copy.emulate.emulate(f, arithmetic)(x, y)] == [1.0] * 3


def test_11_more_than_eleven_bits_need_more_than_float32():
    """The sum lies just below a tie of twelve bits; float32 would round it to the tie, and that to even."""
    twelve = pl.Format("twelve bits", 12, -14, 15)
    x, y = f32(1 + 2.0**-11), f32(2.0**-12 - 2.0**-24)
    assert float(pl.emulate(jnp.add, twelve)(x, y)) == 1 + 2.0**-11
    forced = pl.Arithmetic(twelve, carrier="float32")
    assert float(pl.emulate(jnp.add, forced)(x, y)) == 1 + 2.0**-10
    with copied() as copy:
        copy.specification.rounds_once = lambda *_, **__: True
        same = copy.formats.Format("twelve bits", 12, -14, 15)
        assert float(copy.emulate.emulate(jnp.add, same)(x, y)) == 1 + 2.0**-10


def test_12_a_nan_becomes_infinity_or_zero():
    payloads = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000], np.uint32)

    def naive(code):  # to bfloat16: add half a unit, clear the bits that go
        return ((code + np.uint32(0x7FFF) + (code >> 16 & 1)) & np.uint32(0xFFFF0000)).view(f32)

    assert np.isinf(naive(payloads)[0])
    assert naive(payloads)[1] == 0
    x = payloads.view(f32)
    for name in ("bfloat16", "float16", "float8_e4m3fn", "float8_e5m2fnuz", "float4_e2m1fn", "float32"):
        assert np.isnan(pl.round_to(x, name)).all()
        assert np.isnan(pl.emulate(lambda x: (x, x + 1, -x * 0), name)(x)).all()
    with copied(("kernels.py", "return guarded(bits)", "return rounded(bits)")) as copy:
        assert not np.isnan(copy.rounding.round_to(x, "bfloat16")[:2]).any()


def test_13_float64_is_float32_where_x64_is_off():
    assert not jax.config.jax_enable_x64
    assert jnp.asarray(np.float64(1)).dtype == np.float32
    x = np.array([1 + 2.0**-8 + 2.0**-40])
    assert_same_bits(pl.round_to(x, "bfloat16"), np.array([1 + 2.0**-7]))
    e = pl.emulate(jnp.add, pl.Arithmetic("float32", "toward_zero"))
    assert float(e(f32(1), f32(-(2.0**-50)))) == 1 - 2.0**-24
    assert not jax.config.jax_enable_x64
    with copied() as copy:
        copy.emulate.jax = Without(jax, enable_x64=lambda _: jax.enable_x64(False))
        with pytest.raises((ValueError, UserWarning)):  # JAX warns, round_bits refuses
            copy.emulate.emulate(jnp.add, "float32")(f32(1), f32(2.0**-50))


def test_14_presets_of_matrix_products_say_nothing_of_what_is_computed():
    A, B = np.random.default_rng(14).normal(size=(2, 8, 8)).astype(f32)
    native = [jax.jit(lambda A, B, p=p: jnp.matmul(A, B, precision=p))(A, B) for p in ("bfloat16", "highest")]
    e = pl.emulate(jnp.matmul, pl.Arithmetic("bfloat16", accumulate="float32"))
    want, _ = ScalarInterpreter(formats.bfloat16, accumulate=formats.float32)(jnp.matmul, A, B)
    for precision in ("default", "bfloat16", "highest"):
        with jax.default_matmul_precision(precision):
            assert_same_bits(e(A, B), want)
    need((native[0] == native[1]).all(), "the device computes products in what is asked for")
    with copied() as copy:
        copy.rules.SPECIAL["dot_general"] = copy.rules._rounded
        copy.machine.round_bits = unrounded
        with jax.default_matmul_precision("bfloat16"):  # which JAX does not do
            assert_differs(copy.emulate.emulate(jnp.matmul, copy.specification.Arithmetic(**NATIVE))(A, B), want)


def test_15_elementary_functions_err_by_several_units():
    x = np.linspace(-9, 9, 1501).astype(f32)

    def f(x):
        return jnp.exp(x), jnp.tanh(x), jnp.log1p(jnp.abs(x))

    want, _ = ScalarInterpreter(formats.float32)(f, x)
    native = jax.jit(f)(x)
    need(any((bits(a) != bits(b)).any() for a, b in zip(native, want, strict=True)), "the library is correctly rounded")
    assert_same_bits(pl.emulate(f, "float32")(x), want)
    forced = pl.emulate(f, pl.Arithmetic(**NATIVE))(x)  # the library of float32
    assert any((bits(a) != bits(b)).any() for a, b in zip(forced, want, strict=True))


def test_16_a_float64_scalar_widens_the_carrier():
    tenth = np.float64(0.1)
    with jax.enable_x64(True):
        assert (jnp.ones(2, jnp.float32) * tenth).dtype == np.float64

        def f(x):
            return x * tenth + tenth

        e = pl.emulate(f, "float16")
        x = np.ones(3, f32)
        assert pl.Arithmetic("float16").carrier_dtype == "float32"
        assert not carriers(e, x) & {"float64"}
        assert_same_bits(e(x), pl.emulate(lambda x: x * 0.1 + 0.1, "float16")(x))
        with copied() as copy:
            copy.machine.Machine.carry = lambda self, x: x
            with pytest.raises(TypeError, match=r"float32.*float64"):
                copy.emulate.emulate(f, "float16")(x)


def carriers(f, *args):
    """The dtypes in which a program adds and multiplies arrays; what it does with its constants is computed once."""
    found = set()

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in {"add", "mul"}:
                found.update(v.aval.dtype.name for v in equation.outvars if v.aval.ndim)
            for inner in jex.core.jaxprs_in_params(equation.params):
                visit(inner)

    visit(jax.make_jaxpr(f)(*args).jaxpr)
    return found


def test_17_random_bits_are_baked_into_a_compiled_program():
    x = np.full(64, 1 + 2.0**-9, f32)
    key = jax.random.key(17)

    @jax.jit
    def baked(x):
        return pl.round_to(x, "bfloat16", "stochastic", key)

    assert_same_bits(baked(x), baked(x))  # the trap: another call, the same bits

    def f(x):
        return x / 3, x / 3, lax.scan(lambda c, _: (c, x / 3), 0.0, length=3)[1], lax.fori_loop(0, 2, third, x)

    def third(i, x):
        return x / 3

    def rows(results):
        first, second, steps, last = results
        return {np.asarray(row).tobytes() for row in (first, second, *steps)}, np.asarray(last)

    arithmetic = {"format": "bfloat16", "rounding": "stochastic"}
    e = pl.emulate(f, pl.Arithmetic(**arithmetic))
    assert len(rows(e(x))[0]) == 5
    assert_same_bits(jax.jit(e)(x), e(x))
    other = pl.emulate(f, pl.Arithmetic(**arithmetic, seed=1))
    assert_differs(other(x)[0], e(x)[0])
    with copied(("machine.py", "draws += jnp.uint32(1)", "draws += jnp.uint32(0)")) as copy:
        assert len(rows(copy.emulate.emulate(f, copy.specification.Arithmetic(**arithmetic))(x))[0]) == 1


def test_18_the_largest_of_many_numbers_passes_over_a_nan():
    x = np.zeros(8000, f32)
    x[77] = np.nan
    need(float(jax.jit(jnp.max)(x)) == 0, "the device sees every NaN")
    for arithmetic in ("bfloat16", "float16"):
        assert np.isnan(pl.emulate(jnp.max, arithmetic)(x))
        assert int(pl.emulate(jnp.argmin, arithmetic)(x)) == 77
    with copied((
        "rules.py",
        "[jnp.where(jnp.any(jnp.isnan(x), axis=axes), jnp.asarray(jnp.nan, x.dtype), result)]",
        "[result]",
    )) as copy:
        assert float(copy.emulate.emulate(jnp.max, "float16")(x)) == 0


def test_19_wide_vectors_break_the_arctangent():
    x = np.geomspace(1e-3, 1e3, 512).astype(f32)
    wide = jax.jit(lax.atan, compiler_options=WIDE_VECTORS)(x)
    need(np.abs(wide - np.arctan(x)).max() > 1e-3, "vectors of 512 bits do no harm here")
    want = pl.round_to(np.arctan(x.astype(np.float16).astype(np.float64)), "float16")
    assert_same_bits(pl.emulate(lax.atan, "float16")(x), np.asarray(want, f32))
    with copied(("emulate.py", "plain = all(", "plain = True or all(")) as copy:
        assert_differs(copy.emulate.emulate(lax.atan, "float16")(x), np.asarray(want, f32))


def test_the_page_names_the_test_of_every_trap():
    rows = re.findall(
        r"^\| (\d+) \| [^|]+ \| [^|]+ \| `(test_\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {int(number) for number, _ in rows} == set(range(1, 20))
    here = {name for name in globals() if re.match(r"test_\d", name)}
    assert {name for _, name in rows} == here
    assert all(name.startswith(f"test_{number}_") for number, name in rows)
