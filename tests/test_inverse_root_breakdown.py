"""The study of breakdowns: its grid, its measurements on small matrices, and its judges."""

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from precond_lab.study import Options, Status, cases, load

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "inverse_root_breakdown")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]
UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "float8_e4m3fn": 2.0**-4}


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = ({tuple(case.items()) for case in STUDY.grid(Options(quick=q))} for q in (True, False))
    assert quick < full
    assert len(cases(STUDY, Options(quick=True))) == len(quick)


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "inverse_root_breakdown"
    source = "".join((folder / f"{name}.py").read_text() for name in ("study", "cases", "claims", "figures"))
    assert not re.search(r"^(import|from) (jax|numpy|precond_lab.precond)", source, re.MULTILINE)


def some(n, method, conditions, seeds=2, format="float32"):
    base: dict[str, Any] = {"format": format, "method": method, "p": 2, "n": n, "spectrum": "geometric"}
    return [{**base, "condition": condition, "seed": seed} for condition in conditions for seed in range(seeds)]


def test_errors_grow_with_the_condition_number_until_the_frontier():
    n, u = 8, 2.0**-24
    wanted = some(n, "coupled_newton", (10.0, 1e4, 1e10, None))
    for case, found in zip(wanted, module("roots").measure_all(wanted), strict=True):
        if case["condition"] is None:
            # below, n kappa u is less than a half; above, kappa u is so large that no matrix is stored definite
            assert 0.5 / (n * u) <= found["frontier"] <= 2.0**39
            assert found["error"] is None
            continue
        attainable = case["condition"] / 2 * u
        assert found["works"] == (case["condition"] < 1e10)
        if found["works"]:
            # one rounding of the matrix, and n of M in a first step that dominates; both in the worst direction
            assert found["error"] <= 2 * (n + 1) * attainable + n * u
            assert found["error_stored"] <= found["residual"] + attainable
            assert found["error_update"] <= np.sqrt(n * case["condition"]) * found["error"]


def test_the_frontier_is_where_it_was_put(monkeypatch):
    roots = module("roots")
    asked = []

    def errors_of(tried):
        asked.append(len(tried))
        return [{"works": case["condition"] <= case["seed"]} for case in tried]

    monkeypatch.setattr(roots, "errors_of", errors_of)
    planted = [{"condition": None, "seed": seed} for seed in (1000, 123456, 0, 2**50)]
    edges = roots.frontiers(planted)
    for edge, case in zip(edges, planted, strict=True):
        width = roots.FARTHEST ** (2.0**-roots.HALVINGS)
        truth = min(max(case["seed"], 1), roots.FARTHEST)
        assert truth / (width * 1.001) <= edge <= truth
    assert asked == [4] * roots.HALVINGS
    assert roots.frontiers([]) == []


def test_the_bare_iteration_shows_what_stability_is():
    wanted = some(8, "bare_newton", (2.0, 4.0))
    for case, found in zip(wanted, module("roots").measure_all(wanted), strict=True):
        stable = case["condition"] < 2.438
        assert found["bounded"] == stable
        assert (found["error_last"] <= 1e-6) == stable
        assert found["error"] <= 1e-5
        assert found["least"] <= found["reported"]
        assert found["steps"] <= 10
        assert found["residual"] is None


def test_what_is_no_root_has_an_infinite_error():
    roots = module("roots")
    assert roots.errors(np.full((2, 2), np.nan), np.ones(2), np.eye(2), 2) == (np.inf,) * 3
    exact = roots.errors(np.diag([1.0, 2.0]), np.array([1.0, 0.25]), np.eye(2), 2)
    assert exact == (0.0, 0.0, 0.0)
    off = roots.errors(np.diag([1.3, 2.4]), np.array([1.0, 0.25]), np.eye(2), 2)
    np.testing.assert_allclose(off, (0.2, np.sqrt(0.25 / 5), np.sqrt(0.13 / 2)), rtol=1e-12)


