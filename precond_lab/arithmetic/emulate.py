"""Run an unmodified JAX program in a low-precision arithmetic."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from precond_lab import interpreter
from precond_lab.arithmetic import meshes
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.lines import Counters, Survey
from precond_lab.arithmetic.machine import Machine, is_float
from precond_lab.arithmetic.primitives import KINDS, Kind
from precond_lab.arithmetic.regions import EMULATED, Mixed, Uniform, site_of
from precond_lab.arithmetic.specification import Arithmetic, as_arithmetic

jex.source_info_util.register_exclusion(__file__)  # an emulated function is called where its caller calls it


WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}
"""What XLA is told for a CPU: rounding is many cheap operations, for which it would use half of a vector by itself."""
NARROW = frozenset({"cumlogsumexp", "call_hi_primitive"})
"""What else may call elementary functions: with wide vectors XLA's arctangent is wrong (jax 0.10.2, AVX-512)."""


def emulate(f: Callable, arithmetic: Arithmetic | Format | str, *, events: bool | Literal["lines"] = False) -> Callable:
    """Make `f` compute in a low-precision arithmetic.

    The program that JAX traces from `f` is walked; inputs and constants are rounded first, then every operation is
    computed in the carrier and rounded once, in program order, through jit, scan, while, cond, custom derivatives and
    remat. Sums and matrix products are sequential in the summed index. What moves or compares numbers is exact. A
    primitive that hides its roundings (a LAPACK call, say) is an error that names it and its source line.

    A region that `precision` marks in the program, and an operation or scope that the arithmetic overrides, computes in
    an arithmetic of its own; see `precond_lab.arithmetic.regions`. A program that contains an emulated function is
    refused: its operations are those of the emulation.

    Args:
        f: a function of pytrees of arrays that JAX can trace. Arguments that are not arrays or numbers must be bound
            with `functools.partial`. As under `jax.jit`, it is traced once for each shape and dtype of its arguments.
        arithmetic: an `Arithmetic`, or a format (record or name), which rounds every operation to nearest even.
        events: also return the counts of overflow, underflow, invalid operations and divisions by zero: True for those
            of the whole program, "lines" for a dictionary of those of each source line that rounds, by file and line,
            with "arguments" and "results" for what is rounded on the way in and out.

    Returns:
        A function of the same signature, whose results have the same dtypes as those of `f` and hold numbers of the
        format; with `events`, the pair of them and an `Events`, or the dictionary of such. It composes with jit, vmap
        and grad; its own derivative is straight-through (every rounding differentiates as the identity, and custom
        derivatives of the program are not asked), whereas `emulate(jax.grad(f), ...)` is the gradient computed in low
        precision. Where the carrier is float64 and x64 mode is off, the straight-through derivative is of reverse mode
        only.

    Raises:
        ValueError: `events` is none of the three; or, when it is called, an override names nothing in the program.
            It is an `UnsupportedPrimitiveError` if the program uses a primitive that has no rule.

    Example:
        >>> import jax.numpy as jnp
        >>> emulate(lambda x: x + 1, "bfloat16")(jnp.float32(2**-9)).item()
        1.0
        >>> y, counts = emulate(jnp.square, "float16", events=True)(jnp.float32(300))
        >>> y.item(), int(counts.overflow)
        (inf, 1)
    """
    if events not in {True, False, "lines"}:
        raise ValueError(f"events is True, False or 'lines', got {events!r}")
    machine = Machine(as_arithmetic(arithmetic), bool(events))
    compiled: dict[Any, tuple[Callable, Callable, list, Any]] = {}

    @functools.wraps(f)
    def emulated(*args: Any, **kwargs: Any) -> Any:
        ambient = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        wide = ambient or interpreter.has_64_bit_leaf((args, kwargs))
        leaves, tree = jax.tree.flatten((args, kwargs))
        with jax.enable_x64(wide):
            around = jax.sharding.get_abstract_mesh(), meshes.axis_sizes()
            key = (ambient, wide, around, tree, tuple(map(_signature, leaves)))
            if key not in compiled:
                compiled[key] = _compile(machine, interpreter.trace(f, args, kwargs), ambient, events == "lines")
        outermost, nested, constants, output_tree = compiled[key]
        with jax.enable_x64(True):
            results, counts = (nested if _is_traced(leaves) else outermost)(leaves, constants)
        results = jax.tree.unflatten(output_tree, results)
        return (results, counts) if events else results

    return emulated


