"""Laws of rounding, over the table of formats and some formats that are awkward on purpose."""

import dataclasses
import zlib
from functools import lru_cache
from itertools import pairwise

import gfloat
import gfloat.formats
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rational_rounding import Computed, Enumerated, around, as_float, magnitude, rounded, table

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import NAMED, Format
from precond_lab.arithmetic.rounding import ROUNDINGS, narrow, round_bits, round_to, widen

AWKWARD = [
    Format("fp4", 2, 0, 2, overflow="saturate"),
    Format("no subnormals", 4, -6, 7, subnormals=False),
    Format("saturating e4m3", 4, -6, 8, overflow="saturate", missing_top=1),
    Format("ends early", 5, -10, 12, missing_top=3),
]
AWKWARD_IN_FLOAT32 = [
    Format("no subnormals, e8", 3, -126, 127, subnormals=False),
    Format("saturating e8", 3, -126, 127, overflow="saturate"),
    Format("nan e8", 3, -126, 127, overflow="nan"),
    Format("ends early, e8", 3, -126, 127, missing_top=1),
    Format("narrow at the top, e8", 3, -126, 100),
    Format("smallest is one above the carrier's normal", 4, -122, -100),
    Format("smallest is the carrier's normal", 4, -123, -100),
    Format("smallest is a carrier's subnormal", 4, -124, -100),
    Format("smallest is a carrier's subnormal, no subnormals", 4, -124, -100, subnormals=False),
    Format("below", 3, -140, 127),
    Format("far below", 3, -200, 127),
    Format("beyond", 3, -200, 200),
    Format("beyond, saturating", 3, -20, 200, overflow="saturate"),
    Format("below, no subnormals", 3, -140, 20, subnormals=False),
]
AWKWARD_IN_FLOAT64 = [
    Format("no subnormals, e11", 3, -1022, 1023, subnormals=False),
    Format("nan e11", 3, -1022, 1023, overflow="nan"),
    Format("smallest is one above the carrier's normal", 4, -1018, -1000),
    Format("smallest is the carrier's normal", 4, -1019, -1000),
    Format("smallest is a carrier's subnormal", 4, -1020, -1000),
]
TOO_MANY_IN_FLOAT32 = [
    Format("finer, narrow", 26, -20, 3),
    Format("as fine, narrow", 24, -20, 20, overflow="nan"),
    Format("finer, wide", 30, -140, 127),
    Format("finer, one binade less", 25, -125, 126),
    Format("saturating float32", 24, -126, 127, overflow="saturate"),
    Format("float32 without subnormals", 24, -126, 127, subnormals=False),
]
TOO_MANY_IN_FLOAT64 = [
    Format("one bit less than float64", 52, -1000, 1023),
    Format("wide half", 11, -1022, 1023),
]

FEW = [f for f in NAMED.values() if f.bits <= 16] + AWKWARD
MANY = [f for f in NAMED.values() if f.bits > 16]
LISTED = [(f, np.float32) for f in FEW + AWKWARD_IN_FLOAT32] + [(f, np.float64) for f in FEW + AWKWARD_IN_FLOAT64]
TOO_MANY = [(f, np.float32) for f in MANY + TOO_MANY_IN_FLOAT32]
TOO_MANY += [(f, np.float64) for f in MANY + TOO_MANY_IN_FLOAT64]
DETERMINISTIC = [name for name, mode in ROUNDINGS.items() if not mode.random]


def cases(pairs):
    names = [f"{format}-{dtype.__name__}" for format, dtype in pairs]
    return pytest.mark.parametrize(("format", "dtype"), pairs, ids=names)


each_case = cases(LISTED + TOO_MANY)
each_rounding = pytest.mark.parametrize("rounding", DETERMINISTIC)
each_carrier = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


