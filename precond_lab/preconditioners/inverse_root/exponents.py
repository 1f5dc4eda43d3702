"""What can stand for p."""

import operator
from fractions import Fraction

import jax
import jax.numpy as jnp

Exponent = int | Fraction | jax.Array
"""p of A^{-1/p}: a positive integer; a fraction or a traced integer scalar where the method allows it."""

LARGEST = 2**31 - 1
"""p and the numerator of a fraction are int32 numbers of the programs."""

LARGEST_DENOMINATOR = 2**20
"""Times the exponent of any float64 it is an int32 number."""


def check_exponent(p: Exponent) -> Exponent:
    """Refuse what is no p.

    Args:
        p: as it was given.

    Returns:
        An int for a whole number of any type, a fraction for another; an array stays: it may be traced, and then has no
        value yet.

    Raises:
        ValueError: if it is not positive, not a whole number or a fraction, or too large for the programs.
    """
    if isinstance(p, jax.Array):
        if p.shape or not jnp.issubdtype(p.dtype, jnp.integer):
            raise ValueError(
                f"an array of shape {p.shape} and type {p.dtype} given for p; it must be an integer scalar"
            )
        try:
            value = int(p)
        except jax.errors.ConcretizationTypeError:
            return p
        if not 1 <= value <= LARGEST:
            raise ValueError(f"p = {value} given; it must be a positive integer of at most {LARGEST}")
        return p
    if isinstance(p, Fraction) and p.denominator != 1:
        whole = p
    else:
        try:
            whole = int(p) if isinstance(p, Fraction) else operator.index(p)
        except TypeError:
            whole = 0
    if isinstance(p, bool) or whole <= 0:
        raise ValueError(f"p = {p!r} given; it must be a positive integer, or a fractions.Fraction where allowed")
    if whole.numerator > LARGEST or whole.denominator > LARGEST_DENOMINATOR:
        raise ValueError(
            f"p = {p} given; a whole number or a numerator may be at most {LARGEST}, and a denominator "
            f"{LARGEST_DENOMINATOR}: Fraction.limit_denominator gives one near it"
        )
    return whole


def whole_exponent(p: Exponent) -> int | jax.Array:
    """Refuse what is no whole p.

    Args:
        p: as it was given.

    Returns:
        A positive int, or the array, which may be traced.

    Raises:
        ValueError: if it is not positive, or not a whole number.
    """
    whole = check_exponent(p)
    if isinstance(whole, int | jax.Array):
        return whole
    raise ValueError(f"p = {p} given; this method takes whole numbers only: take one for fractions")
