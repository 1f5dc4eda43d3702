"""Code points of arrays: bit for bit those of the machine's types, of gfloat, and of the definition."""

import math

import gfloat
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.codes import code_dtype, from_codes, to_codes
from precond_lab.arithmetic.formats import NAMED, Format, p3109

SHORT = [f for f in NAMED.values() if f.bits <= 16]
P3109 = [
    p3109(3, 2),
    p3109(8, 1),
    p3109(8, 4),
    p3109(8, 7, extended=False),
    p3109(8, 3, signed=False),
    p3109(10, 1, signed=False, extended=False),
    p3109(15, 5),
]
ODD = [
    Format("no subnormals", 4, -6, 7, subnormals=False),
    Format("no subnormals, e8", 3, -126, 127, subnormals=False),
    Format("saturates, keeps infinities, no NaN", 3, -2, 5, overflow="saturate", infinities=True, nan="none"),
    Format("ends early", 5, -10, 12, missing_top=3),
    Format("unsigned, no zero", 3, -6, 7, False, "nan", signed_zero=False, signed=False, zero=False),
    Format("unsigned, no NaN", 3, -6, 7, overflow="saturate", signed_zero=False, signed=False),
    Format("no -0", 4, -6, 7, signed_zero=False),
    Format("into the carrier's subnormals", 5, -140, 20),
    Format("all the range of float64", 3, -1022, 1023),
]
LISTED = [*SHORT, *P3109, *ODD]
WORDS = {np.float32: np.uint32, np.float64: np.uint64}
CARRIED = [(f, dtype) for f in LISTED for dtype in WORDS if NAMED[np.dtype(dtype).name].holds(f)]
# From float64 all formats are in the slow tier but some, and those that float32 cannot hold.
WIDENED = [formats.bfloat16, formats.float8_e5m2, formats.float8_e4m3fn, *P3109[:1], *ODD]
EVERY = pytest.mark.parametrize(
    ("format", "dtype"),
    [
        pytest.param(
            f,
            dtype,
            marks=[pytest.mark.slow] * (dtype == np.float64 and f not in WIDENED),
            id=f"{f}-{dtype.__name__}",
        )
        for f, dtype in CARRIED
    ],
)


def bits_of(values) -> np.ndarray:
    """The bits of an array of floats, the payloads of NaNs aside."""
    values = np.where(np.isnan(values), values.dtype.type(math.nan), values)
    return values.view(f"u{values.dtype.itemsize}")


def nan_code(format) -> int:
    if format.has_nan:
        return format.nan_code
    return format.codes // 2 if format.signed else 0


def values_of(format) -> list[float]:
    return [format.decode(code) for code in range(format.codes)]


@EVERY
def test_every_code_is_the_definition_s_both_ways(format, dtype):
    values = values_of(format)
    with np.errstate(over="raise", under="ignore"):
        exact = np.array(values).astype(dtype)
    decoded = np.asarray(from_codes(np.arange(format.codes, dtype=code_dtype(format)), format, dtype))
    np.testing.assert_array_equal(bits_of(decoded), bits_of(exact))
    codes = to_codes(exact, format)
    assert codes.dtype == code_dtype(format)
    want = [nan_code(format) if math.isnan(value) else format.encode(value) for value in values]
    np.testing.assert_array_equal(codes, want)


@pytest.mark.parametrize("name", [f.name for f in SHORT if hasattr(ml_dtypes, f.name) or hasattr(np, f.name)])
def test_every_code_is_the_machine_type_s(name):
    format, machine = NAMED[name], getattr(ml_dtypes, name, None) or getattr(np, name)
    codes = np.arange(format.codes, dtype=code_dtype(format))
    with np.errstate(invalid="ignore"):
        exact = codes.view(machine).astype(np.float32)
    np.testing.assert_array_equal(bits_of(np.asarray(from_codes(codes, format))), bits_of(exact))
    numbers = ~np.isnan(exact)
    np.testing.assert_array_equal(to_codes(exact, format)[numbers], codes[numbers])
    nan = np.array([math.nan], np.float32)
    np.testing.assert_array_equal(to_codes(nan, format), nan.astype(machine).view(codes.dtype))


