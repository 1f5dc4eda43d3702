"""Laws of `emulate` under JAX's transformations, modes, dtypes and kinds of arguments."""

import functools
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax
from programs import BY_NAME
from scalar_interpreter import ScalarInterpreter
from test_emulate import assert_same_bits

from precond_lab import interpreter
from precond_lab.arithmetic import formats
from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.rounding import round_to
from precond_lab.arithmetic.specification import Arithmetic

f32 = np.float32
STOCHASTIC = Arithmetic("bfloat16", "stochastic", seed=5)


def small(x, y):
    """A scan, a loop under a branch, a product of matrices: a few of everything."""
    total, parts = lax.scan(lambda c, t: (c * t + 0.3, c / 3), y[0], x)
    looped = lax.cond(x[0] > 0, lambda v: lax.fori_loop(0, 3, lambda i, s: s * 1.1 + v[i], v[0]), lambda v: v[1] / 7, y)
    return {"scan": (total, parts), "loop": looped, "product": jnp.outer(x, y) @ y, "exp": jnp.exp(x)}


def tiny(x, y):
    """A scan and a branch."""
    return lax.scan(lambda c, t: (c * t, c), y[0], x), lax.cond(x[0] > 0, lambda v: v / 3, jnp.exp, y)


X, Y = (v.astype(f32) for v in np.random.default_rng(1).normal(size=(2, 4)))


@pytest.mark.parametrize(
    ("f", "arithmetic"),
    [(small, Arithmetic("bfloat16", "toward_zero")), (tiny, STOCHASTIC)],
    ids=["small", "stochastic"],
)
def test_jit_is_eager_is_run_again(f, arithmetic):
    e = emulate(f, arithmetic)
    eager = e(X, Y)
    assert_same_bits(jax.jit(e)(X, Y), eager)
    assert_same_bits(emulate(f, arithmetic)(X, Y), eager)


@pytest.mark.parametrize(
    "arithmetic", [pytest.param(Arithmetic("bfloat16", "toward_zero"), marks=pytest.mark.slow), STOCHASTIC], ids=str
)
def test_operation_by_operation_is_compiled(arithmetic):
    eager = emulate(tiny, arithmetic, events=True)(X, Y)
    with jax.disable_jit():
        assert_same_bits(emulate(tiny, arithmetic, events=True)(X, Y), eager)


@pytest.mark.parametrize(
    ("f", "arithmetic"),
    [(small, Arithmetic("float16", "toward_zero")), (tiny, STOCHASTIC)],
    ids=["small", "stochastic"],
)
def test_vmap_is_map(f, arithmetic):
    xs, ys = np.stack([X, -X, 2 * Y]), np.stack([Y, X, -Y])
    e = emulate(f, arithmetic, events=True)
    rows = [e(x, y) for x, y in zip(xs, ys, strict=True)]
    assert_same_bits(jax.vmap(e)(xs, ys), jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows))


def test_emulating_a_vmap_is_a_vmap_of_the_emulation():
    xs, ys = np.stack([X, -X, 2 * Y]), np.stack([Y, X, -Y])

    def count(x, y):  # a loop that ends at a different step in every lane
        return lax.while_loop(lambda s: s[0] < 20, lambda s: (s[0] * 1.7 + 0.1, s[1] + 1), (jnp.abs(x[0]), 0))

    for f in (small, count):
        assert_same_bits(emulate(jax.vmap(f), "bfloat16")(xs, ys), jax.vmap(emulate(f, "bfloat16"))(xs, ys))


def operation_by_operation(f, *args):
    """JAX's own result of every operation on its own, with constants as arguments that it cannot fold.

    XLA multiplies by the reciprocal of any scalar divisor, so that a divisor must be an array.
    """
    program = interpreter.trace(f, args)

    def bind(operation, operands, state, walk):
        if operation.name == "div":
            operands = jnp.broadcast_arrays(*operands)
        return operation.bind(*operands), state

    results, _ = interpreter.run(
        program.jaxpr,
        program.arguments,
        None,
        lambda operation: bind,
        lambda constant, aval, state: (jnp.asarray(constant, aval.dtype), state),
    )
    return jax.tree.unflatten(program.output_tree, results)


