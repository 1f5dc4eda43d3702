"""Laws of regions, overrides and events by line: what holds in a piece of a program holds there and nowhere else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_emulate import assert_same_bits

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.events import Events
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.regions import precision
from precond_lab.arithmetic.rounding import round_to
from precond_lab.arithmetic.specification import Arithmetic
from precond_lab.interpreter import UnsupportedPrimitiveError

f32 = np.float32
X = np.array([2**-12, 3 * 2**-12, 1 / 3, 7.0], f32)  # of the first two, bfloat16 loses all beside 1


def there_and_back(x):
    """The identity in float32 for small multiples of 2^-12, and zero in bfloat16: it tells which one is in force."""
    return x + 1 - 1


jitted = jax.jit(there_and_back)


@jax.custom_jvp
def with_own_jvp(x):
    return there_and_back(x)


with_own_jvp.defjvp(lambda primals, tangents: (with_own_jvp(*primals), tangents[0]))


@jax.custom_vjp
def with_own_vjp(x):
    return there_and_back(x)


with_own_vjp.defvjp(lambda x: (with_own_vjp(x), None), lambda _, g: (g,))

WAYS = {
    "plain": there_and_back,
    "jit": jitted,
    "jit in jit": jax.jit(lambda x: jitted(x) * 1),
    "vmap": jax.vmap(there_and_back),
    "remat": jax.checkpoint(there_and_back),
    "custom jvp": with_own_jvp,
    "custom vjp": with_own_vjp,
    "scan": lambda x: lax.scan(lambda c, t: (c, there_and_back(t)), 0.0, x)[1],
    "while": lambda x: lax.while_loop(lambda s: s[1] < 1, lambda s: (there_and_back(s[0]), s[1] + 1), (x, 0))[0],
    "cond": lambda x: lax.cond(x[0] > 0, there_and_back, jnp.zeros_like, x),
    "map in jit": jax.jit(lambda x: lax.map(there_and_back, x)),
    "jvp": lambda x: jax.jvp(lambda y: y * y / 2, (there_and_back(x),), (jnp.ones_like(x),))[1],
    "pull back": lambda x: jax.vjp(lambda y: there_and_back(x) * y, x)[1](jnp.ones_like(x))[0],
}


@pytest.mark.parametrize("name", WAYS)
def test_a_region_reaches_whatever_is_called_in_it_and_nothing_else(name):
    """The same traced function before, in and after the region: JAX keeps one trace for all three."""

    def f(x):
        before = WAYS[name](x)
        with precision("float32"):
            inside = WAYS[name](x)
        return before, inside, WAYS[name](x)

    x = X[:2]
    before, inside, after = emulate(f, "bfloat16")(x)
    assert not np.any(before)
    assert not np.any(after)
    np.testing.assert_array_equal(inside, x)
    np.testing.assert_array_equal(emulate(precision("float32")(WAYS[name]), "bfloat16")(x), x)
    np.testing.assert_array_equal(emulate(jax.jit(f), "bfloat16")(x)[1], x)
    assert_same_bits(jax.jit(f)(x), (WAYS[name](x),) * 3)  # without emulate nothing is different


def test_the_innermost_region_wins():
    def f(x):
        with precision("float32"):
            with precision("bfloat16"):
                low = there_and_back(x)
            return low, there_and_back(x)

    low, high = emulate(f, "float16")(X[:2])
    assert not np.any(low)
    np.testing.assert_array_equal(high, X[:2])


def test_operands_are_rounded_on_entry_where_the_regions_format_lacks_them_and_results_on_exit():
    third = f32(1 / 3)

    def f(x, y):
        low = x / 3  # bfloat16
        with precision("float32"):
            kept = low * 1  # a number of bfloat16 is one of float32
            high = y / 3 + kept * 0
        with precision("float8_e4m3fn"):
            cut = jnp.stack([low, high])  # even where nothing is computed
        return low, kept, high, high * 1, cut

    low, kept, high, used, cut = emulate(f, "bfloat16")(f32(1), f32(1))
    b16 = round_to(third, "bfloat16")
    assert low == kept == high == used == b16
    np.testing.assert_array_equal(cut, round_to(np.array([b16, third]), "float8_e4m3fn"))
    wide = emulate(f, Arithmetic("float32"))(f32(1), f32(1))
    assert wide[2] == third


def test_a_result_used_twice_is_rounded_once():
    """Else a stochastic rounding would give its two uses two values."""

    def f(x):
        with precision("float32"):
            y = x / 3
        return y - y

    x = np.linspace(1, 2, 200, dtype=f32)
    assert not np.any(emulate(f, Arithmetic("bfloat16", "stochastic"))(x))
    y, events = emulate(f, "float8_e4m3fn", events=True)(np.full(7, 2.0**-9, f32))
    assert int(events.underflow) == 7
    assert not np.any(y)


def test_loops_carry_the_arithmetic_of_their_own_place():
    def f(x, inside, outside):
        with precision(outside):

            def body(c, _):
                with precision(inside):
                    return c + 2.0**-12, None

            return lax.scan(body, x, length=4)[0] - 1

    one = f32(1)
    assert emulate(functools.partial(f, inside="float32", outside="float32"), "bfloat16")(one) == 2.0**-10
    assert emulate(functools.partial(f, inside="float32", outside="bfloat16"), "bfloat16")(one) == 0
    assert emulate(functools.partial(f, inside="bfloat16", outside="float32"), "bfloat16")(one) == 0


def test_the_backward_pass_of_a_region_is_in_it():
    """In float32 the cotangent 1 + 2^-12 survives the region's product with 1; in bfloat16 it does not."""

    def f(x, marked):
        region = precision("float32") if marked else jax.named_scope("nothing")
        with region:
            return jnp.sum((x * (1 + 2.0**-12) - x) * 1)

    def gradient(marked):
        return emulate(jax.grad(functools.partial(f, marked=marked)), "bfloat16")(X)

    np.testing.assert_array_equal(gradient(True), np.full(4, 2.0**-12))
    assert not np.any(gradient(False))
    again = emulate(jax.grad(jax.checkpoint(functools.partial(f, marked=True))), "bfloat16")(X)
    np.testing.assert_array_equal(again, gradient(True))


