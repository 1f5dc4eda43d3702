"""Streams have the covariance, the excitation and the gradients that they promise."""

from fractions import Fraction as Q

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from precond_lab import gallery, training
from precond_lab.gallery import STREAMS, streams
from precond_lab.training import gradient_stream, layers

U64, U32 = 2.0**-53, 2.0**-24
N = 8
PIXELS = 30
NETWORK = {"images": np.random.default_rng(0).random((64, PIXELS)).astype(np.float32), "batch_size": 32}
WIDTHS = (PIXELS, N, 2, N, PIXELS)  # what a stream of length N makes of images of 30 pixels
OPTIONS = {"activations": NETWORK, "output_gradients": NETWORK}
LENGTHS = {"activations": N + 1}  # the same network for both


def windows(V: np.ndarray, length: int) -> np.ndarray:
    """The sums of v v^T over all windows of consecutive steps."""
    squares = np.einsum("ti,tj->tij", V, V)
    return np.array([squares[t : t + length].sum(axis=0) for t in range(len(V) - length + 1)])


@pytest.mark.parametrize("name", layers.STREAMS)
def test_the_seed_decides(name):
    make, options, n = layers.STREAMS[name], OPTIONS.get(name, {}), LENGTHS.get(name, N)
    first = make(5, n, seed=1, **options)
    assert first.shape == (5, n)
    assert first.dtype == np.float64
    assert np.isfinite(first).all()
    assert np.array_equal(first, make(5, n, seed=1, **options))
    assert not np.array_equal(first, make(5, n, seed=2, **options))
    assert make(0, n, **options).shape == (0, n)


@pytest.mark.parametrize("name", STREAMS)
def test_a_shape_that_is_none_is_refused(name):
    if name != "gradient_stream":
        for steps, n in ((-1, N), (3, 1)):
            with pytest.raises(ValueError, match="steps of vectors"):
                STREAMS[name](steps, n)


# Covariance


@pytest.mark.parametrize("spectrum", gallery.SPECTRA)
def test_the_covariance_is_the_one_prescribed(spectrum):
    # For T normal vectors with covariance I, |Z^T Z / T - I|_2 <= 2 e + e^2 with e = (sqrt(n) + t) / sqrt(T) fails with
    # a probability of at most 2 exp(-t^2 / 2) (Davidson and Szarek 2001): 3e-8 for t = 6.
    T, condition = 4000, 1e4
    e = (np.sqrt(N) + 6) / np.sqrt(T)
    for name, matrix in (("rotated", gallery.spd), ("graded", gallery.diagonal)):
        for seed in range(2):
            V = STREAMS[name](T, N, condition=condition, spectrum=spectrum, seed=seed)
            L = np.linalg.cholesky(matrix(N, condition=condition, spectrum=spectrum, seed=seed))
            Z = np.linalg.solve(L, V.T)
            assert np.linalg.norm(Z @ Z.T / T - np.eye(N), 2) <= 2 * e + e * e


def test_heavy_tails_have_the_same_covariance_and_heavier_tails():
    # Entries of a Student vector of 8 degrees and unit variances have E x_i^2 x_j^2 <= 4.5, so that the standard error
    # of a second moment is at most sqrt(4.5 / T). Ten of them: Chebyshev, 1 in 100 for each entry.
    T, condition = 20_000, 100.0
    V = streams.heavy_tailed(T, N, degrees=8.0, condition=condition, seed=3)
    L = np.linalg.cholesky(gallery.spd(N, condition=condition, seed=3))
    Z = np.linalg.solve(L, V.T)
    assert np.abs(Z @ Z.T / T - np.eye(N)).max() <= 10 * np.sqrt(4.5 / T)
    lengths = np.linalg.norm(np.linalg.solve(L, streams.heavy_tailed(T, N, condition=condition, seed=3).T), axis=0)
    # P(|z| > 9) for a normal vector in 8 dimensions is below 1e-13; for 3 degrees of freedom it is above 1e-3.
    assert np.count_nonzero(lengths > 9) > 5


