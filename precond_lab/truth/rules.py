"""One rule for every primitive of JAX that has a meaning without rounding.

A rule takes object arrays of numbers where the program has floating-point arrays, and NumPy arrays where it
has integers or booleans (random keys stay JAX's own); it gives the same. The state that the walk threads is
the `Reals` in which the rules compute; no rule changes it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab.interpreter import MOVES, Operation, Rule, Walk, decode_cond, decode_scan, decode_while
from precond_lab.truth.moves import move
from precond_lab.truth.multiprecision import Reals
from precond_lab.truth.primitives import NUMBERS, Compute, is_floating


def _is_complex(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, np.complexfloating)


def rule_for(operation: Operation) -> Rule:
    """The rule of an operation.

    Args:
        operation: one step of a program.

    Returns:
        Its rule.

    Raises:
        UnsupportedPrimitiveError: it has none.
    """
    name, values = operation.name, (*operation.inputs, *operation.outputs)
    if name in CONTROL:
        return CONTROL[name]
    if name in REFUSED:
        raise operation.refuse("evaluate", REFUSED[name])
    if any(_is_complex(value.dtype) for value in values):
        raise operation.refuse("evaluate", "complex numbers have no rule: write the real and imaginary parts")
    if not any(is_floating(value.dtype) for value in values):
        return _integer_rule
    if name in NUMBERS:
        return partial(_number_rule, NUMBERS[name])
    if name in MOVES:
        return _move_rule
    if name == "bitcast_convert_type":
        if is_floating(operation.inputs[0].dtype):
            raise operation.refuse("evaluate", "the bits of a number belong to a format; here there is none")
        return _native_rule  # the bits are integers, and say exactly which number they are
    raise operation.refuse("evaluate", "it has no rule; write it in plain jax.numpy operations")


def lift(value: Any, dtype: Any, reals: Reals) -> Any:
    """What the rules compute with, for a constant or an argument of this dtype."""
    if is_floating(dtype):
        return reals.array(value)
    if _is_key(value):
        return value
    return np.asarray(value).astype(dtype, copy=False) if dtype != jax.dtypes.float0 else np.asarray(value)


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended)


def _number_rule(compute: Compute, operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    del walk
    results = compute(operation, reals, *operands)
    results = results if isinstance(results, list) else [results]
    return [_as_array(x, output) for x, output in zip(results, operation.outputs, strict=True)], reals


def _as_array(value: Any, output: jax.ShapeDtypeStruct) -> np.ndarray:
    """An array of the program's shape and kind: NumPy makes bare objects of arrays without axes."""
    dtype = object if is_floating(output.dtype) else output.dtype
    return np.asarray(value, dtype=dtype).reshape(output.shape)


