"""What a process learns of a run that the processes it spawned have done: where its folder is, and what that holds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from lightning_al.answered import answered
from lightning_al.exceptions import RunFolderError
from lightning_al.ledger import Ledger
from lightning_al.pool import Pool
from lightning_al.run_folder import RunFolder

_LONGEST = 4096


class SharedPath:
    """A path in memory that a process shares with those it spawns or forks: one writes it, the others can read it."""

    def __init__(self) -> None:
        self._bytes = torch.zeros(_LONGEST, dtype=torch.uint8)
        with suppress(RuntimeError, OSError):  # no shared memory: `ddp_spawn` needs it anyway and says so
            self._bytes.share_memory_()

    def write(self, path: Path | None) -> None:
        """Let the other processes know a path; None forgets it."""
        encoded = b"" if path is None else str(path.absolute()).encode()
        if len(encoded) <= _LONGEST:
            self._bytes.zero_()
            self._bytes[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)

    def read(self) -> Path | None:
        """The path that one of these processes wrote, None where none did."""
        encoded = bytes(self._bytes.tolist()).rstrip(b"\0")
        return Path(encoded.decode()) if encoded else None


def pool_of(folder: RunFolder) -> Pool:
    """The pool as a run left it, from its ledger and its queries.

    Raises:
        RunFolderError: There is no run.
    """
    info = folder.read_run()
    if info is None:
        raise RunFolderError(f"{folder.path} holds no run: there is no {folder.run_json.name}.")
    pool = Pool(int(info["pool_size"]))
    rows = Ledger(folder.ledger_path).read(repair=False)
    begun = int(info.get("answers_for", max((row.round for row in rows), default=0) + 1))
    standing = answered(row for row in rows if row.round < begun)
    for number in range(begun):
        now = [(index, its.row.rejected) for index, its in standing.items() if its.since == number]
        pool.label([index for index, rejected in now if not rejected], number)
        pool.reject([index for index, rejected in now if rejected], number)
    for round, part in folder.asked():
        query = folder.read_query(round, part) if round < begun else None
        if query is not None:
            pool.hold([index for index in query.dataset_indices if index not in standing], round)
    pool.round = max(begun - 1, 0)
    return pool
