"""Optimizers that take from each dense layer what it saw of a batch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import Arithmetic
from precond_lab.preconditioners import rank_one


class Rows(NamedTuple):
    """What a dense layer saw in one batch.

    Attributes:
        inputs: ``[batch, ..., n]``, without the one of the bias.
        output_gradients: of the loss by the outputs of the layer, before its activation, ``[batch, ..., m]``.
    """

    inputs: jax.Array
    output_gradients: jax.Array


class LayersState(NamedTuple):
    """What is carried from step to step.

    Attributes:
        taken: number of steps, int32.
        statistics: of each layer, in the order of the parameters' leaves.
    """

    taken: jax.Array
    statistics: tuple


def is_layer(node: Any) -> bool:
    """Whether a subtree of parameters is a dense layer: one kernel ``[n, m]``, and at most one bias ``[m]``.

    Where parts have names (in a mapping, or a class), the bias is called "b" or "bias": the scale of a normalization
    that stands beside a matrix is none.

    Args:
        node: a pytree of arrays.

    Returns:
        True for a layer.

    Example:
        >>> import jax.numpy as jnp
        >>> is_layer({"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}), is_layer(jnp.zeros(2))
        (True, False)
    """
    parts = sorted(((jnp.shape(x), path) for path, x in jax.tree_util.tree_leaves_with_path(node)), key=_order)
    if [len(shape) for shape, _ in parts] == [2]:
        return True
    if [len(shape) for shape, _ in parts] != [1, 2] or parts[0][0] != parts[1][0][1:]:
        return False
    last = parts[0][1][-1]
    name = getattr(last, "name", getattr(last, "key", None))
    return not isinstance(name, str) or name in {"b", "bias"}


def _order(part: tuple) -> int:
    return len(part[0])


def map_layers(on_layer: Callable, on_other: Callable, tree: Any, *others: Any) -> Any:
    """Apply one function to the layers of a tree and another to its other arrays.

    Args:
        on_layer: takes a layer, and what the other trees have in its place.
        on_other: takes an array, and the same.
        tree: of parameters or gradients.
        *others: trees whose structure begins as that of `tree` does.

    Returns:
        A tree with the results in the places of layers and arrays.
    """
    return jax.tree.map(
        lambda node, *rest: (on_layer if is_layer(node) else on_other)(node, *rest), tree, *others, is_leaf=is_layer
    )


def matrix_of(layer: Any) -> jax.Array:
    """A layer as one matrix: the kernel transposed, with the bias as the last column.

    Args:
        layer: kernel ``[n, m]``, and perhaps bias ``[m]``.

    Returns:
        ``[m, n]``, or ``[m, n + 1]`` with a bias.
    """
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(layer)]
    kernel = next(x for x in leaves if x.ndim == 2)
    biases = [x[None, :] for x in leaves if x.ndim == 1]
    return jnp.concatenate([kernel, *biases]).T


def layer_of(G: jax.Array, like: Any) -> Any:
    """The inverse of `matrix_of`.

    Args:
        G: ``[m, n]`` or ``[m, n + 1]``.
        like: a layer of the structure that is wanted.

    Returns:
        A layer.
    """
    leaves, tree = jax.tree.flatten(like)
    n = next(x.shape[0] for x in leaves if x.ndim == 2)
    return tree.unflatten([G[:, :n].T if x.ndim == 2 else G[:, n] for x in leaves])


def rows_by_layer(tree: Any, rows: Sequence[Rows] | None) -> Any:
    """What each layer saw, in its place in a tree.

    Args:
        tree: of gradients.
        rows: one for each layer, in the order of the tree's leaves.

    Returns:
        The tree with `Rows` in the places of layers and None in those of other arrays.

    Raises:
        ValueError: there are not as many rows as layers, or shapes do not fit.
    """
    nodes, structure = jax.tree.flatten(tree, is_leaf=is_layer)
    layers = [node for node in nodes if is_layer(node)]
    if rows is None or len(rows) != len(layers):
        raise ValueError(
            f"{'nothing' if rows is None else len(rows)} given for {len(layers)} layers: call "
            "update(gradients, state, params, rows=[(inputs, output_gradients), ...]), a pair for each layer in order"
        )
    pairs = [Rows(*map(jnp.asarray, pair)) for pair in rows]
    for node, pair in zip(layers, pairs, strict=True):
        n, m = next(jnp.shape(x) for x in jax.tree.leaves(node) if jnp.ndim(x) == 2)
        if (pair.inputs.shape[-1:], pair.output_gradients.shape[-1:]) != ((n,), (m,)):
            raise ValueError(
                f"inputs {pair.inputs.shape} and output gradients {pair.output_gradients.shape} given for a kernel "
                f"{(n, m)}; give [batch, {n}] and [batch, {m}]"
            )
    seen = iter(pairs)
    return structure.unflatten([next(seen) if is_layer(node) else None for node in nodes])


def scale_by_layers(
    initialize: Callable[[jax.Array], Any],
    direction: Callable[[Any, jax.Array, Rows, jax.Array, jax.Array], tuple[jax.Array, Any]],
    *,
    learning_rate: optax.ScalarOrSchedule,
    damping: float,
    arithmetic: Arithmetic | Format | str | None,
    new_weight: float,
    kappa: float | None,
) -> optax.GradientTransformationExtraArgs:
    """A preconditioner of single layers as a transformation, with one KL clip for all.

    Args:
        initialize: from a gradient ``[m, n]``, the statistics before the first step.
        direction: from statistics, gradient, rows, the weight of new statistics and the damping, the preconditioned
            gradient and the next statistics; a plain program.
        learning_rate: that the KL clip reckons with.
        damping: gamma, positive; other parameters than layers step along their gradient over it.
        arithmetic: emulated, or None.
        new_weight: of a batch in the running averages, in (0, 1]; the first batch has weight one.
        kappa: of the KL clip; None for none.

    Returns:
        An optax transformation; extra arguments but rows are ignored.

    Raises:
        ValueError: a number is out of its range; on an update, if rows do not fit the layers.
    """
    if not (damping > 0 and 0 < new_weight <= 1 and (kappa is None or kappa > 0)):
        raise ValueError(
            f"damping {damping}, new_weight {new_weight} and kappa {kappa} given; damping and kappa are positive "
            "(kappa may be None, for no clip), and the weight of a new batch lies in (0, 1]"
        )

    def clip(P: Any, G: Any, rate: jax.Array, bound: jax.Array) -> Any:
        return rank_one.kl_clip(P, G, rate, bound).gradients

    if arithmetic is not None:
        direction, clip = emulate(direction, arithmetic), emulate(clip, arithmetic)

    def init(params: Any) -> LayersState:
        layers = [node for node in jax.tree.leaves(params, is_leaf=is_layer) if is_layer(node)]
        return LayersState(jnp.zeros((), jnp.int32), tuple(initialize(matrix_of(layer)) for layer in layers))

    def update(
        updates: Any, state: LayersState, params: Any = None, *, rows: Sequence[Rows] | None = None, **extra: Any
    ) -> tuple[Any, LayersState]:
        del params, extra
        before, after = iter(state.statistics), []

        def on_layer(layer: Any, seen: Rows) -> Any:
            G = matrix_of(layer)
            new = jnp.where(state.taken == 0, 1.0, new_weight).astype(G.dtype)
            P, statistics = direction(next(before), G, seen, new, jnp.asarray(damping, G.dtype))
            after.append(statistics)
            return layer_of(P, layer)

        directions = map_layers(on_layer, lambda g, _: g / damping, updates, rows_by_layer(updates, rows))
        if kappa is not None and jax.tree.leaves(updates):
            rate = learning_rate(state.taken) if callable(learning_rate) else learning_rate
            dtype = jnp.result_type(*jax.tree.leaves(updates))
            directions = clip(directions, updates, jnp.asarray(rate, dtype), jnp.asarray(kappa, dtype))
        return directions, LayersState(jnp.asarray(optax.safe_increment(state.taken)), tuple(after))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def with_momentum(
    scaled: optax.GradientTransformation, learning_rate: optax.ScalarOrSchedule, momentum: float
) -> optax.GradientTransformationExtraArgs:
    """Momentum and the learning rate after a direction, as in SGD.

    Args:
        scaled: gives the direction.
        learning_rate: a number or a schedule.
        momentum: decay of the sum of directions.

    Returns:
        An optax transformation.
    """
    chain = optax.chain(scaled, optax.trace(momentum), optax.scale_by_learning_rate(learning_rate))
    return optax.with_extra_args_support(chain)
