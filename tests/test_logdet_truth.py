"""The LogDet target: found by its definition, proved by its optimality condition."""

from fractions import Fraction as Q
from itertools import pairwise, permutations
from math import prod

import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab import gallery
from precond_lab.truth.logdet import (
    Status,
    chordal_projection,
    direction,
    exact_projection,
    logdet_projection,
)
from precond_lab.truth.logdet import exact as exact_module
from precond_lab.truth.logdet import projection as projection_module
from precond_lab.truth.logdet.graph import determinant

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
WORKED = pytest.mark.parametrize(("H", "X"), [(A, X_A), (B, X_B), (C, X_C)], ids=["A", "B", "C"])
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


def rationals(rows) -> np.ndarray:
    return np.array([[Q(x) for x in row] for row in rows], dtype=object).reshape(np.shape(rows))


def in_digits(band: np.ndarray) -> np.ndarray:
    with mpmath.workdps(80):
        return np.array([[mpmath.mpf(x.numerator) / x.denominator for x in row] for row in band], dtype=object)


def dense(band: np.ndarray) -> np.ndarray:
    """The symmetric matrix of a band of rationals."""
    n = band.shape[1]
    return np.array([
        [band[abs(i - j), min(i, j)] if abs(i - j) < len(band) else Q(0) for j in range(n)] for i in range(n)
    ])


def gram(n: int, b: int, seed: int, steps: int = 3) -> np.ndarray:
    """The band of I/8 + the Gram matrix of small integers, in rationals: positive definite, and no more."""
    G = np.random.default_rng(seed).integers(-4, 5, (steps, n)).astype(object)
    H = np.full((b + 1, n), Q(0), dtype=object)
    for k in range(min(b, n - 1) + 1):
        H[k, : n - k] = (G[:, k:] * G[:, : n - k]).sum(axis=0) + Q(k == 0, 8)
    return H


def kept_edges(n: int, b: int, seed: int) -> np.ndarray:
    """A random perfect elimination order: each vertex keeps some of a clique of its later neighbors."""
    draw = np.random.default_rng(seed)
    kept = np.zeros((b, n), bool)
    for j in reversed(range(n - 1 if b else 0)):
        first = j + int(draw.integers(1, b + 1))
        clique = [first, *(first + k + 1 for k in range(b) if first < n and kept[k, first])]
        for i in clique:
            if i < n and i - j <= b and draw.random() < 0.8:
                kept[i - j - 1, j] = True
    return kept


@WORKED
@METHODS
def test_worked_examples(H, X, method):
    projection = logdet_projection(H, method=method)
    assert projection.status is Status.SOLVED
    assert projection.residual <= mpmath.mpf(10) ** -50
    assert off_by(in_digits(rationals(X)), projection.band) < mpmath.mpf(10) ** -50


@WORKED
def test_worked_examples_in_rationals(H, X):
    exact = exact_projection(H)
    assert (exact.status, exact.vertex) == (Status.SOLVED, None)
    assert exact.band.tolist() == rationals(X).tolist()
    psi, s = {
        "3/5": ([["1/3", "-1", "0"]], ["5/3", "2", "1"]),
        "5/16": ([["2/5", "-1/3", "3/4", "0"]], ["16/5", "4", "9/2", "8"]),
        "14/43": (
            [["5/14", "5/11", "1/5", "1/3", "0"], ["3/14", "-4/11", "1/10", "0", "0"]],
            ["43/14", "46/11", "27/10", "10/3", "6"],
        ),
    }[X[0][0]]
    assert exact.psi.tolist() == rationals(psi).tolist()
    assert exact.s.tolist() == rationals([s])[0].tolist()


CUT_C = [[True, False, False, True, False], [False] * 5]


