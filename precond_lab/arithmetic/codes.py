"""Code points of arrays of numbers.

The code of a number that is not negative is its place in the ascending list of those numbers of its format, counted
from zero; infinity follows the largest. The sign, where there is one, is the bit on top. float32 and float64 are such
formats too, so to go from the one code to the other is to move a significand to another place and the exponent to
another bias: integer operations alone, through which XLA cannot flush a subnormal number. `Format.encode` and
`Format.decode` are the same for single numbers, written from the definition.
"""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from precond_lab.arithmetic.formats import Format, float32, float64, named

_CARRIERS = {np.dtype(np.float32): float32, np.dtype(np.float64): float64}


def code_dtype(format: str | Format) -> np.dtype:
    """Give the type of integers that `to_codes` returns.

    Args:
        format: A `Format`, or the name of one.

    Returns:
        The narrowest of uint8, uint16, uint32 and uint64 that has all bits of a code.

    >>> code_dtype("float4_e2m1fn"), code_dtype("tfloat32")
    (dtype('uint8'), dtype('uint32'))
    """
    return np.dtype(f"uint{max(8, 1 << (named(format).bits - 1).bit_length())}")


def to_codes(x: ArrayLike | jax.Array, format: str | Format) -> jax.Array:
    """Give the code points of numbers that are values of a format already.

    Args:
        x: float32 or float64 values of any shape, in an array of JAX or NumPy, a list, or a number (which Python holds
            as float64), each one a value of the format, as `round_to` returns them. Of other numbers, the code means
            nothing.
        format: A `Format`, or the name of one.

    Returns:
        Array of the shape of `x` and the dtype `code_dtype`. Every NaN has the canonical code, `Format.nan_code`; in a
        format without NaN it has that of -0, or of the smallest value if there is no sign.

    Raises:
        TypeError: If `x` is neither float32 nor float64.
        ValueError: If no format has that name, or the dtype of `x` does not hold the format's values.

    >>> to_codes([0.0, 0.5, -1.5, 6.0], "float4_e2m1fn").tolist()
    [0, 1, 11, 7]
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    record, carrier = named(format), _carrier(x.dtype)
    _must_hold(carrier, record)
    with _integers(carrier.bits):
        return _encode(x, format=record, carrier=carrier)


def from_codes(codes: ArrayLike | jax.Array, format: str | Format, dtype: DTypeLike = np.float32) -> jax.Array:
    """Give the values that code points stand for.

    Args:
        codes: Integers of any type and shape, in an array of JAX or NumPy, a list, or a number.
        format: A `Format`, or the name of one.
        dtype: float32 or float64; whether x64 is enabled does not matter.

    Returns:
        Array of the shape of `codes`. A code that stands for nothing, or has bits above those of the format, is NaN;
        that of a subnormal number is zero in a format without subnormals.

    Raises:
        TypeError: If `codes` are no integers, or `dtype` is neither float32 nor float64.
        ValueError: If no format has that name, or `dtype` does not hold the format's values.

    >>> from_codes([0x00, 0x08, 0x7E, 0x7F, 0xB8], "float8_e4m3fn").tolist()
    [0.0, 0.015625, 448.0, nan, -1.0]
    """
    codes = codes if isinstance(codes, jax.Array) else np.asarray(codes)
    if not np.issubdtype(codes.dtype, np.integer):
        raise TypeError(f"codes are integers; got {codes.dtype}: round numbers and take their codes by to_codes")
    record, carrier = named(format), _carrier(np.dtype(dtype))
    _must_hold(carrier, record)
    with _integers(max(carrier.bits, 8 * codes.dtype.itemsize)):
        return _decode(codes, format=record, carrier=carrier)


def _carrier(dtype: np.dtype) -> Format:
    if dtype not in _CARRIERS:
        raise TypeError(f"codes are taken of float32 or float64; got {dtype}: convert it with astype first")
    return _CARRIERS[dtype]


def _must_hold(carrier: Format, format: Format) -> None:
    if not carrier.holds(format):
        wider = "use float64" if float64.holds(format) else "no type of the machine does"
        raise ValueError(f"{carrier} does not hold the values of {format!r}: {wider}")


def _integers(width: int):
    """Allow the integers of this width, for one call alone."""
    return jax.enable_x64(True) if width == 64 else contextlib.nullcontext()


def _parts(index: jax.Array, format: Format) -> tuple[jax.Array, jax.Array]:
    """Take the number at a place of a format apart: an integer significand, and the exponent of its unit."""
    integer, fraction = index.dtype.type, format.precision - 1
    field = (index >> integer(fraction)) + integer(not format.zero)
    implicit = lax.min(field, integer(1))
    significand = (index & integer((1 << fraction) - 1)) | (implicit << integer(fraction))
    return significand, field - implicit + integer(format.min_exponent - fraction)


def _place(significand: jax.Array, unit: jax.Array, format: Format) -> jax.Array:
    """Find the place in a format of ``significand * 2**unit``, which is one of its numbers."""
    integer, fraction = significand.dtype.type, format.precision - 1
    width, lowest = 8 * significand.dtype.itemsize, integer(format.min_exponent)
    binade = lax.max(integer(width - 1) - lax.clz(significand) + unit, lowest)
    shift = unit + integer(fraction) - binade
    placed = (significand << lax.max(shift, integer(0))) >> lax.max(-shift, integer(0))
    # The implicit bit of a normal number is in `placed`, and adds one to the exponent field.
    index = placed + ((binade - lowest) << integer(fraction)) - integer(0 if format.zero else 1 << fraction)
    return jnp.where(significand == integer(0), integer(0), index)


@partial(jax.jit, static_argnames=("format", "carrier"))
def _encode(x: jax.Array, format: Format, carrier: Format) -> jax.Array:
    word = np.dtype(f"uint{carrier.bits}").type
    bits = lax.bitcast_convert_type(x, word)
    sign = bits >> word(carrier.bits - 1)
    magnitude = bits & word(carrier.codes // 2 - 1)
    signed = lax.bitcast_convert_type(magnitude, f"int{carrier.bits}")
    index = lax.bitcast_convert_type(_place(*_parts(signed, carrier), format), word)
    infinity = word(carrier.last_index + 1)
    nan = magnitude > infinity
    if format.has_infinity:
        index = jnp.where(magnitude == infinity, word(format.last_index + 1), index)
    else:
        nan |= magnitude == infinity
    code = index
    if format.signed:
        sign = sign if format.signed_zero else lax.min(sign, index)
        code |= sign << word(format.bits - 1)
    nan_code = format.nan_code
    if nan_code is None:
        nan_code = format.codes // 2 if format.signed else 0
    return jnp.where(nan, word(nan_code), code).astype(code_dtype(format))


@partial(jax.jit, static_argnames=("format", "carrier"))
def _decode(codes: jax.Array, format: Format, carrier: Format) -> jax.Array:
    word = np.dtype(f"uint{carrier.bits}").type
    given = np.dtype(f"uint{8 * codes.dtype.itemsize}").type
    beyond = codes.astype(given) > given(min(format.codes, np.iinfo(given).max + 1) - 1)
    codes = codes.astype(word)
    magnitude_bits = format.bits - format.signed
    index, sign = codes & word((1 << magnitude_bits) - 1), codes >> word(magnitude_bits)
    nothing = beyond | (index > word(format.last_index + format.has_infinity))
    if not format.signed_zero:
        nothing |= (index == word(0)) & (sign > word(0))
    place = _place(*_parts(lax.bitcast_convert_type(index, f"int{carrier.bits}"), format), carrier)
    magnitude = lax.bitcast_convert_type(place, word)
    if format.zero and not format.subnormals:
        magnitude = jnp.where(index < word(1 << (format.precision - 1)), word(0), magnitude)
    if format.has_infinity:
        magnitude = jnp.where(index == word(format.last_index + 1), word(carrier.last_index + 1), magnitude)
    bits = jnp.where(nothing, word(carrier.nan_code), magnitude | (sign << word(carrier.bits - 1)))
    return lax.bitcast_convert_type(bits, f"float{carrier.bits}")
