"""Code books against their definition, and the search for the nearest number against exact comparison."""

import bisect
from fractions import Fraction
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from scalar_quantization import FLOAT32, FLOAT64

from precond_lab.arithmetic.blocks import CodeBook
from precond_lab.arithmetic.codebooks import nearest, rationals, values
from precond_lab.arithmetic.quantization import dequantize, quantize

BOOKS = [
    CodeBook(kind, bits, signed) for kind in ("linear", "dynamic") for bits in (2, 4, 8) for signed in (True, False)
]


def dynamic_code(word: int, bits: int) -> Fraction:
    """Decode a signed word of dynamic tree quantization from its bits: sign, zeros, indicator, fraction.

    The fraction is the midpoint of one of the equal parts of [0.1, 1]. Two words have no indicator bit: 0, and by the
    same rule -0, whose place the number 1 takes.
    """
    sign, rest = word >> (bits - 1), word & (2 ** (bits - 1) - 1)
    if not rest:
        return Fraction(1 if sign else 0)
    zeros = bits - 1 - rest.bit_length()
    width = bits - 2 - zeros
    fraction = rest - 2**width
    value = Fraction(1, 10**zeros) * (Fraction(1, 10) + Fraction(9, 10) * (fraction + Fraction(1, 2)) / 2**width)
    return -value if sign else value


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_the_dynamic_book_holds_what_its_words_decode_to(bits):
    assert rationals(CodeBook("dynamic", bits)) == sorted(dynamic_code(word, bits) for word in range(2**bits))


def test_known_facts_of_the_8_bit_dynamic_book():
    book = values(CodeBook("dynamic")).tolist()
    assert len(set(book)) == 256
    assert {0.0, 1.0} <= set(book)
    assert sorted(-x for x in book if x not in {0.0, 1.0}) == [x for x in book if x not in {0.0, 1.0}]
    assert -1.0 not in book
    assert min(x for x in book if x > 0) == np.float32(5.5e-7)  # the only one of its decade
    assert max(x for x in book if x < 1) == np.float32(0.99296875)
    without_sign = values(CodeBook("dynamic", signed=False)).tolist()
    assert len(set(without_sign)) == 256
    assert min(without_sign) == 0.0
    assert sum(0.1 < x < 1 for x in without_sign) == 2 * sum(0.1 < x < 1 for x in book)


@pytest.mark.parametrize("book", BOOKS, ids=str)
def test_numbers_of_a_book_are_rounded_once(book):
    exact = rationals(book)
    assert [Fraction(value) for value in values(book).tolist()] == [FLOAT32(value) for value in exact]
    assert exact == sorted(set(exact))
    assert len(exact) == 2**book.bits - (book.kind == "linear" and book.signed)


def closest(x: Fraction, table: list[Fraction]) -> int:
    """The place of the nearest number, the even one of two."""
    above = bisect.bisect_left(table, x)
    places = [place for place in (above - 1, above) if 0 <= place < len(table)]
    return min(places, key=lambda place: (abs(x - table[place]), place % 2))


# With two bits, and with as many as can be, and either sign; in float64 the book of optimizers alone.
DIFFERENT = {CodeBook("linear", 2), CodeBook("linear", 8, False), CodeBook("dynamic", 8), CodeBook("dynamic", 4, False)}
FAST = {(book, np.float32) for book in DIFFERENT} | {(CodeBook("dynamic", 8), np.float64)}


@pytest.mark.parametrize(
    ("book", "dtype"),
    [
        pytest.param(book, dtype, marks=[pytest.mark.slow] * ((book, dtype) not in FAST))
        for book in BOOKS
        for dtype in (np.float32, np.float64)
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else str(x),
)
def test_the_nearest_number_is_found_and_the_even_code_on_a_tie(book, dtype):
    table = [Fraction(value) for value in values(book).tolist()]
    middles = np.array([float((low + high) / 2) for low, high in pairwise(table)]).astype(dtype)
    around = [middles, np.nextafter(middles, dtype(2)), np.nextafter(middles, dtype(-2)), values(book).astype(dtype)]
    rng = np.random.default_rng(book.bits)
    around += [rng.uniform(-1, 1, 50).astype(dtype) * dtype(s) for s in (1, 1e-3, 1e-7)]
    around.append(np.array([0, -0.0, 1, -1, 1.5, -3, np.finfo(dtype).tiny], dtype))
    xs = np.concatenate(around)
    quantized = quantize(np.append(xs / dtype(4), dtype(1)), CodeBook(book.kind, book.bits, book.signed, None))
    # Divided by 4, a power of two, and by the maximum 1, the numbers are themselves: quantize sees them over 4.
    assert np.asarray(quantized.codes)[:-1].tolist() == [closest(Fraction(float(x)) / 4, table) for x in xs]
    if dtype == np.float32:
        assert np.asarray(nearest(jnp.asarray(xs), book)).tolist() == [closest(Fraction(float(x)), table) for x in xs]


@pytest.mark.parametrize(("dtype", "machine"), [(np.float32, FLOAT32), (np.float64, FLOAT64)])
def test_a_block_is_a_book_times_its_maximum(dtype, machine):
    book = CodeBook("dynamic", block=16)
    x = np.random.default_rng(1).standard_normal((6, 16)).astype(dtype) * dtype(3)
    x[1], x[2, 3], x[3] = 0, np.nan, x[3] * np.finfo(dtype).tiny / 16
    table = [Fraction(value) for value in values(book).tolist()]
    quantized = quantize(x, book)
    got = np.asarray(dequantize(quantized))
    for row, codes, out in zip(x.tolist(), np.asarray(quantized.codes).tolist(), got, strict=True):
        if np.isnan(row).any():
            assert np.isnan(out).all()
            continue
        top = max(*(abs(Fraction(value)) for value in row), machine.tiny)
        for value, code, result in zip(row, codes, out.tolist(), strict=True):
            normal = Fraction(value) if abs(Fraction(value)) >= machine.tiny else Fraction(0)
            assert code == closest(machine(normal / top), table)
            assert Fraction(result) == machine(table[code] * top)
