"""What a ridge does to an inverse root before any rounding.

(A + delta I)^{-1/p} has the eigenvectors of A^{-1/p}, and each eigenvalue smaller by the factor (1 + delta / l)^{-1/p}:
all errors are sums over eigenvalues, in closed form.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.diagnosis.inverse_root_condition import real_numbers
from precond_lab.truth.inverse_root.reference import numerator_and_denominator


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
            or for a p that is not positive or not rational.
        TypeError: if the eigenvalues are complex.

    Example:
        >>> bias = ridge_bias([1.0, 2.0**-20], 4, 15 * 2.0**-20)
        >>> bias.eigenvalues.round(7).tolist(), bias.spectral
        ([3.6e-06, 0.5], 0.5)
    """
    spectrum, s = real_numbers(eigenvalues), 1 / Fraction(*numerator_and_denominator(p))
    if spectrum.ndim != 1 or not spectrum.size or not np.all((spectrum > 0) & np.isfinite(spectrum)):
        raise ValueError(f"eigenvalues {spectrum} given; wanted [n], positive: without a ridge there must be a root")
    if not 0 <= delta < np.inf:
        raise ValueError(f"delta = {delta} given; it must be zero or positive, and finite")
    with np.errstate(over="ignore", divide="ignore"):
        ratio = delta / spectrum
        # Where the quotient overflows, l is nothing beside delta.
        logarithm = np.where(np.isfinite(ratio), np.log1p(ratio), np.log(delta) - np.log(spectrum))
    bias = -np.expm1(-logarithm / float(p))
    frobenius, update = (_mean(bias, _powers(spectrum, t - s)) for t in (0, Fraction(1, 2)))
    return RidgeBias(bias, float(np.max(bias)), frobenius, update)


def _powers(x: np.ndarray, s: Fraction) -> np.ndarray:
    """x^s over the largest of them: a quotient x / y, which may be out of range, is raised in two parts."""
    mantissas, exponents = np.frexp(x)
    reference = np.argmax(x) if s > 0 else np.argmin(x)
    ratios, differences = mantissas / mantissas[reference], exponents - exponents[reference]
    whole, rest = np.divmod(differences.astype(np.int64) * s.numerator, s.denominator)
    return np.ldexp(ratios ** float(s) * np.exp2(rest / s.denominator), np.clip(whole, -4096, 0))


def _mean(x: np.ndarray, weights: np.ndarray) -> float:
    """The root mean square of numbers that are not negative, their squares weighted by those of the weights."""
    largest = np.max(x)
    return float(largest * np.linalg.norm(weights * (x / largest)) / np.linalg.norm(weights)) if largest else 0.0
