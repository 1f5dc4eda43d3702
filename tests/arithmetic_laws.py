"""The laws of an arithmetic in a compact form, each of which judges one copy of it: see `test_mutations`."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from programs import landmarks
from scalar_interpreter import ScalarInterpreter
from test_emulate import assert_same_bits
from test_mpfr import MODES, assert_same, judge, judge_fused, numbers, record, round_all, sample, triples

from precond_lab.arithmetic.formats import NAMED, Format, p3109

f32 = np.float32
NO_SUBNORMALS = Format("no subnormals", 5, -6, 7, subnormals=False)
SATURATING = Format("saturating with infinities", 3, -2, 3, overflow="saturate", infinities=True)
NAN = Format("nan with infinities", 3, -2, 3, overflow="nan", infinities=True)
UNSIGNED = Format("unsigned", 3, -3, 4, overflow="saturate", signed=False, signed_zero=False)
ONE_BIT = p3109(6, 1)
BEYOND = Format("wider than float32", 6, -200, 200)
EVERY_BIT = [
    *(NAMED[f"float{name}"] for name in ("8_e4m3fn", "8_e5m2fnuz", "8_e8m0fnu", "4_e2m1fn", "16")),
    *(NAMED["bfloat16"], NO_SUBNORMALS, SATURATING, NAN, UNSIGNED, ONE_BIT, BEYOND),
]


def laboratory(copy):
    """What laws judge of a copy, under the names that the package gives it."""
    return SimpleNamespace(
        copy=copy,
        emulate=copy.emulate.emulate,
        Arithmetic=copy.specification.Arithmetic,
        Format=copy.formats.Format,
        round_to=copy.rounding.round_to,
    )


def around(format, dtype):
    """Numbers of a dtype at, beside and between numbers of a format, and at both ends of the dtype."""
    if format.bits <= 8:
        values = numbers(format)
        values = np.unique(values[np.isfinite(values) & (values >= 0)])
    else:
        rng = np.random.default_rng(format.precision)
        values = np.concatenate([np.abs(sample(format, 800, 4)[0]), format.min_subnormal * rng.integers(0, 40, 60)])
        values = np.unique(values[np.isfinite(values)])
    spacing = np.append(np.diff(values), 2.0 ** (format.max_exponent + 1 - format.precision))
    with np.errstate(all="ignore"):
        points = np.concatenate([values, *(values + spacing * t for t in (0.25, 0.5, 0.75))]).astype(dtype)
        info = np.finfo(dtype)
        ends = np.array([0, info.tiny, info.smallest_subnormal, info.max, np.inf, format.max * 4], dtype)
        points = np.concatenate([points, ends])
        points = np.concatenate([points, np.nextafter(points, dtype(0)), np.nextafter(points, dtype(np.inf))])
    return np.concatenate([points, -points, payloads(dtype)]).astype(dtype)


def payloads(dtype):
    """NaNs of many kinds, signaling ones among them."""
    unsigned = {2: np.uint16, 4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    infinity, sign = np.array([np.inf, -0.0], dtype).view(unsigned)
    quiet = infinity + unsigned(1) + np.array([0, 1, 1 << 20, sign - infinity - unsigned(2)], unsigned)
    return np.concatenate([quiet, quiet | sign]).view(dtype)


def rounding(format, dtype):
    """Rounding alone, in every mode, is MPFR's."""

    def law(lab):
        import gmpy2  # noqa: PLC0415

        x = around(format, dtype)
        want = round_all(format, "plus", list(map(gmpy2.mpfr, x.tolist())))
        for mode in MODES:
            assert_same(lab.round_to(x, record(format, lab), mode), want[mode], (x,), f"{format}, {mode}")

    return law


def operations(format, count=1500):
    """Operations, in every mode, are MPFR's."""

    def law(lab):
        judge(format, MODES, *sample(format, count, 5), lab)

    return law


def fused(lab):
    """Fused operations are MPFR's."""
    for name in ("float16", "bfloat16"):
        judge_fused(NAMED[name], ["nearest_even", "down"], *triples(NAMED[name], 600, 6), lab)


