"""The released recursion with J in a format: when does it cease to be positive definite?"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one import mkor

from .cases import CODED
from .streams import stream

CHECKS = 20  # how many times along a run J is looked at
BATCH = 96  # cases in one call
INT8 = pl.Integer(8, scale="tensor")
CARRIED: dict[str, Any] = {"carrier": "float32"}


@lru_cache
def program(format: str, mode: str, every: int) -> Callable:
    """J along streams ``[cases, steps, n]``, every so many steps; compiled once a shape."""
    wide = pl.Arithmetic("float32", **CARRIED)
    if format == "float64":
        run = partial(rank_one.run, mkor.released, every=every)
    elif mode == "rounded":
        arrays = pl.Arithmetic(format, accumulate="float32", **CARRIED)
        roles = by_role(state=pl.Arithmetic(format, **CARRIED), arrays=arrays, scalars=wide)
        run = pl.emulate(partial(rank_one.run, mkor.released, every=every), wide if format == "float32" else roles)
    else:
        run = partial(rank_one.run, mkor.released, every=every, store=store_of(format))

    def kept(start: Any, V: jax.Array, beta: jax.Array) -> jax.Array:
        states: Any = run(start, V, beta)[1]
        return states.P

    return jax.jit(jax.vmap(kept, (None, 0, None)))


def store_of(format: str) -> Callable[[jax.Array], jax.Array]:
    """What becomes of J when it is stored."""
    if format == "int8":
        return lambda x: pl.round_blocks(x, INT8)
    return lambda x: pl.round_to(x, format)


def unit(format: str) -> float:
    """The unit roundoff; of int8, half a step relative to the largest entry."""
    return 1 / (2 * INT8.largest) if format == "int8" else pl.formats.named(format).unit_roundoff


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one format, mode and stream.

    Args:
        cases: of the grid.

    Returns:
        For each: whether a J that was looked at had an eigenvalue of zero or less, or was not finite; the least and the
        largest eigenvalue of all of them; the least times 20 + |v|^2, which the law says is at least one; the
        asymmetry; and u (20 + |v|^2).
    """
    first = cases[0]
    n, steps, format = first["n"], first["steps"], first["format"]
    wide, found = format == "float64", []
    dtype = np.float64 if wide else np.float32
    with jax.enable_x64(wide):
        run, start = program(format, first["mode"], steps // CHECKS), mkor.released.start(jnp.ones(n, dtype))
        for begin in range(0, len(cases), BATCH):
            some = cases[begin : begin + BATCH]
            filled = [some[min(k, len(some) - 1)] for k in range(BATCH)]  # a full batch always: no second compilation
            V = np.array([vectors(case) for case in filled], dtype)
            J = np.asarray(run(start, V, dtype(CODED)), np.float64)
            found += [figures(case, J[k]) for k, case in enumerate(some)]
    return found


def vectors(case: Mapping[str, Any]) -> np.ndarray:
    """A stream whose vectors all have the squared length that the case says."""
    V = stream(case["stream"], case["steps"], case["n"], case["seed"])
    return V * (np.sqrt(2.0 ** case["log_energy"] - 20) / np.linalg.norm(V, axis=1, keepdims=True))


def figures(case: Mapping[str, Any], J: np.ndarray) -> Mapping[str, Any]:
    """What is seen of J ``[checks, n, n]``."""
    energy = 2.0 ** case["log_energy"]
    finite = bool(np.isfinite(J).all())
    w = np.linalg.eigvalsh((J + J.swapaxes(1, 2)) / 2) if finite else np.full((1, 1), np.nan)
    asymmetry = np.abs(J - J.swapaxes(1, 2)).max() / np.abs(J).max() if finite else np.nan
    return {
        "lost": not finite or bool(w.min() <= 0),
        "least_eigenvalue": float(w.min()),
        "largest_eigenvalue": float(w.max()),
        "least_over_law": float(w.min() * energy),
        "asymmetry": float(asymmetry),
        "energy_in_u": energy * unit(case["format"]),
    }
