"""Laws of rounding, over the table of formats and some formats that are awkward on purpose."""

import dataclasses
import zlib
from functools import lru_cache

import gfloat
import gfloat.formats
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from rational_rounding import Computed, Enumerated, Listed, around, as_float, magnitude, rounded, table

from precond_lab.arithmetic import draws, formats
from precond_lab.arithmetic.carriers import CARRIERS, narrow, widen
from precond_lab.arithmetic.formats import NAMED, Format, p3109
from precond_lab.arithmetic.grids import grid_of
from precond_lab.arithmetic.kernels import _is_plain, _magic_works, _scaling_works
from precond_lab.arithmetic.rounding import ROUNDINGS, leaves, round_bits, round_to

AWKWARD = [
    Format("fp4", 2, 0, 2, overflow="saturate"),
    Format("no subnormals", 4, -6, 7, subnormals=False),
    Format("saturating e4m3", 4, -6, 8, overflow="saturate", missing_top=1),
    Format("ends early", 5, -10, 12, missing_top=3),
    Format("saturating, with infinities", 3, -6, 8, overflow="saturate", infinities=True),
    Format("to NaN, with infinities", 4, -6, 8, overflow="nan", infinities=True),
    Format("powers of two", 1, -20, 20),
    Format("powers of two without subnormals", 1, -20, 21, subnormals=False, overflow="saturate"),
    Format("half with one binade less", 11, -13, 15),
    Format("no zero", 3, -20, 20, subnormals=False, signed=False, signed_zero=False, zero=False),
    p3109(8, 1),
    p3109(8, 4),
    p3109(8, 3, signed=False),
    p3109(6, 3, extended=False),
    p3109(5, 5, signed=False, extended=False),
    p3109(3, 2),
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
    Format("powers of two, e8", 1, -126, 127),
    Format("powers of two, below", 1, -140, 127, overflow="saturate"),
    Format("powers of two, far below", 1, -160, 20),
    Format("no minus zero, e8", 3, -126, 127, overflow="nan", nan="negative_zero", signed_zero=False),
    Format("no sign, e8", 3, -126, 127, signed=False, signed_zero=False),
    Format("no zero, below", 3, -140, 20, subnormals=False, signed=False, signed_zero=False, zero=False),
    Format("last that can be rounded by addition", 4, -121, 106),
    Format("one binade more than can be rounded by addition", 4, -121, 108),
    Format("last that can be rounded by scaling", 4, -100, 126),
]
AWKWARD_IN_FLOAT64 = [
    Format("no subnormals, e11", 3, -1022, 1023, subnormals=False),
    Format("nan e11", 3, -1022, 1023, overflow="nan"),
    Format("smallest is one above the carrier's normal", 4, -1018, -1000),
    Format("smallest is the carrier's normal", 4, -1019, -1000),
    Format("smallest is a carrier's subnormal", 4, -1020, -1000),
    Format("powers of two, e11", 1, -1022, 1023),
]
TOO_MANY_IN_FLOAT32 = [
    Format("finer, narrow", 26, -20, 3),
    Format("as fine, narrow", 24, -20, 20, overflow="nan"),
    Format("as fine as can be rounded by addition", 23, -20, 20),
    Format("finer, wide", 30, -140, 127),
    Format("finer, one binade less", 25, -125, 126),
    Format("saturating float32", 24, -126, 127, overflow="saturate"),
    Format("float32 without subnormals", 24, -126, 127, subnormals=False),
]
TOO_MANY_IN_FLOAT64 = [
    Format("one bit less than float64", 52, -1000, 1023),
    Format("one bit less than float64, narrow", 52, -200, 200),
    Format("wide half", 11, -1022, 1023),
]

FEW = [f for f in NAMED.values() if f.bits <= 16] + AWKWARD
MANY = [f for f in NAMED.values() if f.bits > 16]
LISTED = [(f, np.float32) for f in FEW + AWKWARD_IN_FLOAT32] + [(f, np.float64) for f in FEW + AWKWARD_IN_FLOAT64]
TOO_MANY = [(f, np.float32) for f in MANY + TOO_MANY_IN_FLOAT32]
TOO_MANY += [(f, np.float64) for f in MANY + TOO_MANY_IN_FLOAT64]
DETERMINISTIC = [name for name, mode in ROUNDINGS.items() if not mode.random]
MIRRORED = {"up": "down", "down": "up"}
FEW_BITS = 5


