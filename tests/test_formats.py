"""The table of formats: what follows from a row, and how a row is found."""

import dataclasses
import itertools
import math
import re
import subprocess
import sys

import gfloat
import ml_dtypes
import numpy as np
import pytest
from gfloat.formats import format_info_p3109
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import NAMED, Format, named, p3109

EVERY = pytest.mark.parametrize("format", NAMED.values(), ids=str)
CHANGED = [
    dataclasses.replace(formats.float16, name="half without subnormals", subnormals=False),
    dataclasses.replace(formats.float16, name="half that saturates", overflow="saturate"),
    dataclasses.replace(formats.float16, name="half that keeps infinities", overflow="saturate", infinities=True),
    Format("no subnormals", 4, -6, 7, subnormals=False),
    Format("NaN for overflow, infinities stay", 4, -6, 8, overflow="nan", infinities=True, nan="top"),
    Format("infinity, and no NaN", 4, -6, 7, nan="none"),
    Format("ends early", 5, -10, 12, missing_top=3),
    Format("one code too many for a sign and 7 bits", 4, -6, 8, overflow="nan"),
    Format("one binade", 3, 0, 0, overflow="saturate"),
    Format("powers of two", 1, -3, 3),
    Format("no -0", 4, -6, 7, signed_zero=False),
    Format("unsigned", 4, -6, 7, signed_zero=False, signed=False),
    Format("unsigned, no zero", 3, -6, 7, False, "nan", signed_zero=False, signed=False, zero=False),
]
P3109 = [
    p3109(bits, precision, signed, extended)
    for bits in range(3, 10)
    for signed in (True, False)
    for precision in range(1, bits + 1 - signed)
    for extended in (True, False)
]
LISTED = [f for f in [*NAMED.values(), *CHANGED] if f.bits <= 16]
MACHINE_TYPES = {name: getattr(module, name) for name in NAMED for module in (ml_dtypes, np) if hasattr(module, name)}


def finfo(type_):
    return np.finfo(type_) if type_.__module__ == "numpy" else ml_dtypes.finfo(type_)


def members(format):
    """Every value that some code has, NaN left out."""
    return [value for value in map(format.decode, range(format.codes)) if not math.isnan(value)]


def same(x: float, y: float) -> bool:
    return (math.isnan(x) and math.isnan(y)) or (x == y and math.copysign(1, x) == math.copysign(1, y))


@pytest.mark.parametrize("name", MACHINE_TYPES)
def test_derived_properties_are_those_of_the_machine_types(name):
    format, info = named(name), finfo(MACHINE_TYPES[name])
    assert format.max == float(info.max)
    assert format.min == float(info.min)
    assert format.min_normal == float(info.smallest_normal)
    assert format.min_subnormal == float(info.smallest_subnormal)
    assert format.machine_epsilon == float(info.eps)
    assert format.bits == info.bits
    assert format.exponent_bits == info.nexp
    assert format.min_exponent == info.minexp
    assert format.max_exponent + 1 == info.maxexp


@EVERY
def test_unit_roundoff_is_half_the_spacing_of_one(format):
    assert format.unit_roundoff == format.machine_epsilon / 2
    assert format.machine_epsilon == 2.0 ** (1 - format.precision)


def test_tensor_float_has_nineteen_bits():
    assert (formats.tfloat32.bits, formats.tfloat32.max) == (19, (2 - 2.0**-10) * 2.0**127)


