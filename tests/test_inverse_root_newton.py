"""Newton's iterations and those of higher order: what their theory says, in exact and in rounded arithmetic."""

from fractions import Fraction
from functools import cache, partial
from math import log, prod

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery
from precond_lab.preconditioners.inverse_root.certificate import certificate
from precond_lab.preconditioners.inverse_root.higher_order import ORDERS, coupled_higher_order, taylor_multiplier
from precond_lab.preconditioners.inverse_root.iterations import HALF, Scheme, iterated
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY, LOOPS
from precond_lab.preconditioners.inverse_root.newton import (
    coupled_newton,
    newton,
    newton_multiplier,
    uncoupled_gain,
    uncoupled_threshold,
)
from precond_lab.preconditioners.inverse_root.powers import exponent, matrix_power, scale
from precond_lab.preconditioners.inverse_root.results import Result
from precond_lab.preconditioners.inverse_root.solution import Setting

f32 = np.float32
U = 2.0**-24
P = (1, 2, 3, 4, 6, 8)
LAPACK = Setting(kernels=LIBRARY)  # compiles sooner; what is judged is the iteration


def exact_root(A, p):
    """By float64 eigenvalues of a float32 matrix: an error of kappa 2^-53 is nothing beside one of kappa 2^-24."""
    values, vectors = np.linalg.eigh(np.asarray(A, float))
    return (vectors * values ** (-1 / p)) @ vectors.T


def distance(X, F):
    return np.linalg.norm(np.asarray(X, float) - F, 2) / np.linalg.norm(F, 2)


# Powers of two and of matrices


@pytest.mark.parametrize("dtype", ["float32", "float64", pytest.param("float16", marks=pytest.mark.slow)])
def test_exponents_and_scalings_are_exact_over_the_whole_range(dtype):
    info = np.finfo(dtype)
    with jax.enable_x64(dtype == "float64"):
        e = np.arange(info.minexp, info.maxexp)
        powers = np.ldexp(np.ones(1, dtype), e)
        assert powers.dtype == dtype
        x = np.concatenate([powers, powers * dtype_of(dtype, 2 - info.eps), powers * dtype_of(dtype, 1.5)])
        got = np.asarray(jax.jit(jax.vmap(exponent))(x))
        np.testing.assert_array_equal(got, np.tile(e + 1, 3))
        # To [1/2, 1) and back again, and from one end of the range to the other.
        y = np.asarray(jax.jit(jax.vmap(scale))(x, -got))
        np.testing.assert_array_equal(y, np.ldexp(x, -got))
        np.testing.assert_array_equal(np.asarray(jax.jit(jax.vmap(scale))(y, got)), x)
        across = np.asarray(jax.jit(jax.vmap(scale))(x, -2 * got + 1))
        inside = np.abs(-got + 1) < -info.minexp
        np.testing.assert_array_equal(across[inside], np.ldexp(x, -2 * got + 1)[inside])
        assert [int(exponent(jnp.asarray(bad, dtype))) for bad in (0.0, -1.0, np.inf, np.nan)] == [1, 1, 1, 1]


def dtype_of(dtype, x):
    return np.dtype(dtype).type(x)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_exponents_are_those_of_the_emulated_format_and_overflow_nothing(format):
    record = pl.formats.named(format)
    e = np.arange(record.min_exponent, record.max_exponent + 1)
    f = pl.emulate(jax.vmap(lambda x: (exponent(x), scale(x, 1 - exponent(x)))), format, events=True)
    (got, normalized), events = f(2.0 ** e.astype(f32))
    np.testing.assert_array_equal(got, e + 1)
    np.testing.assert_array_equal(normalized, np.ones_like(e))
    assert [int(count) for count in events] == [0, 0, 0, 0]


def test_a_power_of_a_matrix_is_exact_and_the_same_for_a_traced_exponent():
    A = np.array([[1, 1], [1, 0]], f32)
    traced = jax.jit(jax.vmap(lambda p: matrix_power(A, p, jnp.matmul)))(jnp.arange(1, 33))
    for p, got in enumerate(traced, start=1):
        want = np.linalg.matrix_power(A.astype(int), p)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(matrix_power(A, p, np.matmul), want)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 6, 7, 8, 23])
