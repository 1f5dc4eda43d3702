"""Scales: the largest magnitude of a group, division by it, and multiplication by powers of two.

XLA on a CPU flushes subnormal numbers, divides by constants and scalars through their reciprocals, and contracts a
product with a sum that follows it. What is here keeps it from all three.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic.carriers import CARRIERS, Carrier


class Parts(NamedTuple):
    """Codes and scales of groups of numbers.

    Attributes:
        codes: of the shape of the numbers.
        scales: of the same shape, but for length 1 along the axes that groups extend along.
        zeros: codes of zero, likewise; None where it is 0 throughout.
        tensor_scale: what the scales of all groups are relative to; None if nothing.
    """

    codes: jax.Array
    scales: jax.Array
    zeros: jax.Array | None = None
    tensor_scale: jax.Array | None = None


def carrier_of(x: jax.Array | np.ndarray) -> Carrier:
    """Find the carrier of an array.

    Args:
        x: float32 or float64 array.

    Returns:
        The carrier.

    Raises:
        TypeError: If the array is of another dtype.
    """
    if x.dtype not in CARRIERS:
        raise TypeError(f"quantization takes float32 or float64; got {x.dtype}: convert it with astype first")
    return CARRIERS[np.dtype(x.dtype)]


def absolute_maximum(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Give the largest magnitude of every group; NaN if one is not finite. Subnormal numbers may count as zero.

    Args:
        x: array.
        axes: the axes that groups extend along.

    Returns:
        Array of the shape of `x`, with length 1 along the axes.
    """
    # Float reductions without abs: XLA vectorizes these, but neither a reduction of magnitudes nor one of integers.
    high, low = ends(x, axes)
    return jnp.abs(jnp.maximum(high, -low))


def ends(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Give the largest and the smallest number of every group; NaN if there is a NaN or an infinity in it.

    XLA on a CPU loses NaNs in maxima of many numbers (jnp.max of 8,000 with one NaN need not be NaN). The sum of all
    ``x - x`` is NaN or 0, and tells.

    Args:
        x: array.
        axes: the axes that groups extend along.

    Returns:
        Two arrays of the shape of `x`, with length 1 along the axes.
    """
    axes = tuple(sorted(axis % x.ndim for axis in axes))
    high, low, zero = lax.reduce_max(x, axes), lax.reduce_min(x, axes), lax.reduce_sum(x - x, axes)
    return lax.expand_dims(high + zero, axes), lax.expand_dims(low + zero, axes)


def divide(a: jax.Array, b: jax.Array | float) -> jax.Array:
    """Divide, correctly rounded.

    XLA multiplies by the reciprocal of a divisor that is a constant or a scalar. One that depends on whether the
    dividend is NaN, and so does not matter there, is neither.

    Args:
        a: array.
        b: array or number that broadcasts with it.

    Returns:
        The quotients.
    """
    return a / jnp.where(jnp.isnan(a), a, jnp.asarray(b, a.dtype))


def fence(x: jax.Array) -> jax.Array:
    """Keep a product from being contracted with a sum that follows it, by an integer operation in between.

    Args:
        x: float array.

    Returns:
        The same numbers; every NaN is the canonical one.
    """
    carrier = CARRIERS[np.dtype(x.dtype)]
    bits = lax.bitcast_convert_type(x, carrier.signed)
    nan = (bits & carrier.magnitude) > carrier.infinity
    return lax.bitcast_convert_type(jnp.where(nan, carrier.nan, bits), x.dtype)


def without_subnormals(x: jax.Array) -> jax.Array:
    """Put zeros for numbers below the smallest normal one, as XLA does by itself on some devices.

    Args:
        x: float array.

    Returns:
        Array of the same shape.
    """
    return jnp.where(jnp.abs(x) < jnp.finfo(x.dtype).tiny, jnp.zeros_like(x), x)


def without_minus_zero(x: jax.Array) -> jax.Array:
    """Put +0 for -0, by the bits: to a float comparison on a CPU a subnormal number is zero as well.

    Args:
        x: float array.

    Returns:
        Array of the same shape.
    """
    carrier = CARRIERS[np.dtype(x.dtype)]
    bits = lax.bitcast_convert_type(x, carrier.signed)
    return lax.bitcast_convert_type(jnp.where(bits & carrier.magnitude == 0, 0, bits), x.dtype)


def exponent_of(x: jax.Array) -> jax.Array:
    """Give ``floor(log2(x))`` of positive normal numbers; one less than the smallest exponent below them.

    Args:
        x: array of numbers that are not negative.

    Returns:
        int32 array; of infinity and NaN, one more than the largest exponent.
    """
    carrier = CARRIERS[np.dtype(x.dtype)]
    field = lax.bitcast_convert_type(x, carrier.signed) >> carrier.fraction
    return field.astype(np.int32) + np.int32(carrier.min_exponent - 1)


def scale_down(x: jax.Array, exponent: jax.Array) -> jax.Array:
    """Divide by powers of two, exactly, subnormal numbers included.

    Args:
        x: float array.
        exponent: int32 array that broadcasts with it, such that no quotient overflows.

    Returns:
        ``x / 2**exponent``, but the smallest normal number where the magnitude is less and not zero: all that rounding
        to much larger numbers asks for.
    """
    carrier = CARRIERS[np.dtype(x.dtype)]
    bits = lax.bitcast_convert_type(x, carrier.signed)
    magnitude = bits & carrier.magnitude
    code = magnitude
    if carrier.width == 32:
        # A subnormal is its code times 2**-149, and an integer becomes a float without rounding: normal, and scaled by
        # adding to the exponent field, which may go below zero on the way.
        integer = lax.bitcast_convert_type(magnitude.astype(x.dtype), carrier.signed)
        longest = (carrier.fraction - carrier.min_exponent) << carrier.fraction
        code = jnp.where(magnitude < 1 << carrier.fraction, integer - longest, magnitude)
    code = code - (exponent.astype(carrier.signed) << carrier.fraction)
    code = jnp.where(magnitude == 0, 0, jnp.maximum(code, 1 << carrier.fraction))
    return lax.bitcast_convert_type(code | (bits & ~carrier.magnitude), x.dtype)


def scale_up(x: jax.Array, exponent: jax.Array) -> jax.Array:
    """Multiply by powers of two, exactly, where the products are numbers of the dtype; they may be subnormal.

    Args:
        x: array of zeros and normal numbers.
        exponent: int32 array that broadcasts with it.

    Returns:
        ``x * 2**exponent``.
    """
    carrier = CARRIERS[np.dtype(x.dtype)]
    bits = lax.bitcast_convert_type(x, carrier.signed)
    magnitude = bits & carrier.magnitude
    code = magnitude + (exponent.astype(carrier.signed) << carrier.fraction)
    if carrier.width == 32:
        implicit = 1 << carrier.fraction
        drop = jnp.clip(1 - (code >> carrier.fraction), 0, carrier.fraction + 1)
        significand = (magnitude & (implicit - 1)) | implicit
        code = jnp.where(drop > 0, significand >> drop, code)
    code = jnp.where(magnitude == 0, 0, code)
    return lax.bitcast_convert_type(code | (bits & ~carrier.magnitude), x.dtype)
