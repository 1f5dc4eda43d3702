"""State kept in a short format between the steps of an algorithm.

`stored` wraps an optimizer of optax, or a step of a scan: before each step the state is decoded, after it encoded
again. Between steps it really is codes and scales, in a pytree of plain arrays.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.blocks import Blocks, Integer
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.quantization import Quantized, as_record, dequantize, quantize
from precond_lab.arithmetic.rounding import ROUNDINGS

Storage = Any
"""A record, a format's name, an arithmetic with `storage`, or a function of path and leaf that gives one of them."""


class Stored(NamedTuple):
    """A pytree in storage.

    Attributes:
        tree: the tree, with `Quantized` in place of arrays that are stored in a short format.
        draws: how many steps drew random bits so far; None unless rounding is stochastic.
    """

    tree: Any
    draws: Any


class Rule(NamedTuple):
    """How trees are stored."""

    storage: Storage
    min_size: int
    axis: int | None
    rounding: str
    seed: int

    def record(self, path: tuple, leaf: Any) -> Blocks | Format | None:
        """Give what a leaf is stored in; None where it is left alone."""
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        if not floating or leaf.size < self.min_size:
            return None
        storage = self.storage
        if callable(storage):
            storage = storage(jax.tree_util.keystr(path), leaf)
            if storage is None:
                return None
        record = _record(storage)
        return None if isinstance(record, Format) and _identity(record, leaf.dtype) else record

    def key(self, draws: Any) -> Any:
        """Give the key of one step."""
        if draws is None:
            return None
        low, high = (np.uint32(word & 0xFFFFFFFF) for word in (self.seed, self.seed >> 32))
        seeded = jax.random.fold_in(jax.random.key(low, impl="threefry2x32"), high)
        return jax.random.fold_in(seeded, draws)

    def store(self, tree: Any, draws: Any) -> Stored:
        """Encode a tree."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
        key, encoded = self.key(draws), []
        for number, (path, leaf) in enumerate(leaves):
            record = self.record(path, leaf)
            own = None if key is None else jax.random.fold_in(key, np.uint32(number))
            encoded.append(leaf if record is None else _encode(leaf, record, self.axis, own, self.rounding))
        return Stored(jax.tree.unflatten(structure, encoded), None if draws is None else draws + np.uint32(1))


def _record(storage: Storage) -> Blocks | Format:
    if hasattr(storage, "storage"):
        if storage.storage is None:
            raise ValueError(f"{storage} has no storage: pass Arithmetic(..., storage=...), or a format itself")
        storage = storage.storage
    return as_record(storage)


def _identity(format: Format, dtype: Any) -> bool:
    """Whether all numbers of a dtype are numbers of a format, so that storing them changes nothing."""
    return format.holds(formats.named(jnp.dtype(dtype).name))


def _encode(x: Any, record: Blocks | Format, axis: int | None, key: Any, rounding: str) -> Quantized:
    wide = x if x.dtype in {jnp.dtype(jnp.float32), jnp.dtype(jnp.float64)} else x.astype(jnp.float32)
    if axis is None and isinstance(record, Integer) and record.scale in {"row", "column"}:
        axis = -1  # there are no rows in a flattened array
    return dataclasses.replace(quantize(wide, record, axis, key, rounding), dtype=jnp.dtype(x.dtype).name)


def load(stored: Stored) -> Any:
    """Decode a tree from storage.

    Args:
        stored: what `store`, or a step that `stored` made, returned.

    Returns:
        The tree of arrays.
    """
    return jax.tree.map(
        lambda x: dequantize(x) if isinstance(x, Quantized) else x,
        stored.tree,
        is_leaf=lambda x: isinstance(x, Quantized),
    )


def _rule(storage: Storage, min_size: int, axis: int | None, rounding: str, seed: int) -> Rule:
    if not callable(storage):
        _record(storage)
    if rounding not in ROUNDINGS:
        raise ValueError(f"no rounding is named {rounding!r}; there are {', '.join(ROUNDINGS)}")
    return Rule(storage, min_size, axis, rounding, seed)


def store(
    tree: Any,
    storage: Storage,
    *,
    min_size: int = 2,
    axis: int | None = None,
    rounding: str = "nearest_even",
    seed: int = 0,
) -> Stored:
    """Encode a tree into storage.

    Floating-point arrays with at least `min_size` elements are encoded, and others (counts, keys, scalars) left alone.
    So is an array whose dtype has no number that the format lacks: float32 in float32 stays as it is, bit for bit.

    Args:
        tree: a pytree.
        storage: an `Integer`, `MX`, `NVFP4` or `CodeBook`; a `Format` or its name; an arithmetic with `storage`; or a
            function of the path (as `jax.tree_util.keystr` writes it) and the leaf that returns one of them or None.
        min_size: the smallest number of elements that is encoded.
        axis: along which blocks run. None: through the flattened array; rows and columns are those of the last axis.
        rounding: a name in `ROUNDINGS`.
        seed: of stochastic rounding.

    Returns:
        The tree in storage. A code takes a byte at the least, also one of 4 bits.
    """
    rule = _rule(storage, min_size, axis, rounding, seed)
    return rule.store(tree, jnp.zeros((), np.uint32) if rounding == "stochastic" else None)


def stored(
    optimizer_or_step: optax.GradientTransformation | Callable[..., Any],
    storage: Storage,
    *,
    min_size: int = 2,
    axis: int | None = None,
    rounding: str = "nearest_even",
    seed: int = 0,
) -> Any:
    """Keep the state of an optimizer, or the carry of a scan, in a short format between steps.

    The state is decoded before each step and encoded after it, so the step itself is as precise as it was. It can be
    compiled, scanned and saved: its structure, shapes and dtypes never change. Random bits of stochastic rounding are
    numbered by a counter in it.

    Args:
        optimizer_or_step: a `GradientTransformation` of optax, with or without extra arguments; or a step
            ``f(carry, x) -> (carry, y)``.
        storage: what the state is kept in; see `store`.
        min_size: arrays with fewer elements are left alone.
        axis: along which blocks run; see `store`.
        rounding: a name in `ROUNDINGS`.
        seed: of stochastic rounding.

    Returns:
        A `GradientTransformationExtraArgs` whose state is a `Stored`; or a step whose carry is one: start it from
        ``store(carry, ...)`` with the same arguments, and read the last one by `load`.

    >>> from precond_lab.arithmetic.blocks import CodeBook
    >>> adam = stored(optax.adam(0.1), CodeBook("dynamic"), min_size=4096)
    >>> state = adam.init({"w": jnp.zeros(8192), "b": jnp.zeros(3)})
    >>> state.tree[0].mu["w"].codes.dtype, state.tree[0].mu["b"].dtype
    (dtype('uint8'), dtype('float32'))
    """
    rule = _rule(storage, min_size, axis, rounding, seed)
    if isinstance(optimizer_or_step, optax.GradientTransformation):
        return _stored_optimizer(optimizer_or_step, rule)
    if not callable(optimizer_or_step):
        raise TypeError(f"expected an optimizer of optax or a step of a scan; got {optimizer_or_step!r}")

    def step(carry: Stored, x: Any) -> tuple[Stored, Any]:
        after, y = optimizer_or_step(load(carry), x)
        return rule.store(after, carry.draws), y

    return step


def _stored_optimizer(optimizer: optax.GradientTransformation, rule: Rule) -> optax.GradientTransformationExtraArgs:
    inner = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> Any:
        draws = jnp.zeros((), np.uint32) if rule.rounding == "stochastic" else None
        return rule.store(inner.init(params), draws)

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any) -> Any:
        updates, after = inner.update(updates, load(state), params, **extra)
        return updates, rule.store(after, state.draws)

    return optax.GradientTransformationExtraArgs(init, update)
