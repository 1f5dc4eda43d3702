"""How often libraries round wrongly, by the definition of rounding."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from arithmetic_rounding import CARRIERS, JUDGED, OURS
from peers import Peer
from rounding_oracle import UNSIGNED, boundaries, operate, oracle

from precond_lab import Arithmetic, emulate
from precond_lab.arithmetic.formats import Format, named
from precond_lab.arithmetic.rounding import ROUNDINGS, round_bits

MODES = [name for name, mode in ROUNDINGS.items() if not mode.random]
SUMMED = "bfloat16"
"""The format whose sums are judged."""


class Judgment(NamedTuple):
    """How often a library rounds wrongly.

    Attributes:
        case: the library.
        what: what is rounded: an array of numbers, or the results of an operation.
        format: to what it rounds.
        rounding: how.
        dtype: from what.
        compared: how many numbers it was given.
        wrong: how many of its results differ in a bit from the definition; NaNs are all alike.
        example: one of them.
    """

    case: str
    what: str
    format: str
    rounding: str
    dtype: str
    compared: int
    wrong: int
    example: str


def ours() -> Peer:
    """This toolkit's kernel as one of the peers."""

    def rounder(format: Format, rounding: str) -> Any:
        return partial(round_bits, format=format, rounding=rounding)

    return Peer(OURS, "", "jax", rounder)


def compare(computed: np.ndarray, right: np.ndarray, given: Sequence[np.ndarray]) -> tuple[int, int, str]:
    """Count the results that differ in a bit, and describe the first."""
    unsigned = UNSIGNED[right.dtype]
    wrong = (computed.view(unsigned) != right.view(unsigned)) & ~(np.isnan(computed) & np.isnan(right))
    if not wrong.any():
        return right.size, 0, ""
    place = np.flatnonzero(wrong)[0]
    source = ", ".join(repr(float(x[place])) for x in given)
    example = f"{source} gives {float(computed[place])!r}, not {float(right[place])!r}"
    return right.size, int(wrong.sum()), example


def judge(peer: Peer, format: Format, rounding: str, dtype: np.dtype) -> Judgment | None:
    """Give a peer every value and midpoint of a format with their neighbors.

    Args:
        peer: who is judged.
        format: to what it rounds.
        rounding: in which mode.
        dtype: from what.

    Returns:
        The judgment; None where the peer has no such rounding.
    """
    rounder = peer.rounder(format, rounding)
    if rounder is None or dtype.name not in peer.dtypes:
        return None
    x = boundaries(format, dtype)
    found = compare(peer.apply(rounder, x), oracle(x, format, rounding), (x,))
    return Judgment(peer.name, "array", format.name, rounding, dtype.name, *found)


def summands(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the format whose sums do not fit into float32, and do into float64."""
    generator = np.random.default_rng(count)
    x = oracle(generator.uniform(1, 2, count).astype(np.float32), named(SUMMED), "nearest_even")
    y = oracle(generator.uniform(-2, 2, count).astype(np.float32), named(SUMMED), "nearest_even")
    return x, np.ldexp(y, -generator.integers(1, 40, count)).astype(np.float32)


def judge_sums(peer: Peer, rounding: str, count: int) -> Judgment | None:
    """Let a peer round sums that float32 has computed, as one does who composes arithmetic from its roundings.

    Args:
        peer: who is judged; this toolkit by `emulate`.
        rounding: in which mode.
        count: how many sums.

    Returns:
        The judgment; None where the peer has no such rounding.
    """
    x, y = summands(count)
    format = named(SUMMED)
    if peer.name == OURS:
        computed = np.asarray(emulate(lambda x, y: x + y, Arithmetic(format, rounding=rounding))(x, y))  # pyright: ignore[reportArgumentType]
    else:
        rounder = peer.rounder(format, rounding)
        if rounder is None:
            return None
        computed = peer.apply(rounder, x + y)
    found = compare(computed, operate("add", x, y, format, rounding), (x, y))
    return Judgment(peer.name, "sum", SUMMED, rounding, "float32", *found)


def judge_all(peers: Sequence[Peer], sums: int) -> list[Judgment]:
    """Judge this toolkit and every peer in every deterministic mode, from both carriers.

    Args:
        peers: the other libraries.
        sums: how many sums each of them rounds.

    Returns:
        The judgments.
    """
    everyone = (ours(), *peers)
    arrays = (
        judge(peer, named(name), rounding, dtype)
        for peer in everyone
        for dtype in CARRIERS
        for rounding in MODES
        for name in JUDGED
    )
    results = (judge_sums(peer, rounding, sums) for peer in everyone for rounding in MODES)
    return [judgment for judgment in (*arrays, *results) if judgment]


def tables(judgments: Sequence[Judgment]) -> list[str]:
    """Wrong roundings to nearest by format, those of the other modes, those of sums, then an example a library.

    Args:
        judgments: all of them.

    Returns:
        Lines of Markdown.
    """
    nearest: dict[tuple[str, str], int] = {}
    others: dict[tuple[str, str], int] = {}
    sums: dict[tuple[str, str], int] = {}
    examples: dict[str, str] = {}
    for judgment in judgments:
        if judgment.what == "sum":
            sums[judgment.case, judgment.rounding] = judgment.wrong
            continue
        if judgment.rounding == "nearest_even":
            nearest[judgment.case, f"{judgment.format}, {judgment.dtype}"] = judgment.wrong
        else:
            key = judgment.case, judgment.rounding
            others[key] = others.get(key, 0) + judgment.wrong
        if judgment.example:
            kind = f"{judgment.format}, {judgment.rounding}, from {judgment.dtype}"
            examples.setdefault(judgment.case, f"- {judgment.case} ({kind}): {judgment.example}.")
    count = next((judgment.compared for judgment in judgments if judgment.what == "sum"), 0)
    return [
        *_counts(nearest, [f"{name}, {dtype}" for dtype in CARRIERS for name in JUDGED]),
        "",
        "In the other modes, over the same formats and both types:",
        "",
        *_counts(others, MODES),
        "",
        (
            f"Sums: {count} sums of {SUMMED} numbers, computed in float32 and then rounded by the library, since none "
            "of the others runs a program; the row of precond_lab is `emulate`. Float32 has rounded once when the "
            "library rounds again, which does no harm to the nearest modes alone:"
        ),
        "",
        *_counts(sums, MODES),
        "",
        "The first wrong result of each:" if examples else "No array is rounded wrongly.",
        "",
        *examples.values(),
    ]


def _counts(cells: dict[tuple[str, str], int], columns: Sequence[str]) -> list[str]:
    rows = dict.fromkeys(row for row, _ in cells)
    return [
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {row} | {' | '.join(str(cells.get((row, column), '')) for column in columns)} |" for row in rows),
    ]
