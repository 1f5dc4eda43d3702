"""Sketches of a stream of vectors, and the online Newton direction through them.

A sketch S ``[l, n]`` stands for the sum of g g^T over a stream by S^T S. Frequent Directions (Ghashami, Liberty,
Phillips and Woodruff, 2016) fills a row that is zero, and shrinks all squared singular values by the least:

    0 <= |A x|^2 - |S x|^2 <= |A - A_k|_F^2 / (l - k)   for every unit x and every k < l,

with the vectors of the stream in the rows of A, and A_k its best approximation of rank k. Robust Frequent Directions
(Luo, Chen, Zhang, Li and Zhang, 2019) adds half of what is taken away to a multiple of the identity, which centers the
error:

    |A^T A - S^T S - (alpha_t - alpha_0) I|_2 <= |A - A_k|_F^2 / (2 (l - k)).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import identity_like, product
from precond_lab.preconditioners.inverse_root.kernels import LOOPS, Kernels


class Sketch(NamedTuple):
    """The state of frequent directions.

    Attributes:
        S: rows in order of their lengths, orthogonal but for roundings, the last one zero, ``[l, n]``.
        alpha: the regularizer; only its robust form changes it, a scalar.
    """

    S: jax.Array
    alpha: jax.Array


def start_sketch(rows: int, n: int, alpha: jax.Array | float) -> Sketch:
    """An empty sketch.

    Args:
        rows: l, from 2 on.
        n: length of the vectors.
        alpha: alpha_0, positive where directions are asked for.

    Returns:
        The sketch, of alpha's dtype.

    Raises:
        ValueError: there are fewer than two rows, or no columns.
    """
    if rows < 2 or n < 1:
        raise ValueError(f"a sketch of {rows} rows for vectors of {n} elements asked for; give 2 rows or more, n > 0")
    alpha = jnp.asarray(alpha)
    return Sketch(jnp.zeros((rows, n), alpha.dtype), alpha)


def sketch_step(state: Sketch, g: jax.Array, *, robust: bool = True, kernels: Kernels = LOOPS) -> Sketch:
    """One vector: the last row becomes g, and the squares of singular values are shrunk by the least of them.

    Order: the singular value decomposition of S with g in its last row, s_i^2 - s_l^2 as (s_i - s_l) (s_i + s_l), its
    square root, the products with the rows of V^T; alpha + s_l^2 / 2 in the robust form. Where n < l nothing is lost.

    Args:
        state: of the step before.
        g: ``[n]``.
        robust: whether alpha grows.
        kernels: the linear algebra to use.

    Returns:
        The next sketch, its arrays in the scope "state". Cost: that of the decomposition, some n l^2 flops, and 2 n l.

    Raises:
        ValueError: g has not the length of the rows.

    Example:
        >>> import jax.numpy as jnp
        >>> state = start_sketch(2, 2, 0.0)
        >>> for g in jnp.array([[2.0, 0.0], [0.0, 1.0]]):
        ...     state = sketch_step(state, g)
        >>> round(jnp.linalg.norm(state.S[0]).item(), 4), state.S[1].tolist(), state.alpha.item()
        (1.7321, [0.0, 0.0], 0.5)
    """
    S, g = state.S, jnp.asarray(g)
    rows, n = S.shape
    if g.shape != (n,):
        raise ValueError(f"a vector of shape {g.shape} given for a sketch of rows of {n} elements; give [{n}]")
    with jax.named_scope("arrays"):
        filled = jnp.concatenate([S[:-1], g[None]])
        _, s, Vt = kernels.svd(filled)
        count = min(rows, n)
        least = s[rows - 1] if n >= rows else jnp.zeros_like(s[0])
        with jax.named_scope("scalars"):
            kept = jnp.sqrt((s - least) * (s + least))
        S = kept[:, None] * Vt[:count]
        S = jnp.concatenate([S, jnp.zeros((rows - count, n), S.dtype)])
        alpha = state.alpha
        if robust:
            with jax.named_scope("scalars"):
                alpha = alpha + least * least / 2
        with jax.named_scope("state"):
            return Sketch(jnp.copy(S), jnp.copy(alpha))


def run_sketch(state: Sketch, V: jax.Array, *, robust: bool = True, kernels: Kernels = LOOPS) -> Sketch:
    """A sketch of a stream, by `lax.scan`.

    Args:
        state: what `start_sketch` returned.
        V: the stream, ``[steps, n]``.
        robust: whether alpha grows.
        kernels: the linear algebra to use.

    Returns:
        The last sketch.

    Raises:
        ValueError: the vectors have not the length of the rows.
    """
    return lax.scan(lambda state, g: (sketch_step(state, g, robust=robust, kernels=kernels), None), state, V)[0]


def sketched_direction(state: Sketch, g: jax.Array, *, kernels: Kernels = LOOPS) -> jax.Array:
    """The online Newton direction (alpha I + S^T S)^{-1} g = (g - S^T H S g) / alpha, with H = (alpha I + S S^T)^{-1}.

    Order: S g, S S^T, alpha added to its diagonal, the solution by its Cholesky factor, S^T times it, the difference
    with g, the quotient by alpha. In exact arithmetic the rows of a sketch are orthogonal and H is diagonal; no use is
    made of that, so that S may be any matrix. What lies along a row s is a difference: its error is about u (1 + |s|^2
    / alpha).

    Args:
        state: a sketch, its alpha positive.
        g: ``[n]``.
        kernels: the linear algebra to use.

    Returns:
        ``[n]``. Cost: 2 n l^2 + 4 n l flops, and l^3.

    Raises:
        ValueError: g has not the length of the rows.

    Example:
        >>> import jax.numpy as jnp
        >>> sketch = Sketch(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array(1.0))
        >>> sketched_direction(sketch, jnp.array([2.0, 3.0])).tolist()
        [1.0, 3.0]
    """
    S, alpha = state
    g = jnp.asarray(g)
    if g.shape != S.shape[1:]:
        raise ValueError(f"a vector of shape {g.shape} given for a sketch of shape {S.shape}; give [{S.shape[1]}]")
    with jax.named_scope("arrays"):
        y, gram = product(S, g), product(S, S.T)
        with jax.named_scope("scalars"):
            gram = jnp.where(identity_like(gram) == 1, gram + alpha, gram)
        difference = g - product(S.T, kernels.solve_spd(gram, y))
        with jax.named_scope("scalars"):
            return difference / alpha