def test_example_c_without_the_edges_of_vertex_3():
    """The case in which masking psi without solving again gives 5/14 and 23/7 for the first vertex."""
    exact = exact_projection(C, CUT_C)
    assert exact.s.tolist() == [Q(16, 5), 5, 3, Q(10, 3), 6]
    assert exact.psi.tolist() == [[Q(2, 5), 0, 0, Q(1, 3), 0], [0] * 5]
    for method in ("newton", "elimination"):
        X = logdet_projection(C, kept=CUT_C, method=method).band
        assert off_by(in_digits(exact.band), X) < mpmath.mpf(10) ** -50
    u = direction(C, [1.0, 0.0, -1.0, 2.0, 1.0], kept=CUT_C)
    with mpmath.workdps(50):
        for computed, value in zip(u, ["5/16", "-1/8", "-1/3", "1/2", "0"], strict=True):
            assert abs(computed - mpmath.mpf(Q(value).numerator) / Q(value).denominator) < mpmath.mpf(10) ** -48


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


sizes = st.tuples(st.integers(1, 8), st.integers(0, 4), st.integers(0, 2**32 - 1))


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_identities_of_the_projection_in_rationals(size):
    """Trace, determinants, factors, and the inverse: on bands and on what is kept of them."""
    n, b, seed = size
    H = gram(n, b, seed)
    for kept in (None, kept_edges(n, b, seed)):
        exact = exact_projection(H, kept)
        X = dense(exact.band)
        mask = np.vstack([np.ones((1, n), bool), np.ones((b, n), bool) if kept is None else kept])
        assert not any(exact.band[~mask])
        assert (dense(np.where(mask, H, Q(0))) * X).sum() == n
        assert determinant(X.tolist()) * prod(exact.s) == 1
        L = np.eye(n, dtype=object)
        for k in range(1, b + 1):
            for j in range(n - k):
                L[j + k, j] = -exact.psi[k - 1, j]
        assert (L @ np.diag([1 / s for s in exact.s]) @ L.T == X).all()
        with mpmath.workdps(60):
            inverse = mpmath.matrix(in_digits(X).tolist()) ** -1
            for k, i in np.argwhere(mask):
                if i + k < n:
                    assert abs(inverse[i + k, i] - in_digits(H[k : k + 1])[0, i]) < mpmath.mpf(10) ** -40


@given(sizes)
@settings(max_examples=15, deadline=None)
def test_newton_elimination_and_rationals_agree_on_every_graph(size):
    n, b, seed = size
    H, b = gram(min(n, 5), min(b, 2), seed, steps=1), min(b, 2)
    for kept in (None, kept_edges(min(n, 5), b, seed)):
        exact = in_digits(exact_projection(H, kept).band)
        for method in ("newton", "elimination", "auto"):
            projection = logdet_projection(H, kept=kept, method=method)
            assert projection.residual < mpmath.mpf(10) ** -50
            assert off_by(exact, projection.band) < mpmath.mpf(10) ** -50


@given(sizes)
@settings(max_examples=15, deadline=None)
def test_scaling_law(size):
    """S H S has the projection S^{-1} X S^{-1}, and psi and s scale as their definition says."""
    n, b, seed = size
    H, S = gram(n, b, seed), [Q(7, 3) ** (i * i % 5 - 2) for i in range(n)]
    scaled = H.copy()
    for k in range(min(b, n - 1) + 1):
        scaled[k, : n - k] = [S[i] * S[i + k] * H[k, i] for i in range(n - k)]
    before, after = exact_projection(H), exact_projection(scaled)
    assert after.s.tolist() == [s * x**2 for s, x in zip(before.s, S, strict=True)]
    for k in range(min(b, n - 1) + 1):
        for i in range(n - k):
            assert after.band[k, i] * S[i] * S[i + k] == before.band[k, i]
            assert k == 0 or after.psi[k - 1, i] * S[i + k] == before.psi[k - 1, i] * S[i]


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_the_whole_matrix_has_its_inverse_and_wider_bands_smaller_pivots(n):
    pivots = [exact_projection(gram(n, b, seed=n)).s for b in range(n)]
    assert all((wide <= narrow).all() for narrow, wide in pairwise(pivots))
    H = gram(n, n - 1, seed=n)
    assert (dense(exact_projection(H).band) @ dense(H) == np.eye(n, dtype=int)).all()
    wider = np.vstack([H, np.full((2, n), Q(9))])  # rows that lie past the end as a whole
    assert exact_projection(wider).band[:n].tolist() == exact_projection(H).band.tolist()


