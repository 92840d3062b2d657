"""A folder that one process at a time writes to: who comes second is told who came first, and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_al import durable
from lightning_al.exceptions import RunFolderError

try:
    import fcntl
except ImportError:  # Windows: no lock there
    fcntl = None  # type: ignore[assignment]  # a module's type has no None

_HELD = (errno.EAGAIN, errno.EACCES)
"""What the system says of a lock that another process has."""


@dataclass(frozen=True)
class LockedFolder:
    """A folder, and how its errors speak of it.

    Args:
        path: The folder. It is created by the lock, or by the first write.
        lock_name: Name of the lock's file in it.
        doing: What the process that has the lock is doing, for instance ``"running a study"``.
        option: What sets another folder, as its user writes it.
    """

    path: Path
    lock_name: str
    doing: str
    option: str

    def lock(self, wait: float = 0.0) -> contextlib.AbstractContextManager[object]:
        """Keeps other processes from writing here.

        Args:
            wait: How many seconds to wait for another process that has the lock.

        Returns:
            What has the lock. It is given back when its context is left, the object goes or this process ends, and
            also when this process closes the lock's file by another way: a process has one lock of a file.

        Raises:
            RunFolderError: If another process has it, or the folder cannot be made or locked.
        """
        path = self.path / self.lock_name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                return contextlib.nullcontext()
            file = open(path, "ab+", buffering=0)  # noqa: SIM115 - open for as long as the lock is needed
        except OSError as error:
            raise RunFolderError(
                f"The folder {self.path} cannot be made or written to: {error}. Set {self.option} to another one."
            ) from error
        try:
            # A record lock: unlike `flock` it is not inherited by forked data loader workers, which outlive a kill.
            _lock(file, wait)
        except OSError as error:
            file.seek(0)
            holder = file.read(1000).decode(errors="replace")
            file.close()
            if error.errno not in _HELD:
                raise RunFolderError(
                    f"{path} cannot be locked: {error}. Set {self.option} to a folder on a disk that has locks."
                ) from error
            raise RunFolderError(
                f"Another process is {self.doing} in {self.path}: {_describe(holder)}. Wait for it, end it, or set "
                f"{self.option} to another folder."
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}\n".encode())
        return file

    def read(self, path: Path) -> bytes | None:
        """Reads a file.

        Args:
            path: The file.

        Returns:
            Its content, None where there is no such file.

        Raises:
            RunFolderError: If it cannot be read.
        """
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error}.") from error

    def write(self, path: Path, data: bytes) -> None:
        """Replaces or creates a file; a kill leaves the old or the new content, never a part.

        Args:
            path: The file.
            data: Its new content.

        Raises:
            RunFolderError: If it cannot be written (a full disk); the old file is then as it was.
        """
        try:
            durable.write_atomically(path, data)
        except OSError as error:
            raise RunFolderError(
                f"{path} cannot be written: {error}. What was there before is as it was: free some space and run the "
                f"same command again, or set {self.option} to another folder."
            ) from error


def _lock(file: Any, wait: float) -> None:
    """Lock a file, or raise the system's error where another process has it for longer than ``wait`` seconds."""
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in _HELD or time.monotonic() >= until:
                raise
            time.sleep(0.05)


def _describe(holder: str) -> str:
    """Who has a lock, by what its file says.

    Examples:
        >>> _describe("4711 no-such-host")
        'process 4711 on host no-such-host, where `ps -p 4711` tells whether it is alive'
        >>> _describe("")
        'it has not said which'
    """
    pid, _, host = holder.strip().partition(" ")
    if not (pid.isdecimal() and host):
        return "it has not said which"
    if host != socket.gethostname():
        return f"process {pid} on host {host}, where `ps -p {pid}` tells whether it is alive"
    try:
        os.kill(int(pid), 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return f"process {pid} on this host ({host}), where no such process is seen: it may run in another container"
    except PermissionError:  # it is another user's
        pass
    return f"process {pid} on this host ({host}), which is alive"
