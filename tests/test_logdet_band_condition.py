"""Condition numbers on bands: against finite differences of 50 digits, the closed forms on chains, and their bounds."""

from fractions import Fraction as Q

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab import gallery
from precond_lab.diagnosis import logdet_band_condition
from precond_lab.diagnosis.logdet_band_condition import band_condition, band_direction_condition
from precond_lab.diagnosis.logdet_condition import direction_condition, projection_condition
from precond_lab.truth.logdet import exact_projection, logdet_projection

U64 = 2.0**-53
STEP = Q(1, 10**15)  # relative: central differences of a function that is smooth on the scale of H are good to 1e-28


def gram(band: int, n: int, seed: int, steps: int = 0) -> np.ndarray:
    """The band of a Gram matrix of small integers, with every window positive definite."""
    G = np.random.default_rng(seed).integers(-4, 5, (steps or n + 3, n))
    full = G.T @ G + np.eye(n)
    return np.stack([np.append(np.diagonal(full, -k), np.zeros(k)) for k in range(band + 1)])


def between_cuts(n: int, band: int, cuts: list[int]) -> np.ndarray:
    """The edges that lead across none of these vertices, nor from one of them to a later vertex."""
    i, k = np.arange(n), np.arange(1, band + 1)[:, None]
    kept = i + k < n
    for cut in cuts:
        kept &= ~((i <= cut) & (cut < i + k))
    return kept


def perturbed(H: np.ndarray, k: int, i: int, sign: int) -> np.ndarray:
    rows = np.array([[Q(float(x)) for x in row] for row in H], dtype=object)
    rows[k, i] *= 1 + sign * STEP
    return rows


