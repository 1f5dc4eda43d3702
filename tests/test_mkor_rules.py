"""The study of MKOR's two rules: its cases, its measurements at small sizes, and its judges."""

import itertools
import math
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from precond_lab.report.figures import draw
from precond_lab.study import Options, Status, cases, judge_claims, load

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "mkor_rules")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]
U64 = 2.0**-53
UNITS = {
    "bfloat16": 2.0**-8,
    "float16": 2.0**-11,
    "float32": 2.0**-24,
    "float64": U64,
    "float8_e4m3fn": 2.0**-4,
    "int8": 1 / 254,
}


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


# The grid


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = (cases(STUDY, Options(quick=q)) for q in (True, False))
    assert len({case.id for case in full}) == len(full) > len(quick)
    for part in module("cases").Part:
        small, large = ([c.parameters for c in found if c.parameters["part"] == part.value] for found in (quick, full))
        names = {frozenset(case) for case in (*small, *large)}
        assert len(names) == 1, part
        for name in next(iter(names)) - {"trials", "n", "steps", "t"}:
            assert {case[name] for case in small} <= {case[name] for case in large}, (part, name)
    last = {(c.parameters["t"], c.parameters["steps"]) for c in full if c.parameters["part"] == "track"}
    assert max(last) == (400, 400)


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "mkor_rules"
    source = "".join((folder / f"{name}.py").read_text() for name in ("study", "cases", "claims", "figures"))
    assert not re.search(r"^(import|from) (jax|numpy)", source, re.MULTILINE)


# What is measured


def test_the_lemma_is_about_the_printed_rule():
    """The worked example: J = [[2, 1/2], [1/2, 1]], j = (1, 2), gamma = 19/20, in which s is 8."""
    lemma = module("lemma")
    J, j = np.array([[2, 0.5], [0.5, 1]]), np.array([1.0, 2.0])
    goal = [[Fraction(187757, 83030), Fraction(257757, 332120)], [Fraction(257757, 332120), Fraction(598271, 498180)]]
    assert np.abs(lemma.step(J[None], j[None], 0.95)[0] - np.array(goal, float)).max() <= 20 * U64
    assert lemma.allowed(0.5, 2.0, 3, 0.1) == pytest.approx((0.5 + 8 * 8 * 9) * 0.1)
    x, _ = lemma.aligned(3, 1.5, 2.0**-8)
    assert x[0, 0] == 1 + 2.0**-8 * (1 - 2.0**-12)  # rounds to one: an error of just below u
    case = {"part": "lemma", "format": "bfloat16", "entry": 1.0, "trials": 50, "seed": 0}
    found = [STUDY.measure({**case, "kind": kind, "d": d}, None) for kind, d in (("aligned", 8), ("searched", 2))]
    for row in found:
        assert 0.01 < row["error_over_bound"] <= 1
        assert row["relative_error"] == pytest.approx(row["error_over_bound"] * row["relative_bound"])


def test_the_worst_of_a_search_is_known_beyond_float64():
    """d = 1, J = j = 1/10 in binary, both moved up by u: the printed rule in rationals."""
    x, u = 0.1, 2.0**-8
    one, up = np.full(1, x), np.ones(1)
    apart, allowance, larger, size = module("lemma").precisely(one[None], one, up[None], up, x * u)

    def rule(J: Fraction, j: Fraction) -> Fraction:
        gamma, alpha = Fraction(19, 20), Fraction(1, 20)
        return gamma * J + alpha / (gamma**2 * (1 + gamma * alpha * J * j * j)) * (J * j) ** 2

    X, epsilon = Fraction(x), Fraction(x * u)
    bound = (Fraction(19, 20) + 4 * Fraction(1, 20) / Fraction(19, 20) ** 2 * X**3) * epsilon
    exact = (rule(X + epsilon, X + epsilon) - rule(X, X)) / bound
    assert exact > 1  # the bound leaves out what is of second order
    assert abs(Fraction(str(apart / allowance)) - exact) < Fraction(1, 10**13)
    assert apart < larger  # with m = x (1 + u)
    assert float(size) == pytest.approx(float(rule(X, X)), rel=1e-15)


