"""The inverse root of a symmetric positive definite matrix, in many digits, with a proof."""

from collections.abc import Iterator
from enum import Enum
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath
import numpy as np
from flint import arb, arb_mat
from numpy.typing import ArrayLike

from precond_lab.truth.inverse_root.balls import Rows, balls, bits_of, number, numbers, precision, symmetric_rationals
from precond_lab.truth.inverse_root.candidates import coupled_newton, eigenvectors, newton_in_eigenbasis
from precond_lab.truth.inverse_root.certificate import Bound, certified
from precond_lab.truth.inverse_root.definiteness import positive_definite

_GUARD = 32  # bits
_HIDDEN = 2.0**-44  # an eigenvalue below this part of the largest one is not known to float64
_FALLBACKS = (1, 2, 4)  # how often the fallback allows for a condition number of 2^64


class Status(Enum):
    """Whether there is a reference."""

    CERTIFIED = "certified"
    NOT_POSITIVE_DEFINITE = "not positive definite"
    NOT_FINITE = "not finite"
    UNAVAILABLE = "reference unavailable"

    @property
    def prose(self) -> str:
        """What this means."""
        return _PROSE[self]


_PROSE = {
    Status.CERTIFIED: "The value is proved to be within the radius of the inverse root.",
    Status.NOT_POSITIVE_DEFINITE: "A is proved to have an eigenvalue that is negative or zero, and so no inverse root.",
    Status.NOT_FINITE: "A holds an infinity or a NaN.",
    Status.UNAVAILABLE: (
        "No approximation passed the certificate, or A could not be told from a singular matrix: its condition number "
        "is too large for the precisions that are tried."
    ),
}


class CertifiedRoot(NamedTuple):
    """An inverse root with its proof, or the reason why there is none.

    Attributes:
        status: CERTIFIED, or why there is no value.
        value: X, ``[n, n]`` of mpmath numbers, exactly symmetric; NaN throughout where there is none. Its numbers have
            more digits than asked for, and the radius holds for all of them: do not round X to a smaller precision.
        radius: |X - A^{-1/p}|_2 is at most this, and so is every entry's error; infinite where there is no value.
        relative: r with (1 - r) A^{-1/p} <= X <= (1 + r) A^{-1/p} in the order of symmetric matrices: a bound of the
            relative error on every eigenvector; infinite where there is no value.
    """

    status: Status
    value: np.ndarray
    radius: Any
    relative: Any


def inverse_root(A: ArrayLike, p: int | Fraction = 4, digits: int = 50) -> CertifiedRoot:
    """A^{-1/p} of the stored A, certified to the digits asked for.

    A is first proved to be positive definite. Candidates are then made by Newton's method in the eigenbasis that
    float64 gives, and failing that by coupled Newton iteration with more and more digits. The first that the theorem of
    :mod:`~precond_lab.truth.inverse_root.certificate`, evaluated in balls, proves to be as near as asked is returned.

    Args:
        A: symmetric, ``[n, n]``: floats of any format (taken as they are, bit by bit), rationals, or mpmath numbers.
        p: positive.
        digits: `relative` is at most 10^-digits.

    Returns:
        The root with its bounds, or a refusal: a matrix that has no root, or whose root could not be certified, is no
        error. Cost: some tens of products of matrices of numbers of these digits.

    Raises:
        ValueError: if A is not square or not symmetric, if p is not positive or not rational, or digits below 1.
        TypeError: if A holds complex numbers.

    Example:
        >>> root = inverse_root([[17.0, 0.0], [0.0, 16.0]], digits=30)
        >>> mpmath.nstr(root.value[1, 1], 10), bool(root.radius < 1e-30)
        ('0.5', True)
        >>> inverse_root([[1.0, 2.0], [2.0, 1.0]]).status.value
        'not positive definite'
    """
    a, b = numerator_and_denominator(p)
    if digits < 1:
        raise ValueError(f"{digits} digits asked for; wanted 1 at least")
    rows = symmetric_rationals(A)
    if rows is None:
        return _refusal(Status.NOT_FINITE, len(np.asarray(A)))
    definite = positive_definite(rows)
    if not definite:
        return _refusal(Status.UNAVAILABLE if definite is None else Status.NOT_POSITIVE_DEFINITE, len(rows))
    for bits, candidate in _candidates(rows, a, b, digits):
        with precision(bits):
            bound = certified(candidate, balls(rows), a, b, arb(10) ** -digits)
            if bound is not None:
                return _published(candidate, bound)
    return _refusal(Status.UNAVAILABLE, len(rows))


def _candidates(rows: Rows, a: int, b: int, digits: int) -> Iterator[tuple[int, arb_mat]]:
    """Approximations, each with the precision at which it is to be judged."""
    needed = bits_of(digits) + a.bit_length() + 2 * len(rows).bit_length() + _GUARD
    with precision(needed):
        decomposition = eigenvectors(balls(rows))
    if decomposition is not None and decomposition[0][0] > _HIDDEN * decomposition[0][-1]:
        values, vectors, _ = decomposition
        bits = needed + b * int(np.log2(values[-1] / values[0]) + 1)
        with precision(bits):
            tolerance = arb(2) ** -(bits_of(digits) + 2 * len(rows).bit_length())
            candidate = newton_in_eigenbasis(balls(rows), vectors, a, b, tolerance)
        if candidate is not None:
            yield bits, candidate
    for more in _FALLBACKS:
        bits = needed + 2 * 64 * b * more
        with precision(bits):
            candidate = coupled_newton(balls(rows), a, b, bits)
        if candidate is not None:
            yield bits, candidate


def numerator_and_denominator(p: int | Fraction) -> tuple[int, int]:
    """The whole numbers a and b of p = a / b.

    Args:
        p: positive.

    Returns:
        a and b, without a common factor.

    Raises:
        ValueError: if p is not positive, or not rational.
    """
    if isinstance(p, bool) or not isinstance(p, (int, np.integer, Fraction)) or p <= 0:
        raise ValueError(f"p = {p!r} given; it must be a positive integer, or a fractions.Fraction")
    return int(p.numerator), int(p.denominator)


def _published(X: arb_mat, bound: Bound) -> CertifiedRoot:
    return CertifiedRoot(Status.CERTIFIED, numbers(X), number(bound.radius), number(bound.relative))


def _refusal(status: Status, n: int) -> CertifiedRoot:
    return CertifiedRoot(status, np.full((n, n), mpmath.nan, dtype=object), mpmath.inf, mpmath.inf)
