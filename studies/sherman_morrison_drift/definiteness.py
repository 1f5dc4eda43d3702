"""Whether kept inverses are positive definite: by bounds in float64, where these do not tell by exact arithmetic."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mpmath import isfinite

from precond_lab import evaluate
from precond_lab.truth.inverse_root.definiteness import positive_definite

from .programs import recursion_of

EXACT = 2
"""How many states of a run are decided exactly, where float64 cannot tell."""
DIGITS = 120
DEFINITE, UNKNOWN, INDEFINITE, NOT_FINITE = 1, 0, -1, -2


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        first: the place of the first state that is not positive definite, or None.
        kind: "definite"; or what that state is: "indefinite", "singular" or "not finite".
        negative: how many states have a negative eigenvalue for certain, in the whole run.
        unknown: how many states were not decided, in the whole run.
    """

    first: int | None
    kind: str
    negative: int
    unknown: int


@cache
def _signs() -> Callable:
    return jax.jit(jax.vmap(jax.vmap(_sign)))


def _sign(P: jax.Array) -> jax.Array:
    """Rump's test (BIT 46, 2006): a Cholesky factor of H - c I exists in floating point only if H is definite.

    Likewise, one of H + c I fails to exist only if H is not. H is the symmetric part, scaled to a diagonal near one by
    powers of two, which is exact; c bounds the backward error of a factor and the rounding of the sum of both
    triangles.
    """
    n = P.shape[0]
    S = (P + P.T) / 2
    diagonal = jnp.diagonal(S)
    finite = jnp.isfinite(P).all()
    positive = finite & (diagonal > 0).all()
    shift = -(jnp.frexp(jnp.where(positive, diagonal, 1.0))[1] // 2)
    H = jnp.ldexp(jnp.ldexp(jnp.where(positive, S, jnp.eye(n)), shift[:, None]), shift[None, :])
    c = (n + 4) * 2.0**-52 * jnp.trace(H)
    down, up = (jnp.linalg.cholesky(H + sign * c * jnp.eye(n)) for sign in (-1, 1))
    sure, possible = jnp.isfinite(down).all(), jnp.isfinite(up).all()
    code = jnp.where(sure, DEFINITE, jnp.where(possible, UNKNOWN, INDEFINITE))
    return jnp.where(
        finite, jnp.where(positive, code, jnp.where((diagonal < 0).any(), INDEFINITE, UNKNOWN)), NOT_FINITE
    )


def signs(P: np.ndarray) -> np.ndarray:
    """What float64 can prove of each matrix.

    Args:
        P: ``[batch, times, n, n]``; what is judged is the symmetric part.

    Returns:
        ``[batch, times]`` of DEFINITE, INDEFINITE (a negative eigenvalue), UNKNOWN and NOT_FINITE.
    """
    with jax.enable_x64(True):
        return np.asarray(_signs()(P))


def decided(rows: list[list[Fraction]]) -> str:
    """The kind of one matrix of rationals; balls that cannot tell leave "singular".

    Args:
        rows: of the matrix; what is judged is its symmetric part.

    Returns:
        "definite", "indefinite" or "singular".
    """
    rows = [[(x + rows[j][i]) / 2 for j, x in enumerate(row)] for i, row in enumerate(rows)]
    if positive_definite(rows):
        return "definite"
    lift = max(abs(row[i]) for i, row in enumerate(rows)) / 2**200 or Fraction(1)
    lifted = [[x + lift * (i == j) for j, x in enumerate(row)] for i, row in enumerate(rows)]
    return "singular" if positive_definite(lifted) else "indefinite"


def exactly(form: str, state: Any) -> list[list[Fraction]] | None:
    """The inverse that a state stands for, to so many digits that those of products of factors are exact.

    Args:
        form: a name in FORMS.
        state: of one run at one step.

    Returns:
        Rows of rationals; None where it is not finite.
    """
    found = evaluate(recursion_of(form).inverse, state, digits=DIGITS)
    if not all(isfinite(x) for x in found.ravel()):
        return None
    return [[_rational(x) for x in row] for row in found]


def _rational(x: Any) -> Fraction:
    sign, mantissa, exponent, _ = x._mpf_
    whole = -int(mantissa) if sign else int(mantissa)
    return Fraction(whole) * Fraction(2) ** int(exponent)


def outcome(codes: np.ndarray, form: str, states: Any) -> Outcome:
    """How one run ended.

    Args:
        codes: ``[times]``, of `signs`.
        form: a name in FORMS.
        states: of the run, fields ``[times, ...]``.

    Returns:
        The outcome. Of the states that float64 cannot tell, the first `EXACT` are decided exactly; the others are
        taken for definite, and counted.
    """
    negative, asked = int((codes == INDEFINITE).sum()), 0
    for place in np.flatnonzero(codes != DEFINITE):
        kind = {INDEFINITE: "indefinite", NOT_FINITE: "not finite"}.get(int(codes[place]))
        if kind is None and asked < EXACT:
            asked += 1
            rows = exactly(form, jax.tree.map(lambda x, place=place: x[place], states))
            kind = "not finite" if rows is None else decided(rows)
        if kind not in {None, "definite"}:
            return Outcome(int(place), str(kind), negative, int((codes == UNKNOWN).sum()) - asked)
    return Outcome(None, "definite", negative, int((codes == UNKNOWN).sum()) - asked)
