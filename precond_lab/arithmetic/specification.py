"""The record that says what is rounded, to what, and how sums are formed."""

from dataclasses import dataclass
from typing import Literal

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import Format

Rounding = Literal["nearest_even", "toward_zero", "stochastic"]
ROUNDINGS: tuple[str, ...] = ("nearest_even", "toward_zero", "stochastic")
CARRIERS = {"float32": formats.float32, "float64": formats.float64}


@dataclass(frozen=True)
class Arithmetic:
    """A low-precision arithmetic, as `emulate` runs a program in it.

    Every operation is computed in the *carrier*, a wider native type, and rounded once to `format`. The carrier is
    chosen so that this equals the correctly rounded operation; see `carrier_dtype`.

    Args:
        format: the format of every result: a `Format` or a name such as "bfloat16".
        rounding: "nearest_even", "toward_zero" or "stochastic" (probability proportional to distance).
        accumulate: the format of partial sums in reductions and matrix products, whose terms are then rounded to it
            and not to `format`; the finished sum is rounded to `format`. None: `format` itself.
        carrier: "auto", or "float32" or "float64" by force. `carrier="float32"` is the fast form for bfloat16 and
            tfloat32: it flushes their subnormals, which lie among those of float32, and counts them as underflow.
        seed: of the random bits of stochastic rounding; a run is a function of its inputs and this number.

    Raises:
        ValueError: an unknown format, rounding or carrier, or a format that no carrier can hold.
        TypeError: the seed is no integer.

    Example:
        >>> Arithmetic("bf16", accumulate="float32").carrier_dtype
        'float64'
        >>> Arithmetic("float16").carrier_dtype
        'float32'
    """

    format: Format | str
    rounding: Rounding = "nearest_even"
    accumulate: Format | str | None = None
    carrier: Literal["auto", "float32", "float64"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Resolve names to records and refuse what cannot be emulated."""
        object.__setattr__(self, "format", formats.named(self.format))
        if self.accumulate is not None:
            object.__setattr__(self, "accumulate", formats.named(self.accumulate))
        if self.rounding not in ROUNDINGS:
            msg = f"unknown rounding {self.rounding!r}: choose one of {', '.join(ROUNDINGS)}"
            raise ValueError(msg)
        if self.carrier not in {"auto", *CARRIERS}:
            msg = f"unknown carrier {self.carrier!r}: choose 'auto', 'float32' or 'float64'"
            raise ValueError(msg)
        if not isinstance(self.seed, int):
            msg = f"seed must be an integer, got {self.seed!r}"
            raise TypeError(msg)
        _ = self.carrier_dtype

    def __str__(self) -> str:
        """A short name: the format, and what is not the default."""
        extra = [] if self.rounding == "nearest_even" else [self.rounding]
        if self.accumulate is not None:
            extra.append(f"sums in {self.accumulator.name}")
        if self.carrier != "auto":
            extra.append(f"carried in {self.carrier}")
        return self.result.name + (f" ({', '.join(extra)})" if extra else "")

    @property
    def result(self) -> Format:
        """The format of results."""
        return formats.named(self.format)

    @property
    def accumulator(self) -> Format:
        """The format of partial sums."""
        return formats.named(self.format if self.accumulate is None else self.accumulate)

    @property
    def unit_roundoff(self) -> float:
        """Of the format of results; twice that of rounding to nearest when the rounding is not to nearest."""
        return self.result.unit_roundoff * (1 if self.rounding == "nearest_even" else 2)

    @property
    def carrier_dtype(self) -> str:
        """The native type in which operations are computed before they are rounded once."""
        needed = {self.result, self.accumulator}
        if self.carrier != "auto":
            carrier = CARRIERS[self.carrier]
            if not all(_embeds(f, carrier) for f in needed):
                raise ValueError(f"{self} does not fit into the carrier {self.carrier}: use carrier='auto'")
            if self.rounding != "nearest_even" and any(carrier.precision < f.precision + 2 for f in needed):
                raise ValueError(
                    f"{self} needs a carrier with two more bits than the format, as sums are rounded to odd in it: "
                    "use carrier='auto' or rounding='nearest_even'"
                )
            return self.carrier
        for name, carrier in CARRIERS.items():
            if all(rounds_once(f, carrier, self.rounding) for f in needed):
                return name
        names = ", ".join(sorted(f.name for f in needed))
        raise ValueError(
            f"no carrier computes {names} with a single rounding: rounding to nearest needs 2 p + 2 <= 53 bits for "
            "precision p and twice its exponent range; choose a smaller precision or range, or force "
            "carrier='float64' and accept results that may be rounded twice"
        )


def _embeds(inner: Format, carrier: Format) -> bool:
    """Whether every normal number of a format is a normal number of the carrier."""
    return (
        inner.precision <= carrier.precision
        and inner.min_exponent >= carrier.min_exponent
        and inner.max_exponent <= carrier.max_exponent
    )


def within(inner: Format, outer: Format) -> bool:
    """Whether every number of one format is a number of the other.

    Args:
        inner: the one.
        outer: the other.

    Returns:
        True where a cast from one to the other changes nothing.
    """
    return inner == outer or (
        inner.precision <= outer.precision
        and inner.max <= outer.max
        and inner.min_normal >= outer.min_normal
        and (inner.min_subnormal if inner.subnormals else inner.min_normal) >= outer.min_subnormal
    )


def rounds_once(inner: Format, carrier: Format, rounding: str) -> bool:
    """Whether computing in the carrier and rounding once equals the correctly rounded operation.

    For + - * / and the square root this holds when (Figueroa 1995) the carrier has q >= 2p + 2 bits, and when no result
    of two numbers of the format meets the carrier's overflow or its subnormals, which XLA flushes on CPU and which
    would round twice anyway. The extreme results are products of two largest and of two smallest numbers. A carrier of
    the format itself is the native arithmetic. Stochastic rounding is proportional to the distance only as far as the
    carrier resolves it, so it takes the widest.

    Args:
        inner: the format that is emulated.
        carrier: the format of the native type.
        rounding: the rounding mode.

    Returns:
        True where a single rounding is proved.
    """
    if carrier == formats.float64 and inner == formats.float64:
        return rounding == "nearest_even"
    if rounding == "stochastic" and carrier != formats.float64:
        return False
    smallest = inner.min_exponent - (inner.precision - 1 if inner.subnormals else 0)
    return (
        carrier.precision >= 2 * inner.precision + 2
        and 2 * (inner.max_exponent + 1) <= carrier.max_exponent
        and 2 * smallest >= carrier.min_exponent
    )


def as_arithmetic(arithmetic: Arithmetic | Format | str) -> Arithmetic:
    """The arithmetic itself, or the one that rounds every operation to nearest even in a format.

    Args:
        arithmetic: an `Arithmetic`, a `Format`, or a format's name.

    Returns:
        An `Arithmetic`.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(arithmetic, Arithmetic):
        return arithmetic
    if isinstance(arithmetic, (Format, str)):
        return Arithmetic(arithmetic)
    msg = f"expected an Arithmetic, a Format or a format's name, got {type(arithmetic).__name__}"
    raise TypeError(msg)