@pytest.mark.parametrize("name", ["elementwise", "library", "moves"])
def test_binary64_is_native_float64_operation_by_operation(name):
    program = BY_NAME[name]
    with jax.enable_x64(True):
        args = [jnp.asarray(x, jnp.float64) for x in program.arguments(formats.float32)]
        got, native = emulate(program.function, "float64")(*args), operation_by_operation(program.function, *args)
    for results in (got, native):
        results.pop("halves", None)  # casts to 16 bits, which XLA rounds twice and flushes
    assert_same_bits(got, native)


def test_binary64_loops_are_those_of_the_scalar_interpreter():
    program = BY_NAME["control"]
    with jax.enable_x64(True):
        args = [np.asarray(x, np.float64) for x in program.arguments(formats.float32)]
        want, _ = ScalarInterpreter(formats.float64)(program.function, *args)
        assert_same_bits(emulate(program.function, "float64")(*args), want)


def test_every_result_is_a_number_of_the_format():
    for arithmetic in (STOCHASTIC, Arithmetic("float8_e4m3fn", "stochastic")):
        for y in jax.tree.leaves(emulate(tiny, arithmetic)(X, Y)):
            np.testing.assert_array_equal(y, round_to(y, arithmetic.result))


# Stochastic rounding.

ROWS = 4000


def test_seeds_give_different_runs_and_each_is_reproducible():
    x = np.ones(64, f32)
    third = [emulate(lambda x: x / 3, Arithmetic("bfloat16", "stochastic", seed=seed)) for seed in (0, 1, -1, 2**40)]
    runs = [np.asarray(e(x)) for e in third]
    assert all((a != b).any() for a, b in itertools.combinations(runs, 2))
    with jax.default_prng_impl("rbg"):
        assert_same_bits(emulate(lambda x: x / 3, Arithmetic("bfloat16", "stochastic", seed=1))(x), runs[1])


def assert_unbiased(samples, exact, variance):
    """The mean of independent samples is within five standard errors, their variance below the bound."""
    assert abs(np.mean(samples, dtype=np.float64) - exact) <= 5 * np.sqrt(variance / len(samples))
    assert np.var(samples, dtype=np.float64) <= 2 * variance


@pytest.mark.parametrize("loop", ["sum", "scan", "while", "cond", "dot"])
def test_stochastic_sums_are_unbiased_and_their_steps_independent(loop):
    """n roundings in [1, 2) have variances of at most ulp**2 / 4 each, and add up only if they are independent."""
    n, step = 12, 2.0**-10  # an eighth of an ulp of bfloat16: rounding to nearest would absorb every step

    def total(rows):
        one, d = jnp.ones(ROWS), jnp.full(ROWS, step)
        if loop == "sum":
            return jnp.sum(jnp.stack([one, *[d] * n]), axis=0)
        if loop == "dot":
            return jnp.stack([one, *[d] * n], axis=1) @ jnp.ones(n + 1)
        if loop == "scan":
            return lax.scan(lambda c, _: (c + d, None), one, length=n)[0]
        if loop == "while":
            return lax.while_loop(lambda s: s[1] < n, lambda s: (s[0] + d, s[1] + 1), (one, 0))[0]
        add = lambda c: lax.cond(c[0] > 0, lambda c: c + d, lambda c: c, c)  # noqa: E731
        return lax.fori_loop(0, n, lambda i, c: add(c), one)

    samples = emulate(total, STOCHASTIC)(0.0)
    p = step * 2**7
    assert_unbiased(np.asarray(samples), 1 + n * step, n * p * (1 - p) * 2.0**-14)
    assert float(emulate(total, "bfloat16")(0.0)[0]) == 1


# Modes, dtypes and arguments.


def test_a_float32_user_gets_float32_and_the_mode_is_unchanged():
    y = emulate(small, "float32")(X, Y)
    assert {leaf.dtype for leaf in jax.tree.leaves(y)} == {np.dtype(f32)}
    assert not jax.config.jax_enable_x64
    assert jnp.arange(2.0).dtype == np.float32


def test_a_float64_user_gets_float64():
    with jax.enable_x64(True):
        y = emulate(lambda x, n: (x / 3, n + 1), "bfloat16")(np.float64(1), 3)
    assert [leaf.dtype for leaf in y] == [np.float64, np.int64]
    assert float(y[0]) == float(round_to(1 / 3, "bfloat16"))


