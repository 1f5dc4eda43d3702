"""Records of formats whose numbers share a scale.

A number is then a short code times a scale that a whole group of numbers has in common: a tensor, a row, a column, or a
block of consecutive elements along one axis. The records only say which; `precond_lab.arithmetic.quantization` does it.
This module imports no array library.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import Format

Scale = Literal["tensor", "row", "column", "block"]
Kind = Literal["linear", "dynamic"]

SCALE_BITS = 32
"""Width of the scales that are not of a format of their own: they are float32 numbers."""

ELEMENT_INTEGERS = {
    f"int{bits}": Format(f"int{bits}", bits - 1, 0, 0, overflow="saturate", signed_zero=False) for bits in range(2, 9)
}
"""Integer elements of MX blocks as the fixed-point numbers that they stand for: int8 is ``k / 64``, ``|k| <= 127``."""


def _require(wrong: bool, record: object, message: str) -> None:
    if wrong:
        raise ValueError(f"{type(record).__name__}: {message}")


def _whole(record: object, **numbers: object) -> None:
    """Refuse what is no integer; bool is none here."""
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{type(record).__name__}: {name} must be an integer; got {value!r}")


@dataclass(frozen=True)
class Integer:
    r"""Integers with a floating-point scale, as in int8 matrix products.

    Symmetric: :math:`x \approx s k` with :math:`|k| \le K = 2^{b-1} - 1` and :math:`s = \max |x| / K`, the maximum
    taken over the group that shares the scale. Asymmetric (Jacob et al. 2018, arXiv:1712.05877, equation 1):
    :math:`x \approx s (k - z)` with :math:`-2^{b-1} \le k \le 2^{b-1} - 1`, :math:`s = (\max - \min) / (2^b - 1)` and
    an integer zero point :math:`z`, where the range is widened to contain zero, which is so represented exactly.

    Args:
        bits: Width b of an integer, 2 to 16.
        scale: Which numbers share a scale. ``"tensor"``: all. ``"row"``: those along the axis (so each row of a matrix
            has its own, with the default axis -1; in a matrix product the axis is the contracted one). ``"column"``:
            those with the same index along the axis. ``"block"``: `block` consecutive ones along the axis.
        block: Length of a block, 64 if not given; for ``scale="block"`` alone.
        symmetric: Whether zero has the code 0.

    Raises:
        TypeError: If bits or block are no integers.
        ValueError: If the fields contradict each other.

    >>> Integer(8, scale="block").block, Integer(8).largest, str(Integer(4, scale="row"))
    (64, 127, 'int4, a scale a row')
    """

    bits: int = 8
    scale: Scale = "tensor"
    block: int | None = None
    symmetric: bool = True

    def __post_init__(self):
        """Refuse what makes no sense, and fill in the length of a block."""
        if self.scale == "block" and self.block is None:
            object.__setattr__(self, "block", 64)
        _whole(self, bits=self.bits, **({} if self.block is None else {"block": self.block}))
        _require(not 2 <= self.bits <= 16, self, f"bits lies in 2 .. 16; got {self.bits}")
        scales = get_args(Scale)
        _require(self.scale not in scales, self, f"scale must be one of {', '.join(scales)}; got {self.scale!r}")
        given = self.block is not None
        _require(given and self.scale != "block", self, f'block needs scale="block"; got scale={self.scale!r}')
        _require(given and self.block < 1, self, f"a block has at least 1 element; got {self.block}")  # pyright: ignore

    def __str__(self) -> str:
        """Say it in words."""
        group = f"a scale every {self.block}" if self.block else f"a scale a {self.scale}"
        return f"{'' if self.symmetric else 'asymmetric '}int{self.bits}, {group}"

    @property
    def largest(self) -> int:
        """The largest code, ``2**(bits - 1) - 1``."""
        return 2 ** (self.bits - 1) - 1

    @property
    def smallest(self) -> int:
        """The smallest code: minus the largest, or one less where the codes are not symmetric."""
        return -self.largest - (not self.symmetric)

    @property
    def steps(self) -> int:
        """How many scales the largest difference between a code and the code of zero is."""
        return self.largest if self.symmetric else 2**self.bits - 1

    @property
    def grid(self) -> Format:
        """The integers up to `steps` in magnitude, as a format: rounding to it is rounding to an integer."""
        top = self.steps.bit_length() - 1
        return Format(f"integers to {self.steps}", top + 1, top, top, overflow="saturate", signed_zero=False)

    @property
    def bits_per_value(self) -> float:
        """Bits to store a number, its share of the scale (and zero point) of a block included; larger groups: none."""
        shared = SCALE_BITS + (0 if self.symmetric else self.bits)
        return self.bits + (shared / self.block if self.block else 0)


@dataclass(frozen=True)
class MX:
    r"""Microscaling formats: blocks that share a power of two (Open Compute Project, MX specification v1.0, 2023).

    The scale of a block is :math:`X = 2^{\lfloor \log_2 \max |x| \rfloor - e_{\max}}`, with :math:`e_{\max}` the
    exponent of the largest element (section 6.3; algorithm 1 of Rouhani et al. 2023, arXiv:2310.10537), kept within the
    :math:`2^{-127} .. 2^{127}` of float8_e8m0fnu. Elements are :math:`x / X` rounded to the element format; finite ones
    beyond its largest number become that number, also in a format with infinities.

    Args:
        element: A `Format` or its name: float8_e4m3fn, float8_e5m2, float6_e3m2fn, float6_e2m3fn and float4_e2m1fn are
            those of the specification. Or ``"int8"``: 8-bit two's complement with the value ``k / 64``; the code -128
            is left unused, as the specification allows, so that the elements are symmetric. ``"int2"`` to ``"int7"``
            likewise.
        block: Number of elements that share a scale; the specification has 32.

    Raises:
        TypeError: If block is no integer, or the element neither a name nor a `Format`.
        ValueError: If the block is empty, no format has that name, or it cannot be an element.

    >>> str(MX("e4m3fn")), MX("e4m3fn").bits_per_value, MX("int8").element.max
    ('MX float8_e4m3fn, blocks of 32', 8.25, 1.984375)
    """

    element: Format | str
    block: int = 32

    def __post_init__(self):
        """Resolve the element and refuse what cannot be one."""
        element = self.element
        if isinstance(element, str):
            element = ELEMENT_INTEGERS.get(element.strip().lower()) or formats.named(element)
        if not isinstance(element, Format):
            raise TypeError(f"MX: the element is a Format, the name of one, or 'int8'; got {element!r}")
        object.__setattr__(self, "element", element)
        _whole(self, block=self.block)
        _require(self.block < 1, self, f"a block has at least 1 element; got {self.block}")
        _require(not (element.signed and element.zero), self, f"{element} lacks zero or the negative numbers")
        smallest = element.min_exponent - (element.precision - 1) * element.subnormals
        _require(
            element.max_exponent < 0 or element.max_exponent > 63 or smallest < -22,
            self,
            f"elements lie in 2^-22 .. 2^64, so that times 2^-127 they are float32 numbers; not so {element!r}",
        )

    def __str__(self) -> str:
        """Say it in words."""
        return f"MX {self.element}, blocks of {self.block}"

    @property
    def saturating(self) -> Format:
        """The element format, but finite numbers beyond the largest become the largest (specification, section 6.3)."""
        return _saturating(formats.named(self.element))

    @property
    def integers(self) -> bool:
        """Whether the elements are integers in two's complement."""
        return self.element in ELEMENT_INTEGERS.values()

    @property
    def bits_per_value(self) -> float:
        """Bits to store a number, its share of the scale included."""
        return formats.named(self.element).bits + formats.float8_e8m0fnu.bits / self.block


