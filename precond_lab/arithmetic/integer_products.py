"""Matrix products of quantized operands.

A product of integer operands is formed so: the integers are multiplied and summed exactly, in int32, and where that
could overflow in pieces whose sums are added in int64. The sum becomes a float of the dtype of the operands, rounded to
nearest even where it has more bits than the dtype; is multiplied by the scale of the left operand, rounded; and by that
of the right one, rounded. Nothing else is rounded. With scales of blocks along the contracted axis this gives one term
a block, and the terms are summed, from the first to the last, each addition rounded.
"""

import contextlib
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.arithmetic.blocks import Blocks, Integer
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.quantization import as_record, quantize, round_blocks
from precond_lab.arithmetic.scaling import carrier_of, fence

LARGEST_SUM = 2**31 - 1

DimensionNumbers = Any
"""As in `jax.lax.dot_general`: ((contracted of a, of b), (batch of a, of b))."""


class Operand(NamedTuple):
    """An operand as matrices, one for each batch index: rows that are not contracted, columns that are."""

    matrices: jax.Array  # [batch, rows, contracted]
    order: tuple[int, ...]  # the axes of the original, in the order of these three groups
    shape: tuple[int, ...]  # of the original, in that order
    batch: tuple[int, ...]  # lengths of the axes of each group
    rows: tuple[int, ...]

    def restore(self, matrices: jax.Array) -> jax.Array:
        """Give matrices the shape of the original."""
        return jnp.transpose(matrices.reshape(self.shape), np.argsort(self.order).tolist())


def _operand(x: jax.Array, contracted: tuple[int, ...], batch: tuple[int, ...]) -> Operand:
    rows = tuple(i for i in range(x.ndim) if i not in contracted and i not in batch)
    order = (*batch, *rows, *contracted)
    sizes = [tuple(x.shape[i] for i in group) for group in (batch, rows, contracted)]
    matrices = jnp.transpose(x, order).reshape([prod(size) for size in sizes])
    return Operand(matrices, order, tuple(x.shape[i] for i in order), *sizes[:2])


def _operands(a: jax.Array, b: jax.Array, dimension_numbers: DimensionNumbers) -> tuple[Operand, Operand]:
    (contracted_a, contracted_b), (batch_a, batch_b) = dimension_numbers
    left, right = _operand(a, contracted_a, batch_a), _operand(b, contracted_b, batch_b)
    if left.batch != right.batch or left.matrices.shape[-1] != right.matrices.shape[-1]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not agree along the axes of {dimension_numbers}")
    return left, right


class Factors(NamedTuple):
    """Integers and scales of one operand, blocks of the contracted axis first."""

    integers: jax.Array  # [blocks, batch, rows, length]
    scales: jax.Array  # [blocks, batch, rows], or length 1


def _factors(matrices: jax.Array, q: Integer, length: int) -> Factors:
    """Quantize an operand; its codes are cut into blocks of a length that its own blocks have, if it has any."""
    quantized = quantize(matrices, q)
    integers, scales = quantized.codes, quantized.scales
    if q.bits > 8 or not q.symmetric:
        integers = integers.astype(np.int32)
    if quantized.zeros is not None:
        shift = quantized.zeros.astype(np.int32)
        shift = jnp.repeat(shift, q.block, axis=-1)[..., : integers.shape[-1]] if q.block else shift
        integers = integers - shift
    missing = -integers.shape[-1] % length
    integers = lax.pad(integers, np.zeros((), integers.dtype), [(0, 0, 0), (0, 0, 0), (0, missing, 0)])
    integers = integers.reshape(*integers.shape[:-1], -1, length)
    return Factors(jnp.moveaxis(integers, -2, 0), jnp.moveaxis(scales, -1, 0))


