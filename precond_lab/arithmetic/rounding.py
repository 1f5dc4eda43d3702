"""Rounding of float32 and float64 arrays to the values of a narrower format."""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from precond_lab.arithmetic import draws
from precond_lab.arithmetic.carriers import CARRIERS, Carrier
from precond_lab.arithmetic.formats import named
from precond_lab.arithmetic.grids import grid_of
from precond_lab.arithmetic.kernels import round_code
from precond_lab.arithmetic.modes import ROUNDINGS, Rounding
from precond_lab.arithmetic.record import Format

__all__ = ["ROUNDINGS", "Rounding", "leaves", "round_bits", "round_to"]


def _carrier(x: jax.Array | np.ndarray) -> Carrier:
    if x.dtype not in CARRIERS:
        raise TypeError(f"rounding takes float32 or float64; got {x.dtype}: convert it with astype first")
    return CARRIERS[x.dtype]


def _mode(rounding: str) -> Rounding:
    if rounding not in ROUNDINGS:
        raise ValueError(f"no rounding is named {rounding!r}; there are {', '.join(ROUNDINGS)}")
    return ROUNDINGS[rounding]


def _check_random_bits(random_bits: int | None, rounding: str, carrier: Carrier) -> None:
    if random_bits is None:
        return
    if not _mode(rounding).random:
        raise ValueError(f"rounding {rounding!r} uses no randomness: leave out random_bits")
    if not 1 <= random_bits <= carrier.fraction:
        raise ValueError(
            f"random_bits lies in 1 .. {carrier.fraction} for float{carrier.width}; got {random_bits}: leave it out to "
            "round up with the exact probability"
        )


@partial(jax.jit, static_argnames=("format", "rounding", "random_bits", "canonical"))
def _kernel(
    x: jax.Array, words: jax.Array | None, format: Format, rounding: str, random_bits: int | None, canonical: bool
) -> jax.Array:
    carrier = CARRIERS[x.dtype]
    if words is not None:
        unused = carrier.width - (random_bits or carrier.fraction)
        words &= carrier.unsigned((1 << carrier.width) - (1 << unused))
    bits = lax.bitcast_convert_type(x, carrier.signed)
    return lax.bitcast_convert_type(
        round_code(bits, words, grid_of(format, carrier), rounding, canonical), carrier.float
    )


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 4, 5))
def round_bits(
    x: jax.Array,
    format: Format,
    rounding: str,
    words: jax.Array | None = None,
    random_bits: int | None = None,
    canonical: bool = True,
) -> jax.Array:
    r"""Round an array to the values of a format, with given random words: the kernel behind `round_to`.

    Nothing in XLA can flush, contract or reassociate it. A format with the precision and range of the carrier, or more,
    leaves every number as it is. The derivative is straight-through: tangents pass unchanged.

    A number a fraction :math:`\theta` of the way to the next larger magnitude goes there if
    :math:`\lfloor \theta 2^r \rfloor + R \ge 2^r`, where R is the number in the first (highest) r bits of its word and
    r is `random_bits`. Left out, r is 23 (float32) or 52 (float64): :math:`\theta` has no more bits than that, so that
    the probability is :math:`\theta` exactly, but for numbers below the smallest, where it is cut to a multiple of
    :math:`2^{-r}`.

    Args:
        x: float32 or float64 array; the latter only where x64 is enabled.
        format: The format.
        rounding: A name in `ROUNDINGS`.
        words: Uniform random words of the shape of `x`, uint32 for float32 and uint64 for float64; for a rounding that
            is random, and for no other.
        random_bits: How many bits of a word are used, 1 to 23 (float32) or 52 (float64); None for all of these.
        canonical: Whether every NaN becomes the one positive quiet NaN without payload. If not, NaNs in `x` must be
            quiet ones, as operations of the machine make them, and any NaN may come out: this is cheaper.

    Returns:
        Array of the shape and dtype of `x`.

    Raises:
        TypeError: If `x` is neither float32 nor float64, or the words have the wrong dtype.
        ValueError: If the rounding is unknown, words are missing, superfluous or of the wrong shape, the number of
            random bits is out of range, the format has nothing in common with the carrier, or `x` is float64 while x64
            is disabled.
    """
    carrier, mode = _carrier(x), _mode(rounding)
    if mode.random != (words is not None):
        raise ValueError(f"rounding {rounding!r} {'needs' if mode.random else 'takes no'} random words")
    if words is not None:
        if words.dtype != carrier.unsigned:
            raise TypeError(f"random words for {x.dtype} must be {np.dtype(carrier.unsigned)}; got {words.dtype}")
        if words.shape != x.shape:
            raise ValueError(f"random words must have the shape {x.shape} of x; got {words.shape}")
    _check_random_bits(random_bits, rounding, carrier)
    if carrier.width == 64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("float64 needs 64-bit integers: call within `with jax.enable_x64(True):`")
    return _kernel(x, words, format=format, rounding=rounding, random_bits=random_bits, canonical=canonical)


