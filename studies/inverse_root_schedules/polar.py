"""Polar factors of wide and of random matrices in few digits."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import emulate
from precond_lab.preconditioners import inverse_root as ir

from .cases import DRAWN, MATRICES
from .roots import arithmetic, in_batches, rounded

BOUNDED = 2.0
"""A factor with a larger singular value is none."""
DIRECT_STEPS = 8
PUBLISHED_LOWER = 1e-3**2
"""The lower bound of Polar Express as it is published, 1e-3, for eigenvalues of the Gram matrix."""


@cache
def program(format: str, steps: int, restart: int, told: tuple[tuple[str, Any], ...]) -> Callable:
    """A batch of polar factors in one compiled program."""

    def factor(G: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = ir.gram_newton_schulz(G, steps=steps, restart=restart or None, bound="frobenius_norm", **dict(told))
        return found.factor, found.gram

    return jax.jit(jax.vmap(emulate(factor, arithmetic(format, "float32"))))


@cache
def wide_matrices(n: int, condition: float) -> np.ndarray:
    """Matrices ``[k, n, 2 n]`` with singular values in geometric progression, whose Gram matrix has that condition."""
    values = condition ** -np.linspace(0, 0.5, n)
    found = []
    for seed in range(MATRICES):
        draw = np.random.default_rng(seed).standard_normal
        U, V = (np.linalg.qr(draw(shape))[0] for shape in ((n, n), (2 * n, n)))
        found.append((U * values) @ V.T)
    return np.array(found, np.float32)


def singular_values(Q: np.ndarray) -> np.ndarray:
    """Of each matrix, descending, ``[k, n]``; infinite for what is no number."""
    finite = np.asarray(np.isfinite(Q).all(axis=(-2, -1)))
    values = np.linalg.svd(np.where(finite[:, None, None], Q, 0).astype(np.float64), compute_uv=False)
    return np.where(finite[:, None], values, np.inf)


def measure_grams(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one format, restart and number of steps.

    Args:
        cases: of the grid.

    Returns:
        Of each, the largest singular value of any factor less one, how many are no factors, and how many Gram matrices
        of the iteration are not positive definite; None where one is not finite.
    """
    first = cases[0]
    compute = program(first["format"], first["steps"], first["restart"], (("schedule", "newton_schulz"),))
    found = []
    for Q, R in in_batches(compute, [(wide_matrices(case["n"], case["condition"]),) for case in cases]):
        largest = singular_values(Q)[:, 0]
        indefinite = None
        if np.isfinite(R).all():
            symmetric = (R.astype(np.float64) + np.swapaxes(R, -2, -1)) / 2
            indefinite = int((np.linalg.eigvalsh(symmetric)[:, 0] < 0).sum())
        found.append({
            "excess": rounded(largest.max() - 1),
            "failed": int((~(largest <= BOUNDED)).sum()),
            "indefinite": indefinite,
        })
    return found


def measure_outliers(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one format, margin and size.

    The Gram matrix is formed anew at every step, which is the iteration of the matrix itself.

    Args:
        cases: of the grid.

    Returns:
        Of each, over its random matrices, the largest and the median distance of a singular value from one, and how
        many are no factors.
    """
    first = cases[0]
    told = (("schedule", "polar_express"), ("lower", PUBLISHED_LOWER), ("safety", first["margin"]))
    compute = program(first["format"], DIRECT_STEPS, 1, told)
    found = []
    for case in cases:
        drawn = np.random.default_rng(case["seed"]).standard_normal((DRAWN, case["n"], case["n"]))
        Q = jax.device_get(compute(jnp.asarray(drawn, jnp.float32)))[0]
        values = singular_values(Q)
        distance = np.abs(values - 1).max(axis=-1)
        found.append({
            "worst": rounded(distance.max()),
            "median": rounded(np.median(distance)),
            "failed": int((~(values[:, 0] <= BOUNDED)).sum()),
        })
    return found
