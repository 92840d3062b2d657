"""A study that was killed anywhere, by anything, goes on as if it had not been, and makes no fit twice."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests._helpers import studies
from tests._helpers.processes import run, start
from tests._helpers.studies import answer, files, killed_command_line, quick_command_line, rows

SMALL: dict[str, Any] = {"strategies": ["Margin"], "buckets": 2, "seeds": 2, "replicates": 3, "output": "out"}
"""2 x 2 x 2 fits on random subsets, and 3 replicates of a first fit, two rounds of two arms, and the whole pilot."""
PROXY = ("--study.mode=proxy",)
FITS = 8 + 3 * (1 + 2 * 2 + 1)


def write(folder: Path) -> None:
    studies.write_config(folder, study={**studies.STUDY, **SMALL})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that nothing interrupted, with the moments that it went through beside it."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder)
    run(folder, killed_command_line, None, folder / "moments.txt")
    return folder


def moments(folder: Path) -> list[str]:
    return (folder / "moments.txt").read_text().splitlines()


def check_equal(folder: Path, whole: Path) -> None:
    assert len(list((folder / "out/cells").glob("*.json"))) == FITS
    assert rows(folder / "out") == rows(whole / "out")
    assert answer(folder / "out") == answer(whole / "out")
    left = {path.name for path in (folder / "out").rglob("*")}
    assert left == {path.name for path in (whole / "out").rglob("*")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("--kills")))


def draw(kill: int, whole: Path) -> int:
    """The moment of a kill: one kind after the other, at random within a kind."""
    kinds: dict[str, list[int]] = {}
    for number, moment in enumerate(moments(whole)):
        kinds.setdefault(moment.partition(":")[0], []).append(number)
    assert set(kinds) == {"settings", "fit", "cell", "conclusion"}
    return random.Random(kill).choice(kinds[["fit", "cell", "conclusion", "settings"][kill % 4]])


def test_killed_anywhere(kill: int, whole: Path, tmp_path: Path) -> None:
    write(tmp_path)
    moment = draw(kill, whole)
    killed = start(tmp_path, killed_command_line, moment, tmp_path / "moments.txt")
    assert killed.wait() == -signal.SIGKILL, killed.output
    assert moments(tmp_path) == moments(whole)[: moment + 1]
    before = files(tmp_path / "out")

    run(tmp_path, quick_command_line)

    after = files(tmp_path / "out")
    finished = {name.removesuffix(".json") for name in before if name.endswith(".json")}
    assert all(after[name] == kept for name, kept in before.items() if name.rpartition(".")[0] in finished)
    check_equal(tmp_path, whole)


@pytest.fixture(scope="module")
def whole_proxy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole_proxy")
    write(folder)
    run(folder, killed_command_line, None, folder / "moments.txt", signal.SIGKILL, "", *PROXY)
    return folder


@pytest.mark.parametrize("what", ["cell: half of embeddings.npz", "cell: half of simulation-r01-random-02.json"])
def test_a_proxy_killed(what: str, whole_proxy: Path, tmp_path: Path) -> None:
    write(tmp_path)
    notes = tmp_path / "moments.txt"
    moment = moments(whole_proxy).index(what)
    killed = start(tmp_path, killed_command_line, moment, notes, signal.SIGKILL, "", *PROXY)
    assert killed.wait() == -signal.SIGKILL, killed.output
    before = files(tmp_path / "out")

    run(tmp_path, quick_command_line, *PROXY)

    after = files(tmp_path / "out")
    kept = {name for name in before if (tmp_path / "out/cells" / name).with_suffix(".json").name in before}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert rows(tmp_path / "out") == rows(whole_proxy / "out")
    assert answer(tmp_path / "out") == answer(whole_proxy / "out")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_ended_with_two_workers(number: int, whole: Path, tmp_path: Path) -> None:
    write(tmp_path)
    ended = start(tmp_path, killed_command_line, 12, tmp_path / "moments.txt", number, "cell", "--study.workers=2")
    assert ended.wait() == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}[number], (
        ended.output
    )
    assert (number == signal.SIGINT) == ("interrupted. The same command goes on" in ended.output)
    before = files(tmp_path / "out")
    assert 0 < len(before) < FITS
    assert not (tmp_path / "out/feasibility.json").exists()

    run(tmp_path, quick_command_line, "--study.workers=2")

    after = files(tmp_path / "out")
    assert all(after[name] == kept for name, kept in before.items() if name.endswith(".json"))
    left = {path.name for path in (tmp_path / "out").rglob("*") if "worker-" not in path.name and path.name != "logs"}
    assert left == {path.name for path in (whole / "out").rglob("*")}
    assert rows(tmp_path / "out") == rows(whole / "out")
    assert answer(tmp_path / "out") == answer(whole / "out")
