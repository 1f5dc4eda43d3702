"""The one style in which figures are drawn."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from cycler import cycler

if TYPE_CHECKING:
    from precond_lab.study.declaration import Figure

# The palette of Okabe and Ito (2008), without its yellow, which is too pale for a line on white: readers with
# any of the common color deficiencies tell these apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
INK = "#1F2933"
GRID = "#E4E7EB"

STYLE: dict[Any, Any] = {
    "figure.figsize": (7.6, 4.2),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#7B8794",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": "#7B8794",
    "ytick.color": "#7B8794",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "image.cmap": "cividis",
    # Glyphs as outlines: mathematics keeps its shape on a machine that lacks matplotlib's fonts. What a
    # screen reader or a search wants is in the table under each figure.
    "svg.fonttype": "path",
}


class Drawn(NamedTuple):
    """A figure, or why there is none."""

    svg: str | None
    problem: str | None


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Draw in the project's style, undisturbed by a matplotlibrc of the person at the keyboard.

    Args:
        salt: Makes the identifiers inside an SVG file the same in every run.

    Yields:
        Nothing.
    """
    import matplotlib as mpl  # noqa: PLC0415  half a second that a page without figures need not pay

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**STYLE, "svg.hashsalt": salt})
        yield


def draw(figure: "Figure", table: list[dict], salt: str) -> Drawn:
    """Draw a figure from its table.

    Args:
        figure: The declaration.
        table: What `figure.table` made of the rows.
        salt: See `style`.

    Returns:
        The SVG text, the same bytes for the same table; or the problem, if the table is empty or
        drawing it raises.
    """
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415

    if not table:
        return Drawn(None, "its table is empty: no row of this run belongs to it")
    with style(salt):
        canvas = Canvas()
        stream = io.StringIO()
        try:
            figure.draw(canvas, table)
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            canvas.savefig(stream, format="svg", metadata=nothing)
        except Exception as error:  # noqa: BLE001  one figure that cannot be drawn must not cost the reader the others
            return Drawn(None, f"drawing it raised {type(error).__name__}: {error}")
    return Drawn(_tidy(stream.getvalue()), None)


def _tidy(svg: str) -> str:
    """Strip trailing blanks, which version control frowns at, from every line."""
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def inline(svg: str, name: str, label: str) -> str:
    """Turn an SVG file into an element that lives inside an HTML page among others.

    Args:
        svg: The text of the file.
        name: The figure's name; prefixed to every identifier, for two figures would share them.
        label: What a screen reader says.

    Returns:
        The element, without a fixed size and without the prolog that names a document type.
    """
    svg = svg[svg.index("<svg") :].strip()
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'\s(width|height|version|xmlns)="[^"]*"', "", opening)
    rest = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", rest)
    return f'{opening} role="img" aria-label="{escape(label, quote=True)}">{rest}'
