r"""Bounds, in the order of symmetric matrices, of an inverse that is updated and rounded for ever.

**Theorem.** Let P_0 be positive definite, and each computed P_t = X_t + E_t, where X_t is the exact image of P_{t-1}:
X_t^{-1} = beta P_{t-1}^{-1} + alpha v_t v_t^T. If -eta_t X_t <= E_t <= eta_t X_t with eta_t < 1, then every P_t is
positive definite, and C_t^(-) <= P_t^{-1} <= C_t^(+), where both start from P_0^{-1} and

    C_t^(+-) = (beta C_{t-1}^(+-) + alpha v_t v_t^T) / (1 -+ eta_t).

**Proof.** By induction. P_{t-1} > 0 makes X_t > 0. Then (1 - eta_t) X_t <= P_t <= (1 + eta_t) X_t, so P_t > 0 and
X_t^{-1} / (1 + eta_t) <= P_t^{-1} <= X_t^{-1} / (1 - eta_t); put in the bounds of P_{t-1}^{-1}.

**What follows.** With C_t the exact recursion from P_0^{-1}, prod (1 + eta_k)^{-1} C_t <= P_t^{-1} <= prod (1 -
eta_k)^{-1} C_t over k <= t. C^(+) forgets at the rate beta / (1 - eta): for bounded v it stays bounded if
eta < 1 - beta, and E_t = -eta X_t attains it, so that for eta >= 1 - beta nothing better can be said. Where the
v_t v_t^T have a mean, the fixed points of the means of C^(+) and C^(-) differ from that of C by the factors
1 + eta / (1 - beta - eta) and 1 - eta / (1 - beta + eta). Relative to C_t nothing stays bounded unless the v_t excite
all directions: along one that they leave alone C_t^(+) / C_t is (1 - eta)^{-t} for any eta > 0.

**A priori.** One rounding to nearest of all entries has |E|_2 <= u | |X| |_2. A positive definite X is
|X|_2 (I + Y) / 2 with |Y|_2 <= 1, and | |Y| |_2 <= |Y|_F <= n^{1/2}, so | |X| |_2 <= |X|_2 (1 + n^{1/2}) / 2 and
eta <= q kappa(X), q = u (1 + n^{1/2}) / 2. By the theorem on rounding, also eta <= u | |H| |_2 / lambda_min(H).

**MKOR as released.** X = J~ - J~ v v^T J~ / (1 + v^T J~ v), J~ = (1 - r) J + r I, has X^{-1} = J~^{-1} + v v^T. From
0 <= J <= g I follows r I <= J~ <= g~ I, g~ = (1 - r) g + r, so I / (1 / r + |v|^2) <= X <= g~ I; with g = 1, exactly,
kappa(J) <= 1 / r + |v|^2. If X is rounded once with |E|_2 <= q |X|_2, then the next J is at most (1 + q) g~ I. For
(1 - r)(1 + q) < 1 that stays below its fixed point g = (1 + q) r / (1 - (1 - r)(1 + q)), and J is positive definite for
ever if q g~ (1 / r + max |v|^2) < 1.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.arithmetic.formats import Format, named
from precond_lab.diagnosis.certainty import certainty, settled
from precond_lab.diagnosis.rank_one_enclosures import (
    TINY,
    exact_floats,
    extreme_eigenvalues,
    row_sums,
    slack,
    symmetric_floats,
    unit_diagonal,
)

_MODERATE = 2.0**200


class OrderCertificate(NamedTuple):
    """How far the steps of a trajectory were from exact ones; arrays ``[...]`` for a batch of trajectories.

    Attributes:
        verdict: CERTIFIED: P_0 is positive definite and eta_t < 1 in every step, so that the sandwich holds. LOST: a
            state is not positive definite, or not finite. UNDECIDED: neither is proved.
        margin: 1 / max eta_t; above one where CERTIFIED.
        bounded_margin: (1 - beta) / max eta_t; above one where the upper bound stays bounded.
        inflation: of the fixed point of the mean of C^(+): max eta / (1 - beta - max eta), or infinite.
        eta: upper bounds of eta_t, ``[..., T]``; infinite where none is known.
        states: as given.
        V: as given.
        beta: as given.
        alpha: as given, or 1 - beta.
    """

    verdict: Any
    margin: Any
    bounded_margin: Any
    inflation: Any
    eta: np.ndarray
    states: ArrayLike
    V: ArrayLike
    beta: ArrayLike
    alpha: ArrayLike


class RecursionCertificate(NamedTuple):
    """What a recursion keeps for ever, before it is run; arrays where the arguments were.

    Attributes:
        verdict: CERTIFIED: positive definite for all t, as long as the hypothesis on kappa, or on |v|^2, holds.
        margin: 1 / eta; above one where CERTIFIED.
        bounded_margin: by what factor eta lies below the threshold of boundedness.
        inflation: of the bounds: eta / (1 - beta - eta), or g - 1 of MKOR; infinite beyond the threshold.
        eta: the bound of the relative error of a step.
        kappa: the bound of the condition of a step's exact result.
        format: of storage.
        n: order of the matrix.
    """

    verdict: Any
    margin: Any
    bounded_margin: Any
    inflation: Any
    eta: Any
    kappa: Any
    format: Format
    n: int


def order_certificate(
    states: ArrayLike, V: ArrayLike, beta: ArrayLike, alpha: ArrayLike | None = None
) -> OrderCertificate:
    """Certificate B2, after the fact: eta_t of every step of a computed trajectory.

    Args:
        states: P_0, ..., P_T as stored, symmetric, ``[..., T + 1, n, n]``, of floats of at most 64 bits.
        V: the vectors of the steps between them, ``[..., T, n]``.
        beta: decay in (0, 1], ``[...]``: the exact recursion is that of this very float.
        alpha: weight, positive, ``[...]``; 1 - beta in float64 where None.

    Returns:
        The certificate. Cost: O(n^3) for each step. Where kappa(X_t) 2^-53 n^2 is not small beside eta_t, the bound of
        eta_t is that large.

    Raises:
        TypeError: if an argument is not of real floats of at most 64 bits.
        ValueError: if the shapes do not fit, a state is not symmetric, or beta or alpha not positive.

    Example:
        >>> states = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.25]]]  # exactly, the last number is 2
        >>> certificate = order_certificate(states, [[1.0, 0.0]], 0.5)
        >>> certificate.verdict.value, certificate.eta.round(9).tolist(), round(certificate.inflation, 9)
        ('certified', [0.125], 0.333333333)
    """
    P, x = symmetric_floats(states), exact_floats(V, "V")
    b, a = _weights(beta, alpha)
    if P.ndim < 3 or x.ndim < 2 or x.shape[-1] != P.shape[-1] or x.shape[-2] != P.shape[-3] - 1 or not x.shape[-2]:
        raise ValueError(
            f"states of shape {P.shape} and V of {x.shape} given; wanted [..., T + 1, n, n] and [..., T, n]"
        )
    shape = np.broadcast_shapes(P.shape[:-3], x.shape[:-2], b.shape)
    b, a = np.broadcast_to(b, shape), np.broadcast_to(a, shape)
    unit = unit_diagonal(P)
    least = extreme_eigenvalues(unit.H, unit.radius)
    lost = (unit.broken | (least.least_upper < 0)).any(-1)
    usable = ~(unit.broken[..., :-1] | unit.broken[..., 1:]) & np.isfinite(x).all(-1)
    eta = np.where(usable, _relative_errors(P, np.where(usable[..., None], x, 0.0), b, a, unit.exponents), np.inf)
    largest = eta.max(-1)
    certified = ~unit.broken[..., 0] & (least.least_lower[..., 0] > 0) & (largest < 1)
    with np.errstate(all="ignore"):
        room = (1 - b) / largest
        inflation = np.where(room > 1, largest / np.where(room > 1, 1 - b - largest, 1.0), np.inf)
        margin = np.where(lost, -np.inf, 1 / largest)
    verdict, a = certainty(certified, lost), settled(a)
    margin, room, inflation = (settled(y) for y in (margin, room, inflation))
    return OrderCertificate(verdict, margin, room, inflation, eta, states, V, beta, a)


def _relative_errors(P: np.ndarray, V: np.ndarray, beta: np.ndarray, alpha: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Upper bounds of |X^{-1/2} (P_t - X_t) X^{-1/2}|_2, each step scaled, exactly, by the 2^k of its start."""
    n, k = P.shape[-1], k[..., :-1, :]
    b, a = beta[..., None, None, None], alpha[..., None, None, None]
    pairs = -k[..., :, None] - k[..., None, :]
    with np.errstate(all="ignore"):
        before, after, v = np.ldexp(P[..., :-1, :, :], pairs), np.ldexp(P[..., 1:, :, :], pairs), np.ldexp(V, k)
        w = (before @ v[..., None])[..., 0]
        of_w = slack(n + 2) * (np.abs(before) @ np.abs(v)[..., None])[..., 0] + TINY
        s, size = (v * w).sum(-1), (np.abs(v) * (np.abs(w) + of_w)).sum(-1)
        of_s = (np.abs(v) * of_w).sum(-1) + slack(n + 2) * size + TINY
        d = (b[..., 0, 0] + a[..., 0, 0] * s)[..., None, None]
        of_d = (a[..., 0, 0] * of_s)[..., None, None] + slack(4) * (np.abs(d) + a * size[..., None, None])
        wide = np.abs(w) + of_w
        outer, widest = w[..., :, None] * w[..., None, :], wide[..., :, None] * wide[..., None, :]
        X = (before - a * outer / d) / b
        least = d - of_d
        of_outer = (widest - np.abs(outer) + slack(4) * widest) / least + widest * of_d / (least * np.abs(d))
        of_X = (a * of_outer + slack(6) * (np.abs(before) + a * widest / least)) / b * (1 + slack(12)) + TINY
        # What float64 cannot hold in its stride is given up.
        good = (least > 0).all((-1, -2)) & (np.abs(X).max((-1, -2)) > _MODERATE**-1)
        for M in (X, of_X, after):
            good &= (np.abs(M) < _MODERATE).all((-1, -2))
    grid = good[..., None, None]
    X, of_X = np.where(grid, X, np.eye(n)), np.where(grid, of_X, 0.0)
    E = np.where(grid, after, X) - X
    E, X = (E + E.swapaxes(-1, -2)) / 2, (X + X.swapaxes(-1, -2)) / 2
    of_E = of_X + slack(4) * (np.abs(E) + np.abs(X))
    values, Q = np.linalg.eigh(X)
    # Where X is not positive definite T is something, of_identity large, and nothing is certified.
    T = (Q / np.sqrt(np.maximum(values, np.abs(values).max(-1, keepdims=True) * 2.0**-60))[..., None, :]).swapaxes(
        -1, -2
    )
    of_identity = row_sums(T @ X @ T.swapaxes(-1, -2) - np.eye(n)) + row_sums(_congruent_radius(T, X, of_X + of_E))
    N = T @ E @ T.swapaxes(-1, -2)
    radius = _congruent_radius(T, E, of_E)
    ends = extreme_eigenvalues((N + N.swapaxes(-1, -2)) / 2, (radius + radius.swapaxes(-1, -2)) / 2)
    norm = np.maximum(-ends.least_lower, ends.largest_upper)
    share = of_identity * (1 + slack(4))
    eta = norm / np.where(share < 1, 1 - share, 1.0) * (1 + slack(6))
    return np.where(good & (share < 1), eta, np.inf)


