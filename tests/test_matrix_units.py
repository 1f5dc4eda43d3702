"""Models of matrix units against their definition in rationals, and probes with known answers."""

import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from scalar_sums import power, rounded

import precond_lab as pl
from precond_lab.arithmetic.matrix_units import MatrixUnit
from precond_lab.arithmetic.presets import PRESETS, preset

ALIGNED = [name for name, one in PRESETS.items() if one.arithmetic.unit and one.arithmetic.unit.fraction_bits]


def exponent(x, format):
    if x == 0:
        return None
    return max(math.frexp(x)[1] - 1, format.min_exponent)


def unit_dot(unit, format, pairs):
    """One element of a product, by the definition."""
    total = 0.0
    for first in range(0, len(pairs), unit.group):
        group = pairs[first : first + unit.group]
        if unit.fraction_bits is None:
            for a, b in reversed(group) if unit.backwards else group:
                exact = Fraction(a) * Fraction(b) + Fraction(total)
                total = rounded(exact, unit.accumulator, unit.rounding)
                total = 0.0 if unit.flush and abs(total) < unit.accumulator.min_normal else total
            continue
        terms = [(Fraction(a) * Fraction(b), exponent(a, format), exponent(b, format)) for a, b in group]
        terms = [(p, -126 if p == 0 else ea + eb) for p, ea, eb in terms]
        own = -126 if total == 0 else exponent(total, unit.accumulator)
        quantum = power(max(own, *(e for _, e in terms)) - unit.fraction_bits)
        exact = sum(math.trunc(p / quantum) for p, _ in [*terms, (Fraction(total), own)]) * quantum
        total = rounded(exact, unit.accumulator, unit.rounding)
    return total