def _exact_product(a: jax.Array, b: jax.Array, largest: int) -> jax.Array:
    """Sum the products of integers, [batch, m, k] and [batch, n, k], of at most `largest` each; int32 or int64."""
    dot = partial(
        lax.dot_general, dimension_numbers=(((2,), (2,)), ((0,), (0,))), preferred_element_type=np.dtype(np.int32)
    )
    length, most = a.shape[-1], LARGEST_SUM // largest
    if a.dtype != b.dtype:
        a, b = a.astype(np.int32), b.astype(np.int32)
    if length <= most:
        return dot(a, b)
    pieces = []
    for x in (a, b):
        padded = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), (0, -length % most, 0)])
        pieces.append(jnp.moveaxis(padded.reshape(*x.shape[:2], -1, most), 2, 0))
    with jax.enable_x64(True):
        start = jnp.zeros((a.shape[0], a.shape[1], b.shape[1]), np.int64)
        total, _ = lax.scan(lambda total, piece: (total + dot(*piece).astype(np.int64), None), start, tuple(pieces))
        return total


def _check(qa: Integer, qb: Integer) -> None:
    for q in (qa, qb):
        if not isinstance(q, Integer):
            raise TypeError(
                f"an integer product takes Integer records; got {q!r}: use round_operands and sum the products"
            )
        if q.scale == "column":
            raise ValueError(
                'scale="column" gives every contracted index a scale of its own, and leaves no integer sum: use "row", '
                '"tensor" or "block"'
            )
    if qa.block and qb.block and qa.block != qb.block:
        raise ValueError(f"the blocks of both operands must have one length; got {qa.block} and {qb.block}")
    if qa.steps * qb.steps > LARGEST_SUM:
        raise ValueError(f"products of {qa} and {qb} exceed 32 bits: use fewer bits")


def _terms(a: jax.Array, b: jax.Array, dimension_numbers: DimensionNumbers, qa: Integer, qb: Integer) -> Any:
    """The factors of both operands, and the function that makes a term of those of one block."""
    left, right = _operands(a, b, dimension_numbers)
    contracted = left.matrices.shape[-1]
    length = max(min(qa.block or qb.block or contracted, contracted), 1)
    factors = _factors(left.matrices, qa, length), _factors(right.matrices, qb, length)
    count = factors[0].integers.shape[0]
    factors = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape[1:])), factors)

    def term(factors: tuple[Factors, Factors]) -> jax.Array:
        exact = _exact_product(factors[0].integers, factors[1].integers, qa.steps * qb.steps)
        scales_a, scales_b = factors[0].scales[:, :, None], factors[1].scales[:, None, :]
        return fence((exact.astype(a.dtype) * scales_a) * scales_b)

    return factors, term, (*left.batch, *left.rows, *right.rows)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _integer_product(a: jax.Array, b: jax.Array, dimension_numbers: Any, qa: Integer, qb: Integer) -> jax.Array:
    factors, term, shape = _terms(a, b, dimension_numbers, qa, qb)
    first, rest = (jax.tree.map(lambda x, at=at: x[at], factors) for at in (0, slice(1, None)))
    total = term(first)
    if factors[0].integers.shape[0] > 1:
        total, _ = lax.scan(lambda total, block: (total + term(block), None), total, rest)
    return total.reshape(shape)


@_integer_product.defjvp
def _(dimension_numbers, qa, qb, primals, tangents):
    (a, b), (da, db) = primals, tangents
    left, right = round_operands(a, b, dimension_numbers, qa, qb)
    dot = partial(lax.dot_general, dimension_numbers=dimension_numbers, precision=lax.Precision.HIGHEST)
    return _integer_product(a, b, dimension_numbers, qa, qb), dot(da, right) + dot(left, db)


def _hashable(numbers: DimensionNumbers) -> DimensionNumbers:
    return tuple(tuple(tuple(int(axis) for axis in axes) for axes in pair) for pair in numbers)


def _width(a: jax.Array, b: jax.Array) -> contextlib.AbstractContextManager:
    if carrier_of(a) != carrier_of(b):
        raise TypeError(f"the operands have the dtypes {a.dtype} and {b.dtype}: convert one of them with astype first")
    return jax.enable_x64(True) if carrier_of(a).width == 64 else contextlib.nullcontext()


