"""Algorithm 3 of SONew: drop the edges that the arithmetic cannot carry, and solve again without them."""

from collections.abc import Callable
from operator import index
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.logdet.band import Rule, check_banded, cut, edges_between_cuts, within
from precond_lab.preconditioners.logdet.projection import (
    Factor,
    Form,
    factor_of,
    regress_and_judge,
    with_following,
)


class Judgment(NamedTuple):
    """How Algorithm 3 is to judge a vertex: see :func:`iterate`.

    Attributes:
        rule: which edges a failed vertex loses.
        relative: whether the tolerance is relative to H_ii.
        form: of s.
    """

    rule: Rule = "one_sided"
    relative: bool = True
    form: Form = "pivots"


class Stabilization(NamedTuple):
    """What Algorithm 3 comes to.

    Attributes:
        factor: of the projection on the reduced graph.
        kept: its edges, bool ``[b, n]``.
        passes: how often the problem was solved again on a smaller graph, an int32 scalar.
        stable: whether no vertex fails that has an edge left to drop, a bool scalar. False only where the passes ran
            out.
    """

    factor: Factor
    kept: jax.Array
    passes: jax.Array
    stable: jax.Array


def stabilize(
    H: jax.Array, tolerance: jax.Array | float | None = None, *, rule: Rule = "one_sided", relative: bool = True
) -> tuple[Factor, jax.Array]:
    """The projection after Algorithm 3 has dropped the edges that the arithmetic cannot carry, to its fixed point.

    Vertex i fails unless s_i > tolerance H_ii (relative) or s_i > tolerance (absolute), with s as :func:`project`
    computes it; written so, a NaN fails. Of a failed vertex the edges go that

    - ``one_sided``: lead from it, or from an earlier vertex, to a later one. This suffices, since the regressions of
      earlier vertices do not involve s_i: what remains are segments, each ending at a failed vertex;
    - ``literal``: touch it or lead across it, as the algorithm is printed.

    A vertex with a pivot of its window H_II that is not positive fails as well: its s is undefined.

    The problem is then solved on the reduced graph (dropping entries of L instead would not give its projection), and
    the test repeated until nothing more fails. With any deterministic rounding one repetition is enough: the windows
    that are left are the first few neighbors of those before, their pivots and the partial sums of s the same numbers,
    and as every term that is subtracted is positive, s with fewer of them is not smaller. For finite H with a positive
    diagonal, D is then finite and positive (unless 1 / s overflows). What comes out approximates the projection on the
    reduced graph, which by design is far from that of H.

    The relative rule is invariant under scaling of H, the absolute rule is not. On a chain, with a relative tolerance
    gamma, the condition number 2 / (1 - beta^2) that remains would be below 2 / gamma if s were exact; as s is rounded,
    the pivots 1 - beta^2 of kept edges lie above gamma - 2u, about. There gamma = 2u, for the unit roundoff u of the
    format in which H is *stored*, guarantees signs alone, and ten percent of accuracy in s needs about 20u. On wider
    bands a window can be kept that is not positive definite as stored: D > 0 is guaranteed, a projection is not.

    Args:
        H: ``[b+1, n]``, with a positive diagonal. A zero on the diagonal has no projection: its own D is infinite, and
            :func:`apply` hands the NaN of 0 * inf to its neighbors; damp first.
        tolerance: gamma >= 0, a scalar. None for :func:`default_tolerance` of H's dtype: right where H is stored in
            that dtype, too small where a narrower format is emulated in it.
        rule: which edges a failed vertex loses.
        relative: whether the tolerance is relative to H_ii.

    Returns:
        The factor, and the edges that are kept, bool ``[b, n]``. Cost: for a chain that of :func:`project`, with one
        more product, comparison, and two selections a parameter; else that of :func:`project` for every pass, and two
        more.

    Raises:
        ValueError: for an unknown rule, a shape other than ``[b+1, n]``, or a tolerance that is negative or NaN (a
            traced one has no value yet, and passes).

    Example:
        >>> factor, kept = stabilize(jnp.array([[2.0, 2.0, 3.0], [2.0, 1.0, 0.0]]), 0.0)
        >>> kept.tolist(), factor.D[:1].tolist()
        ([[False, True, False]], [0.5])
    """
    factor, kept, _, _ = iterate(H, tolerance, rule=rule, relative=relative)
    return factor, kept


