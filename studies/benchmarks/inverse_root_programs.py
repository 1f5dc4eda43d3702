"""The root functions that are timed, compiled for a size and an exponent."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

from precond_lab.linalg.matrices import product
from precond_lab.preconditioners import inverse_root as ir

SETTING = ir.Setting(kernels=ir.LIBRARY)
PEER, PEER_WITHOUT_RIDGE = "optax, bare", "optax, bare, without ridge"
RIDGE = 1e-6
"""Of optax, unless it is told otherwise: this times the largest eigenvalue is added to the matrix."""
WIDE = "eigh in float64"


class Program(NamedTuple):
    """A root function.

    Attributes:
        root: of A ``[n, n]`` and p; returns X, or a record with a `root`.
        ridge: what it adds to A, over its largest eigenvalue.
        wide: whether it computes in float64.
        host: whether it is a call of LAPACK from Python, which nothing compiles.
    """

    root: Callable[[jax.Array, int], Any]
    ridge: float = 0.0
    wide: bool = False
    host: bool = False


def by_method(name: str, A: jax.Array, p: int) -> Any:
    """The root by a method of the package's table, with its certificate."""
    return ir.METHODS[name](A, p, setting=SETTING)


def by_optax(ridge: float, A: jax.Array, p: int) -> Any:
    """The root of optax alone, which nothing judges."""
    return optax.matrix_inverse_pth_root(A, p, ridge_epsilon=ridge)[0]


def by_float64(A: jax.Array, p: int) -> jax.Array:
    """The root by a decomposition in float64, rounded to float32."""
    w, V = jnp.linalg.eigh(A.astype(jnp.float64))
    return product(V * w ** (-1 / p), V.T).astype(jnp.float32)


def by_lapack(driver: str, A: jax.Array, p: int) -> np.ndarray:
    """The root by a driver of LAPACK that JAX does not call, in float32."""
    w, V = scipy.linalg.eigh(np.asarray(A), driver=driver, check_finite=False)
    with np.errstate(invalid="ignore"):  # of a negative eigenvalue: the root is NaN, and its error says so
        return (V * w ** np.float32(-1 / p)) @ V.T


def programs() -> dict[str, Program]:
    """All that can be timed on the device at hand, by name."""
    found = {name: Program(partial(by_method, name), RIDGE if name == "optax" else 0.0) for name in ir.METHODS}
    found[PEER] = Program(partial(by_optax, RIDGE), RIDGE)
    found[PEER_WITHOUT_RIDGE] = Program(partial(by_optax, 0.0))
    found[WIDE] = Program(by_float64, wide=True)
    if jax.default_backend() == "cpu":
        drivers = {"QR iterations (syev)": "ev", "relatively robust representations (syevr)": "evr"}
        found |= {f"LAPACK, {name}": Program(partial(by_lapack, key), host=True) for name, key in drivers.items()}
    return found


def compiled(program: Program, p: int, n: int) -> Callable[[jax.Array], Any]:
    """A root function for float32 matrices of one size.

    Args:
        program: the function.
        p: the exponent.
        n: the size.

    Returns:
        A function of A ``[n, n]``, which waits for nothing.
    """

    def root(A: jax.Array) -> Any:
        return program.root(A, p)

    if program.host:
        return root
    with jax.enable_x64(program.wide):
        return jax.jit(root).lower(jax.ShapeDtypeStruct((n, n), jnp.float32)).compile()