def test_mean_and_noise_are_a_mean_and_noise():
    T, mean, noise = 5000, 3.0, 0.5
    V = streams.mean_and_noise(T, N, mean=mean, noise=noise, seed=4)
    mu = mean * streams.constant(1, N, seed=4)[0]
    assert np.linalg.norm(mu) == pytest.approx(mean, rel=N * U64)
    # The norm of the mean of T normal vectors of variance noise^2: below noise (sqrt(n) + 6) / sqrt(T), 3e-8 excepted.
    assert np.linalg.norm(V.mean(axis=0) - mu) <= noise * (np.sqrt(N) + 6) / np.sqrt(T)
    e = (np.sqrt(N) + 6) / np.sqrt(T)
    assert np.linalg.norm((V - mu).T @ (V - mu) / (T * noise**2) - np.eye(N), 2) <= 2 * e + e * e


# Excitation


@pytest.mark.parametrize("hold", [1, 3])
def test_cyclic_directions_excite_every_window_alike(hold):
    condition = 100.0
    V = streams.cyclic(4 * hold * N + 1, N, hold=hold, condition=condition, seed=5)
    S = gallery.spd(N, condition=condition, seed=5)
    for W in windows(V, hold * N):
        np.testing.assert_allclose(W, hold * S, rtol=0, atol=10 * hold * N * U64)
    least = np.linalg.eigvalsh(windows(V, hold * N))[:, 0]
    assert (least >= hold / condition - 20 * hold * N * U64).all()
    assert (np.linalg.eigvalsh(windows(V, hold * (N - 1)))[:, 0] < 0.5 * hold / condition).any()


def test_frames_excite_every_window_of_twice_their_length():
    V = streams.frames(4 * N + 3, N, seed=6)
    np.testing.assert_allclose(windows(V, N)[::N], np.broadcast_to(np.eye(N), (4, N, N)), rtol=0, atol=10 * N * U64)
    assert (np.linalg.eigvalsh(windows(V, 2 * N - 1))[:, 0] >= 1 - 20 * N * U64).all()
    assert not np.allclose(V[:N], V[N : 2 * N])


def test_walsh_vectors_are_signs_and_excite_exactly():
    V = streams.walsh(3 * N, N, seed=7)
    assert set(V.ravel()) == {-1.0, 1.0}
    assert (windows(V, N) == N * np.eye(N)).all()
    with pytest.raises(ValueError, match="powers of two"):
        streams.walsh(3, 6)


def test_nearly_parallel_vectors_excite_by_the_square_of_the_angle():
    angle, length = 2.0**-6, 2 * (N - 1)
    V = streams.nearly_parallel(2 * length + 1, N, angle=angle, seed=8)
    for W in windows(V, length):
        wanted = np.append(np.full(N - 1, 2 * angle**2), length)
        np.testing.assert_allclose(np.linalg.eigvalsh(W), wanted, rtol=0, atol=20 * length * U64)


@pytest.mark.parametrize("rank", [1, 3, N])
def test_a_subspace_is_never_left(rank):
    values = np.linalg.svd(streams.subspace(50, N, rank=rank, condition=10.0, seed=9), compute_uv=False)
    assert np.count_nonzero(values > 1e-10) == rank
    assert (values[rank:] <= 50 * N * U64 * values[0]).all()
    V = streams.lattice(50, N, rank=rank, seed=9)
    assert np.array_equal(V, np.round(V))
    assert np.abs(V).max() <= 3 * rank
    assert np.array_equal(V, np.asarray(jnp.asarray(V, jnp.bfloat16), float))
    assert exact_rank(V) == rank


def exact_rank(V: np.ndarray) -> int:
    """By elimination in rationals."""
    rows, rank = [list(map(Q, row)) for row in V.tolist()], 0
    for j in range(V.shape[1]):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][j]), None)
        if pivot is not None:
            rows[rank], rows[pivot] = rows[pivot], rows[rank]
            for i in range(rank + 1, len(rows)):
                factor = rows[i][j] / rows[rank][j]
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[rank], strict=True)]
            rank += 1
    return rank