@pytest.mark.parametrize("name", [*ALIGNED, "cpu-avx512-bf16"])
def test_a_unit_equals_its_definition(name):
    arithmetic = pl.Arithmetic.preset(name)
    unit, format = arithmetic.unit, arithmetic.result
    generator = np.random.default_rng(1)
    spread = min(format.max_exponent // 3, 12)
    a, b = (generator.normal(size=(4, 45)) * 2.0 ** generator.integers(-spread, spread, (4, 45)) for _ in range(2))
    a[1], b[1] = generator.normal(size=(2, 45)) / 4
    a[2, :9], b[3, ::2], b[2, 20:] = 0, format.min_subnormal, -b[2, 20:]
    a, b = (np.asarray(pl.round_to(x, format)) for x in (a, b))
    got = pl.emulate(lambda a, b: a @ b.T, arithmetic)(a.astype(np.float32), b.astype(np.float32))
    for i in range(4):
        for j in range(4):
            pairs = list(zip(a[i].tolist(), b[j].tolist(), strict=True))
            total = unit_dot(unit, format, pairs)
            assert got[i, j] == rounded(Fraction(total), format, "nearest_even"), (name, i, j)


def in_float32(name):
    """The accumulator itself, as a kernel writes it out."""
    one = preset(name).arithmetic
    return pl.emulate(lambda a, b: a @ b, pl.Arithmetic("float32", operands=one.result, unit=one.unit))


@pytest.mark.parametrize(
    ("name", "truncated", "kept"),
    [("v100-fp16", 24, 23), ("a100-bf16", 25, 24), ("a100-tf32", 25, 24), ("h100-bf16", 26, 25), ("h100-fp16", 26, 25)],
)
def test_how_many_bits_below_the_largest_term_are_kept(name, truncated, kept):
    """1 - 1 + 2^-k: what lies below the last bit kept is lost before the large terms cancel."""
    product = in_float32(name)
    half = np.float32(2.0 ** -(truncated // 2))
    for bits, want in [(truncated, 0.0), (kept, 2.0**-kept)]:
        a = np.float32([1.0, 1.0, half, 0.0])
        b = np.float32([1.0, -1.0, 2.0**-bits / half, 0.0])
        assert float(product(a, b)) == want
        assert float(product(-a, b)) == -want


def test_the_sum_of_a_step_is_truncated_and_not_rounded():
    product = in_float32("v100-fp16")
    a = np.float32([1.0, 2.0**-12, 2.0**-12, 0.0])
    b = np.float32([1.0, 2.0**-11, 2.0**-11, 0.0])
    # Half and half of the last bit: each is in the alignment kept, and 1 + 2^-22 is a number
    assert float(product(a, b)) == 1 + 2.0**-22
    assert float(product(a * np.float32([1, 1, 0, 0]), b)) == 1 + 2.0**-23
    # Three quarters of the last bit of 2: to nearest it would be one
    a, b = np.float32([2.0, 1.5 * 2.0**-12, 0.0, 0.0]), np.float32([1.0, 2.0**-11, 0.0, 0.0])
    assert float(product(a, b)) == 2.0
    # 4 and one and a half of its last bit: the terms are all kept, and to nearest even the sum were 4 + 2^-20
    a, b = np.float32([2.0, 2.0, 1.5 * 2.0**-11, 0.0]), np.float32([1.0, 1.0, 2.0**-10, 0.0])
    assert float(product(a, b)) == 4 + 2.0**-21


def test_what_a_large_accumulator_loses_depends_on_the_extra_bits():
    """2^24 and ones: without an extra bit all are lost in the alignment; with one only those that come alone."""
    ones = np.ones(16, np.float32)
    together = np.concatenate([np.float32([4096.0, *[0] * 7]), ones])
    alone = np.zeros(8 * 17, np.float32)
    alone[::8], alone[0] = 1, 4096.0
    volta, ampere = in_float32("v100-fp16"), in_float32("a100-bf16")
    assert (float(volta(together, together)), float(volta(alone, alone))) == (2**24, 2**24)
    assert (float(ampere(together, together)), float(ampere(alone, alone))) == (2**24 + 16, 2**24)


def test_hopper_adds_8_bit_products_in_14_bits():
    """2^14 in an accumulator of 14 bits has a last bit of 2: products of 1 are lost, those of 2 are not."""
    product = in_float32("h100-fp8")
    a = np.ones(64, np.float32)
    a[0] = 128.0
    b = np.concatenate([a[:1], 2 * a[1:]])
    assert float(product(a, a)) == 2**14
    assert float(product(a, b)) == 2**14 + 2 * 63
    assert float(pl.emulate(lambda a: a @ a, pl.Arithmetic("float32", operands="e4m3fn"))(a)) == 2**14 + 63


def test_avx512_takes_the_second_product_of_a_pair_first_and_flushes():
    product = in_float32("cpu-avx512-bf16")
    a = np.float32([1.0, 2.0**12, 1.0, -(2.0**12)])
    b = np.float32([1.0, 2.0**12, 1.0, 2.0**12])
    # ((2^24 + 1) - 2^24) + 1: the first 1 is lost; in the program's order it would be kept
    assert float(product(a, b)) == 1.0
    assert float(product(a[:1], b[:1])) == 1.0
    tiny = np.float32([2.0**-70, 0.0])
    assert float(product(tiny, tiny)) == 0.0
    assert float(pl.emulate(lambda a: a @ a, pl.Arithmetic("float32", operands="bfloat16"))(tiny)) == 2.0**-140


def test_infinities_and_nans_pass_through_a_unit():
    product = in_float32("h100-bf16")
    big = np.float32([np.inf, 1.0, 3e38])
    assert float(product(big, np.float32([1.0, 1.0, 1.0]))) == math.inf
    assert math.isnan(float(product(big, np.float32([0.0, 1.0, 1.0]))))
    assert float(product(big[1:], np.float32([1.0, 2.0]))) == math.inf
    assert math.isnan(float(product(np.float32([1.0, np.nan]), np.float32([1.0, 1.0]))))


def test_the_cpu_preset_is_what_xla_does_where_the_order_does_not_matter():
    """Integers whose sums are exact in float32: what is left is one rounding, as JAX has it on this CPU."""
    generator = np.random.default_rng(2)
    a, b = generator.integers(-128, 128, (2, 40, 40)).astype(np.float32)
    native = jnp.matmul(jnp.asarray(a, jnp.bfloat16), jnp.asarray(b, jnp.bfloat16))
    got = pl.emulate(jnp.matmul, pl.Arithmetic.preset("cpu-bf16"))(a, b)
    np.testing.assert_array_equal(got, np.asarray(native, np.float32))
    once = pl.emulate(jnp.matmul, pl.Arithmetic("bfloat16", order="exact"))(a, b)
    np.testing.assert_array_equal(got, once)


def test_every_preset_says_what_is_known_of_it():
    for key, one in PRESETS.items():
        assert one == preset(key.upper())
        assert one.arithmetic == pl.Arithmetic.preset(key)
        assert one.documented
        assert one.assumed
        assert all(one.sources)
    with pytest.raises(ValueError, match="did you mean 'h100-bf16'"):
        preset("h10-bf16")


def test_a_unit_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="at least one product"):
        MatrixUnit("none", group=0)
    with pytest.raises(ValueError, match="fraction_bits"):
        MatrixUnit("none", fraction_bits=60)
