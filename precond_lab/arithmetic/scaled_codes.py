"""The kernels of codes with a floating-point scale: integers and code books."""

from fractions import Fraction
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic import codebooks
from precond_lab.arithmetic.blocks import CodeBook, Integer
from precond_lab.arithmetic.rounding import round_bits
from precond_lab.arithmetic.scaling import Parts, absolute_maximum, divide, ends, fence, without_subnormals


@lru_cache
def _largest_scale(steps: int, dtype: np.dtype) -> np.ndarray:
    """The largest float s with ``steps * s`` no more than the largest float."""
    largest = np.finfo(dtype).max
    scale = dtype.type(largest / dtype.type(steps))
    while Fraction(float(scale)) * steps > Fraction(float(largest)):
        scale = np.nextafter(scale, dtype.type(0))
    return np.asarray(scale)


def _settle_scale(raw: jax.Array, finite: jax.Array, steps: int) -> jax.Array:
    dtype = np.dtype(raw.dtype)
    kept = lax.clamp(np.finfo(dtype).tiny, raw, _largest_scale(steps, dtype))
    return jnp.where(finite, kept, jnp.full_like(kept, np.nan))


def _round_integer(y: jax.Array, record: Integer, rounding: str, words: jax.Array | None) -> jax.Array:
    if rounding == "nearest_even":
        return jnp.clip(lax.round(y, lax.RoundingMethod.TO_NEAREST_EVEN), -record.steps, record.steps)
    return round_bits(y, record.grid, rounding, words)


def _integers(
    x: jax.Array, record: Integer, axes: tuple[int, ...], rounding: str, words: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Integers counted from zero, as floats; scales; codes of zero. In a group that becomes NaN the first two are."""
    if record.symmetric:
        top = absolute_maximum(x, axes)
        scale = _settle_scale(divide(top, record.steps), jnp.isfinite(top), record.steps)
        return _round_integer(divide(without_subnormals(x), scale), record, rounding, words), scale, None
    # Halves, as the difference of the ends may overflow.
    high, low = (without_subnormals(end) * 0.5 for end in ends(x, axes))
    high, low = jnp.maximum(high, 0), jnp.minimum(low, 0)
    scale = _settle_scale(divide(high - low, record.steps / 2), jnp.isfinite(high - low), record.steps)
    from_end = lax.round(divide(-2 * low, scale), lax.RoundingMethod.TO_NEAREST_EVEN)
    zeros = jnp.where(jnp.isnan(scale), 0, from_end).astype(np.int32) + np.int32(record.smallest)
    zeros = jnp.clip(zeros, record.smallest, record.largest)
    integer = _round_integer(divide(without_subnormals(x), scale), record, rounding, words)
    first, last = (np.int32(end) - zeros for end in (record.smallest, record.largest))
    return lax.clamp(*jnp.broadcast_arrays(first.astype(x.dtype), integer, last.astype(x.dtype))), scale, zeros


def encode_integer(
    x: jax.Array, record: Integer, axes: tuple[int, ...], rounding: str, words: jax.Array | None
) -> Parts:
    """Quantize groups to integers with a scale.

    Args:
        x: float32 or float64 array, divided into groups.
        record: what to quantize to.
        axes: the axes that groups extend along.
        rounding: of the elements, a name in `ROUNDINGS`.
        words: random words, for stochastic rounding.

    Returns:
        Integers, scales, and for asymmetric integers the codes of zero. Of a group with an infinity or NaN, the code of
        zero, and NaN.
    """
    integer, scale, zeros = _integers(x, record, axes, rounding, words)
    dtype = np.int8 if record.bits <= 8 else np.int16
    integer = jnp.where(jnp.isnan(scale), 0, integer).astype(np.int32)
    if zeros is None:
        return Parts(integer.astype(dtype), scale)
    return Parts((integer + zeros).astype(dtype), scale, zeros.astype(dtype))


def round_integer(
    x: jax.Array, record: Integer, axes: tuple[int, ...], rounding: str, words: jax.Array | None
) -> jax.Array:
    """Round groups to integers times a scale: encode and decode at once.

    Args:
        x: float32 or float64 array, divided into groups.
        record: what to quantize to.
        axes: the axes that groups extend along.
        rounding: of the elements, a name in `ROUNDINGS`.
        words: random words, for stochastic rounding.

    Returns:
        The numbers.
    """
    integer, scale, _ = _integers(x, record, axes, rounding, words)
    return fence(jnp.where(integer == 0, jnp.zeros_like(integer), integer) * scale)  # an integer zero has no sign


def decode_integer(parts: Parts, record: Integer, dtype: np.dtype) -> jax.Array:
    """Give the numbers that scaled integers stand for.

    Args:
        parts: codes and scales.
        record: what they were quantized to.
        dtype: of the result, float32 or float64.

    Returns:
        The numbers that they stand for.
    """
    integer = parts.codes.astype(np.int32)
    if parts.zeros is not None:
        integer = integer - parts.zeros.astype(np.int32)
    return fence(integer.astype(dtype) * parts.scales)


def encode_book(x: jax.Array, record: CodeBook, axes: tuple[int, ...], rounding: str, words: jax.Array | None) -> Parts:
    """Quantize groups to the numbers of a code book.

    Args:
        x: float32 or float64 array, divided into groups.
        record: what to quantize to.
        axes: the axes that groups extend along.
        rounding: "nearest_even".
        words: random words, for stochastic rounding.

    Returns:
        Codes, and the absolute maxima. Of a group with an infinity or NaN, something and NaN.
    """
    if rounding != "nearest_even":
        raise ValueError(f"a code book takes the nearest number: rounding='nearest_even'; got {rounding!r}")
    top = absolute_maximum(x, axes)
    scale = _settle_scale(top, jnp.isfinite(top), 1)
    return Parts(codebooks.nearest(divide(without_subnormals(x), scale), record), scale)


def decode_book(parts: Parts, record: CodeBook, dtype: np.dtype) -> jax.Array:
    """Give the numbers that codes of a code book stand for.

    Args:
        parts: codes and scales.
        record: what they were quantized to.
        dtype: of the result, float32 or float64.

    Returns:
        The numbers that they stand for.
    """
    table = codebooks.values(record).astype(dtype)
    return fence(codebooks.take(table, parts.codes.astype(np.int32)) * parts.scales)
