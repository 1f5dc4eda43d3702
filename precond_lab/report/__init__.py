"""Pages and figures made from stored rows alone."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from precond_lab.report.contents import gather
from precond_lab.report.ledger import RECORD, Entry, entries, record, refresh, write_index, write_ledger
from precond_lab.report.page import markdown
from precond_lab.report.tables import csv_text
from precond_lab.report.values import Row
from precond_lab.report.webpage import webpage
from precond_lab.study.declaration import Provenance, Study

__all__ = ["Entry", "ReportPaths", "entries", "refresh", "write", "write_index", "write_ledger"]


class ReportPaths(NamedTuple):
    """Where a report was written.

    Attributes:
        markdown: The page that is committed.
        html: The page as one file that needs no other.
        problems: What could not be shown, one sentence each; empty if all is well.
    """

    markdown: Path
    html: Path
    problems: tuple[str, ...]


def write(study: Study, rows: Iterable[Row], provenance: Provenance, output: Path) -> ReportPaths:
    """Write the report of a study from its stored rows.

    The same rows and provenance give the same bytes in every file. In a folder named `reports`, the pages
    over all reports there are refreshed too.

    Args:
        study: The declaration.
        rows: The measured rows, in any order.
        provenance: Where they come from.
        output: The folder of the report; made if need be. Files that an earlier report left there and that
            this one does not have are removed, others are left alone.

    Returns:
        The paths of the two pages, with the problems met.
    """
    contents = gather(study, rows, provenance)
    html_name = f"{contents.name}.html"
    summary = record(contents)
    claims = csv_text(summary["claims"], ("name", "status", "sentence", "figure", "source"))
    files: dict[str, bytes] = {
        "index.md": markdown(contents).encode(),
        html_name: webpage(contents).encode(),
        "claims.csv": claims.encode(),
    }
    for picture in contents.pictures:
        if picture.svg is not None:
            files[f"{picture.name}.svg"] = picture.svg.encode()
        if picture.csv:
            files[f"{picture.name}.csv"] = picture.csv.encode()
    if contents.rows_file.name:
        files[contents.rows_file.name] = contents.rows_file.content
    _replace(output, files, summary)
    if output.resolve().parent.name == "reports":
        refresh(output.resolve().parent)
    return ReportPaths(output / "index.md", output / html_name, contents.problems)


def _replace(output: Path, files: dict[str, bytes], summary: dict) -> None:
    """Write the files of a report; remove those of its forerunner that it no longer has."""
    output.mkdir(parents=True, exist_ok=True)
    try:
        before = json.loads((output / RECORD).read_text(encoding="utf-8")).get("files", [])
    except (OSError, ValueError, AttributeError):
        before = []
    for name in before:
        if name not in files and isinstance(name, str) and Path(name).name == name:
            (output / name).unlink(missing_ok=True)
    for name, content in files.items():
        (output / name).write_bytes(content)
    text = json.dumps({**summary, "files": sorted(files)}, indent=2, ensure_ascii=False)
    (output / RECORD).write_text(text + "\n", encoding="utf-8")
