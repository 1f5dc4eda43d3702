"""Laws of the walk over programs: moves by position, control flow, the threaded state, refusals."""

from fractions import Fraction

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from precond_lab.interpreter import (
    MOVES,
    UnsupportedPrimitiveError,
    decode_cond,
    decode_scan,
    decode_while,
    entrance,
    has_64_bit_leaf,
    run,
    scopes,
    trace,
)
from precond_lab.truth import evaluate
from precond_lab.truth.moves import move

x = np.arange(12, dtype=np.float32)
A = np.arange(20, dtype=np.float32).reshape(4, 5)
i = np.array([2, 0, 7, 2])


# program, and its arguments after the first, by the name of the primitive that it is there for
PROGRAMS = {
    "broadcast_in_dim": [lambda A: lax.broadcast_in_dim(A, (3, 4, 2, 5), (1, 3))],
    "concatenate": [lambda A: lax.concatenate([A, A[:, :2], A], 1)],
    "copy": [lambda A: jnp.array(A, copy=True)],
    "device_put": [lambda A: jax.device_put((A, A + 0))],
    "dynamic_slice": [
        lambda A: lax.dynamic_slice(A, (1, 2), (2, 2)),
        lambda A: lax.dynamic_slice(A, (3, jnp.int32(-9)), (2, 4)),
    ],
    "dynamic_update_slice": [
        lambda A: lax.dynamic_update_slice(A, -A[:2, :2], (1, 2)),
        lambda A: lax.dynamic_update_slice(A, -A[:2], (9, 9)),
    ],
    "gather": [
        lambda A: A[i % 4, :3],
        lambda A: A[:, i % 5],
        lambda A: A.at[i].get(mode="clip"),
        lambda A: A.at[i].get(mode="fill"),
        lambda A: A.at[i].get(mode="fill", fill_value=-1.0),
        lambda A: A.astype(int).at[i].get(mode="fill"),
        lambda A: (A > 3).at[i].get(mode="fill"),
        jax.vmap(lambda row: row[i % 5]),
        lambda A: jnp.take_along_axis(A, i[:, None] % 5, 1),
    ],
    "name": [lambda A: checkpoint_name(A, "A")],
    "optimization_barrier": [lambda A: lax.optimization_barrier((A, i))[0]],
    "pad": [
        lambda A: lax.pad(A, 9.0, [(1, 2, 0), (0, 3, 2)]),
        lambda A: lax.pad(A, 9.0, [(-1, 2, 1), (2, -3, 0)]),
        lambda A: lax.pad(A[:0], 9.0, [(1, 2, 3), (0, 0, 0)]),
    ],
    "reshape": [lambda A: A.reshape(2, 10), lambda A: lax.reshape(A, (20,), (1, 0))],
    "rev": [lambda A: A[::-1, ::-1]],
    "scatter": [
        lambda A: A.at[i].set(-A),
        lambda A: A.at[1:3, i[:2]].set(7.0),
        lambda A: A.at[i].set(-A, mode="clip"),
        jax.vmap(lambda row: row.at[3].set(-1)),
    ],
    "select_n": [
        lambda A: jnp.where(A > 5, A, -A),
        lambda A: lax.select_n(jnp.bool_(True), A, -A),
        lambda A: lax.select_n((A % 3).astype(jnp.int32), A, -A, 2 * A),
    ],
    "sharding_constraint": [
        lambda A: lax.with_sharding_constraint(A, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    ],
    "slice": [lambda A: A[1:4:2, 1:], lambda A: lax.slice(A, (1, 0), (3, 4))],
    "split": [lambda A: lax.split(A, [1, 3, 1], axis=1)],
    "squeeze": [lambda A: lax.squeeze(A[:, :1], (1,))],
    "stack": [lambda A: jnp.stack([A, -A], axis=1)],
    "stop_gradient": [lax.stop_gradient],
    "tile": [lambda A: jnp.tile(A, (2, 3))],
    "transpose": [jnp.transpose, lambda A: A[None].transpose(2, 0, 1)],
    "unstack": [lambda A: jnp.unstack(A, axis=1), lambda A: jnp.unstack(A[0])],
}
# made by transformations over several devices, by layouts, or on an accelerator alone
UNBUILT = {"copy_p", "layout_constraint", "pvary", "reshard", "roll"}


def native_rule(operation, operands, state, walk):
    """The rule of an interpreter that adds nothing: JAX's own results, and a count of operations."""
    if operation.name == "scan":
        scan = decode_scan(operation, operands)
        carry, rows = scan.carry, [None] * scan.length
        for k in reversed(range(scan.length)) if scan.reverse else range(scan.length):
            results, state = walk(scan.body, [*scan.consts, *carry, *(x[k] for x in scan.xs)], state)
            carry, rows[k] = results[: len(carry)], results[len(carry) :]
        return [*carry, *(jnp.stack(column) for column in zip(*rows, strict=True))], state
    if operation.name == "while":
        loop = decode_while(operation, operands)
        carry = loop.carry
        while True:
            (going,), state = walk(loop.test, [*loop.test_consts, *carry], state)
            if not going:
                return carry, state
            carry, state = walk(loop.body, [*loop.body_consts, *carry], state)
    if operation.name == "cond":
        cond = decode_cond(operation, operands)
        return walk(cond.branches[max(0, min(int(cond.index), len(cond.branches) - 1))], cond.operands, state)
    return operation.bind(*operands), state + 1


def lift(value, aval, state):
    return jnp.asarray(value, aval.dtype), state


def moving_rule(seen, kind):
    def rule(operation, operands, state, walk):
        if operation.name not in MOVES:
            return native_rule(operation, operands, state, walk)
        seen.add(operation.name)
        data = [np.asarray(x).astype(kind) if jnp.issubdtype(x.dtype, np.floating) else np.asarray(x) for x in operands]
        results = move(operation, data)
        return [jnp.asarray(x.astype(s.dtype)) for x, s in zip(results, operation.outputs, strict=True)], state

    return rule


@pytest.mark.parametrize("kind", [np.float32, object])
@pytest.mark.parametrize("name", PROGRAMS)
def test_moves_are_those_of_jax(name, kind):
    for f in PROGRAMS[name]:
        seen = set()
        program = trace(f, (A,))
        results, _ = run(program.jaxpr, [jnp.asarray(A)], 0, lambda _, seen=seen: moving_rule(seen, kind), lift)
        for a, b in zip(results, jax.tree.leaves(f(jnp.asarray(A))), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert name in seen


def test_every_move_is_tried():
    assert set(PROGRAMS) | UNBUILT == MOVES


def test_a_move_looks_at_no_element():
    class Opaque:
        pass

    things = np.array([Opaque() for _ in range(6)]).reshape(2, 3)
    program = trace(lambda x: jnp.flip(x.T)[jnp.array([2, 0])].at[0].set(x[:, 1]), (np.zeros((2, 3)),))

    def rule(operation, operands, state, walk):
        if operation.name in MOVES:
            return move(operation, [np.asarray(x) for x in operands]), state
        return native_rule(operation, operands, state, walk)

    (result,), _ = run(program.jaxpr, [things], 0, lambda _: rule, lift)
    expected = np.flip(things.T)[[2, 0]]
    expected[0] = things[:, 1]
    assert all(p is q for p, q in zip(result.ravel(), expected.ravel(), strict=True))


def collatz(n):
    return lax.while_loop(
        lambda s: s[0] != 1, lambda s: (jnp.where(s[0] % 2, 3 * s[0] + 1, s[0] // 2), s[1] + 1), (n, 0)
    )


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
CONTROL = {
    "scan": (lambda x: lax.scan(lambda c, y: (c + y, c * y), 0.0, x), x),
    "reversed scan of a tree": (
        lambda x: lax.scan(lambda c, y: ((c[1], c[0] + y["a"]), y), (0.0, 1.0), {"a": x}, reverse=True),
        x,
    ),
    "scan with constants": (lambda x: lax.scan(lambda c, y: (c + y * x.sum(), None), 0.0, x)[0], x),
    "while": (collatz, 27),
    "while with constants": (lambda x: lax.while_loop(lambda c: c < x[3], lambda c: c + x[1], 0.5), x),
    "cond": (lambda x: lax.cond(x[1] > 5, lambda y: y, lambda y: -y, x), x),
    "switch clamps its index": (lambda x: [lax.switch(k, [jnp.sin, jnp.cos], x) for k in (-3, 0, 1, 9)], x),
    "nested": (
        lambda x: lax.fori_loop(
            0,
            3,
            lambda k, c: lax.cond(k > 1, lambda: c, lambda: c + lax.scan(lambda a, y: (a + y, a), 0.0, x)[0]),
            0.0,
        ),
        x,
    ),
    "calls": (jax.jit(lambda x: jax.checkpoint(jnp.sin)(x) + jax.jit(doubled)(x) + jax.nn.relu(x)), x),
    "composite": (lambda x: lax.composite(lambda y: y * 2, name="lab.twice")(x + 1), x),
    "derivative of a remat": (
        jax.grad(jax.checkpoint(lambda x: lax.scan(lambda c, y: (c * y, c), 1.0, x)[0])),
        x + 1,
    ),
    "a primitive made of others": (lambda x: jnp.interp(x + 0.5, x, -x), x),
    "derivative": (jax.grad(lambda x: jnp.sum(doubled(jax.nn.silu(x)))), x),
}


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow_is_that_of_jax(name):
    f, argument = CONTROL[name]
    program = trace(f, (argument,))
    results, _ = run(program.jaxpr, [jnp.asarray(argument)], 0, lambda _: native_rule, lift)
    native = f(argument)
    for a, b in zip(results, jax.tree.leaves(native), strict=True):
        np.testing.assert_allclose(a, b, rtol=2.0**-22)  # compiled and single operations may differ by some ulps
    assert jax.tree.structure(jax.tree.unflatten(program.output_tree, results)) == jax.tree.structure(native)
    for a, b in zip(program.outputs, jax.tree.leaves(native), strict=True):
        assert (a.shape, a.dtype) == (jnp.shape(b), jnp.result_type(b))


def test_the_state_goes_through_in_program_order():
    program = trace(lambda x: lax.scan(lambda c, y: (c + y, c), 0.0, x)[0] * 2, (x,))
    adds = []

    def rule(operation, operands, state, walk):
        if operation.name in {"add", "mul"}:
            adds.append((operation.name, state))
        return native_rule(operation, operands, state, walk)

    _, state = run(program.jaxpr, [jnp.asarray(x)], 0, lambda _: rule, lift)
    names, states = zip(*adds, strict=True)
    assert names == ("add",) * len(x) + ("mul",)
    assert list(states) == sorted(states)
    assert state > states[-1]


def test_an_unknown_primitive_is_refused_where_it_stands():
    mystery = jex.core.Primitive("mystery")
    mystery.def_abstract_eval(lambda aval: aval)
    with pytest.raises(UnsupportedPrimitiveError, match=r"'mystery' at .*test_interpreter\.py:\d+"):
        evaluate(lambda x: mystery.bind(x) + 1, 1.0)


def test_the_line_of_an_operation_is_the_users():
    lines = []

    def rule(operation, operands, state, walk):
        lines.append((operation.name, operation.source))
        return native_rule(operation, operands, state, walk)

    def f(x):
        y = jnp.sin(x)
        return jnp.tanh(y)

    run(trace(f, (x,)).jaxpr, [jnp.asarray(x)], 0, lambda _: rule, lift)
    (sin, first), (tanh, second) = lines
    assert (sin, tanh) == ("sin", "tanh")
    number = [int(source.split("test_interpreter.py:")[1].split(":")[0].split(" ")[0]) for source in (first, second)]
    assert number[1] == number[0] + 1


@jax.jit
def deep(x):
    with jax.named_scope("deep"):
        return jnp.tanh(x)


def scoped(x):
    y = deep(x)
    with jax.named_scope("a/b(c)"):
        y += deep(x)
        with jax.named_scope("inner"):
            y, _ = lax.scan(lambda c, t: (c + deep(t).sum(), None), y.sum(), x)
    return lax.cond(y > 0, jax.named_scope("branch")(jnp.exp), jnp.log, jax.checkpoint(deep)(y))


# of what is computed with tanh, exp and log: the last one is of the logarithm, which stands in none
SCOPES = {("deep",), ("a/b(c)", "deep"), ("a/b(c)", "inner", "deep"), ("branch",), ()}


@pytest.mark.parametrize("transformation", ["none", "vmap", "grad"])
def test_scopes_are_those_of_the_author_through_calls_and_transformations(transformation):
    """`deep` is traced once by JAX, and stands where it is called."""
    f, argument = scoped, jnp.asarray(x)
    if transformation == "vmap":
        f, argument = jax.vmap(scoped), argument[None]
    elif transformation == "grad":
        f = jax.grad(scoped)
    seen = set()

    def rule(operation, operands, state, walk):
        if operation.name == "cond":
            for branch in operation.params["branches"]:
                walk(branch, list(operands[1:]), state)
        if operation.name in {"tanh", "exp", "log"}:
            seen.add(tuple(name for name in operation.scope if name != "rematted_computation"))
        return native_rule(operation, operands, state, walk)

    program = trace(f, (argument,))
    run(program.jaxpr, [argument], 0, lambda _: rule, lift)
    assert {tuple(dict.fromkeys(names)) for names in seen} == SCOPES
    assert scopes(program.jaxpr) - {"rematted_computation"} == {"deep", "a/b(c)", "inner", "branch"}


def test_the_entrance_to_a_scope_is_the_line_of_the_call_that_leads_to_it():
    first = scoped.__code__.co_firstlineno
    program = trace(scoped, (x,))
    assert f"test_interpreter.py:{first + 1}:" in entrance(program.jaxpr, "deep")
    assert f"test_interpreter.py:{first + 3}:" in entrance(program.jaxpr, "a/b(c)")
    assert "unknown" in entrance(trace(jnp.sin, (x,)).jaxpr, "nowhere")


def test_arguments_are_arrays_or_numbers():
    with pytest.raises(TypeError, match=r"functools\.partial"):
        trace(lambda x, how: x, (1.0, "how"))
    with pytest.raises(TypeError, match="got Fraction"):
        trace(lambda x: x, (Fraction(1, 3),))


def test_64_bit_leaves_are_found():
    assert has_64_bit_leaf({"a": np.zeros(2)})
    assert has_64_bit_leaf(np.int64(1))
    assert not has_64_bit_leaf([np.float32(1), 1.0, jax.random.key(0), np.complex64(1)])
