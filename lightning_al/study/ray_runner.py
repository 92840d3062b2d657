"""A study's tasks on a Ray cluster. Cells come back to the driver, so that nodes need no common disk."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch

from lightning_al.study import cell_format
from lightning_al.study.cell_format import Cell
from lightning_al.study.cell_store import CellStore, Failure
from lightning_al.study.runners import WORKERS_PER_GPU, Runner, check_workers, raising_on_sigterm
from lightning_al.study.schedule import Event, Progress, Raised, Schedule, Work, attempt
from lightning_al.study.types import Task
from lightning_al.study.worker import WorkerStartError


class RayRunner(Runner):
    """Runs tasks on a Ray cluster, or on a Ray of this machine.

    A Ray that is initialized is used and left as it is; else one is connected to, or started, and shut down at the
    end. The driver, where the study was started, writes all cells: only it needs the study's folder. A worker or node
    that dies costs the tasks that it had one attempt each.

    Every node needs this package and your code: the same environment, or ``ray job submit --working-dir .``, or
    ``ray.init(runtime_env={"working_dir": "."})`` before the study. Start the study on a node of the cluster or as a
    job: the Ray client (``ray://``) does not hand results on while a task runs.

    Args:
        address: Of the cluster; None is what ``RAY_ADDRESS`` says, else a Ray on this machine. ``"auto"`` finds a
            cluster that this machine is part of.
        workers: Tasks at once; ``"auto"``: as many as the cluster has room for.
        num_gpus_per_task: Share of a GPU that a task takes, 0 for none; None: a third, where the cluster has GPUs.

    Raises:
        ValueError: If an argument is out of range.
        ModuleNotFoundError: If Ray is not installed (when it is run).
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | Literal["auto"] = "auto",
        num_gpus_per_task: float | None = None,
    ) -> None:
        """Checks the arguments; Ray is imported when it is used."""
        if address is not None and address.startswith("ray://"):
            raise ValueError(
                "Expected `address` of a cluster that this machine is part of, but got the Ray client's "
                f"{address!r}, which does not hand results on while a task runs. Start the study on a node of the "
                'cluster with `address="auto"`, or with `ray job submit`.'
            )
        if num_gpus_per_task is not None and not num_gpus_per_task >= 0:
            raise ValueError(f"Expected `num_gpus_per_task` to be 0 or more, but got {num_gpus_per_task!r}.")
        self.address = address
        self.workers = check_workers(workers)
        self.num_gpus_per_task = num_gpus_per_task

    @property
    def side_by_side(self) -> int:
        """How many tasks run at once; 1 where the cluster decides."""
        return 1 if self.workers == "auto" else self.workers

    def run(
        self, tasks: Sequence[Task], work: Work, store: CellStore, *, progress: Progress | None = None
    ) -> list[Failure]:
        """Run tasks on the cluster; see `Runner.run`.

        Raises:
            ModuleNotFoundError: If Ray is not installed.
            WorkerStartError: If no worker can load the study.
        """
        ray = _import_ray()
        schedule = Schedule(tasks, store, progress)
        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self.address, log_to_driver=False)  # workers' output would garble the progress
        try:
            with raising_on_sigterm():
                self._run(ray, schedule, work, store)
        finally:
            if ours:
                ray.shutdown()
        return schedule.failures

    def _run(self, ray: Any, schedule: Schedule, work: Work, store: CellStore) -> None:
        start = ray.remote(_attempt).options(
            num_cpus=1, num_gpus=self._gpus(ray), num_returns="streaming", max_retries=0
        )
        try:
            handed = ray.put(work)
        except Exception as error:  # whatever an object's own reduction raises
            reason = error.__cause__ or error  # Ray's own is a page long
            raise ValueError(
                "Expected the study's model, data and trainer to be picklable for Ray, but got "
                f"{type(reason).__name__}: {reason}."
            ) from error
        # references: a worker fetches the few that it reads
        finished = store.keys()
        cells = {key: ray.put(store.read(key)) for key in finished}
        running: list[tuple[Any, Task]] = []
        try:
            while not schedule.finished:
                while self.workers == "auto" or len(running) < self.workers:
                    if (task := schedule.take()) is None:
                        break
                    running.append((start.remote(handed, task, cells), task))
                ready, _ = ray.wait([events for events, _ in running], num_returns=1)
                for events, task in [pair for pair in running if pair[0] in ready]:
                    event = _next(ray, events)
                    if schedule.handle(task, event):
                        running.remove((events, task))
                    elif isinstance(event, cell_format.EncodedCell):
                        cells[event.key] = ray.put(cell_format.decode(event))
        finally:
            for events, _ in running:
                ray.cancel(events, force=True)

    def _gpus(self, ray: Any) -> float:
        if self.num_gpus_per_task is not None:
            return self.num_gpus_per_task
        return round(1 / WORKERS_PER_GPU, 4) if ray.cluster_resources().get("GPU", 0) else 0


def _attempt(work: Work, task: Task, cells: Mapping[str, Any]) -> Iterator[Event]:
    """Runs in a worker of Ray."""
    ray = _import_ray()

    def read(key: str) -> Cell | None:
        return ray.get(cells[key]) if key in cells else None

    torch.set_num_threads(1)  # equal sums for any number of workers
    yield from attempt(work, task, read)


def _next(ray: Any, events: Any) -> Event:
    """The next that a worker tells of its task."""
    try:
        event: Event = ray.get(next(events))
    except ray.exceptions.RayTaskError as error:  # what the task itself raises is caught there
        raise WorkerStartError(
            f"A worker of Ray cannot load the study's model, data and trainer: {error}. Every node needs the same "
            "packages and your code: see `RayRunner`."
        ) from error
    except ray.exceptions.RayError as error:
        return Raised(f"its worker died ({type(error).__name__})", str(error))
    return event


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'RayRunner needs Ray: pip install "lightning-al[ray]", or leave `runner` unset.', name="ray"
        ) from error
