"""RUN_DIR: what a run leaves, where it lies, and how it is written so that a kill leaves the old or the new file."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lightning_al import durable, recorded_query, rounds_table
from lightning_al.exceptions import ResumeError, RunFolderError
from lightning_al.locked_folder import LockedFolder
from lightning_al.recorded_query import RecordedQuery

__all__ = ["RecordedQuery", "RunFolder", "check_readable", "run_folder"]

_RECORD = re.compile(r"round-(\d{3,})(?:-(\d+))?\.record")
VERSION = 1
"""Of run.json; a newer one is refused."""


class RunFolder:
    """The folder of one run.

    Args:
        path: The folder. It is created by the first write.
    """

    def __init__(self, path: str | Path) -> None:
        """Names the paths; nothing is read or created yet."""
        self.path = Path(path)
        self.ledger_path = self.path / "ledger.csv"
        self.checkpoint = self.path / "last-round.ckpt"
        self.initial_weights = self.path / "initial-weights.ckpt"
        self.rounds_csv = self.path / "rounds.csv"
        self.queries = self.path / "queries"
        self.run_json = self.path / "run.json"
        self._files = LockedFolder(self.path, "run.lock", doing="running", option="`dirpath=`")
        self._answers = LockedFolder(self.path, "answers.lock", doing="adding answers", option="`dirpath=`")
        self._lock: AbstractContextManager[object] | None = None

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"RunFolder({str(self.path)!r})"

    @property
    def exists(self) -> bool:
        """Whether a run has begun here: a folder of other files, or an empty one, is no run."""
        return any(path.exists() for path in (self.run_json, self.ledger_path, self.checkpoint))

    @property
    def is_unfinished(self) -> bool:
        """Whether a run has begun here and not come to its end."""
        return self.exists and not (self.read_run() or {}).get("finished", False)

    def query_path(self, round: int, part: int = 1) -> Path:
        """Where a query of a round lies, for people.

        Args:
            round: The round that trains on the query's labels.
            part: 1; 2 and more replace what was rejected.

        Returns:
            ``queries/round-003.csv``; the contact sheet has the suffix ``.png``, and what the program keeps of the
            query, which nobody may edit, ``.record``.

        Examples:
            >>> RunFolder("run").query_path(3).name, RunFolder("run").query_path(3, part=2).name
            ('round-003.csv', 'round-003-2.csv')
        """
        return self.queries / f"round-{round:03d}{f'-{part}' if part > 1 else ''}.csv"

    def record_path(self, round: int, part: int = 1) -> Path:
        """Where the record of a query lies: see `query_path`."""
        return self.query_path(round, part).with_suffix(".record")

    def asked(self) -> list[tuple[int, int]]:
        """Round and part of every query that is recorded, in the order asked."""
        found = [_RECORD.fullmatch(path.name) for path in self.queries.glob("round-*.record")]
        return sorted((int(match[1]), int(match[2] or 1)) for match in found if match)

    def lock(self) -> None:
        """Keeps other processes from running in this folder, until this one ends or the object goes.

        Raises:
            RunFolderError: If another process runs here, or the folder cannot be made or locked.
        """
        self._lock = None  # given back before it is taken again: the other way round, none would be left
        self._lock = self._files.lock()

    def lock_answers(self) -> AbstractContextManager[object]:
        """Lets one process at a time read and write what was answered: the run, or who brings answers from outside.

        Raises:
            RunFolderError: If another process has kept it for a minute.
        """
        return self._answers.lock(wait=60)

    def write_sheet(self, path: Path, content: bytes) -> None:
        """Writes a query for people.

        Raises:
            RunFolderError: If it cannot be written.
        """
        self._files.write(path, content)

    def write_rounds(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes rounds.csv: a row a round, with every logged metric, sorted by name.

        A metric that has the name of one of the last columns (``cost``, say) is written as ``logged_cost``.

        Args:
            history: A mapping a round: ``round``, ``labeled``, ``unlabeled``, ``pending``, ``rejected``, ``metrics``
                (name to value), ``seconds_fit``, ``seconds_query`` and, where labels have a price, ``cost``.

        Raises:
            RunFolderError: If it cannot be written; the old file is then as it was.
        """
        self._files.write(self.rounds_csv, rounds_table.encode(history))

    def read_rounds(self) -> list[dict[str, Any]]:
        """Reads rounds.csv; a column that an older version did not write is 0.

        Returns:
            The history that `write_rounds` wrote; empty where there is no such file.

        Raises:
            RunFolderError: If it is no such table.
        """
        try:
            return rounds_table.decode(self._files.read(self.rounds_csv) or b"")
        except ValueError as error:
            raise _changed(self.rounds_csv, str(error)) from error

    def write_query(self, round: int, query: RecordedQuery, part: int = 1) -> None:
        """Records a query, before the oracle is asked: after a kill the same samples are asked, none twice.

        Args:
            round: The round that will train on the labels.
            query: What is asked.
            part: Which of the round's queries: see `query_path`.

        Raises:
            ValueError: If there is nothing to ask, an index comes twice, or there are not as many scores as indices.
            RunFolderError: If it cannot be written; an old record is then as it was.
        """
        self._files.write(self.record_path(round, part), recorded_query.encode(round, query))

    def read_query(self, round: int, part: int = 1) -> RecordedQuery | None:
        """Reads what was asked in a round.

        Args:
            round: The round that trains on the labels.
            part: Which of the round's queries: see `query_path`.

        Returns:
            The query, ``None`` where none was recorded.

        Raises:
            RunFolderError: If the file is not as it was written.
        """
        path = self.record_path(round, part)
        content = self._files.read(path)
        try:
            return None if content is None else recorded_query.decode(round, content)
        except ValueError as error:
            raise _changed(path, str(error)) from error

    def write_run(self, info: Mapping[str, Any]) -> None:
        """Writes run.json: what identifies the run, and whether it is finished.

        Args:
            info: Values that JSON holds; ``version`` is added where it is missing.

        Raises:
            ValueError: If the values cannot be written as JSON.
            RunFolderError: If the file cannot be written; the old one is then as it was.
        """
        try:
            text = json.dumps({"version": VERSION, **info}, indent=2, allow_nan=False)
        except TypeError as error:
            raise ValueError(f"Expected `info` to hold what JSON holds, but got {dict(info)!r} ({error}).") from error
        self._files.write(self.run_json, (text + "\n").encode())

    def update_run(self, **changes: Any) -> None:
        """Changes some values of run.json and leaves the others; arguments and errors as those of `write_run`."""
        self.write_run({**(self.read_run() or {}), **changes})

    def read_run(self) -> dict[str, Any] | None:
        """Reads run.json.

        Returns:
            What `write_run` wrote, ``None`` where there is no such file.

        Raises:
            RunFolderError: If it is no JSON object, or of a newer version of this package.
        """
        content = self._files.read(self.run_json)
        if content is None:
            return None
        try:
            info = json.loads(content)
        except ValueError as error:
            raise _changed(self.run_json, f"it is no JSON ({error})") from error
        if not isinstance(info, dict) or not isinstance(info.get("version"), int):
            raise _changed(self.run_json, "it holds no object with a version")
        if info["version"] > VERSION:
            raise RunFolderError(
                f"Expected {self.run_json} to have version {VERSION}, but got {info['version']}: a newer lightning-al "
                "wrote it. Install that one, or set `dirpath=` to another folder."
            )
        return info

    def set_aside(self) -> Path:
        """Renames the folder to ``<name>-1``, ``-2``, ... so that a new run can begin; nothing is ever deleted.

        Returns:
            Where the folder is now.

        Raises:
            RunFolderError: If there is no such folder, or it cannot be renamed.
        """
        path = self.path.absolute()
        number = 1
        while os.path.lexists(target := path.with_name(f"{path.name}-{number}")):
            number += 1
        try:
            path.rename(target)
            durable.sync_folder(target.parent)
        except OSError as error:
            raise RunFolderError(f"The run's folder {path} cannot be renamed to {target}: {error}.") from error
        return target


