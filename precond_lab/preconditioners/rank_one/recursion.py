"""One signature for every way to carry an inverse through updates of rank one.

The matrix is C, its inverse is P, and a step is C <- beta C + alpha v v^T. An exponential average has alpha = 1 - beta;
a sum, as of recursive least squares or the online Newton step, has beta = alpha = 1. With tau = beta / alpha, w = P v
and s = v^T w the exact step is

    P <- (P - w w^T / (tau + s)) / beta

(Sherman and Morrison 1950; Hager, "Updating the inverse of a matrix", SIAM Review 31, 1989). The forms of this package
equal it in exact arithmetic and part ways under rounding.

Programs mark what an emulated arithmetic may treat apart by `jax.named_scope`: "arrays" for a step, and in it "scalars"
for inner products that yield a scalar and for every operation with a scalar operand; "state" for what is carried to the
next step. :func:`precond_lab.arithmetic.roles.by_role` makes the arithmetic that sets the three apart.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from precond_lab.linalg.matrices import floating

State = Any
"""A NamedTuple of arrays, whose fields a form documents."""
Store = Callable[[jax.Array], jax.Array]


class Recursion(NamedTuple):
    """A form of the recursion.

    Attributes:
        start: from C ``[n, n]``, or its diagonal ``[n]``, the state that stands for it.
        update: from state, v ``[n]``, beta and alpha, both scalars, the next state.
        inverse: from a state the P ``[n, n]`` that it stands for.
        apply: from a state and g ``[n]``, P g.
        stored: the fields of the state that are kept in its format; the others are kept in the arithmetic that made
            them. The last axis of the first has length n.
        block: whether `update` takes k vectors at once, ``[k, n]``.
    """

    start: Callable[[jax.Array], State]
    update: Callable[[State, jax.Array, jax.Array, jax.Array], State]
    inverse: Callable[[State], jax.Array]
    apply: Callable[[State, jax.Array], jax.Array]
    stored: tuple[str, ...] = ("P",)
    block: bool = False


def keep(recursion: Recursion, state: State, store: Store | None = None) -> State:
    """The state as it is kept between two steps.

    Args:
        recursion: whose state it is.
        state: as `update` returned it.
        store: what becomes of an array that is kept; None where emulation alone rounds it, by the scope "state".

    Returns:
        The state with its stored fields rounded.
    """
    fields = {}
    with jax.named_scope("state"):
        for name in recursion.stored:
            x = jnp.copy(getattr(state, name))
            fields[name] = x if store is None else store(x)
    return state._replace(**fields)


def run(
    recursion: Recursion,
    state: State,
    V: ArrayLike,
    beta: ArrayLike,
    alpha: ArrayLike | None = None,
    *,
    every: int | None = None,
    store: Store | None = None,
) -> tuple[State, State | None]:
    """A recursion over a stream of vectors, by `lax.scan`.

    It is a plain program: emulate it, evaluate it, batch it by vmap.

    Args:
        recursion: a form; static.
        state: what `recursion.start` returned.
        V: the stream, ``[steps, n]``, or ``[steps, k, n]`` for steps of rank k, taken as k updates of which the first
            alone is multiplied by beta, or at once by a form with `block`.
        beta: decay, a scalar.
        alpha: weight of an outer product, a scalar; 1 - beta where None.
        every: how many steps lie between two states that are returned; it divides the number of steps. None: none is.
        store: rounds what is kept; see `keep`.

    Returns:
        The last state, and the states after `every`, 2 `every`, ... steps, stacked; None where `every` is None.

    Raises:
        TypeError: what is given is no recursion, or of a wider type than its state.
        ValueError: the stream does not fit the state, a weight is no scalar, beta is not between 0 and 1 where alpha is
            None, or `every` does not divide the number of steps.

    Cost: that of `update` a step; compiled once for all streams of a shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from precond_lab.preconditioners import rank_one
        >>> method = rank_one.METHODS["symmetric"]
        >>> V = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> last, _ = rank_one.run(method, method.start(jnp.ones(2)), V, 1.0, 1.0)
        >>> last.P.tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    if not isinstance(recursion, Recursion):
        raise TypeError(f"{recursion!r} given as a recursion; give one of rank_one.METHODS, as METHODS['symmetric']")
    if alpha is None and isinstance(beta, int | float) and not 0 < beta < 1:
        raise ValueError(f"beta = {beta} given without alpha, which is 1 - beta then; for a sum give alpha = 1 as well")
    V, beta = floating(V), jnp.asarray(beta)
    with jax.named_scope("scalars"):
        alpha = 1 - beta if alpha is None else jnp.asarray(alpha)
    _check_stream(recursion, state, V, beta, alpha)

    def step(state: State, v: jax.Array) -> tuple[State, None]:
        with jax.named_scope("arrays"):
            state = _updated(recursion, state, v, beta, alpha)
        return keep(recursion, state, store), None

    if every is None:
        return lax.scan(step, state, V)[0], None
    if every < 1 or V.shape[0] % every:
        raise ValueError(f"every = {every} given for {V.shape[0]} steps; give a divisor of the number of steps")

    def several(state: State, vectors: jax.Array) -> tuple[State, State]:
        state, _ = lax.scan(step, state, vectors)
        return state, state

    return lax.scan(several, state, V.reshape(V.shape[0] // every, every, *V.shape[1:]))


def _updated(recursion: Recursion, state: State, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> State:
    """The state after an item of the stream, before it is kept."""
    if v.ndim == 1 or recursion.block:
        return recursion.update(state, v, beta, alpha)
    state = recursion.update(state, v[0], beta, alpha)
    for u in v[1:]:
        state = recursion.update(state, u, jnp.ones_like(beta), alpha)
    return state


def _check_stream(recursion: Recursion, state: State, V: jax.Array, beta: jax.Array, alpha: jax.Array) -> None:
    """Refuse a stream that does not fit the state, and weights that are no scalars."""
    kept = getattr(state, recursion.stored[0])
    n = kept.shape[-1]
    if V.ndim not in {2, 3} or V.shape[-1] != n or (V.ndim == 3 and not V.shape[1]):
        raise ValueError(
            f"a stream of shape {V.shape} given for order {n}; give [steps, {n}] or [steps, k, {n}], k > 0"
        )
    if jnp.result_type(kept, V, beta, alpha) != kept.dtype:
        raise TypeError(
            f"state of {kept.dtype} given with vectors of {V.dtype}, beta of {beta.dtype} and alpha of {alpha.dtype}: "
            "a wider type would change that of the state; cast them, or start from a wider matrix"
        )
    if beta.ndim or alpha.ndim:
        raise ValueError(
            f"beta, alpha of shapes {beta.shape}, {alpha.shape} given; give scalars, and vmap over several"
        )


def matrix_or_diagonal(C: jax.Array) -> jax.Array:
    """The matrix that a form starts from, as a JAX array.

    Args:
        C: ``[n, n]``, or its diagonal, ``[n]``.

    Returns:
        The same numbers.

    Raises:
        ValueError: it is neither, or empty.
        TypeError: its numbers are not real floating-point numbers.
    """
    C = jnp.asarray(C)
    if C.ndim not in {1, 2} or C.shape[0] != C.shape[-1] or not C.size:
        raise ValueError(f"C of shape {C.shape} given; give a matrix, [n, n], or its diagonal, [n]")
    if not jnp.issubdtype(C.dtype, jnp.floating):
        raise TypeError(f"C of {C.dtype} given; give real floating-point numbers")
    return C


def check_vectors(P: jax.Array, vectors: Sequence[jax.Array]) -> None:
    """Refuse shapes that do not fit together.

    Args:
        P: ``[n, n]``.
        vectors: each ``[n]``.

    Raises:
        ValueError: P is not square, or a vector not of its order.
    """
    if P.ndim != 2 or P.shape[0] != P.shape[1]:
        raise ValueError(f"a matrix of shape {P.shape} given; a square one is wanted, [n, n]")
    for v in vectors:
        if v.shape != P.shape[:1]:
            raise ValueError(f"a vector of shape {v.shape} given for a matrix of order {P.shape[0]}; give [n]")
