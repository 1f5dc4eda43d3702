"""Eva, K-FAC and their kin by their definitions: dense Kronecker systems, solved exactly.

A layer has the gradient G ``[m, n]``, the mean a ``[n]`` of its inputs and the mean b ``[m]`` of its output gradients.
vec goes row by row, so that vec(b a^T) is the Kronecker product of b and a, and vec(B G A) that of B and A^T times
vec(G). What has no roots is in rationals; the rest has digits.
"""

from fractions import Fraction
from typing import Any, Literal

import numpy as np
from flint import fmpq, fmpq_mat
from numpy.typing import ArrayLike

from precond_lab.truth.inverse_root import Status, inverse_root
from precond_lab.truth.rank_one.factorizations import context_of, identity, inverse, published, root, scalars, solve


def eva(G: ArrayLike, a: ArrayLike, b: ArrayLike, damping: Any) -> np.ndarray:
    """The P of (v v^T + gamma I) vec(P) = vec(G), v the Kronecker product of b and a.

    Args:
        G: gradient of the weights, ``[m, n]``: floats, rationals, or mpmath numbers, taken exactly.
        a: mean of the inputs, ``[n]``.
        b: mean of the output gradients, ``[m]``.
        damping: gamma; 0.03 is that binary64 number and no other.

    Returns:
        ``[m, n]`` of Fraction. Cost: (m n)^3 operations on rationals.

    Raises:
        ZeroDivisionError: the system is singular.

    Example:
        >>> [str(x) for x in eva([[3, 1]], [1, 0], [1], 0.5)[0]]
        ['2', '2']
    """
    G, a, b = scalars(G), scalars(a), scalars(b)
    v = np.kron(b, a)
    return kronecker_solve(np.outer(v, v), G, damping)


def eva_f(G: ArrayLike, a: ArrayLike, damping: Any) -> np.ndarray:
    """G (a a^T + gamma I)^{-1}.

    Args:
        G: gradient of the weights, ``[m, n]``.
        a: mean of the inputs, ``[n]``.
        damping: gamma.

    Returns:
        ``[m, n]`` of Fraction.

    Raises:
        ZeroDivisionError: the matrix is singular.
    """
    a = scalars(a)
    return foof(G, np.outer(a, a), damping)


def eva_s(
    G: ArrayLike, damping: Any, *, form: Literal["sherman_morrison", "root"], p: int = 4, digits: int = 50
) -> np.ndarray:
    """Shampoo with the means of the rows and columns of G, b and a, for its statistics.

    Args:
        G: gradient of the weights, ``[m, n]``.
        damping: gamma.
        form: "sherman_morrison", which is `eva` with these vectors, or "root", which is
            (b b^T + gamma I)^{-1/p} G (a a^T + gamma I)^{-1/p}.
        p: of the roots.
        digits: of the roots.

    Returns:
        ``[m, n]``, of Fraction, or of mpmath numbers for "root".

    Raises:
        ValueError: for an unknown form, or where a root does not exist.
    """
    exact = scalars(G)
    m, n = exact.shape
    b, a = exact.sum(axis=1) / n, exact.sum(axis=0) / m
    if form == "sherman_morrison":
        return eva(exact, a, b, damping)
    if form != "root":
        raise ValueError(f"unknown form {form!r}; known are sherman_morrison and root")
    left, right = (rank_one_root(x, damping, p, digits + 5) for x in (b, a))
    context = context_of(digits + 5)
    left, middle, right = (scalars(x, context) for x in (left, exact, right))
    return published(left @ middle @ right)


def rank_one_root(v: ArrayLike, damping: Any, p: int = 4, digits: int = 50) -> np.ndarray:
    """(gamma I + v v^T)^{-1/p}, certified like that of any other matrix.

    Args:
        v: ``[n]``.
        damping: gamma.
        p: the exponent.
        digits: of the root.

    Returns:
        ``[n, n]`` of mpmath numbers.

    Raises:
        ValueError: the matrix is not positive definite.
    """
    v, gamma = scalars(v), scalars(damping).item()
    found = inverse_root(np.outer(v, v) + gamma * identity(np.outer(v, v)), p, digits)
    if found.status is not Status.CERTIFIED:
        raise ValueError(f"there is no root: {found.status.prose}")
    return found.value


def foof(G: ArrayLike, A: ArrayLike, damping: Any) -> np.ndarray:
    """G (A + gamma I)^{-1}.

    Args:
        G: gradient of the weights, ``[m, n]``.
        A: mean of a a^T, ``[n, n]``.
        damping: gamma.

    Returns:
        ``[m, n]`` of Fraction.

    Raises:
        ZeroDivisionError: the matrix is singular.
    """
    G, A = scalars(G), scalars(A)
    return kronecker_solve(np.kron(identity(np.outer(G[:, 0], G[:, 0])), A.T), G, damping)


