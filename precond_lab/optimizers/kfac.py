"""K-FAC: steps preconditioned by the Kronecker factors of each layer."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import Arithmetic
from precond_lab.optimizers.layers import Rows, scale_by_layers, with_momentum
from precond_lab.preconditioners import kronecker
from precond_lab.preconditioners.inverse_root import LIBRARY, LOOPS
from precond_lab.preconditioners.kronecker import Factors


def kfac(
    learning_rate: optax.ScalarOrSchedule,
    damping: float = 0.03,
    arithmetic: Arithmetic | Format | str | None = None,
    *,
    momentum: float = 0.9,
    **settings: Any,
) -> optax.GradientTransformationExtraArgs:
    """K-FAC (Martens and Grosse 2015) with KL clip and momentum, the baseline that Eva is compared with.

    ``update(gradients, state, params, rows=[(inputs, output_gradients), ...])`` takes for each dense layer, in the
    order of the parameters' leaves, what it saw of the batch.

    Args:
        learning_rate: a number or a schedule.
        damping: lambda.
        arithmetic: the arithmetic in which factors and directions are computed and kept; None for the gradients' own
            dtype. Momentum and learning rate are applied outside of it.
        momentum: decay of the sum of clipped directions, as in SGD.
        **settings: of `scale_by_kfac`.

    Returns:
        An optax transformation.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = kfac(0.1)
        >>> params = {"w": jnp.zeros((2, 1))}
        >>> state = optimizer.init(params)
        >>> rows = [(jnp.array([[1.0, 2.0]]), jnp.array([[1.0]]))]
        >>> updates, state = optimizer.update({"w": jnp.array([[1.0], [2.0]])}, state, params, rows=rows)
        >>> updates["w"].shape
        (2, 1)
    """
    return with_momentum(scale_by_kfac(learning_rate, damping, arithmetic, **settings), learning_rate, momentum)


def scale_by_kfac(
    learning_rate: optax.ScalarOrSchedule,
    damping: float = 0.03,
    arithmetic: Arithmetic | Format | str | None = None,
    *,
    form: Literal["inverse", "eigen"] = "inverse",
    new_weight: float = 0.05,
    kappa: float | None = 1e-3,
    mean_loss: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """The clipped direction of K-FAC, without momentum and learning rate.

    A layer is a kernel ``[n, m]`` with or without a bias ``[m]`` beside it. Other parameters have no curvature here,
    and step along their gradient over lambda. The factors are solved with, or decomposed, in every step.

    Args:
        learning_rate: that the KL clip reckons with.
        damping: lambda, positive.
        arithmetic: emulated, with loops in the place of LAPACK; or None.
        form: "inverse", with factored damping (`kronecker.by_solves`), or "eigen", with that of the Kronecker product
            (`kronecker.by_eigenvectors`).
        new_weight: of a batch's factors in the running averages, whose first value is that of the first batch.
        kappa: of the KL clip; None for none.
        mean_loss: whether the loss is a mean over the batch, whose 1 / batch is taken out of the output gradients.

    Returns:
        An optax transformation; extra arguments but rows are ignored. State: m^2 + (n + 1)^2 numbers a layer.

    Raises:
        ValueError: a number is out of its range, or the form unknown; on an update, if rows do not fit the layers.
    """
    forms = {"inverse": kronecker.by_solves, "eigen": kronecker.by_eigenvectors}
    if form not in forms:
        raise ValueError(f"form {form!r} given; known are {', '.join(forms)}")
    precondition, kernels = forms[form], LIBRARY if arithmetic is None else LOOPS

    def direction(old: Factors, G: jax.Array, rows: Rows, new: jax.Array, gamma: jax.Array) -> tuple:
        fresh = kronecker.layer_factors(*rows, bias=G.shape[1] > rows.inputs.shape[-1], mean_loss=mean_loss)
        factors = kronecker.average_factors(old, fresh, new_weight=new)
        return precondition(G, factors, gamma, kernels=kernels), factors

    return scale_by_layers(
        lambda G: Factors(*(jnp.zeros((size, size), G.dtype) for size in G.shape[::-1])),
        direction,
        learning_rate=learning_rate,
        damping=damping,
        arithmetic=arithmetic,
        new_weight=new_weight,
        kappa=kappa,
    )