def test_a_power_of_a_matrix_costs_no_product_too_many(p):
    count = []

    def product(A, B):
        count.append(1)
        return A @ B

    matrix_power(np.eye(2), p, product)
    assert len(count) == p.bit_length() - 1 + p.bit_count() - 1


# The theory, in exact arithmetic


def residual_polynomial(p, m):
    """h(x) = 1 - (1-x) t(x)^p, the coefficients, with t the Taylor polynomial of (1-x)^{-1/p} of degree m - 1."""
    t = [prod((Fraction(1 + (j - 1) * p, j * p) for j in range(1, i + 1)), start=Fraction(1)) for i in range(m)]
    h = [Fraction(1), Fraction(-1)]
    for _ in range(p):
        h = [sum(h[i] * t[k - i] for i in range(len(h)) if 0 <= k - i < m) for k in range(len(h) + m - 1)]
    return [1 - h[0], *(-c for c in h[1:])]


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("order", ORDERS)
def test_the_residual_polynomial_begins_with_its_order_and_has_no_negative_coefficients(order, p):
    """From this follows |h(x)| <= |x|^m in (-1, 1): an error below 1/2 is halved, which the loop relies on."""
    h = residual_polynomial(p, order)
    assert not any(h[:order])
    assert h[order] > 0
    assert min(h) >= 0
    assert sum(h) == 1


@pytest.mark.parametrize("p", [*P, 17, 100])
def test_an_eigenvalue_in_the_region_of_newton_never_goes_away_from_one(p):
    """By Bernoulli's inequality; exactly, on a grid over (0, p + 1)."""
    for k in range(1, 400):
        m = Fraction(k * (p + 1), 400)
        image = m * (1 + (1 - m) / p) ** p
        assert 0 < image <= 1
        assert abs(image - 1) <= min(abs(m - 1), (m - 1) ** 2)


@pytest.mark.parametrize("order", ORDERS)
def test_the_multiplier_is_the_taylor_polynomial(order):
    """At 50 digits, on a diagonal matrix."""
    x = np.array([0.5, -0.25, 0.875])
    for p in (1, 3, 8):
        T = pl.evaluate(lambda M, p=p: taylor_multiplier(M, p, order, jnp.matmul), np.diag(1 - x))
        with mpmath.workdps(50):
            for i, e in enumerate(x):
                coefficients = mpmath.taylor(lambda y, p=p: (1 - y) ** (-mpmath.mpf(1) / p), 0, order - 1)
                assert abs(T[i, i] - mpmath.polyval(coefficients, e, asc=True)) < mpmath.mpf(10) ** -40
    if order == 2:
        np.testing.assert_allclose(
            taylor_multiplier(np.diag(1 - x), 3, 2, np.matmul), newton_multiplier(np.diag(1 - x), 3), rtol=8 * U
        )


@pytest.mark.parametrize("method", [coupled_newton, newton, partial(coupled_higher_order, order=3, newton_steps=1)])
def test_with_50_digits_the_root_is_exact(method):
    A = gallery.spd(3, condition=20.0 if method is not newton else 2.0, seed=2)
    found = pl.evaluate(partial(method, p=3), A, digits=50)
    assert found.result == Result.CONVERGED
    with mpmath.workdps(60):
        w, V = mpmath.eigsy(mpmath.matrix(A.tolist()))
        F = V * mpmath.diag([x ** (-mpmath.mpf(1) / 3) for x in w]) * V.T
        assert max(abs(F[i, j] - found.root[i, j]) for i in range(3) for j in range(3)) < mpmath.mpf(10) ** -45
        assert found.residual.item() < mpmath.mpf(10) ** -45


def stable_ratio(p):
    """The root rho > 1 of rho^{1/p} + ... + rho^{p/p} = 2 p, by mpmath."""
    with mpmath.workdps(30):
        return mpmath.findroot(lambda t: sum(t**r for r in range(1, p + 1)) - 2 * p, 1.3) ** p


