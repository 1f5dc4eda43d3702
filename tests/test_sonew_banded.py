"""The study of wider bands: its cases, its measurements on a small network, and its judges."""

import itertools
import math
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners import logdet
from precond_lab.report.figures import draw
from precond_lab.study import Context, Options, Status, cases, judge_claims, load
from precond_lab.training import gradient_stream, idx
from precond_lab.truth.logdet import Status as Existence
from precond_lab.truth.logdet import direction, exact_projection

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "sonew_banded")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]
WIDTHS, STEPS, LENGTH = (36, 8, 36), (1, 2, 4), 128


# the quick grid, with two layers and three steps: enough for the judges
GRID = [
    case.parameters
    for case in cases(STUDY, Options(quick=True))
    if case.parameters.get("layer", "1:")[:2] in {"1:", "2:"} and case.parameters.get("t", 1) in {1, 5, 30}
]


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


def image_folder(folder: Path) -> str:
    """A folder with 120 blurred spots of 6 by 6 pixels; the corners stay dark."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:6, :6]
    center, width = rng.uniform(1.5, 3.5, (120, 2, 1, 1)), rng.uniform(0.5, 1.2, (120, 1, 1))
    distance = (rows - center[:, 0]) ** 2 + (columns - center[:, 1]) ** 2
    levels = np.floor(300 * np.exp(-distance / width**2)).clip(0, 255).astype(np.uint8)
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx.encode(levels))
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Context]:
    """The study at a size for tests, its statistics prepared."""
    declared = module("settings").settings_for

    def settings_for(options: Options):
        settings = declared(options)._replace(widths=WIDTHS, steps=STEPS, batch_size=40, learning_rate=1e-2)
        return settings._replace(stretches=2, length=LENGTH)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("settings", "study", "cases", "directions"):
            patch.setattr(module(name), "settings_for", settings_for)
        folder = tmp_path_factory.mktemp("sonew")
        context = Context(Options(quick=True, data=image_folder(folder / "images")), folder / "cache")
        STUDY.prepare(context)
        yield context


@pytest.fixture(scope="module")
def measured(small) -> list[dict]:
    """The gradient rows of bands 0 and 2 in bfloat16."""
    found = [dict(case.parameters) for case in cases(STUDY, small.options)]
    rows = []
    for band in (0, 2):
        shard = of(found, part="gradients", band=band, storage="bfloat16", arithmetic="bfloat16")
        rows += [{**c, **figures} for c, figures in zip(shard, STUDY.measure_batch(shard, small), strict=True)]
    return rows


def of(rows: list[dict], **axes) -> list[dict]:
    return [row for row in rows if all(row.get(k) == v for k, v in axes.items())]


# The grid


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = (cases(STUDY, Options(quick=q)) for q in (True, False))
    assert len({case.id for case in full}) == len(full) > len(quick)

    def axes(found, part):
        chosen = [case.parameters for case in found if case.parameters["part"] == part]
        assert len({frozenset(case) for case in chosen}) == 1
        return {name: {case[name] for case in chosen} for name in chosen[0]}

    for part in module("cases").Part:
        small, large = axes(quick, part.value), axes(full, part.value)
        assert small.keys() == large.keys()
        for name in small.keys() - {"layer", "network", "images", "chains", "trials"}:
            assert small[name] <= large[name], name
    gradients = [case.parameters for case in quick if case.parameters["part"] == "gradients"]
    assert {row["band"] for row in gradients} == {0, 1, 2, 4, 10}
    assert {row["t"] for row in gradients} == {1, 2, 5, 10, 30, 100}
    widest = of(gradients, band=10, storage="bfloat16", arithmetic="bfloat16")
    assert {row["method"] for row in widest} == {"none", *module("cases").FEW}


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "sonew_banded"
    names = ("study", "cases", "settings", "claims", "judges", "figures")
    source = "".join((folder / f"{name}.py").read_text() for name in names)
    assert not re.search(r"^(import|from) (jax|numpy)", source, re.MULTILINE)


# In rationals

EXAMPLE = np.array([[4, 5, 3, 4, 6], [2, 1, 1, 2, 0], [1, -1, 1, 0, 0]], dtype=object)  # s = (43/14, 46/11, 27/10, ...)


def test_the_closed_form_is_assembled_as_l_d_l():
    exact = exact_projection(EXAMPLE)
    x = module("rationals").assembled(exact.psi, exact.s)
    assert [x[i, i] for i in range(3)] == [Fraction(14, 43), Fraction(1943, 6923), Fraction(893857, 2056131)]
    assert all(x[i, j] == exact.band[i - j, j] for i, j in x)
    assert len(x) == 5 + 4 + 3


@pytest.mark.parametrize("band", [1, 3])
def test_theorems_hold_in_rationals(band):
    rationals = module("rationals")
    closed = rationals.closed_form({"band": band, "trials": 4, "seed": 1})
    assert closed["entries"] > 50
    assert sum(closed[name] for name in module("judges").WRONG) == 0
    degenerate = rationals.degenerate({"band": band, "trials": 4, "seed": 1})
    assert degenerate["few"] == 12
    assert degenerate["few_not_degenerate"] == degenerate["twins_not_degenerate"] == 0
    case = {"band": band, "trials": 30, "seed": 1}
    semidefinite, indefinite = (rationals.one_pass({**case, "windows": w}) for w in ("semidefinite", "indefinite"))
    assert semidefinite["triggered"] > 30
    assert semidefinite["failed_again"] == semidefinite["decreased"] == 0
    assert (indefinite["failed_again"] > 0) == (band > 1)  # on a chain an s that fails is not solved again
    masked = rationals.masked({"band": band, "trials": 20, "seed": 1})
    assert masked["solved_not_optimal"] == 0
    assert (masked["masked_not_optimal"] > 0) == (masked["largest_residual"] > 0) == (band > 1)


def test_wrong_closed_forms_are_counted(monkeypatch):
    rationals = module("rationals")
    right = rationals.assembled
    monkeypatch.setattr(rationals, "assembled", lambda psi, s: right(-psi, s))
    closed = rationals.closed_form({"band": 2, "trials": 3, "seed": 1})
    assert closed["not_optimal"] > 0
    assert closed["wrong_trace"] == 3
    assert not rationals._determinants_agree(EXAMPLE, exact_projection(EXAMPLE).band, exact_projection(EXAMPLE).s * 2)
    some = exact_projection(rationals._perturbed(EXAMPLE * 10, np.random.default_rng(0)))
    assert some.s.shape == (5,)


def test_masking_misses_the_worked_example():
    """Vertex 3 cut off: psi_1 should be 2/5 and s_1 16/5; struck out they are 5/14 and 23/7."""
    kept = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    whole, reduced = exact_projection(EXAMPLE), exact_projection(EXAMPLE, kept)
    psi = whole.psi * kept
    s = EXAMPLE[0] - (psi * EXAMPLE[1:]).sum(axis=0)
    assert (psi[0, 0], s[0]) == (Fraction(5, 14), Fraction(23, 7))
    assert module("rationals")._residual(reduced.psi, reduced.s, EXAMPLE, kept) == 0
    # X^-1 has H_21 = psi_1 H_22 = 25/14 in the place of 2, and s_1 + psi_1^2 H_22 = 23/7 + 125/196 in that of 4
    assert module("rationals")._residual(psi, s, EXAMPLE, kept) == pytest.approx((2 - 25 / 14) / math.sqrt(20))


# Statistics


def test_kept_statistics_are_the_averages_of_the_stream(small):
    """Exact ones by their definition; stored ones within the roundings of as many steps, in units of their scale."""
    gradients, settings = module("gradients"), module("settings").settings_for(small.options)
    folder, parts = gradients.location(settings, small.cache), gradients.stretches(settings)
    assert [path.name for path in small.cache.iterdir()] == [folder.name]
    assert [tuple(part) for part in parts] == [(0, 0), (0, 160), (1, 0), (1, 160)]
    stream = gradient_stream(
        gradients.load(settings), WIDTHS, steps=4, batch_size=40, learning_rate=1e-2, seed=settings.seed
    )
    kernels = [step.gradients for step in stream]
    for (number, part), t in itertools.product(enumerate(parts), STEPS):
        chains = [np.asarray(logdet.chain(k[part.layer].kernel), np.float64) for k in kernels[:t]]
        G = np.array([chain[part.start : part.start + LENGTH] for chain in chains])
        weights = settings.beta2 ** np.arange(t)[::-1]
        weights /= weights.sum()
        H, size = np.zeros((2, 11, LENGTH))
        for k in range(11):
            H[k, : LENGTH - k] = weights @ (G[:, k:] * G[:, : LENGTH - k])
            size[k, : LENGTH - k] = weights @ abs(G[:, k:] * G[:, : LENGTH - k])
        assert (abs(np.load(folder / f"exact-{t}.npy")[number] - H) <= 20 * t * 2.0**-53 * size).all()
        weights = settings.beta1 ** np.arange(t)[::-1]
        weights /= weights.sum()
        momentum = np.load(folder / f"momentum-{t}.npy")[number]
        assert (abs(momentum - weights @ G) <= 20 * t * 2.0**-53 * (weights @ abs(G))).all()
        with np.load(folder / f"float32-{t}.npz") as kept:
            stored, scale = kept["H"][number].astype(float) / kept["weight"][number], float(kept["scale"][number])
        assert math.frexp(scale)[0] == 0.5
        assert (abs(stored / scale**2 - H) <= 10 * t * 2.0**-24 * size + 2.0**-120).all()


def test_an_interrupted_preparation_leaves_nothing(small, tmp_path, monkeypatch):
    gradients, cache, taken = module("gradients"), tmp_path / "cache", []

    def take(_, kernels):
        taken.append(len(kernels))
        raise KeyboardInterrupt

    name = gradients.location(module("settings").settings_for(small.options), cache).name
    (cache / f"unfinished-{name}-of-a-killed-run").mkdir(parents=True)
    monkeypatch.setattr(gradients.Averages, "take", take)
    with pytest.raises(KeyboardInterrupt):
        STUDY.prepare(small._replace(cache=cache))
    assert not list(cache.iterdir())
    STUDY.prepare(small)  # is kept, so takes no step
    assert taken == [2]


# Directions


def test_the_reference_is_the_direction_by_definition():
    """And its first-order change that of a small step."""
    directions = module("directions")
    H, g = EXAMPLE.astype(float)[None], np.array([[1.0, 0.0, -1.0, 2.0, 1.0]])
    for kept in (np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], bool), np.array([[1, 0, 0, 1, 0], [0] * 5], bool)):
        goal = np.array([float(x) for x in direction(H[0], g[0], kept=kept)])
        u, pivots = directions.exact(H, g, kept[None])
        assert np.abs(u[0] - goal).max() <= 200 * 2.0**-53 * np.abs(goal).max()
        assert np.abs(pivots[0] * H[0, 0] - exact_projection(EXAMPLE, kept).s.astype(float)).max() <= 100 * 2.0**-53
        found = directions.change(H, g, kept[None])
        step = 2.0**-24
        rng = np.random.default_rng(0)
        signs = [rng.choice([-1.0, 1.0], x.shape) for x in (H, g)]
        moved = directions.exact(H * (1 + step * signs[0]), g * (1 + step * signs[1]), kept[None])[0]
        assert np.abs((moved - u) / step - found).max() <= 1e-4 * np.abs(found).max()


def test_one_program_serves_every_number_of_passes():
    directions, methods = module("directions"), module("cases").METHODS
    directions._iterated_in.cache_clear()
    for name in methods.keys() - {"masked"}:
        directions.stabilized_in("bfloat16", name)
    assert directions._iterated_in.cache_info().currsize == 4  # by rule and form
    assert {methods["printed"].passes, methods["iterated_literal"].passes} == {1, None}


def test_tolerances_are_of_the_storage():
    assert [module("directions").tolerance_of(x, "bfloat16") for x in ("0", "2u", "8u")] == [0, 2.0**-7, 2.0**-5]


@pytest.mark.slow
def test_measured_directions_keep_the_theorems(measured):
    wide = of(measured, band=2)
    assert len(wide) == 2 * 3 * (1 + 7 * 3)
    for row in wide:
        if row["method"] in {"pivots", "pivots_literal", "iterated", "iterated_literal"}:
            assert row["bad_D"] == row["nonfinite_directions"] == row["unstable_stretches"] == 0
        if row["method"] in {"pivots", "pivots_literal", "printed", "one_pass"}:
            assert row["passes"] <= 1
        if row["method"] == "none":
            assert row["dropped_share"] == row["passes"] == 0
    for method, layer, t in itertools.product(("pivots", "pivots_literal"), {row["layer"] for row in wide}, STEPS):
        rows = of(wide, method=method, layer=layer, t=t)
        dropped = [of(rows, tolerance=tolerance)[0]["dropped_share"] for tolerance in ("0", "2u", "8u")]
        assert dropped == sorted(dropped)
    literal, one_sided = (of(wide, method=method, tolerance="2u") for method in ("pivots_literal", "pivots"))
    assert all(a["dropped_share"] >= b["dropped_share"] for a, b in zip(literal, one_sided, strict=True))
    assert any(row["verdict"] == "breakdown" for row in of(wide, method="none"))
    checked = [row["reference_error"] for row in wide if row["reference_error"] is not None]
    assert len(checked) == 2
    assert min(checked) < 1e-9


@pytest.mark.slow
def test_a_diagonal_is_accurate(measured):
    for row in of(measured, band=0):
        assert row["edges"] == row["dropped_share"] == 0
        assert row["vertices"] == 2 * LENGTH
        assert row["verdict"] == "accurate"
        assert row["error"] <= 3 * 2.0**-8  # two roundings: of 1 / H_ii, and of its product


@pytest.mark.slow
def test_one_case_at_a_time_gives_the_same_figures(small, measured):
    names = ("part", "data", "network", "images", "band", "storage", "arithmetic", "layer", "t", "method", "tolerance")
    for row in [*of(measured, method="masked", tolerance="2u", t=2), *of(measured, band=0, t=4)]:
        case = {name: row[name] for name in names}
        again = STUDY.measure(case, small)
        assert {**case, **{k: str(v) for k, v in again.items()}} == {
            k: v if k in names else str(v) for k, v in row.items()
        }


@pytest.mark.slow
def test_a_wrong_reference_is_noticed(small, monkeypatch):
    directions = module("directions")
    right = directions.exact
    monkeypatch.setattr(
        directions, "exact", lambda H, g, kept: (right(H, g, kept)[0] * (1 + 1e-6), right(H, g, kept)[1])
    )
    found = [dict(case.parameters) for case in cases(STUDY, small.options)]
    shard = of(found, part="gradients", band=2, storage="bfloat16", arithmetic="bfloat16", method="pivots", t=4)
    with pytest.raises(ArithmeticError, match="reference is off"):
        STUDY.measure_batch(of(shard, tolerance="2u"), small)


# Passes


def test_drawn_chains_show_what_one_pass_leaves(monkeypatch):
    passes = module("passes")
    monkeypatch.setattr(passes, "CHUNK", 2**11)
    case = {"part": "passes", "format": "bfloat16", "band": 2, "tolerance": "0", "chains": 2**11, "seed": 0}
    for form, rule in passes.METHODS_OF:
        if rule == "literal":
            continue
        found = STUDY.measure({**case, "form": form, "rule": rule, "inputs": "degenerate"}, None)
        assert found["used"] == 2**11 > found["triggered"] > 2**10
        assert found["violations"] == 0
        assert (found["failed_again"] > 50) == (found["bad_D_after_one_pass"] > 50) == (form == "coefficients")
        assert 0 < found["windows_kept"] < found["windows"] / 2
    definite = STUDY.measure({**case, "form": "pivots", "rule": "one_sided", "inputs": "definite"}, None)
    assert 2**10 < definite["used"] < 2**11
    assert definite["without_projection"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "vertices"), [("one_sided", 3), ("literal", 4)])
def test_the_smallest_examples_are_what_they_say(rule, vertices):
    found = STUDY.measure({"part": "example", "format": "bfloat16", "rule": rule, "largest": 256}, None)
    rows = [[int(x) for x in row.split()] for row in found["H"].split(";")]
    H = np.array([row + [0] * k for k, row in enumerate(rows)])
    assert H.shape == (3, vertices)
    assert abs(H).max() == found["largest_entry"] <= 128
    assert exact_projection(H).status is Existence.SOLVED
    H = H.astype(np.float32)
    assert np.array_equal(np.asarray(pl.round_to(H, "bfloat16")), H)
    once, all_of_it, judged = (
        pl.emulate(
            lambda H, passes=passes, form=form: logdet.iterate(H, 0.0, rule=rule, passes=passes, form=form), "bfloat16"
        )(H)
        for passes, form in ((1, "coefficients"), (None, "coefficients"), (1, "pivots"))
    )
    assert not once.stable
    assert " ".join(f"{x:g}" for x in np.asarray(once.factor.D)) == found["D_after_one_pass"]
    assert all_of_it.stable
    assert judged.stable
    assert int(all_of_it.passes) == 2


@pytest.mark.slow
def test_memory_is_counted_in_numbers_a_parameter():
    found = STUDY.measure({"part": "memory", "band": 2, "n": 2**18}, None)
    assert found["state"] == pytest.approx(4, abs=8 / 2**18)
    assert found["window_tensor"] == 9
    assert 0 < found["temporaries_in_chunks"] < found["temporaries_of_direction"] < 100


# The judges, on planted rows

GOOD = {
    "gradients": {
        "nonfinite_directions": 0,
        "bad_D": 0,
        "dropped_share": 0.1,
        "passes": 1,
        "unstable_stretches": 0,
        "without_projection": 0,
        "cosine_to_reduced": 0.99,
        "cosine_to_full": 0.9,
        "cosine_to_widest": 0.5,
        "descent": True,
        "reference_error": None,
    },
    "passes": {
        "used": 1000,
        "triggered": 100,
        "failed_again": 0,
        "bad_D_after_one_pass": 0,
        "most_passes": 1,
        "violations": 0,
        "overflowed": 0,
        "without_projection": 0,
        "windows": 1000,
        "windows_kept": 1,
    },
    "example": {"vertices": 0, "H": "", "exact_s": "", "D_after_one_pass": ""},
    "closed form": {
        "not_optimal": 0,
        "wrong_trace": 0,
        "wrong_determinant": 0,
        "increasing_s": 0,
        "wrong_inverse": 0,
        "wrong_existence": 0,
        "entries": 100,
        "without_projection": 3,
    },
    "degenerate": {"few": 10, "few_not_degenerate": 0, "few_undefined": 5, "twins": 5, "twins_not_degenerate": 0},
    "one pass": {"triggered": 10, "failed_again": 0, "decreased": 0},
    "masked": {
        "solved_not_optimal": 0,
        "masked_not_optimal": 0,
        "masked_not_definite": 0,
        "median_residual": 0.0,
        "largest_residual": 0.0,
    },
}


@pytest.fixture
def rows() -> list[dict]:
    """Rows of the quick grid that confirm every claim."""
    found = []
    for case in GRID:
        row = dict(case)
        if row["part"] == "memory":
            row |= {"state": row["band"] + 2.0, "window_tensor": (row["band"] + 1) ** 2}
            row |= {"temporaries_of_direction": 9.0, "temporaries_in_chunks": 0.1, "temporaries_of_step": 9.0}
        else:
            row |= GOOD[row["part"]]
        if row["part"] == "gradients":
            if row["method"] == "none" and row["band"]:
                row |= {"nonfinite_directions": 3, "cosine_to_reduced": math.nan}
            if (row["arithmetic"], row["storage"]) == ("float32", "bfloat16"):
                row["cosine_to_full"] = 0.2
            row["dropped_share"] = 0.01 * row["band"]
            if row["t"] == 1:
                row["dropped_share"] += 0.6 if row["tolerance"] == "0" else 0.88
        found.append(row)
    return found


REAL = {"part": "gradients", "storage": "bfloat16", "arithmetic": "bfloat16", "band": 4}
BREAKS = {
    "C1": [({"part": "closed form", "band": 1}, {"wrong_existence": 1})],
    "C2": [
        ({"part": "closed form", "band": 7}, {name: 1})
        for name in GOOD["closed form"]
        if name.startswith(("w", "n", "i"))
        if name != "without_projection"
    ],
    "C7-band": [
        ({"part": "degenerate", "band": 3}, {name: 1}) for name in ("few_not_degenerate", "twins_not_degenerate")
    ],
    "C7-band-computed": [({"part": "passes", "inputs": "degenerate", "band": 3}, {"windows_kept": 20})],
    "C11": [({"part": "one pass", "windows": "semidefinite"}, {name: 1}) for name in ("failed_again", "decreased")],
    "C11-indefinite": [({"part": "one pass", "windows": "indefinite"}, {"failed_again": 1})],
    "C12": [({"part": "passes", "form": "coefficients", "band": 2, "inputs": "definite"}, {"failed_again": 1})],
    "C12-gradients": [({**REAL, "method": "printed"}, {"unstable_stretches": 1})],
    "C12-iterated": [
        ({"part": "passes", "form": "coefficients"}, {"violations": 1}),
        ({**REAL, "method": "iterated"}, {"unstable_stretches": 1}),
        ({**REAL, "method": "iterated_literal"}, {"bad_D": 1}),
    ],
    "C12-pivots": [
        ({"part": "passes", "form": "pivots"}, {"failed_again": 1}),
        ({"part": "passes", "form": "pivots"}, {"violations": 1}),
        ({"part": "gradients", "method": "pivots_literal", "band": 2}, {"passes": 2}),
    ],
    "C13-band": [
        ({"part": "gradients", "method": "none"}, {"nonfinite_directions": 0}),
        ({**REAL, "method": "pivots", "tolerance": "0"}, {"descent": False}),
    ],
    "C14-band": [({**REAL, "method": "pivots", "tolerance": "2u"}, {"cosine_to_reduced": math.nan})],
    "C15-band": [({**REAL, "method": "pivots", "arithmetic": "float32"}, {"cosine_to_full": 0.95})],
    "C20": [({"part": "memory", "band": 4}, {"state": 7.0})],
    "C20-temporaries": [({"part": "memory", "band": 4}, {"temporaries_in_chunks": 25.0})],
    "C23": [
        ({**REAL, "band": 1, "method": "pivots", "tolerance": "0", "t": 1}, {"dropped_share": 0.9}),
        ({**REAL, "band": 1, "method": "pivots", "tolerance": "2u", "t": 30}, {"dropped_share": 0.3}),
    ],
    "C23-band": [({**REAL, "method": "pivots", "tolerance": "2u", "t": 5}, {"dropped_share": 0.0})],
    "masked": [({"part": "masked", "band": 2}, {"masked_not_optimal": 1})],
    "masked-gradients": [({**REAL, "method": "masked", "tolerance": "2u"}, {"cosine_to_reduced": 0.9})],
}


def judged(rows: list[dict]) -> dict:
    return {claim.name: judgement for claim, judgement in judge_claims(STUDY, rows)}


def test_every_claim_can_be_confirmed(rows):
    found = judged(rows)
    assert {name: judgement.status for name, judgement in found.items()} == dict.fromkeys(BREAKS, Status.CONFIRMED)
    assert all(judgement.figure.endswith(".") and re.search(r"\d", judgement.figure) for judgement in found.values())


@pytest.mark.parametrize(("name", "k"), [(name, k) for name, ways in BREAKS.items() for k in range(len(ways))])
def test_every_claim_can_be_refuted(rows, name, k):
    axes, figures = BREAKS[name][k]
    touched = of(rows, **axes)
    assert touched
    for row in touched:
        row.update(figures)
    claim = next(claim for claim in STUDY.claims if claim.name == name)
    assert claim.judge(rows).status is Status.REFUTED


def test_a_judge_without_rows_leaves_its_claim_open(rows):
    found = judged([row for row in rows if row["part"] != "memory"])
    assert found["C20"].status is Status.OPEN
    assert found["C12"].status is Status.CONFIRMED


def test_the_answer_says_what_the_rows_say(rows):
    for row in of(rows, **REAL, method="printed", tolerance="2u"):
        row.update(unstable_stretches=1, bad_D=2)
    answer = STUDY.answer(rows)
    assert answer.endswith(".")
    for part in ("Yes: ", "fails again in 6 of 18 layers and steps, and 6 directions", "18 of 18 are", "a chain 0.50"):
        assert part in answer
    for row in of(rows, **{**REAL, "band": 10}, method="pivots", tolerance="2u"):
        row.update(cosine_to_widest=math.nan)
    assert STUDY.answer(rows).startswith("No: ")


@pytest.mark.parametrize("figure", STUDY.figures, ids=lambda figure: figure.name)
def test_figures_are_drawn_from_their_tables(figure, rows):
    table = figure.table(rows)
    assert len({tuple(record) for record in table}) == 1
    drawn = draw(figure, table, "test")
    assert drawn.problem is None
    changes = {"cosine_to_reduced": 0.3, "dropped_share": 0.77, "bad_D": 1, "failed_again": 7}
    other = figure.table([{**row, **{k: v for k, v in changes.items() if k in row}} for row in rows])
    assert draw(figure, other, "test").svg != drawn.svg
    assert figure.caption.endswith(".")
