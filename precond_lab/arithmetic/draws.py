"""Random words from a counter hash: cheap, without state, the same on every machine.

Element i of a draw is a function of the seed, the number of the draw, and i alone. The seed and the draw are mixed
once, with care, into two words c and d. Every element then costs two multiplications::

    h = i K + c;    h = (h ^ h >> 16) A;    word = (h ^ h >> 15 ^ d) B        (modulo 2**32)

Without d this is a well-tested integer hash (K is 2**32 over the golden ratio, A and B are those that Wellons and
Ettinger found) of a counter that goes through the same numbers in every draw, from another start. So d goes in between
the two multiplications, to set draws apart that start nearby. The last bits of a product depend on the last bits of its
factors alone: the first (highest) bits of a word are the best, and are those that rounding uses. This is a hash for
rounding; it is no generator for cryptography.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_STEP, _FIRST, _SECOND = np.uint32(0x9E3779B9), np.uint32(0x21F0AAAD), np.uint32(0xD35A2D97)


def seed_words(seed: int) -> np.ndarray:
    """Split a seed into the two words that `words` takes.

    Args:
        seed: Any integer; seeds that differ by a multiple of 2**64 are the same.

    Returns:
        uint32 array of shape [2].

    >>> seed_words(2**32 + 5).tolist()
    [5, 1]
    """
    return np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)


def words(seed: jax.Array | np.ndarray, draw: Any, shape: tuple[int, ...], dtype: Any = np.uint32) -> jax.Array:
    """Draw a random word for every element of an array.

    Args:
        seed: uint32 array of shape [2].
        draw: Number of the draw, a uint32 scalar. Different draws of a seed go different ways.
        shape: Shape of the array, of fewer than 2**32 elements.
        dtype: uint32, or uint64 where x64 is enabled.

    Returns:
        Array of the shape and dtype, uniform in its values. A word's first bits are its best.

    Raises:
        TypeError: If the dtype is another.

    >>> words(seed_words(0), 0, (2, 3)).tolist() == words(seed_words(0), 0, (6,)).reshape(2, 3).tolist()
    True
    """
    first, second = jnp.asarray(seed[0], jnp.uint32), jnp.asarray(seed[1], jnp.uint32)
    draw = jnp.asarray(draw, jnp.uint32)
    if np.dtype(dtype) == np.uint32:
        return _hashed(first, second, draw, shape)
    if np.dtype(dtype) != np.uint64:
        raise TypeError(f"random words are uint32 or uint64; got {np.dtype(dtype)}")
    high, low = _hashed(first, second, draw, shape), _hashed(second, ~first, draw, shape)
    return (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64)


def _mixed(x: jax.Array) -> jax.Array:
    """A bijection of words, by all bits of which each bit is changed."""
    x = (x ^ (x >> np.uint32(16))) * _FIRST
    x = (x ^ (x >> np.uint32(15))) * _SECOND
    return x ^ (x >> np.uint32(15))


def _hashed(first: jax.Array, second: jax.Array, draw: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    start = _mixed(_mixed(_mixed(draw + _STEP) ^ first) + second)
    other = _mixed(_mixed(_mixed(draw ^ second) + _STEP) ^ ~first)
    h = _weyl(shape) + start
    h = (h ^ (h >> np.uint32(16))) * _FIRST
    return (h ^ (h >> np.uint32(15)) ^ other) * _SECOND


def _weyl(shape: tuple[int, ...]) -> jax.Array:
    """The index of every element in the flat array, times the step; along each axis, so that XLA counts up in it."""
    total = jnp.zeros(shape, jnp.uint32)
    for axis, length in enumerate(shape):
        stride = math.prod(shape[axis + 1 :])
        if length > 1:
            step = np.uint32(int(_STEP) * stride & 0xFFFFFFFF)
            total += lax.broadcasted_iota(jnp.uint32, shape, axis) * step
    return total
