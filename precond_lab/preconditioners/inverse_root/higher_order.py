"""Iterations of higher order for inverse p-th roots."""

import jax
from jax import lax

from precond_lab.linalg.matrices import identity_like
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.newton import coupled, newton_multiplier
from precond_lab.preconditioners.inverse_root.powers import Product, number_like
from precond_lab.preconditioners.inverse_root.results import InverseRoot
from precond_lab.preconditioners.inverse_root.scalings import Extremes
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Setting

ORDERS = range(2, 7)
"""That are known here."""


def coupled_higher_order(
    A: jax.Array,
    p: int | jax.Array = 2,
    *,
    order: int = 3,
    setting: Setting = DEFAULTS,
    scaling: str = "trace",
    extremes: Extremes | None = None,
    newton_steps: int | jax.Array = 0,
    steps: int = 100,
    switch: int | jax.Array = 0,
    early_product: Product | None = None,
) -> InverseRoot:
    r"""A^{-1/p} by the coupled iteration of order m of Lakic.

    With X_0 = z^{1/p} I, M_0 = z A and E = I - M, each step is, in this order,

        T = I + r_1 E (I + r_2 E (... (I + r_{m-1} E))),    X <- X T,    M <- T^p M,

    where r_i = (1 + (i-1) p) / (i p), so that T is the Taylor polynomial of degree m - 1 of (I - E)^{-1/p}; for m = 2
    it is that of Newton. Each r_i is formed by one division: numerator and denominator are exact in every format of 8
    bits of precision for p up to 51.

    An eigenvalue x of E goes to h(x) = 1 - (1-x) t(x)^p, where t is the polynomial. All coefficients of h are positive
    or zero, and their sum h(1) is one: since (i p) r_i = 1 + (i-1) p, all terms of p (1-x) t' - t but the last cancel,
    and h' = c x^{m-1} t^{p-1} with c > 0. As h begins with x^m, \|h(x)\| <= \|x\|^m for \|x\| < 1: the order is m, and
    the region for eigenvalues of M is (0, 2). Hence the start z = 1 / tr A, by which they are at most one. For larger
    ones only Newton's step is safe; `newton_steps` of them can go first, as Meta's implementation does with one, and
    then any scaling of :func:`coupled_newton` serves, since one step maps (0, p+1) into (0, 1].

    A step makes small eigenvalues larger by t(1)^p, which is what saves steps; it takes m - 2 products more. That is
    fewer steps, not less work. Rounding acts as in :func:`coupled_newton`; the error per step is larger by the products
    in T, the steps that contribute are fewer.

    Args:
        A: symmetric positive definite, ``[n, n]``.
        p: a positive integer; it may be traced.
        order: m, from 2 to 6.
        setting: ridge, padding, tolerance, kernels.
        scaling: a name in SCALINGS; one that makes eigenvalues larger than 2 needs a Newton step.
        extremes: as for :func:`coupled_newton`.
        newton_steps: how many of the first steps are Newton's.
        steps: at most so many.
        switch: how many are early steps, in the scope ``early``, in which the start is as well.
        early_product: the product of matrices there; None for that of the setting.

    Returns:
        The root. Cost: m products of matrices a step, floor(log2 p), and one less than p has bits that are set.
        Storage: 4 matrices.

    Raises:
        ValueError: for an order that is none of 2 to 6, a p that is no positive integer, an unknown scaling, an A that
            is not square, or a ridge that is none.
        TypeError: if A does not hold floating-point numbers.

    Sources: S. Lakic, On the computation of the matrix k-th root, Z. Angew. Math. Mech. 78 (1998); H.-J. M. Shi et al.,
    A distributed data-parallel PyTorch implementation of the distributed Shampoo optimizer (2023), for its use.

    Example:
        >>> import jax.numpy as jnp
        >>> r = coupled_higher_order(jnp.array([[10.0, 6.0], [6.0, 10.0]]), 2, order=4)
        >>> r.root.round(4).tolist()
        [[0.375, -0.125], [-0.125, 0.375]]
    """
    p = whole_exponent(p)
    if order not in ORDERS:
        raise ValueError(f"order {order!r} given; it must be one of {', '.join(map(str, ORDERS))}")

    def multiplier(M: jax.Array, k: jax.Array, product: Product) -> jax.Array:
        return lax.cond(
            k < newton_steps,
            lambda M: newton_multiplier(M, p),
            lambda M: taylor_multiplier(M, p, order, product),
            M,
        )

    return coupled(A, p, multiplier, setting, scaling, extremes, steps, switch, early_product)


def taylor_multiplier(M: jax.Array, p: int | jax.Array, order: int, product: Product) -> jax.Array:
    """The Taylor polynomial of M^{-1/p} at the identity, of degree order - 1, nested.

    Args:
        M: ``[n, n]``.
        p: a positive integer; it may be traced.
        order: at least 2.
        product: of two matrices.

    Returns:
        ``[n, n]``. Cost: order - 2 products.
    """
    identity = identity_like(M)
    degree = number_like(M, p)
    E = identity - M

    def ratio(i: int) -> jax.Array:
        return (1 + (i - 1) * degree) / (i * degree)

    T = identity + ratio(order - 1) * E
    for i in reversed(range(1, order - 1)):
        T = identity + ratio(i) * product(E, T)
    return T
