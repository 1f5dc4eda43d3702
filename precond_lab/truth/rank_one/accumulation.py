"""The matrix that updates of rank one accumulate: exactly, and in balls.

C_0 is given, and a step is C <- beta C + alpha (v_1 v_1^T + ... + v_k v_k^T), k = 1 for updates of rank one.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple

import numpy as np
from flint import arb_mat, fmpz_mat
from numpy.typing import ArrayLike

from precond_lab.truth.inverse_root.balls import ball, balls, symmetric_rationals
from precond_lab.truth.rank_one.factorizations import exact

Step = list[list[Fraction]]
"""The vectors of one step, [k][n]."""


class Problem(NamedTuple):
    """What is accumulated, in rationals.

    Attributes:
        C0: the rows of the first matrix, symmetric.
        steps: the vectors of each step.
        beta: the decay.
        alpha: the weight.
        every: how many steps lie between two times that are asked for.
    """

    C0: list[list[Fraction]]
    steps: list[Step]
    beta: Fraction
    alpha: Fraction
    every: int


def accumulated(C0: ArrayLike, V: ArrayLike, beta: Any, alpha: Any = None, *, every: int | None = None) -> np.ndarray:
    """The accumulated matrix, without any rounding.

    Args:
        C0: the first matrix, symmetric ``[n, n]``, or its diagonal ``[n]``: floats of any format (taken as they are,
            bit by bit), rationals, or mpmath numbers.
        V: the vectors, ``[steps, n]``, or ``[steps, k, n]`` for steps of rank k; of the same kinds.
        beta: the decay, likewise a number of any kind; 0.99 is that binary64 number and no other.
        alpha: the weight; exactly 1 - beta where None.
        every: how many steps lie between two matrices that are returned; it divides the number of steps. None: the last
            alone is returned.

    Returns:
        ``[n, n]`` of Fraction, or ``[steps / every, n, n]`` with the matrices after `every`, 2 `every`, ... steps. The
        digits of the numbers grow with the steps by those of beta. Cost: steps n^2 products of whole numbers.

    Raises:
        ValueError: for shapes that do not fit, an asymmetric C0, numbers that are not finite, or beta negative.
        TypeError: for complex numbers.

    Example:
        >>> accumulated([1, 1], [[1, 0], [1, 2]], beta=Fraction(1, 2)).tolist()[1]
        [Fraction(1, 1), Fraction(9, 4)]
    """
    problem = stated(C0, V, beta, alpha, every)
    if problem is None:
        raise ValueError("an infinity or a NaN given; wanted finite numbers")
    matrices = [_fractions(*pair) for pair in whole_numbers(problem)]
    return matrices[-1] if every is None else np.stack(matrices)


def stated(C0: ArrayLike, V: ArrayLike, beta: Any, alpha: Any, every: int | None) -> Problem | None:
    """The arguments of `accumulated` in rationals.

    Args:
        C0: as there.
        V: as there.
        beta: as there.
        alpha: as there.
        every: as there.

    Returns:
        The problem; None where a number is not finite.

    Raises:
        ValueError: for arguments that do not fit together.
    """
    first, vectors = np.asarray(C0), np.asarray(V)
    if first.ndim not in {1, 2} or first.shape[0] != first.shape[-1]:
        raise ValueError(f"C0 has shape {first.shape}; give [n, n], or its diagonal [n]")
    first, n = np.diag(first) if first.ndim == 1 else first, len(first)
    if vectors.ndim not in {2, 3} or vectors.shape[-1] != n or 0 in vectors.shape[1:]:
        raise ValueError(f"V has shape {vectors.shape}; with a C0 of order {n} give [steps, {n}] or [steps, k, {n}]")
    if np.ndim(beta) or np.ndim(alpha):
        raise ValueError(f"beta = {beta} and alpha = {alpha} given; each is a number")
    count = len(vectors)
    if every is not None and (every < 1 or not count or count % every):
        raise ValueError(f"every = {every} given for {count} steps; give a divisor of the number of steps")
    numbers = [_exact(x) for x in (first, vectors, np.asarray(beta), np.asarray(0 if alpha is None else alpha))]
    if any(x is None for x in numbers):
        return None
    first, vectors, decay, weight = (x for x in numbers if x is not None)
    decay, weight = decay.item(), weight.item()
    rows = symmetric_rationals(first)
    if decay < 0:
        raise ValueError(f"beta is {beta}; a decay is zero or positive")
    steps = (vectors if vectors.ndim == 3 else vectors[:, None]).tolist()
    return Problem(rows or [], steps, decay, 1 - decay if alpha is None else weight, every or max(count, 1))


def _exact(x: np.ndarray) -> np.ndarray | None:
    """The numbers of an array as rationals; None where one is not finite."""
    values = [exact(stored) for stored in x.ravel().tolist()]
    return None if None in values else np.array([*values, None], dtype=object)[:-1].reshape(x.shape)


def whole_numbers(problem: Problem) -> Iterator[tuple[fmpz_mat, int]]:
    """The matrices that are asked for as quotients of whole numbers.

    With beta = p / q, alpha = a / c, C_0 = M / m and v = w / d in whole numbers, C_t = X_t / (m c d^2 q^t), where
    X_0 = c d^2 M and X_t = p X_{t-1} + (a m q^t) w w^T: no common factor is looked for.

    Args:
        problem: what is accumulated.

    Yields:
        X_t and its denominator, positive.
    """
    p, q = problem.beta.numerator, problem.beta.denominator
    a, c = problem.alpha.numerator, problem.alpha.denominator
    m = lcm(*(x.denominator for row in problem.C0 for x in row))
    d = lcm(*(x.denominator for step in problem.steps for row in step for x in row))
    X = fmpz_mat(_scaled(problem.C0, m)) * (c * d * d)
    denominator, power = m * c * d * d, 1
    for t, step in enumerate(problem.steps, 1):
        w = fmpz_mat(_scaled(step, d))
        power *= q
        X = X * p + w.transpose() * w * (a * m * power)
        if t % problem.every == 0:
            yield X, denominator * power
    if not problem.steps:
        yield X, denominator


def in_balls(problem: Problem) -> Iterator[arb_mat]:
    """The matrices that are asked for in balls of the precision at hand, one product of matrices for each.

    Args:
        problem: what is accumulated.

    Yields:
        C_t, the last of them after the last step.
    """
    C, beta, alpha, every = balls(problem.C0), ball(problem.beta), ball(problem.alpha), problem.every
    powers = [ball(Fraction(1))]
    for _ in range(every):
        powers.append(powers[-1] * beta)
    for start in range(0, len(problem.steps), every):
        block = problem.steps[start : start + every]
        V = arb_mat([[ball(x) for x in row] for step in block for row in step])
        weights = [alpha * powers[every - 1 - t] for t, step in enumerate(block) for _ in step]
        weighted = arb_mat([[w * x for x in row] for w, row in zip(weights, V.tolist(), strict=True)])
        C = C * powers[every] + V.transpose() * weighted
        yield C
    if not problem.steps:
        yield C


def _scaled(rows: Sequence[Sequence[Fraction]], denominator: int) -> list[list[int]]:
    return [[x.numerator * (denominator // x.denominator) for x in row] for row in rows]


def _fractions(X: fmpz_mat, denominator: int) -> np.ndarray:
    values = np.empty((X.nrows(), X.ncols()), dtype=object)
    for i, row in enumerate(X.tolist()):
        values[i] = [Fraction(int(x), denominator) for x in row]
    return values
