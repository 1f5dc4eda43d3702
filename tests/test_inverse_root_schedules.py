"""The study of schedules: its grid, its measurements on small matrices, its law, and its judges."""

import re
import sys
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from precond_lab import gallery
from precond_lab.preconditioners.inverse_root.schedules import schedule_of
from precond_lab.study import Options, Status, cases, load

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "studies" / "inverse_root_schedules"
STUDY = load(FOLDER)
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
NAMES = ("study", "cases", "claims", "schedule_claims", "start_claims", "polar_claims", "law", "selection", "figures")


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = ({tuple(case.items()) for case in STUDY.grid(Options(quick=q))} for q in (True, False))
    assert quick < full
    assert len(cases(STUDY, Options(quick=True))) == len(quick)
    assert len(full) < 15000


def test_the_grid_needs_no_jax():
    source = "".join((FOLDER / f"{name}.py").read_text() for name in NAMES)
    assert not re.search(r"^(import|from) (jax|numpy|precond_lab.precond)", source, re.MULTILINE)


def schedule(switch, **changed):
    base: dict[str, Any] = {"part": "schedule", "method": "coupled_newton", "p": 2, "n": 8, "condition": 1e3}
    return base | {"early": "float32", "late": "bfloat16", "switch": switch} | changed


def test_precision_is_where_it_is_put():
    """All steps in float32 leave the storage of X, at most sqrt(n) u; none leave no digits that bfloat16 has not."""
    n, kappa, low, high = 8, 1e3, 2.0**-8, 2.0**-24
    none, late, every = module("roots").measure_all([schedule(switch) for switch in (0, 4, 24)])
    bound = np.sqrt(n) * (low + (kappa / 2 + 2 * every["taken"]) * high)
    assert low / 16 <= every["error"] <= every["most"] <= bound
    assert none["error"] > 4 * late["error"] > 8 * every["error"]
    assert every["failed"] == 0
    values = kappa ** -np.linspace(0, 1, n)
    start = 1.5 / kappa / float(np.linalg.norm(values))
    np.testing.assert_allclose(none["smallest"], start, rtol=1e-3)
    np.testing.assert_allclose(late["smallest"], start * 1.5**8, rtol=4 * 2.25**4 * start)
    np.testing.assert_allclose(every["smallest"], 1, rtol=1e-3)


@pytest.mark.parametrize("method", ["coupled_newton", "coupled_higher_order", "newton_schulz", "minimax_polynomial"])
@pytest.mark.parametrize("p", [2, 4])
def test_the_smallest_eigenvalue_grows_to_one(method, p):
    roots = module("roots")
    of = roots.problem(8, 1e3, "geometric", "float64")
    found = [roots.smallest_eigenvalue(schedule(s, method=method, p=p), of) for s in (0, 1, 2, 3, 20)]
    if method == "newton_schulz" and p == 4:
        assert found == [None] * 5
        return
    assert 1e-4 < found[0] <= (p + 1) / 2 * 1e-3
    assert all(2 * a < b for a, b in pairwise(found[:3]))
    np.testing.assert_allclose(found[-1], 1, rtol=1e-3)


def test_distances_are_those_of_the_root():
    roots = module("roots")
    of = roots.Problem(np.zeros((3, 2, 2)), np.array([[0.25, 1.0]] * 3), np.array([np.eye(2)] * 3))
    X = np.array([np.diag([2.0, 1.0]), np.diag([2.4, 0.7]), np.diag([np.nan, 1.0])])
    np.testing.assert_allclose(roots.distances(X, of, 2), [0, 0.2, np.inf], rtol=1e-12)


def test_batches_come_back_case_by_case():
    roots = module("roots")
    arguments = [(np.full(8, float(i)), np.arange(8)) for i in range(10)]
    asked = []

    def compute(x, y):
        asked.append(x.shape)
        return x + y

    found = roots.in_batches(compute, arguments)
    assert asked == [(64,)] * 2
    np.testing.assert_array_equal(found, np.arange(10)[:, None] + np.arange(8))


def quotient(start, spectrum, condition):
    axes = {"n": 16, "steps": 20, "condition": condition}
    return {"part": "quotient", "start": start, "spectrum": spectrum, **axes}


