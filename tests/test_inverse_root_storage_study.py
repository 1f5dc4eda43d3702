"""The study of storage: its grid, its measurements on small matrices, and its judges."""

import math
import re
import sys
from functools import cache
from pathlib import Path

import jax
import matplotlib.figure
import numpy as np
import pytest

from precond_lab import formats, gallery
from precond_lab.study import Options, Status, cases, load

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "studies" / "inverse_root_storage"
STUDY = load(FOLDER)
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


def case(**axes) -> dict:
    base = {"subject": "statistics", "form": "matrix", "format": "int8", "steps": 0, "ridge": 0.0, "p": 2}
    return {**base, "condition": 1e4, "n": 8, "seed": 0, **axes}


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = (cases(STUDY, Options(quick=q)) for q in (True, False))
    assert len({case.id for case in full}) == len(full) > len(quick)
    for name in ("subject", "form", "format", "ridge", "p", "condition", "seed"):
        small, large = ({case.parameters[name] for case in found} for found in (quick, full))
        assert small <= large, name


def test_the_grid_needs_no_jax():
    source = "".join((FOLDER / f"{name}.py").read_text() for name in ("study", "cases", "claims", "figures"))
    assert not re.search(r"^(import|from) (jax|numpy)", source, re.MULTILINE)


def test_floats_are_scaled_to_the_top_of_their_range():
    forms = module("forms")
    x = np.outer([2.0**-60, 1.0, 2.0**60], [1.0, 0.7, -0.003]).astype(np.float32)
    for name in ("float16", "e4m3fn"):
        back = np.asarray(jax.jit(jax.vmap(forms.store_of(name)))(x), np.float64)
        # all three stay normal numbers: -0.003 lies 9 binades below the largest
        assert np.all(abs(back - x) <= formats.named(name).unit_roundoff * abs(x)), name


def test_errors_of_stored_statistics_are_those_of_the_matrix_that_came_back():
    """What is lost is what the error of storage does to first order, and eigenvectors lose it at no condition."""
    forms = module("forms")
    some = [
        case(format="int16", form="diagonal apart", condition=kappa, seed=s) for kappa in (1e1, 1e3) for s in (0, 1)
    ]
    for row, figures in zip(some, forms.measure_all(some), strict=True):
        # off the diagonal half a step of 32767 a column, so n / (2 * 32767) in norm; to p = 2 this counts kappa / p
        moved = row["n"] * 2.0**-16 * 1.01
        assert 0 < figures["error"] <= row["condition"] / 2 * moved * math.sqrt(row["n"])
        assert not figures["indefinite"]
        assert figures["repaired_error"] == figures["error"]
    vectors = [case(format="int16", form="eigenvectors, 4 steps", condition=kappa) for kappa in (1e1, 1e3, 1e6, 1e8)]
    for figures in forms.measure_all(vectors):
        # V moves by n / (2 * 32767), the root V d V^T by twice that of |d|_2, which the Frobenius norm exceeds
        assert 0 < figures["error"] <= 2 * 8 * 2.0**-16 * math.sqrt(8)


def test_what_is_kept_apart_and_what_is_corrected_errs_less():
    forms = module("forms")
    for worse, better in (("matrix", "diagonal apart"), ("eigenvectors", "eigenvectors, 4 steps")):
        errors = [
            np.mean([
                x["error"]
                for x in forms.measure_all([case(form=form, format="int16", condition=1e2, seed=s) for s in range(20)])
            ])
            for form in (worse, better)
        ]
        assert errors[1] < errors[0], errors


def test_eight_bits_lose_the_matrix_and_not_its_factors():
    forms = module("forms")
    for form, lost in (("matrix", True), ("eigenvectors", False), ("Cholesky", False)):
        for figures in forms.measure_all([case(form=form, condition=1e6, seed=s) for s in range(2)]):
            assert figures["indefinite"] is lost
            assert np.isinf(figures["error"]) == lost
            assert np.isfinite(figures["repaired_error"])
            assert (figures["smallest"] < 0) == lost


