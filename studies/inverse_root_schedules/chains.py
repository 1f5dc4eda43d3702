"""Coupled Newton with X in one format, M in another."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab import Arithmetic, emulate
from precond_lab.linalg.matrices import identity_like, product
from precond_lab.preconditioners.inverse_root.newton import distance_from_identity, newton_multiplier
from precond_lab.preconditioners.inverse_root.powers import matrix_power, number_like

from .cases import MATRICES, SPECTRUM
from .roots import arithmetic, distances, in_batches, problem, rounded, summary

STEPS = 40
"""Twice as many as it takes at the largest condition number."""


def two_chains(A: jax.Array, p: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Coupled Newton, X <- X T in the scope ``X``, and T = ((p+1) I - M) / p, M <- T^p M in the scope ``M``.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer.

    Returns:
        X of the step with the least |M - I|_F; which step that was; X of the last step.
    """
    degree = number_like(A, p)
    with jax.named_scope("M"):
        z = (degree + 1) / (2 * jnp.sqrt(jnp.sum(A * A)))
        M = z * A
    with jax.named_scope("X"):
        X = z ** (1 / degree) * identity_like(A)

    def step(k: jax.Array, state: tuple) -> tuple:
        X, M, best, least, at = state
        with jax.named_scope("M"):
            T = newton_multiplier(M, p)
            M = product(matrix_power(T, p, product), M)
        with jax.named_scope("X"):
            X = product(X, T)
        error = distance_from_identity(M)
        better = error < least  # false for NaN
        best = jnp.where(better, X, best)
        return X, M, best, jnp.where(better, error, least), jnp.where(better, k + 1, at)

    last, _, best, _, at = lax.fori_loop(0, STEPS, step, (X, M, X, distance_from_identity(M), jnp.int32(0)))
    return best, at, last


@cache
def program(root: str, residual: str, p: int) -> Callable:
    """A batch of roots in one compiled program."""
    overrides = {"X": arithmetic(root, "float32"), "M": arithmetic(residual, "float32")}
    outer = Arithmetic("float32", carrier="float32", overrides=overrides)
    return jax.jit(jax.vmap(emulate(lambda A: two_chains(A, p), outer)))


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one pair of formats and one exponent.

    Args:
        cases: of the grid.

    Returns:
        The figures of each: the errors of the best X and of the last.
    """
    first = cases[0]
    problems = [problem(case["n"], case["condition"], SPECTRUM, "float32") for case in cases]
    results = in_batches(program(first["X"], first["M"], first["p"]), [(of.stored,) for of in problems])
    found = []
    for case, of, (best, at, last) in zip(cases, problems, results, strict=True):
        assert len(at) == MATRICES
        late = distances(last, of, case["p"])
        found.append(
            summary(distances(best, of, case["p"]), at)
            | {"last": rounded(np.median(late)), "last_most": rounded(late.max())}
        )
    return found
