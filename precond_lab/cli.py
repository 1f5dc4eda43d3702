"""The shell: one verb for each thing that a person asks of studies and formats."""

import contextlib
import functools
import importlib.metadata
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, ParamSpec, TypeVar

import typer

from precond_lab.arithmetic import formats as table_of_formats
from precond_lab.arithmetic.formats import Format
from precond_lab.study.crew import RunError
from precond_lab.study.declaration import Options, Study, StudyError
from precond_lab.study.loading import available, load, locate
from precond_lab.study.progress import shown
from precond_lab.study.provenance import StoredRun, nearby, stored_files, stored_run
from precond_lab.study.runner import run as run_study
from precond_lab.study.store import StoreError, rows_file
from precond_lab.study.summary import failure_lines, ledger, overview, sentences, summary
from precond_lab.study.table import print_table

app = typer.Typer(
    help="Will this preconditioner survive low precision, where does it break, and what cures it?",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyName = Annotated[str, typer.Argument(help="Folder or file of a study, or its name.")]
Quick = Annotated[bool, typer.Option("--quick", help="The small form of the study: minutes.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder of data to run on.", exists=True, file_okay=False),
]
DataName = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The data it was run on.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of all runs.", envvar="PRECOND_LAB_RUNS")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Processes; default: one a processor; 0: in this process."),
]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Run failed cases again.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]
RUNS = Path("runs")
SIZES = ("unit_roundoff", "max", "min_normal", "min_subnormal")

P = ParamSpec("P")
R = TypeVar("R")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(text: str, code: int) -> NoReturn:
    _say(f"precond-lab: {text}")
    raise typer.Exit(code)


