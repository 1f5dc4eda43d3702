"""Errors of computed results."""

from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

Kind = Literal["normwise", "componentwise"]


def paired(computed: Any, exact: Any) -> tuple[np.ndarray, np.ndarray]:
    """The entries of two results, leaf beside leaf, as two vectors: float64, or objects where a leaf holds objects.

    Args:
        computed: a pytree of arrays or numbers; a list of numbers is an array.
        exact: of the same structure; where `computed` has an array, anything that NumPy makes one of that shape of.
            A leaf that is an array of integers or booleans in both is left out.

    Returns:
        Two arrays of shape [n].

    Raises:
        ValueError: the structures or shapes differ, or a leaf holds something other than real numbers.
    """
    tree = jax.tree.structure(computed, is_leaf=_is_list_of_numbers)
    try:
        pairs = zip(tree.flatten_up_to(computed), tree.flatten_up_to(exact), strict=True)
        arrays = [(np.asarray(a), np.asarray(b)) for a, b in pairs]
    except ValueError as error:
        raise ValueError(
            f"the computed result has the structure {tree} and the exact one "
            f"{jax.tree.structure(exact)}: compare like with like"
        ) from error
    for a, b in arrays:
        if a.shape != b.shape:
            raise ValueError(
                f"the computed result has an array of shape {a.shape} where the exact one has shape {b.shape}: "
                "compare like with like"
            )
    kept = [[_reals(x) for x in pair] for pair in arrays if not all(x.dtype.kind in "iub" for x in pair)]
    wanted = object if any(x.dtype == object for pair in kept for x in pair) else np.float64
    x, y = ([pair[k].astype(wanted) for pair in kept] for k in (0, 1))
    return (np.concatenate(x), np.concatenate(y)) if kept else (np.zeros(0), np.zeros(0))


def _is_list_of_numbers(node: Any) -> bool:
    number = (int, float, np.floating, mpmath.mpf)
    return isinstance(node, list) and all(isinstance(x, number) or _is_list_of_numbers(x) for x in node)


def _reals(x: np.ndarray) -> np.ndarray:
    """A vector of floats or objects; integers become objects, which hold them exactly."""
    if x.dtype.kind in "iub":
        return x.astype(object).ravel()
    numbers, real = (int, float, Fraction, np.number, mpmath.mpf), jnp.issubdtype(x.dtype, np.floating)
    if x.dtype == object:
        # a list of scalar arrays of objects comes out of NumPy as an array of arrays
        values = [v.item() if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in x.flat]
        x, real = np.fromiter(values, object, len(values)), all(isinstance(v, numbers) for v in values)
    if not real:
        raise ValueError(f"a result holds {x.dtype} values ({x.ravel()[:1]} ...): only real numbers can be compared")
    return x.ravel()


def forward_error(computed: Any, exact: Any, kind: Kind = "normwise", digits: int = 50) -> float:
    """Relative error of a computed result.

    Normwise: ||y - y*||_2 / ||y*||_2 over all leaves together. Componentwise: max_i |y_i - y*_i| / |y*_i|, where a zero
    that was computed as zero counts as exact. Differences are formed with `digits` digits, so the error of an error
    never matters.

    Args:
        computed: pytree of arrays; a list of numbers is an array.
        exact: pytree of the same structure and shapes, of floats, integers or `mpmath.mpf`. Arrays that hold integers
            or booleans in both are not judged.
        kind: "normwise" or "componentwise".
        digits: decimal digits of the comparison.

    Returns:
        The error; infinite where the exact result is zero and the computed one is not, or where an entry that is not
        finite, in either, is not the same in both. Such entries that agree count as exact.

    Raises:
        ValueError: the two have different structures or shapes, or the kind is unknown.

    Example:
        >>> forward_error([3.0, 4.5], [3.0, 4.0])
        0.1
        >>> forward_error([3.0, 4.5], [3.0, 4.0], "componentwise")
        0.125
    """
    if kind not in {"normwise", "componentwise"}:
        raise ValueError(f"unknown kind of error {kind!r}: choose 'normwise' or 'componentwise'")
    y, z = paired(computed, exact)
    with mpmath.workdps(digits):  # conversion to mpf rounds to the working precision: it belongs inside
        pairs = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(y, z, strict=True)]
        finite = [mpmath.isfinite(a) and mpmath.isfinite(b) for a, b in pairs]
        same = [a == b or (mpmath.isnan(a) and mpmath.isnan(b)) for a, b in pairs]
        if not all(f or s for f, s in zip(finite, same, strict=True)):
            return float("inf")
        pairs = [pair for pair, f in zip(pairs, finite, strict=True) if f]
        if kind == "componentwise":
            return max((_ratio(abs(a - b), abs(b)) for a, b in pairs), default=0.0)
        difference = mpmath.sqrt(mpmath.fsum(((a - b) for a, b in pairs), squared=True))
        return _ratio(difference, mpmath.sqrt(mpmath.fsum((b for _, b in pairs), squared=True)))


def _ratio(difference: Any, size: Any) -> float:
    if size == 0:
        return 0.0 if difference == 0 else float("inf")
    return float(difference / size)


def direction_cosine(u: Any, v: Any) -> float:
    """Cosine of the angle between two directions, all leaves taken together.

    Args:
        u: pytree of arrays.
        v: pytree of the same structure and shapes.

    Returns:
        A number in [-1, 1]; NaN if either has an entry that is not finite, or is zero.

    Example:
        >>> direction_cosine([1e300, 0.0], [1e-300, 1e-300])
        0.7071067811865475
    """
    x, y = (np.asarray(entries, np.float64) for entries in paired(u, v))
    if not (np.isfinite(x).all() and np.isfinite(y).all() and x.any() and y.any()):
        return float("nan")
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))
