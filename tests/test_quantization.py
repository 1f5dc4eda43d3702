"""Quantization against exact rationals, gfloat's block formats, and integer matrix products."""

import contextlib
import math

import gfloat.block
import gfloat.formats
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scalar_quantization as oracle
from jax import lax

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.blocks import MX, NVFP4, CodeBook, Integer
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.integer_products import (
    integer_product,
    integer_terms,
    quantized_dot_general,
    round_operands,
)
from precond_lab.arithmetic.quantization import dequantize, quantize, round_blocks

ELEMENTS = ["float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float6_e2m3fn", "float4_e2m1fn", "int8"]
MACHINES = {np.float32: oracle.FLOAT32, np.float64: oracle.FLOAT64}
RECORDS = [
    Integer(8),
    Integer(8, "row"),
    Integer(8, "column"),
    Integer(4, "block", 16),
    Integer(12, "block", symmetric=False),
    *(MX(element) for element in ELEMENTS),
    NVFP4(),
    NVFP4(tensor_scale=False),
    CodeBook("dynamic", block=32),
    CodeBook("linear", bits=4, block=None),
]
# Of each kind one; the others in the slow tier.
KINDS = {Integer(8), Integer(8, "row"), Integer(8, "column"), RECORDS[4], MX("float8_e4m3fn"), NVFP4(), RECORDS[-2]}
every_record = pytest.mark.parametrize(
    "q", [pytest.param(q, marks=[pytest.mark.slow] * (q not in KINDS)) for q in RECORDS], ids=str
)
WIDTH = 96


