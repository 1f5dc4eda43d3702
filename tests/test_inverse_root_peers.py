"""The study of roots in use: its grid, its measurements on small matrices, and its judges."""

import math
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from precond_lab.study import Options, Status, cases, load

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "inverse_root_peers")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]
UNIT = 2.0**-24


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


def measured(part: str, some: list[dict[str, Any]]) -> list[dict[str, Any]]:
    measures = module("measures")
    return [dict(found) for found in measures.MEASURES[measures.Part(part)]([{"part": part, **case} for case in some])]


def test_the_grids_name_known_subjects_and_every_case_once():
    table = module("subjects").TABLE
    for quick in (True, False):
        found = cases(STUDY, Options(quick=quick))
        assert len({case.id for case in found}) == len(found)
        for case in found:
            if case.parameters["part"] in {"exponents", "scales", "indicators", "inputs"}:
                assert case.parameters["subject"] in table


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "inverse_root_peers"
    names = ("study", "cases", "claims", "judges", "rows", "figures")
    source = "".join((folder / f"{name}.py").read_text() for name in names)
    assert not re.search(r"^(import|from) (jax|numpy|precond_lab.precond)", source, re.MULTILINE)


def test_optax_takes_the_root_of_another_power():
    some = [{"subject": "optax", "p": p, "condition": 10.0, "n": 8, "seed": 0} for p in (4, 3)]
    right, wrong = measured("exponents", some)
    # n u for each of two products a step, kappa / p of that, and eight steps
    bound = 2 * 8 * 8 * UNIT * 10
    assert right["error"] <= bound
    assert right["certified"]
    assert wrong["power"] == 4
    assert wrong["error_other"] <= bound
    assert wrong["error"] > 0.05
    assert wrong["accepted"]
    assert not wrong["certified"]


def test_a_start_from_the_previous_root_is_off_by_what_has_changed():
    base = {"p": 2, "condition": 100.0, "n": 8, "seed": 0}
    some = [{"subject": "previous_root", **base, "change": change} for change in (0.0, 1e-2)]
    same, changed = measured("warm", some)
    bound = 8 * 8 * UNIT * 100
    assert same["error"] <= bound
    assert changed["error"] > 100 * bound
    assert changed["reported"] <= 1e-5
    (cold,) = measured("warm", [{"subject": "cold", **base, "change": 1e-2}])
    assert cold["error"] <= bound


def test_a_floor_in_units_spoils_the_scale_and_a_batch_its_small_blocks():
    base = {"p": 2, "condition": 100.0, "n": 8, "seed": 0}
    down, up = measured("scales", [{"subject": "eigh_clamp", **base, "scale": scale} for scale in (-60, 40)])
    assert down["difference"] > 0.5
    assert down["accepted"]
    assert up["difference"] <= 10 * 100 * UNIT
    assert not up["accepted"]
    small, whole = measured(
        "inputs",
        [{"subject": "eigh_batch_cut", "p": 2, "n": 8, "input": name} for name in ("beside_large", "small_scale")],
    )
    assert (small["error_root"], small["outcome"]) == (1.0, "silent")
    assert whole["outcome"] == "right"


def test_outcomes_are_named_by_truth_and_by_who_takes_the_root():
    outcome = module("measures").outcome
    right, wrong = {"error": 2.0**-4}, {"error": 0.07}
    assert outcome("tiny", {**right, "accepted": True}) == "right"
    assert outcome("tiny", {**right, "accepted": False}) == "false alarm"
    assert outcome("tiny", {**wrong, "accepted": True}) == "silent"
    assert outcome("tiny", {**wrong, "accepted": False}) == "refused"
    assert outcome("zero", {**right, "accepted": True}) == "silent"
    assert outcome("nan", {"error": math.nan, "accepted": False}) == "refused"


def test_what_passes_for_a_report_of_a_root():
    report = module("subjects").TABLE["optax"].accepts
    X = np.eye(2)
    assert [report(X, value, 0) for value in (-math.inf, 0.09, 0.1, math.nan)] == [True, True, False, False]
    finite = module("subjects").TABLE["user_eigh"].accepts
    assert finite(X, math.nan, 0)
    assert not finite(X * math.nan, 0.0, 0)


