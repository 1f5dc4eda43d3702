"""Roots of matrices with a ridge, computed in a format and compared with those in float64."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import Arithmetic, emulate, gallery
from precond_lab.diagnosis.ridge_bias import ridge_bias
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY
from precond_lab.preconditioners.inverse_root.newton import coupled_newton
from precond_lab.preconditioners.inverse_root.ridges import Ridge
from precond_lab.preconditioners.inverse_root.solution import Setting

BATCH = 64


@cache
def program(format: str, p: int) -> Callable:
    """Roots of a batch of matrices, each with its ridge, in one compiled program."""

    def root(A: jax.Array, ridge: jax.Array) -> tuple[jax.Array, jax.Array]:
        setting = Setting(ridge=Ridge(ridge, relative_to="one"), kernels=LIBRARY)  # pyright: ignore[reportArgumentType]
        found = coupled_newton(A, p, setting=setting)
        return found.root, found.result

    if format != "float32":
        # What a matrix unit does; the certificate, which only names the outcome, is that of a float32 program.
        root = emulate(
            root, Arithmetic(format, accumulate="float32", overrides={"certificate": "float32"}, linalg="expand")
        )
    return jax.jit(jax.vmap(root))


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one format, exponent, spectrum and size.

    Args:
        cases: of the grid.

    Returns:
        The figures of each.
    """
    first = cases[0]
    compute = program(first["format"], first["p"])
    found = []
    for start in range(0, len(cases), BATCH):
        some = cases[start : start + BATCH]
        matrices = [gallery.spd(c["n"], condition=c["condition"], spectrum=c["spectrum"], seed=c["seed"]) for c in some]
        stored = np.zeros((BATCH, first["n"], first["n"]), np.float32)  # a full batch always: no second compilation
        stored[: len(some)] = np.array(matrices)
        stored[len(some) :] = np.eye(first["n"])
        ridges = np.zeros(BATCH, np.float32)
        ridges[: len(some)] = [c["ridge"] for c in some]
        roots, results = jax.device_get(compute(jnp.asarray(stored), jnp.asarray(ridges)))
        found += [
            figures(case, A, np.asarray(S, np.float64), float(ridge), np.asarray(X, np.float64), int(result))
            for case, A, S, ridge, X, result in zip(some, matrices, stored, ridges, roots, results, strict=False)
        ]
    return found


def figures(
    case: Mapping[str, Any], A: np.ndarray, stored: np.ndarray, ridge: float, X: np.ndarray, result: int
) -> Mapping[str, Any]:
    """The bias of the ridge, the rounding error of the damped root, and the whole error.

    The bias is that of the prescribed eigenvalues, in closed form. The damped root is that of the matrix as float32
    holds it; where this has a negative eigenvalue with its ridge there is none to be approximated, and the rounding
    error is infinite. The whole error is that against the root of the matrix before it was stored.
    """
    p = case["p"]
    spectrum = gallery.SPECTRA[case["spectrum"]](case["n"], case["condition"])
    bias = ridge_bias(spectrum, p, ridge)
    w, V = np.linalg.eigh(A)
    root = spectrum_root(np.maximum(w, spectrum.min()), V, p)
    damped_w, damped_V = np.linalg.eigh(stored + ridge * np.eye(len(stored)))
    finite = bool(np.isfinite(X).all())
    rounding = (np.inf, np.inf)
    if finite and damped_w[0] > 0:
        rounding = errors(X, spectrum_root(damped_w, damped_V, p), damped_w, damped_V)
    whole = errors(X, root, np.maximum(w, 0), V) if finite else (np.inf, np.inf)
    return {
        "bias": bias.frobenius,
        "bias_update": bias.update,
        "rounding": rounding[0],
        "rounding_update": rounding[1],
        "error": whole[0],
        "error_update": whole[1],
        "result": result,
    }


def spectrum_root(w: np.ndarray, V: np.ndarray, p: int) -> np.ndarray:
    """V diag(w^{-1/p}) V^T."""
    return (V * w ** (-1 / p)) @ V.T


def errors(X: np.ndarray, F: np.ndarray, w: np.ndarray, V: np.ndarray) -> tuple[float, float]:
    """|X - F| / |F| in the Frobenius norm, and that of the update."""
    half = V * np.sqrt(w)
    return (
        float(np.linalg.norm(X - F) / np.linalg.norm(F)),
        float(np.linalg.norm((X - F) @ half) / np.linalg.norm(F @ half)),
    )
