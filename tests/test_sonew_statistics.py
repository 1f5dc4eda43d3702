"""The study of statistics in low precision: its cases, its measurements on a short stream, and its judges."""

import math
import re
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from precond_lab.report.figures import draw
from precond_lab.study import Options, Status, cases, judge_claims, load
from precond_lab.truth.logdet import direction

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "sonew_statistics")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]
U64 = 2.0**-53


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


# The grid


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = (cases(STUDY, Options(quick=q)) for q in (True, False))
    assert len({case.id for case in full}) == len(full) == 3 * len(quick)
    for name in ("format", "scheme", "scaling", "exponent", "beta2", "seed"):
        small, large = ({case.parameters[name] for case in found} for found in (quick, full))
        assert small <= large, name
    for case in quick:
        scheme = module("cases").SCHEMES[case.parameters["scheme"]]
        assert scheme.summed == (case.parameters["beta2"] is None)
        assert case.parameters["format"] in {"float16", "float8_e4m3fn"} or not case.parameters["scaling"]


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "sonew_statistics"
    source = "".join((folder / f"{name}.py").read_text() for name in ("study", "cases", "claims", "figures"))
    assert not re.search(r"^(import|from) (jax|numpy)", source, re.MULTILINE)


# What is measured


def test_the_exact_statistics_are_the_recurrence():
    G = np.random.default_rng(0).standard_normal((30, 5))
    for beta2 in (0.9, None):
        H, weight = np.zeros((2, 5)), 0.0
        for t, g in enumerate(G, 1):
            keep, take = (1.0, 1 / np.sqrt(t)) if beta2 is None else (beta2, 1 - beta2)
            H = keep * H + take * np.stack([g * g, np.append(g[1:] * g[:-1], 0.0)])
            weight = keep * weight + take
        found, found_weight = module("accumulation").exact(G, beta2)
        size = np.abs(G).max() ** 2 * weight
        assert np.abs(found - H).max() <= 200 * U64 * size  # 30 steps of a few roundings each, on either side
        assert found_weight == pytest.approx(weight, rel=200 * U64)


def test_the_exact_direction_is_that_of_the_definition():
    rng = np.random.default_rng(1)
    H = np.stack([rng.uniform(1, 2, 6), np.append(rng.uniform(-0.9, 0.9, 5), 0.0)])
    H[:, 3], H[1, 2] = 0.0, 0.0  # a dead parameter
    m = rng.standard_normal(6)
    m[3] = 0.0
    damped = H.copy()
    sums = H[0] + np.abs(H[1]) + np.abs(np.insert(H[1, :-1], 0, 0.0))
    damped[0] += 0.125 * sums.max()
    goal = np.array([float(x) for x in direction(damped, m)])
    # the 2 by 2 blocks have condition numbers below 16, and a sum of three terms is formed of each
    assert np.abs(module("accumulation").exact_direction(H, m, 0.125) - goal).max() <= 500 * U64 * np.abs(goal).max()


def test_errors_of_planted_statistics():
    accumulation = module("accumulation")
    reference = np.array([[4.0, 1.0, 0.0, 2.0, 4.0], [1.0, 0.0, 0.0, 2.0, 0.0]])
    H = np.array([[5.0, 1.0, 0.0, 0.0, 2.0], [1.5, 0.0, 0.0, 2.0, 0.0]])
    found = accumulation._errors(H, reference, np.ones(5))
    assert found["mean_ratio"] == (1.25 + 1 + 0 + 0.5) / 4
    assert found["median_error"] == (0.25 + 0.5) / 2
    assert found["largest_error"] == 1
    assert found["median_edge_error"] == 0.125  # of 0.5 / sqrt(4) and 0
    assert found["underflowed_share"] == 0.25
    assert found["overflowed_share"] == 0
    assert found["correlation"] == pytest.approx(np.corrcoef(H[0, [0, 1, 3, 4]], reference[0, [0, 1, 3, 4]])[0, 1])
    H[0, 0] = np.inf
    assert accumulation._errors(H, reference, np.ones(5))["overflowed_share"] == 0.25
    idle = accumulation._idleness(np.array([[10, 5, 10, 0, 1], [0] * 5]), reference, 10)
    assert idle == {"idle_share": 0.4, "stagnated_share": 0.25}


def measured(**axes) -> dict:
    case = {"format": "bfloat16", "scheme": "average", "scaling": False, "exponent": 0, "beta2": 0.999}
    return dict(STUDY.measure({**case, "steps": 60, "n": 16, "seed": 0, **axes}, None))


def test_a_case_is_the_recurrence_step_by_step():
    """In bfloat16 by another's scalars, on the gradients of the case."""
    accumulation, bfloat16 = module("accumulation"), ml_dtypes.bfloat16
    G = accumulation.stream("bfloat16", 0, 60, 16, 0).G
    assert (G[:, 7::8] == 0).all()
    beta2, complement = bfloat16(0.999), bfloat16(1 - 0.999)
    H, idle = np.zeros(16, bfloat16), np.zeros(16)
    for t, g in enumerate(G.astype(bfloat16)):
        new = beta2 * H + complement * (g * g)
        idle += (new == H) & (t >= 30)
        H = new
    live = G.any(axis=0)
    goal = accumulation.exact(G, 0.999)[0][0]
    found = measured()
    assert found["stored_beta2"] == float(beta2) == 1
    assert found["median_error"] == np.median(np.abs(H.astype(float)[live] / goal[live] - 1))
    assert found["idle_share"] == idle[live].mean() / 30
    assert found["nonfinite_tuned"] == 0


