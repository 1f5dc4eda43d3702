"""Laws of declarations, grids, loading and claims."""

import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precond_lab.study import (
    Claim,
    Figure,
    Judgement,
    Options,
    Status,
    Study,
    StudyError,
    available,
    cases,
    identity,
    judge_claims,
    load,
    locate,
)
from precond_lab.study.worker import plain

TOY = Path(__file__).parent / "toy_study"
SOUND = {
    "name": "sound",
    "version": 1,
    "question": "Is it sound?",
    "grid": lambda options: [{"n": 1}, {"n": 2}],
    "measure": lambda case, context: {"double": 2 * case["n"]},
    "answer": lambda rows: "It is.",
}


def study(**changes) -> Study:
    return Study(**(SOUND | changes))


WRONG: Any = lambda rows: True  # noqa: E731
CLAIM = Claim("C1", "It holds.", "derived", lambda rows: Judgement(Status.CONFIRMED, "all 2"))
FIGURE = Figure("f", "F", "See.", lambda rows: rows, lambda figure, table: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "names a folder"),
        ({"name": ""}, "names a folder"),
        ({"version": 0}, "whole number"),
        ({"version": True}, "whole number"),
        ({"question": " "}, "one sentence"),
        ({"batched": "n"}, "write"),
        ({"measure_batch": lambda cases, context: []}, "needs batched"),
        ({"claims": (CLAIM, CLAIM)}, "two claims"),
        ({"figures": (FIGURE, FIGURE)}, "two figures"),
    ],
)
def test_contradictory_declarations_are_refused(changes, message):
    with pytest.raises(StudyError, match=message):
        study(**changes)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], "empty"),
        ([{"n": 1}, {"n": 1}], "twice"),
        ([{"n": math.nan}], "finite"),
        ([{"n": -math.inf}], "finite"),
        ([{"n": [1]}], "type list"),
        ([{"n": np.float64(1)}], r"\.item\(\)"),
        ([{"_n": 1}], "reserved"),
        ([{1: 1}], "axis name 1"),
        (["n"], "a dict"),
    ],
)
def test_unusable_grids_are_refused(grid, message):
    with pytest.raises(StudyError, match=message):
        cases(study(grid=lambda options: grid), Options())


def test_a_batched_axis_must_occur():
    with pytest.raises(StudyError, match="'m' occurs in no case"):
        cases(study(batched=("m",)), Options())


def test_a_grid_may_refuse_its_data():
    def grid(options):
        raise ValueError(f"{options.data} holds no images")

    with pytest.raises(StudyError, match="here holds no images"):
        cases(study(grid=grid), Options(data="here"))


def test_the_order_of_the_grid_is_irrelevant():
    points = [{"n": n, "format": f, "x": x} for n in (1, 10, 2) for f in ("a", None) for x in (True, 0.5)]
    expected = cases(study(grid=lambda options: points), Options())
    shuffled = random.Random("order").sample(points, len(points))
    turned = [dict(reversed(point.items())) for point in shuffled]
    assert cases(study(grid=lambda options: turned), Options()) == expected
    assert [case.parameters["n"] for case in expected[:6]] == [1, 1, 2, 2, 10, 10]


def test_identity_is_of_name_version_and_parameters_alone():
    same = identity(study(), {"n": 1, "m": "x"})
    assert same == identity(study(question="Another?"), {"m": "x", "n": 1})
    others = {
        identity(study(), {"n": 1.0, "m": "x"}),
        identity(study(), {"n": True, "m": "x"}),
        identity(study(version=2), {"n": 1, "m": "x"}),
        identity(study(name="other"), {"n": 1, "m": "x"}),
    }
    assert len(others | {same}) == 5


def test_labels():
    labels = {
        Options(): "full",
        Options(quick=True): "quick",
        Options(data="/a/mnist"): "full-mnist-91ba",
        Options(data="/b/mnist"): "full-mnist-6a48",
        Options(quick=True, data="/"): "quick-root-8a5e",
    }
    assert {options: options.label for options in labels} == labels


@pytest.mark.parametrize("path", [TOY, TOY / "study.py", str(TOY), TOY / "study"])
def test_a_study_is_found_by_folder_file_and_stem(path):
    assert locate(path) == TOY / "study.py"
    assert load(path).name == "toy"