def seeded(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def bits(x) -> np.ndarray:
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")


def assert_same(got, wanted, inputs) -> None:
    """Bitwise equality, except that a wanted NaN is the canonical one."""
    got = np.asarray(got)
    assert got.dtype == wanted.dtype
    nan = bits(np.array(np.nan, got.dtype))
    differs = bits(got) != np.where(np.isnan(wanted), nan, bits(wanted))
    first = np.flatnonzero(differs)[:5]
    shown = [(float(inputs[i]).hex(), float(got[i]).hex(), float(wanted[i]).hex()) for i in first]
    assert not differs.any(), f"{differs.sum()} differ; (input, got, wanted): {shown}"


def patterns(name: str, count: int, dtype) -> np.ndarray:
    """Random bit patterns: all binades, infinities and NaNs."""
    width = np.dtype(dtype).itemsize
    return seeded(name).integers(0, 2 ** (8 * width), count, dtype=f"u{width}").view(dtype)


def specials(dtype) -> np.ndarray:
    info, unsigned = np.finfo(dtype), f"u{np.dtype(dtype).itemsize}"
    positive = [0, info.smallest_subnormal, info.smallest_normal, info.max, np.inf, 1]
    infinity, quiet, sign = int(bits(np.array(np.inf, dtype))), 1 << info.nmant - 1, 1 << info.bits - 1
    payloads = [infinity + 1, infinity + quiet - 1, infinity + quiet, sign - 1]
    nans = np.array(payloads + [sign + payload for payload in payloads], unsigned).view(dtype)
    return np.concatenate([np.array(positive, dtype), -np.array(positive, dtype), nans])


@lru_cache
def oracle_for(format: Format, dtype):
    """The oracle of those values of a format that the carrier can hold."""
    info = np.finfo(dtype)
    if format.precision > info.nmant + 1:  # the same spacing of subnormals, and fewer of them
        finer = format.precision - info.nmant - 1
        format = dataclasses.replace(
            format, precision=info.nmant + 1, min_exponent=max(format.min_exponent - finer, -1022)
        )
    if format.max_exponent >= info.maxexp:
        format = dataclasses.replace(format, max_exponent=int(info.maxexp) - 1, missing_top=0)
    return Enumerated(format) if format.bits <= 16 else Computed(format)


@lru_cache
def inputs(format: Format, dtype) -> np.ndarray:
    """Every value of the format, every midpoint, and both neighbors of all these; or a sample of them."""
    oracle = oracle_for(format, dtype)
    sample = patterns(f"inputs {format} {dtype.__name__}", 1000, dtype)
    lowest = magnitude(np.finfo(dtype).smallest_subnormal)
    if isinstance(oracle, Enumerated):
        values = oracle.values
    else:
        finite = sample[np.isfinite(sample)]
        exponents = format.min_exponent + np.arange(1000) % 40 - 30
        small = np.ldexp(seeded(f"small {format}").uniform(1, 2, 1000), exponents).astype(dtype)
        pairs = [oracle.neighbors(magnitude(x))[:2] for x in np.concatenate([finite, small])]
        values = sorted({x for pair in pairs for x in pair})
    middles = [(a + b) // 2 for a, b in pairwise(values)]
    top = magnitude(np.finfo(dtype).max)
    points = [x for x in values + middles if x <= top and x % lowest == 0 and fits(x, dtype)]
    return np.concatenate([around(points, dtype), sample, specials(dtype)])


def fits(units: int, dtype) -> bool:
    significand = units // (units & -units) if units else 0
    return significand.bit_length() <= np.finfo(dtype).nmant + 1


@lru_cache
def outputs(format: Format, dtype, rounding: str) -> np.ndarray:
    return np.asarray(round_to(inputs(format, dtype), format, rounding))


@each_rounding
@each_case
def test_equals_the_definition(format, dtype, rounding):
    xs = inputs(format, dtype)
    ys = outputs(format, dtype, rounding)
    half = ~np.signbit(xs)  # the other half is bound to this one by the law of odd symmetry
    assert_same(ys[half], table(oracle_for(format, dtype), xs[half], rounding), xs[half])


@each_rounding
@cases([(format, dtype) for format, dtype in LISTED if format.bits <= 9])
def test_the_two_forms_of_the_definition_agree(format, dtype, rounding):
    xs = inputs(format, dtype)
    wanted = table(oracle_for(format, dtype), xs, rounding)
    np.testing.assert_array_equal(table(Computed(oracle_for(format, dtype).format), xs, rounding), wanted)


@each_rounding
@each_case
def test_idempotent(format, dtype, rounding):
    once = outputs(format, dtype, rounding)
    assert_same(round_to(once, format, rounding), once, once)


@each_rounding
@each_case
def test_monotone(format, dtype, rounding):
    xs, ys = inputs(format, dtype), outputs(format, dtype, rounding)
    xs, ys = xs[~np.isnan(xs)], ys[~np.isnan(xs)]
    ys = ys[np.argsort(xs, kind="stable")]
    inside = np.flatnonzero(~np.isnan(ys))
    assert format.overflow == "nan" or len(inside) == len(ys)
    assert (np.diff(inside) == 1).all(), "NaN comes beyond the ends only"
    assert (ys[inside][1:] >= ys[inside][:-1]).all()


@each_rounding
@each_case
def test_odd(format, dtype, rounding):
    xs, ys = inputs(format, dtype), outputs(format, dtype, rounding)
    assert_same(round_to(-xs, format, rounding), np.where(np.isnan(ys), ys, -ys), xs)


@each_rounding
@cases(LISTED)
def test_fixed_points_are_exactly_the_values(format, dtype, rounding):
    xs, ys = inputs(format, dtype), outputs(format, dtype, rounding)
    finite = np.isfinite(xs)
    fixed = {magnitude(x) for x in xs[finite & (xs == ys)]}
    values = oracle_for(format, dtype).values[:-1]
    floor = magnitude(format.min_normal) if not format.subnormals else 0
    lowest = magnitude(np.finfo(dtype).smallest_subnormal)
    assert fixed == {x for x in values if (x >= floor or x == 0) and x % lowest == 0}
    assert {magnitude(y) for y in ys[np.isfinite(ys)]} <= fixed


@each_rounding
@each_case
def test_every_nan_becomes_the_canonical_one(format, dtype, rounding):
    xs, ys = inputs(format, dtype), outputs(format, dtype, rounding)
    assert set(bits(ys[np.isnan(xs)]).tolist()) == {int(bits(np.array(np.nan, dtype)))}


@each_rounding
@each_case
def test_signs_are_kept(format, dtype, rounding):
    xs, ys = inputs(format, dtype), outputs(format, dtype, rounding)
    number = ~np.isnan(ys)
    np.testing.assert_array_equal(np.signbit(ys[number]), np.signbit(xs[number]))
    assert np.signbit(ys[ys == 0]).any()


# Two other implementations.

ML_DTYPES = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


@pytest.mark.parametrize("name", ML_DTYPES)
def test_agrees_with_ml_dtypes(name):
    xs = np.concatenate([patterns(f"ml_dtypes {name}", 300_000, np.float32), inputs(NAMED[name], np.float32)])
    with np.errstate(all="ignore"):
        wanted = xs.astype(ML_DTYPES[name]).astype(np.float32)
    assert_same(round_to(xs, name), wanted, xs)


GFLOAT = {
    "bfloat16": gfloat.formats.format_info_bfloat16,
    "float16": gfloat.formats.format_info_binary16,
    "float32": gfloat.formats.format_info_binary32,
    "tfloat32": None,
    "float8_e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "float8_e5m2": gfloat.formats.format_info_ocp_e5m2,
}
GFLOAT_ROUNDINGS = {"nearest_even": gfloat.RoundMode.TiesToEven, "toward_zero": gfloat.RoundMode.TowardZero}


def same_in_gfloat(name: str):
    info = GFLOAT[name]
    return info or dataclasses.replace(GFLOAT["float32"], name=name, k=19, precision=11, num_high_nans=2**10 - 1)


@each_rounding
@pytest.mark.parametrize("name", GFLOAT)
def test_agrees_with_gfloat(name, rounding):
    xs = np.concatenate([patterns(f"gfloat {name}", 50_000, np.float64), inputs(NAMED[name], np.float64)])
    # An infinity rounded toward zero is an infinity here, and where there is none NaN: in gfloat as well.
    with np.errstate(all="ignore"):
        wanted = gfloat.round_ndarray(same_in_gfloat(name), xs, GFLOAT_ROUNDINGS[rounding])
    assert_same(round_to(xs, name, rounding), wanted, xs)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "tfloat32", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("off", [2.0**-40, -(2.0**-40)])
def test_float64_is_not_rounded_twice(name, off):
    format = NAMED[name]
    odd = 2 * np.arange(2 ** (format.precision - 1), 2**format.precision) + 1
    ties = odd * format.unit_roundoff
    wanted = (odd + np.sign(off)) * format.unit_roundoff
    xs = ties + off
    assert_same(round_to(xs, name), wanted, xs)
    # The trap is real: rounding to float32 first falls on the tie.
    twice = np.asarray(round_to(xs.astype(np.float32), name), np.float64)
    assert np.count_nonzero(twice != wanted) == len(odd) // 2


# Formats too large to list, drawn by hypothesis.


@cases(TOO_MANY[:2] + TOO_MANY[-2:])
@each_rounding
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_equals_the_definition_where_drawn(format, dtype, rounding, data):
    width = 8 * np.dtype(dtype).itemsize
    drawn = data.draw(st.lists(st.floats(width=width, allow_subnormal=True), min_size=6, max_size=6))
    xs = np.array(drawn, dtype)
    wanted = np.array([rounded(oracle_for(format, dtype), float(x), rounding) for x in xs], dtype)
    assert_same(round_to(xs, format, rounding), wanted, xs)


# Stochastic rounding.

DRAWS = 20_000


def stochastic(xs: np.ndarray, format: Format) -> np.ndarray:
    """The kernel with NumPy's random bits, which need no compilation for every shape."""
    unsigned = f"u{xs.itemsize}"
    random = seeded(f"stochastic {format}").integers(0, 2 ** (8 * xs.itemsize), xs.shape, unsigned)
    with jax.enable_x64(True):
        return np.asarray(round_bits(jnp.asarray(xs), format, "stochastic", jnp.asarray(random)))


@each_case
def test_stochastic_rounding_gives_a_neighbor(format, dtype):
    xs = inputs(format, dtype)
    toward_zero = outputs(format, dtype, "toward_zero")
    result = stochastic(xs, format)
    oracle = oracle_for(format, dtype)
    beyond = {"infinity": np.inf, "nan": np.nan, "saturate": float(np.nanmax(toward_zero))}[format.overflow]
    changed = np.flatnonzero(bits(result) != bits(toward_zero))
    assert 0 < len(changed) < len(xs) or format.precision > np.finfo(dtype).nmant
    changed = changed[:: 1 + len(changed) // 5000]
    for x, y in zip(xs[changed].tolist(), result[changed].tolist(), strict=True):
        upper = oracle.neighbors(magnitude(x))[1]
        if upper <= magnitude(oracle.format.max):
            assert magnitude(y) == upper
            assert np.signbit(x) == np.signbit(y)
        else:
            assert np.array_equal(abs(y), beyond, equal_nan=True)


@each_case
def test_stochastic_rounding_leaves_values_alone(format, dtype):
    values = outputs(format, dtype, "nearest_even")
    assert_same(stochastic(values, format), values, values)


@cases([(f, d) for f, d in LISTED if f.subnormals and f.bits <= 16 and not f.name.startswith(("far", "beyond"))])
def test_stochastic_rounding_is_unbiased(format, dtype):
    theta = np.array([1 / 64, 0.3, 0.5, 0.8])
    smallest, one = format.min_subnormal, min(format.max / 4, 1.0)
    last_gap = format.max / format.max_significand
    normal, subnormal = one * (1 + theta * format.machine_epsilon), -smallest * (2 + theta)
    below, top = smallest * np.append(theta, 1e-3), format.max - last_gap * theta
    xs = np.concatenate([normal, subnormal, below, top]).astype(dtype)
    draws = stochastic(np.tile(xs, (DRAWS, 1)), format)
    for x, column in zip(xs.tolist(), draws.T, strict=True):
        lower, upper, _ = oracle_for(format, dtype).neighbors(magnitude(x))
        probability = (magnitude(x) - lower) / (upper - lower)
        share = np.mean(np.abs(column) == as_float(upper))
        # Six standard errors of a share: missed by one draw in 5e8.
        assert abs(share - probability) <= 6 * np.sqrt(probability * (1 - probability) / DRAWS), x


@pytest.mark.parametrize(("name", "beyond"), [("float8_e5m2", np.inf), ("float8_e4m3fn", np.nan)])
def test_stochastic_overflow_has_the_probability_of_the_next_value(name, beyond):
    format = NAMED[name]
    gap = format.max / format.max_significand
    xs = np.full(DRAWS, format.max + gap / 4, np.float32)
    result = np.asarray(round_to(xs, name, "stochastic", jax.random.key(4)))
    over = result != format.max
    np.testing.assert_array_equal(result[over], beyond)
    assert abs(over.mean() - 1 / 4) <= 6 * np.sqrt(3 / 16 / DRAWS)
    np.testing.assert_array_equal(round_to(xs + 2 * gap, name, "stochastic", jax.random.key(4)), beyond)


@each_carrier
@pytest.mark.parametrize("name", ["float16", "float8_e4m3fn"])
def test_below_the_smallest_number_all_random_bits_count(name, dtype):
    width = 8 * np.dtype(dtype).itemsize
    smallest = NAMED[name].min_subnormal
    exponents = [1, 2, 20, width - 1, width, width + 1]
    for k in exponents:
        # 2**-k of the smallest: up for the 2**(width - k) lowest random patterns and for no other.
        limit = 2**width >> k
        random = np.array([0, max(limit - 1, 0), limit, 2**width - 1], f"u{width // 8}")
        xs = np.full(4, smallest * 2.0**-k, dtype)
        with jax.enable_x64(True):
            result = np.asarray(round_bits(jnp.asarray(xs), NAMED[name], "stochastic", jnp.asarray(random)))
        np.testing.assert_array_equal(result > 0, [limit > 0, limit > 0, False, False])


@each_carrier
def test_the_same_key_gives_the_same_rounding(dtype):
    xs = seeded("same key").standard_normal(1000).astype(dtype)
    one, again, other = (np.asarray(round_to(xs, "bfloat16", "stochastic", jax.random.key(seed))) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    if dtype is np.float32:
        jitted = jax.jit(lambda x, key: round_to(x, "bfloat16", "stochastic", key))(xs, jax.random.key(5))
        np.testing.assert_array_equal(jitted, one)


# Transformations, dtypes, misuse.


@each_rounding
@pytest.mark.parametrize("format", [formats.bfloat16, formats.float8_e4m3fn, *AWKWARD[:1]], ids=str)
def test_jit_and_vmap_change_nothing(format, rounding):
    xs = np.resize(inputs(format, np.float32), (64, 16))
    wanted = table(oracle_for(format, np.float32), xs.ravel(), rounding).reshape(xs.shape)
    for f in (jax.jit, jax.vmap):
        assert_same(f(lambda x: round_to(x, format, rounding))(xs).ravel(), wanted.ravel(), xs.ravel())


@each_carrier
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_the_derivative_is_straight_through(dtype, rounding):
    key = jax.random.key(0) if ROUNDINGS[rounding].random else None

    def f(x):
        return 3 * round_to(x, "bfloat16", rounding, key)

    with jax.enable_x64(True):
        x, tangent = jnp.asarray([1.001, 1e-39, 300.0], dtype), jnp.asarray([0.1, 0.2, 0.3], dtype)
        _, pushed = jax.jvp(f, (x,), (tangent,))
        pulled = jax.grad(lambda x: f(x).sum())(x)
    assert pushed.dtype == pulled.dtype == dtype
    np.testing.assert_array_equal(pushed, 3 * np.asarray(tangent))
    np.testing.assert_array_equal(pulled, 3.0)


def test_numpy_float64_stays_float64_with_x64_disabled():
    assert not jax.config.jax_enable_x64
    xs = np.array([1 + 2.0**-8 + 2.0**-40, -0.1])
    result = round_to(xs, "bfloat16")
    assert result.dtype == np.float64
    assert result.tolist() == [1 + 2.0**-7, -0.10009765625]
    assert round_to(result, "float64").dtype == np.float64
    assert round_to(1 / 3, "float64").item() == 1 / 3
    assert round_to(np.float32(1 / 3), "float64").dtype == np.float32
    assert not jax.config.jax_enable_x64


@each_rounding
@each_carrier
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3)])
def test_shapes_are_kept(shape, dtype, rounding):
    assert round_to(np.ones(shape, dtype), "float16", rounding).shape == shape


def test_a_format_as_wide_as_the_carrier_keeps_xla_from_contracting():
    draw = seeded("contraction")
    a, b, c = (jnp.asarray(draw.standard_normal(4096), jnp.float32) for _ in range(3))
    a, b = (1 + a * 2.0**-12, 1 + b * 2.0**-12)
    c = -(a * b)
    fused = jax.jit(lambda a, b, c: a * b + c)(a, b, c)
    fenced = jax.jit(lambda a, b, c: round_to(a * b, "float32") + c)(a, b, c)
    if not (fused != 0).any():
        pytest.skip("nothing to defend against: this machine does not contract")
    np.testing.assert_array_equal(fenced, 0)


def test_misuse_says_what_to_do():
    x, key = np.ones(3, np.float32), jax.random.key(0)
    with pytest.raises(ValueError, match=r"'stochastic' needs a key: pass key=jax\.random\.key"):
        round_to(x, "bfloat16", "stochastic")
    with pytest.raises(ValueError, match="'nearest_even' uses no randomness"):
        round_to(x, "bfloat16", key=key)
    with pytest.raises(ValueError, match="'upward'; there are nearest_even, toward_zero, stochastic"):
        round_to(x, "bfloat16", "upward")
    with pytest.raises(ValueError, match="did you mean"):
        round_to(x, "bfloat61")
    for wrong in (
        np.ones(3, int),
        1,
        [True],
        np.ones(2, complex),
        np.ones(2, np.float16),
        jnp.ones(2, jnp.bfloat16),
    ):
        with pytest.raises(TypeError, match="float32 or float64; got"):
            round_to(wrong, "bfloat16")
    with pytest.raises(ValueError, match="no normal number within the range of float32"):
        round_to(x, Format("too large", 4, 200, 300))


def test_misuse_of_the_kernel_says_what_to_do():
    x, random = jnp.ones(3, jnp.float32), jnp.ones(3, jnp.uint32)
    with pytest.raises(ValueError, match="'stochastic' needs random bits"):
        round_bits(x, formats.bfloat16, "stochastic")
    with pytest.raises(ValueError, match="'toward_zero' takes no random bits"):
        round_bits(x, formats.bfloat16, "toward_zero", random)
    with pytest.raises(TypeError, match="must be uint32; got int32"):
        round_bits(x, formats.bfloat16, "stochastic", random.astype(jnp.int32))
    with pytest.raises(ValueError, match=r"shape \(3,\) of x; got \(2,\)"):
        round_bits(x, formats.bfloat16, "stochastic", random[:2])
    with pytest.raises(ValueError, match="enable_x64"):
        round_bits(round_to(np.ones(3), "float64"), formats.bfloat16, "nearest_even")


# Conversions between the carriers.


def test_widen_is_exact():
    xs = np.concatenate([patterns("widen", 100_000, np.float32), specials(np.float32)])
    subnormal = seeded("widen subnormals").integers(0, 2**23, 1000, dtype=np.uint32).view(np.float32)
    xs = np.concatenate([xs, subnormal, -subnormal])
    with jax.enable_x64(True):
        result = np.asarray(jax.jit(widen)(jnp.asarray(xs)))
    number = ~np.isnan(xs)
    assert_same(result[number], xs[number].astype(np.float64), xs[number])
    payload = bits(xs[~number]).astype(np.uint64)
    kept = (payload >> 31 << 63) | (0x7FF << 52) | ((payload & 0x7FFFFF) << 29)
    np.testing.assert_array_equal(bits(result[~number]), kept)


def test_narrow_rounds_once_to_nearest():
    xs = np.concatenate([patterns("narrow", 50_000, np.float64), inputs(formats.float32, np.float64)])
    with np.errstate(all="ignore"):
        wanted = xs.astype(np.float32)
    with jax.enable_x64(True):
        assert_same(jax.jit(narrow)(jnp.asarray(xs)), wanted, xs)


def test_conversions_pass_tangents():
    with jax.enable_x64(True):
        x = jnp.asarray([1.5, 2.5])
        assert jax.grad(lambda x: widen(x).sum())(x.astype(jnp.float32)).dtype == jnp.float32
        slope = jax.grad(lambda x: (2 * widen(narrow(x))).sum())(x)
    assert slope.dtype == np.float64
    np.testing.assert_array_equal(slope, 2.0)
