"""The study of inverses carried by updates of rank one: its grid, its laws, what is measured, and its judges."""

import math
import re
import sys
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from precond_lab.preconditioners.rank_one.factored import UD
from precond_lab.report.figures import draw
from precond_lab.study import Options, Status, cases, judge_claims, load

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "sherman_morrison_drift")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or import_module(f"{PACKAGE}.{name}")


def measured(found: list[dict]) -> list[dict]:
    return list(STUDY.measure_batch(found, None))


# The grid


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = (cases(STUDY, Options(quick=q)) for q in (True, False))
    assert len({case.id for case in full}) == len(full) > len(quick)
    for name in ("part", "form", "format", "arithmetic", "stream", "cure", "kind", "seed", "beta"):
        small, large = ({case.parameters.get(name) for case in found} for found in (quick, full))
        assert small <= large, name
    assert {case.parameters["part"] for case in quick} == {part.value for part in module("cases").Part}


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "sherman_morrison_drift"
    light = ("study", "cases", "rows", "claims", "laws", "breakdowns", "certificates", "figures")
    light += ("law_figures", "map_figures", "bound_figures")
    source = "".join((folder / f"{name}.py").read_text() for name in light)
    assert not re.search(r"^(import|from) (jax|numpy|matplotlib)", source, re.MULTILINE)


# The laws


def test_wind_up_is_that_of_the_recursion():
    for beta, blend in ((0.95, 0.0), (0.95, 2.0**-5), (0.5, 0.25)):
        x, step = 1.0, 0
        while x <= 65504:
            x, step = (1 - blend) * x / beta + blend, step + 1
        assert module("cases").windup_law(beta, "float16", blend) == step
    assert module("cases").windup_law(0.95, "float16", 2.0**-4) is None


def test_a_frozen_sum_takes_the_mean_of_rounded_steps():
    c = module("cases")
    squares = np.random.default_rng(0).standard_normal(10**6) ** 2
    for y in (0.05, 0.7, 4.0):
        step = 2 * y * np.round(squares / (2 * y))
        assert abs(c._mean_rounded(y) - step.mean()) <= 5 * step.std() / 1e3  # five standard errors
    assert c.stagnation_law(100, "float64") < 1e-14
    assert c.stagnation_law(20000, "bfloat16") > 4
    assert c.loss_law(0.5, "float16") == 11


# Definiteness


def test_definiteness_is_decided():
    d = module("definiteness")
    B = np.random.default_rng(1).integers(-3, 4, (5, 3)).astype(float)
    singular = B @ B.T
    below, above = singular.copy(), singular.copy()
    for k in range(5):
        below[k, k], above[k, k] = np.nextafter(singular[k, k], -9), np.nextafter(singular[k, k], 999)
    bad = np.where(np.eye(5) > 0, np.nan, 0.0)
    found = d.signs(np.array([[singular, below, above, np.eye(5) * 2.0**-60, -np.eye(5), bad, singular - np.eye(5)]]))
    assert found.tolist() == [[d.UNKNOWN] * 3 + [d.DEFINITE, d.INDEFINITE, d.NOT_FINITE, d.INDEFINITE]]
    exact = [[[Fraction(x) for x in row] for row in P] for P in (singular, below, above)]
    assert [d.decided(rows) for rows in exact] == ["singular", "indefinite", "definite"]


def test_states_are_inverted_exactly():
    d = module("definiteness")
    U, D = np.triu(np.random.default_rng(2).standard_normal((4, 4)), 1), np.array([1.0, 2.0**-30, 0.0, 3.0])
    U = U.astype(np.float32).astype(float)
    rows = d.exactly("bierman_ud", UD(U, D))
    W = [[Fraction(x) for x in row] for row in U + np.eye(4)]
    product = [[sum(W[i][k] * Fraction(D[k]) * W[j][k] for k in range(4)) for j in range(4)] for i in range(4)]
    assert rows == product
    states = UD(U[None], D[None])
    ended = d.outcome(np.array([d.UNKNOWN]), "bierman_ud", states)
    assert ended == (0, "singular", 0, 0)
    assert d.outcome(np.array([d.DEFINITE]), "bierman_ud", states) == (None, "definite", 0, 0)