def test_guards_and_the_small_maximum():
    base = {"format": "float32", "n": 8, "fill": "one"}
    names = module("cases").GUARDS
    some = [{**base, "guard": name} for name in names]
    for name, found in zip(names, measured("guards", some), strict=True):
        assert found["flagged"], name  # 64 elements: a maximum is one there
        assert found["elements"] == 64


def test_a_cut_leaves_out_the_noise_or_the_smallest_eigenvalue():
    base = {"subject": "cut_n_eps", "p": 2, "n": 16, "seed": 0}
    full, low = measured("truncation", [{**base, "noise": noise} for noise in (None, 0.0)])
    assert full["error"] == pytest.approx(1.0, abs=1e-3)  # zero along the smallest eigenvalue, nearly exact elsewhere
    assert low["error"] <= 16 * UNIT * 100 * 10


def test_a_turn_is_orthogonal_and_as_large_as_it_says():
    turn = module("habits")._turn(6, 0.1, np.random.default_rng(0))
    np.testing.assert_allclose(turn @ turn.T, np.eye(6), atol=64 * 2.0**-53)
    angles = np.angle(np.linalg.eigvals(turn))
    assert np.abs(angles).max() == pytest.approx(0.1, abs=1e-12)


def test_errors_by_their_definition():
    truths = module("truths")
    A = truths.eigen(np.diag([0.25, 1.0]))
    assert truths.errors(np.diag([2.0, 1.0]), A, 2) == (0.0, 0.0)
    found = truths.errors(np.diag([2.4, 1.3]), A, 2)
    np.testing.assert_allclose(found, (0.2, np.sqrt(0.13 / 2)), rtol=1e-12)
    assert np.isnan(truths.errors(np.eye(2), truths.eigen(-np.eye(2)), 2)).all()
    assert truths.errors(np.full((2, 2), np.nan), A, 2).spectral == math.inf
    assert truths.errors(np.diag([0.0, 1.0]), A, 2, np.array([np.inf, 1.0])).spectral == 0.0


def planted(**changed):
    """Rows of a study in which all is well, but for what is changed: figures, or functions of a row."""
    rows: list[dict[str, Any]] = [dict(case) for case in STUDY.grid(Options(quick=True))]
    for row in rows:
        figures: dict[str, Any] = dict.fromkeys(("error", "error_root", "error_stored", "error_update"), 1e-7)
        figures |= {"error_other": 1e-7, "reported": 1e-7, "residual": 1e-7, "steps": 9, "accepted": True}
        figures |= {"certified": True, "difference": 0.0, "difference_entries": 0.0, "same": True, "outcome": "right"}
        figures |= {
            "flagged": True,
            "elements": row.get("n", 1) ** 2,
            "backend": "cpu",
            "condition_now": 1e4,
            "apart": 0.0,
        }
        if row["part"] == "exponents":
            figures["power"] = 2 ** min(round(math.log2(row["p"])), 3)
        if row.get("input") in module("cases").ROOTLESS:
            figures |= {"accepted": False, "certified": False, "outcome": "refused"}
            figures |= dict.fromkeys(("error", "error_root", "error_stored"), math.nan)
        if "subject" not in row:
            del figures["certified"]
        for name, value in changed.items():
            if name not in figures:
                continue
            figures[name] = value(row) if callable(value) else value
        row.update(figures)
    return rows


def only(value, otherwise, **axes):
    return lambda row: value if all(row.get(name) == wanted for name, wanted in axes.items()) else otherwise


