"""The table of formats: what follows from a row, and how a row is found."""

import dataclasses
import subprocess
import sys
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import rational_rounding

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import NAMED, Format, named

EVERY = pytest.mark.parametrize("format", NAMED.values(), ids=str)

FINFO = {
    "bfloat16": ml_dtypes.finfo(ml_dtypes.bfloat16),
    "float16": np.finfo(np.float16),
    "float32": np.finfo(np.float32),
    "float64": np.finfo(np.float64),
    "float8_e4m3fn": ml_dtypes.finfo(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": ml_dtypes.finfo(ml_dtypes.float8_e5m2),
}


@pytest.mark.parametrize("name", FINFO)
def test_derived_properties_are_those_of_the_machine_types(name):
    format, info = named(name), FINFO[name]
    assert format.max == float(info.max)
    assert format.min_normal == float(info.smallest_normal)
    assert format.min_subnormal == float(info.smallest_subnormal)
    assert format.machine_epsilon == float(info.eps)
    assert format.bits == info.bits


@EVERY
def test_unit_roundoff_is_half_the_spacing_of_one(format):
    assert format.unit_roundoff == format.machine_epsilon / 2
    assert format.machine_epsilon == 2.0 ** (1 - format.precision)


def test_tensor_float_has_nineteen_bits():
    assert (formats.tfloat32.bits, formats.tfloat32.max) == (19, (2 - 2.0**-10) * 2.0**127)


@pytest.mark.parametrize("format", [f for f in NAMED.values() if f.bits <= 16], ids=str)
def test_finite_values_and_extremes_agree_with_the_list_of_all_values(format):
    *values, past = rational_rounding.grid(format)
    assert 2 * len(values) - 1 == format.finite_values == len({*values}) * 2 - 1
    assert values == sorted(values)
    assert Fraction(values[-1], 2**1074) == Fraction(format.max)
    assert Fraction(values[1], 2**1074) == Fraction(format.min_subnormal)
    assert past > values[-1]


@pytest.mark.parametrize(("field", "count"), [("overflow", 63487), ("subnormals", 61441)])
def test_finite_values_of_a_changed_format(field, count):
    changed = dataclasses.replace(formats.float16, **{field: {"overflow": "nan", "subnormals": False}[field]})
    assert changed.finite_values == count


def test_without_subnormals_the_smallest_number_is_normal():
    format = dataclasses.replace(formats.float16, subnormals=False)
    assert format.min_subnormal == format.min_normal == 2.0**-14


def test_only_overflow_to_infinity_has_infinities():
    assert formats.float8_e5m2.has_infinity
    assert not formats.float8_e4m3fn.has_infinity
    assert not dataclasses.replace(formats.float16, overflow="saturate").has_infinity


def test_a_narrow_format_needs_few_bits():
    four = Format("e2m1", precision=2, min_exponent=0, max_exponent=2, overflow="saturate")
    assert (four.bits, four.max, four.finite_values) == (4, 6.0, 15)


ALIASES = {
    "bfloat16": "bf16 BF16",
    "float16": "fp16 half binary16 Half",
    "tfloat32": "tf32 TensorFloat-32 TF32",
    "float32": "fp32 single binary32",
    "float64": "fp64 double binary64",
    "float8_e4m3fn": "e4m3fn e4m3 fp8_e4m3 Float8_E4M3FN",
    "float8_e5m2": "e5m2 fp8_e5m2 fp8-e5m2",
}


@pytest.mark.parametrize("name", NAMED)
def test_aliases(name):
    for alias in ALIASES[name].split():
        assert named(alias) is NAMED[name] is getattr(formats, name)


@EVERY
def test_a_format_is_found_under_all_its_names_and_passes_unchanged(format):
    assert named(format) is format
    assert [named(alias) for alias in formats.aliases(format)] == [format] * len(formats.aliases(format))
    assert format.name not in formats.aliases(format)
    assert str(format) == format.name


def test_unknown_names_say_what_there_is():
    with pytest.raises(ValueError, match=r"'bflaot16'; did you mean 'bfloat16'\?.*float8_e5m2"):
        named("bflaot16")
    with pytest.raises(ValueError, match="no format is named '???'".replace("?", r"\?")):
        named("???")
    with pytest.raises(TypeError, match="int: 16"):
        named(16)  # pyright: ignore[reportArgumentType]


def test_records_are_hashable_values():
    twin = Format("bfloat16", 8, -126, 127)
    assert twin == formats.bfloat16
    assert len({twin, formats.bfloat16, formats.float16}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        twin.precision = 9  # pyright: ignore[reportAttributeAccessIssue]


GOOD = {"name": "mine", "precision": 5, "min_exponent": -14, "max_exponent": 15}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"precision": 1}, "precision"),
        ({"precision": 54}, "precision"),
        ({"precision": -3}, "precision"),
        ({"min_exponent": 16}, "min_exponent <= max_exponent"),
        ({"min_exponent": -1023}, "-1022 <= min_exponent"),
        ({"max_exponent": 1024}, "max_exponent <= 1023"),
        ({"overflow": "wrap"}, "infinity, nan, saturate; got 'wrap'"),
        ({"missing_top": 16}, r"missing_top .* 0 \.\. 15; got 16"),
        ({"missing_top": -1}, "missing_top"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Format(**{**GOOD, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"name": 3}, {"precision": 5.0}, {"min_exponent": "-14"}, {"subnormals": 1}, {"missing_top": True}],
)
def test_wrong_types_are_refused(wrong):
    with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be of type"):
        Format(**{**GOOD, **wrong})


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="'half' already names float16"):
        formats._row(Format("another", 5, -14, 15), "half")
    with pytest.raises(ValueError, match="no format is named"):
        named("another")


def test_the_module_does_not_import_jax():
    program = "import sys; from precond_lab.arithmetic import formats; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
