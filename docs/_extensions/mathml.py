"""Mathematics as MathML, converted when the site is built: browsers draw it without a script."""

import re
from html import escape

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)


def mathml(tex: str, display: str) -> str:
    """Convert TeX to one `<math>` element.

    Args:
        tex: What stands between the dollars.
        display: "inline" or "block".

    Returns:
        The element.

    Raises:
        ValueError: If the converter gave up, or passed over something that it does not know.
    """
    # The converter knows align* and not its inner twin; in MathML the two are one table.
    tex = re.sub(r"\\(begin|end)\{(aligned|align|gather|gathered|split)\}", r"\\\1{align*}", tex.strip())
    if r"\\" in tex and r"\begin{" not in tex:
        tex = rf"\begin{{align*}}{tex}\end{{align*}}"
    try:
        element = convert(tex, display=display)
    except Exception as error:
        raise ValueError(f"latex2mathml cannot read {tex!r}: {type(error).__name__} {error}") from error
    if left := re.search(r">(\\\w*|&)<", element):
        raise ValueError(f"latex2mathml does not know {left[1]!r} in {tex!r}: write it in another way")
    return element


def _element(node: nodes.Element, display: str) -> str:
    try:
        return mathml(node.astext(), display)
    except ValueError as error:
        log.warning("%s", error, location=node, type="mathml")
        return f"<code>{escape(node.astext())}</code>"


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write mathematics within a sentence."""
    translator.body.append(_element(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write mathematics that stands alone, with its number if it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="equation"))
    translator.body.append(f'<div class="formula">{_element(node, "block")}</div>')
    if node.get("number"):
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, object]:
    """Register the renderer under the name `mathml`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
