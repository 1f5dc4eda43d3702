"""The Chebyshev expansion of an inverse p-th root."""

import math

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.normalization import check_bound, normalized
from precond_lab.preconditioners.inverse_root.polynomial import static_exponent
from precond_lab.preconditioners.inverse_root.powers import Product
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Iterate, Setting, solved, unscaled


def expansion(p: int, degree: int, lower: float, upper: float) -> tuple[float, ...]:
    r"""Coefficients c_k of x^{-1/p} = c_0 + c_1 T_1(t) + c_2 T_2(t) + ... with t = (2 x - l - u) / (u - l).

    They are c_k = (2 - [k = 0]) / N sum_j f(cos a_j) cos(k a_j), a_j = pi (j + 1/2) / N, which equal the integrals up
    to coefficients of a degree of at least 2 N - k. These fall by (sqrt(kappa) - 1) / (sqrt(kappa) + 1), kappa = u / l,
    so N is 8 sqrt(kappa) more than the degree.

    Args:
        p: a positive integer.
        degree: of the last.
        lower: l, positive.
        upper: u, above l.

    Returns:
        c_0 to c_degree.

    Raises:
        ValueError: for a degree or an interval that is none of these.

    Example:
        >>> [round(c, 4) for c in expansion(1, 2, 1.0, 3.0)]  # 1 / x = (1 - 2 r T_1 + 2 r^2 T_2 - ...) / sqrt(3)
        [0.5774, -0.3094, 0.0829]
    """
    if degree < 1 or not 0 < lower < upper:
        raise ValueError(f"degree {degree} on [{lower}, {upper}] given; at least 1, and 0 < l < u, are wanted")
    count = degree + 8 * math.ceil(math.sqrt(upper / lower))
    values = []
    for j in range(count):
        t = math.cos(math.pi * (2 * j + 1) / (2 * count))
        values.append(((lower + upper) / 2 + (upper - lower) / 2 * t) ** (-1 / p))
    # Angles are reduced to one turn as integers: the product of k and a rounded angle is not accurate.
    cosines = [math.cos(math.pi * i / (2 * count)) for i in range(4 * count)]
    return tuple(
        math.fsum(v * cosines[k * (2 * j + 1) % (4 * count)] for j, v in enumerate(values)) * ((2 if k else 1) / count)
        for k in range(degree + 1)
    )


def clenshaw(S: jax.Array, coefficients: jax.Array, product: Product) -> jax.Array:
    """c_0 I + c_1 T_1(S) + ... by Clenshaw's recurrence, from the highest degree to the lowest.

    Args:
        S: ``[n, n]``, with eigenvalues in [-1, 1].
        coefficients: c_0 to c_d, d at least 1.
        product: of two matrices.

    Returns:
        ``[n, n]``. Cost: d products.
    """
    identity = identity_like(S)

    def step(pair: tuple[jax.Array, jax.Array], c: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        one, two = pair  # of index k + 1 and k + 2
        return (c * identity + (2 * product(S, one) - two), one), None

    start = jnp.zeros_like(S), jnp.zeros_like(S)
    (one, two), _ = jax.lax.scan(step, start, coefficients[:0:-1])
    return coefficients[0] * identity + (product(S, one) - two)


def chebyshev(
    A: jax.Array,
    p: int = 2,
    *,
    setting: Setting = DEFAULTS,
    degree: int = 64,
    lower: float = 2.0**-8,
    shifted: bool = False,
    bound: str = "infinity_norm",
) -> InverseRoot:
    r"""A^{-1/p} by a Chebyshev expansion of x^{-1/p}.

    M = 2^-e A has its eigenvalues in [l, 1]; S = (2 M - (1 + l) I) / (1 - l), and the expansion is summed by Clenshaw's
    recurrence. Its error is below tau for a degree of about sqrt(kappa) log(1 / tau) / 2 with kappa = 1 / l: a method
    for well-conditioned matrices, but one of products alone and without iteration. Eigenvalues below l get something
    near l^{-1/p}. The scale 2^{-e/p} is restored, which public code leaves to the optimizer.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer, static.
        setting: ridge, padding, tolerance, kernels.
        degree: of the expansion.
        lower: l, a lower bound of the eigenvalues of M.
        shifted: whether l is added to M first, and the interval is [l, 1 + l]: what DASH does (eps there). That is a
            ridge of 2^e l, and the residual shows it.
        bound: of the eigenvalues of A, a name in BOUNDS.

    Returns:
        The root; `steps` is the degree. Cost: as many products as the degree.

    Raises:
        ValueError: for a p that is traced or not a positive integer, an unknown bound, or numbers out of range.
    """
    p = static_exponent(p, "chebyshev")
    check_bound(bound)
    if not 0 < lower < 1:
        raise ValueError(f"lower {lower} given; a number in (0, 1) wanted")
    coefficients = expansion(p, degree, lower, 1 + lower if shifted else 1.0)

    def core(B: jax.Array) -> Iterate:
        M, e = normalized(B, bound)
        identity = identity_like(M)
        l = jnp.asarray(lower, M.dtype)
        # With the shift, M + l - l - 1/2 is formed as M - 1/2.
        S = 2 * M - identity if shifted else (2 * M - (1 + l) * identity) / (1 - l)
        X = clenshaw(S, jnp.asarray(coefficients, M.dtype), setting.kernels.product)
        return Iterate(unscaled(X, e, p), jnp.int32(degree), jnp.int32(Result.CONVERGED))

    return solved(A, p, setting, core)
