"""Quantization: arrays to codes that share scales, the way back, and both in one.

How it is computed, so that every result is known to the bit:

- A group of numbers with an infinity or NaN in it has NaN for its scale, and so all of it becomes NaN. MX has a code
  for that in the scale, and the reference emulator of its authors does the same; a failure stays visible. In a group of
  zeros all codes are that of zero.
- `Integer` and `CodeBook`: the scale is computed in the dtype of the array, one division rounded once (and for
  asymmetric integers the half-range before it, also rounded). It is kept between the smallest normal number and the
  largest at which no code overflows. ``x / scale`` is divided and rounded, and that is rounded to an integer, or the
  nearest number of the code book is taken. Back: the integer (or number of the book) times the scale, rounded once.
  Subnormal numbers count as zeros.
- `MX`: exact but for the rounding to the element format; subnormal numbers are like all others.
- `NVFP4`: scales are computed in float32, each operation rounded once, in the order of its docstring; elements are the
  rounded product of x and the reciprocal ``1 / (B / s)``, rounded to the format. Back: the element times the scale of
  the block is exact, and its product with ``1 / s`` is rounded once. s is at most 2**126, so that its reciprocal is
  normal.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from precond_lab.arithmetic import codes, formats
from precond_lab.arithmetic.blocks import MX, NVFP4, Blocks, CodeBook, Integer
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.microscaling import decode_mx, decode_nvfp4, encode_mx, encode_nvfp4, round_mx, round_nvfp4
from precond_lab.arithmetic.rounding import ROUNDINGS, round_to
from precond_lab.arithmetic.scaled_codes import decode_book, decode_integer, encode_book, encode_integer, round_integer
from precond_lab.arithmetic.scaling import Parts, carrier_of


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["codes", "scales", "zeros", "tensor_scale"],
    meta_fields=["record", "axis", "dtype"],
)
@dataclasses.dataclass(frozen=True)
class Quantized:
    """An array as codes and scales: a pytree, whose arrays are the first four attributes.

    Attributes:
        codes: integer codes, of the shape of the array. `Integer`: the integers; MX with integer elements: two's
            complement; other elements and a plain format: code points; `CodeBook`: places in the table.
        scales: of every group. Of blocks, in the shape of the array but for the axis, along which there is one a block;
            else of length 1 along the axes that groups extend along. Floats of the dtype; codes of float8_e8m0fnu (MX)
            or of float8_e4m3fn (NVFP4). None for a plain format.
        zeros: codes of zero of every group, for asymmetric integers; else None.
        tensor_scale: float32 scale of the tensor, for NVFP4 that has one; else None.
        record: what it was quantized to.
        axis: along which blocks run, counted from the last; None: through the flattened array.
        dtype: of the array; one narrower than float32 is decoded through float32.
    """

    codes: Any
    scales: Any
    zeros: Any
    tensor_scale: Any
    record: Blocks | Format
    axis: int | None
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))


class Groups(NamedTuple):
    """How an array is divided into groups that share a scale."""

    axis: int | None  # None: the array is flattened first
    block: int | None  # length of blocks along the axis; None: no blocks
    axes: tuple[int, ...]  # that groups extend along once blocks have an axis of their own

    def split(self, x: jax.Array) -> jax.Array:
        """Give blocks an axis of their own, the last one filled up with zeros."""
        x = x.reshape(-1) if self.axis is None else x
        if self.block is None:
            return x
        at = x.ndim + (-1 if self.axis is None else self.axis)
        missing = -x.shape[at] % self.block
        if missing:
            x = lax.pad(x, np.zeros((), x.dtype), [(0, missing * (i == at), 0) for i in range(x.ndim)])
        return x.reshape(*x.shape[:at], x.shape[at] // self.block, self.block, *x.shape[at + 1 :])

    def join(self, y: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Undo `split`."""
        flat = shape if self.axis is not None else (int(np.prod(shape)),)
        if self.block is not None:
            at = len(flat) + (-1 if self.axis is None else self.axis)
            y = y.reshape(*flat[:at], y.shape[at] * self.block, *flat[at + 1 :])
            y = lax.slice_in_dim(y, 0, flat[at], axis=at)
        return y.reshape(shape)

    def expand(self, scales: jax.Array) -> jax.Array:
        """Let the scales of blocks broadcast with what `split` gives."""
        return scales if self.block is None else jnp.expand_dims(scales, self.axes)

    def squeeze(self, scales: jax.Array) -> jax.Array:
        """Undo `expand`."""
        return scales if self.block is None else jnp.squeeze(scales, self.axes)


