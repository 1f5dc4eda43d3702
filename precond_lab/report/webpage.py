"""The page of a report as one HTML file that asks the network for nothing."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files

from markdown_it import MarkdownIt

from precond_lab.report.contents import MARKS, SHOWN_FAILURES, Contents, Picture
from precond_lab.report.figures import inline
from precond_lab.report.page import case
from precond_lab.report.values import brief, exact, is_number

SHOWN_ROWS = 200
EMBEDDED = 300_000
"""The most bytes of a CSV file that travel inside the page; a larger one is linked beside it."""


def webpage(contents: Contents) -> str:
    """Set the contents as one self-contained page.

    Args:
        contents: What the page says.

    Returns:
        HTML with its style and its drawings inside, and no script.
    """
    style = files("precond_lab.report").joinpath("page.css").read_text(encoding="utf-8")
    sections = {
        "figures": ("Figures", [_figure(picture) for picture in contents.pictures]),
        "claims": ("Claims", _claims(contents)),
        "grid": ("Grid", _grid(contents)),
        "failures": ("Failed cases", _failures(contents)),
        "rerun": ("Run it again", _rerun(contents)),
    }
    shown = {anchor: section for anchor, section in sections.items() if section[1]}
    body = "\n".join(_section(anchor, title, blocks) for anchor, (title, blocks) in shown.items())
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, (title, _) in shown.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="precond_lab">
<link rel="icon" href="data:,">
<title>{escape(contents.name)}: {escape(contents.question)}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<main id="content">
{_head(contents)}
<nav aria-label="On this page"><ul>{links}</ul></nav>
{body}
</main>
</body>
</html>
"""


def _section(anchor: str, title: str, blocks: Iterable[str]) -> str:
    body = "\n".join(blocks)
    return f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{title}</h2>\n{body}\n</section>'


@cache
def _markdown() -> MarkdownIt:
    """Make the reader of Markdown: raw HTML is shown as text, and no image can be fetched."""
    return MarkdownIt("commonmark", {"html": False}).disable("image")


def _inline(text: str) -> str:
    """Set a sentence that may hold Markdown."""
    return _markdown().renderInline(" ".join(text.split()))


def _chip(status: str, text: str) -> str:
    return f'<span class="chip {status}">{MARKS[status]} {text}</span>'


def _head(contents: Contents) -> str:
    notices = "".join(f'<p class="problem" role="note">{escape(text)}</p>\n' for text in contents.notices)
    chips = [_chip(status, f"{count} {status}") for status, count in contents.statuses.items()]
    facts = [
        f"{contents.rows} rows",
        f"{contents.provenance.options.label} run",
        (contents.provenance.finished or "")[:10],
        ", ".join(contents.provenance.devices),
    ]
    items = "".join(f"<li>{item}</li>" for item in [*(escape(fact) for fact in facts if fact), *chips])
    return f"""<header>
<p class="overline">precond_lab · {escape(contents.name)}</p>
<h1>{_inline(contents.question)}</h1>
<div class="answer"><small>Answer</small>{_markdown().render(contents.answer).strip()}</div>
{notices}<ul class="meta">{items}</ul>
</header>"""


def _figure(picture: Picture) -> str:
    anchor = escape(picture.name, quote=True)
    if picture.svg is None:
        drawing = f'<p class="problem" role="note">Not drawn: {escape(picture.problem or "")}</p>'
    else:
        label = f"{picture.title}. The data are in the table below."
        drawing = f'<div class="drawing" tabindex="0">{inline(picture.svg, picture.name, label)}</div>'
    data = ""
    if picture.csv:
        shown = picture.table[:SHOWN_ROWS]
        more = len(picture.table) - len(shown)
        note = f'<p class="note">The first {len(shown)} of {len(picture.table)} rows.</p>' if more else ""
        data = (
            f"<details><summary>The data as a table ({len(picture.table)} rows)</summary>"
            f"{_table(shown, picture.columns)}{note}"
            f'<p class="note">Full precision: {_download(picture)}</p></details>'
        )
    return (
        f'<figure id="figure-{anchor}">\n<h3>{_inline(picture.title)}</h3>\n{drawing}\n'
        f"<figcaption>{_inline(picture.caption)}</figcaption>\n{data}\n</figure>"
    )


