"""The extensions that build the documentation site: mathematics without a script, pages without a network."""

import importlib
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).parents[1] / "docs" / "_extensions"


@pytest.fixture
def extension(monkeypatch):
    pytest.importorskip("sphinx")
    pytest.importorskip("latex2mathml")
    monkeypatch.syspath_prepend(str(EXTENSIONS))
    return importlib.import_module


def test_mathematics_becomes_mathml(extension):
    mathml = extension("mathml").mathml
    assert mathml(r"\kappa(H)", "inline").startswith("<math ")
    assert mathml(r"a &= b \\ c &= d", "block").count("<mtr>") == 2
    assert mathml(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "block").count("<mtr>") == 2


def test_bars_in_docstrings_stay_bars_except_in_code(extension):
    plain_bars = extension("docstrings").plain_bars
    assert plain_bars(["|x| <= `|y|`"]) == [r"\|x\| <= `|y|`"]
    assert plain_bars([">>> 1 | 2", "3 | 4", "", "|z|"]) == [">>> 1 | 2", "3 | 4", "", r"\|z\|"]
    assert plain_bars(["Code::", "", "    a | b", "", "|z|"]) == ["Code::", "", "    a | b", "", r"\|z\|"]


@pytest.mark.parametrize("tex", [r"\nosuchcommand x", r"\frac{"])
def test_mathematics_that_cannot_be_converted_is_refused(extension, tex):
    with pytest.raises(ValueError, match="latex2mathml"):
        extension("mathml").mathml(tex, "inline")


def test_what_a_page_loads_is_found_and_links_are_not(extension):
    loads = extension("offline").loads
    assert loads('<script async src="https://cdn.example/x.js"></script>') == ["https://cdn.example/x.js"]
    assert loads('<link rel="stylesheet" href="//cdn.example/x.css">') == ["//cdn.example/x.css"]
    assert loads("@import 'https://cdn.example/x.css'; a{background:url(http://e.org/x.png)}") == [
        "https://cdn.example/x.css",
        "http://e.org/x.png",
    ]
    assert (
        loads('<a href="https://example.org">x</a><link rel="canonical" href="https://e.org"><img src="x.svg">') == []
    )
