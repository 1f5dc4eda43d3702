"""What a ridge does to an inverse root before any rounding.

(A + delta I)^{-1/p} has the eigenvectors of A^{-1/p}, and each eigenvalue smaller by the factor (1 + delta / l)^{-1/p}:
all errors are sums over eigenvalues, in closed form.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class RidgeBias(NamedTuple):
    """The relative error of (A + delta I)^{-1/p} as an approximation of F = A^{-1/p}.

    Attributes:
        eigenvalues: 1 - (1 + delta / l)^{-1/p} for each eigenvalue l of A, in the order given.
        spectral: in the 2-norm: that of the smallest eigenvalue.
        frobenius: in the Frobenius norm.
        update: of the update of an optimizer, |(F_delta - F) A^{1/2}|_F / |F A^{1/2}|_F.
    """

    eigenvalues: np.ndarray
    spectral: float
    frobenius: float
    update: float


def ridge_bias(eigenvalues: ArrayLike, p: int | Fraction, delta: float) -> RidgeBias:
    """The bias of a ridge, in closed form and without cancellation.

    Args:
        eigenvalues: of A, positive, ``[n]``; those of a matrix that is not diagonal are as exact as their computation.
        p: positive.
        delta: what is added to each, zero or positive.

    Returns:
        The bias, each figure with a relative error of a few 2^-53.

    Raises:
        ValueError: for an eigenvalue that is not positive, where there is no root to be biased; for a negative delta;
            or for a p that is not positive.

    Example:
        >>> bias = ridge_bias([1.0, 2.0**-20], 4, 15 * 2.0**-20)
        >>> bias.eigenvalues.round(7).tolist(), bias.spectral
        ([3.6e-06, 0.5], 0.5)
    """
    spectrum = np.asarray(eigenvalues, np.float64)
    if spectrum.ndim != 1 or not spectrum.size or not np.all((spectrum > 0) & np.isfinite(spectrum)):
        raise ValueError(f"eigenvalues {spectrum} given; wanted [n], positive: without a ridge there must be a root")
    if not (0 <= delta < np.inf and p > 0):
        raise ValueError(f"delta = {delta} and p = {p} given; delta must not be negative, and p must be positive")
    with np.errstate(over="ignore"):
        ratio = delta / spectrum
    # 1 + delta / l = (l + delta) / l also where the quotient overflows
    logarithm = np.where(np.isfinite(ratio), np.log1p(ratio), np.log(delta + spectrum) - np.log(spectrum))
    bias = -np.expm1(-logarithm / float(p))
    scaled = spectrum / np.max(spectrum)
    root = (scaled / np.min(scaled)) ** (-1 / float(p))
    update = root * np.sqrt(scaled)
    return RidgeBias(
        bias,
        float(np.max(bias)),
        float(np.linalg.norm(root * bias) / np.linalg.norm(root)),
        float(np.linalg.norm(update * bias) / np.linalg.norm(update)),
    )
