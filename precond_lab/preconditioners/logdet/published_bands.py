r"""What SONew's published code does where a band of more than a chain breaks down.

Written anew from the formulas, as told in :mod:`~precond_lab.preconditioners.logdet.published`, where the sources are.
The published windows are made of float32 zeros, so that this code never runs in bfloat16 throughout; their rows are
divided by the diagonal before the elimination; and past the end of the chain they have the damping on their diagonal.
Here the dtype is that of H, the elimination goes in the order of :func:`project`, and past the end there is a one.
Exact arithmetic sees none of these differences.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.preconditioners.logdet.band import check_banded, check_mask, cut, edges_between_cuts, within
from precond_lab.preconditioners.logdet.projection import (
    Factor,
    eliminate,
    factor_of,
    schur_complements,
    substitute_back,
    windows_of,
    with_following,
)

Root = Literal["published", "nearest"]


def masked(H: jax.Array, kept: jax.Array) -> Factor:
    """The projection of H with entries of L struck out, not solved again.

    Order: psi as in :func:`project` for the whole band; psi = 0 where an edge is not kept; s = H_jj - psi_1 H_{j+1,j} -
    psi_2 H_{j+2,j} - ... from left to right; D = 1 / s.

    Defect. What is left of psi still regresses on the neighbors that are struck out: for b of 2 and more X is not the
    projection on the reduced graph, and s need not be positive. (For a chain there is nothing left, and it is.)

    Source: ``bandedInv``, October 2022.

    Args:
        H: ``[b+1, n]``.
        kept: bool ``[b, n]``.

    Returns:
        Factor of L ``[b, n]`` and D ``[n]``.

    Raises:
        ValueError: for a shape other than ``[b+1, n]``, or a mask that does not fit.

    Example:
        >>> H = jnp.array([[4.0, 5.0, 3.0], [2.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        >>> alone = jnp.array([[True, False, False], [False, False, False]])  # vertex 3 dropped: psi should be 2/5
        >>> round(float(-masked(H, alone).L[0, 0]) * 14, 5)
        5.0
    """
    H = check_banded(H)
    kept = check_mask(H, kept)
    psi, _ = schur_complements(H)
    return factor_of(*_struck(H, psi, kept))


def masked_loop(H: jax.Array, tolerance: jax.Array | float, *, passes: int | None = None) -> tuple[Factor, jax.Array]:
    """The bands of October 2022: :func:`masked` for every vertex that fails, until none fails.

    Order: the elimination of :func:`project`, a pivot of zero being replaced by tolerance H_kk; s as in :func:`masked`.
    While some s_j <= tolerance H_jj, the edges that touch such a vertex or lead across it (the rule ``literal``) are
    struck out too, and s is formed again from what is left of psi.

    Defects. That of :func:`masked`; a NaN does not fail; and the published loop has no bound: s = H_jj = 0, a dead
    parameter without damping, fails for ever. Here it ends after n passes.

    Source: ``bandedInv``, 19 October 2022, tolerance 1e-7 for float32 and 0.0078 for bfloat16. A single pass
    (``passes=1``) stands beside it in the file.

    Args:
        H: ``[b+1, n]``.
        tolerance: relative to H_jj.
        passes: at most so many; None for n.

    Returns:
        The factor, and the edges that it keeps, bool ``[b, n]``.

    Raises:
        ValueError: for an H without subdiagonals.

    Example:
        >>> factor, kept = masked_loop(jnp.ones((3, 4)), 2**-7)
        >>> kept.any().item(), factor.D.tolist()
        (False, [1.0, 1.0, 1.0, 1.0])
    """
    H = _band(H)
    band, n = H.shape[0] - 1, H.shape[1]
    whole = within(n, band)
    M, d, z = _eliminate(H, partial(_without_zero, tolerance))
    psi, s = _struck(H, _back_substitute(M, d, z), whole)

    def fails(s: jax.Array) -> jax.Array:
        return s <= tolerance * H[0]

    def goes_on(state: tuple) -> jax.Array:
        _, s, _, done = state
        return jnp.any(fails(s)) & (done < (n if passes is None else passes))

    def strike(state: tuple) -> tuple:
        psi, s, kept, done = state
        kept &= edges_between_cuts(fails(s), band, "literal")
        return *_struck(H, psi, kept), kept, done + 1

    psi, s, kept, _ = lax.while_loop(goes_on, strike, (psi, s, whole, jnp.int32(0)))
    return factor_of(psi, s), kept


def clamped(H: jax.Array, epsilon: jax.Array | float) -> tuple[Factor, jax.Array]:
    """The bands of January 2023: s is lifted to 2 epsilon H_jj, and no edge goes.

    Order: the elimination of :func:`project`, a pivot of zero being replaced by epsilon H_kk; s = H_jj - psi_1
    H_{j+1,j} - ... from left to right; s = 2 epsilon H_jj where it is less; D = 1 / s, or 0 where s is 0.

    Defects. X is the projection of another H: lifting s_j moves the entries of X^{-1} at j and at the vertices before
    it, whose regressions were not formed anew; along a chain the lifts add up. Every lifted vertex has D_jj H_jj = 1 /
    (2 epsilon): the noisiest directions get the longest steps. A NaN is not less than anything and stays.

    Source: ``tridiagonal_quic_shared.py``, January 2023, epsilon the spacing of the format at one.

    Args:
        H: ``[b+1, n]``.
        epsilon: relative to H_jj.

    Returns:
        The factor, and the edges that it keeps: all, bool ``[b, n]``.

    Raises:
        ValueError: for an H without subdiagonals.

    Example:
        >>> factor, _ = clamped(jnp.ones((2, 3)), 0.25)
        >>> factor.L.tolist(), factor.D.tolist()
        ([[-1.0, -1.0, -0.0]], [2.0, 2.0, 1.0])
    """
    H = _band(H)
    M, d, z = _eliminate(H, partial(_without_zero, epsilon))
    return _lifted(H, _back_substitute(M, d, z), epsilon)


def clamped_right_side(H: jax.Array, epsilon: jax.Array | float) -> tuple[Factor, jax.Array]:
    """The band of three of January 2023: :func:`clamped`, with the right-hand side clamped too.

    Order: the elimination of :func:`project`, but a pivot under epsilon times what it was before the last step is
    replaced by that, and so is each entry of the right-hand side H_Ij in the first step; the rest as :func:`clamped`.

    Defect. A correlation is negative as often as positive, and a negative one that the first step leaves negative is
    less than epsilon times itself: it is replaced by nearly nothing. For a window without other entries, H_{j+2,j} =
    -H_jj / 2 gets psi = -epsilon / 2, where the projection has -1/2.

    Source: ``bandedInv3`` of ``tridiagonal_quic_shared_2.py``, January 2023.

    Args:
        H: ``[4, n]``.
        epsilon: relative, the spacing of the format at one.

    Returns:
        The factor, and the edges that it keeps: all, bool ``[3, n]``.

    Raises:
        ValueError: for a shape other than ``[4, n]``.

    Example:
        >>> H = jnp.array([[1.0] * 4, [0.0] * 4, [-0.5, 0.0, 0.0, 0.0], [0.0] * 4])
        >>> clamped_right_side(H, 2**-4)[0].L[1, 0].item()  # the projection has 1/2
        0.03125
    """
    H = check_banded(H)
    if H.shape[0] != 4:
        raise ValueError(f"H of shape {H.shape} given; this code is for three subdiagonals, [4, n]")

    def least(value: jax.Array, before: jax.Array) -> jax.Array:
        return jnp.where(value < epsilon * before, epsilon * before, value)

    M, d, z = _eliminate(H, lambda pivot, _, before: least(pivot, before), least)
    return _lifted(H, _back_substitute(M, d, z), epsilon)


def reweighted(H: jax.Array, epsilon: jax.Array | float, *, root: Root = "published") -> tuple[Factor, jax.Array]:
    r"""The bands of February 2023: where s <= 0 the farthest statistic is changed so that s becomes epsilon H_jj.

    With e = H_Ij, A = H_II, y = A^{-1} (0, ..., 0, 1) and t in place of the last entry e_b, s is a parabola in t.
    Order: psi and s as in :func:`clamped`, not lifted; a = y_b; B = 2 (y_1 e_1 + ... + y_{b-1} e_{b-1}); C = ((H_jj -
    (B e_b + a (e_b e_b))) - s) - (1 - epsilon) H_jj; R = sqrt(B B - 4 (a C)); t = (-B + R) / (2 a) or (-B - R) / (2 a);
    psi is solved again for t; s = epsilon H_jj; D = 1 / s.

    Defects. With M diag(d) M^T = A the roots are

        t = r +- sqrt(d_b (s' - epsilon H_jj)),    r = M_b1 z_1 + ... + M_{b,b-1} z_{b-1},

    s' being the Schur complement in the band b - 1, which does not look at the farthest statistic. So there is no real
    root, and psi is NaN, just where s' < epsilon H_jj (d_b > 0): where the nearer neighbors alone are singular, no
    weight of the farthest can help. Two identical adjacent histories (b >= 2), any statistics of rank below b, the last
    b - 1 vertices of any chain where they fail: all of these are such. In rounded arithmetic B B - 4 a C cancels, and
    its sign is noise where A is singular too.

    The root nearer to e_b is the upper one if e_b >= r = -B / (2a); the published code takes that of +R if e_b >= -B,
    which compares an entry of H with a ratio of two of them: it takes the farther root in part of the cases, and
    another one if H is scaled. With the root repaired (``nearest``) the rest stays: s is at the edge of singular by
    construction, D_jj H_jj = 1 / epsilon.

    Source: ``new_genp`` of init2winit's ``bandeddiag_optimizers.py`` (23 February 2023 in the authors' code).

    Args:
        H: ``[b+1, n]``, b at least 1.
        epsilon: relative to H_jj; published is the spacing of float32 at one.
        root: "published", or "nearest" for the root that changes H least.

    Returns:
        The factor, and the edges whose statistics it took as they are, bool ``[b, n]``.

    Raises:
        ValueError: for an unknown root, or an H without subdiagonals.

    Example:
        >>> twins = jnp.array([[4.0, 4.0, 2.0], [4.0, 2.0, 0.0], [2.0, 0.0, 0.0]])  # vertices 1 and 2 are one
        >>> reweighted(twins, 2**-7)[0].L[:, 0].tolist()
        [nan, nan]
    """
    H = _band(H)
    if root not in {"published", "nearest"}:
        raise ValueError(f"unknown root {root!r}; use 'published' or 'nearest'")
    band = H.shape[0] - 1
    whole = within(H.shape[1], band)
    H = cut(H, whole)
    M, d, z = _eliminate(H, partial(_without_zero, epsilon))
    psi, s = _struck(H, _back_substitute(M, d, z), whole)
    y = _back_substitute(M, d, [jnp.zeros_like(d[0])] * (band - 1) + [jnp.ones_like(d[0])])
    a, far = y[-1], H[band]
    half = jnp.zeros_like(far)
    for k in range(band - 1):
        half = half + y[k] * H[k + 1]
    B = 2 * half
    C = (H[0] - (B * far + a * (far * far)) - s) - (1 - epsilon) * H[0]
    R = jnp.sqrt(B * B - 4 * (a * C))
    upper = far >= -B if root == "published" else (far >= -B / (2 * a)) == (a > 0)
    t = (-B + jnp.where(upper, R, -R)) / (2 * a)
    fails = s <= 0
    again = _back_substitute(M, d, [*z[:-1], z[-1] + (t - far)])
    kept = jnp.concatenate([whole[:-1], whole[-1:] & ~fails])
    return factor_of(jnp.where(fails, again, psi), jnp.where(fails, epsilon * H[0], s)), kept


# What the above share


class _Elimination(NamedTuple):
    """H_II = M diag(d) M^T for the windows of all vertices at once, and z = M^{-1} H_Ij; every entry is ``[n]``."""

    M: list[dict[int, jax.Array]]
    d: list[jax.Array]
    z: list[jax.Array]


Repair = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def _eliminate(
    H: jax.Array, repair: Repair, repair_right_side: Callable[[jax.Array, jax.Array], jax.Array] | None = None
) -> _Elimination:
    """The elimination of :func:`project` with repairs.

    That of a pivot is given H_kk and the pivot before the last step; that of an entry of the right-hand side, in the
    first step alone, the entry before.
    """
    band, n = H.shape[0] - 1, H.shape[1]
    A, z = windows_of(with_following(cut(H, within(n, band))), n)
    diagonal = before = [A[k][k] for k in range(band)]
    M = []
    for k in range(band):
        A[k][k] = repair(A[k][k], diagonal[k], before[k])
        before, right_side = [A[m][m] for m in range(band)], list(z)
        M.append(eliminate(A, z, k))
        if k == 0 and repair_right_side:
            z[1:] = map(repair_right_side, z[1:], right_side[1:])
    return _Elimination(M, [A[k][k] for k in range(band)], z)


def _without_zero(epsilon: jax.Array | float, pivot: jax.Array, diagonal: jax.Array, _: jax.Array) -> jax.Array:
    return jnp.where(pivot == 0, epsilon * diagonal, pivot)


def _back_substitute(M: list[dict[int, jax.Array]], d: list[jax.Array], z: list[jax.Array]) -> jax.Array:
    """M^{-T} (z / d), as ``[b, n]``."""
    x = [zk / dk for zk, dk in zip(z, d, strict=True)]
    substitute_back(M, x)
    return jnp.stack(x)


def _struck(H: jax.Array, psi: jax.Array, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is left of psi, and the s = H_jj - psi^T H_Ij that goes with it."""
    psi = jnp.where(kept, psi, jnp.zeros_like(psi))
    s = H[0]
    for k in range(H.shape[0] - 1):
        s = s - psi[k] * jnp.where(kept[k], H[k + 1], jnp.zeros_like(H[k + 1]))
    return psi, s


def _lifted(H: jax.Array, psi: jax.Array, epsilon: jax.Array | float) -> tuple[Factor, jax.Array]:
    whole = within(H.shape[1], H.shape[0] - 1)
    psi, s = _struck(H, psi, whole)
    least = 2 * epsilon * H[0]
    s = jnp.where(s < least, least, s)
    return Factor(-psi, jnp.where(s == 0, jnp.zeros_like(s), 1 / s)), whole


def _band(H: jax.Array) -> jax.Array:
    H = check_banded(H)
    if H.shape[0] < 2:
        raise ValueError(f"H of shape {H.shape} given; without subdiagonals there is nothing to treat: give [b+1, n]")
    return H
