"""Inverse roots from the eigenbasis of an earlier matrix."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.iterations import Scheme, iterated
from precond_lab.preconditioners.inverse_root.kernels import Kernels
from precond_lab.preconditioners.inverse_root.powers import matrix_power, scale
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Setting, finished, prepare
from precond_lab.preconditioners.inverse_root.spectral import first_order_root, reciprocal, unit_padding


class TrackedRoot(NamedTuple):
    r"""An approximation of A^{-1/p}, and the basis that it was computed in.

    Attributes:
        root: X, ``[n, n]``; symmetric.
        result: the code of a :class:`~precond_lab.preconditioners.inverse_root.results.Result`, an int32 scalar.
        steps: QR factorizations, an int32 scalar.
        residual: as of every root, a scalar.
        basis: orthonormal, approximate eigenvectors as columns, ``[n, n]``; to be handed to the next call.
        apart: \|C - diag C\|_F / \|C\|_F of C = Q^T A Q in the tracked basis Q, a scalar: zero for eigenvectors.
    """

    root: jax.Array
    result: jax.Array
    steps: jax.Array
    residual: jax.Array
    basis: jax.Array
    apart: jax.Array


def _congruent(B: jax.Array, Q: jax.Array, kernels: Kernels) -> jax.Array:
    C = kernels.product(Q.T, kernels.product(B, Q))
    return (C + C.T) / 2


def _apart(C: jax.Array) -> jax.Array:
    off = jnp.where(identity_like(C) == 1, 0, C)
    return jnp.sqrt(jnp.sum(off * off) / jnp.sum(C * C))


def _power(B: jax.Array, Q: jax.Array, kernels: Kernels, steps: int) -> jax.Array:
    def step(_: jax.Array, Q: jax.Array) -> jax.Array:
        P = kernels.product(B, Q)
        quotients = jnp.sum(Q * P, axis=0)
        return kernels.qr(P[:, jnp.argsort(-quotients)])[0]

    return lax.fori_loop(0, steps, step, Q)


def _qr_algorithm(B: jax.Array, Q: jax.Array, kernels: Kernels, steps: int) -> jax.Array:
    def step(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        C, Q = state
        V, R = kernels.qr(C)
        C = kernels.product(R, V)
        return (C + C.T) / 2, kernels.product(Q, V)

    return lax.fori_loop(0, steps, step, (_congruent(B, Q, kernels), Q))[1]


TRACKERS: Mapping[str, Callable[[jax.Array, jax.Array, Kernels, int], jax.Array]] = MappingProxyType({
    "power": _power,
    "qr_algorithm": _qr_algorithm,
})
"""How a basis follows the matrix, by name; functions of the matrix, the basis, the kernels and the number of steps.

================  =====================================================================================
``power``         as in SOAP: the columns of Q in descending order of their Rayleigh quotients, Q <- qr(A Q)
``qr_algorithm``  as in Meta's Shampoo: on C = Q^T A Q, C = V R, C <- R V, Q <- Q V
================  =====================================================================================

Without rounding both give the same Q up to signs, but for the order. Off-diagonal elements shrink by the ratio of
neighboring eigenvalues a step.
"""


def _quotients(C: jax.Array, p: int | jax.Array, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
    del kernels
    return jnp.where(identity_like(C) == 1, jnp.diagonal(C) ** -reciprocal(p, C), 0), identity_like(C)


def _first_order(C: jax.Array, p: int | jax.Array, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
    del kernels
    identity = identity_like(C)
    return first_order_root(jnp.diagonal(C), jnp.where(identity == 1, 0, C), p), identity


def _eigen(C: jax.Array, p: int | jax.Array, kernels: Kernels) -> tuple[jax.Array, jax.Array]:
    w, V = kernels.eigh(C)
    return kernels.product(V * w ** -reciprocal(p, w), V.T), V


Finish = Callable[[jax.Array, int | jax.Array, Kernels], tuple[jax.Array, jax.Array]]

FINISHES: Mapping[str, Finish] = MappingProxyType({
    "quotients": _quotients,
    "first_order": _first_order,
    "eigen": _eigen,
})
"""How the root is taken of C = Q^T A Q, by name; functions of C, p and the kernels that give the root and a rotation.

