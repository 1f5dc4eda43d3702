"""Block-diagonal LogDet projections: the stated order bit by bit, the laws at fifty digits, the cuts."""

from fractions import Fraction as Q
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precond_lab as pl
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet import blocks

U64 = 2.0**-53
DIGITS = mpmath.mpf(10) ** -40
BF16 = ml_dtypes.bfloat16
TOLERANCE = 2.0**-7  # twice the unit roundoff of bfloat16
M, K = 60, 4


def stream(seed: int, *, steps: int, m: int = M, k: int = K) -> np.ndarray:
    """Second moments of a few gradients, a little damped, in bfloat16: some positive definite, some not quite."""
    g = np.random.default_rng(seed).standard_normal((steps, m, k))
    g[:, :, 1] += 4 * g[:, :, 2]
    H = np.einsum("tmi,tmj->mij", g, g) / steps
    return (H + np.eye(k) * 2.0**-9).astype(BF16).astype(np.float32)


class Everything(NamedTuple):
    plain: blocks.BlockFactor
    stable: blocks.BlockFactor
    kept: np.ndarray
    again: blocks.BlockFactor
    X: np.ndarray
    inverse: np.ndarray
    direction: np.ndarray


def everything(H: jax.Array, tolerance: jax.Array, g: jax.Array) -> Everything:
    stable, kept = blocks.stabilize_blocks(H, tolerance)
    return Everything(
        blocks.project_blocks(H),
        stable,
        kept,
        blocks.project_blocks(H, kept),
        blocks.explicit_blocks(stable),
        blocks.inverse_blocks(stable),
        blocks.apply_blocks(stable, g),
    )


bfloat16 = jax.jit(pl.emulate(everything, pl.Arithmetic("bfloat16")))


def emulated(H: np.ndarray) -> Everything:
    g = np.arange(H.shape[0] * H.shape[1] - 1) % 7 - 3  # one short: the last vertex is padded
    return jax.tree.map(np.asarray, bfloat16(H, np.float32(TOLERANCE), g.astype(np.float32)))


def scalar_factor(H: np.ndarray, tolerance: float | None) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The docstring's order with numbers of ml_dtypes, one operation at a time: U, D, cuts."""
    H = H.astype(BF16)
    k = len(H)
    A, U, D, cuts = H.copy(), np.eye(k, dtype=BF16), np.ones(k, BF16), []
    for j in reversed(range(k)):
        if tolerance is not None and not A[j, j] > BF16(tolerance) * H[j, j]:
            A = H.copy()
            U[: j + 1, j + 1 :] = 0
            cuts.append(j)
        u = [A[i, j] / A[j, j] for i in range(j)]
        D[j] = BF16(1) / A[j, j]
        column = A[:, j].copy()
        for i in range(j):
            U[i, j] = u[i]
            for l in range(j):
                A[i, l] -= u[i] * column[l]
    return U, D, cuts


def scalar_direction(U: np.ndarray, D: np.ndarray, g: np.ndarray) -> np.ndarray:
    y = g.astype(BF16)
    k = len(y)
    for i in reversed(range(k)):
        for j in reversed(range(i + 1, k)):
            y[i] -= U[i, j] * y[j]
    u = D * y
    for i in range(k):
        for j in range(i):
            u[i] -= U[j, i] * u[j]
    return u