def test_derivatives_of_programs_with_regions_are_straight_through():
    def f(x):
        with precision("float32"):
            y = x * x
        return jnp.sum(y * x)

    x = np.array([0.5, 1.5, 3], f32)
    for name in ("bfloat16", "float16"):
        np.testing.assert_array_equal(jax.grad(emulate(f, name))(x), 3 * x * x)
    np.testing.assert_array_equal(jax.vmap(jax.grad(emulate(f, "float16")))(np.stack([x, 2 * x]))[1], 12 * x * x)


def test_a_region_may_be_any_arithmetic_and_used_again():
    mine = Format("mine", 5, -14, 15)
    sums = precision(Arithmetic("bfloat16", accumulate="float32"))

    def f(x):
        with sums:
            total = jnp.sum(x)
        with precision(mine):
            part = x * 1
        with precision(Arithmetic("bfloat16", "toward_zero")), sums:
            pass
        with sums, sums:
            return total, jnp.sum(x), part

    x = np.array([1, *[2**-9] * 8], f32)
    total, again, part = emulate(f, "float32")(x)
    assert total == again == 1 + 2.0**-6
    np.testing.assert_array_equal(part, round_to(x, mine))
    assert precision("bf16").scope == precision(formats.bfloat16).scope == "precision:bfloat16"
    same_name = Format("bfloat16", 5, -14, 15)
    assert precision(same_name).scope != precision("bfloat16").scope
    with pytest.raises(ValueError, match="bfloat61"):
        precision("bfloat61")


def test_the_carrier_holds_what_any_region_needs():
    """Float16 is carried in float32, where a float32 region would not be rounded once; 2^-130 is only in float64."""

    def f(x):
        with precision("float32"):
            tiny = x * 2.0**-120
            return tiny * 2.0**110

    assert emulate(f, "float16")(f32(2**-10)) == 2.0**-20


def test_stochastic_regions_share_one_sequence_of_draws_and_one_seed():
    region = precision(Arithmetic("bfloat16", "stochastic", seed=11))

    def f(x):
        with region:
            first, second = x / 3, x / 3
        return first, second, x / 3

    x = np.ones(500, f32)
    first, second, nearest = emulate(f, "bfloat16")(x)
    assert np.any(first != second)
    assert np.ptp(nearest) == 0
    other = emulate(f, Arithmetic("bfloat16", seed=1))(x)
    assert np.any(first != other[0])
    assert_same_bits(emulate(f, Arithmetic("bfloat16", seed=1))(x), other)


