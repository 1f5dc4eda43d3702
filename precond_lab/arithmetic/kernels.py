"""The kernels of rounding: from the bits of a carrier's numbers to those of a format's.

XLA on a CPU flushes float subnormals, contracts ``a * b + c`` into one FMA, and reassociates additions of constants;
none of this can reach an integer. So the general kernel works on bits with integer operations alone. Magnitudes are
compared as integers too, which orders them as the numbers they stand for (and NaN above infinity).

Two kernels use float operations, for formats whose range is so much smaller than the carrier's that no subnormal of the
carrier can matter; each says why nothing that XLA may do changes its result. For binary16 a CPU has instructions.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic.carriers import Carrier
from precond_lab.arithmetic.grids import Grid
from precond_lab.arithmetic.modes import ROUNDINGS, Cut, Rounding
from precond_lab.arithmetic.record import Format


def round_code(bits: jax.Array, words: jax.Array | None, grid: Grid, rounding: str, canonical: bool) -> jax.Array:
    """Round the bits of a carrier's numbers to those of a format's: the choice of a kernel.

    Args:
        bits: Numbers of the carrier, as signed integers.
        words: Random words, or None.
        grid: The format among the carrier's codes.
        rounding: A name in `ROUNDINGS`.
        canonical: Whether every NaN becomes the canonical one. If not, NaNs are quiet, and stay NaNs.

    Returns:
        The bits of the results.
    """
    if _is_plain(grid):
        return _plain(bits, words, grid, ROUNDINGS[rounding], canonical)
    by_any = partial(_by_any_device, words=words, grid=grid, rounding=rounding, canonical=canonical)
    if rounding == "nearest_even" and _is_half(grid):
        return lax.platform_dependent(bits, cpu=partial(_through_half, grid=grid, canonical=canonical), default=by_any)
    return by_any(bits)


def _by_any_device(
    bits: jax.Array, *, words: jax.Array | None, grid: Grid, rounding: str, canonical: bool
) -> jax.Array:
    mode = ROUNDINGS[rounding]
    magnitude = bits & grid.integer(grid.carrier.magnitude)
    if rounding == "nearest_even" and _magic_works(grid):
        result, beyond = _nearest_even_by_addition(magnitude, grid)
        is_nan_there = True
    elif rounding == "stochastic" and _scaling_works(grid):
        result, beyond = _stochastic_by_scaling(magnitude, words, grid)
        is_nan_there = True
    else:
        result = _general(bits, magnitude, words, grid, mode)
        beyond, is_nan_there = result > grid.integer(grid.largest), False
    return _end(bits, magnitude, result, beyond, grid, mode, canonical, is_nan_there)


_HALF = Format("binary16", 11, -14, 15)


def _is_half(grid: Grid) -> bool:
    return replace(grid.format, name=_HALF.name) == _HALF and grid.carrier.width == 32


def _through_half(bits: jax.Array, *, grid: Grid, canonical: bool) -> jax.Array:
    """Convert to binary16 and back, for which CPUs have instructions that flush nothing.

    XLA may leave out two conversions that follow each other. So there is an integer operation in between, which changes
    nothing: only the compiler behind XLA finds that out, and it leaves conversions alone. Not for float64: XLA converts
    that by way of float32.
    """
    carrier = grid.carrier
    half = lax.bitcast_convert_type(bits, carrier.float).astype(jnp.float16)
    code = lax.bitcast_convert_type(half, jnp.uint16)
    same = lax.bitcast_convert_type(code | (code & np.uint16(1)), jnp.float16)
    result = lax.bitcast_convert_type(same.astype(carrier.float), carrier.signed)
    if not canonical:
        return result
    is_nan = (result & grid.integer(carrier.magnitude)) > grid.integer(carrier.infinity)
    return jnp.where(is_nan, grid.integer(carrier.nan), result)


def _is_plain(grid: Grid) -> bool:
    """Whether the same bits go from every code and nothing else happens: a carry from the largest gives infinity."""
    format, carrier = grid.format, grid.carrier
    ordinary = format.overflow == "infinity" and format.signed and format.signed_zero and format.zero
    ends = grid.beyond == carrier.infinity and not grid.flush_below and not grid.careful
    return ordinary and ends and grid.constant and not grid.exact and grid.most >= carrier.width - carrier.fraction


def _plain(bits: jax.Array, words: jax.Array | None, grid: Grid, mode: Rounding, canonical: bool) -> jax.Array:
    """Round in place: the sign need not be taken off, as no carry comes so far."""
    carrier = grid.carrier
    nan = grid.integer(carrier.nan)

    def rounded(bits: jax.Array) -> jax.Array:
        dropped = grid.integer(carrier.magnitude >> grid.most)
        cut = Cut(grid, bits, bits, grid.most, dropped, words)
        return (bits + mode.increment(cut) if mode.increment else bits) & ~dropped

    def guarded(bits: jax.Array) -> jax.Array:
        is_nan = (bits & grid.integer(carrier.magnitude)) > grid.integer(carrier.infinity)
        return jnp.where(is_nan, nan, rounded(bits))

    if canonical:
        return guarded(bits)
    # A CPU makes NaNs with one bit of payload, to which any increment can be added. A GPU makes NaNs of ones only,
    # and then a carry would reach the sign.
    return lax.platform_dependent(bits, cpu=rounded, default=guarded)


def _general(bits: jax.Array, magnitude: jax.Array, words: jax.Array | None, grid: Grid, mode: Rounding) -> jax.Array:
    """Round codes to the grid as if it had no end. Where there was a NaN, the result may be anything."""
    carrier = grid.carrier
    kept: Any = grid.most
    dropped: Any = grid.integer(carrier.magnitude >> grid.most)
    if not grid.constant:
        place = lax.clz(magnitude) if grid.by_leading_zeros else magnitude >> grid.integer(carrier.fraction)
        place += grid.integer(grid.offset)
        kept = jnp.clip(place, grid.integer(grid.fewest), grid.integer(grid.most))
        dropped = grid.integer(carrier.magnitude) >> kept
    cut = Cut(grid, bits, magnitude, kept, dropped, words)
    result = magnitude
    if not grid.exact:
        result = (magnitude + mode.increment(cut) if mode.increment else magnitude) & ~dropped
    if grid.careful:
        # Truncation never ends below a number that it has passed; an increment is too small below the smallest.
        least = jnp.maximum(result, grid.integer(grid.smallest)) if mode.increment else result
        result = jnp.where(mode.reaches_smallest(cut), least, grid.integer(0))
    return _flushed(result, grid)


def _flushed(result: jax.Array, grid: Grid) -> jax.Array:
    if grid.flush_below:
        result = jnp.where(result < grid.integer(grid.flush_below), grid.integer(0), result)
    return jnp.maximum(result, grid.integer(grid.floor)) if grid.floor else result


def _magic_works(grid: Grid) -> bool:
    format, carrier = grid.format, grid.carrier
    room = carrier.precision - format.precision
    smallest_exponent = format.min_exponent - format.precision + 1
    within = smallest_exponent > carrier.min_exponent and format.max_exponent + room < carrier.max_exponent
    return format.precision > 1 and room > 0 and within


def _nearest_even_by_addition(magnitude: jax.Array, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """Round by adding, and taking off again, the power of two whose last bit is worth what the format's is.

    The sum is rounded by the hardware, to nearest and ties to even: the power is an even multiple of that worth. It is
    made from the exponent field, never a literal, as XLA regroups sums with literals. A product that comes in cannot be
    contracted with the sum, as its sign has been taken off by an integer operation. Subnormals of the carrier are below
    half of the format's smallest number, so that flushing them is what rounding does. Beyond the largest number the
    power may be anything: the result is replaced; a NaN stays one in any sum.
    """
    format, carrier = grid.format, grid.carrier
    least = (format.min_exponent - carrier.min_exponent + 1) << carrier.fraction
    shift = (carrier.precision - format.precision) << carrier.fraction
    field = jnp.maximum(magnitude & grid.integer(carrier.infinity), grid.integer(least)) + grid.integer(shift)
    x, power = (lax.bitcast_convert_type(part, carrier.float) for part in (magnitude, field))
    result = lax.bitcast_convert_type((x + power) - power, carrier.signed)
    # The first number that is rounded beyond the largest is the tie above it if the largest is odd, else the next.
    first = grid.largest + (grid.beyond - grid.largest) // 2 + (format.max_significand % 2 == 0)
    beyond = x >= lax.bitcast_convert_type(grid.integer(first), carrier.float)  # false of a NaN
    return _flushed(result, grid), beyond


def _scaling_works(grid: Grid) -> bool:
    format, carrier = grid.format, grid.carrier
    # Then the carrier's subnormals are below the resolution of the random bits, and no scale leaves the normal numbers.
    fine = format.min_exponent - format.precision + 1 >= carrier.min_exponent + carrier.fraction
    return 2 < format.precision < carrier.precision and fine and format.max_exponent < carrier.max_exponent


def _stochastic_by_scaling(magnitude: jax.Array, words: jax.Array | None, grid: Grid) -> tuple[jax.Array, jax.Array]:
    """Scale so that the format's numbers are the integers, and round up with the probability of the fraction.

    Every float operation here is exact: scaling by powers of two, the fraction of a number, 2 less a number in [1, 2).
    """
    format, carrier = grid.format, grid.carrier
    assert words is not None
    least = (format.min_exponent - carrier.min_exponent + 1) << carrier.fraction
    field = jnp.maximum(magnitude & grid.integer(carrier.infinity), grid.integer(least))
    one = (1 - carrier.min_exponent) << carrier.fraction
    up = (format.precision - 1) << carrier.fraction
    # One over the worth of the last bit, and that worth; their fields add up to twice that of one.
    scale = grid.integer(_wrapped(2 * one + up, carrier)) - field
    unit = field - grid.integer(up)
    x, scale, unit = (lax.bitcast_convert_type(part, carrier.float) for part in (magnitude, scale, unit))
    scaled = x * scale
    whole = jnp.floor(scaled)
    random = (words >> carrier.unsigned(carrier.width - carrier.fraction)) | carrier.unsigned(one)
    threshold = carrier.float(2) - lax.bitcast_convert_type(random, carrier.float)
    whole = jnp.where(scaled - whole >= threshold, whole + carrier.float(1), whole)
    rounded = whole * unit
    largest = lax.bitcast_convert_type(grid.integer(grid.largest), carrier.float)
    return _flushed(lax.bitcast_convert_type(rounded, carrier.signed), grid), rounded > largest


def _wrapped(value: int, carrier: Carrier) -> int:
    """The signed integer of the carrier's width that is the same modulo a power of two."""
    half = 1 << (carrier.width - 1)
    return (value + half) % (2 * half) - half


