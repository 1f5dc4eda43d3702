"""The page of a report in Markdown."""

import re
from collections.abc import Iterable, Mapping

from precond_lab.report.contents import MARKS, SHOWN_FAILURES, Contents, Picture
from precond_lab.report.values import brief


def markdown(contents: Contents) -> str:
    """Set the contents as the Markdown page that is committed.

    Args:
        contents: What the page says.

    Returns:
        CommonMark with tables; the files that it links lie in the same folder.
    """
    blocks = [
        f"# {contents.name}",
        f"**{flat(contents.question)}**",
        quote(contents.answer),
        *[f"*{notice}*" for notice in contents.notices],
        _summary(contents),
        "## Figures" if contents.pictures else "",
        *[_figure(picture) for picture in contents.pictures],
        *_claims(contents),
        *_grid(contents),
        *_failures(contents),
        *_rerun(contents),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def flat(text: str) -> str:
    """Put a text on one line.

    Args:
        text: Any text.

    Returns:
        The text with every run of blanks and line ends as one blank; a blank that joins words stays.
    """
    return re.sub(r"[ \t\r\n]+", " ", text).strip()


def quote(text: str) -> str:
    """Set a text as a quotation.

    Args:
        text: Markdown, of one or more paragraphs.

    Returns:
        The text with `>` before every line.
    """
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Set a table.

    Args:
        head: The titles of the columns.
        rows: The cells, in Markdown.

    Returns:
        The table; a bar within a cell is escaped.
    """
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[flat(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def code(text: str) -> str:
    """Set a text literally, whatever is in it.

    Args:
        text: Any text.

    Returns:
        A code span.
    """
    text = flat(text)
    fence = "``" if "`" in text else "`"
    blank = " " if "`" in text else ""
    return f"{fence}{blank}{text.replace('``', '` `')}{blank}{fence}"


def case(parameters: Mapping[str, object]) -> str:
    """Name a case.

    Args:
        parameters: Its place in the grid.

    Returns:
        For instance "format=bfloat16, layer=2".
    """
    return ", ".join(f"{name}={brief(value)}" for name, value in parameters.items())


def tally(statuses: dict[str, int]) -> str:
    """Say how many claims have each status.

    Args:
        statuses: Status to count.

    Returns:
        For instance "✓ 3 confirmed, ○ 1 open".
    """
    return ", ".join(f"{MARKS[status]} {count} {status}" for status, count in statuses.items())


def _summary(contents: Contents) -> str:
    date = (contents.provenance.finished or "")[:10]
    parts = [
        f"{contents.rows} rows",
        contents.provenance.options.label,
        date,
        tally(contents.statuses),
        f"[all of it as one HTML file]({contents.name}.html)",
    ]
    return " · ".join(part for part in parts if part)


def _figure(picture: Picture) -> str:
    lines = [f"### {flat(picture.title)}"]
    if picture.svg is None:
        lines.append(f"**Not drawn:** {code(picture.problem or '')}")
    else:
        lines.append(f"![{flat(picture.title)}]({picture.name}.svg)")
    lines.append(flat(picture.caption))
    if picture.csv:
        lines.append(f"Data: [{picture.name}.csv]({picture.name}.csv), {len(picture.table)} rows.")
    return "\n\n".join(line for line in lines if line)


def _claims(contents: Contents) -> list[str]:
    if not contents.claims:
        return []
    blocks = ["## Claims"]
    for claim, judgement in contents.claims:
        status = judgement.status.value
        blocks.append(
            f"- **{claim.name} · {MARKS[status]} {status}.** {flat(claim.sentence)}\n\n"
            f"  Decided by: {flat(judgement.figure)}\n\n"
            f"  Source: {flat(claim.source)}"
        )
    blocks.append("The same as a table: [claims.csv](claims.csv).")
    return blocks


def _grid(contents: Contents) -> list[str]:
    blocks = ["## Grid"]
    if contents.axes:
        rows = [[code(axis.name), ", ".join(axis.shown), str(len(axis.values))] for axis in contents.axes]
        blocks.append(table(["axis", "values", "how many"], rows))
    kept = contents.rows_file
    if kept.name:
        blocks.append(f"{contents.rows} rows: [{kept.name}]({kept.name}), {kept.note}.")
    else:
        blocks.append(f"{contents.rows} rows. {kept.note}")
    return blocks


def _failures(contents: Contents) -> list[str]:
    failures = contents.provenance.failures
    if not failures:
        return []
    rows = [[case(failure.parameters), code(failure.reason)] for failure in failures[:SHOWN_FAILURES]]
    more = len(failures) - len(rows)
    return ["## Failed cases", table(["case", "reason"], rows), f"And {more} more." if more else ""]


def _rerun(contents: Contents) -> list[str]:
    return [
        "## Run it again",
        f"```console\n$ {contents.provenance.command}\n```",
        "\n".join(f"- {label}: {text}" for label, text in contents.facts),
    ]
