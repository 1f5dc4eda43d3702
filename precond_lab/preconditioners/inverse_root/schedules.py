"""Which polynomial an iteration takes at which step."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from precond_lab.preconditioners.inverse_root.minimax import Polynomial, linear, polynomial, taylor

STEPS = 200
"""More than any schedule has."""

CLOSE = 2.0**-4
"""An error of a minimax polynomial below which the Taylor polynomial does as well."""


class Schedule(NamedTuple):
    """Polynomials h of M <- h(M)^p M, X <- h(M) X.

    Attributes:
        first: those of the first steps.
        last: that of all others.
    """

    first: tuple[Polynomial, ...]
    last: Polynomial

    @property
    def table(self) -> tuple[tuple[float, ...], ...]:
        """The coefficients, a row for each of the first steps and one for all others."""
        width = max(len(h.coefficients) for h in (*self.first, self.last))
        return tuple(h.coefficients + (0.0,) * (width - len(h.coefficients)) for h in (*self.first, self.last))


def best(p: int, degree: int, lower: float, upper: float) -> Polynomial:
    """The minimax polynomial, in closed form for degree 1, or the Taylor polynomial where that is as good.

    Args:
        p: a positive integer.
        degree: at least 1.
        lower: l, positive.
        upper: u, at least l.

    Returns:
        The polynomial; the error of a Taylor polynomial is that on the interval.
    """
    if degree == 1:
        return linear(p, lower, upper)
    if 2 * lower <= upper:
        return polynomial(p, degree, lower, upper)
    h = taylor(p, degree)
    return h._replace(error=max(abs(m ** (1 / p) * h(m) - 1) for m in (lower, upper)))


def newton_schulz(p: int, degree: int, lower: float, safety: float) -> Schedule:
    """The Taylor polynomial at every step: Newton-Schulz for p = 2, Lakic's series for others.

    Args:
        p: a positive integer.
        degree: at least 1.
        lower: of no influence.
        safety: of no influence.

    Returns:
        The schedule.
    """
    del lower, safety
    return Schedule((), taylor(p, degree))


def polar_express(p: int, degree: int, lower: float, safety: float) -> Schedule:
    """At each step the minimax polynomial of the interval that the last one left: Polar Express (arXiv:2505.16932).

    Args:
        p: a positive integer; the paper's is 2.
        degree: at least 1; of the odd polynomial in the paper it is 2 degree + 1.
        lower: l of the first interval, [l, 1]; the steps go on until the polynomial of a step has an error of less than
            2^-4, and the Taylor polynomial follows.
        safety: every interval is taken longer at its upper end by this factor: beyond it a polynomial with a large
            error soon is negative.

    Returns:
        The schedule.
    """
    return _covered(p, degree, lower, 1.0, safety)


def chebyshev_accelerated(p: int, degree: int, lower: float, safety: float) -> Schedule:
    r"""Chebyshev-accelerated Newton-Schulz (CANS, arXiv:2506.10935) for a lower bound that need not be known.

    First come steps whose polynomial keeps everything in a tube, \|m^{1/p} h(m) - 1\| <= 1 - VALLEY^{1/p}, on the
    longest interval that allows it, so that small eigenvalues grow by the largest factor. The lower bound says only how
    many. Minimax polynomials of the tube follow.

    No eigenvalue falls below VALLEY that has been above, whereas the minimax polynomials of a long interval throw its
    largest eigenvalues down to its smallest, where rounding errors in M weigh the most. So a lower bound that is far
    too low costs accuracy with `polar_express`, and only steps here.

    Args:
        p: a positive integer; the paper's is 2.
        degree: at least 1.
        lower: what is to be in the tube in the end.
        safety: as in `polar_express`.

    Returns:
        The schedule.
    """
    first: list[Polynomial] = []
    upper = 1.0
    while lower < VALLEY and len(first) < STEPS:
        length = _longest(p, degree)
        upper *= safety
        h = best(p, degree, upper / length, upper)
        first.append(h)
        lower = min(lower * h(lower) ** p, (1 - h.error) ** p)
        upper = (1 + h.error) ** p
    rest = _covered(p, degree, lower, upper, safety)
    return Schedule((*first, *rest.first), rest.last)


VALLEY = 2.0**-2
"""What the tube lets an eigenvalue fall to."""


LONGEST = 512
"""A logarithm of u / l that no matrix reaches."""


def _longest(p: int, degree: int) -> float:
    """The quotient u / l of the longest interval on which the minimax polynomial stays in the tube, by bisection."""
    tube = 1 - VALLEY ** (1 / p)
    low, high = 1.0, 2.0
    while high < LONGEST and best(p, degree, 2.0**-high, 1.0).error < tube:
        low, high = high, 2 * high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if best(p, degree, 2.0**-middle, 1.0).error <= tube else (low, middle)
    return 2.0**low


def muon(p: int, degree: int, lower: float, safety: float) -> Schedule:
    """The polynomial of Muon, 3.4445 - 4.775 m + 2.0315 m^2, at every step.

    It converges to nothing: one is no fixed point of m h(m)^2, and eigenvalues stay between about 0.4 and 1.5. It is
    here to be compared with.

    Args:
        p: must be 2.
        degree: must be 2.
        lower: of no influence.
        safety: of no influence.

    Returns:
        The schedule.

    Raises:
        ValueError: for another p or degree.
    """
    del lower, safety
    if (p, degree) != (2, 2):
        raise ValueError(f"the schedule 'muon' is for p = 2 and degree 2, not p = {p} and degree {degree}")
    a, b, c = 3.4445, -4.7750, 2.0315
    return Schedule((), Polynomial((a + b + c, -b - 2 * c, c), 0.0))


SCHEDULES: Mapping[str, Callable[[int, int, float, float], Schedule]] = MappingProxyType({
    "newton_schulz": newton_schulz,
    "polar_express": polar_express,
    "chebyshev_accelerated": chebyshev_accelerated,
    "muon": muon,
})
"""By name: functions of p, the degree of h, a lower bound of the eigenvalues of M (whose upper one is 1), a safety."""


def schedule_of(name: str | Schedule, p: int, degree: int, lower: float, safety: float) -> Schedule:
    """The schedule of a name, or one that is given.

    Args:
        name: in SCHEDULES, or a schedule.
        p: a positive integer.
        degree: of h.
        lower: of the eigenvalues of M.
        safety: of every interval.

    Returns:
        The schedule.

    Raises:
        ValueError: for a name that is not known, or numbers out of range.
    """
    if isinstance(name, Schedule):
        return name
    if name not in SCHEDULES:
        raise ValueError(f"the schedule {name!r} given; known are {', '.join(SCHEDULES)}")
    if degree < 1 or not 0 < lower <= 1 or not 1 <= safety < 2:
        raise ValueError(
            f"degree {degree}, lower {lower}, safety {safety} given; at least 1, in (0, 1], in [1, 2) wanted"
        )
    return SCHEDULES[name](p, degree, lower, safety)


def _covered(p: int, degree: int, lower: float, upper: float, safety: float) -> Schedule:
    """Minimax polynomials until one has a small error."""
    first: list[Polynomial] = []
    while len(first) < STEPS:
        h = best(p, degree, lower, upper * safety)
        if first and not h.error < first[-1].error:
            break  # the safety lets it become no smaller
        first.append(h)
        if h.error <= CLOSE:
            break
        lower, upper = (1 - h.error) ** p, (1 + h.error) ** p
    return Schedule(tuple(first), taylor(p, degree))
