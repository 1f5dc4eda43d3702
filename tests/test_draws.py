"""The random words are uniform and independent, as far as tests can tell: with bounds, each missed once in 1e9.

All seeds are fixed, so that a test that passes once passes for ever. A figure that is normally distributed may be six
standard deviations off (two-sided, 2e-9); where many are compared at once, the chance is divided among them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from precond_lab.arithmetic.draws import seed_words, words

MISSED = 1e-9
USED = 23  # the bits of a word that rounding of float32 uses, from the first on
N = 2**20

FIRST_WORDS = ["0x71f4ca96", "0xa29849a2", "0x2bbeb511"]

draw = jax.jit(words, static_argnums=(2, 3))


def sample(seed: int, number: int, shape=(N,), dtype=np.uint32) -> np.ndarray:
    return np.asarray(draw(seed_words(seed), np.uint32(number), shape, np.dtype(dtype)))


def limit(tests: int) -> float:
    """How many standard deviations the largest of so many normal figures may be off."""
    return float(stats.norm.isf(MISSED / 2 / tests))


def bits(x: np.ndarray, count: int = USED) -> np.ndarray:
    """The first bits of words, along a new first axis."""
    width = 8 * x.itemsize
    return np.stack([(x >> x.dtype.type(width - 1 - k)) & x.dtype.type(1) for k in range(count)])


def centered(x: np.ndarray) -> np.ndarray:
    """Words as numbers of mean 0 and variance 1."""
    return (x.astype(np.float64) / 2 ** (8 * x.itemsize) - 0.5) * np.sqrt(12)


def balance(ones: np.ndarray, of: int) -> float:
    """The largest number of standard deviations by which counts of a fair coin are off."""
    return float(np.abs((ones - of / 2) / (np.sqrt(of) / 2)).max())


SEEDS = [(0, 0), (0, 1), (1, 0), (2**63 + 5, 2**32 - 1)]
each_seed = pytest.mark.parametrize(("seed", "number"), SEEDS)


@each_seed
def test_every_bit_is_fair(seed, number):
    assert balance(bits(sample(seed, number)).sum(1, dtype=np.int64), N) <= limit(USED)


@each_seed
def test_bits_of_neighbors_are_independent(seed, number):
    x = sample(seed, number)
    for lag in (1, 2, 3, 16, 1000, 1024):
        assert balance(bits(x[lag:] ^ x[:-lag]).sum(1, dtype=np.int64), N - lag) <= limit(USED), lag


@each_seed
def test_there_is_no_correlation_at_any_lag(seed, number):
    """Also at those lags at which the steps of the counter nearly cancel."""
    x = centered(sample(seed, number))
    spectrum = np.abs(np.fft.rfft(x, 2 * N)) ** 2
    correlation = np.fft.irfft(spectrum)[1 : N - 1000]
    assert np.abs(correlation / np.sqrt(N - np.arange(1, N - 1000))).max() <= limit(N)


@each_seed
def test_words_are_equidistributed(seed, number):
    """The first bytes, pairs of first bytes of neighbors, and the first four bits in every block of 1024."""
    first = (sample(seed, number) >> np.uint32(24)).astype(np.int64)
    pairs = first[::2] * 256 + first[1::2]
    for cells, values in ((256, first), (65536, pairs)):
        expected = len(values) / cells
        statistic = ((np.bincount(values, minlength=cells) - expected) ** 2 / expected).sum()
        assert MISSED / 2 <= stats.chi2.sf(statistic, cells - 1) <= 1 - MISSED / 2, cells
    blocks = np.stack([(first.reshape(-1, 1024) >> 4 == k).sum(1) for k in range(16)])
    statistics = ((blocks - 64) ** 2 / 64).sum(0)
    assert statistics.max() <= stats.chi2.isf(MISSED / len(statistics), 15)
    total = statistics.sum()
    assert MISSED / 2 <= stats.chi2.sf(total, 15 * len(statistics)) <= 1 - MISSED / 2


@pytest.mark.parametrize("varied", ["draw", "low word", "high word"])
def test_draws_and_seeds_are_independent(varied):
    """A thousand of each, that follow each other: no two rows and no two columns correlate, and each is fair."""
    rows, columns = 1024, 512

    def row(i):
        seed = {"draw": (3, 0), "low word": (i, 7), "high word": (7, i)}[varied]
        return words(
            jnp.stack([jnp.asarray(word, jnp.uint32) for word in seed]), i if varied == "draw" else 5, (columns,)
        )

    x = np.asarray(jax.jit(jax.vmap(row))(jnp.arange(rows, dtype=jnp.uint32)))
    for table, length in ((centered(x), columns), (centered(x).T, rows)):
        products = table @ table.T / np.sqrt(length)
        off = products[np.triu_indices(len(products), 1)]
        # A sum of so many products is all but normal; 5 % more room for what it is not.
        assert np.abs(off).max() <= 1.05 * limit(off.size)
    assert balance(bits(x).sum(1, dtype=np.int64), rows) <= 1.05 * limit(USED * columns)
    assert balance(bits(x).sum(2, dtype=np.int64), columns) <= 1.05 * limit(USED * rows)


def test_every_input_bit_changes_half_of_the_output():
    """Of the index, the draw and the seed: the avalanche."""
    x, count = sample(4, 6), 2**16
    index = np.random.default_rng(0).integers(0, N, count)
    for k in range(20):
        flips = bits(x[index] ^ x[index ^ (1 << k)])
        # An index and its partner may both be drawn: at most half of the pairs are repeated.
        assert balance(flips.sum(1, dtype=np.int64), count) <= np.sqrt(2) * limit(20 * USED), k
    draws = np.random.default_rng(1).integers(0, 2**32, (4096, 3), np.uint32)
    one = jax.jit(jax.vmap(lambda w: words(w[:2], w[2], ())))
    plain = np.asarray(one(draws))
    flipped = np.stack([
        draws ^ (np.eye(3, dtype=np.uint32)[word] << np.uint32(k)) for word in range(3) for k in range(32)
    ])
    changed = np.asarray(jax.jit(jax.vmap(one))(flipped))
    counts = bits(changed ^ plain).sum(-1, dtype=np.int64)
    assert balance(counts, len(draws)) <= limit(counts.size)


def test_words_of_64_bits_are_fair_and_their_halves_independent():
    with jax.enable_x64(True):
        x = sample(8, 9, (N,), np.uint64)
    assert x.dtype == np.uint64
    assert balance(bits(x, 52).sum(1, dtype=np.int64), N) <= limit(52)
    halves = bits(x, 52)
    assert balance((halves[:20] ^ halves[32:]).sum(1, dtype=np.int64), N) <= limit(20)
    high, low = (x >> np.uint64(32)).astype(np.uint32), x.astype(np.uint32)
    assert abs((centered(high) * centered(low)).sum() / np.sqrt(N)) <= limit(1)


def test_an_element_depends_on_its_place_alone():
    flat = sample(1, 2, (24,))
    for shape in [(24,), (4, 6), (2, 3, 4), (1, 24, 1), (6, 4)]:
        np.testing.assert_array_equal(sample(1, 2, shape).ravel(), flat)
    np.testing.assert_array_equal(sample(1, 2, (7,)), flat[:7])
    assert sample(1, 2, ()) == flat[0]
    assert sample(1, 2, (0, 3)).shape == (0, 3)


def test_the_words_are_the_same_on_every_machine_and_in_every_version():
    """A run is a function of its inputs and its seed: a change here changes every stochastic result."""
    assert [hex(word) for word in sample(0, 0, (3,))] == FIRST_WORDS
    x = np.asarray(words(seed_words(0), 0, (3,)))  # without jit
    np.testing.assert_array_equal(x, sample(0, 0, (3,)))


def test_seeds_are_split_and_wrap_around():
    assert seed_words(2**32 + 5).tolist() == [5, 1]
    assert seed_words(-1).tolist() == seed_words(2**64 - 1).tolist() == [2**32 - 1] * 2
    assert seed_words(2**64 + 3).tolist() == [3, 0]


def test_misuse_says_what_to_do():
    with pytest.raises(TypeError, match="uint32 or uint64; got float32"):
        words(seed_words(0), 0, (3,), np.float32)
