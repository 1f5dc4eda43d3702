"""Newton's iterations for inverse p-th roots."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.iterations import Scheme, iterated, patience
from precond_lab.preconditioners.inverse_root.powers import Product, matrix_power, number_like, scale
from precond_lab.preconditioners.inverse_root.results import InverseRoot
from precond_lab.preconditioners.inverse_root.scalings import SCALINGS, Extremes
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Problem, Setting, finished, prepare


def coupled_newton(
    A: jax.Array,
    p: int | jax.Array = 2,
    *,
    setting: Setting = DEFAULTS,
    scaling: str = "frobenius",
    extremes: Extremes | None = None,
    steps: int = 100,
    switch: int | jax.Array = 0,
    early_product: Product | None = None,
) -> InverseRoot:
    r"""A^{-1/p} by the coupled Newton iteration of Iannazzo.

    With X_0 = z^{1/p} I and M_0 = z A, each step is, in this order,

        T = ((p+1) I - M) / p,    X <- X T,    M <- T^p M.

    Without rounding M = X^p A throughout. An eigenvalue m of M goes to f(m) = m ((p+1-m) / p)^p, and convergence to 1,
    of order 2, is from all of (0, p+1): there 0 < f(m) <= 1, by Bernoulli's inequality f(m) >= m (2 - m), so that
    \|f(m) - 1\| <= min(\|m - 1\|, (m - 1)^2). Small eigenvalues grow by (1+1/p)^p a step, between 2 and e: it takes
    about ln(1 / m) / (p ln(1+1/p)) steps until they are near one, and 4 or 5 more, with m the smaller of z lambda_min
    and f(z lambda_max). The latter is small if p is large and z lambda_max is not: f((p+1)/2) is about p 2^-p.

    In finite precision X and M go apart: M is never formed again from X and A, and a rounding error d of M in the
    direction of an eigenvalue m of it leaves the relative error d / (p m) in X, which no later step sees. That is what
    makes the iteration stable where the uncoupled one is not (the derivative at the fixed point is idempotent, and
    errors do not grow), and why \|M - I\| says nothing of the error of X. Since m grows at least twofold in each of the
    first steps, the errors made there dominate: the error relative to the root in the 2-norm is about
    c n u lambda_max / (p lambda_min), and these steps are the ones that need a wider format. Where u times the
    condition number is more than about ten, an eigenvalue of M gets negative by rounding, and goes to infinity.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer; it may be traced.
        setting: ridge, padding, tolerance, kernels.
        scaling: a name in SCALINGS.
        extremes: the smallest and the largest eigenvalue of A with its ridge, where the scaling asks for them and they
            are known; else it estimates them.
        steps: at most so many.
        switch: how many are early steps, in the scope ``early``, in which the start is as well.
        early_product: the product of matrices there; None for that of the setting.

    Returns:
        The root. Cost: 2 products of matrices a step, floor(log2 p), and one less than p has bits that are set: 3 for
        p = 2, 4 for p = 4. Storage: 3 matrices.

    Raises:
        ValueError: for a p that is no positive integer, an unknown scaling, an A that is not square, or a ridge that is
            none.
        TypeError: if A does not hold floating-point numbers.

    Sources: B. Iannazzo, On the Newton method for the matrix pth root, SIAM J. Matrix Anal. Appl. 28 (2006); C.-H. Guo
    and N. J. Higham, A Schur-Newton method for the matrix pth root and its inverse, ibid. (2006); N. J. Higham,
    Functions of Matrices, SIAM (2008), equation (7.18).

    Example:
        >>> import jax.numpy as jnp
        >>> r = coupled_newton(jnp.array([[10.0, 6.0], [6.0, 10.0]]), 2)
        >>> r.root.round(4).tolist()
        [[0.375, -0.125], [-0.125, 0.375]]
    """
    p = whole_exponent(p)

    def multiplier(M: jax.Array, k: jax.Array, product: Product) -> jax.Array:
        del k, product
        return newton_multiplier(M, p)

    return coupled(A, p, multiplier, setting, scaling, extremes, steps, switch, early_product)


def newton_multiplier(M: jax.Array, p: int | jax.Array) -> jax.Array:
    """T = ((p+1) I - M) / p.

    Args:
        M: ``[n, n]``.
        p: a positive integer; it may be traced.

    Returns:
        ``[n, n]``.
    """
    degree = number_like(M, p)
    return ((degree + 1) * identity_like(M) - M) / degree


Multiplier = Callable[[jax.Array, jax.Array, Product], jax.Array]
"""T from M, the number of steps that are done, and the product of matrices."""


def coupled(
    A: jax.Array,
    p: int | jax.Array,
    multiplier: Multiplier,
    setting: Setting,
    scaling: str,
    extremes: Extremes | None,
    steps: int,
    switch: int | jax.Array,
    early_product: Product | None,
) -> InverseRoot:
    """A^{-1/p} by an iteration X <- X T, M <- T^p M.

    Args:
        A: as for :func:`coupled_newton`, and so are the others that are not said here.
        p: a positive integer; it may be traced.
        multiplier: gives T.
        setting: as there.
        scaling: as there.
        extremes: as there.
        steps: as there.
        switch: as there.
        early_product: as there.

    Returns:
        The root.
    """

    def scheme(product: Product) -> Scheme:
        def advance(state: tuple) -> tuple:
            X, M, k = state
            T = multiplier(M, k, product)
            return product(X, T), product(matrix_power(T, p, product), M), k + 1

        wait = patience(problem.B.shape[0], p)
        return Scheme(advance, lambda state: distance_from_identity(state[1]), lambda state: state[0], wait)

    problem = prepare(A, setting)
    late = setting.kernels.product
    with jax.named_scope("early"):
        start = *started(problem, p, scaling, extremes), jnp.int32(0)
    found = iterated(scheme(early_product or late), scheme(late), start, steps, switch)
    return finished(problem, found, p, setting)


def distance_from_identity(M: jax.Array) -> jax.Array:
    """|M - I|_F.

    Args:
        M: ``[n, n]``.

    Returns:
        A scalar.
    """
    D = M - identity_like(M)
    return jnp.sqrt(jnp.sum(D * D))


def started(
    problem: Problem, p: int | jax.Array, scaling: str, extremes: Extremes | None
) -> tuple[jax.Array, jax.Array]:
    """X_0 = z^{1/p} I and M_0 = z B, where X^p B = M.

    Rows that are padding begin at their fixed point, and have no part in z.

    Args:
        problem: with B.
        p: a positive integer; it may be traced.
        scaling: a name in SCALINGS.
        extremes: the smallest and the largest eigenvalue of the matrix that was given, or None.

    Returns:
        The two matrices.

    Raises:
        ValueError: for an unknown scaling.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling {scaling!r} given; known are {', '.join(SCALINGS)}")
    B = problem.B
    both = problem.counts[:, None] & problem.counts
    if extremes is not None:
        low, high = (scale(jnp.full_like(B, x, shape=()), -problem.exponent) for x in extremes)
        extremes = low, high
    z = SCALINGS[scaling](jnp.where(both, B, jnp.zeros_like(B)), p, extremes)
    identity = identity_like(B)
    root = z ** (1 / number_like(B, p))
    return jnp.where(both, root * identity, identity), jnp.where(both, z * B, identity)


