r"""What SONew's published code does where the LogDet projection breaks down.

Each program is one answer that the authors gave at one time, written anew over the band storage of this package from
its formulas, so that its failures can be looked at. None of them is to be used: :func:`stabilize` is. Where nothing
breaks down each agrees with :func:`project`. Here are the damping, the chains, and the table of all; the bands are in
:mod:`~precond_lab.preconditioners.logdet.published_bands`.

Sources, with the dates of their versions: the PyTorch release (github.com/devvrit/SONew, ``torch_code/tds.py``, 2024);
the JAX development code (github.com/devvrit/Autoencoder-on-MNIST-in-Pytorch, ``tridiagonal_quic.py`` of 24 September
and 19 October 2022, ``tridiagonal_quic_shared.py`` and ``_shared_2.py`` of December 2022 and January 2023); and
google/init2winit (``optimizer_lib/tridiag_optimizers.py`` and ``bandeddiag_optimizers.py``, 2024).
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from precond_lab.preconditioners.logdet.band import check_banded, earlier, later, within
from precond_lab.preconditioners.logdet.projection import Factor, factor_of, schur_complements
from precond_lab.preconditioners.logdet.published_bands import clamped, clamped_right_side, masked_loop, reweighted

# Damping


def released_one_norm(H: jax.Array) -> jax.Array:
    """The one-norm as published: column sums that are overwritten instead of added to.

    Order, for k = 1, ..., b in turn: the sum of column i becomes H_ii + |H_{i+k,i}| if there is a vertex i+k, and then
    H_ii + |H_{i,i-k}| if there is a vertex i-k. What remains of a column is one entry beside its diagonal. For a chain
    with a nonnegative diagonal this is at least half the norm. For b of 2 and more there is no such bound: but for
    chains of fewer than 2b vertices, nothing nearer than the last subdiagonal leaves a trace.

    Source: ``getl1norm_tds`` and ``getl1norm`` of the JAX code, December 2022 on, and of init2winit.

    Args:
        H: ``[b+1, n]``.

    Returns:
        A scalar, at most :func:`one_norm`.

    Example:
        >>> float(released_one_norm(jnp.array([[1.0, 10.0, 1.0], [3.0, 3.0, 0.0]])))  # the norm is 16
        13.0
    """
    H = check_banded(H)
    i, n = jnp.arange(H.shape[1]), H.shape[1]
    sums = H[0]
    for k in range(1, H.shape[0]):
        beside = jnp.abs(H[k])
        sums = jnp.where(i < n - k, H[0] + beside, sums)
        sums = jnp.where(i >= k, H[0] + earlier(beside, k), sums)
    return jnp.max(sums)


def released_damp(H: jax.Array, epsilon: jax.Array, floor: jax.Array | float = 0) -> jax.Array:
    """H with max(epsilon times :func:`released_one_norm`, floor) added to its diagonal.

    The published epsilon is tuned (3.35e-6 for bfloat16) and the floor 1e-16 (JAX code) or 1e-24 (init2winit). In
    bfloat16 an addend under 2^-9 of a diagonal entry leaves it as it is. In float16 both constants are zero, so that
    nothing is added at all.

    Args:
        H: ``[b+1, n]``.
        epsilon: scalar array, relative to the norm.
        floor: scalar array, absolute.

    Returns:
        ``[b+1, n]``.
    """
    H = check_banded(H)
    return jnp.concatenate([H[:1] + jnp.maximum(epsilon * released_one_norm(H), floor), H[1:]])


# Chains


def released_tridiagonal(H: jax.Array, tolerance: jax.Array | float = 0) -> tuple[Factor, jax.Array]:
    """The released chain: an edge goes where s <= tolerance H_ii, with a tolerance of zero.

    Order: psi and s as in :func:`project`; psi = 0 and s = H_ii where s_i <= tolerance H_ii; D = 1 / s.

    Defects. A NaN is not less than anything and stays: one dead parameter (H_{i+1,i+1} = 0, which the damping does not
    cure in float16) gives its live neighbor i a NaN. With a tolerance of zero, what rounding leaves of a singular s is
    kept whenever it happens to be positive, and D is noise. The update is then formed by an explicit X, see
    :func:`released_direction`.

    Source: PyTorch release and init2winit, tolerance 0 on damped statistics; JAX code of October 2022, tolerance 1e-7.

    Args:
        H: ``[2, n]``.
        tolerance: relative to H_ii.

    Returns:
        The factor, and the edges that it keeps, bool ``[1, n]``.

    Raises:
        ValueError: for a shape other than ``[2, n]``.

    Example:
        >>> dead = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
        >>> factor, kept = released_tridiagonal(dead)
        >>> factor.D.tolist(), kept.tolist()
        ([nan, inf, 1.0], [[True, False, False]])
    """
    H = _chain(H)
    return _drop(H, lambda s: s <= tolerance * H[0])


def absolute_tridiagonal(H: jax.Array, tolerance: jax.Array | float) -> tuple[Factor, jax.Array]:
    """The chain of September 2022: an edge goes where s < tolerance, in the units of H.

    Order: as :func:`released_tridiagonal`.

    Defects. Gradients of another scale get another graph. Unlike ``stabilize(H, tolerance, relative=False)`` it keeps a
    NaN, and an s equal to the tolerance: in float16 1e-10 is zero, and s = 0 is kept, whose D is infinite.

    Source: ``tridiagonal_quic.py``, 24 September 2022, tolerance 1e-10.

    Args:
        H: ``[2, n]``.
        tolerance: absolute.

    Returns:
        The factor, and the edges that it keeps, bool ``[1, n]``.

    Raises:
        ValueError: for a shape other than ``[2, n]``.

    Example:
        >>> factor, kept = absolute_tridiagonal(jnp.array([[1.0, 1.0], [1.0, 0.0]]), 0.0)
        >>> factor.D.tolist(), kept.tolist()
        ([inf, 1.0], [[True, False]])
    """
    H = _chain(H)
    return _drop(H, lambda s: s < tolerance)


def released_direction(factor: Factor, g: jax.Array) -> jax.Array:
    """The product X g with an explicit X, as published.

    Order: X_{i+1,i} = L_i D_i; X_{i+1,i+1} = D_{i+1} + (L_i L_i) D_i; u_i = (X_ii g_i + X_{i,i-1} g_{i-1}) + X_{i+1,i}
    g_{i+1}. (:func:`explicit` forms the diagonal as D_{i+1} + L_i (L_i D_i).)

    Defect. D > 0 does not make the rounded X positive definite: g^T u can be negative, where :func:`apply` descends.

    Source: ``ldl2tridiag`` in all versions.

    Args:
        factor: of a chain, L ``[1, n]`` and D ``[n]``.
        g: ``[n]``.

    Returns:
        ``[n]``.

    Raises:
        ValueError: for a factor that is not of a chain, or a g that does not fit.
    """
    L, D = factor
    if L.shape != (1, *D.shape) or jnp.shape(g) != D.shape:
        raise ValueError(
            f"L of shape {L.shape}, g of shape {jnp.shape(g)} given; wanted [1, n] and [n], D of {D.shape}"
        )
    edge = L[0] * D
    diagonal = D + earlier(L[0] * L[0] * D, 1)
    return diagonal * g + earlier(edge * g, 1) + edge * later(g, 1)


# All of them

VARIANTS: Mapping[str, Callable[[jax.Array, jax.Array | float], tuple[Factor, jax.Array]]] = {
    "released_tridiagonal": released_tridiagonal,
    "absolute_tridiagonal": absolute_tridiagonal,
    "masked_loop": masked_loop,
    "clamped": clamped,
    "clamped_right_side": clamped_right_side,
    "reweighted": reweighted,
    "reweighted_nearest": partial(reweighted, root="nearest"),
}
"""The programs that take statistics and a tolerance, by name: the first two are for chains, ``clamped_right_side`` for
three subdiagonals, the others for any band of one or more."""


# What the chains share


def _chain(H: jax.Array) -> jax.Array:
    H = check_banded(H)
    if H.shape[0] != 2:
        raise ValueError(f"H of shape {H.shape} given; this code is for chains, [2, n]")
    return H


def _drop(H: jax.Array, fails: Callable[[jax.Array], jax.Array]) -> tuple[Factor, jax.Array]:
    psi, s = schur_complements(H)
    failed = fails(s)
    factor = factor_of(jnp.where(failed, jnp.zeros_like(psi), psi), jnp.where(failed, H[0], s))
    return factor, ~failed & within(H.shape[1], 1)