def suprema(H, kept, function) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the central differences over the off-diagonal entries of H, and over all of them."""
    band, n = H.shape[0] - 1, H.shape[1]
    total = {0: 0, 1: 0}
    with mpmath.workdps(60):
        for k in range(band + 1):
            for i in range(n - k):
                if H[k, i] and (k == 0 or kept[k - 1, i]):
                    high, low = (function(perturbed(H, k, i, sign)) for sign in (1, -1))
                    total[k > 0] += np.abs((high - low) / (2 * mpmath.mpf(STEP.numerator) / STEP.denominator))
    return total[1], total[0] + total[1]


def projection(H, kept):
    return logdet_projection(H, digits=50, kept=kept, method="elimination")


CASES = {
    "band 2": (gram(2, 5, 0), []),
    "band 3": (gram(3, 5, 1), []),
    "a cut at vertex 2": (gram(2, 7, 2), [2]),
    "full": (gram(3, 4, 3), []),
    "a chain": (gram(1, 5, 4), []),
}


@pytest.mark.parametrize("name", CASES)
def test_condition_numbers_are_those_of_finite_differences(name):
    H, cuts = CASES[name]
    band, n = H.shape[0] - 1, H.shape[1]
    kept = between_cuts(n, band, cuts)

    def entries(h):
        return projection(h, kept).band

    def schur(h):
        return np.array([mpmath.mpf(s.numerator) / s.denominator for s in exact_projection(h, kept).s])

    found = band_condition(H, kept)
    X, s = entries(H), schur(H)
    off_diagonal, every = suprema(H, kept, entries)
    nonzero = X != 0
    size = np.where(nonzero, np.abs(X), 1)
    diagonal = np.concatenate([X[0], np.ones(band)])
    beside = np.stack([X[0] * diagonal[k : k + n] for k in range(band + 1)])
    scaled = max(e / mpmath.sqrt(b) for e, b in zip(every.ravel(), beside.ravel(), strict=True))
    exact = {
        "off_diagonal": (off_diagonal / size).max(),
        "all_entries": (every / size).max(),
        "schur": (suprema(H, kept, schur)[1] / s).max(),
        "scaled": scaled,
        "smallest_pivot": (s / H[0]).min(),
    }
    # a few dozen operations for an entry, each of them as ill conditioned as X at worst
    tolerance = 64 * found.all_entries * U64
    for field, value in exact.items():
        assert getattr(found, field) == pytest.approx(float(value), rel=tolerance), field
    for rows, change in ((found.entries, every), (found.entries_off_diagonal, off_diagonal)):
        assert rows == pytest.approx((change / size).astype(float), rel=tolerance)
        assert not rows[1:][~kept].any()
    row, column = found.worst_entry
    assert found.entries[row - column, column] == found.all_entries == found.entries.max()


@pytest.mark.parametrize("name", CASES)
def test_condition_of_the_direction_is_that_of_finite_differences(name):
    H, cuts = CASES[name]
    kept = between_cuts(H.shape[1], H.shape[0] - 1, cuts)
    g = np.random.default_rng(7).integers(1, 9, H.shape[1]) * 1.0
    X = projection(H, kept).X
    change = suprema(H, kept, lambda h: projection(h, kept).X @ g)[1] + np.abs(X) @ np.abs(g)  # u is linear in g
    expected = mpmath.norm(change) / mpmath.norm(X @ g)
    tolerance = 64 * band_condition(H, kept).scaled * U64
    assert band_direction_condition(H, g, kept) == pytest.approx(float(expected), rel=tolerance)
    assert direction_condition(H, g, kept) == pytest.approx(float(expected), rel=tolerance)


@given(st.integers(2, 16), st.floats(1.5, 40), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=15, deadline=None)
def test_on_a_chain_they_are_the_closed_forms(n, exponent, seed, every):
    H = gallery.chain_by_condition(n, condition=2.0**exponent, seed=seed)
    rng = np.random.default_rng(seed)
    kept = between_cuts(n, 1, [] if every else [int(rng.integers(n))])
    found, closed = band_condition(H, kept), projection_condition(H, kept)
    # float64 loses 1 - beta^2 by cancellation: as much as the condition number times its roundoff
    tolerance = 16 * closed.bound * U64
    for name in ("off_diagonal", "all_entries", "schur", "smallest_pivot"):
        assert getattr(found, name) == pytest.approx(getattr(closed, name), rel=tolerance), name
    g = rng.normal(size=n)
    assert band_direction_condition(H, g, kept) == pytest.approx(direction_condition(H, g, kept), rel=tolerance)


bands = st.builds(
    lambda band, seed, correlation: gram_of_gradients(band, 8, seed, correlation),
    st.sampled_from([2, 3]),
    st.integers(0, 2**32 - 1),
    st.floats(0, 0.9999),
)


def gram_of_gradients(band: int, n: int, seed: int, correlation: float) -> np.ndarray:
    G = gallery.gradient_stream(n, n, correlation=correlation, decades=2.0, seed=seed)
    return np.stack([np.append((G[:, k:] * G[:, : n - k]).mean(0), np.zeros(k)) for k in range(band + 1)])


@given(bands, st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_they_are_bounded_by_the_windows(H, seed):
    band, kept = H.shape[0] - 1, between_cuts(H.shape[1], H.shape[0] - 1, [seed % 16])
    found = band_condition(H, kept)
    slack = 1 + 1e-6  # the eigenvalue comes out to 2^-53 absolutely, and is about 1e-9 at worst
    assert found.scaled <= found.all_entries * (1 + 8 * U64)
    assert found.schur * found.smallest_eigenvalue <= (band + 1) * slack
    assert found.scaled * found.smallest_eigenvalue <= ((band + 1) ** 2 + band**2) * slack
    assert found.smallest_eigenvalue <= found.smallest_pivot * slack
    correlation = H / np.sqrt(H[0] * np.stack([np.append(H[0, k:], np.ones(k)) for k in range(band + 1)]))
    windows = [
        [[correlation[abs(p - q), j + min(p, q)] for p in range(band + 1)] for q in range(band + 1)]
        for j in range(H.shape[1] - band)
    ]
    whole = band_condition(H).smallest_eigenvalue
    assert whole == pytest.approx(np.linalg.eigvalsh(np.array(windows)).min(), rel=1e-6)


@given(bands, st.integers(-100, 100), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_they_are_invariant_under_diagonal_scaling(H, shift, seed):
    """Scaling by powers of two rounds nothing; only the eigenvalue takes a root."""
    n = H.shape[1]
    S = 2.0 ** (shift + np.random.default_rng(seed).integers(-9, 10, n))
    scaled = np.stack([row * S * np.append(S[k:], np.zeros(k)) for k, row in enumerate(H)])
    one, other = band_condition(H), band_condition(scaled)
    assert one[:5] == pytest.approx(other[:5], rel=16 * U64)  # `scaled` takes a root
    assert one.worst_entry == other.worst_entry
    assert (one.entries == other.entries).all()
    assert (one.entries_off_diagonal == other.entries_off_diagonal).all()
    g = np.ones(n)
    everything = band_direction_condition(4.0 * H, 8.0 * g)
    assert everything == band_direction_condition(H, g)


def test_a_chain_is_swept_in_stretches(monkeypatch):
    H, g = gram_of_gradients(2, 13, 0, 0.9) + np.array([[1.0], [0], [0]]), np.arange(13.0) - 9
    kept = between_cuts(13, 2, [5, 8])
    whole, of_direction = band_condition(H, kept), band_direction_condition(H, g, kept)
    monkeypatch.setattr(logdet_band_condition, "NUMBERS", 36 * 4)
    parts = band_condition(H, kept)
    assert (parts.entries == whole.entries).all()
    assert parts[:7] == whole[:7]
    assert band_direction_condition(H, g, kept) == pytest.approx(of_direction, rel=64 * U64)


def test_the_parts_of_a_cut_chain_are_apart():
    H = gram(2, 8, 5)
    found = band_condition(H, between_cuts(8, 2, [4]))
    left, right = band_condition(H[:, :5]), band_condition(H[:, 5:])
    assert found.entries == pytest.approx(np.concatenate([left.entries, right.entries], axis=1), rel=64 * U64)
    assert found.smallest_eigenvalue == pytest.approx(min(left.smallest_eigenvalue, right.smallest_eigenvalue))


def test_a_band_without_its_last_diagonal_is_a_narrower_one():
    """Windows then hold vertices that are no neighbors of their first one, but of others."""
    H = gram(3, 9, 8)
    kept = between_cuts(9, 3, []) & np.array([[True], [True], [False]])
    found, narrow = band_condition(H, kept), band_condition(H[:3])
    assert found[:6] == pytest.approx(narrow[:6], rel=1e-12)
    assert found.entries[:3] == pytest.approx(narrow.entries, rel=1e-12)
    assert band_direction_condition(H, H[0], kept) == pytest.approx(band_direction_condition(H[:3], H[0]), rel=1e-12)


def test_what_is_not_kept_is_not_looked_at():
    H = gram(2, 6, 6)
    kept = between_cuts(6, 2, [3])
    spoiled = np.where(np.concatenate([np.ones((1, 6), bool), kept]), H, np.nan)
    assert band_condition(spoiled, kept)[:7] == band_condition(H, kept)[:7]
    assert band_condition(spoiled)[:4] == (np.inf,) * 4


def test_a_vanishing_entry_is_infinitely_ill_conditioned():
    """X_{20} of H = (ones beside fours, a 1 at (2, 0)) is a multiple of 4 - 4 = 0, and its summands are not."""
    H = [[4.0, 4.0, 4.0], [2.0, 2.0, 0.0], [1.0, 0.0, 0.0]]
    found = band_condition(H)
    assert found.entries[2, 0] == found.all_entries == found.off_diagonal == np.inf
    assert found.worst_entry == (2, 0)
    assert np.isfinite([found.schur, found.scaled]).all()
    diagonal = band_condition([[1.0, 2.0, 3.0], [0.0] * 3, [0.0] * 3])
    assert diagonal[:4] == (0, 1, 1, 1)


@pytest.mark.parametrize(
    ("H", "vertex"),
    [
        ([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], 0),
        ([[1.0, 1.0, -1.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]], 0),
        ([[1.0, 1.0, 1.0], [0.5, np.nan, 0.0], [0.0, 0.0, 0.0]], 0),
        ([[1.0, 4.0, 4.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]], 0),
        ([[4.0, 4.0, 1.0], [2.0, 2.5, 0.0], [1.0, 0.0, 0.0]], 1),
    ],
    ids=["singular", "negative diagonal", "NaN", "singular later", "indefinite later"],
)
def test_no_projection_is_infinitely_ill_conditioned(H, vertex):
    found = band_condition(H)
    assert found[:4] == (np.inf,) * 4
    assert np.isinf(found.entries).all()
    assert np.isnan(found.smallest_eigenvalue)
    assert band_direction_condition(H, np.ones(3)) == np.inf
    if vertex:
        assert found.worst_entry == (vertex, vertex)
        assert not found.smallest_pivot > 0


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="wanted is"):
        band_condition(np.ones(3))
    with pytest.raises(ValueError, match="needs a mask"):
        band_condition(np.ones((3, 4)), np.ones((1, 4), bool))
    with pytest.raises(ValueError, match="needs shape"):
        band_direction_condition(np.ones((3, 4)), np.ones(3))
