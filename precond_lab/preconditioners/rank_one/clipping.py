"""One factor for the preconditioned gradients of all layers: a bound on the change of the model, or a length."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import nonzero, product


class Scaled(NamedTuple):
    """Preconditioned gradients of all layers, times one factor.

    Attributes:
        gradients: a pytree, as it was given.
        factor: nu, a scalar.
    """

    gradients: Any
    factor: jax.Array


def kl_clip(P: Any, G: Any, learning_rate: jax.Array | float, kappa: jax.Array | float = 0.001) -> Scaled:
    """P times nu = min(1, sqrt(kappa / (rate^2 sum <P, G>))), with the sum over all layers.

    To second order the step -rate P changes the outputs' distribution by rate^2 <P, G> / 2 in Kullback-Leibler
    divergence, if the curvature that P was made with is that of Fisher. Where the sum is not positive, nu is one, as in
    the code released with Eva; so it is where P or G has a NaN.

    Order: the inner products of the layers, their sum, kappa / sum, the square root, its quotient by the rate, the
    minimum with one, the products. The square of the rate is never formed: in float16 that of 1e-4 is zero.

    Args:
        P: pytree of preconditioned gradients.
        G: pytree of gradients, of the same structure and shapes.
        learning_rate: of the step that follows.
        kappa: bound, positive. The released code takes zero for `norm_graft`, and a negative one for no factor at all.

    Returns:
        The gradients and nu. Cost: 3 flops an element.

    Raises:
        ValueError: the trees differ, or kappa is a number that is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> scaled = kl_clip([jnp.array([2.0])], [jnp.array([8.0])], 0.5, 1.0)
        >>> scaled.factor.item(), scaled.gradients[0].item()
        (0.5, 1.0)
    """
    if isinstance(kappa, int | float) and not kappa > 0:
        raise ValueError(
            f"kappa = {kappa} given; give a positive one, or call norm_graft where the released code has zero"
        )
    pairs = _pairs(P, G)
    with jax.named_scope("arrays"), jax.named_scope("scalars"):
        total = _total([product(p.reshape(-1), g.reshape(-1)) for p, g in pairs])
        positive = total > 0
        bound = jnp.sqrt(kappa) / jnp.sqrt(jnp.where(positive, total, jnp.ones_like(total))) / learning_rate
        one = jnp.ones_like(bound)
        return _scaled(P, jnp.where(positive, jnp.minimum(bound, one), one))


def norm_graft(P: Any, G: Any) -> Scaled:
    """P at the length of G over all layers: nu = |G| / |P|, in Frobenius norms; one where P is zero.

    What the code released with Eva does where its kl_clip is zero; there P = 0 gives 0 / 0. Order: the sums of squares
    of the layers, their sums, the quotient, the square root, the products.

    Args:
        P: pytree of preconditioned gradients.
        G: pytree of gradients, of the same structure and shapes.

    Returns:
        The gradients and nu. Cost: 5 flops an element.

    Raises:
        ValueError: the trees differ.

    Example:
        >>> import jax.numpy as jnp
        >>> norm_graft([jnp.array([2.0]), jnp.array([0.0])], [jnp.array([3.0]), jnp.array([4.0])]).gradients[0].item()
        5.0
    """
    pairs = _pairs(P, G)
    with jax.named_scope("arrays"), jax.named_scope("scalars"):
        length = _total([product(p.reshape(-1), p.reshape(-1)) for p, _ in pairs])
        wanted = _total([product(g.reshape(-1), g.reshape(-1)) for _, g in pairs])
        factor = jnp.where(length == 0, jnp.ones_like(length), jnp.sqrt(wanted / nonzero(length)))
        return _scaled(P, factor)


def _pairs(P: Any, G: Any) -> list[tuple[jax.Array, jax.Array]]:
    """The leaves of two trees side by side."""
    (first, tree), (second, other) = (jax.tree.flatten(jax.tree.map(jnp.asarray, x)) for x in (P, G))
    if tree != other or not first or any(p.shape != g.shape for p, g in zip(first, second, strict=True)):
        raise ValueError(
            f"trees {tree} and {other} given; give the gradients of the same layers twice, in the same shapes"
        )
    return list(zip(first, second, strict=True))


def _total(terms: Sequence[jax.Array]) -> jax.Array:
    """The sum, from the first on."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _scaled(P: Any, factor: jax.Array) -> Scaled:
    return Scaled(jax.tree.map(lambda p: factor.astype(jnp.result_type(p)) * p, P), factor)
