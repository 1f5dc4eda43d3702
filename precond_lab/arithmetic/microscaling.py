"""The kernels of block formats whose scales are themselves numbers of a short format: MX and NVFP4."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic import codes, formats
from precond_lab.arithmetic.blocks import MX, NVFP4
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.rounding import round_bits
from precond_lab.arithmetic.scaling import (
    Parts,
    absolute_maximum,
    carrier_of,
    divide,
    exponent_of,
    fence,
    scale_down,
    scale_up,
    without_minus_zero,
)

LARGEST_ENCODING = 2.0**126
"""Of the tensor scale of NVFP4: its reciprocal is the smallest normal number of float32."""


def _shared_exponent(x: jax.Array, record: MX, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The exponents of the scales, and the largest magnitudes that they come from."""
    top = absolute_maximum(x, axes)
    # The exponent of a subnormal maximum is taken one below the smallest: the scale is 2**-127 either way.
    exponent = exponent_of(top) - np.int32(formats.named(record.element).max_exponent)
    return jnp.clip(exponent, -127, 127), top


def encode_mx(x: jax.Array, record: MX, axes: tuple[int, ...], rounding: str, words: jax.Array | None) -> Parts:
    """Quantize groups to a microscaling format.

    Args:
        x: float32 or float64 array, divided into groups.
        record: what to quantize to.
        axes: the axes that groups extend along.
        rounding: of the elements, a name in `ROUNDINGS`.
        words: random words, for stochastic rounding.

    Returns:
        Codes and scales, both code points; of a group with an infinity or NaN, those of zeros and NaN.
    """
    element = formats.named(record.element)
    exponent, top = _shared_exponent(x, record, axes)
    finite = jnp.isfinite(top)
    # In a group that becomes NaN the codes are those of zeros.
    scaled = scale_down(jnp.where(finite, x, jnp.zeros_like(x)), exponent)
    rounded = round_bits(scaled, record.saturating, rounding, words)
    if record.integers:
        places = (rounded * rounded.dtype.type(2 ** (element.precision - 1))).astype(np.int8)
    else:
        places = codes.to_codes(rounded, element)
    return Parts(places, jnp.where(finite, exponent + 127, 255).astype(np.uint8))


def decode_mx(parts: Parts, record: MX, dtype: np.dtype) -> jax.Array:
    """Give the numbers of a microscaling format.

    Args:
        parts: codes and scales.
        record: what they were quantized to.
        dtype: of the result, float32 or float64.

    Returns:
        The numbers that they stand for.
    """
    element = formats.named(record.element)
    if record.integers:
        value = parts.codes.astype(dtype) * dtype.type(2.0 ** (1 - element.precision))
    else:
        value = codes.from_codes(parts.codes, element, dtype)
    exponent = parts.scales.astype(np.int32) - 127
    return jnp.where(exponent == 128, jnp.full_like(value, np.nan), scale_up(value, exponent))


def round_mx(x: jax.Array, record: MX, axes: tuple[int, ...], rounding: str, words: jax.Array | None) -> jax.Array:
    """Round groups to a microscaling format: encode and decode at once, mostly by one addition and one subtraction.

    Args:
        x: float32 or float64 array, divided into groups.
        record: what to quantize to.
        axes: the axes that groups extend along.
        rounding: of the elements, a name in `ROUNDINGS`.
        words: random words, for stochastic rounding.

    Returns:
        The numbers.
    """
    element, carrier = formats.named(record.element), carrier_of(x)
    exponent, top = _shared_exponent(x, record, axes)

    def stepwise(x: jax.Array, exponent: jax.Array) -> jax.Array:
        finite = exponent_of(top) <= carrier.max_exponent
        scaled = scale_down(jnp.where(finite, x, jnp.zeros_like(x)), exponent)
        value = scale_up(round_bits(scaled, record.saturating, rounding, words), exponent)
        value = value if element.signed_zero else without_minus_zero(value)
        return jnp.where(finite, value, jnp.full_like(value, np.nan))

    if rounding != "nearest_even" or not element.subnormals:
        return stepwise(x, exponent)
    # Half of the smallest element must be a normal number, so that flushing subnormals is rounding them; and the power
    # of two that is added must not overflow. In float64 the first always holds.
    smallest = element.min_exponent - element.precision
    least = carrier.min_exponent - smallest + element.max_exponent if carrier.width == 32 else carrier.min_exponent - 1
    most = carrier.max_exponent - (carrier.precision - element.precision)
    reach = exponent_of(top)
    ordinary = jnp.all((reach >= least) & (reach <= most))
    return lax.cond(ordinary, partial(_round_by_addition, element), stepwise, x, exponent)


