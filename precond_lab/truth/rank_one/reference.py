"""The inverse of the accumulated matrix, in many digits, with a proof."""

from enum import Enum
from itertools import count
from typing import Any, NamedTuple

import mpmath
import numpy as np
from flint import arb, arb_mat, fmpz_mat
from numpy.typing import ArrayLike

from precond_lab.truth.inverse_root.balls import bits_of, identity, number, numbers, precision, symmetric
from precond_lab.truth.inverse_root.certificate import certified
from precond_lab.truth.inverse_root.definiteness import definite
from precond_lab.truth.rank_one.accumulation import Problem, in_balls, stated, whole_numbers

_GUARD = 64  # bits, for the condition number among others
_DOUBLINGS = 3  # of the precision before definiteness is decided in whole numbers
_LIMIT = 2**17  # bits beyond which the inverse is given up


class Status(Enum):
    """Whether there is a reference."""

    CERTIFIED = "certified"
    SINGULAR = "singular"
    NOT_POSITIVE_DEFINITE = "not positive definite"
    NOT_FINITE = "not finite"
    UNAVAILABLE = "reference unavailable"

    @property
    def prose(self) -> str:
        """What this means."""
        return _PROSE[self]


_PROSE = {
    Status.CERTIFIED: "The value is proved to be within the radius of the inverse, and both to be positive definite.",
    Status.SINGULAR: "The accumulated matrix is proved to have no inverse.",
    Status.NOT_POSITIVE_DEFINITE: "The accumulated matrix is proved to have a negative eigenvalue and none of zero.",
    Status.NOT_FINITE: "An argument holds an infinity or a NaN.",
    Status.UNAVAILABLE: "The matrix is positive definite, but too ill-conditioned for the precisions that are tried.",
}


class CertifiedInverse(NamedTuple):
    """An inverse with its proof, or the reason why there is none.

    Attributes:
        status: CERTIFIED, or why there is no value.
        value: X, ``[n, n]`` of mpmath numbers, exactly symmetric; NaN throughout where there is none. Its numbers have
            more digits than asked for, and the radius holds for all of them: do not round X to a smaller precision.
        radius: |X - C^{-1}|_2 is at most this, and so is every entry's error; infinite where there is no value.
        relative: r with (1 - r) C^{-1} <= X <= (1 + r) C^{-1} in the order of symmetric matrices: a bound of the
            relative error on every eigenvector; infinite where there is no value.
    """

    status: Status
    value: np.ndarray
    radius: Any
    relative: Any


def rank_one_inverse(C0: ArrayLike, V: ArrayLike, beta: Any, alpha: Any = None, digits: int = 50) -> CertifiedInverse:
    """The inverse of what updates of rank one accumulate, certified to the digits asked for.

    C <- beta C + alpha v v^T over all rows v of V, from C_0; the arguments are taken exactly. The matrix and a
    candidate X of its inverse are computed in balls, of precision doubled until the residual |X C - I| in balls proves
    X (see :mod:`precond_lab.truth.inverse_root.certificate`); it proves C positive definite as well, since X is. Where
    three doublings do not, the leading minors of C in whole numbers decide whether it is positive definite.

    Args:
        C0: the first matrix, symmetric ``[n, n]``, or its diagonal ``[n]``: floats of any format, rationals, or mpmath
            numbers.
        V: the vectors, ``[steps, n]``, or ``[steps, k, n]`` for steps of rank k; of the same kinds.
        beta: the decay.
        alpha: the weight, negative for downdates; exactly 1 - beta where None.
        digits: `relative` is at most 10^-digits.

    Returns:
        The inverse with its bounds, or a refusal: a matrix without an inverse is no error. Cost: n^3 + steps n^2
        products of balls; about a fifth of a second for n = 32 and 600 steps.

    Raises:
        ValueError: for shapes that do not fit, an asymmetric C0, beta negative, or digits below 1.
        TypeError: for complex numbers.

    Example:
        >>> certified = rank_one_inverse([2.0, 1.0], [[0.0, 2.0]], beta=1.0, alpha=1.0, digits=30)
        >>> [mpmath.nstr(x, 5) for x in certified.value.diagonal()], bool(certified.radius < 1e-30)
        (['0.5', '0.2'], True)
        >>> rank_one_inverse([0.0, 1.0], [[0.0, 2.0]], beta=1.0, alpha=1.0).status.value
        'singular'
    """
    return _solved(stated(C0, V, beta, alpha, None), len(np.asarray(C0)), 1, digits)[0]


