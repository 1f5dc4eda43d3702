"""What every factorization asks of its matrices."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# A matrix unit may round the operands of a product to a shorter format unless it is told not to.
product = partial(jnp.matmul, precision="highest")


def floating(x: ArrayLike) -> jax.Array:
    """Numbers as floating-point numbers: whole ones, which would wrap around, in JAX's default type.

    Args:
        x: any array.

    Returns:
        The same numbers.
    """
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def real_matrix(A: jax.Array) -> jax.Array:
    """The matrix as a JAX array.

    Args:
        A: [m, n].

    Returns:
        The same, [m, n].

    Raises:
        ValueError: it is no matrix, or an empty one.
        TypeError: its numbers are not real floating-point numbers.
    """
    A = jnp.asarray(A)
    if A.ndim != 2 or not A.size:
        raise ValueError(f"a matrix with elements is needed, got shape {A.shape}: use jax.vmap for a batch of them")
    if not jnp.issubdtype(A.dtype, jnp.floating):
        raise TypeError(f"a matrix of real floating-point numbers is needed, got {A.dtype}")
    return A


def square_matrix(A: jax.Array) -> jax.Array:
    """The square matrix as a JAX array.

    Args:
        A: [n, n].

    Returns:
        The same, [n, n].

    Raises:
        ValueError: it is no square matrix.
    """
    A = real_matrix(A)
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"a square matrix is needed, got shape {A.shape}")
    return A


def right_hand_sides(A: jax.Array, b: jax.Array) -> jax.Array:
    """The right-hand sides of a system as a JAX array of a dtype that holds the solution.

    Args:
        A: the matrix of the system, [n, n], or its diagonal, [n].
        b: right-hand sides, [n] or [n, m].

    Returns:
        The same numbers.

    Raises:
        ValueError: `b` has not as many rows as `A`, or more than two axes.
    """
    b = jnp.asarray(b)
    if b.shape[:1] != A.shape[:1] or b.ndim > 2:
        raise ValueError(f"shape {A.shape} needs right-hand sides of {A.shape[0]} rows, got shape {b.shape}")
    return b.astype(jnp.promote_types(A.dtype, b.dtype))  # as the solution has it: no cast where the two are alike


def identity_like(A: jax.Array) -> jax.Array:
    """Ones on the diagonal of a matrix of this shape, zeros elsewhere.

    Args:
        A: [m, n].

    Returns:
        [m, n], of the dtype of `A`.
    """
    rows, columns = (jnp.arange(size) for size in A.shape)
    return jnp.where(rows[:, None] == columns, 1, jnp.zeros_like(A))


def nonzero(x: jax.Array) -> jax.Array:
    """The numbers, with one instead of zero: divisors of what is zero itself.

    Args:
        x: of any shape.

    Returns:
        An array of the same shape; NaN stays.
    """
    return jnp.where(x == 0, 1, x)


def norm(x: jax.Array) -> jax.Array:
    """The Euclidean norm of a vector, scaled by its largest element so that no square overflows.

    Args:
        x: [n].

    Returns:
        A scalar, of relative error at most about (n / 2 + 4) u (Higham, section 3.1).
    """
    largest = jnp.max(jnp.abs(x))
    y = x / nonzero(largest)
    return largest * jnp.sqrt(nonzero(jnp.sum(y * y)))