@pytest.mark.parametrize("p", P)
def test_the_uncoupled_iteration_is_unstable_from_the_predicted_condition_on(p):
    assert abs(uncoupled_threshold(p) - stable_ratio(p)) < 1e-13


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("condition", [1.5, 3.0, 10.0])
def test_an_error_of_the_uncoupled_iteration_grows_by_the_predicted_gain(p, condition):
    """In float64, from an error of 1e-9 along v_min v_max^T; what is not linear is smaller by as much."""
    A = gallery.spd(4, condition=condition, seed=1)
    w, V = np.linalg.eigh(A)
    F = exact_root(A, p)
    E = 1e-9 * np.outer(V[:, 0], V[:, -1])
    X = F + E
    gain = uncoupled_gain(w[-1] / w[0], p)
    for step in range(1, 4):
        X = X @ np.asarray(newton_multiplier_64(np.linalg.matrix_power(X, p) @ A, p))
        assert V[:, 0] @ (X - F) @ V[:, -1] / 1e-9 == pytest.approx((-1) ** step * signed(gain, w, p) ** step, rel=1e-2)


def newton_multiplier_64(M, p):
    with jax.enable_x64(True):
        return newton_multiplier(jnp.asarray(M), p)


def signed(gain, w, p):
    """The factor itself is 1 - sum / p; here with its sign turned."""
    rho = w[-1] / w[0]
    return gain if sum(rho ** (r / p) for r in range(1, p + 1)) > p else -gain


# In float32


@cache
def compiled(name, options):
    method = {"newton": coupled_newton, "higher": coupled_higher_order}[name]
    return jax.jit(jax.vmap(lambda A, p: method(A, p, setting=LAPACK, **dict(options))))


FROBENIUS = ("newton", (("scaling", "frobenius"),))
FORMS = [
    FROBENIUS,
    ("higher", (("order", 3),)),
    *(
        pytest.param("newton", (("scaling", scaling),), marks=pytest.mark.slow)
        for scaling in ("trace", "infinity_norm", "largest_eigenvalue", "guo_higham")
    ),
    pytest.param("higher", (("order", 6), ("newton_steps", 1), ("scaling", "frobenius")), marks=pytest.mark.slow),
]
N = 12
CONDITIONS = (1.5, 1e2, 1e4, 1e5)


def cases():
    return [
        (gallery.spd(N, condition=condition, spectrum=spectrum, seed=seed).astype(f32), condition, p)
        for seed, spectrum in enumerate(gallery.SPECTRA)
        for condition in CONDITIONS
        for p in P
    ]


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_the_error_is_that_of_the_condition_and_the_certificate_bounds_it(name, options):
    """At most sqrt(n) (kappa / p + 2 k) u after k steps.

    A product of matrices errs by n u at most relative to their norms, and by sqrt(n) u if the roundings are not of one
    sign. An error of M in an early step is made larger by kappa / p, and those of later ones, a geometric series, by
    less; each step adds one of X itself.
    """
    A, condition, p = (np.array(x) for x in zip(*cases(), strict=True))
    found = compiled(name, options)(A, p)
    assert (found.result == int(Result.CONVERGED)).all()
    for B, kappa, q, X, steps, residual in zip(A, condition, p, found.root, found.steps, found.residual, strict=True):
        error = distance(X, exact_root(B, q))
        assert error < np.sqrt(N) * (kappa / q + 2 * int(steps)) * U
        # To first order, and up to the backward error of the Cholesky factor in the certificate.
        assert error < 1.1 * float(residual) + np.sqrt(N) * kappa / q * U


def phase_one(values, z, p):
    """How many steps it takes until |M - I|_F < 1/2, from the eigenvalues of A."""
    m, steps = z * values, 0
    while np.linalg.norm(m - 1) >= HALF:
        m, steps = m * ((p + 1 - m) / p) ** p, steps + 1
    return steps


def test_the_number_of_steps_is_the_predicted_one():
    """Then 1/2, 1/4, 1/16, 1/256, 2^-16, 2^-32: at rest at the latest with the sixth step."""
    A, _, p = (np.array(x) for x in zip(*cases(), strict=True))
    found = compiled(*FROBENIUS)(A, p)
    for B, q, steps in zip(A, p, found.steps, strict=True):
        first = phase_one(np.linalg.eigvalsh(B.astype(float)), (q + 1) / (2 * np.linalg.norm(B)), q)
        assert first < int(steps) <= first + 6


