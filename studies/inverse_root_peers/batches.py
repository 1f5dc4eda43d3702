"""Cases in groups of one exponent, matrices in full batches."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np

from precond_lab import gallery

from .subjects import Found, roots

Case = Mapping[str, Any]
Measure = Callable[[Sequence[Case]], list[dict[str, Any]]]
BATCH = 32


def by_power(measure: Measure) -> Measure:
    """A measurement of cases with one p as one of cases with any.

    Args:
        measure: cases of one p to the figures of each.

    Returns:
        The same for any cases.
    """

    @wraps(measure)
    def measured(cases: Sequence[Case]) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for p in dict.fromkeys(case["p"] for case in cases):
            places = [i for i, case in enumerate(cases) if case["p"] == p]
            found.update(zip(places, measure([cases[i] for i in places]), strict=True))
        return [found[i] for i in range(len(cases))]

    return measured


def matrices(cases: Sequence[Case]) -> np.ndarray:
    """The matrices of cases with condition numbers.

    Args:
        cases: with n, condition and seed.

    Returns:
        In float64, ``[k, n, n]``.
    """
    return np.array([gallery.spd(c["n"], condition=c["condition"], seed=c["seed"]) for c in cases])


def filled(A: np.ndarray) -> np.ndarray:
    """A batch of the customary size, with the identity for what is missing: no second compilation.

    Args:
        A: ``[k, n, n]``, k at most BATCH.

    Returns:
        ``[BATCH, n, n]``.
    """
    batch = np.broadcast_to(np.eye(A.shape[1], dtype=A.dtype), (BATCH, *A.shape[1:])).copy()
    batch[: len(A)] = A
    return batch


def roots_of(subject: str, p: int, A: np.ndarray) -> Found:
    """The roots of any number of matrices.

    Args:
        subject: whose.
        p: of the roots.
        A: ``[k, n, n]``.

    Returns:
        What is known of them.
    """
    found = []
    for start in range(0, len(A), BATCH):
        some = A[start : start + BATCH]
        found.append(Found(*(x[: len(some)] for x in roots(subject, p, filled(some)))))
    return Found(*map(np.concatenate, zip(*found, strict=True)))
