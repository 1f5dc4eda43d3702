r"""Certificates that a symmetric positive definite matrix is still one after it is stored in a narrow format.

**Theorem.** Let P be symmetric, |E_ij| <= R_ij with a symmetric R, and D diagonal and nonsingular. If

    lambda_min(D^{-1} P D^{-1}) > |D^{-1} R D^{-1}|_2,

then x^T (P + E) x > 0 for all x except 0. E need not be symmetric.

**Proof.** With y = D x, x^T (P + E) x = y^T D^{-1} (P + E) D^{-1} y >= lambda_min(D^{-1} P D^{-1}) |y|^2 -
|y|^T D^{-1} R D^{-1} |y|, and the last term is at most |D^{-1} R D^{-1}|_2 |y|^2.

**Rounding to a format.** Nearest rounding has R = u |P| in the normal range, the other modes 2 u |P|. With D =
diag(P)^{1/2} and H = D^{-1} P D^{-1} that reads lambda_min(H) > u | |H| |_2. The entries of H are at most one in
magnitude, so | |H| |_2 <= n, and lambda_min(H) > n u suffices. No smaller constant does: with n even, H = lambda I +
(1 - lambda) 1 1^T and x = (1, -1, 1, -1, ...), the errors -u |h_ij| sign(x_i x_j) take x^T H x / x^T x = lambda down by
u (n - (n - 1) lambda), which is u | |H| |_2.

Below the smallest normal number errors are absolute, half or a whole spacing, but zero is a number; beyond the largest
one a format overflows or saturates. Both are accounted for. As u |x| exceeds the error of one rounding to nearest,
u |x| / (1 + u), it also covers numbers that went through float32 on their way to a format of at most 11 bits.

**Integers with a scale.** K Delta = max |p_ij| gives R = Delta / 2, whatever the size of p_ij: with D = I the theorem
reads lambda_min(P) > n Delta / 2. Of H with its ones the off-diagonal entries alone have errors, of at most 1 / (2K):
lambda_min(H) > (n - 1) / (2K) suffices for D H D with a wide D. What the carrier of scales, quotients and products adds
is at most 5 K u Delta, for n entries of D and H 16 u.

All of the above is decided with bounds that hold in spite of the roundings of float64.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.arithmetic.blocks import Integer
from precond_lab.arithmetic.formats import Format, named
from precond_lab.arithmetic.modes import ROUNDINGS
from precond_lab.diagnosis.certainty import certainty, settled
from precond_lab.diagnosis.rank_one_enclosures import (
    TINY,
    Scaled,
    extreme_eigenvalues,
    perron_root,
    scaled_down,
    slack,
    symmetric_floats,
    unit_diagonal,
)

NEAREST = ("nearest_even", "nearest_away")
_HOPELESS = 2.0**100  # an error of an entry of H that no least eigenvalue of H outweighs
_TWICE = 1 + 2.0**-12  # a subnormal number that was rounded to float32 first may be off by so much more


class RoundingCertificate(NamedTuple):
    """Whether a matrix stays positive definite when its entries are rounded; arrays ``[...]`` for ``[..., n, n]``.

    Attributes:
        verdict: CERTIFIED: every rounding of every entry leaves it positive definite. LOST: P is not positive definite
            or not finite, or an entry overflows. UNDECIDED: neither is proved.
        margin: lower bound of lambda_min over upper bound of the norm of errors, both of the scaled matrices; above one
            exactly where CERTIFIED, minus infinity where there is nothing to compare.
        order_margin: lower bound of lambda_min(H) / (n u), the simpler and weaker test.
        least_eigenvalue: lower bound of lambda_min(D^{-1} P D^{-1}): of H, or where D = I was the better choice, of P
            over the power of two that brings its diagonal below one.
        error_norm: upper bound of |D^{-1} R D^{-1}|_2, for the same D.
        P: as given.
        format: of storage.
        rounding: its mode.
    """

    verdict: Any
    margin: Any
    order_margin: Any
    least_eigenvalue: Any
    error_norm: Any
    P: ArrayLike
    format: Format | Integer
    rounding: str


def rounding_certificate(P: ArrayLike, format: str | Format, rounding: str = "nearest_even") -> RoundingCertificate:
    """Certificate B1: lambda_min(H) > u | |H| |_2, with what underflows and overflows counted.

    Args:
        P: symmetric, ``[..., n, n]``: floats of at most 64 bits, taken as exact.
        format: that every entry is rounded to.
        rounding: a mode of `pl.round_to`; modes other than to nearest count twice u, and any choice of a neighbor.

    Returns:
        The certificate. Cost: O(n^3) for each matrix.

    Raises:
        TypeError: if P is not of real floats of at most 64 bits.
        ValueError: if P is not square or not symmetric, the mode is unknown, or the format lacks zero or a sign.

    Example:
        >>> P = [[1.0, 0.9], [0.9, 1.0]]
        >>> certificate = rounding_certificate(P, "bfloat16")
        >>> certificate.verdict.value, round(certificate.margin, 3), round(certificate.order_margin, 3)
        ('certified', 13.474, 12.8)
        >>> rounding_certificate(P, "e4m3fn").verdict.value
        'undecided'
    """
    record, A = named(format), symmetric_floats(P)
    R, certain, possible = rounding_errors(A, record, rounding)
    scaled = unit_diagonal(A)
    bound = perron_root(_errors_of(scaled, R))
    u = record.unit_roundoff * (1 if rounding in NEAREST else 2)
    return _judged(scaled, bound, certain, possible, A.shape[-1] * u, (P, record, rounding))


def rounding_errors(A: np.ndarray, format: Format, rounding: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of the errors of rounding, entry by entry.

    Args:
        A: float64, of any shape ``[..., n, n]``.
        format: with zero and a sign.
        rounding: a mode.

    Returns:
        The bounds; and for each matrix whether an entry overflows for certain, and whether one may.

    Raises:
        ValueError: if the mode is unknown, or the format lacks zero or a sign.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"no rounding is named {rounding!r}; there are {', '.join(ROUNDINGS)}")
    if not (format.signed and format.zero):
        raise ValueError(f"{format} lacks zero or a sign, so that no matrix can be stored in it; give one with both")
    factor = 1 if rounding in NEAREST else 2
    u, size = format.unit_roundoff * factor, np.abs(A)
    spacing = format.unit_roundoff * factor * _TWICE * format.min_normal if format.subnormals else format.min_normal
    with np.errstate(invalid="ignore", over="ignore"):
        small = np.minimum(size, spacing) if factor == 1 else np.full_like(size, spacing)
        R = np.where(size == 0, 0.0, np.where(size < format.min_normal, small, size * u))
        half = format.max + format.unit_roundoff * 2.0**format.max_exponent
        beyond, at_most = (size > half, size >= half) if factor == 1 else (np.zeros_like(size, bool), size > format.max)
        if format.overflow == "saturate":
            R = np.where(at_most, np.maximum(R, (size - format.max) * (1 + slack(1))), R)
            beyond, at_most = np.zeros_like(beyond), np.zeros_like(at_most)
    return R, np.asarray(beyond.any((-1, -2))), np.asarray(at_most.any((-1, -2)))


def integer_certificate(
    P: ArrayLike,
    integer: Integer | None = None,
    rounding: str = "nearest_even",
    *,
    scaled: bool = False,
    carrier: str | Format = "float32",
) -> RoundingCertificate:
    """Certificate B1 for integers with a scale: lambda_min(P) > n Delta / 2, or lambda_min(H) > (n - 1) / (2K).

    Tried with D = I and with D = diag(P)^{1/2}; the better margin counts.

    Args:
        P: symmetric, ``[..., n, n]``: floats of at most 64 bits, taken as exact. Each matrix has scales of its own.
        integer: symmetric codes; int8 with a scale a tensor where None. Groups run along the last axis.
        rounding: a mode.
        scaled: whether H = D^{-1} P D^{-1} is what is stored in integers, and D in the carrier. Then `integer` has one
            scale a tensor.
        carrier: the format in which scales, quotients and products are computed; P may be rounded to it first.

    Returns:
        The certificate; `order_margin` is lambda_min(H) / (n / (2K)) where `scaled`, and otherwise equal to `margin`.

    Raises:
        TypeError: if P is not of real floats of at most 64 bits.
        ValueError: if P is not square or not symmetric, the mode is unknown, or `integer` is not of the kind above.

    Example:
        >>> P = [[1.0, 0.0], [0.0, 0.001]]
        >>> integer_certificate(P).verdict.value, integer_certificate(P, scaled=True).verdict.value
        ('undecided', 'certified')
    """
    record, integer = named(carrier), Integer(8) if integer is None else integer
    if not integer.symmetric or (scaled and integer.scale != "tensor"):
        raise ValueError(f"{integer} given; wanted symmetric codes, and one scale a tensor for a scaled matrix")
    if rounding not in ROUNDINGS:
        raise ValueError(f"no rounding is named {rounding!r}; there are {', '.join(ROUNDINGS)}")
    A = symmetric_floats(P)
    unit, part = unit_diagonal(A), 0.5 if rounding in NEAREST else 1.0
    lost, unsure = _leaves(A, record)
    n, u, K = A.shape[-1], record.unit_roundoff, integer.steps
    if scaled:
        off = part / K * (1 + 10 * K * u) + 16 * u
        errors = np.full((n, n), off)
        if rounding in NEAREST:
            np.fill_diagonal(errors, 16 * u)
        # Farther out d_i d_j, or a quotient by it, could overflow, or underflow by more than is counted.
        diagonal = np.diagonal(A, axis1=-2, axis2=-1)
        inside = (diagonal >= record.min_normal / u) & (diagonal <= record.max * u)
        unsure |= ~inside.all(-1)
        return _judged(unit, perron_root(errors), lost, unsure, n * part / K, (P, integer, rounding))
    broken = unit.broken[..., None, None]
    R = _integer_errors(np.where(broken, np.eye(n), A), integer, part, record)
    exponents = np.broadcast_to(unit.exponents.max(-1, keepdims=True), unit.exponents.shape)
    one = np.ones_like(unit.mantissas)
    plain = scaled_down(np.where(broken, np.eye(n), A), exponents, one)
    flat = Scaled(plain, np.full_like(plain, TINY), exponents, one, unit.broken)
    inputs = (P, integer, rounding)
    tried = [_judged(s, perron_root(_errors_of(s, R)), lost, unsure, None, inputs) for s in (flat, unit)]
    better = np.asarray(tried[0].margin) >= np.asarray(tried[1].margin)
    pairs = zip(*(t[1:5] for t in tried), strict=True)
    margin, simple, least, bound = (settled(np.where(better, x, y)) for x, y in pairs)
    lost_by_one = (np.asarray(tried[0].verdict) == "lost") | (np.asarray(tried[1].verdict) == "lost")
    verdict = certainty(np.asarray(margin) > 1, lost_by_one)
    return RoundingCertificate(verdict, margin, simple, least, bound, P, integer, rounding)


def _leaves(A: np.ndarray, carrier: Format) -> tuple[np.ndarray, np.ndarray]:
    """Whether a matrix overflows in its carrier for certain, and whether it may."""
    with np.errstate(invalid="ignore"):
        size = np.abs(A).max((-1, -2))
        return size > carrier.max * (1 + 2 * carrier.unit_roundoff), size > carrier.max


def _integer_errors(A: np.ndarray, integer: Integer, part: float, carrier: Format) -> np.ndarray:
    """Half a scale, or a whole one, for every entry but zeros; the larger of the two of a pair."""
    size, n = np.abs(A), A.shape[-1]
    if integer.scale == "tensor":
        top = size.max((-1, -2), keepdims=True)
    elif integer.scale == "block":
        starts = range(0, n, integer.block or n)
        parts = [size[..., i : i + (integer.block or n)] for i in starts]
        top = np.concatenate([np.broadcast_to(x.max(-1, keepdims=True), x.shape) for x in parts], -1)
    else:
        top = size.max(-1 if integer.scale == "row" else -2, keepdims=True)
    scale = np.maximum(top / integer.steps, carrier.min_normal)
    R = scale * (part * (1 + 10 * integer.steps * carrier.unit_roundoff) + slack(4))
    R = np.where(size == 0, 0.0, R + carrier.min_normal * (size < 2 * carrier.min_normal))
    return np.maximum(R, R.swapaxes(-1, -2))


def _errors_of(scaled: Scaled, R: np.ndarray) -> np.ndarray:
    R = np.where(scaled.broken[..., None, None] | ~np.isfinite(R), 1.0, R)
    with np.errstate(over="ignore"):
        errors = scaled_down(R, scaled.exponents, scaled.mantissas) * (1 + slack(4)) + TINY
    return np.minimum(errors, _HOPELESS)


def _judged(
    scaled: Scaled,
    bound: np.ndarray,
    certain: np.ndarray,
    possible: np.ndarray,
    order: float | None,
    inputs: tuple[ArrayLike, Format | Integer, str],
) -> RoundingCertificate:
    least = extreme_eigenvalues(scaled.H, scaled.radius)
    bound = np.broadcast_to(bound, scaled.broken.shape)
    lost = scaled.broken | (least.least_upper < 0) | certain
    refused = scaled.broken | certain | possible
    lower = np.where(refused, -np.inf, least.least_lower)
    margin = lower / bound * (1 - slack(1) * np.sign(lower))
    simple = margin if order is None else lower / order
    verdict = certainty(margin > 1, lost)
    margin, simple, lower, bound = (settled(x) for x in (margin, simple, lower, bound))
    return RoundingCertificate(verdict, margin, simple, lower, bound, *inputs)
