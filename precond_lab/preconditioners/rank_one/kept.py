"""The dense form with more beside it: an accumulated matrix, a narrow copy, a diagonal of scales."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import product
from precond_lab.preconditioners.rank_one import dense
from precond_lab.preconditioners.rank_one.dense import Dense, mirrored
from precond_lab.preconditioners.rank_one.recursion import Recursion, matrix_or_diagonal


class Refreshed(NamedTuple):
    """The state of the form that is inverted anew from time to time.

    Attributes:
        P: the inverse, ``[n, n]``.
        C: the matrix itself, ``[n, n]``; not rounded to the format of the state.
        age: vectors taken since C was last inverted, an integer.
    """

    P: jax.Array
    C: jax.Array
    age: jax.Array


@cache
def refreshed(k: int = 10) -> Recursion:
    """The symmetric form, and the inverse of the accumulated C itself after every k-th vector.

    Order of a step: P as in `dense.symmetric`; C <- beta C + alpha (v_i v_j), each factor with its own rounding; after
    every k-th vector P <- L^{-T} L^{-1} for C = L L^T. P alone is kept in the format of the state: rounding is
    forgotten every k steps, unless P has ceased to be positive definite before, which shows between two refreshments.

    Args:
        k: vectors from one inversion to the next.

    Returns:
        The recursion. Cost of a step: 10 n^2 flops, and about 4 n^3 / k. Batch it by vmap with `age` left out of the
        batch, or every step of every case pays for an inversion.

    Raises:
        ValueError: k is not positive.
    """
    if k < 1:
        raise ValueError(f"k = {k} given; give a positive number of steps")

    def start(C: jax.Array) -> Refreshed:
        C = matrix_or_diagonal(C)
        return Refreshed(dense.start(C).P, jnp.diag(C) if C.ndim == 1 else C, jnp.zeros((), jnp.int32))

    def update(state: Refreshed, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Refreshed:
        P = dense.symmetric(Dense(state.P), v, beta, alpha).P
        products = v[:, None] * v[None, :]
        with jax.named_scope("scalars"):
            old, new = beta * state.C, alpha * products
        C = old + new
        age = state.age + 1
        P = lax.cond(age == k, lambda C, P: dense.start(C).P, lambda C, P: P, C, P)
        return Refreshed(P, C, jnp.where(age == k, 0, age))

    return Recursion(start, update, dense.inverse, dense.apply)


class MasterCopy(NamedTuple):
    """The state of a master with a narrow copy.

    Attributes:
        P: the master, ``[n, n]``; not rounded to the format of the state.
        copy: P in the format of the state, ``[n, n]``.
    """

    P: jax.Array
    copy: jax.Array


def _start_copy(C: jax.Array) -> MasterCopy:
    P = dense.start(C).P
    return MasterCopy(P, P)


def master_copy(state: MasterCopy, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> MasterCopy:
    """The symmetric form of the master; the copy is made of it anew in every step, and never read by the next one.

    The error of the copy is that of the master, and one rounding.

    Args:
        state: of the step before.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state, whose copy is rounded when it is kept. Cost: 6 n^2 flops.
    """
    P = dense.symmetric(Dense(state.P), v, beta, alpha).P
    return MasterCopy(P, P)


MASTER_COPY = Recursion(
    _start_copy, master_copy, lambda state: state.copy, lambda state, g: product(state.copy, g), stored=("copy",)
)
"""The recursion of a master whose narrow copy stands for the inverse and multiplies vectors."""


class Scaled(NamedTuple):
    """The state of the scaled form: P = diag(d) H diag(d).

    Attributes:
        H: of unit diagonal, ``[n, n]``, every element of magnitude at most one.
        d: roots of the diagonal of P, ``[n]``; not rounded to the format of the state.
    """

    H: jax.Array
    d: jax.Array


def _start_scaled(C: jax.Array) -> Scaled:
    P = dense.start(C).P
    d = jnp.sqrt(jnp.diagonal(P))
    return Scaled(_with_unit_diagonal(P / (d[:, None] * d[None, :])), d)


def _with_unit_diagonal(H: jax.Array) -> jax.Array:
    index = jnp.arange(H.shape[0])
    return jnp.where(index[:, None] == index[None, :], 1, H)


def scaled(state: Scaled, v: jax.Array, beta: jax.Array, alpha: jax.Array) -> Scaled:
    """The symmetric form in the scaled variables; P itself is never formed.

    Order: x = d v, w = H x, tau + s with s = x^T w, Z = H - (w_i w_j) / (tau + s), r_i = sqrt(z_ii),
    H <- z_ij / (r_i r_j) with ones on its diagonal, d <- (d r) / sqrt(beta). The diagonal of H that is kept is not
    read. Where H with its rounding is not positive definite, some z_ii may be negative and the result NaN.

    Args:
        state: of the step before; the part of H above the diagonal is not read.
        v: ``[n]``.
        beta: decay.
        alpha: weight.

    Returns:
        The next state. Cost: 7 n^2 flops, and n square roots.
    """
    H, d = _with_unit_diagonal(mirrored(state.H)), state.d
    x = d * v
    w = product(H, x)
    with jax.named_scope("scalars"):
        total = beta / alpha + product(x, w)
    products = w[:, None] * w[None, :]
    with jax.named_scope("scalars"):
        corrections = products / total
    Z = H - corrections
    r = jnp.sqrt(jnp.diagonal(Z))
    H = _with_unit_diagonal(Z / (r[:, None] * r[None, :]))
    grown = d * r
    with jax.named_scope("scalars"):
        return Scaled(H, grown / jnp.sqrt(beta))


def _inverse_scaled(state: Scaled) -> jax.Array:
    return _with_unit_diagonal(mirrored(state.H)) * (state.d[:, None] * state.d[None, :])


def _apply_scaled(state: Scaled, g: jax.Array) -> jax.Array:
    return state.d * (product(_with_unit_diagonal(mirrored(state.H)), state.d * g))


SCALED = Recursion(_start_scaled, scaled, _inverse_scaled, _apply_scaled, stored=("H",))
"""The recursion of a matrix of unit diagonal, with a diagonal of scales beside it."""
