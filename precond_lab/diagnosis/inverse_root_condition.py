r"""Condition numbers of the inverse root A -> A^{-1/p} of a symmetric positive definite matrix.

In the eigenbasis A = V diag(l) V^T the derivative of F = A^{-1/p} in the direction E is

    L(A, E) = V (D o (V^T E V)) V^T,    D_ij = f[l_i, l_j],    f(x) = x^{-1/p}

(Daleckii and Krein; Higham, Functions of Matrices, theorem 3.11). With p = a / b, l_i <= l_j and r = (l_i / l_j)^{1/a}
the divided difference is a quotient of sums of positive terms, which neither cancel nor overflow:

    D_ij = -(1 + r + ... + r^{b-1}) / (1 + r + ... + r^{a-1}) l_i^{-1/p} / l_j.

Its magnitude decreases in both arguments: the largest is that of D at the smallest eigenvalue twice, |f'(l_min)| =
l_min^{-1/p-1} / p.

**2-norm.** sup |L(A, E)|_2 / |E|_2 is |f'(l_min)|, attained by E = I and by E = v v^T with v the eigenvector of l_min:
x^{-1/p} is an integral of exp(-s x) with a positive weight, and the derivative of exp(-s A) is bounded in the 2-norm by
s exp(-s l_min). The relative condition number is kappa / p, exactly.

**Frobenius norm.** The sup is the largest |D_ij|: the same number, attained by v v^T, which is symmetric; so
perturbations that are symmetric are as bad as any. The relative condition number is |f'(l_min)| |A|_F / |F|_F.

**As an optimizer feels it.** Of |L(A, E) A^{1/2}|_F for symmetric E with |E|_F = 1 the sup is the largest of the
numbers |D_ij| ((l_i + l_j) / 2)^{1/2}, which is |f'(l_min)| l_min^{1/2}: once more that of v v^T. For with r = 1 / p
and l_i <= l_j, |D_ij| / r is the mean of x^{-r-1} over [l_i, l_j], so at most l_i^{-r} times that of 1 / x. That is one
over the logarithmic mean, which exceeds the geometric mean (l_i l_j)^{1/2}; and (l_i + l_j) / 2 <= l_j.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.arithmetic.formats import Format, named
from precond_lab.truth.inverse_root.reference import numerator_and_denominator


class Attainable(NamedTuple):
    """Relative errors of the inverse root that rounding A in a format can cause.

    Attributes:
        spectral: at worst, in the 2-norm.
        frobenius: at worst, in the Frobenius norm.
        update: at worst, of the update X G of an optimizer: |(X - F) A^{1/2}|_F / |F A^{1/2}|_F.
        frobenius_rms: in the root mean square over errors without structure.
        update_rms: the same of the update.
    """

    spectral: float
    frobenius: float
    update: float
    frobenius_rms: float
    update_rms: float


class InverseRootCondition(NamedTuple):
    """Relative condition numbers of the inverse root; infinite where A is not positive definite, or n kappa overflows.

    Attributes:
        kappa: l_max / l_min.
        spectral: for changes of A in the 2-norm: kappa / p.
        frobenius: for changes in the Frobenius norm.
        update: the same for |dF A^{1/2}|_F / |F A^{1/2}|_F.
        frobenius_rms: root mean square of |dF|_F / |F|_F over changes with uncorrelated entries, each of standard
            deviation |A|_F / n.
        update_rms: the same for |dF A^{1/2}|_F / |F A^{1/2}|_F.
    """

    kappa: float
    spectral: float
    frobenius: float
    update: float
    frobenius_rms: float
    update_rms: float

    @property
    def bits_lost(self) -> float:
        """The bits of A that are lost to its root at worst, in the 2-norm: log2(kappa / p), or 0 for kappa < p."""
        return max(0.0, math.log2(self.spectral))

    def attainable(self, format: str | Format) -> Attainable:
        """What rounding A in a format can cost: these condition numbers times its unit roundoff, to first order.

        Args:
            format: a record or its name.

        Returns:
            The errors.
        """
        return Attainable(*(named(format).unit_roundoff * x for x in self[1:]))


def inverse_root_condition(A: ArrayLike, p: int | Fraction = 4) -> InverseRootCondition:
    """Condition numbers of A^{-1/p}.

    Args:
        A: symmetric, ``[n, n]``, floats; converted to float64.
        p: positive.

    Returns:
        The condition numbers, from float64 eigenvalues: their relative error is about n kappa 2^-53.

    Raises:
        ValueError: if A is not square, not symmetric or not finite, or p not positive or not rational.
        TypeError: if A holds complex numbers.

    Example:
        >>> condition = inverse_root_condition([[1.0, 0.0], [0.0, 2.0**-10]], 4)
        >>> condition.spectral, condition.bits_lost, condition.attainable("bfloat16").spectral
        (256.0, 8.0, 1.0)
    """
    return condition_of_spectrum(np.linalg.eigvalsh(_symmetric(A)), p)


def condition_of_spectrum(eigenvalues: ArrayLike, p: int | Fraction = 4) -> InverseRootCondition:
    """The same from eigenvalues, where these are at hand: no digit is lost.

    Args:
        eigenvalues: ``[n]``, of any order.
        p: positive.

    Returns:
        The condition numbers.

    Raises:
        ValueError: if the eigenvalues are no vector, or p is not positive or not rational.
        TypeError: if they are complex.
    """
    spectrum = np.sort(real_numbers(eigenvalues))
    if spectrum.ndim != 1 or not spectrum.size:
        raise ValueError(f"eigenvalues of shape {spectrum.shape} given; wanted [n] with one at least")
    numerator_and_denominator(p)
    if not np.all((spectrum > 0) & np.isfinite(spectrum)):
        return InverseRootCondition(*[math.inf] * 6)
    with np.errstate(over="ignore"):
        ratios = spectrum / spectrum[0]
    n, kappa = len(spectrum), float(ratios[-1])
    if not math.isfinite(n * kappa):
        return InverseRootCondition(*[math.inf] * 6)
    # In units of the smallest eigenvalue no element of D and of F exceeds one; in those of the largest |A|_F is small.
    D, root = divided_differences(ratios, p), ratios ** (-1 / float(p))
    size, worst = kappa * np.linalg.norm(spectrum / spectrum[-1]), float(np.max(-D))
    F, update = np.linalg.norm(root), np.linalg.norm(root * np.sqrt(ratios))
    return InverseRootCondition(
        kappa,
        kappa / float(p),
        float(worst * (size / F)),
        float(worst * (size / update)),
        float(np.linalg.norm(D) / n * (size / F)),
        float(np.linalg.norm(D * np.sqrt(ratios)) / n * (size / update)),
    )


def divided_differences(eigenvalues: ArrayLike, p: int | Fraction = 4) -> np.ndarray:
    """The matrix D of divided differences of x^{-1/p}, without cancellation.

    Args:
        eigenvalues: positive, ``[n]``.
        p: positive.

    Returns:
        ``[n, n]``; each entry has a relative error of a few 2^-53, also where eigenvalues coincide.

    Raises:
        ValueError: if p is not positive or not rational.
        TypeError: if the eigenvalues are complex.

    Example:
        >>> divided_differences([1.0, 4.0], 2).tolist()
        [[-0.5, -0.16666666666666666], [-0.16666666666666666, -0.0625]]
    """
    a, b = numerator_and_denominator(p)
    values = real_numbers(eigenvalues)
    smaller, larger = np.minimum.outer(values, values), np.maximum.outer(values, values)
    r = (smaller / larger) ** (1 / a)
    return -(_powers(r, b) / _powers(r, a)) * smaller ** (-b / a) / larger


def _powers(r: np.ndarray, k: int) -> np.ndarray:
    """1 + r + ... + r^{k-1}, by Horner's rule."""
    total = np.ones_like(r)
    for _ in range(k - 1):
        total = total * r + 1
    return total


