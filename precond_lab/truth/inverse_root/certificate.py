r"""A proof of how near a matrix is to an inverse root.

**Theorem.** Let A and X be symmetric positive definite, a >= 1 and b >= 1 whole numbers, F = A^{-b/a}, and
|X^a A^b - I| <= eta < 1 in some operator norm. Then, in the order of symmetric matrices,

    (1 - eta)^{1/a} F <= X <= (1 + eta)^{1/a} F,

and with r = 1 - (1 - eta)^{1/a}, the larger deviation of the two, |X - F|_2 <= r |F|_2 <= r |X|_2 / (1 - r).

**Proof.** X^a A^b is similar to the symmetric matrix A^{b/2} X^a A^{b/2}: its eigenvalues are real, and within eta
of 1 by the residual. So (1 - eta) I <= A^{b/2} X^a A^{b/2} <= (1 + eta) I; multiply by A^{-b/2} from both sides. The
function t^{1/a} is monotone on symmetric matrices (Löwner 1934, Heinz 1951). Then -r F <= X - F <= r F, so that X - F
has no eigenvalue of larger magnitude than r |F|_2; and X >= (1 - r) F bounds |F|_2.
"""

from typing import NamedTuple

from flint import arb, arb_mat

from precond_lab.truth.inverse_root.balls import identity, infinity_norm, power
from precond_lab.truth.inverse_root.definiteness import definite


class Bound(NamedTuple):
    """How near X is to F.

    Attributes:
        relative: r of (1 - r) F <= X <= (1 + r) F.
        radius: of |X - F|_2.
    """

    relative: arb
    radius: arb


def certified(X: arb_mat, A: arb_mat, a: int, b: int, tolerance: arb) -> Bound | None:
    """A bound of the error of X as an approximation of A^{-b/a}.

    Args:
        X: of exact numbers, symmetric.
        A: of balls; known to be positive definite.
        a: numerator of p.
        b: denominator of p.
        tolerance: of the residual.

    Returns:
        The bound; None where the residual is larger than the tolerance, or X not provably positive definite.
    """
    eta = infinity_norm(power(X, a) * power(A, b) - identity(X.nrows()))
    if not eta <= tolerance or not definite(X):
        return None
    # 1 - (1 - eta)^(1/a), without cancellation
    relative = (-((-eta).log1p() / a).expm1()).upper()
    return Bound(relative, (relative * infinity_norm(X) / (1 - relative)).upper())
