r"""The LogDet projection by its definition, in many digits.

X minimizes -log det X + tr(X H) over the positive definite matrices that vanish off the graph G. The
problem is strictly convex, so X is the minimizer exactly if it satisfies the optimality condition

    X positive definite,   X = 0 off G,   X^{-1} = H on G.

A candidate may therefore come from anywhere: the condition judges it, and measures it too, since a
candidate whose inverse is H + E on G is the exact projection of H + E. Two ways of finding one are here,
and both are judged so: Newton's method on the convex problem, for any band, and an elimination of the
condition's own equations, for long chains. Neither knows the formulas of the program that it is to judge.
"""

from collections.abc import Sequence
from enum import Enum
from fractions import Fraction
from math import ceil, log10
from typing import Any, Literal, NamedTuple

import mpmath
import numpy as np
from numpy.typing import ArrayLike

Method = Literal["auto", "newton", "elimination"]

_NEWTON_SIZE = 8
_NEWTON_STEPS = 500


class Status(Enum):
    """Whether there is a projection."""

    SOLVED = "solved"
    NO_MINIMIZER = "no minimizer"
    NOT_FINITE = "not finite"

    @property
    def prose(self) -> str:
        """What this means for H."""
        return _PROSE[self]


_PROSE = {
    Status.SOLVED: "The projection exists, and X satisfies its optimality condition.",
    Status.NO_MINIMIZER: "H is not positive definite on a clique: -log det X + tr(X H) has no minimum.",
    Status.NOT_FINITE: "H holds an infinity or a NaN on the graph.",
}


class Projection(NamedTuple):
    """The projection and its proof.

    Attributes:
        status: SOLVED, or why there is no projection.
        band: X in SciPy's lower form, ``[b+1, n]`` of mpmath numbers; NaN throughout where there is none.
        residual: largest |X^{-1} - H|_ij / sqrt(H_ii H_jj) over the graph; infinite where there is none.
        vertex: the first vertex of the first clique on which H fails; None where solved.
    """

    status: Status
    band: np.ndarray
    residual: Any
    vertex: int | None

    @property
    def X(self) -> np.ndarray:
        """The dense matrix, ``[n, n]`` of mpmath numbers."""
        n = self.band.shape[1]
        X = np.full((n, n), mpmath.mpf(0), dtype=object)
        for k, row in enumerate(self.band):
            for i in range(n - k):
                X[i + k, i] = X[i, i + k] = row[i]
        return X


def logdet_projection(
    H: ArrayLike, digits: int = 50, kept: ArrayLike | None = None, *, method: Method = "auto"
) -> Projection:
    """The LogDet projection of the stored H onto its band, or onto the reduced graph.

    Whether there is a minimizer is decided exactly, from the stored numbers as rationals.

    Args:
        H: ``[b+1, n]``, row k holding H_{i+k,i}: floats of any format (taken as they are, bit by bit),
            rationals, or mpmath numbers. What lies past the end of a diagonal is ignored.
        digits: the residual is at most 10^-digits. The work is done with more digits than that, by as many as
            the cliques of H are singular, so that X is as accurate.
        kept: bool ``[b, n]``, the edges of the reduced graph; None for all. For b of 0 or 1 only.
        method: "newton" (cost n^3 b^3 a step), "elimination" (b of 0 or 1; cost n), or the first for short
            chains and the second for long ones.

    Returns:
        The band of X with its residual, or the reason why there is none.

    Raises:
        ValueError: for arguments that do not fit.
        ArithmeticError: if the candidate fails the optimality condition.

    Example:
        >>> projection = logdet_projection([[2.0, 3.0, 1.0], [1.0, -1.0, 0.0]], digits=30)
        >>> [mpmath.nstr(x, 10) for x in projection.band[0]]
        ['0.6', '0.5666666667', '1.5']
        >>> logdet_projection([[1.0, 1.0], [1.0, 0.0]]).status
        <Status.NO_MINIMIZER: 'no minimizer'>
    """
    array = np.asarray(H)
    if array.ndim != 2:
        raise ValueError(f"a band of shape {array.shape} given; wanted [b+1, n]")
    rows, (b, n) = array.tolist(), (array.shape[0] - 1, array.shape[1])
    edges = _edges(b, n, kept)
    if method == "auto":
        method = "newton" if b > 1 or n <= _NEWTON_SIZE else "elimination"
    if method == "elimination" and b > 1:
        raise ValueError(f"elimination solves chains; H has band {b}: use method='newton'")
    stored, bad = _stored(rows, edges)
    if bad is not None:
        return _none(Status.NOT_FINITE, b, n, bad)
    margin, bad = _positive_cliques(stored, edges)
    if bad is not None:
        return _none(Status.NO_MINIMIZER, b, n, bad)
    # The inverse loses as many digits as the worst clique is singular, once for X and once for the check.
    guard = 10 + ceil(log10(n)) + 2 * (b + 1) * max(0, -margin)
    with mpmath.workdps(digits + guard):
        h = {edge: mpmath.mpf(x.numerator) / x.denominator for edge, x in stored.items()}
        x = _newton(h, n, digits) if method == "newton" else _eliminate(h, n)
        residual = _residual(x, h, n)
        if not residual <= mpmath.mpf(10) ** -digits:
            raise ArithmeticError(f"the optimality condition is missed by {mpmath.nstr(residual, 3)}")
        band = np.full((b + 1, n), mpmath.mpf(0), dtype=object)
        for (i, j), value in x.items():
            band[i - j, j] = value
    return Projection(Status.SOLVED, band, residual, None)