def test_streams_have_the_mean_square_length_that_they_say():
    for name in module("cases").STREAMS:
        V = module("streams").stream(name, 4000, 6, 0)
        assert np.mean(np.sum(V * V, axis=1)) == pytest.approx(6, rel=0.05)
    constant, noisy = (module("streams").stream(name, 4000, 6, 0) for name in ("constant", "noisy"))
    assert (constant == constant[0]).all()
    mean = noisy.mean(axis=0)
    noise = np.mean(np.sum((noisy - mean) ** 2, axis=1))
    assert noise / (mean @ mean) == pytest.approx(1 / 9, rel=0.05)


def test_no_energy_lies_on_the_end_of_a_claim():
    released = [c.parameters for c in cases(STUDY, Options(quick=True)) if c.parameters["part"] == "released"]
    for format in ("float16", "bfloat16"):
        mine = {2.0 ** c["log_energy"] * UNITS[format] for c in released if c["format"] == format}
        units = sorted(x for x in mine if 1.9 < x < 16.1)
        assert units[0] < 2.2
        assert units[-1] > 14
        assert max(y / x for x, y in itertools.pairwise(units)) == pytest.approx(2**0.25)
        assert not mine & {0.5, 8.0}


def test_one_step_follows_its_laws():
    case = {"part": "step", "gamma": 0.95, "n": 3, "seed": 0}
    found = STUDY.measure_batch([{**case, "log_gain": gain} for gain in (-1.0, 4.0)], None)
    for row, s in zip(found, (0.1, 1e4), strict=True):
        assert row["s"] == pytest.approx(s, rel=1e-12)
        assert row["printed_factor"] == pytest.approx(row["printed_law"], rel=1e-12)
        assert row["true_factor"] == pytest.approx(row["true_law"], rel=1e-10)
    assert found[1]["printed_law"] == pytest.approx(0.95 + 0.95**-3, rel=1e-2)
    assert found[1]["true_law"] == pytest.approx(1 / (0.95 + 0.05 * 1e4), rel=1e-12)


def test_a_track_is_compared_with_the_inverse_of_the_average():
    """Three steps of the released recursion and of the right one in NumPy."""
    size = {"n": 3, "steps": 4, "seed": 0}
    case = {"part": "track", "rule": "released", "stream": "noisy", **size}
    found = STUDY.measure_batch([{**case, "t": t} for t in (0, 3)], None)
    V = module("streams").stream("noisy", 4, 3, 0)
    J, C = np.eye(3), np.eye(3)
    for v in V[:3]:
        B = 0.95 * J + 0.05 * np.eye(3)
        J = B - np.outer(B @ v, v @ B) / (1 + v @ B @ v)
        C = 0.95 * C + 0.05 * np.outer(v, v)
    G = np.random.default_rng([0, 7]).standard_normal((3, 32)) + module("streams").stream("noisy", 1, 3, 0)[0][:, None]
    P, goal = J @ G, np.linalg.solve(C, G)
    cosines = np.sum(P * goal, axis=0) / np.linalg.norm(P, axis=0) / np.linalg.norm(goal, axis=0)
    assert found[0] == {"largest": 1.0, "cosine": pytest.approx(1), "condition": pytest.approx(1)}
    assert found[1]["largest"] == pytest.approx(np.abs(J).max(), rel=1e-12)
    assert found[1]["cosine"] == pytest.approx(np.median(cosines), rel=1e-9)
    assert found[1]["condition"] == pytest.approx(np.linalg.cond(J), rel=1e-9)


def test_the_stabilizer_is_bounded_below_its_threshold():
    case = {"part": "stabilizer", "gamma": 0.95, "stream": "constant", "start": 1000.0, "n": 2, "steps": 80, "seed": 0}
    below, above = STUDY.measure_batch([{**case, "weight_over_bound": w} for w in (0.8, 1.5)], None)
    assert below["zeta"] == pytest.approx(0.8 / (0.95 + 0.95**-3))
    assert below["bounded"]
    assert not above["bounded"]
    assert above["late"] > 1e3 * above["early"]


@pytest.mark.parametrize("stabilizer", ["released reset", "reset unless finite"])
def test_poison_is_put_in_and_looked_for(stabilizer):
    case = {"part": "poison", "stabilizer": stabilizer, "poison": "nan", "n": 2, "steps": 2, "seed": 0}
    found = STUDY.measure(case, None)
    assert found["caught"] is found["finite_at_the_end"] is (stabilizer == "reset unless finite")


