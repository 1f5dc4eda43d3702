"""Roots by schedules of formats, and their errors."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from precond_lab import Arithmetic, emulate, gallery
from precond_lab.preconditioners import inverse_root as ir
from precond_lab.preconditioners.inverse_root.minimax import taylor
from precond_lab.preconditioners.inverse_root.schedules import schedule_of

from .cases import MATRICES, ROUNDOFF, SPECTRUM

BATCH = 8
"""Cases that are computed at once."""
DIGITS = 4
"""Of the figures in a row."""
WORKS = 0.5
"""An error below which a root is one."""
LOWER = 2.0**-20
"""The lower bound of the eigenvalues that a schedule of polynomials is told."""
SAFETY, MOST_SAFETY = 1.1, 1.5
"""What it allows for in their upper bound, besides rounding; at most the latter with it."""


Carrier = Literal["float32", "float64"]


class Problem(NamedTuple):
    """Matrices of one condition number and one spectrum.

    Attributes:
        stored: the matrices as the program gets them, ``[k, n, n]``.
        values: their eigenvalues, ascending, ``[k, n]``, float64.
        vectors: their eigenvectors, ``[k, n, n]``.
    """

    stored: np.ndarray
    values: np.ndarray
    vectors: np.ndarray


@cache
def problem(n: int, condition: float, spectrum: str, dtype: str) -> Problem:
    """The matrices of a case; in exact terms those that the dtype holds, of which eigenvalues are known to float64."""
    drawn = [gallery.spd(n, condition=condition, spectrum=spectrum, seed=seed) for seed in range(MATRICES)]
    stored = np.array(drawn).astype(dtype)
    return Problem(stored, *np.linalg.eigh(stored.astype(np.float64)))


def distances(X: np.ndarray, of: Problem, p: int) -> np.ndarray:
    """Errors relative to the roots in the 2-norm, ``[k]``; infinite for what is no number."""
    finite = np.asarray(np.isfinite(X).all(axis=(-2, -1)))
    X = np.where(finite[:, None, None], X, 0).astype(np.float64)
    D = np.swapaxes(of.vectors, -2, -1) @ X @ of.vectors
    roots = of.values ** (-1 / p)
    D -= roots[:, None, :] * np.eye(X.shape[-1])
    return np.where(finite, np.linalg.norm(D, 2, axis=(-2, -1)) / roots.max(axis=-1), np.inf)


def rounded(x: float) -> float:
    """A figure of as many digits as a row has room for."""
    return float(f"{x:.{DIGITS}g}")


def summary(errors: np.ndarray, steps: np.ndarray) -> dict[str, Any]:
    """What a row says of several matrices: the median error and the largest, how many roots are none, the steps."""
    return {
        "error": rounded(np.median(errors)),
        "most": rounded(errors.max()),
        "failed": int((~(errors < WORKS)).sum()),
        "taken": rounded(np.median(steps)),
    }


def in_batches(compute: Callable, arguments: Sequence[Sequence[np.ndarray]]) -> list[Any]:
    """Results of a compiled program of whole batches, case by case.

    Args:
        compute: takes arrays whose first axis is that of matrices, in batches of one size: no second compilation.
        arguments: of each case, the first axis of MATRICES.

    Returns:
        The results of each, as NumPy arrays.
    """
    found = []
    for start in range(0, len(arguments), BATCH):
        some = list(arguments[start : start + BATCH])
        full = some + [some[-1]] * (BATCH - len(some))
        results = jax.device_get(compute(*(jnp.asarray(np.concatenate(x)) for x in zip(*full, strict=True))))
        places = [slice(i * MATRICES, (i + 1) * MATRICES) for i in range(len(some))]
        found += [jax.tree.map(lambda x, at=at: x[at], results) for at in places]
    return found


def arithmetic(format: str, outermost: Carrier) -> Arithmetic:
    """What a matrix unit does: products of matrices are summed in float32 at least, and rounded once.

    All is carried in the format of the outermost arithmetic, where that rounds every operation once; float32 in float64
    too, in which it has the digits to spare.
    """
    if format == outermost:
        return Arithmetic(format, carrier=outermost, linalg="expand")
    if format == "float32":
        return Arithmetic(format, linalg="expand")
    return Arithmetic(format, accumulate="float32", carrier="float32", linalg="expand")


def options(method: str, p: int, n: int, early: str, late: str) -> dict[str, Any]:
    """What a method has to know of the formats."""
    if method != "minimax_polynomial":
        return {}
    u = max(ROUNDOFF[early], ROUNDOFF[late])
    return {"lower": LOWER, "safety": min(SAFETY + p * u * n**0.5, MOST_SAFETY)}


@cache
def program(method: str, p: int, n: int, early: str, late: str) -> Callable:
    """A batch of roots, each with its own switch, in one compiled program.

    The matrix is prepared and its root scaled back in the wider of all formats: only the steps differ.
    """
    outermost: Carrier = "float64" if "float64" in {early, late} else "float32"

    def root(A: jax.Array, switch: jax.Array) -> tuple[jax.Array, jax.Array]:
        setting = ir.Setting(kernels=ir.LIBRARY)
        found = ir.METHODS[method](A, p, setting=setting, switch=switch, **options(method, p, n, early, late))
        return found.root, found.steps

    overrides = {"early": arithmetic(early, outermost), "late": arithmetic(late, outermost)}
    outer = Arithmetic(outermost, carrier=outermost, overrides=overrides, linalg="expand")
    return jax.jit(jax.vmap(emulate(root, outer)))


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one method, exponent, size and pair of formats.

    Args:
        cases: of the grid.

    Returns:
        The figures of each: errors, and the smallest eigenvalue of M where the format changes.
    """
    first = cases[0]
    names = ("method", "p", "n", "early", "late")
    dtype = "float64" if "float64" in {first["early"], first["late"]} else "float32"
    problems = [problem(case["n"], case["condition"], SPECTRUM, dtype) for case in cases]
    arguments = [
        (of.stored, np.full(MATRICES, case["switch"], np.int32)) for of, case in zip(problems, cases, strict=True)
    ]
    with jax.enable_x64(dtype == "float64"):
        results = in_batches(program(*(first[name] for name in names)), arguments)
    found = []
    for case, of, (X, steps) in zip(cases, problems, results, strict=True):
        smallest = smallest_eigenvalue(case, of)
        found.append(summary(distances(X, of, case["p"]), steps) | {"smallest": smallest})
    return found


