"""Walk a jaxpr with a table of rules.

A program is traced once by JAX into a jaxpr; an interpreter of programs is then nothing but a function from
the name of a primitive to a rule. This module is the only one that knows what a jaxpr looks like: it traces,
walks, unfolds calls (jit, remat, custom derivatives), decodes control flow into records, and names the source
line of every operation. It also holds the one fact about primitives that every interpreter shares: which of
them only move elements (`MOVES`).

The walk threads one state through the program, in program order. What the state is (event counters, a random
key, nothing) is the interpreter's own affair.

An operation also knows its *scope*: the names that its author gave with `jax.named_scope` to the piece of code that it
stands in. They survive JAX's transformations, and are those of the calls that lead to it as well as its own.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np

jex.source_info_util.register_exclusion(__file__)  # a program's lines are its author's, not this module's

Rule = Callable[["Operation", list, Any, "Walk"], tuple[list, Any]]
Walk = Callable[..., tuple[list, Any]]
"""`walk(jaxpr, operands, state) -> (results, state)`; with `scope=`, in another scope than that of the operation."""


class UnsupportedPrimitiveError(NotImplementedError, ValueError):
    """A program uses a primitive that an interpreter refuses; the message names it, its line and the cure."""


class Operation(NamedTuple):
    """One step of a program, as rules see it.

    Attributes:
        name: of its primitive.
        primitive: JAX's own.
        params: of the primitive.
        inputs: shapes and dtypes of its operands, as the program has them.
        outputs: those of its results.
        source: the line of the program that it comes from.
        scope: names of the scopes that it stands in, outermost first; transformations (`jvp`, `vmap`) are left out.
    """

    name: str
    primitive: Any
    params: Mapping[str, Any]
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    outputs: tuple[jax.ShapeDtypeStruct, ...]
    source: str
    scope: tuple[Hashable, ...] = ()

    def called_from(self, source: str, scope: tuple[Hashable, ...]) -> "Operation":
        """The operation within a call: what JAX's own functions are made of stands at the line of their call."""
        if self.source and not scope:
            return self
        return self._replace(source=self.source or source, scope=scope + self.scope)

    def bind(self, *operands: Any) -> list:
        """Apply the primitive itself to operands of its own kind and return its results as a list."""
        results = self.primitive.bind(*operands, **self.params)
        return list(results) if self.primitive.multiple_results else [results]

    def refuse(self, interpreter: str, why: str) -> UnsupportedPrimitiveError:
        """The error that says which primitive is refused, where it stands in the program, and why."""
        return UnsupportedPrimitiveError(f"{interpreter} cannot run primitive '{self.name}' at {self.source}: {why}")


class Program(NamedTuple):
    """A traced function together with the flat arguments that it was traced for."""

    jaxpr: Any
    arguments: list
    output_tree: Any
    outputs: tuple[jax.ShapeDtypeStruct, ...]


def has_64_bit_leaf(tree: Any) -> bool:
    """Whether an array in the tree holds 64-bit numbers, for which JAX's x64 mode is needed."""
    return any(
        np.dtype(leaf.dtype).itemsize // (2 if np.dtype(leaf.dtype).kind == "c" else 1) == 8
        for leaf in jax.tree.leaves(tree)
        if hasattr(leaf, "dtype") and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    )


def trace(f: Callable, args: Sequence, kwargs: Mapping | None = None) -> Program:
    """Trace `f` at the shapes and dtypes of its arguments, without running it.

    Args:
        f: a function of pytrees of arrays.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Returns:
        The program; its `arguments` are the leaves of `(args, kwargs)`, unchanged.

    Raises:
        TypeError: an argument is not an array or a number.
    """
    arguments, tree = jax.tree.flatten((tuple(args), dict(kwargs or {})))
    for leaf in arguments:
        if not (isinstance(leaf, (bool, int, float, complex, np.generic)) or hasattr(leaf, "dtype")):
            kind = type(leaf).__name__
            msg = f"arguments must be arrays or numbers, got {kind}: bind it with functools.partial"
            raise TypeError(msg)

    def flat(*leaves: Any) -> Any:
        positional, keyword = jax.tree.unflatten(tree, leaves)
        return f(*positional, **keyword)

    closed, shapes = jax.make_jaxpr(flat, return_shape=True)(*arguments)
    outputs, output_tree = jax.tree.flatten(shapes)
    return Program(closed, arguments, output_tree, tuple(outputs))