def test_float64_arguments_are_rounded_once_whatever_the_mode():
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8])  # just above a tie of bfloat16, and the tie
    for wide in (False, True):
        with jax.enable_x64(wide):
            y = emulate(lambda x: x, "bfloat16")(x)
        assert y.dtype == (np.float64 if wide else np.float32)
        np.testing.assert_array_equal(y, [1 + 2.0**-7, 1])
    assert float(emulate(lambda x: x, "bfloat16")(1 + 2.0**-8 + 2.0**-40)) == 1 + 2.0**-7  # a Python float


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32], ids=lambda d: np.dtype(d).name)
def test_dtypes_of_results_are_those_of_the_program(dtype):
    x = np.array([1, 3, 1 / 3, 2.0**-20]).astype(dtype)

    def f(x):
        return x * x + 1, (x > 1), jnp.argmax(x), x.astype(jnp.float16)

    got, plain = emulate(f, "float8_e5m2")(x), f(jnp.asarray(x))
    assert [v.dtype for v in got] == [v.dtype for v in plain]
    assert got[0].tolist() == [2, 8, 1, 1]  # three bits: nine is eight, and so is eight and one


def test_pytrees_keywords_scalars_integers_and_keys_are_arguments():
    def f(parameters, n, *, scale, key=None, flag=False):
        noise = 0 if key is None else jax.random.uniform(key, (2,))
        return {"y": parameters["w"] * scale + n, "noise": noise, "flag": ~jnp.asarray(flag)}

    w = np.array([1, 1 / 3], f32)
    y = emulate(f, "bfloat16")({"w": w, "unused": None}, 3, scale=0.1, key=jax.random.key(1), flag=True)
    tenth, third = (float(round_to(v, "bfloat16")) for v in (0.1, 1 / 3))
    want = round_to(np.asarray(round_to(np.array([1, third]) * tenth, "bfloat16")) + 3, "bfloat16")
    np.testing.assert_array_equal(y["y"], want)
    assert not y["flag"]
    uniform = np.asarray(jax.random.uniform(jax.random.key(1), (2,)))
    np.testing.assert_allclose(y["noise"], uniform, atol=2**-7)
    assert (
        emulate(lambda key: jax.random.split(key)[0], "bfloat16")(jax.random.key(1))
        == jax.random.split(jax.random.key(1))[0]
    )


def test_arguments_that_are_no_arrays_are_refused_with_the_cure():
    with pytest.raises(TypeError, match=r"got str: bind it with functools.partial"):
        emulate(lambda x, mode: x, "bfloat16")(1.0, "fast")
    bound = functools.partial(lambda mode, x: x + (mode == "fast"), "fast")
    assert float(emulate(bound, "bfloat16")(1.0)) == 2


def test_closures_are_constants_of_the_program():
    w = jnp.array([1 / 3, 2.0])
    got = emulate(lambda x: x * w, "bfloat16")(f32(1))
    np.testing.assert_array_equal(got, round_to(w, "bfloat16"))

    def loss(w, x):
        return jnp.sum(emulate(lambda x: jnp.sin(x * w) * w[0], "bfloat16")(x))

    def plain(w, x):
        return jnp.sum(jnp.sin(x * w) * w[0])

    g = jax.grad(loss)(w, f32(0.7))
    np.testing.assert_allclose(g, jax.grad(plain)(w, f32(0.7)), rtol=8 * 2**-8)
    xs = np.array([0.5, 0.7], f32)
    assert_same_bits(
        jax.vmap(lambda x: emulate(lambda y: y * x, "bfloat16")(f32(3)))(xs),
        emulate(lambda x: f32(3) * x, "bfloat16")(xs),
    )


# Derivatives.