def _download(picture: Picture) -> str:
    """Link the CSV file, which the page carries inside itself unless it is large."""
    name, content = f"{escape(picture.name)}.csv", picture.csv.encode()
    if len(content) > EMBEDDED:
        return f'<a href="{name}">{name}</a>, beside this page'
    address = f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content).decode()}"
    return f'<a download="{name}" href="{address}">{name}</a>'


def _table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Set a table that scrolls within itself; every number tells its full precision when pointed at."""
    rows = list(rows)
    values = {name: [row[name] for row in rows if row.get(name) is not None] for name in columns}
    numeric = {name for name in columns if all(map(is_number, values[name]))}
    mark = {name: ' class="number"' if name in numeric else "" for name in columns}
    head = "".join(f'<th scope="col"{mark[name]}>{escape(name)}</th>' for name in columns)
    lines = []
    for row in rows:
        cells = []
        for name in columns:
            short, full = brief(row.get(name)), exact(row.get(name))
            title = f' title="{escape(full)}"' if name in numeric and full not in {short, ""} else ""
            cells.append(f"<td{mark[name]}{title}>{escape(short)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _scroll(head, lines, "Data")


def _scroll(head: str, lines: Iterable[str], label: str) -> str:
    """Frame a table so that it scrolls within itself, from the keyboard too."""
    body = "\n".join(lines)
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def _claims(contents: Contents) -> list[str]:
    items = [
        f"<li>{_chip(judgement.status.value, judgement.status.value)} <strong>{escape(claim.name)}</strong>"
        f"<p>{_inline(claim.sentence)}</p>"
        f'<p class="deciding">Decided by: {_inline(judgement.figure)}</p>'
        f'<p class="source">Source: {_inline(claim.source)}</p></li>'
        for claim, judgement in contents.claims
    ]
    return ['<ul class="claims">\n' + "\n".join(items) + "\n</ul>"] if items else []


def _grid(contents: Contents) -> list[str]:
    lines = [
        f'<tr><th scope="row"><code>{escape(axis.name)}</code></th><td>{escape(", ".join(axis.shown))}</td>'
        f'<td class="number">{len(axis.values)}</td></tr>'
        for axis in contents.axes
    ]
    head = '<th scope="col">axis</th><th scope="col">values</th><th scope="col" class="number">how many</th>'
    kept = contents.rows_file
    link = f'<a href="{kept.name}">{kept.name}</a>, beside this page: {kept.note}.'
    note = f'<p class="note">{contents.rows} rows. {link if kept.name else escape(kept.note)}</p>'
    return [_scroll(head, lines, "Grid"), note] if lines else [note]


def _failures(contents: Contents) -> list[str]:
    failures = contents.provenance.failures
    if not failures:
        return []
    lines = [
        f"<tr><td>{escape(case(failure.parameters))}</td><td><code>{escape(failure.reason)}</code></td></tr>"
        for failure in failures[:SHOWN_FAILURES]
    ]
    head = '<th scope="col">case</th><th scope="col">reason</th>'
    more = len(failures) - SHOWN_FAILURES
    return [_scroll(head, lines, "Failed cases"), f'<p class="note">And {more} more.</p>' if more > 0 else ""]


def _rerun(contents: Contents) -> list[str]:
    facts = "".join(f"<dt>{label}</dt><dd>{escape(text)}</dd>" for label, text in contents.facts)
    command = escape(contents.provenance.command)
    return [f'<pre tabindex="0"><code>{command}</code></pre>', f"<dl>{facts}</dl>"]
