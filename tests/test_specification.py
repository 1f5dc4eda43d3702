"""The record of an arithmetic: what it accepts, what it refuses, and which carrier it takes."""

import dataclasses

import numpy as np
import pytest

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import Arithmetic, as_arithmetic, rounds_once

CARRIERS = [
    (Arithmetic("float16"), "float32"),
    (Arithmetic("float8_e4m3fn"), "float32"),
    (Arithmetic("float8_e5m2"), "float32"),
    (Arithmetic("float16", "toward_zero"), "float32"),
    (Arithmetic("float16", "stochastic"), "float64"),  # resolves the probabilities
    (Arithmetic("bfloat16"), "float64"),  # its subnormals are subnormals of float32
    (Arithmetic("tfloat32"), "float64"),
    (Arithmetic("float32"), "float64"),
    (Arithmetic("float64"), "float64"),
    (Arithmetic("float16", accumulate="float32"), "float64"),
    (Arithmetic("bfloat16", carrier="float32"), "float32"),
    (Arithmetic("float32", carrier="float32"), "float32"),
    (Arithmetic(Format("eleven bits", 11, -60, 62)), "float64"),  # squares of its extremes leave float32
    (Arithmetic(Format("twelve bits", 12, -14, 15)), "float64"),  # 2p + 2 > 24
]


@pytest.mark.parametrize(("arithmetic", "carrier"), CARRIERS, ids=str)
def test_the_narrowest_carrier_that_rounds_once(arithmetic, carrier):
    assert arithmetic.carrier_dtype == carrier


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "bfloat61"}, "did you mean 'bfloat16'"),
        ({"format": "bfloat16", "rounding": "upward"}, "unknown rounding 'upward': choose one of nearest_even"),
        ({"format": "bfloat16", "carrier": "float16"}, "unknown carrier 'float16'.*choose one of auto, float32"),
        ({"format": "bfloat16", "accumulate": "float33"}, "no format is named 'float33'"),
        ({"format": "float64", "carrier": "float32"}, "does not fit into the carrier float32: use carrier='auto'"),
        ({"format": "float16", "accumulate": "float64", "carrier": "float32"}, "does not fit"),
        (
            {"format": "float64", "rounding": "toward_zero"},
            "no carrier computes float64 with rounding 'toward_zero' with a single",
        ),
        ({"format": "float64", "rounding": "stochastic"}, "no carrier computes float64"),
        ({"format": "bfloat16", "accumulate": "float64"}, None),
        ({"format": Format("thirty bits", 30, -100, 100)}, "force carrier='float64' and accept"),
        ({"format": "float32", "rounding": "toward_zero", "carrier": "float32"}, "two more bits"),
        ({"format": "float64", "rounding": "toward_zero", "carrier": "float64"}, "two more bits"),
        ({"format": Format("wide", 20, -600, 600)}, "no carrier computes wide"),
        ({"format": "float64", "fma": True}, "fused multiply-add"),
        ({"format": "bfloat16", "order": "backward"}, "unknown order of sums 'backward'"),
        ({"format": "bfloat16", "order": "blocked(0)"}, r"unknown order of sums 'blocked\(0\)'"),
        ({"format": "bfloat16", "linalg": "expanded"}, "did you mean 'expand'"),
        ({"format": "bfloat16", "random_bits": 8}, "random bits of stochastic rounding, 1 to 52; got 8 for"),
        ({"format": "bfloat16", "rounding": "stochastic", "random_bits": 60}, "1 to 52; got 60"),
        ({"format": "bfloat16", "overrides": {"add": "float33"}}, "overrides: no format is named 'float33'"),
    ],
)
def test_what_cannot_be_emulated_is_refused_and_says_what_to_do(fields, message):
    if message is None:
        assert Arithmetic(**fields).carrier_dtype == "float64"
        return
    with pytest.raises(ValueError, match=message):
        Arithmetic(**fields)


def test_a_precision_that_may_round_twice_is_taken_by_force():
    assert Arithmetic(Format("thirty bits", 30, -100, 100), carrier="float64").carrier_dtype == "float64"


def test_it_is_a_hashable_record_with_resolved_names():
    a = Arithmetic("BF16", accumulate="fp32")
    assert a == Arithmetic(formats.bfloat16, accumulate=formats.float32)
    assert hash(a) == hash(Arithmetic("bfloat16", accumulate="float32"))
    assert a.result is formats.bfloat16
    assert a.accumulator is formats.float32
    assert Arithmetic("bfloat16").accumulator is formats.bfloat16
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.seed = 1


def test_its_name_says_what_is_not_the_default():
    assert str(Arithmetic("bf16")) == "bfloat16"
    assert str(Arithmetic("bf16", "toward_zero", "fp32")) == "bfloat16 (toward_zero, sums in float32)"
    assert str(Arithmetic("bf16", order="blocked(8)", fma=True, operands="fp8_e5m2")) == (
        "bfloat16 (operands in float8_e5m2, blocked(8) sums, fused multiply-add)"
    )
    assert str(Arithmetic("bf16", carrier="float32")) == "bfloat16 (carried in float32)"


def test_unit_roundoff_is_twice_as_large_when_rounding_is_not_to_nearest():
    assert Arithmetic("float16").unit_roundoff == 2.0**-11
    assert Arithmetic("float16", "toward_zero").unit_roundoff == 2.0**-10


def test_formats_and_names_stand_for_arithmetics():
    assert as_arithmetic("float16") == as_arithmetic(formats.float16) == Arithmetic("float16")
    with pytest.raises(TypeError, match="expected an Arithmetic, a Format or a format's name, got int"):
        as_arithmetic(16)


def test_rounding_once_needs_the_precision_and_the_range():
    assert rounds_once(formats.float16, formats.float32, "nearest_even")
    assert not rounds_once(Format("range", 11, -64, 62), formats.float32, "nearest_even")
    assert rounds_once(Format("range", 11, -53, 62), formats.float32, "nearest_even")
    assert not rounds_once(Format("range", 11, -14, 63), formats.float32, "nearest_even")


def test_overrides_become_sorted_pairs():
    a = Arithmetic("bfloat16", overrides={"reduce_sum": "float32", "attention": Arithmetic("float16")})
    assert a.overrides == (("attention", Arithmetic("float16")), ("reduce_sum", Arithmetic("float32")))
    assert hash(a) == hash(Arithmetic("bfloat16", overrides=a.overrides))
    for wrong in ({1: "float32"}, 3, {"add": 16}):
        with pytest.raises(TypeError, match="overrides"):
            Arithmetic("bfloat16", overrides=wrong)


def test_orders_have_one_spelling():
    assert Arithmetic("bfloat16", order="blocked( 032 )").order == "blocked(32)"
    assert Arithmetic("bfloat16", order="blocked(32)").block == 32
    assert Arithmetic("bfloat16", order="pairwise").block is None


def test_a_seed_is_an_integer():
    assert Arithmetic("bfloat16", seed=np.int64(3)).seed == 3
    with pytest.raises(TypeError, match=r"seed must be an integer, got 0\.5"):
        Arithmetic("bfloat16", "stochastic", seed=0.5)
