"""Quantization from its definition, one number at a time, in exact rationals: the oracle of the quantization tests.

Nothing is shared with the kernels. A machine's operation is the exact result rounded to float32 or float64 by
`Machine`.
"""

import math
from fractions import Fraction
from typing import NamedTuple

NAN = math.nan


class Machine(NamedTuple):
    """Rounds exact results to nearest even, as float32 or float64 do, with subnormals flushed to zero."""

    precision: int
    min_exponent: int
    max_exponent: int

    @property
    def tiny(self) -> Fraction:
        return Fraction(2) ** self.min_exponent

    @property
    def max(self) -> Fraction:
        return (2 - Fraction(2) ** (1 - self.precision)) * Fraction(2) ** self.max_exponent

    def __call__(self, exact: Fraction):
        if not exact:
            return Fraction(0)
        unit = Fraction(2) ** (exponent(abs(exact)) - self.precision + 1)
        rounded = round(exact / unit) * unit
        if abs(rounded) > self.max:
            return math.copysign(math.inf, exact)
        return rounded if abs(rounded) >= self.tiny else Fraction(0)


FLOAT32, FLOAT64 = Machine(24, -126, 127), Machine(53, -1022, 1023)


def exponent(x: Fraction) -> int:
    """floor(log2(x))."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def finite(group) -> bool:
    return all(math.isfinite(x) for x in group)


def signed(value, like: float) -> float:
    """A float64 that keeps the sign of a zero."""
    return math.copysign(float(value), like)


def integer(group, q, machine: Machine):
    """Codes, scale, zero point and values of one group."""
    if not finite(group):
        return [None] * len(group), NAN, None, [NAN] * len(group)
    xs = [Fraction(x) if abs(Fraction(x)) >= machine.tiny else Fraction(0) for x in group]
    last, first = 2 ** (q.bits - 1) - 1, -(2 ** (q.bits - 1))
    steps = last if q.symmetric else 2**q.bits - 1
    if q.symmetric:
        scale, zero, first = machine(max(map(abs, xs)) / last), 0, -last
    else:
        high, low = max(*xs, Fraction(0)), min(*xs, Fraction(0))
        scale = machine(machine(high / 2 - low / 2) / Fraction(steps, 2))
    largest = machine.max / steps
    unit = Fraction(2) ** (exponent(largest) - machine.precision + 1)
    scale = min(max(scale, machine.tiny), largest // unit * unit)
    if not q.symmetric:
        zero = min(max(round(machine(-low / scale)) + first, first), last)
    codes = [min(max(round(machine(x / scale)) + zero, first), last) for x in xs]
    return codes, float(scale), zero, [float(machine((code - zero) * scale)) for code in codes]


def element(y: Fraction, format) -> Fraction:
    """Round to nearest even in a format and saturate."""
    if not y:
        return Fraction(0)
    unit = Fraction(2) ** (max(exponent(abs(y)), format.min_exponent) - format.precision + 1)
    rounded = round(y / unit) * unit
    return max(min(rounded, Fraction(format.max)), -Fraction(format.max))


def mx(group, q):
    """Scale and values of one block of a microscaling format."""
    if not finite(group):
        return NAN, [NAN] * len(group)
    xs = [Fraction(x) for x in group]
    top = max(map(abs, xs))
    power = exponent(top) - q.element.max_exponent if top else -127
    scale = Fraction(2) ** min(max(power, -127), 127)
    values = [element(x / scale, q.element) * scale for x in xs]
    integers = q.element.name.startswith("int")
    return float(scale), [signed(v, 1.0 if integers and not v else x) for v, x in zip(values, group, strict=True)]


def nvfp4(groups, q, machine: Machine):
    """Scale of the tensor, scales of blocks and values of all blocks."""
    if q.tensor_scale and not all(map(finite, groups)):
        return NAN, [NAN] * len(groups), [[NAN] * len(group) for group in groups]
    encode = decode = Fraction(1)
    if q.tensor_scale:
        top = max((abs(Fraction(x)) for group in groups for x in group), default=Fraction(0))
        encode = (
            min(FLOAT32(Fraction(6 * 448) / top), Fraction(2) ** 126) if top >= FLOAT32.tiny else Fraction(2) ** 126
        )
        decode = FLOAT32(1 / Fraction(encode))
    scales, values = [], []
    for group in groups:
        if not finite(group):
            scales.append(NAN)
            values.append([NAN] * len(group))
            continue
        top = FLOAT32(max(abs(Fraction(x)) for x in group))
        scale = element(FLOAT32(FLOAT32(top / 6) * encode), q.scale_format)
        divisor = FLOAT32(scale * decode)
        reciprocal = FLOAT32(1 / divisor) if divisor else FLOAT32.max
        reciprocal = min(reciprocal, FLOAT32.max)
        row = []
        for x in group:
            product = machine(Fraction(x) * Fraction(reciprocal))
            whole = Fraction(math.copysign(6, product)) if isinstance(product, float) else element(product, q.element)
            row.append(signed(machine(whole * scale * decode), x))
        scales.append(float(scale))
        values.append(row)
    return float(decode), scales, values
