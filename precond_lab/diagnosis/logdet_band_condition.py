r"""Condition numbers of the LogDet projection onto a band, by differentiation.

Column j of L, and s_j, depend on the entries of H between the vertices j, ..., j+b alone, and X_{i+k,i} is a sum over
the columns i+k-b, ..., i of the products L_{i+k,j} L_ij / s_j. So the derivatives of X by H are put together from those
of n small functions, which JAX takes in float64; an entry of X has them in a window of 2b + 1 vertices.

With the correlation matrix C of a window (a vertex with its later neighbors), scaled to a unit diagonal, let lambda be
the smallest eigenvalue of any C. To first order, relative changes of all stored entries by at most eps change

- s_j by at most eps (b + 1) / lambda, relative to s_j;
- X_ij by at most eps ((b + 1)^2 + b^2) / lambda, relative to sqrt(X_ii X_jj).

For the first, ds_j = v^T dH v with v = (1, -psi_j), and v^T H v = s_j: in the scaled window ds_j / eps is at most
||v||_1^2 <= (b + 1) ||v||_2^2 <= (b + 1) s_j / lambda. For the second, X is the sum of the inverses P of the windows
less those of the same windows without their first vertex, so that dX is a sum of terms P dH P, of which at most
b + 1 and b touch an entry. Scaled, |P dH P|_ij <= eps ||P_i||_1 ||P_j||_1 <= eps m sqrt(P_ii P_jj) / lambda in a window
of m vertices, and P_ii <= X_ii. Relative to |X_ij| itself there is no such bound once b > 1: an X_ij may vanish where
H_ij does not.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from precond_lab.preconditioners.logdet.projection import regress

NUMBERS = 2**21  # derivatives that are held at once


class BandCondition(NamedTuple):
    """Condition numbers of a projection onto a band, infinite where there is none.

    The first three are componentwise, lim sup { |dx| / (eps |x|) : |dH_kl| <= eps |H_kl| }, 0 for an x that is zero
    and stays it.

    Attributes:
        off_diagonal: largest over the entries of X, for perturbed off-diagonal entries of H.
        all_entries: largest over the entries of X, for perturbed entries of any kind; infinite where an entry of X is
            zero by cancellation.
        schur: largest over the Schur complements s, for perturbed entries of any kind.
        scaled: largest |dX_ij| / (eps sqrt(X_ii X_jj)), for perturbed entries of any kind: at most all_entries, and
            finite wherever there is a projection.
        smallest_pivot: smallest s_i / H_ii; not positive, or NaN, where no projection exists. It depends on the order
            of the vertices once b > 1.
        smallest_eigenvalue: that of the correlation matrices of all windows, ``lambda`` above; NaN where no projection
            exists.
        worst_entry: row and column of X where all_entries is attained; where no projection exists, twice the vertex
            with the smallest pivot.
        entries: the componentwise condition number of every entry of X for perturbed entries of any kind,
            ``[b+1, n]``, zero past the end.
        entries_off_diagonal: the same for perturbed off-diagonal entries.
    """

    off_diagonal: float
    all_entries: float
    schur: float
    scaled: float
    smallest_pivot: float
    smallest_eigenvalue: float
    worst_entry: tuple[int, int]
    entries: np.ndarray
    entries_off_diagonal: np.ndarray


def band_condition(H: ArrayLike, kept: ArrayLike | None = None) -> BandCondition:
    """Condition numbers of the LogDet projection of an H of any band.

    On a chain they are the closed forms of :func:`~precond_lab.diagnosis.logdet_condition.projection_condition`, which
    are cheaper and do not cancel.

    Args:
        H: ``[b+1, n]``, floats; converted to float64.
        kept: bool ``[b, n]``, the edges of the reduced graph; None for all. The later neighbors of every vertex must
            be linked with each other.

    Returns:
        The condition numbers, with a relative error of about themselves times 2^-53. Cost: O(n b^5) flops, in
        stretches, so that storage beyond H and the result is bounded.

    Raises:
        ValueError: for a shape other than ``[b+1, n]``, or a mask that does not fit.

    Example:
        >>> condition = band_condition([[4.0, 5.0, 3.0], [2.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        >>> round(condition.all_entries, 6), condition.worst_entry, round(condition.smallest_pivot, 6)
        (6.581395, (2, 1), 0.767857)
    """
    H, kept = _checked(H, kept)
    band, n = H.shape[0] - 1, H.shape[1]
    parts = zip(*map(_preconditioner, _stretches(H, kept, np.zeros(n))), strict=True)
    values, off_diagonal, all_entries = (np.concatenate(part, axis=-1) for part in parts)
    X, s = values[:-1], values[-1]
    with np.errstate(all="ignore"):
        pivot = s / H[0]
    worst = int(np.argmin(np.where(np.isnan(pivot), -np.inf, pivot)))
    if not (np.all(s > 0) and np.all(H[0] > 0) and np.all(np.isfinite(values))):
        nowhere, inf = np.full(H.shape, np.inf), np.inf
        return BandCondition(inf, inf, inf, inf, float(pivot[worst]), np.nan, (worst, worst), nowhere, nowhere)
    entries, entries_off_diagonal = (_ratios(change[:-1], X) for change in (all_entries, off_diagonal))
    k, i = np.unravel_index(int(np.argmax(entries)), entries.shape)
    diagonal = np.concatenate([X[0], np.ones(band)])
    size = np.sqrt(X[0]) * np.sqrt(np.stack([diagonal[k : k + n] for k in range(band + 1)]))
    return BandCondition(
        off_diagonal=float(entries_off_diagonal.max()),
        all_entries=float(entries[k, i]),
        schur=float(_ratios(all_entries[-1], s).max()),
        scaled=float((all_entries[:-1] / size).max()),
        smallest_pivot=float(pivot[worst]),
        smallest_eigenvalue=_smallest_eigenvalue(H, kept),
        worst_entry=(int(i + k), int(i)),
        entries=entries,
        entries_off_diagonal=entries_off_diagonal,
    )


def band_direction_condition(H: ArrayLike, g: ArrayLike, kept: ArrayLike | None = None) -> float:
    """Condition number of the direction u = X g on any band, for relative changes of every entry of H and of g.

    What :func:`~precond_lab.diagnosis.logdet_condition.direction_condition` is on a chain, by differentiation.

    Args:
        H: ``[b+1, n]``, floats; converted to float64.
        g: ``[n]``.
        kept: bool ``[b, n]``, the edges of the reduced graph; None for all.

    Returns:
        || |J| |(H, g)| ||_2 / || u ||_2; infinite where no projection exists, or u is zero. Cost: O(n b^3) flops.

    Raises:
        ValueError: for shapes other than these.

    Example:
        >>> band_direction_condition([[2.0, 4.0]], [1.0, -1.0])
        2.0
    """
    H, kept = _checked(H, kept)
    g = np.asarray(g, np.float64)
    if g.shape != H.shape[1:]:
        raise ValueError(f"g of shape {g.shape} given; H of shape {H.shape} needs shape {H.shape[1:]}")
    parts = zip(*map(_direction, _stretches(H, kept, g)), strict=True)
    u, s, change = (np.concatenate(part) for part in parts)
    with np.errstate(all="ignore"):
        condition = np.linalg.norm(change) / np.linalg.norm(u)
    exists = np.all(s > 0) and np.all(H[0] > 0) and np.isfinite(condition)
    return float(condition) if exists else np.inf


# Columns


class _Places(NamedTuple):
    """Where the entries of a window of b + 1 vertices are: the q-th of its k-th diagonal, packed row by row."""

    k: np.ndarray
    q: np.ndarray


def _places(band: int) -> _Places:
    return _Places(*np.array([(k, q) for k in range(band + 1) for q in range(band + 1 - k)]).T)


def _unpacked(h: jax.Array, band: int) -> jax.Array:
    ends = np.cumsum([band + 1 - k for k in range(band + 1)])[:-1].tolist()
    rows = jnp.split(h, ends)
    return jnp.stack([jnp.concatenate([row, jnp.zeros(k, h.dtype)]) for k, row in enumerate(rows)])


def _column(h: jax.Array, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Column j of L with its unit, and s_j, from the entries of the window j, ..., j+b."""
    psi, s = regress(_unpacked(h, len(kept)), kept[:, None])
    return jnp.concatenate([jnp.ones(1, h.dtype), -psi[:, 0]]), s[0]


@jax.jit
@partial(jax.vmap, in_axes=-1, out_axes=-1)
def _of_preconditioner(h: jax.Array, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What column j adds to the entries of X, packed, and s_j after them; with their derivatives."""

    def terms(h: jax.Array) -> tuple[jax.Array, jax.Array]:
        L, s = _column(h, kept)
        k, q = _places(len(kept))
        values = jnp.append(L[k + q] * L[q] / s, s)
        return values, values

    derivatives, values = jax.jacfwd(terms, has_aux=True)(h)
    return values, derivatives


@jax.jit
@partial(jax.vmap, in_axes=-1, out_axes=-1)
def _of_direction(h: jax.Array, kept: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What column j adds to u, and s_j after it; with their derivatives by the window of H and that of g."""

    def terms(h: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        L, s = _column(h, kept)
        values = jnp.append(L * (jnp.sum(L * g) / s), s)
        return values, values

    (by_h, by_g), values = jax.jacfwd(terms, (0, 1), has_aux=True)(h, g)
    return values, by_h, by_g


class _Stretch(NamedTuple):
    """A stretch of vertices with b more on either side, which are alone where the chain has none.

    Attributes:
        H: ``[b+1, size+2b]``.
        kept: ``[b, size+b]``, of the b vertices before the stretch and of the stretch.
        g: ``[size+2b]``, zeros where no direction is asked for.
        length: number of vertices of the chain in it, counted from its first.
    """

    H: np.ndarray
    kept: np.ndarray
    g: np.ndarray
    length: int

    def windows(self) -> list[np.ndarray]:
        """The packed windows of H of its columns, those of the mask, and those of g."""
        (k, q), m = _places(len(self.kept)), self.kept.shape[1]
        of_g = np.lib.stride_tricks.sliding_window_view(self.g, len(self.H)).T
        return [self.H[k[:, None], q[:, None] + np.arange(m)], self.kept, of_g]


def _stretches(H: np.ndarray, kept: np.ndarray, g: np.ndarray) -> Iterator[_Stretch]:
    """The chain in stretches of one size."""
    band, n = H.shape[0] - 1, H.shape[1]
    fitting = max(1, NUMBERS // len(_places(band).k) ** 2)
    size = min(1 << fitting.bit_length() - 1, max(16, 1 << (n - 1).bit_length()))  # few shapes: each is compiled
    after = -n % size + band
    H, kept = np.pad(H, ((0, 0), (band, after))), np.pad(kept, ((0, 0), (band, after)))
    H[0, :band] = H[0, band + n :] = 1
    g = np.pad(g, (band, after))
    for start in range(0, n, size):
        whole, columns = slice(start, start + size + 2 * band), slice(start, start + size + band)
        yield _Stretch(H[:, whole], kept[:, columns], g[whole], min(size, n - start))


def _preconditioner(stretch: _Stretch) -> tuple[np.ndarray, ...]:
    """Column i of X and s_i, with how far relative changes of the off-diagonal and of all entries of H move them."""
    with jax.enable_x64(True):
        values, derivatives = map(np.asarray, _of_preconditioner(*stretch.windows()[:2]))
    band, size = len(stretch.kept), stretch.kept.shape[1] - len(stretch.kept)
    (k, q), place = _places(band), {pair: o for o, pair in enumerate(zip(*_places(band), strict=True))}
    found = np.zeros((3, band + 2, size))
    for row in range(band + 1):
        total = np.zeros((band + 1, 2 * band + 1, size))
        for m in range(band - row + 1):  # column i - m holds L_{i+row,i-m} and L_{i,i-m}
            columns = slice(band - m, band - m + size)
            found[0, row] += values[place[row, m], columns]
            total[k, q + band - m] += derivatives[place[row, m], :, columns]
        found[1:, row] = _sums(total, stretch.H)
    total = np.zeros((band + 1, 2 * band + 1, size))
    total[k, q + band] = derivatives[-1, :, band:]
    found[0, -1], found[1:, -1] = values[-1, band:], _sums(total, stretch.H)
    return tuple(found[..., : stretch.length])


def _direction(stretch: _Stretch) -> tuple[np.ndarray, ...]:
    """The direction u and s, with how far relative changes of the entries of H and of g move u."""
    with jax.enable_x64(True):
        values, by_H, by_g = map(np.asarray, _of_direction(*stretch.windows()))
    band, size = len(stretch.kept), stretch.kept.shape[1] - len(stretch.kept)
    k, q = _places(band)
    u, total, of_g = np.zeros(size), np.zeros((band + 1, 2 * band + 1, size)), np.zeros((1, 2 * band + 1, size))
    for m in range(band + 1):
        columns = slice(band - m, band - m + size)
        u += values[m, columns]
        total[k, q + band - m] += by_H[m, :, columns]
        of_g[0, band - m : 2 * band - m + 1] += by_g[m, :, columns]
    change = _sums(total, stretch.H)[1] + _sums(of_g, stretch.g[None])[1]
    return tuple(x[: stretch.length] for x in (u, values[-1, band:], change))


def _sums(derivatives: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of |derivative| |entry| over the window of every vertex: without the main diagonal, and with it."""
    entries = np.lib.stride_tricks.sliding_window_view(np.abs(H), derivatives.shape[1], axis=1).transpose(0, 2, 1)
    rows = np.einsum("kdi,kdi->ki", np.abs(derivatives), entries)
    return rows[1:].sum(0), rows.sum(0)


def _smallest_eigenvalue(H: np.ndarray, kept: np.ndarray) -> float:
    """That of the correlation matrices of all vertices with their later neighbors."""
    band, n = H.shape[0] - 1, H.shape[1]
    scale = 1 / np.sqrt(np.pad(H[0], (0, band), constant_values=1))
    H = np.pad(H, ((0, 0), (0, band)))
    here = np.concatenate([np.ones((1, n), bool), kept])
    least, step = np.inf, max(1, NUMBERS // (band + 1) ** 2)
    for start in range(0, n, step):
        m = min(step, n - start)
        C = np.zeros((m, band + 1, band + 1))
        for p in range(band + 1):
            C[:, p, p] = 1
            for q in range(p):
                row, column = slice(start + p, start + p + m), slice(start + q, start + q + m)
                entry = H[p - q, column] * scale[row] * scale[column]
                C[:, p, q] = np.where((here[p] & here[q])[start : start + m], entry, 0)
        least = min(least, float(np.linalg.eigvalsh(C).min()))  # of the lower triangles
    return least


def _ratios(change: np.ndarray, value: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(change == 0, 0.0, change / np.abs(value))


def _checked(H: ArrayLike, kept: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """H in float64 with zeros for the edges that are not in the graph, and the mask of those that are."""
    H = np.asarray(H).astype(np.float64)
    if H.ndim != 2 or 0 in H.shape:
        raise ValueError(f"a band of shape {H.shape} given; wanted is [b+1, n], row k holding H[i+k, i]: b+1 rows")
    inside = np.arange(H.shape[1]) + np.arange(1, H.shape[0])[:, None] < H.shape[1]
    if kept is not None:
        kept = np.asarray(kept, bool)
        if kept.shape != inside.shape:
            raise ValueError(f"kept has shape {kept.shape}; H needs a mask of shape {inside.shape}")
        inside &= kept
    return np.concatenate([H[:1], np.where(inside, H[1:], 0.0)]), inside
