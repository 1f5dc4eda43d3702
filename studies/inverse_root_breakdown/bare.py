"""Newton's iterations with nothing but the stopping rule of the Shampoo codes, watched beyond their stop."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like, product
from precond_lab.preconditioners.inverse_root.newton import newton_multiplier, started
from precond_lab.preconditioners.inverse_root.powers import matrix_power
from precond_lab.preconditioners.inverse_root.solution import Setting, prepare, unscaled

STEPS = 80
"""Enough for a small eigenvalue to grow from 1e-10 to one, and for as many steps after that."""
TOLERANCE = 1e-6
GROWTH = 1.2
"""By which max|M - I| may rise in a step; the iteration is given up where it rises by more."""


class Watched(NamedTuple):
    """An iteration, where it would have stopped and where it ends.

    Attributes:
        stopped: X where the rule stops the iteration.
        reported: max|M - I| of its last step.
        steps: until then, an int32 scalar.
        last: X after all steps.
        remaining: max|M - I| after all steps; infinite where that is not a number.
        least: the smallest max|M - I| of all steps.
    """

    stopped: jax.Array
    reported: jax.Array
    steps: jax.Array
    last: jax.Array
    remaining: jax.Array
    least: jax.Array


def watched(A: jax.Array, p: int, *, coupled: bool) -> Watched:
    """Newton's iteration from (p+1) / (2 |A|_F), for a fixed number of steps.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer.
        coupled: whether M is iterated, or formed from X and A in every step.

    Returns:
        What became of it.
    """
    problem = prepare(A, Setting())
    X, M = started(problem, p, "frobenius", None)
    error = _distance(M)

    def step(_: int, state: tuple) -> tuple:
        X, M, error, found, running = state
        T = newton_multiplier(M, p)
        X = product(X, T)
        M = product(matrix_power(T, p, product), M) if coupled else product(matrix_power(X, p, product), problem.B)
        before, error = error, _distance(M)
        with jax.named_scope("certificate"):
            goes_on = running & (before > TOLERANCE)
            running = goes_on & (error <= GROWTH * before)
            least = jnp.minimum(found.least, error)
        found = found._replace(
            stopped=jnp.where(running, X, found.stopped),
            reported=jnp.where(goes_on, error, found.reported),
            steps=found.steps + goes_on,
            least=least,
        )
        return X, M, error, found, running

    begin = Watched(X, error, jnp.int32(0), X, error, error)
    X, M, error, found, _ = lax.fori_loop(0, STEPS, step, (X, M, error, begin, jnp.array(True)))
    stopped, last = (unscaled(Y, problem.exponent, p) for Y in (found.stopped, X))
    return found._replace(stopped=stopped, last=last, remaining=error)


def _distance(M: jax.Array) -> jax.Array:
    """max|M - I|, infinite where M is not finite: a maximum may pass over NaN."""
    with jax.named_scope("certificate"):
        return jnp.where(jnp.all(jnp.isfinite(M)), jnp.max(jnp.abs(M - identity_like(M))), jnp.inf)
