"""Test inputs by structure, condition, spectrum, and seed.

Everything is float64 NumPy, a function of its arguments alone: the same seed gives the same numbers. Banded
matrices are in SciPy's lower form, ``H[k, i]`` = H_{i+k,i}, as the LogDet programs take them.
"""

from collections.abc import Callable, Mapping
from math import isqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike


def chain(n: int, *, beta: ArrayLike = 0.5, diagonal: ArrayLike | None = None, seed: int = 0) -> np.ndarray:
    """A tridiagonal H with prescribed correlations, so that its projection's condition is known exactly.

    The off-diagonal entries are beta_i sqrt(H_ii H_{i+1,i+1}). The default diagonal consists of powers of
    four, so that the square root, and with it every correlation, is exact.

    Args:
        n: number of vertices, at least 1.
        beta: correlations of the n-1 edges, ``[n-1]``, or one magnitude to which the seed gives the signs;
            in (-1, 1) if a projection is to exist.
        diagonal: positive, a scalar or ``[n]``; where None drawn from 4^-3 ... 4^3.
        seed: of the signs and the diagonal.

    Returns:
        ``[2, n]``.

    Example:
        >>> chain(3, beta=[0.5, -0.25], diagonal=4.0).tolist()
        [[4.0, 4.0, 4.0], [2.0, -1.0, 0.0]]
    """
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1.0, 1.0], n - 1)
    powers = 4.0 ** generator.integers(-3, 4, n)
    d = powers if diagonal is None else np.broadcast_to(np.asarray(diagonal, float), (n,))
    beta = np.asarray(beta, float)
    edge = (beta * signs if beta.ndim == 0 else beta) * (np.sqrt(d[:-1]) * np.sqrt(d[1:]))
    return np.stack([d, np.append(edge, 0.0)])


def chain_by_condition(n: int, *, condition: float, seed: int = 0) -> np.ndarray:
    """A tridiagonal H whose worst edge has 2 / (1 - beta^2) = condition.

    For the other edges 1 - beta^2 is log-uniform between 2 / condition and 1. Since beta is rounded to
    float64, the condition is met up to a relative error of about condition * 2^-53.

    Args:
        n: number of vertices, at least 2.
        condition: at least 2, where every edge is zero.
        seed: of the correlations, their signs, and the diagonal.

    Returns:
        ``[2, n]``.
    """
    generator = np.random.default_rng(seed)
    complement = (2.0 / condition) ** generator.random(n - 1)
    complement[generator.integers(n - 1)] = 2.0 / condition
    beta = np.sqrt(1.0 - complement) * generator.choice([-1.0, 1.0], n - 1)
    return chain(n, beta=beta, seed=seed)


def gram_chain(steps: int, n: int, *, seed: int = 0) -> np.ndarray:
    """The band of the mean outer product of normal gradients.

    With one step every correlation is 1 or -1 and no projection exists; with few it is near to that.

    Args:
        steps: number of gradients.
        n: their length.
        seed: of the gradients.

    Returns:
        ``[2, n]``.
    """
    G = np.random.default_rng(seed).standard_normal((steps, n))
    edge = np.mean(G[:, 1:] * G[:, :-1], axis=0)
    return np.stack([np.mean(G * G, axis=0), np.append(edge, 0.0)])


def near_singular_triples(count: int, *, precision: int, seed: int = 0) -> np.ndarray:
    """Entries (H11, H22, H12) of positive definite 2 by 2 matrices, as nearly singular as the format allows.

    All have significands of `precision` bits and lie in [1, 4); H12 is the largest such number below
    sqrt(H11 H22). This is where a projection computed in that format breaks down.

    Args:
        count: number of triples.
        precision: bits of the significand, the implicit one included: 8 for bfloat16, 11 for float16; at
            most 26, so that products are exact in float64.
        seed: of the draw.

    Returns:
        ``[count, 3]``, positive and exact in the format.

    Raises:
        ValueError: for a precision out of [2, 26].

    Example:
        >>> H11, H22, H12 = near_singular_triples(1, precision=8)[0]
        >>> bool(0 < H11 * H22 - H12**2 < 2**-5)
        True
    """
    if not 2 <= precision <= 26:
        raise ValueError(f"precision {precision} given; it must lie in [2, 26]")
    generator = np.random.default_rng(seed)
    unit = 2 ** (precision - 1)
    triples = np.empty((count, 3))
    for row in triples:
        # Integers in units of 2 / 2^precision; an element of [2, 4) has an even one.
        first, second = (int(m) for m in generator.integers(unit, 2 * unit, 2))
        # sqrt(1 * 1) has no such number below it: 1 and 2 stand for 1 and 1.
        second <<= int(generator.integers(2)) or int(first == second == unit)
        root = isqrt(first * second - 1)
        root -= root % 2 if root >= 2 * unit else 0
        row[:] = np.array([first, second, root]) / unit
    return triples


def _geometric(n: int, condition: float) -> np.ndarray:
    return condition ** -np.linspace(0.0, 1.0, n)


def _arithmetic(n: int, condition: float) -> np.ndarray:
    return np.linspace(1.0, 1.0 / condition, n)


def _one_large(n: int, condition: float) -> np.ndarray:
    return np.append(1.0, np.full(n - 1, 1.0 / condition))


def _one_small(n: int, condition: float) -> np.ndarray:
    return np.append(np.ones(n - 1), 1.0 / condition)


SPECTRA: Mapping[str, Callable[[int, float], np.ndarray]] = MappingProxyType({
    "geometric": _geometric,
    "arithmetic": _arithmetic,
    "one_large": _one_large,
    "one_small": _one_small,
})
"""Eigenvalues in decreasing order from 1 to 1 / condition, by name (the modes of LAPACK's test generator)."""


def spd(n: int, *, condition: float = 1e3, spectrum: str = "geometric", seed: int = 0) -> np.ndarray:
    """A dense symmetric positive definite matrix with a prescribed spectrum and random eigenvectors.

    Its eigenvalues are those prescribed up to an absolute error of about n * 2^-53; a condition beyond 1e15
    can come out indefinite.

    Args:
        n: order, at least 2.
        condition: ratio of the largest eigenvalue, which is 1, to the smallest.
        spectrum: a name in SPECTRA.
        seed: of the eigenvectors, which are uniform over the orthogonal group.

    Returns:
        ``[n, n]``, exactly symmetric.

    Raises:
        ValueError: for an unknown spectrum.
    """
    if spectrum not in SPECTRA:
        raise ValueError(f"unknown spectrum {spectrum!r}; known are {', '.join(SPECTRA)}")
    Q, R = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    Q = Q * np.sign(np.diag(R))
    A = (Q * SPECTRA[spectrum](n, condition)) @ Q.T
    return (A + A.T) / 2


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


MATRICES: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType({
    "chain": chain,
    "chain_by_condition": chain_by_condition,
    "gram_chain": gram_chain,
    "spd": spd,
    "gradient_stream": gradient_stream,
})
"""The gallery by name: what a command line can ask for with plain numbers."""
