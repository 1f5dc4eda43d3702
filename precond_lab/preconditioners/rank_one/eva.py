"""Eva and its kin: gradients preconditioned by a curvature of rank one, in closed form.

A layer has the gradient G ``[m, n]`` of its loss by its weights, the mean a ``[n]`` of its inputs and the mean b
``[m]`` of its output gradients. Eva (Zhang, Shi and Li, "Eva: Practical Second-order Optimization with
Kronecker-vectorized Approximation", ICLR 2023) takes v v^T with v = b (x) a for the curvature of vec(G), row by row,
and solves

    (v v^T + gamma I) vec(P) = vec(G).

No inverse is kept, so none can drift. What can be lost is the part of P along b a^T: with sigma = |a|^2 |b|^2 it is
(gamma + sigma) / gamma times smaller than the numbers whose difference it is, and so has an error of u (1 + sigma /
gamma) with sums in a wider format, and of up to (m + n) u (1 + sigma / gamma) with sums in its own.

Programs here are marked by `jax.named_scope`: "arrays" for all of them, and in it "scalars" for what has a scalar
operand and for inner products that yield one.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import floating, product
from precond_lab.preconditioners.rank_one.roots import Power, apply_root, check_damping, check_power, unit


def eva(G: jax.Array, a: jax.Array, b: jax.Array, damping: jax.Array | float = 0.03) -> jax.Array:
    """P = (G - b a^T (b^T G a) / (gamma + |a|^2 |b|^2)) / gamma.

    Order: y = G a, b^T y, |a|^2 |b|^2, c = b^T y / (gamma + |a|^2 |b|^2), the vector c b, the outer product (c b)_i
    a_j, its difference with G, the quotient by gamma. In exact arithmetic <G, P> >= |G|^2 / (gamma + sigma) > 0, by the
    inequality of Cauchy and Schwarz.

    Args:
        G: gradient of the weights, ``[m, n]``.
        a: mean of the inputs, ``[n]``.
        b: mean of the output gradients, ``[m]``.
        damping: gamma, positive.

    Returns:
        The preconditioned gradient, ``[m, n]``. Its part along b a^T has a relative error of about u (1 + sigma /
        gamma) with sums in a wider format, of up to (m + n) u (1 + sigma / gamma) without, and its inner product with
        G may be negative where that is above one; see `eva_split`. Where y or one of the squares leaves the range of
        the format, so does the result. Cost: 5 m n flops.

    Raises:
        ValueError: shapes do not fit, or damping is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> G, a, b = jnp.array([[3.0, 1.0]]), jnp.array([1.0, 0.0]), jnp.array([1.0])
        >>> eva(G, a, b, damping=0.5).tolist()
        [[2.0, 2.0]]
    """
    check_damping(damping)
    G, a, b = _checked(G, a, b)
    with jax.named_scope("arrays"):
        y = product(G, a)
        with jax.named_scope("scalars"):
            c = product(b, y) / (damping + product(a, a) * product(b, b))
            scaled = c * b
        difference = G - scaled[:, None] * a[None, :]
        with jax.named_scope("scalars"):
            return difference / damping


def eva_split(G: jax.Array, a: jax.Array, b: jax.Array, damping: jax.Array | float = 0.03) -> jax.Array:
    """The same, the parts of G along b a^T and orthogonal to it apart: no difference of large numbers.

    Order: unit vectors q = a / |a| and r = b / |b|, alpha = r^T (G q), R = G - (alpha r) q^T, once more
    delta = r^T (R q), R <- R - (delta r) q^T, and P = R / gamma + ((alpha + delta) / (gamma + sigma) r) q^T with
    sigma = (|a| |b|)^2. The second pass takes out of R what rounding left in it, which 1 / gamma would enlarge. With
    rho = |R| / |alpha|, sums and scalars in a wider format, the part along b a^T has a relative error of about
    u + u (u + rho) sigma / gamma: little is gained where G has little along b a^T, and there little could be lost for
    <G, P>. With sums in the same format the u in parentheses is up to (m + n) u, and where its product with
    u sigma / gamma is above one, <G, P> may be negative here too.

    Args:
        G: gradient of the weights, ``[m, n]``.
        a: mean of the inputs, ``[n]``.
        b: mean of the output gradients, ``[m]``.
        damping: gamma, positive.

    Returns:
        The preconditioned gradient, ``[m, n]``. Unit vectors keep every array in range where G is; sigma alone may
        leave it. Cost: 12 m n flops.

    Raises:
        ValueError: shapes do not fit, or damping is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> G, a, b = jnp.array([[3.0, 1.0]]), jnp.array([1.0, 0.0]), jnp.array([1.0])
        >>> eva_split(G, a, b, damping=0.5).tolist()
        [[2.0, 2.0]]
    """
    check_damping(damping)
    G, a, b = _checked(G, a, b)
    with jax.named_scope("arrays"):
        (q, length_a), (r, length_b) = unit(a), unit(b)
        y = product(G, q)
        with jax.named_scope("scalars"):
            alpha = product(r, y)
            scaled = alpha * r
        R = G - scaled[:, None] * q[None, :]
        y = product(R, q)
        with jax.named_scope("scalars"):
            delta = product(r, y)
            scaled = delta * r
        R = R - scaled[:, None] * q[None, :]
        with jax.named_scope("scalars"):
            length = length_a * length_b
            flat, kept = R / damping, (alpha + delta) / (damping + length * length) * r
        return flat + kept[:, None] * q[None, :]


def eva_f(G: jax.Array, a: jax.Array, b: jax.Array | None = None, damping: jax.Array | float = 0.03) -> jax.Array:
    """Eva-f: P = G (a a^T + gamma I)^{-1} = (G - (G a) a^T / (gamma + |a|^2)) / gamma.

    FOOF (Benzing 2022) with a a^T for its statistic. Order: y = G a, gamma + |a|^2, the vector y / (gamma + |a|^2), its
    outer product with a, the difference with G, the quotient by gamma. Without that last quotient it is MAC.

    Args:
        G: gradient of the weights, ``[m, n]``.
        a: mean of the inputs, ``[n]``.
        b: not used, but checked; the forms of Eva share a signature.
        damping: gamma, positive.

    Returns:
        The preconditioned gradient, ``[m, n]``; P a has a relative error of about u (1 + |a|^2 / gamma). Cost: 5 m n
        flops.

    Raises:
        ValueError: shapes do not fit, or damping is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> eva_f(jnp.array([[3.0, 1.0], [6.0, 2.0]]), jnp.array([1.0, 0.0]), damping=0.5).tolist()
        [[2.0, 2.0], [4.0, 4.0]]
    """
    check_damping(damping)
    G, a, _ = _checked(G, a, b)
    with jax.named_scope("arrays"):
        y = product(G, a)
        with jax.named_scope("scalars"):
            y = y / (damping + product(a, a))
        difference = G - y[:, None] * a[None, :]
        with jax.named_scope("scalars"):
            return difference / damping


def eva_s(
    G: jax.Array,
    a: jax.Array | None = None,
    b: jax.Array | None = None,
    damping: jax.Array | float = 0.03,
    *,
    form: Literal["sherman_morrison", "root"] = "sherman_morrison",
    p: Power = 4,
) -> jax.Array:
    """Eva-s, Shampoo with outer products of means of G for its statistics.

    Shampoo has L = G G^T and R = G^T G and the direction L^{-1/4} G R^{-1/4}. With the means b and a of the rows and
    the columns of G in their places, two forms agree with what is published:

    - "sherman_morrison": (v v^T + gamma I)^{-1} vec(G) with v = b (x) a, which is `eva`;
    - "root": (b b^T + gamma I)^{-1/p} G (a a^T + gamma I)^{-1/p}, where p = 4 has the exponents of Shampoo for a
      matrix.

    For G = b a^T alone, the first scales by 1 / (gamma + |a|^2 |b|^2), the second by
    ((gamma + |a|^2) (gamma + |b|^2))^{-1/p}.

    Order: the means, as sums and quotients, a first; then that of `eva`, or the root of b applied to G, that of a to
    the transpose.

    Args:
        G: gradient of the weights, ``[m, n]``.
        a: mean of the rows, ``[n]``, an element for each column of G; None: that of this G.
        b: mean of the columns, ``[m]``, an element for each row of G; None: that of this G.
        damping: gamma, positive.
        form: which of the two.
        p: of the roots, positive; may be traced, or a fraction. The first form does not use it.

    Returns:
        The preconditioned gradient, ``[m, n]``. Cost: 7 m n flops, or 12 m n for roots.

    Raises:
        ValueError: shapes do not fit, p or damping is not positive, or the form is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> G = jnp.array([[1.0, 1.0], [1.0, 1.0]])
        >>> [round(x, 4) for x in eva_s(G, damping=1.0)[0].tolist()]
        [0.2, 0.2]
        >>> [round(x, 4) for x in eva_s(G, damping=1.0, form="root")[0].tolist()]
        [0.5774, 0.5774]
    """
    if form not in {"sherman_morrison", "root"}:
        raise ValueError(f"form {form!r} given; known are 'sherman_morrison', 'root'")
    check_power(p)
    check_damping(damping)
    G, a, b = _checked(G, a, b)
    with jax.named_scope("arrays"):
        a = _mean(G, axis=0) if a is None else a
        b = _mean(G, axis=1) if b is None else b
        if form == "sherman_morrison":
            return eva(G, a, b, damping)
        return apply_root(apply_root(G, b, p, damping).T, a, p, damping).T


def _mean(G: jax.Array, axis: int) -> jax.Array:
    total = jnp.sum(G, axis=axis)
    with jax.named_scope("scalars"):
        return total / G.shape[axis]


def _checked(G: jax.Array, a: jax.Array | None, b: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The three as JAX arrays; what is None stays."""
    G = floating(G)
    if G.ndim != 2 or not G.size:
        raise ValueError(
            f"a gradient of shape {G.shape} given; give [m, n], the axes of inputs flattened into the last"
        )
    found = []
    for name, x, size, of in (("a", a, G.shape[1], "inputs"), ("b", b, G.shape[0], "outputs")):
        found.append(x if x is None else floating(x))
        if x is not None and found[-1].shape != (size,):
            raise ValueError(
                f"{name} of shape {found[-1].shape} given for a gradient of shape {G.shape}; give the mean of the "
                f"{of}, [{size}], with an element for the bias where G has a column for it"
            )
    return G, *found
