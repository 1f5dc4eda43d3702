"""NumPy arrays of any kind of element, moved as the primitives of JAX that only move elements say."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.interpreter import MOVES, Operation


def move(operation: Operation, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Apply a primitive of `MOVES` to NumPy arrays of any kind of element, objects too.

    The common ones are NumPy's own. Otherwise the primitive is run on the positions of the elements, in
    JAX, and the elements then follow their positions. So no element is ever looked at, and every parameter
    means just what it means to JAX. Results may share memory with operands.

    Args:
        operation: an operation whose name is in `MOVES`.
        operands: its operands; arrays of the data's own element type, integers and booleans as such.

    Returns:
        The results, of the data's element type.
    """
    if operation.name in _PASSED:
        return list(operands)
    result = _DIRECT[operation.name](operation, *operands) if operation.name in _DIRECT else None
    return _move_positions(operation, operands) if result is None else [result]


def _move_positions(operation: Operation, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    is_data = [_is_data(operation, i) for i in range(len(operands))]
    pool = [np.asarray(x) for x, data in zip(operands, is_data, strict=True) if data]
    offsets = np.cumsum([1, *(x.size for x in pool)])
    # position 0 is where an out-of-bounds gather reads
    numbered = iter(
        jnp.asarray(np.arange(start, start + x.size).reshape(x.shape), jnp.int32)
        for start, x in zip(offsets, pool, strict=False)
    )
    arguments = [next(numbered) if data else jnp.asarray(x) for x, data in zip(operands, is_data, strict=True)]
    params = {"fill_value": 0} if operation.name == "gather" else {}
    positions = _bind_move(operation._replace(params={**operation.params, **params}), arguments)
    flat = np.concatenate([x.ravel() for x in pool])
    if any(np.any(np.asarray(p) == 0) for p in positions):
        flat = np.append(flat, _fill(operation, pool[0]))  # position 0 is index -1
    return [flat[np.ravel(p) - 1].reshape(np.shape(p)) for p in positions]


def _is_data(operation: Operation, index: int) -> bool:
    first = {"select_n": range(1, len(operation.inputs)), "scatter": (0, 2)}.get(operation.name)
    if first is not None:
        return index in first
    variadic = operation.name in {"concatenate", "stack"}
    data = {"dynamic_update_slice": 2, "pad": 2}.get(operation.name, 1)
    return variadic or index < data


def _bind_move(operation: Operation, arguments: list) -> list:
    if operation.name != "scatter":
        return operation.bind(*arguments)
    x, indices, updates = arguments
    params = operation.params  # its parameters hold a jaxpr typed for the data: state it anew for positions
    return [
        lax.scatter(
            x,
            indices,
            updates,
            params["dimension_numbers"],
            indices_are_sorted=params["indices_are_sorted"],
            unique_indices=params["unique_indices"],
            mode=params["mode"],
        )
    ]


def _fill(operation: Operation, data: np.ndarray) -> np.ndarray:
    """One element of the data's type: what an out-of-bounds gather gives."""
    fill, kind = operation.params.get("fill_value"), data.dtype.kind
    if fill is None and kind in "iub":
        bounds = np.iinfo(data.dtype) if kind != "b" else None
        fill = True if bounds is None else bounds.min if kind == "i" else bounds.max
    fill = np.nan if fill is None else fill
    if kind == "O" and data.size:
        fill = type(data.flat[0])(fill)
    return np.asarray([fill]).astype(data.dtype)


def _broadcast_in_dim(operation: Operation, x: np.ndarray) -> np.ndarray:
    shape = [1] * len(operation.params["shape"])
    for axis, size in zip(operation.params["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(x.reshape(shape), operation.params["shape"])


def _reshape(operation: Operation, x: np.ndarray) -> np.ndarray:
    order = operation.params.get("dimensions") if operation.name == "reshape" else None
    return (x if order is None else x.transpose(order)).reshape(operation.outputs[0].shape)


def _slice(operation: Operation, x: np.ndarray) -> np.ndarray:
    params = operation.params
    strides = params["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


def _window(x: np.ndarray, sizes: Sequence[int], starts: Sequence) -> tuple:
    """Where a slice of these sizes lies: JAX moves it inside of the array."""
    corner = [max(0, min(int(i), n - size)) for i, n, size in zip(starts, x.shape, sizes, strict=True)]
    return (*(slice(i, i + size) for i, size in zip(corner, sizes, strict=True)), ...)


def _dynamic_update_slice(_: Operation, x: np.ndarray, update: np.ndarray, *starts: Any) -> np.ndarray:
    x = x.copy()
    x[_window(x, update.shape, starts)] = update
    return x


def _select(_: Operation, which: np.ndarray, *cases: np.ndarray) -> np.ndarray | None:
    if len(cases) != 2 or np.ndim(which) not in {0, cases[0].ndim}:
        return None
    return np.where(np.asarray(which, bool), cases[1], cases[0])


def _pad(operation: Operation, x: np.ndarray, value: np.ndarray) -> np.ndarray | None:
    config = operation.params["padding_config"]
    if any(low < 0 or high < 0 for low, high, _ in config):
        return None
    padded = np.full(operation.outputs[0].shape, value, dtype=x.dtype)
    inside = (
        slice(low, low + max(0, (n - 1) * (gap + 1) + 1), gap + 1)
        for n, (low, _, gap) in zip(x.shape, config, strict=True)
    )
    padded[(*inside, ...)] = x
    return padded


# Moves that leave every operand as it is, and moves that NumPy knows, which may decline with None.
_PASSED = MOVES & {
    "copy",
    "copy_p",
    "device_put",
    "layout_constraint",
    "name",
    "optimization_barrier",
    "pvary",
    "reshard",
    "sharding_constraint",
    "stop_gradient",
}
_DIRECT: dict[str, Callable[..., np.ndarray | None]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda operation, *parts: np.concatenate(parts, axis=operation.params["dimension"]),
    "dynamic_slice": lambda operation, x, *starts: x[_window(x, operation.params["slice_sizes"], starts)],
    "dynamic_update_slice": _dynamic_update_slice,
    "pad": _pad,
    "reshape": _reshape,
    "rev": lambda operation, x: np.flip(x, operation.params["dimensions"]),
    "select_n": _select,
    "slice": _slice,
    "squeeze": _reshape,
    "transpose": lambda operation, x: x.transpose(operation.params["permutation"]),
}
