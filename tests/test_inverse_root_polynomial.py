"""Inverse roots by polynomial iterations and expansions."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery
from precond_lab.preconditioners.inverse_root import minimax, schedules
from precond_lab.preconditioners.inverse_root.chebyshev import chebyshev
from precond_lab.preconditioners.inverse_root.gram import gram_newton_schulz
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY
from precond_lab.preconditioners.inverse_root.newton_schulz import newton_schulz
from precond_lab.preconditioners.inverse_root.polynomial import minimax_polynomial
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.solution import Setting

N = 8
U = 2.0**-24
FAST = Setting(kernels=LIBRARY)

METHODS = {
    "newton_schulz 4, accelerated": (
        4,
        partial(newton_schulz, setting=FAST, schedule="chebyshev_accelerated", degree=2, symmetrized="factors"),
    ),
    "polynomial 3": (3, partial(minimax_polynomial, setting=FAST, degree=1, bound="frobenius_norm")),
    "polynomial 4": (4, partial(minimax_polynomial, setting=FAST)),
}
OTHERS = {
    "newton_schulz 2": (2, partial(newton_schulz, setting=FAST)),
    "newton_schulz 4": (4, partial(newton_schulz, setting=FAST, bound="trace")),
    "newton_schulz 8": (8, partial(newton_schulz, setting=FAST, symmetrized="factors")),
    "polynomial 2": (2, partial(minimax_polynomial, setting=FAST)),
    "polynomial 8": (8, partial(minimax_polynomial, setting=FAST)),
    "polar_express 4": (4, partial(minimax_polynomial, setting=FAST, schedule="polar_express", lower=2.0**-16)),
}


def spd(eigenvalues, seed):
    """A symmetric matrix of float32 with about these eigenvalues."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    A = (Q * np.asarray(eigenvalues)) @ Q.T
    return np.float32((A + A.T) / 2)


def true_root(A, p):
    """In float64: its error, some kappa 2^-53, is nothing to that of float32."""
    w, V = np.linalg.eigh(np.float64(A))
    return (V * w ** (-1 / p)) @ V.T


def condition(A):
    w = np.linalg.eigvalsh(np.float64(A))
    return w[-1] / w[0]


def error(X, A, p):
    F = true_root(A, p)
    return np.linalg.norm(np.float64(X) - F, 2) / np.linalg.norm(F, 2)


def bound(A, p, u=U):
    """n kappa u / p, what n roundings of size u of a matrix do to its root, and 32 u.

    M is rounded in every step by a few u, with sums of n terms; the first steps count for most, by a sum like a
    geometric series; later ones, with eigenvalues of M above a valley of 1/4, for a few u.
    """
    return (len(A) * condition(A) / p + 32) * u


CASES = np.array(
    [
        gallery.spd(N, condition=kappa, spectrum=s, seed=7)
        for s in ("geometric", "one_small", "one_large")
        for kappa in (1e1, 1e4)
    ]
    + [
        spd([1, 1, 1, 1, 0.01, 0.01, 0.01, 0.01], 3),
        spd([2.0**-20] * N, 4),
        spd(np.linspace(1e3, 2e3, N), 5),
        np.eye(N),
    ],
    dtype=np.float32,
)


@cache
def compiled(name):
    p, method = (METHODS | OTHERS)[name]
    return p, jax.jit(jax.vmap(partial(method, p=p)))


