r"""How far a computed X is from the inverse root F = A^{-1/p}, by several measures.

They rank methods differently. The norms of X - F weigh the smallest eigenvalues of A, where F is largest. An optimizer
applies X to a gradient G with G G^T ~ A, and feels (X - F) A^{1/2}: rounding X in a narrow format, which is small in
norm, shows there.

**The certificate.** With p = a / b and G = A^b let S = G^{1/2} X^a G^{1/2} - I, orthogonally similar to L^T X^a L - I
where G = L L^T. To first order an error dX = X - F appears in it, in the eigenbasis and with f = l^{-b/a}, as

    S_ij = dX_ij w_ij,    w_ij = (l_i l_j)^{b/2} (f_i^{a-1} + f_i^{a-2} f_j + ... + f_j^{a-1}).

The mean of the a terms is at least their geometric mean (f_i f_j)^{(a-1)/2}, so w_ij >= a (f_i f_j)^{-1/2} >= a / |F|_2
and |dX|_F <= |F|_2 |S|_F / a. Without first order: if s = |S|_2 < 1 and X is positive definite, then (1 - s) G^{-1} <=
X^a <= (1 + s) G^{-1}, and as t^{1/a} is monotone, |X - F|_2 <= (1 - (1 - s)^{1/a}) |F|_2.

**What misleads.** X^a A^b - I carries l_j^b alone in the place of (l_i l_j)^{b/2}: it is off by up to kappa^{b/2}
either way. What an iteration reports, the largest entry of |M - I| for its own M, is no function of X at all.

Every figure here is computed in balls, of a precision that is raised until its first 53 bits are certain.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from flint import arb, arb_mat
from numpy.typing import ArrayLike

from precond_lab.diagnosis.inverse_root_condition import InverseRootCondition
from precond_lab.truth.inverse_root import CertifiedRoot
from precond_lab.truth.inverse_root.balls import (
    Rows,
    balls,
    floats,
    frobenius_square,
    identity,
    magnitude,
    power,
    precision,
    rationals,
    symmetric_rationals,
    trace_of_product,
)
from precond_lab.truth.inverse_root.reference import inverse_root, numerator_and_denominator

_CERTAIN = 54  # bits
_PRECISIONS = (192, 384, 768, 1536, 3072)


class InverseRootErrors(NamedTuple):
    """Measures of the error of X; with F = A^{-1/p}, p = a / b.

    Those that compare with F are NaN where there is no certified F, and so is the certificate. Where X is not finite,
    all but the last two are infinite, and these NaN. A measure beyond the range of float64 is infinite, or zero.

    Attributes:
        spectral: |X - F|_2 / |F|_2.
        frobenius: |X - F|_F / |F|_F.
        update: |(X - F) A^{1/2}|_F / |F A^{1/2}|_F, the error of an optimizer's update.
        certificate: |L^T X^a L - I|_F / a with L L^T = A^b: for a symmetric X, a bound of |X - F|_F / |F|_2 to first
            order.
        residual: the largest magnitude of an entry of X^a A^b - I; misleading, for comparison.
        symmetry_defect: |X - X^T|_F / |X|_F.
        smallest_eigenvalue: of (X + X^T) / 2, in float64.
    """

    spectral: float
    frobenius: float
    update: float
    certificate: float
    residual: float
    symmetry_defect: float
    smallest_eigenvalue: float


class Quotients(NamedTuple):
    """Errors over what rounding A once can cause; a backward stable method keeps them of the order of one.

    Attributes:
        spectral: over the worst case in the 2-norm.
        frobenius: over the worst case in the Frobenius norm.
        update: over the worst case of the update.
        frobenius_rms: the error in the Frobenius norm over the root mean square.
        update_rms: the error of the update over the root mean square.
    """

    spectral: float
    frobenius: float
    update: float
    frobenius_rms: float
    update_rms: float


def inverse_root_errors(
    X: ArrayLike, A: ArrayLike, p: int | Fraction = 4, reference: CertifiedRoot | None = None
) -> InverseRootErrors:
    """The error of a computed inverse root by every measure.

    Args:
        X: what was computed, ``[n, n]``: floats of any format, rationals or mpmath numbers.
        A: symmetric, ``[n, n]``, what it was computed from; likewise.
        p: positive.
        reference: of A and p, if at hand; else it is computed with 50 digits.

    Returns:
        The measures, to float64 accuracy. Those that compare with F are uncertain by the radius of the reference: of
        relative order 10^-50 unless a reference with fewer digits is given. Cost: that of a few products of matrices
        with hundreds of bits, and of the reference.

    Raises:
        ValueError: for shapes that do not fit, an A that is not symmetric, or a p that is not positive or not rational.
        TypeError: if X or A holds complex numbers.

    Example:
        >>> A = [[1.0, 0.0], [0.0, 2.0**-8]]
        >>> errors = inverse_root_errors([[1.0, 0.0], [0.0, 4.5]], A, 4)
        >>> errors.spectral, round(errors.certificate, 4), errors.smallest_eigenvalue
        (0.125, 0.1505, 1.0)
    """
    a, b = numerator_and_denominator(p)
    if np.shape(X) != np.shape(A):
        raise ValueError(f"X of shape {np.shape(X)} and A of shape {np.shape(A)} given; they must agree")
    computed, given = rationals(X), symmetric_rationals(A)
    reference = inverse_root(A, p) if reference is None else reference
    if computed is None:
        return InverseRootErrors(math.inf, math.inf, math.inf, math.inf, math.inf, math.nan, math.nan)
    defect, smallest = _defects(computed)
    exact = rationals(reference.value)
    if given is None:
        return InverseRootErrors(math.nan, math.nan, math.nan, math.nan, math.nan, defect, smallest)
    if exact is None:
        (residual,) = _certain(lambda: [_largest(_residual(balls(computed), balls(given), a, b))])
        return InverseRootErrors(math.nan, math.nan, math.nan, math.nan, residual, defect, smallest)
    spectral, frobenius = _distances(computed, exact)
    update, certificate, residual = _certain(lambda: _figures(balls(computed), balls(exact), balls(given), a, b))
    return InverseRootErrors(spectral, frobenius, update, certificate, residual, defect, smallest)


def quotients(errors: InverseRootErrors, condition: InverseRootCondition, unit_roundoff: float) -> Quotients:
    """Errors over the attainable ones.

    Args:
        errors: of a computed X.
        condition: of the same A and p.
        unit_roundoff: of the arithmetic.

    Returns:
        The quotients.

    Example:
        >>> from precond_lab.diagnosis.inverse_root_condition import inverse_root_condition
        >>> A = [[1.0, 0.0], [0.0, 2.0**-8]]
        >>> errors = inverse_root_errors([[1.0, 0.0], [0.0, 4.5]], A, 4)
        >>> quotients(errors, inverse_root_condition(A, 4), 2.0**-8).spectral
        0.5
    """
    u = unit_roundoff
    return Quotients(
        errors.spectral / (condition.spectral * u),
        errors.frobenius / (condition.frobenius * u),
        errors.update / (condition.update * u),
        errors.frobenius / (condition.frobenius_rms * u),
        errors.update / (condition.update_rms * u),
    )


def _distances(X: Rows, F: Rows) -> tuple[float, float]:
    """The errors in the 2-norm and the Frobenius norm, from differences that are rounded once."""
    with precision(_PRECISIONS[0]):
        root = balls(F)
        (F_scaled, size), (E_scaled, error) = (_scaled(M) for M in (root, balls(X) - root))
    # the largest eigenvalue of E^T E is as accurate as a singular value, and cheaper
    spectral = math.sqrt(np.linalg.eigvalsh(E_scaled.T @ E_scaled)[-1]) / np.linalg.eigvalsh(F_scaled)[-1]
    frobenius = np.linalg.norm(E_scaled) / np.linalg.norm(F_scaled)
    return _times_power(spectral, error - size), _times_power(float(frobenius), error - size)


def _scaled(M: arb_mat) -> tuple[np.ndarray, int]:
    """M 2^-e in float64 with its largest entry in [1/2, 1), and e."""
    e = max((magnitude(x) for x in M.entries() if not x.is_zero()), default=0)
    return floats(M * arb(2) ** -e), e


def _times_power(x: float, e: int) -> float:
    """A number of about one times 2^e: infinite or zero where that is beyond the range."""
    try:
        return math.ldexp(x, e)
    except OverflowError:
        return math.copysign(math.inf, x)


def _figures(X: arb_mat, F: arb_mat, A: arb_mat, a: int, b: int) -> list[arb]:
    """The error of the update, the certificate, and the largest entry of the residual."""
    E = X - F
    update = trace_of_product(E * A, E) / trace_of_product(F * A, F)
    R = _residual(X, A, a, b)
    other = R if X.transpose() == X else _residual(X.transpose(), A, a, b)
    # |S|_F^2 is the trace of (X^a A^b - I) ((X^T)^a A^b - I)
    certificate = trace_of_product(R, other.transpose())
    return [update.sqrt(), certificate.sqrt() / a, _largest(R)]


def _residual(X: arb_mat, A: arb_mat, a: int, b: int) -> arb_mat:
    return power(X, a) * power(A, b) - identity(A.nrows())


def _largest(R: arb_mat) -> arb:
    return max((abs(x) for x in R.entries()), key=lambda x: x.mid())


def _defects(X: Rows) -> tuple[float, float]:
    """The symmetry defect and the smallest eigenvalue."""
    with precision(_PRECISIONS[0]):
        matrix = balls(X)
        size = frobenius_square(matrix)
        defect = frobenius_square(matrix - matrix.transpose())
        mean, e = _scaled((matrix + matrix.transpose()) * arb(0.5))
        relative = float((defect / size).sqrt()) if size > 0 else 0.0
    return relative, _times_power(float(np.linalg.eigvalsh(mean)[0]), e)


def _certain(figures: Callable[[], list[arb]]) -> list[float]:
    """Figures with as much precision as makes their first bits certain; bounds of them where no precision does."""
    values: list[arb] = []
    for bits in _PRECISIONS:
        with precision(bits):
            values = figures()
        if all(x.is_zero() or x.rel_accuracy_bits() >= _CERTAIN for x in values):
            return [float(x) for x in values]
    return [float(x.abs_upper()) for x in values]