def _end(
    bits: jax.Array,
    magnitude: jax.Array,
    result: jax.Array,
    beyond: jax.Array,
    grid: Grid,
    mode: Rounding,
    canonical: bool,
    is_nan_there: bool,
) -> jax.Array:
    """Put what stands for overflow, infinity, zero and NaN in the place of rounded codes, and the signs back.

    Args:
        bits: The numbers before rounding, with their signs.
        magnitude: Their codes.
        result: The codes, rounded as if the format had no end.
        beyond: Where they are beyond the largest.
        grid: The format among the carrier's codes.
        mode: The mode of rounding.
        canonical: Whether every NaN is the canonical one.
        is_nan_there: Whether a NaN has a NaN in `result`, and is not `beyond`.

    Returns:
        The bits of the results.
    """
    format, carrier = grid.format, grid.carrier
    infinity, nan, largest = (grid.integer(code) for code in (carrier.infinity, carrier.nan, grid.largest))
    ends = {"infinity": infinity, "nan": nan, "saturate": largest}
    positive, negative = (ends[format.overflow if over else "saturate"] for over in mode.overflows)
    infinite = infinity if format.has_infinity else ends[format.overflow]
    if positive != negative:
        result = jnp.where(beyond, jnp.where(bits < 0, negative, positive), result)
    elif positive == largest and not is_nan_there:
        result = jnp.minimum(result, largest)
    elif not (grid.exact and positive == infinity and grid.beyond == infinity):
        result = jnp.where(beyond, positive, result)
    if is_nan_there:
        if positive != infinite:
            result = jnp.where(magnitude == infinity, infinite, result)
    elif infinite == largest:
        result = jnp.where(magnitude > infinity, nan, result)
    else:
        result = jnp.where(magnitude >= infinity, magnitude if infinite == infinity else nan, result)
    return _with_sign(bits, result, grid, canonical)


def _with_sign(bits: jax.Array, result: jax.Array, grid: Grid, canonical: bool) -> jax.Array:
    """Give codes their signs, as far as the format has any."""
    format, carrier = grid.format, grid.carrier
    infinity, nan = grid.integer(carrier.infinity), grid.integer(carrier.nan)
    signed = result | (bits & grid.integer(carrier.sign))
    if not format.zero:
        signed = jnp.where(bits <= 0, nan, result)
    elif not format.signed:
        signed = jnp.where((bits < 0) & (bits != grid.integer(carrier.sign)), nan, result)
    elif not format.signed_zero:
        signed = jnp.where(result == 0, result, signed)
    if canonical or grid.exact:
        # For a format as wide as the carrier this choice is all that is left, and it is needed: integer operations
        # between two float operations keep XLA from contracting them.
        signed = jnp.where(result > infinity, nan, signed)
    return signed