@cache
def with_extremes():
    method = partial(coupled_newton, scaling="guo_higham", setting=LAPACK)
    return jax.jit(jax.vmap(lambda A, low, high: method(A, extremes=(low, high))))


def test_the_optimal_scaling_takes_the_fewest_steps_at_every_scale():
    A = gallery.spd(N, condition=1e4, seed=3).astype(f32)
    values = np.linalg.eigvalsh(A.astype(float))
    c = np.array([1.0, 2.0**20, 2.0**-40], f32)
    found = with_extremes()(A * c[:, None, None], f32(values[0]) * c, f32(values[-1]) * c)
    assert (found.result == int(Result.CONVERGED)).all()
    np.testing.assert_array_equal(found.root[1:], found.root[:1] * np.array([2.0**-10, 2.0**20], f32)[:, None, None])
    frobenius = compiled(*FROBENIUS)(np.array([A] * len(cases())), np.full(len(cases()), 2)).steps[0]
    assert found.steps[0] < frobenius


def test_the_wrong_branch_is_not_taken_for_a_root():
    """From beyond p + 1 an even power converges to a root with a negative eigenvalue, whose square is the right one."""
    A = np.diag(np.append(1.0, np.full(N - 1, 0.5))).astype(f32)
    found = with_extremes()(np.array([A] * 3), np.full(3, 0.05, f32), np.full(3, 0.6, f32))
    X = np.asarray(found.root[0], float)
    assert X[0, 0] < 0
    assert np.abs(X @ X @ A - np.eye(N)).max() < 1e-5
    assert found.result[0] == Result.STAGNATED
    assert np.isinf(found.residual[0])


@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_the_certificate_is_the_residual(p):
    """Beside the definition in float64, of a root with a known error; for a traced p too."""
    A = gallery.spd(6, condition=30.0, seed=p)
    E = np.random.default_rng(p).standard_normal((6, 6)) * 1e-2
    X = exact_root(A, p) + (E + E.T)
    L = np.linalg.cholesky(A)
    want = np.linalg.norm(L.T @ np.linalg.matrix_power(X, p) @ L - np.eye(6)) / p
    static = jax.jit(lambda A, X: certificate(A, X, p, LIBRARY))(f32(A), f32(X))
    traced = jax.jit(lambda A, X, p: certificate(A, X, p, LIBRARY))(f32(A), f32(X), p)
    np.testing.assert_allclose([static, traced], [want, want], rtol=1e-3)