def direction(H: ArrayLike, g: ArrayLike, digits: int = 50, kept: ArrayLike | None = None) -> np.ndarray:
    """The direction X g, for the LogDet projection X of H.

    Args:
        H: ``[b+1, n]``, as for :func:`logdet_projection`.
        g: ``[n]``, floats or mpmath numbers.
        digits: of X; cancellation in the product is not counted.
        kept: bool ``[b, n]``, the edges of the reduced graph; None for all.

    Returns:
        ``[n]`` of mpmath numbers; NaN throughout where no projection exists.

    Raises:
        ValueError: if g does not have the length of the chain.
    """
    projection = logdet_projection(H, digits, kept)
    n = projection.band.shape[1]
    vector = [x if isinstance(x, mpmath.mpf) else mpmath.mpf(float(x)) for x in np.asarray(g).tolist()]
    if len(vector) != n:
        raise ValueError(f"g has length {len(vector)}; H has {n} vertices")
    with mpmath.workdps(digits + 10):
        u = [projection.band[0, i] * vector[i] for i in range(n)]
        for k, row in enumerate(projection.band[1:], start=1):
            for i in range(n - k):
                u[i + k] += row[i] * vector[i]
                u[i] += row[i] * vector[i + k]
    return np.array(u, dtype=object)


# The graph and the stored numbers: an edge is (i, j) with i >= j, the diagonal included


def _edges(b: int, n: int, kept: ArrayLike | None) -> list[tuple[int, int]]:
    if b < 0 or n < 1:
        raise ValueError(f"a band of shape [{b + 1}, {n}] given; wanted [b+1, n] with a row and a column at least")
    if kept is None:
        mask = np.ones((b, n), bool)
    else:
        mask = np.asarray(kept, bool)
        if b > 1:
            raise ValueError(f"a reduced graph is supported for a chain; H has band {b}: leave kept out")
        if mask.shape != (b, n):
            raise ValueError(f"kept has shape {mask.shape}; H needs a mask of shape {(b, n)}")
    lower = [(i + k, i) for k in range(1, b + 1) for i in range(n - k) if mask[k - 1, i]]
    return [(i, i) for i in range(n)] + lower


def _stored(
    rows: Sequence[Sequence[Any]], edges: list[tuple[int, int]]
) -> tuple[dict[tuple[int, int], Fraction], int | None]:
    """The entries on the graph as rationals, or the first vertex at which one is not finite."""
    stored = {}
    for i, j in edges:
        x = rows[i - j][j]
        if not isinstance(x, int | Fraction | mpmath.mpf):
            x = float(x)
        if not isinstance(x, int | Fraction) and not mpmath.isfinite(x):
            return {}, j
        stored[i, j] = Fraction(*x.as_integer_ratio())
    return stored, None


def _positive_cliques(stored: dict[tuple[int, int], Fraction], edges: list[tuple[int, int]]) -> tuple[int, int | None]:
    """Whether H is positive definite on every clique, which for these (chordal) graphs decides existence.

    Returns the decimal exponent of the smallest pivot relative to its diagonal entry, and the first vertex
    that fails.
    """
    later: dict[int, list[int]] = {}
    for i, j in edges:
        later.setdefault(j, []).append(i)
    exponent = 0
    for j in sorted(later):
        # The windows j, j+1, ..., j+b (as far as there are edges) include all maximal cliques.
        clique = sorted(later[j], reverse=True)
        A = [[stored[max(p, q), min(p, q)] for q in clique] for p in clique]
        for k, p in enumerate(clique):
            if A[k][k] <= 0:
                return 0, j
            exponent = min(exponent, _decimal_exponent(A[k][k] / stored[p, p]))
            for r in range(k + 1, len(clique)):
                factor = A[r][k] / A[k][k]
                A[r] = [x - factor * y for x, y in zip(A[r], A[k], strict=True)]
    return exponent, None


def _decimal_exponent(x: Fraction) -> int:
    return ceil((x.numerator.bit_length() - x.denominator.bit_length()) * log10(2)) - 1


def _none(status: Status, b: int, n: int, vertex: int) -> Projection:
    return Projection(status, np.full((b + 1, n), mpmath.nan, dtype=object), mpmath.inf, vertex)


# Candidates


