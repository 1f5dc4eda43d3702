"""The table of programs that the laws of `emulate` run over: many operations in each, few of them."""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

f32 = np.float32


class Program(NamedTuple):
    """A function of arrays, and how to draw its arguments for a format."""

    name: str
    function: Callable
    draw: Callable  # (generator, format) -> arguments

    def arguments(self, format, seed=0):
        """Draw arguments; the same for the same program, format and seed."""
        return self.draw(np.random.default_rng([zlib.crc32(self.name.encode()), seed]), format)


def landmarks(format):
    """Numbers at which something happens: both ends of the range, zeros, infinities, NaN, and what lies between."""
    tiny, top, u = format.min_subnormal, format.max, format.unit_roundoff
    spacing = 2.0 ** (format.max_exponent + 1 - format.precision)
    size = [
        *(0.0, tiny, 3 * tiny, 0.5 * tiny, 0.75 * tiny, format.min_normal, format.min_normal - tiny),
        *(1.0, 1 + 2 * u, 1 - u, 3.0, 1 / 3, 0.1, 1e8, 1000.0),
        *(top, top / 2, top + 0.5 * spacing, top + 0.75 * spacing, np.inf),
    ]
    with np.errstate(over="ignore"):
        return np.array([*size, *(-x for x in size), np.nan]).astype(f32)


def wide(generator, format, shape):
    """Numbers of all magnitudes of a format, most of them within its range."""
    low, high = format.min_exponent - format.precision, format.max_exponent + 1
    with np.errstate(over="ignore", under="ignore"):
        exponent = generator.uniform(low, high, shape)
        return (generator.choice([-1.0, 1.0], shape) * 2.0**exponent).astype(f32)


def moderate(generator, format, shape):
    """Numbers around one, with a few bits more than the format has."""
    return generator.normal(size=shape).astype(f32)


def pairs(generator, format):
    """Landmarks against each other, and numbers of all magnitudes against their likes."""
    marks = landmarks(format)
    left, right = np.meshgrid(generator.choice(marks, 20, replace=False), marks)
    a, b = wide(generator, format, (2, 60))
    c, d = moderate(generator, format, (2, 60))
    return np.concatenate([left.ravel(), a, a, c, c]), np.concatenate([right.ravel(), b, c, a, d])


def elementwise(x, y):
    """One operation at a time, and the chains that a compiler would like to rewrite."""
    return {
        "add": x + y,
        "subtract": x - y,
        "multiply": x * y,
        "divide": x / y,
        "square root": jnp.sqrt(x),
        "remainder": lax.rem(x, y),
        "square": jnp.square(x),
        "cube": x**3,
        "power -2": x**-2,
        "power 7": x**7,
        "multiply and add": x * y + x,
        "subtract a product": x - y * y,
        "divide by three": x / 3,
        "divide and multiply by seven": (x / 7) * 7,
        "multiply twice": (x * 1.1) * 1.3,
        "add twice": (x + 1.1) + 1.3,
        "absorb": (x + 1e8) - 1e8,
        "absorb little": (x + 8.0) - 8.0,
        "difference of sum": (x + y) - x,
        "reciprocal": 1 / x,
        "floor": jnp.floor(x) + jnp.ceil(y) + jnp.sign(x),
        "choose": jnp.where(x > y, x * 2, -jnp.abs(y)),
        "finite": jnp.where(jnp.isfinite(x), x, 0.5) * y,
        "integer": jnp.clip(x, -100, 100).astype(jnp.int32) * jnp.isnan(y) + jnp.arange(x.size),
        "halves": x.astype(jnp.float16).astype(jnp.float32) + y.astype(jnp.bfloat16).astype(jnp.float32),
    }