def _signature(leaf: Any) -> Any:
    """What a trace depends on: shape, dtype, whether that gives way to others, and how devices divide the array."""
    return jax.typeof(leaf) if hasattr(leaf, "dtype") else type(leaf)


def _is_traced(leaves: list) -> bool:
    """Whether the call is part of a program that JAX is tracing or transforming."""
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return True
    return isinstance(jax.lax.neg(np.float32(0)), Tracer)


def _compile(
    machine: Machine, program: interpreter.Program, ambient: bool, by_line: bool
) -> tuple[Callable, Callable, list, Any]:
    """One traced program as two compiled functions of (arguments, constants), its constants, its output tree.

    The first is for calls from outside of JAX, the second for those from within a program that it traces.
    """
    jaxpr, constants, dtypes = program.jaxpr.jaxpr, program.jaxpr.consts, [x.dtype for x in program.outputs]
    lines = None
    if by_line:
        survey = Survey()
        with jax.enable_x64(True):
            jax.eval_shape(_runner(site_of(machine, jaxpr, survey), jaxpr, dtypes), program.arguments, constants)
        lines = Counters.of(survey.seen)
    site = site_of(machine, jaxpr, lines)
    walk = _runner(site, jaxpr, [_canonical(dtype, ambient) for dtype in dtypes])

    def run(leaves: list, constants: list) -> tuple[list, Any]:
        results, counts = walk(leaves, constants)
        return results, _counts(counts if lines is None else lines.by_line(counts), ambient)

    # Backward passes are run by JAX after the call has returned, in the caller's mode. Without x64 some of JAX's own
    # transposes (of gather, pad, ...) then make zeros of the wrong dtype.
    names = interpreter.primitives(jaxpr)
    guarded = site.machine.carrier == jnp.float64 and not ambient
    nested = _in_x64(run) if guarded else jax.jit(run)
    plain = all(KINDS.get(name) is not Kind.LIBRARY for name in names) and not names & NARROW
    options = WIDE_VECTORS if plain and jax.default_backend() == "cpu" else None
    return jax.jit(run, compiler_options=options), nested, constants, program.output_tree


def _runner(site: Uniform | Mixed, jaxpr: Any, dtypes: list) -> Callable[[list, list], tuple[list, Any]]:
    """The emulated program, uncompiled: results of these dtypes, and the counts."""

    @jax.named_scope(EMULATED)
    def run(leaves: list, constants: list) -> tuple[list, Any]:
        state, operands = site.start(), []
        for leaf, variable in zip(leaves, jaxpr.invars, strict=True):
            dtype, operand = variable.aval.dtype, leaf
            if is_float(dtype):
                operand, state = site.enter(leaf, state)
            elif _is_number(dtype):
                operand = jnp.asarray(leaf, dtype)
            operands.append(operand)
        closed = jex.core.ClosedJaxpr(jaxpr, constants)
        values, state = interpreter.run(closed, operands, state, site.rule_for, site.constant)
        results = []
        for value, dtype in zip(values, dtypes, strict=True):
            result, state = site.result(value, state)
            results.append(site.machine.leave(result, dtype) if _is_number(dtype) else result)
        return results, state.events

    return run


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
    if not _is_number(dtype):
        return dtype
    dtype = jnp.dtype(dtype)
    return dtype if wide or dtype.itemsize < 8 else jnp.dtype(f"{dtype.name.removesuffix('64')}32")


def _counts(counts: Any, wide: bool) -> Any:
    """The counts in the integers that the caller's mode has."""
    largest = jnp.iinfo(jnp.int32).max
    return counts if wide else jax.tree.map(lambda n: jnp.minimum(n, largest).astype(jnp.int32), counts)