def _round_by_addition(element: Format, x: jax.Array, exponent: jax.Array) -> jax.Array:
    """Round to nearest even: adding a power of two pushes out the bits that the element lacks.

    With q the unit in the last place that x has in the element format, ``|x| + 2**f q`` lies in the binade of the
    second term, whose numbers of f explicit bits are multiples of q. XLA cannot cancel the two, as q depends on x.
    """
    carrier = carrier_of(x)
    fraction, bias = carrier.fraction, 1 - carrier.min_exponent
    bits = lax.bitcast_convert_type(x, carrier.signed)
    magnitude = bits & carrier.magnitude
    shifted = (exponent + bias).astype(carrier.signed)
    binade = jnp.maximum(magnitude & carrier.infinity, (shifted + element.min_exponent) << fraction)
    power = lax.bitcast_convert_type(binade + ((carrier.precision - element.precision) << fraction), x.dtype)
    rounded = (lax.bitcast_convert_type(magnitude, x.dtype) + power) - power
    explicit = element.max_significand - 2 ** (element.precision - 1)
    largest = ((shifted + element.max_exponent) << fraction) | (explicit << (carrier.precision - element.precision))
    code = lax.bitcast_convert_type(jnp.minimum(rounded, lax.bitcast_convert_type(largest, x.dtype)), carrier.signed)
    signed = code | (bits & ~carrier.magnitude)
    return lax.bitcast_convert_type(signed if element.signed_zero else jnp.where(code == 0, 0, signed), x.dtype)


def _nvfp4(
    x: jax.Array, record: NVFP4, axes: tuple[int, ...], rounding: str, words: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Elements, scales of blocks (NaN where a block becomes NaN), and the scale of the tensor, all as floats."""
    largest, top_scale = record.element.max, record.scale_format.max
    block = absolute_maximum(x, axes).astype(np.float32)
    decode, ideal = None, divide(block, largest)
    if record.tensor_scale:
        tensor = absolute_maximum(block, tuple(range(block.ndim)))
        encode = jnp.minimum(divide(jnp.full_like(tensor, largest * top_scale), tensor), np.float32(LARGEST_ENCODING))
        encode = jnp.where(jnp.isinf(tensor), jnp.full_like(tensor, np.nan), encode)
        decode = divide(jnp.ones_like(encode), encode)
        ideal = ideal * encode
    finite = jnp.isfinite(ideal) & jnp.isfinite(block)
    scale = round_bits(ideal, record.scale_format, "nearest_even")
    scale = jnp.where(finite, scale, jnp.full_like(scale, np.nan))
    reciprocal = divide(jnp.ones_like(scale), scale if decode is None else scale * decode)
    reciprocal = jnp.minimum(reciprocal, np.finfo(np.float32).max)
    product = jnp.where(finite, x * reciprocal.astype(x.dtype), jnp.zeros_like(x))
    return round_bits(product, record.element, rounding, words), scale, decode


def _nvfp4_value(element: jax.Array, scale: jax.Array, decode: jax.Array | None) -> jax.Array:
    exact = element * scale.astype(element.dtype)
    return fence(exact if decode is None else exact * decode.astype(element.dtype))


def encode_nvfp4(x: jax.Array, record: NVFP4, axes: tuple[int, ...], rounding: str, words: jax.Array | None) -> Parts:
    """Quantize groups to NVFP4.

    Args:
        x: float32 or float64 array, divided into groups.
        record: what to quantize to.
        axes: the axes that groups extend along.
        rounding: of the elements, a name in `ROUNDINGS`.
        words: random words, for stochastic rounding.

    Returns:
        Codes, scales (code points as well) and the scale of the tensor by which decoding multiplies.
    """
    element, scale, decode = _nvfp4(x, record, axes, rounding, words)
    scales = codes.to_codes(scale, formats.float8_e4m3fn)
    return Parts(codes.to_codes(element, record.element), scales, None, None if decode is None else decode.reshape(()))


def round_nvfp4(
    x: jax.Array, record: NVFP4, axes: tuple[int, ...], rounding: str, words: jax.Array | None
) -> jax.Array:
    """Round groups to NVFP4: encode and decode at once.

    Args:
        x: float32 or float64 array, divided into groups.
        record: what to quantize to.
        axes: the axes that groups extend along.
        rounding: of the elements, a name in `ROUNDINGS`.
        words: random words, for stochastic rounding.

    Returns:
        The numbers.
    """
    return _nvfp4_value(*_nvfp4(x, record, axes, rounding, words))


def decode_nvfp4(parts: Parts, record: NVFP4, dtype: np.dtype) -> jax.Array:
    """Give the numbers of NVFP4: element times scale is exact, and rounded once when multiplied by that of the tensor.

    Args:
        parts: codes and scales.
        record: what they were quantized to.
        dtype: of the result, float32 or float64.

    Returns:
        The numbers that they stand for.
    """
    element = codes.from_codes(parts.codes, record.element, dtype)
    return _nvfp4_value(element, codes.from_codes(parts.scales, formats.float8_e4m3fn), parts.tensor_scale)