def polynomial(x, y):
    return jnp.sum(x * x * y + x / y)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_derivatives_are_straight_through_and_within_the_roundings_of_their_factors(name):
    """With w_i the rounded factors of each term, a term of the gradient is off by at most 6 u of its size."""
    u = formats.named(name).unit_roundoff
    x, y = np.abs(X) + 1, np.abs(Y) + 1
    e = emulate(polynomial, name)
    gx, gy = jax.grad(e, argnums=(0, 1))(x, y)
    np.testing.assert_allclose(gx, 2 * x * y + 1 / y, rtol=6 * u)
    np.testing.assert_allclose(gy, x * x - x / y**2, atol=6 * u * float(np.max(x * x + x / y**2)))
    assert gx.dtype == np.float32
    low = emulate(jax.grad(polynomial), name)(x, y)  # the gradient computed in low precision
    np.testing.assert_array_equal(low, round_to(low, name))
    np.testing.assert_allclose(low, 2 * x * y + 1 / y, rtol=8 * u)
    assert_same_bits(jax.jit(jax.vmap(jax.grad(e)))(x[None], y[None])[0], gx)
    assert_same_bits(jax.grad(lambda x: jnp.sum(jax.vmap(jax.jit(e))(x[:, None], y[:, None])))(x).shape, x.shape)


def test_second_derivatives():
    x = np.array([0.5, 1.5, 2.0], f32)

    def f(x):
        return jnp.sum(x * x * x)

    for name in ("bfloat16", "float16"):
        e = emulate(f, name)
        twice = jax.grad(lambda x, e=e: jnp.sum(jax.grad(e)(x)))(x)  # reverse over reverse
        np.testing.assert_array_equal(twice, 6 * x)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(jax.hessian(emulate(f, "bfloat16"))(x.astype(np.float64)), np.diag(6.0 * x))
    np.testing.assert_array_equal(jax.hessian(emulate(f, "float16"))(x), np.diag(6 * x))


def test_derivatives_of_every_order_are_computed_in_the_format():
    """On numbers whose products bfloat16 holds, the derivatives of both kinds are the exact ones."""

    def f(x):
        return jnp.sum(x * x * x) + x[0] * x[1]

    x = np.array([0.5, 1.5, 2], f32)
    hessian = np.diag(6 * x) + np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    for derivative in (jax.hessian, lambda g: jax.jacrev(jax.jacrev(g)), lambda g: jax.jacfwd(jax.grad(g))):
        np.testing.assert_array_equal(emulate(derivative(f), "bfloat16")(x), hessian)
    np.testing.assert_array_equal(jax.hessian(emulate(f, "float16"))(x), hessian)
    third = emulate(jax.grad(lambda x: jnp.sum(jax.hessian(f)(x))), "bfloat16")(x)
    np.testing.assert_array_equal(third, np.full(3, 6))


def test_a_program_is_traced_once_for_each_kind_of_argument():
    traced = []

    def f(x, y=1.0):
        traced.append(jnp.shape(x))
        return x * y

    e = emulate(f, "float16")
    for x in (X, Y, jnp.asarray(X)):
        e(x)
        jax.jit(e)(x)
    assert traced == [(4,)]
    e(X[:2]), e(X, y=2.0), e(f32(1)), e(1.0), e(1)
    assert len(traced) == 6
    e(X[:2]), e(X, y=3.0), e(f32(2)), e(2.0), e(2)
    with jax.enable_x64(True):
        e(X)
    assert len(traced) == 7


def test_counts_beside_a_derivative():
    (value, events), g = jax.value_and_grad(emulate(lambda x: x * x, "float16", events=True), has_aux=True)(300.0)
    assert value == np.inf
    assert int(events.overflow) == 1
    assert float(g) == 600