def awkward(dtype, seed: int) -> np.ndarray:
    """Rows of very different magnitudes: tiny, subnormal, huge, with ties, with zeros."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    rows = [rng.standard_normal(WIDTH) * 2.0**e for e in (0, -9, 20, -100, -118, -125, 100)]
    rows.append(np.zeros(WIDTH))
    rows.append(np.full(WIDTH, -0.0))
    rows.append(rng.integers(-508, 509, WIDTH) / 4)  # ties, once 127 is among them
    rows[-1][::16] = 127
    rows.append(rng.integers(-(2**9), 2**9 + 1, WIDTH) / 2.0**9)
    rows.append(np.abs(rng.standard_normal(WIDTH)) + 3)  # all of one sign
    rows.append(rng.choice([1.0, -1.0], WIDTH) * 2.0 ** rng.integers(-140, 100, WIDTH))
    rows.append(rng.uniform(-1, 1, WIDTH) * float(info.max))
    rows[-1][::16] = info.max
    rows.append(rng.integers(-100, 101, WIDTH) * float(info.smallest_subnormal))
    rows.append(rng.integers(-300, 301, WIDTH) * float(info.tiny))
    rows.append(np.where(rng.random(WIDTH) < 0.9, 0.0, rng.standard_normal(WIDTH)))
    with np.errstate(over="ignore"):
        return np.array(rows).astype(dtype)


def bits(x) -> np.ndarray:
    x = np.asarray(x)
    return x.view(np.int32 if x.dtype == np.float32 else np.int64)


def assert_same(got, want):
    """Equal to the bit; a NaN equals any NaN."""
    got, want = np.asarray(got), np.asarray(want)
    same = (bits(got) == bits(want.astype(got.dtype))) | (np.isnan(got) & np.isnan(want))
    assert same.all(), (got[~same][:5], want[~same][:5], np.argwhere(~same)[:5])


def wide(dtype):
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


@pytest.mark.parametrize(
    ("width", "symmetric", "dtype"),
    [
        pytest.param(width, symmetric, dtype, marks=[pytest.mark.slow] * (dtype == np.float64 and width != 8))
        for width in (2, 8, 16)
        for symmetric in (True, False)
        for dtype in MACHINES
    ],
)
def test_integers_are_those_of_exact_rationals(dtype, symmetric, width):
    q = Integer(width, "block", 32, symmetric)
    x = awkward(dtype, width)
    x[0, 40], x[1, 3], x[2, 70] = np.inf, np.nan, -np.inf
    quantized = quantize(x, q)
    codes, scales, values = (np.asarray(a) for a in (quantized.codes, quantized.scales, dequantize(quantized)))
    for i, j in np.ndindex(len(x), WIDTH // 32):
        place = (i, slice(32 * j, 32 * j + 32))
        want_codes, scale, zero, want = oracle.integer(x[place].tolist(), q, MACHINES[dtype])
        assert_same(scales[i, j], np.array(scale))
        assert_same(values[place], np.array(want))
        if not math.isnan(scale):
            assert codes[place].tolist() == want_codes
            assert symmetric or np.asarray(quantized.zeros)[i, j] == zero


@pytest.mark.parametrize(("scale", "groups"), [("tensor", (None, None)), ("row", (1, None)), ("column", (None, 1))])
def test_a_scale_belongs_to_the_tensor_the_row_or_the_column(scale, groups):
    x = awkward(np.float32, 1)[[0, 1, 2, 9, 11]]
    got = np.asarray(round_blocks(x, Integer(8, scale)))
    for i, j in np.ndindex(*(1 if g is None else x.shape[a] for a, g in enumerate(groups))):
        place = tuple(slice(None) if g is None else slice(k, k + 1) for g, k in zip(groups, (i, j), strict=True))
        want = oracle.integer(x[place].ravel().tolist(), Integer(8, scale), oracle.FLOAT32)[3]
        assert_same(got[place].ravel(), np.array(want))


@pytest.mark.parametrize("dtype", MACHINES)
@pytest.mark.parametrize("element", [*ELEMENTS, "int4", Format("no subnormals", 4, -6, 7, subnormals=False)])
def test_microscaling_is_that_of_exact_rationals(dtype, element):
    q = MX(element)
    x = awkward(dtype, 2)
    x[0, 40], x[1, 3], x[2, 70] = np.inf, np.nan, -np.inf
    ordinary = x[:3, 64:]  # no subnormals, zeros or NaN here: another branch of the kernel
    ordinary[2, 6] = 1
    scales = np.asarray(quantize(x, q).scales)
    fast, got = np.asarray(round_blocks(ordinary, q)), np.asarray(round_blocks(x, q))
    assert_same(fast, got[:3, 64:])
    for i, j in np.ndindex(len(x), WIDTH // 32):
        place = (i, slice(32 * j, 32 * j + 32))
        scale, want = oracle.mx(x[place].tolist(), q)
        if not q.saturating.subnormals:
            want = [math.copysign(0, v) if abs(v) < 2.0**-6 * scale else v for v in want]
        assert scales[i, j] == (255 if math.isnan(scale) else int(math.log2(scale)) + 127)
        assert_same(got[place], np.array(want))


@pytest.mark.parametrize("dtype", MACHINES)
@pytest.mark.parametrize("element", ["float8_e4m3fn", "float8_e5m2", "int8"])
def test_a_block_alone_is_rounded_as_it_is_among_others(dtype, element):
    """Alone it may take the fast branch, if its magnitudes allow; among zeros and NaN it never does."""
    rng, info = np.random.default_rng(14), np.finfo(dtype)
    exponents = np.arange(info.minexp - info.nmant, info.maxexp, 1 if dtype == np.float32 else 16)
    x = rng.uniform(-1.999, 1.999, (len(exponents), 32)) * 2.0 ** rng.choice([0, -3, -9], (len(exponents), 32))
    x = np.ldexp(x, exponents[:, None]).astype(dtype)
    together = np.asarray(round_blocks(np.concatenate([x, np.zeros((1, 32), dtype)]), MX(element)))
    alone = [np.asarray(round_blocks(row, MX(element))) for row in x]
    assert_same(np.stack(alone), together[:-1])


@pytest.mark.parametrize("element", ELEMENTS)
def test_microscaling_agrees_with_gfloat(element):
    name = {"int8": "mxint8"}.get(element) or "mxfp" + element[5] + "_" + element.split("_")[1].removesuffix("fn")
    info = getattr(gfloat.formats, f"format_info_{name}")
    q = MX(element)
    x = awkward(np.float64, 3)[[0, 1, 2, 3, 5, 7, 9, 10, 12]]
    got = np.asarray(round_blocks(x, q))
    for i, j in np.ndindex(len(x), WIDTH // 32):
        block = x[i, 32 * j : 32 * j + 32]
        want = gfloat.block.quantize_block(info, block, gfloat.block.compute_scale_amax)
        if element == "int8":  # gfloat uses the code -128, which the specification lets one leave unused
            want = np.where(want == want.min(), np.maximum(want, got[i, 32 * j : 32 * j + 32]), want)
        assert (got[i, 32 * j : 32 * j + 32] == want).all()


@pytest.mark.parametrize("element", ELEMENTS)
def test_rounding_to_microscaling_again_changes_nothing(element):
    once = round_blocks(awkward(np.float32, 4), MX(element))
    assert_same(round_blocks(once, MX(element)), once)


@pytest.mark.parametrize("dtype", MACHINES)
@pytest.mark.parametrize("tensor_scale", [True, False])
def test_nvfp4_is_that_of_exact_rationals(dtype, tensor_scale):
    q = NVFP4(tensor_scale=tensor_scale)
    x = awkward(np.float32, 5).astype(dtype)[[0, 1, 2, 3, 6, 7, 8, 9, 11, 16]]
    x = x if tensor_scale else x[[0, 1, 2, 5, 7, 8, 9]]
    ties = np.tile([6, 0.25, 0.75, -1.25, 1.75, -2.5, 3.5, 5], 12)  # the scales of these are powers of two
    x = np.concatenate([x, (ties * 4.0)[None].astype(dtype)])
    if tensor_scale:
        x = np.minimum(np.abs(x), 6 * 448) * np.sign(x)
        x[0, 0] = 6 * 448
    quantized = quantize(x, q)
    groups = x.reshape(-1, 16).tolist()
    decode, scales, values = oracle.nvfp4(groups, q, MACHINES[dtype])
    if tensor_scale:
        assert float(quantized.tensor_scale) == decode
    else:
        assert quantized.tensor_scale is None
    assert_same(np.asarray(dequantize(quantized)).reshape(-1, 16), np.array(values))
    got = np.array([float(formats.float8_e4m3fn.decode(int(code))) for code in np.asarray(quantized.scales).ravel()])
    assert (got == np.array(scales)).all()


def test_a_block_or_tensor_with_a_failure_becomes_nan():
    x = np.ones((4, 32), np.float32)
    x[1, 3], x[2, 20] = np.inf, np.nan
    assert np.isnan(round_blocks(x, NVFP4(tensor_scale=False))).reshape(8, 16).all(1).tolist() == [
        *[False, False, True, False, False, True, False, False]
    ]
    assert np.isnan(round_blocks(x, NVFP4())).all()
    assert np.isnan(round_blocks(x, Integer(8))).all()
    assert np.isnan(round_blocks(x, CodeBook(block=32))).all(1).tolist() == [False, True, True, False]


@every_record
def test_rounding_is_quantizing_and_back_on_every_axis(q):
    x = awkward(np.float32, 6).reshape(-1, 3, 32)[:, :, :29]
    both = jax.jit(lambda x: [(round_blocks(x, q, axis), dequantize(quantize(x, q, axis))) for axis in (-1, 0, None)])
    for rounded, back in both(x):
        assert rounded.shape == x.shape
        assert_same(rounded, back)
    moved = round_blocks(jnp.moveaxis(x, 0, -1), q)
    if getattr(q, "scale", "") != "column" and not isinstance(q, NVFP4):
        assert_same(jnp.moveaxis(moved, -1, 0), both(x)[1][0])
    if getattr(q, "scale", "") not in {"tensor", "column"} and not getattr(q, "tensor_scale", False) and q.block:
        assert_same(jax.vmap(lambda x: round_blocks(x, q))(x), both(x)[0][0])
        quantized = jax.vmap(lambda x: quantize(x, q))(x)
        assert_same(dequantize(quantized), both(x)[0][0])


@every_record
def test_a_program_in_float32_may_round_float64_to_blocks(q):
    x = np.random.default_rng(7).standard_normal((2, 40))
    got = np.asarray(round_blocks(x, q))
    assert got.dtype == np.float64
    assert np.abs(got - x).max() < np.abs(x).max() / 2
    assert not jax.config.jax_enable_x64  # pyright: ignore


def test_a_product_with_the_result_is_not_contracted():
    q, x = Integer(8, "row"), np.random.default_rng(8).standard_normal((64, 32)).astype(np.float32)
    eager = np.asarray(round_blocks(x, q))
    assert_same(jax.jit(lambda x: round_blocks(x, q) + x)(x), eager + x)


@pytest.mark.parametrize("q", [Integer(8, "row"), MX("e4m3fn"), NVFP4(), CodeBook(), formats.bfloat16], ids=str)
def test_the_derivative_is_that_of_the_identity(q):
    x = jnp.linspace(-1, 1, 32)
    assert (jax.grad(lambda x: (round_blocks(x, q) * x).sum())(x) == x + round_blocks(x, q)).all()
    assert (jax.jvp(lambda x: round_blocks(x, q), (x,), (x,))[1] == x).all()
    assert (jax.grad(lambda x: dequantize(quantize(x, q)).sum())(x) == 0).all()


@pytest.mark.parametrize("q", [Integer(8, "row"), Integer(8, "row", symmetric=False), MX("e2m1"), NVFP4()], ids=str)
def test_stochastic_rounding_takes_both_neighbors_with_the_mean_in_between(q):
    rows, count = np.float32([1, 0.3, -0.8, 0.01, 0, -1, 0.55, 0.123]), 4000
    x = np.tile(rows, (count, 1))
    got = np.asarray(round_blocks(x, q, key=jax.random.key(9), rounding="stochastic"))
    down, up = (np.asarray(round_blocks(x[:1], q, rounding=mode))[0] for mode in ("down", "up"))
    assert ((got == down) | (got == up)).all()
    exact = np.where(np.abs(rows) == 1, got.mean(0), rows)  # the largest may not be a multiple of its own scale
    # Hoeffding: beyond this with probability 2 exp(-2 * 20) for each of 8.
    assert (np.abs(got.mean(0) - exact) <= (up - down) * math.sqrt(20 / count) + 1e-6).all()


def test_misuse_is_refused():
    x = jnp.ones((4, 8))
    with pytest.raises(TypeError, match="float32 or float64; got int32"):
        quantize(jnp.ones(3, jnp.int32), Integer(8))
    with pytest.raises(TypeError, match="expected Integer, MX, NVFP4, CodeBook, a Format"):
        round_blocks(x, 8)  # pyright: ignore
    with pytest.raises(ValueError, match=r"shape \(4, 8\) has no axis 2"):
        round_blocks(x, MX("e4m3fn"), axis=2)
    with pytest.raises(ValueError, match="takes a key"):
        round_blocks(x, MX("e4m3fn"), rounding="stochastic")
    with pytest.raises(ValueError, match="no rounding is named 'nearest'"):
        round_blocks(x, MX("e4m3fn"), rounding="nearest")
    with pytest.raises(ValueError, match="a code book takes the nearest"):
        round_blocks(x, CodeBook(), rounding="up")
    assert round_blocks(jnp.ones((0, 8)), MX("e4m3fn")).shape == (0, 8)
    assert round_blocks(jnp.float32(3.3), Integer(8)).shape == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Integer(1), "bits lies in 2 .. 16"),
        (lambda: Integer(8.0), "bits must be an integer"),  # pyright: ignore
        (lambda: Integer(8, "rows"), "scale must be one of tensor, row, column, block"),  # pyright: ignore
        (lambda: Integer(8, block=64), 'block needs scale="block"'),
        (lambda: Integer(8, "block", 0), "at least 1 element"),
        (lambda: MX("e9m9"), "no format is named"),
        (lambda: MX(3), "the element is a Format"),  # pyright: ignore
        (lambda: MX("bfloat16"), "elements lie in"),
        (lambda: MX("e8m0"), "lacks zero"),
        (lambda: MX("e4m3fn", block=0), "at least 1 element"),
        (lambda: NVFP4(block=True), "block must be an integer"),
        (lambda: CodeBook("nf4"), "kind must be one of linear, dynamic"),  # pyright: ignore
        (lambda: CodeBook(bits=9), "bits lies in 2 .. 8"),
    ],
)
def test_records_refuse_what_makes_no_sense(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_records_are_hashable_and_know_their_size():
    assert len({Integer(8), Integer(8, "tensor"), MX("e4m3fn"), MX(formats.float8_e4m3fn), NVFP4()}) == 3
    sizes = [q.bits_per_value for q in (Integer(8, "block"), MX("e2m1"), MX("int8"), NVFP4(), CodeBook(block=256))]
    assert sizes == [8.5, 4.25, 8.25, 4.5, 8.125]


# Products.

MATMUL = (((1,), (0,)), ((), ()))
BATCHED = (((3, 1), (0, 2)), ((0,), (1,)))


def operands(seed: int, dtype=np.float32):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 5, 3, 14)), rng.standard_normal((14, 2, 5, 4))
    return a.astype(dtype), b.astype(dtype)


def as_matrices(a, b):
    """The batched operands of `BATCHED` as [batch, rows, contracted] each."""
    return a.transpose(0, 2, 3, 1).reshape(2, 3, 70), b.transpose(1, 3, 0, 2).reshape(2, 4, 70)


PAIRS = [
    (Integer(8), Integer(8)),
    (Integer(8, "row"), Integer(4, "tensor")),
    (Integer(8, "row", symmetric=False), Integer(8, "row")),
    (Integer(8, "block", 32), Integer(8, "block", 32)),
    (Integer(8, "block", 16, symmetric=False), Integer(8, "row")),
    (Integer(15, "row"), Integer(15, "row")),
]


@pytest.mark.parametrize(
    ("qa", "qb", "dtype"),
    [
        pytest.param(*pair, dtype, marks=[pytest.mark.slow] * (dtype == np.float64 and pair not in PAIRS[2::3]))
        for pair in PAIRS
        for dtype in MACHINES
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else str(x),
)
def test_integer_products_are_exact_until_they_are_scaled(dtype, qa, qb):
    a, b = operands(10, dtype)
    machine = {np.float32: np.float32, np.float64: np.float64}[dtype]
    left, right = (quantize(x, q) for x, q in zip(as_matrices(a, b), (qa, qb), strict=True))
    length = qa.block or qb.block or 70
    total = np.zeros((2, 3, 4), machine)
    terms = []
    for j in range(-(-70 // length)):
        piece = slice(j * length, (j + 1) * length)
        integers, scales = [], []
        for x in (left, right):
            at = j if x.record.block else 0  # pyright: ignore
            zero = 0 if x.zeros is None else np.asarray(x.zeros, np.int64)[..., [at]]
            integers.append(np.asarray(x.codes, np.int64)[..., piece] - zero)
            scales.append(np.asarray(x.scales)[..., at])
        exact = np.einsum("bmk,bnk->bmn", *integers)
        term = exact.astype(machine) * scales[0][:, :, None] * scales[1][:, None, :]
        total = term if j == 0 else total + term
        terms.append(term)
    assert_same(integer_product(a, b, BATCHED, qa, qb), total)
    assert_same(integer_terms(a, b, BATCHED, qa, qb), np.stack(terms))
    assert_same(
        jax.jit(lambda a, b: integer_product(a, b, BATCHED, qa, qb))(*operands(10)),
        integer_product(*operands(10), BATCHED, qa, qb),
    )


@pytest.mark.parametrize(("q", "value"), [(Integer(8), 127), (Integer(8, symmetric=False), 255)])
def test_a_sum_beyond_32_bits_is_still_exact(q, value):
    length = 2**31 // value**2 + 7
    a = np.full((1, length), value, np.float32)
    b = a.T.copy()
    b[0] = 1  # makes the sum odd or even, but no multiple of 127**2
    want = np.float32((length - 1) * value**2 + value)
    assert float(integer_product(a, b, MATMUL, q)[0, 0]) == want
    assert float(jax.jit(lambda a, b: integer_product(a, b, MATMUL, q))(a, b)[0, 0]) == want


def test_products_of_other_records_are_those_of_rounded_operands():
    a, b = operands(11)
    for q in (MX("e4m3fn"), NVFP4(tensor_scale=False), CodeBook(block=16)):
        rounded = [round_blocks(x, q) for x in as_matrices(a, b)]
        left, right = round_operands(a, b, BATCHED, q)
        for got, want in zip(as_matrices(np.asarray(left), np.asarray(right)), rounded, strict=True):
            assert_same(got, want)
        dot = lambda a, b, numbers: (a, b)  # noqa: E731
        assert_same(quantized_dot_general(a, b, BATCHED, q, dot=dot)[0], left)
        exact = np.einsum("bmk,bnk->bmn", *(np.float64(x) for x in rounded))
        bound = 70 * 2.0**-24 * np.einsum("bmk,bnk->bmn", *(np.abs(np.float64(x)) for x in rounded))
        assert (np.abs(quantized_dot_general(a, b, BATCHED, q) - exact) <= bound).all()


def test_the_derivative_of_an_integer_product_is_that_of_the_rounded_operands():
    a, b = (jnp.asarray(x) for x in operands(12))
    q = Integer(8, "row")
    got = jax.grad(lambda a, b: integer_product(a, b, BATCHED, q).sum(), argnums=(0, 1))(a, b)
    dot = lambda a, b: lax.dot_general(a, b, BATCHED, precision="highest").sum()  # noqa: E731
    want = jax.grad(dot, argnums=(0, 1))(*round_operands(a, b, BATCHED, q))
    for x, y in zip(got, want, strict=True):
        assert (x == y).all()


def test_products_that_cannot_be_formed_are_refused():
    a, b = operands(13)
    with pytest.raises(ValueError, match="leaves no integer sum"):
        integer_product(a, b, BATCHED, Integer(8, "column"))
    with pytest.raises(ValueError, match="must have one length; got 16 and 32"):
        integer_product(a, b, BATCHED, Integer(8, "block", 16), Integer(8, "block", 32))
    with pytest.raises(ValueError, match="exceed 32 bits"):
        integer_product(a, b, BATCHED, Integer(16, symmetric=False))
    with pytest.raises(TypeError, match="use round_operands"):
        integer_product(a, b, BATCHED, MX("e4m3fn"))  # pyright: ignore
    with pytest.raises(TypeError, match="dtypes float32 and float64"):
        integer_product(a, b.astype(np.float64), BATCHED, Integer(8))
    with pytest.raises(ValueError, match="do not agree"):
        integer_product(a, a, BATCHED, Integer(8))


@pytest.mark.parametrize(
    "record",
    [
        Integer(8),
        Integer(8, "row"),
        Integer(8, "block", 32, symmetric=False),
        MX("e4m3fn"),
        MX("int8"),
        NVFP4(),
        NVFP4(tensor_scale=False),
        CodeBook(block=32),
    ],
    ids=str,
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_spoils_its_group_in_large_arrays_too(record, bad):
    """XLA on a CPU loses NaNs in the maxima of large arrays."""
    x = np.ones((800, 32), np.float32)
    x[2, 7] = bad
    got = np.isnan(round_blocks(x, record))
    np.testing.assert_array_equal(got, np.isnan(dequantize(quantize(x, record))))
    assert got[2, 7]
    one_group = {Integer(8), NVFP4()}
    assert got.all() if record in one_group else not got[np.arange(800) != 2].any()


def test_an_integer_product_of_nothing_is_zero():
    """No block, no row or no column."""
    for m, k, n in ((2, 0, 2), (0, 3, 2), (2, 3, 0)):
        a, b = jnp.ones((m, k)), jnp.ones((k, n))
        for q in (Integer(8), Integer(8, "row"), Integer(8, "block", 4)):
            got = integer_product(a, b, MATMUL, q)
            assert got.shape == (m, n)
            assert not got.any()
