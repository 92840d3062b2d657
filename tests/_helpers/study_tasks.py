"""Small tasks for the runners of a study, with every kind of trouble, and what must come of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_al.study.cell_store import CellStore
from lightning_al.study.schedule import Read, Work
from lightning_al.study.types import Task

Made = tuple[str, dict[str, Any], dict[str, Any] | None]


def tasks(replicates: int = 3) -> list[Task]:
    """Chains of two tasks, and one that goes on from them all."""
    starts = [Task(f"start-{r}", "start", 2) for r in range(replicates)]
    chains = [Task(f"chain-{r}", "simulation", 3, (f"start-{r}",)) for r in range(replicates)]
    return [*starts, *chains, Task("last", "pilot", 1, tuple(task.key for task in chains))]


def value(key: str) -> float:
    """A sum whose last digits mostly change with the number of threads that make it."""
    return float(torch.randn(200_000, generator=torch.Generator().manual_seed(zlib.crc32(key.encode()))).sum())


def expected(all_tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """The cells, one after the other in a plain loop (the tasks stand in an order in which they can run)."""
    cells: dict[str, dict[str, Any]] = {}
    for task in all_tasks:
        before = sum(cells[f"{other}.0"]["sum"] for other in task.after)
        for number in range(task.fits):
            key = f"{task.key}.{number}"
            cells[key] = {"sum": value(key) + before, "task": task.key}
    return cells


class Fits:
    """The work: notes in a folder each cell that it makes, and makes trouble where it is told to.

    Args:
        folder: For its notes.
        trouble: ``raise``, ``kill`` or ``exit``, by the key of the cell.
        times: How often.
    """

    def __init__(self, folder: Path, trouble: dict[str, str] | None = None, times: int = 1) -> None:
        self.folder = folder
        self.trouble = trouble or {}
        self.times = times
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def made(self) -> list[str]:
        """Keys of the cells that were made, sorted."""
        notes = self.folder / "made.txt"
        return sorted(notes.read_text().split()) if notes.exists() else []

    def tried(self, key: str) -> int:
        """How often there was trouble at a cell."""
        return len(list(self.folder.glob(f"trouble-{key}-*")))

    def __call__(self, task: Task, read: Read) -> Iterator[Made]:
        before = 0.0
        for other in task.after:
            cell = read(f"{other}.0")
            assert cell is not None, f"{other} is not finished"
            before += cell["sum"]
        for number in range(task.fits):
            key = f"{task.key}.{number}"
            if read(key) is None:
                self._make_trouble(key)
                with (self.folder / "made.txt").open("a") as notes:
                    notes.write(f"{key}\n")
                yield key, {"sum": value(key) + before, "task": task.key}, {"x": np.arange(3)} if not number else None

    def _make_trouble(self, key: str) -> None:
        kind = self.trouble.get(key)
        tried = self.tried(key)
        if kind is None or tried >= self.times:
            return
        (self.folder / f"trouble-{key}-{tried}").touch()
        print(f"last words of {key}", flush=True)
        if kind == "raise":
            raise ValueError(f"no luck\nwith {key}")
        if kind == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)


def noting_pids(folder: Path, seconds: float = 0, grandchildren: bool = False) -> Work:
    """Work that leaves the ids of its processes, and takes its time."""
    folder.mkdir(exist_ok=True)

    def work(task: Task, read: Read) -> Iterator[Made]:
        if grandchildren:
            (folder / str(subprocess.Popen(["sleep", "300"]).pid)).touch()
        (folder / str(os.getpid())).touch()
        time.sleep(seconds)
        yield task.key, {}, None

    return work


def pids(folder: Path) -> list[int]:
    """The ids that it left."""
    return [int(path.name) for path in folder.glob("*")]


def cells(store: CellStore) -> dict[str, Any]:
    """All cells of a store."""
    return {key: store.read(key) for key in store.keys()}  # noqa: SIM118 - it is no dict


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended but that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Any, seconds: float = 60) -> bool:
    """Wait for a condition; whether it came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