def test_what_is_orthogonal_stays_so_where_nothing_is_rounded():
    """In a diagonal matrix the quotient is at most the second eigenvalue; from a start with the share w along the top
    eigenvector, w^{1/41} of the largest."""
    measured = module("scalings").measure_quotients
    (hidden,) = measured([quotient("orthogonal_diagonal", "one_large", 1e4)])
    np.testing.assert_allclose(hidden["quotient"], 1e-4, rtol=1e-3)
    (found,) = measured([quotient("random", "one_large", 1e4)])
    assert 1e-6 ** (1 / 41) <= found["quotient"] <= 1 + 16 * 2.0**-24


# Singular values to the third power: b x + a x^3 in ten steps, with a margin of one percent taken out of the first nine
# (NVIDIA-NeMo/Emerging-Optimizers, scaled_cans_coupled_ns; arXiv 2506.10935).
PUBLISHED = [
    (5.182503604966906, -5.126830178299687),
    (2.586120737395915, -0.641538812403133),
    (2.567364126726186, -0.6391058222170474),
    (2.520560084348265, -0.6330225823828756),
    (2.410759275435182, -0.6186815444268036),
    (2.1883348130094173, -0.5893091162177136),
    (1.8595760874873613, -0.5449991062102938),
    (1.589020160467417, -0.5075811685214573),
    (1.5051653981684994, -0.4957799077972079),
]


def test_the_published_steps_are_minimax_cubics():
    plan = schedule_of("polar_express", 2, 1, module("scalings").PUBLISHED_LOWER, 1.0)
    found = [(sum(h.coefficients), -h.coefficients[1] / 1.01) for h in plan.first]
    np.testing.assert_allclose(found, PUBLISHED, rtol=1e-4)


@pytest.mark.slow
def test_only_M_needs_the_digits():
    axes = {"part": "chains", "p": 2, "n": 8, "condition": 1e3}
    measured = module("chains").measure_all
    (wide,), (narrow_X,), (narrow_M,) = (
        measured([{**axes, "X": X, "M": M}])
        for X, M in (("float32", "float32"), ("bfloat16", "float32"), ("float32", "bfloat16"))
    )
    n, steps = 8, wide["taken"]
    assert wide["most"] <= np.sqrt(n) * (1e3 / 2 + 2 * steps) * 2.0**-24
    # A rounding of X is followed by products with T that commute with X, so that it becomes no larger beside it.
    assert 2.0**-12 <= narrow_X["most"] <= np.sqrt(n) * 2 * steps * 2.0**-8
    assert narrow_M["error"] > 4 * narrow_X["error"]
    assert wide["last"] <= 2 * wide["error"]


@pytest.mark.slow
def test_a_restart_keeps_a_polar_factor_bounded():
    polar = module("polar")
    base = {"part": "gram", "format": "bfloat16", "steps": 8, "n": 8, "condition": 1e6}
    (free,), (restarted,) = (polar.measure_grams([{**base, "restart": restart}]) for restart in (0, 2))
    assert restarted["failed"] == 0
    assert restarted["excess"] < 0.1
    assert free["excess"] > restarted["excess"]
    values = polar.singular_values(np.array([np.diag([3.0, 0.5]), np.full((2, 2), np.nan)]))
    np.testing.assert_array_equal(values, [[3.0, 0.5], [np.inf, np.inf]])


def test_wide_matrices_have_the_condition_they_should():
    for G in module("polar").wide_matrices(8, 1e4):
        values = np.linalg.svd(G, compute_uv=False)
        np.testing.assert_allclose(values[[0, -1]], [1, 1e-2], rtol=1e-4)


# The law


@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("late", ["float32", "float16", "bfloat16"])
def test_the_predicted_switch_is_the_first_that_fulfills_the_law(p, late):
    law = module("law")
    for smallest in (0.3, 1e-2, 1e-6):
        for tolerance in (1e-1, 1e-3, 1e-6):
            k = law.predicted_switch([{"p": p, "late": late, "smallest": smallest}], tolerance)
            needed = [log2(1 / tolerance) + log2(1 / smallest) - i * p * log2(1 + 1 / p) for i in (k, k - 1)]
            assert needed[0] <= log2(1 / UNIT[late]) + 1e-9
            assert k == 0 or needed[1] > log2(1 / UNIT[late])