def run(
    program: Any, operands: Sequence, state: Any, rule_for: Callable[[Operation], Rule], lift: Callable
) -> tuple[list, Any]:
    """Run a closed jaxpr with an interpreter's rules.

    Args:
        program: a closed jaxpr, as in `Program.jaxpr`.
        operands: the interpreter's values of its arguments.
        state: what is threaded through the operations.
        rule_for: gives the rule of an operation, or raises `UnsupportedPrimitiveError`.
        lift: `lift(constant, aval, state) -> (value, state)` makes an interpreter's value of a constant.

    Returns:
        The interpreter's values of the results, and the state after the last operation.
    """
    operations = _decoder()

    def walk(
        jaxpr: Any, operands: Sequence, state: Any, *, caller: str = UNKNOWN, scope: tuple[Hashable, ...] = ()
    ) -> tuple[list, Any]:
        constants = getattr(jaxpr, "consts", ())
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        environment = dict(zip(jaxpr.invars, operands, strict=True))
        for var, constant in zip(jaxpr.constvars, constants, strict=True):
            environment[var], state = lift(constant, var.aval, state)

        def read(atom: Any, state: Any) -> tuple[Any, Any]:
            if isinstance(atom, jex.core.Literal):
                return lift(atom.val, atom.aval, state)
            return environment[atom], state

        for equation, relative in zip(jaxpr.eqns, operations(jaxpr), strict=True):
            operation = relative.called_from(caller, scope)
            inside = partial(walk, caller=operation.source, scope=operation.scope)
            values = []
            for atom in equation.invars:
                value, state = read(atom, state)
                values.append(value)
            if operation.name in CALLS:
                results, state = inside(_called(operation), values, state)
            else:
                results, state = rule_for(operation)(operation, values, state, inside)
            environment.update(zip(equation.outvars, results, strict=True))
        results = []
        for atom in jaxpr.outvars:
            value, state = read(atom, state)
            results.append(value)
        return results, state

    return walk(program, operands, state)


UNKNOWN = "a line unknown to JAX"


def _decoder() -> Callable[[Any], list[Operation]]:
    """The operations of a jaxpr, decoded once: a loop's body is walked many times."""
    decoded: dict[int, tuple[Any, list[Operation]]] = {}

    def operations(jaxpr: Any) -> list[Operation]:
        if id(jaxpr) not in decoded:  # the jaxpr is kept beside them, so that its id stays its own
            decoded[id(jaxpr)] = (jaxpr, [_operation(equation) for equation in jaxpr.eqns])
        return decoded[id(jaxpr)][1]

    return operations


def _operation(equation: Any) -> Operation:
    def shape(atom: Any) -> jax.ShapeDtypeStruct:  # a token has neither shape nor numbers
        return jax.ShapeDtypeStruct(getattr(atom.aval, "shape", ()), getattr(atom.aval, "dtype", jax.dtypes.float0))

    name = equation.primitive.name
    if name == "scatter" and not _replaces(equation.params["update_jaxpr"]):
        name = "scatter_apply"  # x.at[i].apply(f): JAX's scatter, but it computes
    return Operation(
        name,
        equation.primitive,
        equation.params,
        tuple(map(shape, equation.invars)),
        tuple(map(shape, equation.outvars)),
        jex.source_info_util.summarize(equation.source_info),
        _scope(equation),
    )


def _scope(equation: Any) -> tuple[str, ...]:
    """The names in an equation's name stack, which holds those of transformations too."""
    stack = equation.source_info.name_stack
    return tuple(frame.name for frame in stack.stack if type(frame).__name__ == "Scope") if len(stack) else ()


def _replaces(update: Any) -> bool:
    """Whether the update `(old, new) -> value` of a scatter is just the new element."""
    update = getattr(update, "jaxpr", update)
    return update is None or (not update.eqns and update.outvars[0] is update.invars[1])


# Primitives that only call a jaxpr, and the parameter that holds it. A custom derivative is followed by its
# primal: the derivative was taken, or will be taken, by JAX outside of the walk.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "call": "call_jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "custom_vmap_call": "call",
    "composite": "jaxpr",
    "program_order": "jaxpr",
    "xla_metadata_call": "jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "call_hi_primitive": "_prim",
}


def _called(operation: Operation) -> Any:
    parameter = CALLS[operation.name]
    if parameter not in operation.params:
        parameter = "call_jaxpr"  # JAX is moving to this one name
    called = operation.params[parameter]
    return _expanded(called, operation.inputs) if hasattr(called, "expand") else called


