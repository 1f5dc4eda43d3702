"""An arithmetic bound to its carrier: values enter, are settled on the format after every operation, and leave."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic import draws as random
from precond_lab.arithmetic import events, formats, meshes
from precond_lab.arithmetic.carriers import narrow, widen
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.primitives import KINDS, Kind
from precond_lab.arithmetic.rounding import round_bits
from precond_lab.arithmetic.specification import NEAREST, Arithmetic, within, without_randomness

DIRECTED = frozenset({"toward_zero", "up", "down", "odd"})
"""The modes in which the exact result must not be passed by: an infinity of the carrier may stand for a number."""


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
        wide: the carrier's dtype, where it must be another than the arithmetic's own because several are at work.
        together: the names of mesh axes along which devices do the same work, and so draw the same bits.
        line: where the events of the operation at hand are counted; None: all in one place.
    """

    arithmetic: Arithmetic
    counting: bool = False
    wide: str | None = None
    together: frozenset = frozenset()
    line: Any = None

    @property
    def carrier(self) -> Any:
        """The dtype of this machine's floating-point values."""
        return jnp.dtype(self.wide or self.arithmetic.carrier_dtype)

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
        format, mode = format or self.arithmetic.result, self.arithmetic.rounding
        words, draws = None, state.draws
        if mode == "stochastic":
            seed = meshes.on_this_device(random.seed_words(self.arithmetic.seed), raw, self.together)
            unsigned = jnp.uint32 if raw.dtype == jnp.float32 else jnp.uint64
            words = random.words(seed, draws, raw.shape, unsigned)
            draws += jnp.uint32(1)
        finite = raw
        may_overflow = self.arithmetic.carrier != "auto" or KINDS.get(name) is Kind.LIBRARY
        if mode in DIRECTED and may_overflow:  # then the largest finite number stands for what the carrier has lost
            largest = jnp.copysign(jnp.finfo(raw.dtype).max, raw)
            finite = jnp.where(events.overflowed(raw, name, operands), largest, raw)
        rounded = round_bits(finite, format, mode, words, self.arithmetic.random_bits, False)
        counted = state.events
        if counted is not None:
            # A barrier: the compiler would else compute the whole program up to here once more for every counter.
            raw, rounded = lax.optimization_barrier((raw, rounded))
            new = events.count(raw, rounded, name, operands, format, mode)
            counted = self.tally(counted, new)
        return self.carry(rounded), state._replace(draws=draws, events=counted)

    def tally(self, counted: Any, new: events.Events) -> Any:
        """The counts so far and the new ones."""
        return jax.tree.map(jnp.add, counted, new) if self.line is None else self.line.add(counted, new)

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
        x = _with_one_nan(x)  # a NaN from outside may be a signaling one, or full of ones
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
        nearest = replace(self, arithmetic=without_randomness(self.arithmetic), wide=self.carrier.name)
        value, new = nearest.enter(x, state._replace(draws=None), "constant")
        return lax.optimization_barrier(value), new._replace(draws=state.draws)

    def leave(self, x: jax.Array, dtype: Any) -> jax.Array:
        """A value of the machine as an array of a native dtype; exact wherever the dtype can hold the format.

        Where it cannot, the value is rounded to the dtype, in the arithmetic's mode (to nearest if that is stochastic).
        """
        if not is_float(x.dtype):
            return x.astype(dtype)
        x = _with_one_nan(x)
        if x.dtype == dtype or not is_float(dtype):
            return x.astype(dtype)
        if jnp.dtype(dtype) == jnp.float64:
            return widen(x)
        native = formats.named(jnp.dtype(dtype).name)
        if not within(self.arithmetic.result, native):
            x = round_bits(x, native, without_randomness(self.arithmetic).rounding)
        return (narrow(x) if x.dtype == jnp.float64 else x).astype(dtype)

    def add(self, a: jax.Array, b: jax.Array, state: State, format: Format | None = None) -> tuple[jax.Array, State]:
        """The sum, rounded once."""
        return self.settle(self._sum(a, b), state, "add", (a, b), format)

    def _sum(self, a: jax.Array, b: jax.Array, *, exact: bool = False) -> jax.Array:
        """The sum in the carrier, fit to be rounded again. Rounding down, one that is exactly 0 is -0 (IEEE 754)."""
        raw = a + b if self.arithmetic.rounding in NEAREST and not exact else sum_to_odd(a, b)
        if self.arithmetic.rounding != "down":
            return raw
        minus = (raw == 0) & (jnp.signbit(a) | jnp.signbit(b))
        return jnp.where(minus, jnp.asarray(-0.0, raw.dtype), raw)

    def multiply(
        self, a: jax.Array, b: jax.Array, state: State, format: Format | None = None
    ) -> tuple[jax.Array, State]:
        """The product, rounded once. Exact in the carrier before that, as it has twice the bits."""
        return self.settle(a * b, state, "mul", (a, b), format)

    def fma(
        self, a: jax.Array, b: jax.Array, c: jax.Array, state: State, format: Format | None = None
    ) -> tuple[jax.Array, State]:
        """The value of a b + c, rounded once: the product is exact in the carrier, the sum is rounded to odd in it."""
        return self.settle(self._sum(a * b, c, exact=True), state, "fma", (a, b, c), format)

    def divide(self, a: jax.Array, b: jax.Array, state: State) -> tuple[jax.Array, State]:
        """The quotient, rounded once.

        XLA multiplies by the reciprocal of a divisor that is a constant, even behind a barrier, or a scalar: 49 / 49 is
        then less than one. Where the dividend is NaN so is the quotient: a divisor that depends on that is neither.
        """
        return self.settle(a / jnp.where(jnp.isnan(a), a, b), state, "div", (a, b))


def _with_one_nan(x: jax.Array) -> jax.Array:
    """The same numbers, every NaN the canonical one: between operations NaNs are whatever the hardware makes."""
    return jnp.where(jnp.isnan(x), jnp.asarray(jnp.nan, x.dtype), x)


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