def _newton(h: dict[tuple[int, int], Any], n: int, digits: int) -> dict[tuple[int, int], Any]:
    """Damped Newton on the convex problem.

    With S = X^{-1} the gradient in the free entry (i, j) of X is w_ij (H - S)_ij, and the second derivative
    in (i, j) and (k, l) is w_ij w_kl (S_ik S_jl + S_il S_jk) / 2, where w is 2 off the diagonal and 1 on
    it. The function is self-concordant: the step 1 / (1 + decrement) stays in the cone of positive definite
    matrices, and full steps converge quadratically once the decrement is below 1/4.
    """
    # By the definition S H S has the projection S^{-1} X S^{-1}: powers of two in S bring every H_ii near 1.
    power = [mpmath.frexp(h[i, i])[1] // 2 for i in range(n)]
    h = {(i, j): mpmath.ldexp(value, -power[i] - power[j]) for (i, j), value in h.items()}
    edges = list(h)
    weight = [1 if i == j else 2 for i, j in edges]
    x = {(i, j): 1 / h[i, j] if i == j else mpmath.mpf(0) for i, j in edges}
    for _ in range(_NEWTON_STEPS):
        S = _symmetric(x, n) ** -1
        gradient = mpmath.matrix([w * (h[i, j] - S[i, j]) for w, (i, j) in zip(weight, edges, strict=True)])
        hessian = mpmath.matrix(len(edges))
        for p, (i, j) in enumerate(edges):
            for q, (k, m) in enumerate(edges[: p + 1]):
                value = weight[p] * weight[q] * (S[i, k] * S[j, m] + S[i, m] * S[j, k]) / 2
                hessian[p, q] = hessian[q, p] = value
        step = mpmath.cholesky_solve(hessian, -gradient)
        squared = -sum(step[p] * gradient[p] for p in range(len(edges)))  # of the decrement
        length = 1 if 16 * squared < 1 else 1 / (1 + mpmath.sqrt(squared))
        x = {edge: x[edge] + length * step[p] for p, edge in enumerate(edges)}
        # What is left after this step is of the order of the decrement's square.
        if squared < mpmath.mpf(10) ** -(digits + 10):
            return {(i, j): mpmath.ldexp(value, -power[i] - power[j]) for (i, j), value in x.items()}
    raise ArithmeticError(f"Newton's method did not converge in {_NEWTON_STEPS} steps: use method='elimination'")


def _symmetric(x: dict[tuple[int, int], Any], n: int) -> Any:
    A = mpmath.matrix(n)
    for (i, j), value in x.items():
        A[i, j] = A[j, i] = value
    return A


def _eliminate(h: dict[tuple[int, int], Any], n: int) -> dict[tuple[int, int], Any]:
    """The equations of the optimality condition on a chain, one vertex at a time.

    Let S = X^{-1}. Row 1 of X has two entries, and X S = I gives for them, reading S off H where it is
    needed,

        X_11 H_11 + X_12 H_21 = 1,      X_11 H_12 + X_12 H_22 = 0,

    which Cramer's rule solves. The inverse of S without vertex 1 is the Schur complement X' of X_11 in X.
    It differs from X in X'_22 = X_22 - X_12^2 / X_11 alone, so it is a chain, is positive definite, and its
    inverse is H on the graph without vertex 1: it is the projection of the smaller problem. Hence X, from
    the last vertex to the first.
    """
    x = {(n - 1, n - 1): 1 / h[n - 1, n - 1]}
    for i in reversed(range(n - 1)):
        if (i + 1, i) not in h:
            x[i, i] = 1 / h[i, i]
            continue
        edge = h[i + 1, i]
        determinant = h[i, i] * h[i + 1, i + 1] - edge * edge
        x[i, i] = h[i + 1, i + 1] / determinant
        x[i + 1, i] = -edge / determinant
        x[i + 1, i + 1] += x[i + 1, i] ** 2 / x[i, i]
    return x


# The judge


def _residual(x: dict[tuple[int, int], Any], h: dict[tuple[int, int], Any], n: int) -> Any:
    """Largest |X^{-1} - H|_ij / sqrt(H_ii H_jj) on the graph; infinite if X is not positive definite.

    The inverse on the band comes from X = U^T E U (U unit upper banded) by Takahashi's recurrence
    S = E^{-1} U^{-T} + (I - U) S, in which the entries on the band need no others: its cost is n b^2.
    """
    b = max(i - j for i, j in x)
    zero = mpmath.mpf(0)
    A = {(i, j): x.get((i, j), zero) for j in range(n) for i in range(j, min(j + b + 1, n))}
    U: dict[tuple[int, int], Any] = {}
    for j in range(n):
        if not A[j, j] > 0:
            return mpmath.inf
        below = range(j + 1, min(j + b + 1, n))
        for i in below:
            U[j, i] = A[i, j] / A[j, j]
        for k in below:
            for i in range(k, below.stop):
                A[i, k] -= U[j, i] * A[k, j]
    S: dict[tuple[int, int], Any] = {}
    for j in reversed(range(n)):
        below = range(j + 1, min(j + b + 1, n))
        for i in below:
            S[i, j] = -sum((U[j, k] * S[max(i, k), min(i, k)] for k in below), zero)
        S[j, j] = 1 / A[j, j] - sum((U[j, k] * S[k, j] for k in below), zero)
    scale = [mpmath.sqrt(h[i, i]) for i in range(n)]
    return max(abs(S[i, j] - value) / (scale[i] * scale[j]) for (i, j), value in h.items())
