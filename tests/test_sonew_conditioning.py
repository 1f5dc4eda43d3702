"""The study of condition and breakdown: its enumeration, its measurements against rationals, and its judges."""

import re
import sys
from fractions import Fraction as Q
from pathlib import Path

import numpy as np
import pytest
from rational_edges import cells, pivot, schur, triples

from precond_lab.report.figures import draw
from precond_lab.study import Options, Status, cases, judge_claims, load

ROOT = Path(__file__).parents[1]
STUDY = load(ROOT / "studies" / "sonew_conditioning")
PACKAGE = STUDY.measure.__module__.rpartition(".")[0]


def module(name: str):
    return sys.modules.get(f"{PACKAGE}.{name}") or __import__(f"{PACKAGE}.{name}", fromlist=[name])


def measured(part: str, **axes) -> dict:
    return dict(STUDY.measure({"part": part, **axes}, None))


# The grid


def test_the_quick_grid_is_a_smaller_grid():
    quick, full = (cases(STUDY, Options(quick=q)) for q in (True, False))
    assert len({case.id for case in full}) == len(full) > len(quick)
    for name in ("part", "format", "octave", "tolerance", "band", "correlation", "seed"):
        small, large = ({case.parameters.get(name) for case in found} for found in (quick, full))
        assert small <= large, name
    strides = {
        case.parameters["format"]: case.parameters["stride"]
        for case in full
        if "octave" not in case.parameters and "stride" in case.parameters
    }
    assert [format for format, stride in strides.items() if stride > 1 and format != "float16"] == ["float32"]
    for case in full:
        if case.parameters["part"] in {"thresholds", "signs", "tolerances"} and case.parameters["format"] != "float32":
            assert case.parameters["stride"] == 1


def test_the_grid_needs_no_jax():
    folder = ROOT / "studies" / "sonew_conditioning"
    source = "".join((folder / f"{name}.py").read_text() for name in ("study", "cases", "claims", "figures"))
    assert not re.search(r"^(import|from) (jax|numpy)", source, re.MULTILINE)


# Significands


@pytest.mark.parametrize("precision", [2, 3, 5])
def test_numbers_are_those_of_the_precision(precision):
    significands = module("significands")
    values = sorted(cells(precision))
    index = np.arange(-2 * 2 ** (precision - 1), 2 * 2 ** (precision - 1))
    assert significands.number(index, precision).tolist() == [float(x) for x in values]
    for x, i in zip(values, index, strict=True):
        above = np.nextafter(float(x), 9)
        assert significands.index_below(np.array([float(x), above]), precision).tolist() == [i, i]
        assert significands.index_below(np.nextafter(float(x), 0), precision) == i - 1
        assert [Q(end) for end in significands.cell(float(x), precision)] == list(cells(precision)[x])


