"""Keeps the rows of one run in one SQLite file.

One process writes, any number read meanwhile (write-ahead log). Whatever has been committed survives a kill
at any instant. Numbers come back bit for bit: JSON holds the shortest decimal that names each double, and the
three values that JSON lacks are written as `{"float": "nan"}`, `{"float": "inf"}`, `{"float": "-inf"}`, which
no plain value can be.
"""

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from precond_lab.study.declaration import Case, Options, Plain, Row, canonical, order

SCHEMA = 1
"""Stored as `PRAGMA user_version`; raised when the tables change."""

APPLICATION = 0x50_43_4C_42
"""Stored as `PRAGMA application_id`, the letters PCLB: tells our files from other SQLite files."""

FILE = "rows.sqlite"

_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS planned (id TEXT PRIMARY KEY, parameters TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    id TEXT PRIMARY KEY,
    parameters TEXT NOT NULL,
    figures TEXT,
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
    traceback TEXT,
    attempts INTEGER NOT NULL,
    seconds REAL NOT NULL,
    git_commit TEXT,
    versions TEXT NOT NULL,
    device TEXT NOT NULL,
    finished TEXT NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA};
COMMIT;
"""


class StoreError(Exception):
    """A file of rows that cannot be used: corrupt, of another program or version, in use, or unwritable."""


class Record(NamedTuple):
    """A case with what became of it.

    Attributes:
        case: The case.
        status: `ok` or `failed`.
        figures: What was measured; None if it failed.
        traceback: Why it failed, else None.
        attempts: How often measuring it was begun.
        seconds: Wall time of the measurement; in a batch, the case's share.
        commit: Git commit of the study's code, `-dirty` appended if it had changes, or None.
        versions: Library to version.
        device: What it ran on.
        finished: UTC time in ISO 8601.
    """

    case: Case
    status: str
    figures: Mapping[str, Plain] | None
    traceback: str | None
    attempts: int
    seconds: float
    commit: str | None
    versions: Mapping[str, str]
    device: str
    finished: str

    @property
    def row(self) -> Row:
        """Parameters and figures merged flat."""
        return self.case.parameters | dict(self.figures or {})


class Meta(NamedTuple):
    """The run that a file belongs to.

    Attributes:
        study: Name of the study.
        version: Its version.
        location: The file that declares it, as it was when the run was last started.
        options: Options of the run.
        begun: UTC time at which the run was begun.
        resumed: UTC time at which it was last started or resumed.
    """

    study: str
    version: int
    location: str
    options: Options
    begun: str
    resumed: str


def encode(figures: Mapping[str, Plain]) -> str:
    """Figures as strictly valid JSON.

    Args:
        figures: Plain values; nan and infinities allowed.

    Returns:
        JSON text.

    >>> encode({"error": float("inf"), "steps": 3})
    '{"error":{"float":"inf"},"steps":3}'
    """
    return canonical({
        name: {"float": repr(value)} if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    })


def decode(text: str) -> Row:
    """The inverse of `encode`.

    Args:
        text: What `encode` gave.

    Returns:
        The figures.

    >>> decode('{"error":{"float":"inf"},"steps":3}')
    {'error': inf, 'steps': 3}
    """
    return {
        name: float(value["float"]) if isinstance(value, dict) else value for name, value in json.loads(text).items()
    }


def _printable(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


class Store:
    """The rows of one study under one label. Open it with `Store.create` or `Store.read`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Wrap an open connection.

        Args:
            path: The file, for messages.
            connection: Connection whose schema has been checked.
        """
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path) -> "Store":
        """Open for writing; the file is made if there is none.

        Args:
            path: The file.

        Returns:
            The open store.

        Raises:
            StoreError: The folder or the file cannot be written, or is not a store of this version.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {path.parent}: {error}; choose another with --runs") from error
        with _guard(path), contextlib.ExitStack() as on_failure:
            connection = on_failure.enter_context(contextlib.closing(sqlite3.connect(path, timeout=60)))
            # A kill while the tables were being made leaves a file whose schema number is still 0.
            if _check(path, connection, empty_allowed=True) == 0:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_TABLES)
            connection.execute("PRAGMA synchronous = NORMAL")
            on_failure.pop_all()
        return cls(path, connection)

    @classmethod
    def read(cls, path: Path) -> "Store":
        """Open for reading, also while a run writes.

        Args:
            path: The file.

        Returns:
            The open store.

        Raises:
            StoreError: There is no such file, or it is not a store of this version.
        """
        if not path.is_file():
            raise StoreError(f"{path} does not exist")
        with _guard(path), contextlib.ExitStack() as on_failure:
            address = f"{path.resolve().as_uri()}?mode=ro"
            connection = on_failure.enter_context(contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)))
            _check(path, connection, empty_allowed=False)
            on_failure.pop_all()
        return cls(path, connection)

    def __enter__(self) -> "Store":
        """Return itself.

        Returns:
            The store.
        """
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file; SQLite folds the write-ahead log into it."""
        self._connection.close()

    def plan(self, meta: Meta, cases: Iterable[Case]) -> None:
        """Note which run this is and which cases it consists of, in one transaction.

        Args:
            meta: The run.
            cases: Its grid; rows of other cases stay in the file and are left out of what is read.
        """
        values = meta._asdict() | {"options": asdict(meta.options)}
        with _guard(self.path), self._connection as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [(key, canonical(value)) for key, value in values.items()],
            )
            connection.execute("DELETE FROM planned")
            connection.executemany(
                "INSERT INTO planned VALUES (?, ?)", [(case.id, canonical(case.parameters)) for case in cases]
            )

    def save(self, records: Iterable[Record]) -> None:
        """Write records in one transaction; a case that is there already is replaced.

        Args:
            records: What became of some cases.
        """
        rows = [
            (
                record.case.id,
                canonical(record.case.parameters),
                None if record.figures is None else encode(record.figures),
                record.status,
                _printable(record.traceback),
                record.attempts,
                record.seconds,
                record.commit,
                canonical(dict(record.versions)),
                record.device,
                record.finished,
            )
            for record in records
        ]
        with _guard(self.path), self._connection as connection:
            connection.executemany(f"INSERT OR REPLACE INTO rows VALUES ({', '.join('?' * 11)})", rows)

    def meta(self) -> Meta | None:
        """The run the file belongs to.

        Returns:
            None if the run was stopped before it was noted.
        """
        with _guard(self.path):
            values = {key: json.loads(value) for key, value in self._connection.execute("SELECT * FROM meta")}
            if not values:
                return None
            values["options"] = Options(**values["options"])
            return Meta(**values)

    def statuses(self) -> dict[str, str | None]:
        """What became of each planned case.

        Returns:
            Identity of the case to `ok`, `failed`, or None if it has not been run.
        """
        with _guard(self.path):
            return dict(self._connection.execute("SELECT planned.id, status FROM planned LEFT JOIN rows USING (id)"))

    def records(self) -> list[Record]:
        """The planned cases that have been run, in an order that does not depend on that of the run.

        Returns:
            Measured and failed cases.
        """
        with _guard(self.path):
            cursor = self._connection.cursor()
            cursor.row_factory = sqlite3.Row
            cursor.execute("SELECT rows.* FROM rows JOIN planned USING (id)")
            records = [
                Record(
                    case=Case(row["id"], dict(json.loads(row["parameters"]))),
                    status=row["status"],
                    figures=None if row["figures"] is None else decode(row["figures"]),
                    traceback=row["traceback"],
                    attempts=row["attempts"],
                    seconds=row["seconds"],
                    commit=row["git_commit"],
                    versions=dict(json.loads(row["versions"])),
                    device=row["device"],
                    finished=row["finished"],
                )
                for row in cursor
            ]
            return sorted(records, key=lambda record: order(record.case.parameters))

    def rows(self) -> list[Row]:
        """Parameters and figures of the measured cases, merged flat.

        Returns:
            Rows as `answer`, figures and claims take them.
        """
        return [record.row for record in self.records() if record.status == "ok"]


def _check(path: Path, connection: sqlite3.Connection, *, empty_allowed: bool) -> int:
    """Refuse what is not a sound file of this schema; return the schema number, 0 for an empty file."""
    schema = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if schema == 0 and application == 0 and not tables:
        if empty_allowed:
            return 0
        raise StoreError(f"{path} is empty; the run that made it was stopped at its start: run it again")
    if application != APPLICATION:
        raise StoreError(f"{path} is an SQLite file of another program; move it away and run again")
    if schema != SCHEMA:
        raise StoreError(
            f"{path} has schema {schema}, and this precond_lab reads {SCHEMA}; "
            "use the precond_lab that wrote it, or move the file away and run again"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok" or not {"meta", "planned", "rows"} <= tables:
        raise StoreError(f"{path} is corrupt ({verdict}); move it away and run again")
    return schema


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Turn what SQLite and JSON say about a bad file into a StoreError that says what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"cannot use {path}: {error}; is the folder writable, the disk full, the file in use?"
        ) from error
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{path} is corrupt ({error}); move it away and run again") from error


def rows_file(runs: Path, study: str, options: Options) -> Path:
    """Where the rows of a study under some options are kept.

    Args:
        runs: The folder of all runs.
        study: Name of the study.
        options: Options of the run.

    Returns:
        `RUNS/STUDY/LABEL/rows.sqlite`.
    """
    return runs / study / options.label / FILE