def _verb(body: Callable[P, R]) -> Callable[P, R]:
    """Make a function a verb whose expected failures are a line of text with an exit code."""

    @functools.wraps(body)
    def verb(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return body(*arguments, **options)
        except StudyError as error:
            _stop(str(error), 2)
        except StoreError as error:
            _stop(str(error), 4)
        except RunError as error:
            _stop(f"{error}; what has been measured is kept", 1)
        except KeyboardInterrupt:
            _stop("interrupted", 130)

    return app.command(name=body.__name__.strip("_"))(verb)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def _version(asked: bool) -> None:
    if asked:
        print(f"precond-lab {importlib.metadata.version('precond_lab')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _options(quick: bool, data: Path | None) -> Options:
    return Options(quick, None if data is None else str(data.resolve()))


@_verb
def run(
    study: StudyName,
    quick: Quick = False,
    data: Data = None,
    workers: Workers = None,
    retry_failed: Retry = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Run what is not stored yet of a study, then write its report.

    Interrupted in any way, it goes on where it was when started again.

    Example: precond-lab run studies/sonew_tridiagonal --quick
    """
    _run(locate(study), _options(quick, data), workers, retry_failed, runs, as_json)


@_verb
def resume(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Only a run of this one.")] = None,
    workers: Workers = None,
    retry_failed: Retry = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Go on with the most recent unfinished run, with the options it was started with.

    Example: precond-lab resume
    """
    name = None if study is None else load(study).name
    stored = [stored_run(path) for path in stored_files(runs, name)]
    unfinished = [
        run for run in stored if run.provenance.cases_missing or (retry_failed and run.provenance.cases_failed)
    ]
    if not unfinished:
        _say(f"precond-lab: nothing to resume: {len(stored)} stored runs, all complete")
        if as_json:
            _print_json(None)
        return
    last = max(unfinished, key=lambda run: run.meta.resumed)
    _say(f"resuming: {last.provenance.command}")
    location = locate(last.meta.location if study is None else study)
    _run(location, last.meta.options, workers, retry_failed, runs, as_json)


def _run(location: Path, options: Options, workers: int | None, retry_failed: bool, runs: Path, as_json: bool) -> None:
    study = load(location)
    try:
        with shown(f"{study.name} ({options.label})") as listen:
            outcome = run_study(location, options, runs, workers=workers, retry_failed=retry_failed, listen=listen)
    except KeyboardInterrupt:
        where = "" if runs == RUNS else f" --runs {shlex.quote(nearby(runs.resolve()))}"
        _stop(f"interrupted; what has been measured is kept. Go on with: precond-lab resume{where}", 130)
    stored = stored_run(outcome.path)
    try:
        pages = _write_report(study, stored, outcome.path.parent / "report")
    except Exception:  # noqa: BLE001  a page that cannot be drawn must not hide that the rows are safe
        _say(f"{traceback.format_exc()}precond-lab: the rows are stored, but the report could not be written")
        pages = None
    _print_summary(study, stored, pages, as_json)
    if outcome.failed or pages is None:
        raise typer.Exit(1)


class _Pages(NamedTuple):
    html: str
    markdown: str
    problems: tuple[str, ...]


def _write_report(study: Study, stored: StoredRun, output: Path) -> _Pages:
    from precond_lab import report as room  # noqa: PLC0415  loads matplotlib, which no other verb needs

    pages = room.write(study, stored.rows, stored.provenance, output)
    return _Pages(str(pages.html.resolve()), str(pages.markdown.resolve()), tuple(pages.problems))


def _print_summary(study: Study, stored: StoredRun, pages: _Pages | None, as_json: bool) -> None:
    found = summary(study, stored)
    if as_json:
        _print_json(found | {"report": None if pages is None else pages._asdict()})
        return
    print("\n".join(sentences(found)))
    if pages is not None:
        for problem in pages.problems:
            _say(f"precond-lab: report: {problem}")
        print(f"Report: {nearby(pages.html)}\n        {nearby(pages.markdown)}")


def _readable(paths: Iterable[Path]) -> tuple[list[StoredRun], list[str]]:
    """Read all runs that can be read: one bad file must not hide the others."""
    found, errors = [], []
    for path in paths:
        try:
            found.append(stored_run(path))
        except StoreError as error:
            errors.append(str(error))
            _say(f"precond-lab: {error}")
    return found, errors


@_verb
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="Only this one.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Show the stored runs: how many cases are measured, failed, missing.

    Example: precond-lab status sonew_tridiagonal
    """
    name = None if study is None else load(study).name
    found, errors = _readable(stored_files(runs, name))
    entries = [overview(run) for run in found]
    if as_json:
        _print_json(entries)
    elif entries:
        head = ("study", "run", "state", "cases", "ok", "failed", "missing", "resumed")
        print_table(head, [[entry[column] for column in head] for entry in entries], right=head[3:7])
        for entry in entries if study is not None else []:
            print("\n".join(failure_lines(entry["failures"])), end="\n" if entry["failures"] else "")
    elif not errors:
        print(f"No runs are stored under {nearby(runs.resolve())}.")
    if errors:
        raise typer.Exit(4)


@_verb
def report(
    study: StudyName,
    quick: Quick = False,
    data: DataName = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="DIR", help="Default: docs/reports/NAME.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write the page of a study from its stored rows: Markdown, SVG with CSV, one HTML file.

    Example: precond-lab report studies/sonew_tridiagonal --quick --output page
    """
    location = locate(study)
    declared, options = load(location), _options(quick, data)
    path = rows_file(runs, declared.name, options)
    if not path.is_file():
        labels = ", ".join(other.parent.name for other in stored_files(runs, declared.name)) or "none"
        wanted = f"no rows of {declared.name} are stored for the run {options.label!r} (stored: {labels})"
        raise StudyError(f"{wanted}; run it first, or choose another with --quick or --data")
    stored = stored_run(path)
    if stored.meta.version != declared.version:
        versions = f"version {stored.meta.version}, and the study is now version {declared.version}"
        raise StudyError(f"the rows in {path} are of {versions}; run it again")
    try:
        pages = _write_report(declared, stored, output or Path("docs") / "reports" / declared.name)
    except (OSError, ValueError) as error:
        _stop(f"the report could not be written: {error}", 4)
    _print_summary(declared, stored, pages, as_json)


@_verb
def claims(
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Judge the claims of the literature over the stored rows, with the figure that decides.

    Example: precond-lab claims sonew_tridiagonal
    """
    entries: list[dict[str, str]] = []
    errors: list[str] = []
    for name in studies or [str(path) for path in available().values()]:
        study = load(name)
        found, unreadable = _readable(stored_files(runs, study.name))
        errors += unreadable
        entries += ledger(study, found)
    if as_json:
        _print_json(entries)
    elif entries:
        head = ("study", "run", "name", "status", "figure", "sentence", "source")
        print_table(head, [[entry[column] for column in head] for entry in entries])
    else:
        print("No claims.")
    if errors:
        raise typer.Exit(4)


@_verb
def list_(as_json: Json = False) -> None:
    """List the studies under ./studies with their questions.

    Example: precond-lab list
    """
    entries: list[dict[str, object]] = []
    for path in available().values():
        try:
            study = load(path)
        except StudyError as error:
            _say(f"precond-lab: {error}")
            continue
        entries.append({
            "study": study.name,
            "version": study.version,
            "claims": len(study.claims),
            "question": study.question,
            "path": nearby(path.resolve()),
        })
    if as_json:
        _print_json(entries)
    elif entries:
        print_table(tuple(entries[0]), [tuple(entry.values()) for entry in entries], ("version", "claims"))
    else:
        print("No studies under ./studies.")


@_verb
def formats(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A format or an alias.")] = None,
    as_json: Json = False,
) -> None:
    """Show the named number formats, or one of them.

    Example: precond-lab formats bfloat16
    """
    try:
        chosen = list(table_of_formats.NAMED.values()) if name is None else [table_of_formats.named(name)]
    except ValueError as error:
        _stop(str(error), 2)
    if as_json:
        entries = [_format(format) for format in chosen]
        _print_json(entries if name is None else entries[0])
    elif name is None:
        numbers = ("bits", "precision", *(size.replace("_", " ") for size in SIZES))
        head = ("name", *numbers, "overflow")
        names = [column.replace(" ", "_") for column in head]
        rows = [[_short(getattr(format, name)) for name in names] for format in chosen]
        print_table(head, rows, right=numbers)
    else:
        _print_format(chosen[0])


def _short(value: float | str) -> str:
    exact = str(value).removesuffix(".0")
    return f"{value:.4g}" if isinstance(value, float) and len(exact) > 10 else exact


def _format(format: Format) -> dict[str, Any]:
    derived = ("bits", "exponent_bits", "machine_epsilon", "has_infinity", *SIZES)
    values = asdict(format) | {name: getattr(format, name) for name in derived}
    return values | {"aliases": list(table_of_formats.aliases(format))}


def _print_format(format: Format) -> None:
    aliases = ", ".join(table_of_formats.aliases(format))
    precision, lowest = format.precision, format.min_exponent
    smallest = f"2^{lowest - precision + 1} = {format.min_subnormal!r}"
    becomes = {"infinity": "becomes infinity", "nan": "becomes NaN", "saturate": "becomes the largest number"}
    lines = {
        "bits": f"{format.bits}: 1 sign, {format.exponent_bits} exponent, {precision - 1} fraction",
        "precision": f"{precision} significant bits, the implicit one included",
        "unit roundoff": f"2^-{precision} = {format.unit_roundoff!r}, relative error of rounding to nearest",
        "machine epsilon": f"2^{1 - precision} = {format.machine_epsilon!r}, from 1 to the next number",
        "largest": f"{format.max!r}, exponent {format.max_exponent}",
        "smallest normal": f"2^{lowest} = {format.min_normal!r}",
        "smallest subnormal": smallest if format.subnormals else "none",
        "overflow": becomes[format.overflow],
    }
    print(f"{format.name} (also {aliases})" if aliases else format.name)
    for label, text in lines.items():
        print(f"  {label:<20}{text}")


def main() -> None:
    """Run the shell; the entry point of the command `precond-lab`."""
    with contextlib.suppress(BrokenPipeError):
        app(prog_name="precond-lab")


if __name__ == "__main__":
    main()
