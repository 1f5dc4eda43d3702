"""Measures shards in a process of its own, for the parent that started it."""

import contextlib
import functools
import importlib.metadata
import multiprocessing
import operator
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from precond_lab.study.declaration import Context, Options, Plain, Study, StudyError
from precond_lab.study.loading import load

LIBRARIES = ("jax", "jaxlib", "numpy", "precond_lab")


class Result(NamedTuple):
    """Figures of one case, or the traceback of its failure, with its wall time."""

    figures: dict[str, Plain] | None
    traceback: str | None
    seconds: float


class Reply(NamedTuple):
    """What a worker says about one request.

    Attributes:
        results: One for each case in order; None if the shard failed as a whole.
        traceback: Why it failed as a whole, else None.
        misuse: If prepare refused what it was given (ValueError, OSError): the text of that error.
        seconds: Wall time of the whole request.
        device: What it ran on.
    """

    results: list[Result] | None
    traceback: str | None
    misuse: str | None
    seconds: float
    device: str


class Ready(NamedTuple):
    """The worker has loaded the study, or says why it could not."""

    error: str | None


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the figures; nothing is imported.

    Returns:
        Library to version; what is not installed is left out.
    """
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def device() -> str:
    """What measurements run on: JAX's first device if the study has loaded JAX, otherwise the processor.

    Returns:
        For instance `cpu (AMD EPYC 9B14)` or `gpu (NVIDIA H100)`.
    """
    jax = sys.modules.get("jax")
    try:
        first = jax.devices()[0] if jax is not None else None
    except RuntimeError:  # JAX is there and finds no device: the study has seen that error itself
        first = None
    if first is None or first.platform == "cpu":
        return f"cpu ({_processor()})"
    return f"{first.platform} ({first.device_kind})"


def plain(point: Mapping[str, Plain], figures: object) -> dict[str, Plain]:
    """Figures as plain values; zero-dimensional arrays and NumPy scalars are converted.

    Args:
        point: The case, whose names are taken.
        figures: What the study measured.

    Returns:
        A new dict of plain values.

    Raises:
        TypeError: The figures are no mapping, or a value is not plain.
        ValueError: A name is taken or reserved.

    >>> plain({"n": 4}, {"error": 0.5})
    {'error': 0.5}
    """
    if not isinstance(figures, Mapping):
        raise TypeError(f"measure gave {figures!r}; it must give a dict of figure names to plain values")
    converted: dict[str, Plain] = {}
    for name, value in figures.items():
        if not isinstance(name, str) or not name or name.startswith("_"):
            raise ValueError(f"figure name {name!r}; use text that does not begin with '_', which is reserved")
        if name in point:
            raise ValueError(f"figure {name!r} has the name of a parameter; rename the figure")
        if hasattr(value, "item") and getattr(value, "shape", None) == ():
            value = value.item()  # noqa: PLW2901
        match value:
            case None | bool() | str():
                converted[name] = value
            case int():
                converted[name] = operator.index(value)
            case float():
                converted[name] = float(value)
            case _:
                raise TypeError(
                    f"figure {name!r} is a {type(value).__name__}; a figure is a number, text, bool or None"
                )
    return converted


def measure_shard(study: Study, points: Sequence[Mapping[str, Plain]], context: Context) -> list[Result]:
    """Measure the cases of a shard: in one call where the study can, otherwise one by one.

    Args:
        study: The study.
        points: Parameters of the cases.
        context: Handed to the study.

    Returns:
        One result for each case. What `measure` raises fails its case alone.

    Raises:
        ValueError: `measure_batch` gave the wrong number of results. What it raises itself passes through.
    """
    if study.measure_batch is None:
        return [_measure_one(study, point, context) for point in points]
    begun = time.perf_counter()
    measured = list(study.measure_batch([dict(point) for point in points], context))
    if len(measured) != len(points):
        raise ValueError(f"measure_batch gave {len(measured)} results for {len(points)} cases")
    figures = [plain(point, figures) for point, figures in zip(points, measured, strict=True)]
    share = (time.perf_counter() - begun) / len(points)
    return [Result(row, None, share) for row in figures]


def _measure_one(study: Study, point: Mapping[str, Plain], context: Context) -> Result:
    begun = time.perf_counter()
    try:
        figures = plain(point, study.measure(dict(point), context))
    except Exception:  # noqa: BLE001  whatever a study raises is the outcome of that case
        return Result(None, traceback.format_exc(), time.perf_counter() - begun)
    return Result(figures, None, time.perf_counter() - begun)


def attempt(study: Study, points: Sequence[Mapping[str, Plain]], context: Context) -> Reply:
    """Answer one request; never raises what the study raises.

    Args:
        study: The study.
        points: Parameters of the cases; none at all asks to prepare.
        context: Handed to the study.

    Returns:
        The reply.
    """
    begun = time.perf_counter()
    results: list[Result] | None = []
    trace = misuse = None
    try:
        if points:
            results = measure_shard(study, points, context)
        elif study.prepare is not None:
            study.prepare(context)
    except (Exception, SystemExit) as error:  # noqa: BLE001  sent to the parent, which bisects the shard
        results, trace = None, traceback.format_exc()
        if isinstance(error, ValueError | OSError):
            frame = traceback.extract_tb(error.__traceback__)[-1]
            misuse = f"{error} ({Path(frame.filename).name}, line {frame.lineno})"
    return Reply(results, trace, misuse, time.perf_counter() - begun, device())


def environment() -> dict[str, str]:
    """Environment of a worker: compiled programs are kept on disk for all workers, and NumPy takes one thread each.

    Workers share the cores by taking different cases; BLAS threads of each on all cores would wait for one another.

    Returns:
        Variables with their values, without those that are set already.
    """
    import platformdirs  # noqa: PLC0415  for workers alone

    wanted = {
        "JAX_COMPILATION_CACHE_DIR": platformdirs.user_cache_dir("precond_lab") + "/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def serve(connection: Connection, location: Path, options: Options, cache: Path) -> None:
    """Main function of a worker: answers requests until the parent closes the connection or is gone.

    Args:
        connection: To the parent.
        location: File that declares the study.
        options: Of the run.
        cache: For the study's prerequisites.
    """
    # Ctrl-C reaches every process of the terminal; the parent alone decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A kill of the parent cannot be caught there: without this, a long measurement would go on for nobody.
    threading.Thread(target=_follow_parent, daemon=True).start()
    # What a study prints is no result: standard output belongs to the parent's answer alone.
    os.dup2(2, 1)
    os.environ.update(environment())
    try:
        study = load(location)
    except StudyError as error:
        connection.send(Ready(str(error)))
        return
    context = Context(options, cache)
    # The end of the file, or an error on the pipe, is how the parent says that nothing is left to do.
    with contextlib.suppress(EOFError, OSError):
        connection.send(Ready(None))
        while True:
            connection.send(attempt(study, connection.recv(), context))
