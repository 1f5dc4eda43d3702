"""JAX's opaque linear algebra as loops of plain operations.

`Arithmetic(..., linalg="expand")` puts for each primitive in `EXPANSIONS` the loop form of `precond_lab.linalg`, which
computes the same thing in the layout of the primitive, and emulates that. The algorithms are those of the loop forms
and not of LAPACK: results agree up to rounding errors and, where the mathematics leaves them open, up to the signs of
eigenvectors and singular vectors. An empty operand has nothing to round and is left to JAX.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from precond_lab import linalg
from precond_lab.arithmetic.machine import Machine, State
from precond_lab.arithmetic.primitives import Kind
from precond_lab.interpreter import Operation, Rule, Walk
from precond_lab.linalg.orthogonal import unpack

ADVICE = (
    'refused: its roundings are hidden in a library routine; use Arithmetic(..., linalg="expand"), which emulates a '
    "loop of plain operations in its place, or call the loop forms in precond_lab.linalg"
)
"""What a refusal says of a primitive that could be expanded."""

HIDDEN = {
    "approx_top_k": "its results are not determined by the program; use jax.lax.top_k",
    "eig": "the eigenvalues of a general matrix are complex numbers, which are not emulated",
    "geqp3": "its second operand may fix columns; use jax.scipy.linalg.qr(pivoting=True)",
    "hessenberg": "it has no loop form in precond_lab.linalg",
    "schur": "it has no loop form in precond_lab.linalg",
    "tridiagonal": "it has no loop form in precond_lab.linalg; jax.scipy.linalg.eigh is expanded whole",
}
"""Opaque linear algebra that is refused whatever the arithmetic says, with the reason."""


def rule_of(machine: Machine, operation: Operation) -> Rule:
    """The rule of an opaque primitive.

    Args:
        machine: the arithmetic at work, which says whether linear algebra is expanded.
        operation: one that hides its roundings.

    Returns:
        A rule as `interpreter.run` calls it: `expand`.

    Raises:
        UnsupportedPrimitiveError: the arithmetic asks for a refusal, or there is no loop form.
    """
    why = _refusal(operation)
    if why is None and machine.arithmetic.linalg == "expand":
        return functools.partial(expand, machine)
    raise operation.refuse("emulate", ADVICE if why is None else why)


def _refusal(operation: Operation) -> str | None:
    """Why a primitive, or this use of it, is never expanded; None where it is."""
    if operation.params.get("perturb_singular"):
        return "perturb_singular=True asks for a pivot of the size of the dtype's own roundings; leave it False"
    if operation.name in EXPANSIONS or operation.name == "custom_linear_solve":
        return None
    why = HIDDEN.get(operation.name)
    return f"refused: {why}" if why else Kind.OPAQUE.value


def expand(machine: Machine, operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Run the loop form of an opaque primitive in the arithmetic at work.

    Args:
        machine: the arithmetic.
        operation: a custom linear solve, or one whose name is in `EXPANSIONS`.
        operands: its operands, those of floating point in the carrier.
        state: before the operation.
        walk: runs a jaxpr in this arithmetic.

    Returns:
        The results of the primitive and the state after them.
    """
    if operation.name == "custom_linear_solve":
        return _custom_linear_solve(operation, operands, state, walk)
    if not all(math.prod(x.shape) for x in operation.inputs):
        return operation.bind(*operands), state
    return walk(_traced(operation.name, tuple(operation.params.items()), operation.inputs), operands, state)


