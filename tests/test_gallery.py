"""The gallery delivers the structure, condition, and spectrum that it promises."""

from fractions import Fraction as Q

import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.diagnosis.logdet_condition import pivots, projection_condition

U64 = 2.0**-53
ARGUMENTS = {
    "chain": (6,),
    "chain_by_condition": (6,),
    "gram_chain": (3, 6),
    "spd": (6,),
    "diagonal": (6,),
    "indefinite": (6,),
    "asymmetric": (6,),
    "toeplitz": (9,),
    "rank_deficient": (6,),
    "graded": (6,),
    "block_scales": (6,),
    "wishart_average": (6,),
    "gradient_stream": (3, 6),
}
OPTIONS = {"chain_by_condition": {"condition": 100.0}, "rank_deficient": {"rank": 3}}


@pytest.mark.parametrize("name", gallery.MATRICES)
def test_the_seed_decides(name):
    make, options = gallery.MATRICES[name], OPTIONS.get(name, {})
    first = make(*ARGUMENTS[name], seed=1, **options)
    assert first.dtype == np.float64
    assert np.array_equal(first, make(*ARGUMENTS[name], seed=1, **options))
    assert not np.array_equal(first, make(*ARGUMENTS[name], seed=2, **options))


def test_chain_has_exactly_the_correlations_given():
    beta = np.array([0.5, -0.75, 1 - 2.0**-20, 0.0])
    H = gallery.chain(5, beta=beta, seed=4)
    for i, b in enumerate(beta):
        assert Q(H[1, i]) ** 2 == Q(b) ** 2 * Q(H[0, i]) * Q(H[0, i + 1])
    assert np.array_equal(np.sign(H[1, :-1]), np.sign(beta))
    magnitudes = gallery.chain(200, beta=0.5, diagonal=1.0)[1, :-1]
    assert set(magnitudes) == {-0.5, 0.5}


@pytest.mark.parametrize("condition", [2.5, 1e3, 1e9, 2.0**40])
def test_chain_has_the_condition_given(condition):
    for seed in range(5):
        bound = projection_condition(gallery.chain_by_condition(20, condition=condition, seed=seed)).bound
        assert bound == pytest.approx(condition, rel=4 * condition * U64)


def test_gram_chain_is_the_band_of_the_gram_matrix():
    H = gallery.gram_chain(1, 8, seed=0)
    assert np.max(np.abs(pivots(H))) <= 4 * U64  # one gradient: singular, up to the rounding of its products
    assert (pivots(gallery.gram_chain(30, 8, seed=0)) > 0).all()


@pytest.mark.parametrize("precision", [2, 3, 8, 11, 24])
def test_near_singular_triples_are_exact_and_positive_definite(precision):
    triples = gallery.near_singular_triples(200, precision=precision, seed=precision)
    significands = np.frexp(triples)[0] * 2.0**precision
    assert np.array_equal(significands, np.round(significands))
    assert ((triples >= 1) & (triples < 4)).all()
    for first, second, edge in triples:
        assert Q(edge) ** 2 < Q(first) * Q(second)
        above = Q(edge) + Q(2) ** (1 - precision) * (2 if edge >= 2 else 1)
        assert above**2 >= Q(first) * Q(second)
    with pytest.raises(ValueError, match="must lie in"):
        gallery.near_singular_triples(1, precision=27)


@pytest.mark.parametrize("spectrum", gallery.SPECTRA)
def test_spd_has_the_spectrum_given(spectrum):
    n, condition = 12, 1e5
    A = gallery.spd(n, condition=condition, spectrum=spectrum, seed=2)
    assert np.array_equal(A, A.T)
    wanted = gallery.SPECTRA[spectrum](n, condition)
    assert wanted[0] == 1.0
    assert wanted[0] / wanted[-1] == pytest.approx(condition, rel=4 * U64)
    # Weyl: the eigenvalues move by no more than the norm of the rounding errors, of A and of the solver.
    np.testing.assert_allclose(np.linalg.eigvalsh(A)[::-1], wanted, rtol=0, atol=10 * n * U64)
    D = gallery.diagonal(n, condition=condition, spectrum=spectrum, seed=2)
    assert np.array_equal(np.sort(np.diag(D))[::-1], wanted)
    assert np.count_nonzero(D) == n
    for make in (gallery.spd, gallery.diagonal):
        with pytest.raises(ValueError, match="unknown spectrum"):
            make(4, spectrum="flat")


@pytest.mark.parametrize("n", [2, 3, 12])
def test_clusters_are_exactly_repeated(n):
    values = gallery.SPECTRA["clustered"](n, 1e4)
    assert set(values) <= {1.0, 1e-2, 1e-4}
    assert (values[0], values[-1]) == (1.0, 1e-4)
    assert n < 12 or [np.count_nonzero(values == x) for x in (1.0, 1e-2, 1e-4)] == [3, 6, 3]


