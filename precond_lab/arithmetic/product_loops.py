"""The fast loop of matrix products: sums in sequence, every product and partial sum rounded to nearest even.

The loop runs in float32, whatever the carrier, and rounds with two multiplications' worth of work. That is right only
for numbers of moderate size, so it comes with a test of the operands: `attempt` says whether its result is the
emulated one, and the caller falls back on the general loop where it is not.

**Rounding.** To round a float32 ``x`` to ``p <= 11`` bits, let ``s = 24 - p`` and compute ``h = 2^s x`` (exact),
``g = h - x`` (rounded), ``r = h - g``. Write ``x`` as an integer X in [2^23, 2^24) times a power of two. Then
``g = (2^s - 1) X``, rounded to a multiple of 2^s where that is at least 2^(23+s): it is ``2^s X - R``, with R a nearest
multiple of 2^s to X; in a tie X is even (s >= 2) and g / 2^s is, hence R / 2^s is. Below 2^(23+s), X is less than
2^23 + 2^(24-s), g is rounded to a multiple of 2^(s-1), and R is 2^23 in either case, because 2^(24-s) <= 2^(s-2) for
s >= 13. So r = R exactly, with the sign of x even if x is a zero, and nothing changes if the compiler contracts any of
the three operations with the one before: 2^s x is exact, and so are the products of the operands.

**Gradual underflow.** A product that may be subnormal in the format is subtracted from ``h = 1.5 * 2^23 q`` at least,
where q is the spacing of the subnormal numbers: that difference is rounded to a multiple of q. Sums need no such care:
they are multiples of q already, so that one below the smallest normal number has at most p bits.

**Subnormals of float32** are flushed. Where the format's smallest numbers are not far above them, the loop demands
that the product of the smallest nonzero operands is so large that no spacing of a rounded product lies below 2^-126;
every sum is a multiple of the least such spacing, so none is subnormal either, in float32 or in the format. Nor may
an operand be.

**Overflow.** A sum s + t rounded to nearest errs by at most abs(t), as s itself is a candidate. Hence a partial sum
exceeds an earlier one by at most twice the sum of the rounded products' magnitudes in between, which the
Cauchy-Schwarz inequality bounds by the norms of the operands' rows and columns. The left operands are multiplied by
2^s alone, and so are bounded themselves.

**Operands** are mostly of the format of results. Those that have been quantized, or rounded to a format of their own,
may have more bits; then products, and 2^s times them, need not be exact, and the loop is not taken.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic import native_loops
from precond_lab.arithmetic.carriers import widen
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import Arithmetic

TILE = 2**16
"""Elements of the result that are worked on at once: they stay in the second-level cache."""
CHUNK = 32
"""Steps between two tests of the partial sums, for formats with little range."""
WORTHWHILE = 2**20
"""Number of multiplications below which a second loop costs more time to compile than it saves."""
SLENDER = 64
"""Products with fewer rows or columns, that of a matrix and a vector among them, are faster without their tests of the
operands."""


class Loop(NamedTuple):
    """What the loop needs to know of an arithmetic.

    Attributes:
        precision: bits of the partial sums; 24 for sums in float32 itself.
        spacing: of the format's subnormal numbers, to which products are rounded; None where they may not occur.
        smallest: what the product of the smallest nonzero operands must be at least.
        largest: what no partial sum may exceed.
        factor: bits that an operand may have: the product of two is exact in float32.
    """

    precision: int
    spacing: float | None
    smallest: float
    largest: float
    factor: int


def loop_of(arithmetic: Arithmetic, *, counting: bool) -> Loop | None:
    """The fast loop for an arithmetic, if there is one.

    Args:
        arithmetic: what is emulated.
        counting: whether events must be counted, as the loop cannot: then products must not underflow.

    Returns:
        The loop's constants; None where the general loop must be taken.
    """
    total, result = arithmetic.accumulator, arithmetic.result
    ordinary = all(f.signed and f.signed_zero and f.zero for f in (total, result))
    known = arithmetic.rounding == "nearest_even" and not arithmetic.fma and ordinary
    if not known or 2 * result.precision > 24:
        return None
    if _is_float32(total):
        return Loop(24, None, 2.0 ** (2 * result.precision - 126), 2.0**126, result.precision)
    if not 2 <= total.precision <= 11:
        return None
    largest = min(total.max, 2.0 ** (126 - 24 + total.precision))
    spacing = total.min_exponent - total.precision + 1
    if total.subnormals and spacing >= -120 and not counting:
        return Loop(total.precision, 2.0**spacing, 0.0, largest, result.precision)
    smallest = 2.0 ** (max(total.min_exponent, -126) + total.precision - 1)
    return Loop(total.precision, None, smallest, largest, result.precision)


def _is_float32(format: Format) -> bool:
    return format.precision == 24 and format.min_exponent == -126 and format.max_exponent == 127 and format.subnormals


def attempt(loop: Loop, left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum the products over the first axis, fast: on a CPU in C where there is a compiler, else in JAX.

    Args:
        loop: the constants of the arithmetic.
        left: numbers in float32 or float64, [k, batch, m] with k >= 1.
        right: likewise, [k, batch, n].

    Returns:
        The sums in float32, [batch, m, n], and whether they are right.
    """
    if right.shape[2] < left.shape[2]:  # the longer rows are those that are worked on at once
        total, good = attempt(loop, right, left)
        return jnp.swapaxes(total, 1, 2), good
    bounds, fits = _bounds(loop, left, right)
    shape = (*left.shape[1:], right.shape[2])

    def run(left: jax.Array, right: jax.Array, bounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        operands = (left.astype(jnp.float32), right.astype(jnp.float32), bounds.astype(jnp.float32))
        whole = partial(_in_tiles, loop, math.inf)
        on_cpu = partial(_in_tiles, loop, TILE)
        if native_loops.target() is not None:
            on_cpu = partial(_natively, loop)
        return lax.platform_dependent(*operands, cpu=on_cpu, default=whole)

    def give_up(*_: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.zeros(shape, jnp.float32), jnp.zeros((), bool)

    return lax.cond(fits, run, give_up, left, right, bounds)


def _natively(loop: Loop, left: jax.Array, right: jax.Array, bounds: jax.Array) -> tuple[jax.Array, jax.Array]:
    numbers = (2.0 ** (24 - loop.precision), _least(loop), loop.largest, 0 if len(bounds) == 1 else CHUNK)
    return native_loops.call(jnp.swapaxes(left, 0, 1), jnp.swapaxes(right, 0, 1), bounds, numbers)


def _least(loop: Loop) -> float:
    """The magnitude that a product is subtracted from at least."""
    return 0.0 if loop.spacing is None else 1.5 * 2.0**23 * loop.spacing


def _bounds(loop: Loop, left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How much the magnitude of a partial sum can grow within each chunk, and whether the operands are fit at all.

    In float64, where no square of a float32 overflows or underflows. NaN and infinity fail every comparison here or
    in the loop.
    """
    k = left.shape[0]
    size = CHUNK if loop.largest < 2.0**40 else k
    norms, smallest, fits = [], [], jnp.ones((), bool)
    more_bits = np.int64(2 ** (53 - loop.factor) - 1)
    for x, most in ((left, 2.0 ** (126 - 24 + loop.precision)), (right, 2.0**126)):
        wide = widen(x) if x.dtype == jnp.float32 else x
        squares = jnp.pad(wide * wide, ((0, -k % size), (0, 0), (0, 0)))
        norms.append(jnp.sqrt(jnp.max(jnp.sum(squares.reshape(-1, size, *x.shape[1:]), axis=1), axis=(1, 2))))
        smallest.append(jnp.min(jnp.where(wide == 0, np.float64(np.inf), jnp.abs(wide))))
        short = jnp.all(lax.bitcast_convert_type(wide, jnp.int64) & more_bits == 0)
        fits &= short & jnp.all(norms[-1] <= most) & (smallest[-1] >= 2.0**-126)
    # Twice the rounded products, which exceed the exact ones by 1 part in 2^p at the most and half a spacing
    bounds = np.float64(3) * norms[0] * norms[1] + np.float64(2 * size * (loop.spacing or 0.0))
    fits &= (smallest[0] * smallest[1] >= loop.smallest) & jnp.all(bounds <= loop.largest)
    return bounds, fits


def _in_tiles(
    loop: Loop, tile: float, left: jax.Array, right: jax.Array, bounds: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Work on one piece of the result after the other: some members of the batch, or some rows of one."""
    (k, batch, m), n = left.shape, right.shape[2]
    chunks = bounds.shape[0]
    # A product of -0 is added without any effect: so the terms are filled up.
    more = -k % chunks if chunks == 1 else chunks * CHUNK - k
    left = jnp.pad(left, ((0, more), (0, 0), (0, 0)), constant_values=np.float32(-0.0))
    right = jnp.pad(right, ((0, more), (0, 0), (0, 0)))
    members, rows = (1, max(1, int(tile // n))) if m * n > tile else (min(batch, tile // (m * n)), m)
    members = batch if tile == math.inf else int(members)
    left = _split(left, members, rows, chunks)
    right = _split(right, members, n, chunks)[:, 0]
    outer, inner = left.shape[:2]
    if outer * inner == 1:
        total, right_ok = _tile(loop, left[0, 0], right[0], bounds)
        return total[:batch, :m], right_ok

    def panels(operands: tuple) -> tuple:
        return lax.map(lambda rows: _tile(loop, rows, operands[1], bounds), operands[0])

    totals, good = lax.map(panels, (left, right))  # [outer, inner, members, rows, n]
    totals = jnp.swapaxes(totals, 1, 2).reshape(outer * members, inner * rows, n)
    return totals[:batch, :m], jnp.all(good)


def _split(x: jax.Array, members: int, rows: int, chunks: int) -> jax.Array:
    """From [k, batch, m] to [batch / members, m / rows, chunks, k / chunks, members, rows]."""
    k, batch, m = x.shape
    x = jnp.pad(x, ((0, 0), (0, -batch % members), (0, -m % rows)))
    x = x.reshape(chunks, k // chunks, x.shape[1] // members, members, x.shape[2] // rows, rows)
    return jnp.transpose(x, (2, 4, 0, 1, 3, 5))


def _tile(loop: Loop, left: jax.Array, right: jax.Array, bounds: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One tile: [chunks, steps, members, rows] by [chunks, steps, members, n]."""
    scale = np.float32(2.0 ** (24 - loop.precision))

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        x = a * b
        if loop.precision == 24:
            return x
        h = (a * scale) * b
        if loop.spacing is None:
            return h - (h - x)
        least = np.float32(_least(loop)).view(np.int32)
        bits = lax.bitcast_convert_type(h, jnp.int32)
        sign = bits & np.int32(-(2**31))
        h = lax.bitcast_convert_type(jnp.maximum(bits ^ sign, least) | sign, jnp.float32)
        rounded = lax.bitcast_convert_type(h - (h - x), jnp.int32)
        return lax.bitcast_convert_type(rounded | sign, jnp.float32)

    def step(total: jax.Array, pair: tuple) -> tuple:
        x = total + product(pair[0][:, :, None], pair[1][:, None, :])
        if loop.precision < 24:
            h = x * scale
            x = h - (h - x)
        return x, None

    def chunk(carry: tuple, part: tuple) -> tuple:
        total, good = carry
        good &= jnp.max(jnp.abs(total)) + part[2] <= np.float32(loop.largest)
        return (lax.scan(step, total, part[:2])[0], good), None

    start = jnp.full((*left.shape[2:], right.shape[3]), -0.0, jnp.float32)
    (total, good), _ = lax.scan(chunk, (start, jnp.ones((), bool)), (left, right, bounds))
    return total, good