def test_a_long_band_of_nearly_singular_cliques():
    """300 vertices, band 4, as many gradients as a clique has vertices, and damping of 10^-30 after that."""
    H = gram(300, 4, seed=0, steps=4)
    H[0] += Q(1, 10**30) - Q(1, 8)
    projection = logdet_projection(H)
    assert projection.residual < mpmath.mpf(10) ** -50
    assert off_by(in_digits(exact_projection(H).band), projection.band) < mpmath.mpf(10) ** -50


@METHODS
@pytest.mark.parametrize("b", [1, 3])
def test_reduced_graph_is_the_direct_sum_of_its_parts(method, b):
    H = gram(6, b, seed=b).astype(float)
    for k in range(1, b + 1):
        H[k, 3 - k : 3] = np.nan  # not on the reduced graph, so not read
    X = logdet_projection(H, kept=np.isfinite(H[1:]), method=method).band
    left, right = (logdet_projection(np.where(np.isnan(part), 0, part)).band for part in (H[:, :3], H[:, 3:]))
    assert off_by(X, np.concatenate([left, right], axis=1)) < mpmath.mpf(10) ** -50
    assert all(x == 0 for k in range(1, b + 1) for x in X[k, 3 - k : 3])


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
    exact = exact_projection(H)
    assert (exact.status, exact.vertex) == (status, vertex)
    assert all(x is None for x in exact.band.flat)


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


def test_schur_complements_are_defined_where_the_separator_is_not_singular():
    """Also where there is no projection: by definition, whatever the signs, and None where 0/0 stands."""
    exact = exact_projection([[1, 1, 1, 2], [1, 1, 1, 0], [1, 1, 0, 0]])
    assert exact.s.tolist() == [None, 0, Q(1, 2), 2]
    assert exact.psi.tolist() == [[None, 1, Q(1, 2), 0], [None, 0, 0, 0]]
    # det H_NN = -1 with zeros on its diagonal: psi swaps the entries (2, 3) of H_N1, and s = 5 - 2 * 3 - 3 * 2.
    exact = exact_projection([[5, 0, 0], [2, 1, 0], [3, 0, 0]])
    assert (exact.s[0], exact.psi[:, 0].tolist()) == (-7, [3, 2])
    assert exact.vertex == 0
    assert all(x is None for x in exact_projection([[1.0, np.nan]]).s)


