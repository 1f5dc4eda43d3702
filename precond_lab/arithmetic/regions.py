"""Pieces of a program that compute in an arithmetic of their own.

An arithmetic is put in force for a piece of a program in two ways: the author of the program marks a *region* with
`precision`, or whoever emulates it names an *override* in `Arithmetic(..., overrides={...})`, by the name of a
primitive or of a `jax.named_scope`. What holds for an operation is found from the outside to the inside:

1. In a region, the region's arithmetic takes the place of the emulated one; the innermost region wins.
2. Among the overrides of that arithmetic one that names the operation's primitive goes before one that names a scope,
   and the innermost scope within the region wins.

Every operation then computes in the arithmetic in force: operands that were made in another one, whose numbers are not
all numbers of this one's format, are rounded to it where they are first used in it, moves and comparisons included.
So the results of a region are rounded to the surrounding format where operations outside of it use them, and at the
end of the program at the latest: arguments and results of an emulated function hold numbers of the outermost format.
A constant is rounded in the arithmetic in which it is used. A call (`jit`, a custom derivative, remat) has no
arithmetic; a scan, a loop or a branch has one, in which its operands, carries and results are, whatever is in force
inside of its body. There is one seed, one sequence of random draws and one set of counts: the outermost arithmetic's.
It also says of the opaque linear algebra in its regions whether to expand it, unless they say so themselves.

Regions are names on JAX's name stack, which it keeps through its transformations: the backward pass of a region is
in the region as well. One thing escapes: what does not change from step to step of a scan is moved out of it by JAX's
derivative of the scan, and then knows only of the regions and scopes that were opened inside of the scan's body.
"""

import hashlib
from contextlib import ContextDecorator
from dataclasses import dataclass, field, replace
from functools import partial
from threading import local
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precond_lab import interpreter
from precond_lab.arithmetic import meshes
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.lines import Lines
from precond_lab.arithmetic.machine import Machine, State, is_float
from precond_lab.arithmetic.primitives import KINDS, Kind
from precond_lab.arithmetic.rules import CONTROL, rule_for
from precond_lab.arithmetic.specification import ROLES, Arithmetic, as_arithmetic, within
from precond_lab.interpreter import Operation, Rule, UnsupportedPrimitiveError, Walk

_REGIONS: dict[str, Arithmetic] = {}
"""What the names of regions stand for: a name stack holds only text. A name never changes its meaning."""

EMULATED = "precond_lab.emulate"
"""The scope that an emulated function marks its own operations with."""


class precision(ContextDecorator):  # noqa: N801 - reads as a verb, like jax.named_scope
    """Mark a region of a program that `emulate` runs in an arithmetic of its own.

    It is a context manager and a decorator, may be used again and nested, and changes nothing where the program is not
    emulated: to JAX it is a `jax.named_scope`. A generator is decorated in vain, as its body runs later.

    Args:
        arithmetic: an `Arithmetic`, or a format (record or name), which rounds every operation to nearest even.

    Raises:
        ValueError: no format has the name.
        TypeError: it is no arithmetic.

    Example:
        >>> import jax.numpy as jnp
        >>> from precond_lab.arithmetic.emulate import emulate
        >>> def f(x):
        ...     with precision("float32"):
        ...         y = x + 1
        ...         return y - 1
        >>> emulate(f, "bfloat16")(jnp.float32(2**-12)).item() == 2**-12
        True
    """

    def __init__(self, arithmetic: Arithmetic | Format | str) -> None:
        """Give the region's arithmetic a name."""
        arithmetic = as_arithmetic(arithmetic)
        plain = arithmetic == _named(arithmetic.result.name)
        detail = "" if plain else ":" + hashlib.sha256(repr(arithmetic).encode()).hexdigest()[:16]
        self.scope = f"precision:{arithmetic.result.name}{detail}"
        _REGIONS[self.scope] = arithmetic
        self._open = local()

    def __enter__(self) -> None:
        """Open the region."""
        if not hasattr(self._open, "scopes"):
            self._open.scopes = []
        scope = jax.named_scope(self.scope)
        scope.__enter__()
        self._open.scopes.append(scope)

    def __exit__(self, *exception: Any) -> None:
        """Close the region."""
        self._open.scopes.pop().__exit__(*exception)


def _named(format: str) -> Arithmetic | None:
    try:
        return Arithmetic(format)
    except ValueError:  # the format is one of the user's own
        return None