def rank_one_inverses(
    C0: ArrayLike, V: ArrayLike, beta: Any, alpha: Any = None, digits: int = 50, *, every: int
) -> list[CertifiedInverse]:
    """The same at times on the way.

    Args:
        C0: as for `rank_one_inverse`.
        V: as there.
        beta: as there.
        alpha: as there.
        digits: as there.
        every: how many steps lie between two times; it divides the number of steps.

    Returns:
        The inverses after `every`, 2 `every`, ... steps; all refused where a number anywhere is not finite.

    Raises:
        ValueError: as there, and where `every` does not divide the number of steps.
        TypeError: for complex numbers.

    Example:
        >>> [str(x.value[0, 0]) for x in rank_one_inverses([1.0], [[1.0], [2.0]], 1.0, 2.0, every=1)][:1]
        ['0.333333333333333']
    """
    problem = stated(C0, V, beta, alpha, every)
    return _solved(problem, len(np.asarray(C0)), len(np.asarray(V)) // every, digits)


def _solved(problem: Problem | None, n: int, times: int, digits: int) -> list[CertifiedInverse]:
    if digits < 1:
        raise ValueError(f"{digits} digits asked for; wanted 1 at least")
    if problem is None:
        return [_refusal(Status.NOT_FINITE, n)] * times
    found: list[CertifiedInverse | None] = [None] * times
    bits = bits_of(digits) + 2 * n.bit_length() + len(problem.steps).bit_length() + _GUARD
    for doubling in count():
        with precision(bits << doubling):
            found = [x or _attempt(C, digits) for x, C in zip(found, in_balls(problem), strict=True)]
        if doubling == _DOUBLINGS and None in found:
            found = [x or _decided(X) for x, (X, _) in zip(found, whole_numbers(problem), strict=True)]
        if None not in found or bits << doubling > _LIMIT:
            break
    return [x or _refusal(Status.UNAVAILABLE, n) for x in found]


def _attempt(C: arb_mat, digits: int) -> CertifiedInverse | None:
    """The inverse, or a proof that C is indefinite, at the precision at hand; None where it is too small for either."""
    try:
        X = symmetric(C.solve(identity(C.nrows())))
    except ZeroDivisionError:
        X = None
    bound = None if X is None else certified(X, C, 1, 1, arb(10) ** -digits)
    if X is not None and bound is not None:
        return CertifiedInverse(Status.CERTIFIED, numbers(X), number(bound.radius), number(bound.relative))
    if definite(C) is False and C.det() != 0:
        return _refusal(Status.NOT_POSITIVE_DEFINITE, C.nrows())
    return None


def _decided(X: fmpz_mat) -> CertifiedInverse | None:
    """The refusal of a matrix of whole numbers, by its leading minors; None where they are positive, and so it is."""
    n, rows = X.nrows(), X.tolist()
    if X.det() == 0:
        return _refusal(Status.SINGULAR, n)
    if any(fmpz_mat([row[:k] for row in rows[:k]]).det() <= 0 for k in range(1, n + 1)):
        return _refusal(Status.NOT_POSITIVE_DEFINITE, n)
    return None


def _refusal(status: Status, n: int) -> CertifiedInverse:
    return CertifiedInverse(status, np.full((n, n), mpmath.nan, dtype=object), mpmath.inf, mpmath.inf)
