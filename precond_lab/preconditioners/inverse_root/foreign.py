"""Root functions of other people, in the signature of this package's methods."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from precond_lab.linalg.matrices import square_matrix
from precond_lab.preconditioners.inverse_root.certificate import judged, residual_of
from precond_lab.preconditioners.inverse_root.exponents import whole_exponent
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Setting, prepare


def foreign(function: Callable[..., Any]) -> Callable[..., InverseRoot]:
    """A root function of somebody else as a method.

    The function gets the matrix as it is: nothing is scaled, symmetrized, padded or added, since what it does with such
    matrices is what one wants to see. Its root is then judged as all others are, by the certificate on the matrix that
    was given; what it says of itself is not listened to.

    Args:
        function: of A ``[n, n]``, p and options, in JAX; returns X ``[n, n]``, or a tuple that begins with it.

    Returns:
        The method. It raises ValueError for a ridge or a size in its setting, and for a p that is no positive integer.
        A root that is not finite, or not symmetric up to the tolerance, is STAGNATED at best.

    Example:
        >>> import jax.numpy as jnp
        >>> def by_eigenvalues(A, p):
        ...     w, V = jnp.linalg.eigh(A)
        ...     return (V * w ** (-1 / p)) @ V.T
        >>> r = foreign(by_eigenvalues)(4 * jnp.eye(2), 2)
        >>> r.root.tolist(), r.result.item()
        ([[0.5, 0.0], [0.0, 0.5]], 0)
    """

    def method(A: jax.Array, p: int = 2, *, setting: Setting = DEFAULTS, **options: Any) -> InverseRoot:
        if setting.ridge is not None or setting.size is not None:
            raise ValueError("a ridge or a size given; a foreign function gets its matrix as it is: prepare it before")
        A, whole = square_matrix(A), whole_exponent(p)
        problem = prepare(A, setting)
        returned = function(A, p, **options)
        X = returned[0] if isinstance(returned, tuple) else returned
        residual, definite = residual_of(A, X, whole, setting.kernels)
        result = judged(residual, definite, whole, setting.tolerance)
        # The certificate is one for symmetric roots: it would not see the difference of X and X^T.
        symmetric = jnp.max(jnp.abs(X - X.T)) <= setting.tolerance * jnp.max(jnp.abs(X))
        sound = symmetric & jnp.all(jnp.isfinite(X))
        result = jnp.where(sound, result, jnp.maximum(result, int(Result.STAGNATED)))
        result = jnp.where(problem.result == int(Result.CONVERGED), result, problem.result)
        return InverseRoot(X, result.astype(jnp.int32), jnp.int32(0), residual)

    return method


def optax_root(A: jax.Array, p: int, **options: Any) -> tuple[Any, Any]:
    """The inverse root of optax (`optax.matrix_inverse_pth_root`), for :func:`foreign`.

    Args:
        A: ``[n, n]``.
        p: a positive integer.
        **options: as optax takes them; ``ridge_epsilon`` is 1e-6 unless it is given.

    Returns:
        The root, and the error that optax reports: the largest entry of M - I.
    """
    return optax.matrix_inverse_pth_root(A, p, **options)
