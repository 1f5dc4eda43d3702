"""The study of ridges: its grid, its measurements on small matrices, and its judges."""

import re
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.study import Options, Status, cases, load

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "shampoo_ridge")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = (cases(STUDY, Options(quick=q)) for q in (True, False))
    assert len({case.id for case in full}) == len(full) > len(quick)
    for name in ("format", "p", "spectrum", "condition", "ridge", "seed"):
        small, large = ({case.parameters[name] for case in found} for found in (quick, full))
        assert small <= large, name


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "shampoo_ridge"
    source = "".join((folder / f"{name}.py").read_text() for name in ("study", "cases", "claims", "figures"))
    assert not re.search(r"^(import|from) (jax|numpy)", source, re.MULTILINE)


def test_the_error_is_the_bias_and_the_rounding():
    base = {"format": "float32", "p": 2, "spectrum": "geometric", "n": 8}
    some = [
        {**base, "condition": condition, "ridge": ridge, "seed": seed}
        for condition in (1e2, 1e4)
        for ridge in (0.0, 1e-6, 1e-2)
        for seed in range(2)
    ]
    for case, figures in zip(some, module("roots").measure_all(some), strict=True):
        assert (figures["bias"] == 0) == (case["ridge"] == 0)
        # what storing the matrix in float32 adds: kappa / (p sqrt(p)) u in this norm, twice for two roots
        stored = 2 * case["condition"] * 2.0**-24
        assert abs(figures["error"] - figures["bias"]) <= figures["rounding"] + stored
        assert (
            figures["rounding"] <= 8 * case["condition"] * 2.0**-24
        )  # n kappa u / p, and as much for the p + 1 powers
        assert figures["result"] == 0


def test_an_indefinite_matrix_has_no_damped_root():
    roots, case = module("roots"), {"p": 2, "spectrum": "geometric", "condition": 1e2, "n": 4}
    A = gallery.spd(4, condition=1e2)
    shifted = A - 0.05 * np.eye(4)
    figures = roots.figures(case, A, shifted, 0.01, np.eye(4), 5)
    assert np.isinf(figures["rounding"])
    assert np.isfinite(figures["error"])
    lost = roots.figures(case, A, A, 0.01, np.full((4, 4), np.nan), 5)
    assert np.isinf(lost["error"])
    assert np.isinf(lost["rounding_update"])


def planted(bias=0.001, error=1e-6, rounding=1e-8):
    """Rows of a study in which every figure is what it is asked to be."""
    rows = [case.parameters | {"result": 0} for case in cases(STUDY, Options(quick=True))]
    for row in rows:
        for name, value in (("bias", bias), ("error", error), ("rounding", rounding)):
            row[name] = row[f"{name}_update"] = value(row) if callable(value) else value
    return rows


@pytest.mark.parametrize(
    ("name", "holding", "failing"),
    [
        ("R26", {"bias": 0.009}, {"bias": 0.011}),
        ("R3", {"error": 0.51}, {"error": lambda row: 0.4 if row["ridge"] == 1e-8 else 0.6}),
        ("R26-cap", {"rounding": 1e-9}, {"rounding": lambda row: 0.05 if row["ridge"] == 1e-3 else 1e-9}),
        (
            "R26-balance",
            {"error": lambda row: abs(np.log10(max(row["ridge"], 1e-30)) - np.log10(unit(row) / row["condition"]) / 2)},
            {"error": 0.1},
        ),
        ("R26-none", {"error": 0.1}, {"error": lambda row: 0.1 if row["ridge"] else 0.16}),
    ],
)
def test_claims_by_planted_rows(name, holding, failing):
    for figures, status in ((holding, Status.CONFIRMED), (failing, Status.REFUTED)):
        (judge,) = (claim.judge for claim in STUDY.claims if claim.name == name)
        judgement = judge(planted(**figures))
        assert judgement.status is status, judgement.figure


def unit(row):
    return module("claims").ROUNDOFF[row["format"]]


def test_figures_are_drawn_from_their_tables():
    rows = planted()
    assert "0.1%" in STUDY.answer(rows)
    for figure in STUDY.figures:
        table = figure.table(rows)
        canvas = matplotlib.figure.Figure(layout="constrained")
        figure.draw(canvas, table)
        assert canvas.axes
        assert len({tuple(row) for row in table}) == 1