def agreement(function, arithmetics, draw, events=True):
    """Results and events are those of the scalar interpreter."""

    def law(lab):
        for options in arithmetics:
            arithmetic = lab.Arithmetic(**options)
            format, accumulate = NAMED[arithmetic.result.name], NAMED[arithmetic.accumulator.name]
            oracle = ScalarInterpreter(format, arithmetic.rounding, accumulate, arithmetic.order, arithmetic.fma)
            args = draw(format)
            want, counts = oracle(function, *args)
            got, counted = lab.emulate(function, arithmetic, events=True)(*args)
            assert_same_bits(got, want)
            if events:
                assert {name: int(n) for name, n in counted._asdict().items()} == counts

    return law


def ends(x, y):
    cast = (jnp.clip(x, -9, 9) * 3).astype(jnp.int32)
    return x + y, x - x, x * y, x / y, jnp.sqrt(x), jnp.exp(x), x.astype(jnp.float16), cast


def draw_ends(format):
    marks = landmarks(format)
    return marks, np.roll(marks, 7)


def library(x, n):
    return jnp.tanh(x), jnp.sin(x / 512), jnp.exp(x * 64), jnp.cbrt(n**3), jnp.exp2(n), lax.rsqrt(n * n)


def draw_library(format):
    return np.array([-30, -2, -0.5, 0.25, 1, 24], f32), np.arange(1, 25).astype(f32)


def sums(A, x):
    return jnp.sum(x), lax.cumsum(x, reverse=True), A @ A.T, jnp.prod(x), x.at[jnp.array([1, 3, 1])].add(x[:3])


def draw_sums(format):
    rng = np.random.default_rng(7)
    A = rng.normal(size=(3, 16)) * 2.0 ** rng.integers(-5, 5, (3, 16))
    x = rng.normal(size=22)
    x[2] = 2.0**-20
    return A.astype(f32), x.astype(f32)


def fast_products(lab):
    """The fast loop of products, in C and in JAX, gives NumPy's float16, one product and one sum after the other."""
    lab.copy.product_loops.WORTHWHILE = 0
    A, B = np.random.default_rng(9).normal(size=(2, 24, 24)).astype(np.float16)
    A[0] *= np.float16(2.0**-12)  # with gradual underflow of products and sums
    B[:, 0] *= np.float16(2.0**-10)
    total = np.multiply.outer(A[:, 0], B[0])
    for k in range(1, len(B)):
        total += np.multiply.outer(A[:, k], B[k])
    in_c = lab.copy.native_loops.target
    for target in (in_c, lambda: None):
        lab.copy.native_loops.target = target
        assert_same_bits(lab.emulate(jnp.matmul, "float16")(A.astype(f32), B.astype(f32)), total.astype(f32))
    lab.copy.native_loops.target = in_c


def carriers(lab):
    """Going from one carrier to the other is what NumPy does, which keeps subnormals."""
    rng = np.random.default_rng(10)
    short = np.concatenate([rng.integers(0, 2**32, 4000).astype(np.uint32).view(f32), around(NAMED["float16"], f32)])
    short = np.concatenate([short, rng.integers(0, 2**24, 2000).astype(np.uint32).view(f32), [f32(np.inf), f32(0)]])
    with jax.enable_x64(True), np.errstate(all="ignore"):
        wide = np.asarray(jax.jit(lab.copy.carriers.widen)(short))
        assert_same_bits(wide, np.array([float(x) for x in short]))
        between = wide * (1 + rng.choice([0, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 2.0**-40], wide.shape))
        between = np.concatenate([between, rng.integers(-400, 400, 999) * 2.0**-150, [1e300, -1e300, 2.0**-126]])
        assert_same_bits(jax.jit(lab.copy.carriers.narrow)(between), between.astype(f32))


