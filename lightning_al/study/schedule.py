"""Which task of a study is next, what came of each, and what is tried again: the same for every runner."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from lightning_al.study import cell_format
from lightning_al.study.cell_format import Arrays, Cell, EncodedCell
from lightning_al.study.cell_store import CellStore, Failure
from lightning_al.study.types import Task

Read = Callable[[str], Cell | None]
"""Gives a cell that was finished before the task's attempt began, None where there is no such cell."""

Work = Callable[[Task, Read], Iterable[tuple[str, Cell, Arrays | None]]]
"""Runs a task: yields key, cell and arrays of each fit as it is finished, but for those that can be read already."""

Progress = Callable[[Task, str, Cell], None]
"""Told of each cell once it is stored."""

ATTEMPTS = 2
"""A task that fails is tried once more: memory may be free by then."""

_LONGEST_ERROR = 300
_LONGEST_DETAILS = 4000


@dataclass(frozen=True)
class Done:
    """An attempt came to its end."""


@dataclass(frozen=True)
class Raised:
    """An attempt failed.

    Args:
        error: What went wrong, in one line.
        details: The end of the traceback, or of what the worker printed.
    """

    error: str
    details: str = ""


Event = EncodedCell | Raised | Done
"""What a worker tells of an attempt: cells, then how it ended."""


def attempt(work: Work, task: Task, read: Read) -> Iterator[Event]:
    """Runs a task once, in the worker.

    Args:
        work: Runs a task.
        task: The task.
        read: Gives the cells that are finished.

    Yields:
        Each cell, encoded (one that cannot be is the task's failure); then `Done` or `Raised`.
    """
    try:
        for key, cell, arrays in work(task, read):
            yield cell_format.encode(key, cell, arrays)
    except Exception as error:
        lines = " ".join(str(error).split())
        summary = f"{type(error).__name__}: {lines}" if lines else type(error).__name__
        yield Raised(summary[:_LONGEST_ERROR], traceback.format_exc()[-_LONGEST_DETAILS:])
    else:
        yield Done()


class Schedule:
    """The tasks of one run: hands out those that can start, and writes what comes of them into the store.

    Args:
        tasks: All tasks of the study, in any order; the first are handed out first.
        store: Where cells and failures go.
        progress: Told of each stored cell.

    Raises:
        ValueError: If two tasks have one key, or one goes on from a task that is not there or goes on from it.
    """

    def __init__(self, tasks: Sequence[Task], store: CellStore, progress: Progress | None = None) -> None:
        """Checks the tasks."""
        self._store = store
        self._progress = progress
        self._order = {cell_format.check_key(task.key): rank for rank, task in enumerate(tasks)}
        _check_tasks(tasks)
        self._waiting = list(tasks)
        self._attempts = dict.fromkeys(self._order, 0)
        self._succeeded: set[str] = set()
        self._failures: dict[str, Failure] = {}

    @property
    def finished(self) -> bool:
        """Whether every task has come to its end."""
        return len(self._succeeded) + len(self._failures) == len(self._order)

    @property
    def failures(self) -> list[Failure]:
        """The tasks that failed for good, in the order of the tasks."""
        return sorted(self._failures.values(), key=lambda failure: self._order[failure.key])

    def take(self) -> Task | None:
        """Starts an attempt.

        Returns:
            The first task that waits for no other; None where there is none now.
        """
        for position, task in enumerate(self._waiting):
            if self._succeeded.issuperset(task.after):
                self._attempts[task.key] += 1
                return self._waiting.pop(position)
        return None

    def handle(self, task: Task, event: Event) -> bool:
        """Takes note of what a worker tells.

        Args:
            task: The task that the worker has.
            event: What it tells.

        Returns:
            Whether the attempt has come to its end.

        Raises:
            ValueError: If the cell was made before.
            RunFolderError: If the cell cannot be written.
        """
        if isinstance(event, EncodedCell):
            self._store.put(event)
            if self._progress is not None:
                self._progress(task, event.key, cell_format.decode(event))
            return False
        if isinstance(event, Done):
            self._succeeded.add(task.key)
            self._store.clear_failure(task.key)
        elif self._attempts[task.key] < ATTEMPTS:
            self._waiting.append(task)
        else:
            self._fail(Failure(task.key, event.error, event.details, self._attempts[task.key]))
        return True

    def _fail(self, failure: Failure) -> None:
        self._failures[failure.key] = failure
        self._store.write_failure(failure)
        for task in [task for task in self._waiting if failure.key in task.after]:
            if task in self._waiting:
                self._waiting.remove(task)
                self._fail(Failure(task.key, f"`{failure.key}`, which it goes on from, failed", "", 0))


def _check_tasks(tasks: Sequence[Task]) -> None:
    after = {task.key: set(task.after) for task in tasks}
    if len(after) < len(tasks):
        twice = sorted({task.key for task in tasks if sum(task.key == other.key for other in tasks) > 1})
        raise ValueError(f"Expected tasks to have different keys, but got more than one of {twice}.")
    for key, others in after.items():
        if unknown := sorted(others - {*after}):
            raise ValueError(f"Expected `after` of task `{key}` to name tasks of the study, but got {unknown}.")
    while ready := {key for key, others in after.items() if not others}:
        after = {key: others - ready for key, others in after.items() if key not in ready}
    if after:
        raise ValueError(
            f"Expected tasks to wait for one another in some order, but got a circle among {sorted(after)}."
        )