def test_scaled_cases_are_measured_in_the_units_of_the_gradients():
    """Gradients of 2^-10 in float16: lost without a scale, as good as a rounding or so with it."""
    axes = {"format": "float16", "scheme": "compensated", "exponent": -10, "beta2": 0.95}
    plain, scaled = measured(**axes), measured(scaling=True, **axes)
    assert plain["scale"] == 1
    assert plain["nonfinite_tuned"] > 0
    assert plain["median_error"] > 0.5
    assert scaled["scale"] >= 2.0**10
    assert scaled["median_error"] <= 2.0**-11
    assert scaled["nonfinite_tuned"] == 0
    assert scaled["cosine"] > 0.999


# The judges, on planted rows

GOOD = {
    "mean_ratio": 1.0,
    "median_error": 1e-4,
    "largest_error": 1e-3,
    "median_edge_error": 1e-4,
    "correlation": 1.0,
    "underflowed_share": 0.0,
    "overflowed_share": 0.0,
    "idle_share": 0.0,
    "stagnated_share": 0.0,
    "weight_ratio": 1.0,
    "scale": 1.0,
    "stored_beta2": 0.9,
    "damping": 1e-3,
    "nonfinite_tuned": 0,
    "nonfinite_default": 0,
    "dropped_share": 0.0,
    "cosine": 1.0,
}


@pytest.fixture
def rows() -> list[dict]:
    """Rows of the quick grid that confirm every claim."""
    found = [{**case.parameters, **GOOD} for case in cases(STUDY, Options(quick=True))]
    for row in found:
        lost = {"average": 0.99, "increment": 0.995}.get(row["scheme"])
        if lost and row["beta2"] >= lost:
            row["median_error"] = 0.5
        if row["beta2"] == 0.999 and row["format"] == "bfloat16":
            row["stored_beta2"] = 1.0
        if row["scheme"] == "sum":
            row["mean_ratio"] = 0.4
        if row["format"] == "float16":
            row["nonfinite_default"] = 9
            if not row["scaling"] and row["exponent"] <= -12:
                row.update(underflowed_share=1.0, nonfinite_tuned=9, median_error=1.0, damping=0.0)
    return found


BREAKS = {
    "C21": ({"format": "bfloat16", "scheme": "average", "beta2": 0.95}, {"median_error": 0.06}),
    "C21-increment": ({"format": "bfloat16", "scheme": "increment", "beta2": 0.999}, {"median_error": 0.01}),
    "C21-compensated": ({"format": "float16", "scheme": "compensated", "beta2": 0.99}, {"median_error": 0.001}),
    "C21-float32": ({"format": "bfloat16", "scheme": "wide", "beta2": 0.9}, {"median_error": math.nan}),
    "C21-stochastic": ({"format": "bfloat16", "scheme": "stochastic", "beta2": 0.999}, {"mean_ratio": 1.02}),
    "C21-stochastic-direction": ({"format": "bfloat16", "scheme": "stochastic", "beta2": 0.9}, {"cosine": 0.97}),
    "C21-compensated-direction": ({"format": "float16", "scheme": "compensated", "beta2": 0.9}, {"cosine": math.nan}),
    "C21-sum": ({"format": "bfloat16", "scheme": "sum_compensated"}, {"median_error": 0.01}),
    "C22": ({"format": "float16", "scheme": "wide", "scaling": True, "exponent": -8}, {"nonfinite_tuned": 1}),
    "C22-reciprocal": (
        {"format": "float16", "scheme": "wide", "scaling": False, "exponent": 0},
        {"nonfinite_tuned": 1},
    ),
    "C22-scaling": (
        {"format": "float16", "scheme": "compensated", "scaling": True, "exponent": -8},
        {"median_error": 1},
    ),
}


def statuses(rows: list[dict]) -> dict[str, Status]:
    return {judged.claim.name: judged.judgement.status for judged in judge_claims(STUDY, rows)}


def test_judges_confirm_what_holds(rows):
    assert statuses(rows) == dict.fromkeys(BREAKS, Status.CONFIRMED)
    assert "float32" in STUDY.answer(rows)


@pytest.mark.parametrize("claim", BREAKS)
def test_a_judge_refutes_what_does_not_hold(rows, claim):
    axes, figures = BREAKS[claim]
    touched = [row for row in rows if all(row[name] == value for name, value in axes.items())]
    assert touched
    for row in touched:
        row.update(figures)
    assert statuses(rows)[claim] is Status.REFUTED


def test_a_judge_without_rows_leaves_its_claim_open(rows):
    found = statuses([row for row in rows if row["format"] != "float16"])
    assert found["C22"] is found["C22-scaling"] is Status.OPEN
    assert found["C21"] is Status.CONFIRMED


@pytest.mark.parametrize("figure", STUDY.figures, ids=lambda figure: figure.name)
def test_a_figure_is_drawn_from_its_table(rows, figure):
    drawn = draw(figure, figure.table(rows), "test")
    assert drawn.problem is None
    other = figure.table([{**row, "median_error": 0.3, "cosine": 0.3, "nonfinite_tuned": 3} for row in rows])
    assert drawn.svg != draw(figure, other, "test").svg