def integer_product(
    a: jax.Array,
    b: jax.Array,
    dimension_numbers: DimensionNumbers,
    qa: Integer,
    qb: Integer | None = None,
) -> jax.Array:
    """Multiply as hardware multiplies int8 matrices: quantize, multiply and sum integers exactly, scale the sums.

    The contracted axes are taken as one axis, along which rows extend and blocks run. The derivative is
    straight-through: that of the product of the rounded operands.

    Args:
        a: float32 or float64 array.
        b: array of the same dtype.
        dimension_numbers: as in `jax.lax.dot_general`.
        qa: integers of a; the scale is a tensor's, a row's or a block's.
        qb: integers of b; by default those of a. Blocks of both must have the same length.

    Returns:
        The product, of the shape that `jax.lax.dot_general` gives and the dtype of the operands.

    >>> x = jnp.float32([[127.0, 3.0], [-127.0, 1.0]])
    >>> integer_product(x, x, (((1,), (0,)), ((), ())), Integer(8, scale="tensor")).tolist()
    [[15748.0, 384.0], [-16256.0, -380.0]]
    """
    qb = qa if qb is None else qb
    _check(qa, qb)
    with _width(a, b):
        if not a.size * b.size:  # zeros, if anything
            return lax.dot_general(a, b, dimension_numbers)
        return _integer_product(a, b, _hashable(dimension_numbers), qa, qb)


def integer_terms(
    a: jax.Array,
    b: jax.Array,
    dimension_numbers: DimensionNumbers,
    qa: Integer,
    qb: Integer | None = None,
) -> jax.Array:
    """Give the terms of an `integer_product`, one for each block of the contracted axis, to be summed elsewhere.

    Args:
        a: float32 or float64 array.
        b: array of the same dtype.
        dimension_numbers: as in `jax.lax.dot_general`.
        qa: integers of a.
        qb: integers of b; by default those of a.

    Returns:
        Array with a leading axis of blocks before the axes of the product; of length 1 where scales are not of blocks.
    """
    qb = qa if qb is None else qb
    _check(qa, qb)
    with _width(a, b):
        if not a.size * b.size:
            return lax.dot_general(a, b, dimension_numbers)[None]
        factors, term, shape = _terms(a, b, _hashable(dimension_numbers), qa, qb)
        return lax.map(term, factors).reshape(-1, *shape)


def round_operands(
    a: jax.Array,
    b: jax.Array,
    dimension_numbers: DimensionNumbers,
    qa: Blocks | Format | str,
    qb: Blocks | Format | str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Round both operands of a matrix product, rows and blocks being along the contracted axes taken as one.

    The product of two numbers of MX formats is exact in float32 if their elements have 12 bits of precision at the most
    (and it does not overflow or underflow), and so is that of NVFP4 without a scale of the tensor.

    Args:
        a: float32 or float64 array.
        b: array of the same dtype.
        dimension_numbers: as in `jax.lax.dot_general`.
        qa: what a is rounded to.
        qb: what b is rounded to; by default the same.

    Returns:
        Two arrays of the shapes of the operands.
    """
    with _width(a, b):
        left, right = _operands(a, b, dimension_numbers)
        right_record = qa if qb is None else qb
        return left.restore(round_blocks(left.matrices, qa)), right.restore(round_blocks(right.matrices, right_record))


def quantized_dot_general(
    a: jax.Array,
    b: jax.Array,
    dimension_numbers: DimensionNumbers,
    q: Blocks | Format | str | tuple[Any, Any],
    dot: Any = None,
) -> jax.Array:
    """Multiply operands that are quantized first: integers exactly, all others as `dot` does.

    Args:
        a: float32 or float64 array.
        b: array of the same dtype.
        dimension_numbers: as in `jax.lax.dot_general`.
        q: what both operands are quantized to, or a pair.
        dot: called with the rounded operands and the dimension numbers, unless both are quantized to
            integers. None: `jax.lax.dot_general` in the highest precision.

    Returns:
        The product, of the shape that `jax.lax.dot_general` gives.
    """
    qa, qb = (as_record(one) for one in (q if isinstance(q, tuple) else (q, q)))
    if isinstance(qa, Integer) and isinstance(qb, Integer):
        return integer_product(a, b, dimension_numbers, qa, qb)
    dot = dot or partial(lax.dot_general, precision=lax.Precision.HIGHEST)
    return dot(*round_operands(a, b, dimension_numbers, qa, qb), dimension_numbers)
