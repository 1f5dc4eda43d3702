"""MPFR judges emulated operations: all pairs of the numbers of small formats, structured samples of large ones.

MPFR rounds once to any precision, with subnormals; its exponents have no upper end here, and what a format makes of
results beyond its last number is applied afterwards by `member`, from the definition of the format. MPFR has no ties
away from zero, no rounding to odd and no even number of one bit: these are told by its directed results alone.
"""

import dataclasses
import math
import zlib

import gmpy2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.arithmetic.formats import NAMED, Format, p3109
from precond_lab.arithmetic.rounding import ROUNDINGS
from precond_lab.arithmetic.specification import rounds_once

MODES = [name for name, mode in ROUNDINGS.items() if not mode.random]
SMALL = [format for format in NAMED.values() if format.bits <= 8]
LARGE = [format for format in NAMED.values() if 8 < format.bits <= 32]
P3109 = [
    p3109(*bits)
    for bits in (
        (8, 1),
        (8, 3),
        (8, 4),
        (8, 7),
        (6, 3),
        (4, 2),
        (8, 5, False),
        (8, 3, True, False),
        (5, 2, False, False),
    )
]
CUSTOM = [
    Format("no subnormals", 4, -6, 7, subnormals=False),
    Format("saturating e5m2", 3, -14, 15, overflow="saturate"),
    Format("nan at the top", 3, -2, 3, overflow="nan", missing_top=2),
    Format("saturating with infinities", 3, -2, 3, overflow="saturate", infinities=True),
    Format("nan with infinities", 3, -2, 3, overflow="nan", infinities=True),
    Format("one zero", 2, -3, 4, signed_zero=False),
]
NO_END = 1 << 20
LARGEST = float(np.finfo(np.float64).max)
NEAREST, ZERO, UP, DOWN, AWAY = (
    gmpy2.RoundToNearest,
    gmpy2.RoundToZero,
    gmpy2.RoundUp,
    gmpy2.RoundDown,
    gmpy2.RoundAwayZero,
)


def numbers(format):
    """Every number of a format, both zeros, infinities and NaN included, from the definition of its fields."""
    p, low, high = format.precision, format.min_exponent, format.max_exponent
    half = 2 ** (p - 1)
    sizes = [math.ldexp(k, e - p + 1) for e in range(low, high + 1) for k in range(half, 2 * half)]
    sizes = sizes[: len(sizes) - format.missing_top]
    if format.subnormals:
        sizes = [math.ldexp(k, low - p + 1) for k in range(1, half)] + sizes
    sizes += [0.0] * format.zero + [math.inf] * format.has_infinity
    minus = [-x for x in sizes if x or format.signed_zero] if format.signed else []
    return np.array([*sizes, *minus, math.nan])


def round_all(format, operation, *operands):
    """The exact results of one operation on lists of numbers, rounded by MPFR in every mode: the mode's name -> floats.

    The operation is the name of a method of a context of gmpy2.
    """
    least = format.min_exponent if format.zero else -NO_END

    def run(rounding, more=0):
        p = format.precision + more
        context = gmpy2.context(precision=p, emax=NO_END, emin=least - p + 2, subnormalize=True, round=rounding)
        results = list(map(getattr(context, operation), *operands))
        floats = np.array(list(map(float, results)))
        for i in np.flatnonzero(np.isinf(floats)):
            if gmpy2.is_finite(results[i]):  # beyond float64: as large as a float64 can be
                floats[i] = math.copysign(LARGEST, floats[i])
        return floats

    below, above = run(ZERO), run(AWAY)
    with np.errstate(invalid="ignore"):
        longer, longer_above = run(ZERO, 1), run(AWAY, 1)
        inexact = (below != above) & ~np.isnan(below)
        up = (longer != below) & inexact  # half a spacing or more above the lower neighbor
        tie = up & (longer == longer_above)
    odd = is_odd(below, format)
    exact = {
        "nearest_even": run(NEAREST) if format.precision > 1 else np.where(up & ~(tie & ~odd), above, below),
        "nearest_away": np.where(up, above, below),
        "toward_zero": below,
        "up": run(UP),
        "down": run(DOWN),
        "odd": np.where(inexact & ~odd, above, below),
    }
    if not format.signed:  # a negative result is no number however small, also if it was rounded to zero
        exact = {mode: np.where(above < 0, math.nan, x) for mode, x in exact.items()}
    return {mode: apply(lambda x, mode=mode: member(x, format, mode), x) for mode, x in exact.items()}


def is_odd(x, format):
    """Whether the last bit of a number's code is set: that of its significand, or of its exponent's field."""

    def odd(x):
        if x == 0 or not math.isfinite(x):
            return False
        exponent = max(math.frexp(x)[1] - 1, format.min_exponent)
        if format.precision == 1:
            return (exponent - format.min_exponent + format.zero) % 2 == 1
        return int(math.ldexp(abs(x), format.precision - 1 - exponent)) % 2 == 1

    return apply(odd, x)


