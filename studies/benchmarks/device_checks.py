"""Comparisons of what a device computes with definitions in NumPy, and with the same programs on the CPU."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax
from measure import Device
from rounding_oracle import (
    BLOCK,
    UNSIGNED,
    boundaries,
    operate,
    oracle,
    pairs,
    random_patterns,
    subnormals,
)

from precond_lab import Arithmetic, emulate
from precond_lab.arithmetic import draws
from precond_lab.arithmetic.blocks import MX, NVFP4, Integer
from precond_lab.arithmetic.formats import NAMED, Format
from precond_lab.arithmetic.quantization import round_blocks
from precond_lab.arithmetic.rounding import ROUNDINGS, round_bits
from precond_lab.preconditioners import logdet, rank_one

DETERMINISTIC = [name for name, mode in ROUNDINGS.items() if not mode.random]
RANDOM = [name for name, mode in ROUNDINGS.items() if mode.random]
NARROW = 19
"""The most bits of a format of which every value and midpoint is tried."""
QUANTIZATIONS = (
    MX("float8_e4m3fn", 32),
    MX("float4_e2m1fn", 32),
    NVFP4(),
    Integer(8, scale="row"),
    Integer(8, scale="block", block=64),
)


class Check(NamedTuple):
    """One row of the verdict.

    Attributes:
        name: what was compared.
        compared: how many numbers.
        wrong: how many of them differ in a bit; NaNs are all alike.
        example: one that differs.
    """

    name: str
    compared: int
    wrong: int
    example: str = ""

    def __str__(self) -> str:
        """The row in Markdown."""
        status = "FAIL" if self.wrong else "PASS"
        return f"| {status} | {self.name} | {self.compared} | {self.wrong} | {self.example} |"


def differences(name: str, computed: np.ndarray, expected: np.ndarray, given: np.ndarray | None = None) -> Check:
    """Compare bits. NaNs are alike.

    Args:
        name: what is compared.
        computed: what the device gave.
        expected: what is right.
        given: what both were computed from, for the example.

    Returns:
        The row.
    """
    computed, expected = np.asarray(computed), np.asarray(expected)
    if computed.dtype in UNSIGNED:
        unsigned = UNSIGNED[computed.dtype]
        wrong = computed.view(unsigned) != expected.view(unsigned)
        wrong &= ~(np.isnan(computed) & np.isnan(expected))
    else:
        wrong = computed != expected
    example = ""
    if wrong.any():
        place = np.flatnonzero(wrong)[0]
        source = "" if given is None else f"{given.flat[place]!s}: "
        example = f"{source}{computed.flat[place]!s}, not {expected.flat[place]!s}"
    return Check(name, computed.size, int(wrong.sum()), example)


def on(device: Device, f: Callable, *arguments: Any) -> Any:
    """Run a compiled function on a device, and fetch its results."""
    with jax.enable_x64(True), jax.default_device(device):
        return jax.tree.map(np.asarray, f(*(jax.device_put(x, device) for x in arguments)))


def together(checks: Sequence[Check]) -> Check:
    """One row for the blocks of one comparison."""
    return Check(
        checks[0].name,
        sum(check.compared for check in checks),
        sum(check.wrong for check in checks),
        next((check.example for check in checks if check.example), ""),
    )


# Rounding


def ml_dtype(format: Format) -> Any:
    """The dtype that rounds to nearest as the definition does; that of e8m0 breaks ties in its own way."""
    return getattr(ml_dtypes, format.name, None) if format.precision > 1 else None


def by_ml_dtypes(x: np.ndarray, format: Format, right: np.ndarray) -> np.ndarray | None:
    """What ml_dtypes makes of float32 numbers; where it has no NaN it makes zeros of NaNs, which are passed over."""
    native = ml_dtype(format)
    # ml_dtypes rounds float64 twice, so that it judges float32 alone.
    if native is None or x.dtype != np.float32:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(np.isnan(x), right, x.astype(native).astype(x.dtype))


def check_rounding(device: Device, patterns: int) -> Iterator[Check]:
    """The kernel on the device against the definition, and the definition against ml_dtypes.

    Args:
        device: where.
        patterns: how many random bit patterns are rounded.

    Yields:
        A row for every format, mode and carrier.
    """
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        for format in NAMED.values():
            inputs = [subnormals(patterns // 16, dtype), *random_patterns(patterns, dtype)]
            if format.bits <= NARROW:
                inputs.append(boundaries(format, dtype))
            for rounding in DETERMINISTIC:
                kernel = jax.jit(partial(round_bits, format=format, rounding=rounding))
                name, checks = f"{format} from {dtype}, {rounding}", []
                for x in inputs:
                    right = oracle(x, format, rounding)
                    checks.append(differences(name, on(device, kernel, x), right, x))
                    other = by_ml_dtypes(x, format, right) if rounding == "nearest_even" else None
                    if other is not None:
                        checks.append(differences(name, other, right, x))
                yield together(checks)


def check_random_rounding(device: Device, patterns: int) -> Iterator[Check]:
    """Random words, and rounding with given words: the same on the device as on the CPU.

    Args:
        device: where.
        patterns: how many random bit patterns are rounded.

    Yields:
        A row for the words, and one for every format, random mode and carrier.
    """
    cpu = jax.devices("cpu")[0]
    for dtype, unsigned in UNSIGNED.items():
        x = next(random_patterns(min(patterns, BLOCK), dtype))
        draw = jax.jit(partial(draws.words, shape=x.shape, dtype=unsigned))
        words, expected = (on(place, draw, draws.seed_words(1), np.uint32(7)) for place in (device, cpu))
        yield differences(f"random words, {np.dtype(unsigned)}, against the CPU", words, expected)
        for format in NAMED.values():
            for rounding in RANDOM:
                kernel = jax.jit(partial(_with_words, format=format, rounding=rounding))
                computed, right = (on(place, kernel, x, expected) for place in (device, cpu))
                yield differences(f"{format} from {dtype}, {rounding}, against the CPU", computed, right, x)


def _with_words(x: jax.Array, words: jax.Array, format: Format, rounding: str) -> jax.Array:
    return round_bits(x, format, rounding, words)


# Tables of operations

OPERATIONS: dict[str, Callable] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}


def _all_operations(a: jax.Array, b: jax.Array) -> list[jax.Array]:
    return [operation(a, b) for operation in OPERATIONS.values()]


def check_operations(device: Device) -> Iterator[Check]:
    """Every pair of values of every format of at most 8 bits, under every operation and mode.

    Args:
        device: where.

    Yields:
        A row for every format and mode.
    """
    for format in NAMED.values():
        if format.bits > 8:
            continue
        a, b = pairs(format)
        for rounding in DETERMINISTIC:
            emulated = jax.jit(emulate(_all_operations, Arithmetic(format, rounding=rounding)))  # pyright: ignore[reportArgumentType]
            title = f"{format}, all pairs, {', '.join(OPERATIONS)}, {rounding}"
            results = zip(OPERATIONS, on(device, emulated, a, b), strict=True)
            yield together([
                differences(title, result, operate(name, a, b, format, rounding)) for name, result in results
            ])


# Programs against the CPU


def add_and_remove_constant(x: jax.Array, y: jax.Array) -> jax.Array:
    """A sum that compilers like to undo: the constant cancels, the rounding does not."""
    return (x + 100.0) - 100.0


def recurrence(x: jax.Array, y: jax.Array) -> jax.Array:
    """An exponential average, in a loop."""

    def step(state: jax.Array, pair: tuple) -> tuple:
        state = 0.5 * state + pair[0] * pair[1]
        return state, state

    return lax.scan(step, jnp.zeros(()), (x, y))[1]


def direction(x: jax.Array, y: jax.Array) -> jax.Array:
    """The LogDet projection of one gradient's statistics, damped, applied to it."""
    H = jnp.stack([x * x + 0.0625, jnp.append(x[1:] * x[:-1], 0)])
    factor, _ = logdet.stabilize(H, 2.0**-7)
    return logdet.apply(factor, y)