def _move_rule(operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    del walk
    return move(operation, operands), reals


def _integer_rule(operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    """Integers, booleans and keys: by NumPy where that is the same, else by JAX itself."""
    plain = all(isinstance(x, np.ndarray) and x.dtype.kind in "biu" for x in operands)
    if plain and operation.name in INTEGERS:
        with np.errstate(over="ignore"):  # integers wrap around
            result = INTEGERS[operation.name](operation, *operands)
        return [_as_array(result, operation.outputs[0])], reals
    if plain and operation.name in MOVES:
        return _move_rule(operation, operands, reals, walk)
    return _native_rule(operation, operands, reals, walk)


def _native_rule(operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    del walk
    results = operation.bind(*(x if _is_key(x) else jnp.asarray(x) for x in operands))
    return [lift(x, output.dtype, reals) for x, output in zip(results, operation.outputs, strict=True)], reals


def _scan(operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    scan = decode_scan(operation, operands)
    carry, rows = scan.carry, [[] for _ in range(scan.length)]
    for i in reversed(range(scan.length)) if scan.reverse else range(scan.length):
        results, reals = walk(scan.body, [*scan.consts, *carry, *(x[i, ...] for x in scan.xs)], reals)
        carry, rows[i] = results[: len(carry)], results[len(carry) :]
    outputs = operation.outputs[len(carry) :]
    return [*carry, *(_stack([row[k] for row in rows], output) for k, output in enumerate(outputs))], reals


def _stack(parts: Sequence, output: jax.ShapeDtypeStruct) -> Any:
    if parts and _is_key(parts[0]):
        return jnp.stack(parts)
    return np.stack(parts) if parts else _as_array([], output)


def _while(operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    loop = decode_while(operation, operands)
    carry = loop.carry
    while True:
        (going,), reals = walk(loop.test, [*loop.test_consts, *carry], reals)
        if not np.any(going):
            return carry, reals
        turned, reals = walk(loop.body, [*loop.body_consts, *carry], reals)
        # under vmap each lane has a test of its own, and a lane that has ended keeps its values
        carry = [_where(going, new, old) if np.ndim(going) else new for new, old in zip(turned, carry, strict=True)]


def _where(which: np.ndarray, new: Any, old: Any) -> Any:
    which = which.reshape(which.shape + (1,) * (new.ndim - which.ndim))
    return jnp.where(which, new, old) if _is_key(new) else np.where(which, new, old)


def _cond(operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    cond = decode_cond(operation, operands)
    branch = max(0, min(int(cond.index), len(cond.branches) - 1))
    return walk(cond.branches[branch], cond.operands, reals)


def _ignored(operation: Operation, operands: list, reals: Reals, walk: Walk) -> tuple:
    del operation, operands, walk
    return [], reals


CONTROL: dict[str, Rule] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "debug_print": _ignored,
    "debug_callback": _ignored,
}


def _native_ufunc(ufunc: np.ufunc) -> Compute:
    return lambda _, *operands: ufunc(*operands)


INTEGERS: dict[str, Compute] = {
    "add": _native_ufunc(np.add),
    "and": _native_ufunc(np.bitwise_and),
    "convert_element_type": lambda operation, x: x.astype(operation.outputs[0].dtype),
    "eq": _native_ufunc(np.equal),
    "ge": _native_ufunc(np.greater_equal),
    "gt": _native_ufunc(np.greater),
    "le": _native_ufunc(np.less_equal),
    "lt": _native_ufunc(np.less),
    "max": _native_ufunc(np.maximum),
    "min": _native_ufunc(np.minimum),
    "mul": _native_ufunc(np.multiply),
    "ne": _native_ufunc(np.not_equal),
    "not": _native_ufunc(np.invert),
    "or": _native_ufunc(np.bitwise_or),
    "reduce_and": lambda operation, x: np.bitwise_and.reduce(x, axis=tuple(operation.params["axes"])),
    "reduce_or": lambda operation, x: np.bitwise_or.reduce(x, axis=tuple(operation.params["axes"])),
    "sub": _native_ufunc(np.subtract),
    "xor": _native_ufunc(np.bitwise_xor),
}

_LIBRARY = "a library routine hides its steps, so they cannot be followed; write it in plain jax.numpy operations"
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        """
        cholesky cholesky_update custom_linear_solve eig eigh fft geqp3 geqrf hessenberg householder_product
        lu qr schur svd symmetric_product triangular_solve tridiagonal tridiagonal_solve ormqr ffi_call
        pallas_call
        """.split(),  # noqa: SIM905
        _LIBRARY,
    ),
    "conv_general_dilated": "convolutions have no rule; write it as matrix products of slices",
    "custom_lin": "a derivative that JAX has not finished cannot be followed; take it inside of the program",
    "nextafter": "it means the next number of a format, and without rounding there is no format",
    "pure_callback": "what a callback computes is hidden; write it in plain jax.numpy operations",
    "io_callback": "what a callback computes is hidden; write it in plain jax.numpy operations",
    "reduce_window_sum": "windows have no rule; write it as a sum of slices",
    "scatter_apply": "it computes while it scatters; write x.at[i].set(f(x[i]))",
}