def in_force(arithmetic: Arithmetic, name: str, scope: tuple[Any, ...]) -> Arithmetic:
    """The arithmetic of one operation.

    Args:
        arithmetic: that of the program.
        name: the operation's primitive.
        scope: the names of the scopes that it stands in, outermost first.

    Returns:
        The arithmetic that the regions and overrides give it.
    """
    for i in reversed(range(len(scope))):
        region = scope[i].arithmetic if isinstance(scope[i], Made) else _REGIONS.get(scope[i])
        if region is not None:
            arithmetic, scope = region, scope[i + 1 :]
            break
    overrides = dict(arithmetic.overrides)
    return next((overrides[key] for key in (name, *reversed(scope)) if key in overrides), arithmetic)


class Made(NamedTuple):
    """A scope of its own, in which an operation is made of others: in its arithmetic, and on its line."""

    arithmetic: Arithmetic
    source: str


class Value:
    """A floating-point value of a program, in every arithmetic that has used it."""

    def __init__(self, x: jax.Array, arithmetic: Arithmetic) -> None:
        """Hold what an operation in `arithmetic` has made."""
        self.raw, self.format, self.forms = x, arithmetic.result, {arithmetic: x}

    def read(self, machine: Machine, state: State) -> tuple[jax.Array, State]:
        """The value as the machine's arithmetic has it, rounded when that first asks for it."""
        if machine.arithmetic not in self.forms:
            x = self.raw
            if not within(self.format, machine.arithmetic.result):
                x, state = machine.settle(x, state, "precision", (x,))
            self.forms[machine.arithmetic] = x
        return self.forms[machine.arithmetic], state


class Constant(Value):
    """A floating-point constant of a program, in every arithmetic that has used it."""

    def __init__(self, x: Any, dtype: Any) -> None:
        """Hold it as the program has it."""
        self.raw, self.dtype, self.forms = x, dtype, {}

    def read(self, machine: Machine, state: State) -> tuple[jax.Array, State]:
        """The constant as the machine's arithmetic has it."""
        if machine.arithmetic not in self.forms:
            self.forms[machine.arithmetic], state = machine.constant(self.raw, self.dtype, state)
        return self.forms[machine.arithmetic], state


@dataclass(frozen=True)
class Uniform:
    """A program in one arithmetic: the interpreter's values are the machine's own arrays."""

    machine: Machine

    def start(self) -> State:
        """The state before the first operation."""
        return _on_devices(self.machine.start())

    def enter(self, x: Any, state: State) -> tuple[Any, State]:
        """An argument of the program."""
        return self.machine.enter(x, state)

    def constant(self, x: Any, aval: Any, state: State) -> tuple[Any, State]:
        """A constant of the program."""
        return self.machine.constant(x, aval.dtype, state)

    def rule_for(self, operation: Operation) -> Rule:
        """The rule of one operation."""
        return rule_for(self.machine, operation)

    def result(self, x: Any, state: State) -> tuple[Any, State]:
        """A result of the program, in the machine's carrier."""
        return x, state


@dataclass(frozen=True)
class Mixed:
    """A program in several arithmetics, or whose events are counted by line.

    Floating-point values of the interpreter are of class `Value`. They never cross into what JAX traces for itself (the
    body of a loop, say): there the rule gets arrays in its own machine's format, and gives such.
    """

    machine: Machine
    random: bool = False
    lines: Lines | None = None
    machines: dict[tuple, Machine] = field(default_factory=dict)

    def start(self) -> State:
        """The state before the first operation."""
        state = self.machine.start()
        if self.lines is not None:
            state = state._replace(events=self.lines.none_yet())
        return _on_devices(state._replace(draws=jnp.zeros((), jnp.uint32) if self.random else None))

    def enter(self, x: Any, state: State) -> tuple[Value, State]:
        """An argument of the program, in the outermost arithmetic."""
        x, state = self._at("arguments").enter(x, state)
        return Value(x, self.machine.arithmetic), state

    def constant(self, x: Any, aval: Any, state: State) -> tuple[Any, State]:
        """A constant of the program, which is rounded where it is used."""
        return (Constant(x, aval.dtype), state) if is_float(aval.dtype) else self.machine.constant(x, aval.dtype, state)

    def result(self, x: Any, state: State) -> tuple[Any, State]:
        """A result of the program, in the outermost arithmetic."""
        (x,), state = _read([x], self._at("results"), state)
        return x, state

    def rule_for(self, operation: Operation) -> Rule:
        """The rule of one operation, in the arithmetic in force, on values of whatever arithmetic."""
        machine = self._machine(operation)
        return partial(_run, machine, rule_for(machine, operation))

    def _machine(self, operation: Operation) -> Machine:
        source = next((scope.source for scope in operation.scope if isinstance(scope, Made)), operation.source)
        key = operation.name, operation.scope, source if self.lines is not None else None
        if key not in self.machines:
            base = self.machine.arithmetic
            arithmetic = _governed(in_force(base, operation.name, operation.scope), base)
            self.machines[key] = replace(self._at(source), arithmetic=arithmetic)
        return self.machines[key]

    def _at(self, source: str) -> Machine:
        return self.machine if self.lines is None else replace(self.machine, line=self.lines.at(source))


