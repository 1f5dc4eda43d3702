r"""How near to singular an edge of a chain can be before its projection breaks down.

Let an edge have the stored entries a = H_ii, c = H_{i+1,i+1}, e = H_{i+1,i}, the pivot p = 1 - beta^2 with beta^2 =
e^2 / (a c), and the Schur complement computed as s = fl(a - fl(fl(e / c) e)), rounded to nearest with unit roundoff u,
without underflow or overflow. Three facts of rounding to nearest carry all of what follows:

1. fl(x) = x (1 + d) with |d| <= v = u / (1 + u);
2. what rounds to h lies between h (1 - w) and h (1 + u), with w = u / (1 + 2u), so that 1 - w = 1 / (1 + v);
3. fl(a - y) has the sign of a - y, and is exact for a/2 <= y <= 2a.

So s = a - beta^2 a (1 + d1) (1 + d2) up to the last rounding.

**Arithmetic.** s <= 0 takes beta^2 (1 + v)^2 >= 1, so p <= 1 - 1 / (1 + v)^2 = u (2 + 3u) / (1 + 2u)^2 < 2u.

**Storage.** Entries A, C, E that are stored as a, c, e with e^2 >= a c have A <= a (1 + u), C <= c (1 + u) and
|E| >= |e| (1 - w), so beta^2 = E^2 / (A C) >= ((1 - w) / (1 + u))^2 = 1 / (1 + 2u)^2 and p <= 4u (1 + u) / (1 + 2u)^2 <
4u: a positive definite pair of vertices can be stored as an indefinite one, and below that threshold alone.

**Both.** Stored so that s <= 0 comes out: beta^2 >= 1 / ((1 + v) (1 + 2u))^2, which gives p < 6u.

**Error.** The computed s has a relative error of at most u (1 + beta^2) / (1 - beta^2), the unit roundoff times the
condition number of X for perturbed off-diagonal entries. Let y = fl(fl(e / c) e). For y >= a/2 the last operation is
exact, and a ((1 + v)^2 - 1) beta^2 < 2u a beta^2 is all the error. Otherwise its own rounding makes it at most a (d
beta^2 (1 + v) + v p), where d = |(1 + d1) (1 + d2) - 1|. If beta^2 >= 1/2, then d <= 1 - (1 - v)^2, as y is too small.
If beta^2 < 1/2 < p, then d <= (1 + v)^2 - 1. Either way that is at most a (2u beta^2 + u p) = a u (1 + beta^2).

**Tolerance.** Algorithm 3 keeps an edge if s > fl(gamma a) >= gamma a (1 - v). Since y >= beta^2 a (1 - v)^2, a kept
edge has p >= 1 - (1 - gamma (1 - v)) / (1 - v)^2. If gamma is a power of two, its product with a is exact, and
(1 - v) beside it drops out: gamma = 2u gives p >= 3u^2 + 2u^3 > 0, so that every kept edge of the stored H has a
projection. At gamma = u not every one has, in bfloat16 and in float16 at least. Before rounding, 1 - p was larger by a
factor of at most ((1 + u) / (1 - w))^2 = (1 + 2u)^2, which leaves gamma - 6u to first order.
"""

import math
from typing import NamedTuple


class Thresholds(NamedTuple):
    """The largest pivots 1 - beta^2 at which an edge can break down; above them it cannot.

    Attributes:
        arithmetic: of a positive definite edge, as it is stored, whose s is computed as zero or negative.
        storage: of a positive definite edge that is not positive definite as stored.
        both: of a positive definite edge whose s, computed from what is stored, is zero or negative.
    """

    arithmetic: float
    storage: float
    both: float


def thresholds(unit_roundoff: float) -> Thresholds:
    """Bounds on the pivots of edges that break down, for one format of storage and arithmetic.

    They are below 2u, 4u and 6u, and these to first order; derived above. Underflow and overflow are not counted.

    Args:
        unit_roundoff: u of the format, in (0, 1/2].

    Returns:
        The three thresholds.

    Raises:
        ValueError: for a unit roundoff out of that range.

    Example:
        >>> [round(threshold / 2**-8, 3) for threshold in thresholds(2**-8)]
        [1.981, 3.954, 5.904]
    """
    u = _checked(unit_roundoff)
    growth = 1 + 2 * u
    return Thresholds(
        arithmetic=u * (2 + 3 * u) / growth**2,
        storage=4 * u * (1 + u) / growth**2,
        both=u * (3 + 4 * u) * (2 + 5 * u + 4 * u * u) / growth**4,
    )


def least_kept_pivot(tolerance: float, unit_roundoff: float, *, rounded: bool = False) -> float:
    """What Algorithm 3 with a relative tolerance guarantees of the edges that it keeps.

    Args:
        tolerance: gamma of the test s > gamma H_ii, in [0, 1/4], a number of the format.
        unit_roundoff: u of the format, in (0, 1/2].
        rounded: of the entries before they were rounded to the format, not of those that are stored.

    Returns:
        A lower bound on the pivots 1 - beta^2 of all kept edges: about gamma - 2u, or gamma - 6u before rounding. Not
        positive where even the sign is not guaranteed.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> u = 2.0**-8
        >>> [round(least_kept_pivot(k * u, u) / u, 2) for k in (0, 2, 20)]
        [-2.0, 0.01, 18.07]
    """
    u = _checked(unit_roundoff)
    if not 0 <= tolerance <= 0.25:
        raise ValueError(f"tolerance {tolerance} given; it must lie in [0, 1/4]")
    exact = tolerance == 0 or math.frexp(tolerance)[0] == 0.5
    surely = tolerance if exact else tolerance / (1 + u)
    # 1 - p at most: (1 - gamma) / (1 - v)^2, and another (1 + u)^2 / (1 - w)^2 for what was stored
    remainder = (1 - surely) * (1 + u) ** 2 * ((1 + 2 * u) ** 2 if rounded else 1)
    return 1 - remainder


def _checked(u: float) -> float:
    if not 0 < u <= 0.5:
        raise ValueError(f"unit roundoff {u} given; it must lie in (0, 1/2]: 2^-8 for bfloat16")
    return u