JUDGED = [
    ("R24", {}, {"error": only(0.01, 1e-7, subject="optax", p=3)}),
    ("R24-what", {}, {"error_other": 1e-3}),
    ("R24-said", {"reported": 0.2}, {"reported": 0.09}),
    ("R24-here", {}, {"error": only(0.01, 1e-7, subject="coupled_newton", p=16)}),
    ("R16", {}, {"difference": only(1.0, 0.0, subject="optax", scale=-96)}),
    ("R16", {}, {"difference": math.nan}),
    ("R16-said", {"error_root": 1.0, "accepted": False}, {"error_root": 1.0, "accepted": True}),
    ("R16-here", {}, {"same": only(False, True, subject="refined")}),
    ("R5-accepted", {}, {"error": only(0.2, 1e-7, subject="retried_newton", condition=1e10)}),
    ("R5-accepted", {"error": only(0.2, 1e-7, subject="user_eigh")}, {"error": math.inf}),
    ("R5-certificate", {}, {"error_stored": 0.07}),
    ("R5-alarms", {}, {"certified": False}),
    ("R3-retried", {}, {"error_root": only(0.2, 0.0, subject="retried_newton", p=2)}),
    ("R3-float64", {}, {"error_root": only(0.02, 0.0, subject="retried_newton_float64", p=4)}),
    ("R22", {}, {"flagged": only(False, True, guard="maximum", n=64, format="float32")}),
    ("R22-others", {"flagged": only(False, True, guard="maximum")}, {"flagged": only(False, True, guard="sum")}),
    ("R22-accepted", {}, {"accepted": True}),
    ("R14", {}, {"error": only(1e-3, 1e-7, subject="previous_root", change=1e-3)}),
    ("R14-said", {"error": 0.5, "reported": 0.2}, {"error": 0.5}),
    ("R14-basis", {}, {"error": only(0.01, 1e-7, subject="previous_basis")}),
    ("R15", {}, {"difference": only(1.0, 0.0, subject="optax_identity", scale=-40)}),
    ("R15-zeros", {}, {"difference": only(1.0, 0.0, subject="optax_zeros")}),
    ("R15-entries", {}, {"difference_entries": 0.06}),
    ("R15-here", {"difference": only(1.0, 0.0, subject="optax_zeros")}, {"difference": 1.0}),
    ("R18", {}, {"error": lambda row: 3.1 * 2 * UNIT * (row.get("condition") or 1) / row.get("p", 1)}),
    ("R19", {"error_update": only(1e-3, 1e-6, subject="ridge_1e-6")}, {}),
    ("R19-full", {}, {"error": only(0.2, 0.0, subject="cut_n_eps")}),
    ("R27", {}, {"error": only(0.11, 0.0, subject="quotients", decay=0.9)}),
    ("R27-update", {}, {"error_update": only(0.11, 0.0, subject="quotients")}),
    ("R27-jump", {"error": only(0.5, 0.0, change=0.1)}, {"error": only(0.5, 0.0, change=0.01)}),
    ("R27-basis", {}, {"error": only(0.01, 0.0, subject="eigen")}),
    ("R7", {"error": only(1e-7, 3e-7, subject="coupled_newton")}, {}),
    ("R7-divide", {"error": only(3e-7, 1e-7, subject="divide_and_conquer")}, {}),
    ("cut", {}, {"error_root": only(1.0, 0.0, input="beside_large")}),
    ("outcomes", {}, {"outcome": only("silent", "right", subject="eigh_shift")}),
    ("outcomes-here", {}, {"outcome": only("silent", "right", subject="eigen")}),
    ("outcomes-here", {}, {"error_root": only(1.0, 0.0, subject="user_svd")}),
]
"""Claims with figures by which they hold, and others by which they fail."""


@pytest.mark.parametrize(("name", "holding", "failing"), JUDGED)
def test_claims_by_planted_rows(name, holding, failing):
    for figures, status in ((holding, Status.CONFIRMED), (failing, Status.REFUTED)):
        (judge,) = (claim.judge for claim in STUDY.claims if claim.name == name)
        judgement = judge(planted(**figures))
        assert judgement.status is status, judgement.figure


def test_every_claim_is_judged_both_ways():
    assert {claim.name for claim in STUDY.claims} == {name for name, *_ in JUDGED}


def test_figures_are_drawn_from_their_tables():
    rows = planted(error=lambda row: math.inf if row.get("condition") == 1e4 else 1e-3, difference=math.nan)
    assert "0 of 252 roots" in STUDY.answer(planted())
    for figure in STUDY.figures:
        table = figure.table(rows)
        canvas = matplotlib.figure.Figure(layout="constrained")
        figure.draw(canvas, table)
        assert canvas.axes
        assert len({tuple(row) for row in table}) == 1