def apply(function, x):
    """A function of one float on an array, called once for every different bit pattern."""
    patterns, inverse = np.unique(x.view(np.int64), return_inverse=True)
    return np.array([function(value) for value in patterns.view(np.float64).tolist()])[inverse]


def member(x, format, rounding):
    """What a format makes of a result that was rounded to its precision as if the exponent had no end."""
    beyond = {"infinity": math.inf, "nan": math.nan, "saturate": format.max}[format.overflow]
    if math.isnan(x) or (x < 0 and not format.signed) or (x == 0 and not format.zero):
        return math.nan
    if math.isinf(x):
        return x if format.has_infinity else math.copysign(beyond, x)
    if abs(x) > format.max:
        stays = rounding in {"toward_zero", "odd"} or (rounding == "up" and x < 0) or (rounding == "down" and x > 0)
        return math.copysign(format.max if stays else beyond, x)
    if not format.zero:
        return max(x, format.min_normal)
    if abs(x) < format.min_normal and not format.subnormals:
        x = math.copysign(0.0, x)
    return x if x or format.signed_zero else 0.0


def operations(x, y, z):
    return {"add": x + y, "sub": x - y, "mul": x * y, "div": x / y, "sqrt": jnp.sqrt(z)}


def fused(a, b, c):
    """a b + c, where products are added unrounded: c 1 + a b, the first product exact."""
    return jnp.einsum("ki,ki->i", jnp.stack([c, a]), jnp.stack([jnp.ones_like(c), b]))


def assert_same(got, want, operands, label):
    got, want = np.asarray(got, np.float64), np.asarray(want)
    same = (got.view(np.int64) == want.view(np.int64)) | (np.isnan(got) & np.isnan(want))
    wrong = np.flatnonzero(~same)
    shown = [(*(float(x[i]) for x in operands), float(got[i]), float(want[i])) for i in wrong[:5]]
    assert not wrong.size, f"{label}: {wrong.size} of {got.size} wrong; operands, result, MPFR: {shown}"


def judge(format, modes, x, y, z, lab=pl):
    """Compare + - * / of the pairs (x, y) and the square roots of z with MPFR's, in all modes."""
    exact_x, exact_y, exact_z = (list(map(gmpy2.mpfr, v.tolist())) for v in (x, y, z))
    want = {name: round_all(format, name, exact_x, exact_y) for name in ("add", "sub", "mul", "div")}
    want["sqrt"] = round_all(format, "sqrt", exact_z)
    for mode in modes:
        with jax.enable_x64(True):
            got = lab.emulate(operations, lab.Arithmetic(record(format, lab), mode))(x, y, z)
        for name, value in got.items():
            assert_same(value, want[name][mode], (z,) if name == "sqrt" else (x, y), f"{name}, {format}, {mode}")


def judge_fused(format, modes, a, b, c, lab=pl):
    """Compare a b + c, rounded once, with MPFR's."""
    want = round_all(format, "fma", *(list(map(gmpy2.mpfr, v.tolist())) for v in (a, b, c)))
    for mode in modes:
        with jax.enable_x64(True):
            got = lab.emulate(fused, lab.Arithmetic(record(format, lab), mode, fma=True))(a, b, c)
        assert_same(got, want[mode], (a, b, c), f"fma, {format}, {mode}")


def record(format, lab):
    """The same format as a record of the laboratory that is judged."""
    return lab.Format(**dataclasses.asdict(format))


def some_slow(formats, fast):
    """Formats as parameters, all but those with these names in the slow tier."""
    slow = pytest.mark.slow
    return [pytest.param(f, marks=() if f.name in fast else slow, id=f.name) for f in formats]


# With infinities; with one zero, and NaN beyond its ends; saturating; powers of two alone, with no sign and no zero.
DIFFERENT = ["float8_e5m2", "float8_e4m3fnuz", "float4_e2m1fn", "float8_e8m0fnu"]


@pytest.mark.parametrize("format", some_slow([*SMALL, *CUSTOM], DIFFERENT))
def test_all_pairs_of_numbers_of_a_small_format_in_every_mode(format):
    values = numbers(format)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    judge(format, MODES, x, y, values)


TINY = [format for format in SMALL if format.bits <= 6]


@pytest.mark.parametrize("format", some_slow(TINY, ["float4_e2m1fn"]))
def test_all_triples_of_numbers_of_a_tiny_format_fused(format):
    values = numbers(format)
    judge_fused(format, MODES, *(v.ravel() for v in np.meshgrid(values, values, values)))