# Overrides.


def attention(x):
    with jax.named_scope("attention"):
        y = there_and_back(x)
        with jax.named_scope("inner"):
            z = there_and_back(x)
    return y, z, there_and_back(x)


CASES = [
    ({}, [False, False, False]),
    ({"attention": "float32"}, [True, True, False]),
    ({"inner": "float32"}, [False, True, False]),
    ({"attention": "float32", "inner": "bfloat16"}, [True, False, False]),
    ({"attention": "float32", "add": "bfloat16"}, [False, False, False]),
    ({"add": "float32", "sub": "float32"}, [True, True, True]),
    ({"add": "float32", "sub": "float32", "inner": "bfloat16"}, [True, True, True]),
]


@pytest.mark.parametrize(("overrides", "want"), CASES, ids=[str(list(o)) for o, _ in CASES])
def test_overrides_hold_for_their_primitives_and_scopes(overrides, want):
    x = X[:2]
    results = emulate(attention, Arithmetic("bfloat16", overrides=overrides))(x)
    assert [bool(np.all(y == x)) for y in results] == want  # which of its parts were in float32


def test_a_sum_by_another_arithmetic():
    x = np.array([1, *[2**-9] * 8], f32)
    assert emulate(jnp.sum, "bfloat16")(x) == 1
    assert emulate(jnp.sum, Arithmetic("bfloat16", overrides={"reduce_sum": "float32"}))(x) == 1 + 2.0**-6


def test_a_region_goes_before_overrides_and_has_its_own():
    def f(x):
        with jax.named_scope("attention"), precision("bfloat16"):
            low = there_and_back(x)
        with precision(Arithmetic("bfloat16", overrides={"add": "float32", "sub": "float32"})):
            return low, there_and_back(x)

    low, high = emulate(f, Arithmetic("bfloat16", overrides={"attention": "float32", "add": "float32"}))(X[:2])
    assert not np.any(low)
    np.testing.assert_array_equal(high, X[:2])


def test_an_override_that_names_nothing_is_refused_with_the_scopes_that_there_are():
    wrong = emulate(attention, Arithmetic("bfloat16", overrides={"atention": "float32"}))
    with pytest.raises(ValueError, match=r"'atention' is neither .* are: 'attention', 'inner'"):
        wrong(X)
    with pytest.raises(ValueError, match="'jit' is a call"):
        emulate(attention, Arithmetic("bfloat16", overrides={"jit": "float32"}))(X)
    unused = emulate(attention, Arithmetic("bfloat16", overrides={"tanh": "float32"}))
    assert_same_bits(unused(X), emulate(attention, "bfloat16")(X))


def test_linear_algebra_is_expanded_in_the_arithmetic_and_on_the_line_of_its_call():
    A = np.array([[4, 1], [1, 3]], f32)
    low, high = (emulate(jnp.linalg.cholesky, Arithmetic(f, linalg="expand"))(A) for f in ("bfloat16", "float32"))
    assert low[1, 1] != round_to(high[1, 1], "bfloat16")

    def f(A):
        with precision("float32"):
            return jnp.linalg.cholesky(A)

    inner, lines = emulate(f, Arithmetic("bfloat16", linalg="expand"), events="lines")(A)
    named = Arithmetic("bfloat16", linalg="expand", overrides={"cholesky": "float32"})
    for result in (inner, emulate(jnp.linalg.cholesky, named)(A)):
        np.testing.assert_array_equal(result, round_to(high, "bfloat16"))
    assert {name.split(":")[0] for name in lines} == {"arguments", "results", "test_regions.py"}


# Events by line.


def eventful(x):
    y = x * 300  # overflows float16 twice: once here,
    total, _ = lax.scan(lambda c, t: (c * t, None), 1.0, y[:2])  # and in the loop
    small = lax.cond(x[1] > 0, lambda v: v * 2.0**-14 * 2.0**-14, jnp.exp, x)
    return y, total, jax.nn.relu(small), jnp.log(x[3] - x[3]), x.astype(jnp.float32)


