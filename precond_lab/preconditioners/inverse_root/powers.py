"""Powers of two and of matrices, formed by exact and by few operations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Product = Callable[[jax.Array, jax.Array], jax.Array]


STRIDE = 8
"""By so many powers of two exponents are counted: 2^8 and 2^-8 are numbers of every format down to those of 8 bits, so
that an emulated arithmetic counts no overflow and no underflow here that the matrix has not brought along."""


def _strides() -> list[int]:
    return [1 << i for i in reversed(range(STRIDE.bit_length() - 1))]


def exponent(x: jax.Array) -> jax.Array:
    """The integer e with x in [2^(e-1), 2^e).

    It is found by comparing and multiplying with powers of two, which is exact in every binary format: a logarithm
    would be rounded, and by more the farther x is from one.

    Args:
        x: positive, a scalar.

    Returns:
        e, an int32 scalar; 1 for an x that is not positive or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> [int(exponent(jnp.float32(x))) for x in (0.75, 1.0, 6.0, 2.0**-20)]
        [0, 1, 3, -19]
    """
    # Finite, but without naming the largest number, which differs from format to format.
    x = jnp.where((x > 0) & jnp.isfinite(x), x, 1)

    def stride(x: jax.Array, e: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
        large, small = x >= 2.0**k, x < 2.0 ** (1 - k)
        factor = jnp.where(large, jnp.full_like(x, 2.0**-k), jnp.where(small, jnp.full_like(x, 2.0**k), 1))
        return x * factor, e + jnp.where(large, k, jnp.where(small, -k, 0))

    far = lambda state: (state[0] >= 2.0**STRIDE) | (state[0] < 2.0 ** (1 - STRIDE))  # noqa: E731
    x, e = lax.while_loop(far, lambda state: stride(*state, STRIDE), (x, jnp.int32(1)))
    for k in _strides():
        x, e = stride(x, e, k)
    return e


def power_of_two(x: jax.Array, k: jax.Array | int) -> jax.Array:
    """The number 2^k.

    Args:
        x: of the dtype that it shall have, of any shape.
        k: an int32 scalar, half the way to the end of the range at most.

    Returns:
        A scalar.
    """
    negative = k < 0

    def stride(power: jax.Array, size: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
        factor = jnp.where(negative, jnp.full_like(power, 2.0**-k), 2.0**k)
        return jnp.where(size >= k, power * jnp.where(size >= k, factor, 1), power), jnp.where(
            size >= k, size - k, size
        )

    state = jnp.ones_like(x, shape=()), jnp.abs(k)
    power, size = lax.while_loop(lambda state: state[1] >= STRIDE, lambda state: stride(*state, STRIDE), state)
    for k_ in _strides():
        power, size = stride(power, size, k_)
    return power


def scale(x: jax.Array, k: jax.Array) -> jax.Array:
    """The product 2^k x, exact unless it overflows or underflows.

    Args:
        x: of any shape.
        k: an int32 scalar.

    Returns:
        An array of the shape of x.

    Example:
        >>> import jax.numpy as jnp
        >>> float(scale(jnp.float32(3.0), jnp.int32(-5)))
        0.09375
    """
    # In two halves: 2^k itself may be out of the range in which x and 2^k x are.
    half = k >> 1
    return x * power_of_two(x, half) * power_of_two(x, k - half)


def number_like(x: jax.Array, p: int | jax.Array) -> jax.Array:
    """An integer as a number of the dtype of an array.

    Args:
        x: of any shape.
        p: the integer.

    Returns:
        A scalar.
    """
    return jnp.full_like(x, p, shape=())


def matrix_power(A: jax.Array, p: int | jax.Array, product: Product) -> jax.Array:
    """A^p by repeated squaring, from the lowest bit of p to the highest.

    A traced p gives the same products of the same operands in the same order: the lowest bit that is set is not
    multiplied by the identity, which would round what it leaves alone where operands are quantized.

    Args:
        A: ``[n, n]``.
        p: at least 1; an integer scalar that may be traced.
        product: of two matrices.

    Returns:
        ``[n, n]``. Cost: floor(log2 p) squarings, and one product less than p has bits that are set; a batch of traced
        p costs two products for every bit of the largest but its first.
    """
    if isinstance(p, int):
        power, square = None, A
        while True:
            if p & 1:
                power = square if power is None else product(power, square)
            p >>= 1
            if not p:
                return power  # pyright: ignore[reportReturnType]
            square = product(square, square)

    def step(state: tuple) -> tuple:
        power, square, rest, begun = state
        square = product(square, square)
        multiplied = lax.cond(begun & (rest & 1 == 1), lambda: product(power, square), lambda: power)
        power = jnp.where(begun, multiplied, square)
        return power, square, rest >> 1, begun | (rest & 1 == 1)

    return lax.while_loop(lambda state: state[2] > 0, step, (A, A, p >> 1, p & 1 == 1))[0]
