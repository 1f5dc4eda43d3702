"""Prints a table, folded to a terminal or one line a row, numbers never cut."""

import io
import shutil
import sys
from collections.abc import Iterable, Sequence


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Print a table to standard output.

    Args:
        head: Names of the columns.
        rows: Their cells.
        right: Columns of numbers: set to the right, and wider than the terminal rather than cut.
    """
    from rich.console import Console  # noqa: PLC0415  no table, no rich
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    cells = [[str(cell) for cell in row] for row in rows]
    terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, collapse_padding=terminal, header_style="bold")
    needed = 0
    for index, name in enumerate(head):
        widest = max((len(row[index]) for row in cells), default=0)
        least = max(widest if name in right else min(widest, 14), *map(len, name.split()))
        table.add_column(name, justify="right" if name in right else "left", min_width=least)
        needed += least + 2
    for row in cells:
        table.add_row(*map(Text, row))
    if terminal:
        Console(width=max(needed, shutil.get_terminal_size().columns)).print(table)
        return
    plain = io.StringIO()
    Console(file=plain, width=10_000).print(table)
    print("\n".join(line.rstrip() for line in plain.getvalue().splitlines()))
