"""A run that was killed anywhere, by anything, goes on as if it had not been; what does not fit together is refused."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests._helpers import runs
from tests._helpers.moments import quick_command_line, watched_command_line
from tests._helpers.processes import environment, run, start

GO_ON = ("--ckpt_path", "last")


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted."""

    digests: dict[str, str]
    moments: list[str]

    def draw(self, number: int) -> int:
        """The moment of the ``number``-th kill: one kind of moment after the other, at random within a kind."""
        first_saved = next(i for i, what in enumerate(self.moments) if "rename last-round.ckpt" in what)
        kinds: dict[str, list[int]] = {"begin": list(range(first_saved))}
        for i, what in enumerate(self.moments):
            kinds.setdefault(what.partition(":")[0], []).append(i)
        order = ["labeling", "checkpointing", "query", "fit", "begin", "recording", "telling"]
        assert set(order) == set(kinds)
        return random.Random(number).choice(kinds[order[number % len(order)]])


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    runs.write_config(folder)
    run(folder, watched_command_line, None, folder / "moments.txt")
    moments = (folder / "moments.txt").read_text().splitlines()
    return Whole(runs.digests(folder / "active_learning"), moments)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("--kills")))


def test_killed_anywhere(kill: int, whole: Whole, tmp_path: Path) -> None:
    runs.write_config(tmp_path)
    moment = whole.draw(kill)
    notes = tmp_path / "moments.txt"

    killed = start(tmp_path, watched_command_line, moment, notes)
    assert killed.wait() == -signal.SIGKILL, killed.output
    assert notes.read_text().splitlines() == whole.moments[: moment + 1]
    if kill % 2:  # and once more, soon after it went on
        again = start(tmp_path, watched_command_line, random.Random(-kill).randrange(60), notes, *GO_ON)
        assert again.wait() in (-signal.SIGKILL, 0), again.output
    if kill == 0:
        command = [sys.executable, "-m", "lightning_al", "fit", "--config", "fit.yaml", *GO_ON]
        subprocess.run(command, cwd=tmp_path, env=environment(PYTHONHASHSEED="7"), check=True, timeout=300)
    else:
        run(tmp_path, quick_command_line, *GO_ON)

    assert runs.digests(tmp_path / "active_learning") == whole.digests, whole.moments[moment]
