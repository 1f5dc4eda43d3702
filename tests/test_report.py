"""Reports: built without JAX, the same bytes twice, whole by themselves, open about what is missing."""

import csv
import gzip
import json
import math
import random
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from precond_lab import report
from precond_lab.report import contents, figures, tables, values
from precond_lab.study import Claim, Failure, Figure, Judgement, Options, Provenance, Status, Study

FORMATS = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}


def grid(options):
    conditions = (1e1, 1e3) if options.quick else (1e1, 1e3, 1e5, 1e7)
    return [
        {"format": name, "condition": condition, "damping": damping}
        for name in FORMATS
        for condition in conditions
        for damping in (None, 0.1)
    ]


def measure(case, context):
    error = FORMATS[case["format"]] * case["condition"] / 3
    broken = case["damping"] is None and error > 1
    return {
        "error": math.nan if broken else error,
        "pivot": -math.inf if broken else 1 / 3,
        "finite": not broken,
    }


def error_table(rows):
    return [{name: row[name] for name in ("format", "condition", "damping", "error", "finite")} for row in rows]


def draw_error(figure, table):
    axes = figure.subplots()
    for name in FORMATS:
        points = [row for row in table if row["format"] == name and row["damping"] is None]
        axes.loglog([row["condition"] for row in points], [row["error"] for row in points], "o-", label=name)
    axes.set(xlabel=r"condition number $\kappa(H)$", ylabel="relative error")
    axes.legend()


def draw_nothing(figure, table):
    raise ZeroDivisionError("no such <thing>")


ERROR = Figure(
    "error",
    "Error by format",
    "The error grows with `κ`, as *any* algorithm's must.",
    error_table,
    draw_error,
)
SIGN = Claim(
    "C1",
    "A pivot is never negative | in **any** format.",
    "[Higham (2002)](https://example.org/book), Theorem 10.3",
    lambda rows: Judgement(Status.REFUTED, f"{sum(not row['finite'] for row in rows)} of {len(rows)} are negative."),
)
HOLDS = Claim("C2", "float32 is finite.", "derived", lambda rows: Judgement(Status.CONFIRMED, "All rows of it are."))

