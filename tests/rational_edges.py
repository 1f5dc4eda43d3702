"""Single edges of a chain in rationals: the oracle of the breakdown thresholds."""

from fractions import Fraction as Q
from functools import lru_cache
from itertools import pairwise, product


def nearest(x: Q, precision: int) -> Q:
    """A positive rational to so many bits, ties to even."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    exponent -= x < Q(2) ** exponent
    step = Q(2) ** (exponent + 1 - precision)
    return round(x / step) * step


def schur(a: Q, c: Q, e: Q, precision: int) -> Q:
    """The Schur complement of an edge, every operation rounded; a negative one keeps its sign."""
    y = nearest(nearest(e / c, precision) * e, precision)
    return nearest(a - y, precision) if y < a else a - y


def pivot(a: Q, c: Q, e: Q) -> Q:
    return 1 - e * e / (a * c)


@lru_cache
def cells(precision: int) -> dict[Q, tuple[Q, Q]]:
    """The numbers in [1/4, 4) with the ends of the intervals that round to them."""
    step = Q(2) ** (1 - precision)
    found = [Q(2) ** k * (1 + i * step) for k in range(-3, 3) for i in range(2 ** (precision - 1))]
    middles = [(x + y) / 2 for x, y in pairwise(found)]
    ends = zip(found[1:-1], pairwise(middles), strict=True)
    return {x: cell for x, cell in ends if Q(1, 4) <= x < 4}


def triples(precision: int):
    """Every a in [1, 2), c in [1, 4) and e in [1/4, 4): all pairs with beta^2 >= 1/16, up to powers of two."""
    values = cells(precision)
    return product((x for x in values if 1 <= x < 2), (x for x in values if x >= 1), values)