@pytest.mark.parametrize("remaining", [0, 2])
def test_excitation_stops_when_it_is_said_to(remaining):
    options = {"condition": 100.0, "seed": 10}
    V = streams.stopping(40, N, stop=25, remaining=remaining, **options)
    assert np.array_equal(V[:25], streams.rotated(40, N, **options)[:25])
    values = np.linalg.svd(V[25:], compute_uv=False)
    assert np.count_nonzero(values > 1e-10) == remaining
    # What remains are the eigenvectors of the largest eigenvalues.
    _, Q_ = np.linalg.eigh(gallery.spd(N, condition=100.0, seed=10))
    assert np.abs(V[25:] @ Q_[:, : N - remaining]).max() <= 100 * N * U64
    assert np.array_equal(streams.stopping(40, N, seed=10)[20:], np.zeros((20, N)))


def test_a_constant_direction_is_constant():
    V = streams.constant(6, N, length=2.5, seed=11)
    assert np.ptp(V, axis=0).max() == 0
    assert np.linalg.norm(V[0]) == pytest.approx(2.5, rel=N * U64)


def test_bursts_hit_one_direction_that_nothing_else_excites():
    V = streams.bursts(50, N, gap=10, size=7.0, seed=12)
    hits = V[9::10]
    assert (hits == hits[0]).all()
    assert np.linalg.norm(hits[0]) == pytest.approx(7.0, rel=N * U64)
    others = np.delete(V, range(9, 50, 10), axis=0)
    assert np.abs(others @ hits[0]).max() <= 7 * 10 * N * U64
    assert np.linalg.matrix_rank(others) == N - 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rotated", {"condition": 0.5}, "condition is"),
        ("rotated", {"condition": np.inf}, "condition is"),
        ("graded", {"spectrum": "flat"}, "unknown spectrum"),
        ("heavy_tailed", {"degrees": 2.0}, "no covariance"),
        ("cyclic", {"hold": 0}, "hold is"),
        ("subspace", {"rank": 0}, "rank is"),
        ("lattice", {"rank": N + 1}, "rank is"),
        ("stopping", {"stop": -1}, "stop is"),
        ("stopping", {"remaining": N}, "remaining"),
        ("bursts", {"gap": 0}, "gap is"),
    ],
)
def test_wrong_parameters_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        STREAMS[name](4, N, **options)


# The layers of a network


@pytest.fixture(scope="module")
def observed():
    return list(layers.layer_stream(NETWORK["images"], WIDTHS, steps=3, batch_size=32, learning_rate=0.1, seed=1))


def test_looking_does_not_change_the_training(observed):
    plain = list(gradient_stream(NETWORK["images"], WIDTHS, steps=3, batch_size=32, learning_rate=0.1, seed=1))
    assert len(plain) == len(observed) == 3
    for step, (seen, _) in zip(plain, observed, strict=True):
        assert (step.t, step.loss) == (seen.t, seen.loss)
        pairs = zip(jax.tree.leaves(step.gradients), jax.tree.leaves(seen.gradients), strict=True)
        assert all(np.array_equal(x, y) for x, y in pairs)


def test_the_chain_rule(observed):
    # Both sides take the same derivatives b, but for the factor 1 / 32, and round in orders of their own: products of 4
    # layers with at most 30 terms each, forth and back, and the sum over 32 samples, each with an error of at most its
    # number of terms times u of the norms.
    terms = 2 * 4 * PIXELS + 32
    for step, observations in observed:
        for gradient, seen in zip(step.gradients, observations, strict=True):
            a, b = (np.asarray(x, float) for x in seen)
            assert (a[:, -1] == 1).all()
            G = np.vstack([gradient.kernel, gradient.bias]).T.astype(float)
            sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            assert np.linalg.norm(b.T @ a / 32 - G) <= terms * U32 * sizes.mean()
            assert np.linalg.norm(G) > 100 * terms * U32 * sizes.mean()  # so that the bound says something