@pytest.mark.parametrize("name", [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_the_error_is_that_of_a_few_roundings(name):
    p, roots = compiled(name)
    found = roots(jnp.asarray(CASES))
    for A, X, result, residual in zip(
        CASES, *(np.asarray(x) for x in (found.root, found.result, found.residual)), strict=True
    ):
        # Polar Express throws large eigenvalues down to the lower end of its interval, for which u weighs more.
        assert error(X, A, p) <= bound(A, p) * (8 if "polar" in name else 1)
        assert result == Result.CONVERGED
        assert (X == X.T).all()
        assert residual <= FAST.tolerance


def _padded(A):
    B = np.eye(N)
    B[: len(A), : len(A)] = A
    return B


@pytest.mark.parametrize("name", METHODS)
def test_outcomes(name):
    """What there is no root of says so, and is never given a result that looks like one."""
    _, roots = compiled(name)
    Q = np.linalg.qr(np.random.default_rng(11).standard_normal((N, N)))[0]
    asked = {
        Result.ZERO_MATRIX: np.zeros((N, N)),
        Result.NOT_FINITE: np.where(np.eye(N) == 1, np.nan, 0.0),
        Result.ASYMMETRIC: np.triu(np.ones((N, N))),
        Result.NOT_POSITIVE_DEFINITE: (Q * np.r_[-0.5, np.linspace(0.1, 1, N - 1)]) @ Q.T,
    }
    singular = _padded(np.zeros((1, 1)))
    batch = jnp.asarray(
        np.array(
            [*(np.triu(A) + np.triu(A, 1).T if k != Result.ASYMMETRIC else A for k, A in asked.items()), singular]
            + [np.eye(N)] * (len(CASES) - 5),
            dtype=np.float32,
        )
    )
    found = roots(batch)
    assert found.result[:5].tolist() == [*map(int, asked), int(Result.NOT_POSITIVE_DEFINITE)]
    assert np.isnan(found.root[:3]).all()
    assert (np.asarray(found.result[5:]) == Result.CONVERGED).all()


@pytest.mark.parametrize("name", METHODS)
def test_powers_of_two_change_no_bit(name):
    """The root of 2^{p k} A is 2^-k times that of A, bit for bit."""
    p, roots = compiled(name)
    k = np.resize([-9, -1, 3, 12], len(CASES))[:, None, None]
    plain = np.asarray(roots(jnp.asarray(CASES)).root)
    scaled = np.asarray(roots(jnp.asarray(CASES * np.float32(2.0) ** (p * k).astype(np.float32))).root)
    np.testing.assert_array_equal(scaled, plain * np.float32(2.0) ** (-k).astype(np.float32))


@pytest.mark.slow
def test_a_batch_is_a_map():
    """Products of a batch may be summed in another order, which is another set of roundings."""
    p, roots = compiled("newton_schulz 2")
    alone = jax.jit(partial(OTHERS["newton_schulz 2"][1], p=p))
    together = roots(jnp.asarray(CASES))
    for i, A in enumerate(CASES):
        one = alone(jnp.asarray(A))
        F = np.linalg.norm(true_root(A, p), 2)
        assert np.linalg.norm(np.float64(one.root) - np.float64(together.root[i]), 2) / F <= 2 * bound(A, p)
        assert one.result == together.result[i]


def test_a_number():
    found = jax.jit(partial(minimax_polynomial, p=3, setting=FAST))(jnp.array([[0.3]], jnp.float32))
    assert float(found.root[0, 0]) == pytest.approx(0.3 ** (-1 / 3), rel=8 * U)


def test_minus_one_quarter_is_not_minus_one_half():
    """With an exact answer off the diagonal: on an identity the two are one."""
    H = np.ones((N, N)) * (2 / N) - np.eye(N)  # a reflection
    A = H @ np.diag([1, 16, 256, 16] * 2) @ H
    X = H @ np.diag([1, 1 / 2, 1 / 4, 1 / 2] * 2) @ H
    for name in ("newton_schulz 4, accelerated", "polynomial 4"):
        found = compiled(name)[1](jnp.asarray(np.resize(A, CASES.shape), jnp.float32)).root[0]
        assert np.linalg.norm(found - X, 2) <= bound(A, 4)
        assert np.linalg.norm(found - H @ np.diag([1, 1 / 4, 1 / 16, 1 / 4] * 2) @ H, 2) > 0.2


@pytest.mark.slow
def test_padding():
    """The rest of a padded matrix is zero, its root that of the block, to what another normalization rounds."""
    A = gallery.spd(5, condition=100.0, seed=2).astype(np.float32)
    B = np.full((N, N), 7, np.float32)
    B[:5, :5] = A
    found = minimax_polynomial(jnp.asarray(B), 4, setting=Setting(size=5, kernels=LIBRARY))
    assert error(found.root[:5, :5], A, 4) <= bound(A, 4)
    assert not np.any(found.root[5:])
    assert not np.any(found.root[:, 5:])


def test_schedules_take_fewer_steps():
    """Newton's iteration multiplies a small eigenvalue of M by (5 / 4)^4 in a step."""
    A = jnp.asarray(CASES[1])
    scheduled = int(compiled("polynomial 4")[1](jnp.asarray(CASES)).steps[1])
    taylor = int(jax.jit(partial(minimax_polynomial, p=4, schedule="newton_schulz", degree=1, setting=FAST))(A).steps)
    assert scheduled <= 0.6 * taylor


@pytest.mark.slow
def test_a_lower_bound_that_is_too_high_costs_steps_only():
    A = CASES[1]
    found = jax.jit(partial(minimax_polynomial, p=2, lower=0.1, setting=FAST))(jnp.asarray(A))
    assert error(found.root, A, 2) <= bound(A, 2)
    assert found.result == Result.CONVERGED


@pytest.mark.slow
def test_few_steps_are_said_to_be_few():
    found = jax.jit(partial(minimax_polynomial, p=2, steps=3, setting=FAST))(jnp.asarray(CASES[1]))
    assert (found.result, found.steps) == (Result.MAX_STEPS, 3)


@pytest.mark.slow
def test_a_schedule_of_ones_own():
    """Halley's start, Newton's end."""
    mine = schedules.Schedule((minimax.taylor(2, 2),), minimax.taylor(2, 1))
    found = jax.jit(partial(minimax_polynomial, p=2, schedule=mine, setting=FAST))(jnp.asarray(CASES[0]))
    assert error(found.root, CASES[0], 2) <= bound(CASES[0], 2)


@pytest.mark.slow
def test_muon_is_no_root():
    found = jax.jit(partial(newton_schulz, p=2, schedule="muon", degree=2, setting=FAST))(jnp.asarray(CASES[0]))
    assert error(found.root, CASES[0], 2) > 0.05
    assert int(found.result) in {Result.STAGNATED, Result.MAX_STEPS, Result.DIVERGED}


@pytest.mark.slow
def test_a_symmetrized_residual_is_unstable():
    """Above kappa = 34: the eigenvalue 1 - (2 + r + 1 / r) / 4 of a step, r = sqrt(kappa), is below -1."""
    everything = jax.jit(partial(newton_schulz, p=2, symmetrized="everything", setting=FAST))
    factors = jax.jit(partial(newton_schulz, p=2, symmetrized="factors", setting=FAST))
    mild, hard = (gallery.spd(N, condition=k, seed=3).astype(np.float32) for k in (20.0, 3e4))
    assert error(everything(jnp.asarray(mild)).root, mild, 2) <= bound(mild, 2)
    assert error(factors(jnp.asarray(hard)).root, hard, 2) <= bound(hard, 2)
    assert error(everything(jnp.asarray(hard)).root, hard, 2) > 20 * bound(hard, 2)


def test_the_limit_of_the_symmetrized_residual():
    """The multiplier of a step at its fixed point, from its derivative, on both sides of 17 + 12 sqrt(2)."""

    def step(pair):
        Y, Z = pair
        M = Z @ Y
        T = (3 * jnp.eye(2) - (M + M.T) / 2) / 2
        Y, Z = Y @ T, T @ Z
        return (Y + Y.T) / 2, (Z + Z.T) / 2

    limit = 17 + 12 * np.sqrt(2)
    with jax.enable_x64(True):
        for kappa in (0.9 * limit, 1.1 * limit):
            y = jnp.array([1.0, kappa**0.5])
            direction = jnp.array([[0.0, 1.0], [1.0, 0.0]])
            # Y and Z move oppositely in the direction of the second eigenvalue
            tangent = (direction * (y[0] + y[1]), direction * (1 / y[0] + 1 / y[1]))
            _, moved = jax.jvp(step, ((jnp.diag(y), jnp.diag(1 / y)),), (tangent,))
            multiplier = float(moved[0][0, 1] / tangent[0][0, 1])
            assert multiplier == pytest.approx(1 - (2 + kappa**0.5 + kappa**-0.5) / 4)
            assert (multiplier < -1) == (kappa > limit)


@pytest.mark.parametrize(
    ("name", "arithmetic", "u"),
    [
        pytest.param("polynomial 4", "bfloat16", 2.0**-8, marks=pytest.mark.slow),
        pytest.param("newton_schulz 2", "bfloat16", 2.0**-8, marks=pytest.mark.slow),
        pytest.param("newton_schulz 4, accelerated", "float16", 2.0**-11, marks=pytest.mark.slow),
        pytest.param("polynomial 3", "float16", 2.0**-11, marks=pytest.mark.slow),
    ],
)
def test_emulated(name, arithmetic, u):
    p, method = (METHODS | OTHERS)[name]
    A = np.asarray(pl.round_to(jnp.asarray(gallery.spd(N, condition=8.0, seed=5), jnp.float32), arithmetic))
    found = pl.emulate(partial(method, p=p, setting=Setting()), arithmetic)(A)
    assert error(found.root, A, p) <= bound(A, p, u)
    assert (pl.round_to(found.root, arithmetic) == found.root).all()


@pytest.mark.slow
def test_precision_is_needed_early():
    """Six steps in float32 and the rest in bfloat16 give ten times the accuracy of bfloat16, which is none."""
    A = np.asarray(pl.round_to(jnp.asarray(gallery.spd(N, condition=300.0, seed=6), jnp.float32), "bfloat16"))
    errors = []
    for early in ("float32", "bfloat16"):
        arithmetic = pl.Arithmetic("bfloat16", overrides={"early": early})
        found = pl.emulate(partial(minimax_polynomial, p=2, switch=8), arithmetic)(A)
        errors.append(error(found.root, A, 2))
    assert errors[0] <= 8 * 2.0**-8
    assert errors[1] > 4 * errors[0]


def test_with_fifty_digits():
    A = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 1.0]])
    for p, method in ((3, minimax_polynomial), (4, newton_schulz)):
        X = mpmath.matrix(pl.evaluate(partial(method, p=p), A).root.tolist())
        with mpmath.workdps(50):
            w, V = mpmath.eigsy(mpmath.matrix(A.tolist()))
            F = V * mpmath.diag([x ** (mpmath.mpf(-1) / p) for x in w]) * V.T
            assert mpmath.mnorm(X - F) <= mpmath.mpf(10) ** -45


