"""Eigenvalues by name, and eigenvectors by seed."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np


def _geometric(n: int, condition: float) -> np.ndarray:
    return condition ** -np.linspace(0.0, 1.0, n)


def _arithmetic(n: int, condition: float) -> np.ndarray:
    return np.linspace(1.0, 1.0 / condition, n)


def _one_large(n: int, condition: float) -> np.ndarray:
    return np.append(1.0, np.full(n - 1, 1.0 / condition))


def _one_small(n: int, condition: float) -> np.ndarray:
    return np.append(np.ones(n - 1), 1.0 / condition)


def _clustered(n: int, condition: float) -> np.ndarray:
    return condition ** (-np.round(np.linspace(0.0, 2.0, n)) / 2)


SPECTRA: Mapping[str, Callable[[int, float], np.ndarray]] = MappingProxyType({
    "geometric": _geometric,
    "arithmetic": _arithmetic,
    "one_large": _one_large,
    "one_small": _one_small,
    "clustered": _clustered,
})
"""Eigenvalues in decreasing order from 1 to 1 / condition, by name.

The modes of LAPACK's test generator, and "clustered": three values, the middle one for about half of the eigenvalues.
"""


def eigenvalues(n: int, condition: float, spectrum: str) -> np.ndarray:
    """The eigenvalues that a name stands for.

    Args:
        n: how many, at least 2.
        condition: ratio of the largest, which is 1, to the smallest.
        spectrum: a name in SPECTRA.

    Returns:
        ``[n]``, in decreasing order.

    Raises:
        ValueError: for an unknown spectrum.
    """
    if spectrum not in SPECTRA:
        raise ValueError(f"unknown spectrum {spectrum!r}; known are {', '.join(SPECTRA)}")
    return SPECTRA[spectrum](n, condition)


def orthogonal(n: int, seed: int) -> np.ndarray:
    """An orthogonal matrix, uniform over the group.

    Args:
        n: order.
        seed: of the draw.

    Returns:
        ``[n, n]``, orthogonal up to about n * 2^-53.
    """
    Q, R = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    return Q * np.sign(np.diag(R))
