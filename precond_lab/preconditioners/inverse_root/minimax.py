r"""Minimax approximations of inverse roots.

An iteration M <- h(M)^p M, X <- h(M) X takes an eigenvalue m of M to m h(m)^p, and is done where that is one. On an
interval [l, u] the best h of its kind is the one for which m^{1/p} h(m) - 1 has the least maximum E; then all
eigenvalues are in [(1 - E)^p, (1 + E)^p]. It is found by Remez's exchange: an h with as many parameters as there are
sign changes is the best one if and only if the error takes its maximum with alternating signs at one point more.
These are Python numbers, computed once for each interval, before any program runs.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import NamedTuple

EXCHANGES = 60
"""At most so many; a few are enough."""

LEVEL = 2.0**-20
"""The maxima of an error that is level differ by no more than this, relative to their size."""


class Polynomial(NamedTuple):
    r"""h(m) = b_0 + b_1 (1 - m) + ... + b_d (1 - m)^d.

    In powers of 1 - m it is evaluated without cancellation where m is about one.

    Attributes:
        coefficients: b_0 to b_d.
        error: the maximum of \|m^{1/p} h(m) - 1\| on the interval.
    """

    coefficients: tuple[float, ...]
    error: float

    def __call__(self, m: float) -> float:
        """The value.

        Args:
            m: where.

        Returns:
            h(m).
        """
        value = 0.0
        for b in reversed(self.coefficients):
            value = value * (1 - m) + b
        return value


class Rational(NamedTuple):
    r"""h(m) = c_0 + c_1 / (m + b_1) + ... + c_v / (m + b_v), with no negative b or c: sums do not cancel.

    Attributes:
        constant: c_0, zero for the type (v - 1, v).
        residues: c_1 to c_v.
        poles: b_1 to b_v, the poles with their signs changed.
        error: the maximum of \|m^{1/p} h(m) - 1\| on the interval, as binary64 arithmetic finds it: what the rounded
            coefficients add, a few 2^-53, is not in it.
    """

    constant: float
    residues: tuple[float, ...]
    poles: tuple[float, ...]
    error: float

    def __call__(self, m: float) -> float:
        """The value.

        Args:
            m: where.

        Returns:
            h(m).
        """
        return self.constant + sum(c / (m + b) for c, b in zip(self.residues, self.poles, strict=True))


def taylor(p: int, degree: int) -> Polynomial:
    """The Taylor polynomial of m^{-1/p} at one: what the minimax polynomial tends to as its interval shrinks to it.

    Its coefficients are b_i = b_{i-1} (1 + (i - 1) p) / (i p), b_0 = 1. Degree 1 is Newton's iteration.

    Args:
        p: a positive integer.
        degree: at least 1.

    Returns:
        The polynomial, with an error of zero.

    Example:
        >>> taylor(2, 2).coefficients
        (1.0, 0.5, 0.375)
    """
    b = [Fraction(1)]
    for i in range(1, degree + 1):
        b.append(b[-1] * Fraction(1 + (i - 1) * p, i * p))
    return Polynomial(tuple(map(float, b)), 0.0)


@cache
def linear(p: int, lower: float, upper: float) -> Polynomial:
    """The minimax polynomial of degree 1, in closed form.

    With x = m^{1/p} it is a x - b x^{p+1} in which x = l^{1/p}, the maximum between, and u^{1/p} are level: a / b is
    the divided difference of x^{p+1}, and the maximum is where x^p = a / ((p + 1) b). For p = 2 it is the cubic of
    Polar Express (arXiv:2505.16932) and of Chebyshev-accelerated Newton-Schulz (arXiv:2506.10935).

    Args:
        p: a positive integer.
        lower: l, positive.
        upper: u, at least l.

    Returns:
        The polynomial.
    """
    x, y = lower ** (1 / p), upper ** (1 / p)
    ratio = sum(x**j * y ** (p - j) for j in range(p + 1))
    peak = p * (ratio / (p + 1)) ** (1 + 1 / p)
    valley = x * (ratio - x**p)
    b = 2 / (valley + peak)
    # a - b m = (a - b) + b (1 - m)
    return Polynomial((b * ratio - b, b), max((peak - valley) / (peak + valley), 0.0))


@cache
def polynomial(p: int, degree: int, lower: float, upper: float) -> Polynomial:
    """The minimax polynomial of a degree.

    Args:
        p: a positive integer.
        degree: at least 1.
        lower: l, positive.
        upper: u, at least 2 l: on shorter intervals the Taylor polynomial is as good.

    Returns:
        The polynomial.

    Raises:
        ValueError: for a degree or an interval that is none of these.
    """
    if degree < 1 or not 0 < 2 * lower <= upper:
        raise ValueError(f"degree {degree} on [{lower}, {upper}] given; at least 1, and 0 < 2 l <= u, are wanted")
    count = degree + 1
    start = [(1 - math.cos(math.pi * i / count)) / 2 for i in range(count + 1)]
    points = [math.log(lower + (upper - lower) * x) for x in start]

    def fitted(points: list[float]) -> Polynomial:
        rows, values = [], []
        for i, s in enumerate(points):
            m = math.exp(s)
            rows.append([m ** (1 / p) * (1 - m) ** j for j in range(count)] + [(-1.0) ** i])
            values.append(1.0)
        *b, error = _solved(rows, values)
        return Polynomial(tuple(b), abs(error))

    best, error = fitted(points), 0.0
    for _ in range(EXCHANGES):
        points, least, error = _exchanged(lambda s, h=best: math.exp(s / p) * h(math.exp(s)) - 1, points)
        if error - least <= LEVEL * error:
            break
        best = fitted(points)
    return best._replace(error=error)


def pade(p: int, poles: int, *, constant: bool = True) -> Rational:
    """The Padé approximant of m^{-1/p} at one, in partial fractions.

    m^{-a} is the integral of 1 / (1 - s + s m) over [0, 1] with the weight s^{a-1} (1 - s)^{-a} / B(a, 1 - a), and
    the approximant is its Gauss-Jacobi rule; with a constant, the Gauss-Radau rule that has a node at zero.

    Args:
        p: at least 2.
        poles: v, at least 1.
        constant: whether the type is (v, v), otherwise it is (v - 1, v).

    Returns:
        The approximant, with an error of zero.

    Example:
        >>> pade(2, 1, constant=False)  # 2 / (1 + m)
        Rational(constant=0.0, residues=(2.0,), poles=(1.0,), error=0.0)
    """
    moments = [Fraction(1)]
    for k in range(2 * poles + 1):
        moments.append(moments[-1] * (Fraction(1, p) + k) / (1 + k))
    of_rule = moments[1:] if constant else moments
    gram = [of_rule[i : i + poles] for i in range(poles)]
    orthogonal = [*_solved(gram, [-x for x in of_rule[poles : 2 * poles]]), Fraction(1)]
    nodes = _roots([float(x) for x in orthogonal], 0.0, 1.0)
    powers = range(int(constant), poles + int(constant))
    weights = _solved([[s**k for s in nodes] for k in powers], [float(moments[k]) for k in powers])
    residues = tuple(w / s for w, s in zip(weights, nodes, strict=True))
    rest = 1 - math.fsum(weights) if constant else 0.0
    return Rational(rest, residues, tuple((1 - s) / s for s in nodes), 0.0)


@cache
def rational(p: int, poles: int, lower: float, upper: float, *, constant: bool = True) -> Rational:
    """The minimax rational function of type (v, v) or (v - 1, v).

    The interval is widened step by step from one where the Padé approximant is a good start, and at each the system
    "level at these points" is solved for the logarithms of poles and residues by Newton's method. On intervals with
    u <= 4 l it is the Padé approximant at the geometric mean. For p = 2 the result is Zolotarev's.

    Args:
        p: a positive integer; m^{-1} is its own approximation.
        poles: v, at least 1.
        lower: l, positive.
        upper: u, at least l.
        constant: whether the type is (v, v).

    Returns:
        The function.

    Raises:
        ValueError: for a number of poles or an interval that is none.
    """
    if poles < 1 or not 0 < lower <= upper:
        raise ValueError(f"{poles} poles on [{lower}, {upper}] given; at least 1, and 0 < l <= u, are wanted")
    if p == 1:
        return Rational(0.0, (1.0,) + (0.0,) * (poles - 1), (0.0,) + (1.0,) * (poles - 1), 0.0)
    width, length = 2 * math.log(2), math.log(upper / lower)
    near = pade(p, poles, constant=constant)
    if length <= width:
        centered = _scaled(near, p, math.sqrt(lower * upper))
        return centered._replace(error=max(abs(m ** (1 / p) * centered(m) - 1) for m in (lower, upper)))
    h = _scaled(near, p, math.exp(-width / 2))
    unknown = _logarithms(h)
    count = len(unknown)
    points = [-width * (1 + math.cos(math.pi * i / count)) / 2 for i in range(count + 1)]
    while True:
        unknown, points, error = _leveled(p, poles, unknown, points)
        if width >= length:
            break
        stretch = min(WIDENING, length / width)
        width *= stretch
        points = [s * stretch for s in points]
        for j in range(poles):
            # The poles spread with the interval, which is [exp(-width), 1]; those above it stay.
            shift = min(unknown[j], 0.0) * (stretch - 1)
            unknown[j] += shift
            unknown[poles + j] += (1 - 1 / p) * shift
    values = [math.exp(x) for x in unknown]
    on_one = Rational(values[-1] if constant else 0.0, tuple(values[poles : 2 * poles]), tuple(values[:poles]), error)
    return _scaled(on_one, p, upper)


WIDENING = 1.4
"""By how much the logarithm of u / l grows at once, so that Newton's method always starts near its solution."""

