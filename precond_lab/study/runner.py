"""Runs the cases of a study that are not stored yet, in worker processes that may die.

The parent alone writes. A worker that dies loses only the shard it had, which is measured again; a shard that
fails, or kills its workers, is bisected down to the guilty case.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from precond_lab.study.crew import Crew, Death, Shard
from precond_lab.study.declaration import Case, Context, Options, Row, Study, StudyError, canonical, cases
from precond_lab.study.loading import load
from precond_lab.study.store import Meta, Record, Store, StoreError, rows_file
from precond_lab.study.worker import Reply, attempt, versions

SHARD_LIMIT = 256
"""The most cases in one shard: bounds the memory of a batch and what a killed worker loses."""

ATTEMPTS = 3
"""How often a single case may kill its worker before it counts as failed."""


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        stage: `preparing`, `measuring` or `finished`.
        total: Cases of the grid.
        stored: Of these, settled before this start and not to be run again.
        ok: Measured since this start.
        failed: Failed since this start.
        seconds: Since measuring began.
    """

    stage: str
    total: int
    stored: int
    ok: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds that the rest will take at the pace so far, or None before the first case is settled."""
        settled = self.ok + self.failed
        return self.seconds / settled * (self.total - self.stored - settled) if settled else None


class Outcome(NamedTuple):
    """How a run ended: the file of rows, and the cases of the grid by what became of them."""

    path: Path
    ok: int
    failed: int
    measured_now: int


class _Measurers(Protocol):
    def prepare(self) -> Reply | Death: ...

    def measure(self, queue: deque[Shard]) -> Iterator[tuple[Shard, Reply | Death]]: ...


class _Here:
    """Measures in this process, where a debugger can follow; as in a worker, prints go to standard error."""

    def __init__(self, study: Study, context: Context) -> None:
        self._study, self._context = study, context

    def _attempt(self, shard: Shard) -> Reply:
        with contextlib.redirect_stdout(sys.stderr):
            return attempt(self._study, [case.parameters for case in shard.cases], self._context)

    def prepare(self) -> Reply | Death:
        return self._attempt(Shard(()))

    def measure(self, queue: deque[Shard]) -> Iterator[tuple[Shard, Reply | Death]]:
        while queue:
            shard = queue.popleft()
            yield shard, self._attempt(shard)


def shards(study: Study, grid: list[Case], limit: int = SHARD_LIMIT) -> list[tuple[Case, ...]]:
    """Group cases that differ in batched axes alone.

    Args:
        study: Names the batched axes.
        grid: All cases, also those that are stored: a shard must not depend on what was interrupted when.
        limit: The most cases in one shard.

    Returns:
        Every case once.
    """
    groups: dict[str, list[Case]] = {}
    for case in grid:
        fixed = {name: value for name, value in case.parameters.items() if name not in study.batched}
        groups.setdefault(canonical(fixed) if study.batched else case.id, []).append(case)
    return [tuple(group[i : i + limit]) for group in groups.values() for i in range(0, len(group), limit)]


def halves(shard: tuple[Case, ...]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Split a shard the way bisection does.

    Args:
        shard: At least two cases.

    Returns:
        Left and right half.
    """
    middle = len(shard) // 2
    return shard[:middle], shard[middle:]


def pieces(shard: tuple[Case, ...], wanted: set[str]) -> list[tuple[Case, ...]]:
    """What is left of a shard, in the very pieces that bisection makes.

    A batch of another composition may round differently, so a resumed run forms no batch that an
    uninterrupted one could not have formed.

    Args:
        shard: The whole shard.
        wanted: Identities of the cases still to be run.

    Returns:
        The largest pieces of the bisection that consist of wanted cases alone.
    """
    present = sum(case.id in wanted for case in shard)
    if present == 0:
        return []
    if present == len(shard):
        return [shard]
    left, right = halves(shard)
    return pieces(left, wanted) + pieces(right, wanted)


def commit(folder: Path) -> str | None:
    """Git commit of a folder.

    Args:
        folder: Inside a work tree, or not.

    Returns:
        The commit, `-dirty` appended if tracked files have changes, or None without git or repository.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        head = git("rev-parse", "HEAD")
        return f"{head}-dirty" if git("status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """The time.

    Returns:
        UTC, ISO 8601 to the second.
    """
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Bookkeeper:
    """Turns what workers say into records, and what is to be tried again into shards."""

    def __init__(self, folder: Path) -> None:
        self._commit, self._versions, self._device = commit(folder), versions(), "unknown"

    def settle(self, shard: Shard, answer: Reply | Death) -> tuple[list[Record], list[Shard]]:
        attempts = shard.attempts + 1
        if isinstance(answer, Reply):
            self._device = answer.device
            if answer.results is not None:
                return [
                    self._record(case, result.figures, result.traceback, attempts, result.seconds)
                    for case, result in zip(shard.cases, answer.results, strict=True)
                ], []
        single = len(shard.cases) == 1
        # One death may be chance (a person, the memory of the machine), and the same batch then gives the
        # same rows; a batch that kills twice is guilty. An exception is never chance: measuring is pure.
        if isinstance(answer, Death) and shard.deaths + 1 < (ATTEMPTS if single else ATTEMPTS - 1):
            return [], [Shard(shard.cases, attempts, shard.deaths + 1)]
        if single:
            reason = answer.reason if isinstance(answer, Death) else answer.traceback
            return [self._record(shard.cases[0], None, reason, attempts, answer.seconds)], []
        return [], [Shard(half, attempts) for half in halves(shard.cases)]

    def _record(self, case: Case, figures: Row | None, traceback: str | None, attempts: int, seconds: float) -> Record:
        return Record(
            case,
            "failed" if figures is None else "ok",
            figures,
            traceback,
            attempts,
            seconds,
            self._commit,
            self._versions,
            self._device,
            now(),
        )


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Refuse a second run of the same rows at the same time; a kill releases the lock."""
    try:
        import fcntl  # noqa: PLC0415  absent on Windows, where two runs do the work twice and end with the same rows
    except ImportError:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write in {path.parent}: {error}; choose another folder with --runs") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"another run is writing {path}; wait for it, or stop it") from None
        yield


