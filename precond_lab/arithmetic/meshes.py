"""What an emulated program must know of the devices that it runs on together with its likes.

Inside of a `shard_map` (and `pmap`, which is one) each device holds its own piece of the values that are divided along
the axes of a mesh. With `check_vma`, as is the default, JAX knows of every value along which axes it is divided;
without, any value may be.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
from jax import lax


def axes() -> tuple:
    """The axes of the mesh along which the program at hand is divided, in the mesh's order."""
    mesh = jax.sharding.get_abstract_mesh()
    manual = mesh.manual_axes
    return tuple(axis for axis in mesh.axis_names if axis in manual) if manual else ()


def axis_sizes() -> tuple:
    """All named axes of the program at hand, those of `vmap` included, with their sizes: a trace depends on them."""
    names = jex.core.unsafe_get_axis_names_DO_NOT_USE()  # pyright: ignore[reportPrivateImportUsage]
    return tuple((name, lax.axis_size(name)) for name in names)


def _divided(x: Any) -> frozenset:
    return jax.typeof(x).manual_axis_type.varying  # pyright: ignore


def _is_checked(axis: Any) -> bool:
    """Whether JAX keeps account of what is divided along an axis: then it is of the device's own index."""
    return axis in _divided(lax.axis_index(axis))


def divided(tree: Any) -> Any:
    """The same arrays, to be taken by JAX for divided along all axes, as counts of events are.

    Args:
        tree: arrays that are not divided.

    Returns:
        The same values.
    """
    along = axes()
    if not along or not _is_checked(along[0]):
        return tree
    return jax.tree.map(lambda x: lax.pcast(x, along, to="varying"), tree)


def agreed(x: jax.Array, along: Iterable) -> jax.Array:
    """The largest of all devices' values of a counter which should be the same on all, but that loops may end apart.

    Args:
        x: what JAX takes for undivided.
        along: the axes.

    Returns:
        A value that is the same on all devices along the axes.
    """
    along = tuple(along)
    if along and _is_checked(along[0]):
        x = lax.pcast(x, along, to="varying")
    return lax.pmax(x, along)


def on_this_device(seed: Any, x: jax.Array, together: frozenset) -> Any:
    """The seed of the random bits with which this device rounds its own piece of an array.

    Args:
        seed: uint32[2], the same on all devices.
        x: the array that is to be rounded.
        together: axes along which all devices take the same bits, although the array may be divided along them.

    Returns:
        A seed for each place along the axes along which the array is divided; the first one's is the one given. A
        value that all devices have is so rounded alike on all.
    """
    along = [axis for axis in axes() if axis not in together]
    if along and _is_checked(along[0]):
        along = [axis for axis in along if axis in _divided(x)]
    if not along:
        return seed
    place = jnp.zeros((), jnp.uint32)
    for axis in along:
        place = place * jnp.uint32(lax.axis_size(axis)) + lax.axis_index(axis).astype(jnp.uint32)
    return jnp.asarray(seed) ^ jnp.stack([_scrambled(place), jnp.zeros_like(place)])


def _scrambled(n: jax.Array) -> jax.Array:
    """A bijection of 32-bit words that leaves none of n's pattern (multiply and xor-shift), and 0 in its place."""
    for factor in (0x7FEB352D, 0x846CA68B):
        n = (n ^ (n >> np.uint32(16))) * np.uint32(factor)
    return n ^ (n >> np.uint32(15))
