"""A built page that would load something from the network fails the build."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

# What a browser fetches by itself: sources, style sheets, preloads, imports. Plain links may point anywhere.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|data|srcset)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?![^>]*\brel=["']?(?:canonical|license|author)\b)[^>]*?\bhref\s*=\s*["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|(?:@import\s+(?:url\()?|\burl\()\s*["']?((?:https?:)?//[^"'\s)]+)""",
    re.IGNORECASE,
)


def loads(text: str) -> list[str]:
    """List the addresses that a page or a style sheet makes a browser fetch.

    Args:
        text: HTML or CSS.

    Returns:
        The addresses, in order.
    """
    return [next(filter(None, match.groups())) for match in LOADED.finditer(text)]


def check(app: Sphinx, error: Exception | None) -> None:
    """Warn of every address that a page of the built site would fetch."""
    if error or app.builder.format != "html":
        return
    for page in sorted(Path(app.outdir).rglob("*")):
        if page.suffix in {".html", ".css"}:
            for address in loads(page.read_text(encoding="utf-8")):
                name = page.relative_to(app.outdir)
                log.warning("%s loads %s from the network", name, address, type="offline")


def setup(app: Sphinx) -> dict[str, object]:
    """Check once the build has finished."""
    app.connect("build-finished", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
