"""The online Newton step with any form of the carried inverse.

Hazan, Agarwal and Kale, "Logarithmic regret algorithms for online convex optimization", 2007, figure 2:

    A <- A + g g^T,    y = x - A^{-1} g / gamma,    x <- argmin over |z| <= R of (z - y)^T A (z - y)

from A = epsilon I. With gradients of at most G, a domain of diameter D and losses that are alpha-exp-concave, the
paper's gamma is min(1 / (4 G D), alpha) / 2 and its epsilon 1 / (gamma^2 D^2).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import nonzero, norm, product
from precond_lab.preconditioners.inverse_root.kernels import LOOPS, Kernels
from precond_lab.preconditioners.rank_one.recursion import Recursion, State, Store, check_vectors, keep


class OnlineNewton(NamedTuple):
    """The state of the online Newton step.

    Attributes:
        x: the point, ``[n]``.
        inverse: the state of the recursion that stands for A^{-1}.
    """

    x: jax.Array
    inverse: State


class Parameters(NamedTuple):
    """The constants of the paper.

    Attributes:
        gamma: the gradient is divided by it.
        epsilon: A begins as this times the identity.
    """

    gamma: float
    epsilon: float


def parameters(gradient: float, diameter: float, exp_concavity: float) -> Parameters:
    """The constants that the regret bound 5 (1 / alpha + G D) n log T is proved with.

    Args:
        gradient: G, the largest norm of a gradient.
        diameter: D, of the domain.
        exp_concavity: alpha.

    Returns:
        The constants.

    Raises:
        ValueError: one of them is not positive.

    Example:
        >>> parameters(1.0, 2.0, 0.5)
        Parameters(gamma=0.0625, epsilon=64.0)
    """
    if min(gradient, diameter, exp_concavity) <= 0:
        raise ValueError(f"G = {gradient}, D = {diameter}, alpha = {exp_concavity} given; give positive numbers")
    gamma = min(1 / (4 * gradient * diameter), exp_concavity) / 2
    return Parameters(gamma, 1 / (gamma * diameter) ** 2)


def start_newton(recursion: Recursion, x: jax.Array, epsilon: jax.Array | float) -> OnlineNewton:
    """The state before the first gradient.

    Args:
        recursion: a form of the carried inverse.
        x: where to start, ``[n]``.
        epsilon: A is this times the identity.

    Returns:
        The state.
    """
    x = jnp.asarray(x)
    return OnlineNewton(x, recursion.start(jnp.full_like(x, epsilon)))


def newton_step(
    recursion: Recursion,
    state: OnlineNewton,
    g: jax.Array,
    gamma: jax.Array | float,
    *,
    radius: jax.Array | float | None = None,
    kernels: Kernels = LOOPS,
    store: Store | None = None,
) -> OnlineNewton:
    """One step: A <- A + g g^T, then the point against A^{-1} g / gamma, then back into the ball.

    Nothing is forgotten (beta = alpha = 1): roundings of the inverse stay, and in a format of unit roundoff u its
    updates, of a relative size of 1 / t in step t, are lost from about t = 1 / u on.

    Args:
        recursion: a form of the carried inverse; static.
        state: of the step before.
        g: gradient of the loss at x, ``[n]``.
        gamma: as in `parameters`.
        radius: R of the ball about zero that x stays in, in the norm of A; None: there is none, and `kernels` is not
            used.
        kernels: the linear algebra of the projection.
        store: rounds what is kept; see :func:`.recursion.keep`.

    Returns:
        The next state. Cost: that of the recursion, 2 n^2 flops, and that of `kernels.eigh` for a projection.

    Raises:
        ValueError: g has not the length of x.

    Example:
        >>> import jax.numpy as jnp
        >>> from precond_lab.preconditioners import rank_one
        >>> method = rank_one.METHODS["symmetric"]
        >>> state = start_newton(method, jnp.zeros(1), 1.0)
        >>> newton_step(method, state, jnp.ones(1), 0.5).x.tolist()
        [-1.0]
    """
    g = jnp.asarray(g)
    if g.shape != state.x.shape:
        raise ValueError(
            f"a gradient of shape {g.shape} given at a point of {state.x.size} elements; give [{state.x.size}]"
        )
    with jax.named_scope("arrays"):
        one = jnp.ones_like(state.x[0])
        inverse = recursion.update(state.inverse, g, one, one)
        step = recursion.apply(inverse, g)
        with jax.named_scope("scalars"):
            step = step / gamma
        x = state.x - step
        if radius is not None:
            x = project(recursion.inverse(inverse), x, radius, kernels=kernels)
        return OnlineNewton(x, keep(recursion, inverse, store))


def run_newton(
    recursion: Recursion,
    gradient: Callable[[jax.Array, Any], jax.Array],
    state: OnlineNewton,
    data: Any,
    gamma: jax.Array | float,
    *,
    radius: jax.Array | float | None = None,
    kernels: Kernels = LOOPS,
    store: Store | None = None,
) -> tuple[OnlineNewton, jax.Array]:
    """The online Newton step over a stream of losses, by `lax.scan`.

    Args:
        recursion: a form of the carried inverse; static.
        gradient: from x and one element of the data, the gradient of its loss at x; static.
        state: what `start_newton` returned.
        data: pytree whose first axis is time.
        gamma: as in `parameters`.
        radius: of the ball, or None.
        kernels: the linear algebra of the projection.
        store: rounds what is kept of the inverse.

    Returns:
        The last state, and the points at which the losses were met, ``[steps, n]``: the first is where it started.
    """

    def step(state: OnlineNewton, datum: Any) -> tuple[OnlineNewton, jax.Array]:
        g = gradient(state.x, datum)
        return newton_step(recursion, state, g, gamma, radius=radius, kernels=kernels, store=store), state.x

    return lax.scan(step, state, data)


NEWTON_STEPS = 60
"""The most that the equation of the projection is given; 5 to 15 are the rule."""


def project(P: jax.Array, y: jax.Array, radius: jax.Array | float, *, kernels: Kernels = LOOPS) -> jax.Array:
    """The point of the ball |x| <= R that is nearest to y in the norm of A = P^{-1}.

    Where |y| > R it is x = (A + mu I)^{-1} A y = (I + mu P)^{-1} y with the mu > 0 for which |x| = R. In the basis of
    eigenvectors of P, x_i = z_i / (1 + mu lambda_i). As 1 / |x(mu)| is increasing and concave in mu (Conn, Gould and
    Toint, Trust-Region Methods, section 7.3.3), Newton's method for 1 / |x(mu)| = 1 / R from mu = 0 increases to the
    solution; it ends where mu no longer does.

    Order: P = Q diag(lambda) Q^T, negative eigenvalues set to zero, z = Q^T y, Newton's steps
    mu <- mu + (|x| / R - 1) |x|^2 / sum_i(x_i^2 lambda_i / (1 + mu lambda_i)), and Q x.

    Args:
        P: the inverse of A, symmetric positive semidefinite, ``[n, n]``.
        y: ``[n]``.
        radius: R, positive.
        kernels: the linear algebra to use.

    Returns:
        ``[n]``; y itself where it lies in the ball. Cost: that of `kernels.eigh`, 4 n^2 flops, and 10 n a Newton step.

    Raises:
        ValueError: y has not the order of P.

    Example:
        >>> import jax.numpy as jnp
        >>> [round(x, 4) for x in project(jnp.eye(2), jnp.array([3.0, 4.0]), 1.0).tolist()]
        [0.6, 0.8]
    """
    P, y = jnp.asarray(P), jnp.asarray(y)
    check_vectors(P, (y,))
    values, Q = kernels.eigh(P)
    values = jnp.maximum(values, jnp.zeros_like(values))
    z = product(Q.T, y)
    with jax.named_scope("scalars"):
        inside = norm(y) <= radius

    def at(mu: jax.Array) -> tuple[jax.Array, jax.Array]:
        with jax.named_scope("scalars"):
            shrunk = 1 + mu * values
        return z / shrunk, shrunk

    def improve(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        count, _, mu = carry
        x, shrunk = at(mu)
        weights = values / shrunk
        with jax.named_scope("scalars"):
            length = norm(x)
            u = x / nonzero(length)
            slope = product(u, weights * u)
            change = (length / radius - 1) / nonzero(slope)
            return count + 1, mu, jnp.maximum(mu, mu + change)

    def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        count, before, mu = carry
        return (count < NEWTON_STEPS) & (mu > before) & ~inside

    zero = jnp.zeros_like(values[0])
    _, _, mu = lax.while_loop(unfinished, improve, (jnp.zeros((), jnp.int32), zero - 1, zero))
    return jnp.where(inside, y, product(Q, at(mu)[0]))
