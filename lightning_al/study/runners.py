"""Who runs the tasks of a study: this process, or several on this machine. The results are the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from types import FrameType
from typing import Literal

import torch

from lightning_al.study.cell_store import CellStore, Failure
from lightning_al.study.schedule import Progress, Raised, Schedule, Work, attempt
from lightning_al.study.types import Task
from lightning_al.study.worker import Worker, WorkerStartError, pickled

WORKERS_PER_GPU = 3
"""By default: a small fit leaves most of a GPU idle, while more contexts take memory."""

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SECONDS_BETWEEN_LOOKS = 0.5


class Runner(ABC):
    """Runs the tasks of a study."""

    @property
    def side_by_side(self) -> int:
        """How many tasks run at once, as far as is known beforehand: what a study's time is reckoned with."""
        return 1

    @abstractmethod
    def run(
        self, tasks: Sequence[Task], work: Work, store: CellStore, *, progress: Progress | None = None
    ) -> list[Failure]:
        """Run tasks, each after those it goes on from.

        A task that raises, or whose worker dies, is tried once more; the cells it made before stay.

        Args:
            tasks: All tasks of the study, in any order.
            work: Runs a task: yields its cells, but for those that it can read already. It must keep no state from
                one task to the next.
            store: The opened store. This process alone writes to it.
            progress: Told of each cell once it is stored, in this process.

        Returns:
            The tasks that failed, and those that go on from them, in the order of ``tasks``.

        Raises:
            ValueError: If the tasks contradict each other, ``work`` cannot be handed to a worker, or a cell is made
                twice.
            RunFolderError: If a cell cannot be written.
            KeyboardInterrupt: On Ctrl-C; SIGTERM raises ``SystemExit``. All workers have ended by then.
        """


class LocalRunner(Runner):
    """Runs tasks in this process, or in several of this machine.

    Each worker runs torch on one CPU thread, so that sums do not depend on how many there are. On Linux without a GPU
    workers are forked and know everything that this process knows (models from notebooks, lambdas); elsewhere they
    are spawned where the study can be pickled. Several workers share a GPU; with several GPUs each worker sees one.
    What workers print goes to ``logs/`` in the study's folder.

    Args:
        workers: How many. 1: this process itself. ``"auto"``: one a core that this process may use, or three a GPU
            where there are any, and at most one a task.

    Raises:
        ValueError: If ``workers`` is neither.
    """

    def __init__(self, workers: int | Literal["auto"] = "auto") -> None:
        """Checks the number."""
        self.workers = check_workers(workers)

    @property
    def side_by_side(self) -> int:
        """How many tasks run at once."""
        return default_workers() if self.workers == "auto" else self.workers

    def run(
        self, tasks: Sequence[Task], work: Work, store: CellStore, *, progress: Progress | None = None
    ) -> list[Failure]:
        """Run tasks in this process or its workers; see `Runner.run`.

        Raises:
            WorkerStartError: If no worker can start.
        """
        schedule = Schedule(tasks, store, progress)
        workers = min(default_workers() if self.workers == "auto" else self.workers, len(tasks))
        with raising_on_sigterm():
            if workers <= 1:
                _run_here(schedule, work, store)
            else:
                _run_in_workers(schedule, work, store, workers)
        return schedule.failures


def check_workers(workers: int | Literal["auto"]) -> int | Literal["auto"]:
    """Checks how many workers are asked for.

    Args:
        workers: A number from 1, or ``"auto"``.

    Returns:
        The same.

    Raises:
        ValueError: If it is neither.
    """
    if workers != "auto" and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise ValueError(f'Expected `workers` to be a number from 1 or "auto", but got {workers!r}.')
    return workers


def default_workers() -> int:
    """How many workers this machine is good for.

    Returns:
        One a core that this process may use (affinity, and the quota of a container); three a GPU, but no more.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max" for no quota
        quota, period = _CPU_QUOTA.read_text().split()
        cores = max(1, min(cores, int(quota) // int(period)))
    gpus = torch.cuda.device_count()
    return min(cores, gpus * WORKERS_PER_GPU) if gpus else cores


def _run_here(schedule: Schedule, work: Work, store: CellStore) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        while (task := schedule.take()) is not None:
            for event in attempt(work, task, store.read):
                schedule.handle(task, event)
    finally:
        torch.set_num_threads(threads)


def _run_in_workers(schedule: Schedule, work: Work, store: CellStore, count: int) -> None:
    context, handed = _context(work)
    workers: dict[int, Worker] = {}  # by their number
    false_starts = 0
    for log in store.logs.glob("worker-*.log"):  # of an earlier run
        log.unlink()
    try:
        while not schedule.finished:
            for number in range(count):
                if number in workers and workers[number].task is not None:
                    continue
                if (task := schedule.take()) is None:
                    break
                if number not in workers:
                    log = store.logs / f"worker-{number}.log"
                    workers[number] = Worker(context, handed, store, log, _one_gpu(number))
                workers[number].give(task)
            busy = {number: worker for number, worker in workers.items() if worker.task is not None}
            wait([worker.connection for worker in busy.values()], timeout=_SECONDS_BETWEEN_LOOKS)
            for number, worker in busy.items():
                for event in worker.events():
                    assert worker.task is not None
                    if not schedule.handle(worker.task, event):
                        continue
                    worker.task = None
                    if isinstance(event, Raised):  # its memory, or its GPU's state, may be spoilt
                        false_starts += worker.never_ready
                        if false_starts > 1:
                            raise WorkerStartError(f"No worker can start: {event.error}.\n{event.details}")
                        workers.pop(number).stop()
    finally:
        for worker in workers.values():
            worker.stop()


def _context(work: Work) -> tuple[BaseContext, Work | bytes]:
    """How workers start, and what they are handed: a fork where that can do all that they may have to."""
    can_fork = sys.platform == "linux" and not torch.cuda.is_initialized()
    if not can_fork or torch.cuda.device_count() > 0:
        # With a GPU, this process may have woken its driver or autograd's threads, which a fork cannot use.
        try:
            return multiprocessing.get_context("spawn"), pickled(work)
        except ValueError:
            if not can_fork:
                raise
    return multiprocessing.get_context("fork"), work


def _one_gpu(number: int) -> dict[str, str]:
    """The environment that shows a worker one GPU, where there are several."""
    gpus = torch.cuda.device_count()
    if gpus < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(gpu) for gpu in range(gpus)]
    return {"CUDA_VISIBLE_DEVICES": names[number % gpus].strip()}


@contextlib.contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM raise ``SystemExit``, as Ctrl-C raises, where it would end this process at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