@np.errstate(all="ignore")
def test_the_stated_order_bit_by_bit():
    H = np.concatenate([stream(0, steps=3, m=M // 2), stream(1, steps=12, m=M // 2)])
    got = emulated(H)
    g = np.append(np.arange(M * K - 1) % 7 - 3, 0).reshape(M, K).astype(np.float32)
    cut = 0
    for q in range(M):
        U, D, _ = scalar_factor(H[q], None)
        assert np.array_equal(got.plain.U[q], U.astype(np.float32), equal_nan=True)
        assert np.array_equal(got.plain.D[q], D.astype(np.float32), equal_nan=True)
        U, D, cuts = scalar_factor(H[q], TOLERANCE)
        assert np.array_equal(got.stable.U[q], U.astype(np.float32))
        assert np.array_equal(got.stable.D[q], D.astype(np.float32))
        kept = [[i != l and not any(min(i, l) <= c < max(i, l) for c in cuts) for l in range(K)] for i in range(K)]
        assert np.array_equal(got.kept[q], kept)
        u = scalar_direction(U, D, g[q]).astype(np.float32)
        assert np.array_equal(np.append(got.direction, 0).reshape(M, K)[q][: K - (q == M - 1)], u[: K - (q == M - 1)])
        columns = np.stack([scalar_direction(U, D, e) for e in np.eye(K)], 1).astype(np.float32)
        assert np.array_equal(got.X[q], np.tril(columns) + np.tril(columns, -1).T)
        total = np.zeros((K, K), BF16)
        for j in reversed(range(K)):
            total += np.outer(U[:, j] * (BF16(1) / D[j]), U[:, j]).astype(BF16)
        assert np.array_equal(got.inverse[q], total.astype(np.float32))
        cut += len(cuts) > 0
    assert 10 < cut < M - 10  # both kinds are here
    assert not (got.plain.D > 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_one_sweep_is_a_fixed_point(seed, steps):
    """No vertex of the result fails that has an edge to drop, and it is the projection on the reduced graph."""
    H = stream(seed, steps=steps)
    rng = np.random.default_rng(seed)
    H[: M // 4, 0, 1] = H[: M // 4, 1, 0] = np.nan
    H[M // 4 : M // 2] *= np.where(rng.random((K, K)) < 0.3, np.float32(1.5), 1)  # indefinite, not even symmetric
    got = emulated(H)
    diagonal = np.diagonal(H, axis1=1, axis2=2)
    assert (np.isfinite(got.stable.D) & (got.stable.D > 0)).all()
    assert all(np.array_equal(x, y) for x, y in zip(got.stable, got.again, strict=True))
    assert np.isfinite(got.direction).all()
    assert np.array_equal(got.kept, got.kept.swapaxes(1, 2))
    later = np.triu(got.kept, 1).any(2)
    limit = (diagonal.astype(BF16) * BF16(TOLERANCE)).astype(np.float32)
    largest = (BF16(1) / limit.astype(BF16)).astype(np.float32)  # s > limit, and rounding 1 / s is monotone
    assert (largest >= got.stable.D)[later].all()
    assert np.array_equal(got.stable.D[~later], (BF16(1) / diagonal[~later].astype(BF16)).astype(np.float32))
    assert (got.stable.U[:, np.arange(K)[:, None] > np.arange(K)] == 0).all()
    assert not got.kept[: M // 4, 0, 1].any()


def algorithm_3(H: np.ndarray) -> set[int]:
    """The vertices whose s is zero or undefined on the whole block, in rationals."""
    k = len(H)
    failed = set()
    for j in range(k - 1):
        order = [*range(j + 1, k), j]
        A = [[Q(int(H[a, b])) for b in order] for a in order]
        for c in range(len(A) - 1):
            if A[c][c] == 0:
                failed.add(j)
                break
            for i in range(c + 1, len(A)):
                ratio = A[i][c] / A[c][c]
                A[i] = [x - ratio * y for x, y in zip(A[i], A[c], strict=True)]
        else:
            if A[-1][-1] <= 0:
                failed.add(j)
    return failed


def test_what_algorithm_3_keeps_is_kept():
    """Gram matrices of fewer gradients than vertices, exact: and here more is kept, too."""
    g = np.random.default_rng(2).integers(-2, 3, (40, 5, 2))
    g[:, :, 1] *= np.arange(40)[:, None] % 2
    H = (g @ g.swapaxes(1, 2)).astype(float)
    H[:, np.arange(5), np.arange(5)] += H.diagonal(axis1=1, axis2=2) == 0
    with jax.enable_x64(True):
        _, kept = jax.tree.map(np.asarray, blocks.stabilize_blocks(jnp.asarray(H), 2.0**-40))
    more = 0
    for q in range(len(H)):
        failed = algorithm_3(H[q])
        whole = [(i, l) for l in range(5) for i in range(l) if not any(i <= c < l for c in failed)]
        assert all(kept[q, i, l] for i, l in whole)
        more += np.triu(kept[q]).sum() > len(whole)
    assert more > 10


def test_laws_at_fifty_digits():
    """H is found again, X H = I, and L = U^{-T} and D are those of the banded program on this graph."""
    n, k = 11, 4
    rng = np.random.default_rng(3)
    g = rng.integers(-3, 4, (3, 4, 7))
    H = (g @ g.swapaxes(1, 2) + np.eye(4)).astype(float)
    H[2, 3] = H[2, :, 3] = 0
    H[2, 3, 3] = 2  # the vertex that is padded, damped
    dense = np.zeros((12, 12))
    for q in range(3):
        dense[4 * q : 4 * q + 4, 4 * q : 4 * q + 4] = H[q]
    banded = np.array([np.append(np.diag(dense[:n, :n], -i), np.zeros(i)) for i in range(k)])
    kept = logdet.block_edges(n, k, k - 1)
    factor = pl.evaluate(blocks.project_blocks, H)
    L, D = pl.evaluate(lambda H: logdet.project(H, kept), banded)
    X, inverse = (pl.evaluate(f, factor) for f in (blocks.explicit_blocks, blocks.inverse_blocks))
    v = np.arange(1.0, 12.0)
    u = pl.evaluate(blocks.apply_blocks, factor, v)
    log_det = pl.evaluate(lambda factor: blocks.log_det_blocks(factor, n), factor).item()
    objective = pl.evaluate(lambda factor, H: blocks.objective_blocks(factor, H, n), factor, H).item()
    with mpmath.workdps(60):
        assert np.abs(inverse - H).max() < DIGITS
        assert all(np.abs(X[q] @ H[q] - np.eye(4)).max() < DIGITS for q in range(3))
        assert np.abs(dense[:n, :n] @ u - v).max() < DIGITS
        assert np.abs(factor.D.reshape(-1)[:n] - D).max() < DIGITS
        for q in range(3):
            size = min(4, n - 4 * q)
            lower = np.eye(size) + 0 * D[0]
            for i in range(1, size):
                lower += np.diag(L[i - 1, 4 * q : 4 * q + size - i], -i)
            assert np.abs(factor.U[q][:size, :size].T @ lower - np.eye(size)).max() < DIGITS
        assert abs(log_det - sum(mpmath.log(d) for d in D)) < DIGITS
        assert abs(objective - (n - log_det)) < DIGITS


def test_backward_error_in_float64():
    """|U S U^T - H| <= gamma_{k+3} |U| S |U^T|, with one rounding more than the theorem for the reciprocal D."""
    k = 32
    g = np.random.default_rng(4).standard_normal((2, k, k + 1))
    H = g @ g.swapaxes(1, 2)
    with jax.enable_x64(True):
        U, D = jax.tree.map(np.asarray, jax.jit(blocks.project_blocks)(H))
    assert U.dtype == D.dtype == np.float64
    assert np.linalg.cond(H).max() > 1e3
    with mpmath.workdps(40):
        u = mpmath.mpf(U64)
        for q in range(2):
            factor, s = U[q] + mpmath.mpf(0), 1 / (D[q] + mpmath.mpf(0))
            error = np.abs((factor * s) @ factor.T - H[q])
            assert (error <= (k + 3) * u / (1 - (k + 3) * u) * ((np.abs(factor) * s) @ np.abs(factor).T)).all()
            assert error.max() > 0


def test_statistics():
    g = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0])
    H = np.asarray(blocks.block_outer(g, 3))
    outer = np.outer(g, g)
    assert np.array_equal(H[0], outer[:3, :3])
    assert np.array_equal(H[1], [[16, 20, 0], [20, 25, 0], [0, 0, 1]])
    assert np.array_equal(blocks.block_outer(g, 5)[0], outer)
    assert np.array_equal(blocks.block_outer(g, 1)[:, 0, 0], g * g)
    assert np.array_equal(blocks.block_outer(g, 7)[0, 5:], np.eye(7)[5:])


def test_the_first_gradient_cuts_everywhere():
    """A matrix of rank one has s = 0 at all vertices but the last: what is left is the diagonal."""
    g = jnp.array([1.0, -2.0, 4.0, 0.5, 8.0])
    factor, kept = blocks.stabilize_blocks(blocks.block_outer(g, 4))
    assert not np.triu(kept[0]).any()
    assert np.array_equal(blocks.apply_blocks(factor, g), 1 / g)
    absolute, kept = blocks.stabilize_blocks(jnp.array([[[4.0, 2.0], [2.0, 2.0]]]), 2.0, relative=False)
    assert not kept.any()
    assert absolute.D.tolist() == [[0.25, 0.5]]
    relative, kept = blocks.stabilize_blocks(jnp.array([[[4.0, 2.0], [2.0, 2.0]]]), 0.25)
    assert kept.sum() == 2
    assert relative.D.tolist() == [[0.5, 0.5]]


REFUSED = [
    (lambda: blocks.block_outer(jnp.ones((2, 2)), 2), "a chain has shape"),
    (lambda: blocks.block_outer(jnp.ones(0), 2), "a chain has shape"),
    (lambda: blocks.block_outer(jnp.ones(2), 0), "blocks of size 0"),
    (lambda: blocks.project_blocks(jnp.eye(2)), r"wanted is \[m, k, k\]"),
    (lambda: blocks.project_blocks(jnp.ones((1, 2, 3))), r"wanted is \[m, k, k\]"),
    (lambda: blocks.project_blocks(jnp.eye(2)[None], jnp.ones((2, 2), bool)), "a mask of that shape"),
    (lambda: blocks.stabilize_blocks(jnp.eye(2)[None], -1.0), "zero or positive"),
    (lambda: blocks.stabilize_blocks(jnp.eye(2)[None], float("nan")), "zero or positive"),
    (lambda: blocks.stabilize_blocks(jnp.eye(2)), r"wanted is \[m, k, k\]"),
    (
        lambda: blocks.apply_blocks(blocks.BlockFactor(jnp.zeros((2, 3, 3)), jnp.ones((2, 3))), jnp.ones(3)),
        "need 4 to 6",
    ),
    (
        lambda: blocks.apply_blocks(blocks.BlockFactor(jnp.zeros((2, 3, 3)), jnp.ones((2, 3))), jnp.ones(7)),
        "need 4 to 6",
    ),
    (
        lambda: blocks.objective_blocks(
            blocks.BlockFactor(jnp.zeros((2, 3, 3)), jnp.ones((2, 3))), jnp.ones((1, 3, 3))
        ),
        "the factor has blocks of shape",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_misuse_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
