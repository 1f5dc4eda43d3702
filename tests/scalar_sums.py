"""Sums and products in an emulated arithmetic from their definitions, one exact rational operation at a time."""

import math
from fractions import Fraction


def power(e):
    return Fraction(2) ** e


def rounded(x, format, rounding):
    """An exact number, rounded to a format; its zero is positive."""
    if x == 0:
        return 0.0
    size, negative = abs(x), x < 0
    e = size.numerator.bit_length() - size.denominator.bit_length()
    e -= power(e) > size
    unit = power(max(e, format.min_exponent) - format.precision + 1)
    k, rest = divmod(size / unit, 1)
    half = Fraction(1, 2)
    up = {
        "nearest_even": rest > half or (rest == half and k % 2 == 1),
        "nearest_away": rest >= half,
        "toward_zero": False,
        "up": rest > 0 and not negative,
        "down": rest > 0 and negative,
        "odd": rest > 0 and k % 2 == 0,
    }[rounding]
    size = (k + up) * unit
    if not format.subnormals and size < power(format.min_exponent):
        size = Fraction(0)
    largest = Fraction(format.max)
    if size > largest:
        kept = {"toward_zero": True, "odd": True, "up": negative, "down": not negative}.get(rounding, False)
        beyond = {"infinity": math.inf, "nan": math.nan, "saturate": format.max}[format.overflow]
        size = format.max if kept else beyond
    return math.copysign(float(size), -1.0 if negative else 1.0)


class Scalars:
    """The arithmetic of one rounding mode, on floats."""

    def __init__(self, rounding):
        self.rounding = rounding

    def settle(self, exact, plain, format, signs):
        """Round what is exact; where an operand is not finite, IEEE arithmetic on floats has the answer."""
        if exact is None:
            return math.nan if math.isnan(plain) or format.has_infinity is False else plain
        if exact == 0:
            return -0.0 if (all(signs) or (self.rounding == "down" and any(signs))) else 0.0
        return rounded(exact, format, self.rounding)

    def sum(self, terms, format):
        """The exact sum of floats, rounded once."""
        finite = all(map(math.isfinite, terms))
        plain = 0.0 if finite else sum(t if not math.isfinite(t) else 0.0 for t in terms)
        signs = [math.copysign(1, t) < 0 for t in terms]
        return self.settle(sum(map(Fraction, terms)) if finite else None, plain, format, signs)

    def add(self, a, b, format):
        return self.sum([a, b], format)

    def mul(self, a, b, format):
        return self.dot([(a, b)], format)

    def fma(self, a, b, c, format):
        return self.dot([(a, b), (1.0, c)], format)

    def dot(self, pairs, format):
        """The exact sum of the products of floats, rounded once."""
        finite = all(math.isfinite(a) and math.isfinite(b) for a, b in pairs)
        plain = 0.0 if finite else sum(a * b for a, b in pairs if not (math.isfinite(a) and math.isfinite(b)))
        signs = [math.copysign(1, a) * math.copysign(1, b) < 0 for a, b in pairs]
        exact = sum(Fraction(a) * Fraction(b) for a, b in pairs) if finite else None
        return self.settle(exact, plain, format, signs)


def fold(order, terms, start, step, join):
    """Combine terms in an order, as its definition says."""
    if order == "reversed":
        return fold("sequential", terms[::-1], start, step, join)
    if order.startswith("blocked("):
        size = int(order[8:-1])
        blocks = [fold("sequential", terms[i : i + size], start, step, join) for i in range(0, len(terms), size)]
        return fold("sequential", blocks, lambda t: t, join, join)
    if order == "pairwise":
        level = [
            step(start(terms[i]), terms[i + 1]) if i + 1 < len(terms) else start(terms[i])
            for i in range(0, len(terms), 2)
        ]
        while len(level) > 1:
            level = [join(level[i], level[i + 1]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
        return level[0]
    total = start(terms[0])
    for term in terms[1:]:
        total = step(total, term)
    return total


class Sums:
    """Sums and products as an `Arithmetic` has them."""

    def __init__(self, arithmetic):
        self.format, self.accumulator = arithmetic.result, arithmetic.accumulator
        self.order, self.fma = arithmetic.order, arithmetic.fma
        self.scalars = Scalars(arithmetic.rounding)

    def finish(self, total):
        return total if self.accumulator == self.format else self.scalars.sum([total], self.format)

    def sum(self, terms):
        if self.order == "exact":
            return self.scalars.sum(terms, self.format)
        s, accumulator = self.scalars, self.accumulator
        if accumulator != self.format:
            terms = [s.sum([t], accumulator) for t in terms]

        def add(a, b):
            return s.add(a, b, accumulator)

        return self.finish(fold(self.order, terms, lambda t: t, add, add))

    def dot(self, pairs):
        if self.order == "exact":
            return self.scalars.dot(pairs, self.format)
        s, accumulator = self.scalars, self.accumulator

        def start(pair):
            return s.mul(*pair, accumulator)

        def join(a, b):
            return s.add(a, b, accumulator)

        def step(total, pair):
            return s.fma(*pair, total, accumulator) if self.fma else join(total, start(pair))

        return self.finish(fold(self.order, pairs, start, step, join))

    def add_to(self, terms):
        """The element of an array and its updates: all in the format of results."""
        if self.order == "exact":
            return self.scalars.sum(terms, self.format)

        def add(a, b):
            return self.scalars.add(a, b, self.format)

        return fold(self.order, terms, lambda t: t, add, add)

    def product(self, terms):
        def multiply(a, b):
            return self.scalars.mul(a, b, self.format)

        return fold(self.order, terms, lambda t: t, multiply, multiply)