def iterate(
    H: jax.Array,
    tolerance: jax.Array | float | None = None,
    *,
    rule: Rule = "one_sided",
    relative: bool = True,
    passes: jax.Array | int | None = None,
    form: Form = "pivots",
) -> Stabilization:
    """Algorithm 3 with a bound on the number of passes, and their count.

    The form of s decides whether one pass is enough:

    - ``pivots``: s is the last pivot of the elimination, and windows without positive pivots fail, as in
      :func:`stabilize`: one pass is the fixed point, for every band and every deterministic rounding.
    - ``coefficients``: s = H_jj - psi_1 H_{j+1,j} - ... - psi_b H_{j+b,j}, from the solved psi, as the algorithm is
      printed, and s alone is judged. In exact arithmetic it is the same number; in low precision, and on windows that
      are not positive definite, a vertex can pass and then fail on its smaller window, so that more passes are needed.

    Args:
        H: ``[b+1, n]``, as for :func:`stabilize`.
        tolerance: as for :func:`stabilize`.
        rule: as for :func:`stabilize`.
        relative: as for :func:`stabilize`.
        passes: at most so many solutions on a reduced graph; 1 is the algorithm as printed. None for no other bound
            than n: every pass but the last drops an edge. May be a traced integer, so that one compiled program serves
            all bounds; a chain then goes through the loop that wider bands take, to the same numbers.
        form: of s; on a chain both are the same numbers, and windows are judged as by ``pivots``.

    Returns:
        The factor with its graph, the number of passes, and whether the fixed point was reached.

    Raises:
        ValueError: as :func:`stabilize`; for a negative number of passes (a traced one has no value yet, and passes),
            or an unknown form.

    Example:
        >>> result = iterate(jnp.array([[2.0, 2.0, 3.0], [2.0, 1.0, 0.0]]), 0.0)
        >>> int(result.passes), bool(result.stable)
        (1, True)
    """
    H = check_banded(H)
    band, n = H.shape[0] - 1, H.shape[1]
    judgment = Judgment(rule, relative, form)
    tolerance, limit = settled(H, tolerance, passes, rule, form)

    if band == 0:
        return Stabilization(factor_of(H[1:], H[0]), H[1:] > 0, jnp.int32(0), jnp.bool(True))
    if one_pass_settles(band, limit):
        return _stabilized_chain(H, tolerance, judgment)

    def solve(state: tuple) -> tuple[tuple, jax.Array]:
        _, cuts, kept, _, _ = state
        psi, s, fails = regress_and_fail(extended, kept, tolerance, judgment)
        cuts |= fails
        rest = edges_between_cuts(cuts, band, rule)
        return (kept, cuts, rest, psi, s), jnp.any(rest != kept)

    extended, every = with_following(H), within(n, band)
    start = (every, jnp.zeros(n, bool), every, jnp.zeros_like(H[1:]), jnp.zeros_like(H[0]))
    (solved, _, _, psi, s), done, stable = to_fixed_point(solve, start, limit)
    return Stabilization(factor_of(psi, s), solved, done, stable)


def default_tolerance(dtype: jax.typing.DTypeLike) -> float:
    """The relative tolerance for statistics stored in a dtype: 2u, the spacing of its numbers at one.

    From exactly stored positive definite H, no s comes out zero or negative on a chain unless 1 - beta^2 < 2u.

    Args:
        dtype: of a floating-point array.

    Returns:
        Twice its unit roundoff.

    Example:
        >>> default_tolerance(jnp.bfloat16)
        0.0078125
    """
    return float(jnp.finfo(dtype).eps)


