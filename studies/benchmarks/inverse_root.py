"""Time to a given error of the methods for inverse roots, beside optax's and an eigen-decomposition in float64.

    python studies/benchmarks/inverse_root.py [--quick] [--cores N] [--output DIR]

Every method is compiled for one exponent and one size, and timed on float32 matrices of known condition numbers; its
root is compared with a certified one, its time with that of optax's function and of a product of matrices. Beside that
stands what emulating an iteration costs over its emulated products, and what a batch of blocks saves. The command is
the same on a CPU and on a GPU; nothing else should run there. LAPACK on a CPU has threads of its own, more than cores
if the program is kept to one, and as soon as they wait for each other a call takes a hundred times its time; for these
sizes one is as fast:

    export OPENBLAS_NUM_THREADS=1

On two cores jax 0.10.2 waits forever in the batch of `refined`, unless it has
`XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false`; on one it does not.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from inverse_root_batches import METHODS, measure_batch
from inverse_root_cells import Found, Scale, cells, measured
from inverse_root_emulated import ARITHMETICS, measure_emulated
from inverse_root_page import Run, page
from measure import pin, today, write

FULL = Scale(
    powers=(2, 4),
    conditions=(1e2, 1e4, 1e6),
    sizes=(32, 128, 512, 2048),
    large=2048,
    patience=15.0,
    emulated=(128, 512),
    arithmetics=len(ARITHMETICS),
    batch=(64, 128),
    batched=len(METHODS),
    rounds=5,
)
QUICK = Scale(
    powers=(4,),
    conditions=(1e2, 1e6),
    sizes=(32,),
    large=2048,
    patience=15.0,
    emulated=(32,),
    arithmetics=1,
    batch=(8, 16),
    batched=1,
    rounds=3,
)


def measure(scale: Scale) -> Run:
    """Everything.

    Args:
        scale: how much.

    Returns:
        The figures.
    """
    run = Run(scale, [], [], [], [], [], [])
    for group in cells(scale):
        earlier = {(found.cell, found.case): found.timing.seconds for found in run.found}
        found, skipped, limits = measured(group, scale, earlier)
        run.found.extend(found)
        run.skipped.extend(skipped)
        run.limits.extend(limits)
    for arithmetic in list(ARITHMETICS)[: scale.arithmetics]:
        for n in scale.emulated:
            print(f"emulated: {arithmetic}, n = {n} ...", file=sys.stderr)
            entries, overhead = measure_emulated(arithmetic, n, scale.rounds)
            run.emulated.extend(entries)
            run.overheads.append(overhead)
    for name in METHODS[: scale.batched]:
        print(f"batches: {name} ...", file=sys.stderr)
        run.batches.extend(measure_batch(name, *scale.batch, scale.rounds))
    return run


def write_errors(file: Path, found: Sequence[Found]) -> None:
    """The errors, and what the methods say of themselves, as CSV.

    Args:
        file: to be written.
        found: the roots.
    """
    with file.open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened, lineterminator="\n")
        rows.writerow(["p", "condition", "n", "case", "error", "update", "own", "certificate", "result", "steps"])
        for one in found:
            errors = (f"{x:.4g}" for x in one.errors)
            certificate = "" if one.certificate is None else f"{one.certificate:.4g}"
            rows.writerow([*one.cell, one.case, *errors, certificate, one.result, one.steps])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small matrices, to try it")
    parser.add_argument("--cores", type=int, default=1, metavar="N", help="how many cores to use, 0 for all")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="also write DIR/DATE-inverse-root-DEVICE.md and .csv"
    )
    options = parser.parse_args(arguments)
    pin(options.cores)
    run = measure(QUICK if options.quick else FULL)
    name = f"{today()}-inverse-root-{jax.default_backend()}"
    text = page(name, run)
    print(text)
    if options.output:
        write(options.output, name, text, run.entries())
        write_errors(options.output / f"{name}-errors.csv", run.found)


if __name__ == "__main__":
    main()
