"""The recursions as a NumPy user writes them: arrays of a narrow dtype of ml_dtypes, one case after the other.

Every operation is one of NumPy's, which rounds its result to the dtype. They stand in the order that the programs of
the package state, so that where sums are formed alike, the results are the same to the bit. `np.add.reduce` over the
first axis adds rows in sequence and rounds every partial sum, in one call; ``@`` sums in float32, and rounds once.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

Arrays = tuple[np.ndarray, ...]


class Sums(NamedTuple):
    """A way to form sums of products.

    Attributes:
        columns: A x, [m].
        rows: x A, [n].
        inner: x y.
    """

    columns: Callable
    rows: Callable
    inner: Callable


def _rows_in_sequence(x: np.ndarray, A: np.ndarray) -> np.ndarray:
    return np.add.reduce(np.multiply(A, x[:, None], order="C"), axis=0)


def _columns_in_sequence(A: np.ndarray, x: np.ndarray) -> np.ndarray:
    return _rows_in_sequence(x, A.T)


def _inner_in_sequence(x: np.ndarray, y: np.ndarray) -> Any:
    return np.add.accumulate(x * y)[-1]


def _columns_by_loop(A: np.ndarray, x: np.ndarray) -> np.ndarray:
    total = A[:, 0] * x[0]
    for k in range(1, len(x)):
        total = total + A[:, k] * x[k]
    return total


def _rows_by_loop(x: np.ndarray, A: np.ndarray) -> np.ndarray:
    return _columns_by_loop(A.T, x)


def _inner_by_loop(x: np.ndarray, y: np.ndarray) -> Any:
    total = x[0] * y[0]
    for k in range(1, len(x)):
        total = total + x[k] * y[k]
    return total


def _by_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.matmul(a, b).astype(a.dtype)  # of ml_dtypes' arrays the product is one of float32


IN_SEQUENCE = Sums(_columns_in_sequence, _rows_in_sequence, _inner_in_sequence)
BY_LOOP = Sums(_columns_by_loop, _rows_by_loop, _inner_by_loop)
BY_MATMUL = Sums(_by_matmul, _by_matmul, _by_matmul)


def gain(sums: Sums, state: Arrays, v: np.ndarray, beta: Any, alpha: Any) -> Arrays:
    """P <- (P - k w^T) / beta, k = w / (tau + s)."""
    (P,) = state
    w = sums.columns(P, v)
    k = w / (beta / alpha + sums.inner(v, w))
    return ((P - k[:, None] * w[None, :]) / beta,)


def symmetric(sums: Sums, state: Arrays, v: np.ndarray, beta: Any, alpha: Any) -> Arrays:
    """P <- (P - w w^T / (tau + s)) / beta; both triangles come out the same, as P has them the same."""
    (P,) = state
    w = sums.columns(P, v)
    d = beta / alpha + sums.inner(v, w)
    return ((P - w[:, None] * w[None, :] / d) / beta,)


def potter(sums: Sums, state: Arrays, v: np.ndarray, beta: Any, alpha: Any) -> Arrays:
    """S <- (S - k f^T) / sqrt(beta), f = S^T v."""
    (S,) = state
    f = sums.rows(v, S)
    z = sums.columns(S, f)
    tau = beta / alpha
    d = tau + sums.inner(f, f)
    k = z / (d + np.sqrt(tau) * np.sqrt(d))
    return ((S - k[:, None] * f[None, :]) / np.sqrt(beta),)


def bierman_ud(sums: Sums, state: Arrays, v: np.ndarray, beta: Any, alpha: Any) -> Arrays:
    """The measurement update of P = (I + U) D (I + U)^T."""
    U, d = state
    f = sums.rows(v, U) + v
    g = d * f
    totals = np.add.accumulate(np.concatenate([np.atleast_1d(beta / alpha), f * g]))
    before, after = totals[:-1], totals[1:]
    d = (d * (before / after)) / beta
    products = U * g
    np.fill_diagonal(products, g)
    K = np.add.accumulate(np.concatenate([np.zeros_like(products[:, :1]), products[:, :-1]], axis=1), axis=1)
    return U - K * (f / before), d


FORMS: Mapping[str, Callable[..., Arrays]] = MappingProxyType({
    "gain": gain,
    "symmetric": symmetric,
    "potter": potter,
    "bierman_ud": bierman_ud,
})
"""The steps by the names that `METHODS` has for them."""


def dtype_of(format: str) -> np.dtype:
    """The dtype of a format.

    Args:
        format: its name.

    Returns:
        NumPy's own, or one of ml_dtypes.
    """
    return np.dtype(getattr(ml_dtypes, format, None) or getattr(np, format))


def run(form: str, sums: Sums, state: Arrays, V: np.ndarray, beta: Any, alpha: Any) -> Arrays:
    """One case.

    Args:
        form: a name in `FORMS`.
        sums: how sums are formed.
        state: its arrays, of the dtype.
        V: the stream, [steps, n].
        beta: decay, a scalar of the dtype.
        alpha: weight, likewise.

    Returns:
        The last state.
    """
    step = FORMS[form]
    with np.errstate(all="ignore"):
        for v in V:
            state = step(sums, state, v, beta, alpha)
    return state