def cases(pairs):
    names = [f"{format}-{dtype.__name__}" for format, dtype in pairs]
    return pytest.mark.parametrize(("format", "dtype"), pairs, ids=names)


each_rounding = pytest.mark.parametrize("rounding", DETERMINISTIC)
each_carrier = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


def seeded(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def bits(x) -> np.ndarray:
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}")


def assert_same(got, wanted, inputs, where="") -> None:
    """Bitwise equality, except that a wanted NaN is the canonical one."""
    got = np.asarray(got)
    assert got.dtype == wanted.dtype
    nan = bits(np.array(np.nan, got.dtype))
    differs = bits(got) != np.where(np.isnan(wanted), nan, bits(wanted))
    first = np.flatnonzero(differs)[:5]
    shown = [(float(inputs[i]).hex(), float(got[i]).hex(), float(wanted[i]).hex()) for i in first]
    assert not differs.any(), f"{where}: {differs.sum()} differ; (input, got, wanted): {shown}"


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
def within(format: Format, dtype) -> Format:
    """The format of those values of a format that the carrier can hold."""
    info = np.finfo(dtype)
    if format.precision > info.nmant + 1:  # the same spacing of subnormals, and fewer of them
        finer = format.precision - info.nmant - 1
        low = max(format.min_exponent - finer, -1022)
        format = dataclasses.replace(format, precision=info.nmant + 1, min_exponent=low)
    if format.max_exponent >= info.maxexp:
        format = dataclasses.replace(format, max_exponent=int(info.maxexp) - 1, missing_top=0)
    return format


def is_listed(format: Format) -> bool:
    return format.finite_values < 2**17


@lru_cache
def listed(format: Format, dtype) -> Listed:
    return Listed(within(format, dtype))


def scalar(format: Format, dtype) -> Computed:
    return Computed(within(format, dtype))