@functools.cache
def _traced(name: str, params: tuple, inputs: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    return jax.make_jaxpr(functools.partial(EXPANSIONS[name], **dict(params)))(*inputs)


def _custom_linear_solve(operation: Operation, operands: list, state: State, walk: Walk) -> tuple[list, State]:
    """Walk the solver that it holds; the products beside it serve derivatives, which JAX takes before or after."""
    lengths = operation.params["const_lengths"]
    first = lengths.matvec + lengths.vecmat
    last = first + lengths.solve + lengths.transpose_solve
    constants = operands[first : first + lengths.solve]
    return walk(operation.params["jaxprs"].solve, [*constants, *operands[last:]], state)


def _batched(of_matrices: Callable, *ranks: int) -> Callable:
    """The function for operands with further leading axes, all the same; `ranks` are those of one case."""

    def over_batches(*operands: jax.Array, **params: Any) -> list:
        leading = operands[0].ndim - ranks[0]
        f = functools.partial(of_matrices, **params)
        for _ in range(leading):
            f = jax.vmap(f)
        return f(*operands)

    return over_batches


def _cholesky(A: jax.Array) -> list:
    """NaN all over where a pivot is not positive, as JAX has it."""
    L = linalg.cholesky(A)
    index = jnp.arange(A.shape[0])
    return [jnp.where(jnp.all(L[index, index] > 0), L, jnp.nan)]


def _triangular_solve(
    T: jax.Array,
    B: jax.Array,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,  # of real numbers
    unit_diagonal: bool,
) -> list:
    """X T = B is T^T X^T = B^T."""
    if left_side:
        return [linalg.solve_triangular(T, B, lower=lower, transpose=transpose_a, unit_diagonal=unit_diagonal)]
    X = linalg.solve_triangular(T, B.T, lower=lower, transpose=not transpose_a, unit_diagonal=unit_diagonal)
    return [X.T]


def _lu(A: jax.Array) -> list:
    factors, pivots, permutation = linalg.lu(A)
    return [factors, pivots.astype(jnp.int32), permutation.astype(jnp.int32)]


def _geqrf(A: jax.Array) -> list:
    factors, taus, _ = linalg.householder(A)
    return [factors, taus]


def _qr(A: jax.Array, *, pivoting: bool, full_matrices: bool, use_magma: bool | None) -> list:
    reflectors = linalg.householder(A, pivoting=pivoting)
    Q, R = unpack(reflectors, full=full_matrices)
    return [Q, R, reflectors.permutation.astype(jnp.int32)] if pivoting else [Q, R]


def _householder_product(A: jax.Array, taus: jax.Array) -> list:
    return [linalg.apply_reflectors(A, taus, jnp.eye(*A.shape, dtype=A.dtype))]


def _ormqr(A: jax.Array, taus: jax.Array, C: jax.Array, *, left: bool, transpose: bool) -> list:
    """C Q is (Q^T C^T)^T."""
    if left:
        return [linalg.apply_reflectors(A, taus, C, transpose=transpose)]
    return [linalg.apply_reflectors(A, taus, C.T, transpose=not transpose).T]


def _eigh(
    A: jax.Array, *, lower: bool, sort_eigenvalues: bool, subset_by_index: tuple[int, int] | None, algorithm: Any
) -> list:
    values, vectors = linalg.eigh(A if lower else A.T)
    chosen = slice(*(subset_by_index or (None,)))
    return [vectors[:, chosen], values[chosen]]


def _svd(
    A: jax.Array,
    *,
    full_matrices: bool,
    compute_uv: bool,
    subset_by_index: tuple[int, int] | None,
    algorithm: Any = None,
) -> list:
    U, s, Vt = linalg.svd(A, full=full_matrices and compute_uv)
    if subset_by_index is not None:
        chosen = slice(*subset_by_index)
        U, s, Vt = (U, s[chosen], Vt) if full_matrices else (U[:, chosen], s[chosen], Vt[chosen])
    return [s, U, Vt] if compute_uv else [s]


def _tridiagonal_solve(
    lower: jax.Array, diagonal: jax.Array, upper: jax.Array, B: jax.Array, *, perturb_singular: bool = False
) -> list:
    return [linalg.tridiagonal_solve(lower, diagonal, upper, B)]


def _symmetric_product(A: jax.Array, C: jax.Array, *, alpha: float, beta: float) -> list:
    return [alpha * (A @ A.T) + beta * C]


EXPANSIONS: dict[str, Callable] = {
    "cholesky": _batched(_cholesky, 2),
    "eigh": _batched(_eigh, 2),
    "geqrf": _batched(_geqrf, 2),
    "householder_product": _batched(_householder_product, 2, 1),
    "lu": _batched(_lu, 2),
    "ormqr": _batched(_ormqr, 2, 1, 2),
    "qr": _batched(_qr, 2),
    "svd": _batched(_svd, 2),
    "symmetric_product": _batched(_symmetric_product, 2, 2),
    "triangular_solve": _batched(_triangular_solve, 2, 2),
    "tridiagonal_solve": _batched(_tridiagonal_solve, 1, 1, 1, 2),
}
"""For each primitive a function `(*operands, **params) -> list of results` of plain operations."""
