r"""Bounds of what errors of the parts do to (A + U V^T)^{-1} by the formula of Sherman, Morrison and Woodbury.

Let B approximate A^{-1} with |B - A^{-1}| <= e1, and let Z~ approximate (I + V^T B U)^{-1} with an error of at most e2;
lambda = |U| |V|, Z = (I + V^T A^{-1} U)^{-1}, alpha = |Z|, a = |A^{-1}|, all in the 2-norm.

**Theorem** (Ma, Boutsikas, Ghadiri and Drineas, arXiv 2504.04554, theorem 2). If e1 lambda alpha <= 1/2, then
X = B - B U Z~ V^T B, without roundings of its own, has

    |X - (A + U V^T)^{-1}| <= e1 + e1 lambda alpha (2 a + e1) + lambda (a + e1)^2 (e2 + 2 e1 lambda alpha^2).

**Proof.** The difference is (B - A^{-1}) + (A^{-1} - B) U Z V^T A^{-1} + B U Z V^T (A^{-1} - B) + B U (Z - Z~) V^T B,
and |B| <= a + e1. With Z_B = (I + V^T B U)^{-1}, Z - Z_B = Z V^T (B - A^{-1}) U Z_B, whence |Z_B| <= alpha / (1 - h)
and |Z - Z~| <= e2 + e1 lambda alpha^2 / (1 - h), h = e1 lambda alpha. That is the sharper form, for h < 1; with
h <= 1/2 it is at most e2 + 2 e1 lambda alpha^2. Where e2 is an error of Z~ against Z itself, e1 lambda alpha^2 vanishes
and with it the hypothesis.

**Corollary.** Let lambda a <= 1/2. Then alpha <= 1 / (1 - lambda a) <= 2 and lambda alpha a <= 1. For e1 <= a / 2 the
hypothesis holds, and the terms are at most e1, 5/2 e1, 9/8 a e2 and 9/2 e1: the bound is at most 8 e1 + 9/8 a e2. The
paper's 12 e1 + 2 a e2 is what e1 <= a gives, where the hypothesis need not hold.

**Capacitance** (Yip, "A note on the stability of solving a rank-p modification of a linear system by the
Sherman-Morrison-Woodbury formula", 1986). Let M = A + U V^T, K = I + V^T A^{-1} U and U of full column rank. From
M A^{-1} U = U K follow K = U^+ M A^{-1} U and K^{-1} = U^+ A M^{-1} U, so that |K| <= kappa(U) |M| |A^{-1}| and
|K^{-1}| <= kappa(U) |A| |M^{-1}|; from V^T A^{-1} M = K V^T the same with kappa(V). For vectors kappa(U) is 1.

**Eva.** P = (G - c b a^T) / gamma with x = b^T G a, sigma = |a|^2 |b|^2 and c = x / (gamma + sigma) has b^T P a =
x / (gamma + sigma), a difference of x and c sigma. Of gamma P_ij = G_ij - b_i a_j (sum over k and l of b_k G_kl a_l) /
(gamma + sigma) let G_ij pass two roundings, those of the difference and of the quotient, and every other term at most
k. A product of k factors 1 + delta or 1 / (1 + delta), |delta| <= u, is within g_k = (1 - u)^{-k} - 1 of one. With
X = |b|^T |G| |a|, the error of gamma P_ij is at most g_2 |G_ij| + g_k |b_i| |a_j| X / (gamma + sigma). So

    |b^T P^ a - b^T P a| / |b^T P a| <= mu (g_2 (1 + sigma / gamma) + g_k sigma / gamma).

mu = X / |x| >= 1 is the condition of x: 1 for G = b a^T, and without it u (1 + sigma / gamma) is no bound. Below one,
the curved component has the right sign. And <G, P^> > 0 if g_2 |G|_F^2 + g_k X^2 / (gamma + sigma) < gamma <G, P>,
where gamma <G, P> = |G|_F^2 - x^2 / (gamma + sigma).

**Underflow.** Let t bound the error of an operation whose result is below the smallest normal number, and w what all
the roundings after it can multiply it by. Of those in sigma, s = 2n t |b|^2 + 2m t |a|^2 + 4mn t^2 + 2t is a relative
error r of 1 / (gamma + sigma), which joins g_k. All others are absolute: 2n t in an entry of y = G a, so
2n t |b|_1 + 2m t in x, e = t + (2n t |b|_1 + 2m t) / (gamma + sigma) in c, and in gamma P_ij

    h_ij = w (e |b_i| |a_j| + t |a_j| + 2t + gamma t),

to which |b|^T h |a| belongs in the first inequality, and the sum of |G_ij| h_ij in the second. What underflows in a sum
that cancels is thereby counted in full.

**Overflow.** Nothing overflows if the sums of magnitudes of all intermediate results, with their errors, are at most
the largest number: no partial sum is larger, in whatever order.

**Arguments that are not numbers of the format** are rounded by some programs, and not by others. Ten roundings of
other terms cover both: those of b_i, a_j, b_k, G_kl and a_l, four in sigma, and that of gamma by which is divided; and
two of G_ij, its own and the latter.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.arithmetic.formats import Format, named
from precond_lab.diagnosis.certainty import certainty, settled
from precond_lab.diagnosis.rank_one_enclosures import absolute_error, exact_floats, positive_count, slack

_LARGEST = np.finfo(np.float64).max
_WIDE = 2.0**150  # numbers between this and its inverse have products of six, as needed here, in float64
_FLOOR = 2.0**-300  # of absolute errors, so that they too have
_OF_ARGUMENTS = (2, 10)  # roundings of G_ij, and of other terms


class WoodburyBound(NamedTuple):
    """The bound of the forward error of one step; arrays where the arguments were.

    Attributes:
        verdict: CERTIFIED where the hypothesis e1 lambda alpha <= 1/2 holds, else UNDECIDED.
        margin: 1 / (2 e1 lambda alpha).
        bound: of the paper, in the 2-norm; infinite where the hypothesis does not hold.
        sharper: with 1 / (1 - e1 lambda alpha) for 2; finite for e1 lambda alpha < 1.
        corollary: 8 e1 + 9/8 a e2 where lambda a <= 1/2 and e1 <= a / 2, else infinite.
        inverse: a = |A^{-1}|, as given.
        update: lambda, as given.
        capacitance_inverse: alpha, as given.
        of_inverse: e1, as given.
        of_capacitance: e2, as given.
    """

    verdict: Any
    margin: Any
    bound: Any
    sharper: Any
    corollary: Any
    inverse: ArrayLike
    update: ArrayLike
    capacitance_inverse: ArrayLike
    of_inverse: ArrayLike
    of_capacitance: ArrayLike


class EvaCertificate(NamedTuple):
    """Whether Eva's closed form keeps its direction under rounding.

    Attributes:
        verdict: CERTIFIED: <G, P^> > 0 and b^T P^ a has the right sign. UNDECIDED otherwise.
        margin: the smaller of 1 / `curved` and `descent_margin`; above one exactly where CERTIFIED.
        curved: bound of the relative error of b^T P a; infinite where a number may overflow.
        descent_margin: gamma <G, P> over the bound of its error; zero where a number may overflow.
        ratio: sigma / gamma.
        condition: mu = |b|^T |G| |a| / |b^T G a|.
        G: as given.
        a: as given.
        b: as given.
        damping: as given.
        format: of all operations.
        roundings: k, those of arguments included.
    """

    verdict: Any
    margin: float
    curved: float
    descent_margin: float
    ratio: float
    condition: float
    G: ArrayLike
    a: ArrayLike
    b: ArrayLike
    damping: float
    format: Format
    roundings: int


def woodbury_bound(
    inverse: ArrayLike,
    update: ArrayLike,
    capacitance_inverse: ArrayLike,
    of_inverse: ArrayLike,
    of_capacitance: ArrayLike,
) -> WoodburyBound:
    """Bound B5, of Ma, Boutsikas, Ghadiri and Drineas, for one step; see `woodbury_quantities`.

    Args:
        inverse: a = |A^{-1}|, or an upper bound as with all that follow.
        update: lambda = |U| |V|; alpha |v|^2 for the step C <- beta C + alpha v v^T, with A = beta C.
        capacitance_inverse: alpha = |(I + V^T A^{-1} U)^{-1}|; at most one for A positive definite and V = U.
        of_inverse: e1, the error of the approximate inverse.
        of_capacitance: e2, the error of the computed (I + V^T B U)^{-1}, B the approximate inverse.

    Returns:
        The bounds, every operation rounded up: also where products underflow.

    Raises:
        ValueError: if an argument is negative or NaN.

    Example:
        >>> result = woodbury_bound(1.0, 0.5, 1.0, 0.25, 0.0)
        >>> result.verdict.value, round(result.margin, 6), round(result.bound, 6), round(result.sharper, 6)
        ('certified', 4.0, 0.726563, 0.642857)
    """
    given = (inverse, update, capacitance_inverse, of_inverse, of_capacitance)
    a, size, alpha, e1, e2 = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in given))
    if not all((x >= 0).all() for x in (a, size, alpha, e1, e2)):
        raise ValueError("norms and errors must be numbers that are not negative")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        small = _product(e1, size, alpha)
        first = _sum(e1, _product(small, _sum(2 * a, e1)))
        near = _sum(a, e1)
        squared = _product(size, near, near)
        bound = _sum(first, _product(squared, _sum(e2, _product(2.0, small, alpha))))
        through = np.nextafter(_product(small, alpha) / np.where(small < 1, np.nextafter(1 - small, 0), 1.0), np.inf)
        sharper = _sum(first, _product(squared, _sum(e2, np.where(small > 0, through, 0.0))))
        close = (_product(size, a) <= 0.5) & (2 * e1 <= a)
        corollary = np.where(close, _sum(8 * e1, _product(1.125, a, e2)), np.inf)
        margin = np.where(small > 0, np.minimum(0.5 / small, _LARGEST), np.inf)
    holds = small <= 0.5
    bound = np.where(holds, bound, np.inf)
    sharper = np.where(small < 1, sharper, np.inf)
    margin, bound, sharper, corollary = (settled(x) for x in (margin, bound, sharper, corollary))
    return WoodburyBound(certainty(holds), margin, bound, sharper, corollary, *given)


def _product(*factors: ArrayLike) -> np.ndarray:
    """An upper bound of the product of numbers that are not negative; zero is exact, but for infinite others."""
    total = np.asarray(factors[0], dtype=np.float64)
    for factor in factors[1:]:
        both = (total != 0) & (np.asarray(factor) != 0)
        infinite = np.isinf(total) | np.isinf(factor)
        moved = np.nextafter(total * factor, np.inf)
        total = np.where(infinite, np.inf, np.where(both, moved, 0.0))
    return total


def _sum(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """An upper bound of the sum of two such numbers; a sum with zero is exact."""
    total = np.add(x, y)
    return np.where((np.asarray(x) == 0) | (np.asarray(y) == 0), total, np.nextafter(total, np.inf))


def woodbury_quantities(
    A_inverse: ArrayLike, B: ArrayLike, U: ArrayLike, V: ArrayLike, Z: ArrayLike
) -> tuple[Any, Any, Any, Any, Any]:
    """The arguments of `woodbury_bound`, in float64 without bounds of their own roundings.

    Args:
        A_inverse: A^{-1}, ``[..., n, n]``.
        B: the approximate inverse, ``[..., n, n]``.
        U: ``[..., n, k]``.
        V: ``[..., n, k]``.
        Z: the computed (I + V^T B U)^{-1}, ``[..., k, k]``.

    Returns:
        a, lambda, alpha, e1 and e2, ``[...]`` each.

    Example:
        >>> [round(float(x), 4) for x in woodbury_quantities([[1.0]], [[1.25]], [[0.5]], [[1.0]], [[0.625]])]
        [1.0, 0.5, 0.6667, 0.25, 0.0096]
    """
    A_inverse, B, U, V, Z = (np.asarray(x, dtype=np.float64) for x in (A_inverse, B, U, V, Z))

    def norm(M: np.ndarray) -> np.ndarray:
        return np.linalg.norm(M, 2, axis=(-2, -1))

    def inverse_of(M: np.ndarray) -> np.ndarray:
        return np.linalg.inv(np.eye(U.shape[-1]) + V.swapaxes(-1, -2) @ M @ U)

    exact, of_B = inverse_of(A_inverse), inverse_of(B)
    return norm(A_inverse), norm(U) * norm(V), norm(exact), norm(B - A_inverse), norm(Z - of_B)


def capacitance_bounds(
    A: ArrayLike, A_inverse: ArrayLike, updated: ArrayLike, updated_inverse: ArrayLike, kappa: ArrayLike = 1.0
) -> tuple[Any, Any]:
    """Bounds of the singular values of I + V^T A^{-1} U from norms alone, which a computed capacitance has to keep.

    They are bounds of the exact singular values if the norms are upper bounds: a norm computed in float64, without
    bounds of its own roundings, has to be enlarged first.

    Args:
        A: |A|, or an upper bound as with all that follow, ``[...]``.
        A_inverse: |A^{-1}|.
        updated: |A + U V^T|.
        updated_inverse: |(A + U V^T)^{-1}|.
        kappa: the smaller condition number of U and V; 1 for vectors.

    Returns:
        1 / (kappa |A| |(A + U V^T)^{-1}|), rounded down, and kappa |A + U V^T| |A^{-1}|, rounded up.

    Raises:
        ValueError: if a norm is not positive, kappa below one, or one of them NaN.

    Example:
        >>> [round(x, 12) for x in capacitance_bounds(2.0, 1.0, 4.0, 0.5)]
        [1.0, 4.0]
    """
    a, b, c, d, k = (np.asarray(x, dtype=np.float64) for x in (A, A_inverse, updated, updated_inverse, kappa))
    if not all((x > 0).all() for x in (a, b, c, d)) or not (k >= 1).all():
        raise ValueError("norms of invertible matrices must be positive numbers, and kappa at least one")
    with np.errstate(over="ignore", under="ignore"):
        low = np.nextafter(1 / _product(k, a, d), 0.0)
        return settled(low), settled(_product(k, c, b))


def eva_certificate(
    G: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    damping: float,
    format: str | Format,
    roundings: int | None = None,
) -> EvaCertificate:
    """Certificate B8: what rounding can do to Eva's (G - c b a^T) / gamma.

    Underflow is counted, and where a number may overflow nothing is certified. Rounding is to nearest. Arguments that
    are not numbers of the format may be rounded to it by the program, as `pl.emulate` does, or not: ten more roundings
    are counted, and the statement is of the arguments as given. Below the smallest normal number such an argument is
    not certified. What a format has of subnormal numbers below 2^-126 is taken to be flushed to zero, as processors do.

    Args:
        G: gradient, ``[m, n]``.
        a: ``[n]``.
        b: ``[m]``.
        damping: gamma, positive and finite.
        format: of the operations; a wider one of scalars, with no smaller range, only lowers k.
        roundings: k, of a factor or term of P_ij other than G_ij, which passes two; 2 (m + n) + 8 where None, all in
            `format`. 6 where x and sigma are exact and c is rounded once. Those of arguments come on top.

    Returns:
        The certificate.

    Raises:
        TypeError: if an argument is not of real floats of at most 64 bits, or `roundings` no integer.
        ValueError: if the shapes do not fit, damping is not positive and finite, `roundings` is below one, or the
            format lacks zero or a sign.

    Example:
        >>> certificate = eva_certificate([[1.0]], [1.0], [2.0], 1.0, "float16", roundings=6)
        >>> certificate.verdict.value, certificate.ratio, round(certificate.margin, 1)
        ('certified', 4.0, 60.1)
    """
    record = named(format)
    if not (record.signed and record.zero):
        raise ValueError(f"{record} lacks zero or a sign, which differences need; give one with both")
    G_, a_, b_, gamma = _eva_arguments(G, a, b, damping)
    m, n = G_.shape
    steps = 2 * (m + n) + 8
    k = steps if roundings is None else positive_count(roundings, "roundings")
    inside, exact = _in_range((G_, a_, b_, np.asarray(gamma)), record)
    first = min(k, 2)
    if not exact:
        first, k = first + _OF_ARGUMENTS[0], k + _OF_ARGUMENTS[1]
    with np.errstate(all="ignore"):
        sigma = float(a_ @ a_) * float(b_ @ b_)
        found = _eva_bounds(G_, a_, b_, gamma, record, (first, k, max(steps, k))) if inside else None
        mu, curved, descent = found or (np.inf, np.inf, 0.0)
        ratio = sigma / gamma
    margin = min(1 / curved, descent)
    return EvaCertificate(certainty(margin > 1), margin, curved, descent, ratio, mu, G, a, b, damping, record, k)


def _eva_arguments(
    G: ArrayLike, a: ArrayLike, b: ArrayLike, damping: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    G_, a_, b_ = exact_floats(G, "G"), exact_floats(a, "a"), exact_floats(b, "b")
    if G_.ndim != 2 or not G_.size or a_.shape != G_.shape[1:] or b_.shape != G_.shape[:1]:
        raise ValueError(f"shapes {G_.shape}, {a_.shape} and {b_.shape} given; wanted [m, n], [n] and [m], none empty")
    gamma = exact_floats(damping, "damping")
    if gamma.ndim or not 0 < gamma < np.inf:
        raise ValueError(f"damping = {damping} given; give one positive and finite number: it is divided by")
    return G_, a_, b_, float(gamma)


def _in_range(arguments: tuple[np.ndarray, ...], format: Format) -> tuple[bool, bool]:
    """Whether arguments are, or become by roundings without underflow and overflow, numbers; and whether they are."""
    sizes = np.concatenate([np.abs(x).ravel() for x in arguments])
    sizes = sizes[sizes != 0]
    least = np.full_like(sizes, format.min_normal)
    if not (sizes <= min(format.max, _WIDE)).all() or not (sizes >= 1 / _WIDE).all():
        return False, False
    spacing = np.maximum(np.frexp(sizes)[1] - 1, format.min_exponent) - format.precision + 1
    quotients = np.ldexp(sizes, -spacing)
    members = quotients == np.floor(quotients)
    if absolute_error(format) < format.min_normal:
        least[members] = 0
    return bool((sizes >= least).all()), bool(members.all())


def _eva_bounds(
    G: np.ndarray, a: np.ndarray, b: np.ndarray, gamma: float, format: Format, roundings: tuple[int, int, int]
) -> tuple[float, float, float] | None:
    """mu, the bound of the relative error along b a^T, and the margin of descent; None where a number may overflow."""
    m, n = G.shape
    u, t, up = format.unit_roundoff, max(absolute_error(format), _FLOOR), 1 + slack(m * n + 2 * (m + n) + 64)
    A, B, M = np.abs(a), np.abs(b), np.abs(G)
    squares = float(a @ a), float(b @ b)
    sigma, size, mass = squares[0] * squares[1], float(B @ M @ A) * up, M @ A
    D = gamma + sigma
    of_G, g, grown = (float(np.expm1(-k * np.log1p(-u))) * up for k in roundings)
    grown = (1 + grown) * (1 + grown) * up
    of_sigma = 2 * t * (n * squares[1] + m * squares[0] + 2 * m * n * t + 1)
    share = of_sigma / D * grown * up
    if not share < 0.5:
        return None
    r = share / (1 - share) * up
    w = grown * (1 + r) * up
    g = (g + r + g * r) * up
    of_x = 2 * t * (n * float(B.sum()) + m)
    e = of_x / D + t
    c, top = size / D + e, (float(B.max()), float(A.max()), float(M.max()))
    outer = (c * top[0] + t) * top[1] + t
    numbers = (
        float(mass.max()) + 2 * n * t,
        size + of_x,
        squares[0] + 2 * n * t,
        squares[1] + 2 * m * t,
        D + of_sigma,
        c,
        c * top[0] + t,
        outer,
        top[2] + outer + t,
        (top[2] + outer + t) / gamma + t,
    )
    if not max(numbers) * w * up <= format.max:
        return None
    x = abs(float(b @ G @ a)) - slack(m + n + 4) * size
    mu = size / x if x > 0 else np.inf
    along = w * (e * sigma + t * float(B.sum()) * squares[0] + (2 + gamma) * t * float(B.sum()) * float(A.sum()))
    relative = of_G * (D / gamma) + g * (sigma / gamma)
    curved = (mu * relative + along / x * (D / gamma)) * up if x > 0 else np.inf
    square = float(np.sum(G**2))
    # |G|^2 - x^2 / (gamma + sigma) with the largest x there may be; by Cauchy and Schwarz it is at least the second.
    kept = square * (1 - slack(m * n + 8)) - (x + slack(2 * m + 2 * n + 8) * size) ** 2 / D * up
    kept = max(kept, square * gamma / D * (1 - slack(m * n + m + n + 8)))
    beside = w * (e * size + t * float(mass.sum()) + (2 + gamma) * t * float(M.sum()))
    lost = (of_G * square + g * (size**2 / D) + beside) * up
    return mu, curved, kept / lost if 0 < lost < np.inf else 0.0