@lru_cache
def inputs(format: Format, dtype) -> np.ndarray:
    """Every value of the format, every midpoint, and both neighbors of all these; or a sample of them."""
    sample = patterns(f"inputs {format} {dtype.__name__}", 1000, dtype)
    if is_listed(format):
        oracle = listed(format, dtype)
        points = np.concatenate([oracle.values, oracle.values + oracle.gaps / 2])
        points = points[points.astype(dtype).astype(np.float64) == points]
        with np.errstate(over="ignore"):
            return np.concatenate([around(points.astype(dtype)), sample, specials(dtype)])
    finite = sample[np.isfinite(sample)]
    exponents = format.min_exponent + np.arange(1000) % 40 - 30
    small = np.ldexp(seeded(f"small {format}").uniform(1, 2, 1000), exponents).astype(dtype)
    info, oracle = np.finfo(dtype), scalar(format, dtype)
    pairs = [oracle.neighbors(magnitude(x))[:2] for x in np.concatenate([finite, small])]
    units = sorted({x for pair in pairs for x in pair} | {sum(pair) // 2 for pair in pairs})
    least, top = magnitude(info.smallest_subnormal), magnitude(info.max)
    fits = [x for x in units if x <= top and x % least == 0 and (x // (x & -x or 1)).bit_length() <= info.nmant + 1]
    return np.concatenate([around(np.array([as_float(x) for x in fits]).astype(dtype)), sample, specials(dtype)])


def random_words(xs: np.ndarray, name: str) -> np.ndarray:
    return seeded(name).integers(0, 2 ** (8 * xs.itemsize), xs.shape, f"u{xs.itemsize}")


@lru_cache
def compiled(format: Format, canonical: bool = True):
    """All modes in one program: XLA's compilation is what takes time."""

    def every(x, words):
        results = {mode: round_bits(x, format, mode, None, None, canonical) for mode in DETERMINISTIC}
        results["stochastic"] = round_bits(x, format, "stochastic", words, None, canonical)
        results["few bits"] = round_bits(x, format, "stochastic", words, FEW_BITS, canonical)
        beyond = {mode: leaves(x, results[mode], format, mode) for mode in ROUNDINGS}
        return results, beyond

    return jax.jit(every)


def run(format: Format, xs: np.ndarray, canonical: bool = True) -> tuple[dict, dict]:
    with jax.enable_x64(True):
        results = compiled(format, canonical)(jnp.asarray(xs), jnp.asarray(random_words(xs, f"words {format}")))
        return jax.tree.map(np.asarray, results)


@lru_cache
def outputs(format: Format, dtype) -> dict:
    return run(format, inputs(format, dtype))[0]


def in_words(xs: np.ndarray, format: Format, name: str) -> dict:
    """The words and their number of bits, where a result depends on them."""
    if name not in {"stochastic", "few bits"}:
        return {}
    count = FEW_BITS if name == "few bits" else np.finfo(xs.dtype).nmant
    return {"words": random_words(xs, f"words {format}"), "random_bits": count}


def definition(format: Format, dtype, name: str) -> np.ndarray:
    xs = inputs(format, dtype)
    drawn, mode = in_words(xs, format, name), "stochastic" if name == "few bits" else name
    if is_listed(format):
        return listed(format, dtype).rounded(xs, mode, **drawn)
    randoms = None
    if drawn:
        shift, count = 8 * xs.itemsize - drawn["random_bits"], drawn["random_bits"]
        randoms = [(int(word) >> shift, count) for word in drawn["words"]]
    return table(scalar(format, dtype), xs, mode, randoms)


# The laws. Each holds for every format, carrier and mode.


def equals_the_definition(format, dtype):
    xs = inputs(format, dtype)
    for name, ys in outputs(format, dtype).items():
        assert_same(ys, definition(format, dtype, name), xs, name)


def idempotent(format, dtype):
    for name, once in outputs(format, dtype).items():
        for again, twice in run(format, once)[0].items():
            assert_same(twice, once, once, f"{again} of {name}")


def monotone(format, dtype):
    xs = inputs(format, dtype)
    order = np.argsort(xs, kind="stable")[: np.count_nonzero(~np.isnan(xs))]
    for name in DETERMINISTIC:
        ys = outputs(format, dtype)[name][order]
        inside = np.flatnonzero(~np.isnan(ys))
        jumps = format.overflow == "nan" and format.has_infinity  # to infinity, from the NaNs before it
        assert jumps or (np.diff(inside) == 1).all(), "NaN comes beyond the ends only"
        assert format.overflow == "nan" or not format.signed or len(inside) == len(ys)
        assert (ys[inside][1:] >= ys[inside][:-1]).all(), name


def odd_or_mirrored(format, dtype):
    if not format.signed:
        return
    xs, ys, mirrored = inputs(format, dtype), outputs(format, dtype), run(format, -inputs(format, dtype))[0]
    for name, result in mirrored.items():
        wanted = -ys[MIRRORED.get(name, name)]
        assert_same(result, wanted if format.signed_zero else wanted + 0.0, -xs, name)


def fixed_points_are_exactly_the_values(format, dtype):
    if not is_listed(format):
        return
    xs = inputs(format, dtype)
    values = listed(format, dtype).values
    if not format.subnormals or not format.zero:
        values = values[(values >= format.min_normal) | ((values == 0) & format.zero)]
    values = set(values[values.astype(dtype) == values].tolist())
    for name, ys in outputs(format, dtype).items():
        finite = np.isfinite(xs)
        assert set(np.abs(xs[finite & (xs == ys)]).tolist()) == values, name
        assert set(np.abs(ys[np.isfinite(ys)]).tolist()) <= values, name


def every_nan_is_the_canonical_one(format, dtype):
    xs = inputs(format, dtype)
    for ys in outputs(format, dtype).values():
        assert set(bits(ys[np.isnan(xs)]).tolist()) == {int(bits(np.array(np.nan, dtype)))}


def signs_are_kept(format, dtype):
    xs = inputs(format, dtype)
    for ys in outputs(format, dtype).values():
        kept = ~np.isnan(ys) & ((ys != 0) | format.signed_zero)
        np.testing.assert_array_equal(np.signbit(ys[kept]), np.signbit(xs[kept]))
        assert np.signbit(ys[ys == 0]).any() == format.signed_zero


def overflow_is_told(format, dtype):
    if not is_listed(format):
        return
    xs, oracle = inputs(format, dtype), listed(format, dtype)
    beyond = run(format, xs)[1]
    for name, told in beyond.items():
        number = np.where(np.isfinite(xs), xs, 0)
        if name == "stochastic" and format.overflow == "saturate":
            index, up = oracle.goes_up(number, "toward_zero")
        else:
            index, up = oracle.goes_up(number, name, **in_words(xs, format, name))
        wanted = (index + up == len(oracle.values)) | np.isinf(xs)
        np.testing.assert_array_equal(told, wanted & (format.signed | ~np.signbit(xs)), name)


LAWS = [
    equals_the_definition,
    idempotent,
    monotone,
    odd_or_mirrored,
    fixed_points_are_exactly_the_values,
    every_nan_is_the_canonical_one,
    signs_are_kept,
    overflow_is_told,
]


# Slow to compile or to judge, and rounded by the kernel of other cases.
ALIKE = {
    ("finer, narrow", np.float32),
    ("one bit less than float64, narrow", np.float64),
    ("half with one binade less", np.float32),
    ("half with one binade less", np.float64),
    ("tfloat32", np.float32),
    ("float16", np.float64),
    ("float64", np.float32),
    ("float64", np.float64),
    ("saturating float32", np.float32),
    ("float32 without subnormals", np.float32),
}
# Of what float32 holds too, some of every kernel are enough from float64.
WIDENED = {"bfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn", "powers of two", "no zero"}
ALIKE |= {(f.name, np.float64) for f in FEW if f.name not in WIDENED}


@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        pytest.param(f, d, marks=[pytest.mark.slow] * ((f.name, d) in ALIKE), id=f"{f}-{d.__name__}")
        for f, d in LISTED + TOO_MANY
    ],
)
def test_laws(format, dtype):
    for law in LAWS:
        law(format, dtype)


@cases([(format, dtype) for format, dtype in LISTED if format.bits <= 6])
def test_the_forms_of_the_definition_agree(format, dtype):
    xs = inputs(format, dtype)
    for name in outputs(format, dtype):
        drawn, mode = in_words(xs, format, name), "stochastic" if name == "few bits" else name
        wanted, randoms = listed(format, dtype).rounded(xs, mode, **drawn), None
        if drawn:
            shift, count = 8 * xs.itemsize - drawn["random_bits"], drawn["random_bits"]
            randoms = [(int(word) >> shift, count) for word in drawn["words"]]
        for form in (Computed, Enumerated):
            got = table(form(within(format, dtype)), xs, mode, randoms)
            np.testing.assert_array_equal(got, wanted)
            number = ~np.isnan(wanted)
            np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(wanted)[number])


# The cheaper form, for numbers that come out of operations.


def the_fast_form_agrees(format, dtype):
    xs = inputs(format, dtype)
    fast, _ = run(format, xs, canonical=False)
    quiet = bits(xs) << np.uint8(1) == bits(np.array(np.nan, dtype)) << np.uint8(1)
    number = ~np.isnan(xs)
    for name, wanted in outputs(format, dtype).items():
        outside = number & np.isnan(wanted)
        exact = number & ~outside
        np.testing.assert_array_equal(bits(fast[name])[exact], bits(wanted)[exact], name)
        assert np.isnan(fast[name][quiet | outside]).all(), name


@cases([(f, np.float32) for f in NAMED.values()] + [(f, np.float64) for f in [formats.bfloat16, formats.float8_e4m3fn]])
def test_the_fast_form_agrees(format, dtype):
    the_fast_form_agrees(format, dtype)


def test_every_kernel_is_among_the_cases():
    kinds = {}
    for format, dtype in LISTED + TOO_MANY:
        grid = grid_of(format, CARRIERS[np.dtype(dtype)])
        kind = (_is_plain(grid), _magic_works(grid), _scaling_works(grid), grid.constant, grid.by_leading_zeros)
        kinds.setdefault(kind, []).append(format.name)
    assert len(kinds) >= 8


@pytest.mark.parametrize("format", [formats.bfloat16, formats.float16, formats.float4_e2m1fn, formats.float32], ids=str)
def test_nothing_is_contracted_or_regrouped(format):
    """A product that comes in and a sum that goes out, in one program and in three."""
    draw = seeded("contraction")
    exponents = draw.integers(-20, 18, 2**14)
    a = jnp.asarray(np.ldexp(draw.uniform(1, 2, 2**14), exponents), jnp.float32)
    b, c = (jnp.asarray(draw.uniform(1, 2, 2**14), jnp.float32) for _ in range(2))

    def product(a, b, c):
        return a * b

    def rest(mode, canonical):
        words = draws.words(draws.seed_words(3), 1, a.shape) if ROUNDINGS[mode].random else None
        return lambda x: round_bits(x, format, mode, words, None, canonical)

    roundings = [rest("nearest_even", True), *(rest(mode, False) for mode in ("nearest_even", "up", "stochastic"))]
    # One program for each: a product that is used several times would not be contracted.
    together = [jax.jit(lambda a, b, c, f=f: f(product(a, b, c)) + c)(a, b, c) for f in roundings]
    alone = jax.jit(lambda x: [f(x) for f in roundings])(jax.jit(product)(a, b, c))
    apart = jax.jit(lambda rounded, c: [x + c for x in rounded])(alone, c)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))


