"""Matrices that go through storage, and the inverse roots that come of them.

All but the storage is done in float64, so that only storage is seen.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import CodeBook, Integer, formats, gallery, round_blocks, round_to
from precond_lab.preconditioners.inverse_root import storage
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY

from .cases import CORRECTIONS, FEEDBACK

BATCH = 20
DECAY = 0.95
BLOCKS = {
    "int16": Integer(16, scale="column"),
    "int8": Integer(8, scale="column"),
    "int4": Integer(4, scale="block", block=64),
    "dynamic4": CodeBook("dynamic", bits=4, block=64),
}


def store_of(format: str) -> storage.Store:
    """What becomes of numbers in a format; floats are scaled by a power of two to the top of their range."""
    if format in BLOCKS:
        return lambda x: round_blocks(x, BLOCKS[format])
    top = formats.named(format).max_exponent

    def store(x: jax.Array) -> jax.Array:
        shift = top - jnp.frexp(jnp.max(jnp.abs(x)))[1]
        return jnp.ldexp(round_to(jnp.ldexp(x, shift), format), -shift)

    return store


def keep(form: str, A: jax.Array, store: storage.Store, before: Any = None) -> Any:
    """A matrix in one of the forms; before is what was kept in the step before, if there was one."""
    if form in CORRECTIONS:
        return storage.keep_eigenvectors(A, store, kernels=LIBRARY)
    if form.startswith("Cholesky"):
        error = jnp.zeros_like(A) if before is None else before.error
        return storage.keep_cholesky(A, store, error if form == FEEDBACK else None, kernels=LIBRARY)
    return storage.keep_matrix(A, store, diagonal_apart=form == "diagonal apart")


def matrix_of(form: str, kept: Any) -> jax.Array:
    """The matrix that a form stands for."""
    if form in CORRECTIONS:
        return storage.matrix_of(kept, corrections=CORRECTIONS[form], kernels=LIBRARY)
    return kept.L @ kept.L.T if form.startswith("Cholesky") else kept


@cache
def program(form: str, format: str, steps: int) -> Callable:
    """Matrices through storage, in one compiled program: that to be kept, the one that came back, and its root.

    The root is that by eigenvectors; other forms have none of their own, and leave it to float64.
    """
    store = store_of(format)

    def through(A: jax.Array, half: jax.Array, seed: jax.Array, p: jax.Array, ridge: jax.Array) -> tuple:
        kept = keep(form, A, store)

        def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
            A, kept = carry
            G = half @ jax.random.normal(key, A.shape, A.dtype)
            statistics = (1 - DECAY) * (G @ G.T) / A.shape[0]
            return (DECAY * A + statistics, keep(form, DECAY * matrix_of(form, kept) + statistics, store, kept)), None

        (A, kept), _ = jax.lax.scan(step, (A, kept), jax.random.split(jax.random.key(seed), steps))
        back = matrix_of(form, kept)
        if form not in CORRECTIONS:
            return A, back, back
        root = storage.root_of(kept, p, floor=ridge, corrections=CORRECTIONS[form], kernels=LIBRARY)  # pyright: ignore[reportArgumentType]
        return A, back, root

    return jax.jit(jax.vmap(through))


@lru_cache(maxsize=256)
def given(n: int, condition: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix and its square root."""
    A = gallery.spd(n, condition=condition, seed=seed)
    return A, power(*np.linalg.eigh(A), 0.5)


def power(w: np.ndarray, V: np.ndarray, exponent: float) -> np.ndarray:
    """V diag(w^exponent) V^T."""
    X = (V * w**exponent) @ V.T
    return (X + X.T) / 2


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one form, format, size and number of steps.

    Args:
        cases: of the grid.

    Returns:
        The figures of each.
    """
    first = cases[0]
    compute = program(first["form"], first["format"], first["steps"])
    found = []
    for start in range(0, len(cases), BATCH):
        some = cases[start : start + BATCH]
        filled = [some[min(k, len(some) - 1)] for k in range(BATCH)]  # a full batch always: no second compilation
        matrices = [given(c["n"], c["condition"], c["seed"]) for c in filled]
        subjects = [subject_of(c, A) for c, (A, _) in zip(filled, matrices, strict=True)]
        with jax.enable_x64(True):
            arguments = (
                np.array(subjects),
                np.array([half for _, half in matrices]),
                np.array([c["seed"] for c in filled]),
                np.array([float(c["p"]) for c in filled]),
                np.array([c["ridge"] for c in filled]),
            )
            meant, back, roots = jax.device_get(compute(*arguments))
        for k, case in enumerate(some):
            A = meant[k] if case["subject"] == "statistics" else matrices[k][0]
            found.append(figures(case, A, back[k], roots[k]))
    return found


def subject_of(case: Mapping[str, Any], A: np.ndarray) -> np.ndarray:
    """What is stored: the matrix itself or its inverse root."""
    return A if case["subject"] == "statistics" else power(*np.linalg.eigh(A), -1 / case["p"])


def figures(case: Mapping[str, Any], A: np.ndarray, back: np.ndarray, root: np.ndarray) -> Mapping[str, Any]:
    """Errors of the inverse root, against that of the matrix with its ridge before it was stored.

    Where the statistics came back indefinite there is no root, and the errors are infinite. The repaired errors are
    those of the kindest repair: eigenvalues below the true smallest one are raised to it.

    Args:
        case: of the grid.
        A: the matrix.
        back: what came back of it, or of its root.
        root: the root by stored eigenvectors, for such forms.

    Returns:
        The errors in the Frobenius norm and of the update; of what came back the smallest eigenvalue over the largest,
        and whether it is indefinite (statistics: with their ridge).
    """
    p, stored_root = case["p"], case["subject"] == "root"
    w, V = np.linalg.eigh(A)
    damped = w + case["ridge"] * w[-1]
    F = power(damped, V, -1 / p)
    back_w, back_V = np.linalg.eigh(back)
    shifted = back_w if stored_root else back_w + case["ridge"] * back_w[-1]
    indefinite = bool(shifted[0] <= 0)
    if stored_root:
        X = back
    elif case["form"] in CORRECTIONS:
        X = root
    else:
        X = power(np.maximum(shifted, damped[0]) if indefinite else shifted, back_V, -1 / p)
    half = V * np.sqrt(w)
    error = float(np.linalg.norm(X - F) / np.linalg.norm(F))
    update = float(np.linalg.norm((X - F) @ half) / np.linalg.norm(F @ half))
    lost = indefinite and not stored_root
    return {
        "error": np.inf if lost else error,
        "update": np.inf if lost else update,
        "repaired_error": error,
        "repaired_update": update,
        "smallest": float(back_w[0] / back_w[-1]),
        "indefinite": indefinite,
    }
