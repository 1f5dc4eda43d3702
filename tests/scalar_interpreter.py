"""An emulated arithmetic from its definition, one exact rational operation at a time: the oracle of `emulate`.

It walks the jaxpr with a loop of its own and shares no code with what it judges. Values are held in NumPy arrays of
float64, which hold every number of every format exactly; nothing is computed in float64, only compared and moved.
Each rounded operation takes its operands as fractions, is evaluated exactly (a library function to 50 digits), and
is rounded once from the definition of the format.
"""

import itertools
import math
from collections import Counter
from fractions import Fraction

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
from exact_operations import ROUNDED, add, binade, div, identity, mul, power_of_two

EVENTS = ("overflow", "underflow", "invalid", "divide_by_zero")


def round_magnitude(m, format, rounding):
    """The nearest or next smaller multiple of the spacing at m > 0, as if the exponent had no upper end."""
    quantum = power_of_two(max(binade(m), format.min_exponent) - format.precision + 1)
    k, rest = divmod(m / quantum, 1)
    up = rounding == "nearest_even" and (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and k % 2 == 1))
    return (k + up) * quantum


def largest(format):
    significand = 2**format.precision - 1 - format.missing_top
    return significand * power_of_two(format.max_exponent - format.precision + 1)


COMPARED = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "is_finite": np.isfinite,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "abs": np.abs,
    "sign": lambda x: np.where(x == 0, x, np.sign(x)),
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "copy": np.array,
    "copy_p": np.array,
    "stop_gradient": np.array,
    "name": np.array,
}
REDUCED = {"reduce_max": np.max, "reduce_min": np.min}
SCANNED = {"cummax": np.maximum.accumulate, "cummin": np.minimum.accumulate}
MOVED = frozenset({
    *("broadcast_in_dim", "concatenate", "dynamic_slice", "dynamic_update_slice", "gather", "pad", "reshape", "rev"),
    *("scatter", "select_n", "slice", "split", "squeeze", "transpose", "tile"),
})
CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr")


