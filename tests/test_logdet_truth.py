"""The LogDet target: found by its definition, proved by its optimality condition."""

from fractions import Fraction as Q

import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab import gallery
from precond_lab.truth.logdet import Status, direction, logdet_projection

A = [[2.0, 3.0, 1.0], [1.0, -1.0, 0.0]]
B = [[4.0, 5.0, 9.0, 8.0], [2.0, -3.0, 6.0, 0.0]]
C = [[4.0, 5.0, 3.0, 4.0, 6.0], [2.0, 1.0, 1.0, 2.0, 0.0], [1.0, -1.0, 1.0, 0.0, 0.0]]
X_A = [["3/5", "17/30", "3/2"], ["-1/5", "1/2", "0"]]
X_B = [["5/16", "3/10", "1/4", "1/4"], ["-1/8", "1/12", "-1/6", "0"]]
X_C = [
    ["14/43", "1943/6923", "893857/2056131", "4733/13662", "11/54"],
    ["-5/43", "-580/6923", "-776/6831", "-5/54", "0"],
    ["-3/43", "2/23", "-1/27", "0", "0"],
]
METHODS = pytest.mark.parametrize("method", ["newton", "elimination"])


def off_by(X: np.ndarray, Y: np.ndarray) -> mpmath.mpf:
    """Largest difference of two bands relative to the diagonal: |X - Y|_ij / sqrt(X_ii X_jj)."""
    with mpmath.workdps(60):
        n = X.shape[1]
        return max(
            abs(X[k, i] - Y[k, i]) / mpmath.sqrt(X[0, i] * X[0, i + k]) for k in range(len(X)) for i in range(n - k)
        )


def closed_form(H: np.ndarray, digits: int) -> np.ndarray:
    """The explicit X of SONew's Theorem 3.1, which the target must not know."""
    with mpmath.workdps(digits + 40):
        n = H.shape[1]
        h = [[mpmath.mpf(float(x)) for x in row] for row in H]
        X = np.full((2, n), mpmath.mpf(0), dtype=object)
        for i in range(n):
            psi = h[1][i] / h[0][i + 1] if i + 1 < n else mpmath.mpf(0)
            s = h[0][i] - psi * h[1][i] if i + 1 < n else h[0][i]
            X[0, i] += 1 / s
            if i + 1 < n:
                X[1, i] = -psi / s
                X[0, i + 1] += psi**2 / s
        return X


@pytest.mark.parametrize(("H", "X"), [(A, X_A), (B, X_B), (C, X_C)], ids=["A", "B", "C"])
@METHODS
def test_worked_examples(H, X, method):
    if len(H) == 3 and method == "elimination":
        with pytest.raises(ValueError, match="elimination solves chains"):
            logdet_projection(H, method=method)
        return
    projection = logdet_projection(H, method=method)
    assert projection.status is Status.SOLVED
    assert projection.residual <= mpmath.mpf(10) ** -50
    with mpmath.workdps(60):
        exact = np.array([[mpmath.mpf(Q(x).numerator) / Q(x).denominator for x in row] for row in X])
    assert off_by(exact, projection.band) < mpmath.mpf(10) ** -48


def test_the_inverse_agrees_on_the_band_and_nowhere_else():
    X = logdet_projection(C, digits=40).X
    with mpmath.workdps(50):
        inverse = mpmath.matrix(X.tolist()) ** -1
        off_band = {(3, 0): Q(-1, 7), (4, 0): Q(9, 77), (4, 1): Q(-3, 11)}
        for i in range(5):
            for j in range(i + 1):
                exact = off_band[i, j] if i - j > 2 else Q(C[i - j][j])
                assert abs(inverse[i, j] - mpmath.mpf(exact.numerator) / exact.denominator) < mpmath.mpf(10) ** -39
        determinant = mpmath.det(mpmath.matrix(X.tolist()))
        assert abs(1 / determinant - mpmath.mpf(53406) / 77) < mpmath.mpf(10) ** -36


def test_worked_directions():
    for H, g, u in (
        (A, [1.0, -2.0, 3.0], ["1", "1/6", "7/2"]),
        (B, [1.0, 1.0, -1.0, 2.0], ["3/16", "11/120", "-1/2", "2/3"]),
        (C, [1.0, 0.0, -1.0, 2.0, 1.0], ["17/43", "979/6923", "-526871/685377", "3251/4554", "1/18"]),
    ):
        for computed, exact in zip(direction(H, g, 40), u, strict=True):
            with mpmath.workdps(50):
                assert abs(computed - mpmath.mpf(Q(exact).numerator) / Q(exact).denominator) < mpmath.mpf(10) ** -39


small = st.builds(
    gallery.chain_by_condition,
    st.integers(2, 5),
    condition=st.floats(1, 40).map(lambda k: 2.0**k),
    seed=st.integers(0, 2**32 - 1),
)


@given(small)
@settings(max_examples=12, deadline=None)
def test_newton_elimination_and_closed_form_agree(H):
    newton = logdet_projection(H, method="newton").band
    assert off_by(newton, closed_form(H, 50)) < mpmath.mpf(10) ** -40
    assert off_by(newton, logdet_projection(H, method="elimination").band) < mpmath.mpf(10) ** -40


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_long_chains_agree_with_the_closed_form(n, seed):
    """Also where there is next to nothing left of positive definiteness: T = 2 gradients."""
    H = gallery.gram_chain(2, n, seed=seed)
    projection = logdet_projection(H, method="elimination")
    assert projection.residual < mpmath.mpf(10) ** -50
    assert off_by(projection.band, closed_form(H, 50)) < mpmath.mpf(10) ** -40


