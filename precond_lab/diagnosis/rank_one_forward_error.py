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
x / (gamma + sigma), a difference of x and c sigma. Let every term of gamma P_ij = G_ij - b_i a_j (sum over k and l of
b_k G_kl a_l) / (gamma + sigma) pass at most k roundings, g = gamma_k = k u / (1 - k u) and X = |b|^T |G| |a|. Its error
is at most g (|G_ij| + |b_i| |a_j| X / (gamma + sigma)). So

    |b^T P^ a - b^T P a| / |b^T P a| <= g (X / |x|) (gamma + 2 sigma) / gamma = gamma_k mu (1 + 2 sigma / gamma).

mu = X / |x| >= 1 is the condition of x: 1 for G = b a^T, and without it u (1 + sigma / gamma) is no bound. Below one,
the curved component has the right sign. And <G, P^> > 0 if g (|G|_F^2 + X^2 / (gamma + sigma)) < gamma <G, P>, where
gamma <G, P> = |G|_F^2 - x^2 / (gamma + sigma).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.arithmetic.formats import Format, named
from precond_lab.diagnosis.certainty import certainty, settled
from precond_lab.diagnosis.rank_one_enclosures import exact_floats, slack


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
        margin: the smaller of 1 / `curved` and `descent_margin`.
        curved: bound of the relative error of b^T P a.
        descent_margin: gamma <G, P> over the bound of its error.
        ratio: sigma / gamma.
        condition: mu = |b|^T |G| |a| / |b^T G a|.
        G: as given.
        a: as given.
        b: as given.
        damping: as given.
        format: of all operations.
        roundings: k.
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
        The bounds, rounded up.

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
    up = 1 + slack(24)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        small = e1 * size * alpha * up
        first = e1 + e1 * size * alpha * (2 * a + e1)
        squared = size * (a + e1) ** 2
        bound = (first + squared * (e2 + 2 * e1 * size * alpha**2)) * up
        divisor = np.where(small < 1, 1 - small, 1.0)
        sharper = (first + squared * (e2 + e1 * size * alpha**2 / divisor * up)) * up
        close = (size * a * up <= 0.5) & (e1 * up <= a / 2)
        corollary = np.where(close, (8 * e1 + 1.125 * a * e2) * up, np.inf)
        margin = np.where(small > 0, 0.5 / small, np.inf)
    holds = small <= 0.5
    bound = np.where(holds & ~np.isnan(bound), bound, np.inf)
    sharper = np.where((small < 1) & ~np.isnan(sharper), sharper, np.inf)
    margin, bound, sharper, corollary = (settled(x) for x in (margin, bound, sharper, corollary))
    return WoodburyBound(certainty(holds), margin, bound, sharper, corollary, *given)


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

    Args:
        A: |A|, ``[...]``.
        A_inverse: |A^{-1}|.
        updated: |A + U V^T|.
        updated_inverse: |(A + U V^T)^{-1}|.
        kappa: the smaller condition number of U and V; 1 for vectors.

    Returns:
        1 / (kappa |A| |(A + U V^T)^{-1}|), and kappa |A + U V^T| |A^{-1}|.

    Example:
        >>> capacitance_bounds(2.0, 1.0, 4.0, 0.5)
        (1.0, 4.0)
    """
    a, b, c, d, k = (np.asarray(x, dtype=np.float64) for x in (A, A_inverse, updated, updated_inverse, kappa))
    return settled(1 / (k * a * d)), settled(k * c * b)


def eva_certificate(
    G: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    damping: float,
    format: str | Format,
    roundings: int | None = None,
) -> EvaCertificate:
    """Certificate B8: what rounding can do to Eva's (G - c b a^T) / gamma.

    Nothing may overflow or underflow, and rounding is to nearest. The arguments are taken as exact: a program that
    rounds its arguments first has to be given the rounded ones.

    Args:
        G: gradient, ``[m, n]``, as computed with.
        a: ``[n]``.
        b: ``[m]``.
        damping: gamma, positive.
        format: of the operations; a wider one of scalars only lowers k.
        roundings: k, of a factor or term of P_ij; 2 (m + n) + 8 where None, all in `format`. 6 where x and sigma are
            exact and c is rounded once.

    Returns:
        The certificate.

    Raises:
        ValueError: if the shapes do not fit, or damping is not positive.

    Example:
        >>> certificate = eva_certificate([[1.0]], [1.0], [2.0], 1.0, "float16", roundings=6)
        >>> certificate.verdict.value, certificate.ratio, round(certificate.margin, 1)
        ('certified', 4.0, 37.8)
    """
    record = named(format)
    G_, a_, b_ = exact_floats(G, "G"), exact_floats(a, "a"), exact_floats(b, "b")
    if G_.ndim != 2 or a_.shape != G_.shape[1:] or b_.shape != G_.shape[:1] or not damping > 0:
        shapes = f"{G_.shape}, {a_.shape} and {b_.shape}"
        raise ValueError(
            f"shapes {shapes}, damping {damping} given; wanted [m, n], [n] and [m], and a positive damping"
        )
    m, n = G_.shape
    k = 2 * (m + n) + 8 if roundings is None else roundings
    up = 1 + slack(2 * (m + n) + 24)
    product = k * record.unit_roundoff
    g = product / (1 - product) * up if product < 1 else np.inf
    sigma = float(a_ @ a_) * float(b_ @ b_)
    size = float(np.abs(b_) @ np.abs(G_) @ np.abs(a_)) * up
    x = abs(float(b_ @ G_ @ a_)) - slack(m + n + 4) * size
    mu = size / x if x > 0 else np.inf
    curved = g * mu * (1 + 2 * sigma / damping) * up
    square = float(np.sum(G_**2))
    # |G|^2 - x^2 / (gamma + sigma) with the largest x there may be; by Cauchy and Schwarz it is at least the second.
    kept = square * (1 - slack(m * n + 8)) - (x + slack(2 * m + 2 * n + 8) * size) ** 2 / (damping + sigma) * up
    kept = max(kept, square * damping / (damping + sigma) * (1 - slack(m * n + m + n + 8)))
    lost = g * (square + size**2 / (damping + sigma)) * (1 + slack(m * n + m + n + 24))
    descent = kept / lost if 0 < lost < np.inf else (np.inf if lost == 0 else 0.0)
    margin = min(1 / curved if curved > 0 else np.inf, descent)
    verdict, ratio = certainty(margin > 1), sigma / damping
    return EvaCertificate(
        verdict, float(margin), float(curved), float(descent), ratio, float(mu), G, a, b, damping, record, k
    )
