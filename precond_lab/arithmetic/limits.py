"""On which side of a library's result the exact value of an elementary function lies.

In a directed mode, and to odd, rounding changes at the numbers of the format itself. Elementary functions take such
values at a few trivial points only (exp at 0, say), but they approach others closer than float64 can tell: tanh(30) is
less than 1, sin(x) is less than a small positive x, exp(-1000) is more than 0, and in float64 they are equal. There the
side is known from the function, and the result is moved by one unit in the last place, after which it is rounded right.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Side = Callable[[jax.Array, jax.Array], jax.Array]


def _at(value: float, side: Callable[[jax.Array], jax.Array | float]) -> Side:
    """Where the result is `value` although the argument is not zero."""
    return lambda x, y: jnp.where((y == value) & (x != 0), side(x), 0.0)


def _at_argument(side: Callable[[jax.Array], jax.Array | float]) -> Side:
    """Where the result equals a nonzero argument, to which it is asymptotic."""
    return lambda x, y: jnp.where((y == x) & (x != 0), side(x), 0.0)


def _above(x: jax.Array) -> float:
    return 1.0


def _below(x: jax.Array) -> float:
    return -1.0


def _inward(x: jax.Array) -> jax.Array:
    return -jnp.sign(x)


_PLUS_ONE, _MINUS_ONE = _at(1.0, _below), _at(-1.0, _above)
_POSITIVE = _at(0.0, _above)

SIDES: dict[str, tuple[Side, ...]] = {
    "sin": (_at_argument(_inward), _PLUS_ONE, _MINUS_ONE),
    "cos": (_PLUS_ONE, _MINUS_ONE),
    "tan": (_at_argument(jnp.sign),),
    "asin": (_at_argument(jnp.sign),),
    "atan": (_at_argument(_inward),),
    "sinh": (_at_argument(jnp.sign),),
    "cosh": (_at(1.0, _above),),
    "tanh": (_at_argument(_inward), _PLUS_ONE, _MINUS_ONE),
    "asinh": (_at_argument(_inward),),
    "atanh": (_at_argument(jnp.sign),),
    "erf": (_PLUS_ONE, _MINUS_ONE),
    "erfc": (_POSITIVE, _at(1.0, _inward), _at(2.0, _below)),
    "bessel_i0e": (_PLUS_ONE,),
    "exp": (_POSITIVE, _at(1.0, jnp.sign)),
    "exp2": (_POSITIVE, _at(1.0, jnp.sign)),
    "expm1": (_at_argument(_above), _MINUS_ONE),
    "log1p": (_at_argument(_below),),
    "logistic": (_POSITIVE, _at(0.5, jnp.sign), _PLUS_ONE),
}
"""Of a function of one argument: the sign of (exact - computed) where the computed value is a limit, else 0."""


def off_the_limit(name: str, operands: list[jax.Array], y: jax.Array) -> jax.Array:
    """Move results that have run into a limit of their function to the side on which the exact value lies.

    Args:
        name: of the primitive.
        operands: its operands.
        y: its results in the carrier.

    Returns:
        The results, some of them moved by one unit in the last place; those of arguments that are not finite, and of
        functions without such limits, unchanged.
    """
    x = operands[0]
    if name == "pow":
        side = _side_of_power(x, operands[1], y)
    elif name == "atan2":
        side = _side_of_angle(x, operands[1], y)
    elif name in SIDES:
        side = sum((side(x, y) for side in SIDES[name]), jnp.zeros((), y.dtype))
        side = jnp.where(jnp.isfinite(x), side, 0)
    else:
        return y
    return jnp.where(side == 0, y, _next(y, side))


def _side_of_power(x: jax.Array, exponent: jax.Array, y: jax.Array) -> jax.Array:
    """The magnitude of x**y rounds to 1 from the side of log(abs(x)) y, and to 0 from above."""
    size = jnp.abs(x)
    inexact = jnp.isfinite(x) & jnp.isfinite(exponent) & (x != 0) & (size != 1) & (exponent != 0)
    at_one = jnp.where(jnp.abs(y) == 1, jnp.sign(size - 1) * jnp.sign(exponent), 0.0)
    outward = at_one + jnp.where(y == 0, 1.0, 0.0)
    return jnp.where(inexact, outward * jnp.copysign(1.0, y), 0.0)


def _side_of_angle(opposite: jax.Array, adjacent: jax.Array, y: jax.Array) -> jax.Array:
    """A small angle is less than its tangent, to which it is asymptotic."""
    small = jnp.isfinite(opposite) & jnp.isfinite(adjacent) & (adjacent > 0) & (y != 0)
    return jnp.where(small & (y == opposite / adjacent), -jnp.sign(y), 0.0)


def _next(y: jax.Array, side: jax.Array) -> jax.Array:
    """The next number of the carrier on one side; beside zero the smallest that XLA does not flush."""
    signed = np.int32 if y.dtype == jnp.float32 else np.int64
    outward = jnp.where((side > 0) == (y > 0), signed(1), signed(-1))
    moved = lax.bitcast_convert_type(lax.bitcast_convert_type(y, signed) + outward, y.dtype)
    return jnp.where(y == 0, side.astype(y.dtype) * jnp.finfo(y.dtype).tiny, moved)