def library(x, y):
    """JAX's own elementary functions."""
    z = jnp.abs(y)
    return {
        "exp": jnp.exp(x),
        "exp2": jnp.exp2(x),
        "expm1": jnp.expm1(x),
        "log": jnp.log(x),
        "log1p": jnp.log1p(z),
        "tanh": jnp.tanh(x),
        "logistic": jax.nn.sigmoid(x),
        "rsqrt": lax.rsqrt(z),
        "erf": lax.erf(x),
        "cbrt": jnp.cbrt(x),
        "pow": lax.pow(jnp.where(jnp.isfinite(z) & (z > 0), z, 2.0), jnp.clip(jnp.where(jnp.isnan(x), 1.5, x), -9, 9)),
        "sin": jnp.sin(jnp.clip(x, -20, 20)),
        "cos": jnp.cos(jnp.clip(x, -20, 20)),
        "softplus": jax.nn.softplus(x),
    }


def sums(A, B, x):
    """Sums and products of many terms."""
    return {
        "sum": jnp.sum(x),
        "sum of rows": jnp.sum(A, axis=1),
        "sum of all": jnp.sum(A),
        "sum of outer axes": jnp.sum(x.reshape(2, 3, -1), axis=(2, 0)),
        "mean": jnp.mean(A, axis=0),
        "dot": x @ x,
        "matrix times vector": A @ B[:, 0],
        "matrix times matrix": A @ B,
        "batch of products": jnp.einsum("bij,bkj->bik", A.reshape(2, 2, -1), B.T.reshape(2, 2, -1)[:, :, :6]),
        "outer": jnp.einsum("i,j->ij", x[:3], x[3:5]),
        "product": jnp.prod(A, axis=1),
        "cumulative sum": jnp.cumsum(A, axis=1),
        "reverse cumulative sum": lax.cumsum(x, reverse=True),
        "cumulative product": jnp.cumprod(x[:5]),
        "norm": jnp.linalg.norm(A),
        "variance": jnp.var(x),
        "nothing": jnp.sum(x[:0]) + jnp.prod(x[:0]),
        "one term": jnp.sum(x[:1]) + x[:1] @ x[:1],
    }


def draw_sums(generator, format):
    with np.errstate(over="ignore"):
        spread = (2.0 ** generator.integers(-6, 6, (4, 6))).astype(f32)
    A = moderate(generator, format, (4, 6)) * spread
    A[3] = wide(generator, format, (6,))
    x = moderate(generator, format, (12,))
    x[1] = f32(2.0**-30)
    return A, moderate(generator, format, (6, 4)), x


def moves(x, A):
    """What only moves, compares or orders, between operations that round."""
    y = x * 3
    place = jnp.array([0, 2, 2, 9])
    return {
        "gather": y[place],
        "out of bounds": y.at[jnp.array([1, 99])].get(mode="fill"),
        "slice": y[1:6:2],
        "dynamic slice": lax.dynamic_slice(y, (jnp.argmax(x),), (3,)) + y[jnp.argmin(x)],
        "update slice": lax.dynamic_update_slice(y, x[:2] * 5, (2,)),
        "pad": jnp.pad(y, 2, constant_values=0.1),
        "concatenate": jnp.concatenate([y, A.ravel()]),
        "reverse": y[::-1],
        "transpose": (A / 3).T.reshape(-1),
        "sort": jnp.sort(y),
        "order": y[jnp.argsort(-x)],
        "maximum so far": lax.cummax(y) + jnp.max(A, axis=0)[0] - jnp.min(A),
        "scatter": y.at[place[:2]].set(x[:2] * 7),
        "scatter and add": y.at[place].add(x[:4]),
        "scatter rows and add": A.at[jnp.array([1, 1, 0])].add(A[:3] * x[0]),
        "take along": jnp.take_along_axis(A, jnp.argsort(A, axis=1), axis=1),
        "rows by index": jax.vmap(lambda row, i: row[i])(A, jnp.array([0, 1, 2])),
        "count": jnp.arange(5.0) * x[0] + jnp.linspace(0.0, 1.0, 5),
        "clip": jnp.clip(y, -1.1, 1.3),
        "triangle": jnp.tril(A) + jnp.eye(3) * x[1],
    }