def kfac(
    G: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    damping: Any,
    *,
    form: Literal["inverse", "eigen"] = "inverse",
    digits: int = 50,
) -> np.ndarray:
    """The gradient preconditioned by K-FAC.

    Args:
        G: gradient of the weights, ``[m, n]``.
        A: mean of a a^T, ``[n, n]``.
        B: mean of b b^T, ``[m, m]``.
        damping: lambda, positive.
        form: "inverse": (B + sqrt(lambda) / pi I)^{-1} G (A + pi sqrt(lambda) I)^{-1} with
            pi^2 = (tr A / n) / (tr B / m) (Martens and Grosse 2015, section 6.3); "eigen":
            the P of (B (x) A + lambda I) vec(P) = vec(G).
        digits: of the form with roots.

    Returns:
        ``[m, n]``, of Fraction for "eigen", or of mpmath numbers.

    Raises:
        ValueError: for an unknown form.

    Example:
        >>> [str(x) for x in kfac([[17]], [[4]], [[1]], 0.25, form="eigen").ravel()]
        ['4']
    """
    if form == "eigen":
        return kronecker_solve(np.kron(scalars(B), scalars(A)), scalars(G), damping)
    if form != "inverse":
        raise ValueError(f"unknown form {form!r}; known are inverse and eigen")
    context = context_of(digits + 5)
    G, A, B = (scalars(x, context) for x in (G, A, B))
    amount = root(scalars(damping, context).item())
    pi = root(np.trace(A) / len(A) / (np.trace(B) / len(B)))
    return published(inverse(B + amount / pi * identity(B)) @ G @ inverse(A + pi * amount * identity(A)))


def online_newton(x: ArrayLike, A: ArrayLike, g: ArrayLike, gamma: Any) -> tuple[np.ndarray, np.ndarray]:
    """A step of the online Newton method where the domain has no boundary: A <- A + g g^T, x <- x - A^{-1} g / gamma.

    Args:
        x: the point, ``[n]``.
        A: the matrix, ``[n, n]``.
        g: the gradient at x, ``[n]``.
        gamma: of Hazan, Agarwal and Kale, "Logarithmic regret algorithms for online convex optimization", 2007.

    Returns:
        The next point and the next matrix, of Fraction.

    Raises:
        ZeroDivisionError: the matrix is singular.
    """
    x, A, g = scalars(x), scalars(A), scalars(g)
    A = A + np.outer(g, g)
    return x - foof(g[None, :], A, 0)[0] / scalars(gamma).item(), A


def projection(y: ArrayLike, A: ArrayLike, radius: Any, *, digits: int = 50) -> np.ndarray:
    """The point z of the ball |z| <= R that is nearest to y in the norm of A.

    Where |y| > R it is z = (A + mu I)^{-1} A y with the mu > 0 of |z| = R: |z| falls as mu grows, so that bisection
    finds it.

    Args:
        y: the point, ``[n]``.
        A: positive definite, ``[n, n]``.
        radius: R, positive.
        digits: of the result.

    Returns:
        ``[n]`` of mpmath numbers.
    """
    context = context_of(digits + 5)
    y, A, R = (scalars(x, context) for x in (y, A, radius))

    def point(mu: Any) -> np.ndarray:
        return solve(A + mu * identity(A), (A @ y)[:, None])[:, 0]

    square = R.item() ** 2
    low = high = context.mpf(0)
    while point(high) @ point(high) > square:
        low, high = high, 2 * high + 1
    while high - low > high * context.eps:
        middle = (low + high) / 2
        low, high = (middle, high) if point(middle) @ point(middle) > square else (low, middle)
    return published(point(high))


def kronecker_solve(M: np.ndarray, G: np.ndarray, damping: Any) -> np.ndarray:
    """The P of (M + gamma I) vec(P) = vec(G).

    Args:
        M: ``[m n, m n]`` of Fraction.
        G: ``[m, n]`` of Fraction.
        damping: gamma.

    Returns:
        ``[m, n]`` of Fraction.
    """
    gamma, (m, n) = scalars(damping).item(), G.shape
    matrix = fmpq_mat([[_flint(x) for x in row] for row in M + gamma * identity(M)])
    found = matrix.solve(fmpq_mat([[_flint(x)] for x in G.ravel()]))
    values = np.empty(m * n, dtype=object)
    values[:] = [Fraction(int(x.p), int(x.q)) for x in found.entries()]
    return values.reshape(m, n)


def _flint(x: Any) -> fmpq:
    return fmpq(x.numerator, x.denominator)
