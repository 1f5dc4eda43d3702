"""What the floating-point primitives of JAX compute, over object arrays of numbers.

A computation takes the operation, the `Reals` to compute in, and the operands; it gives one result or a
list, whose shape may still lack axes of length one.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.interpreter import Operation
from precond_lab.truth.multiprecision import Reals, ordering

Compute = Callable[..., Any]


@cache
def is_floating(dtype: Any) -> bool:
    """Whether arrays of this dtype are object arrays of numbers here."""
    return jnp.issubdtype(dtype, np.floating)


def _function(name: str) -> Compute:
    return lambda _, reals, *operands: reals.functions[name](*operands)


def _operator(ufunc: np.ufunc) -> Compute:
    return lambda _, reals, *operands: ufunc(*operands)


def _integer_pow(operation: Operation, reals: Reals, x: np.ndarray) -> Any:
    return reals.functions["pow"](x, reals.exact(operation.params["y"]))


def _pow(_: Operation, reals: Reals, x: np.ndarray, y: np.ndarray) -> Any:
    return reals.functions["pow"](x, y if y.dtype == object else reals.array(y))


def _clamp(_: Operation, reals: Reals, low: np.ndarray, x: np.ndarray, high: np.ndarray) -> Any:
    return reals.functions["max"](low, reals.functions["min"](x, high))


def _round(operation: Operation, reals: Reals, x: np.ndarray) -> Any:
    even = int(operation.params["rounding_method"]) == int(lax.RoundingMethod.TO_NEAREST_EVEN)
    return reals.functions["round_even" if even else "round_away"](x)


def _polynomial(_: Operation, reals: Reals, x: np.ndarray, *coefficients: np.ndarray) -> Any:
    result = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = np.add(np.multiply(result, x), coefficient)
    return np.broadcast_arrays(result, x)[0]


def _convert(operation: Operation, reals: Reals, x: np.ndarray) -> Any:
    """Numbers stay as they are; they become integers by truncation, as in XLA: saturated, NaN to zero."""
    dtype = operation.outputs[0].dtype
    if x.dtype != object:
        return reals.array(x)
    if is_floating(dtype):
        return x
    if dtype == np.bool_:
        return np.not_equal(x, reals.zero)
    bounds = jnp.iinfo(dtype)
    low, high = int(bounds.min), int(bounds.max)
    truncate = lambda v: 0 if v != v else low if v <= low else high if v >= high else int(v)  # noqa: E731, PLR0124
    return np.frompyfunc(truncate, 1, 1)(x)


def _iota(operation: Operation, reals: Reals) -> Any:
    params = operation.params
    shape = [1] * len(params["shape"])
    shape[params["dimension"]] = -1
    counts = np.arange(params["shape"][params["dimension"]]).reshape(shape)
    return reals.array(np.broadcast_to(counts, params["shape"]))


def _lanes(x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """The array with these axes made one, the last."""
    moved = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    kept = moved.shape[: x.ndim - len(axes)]
    return moved.reshape(*kept, int(np.prod(moved.shape[len(kept) :])))


def _reduce(name: str, start: Any) -> Compute:
    def compute(operation: Operation, reals: Reals, x: np.ndarray) -> Any:
        ufunc = np.multiply if name == "mul" else reals.functions[name]
        lanes = _lanes(x, operation.params["axes"])
        first = np.full((*lanes.shape[:-1], 1), reals.exact(start), dtype=object)
        return ufunc.reduce(np.concatenate([first, lanes], axis=-1), axis=-1)

    return compute


def _reduce_sum(operation: Operation, reals: Reals, x: np.ndarray) -> Any:
    return reals.sums(_lanes(x, operation.params["axes"]))


def _accumulate(name: str) -> Compute:
    def compute(operation: Operation, reals: Reals, x: np.ndarray) -> Any:
        ufunc = {"add": np.add, "mul": np.multiply}.get(name) or reals.functions[name]
        axis, backward = operation.params["axis"], operation.params["reverse"]
        x = np.flip(x, axis) if backward else x
        sums = ufunc.accumulate(x, axis=axis, dtype=object) if x.size else x
        return np.flip(sums, axis) if backward else sums

    return compute


def _by_lane(x: np.ndarray, axis: int) -> list[list]:
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]).tolist()


def _argument(choose: Callable) -> Compute:
    def compute(operation: Operation, reals: Reals, x: np.ndarray) -> Any:
        del reals
        (axis,) = operation.params["axes"]
        return [choose(ordering(lane)) for lane in _by_lane(x, axis)]

    return lambda *arguments: np.asarray(compute(*arguments))


def _argmax(keys: list[tuple]) -> int:  # the first NaN, if there is one
    return max(range(len(keys)), key=keys.__getitem__)


def _argmin(keys: list[tuple]) -> int:
    return min(range(len(keys)), key=lambda i: (not keys[i][0], *keys[i][1:]))


def _keys(x: np.ndarray, axis: int) -> list[list]:
    lanes = _by_lane(x, axis)
    return [ordering(lane) for lane in lanes] if x.dtype == object else lanes


def _along(orders: list, x: np.ndarray, axis: int) -> np.ndarray:
    """Elements in the given order along one axis."""
    moved = np.moveaxis(x, axis, -1)
    lanes = moved.reshape(-1, moved.shape[-1])
    order = np.asarray(orders, dtype=np.intp).reshape(len(lanes), -1)
    return np.moveaxis(np.take_along_axis(lanes, order, axis=1).reshape(*moved.shape[:-1], -1), -1, axis)


def _sort(operation: Operation, reals: Reals, *operands: np.ndarray) -> list:
    del reals
    axis = operation.params["dimension"]
    if not operands[0].size:
        return list(operands)
    by_operand = [_keys(x, axis) for x in operands[: operation.params["num_keys"]]]
    orders = []
    for lane in zip(*by_operand, strict=True):
        keys = list(zip(*lane, strict=True))
        orders.append(sorted(range(len(keys)), key=keys.__getitem__))
    return [_along(orders, x, axis) for x in operands]


def _top_k(operation: Operation, reals: Reals, x: np.ndarray) -> list:
    del reals
    k, axis = operation.params["k"], operation.params.get("axis", x.ndim - 1) % x.ndim
    orders = [sorted(range(len(keys)), key=keys.__getitem__, reverse=True)[:k] for keys in _keys(x, axis)]
    positions = np.moveaxis(np.broadcast_to(np.arange(x.shape[axis]), np.moveaxis(x, axis, -1).shape), -1, axis)
    return [_along(orders, x, axis), _along(orders, positions, axis)]


def _dot_general(operation: Operation, reals: Reals, A: np.ndarray, B: np.ndarray) -> Any:
    (contract_a, contract_b), (batch_a, batch_b) = operation.params["dimension_numbers"]
    A, B = (x if x.dtype == object else reals.array(x) for x in (A, B))
    A, B = _matrices(A, batch_a, contract_a), _matrices(B, batch_b, contract_b)
    products = [reals.product(a, b.T) for a, b in zip(A, B, strict=True)]
    return np.stack(products) if products else np.empty(0, dtype=object)


def _matrices(x: np.ndarray, batch: Sequence[int], contract: Sequence[int]) -> np.ndarray:
    """Axes grouped as ``[batch, free, contracted]``."""
    free = [axis for axis in range(x.ndim) if axis not in {*batch, *contract}]
    size = lambda axes: int(np.prod([x.shape[axis] for axis in axes]))  # noqa: E731
    return x.transpose([*batch, *free, *contract]).reshape(size(batch), size(free), size(contract))


def _scatter(combine: Callable[[Reals], Callable]) -> Compute:
    def compute(operation: Operation, reals: Reals, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> Any:
        params = operation.params
        find = _targets(params["dimension_numbers"], params["mode"], x.shape, updates.shape)
        with jax.enable_x64(True):  # positions are exact in float64
            targets = np.asarray(find(indices)).ravel().tolist()
        flat, function = x.flatten(), combine(reals)
        for target, update in zip(targets, updates.ravel(), strict=True):
            if target:
                flat[target - 1] = function(flat[target - 1], update)
        return flat

    return compute


@cache
def _targets(numbers: Any, mode: Any, shape: tuple, updates_shape: tuple) -> Callable:
    """A function of the indices: the position, from 1, that each update goes to; 0 if it is dropped.

    Scattering is linear in its updates, and its transpose gathers: an update goes where the transpose reads.
    """

    def find(indices: jax.Array) -> jax.Array:
        positions = jnp.arange(1.0, np.prod(shape, dtype=int) + 1.0, dtype=np.float64).reshape(shape)
        updates = jax.ShapeDtypeStruct(updates_shape, positions.dtype)

        def scatter(updates: jax.Array) -> jax.Array:
            return lax.scatter_add(jnp.zeros_like(positions), indices, updates, numbers, mode=mode)

        (targets,) = jax.linear_transpose(scatter, updates)(positions)
        return targets.astype(np.int32)

    return jax.jit(find)


def _added(*_: Any) -> Callable:
    return lambda old, new: old + new


NUMBERS: dict[str, Compute] = {
    **{
        name: _function(name)
        for name in """
        acos acosh asin asinh atan atan2 atanh cbrt ceil cos cosh digamma div erf erf_inv erfc exp exp2
        expm1 floor eq_to is_finite le_to lgamma lt_to log log1p log2 logistic max min one_minus_square
        polygamma reciprocal rem rsqrt sign sin sinh sqrt tan tanh
        """.split()  # noqa: SIM905
    },
    "abs": _operator(np.absolute),
    "add": _operator(np.add),
    "add_any": _operator(np.add),
    "argmax": _argument(_argmax),
    "argmin": _argument(_argmin),
    "clamp": _clamp,
    "convert_element_type": _convert,
    "cumlogsumexp": _accumulate("logaddexp"),
    "cummax": _accumulate("max"),
    "cummin": _accumulate("min"),
    "cumprod": _accumulate("mul"),
    "cumsum": _accumulate("add"),
    "dot_general": _dot_general,
    "empty": lambda operation, reals: np.full(operation.outputs[0].shape, reals.zero, dtype=object),
    "eq": _operator(np.equal),
    "ge": _operator(np.greater_equal),
    "gt": _operator(np.greater),
    "integer_pow": _integer_pow,
    "iota": _iota,
    "le": _operator(np.less_equal),
    "lt": _operator(np.less),
    "mul": _operator(np.multiply),
    "ne": _operator(np.not_equal),
    "neg": _operator(np.negative),
    "polynomial": _polynomial,
    "pow": _pow,
    "reduce_max": _reduce("max", -np.inf),
    "reduce_min": _reduce("min", np.inf),
    "reduce_precision": lambda operation, reals, x: x,  # it rounds, and here nothing does
    "reduce_prod": _reduce("mul", 1),
    "reduce_sum": _reduce_sum,
    "round": _round,
    "scatter-add": _scatter(_added),
    "scatter-max": _scatter(lambda reals: reals.functions["max"]),
    "scatter-min": _scatter(lambda reals: reals.functions["min"]),
    "scatter-mul": _scatter(lambda _: lambda old, new: old * new),
    "scatter-sub": _scatter(lambda _: lambda old, new: old - new),
    "sort": _sort,
    "square": lambda operation, reals, x: x * x,
    "sub": _operator(np.subtract),
    "top_k": _top_k,
}
