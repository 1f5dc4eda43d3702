"""The record of units that multiply matrices in hardware: what they round, and where.

`Arithmetic(..., unit=...)` forms its matrix products as the unit does (see `unit_products`). The model of aligned sums
is that of Fasi, Higham, Mikaitis & Pranesh (2021), with the widths that Xie, Wang, Yang & Yang (2025) measured.
"""

from dataclasses import dataclass
from typing import Literal

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import Format


@dataclass(frozen=True)
class MatrixUnit:
    """A unit that adds a group of exact products to an accumulator in one step.

    With `fraction_bits`, the terms of a step are the products of a group and the accumulator. The exponent of a product
    is the sum of the exponents of its factors (so its significand is below 4), subnormal factors having the format's
    smallest exponent. Every term is truncated to a multiple of ``2^(E - fraction_bits)``, where E is the largest
    exponent; these are added exactly, and the sum is rounded to the accumulator once. Without, the products of a group
    are added to the accumulator one after the other, each sum rounded.

    Args:
        name: of the unit.
        group: how many products one step takes; the last group is filled up with zeros.
        fraction_bits: how many bits below the largest exponent the aligned terms keep, at most 36; None: no alignment.
        accumulator: the format of the accumulator; a `Format` or a name.
        rounding: how sums are rounded to the accumulator, "toward_zero" or "nearest_even".
        backwards: whether the products of a group that is not aligned are taken from the last to the first.
        flush: whether subnormal operands are taken as zeros, and subnormal sums flushed to zero.

    Raises:
        ValueError: a group or a number of bits that the model does not have.

    Example:
        >>> MatrixUnit("V100", group=4, fraction_bits=23).accumulator.name
        'float32'
    """

    name: str
    group: int = 1
    fraction_bits: int | None = None
    accumulator: Format = formats.float32
    rounding: Literal["toward_zero", "nearest_even"] = "toward_zero"
    backwards: bool = False
    flush: bool = False

    def __post_init__(self) -> None:
        """Resolve the accumulator, and refuse what the model does not have."""
        object.__setattr__(self, "accumulator", formats.named(self.accumulator))
        if self.group < 1:
            raise ValueError(f"a group has at least one product, got {self.group}")
        if self.fraction_bits is not None and not 1 <= self.fraction_bits <= 36:
            raise ValueError(f"fraction_bits must be from 1 to 36, got {self.fraction_bits}")