# Streams and their truth


def test_sums_are_those_of_the_recursion():
    s = module("streams")
    C, V = s.stream("rotated", 3, 12, 10.0, 0)
    slow = C
    for v in V:
        slow = 0.75 * slow + 0.25 * np.outer(v, v)
    fast = s.accumulated(C, V, 0.75, 0.25, 4)
    assert fast.shape == (3, 3, 3)
    assert abs(fast[-1] - slow).max() <= 30 * 2.0**-53 * abs(slow).max()  # 12 steps of at most two roundings, and a sum
    pairs = s.accumulated(C, V.reshape(6, 2, 3), 0.75, 0.25, 6)[0]
    slow = C
    for a, b in V.reshape(6, 2, 3):
        slow = 0.75 * slow + 0.25 * (np.outer(a, a) + np.outer(b, b))
    assert abs(pairs - slow).max() <= 30 * 2.0**-53 * abs(slow).max()
    assert s.stream("from one", 3, 12, 10.0, 0).C.tolist() == np.eye(3).tolist()
    truth = s.truth_of(fast)
    norm, against = s.errors(truth.P * 1.5, truth)
    assert norm == pytest.approx(0.5)
    assert against == pytest.approx(0.5)
    assert s.errors(np.full((3, 3, 3), np.nan), truth)[0].tolist() == [np.inf] * 3


# What is measured: a small case of each part


def test_asymmetry_kills_the_gain_form():
    law = module("cases").loss_law(0.75, "float16")
    axes = {"part": "asymmetry", "n": 4, "steps": 80, "every": 1, "format": "float16", "arithmetic": "computed"}
    (gain,) = measured([{**axes, "form": "gain", "start": "symmetric", "beta": 0.75, "seed": 0}])
    assert gain["law"] == law
    assert abs(gain["first_loss"] / law - 1) < 0.5
    assert gain["growth"] == pytest.approx(4 / 3, rel=0.03)
    curve = [
        {**axes, "part": "tilt", "form": "gain", "start": "symmetric", "beta": 0.75, "seed": 0, "step": k}
        for k in (4, 16)
    ]
    early, late = (row["asymmetry"] for row in measured(curve))
    assert late > 4 * early > 0


@pytest.mark.slow
def test_a_mirrored_triangle_has_no_antisymmetric_part():
    axes = {"part": "asymmetry", "n": 4, "steps": 80, "every": 1, "format": "float16", "arithmetic": "computed"}
    (same,) = measured([{**axes, "form": "symmetric", "start": "asymmetric", "beta": 0.75, "seed": 0}])
    assert (same["first_loss"], same["largest_asymmetry"], same["growth"]) == (None, 0.0, None)


def test_a_decay_that_is_rounded_is_the_one_of_the_law():
    held = module("asymmetry").held
    assert held(0.99, "bfloat16", "all") == 0.98828125
    assert held(0.99, "bfloat16", "computed") == float(np.float32(0.99))


def test_what_is_remembered():
    found = measured([
        {"part": "perturbation", "form": "symmetric", "n": 4, "steps": 20, "beta": beta, "seed": 0}
        for beta in (0.9, 1.0)
    ])
    assert all(row["deviation"] < 1e-10 for row in found)
    axes = {"part": "stagnation", "form": "symmetric", "arithmetic": "stored", "format": "bfloat16", "n": 4}
    found = measured([{**axes, "steps": 2000, "step": step, "seed": 0} for step in (100, 2000)])
    assert 6 * found[0]["error"] < found[1]["error"] < 1
    assert found[1]["law"] == module("cases").stagnation_law(2000, "bfloat16")


