"""A wrong bit planted in a copy of the arithmetic is caught by a law.

Every mutant is a text of the source replaced by another, and the law that must fail when the copy is judged by it. All
laws hold for the copy in which nothing is planted. A replacement whose text is no longer in the source fails loudly:
it must be stated anew.
"""

from typing import NamedTuple

import pytest
from arithmetic_laws import LAWS, laboratory
from planted import FOLDER, copied, replaced


class Mutant(NamedTuple):
    """One replacement, and the law that it breaks."""

    file: str
    old: str
    new: str
    law: str


MUTANTS = [
    # How numbers are rounded.
    Mutant("modes.py", "(cut.dropped >> 1) + _last_bit(cut)", "(cut.dropped >> 1)", "rounding bfloat16 from float32"),
    Mutant("modes.py", "cut.dropped ^ (cut.dropped >> 1)", "cut.dropped >> 1", "rounding float16 from float32"),
    Mutant("modes.py", "return ~_negative(cut) & cut.dropped", "return cut.dropped", "rounding float16 from float32"),
    Mutant("modes.py", "return _negative(cut) & cut.dropped", "return cut.dropped", "rounding bfloat16 from float32"),
    Mutant("modes.py", "(_last_bit(cut) - cut.grid.integer(1))", "-_last_bit(cut)", "rounding float16 from float64"),
    Mutant(
        "modes.py",
        "return cut.magnitude > cut.grid.smallest - (1 <<",
        "return cut.magnitude >= cut.grid.smallest - (1 <<",
        "rounding binary6p1se from float32",
    ),
    Mutant(
        "modes.py",
        "return cut.magnitude >= cut.grid.smallest - (1 <<",
        "return cut.magnitude > cut.grid.smallest - (1 <<",
        "rounding float16 from float32",
    ),
    Mutant(
        "modes.py",
        "cut.magnitude >= cut.grid.smallest\n",
        "cut.magnitude > cut.grid.smallest\n",
        "rounding float16 from float32",
    ),
    Mutant("modes.py", "return cut.magnitude > 0", "return cut.magnitude > 1", "rounding float16 from float32"),
    Mutant("modes.py", "| (cut.bits > 0)", "| (cut.bits >= 0)", "rounding float16 from float64"),
    Mutant(
        "modes.py",
        "_above_zero_if_positive, (True, False)",
        "_above_zero_if_positive, (True, True)",
        "rounding float16 from float32",
    ),
    Mutant("modes.py", "_above_zero, (False, False)", "_above_zero, (True, True)", "rounding float16 from float32"),
    Mutant(
        "modes.py",
        "words >> carrier.unsigned(cut.grid.most + 1)",
        "words >> carrier.unsigned(cut.grid.most + 2)",
        "chance by words",
    ),
    Mutant("modes.py", "(words + ratio < ratio)", "(words < ratio)", "chance by words"),
    Mutant("kernels.py", " + (format.max_significand % 2 == 0)", "", "rounding float8_e4m3fn from float32"),
    Mutant(
        "kernels.py",
        "+ grid.integer(shift)",
        "+ grid.integer(shift - (1 << carrier.fraction))",
        "rounding float8_e4m3fn from float32",
    ),
    Mutant("kernels.py", "beyond = x >= lax", "beyond = x > lax", "rounding float16 from float64"),
    Mutant("kernels.py", "scaled - whole >= threshold", "scaled - whole > threshold", "chance by words"),
    Mutant(
        "kernels.py",
        "jnp.where(bits < 0, negative, positive)",
        "jnp.where(bits < 0, positive, negative)",
        "rounding float8_e4m3fn from float32",
    ),
    Mutant("kernels.py", "jnp.where(bits < 0, negative, positive)", "positive", "rounding float16 from float32"),
    Mutant(
        "kernels.py",
        "signed = jnp.where(result == 0, result, signed)",
        "pass",
        "rounding float8_e5m2fnuz from float32",
    ),
    Mutant(
        "kernels.py", "(bits < 0) & (bits != grid.integer(carrier.sign))", "bits < 0", "rounding unsigned from float32"
    ),
    Mutant(
        "kernels.py",
        "result = jnp.where(magnitude > infinity, nan, result)",
        "pass",
        "rounding float4_e2m1fn from float64",
    ),
    Mutant(
        "kernels.py",
        "result < grid.integer(grid.flush_below)",
        "result <= grid.integer(grid.flush_below)",
        "rounding no subnormals from float32",
    ),
    Mutant(
        "kernels.py",
        "jnp.maximum(result, grid.integer(grid.floor)) if grid.floor else result",
        "result",
        "rounding float8_e8m0fnu from float64",
    ),
    Mutant(
        "kernels.py",
        "jnp.where(bits <= 0, nan, result)",
        "jnp.where(bits < 0, nan, result)",
        "rounding float8_e8m0fnu from float32",
    ),
    Mutant(
        "kernels.py",
        "result = jnp.where(magnitude == infinity, infinite, result)",
        "pass",
        "rounding saturating with infinities from float32",
    ),
    Mutant(
        "grids.py",
        "else carrier.code(1, format.min_exponent),\n        floor",
        "else carrier.code(1, format.min_exponent - 1),\n        floor",
        "rounding no subnormals from float64",
    ),
    Mutant("grids.py", "parity=(field + format.zero) % 2", "parity=0", "rounding binary6p1se from float32"),
    Mutant(
        "grids.py",
        "beyond=largest + (1 << constant)",
        "beyond=largest + (2 << constant)",
        "rounding float8_e4m3fn from float32",
    ),
    Mutant(
        "grids.py",
        "constant, min(max(missing + below, 0), carrier.fraction)",
        "constant, constant",
        "rounding float8_e4m3fn from float32",
    ),
    Mutant("kernels.py", "if canonical or grid.exact:", "if canonical:", "contraction"),
    # How numbers come into the carrier, and leave it.
    Mutant("carriers.py", "magnitude >= short.infinity", "magnitude > short.infinity", "carriers"),
    Mutant("carriers.py", "magnitude == 0, 0, scaled", "magnitude == 1, 0, scaled", "carriers"),
    Mutant("carriers.py", "TO_NEAREST_EVEN", "AWAY_FROM_ZERO", "carriers"),
    Mutant("carriers.py", "magnitude < 2.0**short.min_exponent", "magnitude < 2.0**-130", "carriers"),
    Mutant("machine.py", "return sum_to_odd(high, ", "return jnp.add(high, ", "entering"),
    Mutant("machine.py", "if not within(self.arithmetic.result, native):", "if False:", "leaving"),
    Mutant("machine.py", "x = widen(x)\n", "x = x.astype(jnp.float64)\n", "entering"),
    # How operations are rounded once.
    Mutant("machine.py", "(residual < 0) != (s < 0)", "(residual < 0) == (s < 0)", "operations float16"),
    Mutant("machine.py", "bits & 1 == 0, odd", "bits & 1 == 1, odd", "operations float16"),
    Mutant("machine.py", "(a - (s - b_part)) + (b - b_part)", "b - b_part", "operations float8_e5m2"),
    Mutant(
        "machine.py",
        " if self.arithmetic.rounding in NEAREST and not exact else sum_to_odd(a, b)",
        "",
        "operations bfloat16",
    ),
    Mutant("machine.py", "jnp.signbit(a) | jnp.signbit(b)", "jnp.signbit(a) & jnp.signbit(b)", "operations float16"),
    Mutant("machine.py", "self._sum(a * b, c, exact=True)", "self._sum(a * b, c)", "fused"),
    Mutant("machine.py", "a / jnp.where(jnp.isnan(a), a, b)", "a / b", "division"),
    Mutant("machine.py", "jnp.where(events.overflowed(raw, name, operands), largest, raw)", "raw", "library"),
    Mutant(
        "specification.py",
        "carrier.precision >= 2 * inner.precision + 2\n",
        "carrier.precision >= 2 * inner.precision\n",
        "operations of twelve bits",
    ),
    Mutant(
        "specification.py",
        "min(2 * smallest, smallest - largest) >= carrier.min_exponent",
        "True",
        "operations of small numbers",
    ),
    Mutant("rules.py", '"exp2", ', "", "library"),
    Mutant("limits.py", '"tanh": (_at_argument(_inward), _PLUS_ONE, _MINUS_ONE)', '"tanh": ()', "library"),
    # What is counted.
    Mutant("events.py", " & ~_exactly_zero(raw, name, operands)", "", "ends"),
    Mutant("events.py", "operands[0] == -operands[1]", "operands[0] == operands[1]", "ends"),
    Mutant("events.py", "no_nan & ~overflow & ~pole", "no_nan & ~overflow", "ends"),
    Mutant("events.py", "divide_by_zero=pole", "divide_by_zero=overflow", "ends"),
    # The order of sums and products.
    Mutant("orders.py", 'reverse=arithmetic.order == "reversed"', "reverse=False", "sums reversed"),
    Mutant(
        "orders.py", "totals[0 : k - 1 : 2], totals[1::2]", "totals[: k // 2], totals[k - k // 2 :]", "sums pairwise"
    ),
    Mutant("orders.py", "arithmetic.block < _length(terms)", "False", "sums blocked"),
    Mutant("orders.py", "if machine.arithmetic.accumulator == machine.arithmetic.result:", "if True:", "sums"),
    Mutant("orders.py", "if within(machine.arithmetic.result, accumulator):", "if True:", "sums"),
    Mutant("product_loops.py", "jnp.maximum(bits ^ sign, least)", "(bits ^ sign)", "fast products"),
    Mutant(
        "product_loops.py",
        "np.float32(2.0 ** (24 - loop.precision))",
        "np.float32(2.0 ** (25 - loop.precision))",
        "fast products",
    ),
    # Chance.
    Mutant("machine.py", "draws += jnp.uint32(1)", "draws += jnp.uint32(0)", "chance"),
    Mutant("draws.py", "_weyl(shape) + start", "_weyl(shape) * 0 + start", "chance"),
    Mutant("draws.py", "seed >> 32 & 0xFFFFFFFF", "0", "chance"),
    Mutant("draws.py", "^ other) * _SECOND", ") * _SECOND >> 1", "chance"),
]
FAST = (
    "rounding bfloat16 from float32",
    "rounding float8_e4m3fn from float32",
    "carriers",
    "entering",
    "division",
    "contraction",
    "chance by words",
)
"""Laws whose tests, and one mutant of each, run in the fast tier."""


