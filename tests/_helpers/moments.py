"""The moments of a run at which a kill could do harm, numbered as they come, and a kill at one of them."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.fabric.plugins.io.torch_io as torch_io
import torch

from lightning_al import durable, labeling, reporting, rounds
from lightning_al.callback import ActiveLearning
from lightning_al.oracles import DatasetOracle
from tests._helpers.runs import DropoutMLP, command_line, fit

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Moments:
    """Counts moments and kills its own process at one of them.

    Args:
        fatal: The number of the moment that ends the process; None only writes the moments down.
        notes: The file that lists them.
        blow: What happens at the moment: a kill.
    """

    def __init__(self, fatal: int | None, notes: Path, blow: Callable[[], None]) -> None:
        self.fatal, self.notes, self.blow, self.count = fatal, notes, blow, 0
        self.root = str(Path.cwd())
        self._busy = False
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def pass_by(self, what: str, harm: Callable[[], None] | None = None) -> None:
        """A moment: counted, written down, and survived unless it is the fatal one; ``harm`` is done before."""
        if self._busy:
            return
        self._busy = True
        os.pwrite(self._notes, f"{what}\n".encode(), os.lseek(self._notes, 0, os.SEEK_END))
        fatal = self.count == self.fatal
        self.count += 1
        if fatal and harm is not None:
            harm()
        self._busy = False
        if fatal:
            self.blow()

    def install(self) -> None:
        """Put the moments into the code that this process will run."""
        self._around(DropoutMLP, "training_step", "fit: batch")
        self._around(DropoutMLP, "validation_step", "fit: validation")
        self._around(ActiveLearning, "on_train_epoch_end", "fit: epoch end")
        self._around(rounds, "_step", "query: batch")
        self._around(DatasetOracle, "label", "labeling: oracle")
        self._around(os, "fsync", lambda fd: self._of_file(_name_of(fd), "sync"))
        original_write = durable.write_all

        def write_all(file_descriptor: int, data: bytes) -> None:
            half = functools.partial(original_write, file_descriptor, bytes(data[: len(data) // 2]))
            self.pass_by(self._of_file(_name_of(file_descriptor), "half of a write") or "", half)
            original_write(file_descriptor, data)

        durable.write_all = write_all
        original_save = torch_io._atomic_save

        def atomic_save(checkpoint: dict[str, Any], path: Any) -> None:
            def half() -> None:
                original_save(checkpoint, path)
                os.truncate(path, os.path.getsize(path) // 2)

            self.pass_by(self._of_file(str(path), "half of a write") or "", half)
            original_save(checkpoint, path)

        torch_io._atomic_save = atomic_save
        plain_save = torch.save

        def save(obj: Any, file: Any, *args: Any, **kwargs: Any) -> None:
            plain_save(obj, file, *args, **kwargs)
            if isinstance(file, (str, os.PathLike)):
                half = functools.partial(os.truncate, file, os.path.getsize(file) // 2)
                self.pass_by(self._of_file(str(file), "half of a write") or "", half)

        torch.save = save
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self._busy or event not in ("open", "os.rename", "os.remove", "os.truncate"):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITES):
            return
        what = {"open": "open", "os.rename": "rename", "os.remove": "remove"}.get(event, event)
        name = args[0] if isinstance(args[0], (str, os.PathLike)) else ""
        where = self._of_file(os.path.abspath(name), what) if name else None
        if where is not None:
            self.pass_by(where)

    def _of_file(self, path: str, what: str) -> str | None:
        if not os.path.abspath(path).startswith(self.root) or path.endswith(".txt"):
            return None
        name = os.path.basename(path).strip(".").removesuffix(".tmp").removesuffix(".new")
        if "queries" in path or name.startswith("round-"):
            kind = "recording"
        elif name == "ledger.csv":
            kind = "labeling"
        elif name.endswith(".ckpt") or "checkpoints" in path:
            kind = "checkpointing"
        else:
            kind = "telling"
        return f"{kind}: {what} {name}"

    def _around(self, owner: Any, name: str, what: str | Callable[[Any], str | None]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            label = what if isinstance(what, str) else what(args[0])
            if label is not None:
                self.pass_by(label)
            result = original(*args, **kwargs)
            if label is not None and owner in (os, DatasetOracle):
                self.pass_by(f"{label}, done")
            return result

        setattr(owner, name, watched)


def _name_of(file_descriptor: Any) -> str:
    return os.readlink(f"/proc/self/fd/{file_descriptor}") if isinstance(file_descriptor, int) else ""


def kill_self() -> None:
    """As the kernel does when memory is out: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def draw_nothing() -> None:
    """Let figures be a word: what matters here is that a file is written, and drawing takes longer than all else."""

    def sheet(images: Any, captions: Any, path: Path, title: str) -> bool:
        durable.write_atomically(path, title.encode())
        return True

    def curve(history: Any, path: Path) -> None:
        durable.write_atomically(path.with_suffix(".png"), b"a figure")

    labeling.contact_sheet, reporting.learning_curve = sheet, curve


def quick_command_line(*more: str) -> None:
    """The command line without figures."""
    draw_nothing()
    command_line(*more)


def quick_fit(**arguments: Any) -> None:
    """The run in Python without figures."""
    draw_nothing()
    fit(**arguments)


def signaled_command_line(fatal: int, notes: Path, number: int, *more: str) -> None:
    """The command line, which gets a signal at a moment."""
    Moments(fatal, notes, lambda: os.kill(os.getpid(), number)).install()
    quick_command_line(*more)


def watched_command_line(fatal: int | None, notes: Path, *more: str) -> None:
    """The command line, killed at a moment."""
    Moments(fatal, notes, kill_self).install()
    quick_command_line(*more)
