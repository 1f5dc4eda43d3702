"""The record that says what is rounded, to what, and how sums are formed."""

import difflib
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, SupportsIndex

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.blocks import Blocks
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.matrix_units import MatrixUnit

Rounding = Literal["nearest_even", "nearest_away", "toward_zero", "up", "down", "odd", "stochastic"]
ROUNDINGS: tuple[str, ...] = ("nearest_even", "nearest_away", "toward_zero", "up", "down", "odd", "stochastic")
NEAREST = frozenset({"nearest_even", "nearest_away"})
ORDERS = ("sequential", "reversed", "pairwise", "exact")
ROLES = ("arrays", "state", "scalars")
"""Scopes by which programs mark what may have an arithmetic of its own; see :mod:`precond_lab.arithmetic.roles`."""
LINEAR_ALGEBRA = ("refuse", "expand")
CARRIERS = {"float32": formats.float32, "float64": formats.float64}
_BLOCKED = "blocked("


@dataclass(frozen=True)
class Arithmetic:
    """A low-precision arithmetic, as `emulate` runs a program in it.

    Every operation is computed in the *carrier*, a wider native type, and rounded once to `format`. The carrier is
    chosen so that this equals the correctly rounded operation; see `carrier_dtype`.

    Args:
        format: the format of every result: a `Format` or a name such as "bfloat16".
        rounding: "nearest_even", "nearest_away", "toward_zero", "up", "down", "odd" or "stochastic" (probability
            proportional to distance).
        accumulate: the format of partial sums in reductions and matrix products, whose terms are then rounded to it
            and not to `format`; the finished sum is rounded to `format`. None: `format` itself.
        carrier: "auto", or "float32" or "float64" by force. `carrier="float32"` is the fast form for bfloat16 and
            tfloat32: it flushes their subnormals, which lie among those of float32, and counts them as underflow.
        seed: of the random bits of stochastic rounding; a run is a function of its inputs and this number.
        random_bits: how many random bits stochastic rounding uses; None: as many as the carrier has to offer.
        order: in which the terms of sums, of cumulative sums where it makes a difference, and of products of matrices
            are added: "sequential"; "reversed"; "pairwise" (neighbors first, level by level); "blocked(K)" (K
            consecutive terms in sequence, then the sums of the blocks in sequence); "exact" (rounded once, at the end).
        fma: whether a matrix product adds each product unrounded: fused multiply-add, one rounding a step.
        operands: what the operands of matrix products are rounded to first: a format, or a quantization such as
            `Integer(8, scale="row")`, whose products are then summed exactly in 32-bit integers.
        storage: what state is rounded to between the steps of an optimizer or a loop; see `stored`. A single run of
            `emulate` has no steps, and takes no notice of it.
        linalg: "refuse" JAX's opaque linear algebra, or "expand" it into loops of plain operations.
        unit: the model of a matrix unit, which then forms matrix products in its own way; presets have one.
        overrides: other arithmetics for some of the operations: a mapping from the name of a primitive
            ("reduce_sum") or of a `jax.named_scope` of the program to an `Arithmetic` or a format.

    Raises:
        ValueError: an unknown format, rounding, carrier or order, or a format that no carrier can hold.
        TypeError: a field has a wrong type.

    Example:
        >>> Arithmetic("bf16", accumulate="float32").carrier_dtype
        'float64'
        >>> Arithmetic("float16").carrier_dtype
        'float32'
        >>> print(Arithmetic("float8_e5m2", order="blocked(32)", fma=True))
        float8_e5m2 (blocked(32) sums, fused multiply-add)
    """

    format: Format | str
    rounding: Rounding = "nearest_even"
    accumulate: Format | str | None = None
    carrier: Literal["auto", "float32", "float64"] = "auto"
    seed: int = 0
    random_bits: int | None = None
    order: str = "sequential"
    fma: bool = False
    operands: Format | Blocks | str | None = None
    storage: Format | Blocks | str | None = None
    linalg: Literal["refuse", "expand"] = "refuse"
    unit: MatrixUnit | None = None
    overrides: Any = field(default=())

    def __post_init__(self) -> None:
        """Resolve names to records and refuse what cannot be emulated."""
        for name in ("format", "accumulate", "operands", "storage"):
            value = getattr(self, name)
            if isinstance(value, str) or name == "format":
                object.__setattr__(self, name, formats.named(value))
        if not isinstance(self.accumulate, Format | None):
            raise TypeError(f"accumulate must be a format or its name, got {self.accumulate!r}")
        _one_of("rounding", self.rounding, ROUNDINGS)
        _one_of("carrier", self.carrier, ("auto", *CARRIERS))
        _one_of("linalg", self.linalg, LINEAR_ALGEBRA)
        object.__setattr__(self, "seed", _integer("seed", self.seed))
        if self.random_bits is not None:
            object.__setattr__(self, "random_bits", _integer("random_bits", self.random_bits))
            most = CARRIERS[self.carrier_dtype].precision - 1
            if self.rounding != "stochastic" or not 1 <= self.random_bits <= most:
                raise ValueError(
                    f"random_bits is the number of random bits of stochastic rounding, 1 to {most}; "
                    f"got {self.random_bits} for rounding {self.rounding!r}"
                )
        object.__setattr__(self, "order", _order(self.order))
        self._check_products()
        object.__setattr__(self, "overrides", _overrides(self.overrides))
        _ = self.carrier_dtype

    def _check_products(self) -> None:
        """Refuse what says nothing, or contradictory things, of sums and products."""
        for name, kinds in (("operands", (Format, Blocks)), ("storage", (Format, Blocks)), ("unit", (MatrixUnit,))):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                names = "a format, an Integer, MX, NVFP4 or CodeBook" if name != "unit" else "a MatrixUnit"
                raise TypeError(f"{name} must be {names}, got {value!r}")
        if not isinstance(self.fma, bool):
            raise TypeError(f"fma must be True or False, got {self.fma!r}")
        if self.order == "exact" and (self.fma or self.accumulate is not None):
            raise ValueError("an exact sum has no partial sums: leave out accumulate and fma, or take another order")
        if self.unit is not None and self.result.precision > 26:
            raise ValueError(f"a matrix unit takes numbers of at most 26 bits; {self.result.name} has more")

    def __str__(self) -> str:
        """A short name: the format, and what is not the default."""
        extra = [] if self.rounding == "nearest_even" else [self.rounding]
        if self.random_bits is not None:
            extra.append(f"{self.random_bits} random bits")
        if self.operands is not None:
            extra.append(f"operands in {self.operands}")
        if self.accumulate is not None:
            extra.append(f"sums in {self.accumulator.name}")
        if self.order != "sequential":
            extra.append(f"{self.order} sums")
        if self.fma:
            extra.append("fused multiply-add")
        if self.unit is not None:
            extra.append(f"products as by {self.unit.name}")
        if self.storage is not None:
            extra.append(f"state in {self.storage}")
        extra.extend(f"{key} in {other}" for key, other in self.overrides)
        if self.carrier != "auto":
            extra.append(f"carried in {self.carrier}")
        return self.result.name + (f" ({', '.join(extra)})" if extra else "")

    @classmethod
    def preset(cls, name: str) -> "Arithmetic":
        """What a piece of hardware does, by name: see `precond_lab.arithmetic.presets`.

        Args:
            name: such as "h100-bf16".

        Returns:
            The arithmetic.
        """
        from precond_lab.arithmetic.presets import preset  # noqa: PLC0415 - presets are made of arithmetics

        return preset(name).arithmetic

    @property
    def block(self) -> int | None:
        """How many terms make a block of a blocked sum; None for the other orders."""
        return int(self.order[len(_BLOCKED) : -1]) if self.order.startswith(_BLOCKED) else None

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
        return self.result.unit_roundoff * (1 if self.rounding in NEAREST else 2)

    @property
    def carrier_dtype(self) -> str:
        """The native type in which operations are computed before they are rounded once."""
        needed = {self.result, self.accumulator}
        if self.carrier != "auto":
            carrier = CARRIERS[self.carrier]
            if not all(_embeds(f, carrier) for f in needed):
                raise ValueError(f"{self} does not fit into the carrier {self.carrier}: use carrier='auto'")
            odd = self.rounding not in NEAREST or self.fma
            if odd and any(carrier.precision < f.precision + 2 for f in needed):
                raise ValueError(
                    f"{self} needs a carrier with two more bits than the format, as sums are rounded to odd in it: "
                    "use carrier='auto' or rounding='nearest_even' without fma"
                )
            return self.carrier
        for name, carrier in CARRIERS.items():
            if all(rounds_once(f, carrier, self.rounding, fma=self.fma) for f in needed):
                return name
        names = ", ".join(sorted(f.name for f in needed))
        if self.fma or self.rounding != "nearest_even":
            names += f" with rounding {self.rounding!r}" + " and fused multiply-add" * self.fma
        raise ValueError(
            f"no carrier computes {names} with a single rounding: that needs 2 p + 2 <= 53 bits for precision p "
            "and twice its exponent range; choose a smaller precision or range, or force "
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
    return inner == outer or (outer.holds(inner) and outer.has_infinity >= inner.has_infinity)


def rounds_once(inner: Format, carrier: Format, rounding: str, *, fma: bool = False) -> bool:
    """Whether computing in the carrier and rounding once equals the correctly rounded operation.

    For + - * / and the square root rounded to nearest this holds when (Figueroa 1995) the carrier has q >= 2p + 2 bits,
    and when no result of two numbers of the format meets the carrier's overflow or its subnormals, which XLA flushes on
    CPU and which would round twice anyway. The extreme results are products of two largest and of two smallest numbers,
    and their quotients.

    In the other modes the carrier must not round a result onto a number of the format. Products are exact in it. A
    quotient a / b that is no number y of the format differs from each by |a - y b| / b, whose numerator is at least one
    unit of 2p bits, so relatively by more than 2^-2p; likewise a root. Sums and fused multiply-adds, which can lie as
    near as they like, are rounded to odd in the carrier (`machine.sum_to_odd`), which needs q >= p + 2.

    A carrier of the format itself is the native arithmetic. Stochastic rounding is proportional to the distance only as
    far as the carrier resolves it, so it takes the widest.

    Args:
        inner: the format that is emulated.
        carrier: the format of the native type.
        rounding: the rounding mode.
        fma: whether there are fused multiply-adds, for which the native arithmetic has no bits to spare.

    Returns:
        True where a single rounding is proved.
    """
    if carrier == formats.float64 and inner == formats.float64:
        return rounding == "nearest_even" and not fma
    if rounding == "stochastic" and carrier != formats.float64:
        return False
    smallest = inner.min_exponent - (inner.precision - 1 if inner.subnormals else 0)
    largest = inner.max_exponent + 1
    return (
        carrier.precision >= 2 * inner.precision + 2
        and max(2 * largest, largest - smallest) <= carrier.max_exponent
        and min(2 * smallest, smallest - largest) >= carrier.min_exponent
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


def without_randomness(arithmetic: Arithmetic) -> Arithmetic:
    """The same arithmetic, rounding to nearest where it rounded stochastically: as constants are rounded.

    Args:
        arithmetic: any.

    Returns:
        An arithmetic that needs no random bits.
    """
    if arithmetic.rounding != "stochastic":
        return arithmetic
    return replace(arithmetic, rounding="nearest_even", random_bits=None)


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        close = difflib.get_close_matches(str(value), known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown {name} {value!r}{hint}: choose one of {', '.join(known)}")


def _integer(name: str, value: Any) -> int:
    """An integer of Python, also from one of NumPy."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return operator.index(value)


def _order(order: Any) -> str:
    """The order in its standard spelling."""
    text = str(order).replace(" ", "")
    if text.startswith(_BLOCKED) and text.endswith(")"):
        size = text[len(_BLOCKED) : -1]
        if size.isdecimal() and int(size) > 0:
            return f"{_BLOCKED}{int(size)})"
    _one_of("order of sums", text, (*ORDERS, "blocked(K) with a positive number K"))
    return text


def _overrides(overrides: Any) -> tuple[tuple[str, Arithmetic], ...]:
    """Sorted pairs of names and arithmetics, which can be hashed as a mapping cannot."""
    pairs = overrides.items() if isinstance(overrides, Mapping) else overrides
    try:
        pairs = [(key, as_arithmetic(other)) for key, other in pairs]
    except ValueError as error:
        raise ValueError(f"overrides: {error}") from error
    except TypeError as error:
        raise TypeError(f"overrides is a mapping from names of primitives or scopes to arithmetics: {error}") from error
    if nested := [key for key, other in pairs if other.overrides]:
        raise ValueError(f"an override has no overrides of its own, as that of {nested[0]!r} has")
    if wrong := [key for key, _ in pairs if not isinstance(key, str) or not key]:
        raise TypeError(f"overrides are named by primitives or scopes, got {wrong[0]!r}")
    return tuple(sorted(pairs, key=lambda pair: pair[0]))
