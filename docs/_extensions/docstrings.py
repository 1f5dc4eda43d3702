"""Docstrings as the plain prose that they are: a bar is a bar, a field of a record is described once."""

import re

from sphinx.application import Sphinx


def plain_bars(lines: list[str]) -> list[str]:
    """Keep reStructuredText from reading `|x|` as a substitution.

    Args:
        lines: A docstring.

    Returns:
        The lines with bars escaped, except in code: between backticks, in doctests, in literal blocks.
    """
    escaped, literal, doctest = [], None, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        if literal is None and not doctest:
            parts = re.split(r"(`+[^`]+`+)", line)
            prose = [part if part.startswith("`") else re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts]
            escaped.append("".join(prose))
            literal = indent if line.endswith("::") else None
        else:
            escaped.append(line)
    return escaped


def _escape(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    lines[:] = plain_bars(lines)


def _keep_colons(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Begin with an empty comment, lest napoleon take what precedes a colon in the first line for a type."""
    if what in {"attribute", "data", "property"} and lines:
        lines[:0] = ["..", ""]


def _skip(_app: Sphinx, _what: str, _name: str, obj: object, _skipped: bool, _options: object) -> bool | None:
    """Leave out the fields of named tuples, which autodoc would call "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, object]:
    """Act on every docstring that autodoc reads."""
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)
    app.connect("autodoc-process-docstring", _escape)
    app.connect("autodoc-skip-member", _skip)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