def triples(format, n, seed):
    """Operands of a b + c: of all magnitudes, with much cancellation, and with c near the last bit of a b."""
    a, b, _ = (v[: n // 3] for v in sample(format, 8 * n, seed))
    rng = np.random.default_rng([zlib.crc32(format.name.encode()), seed])
    with np.errstate(all="ignore"):
        product = a * b
        steps = format.unit_roundoff ** rng.choice([0, 1, 2, 3], product.shape) * rng.uniform(0.5, 2, product.shape)
    c = [rng.permutation(a), to_format(-product, format), to_format(product * steps, format)]
    return np.tile(a, 3), np.tile(b, 3), np.concatenate(c)


@pytest.mark.parametrize("format", some_slow([*SMALL, *LARGE], ["bfloat16", "float16"]))
def test_samples_of_fused_operations(format):
    judge_fused(format, modes_of(format), *triples(format, 3000, 3))


@pytest.mark.slow
@pytest.mark.parametrize("format", P3109, ids=str)
def test_all_pairs_of_numbers_of_formats_of_p3109_in_every_mode(format):
    values = numbers(format)
    x, y = (v.ravel() for v in np.meshgrid(values, values))
    judge(format, MODES, x, y, values)


def test_the_numbers_are_as_many_as_the_format_says():
    assert [len(numbers(f)) for f in SMALL] == [
        f.finite_values + f.signed_zero * f.signed + 1 + 2 * f.has_infinity for f in SMALL
    ]


def significands(rng, format, shape, bits):
    """Numbers of a format with no more than so many significant bits, of all exponents."""
    exponents = rng.integers(format.min_exponent - format.precision + 1, format.max_exponent + 1, shape)
    x = np.ldexp(rng.integers(2 ** (bits - 1), 2**bits, shape).astype(float), exponents - bits + 1)
    return to_format(x * rng.choice([-1, 1], shape), format)


def to_format(x, format):
    """Rounded to nearest by MPFR."""
    return round_all(format, "plus", list(map(gmpy2.mpfr, x.ravel().tolist())))["nearest_even"].reshape(x.shape)


def sample(format, n, seed):
    """Pairs of operands and radicands: of all magnitudes, alike, with results near ties, subnormal and extreme."""
    rng = np.random.default_rng([zlib.crc32(format.name.encode()), seed])
    p, n = format.precision, n // 8
    a, b = significands(rng, format, (2, n), p)
    tiny, top, u = format.min_subnormal, format.max, format.unit_roundoff
    marks = np.array([
        0,
        tiny,
        3 * tiny,
        format.min_normal,
        format.min_normal - tiny,
        1,
        1 + 2 * u,
        1 - u,
        3,
        top,
        top / 2,
    ])
    marks = to_format(np.concatenate([marks, top * (1 - 2 * u * np.arange(4)), tiny * np.arange(9)]), format)
    marks = np.concatenate([marks, -marks, [np.inf, -np.inf, np.nan]])
    left, right = (v.ravel() for v in np.meshgrid(marks, marks))
    with np.errstate(all="ignore"):
        size = np.exp2(np.floor(np.log2(np.abs(a))))
        close = to_format(size * rng.uniform(-4, 4, n), format)
        steps = to_format(
            size * u * rng.choice([0.25, 0.5, 1, 1.5, 2, 3], n) * (1 + u * rng.integers(-2, 3, n)), format
        )
        factors = [significands(rng, format, n, bits) for bits in (p // 2 + 1, p - p // 2)]
        one = to_format(rng.uniform(1, 2, n), format)
        middle = 1 + u + 2 * u * rng.integers(0, 2 ** (p - 1), n)  # between two numbers
        quotient = to_format(np.clip(middle * one, -top, top), format)
        inverse = to_format(np.clip(format.min_normal / one, -top, top), format)
    sums = [(a, b), (a, close), (a, steps), (a, -steps), (a, to_format(a * one, format))]
    products = [tuple(factors), (quotient, one), (inverse, one), (a, to_format(1 / one, format)), (left, right)]
    x, y = (np.concatenate(v) for v in zip(*sums, *products, strict=True))
    roots = np.concatenate([np.abs(a), to_format(middle**2, format), to_format(one**2, format), one, marks])
    return x, y, np.resize(roots, x.shape)


def modes_of(format):
    """The modes in which some carrier gives a format of one rounding."""
    return [mode for mode in MODES if any(rounds_once(format, NAMED[c], mode) for c in ("float32", "float64"))]


@pytest.mark.parametrize("format", some_slow(LARGE, ["float16", "float32"]))  # a carrier of either width
def test_structured_samples_of_large_formats_in_every_mode(format):
    judge(format, modes_of(format), *sample(format, 4000, 1))


@pytest.mark.slow
@pytest.mark.parametrize("format", LARGE, ids=str)
def test_many_structured_samples_of_large_formats_in_every_mode(format):
    judge(format, modes_of(format), *sample(format, 100_000, 2))
