"""The benchmark of LogDet directions runs, and its tables have their rows. No time is ever asserted."""

import csv
import importlib
import os
import sys
from pathlib import Path

import jax
import pytest

from precond_lab import Arithmetic

BENCHMARKS = Path(__file__).parents[1] / "studies" / "benchmarks"
MODULES = [file.stem for file in BENCHMARKS.glob("*.py")]


@pytest.fixture
def logdet(monkeypatch):
    """The benchmark, imported as the command does, with one band, one length and one arithmetic."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    module = importlib.import_module("logdet")
    monkeypatch.setattr(module, "QUICK", module.Scale(bands=(1,), lengths=(64,), slow=64, wide=0, rounds=1))
    few = {module.FAST: Arithmetic("bfloat16", carrier="float32")}
    monkeypatch.setattr(module, "ARITHMETICS", few)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


def test_page_and_rows(logdet, tmp_path, capsys):
    logdet.main(["--quick", "--cores", "0", "--output", str(tmp_path)])
    page = next(tmp_path.glob("*-logdet-cpu.md")).read_text()
    assert page == capsys.readouterr().out.removesuffix("\n")
    with next(tmp_path.glob("*-logdet-cpu.csv")).open() as file:
        rows = list(csv.DictReader(file))
    cases = [logdet.LIMIT, *logdet.programs(slow=True)]
    assert [row["case"] for row in rows] == cases
    assert float(rows[0]["ratio"]) == 1
    assert {row["section"] for row in rows} == {"Band 1"}
    assert page.index("| target | found | met |") < page.index("## Band 1") < page.index("Temporaries")
    assert page.count("MiB |") == len(cases) - 1


@pytest.mark.parametrize(("native", "emulated", "verdicts"), [(1.9, 7.5, ["yes", "yes"]), (2.1, 8.5, ["no", "no"])])
def test_targets_are_judged_by_the_figures_of_the_run(logdet, native, emulated, verdicts):
    scale = logdet.Scale((1,), (10**7,), 0, 0, 1)
    ratios = {logdet.LIMIT: 1.0, logdet.NATIVE: native, f"{logdet.FAST}, in chunks": emulated}
    measure = sys.modules["measure"]
    entries = [
        logdet.Entry("Band 1", case, "1e7", 0, measure.Timing(1, ratio, ratio, ratio)) for case, ratio in ratios.items()
    ]
    lines = logdet.target_lines(entries, scale)[2:]
    assert [line.split("|")[-2].strip() for line in lines] == verdicts


def test_large_chains_get_no_program_that_needs_their_memory_again(logdet):
    assert not any("whole" in case for case in logdet.programs(slow=False))
    assert logdet.LARGE.lengths == (10**8,)
    assert logdet.LARGE.slow < 10**8
