"""Rounding of float32 and float64 arrays to the values of a narrower format.

The kernels work on the bits of the numbers with integer operations alone. XLA on a CPU flushes float
subnormals, contracts ``a * b + c`` into one FMA, and reassociates additions of constants; none of this can
reach an integer. Magnitudes are compared as integers too, which orders them as the numbers they stand for
(and NaN above infinity).

The *code* of a number is the integer whose bits are those of its magnitude. Within a binade codes are equally
spaced, so rounding is: add an increment, then clear the bits that the format does not have. How many bits
those are depends on the binade only below the format's smallest normal number, where each halving costs one
more bit.
"""

import contextlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from precond_lab.arithmetic.formats import Format, named


class Carrier(NamedTuple):
    """A binary format of the machine, in whose bits the numbers of other formats are held."""

    width: int
    precision: int
    min_exponent: int
    max_exponent: int
    signed: type
    unsigned: type

    @property
    def fraction(self) -> int:
        """Number of explicit significand bits."""
        return self.precision - 1

    @property
    def infinity(self) -> int:
        """Code of infinity; larger codes are NaNs."""
        return (self.max_exponent - self.min_exponent + 2) << self.fraction

    @property
    def nan(self) -> int:
        """Code of the canonical NaN: quiet, positive, no payload."""
        return self.infinity | 1 << (self.fraction - 1)

    @property
    def magnitude(self) -> int:
        """Mask of all bits but the sign."""
        return (1 << (self.width - 1)) - 1

    def code(self, significand: int, exponent: int) -> int:
        """Encode ``significand * 2**exponent``, cut down to the next number of the carrier.

        Args:
            significand: A positive integer.
            exponent: Any integer.

        Returns:
            The code; that of the largest finite number if the value is beyond it.
        """
        binade = significand.bit_length() - 1 + exponent
        if binade > self.max_exponent:
            return self.infinity - 1
        shift = exponent + self.fraction - max(binade, self.min_exponent)
        cut = significand << shift if shift >= 0 else significand >> -shift
        # A normal number's implicit bit is in `cut`, and adds one to the exponent field.
        return cut + (max(binade, self.min_exponent) - self.min_exponent << self.fraction)


CARRIERS = {
    np.dtype(np.float32): Carrier(32, 24, -126, 127, np.int32, np.uint32),
    np.dtype(np.float64): Carrier(64, 53, -1022, 1023, np.int64, np.uint64),
}


class Grid(NamedTuple):
    """The values of a format among the codes of a carrier: what is known before any number is."""

    carrier: Carrier
    fewest: int  # how many bits of a code, not counting the sign, are kept at the least
    most: int  # and at the most
    offset: int  # in between it is this plus the exponent field (or plus the leading zeros)
    by_leading_zeros: bool  # whether the format's normal numbers reach into the carrier's subnormals
    parity: int  # bits to flip before the last kept bit of a code is read
    smallest: int  # code of the format's smallest number, where rounding to it needs care, else 0
    flush_below: int  # results of a smaller code are flushed
    largest: int
    carries: bool  # whether a carry out of `largest` gives the code of infinity, as it must


@lru_cache
def _grid(format: Format, carrier: Carrier) -> Grid:
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
    # The significand of the smallest number is 1, so odd. It is the implicit bit, and in its place in a code
    # stands the last bit of the exponent field, which may be even.
    even = smallest_exponent >= carrier.min_exponent and (smallest_exponent - carrier.min_exponent) % 2
    # Among the carrier's subnormals the smallest number has an explicit bit, and is like any other.
    careful = format.subnormals and smallest_exponent > carrier.min_exponent
    largest = carrier.code(format.max_significand, format.max_exponent - format.precision + 1)
    if format.max_exponent > carrier.max_exponent:
        largest = carrier.infinity - (1 << constant)
    return Grid(
        carrier=carrier,
        fewest=carrier.width - 1 - dropped[1],
        most=carrier.width - 1 - dropped[0],
        offset=(carrier.fraction if below < 0 else carrier.width - 2 - below) - missing,
        by_leading_zeros=below < 0,
        parity=1 << carrier.fraction if even else 0,
        smallest=carrier.code(1, smallest_exponent) if careful else 0,
        flush_below=0 if format.subnormals else carrier.code(1, format.min_exponent),
        largest=largest,
        carries=format.overflow == "infinity" and largest + (1 << constant) == carrier.infinity,
    )


class Cut(NamedTuple):
    """A rounding that is about to happen: which bits go, and what is needed to decide where to."""

    grid: Grid
    magnitude: jax.Array  # codes, as signed integers
    kept: jax.Array | int  # how many of their bits stay
    dropped: jax.Array | int  # mask of the bits that go
    random_bits: jax.Array  # of no meaning where the mode is not random


