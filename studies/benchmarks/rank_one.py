"""Cases a second of emulated updates of rank one, many in one call, beside NumPy with ml_dtypes, one at a time.

    python studies/benchmarks/rank_one.py [--quick] [--cores N] [--output DIR]

Every form is emulated in every format for thousands of cases of their own condition number, decay and stream, and timed
beside the same recursion in NumPy, whose results must be the same to the bit; beside native float32; and beside what
its roundings alone, and a copy of its state, would take. The command is the same on a CPU and on a GPU; nothing else
should run there. On a CPU each core gets a thread with a call of its own: XLA's threads, which would share every
single operation of a step, make steps this small slower, and are left out (``NPROC=1``).
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from measure import pin, today, write
from rank_one_cells import ROUNDED, Cell, Found, Scale, Size, measure
from rank_one_page import entries, page

FULL = Scale(
    sizes=(
        Size(8, 16384, 100, 4),
        Size(32, 4096, 100, 2),
        Size(128, 128, 100, 1),
        Size(512, 16, 8, 1),
        Size(1024, 8, 4, 1),
    ),
    forms=tuple(ROUNDED),
    formats=("bfloat16", "float16", "float8_e5m2"),
    few=512,
    rounds=7,
)
QUICK = Scale(
    sizes=(Size(8, 1024, 100, 2), Size(32, 256, 100, 2)),
    forms=("gain",),
    formats=("bfloat16",),
    few=512,
    rounds=3,
)


def cells(scale: Scale) -> Iterator[tuple[Cell, Size]]:
    """What is measured: of large matrices, the first format alone.

    Args:
        scale: how much.

    Yields:
        Each cell, and how much is run in it.
    """
    for form in scale.forms:
        for format in scale.formats:
            for size in scale.sizes:
                if size.n < scale.few or format == scale.formats[0]:
                    yield Cell(form, format, size.n), size


def one_thread_a_call() -> None:
    """Keep XLA on a CPU to the thread that calls it; to be called before it starts."""
    os.environ["NPROC"] = "1"
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small matrices and one form, to try it")
    parser.add_argument("--cores", type=int, default=0, metavar="N", help="how many cores to use, 0 for all")
    parser.add_argument("--output", type=Path, metavar="DIR", help="also write DIR/DATE-rank-one-DEVICE.md and .csv")
    options = parser.parse_args(arguments)
    pin(options.cores)
    one_thread_a_call()
    scale, found = QUICK if options.quick else FULL, list[Found]()
    for cell, size in cells(scale):
        print(f"{cell.form}, {cell.format}, n = {cell.n} ...", file=sys.stderr)
        found.append(measure(cell, size, scale))
        jax.clear_caches()
    name = f"{today()}-rank-one-{jax.default_backend()}"
    text = page(name, found, scale)
    print(text)
    if options.output:
        write(options.output, name, text, entries(found))


if __name__ == "__main__":
    main()
