"""The record of a binary floating-point format.

A format is the set of numbers ``m * 2**(e - precision + 1)`` with integer ``|m| < 2**precision`` and
``min_exponent <= e <= max_exponent``, and a policy for what lies beyond the largest of them. Everything
else about it follows from these few integers and from which of infinity, NaN, minus zero and the negative
numbers there are. This module imports no array library.
"""

import math
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from typing import Literal, SupportsFloat, get_args

Overflow = Literal["infinity", "nan", "saturate"]
NaNCodes = Literal["ieee", "top", "negative_zero", "none"]

WIDEST = (53, -1022, 1023)
"""Precision and exponent range of binary64, the widest carrier there is: no format may exceed them."""

_TYPES = {"name": str, "overflow": str, "precision": int, "min_exponent": int, "max_exponent": int, "missing_top": int}
_MAY_BE_NONE = {"infinities": bool, "nan": str}


@dataclass(frozen=True, repr=False)
class Format:
    """A binary floating-point format.

    Args:
        name: What reports and messages call it.
        precision: Number of significant bits p, the implicit one included (binary32: 24). With precision 1
            the numbers are powers of two, and a tie of rounding goes to the one with an even code.
        min_exponent: Exponent of the smallest normal number, ``2**min_exponent``.
        max_exponent: Exponent of the top binade, ``[2**max_exponent, 2**(max_exponent + 1))``.
        subnormals: Whether numbers below ``2**min_exponent`` exist. Without them, a number is rounded as if
            they did, and a result below ``2**min_exponent`` then becomes a zero of the same sign.
        overflow: What a finite result beyond the largest number becomes: ``"infinity"``, ``"nan"`` or
            ``"saturate"`` (the largest number). An infinite input to a format without infinities becomes
            NaN or the largest number as well.
        missing_top: How many of the largest significands of the top binade are not numbers.
            ``float8_e4m3fn`` gives one of them to NaN, and so ends at 448 and not at 480.
        infinities: Whether plus and minus infinity are members. None: exactly when overflow yields them.
            With ``overflow="saturate"`` or ``"nan"`` an infinite input stays, and no finite one becomes it.
        nan: Which codes are NaN. ``"ieee"``: all codes above infinity; ``"top"``: all above the last number
            or infinity, where no infinity is needed; ``"negative_zero"``: the code that -0 would have, and no
            other; ``"none"``. None: ``"ieee"`` if there are infinities, else ``"top"`` if overflow is NaN or
            some significands are missing, else ``"none"``. Whatever the format, rounding keeps a NaN a NaN,
            so that a failure stays visible.
        signed_zero: Whether -0 is a member. Without it every zero is +0.
        signed: Whether negative numbers are members. Without them, rounding makes NaN of a negative number.
        zero: Whether zero is a member. Without it, as in ``float8_e8m0fnu``, a positive number below the
            smallest becomes the smallest in every mode of rounding, and zero becomes NaN.

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
    infinities: bool | None = None
    nan: NaNCodes | None = None
    signed_zero: bool = True
    signed: bool = True
    zero: bool = True

    def __post_init__(self):
        """Refuse what is not a format."""
        self._check_types()
        for wrong, message in (*self._wrong_numbers(), *self._contradictions()):
            if wrong:
                raise ValueError(f"format {self.name!r}: {message}")

    def _check_types(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in _MAY_BE_NONE:
                continue
            wanted = _TYPES.get(field.name) or _MAY_BE_NONE.get(field.name, bool)
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise TypeError(f"format {self.name!r}: {field.name} must be of type {wanted.__name__}; got {value!r}")

    def _wrong_numbers(self):
        widest, lowest, highest = WIDEST
        top_codes = 2 ** (self.precision - 1) if self.precision > 0 else 0
        yield not self.name, "a format needs a name"
        for field, kinds in (("overflow", Overflow), ("nan", NaNCodes)):
            value, names = getattr(self, field), get_args(kinds)
            wrong = value not in names and (value is not None or field == "overflow")
            yield wrong, f"{field} must be one of {', '.join(names)}; got {value!r}"
        yield (
            not 1 <= self.precision <= widest,
            f"precision counts the implicit bit, so lies in 1 .. {widest}; got {self.precision}",
        )
        exponents = f"{lowest} <= min_exponent <= max_exponent <= {highest}"
        yield (
            not lowest <= self.min_exponent <= self.max_exponent <= highest,
            f"exponents must satisfy {exponents}; got {self.min_exponent} and {self.max_exponent}",
        )
        left = f"lies in 0 .. {top_codes - 1}; got {self.missing_top}"
        yield not 0 <= self.missing_top < top_codes, f"missing_top must leave a number in the top binade, so {left}"

    def _contradictions(self):
        yield (
            self.overflow == "infinity" and not self.has_infinity,
            'overflow="infinity" needs infinities; without them overflow is "nan" or "saturate"',
        )
        yield (
            self.overflow == "nan" and not self.has_nan,
            'overflow="nan" needs a NaN: nan is "top", "negative_zero" or, with infinities, "ieee"',
        )
        yield (
            self.nan == "ieee" and not self.has_infinity,
            'nan="ieee" are the codes above infinity, and there is none: say nan="top"',
        )
        yield (
            self.nan == "negative_zero" and self.signed_zero,
            'nan="negative_zero" takes the code of -0: say signed_zero=False',
        )
        yield (
            self.nan == "negative_zero" and not self.signed,
            'nan="negative_zero" is a code with a sign, and the format has none: say nan="top"',
        )
        yield (
            not self.signed and self.signed_zero,
            "a format without sign has no -0: say signed_zero=False with signed=False",
        )
        yield (
            not self.zero and self.signed,
            "a format without zero has positive numbers only: say signed=False and signed_zero=False with zero=False",
        )
        yield (
            not self.zero and self.subnormals,
            "a format without zero has no subnormals either: say subnormals=False with zero=False",
        )

    def __str__(self) -> str:
        """Give the name alone."""
        return self.name

    def __repr__(self) -> str:
        """Give the call that makes the record, without what is left at its default."""
        parts = [repr(self.name)]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                parts.append(f"{field.name}={value!r}")
        return f"Format({', '.join(parts)})"

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
    def min(self) -> float:
        """The smallest finite number: ``-max``, or what is smallest where no number is negative."""
        if self.signed:
            return -self.max
        return 0.0 if self.zero else self.min_normal

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
        """Whether infinities are members: by default exactly when overflow yields them."""
        return self.overflow == "infinity" if self.infinities is None else self.infinities

    @property
    def nan_codes(self) -> NaNCodes:
        """Which codes are NaN: the field `nan`, or what it stands for where it is None."""
        if self.nan is not None:
            return self.nan
        if self.has_infinity:
            return "ieee"
        return "top" if self.overflow == "nan" or self.missing_top else "none"

    @property
    def has_nan(self) -> bool:
        """Whether some code is NaN."""
        return self.nan_codes != "none"

    @property
    def last_index(self) -> int:
        """Code of the largest number, which is its place in the ascending list of those that are not negative."""
        binade = 2 ** (self.precision - 1)
        return (self.max_exponent - self.min_exponent + 1 + self.zero) * binade - 1 - self.missing_top

    @property
    def infinity_code(self) -> int | None:
        """Code of plus infinity, the one after that of the largest number; None without infinities."""
        return self.last_index + 1 if self.has_infinity else None

    @property
    def nan_code(self) -> int | None:
        """Code of the canonical NaN, the quiet one without sign and payload; None without NaN."""
        top = 2 ** (self.bits - self.signed) - 1
        if self.nan_codes == "ieee":
            quiet = 2 ** (self.precision - 1) >> 1
            infinity = self.last_index + 1
            return max(infinity + 1, infinity | quiet)
        return {"top": top, "negative_zero": top + 1, "none": None}[self.nan_codes]

    @property
    def exponent_bits(self) -> int:
        """Width of an exponent field with codes for the binades, for zero, and for infinity and NaN if any."""
        last = self.last_index + self.has_infinity + (self.nan_codes in {"ieee", "top"})
        return last.bit_length() - (self.precision - 1)

    @property
    def bits(self) -> int:
        """Storage width of a number: the sign if any, the exponent field, ``precision - 1`` bits of significand."""
        return self.signed + self.exponent_bits + self.precision - 1

    @property
    def bias(self) -> int:
        """What is taken from the exponent field of a normal number to get its exponent."""
        return self.zero - self.min_exponent

    @property
    def codes(self) -> int:
        """How many codes there are, ``2**bits``, whether or not they stand for something."""
        return 2**self.bits

    @property
    def finite_values(self) -> int:
        """How many different finite numbers there are; plus and minus zero count once."""
        flushed = 0 if self.subnormals or not self.zero else 2 ** (self.precision - 1) - 1
        positive = self.last_index + (not self.zero) - flushed
        return positive * (1 + self.signed) + self.zero

    @property
    def values(self) -> int:
        """How many different values there are: the finite ones, and the infinities if any. NaN is none."""
        return self.finite_values + self.has_infinity * (1 + self.signed)

    def holds(self, other: "Format") -> bool:
        """Tell whether every finite number of another format is one of this format.

        Args:
            other: The other format.

        Returns:
            True exactly if rounding to this format leaves all of them as they are.

        >>> single, half = Format("single", 24, -126, 127), Format("half", 11, -14, 15)
        >>> single.holds(half), half.holds(single)
        (True, False)
        """
        finest = self.min_exponent - self.precision + 1 if self.subnormals else self.min_exponent
        lowest = other.min_exponent - (other.precision - 1) * other.subnormals
        aligned = finest <= lowest and self.min_exponent - self.precision <= other.min_exponent - other.precision
        members = self.signed >= other.signed and self.zero >= other.zero and self.signed_zero >= other.signed_zero
        return aligned and members and self.precision >= other.precision and self.max >= other.max

    def encode(self, value: SupportsFloat) -> int:
        """Give the code point of a value, exactly.

        The code of a number that is not negative is its place in the ascending list of them, starting from 0
        and counting subnormals whether or not the format has them. Infinity follows the largest number. The
        sign is the highest of `bits` bits.

        Args:
            value: A value of the format. Zero of either sign is +0 where the format has no -0.

        Returns:
            The code, ``0 <= code < codes``.

        Raises:
            ValueError: If the format does not have the value; round it first.

        >>> half = Format("half", 11, -14, 15)
        >>> hex(half.encode(-2.0)), hex(half.encode(math.inf)), hex(half.encode(math.nan))
        ('0xc000', '0x7c00', '0x7e00')
        """
        x = float(value)
        code, magnitude = None, abs(x)
        if math.isnan(x):
            code = self.nan_code
        elif x == value and math.isinf(x):
            code = self.infinity_code
        elif x == value and (magnitude or self.zero):
            code = self._index(magnitude)
        negative = math.copysign(1.0, x) < 0 and not math.isnan(x) and (magnitude > 0 or self.signed_zero)
        if code is None or (negative and not self.signed):
            raise ValueError(f"{value!r} is no value of {self.name}: round it first, or use a format that has it")
        return code + (negative << (self.bits - 1))

    def _index(self, magnitude: float) -> int | None:
        """Find the place of a finite magnitude among those of the format; None if it is not there."""
        fraction = self.precision - 1
        binade = max(math.frexp(magnitude)[1] - 1, self.min_exponent) if magnitude else self.min_exponent
        significand = Fraction(magnitude) / Fraction(2) ** (binade - fraction)
        index = int(significand) + (binade - self.min_exponent << fraction)
        if significand.denominator > 1 or (0 < magnitude < self.min_subnormal) or magnitude > self.max:
            return None
        return index if self.zero else index - (1 << fraction)

    def decode(self, code: int) -> float:
        """Give the value that a code point stands for, exactly.

        Args:
            code: The code, ``0 <= code < codes``.

        Returns:
            The value. A code that stands for nothing decodes to NaN, and that of a subnormal number to zero
            where the format has no subnormals.

        Raises:
            ValueError: If the code is no integer of `bits` bits.

        >>> half = Format("half", 11, -14, 15)
        >>> half.decode(0x3C01), half.decode(0xFC00), half.decode(1) == 2.0**-24
        (1.0009765625, -inf, True)
        """
        if not 0 <= code < self.codes:
            raise ValueError(f"{self.name} has the codes 0 .. {self.codes - 1}; got {code}")
        negative, index = divmod(code, self.codes >> self.signed)
        if index > self.last_index + self.has_infinity or (negative and not index and not self.signed_zero):
            return math.nan
        if index > self.last_index:
            magnitude = math.inf
        else:
            fraction = self.precision - 1
            field, low = divmod(index, 1 << fraction)
            field += not self.zero
            significand = low + (1 << fraction) * (field > 0)
            magnitude = math.ldexp(significand, max(field, 1) - 1 + self.min_exponent - fraction)
            magnitude *= magnitude >= self.min_subnormal
        return -magnitude if negative else magnitude