@round_bits.defjvp
def _(format, rounding, random_bits, canonical, primals, tangents):
    x, words = primals
    return round_bits(x, format, rounding, words, random_bits, canonical), tangents[0]


def leaves(raw: jax.Array, rounded: jax.Array, format: Format, rounding: str) -> jax.Array:
    """Tell where a result, rounded as if the exponent had no end, lies beyond the largest number of the format.

    That is what overflow is, whatever comes of it: infinity, NaN, or the largest number. An infinity counts as a number
    too large for the carrier; a NaN, and a negative number where the format has none, as no number.

    Args:
        raw: float32 or float64 array, before rounding.
        rounded: The same after rounding. Only stochastic rounding looks at it; where nothing but the largest number
            comes of overflow, it cannot tell numbers that went beyond from those that did not, and what could have
            gone either way does not count.
        format: The format.
        rounding: A name in `ROUNDINGS`.

    Returns:
        Booleans of the shape of `raw`.

    >>> leaves(jnp.asarray([500.0, 448.0]), jnp.asarray([448.0, 448.0]), named("e4m3fn"), "toward_zero").tolist()
    [True, False]
    """
    carrier = _carrier(raw)
    grid = grid_of(format, carrier)
    bits = lax.bitcast_convert_type(raw, carrier.signed)
    magnitude = bits & grid.integer(carrier.magnitude)
    is_number = magnitude <= grid.integer(carrier.infinity)
    if not format.signed:
        is_number &= bits >= 0
    unit = grid.beyond - grid.largest
    # Codes of a format of precision 1 end with the exponent field.
    largest_is_even = (grid.largest // unit + grid.parity * (format.precision == 1)) % 2 == 0
    # The largest code that stays, for positive and negative numbers.
    cut, tie = grid.beyond - 1, grid.largest + unit // 2
    last = {
        "nearest_even": (tie if largest_is_even and unit > 1 else max(tie - 1, grid.largest),) * 2,
        "nearest_away": (max(tie - 1, grid.largest),) * 2,
        "up": (grid.largest, cut),
        "down": (cut, grid.largest),
        "odd": (grid.largest if largest_is_even else cut,) * 2,
    }
    positive, negative = last.get(rounding, (cut, cut))
    stays = grid.integer(positive)
    if positive != negative:
        stays = jnp.where(bits < 0, grid.integer(negative), stays)
    if _mode(rounding).random and format.overflow != "saturate":
        ends = lax.bitcast_convert_type(rounded, carrier.signed) & grid.integer(carrier.magnitude)
        stays, is_number = grid.integer(grid.largest), is_number & (ends > grid.integer(grid.largest))
    return is_number & (magnitude > stays)


@partial(jax.jit, static_argnames=("format", "rounding", "random_bits"))
def _round_with_key(
    x: jax.Array, key: ArrayLike | None, format: Format, rounding: str, random_bits: int | None
) -> jax.Array:
    if key is None:
        return round_bits(x, format, rounding)
    seed = jax.random.bits(key, (2,), jnp.uint32)
    words = draws.words(seed, jnp.uint32(0), x.shape, _carrier(x).unsigned)
    return round_bits(x, format, rounding, words, random_bits)


def round_to(
    x: ArrayLike,
    format: str | Format,
    rounding: str = "nearest_even",
    key: ArrayLike | None = None,
    random_bits: int | None = None,
) -> jax.Array:
    r"""Round every element of an array to a value of a format.

    With neighbors :math:`a < b` of an element :math:`x = a + \theta (b - a)` in the format, a mode takes

    ============  =======================================================================================
    nearest_even  the nearer one, and on a tie the one with an even significand (an even code, with 1 bit)
    nearest_away  the nearer one, and on a tie the one of larger magnitude
    toward_zero   the one of smaller magnitude
    up, down      b; a
    odd           x itself if it is a or b, and else the one with an odd significand
    stochastic    b with probability :math:`\theta`
    ============  =======================================================================================

    The probability is exact, except below the smallest positive number, where it is cut to a multiple of
    :math:`2^{-23}` (float32) or :math:`2^{-52}` (float64). With ``random_bits=r`` the magnitude is rounded up exactly
    if :math:`\lfloor \theta 2^r \rfloor + R \ge 2^r` for a uniform R in :math:`[0, 2^r)`, now with :math:`\theta` for
    the fraction of the way to the larger magnitude, as hardware with r random bits does it.

    Beyond the largest number of the format, the nearest modes and ``stochastic`` round as if the exponent went on, and
    what so leaves the format becomes infinity, NaN or the largest number, as the format says. So does what ``up``
    rounds up from above the largest, and ``down`` down from below the least. Other finite numbers never overflow: they
    become the largest of their sign. Infinities stay where the format has them. Every NaN becomes the canonical one.
    The sign of a zero is kept, also of one to which a number is rounded, if the format has it. In a format without
    subnormals a number is rounded first, as if there were some, and flushed to zero afterwards.

    Numbers are rounded once, straight from the dtype they have. A format with at least the precision and the range of
    that dtype changes none; of one that exceeds it in range only, the part within the range is meant.

    The derivative is straight-through: that of the identity, in forward and reverse mode.

    Args:
        x: float32 or float64 values of any shape, in an array of JAX or NumPy, a list, or a number (which Python holds
            as float64). A float64 array of NumPy stays float64 even where x64 is disabled, unless `jax.jit` or
            `jax.vmap` have made it float32 before it gets here.
        format: A `Format`, or the name of one.
        rounding: A mode of the table above.
        key: Key of `jax.random`, for stochastic rounding and for no other. Two words are drawn from it, and seed the
            counter hash of `draws.words`, which is cheaper than JAX's generators by far. The same key gives the same
            result.
        random_bits: How many random bits stochastic rounding uses for an element, 1 to 23 (float32) or 52 (float64).

    Returns:
        Array of the shape and dtype of `x`.

    Raises:
        TypeError: If `x` is not float32 or float64.
        ValueError: If the format or the rounding is unknown, the format lies outside the range of the dtype, the key is
            missing or superfluous, or the number of random bits is superfluous or out of range.

    >>> round_to([1.00390625, 1.01171875, 65536.0], "float16").tolist()
    [1.00390625, 1.01171875, inf]
    >>> round_to([1.00390625, 1.01171875, -1e-50], "bfloat16").tolist()
    [1.0, 1.015625, -0.0]
    >>> round_to([1.00390625, 1.01171875, -1e-50], "bfloat16", "up").tolist()
    [1.0078125, 1.015625, -0.0]
    """
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    carrier, mode, record = _carrier(x), _mode(rounding), named(format)
    if mode.random and key is None:
        raise ValueError(f"rounding {rounding!r} needs a key: pass key=jax.random.key(seed)")
    if not mode.random and key is not None:
        raise ValueError(f"rounding {rounding!r} uses no randomness: leave out the key")
    _check_random_bits(random_bits, rounding, carrier)
    with jax.enable_x64(True) if carrier.width == 64 else contextlib.nullcontext():
        return _round_with_key(x, key, format=record, rounding=rounding, random_bits=random_bits)