@pytest.mark.parametrize(
    "name", ["indefinite", "toeplitz", "rank_deficient", "graded", "block_scales", "wishart_average"]
)
def test_what_is_to_be_symmetric_is_exactly_so(name):
    A = gallery.MATRICES[name](*ARGUMENTS[name], **OPTIONS.get(name, {}))
    assert np.array_equal(A, A.T)


def test_indefinite_has_one_negative_eigenvalue():
    values = np.linalg.eigvalsh(gallery.indefinite(8, condition=1e3, negative=1e-5, seed=1))
    assert values[0] == pytest.approx(-1e-5, abs=80 * U64)
    assert values[1] > 1e-3


def test_asymmetric_differs_from_its_transpose_by_as_much_as_is_said():
    A, S = gallery.asymmetric(7, condition=50.0, amount=2.0**-10, seed=3), gallery.spd(7, condition=50.0, seed=3)
    off = ~np.eye(7, dtype=bool)
    np.testing.assert_allclose(np.abs(A / S - 1)[off], 2.0**-10, rtol=2.0**-40)
    np.testing.assert_allclose((A + A.T) / 2, S, rtol=4 * U64)
    assert np.array_equal(np.diag(A), np.diag(S))


@pytest.mark.parametrize("condition", [10.0, 1e6])
def test_toeplitz_has_its_eigenvalues_in_closed_form(condition):
    n, A = 11, gallery.toeplitz(11, condition=condition, seed=5)
    c, d = abs(A[0, 1]), A[0, 0]
    wanted = d + 2 * c * np.cos(np.arange(n, 0, -1) * np.pi / (n + 1))
    np.testing.assert_allclose(np.linalg.eigvalsh(A), wanted, rtol=0, atol=10 * n * U64)
    assert wanted[-1] == pytest.approx(1.0, rel=10 * U64)
    assert wanted[0] == pytest.approx(1 / condition, rel=10 * condition * U64)
    assert not np.tril(A, -2).any()
    assert set(np.sign(np.diag(A, 1))) == {-1.0, 1.0}


def test_rank_deficient_is_exactly_singular():
    A = gallery.rank_deficient(7, rank=4, seed=2)
    assert np.array_equal(A, np.round(A))
    assert np.linalg.matrix_rank(A) == 4
    assert np.array_equal(gallery.rank_deficient(7, rank=4, ridge=0.5, seed=2), A + 0.5 * np.eye(7))


def test_graded_is_a_scaled_well_conditioned_matrix():
    A, C = gallery.graded(9, condition=20.0, binades=30, seed=6), gallery.spd(9, condition=20.0, seed=6)
    d = np.sqrt(np.diag(A) / np.diag(C))
    assert (d[0], d[-1]) == (1.0, 2.0**-30)
    assert np.array_equal(A, d[:, None] * C * d)


def test_block_scales_are_those_of_the_blocks():
    A = gallery.block_scales(10, condition=100.0, decades=6.0, seed=1)
    for block, scale in [(slice(0, 3), 1e-6), (slice(3, 6), 1.0), (slice(6, 10), 1e6)]:
        values = np.linalg.eigvalsh(A[block, block]) / scale
        np.testing.assert_allclose(values[[0, -1]], [0.01, 1.0], rtol=0, atol=40 * U64)
        A[block, block] = 0
    assert not A.any()


def test_wishart_average_is_the_decaying_sum():
    n, columns, decay = 5, 2, 0.75
    one = [gallery.wishart_average(n, columns=columns, steps=t, decay=decay, seed=8) for t in range(4)]
    assert not one[0].any()
    for t in (1, 2, 3):
        step = (one[t] - decay * one[t - 1]) / (1 - decay)
        values = np.linalg.eigvalsh(step)
        assert np.max(np.abs(values[: n - columns])) <= 40 * U64 * values[-1]  # G G^T of that rank
        assert values[n - columns] > 0
    # the mean of G G^T is columns times the variances, and 1 - decay^T of it has been collected
    average = gallery.wishart_average(4, columns=2000, steps=20, decay=0.5, decades=0.0, seed=8)
    # variance of a diagonal entry of G G^T: 2 columns; five standard errors
    np.testing.assert_allclose(average / 2000, np.eye(4), rtol=0, atol=5 * np.sqrt(2 / 2000))


def test_gradient_stream_has_the_correlation_given():
    G = gallery.gradient_stream(20_000, 6, correlation=0.8, decades=2.0, seed=9)
    scale = np.std(G, axis=0)
    assert scale.min() < 0.5
    sample = np.mean(G[:, 1:] * G[:, :-1], axis=0) / (scale[1:] * scale[:-1])
    # The standard error of a correlation is (1 - rho^2) / sqrt(T); five of them.
    np.testing.assert_allclose(sample, 0.8, atol=5 * 0.36 / np.sqrt(20_000))
