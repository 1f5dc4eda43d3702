"""Every way to carry an inverse through updates of rank one, as its textbook has it.

One algorithm, many scalars: a step is written once, over object arrays of rationals, where it is exact, or of mpmath
numbers, which those with square roots need. Nothing here knows how the programs of the package do it.

Throughout C <- beta C + alpha v v^T, P = C^{-1}, tau = beta / alpha, w = P v, s = v^T w.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.truth.rank_one.factorizations import (
    cholesky,
    context_of,
    identity,
    inverse,
    ldl,
    published,
    root,
    scalars,
    solve,
    udu,
)

Arrays = tuple[Any, ...]
"""The state of a recursion, as the comment of its step says."""


class Definition(NamedTuple):
    """A recursion over exact scalars.

    Attributes:
        start: from C_0 ``[n, n]`` the first state.
        step: from a state, v ``[n]``, beta and alpha the next state.
        inverse: from a state the P ``[n, n]`` that it stands for.
        roots: whether square roots are taken, which rationals have not.
        accumulates: whether P is the inverse of what is accumulated; otherwise the rule is another one.
    """

    start: Callable[[np.ndarray], Arrays]
    step: Callable[[Arrays, np.ndarray, Any, Any], Arrays]
    inverse: Callable[[Arrays], np.ndarray]
    roots: bool = False
    accumulates: bool = True


def gain(P: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """Recursive least squares: k = w / (tau + s), P <- (P - k w^T) / beta."""
    w = P @ v
    k = w / (beta / alpha + v @ w)
    return (P - np.outer(k, w)) / beta


def outer(P: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """Sherman and Morrison: (beta C)^{-1} - (beta C)^{-1} v v^T (beta C)^{-1} / (1 / alpha + v^T (beta C)^{-1} v)."""
    Q = P / beta
    q = Q @ v
    return Q - np.outer(q, q) / (1 / alpha + v @ q)


def symmetric(P: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """The same, entry by entry in one triangle."""
    n, result = len(P), P.copy()
    w = [sum(P[max(i, j), min(i, j)] * v[j] for j in range(n)) for i in range(n)]
    d = beta / alpha + sum(v[i] * w[i] for i in range(n))
    for i in range(n):
        for j in range(i + 1):
            result[i, j] = result[j, i] = (P[i, j] - w[i] * w[j] / d) / beta
    return result


def both_sided(P: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """For any square P: P v and v^T P apart."""
    left, right = P @ v, P.T @ v
    return (P - np.outer(left, right) / (beta / alpha + v @ left)) / beta


def joseph(P: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """Joseph: ((I - k v^T) P (I - k v^T)^T + tau k k^T) / beta."""
    tau = beta / alpha
    k = P @ v / (v @ P @ v + tau)
    A = identity(P) - np.outer(k, v)
    return (A @ P @ A.T + tau * np.outer(k, k)) / beta


def woodbury(P: np.ndarray, V: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """Woodbury, for the rows of V ``[k, n]``, or for one ``[n]``: P - P V^T (tau I + V P V^T)^{-1} V P, by beta."""
    W = np.atleast_2d(V) @ P
    capacitance = W @ np.atleast_2d(V).T
    capacitance = capacitance + beta / alpha * identity(capacitance)
    return (P - W.T @ solve(capacitance, W)) / beta


def potter(S: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """Potter: P = S S^T, f = S^T v, d = tau + f^T f, S <- (S - (S f) f^T / (d + sqrt(tau d))) / sqrt(beta)."""
    tau, f = beta / alpha, S.T @ v
    d = tau + f @ f
    return (S - np.outer(S @ f, f) / (d + root(tau * d))) / root(beta)


def bierman(U: np.ndarray, d: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> tuple[np.ndarray, np.ndarray]:
    """Bierman: P = U D U^T, column by column (Factorization Methods for Discrete Sequential Estimation, 1977)."""
    f = U.T @ v
    g, k, U = d * f, 0 * d, U.copy()
    total, after = beta / alpha, d.copy()
    for j in range(len(d)):
        before = total
        total = before + f[j] * g[j]
        after[j] = d[j] * before / (total * beta)
        column = U[:, j].copy()
        U[:j, j] = column[:j] - f[j] / before * k[:j]
        k = k + g[j] * column
    return U, after


def gill(L: np.ndarray, d: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> tuple[np.ndarray, np.ndarray]:
    """Gill, Golub, Murray and Saunders, method C1: L D L^T of beta C + alpha v v^T; alpha may be negative."""
    L, d, v = L.copy(), d * beta, v.copy()
    for j in range(len(d)):
        p = v[j]
        after = d[j] + alpha * p * p
        factor = alpha * p / after
        alpha = alpha * d[j] / after
        d[j] = after
        for i in range(j + 1, len(d)):
            v[i] = v[i] - p * L[i, j]
            L[i, j] = L[i, j] + factor * v[i]
    return L, d


def givens(L: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> np.ndarray:
    """The Cholesky factor of beta C + alpha v v^T: rotations take [sqrt(beta) L, sqrt(alpha) v] to [L, 0]."""
    L, x = root(beta) * L, root(alpha) * v
    for j in range(len(x)):
        length = root(L[j, j] ** 2 + x[j] ** 2)
        c, s = L[j, j] / length, x[j] / length
        L[:, j], x = c * L[:, j] + s * x, c * x - s * L[:, j]
    return L


def scaled(d: np.ndarray, H: np.ndarray, v: np.ndarray, beta: Any, alpha: Any) -> tuple[np.ndarray, np.ndarray]:
    """P = D H D with a unit diagonal of H, the correlations."""
    return correlations(outer(d[:, None] * H * d, v, beta, alpha))


def correlations(P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The roots of the diagonal of P, and P scaled by them."""
    d = np.array([root(x) for x in np.diag(P)], dtype=object)
    return d, P / np.outer(d, d)


