"""The modes of rounding: what is added to a code before the bits that a format does not have are cleared."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic.grids import Grid


class Cut(NamedTuple):
    """A rounding that is about to happen: which bits go, and what is needed to decide where to.

    Where the number of bits that go is known beforehand, `magnitude` may be given with its sign bit.
    """

    grid: Grid
    bits: jax.Array  # with the sign, as signed integers
    magnitude: jax.Array  # codes
    kept: Any  # how many of their bits stay
    dropped: Any  # mask of the bits that go
    words: jax.Array | None  # random words, unless the mode takes none


def _last_bit(cut: Cut) -> jax.Array:
    """The last kept bit of codes: whether they are odd."""
    grid, carrier = cut.grid, cut.grid.carrier
    if grid.format.precision == 1 and grid.by_leading_zeros:
        # Normal numbers of the format are subnormals of the carrier, whose exponent shows in the leading zeros alone.
        zeros, one = lax.clz(cut.magnitude), grid.integer(1)
        place = grid.integer(carrier.width - carrier.precision + 1)
        field = jnp.where(zeros >= place, place - zeros, cut.magnitude >> carrier.fraction)
        least = grid.integer(max(grid.smallest, 1))
        return jnp.where(cut.magnitude < least, grid.integer(0), (field + grid.integer(grid.parity)) & one)
    leading = cut.magnitude ^ (grid.parity << carrier.fraction) if _ends_in_exponent(grid) else cut.magnitude
    if grid.constant:
        return (leading >> (carrier.width - 1 - grid.most)) & grid.integer(1)
    last = lax.shift_right_logical(leading << cut.kept, grid.integer(carrier.width - 1))
    return last & cut.dropped if grid.most == carrier.width - 1 else last  # where no bit goes, none may be added


def _ends_in_exponent(grid: Grid) -> bool:
    """Whether there are binades in which all explicit bits go."""
    return grid.parity == 1 and grid.fewest <= grid.carrier.width - 1 - grid.carrier.fraction


def _half_to_even(cut: Cut) -> jax.Array:
    """Half a unit of the last kept bit, less one if that bit is even: then a tie does not carry."""
    return (cut.dropped >> 1) + _last_bit(cut)


def _half(cut: Cut) -> jax.Array:
    return cut.dropped ^ (cut.dropped >> 1)


def _negative(cut: Cut) -> jax.Array:
    """All ones where there is a minus."""
    return cut.bits >> cut.grid.integer(cut.grid.carrier.width - 1)


def _just_below_unit_if_positive(cut: Cut) -> jax.Array:
    return ~_negative(cut) & cut.dropped


def _just_below_unit_if_negative(cut: Cut) -> jax.Array:
    return _negative(cut) & cut.dropped


def _just_below_unit_if_even(cut: Cut) -> jax.Array:
    return (_last_bit(cut) - cut.grid.integer(1)) & cut.dropped


def _random_below_unit(cut: Cut) -> jax.Array:
    """A uniform number of units in [0, 1), of the leading bits of a word: it carries with the dropped part's share."""
    carrier, words = cut.grid.carrier, cut.words
    assert words is not None
    if cut.grid.constant:
        bits = words >> carrier.unsigned(cut.grid.most + 1)
    else:
        bits = (words >> carrier.unsigned(1)) >> cut.kept.astype(carrier.unsigned)
    return lax.bitcast_convert_type(bits, cut.magnitude.dtype)


# Whether magnitudes below the smallest number become that number, and not zero.


def _above_half_smallest(cut: Cut) -> jax.Array:
    # A tie goes to zero, which is even. Half a power of two is one less in the exponent field.
    return cut.magnitude > cut.grid.smallest - (1 << cut.grid.carrier.fraction)


def _from_half_smallest(cut: Cut) -> jax.Array:
    return cut.magnitude >= cut.grid.smallest - (1 << cut.grid.carrier.fraction)


def _from_smallest(cut: Cut) -> jax.Array:
    return cut.magnitude >= cut.grid.smallest


def _above_zero(cut: Cut) -> jax.Array:
    return cut.magnitude > 0


def _above_zero_if_positive(cut: Cut) -> jax.Array:
    return _from_smallest(cut) | (cut.bits > 0)


def _above_zero_if_negative(cut: Cut) -> jax.Array:
    return _from_smallest(cut) | ((cut.bits < 0) & _above_zero(cut))


def _random_below_ratio(cut: Cut) -> jax.Array:
    """Whether magnitude / smallest, cut to a fraction of as many bits as a word, and the word reach 1 together."""
    carrier, smallest, words = cut.grid.carrier, cut.grid.smallest, cut.words
    assert words is not None
    field = cut.magnitude >> carrier.fraction
    implicit = jnp.minimum(field, 1) << carrier.fraction
    significand = (cut.magnitude & ((1 << carrier.fraction) - 1)) | implicit
    # Aligned to the top, the significand is a fraction in [1/2, 1) of the power of two above the number.
    fraction = lax.bitcast_convert_type(significand << (carrier.width - carrier.precision), carrier.unsigned)
    halvings = (smallest >> carrier.fraction) - 1 - jnp.maximum(field, 1)
    kept = jnp.clip(halvings, 0, carrier.width - 1).astype(carrier.unsigned)
    ratio = jnp.where(halvings < carrier.width, fraction >> kept, carrier.unsigned(0))
    return (halvings < 0) | (words + ratio < ratio)  # the sum wraps around exactly if it reaches 1


class Rounding(NamedTuple):
    """A mode of rounding.

    Attributes:
        increment: what is added to a code before its dropped bits are cleared; None for nothing.
        reaches_smallest: where a magnitude is not rounded to zero; asked if the smallest number is normal in the
            carrier, and true of it and of all above.
        overflows: whether finite numbers beyond the largest overflow, first positive ones, then negative ones; if not,
            they become the largest of their sign.
        random: whether it takes random words.
    """

    increment: Callable[[Cut], jax.Array] | None
    reaches_smallest: Callable[[Cut], jax.Array]
    overflows: tuple[bool, bool]
    random: bool = False


ROUNDINGS = {
    "nearest_even": Rounding(_half_to_even, _above_half_smallest, (True, True)),
    "nearest_away": Rounding(_half, _from_half_smallest, (True, True)),
    "toward_zero": Rounding(None, _from_smallest, (False, False)),
    "up": Rounding(_just_below_unit_if_positive, _above_zero_if_positive, (True, False)),
    "down": Rounding(_just_below_unit_if_negative, _above_zero_if_negative, (False, True)),
    "odd": Rounding(_just_below_unit_if_even, _above_zero, (False, False)),
    "stochastic": Rounding(_random_below_unit, _random_below_ratio, (True, True), random=True),
}
"""The modes of rounding."""
