"""The tracker: the health of statistics along a stream of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab import gallery
from precond_lab.diagnosis import projection_condition, tracker
from precond_lab.diagnosis.logdet_condition import pivots
from precond_lab.preconditioners import logdet

N = 12
STREAM = gallery.gradient_stream(6, N, correlation=0.95, seed=3).astype(np.float32)


def by_hand(settings: tracker.Settings, arithmetic: str, edges: np.ndarray) -> list[tracker.Track]:
    """The same statistics, each program emulated on its own and the conditions looked up from its results."""
    average, damp, stabilize = (
        pl.emulate(f, arithmetic)
        for f in (logdet.average, lambda s, *d: logdet.damp(logdet.corrected(s), *d), logdet.stabilize)
    )
    statistics, seen = logdet.initialize(N), []
    for t, g in enumerate(STREAM, start=1):
        statistics = average(statistics, g, np.float32(settings.beta2))
        damped = damp(statistics, np.float32(settings.epsilon), np.float32(settings.floor))
        H = np.where(np.concatenate([np.ones((1, N), bool), edges]), damped, 0)
        kept = np.asarray(stabilize(H, np.float32(settings.tolerance))[1]) & edges
        before, after = projection_condition(H, edges), projection_condition(H, kept)
        dropped = int(edges[0, :-1].sum() - kept.sum())
        seen.append(
            tracker.Track(t, before.all_entries, before.smallest_pivot, dropped, before.edges, after.all_entries)
        )
    return seen


@pytest.mark.parametrize("arithmetic", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("cut", [False, True])
def test_track_is_its_parts(arithmetic, cut):
    u = pl.formats.named(arithmetic).unit_roundoff
    settings = tracker.Settings(beta2=0.875, epsilon=u / 64, tolerance=2 * u, arithmetic=arithmetic)
    edges = np.asarray(logdet.row_edges((4, 3))) if cut else np.arange(N)[None] < N - 1
    found = list(tracker.track(STREAM, settings, edges if cut else None))
    assert found == by_hand(settings, arithmetic, edges)
    assert [t.step for t in found] == list(range(1, 7))
    assert {t.edges for t in found} == {9 if cut else 11}
    assert any(t.dropped for t in found)
    assert all(t.condition_kept <= t.condition for t in found)


def test_wider_bands_are_followed_too():
    """Row by row: one tensor whose rows have nothing to do with each other is as many chains."""
    settings = tracker.Settings(epsilon=0.0, floor=2.0**-6, tolerance=2.0**-7, band=2)
    edges = np.asarray(logdet.row_edges((6, 2), band=2))
    for seen, *rows in zip(
        tracker.track(STREAM, settings, edges),
        *(tracker.track(STREAM[:, part], settings) for part in (slice(6), slice(6, 12))),
        strict=True,
    ):
        assert seen.edges == sum(row.edges for row in rows) == 18
        assert seen.dropped == sum(row.dropped for row in rows)
        for name, combined in (("condition", max), ("condition_kept", max), ("smallest_pivot", min)):
            assert getattr(seen, name) == pytest.approx(combined(getattr(row, name) for row in rows), rel=2.0**-10)
    assert seen.dropped < 18
    assert seen.condition < np.inf
    assert list(tracker.track(STREAM, settings._replace(band=0)))[-1].edges == 0


def test_the_first_step_is_degenerate():
    """One gradient makes every beta 1: all edges go, and the diagonal that remains has condition 1.

    Storing H moves 1 - beta^2 by 4u at the most, computing s by another 2u, to first order.
    """
    for arithmetic in (None, "bfloat16"):
        settings = tracker.Settings(epsilon=0.0, tolerance=8 * 2.0**-8, arithmetic=arithmetic)
        first, *later = tracker.track(STREAM, settings)
        assert (first.dropped, first.edges, first.condition_kept) == (N - 1, N - 1, 1.0)
        assert first.smallest_pivot <= 2.0**-6
        assert later[-1].dropped < N - 1


def test_without_an_arithmetic_statistics_are_the_arrays_own():
    """In float64 the pivots come out as those of exact statistics, to a few units of each entry."""
    settings = tracker.Settings(beta2=0.75, epsilon=0.0)
    weights = 0.75 ** np.arange(6)[::-1]
    with jax.enable_x64(True):
        wide = jnp.asarray(STREAM, jnp.float64)
        *_, last = tracker.track(wide, settings)
    G = STREAM.astype(np.float64)
    H = np.zeros((2, N))
    H[0], H[1, :-1] = weights @ (G * G), weights @ (G[:, 1:] * G[:, :-1])
    # Each entry is off by some twenty roundings; a pivot in proportion to its condition, (3 + beta^2) / (1 - beta^2).
    least = pivots(H).min()
    assert last.smallest_pivot == pytest.approx(least, rel=40 * 2.0**-53 * 4 / least)
    assert last.condition == pytest.approx((4 - least) / least, rel=40 * 2.0**-53 * 4 / least)
    narrow = list(tracker.track(STREAM, settings))[-1]
    assert narrow.smallest_pivot == pytest.approx(least, rel=40 * 2.0**-24 * 4 / least)
    assert narrow.smallest_pivot != last.smallest_pivot


def test_statistics_are_handed_on():
    """advance is a step of track, from wherever it is begun; beta2 weighs what came before."""
    settings = tracker.Settings(beta2=0.5, epsilon=0.0, arithmetic="float32")
    progress, seen = tracker.begin(2), []
    assert (progress.step, float(progress.statistics.weight)) == (0, 0.0)
    for g in ([2.0, 0.0], [0.0, 2.0], [2.0, 2.0]):
        progress, track = tracker.advance(progress, jnp.array(g), settings)
        seen.append(track)
    # 0.5 (0.25, 0.5 and 1 times the squares 4), an edge from the last gradient alone
    assert progress.statistics.H.tolist() == [[2.5, 3.0], [2.0, 0.0]]
    assert (progress.step, float(progress.statistics.weight)) == (3, 0.875)
    assert seen[-1].smallest_pivot == pytest.approx(1 - 4 / 7.5, rel=4 * 2.0**-24)  # H / weight is rounded
    assert seen[-1] == list(tracker.track([jnp.array(g) for g in ([2.0, 0], [0, 2.0], [2.0, 2])], settings))[-1]
    other = settings._replace(beta2=0.75)
    assert list(tracker.track(STREAM, settings)) != list(tracker.track(STREAM, other))


def test_damping_and_tolerance_are_settings():
    kinds = [{}, {"tolerance": 0.5}, {"epsilon": 0.25}, {"floor": 10.0}]
    plain, dropping, damped, floored = (
        list(tracker.track(STREAM, tracker.Settings(arithmetic="float32", **kind)))[-1] for kind in kinds
    )
    assert dropping.dropped > plain.dropped
    assert dropping.condition == plain.condition
    assert dropping.condition_kept <= 2 * 2 / 0.5 - 1
    assert damped.condition < plain.condition
    assert floored.smallest_pivot > damped.smallest_pivot > plain.smallest_pivot


def test_dead_parameters_are_seen():
    """A zero on the diagonal has no projection; its edges are still counted, and dropped."""
    stream = STREAM.copy()
    stream[:, 4] = 0
    for arithmetic in (None, "bfloat16"):
        for track in tracker.track(stream, tracker.Settings(epsilon=0.0, tolerance=2.0**-7, arithmetic=arithmetic)):
            assert (track.condition, track.condition_kept) == (np.inf, np.inf)
            assert not track.smallest_pivot > 0
            assert track.edges == N - 1
            assert 2 <= track.dropped <= N - 1
        *_, track = tracker.track(stream, tracker.Settings(epsilon=2.0**-6, arithmetic=arithmetic))
        assert np.isfinite(track.condition)


def test_streams_of_float64_are_taken_in_the_mode_of_jax():
    for arithmetic in (None, "bfloat16"):
        chosen = tracker.Settings(arithmetic=arithmetic)
        assert list(tracker.track(STREAM.astype(np.float64), chosen)) == list(tracker.track(STREAM, chosen))


def test_an_empty_stream_has_no_track():
    assert list(tracker.track([], tracker.Settings())) == []