def control(x, y):
    """Loops and branches, nested."""
    carry, partials = lax.scan(lambda c, t: (c * t + 0.3, c / 3), y[0], x)
    backward = lax.scan(lambda c, t: (c + t, c), 0.0, x, reverse=True)
    halved, steps = lax.while_loop(lambda s: s[0] > 0.7, lambda s: (s[0] * 0.63, s[1] + 1), (jnp.abs(y[1]) + 5, 0))
    power = lax.fori_loop(0, 4, lambda i, s: s * x[i] + 1.1, y[2])
    return {
        "scan": (carry, partials),
        "reverse scan": backward,
        "while": (halved, steps),
        "for": power,
        "if": lax.cond(x[0] > 0, lambda v: v * 1.1, lambda v: v / 3, x),
        "switch": lax.switch(steps % 3, [jnp.square, lambda v: v + 0.1, lambda v: v * v * v], y),
        "nested": lax.scan(lambda c, t: (lax.fori_loop(0, 2, lambda i, s: s * t + c, c), c * c), 0.5, x[:3]),
        "tree": lax.associative_scan(jnp.add, x),
        "masked": jax.vmap(lambda a: lax.while_loop(lambda s: s < 4, lambda s: s * 1.7 + 0.1, jnp.abs(a) + 0.1))(y),
        "remat": jax.checkpoint(lambda v: v * v + v)(x),
    }


def draw_vectors(generator, format):
    return moderate(generator, format, (6,)), moderate(generator, format, (6,))


def attention(p, x):
    """One head of attention with its layer norm and a gelu layer, from jax.nn and einsum."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    normal = (x - mean) * lax.rsqrt(jnp.var(x, axis=-1, keepdims=True) + 1e-5)
    q, k, v = (jnp.einsum("td,de->te", normal, p[name]) for name in "qkv")
    scores = jnp.einsum("te,se->ts", q, k) / jnp.sqrt(x.shape[-1])
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape, bool)), scores, -jnp.inf)
    x = x + jnp.einsum("ts,se->te", jax.nn.softmax(scores), v)
    return x + jax.nn.gelu(x @ p["up"]) @ p["down"], jax.scipy.special.logsumexp(x, axis=-1)


def draw_attention(generator, format):
    p = {name: moderate(generator, format, (4, 4)) / 2 for name in ("q", "k", "v", "up", "down")}
    return p, moderate(generator, format, (3, 4))


def loss(w, x):
    """Logistic loss of a small network, from optax."""
    hidden = jax.nn.silu(x @ w["first"])
    return jnp.mean(optax.sigmoid_binary_cross_entropy(hidden @ w["second"], jnp.array([0.0, 1.0, 1.0])))


def adam(w, x):
    """A step of Adam on the gradient of that loss."""
    optimizer = optax.adam(1e-2)
    updates, state = optimizer.update(jax.grad(loss)(w, x), optimizer.init(w), w)
    return optax.apply_updates(w, updates), state


def draw_network(generator, format):
    w = {"first": moderate(generator, format, (4, 3)), "second": moderate(generator, format, (3,))}
    return w, moderate(generator, format, (3, 4))


def newton_schulz(A):
    """Orthogonalize by Newton-Schulz, as Muon does."""
    X = A / jnp.linalg.norm(A)
    return lax.fori_loop(0, 3, lambda _, X: 1.5 * X - 0.5 * X @ X.T @ X, X)


def draw_matrix(generator, format):
    return (moderate(generator, format, (3, 3)),)


PROGRAMS = [
    Program("elementwise", elementwise, pairs),
    Program("library", library, pairs),
    Program("sums", sums, draw_sums),
    Program("moves", moves, lambda g, format: (moderate(g, format, (10,)), moderate(g, format, (3, 3)))),
    Program("control", control, draw_vectors),
    Program("attention", attention, draw_attention),
    Program("adam", adam, draw_network),
    Program("newton_schulz", newton_schulz, draw_matrix),
]
BY_NAME = {program.name: program for program in PROGRAMS}
