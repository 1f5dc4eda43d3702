"""Errors of computed results."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

Kind = Literal["normwise", "componentwise"]


def vector(tree: Any) -> np.ndarray:
    """The floating-point leaves of a pytree as one vector: float64, or objects where a leaf holds objects.

    Args:
        tree: a pytree of arrays or numbers; integer and boolean leaves are left out.

    Returns:
        Array of shape [n].
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    kept = [x for x in leaves if x.dtype == object or jnp.issubdtype(x.dtype, np.floating)]
    exact = any(x.dtype == object for x in kept)
    flat = [x.astype(object if exact else np.float64).ravel() for x in kept]
    return np.concatenate(flat) if flat else np.zeros(0)


def forward_error(computed: Any, exact: Any, kind: Kind = "normwise", digits: int = 50) -> float:
    """Relative error of a computed result.

    Normwise: ||y - y*||_2 / ||y*||_2 over all leaves together. Componentwise: max_i |y_i - y*_i| / |y*_i|, where a zero
    that was computed as zero counts as exact. Differences are formed with `digits` digits, so the error of an error
    never matters.

    Args:
        computed: pytree of arrays.
        exact: pytree of the same structure, of arrays of floats or of `mpmath.mpf`.
        kind: "normwise" or "componentwise".
        digits: decimal digits of the comparison.

    Returns:
        The error; infinite where the exact result is zero and the computed one is not, or where an entry that is not
        finite, in either, is not the same in both. Such entries that agree count as exact.

    Raises:
        ValueError: the two have different numbers of entries, or the kind is unknown.

    Example:
        >>> forward_error([3.0, 4.5], [3.0, 4.0])
        0.1
        >>> forward_error([3.0, 4.5], [3.0, 4.0], "componentwise")
        0.125
    """
    if kind not in {"normwise", "componentwise"}:
        raise ValueError(f"unknown kind of error {kind!r}: choose 'normwise' or 'componentwise'")
    y, z = vector(computed), vector(exact)
    if y.size != z.size:
        raise ValueError(f"the computed result has {y.size} entries and the exact one {z.size}: compare like with like")
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
        v: pytree of arrays with as many entries.

    Returns:
        A number in [-1, 1]; NaN if either has an entry that is not finite, or is zero.

    Example:
        >>> direction_cosine([1e300, 0.0], [1e-300, 1e-300])
        0.7071067811865475
    """
    x, y = (np.asarray(vector(tree), np.float64) for tree in (u, v))
    if not (np.isfinite(x).all() and np.isfinite(y).all() and x.any() and y.any()):
        return float("nan")
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))
