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
    "gradient_stream": (3, 6),
}


@pytest.mark.parametrize("name", gallery.MATRICES)
def test_the_seed_decides(name):
    make, options = gallery.MATRICES[name], {"condition": 100.0} if name == "chain_by_condition" else {}
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
    with pytest.raises(ValueError, match="unknown spectrum"):
        gallery.spd(4, spectrum="flat")


def test_gradient_stream_has_the_correlation_given():
    G = gallery.gradient_stream(20_000, 6, correlation=0.8, decades=2.0, seed=9)
    scale = np.std(G, axis=0)
    assert scale.min() < 0.5
    sample = np.mean(G[:, 1:] * G[:, :-1], axis=0) / (scale[1:] * scale[:-1])
    # The standard error of a correlation is (1 - rho^2) / sqrt(T); five of them.
    np.testing.assert_allclose(sample, 0.8, atol=5 * 0.36 / np.sqrt(20_000))