def entering(lab):
    """Integers, narrow floats and float64 are rounded once, and leave as they were made."""
    with jax.enable_x64(True):
        i = np.array([2**60 - 1, -(2**60) + 1, 2**60 + 2**36 + 1, 2**53 + 1, 7, 0])
        down = lab.emulate(lambda i: i.astype(jnp.float32), lab.Arithmetic("float32", "toward_zero"))(i)
        assert_same_bits(down, np.array([2**60 - 2**36, 2**36 - 2**60, 2**60, 2**53, 7, 0], f32))
        nearest = lab.emulate(lambda i: i.astype(jnp.float32), "float32")(i)
        assert_same_bits(nearest, i.astype(f32))
    x = np.array([1 + 2.0**-8 + 2.0**-40, 2.0**-130 * 1.01, -(2.0**-133), 3e38, -0.0, np.nan])
    want = np.array([1 + 2.0**-7, 2.0**-130, -(2.0**-133), 2.99e38, -0.0, np.nan])
    want[3] = float(np.asarray(round_all(NAMED["bfloat16"], "plus", [3e38])["nearest_even"])[0])
    assert_same_bits(lab.emulate(lambda x: x, "bfloat16")(x), want.astype(f32))
    short = want[1:3].astype(f32)
    assert_same_bits(lab.emulate(lambda x: x, "bfloat16")(short), short)
    half = x[:1].astype(np.float16)
    assert lab.emulate(lambda x: x * x, "bfloat16")(half).dtype == np.float16
    y = lab.emulate(lambda x: x, lab.Arithmetic("float32"))(np.array([1 + 2.0**-11 + 2.0**-20], f32))
    assert_same_bits(y, np.array([1 + 2.0**-11 + 2.0**-20], f32))
    y = lab.emulate(lambda x: (x * 1).astype(jnp.bfloat16), "float32")(np.array([1 + 2.0**-8 + 2.0**-20], f32))
    assert float(y[0]) == 1 + 2.0**-7


def leaving(lab):
    """What leaves for a narrow dtype is rounded to it once."""
    with jax.enable_x64(True):
        x = [f32(v).astype(jnp.bfloat16) for v in (1, 2.0**-8, 2.0**-40)]
        y = lab.emulate(lambda x, y, z: x + y + z, "float64")(*x)
    assert y.dtype == jnp.bfloat16
    assert float(y) == 1 + 2.0**-7


def division(lab):
    """Quotients by constants and scalars are quotients."""
    x = (np.arange(1, 400) * 49).astype(f32)
    arithmetic = lab.Arithmetic("float32", carrier="float32")
    got = lab.emulate(lambda x, y: (x / 49, x / y, x / 3), arithmetic)(x, f32(49))
    assert_same_bits(got, (x / f32(49), x / f32(49), x / f32(3)))


def contraction(lab):
    """Where the format is the carrier, products and sums stay apart."""
    a, b, c = np.random.default_rng(8).normal(size=(3, 400)).astype(f32)
    arithmetic = lab.Arithmetic("float32", carrier="float32")
    got = lab.emulate(lambda a, b, c: (a * b + c, (a + f32(1e4)) - f32(1e4)), arithmetic)(a, b, c)
    assert_same_bits(got, (a * b + c, (a + f32(1e4)) - f32(1e4)))


def derivatives(lab):
    """Derivatives are straight-through, also those of the sums and casts of directed modes."""
    x = np.array([1.5, 2.25], f32)
    for mode in ("nearest_even", "toward_zero"):
        e = lab.emulate(lambda x: jnp.sum(x * x - x) + jnp.sum(x) * 3, lab.Arithmetic("bfloat16", mode))
        np.testing.assert_array_equal(jax.grad(e)(x), 2 * x + 2)