def test_released_runs_are_the_recursion_with_a_rounded_state():
    """Stored in e4m3, with NumPy's steps in float64 beside it: an entry may go to another neighbor now and then."""
    import ml_dtypes  # noqa: PLC0415

    storage, size = module("storage"), {"n": 3, "steps": 20, "seed": 0}
    case = {"part": "released", "format": "float8_e4m3fn", "mode": "stored", "stream": "noisy", **size}
    found = STUDY.measure_batch([{**case, "log_energy": energy} for energy in (4.5, 12.0)], None)
    V, J, least = storage.vectors({**case, "log_energy": 4.5}), np.eye(3), []
    assert np.sum(V * V, axis=1) == pytest.approx(2**4.5 - 20)
    for v in V:
        B = 0.95 * J + 0.05 * np.eye(3)
        J = (
            (B - np.outer(B @ v, v @ B) / (1 + v @ B @ v))
            .astype(np.float32)
            .astype(ml_dtypes.float8_e4m3fn)
            .astype(float)
        )
        least.append(np.linalg.eigvalsh(J)[0])
    assert found[0]["least_eigenvalue"] == pytest.approx(min(least), abs=3 * 2**-4)
    assert not found[0]["lost"]
    assert found[0]["energy_in_u"] == 2**4.5 / 16
    assert found[1]["lost"]
    assert found[1]["least_over_law"] == found[1]["least_eigenvalue"] * 2**12 <= 0


def test_what_is_seen_of_planted_inverses():
    case = {"log_energy": 5.0, "format": "float16"}
    J = np.array([[[1.0, 0.0], [0.0, 0.5]], [[1.0, 0.25], [0.0, 0.25]]])
    found = module("storage").figures(case, J)
    assert not found["lost"]
    assert found["asymmetry"] == 0.25
    assert found["least_eigenvalue"] == pytest.approx(np.linalg.eigvalsh([[1, 0.125], [0.125, 0.25]])[0])
    assert found["energy_in_u"] == 32 / 2**11
    J[1, 1, 1] = 0.0
    assert module("storage").figures(case, J)["lost"]
    J[1, 1, 1] = np.nan
    found = module("storage").figures(case, J)
    assert found["lost"]
    assert math.isnan(found["least_eigenvalue"])


# The judges, on planted rows


def good(case: dict) -> dict:
    """Figures of a case that confirm every claim, but for those that cannot both hold."""
    match case["part"]:
        case "step":
            s, gamma = 10.0 ** case["log_gain"], case["gamma"]
            law = gamma + (1 - gamma) * s / (gamma**2 * (1 + gamma * (1 - gamma) * s))
            true = 1 / (gamma + (1 - gamma) * s)
            return {"s": s, "printed_factor": law, "printed_law": law, "true_factor": true, "true_law": true}
        case "track":
            return {"largest": 1.0, "cosine": 0.01 if "printed" in case["rule"] else 0.9, "condition": 2.0}
        case "stabilizer":
            bounded = case["weight_over_bound"] < 1
            zeta = case["weight_over_bound"] * 0.47
            return {"zeta": zeta, "early": 1.0, "late": 1.0 if bounded else 1e9, "bounded": bounded}
        case "released":
            energy = 2.0 ** case["log_energy"]
            units = energy * UNITS[case["format"]]
            eigenvalue = (-1.0 if units > 2 else 1.0) / energy
            figures = {"lost": units > 2, "least_eigenvalue": eigenvalue, "largest_eigenvalue": 1.0, "asymmetry": 0.0}
            return {**figures, "least_over_law": eigenvalue * energy, "energy_in_u": units}
        case "lemma":
            ratio = 1e-6 if case["d"] >= 1024 else 1.0
            figures = {"error_over_bound": ratio, "error_over_larger_bound": ratio}
            return {**figures, "relative_error": 1e-3, "relative_bound": 1e-3 / ratio}
        case _:
            passed = case["poison"] == "nan" and case["stabilizer"] != "reset unless finite"
            return {"caught": not passed, "finite_at_the_end": not passed}


@pytest.fixture(scope="module")
def planted() -> list[dict]:
    return [{**case.parameters, **good(case.parameters)} for case in cases(STUDY, Options(quick=True))]


@pytest.fixture
def rows(planted) -> list[dict]:
    """Rows of the quick grid that confirm every claim but that the printed rule is the inverse."""
    return [dict(row) for row in planted]


