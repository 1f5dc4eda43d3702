"""The rule of every primitive in an emulated arithmetic."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab import interpreter
from precond_lab.arithmetic import convolutions, devices, expansions, formats, products, scatter_sums, sums, windows
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.limits import off_the_limit
from precond_lab.arithmetic.machine import DIRECTED, Machine, State, is_float
from precond_lab.arithmetic.primitives import KINDS, REFUSALS, Kind
from precond_lab.arithmetic.rounding import round_bits
from precond_lab.arithmetic.specification import within
from precond_lab.interpreter import Operation, Rule, Walk

MachineRule = Callable[[Machine, Operation, list, State, Walk], tuple[list, State]]


def rule_for(machine: Machine, operation: Operation) -> Rule:
    """The rule of one operation.

    Args:
        machine: the arithmetic at work.
        operation: the operation, with the dtypes that it has in the un-emulated program.

    Returns:
        A rule as `interpreter.run` calls it.

    Raises:
        UnsupportedPrimitiveError: the table refuses the primitive, or does not know it.
    """
    kind = KINDS.get(operation.name)
    if kind is None:
        raise operation.refuse("emulate", "it is not in the table of primitives, so nothing is known of its roundings")
    dtypes = [x.dtype for x in (*operation.inputs, *operation.outputs)]
    if any(jnp.issubdtype(d, jnp.complexfloating) for d in dtypes):
        raise operation.refuse("emulate", "complex numbers are not emulated; work on real and imaginary parts")
    if kind is Kind.OPAQUE:
        return expansions.rule_of(machine, operation)
    if kind in REFUSALS:
        raise operation.refuse("emulate", kind.value)
    if operation.name in SPECIAL and (any(map(is_float, dtypes)) or operation.name in CONTROL | devices.RULES.keys()):
        return partial(SPECIAL[operation.name], machine)
    if operation.name == "neg" and not machine.arithmetic.result.signed_zero:
        kind = Kind.ROUNDED  # the negative of zero is not a number of the format
    return partial(_ELEMENTWISE[kind] if any(is_float(x.dtype) for x in operation.outputs) else _bind, machine)


def _bind(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    return operation.bind(*operands), state


def _rounded(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    return _settle_all(machine, operation, operation.bind(*operands), operands, state)


def _library(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Evaluate in float64 even where the carrier is float32: the library's error is then far below the format's.

    Some functions have results that are numbers of the format, or ties between two (2**3, the cube root of 8). Their
    last bits, in which the library may err, are rounded off first, lest such a result end on the wrong side.
    """
    if machine.arithmetic.carrier != "float32":
        operands = [machine.leave(x, jnp.float64) if is_float(x.dtype) else x for x in operands]
    raw = operation.bind(*operands)
    trusted = 2 * machine.arithmetic.result.precision <= TRUSTED.precision
    if operation.name in WITH_EXACT_RESULTS and trusted and raw[0].dtype == jnp.float64:
        raw = [round_bits(x, TRUSTED, "nearest_even") for x in raw]
    if machine.arithmetic.rounding in DIRECTED:
        raw = [off_the_limit(operation.name, operands, x) for x in raw]
    return _settle_all(machine, operation, raw, operands, state)


def _settle_all(machine: Machine, operation: Operation, raw: list, operands: list, state: State) -> tuple[list, State]:
    operands, results = [x for x in operands if is_float(x.dtype)], []
    for x in raw:
        result, state = machine.settle(x, state, operation.name, tuple(operands))
        results.append(result)
    return results, state


