r"""Certificates of one step: what errors of w = P v and of d leave P - w w^T / d positive definite.

**Theorem.** Let P be symmetric positive definite and d > 0. P - z z^T / d is positive definite if and only if
z^T P^{-1} z < d. For z = P v + e, s = v^T P v and d = tau + s + f that is

    2 e^T v + e^T P^{-1} e < tau + f.

**Proof.** P - z z^T / d = P^{1/2} (I - y y^T / d) P^{1/2} with y = P^{-1/2} z, whose eigenvalues other than 1 are
1 - |y|^2 / d. And (P v + e)^T P^{-1} (P v + e) = s + 2 e^T v + e^T P^{-1} e.

An error e = theta w gives s (2 theta + theta^2) < tau, to first order 2 u s < tau; or s (theta + theta^2) < tau with
d = tau + v^T z. Neither is sufficient: errors u |w_i| with signs of their own have e^T P^{-1} e of up to
u^2 |w|^T |P^{-1}| |w|, as much as kappa(P) u^2 s.

**Certificate.** With k roundings in each inner product of P v, |e| <= g a, g = gamma_k = k u / (1 - k u), a = |P| |v|.
With |e^T P^{-1} e| <= |D^{-1} e|^2 / lambda_min(H), and d = fl(tau + v^T z), whose error f - e^T v is at most
gamma_m (tau + |v|^T |z|) with m roundings in the arithmetic of scalars, the condition follows from

    g |v|^T a + g^2 |D^{-1} a|^2 / lambda_min(H) + gamma_m (tau + (1 + g) |v|^T a) < tau.

e^T v stands here once: an error of z that enters d too is forgiven by half.

**Sign of s.** fl(v^T fl(P v)) differs from v^T P v by at most gamma_k |v|^T |P| |v|, k the roundings of both products.
Only a computed s below minus that bound proves that P is not positive definite; no s proves that it is.

Rounding is to nearest; for other modes give twice the number of roundings. Products may underflow, and their errors are
counted. Where an intermediate result may overflow, nothing is certified.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.arithmetic.formats import Format, named
from precond_lab.diagnosis.certainty import Certainty, certainty, settled
from precond_lab.diagnosis.rank_one_enclosures import (
    EPSILON,
    TINY,
    Extremes,
    absolute_error,
    exact_floats,
    extreme_eigenvalues,
    positive_count,
    slack,
    symmetric_floats,
    unit_diagonal,
)


class GainCertificate(NamedTuple):
    """Whether the rounding of w and d leaves P - w w^T / d positive definite; arrays ``[...]`` for a batch.

    Attributes:
        verdict: CERTIFIED, LOST (P is not positive definite), or UNDECIDED.
        margin: tau over the upper bound of what it has to exceed; above one exactly where CERTIFIED.
        gain: s / tau, in float64.
        simple_margin: tau / (2 u s): what it would be for an error along w alone; necessary to first order for errors
            of u, not sufficient.
        P: as given.
        v: as given.
        tau: as given.
        format: of P v.
        roundings: k, of an inner product with a row of P.
        scalars: the format of d.
        scalar_roundings: m.
    """

    verdict: Any
    margin: Any
    gain: Any
    simple_margin: Any
    P: ArrayLike
    v: ArrayLike
    tau: ArrayLike
    format: Format
    roundings: int
    scalars: Format
    scalar_roundings: int


class ComputedGain(NamedTuple):
    """Whether P - z z^T / d is positive definite for the z and d that were computed; arrays ``[...]`` for a batch.

    Attributes:
        verdict: CERTIFIED, LOST, or UNDECIDED where float64 does not tell.
        margin: d over an upper bound of z^T P^{-1} z; above one exactly where CERTIFIED. Infinite for d < 0 and a P
            that is positive definite, as then P - z z^T / d is too.
        least: lower bound of z^T P^{-1} z.
        largest: upper bound of it.
        P: as given.
        z: as given.
        d: as given.
    """

    verdict: Any
    margin: Any
    least: Any
    largest: Any
    P: ArrayLike
    z: ArrayLike
    d: ArrayLike


class SignCertificate(NamedTuple):
    """What a computed s = v^T P v tells of P; arrays ``[...]`` for a batch.

    Attributes:
        verdict: LOST: v^T P v < 0, or v^T P v = 0 for v other than 0, or P is not finite. PASSED: v^T P v > 0.
            UNDECIDED: the error of s may be as large as s.
        margin: |s| over the bound of its error; at least one where s tells the sign.
        error: upper bound of |s - v^T P v|.
        P: as given.
        v: as given.
        s: as given.
        format: in which s was computed.
        roundings: k, of both products together.
    """

    verdict: Any
    margin: Any
    error: Any
    P: ArrayLike
    v: ArrayLike
    s: ArrayLike
    format: Format
    roundings: int


def gain_certificate(
    P: ArrayLike,
    v: ArrayLike,
    tau: ArrayLike,
    format: str | Format,
    *,
    roundings: int | None = None,
    scalars: str | Format | None = None,
    scalar_roundings: int | None = None,
) -> GainCertificate:
    """Certificate B3, before the step: no rounding of w = P v and of d = tau + v^T w can cost definiteness.

    What then rounds w w^T / d and its difference from P is the business of `rounding_certificate`, or of
    `order_certificate`.

    Args:
        P: symmetric, ``[..., n, n]``: what is stored, floats of at most 64 bits.
        v: ``[..., n]``, as the step uses it.
        tau: beta / alpha, positive, ``[...]``.
        format: of the products and sums of P v, and of w.
        roundings: k of an entry of P v; n where None, a product and n - 1 sums, in any order. One more where w is
            rounded again when it is kept; 1 for an exact product rounded once.
        scalars: the format of d; that of P v where None.
        scalar_roundings: m of d = tau + v^T w; n + 2 where None: that of tau included.

    Returns:
        The certificate. Cost: O(n^3) for each matrix.

    Raises:
        TypeError: if an argument is not of real floats of at most 64 bits, or a number of roundings no integer.
        ValueError: if P is not square or not symmetric, the shapes differ, tau is not positive, or a number of
            roundings is below one.

    Example:
        >>> P, v = [[1.0, 0.5], [0.5, 1.0]], [1.0, 1.0]
        >>> gain_certificate(P, v, 19.0, "bfloat16").verdict.value
        'certified'
        >>> gain_certificate(P, v, 0.001, "bfloat16").verdict.value
        'undecided'
    """
    record = named(format)
    wide = record if scalars is None else named(scalars)
    A, x, t = _shaped(P, v, tau)
    n = A.shape[-1]
    k = n if roundings is None else positive_count(roundings, "roundings")
    m = n + 2 if scalar_roundings is None else positive_count(scalar_roundings, "scalar_roundings")
    unit = unit_diagonal(A)
    least = extreme_eigenvalues(unit.H, unit.radius)
    safe = np.where(unit.broken[..., None, None], np.eye(n), A)
    with np.errstate(all="ignore"):
        up = 1 + slack(n + 8)
        a = (np.abs(safe) @ np.abs(x)[..., None])[..., 0] * up
        tiny, tiny_wide = _underflow(record, n), _underflow(wide, n)
        e = (_gamma(k, record) * a + tiny * (1 + np.abs(x).sum(-1, keepdims=True))) * up
        of_v = (np.abs(x) * e).sum(-1) * up
        scaled = np.ldexp(e, -unit.exponents) / unit.mantissas
        of_P = (scaled**2).sum(-1) / np.maximum(least.least_lower, TINY) * up
        through = (np.abs(x) * (a + e)).sum(-1) * up
        of_d = (_gamma(m, wide) * (t + through) + tiny_wide) * up
        wanted = (of_v + of_P + of_d) * up + TINY
        fits = (np.max(a + e, -1) < record.max) & ((t + through) * (1 + _gamma(m, wide)) < wide.max)
        s = (x * (safe @ x[..., None])[..., 0]).sum(-1)
        usable = ~unit.broken & (least.least_lower > 0) & np.isfinite(wanted) & fits
        margin = np.where(usable, t / wanted * (1 - slack(2)), -np.inf)
        simple = np.where(s > 0, t / (2 * record.unit_roundoff * s), np.inf)
        gain = s / t
    verdict = certainty(margin > 1, unit.broken | (least.least_upper < 0))
    margin, gain, simple = (settled(y) for y in (margin, gain, simple))
    return GainCertificate(verdict, margin, gain, simple, P, v, tau, record, k, wide, m)


def gain_condition(P: ArrayLike, z: ArrayLike, d: ArrayLike) -> ComputedGain:
    """Condition B3, after the fact: whether P - z z^T / d is positive definite for these very numbers.

    With any y and r = z - P y, z^T P^{-1} z = 2 z^T y - y^T P y + r^T P^{-1} r, and 0 <= r^T P^{-1} r <= |D^{-1} r|^2 /
    lambda_min(H): bounds from both sides, for y a solution in float64.

    Args:
        P: symmetric, ``[..., n, n]``, floats of at most 64 bits.
        z: the computed w, ``[..., n]``.
        d: the computed tau + s, ``[...]``. Where it is infinite, z finite, P - z z^T / d is P.

    Returns:
        The certificate. Cost: O(n^3) for each matrix.

    Raises:
        TypeError: if an argument is not of real floats of at most 64 bits.
        ValueError: if P is not square or not symmetric, or the shapes differ.

    Example:
        >>> P = [[1.0, 0.5], [0.5, 1.0]]
        >>> [gain_condition(P, [1.0, 1.0], d).verdict.value for d in (1.375, 1.3125)]
        ['certified', 'lost']
    """
    A, x, t = _shaped(P, z, d, positive=False)
    n = A.shape[-1]
    unit = unit_diagonal(A)
    finite = np.isfinite(A).all((-1, -2)) & np.isfinite(x).all(-1) & ~np.isnan(t)
    endless = finite & np.isinf(t)
    x, t = np.where(finite[..., None], x, 0.0), np.where(finite, t, 1.0)
    least: Extremes = extreme_eigenvalues(unit.H, unit.radius)
    with np.errstate(all="ignore"):
        w = np.ldexp(x, -unit.exponents) / unit.mantissas  # D^{-1} z, each entry with one rounding
        values, Q = np.linalg.eigh(unit.H)
        y = (Q @ ((Q.swapaxes(-1, -2) @ w[..., None]) / np.maximum(values, EPSILON)[..., None]))[..., 0]
        image = (unit.H @ y[..., None])[..., 0]
        of_image = (np.abs(unit.H) @ np.abs(y)[..., None])[..., 0]
        r = np.abs(w - image) + slack(n + 6) * (of_image + np.abs(w)) + TINY * (1 + np.abs(y).sum(-1, keepdims=True))
        value = 2 * (w * y).sum(-1) - (y * image).sum(-1)
        size = 2 * (np.abs(w) * np.abs(y)).sum(-1) + (np.abs(y) * of_image).sum(-1)
        off = slack(2 * n + 12) * size + n * TINY * (1 + np.abs(y).sum(-1)) ** 2
        low = value - off
        rest = (r**2).sum(-1) * (1 + slack(n + 4)) / np.maximum(least.least_lower, TINY)
        high = (value + off + rest) * (1 + slack(4))
    definite = ~unit.broken & (least.least_lower > 0)
    known = definite & np.isfinite(low) & np.isfinite(high) & finite
    broken = unit.broken | (least.least_upper < 0)
    lost = ~finite | (t == 0) | (broken & ((t > 0) | endless)) | (known & (low >= t) & (t > 0))
    with np.errstate(all="ignore"):
        margin = np.where(known, np.where(high > 0, t / high * (1 - slack(2)), np.inf), -np.inf)
    margin = np.where((t > 0) & ~endless, margin, np.where(definite & (endless | (t < 0)), np.inf, -np.inf))
    low, high = (settled(np.where(known, b, s * np.inf)) for b, s in ((low, -1), (high, 1)))
    return ComputedGain(certainty(margin > 1, lost), settled(margin), low, high, P, z, d)


def sign_certificate(
    P: ArrayLike, v: ArrayLike, s: ArrayLike, format: str | Format, roundings: int | None = None
) -> SignCertificate:
    """Certificate B4: whether a computed s tells the sign of v^T P v, and so that definiteness was lost.

    Args:
        P: what is stored, ``[..., n, n]``, floats of at most 64 bits; need not be symmetric.
        v: ``[..., n]``.
        s: fl(v^T fl(P v)), ``[...]``.
        format: of the computation; the narrowest where there are several.
        roundings: k of both products; 2n where None. 1 for an exact value rounded once.

    Returns:
        The certificate. Cost: O(n^2) for each matrix.

    Raises:
        TypeError: if an argument is not of real floats of at most 64 bits, or `roundings` no integer.
        ValueError: if P is not square, the shapes differ, or `roundings` is below one.

    Example:
        >>> P = [[1.0, 0.0], [0.0, -0.0625]]
        >>> certificates = (sign_certificate(P, v, s, "bfloat16") for v, s in (([0, 1], -0.0625), ([1, 4], 0.0)))
        >>> [certificate.verdict.value for certificate in certificates]
        ['lost', 'undecided']
    """
    record = named(format)
    A, x, t = _shaped(P, v, s, positive=False, symmetric=False)
    n = A.shape[-1]
    k = 2 * n if roundings is None else positive_count(roundings, "roundings")
    with np.errstate(all="ignore"):
        a = (np.abs(A) @ np.abs(x)[..., None])[..., 0] * (1 + slack(n + 2))
        size = (np.abs(x) * a).sum(-1) * (1 + slack(n + 2))
        grown = 1 + _gamma(k, record)
        tiny = _underflow(record, n)
        error = (_gamma(k, record) * size + tiny * (1 + np.abs(x).sum(-1) * grown) * grown) * (1 + slack(8))
        used = ((A != 0) & (x != 0)[..., :, None] & (x != 0)[..., None, :]).any((-1, -2))
        error = np.where(used, error + 2.0**-1060 * n * (1 + np.abs(x).sum(-1)), 0.0)
        fits = (a.max(-1) * grown < record.max) & (size * grown < record.max) & np.isfinite(t) & np.isfinite(error)
    nonzero = (x != 0).any(-1)
    broken = ~np.isfinite(A).all((-1, -2))
    lost = broken | (fits & ((t < -error) | (nonzero & (t <= 0) & (error <= -t))))
    passed = fits & ~broken & (t > error)
    with np.errstate(all="ignore"):
        margin = np.where(fits, np.abs(t) / error, 0.0)
        margin = np.where(fits & (error == 0), np.where(nonzero, np.inf, 0.0), margin)
    verdict = certainty(np.zeros_like(lost), lost)
    answers = np.empty(lost.shape, dtype=object)
    answers[lost | ~lost] = verdict
    answers[passed & ~lost] = Certainty.PASSED
    return SignCertificate(settled(answers), settled(margin), settled(error), P, v, s, record, k)


def _shaped(
    P: ArrayLike, v: ArrayLike, scalar: ArrayLike, positive: bool = True, symmetric: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    A = symmetric_floats(P) if symmetric else exact_floats(P, "P")
    x, t = exact_floats(v, "v"), exact_floats(scalar, "the scalar")
    if A.ndim < 2 or A.shape[-1] != A.shape[-2] or x.ndim < 1 or x.shape[-1] != A.shape[-1]:
        raise ValueError(f"P of shape {A.shape} and a vector of shape {x.shape} given; wanted [..., n, n] and [..., n]")
    if positive and not ((t > 0).all() and np.isfinite(t).all() and np.isfinite(x).all()):
        raise ValueError("tau must be positive and finite, and v finite")
    shape = np.broadcast_shapes(A.shape[:-2], x.shape[:-1], t.shape)
    n = A.shape[-1]
    return np.broadcast_to(A, (*shape, n, n)), np.broadcast_to(x, (*shape, n)), np.broadcast_to(t, shape)


def _gamma(k: int, format: Format) -> float:
    """gamma_k, rounded up; infinite where k u >= 1."""
    product = k * format.unit_roundoff
    return product / (1 - product) * (1 + slack(3)) if product < 1 else np.inf


def _underflow(format: Format, n: int) -> float:
    """What the underflow of n products can do to a sum of them and its later roundings, and to the sum itself."""
    return 6 * (n + 2) * absolute_error(format)