===============  ==================================================================================================
``quotients``    of the diagonal alone, as if Q were eigenvectors: off by the first order of what is off the diagonal
``first_order``  with that: off by the second order
``eigen``        by an eigen-decomposition of C, a correct warm start: C is congruent to A, and nearly diagonal
===============  ==================================================================================================
"""


def tracked(
    A: jax.Array,
    p: int | jax.Array = 2,
    *,
    basis: jax.Array | None = None,
    setting: Setting = DEFAULTS,
    tracker: str = "power",
    steps: int = 1,
    finish: str = "eigen",
) -> TrackedRoot:
    r"""A^{-1/p} in a basis that follows the eigenvectors from one matrix to the next.

    In the way of SOAP and of Meta's Shampoo a few QR steps turn the basis of an earlier matrix towards the eigenvectors
    of this one; C = Q^T A Q is then nearly diagonal and its root gives that of A, X = Q C^{-1/p} Q^T. That is so for
    any orthonormal Q, however far from eigenvectors: the basis is a warm start that cannot lead astray, unlike
    :func:`warm_started_newton`. With `finish` = "quotients" it is not exact, but what these codes do.

    Rounding: C has errors of c n u \|A\|_2, in the small eigenvalues as in the large, as in an eigen-decomposition.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer, which may be traced.
        basis: of an earlier matrix, ``[n, n]``; None for the identity.
        setting: ridge, padding, tolerance, kernels.
        tracker: a name in TRACKERS.
        steps: of the tracker; may be 0.
        finish: a name in FINISHES.

    Returns:
        The root with its basis, which is Q V where the finish has rotated it by V. Cost of a step: a QR factorization
        and a product or two; three products and the finish.

    Raises:
        ValueError: for an unknown tracker or finish, a negative number of steps, a basis of another shape, or a p that
            is no positive integer.
        TypeError: for a basis of another dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> found = tracked(jnp.diag(jnp.array([4.0, 16.0])), 2)
        >>> [round(x, 5) for x in jnp.diagonal(found.root).tolist()]
        [0.5, 0.25]
    """
    if tracker not in TRACKERS or finish not in FINISHES:
        raise ValueError(
            f"the tracker {tracker!r} and the finish {finish!r} given; known are {', '.join(TRACKERS)}, "
            f"and {', '.join(FINISHES)}"
        )
    if steps < 0:
        raise ValueError(f"steps = {steps} given; at least 0 are wanted")
    p, kernels = whole_exponent(p), setting.kernels
    problem = prepare(A, setting)
    Q = _like(problem.B, identity_like(problem.B) if basis is None else basis, "basis")
    Q = TRACKERS[tracker](problem.B, Q, kernels, steps)
    C = _congruent(problem.B, Q, kernels)
    Y, V = FINISHES[finish](C, p, kernels)
    X = kernels.product(kernels.product(Q, Y), Q.T)
    found = finished(
        problem, Iterate(unit_padding(X, problem), jnp.int32(steps), jnp.int32(Result.CONVERGED)), p, setting
    )
    return TrackedRoot(*found, kernels.product(Q, V) if finish == "eigen" else Q, _apart(C))


def _like(B: jax.Array, earlier: jax.Array, what: str) -> jax.Array:
    """What an earlier call has left, which has to fit the matrix."""
    earlier = jnp.asarray(earlier)
    if earlier.shape != B.shape:
        raise ValueError(f"a {what} of shape {earlier.shape} given for a matrix of shape {B.shape}; they must agree")
    if earlier.dtype != B.dtype:
        raise TypeError(f"a {what} of {earlier.dtype} given for a matrix of {B.dtype}; convert one of them")
    return earlier


def warm_started_newton(
    A: jax.Array,
    p: int | jax.Array = 2,
    *,
    previous: jax.Array,
    setting: Setting = DEFAULTS,
    steps: int = 100,
) -> InverseRoot:
    r"""The coupled Newton iteration from an earlier root: WRONG, and kept to show why.

    X_0 = F, the inverse root of an earlier matrix, and M_0 = X_0^p A. The iteration keeps M = X^p A only where X_0 and
    A commute, which they do if F is that of the same matrix, or X_0 a multiple of the identity. Else it converges as
    fast as ever, M to the identity, and X to a matrix that is off by about the commutator: a matrix that has changed by
    0.1 % gets a root that is off by as much or more, after three steps that look perfect. For larger condition numbers
    M_0 has eigenvalues above p + 1, and it diverges. The certificate tells; \|M - I\| does not. For a warm start that
    is right use :func:`tracked`.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer; it may be traced.
        previous: the root of an earlier matrix, ``[n, n]``.
        setting: ridge, padding, tolerance, kernels.
        steps: at most so many.

    Returns:
        What it converges to.

    Raises:
        ValueError: for a previous root of another shape, or a p that is no positive integer.
        TypeError: for one of another dtype.
    """
    p, product = whole_exponent(p), setting.kernels.product
    problem = prepare(A, setting)
    previous = _like(problem.B, previous, "previous root")
    # The root of 2^-e A from that of A.
    whole, rest = jnp.divmod(problem.exponent, p)
    factor = jnp.exp2(rest.astype(previous.dtype) * reciprocal(p, previous))
    X = unit_padding(scale(previous, whole) * factor, problem)

    def advance(state: tuple) -> tuple:
        X, M = state
        T = ((p + 1) * identity_like(M) - M) / p
        return product(X, T), product(matrix_power(T, p, product), M)

    def error(state: tuple) -> jax.Array:
        D = state[1] - identity_like(state[1])
        return jnp.sqrt(jnp.sum(D * D))

    scheme = Scheme(advance, error, lambda state: state[0])
    start = X, product(matrix_power(X, p, product), problem.B)
    return finished(problem, iterated(scheme, scheme, start, steps, 0), p, setting)