def _on_devices(state: State) -> State:
    """The first state of a program that may be the piece of one that is divided: each device counts its own events."""
    return state if state.events is None else state._replace(events=meshes.divided(state.events))


def _governed(arithmetic: Arithmetic, base: Arithmetic) -> Arithmetic:
    """An inner arithmetic with what is the outermost one's to say."""
    if arithmetic is base:
        return base
    return replace(arithmetic, seed=base.seed, linalg=base.linalg if arithmetic.linalg == "refuse" else "expand")


def _read(values: list, machine: Machine, state: State) -> tuple[list, State]:
    """Values as the machine's arithmetic has them."""
    arrays = []
    for x in values:
        array, state = x.read(machine, state) if isinstance(x, Value) else (x, state)
        arrays.append(array)
    return arrays, state


def _run(
    machine: Machine, rule: Rule, operation: Operation, operands: list, state: State, walk: Walk
) -> tuple[list, State]:
    """Run an operation on values: its own are arrays of the machine's format, and so are those of what it walks."""
    inside = {}
    if operation.name not in LENDS:
        inside["scope"] = (*operation.scope, Made(machine.arithmetic, operation.source))

    def tagged(arrays: list, avals: Any) -> list:
        pairs = zip(arrays, avals, strict=True)
        return [Value(x, machine.arithmetic) if is_float(aval.dtype) else x for x, aval in pairs]

    def walk_inside(jaxpr: Any, operands: list, state: State) -> tuple[list, State]:
        avals = [v.aval for v in getattr(jaxpr, "jaxpr", jaxpr).invars]
        results, state = walk(jaxpr, tagged(operands, avals), state, **inside)
        return _read(results, machine, state)

    arrays, state = _read(operands, machine, state)
    results, state = rule(operation, arrays, state, walk_inside)
    return tagged(results, operation.outputs), state


LENDS = CONTROL | {"custom_linear_solve"}
"""Operations that hold pieces of the author's program; what else walks a program is made of it, in its arithmetic."""


def site_of(machine: Machine, jaxpr: Any, lines: Lines | None = None) -> Uniform | Mixed:
    """How a program is run: in one arithmetic throughout, or in several.

    Args:
        machine: the arithmetic of the program, at work.
        jaxpr: the program.
        lines: the source lines whose events are counted one by one.

    Returns:
        The simplest site that does it.

    Raises:
        ValueError: an override names neither a primitive nor a scope of the program.
        UnsupportedPrimitiveError: the program contains an emulated function.
    """
    scopes, base = interpreter.scopes(jaxpr), machine.arithmetic
    if EMULATED in scopes:
        raise UnsupportedPrimitiveError(
            f"emulate cannot run an emulated function, which is called at {interpreter.entrance(jaxpr, EMULATED)}: "
            'emulate the plain one instead, and mark what is to have an arithmetic of its own with precision("float32")'
        )
    marked = [_REGIONS[name] for name in sorted(scopes & _REGIONS.keys())]
    if not (marked or base.overrides or lines is not None):
        return Uniform(machine)
    overrides = [pair for arithmetic in (base, *marked) for pair in arithmetic.overrides]
    for key, _ in overrides:
        _check(key, scopes)
    needed = [base, *marked, *(arithmetic for _, arithmetic in overrides)]
    widest = max(arithmetic.carrier_dtype for arithmetic in needed)  # "float64" comes after "float32"
    random = any(arithmetic.rounding == "stochastic" for arithmetic in needed)
    return Mixed(replace(machine, wide=widest), random, lines)


def _check(key: str, scopes: frozenset[str]) -> None:
    if key in scopes or KINDS.get(key, Kind.CALL) is not Kind.CALL:
        return
    if key in ROLES and ROLES[0] in scopes:  # a program that marks its arrays need not have a state, or scalars
        return
    if key in KINDS:
        raise ValueError(f"overrides: {key!r} is a call, which has no arithmetic of its own; name a scope inside of it")
    seen = ", ".join(sorted(repr(name) for name in scopes if name not in _REGIONS)) or "none"
    raise ValueError(f"overrides: {key!r} is neither a primitive nor a scope of the program; its scopes are: {seen}")
