"""Stacks of matrices of mixed sizes, whose roots of mixed exponents are computed together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import square_matrix
from precond_lab.preconditioners.inverse_root.newton import coupled_newton
from precond_lab.preconditioners.inverse_root.results import InverseRoot
from precond_lab.preconditioners.inverse_root.solution import DEFAULTS, Setting


class Stack(NamedTuple):
    """Matrices of mixed sizes, padded to one.

    Attributes:
        matrices: ``[k, n, n]``; what is right of or below the first `sizes` rows and columns of each is not read.
        sizes: int32 ``[k]``; 0 for a place that holds no matrix.
    """

    matrices: jax.Array
    sizes: jax.Array


def stacked(matrices: Sequence[jax.Array], *, size: int | None = None, count: int | None = None) -> Stack:
    """Matrices as a stack, padded with zeros.

    Args:
        matrices: at least one, each square, of one dtype.
        size: n, or None for that of the largest.
        count: how many places the stack has, those behind the last matrix empty; None for as many as there are
            matrices. Devices that share a stack want a multiple of their number.

    Returns:
        The stack.

    Raises:
        ValueError: if there are no matrices, one is not square, or they do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> stack = stacked([jnp.eye(3), jnp.eye(2)])
        >>> stack.matrices.shape, stack.sizes.tolist()
        ((2, 3, 3), [3, 2])
    """
    matrices = [square_matrix(A) for A in matrices]
    if not matrices:
        raise ValueError("no matrices given; a stack needs one to have a size and a dtype")
    sizes = [A.shape[0] for A in matrices]
    n, k = max(sizes) if size is None else size, len(matrices) if count is None else count
    if n < max(sizes) or k < len(matrices):
        raise ValueError(f"{len(matrices)} matrices of up to {max(sizes)} rows do not fit into {k} of {n} rows")
    padded = [jnp.pad(A, (0, n - A.shape[0])) for A in matrices]
    empty = [jnp.zeros_like(padded[0])] * (k - len(matrices))
    return Stack(jnp.stack(padded + empty), jnp.array(sizes + [0] * len(empty), jnp.int32))


def unstacked(roots: jax.Array, sizes: Sequence[int]) -> list[jax.Array]:
    """The roots out of a stack.

    Args:
        roots: ``[k, n, n]``, of which the first are wanted.
        sizes: of these.

    Returns:
        A matrix for each size.
    """
    return [X[:n, :n] for X, n in zip(roots, sizes, strict=False)]


def roots_of_stack(
    stack: Stack,
    p: int | jax.Array,
    *,
    method: Callable[..., InverseRoot] = coupled_newton,
    setting: Setting = DEFAULTS,
    **options: Any,
) -> InverseRoot:
    """The inverse roots of all matrices of a stack in one program: one compilation, one loop.

    Every matrix takes the steps that it would take alone, except that the loop lasts as long as the slowest needs, and
    that those that are done wait. Padding has no part in a root. So matrices of about one size and condition belong
    into a stack. On a CPU, JAX 0.10 may wait forever within a stack of many matrices by ``refined`` or
    ``schur_newton`` with the kernels LIBRARY, a fault of its thread pool that 0.12 has not shown: there set
    ``XLA_FLAGS`` to ``--xla_cpu_enable_concurrency_optimized_scheduler=false``, or give the matrices to
    ``jax.lax.map``. Under ``jax.jit`` a program is compiled for each shape of stacks, and none for new exponents or
    sizes.

    Args:
        stack: of k matrices.
        p: for all, an int, whose powers are the cheapest; or for each its own, int32 ``[k]``.
        method: any that takes a traced p and a size.
        setting: as for the method, with a size of None.
        **options: of the method, the same for all matrices.

    Returns:
        The roots ``[k, n, n]``, zero in rows and columns that are padding; result, steps and residual ``[k]``.

    Raises:
        ValueError: if the setting has a size, or there are not as many exponents as matrices.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> stack = stacked([4 * jnp.eye(3), 16 * jnp.eye(2)])
        >>> found = jax.jit(roots_of_stack)(stack, jnp.array([2, 4]))
        >>> [X.round(4).tolist() for X in unstacked(found.root, [1, 2])]
        [[[0.5]], [[0.5, 0.0], [0.0, 0.5]]]
    """
    if setting.size is not None:
        raise ValueError(f"a setting of size {setting.size} given; a stack has the sizes of its matrices")
    shared = jnp.ndim(p) == 0
    if not shared and jnp.shape(p) != stack.sizes.shape:
        raise ValueError(f"exponents of shape {jnp.shape(p)} given for {stack.sizes.shape[0]} matrices")

    def root(A: jax.Array, size: jax.Array, p: int | jax.Array) -> InverseRoot:
        return method(A, p, setting=setting._replace(size=size), **options)

    if shared:
        return jax.vmap(lambda A, size: root(A, size, p))(stack.matrices, stack.sizes)
    return jax.vmap(root)(stack.matrices, stack.sizes, jnp.asarray(p))