NEWTON_STEPS = 60
"""At most so many for a system."""


def _leveled(p: int, poles: int, unknown: list[float], points: list[float]) -> tuple[list[float], list[float], float]:
    """The logarithms of poles and residues with a level error, the points where it is, and the error."""

    def value(s: float, unknown: Sequence[float]) -> tuple[float, list[float]]:
        """The error of the function at exp(s), and its derivatives by the unknowns."""
        m, weight = math.exp(s), math.exp(s / p)
        places = [math.exp(x) for x in unknown[:poles]]
        terms = [weight * math.exp(x) / (m + b) for x, b in zip(unknown[poles:], places, strict=False)]
        slopes = [-t * b / (m + b) for t, b in zip(terms, places, strict=True)]
        rest = [weight * math.exp(x) for x in unknown[2 * poles :]]
        return math.fsum(terms + rest) - 1, slopes + terms + rest

    error = most = 0.0
    for _ in range(EXCHANGES):
        least_change = math.inf
        for _ in range(NEWTON_STEPS):
            evaluated = [value(s, unknown) for s in points]
            signs = [(-1.0) ** i for i in range(len(points))]
            rows = [[*slopes, -sign] for (_, slopes), sign in zip(evaluated, signs, strict=True)]
            values = [sign * error - v for (v, _), sign in zip(evaluated, signs, strict=True)]
            *step, more = _solved(rows, values)
            change = max(map(abs, step))
            damped = min(1.0, 1 / change) if change else 1.0
            unknown = [x + damped * d for x, d in zip(unknown, step, strict=True)]
            error += damped * more
            if damped == 1 and not change < least_change / 2:
                break  # at the level of rounding
            least_change = min(change, least_change) if damped == 1 else math.inf
        points, least, most = _exchanged(lambda s, at=unknown: value(s, at)[0], points)
        if most - least <= LEVEL * most:
            break
    return unknown, points, most