@pytest.mark.parametrize("format", [*LISTED, *P3109], ids=str)
def test_derived_properties_agree_with_the_list_of_all_values(format):
    values = members(format)
    finite = [value for value in values if math.isfinite(value)]
    assert len({*values}) == format.values
    assert len({*finite}) == format.finite_values
    assert (min(finite), max(finite)) == (format.min, format.max)
    assert min(value for value in finite if value > 0) == format.min_subnormal
    assert (0 in finite, format.has_infinity) == (format.zero, math.inf in values)
    assert (min(finite) < 0) == format.signed
    assert any(same(value, -0.0) for value in values) == format.signed_zero
    assert format.codes == 2**format.bits
    assert format.nan_code is None or math.isnan(format.decode(format.nan_code))
    assert format.decode(format.codes // 2 if format.signed_zero else 0) == (0 if format.zero else format.min)


@pytest.mark.parametrize("format", [f for f in LISTED if not f.missing_top], ids=str)
def test_the_bias_is_that_of_the_stored_exponent(format):
    for exponent in (format.min_exponent, format.max_exponent):
        assert format.encode(2.0**exponent) == (exponent + format.bias) << (format.precision - 1)


@pytest.mark.parametrize("name", [name for name in MACHINE_TYPES if named(name).bits <= 16])
def test_every_code_is_that_of_the_machine_type(name):
    format = named(name)
    codes = np.arange(format.codes, dtype=np.uint16 if format.bits == 16 else np.uint8)
    with np.errstate(invalid="ignore"):
        values = codes.view(MACHINE_TYPES[name]).astype(np.float64)
    for code, value in zip(codes.tolist(), values.tolist(), strict=True):
        assert same(format.decode(code), value), (code, value)
        assert math.isnan(value) or format.encode(value) == code
    if format.has_nan:
        assert format.encode(math.nan) == np.array(math.nan, MACHINE_TYPES[name]).view(codes.dtype)


@pytest.mark.parametrize("format", P3109, ids=str)
def test_every_code_of_p3109_is_that_of_gfloat(format):
    ((bits, precision, signed, extended),) = re.findall(r"^binary(\d+)p(\d+)([su])([ef])$", format.name)
    info = format_info_p3109(
        int(bits),
        int(precision),
        gfloat.types.Signedness.Signed if signed == "s" else gfloat.types.Signedness.Unsigned,
        gfloat.Domain.Extended if extended == "e" else gfloat.Domain.Finite,
    )
    assert (format.bits, format.precision, format.bias) == (info.k, info.precision, info.bias)
    assert format.nan_code == info.code_of_nan
    for code in range(format.codes):
        value = gfloat.decode_float(info, code).fval
        assert same(format.decode(code), value), code
        assert math.isnan(value) or format.encode(value) == code
    assert named(format.name.upper()) == format


@given(st.floats(allow_nan=False))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_codes_of_the_widest_formats_are_those_of_the_machine(x):
    for format, dtype, integer in ((formats.float32, np.float32, np.uint32), (formats.float64, np.float64, np.uint64)):
        with np.errstate(over="ignore"):
            value = dtype(x)
        assert format.encode(value) == int(value.view(integer))
        assert same(format.decode(int(value.view(integer))), float(value))


@pytest.mark.parametrize("format", [*LISTED, *P3109], ids=str)
def test_codes_ascend_and_come_back(format):
    values = members(format)
    positive = [format.encode(value) for value in sorted({value for value in values if value > 0})]
    assert positive == sorted({*positive})
    for value in values:
        assert same(format.decode(format.encode(value)), value)


@pytest.mark.parametrize("format", LISTED, ids=str)
def test_what_is_between_two_values_has_no_code(format):
    values = sorted({value for value in members(format) if math.isfinite(value)})
    for a, b in list(itertools.pairwise(values))[:: max(len(values) // 100, 1)]:
        with pytest.raises(ValueError, match="is no value of"):
            format.encode(a + (b - a) / 2)
    for beyond in (format.max * 2, math.nextafter(format.max, math.inf), format.min_subnormal / 4, 5e-324):
        with pytest.raises(ValueError, match="round it first"):
            format.encode(beyond)


def test_a_value_that_the_format_lacks_has_no_code():
    lacking = [
        (formats.float8_e4m3fn, math.inf),
        (formats.float4_e2m1fn, math.nan),
        (formats.float8_e8m0fnu, 0.0),
        (p3109(8, 3, signed=False), -1.0),
        (p3109(8, 3, extended=False), -math.inf),
        (formats.float64, 2**53 + 1),
        (CHANGED[0], 2.0**-15),
    ]
    for format, value in lacking:
        with pytest.raises(ValueError, match=f"no value of {format.name}"):
            format.encode(value)
    for format in (formats.float8_e4m3fnuz, p3109(8, 3, signed=False)):
        assert format.encode(-0.0) == format.encode(0.0) == 0


def test_codes_that_stand_for_nothing():
    assert math.isnan(Format("no -0", 4, -6, 7, signed_zero=False).decode(0x80))
    assert same(CHANGED[0].decode(0x8001), -0.0)
    assert math.isnan(Format("six numbers", 1, 0, 4, overflow="saturate").decode(6))
    for code in (-1, 256):
        with pytest.raises(ValueError, match=rf"codes 0 \.\. 255; got {code}"):
            formats.float8_e5m2.decode(code)


@pytest.mark.parametrize("wider", [*LISTED, formats.float32, formats.float64], ids=str)
def test_a_format_holds_those_whose_numbers_are_among_its_own(wider):
    def finite(format):
        return {(x, math.copysign(1, x)) for x in members(format) if math.isfinite(x)}

    every = None if wider.bits > 16 else finite(wider)
    for format in (f for f in LISTED if f.bits <= 8):
        if every is None:
            assert wider.holds(format)
        else:
            assert wider.holds(format) == (finite(format) <= every), format
    assert formats.float64.holds(wider)
    assert formats.float32.holds(wider) == (wider is not formats.float64)


@pytest.mark.parametrize(("field", "count"), [("overflow", 63487), ("subnormals", 61441)])
def test_finite_values_of_a_changed_format(field, count):
    changed = dataclasses.replace(formats.float16, **{field: {"overflow": "nan", "subnormals": False}[field]})
    assert changed.finite_values == count


def test_without_subnormals_the_smallest_number_is_normal():
    format = dataclasses.replace(formats.float16, subnormals=False)
    assert format.min_subnormal == format.min_normal == 2.0**-14


def test_by_default_only_overflow_to_infinity_has_infinities():
    assert formats.float8_e5m2.has_infinity
    assert not formats.float8_e4m3fn.has_infinity
    assert not dataclasses.replace(formats.float16, overflow="saturate").has_infinity
    assert dataclasses.replace(formats.float16, overflow="saturate", infinities=True).infinity_code == 0x7C00


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({}, "ieee"),
        ({"overflow": "nan"}, "top"),
        ({"overflow": "saturate"}, "none"),
        ({"overflow": "saturate", "missing_top": 1}, "top"),
        ({"overflow": "saturate", "infinities": True}, "ieee"),
        ({"overflow": "nan", "infinities": True}, "ieee"),
        ({"nan": "negative_zero", "signed_zero": False}, "negative_zero"),
    ],
)
def test_which_codes_are_nan_by_default(changes, codes):
    format = dataclasses.replace(formats.float16, **changes)
    assert format.nan_codes == codes
    assert format.has_nan == (codes != "none") == (format.nan_code is not None)
    assert format.nan_code is None or math.isnan(format.decode(format.nan_code))


def test_a_narrow_format_needs_few_bits():
    four = Format("e2m1", precision=2, min_exponent=0, max_exponent=2, overflow="saturate")
    assert (four.bits, four.max, four.finite_values) == (4, 6.0, 15)


ALIASES = {
    "bfloat16": "bf16 BF16",
    "float16": "fp16 half binary16 Half",
    "tfloat32": "tf32 TensorFloat-32 TF32",
    "float32": "fp32 single binary32",
    "float64": "fp64 double binary64",
    "float8_e5m2": "e5m2 fp8_e5m2 fp8-e5m2 ocp_e5m2",
    "float8_e4m3": "e4m3 f8e4m3",
    "float8_e4m3fn": "e4m3fn fp8_e4m3 ocp_e4m3 Float8_E4M3FN",
    "float8_e3m4": "e3m4",
    "float8_e4m3b11fnuz": "e4m3b11fnuz",
    "float8_e4m3fnuz": "e4m3fnuz",
    "float8_e5m2fnuz": "e5m2fnuz",
    "float8_e8m0fnu": "e8m0fnu e8m0 ocp_e8m0",
    "float6_e3m2fn": "e3m2fn e3m2 fp6_e3m2",
    "float6_e2m3fn": "e2m3fn e2m3 fp6_e2m3",
    "float4_e2m1fn": "e2m1fn e2m1 fp4",
}


@pytest.mark.parametrize("name", NAMED)
def test_aliases(name):
    for alias in (ALIASES.get(name) or name).split():
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
        ({"precision": 0}, "precision"),
        ({"precision": 54}, "precision"),
        ({"precision": -3}, "precision"),
        ({"min_exponent": 16}, "min_exponent <= max_exponent"),
        ({"min_exponent": -1023}, "-1022 <= min_exponent"),
        ({"max_exponent": 1024}, "max_exponent <= 1023"),
        ({"overflow": "wrap"}, "infinity, nan, saturate; got 'wrap'"),
        ({"missing_top": 16}, r"missing_top .* 0 \.\. 15; got 16"),
        ({"missing_top": -1}, "missing_top"),
        ({"nan": "quiet"}, "ieee, top, negative_zero, none; got 'quiet'"),
        ({"infinities": False}, 'overflow="infinity" needs infinities'),
        ({"overflow": "nan", "nan": "none"}, 'overflow="nan" needs a NaN'),
        ({"overflow": "saturate", "nan": "ieee"}, "codes above infinity"),
        ({"nan": "negative_zero"}, "say signed_zero=False"),
        ({"nan": "negative_zero", "signed": False, "signed_zero": False}, 'say nan="top"'),
        ({"signed": False}, "no -0: say signed_zero=False"),
        ({"zero": False, "subnormals": False}, "positive numbers only"),
        ({"zero": False, "signed": False, "signed_zero": False}, "say subnormals=False"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Format(**{**GOOD, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 3},
        {"precision": 5.0},
        {"min_exponent": "-14"},
        {"subnormals": 1},
        {"missing_top": True},
        {"infinities": 1},
        {"nan": False},
        {"signed": 0},
        {"zero": None},
    ],
)
def test_wrong_types_are_refused(wrong):
    with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be of type"):
        Format(**{**GOOD, **wrong})


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="'half' already names float16"):
        formats._row(Format("another", 5, -14, 15), "half")
    with pytest.raises(ValueError, match="no format is named"):
        named("another")


