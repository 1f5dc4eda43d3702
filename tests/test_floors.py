"""The floors of the house: who may import whom, and what is never loaded without need."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import precond_lab as pl

ROOT = Path(__file__).parents[1]
# Names of the front door that notebooks and other code rely on, with a name inside each that they use.
PROMISED = {
    "Arithmetic": "carrier_dtype",
    "Format": "unit_roundoff",
    "condition_number": "__call__",
    "diagnose": "__call__",
    "emulate": "__call__",
    "evaluate": "__call__",
    "formats": "named",
    "preconditioners": "logdet",
    "round_to": "__call__",
    "truth": "logdet_projection",
}


def without_jax(program: str, folder: Path = ROOT) -> str:
    """Run a program in a new process in which importing JAX is an error."""
    blocked = f"import sys; sys.modules['jax'] = sys.modules['jaxlib'] = None\n{program}"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_room_imports_only_rooms_below_it():
    linter = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_the_package_its_formats_and_its_rooms_without_arrays_load_no_jax():
    program = "import precond_lab; precond_lab.formats.bfloat16; import precond_lab.cli, precond_lab.report"
    without_jax(program)


@pytest.mark.parametrize("line", ["--help", "status", "list", "claims", "formats bf16"])
def test_verbs_that_only_read_load_no_jax(line, tmp_path):
    shutil.copytree(ROOT / "studies", tmp_path / "studies", ignore=shutil.ignore_patterns("__pycache__"))
    main = f"sys.argv = ['precond-lab', *{line.split()!r}]\nfrom precond_lab.cli import main; main()"
    assert without_jax(main, tmp_path)


def test_a_report_is_written_from_rows_without_jax(tmp_path):
    toy = Path(__file__).parent / "toy_study"
    shutil.copytree(toy, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    call = "from precond_lab.cli import app\nfor words in {}: app(words, standalone_mode=False)"
    run = ["run", "toy", "--quick", "--workers", "0"]
    report = ["report", "toy", "--quick", "--output", "page"]
    assert "Report: page/toy.html" in without_jax(call.format([run, report]), tmp_path)
    assert (tmp_path / "page" / "index.md").is_file()


@pytest.mark.parametrize("name", pl.__all__)
def test_every_name_of_the_front_door_resolves(name):
    assert getattr(pl, name) is not None
    assert name in dir(pl)


@pytest.mark.parametrize(("name", "inner"), PROMISED.items())
def test_what_is_promised_is_there(name, inner):
    assert name in pl.__all__
    assert hasattr(getattr(pl, name), inner)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'emulat'"):
        _ = pl.emulat  # pyright: ignore


def test_importing_everything_changes_no_setting_of_jax():
    program = """
import jax, pkgutil, importlib
before = dict(jax.config.values)
import precond_lab
for _, name, _ in pkgutil.walk_packages(precond_lab.__path__, "precond_lab."):
    importlib.import_module(name)
changed = {k for k, v in jax.config.values.items() if before.get(k, v) != v}
assert not changed, changed
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