def _groups(shape: tuple[int, ...], record: Blocks, axis: int | None) -> Groups:
    if not shape:
        axis = None
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise ValueError(f"an array of shape {shape} has no axis {axis}: pass one that it has, or None to flatten it")
    if axis is None:
        shape = (int(np.prod(shape)),)
    at = -1 if axis is None else axis if axis < 0 else axis - len(shape)
    if record.block is not None:
        # After the split the axis of the blocks is followed by the axes that the array's axis is followed by.
        return Groups(None if axis is None else at, max(min(record.block, shape[at]), 1), (at,))
    everything = tuple(range(-len(shape), 0))
    kind = record.scale if isinstance(record, Integer) else "tensor"
    shared = {"tensor": everything, "row": (at,), "column": tuple(i for i in everything if i != at)}[kind]
    return Groups(None if axis is None else at, None, shared)


class Kernels(NamedTuple):
    """What a record does to groups of numbers."""

    encode: Callable[..., Parts]
    decode: Callable[..., jax.Array]
    round: Callable[..., jax.Array] | None = None  # both at once, where that is faster


KERNELS: dict[type, Kernels] = {
    Integer: Kernels(encode_integer, decode_integer, round_integer),
    MX: Kernels(encode_mx, decode_mx, round_mx),
    NVFP4: Kernels(encode_nvfp4, decode_nvfp4, round_nvfp4),
    CodeBook: Kernels(encode_book, decode_book),
}
"""By the type of a record."""