@pytest.mark.parametrize(("cure", "overflows"), [("none", True), ("blending", False)])
def test_what_is_left_alone_winds_up(cure, overflows):
    axes = {"part": "windup", "form": "symmetric", "format": "float16", "arithmetic": "stored", "n": 4, "cure": cure}
    (row,) = measured([{**axes, "steps": 240, "beta": 0.95, "stream": "graded", "seed": 0}])
    assert (row["overflow"] == row["law"] == 217) if overflows else (row["overflow"] is row["first_loss"] is None)


def test_what_survives():
    axes = {"part": "survival", "n": 8, "steps": 24, "beta": 0.9375, "stream": "rotated", "arithmetic": "stored"}
    both = [{**axes, "form": "symmetric", "format": "bfloat16", "condition": c, "seed": 0} for c in (4.0, 2.0**20)]
    kept, gone = measured(both)
    assert (kept["first_loss"], kept["outcome"], kept["negative"], kept["unknown"]) == (None, "definite", 0, 0)
    assert kept["error"] < 0.1
    assert gone["error_update"] > 1
    assert gone["outcome"] == "indefinite"
    assert 1 <= gone["first_loss"] <= 24
    assert gone["negative"] >= 1
    assert gone["largest_condition"] > 2.0**18


@pytest.mark.slow
def test_every_form_is_measured():
    axes = {"part": "survival", "n": 8, "steps": 24, "beta": 0.9375, "stream": "rotated", "arithmetic": "stored"}
    for form in module("cases").FORMS:
        (row,) = measured([{**axes, "form": form, "format": "bfloat16", "condition": 4.0, "seed": 0}])
        assert row["first_loss"] is None, form
        assert row["error"] < 0.3, form
    factor = {**axes, "form": "bierman_ud", "format": "int8", "condition": 2.0**24, "seed": 0}
    (zero,) = measured([factor])
    assert (zero["outcome"], zero["negative"]) == ("singular", 0)


@pytest.mark.parametrize("format", ["bfloat16", "float8_e4m3fn"])
def test_certificates_are_kept(format):
    axes = {"part": "rounding", "format": format, "n": 2, "count": 200, "seed": 7}
    for kind in ("rotated", "adversarial"):
        (row,) = measured([{**axes, "kind": kind}])
        assert 0 < row["certified"] < row["matrices"] <= 200
        assert row["lost"] > 0
        assert row["lost_certified"] == row["lost_by_order"] == 0
        assert row["largest_margin_lost"] < 1


def test_bounds_of_the_order_hold_and_grow():
    axes = {"part": "sandwich", "n": 3, "steps": 200, "beta": 0.9, "seed": 0}
    outward, random = (measured([{**axes, "kind": kind, "eta": 0.2}])[0] for kind in ("outward", "random"))
    assert max(outward["exceeded"], random["exceeded"]) < 1e-12
    assert outward["inflation"] > (0.9 / 0.8) ** 200 / 2
    assert random["inflation"] < 10


def test_an_update_is_within_its_bound():
    (row,) = measured([{"part": "forward", "format": "float16", "n": 4, "count": 50, "condition": 10.0, "seed": 3}])
    assert (row["updates"], row["violations"]) == (50, 0)
    assert 0.01 < row["tightness"] < row["largest"] <= 1


@pytest.mark.slow
def test_refinement_helps():
    found = measured([
        {"part": "refinement", "format": "float32", "n": 6, "condition": c, "seed": 0} for c in (1e1, 1e5)
    ])
    assert found[1]["backward_0"] > 1e3 * found[1]["backward_3"]
    assert max(row["backward_3"] for row in found) < 10 * 2.0**-24


# The judges, on planted rows