def refreshed(C: np.ndarray, P: np.ndarray, t: int, v: np.ndarray, beta: Any, alpha: Any) -> Arrays:
    """C beside P, which every third step is solved for anew."""
    C = beta * C + alpha * np.outer(v, v)
    return C, inverse(C) if t % 3 == 2 else outer(P, v, beta, alpha), t + 1


def mkor_printed(J: np.ndarray, v: np.ndarray, gamma: Any, alpha: Any) -> np.ndarray:
    """MKOR as printed, which is no inverse of anything: the sign, gamma for 1 / gamma, and the weight are others.

    J <- gamma J + (1 - gamma) / (gamma^2 (1 + gamma (1 - gamma) v^T J v)) J v v^T J (Mozaffari et al., NeurIPS 2023,
    Algorithm 1); alpha stands for 1 - gamma.
    """
    w = J @ v
    return gamma * J + alpha / (gamma**2 * (1 + gamma * alpha * (v @ w))) * np.outer(w, w)


def mkor_released(J: np.ndarray, v: np.ndarray, gamma: Any, alpha: Any) -> np.ndarray:
    """MKOR as released: gamma J + (1 - gamma) I, then Sherman and Morrison with v; alpha stands for 1 - gamma."""
    return outer(gamma * J + alpha * identity(J), v, 1 + 0 * gamma, 1 + 0 * gamma)


def _definition(
    start: Callable[[np.ndarray], Any],
    step: Callable[..., Any],
    inverse: Callable[..., np.ndarray],
    *,
    roots: bool = False,
    accumulates: bool = True,
) -> Definition:
    """Functions of the arrays of a state as functions of the state, a tuple."""

    def state_of(arrays: Any) -> Arrays:
        return arrays if isinstance(arrays, tuple) else (arrays,)

    return Definition(
        start=lambda C: state_of(start(C)),
        step=lambda state, v, beta, alpha: state_of(step(*state, v, beta, alpha)),
        inverse=lambda state: inverse(*state),
        roots=roots,
        accumulates=accumulates,
    )


def _dense(step: Callable[..., np.ndarray], *, accumulates: bool = True) -> Definition:
    return _definition(inverse, step, lambda P: P, accumulates=accumulates)


RECURSIONS: Mapping[str, Definition] = MappingProxyType({
    "gain": _dense(gain),
    "outer": _dense(outer),
    "symmetric": _dense(symmetric),
    "both_sided": _dense(both_sided),
    "joseph": _dense(joseph),
    "woodbury": _dense(woodbury),
    "refreshed": _definition(lambda C: (C, inverse(C), 0), refreshed, lambda C, P, t: P),
    "bierman_ud": _definition(lambda C: udu(inverse(C)), bierman, lambda U, d: U * d @ U.T),
    "ldl": _definition(ldl, gill, lambda L, d: inverse(L * d @ L.T)),
    "potter": _definition(lambda C: inverse(cholesky(C)).T, potter, lambda S: S @ S.T, roots=True),
    "information_cholesky": _definition(cholesky, givens, lambda L: inverse(L @ L.T), roots=True),
    "scaled": _definition(lambda C: correlations(inverse(C)), scaled, lambda d, H: d[:, None] * H * d, roots=True),
    "mkor_printed": _dense(mkor_printed, accumulates=False),
    "mkor_released": _dense(mkor_released, accumulates=False),
})
"""Recursions by name; beta and alpha are gamma and 1 - gamma to the two of MKOR."""


def recurred(
    name: str, C0: ArrayLike, V: ArrayLike, beta: Any, alpha: Any = None, *, digits: int | None = None
) -> np.ndarray:
    """The P of a recursion after all the steps of a stream.

    Args:
        name: of a recursion in RECURSIONS.
        C0: the first matrix, symmetric positive definite ``[n, n]``, or its diagonal ``[n]``; taken exactly.
        V: the vectors, ``[steps, n]``; for "woodbury" ``[steps, k, n]`` too.
        beta: the decay.
        alpha: the weight; exactly 1 - beta where None.
        digits: of mpmath's numbers; None for rationals, whose digits grow with the steps.

    Returns:
        P, ``[n, n]`` of Fraction, or of mpmath numbers.

    Raises:
        ValueError: for an unknown name, numbers that are not finite, beta not positive, or alpha zero.
        TypeError: for rationals where square roots are taken.

    Example:
        >>> [str(x) for x in recurred("bierman_ud", [2, 1], [[0, 2], [1, 1]], 1, 1).ravel()]
        ['6/17', '-1/17', '-1/17', '3/17']
    """
    if name not in RECURSIONS:
        raise ValueError(f"unknown recursion {name!r}; known are {', '.join(RECURSIONS)}")
    definition = RECURSIONS[name]
    if definition.roots and digits is None:
        raise TypeError(f"{name} takes square roots, which rationals have not; give digits")
    context = None if digits is None else context_of(digits)
    C, vectors, decay = (scalars(x, context) for x in (C0, V, beta))
    if C.ndim == 1:
        C = np.diag(C) + 0 * np.outer(C, C)
    weight = 1 - decay.item() if alpha is None else scalars(alpha, context).item()
    if not (decay > 0 and weight != 0):
        raise ValueError(f"beta = {beta} and alpha = {alpha} given; beta must be positive, and alpha not zero")
    state = definition.start(C)
    for v in vectors:
        state = definition.step(state, v, decay.item(), weight)
    P = definition.inverse(state)
    return P if context is None else published(P)
