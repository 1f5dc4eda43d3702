"""Records of binary floating-point formats.

A format is the set of numbers ``m * 2**(e - precision + 1)`` with integer ``|m| < 2**precision`` and
``min_exponent <= e <= max_exponent``, and a policy for what lies beyond the largest of them. Everything
else about it follows from these few integers. This module imports no array library.

Adding a format is adding one row to the table at the end of this file.
"""

import difflib
from dataclasses import dataclass, fields
from typing import Literal, get_args

Overflow = Literal["infinity", "nan", "saturate"]

WIDEST = (53, -1022, 1023)
"""Precision and exponent range of binary64, the widest carrier there is: no format may exceed them."""


@dataclass(frozen=True)
class Format:
    """A binary floating-point format.

    Args:
        name: What reports and messages call it.
        precision: Number of significant bits p, the implicit one included (binary32: 24); at least 2.
        min_exponent: Exponent of the smallest normal number, ``2**min_exponent``.
        max_exponent: Exponent of the top binade, ``[2**max_exponent, 2**(max_exponent + 1))``.
        subnormals: Whether numbers below ``2**min_exponent`` exist. Without them, a number is rounded as if
            they did, and a result below ``2**min_exponent`` then becomes a zero of the same sign.
        overflow: What a result beyond the largest number becomes: ``"infinity"``, ``"nan"`` or
            ``"saturate"`` (the largest number). Only a format of the first kind has infinities; in the
            other two an infinite input becomes NaN or the largest number as well.
        missing_top: How many of the largest significands of the top binade are not numbers.
            ``float8_e4m3fn`` gives one of them to NaN, and so ends at 448 and not at 480.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If the fields describe no format, or one that binary64 cannot hold.

    >>> Format("mine", precision=5, min_exponent=-14, max_exponent=15).max
    63488.0
    """

    name: str
    precision: int
    min_exponent: int
    max_exponent: int
    subnormals: bool = True
    overflow: Overflow = "infinity"
    missing_top: int = 0

    def __post_init__(self):
        """Refuse what is not a format."""
        self._check_types()
        widest, lowest, highest = WIDEST
        top_codes = 2 ** (self.precision - 1) if self.precision > 0 else 0
        wrong = None
        if not self.name:
            wrong = "a format needs a name"
        elif self.overflow not in get_args(Overflow):
            wrong = f"overflow must be one of {', '.join(get_args(Overflow))}; got {self.overflow!r}"
        elif not 2 <= self.precision <= widest:
            wrong = f"precision counts the implicit bit, so lies in 2 .. {widest}; got {self.precision}"
        elif not lowest <= self.min_exponent <= self.max_exponent <= highest:
            wrong = (
                f"exponents must satisfy {lowest} <= min_exponent <= max_exponent <= {highest}; "
                f"got {self.min_exponent} and {self.max_exponent}"
            )
        elif not 0 <= self.missing_top < top_codes:
            wrong = (
                f"missing_top must leave a number in the top binade, so lies in 0 .. {top_codes - 1}; "
                f"got {self.missing_top}"
            )
        if wrong:
            raise ValueError(f"format {self.name!r}: {wrong}")

    def _check_types(self):
        for field in fields(self):
            value = getattr(self, field.name)
            wanted = {"name": str, "overflow": str, "subnormals": bool}.get(field.name, int)
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise TypeError(f"format {self.name!r}: {field.name} must be of type {wanted.__name__}; got {value!r}")

    def __str__(self) -> str:
        """Give the name alone."""
        return self.name

    @property
    def unit_roundoff(self) -> float:
        """``2**-precision``: the largest relative error of rounding to nearest in the normal range."""
        return 2.0**-self.precision

    @property
    def machine_epsilon(self) -> float:
        """``2**(1 - precision)``: the distance from 1 to the next larger number."""
        return 2.0 ** (1 - self.precision)

    @property
    def max_significand(self) -> int:
        """Integer significand of the largest number, ``2**precision - 1`` less the codes that are missing."""
        return 2**self.precision - 1 - self.missing_top

    @property
    def max(self) -> float:
        """The largest finite number."""
        return self.max_significand * 2.0 ** (1 - self.precision) * 2.0**self.max_exponent

    @property
    def min_normal(self) -> float:
        """The smallest positive normal number, ``2**min_exponent``."""
        return 2.0**self.min_exponent

    @property
    def min_subnormal(self) -> float:
        """The smallest positive number: ``2**(min_exponent - precision + 1)``, or else `min_normal`."""
        return 2.0 ** (self.min_exponent - self.precision + 1) if self.subnormals else self.min_normal

    @property
    def has_infinity(self) -> bool:
        """Whether plus and minus infinity are members: so exactly when overflow yields them."""
        return self.overflow == "infinity"

    @property
    def exponent_bits(self) -> int:
        """Width of an exponent field with codes for the binades, for zero, and for infinity if any."""
        codes = self.max_exponent - self.min_exponent + 2 + self.has_infinity
        return (codes - 1).bit_length()

    @property
    def bits(self) -> int:
        """Storage width of a number: the sign, the exponent field, ``precision - 1`` bits of significand."""
        return 1 + self.exponent_bits + self.precision - 1

    @property
    def finite_values(self) -> int:
        """How many different finite numbers there are; plus and minus zero count once."""
        binade = 2 ** (self.precision - 1)
        normal = (self.max_exponent - self.min_exponent + 1) * binade - self.missing_top
        return 2 * (normal + (binade - 1) * self.subnormals) + 1


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
        format: A name, an alias, or a `Format`, which is returned as it is.

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
    found = _BY_ALIAS.get(_key(format))
    if found is not None:
        return found
    close = difflib.get_close_matches(_key(format), _BY_ALIAS, n=1)
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


# The table. e4m3fn is that of the OCP 8-bit specification: no infinity, NaN as its top code, overflow to NaN.
bfloat16 = _row(Format("bfloat16", 8, -126, 127), "bf16")
float16 = _row(Format("float16", 11, -14, 15), "fp16", "f16", "half", "binary16")
tfloat32 = _row(Format("tfloat32", 11, -126, 127), "tf32", "tensorfloat_32")
float32 = _row(Format("float32", 24, -126, 127), "fp32", "f32", "single", "binary32")
float64 = _row(Format("float64", 53, -1022, 1023), "fp64", "f64", "double", "binary64")
float8_e4m3fn = _row(
    Format("float8_e4m3fn", 4, -6, 8, overflow="nan", missing_top=1),
    "e4m3fn",
    "e4m3",
    "fp8_e4m3",
    "fp8_e4m3fn",
    "f8e4m3fn",
)
float8_e5m2 = _row(Format("float8_e5m2", 3, -14, 15), "e5m2", "fp8_e5m2", "f8e5m2")
