"""Candidates for the LogDet projection, judged by its optimality condition.

A matrix on the graph is a dictionary from edges (i, j), i >= j, to numbers: mpmath's, or rationals where a
function needs no square root.
"""

from typing import Any

import mpmath

from precond_lab.truth.logdet.graph import Edge, Graph, submatrix

_NEWTON_STEPS = 500


def newton(h: dict[Edge, Any], n: int, digits: int) -> dict[Edge, Any]:
    """Damped Newton on the convex problem.

    With S = X^{-1} the gradient in the free entry (i, j) of X is w_ij (H - S)_ij, and the second derivative
    in (i, j) and (k, l) is w_ij w_kl (S_ik S_jl + S_il S_jk) / 2, where w is 2 off the diagonal and 1 on
    it. The function is self-concordant: the step 1 / (1 + decrement) stays in the cone of positive definite
    matrices, and full steps converge quadratically once the decrement is below 1/4.

    Args:
        h: H on the graph, in mpmath numbers.
        n: the number of vertices.
        digits: that X is to have.

    Returns:
        X on the graph. A step costs the cube of the number of edges.

    Raises:
        ArithmeticError: if there is no convergence.
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


def _symmetric(x: dict[Edge, Any], n: int) -> Any:
    A = mpmath.matrix(n)
    for (i, j), value in x.items():
        A[i, j] = A[j, i] = value
    return A


def eliminate(h: dict[Edge, Any], graph: Graph) -> dict[Edge, Any]:
    """The equations of the optimality condition, one vertex at a time.

    Let S = X^{-1}, let C be vertex 1 with its neighbors N. Row 1 of X vanishes off C, so X S = I says about
    it, reading S off H where it is needed (C is a clique: all of H_CC is on the graph),

        H_CC X_C1 = e_1.

    The inverse of S without vertex 1 is the Schur complement X' of X_11 in X. It differs from the rest of X
    in X'_NN = X_NN - X_N1 X_N1^T / X_11 alone. So it vanishes off the graph without vertex 1, is positive
    definite, and its inverse is H there: it is the projection of the smaller problem. Hence X is the sum,
    over the vertices, of what each adds to its own row and to its later neighbors.

    Args:
        h: H on the graph, in mpmath numbers or in rationals; positive definite on the cliques.
        graph: the graph.

    Returns:
        X on the graph; in rationals without error. The cost is n b^3, for cliques of b + 1 vertices.
    """
    x: dict[Edge, Any] = dict.fromkeys(graph.edges, 0)
    for j in range(graph.n):
        clique = graph.clique(j)
        column = dict(zip(clique, _last_column_of_inverse(submatrix(h, clique)), strict=True))
        for i in clique:
            x[i, j] += column[i]
        for i in graph.later[j]:
            multiplier = column[i] / column[j]
            for k in graph.later[j]:
                if k <= i:
                    x[i, k] += multiplier * column[k]
    return x


def _last_column_of_inverse(A: list[list[Any]]) -> list[Any]:
    """By Gaussian elimination; A is positive definite and is overwritten."""
    size = len(A)
    for k in range(size):
        for r in range(k + 1, size):
            factor = A[r][k] / A[k][k]
            for c in range(k + 1, size):
                A[r][c] -= factor * A[k][c]
    column = [1 / A[-1][-1]]  # the right-hand side (0, ..., 0, 1) has stayed what it was
    for k in reversed(range(size - 1)):
        rest = sum(a * y for a, y in zip(A[k][k + 1 :], column, strict=True))
        column.insert(0, -rest / A[k][k])
    return column


def inverse_on_graph(x: dict[Edge, Any], graph: Graph) -> dict[Edge, Any] | None:
    """X^{-1} on the graph, where a candidate must agree with H.

    It comes from X = L E L^T, where L is unit lower triangular and vanishes off the graph, by Takahashi's
    recurrence S = L^{-T} E^{-1} + S (I - L), in which the entries on the graph need no others.

    Args:
        x: the candidate on the graph.
        graph: the graph.

    Returns:
        The inverse by edges, or None if the candidate is not positive definite. The cost is n b^2.
    """
    A = dict(x)
    L: dict[Edge, Any] = {}
    for j, later in enumerate(graph.later):
        if not A[j, j] > 0:
            return None
        for i in later:
            L[i, j] = A[i, j] / A[j, j]
        for k in later:
            for i in later:
                if i >= k:
                    A[i, k] -= L[i, j] * A[k, j]
    S: dict[Edge, Any] = {}
    for j in reversed(range(graph.n)):
        later = graph.later[j]
        for i in later:
            S[i, j] = -sum(S[max(i, k), min(i, k)] * L[k, j] for k in later)
        S[j, j] = 1 / A[j, j] - sum(S[k, j] * L[k, j] for k in later)
    return S


def residual(x: dict[Edge, Any], h: dict[Edge, Any], graph: Graph) -> Any:
    """By how much a candidate misses the optimality condition.

    Args:
        x: the candidate on the graph, in mpmath numbers.
        h: H on the graph.
        graph: the graph.

    Returns:
        The largest |X^{-1} - H|_ij / sqrt(H_ii H_jj) on the graph; infinite if X is not positive definite.
    """
    S = inverse_on_graph(x, graph)
    if S is None:
        return mpmath.inf
    scale = [mpmath.sqrt(h[i, i]) for i in range(graph.n)]
    return max(abs(S[i, j] - value) / (scale[i] * scale[j]) for (i, j), value in h.items())