def smallest_eigenvalue(case: Mapping[str, Any], of: Problem) -> float | None:
    """The smallest eigenvalue of M after the early steps, by the iteration of numbers in float64; the median.

    Args:
        case: of the grid.
        of: its matrices.

    Returns:
        The eigenvalue; None where two runs follow each other.
    """
    method, p = case["method"], case["p"]
    if method == "newton_schulz" and p > 2:
        return None
    values = of.values
    if method in {"newton_schulz", "minimax_polynomial"}:
        largest = np.abs(of.stored).sum(axis=-1).max(axis=-1)
        m = values * 2.0 ** -np.frexp(largest)[1][:, None].astype(float)
    elif method == "coupled_newton":
        m = values * (p + 1) / (2 * np.linalg.norm(values, axis=-1, keepdims=True))
    else:
        m = values / values.sum(axis=-1, keepdims=True)
    for coefficients in polynomials(case):
        m = m * np.polynomial.polynomial.polyval(1 - m, coefficients) ** p
    return rounded(np.median(m.min(axis=-1)))


def polynomials(case: Mapping[str, Any]) -> list[tuple[float, ...]]:
    """The coefficients, in powers of 1 - m, of h in M <- h(M)^p M, for each of the early steps."""
    method, p, n = case["method"], case["p"], case["n"]
    if method == "minimax_polynomial":
        told = options(method, p, n, case["early"], case["late"])
        table = schedule_of("chebyshev_accelerated", p, 2, told["lower"], told["safety"]).table
    else:
        table = (taylor(p, 2 if method == "coupled_higher_order" else 1).coefficients,)
    return [table[min(k, len(table) - 1)] for k in range(case["switch"])]