def _congruent_radius(T: np.ndarray, A: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """A bound of the error of the computed T A T^T, for an A known within a radius."""
    n, size = A.shape[-1], np.abs(T)
    wide = (radius + slack(2 * n + 6) * np.abs(A)) * (1 + slack(2 * n + 6)) + TINY
    return size @ wide @ size.swapaxes(-1, -2)


def sandwich(
    C: ArrayLike, V: ArrayLike, beta: ArrayLike, alpha: ArrayLike | None, eta: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """The recursions C^(-) and C^(+), in float64.

    Args:
        C: P_0^{-1}, ``[n, n]``.
        V: ``[T, n]``.
        beta: decay.
        alpha: weight; 1 - beta where None.
        eta: of all steps, or of each, ``[T]``; below one.

    Returns:
        The two, ``[T + 1, n, n]`` each. Their sums are of semidefinite terms: relative errors are about T 2^-52.

    Raises:
        ValueError: if an eta is not in [0, 1), or beta or alpha not positive.

    Example:
        >>> low, high = sandwich([[1.0]], [[1.0], [1.0]], 0.5, 0.5, 0.25)
        >>> low.ravel().tolist(), high.ravel()[1:].round(3).tolist()
        ([1.0, 0.8, 0.72], [1.333, 1.556])
    """
    b, a = _weights(beta, alpha)
    x = exact_floats(V, "V")
    errors = np.broadcast_to(np.asarray(eta, dtype=np.float64), x.shape[:1])
    if not ((errors >= 0) & (errors < 1)).all():
        raise ValueError(f"eta up to {errors.max()} given; the theorem needs 0 <= eta < 1")
    both = []
    for sign in (1, -1):
        current = exact_floats(C, "C")
        path = [current]
        for v, e in zip(x, errors, strict=True):
            current = (b * current + a * np.outer(v, v)) / (1 + sign * e)
            path.append(current)
        both.append(np.stack(path))
    return both[0], both[1]


def recursion_certificate(
    kappa: ArrayLike, format: str | Format, n: int, beta: ArrayLike, *, nearest: bool = True
) -> RecursionCertificate:
    """Certificate B2, a priori: a state rounded once a step, all else exact, with kappa(X_t) <= kappa throughout.

    kappa is of the steps as computed, not of the exact recursion: with eta < 1 - beta and vectors that have a mean, the
    two differ by a factor of about (1 - beta + eta) / (1 - beta - eta) at most. No underflow, no overflow.

    Args:
        kappa: bound of the condition of X_t, at least 1.
        format: of the state.
        n: order of the matrix.
        beta: decay in (0, 1].
        nearest: whether rounding is to nearest.

    Returns:
        The certificate with eta = u kappa (1 + n^{1/2}) / 2.

    Raises:
        ValueError: if kappa is below one, n below one, or beta not in (0, 1].

    Example:
        >>> certificate = recursion_certificate(10.0, "bfloat16", 16, 0.5)
        >>> certificate.verdict.value, certificate.eta, certificate.bounded_margin
        ('certified', 0.09765625, 5.12)
    """
    record, b, k = named(format), np.asarray(beta, dtype=np.float64), np.asarray(kappa, dtype=np.float64)
    if not ((k >= 1).all() and n >= 1 and (b > 0).all() and (b <= 1).all()):
        raise ValueError(f"kappa = {kappa}, n = {n}, beta = {beta} given; wanted kappa, n >= 1 and beta in (0, 1]")
    eta = (1 + np.sqrt(float(n))) / 2 * record.unit_roundoff * (1 if nearest else 2) * k
    room = (1 - b) / eta
    inflation = np.where(room > 1, eta / np.where(room > 1, 1 - b - eta, 1.0), np.inf)
    verdict = certainty(eta * (1 + slack(8)) < 1)
    margin, room, inflation, eta, k = (settled(y) for y in (1 / eta, room, inflation, eta, k))
    return RecursionCertificate(verdict, margin, room, inflation, eta, k, record, n)


def mkor_certificate(
    squared_norm: ArrayLike, format: str | Format, n: int, *, blend: float = 0.05, nearest: bool = True
) -> RecursionCertificate:
    """Certificate B7: MKOR's released recursion from J = I, its state rounded once a step, all else exact.

    Exactly, kappa(J) <= 1 / blend + max |v|^2, 20 + |v|^2 as released. Unlike certificate B2 this assumes nothing of
    what is computed.

    Args:
        squared_norm: bound of |v|^2 over all steps.
        format: of the state.
        n: order of the matrix.
        blend: r of (1 - r) J + r I, in (0, 1).
        nearest: whether rounding is to nearest.

    Returns:
        The certificate; `kappa` is that of X_t with what rounding adds. What underflows has an error of at most n
        spacings in the 2-norm, which is counted beside |X|_2 >= 1 / `kappa`.

    Raises:
        ValueError: if the norm is negative, n below one, or the blend not in (0, 1).

    Example:
        >>> certificate = mkor_certificate(100.0, "float16", 64)
        >>> certificate.verdict.value, round(certificate.kappa, 1)
        ('certified', 125.8)
    """
    record, m = named(format), np.asarray(squared_norm, dtype=np.float64)
    if not ((m >= 0).all() and n >= 1 and 0 < blend < 1):
        raise ValueError(f"|v|^2 = {squared_norm}, n = {n}, blend = {blend} given; wanted >= 0, >= 1 and in (0, 1)")
    u, inverse = record.unit_roundoff * (1 if nearest else 2), 1 / blend + m
    smallest = record.min_normal * (u if record.subnormals else 1)
    q = ((1 + np.sqrt(float(n))) / 2 * u + n * smallest * inverse) * (1 + slack(8))
    growth = (1 - blend) * (1 + q)
    stays = growth * (1 + slack(8)) < 1
    g = np.where(stays, (1 + q) * blend / np.where(stays, 1 - growth, 1.0), np.inf)
    kappa = ((1 - blend) * g + blend) * inverse * (1 + slack(64) / blend)
    fits = g < record.max
    eta = q * kappa
    verdict = certainty(stays & fits & (eta * (1 + slack(8)) < 1))
    margin, room, inflation, eta, kappa = (settled(y) for y in (1 / eta, 1 / growth, g - 1, eta, kappa))
    return RecursionCertificate(verdict, margin, room, inflation, eta, kappa, record, n)


def _weights(beta: ArrayLike, alpha: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    b = exact_floats(beta, "beta")
    a = 1 - b if alpha is None else exact_floats(alpha, "alpha")
    if not ((b > 0).all() and (a > 0).all()):
        raise ValueError(f"beta = {beta} and alpha = {alpha} given; both, or else beta and 1 - beta, must be positive")
    b, a = np.broadcast_arrays(b, a)
    return b, a