def test_the_measured_switch_is_the_last_failure_and_one():
    law = module("law")

    def curve(*errors):
        return [{"switch": i, "error": x} for i, x in enumerate(errors)]

    assert law.measured_switch(curve(1, 0.1, 0.5, 0.1, 0.1), 0.2) == 3
    assert law.measured_switch(curve(0.1, 0.1), 0.2) == 0
    assert law.measured_switch(curve(0.1, np.inf), 0.2) is None
    assert law.measured_switch(curve(0.1, np.nan), 0.2) is None


# The judges

GROWTH = {
    "coupled_newton": lambda p: (1 + 1 / p) ** p,
    "coupled_higher_order": lambda p: (1 + 1 / p + (1 + p) / (2 * p * p)) ** p,
    "newton_schulz": lambda p: 2.25,
    "minimax_polynomial": lambda p: 8.0,
}


def law_of(row, factor=0.99, growth=None):
    """The error by the law, times a factor."""
    start, g = 1 / row["condition"], growth or GROWTH[row["method"]](row["p"])
    early, late = UNIT[row["early"]], UNIT[row["late"]]
    return min(0.9, factor * max(early / start, late / min(1, start * g ** row["switch"])))


def of_schedule(row):
    smallest = min(1, GROWTH[row["method"]](row["p"]) ** row["switch"] / row["condition"])
    return {"error": law_of(row), "taken": 24, "smallest": smallest}


def of_chains(row):
    error = min(0.9, row["condition"] * UNIT[row["M"]] / 9 + 2 * UNIT[row["X"]])
    return {"error": error, "most": error, "last": error, "last_most": error, "taken": 20}


SCALED = {"frobenius": (22, 2e-5), "trace": (24, 3e-5), "guo_higham_known": (19, 2e-5)}


def of_scaling(row):
    steps, error = SCALED.get(row["scaling"], (20, 1e-5))
    return {"taken": steps, "error": error, "norm": 4.0}


DEFAULTS = {
    "schedule": of_schedule,
    "chains": of_chains,
    "scaling": of_scaling,
    "quotient": lambda row: {"quotient": 0.9},
    "accelerated": lambda row: {"error": 1e-6, "taken": 10},
    "gram": lambda row: {"excess": 0.1, "failed": 0, "indefinite": 0},
    "outliers": lambda row: {"worst": 0.5, "median": 1e-3, "failed": 0},
}


def planted(part="", **changed):
    """Rows of a study in which all is well, but for what is changed in a part: numbers, or functions of a row."""
    rows: list[dict[str, Any]] = [dict(case) for case in STUDY.grid(Options(quick=True))]
    for row in rows:
        found = dict(DEFAULTS[row["part"]](row))
        if row["part"] == part:
            found |= {name: value(row) if callable(value) else value for name, value in changed.items()}
        row.update(found)
    return rows


def diverging(row):
    return 8 * (row["format"] == "bfloat16" and not row["restart"] and row["steps"] >= 8 and row["condition"] > 1e4)


def low_first(row):
    return law_of(row) * (0.4 if UNIT[row["early"]] > UNIT[row["late"]] and row["switch"] == 1 else 1)


def outlying(row):
    return 100.0 if (row["format"], row["margin"]) == ("bfloat16", 1.02) else 0.5


def losing(count):
    return lambda row: count * (row["format"] == "bfloat16" and row["margin"] == 1.02)


def bad_method(method):
    """In all schedules but those of the wider format only."""
    most = {"coupled_newton": 24, "newton_schulz": 24, "minimax_polynomial": 12}[method]

    def error(row):
        return 0.9 if row["method"] == method and row["switch"] < most else law_of(row)

    return error