def _expanded(primitive: Any, inputs: Sequence[jax.ShapeDtypeStruct]) -> Any:
    """What a function that is a primitive of its own since jax 0.12 (`jnp.searchsorted`) consists of."""

    def flat(*leaves: jax.Array) -> Any:
        return primitive.expand(*jax.tree.unflatten(primitive.in_tree, leaves))

    return jax.make_jaxpr(flat)(*inputs)


def primitives(jaxpr: Any) -> frozenset[str]:
    """The names of the primitives in a jaxpr and in all that it holds.

    Args:
        jaxpr: a jaxpr, closed or not.

    Returns:
        The names.
    """
    return frozenset(equation.primitive.name for equation in _equations(jaxpr))


def scopes(jaxpr: Any) -> frozenset[str]:
    """All names of scopes that occur in a jaxpr, or in any that it holds.

    Args:
        jaxpr: a jaxpr, closed or not.

    Returns:
        The names, as `Operation.scope` has them.
    """
    return frozenset(name for equation in _equations(jaxpr) for name in _scope(equation))


def entrance(jaxpr: Any, scope: str, caller: str = UNKNOWN) -> str:
    """The line of a program that leads into a scope.

    Args:
        jaxpr: a jaxpr, closed or not.
        scope: a name out of `scopes(jaxpr)`.
        caller: the line of the jaxpr itself.

    Returns:
        The line of the innermost call that the scope is not around, or of its first operation if nothing calls it.
    """
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        line = jex.source_info_util.summarize(equation.source_info) or caller
        if scope in _scope(equation):
            return line if caller == UNKNOWN else caller
        for inner in jex.core.jaxprs_in_params(equation.params):
            if scope in scopes(inner):
                return entrance(inner, scope, line)
    return caller


def _equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a jaxpr and of those that it holds, each jaxpr once."""
    seen, waiting = set(), [jaxpr]
    while waiting:
        jaxpr = waiting.pop()
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        if id(jaxpr) in seen:
            continue
        seen.add(id(jaxpr))
        for equation in jaxpr.eqns:
            yield equation
            waiting.extend(jex.core.jaxprs_in_params(equation.params))


class Scan(NamedTuple):
    """A decoded `lax.scan`: `body(*consts, *carry, *xs[i]) -> (*carry, *ys[i])`."""

    body: Any
    consts: list
    carry: list
    xs: list
    length: int
    reverse: bool


def decode_scan(operation: Operation, operands: Sequence) -> Scan:
    """The parts of a scan."""
    params = operation.params
    if "num_carry" in params:
        consts, carry = params["num_consts"], params["num_carry"]
    else:  # since jax 0.12 a flat tree of three groups: consts, carry, xs
        consts, carry, _ = (len(group.vals) for group in params["ft_in"].unpack())
    start, stop = consts, consts + carry
    return Scan(
        params["jaxpr"],
        list(operands[:start]),
        list(operands[start:stop]),
        list(operands[stop:]),
        params["length"],
        params["reverse"],
    )


class While(NamedTuple):
    """A decoded `lax.while_loop`: `test(*test_consts, *carry)`, `body(*body_consts, *carry)`."""

    test: Any
    test_consts: list
    body: Any
    body_consts: list
    carry: list


def decode_while(operation: Operation, operands: Sequence) -> While:
    """The parts of a while loop."""
    params = operation.params
    m, n = params["cond_nconsts"], params["body_nconsts"]
    return While(
        params["cond_jaxpr"],
        list(operands[:m]),
        params["body_jaxpr"],
        list(operands[m : m + n]),
        list(operands[m + n :]),
    )


class Cond(NamedTuple):
    """A decoded `lax.cond` or `lax.switch`: branch `index` (clamped to the branches) on the operands."""

    branches: tuple
    index: Any
    operands: list


def decode_cond(operation: Operation, operands: Sequence) -> Cond:
    """The parts of a conditional."""
    return Cond(tuple(operation.params["branches"]), operands[0], list(operands[1:]))


# Primitives that only move elements or choose among them by an integer: every element of a result is an
# element of one of the operands, untouched.
MOVES = frozenset({
    "broadcast_in_dim",
    "concatenate",
    "copy",
    "copy_p",
    "device_put",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "layout_constraint",
    "name",
    "optimization_barrier",
    "pad",
    "pvary",
    "reshape",
    "reshard",
    "rev",
    "roll",
    "scatter",
    "select_n",
    "sharding_constraint",
    "slice",
    "split",
    "squeeze",
    "stack",
    "stop_gradient",
    "tile",
    "transpose",
    "unstack",
})