def real_numbers(x: ArrayLike) -> np.ndarray:
    """What has to be real, in float64.

    Args:
        x: of any shape.

    Returns:
        An array of the same shape.

    Raises:
        TypeError: if it holds complex numbers, whose imaginary parts a conversion would drop.
    """
    array = np.asarray(x)
    if np.iscomplexobj(array):
        raise TypeError("complex numbers given; they must be real: give the real parts if these are meant")
    return array.astype(np.float64)


def derivative(A: ArrayLike, E: ArrayLike, p: int | Fraction = 4) -> np.ndarray:
    """The derivative L(A, E) of A^{-1/p} in the direction E.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        E: ``[n, n]``; need not be symmetric.
        p: positive.

    Returns:
        ``[n, n]``, in float64: the error in the 2-norm is about n kappa 2^-53 of |f'(l_min)| |E|_2.

    Raises:
        ValueError: if A is not symmetric positive definite, the shapes differ, or p is not positive or not rational.
        TypeError: if A or E holds complex numbers.
    """
    A, E = _symmetric(A), real_numbers(E)
    if E.shape != A.shape:
        raise ValueError(f"A of shape {A.shape} and E of shape {E.shape} given; they must agree")
    spectrum, V = _positive_eigh(A)
    return V @ (divided_differences(spectrum, p) * (V.T @ E @ V)) @ V.T


