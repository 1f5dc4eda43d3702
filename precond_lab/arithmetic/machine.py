"""An arithmetic bound to its carrier: values enter, are settled on the format after every operation, and leave."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic import events, formats
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.primitives import KINDS, Kind
from precond_lab.arithmetic.rounding import narrow, round_bits, widen
from precond_lab.arithmetic.specification import Arithmetic

GENERATOR = "threefry2x32"  # whatever JAX's default may be: a run is a function of its inputs and its seed


class State(NamedTuple):
    """What is threaded through an emulated program, in program order.

    Attributes:
        draws: number of operations rounded so far, which numbers the random bits; None unless rounding is stochastic.
        events: counts so far; None unless they are asked for.
    """

    draws: Any
    events: Any


@dataclass(frozen=True)
class Machine:
    """One arithmetic at work. Its values are arrays of the carrier that hold numbers of the format.

    Attributes:
        arithmetic: what is emulated.
        counting: whether events are counted.
    """

    arithmetic: Arithmetic
    counting: bool = False

    @property
    def carrier(self) -> Any:
        """The dtype of this machine's floating-point values."""
        return jnp.dtype(self.arithmetic.carrier_dtype)

    def start(self) -> State:
        """The state before the first operation."""
        stochastic = self.arithmetic.rounding == "stochastic"
        return State(jnp.zeros((), jnp.uint32) if stochastic else None, events.none_yet() if self.counting else None)

    def settle(
        self,
        raw: jax.Array,
        state: State,
        name: str,
        operands: tuple[jax.Array, ...] = (),
        format: Format | None = None,
    ) -> tuple[jax.Array, State]:
        """Round the raw results of one operation, once.

        Args:
            raw: results in the carrier, or in float64 when they were computed there.
            state: the state before.
            name: the operation.
            operands: its floating-point operands, for the events.
            format: the format to round to; the arithmetic's own by default.

        Returns:
            The results, in the carrier, and the state after.
        """
        format = format or self.arithmetic.result
        bits, draws = None, state.draws
        if draws is not None:
            key = jax.random.wrap_key_data(jnp.asarray(_key_words(self.arithmetic.seed)), impl=GENERATOR)
            bits = _random_bits(jax.random.fold_in(key, draws), raw)
            draws = draws + jnp.uint32(1)
        finite = raw
        may_overflow = self.arithmetic.carrier != "auto" or KINDS.get(name) is Kind.LIBRARY
        if self.arithmetic.rounding == "toward_zero" and may_overflow:  # then the format overflows too
            largest = jnp.copysign(jnp.finfo(raw.dtype).max, raw)
            finite = jnp.where(events.overflowed(raw, name, operands), largest, raw)
        rounded = round_bits(finite, format, self.arithmetic.rounding, bits)
        counted = state.events
        if counted is not None:
            new = events.count(raw, rounded, name, operands, format, self.arithmetic.rounding)
            counted = jax.tree.map(jnp.add, counted, new)
        return self.carry(rounded), State(draws, counted)

    def carry(self, x: jax.Array) -> jax.Array:
        """A float32 or float64 array in the carrier, bit by bit, subnormals included."""
        if x.dtype == self.carrier:
            return x
        return widen(x) if self.carrier == jnp.float64 else narrow(x)

    def enter(self, x: Any, state: State, name: str = "input") -> tuple[jax.Array, State]:
        """Round an array of any real dtype into the machine, once and straight from its own dtype."""
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            x = self._from_integer(x)
        elif x.dtype not in {jnp.dtype(jnp.float32), jnp.dtype(jnp.float64)}:
            x = x.astype(jnp.float32)
        if x.dtype == jnp.float32 and self.carrier == jnp.float64:
            x = widen(x)
        return self.settle(x, state, name, (x,))

    def _from_integer(self, x: jax.Array) -> jax.Array:
        """An integer or boolean in float64; one of 64 bits is rounded to odd, so that it is still rounded only once."""
        if x.dtype.itemsize < 8 or self.arithmetic.result == formats.float64:
            return x.astype(jnp.float64)
        high = (x >> 32).astype(jnp.float64) * lax.optimization_barrier(jnp.float64(2**32))
        return sum_to_odd(high, (x & 0xFFFFFFFF).astype(jnp.float64))

    def constant(self, x: Any, dtype: Any, state: State) -> tuple[jax.Array, State]:
        """A constant of the program, rounded, and hidden from the compiler.

        XLA divides by constants by multiplying with their reciprocals and regroups sums and products with constants. A
        barrier keeps the constant's value from it. Under stochastic rounding a constant is rounded to nearest.
        """
        x = jnp.asarray(x, dtype)
        if not is_float(dtype):
            return lax.optimization_barrier(x) if jnp.issubdtype(dtype, jnp.number) else x, state
        nearest = Machine(
            self.arithmetic
            if self.arithmetic.rounding != "stochastic"
            else Arithmetic(self.arithmetic.format, carrier=self.arithmetic.carrier_dtype),  # pyright: ignore
            self.counting,
        )
        value, new = nearest.enter(x, State(None, state.events), "constant")
        return lax.optimization_barrier(value), State(state.draws, new.events)

    def leave(self, x: jax.Array, dtype: Any) -> jax.Array:
        """A value of the machine as an array of a native dtype; exact wherever the dtype can hold the format."""
        if x.dtype == dtype or not is_float(dtype):
            return x.astype(dtype)
        if jnp.dtype(dtype) == jnp.float64:
            return widen(x)
        if x.dtype == jnp.float64:
            # round first to the dtype itself: going through float32 would round twice
            x = narrow(round_bits(x, formats.named(jnp.dtype(dtype).name), "nearest_even"))
        return x.astype(dtype)

    def add(self, a: jax.Array, b: jax.Array, state: State, format: Format | None = None) -> tuple[jax.Array, State]:
        """The sum, rounded once."""
        raw = a + b if self.arithmetic.rounding == "nearest_even" else sum_to_odd(a, b)
        return self.settle(raw, state, "add", (a, b), format)

    def multiply(
        self, a: jax.Array, b: jax.Array, state: State, format: Format | None = None
    ) -> tuple[jax.Array, State]:
        """The product, rounded once. Exact in the carrier before that, as it has twice the bits."""
        return self.settle(a * b, state, "mul", (a, b), format)

    def divide(self, a: jax.Array, b: jax.Array, state: State) -> tuple[jax.Array, State]:
        """The quotient, rounded once.

        XLA multiplies by the reciprocal of a divisor that is a constant, even behind a barrier, or a scalar: 49 / 49 is
        then less than one. Where the dividend is NaN so is the quotient: a divisor that depends on that is neither.
        """
        return self.settle(a / jnp.where(jnp.isnan(a), a, b), state, "div", (a, b))