def newton(
    A: jax.Array,
    p: int | jax.Array = 2,
    *,
    setting: Setting = DEFAULTS,
    scaling: str = "frobenius",
    extremes: Extremes | None = None,
    steps: int = 100,
    switch: int | jax.Array = 0,
    early_product: Product | None = None,
) -> InverseRoot:
    r"""A^{-1/p} by Newton's iteration with X alone, which is unstable: it is here to be looked at.

    With X_0 = z^{1/p} I each step is

        M = X^p A,    X <- X ((p+1) I - M) / p.

    Without rounding these are the X of :func:`coupled_newton`, and so are region and order. But here an error of X need
    not commute with A: in the direction v_i v_j^T of eigenvectors a step multiplies it by (1/p) \|p - (rho^{1/p} +
    rho^{2/p} + ... + rho)\|, rho = lambda_j / lambda_i (:func:`uncoupled_gain`), which exceeds one as soon as the
    condition number exceeds :func:`uncoupled_threshold`: 2.4 for p = 2, 2.8 for p = 4. Rounding errors then grow in
    each step, the more the larger it is. Since the error is that of a residual that is formed afresh, growth is seen,
    and the best iterate is returned.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer; it may be traced.
        setting: ridge, padding, tolerance, kernels.
        scaling: a name in SCALINGS.
        extremes: as for :func:`coupled_newton`.
        steps: at most so many.
        switch: how many are early steps, in the scope ``early``.
        early_product: the product of matrices there; None for that of the setting.

    Returns:
        The root. Cost: as :func:`coupled_newton`. Storage: 3 matrices.

    Raises:
        ValueError: for a p that is no positive integer, an unknown scaling, an A that is not square, or a ridge that is
            none.
        TypeError: if A does not hold floating-point numbers.

    Sources: Higham, Functions of Matrices, section 7.3; M. I. Smith, A Schur algorithm for computing matrix pth roots,
    SIAM J. Matrix Anal. Appl. 24 (2003), on the instability.

    Example:
        >>> import jax.numpy as jnp
        >>> r = newton(jnp.array([[10.0, 2.0], [2.0, 10.0]]), 1)
        >>> (96 * r.root).round(3).tolist()
        [[10.0, -2.0], [-2.0, 10.0]]
    """
    p = whole_exponent(p)
    problem = prepare(A, setting)

    def scheme(product: Product) -> Scheme:
        def advance(state: tuple) -> tuple:
            X, M = state
            X = product(X, newton_multiplier(M, p))
            return X, product(matrix_power(X, p, product), problem.B)

        return Scheme(advance, lambda state: distance_from_identity(state[1]), lambda state: state[0])

    late = setting.kernels.product
    with jax.named_scope("early"):
        start = started(problem, p, scaling, extremes)
    return finished(problem, iterated(scheme(early_product or late), scheme(late), start, steps, switch), p, setting)


def uncoupled_gain(ratio: float, p: int) -> float:
    """By what a step of the uncoupled iteration multiplies an error along v_i v_j^T, near the root.

    Args:
        ratio: rho = lambda_j / lambda_i.
        p: a positive integer.

    Returns:
        (1/p) |p - (rho^{1/p} + ... + rho^{p/p})|.

    Example:
        >>> round(uncoupled_gain(3.0, 2), 4)
        1.366
    """
    return abs(p - sum(ratio ** (r / p) for r in range(1, p + 1))) / p


def uncoupled_threshold(p: int) -> float:
    """The condition number from which the uncoupled iteration is unstable: the rho of gain one.

    The sum grows with rho, and makes the gain one where it is 2 p; ratios below one have gains below one.

    Args:
        p: a positive integer.

    Returns:
        The condition number, to the last digits of a Python float.

    Example:
        >>> [round(uncoupled_threshold(p), 3) for p in (1, 2, 4)]
        [2.0, 2.438, 2.834]
    """
    low, high = 1.0, 4.0  # of gain 0, and above the limit for large p, where (rho - 1) / ln rho = 2
    while (middle := (low + high) / 2) not in {low, high}:
        low, high = (middle, high) if uncoupled_gain(middle, p) < 1 else (low, middle)
    return low