def updated(form: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """An inverse carried through updates of rank one, and a vector that it multiplies."""
    recursion, n = rank_one.METHODS[form], 16
    last, _ = rank_one.run(recursion, recursion.start(jnp.ones(n)), x.reshape(-1, n), jnp.float32(0.875))
    return recursion.apply(last, y[:n])


ELEMENTWISE: dict[str, Callable] = {
    "a b + c": lambda x, y: x * y + x[::-1],
    "a b - c d": lambda x, y: x * y - x[::-1] * y[::-1],
    "(x + C) - C": add_and_remove_constant,
    "x / 3": lambda x, y: x / 3,
    "x / 7 * 7": lambda x, y: x / 7 * 7,
    "x / y": lambda x, y: x / y,
    "square root": lambda x, y: jnp.sqrt(jnp.abs(x)),
    "reciprocal square root": lambda x, y: lax.rsqrt(jnp.abs(x)),
    "exp, log, tanh": lambda x, y: jnp.exp(x) + jnp.log(jnp.abs(y)) + jnp.tanh(x),
    "underflow: x y 2^-60 2^-60": lambda x, y: x * y * 2.0**-60 * 2.0**-60,
    "scan": recurrence,
    "LogDet projection": direction,
    "updates of rank one": partial(updated, "symmetric"),
    "updates of rank one, U D U^T": partial(updated, "bierman_ud"),
}
SUMS: dict[str, Callable] = {
    "sum": lambda x, y: jnp.sum(x)[None],
    "sums of rows": lambda x, y: jnp.sum(x.reshape(-1, 64), axis=0),
    "cumulative sum": lambda x, y: jnp.cumsum(x),
    "dot product": lambda x, y: jnp.vdot(x, y)[None],
    "matrix product": lambda x, y: x.reshape(32, -1) @ y.reshape(-1, 32),
    "convolution": lambda x, y: jnp.convolve(x, y[:32], mode="same"),
    "scattered sum": lambda x, y: jnp.zeros(16).at[jnp.arange(x.size) % 16].add(x),
}
ELEMENTS = 1024

COUNTED = Arithmetic("float16")

ARITHMETICS = (
    Arithmetic("bfloat16"),
    Arithmetic("bfloat16", carrier="float32"),
    Arithmetic("bfloat16", accumulate="float32"),
    COUNTED,
    Arithmetic("float16", rounding="stochastic"),
    Arithmetic("float16", rounding="up"),
    Arithmetic("float16", rounding="odd"),
    Arithmetic("float8_e4m3fn"),
    Arithmetic("float32"),
)
SUMMATIONS = (
    *ARITHMETICS,
    *(
        Arithmetic("bfloat16", carrier="float32", order=order)
        for order in ("reversed", "pairwise", "blocked(8)", "exact")
    ),
    Arithmetic("float16", order="pairwise", rounding="toward_zero"),
    Arithmetic("bfloat16", fma=True),
    Arithmetic("bfloat16", operands=Integer(8, scale="row")),
)
PROGRAMS: dict[str, tuple[Callable, Sequence[Arithmetic]]] = {
    **{name: (program, ARITHMETICS) for name, program in ELEMENTWISE.items()},
    **{name: (program, SUMMATIONS) for name, program in SUMS.items()},
}


def check_programs(device: Device) -> Iterator[Check]:
    """Every program in every one of its arithmetics on the device and on the CPU; in one, with its events.

    Args:
        device: where.

    Yields:
        A row for every program.
    """
    x, y = np.random.default_rng(0).standard_normal((2, ELEMENTS)).astype(np.float32)
    for name, (program, arithmetics) in PROGRAMS.items():
        checks = []
        for arithmetic in arithmetics:
            emulated = emulate(program, arithmetic, events=arithmetic == COUNTED)
            checks += against_cpu(device, name, emulated, (x, y), f"{arithmetic}:")
        yield together(checks)


def check_blocks(device: Device) -> Iterator[Check]:
    """Blocks and integers on the device and on the CPU.

    Args:
        device: where.

    Yields:
        A row for every quantization.
    """
    x = np.random.default_rng(2).standard_cauchy((ELEMENTS, 64)).astype(np.float32)
    for record in QUANTIZATIONS:
        yield together(against_cpu(device, str(record), lambda x, record=record: round_blocks(x, record), (x,), ""))


def against_cpu(device: Device, name: str, program: Callable, arguments: tuple, note: str) -> list[Check]:
    """The results of one program on a device and on the CPU, leaf by leaf. One that does not run is wrong."""
    results = []
    for place in (device, jax.devices("cpu")[0]):
        with jax.default_device(place):
            try:
                result = program(*(jax.device_put(x, place) for x in arguments))
            except (NotImplementedError, RuntimeError, TypeError, ValueError) as failure:
                return [Check(name, 0, 1, f"{note} {type(failure).__name__} on {place}".strip())]
            results.append([np.atleast_1d(leaf) for leaf in jax.tree.leaves(result)])
    checks = [differences(name, *leaves) for leaves in zip(*results, strict=True)]
    return [check._replace(example=f"{note} {check.example}".strip()) if check.example else check for check in checks]
