"""An exact judge of definiteness, and what an adversary of certificates needs."""

from fractions import Fraction as Q

import numpy as np

import precond_lab as pl


def rationals(M) -> list[list[Q]]:
    return [[Q(x) for x in row] for row in (M.tolist() if isinstance(M, np.ndarray) else M)]


def integers(rows: list[list[Q]]) -> list[list[int]]:
    """The matrix times a positive integer; of floats, so that the denominators are powers of two."""
    scale = max(x.denominator for row in rows for x in row)
    common = all(scale % x.denominator == 0 for row in rows for x in row)
    if not common:
        scale = int(np.lcm.reduce(np.array([x.denominator for row in rows for x in row], dtype=object)))
    return [[int(x * scale) for x in row] for row in rows]


def definite(M) -> bool:
    """Whether a symmetric matrix of floats or rationals is positive definite: signs of minors, by Bareiss."""
    if isinstance(M, np.ndarray) and M.dtype != object and not np.isfinite(M).all():
        return False
    A, before = integers(rationals(M)), 1
    n = len(A)
    for k in range(n):
        pivot = A[k][k]
        if pivot <= 0:
            return False
        for i in range(k + 1, n):
            for j in range(k + 1, i + 1):
                A[i][j] = A[j][i] = (A[i][j] * pivot - A[i][k] * A[k][j]) // before
        before = pivot
    return True


def shifted(M, t) -> list[list[Q]]:
    """M - t I."""
    return [[x - (Q(t) if i == j else 0) for j, x in enumerate(row)] for i, row in enumerate(rationals(M))]


def combined(M, N, factor=1) -> list[list[Q]]:
    """M + factor N."""
    return [
        [x + factor * y for x, y in zip(*rows, strict=True)] for rows in zip(rationals(M), rationals(N), strict=True)
    ]


def product(M, N) -> list[list[Q]]:
    columns = list(zip(*N, strict=True))
    return [[sum((x * y for x, y in zip(row, column, strict=True)), Q(0)) for column in columns] for row in M]


def inverse(M) -> list[list[Q]]:
    n = len(M)
    A = [[Q(x) for x in row] + [Q(int(i == j)) for j in range(n)] for i, row in enumerate(rationals(M))]
    for k in range(n):
        p = next(i for i in range(k, n) if A[i][k])
        A[k], A[p] = A[p], A[k]
        A[k] = [x / A[k][k] for x in A[k]]
        for i in range(n):
            if i != k and A[i][k]:
                A[i] = [x - A[i][k] * y for x, y in zip(A[i], A[k], strict=True)]
    return [row[n:] for row in A]


def dot(x, y) -> Q:
    return sum((Q(a) * Q(b) for a, b in zip(x, y, strict=True)), Q(0))


def image(P: list[list[Q]], v, beta: Q, alpha: Q) -> list[list[Q]]:
    """The exact step of Sherman and Morrison."""
    w = [dot(row, v) for row in P]
    d = beta / alpha + dot(v, w)
    return [[(x - a * b / d) / beta for x, b in zip(row, w, strict=True)] for row, a in zip(P, w, strict=True)]


def symmetric(A: np.ndarray) -> np.ndarray:
    lower = np.tril(A)
    return lower + np.swapaxes(np.tril(A, -1), -1, -2)


def random_definite(seed: int, count: int, n: int, low: float, high: float) -> np.ndarray:
    """Rotated matrices of condition 10^low to 10^high, each with rows and columns scaled within a few binades."""
    rng = np.random.default_rng(seed)
    Q_, _ = np.linalg.qr(rng.standard_normal((count, n, n)))
    spectrum = 10.0 ** (-rng.uniform(low, high, (count, 1)) * rng.uniform(0, 1, (count, n)))
    spectrum[:, 0] = 1
    spectrum[:, -1] = 10.0 ** -rng.uniform(low, high, count)
    A = symmetric((Q_ * spectrum[:, None, :]) @ Q_.swapaxes(-1, -2))
    d = 2.0 ** rng.uniform(-1.5, 1.5, (count, n))
    return symmetric(A * d[:, :, None] * d[:, None, :])


def equicorrelated(seed: int, count: int, n: int, low: float, high: float) -> np.ndarray:
    """l I + (1 - l) s s^T with signs s, for which | |H| |_2 is nearly n, and 10^-high < l < 10^-low."""
    rng = np.random.default_rng(seed)
    l = 10.0 ** -rng.uniform(low, high, (count, 1, 1))
    s = np.where(rng.uniform(size=(count, n)) < 0.5, -1.0, 1.0)
    d = 2.0 ** rng.uniform(-1.5, 1.5, (count, n)) * s
    return symmetric((l * np.eye(n) + (1 - l)) * d[:, :, None] * d[:, None, :])


def worst_signs(P: np.ndarray) -> np.ndarray:
    """sign(x_i x_j), x the eigenvector of D^{-1} P D^{-1} of least eigenvalue."""
    d = np.sqrt(np.diagonal(P, axis1=-2, axis2=-1))
    x = np.linalg.eigh(P / d[..., :, None] / d[..., None, :])[1][..., 0]
    signs = np.where(x < 0, -1, 1)
    return signs[..., :, None] * signs[..., None, :]


def store(P, format) -> np.ndarray:
    return symmetric(np.asarray(pl.round_to(np.asarray(P, dtype=np.float64), format)))


def in_format(x: float, format) -> float:
    return float(pl.round_to(np.float64(x), format))


def computed_product(P: np.ndarray, v: np.ndarray, format) -> np.ndarray:
    """P v with every operation rounded, in the order of the columns."""
    terms = np.asarray(pl.round_to(P * v[..., None, :], format))
    total = terms[..., 0]
    for j in range(1, v.shape[-1]):
        total = np.asarray(pl.round_to(total + terms[..., j], format))
    return total