def test_the_ridge_belongs_to_both_roots():
    forms = module("forms")
    A = gallery.spd(8, condition=1e4)
    exact = forms.figures(case(ridge=0.01), A, A, A)
    assert exact["error"] < 1e-10  # kappa u of float64 with the ridge, n times over
    assert exact["update"] < 1e-10
    root = forms.power(*np.linalg.eigh(A), -0.5)
    stored = forms.figures(case(subject="root"), A, 1.25 * root, root)
    assert abs(stored["error"] - 0.25) < 1e-12
    assert abs(stored["update"] - 0.25) < 1e-12
    # an error that is all in the direction of the largest eigenvalue counts sqrt(kappa) more in the update
    w, V = np.linalg.eigh(A)
    figures = forms.figures(case(subject="root"), A, root + 0.1 * np.outer(V[:, -1], V[:, -1]), root)
    size = np.linalg.norm(w**-0.5)
    assert abs(figures["error"] / (0.1 / size) - 1) < 1e-10
    assert abs(figures["update"] / (0.1 / math.sqrt(8)) - 1) < 1e-10


@pytest.mark.slow
def test_a_stream_stores_its_own_state(monkeypatch):
    """Without loss what is kept is the moving average; with it the errors of its steps add up."""
    forms = module("forms")
    (one,) = forms.measure_all([case(form="Cholesky", condition=1e2)])
    (many,) = forms.measure_all([case(form="Cholesky", steps=30, condition=1e2)])
    # independent errors that fade by 0.95 a step add up to sqrt((1 - 0.95^60) / (1 - 0.95^2)) = 3.1 times one
    assert many["error"] > 1.5 * one["error"]
    monkeypatch.setattr(forms, "store_of", lambda format: lambda x: x)
    (figures,) = forms.measure_all([case(form="Cholesky, feedback", format="exact", steps=3, condition=1e2)])
    assert figures["error"] < 1e-11  # 3 steps of n kappa u


@cache
def quick_parameters():
    return [case.parameters for case in cases(STUDY, Options(quick=True))]


def planted(**values):
    """Rows of a study in which every figure is what it is asked to be."""
    rows = [dict(parameters) for parameters in quick_parameters()]
    for row in rows:
        for name, usual in (("error", 0.001), ("update", 0.001), ("indefinite", False)):
            value = values.get(name, usual)
            row[name] = value(row) if callable(value) else value
        row |= {"repaired_error": row["error"], "repaired_update": row["update"], "smallest": 1e-3}
    return rows


def by_form(form, value, other):
    return lambda row: value if row["form"] == form else other


MATRIX = {"indefinite": lambda row: row["form"] in ("matrix", "diagonal apart")}


@pytest.mark.parametrize(
    ("name", "holding", "failing"),
    [
        ("R11", MATRIX, {}),
        ("R11", MATRIX, MATRIX | {"error": by_form("eigenvectors", 0.021, 0.001)}),
        ("R11-bjorck", {"error": by_form("eigenvectors", 0.0021, 0.001)}, {}),
        ("R11-one-step", {}, {"error": by_form("eigenvectors, 1 step", 0.00111, 0.001)}),
        ("R11-stream", {}, {"error": lambda row: 0.03 if row["steps"] and row["condition"] == 1e6 else 0.001}),
        ("R11-definite", MATRIX, {"indefinite": lambda row: row["form"] == "Cholesky" and row["seed"] == 0}),
        ("R12", {}, {"error": lambda row: 0.02 if row["condition"] == 1e5 else 0.001}),
        ("R25", {"update": 0.0029}, {"update": by_form("matrix", 0.0031, 0.001)}),
        (
            "R25-rank",
            {"error": by_form("Cholesky", 0.0005, 0.001), "update": by_form("Cholesky", 0.0005, 0.001)},
            {"error": by_form("Cholesky", 0.0005, 0.001), "update": by_form("matrix", 0.0005, 0.001)},
        ),
        ("EF", {"error": by_form("Cholesky, feedback", 0.0005, 0.001)}, {"error": by_form("Cholesky", 0.0005, 0.001)}),
    ],
)
def test_claims_by_planted_rows(name, holding, failing):
    (judge,) = (claim.judge for claim in STUDY.claims if claim.name == name)
    for figures, status in ((holding, Status.CONFIRMED), (failing, Status.REFUTED)):
        judgement = judge(planted(**figures))
        assert judgement.status is status, judgement.figure


def test_figures_are_drawn_from_their_tables():
    rows = planted(**MATRIX)
    assert "0.001" in STUDY.answer(rows)
    for figure in STUDY.figures:
        table = figure.table(rows)
        canvas = matplotlib.figure.Figure(layout="constrained")
        figure.draw(canvas, table)
        assert canvas.axes
        assert len({tuple(row) for row in table}) == 1
