"""Several libraries make one selection on the same inputs, each in a process of its own, in rounds by turns."""

from __future__ import annotations

import json
import math
import os
import resource
import select
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.environments import last_line

SCRIPTS = Path(__file__).parent
REPOSITORY = SCRIPTS.parents[2]
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
_LOAD_SECONDS = 120.0

OWN_SCRIPTS = ("with_lightning_al.py", "with_plain_torch.py")


@dataclass(frozen=True)
class Limits:
    """How long and how large a contestant may get."""

    seconds: float = 45.0  # a run that takes longer is ended
    gigabytes: float = 8.0  # of address space beyond what it has once it is ready


@dataclass
class Outcome:
    """What one contestant did. Seconds has one entry a round, None where it sat out."""

    seconds: list[float | None] = field(default_factory=list)
    megabytes: float = float("nan")  # of its first run
    picks: list[int] = field(default_factory=list)
    error: str | None = None
    gave_up_after: float | None = None  # seconds

    @property
    def is_out(self) -> bool:
        """Whether it failed or was ended."""
        return self.error is not None or self.gave_up_after is not None


class _FailedError(Exception):
    """A contestant ended; says why."""


class _TooSlowError(Exception):
    """A contestant did not answer within so many seconds."""


class Contestant:
    """A process that makes one selection after another; it starts when it is needed, and again after it was ended.

    Args:
        interpreter: The library's own.
        script: Its file in this folder.
        strategies: What it offers.
        limits: Its limits.
    """

    def __init__(self, interpreter: str | Path, script: str, strategies: Collection[str], limits: Limits) -> None:
        self.interpreter, self.script, self.strategies, self.limits = interpreter, script, strategies, limits
        self.process: subprocess.Popen[str] | None = None

    def load(self, request: dict[str, Any]) -> None:
        """Have it get ready for a selection: strategy, folder of the arrays, numbers."""
        if self.process is None:
            self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
            self.process = subprocess.Popen(
                [self.interpreter, SCRIPTS / self.script],
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": str(REPOSITORY) if self.script in OWN_SCRIPTS else ""},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            )  # fmt: skip
        self._limit_memory(math.inf)
        self._ask(request, _LOAD_SECONDS)
        self._limit_memory(self.limits.gigabytes)

    def run(self) -> dict[str, Any]:
        """Have it select once."""
        return self._ask({}, self.limits.seconds)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.errors.close()
            self.process = None

    def _ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            self.close()
            raise _TooSlowError(seconds)
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            said = last_line(self.errors.read()) if code >= 0 else f"ended by signal {-code}"
            self.close()
            raise _FailedError(said)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _limit_memory(self, gigabytes: float) -> None:
        """Bound the address space, so that one who asks for too much fails and not the machine."""
        if self.process is None or not hasattr(resource, "prlimit"):
            return
        most = resource.RLIM_INFINITY
        if gigabytes < math.inf:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + int(gigabytes * 2**30)
        hard = resource.prlimit(self.process.pid, resource.RLIMIT_AS)[1]
        resource.prlimit(self.process.pid, resource.RLIMIT_AS, (most, hard))


def compete(
    contestants: dict[str, Contestant], request: dict[str, Any], rounds: int, patience: float
) -> dict[str, Outcome]:
    """Let those who offer the strategy select in turn, ``rounds`` times.

    Args:
        contestants: All there are.
        request: The selection.
        rounds: Number of rounds.
        patience: One who has run for so many seconds in all sits the other rounds out.

    Returns:
        What each did.
    """
    outcomes = {name: Outcome() for name, entry in contestants.items() if request["strategy"] in entry.strategies}
    for name, outcome in outcomes.items():
        with _told(outcome):
            contestants[name].load(request)
    for _ in range(rounds):
        for name, outcome in outcomes.items():
            answer = None
            if not outcome.is_out and sum(seconds or 0 for seconds in outcome.seconds) <= patience:
                with _told(outcome):
                    answer = contestants[name].run()
            outcome.seconds.append(answer["seconds"] if answer else None)
            if answer and not outcome.picks:
                outcome.picks, outcome.megabytes = answer["picks"], answer["megabytes"]
    return outcomes


@contextmanager
def _told(outcome: Outcome) -> Iterator[None]:
    """Note why a contestant is out, in place of raising."""
    try:
        yield
    except _TooSlowError as error:
        outcome.gave_up_after = error.args[0]
    except _FailedError as error:
        outcome.error = str(error)