@pytest.mark.parametrize("format", [*NAMED.values(), *CHANGED, *P3109], ids=str)
def test_the_printed_record_makes_the_record(format):
    assert eval(repr(format), {"Format": Format}) == format


def test_the_printed_record_leaves_out_defaults():
    assert repr(formats.bfloat16) == "Format('bfloat16', precision=8, min_exponent=-126, max_exponent=127)"


@pytest.mark.parametrize("wrong", [(2, 1), (8, 0), (8, 8), (8, 9, False), (16, 1)])
def test_what_p3109_does_not_have_is_refused(wrong):
    with pytest.raises(ValueError, match=r"P3109 has|exponents must satisfy"):
        p3109(*wrong)


@pytest.mark.parametrize("format", [*NAMED.values(), *CHANGED, *P3109[::7]], ids=str)
def test_the_page_of_a_format_tells_what_is_so(format):
    page = formats.describe(format)
    assert page.startswith(format.name)
    assert all(alias in page for alias in formats.aliases(format))
    assert f"  largest             {format.max!r}\n" in page
    assert f"  values              {format.values} (" in page
    marks = formats.landmarks(format)
    assert list(marks.values()) == sorted({*marks.values()})
    assert {marks["largest"]: format.max}.items() <= {code: format.decode(code) for code in marks.values()}.items()
    for name, code in marks.items():
        assert re.search(rf"^    {name} +0x0*{code:x}  [01 ]+  {re.escape(repr(format.decode(code)))}$", page, re.M)


@pytest.mark.parametrize("format", LISTED, ids=str)
def test_the_page_counts_the_nans(format):
    nans = sum(math.isnan(format.decode(code)) for code in range(format.codes))
    found = re.findall(r"^  NaN +(\d+) codes?$", formats.describe(format), re.M)
    if format.has_nan and (format.signed_zero or not format.signed or format.nan_codes == "negative_zero"):
        assert found == [str(nans)]
    else:
        assert format.has_nan == bool(found)


def test_a_code_is_spelled_in_its_fields():
    assert formats.spell(formats.float16.encode(-2.5), "half") == "0xc100  1 10000 0100000000"
    assert formats.spell(5, "fp4") == "0x5  0 10 1"
    assert formats.spell(3, p3109(8, 1, signed=False)) == "0x03  00000011"


def test_the_module_does_not_import_jax():
    program = "import sys; from precond_lab.arithmetic import formats; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
