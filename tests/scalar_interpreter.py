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
from functools import partial, reduce

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
from array_moves import as_list, leading, moved, spread
from exact_operations import (
    ROUNDED,
    add,
    div,
    exact_dot,
    exact_sum,
    fma,
    identity,
    mul,
    power_of_two,
    sub,
)
from scalar_rounding import beyond, largest, round_magnitude, unrounded

from precond_lab.arithmetic.expansions import EXPANSIONS

EVENTS = ("overflow", "underflow", "invalid", "divide_by_zero")


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
        rounding: any mode but "stochastic".
        accumulate: the record of the format of partial sums; None: that of results.
        order: of sums, as in `Arithmetic`.
        fused: whether matrix products add products unrounded.
    """

    def __init__(self, format, rounding="nearest_even", accumulate=None, order="sequential", fused=False):
        self.format, self.rounding, self.accumulate = format, rounding, accumulate or format
        self.order, self.fused, self.down = order, fused, rounding == "down"
        self.add, self.sub, self.fma = (partial(exact, down=self.down) for exact in (add, sub, fma))
        self.rounded = ROUNDED | {"add": self.add, "add_any": self.add, "sub": self.sub}
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
        if isinstance(exact, float):
            result = unrounded(exact, format)
            pole = math.isinf(exact) and all(map(math.isfinite, operands))
            self.counts["divide_by_zero"] += pole
            self.counts["invalid"] += math.isnan(result) and not pole and not any(map(math.isnan, operands))
            return result
        minus = exact < 0
        if minus and not format.signed:
            self.counts["invalid"] += 1
            return math.nan
        size = round_magnitude(abs(exact), format, self.rounding, minus)
        if not format.zero:
            size = max(size, power_of_two(format.min_exponent))
        if not format.subnormals and size < power_of_two(format.min_exponent):
            size = Fraction(0)
        self.counts["underflow"] += size == 0
        if size > largest(format):
            self.counts["overflow"] += 1
            inward = {"toward_zero": True, "odd": True, "up": minus, "down": not minus}.get(self.rounding, False)
            if not inward:
                return math.copysign(beyond(format), -1 if minus else 1)
            size = largest(format)
        result = float(size)
        assert Fraction(result) == size
        return -result if minus and (result or format.signed_zero) else result

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
        if name in {"scan", "while", "cond", "custom_linear_solve"}:
            return getattr(self, f"do_{name}")(params, x)
        if name in {"jit", "pjit", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint"}:
            called = next(params[k] for k in CALLED if k in params)
            if not hasattr(called, "consts"):
                called = jex.core.ClosedJaxpr(called, ())
            return self.call(called, x)
        if name in EXPANSIONS:  # the loop that stands for it is a program like any other
            shapes = [v.aval for v in equation.invars]
            return self.call(jax.make_jaxpr(partial(EXPANSIONS[name], **params))(*shapes), x)
        floats = [np.asarray(v).dtype == np.float64 for v in x if not hasattr(v, "_impl")]
        if not any(floats) and not any(jnp.issubdtype(a.dtype, jnp.floating) for a in out):
            return as_list(equation, equation.primitive.bind(*x, **params))
        if name in self.rounded:
            return [self.each(self.rounded[name], *x)]
        if name in COMPARED:
            return [np.asarray(COMPARED[name](*x))]
        if name in REDUCED:
            return [REDUCED[name](x[0], axis=tuple(params["axes"]))]
        if name in MOVED:
            return moved(equation, x)
        return getattr(self, f"do_{name.replace('-', '_')}")(params, x, out[0])

    # Sums and products, in the order of the arithmetic.

    def fold(self, terms, start, step, join):
        """One total of a list of terms: `start` makes one of a term, `step` adds a term, `join` another total."""

        def sequence(terms):
            return reduce(step, terms[1:], start(terms[0]))

        if self.order == "reversed":
            return sequence(terms[::-1])
        if self.order == "pairwise":
            totals = [sequence(terms[i : i + 2]) for i in range(0, len(terms), 2)]
            while len(totals) > 1:
                totals = [reduce(join, totals[i : i + 2]) for i in range(0, len(totals), 2)]
            return totals[0]
        if self.order.startswith("blocked"):
            size = int(self.order[len("blocked(") : -1])
            return reduce(join, [sequence(terms[i : i + size]) for i in range(0, len(terms), size)])
        return sequence(terms)

    def sum(self, terms):
        """Of the slices of an array, which are numbers of the format of results."""
        if not len(terms):
            return np.zeros(terms.shape[1:])
        if self.order == "exact":
            return self.each(partial(exact_sum, down=self.down), *terms)
        if self.accumulate != self.format:
            terms = self.each(identity, terms, format=self.accumulate)
        join = partial(self.each, self.add, format=self.accumulate)
        return self.finish(self.fold(list(terms), lambda term: term, join, join))

    def finish(self, total):
        return self.each(identity, total) if self.accumulate != self.format else total

    def do_reduce_sum(self, params, x, out):
        return [self.sum(leading(x[0], sorted(params["axes"])))]

    def do_reduce_prod(self, params, x, out):
        terms, join = leading(x[0], sorted(params["axes"])), partial(self.each, mul)
        return [self.fold(list(terms), lambda term: term, join, join) if len(terms) else np.ones(terms.shape[1:])]

    def do_cumsum(self, params, x, out):
        if self.order != "sequential":
            return self.prefixes(params, x[0], self.sum)
        terms = self.along(params, x[0])
        if self.accumulate != self.format:
            terms = self.each(identity, terms, format=self.accumulate)
        totals = itertools.accumulate(terms, partial(self.each, self.add, format=self.accumulate))
        return [self.back(params, self.finish(np.array(list(totals))))]

    def do_cumprod(self, params, x, out):
        join = partial(self.each, mul)
        if self.order in {"sequential", "exact"}:
            return [self.back(params, np.array(list(itertools.accumulate(self.along(params, x[0]), join))))]
        return self.prefixes(params, x[0], lambda terms: self.fold(list(terms), lambda term: term, join, join))

    def prefixes(self, params, x, total):
        terms = self.along(params, x)
        return [self.back(params, np.array([total(terms[: i + 1]) for i in range(len(terms))]))]

    def along(self, params, x):
        return np.moveaxis(x, params["axis"], 0)[:: -1 if params["reverse"] else 1]

    def back(self, params, x):
        return np.moveaxis(x[:: -1 if params["reverse"] else 1], 0, params["axis"])

    def do_dot_general(self, params, x, out):
        (a_sum, b_sum), (a_batch, b_batch) = params["dimension_numbers"]
        a = leading(x[0], a_sum, a_batch)
        b = leading(x[1], b_sum, b_batch)
        batch, a_free = len(a_batch), a.ndim - 1 - len(a_batch)
        a = a.reshape(*a.shape, *[1] * (b.ndim - 1 - batch))
        b = b.reshape(*b.shape[: 1 + batch], *[1] * a_free, *b.shape[1 + batch :])
        return [self.dot(a, b).reshape(out.shape)]

    def dot(self, a, b):
        """Sums of the products of slices; each is rounded first, or added unrounded where that is one operation."""
        pairs = list(zip(a, b, strict=True))
        if not pairs:
            return np.zeros(np.broadcast_shapes(a.shape, b.shape)[1:])
        if self.order == "exact":
            return self.each(partial(exact_dot, down=self.down), *a, *b)
        to_accumulator = partial(self.each, format=self.accumulate)

        def start(pair):
            return to_accumulator(mul, *pair)

        def step(total, pair):
            if self.fused:
                return to_accumulator(self.fma, *pair, total)
            return to_accumulator(self.add, total, start(pair))

        return self.finish(self.fold(pairs, start, step, partial(to_accumulator, self.add)))

    def do_conv_general_dilated(self, params, x, out):
        """One product for every place of the window, in row-major order, and for every input feature at it."""
        numbers, groups = params["dimension_numbers"], params["feature_group_count"]
        image, kernel = np.transpose(x[0], numbers.lhs_spec), np.transpose(x[1], numbers.rhs_spec)
        outputs, features, *window = kernel.shape
        image = spread(image, params["lhs_dilation"], params["padding"])
        batch = image.shape[0] // params["batch_group_count"]
        shape = np.transpose(np.empty(out.shape), numbers.out_spec).shape
        left, right = [], []
        for place in np.ndindex(*window):
            strided = [
                slice(i * d, i * d + n * s, s)
                for i, d, n, s in zip(place, params["rhs_dilation"], shape[2:], params["window_strides"], strict=True)
            ]
            for feature in range(features):
                number = np.arange(outputs)
                read = image[:, number // (outputs // groups) * features + feature, *strided]
                member = number // (outputs // params["batch_group_count"])
                left.append(np.stack([read[m * batch : (m + 1) * batch, o] for o, m in enumerate(member)], axis=1))
                right.append(kernel[:, feature, *place].reshape(1, outputs, *[1] * len(window)))
        total = self.dot(np.array(left), np.array(right))
        return [np.transpose(total, np.argsort(numbers.out_spec))]

    def do_integer_pow(self, params, x, out):
        base, n, power = x[0], abs(params["y"]), None
        while n:
            if n % 2:
                power = base if power is None else self.each(mul, power, base)
            n //= 2
            base = self.each(mul, base, base) if n else base
        power = np.ones(out.shape) if power is None else power
        return [self.each(div, np.float64(1.0), power) if params["y"] < 0 else power]

    def do_one_minus_square(self, params, x, out):
        one = np.float64(1.0)
        return [self.each(mul, self.each(add, one, x[0]), self.each(add, one, -np.asarray(x[0])))]

    def do_scatter_add(self, params, x, out, combine=None):
        """Every update is sent on its own, as a one among integer zeros, to find out where it goes."""
        result, indices, updates = x
        terms = {place: [number] for place, number in np.ndenumerate(result)}
        for i in np.ndindex(updates.shape):
            lone = np.zeros(updates.shape, np.int32)
            lone[i] = 1
            target = jax.lax.scatter_add(
                jnp.zeros(result.shape, jnp.int32), indices, lone, params["dimension_numbers"], mode=params["mode"]
            )
            for place in np.argwhere(np.asarray(target) == 1):
                terms[tuple(place)].append(updates[i])
        result, join = result.copy(), partial(self.each, combine or self.add)
        for place, numbers in terms.items():
            if len(numbers) > 1 and self.order == "exact" and combine is None:
                result[place] = self.each(partial(exact_sum, down=self.down), *numbers)
            elif len(numbers) > 1:
                result[place] = self.fold(numbers, lambda term: term, join, join)
        return [result]

    def do_scatter_sub(self, params, x, out):
        return self.do_scatter_add(params, [*x[:2], -x[2]], out)

    def do_scatter_mul(self, params, x, out):
        return self.do_scatter_add(params, x, out, mul)

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

    def do_custom_linear_solve(self, params, x):
        lengths = params["const_lengths"]
        first = lengths.matvec + lengths.vecmat
        return self.call(params["jaxprs"].solve, [*x[first : first + lengths.solve], *x[sum(lengths) :]])

    def do_cond(self, params, x):
        index = min(max(int(x[0]), 0), len(params["branches"]) - 1)
        return self.call(params["branches"][index], x[1:])
