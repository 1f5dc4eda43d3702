"""The shell: exit codes, what goes to which stream, and examples that run."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from precond_lab.arithmetic.formats import NAMED
from precond_lab.cli import app

TOY = Path(__file__).parent / "toy_study"
VERBS = ("run", "resume", "status", "report", "claims", "list", "formats")


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Call the shell in a folder with two studies, one of which fails in places."""
    (tmp_path / "studies" / "toy").mkdir(parents=True)
    for name in ("study.py", "measure.py"):
        shutil.copy(TOY / name, tmp_path / "studies" / "toy")
    source = (TOY / "troubled.py").read_text(encoding="utf-8")
    raising = source.replace('("none", *BAD)', '("none", "raises")')
    (tmp_path / "studies" / "troubled.py").write_text(raising, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRECOND_LAB_RUNS", raising=False)

    def call(*arguments: str, code: int = 0):
        workers = ("--workers", "0") if arguments[0] in {"run", "resume"} else ()
        result = CliRunner().invoke(app, [*arguments, *workers])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    return call


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(shell, verb):
    text = shell("run" if verb == "run" else verb, "--help").stdout
    assert f"Example: precond-lab {verb}" in text
    assert "--json" in text


def test_help_is_there_without_jax_and_matplotlib():
    program = (
        "import sys; sys.modules['jax'] = sys.modules['matplotlib'] = None\n"
        "sys.argv = ['precond-lab', '--help']\nfrom precond_lab.cli import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=TOY.parents[1]
    )
    assert all(verb in done.stdout for verb in VERBS)


def test_a_run_says_what_came_out_and_where(shell, tmp_path):
    result = shell("run", "studies/toy", "--quick")
    assert "toy (quick): 30 of 30 cases measured" in result.stdout
    assert "Answer: Of 30 powers" in result.stdout
    assert "Claims: 1 confirmed, 0 refuted, 1 open" in result.stdout
    assert "Report: runs/toy/quick/report/toy.html" in result.stdout
    assert (tmp_path / "runs/toy/quick/report/index.md").is_file()
    assert "30 of 30 cases, 0 failed, done" in result.stderr


def test_json_is_all_there_is_on_standard_output(shell):
    summary = json.loads(shell("run", "toy", "--quick", "--json", "--workers", "1").stdout)
    assert (summary["ok"], summary["failed"], summary["missing"]) == (30, 0, 0)
    assert Path(summary["report"]["html"]).is_file()
    assert summary["command"] == "precond-lab run studies/toy --quick"
    assert [claim["status"] for claim in summary["claims"]] == ["confirmed", "open"]
    (state,) = json.loads(shell("status", "toy", "--json").stdout)
    assert (state["study"], state["run"], state["state"], state["ok"]) == ("toy", "quick", "complete", 30)
    ledger = json.loads(shell("claims", "toy", "--json").stdout)
    assert [(claim["run"], claim["name"]) for claim in ledger] == [("quick", "T1"), ("quick", "T2")]
    assert json.loads(shell("resume", "--json").stdout) is None
    assert [entry["study"] for entry in json.loads(shell("list", "--json").stdout)] == ["toy", "troubled"]
    assert json.loads(shell("formats", "half", "--json").stdout)["max"] == 65504
    assert len(json.loads(shell("formats", "--json").stdout)) >= 7


def test_failed_cases_are_told_and_kept(shell):
    result = shell("run", "troubled", code=1)
    assert "troubled (full): 31 of 32 cases measured" in result.stdout
    assert "Failed: number=5, trouble=raises: ZeroDivisionError: nothing goes into 5" in result.stdout
    assert "Failed: number=5" in shell("status", "troubled").stdout
    row = shell("status").stdout.splitlines()[1].split()
    assert row[:7] == ["troubled", "full", "complete", "32", "31", "1", "0"]
    assert "nothing to resume" in shell("resume").stderr
    assert "nothing goes into 5" in shell("resume", "--retry-failed", code=1).stdout


def test_a_failed_case_keeps_claims_open(shell, tmp_path):
    study = tmp_path / "studies" / "troubled.py"
    claim = 'Claim("T", "s", "derived", lambda rows: Judgement(Status.CONFIRMED, f"all {len(rows)}"))'
    source = study.read_text(encoding="utf-8").replace("import Study", "import Claim, Judgement, Status, Study")
    study.write_text(source.replace("batched=", f"claims=({claim},),\n    batched="), encoding="utf-8")
    (judged,) = json.loads(shell("run", "troubled", "--json", code=1).stdout)["claims"]
    assert (judged["status"], judged["figure"]) == ("open", "1 cases of the grid failed")
    (listed,) = json.loads(shell("claims", "troubled", "--json").stdout)
    assert listed["status"] == "open"
    assert "all 31" not in shell("report", "troubled", "--output", "page").stdout
    assert "1 cases of the grid failed" in (tmp_path / "page" / "index.md").read_text(encoding="utf-8")


def test_data_must_be_there_and_is_stored_as_an_absolute_path(shell, tmp_path):
    assert "does not exist" in shell("run", "toy", "--data", "nowhere", code=2).stderr
    (tmp_path / "digits").mkdir()
    refused = shell("run", "toy", "--data", "digits", code=2)
    assert f"study toy: {tmp_path / 'digits'} holds no file named 'good'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "runs").exists()
    (tmp_path / "digits" / "good").touch()
    summary = json.loads(shell("run", "toy", "--quick", "--data", "digits", "--json").stdout)
    digits = hashlib.sha256(str(tmp_path / "digits").encode()).hexdigest()
    assert summary["run"] == f"quick-digits-{digits[:4]}"
    assert summary["command"] == "precond-lab run studies/toy --quick --data digits"
    (state,) = json.loads(shell("status", "--json").stdout)
    assert state["options"] == {"quick": True, "data": str(tmp_path / "digits")}


def test_a_report_is_made_from_stored_rows(shell, tmp_path):
    assert "run it first" in shell("report", "toy", code=2).stderr
    shell("run", "toy", "--quick")
    assert "(stored: quick)" in shell("report", "toy", code=2).stderr
    result = shell("report", "toy", "--quick")
    assert "Report: docs/reports/toy/toy.html" in result.stdout
    assert (tmp_path / "docs/reports/toy/powers.csv").is_file()
    study = tmp_path / "studies" / "toy" / "study.py"
    study.write_text(study.read_text(encoding="utf-8").replace("version=1", "version=22"), encoding="utf-8")
    assert "version 1, and the study is now version 22" in shell("report", "toy", "--quick", code=2).stderr


@pytest.mark.parametrize("damage", ["{", "[]", '{"claims": []}'])
def test_a_report_that_cannot_be_written_is_a_line_of_text(shell, tmp_path, damage):
    shell("run", "toy", "--quick")
    (tmp_path / "file").touch()
    bad = tmp_path / "docs" / "reports" / "other" / "report.json"
    bad.parent.mkdir(parents=True)
    bad.write_text(damage, encoding="utf-8")
    for output in (("--output", "file"), ("--output", "file/page"), ()):
        refused = shell("report", "toy", "--quick", *output, code=4)
        assert refused.stderr.startswith("precond-lab: the report could not be written: ")
        assert refused.stderr.count("\n") == 1
    assert f"{bad} " in refused.stderr
    assert "write that report again" in refused.stderr


def test_claims_of_a_study_without_rows_are_open(shell):
    assert "no case has been measured" in shell("claims").stdout
    shell("run", "toy", "--quick")
    shell("run", "toy")
    runs = {claim["run"] for claim in json.loads(shell("claims", "--json").stdout)}
    assert runs == {"full"}, "the quick run says nothing beside the full one"


def test_a_report_that_cannot_be_written_does_not_hide_the_rows(shell, tmp_path):
    (tmp_path / "runs/toy/quick").mkdir(parents=True)
    (tmp_path / "runs/toy/quick/report").touch()
    result = shell("run", "toy", "--quick", code=1)
    assert "the rows are stored, but the report could not be written" in result.stderr
    assert "30 of 30 cases measured" in result.stdout


def test_misuse_is_a_line_of_text(shell, tmp_path):
    assert "did you mean toy?" in shell("run", "toi", code=2).stderr
    assert "did you mean 'bfloat16'?" in shell("formats", "bfloat61", code=2).stderr
    (tmp_path / "studies" / "broken.py").write_text("STUDY = 1 / 0\n", encoding="utf-8")
    assert "ZeroDivisionError" in shell("run", "broken", code=2).stderr
    listed = shell("list")
    assert "toy" in listed.stdout
    assert "ZeroDivisionError" in listed.stderr


def test_a_corrupt_store_is_exit_code_4(shell, tmp_path):
    shell("run", "toy", "--quick")
    bad = tmp_path / "runs" / "toy" / "full" / "rows.sqlite"
    bad.parent.mkdir()
    bad.write_bytes(b"not a database" * 100)
    assert "corrupt" in shell("run", "toy", code=4).stderr
    shown = shell("status", code=4)
    assert "corrupt" in shown.stderr
    assert "quick" in shown.stdout, "one bad file hides no other run"
    shell("claims", code=4)


def test_an_empty_folder_has_nothing(shell, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert "No runs are stored" in shell("status").stdout
    assert "No studies" in shell("list").stdout
    assert "No claims" in shell("claims").stdout


def test_a_format_is_described_as_a_person_wants_it(shell):
    text = shell("formats", "bf16").stdout
    assert "bfloat16 (also bf16)" in text
    assert "2^-8 = 0.00390625" in text
    assert "16: 1 sign, 8 exponent, 7 fraction" in text
    assert re.search(r"carrier +float64; by request float32", text)
    assert re.search(r"one +0x3f80  0 01111111 0000000  1.0", text)
    assert re.search(r"carrier +float32\n", shell("formats", "half").stdout)
    assert "no sign, 8 exponent, 0 fraction" in shell("formats", "e8m0").stdout
    assert shell("formats", "Binary8p4se").stdout.startswith("binary8p4se\n")


def test_all_formats_are_a_table(shell):
    lines = shell("formats").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *NAMED]
    assert "1.798e+308" in lines[1]
    entries = json.loads(shell("formats", "--json").stdout)
    assert [(entry["name"], entry["bits"], entry["values"]) for entry in entries] == [
        (format.name, format.bits, format.values) for format in NAMED.values()
    ]


def test_every_value_of_a_narrow_format_is_listed(shell):
    fp4 = NAMED["float4_e2m1fn"]
    lines = shell("formats", "fp4", "--values").stdout.partition("code points\n")[2].splitlines()
    assert [float(line.split()[-1]) for line in lines] == [fp4.decode(code) for code in range(16)]
    entry = json.loads(shell("formats", "e5m2", "--values", "--json").stdout)
    assert [str(value) for value in entry["by_code"]] == [str(NAMED["float8_e5m2"].decode(code)) for code in range(256)]
    assert (entry["landmarks"]["infinity"], entry["nan_code"]) == (0x7C, 0x7E)
    assert "float16 has 16" in shell("formats", "half", "--values", code=2).stderr
    assert "name it" in shell("formats", "--values", code=2).stderr
