"""The methods in one table, and the one signature by which all of them are called."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax

from precond_lab.preconditioners.inverse_root.chebyshev import chebyshev
from precond_lab.preconditioners.inverse_root.exponents import Exponent
from precond_lab.preconditioners.inverse_root.foreign import foreign, optax_root
from precond_lab.preconditioners.inverse_root.higher_order import coupled_higher_order
from precond_lab.preconditioners.inverse_root.newton import coupled_newton, newton
from precond_lab.preconditioners.inverse_root.newton_schulz import newton_schulz
from precond_lab.preconditioners.inverse_root.polynomial import minimax_polynomial
from precond_lab.preconditioners.inverse_root.rational import rational_minimax
from precond_lab.preconditioners.inverse_root.refined import refined
from precond_lab.preconditioners.inverse_root.results import InverseRoot
from precond_lab.preconditioners.inverse_root.schur_newton import schur_newton
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Setting
from precond_lab.preconditioners.inverse_root.spectral import eigen, svd
from precond_lab.preconditioners.inverse_root.tracking import TrackedRoot, tracked

Method = Callable[..., InverseRoot | TrackedRoot]
"""Takes A, p, and the keyword ``setting`` beside options of its own."""

METHODS: Mapping[str, Method] = MappingProxyType({
    "eigen": eigen,
    "svd": svd,
    "refined": refined,
    "tracked": tracked,
    "coupled_newton": coupled_newton,
    "coupled_higher_order": coupled_higher_order,
    "newton": newton,
    "newton_schulz": newton_schulz,
    "minimax_polynomial": minimax_polynomial,
    "rational_minimax": rational_minimax,
    "chebyshev": chebyshev,
    "schur_newton": schur_newton,
    "optax": foreign(optax_root),
})
"""All methods by name; `newton` is unstable, and `optax` is somebody else's: both are here to be judged."""


def inverse_root(
    A: jax.Array, p: Exponent = 2, *, method: str = "coupled_newton", setting: Setting = DEFAULTS, **options: Any
) -> InverseRoot | TrackedRoot:
    """A^{-1/p} of a symmetric positive definite matrix, by a method of the table.

    A derivative is that of the program's steps. Forward mode (`jax.jvp`) goes through all of them. Reverse mode
    (`jax.grad`) goes through `rational_minimax` and `chebyshev`, which take a fixed number of steps, and with the
    kernels LIBRARY through `eigen`, `svd`, `refined` and `tracked`; the others loop until they are at rest, and JAX
    raises ValueError. Where eigenvalues coincide, the root has a derivative that an eigen-decomposition has not: of
    `eigen`, `svd` and `tracked` it is NaN with LIBRARY and wrong, without a sign of it, with LOOPS, and so is that of
    `schur_newton`. The iterations and `rational_minimax` have it right.

    Args:
        A: ``[n, n]``; a batch of matrices goes through `jax.vmap`.
        p: a positive integer; for some methods it may be traced, or a fraction.
        method: a name in METHODS.
        setting: ridge, padding, tolerance of the residual, linear algebra: for all methods.
        **options: of the method.

    Returns:
        The root, with the result, the steps and the residual; from `tracked`, with the basis as well. A breakdown is a
        result, not an exception: ``Result(int(r.result)).prose`` explains it.

    Raises:
        ValueError: for an unknown method, an A that is not square, or a p that the method does not take.
        TypeError: if A does not hold floating-point numbers, or for an option that the method does not have.

    Example:
        >>> import jax.numpy as jnp
        >>> r = inverse_root(jnp.array([[10.0, 6.0], [6.0, 10.0]]), 2, method="eigen")
        >>> r.root.round(4).tolist()
        [[0.375, -0.125], [-0.125, 0.375]]
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} given; known are {', '.join(METHODS)}")
    return METHODS[method](A, p, setting=setting, **options)