@pytest.mark.parametrize("precision", [3, 8, 11, 24])
def test_the_largest_edge_is_exact(precision):
    significands = module("significands")
    for a, c in significands.pairs(precision, max(1, 2 ** (precision - 1) // 64 - 1), 2**14):
        index = significands.singular_index(a, c, precision)
        e, above = (significands.number(index + step, precision) for step in (0, 1))
        for x, y, z, w in list(zip(a, c, e, above, strict=True))[:: len(a) // 50 + 1]:
            assert Q(z) ** 2 <= Q(x) * Q(y) < Q(w) ** 2
            assert significands.pivot(x, y, w) < 0 <= significands.pivot(x, y, z)


def test_all_pairs_are_enumerated():
    found = [tuple(pair) for a, c in module("significands").pairs(3, 1, 8) for pair in zip(a, c, strict=True)]
    assert len(found) == len(set(found)) == 4 * 8
    assert set(found) == {(float(a), float(c)) for a, c, _ in triples(3)}


# What is measured


@pytest.mark.parametrize(("format", "precision"), [("float8_e5m2", 3), ("float8_e4m3fn", 4)])
def test_thresholds_are_those_of_all_triples(format, precision):
    cell, u = cells(precision), Q(1, 2**precision)
    worst, zeros = dict.fromkeys(("arithmetic", "storage", "both"), Q(0)), 0
    for a, c, e in triples(precision):
        p, s = pivot(a, c, e), schur(a, c, e, precision)
        before = pivot(cell[a][1], cell[c][1], cell[e][0])
        worst["arithmetic"] = max(worst["arithmetic"], p if s <= 0 < p else 0)
        worst["storage"] = max(worst["storage"], before if p <= 0 else 0)
        worst["both"] = max(worst["both"], before if s <= 0 else 0)
        zeros += p > 0 == s
    found = measured("thresholds", format=format, stride=1)
    for name, value in worst.items():
        assert found[name] == pytest.approx(float(value / u), rel=1e-14)
    assert found["zero_s"] == zeros
    assert found["breakdowns_at_the_end"] == 0
    assert found["triples"] == 5 * 2 ** (2 * precision - 1)


def test_errors_are_those_of_all_triples():
    """With more edges than there are in an octave, every one of them is taken."""
    worst = {1: Q(0), 2: Q(0), 3: Q(0)}
    for a, c, e in triples(4):
        p = pivot(a, c, e)
        for octave, value in worst.items():
            if max(Q(1, 16), 1 - Q(2) ** (1 - octave)) < 1 - p <= 1 - Q(2) ** -octave:
                worst[octave] = max(value, abs(schur(a, c, e, 4) / (p * a) - 1) * p * 8)
    for octave, value in worst.items():
        found = measured("errors", format="float8_e4m3fn", stride=1, octave=octave, edges=64)
        assert found["largest_error_over_bound"] == pytest.approx(float(value), rel=1e-12)


def test_tolerances_decide_as_rationals_do():
    u, kept, least, error = Q(1, 2**8), 0, Q(9), Q(0)
    found = measured("tolerances", format="bfloat16", stride=32, tolerance="2u")
    significands = module("significands")
    for a, c in significands.pairs(8, 32, 2**14):
        top = significands.singular_index(a, c, 8)
        for step in range(2, -5, -1):
            e = significands.number(top + step, 8)
            for x, y, z in zip(a, c, e, strict=True):
                s, p = schur(Q(x), Q(y), Q(z), 8), pivot(Q(x), Q(y), Q(z))
                if s > 2 * u * Q(x):
                    kept, least, error = kept + 1, min(least, p), max(error, abs(s / (p * Q(x)) - 1))
    assert found["kept"] == kept
    assert found["least_kept_pivot"] == pytest.approx(float(least / u), rel=1e-12)
    assert found["largest_error_of_kept"] == pytest.approx(float(error), rel=1e-12)
    assert found["kept_without_projection"] == 0
    assert measured("tolerances", format="bfloat16", stride=32, tolerance="0")["kept_without_projection"] > 0


def test_float32_tells_signs():
    found = measured("signs", format="bfloat16", stride=16)
    assert found["triples"] == 5 * 8 * 256
    assert found["determinant_wrong"] == found["schur_wrong_not_singular"] == 0
    assert found["singular"] > 0


def test_conditions_and_bands_are_those_of_the_closed_forms():
    found = measured("conditions", format="float8_e5m2", stride=1, edges=4)
    assert max(found["deviation_off_diagonal"], found["deviation_all_entries"]) <= 64 * 2.0**-53
    assert 0.5 < found["least_over_bound"] < found["largest_over_bound"] < 1
    chain = measured("bands", band=1, correlation=0.9, n=64, seed=0)
    assert chain["off_diagonal"] == pytest.approx(2 / chain["smallest_pivot"] - 1, rel=1e-12)


def test_reversal_is_seen():
    measures = module("measures")
    H = np.arange(12).reshape(3, 4)
    assert measures.reversed_band(H).tolist() == [[3, 2, 1, 0], [6, 5, 4, 0], [9, 8, 0, 0]]
    found = measured("reversals", band=2, trials=2, seed=0)
    assert found["projections"] == 2
    assert found["changed_by_reversal"] == 0
    assert 0 < found["kept_differently"] < 0.1 * found["edges"]


# The judges, on planted rows

GOOD = {
    "conditions": {
        "triples": 9, "least_over_bound": 0.5, "largest_over_bound": 0.99,
        "deviation_off_diagonal": 0.0, "deviation_all_entries": 0.0,
    },
    "errors": {"triples": 9, "largest_error_over_bound": 0.9, "largest_error_over_exact_condition": 0.95},
    "thresholds": {
        "triples": 9, "zero_s": 1, "negative_s": 1, "stored_indefinite": 1, "breakdowns_at_the_end": 0,
        "arithmetic": 1.5, "storage": 3.5, "both": 5.0,
        "arithmetic_bound": 1.9, "storage_bound": 3.9, "both_bound": 5.9,
    },
    "signs": {
        "triples": 9, "singular": 1, "determinant_wrong": 0,
        "schur_wrong": 1, "schur_wrong_not_singular": 0, "schur_keeps_wrongly": 1,
    },
    "bands": {
        "off_diagonal": 9.0, "all_entries": 19.0, "schur": 9.0, "scaled": 9.0,
        "smallest_pivot": 0.2, "smallest_eigenvalue": 0.1,
    },
    "reversals": {"projections": 9, "changed_by_reversal": 0, "edges": 99, "kept_differently": 0},
}  # fmt: skip


def tolerance_row(tolerance: str) -> dict:
    multiple = float(tolerance.removesuffix("u"))
    return {
        "triples": 9,
        "kept": 5,
        "kept_without_projection": int(multiple < 2),
        "reversed_differs": 1,
        "least_kept_pivot": multiple,
        "guaranteed_pivot": multiple - 2,
        "least_kept_pivot_before_rounding": multiple - 4,
        "guaranteed_pivot_before_rounding": multiple - 6,
        "largest_dropped_pivot": multiple + 1,
        "largest_error_of_kept": 1.9 / max(multiple, 1),
        "farthest_disagreement": 1.5,
    }


@pytest.fixture
def rows() -> list[dict]:
    """Rows of the quick grid that confirm every claim."""
    found = [dict(case.parameters) for case in cases(STUDY, Options(quick=True))]
    return [row | (GOOD.get(row["part"]) or tolerance_row(row["tolerance"])) for row in found]


BREAKS = {
    "C3": ({"part": "conditions", "format": "float16"}, {"largest_over_bound": 1.01}),
    "C3-exact": ({"part": "conditions", "format": "bfloat16"}, {"deviation_off_diagonal": 1e-9}),
    "C3-band": ({"part": "bands", "band": 4}, {"off_diagonal": 11.0}),
    "C3-window": ({"part": "bands", "band": 2}, {"schur": 31.0}),
    "C4": ({"part": "bands", "band": 1, "seed": 0}, {"all_entries": 19.1}),
    "C5-exact": ({"part": "errors", "octave": 3}, {"largest_error_over_exact_condition": 1.001}),
    "C6-arithmetic": ({"part": "thresholds", "format": "bfloat16"}, {"arithmetic": 1.91}),
    "C6-stored": ({"part": "thresholds", "format": "float16"}, {"storage": 0.0}),
    "C6-computed": ({"part": "thresholds", "format": "float32"}, {"breakdowns_at_the_end": 1}),
    "C6-upcast": ({"part": "signs", "format": "float16"}, {"determinant_wrong": 1}),
    "C10-kept": ({"part": "tolerances", "tolerance": "2u"}, {"least_kept_pivot": 1.9}),
    "C10-guarantee": ({"part": "tolerances", "tolerance": "4u"}, {"kept_without_projection": 1}),
    "C10-accuracy": ({"part": "tolerances", "tolerance": "20u"}, {"largest_error_of_kept": 0.11}),
    "C24": ({"part": "reversals", "band": 4}, {"changed_by_reversal": 1}),
    "C24-rounded": ({"part": "tolerances", "tolerance": "8u"}, {"farthest_disagreement": 2.1}),
    "C24-band": ({"part": "reversals", "band": 2}, {"kept_differently": 1}),
}


def statuses(rows: list[dict]) -> dict[str, Status]:
    return {judged.claim.name: judged.judgement.status for judged in judge_claims(STUDY, rows)}


def test_judges_confirm_what_holds(rows):
    assert statuses(rows) == dict.fromkeys(BREAKS, Status.CONFIRMED)
    assert "3.50 u" in STUDY.answer(rows)


@pytest.mark.parametrize("claim", BREAKS)
def test_a_judge_refutes_what_does_not_hold(rows, claim):
    axes, figures = BREAKS[claim]
    touched = [row for row in rows if all(row.get(name) == value for name, value in axes.items())]
    assert touched
    for row in touched:
        row.update(figures)
    assert statuses(rows)[claim] is Status.REFUTED


def test_a_judge_without_rows_leaves_its_claim_open(rows):
    found = statuses([row for row in rows if row["part"] != "tolerances"])
    assert {name for name, status in found.items() if status is Status.OPEN} == {
        "C10-kept",
        "C10-guarantee",
        "C10-accuracy",
        "C24-rounded",
    }


@pytest.mark.parametrize("figure", STUDY.figures, ids=lambda figure: figure.name)
def test_a_figure_is_drawn_from_its_table(rows, figure):
    drawn = draw(figure, figure.table(rows), "test")
    assert drawn.problem is None
    changed = {"largest_error_over_bound": 0.3, "storage": 1.0, "least_kept_pivot": 0.5, "scaled": 3.0}
    other = figure.table([{**row, **{name: x for name, x in changed.items() if name in row}} for row in rows])
    assert drawn.svg != draw(figure, other, "test").svg
