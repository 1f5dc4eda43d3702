"""The values of a format laid over the codes of a carrier.

The *code* of a number is the integer whose bits are those of its magnitude. Within a binade codes are equally spaced,
so rounding is: add an increment, then clear the bits that the format does not have. How many bits those are depends on
the binade only below the format's smallest normal number, where each halving costs one more bit.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from precond_lab.arithmetic.carriers import Carrier
from precond_lab.arithmetic.record import Format


class Grid(NamedTuple):
    """The values of a format among the codes of a carrier: what is known before any number is."""

    format: Format
    carrier: Carrier
    fewest: int  # how many bits of a code, not counting the sign, are kept at the least
    most: int  # and at the most
    offset: int  # in between it is this plus the exponent field (or plus the leading zeros)
    by_leading_zeros: bool  # whether the format's normal numbers reach into the carrier's subnormals
    parity: int  # 1 to flip the last kept bit of a code where it is the last bit of an exponent field
    smallest: int  # code of the format's smallest number
    careful: bool  # whether rounding to the smallest number is not like rounding to any other
    flush_below: int  # results of a smaller code are flushed
    floor: int  # where there is no zero, results of a smaller code become this one
    largest: int
    beyond: int  # code of the number that would follow the largest

    @property
    def constant(self) -> bool:
        """Whether the same bits are dropped from every code."""
        return self.fewest == self.most

    @property
    def exact(self) -> bool:
        """Whether no bit is dropped from any code."""
        return self.fewest == self.carrier.width - 1

    def integer(self, value: int) -> Any:
        """A constant of the carrier's signed integers."""
        return self.carrier.signed(value)


@lru_cache
def grid_of(format: Format, carrier: Carrier) -> Grid:
    """Lay a format over the codes of a carrier.

    Args:
        format: The format.
        carrier: The carrier.

    Returns:
        What a kernel needs to know of both.

    Raises:
        ValueError: If no normal number of the format is within the range of the carrier.
    """
    if format.min_exponent > carrier.max_exponent or format.max_exponent < carrier.min_exponent:
        raise ValueError(f"{format!r} has no normal number within the range of float{carrier.width}")
    missing = carrier.precision - format.precision
    below = format.min_exponent - carrier.min_exponent  # binades of the carrier below the normal numbers
    constant = max(missing, 0)  # bits dropped in every binade that the two have in common
    dropped = constant, constant
    if below > 0:
        # Once all explicit bits are dropped only the exponent is left: a power of two.
        dropped = constant, min(max(missing + below, 0), carrier.fraction)
    elif below < 0:
        dropped = max(missing + below, 0), constant
    smallest_exponent = format.min_exponent - format.precision + 1
    # The smallest number has the code 1, which is odd; 0 if there is no zero. With precision 1, or in the binade of the
    # smallest number, it ends in the implicit bit. In its place in a carrier's code stands the last bit of the exponent
    # field, which may be different.
    field = smallest_exponent - carrier.min_exponent + 1
    if format.precision > 1:
        field = max(field, 1)
    largest = carrier.code(format.max_significand, format.max_exponent - format.precision + 1)
    if format.max_exponent > carrier.max_exponent:
        largest = carrier.infinity - (1 << constant)
    return Grid(
        format=format,
        carrier=carrier,
        fewest=carrier.width - 1 - dropped[1],
        most=carrier.width - 1 - dropped[0],
        offset=(carrier.fraction if below < 0 else carrier.width - 2 - below) - missing,
        by_leading_zeros=below < 0,
        parity=(field + format.zero) % 2,
        smallest=carrier.code(1, smallest_exponent),
        # Among the carrier's subnormals the smallest number has an explicit bit, and is like any other.
        careful=(format.subnormals or format.precision == 1) and smallest_exponent > carrier.min_exponent,
        flush_below=0 if format.subnormals or not format.zero else carrier.code(1, format.min_exponent),
        floor=0 if format.zero else carrier.code(1, format.min_exponent),
        largest=largest,
        beyond=largest + (1 << constant),
    )