def worst_direction(A: ArrayLike) -> np.ndarray:
    """The direction v v^T with v the eigenvector of the smallest eigenvalue.

    It attains the condition numbers in the 2-norm, in the Frobenius norm, and of the update.

    Args:
        A: symmetric positive definite, ``[n, n]``.

    Returns:
        ``[n, n]``, of rank one and norm one.

    Raises:
        ValueError: if A is not symmetric positive definite.
    """
    v = _positive_eigh(_symmetric(A))[1][:, 0]
    return np.outer(v, v)


class EntrywiseCondition(NamedTuple):
    """What relative changes of the entries of A do to its root: symmetric, |dA_ij| <= eps |A_ij|.

    Attributes:
        bound: no such change makes |dF|_F / |F|_F larger than this times eps, to first order.
        attained: what the direction below makes of it.
        rms: root mean square over independent changes of the entries on and below the diagonal, mirrored above it,
            each of standard deviation eps |A_ij|.
        direction: dA / eps, ``[n, n]``: |A| with the signs of v v^T, v the eigenvector of the smallest eigenvalue. It
            is the worst for the largest entry of the derivative, and for all of it where A is diagonal.
    """

    bound: float
    attained: float
    rms: float
    direction: np.ndarray


def entrywise_condition(A: ArrayLike, p: int | Fraction = 4) -> EntrywiseCondition:
    """Condition of A^{-1/p} for changes that are relative to each entry, as those of rounding are.

    Args:
        A: symmetric positive definite, ``[n, n]``, floats; converted to float64.
        p: positive.

    Returns:
        Bounds from both sides, and the mean. Cost: O(n^4) flops for the mean.

    Raises:
        ValueError: if A is not symmetric positive definite, or p not positive or not rational.

    Example:
        >>> condition = entrywise_condition([[1.0, 0.0], [0.0, 2.0**-10]], 4)
        >>> round(condition.bound, 12), round(condition.attained, 12)
        (0.25, 0.25)
    """
    A = _symmetric(A)
    spectrum, V = _positive_eigh(A)
    B, spectrum = A / spectrum[-1], spectrum / spectrum[-1]
    D, F = divided_differences(spectrum, p), np.linalg.norm(spectrum ** (-1 / float(p)))
    size = np.abs(V).T @ np.abs(B) @ np.abs(V)
    sign = np.where(V[:, 0] < 0, -1.0, 1.0)
    signs = np.outer(sign, sign)
    return EntrywiseCondition(
        float(min(np.linalg.norm(D * size), np.max(-D) * np.linalg.norm(B)) / F),
        float(np.linalg.norm(D * (V.T @ (np.abs(B) * signs) @ V)) / F),
        float(np.sqrt(np.sum(D**2 * _entrywise_variances(B, V))) / F),
        np.abs(A) * signs,
    )


def _entrywise_variances(A: np.ndarray, V: np.ndarray) -> np.ndarray:
    """The variances of v_k^T E v_l for a symmetric E with independent entries of standard deviations |A_ij|.

    An entry off the diagonal comes with v_ik v_jl + v_jk v_il, whose square sums to that of products v_ik^2 v_jl^2 and
    to (v_ik v_il) (v_jk v_jl), each over all i and j that differ.
    """
    variances, squares = A**2, V**2
    off = variances - np.diag(np.diag(variances))
    plain = squares.T @ variances @ squares
    mixed = np.empty_like(A)
    for k in range(len(A)):
        products = V * V[:, k : k + 1]
        mixed[k] = np.sum(products * (off @ products), axis=0)
    return plain + mixed


def _positive_eigh(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spectrum, V = np.linalg.eigh(A)
    if not spectrum[0] > 0:
        raise ValueError(f"A has the eigenvalue {spectrum[0]} in float64; it must be positive definite")
    return spectrum, V


def _symmetric(A: ArrayLike) -> np.ndarray:
    A = real_numbers(A)
    if A.ndim != 2 or not A.size or A.shape[0] != A.shape[1]:
        raise ValueError(f"a matrix of shape {A.shape} given; wanted [n, n] with a row at least")
    if not np.isfinite(A).all():
        raise ValueError("A holds an infinity or a NaN; it must be finite")
    if not np.array_equal(A, A.T):
        raise ValueError("A is not symmetric; give (A + A.T) / 2 if that is meant")
    return A