ARGUMENT = np.array([250, 7, 2**-24, 1e-3], f32)
SEVERAL = [
    Arithmetic("float16", "stochastic", seed=2),
    pytest.param(Arithmetic("float8_e4m3fn", "toward_zero"), marks=pytest.mark.slow),
    pytest.param(Arithmetic("bfloat16"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("arithmetic", SEVERAL, ids=str)
def test_the_counts_of_all_lines_are_those_of_the_program(arithmetic):
    want, events = emulate(eventful, arithmetic, events=True)(ARGUMENT)
    got, lines = emulate(eventful, arithmetic, events="lines")(ARGUMENT)
    assert_same_bits(got, want)
    assert_same_bits(Events(*map(sum, zip(*lines.values(), strict=True))), events)


def test_counts_by_line_go_through_jit_and_vmap():
    _, lines = emulate(eventful, "float16", events="lines")(ARGUMENT)
    again = jax.jit(emulate(jax.jit(eventful), "float16", events="lines"))(ARGUMENT)[1]
    assert list(again) == list(lines)
    assert_same_bits(again, lines)
    batch = jax.vmap(emulate(eventful, "float16", events="lines"))(np.stack([ARGUMENT * 0, ARGUMENT]))[1]
    assert_same_bits(jax.tree.map(lambda n: n[1], batch), lines)


def test_each_line_has_its_own_counts():
    _, lines = emulate(eventful, "float16", events="lines")(ARGUMENT)
    first = eventful.__code__.co_firstlineno
    found = {name: tuple(map(int, events)) for name, events in lines.items()}
    assert list(found) == [
        "arguments",
        f"test_regions.py:{first + 1} (eventful)",
        f"test_regions.py:{first + 2} (eventful)",  # the constant that the loop begins with
        f"test_regions.py:{first + 2} (eventful.<locals>.<lambda>)",
        f"test_regions.py:{first + 3} (eventful)",
        f"test_regions.py:{first + 3} (eventful.<locals>.<lambda>)",
        f"test_regions.py:{first + 4} (eventful)",
    ]
    # 250 * 300 overflows, and inf * 2100 does not; times 2^-14, twice, only the first number is not lost; log 0
    none = (0, 0, 0, 0)
    assert list(found.values()) == [none, (1, 0, 0, 0), none, none, none, (0, 3, 0, 0), (0, 0, 0, 1)]


def test_the_line_of_a_conversion_is_the_one_that_needs_it():
    def f(x):
        with precision("float32"):
            y = x * 300
        z = y - 1
        return z, y[1:] * 0

    def g(x):
        with precision("float32"):
            return x * 300

    _, lines = emulate(f, "float16", events="lines")(np.array([250, 1], f32))
    counts = {name: int(events.overflow) for name, events in lines.items()}
    line = f"test_regions.py:{f.__code__.co_firstlineno + 3} (test_the_line_of_a_conversion_is_the_one_that_needs_it"
    assert {name: n for name, n in counts.items() if n} == {f"{line}.<locals>.f)": 1}
    _, lines = emulate(g, "float16", events="lines")(np.array([250, 1], f32))
    assert int(lines["results"].overflow) == 1


def test_events_are_one_of_three():
    with pytest.raises(ValueError, match="True, False or 'lines', got 'line'"):
        emulate(jnp.sin, "bfloat16", events="line")


# Emulated functions within.


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.grad, lambda f: jax.vmap(f, axis_size=2, in_axes=None)])
@pytest.mark.parametrize("format", ["bfloat16", "float16"])
def test_an_emulated_function_is_no_part_of_an_emulated_program(wrap, format):
    inner = wrap(emulate(lambda x: x * x, format))
    inner(f32(1))  # whether it was traced before or not

    def f(x):
        return inner(x) + 1

    with pytest.raises(UnsupportedPrimitiveError, match=r"test_regions\.py:\d+.*emulate the plain one"):
        emulate(f, "float16")(f32(1))
    with pytest.raises(UnsupportedPrimitiveError, match="emulate the plain one"), jax.disable_jit():
        emulate(f, "float16")(f32(1))
    with pytest.raises(UnsupportedPrimitiveError, match="emulate the plain one"):
        emulate(emulate(lambda x: x * x, format), "float32")(f32(1))
