"""Streams of vectors by covariance, excitation, and seed.

A stream is ``[steps, n]``, what updates of rank one take one vector after the other. It is persistently exciting if the
sums of v v^T over all windows of some fixed length are bounded below by a positive multiple of the identity. Where it
is not, an average that forgets loses a factor of beta a step in the directions that are not excited, and its inverse
gains it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from precond_lab.gallery.spectra import eigenvalues, orthogonal


def rotated(steps: int, n: int, *, condition: float = 1e3, spectrum: str = "geometric", seed: int = 0) -> np.ndarray:
    """Normal vectors whose covariance has a prescribed spectrum and random eigenvectors.

    The covariance is ``spd(n, condition=condition, spectrum=spectrum, seed=seed)`` of the gallery.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        condition: of the covariance, whose largest eigenvalue is 1.
        spectrum: a name in SPECTRA.
        seed: of the eigenvectors and the draw.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape, condition, or spectrum.
    """
    scale = _scale(steps, n, condition, spectrum)
    return (_normal(steps, n, seed) * scale) @ orthogonal(n, seed).T


def graded(steps: int, n: int, *, condition: float = 1e3, spectrum: str = "geometric", seed: int = 0) -> np.ndarray:
    """Normal vectors with independent entries of very different variances.

    Their covariance is ``diagonal(n, condition=condition, spectrum=spectrum, seed=seed)`` of the gallery. Formats
    of floating point, whose rounding is relative, do not feel the condition; those of fixed point do.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        condition: ratio of the largest variance, which is 1, to the smallest.
        spectrum: a name in SPECTRA.
        seed: of the order of the variances and the draw.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape, condition, or spectrum.
    """
    scale = np.random.default_rng(seed).permutation(_scale(steps, n, condition, spectrum))
    return _normal(steps, n, seed) * scale


def heavy_tailed(
    steps: int,
    n: int,
    *,
    degrees: float = 3.0,
    condition: float = 1e3,
    spectrum: str = "geometric",
    seed: int = 0,
) -> np.ndarray:
    """Vectors of a multivariate Student distribution: normal ones, each divided by a random length of its own.

    Their covariance is that of `rotated`, with the same seed.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        degrees: of freedom, above 2; moments from this order on are infinite.
        condition: of the covariance, whose largest eigenvalue is 1.
        spectrum: a name in SPECTRA.
        seed: of the eigenvectors and the draw.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape, condition, or spectrum, or a distribution without a covariance.
    """
    if not degrees > 2:
        raise ValueError(f"degrees is {degrees}; with 2 or less there is no covariance: give more than 2")
    V = rotated(steps, n, condition=condition, spectrum=spectrum, seed=seed)
    squares = np.random.default_rng([seed, 2]).chisquare(degrees, (steps, 1))
    return V * np.sqrt((degrees - 2) / squares)


def mean_and_noise(steps: int, n: int, *, mean: float = 1.0, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """A fixed random vector plus normal noise, as batch means of activations are.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        mean: 2-norm of the fixed vector, whose direction is uniform over the sphere.
        noise: standard deviation of each entry.
        seed: of the vector and the noise.

    Returns:
        ``[steps, n]``, with second moments mean^2 q q^T + noise^2 I.

    Raises:
        ValueError: for a wrong shape.
    """
    _check(steps, n)
    return mean * orthogonal(n, seed)[:, 0] + noise * _normal(steps, n, seed)


def cyclic(
    steps: int,
    n: int,
    *,
    hold: int = 1,
    condition: float = 1.0,
    spectrum: str = "geometric",
    seed: int = 0,
) -> np.ndarray:
    """Orthogonal directions in turn, each for some steps: persistently exciting, with the same sum over every window.

    The sum of v v^T over any n * hold consecutive steps is hold times
    ``spd(n, condition=condition, spectrum=spectrum, seed=seed)`` of the gallery, up to rounding.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        hold: steps for which a direction stays; between two visits P grows by beta^-(hold (n-1)).
        condition: ratio of the largest squared length, which is 1, to the smallest.
        spectrum: a name in SPECTRA.
        seed: of the directions.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape, condition, or spectrum, or no steps to hold.
    """
    if hold < 1:
        raise ValueError(f"hold is {hold}; each direction needs a step at least")
    frame = (orthogonal(n, seed) * _scale(steps, n, condition, spectrum)).T
    return frame[np.arange(steps) // hold % n]


def frames(steps: int, n: int, *, seed: int = 0) -> np.ndarray:
    """A new orthonormal frame every n steps: persistently exciting, in directions that never come again.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        seed: of the frames.

    Returns:
        ``[steps, n]``; the sum of v v^T over steps kn, ..., kn + n - 1 is the identity up to rounding, and over any
        2n - 1 steps at least that.

    Raises:
        ValueError: for a wrong shape.
    """
    _check(steps, n)
    Z = np.random.default_rng(seed).standard_normal((-(-steps // n), n, n))
    Q, R = np.linalg.qr(Z)
    signs = np.sign(np.diagonal(R, axis1=1, axis2=2))
    return (Q * signs[:, None, :]).transpose(0, 2, 1).reshape(-1, n)[:steps]


def walsh(steps: int, n: int, *, seed: int = 0) -> np.ndarray:
    """The rows of Sylvester's Hadamard matrix in turn: entries 1 and -1, exact in every format.

    Args:
        steps: number of vectors.
        n: their length, a power of two.
        seed: of the signs of the columns, and of the order of the rows.

    Returns:
        ``[steps, n]``; the sum of v v^T over any n consecutive steps is n times the identity, exactly.

    Raises:
        ValueError: for a wrong shape.
    """
    _check(steps, n)
    if n & (n - 1):
        raise ValueError(f"n is {n}; Sylvester's matrices have orders that are powers of two")
    H = np.ones((1, 1))
    while len(H) < n:
        H = np.block([[H, H], [H, -H]])
    generator = np.random.default_rng(seed)
    frame = generator.permutation(H) * generator.choice([-1.0, 1.0], n)
    return frame[np.arange(steps) % n]


def subspace(
    steps: int, n: int, *, rank: int | None = None, condition: float = 1.0, spectrum: str = "geometric", seed: int = 0
) -> np.ndarray:
    """Normal vectors of a random subspace: what is orthogonal to it is never excited.

    Rounding of the vectors leaves the subspace by its unit roundoff; `lattice` does not.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        rank: dimension of the subspace, 1 to n; half of n where None.
        condition: of the covariance within the subspace, whose largest eigenvalue is 1.
        spectrum: a name in SPECTRA.
        seed: of the subspace and the draw.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape, rank, condition, or spectrum.
    """
    _check(steps, n)
    rank = _rank(rank, n)
    scale = _scale(steps, rank, condition, spectrum) if rank > 1 else np.ones(1)
    return (_normal(steps, rank, seed) * scale) @ orthogonal(n, seed)[:, :rank].T


def lattice(steps: int, n: int, *, rank: int | None = None, seed: int = 0) -> np.ndarray:
    """Vectors of a subspace in small integers, so that no format of 8 bits of precision leaves it.

    Combinations of `rank` vectors of entries -1, 0 and 1, independent of each other, with coefficients -3, ..., 3.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        rank: dimension of the subspace, 1 to n; half of n where None. Entries are at most 3 rank in magnitude.
        seed: of the subspace and the draw.

    Returns:
        ``[steps, n]``, of integers; its rank is exactly that given where there are steps enough.

    Raises:
        ValueError: for a wrong shape or rank.
    """
    _check(steps, n)
    rank = _rank(rank, n)
    generator = np.random.default_rng(seed)
    basis = generator.integers(-1, 2, (rank, n)).astype(float)
    # The leading block becomes triangular with a unit diagonal, and so the vectors independent.
    basis[:, :rank] = np.triu(basis[:, :rank], 1) + np.eye(rank)
    return generator.integers(-3, 4, (steps, rank)) @ basis[:, generator.permutation(n)]


def stopping(
    steps: int,
    n: int,
    *,
    stop: int | None = None,
    remaining: int = 0,
    condition: float = 1e3,
    spectrum: str = "geometric",
    seed: int = 0,
) -> np.ndarray:
    """The vectors of `rotated` to a certain step; from then on some directions are excited no more.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        stop: the number of vectors before excitation stops; half of them where None.
        remaining: how many eigenvectors of the covariance, those of the largest eigenvalues, are excited to the end;
            with 0 the vectors become zero.
        condition: of the covariance, whose largest eigenvalue is 1.
        spectrum: a name in SPECTRA.
        seed: of the eigenvectors and the draw.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape, condition, or spectrum, or numbers out of range.
    """
    scale = _scale(steps, n, condition, spectrum)
    stop = steps // 2 if stop is None else stop
    if stop < 0 or not 0 <= remaining < n:
        raise ValueError(f"stop is {stop} and remaining {remaining}; give stop >= 0 and remaining from 0 to {n - 1}")
    coefficients = _normal(steps, n, seed) * scale
    coefficients[stop:, remaining:] = 0.0
    return coefficients @ orthogonal(n, seed).T


def constant(steps: int, n: int, *, length: float = 1.0, seed: int = 0) -> np.ndarray:
    """The same vector in every step.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        length: 2-norm of the vector, whose direction is uniform over the sphere.
        seed: of the direction.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape.
    """
    _check(steps, n)
    return np.tile(length * orthogonal(n, seed)[:, 0], (steps, 1))


def bursts(steps: int, n: int, *, gap: int = 64, size: float = 16.0, seed: int = 0) -> np.ndarray:
    """Normal vectors orthogonal to one direction, which at long intervals a large vector hits.

    Between two hits P grows by beta^-gap along the direction, and a hit takes all of it back at once: s = v^T P v is
    large, and P - w w^T / (tau + s) cancels. Bursts of recursive least squares come so.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        gap: steps from one hit to the next, the first of them after gap - 1 others.
        size: length of the vectors that hit.
        seed: of the direction and the draw.

    Returns:
        ``[steps, n]``.

    Raises:
        ValueError: for a wrong shape or gap.
    """
    _check(steps, n)
    if gap < 1:
        raise ValueError(f"gap is {gap}; give 1 step at least")
    coefficients = _normal(steps, n, seed)
    coefficients[:, 0] = 0.0
    coefficients[gap - 1 :: gap] = size * np.eye(1, n)
    return coefficients @ orthogonal(n, seed).T


def nearly_parallel(steps: int, n: int, *, angle: float = 2.0**-8, seed: int = 0) -> np.ndarray:
    """Two vectors by turns, that differ by a small angle, in each of n - 1 planes that share an axis.

    With q_0 the axis, the vectors are q_0 + angle q_k and q_0 - angle q_k, k = 1, ..., n-1. Sums of v v^T see the angle
    squared, and the two vectors cancel in q_0 q_k^T: a format without the digits for both loses q_k.

    Args:
        steps: number of vectors.
        n: their length, at least 2.
        angle: half the angle between the two, to first order.
        seed: of the axis and the planes.

    Returns:
        ``[steps, n]``; over any 2 (n - 1) consecutive steps the sum of v v^T has the eigenvalues 2 (n - 1) and, n - 1
        times, 2 angle^2.

    Raises:
        ValueError: for a wrong shape.
    """
    _check(steps, n)
    k = np.arange(steps)
    Q = orthogonal(n, seed).T
    return Q[0] + angle * np.where(k % 2, -1.0, 1.0)[:, None] * Q[1 + k // 2 % (n - 1)]


def gradient_stream(steps: int, n: int, *, correlation: float = 0.9, decades: float = 0.0, seed: int = 0) -> np.ndarray:
    """Normal gradients in which neighboring entries have a given correlation.

    Each gradient is a first-order autoregression along its entries, so that the statistics of T steps tend
    to a chain with every beta equal to the correlation as T grows; steps are independent.

    Args:
        steps: number of gradients.
        n: their length.
        correlation: of neighbors, in [-1, 1].
        decades: standard deviations are log-uniform between 10^-decades and 1.
        seed: of the draw.

    Returns:
        ``[steps, n]``.
    """
    generator = np.random.default_rng(seed)
    scale = 10.0 ** -(decades * generator.random(n))
    G = generator.standard_normal((steps, n))
    innovation = np.sqrt(1.0 - correlation**2)
    for i in range(1, n):
        G[:, i] = correlation * G[:, i - 1] + innovation * G[:, i]
    return G * scale


def _check(steps: int, n: int) -> None:
    if steps < 0 or n < 2:
        raise ValueError(f"{steps} steps of vectors of length {n} asked for; give steps >= 0 and n >= 2")


def _rank(rank: int | None, n: int) -> int:
    rank = n // 2 if rank is None else rank
    if not 1 <= rank <= n:
        raise ValueError(f"rank is {rank}; a subspace of vectors of length {n} has rank 1 to {n}")
    return rank


def _scale(steps: int, n: int, condition: float, spectrum: str) -> np.ndarray:
    """The standard deviations along the eigenvectors of a covariance."""
    _check(steps, n)
    if not 1 <= condition < np.inf:
        raise ValueError(f"condition is {condition}; give a number of at least 1")
    return np.sqrt(eigenvalues(n, condition, spectrum))


def _normal(steps: int, n: int, seed: int) -> np.ndarray:
    # Apart from the draw of the eigenvectors, which has the seed to itself.
    return np.random.default_rng([seed, 1]).standard_normal((steps, n))


STREAMS: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType({
    "rotated": rotated,
    "graded": graded,
    "heavy_tailed": heavy_tailed,
    "mean_and_noise": mean_and_noise,
    "cyclic": cyclic,
    "frames": frames,
    "walsh": walsh,
    "subspace": subspace,
    "lattice": lattice,
    "stopping": stopping,
    "constant": constant,
    "bursts": bursts,
    "nearly_parallel": nearly_parallel,
    "gradient_stream": gradient_stream,
})
"""Streams by name: each a function of steps, n, its own parameters by keyword, and a seed."""
