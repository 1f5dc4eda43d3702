"""The table of binary floating-point formats.

Adding a format is adding one row to the table at the end of this file; what a row says is told by `Format`. The draft
standard IEEE P3109 has a format for every width and precision: `p3109` makes the record of any of them. This module
imports no array library.
"""

import contextlib
import difflib
import math
import re
from collections.abc import Iterator

from precond_lab.arithmetic.record import WIDEST, Format

__all__ = ["NAMED", "WIDEST", "Format", "aliases", "describe", "landmarks", "named", "p3109", "spell"]

NAMED: dict[str, Format] = {}
"""The named formats, each under its own name."""

_BY_ALIAS: dict[str, Format] = {}


def _key(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _row(format: Format, *aliases: str) -> Format:
    """Enter a format in the table under its own name and its aliases."""
    names = [_key(name) for name in (format.name, *aliases)]
    for name in names:
        if name in _BY_ALIAS:
            raise ValueError(f"{name!r} already names {_BY_ALIAS[name].name}")
    _BY_ALIAS.update(dict.fromkeys(names, format))
    NAMED[format.name] = format
    return format


def named(format: str | Format) -> Format:
    """Find a format by its name or an alias, whatever the case.

    Args:
        format: A name, an alias, a name of P3109 such as ``"binary8p4se"``, or a `Format`, which is returned as
            it is.

    Returns:
        The record.

    Raises:
        TypeError: If given neither a string nor a `Format`.
        ValueError: If no format has that name.

    >>> named("BF16").unit_roundoff
    0.00390625
    """
    if isinstance(format, Format):
        return format
    if not isinstance(format, str):
        raise TypeError(f"a format is a name or a Format; got {type(format).__name__}: {format!r}")
    key = _key(format)
    if key in _BY_ALIAS:
        return _BY_ALIAS[key]
    if match := re.fullmatch(r"binary(\d+)p(\d+)([su])([ef])", key):
        return p3109(int(match[1]), int(match[2]), signed=match[3] == "s", extended=match[4] == "e")
    close = difflib.get_close_matches(key, _BY_ALIAS, n=1)
    hint = f"did you mean {close[0]!r}? The" if close else "the"
    raise ValueError(
        f"no format is named {format!r}; {hint} named formats are {', '.join(NAMED)}; "
        "describe any other with Format(name, precision, min_exponent, max_exponent)"
    )


def aliases(format: str | Format) -> tuple[str, ...]:
    """List the other names under which `named` finds a format.

    Args:
        format: A name, an alias, or a `Format`.

    Returns:
        The aliases; none for a format outside the table.

    >>> aliases("bfloat16")
    ('bf16',)
    """
    record = named(format)
    return tuple(alias for alias, other in _BY_ALIAS.items() if other == record and alias != record.name)


def p3109(bits: int, precision: int, signed: bool = True, extended: bool = True) -> Format:
    """Make the format of the draft standard IEEE P3109 with this width and precision.

    It has one zero and one NaN. If it is extended it has infinities too, and what overflows becomes one; if not, what
    overflows becomes the largest number.

    Args:
        bits: Width K, at least 3.
        precision: Significant bits P, the implicit one included: from 1 to ``bits - 1``, or to ``bits`` without sign.
        signed: Whether there are negative numbers.
        extended: Whether there are infinities.

    Returns:
        The record. Its name is that of the standard, by which `named` finds it too.

    Raises:
        ValueError: If there is no such format, or binary64 cannot hold it.

    >>> p3109(8, 4).max, p3109(8, 4, extended=False).max, p3109(8, 4, signed=False).max
    (224.0, 240.0, 53248.0)
    >>> named("Binary8p4se") == p3109(8, 4)
    True
    """
    if bits < 3 or not 1 <= precision <= bits - signed:
        raise ValueError(
            f"P3109 has widths from 3 on and precisions from 1 to the width, less 1 for a sign; got width {bits} and "
            f"precision {precision}{'' if signed else ', unsigned'}"
        )
    fraction = precision - 1
    min_exponent = 1 - 2 ** (bits - precision - signed)
    # The codes below that of the sign are the numbers from zero on, then infinity, then the NaN that has no sign.
    last = 2 ** (bits - signed) - 1 - extended - (not signed)
    return Format(
        f"binary{bits}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}",
        precision,
        min_exponent,
        min_exponent + (last >> fraction) - 1,
        overflow="infinity" if extended else "saturate",
        missing_top=-(last + 1) % 2**fraction,
        nan="negative_zero" if signed else "top",
        signed_zero=False,
        signed=signed,
    )


_BECOMES = {"infinity": "becomes infinity", "nan": "becomes NaN", "saturate": "becomes the largest number"}


def landmarks(format: str | Format) -> dict[str, int]:
    """List the code points by which one knows a format, those of them that it has.

    Args:
        format: A name, an alias, or a `Format`.

    Returns:
        What the number is called, and its code, in ascending order.

    >>> landmarks("float6_e2m3fn")
    {'zero': 0, 'smallest subnormal': 1, 'smallest normal': 8, 'largest': 31, 'minus zero': 32, 'minus one': 40}
    """
    record = named(format)
    candidates = {
        "zero": 0.0,
        "smallest normal": record.min_normal,
        "smallest subnormal": record.min_subnormal,
        "largest": record.max,
        "one": 1.0,
        "infinity": math.inf,
        "NaN": math.nan,
        "minus zero": -0.0,
        "minus one": -1.0,
    }
    found: dict[int, str] = {}
    for name, value in candidates.items():
        with contextlib.suppress(ValueError):
            found.setdefault(record.encode(value), name)
    return {found[code]: code for code in sorted(found)}


def spell(code: int, format: str | Format) -> str:
    """Write a code point in hexadecimal, and in its fields of bits.

    Args:
        code: The code.
        format: A name, an alias, or a `Format`.

    Returns:
        The hexadecimal number; then sign, exponent and fraction, those of them that there are.

    >>> spell(0x3F80, "bfloat16"), spell(127, "e8m0")
    ('0x3f80  0 01111111 0000000', '0x7f  01111111')
    """
    record = named(format)
    digits, fields, start = f"{code:0{record.bits}b}", [], 0
    for width in (record.signed, record.exponent_bits, record.precision - 1):
        fields.append(digits[start : start + width])
        start += width
    return f"0x{code:0{(record.bits + 3) // 4}x}  {' '.join(filter(None, fields))}"


def describe(format: str | Format) -> str:
    """Say all about a format on a page, as `numpy.finfo` does and more.

    Args:
        format: A name, an alias, or a `Format`.

    Returns:
        Lines of text.

    >>> print(describe("float4_e2m1fn"))
    float4_e2m1fn (also e2m1fn, e2m1, fp4, fp4_e2m1, f4e2m1fn, ocp_e2m1)
      bits                4: 1 sign, 2 exponent, 1 fraction
      exponents           0 to 2, bias 1
      precision           2 significant bits, the implicit one included
      unit roundoff       2^-2 = 0.25, relative error of rounding to nearest
      machine epsilon     2^-1 = 0.5, from 1 to the next number
      largest             6.0
      smallest normal     2^0 = 1.0
      smallest subnormal  2^-1 = 0.5
      values              15 (all finite), in 16 codes
      zero                +0 and -0
      NaN                 none; rounding keeps a NaN, which then has no code
      overflow            becomes the largest number
      code points
        zero                0x0  0 00 0  0.0
        smallest subnormal  0x1  0 00 1  0.5
        smallest normal     0x2  0 01 0  1.0
        largest             0x7  0 11 1  6.0
        minus zero          0x8  1 00 0  -0.0
        minus one           0xa  1 01 0  -1.0
    """
    record = named(format)
    others = ", ".join(aliases(record))
    lines = [f"{record.name} (also {others})" if others else record.name]
    lines += [f"  {label:<20}{text}" for label, text in _properties(record)]
    lines.append("  code points")
    for name, code in landmarks(record).items():
        lines.append(f"    {name:<20}{spell(code, record)}  {record.decode(code)!r}")
    return "\n".join(lines)


def _properties(format: Format) -> Iterator[tuple[str, str]]:
    precision, lowest, smallest = format.precision, format.min_exponent, f"{format.min_subnormal!r}"
    sign = "1 sign" if format.signed else "no sign"
    yield "bits", f"{format.bits}: {sign}, {format.exponent_bits} exponent, {precision - 1} fraction"
    yield "exponents", f"{lowest} to {format.max_exponent}, bias {format.bias}"
    yield "precision", f"{precision} significant bit{'s' * (precision > 1)}, the implicit one included"
    yield "unit roundoff", f"2^-{precision} = {format.unit_roundoff!r}, relative error of rounding to nearest"
    yield "machine epsilon", f"2^{1 - precision} = {format.machine_epsilon!r}, from 1 to the next number"
    yield "largest", f"{format.max!r}"
    yield "smallest normal", f"2^{lowest} = {format.min_normal!r}"
    has_subnormals = format.subnormals and precision > 1
    yield "smallest subnormal", f"2^{lowest - precision + 1} = {smallest}" if has_subnormals else "none"
    infinite = format.values - format.finite_values
    kinds = f"{format.finite_values} finite, {infinite} infinite" if infinite else "all finite"
    yield "values", f"{format.values} ({kinds}), in {format.codes} codes"
    if format.zero:
        yield "zero", "+0 and -0" if format.signed_zero else "one, without sign"
    else:
        yield "zero", "none; rounding makes NaN of zero, and the smallest number of what is below it"
    if not format.signed:
        yield "negative numbers", "none; rounding makes NaN of them"
    above = format.codes // (1 + format.signed) - 1 - format.last_index - format.has_infinity
    count = 1 if format.nan_codes == "negative_zero" else above * (1 + format.signed)
    if format.nan_code is None:
        yield "NaN", "none; rounding keeps a NaN, which then has no code"
    else:
        yield "NaN", f"{count} code{'s' * (count > 1)}"
    yield "overflow", _BECOMES[format.overflow]


# The table. "fn" is for finite, with NaN as the top code if there is room for one, "uz" for unsigned zero: NaN has the
# code of -0. Formats of the OCP specifications are e5m2, e4m3fn, the three below 8 bits and the scale e8m0fnu.
float64 = _row(Format("float64", 53, -1022, 1023), "fp64", "f64", "double", "binary64")
float32 = _row(Format("float32", 24, -126, 127), "fp32", "f32", "single", "binary32")
tfloat32 = _row(Format("tfloat32", 11, -126, 127), "tf32", "tensorfloat_32")
bfloat16 = _row(Format("bfloat16", 8, -126, 127), "bf16")
float16 = _row(Format("float16", 11, -14, 15), "fp16", "f16", "half", "binary16")
float8_e5m2 = _row(Format("float8_e5m2", 3, -14, 15), "e5m2", "fp8_e5m2", "f8e5m2", "ocp_e5m2")
float8_e4m3 = _row(Format("float8_e4m3", 4, -6, 7), "e4m3", "f8e4m3")
float8_e4m3fn = _row(
    Format("float8_e4m3fn", 4, -6, 8, overflow="nan", missing_top=1),
    "e4m3fn",
    "fp8_e4m3",
    "fp8_e4m3fn",
    "f8e4m3fn",
    "ocp_e4m3",
)
float8_e3m4 = _row(Format("float8_e3m4", 5, -2, 3), "e3m4", "fp8_e3m4", "f8e3m4")


def _finite_unsigned_zero(name: str, precision: int, min_exponent: int, max_exponent: int) -> Format:
    return Format(name, precision, min_exponent, max_exponent, overflow="nan", nan="negative_zero", signed_zero=False)


float8_e4m3b11fnuz = _row(_finite_unsigned_zero("float8_e4m3b11fnuz", 4, -10, 4), "e4m3b11fnuz", "f8e4m3b11fnuz")
float8_e4m3fnuz = _row(_finite_unsigned_zero("float8_e4m3fnuz", 4, -7, 7), "e4m3fnuz", "fp8_e4m3fnuz", "f8e4m3fnuz")
float8_e5m2fnuz = _row(_finite_unsigned_zero("float8_e5m2fnuz", 3, -15, 15), "e5m2fnuz", "fp8_e5m2fnuz", "f8e5m2fnuz")
float8_e8m0fnu = _row(
    Format(
        "float8_e8m0fnu",
        1,
        -127,
        127,
        subnormals=False,
        overflow="nan",
        nan="top",
        signed_zero=False,
        signed=False,
        zero=False,
    ),
    "e8m0fnu",
    "e8m0",
    "f8e8m0fnu",
    "ocp_e8m0",
)
float6_e3m2fn = _row(
    Format("float6_e3m2fn", 3, -2, 4, overflow="saturate"), "e3m2fn", "e3m2", "fp6_e3m2", "f6e3m2fn", "ocp_e3m2"
)
float6_e2m3fn = _row(
    Format("float6_e2m3fn", 4, 0, 2, overflow="saturate"), "e2m3fn", "e2m3", "fp6_e2m3", "f6e2m3fn", "ocp_e2m3"
)
float4_e2m1fn = _row(
    Format("float4_e2m1fn", 2, 0, 2, overflow="saturate"), "e2m1fn", "e2m1", "fp4", "fp4_e2m1", "f4e2m1fn", "ocp_e2m1"
)
