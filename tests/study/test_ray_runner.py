"""The Ray runner: what a local one gives, through exceptions and deaths, on a real Ray of this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_al.study.cell_store import CellStore
from lightning_al.study.ray_runner import RayRunner
from lightning_al.study.runners import LocalRunner
from lightning_al.study.schedule import Read
from lightning_al.study.types import Task
from lightning_al.study.worker import WorkerStartError
from tests._helpers import processes
from tests._helpers.study_tasks import Fits, Made, alive, cells, expected, noting_pids, pids, tasks, wait_until

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of two cores, whose workers find this package from any folder."""
    found = pytest.importorskip("ray", reason="Ray is not installed: it is the extra `ray`")
    found.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY)}},
    )
    yield found
    found.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CellStore]:
    with CellStore(tmp_path / "feasibility").opened({}) as opened:
        yield opened


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(("workers", "kills"), [("auto", 1), (1, 0)])
def test_a_worker_that_is_killed_midway_changes_nothing(store: CellStore, workers: Any, kills: int) -> None:
    told = []
    work = Fits(store.folder.parent / "notes", {"chain-1.1": "kill"}, times=kills)
    runner = RayRunner(workers=workers)
    assert runner.run(tasks()[::-1], work, store, progress=lambda task, key, cell: told.append((key, cell))) == []
    assert cells(store) == expected(tasks()) == dict(told)
    assert work.tried("chain-1.1") == kills
    assert work.made == sorted(expected(tasks())), "a finished cell was made again"
    assert store.read_arrays("start-0.0")["x"].tolist() == [0, 1, 2]


@pytest.mark.usefixtures("ray")
def test_it_fails_as_a_local_run_does_and_each_goes_on_with_the_others_cells(store: CellStore, tmp_path: Path) -> None:
    other = CellStore(tmp_path / "local")
    notes = {name: tmp_path / name for name in ("ray-notes", "local-notes")}
    trouble = {"start-1.1": "raise"}
    failures = RayRunner().run(tasks(), Fits(notes["ray-notes"], trouble, times=9), store)
    wanted = LocalRunner(2).run(tasks(), Fits(notes["local-notes"], trouble, times=9), other)
    assert [(f.key, f.error, f.attempts) for f in failures] == [(f.key, f.error, f.attempts) for f in wanted]
    assert "raise ValueError(f" in failures[0].details
    assert cells(store) == cells(other)
    stored = store.keys()

    work = Fits(notes["local-notes"])  # the other's notes: what is made twice over both runs shows
    assert RayRunner().run(tasks(), work, other) == []
    assert cells(other) == expected(tasks())
    assert work.made == sorted(expected(tasks())), "a finished cell was made again"
    assert LocalRunner(1).run(tasks(), Fits(notes["ray-notes"]), store) == []
    assert cells(store) == expected(tasks())
    assert set(stored) < set(store.keys())


@pytest.mark.usefixtures("ray")
def test_a_worker_that_dies_twice_is_reported(store: CellStore) -> None:
    work = Fits(store.folder.parent / "notes", {"chain-1.1": "kill"}, times=9)
    failures = RayRunner().run(tasks(), work, store)
    assert [(failure.key, failure.error, failure.attempts) for failure in failures] == [
        ("chain-1", "its worker died (WorkerCrashedError)", 2),
        ("last", "`chain-1`, which it goes on from, failed", 0),
    ]
    assert work.tried("chain-1.1") == 2
    assert store.keys() == sorted({*expected(tasks())} - {"chain-1.1", "chain-1.2", "last.0"})


def test_lambdas_and_what_they_hold_work(ray: Any, store: CellStore) -> None:
    number = 7
    work = lambda task, read: [(task.key, {"number": number, "pid": os.getpid()}, None)]  # noqa: E731 - a lambda is tested
    assert RayRunner(num_gpus_per_task=0).run([Task("a", "design", 1)], work, store) == []
    cell = store.read("a")
    assert cell is not None
    assert cell["number"] == 7
    assert cell["pid"] != os.getpid()
    assert ray.is_initialized(), "a Ray that was there before is left as it is"


class Unloadable:
    """Pickled without complaint, and found by no other process."""

    def __call__(self, task: Task, read: Read) -> list[Made]:
        return []

    def __reduce__(self) -> Any:
        return load_in, (os.getpid(),)


def load_in(process: int) -> Any:
    if os.getpid() != process:
        raise AttributeError("Can't get attribute 'Net'")
    return Unloadable()


@pytest.mark.usefixtures("ray")
def test_what_a_worker_cannot_load_ends_the_run(store: CellStore) -> None:
    with pytest.raises(WorkerStartError, match=r"cannot load the study's model"):
        RayRunner().run(tasks(), Unloadable(), store)
    assert store.failures() == []


@pytest.mark.usefixtures("ray")
def test_what_cannot_be_pickled_is_refused(store: CellStore) -> None:
    lock = threading.Lock()
    with pytest.raises(ValueError, match=r"to be picklable for Ray, but got TypeError: cannot pickle .*lock.{9}$"):
        RayRunner().run(tasks(), lambda task, read: [(task.key, {"lock": lock}, None)], store)


def test_a_ray_that_it_connects_to_is_shut_down(ray: Any, store: CellStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    assert RayRunner(address="auto").run([], Fits(store.folder.parent / "notes"), store) == []
    with pytest.raises(ValueError, match="made once"):
        RayRunner().run([Task("a", "design", 1)], lambda task, read: 2 * [("same", {}, None)], store)
    assert [call for call in calls if call] == [  # Ray calls `init()` itself where it believes that nobody has
        {"address": "auto", "log_to_driver": False},
        "shutdown",
        {"address": None, "log_to_driver": False},
        "shutdown",
    ]


def long_study(address: str) -> None:
    Path("parent").write_text(str(os.getpid()))
    with CellStore("feasibility").opened({}) as store:
        RayRunner(address).run(tasks(), noting_pids(Path("pids").absolute(), seconds=300), store)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_tasks_end_with_the_driver(ray: Any, tmp_path: Path, number: signal.Signals) -> None:
    # A new Ray of this machine asks for a token, and says so to later children of this process alone.
    asks = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled")}
    driver = processes.start(tmp_path, long_study, ray.get_runtime_context().gcs_address, **asks)
    # Patient: three processes import Lightning, which takes minutes where other programs keep the cores busy.
    assert wait_until(lambda: len(pids(tmp_path / "pids")) == 2, seconds=240), driver.output
    workers = pids(tmp_path / "pids")
    os.kill(int((tmp_path / "parent").read_text()), number)
    assert driver.wait(120) != 0
    assert wait_until(lambda: not any(alive(pid) for pid in workers), seconds=120)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"workers": 0}, "Expected `workers`"),
        ({"num_gpus_per_task": -0.5}, "`num_gpus_per_task` to be 0 or more, but got -0.5"),
        ({"num_gpus_per_task": float("nan")}, "`num_gpus_per_task` to be 0 or more, but got nan"),
        ({"address": "ray://head:10001"}, r"the Ray client's 'ray://head:10001'.*ray job submit"),
    ],
)
def test_other_arguments_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RayRunner(**arguments)


def test_ray_is_named_where_it_is_not_installed(store: CellStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"lightning-al\[ray\]\""):
        RayRunner().run(tasks(), Fits(store.folder.parent / "notes"), store)
