"""One process at a time in a folder: who has it is named, and whether that process is alive."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_al import durable, locked_folder
from lightning_al.exceptions import RunFolderError
from lightning_al.locked_folder import LockedFolder
from tests._helpers import processes

HERE = socket.gethostname()
needs_locks = pytest.mark.skipif(locked_folder.fcntl is None, reason="this system has no record locks")


def in_(path: Path) -> LockedFolder:
    return LockedFolder(path, "the.lock", doing="drawing", option="`there`")


def try_to_lock(path: str, says: str | None = None) -> None:
    """What a second process is told; `says` is first written in the lock's file."""
    if says is not None:
        Path(path, "the.lock").write_text(says)
    try:
        in_(Path(path)).lock()
    except RunFolderError as error:
        print(error)
    else:
        print("free")


def ended_process() -> int:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    return ended.pid


@needs_locks
def test_the_holder_is_named_until_it_gives_the_lock_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"

    def told() -> str:
        return processes.run(tmp_path / "second", try_to_lock, str(folder)).output

    with in_(folder).lock():
        assert (folder / "the.lock").read_bytes() == f"{os.getpid()} {HERE}\n".encode()
    with in_(folder).lock():  # what the first wrote is written over
        assert told() == (
            f"Another process is drawing in {folder}: process {os.getpid()} on this host ({HERE}), which is alive. "
            "Wait for it, end it, or set `there` to another folder.\n"
        )
        assert told().startswith("Another process")  # being refused took nothing away
    assert told() == "free\n"


@needs_locks
@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("", "it has not said which"),
        ("4711", "it has not said which"),
        ("-1 x", "it has not said which"),
        ("\0\xff\n", "it has not said which"),
        ("4711 elsewhere\n", "process 4711 on host elsewhere, where `ps -p 4711` tells whether it is alive"),
        (f"1 {HERE}\n", f"process 1 on this host ({HERE}), which is alive"),
        ("ended", f"on this host ({HERE}), where no such process is seen: it may run in another container"),
        (f"{'9' * 40} {HERE}", f"process {'9' * 40} on this host ({HERE}), where no such process is seen"),
    ],
)
def test_whatever_the_locks_file_says_is_told(tmp_path: Path, says: str, told: str) -> None:
    if says == "ended":
        pid = ended_process()
        says, told = f"{pid} {HERE}", f"process {pid} {told}"
    with in_(tmp_path / "folder").lock():
        output = processes.run(tmp_path / "second", try_to_lock, str(tmp_path / "folder"), says).output
    assert f"is drawing in {tmp_path / 'folder'}: {told}" in output
    assert output.endswith("Wait for it, end it, or set `there` to another folder.\n")


@needs_locks
def test_another_users_process_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_ours(pid: int, number: int) -> None:
        assert (pid, number) == (4711, 0)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def held(*_: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    (tmp_path / "the.lock").write_text(f"4711 {HERE}\n")
    monkeypatch.setattr(os, "kill", not_ours)
    monkeypatch.setattr(locked_folder.fcntl, "lockf", held)
    with pytest.raises(RunFolderError, match=r"process 4711 on this host \(.*\), which is alive"):
        in_(tmp_path).lock()


@needs_locks
def test_a_disk_without_locks_is_not_taken_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locked_folder.fcntl, "lockf", refuse)
    with pytest.raises(RunFolderError, match=r"the\.lock cannot be locked: .*No locks.*Set `there` to a folder on a"):
        in_(tmp_path).lock()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"file cannot be made or written to: .*Set `there` to another one"):
        in_(tmp_path / "file").lock()


def test_without_locks_the_folder_can_still_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locked_folder, "fcntl", None)  # as on Windows, where an open file stands in the way
    with in_(tmp_path / "folder").lock(), in_(tmp_path / "folder").lock():
        assert list((tmp_path / "folder").iterdir()) == []


def test_files_come_back_and_a_full_disk_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = in_(tmp_path), tmp_path / "below" / "file"
    assert folder.read(path) is None
    folder.write(path, b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(RunFolderError, match=r"file cannot be written: .*No space.* or set `there` to another folder"):
        folder.write(path, b"new")
    assert folder.read(path) == b"old"
    with pytest.raises(RunFolderError, match=r"below cannot be read"):
        folder.read(path.parent)


def test_it_can_be_handed_to_another_process(tmp_path: Path) -> None:
    with in_(tmp_path).lock():
        assert pickle.loads(pickle.dumps(in_(tmp_path))) == in_(tmp_path)