def test_a_study_is_found_by_name_and_a_wrong_name_lists_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=r"\./studies has no studies"):
        load("toy")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "toy").symlink_to(TOY)
    (tmp_path / "studies" / "single.py").write_text((TOY / "troubled.py").read_text(), encoding="utf-8")
    assert list(available()) == ["single", "toy"]
    assert load("toy").name == "toy"
    assert load("single").name == "troubled"
    for wrong in ("singel", "studies/singel", "studies/singel.py", "studies/singel/study.py"):
        with pytest.raises(StudyError, match=r"did you mean single\?.*single, toy"):
            load(wrong)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("STUDY = nothing\n", r"line 1 of study.py: NameError"),
        ("x = 1\nimport no_such_module_at_all\n", r"line 2 of study.py: ModuleNotFoundError"),
        ("def f(:\n", "SyntaxError"),
        ("x = 1\n", "declares no STUDY"),
        ("STUDY = 3\n", "STUDY as a int"),
        ("from precond_lab.study import Study\nSTUDY = Study('', 1, 'q', 1, 2, 3)\n", "names a folder"),
    ],
)
def test_a_study_that_does_not_load_says_why(tmp_path, source, message):
    (tmp_path / "study.py").write_text(source, encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        load(tmp_path)


def test_studies_of_equal_names_do_not_share_modules(tmp_path):
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.py").write_text(f"VERSION = {number}\n", encoding="utf-8")
        source = (
            "from precond_lab.study import Study\nfrom . import part\n"
            "STUDY = Study('s', part.VERSION, 'q', lambda o: [], None, None)\n"
        )
        (tmp_path / folder / "study.py").write_text(source, encoding="utf-8")
    assert [load(tmp_path / folder).version for folder in ("a", "b")] == [1, 2]


def test_a_package_may_have_an_init(tmp_path):
    (tmp_path / "__init__.py").write_text("VERSION = 7\n", encoding="utf-8")
    source = (
        "from precond_lab.study import Study\nfrom . import VERSION\n"
        "STUDY = Study('s', VERSION, 'q', lambda o: [], None, None)\n"
    )
    (tmp_path / "study.py").write_text(source, encoding="utf-8")
    assert load(tmp_path).version == 7


def test_loading_judging_and_the_shell_work_without_jax():
    program = (
        "import sys; sys.modules['jax'] = None\n"
        "from precond_lab import cli\n"
        "from precond_lab.study import load, cases, Options, judge_claims\n"
        f"study = load({str(TOY)!r}); print(len(cases(study, Options())), len(judge_claims(study, [])))\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=TOY.parents[1]
    )
    assert done.stdout.split() == ["120", "2"]


def test_claims_stay_open_with_the_reason():
    def raises(rows):
        raise KeyError("gone")

    claims = (CLAIM, Claim("C2", "s", "derived", raises), Claim("C3", "s", "derived", WRONG))
    declared = study(claims=claims)

    def found(*arguments):
        return [(judged.judgement.status.value, judged.judgement.figure) for judged in judge_claims(*arguments)]

    assert found(declared, []) == [("open", "no case has been measured")] * 3
    assert found(declared, [{"n": 1}], 4) == [("open", "4 cases of the grid have not been run")] * 3
    assert found(declared, [{"n": 1}], 0, 2) == [("open", "2 cases of the grid failed")] * 3
    both = "4 cases of the grid have not been run, 2 cases of the grid failed"
    assert found(declared, [{"n": 1}], 4, 2) == [("open", both)] * 3
    settled = found(declared, [{"n": 1}])
    assert settled[0] == ("confirmed", "all 2")
    assert settled[1] == ("open", "could not be judged: KeyError: 'gone'")
    assert settled[2][0] == "open"


def test_figures_become_plain():
    figures = plain({"n": 1}, {"a": np.float32(0.1), "b": np.array(3), "c": np.bool_(True), "d": math.nan})
    assert [type(value) for value in figures.values()] == [float, int, bool, float]
    assert figures["a"] == float(np.float32(0.1))


@pytest.mark.parametrize(
    "figures", [{"n": 2}, {"_a": 1}, {3: 1}, {"a": [1]}, {"a": 1j}, {"a": np.ones(2)}, [("a", 1)], None]
)
def test_figures_that_are_not_plain_are_refused(figures):
    with pytest.raises((TypeError, ValueError)):
        plain({"n": 1}, figures)
