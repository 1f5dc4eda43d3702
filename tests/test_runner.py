"""Laws of the runner: whatever is killed, a run ends with the rows of one that was never interrupted."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from precond_lab.study import Case, Options, Study, StudyError
from precond_lab.study.crew import RunError
from precond_lab.study.progress import sentence
from precond_lab.study.provenance import stored_run
from precond_lab.study.runner import Progress, being_written, pieces, run, shards
from precond_lab.study.store import Store, StoreError, encode

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy_study" / "study.py"
TROUBLED = ROOT / "tests" / "toy_study" / "troubled.py"
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks processes up in /proc")


def figures(path: Path) -> dict[str, str | None]:
    """Identity to figures as text, so that nan equals nan and every bit counts."""
    with Store.read(path) as store:
        return {
            record.case.id: None if record.figures is None else encode(record.figures) for record in store.records()
        }


def command(runs: Path, *arguments: str, pause: float) -> subprocess.Popen:
    # Tests that are themselves run in the background may ignore SIGINT, and would hand that on.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "precond_lab.cli", *arguments, "--runs", str(runs), "--workers", "2"],
            env=os.environ | {"TOY_PAUSE": str(pause)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, handler)


def stored(path: Path) -> int:
    with contextlib.suppress(StoreError), Store.read(path) as store:
        return len(store.records())
    return 0


def wait_for(condition, what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited a minute for {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, str | None]:
    return figures(run(TOY, Options(), tmp_path_factory.mktemp("whole"), workers=0).path)


def test_killed_at_random_moments_it_ends_with_the_same_rows(tmp_path, uninterrupted):
    draw = random.Random("killed at random moments")
    path = tmp_path / "toy" / "full" / "rows.sqlite"
    seen = []
    for _ in range(6):
        process = command(tmp_path, "run", str(TOY), pause=0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=draw.uniform(0.1, 1.5))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        seen.append(stored(path))
    assert seen == sorted(seen), "a kill lost rows"
    last = command(tmp_path, "run", str(TOY), pause=0.0)
    output, _ = last.communicate(timeout=60)
    assert last.returncode == 0, output
    assert figures(path) == uninterrupted
    assert len(uninterrupted) == 120


@linux
def test_a_killed_parent_leaves_no_worker_and_the_run_goes_on(tmp_path, uninterrupted):
    path = tmp_path / "toy" / "full" / "rows.sqlite"
    process = command(tmp_path, "run", str(TOY), pause=0.05)
    wait_for(lambda: stored(path) > 3, "the first rows")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    assert len(children) >= 2
    process.kill()
    process.communicate()  # the end of their standard error is the end of the workers
    assert len(figures(path)) < 120

    def gone(child: str) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
        return True

    wait_for(lambda: all(gone(child) for child in children), "the workers to go")
    resumed = command(tmp_path, "resume", pause=0.0)
    output, _ = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, output
    assert figures(path) == uninterrupted


def test_interrupted_it_stops_cleanly_and_says_how_to_go_on(tmp_path, uninterrupted):
    path = tmp_path / "toy" / "full" / "rows.sqlite"
    process = command(tmp_path, "run", str(TOY), pause=0.05)
    wait_for(lambda: stored(path) > 3, "the first rows")
    assert being_written(path)
    with pytest.raises(StoreError, match="another run is writing"):
        run(TOY, Options(), tmp_path, workers=0)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"Go on with: precond-lab resume --runs {tmp_path}" in output
    assert not being_written(path)
    assert 3 < stored(path) < 120
    assert run(TOY, Options(), tmp_path, workers=0).ok == 120
    assert figures(path) == uninterrupted


def test_a_killed_worker_loses_nothing(tmp_path, uninterrupted):
    killed = []

    def listen(progress: Progress) -> None:
        if progress.ok in {5, 40} and len(killed) < 2:
            victim = multiprocessing.active_children()[0]
            victim.kill()
            killed.append(victim.pid)

    outcome = run(TOY, Options(), tmp_path, workers=2, listen=listen)
    assert (outcome.ok, outcome.failed, len(set(killed))) == (120, 0, 2)
    assert figures(outcome.path) == uninterrupted
    assert not multiprocessing.active_children()


def test_a_guilty_case_fails_alone(tmp_path):
    outcome = run(TROUBLED, Options(), tmp_path, workers=2)
    assert (outcome.ok, outcome.failed) == (77, 3)
    with Store.read(outcome.path) as store:
        failed = {
            (record.case.parameters["trouble"], record.case.parameters["number"]): record
            for record in store.records()
            if record.status == "failed"
        }
    raises, dies, exits = failed["raises", 5], failed["dies", 9], failed["exits", 11]
    assert "ZeroDivisionError: nothing goes into 5" in str(raises.traceback)
    assert "troubled.py" in str(raises.traceback)
    assert raises.attempts == 5  # the shard of 16, then 8, 4, 2 and 1 cases
    assert "worker died with signal 9 (SIGKILL, as when memory runs out)" in str(dies.traceback)
    assert "worker exited with status 3" in str(exits.traceback)
    assert dies.attempts == exits.attempts == 4 * 2 + 3  # a shard may kill twice, a single case three times
    log = tmp_path / "troubled" / "cache"
    assert (log / "none-0.txt").read_text(encoding="utf-8") == "measured\n"
    assert (log / "dies_once-0.txt").read_text(encoding="utf-8") == "measured\n" * 2


def test_failed_cases_run_again_only_when_asked(tmp_path):
    measured = tmp_path / "troubled" / "cache" / "raises-5.txt"
    only_raising = "raises-5"
    source = TROUBLED.read_text(encoding="utf-8").replace('("none", *BAD)', '("none", "raises")')
    study = tmp_path / "study.py"
    study.write_text(source, encoding="utf-8")
    first = run(study, Options(), tmp_path, workers=0)
    assert (first.ok, first.failed, first.measured_now) == (31, 1, 32)
    times = measured.read_text(encoding="utf-8").count("measured")
    assert run(study, Options(), tmp_path, workers=0).measured_now == 0
    assert measured.read_text(encoding="utf-8").count("measured") == times, only_raising
    study.write_text(source.replace('{"raises": 5,', '{"raises": -1,'), encoding="utf-8")
    again = run(study, Options(), tmp_path, workers=0, retry_failed=True)
    assert (again.ok, again.failed, again.measured_now) == (32, 0, 1)


def test_rows_of_another_version_are_measured_anew(tmp_path):
    study = tmp_path / "study.py"
    source = TROUBLED.read_text(encoding="utf-8").replace('("none", *BAD)', '("none",)')
    for version in (3, 4):
        study.write_text(source.replace("version=3", f"version={version}"), encoding="utf-8")
        outcome = run(study, Options(), tmp_path, workers=0)
        assert (outcome.ok, outcome.measured_now) == (16, 16)
    assert stored_run(outcome.path).provenance.cases_ok == 16


def _study(**changes) -> Study:
    nothing = {"grid": lambda options: [], "measure": lambda case, context: {}, "answer": lambda rows: ""}
    return Study(**({"name": "s", "version": 1, "question": "q"} | nothing | changes))


def test_shards_hold_every_case_once_and_agree_in_other_axes():
    grid = [Case(f"{a}{b}", {"a": a, "b": b}) for a in "xyz" for b in range(10)]
    found = shards(_study(batched=("b",)), grid, limit=4)
    assert [len(shard) for shard in found] == [4, 4, 2] * 3
    assert [case for shard in found for case in shard] == grid
    assert all(len({case.parameters["a"] for case in shard}) == 1 for shard in found)
    assert [len(shard) for shard in shards(_study(), grid)] == [1] * 30


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_of_a_shard_is_made_of_pieces_of_its_bisection(seed):
    draw = random.Random(f"pieces{seed}")
    shard = tuple(Case(str(n), {"n": n}) for n in range(draw.randrange(1, 40)))
    wanted = {case.id for case in shard if draw.random() < 0.7}

    def nodes(part):
        yield part
        if len(part) > 1:
            yield from nodes(part[: len(part) // 2])
            yield from nodes(part[len(part) // 2 :])

    left = pieces(shard, wanted)
    assert {case.id for piece in left for case in piece} == wanted
    assert sum(len(piece) for piece in left) == len(wanted)
    assert all(piece in list(nodes(shard)) for piece in left)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "raise ValueError('the file x is truncated')",
            r"prepare: the file x is truncated \(study.py, line 3\)",
        ),
        ("nothing", "prepare failed:\n.*NameError"),
    ],
)
def test_prepare_that_fails_stops_the_run(tmp_path, workers, body, message):
    study = tmp_path / "study.py"
    study.write_text(
        "from precond_lab.study import Study\n"
        f"def prepare(context):\n    {body}\n"
        "STUDY = Study('s', 1, 'q', lambda o: [{'n': 1}], lambda c, x: {}, lambda r: '', prepare=prepare)\n",
        encoding="utf-8",
    )
    with pytest.raises(StudyError, match=f"(?s){message}"):
        run(study, Options(), tmp_path, workers=workers)


def test_workers_that_cannot_start_end_the_run(tmp_path, monkeypatch):
    study = tmp_path / "study.py"
    study.write_text(
        "import multiprocessing, os\n"
        "if multiprocessing.parent_process() is not None: os._exit(7)\n"
        "from precond_lab.study import Study\n"
        "STUDY = Study('s', 1, 'q', lambda o: [{'n': 1}], lambda c, x: {}, lambda r: '')\n",
        encoding="utf-8",
    )
    with pytest.raises(RunError, match="3 workers in a row could not start: worker exited with status 7"):
        run(study, Options(), tmp_path, workers=1)


def test_provenance_says_where_rows_come_from(tmp_path):
    source = stored_run(run(TOY, Options(quick=True), tmp_path, workers=1).path).provenance
    assert source.command.startswith("precond-lab run ")
    assert source.command.endswith("tests/toy_study --quick")
    assert set(source.versions) >= {"python", "jax", "numpy"}
    assert source.devices[0].startswith("cpu (")
    assert str(source.started) <= str(source.finished)


def test_progress_tells_the_time_left():
    progress = Progress("measuring", total=100, stored=20, ok=39, failed=1, seconds=60.0)
    assert progress.remaining == 60.0
    assert sentence(progress) == "60 of 100 cases, 1 failed, 1 min 00 s left"
    assert Progress("measuring", 100, 20).remaining is None
