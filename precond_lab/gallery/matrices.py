"""Test matrices by structure, condition, spectrum, and seed.

Banded matrices are in SciPy's lower form, ``H[k, i]`` = H_{i+k,i}, as the LogDet programs take them.
"""

from collections.abc import Callable, Mapping
from math import isqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from precond_lab.gallery.spectra import SPECTRA, eigenvalues, orthogonal
from precond_lab.gallery.streams import gradient_stream


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
    return _rotated(eigenvalues(n, condition, spectrum), seed)


def _rotated(values: np.ndarray, seed: int) -> np.ndarray:
    Q = orthogonal(len(values), seed)
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


def diagonal(n: int, *, condition: float = 1e3, spectrum: str = "geometric", seed: int = 0) -> np.ndarray:
    """A diagonal matrix with a prescribed spectrum, exactly.

    Args:
        n: order, at least 2.
        condition: ratio of the largest eigenvalue, which is 1, to the smallest.
        spectrum: a name in SPECTRA.
        seed: of the order of the eigenvalues on the diagonal.

    Returns:
        ``[n, n]``.

    Raises:
        ValueError: for an unknown spectrum.
    """
    return np.diag(np.random.default_rng(seed).permutation(eigenvalues(n, condition, spectrum)))


def indefinite(n: int, *, condition: float = 1e3, negative: float = 1e-6, seed: int = 0) -> np.ndarray:
    """A geometric spectrum whose smallest eigenvalue is replaced by a negative one.

    Args:
        n: order, at least 2.
        condition: of the spectrum before.
        negative: magnitude of the negative eigenvalue; the largest is 1. As for :func:`spd`, the eigenvalues are met up
            to about n * 2^-53.
        seed: of the eigenvectors.

    Returns:
        ``[n, n]``, exactly symmetric.
    """
    values = SPECTRA["geometric"](n, condition)
    values[-1] = -negative
    return _rotated(values, seed)


def asymmetric(n: int, *, condition: float = 1e3, amount: float = 2.0**-24, seed: int = 0) -> np.ndarray:
    """A positive definite matrix that is not quite symmetric: what a product formed in low precision leaves.

    Args:
        n: order, at least 2.
        condition: of the symmetric part.
        amount: magnitude of its entries' relative changes, whose signs are opposite above and below the diagonal.
        seed: of the eigenvectors and the signs.

    Returns:
        ``[n, n]``.
    """
    signs = np.triu(np.random.default_rng([seed, 1]).choice([-1.0, 1.0], (n, n)), 1)
    return spd(n, condition=condition, seed=seed) * (1 + amount * (signs - signs.T))


def toeplitz(n: int, *, condition: float = 1e3, seed: int = 0) -> np.ndarray:
    """A tridiagonal matrix of the second difference, shifted, with signs: eigenvalues in closed form.

    The diagonal is 2 c + s, the off-diagonal entries are c or -c, and the eigenvalues 2 c (1 + cos(k pi / (n + 1))) + s
    for k = 1 ... n, whatever the signs; c and s make the largest 1 and the smallest 1 / condition.

    Args:
        n: order, at least 2.
        condition: ratio of the largest eigenvalue, which is 1, to the smallest.
        seed: of the signs.

    Returns:
        ``[n, n]``, exactly symmetric.
    """
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], n - 1)
    c = (1 - 1 / condition) / (4 * np.cos(np.pi / (n + 1)))
    shift = 1 - 2 * c * (1 + np.cos(np.pi / (n + 1)))
    return np.diag(np.full(n, 2 * c + shift)) + np.diag(c * signs, 1) + np.diag(c * signs, -1)


def rank_deficient(n: int, *, rank: int, ridge: float = 0.0, seed: int = 0) -> np.ndarray:
    """The product of a matrix of small integers with its transpose, plus a ridge: without one, exactly singular.

    Args:
        n: order.
        rank: number of columns of the factor; below n.
        ridge: what is added to the diagonal, which rounds the sum.
        seed: of the factor, whose entries are uniform on -3 ... 3.

    Returns:
        ``[n, n]``, exactly symmetric.
    """
    G = np.random.default_rng(seed).integers(-3, 4, (n, rank)).astype(float)
    return G @ G.T + ridge * np.eye(n)


def graded(n: int, *, condition: float = 10.0, binades: int = 40, seed: int = 0) -> np.ndarray:
    """D C D with a well-conditioned C and a diagonal D of powers of two: its small eigenvalues are well determined.

    Relative changes of the entries move every eigenvalue by no more than they move those of C.

    Args:
        n: order, at least 2.
        condition: of C.
        binades: D falls from 1 to 2^-binades.
        seed: of C.

    Returns:
        ``[n, n]``, exactly symmetric.
    """
    exponents = -np.round(np.linspace(0, binades, n)).astype(int)
    return np.ldexp(spd(n, condition=condition, seed=seed), np.add.outer(exponents, exponents))


def block_scales(n: int, *, condition: float = 1e3, decades: float = 8.0, seed: int = 0) -> np.ndarray:
    """Three diagonal blocks of very different scale, as the layers of a network have.

    Args:
        n: order, at least 6.
        condition: of each block.
        decades: the blocks are scaled by 10^-decades, 1 and 10^decades.
        seed: of the blocks.

    Returns:
        ``[n, n]``, exactly symmetric.
    """
    A, edges = np.zeros((n, n)), [0, n // 3, 2 * n // 3, n]
    for k, scale in enumerate(10.0 ** np.array([-decades, 0.0, decades])):
        block = slice(edges[k], edges[k + 1])
        A[block, block] = scale * spd(edges[k + 1] - edges[k], condition=condition, seed=3 * seed + k)
    return A


def wishart_average(
    n: int, *, columns: int = 4, steps: int = 100, decay: float = 0.99, decades: float = 1.0, seed: int = 0
) -> np.ndarray:
    """The decaying average of G G^T over normal gradients, Shampoo's statistics: A <- decay A + (1 - decay) G G^T.

    Args:
        n: order: rows of a gradient.
        columns: of a gradient; the rank is at most steps * columns.
        steps: number of gradients.
        decay: in [0, 1).
        decades: standard deviations of the rows are log-uniform between 10^-decades and 1.
        seed: of the gradients.

    Returns:
        ``[n, n]``, exactly symmetric.
    """
    generator = np.random.default_rng(seed)
    scale = 10.0 ** -(decades * generator.random((n, 1)))
    A = np.zeros((n, n))
    for _ in range(steps):
        G = scale * generator.standard_normal((n, columns))
        A = decay * A + (1 - decay) * (G @ G.T)
    return (A + A.T) / 2


MATRICES: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType({
    "chain": chain,
    "chain_by_condition": chain_by_condition,
    "gram_chain": gram_chain,
    "spd": spd,
    "diagonal": diagonal,
    "indefinite": indefinite,
    "asymmetric": asymmetric,
    "toeplitz": toeplitz,
    "rank_deficient": rank_deficient,
    "graded": graded,
    "block_scales": block_scales,
    "wishart_average": wishart_average,
    "gradient_stream": gradient_stream,
})
"""The gallery by name: what a command line can ask for with plain numbers."""