@pytest.mark.parametrize("p", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)])
def test_a_traced_exponent_gives_the_same_bits(p):
    A = np.array([1.1**seed * gallery.spd(N, condition=1e3, seed=seed) for seed in range(len(cases()))]).astype(f32)
    static = jax.jit(jax.vmap(partial(coupled_newton, p=p, setting=LAPACK)))(A)
    traced = compiled(*FROBENIUS)(A, np.full(len(A), p))
    for a, b in zip(static[:3], traced[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(static.residual, traced.residual, rtol=4 * U)  # XLA divides by no constant


def coarse(A, B):
    """A product that is rounded to 11 bits."""
    return jax.lax.reduce_precision(jnp.matmul(A, B, precision="highest"), 8, 10)


def test_products_of_the_first_steps_can_be_other_ones():
    """Ten steps with better ones make the root better, whose last steps have the others."""
    A = gallery.spd(N, condition=1e3, seed=0).astype(f32)
    late = Setting(kernels=LIBRARY._replace(product=coarse))
    f = jax.jit(lambda A, k: coupled_newton(A, setting=late, early_product=LIBRARY.product, switch=k))
    F = exact_root(A, 2)
    all_coarse, fine_first = (distance(f(A, k).root, F) for k in (0, 10))
    assert fine_first < all_coarse / 4


# The loop


def test_the_loop_keeps_the_best_and_says_how_it_ended():
    """On sequences of errors that are given."""

    @jax.jit
    def looped(table, steps, switch):
        scheme = Scheme(lambda k: k + 1, lambda k: table[k], lambda k: k)  # an index beyond the end means the last
        return iterated(scheme, scheme, jnp.int32(0), steps, switch)

    def outcome(*errors, steps=100, switch=0):
        found = looped(np.append(errors, np.full(12 - len(errors), errors[-1])).astype(f32), steps, switch)
        return Result(int(found.result)), int(found.root), int(found.steps)

    at_rest, nan = Result.CONVERGED, float("nan")
    assert outcome(8, 7.9, 7.9, 7.8, 0.45, 0.2, 1e-2, 1e-4, 1e-7, 2e-7) == (at_rest, 8, 9)
    assert outcome(8, 0.4, 1e-3, 1e-8, 3e-8) == (at_rest, 3, 4), "rest is up and down among roundings"
    assert outcome(1, 0.6, 0.4, 0.1, 0.06) == (at_rest, 4, 4), (
        "an error is at rest that was below a half and is not halved"
    )
    assert outcome(0, 1e-7) == (at_rest, 0, 1)
    assert outcome(4, 3, 2, 1, 1.5, 3) == (Result.DIVERGED, 3, 5)
    assert outcome(4, 3, nan) == (Result.DIVERGED, 1, 2)
    assert outcome(4, 3, float("inf")) == (Result.DIVERGED, 1, 2)
    assert outcome(nan, 1) == (Result.DIVERGED, 0, 1)
    assert outcome(9, 8, 7, 6, 5, steps=3) == (Result.MAX_STEPS, 3, 3)
    assert outcome(9, 0.8, 0.9, 0.85, steps=3) == (at_rest, 1, 3)
    # What rests in the first arithmetic has another chance in the second.
    assert outcome(1, 0.3, 0.2, 0.05, 1e-3, 1e-6, 1e-6, switch=3) == (at_rest, 5, 6)
    assert outcome(4, 3, 9, 1, 0.1, switch=2) == (Result.DIVERGED, 1, 2)
    assert HALF == 0.5


# In emulated arithmetic: an emulated loop takes seconds to compile


def bfloat16_matrices(condition, count, n=8):
    """Exact in bfloat16, with about the condition asked for: rounding the matrix has no part in what is measured."""
    rounded = (jnp.asarray(gallery.spd(n, condition=condition, seed=s), jnp.bfloat16) for s in range(100))
    matrices = [np.asarray(A.astype(jnp.float32)) for A in rounded]
    return np.stack(
        [A for A in matrices if 0 < np.linalg.cond(A.astype(float)) < 1.5 * condition and definite(A)][:count]
    )


def definite(A):
    return np.linalg.eigvalsh(A.astype(float))[0] > 0


def in_arithmetic(arithmetic, A, **options):
    f = jax.jit(jax.vmap(pl.emulate(partial(coupled_newton, setting=Setting(kernels=LOOPS), **options), arithmetic)))
    found = f(A)
    return found, np.array([distance(X, exact_root(B, 2)) for B, X in zip(A, found.root, strict=True)])


@pytest.mark.slow
def test_bfloat16_does_not_stop_before_small_eigenvalues_have_grown():
    A = bfloat16_matrices(1e3, 8)
    found, error = in_arithmetic("bfloat16", A)
    for B, steps in zip(A, found.steps, strict=True):
        w = np.linalg.eigvalsh(B.astype(float))
        first = log(0.5 / (1.5 / np.linalg.norm(B) * w[0])) / (2 * log(1.5))
        assert first - 1 < int(steps) < first + 8
    assert np.median(error) < 0.3


@pytest.mark.slow
def test_precision_is_needed_early_and_is_no_use_late():
    A = bfloat16_matrices(1e3, 8)
    _, low = in_arithmetic("bfloat16", A)
    high_first, error = in_arithmetic(
        pl.Arithmetic("bfloat16", overrides={"early": "float32", "certificate": "float32"}), A, switch=12
    )
    _, low_first = in_arithmetic(pl.Arithmetic("bfloat16", overrides={"late": "float32"}), A, switch=6)
    u = 2.0**-8
    assert error.max() < 2 * u
    assert (high_first.result == int(Result.CONVERGED)).all()
    assert np.median(low) > 10 * u
    assert (low_first > 0.5 * low).all()