@given(st.integers(0, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_determinant_is_leibniz_sum(n, seed):
    draw = np.random.default_rng(seed)
    M = [
        [Q(int(p), int(q)) for p, q in zip(*draw.integers([[-2], [1]], [[3], [4]], (2, n)), strict=True)]
        for _ in range(n)
    ]
    even = [sum(p[i] > p[j] for i in range(n) for j in range(i + 1, n)) % 2 == 0 for p in permutations(range(n))]
    terms = [prod(M[i][p[i]] for i in range(n)) for p in permutations(range(n))]
    assert determinant(M) == sum(x if plus else -x for x, plus in zip(terms, even, strict=True))


def test_rational_gradients_are_not_rounded():
    u = direction([[3, 3]], [Q(1, 3), mpmath.mpf(6)], digits=40)
    with mpmath.workdps(50):
        assert abs(u[0] * 9 - 1) < mpmath.mpf(10) ** -40
        assert abs(u[1] - 2) < mpmath.mpf(10) ** -40


# Chordal graphs


TREES = {
    "star": [(0, 4), (1, 4), (2, 4), (3, 4)],
    "two cliques": [(0, 2, 4), (1, 2, 3)],
    "all": [range(5)],
    "apart": [(3, 0), (1,), (4, 2)],
    "a triangle by its sides": [(0, 1), (1, 2), (0, 2), (2, 3, 4)],
}


@pytest.mark.parametrize("tree", TREES)
@METHODS
def test_chordal_optimality_condition(tree, method):
    """Against the inverse of the whole matrix, which knows no order of elimination."""
    cliques = TREES[tree]
    edges = np.eye(5, dtype=bool)
    for clique in cliques:
        edges[np.ix_(list(clique), list(clique))] = True
    full = dense(gram(5, 4, seed=3))
    H = np.where(edges, full, np.nan)  # off the graph nothing is read
    projection = chordal_projection(H, cliques, method=method)
    assert projection.residual < mpmath.mpf(10) ** -50
    X = projection.X
    assert not any(X[~edges])
    with mpmath.workdps(80):
        inverse = mpmath.matrix(X.tolist()) ** -1
        scale = max(full.diagonal())
        assert all(
            abs(inverse[int(i), int(j)] - in_digits(full)[i, j]) < scale * mpmath.mpf(10) ** -50
            for i, j in np.argwhere(edges)
        )
        mpmath.cholesky(mpmath.matrix(X.tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_a_band_is_a_chordal_graph_whatever_its_vertices_are_called(seed):
    n, b = 12, 3
    band = gram(n, b, seed)
    name = np.random.default_rng(seed).permutation(n)
    H = np.full((n, n), Q(0), dtype=object)
    H[np.ix_(name, name)] = dense(band)
    cliques = [name[i : i + b + 1].tolist() for i in range(n - b)]
    X = chordal_projection(H, reversed(cliques)).X[np.ix_(name, name)]
    chain = logdet_projection(band)
    with mpmath.workdps(60):
        assert max(abs(x) for x in (X - chain.X).flat) < mpmath.mpf(10) ** -48 * max(chain.band[0])


def test_chordal_breakdown_is_a_value():
    """Vertex 0, between the two others, is eliminated after vertex 1 and with 2 as its later neighbor."""
    H = np.array([[2.0, 1.0, 2.0], [1.0, 1.0, 0.0], [2.0, 0.0, 2.0]])
    cliques = [(0, 1), (0, 2)]
    projection = chordal_projection(H, cliques)
    assert (projection.status, projection.vertex) == (Status.NO_MINIMIZER, 0)
    H[0, 2] = H[2, 0] = np.inf
    projection = chordal_projection(H, cliques)
    assert (projection.status, projection.vertex) == (Status.NOT_FINITE, 0)
    assert all(mpmath.isnan(x) for x in projection.X.flat)


@pytest.mark.parametrize(
    ("H", "cliques", "message"),
    [
        (np.eye(4), [(0, 1), (1, 2), (2, 3), (3, 0)], "not chordal"),
        (np.eye(3), [(0, 1)], "vertex 2 is in no clique"),
        (np.eye(3), [(0, 1), (2, 3)], "none of 0 to 2"),
        (np.eye(3), [(0, 1), (-1, 2)], "none of 0 to 2"),
        (np.triu(np.ones((2, 2))), [(0, 1)], "not symmetric"),
        (np.ones((2, 3)), [(0, 1)], "wanted"),
        (np.ones((0, 0)), [], "wanted"),
    ],
)
def test_misuse_of_cliques_is_refused(H, cliques, message):
    with pytest.raises(ValueError, match=message):
        chordal_projection(H, cliques)


# The judge


@pytest.mark.parametrize("factor", [1 + Q(1, 10**40), 0, -1])
def test_a_wrong_candidate_is_refused(factor, monkeypatch):
    """One entry in which the candidate is off, or a candidate that is singular or indefinite."""

    def wrong(h, graph):
        x = {edge: value * 0 for edge, value in h.items()} | {(j, j): 1 / h[j, j] for j in range(graph.n)}
        return x | {(0, 0): x[0, 0] * factor.numerator / factor.denominator}

    H = [[2, 3, 1], [0, 0, 0]]
    for module in (projection_module, exact_module):
        monkeypatch.setattr(module, "eliminate", wrong)
    for refused in (lambda: logdet_projection(H, method="elimination"), lambda: exact_projection(H)):
        with pytest.raises(ArithmeticError, match="optimality condition is missed"):
            refused()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"H": [1.0, 2.0]}, "wanted"),
        ({"H": np.ones((2, 0))}, "a row and a column at least"),
        ({"H": B, "kept": [[True, True, True]]}, "needs a mask"),
        ({"H": C, "kept": [[True, False, True, True, True], [True] * 5]}, "links vertex 0 to 1 and 2"),
        ({"H": B, "method": "cholesky"}, "no method 'cholesky'"),
    ],
)
def test_misuse_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        logdet_projection(**arguments)
    with pytest.raises(ValueError, match="length 3"):
        direction(B, [1.0, 2.0, 3.0])
