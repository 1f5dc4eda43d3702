"""Reads back a stored run with where its rows come from."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from precond_lab.study.declaration import Failure, Options, Provenance, Row
from precond_lab.study.store import FILE, Meta, Record, Store, StoreError


class StoredRun(NamedTuple):
    """A run as it stands in its file."""

    path: Path
    meta: Meta
    rows: list[Row]
    provenance: Provenance

    @property
    def label(self) -> str:
        """Name of its folder: `quick`, `full`, or either with the name of the data."""
        return self.meta.options.label


def nearby(path: str | Path) -> str:
    """A path as one would type it here: relative to the current directory where that is shorter.

    Args:
        path: Absolute path.

    Returns:
        Text of the path.
    """
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def command_line(location: str | Path, options: Options) -> str:
    """The command that makes a run.

    Args:
        location: File that declares the study.
        options: Of the run.

    Returns:
        For instance `precond-lab run studies/sonew_tridiagonal --quick`.
    """
    path = Path(location)
    words = ["precond-lab", "run", nearby(path.parent if path.name == "study.py" else path)]
    words += ["--quick"] * options.quick
    words += ["--data", nearby(options.data)] if options.data is not None else []
    return shlex.join(words)


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}))


def provenance(meta: Meta, records: list[Record], missing: int) -> Provenance:
    """Sum up where rows come from.

    Args:
        meta: The run.
        records: Its settled cases.
        missing: Number of cases not run yet.

    Returns:
        The provenance.
    """
    failed = [record for record in records if record.status == "failed"]
    libraries = sorted({library for record in records for library in record.versions})
    return Provenance(
        study=meta.study,
        version=meta.version,
        options=meta.options,
        command=command_line(meta.location, meta.options),
        commits=_distinct(record.commit for record in records),
        versions={library: _distinct(record.versions.get(library) for record in records) for library in libraries},
        devices=_distinct(record.device for record in records),
        started=meta.begun if records else None,
        finished=max((record.finished for record in records), default=None),
        cases_ok=len(records) - len(failed),
        cases_failed=len(failed),
        cases_missing=missing,
        compute_seconds=sum(record.seconds for record in records),
        failures=tuple(
            Failure(
                record.case.parameters,
                (record.traceback or "").strip().rpartition("\n")[2],
                record.traceback or "",
            )
            for record in failed
        ),
    )


def stored_run(path: Path) -> StoredRun:
    """Read one run.

    Args:
        path: Its file of rows.

    Returns:
        The run as it stands, complete or not.

    Raises:
        StoreError: The file cannot be used.
    """
    with Store.read(path) as store:
        meta = store.meta()
        if meta is None:
            raise StoreError(f"{path} is empty; the run that made it was stopped at its start: run it again")
        records = store.records()
        missing = list(store.statuses().values()).count(None)
        rows = [record.row for record in records if record.status == "ok"]
        return StoredRun(path, meta, rows, provenance(meta, records, missing))


def stored_files(runs: Path, study: str | None = None) -> list[Path]:
    """Files of rows.

    Args:
        runs: The folder of all runs.
        study: Of this study only.

    Returns:
        `RUNS/STUDY/LABEL/rows.sqlite`, sorted.
    """
    return sorted(runs.glob(f"{'*' if study is None else study}/*/{FILE}"))
