"""Matrix products as matrix units form them: see `matrix_units` for what their records mean."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic.carriers import widen
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.machine import sum_to_odd
from precond_lab.arithmetic.matrix_units import MatrixUnit
from precond_lab.arithmetic.rounding import round_bits

LOWEST = -126
"""The exponent that a zero term has in the alignment: that of the smallest normal float32."""
ELEMENTS = 2**22
"""Products of a group that are held at once."""


def unit_product(unit: MatrixUnit, left: jax.Array, right: jax.Array, format: Format) -> jax.Array:
    """Sum the products over the first axis as a unit does.

    Args:
        unit: the unit.
        left: numbers of the format of operands in float32 or float64, [k, batch, m] with k >= 1.
        right: likewise, [k, batch, n].
        format: the format of operands, of at most 26 bits.

    Returns:
        The contents of the accumulators in float64, [batch, m, n].
    """
    pieces = []
    for x in (left, right):
        wide = x if x.dtype == jnp.float64 else widen(x)
        if unit.flush:
            wide = jnp.where(jnp.abs(wide) < format.min_normal, jnp.copysign(0.0, wide), wide)
        # Nothing is added by a product of -0
        wide = jnp.pad(
            wide, ((0, -len(wide) % unit.group), (0, 0), (0, 0)), constant_values=-0.0 if not pieces else 0.0
        )
        pieces.append(wide.reshape(-1, unit.group, *wide.shape[1:]))
    (_, _, batch, m), n = pieces[0].shape, right.shape[2]
    step = partial(_aligned if unit.fraction_bits is not None else _in_turn, unit, format)

    def rows(left: jax.Array) -> jax.Array:
        start = jnp.full((batch, left.shape[3], n), 0.0 if unit.fraction_bits is not None else -0.0, jnp.float64)
        return lax.scan(lambda total, pair: (step(total, *pair), None), start, (left, pieces[1]))[0]

    size = max(1, ELEMENTS // (unit.group * batch * n))
    if size >= m:
        return rows(pieces[0])
    split = jnp.pad(pieces[0], ((0, 0), (0, 0), (0, 0), (0, -m % size)))
    split = jnp.moveaxis(split.reshape(*split.shape[:3], -1, size), 3, 0)
    return jnp.moveaxis(lax.map(rows, split), 0, 1).reshape(batch, -1, n)[:, :m]


def _aligned(unit: MatrixUnit, format: Format, total: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """One step of aligned terms, in 64-bit integers: [group, batch, m] by [group, batch, n]."""
    bits = unit.fraction_bits or 0
    exponents = _exponent(left, format)[..., :, None] + _exponent(right, format)[..., None, :]
    product = left[..., :, None] * right[..., None, :]
    exponents = jnp.where(product == 0, np.int64(LOWEST), exponents)
    own = jnp.where(total == 0, np.int64(LOWEST), _exponent(total, unit.accumulator))
    largest = jnp.maximum(jnp.max(exponents, axis=0), own)
    up = _power_of_two(bits - largest)
    units = jnp.sum((product * up).astype(jnp.int64), axis=0) + (total * up).astype(jnp.int64)
    value = _round(unit, units.astype(jnp.float64) * _power_of_two(largest - bits))
    finite = jnp.isfinite(left).all() & jnp.isfinite(right).all() & jnp.isfinite(total).all()
    special = partial(_special, left=left, right=right)
    return lax.cond(finite, lambda value, total: value, special, value, total)


def _special(value: jax.Array, total: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """Infinities and NaNs as IEEE arithmetic has them; all other terms count by their signs alone."""
    a, b, c = (jnp.where(jnp.isfinite(x), jnp.sign(x), x) for x in (left, right, total))
    plain = jnp.sum(a[..., :, None] * b[..., None, :], axis=0) + c
    return jnp.where(jnp.isfinite(plain), value, plain)


def _in_turn(unit: MatrixUnit, format: Format, total: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """One step whose products are added one after the other, each sum rounded once."""
    places = range(unit.group)
    for i in reversed(places) if unit.backwards else places:
        total = _round(unit, sum_to_odd(left[i][..., :, None] * right[i][..., None, :], total))
        if unit.flush:
            total = jnp.where(jnp.abs(total) < unit.accumulator.min_normal, jnp.copysign(0.0, total), total)
    return total


def _round(unit: MatrixUnit, x: jax.Array) -> jax.Array:
    """To the accumulator's format; what reaches the next power of two beyond its range overflows in every mode."""
    rounded = round_bits(x, unit.accumulator, unit.rounding)
    beyond = jnp.abs(x) >= 2.0 ** (unit.accumulator.max_exponent + 1)
    return jnp.where(beyond, jnp.copysign(jnp.inf, x), rounded)


def _exponent(x: jax.Array, format: Format) -> jax.Array:
    """The exponent of the leading bit, at least the smallest of the format's normal numbers."""
    field = (lax.bitcast_convert_type(x, jnp.int64) >> np.int64(52)) & np.int64(2047)
    return jnp.maximum(field - np.int64(1023), np.int64(format.min_exponent))


def _power_of_two(exponent: jax.Array) -> jax.Array:

    return lax.bitcast_convert_type((exponent + np.int64(1023)) << np.int64(52), jnp.float64)