def ranked():
    """The mutants as parameters, all but the first of every fast law in the slow tier."""
    first = {law: next(mutant for mutant in MUTANTS if mutant.law == law) for law in FAST}
    for i, mutant in enumerate(MUTANTS):
        marks = () if first.get(mutant.law) is mutant else pytest.mark.slow
        yield pytest.param(mutant, marks=marks, id=f"{i}: {mutant.file} ({mutant.law})")


@pytest.mark.parametrize("law", [pytest.param(law, marks=() if law in FAST else pytest.mark.slow) for law in LAWS])
def test_the_laws_hold_where_nothing_is_planted(law):
    with copied() as copy:
        LAWS[law](laboratory(copy))


@pytest.mark.parametrize("mutant", list(ranked()))
def test_every_mutant_breaks_its_law(mutant):
    with copied(mutant[:3]) as copy:
        lab = laboratory(copy)  # loads it: a mutant that is no program is no mutant
        with pytest.raises(AssertionError):
            LAWS[mutant.law](lab)


def test_every_replacement_is_of_a_text_that_is_there_once():
    for mutant in MUTANTS:
        source = (FOLDER / mutant.file).read_text(encoding="utf-8")
        assert replaced(source, mutant.file, [mutant[:3]]) != source
    assert {mutant.law for mutant in MUTANTS} <= set(LAWS)