@functools.cache
def _key_words(seed: int) -> np.ndarray:
    """The key of a seed, computed beforehand: a program may be lowered after x64 mode has ended."""
    low, high = (np.uint32(word & 0xFFFFFFFF) for word in (seed, seed >> 32))
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(low, impl=GENERATOR), high)))


def _random_bits(key: jax.Array, like: jax.Array) -> jax.Array:
    """One random word for every element, as wide as the element.

    Two halves are joined here rather than drawn as 64 bits: a program may be lowered after x64 mode has ended, and JAX
    would then draw 32.
    """
    if like.dtype == jnp.float32:
        return jax.random.bits(key, like.shape, jnp.uint32)
    high, low = jax.random.bits(key, (2, *like.shape), jnp.uint32).astype(jnp.uint64)
    return high << jnp.uint64(32) | low


def is_float(dtype: Any) -> bool:
    """Whether a dtype, NumPy's or JAX's own, is of real floating-point numbers."""
    return jnp.issubdtype(dtype, jnp.floating)


@jax.custom_jvp
def sum_to_odd(a: jax.Array, b: jax.Array) -> jax.Array:
    """The sum in the carrier, rounded to odd: rounding it again, in any mode, is rounding the exact sum once.

    Rounding the carrier's nearest sum in a directed or stochastic mode would round twice. Instead the residual of the
    sum (Knuth's TwoSum) tells on which side the exact sum lies, and an inexact result takes the neighbor whose last bit
    is odd (Boldo & Melquiond 2008, which needs two more bits in the carrier than in the format).

    Args:
        a: carrier array.
        b: carrier array of a shape that broadcasts with `a`.

    Returns:
        `a + b` rounded to odd.
    """
    a, b = jnp.broadcast_arrays(a, b)
    s = a + b
    b_part = s - a
    residual = (a - (s - b_part)) + (b - b_part)
    unsigned = jnp.uint32 if s.dtype == jnp.float32 else jnp.uint64
    bits = lax.bitcast_convert_type(s, unsigned)
    toward_zero = (residual < 0) != (s < 0)
    odd = jnp.where(toward_zero, bits - unsigned(1), bits)
    odd = jnp.where(bits & 1 == 0, odd | unsigned(1), bits)
    inexact = (residual != 0) & jnp.isfinite(s) & jnp.isfinite(residual)
    return lax.bitcast_convert_type(jnp.where(inexact, odd, bits), s.dtype)


@sum_to_odd.defjvp
def _sum_to_odd_jvp(primals: tuple, tangents: tuple) -> tuple:
    return sum_to_odd(*primals), tangents[0] + tangents[1]