def _logarithms(h: Rational) -> list[float]:
    constant = [h.constant] if h.constant else []
    return [math.log(x) for x in (*h.poles, *h.residues, *constant)]


def _scaled(h: Rational, p: int, center: float) -> Rational:
    """The function g^{-1/p} h(m / g): as good on g times the interval."""
    factor = center ** (-1 / p)
    residues = tuple(c * factor * center for c in h.residues)
    return Rational(h.constant * factor, residues, tuple(b * center for b in h.poles), h.error)


def _exchanged(error: Callable[[float], float], points: Sequence[float]) -> tuple[list[float], float, float]:
    """The points of largest error between its zeros, the least and the largest of these errors.

    Args:
        error: which has a zero between any two points.
        points: in increasing order, from one end of the interval to the other.

    Returns:
        As many points, and the two.
    """
    zeros = [_zero(error, a, b) for a, b in pairwise(points)]
    edges = [points[0], *zeros, points[-1]]
    found = [_peak(lambda s: abs(error(s)), a, b) for a, b in pairwise(edges)]
    found[0], found[-1] = points[0], points[-1]
    sizes = [abs(error(s)) for s in found]
    return found, min(sizes), max(sizes)


def _zero(f: Callable[[float], float], a: float, b: float) -> float:
    """A zero between two points where a function has different signs, by bisection."""
    rising = f(b) > 0
    while a < (middle := (a + b) / 2) < b:
        if (f(middle) > 0) == rising:
            b = middle
        else:
            a = middle
    return middle


def _peak(f: Callable[[float], float], a: float, b: float) -> float:
    """Where a function with one maximum in an interval has it, by golden section, to half of the digits."""
    golden = (math.sqrt(5) - 1) / 2
    x, y = b - golden * (b - a), a + golden * (b - a)
    low, high = f(x), f(y)
    for _ in range(40):
        if low < high:
            a, x, low = x, y, high
            y = a + golden * (b - a)
            high = f(y)
        else:
            b, y, high = y, x, low
            x = b - golden * (b - a)
            low = f(x)
    return (a + b) / 2


def _roots(coefficients: Sequence[float], a: float, b: float) -> list[float]:
    """All roots of a polynomial that has as many as its degree in an interval: one between any two of its slope."""
    if len(coefficients) == 2:
        return [-coefficients[0] / coefficients[1]]
    slope = [i * c for i, c in enumerate(coefficients)][1:]
    edges = [a, *_roots(slope, a, b), b]

    def value(s: float) -> float:
        total = 0.0
        for c in reversed(coefficients):
            total = total * s + c
        return total

    return [_zero(value, x, y) for x, y in pairwise(edges)]


def _solved(rows: Sequence[Sequence], values: Sequence) -> list:
    """The solution of a linear system, of floats or of fractions, by elimination with row pivots."""
    table = [[*row, value] for row, value in zip(rows, values, strict=True)]
    n = len(table)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(table[i][k]))
        table[k], table[pivot] = table[pivot], table[k]
        for i in range(k + 1, n):
            factor = table[i][k] / table[k][k]
            table[i] = [x - factor * y for x, y in zip(table[i], table[k], strict=True)]
    solution = [0] * n
    for k in reversed(range(n)):
        known = sum(table[k][j] * solution[j] for j in range(k + 1, n))
        solution[k] = (table[k][n] - known) / table[k][k]
    return solution