def _saturating(format: Format) -> Format:
    nan = None if format.nan == "ieee" else format.nan
    return replace(format, overflow="saturate", infinities=None, nan=nan)


@dataclass(frozen=True)
class NVFP4:
    r"""NVIDIA's 4-bit format: float4_e2m1fn elements, a float8_e4m3fn scale a block, a float32 scale a tensor.

    With the tensor's absolute maximum :math:`T` and the block's :math:`A` (NVIDIA, Pretraining Large Language Models
    with NVFP4, 2025, arXiv:2509.25149, appendix on quantization): the tensor is encoded with :math:`s = 6 \cdot 448 /
    T`, so that the largest block scale is 448; the block's scale is :math:`B = (A / 6) s` rounded to float8_e4m3fn; its
    elements are :math:`x / (B / s)` rounded to float4_e2m1fn, and stand for :math:`B / s` times themselves.

    Args:
        block: Number of elements that share a scale.
        tensor_scale: Whether there is a scale of the tensor. Without it s = 1.

    Raises:
        TypeError: If block is no integer.
        ValueError: If the block is empty.

    >>> str(NVFP4()), NVFP4().bits_per_value
    ('NVFP4, blocks of 16', 4.5)
    """

    block: int = 16
    tensor_scale: bool = True

    def __post_init__(self):
        """Refuse an empty block."""
        _whole(self, block=self.block)
        _require(self.block < 1, self, f"a block has at least 1 element; got {self.block}")

    def __str__(self) -> str:
        """Say it in words."""
        return f"NVFP4, blocks of {self.block}{'' if self.tensor_scale else ', no scale of the tensor'}"

    @property
    def element(self) -> Format:
        """The format of elements."""
        return formats.float4_e2m1fn

    @property
    def scale_format(self) -> Format:
        """The format of a block's scale; larger ones become 448."""
        return _saturating(formats.float8_e4m3fn)

    @property
    def bits_per_value(self) -> float:
        """Bits to store a number, its share of the block's scale included."""
        return self.element.bits + self.scale_format.bits / self.block