@pytest.mark.slow
def test_the_frontier_of_bfloat16_is_that_of_float32_scaled():
    (low,) = {found["frontier"] for found in module("roots").measure_all(some(8, "coupled_newton", (None,), 1))}
    wanted = some(8, "coupled_newton", (None, 1e2), 1, format="bfloat16")
    edge, found = module("roots").measure_all(wanted)
    assert 2.0**-16 / 8 <= edge["frontier"] / low <= 2.0**-16 * 8
    assert found["works"]
    assert found["error"] <= 9 * 1e2 * 2.0**-8


def planted(**changed):
    """Rows of a study in which all is well, but for what is changed: numbers, or functions of a row."""
    rows: list[dict[str, Any]] = [dict(case) for case in STUDY.grid(Options(quick=True))]
    for row in rows:
        kappa, u = row["condition"], UNIT[row["format"]]
        size = (kappa or 1) * u / row["p"]
        figures: dict[str, Any] = {
            "error": size,
            "error_frobenius": 1e5 * size,
            "error_update": size,
            "error_stored": size,
        }
        figures |= {"residual": 1.5 * size, "reported": size, "least": 1e-7, "error_last": size, "frontier": 5 / u}
        figures |= {"steps": 20, "result": 0, "works": size < 0.5, "bounded": (kappa or 1) * u < 10}
        for name, value in changed.items():
            figures[name] = value(row) if callable(value) else value
        row.update(figures)
    return rows


def unstable(row):
    uncoupled = row["method"] == "bare_newton" and (row["condition"] or 0) > 3
    return (row["condition"] or 1) * UNIT[row["format"]] / row["p"] * (1e3 if uncoupled else 1)


@pytest.mark.parametrize(
    ("name", "holding", "failing"),
    [
        ("R1", {"error_frobenius": lambda row: (row["condition"] or 1) * 5e-8}, {"error_frobenius": 0.01}),
        ("R2", {}, {"error": lambda row: (row["condition"] or 1) * UNIT[row["format"]] / row["p"] / 3}),
        ("R2-bound", {}, {"error": lambda row: (row["condition"] or 1) * UNIT[row["format"]] / row["p"] * 1.1}),
        ("R4", {"reported": 1e-6}, {"reported": 1e-6, "steps": lambda row: 26 if row["condition"] == 1e6 else 9}),
        ("R4", {"reported": 1e-6}, {"reported": 1.1e-6}),
        ("R5", {}, {"reported": 1e-7}),
        ("R6", {"error_last": unstable}, {}),
        ("R6", {"error_last": unstable}, {"error_last": np.inf}),
        ("R6-coupled", {}, {"error_last": lambda row: np.inf if row["seed"] == 1 else 1e-9}),
        ("R8", {}, {"bounded": lambda row: (row["condition"] or 1) < 500}),
        ("R8-diverges", {"bounded": False}, {"bounded": lambda row: row["format"] == "float8_e4m3fn"}),
        ("R8-law", {}, {"frontier": lambda row: 31 / UNIT[row["format"]]}),
        ("R9", {"error": 0.009, "works": True}, {"error": 0.011, "works": True}),
        ("R9", {"error": 0.009, "works": True}, {"error": 0.009, "works": False}),
        ("R23", {"steps": lambda row: 7 if row["method"] == "coupled_higher_order" else 10}, {}),
        ("R29", {}, {"residual": lambda row: (row["condition"] or 1) * UNIT[row["format"]] / row["p"] * 0.89}),
        ("R29", {}, {"residual": np.nan}),
        ("R30", {}, {"least": lambda row: UNIT[row["format"]]}),
    ],
)
def test_claims_by_planted_rows(name, holding, failing):
    for figures, status in ((holding, Status.CONFIRMED), (failing, Status.REFUTED)):
        (judge,) = (claim.judge for claim in STUDY.claims if claim.name == name)
        judgement = judge(planted(**figures))
        assert judgement.status is status, judgement.figure


def test_figures_are_drawn_from_their_tables():
    rows = planted(error=lambda row: np.inf if row["condition"] == 1e10 else 1e-3)
    assert "float8_e4m3fn up to 8.0e+01" in STUDY.answer(rows)
    for figure in STUDY.figures:
        table = figure.table(rows)
        canvas = matplotlib.figure.Figure(layout="constrained")
        figure.draw(canvas, table)
        assert canvas.axes
        assert len({tuple(row) for row in table}) == 1