def regress_and_fail(
    H: jax.Array, kept: jax.Array | None, tolerance: jax.Array, judgment: Judgment
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The regressions of the first m vertices of a chain of m + b, and which of these fail.

    Args:
        H: ``[b+1, m+b]``.
        kept: bool ``[b, m]``; None where H has zeros for the edges that are not there.
        tolerance: a scalar.
        judgment: how a vertex is judged.

    Returns:
        psi ``[b, m]``, s ``[m]``, and bool ``[m]``.
    """
    psi, s, definite = regress_and_judge(H, kept, form=judgment.form)
    fails = ~(s > (tolerance * H[0, : len(s)] if judgment.relative else tolerance))
    return psi, s, fails if judgment.form == "coefficients" and len(psi) > 1 else fails | ~definite


def to_fixed_point(
    solve: Callable[[Any], tuple[Any, jax.Array]], start: Any, limit: jax.Array | int
) -> tuple[Any, jax.Array, jax.Array]:
    """Solve, and solve again on a smaller graph until no edge goes.

    Args:
        solve: from a state to the next one, and whether an edge has gone.
        start: the first state; as the loop's body does all there is to do, it is compiled once.
        limit: at most so many solutions after the first; may be traced.

    Returns:
        The last state, the number of solutions after the first, and whether no edge went in the last one.
    """

    def again(carry: tuple) -> tuple:
        state, _, done = carry
        return *solve(state), done + 1

    def goes_on(carry: tuple) -> jax.Array:
        _, changed, done = carry
        return (done < 0) | (changed & (done < limit))

    state, changed, done = lax.while_loop(goes_on, again, (start, jnp.bool(True), jnp.int32(-1)))
    return state, done, ~changed


def _stabilized_chain(H: jax.Array, tolerance: jax.Array, judgment: Judgment) -> Stabilization:
    """On a chain one pass is the fixed point, and the solution on the reduced graph takes selections alone."""
    every = within(H.shape[1], 1)
    psi, s, fails = regress_and_fail(with_following(cut(H, every)), None, tolerance, judgment)
    kept = edges_between_cuts(fails, 1, judgment.rule)
    # The selections come before the reciprocal: no NaN or infinity of a dropped edge enters what follows.
    reduced = factor_of(jnp.where(kept, psi, jnp.zeros_like(psi)), jnp.where(kept[0], s, H[0]))
    return Stabilization(reduced, kept, jnp.any(every & ~kept).astype(jnp.int32), jnp.bool(True))


def settled(
    H: jax.Array, tolerance: jax.Array | float | None, passes: jax.Array | int | None, rule: Rule, form: Form
) -> tuple[jax.Array, jax.Array | int]:
    """The options of :func:`iterate`, checked.

    Args:
        H: ``[b+1, n]``.
        tolerance: a scalar, or None for the default.
        passes: a bound, or None for n.
        rule: which edges a failed vertex loses.
        form: of s.

    Returns:
        The tolerance as an array of H's dtype, and the bound: an int, or traced.

    Raises:
        ValueError: as :func:`iterate`.
    """
    limit = H.shape[1] if passes is None else _integer(passes)
    if isinstance(limit, int) and limit < 0:
        raise ValueError(f"{limit} passes given; it must be zero or more")
    if form not in {"pivots", "coefficients"}:
        raise ValueError(f"unknown form {form!r}; use 'pivots' or 'coefficients'")
    edges_between_cuts(jnp.zeros(1, bool), 0, rule)  # refuses an unknown rule
    tolerance = default_tolerance(H.dtype) if tolerance is None else tolerance
    check_tolerance(tolerance)
    return jnp.asarray(tolerance, H.dtype), limit


def _integer(passes: jax.Array | int) -> jax.Array | int:
    try:
        return index(passes)
    except (TypeError, jax.errors.TracerIntegerConversionError):
        if isinstance(passes, jax.Array) and passes.shape == () and jnp.issubdtype(passes.dtype, jnp.integer):
            return passes
        raise ValueError(f"passes = {passes!r} given; wanted is an integer, or None for no bound") from None


def one_pass_settles(band: int, limit: jax.Array | int) -> bool:
    """Whether one pass is the fixed point, and known to be allowed.

    Args:
        band: number of subdiagonals.
        limit: of the passes, an int or traced.

    Returns:
        True on a chain, unless there is to be no pass, or the limit is traced.
    """
    return band == 1 and isinstance(limit, int) and limit > 0


def check_tolerance(tolerance: jax.Array | float) -> None:
    """Refuse what is no tolerance.

    Args:
        tolerance: a scalar.

    Raises:
        ValueError: if it is negative or NaN; a traced one has no value yet, and passes.
    """
    try:
        value = float(tolerance)
    except jax.errors.ConcretizationTypeError:  # traced
        return
    if not value >= 0:
        raise ValueError(f"tolerance {value} given; it must be zero or positive")