class ScalarInterpreter:
    """Runs programs in one arithmetic, and counts its events.

    Args:
        format: the record of the format of results.
        rounding: "nearest_even" or "toward_zero".
        accumulate: the record of the format of partial sums; None: that of results.
    """

    def __init__(self, format, rounding="nearest_even", accumulate=None):
        self.format, self.rounding, self.accumulate = format, rounding, accumulate or format
        self.counts = Counter()

    def __call__(self, f, *args):
        """Run `f`; returns its results as a pytree of NumPy arrays, and the counts of events by name."""
        self.counts = Counter(dict.fromkeys(EVENTS, 0))
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
        leaves = [self.enter(leaf) for leaf in jax.tree.leaves(args)]
        results = self.walk(closed.jaxpr, self.lift_all(closed), leaves)
        return jax.tree.unflatten(jax.tree.structure(shapes), results), dict(self.counts)

    def settle(self, exact, operands, format=None):
        """Round an exact result, once, and count what happened."""
        format = format or self.format
        beyond = {"infinity": math.inf, "nan": math.nan, "saturate": float(largest(format))}[format.overflow]
        if isinstance(exact, float):
            result = math.copysign(beyond, exact) if math.isinf(exact) else exact
            pole = math.isinf(exact) and all(map(math.isfinite, operands))
            self.counts["divide_by_zero"] += pole
            self.counts["invalid"] += math.isnan(result) and not pole and not any(map(math.isnan, operands))
            return result
        sign, size = (1 if exact > 0 else -1), round_magnitude(abs(exact), format, self.rounding)
        if not format.subnormals and size < power_of_two(format.min_exponent):
            size = Fraction(0)
        self.counts["underflow"] += size == 0
        if size > largest(format):
            self.counts["overflow"] += 1
            if self.rounding == "toward_zero":
                size = largest(format)
            else:
                return sign * beyond
        result = float(size)
        assert Fraction(result) == size
        return sign * result

    def each(self, exact, *operands, format=None):
        """One operation on all elements, each rounded."""
        operands = np.broadcast_arrays(*operands)
        result = np.empty(operands[0].shape)
        for i in np.ndindex(result.shape):
            elements = [float(x[i]) for x in operands]
            result[i] = self.settle(exact(*elements), elements, format)
        return result

    def enter(self, x):
        if not hasattr(x, "dtype"):
            x = np.asarray(jnp.asarray(x))
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return x
        x = np.asarray(x)
        return self.each(identity, x.astype(np.float64)) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def lift_all(self, closed):
        return [self.enter(x) for x in closed.consts]

    def walk(self, jaxpr, constants, operands):
        environment = dict(
            itertools.chain(zip(jaxpr.constvars, constants, strict=True), zip(jaxpr.invars, operands, strict=True))
        )

        def read(atom):
            if isinstance(atom, jex.core.Literal):
                return self.enter(np.asarray(atom.val, atom.aval.dtype))
            return environment[atom]

        for equation in jaxpr.eqns:
            results = self.step(equation, [read(atom) for atom in equation.invars])
            environment.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def call(self, closed, operands):
        return self.walk(closed.jaxpr, self.lift_all(closed), operands)

    def step(self, equation, x):
        name, params = equation.primitive.name, equation.params
        out = [v.aval for v in equation.outvars]
        if name in {"scan", "while", "cond"}:
            return getattr(self, f"do_{name}")(params, x)
        if name in {"jit", "pjit", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint"}:
            called = next(params[k] for k in CALLED if k in params)
            if not hasattr(called, "consts"):
                called = jex.core.ClosedJaxpr(called, ())
            return self.call(called, x)
        floats = [np.asarray(v).dtype == np.float64 for v in x if not hasattr(v, "_impl")]
        if not any(floats) and not any(jnp.issubdtype(a.dtype, jnp.floating) for a in out):
            return as_list(equation, equation.primitive.bind(*x, **params))
        if name in ROUNDED:
            return [self.each(ROUNDED[name], *x)]
        if name in COMPARED:
            return [np.asarray(COMPARED[name](*x))]
        if name in REDUCED:
            return [REDUCED[name](x[0], axis=tuple(params["axes"]))]
        if name in MOVED:
            return moved(equation, x)
        return getattr(self, f"do_{name.replace('-', '_')}")(params, x, out[0])

    # Sums and products: one term after the other.

    def fold(self, exact, terms, empty, format):
        if not len(terms):
            return np.full(terms.shape[1:], empty)
        total = terms[0]
        for term in terms[1:]:
            total = self.each(exact, total, term, format=format)
        return total

    def finish(self, total):
        return self.each(identity, total) if self.accumulate != self.format else total

    def do_reduce_sum(self, params, x, out):
        terms = leading(x[0], sorted(params["axes"]))
        if self.accumulate != self.format:
            terms = self.each(identity, terms, format=self.accumulate)
        return [self.finish(self.fold(add, terms, 0.0, self.accumulate))]

    def do_reduce_prod(self, params, x, out):
        return [self.fold(mul, leading(x[0], sorted(params["axes"])), 1.0, self.format)]

    def do_cumsum(self, params, x, out):
        return self.cumulate(params, x[0], add, self.accumulate, self.finish)

    def do_cumprod(self, params, x, out):
        return self.cumulate(params, x[0], mul, self.format, lambda total: total)

    def cumulate(self, params, x, exact, format, finish):
        order = -1 if params["reverse"] else 1
        terms = self.each(identity, np.moveaxis(x, params["axis"], 0)[::order], format=format)
        totals = itertools.accumulate(terms, lambda a, b: self.each(exact, a, b, format=format))
        return [np.moveaxis(finish(np.array(list(totals)))[::order], 0, params["axis"])]

    def do_dot_general(self, params, x, out):
        (a_sum, b_sum), (a_batch, b_batch) = params["dimension_numbers"]
        a = leading(x[0], a_sum, a_batch)
        b = leading(x[1], b_sum, b_batch)
        batch, a_free = len(a_batch), a.ndim - 1 - len(a_batch)
        a = a.reshape(*a.shape, *[1] * (b.ndim - 1 - batch))
        b = b.reshape(*b.shape[: 1 + batch], *[1] * a_free, *b.shape[1 + batch :])
        terms = self.each(mul, a, b, format=self.accumulate)
        return [self.finish(self.fold(add, terms, 0.0, self.accumulate)).reshape(out.shape)]

    def do_integer_pow(self, params, x, out):
        base, n, power = x[0], abs(params["y"]), None
        while n:
            if n % 2:
                power = base if power is None else self.each(mul, power, base)
            n //= 2
            base = self.each(mul, base, base) if n else base
        power = np.ones(out.shape) if power is None else power
        return [self.each(div, np.float64(1.0), power) if params["y"] < 0 else power]

    def do_scatter_add(self, params, x, out):
        """Every update is sent on its own, as a one among integer zeros, to find out where it goes."""
        result, indices, updates = x[0].copy(), x[1], x[2]
        for i in np.ndindex(updates.shape):
            lone = np.zeros(updates.shape, np.int32)
            lone[i] = 1
            target = jax.lax.scatter_add(
                jnp.zeros(result.shape, jnp.int32), indices, lone, params["dimension_numbers"], mode=params["mode"]
            )
            place = np.asarray(target) == 1
            result[place] = self.each(add, result[place], updates[i])
        return [result]

    # Casts, order, control flow.

    def do_convert_element_type(self, params, x, out):
        if not jnp.issubdtype(out.dtype, jnp.floating):
            return [np.nan_to_num(x[0], nan=0).astype(out.dtype)]
        if x[0].dtype != np.float64:
            return [self.each(identity, x[0].astype(np.float64))]
        info = jnp.finfo(out.dtype)
        target = type(self.format)("cast", info.nmant + 1, info.minexp, info.maxexp - 1)
        return [self.each(identity, self.each(identity, x[0], format=target))]

    def do_iota(self, params, x, out):
        shape = [1] * len(params["shape"])
        shape[params["dimension"]] = -1
        numbers = np.arange(params["shape"][params["dimension"]], dtype=np.float64).reshape(shape)
        return [self.each(identity, np.broadcast_to(numbers, params["shape"]))]

    def do_argmax(self, params, x, out):
        return [np.argmax(x[0], axis=params["axes"][0]).astype(out.dtype)]

    def do_argmin(self, params, x, out):
        return [np.argmin(x[0], axis=params["axes"][0]).astype(out.dtype)]

    def do_cummax(self, params, x, out):
        order = slice(None, None, -1 if params["reverse"] else 1)
        along = np.moveaxis(x[0], params["axis"], 0)[order]
        return [np.moveaxis(np.maximum.accumulate(along)[order], 0, params["axis"])]

    def do_sort(self, params, x, out):
        order = np.argsort(x[0], axis=params["dimension"], kind="stable")
        return [np.take_along_axis(v, order, axis=params["dimension"]) for v in x]

    def do_scan(self, params, x):
        if "num_carry" in params:
            consts, carry = params["num_consts"], params["num_carry"]
        else:
            consts, carry, _ = (len(group.vals) for group in params["ft_in"].unpack())
        fixed, values, xs = x[:consts], x[consts : consts + carry], x[consts + carry :]
        steps = range(params["length"])
        collected = []
        for i in reversed(steps) if params["reverse"] else steps:
            results = self.call(params["jaxpr"], [*fixed, *values, *(row[i] for row in xs)])
            values = results[:carry]
            collected.append(results[carry:])
        rows = zip(*(reversed(collected) if params["reverse"] else collected), strict=True)
        return [*values, *(np.array(row) for row in rows)]

    def do_while(self, params, x):
        m, n = params["cond_nconsts"], params["body_nconsts"]
        values = x[m + n :]
        while True:  # under vmap there is a test for every lane
            (proceed,) = map(np.asarray, self.call(params["cond_jaxpr"], [*x[:m], *values]))
            if not proceed.any():
                return values
            new = self.call(params["body_jaxpr"], [*x[m : m + n], *values])
            lanes = [np.reshape(proceed, (*proceed.shape, *[1] * (np.ndim(v) - proceed.ndim))) for v in values]
            values = [np.where(lane, a, b) for lane, a, b in zip(lanes, new, values, strict=True)]

    def do_cond(self, params, x):
        index = min(max(int(x[0]), 0), len(params["branches"]) - 1)
        return self.call(params["branches"][index], x[1:])


def as_list(equation, results):
    results = results if equation.primitive.multiple_results else [results]
    return [r if jax.dtypes.issubdtype(r.dtype, jax.dtypes.prng_key) else np.asarray(r) for r in results]


def leading(x, summed, batch=()):
    """The summed axes first and flattened, then the batch axes, then the rest."""
    rest = [i for i in range(x.ndim) if i not in {*summed, *batch}]
    x = np.transpose(x, (*summed, *batch, *rest))
    return x.reshape(-1 if x.size else math.prod(x.shape[: len(summed)]), *x.shape[len(summed) :])


def moved(equation, x):
    """Let JAX move the positions of the numbers, then look up which numbers came to lie where."""
    is_float = [np.asarray(v).dtype == np.float64 for v in x]
    floats = [np.asarray(v) for v, real in zip(x, is_float, strict=True) if real]
    numbers = np.concatenate([*map(np.ravel, floats), [np.nan]])
    starts = iter(np.cumsum([0, *(v.size for v in floats)]))
    positions = [
        jnp.asarray(next(starts) + np.arange(v.size).reshape(v.shape), jnp.int32) if real else v
        for v, real in zip(x, is_float, strict=True)
    ]
    params = dict(equation.params)
    if "fill_value" in params:
        params["fill_value"] = numbers.size - 1
    if equation.primitive.name == "scatter":
        params["update_jaxpr"], params["update_consts"] = None, ()
    return [numbers[i] for i in as_list(equation, equation.primitive.bind(*positions, **params))]