def planted(row: dict) -> dict:
    """Figures that confirm every claim."""
    c = module("cases")
    part, u = row["part"], c.ROUNDOFF.get(row.get("format"))
    if part == "asymmetry":
        law, naive = c.loss_law(row["beta"], row["format"]), row["form"] in c.NAIVE
        some = {"first_loss": round(law), "growth": 1 / row["beta"], "largest_asymmetry": 0.1}
        other = {"first_loss": None, "growth": None, "largest_asymmetry": u}
        return {"law": law, "outcome": "planted", "last_asymmetry": u} | (some if naive else other)
    if part == "windup":
        law = c.windup_law(row["beta"], "float16", c.BLENDS.get(row["cure"], 0.0))
        loss = c.loss_law(row["beta"], "float16")
        bare = row["cure"] == "none"
        first = round(loss) if row["stream"] == "rotated" else law
        figures = {"overflow": law if bare else None, "first_loss": first if bare else None}
        return figures | {"law": law, "loss_law": loss, "largest_entry": 9.0}
    if part in {"survival", "thresholds"}:
        return survived(row, u)
    if part == "stagnation":
        law = c.stagnation_law(row["step"], row["format"])
        error = law if (row["form"], row["arithmetic"]) == ("symmetric", "stored") else 0.05
        return {"error": error, "error_update": error, "definite": True, "law": law}
    if part == "sandwich":
        room = 1 - row["beta"] - row["eta"]
        law = 1 + row["eta"] / room if room > 0 else (row["beta"] / (1 - row["eta"])) ** row["steps"]
        return {"exceeded": 0.0, "inflation": law, "growth": 1.0}
    if part == "refinement":
        return {"backward_0": row["condition"] * u / 10, "backward_1": u, "backward_2": u, "backward_3": u}
    return {
        "tilt": {"asymmetry": 0.01},
        "perturbation": {"deviation": 1e-12},
        "eight bits": run(50 if row.get("form") == "symmetric" else None, 0.03),
        "overflow": run(None, 3.0 if (row.get("form"), row.get("arithmetic")) == ("potter, one root", "all") else 0.03),
        "rounding": {
            "matrices": 9, "certified": 5, "certified_by_order": 4, "lost": 2,
            "lost_certified": 0, "lost_by_order": 0, "largest_margin_lost": 0.5,
        },
        "forward": {"updates": 9, "violations": 0, "tightness": 0.1, "largest": 0.9},
    }[part]  # fmt: skip


def run(first_loss: int | None, error: float, condition: float = 1.0) -> dict:
    kind = "definite" if first_loss is None else "indefinite"
    figures = {"first_loss": first_loss, "outcome": kind, "negative": int(first_loss is not None), "unknown": 0}
    return figures | {"error": error, "error_update": error, "largest_condition": condition}


EDGES = {"refreshed 10": 4.0, "refreshed 50": 4.0, "master_copy": 12.0}
FACTOR_ERRORS = {"bierman_ud": 0.01, "potter": 0.02, "ldl": 0.03, "information_cholesky": 0.04}


def survived(row: dict, u: float) -> dict:
    condition, form = row["condition"], row["form"]
    if form in FACTOR_ERRORS or row["stream"] == "graded":
        return run(None, FACTOR_ERRORS.get(form, 0.02), condition)
    loses = condition * u > 1.4 * EDGES.get(form, 1.0)
    error = u if form == "master_copy" else 0.05 if form.startswith("refreshed") else 5.0 if loses else 0.02
    return run(5 if loses else None, error, condition)


@pytest.fixture(scope="module")
def good() -> list[dict]:
    """Rows of the quick grid that confirm every claim."""
    return [dict(case.parameters) | planted(case.parameters) for case in cases(STUDY, Options(quick=True))]


@pytest.fixture
def rows(good) -> list[dict]:
    """The same, to be changed."""
    return [dict(row) for row in good]


