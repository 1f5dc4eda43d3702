"""Shows on standard error how far a run is."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from precond_lab.study.runner import Progress

INTERVAL = 10.0
"""Seconds between two lines where standard error is not a terminal."""


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    Args:
        seconds: Or None for not known yet.

    Returns:
        Text.

    >>> duration(3.21), duration(75), duration(7200), duration(None)
    ('3 s', '1 min 15 s', '2 h 00 min', 'unknown')
    """
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def sentence(progress: Progress) -> str:
    """How far a run is, in words.

    Args:
        progress: As the runner tells it.

    Returns:
        One line.

    >>> sentence(Progress("measuring", total=10, stored=2, ok=3, failed=1, seconds=8.0))
    '6 of 10 cases, 1 failed, 8 s left'
    """
    settled = progress.stored + progress.ok + progress.failed
    match progress.stage:
        case "preparing":
            return f"preparing, once ({progress.total - progress.stored} cases to measure)"
        case "finished":
            return f"{settled} of {progress.total} cases, {progress.failed} failed, done"
        case _ if settled == progress.stored:
            return f"{settled} of {progress.total} cases stored, measuring the rest"
        case _:
            left = duration(progress.remaining)
            return f"{settled} of {progress.total} cases, {progress.failed} failed, {left} left"


@contextlib.contextmanager
def shown(title: str) -> Iterator[Callable[[Progress], None]]:
    """Show progress: a bar on a terminal, a line now and then elsewhere.

    Args:
        title: Name of the run.

    Yields:
        What the runner is to tell.
    """
    if sys.stderr.isatty():
        with _bar(title) as listen:
            yield listen
    else:
        yield _lines(title)


def _lines(title: str) -> Callable[[Progress], None]:
    last: tuple[str, float] = ("", 0.0)

    def listen(progress: Progress) -> None:
        nonlocal last
        if progress.stage != last[0] or time.monotonic() - last[1] >= INTERVAL:
            last = (progress.stage, time.monotonic())
            print(f"{title}: {sentence(progress)}", file=sys.stderr, flush=True)

    return listen


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console  # noqa: PLC0415  not needed where standard error is no terminal
    from rich.progress import BarColumn, SpinnerColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    with Bar(*columns, TextColumn("{task.fields[text]}", markup=False), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, text="")

        def listen(progress: Progress) -> None:
            total = None if progress.stage == "preparing" else progress.total
            settled = progress.stored + progress.ok + progress.failed
            bar.update(task, total=total, completed=settled, text=sentence(progress))

        yield listen
