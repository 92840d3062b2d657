"""A process that runs tasks of a study, and how its parent talks to it. It never outlives its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import cast

import torch

from lightning_al.exceptions import ActiveLearningError
from lightning_al.study.cell_store import CellStore
from lightning_al.study.schedule import Done, Event, Raised, Work, attempt
from lightning_al.study.types import Task

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_END = 5.0
_LONGEST_TAIL = 2000
_READY = None


class WorkerStartError(ActiveLearningError, RuntimeError):
    """A process cannot run the tasks, whichever it is given."""


class Worker:
    """One process.

    Args:
        context: Of multiprocessing: how the process starts.
        work: Runs a task; pickled for a process that is spawned.
        store: Where the process reads cells; it writes none.
        log: Where its output goes.
        environment: Variables that it sees besides those of this process.
    """

    def __init__(
        self, context: BaseContext, work: Work | bytes, store: CellStore, log: Path, environment: Mapping[str, str]
    ) -> None:
        """Starts it."""
        self.task: Task | None = None
        self._log = log
        self._log_begin = 0
        self._ready = False
        self.connection, theirs = context.Pipe()
        log.parent.mkdir(parents=True, exist_ok=True)
        args = (theirs, os.getpid(), work, store, log, dict(environment))
        self._process = context.Process(target=_serve, args=args)  # type: ignore[attr-defined]  # each context has it
        with warnings.catch_warnings():
            # that this process has threads: the child touches none of their locks, and runs torch on one thread
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def give(self, task: Task) -> None:
        """Hands it a task.

        Args:
            task: The task.
        """
        self.task = task
        self._log_begin = self._log.stat().st_size if self._log.exists() else 0
        with contextlib.suppress(OSError):  # it is dead: `events` tells
            self.connection.send(task)

    def events(self) -> Iterator[Event]:
        """What it has told of its task since the last call, without waiting for more.

        Yields:
            The events; `Raised` where the process has died.

        Raises:
            WorkerStartError: If it cannot run any task.
        """
        alive = self._process.is_alive()
        if not alive:
            self._kill_group()  # data loaders hold its end of the pipe
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, WorkerStartError):
                    raise message
                if message is _READY:
                    self._ready = True
                else:
                    yield self._with_tail(message) if isinstance(message, Raised) else message
                    if isinstance(message, Raised | Done):
                        return
            if alive:
                return
        self._process.join(_SECONDS_TO_END)
        yield self._with_tail(Raised(f"its worker {_ending(self._process.exitcode)}"))

    @property
    def never_ready(self) -> bool:
        """Whether it has died before it could take a task."""
        return not self._ready and not self._process.is_alive()

    def stop(self) -> None:
        """Ends it now: cells are written whole elsewhere, so that nothing is lost but the fit under way."""
        self._kill_group()
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()

    def _kill_group(self) -> None:
        """Kills the processes that it started too."""
        if os.name == "posix" and self._process.pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _with_tail(self, raised: Raised) -> Raised:
        try:
            with self._log.open("rb") as log:
                log.seek(max(self._log_begin, self._log.stat().st_size - _LONGEST_TAIL))
                tail = log.read().decode(errors="replace").strip()
        except OSError:
            tail = ""
        return Raised(raised.error, f"{raised.details}\n{self._log.name}:\n{tail}".strip() if tail else raised.details)


def pickled(work: Work) -> bytes:
    """Pickles what a spawned process needs.

    Args:
        work: Runs a task.

    Returns:
        The pickle, for a process of this machine.

    Raises:
        ValueError: If it cannot be pickled.
    """
    try:
        return pickle.dumps(work)
    except Exception as error:  # whatever an object's own reduction raises
        raise ValueError(
            f"Expected the study's model, data and trainer to be picklable for more than one worker, but got "
            f"{type(error).__name__}: {error}. Define classes and functions at the top of a module (no lambda), or "
            "set `workers` to 1."
        ) from error


def _serve(
    connection: Connection, parent: int, work: Work | bytes, store: CellStore, log: Path, environment: Mapping[str, str]
) -> None:
    """The process: runs each task that it is handed."""
    if os.name == "posix":
        os.setpgid(0, 0)  # Ctrl-C goes to the parent alone, and all that this process starts can be ended with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ.update(environment)
    _redirect(log)
    torch.set_num_threads(1)  # equal sums for any number of workers; and a fork must not wait for its parent's threads
    if isinstance(work, bytes):
        try:
            work = cast("Work", pickle.loads(work))
        except Exception as error:
            text = (
                f"A worker cannot load the study's model, data and trainer ({type(error).__name__}: {error}). Define "
                "their classes and functions in a module rather than in a notebook, or set `workers` to 1."
            )
            connection.send(WorkerStartError(text))
            return
    connection.send(_READY)
    while True:
        task = connection.recv()
        for event in attempt(work, task, store.read):
            connection.send(event)


def _end_with(parent: int) -> None:
    process = multiprocessing.parent_process()
    # Both: forked siblings hold each other's sentinels open, and the parent's id does not change on Windows.
    while os.getppid() == parent and process is not None and process.is_alive():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if os.name == "posix":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _redirect(log: Path) -> None:
    """Lets output go to a file: it would garble the parent's progress, and a failure shows its end."""
    file = log.open("a", buffering=1, encoding="utf-8", errors="replace")
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    # the parent's objects may hold locks and text of it, or draw in a notebook
    sys.stdout = sys.stderr = file


def _ending(exit_code: int | None) -> str:
    """How a process ended, in words.

    Examples:
        >>> _ending(3)
        'ended with exit code 3'
    """
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    # only the system sends this one on its own account
    hint = " (the system does so when memory runs out: fewer `workers` need less)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
