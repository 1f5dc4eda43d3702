"""Sums of any number of terms without any error: in integers, as wide as the range of a format.

Every number of a format is a whole number of its smallest spacing. That integer is cut into digits of a few bits each,
small enough that all terms' digits of one place can be added (or multiplied and added, by a plain matrix product) with
no rounding. Carries are settled at the end, and the total is rounded to odd in float64, from where one more rounding,
in whatever mode, is the rounding of the exact total (Boldo & Melquiond 2008).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.carriers import widen
from precond_lab.arithmetic.formats import Format

SUM_DIGIT = 30
"""Bits of a digit in sums: 2^32 of them add up within 62 bits."""
FULL = 62
"""Bits of the total that are kept before what is below is only known to be zero or not."""
PANEL = 2**24
"""Elements of the digits of a result that are worked on at once."""


class Exact(NamedTuple):
    """An exact total.

    Attributes:
        value: in float64, rounded to odd (or, of float64 numbers, to nearest even).
        witness: NaN where a term is NaN, infinite where one is infinite, else zero: for the count of events.
    """

    value: jax.Array
    witness: jax.Array


def exact_sum(x: jax.Array, format: Format, *, cumulative: bool = False, down: bool = False) -> Exact:
    """Sum over the first axis.

    Args:
        x: numbers of the format, [k, ...] with k >= 1, in float32 or float64.
        format: their format.
        cumulative: whether all partial sums are wanted.
        down: whether rounding is towards minus infinity, in which x - x is -0.

    Returns:
        The sum, [...], or the partial sums, [k, ...].
    """
    add = jnp.cumsum if cumulative else jnp.sum
    return exact_total(lambda terms: add(terms[0], axis=0, dtype=terms[0].dtype), [x], format, down=down)


def exact_total(add: Callable, terms: list[jax.Array], format: Format, *, down: bool = False) -> Exact:
    """Totals of terms in any arrangement.

    Args:
        add: makes an array of totals out of arrays of the shapes of the terms, of integers and of floats, each total
            being the sum of some of the elements.
        terms: numbers of the format, in float32 or float64.
        format: their format.
        down: whether rounding is towards minus infinity, in which x - x is -0.

    Returns:
        The totals.
    """
    terms = [_wide(x) for x in terms]
    low, high = _range(format)
    places = jnp.arange(-(-(high - low) // SUM_DIGIT), dtype=jnp.int64)
    limbs = lax.map(lambda place: add([_digit(x, low, place, SUM_DIGIT) for x in terms]), places)
    total = _assemble(limbs, low, SUM_DIGIT, nearest=format.precision == 53)
    negative = add([jnp.signbit(x).astype(jnp.int64) for x in terms])
    count = add([jnp.ones(x.shape, jnp.int64) for x in terms])
    total = _sign_of_zero(total, negative, count, down=down)
    special = add([_class_of(x) for x in terms])
    witness = add([_severity(x) for x in terms])
    return Exact(jnp.where(jnp.isfinite(special), total, special), witness)


def exact_dot(left: jax.Array, right: jax.Array, among: Sequence[Format], *, down: bool = False) -> Exact:
    """Sum the products over the first axis.

    Args:
        left: numbers of any of the formats, [k, batch, m] with k >= 1, in float32 or float64.
        right: likewise, [k, batch, n].
        among: the formats, that of results first; if that is float64 the sums are rounded to nearest, not to odd.
        down: whether rounding is towards minus infinity.

    Returns:
        The sums, [batch, m, n].
    """
    left, right = _wide(left), _wide(right)
    k, batch, m = left.shape
    low, high = _range(*among)
    nearest = among[0].precision == 53
    width = min(20, (53 - math.ceil(math.log2(max(k, 2)))) // 2)
    count = -(-(high - low) // width)
    rows = min(m, max(1, PANEL // (batch * right.shape[2] * 2 * count)))

    def panel(rows: jax.Array) -> jax.Array:
        limbs = _multiply(rows, right, low, width, count)
        return _assemble(limbs, 2 * low, width, nearest=nearest)

    if rows >= m:
        total = panel(left)
    else:
        split = jnp.pad(left, ((0, 0), (0, 0), (0, -m % rows))).reshape(k, batch, -1, rows)
        total = jnp.moveaxis(lax.map(panel, jnp.moveaxis(split, 2, 0)), 0, 1)
        total = total.reshape(batch, -1, right.shape[2])[:, :m]
    total = lax.cond(jnp.any(total == 0), partial(_zeros_of_dot, down=down), lambda t, *_: t, total, left, right)
    finite = jnp.all(jnp.isfinite(left)) & jnp.all(jnp.isfinite(right))
    value = lax.cond(finite, lambda t, *_: t, _specials_of_dot, total, left, right)
    kind = [jnp.sum(_severity(x), axis=0) for x in (left, right)]
    return Exact(value, kind[0][:, :, None] + kind[1][:, None, :])


def _wide(x: jax.Array) -> jax.Array:
    return x if x.dtype == jnp.float64 else widen(x)


def _range(*among: Format) -> tuple[int, int]:
    """The exponent of the smallest spacing of some formats, and one that all magnitudes lie below."""
    outer = formats.float64
    low = min(format.min_exponent - format.precision for format in among) + 1
    high = max(format.max_exponent for format in among)
    return max(low, outer.min_exponent - outer.precision + 1), min(high, outer.max_exponent) + 1


def _digit(x: jax.Array, low: int, place: jax.Array, width: int) -> jax.Array:
    """One digit of numbers as integers of units of 2^low, with their sign; of no meaning where they are not finite."""
    bits = lax.bitcast_convert_type(x, jnp.int64)
    field = (bits >> np.int64(52)) & np.int64(2047)
    fraction = bits & np.int64(2**52 - 1)
    significand = jnp.where(field == 0, fraction, fraction | np.int64(2**52))
    shift = jnp.maximum(field, 1) - np.int64(1075 + low) - place * np.int64(width)
    up = significand << jnp.clip(shift, 0, width)
    down = significand >> jnp.clip(-shift, 0, 63)
    digit = jnp.where(shift >= 0, up, down) & np.int64(2**width - 1)
    digit = jnp.where(shift >= width, np.int64(0), digit)
    return jnp.where(bits < 0, -digit, digit)


def _multiply(left: jax.Array, right: jax.Array, low: int, width: int, count: int) -> jax.Array:
    """The digits of the sums of products, not yet carried: [2 count - 1, batch, m, n].

    Digits below 2^width, k of which are multiplied and added in float64: every partial sum is an integer below 2^53.
    """
    places = jnp.arange(count, dtype=jnp.int64)
    planes = lax.map(lambda place: _digit(right, low, place, width).astype(jnp.float64), places)
    (_, batch, m), n = left.shape, right.shape[2]

    def step(limbs: jax.Array, place: jax.Array) -> tuple:
        plane = _digit(left, low, place, width).astype(jnp.float64)

        def add(limbs: jax.Array) -> jax.Array:
            product = lax.map(lambda other: _matmul(plane, other), planes).astype(jnp.int64)
            old = lax.dynamic_slice_in_dim(limbs, place, count)
            return lax.dynamic_update_slice_in_dim(limbs, old + product, place, axis=0)

        return lax.cond(jnp.any(plane != 0), add, lambda limbs: limbs, limbs), None

    start = jnp.zeros((2 * count - 1, batch, m, n), jnp.int64)
    return lax.scan(step, start, places)[0]


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    """[k, batch, m] by [k, batch, n], in the dtype they have."""
    return lax.dot_general(left, right, (((0,), (0,)), ((1,), (1,))), precision=lax.Precision.HIGHEST)


def _carried(limbs: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """Digits from 0 to 2^width - 1, and the last carry, which is negative where the number is."""
    start = jnp.zeros(limbs.shape[1:], jnp.int64)

    def step(carry: jax.Array, limb: jax.Array) -> tuple:
        total = limb + carry
        return total >> np.int64(width), total & np.int64(2**width - 1)

    carry, digits = lax.scan(step, start, limbs)
    return digits, carry


def _assemble(limbs: jax.Array, low: int, width: int, *, nearest: bool) -> jax.Array:
    """The number whose digits these are, rounded to odd in float64, or to nearest even; its sign if zero is +."""
    more = -(-64 // width)
    limbs = jnp.concatenate([limbs, jnp.zeros((more, *limbs.shape[1:]), jnp.int64)])
    negative = _carried(limbs, width)[1] < 0
    digits, _ = _carried(jnp.where(negative, -limbs, limbs), width)
    zero = jnp.zeros(limbs.shape[1:], jnp.int64)

    def step(carry: tuple, digit: jax.Array) -> tuple:
        total, rest, exponent = carry
        room = np.int64(FULL - 64) + lax.clz(total)
        taken = jnp.minimum(room, np.int64(width))
        left_out = np.int64(width) - taken
        rest |= digit & ((np.int64(1) << left_out) - np.int64(1))
        return ((total << taken) | (digit >> left_out), rest, exponent + left_out), None

    (total, rest, exponent), _ = lax.scan(step, (zero, zero, zero), digits, reverse=True)
    magnitude = _encode(total, rest != 0, exponent + np.int64(low), nearest=nearest)
    return lax.bitcast_convert_type(magnitude | (negative.astype(jnp.int64) << np.int64(63)), jnp.float64)


def _encode(total: jax.Array, sticky: jax.Array, exponent: jax.Array, *, nearest: bool) -> jax.Array:
    """The bits of total * 2^exponent, and a little more where sticky, as a float64."""
    length = np.int64(64) - lax.clz(total)
    unit = jnp.maximum(length + exponent - np.int64(53), np.int64(-1074))
    drop = jnp.clip(unit - exponent, 0, 63)
    unit = exponent + drop
    kept = total >> drop
    rest = total & ((np.int64(1) << drop) - np.int64(1))
    if nearest:
        half = jnp.where(drop > 0, np.int64(1) << jnp.maximum(drop - 1, 0), np.int64(-1))
        up = (rest > half) | ((rest == half) & (sticky | (kept & 1 == 1)))
        kept += (up & (drop > 0)).astype(jnp.int64)
    else:
        kept |= (sticky | (rest != 0)).astype(jnp.int64)
    scaled = lax.bitcast_convert_type(kept.astype(jnp.float64), jnp.int64) + (unit << np.int64(52))
    subnormal = (unit == -1074) & (kept < np.int64(2**52))
    bits = jnp.where(kept == 0, np.int64(0), jnp.where(subnormal, kept, scaled))
    beyond = (kept != 0) & (64 - lax.clz(kept) + unit > 1024)
    infinity = np.int64(2047 << 52)
    return jnp.where(beyond, infinity if nearest else infinity - np.int64(1), bits)


def _sign_of_zero(total: jax.Array, negative: jax.Array, terms: jax.Array, *, down: bool) -> jax.Array:
    """A zero is negative where all terms are; rounding down also where any term is."""
    minus = (negative > 0) if down else (negative == terms)
    return jnp.where((total == 0) & minus, -0.0, total)


def _zeros_of_dot(total: jax.Array, left: jax.Array, right: jax.Array, *, down: bool) -> jax.Array:
    minus = [jnp.signbit(x).astype(jnp.float64) for x in (left, right)]
    negative = _matmul(minus[0], 1 - minus[1]) + _matmul(1 - minus[0], minus[1])
    return _sign_of_zero(total, negative, jnp.float64(left.shape[0]), down=down)


def _severity(x: jax.Array) -> jax.Array:
    """NaN, infinity or zero."""
    return jnp.where(jnp.isfinite(x), 0.0, jnp.abs(x))


def _class_of(x: jax.Array) -> jax.Array:
    """Infinities and NaNs as they are, of other numbers only the sign: sums of these overflow nowhere."""
    return jnp.where(jnp.isfinite(x), jnp.sign(x), x)


def _specials_of_dot(total: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    special = _matmul(_class_of(left), _class_of(right))
    return jnp.where(jnp.isfinite(special), total, special)