def test_chebyshev_restores_the_scale():
    """To the error of the expansion, below 1e-8, and that of 64 products, whatever the scale."""
    A = spd(np.linspace(0.125, 1.0, N), 8)
    roots = jax.jit(jax.vmap(partial(chebyshev, p=4, degree=64, lower=2.0**-6, setting=FAST)))
    scales = np.array([1.0, 3.0, 2.0**-40, 2.0**40], np.float32)
    found = roots(jnp.asarray(scales[:, None, None] * A))
    for scale, X in zip(scales, np.asarray(found.root), strict=True):
        assert error(X, scale * A, 4) <= 2e-6
    assert (np.asarray(found.result) == Result.CONVERGED).all()


@pytest.mark.slow
def test_a_low_degree_is_said_to_be_low():
    A = spd(np.geomspace(1e-3, 1.0, N), 8)
    found = jax.jit(partial(chebyshev, p=2, degree=20, lower=1e-4, setting=FAST))(jnp.asarray(A))
    assert error(found.root, A, 2) > 0.1
    assert found.result == Result.STAGNATED


@pytest.mark.slow
def test_the_shifted_expansion_has_the_bias_of_a_ridge():
    A = spd(np.linspace(0.125, 1.0, N), 8)
    A = A / np.float32(np.abs(A).sum(1).max() * 1.001)  # so that M = A
    l = 2.0**-5
    found = jax.jit(partial(chebyshev, p=2, degree=64, lower=l, shifted=True, setting=FAST))(jnp.asarray(A))
    assert error(found.root, A + l * np.eye(N), 2) <= 1e-5
    assert error(found.root, A, 2) > 0.05