def test_activations_are_those_of_the_network(observed):
    params = training.autoencoder.initialize(jax.random.key(1), WIDTHS)
    chosen = next(training.stream.minibatches(64, 32, 1))
    x = NETWORK["images"][chosen].astype(float)
    for layer, seen in enumerate(observed[0][1]):
        np.testing.assert_allclose(np.asarray(seen.activations)[:, :-1], x, rtol=0, atol=4 * PIXELS * U32)
        x = x @ np.asarray(params[layer].kernel, float) + np.asarray(params[layer].bias, float)
        x = np.tanh(x) if layer in {0, 2} else x
    sigma = 1 / (1 + np.exp(-x))  # the derivative of cross-entropy by the logits is sigma - x
    wanted = sigma - NETWORK["images"][chosen]
    np.testing.assert_allclose(observed[0][1][-1].output_gradients, wanted, rtol=0, atol=4 * 4 * PIXELS * U32)


def test_the_vectors_of_eva(observed):
    step, observations = observed[2]
    for layer in range(4):
        G, a, b = layers.vectors(step, observations, layer)
        assert G.shape == (WIDTHS[layer + 1], WIDTHS[layer] + 1) == (len(b), len(a))
        assert np.array_equal(G[:, :-1], np.asarray(step.gradients[layer].kernel, float).T)
        assert a[-1] == 1
        # The mean of the output gradients is the gradient of the bias: up to the roundings of the chain rule's test.
        sizes = np.linalg.norm(np.asarray(observations[layer].output_gradients, float), axis=1)
        assert np.linalg.norm(b - G[:, -1]) <= (8 * PIXELS + 32) * U32 * sizes.mean()
        scaled = layers.vectors(step, observations, layer, convention="batch")
        assert np.array_equal(scaled.b, b / 32)
        assert np.array_equal(scaled.G, G)
    for layer in (-1, 4):
        with pytest.raises(ValueError, match="layers 0 to 3"):
            layers.vectors(step, observations, layer)
    with pytest.raises(ValueError, match="convention is"):
        layers.vectors(step, observations, 0, convention="sum")


@pytest.mark.parametrize(("side", "layer"), [("activations", 1), ("output_gradients", 0)])
def test_streams_of_a_layer_are_what_was_observed(side, layer, observed, monkeypatch):
    n = WIDTHS[1] + (side == "activations")
    options = {"batch_size": 32, "learning_rate": 0.1, "seed": 1}
    rows = np.array([np.asarray(getattr(observations[layer], side), float) for _, observations in observed])
    make = layers.STREAMS[side]
    assert np.array_equal(make(3, n, images=NETWORK["images"], **options), rows.mean(axis=1))
    monkeypatch.setattr(layers, "curves", lambda count: NETWORK["images"][: count * 0 + 64])
    assert np.array_equal(make(3, n, each="sample", **options), rows[:, 0])
    assert np.array_equal(make(3, widths=WIDTHS, **options), rows.mean(axis=1))
    scaled = make(3, n, convention="batch", **options)
    assert np.array_equal(scaled, rows.mean(axis=1) / (32 if side == "output_gradients" else 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 7, "widths": WIDTHS}, "n is 7, but"),
        ({}, "neither n nor widths"),
        ({"n": 0}, "n is 0"),
        ({"n": 5, "layer": 9}, "layer is 9"),
        ({"n": N, "widths": (3, 2, 4)}, "widths are"),
        ({"n": N, "each": "first"}, "each 'first'"),
        ({"n": N, "convention": "sum"}, "convention is"),
    ],
)
def test_wrong_parameters_of_a_layer_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        layers.output_gradients(1, **NETWORK, **options)
    with pytest.raises(ValueError, match="side is"):
        layers.vector_stream(1, N, side="inputs", layer=0, **NETWORK)


def test_the_tables_extend_each_other():
    assert set(layers.STREAMS) - set(STREAMS) == {"activations", "output_gradients"}
    assert training.STREAMS is layers.STREAMS
    assert training.layer_stream is layers.layer_stream
    assert gallery.STREAMS is streams.STREAMS
