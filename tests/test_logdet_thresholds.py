"""The breakdown thresholds of an edge: over all triples of narrow formats, and searched for in wide ones."""

from fractions import Fraction as Q
from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rational_edges import cells, nearest, pivot, schur, triples

import precond_lab as pl
from precond_lab.diagnosis.logdet_thresholds import least_kept_pivot, thresholds
from precond_lab.preconditioners import logdet

FORMATS = {"bfloat16": 8, "float16": 11, "float32": 24}


@pytest.mark.parametrize("precision", [3, 4])
def test_breakdowns_lie_below_their_thresholds(precision):
    cell = cells(precision)
    bounds = thresholds(2.0**-precision)
    worst = {"arithmetic": Q(0), "storage": Q(0), "both": Q(0)}
    for a, c, e in triples(precision):
        p, broken = pivot(a, c, e), schur(a, c, e, precision) <= 0
        before = pivot(cell[a][1], cell[c][1], cell[e][0])
        for name, happened, value in (
            ("arithmetic", broken and p > 0, p),
            ("storage", p <= 0, before),
            ("both", broken, before),
        ):
            if happened:
                worst[name] = max(worst[name], value)
    for name, value in worst.items():
        assert 0.5 * getattr(bounds, name) < value <= getattr(bounds, name), name


@pytest.mark.parametrize("precision", [3, 4])
def test_errors_are_bounded_by_the_exact_condition_number(precision):
    u, largest = Q(1, 2**precision), Q(0)
    for a, c, e in triples(precision):
        p = pivot(a, c, e)
        if p > 0:
            error = abs(schur(a, c, e, precision) / (p * a) - 1)
            assert error <= u * (2 - p) / p
            largest = max(largest, error * p / u / (2 - p))
    assert largest > 0.8


@pytest.mark.parametrize("precision", [3, 4])
@pytest.mark.parametrize("multiple", [0, 0.5, 1, 1.5, 2])
def test_kept_edges_have_the_pivot_that_is_guaranteed(precision, multiple):
    u, cell, kept = 2.0**-precision, cells(precision), []
    gamma = Q(multiple * u)
    for a, c, e in triples(precision):
        if schur(a, c, e, precision) > (nearest(gamma * a, precision) if gamma else 0):
            kept.append((pivot(a, c, e), pivot(cell[a][0], cell[c][0], cell[e][1])))
    stored, before = (min(values) for values in zip(*kept, strict=True))
    assert stored >= least_kept_pivot(float(gamma), u)
    assert before >= least_kept_pivot(float(gamma), u, rounded=True)
    assert stored > 0 or multiple < 2


@pytest.mark.parametrize("precision", range(3, 49, 5))
def test_the_thresholds_are_what_they_are_derived_as(precision):
    u = Q(1, 2**precision)
    v, w = u / (1 + u), u / (1 + 2 * u)
    assert 1 - w == 1 / (1 + v)
    found = thresholds(float(u))
    exact = (1 - 1 / (1 + v) ** 2, 1 - ((1 - w) / (1 + u)) ** 2, 1 - 1 / ((1 + v) * (1 + 2 * u)) ** 2)
    assert found == pytest.approx([float(x) for x in exact], rel=8 * 2.0**-53)
    assert all(below < multiple * u for below, multiple in zip(found, (2, 4, 6), strict=True))
    for gamma, rounded in product((0, 2 * u, 20 * u), (False, True)):
        if gamma <= 0.25:
            surely = gamma * (1 - v) if gamma == 20 * u else gamma
            bound = 1 - (1 - surely) / (1 - v) ** 2 * (((1 + u) / (1 - w)) ** 2 if rounded else 1)
            assert least_kept_pivot(float(gamma), float(u), rounded=rounded) == pytest.approx(
                float(bound), abs=2.0**-52
            )
    assert 1 - (1 - 2 * u) / (1 - v) ** 2 == 3 * u**2 + 2 * u**3