def being_written(path: Path) -> bool:
    """Whether a run is writing this file now.

    Args:
        path: A file of rows.

    Returns:
        False also where it cannot be known.
    """
    try:
        with _only_writer(path):
            return False
    except StoreError:
        return path.with_suffix(".lock").exists()


def _prepare(study: Study, measurers: _Measurers) -> None:
    answer = measurers.prepare()
    for _ in range(ATTEMPTS - 1):
        if isinstance(answer, Death):
            answer = measurers.prepare()
    if isinstance(answer, Death):
        raise StudyError(f"study {study.name}: prepare killed its worker {ATTEMPTS} times: {answer.reason}")
    if answer.misuse is not None:
        raise StudyError(f"study {study.name}: prepare: {answer.misuse}")
    if answer.traceback is not None:
        raise StudyError(f"study {study.name}: prepare failed:\n{answer.traceback}")


def processors() -> int:
    """How many processors this process may use.

    Returns:
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    location: Path,
    options: Options,
    runs: Path,
    *,
    workers: int | None = None,
    retry_failed: bool = False,
    shard_limit: int = SHARD_LIMIT,
    listen: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run what is not stored yet of a study.

    Rows are committed as soon as a shard is measured. Interrupted in any way and started again, the file ends
    with exactly the figures of a run that was never interrupted.

    Args:
        location: File that declares the study.
        options: Of the run; they decide the grid and the file.
        runs: The folder of all runs.
        workers: Number of processes; by default one for each processor; 0 measures in this process.
        retry_failed: Run failed cases again.
        shard_limit: The most cases in one shard.
        listen: Told how far the run is.

    Returns:
        How the run ended. StudyError tells that the study cannot be run as declared, StoreError that its file
        cannot be used, RunError that no worker can be started; what is stored stays.
    """
    study = load(location)
    grid = cases(study, options)
    path = rows_file(runs.resolve(), study.name, options)
    with _only_writer(path), Store.create(path) as store:
        before = store.meta()
        begun = before.begun if before is not None and before.version == study.version else now()
        store.plan(Meta(study.name, study.version, str(location), options, begun, now()), grid)
        settled = {"ok"} if retry_failed else {"ok", "failed"}
        wanted = {case for case, status in store.statuses().items() if status not in settled}
        queue = deque(Shard(piece) for shard in shards(study, grid, shard_limit) for piece in pieces(shard, wanted))
        if queue:
            count = min(processors() if workers is None else workers, len(queue))
            _work(study, location, options, store, queue, count, len(grid), listen)
        statuses = list(store.statuses().values())
    return Outcome(path, statuses.count("ok"), statuses.count("failed"), len(wanted))


def _work(
    study: Study,
    location: Path,
    options: Options,
    store: Store,
    queue: deque[Shard],
    count: int,
    total: int,
    listen: Callable[[Progress], None],
) -> None:
    cache = store.path.parent.parent / "cache"
    cache.mkdir(exist_ok=True)
    context = Context(options, cache)
    progress = Progress("preparing", total, total - sum(len(shard.cases) for shard in queue))
    bookkeeper = _Bookkeeper(location.parent)
    here = contextlib.nullcontext(_Here(study, context))
    with Crew(location, context, count) if count else here as measurers:
        if study.prepare is not None:
            listen(progress)
            _prepare(study, measurers)
        begun = time.perf_counter()
        listen(progress := progress._replace(stage="measuring"))
        for shard, answer in measurers.measure(queue):
            records, again = bookkeeper.settle(shard, answer)
            queue.extend(again)  # behind the others: a shard that makes trouble must not hold them up
            if records:
                store.save(records)
                failed = sum(record.status == "failed" for record in records)
                progress = progress._replace(
                    ok=progress.ok + len(records) - failed,
                    failed=progress.failed + failed,
                    seconds=time.perf_counter() - begun,
                )
                listen(progress)
    listen(progress._replace(stage="finished"))
