"""Eva: steps preconditioned by the Kronecker vectors of each layer."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import Arithmetic
from precond_lab.optimizers.layers import Rows, scale_by_layers, with_momentum
from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one.layers import Vectors


def eva(
    learning_rate: optax.ScalarOrSchedule,
    damping: float = 0.03,
    arithmetic: Arithmetic | Format | str | None = None,
    *,
    momentum: float = 0.9,
    **settings: Any,
) -> optax.GradientTransformationExtraArgs:
    """Eva (Zhang, Shi and Li, ICLR 2023): a curvature of rank one for each layer, KL clip, momentum.

    ``update(gradients, state, params, rows=[(inputs, output_gradients), ...])`` takes for each dense layer, in the
    order of the parameters' leaves, what it saw of the batch.

    Args:
        learning_rate: a number or a schedule.
        damping: gamma.
        arithmetic: the arithmetic in which averages and directions are computed and kept; None for the gradients' own
            dtype. Momentum and learning rate are applied outside of it.
        momentum: decay of the sum of clipped directions, as in SGD.
        **settings: of `scale_by_eva`.

    Returns:
        An optax transformation.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = eva(0.1)
        >>> params = {"w": jnp.zeros((2, 1))}
        >>> state = optimizer.init(params)
        >>> rows = [(jnp.array([[1.0, 2.0]]), jnp.array([[1.0]]))]
        >>> updates, state = optimizer.update({"w": jnp.array([[1.0], [2.0]])}, state, params, rows=rows)
        >>> updates["w"].shape
        (2, 1)
    """
    return with_momentum(scale_by_eva(learning_rate, damping, arithmetic, **settings), learning_rate, momentum)


def scale_by_eva(
    learning_rate: optax.ScalarOrSchedule,
    damping: float = 0.03,
    arithmetic: Arithmetic | Format | str | None = None,
    *,
    new_weight: float = 0.95,
    kappa: float | None = 1e-3,
    mean_loss: bool = True,
    split: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """The clipped direction of Eva, without momentum and learning rate.

    A layer is a kernel ``[n, m]`` with or without a bias ``[m]`` beside it. Other parameters have no curvature here,
    and step along their gradient over gamma.

    Args:
        learning_rate: that the KL clip reckons with.
        damping: gamma, positive.
        arithmetic: emulated, or None.
        new_weight: of a batch's vectors in the running averages, whose first value is that of the first batch.
        kappa: of the KL clip; None for none.
        mean_loss: whether the loss is a mean over the batch, whose 1 / batch is taken out of the output gradients;
            False for the convention of the released code, where b shrinks with the batch.
        split: whether the two parts of the gradient are preconditioned apart (`rank_one.eva_split`), which low
            precision needs.

    Returns:
        An optax transformation; extra arguments but rows are ignored. State: m + n + 1 numbers a layer. Cost: about
        5 m n flops a layer, 12 m n where split.

    Raises:
        ValueError: a number is out of its range; on an update, if rows do not fit the layers.
    """
    precondition = rank_one.eva_split if split else rank_one.eva

    def direction(old: Vectors, G: jax.Array, rows: Rows, new: jax.Array, gamma: jax.Array) -> tuple:
        fresh = rank_one.layer_vectors(*rows, bias=G.shape[1] > rows.inputs.shape[-1], mean_loss=mean_loss)
        vectors = Vectors(*(rank_one.average_vector(x, y, new_weight=new) for x, y in zip(old, fresh, strict=True)))
        return precondition(G, *vectors, gamma), vectors

    return scale_by_layers(
        lambda G: Vectors(jnp.zeros_like(G[0]), jnp.zeros_like(G[:, 0])),
        direction,
        learning_rate=learning_rate,
        damping=damping,
        arithmetic=arithmetic,
        new_weight=new_weight,
        kappa=kappa,
    )
