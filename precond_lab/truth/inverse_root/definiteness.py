"""Whether a symmetric matrix is positive definite: a proof, or a proof of the contrary."""

from math import lcm

from flint import arb, arb_mat, fmpz_mat

from precond_lab.truth.inverse_root.balls import Rows, balls, precision

_LEAF = 16  # order up to which elimination goes entry by entry
_PRECISIONS = (192, 768, 3072)


def positive_definite(rows: Rows) -> bool | None:
    """Whether a symmetric matrix of rationals is positive definite.

    Elimination in balls of rising precision; where that does not tell, a singular matrix is recognized by its
    determinant in integers.

    Args:
        rows: of the matrix.

    Returns:
        True or False, proved; None where neither could be proved.
    """
    if any(row[i] <= 0 for i, row in enumerate(rows)):
        return False
    for bits in _PRECISIONS:
        with precision(bits):
            answer = definite(balls(rows))
        if answer is None and bits == _PRECISIONS[0] and _singular(rows):
            return False
        if answer is not None:
            return answer
    return None


def definite(M: arb_mat) -> bool | None:
    """Whether all symmetric matrices that a matrix of balls contains are positive definite.

    [[P, Q^T], [Q, S]] is positive definite exactly if P and the Schur complement S - Q P^{-1} Q^T are. Halving goes on
    down to small blocks, so that the balls grow with the logarithm of the order alone.

    Args:
        M: ``[n, n]``, of balls.

    Returns:
        True or False, proved; None where the balls are too wide to tell. Cost: O(n^3).
    """
    n = M.nrows()
    if n <= _LEAF:
        return _eliminated(M.tolist())
    entries, half = M.tolist(), n // 2
    top = arb_mat([row[:half] for row in entries[:half]])
    answer = definite(top)
    if not answer:
        return answer
    right = arb_mat([row[half:] for row in entries[:half]])
    below = arb_mat([row[:half] for row in entries[half:]])
    try:
        schur = arb_mat([row[half:] for row in entries[half:]]) - below * top.solve(right)
    except ZeroDivisionError:
        return None
    return definite(schur)


def _eliminated(rows: list[list[arb]]) -> bool | None:
    """The signs of the pivots, entry by entry, from the lower triangle."""
    n = len(rows)
    for k in range(n):
        pivot = rows[k][k]
        if not pivot > 0:
            return False if pivot <= 0 else None
        for i in range(k + 1, n):
            factor = rows[i][k] / pivot
            for j in range(k + 1, i + 1):
                rows[i][j] -= factor * rows[j][k]
    return True


def _singular(rows: Rows) -> bool:
    scale = lcm(*(x.denominator for row in rows for x in row))
    integers = fmpz_mat([[x.numerator * (scale // x.denominator) for x in row] for row in rows])
    return integers.rank() < len(rows)
