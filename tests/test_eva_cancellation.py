"""The study of Eva in low precision: its cases, its measurements at small sizes, and its judges."""

import math
import re
import sys
from fractions import Fraction
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from precond_lab import formats
from precond_lab.report.figures import draw
from precond_lab.study import Options, Status, cases, judge_claims, load
from precond_lab.training import Layer, autoencoder, idx

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "eva_cancellation")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]
U64 = 2.0**-53
UNITS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


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
        for name in next(iter(names)) - {"trials", "n", "images", "network", "few", "t"}:
            assert {case[name] for case in small} <= {case[name] for case in large}, (part, name)


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "eva_cancellation"
    source = "".join(
        (folder / f"{n}.py").read_text()
        for n in ("study", "cases", "settings", "rows", "claims", "error_claims", "training_claims", "figures")
    )
    assert not re.search(r"^(import|from) (jax|numpy)", source, re.MULTILINE)


def test_cases_know_the_images_and_not_their_folder(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        levels = np.random.default_rng(0).integers(0, 256, (40, 6, 6), np.uint8)
        (tmp_path / name / "train-images-idx3-ubyte").write_bytes(idx.encode(levels))
    first, second = ({c.id for c in cases(STUDY, Options(quick=True, data=str(tmp_path / name)))} for name in "ab")
    assert first == second
    settings = module("settings").settings_for(Options(quick=True, data=str(tmp_path / "a")))
    assert settings.images == 40
    assert settings.widths("classes") == (36, 64, 64, 10)
    assert settings.network("images") == "36-64-16-64-36"
    assert settings.recorded(5) == (1, 2, 3, 4, 5)
    assert (settings.recorded(300)[0], settings.recorded(300)[-1], len(settings.recorded(300))) == (1, 300, 20)


# What is measured


def test_rationals_on_the_worked_example():
    rationals = module("rationals")
    exact = lambda *x: np.array([Fraction(v) for v in x], object)  # noqa: E731
    a, b, gamma = exact(1, 2, -1), exact("1/2", -1), Fraction(1, 10)
    G = np.array([exact(1, -2, 3), exact(0, "1/2", -1)])
    goal = np.array([
        exact("505/38", "-255/19", "1015/38"),
        exact("-125/19", "-155/19", "-65/19"),
    ])
    assert (rationals.closed_form(G, a, b, gamma) == goal).all()
    assert (rationals.dense_solve(G, a, b, gamma) == goal).all()
    assert rationals.relative_difference(goal + Fraction(1015, 38) / 10**30, goal) == pytest.approx(1e-30)
    solved = STUDY.measure({"part": "solve", "m": 2, "n": 3, "trials": 2, "seed": 1}, None)
    assert solved["different"] == 0
    assert solved["program_difference"] < 1e-45
    descent = STUDY.measure({"part": "descent", "direction": "parallel", "trials": 20, "seed": 1}, None)
    assert (descent["violations"], descent["least_ratio"], descent["equalities"]) == (0, 1.0, descent["tested"])
    assert 15 < descent["tested"] <= 20  # of b a^T few are zero


def test_a_gradient_of_zero_is_not_counted_as_tested(monkeypatch):
    rationals = module("rationals")
    nothing = lambda rng, *shape: np.full(shape, Fraction(0), object)  # noqa: E731
    monkeypatch.setattr(rationals, "drawn", nothing)
    found = STUDY.measure({"part": "descent", "direction": "drawn", "trials": 3, "seed": 0}, None)
    assert (found["tested"], found["violations"]) == (0, 0)


def eva_in_bfloat16(G: np.ndarray, a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
    """The closed form by another's scalars, sums from the left."""
    bfloat16 = ml_dtypes.bfloat16
    G, a, b, gamma = (np.asarray(x).astype(bfloat16) for x in (G, a, b, gamma))

    def dot(x, y):
        total = x[0] * y[0]
        for p, q in zip(x[1:], y[1:], strict=True):
            total = total + p * q
        return total

    c = dot(b, [dot(row, a) for row in G]) / (gamma + dot(a, a) * dot(b, b))
    return ((G - (c * b)[:, None] * a[None, :]) / gamma).astype(float)


def test_a_case_is_the_closed_form_step_by_step():
    cancellation = module("cancellation")
    case = {"part": "cancellation", "program": "closed", "arithmetic": "rounded", "format": "bfloat16"}
    case |= {"shape": "3x4", "log_ratio": 2.0, "noise": 0.1, "seed": 0}
    given = cancellation.layer("bfloat16", "3x4", 2.0, 0.1, 0)
    found, P = STUDY.measure(case, None), eva_in_bfloat16(*given)
    goal = cancellation.exact(given)
    assert found["curved_error"] == abs(given.b @ P @ given.a / (given.b @ goal @ given.a) - 1)
    assert found["descent"] == np.sum(given.G * P) / np.sum(given.G * goal)
    assert found["ratio"] == pytest.approx(100, rel=2**-7)
    assert found["error_over_law"] == pytest.approx(found["curved_error"] / (2**-8 * (1 + found["ratio"])))


def test_the_exact_direction_solves_the_dense_system():
    cancellation = module("cancellation")
    given = cancellation.layer("float16", "3x4", 1.0, 1.0, 0)
    v = np.outer(given.b, given.a).ravel()
    goal = np.linalg.solve(np.outer(v, v) + given.gamma * np.eye(12), given.G.ravel()).reshape(3, 4)
    assert np.abs(cancellation.exact(given) - goal).max() <= 100 * 11 * U64 * np.abs(goal).max()  # condition number 11
    nothing = cancellation.Layer(given.G, 0 * given.a, given.b, 0.5)
    assert (cancellation.exact(nothing) == 2 * given.G).all()
    assert np.isnan(cancellation.figures(given, np.full((3, 4), np.nan), formats.named("float16"))["curved_error"])


def test_what_is_beside_the_curved_direction():
    a, b = np.array([3.0, 4.0]), np.array([0.0, 2.0])
    G = np.outer(b, a) + np.array([[0.0, 0.0], [4.0, -3.0]])  # lengths of 10 and of 5, orthogonal
    assert module("cancellation").beside(G, a, b) == pytest.approx(0.5)


def test_large_layers_are_kept_in_range_by_halving_b():
    cancellation = module("cancellation")
    plain, large = (cancellation.drawn("float16", shape, 0.0, 0) for shape in ("128x192", "256x384"))
    for (_, a, b), size in ((plain, 1.0), (large, 0.5)):
        assert np.sqrt(np.mean(b * b)) == pytest.approx(size, rel=0.15)
        assert np.sqrt(np.mean(a * a)) == pytest.approx(1, rel=0.15)
        assert (a @ a) * (b @ b) < 65504


def test_layers_out_of_range_have_the_sizes_that_they_say():
    layer = module("cancellation").range_layer
    small, large, wide = (layer("float16", side, 4, 0) for side in module("cases").SIDES)
    assert np.sqrt(np.mean(small.b**2)) == pytest.approx(1e-4, rel=0.01)
    assert large.a @ large.a == pytest.approx(1024 * 256, rel=0.01)
    assert (wide.a @ wide.a) * (wide.b @ wide.b) == pytest.approx(256 * 384, rel=0.01)
    for given in (small, large, wide):
        assert module("cancellation").figures(given, given.G, formats.named("float16"))["out_of_range"]
        assert (given.a @ given.a) * (given.b @ given.b) / given.gamma == pytest.approx(10, rel=0.01)


def test_an_average_is_the_recurrence_step_by_step():
    case = {"part": "average", "form": "convex, rounded", "format": "bfloat16", "old_weight": 0.5}
    found = STUDY.measure({**case, "change_in_units": 8.0, "n": 5, "seed": 0}, None)
    x = (1 + (np.arange(5) + 0.5) / 5).astype(ml_dtypes.bfloat16)
    begun, half = x.astype(float), ml_dtypes.bfloat16(0.5)
    y = (begun * (1 + 8 * 2**-8 / 0.5)).astype(ml_dtypes.bfloat16)
    for _ in range(16):
        x = half * x + half * y
    covered = (x.astype(float) - begun) / (y.astype(float) - begun)
    assert found["mean_covered"] == covered.mean()
    assert (found["least_covered"], found["most_covered"], found["moved"]) == (covered.min(), covered.max(), 5)
    assert found["change"] == 16 * 2**-8


def test_leaking_damping_is_a_geometric_sum():
    found = STUDY.measure({"part": "leak", "old_weight": 0.5, "n": 3, "batch": 4, "seed": 0}, None)
    assert found["extra_over_damping"] == pytest.approx(1 - 2 * 0.5**40, abs=1e-12)
    assert found["unevenness"] < 1e-12
    assert 0 < found["cosine"] < 1


def test_classes_are_tenths_of_the_half_circle():
    bars = np.zeros((3, 9, 9))
    bars[0, 4, :] = bars[1, :, 4] = bars[2, range(9), range(9)] = 1
    classes = module("networks").classes_of(np.float32(bars.reshape(3, 81))).argmax(axis=1)
    assert classes[0] == 5  # along the rows: an angle of zero, the middle of -90 to 90 degrees
    assert classes[1] in {0, 9}
    assert classes[2] == 7


def test_observed_vectors_are_the_gradients_of_the_network():
    """With each image twice, means over the first half of a batch are means over all of it."""
    networks = module("networks")
    rng = np.random.default_rng(0)
    images = np.tile(np.float32(rng.uniform(size=(2, 5))), (2, 1))
    shapes = ((5, 3), (3, 5))
    params = tuple(Layer(np.float32(rng.standard_normal(shape)), np.zeros(shape[1], np.float32)) for shape in shapes)

    @jax.jit
    def both(params, images):
        seen = networks.observe(networks.TASKS["images"], params, images, images, 2)
        return seen, jax.value_and_grad(autoencoder.loss)(params, images)

    (loss, seen), (value, gradients) = both(params, images)
    assert float(loss) == pytest.approx(float(value), rel=1e-6)
    for vectors, gradient in zip(seen, gradients, strict=True):
        size = np.abs(gradient.kernel).max() + np.abs(gradient.bias).max()
        assert np.abs(vectors.G[:, :-1] - gradient.kernel.T).max() <= 100 * 2**-24 * size  # sums of 20 terms or fewer
        assert np.abs(vectors.G[:, -1] - gradient.bias).max() <= 100 * 2**-24 * size
        assert np.abs(4 * vectors.b - gradient.bias).max() <= 100 * 2**-24 * size
        assert vectors.a[-1] == 1
    assert np.abs(seen[0].a[:-1] - images.mean(axis=0)).max() <= 2**-23


@pytest.mark.slow
def test_a_training_run_without_its_correction_is_plain():
    """Three steps with b as it is, at zero and by sample: the corrections, and the first loss is one and the same."""
    training, settings = module("training"), module("settings")
    small = settings.Settings("curves", None, 30, 784, (("classes", (4,)), ("images", (4,))), 3, (8,), 6, 3)
    case = {"part": "training", "task": "classes", "batch": 8, "seed": 0, "t": 1}
    found = {name: training.measure_training([{**case, "method": name}], small)[0] for name in module("cases").METHODS}
    coded, plain, scaled = found.values()
    assert plain["correction"] == plain["ratio"] == 0
    assert coded["loss"] == plain["loss"] == scaled["loss"]
    assert scaled["ratio"] == pytest.approx(64 * coded["ratio"], rel=1e-5)
    assert 0 < coded["correction"] < scaled["correction"] < 1
    assert coded["largest_correction"] >= coded["correction"]


@pytest.mark.slow
def test_an_interpolation_is_measured_from_its_first_step():
    settings = module("settings")
    small = settings.Settings("curves", None, 30, 784, (("classes", (4,)), ("images", (4,))), 3, (8,), 6, 5)
    rows = [{"few": 6, "layer": layer, "seed": 0, "t": t} for layer in (1, 2) for t in (1, 5)]
    found = module("training").measure_interpolation(rows, small)
    assert found[0]["sigma_over_first"] == found[2]["sigma_over_first"] == 1
    assert found[0]["loss"] == found[2]["loss"] > found[1]["loss"]
    assert found[1]["inputs_over_first"] == 1  # the images stay what they are
    assert all(row["bias_difference"] <= 6 * 2**-24 for row in found)


# The judges, on planted rows


def good(case: dict) -> dict:
    """Figures of a case that confirm every claim."""
    u = UNITS.get(case.get("format", ""), 0.0)
    match case["part"]:
        case "solve":
            return {"different": 0, "program_difference": 1e-50}
        case "descent":
            return {"tested": case["trials"], "violations": 0, "least_ratio": 1.0, "equalities": 1}
        case "cancellation":
            ratio, closed = 10.0 ** case["log_ratio"], case["program"] == "closed" and case["arithmetic"] != "inside"
            law = 0.5 if closed else 0.5 / (1 + ratio)
            known = {"rho": max(case["noise"], u), "out_of_range": False}
            descent = -1.0 if closed and ratio > 1 / u else 1.0
            error = {"curved_error": law * u * (1 + ratio), "error_over_law": law}
            return {"ratio": ratio, **known, **error, "descent": descent, "cosine": 1.0}
        case "range":
            lost = case["exponent"] >= 4 and case["arithmetic"] != "scalars"
            error = {"curved_error": 10.0 if lost else 1e-3, "error_over_law": 1e3 if lost else 0.1}
            known = {"ratio": 10.0, "rho": u, "out_of_range": case["exponent"] >= 4}
            return {**known, **error, "descent": 1.0, "cosine": 1.0}
        case "average":
            stalls = case["change_in_units"] < 1 and case["form"] not in {"wide", "compensated"}
            covered = 0.0 if stalls else 1.0
            change = case["change_in_units"] * u / (1 - case["old_weight"])
            figures = dict.fromkeys(("least_covered", "mean_covered", "most_covered"), covered)
            return {"change": change, "moved": 64, **figures}
        case "leak":
            law = case["old_weight"] / (1 - case["old_weight"])
            return {"extra_over_damping": law, "unevenness": 0.0, "cosine": 0.9}
        case "training":
            share = {"eva as coded": 1e-3, "G / gamma": 0.0, "eva, b by sample": 0.5}[case["method"]]
            return {"correction": share, "largest_correction": share, "ratio": share, "loss": 1.0 + 0.1 * case["seed"]}
        case _:
            figures = {"sigma": 1.0, "sigma_over_first": 1.0 if case["t"] == 1 else 1e-3, "inputs_over_first": 2.0}
            return {**figures, "bias_difference": 0.0, "loss": 0.01}


@pytest.fixture(scope="module")
def planted() -> list[dict]:
    return [{**case.parameters, **good(case.parameters)} for case in cases(STUDY, Options(quick=True))]


@pytest.fixture
def rows(planted) -> list[dict]:
    """Rows of the quick grid that confirm every claim."""
    return [dict(row) for row in planted]


CLOSED = {"part": "cancellation", "program": "closed"}
SPLIT = {"part": "cancellation", "program": "split"}
BREAKS = {
    "E1": ({"part": "solve", "m": 2}, {"different": 1}),
    "E2": ({"part": "descent", "direction": "aligned", "seed": 2}, {"violations": 1}),
    "E3": ({**CLOSED, "arithmetic": "scalars", "log_ratio": 3.0, "noise": 1.0}, {"error_over_law": math.nan}),
    "E3-rounded": ({**CLOSED, "arithmetic": "rounded", "shape": "256x384", "noise": 1.0}, {"error_over_law": 10.1}),
    "E3-sums": ({**CLOSED, "arithmetic": "rounded", "shape": "32x48", "noise": 1.0}, {"error_over_law": 80.1}),
    "E3-flips": ({**CLOSED, "arithmetic": "scalars", "format": "float16", "noise": 0.01}, {"descent": 0.5}),
    "E3-float32": ({**CLOSED, "arithmetic": "inside", "log_ratio": 4.0, "seed": 1}, {"descent": -0.1}),
    "E3-range": ({"part": "range", "arithmetic": "accumulated", "side": "large a"}, {"error_over_law": 1.0}),
    "E3-range-lost": ({"part": "range", "arithmetic": "rounded", "side": "small b"}, {"curved_error": 0.9}),
    "E3-range-float32": ({"part": "range", "arithmetic": "scalars", "exponent": 5}, {"error_over_law": math.nan}),
    "E4": ({**SPLIT, "arithmetic": "rounded", "noise": 0.0, "log_ratio": 6.0}, {"descent": 0.0}),
    "E4-accumulated": ({**SPLIT, "arithmetic": "scalars", "noise": 0.0, "log_ratio": 6.0}, {"descent": math.nan}),
    "E4-square": ({**SPLIT, "arithmetic": "accumulated", "shape": "16x16", "log_ratio": 4.0}, {"descent": -0.1}),
    "E4-error-accumulated": ({**SPLIT, "arithmetic": "accumulated", "shape": "16x16"}, {"curved_error": 300.0}),
    "E4-error": ({**SPLIT, "arithmetic": "scalars", "noise": 0.01, "log_ratio": 2.0}, {"curved_error": 0.2}),
    "E4-error-rounded": ({**SPLIT, "arithmetic": "rounded", "noise": 0.0, "log_ratio": 4.0}, {"curved_error": 10.0}),
    "E4-error-sums": ({**SPLIT, "arithmetic": "rounded", "noise": 0.0}, {"curved_error": math.nan}),
    "E5": ({"part": "training", "task": "classes", "method": "eva as coded"}, {"correction": 0.2}),
    "E5-images": ({"part": "training", "task": "images", "method": "eva as coded"}, {"correction": 0.2}),
    "E5-by-sample": ({"part": "training", "task": "images", "method": "eva, b by sample"}, {"correction": 0.05}),
    "E5-companion": ({"part": "training", "task": "classes", "method": "G / gamma"}, {"loss": 3.0}),
    "E5-companion-images": ({"part": "training", "task": "images", "method": "G / gamma"}, {"loss": 0.5}),
    "E6": ({"part": "interpolation", "layer": 2, "seed": 1, "t": 400}, {"sigma_over_first": 0.2}),
    "E6-bias": ({"part": "interpolation", "layer": 1, "seed": 0}, {"bias_difference": 1e-3}),
    "E25": ({"part": "average", "form": "incremental", "old_weight": 0.99}, {"mean_covered": 0.6}),
    "E25-every": ({"part": "average", "form": "convex", "old_weight": 0.995}, {"most_covered": 0.6}),
    "E25-cures": ({"part": "average", "form": "compensated", "old_weight": 0.999}, {"least_covered": 0.5}),
    "E25-coded": (
        {"part": "average", "form": "convex", "old_weight": 0.05, "change_in_units": 64.0},
        {"most_covered": 1.5},
    ),
    "E27": ({"part": "leak", "old_weight": 0.9}, {"extra_over_damping": 8.0}),
}


def statuses(rows: list[dict]) -> dict[str, Status]:
    return {judged.claim.name: judged.judgement.status for judged in judge_claims(STUDY, rows)}


def touch(rows: list[dict], axes: dict, figures: dict) -> None:
    touched = [row for row in rows if all(row.get(name) == value for name, value in axes.items())]
    assert touched
    for row in touched:
        row.update(figures)


def test_judges_confirm_what_holds(rows):
    assert statuses(rows) == dict.fromkeys(BREAKS, Status.CONFIRMED)
    assert "sigma / gamma = 316 with every operation" in STUDY.answer(rows)


@pytest.mark.parametrize("claim", BREAKS)
def test_a_judge_refutes_what_does_not_hold(rows, claim):
    touch(rows, *BREAKS[claim])
    judge = next(one.judge for one in STUDY.claims if one.name == claim)
    assert judge(rows).status is Status.REFUTED


def test_norms_that_stay_in_range_refute_that_they_leave_it(rows):
    touch(
        rows, {"part": "range", "side": "large sigma", "exponent": 4, "arithmetic": "rounded"}, {"out_of_range": False}
    )
    assert statuses(rows)["E3-range"] is Status.REFUTED


def test_losses_are_compared_seed_by_seed(rows):
    """A small difference that every seed shows counts, however far apart the seeds are."""
    for row in rows:
        if row["part"] == "training" and row["method"] == "eva as coded" and row["task"] == "classes":
            row["loss"] += 0.01 + 0.001 * row["seed"]
    assert statuses(rows)["E5-companion"] is Status.REFUTED


def test_flips_before_the_window_refute_it_too(rows):
    touch(rows, {**CLOSED, "arithmetic": "rounded", "format": "bfloat16", "log_ratio": 1.5}, {"descent": -0.1})
    assert statuses(rows)["E3-flips"] is Status.REFUTED


def test_a_correction_between_the_thresholds_settles_nothing(rows):
    touch(rows, {"part": "training", "task": "classes", "method": "eva as coded"}, {"correction": 0.05})
    touch(rows, {"part": "interpolation"}, {"loss": 0.5})  # and a network that does not interpolate neither
    found = statuses(rows)
    assert found["E5"] is found["E6"] is Status.OPEN


def test_a_judge_without_rows_leaves_its_claim_open(rows):
    found = statuses([row for row in rows if row["part"] != "leak"])
    assert found.pop("E27") is Status.OPEN
    assert set(found.values()) == {Status.CONFIRMED}


MOVED = {"curved_error", "descent", "correction", "sigma_over_first", "mean_covered", "extra_over_damping"}


@pytest.mark.parametrize("figure", STUDY.figures, ids=lambda figure: figure.name)
def test_a_figure_is_drawn_from_its_table(rows, figure):
    table = figure.table(rows)
    assert draw(figure, table, "test").problem is None
    for row in rows:
        row.update({name: 0.5 * row[name] for name in MOVED & row.keys()})
    assert figure.table(rows) != table
