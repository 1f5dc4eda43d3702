"""The shell: one verb for each thing that a person asks of studies and formats."""

import contextlib
import functools
import importlib.metadata
import json
import math
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
from precond_lab.arithmetic.specification import Arithmetic
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
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A format or an alias; also binary8p4se and other names of P3109."),
    ] = None,
    values: Annotated[bool, typer.Option("--values", help="List every value of a format of at most 8 bits.")] = False,
    as_json: Json = False,
) -> None:
    """Show the named number formats, or all about one of them.

    Example: precond-lab formats bfloat16
    """
    if name is None and values:
        _stop("--values lists the values of one format: name it", 2)
    try:
        chosen = list(table_of_formats.NAMED.values()) if name is None else [table_of_formats.named(name)]
    except ValueError as error:
        _stop(str(error), 2)
    if values and chosen[0].bits > 8:
        _stop(f"--values lists formats of at most 8 bits; {chosen[0]} has {chosen[0].bits}", 2)
    if as_json:
        entries = [_format(format, values) for format in chosen]
        _print_json(entries if name is None else entries[0])
    elif name is None:
        numbers = ("bits", "precision", *(size.replace("_", " ") for size in SIZES), "values")
        head = ("name", *numbers, "overflow")
        names = [column.replace(" ", "_") for column in head]
        rows = [[_short(getattr(format, name)) for name in names] for format in chosen]
        print_table(head, rows, right=numbers)
    else:
        _print_format(chosen[0], values)


def _short(value: float | str) -> str:
    exact = str(value).removesuffix(".0")
    return f"{value:.4g}" if isinstance(value, int | float) and len(exact) > 10 else exact


def _format(format: Format, with_values: bool) -> dict[str, Any]:
    derived = ("bits", "exponent_bits", "bias", "machine_epsilon", "min", "values", "codes", *SIZES)
    special = ("has_infinity", "infinity_code", "has_nan", "nan_code", "nan_codes")
    entry = asdict(format) | {name: getattr(format, name) for name in (*derived, *special)}
    entry |= {"aliases": list(table_of_formats.aliases(format)), "landmarks": table_of_formats.landmarks(format)}
    if with_values:  # JSON has neither infinity nor NaN
        every = [format.decode(code) for code in range(format.codes)]
        entry["by_code"] = [value if math.isfinite(value) else str(value) for value in every]
    return entry


def _print_format(format: Format, with_values: bool) -> None:
    heading = "\n  code points\n"
    properties, _, points = table_of_formats.describe(format).partition(heading)
    if with_values:
        every = range(format.codes)
        points = "\n".join(f"    {table_of_formats.spell(code, format)}  {format.decode(code)!r}" for code in every)
    print(f"{properties}\n  {'carrier':<20}{_carrier(format)}{heading}{points}")


def _carrier(format: Format) -> str:
    """Say in which native types the format is emulated."""
    try:
        carrier = Arithmetic(format).carrier_dtype
    except ValueError as error:
        return f"none: {error}"
    if carrier == "float64":
        with contextlib.suppress(ValueError):
            by_request = Arithmetic(format, carrier="float32").carrier_dtype
            return f"{carrier}; by request {by_request}, faster, with numbers below 2^-126 flushed to zero"
    return carrier


def main() -> None:
    """Run the shell; the entry point of the command `precond-lab`."""
    with contextlib.suppress(BrokenPipeError):
        app(prog_name="precond-lab")


if __name__ == "__main__":
    main()