def test_a_constant_is_rounded_as_any_number():
    xs = [1.00390625, 1.01171875, 65519.99, 1e-7, -3e-8]
    for name in ("bfloat16", "float16", "float8_e4m3fn"):
        wanted = np.asarray(round_to(np.array(xs, np.float32), name))
        got = [jax.jit(lambda x=x, name=name: round_to(jnp.float32(x), name, "nearest_even"))() for x in xs]
        np.testing.assert_array_equal(bits(np.array(got)), bits(wanted))


# Other implementations.

ML_DTYPES = {name: getattr(ml_dtypes, name, None) for name in NAMED} | {"float16": np.float16}


@pytest.mark.parametrize("name", [name for name, dtype in ML_DTYPES.items() if dtype])
def test_agrees_with_ml_dtypes(name):
    xs = np.concatenate([patterns(f"ml_dtypes {name}", 300_000, np.float32), inputs(NAMED[name], np.float32)])
    if not NAMED[name].has_nan:
        xs = xs[~np.isnan(xs)]  # ml_dtypes has to make a number of it
    if NAMED[name].precision == 1:
        # ml_dtypes rounds ties to the larger number, here to the even code; and it errs below the least normal float32.
        xs = xs[(np.abs(xs) >= np.finfo(np.float32).smallest_normal) & (bits(xs) << 9 != 0x80000000)]
    xs = np.resize(xs, 2**19)
    with np.errstate(all="ignore"):
        wanted = xs.astype(ML_DTYPES[name]).astype(np.float32)
    assert_same(round_to(xs, name), wanted, xs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def test_agrees_with_numpy_in_half_precision(dtype):
    xs = np.concatenate([patterns("numpy", 300_000, dtype), inputs(formats.float16, dtype)])
    with np.errstate(all="ignore"):
        wanted = xs.astype(np.float16).astype(dtype)
    assert_same(round_to(xs, "float16"), wanted, xs)


GFLOAT = {
    "bfloat16": gfloat.formats.format_info_bfloat16,
    "float16": gfloat.formats.format_info_binary16,
    "float32": gfloat.formats.format_info_binary32,
    "float8_e4m3fn": gfloat.formats.format_info_ocp_e4m3,
    "float8_e5m2": gfloat.formats.format_info_ocp_e5m2,
    "float8_e8m0fnu": gfloat.formats.format_info_ocp_e8m0,
    "float6_e3m2fn": gfloat.formats.format_info_ocp_e3m2,
    "float6_e2m3fn": gfloat.formats.format_info_ocp_e2m3,
    "float4_e2m1fn": gfloat.formats.format_info_ocp_e2m1,
}
JUDGED = [(NAMED[name], info) for name, info in GFLOAT.items()]
JUDGED.append((
    formats.tfloat32,
    dataclasses.replace(GFLOAT["float32"], name="tfloat32", k=19, precision=11, num_high_nans=2**10 - 1),
))
for width, precision in [(3, 1), (4, 2), (5, 5), (6, 3), (8, 1), (8, 3), (8, 4), (8, 7), (10, 5), (12, 4)]:
    for signed in (True, False):
        for extended in (True, False):
            if precision <= width - signed:
                signedness = gfloat.Signedness.Signed if signed else gfloat.Signedness.Unsigned
                domain = gfloat.Domain.Extended if extended else gfloat.Domain.Finite
                info = gfloat.formats.format_info_p3109(width, precision, signedness, domain)
                JUDGED.append((p3109(width, precision, signed, extended), info))
GFLOAT_ROUNDINGS = {
    "nearest_even": gfloat.RoundMode.TiesToEven,
    "nearest_away": gfloat.RoundMode.TiesToAway,
    "toward_zero": gfloat.RoundMode.TowardZero,
    "up": gfloat.RoundMode.TowardPositive,
    "down": gfloat.RoundMode.TowardNegative,
    "stochastic": gfloat.RoundMode.StochasticFastest,
    "few bits": gfloat.RoundMode.StochasticFastest,
}


def by_gfloat(format: Format, info, xs: np.ndarray, name: str) -> np.ndarray:
    """What gfloat makes of an array; it has no mode to odd, so of its two neighbors the one with an odd code."""

    def through(mode, **drawn):
        with np.errstate(all="ignore"):
            return gfloat.round_ndarray(info, xs.astype(np.float64), mode, format.overflow == "saturate", **drawn)

    if name == "odd":
        inner, outer = through(gfloat.RoundMode.TowardZero), through(gfloat.RoundMode.TowardPositive)
        outer = np.where(np.signbit(xs), through(gfloat.RoundMode.TowardNegative), outer)
        known = np.isfinite(inner) & (format.signed | ~np.signbit(inner)) & ((inner != 0) | format.zero)
        is_even = gfloat.encode_ndarray(info, np.where(known, inner, format.min_normal)) % 2 == 0
        return np.where(is_even & np.isfinite(outer) & (inner != xs), outer, inner)
    if words := in_words(xs, format, name):
        random = words["words"] >> np.uint32(8 * xs.itemsize - words["random_bits"])
        return through(GFLOAT_ROUNDINGS[name], srbits=random.astype(np.int64), srnumbits=words["random_bits"])
    return through(GFLOAT_ROUNDINGS[name])


@pytest.mark.parametrize(("format", "info"), JUDGED, ids=[str(format) for format, _ in JUDGED])
def test_agrees_with_gfloat(format, info):
    """Its StochasticFastest with given bits is the definition here: in float64, exactly so for numbers of float32."""
    carrier = np.float32 if format.precision < 24 and format.max < 2.0**128 else np.float64
    xs = inputs(format, carrier)
    keep = format.signed | ~np.signbit(xs)  # gfloat means nothing by negative numbers where there are none
    if not format.zero:
        keep &= xs >= format.min_normal  # nor by what is below the smallest
    for name, ys in outputs(format, carrier).items():
        if carrier is np.float32 or (name in GFLOAT_ROUNDINGS and not in_words(xs, format, name)):
            with np.errstate(all="ignore"):
                wanted = by_gfloat(format, info, xs, name).astype(carrier)
            assert_same(ys[keep], wanted[keep], xs[keep], name)


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
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_equals_the_definition_where_drawn(format, dtype, data):
    width = 8 * np.dtype(dtype).itemsize
    drawn = data.draw(st.lists(st.floats(width=width, allow_subnormal=True), min_size=6, max_size=6))
    xs = np.array(drawn, dtype)
    results, _ = run(format, xs)
    for name in DETERMINISTIC:
        wanted = np.array([rounded(scalar(format, dtype), float(x), name) for x in xs], dtype)
        assert_same(results[name], wanted, xs, name)


# Stochastic rounding: given its words it is held by the definition above. Here are its words.

DRAWS = 20_000
UNBIASED = [("bfloat16", np.float32), ("float16", np.float32), ("float8_e4m3fn", np.float64)]


@pytest.mark.parametrize(
    ("name", "dtype"), [("bfloat16", np.float32), ("float16", np.float32), ("float8_e4m3fn", np.float64)]
)
def test_stochastic_rounding_is_unbiased(name, dtype):
    format, theta = NAMED[name], np.array([1 / 64, 0.3, 0.5, 0.8])
    smallest, last_gap = format.min_subnormal, format.max / format.max_significand
    normal, subnormal = 1 + theta * format.machine_epsilon, -smallest * (2 + theta)
    below, top = smallest * np.append(theta, 1e-3), format.max - last_gap * theta
    xs = np.concatenate([normal, subnormal, below, top]).astype(dtype)
    drawn = np.asarray(round_to(np.tile(xs, (DRAWS, 1)), format, "stochastic", jax.random.key(7)))
    oracle = Enumerated(format)
    for x, column in zip(xs.tolist(), drawn.T, strict=True):
        lower, upper, _ = oracle.neighbors(magnitude(x))
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


@pytest.mark.parametrize("random_bits", [1, 3])
def test_few_random_bits_make_few_probabilities(random_bits):
    theta = np.arange(64) / 64
    xs = np.tile((1 + theta * 2.0**-7).astype(np.float32), (DRAWS, 1))
    drawn = np.asarray(round_to(xs, "bfloat16", "stochastic", jax.random.key(2), random_bits))
    probability = np.floor(theta * 2**random_bits) / 2**random_bits
    off = np.abs((drawn > 1).mean(0) - probability)
    assert (off <= 6 * np.sqrt(probability * (1 - probability) / DRAWS)).all()


@each_carrier
@pytest.mark.parametrize("format", [formats.float16, Format("general", 2, -14, 15)], ids=str)
def test_below_the_smallest_number_all_random_bits_count(format, dtype):
    """In both kernels: 2**-k of the smallest goes up for the highest 2**(count - k) random numbers and for no other."""
    width, count, smallest = 8 * np.dtype(dtype).itemsize, np.finfo(dtype).nmant, format.min_subnormal
    unsigned, exponents = f"u{width // 8}", [1, 2, 20, count - 1, count, count + 1]
    random, xs, wanted = [], [], []
    for k in exponents:
        first = 2**count - (2**count >> k)
        random += [0, first - 1, min(first, 2**count - 1), 2**count - 1]
        xs += 4 * [smallest * 2.0**-k]
        wanted += [False, False, k <= count, k <= count]
    words = np.array([number << (width - count) for number in random], unsigned)
    with jax.enable_x64(True):
        result = np.asarray(round_bits(jnp.asarray(np.array(xs, dtype)), format, "stochastic", jnp.asarray(words)))
    np.testing.assert_array_equal(result, np.where(wanted, smallest, 0))


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


@pytest.mark.parametrize("format", [formats.bfloat16, formats.float8_e4m3fn, *AWKWARD[:1]], ids=str)
def test_jit_and_vmap_change_nothing(format):
    xs = np.resize(inputs(format, np.float32), (64, 16))
    for canonical in (True, False):
        numbers = xs if canonical else np.where(np.isnan(xs), np.float32(np.nan), xs)

        def every(x, canonical=canonical):
            return [round_bits(x, format, mode, None, None, canonical) for mode in DETERMINISTIC]

        for f in (jax.jit, jax.vmap):
            for mode, got in zip(DETERMINISTIC, f(every)(numbers), strict=True):
                wanted = listed(format, np.float32).rounded(numbers, mode)
                one_nan = np.where(np.isnan(got), np.float32(np.nan), got)
                assert_same((got if canonical else one_nan).ravel(), wanted.ravel(), numbers.ravel(), mode)


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


@pytest.mark.parametrize("rounding", ["nearest_even", "up"])
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
    with pytest.raises(ValueError, match=r"'upward'; there are nearest_even, nearest_away, .*, stochastic"):
        round_to(x, "bfloat16", "upward")
    with pytest.raises(ValueError, match="did you mean"):
        round_to(x, "bfloat61")
    with pytest.raises(ValueError, match="'nearest_even' uses no randomness: leave out random_bits"):
        round_to(x, "bfloat16", random_bits=4)
    with pytest.raises(ValueError, match=r"random_bits lies in 1 \.\. 23 for float32; got 24"):
        round_to(x, "bfloat16", "stochastic", key, random_bits=24)
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
    with pytest.raises(ValueError, match="'stochastic' needs random words"):
        round_bits(x, formats.bfloat16, "stochastic")
    with pytest.raises(ValueError, match="'toward_zero' takes no random words"):
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


# Everything.


@pytest.mark.slow
@cases(LISTED + TOO_MANY)
def test_millions_of_roundings(format, dtype):
    """Over all cases more than 30 million, half of them in the fast form."""
    the_fast_form_agrees(format, dtype)
    xs = patterns(f"millions {format} {dtype.__name__}", 2**14, dtype)
    for canonical in (True, False):
        numbers = xs if canonical else np.where(np.isnan(xs), dtype(np.nan), xs)
        for name, got in run(format, numbers, canonical)[0].items():
            drawn, mode = in_words(numbers, format, name), "stochastic" if name == "few bits" else name
            if is_listed(format):
                wanted = listed(format, dtype).rounded(numbers, mode, **drawn)
            else:
                shift, count = 8 * xs.itemsize - drawn.get("random_bits", 0), drawn.get("random_bits", 0)
                randoms = [(int(word) >> shift, count) for word in drawn["words"]] if drawn else None
                wanted = table(scalar(format, dtype), numbers, mode, randoms)
            one_nan = np.where(np.isnan(got), dtype(np.nan), got)
            assert_same(got if canonical else one_nan, wanted, numbers, name)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ROUNDINGS)
