"""Forms of storage: what comes back is symmetric, positive where it should be, and as near as the rounding allows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners.inverse_root import storage

N, KAPPA = 12, 1e4
A = jnp.float32(pl.gallery.spd(N, condition=KAPPA))
STORES = {
    "int8": pl.Integer(8, scale="column"),
    "int4": pl.Integer(4, scale="block", block=64),
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "float8_e4m3fn",
}


def store_of(name):
    return partial(pl.round_blocks, q=STORES[name])


@pytest.fixture(params=STORES)
def store(request):
    return store_of(request.param)


def smallest(X):
    return float(np.linalg.eigvalsh(np.asarray(X, np.float64))[0])


def test_what_is_not_rounded_comes_back():
    def same(x):
        return x

    assert jnp.array_equal(storage.keep_matrix(A, same), A)
    kept = storage.keep_cholesky(A, same)
    assert not kept.error.any()
    # Higham, theorem 10.3: the factor's product is within (n + 1) u |L| |L^T|, and forming it again as much
    assert float(abs(kept.L @ kept.L.T - A).max()) <= 2 * (N + 1) * 2.0**-24 * float(abs(A).max())


def test_a_stored_matrix_is_symmetric_and_keeps_its_diagonal(store):
    apart, whole = storage.keep_matrix(A, store), storage.keep_matrix(A, store, diagonal_apart=False)
    for X in (apart, whole):
        assert jnp.array_equal(X, X.T)
    assert jnp.array_equal(jnp.diagonal(apart), jnp.diagonal(A))
    off = A - jnp.diag(jnp.diagonal(A))
    expected = store(off)
    expected = (expected + expected.T) / 2
    assert jnp.array_equal(apart - jnp.diag(jnp.diagonal(apart)), expected - jnp.diag(jnp.diagonal(expected)))


def test_eight_bits_make_the_matrix_indefinite_but_not_its_factors():
    A = jnp.float32(pl.gallery.spd(N, condition=1e6))
    for name in ("int8", "bfloat16", "float8_e4m3fn"):
        store = store_of(name)
        assert smallest(storage.keep_matrix(A, store)) < 0
        L = storage.keep_cholesky(A, store).L
        assert float(jnp.diagonal(L).min()) > 0
        assert smallest(np.asarray(L, np.float64) @ np.asarray(L, np.float64).T) > 0
        spectrum = storage.keep_eigenvectors(A, store)
        # a product V diag(w) V^T of rounded factors: positive to the rounding of the float32 product
        assert smallest(storage.matrix_of(spectrum, corrections=0)) > -N * 2.0**-24


def test_bjorck_moves_singular_values_as_its_cubic_does():
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((N, N)))[0] for _ in range(2))
    s = np.linspace(0.8, 1.2, N)
    moved = np.asarray(storage.bjorck(jnp.float32((U * s) @ V.T), 1), np.float64)
    expected = (U * (1.5 * s - 0.5 * s**3)) @ V.T
    assert np.linalg.norm(moved - expected, 2) <= 10 * N * 2.0**-24  # three products of matrices of norm 1.2
    found = np.linalg.svd(moved, compute_uv=False)
    assert abs(found - 1).max() <= 1.5 * 0.2**2 + 0.5 * 0.2**3 + 10 * N * 2.0**-24


def test_correction_brings_stored_eigenvectors_nearer(store):
    spectrum = storage.keep_eigenvectors(A, store)
    w, V = np.linalg.eigh(np.asarray(A, np.float64))
    F = (V * (w + 2.0**-20 * w.max()) ** -0.5) @ V.T
    errors = [
        np.linalg.norm(storage.root_of(spectrum, 2, floor=2.0**-20, corrections=k) - F) / np.linalg.norm(F)
        for k in (0, 4)
    ]
    assert errors[1] < errors[0]
    defect = [np.linalg.norm(X.T @ X - jnp.eye(N)) for X in (spectrum.vectors, storage.bjorck(spectrum.vectors, 4))]
    assert defect[1] <= 10 * N * 2.0**-24 < defect[0]


def test_error_feedback_keeps_what_storage_leaves_out():
    store, memory = store_of("int4"), 0.75
    L = np.linalg.cholesky(np.asarray(A, np.float64))
    below = jnp.float32(np.tril(L, -1))
    error = 0.01 * jnp.tril(jnp.ones((N, N)), -1)
    kept = storage.keep_cholesky(A, store, error, memory=memory)
    fed = jnp.tril(jnp.linalg.cholesky(A), -1) + error
    stored = jnp.tril(kept.L, -1)
    left = store(memory * error + (1 - memory) * (fed - stored))
    assert float(abs(kept.error - jnp.tril(left, -1)).max()) <= float(abs(left).max()) * 2.0**-2  # a code of four bits
    assert not jnp.triu(kept.error).any()
    assert float(abs(stored - below - error).max()) <= float(abs(fed).max()) / 14 * 1.01  # half a step of 15 levels


def test_feedback_averages_the_error_away():
    store = store_of("int4")
    L = jnp.tril(jnp.linalg.cholesky(A), -1)

    def step(error, _):
        kept = storage.keep_cholesky(A, store, error, memory=0.0)
        return fed_error(error, kept), jnp.tril(kept.L, -1)

    def fed_error(error, kept):
        return L + error - jnp.tril(kept.L, -1)  # the error in full: that its storage rounds it is not asked here

    steps = 64
    _, stored = jax.lax.scan(step, jnp.zeros_like(A), length=steps)
    left = abs(jnp.mean(stored, axis=0) - L).max()
    # the errors telescope: what remains of the sum is the last one, at most a step of storage
    assert float(left) <= float(abs(L).max()) / 7 * 1.1 / steps * 2
    assert float(abs(stored[0] - L).max()) > 2 * float(left)


def test_programs_are_emulated():
    f = pl.emulate(lambda A: storage.bjorck(A, 2), "bfloat16")
    assert float(abs(f(1.1 * jnp.eye(4)) - jnp.eye(4)).max()) <= 2.0**-7
