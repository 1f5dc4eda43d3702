"""What a certificate says, in four words."""

import enum
from typing import Any, Self

import numpy as np


class Certainty(enum.StrEnum):
    """What has been proved; each member carries its explanation in `prose`."""

    prose: str

    def __new__(cls, name: str, prose: str) -> Self:
        """A string with an explanation.

        Args:
            name: the member's value.
            prose: what is proved and what is not.

        Returns:
            The member.
        """
        member = str.__new__(cls, name)
        member._value_ = name
        member.prose = prose
        return member

    CERTIFIED = (
        "certified",
        "The hypothesis of the theorem holds, also in spite of the roundings of its own test: so does the conclusion.",
    )
    LOST = (
        "lost",
        (
            "It is proved that positive definiteness is lost: a number is not finite or will overflow, or a direction "
            "exists along which the matrix is negative."
        ),
    )
    PASSED = (
        "passed",
        "A test that only a matrix that is not positive definite fails was passed. That proves nothing of the matrix.",
    )
    UNDECIDED = (
        "undecided",
        "The hypothesis does not hold, or not provably: the conclusion may be true or false.",
    )


def certainty(certified: Any, lost: Any = False, otherwise: Certainty = Certainty.UNDECIDED) -> Any:
    """Verdicts of booleans.

    Args:
        certified: booleans ``[...]``.
        lost: likewise; it goes before `certified`.
        otherwise: where both are false.

    Returns:
        A member where ``[...]`` is no axis, else an array of objects.
    """
    certified, lost = np.broadcast_arrays(certified, lost)
    answers = np.empty(certified.shape, dtype=object)
    answers[~certified] = otherwise  # a mask: numpy would make a plain string of a member that fills an array
    answers[certified] = Certainty.CERTIFIED
    answers[lost] = Certainty.LOST
    return answers.item() if not answers.ndim else answers


def settled(x: Any) -> Any:
    """A Python number where an array has no axes.

    Args:
        x: an array or a number.

    Returns:
        The number, or the array.
    """
    array = np.asarray(x)
    return array.item() if not array.ndim else array