RELEASED = {"part": "released"}
BREAKS = {
    "E16": ({"part": "step", "gamma": 0.99, "log_gain": 2.0}, {"printed_factor": 1.0}),
    "E16-stabilizer": ({"part": "stabilizer", "start": 1000.0, "weight_over_bound": 1.02}, {"bounded": True}),
    "E16-stabilizer-identity": ({"part": "stabilizer", "start": 1.0, "weight_over_bound": 0.98}, {"bounded": False}),
    "E16-direction": ({"part": "track", "rule": "printed", "stream": "noisy"}, {"cosine": 0.5}),
    "E17-spectrum": ({**RELEASED, "format": "float64", "seed": 1}, {"least_over_law": 0.9}),
    "E17": ({**RELEASED, "format": "float16", "mode": "stored"}, {"lost": False}),
    "E17-every": ({**RELEASED, "format": "bfloat16", "log_energy": 16.125, "seed": 2}, {"lost": False}),
    "E18": ({"part": "lemma", "kind": "searched", "d": 2, "format": "float16"}, {"error_over_bound": 1 + 1e-12}),
    "E18-both": ({"part": "lemma", "kind": "aligned", "d": 64}, {"error_over_larger_bound": 1 + 1e-12}),
    "E18-first-order": ({"part": "lemma", "kind": "searched", "format": "float16"}, {"error_over_bound": 1.01}),
    "E18-vacuous": ({"part": "lemma", "kind": "aligned", "d": 1024, "entry": 10.0}, {"error_over_bound": 1e-3}),
    "E18-vacuous-small": ({"part": "lemma", "kind": "definite", "d": 1024, "entry": 0.1}, {"error_over_bound": 1e-3}),
    "E19": ({"part": "poison", "stabilizer": "released reset", "poison": "nan"}, {"caught": True}),
    "E19-infinity": ({"part": "poison", "stabilizer": "released reset", "poison": "infinity"}, {"caught": False}),
    "E19-finite": (
        {"part": "poison", "stabilizer": "reset unless finite", "poison": "nan"},
        {"finite_at_the_end": False},
    ),
}


def statuses(rows: list[dict]) -> dict[str, Status]:
    return {judged.claim.name: judged.judgement.status for judged in judge_claims(STUDY, rows)}


def touch(rows: list[dict], axes: dict, figures: dict) -> None:
    touched = [row for row in rows if all(row.get(name) == value for name, value in axes.items())]
    assert touched
    for row in touched:
        row.update(figures)


def test_judges_confirm_what_holds(rows):
    assert statuses(rows) == {**dict.fromkeys(BREAKS, Status.CONFIRMED), "E16-inverse": Status.REFUTED}
    assert "grows by 2.116 a step" in STUDY.answer(rows)
    assert "3138 in float16, 375 in bfloat16" in STUDY.answer(rows)


@pytest.mark.parametrize("claim", BREAKS)
def test_a_judge_refutes_what_does_not_hold(rows, claim):
    touch(rows, *BREAKS[claim])
    judge = next(one.judge for one in STUDY.claims if one.name == claim)
    assert judge(rows).status is Status.REFUTED


def test_a_rule_that_is_the_inverse_would_be_found_to_be_it(rows):
    for row in rows:
        if row["part"] == "step":
            row["printed_factor"] = row["true_factor"]
    assert statuses(rows)["E16-inverse"] is Status.CONFIRMED


def test_a_loss_that_comes_too_early_refutes_the_threshold(rows):
    touch(rows, {**RELEASED, "format": "bfloat16", "mode": "rounded", "log_energy": 4.625, "seed": 3}, {"lost": True})
    assert statuses(rows)["E17"] is Status.REFUTED


def test_a_judge_without_rows_leaves_its_claim_open(rows):
    found = statuses([row for row in rows if row["part"] != "lemma"])
    assert {name for name, status in found.items() if status is Status.OPEN} == {
        "E18",
        "E18-both",
        "E18-first-order",
        "E18-vacuous",
        "E18-vacuous-small",
    }


MOVED = {"printed_factor", "largest", "cosine", "late", "least_over_law", "error_over_bound"}


@pytest.mark.parametrize("figure", STUDY.figures, ids=lambda figure: figure.name)
def test_a_figure_is_drawn_from_its_table(rows, figure):
    table = figure.table(rows)
    assert draw(figure, table, "test").problem is None
    for row in rows:
        row.update({name: 0.5 * row[name] for name in MOVED & row.keys()})
    assert figure.table(rows) != table
