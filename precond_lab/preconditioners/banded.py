"""The banded statistics of a gradient, from the chain of a tensor to the damped matrix.

H is symmetric and banded, in SciPy's lower form: row k of an array ``[b+1, n]`` holds H_{i+k,i} at position
i, and what lies past the end of a diagonal is ignored. The band b is 0 (diagonal) or 1 (tridiagonal: a
chain of parameters). Edge i of a chain links i and i+1; a mask of edges has shape ``[b, n]``, with False at
n-1, where there is no edge.

These are plain programs: arrays in, arrays of the same dtype out, every operation one elementwise
primitive, in the order that its docstring gives, because under low precision the order is part of the
algorithm.

Source: SONew (Devvrit et al., "A Computationally Efficient Sparsified Online Newton Method", NeurIPS 2023).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

# The chain of a tensor


def chain(tensor: jax.Array, *, input_axis: int = 0) -> jax.Array:
    """A parameter tensor as one chain, in which neighbors are neighboring inputs of the same output unit.

    A JAX kernel is ``[in, out]``: its input axis 0 is moved last and the result read row by row. This is
    the order of SONew's code (whose PyTorch weights are ``[out, in]``).

    Args:
        tensor: parameters or gradient of any shape.
        input_axis: the axis of inputs; ignored for a scalar.

    Returns:
        ``[n]``.

    Example:
        >>> chain(jnp.array([[1, 2, 3], [4, 5, 6]])).tolist()
        [1, 4, 2, 5, 3, 6]
    """
    tensor = jnp.asarray(tensor)
    return (jnp.moveaxis(tensor, input_axis, -1) if tensor.ndim > 1 else tensor).reshape(-1)


def unchain(vector: jax.Array, shape: tuple[int, ...], *, input_axis: int = 0) -> jax.Array:
    """The tensor of which :func:`chain` made this vector.

    Args:
        vector: ``[n]``.
        shape: of the tensor.
        input_axis: as given to :func:`chain`.

    Returns:
        A tensor of that shape.
    """
    if len(shape) < 2:
        return vector.reshape(shape)
    moved = list(shape)
    moved.append(moved.pop(input_axis))
    return jnp.moveaxis(vector.reshape(moved), -1, input_axis)


def row_edges(shape: tuple[int, ...], *, input_axis: int = 0) -> jax.Array:
    """The edges of a tensor's chain that stay within one output unit.

    At the end of each row the chain links the last input of one unit to the first input of the next, two
    parameters that have nothing to do with each other; SONew's code keeps these edges. ``cut(H,
    row_edges(shape))`` removes them.

    Args:
        shape: of the tensor.
        input_axis: as given to :func:`chain`.

    Returns:
        bool ``[1, n]``, False at row ends.

    Example:
        >>> row_edges((3, 2)).tolist()
        [[True, True, False, True, True, False]]
    """
    inputs = shape[input_axis] if shape else 1
    return (jnp.arange(math.prod(shape)) % inputs < inputs - 1)[None]


def cut(H: jax.Array, kept: jax.Array) -> jax.Array:
    """H on the reduced graph: the entries of edges that are not kept are zero.

    Args:
        H: ``[b+1, n]``.
        kept: bool ``[b, n]``, from :func:`stabilize` or :func:`row_edges`.

    Returns:
        ``[b+1, n]``.

    Raises:
        ValueError: if the mask does not fit H, or H is not ``[1, n]`` or ``[2, n]``.
    """
    H, kept = check_banded(H), jnp.asarray(kept)
    if kept.shape != H[1:].shape:
        raise ValueError(f"kept has shape {kept.shape}; H of shape {H.shape} needs a mask of shape {H[1:].shape}")
    return jnp.concatenate([H[:1], jnp.where(kept, H[1:], jnp.zeros_like(H[1:]))])


# Statistics


class Statistics(NamedTuple):
    """The band of the gradients' Gram matrix.

    Attributes:
        H: the band, ``[b+1, n]``.
        weight: the sum of the weights that the gradients in H carry, a scalar.
    """

    H: jax.Array
    weight: jax.Array


def band_outer(g: jax.Array, *, band: int = 1) -> jax.Array:
    """The band of g g^T.

    Cost: (b+1) n flops. In float16 an entry with |g| < 2^-12.5 underflows to zero.

    Args:
        g: gradient, ``[n]``.
        band: number of subdiagonals, 0 or 1.

    Returns:
        ``[b+1, n]``, row k holding g_{i+k} g_i, padded by zeros.

    Example:
        >>> import jax.numpy as jnp
        >>> band_outer(jnp.array([1.0, 2.0, 3.0])).tolist()
        [[1.0, 4.0, 9.0], [2.0, 6.0, 0.0]]
    """
    _check_band(band)
    g = jnp.asarray(g)
    squares = (g * g)[None]
    if band == 0:
        return squares
    products = jnp.concatenate([g[1:] * g[:-1], jnp.zeros_like(g[:1])])
    return jnp.concatenate([squares, products[None]])


def initialize(n: int, *, band: int = 1, epsilon: jax.Array | None = None) -> Statistics:
    """Statistics before the first gradient: H_0 = epsilon I (SONew, Algorithm 1), or zero.

    Args:
        n: number of parameters.
        band: number of subdiagonals, 0 or 1.
        epsilon: scalar array, zero where None; the statistics take its dtype.

    Returns:
        Statistics of weight zero.

    Example:
        >>> initialize(3, epsilon=jnp.array(0.5)).H.tolist()
        [[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]
    """
    _check_band(band)
    epsilon = jnp.zeros(()) if epsilon is None else jnp.asarray(epsilon)
    diagonal = jnp.broadcast_to(epsilon, (1, n))
    H = jnp.concatenate([diagonal] + [jnp.zeros_like(diagonal)] * band)
    return Statistics(H, jnp.zeros_like(epsilon))


def add(statistics: Statistics, g: jax.Array, step_weight: jax.Array) -> Statistics:
    """The sum of the theory: H + band(g g^T) / lambda_t.

    Order: the product g_{i+k} g_i, its quotient by lambda_t, the sum. The weight grows by 1 / lambda_t, so
    that :func:`corrected` is the weighted mean of the gradients' outer products (and of H_0, if that is not
    zero).

    Args:
        statistics: H ``[b+1, n]`` and its weight.
        g: gradient, ``[n]``.
        step_weight: lambda_t, a positive scalar, of order sqrt(t) for SONew's regret bound.

    Returns:
        The statistics one step later. Cost: 3 (b+1) n flops.

    Example:
        >>> once = add(initialize(2), jnp.array([1.0, 2.0]), jnp.array(2.0))
        >>> once.H.tolist(), float(once.weight)
        ([[0.5, 2.0], [1.0, 0.0]], 0.5)
    """
    H, weight = statistics
    band = H.shape[0] - 1
    return Statistics(H + band_outer(g, band=band) / step_weight, weight + 1 / step_weight)


def average(statistics: Statistics, g: jax.Array, beta2: jax.Array, complement: jax.Array | None = None) -> Statistics:
    """The exponential average of practice: beta2 H + (1 - beta2) band(g g^T).

    Order: 1 - beta2, then the two products (that by H, that by the band of g g^T), then their sum. The
    weight goes through the same recurrence with 1 in place of g g^T, so that it equals 1 - beta2^t without
    a power.

    beta2 is an argument and rounded like one: in bfloat16 0.999 is 1, so that 1 - beta2 is 0 and nothing is
    ever learned. Code that forms 1 - beta2 in a wider format outside the program hands it over as
    `complement`. In bfloat16 the sum stagnates for beta2 of 0.99 or more: the update falls under half a
    unit of H.

    Args:
        statistics: H ``[b+1, n]`` and its weight.
        g: gradient, ``[n]``.
        beta2: decay, a scalar array in [0, 1).
        complement: 1 - beta2, a scalar array, if it is not to be formed here.

    Returns:
        The statistics one step later. Cost: 4 (b+1) n flops.

    Example:
        >>> once = average(initialize(2), jnp.array([1.0, 2.0]), jnp.array(0.75))
        >>> once.H.tolist(), float(once.weight), corrected(once).tolist()
        ([[0.25, 1.0], [0.5, 0.0]], 0.25, [[1.0, 4.0], [2.0, 0.0]])
    """
    H, weight = statistics
    complement = 1 - beta2 if complement is None else complement
    band = H.shape[0] - 1
    return Statistics(beta2 * H + complement * band_outer(g, band=band), beta2 * weight + complement)


def corrected(statistics: Statistics) -> jax.Array:
    """H divided by its weight: the bias correction of an exponential average.

    For :func:`average` from zero the weight is 1 - beta2^t, so this is Adam's correction.

    Args:
        statistics: H ``[b+1, n]`` and its weight, at least one gradient in it.

    Returns:
        ``[b+1, n]``; NaN before the first gradient.
    """
    return statistics.H / statistics.weight


# Damping


def one_norm(H: jax.Array) -> jax.Array:
    """The one-norm of a symmetric banded matrix: its largest column sum of magnitudes.

    Order in column i: (|H_ii| + |H_{i+1,i}|) + |H_{i,i-1}|. SONew's published code overwrites the sum with
    each diagonal in turn and so can return half the norm.

    Args:
        H: ``[b+1, n]``.

    Returns:
        A scalar. Cost: 2 b n additions.

    Example:
        >>> float(one_norm(jnp.array([[1.0, 10.0, 1.0], [3.0, 3.0, 0.0]])))
        16.0
    """
    H = check_banded(H)
    sums = jnp.abs(H[0])
    if H.shape[0] == 2:
        edge = jnp.abs(H[1, :-1])
        none = jnp.zeros_like(sums[:1])
        sums = sums + jnp.concatenate([edge, none]) + jnp.concatenate([none, edge])
    return jnp.max(sums)


def damp(H: jax.Array, epsilon: jax.Array, floor: jax.Array | float = 0) -> jax.Array:
    """H with max(epsilon ||H||_1, floor) added to its diagonal.

    In a format with unit roundoff u the damping does nothing to a diagonal entry above about epsilon
    ||H||_1 / u.

    Args:
        H: ``[b+1, n]``.
        epsilon: scalar array, relative to the norm.
        floor: scalar array, absolute; saves an H of zeros, if the format can represent it at all.

    Returns:
        ``[b+1, n]``. Cost: (2b + 1) n flops.
    """
    return damp_absolute(H, jnp.maximum(epsilon * one_norm(H), floor))


def damp_absolute(H: jax.Array, epsilon: jax.Array) -> jax.Array:
    """H + epsilon I.

    Args:
        H: ``[b+1, n]``.
        epsilon: scalar array, in the units of H.

    Returns:
        ``[b+1, n]``. Cost: n flops.

    Raises:
        ValueError: for a shape other than ``[1, n]`` or ``[2, n]``.
    """
    H = check_banded(H)
    return jnp.concatenate([H[:1] + epsilon, H[1:]])


# What the above share


def _check_band(band: int) -> None:
    if band not in {0, 1}:
        raise ValueError(f"band {band} given; supported are 0 (diagonal) and 1 (tridiagonal)")


def check_banded(H: jax.Array) -> jax.Array:
    """H as an array, if it is ``[1, n]`` or ``[2, n]``.

    Args:
        H: anything that jax.numpy takes for an array.

    Returns:
        The same values.

    Raises:
        ValueError: for any other shape.
    """
    H = jnp.asarray(H)
    if H.ndim != 2 or H.shape[0] not in {1, 2} or H.shape[1] == 0:
        raise ValueError(
            f"a band of shape {H.shape} given; supported are [1, n] (diagonal) and [2, n] (tridiagonal), "
            "row k holding H[i+k, i]"
        )
    return H