def as_record(q: Blocks | Format | str) -> Blocks | Format:
    """Resolve what arrays can be quantized to.

    Args:
        q: an `Integer`, `MX`, `NVFP4` or `CodeBook`; a `Format`, or the name of one.

    Returns:
        The record.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(q, (Format, str)):
        return formats.named(q)
    if type(q) not in KERNELS:
        names = ", ".join(kind.__name__ for kind in KERNELS)
        raise TypeError(f"expected {names}, a Format or the name of one; got {type(q).__name__}: {q!r}")
    return q


def _prepare(
    x: ArrayLike, q: Blocks | Format | str, key: Any, rounding: str
) -> tuple[jax.Array | np.ndarray, Blocks | Format, contextlib.AbstractContextManager]:
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    carrier, record = carrier_of(x), as_record(q)
    if rounding not in ROUNDINGS:
        raise ValueError(f"no rounding is named {rounding!r}; there are {', '.join(ROUNDINGS)}")
    if (rounding == "stochastic") != (key is not None):
        raise ValueError(f"stochastic rounding, and no other, takes a key; got rounding={rounding!r} and key={key!r}")
    return x, record, jax.enable_x64(True) if carrier.width == 64 else contextlib.nullcontext()


def _words(key: Any, like: jax.Array) -> jax.Array | None:
    """One random word for every element, as wide as it; joined of two, as 64 bits may be lowered where x64 is off."""
    if key is None:
        return None
    if like.dtype == jnp.float32:
        return jax.random.bits(key, like.shape, np.uint32)
    high, low = jax.random.bits(key, (2, *like.shape), np.uint32).astype(np.uint64)
    return high << np.uint64(32) | low


@partial(jax.jit, static_argnames=("record", "axis", "rounding"))
def _quantize(x: jax.Array, key: Any, record: Blocks | Format, axis: int | None, rounding: str) -> Quantized:
    x, dtype = lax.stop_gradient(x), np.dtype(x.dtype).name
    if isinstance(record, Format):
        rounded = round_to(x, record, rounding, key)
        return Quantized(codes.to_codes(rounded, record), None, None, None, record, axis, dtype)
    groups = _groups(x.shape, record, axis)
    split = groups.split(x)
    parts = KERNELS[type(record)].encode(split, record, groups.axes, rounding, _words(key, split))
    scales = groups.squeeze(parts.scales)
    zeros = None if parts.zeros is None else groups.squeeze(parts.zeros)
    places = groups.join(parts.codes, x.shape)
    return Quantized(places, scales, zeros, parts.tensor_scale, record, groups.axis, dtype)


def quantize(
    x: ArrayLike,
    q: Blocks | Format | str,
    axis: int | None = -1,
    key: Any = None,
    rounding: str = "nearest_even",
) -> Quantized:
    """Turn an array into codes and scales.

    Args:
        x: float32 or float64 array of any shape.
        q: an `Integer`, `MX`, `NVFP4` or `CodeBook`, or a plain `Format` or its name.
        axis: along which blocks run, the last one being shorter if need be, and rows extend; see `Integer`. None:
            through the flattened array, row by row. It has no meaning for one scale a tensor and for a plain format.
        key: key of `jax.random`, for stochastic rounding and for no other.
        rounding: of x / scale, a name in `ROUNDINGS`. Code books know ``"nearest_even"`` alone. Scales are not rounded
            by it.

    Returns:
        Codes and scales. They have no derivative; `round_blocks` has.

    >>> two = quantize(jnp.float32([[1.0, -127.0], [0.0, 0.5]]), Integer(8, scale="row"))
    >>> two.codes.tolist(), two.scales[0].tolist()
    ([[1, -127], [0, 127]], [1.0])
    """
    x, record, width = _prepare(x, q, key, rounding)
    with width:
        return _quantize(x, key, record=record, axis=axis, rounding=rounding)


@jax.jit
def _dequantize(quantized: Quantized) -> jax.Array:
    record, places = quantized.record, quantized.codes
    dtype = np.dtype(np.float64 if quantized.dtype == "float64" else np.float32)
    if isinstance(record, Format):
        return codes.from_codes(places, record, dtype).astype(quantized.dtype)
    groups = _groups(places.shape, record, quantized.axis)
    zeros = None if quantized.zeros is None else groups.expand(quantized.zeros)
    parts = Parts(groups.split(places), groups.expand(quantized.scales), zeros, quantized.tensor_scale)
    values = KERNELS[type(record)].decode(parts, record, dtype)
    return groups.join(values, places.shape).astype(quantized.dtype)


def dequantize(quantized: Quantized) -> jax.Array:
    """Turn codes and scales into the numbers that they stand for.

    Args:
        quantized: what `quantize` returned.

    Returns:
        Array of the shape and dtype of the one that was quantized.

    >>> dequantize(quantize(jnp.float32([0.3, -2.5, 7.0]), MX("e2m1"))).tolist()
    [0.5, -2.0, 6.0]
    """
    with jax.enable_x64(True) if quantized.dtype == "float64" else contextlib.nullcontext():
        return _dequantize(quantized)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _round(x: jax.Array, key: Any, record: Blocks | Format, axis: int | None, rounding: str) -> jax.Array:
    if isinstance(record, Format):
        return round_to(x, record, rounding, key)
    groups, kernels = _groups(x.shape, record, axis), KERNELS[type(record)]
    split = groups.split(x)
    words = _words(key, split)
    if kernels.round:
        rounded = kernels.round(split, record, groups.axes, rounding, words)
    else:
        parts = kernels.encode(split, record, groups.axes, rounding, words)
        rounded = kernels.decode(parts, record, np.dtype(x.dtype))
    return groups.join(rounded, x.shape)


@_round.defjvp
def _(record, axis, rounding, primals, tangents):
    return _round(*primals, record, axis, rounding), tangents[0]


_round_compiled = jax.jit(_round, static_argnums=(2, 3, 4))


def round_blocks(
    x: ArrayLike,
    q: Blocks | Format | str,
    axis: int | None = -1,
    key: Any = None,
    rounding: str = "nearest_even",
) -> jax.Array:
    """Round an array to the numbers that codes and scales can stand for.

    It is `dequantize` after `quantize`, bit for bit, but faster. The derivative is straight-through: that of the
    identity, in forward and reverse mode.

    Args:
        x: float32 or float64 array of any shape.
        q: an `Integer`, `MX`, `NVFP4` or `CodeBook`, or a plain `Format` or its name.
        axis: along which blocks run and rows extend, or None; see `quantize`.
        key: key of `jax.random`, for stochastic rounding and for no other.
        rounding: a name in `ROUNDINGS`; see `quantize`.

    Returns:
        Array of the shape and dtype of `x`.

    >>> round_blocks(jnp.float32([0.3, -2.5, 7.0]), MX("e2m1")).tolist()
    [0.5, -2.0, 6.0]
    """
    x, record, width = _prepare(x, q, key, rounding)
    with width:
        return _round_compiled(x, key, record, axis, rounding)
