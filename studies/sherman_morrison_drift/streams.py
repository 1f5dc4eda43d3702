"""Streams of vectors, and the matrices that accumulate of them."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from precond_lab import gallery


class Stream(NamedTuple):
    """A stream.

    Attributes:
        C: the matrix before the first step, ``[n, n]``, in float64.
        V: ``[steps, n]``, numbers of float32 in float64.
    """

    C: np.ndarray
    V: np.ndarray


class Truth(NamedTuple):
    """What a stream accumulates to, at some steps.

    Attributes:
        P: the inverses, ``[times, n, n]``.
        L: Cholesky factors of the matrices, ``[times, n, n]``.
        condition: the largest condition number.
    """

    P: np.ndarray
    L: np.ndarray
    condition: float


@lru_cache(maxsize=64)
def stream(kind: str, n: int, steps: int, condition: float, seed: int) -> Stream:
    """Normal vectors whose covariance is C, the eigenvalues in geometric progression around one.

    Args:
        kind: "rotated", by a random orthogonal matrix; "graded": C is diagonal; "from one": rotated, and the
            matrix before
            the first step is the identity.
        n: order.
        steps: how many vectors.
        condition: of C.
        seed: of rotation and vectors.

    Returns:
        The stream.
    """
    generator = np.random.default_rng([seed, n])
    w = gallery.SPECTRA["geometric"](n, condition) * condition**0.5
    Q = np.linalg.qr(generator.standard_normal((n, n)))[0] if kind != "graded" else np.eye(n)
    V = (generator.standard_normal((steps, n)) * np.sqrt(w)) @ Q.T
    C = np.eye(n) if kind == "from one" else (Q * w) @ Q.T
    return Stream((C + C.T) / 2, V.astype(np.float32).astype(np.float64))


def accumulated(C: np.ndarray, V: np.ndarray, beta: float, alpha: float, every: int) -> np.ndarray:
    """The matrices after every so many steps, in float64.

    Their relative error is at most about m 2^-53 with m = 1 / (1 - beta) or the number of steps, that of their inverses
    that times the condition number: for 1e5 and m = 64 less than 1e-9, far below the rounding of 16 bits and below that
    of float32 times the condition number.

    Args:
        C: ``[n, n]``.
        V: ``[steps, n]``, or ``[steps, k, n]``, of which the first alone decays.
        beta: decay.
        alpha: weight.
        every: divides the number of steps.

    Returns:
        ``[times, n, n]``.
    """
    k = V[0].reshape(-1, V.shape[-1]).shape[0]
    weights = np.repeat(alpha * beta ** np.arange(every - 1, -1.0, -1.0), k)
    found = []
    for part in V.reshape(len(V) // every, every * k, V.shape[-1]):
        C = beta**every * C + (part.T * weights) @ part
        found.append((C + C.T) / 2)
    return np.array(found)


def truth_of(matrices: np.ndarray) -> Truth:
    """The inverses of matrices, their Cholesky factors and largest condition number.

    Args:
        matrices: ``[times, n, n]``, positive definite.

    Returns:
        The truth.
    """
    w, Q = np.linalg.eigh(matrices)
    P = (Q / w[:, None, :]) @ Q.swapaxes(-1, -2)
    return Truth(P, np.linalg.cholesky(matrices), float((w[:, -1] / w[:, 0]).max()))


@lru_cache(maxsize=512)
def truth(kind: str, n: int, steps: int, condition: float, seed: int, beta: float, every: int) -> Truth:
    """What an exponential average of a stream comes to.

    Args:
        kind: of stream.
        n: order.
        steps: how many.
        condition: of the stream.
        seed: of the stream.
        beta: decay, as float32 holds it.
        every: how many steps lie between two that are looked at.

    Returns:
        The truth.
    """
    C, V = stream(kind, n, steps, condition, seed)
    return truth_of(accumulated(C, V, beta, 1 - beta, every))


def errors(P: np.ndarray, exact: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of inverses: in the Frobenius norm, and against the curvature, |L^T P L - I|_2.

    The second is one at least where P is not positive definite.

    Args:
        P: ``[times, n, n]``.
        exact: at the same times.

    Returns:
        Both, ``[times]``; infinite where P is not finite.
    """
    finite = np.asarray(np.isfinite(P).all((-2, -1)))
    safe = np.where(finite[:, None, None], P, 0.0)
    norm = np.linalg.norm(safe - exact.P, axis=(-2, -1)) / np.linalg.norm(exact.P, axis=(-2, -1))
    D = exact.L.swapaxes(-1, -2) @ ((safe + safe.swapaxes(-1, -2)) / 2) @ exact.L
    against = np.abs(np.linalg.eigvalsh(D - np.eye(D.shape[-1]))).max(-1)
    return np.where(finite, norm, np.inf), np.where(finite, against, np.inf)
