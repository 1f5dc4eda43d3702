"""Speed of the emulated arithmetic beside other libraries, and what it was meant to reach.

    python studies/benchmarks/arithmetic.py [--quick] [--cores N] [--output DIR]

keeps itself to one core (or to N; 0 for all), judges other libraries by the definition of rounding, and times: every
format and mode against a copy, chains of operations, matrix products, blocks, stochastic rounding, an iteration, the
counting of events, and compilation. The other libraries are optional: `pip install -e ".[peers]"`, and what the
docstring of peers.py says. Run it on a machine that does nothing else, and choose an allocator that keeps its memory:

    export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import arithmetic_blocks as blocks
import arithmetic_exactness as exactness
import arithmetic_programs as programs
import arithmetic_rounding as rounding
import jax
import numpy as np
from arithmetic_exactness import Judgment
from arithmetic_programs import ProgramScale
from arithmetic_rounding import CARRIERS, SLOW, Beside, RoundingScale
from measure import Entry, machine, pin, size, table, threads, today, write
from peers import Found, find
from targets import Titles, target_table


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Args:
        rounding: arrays.
        programs: programs.
        sums: how many sums every library rounds where it is judged.
    """

    rounding: RoundingScale
    programs: ProgramScale
    sums: int


FULL = Scale(
    RoundingScale(sizes=(10**4, 10**6, 10**7), wide=10**6, rounds=11, patience=0.5),
    ProgramScale(
        chain=10**7,
        short_chain=10**6,
        products=(256, 1024),
        peer_product=256,
        iteration=512,
        steps=10,
        rounds=7,
        patience=2.0,
        long_patience=10.0,
    ),
    sums=10**6,
)
QUICK = Scale(
    RoundingScale(sizes=(10**4, 10**5), wide=10**5, rounds=3, patience=0.1),
    ProgramScale(
        chain=10**5,
        short_chain=10**5,
        products=(32, 64),
        peer_product=32,
        iteration=64,
        steps=4,
        rounds=3,
        patience=0.2,
        long_patience=1.0,
    ),
    sums=10**4,
)


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        title: its heading.
        text: what its cells say.
        beside: its figures, and marks for cells without one.
    """

    title: str
    text: str
    beside: Beside


RATE = "G elements/s; in brackets the time against that of a copy, a negation in place"
CHAINS, PRODUCTS = "Chains of operations", "Matrix products"
BLOCKS, RANDOM = "Blocks and integers", "Stochastic rounding"


def titles(scale: Scale) -> Titles:
    """Where the targets' figures are."""
    cached = scale.rounding.sizes[1]
    return Titles(
        formats=rounding.format_title(cached, CARRIERS[0]),
        random=RANDOM,
        chains=CHAINS,
        products=PRODUCTS,
        largest=str(scale.programs.products[-1]),
        blocks=BLOCKS,
        cached=size(cached),
    )


def measure_arrays(scale: RoundingScale, found: Found) -> list[Section]:
    """Everything about arrays."""
    sections = []
    wide = (scale.wide, CARRIERS[1])
    smallest, cached, *rest = scale.sizes
    cases = [*((n, CARRIERS[0]) for n in (cached, smallest, *rest)), wide]
    for n, dtype in cases:
        title = rounding.beside_title(n, dtype)
        text = (
            f"{RATE}. precond_lab is the kernel behind `round_to`, in place; stochastic "
            "rounding draws its words. An asterisk: some results are wrong, see above. "
            f"{SLOW}: a call takes longer than {scale.patience:g} s. Empty: the library has no such rounding."
        )
        if n < 10**5:
            text += " So few elements take little longer than the call itself, whatever a JAX program does."
        sections.append(Section(title, text, rounding.measure_beside(title, n, dtype, found.peers, scale)))
    text = f"{RATE}. Everything is in place; stochastic rounding draws its words."
    for n, dtype in cases:
        title = rounding.format_title(n, dtype)
        entries = rounding.measure_formats(title, n, dtype, scale.rounds)
        sections.append(Section(title, text, Beside(entries, {})))
    random = Beside(blocks.measure_random(RANDOM, scale), {})
    sections.append(Section(RANDOM, f"{RATE}. {size(scale.sizes[1])} float32 elements, in place.", random))
    text = f"{RATE}. In place, but for other libraries. Columns: elements, in rows of {blocks.ROW}."
    sections.append(Section(BLOCKS, text, blocks.measure_blocks(BLOCKS, list(found.versions), scale)))
    return sections