LOST = {"first_loss": 5, "outcome": "indefinite", "negative": 1}
BREAKS = {
    "E7": ({"part": "asymmetry", "form": "outer", "arithmetic": "computed", "beta": 0.9}, {"first_loss": None}),
    "E7-growth": ({"part": "asymmetry", "form": "gain", "format": "float16", "beta": 0.99}, {"growth": 1.0095}),
    "E7-decay": ({"part": "asymmetry", "arithmetic": "all", "format": "bfloat16", "beta": 0.9}, {"first_loss": 70}),
    "E7-symmetric": ({"part": "asymmetry", "form": "symmetric", "format": "float32", "seed": 0}, {"first_loss": 9000}),
    "E7-both": ({"part": "asymmetry", "form": "both_sided", "format": "float16"}, {"largest_asymmetry": 0.01}),
    "E8": ({"part": "perturbation", "beta": 1.0}, {"deviation": 1e-7}),
    "E9": ({"part": "thresholds", "form": "symmetric", "arithmetic": "stored", "n": 8}, {"first_loss": 3}),
    "E9-order": ({"part": "thresholds", "form": "symmetric", "n": 8, "format": "float16"}, {"largest_condition": 9e3}),
    "E9-memory": ({"part": "thresholds", "form": "symmetric", "beta": 1 - 2.0**-8}, {"first_loss": 3}),
    "E9-graded": ({"part": "survival", "form": "symmetric", "stream": "graded", "format": "bfloat16", "seed": 1}, LOST),
    "E9-arrays": ({"part": "thresholds", "arithmetic": "computed", "format": "float16"}, {"first_loss": None}),
    "E10": ({"part": "rounding", "kind": "graded", "format": "float16"}, {"lost_by_order": 1}),
    "E10-underflow": ({"part": "rounding", "kind": "underflow", "format": "float16"}, {"lost_by_order": 1}),
    "E10-certificate": ({"part": "rounding", "kind": "underflow", "n": 2}, {"lost_certified": 1}),
    "E11": ({"part": "sandwich", "kind": "random", "eta": 0.03}, {"exceeded": 1e-6}),
    "E11-bounded": ({"part": "sandwich", "kind": "outward", "eta": 0.045}, {"inflation": 30.0}),
    "E11-random": ({"part": "sandwich", "kind": "random", "eta": 0.2}, {"inflation": 2.0}),
    "E12": ({"part": "thresholds", "form": "joseph", "format": "float16"}, {"first_loss": None}),
    "E13": ({"part": "survival", "form": "potter", "format": "int8", "seed": 0}, {"negative": 1}),
    "E13-definite": ({"part": "survival", "form": "ldl", "seed": 0}, {"first_loss": 3, "outcome": "singular"}),
    "E13-ud": ({"part": "survival", "form": "potter", "format": "bfloat16", "condition": 64.0}, {"error": 0.001}),
    "E13-best": ({"part": "survival", "form": "ldl", "format": "float16", "condition": 64.0}, {"error": 0.001}),
    "E14": ({"part": "overflow", "form": "potter, one root", "arithmetic": "all"}, {"error": 0.04}),
    "E15": ({"part": "eight bits", "form": "scaled", "seed": 2, "condition": 2e4}, LOST),
    "E20": ({"part": "windup", "cure": "none", "stream": "graded", "beta": 0.95}, {"overflow": 230}),
    "E20-rotated": ({"part": "windup", "cure": "none", "stream": "rotated", "beta": 0.95}, {"overflow": 230}),
    "E20-definite": ({"part": "windup", "cure": "none", "stream": "rotated", "seed": 1}, {"first_loss": 900}),
    "E20-cures": ({"part": "windup", "cure": "damping", "beta": 0.99, "seed": 1}, {"first_loss": 9}),
    "E20-blend": ({"part": "windup", "cure": "weak blending", "stream": "graded"}, {"overflow": 520}),
    "E21": ({"part": "stagnation", "form": "symmetric", "format": "float32", "step": 20000}, {"error": 2e-5}),
    "E21-law": ({"part": "stagnation", "form": "symmetric", "format": "float16", "step": 500}, {"error": 0.05}),
    "E21-stochastic": ({"part": "stagnation", "arithmetic": "stochastic", "step": 20000}, {"error": 0.6}),
    "E22": ({"part": "forward", "condition": 1e3, "format": "float16"}, {"violations": 1}),
    "E22-tight": ({"part": "forward", "condition": 1e3, "format": "float16"}, {"tightness": 0.04}),
    "E23": ({"part": "refinement", "seed": 0, "condition": 10.0}, {"backward_1": 1e-6}),
    "E23-two": ({"part": "refinement", "seed": 1, "condition": 100.0}, {"backward_2": 1e-6}),
    "E23-plain": ({"part": "refinement"}, {"backward_0": 1e-6}),
    "E24": ({"part": "thresholds", "form": "refreshed 10"}, {"error": 0.2}),
    "E26": ({"part": "thresholds", "form": "master_copy", "condition": 2.0**9}, {"error": 0.01}),
    "E26-moderate": ({"part": "thresholds", "form": "master_copy", "condition": 2.0**9}, {"error": 0.01}),
    "E26-threshold": ({"part": "thresholds", "form": "master_copy", "condition": 2.0**9}, LOST),
    "E30": ({"part": "thresholds", "arithmetic": "stochastic"}, {"first_loss": None}),
}