def _add(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    a, b = operands
    result, state = machine.add(a, -b if operation.name == "sub" else b, state)
    return [result], state


def _divide(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    a, b = operands
    result, state = machine.divide(a, b, state)
    return [result], state


def _square(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    result, state = machine.multiply(operands[0], operands[0], state)
    return [result], state


def _integer_power(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """By repeated squaring, as XLA expands it, every product rounded; a negative power is a reciprocal in the end."""
    x, n = operands[0], abs(operation.params["y"])
    power = None
    while n:
        if n & 1:
            power, state = (x, state) if power is None else machine.multiply(power, x, state)
        n >>= 1
        if n:
            x, state = machine.multiply(x, x, state)
    one, state = machine.constant(1.0, jnp.float64, state)
    if power is None:
        return [jnp.broadcast_to(one, x.shape)], state
    if operation.params["y"] < 0:
        power, state = machine.divide(one, power, state)
    return [power], state


def _one_minus_square(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """As (1 + x) (1 - x), which is how JAX computes it."""
    x, one = operands[0], lax.optimization_barrier(jnp.ones((), machine.carrier))
    above, state = machine.add(one, x, state)
    below, state = machine.add(one, -x, state)
    result, state = machine.multiply(above, below, state)
    return [result], state


def _polynomial(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """By Horner's rule, every product and sum rounded."""
    x, *coefficients = operands
    total = coefficients.pop()
    while coefficients:
        product, state = machine.multiply(total, x, state)
        total, state = machine.add(coefficients.pop(), product, state)
    return [total], state


def _convert(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """A cast to a narrower float rounds to that float too; to an integer it truncates; from one it rounds."""
    x, source, dtype = operands[0], operation.inputs[0].dtype, operation.outputs[0].dtype
    if not is_float(dtype):
        return operation.bind(x), state
    if not is_float(source):
        result, state = machine.enter(x, state, operation.name)
        return [result], state
    try:
        target = formats.named(jnp.dtype(dtype).name)
    except ValueError as error:
        raise operation.refuse("emulate", f"no format describes the dtype {jnp.dtype(dtype).name}") from error
    return _through(machine, operation, x, target, state)


def _through(machine: Machine, operation: Operation, x: jax.Array, target: Format, state: State) -> tuple[list, State]:
    """Round to another format, and back into that of results, where the other is wider in range."""
    if within(machine.arithmetic.result, target):
        return [x], state
    result, state = machine.settle(x, state, operation.name, (x,), target)
    if not within(target, machine.arithmetic.result):
        result, state = machine.settle(result, state, operation.name, (result,))
    return [result], state


def _reduce_precision(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    exponent_bits, mantissa_bits = operation.params["exponent_bits"], operation.params["mantissa_bits"]
    top = 2 ** (exponent_bits - 1) - 1
    try:
        target = Format(f"reduced_{exponent_bits}_{mantissa_bits}", mantissa_bits + 1, 1 - top, top)
    except ValueError as error:
        raise operation.refuse("emulate", str(error)) from error
    return _through(machine, operation, operands[0], target, state)


def _bitcast(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Bits are those of the program's own dtype, which the value takes on for the moment."""
    x, source = operands[0], operation.inputs[0].dtype
    if is_float(source):
        x = machine.leave(x, source)
    results = operation.bind(x)
    if not is_float(operation.outputs[0].dtype):
        return results, state
    result, state = machine.enter(results[0], state, operation.name)
    return [result], state


def _extreme(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """The largest or smallest element, or NaN if there is one: XLA on a CPU passes over the NaNs of a large array."""
    (x,), axes = operands, operation.params["axes"]
    (result,) = operation.bind(x)
    return [jnp.where(jnp.any(jnp.isnan(x), axis=axes), jnp.asarray(jnp.nan, x.dtype), result)], state


def _arg_extreme(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """The first position of the extreme, or of the first NaN; stated in reductions that keep the carrier's dtype.

    JAX lowers its own argmax when the whole program is compiled, which may be after x64 mode has ended.
    """
    x, (axis,) = operands[0], operation.params["axes"]
    reduce, invalid = jnp.max if operation.name == "argmax" else jnp.min, jnp.isnan(operands[0])
    hit = jnp.where(jnp.any(invalid, axis=axis, keepdims=True), invalid, x == reduce(x, axis=axis, keepdims=True))
    dtype = operation.outputs[0].dtype
    position = lax.broadcasted_iota(dtype, x.shape, axis)
    return [jnp.min(jnp.where(hit, position, jnp.asarray(x.shape[axis], dtype)), axis=axis)], state


def _scatter_extreme(
    machine: Machine, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """`x.at[i].max(u)`: exact. Stated anew, because the primitive holds a comparison typed for the program's dtype."""
    scatter = lax.scatter_max if operation.name == "scatter-max" else lax.scatter_min
    names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
    return [scatter(*operands, **{name: operation.params[name] for name in names})], state


def _iota(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Counted in integers, then rounded as a constant is."""
    params = operation.params
    integers = lax.broadcasted_iota(jnp.int64, params["shape"], params["dimension"])
    value, state = machine.constant(integers.astype(jnp.float64), jnp.float64, state)
    return [value], state


def _empty(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """A place for numbers that nobody reads, as derivatives of conditionals have it."""
    out = operation.outputs[0]
    return [jnp.zeros(out.shape, machine.carrier if is_float(out.dtype) else out.dtype)], state


def _scan(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    parts = interpreter.decode_scan(operation, operands)

    def step(carry: tuple, x: list) -> tuple:
        state, values = carry
        results, state = walk(parts.body, [*parts.consts, *values, *x], state)
        return (state, results[: len(values)]), results[len(values) :]

    (state, carry), ys = lax.scan(step, (state, parts.carry), parts.xs, length=parts.length, reverse=parts.reverse)
    return [*carry, *ys], state


def _while(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """The test is run at the end of the body, so that its roundings and events are threaded as well.

    A loop under vmap has a test for every lane. It runs while any lane goes on, and the others keep their values.
    """
    parts = interpreter.decode_while(operation, operands)

    def test(values: list, state: State) -> tuple:
        (proceed,), state = walk(parts.test, [*parts.test_consts, *values], state)
        return proceed, values, state

    def step(carry: tuple) -> tuple:
        proceed, old, state = carry
        new, state = walk(parts.body, [*parts.body_consts, *old], state)
        if proceed.ndim:
            new = [
                jnp.where(jnp.expand_dims(proceed, range(proceed.ndim, a.ndim)), a, b)
                for a, b in zip(new, old, strict=True)
            ]
        return test(new, state)

    _, values, state = lax.while_loop(lambda carry: jnp.any(carry[0]), step, test(parts.carry, state))
    return values, state


def _cond(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    parts = interpreter.decode_cond(operation, operands)
    branches = [partial(walk, branch) for branch in parts.branches]
    return lax.switch(parts.index, branches, parts.operands, state)


WITH_EXACT_RESULTS = frozenset({"cbrt", "exp2", "log2", "pow", "rsqrt"})
TRUSTED = Format("trusted bits of float64", 48, *formats.WIDEST[1:])

CONTROL = frozenset({"scan", "while", "cond", "shard_map"})
"""What holds pieces of the program, which may compute although no number goes in or comes out."""

SPECIAL: dict[str, MachineRule] = {
    "add": _add,
    "add_any": _add,
    "sub": _add,
    "div": _divide,
    "square": _square,
    "integer_pow": _integer_power,
    "one_minus_square": _one_minus_square,
    "polynomial": _polynomial,
    "convert_element_type": _convert,
    "reduce_precision": _reduce_precision,
    "bitcast_convert_type": _bitcast,
    "reduce_max": _extreme,
    "reduce_min": _extreme,
    "argmax": _arg_extreme,
    "argmin": _arg_extreme,
    "scatter-max": _scatter_extreme,
    "scatter-min": _scatter_extreme,
    "iota": _iota,
    "empty": _empty,
    "empty2": _empty,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "reduce_sum": sums.reduce_sum,
    "reduce_prod": sums.reduce_prod,
    "cumsum": sums.cumulative,
    "cumprod": sums.cumulative,
    "cumlogsumexp": sums.cumulative_logsumexp,
    "reduce": sums.reduce,
    "dot_general": products.dot_general,
    "conv_general_dilated": convolutions.conv_general_dilated,
    "reduce_window": windows.reduce_window,
    "reduce_window_sum": windows.reduce_window_sum,
    "select_and_scatter_add": windows.select_and_scatter_add,
    "scatter-add": scatter_sums.scatter_combine,
    "scatter-sub": scatter_sums.scatter_combine,
    "scatter-mul": scatter_sums.scatter_combine,
    **devices.RULES,
}

_ELEMENTWISE: dict[Kind, MachineRule] = {
    Kind.MOVE: _bind,
    Kind.EXACT: _bind,
    Kind.INTEGER: _bind,
    Kind.ROUNDED: _rounded,
    Kind.LIBRARY: _library,
}
