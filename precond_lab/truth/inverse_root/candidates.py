r"""Approximations of A^{-b/a} in many digits, without proof: a certificate judges them.

**Newton's method in an approximate eigenbasis.** float64 eigenvectors, made orthonormal to all digits, turn A into
B = Q^T A Q, which is nearly diagonal with diagonal l. The residual R = Y^a B^b - I of an approximation Y of B^{-b/a}
responds to a change of Y, were B diagonal, by

    R_ij = dY_ij l_j^b (y_i^{a-1} + y_i^{a-2} y_j + ... + y_j^{a-1}),    y = l^{-b/a}.

The equation is divided by that weight: a sum of positive terms, so that clusters of eigenvalues do no harm, as they do
to the refinement of eigenvectors. Each step reduces the error by a factor of about kappa^b 2^-53.

**Coupled Newton iteration**, for matrices whose small eigenvalues float64 cannot see: X <- X T, M <- T^a M with
T = ((a + 1) I - M) / a, from X = x I and M = x^a A^b (Guo and Higham, SIAM J. Matrix Anal. Appl. 28, 2006). Its
rounding errors grow with kappa^b, which the precision must allow for.
"""

import flint
import numpy as np
from flint import arb, arb_mat, fmpq

from precond_lab.truth.inverse_root.balls import (
    diagonal,
    floats,
    frobenius_square,
    identity,
    infinity_norm,
    magnitude,
    power,
    symmetric,
)

_SLOWEST = 0.25  # rate of Newton's method in the eigenbasis beyond which it is given up


def eigenvectors(A: arb_mat) -> tuple[np.ndarray, np.ndarray, int] | None:
    """The eigendecomposition in float64.

    Args:
        A: symmetric.

    Returns:
        Eigenvalues of 2^-e A, ``[n]``, eigenvectors ``[n, n]``, and e; None where the computation fails.
    """
    e = max(magnitude(x) for x in diagonal(A))
    try:
        values, vectors = np.linalg.eigh(floats(A.mid() * arb(2) ** -e))
    except np.linalg.LinAlgError:
        return None
    return values, vectors, e


def newton_in_eigenbasis(A: arb_mat, vectors: np.ndarray, a: int, b: int, tolerance: arb) -> arb_mat | None:
    """An approximation of A^{-b/a} from approximate eigenvectors.

    Args:
        A: symmetric, ``[n, n]``.
        vectors: ``[n, n]``, in columns.
        a: numerator of p.
        b: denominator of p.
        tolerance: of the infinity norm of Y^a B^b - I.

    Returns:
        Midpoints, exactly symmetric; None where an eigenvalue is not positive, or the steps do not contract.
    """
    n = A.nrows()
    one = identity(n)
    Q = _orthonormal(arb_mat([[arb(float(x)) for x in row] for row in vectors]), one)
    if Q is None:
        return None
    B = symmetric((Q.transpose() * A).mid() * Q)
    eigenvalues = [x.mid() for x in diagonal(B)]
    if not all(x > 0 for x in eigenvalues):
        return None
    roots = [(x ** fmpq(-b, a)).mid() for x in eigenvalues]
    Y = arb_mat([[roots[i] if i == j else 0 for j in range(n)] for i in range(n)])
    weights = _weights(eigenvalues, roots, a, b)
    power_of_B, previous = power(B, b, midpoints=True), arb.pos_inf()
    while True:
        R = (power(Y, a, midpoints=True) * power_of_B - one).mid()
        size = infinity_norm(R)
        if size <= tolerance:
            return symmetric((Q * Y).mid() * Q.transpose())
        if not size.is_finite() or not size <= _SLOWEST * previous:
            return None
        previous = size
        step = [[r / w for r, w in zip(*rows, strict=True)] for rows in zip(R.tolist(), weights, strict=True)]
        Y = symmetric(Y - arb_mat(step))


def _weights(eigenvalues: list[arb], roots: list[arb], a: int, b: int) -> list[list[arb]]:
    """The factors by which R responds to changes of Y."""
    powers = [[x**k for k in range(a)] for x in roots]
    columns = [(x**b, powers_j[::-1]) for x, powers_j in zip(eigenvalues, powers, strict=True)]
    return [[(factor * _inner(row, column)).mid() for factor, column in columns] for row in powers]


def _inner(x: list[arb], y: list[arb]) -> arb:
    return sum((s * t for s, t in zip(x, y, strict=True)), arb(0))


def _orthonormal(Q: arb_mat, one: arb_mat) -> arb_mat | None:
    """The nearest orthogonal matrix by Newton and Schulz: a defect e of Q^T Q - I becomes 3/4 e^2."""
    last = arb(2) ** (-flint.ctx.prec // 2)
    while True:
        defect = (Q.transpose() * Q - one).mid()
        size = infinity_norm(defect)
        if not size < 2.0**-10:  # no eigenvectors, and none that come out of float64
            return None
        Q = (Q - Q * defect * arb(0.5)).mid()
        if size < last:
            return Q


def coupled_newton(A: arb_mat, a: int, b: int, bits: int) -> arb_mat | None:
    """An approximation of A^{-b/a} by coupled Newton iteration.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        a: numerator of p.
        b: denominator of p.
        bits: the precision at hand; steps go on until they no longer gain.

    Returns:
        Midpoints, exactly symmetric; None where the iteration does not converge.
    """
    one = identity(A.nrows())
    M, previous = power(A, b, midpoints=True), arb.pos_inf()
    start = (((a + 1) / (2 * frobenius_square(M).sqrt())) ** fmpq(1, a)).mid()
    X, M = (one * start).mid(), (M * start**a).mid()
    for _ in range(4 * bits):
        defect = (M - one).mid()
        size = infinity_norm(defect)
        if previous < 0.5 and not size < previous / 2:
            return symmetric(X)
        if not size.is_finite():
            return None
        previous = size
        T = (one - defect * (1 / arb(a))).mid()
        X, M = (X * T).mid(), symmetric(power(T, a, midpoints=True) * M)
    return None
