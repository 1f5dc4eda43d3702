"""Run an unmodified JAX program in a low-precision arithmetic."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend as jex
import jax.numpy as jnp

from precond_lab import interpreter
from precond_lab.arithmetic.events import Events
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.machine import Machine, is_float
from precond_lab.arithmetic.rules import rule_for
from precond_lab.arithmetic.specification import Arithmetic, as_arithmetic


def emulate(f: Callable, arithmetic: Arithmetic | Format | str, *, events: bool = False) -> Callable:
    """Make `f` compute in a low-precision arithmetic.

    The program that JAX traces from `f` is walked; inputs and constants are rounded first, then every operation is
    computed in the carrier and rounded once, in program order, through jit, scan, while, cond, custom derivatives and
    remat. Sums and matrix products are sequential in the summed index. What moves or compares numbers is exact. A
    primitive that hides its roundings (a LAPACK call, say) is an error that names it and its source line.

    Args:
        f: a function of pytrees of arrays that JAX can trace. Arguments that are not arrays or numbers must be bound
            with `functools.partial`. As under `jax.jit`, it is traced once for each shape and dtype of its arguments.
        arithmetic: an `Arithmetic`, or a format (record or name), which rounds every operation to nearest even.
        events: also return the counts of overflow, underflow, invalid operations and divisions by zero.

    Returns:
        A function of the same signature, whose results have the same dtypes as those of `f` and hold numbers of the
        format; with `events`, the pair of them and an `Events`. It composes with jit, vmap and grad; its own
        derivative is straight-through (every rounding differentiates as the identity), whereas
        `emulate(jax.grad(f), ...)` is the gradient computed in low precision. Where the carrier is float64 and x64 mode
        is off, the straight-through derivative is of reverse mode only.

    Raises:
        UnsupportedPrimitiveError: when it is called, if the program uses a primitive that has no rule.

    Example:
        >>> import jax.numpy as jnp
        >>> emulate(lambda x: x + 1, "bfloat16")(jnp.float32(2**-9)).item()
        1.0
        >>> y, counts = emulate(jnp.square, "float16", events=True)(jnp.float32(300))
        >>> y.item(), int(counts.overflow)
        (inf, 1)
    """
    machine = Machine(as_arithmetic(arithmetic), events)
    compiled: dict[Any, tuple[Callable, list, Any]] = {}

    @functools.wraps(f)
    def emulated(*args: Any, **kwargs: Any) -> Any:
        ambient = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        wide = ambient or interpreter.has_64_bit_leaf((args, kwargs))
        leaves, tree = jax.tree.flatten((args, kwargs))
        with jax.enable_x64(wide):
            key = (ambient, wide, tree, tuple(map(_signature, leaves)))
            if key not in compiled:
                compiled[key] = _compile(machine, interpreter.trace(f, args, kwargs), ambient)
        run, constants, output_tree = compiled[key]
        with jax.enable_x64(True):
            results, counts = run(leaves, constants)
        results = jax.tree.unflatten(output_tree, results)
        return (results, counts) if events else results

    return emulated


def _signature(leaf: Any) -> tuple:
    """What a trace depends on: shape, dtype, and whether the dtype gives way to others."""
    if not hasattr(leaf, "dtype"):
        return (type(leaf),)
    kind = jax.typeof(leaf)
    return kind.shape, kind.dtype, getattr(kind, "weak_type", False)  # pyright: ignore


def _compile(machine: Machine, program: interpreter.Program, ambient: bool) -> tuple[Callable, list, Any]:
    """One traced program as a compiled function of (arguments, constants), its constants, its output tree."""
    jaxpr, dtypes = program.jaxpr.jaxpr, [x.dtype for x in program.outputs]

    def run(leaves: list, constants: list) -> tuple[list, Events | None]:
        state, operands = machine.start(), []
        for leaf, variable in zip(leaves, jaxpr.invars, strict=True):
            dtype, operand = variable.aval.dtype, leaf
            if is_float(dtype):
                operand, state = machine.enter(leaf, state)
            elif _is_number(dtype):
                operand = jnp.asarray(leaf, dtype)
            operands.append(operand)
        values, state = interpreter.run(
            jex.core.ClosedJaxpr(jaxpr, constants),
            operands,
            state,
            functools.partial(rule_for, machine),
            lambda constant, aval, state: machine.constant(constant, aval.dtype, state),
        )
        results = [
            machine.leave(value, _canonical(dtype, ambient)) if _is_number(dtype) else value
            for value, dtype in zip(values, dtypes, strict=True)
        ]
        return results, _counts(state.events, ambient)

    # Backward passes are run by JAX after the call has returned, in the caller's mode. Without x64 some of JAX's own
    # transposes (of gather, pad, ...) then make zeros of the wrong dtype.
    guarded = machine.carrier == jnp.float64 and not ambient
    return (_in_x64(run) if guarded else jax.jit(run)), program.jaxpr.consts, program.output_tree


def _in_x64(function: Callable) -> Callable:
    """Compile `function`, and see to it that its reverse-mode derivatives of any order are run in x64 mode too."""
    compiled = jax.jit(function)

    @jax.custom_vjp
    def call(*operands: Any) -> Any:
        with jax.enable_x64(True):
            return compiled(*operands)

    def forward(*operands: Any) -> tuple[Any, tuple]:
        return call(*operands), operands

    def backward(operands: tuple, cotangents: Any) -> Any:
        leaves, tree = jax.tree.flatten(operands)
        moving = [_is_real(leaf) for leaf in leaves]

        def pull(floats: list, others: list, seeds: list) -> list:
            def reals(*floats: Any) -> list:
                a, b = iter(floats), iter(others)
                merged = [next(a) if real else next(b) for real in moving]
                return [y for y in jax.tree.leaves(function(*jax.tree.unflatten(tree, merged))) if _is_real(y)]

            return list(jax.vjp(reals, *floats)[1](seeds))

        floats = [x for x, real in zip(leaves, moving, strict=True) if real]
        others = [x for x, real in zip(leaves, moving, strict=True) if not real]
        seeds = [c for c in jax.tree.leaves(cotangents) if c.dtype != jax.dtypes.float0]
        gradients = iter(_in_x64(pull)(floats, others, seeds))
        return jax.tree.unflatten(tree, [next(gradients) if real else None for real in moving])

    call.defvjp(forward, backward)
    return call


def _is_real(x: Any) -> bool:
    return is_float(jax.typeof(x).dtype)  # pyright: ignore


def _is_number(dtype: Any) -> bool:
    return not jnp.issubdtype(dtype, jax.dtypes.extended)


def _canonical(dtype: Any, wide: bool) -> Any:
    """The dtype as the caller's mode has it: without x64 there are no 64-bit numbers."""
    dtype = jnp.dtype(dtype)
    return dtype if wide or dtype.itemsize < 8 else jnp.dtype(f"{dtype.name.removesuffix('64')}32")


def _counts(counts: Events | None, wide: bool) -> Events | None:
    if counts is None or wide:
        return counts
    largest = jnp.iinfo(jnp.int32).max
    return Events(*(jnp.minimum(c, largest).astype(jnp.int32) for c in counts))