def run_folder(dirpath: str | Path | None, default_root_dir: str | Path) -> RunFolder:
    """RUN_DIR of a run: never the logger's version folder, which is another one in each process.

    Args:
        dirpath: The folder that the user set, if any.
        default_root_dir: The Trainer's.

    Returns:
        The folder ``dirpath``, else ``active_learning`` in ``default_root_dir``.

    Examples:
        >>> run_folder(None, "logs"), run_folder("mine", "logs")
        (RunFolder('logs/active_learning'), RunFolder('mine'))
    """
    return RunFolder(dirpath or Path(default_root_dir) / "active_learning")


def check_readable(checkpoint: Path) -> None:
    """Checks that a checkpoint is whole.

    Args:
        checkpoint: The file; a folder, which a strategy wrote in shards, is left to that strategy.

    Raises:
        ResumeError: If it is cut or damaged.
    """
    if checkpoint.is_dir():
        return
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            damaged = archive.testzip()
        problem = f"its part `{damaged}` is damaged" if damaged else None
    except (zipfile.BadZipFile, OSError) as error:
        problem = str(error)
    if problem:
        raise ResumeError(
            f"Expected a checkpoint to go on from, but {checkpoint} cannot be read: {problem}. Move it away and run "
            "the same command with `--ckpt_path last` again (in Python: without `ckpt_path`): the run starts again and "
            "replays the answers in the ledger, so that nothing is asked twice."
        )


def _changed(path: Path, what: str) -> RunFolderError:
    return RunFolderError(
        f"{path} is not as it was written: {what}. Restore it from a copy, or set `dirpath=` to another folder."
    )
