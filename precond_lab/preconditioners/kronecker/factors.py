"""The two statistics of a layer whose Kronecker product K-FAC takes for its curvature."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.rank_one.averages import Weight, average_vector
from precond_lab.preconditioners.rank_one.layers import layer_rows


class Factors(NamedTuple):
    """The curvature B (x) A of vec(G), row by row, for a gradient G ``[m, n]``.

    Attributes:
        A: mean of a a^T over the inputs a of the layer, ``[n, n]``.
        B: mean of b b^T over its output gradients b, ``[m, m]``.
    """

    A: jax.Array
    B: jax.Array


def layer_factors(
    inputs: jax.Array, output_gradients: jax.Array, *, bias: bool = True, mean_loss: bool = True
) -> Factors:
    """The factors of one batch (Martens and Grosse 2015, equation 1).

    Order: the rows, their products X^T X and Y^T Y, the quotients by the number of rows.

    Args:
        inputs: of the layer, ``[batch, ..., n]``.
        output_gradients: of the loss by the outputs of the layer, before its activation, ``[batch, ..., m]``.
        bias: whether a one is appended to every input.
        mean_loss: whether the loss is a mean over the batch, so that its gradients carry 1 / batch, by which they are
            divided here: the statistics are then those of single samples, at any batch size. False takes them as they
            are.

    Returns:
        The factors. Cost: 2 rows (m^2 + n^2) flops.

    Raises:
        ValueError: the two have not the same axes but for the last.

    Example:
        >>> import jax.numpy as jnp
        >>> layer_factors(jnp.array([[1.0], [3.0]]), jnp.array([[0.5], [0.5]]))
        Factors(A=Array([[5., 2.],
               [2., 1.]], dtype=float32), B=Array([[1.]], dtype=float32))
    """
    with jax.named_scope("arrays"):
        X, Y = layer_rows(inputs, output_gradients, bias=bias, mean_loss=mean_loss)
        squares = product(X.T, X), product(Y.T, Y)
        with jax.named_scope("scalars"):
            return Factors(*(square / X.shape[0] for square in squares))


def average_factors(
    average: Factors, sample: Factors, *, new_weight: Weight | None = None, old_weight: Weight | None = None
) -> Factors:
    """One step of the running averages of both factors; see :func:`..rank_one.averages.average_vector`.

    Args:
        average: the factors that were.
        sample: those of a batch.
        new_weight: of the sample.
        old_weight: of the average that was; exactly one of the two is given.

    Returns:
        The next averages. Cost: 3 (m^2 + n^2) flops.

    Raises:
        ValueError: both weights or none are given, or shapes differ.

    Example:
        >>> import jax.numpy as jnp
        >>> zero, one = Factors(jnp.zeros(()), jnp.zeros(())), Factors(jnp.ones(()), jnp.ones(()))
        >>> average_factors(zero, one, old_weight=0.75).A.item()
        0.25
    """
    return Factors(
        *(
            average_vector(x, y, new_weight=new_weight, old_weight=old_weight)
            for x, y in zip(average, sample, strict=True)
        )
    )


def check_factors(G: jax.Array, factors: Factors) -> tuple[jax.Array, Factors]:
    """Refuse shapes that do not fit together.

    Args:
        G: ``[m, n]``.
        factors: A ``[n, n]`` and B ``[m, m]``.

    Returns:
        The same as JAX arrays.

    Raises:
        ValueError: shapes do not fit.
    """
    G, factors = jnp.asarray(G), Factors(*map(jnp.asarray, factors))
    m, n = G.shape if G.ndim == 2 else (0, 0)
    if not m * n or factors.A.shape != (n, n) or factors.B.shape != (m, m):
        raise ValueError(
            f"a gradient of shape {G.shape} given with factors A {factors.A.shape} and B {factors.B.shape}; give "
            "[m, n], A [n, n] of the inputs and B [m, m] of the outputs"
        )
    return G, factors