@pytest.mark.parametrize(("format", "dtype"), [(formats.float32, np.float32), (formats.float64, np.float64)], ids=str)
def test_codes_of_the_carriers_are_their_bits(format, dtype):
    words = np.random.default_rng(17).integers(0, 2**format.bits, 100_000, WORDS[dtype])
    words[:7] = 0, 1, words.dtype.type(format.codes // 2), 2**22, 2**23 - 1, 2**23, format.infinity_code
    exact = words.view(dtype)
    np.testing.assert_array_equal(bits_of(np.asarray(from_codes(words, format, dtype))), bits_of(exact))
    np.testing.assert_array_equal(to_codes(exact, format), np.where(np.isnan(exact), format.nan_code, words))


def test_tensor_float_is_a_float32_without_its_last_bits():
    codes = np.random.default_rng(5).integers(0, 2**19, 100_000, np.uint32)
    exact = (codes << 13).view(np.float32)
    np.testing.assert_array_equal(bits_of(np.asarray(from_codes(codes, "tf32"))), bits_of(exact))
    np.testing.assert_array_equal(to_codes(exact, "tf32")[~np.isnan(exact)], codes[~np.isnan(exact)])


def test_float32_numbers_have_float64_codes_when_widened():
    words = np.random.default_rng(23).integers(0, 2**32, 50_000, np.uint32)
    narrow = words.view(np.float32)
    with np.errstate(invalid="ignore"):
        wide = narrow.astype(np.float64)
    np.testing.assert_array_equal(to_codes(wide, "float32")[~np.isnan(narrow)], words[~np.isnan(narrow)])
    np.testing.assert_array_equal(bits_of(np.asarray(from_codes(words, "float32", np.float64))), bits_of(wide))


@st.composite
def custom(draw):
    """A format of any kind, and its twin in gfloat."""
    signed = draw(st.booleans())
    precision, lowest = draw(st.integers(1, 7)), draw(st.integers(-160, 90))
    infinities = draw(st.booleans())
    signed_zero = signed and draw(st.booleans())
    kinds = ["top", "none"] + ["ieee"] * infinities + ["negative_zero"] * (signed and not signed_zero)
    format = Format(
        "custom",
        precision,
        lowest,
        lowest + draw(st.integers(0, 30)),
        overflow="infinity" if infinities else "saturate",
        missing_top=draw(st.integers(0, 2 ** (precision - 1) - 1)),
        nan=draw(st.sampled_from(kinds)),
        signed_zero=signed_zero,
        signed=signed,
    )
    magnitudes = format.codes >> signed
    twin = gfloat.FormatInfo(
        "twin",
        format.bits,
        precision,
        bias=1 - lowest,
        is_signed=signed,
        domain=gfloat.Domain.Extended if infinities else gfloat.Domain.Finite,
        has_nz=signed_zero,
        num_high_nans=magnitudes - 1 - format.last_index - infinities,
        has_subnormals=True,
        is_twos_complement=False,
    )
    return format, twin


@given(custom())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_codes_of_any_format_are_those_of_gfloat(pair):
    format, twin = pair
    codes = np.arange(format.codes, dtype=code_dtype(format))
    values = [gfloat.decode_float(twin, code).fval for code in codes.tolist()]
    assert str(values) == str(values_of(format))  # tells -0.0 from 0.0, and no NaN from another
    dtype = np.float32 if formats.float32.holds(format) else np.float64
    exact = np.array(values).astype(dtype)
    np.testing.assert_array_equal(bits_of(np.asarray(from_codes(codes, format, dtype))), bits_of(exact))
    numbers = ~np.isnan(exact)
    back = np.asarray(to_codes(exact, format))
    np.testing.assert_array_equal(back[numbers], codes[numbers])
    assert (back[~numbers] == nan_code(format)).all()


def test_inside_a_program_codes_are_the_same_and_keep_shape():
    codes = np.arange(256, dtype=np.uint8).reshape(4, 64)

    def there_and_back(codes):
        return to_codes(from_codes(codes, "e5m2"), "e5m2"), to_codes(from_codes(codes, "e5m2", np.float64), "e5m2")

    want = np.where(np.isnan(np.asarray(from_codes(codes, "e5m2"))), np.uint8(0x7E), codes)
    assert not jax.config.read("jax_enable_x64")
    for result in (*jax.jit(there_and_back)(codes), *jax.jit(jax.vmap(there_and_back))(jnp.asarray(codes))):
        np.testing.assert_array_equal(result, want)
        assert result.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_codes_may_have_any_type_of_integers(dtype):
    given_codes = np.array([0, 1, 7, 8, 15, 16, 100], dtype)
    result = np.asarray(from_codes(given_codes, "fp4"))
    np.testing.assert_array_equal(result, [0, 0.5, 6, -0.0, -6, math.nan, math.nan])
    if np.issubdtype(dtype, np.signedinteger):
        assert np.isnan(from_codes(np.array([-1, -(2**15)], dtype), "fp4")).all()
    if np.dtype(dtype).itemsize == 8:
        assert np.isnan(from_codes(np.array([2**32 + 1, 2**63 - 1], dtype), "fp4")).all()


@pytest.mark.parametrize("format", [f for f in LISTED if f.zero], ids=str)
def test_minus_zero_is_zero_where_there_is_none(format):
    zeros = to_codes([0.0, -0.0], format).tolist()
    assert zeros == [format.encode(0.0), format.encode(-0.0)]
    assert (zeros[0] == zeros[1]) != format.signed_zero


def test_numbers_and_lists_will_do():
    assert int(to_codes(1.5, "float16")) == 0x3E00
    assert from_codes(0x3E00, "half").item() == 1.5
    assert to_codes([], "half").shape == (0,)


@pytest.mark.parametrize(
    ("format", "dtype"),
    [("fp4", np.uint8), ("bfloat16", np.uint16), (p3109(10, 4), np.uint16), ("tf32", np.uint32), ("double", np.uint64)],
)
def test_the_type_of_codes_is_the_narrowest(format, dtype):
    assert code_dtype(format) == dtype


def test_what_a_carrier_cannot_hold_is_refused():
    for refused in (lambda: to_codes(np.ones(1, np.float32), "float64"), lambda: from_codes([1], "float64")):
        with pytest.raises(ValueError, match="float32 does not hold"):
            refused()
    with pytest.raises(TypeError, match="float32 or float64; got int64"):
        to_codes([1], "bfloat16")
    with pytest.raises(TypeError, match="codes are integers; got float64"):
        from_codes([1.0], "bfloat16")
    with pytest.raises(TypeError, match="got float16"):
        from_codes([1], "bfloat16", np.float16)
    with pytest.raises(ValueError, match="did you mean 'bfloat16'"):
        to_codes([1.0], "bfloat61")
