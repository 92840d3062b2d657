"""Processes for tests, to be killed or to be ranks: forked from a server that has imported everything once.

A fresh interpreter needs seconds to import Lightning; a fork of the server starts at once and is as separate.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]
_PRELOADED = [
    "lightning_al.cli",
    "lightning.pytorch.loggers",
    "matplotlib.backends.backend_agg",
    "sklearn.datasets",
    "sklearn.model_selection",
    "tests._helpers.runs",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


def _python_path() -> str:
    given = os.environ.get("PYTHONPATH")
    return str(REPOSITORY) if not given else f"{REPOSITORY}{os.pathsep}{given}"


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that finds this package and its tests from any folder."""
    return {**os.environ, "PYTHONPATH": _python_path(), **more}


class Child:
    """A process that runs one function in a folder; what it prints is in ``output``."""

    def __init__(self, folder: Path, function: Callable[..., None], *args: Any, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="output-", suffix=".txt", dir=folder)
        os.close(handle)
        self._log = Path(name)
        self.process = _context.Process(target=_run, args=(folder, self._log, environment, function, args))
        with pytest.MonkeyPatch.context() as patch:  # the server, when it starts, looks for what it preloads there
            patch.setenv("PYTHONPATH", _python_path())
            self.process.start()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait(self, timeout: float = 120) -> int:
        """Wait for its end; its exit code, negative where a signal ended it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"Still running after {timeout} s:\n{self.output}")
        return self.process.exitcode


def start(folder: Path, function: Callable[..., None], *args: Any, **environment: str) -> Child:
    """Start a function in a process of its own, in a folder of its own."""
    return Child(folder, function, *args, environment=environment)


def run(folder: Path, function: Callable[..., None], *args: Any, **environment: str) -> Child:
    """As :func:`start`, and wait for a good end."""
    child = start(folder, function, *args, **environment)
    code = child.wait()
    assert code == 0, child.output
    return child


def start_ranks(folder: Path, function: Callable[..., None], *args: Any, world_size: int = 2) -> list[Child]:
    """Start a function once a rank, with the environment that torchrun gives its processes."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "tests",
    }
    ranks = [{"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(world_size)]
    return [start(folder, function, *args, **common, **rank) for rank in ranks]


def wait_all(children: Sequence[Child]) -> None:
    """Wait for a good end of all."""
    codes = [child.wait() for child in children]
    assert not any(codes), "\n".join(child.output for child in children)


def _run(
    folder: Path, log: Path, environment: dict[str, str], function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["lightning-al"]
    torch.set_num_threads(1)
    try:
        function(*args)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
