"""The time and the error of every root function, a cell a condition number and a size."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
from inverse_root_programs import PEER, Program, compiled, programs
from inverse_root_truth import Errors, errors_of, matrix, reference
from measure import Sampler, Timing, interleaved, sampler

from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.inverse_root import Result

LIMIT = "limit: one product of matrices"
LONG = 1.0
"""Seconds: a call that takes longer is made once where matrices are large."""
CLEAR = 0.1
"""Seconds: a call that takes longer at first is long enough for the clock."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        powers: the exponents p.
        conditions: of the matrices.
        sizes: of the matrices, in ascending order.
        large: from this size on there is one round, for the last exponent and the last condition number.
        patience: seconds that a call may take; a program that is foreseen to take longer is left out, and named.
        emulated: sizes of the matrices whose roots are computed in emulated arithmetic.
        arithmetics: how many are emulated.
        batch: number and size of the blocks that are computed together.
        batched: how many methods compute them.
        rounds: how often everything is timed.
    """

    powers: tuple[int, ...]
    conditions: tuple[float, ...]
    sizes: tuple[int, ...]
    large: int
    patience: float
    emulated: tuple[int, ...]
    arithmetics: int
    batch: tuple[int, int]
    batched: int
    rounds: int


class Cell(NamedTuple):
    """Where roots are measured.

    Attributes:
        p: the exponent.
        condition: of the matrix.
        n: its size.
    """

    p: int
    condition: float
    n: int


class Found(NamedTuple):
    """A root function in a cell.

    Attributes:
        cell: the cell.
        case: its name.
        timing: its time, also against that of optax.
        errors: of its root.
        certificate: the residual that it returns; None if it returns none.
        result: the name of its result, likewise.
        steps: of its iteration, likewise.
    """

    cell: Cell
    case: str
    timing: Timing
    errors: Errors
    certificate: float | None
    result: str | None
    steps: int | None


class Skipped(NamedTuple):
    """A root function that would have taken too long.

    Attributes:
        cell: where.
        case: its name.
        foreseen: seconds of a call.
    """

    cell: Cell
    case: str
    foreseen: float


def cells(scale: Scale) -> list[list[Cell]]:
    """The cells of a run: those that share compiled programs together, the large ones last.

    Args:
        scale: of the run.

    Returns:
        Lists of cells of one exponent and one size.
    """
    usual = [
        [Cell(p, condition, n) for condition in scale.conditions]
        for n in scale.sizes
        if n < scale.large
        for p in scale.powers
    ]
    return usual + [[Cell(scale.powers[-1], scale.conditions[-1], n)] for n in scale.sizes if n >= scale.large]


def foreseen(cell: Cell, earlier: Mapping[tuple[Cell, str], float], case: str) -> float:
    """The seconds that a call should take, by those at the next smaller size: they grow with the cube of n.

    Args:
        cell: where.
        earlier: seconds by cell and case.
        case: the name of the program.

    Returns:
        The seconds; 0 where no smaller size was measured.
    """
    smaller = [
        (place.n, seconds)
        for (place, name), seconds in earlier.items()
        if name == case and place[:2] == cell[:2] and place.n < cell.n
    ]
    n, seconds = max(smaller, default=(cell.n, 0.0))
    return seconds * (cell.n / n) ** 3


def measured(
    group: list[Cell], scale: Scale, earlier: Mapping[tuple[Cell, str], float]
) -> tuple[list[Found], list[Skipped], list[tuple[Cell, Timing]]]:
    """All programs in cells of one exponent and one size, each compiled once.

    Args:
        group: the cells.
        scale: of the run.
        earlier: seconds by cell and case, of smaller sizes.

    Returns:
        What was found, what was left out, and the times of the limit.
    """
    p, _, n = group[0]
    chosen, skipped = {}, []
    for case, program in programs().items():
        most = max(foreseen(cell, earlier, case) for cell in group)
        if most > scale.patience and case != PEER:  # with which the others are compared
            skipped += [Skipped(cell, case, most) for cell in group]
            print(f"left out: {case} at n = {n}, foreseen to take {most:.0f} s", file=sys.stderr)
        else:
            chosen[case] = program, compiled(program, p, n)
    found, limits = [], []
    for cell in group:
        print(f"p = {p}, kappa = {cell.condition:.0e}, n = {n} ...", file=sys.stderr)
        here, limit = _measured(cell, chosen, scale)
        found += here
        limits.append((cell, limit))
    return found, skipped, limits


def _measured(
    cell: Cell, chosen: Mapping[str, tuple[Program, Callable[[jax.Array], Any]]], scale: Scale
) -> tuple[list[Found], Timing]:
    """One cell."""
    A, truth = matrix(cell.n, cell.condition), reference(cell.n, cell.condition, cell.p)
    once = cell.n >= scale.large
    results, samplers = {}, {LIMIT: sampler(partial(jax.jit(product), A, A))}
    for case, (_, call) in chosen.items():
        results[case], samplers[case] = warmed(partial(call, A), once=once)
    timings = interleaved(samplers, PEER, 1 if once else scale.rounds)
    found = []
    for case, (program, _) in chosen.items():
        result = results[case]
        errors = errors_of(getattr(result, "root", result), truth, program.ridge, cell.p)
        found.append(Found(cell, case, timings[case], errors, *_said(result)))
    return found, timings[LIMIT]


def warmed(call: Callable[[], Any], *, once: bool = False) -> tuple[Any, Sampler]:
    """The result of a first call, and the sampler of further ones.

    Args:
        call: what to time.
        once: whether a long first call is sample enough.

    Returns:
        Both.
    """
    result: Any = None

    def sample() -> float:
        nonlocal result
        start = time.perf_counter()
        result = jax.block_until_ready(call())
        return time.perf_counter() - start

    seconds = sample()
    if once and seconds > LONG:
        return result, lambda: seconds
    return result, sample if seconds > CLEAR else sampler(call)


def _said(result: Any) -> tuple[float | None, str | None, int | None]:
    """What a result says of itself."""
    if not hasattr(result, "residual"):
        return None, None, None
    return float(result.residual), Result(int(result.result)).name, int(result.steps)
