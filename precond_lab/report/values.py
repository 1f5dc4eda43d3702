"""How a stored value is written: exactly in a file, briefly on a page."""

import math
from collections.abc import Iterable, Mapping, Sequence

Value = str | int | float | bool | None
Row = Mapping[str, object]


def plain(value: object) -> Value:
    """Turn a NumPy scalar into the Python value that it holds.

    Args:
        value: A stored value; anything that is no number, text, bool or None becomes its text.

    Returns:
        A plain Python value.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    item = getattr(value, "item", None)
    inner = item() if callable(item) else value
    return inner if isinstance(inner, (str, bool, int, float)) else str(inner)


def exact(value: object) -> str:
    """Write a value so that nothing of it is lost.

    Args:
        value: A stored value.

    Returns:
        The shortest text that reads back as the same number; `nan`, `inf`, `-inf`; `true`, `false`; empty for
        None.

    >>> exact(0.1), exact(float("-inf")), exact(True), exact(None)
    ('0.1', '-inf', 'true', '')
    """
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(value)


def parse(text: str) -> Value:
    """Read a value that `exact` has written.

    Args:
        text: One field of a CSV file of a report.

    Returns:
        The value. A text that looks like a number comes back as that number: CSV cannot tell them apart.

    >>> parse("0.1"), parse("nan"), parse("12"), parse(""), parse("bfloat16")
    (0.1, nan, 12, None, 'bfloat16')
    """
    named: dict[str, Value] = {"": None, "true": True, "false": False}
    if text in named:
        return named[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def brief(value: object) -> str:
    """Write a value for a person to read: four significant digits.

    Args:
        value: A stored value.

    Returns:
        A short text; an en dash for None.

    >>> brief(0.123456), brief(1e-9), brief(float("nan")), brief(True), brief(None)
    ('0.1235', '1e-09', 'nan', 'yes', '–')
    """
    value = plain(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(value: object) -> bool:
    """Say whether a value is set flush right in a table.

    Args:
        value: A stored value.

    Returns:
        True for integers and floats, False for bools and all else.
    """
    return isinstance(value := plain(value), (int, float)) and not isinstance(value, bool)


def order(value: object) -> tuple[int, float, str]:
    """Give a sort key that puts any two values in an order: None, bools, numbers, NaN, texts.

    Args:
        value: A stored value.

    Returns:
        A tuple that compares with that of any other value.

    >>> sorted(["b", 2, None, float("nan"), 0.5, "a"], key=order)
    [None, 0.5, 2, nan, 'a', 'b']
    """
    value = plain(value)
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, str):
        return 4, 0.0, value
    if isinstance(value, bool):
        return 1, float(value), ""
    return (3, 0.0, "") if math.isnan(value) else (2, float(value), "")


def columns(rows: Iterable[Row], first: Sequence[str] = ()) -> tuple[str, ...]:
    """List the columns of a table whose rows need not all have the same keys.

    Args:
        rows: The table.
        first: Names that come first, where some row has them.

    Returns:
        Every key of every row once: those of `first`, then the others as they are met.
    """
    met = {name: None for row in rows for name in row}
    return tuple(dict.fromkeys([name for name in first if name in met] + list(met)))


def in_order(rows: Iterable[Row], axes: Sequence[str]) -> list[dict[str, Value]]:
    """Put rows in the one order in which every file of a report lists them.

    Args:
        rows: Rows as the store gave them.
        axes: The parameters of the study, the slowest first.

    Returns:
        Copies of the rows with plain values and sorted columns, by parameters, then by all other columns.
    """
    rows = list(rows)
    rest = sorted({name for row in rows for name in row} - set(axes))
    names = [*axes, *rest]
    plain_rows = [{name: plain(row[name]) for name in names if name in row} for row in rows]
    return sorted(plain_rows, key=lambda row: [order(row.get(name)) for name in names])