@pytest.mark.parametrize("precision", [3, 4, 8, 11, 24])
def test_the_threshold_of_storage_is_sharp(precision):
    """(1, 1 + 4u, 1 + 2u) is indefinite, and is stored of pairs whose pivots come up to 4u / (1 + 5u)."""
    u = Q(1, 2**precision)
    a, c, e = Q(1), 1 + 4 * u, 1 + 2 * u
    assert pivot(a, c, e) < 0
    inside = u * Q(999, 1000)  # of the cells, however ties go
    assert [nearest(x, precision) for x in (a + inside, c + inside, e - inside)] == [a, c, e]
    corner = pivot(a + u, c + u, e - u)
    assert corner == 4 * u / (1 + 5 * u)
    # the bound is 4u (1 + u) / (1 + 2u)^2
    assert corner <= Q(thresholds(float(u)).storage) <= corner * (1 + 2 * u)


def emulated(format: str, a: np.ndarray, c: np.ndarray, e: np.ndarray) -> np.ndarray:
    """The Schur complement of the first vertex of each pair, as the program computes it."""
    H = np.zeros((2, 2 * len(a)), np.float32)
    H[0, ::2], H[0, 1::2], H[1, ::2] = a, c, e
    return np.asarray(program(format)(H), np.float64)[::2]


@lru_cache
def program(format: str):
    return pl.emulate(lambda H: logdet.schur_complements(H)[1], format)


@pytest.mark.parametrize("format", FORMATS)
@given(seed=st.integers(0, 2**32 - 1), reach=st.floats(0.5, 8))
@settings(max_examples=10, deadline=None)
def test_no_real_numbers_above_the_thresholds_break_down(format, seed, reach):
    """Pairs with pivots up to a few u, rounded to the format."""
    u, rng = 2.0 ** -FORMATS[format], np.random.default_rng(seed)
    exact = rng.uniform(1, 2, 4096), rng.uniform(1, 4, 4096)
    e = np.sqrt(exact[0]) * np.sqrt(exact[1]) * np.sqrt(1 - rng.uniform(0, reach * u, 4096))
    a, c, stored = (np.asarray(pl.round_to(x, format), np.float64) for x in (*exact, e))
    s, determinant = emulated(format, a, c, stored), a * c - stored * stored
    p, of_stored = 1 - e * e / (exact[0] * exact[1]), determinant / (a * c)
    bounds, slack = thresholds(u), 2.0**-50  # p is rounded to float64
    assert (determinant > 0)[p > bounds.storage + slack].all()
    assert (s > 0)[p > bounds.both + slack].all()
    assert (s > 0)[of_stored > bounds.arithmetic + slack].all()
    error = np.abs(s - of_stored * a)  # u (1 + beta^2) / (1 - beta^2), times (1 - beta^2) a
    assert (error <= u * (2 - of_stored) * a * (1 + 1e-7))[determinant > 0].all()
    for gamma in (0.0, 2 * u, 4 * u):
        assert (of_stored >= least_kept_pivot(gamma, u) - slack)[s > gamma * a].all()


def test_the_largest_breakdown_in_bfloat16():
    a, c, e = 1.03125, 3.546875, 1.90625
    assert emulated("bfloat16", *(np.array([x]) for x in (a, c, e)))[0] == 0
    p = pivot(Q(a), Q(c), Q(e))
    assert float(p) == pytest.approx(0.0065412, rel=1e-5)
    assert 0 < p < thresholds(2.0**-8).arithmetic


@pytest.mark.parametrize("u", [0.0, -0.1, 0.6, float("nan")])
def test_a_unit_roundoff_out_of_range_is_refused(u):
    with pytest.raises(ValueError, match="unit roundoff"):
        thresholds(u)
    with pytest.raises(ValueError, match="unit roundoff"):
        least_kept_pivot(0.1, u)


@pytest.mark.parametrize("tolerance", [-1.0, 0.3, float("nan")])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        least_kept_pivot(tolerance, 2.0**-8)