def measure_programs(scale: ProgramScale, found: Found) -> list[Section]:
    """Everything about programs."""
    native = "in brackets the time against the native program"
    loop = (
        "Every product and every sum rounded by hand, as none of the others runs a program. precond_lab is "
        "`emulate` of the unmodified program, bfloat16 carried in float32. An asterisk: some roundings are wrong. "
        f"{SLOW}: a call takes longer than {scale.patience:g} s."
    )
    n = scale.peer_product
    chain_title, product_title = "A chain beside other libraries", "A matrix product beside other libraries"
    length = f"products and sums in turn, over {size(scale.chain)} elements in place, which are rounded on entry too"
    iteration, events, compilation = "Newton-Schulz iteration", "Counting events", "Compilation"
    return [
        Section(
            CHAINS,
            f"Time of a call; {native}. Columns: {length}.",
            Beside(programs.measure_chains(CHAINS, scale), {}),
        ),
        Section(
            chain_title,
            f"G elements/s of a product and a sum, {size(scale.short_chain)} elements; {native}. {loop}",
            programs.measure_chains_beside(chain_title, found.peers, scale),
        ),
        Section(
            PRODUCTS,
            f"G multiply-adds/s; {native}. Every product and every partial sum rounded, in sequence unless the row "
            f"says otherwise. Columns: order of the matrices. {SLOW}: a call takes longer than {scale.patience:g} s.",
            programs.measure_products(PRODUCTS, scale),
        ),
        Section(
            product_title,
            f"G multiply-adds/s, matrices of order {n}; {native}. {loop}",
            programs.measure_products_beside(product_title, found.peers, scale),
        ),
        Section(
            iteration,
            f"Time of {scale.steps} steps, two products each; {native}. Column: order of the matrix. "
            f"{SLOW}: a call takes longer than {scale.long_patience:g} s.",
            programs.measure_iteration(iteration, scale),
        ),
        Section(events, f"Time of a call; {native}.", Beside(programs.measure_events(events, scale), {})),
        Section(
            compilation,
            f"Time to trace and compile, JAX's caches cleared and its persistent cache off; {native}.",
            Beside(programs.measure_compilation(compilation, scale), {}),
        ),
    ]


# The page


def wrong_marks(judgments: Sequence[Judgment], entries: Sequence[Entry]) -> dict:
    """An asterisk for every cell of a library that rounds wrongly to that format."""
    carriers = {dtype.name for dtype in CARRIERS}
    wrong = {
        (j.case, j.format, j.dtype) for j in judgments if j.wrong and (j.what, j.rounding) == ("array", "nearest_even")
    }
    marks = {}
    for entry in entries:
        dtype = next((name for name in carriers if f" {name}," in entry.section), "float32")
        if (entry.case, entry.column, dtype) in wrong:
            marks[entry.case, entry.column] = "*"
    return marks


def found_lines(found: Found) -> list[str]:
    """The other libraries, and why some are missing."""
    present = ", ".join(f"{name} {version}".strip() for name, version in sorted(found.versions.items()))
    notes = [f"- {peer.name}: {peer.note}." for peer in found.peers]
    missing = [f"- Not here: {name} ({reason})." for name, reason in found.missing.items()]
    return [f"Other libraries: {present}.", "", *notes, *missing]


def page(name: str, sections: Sequence[Section], judgments: Sequence[Judgment], found: Found, scale: Scale) -> str:
    """The tables with what one must know to read them, in Markdown."""
    entries = [entry for section in sections for entry in section.beside.entries]
    cores = "one core" if threads() == 1 else f"{threads()} cores"
    lines = [
        "<!-- Written by studies/benchmarks/arithmetic.py: a change made here is lost. -->",
        "",
        f"# Arithmetic, {today()}, {jax.default_backend()}",
        "",
        f"The speed of rounding and of emulated programs on {cores}, beside other libraries.",
        "",
        "## Targets",
        "",
        (
            f"Rounding and blocks: {size(scale.rounding.sizes[1])} float32 elements; chains: "
            f"{size(scale.programs.chain)}; products: order {scale.programs.products[-1]}. Of many figures the "
            "worst and the best are shown."
        ),
        "",
        *target_table(entries, titles(scale)),
        "",
        "## How it was measured",
        "",
        (
            "A ratio is a time divided by that of the table's baseline in the same round. Medians of "
            f"{scale.rounding.rounds} rounds (programs {scale.programs.rounds}), each of which runs everything once, "
            f"in a new order; wall-clock time. The quartiles of the ratios are in the {{download}}`CSV file "
            f"<{name}.csv>`."
        ),
        "",
        *machine(jax.devices()[0]),
        "",
        *found_lines(found),
        "",
        "## Wrong roundings",
        "",
        (
            "How many results differ from the definition of rounding, of every value and midpoint of a format, their "
            "neighbors on both sides, infinity, NaN, and one value beyond the largest. Columns: to which format, from "
            f"which type. All of them are in the {{download}}`CSV file <{name}-exactness.csv>`."
        ),
        "",
        *exactness.tables(judgments),
        "",
    ]
    for section in sections:
        marks = section.beside.marks | wrong_marks(judgments, section.beside.entries)
        lines += [f"## {section.title}", "", section.text, "", *table(section.beside.entries, marks), ""]
    return "\n".join(lines)


def write_judgments(folder: Path, name: str, judgments: Sequence[Judgment]) -> None:
    """Write what the judge found as CSV."""
    with (folder / f"{name}-exactness.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerows([Judgment._fields, *judgments])


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small arrays, to try it")
    parser.add_argument("--cores", type=int, default=1, metavar="N", help="how many cores to use, 0 for all")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write DIR/DATE-arithmetic-cpu.md and .csv")
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else FULL
    pin(options.cores)
    jax.config.update("jax_enable_compilation_cache", False)
    found = find()
    with np.errstate(all="ignore"):  # what other libraries compute on the way is theirs
        judgments = exactness.judge_all(found.peers, scale.sums)
        sections = [*measure_arrays(scale.rounding, found), *measure_programs(scale.programs, found)]
    name = f"{today()}-arithmetic-{jax.default_backend()}"
    text = page(name, sections, judgments, found, scale)
    print(text)
    if options.output:
        write(options.output, name, text, [entry for section in sections for entry in section.beside.entries])
        write_judgments(options.output, name, judgments)


if __name__ == "__main__":
    main()