STUDY = Study(
    name="toy",
    version=2,
    question="Does <this> survive?",
    grid=grid,
    measure=measure,
    answer=lambda rows: f"In **{sum(row['finite'] for row in rows)}** of {len(rows)} cases.",
    figures=(ERROR,),
    claims=(SIGN, HOLDS),
)
OPTIONS = Options(quick=False)
ROWS = [{**case, **measure(case, None)} for case in grid(OPTIONS)]
PROVENANCE = Provenance(
    study="toy",
    version=2,
    options=OPTIONS,
    command="precond-lab run studies/toy",
    commits=("0123456789abcdef0123-dirty",),
    versions={"jax": ("0.10.2",), "numpy": ("2.4.6", "2.5.0")},
    devices=("cpu:0",),
    started="2026-11-20T10:00:00+00:00",
    finished="2026-11-20T10:02:30+00:00",
    cases_ok=len(ROWS),
    compute_seconds=150.0,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return report.write(STUDY, ROWS, PROVENANCE, tmp_path_factory.mktemp("written") / "toy")


def same_value(left, right):
    return left == right or (isinstance(left, float) and math.isnan(left) and math.isnan(right))


# What is written


def test_writes_every_file_and_names_them_in_the_record(written):
    folder = written.markdown.parent
    names = {"index.md", "toy.html", "error.svg", "error.csv", "rows.csv", "claims.csv"}
    assert {path.name for path in folder.iterdir()} == names | {"report.json"}
    assert set(json.loads((folder / "report.json").read_text())["files"]) == names
    assert written.problems == ()


def test_markdown_says_all_that_a_report_must(written):
    page = written.markdown.read_text()
    for expected in (
        "# toy",
        "Does <this> survive?",
        "> In **19** of 24 cases.",
        "![Error by format](error.svg)",
        "[error.csv](error.csv)",
        "**C1 · ✗ refuted.** A pivot is never negative",
        "Decided by: 5 of 24 are negative.",
        "**C2 · ✓ confirmed.**",
        "| `condition` | 10, 1000, 1e+05, 1e+07 | 4 |",
        "| `damping` | none, 0.1 | 2 |",
        "[rows.csv](rows.csv)",
        "precond-lab run studies/toy",
        "- Commit: 0123456789ab with uncommitted changes\n",
        "- Versions: jax 0.10.2, numpy 2.4.6 / 2.5.0\n",
        "- Measured: 2026-11-20 10:00 to 2026-11-20 10:02 UTC\n",
        "- Time spent: 2.5 min\n",
        "cpu:0",
    ):
        assert expected in page, expected


def test_every_figure_has_its_csv_which_reads_back_as_the_table(written):
    ordered = values.in_order(ROWS, ["format", "condition", "damping"])
    for figure in STUDY.figures:
        with (written.markdown.parent / f"{figure.name}.csv").open(newline="") as file:
            read = [{name: values.parse(text) for name, text in row.items()} for row in csv.DictReader(file)]
        table = figure.table(ordered)
        assert len(read) == len(table)
        assert all(
            same_value(row[name], wanted[name]) for row, wanted in zip(read, table, strict=True) for name in wanted
        )


def test_rows_are_complete_and_exact(written):
    with (written.markdown.parent / "rows.csv").open(newline="") as file:
        read = [{name: values.parse(text) for name, text in row.items()} for row in csv.DictReader(file)]
    for row in ROWS:
        assert any(all(same_value(row[name], other[name]) for name in row) for other in read)
    assert len(read) == len(ROWS)


def test_same_rows_in_any_order_give_the_same_bytes(written, tmp_path):
    shuffled = ROWS.copy()
    random.Random("order").shuffle(shuffled)
    again = report.write(STUDY, shuffled, PROVENANCE, tmp_path / "again")
    for path in written.markdown.parent.iterdir():
        assert path.read_bytes() == (again.markdown.parent / path.name).read_bytes(), path.name


def test_files_of_an_earlier_report_are_removed_and_others_kept(tmp_path):
    report.write(STUDY, ROWS, PROVENANCE, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    report.write(replace(STUDY, figures=()), ROWS, PROVENANCE, tmp_path)
    assert not (tmp_path / "error.svg").exists()
    assert not (tmp_path / "error.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


# The page as one file

VOID = {"meta", "link", "br", "img", "hr", "input"}
LOADING = {"src", "srcset", "data", "poster", "action", "background", "xlink:href"}


class Page(HTMLParser):
    """Checks that tags close, collects what would be loaded, ids and links."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.ids, self.links, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif tag == "a" and name == "href":
                self.links.append(value)
            elif name in LOADING or name == "href":
                self.loaded.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_whole_by_itself(written):
    text = written.html.read_text()
    page = Page(text)
    assert page.open == []
    assert all(address.startswith(("#", "data:")) for address in page.loaded), page.loaded
    assert not re.search(r"@import|url\((?!#)", text)
    assert "script" not in page.tags
    assert not re.search(r"<[^>]*\son\w+=", text)


def test_html_ids_are_unique_and_links_within_the_page_lead_somewhere(written):
    page = Page(written.html.read_text())
    assert len(page.ids) == len(set(page.ids))
    inside = [address for address in [*page.links, *page.loaded] if address.startswith("#")]
    assert inside
    assert {address[1:] for address in inside} <= set(page.ids)


def test_html_shows_text_as_text_and_markdown_as_markdown(written):
    text = written.html.read_text()
    assert "Does &lt;this&gt; survive?" in text
    assert "<strong>19</strong> of 24" in text
    assert "<em>any</em>" in text
    assert '<a href="https://example.org/book">Higham (2002)</a>' in text


def test_html_fetches_no_image_that_a_sentence_names(tmp_path):
    study = replace(STUDY, answer=lambda rows: "![x](https://example.org/x.png) <img src='https://example.org/y.png'>")
    page = Page(report.write(study, ROWS, PROVENANCE, tmp_path).html.read_text())
    assert "img" not in page.tags


def test_two_figures_share_no_id(tmp_path):
    study = replace(STUDY, figures=(ERROR, replace(ERROR, name="again")))
    page = Page(report.write(study, ROWS, PROVENANCE, tmp_path).html.read_text())
    assert len(page.ids) == len(set(page.ids))


def test_non_finite_numbers_are_printed_as_such(written):
    assert '<td class="number">nan</td>' in written.html.read_text()
    rows = (written.markdown.parent / "rows.csv").read_text()
    assert ",nan," in rows
    assert ",-inf" in rows


def test_svg_carries_no_date_and_ignores_the_user_style(written, tmp_path):
    svg = (written.markdown.parent / "error.svg").read_text()
    assert "<metadata>" not in svg
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfigure.figsize: 1, 1\n")
    script = (
        "import pathlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_report as t; from precond_lab import report\n"
        "report.write(t.STUDY, t.ROWS, t.PROVENANCE, pathlib.Path('out'))"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent)], cwd=tmp_path, check=True)
    assert (tmp_path / "out" / "error.svg").read_text() == svg


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(mpl.rcParams)
    figures.draw(ERROR, error_table(ROWS), "salt")
    assert dict(mpl.rcParams) == before


# What is missing is said

BROKEN = {
    "draw raises": (
        replace(ERROR, draw=draw_nothing),
        "drawing it raised ZeroDivisionError: no such <thing>",
    ),
    "table raises": (
        replace(ERROR, table=lambda rows: [rows[0]["absent"]]),
        "its table raised KeyError: 'absent'",
    ),
    "table is empty": (replace(ERROR, table=lambda rows: []), "its table is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_figure_that_fails_is_noted_and_the_others_are_drawn(name, tmp_path):
    figure, reason = BROKEN[name]
    study = replace(STUDY, figures=(replace(figure, name="broken"), ERROR))
    paths = report.write(study, ROWS, PROVENANCE, tmp_path)
    assert [problem for problem in paths.problems if f"figure broken: {reason}" in problem]
    assert len(paths.problems) == 1
    assert reason in paths.markdown.read_text()
    assert "Not drawn:" in paths.html.read_text()
    assert (tmp_path / "error.svg").exists()
    assert not (tmp_path / "broken.svg").exists()
    Page(paths.html.read_text())


def test_no_rows_make_a_page_that_says_so(tmp_path):
    provenance = replace(PROVENANCE, cases_ok=0, cases_missing=24, started=None, finished=None, compute_seconds=0.0)
    paths = report.write(STUDY, [], provenance, tmp_path)
    page = paths.markdown.read_text()
    assert "No case of this study has been measured yet." in page
    assert "Preliminary: 24 of 24 cases have not been run." in page
    assert "○ open" in page
    assert len(paths.problems) == 1
    assert (tmp_path / "rows.csv").read_text().strip() == ""
    Page(paths.html.read_text())


def test_an_answer_or_a_grid_that_raises_is_a_problem_not_a_crash(tmp_path):
    def absent(options):
        raise ValueError("no data set here")

    study = replace(STUDY, grid=absent, answer=lambda rows: rows[0]["absent"])
    paths = report.write(study, ROWS, PROVENANCE, tmp_path)
    assert len(paths.problems) == 2
    assert "The rows at hand do not answer it." in paths.markdown.read_text()


def test_failed_cases_are_listed(tmp_path):
    failures = tuple(
        Failure({"format": "float16", "condition": float(k)}, f"ValueError: <{k}>", "...") for k in range(23)
    )
    paths = report.write(STUDY, ROWS, replace(PROVENANCE, cases_failed=23, failures=failures), tmp_path)
    judged = json.loads((tmp_path / "report.json").read_text())["claims"]
    assert {(claim["status"], claim["figure"]) for claim in judged} == {("open", "23 cases of the grid failed")}
    page = paths.markdown.read_text()
    assert "23 of 47 cases failed" in page
    assert "| format=float16, condition=3 | `ValueError: <3>` |" in page
    assert "And 3 more." in page
    assert "ValueError: &lt;3&gt;" in paths.html.read_text()
    assert "And 3 more." in paths.html.read_text()


def test_many_rows_are_compressed_and_too_many_are_left_out():
    text = tables.csv_text([{"n": k, "x": k / 7} for k in range(2000)], ["n", "x"])
    plain, packed, none = (tables.rows_file(text, limit) for limit in (len(text), len(text) - 1, 100))
    assert (plain.name, plain.content.decode()) == ("rows.csv", text)
    assert packed.name == "rows.csv.gz"
    assert gzip.decompress(packed.content).decode() == text
    assert packed.content == tables.rows_file(text, len(text) - 1).content
    assert packed.content[4:8] == b"\0\0\0\0"
    assert (none.name, none.content) == (None, b"")
    assert "not kept" in none.note


def test_long_tables_are_cut_on_the_page_and_whole_in_the_csv(tmp_path):
    figure = replace(ERROR, table=lambda rows: [{"n": k, "square": k * k} for k in range(1000)], draw=lambda *_: None)
    paths = report.write(replace(STUDY, figures=(figure,)), ROWS, PROVENANCE, tmp_path)
    assert "The first 200 of 1000 rows." in paths.html.read_text()
    assert len((tmp_path / "error.csv").read_text().splitlines()) == 1001


# Values


@pytest.mark.parametrize(
    "value", [0.1, 1 / 3, 5e-324, 1e308, -0.0, math.inf, -math.inf, 7, -3, True, False, None, "bf16"]
)
def test_exact_values_read_back(value):
    read = values.parse(values.exact(value))
    assert read == value
    assert type(read) is type(value)
    assert not isinstance(value, float) or math.copysign(1, read) == math.copysign(1, value)


def test_numpy_scalars_are_written_as_their_values():
    assert values.exact(np.float32(0.1)) == repr(float(np.float32(0.1)))
    assert values.exact(np.int64(3)) == "3"
    assert values.exact(np.bool_(True)) == "true"


def test_axes_with_many_values_show_their_ends():
    axis = contents.Axis("seed", tuple(range(300)))
    assert axis.shown == ("0", "1", "2", "…", "299")


# The pages over all reports


def test_writing_among_reports_refreshes_index_and_ledger(tmp_path):
    folder = tmp_path / "reports"
    report.write(STUDY, ROWS, PROVENANCE, folder / "toy")
    report.write(replace(STUDY, name="other", figures=(), claims=()), ROWS, PROVENANCE, folder / "other")
    index, ledger = (folder / "index.md").read_text(), (folder / "claims.md").read_text()
    assert index.index("## other") < index.index("## toy")
    assert "> In **19** of 24 cases." in index
    assert "[![Error by format](toy/error.svg)](toy/index.md)" in index
    assert "other/index\ntoy/index" in index
    assert "2 claims: ✓ 1 confirmed, ✗ 1 refuted." in ledger
    assert "| **C1** | ✗\u00a0refuted | A pivot is never negative \\| in **any** format. | 5 of" in ledger
    assert "## [toy](toy/index.md)" in ledger
    before = (index, ledger)
    report.refresh(folder)
    assert ((folder / "index.md").read_text(), (folder / "claims.md").read_text()) == before


def test_writing_elsewhere_touches_nothing_beside_the_report(tmp_path):
    report.write(STUDY, ROWS, PROVENANCE, tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_index_and_ledger_of_no_reports(tmp_path):
    report.refresh(tmp_path)
    assert "No report has been written yet." in (tmp_path / "index.md").read_text()
    assert "No claim has been judged yet." in (tmp_path / "claims.md").read_text()


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "report.json").write_text("{")
    with pytest.raises(ValueError, match=r"toy/report\.json is not JSON .*write that report again"):
        report.write_index(tmp_path)


def test_reports_are_built_with_jax_blocked(tmp_path):
    script = (
        "import pathlib, sys\n"
        "sys.modules['jax'] = sys.modules['jaxlib'] = None\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from precond_lab import report\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import test_report as t\n"
        "paths = report.write(t.STUDY, t.ROWS, t.PROVENANCE, pathlib.Path('reports/toy'))\n"
        "assert paths.problems == (), paths.problems\n"
    )
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent)], cwd=tmp_path, check=True)
    assert (tmp_path / "reports" / "toy" / "toy.html").exists()
