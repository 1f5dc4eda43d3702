"""Condition numbers of functions, from their own derivatives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from precond_lab.diagnosis.errors import Kind

LARGEST_JACOBIAN = 2**26  # entries: half a gigabyte in float64


def condition_number(f: Callable, *args: Any, kind: Kind = "normwise", **kwargs: Any) -> float:
    """Relative condition number of `f` at its arguments.

    Normwise: ||J||_2 ||x||_2 / ||f(x)||_2, all floating-point arguments as one vector x and all floating-point results
    as one. Componentwise: max_i sum_j |J_ij| |x_j| / |f_i(x)|, the largest relative change of an entry per relative
    change of every input (Higham, Accuracy and Stability, section 7.2). The Jacobian J is JAX's, in float64.

    Args:
        f: a differentiable function of pytrees of arrays.
        *args: where it is judged; taken in float64, or in their own dtypes if the function pins its dtypes so that
            float64 is a `TypeError`. Integer and boolean leaves are held fixed.
        kind: "normwise" or "componentwise".
        **kwargs: further arguments, held fixed.

    Returns:
        The condition number; infinite where a result is zero and its derivative is not, or where either is not finite.

    Raises:
        ValueError: the Jacobian would have more than 2**26 entries, or the kind is unknown, or nothing in the arguments
            or the results is a floating-point number.

    Example:
        >>> import numpy as np
        >>> round(condition_number(lambda x: x[0] - x[1], np.array([1.01, 1.0]), kind="componentwise"), 6)
        201.0
    """
    if kind not in {"normwise", "componentwise"}:
        raise ValueError(f"unknown kind of condition number {kind!r}: choose 'normwise' or 'componentwise'")
    with jax.enable_x64(True):
        leaves, tree = jax.tree.flatten(args)
        leaves = [np.asarray(leaf) if isinstance(leaf, (bool, int, float)) else leaf for leaf in leaves]
        moving = [jnp.asarray(x, jnp.float64) for x in leaves if _is_real(x)]
        point, unravel = ravel_pytree(moving)

        def flat(vector: jax.Array, dtypes: tuple = ()) -> jax.Array:
            floats = unravel(vector)
            if dtypes:
                floats = [x.astype(dtype) for x, dtype in zip(floats, dtypes, strict=True)]
            remaining = iter(floats)
            values = [next(remaining) if _is_real(x) else x for x in leaves]
            results = jax.tree.leaves(f(*jax.tree.unflatten(tree, values), **kwargs))
            reals = [jnp.ravel(y).astype(jnp.float64) for y in results if _is_real(y)]
            return jnp.concatenate(reals) if reals else jnp.zeros(0)

        try:
            m, n = jax.eval_shape(flat, point).size, point.size
        except TypeError:
            flat = partial(flat, dtypes=tuple(x.dtype for x in leaves if _is_real(x)))
            m, n = jax.eval_shape(flat, point).size, point.size
        if not m or not n:
            raise ValueError("condition_number needs floating-point arguments and results: found none")
        if m * n > LARGEST_JACOBIAN:
            raise ValueError(
                f"the Jacobian would have {m} x {n} entries, more than 2**26: judge the function on a smaller input"
            )
        value, jacobian = np.asarray(flat(point)), np.asarray(jax.jit(jax.jacfwd(flat))(point))
    x = np.asarray(point)
    if not (np.isfinite(value).all() and np.isfinite(jacobian).all()):
        return float("inf")
    if kind == "componentwise":
        return float(np.max(_ratios(np.abs(jacobian) @ np.abs(x), np.abs(value))))
    return float(_ratios(np.linalg.norm(jacobian, 2) * np.linalg.norm(x), np.linalg.norm(value)))


def _is_real(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _ratios(numerator: Any, denominator: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(numerator) == 0, 0.0, np.asarray(numerator) / np.asarray(denominator))
