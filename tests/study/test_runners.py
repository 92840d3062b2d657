"""Runners: the same cells for any number of workers, through exceptions, deaths and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_al.exceptions import RunFolderError
from lightning_al.study import runners
from lightning_al.study.cell_store import CellStore
from lightning_al.study.runners import LocalRunner
from lightning_al.study.schedule import Read
from lightning_al.study.types import Task
from lightning_al.study.worker import WorkerStartError
from tests._helpers import processes
from tests._helpers.study_tasks import Fits, Made, alive, cells, expected, noting_pids, pids, tasks, value, wait_until

forked = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
both = pytest.mark.parametrize("workers", [1, pytest.param(2, marks=forked)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CellStore]:
    with CellStore(tmp_path / "feasibility").opened({}) as opened:
        yield opened


@pytest.mark.parametrize("workers", [1, 2, 3, "auto"])
@pytest.mark.parametrize("reverse", [False, True])
def test_any_number_of_workers_and_any_order_give_the_cells_of_a_plain_loop(
    store: CellStore, workers: Any, reverse: bool
) -> None:
    wanted = expected(tasks())
    told = []

    def progress(task: Task, key: str, cell: dict[str, Any]) -> None:
        assert (store.read(key), key.rpartition(".")[0]) == (cell, task.key)
        told.append(key)

    work = Fits(store.folder.parent / "notes")
    given = tasks()[::-1] if reverse else tasks()
    assert LocalRunner(workers).run(given, work, store, progress=progress) == []
    assert cells(store) == wanted
    assert sorted(told) == work.made == sorted(wanted)
    np.testing.assert_array_equal(store.read_arrays("start-0.0")["x"], [0, 1, 2])
    assert store.read_arrays("start-0.1") == {}

    LocalRunner(workers).run(given, work, store, progress=progress)
    assert work.made == sorted(wanted), "a finished cell was made again"


@both
def test_one_thread_makes_the_sums_and_threads_are_given_back(store: CellStore, workers: int) -> None:
    torch.set_num_threads(2)
    value("wakes the threads that a fork must not wait for")
    torch.ones(3, requires_grad=True).sum().backward()

    def work(task: Task, read: Read) -> Iterator[Made]:
        x = torch.randn(300, 300, requires_grad=True)
        (x @ x).sum().backward()
        yield task.key, {"threads": torch.get_num_threads(), "sum": value(task.key)}, None

    given = [Task("a", "design", 1), Task("b", "design", 1)]
    LocalRunner(workers).run(given, work, store)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert cells(store) == {key: {"threads": 1, "sum": value(key)} for key in "ab"}


@pytest.mark.parametrize(
    ("workers", "kind"),
    [(1, "raise"), pytest.param(2, "raise", marks=forked), pytest.param(2, "kill", marks=forked)],
)
def test_a_task_that_fails_once_is_tried_again_and_goes_on(store: CellStore, workers: int, kind: str) -> None:
    work = Fits(store.folder.parent / "notes", {"chain-1.1": kind})
    assert LocalRunner(workers).run(tasks(), work, store) == []
    assert cells(store) == expected(tasks())
    assert work.made == sorted(expected(tasks())), "a finished cell was made again"
    assert work.tried("chain-1.1") == 1
    assert store.failures() == []


@pytest.mark.parametrize(
    ("workers", "kind", "error", "details"),
    [
        (1, "raise", "ValueError: no luck with start-1.1", 'raise ValueError(f"no luck'),
        pytest.param(2, "raise", "ValueError: no luck with start-1.1", "last words of start-1.1", marks=forked),
        pytest.param(2, "kill", "its worker was killed by SIGKILL (the system does so when memory runs out: fewer "
                     "`workers` need less)", "last words of start-1.1", marks=forked),
        pytest.param(2, "exit", "its worker ended with exit code 3", "last words of start-1.1", marks=forked),
    ],
)  # fmt: skip
def test_a_task_that_fails_twice_is_reported_with_those_that_need_it(
    store: CellStore, workers: int, kind: str, error: str, details: str
) -> None:
    notes = store.folder.parent / "notes"
    work = Fits(notes, {"start-1.1": kind}, times=9)
    failures = LocalRunner(workers).run(tasks(), work, store)
    assert [(failure.key, failure.error, failure.attempts) for failure in failures] == [
        ("start-1", error, 2),
        ("chain-1", "`start-1`, which it goes on from, failed", 0),
        ("last", "`chain-1`, which it goes on from, failed", 0),
    ]
    assert details in failures[0].details
    assert work.tried("start-1.1") == 2
    assert sorted(store.failures(), key=lambda failure: failure.key) == sorted(failures, key=lambda f: f.key)
    lost = {"start-1.1", "chain-1.0", "chain-1.1", "chain-1.2", "last.0"}
    assert cells(store) == {key: cell for key, cell in expected(tasks()).items() if key not in lost}

    assert LocalRunner(workers).run(tasks(), Fits(notes), store) == []  # the same command again
    assert cells(store) == expected(tasks())
    assert work.made == sorted(expected(tasks()))
    assert store.failures() == []


@both
@pytest.mark.parametrize(
    ("cell", "arrays", "named"),
    [
        ({"accuracy": float("nan")}, None, "ValueError: Expected cell `bad` to hold what JSON holds"),
        ({}, {"x": np.array([{}])}, "ValueError: Expected array `x` of cell `bad` to hold numbers"),
    ],
)
def test_a_cell_that_cannot_be_written_is_its_tasks_failure(
    store: CellStore, workers: int, cell: Any, arrays: Any, named: str
) -> None:
    def work(task: Task, read: Read) -> Iterator[Made]:
        yield (task.key, cell, arrays) if task.key == "bad" else (task.key, {}, None)

    (failure,) = LocalRunner(workers).run([Task("bad", "design", 1), Task("good", "design", 1)], work, store)
    assert (failure.key, failure.attempts) == ("bad", 2)
    assert failure.error.startswith(named)
    assert store.keys() == ["good"]


@both
def test_a_cell_made_twice_ends_the_run(store: CellStore, workers: int) -> None:
    def work(task: Task, read: Read) -> Iterator[Made]:
        yield "same", {}, None

    with pytest.raises(ValueError, match="Expected each cell to be made once, but `same`"):
        LocalRunner(workers).run([Task("a", "design", 1), Task("b", "design", 1)], work, store)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([Task("a", "design", 1), Task("a", "pilot", 1)], r"different keys, but got more than one of \['a'\]"),
        ([Task("a", "design", 1, ("b",))], r"`after` of task `a` to name tasks of the study, but got \['b'\]"),
        ([Task("a", "design", 1, ("c",)), Task("b", "design", 1, ("a",)), Task("c", "design", 1, ("b",))],
         r"a circle among \['a', 'b', 'c'\]"),
        ([Task("a/b", "design", 1)], "Expected a key"),
    ],
)  # fmt: skip
def test_tasks_that_contradict_each_other_are_refused(store: CellStore, given: list[Task], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LocalRunner(1).run(given, Fits(store.folder.parent / "notes"), store)


def test_no_tasks_are_no_trouble(store: CellStore) -> None:
    assert LocalRunner("auto").run([], Fits(store.folder.parent / "notes"), store) == []


@forked
@both
def test_an_error_of_the_parent_ends_all_workers(store: CellStore, workers: int) -> None:
    def progress(task: Task, key: str, cell: dict[str, Any]) -> None:
        raise RunFolderError("the disk is full")

    with pytest.raises(RunFolderError, match="the disk is full"):
        LocalRunner(workers).run(tasks(), noting_pids(store.folder.parent / "pids"), store, progress=progress)
    started = pids(store.folder.parent / "pids")
    assert started
    assert not any(alive(pid) for pid in started if pid != os.getpid())


@forked
def test_output_of_workers_goes_to_their_logs(store: CellStore, capfd: pytest.CaptureFixture[str]) -> None:
    def work(task: Task, read: Read) -> Iterator[Made]:
        print("printed by", task.key)
        os.write(2, f"written by {task.key}\n".encode())
        subprocess.run(["echo", "echoed by", task.key], check=True)
        yield task.key, {}, None

    store.logs.mkdir()
    (store.logs / "worker-7.log").touch()
    LocalRunner(2).run([Task("a", "design", 1), Task("b", "design", 1)], work, store)
    assert capfd.readouterr() == ("", "")
    logs = sorted(store.logs.iterdir())
    assert {log.name for log in logs} <= {"worker-0.log", "worker-1.log"}
    lines = [line for log in logs for line in log.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{how} by {key}" for how in ("printed", "written", "echoed") for key in "ab")


# ------------------------------------------------------------------------------------------------------------ signals


def long_study() -> None:
    Path("parent").write_text(str(os.getpid()))
    with CellStore("feasibility").opened({}) as store:
        LocalRunner(2).run(tasks(), noting_pids(Path("pids"), seconds=300, grandchildren=True), store)


@forked
@pytest.mark.parametrize(
    ("number", "code", "last"),
    [(signal.SIGINT, 1, "KeyboardInterrupt"), (signal.SIGTERM, 143, "SystemExit: 143"), (signal.SIGKILL, -9, "")],
)
def test_all_processes_end_with_the_parent(tmp_path: Path, number: signal.Signals, code: int, last: str) -> None:
    parent = processes.start(tmp_path, long_study)
    assert wait_until(lambda: len(pids(tmp_path / "pids")) == 4, seconds=240), parent.output
    children = pids(tmp_path / "pids")
    assert all(alive(pid) for pid in children)
    os.kill(int((tmp_path / "parent").read_text()), number)
    assert parent.wait(20) == code, parent.output
    assert last in parent.output
    assert wait_until(lambda: not any(alive(pid) for pid in children), seconds=60)
    with CellStore(tmp_path / "feasibility").opened({}):
        pass  # the lock is free


def study(folder: str, cells_before_the_kill: int) -> None:
    told = []

    def progress(task: Task, key: str, cell: dict[str, Any]) -> None:
        told.append(key)
        if len(told) == cells_before_the_kill:
            os.kill(os.getpid(), signal.SIGKILL)

    with CellStore(f"{folder}/feasibility").opened({}) as store:
        LocalRunner(2).run(tasks(), Fits(Path(folder) / "notes"), store, progress=progress)


@forked
@pytest.mark.parametrize("kill", [1, 6, 15])
def test_a_killed_study_goes_on_to_the_same_cells(tmp_path: Path, kill: int) -> None:
    assert processes.start(tmp_path, study, str(tmp_path), kill).wait() == -signal.SIGKILL
    store = CellStore(tmp_path / "feasibility")
    stored = store.keys()
    assert len(stored) == kill
    processes.run(tmp_path, study, str(tmp_path), 0)
    assert cells(store) == expected(tasks())
    made = Fits(tmp_path / "notes").made
    assert all(made.count(key) == 1 for key in stored), "a finished cell was made again"


def test_signals_are_as_before_and_threads_can_run_a_study(store: CellStore) -> None:
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(
        target=lambda: LocalRunner(2).run(tasks(1), Fits(store.folder.parent / "notes"), store), daemon=True
    )
    thread.start()
    thread.join(60)
    assert cells(store) == expected(tasks(1))
    assert signal.getsignal(signal.SIGTERM) == before


# ------------------------------------------------------------------------------------------------------ fork and spawn


@forked
@pytest.mark.parametrize("gpus", [0, 2])
def test_lambdas_and_classes_of_main_work_in_a_fork(
    store: CellStore, monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    class Model:
        number = 7

    Model.__module__ = "__main__"
    model = Model()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    work = lambda task, read: [(task.key, {"number": model.number, "pid": os.getpid()}, None)]  # noqa: E731 - a lambda is tested
    LocalRunner(2).run([Task("a", "design", 1), Task("b", "design", 1)], work, store)
    found = cells(store)
    assert [cell["number"] for cell in found.values()] == [7, 7]
    assert os.getpid() not in [cell["pid"] for cell in found.values()]


def test_what_cannot_be_pickled_is_refused_where_a_fork_cannot_help(
    store: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match=r"to be picklable for more than one worker, .*no lambda.*`workers` to 1"):
        LocalRunner(2).run(tasks(), lambda task, read: [], store)
    assert LocalRunner(1).run(tasks(), lambda task, read: [], store) == []


class SeesGPU(Fits):
    def __call__(self, task: Task, read: Read) -> Iterator[Made]:
        (self.folder / f"gpu-{os.environ['CUDA_VISIBLE_DEVICES']}").touch()
        yield from super().__call__(task, read)


def test_workers_are_spawned_where_cuda_is_awake_and_see_one_gpu_each(
    store: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f, GPU-6a")
    work = SeesGPU(store.folder.parent / "notes")
    assert LocalRunner(2).run(tasks(), work, store) == []
    assert cells(store) == expected(tasks())
    assert {path.name for path in work.folder.glob("gpu-*")} == {"gpu-GPU-5f", "gpu-GPU-6a"}


def load_in(process: int) -> Any:
    if os.getpid() != process:
        raise AttributeError("Can't get attribute 'Net'")
    return Unloadable()


class Unloadable:
    """As a class of a notebook: pickled without complaint, and found by no other process."""

    def __call__(self, task: Task, read: Read) -> list[Made]:
        return []

    def __reduce__(self) -> Any:
        return load_in, (os.getpid(),)


def test_what_a_worker_cannot_load_ends_the_run(store: CellStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(WorkerStartError, match=r"cannot load .*Can't get attribute 'Net'.*in a module"):
        LocalRunner(2).run(tasks(), Unloadable(), store)
    assert store.failures() == []


@forked
def test_workers_that_die_before_their_first_task_end_the_run(
    store: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: os._exit(5))
    with pytest.raises(WorkerStartError, match="No worker can start: its worker ended with exit code 5"):
        LocalRunner(2).run(tasks(), Fits(store.folder.parent / "notes"), store)


# ------------------------------------------------------------------------------------------------------ how many


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "two", None])
def test_other_numbers_of_workers_are_refused(workers: Any) -> None:
    with pytest.raises(ValueError, match=r'Expected `workers` to be a number from 1 or "auto"'):
        LocalRunner(workers)


@pytest.mark.parametrize(
    ("cores", "quota", "gpus", "workers"),
    [
        (16, "max 100000", 0, 16),
        (16, "250000 100000", 0, 2),
        (16, "50000 100000", 0, 1),
        (16, None, 0, 16),
        (16, None, 1, 3),
        (4, None, 8, 4),
    ],
)
def test_auto_is_what_the_machine_is_good_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, quota: str | None, gpus: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(runners, "_CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert runners.default_workers() == workers
