"""Roots computed in a format, their errors, and the condition numbers up to which they are roots."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import Arithmetic, emulate, gallery
from precond_lab.preconditioners import inverse_root as ir

from .bare import watched
from .cases import BARE, FRONTIER, ROUNDOFF

BATCH = 8
HALVINGS = 8
FARTHEST = 2.0**40
WORKS = 0.5
"""An error below which a root is one."""
BOUNDED = 1.0
"""An iteration whose max|M - I| is above after all steps has diverged."""
SIGMA = 1.1
"""What the polynomials allow for in the bound of the eigenvalues, besides rounding; at most MARGIN with it."""
MARGIN = 1.5


def options(method: str, format: str, p: int, n: int) -> dict[str, float]:
    """What a method has to know of the format."""
    u = ROUNDOFF[format]
    if method == "minimax_polynomial":
        return {"lower": u, "safety": min(SIGMA + p * u * n**0.5, MARGIN)}
    return {"lower": u, "accuracy": u} if method == "rational_minimax" else {}


@cache
def program(format: str, method: str, p: int, n: int) -> Callable:
    """A batch of roots, with what the method knows of them, in one compiled program."""

    def root(A: jax.Array) -> Any:
        if method in BARE:
            return watched(A, p, coupled=method == "bare_coupled_newton")
        setting = ir.Setting(kernels=ir.LIBRARY)
        return ir.METHODS[method](A, p, setting=setting, **options(method, format, p, n))

    if format != "float32":
        # What a matrix unit does; the certificate, which only names the outcome, is that of a float32 program.
        root = emulate(
            root, Arithmetic(format, accumulate="float32", overrides={"certificate": "float32"}, linalg="expand")
        )
    return jax.jit(jax.vmap(root))


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one format, method, exponent and size.

    Args:
        cases: of the grid.

    Returns:
        The figures of each.
    """
    looking = [case["condition"] is FRONTIER for case in cases]
    edges = iter(frontiers([case for case, looks in zip(cases, looking, strict=True) if looks]))
    known = iter(errors_of([case for case, looks in zip(cases, looking, strict=True) if not looks]))
    return [dict(NOTHING, frontier=next(edges)) if looks else next(known) for looks in looking]


def frontiers(cases: Sequence[Mapping[str, Any]]) -> list[float]:
    """The largest condition number at which each method works, by bisection of its logarithm.

    All cases are halved together. A method that works at some condition numbers above one at which it fails is taken
    to work up to one of the edges.

    Args:
        cases: without condition number.

    Returns:
        The condition numbers; 1 where it works at none that was tried, FARTHEST at most.
    """
    low, high = np.ones(len(cases)), np.full(len(cases), FARTHEST)
    for _ in range(HALVINGS if cases else 0):
        middle = np.sqrt(low * high)
        tried = errors_of([dict(case, condition=float(kappa)) for case, kappa in zip(cases, middle, strict=True)])
        works = np.array([found["works"] for found in tried])
        low, high = np.where(works, middle, low), np.where(works, high, middle)
    return [float(kappa) for kappa in low]


def errors_of(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The figures of cases with condition numbers.

    Args:
        cases: of one format, method, exponent and size.

    Returns:
        The figures of each.
    """
    found = []
    for start in range(0, len(cases), BATCH):
        some = cases[start : start + BATCH]
        first = some[0]
        matrices = [gallery.spd(c["n"], condition=c["condition"], spectrum=c["spectrum"], seed=c["seed"]) for c in some]
        batch = np.zeros((BATCH, first["n"], first["n"]), np.float32)  # a full batch always: no second compilation
        batch[: len(some)] = np.array(matrices)
        batch[len(some) :] = np.eye(first["n"])
        compute = program(first["format"], first["method"], first["p"], first["n"])
        results = jax.device_get(compute(jnp.asarray(batch)))
        for i, (case, A) in enumerate(zip(some, matrices, strict=True)):
            one = jax.tree.map(lambda x, i=i: x[i], results)
            found.append(figures(case, A, np.asarray(batch[i], np.float64), one))
    return found


NOTHING: Mapping[str, Any] = {
    "works": None,
    "error": None,
    "error_frobenius": None,
    "error_update": None,
    "error_stored": None,
    "residual": None,
    "steps": None,
    "result": None,
    "reported": None,
    "least": None,
    "bounded": None,
    "error_last": None,
    "frontier": None,
}
"""What a case does not have."""


def figures(case: Mapping[str, Any], A: np.ndarray, stored: np.ndarray, found: Any) -> dict[str, Any]:
    """The errors of one root.

    They are those against the root of the matrix as it is before it is stored in any format, whose eigenvalues are
    known to float64 accuracy; the error against the root of the matrix as float32 holds it is given too.

    Args:
        case: of the grid.
        A: the matrix, in float64.
        stored: as float32 holds it.
        found: by the program.

    Returns:
        The figures.
    """
    p, result = case["p"], dict(NOTHING)
    w, V = np.linalg.eigh(A)
    w = np.maximum(w, gallery.SPECTRA[case["spectrum"]](case["n"], case["condition"]).min())
    bare = case["method"] in BARE
    X = np.asarray(found.stopped if bare else found.root, np.float64)
    spectral, frobenius, update = errors(X, w, V, p)
    result.update(error=spectral, error_frobenius=frobenius, error_update=update, steps=int(found.steps))
    stored_w, stored_V = np.linalg.eigh(stored)
    if stored_w[0] > 0:
        result["error_stored"] = errors(X, stored_w, stored_V, p)[0]
    if bare:
        gave_up = not found.reported <= WORKS
        result.update(
            reported=float(found.reported),
            least=float(found.least),
            bounded=bool(found.remaining <= BOUNDED),
            error_last=errors(np.asarray(found.last, np.float64), w, V, p)[0],
        )
    else:
        gave_up = int(found.result) > ir.Result.MAX_STEPS
        result.update(result=int(found.result), residual=float(found.residual))
    result["works"] = bool(spectral < WORKS and not gave_up)
    return result


def errors(X: np.ndarray, w: np.ndarray, V: np.ndarray, p: int) -> tuple[float, float, float]:
    """Relative errors against V diag(w^{-1/p}) V^T: in the 2-norm, the Frobenius norm, and of the update."""
    if not np.isfinite(X).all():
        return np.inf, np.inf, np.inf
    D, root = V.T @ X @ V, w ** (-1 / p)
    D -= np.diag(root)
    return (
        float(np.linalg.norm(D, 2) / root.max()),
        float(np.linalg.norm(D) / np.linalg.norm(root)),
        float(np.linalg.norm(D * np.sqrt(w)) / np.linalg.norm(root * np.sqrt(w))),
    )
