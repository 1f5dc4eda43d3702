"""Running averages of a vector whose samples move once, carried in a format until they have had time to settle."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners.rank_one.averages import average_step, start_average

from .cases import ROUNDED

MEMORIES = 8  # how many times 1 / (1 - old weight) steps are taken: exactly, e^-8 of the way is left


@lru_cache
def program(form: str, format: str) -> Callable:
    """The average after a number of steps of one and the same sample, rounded to the format; batched over samples.

    It is a function of what the average begins with ``[n]``, samples ``[cases, n]``, the old weight and the steps.
    """
    wide = pl.Arithmetic("float32", carrier="float32")
    low = wide if form == "wide" else pl.Arithmetic(format)
    arithmetic = by_role(state=low, arrays=low, scalars=low if form == ROUNDED else wide)
    recurrence = {"wide": "convex", ROUNDED: "convex"}.get(form, form)
    step = pl.emulate(lambda state, y, old: average_step(state, y, old_weight=old, form=recurrence), arithmetic)

    def run(start: jax.Array, sample: jax.Array, old: jax.Array, steps: jax.Array) -> jax.Array:
        state = jax.lax.fori_loop(0, steps, lambda _, state: step(state, sample, old), start_average(start))
        return pl.round_to(state.value, format)

    return jax.jit(jax.vmap(run, (None, 0, None, None)))


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one form, format and old weight, which differ in how far the samples move.

    Entries begin at values spread evenly over [1, 2), the significands of the format.

    Args:
        cases: of the grid.

    Returns:
        For each: the change, relative to where the average was; the share of it that is covered, least, mean and most
        over the entries; and the law: all of the change but u over the weight of what is new, or nothing.
    """
    first = cases[0]
    format, old, n = first["format"], first["old_weight"], first["n"]
    u = pl.formats.named(format).unit_roundoff
    start = np.asarray(pl.round_to(1 + (np.arange(n) + 0.5) / n, format), np.float64)
    changes = [case["change_in_units"] * u / (1 - old) for case in cases]
    samples = [np.asarray(pl.round_to(start * (1 + change), format), np.float64) for change in changes]
    steps = round(MEMORIES / (1 - old))
    run = program(first["form"], format)
    ends = np.asarray(
        run(np.float32(start), np.array(samples, np.float32), np.float32(old), np.int32(steps)), np.float64
    )
    found = []
    for change, sample, end in zip(changes, samples, ends, strict=True):
        moved = sample != start
        covered = ((end - start) / np.where(moved, sample - start, 1))[moved]
        found.append({
            "change": change,
            "moved": int(moved.sum()),
            "least_covered": float(covered.min()) if len(covered) else float("nan"),
            "mean_covered": float(covered.mean()) if len(covered) else float("nan"),
            "most_covered": float(covered.max()) if len(covered) else float("nan"),
        })
    return found
