"""What came of the computation of an inverse root."""

import enum
from typing import NamedTuple, Self

import jax


class Result(enum.IntEnum):
    """How a computation ended; each member carries its explanation in `prose`.

    Of several that apply, the one of the highest number is given. Results are codes, so that a compiled program can
    return them: ``Result(int(r.result))`` is the member.
    """

    prose: str

    def __new__(cls, code: int, prose: str) -> Self:
        """A code with an explanation.

        Args:
            code: the member's value.
            prose: what it means and what follows from it.

        Returns:
            The member.
        """
        member = int.__new__(cls, code)
        member._value_ = code
        member.prose = prose
        return member

    CONVERGED = (0, "The residual of the root is within the tolerance.")
    MODIFIED = (
        1,
        (
            "Eigenvalues were too small or negative, and were changed by the policy that was asked for: the root is "
            "that of the changed matrix."
        ),
    )
    STAGNATED = (
        2,
        (
            "The iteration came to rest, but the residual of its root exceeds the tolerance: the condition number is "
            "too large for this arithmetic. Add a ridge, or compute the first steps in a wider format."
        ),
    )
    MAX_STEPS = (3, "The iteration was still improving at the last step that was allowed.")
    DIVERGED = (
        4,
        (
            "The iteration grew after its best iterate, which is returned: rounding has made an eigenvalue negative. "
            "Or what is returned is not finite, since a decomposition, or a basis or root that was given, is not."
        ),
    )
    NOT_POSITIVE_DEFINITE = (
        5,
        (
            "The matrix has no Cholesky factor in this arithmetic: it is singular, or has a negative eigenvalue, or is "
            "within rounding of such a matrix. What is returned approximates no root. Add a ridge, or use a spectral "
            "method with a policy for such eigenvalues."
        ),
    )
    ZERO_MATRIX = (6, "The matrix is zero and has no inverse root; NaN is returned. Add an absolute ridge.")
    ASYMMETRIC = (
        7,
        "The matrix differs from its transpose by more than rounding; NaN is returned. Give (A + A.T) / 2 if meant.",
    )
    OUT_OF_RANGE = (
        8,
        (
            "The scale of the root, or of the matrix with its ridge, is beyond the range of the dtype: infinities, "
            "zeros or NaN are returned. Multiply the matrix by a power of two, and undo it where the root is used."
        ),
    )
    NOT_FINITE = (9, "The matrix has an entry that is infinite or NaN; NaN is returned.")


class InverseRoot(NamedTuple):
    """An approximation of A^{-1/p}, and what is known of it.

    Attributes:
        root: X, ``[n, n]``; symmetric.
        result: the code of a :class:`Result`, an int32 scalar.
        steps: of the iteration, an int32 scalar; 0 for a direct method.
        residual: |G^T X^p G - I|_F / p with A = G G^T, a scalar: to first order a bound of the error of X relative to
            the root in the 2-norm, as the arithmetic of the program computes it. NaN where there is no G.
    """

    root: jax.Array
    result: jax.Array
    steps: jax.Array
    residual: jax.Array