def chance(lab):
    """Stochastic roundings are unbiased, independent of each other, and follow from the seed."""
    n, p = 20000, 0.25
    x = np.full(n, 1 + 2.0**-7 * p, f32)
    third = 2**9 / 3 % 1  # how far a third lies between its neighbors

    def stochastic(f, seed=0):
        return lab.emulate(f, lab.Arithmetic("bfloat16", "stochastic", seed=seed))

    def f(x):
        return x / 3, x / 3, *lax.scan(lambda c, _: (c, x / 3), 0.0, length=2)[1]

    entered = [np.asarray(stochastic(lambda x: x, seed)(x)) > 1 for seed in (1, 1, 2, -1, 1 + 2**32)]
    assert (entered[0] == entered[1]).all()
    rows = [(row, p) for row in entered[1:]]
    rows += [(np.asarray(row) > 1 / 3, third) for row in stochastic(f)(np.ones(n, f32))]
    for i, (row, p) in enumerate(rows):
        assert abs(row.mean() - p) < deviations(n)
        for other, q in [*rows[:i], (np.roll(row, 1), p), (np.roll(row, 128), p)]:
            assert abs(np.mean(row & other) - p * q) < deviations(n)


def chance_by_words(lab):
    """With 8 random bits, exactly floor(256 theta) of all 256 words round up."""
    words = np.arange(256)
    for name, dtype, unsigned, width in (
        ("bfloat16", f32, np.uint32, 32),
        ("float16", f32, np.uint32, 32),
        ("float16", np.float64, np.uint64, 64),
        ("float8_e8m0fnu", np.float64, np.uint64, 64),
        ("binary6p1se", f32, np.uint32, 32),
    ):
        format = NAMED.get(name, ONE_BIT)
        positive = numbers(format)
        positive = np.unique(positive[np.isfinite(positive) & (positive > 0)])
        lower = positive[[3, positive.size // 2, -3]]
        upper = positive[[4, positive.size // 2 + 1, -2]]
        if format.zero:
            lower, upper = np.append(lower, 0.0), np.append(upper, positive[0])
        for theta in (1 / 256, 0.2, 1 / 3, 0.5, 255 / 256, 0.9999):
            x = np.broadcast_to(lower + theta * (upper - lower), (256, lower.size)).astype(dtype)
            exact = (x[0].astype(float) - lower) / (upper - lower)
            bits = np.broadcast_to((words.astype(unsigned) << unsigned(width - 8))[:, None], x.shape)
            with jax.enable_x64(True):
                y = lab.copy.rounding.round_bits(
                    jnp.asarray(x), record(format, lab), "stochastic", jnp.asarray(bits), 8
                )
            np.testing.assert_array_equal((np.asarray(y) == upper).sum(axis=0), np.floor(256 * exact), err_msg=name)


def deviations(n):
    """Five standard deviations, at most, of the mean of n independent booleans."""
    return 2.5 / np.sqrt(n)


LAWS = {
    **{
        f"rounding {f} from {np.dtype(d).name}": rounding(f, d)
        for f in EVERY_BIT
        for d in (f32, np.float64)
        if f != BEYOND or d != f32
    },
    "operations float16": operations(NAMED["float16"]),
    "operations bfloat16": operations(NAMED["bfloat16"]),
    "operations float8_e5m2": operations(NAMED["float8_e5m2"], 4000),
    "operations of twelve bits": operations(Format("twelve bits", 12, -14, 15)),
    "operations of small numbers": operations(Format("small numbers", 5, -100, 20)),
    "fused": fused,
    "ends": agreement(
        ends,
        [{"format": "float16"}, {"format": "float8_e4m3fn", "rounding": "toward_zero"}, {"format": "bfloat16"}],
        draw_ends,
    ),
    "library": agreement(library, [{"format": "float16", "rounding": "toward_zero"}], draw_library),
    "sums": agreement(
        sums, [{"format": "float16", "accumulate": f, "rounding": "up"} for f in ("bfloat16", "float32")], draw_sums
    ),
    "sums reversed": agreement(sums, [{"format": "float16", "order": "reversed"}], draw_sums),
    "sums pairwise": agreement(
        sums, [{"format": "float16", "order": "pairwise", "fma": True}], draw_sums, events=False
    ),
    "sums blocked": agreement(sums, [{"format": "float16", "order": "blocked(3)"}], draw_sums, events=False),
    "fast products": fast_products,
    "carriers": carriers,
    "entering": entering,
    "leaving": leaving,
    "division": division,
    "contraction": contraction,
    "derivatives": derivatives,
    "chance": chance,
    "chance by words": chance_by_words,
}