def _half_to_even(cut: Cut) -> jax.Array:
    """Half a unit of the last kept bit, less one if that bit is even: then a tie does not carry."""
    grid, carrier = cut.grid, cut.grid.carrier
    leading = (cut.magnitude ^ grid.parity) << cut.kept
    last = lax.shift_right_logical(leading, carrier.signed(carrier.width - 1))
    if grid.most == carrier.width - 1:
        last &= cut.dropped  # where no bit goes, none may be added
    return (carrier.magnitude >> 1 >> cut.kept) + last


def _above_half_smallest(cut: Cut) -> jax.Array:
    # A tie goes to zero, which is even. Half a power of two is one less in the exponent field.
    return cut.magnitude > cut.grid.smallest - (1 << cut.grid.carrier.fraction)


def _nothing(cut: Cut) -> jax.Array:
    return jnp.zeros_like(cut.magnitude)


def _at_smallest(cut: Cut) -> jax.Array:
    return cut.magnitude >= cut.grid.smallest


def _random_below_unit(cut: Cut) -> jax.Array:
    """A uniform number of units in [0, 1): it carries with the probability of the dropped part."""
    return lax.bitcast_convert_type(cut.random_bits, cut.magnitude.dtype) & cut.dropped


def _random_below_ratio(cut: Cut) -> jax.Array:
    """Whether a uniform fraction of all random bits lies below magnitude / smallest."""
    carrier, smallest = cut.grid.carrier, cut.grid.smallest
    field = cut.magnitude >> carrier.fraction
    implicit = jnp.minimum(field, 1) << carrier.fraction
    significand = (cut.magnitude & ((1 << carrier.fraction) - 1)) | implicit
    # Aligned to the top, the significand is a fraction in [1/2, 1) of the power of two above the number.
    fraction = lax.bitcast_convert_type(significand << (carrier.width - carrier.precision), carrier.unsigned)
    halvings = (smallest >> carrier.fraction) - 1 - jnp.maximum(field, 1)
    kept = jnp.clip(halvings, 0, carrier.width - 1).astype(carrier.unsigned)
    ratio = jnp.where(halvings < carrier.width, fraction >> kept, 0)
    return (halvings < 0) | (cut.random_bits < ratio)


class Rounding(NamedTuple):
    """A mode of rounding, in four answers."""

    increment: Callable[[Cut], jax.Array]
    """What is added to a code before its dropped bits are cleared."""
    reaches_smallest: Callable[[Cut], jax.Array]
    """Where a magnitude is not rounded to zero; asked if the smallest number is normal in the carrier."""
    overflows: bool
    """Whether finite numbers beyond the largest overflow; if not, they become the largest."""
    random: bool
    """Whether it needs random bits."""


ROUNDINGS = {
    "nearest_even": Rounding(_half_to_even, _above_half_smallest, overflows=True, random=False),
    "toward_zero": Rounding(_nothing, _at_smallest, overflows=False, random=False),
    "stochastic": Rounding(_random_below_unit, _random_below_ratio, overflows=True, random=True),
}
"""The modes of rounding."""


def _carrier(x: jax.Array | np.ndarray) -> Carrier:
    if x.dtype not in CARRIERS:
        raise TypeError(f"rounding takes float32 or float64; got {x.dtype}: convert it with astype first")
    return CARRIERS[x.dtype]


def _mode(rounding: str) -> Rounding:
    if rounding not in ROUNDINGS:
        raise ValueError(f"no rounding is named {rounding!r}; there are {', '.join(ROUNDINGS)}")
    return ROUNDINGS[rounding]


def _cut(grid: Grid, magnitude: jax.Array, random_bits: jax.Array | None) -> Cut:
    carrier, random_bits = grid.carrier, magnitude if random_bits is None else random_bits
    if grid.fewest == grid.most:
        return Cut(grid, magnitude, grid.most, carrier.magnitude >> grid.most, random_bits)
    place = lax.clz(magnitude) if grid.by_leading_zeros else magnitude >> carrier.fraction
    kept = jnp.clip(place + grid.offset, grid.fewest, grid.most)
    return Cut(grid, magnitude, kept, carrier.magnitude >> kept, random_bits)


def _round_magnitude(cut: Cut, mode: Rounding) -> jax.Array:
    """Round codes to the grid as if it had no end."""
    grid, magnitude = cut.grid, cut.magnitude
    identity = grid.fewest == grid.carrier.width - 1
    result = magnitude if identity else (magnitude + mode.increment(cut)) & ~cut.dropped
    if grid.smallest:
        result = jnp.where(mode.reaches_smallest(cut), jnp.maximum(result, grid.smallest), 0)
    if grid.flush_below:
        result = jnp.where(result < grid.flush_below, 0, result)
    return result


