"""A JAX program run without rounding to speak of."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np

from precond_lab.interpreter import Program, has_64_bit_leaf, primitives, run, trace
from precond_lab.truth.multiprecision import Reals, published
from precond_lab.truth.primitives import is_floating
from precond_lab.truth.rules import lift, rule_for

_GUARD_DIGITS = 10


def evaluate(f: Callable, *args: Any, digits: int = 50, **kwargs: Any) -> Any:
    """The same steps as `f(*args, **kwargs)` takes, with many digits.

    Every floating-point operation of the program is computed by mpmath to `digits` digits, and some more
    inside; inner products and sums are exact until they are rounded once. Loops run as often, and branches
    go, as these numbers say. So the result is what the program's algorithm computes, and its difference
    from what the program computes is rounding error.

    The inputs are taken exactly, whatever their type: a float32, a bfloat16, an mpf, and a `Fraction` too,
    up to `digits` digits. Constants inside the program are not: a Python float is a binary64 number, 0.1
    among them. So the program is traced in binary64 (which changes no JAX setting), and float32 inputs are
    promoted. A program that pins its dtypes so that this trace is a `TypeError`, or that draws random
    numbers (a binary64 program would draw others), is traced as it stands, with float32 constants where it
    has them. What a program makes of a dtype (`jnp.finfo(x.dtype).eps`, integers that wrap at 32 bits) is
    that of the binary64 trace: hand it over as an argument where it matters. Casts from float to float,
    `reduce_precision` too, do not round.

    mpmath's numbers differ from IEEE's in two ways: there is one zero, without a sign, and nothing
    overflows or underflows (until a number of more than 2^16384 is exponentiated). Infinities, NaN, and
    what yields them (1/0, the square root of -1) are as in IEEE arithmetic.

    Args:
        f: a function of pytrees of arrays, made of JAX's operations; library routines (Cholesky, eigenvalues,
            FFT), convolutions, complex numbers and callbacks are refused.
        *args: its arguments: pytrees of arrays, numbers, or object arrays of mpf, `Fraction` or int, which
            the program sees as float64.
        digits: decimal digits of the result, at least 1.
        **kwargs: its keyword arguments, of the same kinds.

    Returns:
        What `f` returns, with object arrays of `mpmath.mpf` for its floating-point arrays (of shape ``[]``
        for scalars: take `.item()`), NumPy arrays for integers and booleans, and JAX's own arrays for
        random keys.

    Raises:
        UnsupportedPrimitiveError: the program uses a primitive that has no rule; the message names the line.
        ValueError: `digits` is no positive integer.

    Cost: about 2 microseconds an addition, multiplication or division, 5 to 20 an elementary function, 0.2 a
    multiplication in a matrix product; mpmath's context is not touched, so threads may call this at once.

    Example:
        >>> import mpmath
        >>> third = evaluate(lambda x: 1 / x, 3.0, digits=30)
        >>> mpmath.nstr(third.item(), 30)
        '0.333333333333333333333333333333'
    """
    if isinstance(digits, bool) or not isinstance(digits, (int, np.integer)) or digits < 1:
        msg = f"digits must be a positive integer, got {digits!r}"
        raise ValueError(msg)
    reals = Reals(int(digits) + _GUARD_DIGITS)
    leaves, tree = jax.tree.flatten((args, kwargs))
    program, mode = _trace(f, leaves, tree)
    constants: dict[tuple[int, Any], tuple[Any, Any]] = {}

    def lift_constant(value: Any, aval: Any, reals: Reals) -> tuple[Any, Reals]:
        key = id(value), aval.dtype
        if key not in constants:  # the value is kept beside it, so that its id stays its own
            constants[key] = (value, lift(value, aval.dtype, reals))
        return constants[key][1], reals

    with mode():
        operands = [lift(x, v.aval.dtype, reals) for x, v in zip(leaves, program.jaxpr.jaxpr.invars, strict=True)]
        results, _ = run(program.jaxpr, operands, reals, rule_for, lift_constant)
    outputs = [
        published(x, int(digits)) if is_floating(shape.dtype) else x
        for x, shape in zip(results, program.outputs, strict=True)
    ]
    return jax.tree.unflatten(program.output_tree, outputs)


def _trace(f: Callable, leaves: Sequence, tree: Any) -> tuple[Program, Callable[[], AbstractContextManager]]:
    """The program, traced in binary64 if it can be, and the mode of JAX in which it was traced."""
    wide = lambda: jax.enable_x64(True)  # noqa: E731
    given = [_placeholder(x) for x in leaves]
    try:
        program = _traced(f, [_promoted(x) for x in given], tree, wide)
        if "random_bits" not in primitives(program.jaxpr):
            return program, wide
    except TypeError:
        pass
    mode = wide if has_64_bit_leaf(given) else nullcontext
    return _traced(f, given, tree, mode), mode


def _traced(f: Callable, leaves: list, tree: Any, mode: Callable[[], AbstractContextManager]) -> Program:
    args, kwargs = jax.tree.unflatten(tree, leaves)
    with mode():
        return trace(f, args, kwargs)


def _placeholder(leaf: Any) -> Any:
    """What the trace sees of an argument: its shape and dtype, and of a Python number that it is one."""
    if isinstance(leaf, np.ndarray) and leaf.dtype == object:
        return jax.ShapeDtypeStruct(leaf.shape, np.float64)
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    is_number = hasattr(leaf, "_mpf_") or (hasattr(leaf, "numerator") and not isinstance(leaf, int))
    return 0.0 if is_number or isinstance(leaf, float) else leaf


def _promoted(leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct) and is_floating(leaf.dtype):
        return jax.ShapeDtypeStruct(leaf.shape, np.float64)
    return leaf