def statuses(rows: list[dict]) -> dict[str, Status]:
    return {judged.claim.name: judged.judgement.status for judged in judge_claims(STUDY, rows)}


def test_judges_confirm_what_holds(rows):
    assert statuses(rows) == dict.fromkeys(BREAKS, Status.CONFIRMED)
    assert "the best of them, bierman_ud, is off by 0.01" in STUDY.answer(rows)


@pytest.mark.parametrize("claim", BREAKS)
def test_a_judge_refutes_what_does_not_hold(rows, claim):
    axes, figures = BREAKS[claim]
    touched = [row for row in rows if all(row.get(name) == value for name, value in axes.items())]
    assert touched
    for row in touched:
        row.update(figures)
    (judged,) = (j.judgement for j in judge_claims(STUDY, rows) if j.claim.name == claim)
    assert judged.status is Status.REFUTED, judged.figure


def test_a_judge_without_rows_leaves_its_claim_open(rows):
    found = statuses([row for row in rows if row["part"] not in {"windup", "refinement"}])
    names = {name for name, status in found.items() if status is Status.OPEN}
    assert names == {"E20", "E20-rotated", "E20-definite", "E20-cures", "E20-blend", "E23", "E23-two", "E23-plain"}


def test_a_threshold_lies_between_survivors_and_losses():
    threshold = module("rows").threshold
    axes = {"format": "bfloat16", "first_loss": None}
    some = [{**axes, "seed": 0, "condition": c, "largest_condition": c * 2} for c in (16.0, 64.0, 256.0)]
    assert threshold(some) == math.inf
    some[1]["first_loss"] = some[2]["first_loss"] = 4
    assert threshold(some) == pytest.approx((32 * 128) ** 0.5 / 256)


CHANGES = {"error": 0.3, "asymmetry": 0.2, "tightness": 0.5, "largest_condition": 700.0, "first_loss": 700}


def changed(rows: list[dict]) -> list[dict]:
    """Rows in which figures that are there have other values."""
    return [row | {name: x for name, x in CHANGES.items() if row.get(name) is not None} for row in rows]


@pytest.mark.parametrize("figure", STUDY.figures, ids=lambda figure: figure.name)
def test_a_figure_is_drawn_from_its_table(rows, figure):
    table = figure.table(rows)
    assert draw(figure, table, "test").problem is None
    assert figure.table(changed(rows)) != table


@pytest.mark.slow
@pytest.mark.parametrize("figure", STUDY.figures, ids=lambda figure: figure.name)
def test_a_figure_shows_its_table(rows, figure):
    first, second = (draw(figure, figure.table(some), "test") for some in (rows, changed(rows)))
    assert second.problem is None
    assert first.svg != second.svg


@pytest.mark.parametrize("eta", [0.01, 0.045, 0.055, 0.2])
def test_the_law_of_the_worst_errors_is_its_recursion(eta):
    beta, trace = 0.95, 1.0
    for _ in range(100):
        trace = (beta * trace + (1 - beta)) / (1 - eta)
    u, distance = 2.0**-53, abs(1 - beta / (1 - eta))  # the distance cancels; 100 steps, and a power of 100
    assert module("bound_figures").inflation_law(beta, eta, 100) == pytest.approx(trace, rel=(500 + 4 / distance) * u)