@dataclass(frozen=True)
class CodeBook:
    """A table of numbers in [-1, 1], times the absolute maximum of a block: the state of 8-bit optimizers.

    The code of x is that of the number of the table nearest to ``x / max |x|`` (Dettmers et al. 2022, arXiv:2110.02861,
    section 1.2). The tables are in `precond_lab.arithmetic.codebooks`.

    Args:
        kind: ``"linear"``: equally spaced. ``"dynamic"``: a sign, a number of zero bits that gives a decimal exponent,
            an indicator bit, and in the bits that are left a fraction, so that small numbers keep relative precision
            (section 1.3 of the same).
        bits: Width of a code, 2 to 8.
        signed: Whether there are negative numbers. Without them the sign's bit doubles the fractions, as is wanted for
            second moments; negative numbers then become 0.
        block: Number of elements that share a maximum, 2048 in the paper; None: the whole tensor.

    Raises:
        TypeError: If bits or block are no integers.
        ValueError: If a field has a value that it cannot have.

    >>> str(CodeBook()), CodeBook(block=256).bits_per_value
    ('dynamic 8-bit code book, blocks of 2048', 8.125)
    """

    kind: Kind = "dynamic"
    bits: int = 8
    signed: bool = True
    block: int | None = 2048

    def __post_init__(self):
        """Refuse what makes no sense."""
        kinds = get_args(Kind)
        _require(self.kind not in kinds, self, f"kind must be one of {', '.join(kinds)}; got {self.kind!r}")
        _whole(self, bits=self.bits, block=1 if self.block is None else self.block)
        _require(not 2 <= self.bits <= 8, self, f"bits lies in 2 .. 8; got {self.bits}")
        _require(self.block is not None and self.block < 1, self, f"a block has at least 1 element; got {self.block}")

    def __str__(self) -> str:
        """Say it in words."""
        group = "one block" if self.block is None else f"blocks of {self.block}"
        return f"{self.kind} {self.bits}-bit code book{'' if self.signed else ' without sign'}, {group}"

    @property
    def bits_per_value(self) -> float:
        """Bits to store a number, its share of the block's maximum included."""
        return self.bits + (0 if self.block is None else SCALE_BITS / self.block)


Blocks = Integer | MX | NVFP4 | CodeBook
"""The records of this module."""
