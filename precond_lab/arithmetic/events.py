"""Counts of the exceptional events of an emulated run."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.rounding import leaves


class Events(NamedTuple):
    """How often an exceptional result arose, over all elements of all operations of a run.

    Attributes:
        overflow: a finite exact result beyond the format's range.
        underflow: a nonzero exact result that became zero.
        invalid: a NaN out of operands that are not NaN.
        divide_by_zero: an infinity at a pole (division by zero, the logarithm of zero).
    """

    overflow: Any
    underflow: Any
    invalid: Any
    divide_by_zero: Any


def none_yet() -> Events:
    """Counters at zero."""
    return Events(*(jnp.zeros((), jnp.int64) for _ in Events._fields))


# Operations that reach infinity at a finite point, as against those that overflow their way there.
_POLES = frozenset({
    "pow",
    "div",
    "log",
    "log1p",
    "rsqrt",
    "reciprocal",
    "atanh",
    "lgamma",
    "digamma",
    "polygamma",
    "zeta",
})


def count(
    raw: jax.Array,
    rounded: jax.Array,
    name: str,
    operands: tuple[jax.Array, ...],
    format: Format,
    rounding: str,
) -> Events:
    """Count the events of one rounding.

    Args:
        raw: the carrier's results, before they were rounded.
        rounded: the same after rounding to the format.
        name: the operation that made them.
        operands: its floating-point operands, of shapes that broadcast to that of `raw`.
        format: the format that was rounded to.
        rounding: the rounding mode.

    Returns:
        The counts as int64 scalars.
    """
    no_nan = jnp.ones((), bool)
    for x in operands:
        no_nan &= ~jnp.isnan(x)
    pole = _divides_by_zero(raw, name, operands)
    overflow = ~jnp.isnan(raw) & _all_finite(operands) & ~pole & leaves(raw, rounded, format, rounding)
    flags = Events(
        overflow=overflow,
        underflow=is_zero(rounded) & ~_exactly_zero(raw, name, operands),
        invalid=jnp.isnan(rounded) & no_nan & ~overflow & ~pole,
        divide_by_zero=pole,
    )
    return _sum(Events(*(jnp.broadcast_to(flag, raw.shape) for flag in flags)))


_ROWS = 128  # so many ones fit into a byte
_FEW = 4096


def _sum(flags: Events) -> Events:
    """Count what is true, in one sum of all four whose counts lie side by side in a word.

    XLA on a CPU sums a vector to a scalar one element after the other, and columns many at a time. So many flags are
    first summed in columns, 128 rows at most: a count then fits into a byte of 32 bits.
    """
    flat = [flag.reshape(-1) for flag in flags]
    packed = [flag.astype(jnp.uint32) << jnp.uint32(8 * i) for i, flag in enumerate(flat)]
    rest = packed[0] | packed[1] | packed[2] | packed[3]
    totals = [jnp.zeros((), jnp.int64) for _ in flat]
    for columns in (1024, _FEW // _ROWS):
        blocks = rest.size // (_ROWS * columns)
        if blocks:
            part = rest[: blocks * _ROWS * columns].reshape(blocks, _ROWS, columns)
            sums = jnp.sum(part, axis=1, dtype=jnp.uint32)
            totals = [total + _unpacked(sums, i) for i, total in enumerate(totals)]
            rest = rest[blocks * _ROWS * columns :]
    wide = [((rest >> jnp.uint32(8 * i)) & jnp.uint32(1)).astype(jnp.uint64) << jnp.uint64(16 * i) for i in range(4)]
    few = jnp.sum(wide[0] | wide[1] | wide[2] | wide[3], dtype=jnp.uint64)
    last = [((few >> jnp.uint64(16 * i)) & jnp.uint64(2**16 - 1)).astype(jnp.int64) for i in range(4)]
    return Events(*(a + b for a, b in zip(totals, last, strict=True)))


def _unpacked(sums: jax.Array, i: int) -> jax.Array:
    """The sum of one byte of every word."""
    return jnp.sum((sums >> jnp.uint32(8 * i)) & jnp.uint32(255), dtype=jnp.uint32).astype(jnp.int64)


def _all_finite(operands: tuple[jax.Array, ...]) -> jax.Array:
    finite = jnp.ones((), bool)
    for x in operands:
        finite &= jnp.isfinite(x)
    return finite


def _divides_by_zero(raw: jax.Array, name: str, operands: tuple[jax.Array, ...]) -> jax.Array:
    if name not in _POLES:
        return jnp.zeros((), bool)
    pole = _all_finite(operands) & jnp.isinf(raw)
    return pole & is_zero(operands[0]) if name == "pow" else pole


def overflowed(raw: jax.Array, name: str, operands: tuple[jax.Array, ...]) -> jax.Array:
    """Where the carrier itself has overflowed: an infinity out of finite operands, other than at a pole.

    Args:
        raw: the carrier's results.
        name: the operation that made them.
        operands: its floating-point operands.

    Returns:
        Booleans.
    """
    return jnp.isinf(raw) & _all_finite(operands) & ~_divides_by_zero(raw, name, operands)


def is_zero(x: jax.Array) -> jax.Array:
    """Whether elements are zero by their bits: a comparison would take subnormals for zeros on a CPU."""
    if x.dtype == jnp.float32:
        return (jax.lax.bitcast_convert_type(x, jnp.uint32) << 1) == 0
    return (jax.lax.bitcast_convert_type(x, jnp.uint64) << 1) == 0


def _exactly_zero(raw: jax.Array, name: str, operands: tuple[jax.Array, ...]) -> Any:
    """Where the exact result is zero, although the carrier itself may have flushed a nonzero result."""
    match name:
        case "mul":
            return is_zero(operands[0]) | is_zero(operands[1])
        case "div":
            return is_zero(operands[0]) | jnp.isinf(operands[1])
        case "add":
            return operands[0] == -operands[1]
        case "fma":
            return is_zero(raw) & (is_zero(operands[0]) | is_zero(operands[1]) | ~is_zero(operands[2]))
        case "pow":
            return is_zero(operands[0]) | ~_all_finite(operands)
        case "exp" | "exp2" | "logistic" | "erfc":
            return jnp.isinf(operands[0])
        case _:
            return is_zero(raw)