# Programs whose operations JAX lowers or transposes after the call has returned, in the caller's mode.
LATE = {
    "scatter": lambda x: x.at[jnp.array([0, 2])].set(x[1] * 2),
    "gather": lambda x: x[jnp.array([0, 2, 2])],
    "dynamic slice": lambda x: lax.dynamic_slice(x, (jnp.argmax(x) - 3,), (2,)),
    "dynamic update": lambda x: lax.dynamic_update_slice(x, x[:2] * 3, (jnp.argmin(x) + 1,)),
    "pad": lambda x: jnp.pad(x, 2),
    "where": lambda x: jnp.where(x > 2, x, 0.0),
    "sort": jnp.sort,
    "order": lambda x: x[jnp.argsort(-x)],
    "largest": lambda x: lax.top_k(x, 2)[0],
    "maximum": jnp.max,
    "maximum so far": lax.cummax,
    "cumulative sum": jnp.cumsum,
    "cumulative product": jnp.cumprod,
    "dot": lambda x: x @ x,
    "sum": lambda x: x.sum() * x,
    "variance": jnp.var,
    "product": jnp.prod,
    "scan": lambda x: lax.scan(lambda c, t: (c * t, c), 1.0, x),
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "remat": lambda x: jax.checkpoint(lambda y: jnp.sin(jnp.sin(y)))(x) + 1,
    "for": lambda x: lax.fori_loop(0, 3, lambda i, s: s * x[i], 1.0),
    "split": lambda x: jnp.split(x * 2, 2),
    "reverse": lambda x: x[::-1],
    "clip": lambda x: jnp.clip(x, 2, 4),
    "power": lambda x: x**2.5,
    "cube": lambda x: x**3,
    "norm": jnp.linalg.norm,
    "logsumexp": jax.nn.logsumexp,
    "softmax": jax.nn.softmax,
    "rsqrt": lax.rsqrt,
    "add at": lambda x: x.at[jnp.array([0, 0])].add(x[:2]),
    "multiply at": lambda x: x.at[jnp.array([0, 1])].multiply(x[:2], unique_indices=True),
    "outer": lambda x: jnp.einsum("i,j->ij", x, x),
    "erf": jax.scipy.special.erf,
    "gelu": jax.nn.gelu,
    "associative scan": lambda x: lax.associative_scan(jnp.add, x),
    "reshape": lambda x: x.reshape(2, 3).T,
    "rows by index": lambda x: jax.vmap(lambda r, i: r[i])(x.reshape(2, 3), jnp.array([0, 1])),
    "remainder": lambda x: x % 2.5,
    "sign": lambda x: jnp.sign(x) * x,
    "integers": lambda x: x * jnp.arange(6),
    "bits": lambda x: x * (jax.random.bits(jax.random.key(0), (6,)) >> 31),
}


def late(x):
    return {name: sum(jnp.sum(y) for y in jax.tree.leaves(f(x))) for name, f in LATE.items()}


def test_programs_are_lowered_and_differentiated_after_x64_mode_has_ended():
    """A gradient of a case that is left out, or wrong, is off by one at least; roundings to float32 by far less.

    The carrier is float64, in which the outer grad and jit, without x64 themselves, have to differentiate and lower.
    """
    assert not jax.config.jax_enable_x64
    x = jnp.arange(1.0, 7.0)

    def total(f, x):
        results = f(x)
        return sum(results.values()), results

    gradient, got = jax.jit(jax.grad(functools.partial(total, emulate(late, "float32")), has_aux=True))(x)
    wanted, want = jax.jit(jax.grad(functools.partial(total, late), has_aux=True))(x)
    for name in LATE:
        np.testing.assert_allclose(got[name], want[name], rtol=64 * 2**-24, err_msg=name)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", LATE)
def test_each_case_is_differentiated_after_x64_mode_has_ended(name):
    x = jnp.arange(1.0, 7.0)

    def f(x):
        return sum(jnp.sum(y) for y in jax.tree.leaves(LATE[name](x)))

    e, want = emulate(f, "bfloat16"), np.asarray(jax.grad(f)(x))
    bound = 32 * 2**-8 * max(np.abs(want).max(), 1)  # no case has a condition above 32 in its largest element
    np.testing.assert_allclose(jax.grad(e)(x), want, rtol=0, atol=bound)
    np.testing.assert_allclose(jax.jit(jax.grad(e))(x), want, rtol=0, atol=bound)
    assert_same_bits(jax.jit(e)(x), e(x))


def test_it_runs_inside_jit_inside_vmap_inside_grad():
    def f(x):
        return lax.fori_loop(0, 2, lambda i, X: 1.5 * X - 0.5 * X @ X.T @ X, x.reshape(2, 2))

    def loss(g, xs):
        return jnp.sum(jax.vmap(jax.jit(g))(xs) ** 2)

    xs = jnp.stack([X, Y]) / 4
    g, want = jax.grad(functools.partial(loss, emulate(f, "bfloat16")))(xs), jax.grad(functools.partial(loss, f))(xs)
    assert g.dtype == np.float32
    assert np.linalg.norm(g - want) <= 64 * 2**-8 * np.linalg.norm(want)
