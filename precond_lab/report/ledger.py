"""The pages over all reports of a folder."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from precond_lab.report.contents import MARKS, Contents
from precond_lab.report.page import code, flat, quote, table, tally

RECORD = "report.json"
"""The file beside the page of each report from which the pages over all reports are made."""

GENERATED = "<!-- Written by `precond-lab report`: a change made here is lost. -->"

SHOWN = {"answer", "claims", "command", "figure", "finished", "label", "question", "rows", "statuses"}
"""What these pages need of each record."""

ABOUT_REPORTS = """\
Each report answers one question from rows that anybody can measure again with the command beside it.
The [ledger of claims](claims.md) lists every claim that they settle."""

ABOUT_CLAIMS = """\
Sentences from the literature, and sentences derived here, each held against the rows of a study. *Confirmed*
and *refuted* are decided by the figure named beside them; *open* means that the rows do not decide."""


class Entry(NamedTuple):
    """A committed report.

    Attributes:
        folder: Its name within the folder of reports.
        record: What its `report.json` holds.
    """

    folder: str
    record: dict


def record(contents: Contents) -> dict:
    """Sum up a report for the pages over all reports.

    Args:
        contents: What the report says.

    Returns:
        Plain values that JSON can hold.
    """
    drawn = [picture for picture in contents.pictures if picture.svg is not None]
    figure = {"file": f"{drawn[0].name}.svg", "title": flat(drawn[0].title)} if drawn else None
    return {
        "study": contents.name,
        "version": contents.version,
        "label": contents.provenance.options.label,
        "question": flat(contents.question),
        "answer": contents.answer.strip(),
        "rows": contents.rows,
        "finished": contents.provenance.finished,
        "command": contents.provenance.command,
        "statuses": contents.statuses,
        "figure": figure,
        "claims": [
            {
                "name": claim.name,
                "status": judgement.status.value,
                "sentence": flat(claim.sentence),
                "figure": flat(judgement.figure),
                "source": flat(claim.source),
            }
            for claim, judgement in contents.claims
        ],
    }


def entries(folder: Path) -> list[Entry]:
    """Read the reports of a folder.

    Args:
        folder: The folder that holds one folder for each report.

    Returns:
        One entry for each, by name.

    Raises:
        ValueError: If a `report.json` is damaged.
    """
    found = []
    for path in sorted(folder.glob(f"*/{RECORD}")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}): write that report again") from error
        if not (isinstance(content, dict) and content.keys() >= SHOWN):
            raise ValueError(f"{path} lacks some of {', '.join(sorted(SHOWN))}: write that report again")
        found.append(Entry(path.parent.name, content))
    return found


def write_ledger(found: Iterable[Entry], output: Path) -> Path:
    """Write the ledger of claims over all reports.

    Args:
        found: The reports.
        output: The Markdown file, in the folder that holds them.

    Returns:
        The file.
    """
    found = [entry for entry in found if entry.record["claims"]]
    statuses = [claim["status"] for entry in found for claim in entry.record["claims"]]
    counted = {status: statuses.count(status) for status in MARKS if status in statuses}
    blocks = [
        GENERATED,
        "# Ledger of claims",
        ABOUT_CLAIMS,
        f"{len(statuses)} claims: {tally(counted)}." if statuses else "No claim has been judged yet.",
    ]
    for entry in found:
        rows = [
            [
                f"**{claim['name']}**",
                f"{MARKS[claim['status']]}\u00a0{claim['status']}",
                claim["sentence"],
                claim["figure"],
                claim["source"],
            ]
            for claim in entry.record["claims"]
        ]
        blocks += [
            f"## [{entry.folder}]({entry.folder}/index.md)",
            entry.record["question"],
            table(["claim", "status", "sentence", "decided by", "source"], rows),
        ]
    return _write(output, blocks)


def write_index(folder: Path) -> Path:
    """Write the index of reports: question, answer, picture.

    Args:
        folder: The folder that holds one folder for each report.

    Returns:
        Its `index.md`.
    """
    found = entries(folder)
    blocks = [
        GENERATED,
        "# Reports",
        ABOUT_REPORTS,
    ]
    for entry in found:
        blocks += _entry(entry)
    if found:
        listed = "\n".join(f"{entry.folder}/index" for entry in found)
        blocks.append("```{toctree}\n:hidden:\n\n" + listed + "\n```")
    else:
        blocks.append("No report has been written yet.")
    return _write(folder / "index.md", blocks)


def refresh(folder: Path) -> None:
    """Write both pages over all reports of a folder again.

    Args:
        folder: The folder that holds one folder for each report; gets `index.md`, `claims.md`.
    """
    write_index(folder)
    write_ledger(entries(folder), folder / "claims.md")


def _entry(entry: Entry) -> list[str]:
    """Set one report within the index."""
    content, link = entry.record, f"{entry.folder}/index.md"
    figure = content["figure"]
    summary = [
        f"{content['rows']} rows",
        content["label"],
        (content["finished"] or "")[:10],
        tally(content["statuses"]),
        f"[the report]({link})",
    ]
    return [
        f"## {entry.folder}",
        f"**{content['question']}**",
        quote(content["answer"]),
        f"[![{figure['title']}]({entry.folder}/{figure['file']})]({link})" if figure else "",
        " · ".join(part for part in summary if part),
        f"Run it again: {code(content['command'])}",
    ]


def _write(path: Path, blocks: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(block for block in blocks if block) + "\n", encoding="utf-8")
    return path