def test_every_float32_to_bfloat16(mode):
    """All 2**32: the leading half of each word, with the decision read from a table of the other half."""
    low = np.arange(2**16)
    half, tie = low >= 2**15, low == 2**15
    # By the sign and the last bit of the leading half.
    up = {
        "nearest_even": lambda sign, last: half & ~(tie & (last == 0)),
        "nearest_away": lambda sign, last: half,
        "toward_zero": lambda sign, last: low < 0,
        "up": lambda sign, last: (low > 0) & (sign == 0),
        "down": lambda sign, last: (low > 0) & (sign == 1),
        "odd": lambda sign, last: (low > 0) & (last == 0),
        "stochastic": lambda sign, last: low + 12345 >= 2**16,
    }[mode]
    decide = np.array([[up(sign, last) for last in (0, 1)] for sign in (0, 1)])
    rows = 2**8

    @jax.jit
    def chunk(start):
        x = lax.bitcast_convert_type(jnp.uint32(2**16) * start + lax.iota(jnp.uint32, rows * 2**16), jnp.float32)
        words = jnp.full(x.shape, 12345 << 16, jnp.uint32) if ROUNDINGS[mode].random else None
        return lax.bitcast_convert_type(round_bits(x, formats.bfloat16, mode, words), jnp.uint32)

    for start in range(0, 2**16, rows):
        high = np.arange(start, start + rows, dtype=np.uint32)
        wanted = high[:, None] + decide[high >> 15, high & 1]
        is_nan = ((high & 0x7FFF) >= 0x7F80)[:, None] & (((high & 0x7F)[:, None] | low) != 0)
        infinite = (high & 0x7FFF) == 0x7F80
        wanted[infinite] = high[infinite, None]
        wanted = np.where(is_nan, 0x7FC0, wanted)
        got = np.asarray(chunk(jnp.uint32(start))).reshape(rows, 2**16)
        np.testing.assert_array_equal(got, wanted.astype(np.uint32) << np.uint32(16))
        if mode == "nearest_even":
            xs = (high[:, None] << np.uint32(16) | low.astype(np.uint32)).view(np.float32)
            with np.errstate(all="ignore"):
                judged = bits(xs.astype(ml_dtypes.bfloat16)).astype(np.uint32)
            number = ~is_nan
            np.testing.assert_array_equal((got >> np.uint32(16))[number], judged[number])
