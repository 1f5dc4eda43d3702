"""The benchmark of inverse roots runs, and its tables have their rows. No time is ever asserted."""

import csv
import dataclasses
import importlib
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from precond_lab.diagnosis.inverse_root_condition import inverse_root_condition
from precond_lab.preconditioners import inverse_root as ir

BENCHMARKS = Path(__file__).parents[1] / "studies" / "benchmarks"
MODULES = [file.stem for file in BENCHMARKS.glob("*.py")]
N = 12
U = 2.0**-24
TRUNCATED = {"newton", "chebyshev"}
"""Methods whose error is not that of roundings: one is unstable, the other's degree is too low."""


@pytest.fixture(scope="module")
def benchmark():
    """Import the benchmark's modules as the command does, with its own folder first on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module
        for name in MODULES:
            sys.modules.pop(name, None)


class Ran(NamedTuple):
    """A run of the command.

    Attributes:
        page: that it wrote.
        times: the rows of its times.
        errors: the rows of its errors.
        names: of its root functions.
        emulated: how many emulated arithmetics it had.
    """

    page: str
    times: list[dict[str, str]]
    errors: list[dict[str, str]]
    names: list[str]
    emulated: int


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.slow)])
def ran(request, benchmark, tmp_path_factory):
    """The quick run with the smallest matrices: with the programs that the targets need, or with all."""
    module, folder = benchmark("inverse_root"), tmp_path_factory.mktemp("benchmark")
    cells, programs = benchmark("inverse_root_cells"), benchmark("inverse_root_programs")
    chosen = programs.programs()
    if request.param == "few":
        few = ("refined", "rational_minimax", programs.PEER, programs.PEER_WITHOUT_RIDGE)
        chosen = {name: chosen[name] for name in (*few, programs.WIDE)}
    scale = module.QUICK
    small = {"sizes": (N,), "emulated": () if request.param == "few" else (N,), "batch": (2, N), "rounds": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUICK", dataclasses.replace(scale, **small))
        patch.setattr(cells, "programs", lambda: chosen)
        patch.setattr(module, "METHODS", (programs.PEER,))
        module.main(["--quick", "--cores", "0", "--output", str(folder)])
    page = next(folder.glob("*-inverse-root-cpu.md")).read_text()
    times, errors = (rows_of(folder, pattern) for pattern in ("*-inverse-root-cpu.csv", "*-errors.csv"))
    return Ran(page, times, errors, list(chosen), len(small["emulated"]))


def rows_of(folder, pattern):
    (file,) = folder.glob(pattern)
    with file.open() as opened:
        return list(csv.DictReader(opened))


def test_all_methods_are_timed_beside_those_of_others(benchmark):
    names = benchmark("inverse_root_programs").programs()
    assert set(ir.METHODS) < set(names)
    assert any(program.wide for program in names.values())


def test_page_has_every_program_and_every_target(benchmark, ran):
    page = ran.page
    for name in ran.names:
        assert page.count(f"\n| {name} |") >= 2  # a section each condition number
    targets = page[page.index("| target |") : page.index("Inverse roots of float32")].strip().splitlines()[2:]
    assert len(targets) == 4 + ran.emulated + 1
    verdicts = [line.split(" | ")[-1] for line in targets]
    assert all(verdict.startswith(("yes", "no")) for verdict in verdicts)
    assert verdicts[0] == verdicts[2] == "yes |"  # which are about errors
    headings = ["| target |", "## The fastest", "## p = 4", "## Emulated", "## Batches: 2 blocks of 12"]
    assert sorted(headings, key=page.index) == headings


def test_times_stand_beside_that_of_optax(benchmark, ran):
    rows = [row for row in ran.times if row["section"].startswith("p = 4")]
    names = [benchmark("inverse_root_cells").LIMIT, *ran.names]
    assert sorted(row["case"] for row in rows) == sorted(2 * names)
    assert {float(row["ratio"]) for row in rows if row["case"] == benchmark("inverse_root_programs").PEER} == {1.0}


def test_errors_are_those_that_roundings_explain(benchmark, ran):
    """A backward stable root has the error of a change of A by c u |A|_F, with c at most n: u is that of the format."""
    truth = benchmark("inverse_root_truth")
    assert len(ran.errors) == 2 * len(ran.names)
    for row in ran.errors:
        condition = inverse_root_condition(np.asarray(truth.matrix(N, float(row["condition"])), np.float64), 4)
        own = float(row["own"])
        if row["case"] not in TRUNCATED:
            assert own <= N * condition.frobenius * U
        if row["case"] == "eigh in float64":
            assert own <= U + N * condition.frobenius * 2.0**-53
        if row["case"] in ir.METHODS:
            assert row["result"] in ir.Result.__members__
    by_case = {row["case"]: float(row["error"]) for row in ran.errors if float(row["condition"]) == 1e6}
    assert by_case["refined"] < by_case[benchmark("inverse_root_programs").PEER_WITHOUT_RIDGE] / 50


def test_reference_and_errors(benchmark):
    truth = benchmark("inverse_root_truth")
    found = truth.reference(N, 1e2, 2)
    assert found.apart < N * 1e2 * 2.0**-53
    assert np.allclose(found.root @ found.A @ found.root, np.eye(N), rtol=0, atol=1e-12)
    X = found.root * (1 + 2.0**-10)
    assert truth.errors_of(X, found, 0.0, 2) == pytest.approx([2.0**-10] * 3, rel=1e-9)
    damped = np.linalg.inv(found.A + 0.5 * found.values[-1] * np.eye(N))
    w, V = np.linalg.eigh(damped)
    error, _, own = truth.errors_of((V * w**0.5) @ V.T, found, 0.5, 2)
    assert own < 1e-12
    assert error > 0.1
    assert truth.errors_of(np.full((N, N), np.nan), found, 0.0, 2) == (np.inf, np.inf, np.inf)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 6, 7])
def test_products_are_counted_as_the_program_does_them(benchmark, p):
    """The loop's body stands once in the program, and so does the certificate."""
    counted = []

    def product(A, B):
        counted.append(1)
        return A @ B

    setting = ir.Setting(kernels=ir.LIBRARY._replace(product=product))
    jax.eval_shape(lambda A: ir.coupled_newton(A, p, setting=setting), jax.ShapeDtypeStruct((3, 3), "float32"))
    of = benchmark("inverse_root_emulated").products_of
    step = of(2, p) - of(1, p)
    loops = 2  # the early steps and the late ones, traced once each
    assert len(counted) == of(0, p) + loops * step


def test_what_would_take_too_long_is_left_out_and_named(benchmark, monkeypatch, capsys):
    cells, programs = benchmark("inverse_root_cells"), benchmark("inverse_root_programs")
    fast, slow = programs.PEER, programs.PEER_WITHOUT_RIDGE
    chosen = {name: programs.programs()[name] for name in (fast, slow)}
    monkeypatch.setattr(cells, "programs", lambda: chosen)
    small, large = cells.Cell(4, 1e2, 4), cells.Cell(4, 1e2, 8)
    scale = cells.Scale((4,), (1e2,), (4, 8), 8, 15.0, (), 0, (1, 1), 0, 1)
    assert cells.cells(scale) == [[small], [large]]
    found, skipped, limits = cells.measured([large], scale, {(small, fast): 2.0, (small, slow): 2.0})
    assert [one.case for one in found] == [fast]  # which is never left out
    assert skipped == [cells.Skipped(large, slow, 16.0)]
    assert "left out" in capsys.readouterr().err
    assert len(limits) == 1