@partial(jax.jit, static_argnames=("format", "rounding"))
def _kernel(x: jax.Array, random_bits: jax.Array | None, format: Format, rounding: str) -> jax.Array:
    carrier, mode = CARRIERS[x.dtype], _mode(rounding)
    grid = _grid(format, carrier)
    bits = lax.bitcast_convert_type(x, carrier.signed)
    magnitude = bits & carrier.magnitude
    sign = bits & ~carrier.magnitude
    result = _round_magnitude(_cut(grid, magnitude, random_bits), mode)
    # An increment may carry the code of a NaN beyond the integers, so NaN is always told by the input.
    nan = magnitude > carrier.infinity
    if format.overflow == "nan":
        nan = magnitude >= carrier.infinity
        if mode.overflows:
            nan |= result > grid.largest
        else:
            result = jnp.minimum(result, grid.largest)
    elif format.overflow == "saturate":
        result = jnp.minimum(result, grid.largest)
    elif not grid.carries:
        if mode.overflows:
            infinite = result > grid.largest
        else:
            infinite, result = magnitude == carrier.infinity, jnp.minimum(result, grid.largest)
        result = jnp.where(infinite, carrier.infinity, result)
    # For a format as wide as the carrier this choice is all that is left, and it is needed: integer
    # operations between two float operations keep XLA from contracting them.
    return lax.bitcast_convert_type(jnp.where(nan, carrier.nan, result | sign), x.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def round_bits(
    x: jax.Array,
    format: Format,
    rounding: str,
    random_bits: jax.Array | None = None,
) -> jax.Array:
    """Round an array to the values of a format, with given random bits: the kernel behind `round_to`.

    Integer operations on the bits alone, so that nothing in XLA can flush, contract or reassociate it. A
    format with the precision and range of the carrier, or more, leaves every number as it is. Every NaN
    becomes the one positive quiet NaN without payload. The derivative is straight-through: tangents pass
    unchanged.

    Args:
        x: float32 or float64 array; the latter only where x64 is enabled.
        format: The format.
        rounding: A name in `ROUNDINGS`.
        random_bits: Uniform random bits of the shape of `x`, uint32 for float32 and uint64 for float64; for a
            rounding that is random, and for no other.

    Returns:
        Array of the shape and dtype of `x`.

    Raises:
        TypeError: If `x` is neither float32 nor float64, or the random bits have the wrong dtype.
        ValueError: If the rounding is unknown, random bits are missing, superfluous or of the wrong shape,
            the format has nothing in common with the carrier, or `x` is float64 while x64 is disabled.
    """
    carrier, mode = _carrier(x), _mode(rounding)
    if mode.random != (random_bits is not None):
        raise ValueError(f"rounding {rounding!r} {'needs' if mode.random else 'takes no'} random bits")
    if random_bits is not None:
        if random_bits.dtype != carrier.unsigned:
            raise TypeError(f"random bits for {x.dtype} must be {np.dtype(carrier.unsigned)}; got {random_bits.dtype}")
        if random_bits.shape != x.shape:
            raise ValueError(f"random bits must have the shape {x.shape} of x; got {random_bits.shape}")
    if carrier.width == 64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("float64 needs 64-bit integers: call within `with jax.enable_x64(True):`")
    return _kernel(x, random_bits, format=format, rounding=rounding)


@round_bits.defjvp
def _(format, rounding, primals, tangents):
    x, random_bits = primals
    return round_bits(x, format, rounding, random_bits), tangents[0]


@jax.custom_jvp
def widen(x: jax.Array) -> jax.Array:
    """Convert float32 to float64 exactly, by integer operations, so that XLA flushes no subnormal.

    Args:
        x: float32 array; to be called where x64 is enabled.

    Returns:
        float64 array of the same shape. The payload of a NaN is kept.
    """
    short, wide = CARRIERS[np.dtype(np.float32)], CARRIERS[np.dtype(np.float64)]
    longer = wide.fraction - short.fraction
    rebias = (short.min_exponent - wide.min_exponent) << wide.fraction
    bits = lax.bitcast_convert_type(x, jnp.int32)
    magnitude = bits & short.magnitude
    code = (magnitude.astype(jnp.int64) << longer) + rebias
    # Infinity and NaN: the largest exponent field becomes the largest.
    code = jnp.where(magnitude >= short.infinity, code | wide.infinity, code)
    # A subnormal is an integer times a power of two, and an integer becomes a float64 without any rounding.
    integer = lax.bitcast_convert_type(magnitude.astype(jnp.float64), jnp.int64)
    scaled = integer + ((short.min_exponent - short.fraction) << wide.fraction)
    subnormal = jnp.where(magnitude == 0, 0, scaled)
    code = jnp.where(magnitude >> short.fraction == 0, subnormal, code)
    sign = bits.astype(jnp.int64) & ~wide.magnitude
    return lax.bitcast_convert_type(code | sign, jnp.float64)


@widen.defjvp
def _(primals, tangents):
    return widen(*primals), tangents[0].astype(jnp.float64)


@jax.custom_jvp
def narrow(x: jax.Array) -> jax.Array:
    """Convert float64 to the nearest float32, ties to even, so that XLA flushes no subnormal.

    Args:
        x: float64 array; to be called where x64 is enabled.

    Returns:
        float32 array of the same shape. Every NaN becomes the canonical one.
    """
    short = CARRIERS[np.dtype(np.float32)]
    magnitude = jnp.abs(x)
    # XLA's own conversion is right where the result is normal. Below, the code is the number of smallest
    # subnormals that fit, which is a small integer in float64; it carries to the smallest normal by itself.
    normal = lax.bitcast_convert_type(magnitude.astype(jnp.float32), jnp.int32)
    units = magnitude * 2.0 ** (short.fraction - short.min_exponent)
    subnormal = lax.round(units, lax.RoundingMethod.TO_NEAREST_EVEN).astype(jnp.int32)
    code = jnp.where(magnitude < 2.0**short.min_exponent, subnormal, normal)
    sign = (lax.bitcast_convert_type(x, jnp.int64) >> 63).astype(jnp.int32) << (short.width - 1)
    return lax.bitcast_convert_type(jnp.where(jnp.isnan(x), short.nan, code | sign), jnp.float32)


@narrow.defjvp
def _(primals, tangents):
    return narrow(*primals), tangents[0].astype(jnp.float32)


@partial(jax.jit, static_argnames=("format", "rounding"))
def _round_with_key(x: jax.Array, key: ArrayLike | None, format: Format, rounding: str) -> jax.Array:
    if key is None:
        return round_bits(x, format, rounding)
    return round_bits(x, format, rounding, jax.random.bits(key, x.shape, _carrier(x).unsigned))


def round_to(
    x: ArrayLike,
    format: str | Format,
    rounding: str = "nearest_even",
    key: ArrayLike | None = None,
) -> jax.Array:
    r"""Round every element of an array to a value of a format.

    With neighbors :math:`a < b` of an element :math:`a + \theta (b - a)` in the format, ``nearest_even``
    takes the nearer one, and on a tie the one with an even significand; ``toward_zero`` the one of smaller
    magnitude; ``stochastic`` takes :math:`b` with probability :math:`\theta`. That probability is exact,
    except below the smallest subnormal, where it is cut to a multiple of :math:`2^{-32}` (float32) or
    :math:`2^{-64}` (float64).

    Beyond the largest number of the format, ``nearest_even`` and ``stochastic`` round as if the exponent went
    on, and what so leaves the format becomes infinity, NaN or the largest number, as the format says. Finite
    numbers that ``toward_zero`` rounds never overflow: they become the largest. Infinities stay where the
    format has them. Every NaN becomes the canonical one; the sign of a zero is kept, also of one to which a
    number is rounded. In a format without subnormals a number is rounded first, as if there were some, and
    flushed to zero afterwards.

    Numbers are rounded once, straight from the dtype they have. A format with at least the precision and the
    range of that dtype changes none; of one that exceeds it in range only, the part within the range is
    meant.

    The derivative is straight-through: that of the identity, in forward and reverse mode.

    Args:
        x: float32 or float64 values of any shape, in an array of JAX or NumPy, a list, or a number (which
            Python holds as float64). A float64 array of NumPy stays float64 even where x64 is disabled,
            unless `jax.jit` or `jax.vmap` have made it float32 before it gets here.
        format: A `Format`, or the name of one.
        rounding: ``"nearest_even"``, ``"toward_zero"`` or ``"stochastic"``.
        key: Key of `jax.random`, for stochastic rounding and for no other. The same key gives the same
            result.

    Returns:
        Array of the shape and dtype of `x`.

    Raises:
        TypeError: If `x` is not float32 or float64.
        ValueError: If the format or the rounding is unknown, the format lies outside the range of the dtype,
            or the key is missing or superfluous.

    >>> round_to([1.00390625, 1.01171875, 65536.0], "float16").tolist()
    [1.00390625, 1.01171875, inf]
    >>> round_to([1.00390625, 1.01171875, -1e-50], "bfloat16").tolist()
    [1.0, 1.015625, -0.0]
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    carrier, mode, record = _carrier(x), _mode(rounding), named(format)
    if mode.random and key is None:
        raise ValueError(f"rounding {rounding!r} needs a key: pass key=jax.random.key(seed)")
    if not mode.random and key is not None:
        raise ValueError(f"rounding {rounding!r} uses no randomness: leave out the key")
    with jax.enable_x64(True) if carrier.width == 64 else contextlib.nullcontext():
        return _round_with_key(x, key, format=record, rounding=rounding)
