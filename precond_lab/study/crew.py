"""Keeps worker processes at work, replaces those that die."""

import contextlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

from precond_lab.study.declaration import Case, Context, StudyError
from precond_lab.study.worker import Ready, Reply, serve

STARTS = 3
"""How many workers in a row may die before they are ready until the run is given up."""


class RunError(Exception):
    """The run cannot go on, for a reason outside the study."""


class Shard(NamedTuple):
    """Cases measured together; no case at all asks to prepare.

    Attributes:
        cases: The cases.
        attempts: How often measuring them was begun, also as part of a larger shard.
        deaths: How many workers died of this very shard.
    """

    cases: tuple[Case, ...]
    attempts: int = 0
    deaths: int = 0


class Death(NamedTuple):
    """A worker died: of what, and how long after it was given its shard."""

    reason: str
    seconds: float


class _Worker:
    """One process with what it is doing."""

    def __init__(self, location: Path, context: Context) -> None:
        # Never fork: JAX runs threads, and a forked copy of their locks hangs.
        spawn = multiprocessing.get_context("spawn")
        self.connection: Connection
        self.connection, theirs = spawn.Pipe()
        self.process: SpawnProcess = spawn.Process(
            target=serve, args=(theirs, location, context.options, context.cache), daemon=True
        )
        with _without_interrupt():
            self.process.start()
        theirs.close()  # so that the death of the worker is the end of the file here
        self.ready = False
        self.shard: Shard | None = None
        self.begun = time.perf_counter()

    def give(self, shard: Shard) -> None:
        self.shard, self.begun = shard, time.perf_counter()
        # If it has died meanwhile, the sentinel tells.
        with contextlib.suppress(OSError):
            self.connection.send([case.parameters for case in shard.cases])

    def hear(self) -> Ready | Reply | Death | None:
        """What it says, if anything; what it said before it died comes first."""
        try:
            if self.connection.poll():
                return self.connection.recv()
            if self.process.is_alive():
                return None
        except (EOFError, OSError):
            self.process.join(5)  # the pipe closes a moment before the process is gone
        return Death(_cause(self.process.exitcode), time.perf_counter() - self.begun)

    def dismiss(self, patience: float) -> None:
        """Ask it to go by closing the connection; kill it if it does not."""
        self.connection.close()
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _cause(code: int | None) -> str:
    if code is None:
        return "worker closed its connection"
    if code >= 0:
        return f"worker exited with status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    hint = ", as when memory runs out" if -code == 9 else ""
    return f"worker died with signal {-code} ({name}{hint})"


@contextlib.contextmanager
def _without_interrupt() -> Iterator[None]:
    """Hold back Ctrl-C: a child born meanwhile never sees it, and this process gets it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


class Crew:
    """Up to `size` workers. As a context manager it leaves none behind."""

    def __init__(self, location: Path, context: Context, size: int) -> None:
        """Start nothing yet.

        Args:
            location: File that declares the study.
            context: Handed to the study.
            size: The most workers at a time.
        """
        self._location, self._context, self._size = location, context, size
        self._workers: list[_Worker] = []
        self._stillborn = 0

    def __enter__(self) -> "Crew":
        """Return itself.

        Returns:
            The crew.
        """
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Let idle workers go; after an error or Ctrl-C, at once."""
        for worker in self._workers:
            if kind is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.dismiss(patience=10 if worker.ready else 0)
        self._workers.clear()

    def prepare(self) -> Reply | Death:
        """Let one worker prepare.

        Returns:
            What it says.
        """
        ((_, answer),) = self.measure(deque([Shard(())]))
        return answer

    def measure(self, queue: deque[Shard]) -> Iterator[tuple[Shard, Reply | Death]]:
        """Have shards measured.

        Args:
            queue: Emptied; what is added to it meanwhile is measured as well.

        Yields:
            Each shard with the reply, or the death of its worker, in the order they come.
        """
        while queue or any(worker.shard is not None for worker in self._workers):
            busy = sum(worker.shard is not None for worker in self._workers)
            while len(self._workers) < min(self._size, busy + len(queue)):
                self._workers.append(_Worker(self._location, self._context))
            for worker in self._workers:
                if queue and worker.ready and worker.shard is None:
                    worker.give(queue.popleft())
            wait([end for worker in self._workers for end in (worker.connection, worker.process.sentinel)])
            for worker in list(self._workers):
                yield from self._attend(worker)

    def _attend(self, worker: _Worker) -> Iterator[tuple[Shard, Reply | Death]]:
        message = worker.hear()
        match message:
            case Ready(error=None):
                worker.ready, self._stillborn = True, 0
            case Ready(error=str(error)):
                raise StudyError(error)
            case Reply() if worker.shard is not None:
                shard, worker.shard = worker.shard, None
                yield shard, message
            case Death():
                self._workers.remove(worker)
                worker.dismiss(patience=0)
                self._stillborn += not worker.ready
                if self._stillborn == STARTS:
                    raise RunError(f"{STARTS} workers in a row could not start: {message.reason}")
                if worker.shard is not None:
                    yield worker.shard, message
