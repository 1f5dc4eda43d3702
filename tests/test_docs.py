"""Nothing in the documentation is unexecuted: examples, commands, links."""

import doctest
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from precond_lab.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if DOCS / "_build" not in page.parents)]
WRITTEN = [page for page in PAGES if DOCS / "reports" not in page.parents]  # reports are written by a command
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "precond_lab").rglob("*.py"))
]
# "..." stands for what differs between machines: a path, a measured time.
FLAGS = doctest.ELLIPSIS
RUN = "pip install -e . && precond-lab run studies/sonew_tridiagonal --quick"
TEST = "pip install -e '.[test]' && pytest"


class Block(NamedTuple):
    """A fenced block of a page: what it is written in, the line it begins after, its lines."""

    language: str
    line: int
    lines: list[str]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    found, fence = [], None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if match := re.match(r"(`{3,}|:{3,})(.*)", line):
            if fence is None:
                fence = Block(match[2].strip(), number, [])
            elif not match[2].strip():
                found, fence = [*found, fence], None
        elif fence is not None:
            fence.lines.append(line)
    assert fence is None, f"{name_of(page)}: a block is never closed"
    return found


def session(page: Path) -> str:
    """The Python of a page as one doctest in which every line keeps its number."""
    lines = [""] * len(page.read_text(encoding="utf-8").splitlines())
    for block in blocks(page):
        if block.language == "python":
            for i, line in enumerate(block.lines):
                rest = next(filter(None, block.lines[i:]), ">>>")
                blank_output = not line and not rest.startswith(">>>")
                lines[block.line + i] = "<BLANKLINE>" if blank_output else line
    return "\n".join([*lines, ""])


def run_doctest(test: doctest.DocTest) -> None:
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not results.failed, "".join(said)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_the_python_of_a_page_prints_what_the_page_shows(page):
    test = doctest.DocTestParser().get_doctest(session(page), {"__name__": "__main__"}, page.name, name_of(page), 0)
    run_doctest(test)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_block_of_python_is_a_session(page):
    for block in blocks(page):
        assert block.language != "python" or block.lines[0].startswith(">>>"), (name_of(page), block.line)
        assert block.language not in {"py", "pycon", "bash", "shell"}, (name_of(page), block.line)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_docstrings_are_true(module):
    for test in doctest.DocTestFinder().find(importlib.import_module(module)):
        run_doctest(test)


class Command(NamedTuple):
    page: Path
    line: int
    words: list[str]
    output: str


def commands() -> list[Command]:
    """Every call of the shell in a console block, with the output that the page shows."""
    found = []
    for page in WRITTEN:
        for block in blocks(page):
            if block.language != "console":
                continue
            starts = [i for i, line in enumerate(block.lines) if line.startswith("$ ")]
            for i, stop in zip(starts, [*starts[1:], len(block.lines)], strict=True):
                words, shown = shlex.split(block.lines[i][2:]), block.lines[i + 1 : stop]
                if words[0] == "precond-lab":
                    found.append(Command(page, block.line + 1 + i, words[1:], "\n".join(shown)))
    return found


def label(command: Command) -> str:
    return f"{name_of(command.page)}:{command.line}"


def slow_runs() -> list:
    return [
        pytest.param(command, marks=pytest.mark.slow if command.words[0] == "run" else (), id=label(command))
        for command in commands()
        if command.output
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the studies in it and no runs."""
    shutil.copytree(ROOT / "studies", tmp_path / "studies", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRECOND_LAB_RUNS", raising=False)
    return tmp_path


@pytest.mark.parametrize("command", slow_runs())
def test_a_command_prints_what_the_page_shows(command, folder):
    program = Path(sysconfig.get_path("scripts")) / "precond-lab"
    environment = os.environ | {"COLUMNS": "110"}
    done = subprocess.run(
        [program, *command.words], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert doctest.OutputChecker().check_output(command.output + "\n", done.stdout, FLAGS), done.stdout


@pytest.mark.parametrize("command", commands(), ids=label)
def test_every_command_names_a_verb_and_options_that_exist(command):
    verb, *words = command.words
    if verb.startswith("-"):
        return
    shown = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [verb, "--help"])
    assert shown.exit_code == 0, command.words
    for option in (word for word in words if word.startswith("--")):
        assert option in shown.stdout, (label(command), option)


def test_the_readme_gives_the_two_commands_and_the_script_takes_the_second_from_there():
    shell = [line for block in blocks(PAGES[0]) if block.language == "sh" for line in block.lines]
    assert {RUN, TEST} <= set(shell)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -m1 -E '(.*)' README\.md", script)
    assert pattern is not None
    found = [line for line in PAGES[0].read_text(encoding="utf-8").splitlines() if re.search(pattern[1], line)]
    assert found == [TEST]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if not re.match(r"https?:|mailto:", target):
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"
    for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text):
        assert (page.parent / f"{target}.md").is_file(), f"{name_of(page)} refers to {target}"