def test_trace_identity():
    H = gallery.chain_by_condition(30, condition=2.0**20, seed=1)
    X = logdet_projection(H, 40).band
    with mpmath.workdps(50):
        trace = sum(x * h for x, h in zip(X[0], H[0], strict=True))
        trace += 2 * sum(x * h for x, h in zip(X[1], H[1], strict=True))
        assert abs(trace - 30) < mpmath.mpf(10) ** -36


@METHODS
def test_reduced_graph_is_the_direct_sum_of_its_parts(method):
    H = np.array(B)
    H[1, 1] = np.nan  # not on the reduced graph, so not read
    X = logdet_projection(H, kept=[[True, False, True, False]], method=method).band
    left = logdet_projection([[4.0, 5.0], [2.0, 0.0]]).band
    right = logdet_projection([[9.0, 8.0], [6.0, 0.0]]).band
    assert off_by(X, np.concatenate([left, right], axis=1)) < mpmath.mpf(10) ** -48
    assert X[1, 1] == 0


@METHODS
def test_extreme_scales(method):
    H = np.array([[1e-300, 1e300, 1.0, 2.0**-1074], [0.5, 1e149, 2.0**-538, 0.0]])
    projection = logdet_projection(H, method=method)
    assert projection.residual < mpmath.mpf(10) ** -50
    assert off_by(projection.band, closed_form(H, 50)) < mpmath.mpf(10) ** -40


def test_diagonal_band():
    X = logdet_projection([[2.0, 4.0, 0.5]]).band
    assert [float(x) for x in X[0]] == [0.5, 0.25, 2.0]


@pytest.mark.parametrize(
    ("H", "status", "vertex"),
    [
        ([[1.0, 1.0, 1.0], [0.5, 1.0, 0.0]], Status.NO_MINIMIZER, 1),
        ([[1.0, 1.0, 1.0], [0.5, -1.25, 0.0]], Status.NO_MINIMIZER, 1),
        ([[0.0, 1.0, 1.0], [0.0, 0.5, 0.0]], Status.NO_MINIMIZER, 0),
        ([[1.0, 1.0, -1.0], [0.5, 0.0, 0.0]], Status.NO_MINIMIZER, 1),
        ([[1.0, np.inf, 1.0], [0.5, 0.5, 0.0]], Status.NOT_FINITE, 1),
        ([[1.0, 1.0, 1.0], [0.5, np.nan, 0.0]], Status.NOT_FINITE, 1),
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], Status.NO_MINIMIZER, 0),
    ],
)
def test_breakdown_is_a_value(H, status, vertex):
    projection = logdet_projection(H)
    assert (projection.status, projection.vertex) == (status, vertex)
    assert all(mpmath.isnan(x) for x in projection.band.flat)
    assert projection.residual == mpmath.inf
    assert status.prose
    assert all(mpmath.isnan(x) for x in direction(H, [1.0, 2.0, 3.0]))


def test_existence_is_decided_exactly():
    """1 - beta^2 = 2^-104: lost in float64, not here."""
    H = [[1.0 + 2.0**-52, 1.0 - 2.0**-52], [1.0 - 2.0**-53, 0.0]]
    minor = Q(H[0][0]) * Q(H[0][1]) - Q(H[1][0]) ** 2
    expected = Status.SOLVED if minor > 0 else Status.NO_MINIMIZER
    assert logdet_projection(H, 30).status is expected
    H = [[1.0, 1.0], [1.0 - 2.0**-53, 0.0]]
    for method in ("newton", "elimination"):
        assert logdet_projection(H, 30, method=method).residual < mpmath.mpf(10) ** -30


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, np.float64])
def test_stored_numbers_are_taken_bit_by_bit(dtype):
    H = np.array([[1.1, 1.3], [0.7, 0.0]], dtype)
    exact = logdet_projection([[Q(float(x)) for x in row] for row in H])
    for given_as in (H, jnp.asarray(H) if dtype is not np.float64 else H):
        assert off_by(logdet_projection(given_as).band, exact.band) == 0


@pytest.mark.parametrize("method", ["newton", "elimination"])
def test_what_lies_past_the_end_of_a_diagonal_is_ignored(method):
    shortest = logdet_projection([[2.0], [9.0]], method=method)
    assert shortest.status is Status.SOLVED
    assert shortest.band.tolist() == [[0.5], [0.0]]
    assert shortest.X.tolist() == [[0.5]]
    padded = logdet_projection([[2.0, 4.0], [0.0, 9.0]], method=method)
    assert padded.band.tolist() == [[0.5, 0.25], [0.0, 0.0]]
    assert direction([[2.0], [9.0]], [3.0]).tolist() == [1.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"H": [1.0, 2.0]}, "wanted"),
        ({"H": np.ones((2, 0))}, "a row and a column at least"),
        ({"H": B, "kept": [[True, True, True]]}, "needs a mask"),
        ({"H": C, "kept": np.ones((2, 5), bool)}, "reduced graph"),
    ],
)
def test_misuse_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        logdet_projection(**arguments)
    with pytest.raises(ValueError, match="length 3"):
        direction(B, [1.0, 2.0, 3.0])