def test_polar_factor_by_the_gram_matrix():
    rng = np.random.default_rng(9)
    U_, V = (np.linalg.qr(rng.standard_normal((m, 6)))[0] for m in (6, 10))
    G = np.float32((U_ * np.linspace(0.05, 1.0, 6)) @ V.T)
    # R is formed from G once, and rounded by u of its largest eigenvalue: a restart makes good for that.
    polar = jax.jit(jax.vmap(partial(gram_newton_schulz, steps=12, restart=6)))
    found = polar(jnp.asarray(np.array([G, G * np.float32(2.0**-30)])))
    kappa = 20.0
    assert np.linalg.norm(found.factor[0] - U_ @ V.T) <= 6 * kappa**2 * U
    assert (np.asarray(found.residual) <= 64 * U).all()
    np.testing.assert_array_equal(found.factor[0], found.factor[1])


@pytest.mark.slow
def test_gram_matrices_turn_negative_without_restart():
    """Five steps in bfloat16, kappa = 10^3: the rounding of a Gram matrix, u, is far above its smallest eigenvalue."""
    rng = np.random.default_rng(10)
    U_, V = (np.linalg.qr(rng.standard_normal((m, 8)))[0] for m in (8, 12))
    G = np.float32((U_ * np.geomspace(1e-3, 1.0, 8)) @ V.T)
    found, again = (
        pl.emulate(partial(gram_newton_schulz, steps=5, restart=k, lower=2.0**-20), "bfloat16")(G) for k in (None, 2)
    )
    assert np.linalg.eigvalsh(np.float64(found.gram + found.gram.T) / 2)[0] < 0
    assert again.residual < found.residual / 2


def test_misuse():
    A = jnp.eye(3)
    with pytest.raises(ValueError, match="p = 3 given; newton_schulz composes square roots"):
        newton_schulz(A, 3)
    with pytest.raises(ValueError, match="symmetrized = 'all' given"):
        newton_schulz(A, 2, symmetrized="all")
    with pytest.raises(ValueError, match="the bound 'norm' given"):
        minimax_polynomial(A, 2, bound="norm")
    with pytest.raises(ValueError, match="a traced p given"):
        jax.jit(lambda p: minimax_polynomial(A, p))(2)
    with pytest.raises(ValueError, match="p = 0 given"):
        minimax_polynomial(A, 0)
    with pytest.raises(ValueError, match=r"lower 1\.0 given"):
        chebyshev(A, 2, lower=1.0)
    with pytest.raises(ValueError, match="transpose it"):
        gram_newton_schulz(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="restart = 0"):
        gram_newton_schulz(A, restart=0)
    with pytest.raises(ValueError, match="steps = -1"):
        gram_newton_schulz(A, steps=-1)
