"""Moving the numbers of arrays, for the scalar interpreter."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def spread(image, dilation, padding):
    """An image [batch, feature, ...] with zeros between its elements, and around them; less than none cut off."""
    sizes = [(n - 1) * d + 1 for n, d in zip(image.shape[2:], dilation, strict=True)]
    wide = np.zeros((*image.shape[:2], *sizes))
    wide[:, :, *(slice(None, None, d) for d in dilation)] = image
    wide = np.pad(wide, [(0, 0), (0, 0), *((max(low, 0), max(high, 0)) for low, high in padding)])
    return wide[
        :, :, *(slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(wide.shape[2:], padding, strict=True))
    ]


def as_list(equation, results):
    results = results if equation.primitive.multiple_results else [results]
    return [r if jax.dtypes.issubdtype(r.dtype, jax.dtypes.prng_key) else np.asarray(r) for r in results]


def leading(x, summed, batch=()):
    """The summed axes first and flattened, then the batch axes, then the rest."""
    rest = [i for i in range(x.ndim) if i not in {*summed, *batch}]
    x = np.transpose(x, (*summed, *batch, *rest))
    return x.reshape(-1 if x.size else math.prod(x.shape[: len(summed)]), *x.shape[len(summed) :])


def moved(equation, x):
    """Let JAX move the positions of the numbers, then look up which numbers came to lie where."""
    is_float = [np.asarray(v).dtype == np.float64 for v in x]
    floats = [np.asarray(v) for v, real in zip(x, is_float, strict=True) if real]
    numbers = np.concatenate([*map(np.ravel, floats), [np.nan]])
    starts = iter(np.cumsum([0, *(v.size for v in floats)]))
    positions = [
        jnp.asarray(next(starts) + np.arange(v.size).reshape(v.shape), jnp.int32) if real else v
        for v, real in zip(x, is_float, strict=True)
    ]
    params = dict(equation.params)
    if "fill_value" in params:
        params["fill_value"] = numbers.size - 1
    if equation.primitive.name == "scatter":
        params["update_jaxpr"], params["update_consts"] = None, ()
    return [numbers[i] for i in as_list(equation, equation.primitive.bind(*positions, **params))]
