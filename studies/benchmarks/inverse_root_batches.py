"""What a batch of blocks saves against one block after the other."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from inverse_root_cells import warmed
from inverse_root_programs import PEER, programs
from inverse_root_truth import matrix
from measure import Entry, interleaved

METHODS = ("coupled_newton", "refined", "eigen", "rational_minimax", PEER)
P = 4
CONDITION = 1e4
ALONE, TOGETHER = "one at a time", "in one vmap"


def measure_batch(name: str, count: int, n: int, rounds: int) -> list[Entry]:
    """Blocks of one size one at a time, and in one program.

    Args:
        name: in METHODS.
        count: how many blocks.
        n: size of each.
        rounds: how often both are timed.

    Returns:
        The times of all blocks.
    """
    blocks = jnp.stack([matrix(n, CONDITION, seed) for seed in range(count)])
    apart = jax.block_until_ready(list(blocks))
    program = programs()[name]

    def root(A: jax.Array) -> Any:
        return program.root(A, P)

    single, whole = jax.jit(root), jax.jit(jax.vmap(root))

    def one_at_a_time() -> list[Any]:
        return [single(block) for block in apart]

    calls: dict[str, Callable[[], Any]] = {ALONE: one_at_a_time, TOGETHER: partial(whole, blocks)}
    timings = interleaved({case: warmed(call)[1] for case, call in calls.items()}, ALONE, rounds)
    return [Entry(title(count, n), name, case, 0, timing) for case, timing in timings.items()]


def title(count: int, n: int) -> str:
    """The heading of the batches."""
    return f"Batches: {count} blocks of {n}"
