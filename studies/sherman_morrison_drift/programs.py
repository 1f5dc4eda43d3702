"""Runs of a recursion in an arithmetic: batches of streams in one compiled program."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import Arithmetic, Integer, emulate, formats, round_blocks, round_to
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one.kept import Refreshed

from .cases import FORMS

SINGLE = Arithmetic("float32", carrier="float32")
BLOCKS = {"int8": Integer(8, scale="tensor")}
EIGHT_BITS = ("int8", "float8_e4m3fn")
"""Formats that need a scale: kept by `store` in a native float32 run."""

ARITHMETICS: dict[str, Callable[[str], Arithmetic]] = {
    "stored": lambda f: by_role(state=_exact(f), arrays=SINGLE),
    "stochastic": lambda f: by_role(state=Arithmetic(f, rounding="stochastic", seed=0), arrays=SINGLE),
    "products": lambda f: by_role(state=_exact(f), arrays=Arithmetic(f, accumulate="float32"), scalars=SINGLE),
    "computed": lambda f: by_role(state=_exact(f), arrays=_exact(f), scalars=SINGLE),
    "all": lambda f: by_role(state=_exact(f)),
}
"""What is in the format: the state; the same by stochastic rounding; arrays too, sums in float32; these as well; all.

What is not is in float32. All but "all" have the decay as float32 holds it.
"""


def recursion_of(form: str) -> rank_one.Recursion:
    """The recursion of a name in FORMS."""
    name, settings = FORMS[form]
    return rank_one.recursion(name, **settings)


def _exact(format: str) -> Arithmetic:
    return SINGLE if format == "float32" else Arithmetic(format)


def store_of(format: str) -> Callable[[jax.Array], jax.Array]:
    """What becomes of an array in eight bits: integers by absmax, floats by the power of two that fills their range."""
    if format in BLOCKS:
        return partial(round_blocks, q=BLOCKS[format])
    top = formats.named(format).max_exponent - 1

    def store(x: jax.Array) -> jax.Array:
        shift = top - jnp.frexp(jnp.max(jnp.abs(x)))[1]
        return jnp.ldexp(round_to(jnp.ldexp(x, shift), format), -shift)

    return store


@cache
def program(form: str, format: str, arithmetic: str, every: int, blend: float = 0.0) -> Callable:
    """A batch of runs in one compiled program: states, streams, decays and weights to states after every so many steps.

    The whole batch is emulated, so that random roundings differ from run to run.
    """
    recursion = recursion_of(form)
    store = store_of(format) if format in EIGHT_BITS else partial(toward_identity, blend=blend) if blend else None
    # An age that differs from run to run would make every run pay for a refreshment in every step.
    axes = Refreshed(0, 0, None) if form.startswith("refreshed") else 0  # pyright: ignore[reportArgumentType]

    def run(*given: Any) -> Any:
        return rank_one.run(recursion, *given, every=every, store=store)[1]

    batch = jax.vmap(run, in_axes=(axes, 0, 0, 0), out_axes=axes)
    native = format == "float64" or format in EIGHT_BITS
    return jax.jit(batch) if native else emulate(batch, ARITHMETICS[arithmetic](format))


def toward_identity(P: jax.Array, blend: float) -> jax.Array:
    """P (1 - b) + b I, for a power of two."""
    keep, add = jnp.full_like(P, 1 - blend), jnp.full_like(P, blend)
    return P * keep + jnp.where(jnp.eye(P.shape[0], dtype=bool), add, jnp.zeros_like(P))


@cache
def _start(form: str) -> Callable:
    return jax.jit(jax.vmap(recursion_of(form).start))


@cache
def _inverse(form: str) -> Callable:
    return jax.jit(jax.vmap(jax.vmap(recursion_of(form).inverse)))


def started(form: str, C: np.ndarray, dtype: type = np.float32) -> Any:
    """The states that stand for matrices: computed in float64, then rounded to what the runs are carried in.

    Args:
        form: a name in FORMS.
        C: ``[batch, n, n]``.
        dtype: of the states.

    Returns:
        A batch of states.
    """
    with jax.enable_x64(True):
        states = jax.device_get(_start(form)(C))
    return jax.tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, states)


def inverses(form: str, states: Any) -> np.ndarray:
    """The inverses that states stand for, in float64.

    Args:
        form: a name in FORMS.
        states: of a batch of runs, at several steps.

    Returns:
        ``[batch, times, n, n]``.
    """
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64) if x.dtype.kind == "f" else np.asarray(x), states)
    with jax.enable_x64(True):
        return np.asarray(_inverse(form)(wide))


def run_all(
    form: str, format: str, arithmetic: str, start: Any, V: np.ndarray, beta: Any, alpha: Any, every: int, **more: float
) -> Any:
    """States of a batch of runs.

    Args:
        form: a name in FORMS.
        format: of what `arithmetic` says.
        arithmetic: a name in ARITHMETICS; eight bits know "stored" alone.
        start: a batch of states.
        V: ``[batch, steps, n]`` or ``[batch, steps, k, n]``.
        beta: ``[batch]``.
        alpha: ``[batch]``.
        every: how many steps lie between two states.
        **more: what else `program` asks.

    Returns:
        The states after every so many steps, on the host.
    """
    dtype = np.float64 if format == "float64" else np.float32
    given = (start, np.asarray(V, dtype), np.asarray(beta, dtype), np.asarray(alpha, dtype))
    with jax.enable_x64(format == "float64"):
        if isinstance(start, Refreshed):
            given = (start._replace(age=np.int32(0)), *given[1:])  # pyright: ignore[reportArgumentType]
        states: Any = jax.device_get(program(form, format, arithmetic, every, **more)(*given))
    if isinstance(start, Refreshed):
        return states._replace(age=np.broadcast_to(states.age, states.P.shape[:2]))
    return states
