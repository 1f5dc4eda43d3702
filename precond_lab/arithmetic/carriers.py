"""The carriers: binary formats of the machine, in whose bits the numbers of other formats are held."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Carrier(NamedTuple):
    """A binary format of the machine.

    The *code* of a number is the integer whose bits are those of its magnitude.
    """

    width: int
    precision: int
    min_exponent: int
    max_exponent: int
    float: type
    signed: type
    unsigned: type

    @property
    def fraction(self) -> int:
        """Number of explicit significand bits."""
        return self.precision - 1

    @property
    def infinity(self) -> int:
        """Code of infinity; larger codes are NaNs. As a mask it is the exponent field."""
        return (self.max_exponent - self.min_exponent + 2) << self.fraction

    @property
    def nan(self) -> int:
        """Code of the canonical NaN: quiet, positive, no payload."""
        return self.infinity | 1 << (self.fraction - 1)

    @property
    def magnitude(self) -> int:
        """Mask of all bits but the sign."""
        return (1 << (self.width - 1)) - 1

    @property
    def sign(self) -> int:
        """Mask of the sign, as a signed integer."""
        return -1 << (self.width - 1)

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
    np.dtype(np.float32): Carrier(32, 24, -126, 127, np.float32, np.int32, np.uint32),
    np.dtype(np.float64): Carrier(64, 53, -1022, 1023, np.float64, np.int64, np.uint64),
}
"""The carriers by dtype."""


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
