"""The four verdicts on a computed result."""

import enum
import math
from typing import Self

# Backward-stable algorithms meet their attainable error up to a modest constant that grows slowly with the size
# (Higham, Accuracy and Stability of Numerical Algorithms, section 1.6). Ten is that constant here.
MODEST = 10.0


class Verdict(enum.StrEnum):
    """What became of a program in an arithmetic; each member carries its explanation in `prose`."""

    prose: str

    def __new__(cls, name: str, prose: str) -> Self:
        """A string with an explanation.

        Args:
            name: the member's value.
            prose: what the verdict means and what follows from it.

        Returns:
            The member.
        """
        member = str.__new__(cls, name)
        member._value_ = name
        member.prose = prose
        return member

    ACCURATE = (
        "accurate",
        "The error is a small multiple of the unit roundoff: nothing is lost by this arithmetic.",
    )
    CONDITIONING = (
        "conditioning",
        (
            "The error is no larger, up to a factor of ten, than what rounding the inputs once more in this format "
            "could cause. If they were rounded when they were stored, no algorithm can know better: improve the "
            "problem (damping, fewer edges) or keep the inputs in a wider format."
        ),
    )
    UNSTABLE = (
        "unstable",
        (
            "The error exceeds what the condition number allows: the algorithm loses digits that its inputs still "
            "hold. Another order of operations, a wider accumulator or a wider format for some lines would keep them."
        ),
    )
    BREAKDOWN = (
        "breakdown",
        (
            "The result is not finite although the exact one is: an overflow, an underflow to zero in a divisor, or a "
            "pivot that rounding made zero."
        ),
    )


def judge(error: float, condition: float, unit_roundoff: float, finite: bool = True) -> Verdict:
    """The verdict on a relative error.

    Args:
        error: relative forward error of the computed result.
        condition: relative condition number in the same norm.
        unit_roundoff: of the arithmetic.
        finite: whether the computed result is finite wherever the exact one is.

    Returns:
        BREAKDOWN if not `finite` or the error is not a number; ACCURATE up to 10 u, and at most 1/2 (for 8-bit formats
        10 u would allow a result without a correct bit); CONDITIONING up to 10 u kappa; UNSTABLE beyond. CONDITIONING
        is no lower bound: u kappa is what a rounding of the inputs can cost at worst, and inputs that are exact, or an
        algorithm that is lucky, may do better.

    Example:
        >>> judge(1e-3, 1.0, 2.0**-8).value, judge(0.3, 100.0, 2.0**-8).value, judge(0.3, 1.0, 2.0**-8).value
        ('accurate', 'conditioning', 'unstable')
    """
    if not finite or math.isnan(error):
        return Verdict.BREAKDOWN
    if error <= min(MODEST * unit_roundoff, 0.5):
        return Verdict.ACCURATE
    if error <= MODEST * unit_roundoff * condition:
        return Verdict.CONDITIONING
    return Verdict.UNSTABLE
