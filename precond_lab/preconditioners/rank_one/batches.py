"""Many cases of a program in one call, with the cases along the last axis of every array.

JAX's vmap puts the cases first. A product P v of small matrices then reads columns, an element at a time, and a
transposed matrix is as bad. With the cases last every operation runs over as many neighbors as there are cases,
whatever the program does with axes of its own: nothing is moved, and all is vectorized.

A program is traced for one case, and its operations are applied to arrays with one axis more, in the same order: what
is rounded, and how, is the same as under vmap. Operations that have no rule here are left to vmap.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab import interpreter
from precond_lab.interpreter import Operation, Rule, Walk
from precond_lab.preconditioners.rank_one.recursion import Recursion, State, Store, run

NUMBERS = 2**17
"""What a piece of the cases may hold, so that it stays in the cache of a core."""
FEWEST, FEWEST_LARGE = 16, 4
"""Cases of a piece at the least, as many as a register holds; and where one case fills the cache."""
LARGE = 2**18
"""Numbers of such a case."""


class Cases(NamedTuple):
    """A value that differs from case to case.

    Attributes:
        x: the values, ``[..., cases]``.
    """

    x: jax.Array


def run_cases(
    recursion: Recursion,
    states: State,
    V: jax.Array,
    beta: jax.Array,
    alpha: jax.Array | None = None,
    *,
    every: int | None = None,
    store: Store | None = None,
    size: int | None = None,
) -> tuple[State, State | None]:
    """Many cases of a recursion, each over a stream of its own: `run` batched, and bit for bit the same as under vmap.

    It is a plain program, as `run` is: emulate it, then compile it. The cases are taken in pieces, one after the
    other, in one compiled loop. On a CPU steps this small are done sooner by one thread than by several of XLA's: give
    every core a call of its own, in a process with ``NPROC=1`` in its environment.

    Args:
        recursion: a form; static.
        states: what `recursion.start` returns, under vmap: a first axis of cases.
        V: the streams, ``[cases, steps, n]`` or ``[cases, steps, k, n]``.
        beta: decay, ``[cases]`` or one for all.
        alpha: weight, likewise; 1 - beta where None.
        every: see `run`.
        store: see `run`.
        size: cases in a piece; None for as many as a core's cache holds, or all but on a CPU.

    Returns:
        What `run` returns, with a first axis of cases.

    Raises:
        ValueError: there are no cases, not as many states as streams, or a size below one.

    Cost: that of `run` for every case; a state is moved twice.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from precond_lab.preconditioners import rank_one
        >>> method = rank_one.METHODS["symmetric"]
        >>> states = jax.vmap(method.start)(jnp.ones((3, 2)))
        >>> last, _ = run_cases(method, states, jnp.ones((3, 5, 2)), jnp.array([1.0, 0.5, 0.25]), jnp.ones(()))
        >>> last.P.shape
        (3, 2, 2)
    """
    V, beta = jnp.asarray(V), jnp.asarray(beta)
    count, leaves = V.shape[0], jax.tree.leaves(states)
    if not count or any(x.shape[:1] != (count,) for x in leaves):
        raise ValueError(
            f"streams of shape {V.shape} given for states of shapes {[x.shape for x in leaves]}: "
            "the first axis of all of them is that of the cases, and there is at least one"
        )
    if size is None:
        size = piece(sum(x.size for x in leaves) // count, count)
    if size < 1:
        raise ValueError(f"a piece of {size} cases given; give at least 1")
    scalars = (beta,) if alpha is None else (beta, jnp.asarray(alpha))
    arguments = (states, V, *(jnp.broadcast_to(x, (count,)) for x in scalars))
    program = cases_last(partial(run, recursion, every=every, store=store))

    def together(part: tuple) -> Any:
        return _move(program(*_move(part, 0, -1)), -1, 0)

    return _in_pieces(together, arguments, count, min(size, count))


def piece(numbers: int, count: int) -> int:
    """How many cases are worked on at once.

    Args:
        numbers: that the state of a case consists of.
        count: of the cases.

    Returns:
        The number: all but on a CPU.
    """
    if jax.default_backend() != "cpu":
        return count
    return min(count, max(NUMBERS // numbers, FEWEST if numbers < LARGE else FEWEST_LARGE))


def _in_pieces(together: Callable, arguments: tuple, count: int, size: int) -> Any:
    """One piece after the other, and then what is left; nothing is filled up, as it would be counted among events."""
    whole = count - count % size
    if whole == size == count:
        return together(arguments)
    pieces = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), arguments)
    done = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), lax.map(together, pieces))
    if whole == count:
        return done
    rest = together(jax.tree.map(lambda x: x[whole:], arguments))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, rest)


def _move(tree: Any, source: int, destination: int) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, source, destination), tree)


def cases_last(program: Callable) -> Callable:
    """A program on arrays that have a last axis of cases more.

    Args:
        program: a function of pytrees of arrays, for one case.

    Returns:
        The function of all cases; as vmap has it with all axes -1, in and out.

    Example:
        >>> import jax.numpy as jnp
        >>> cases_last(jnp.dot)(jnp.ones((2, 3, 5)), jnp.ones((3, 5))).shape
        (2, 5)
    """

    def batched(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        one = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(x.shape[:-1], x.dtype) for x in leaves])
        traced, size = interpreter.trace(program, one), leaves[0].shape[-1]
        values = [Cases(x) for x in leaves]
        results, _ = interpreter.run(traced.jaxpr, values, None, partial(_rule_for, size), _constant)
        return jax.tree.unflatten(traced.output_tree, [_spread(x, size) for x in results])

    return batched


def _constant(x: Any, aval: Any, state: None) -> tuple[jax.Array, None]:
    return jnp.asarray(x, aval.dtype), state


def _spread(value: Any, size: int, shape: tuple[int, ...] | None = None) -> jax.Array:
    """A value as an array that has the axis of cases, of this shape otherwise."""
    varies = isinstance(value, Cases)
    x = _bare(value)
    own = x.shape[:-1] if varies else x.shape
    shape = own if shape is None else shape
    if varies and own == shape:
        return x
    axes = (*range(len(shape) - len(own), len(shape)), *([len(shape)] if varies else []))
    return lax.broadcast_in_dim(x, (*shape, size), axes)


def _bare(value: Any) -> jax.Array:
    return value.x if isinstance(value, Cases) else value


def _tag(arrays: Sequence, varies: Sequence[bool]) -> list:
    return [Cases(x) if v else x for x, v in zip(arrays, varies, strict=True)]


def _varies(values: Sequence) -> list[bool]:
    return [isinstance(v, Cases) for v in values]


def _rule_for(size: int, operation: Operation) -> Rule:
    return partial(_scan if operation.name == "scan" else _apply, size)


def _apply(size: int, operation: Operation, operands: list, state: None, walk: Walk) -> tuple[list, None]:
    """One operation, in the scopes that it stood in."""
    varies, arrays = _varies(operands), [_bare(v) for v in operands]
    with ExitStack() as scopes:
        for name in operation.scope:
            scopes.enter_context(jax.named_scope(str(name)))
        if not any(varies):
            return operation.bind(*arrays), state
        if operation.name in ELEMENTWISE:
            shape = operation.outputs[0].shape
            results = operation.bind(*(_spread(v, size, shape) for v in operands))
        elif operation.name == "dot_general":
            results = [_product(operation, arrays, varies)]
        elif operation.name in EXTENDED and varies[0] and not any(varies[1:]):
            more = EXTENDED[operation.name](operation, size)
            results = operation._replace(params={**operation.params, **more}).bind(*_indexed(operation, arrays))
        else:
            axes = [-1 if v else None for v in varies]
            mapped = jax.vmap(operation.bind, in_axes=axes, out_axes=-1, axis_size=size)
            results = mapped(*arrays)
    return [Cases(x) for x in results], state


def _product(operation: Operation, arrays: list, varies: list[bool]) -> jax.Array:
    """A product of matrices; where both vary, the cases are one more axis of the batch, which comes first in it."""
    (a_axes, b_axes), (a_batch, b_batch) = operation.params["dimension_numbers"]
    a, b = arrays
    if all(varies):
        a_batch, b_batch = (*a_batch, a.ndim - 1), (*b_batch, b.ndim - 1)
        at = len(a_batch) - 1
    else:
        at = a.ndim - len(a_axes) - 1 if varies[0] else -1
    dimensions = (a_axes, b_axes), (a_batch, b_batch)
    (result,) = operation._replace(params={**operation.params, "dimension_numbers": dimensions}).bind(a, b)
    return jnp.moveaxis(result, at, -1)


def _scan(size: int, operation: Operation, operands: list, state: None, walk: Walk) -> tuple[list, None]:
    """A scan; what of its carry varies is found by going over the body until nothing new does."""
    parts = interpreter.decode_scan(operation, operands)
    many, moving = len(parts.carry), _varies(parts.xs)
    xs, carried, results = [_bare(v) for v in parts.xs], _varies(parts.carry), []

    def step(carry: list, x: list) -> tuple[list, list]:
        values = [*parts.consts, *_tag(carry, carried), *_tag(x, moving)]
        results[:] = walk(parts.body, values, state)[0]
        new = [_spread(v, size) if c else _bare(v) for v, c in zip(results[:many], carried, strict=True)]
        return new, [_bare(v) for v in results[many:]]

    while True:
        start = [_spread(v, size) if c else _bare(v) for v, c in zip(parts.carry, carried, strict=True)]
        jax.eval_shape(step, start, [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in xs])
        found, stacked = _varies(results[:many]), _varies(results[many:])
        if not any(f and not c for f, c in zip(found, carried, strict=True)):
            break
        carried[:] = [f or c for f, c in zip(found, carried, strict=True)]
    carry, ys = lax.scan(step, start, xs, length=parts.length, reverse=parts.reverse)
    return [*_tag(carry, carried), *_tag(ys, stacked)], state


# Rules: what becomes of an operation's parameters if its first operand has the axis of cases, and no other one


def _broadcast(operation: Operation, size: int) -> dict:
    shape, axes = operation.params["shape"], operation.params["broadcast_dimensions"]
    return {"shape": (*shape, size), "broadcast_dimensions": (*axes, len(shape))}


def _reshape(operation: Operation, size: int) -> dict:
    return {"new_sizes": (*operation.params["new_sizes"], size)}


def _transpose(operation: Operation, size: int) -> dict:
    permutation = operation.params["permutation"]
    return {"permutation": (*permutation, len(permutation))}


def _slice(operation: Operation, size: int) -> dict:
    start, limit, strides = (operation.params[name] for name in ("start_indices", "limit_indices", "strides"))
    steps = None if strides is None else (*strides, 1)
    return {"start_indices": (*start, 0), "limit_indices": (*limit, size), "strides": steps}


def _dynamic_slice(operation: Operation, size: int) -> dict:
    return {"slice_sizes": (*operation.params["slice_sizes"], size)}


def _pad(operation: Operation, size: int) -> dict:
    return {"padding_config": (*operation.params["padding_config"], (0, 0, 0))}


def _gather(operation: Operation, size: int) -> dict:
    numbers, rank = operation.params["dimension_numbers"], len(operation.outputs[0].shape)
    offsets = (*numbers.offset_dims, rank)
    return {
        "dimension_numbers": numbers._replace(offset_dims=offsets),
        "slice_sizes": (*operation.params["slice_sizes"], size),
    }


def _unchanged(operation: Operation, size: int) -> dict:
    return {}


def _indexed(operation: Operation, arrays: list) -> list:
    """The operands; a slice starts with the first case."""
    if operation.name == "dynamic_slice":
        return [*arrays, jnp.zeros((), arrays[1].dtype if len(arrays) > 1 else jnp.int32)]
    return arrays


EXTENDED: dict[str, Callable[[Operation, int], dict]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "pad": _pad,
    "gather": _gather,
    **dict.fromkeys(("squeeze", "rev", "split", "argmax", "argmin"), _unchanged),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin"), _unchanged),
    **dict.fromkeys((f"reduce_{name}" for name in ("sum", "prod", "max", "min", "and", "or")), _unchanged),
}
"""Operations that name their axes, which a last one more does not number anew."""

ELEMENTWISE = frozenset({
    *("abs", "add", "add_any", "and", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "div", "eq", "exp"),
    *("expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p", "lt", "max", "min", "mul", "ne"),
    *("neg", "nextafter", "not", "or", "pow", "rem", "round", "rsqrt", "select_n", "sign", "sqrt", "square"),
    *("stop_gradient", "sub", "xor"),
})
"""Operations on operands of one shape, or of none, element by element."""
