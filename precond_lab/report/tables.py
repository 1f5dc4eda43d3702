"""Tables as CSV files."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from precond_lab.report.values import Row, exact

LIMIT = 2_000_000
"""The most bytes that the rows of one study may take in a report folder, which people commit."""


class RowsFile(NamedTuple):
    """The rows of a study as a file: name, bytes, a note; without a name where they are too many."""

    name: str | None
    content: bytes
    note: str


def csv_text(rows: Iterable[Row], columns: Sequence[str]) -> str:
    r"""Write a table with full precision.

    Args:
        rows: The table; a row without one of the columns leaves that field empty.
        columns: Which, in order.

    Returns:
        The CSV text with a header line.

    >>> csv_text([{"n": 3, "error": 0.1}], ["n", "error"])
    'n,error\n3,0.1\n'
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([exact(row.get(name)) for name in columns] for row in rows)
    return stream.getvalue()


def rows_file(text: str, limit: int = LIMIT) -> RowsFile:
    """Choose how the rows of a study are kept beside its page.

    Args:
        text: The rows as CSV.
        limit: The most bytes that a file may have.

    Returns:
        `rows.csv` if it fits; else `rows.csv.gz` if that fits; else no file.
    """
    content = text.encode()
    if len(content) <= limit:
        return RowsFile("rows.csv", content, f"{_size(len(content))}, full precision")
    stream = io.BytesIO()
    # Neither a time nor a name in the header: the same rows give the same bytes.
    with gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0) as file:
        file.write(content)
    packed = stream.getvalue()
    if len(packed) <= limit:
        return RowsFile("rows.csv.gz", packed, f"{_size(len(packed))}, compressed; full precision")
    sizes = f"{_size(len(packed))}, more than {_size(limit)}"
    note = f"They are not kept beside this page: compressed they take {sizes}."
    return RowsFile(None, b"", note)


def _size(count: int) -> str:
    """Write a number of bytes for a person."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"