JUDGED = [
    ("R10", "schedule", {}, {"error": bad_method("coupled_newton")}),
    ("R10-others", "schedule", {}, {"error": bad_method("minimax_polynomial")}),
    ("R10-newton-schulz", "schedule", {}, {"error": bad_method("newton_schulz")}),
    ("R10-share", "schedule", {}, {"taken": 16}),
    ("R10-low-first", "schedule", {}, {"error": low_first}),
    ("R10-law", "schedule", {}, {"error": lambda row: law_of(row, 1.1)}),
    ("R10-law-sharp", "schedule", {}, {"error": lambda row: law_of(row, 0.1)}),
    ("R10-rate", "schedule", {}, {"error": lambda row: law_of(row, growth=1.6)}),
    ("R10-formats", "schedule", {}, {"error": lambda row: law_of(row, 0.05 if row["late"] == "float16" else 1)}),
    ("R23-early", "schedule", {}, {"error": lambda row: law_of(row, growth=GROWTH["coupled_newton"](row["p"]))}),
    ("R13", "scaling", {}, {"taken": 20}),
    ("R13-bound", "scaling", {}, {"norm": 1.2}),
    ("R13-accuracy", "scaling", {}, {"error": 1e-5}),
    ("R13-optimum", "scaling", {}, {"taken": lambda row: 19 + (row["scaling"] == "guo_higham_known")}),
    ("R13-optimum-accuracy", "scaling", {}, {"error": lambda row: 1e-5 * (1 + 2 * (row["scaling"] != "frobenius"))}),
    ("R13-quotient", "quotient", {}, {"quotient": lambda row: 0.4 if row["start"] == "orthogonal_diagonal" else 0.9}),
    ("R13-quotient-random", "quotient", {}, {"quotient": lambda row: 0.4 if row["start"] == "random" else 0.9}),
    ("R17", "accelerated", {}, {"error": lambda row: 1e-6 * (1 + 2 * (row["schedule"] == "published"))}),
    ("R17-tube", "accelerated", {}, {"error": lambda row: 1e-6 * (1 + 2 * (row["schedule"][:4] == "cheb"))}),
    ("R20", "chains", {"error": 1e-3}, {}),
    ("R20-X", "chains", {"error": lambda row: 1e-3 * (1 + 2 * (row["X"] != "float32"))}, {}),
    ("R20-M", "chains", {}, {"error": lambda row: UNIT[row["X"]] * 20 + UNIT[row["M"]]}),
    ("R20-drift", "chains", {"last": np.inf}, {}),
    ("R21", "gram", {"failed": diverging}, {"failed": lambda row: 8 * (row["condition"] > 1e4)}),
    ("R21", "gram", {"failed": diverging}, {"failed": 0}),
    ("R21-cause", "gram", {"failed": diverging, "indefinite": 8}, {"failed": diverging, "indefinite": 7}),
    ("R21-float16", "gram", {"failed": diverging}, {"failed": lambda row: 8 * (not row["restart"])}),
    ("R28", "outliers", {"worst": outlying}, {}),
    ("R28", "outliers", {"worst": outlying}, {"worst": np.inf}),
    ("R28-rare", "outliers", {"failed": losing(10)}, {"failed": losing(11)}),
    ("R28-margin", "outliers", {"failed": losing(5)}, {"failed": 1}),
]


@pytest.mark.parametrize(("name", "part", "holding", "failing"), JUDGED)
def test_claims_by_planted_rows(name, part, holding, failing):
    (judge,) = (claim.judge for claim in STUDY.claims if claim.name == name)
    for figures, status in ((holding, Status.CONFIRMED), (failing, Status.REFUTED)):
        judgement = judge(planted(part, **figures))
        assert judgement.status is status, judgement.figure
        assert judgement.figure.endswith(".")


def test_every_claim_is_judged_both_ways():
    assert {claim.name for claim in STUDY.claims} == {name for name, *_ in JUDGED}


def test_figures_are_drawn_from_their_tables():
    rows = planted("gram", excess=lambda row: np.inf if row["condition"] == 1e6 else 0.0)
    assert "with 13 steps in float32" in STUDY.answer(rows)
    for figure in STUDY.figures:
        table = figure.table(rows)
        canvas = matplotlib.figure.Figure(layout="constrained")
        figure.draw(canvas, table)
        assert canvas.axes
        assert len({tuple(row) for row in table}) == 1


def test_the_grid_is_of_known_spectra():
    for case in STUDY.grid(Options(quick=False)):
        assert case.get("spectrum", "geometric") in gallery.SPECTRA
