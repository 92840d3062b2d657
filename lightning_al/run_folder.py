"""RUN_DIR: what a run leaves, where it lies, and how it is written so that a kill leaves the old or the new file."""

from __future__ import annotations

import json
import operator
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from lightning_al import durable
from lightning_al.exceptions import ResumeError, RunFolderError

try:
    import fcntl
except ImportError:  # Windows: no lock there
    fcntl = None  # type: ignore[assignment]  # a module's type has no None

VERSION = 1
"""Of run.json; a newer one is refused."""

_FIRST_COLUMNS = ("round", "labeled", "unlabeled", "pending", "rejected")
_LAST_COLUMNS = ("cost", "seconds_fit", "seconds_query")
_TAKEN = re.compile("(logged_)*(" + "|".join(_LAST_COLUMNS) + ")")
"""Metrics of these names get ``logged_`` before theirs in rounds.csv."""
_QUERY_HEADER = "rank,dataset_index,strategy,score,checksum"


@dataclass(frozen=True)
class RecordedQuery:
    """What was asked in a round, written before it was asked.

    Args:
        dataset_indices: Which samples, in the order picked.
        scores: The strategy's scores, one for each; ``None`` where it gives none.
        strategy: The strategy's name.
    """

    dataset_indices: list[int]
    scores: list[float] | None
    strategy: str


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

    def query_path(self, round: int) -> Path:
        """Where the query of a round lies.

        Args:
            round: The round that trains on the query's labels.

        Returns:
            ``queries/round-003.csv``; the contact sheet has the suffix ``.png``.

        Examples:
            >>> RunFolder("run").query_path(3).name
            'round-003.csv'
        """
        return self.queries / f"round-{round:03d}.csv"

    def lock(self) -> None:
        """Keeps other processes from running in this folder, until this one ends or the object goes.

        Raises:
            RunFolderError: If another process runs here.
        """
        if fcntl is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        # A record lock: unlike `flock` it is not inherited by forked data loader workers, which outlive a kill.
        self._lock = open(self.path / "run.lock", "a")  # noqa: SIM115 - held open as long as the run
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFolderError(
                f"Another process is running in {self.path} ({error}). Wait for it, end it, or set `dirpath=` to "
                "another folder."
            ) from error

    def write_rounds(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes rounds.csv: a row a round, with every logged metric, sorted by name.

        A metric that has the name of one of the last columns (``cost``, say) is written as ``logged_cost``.

        Args:
            history: A mapping a round: ``round``, ``labeled``, ``unlabeled``, ``pending``, ``rejected``, ``metrics``
                (name to value), ``seconds_fit``, ``seconds_query`` and, where labels have a price, ``cost``.

        Raises:
            RunFolderError: If it cannot be written; the old file is then as it was.
        """
        # `round` and `labeled` are logged metrics too
        metrics = sorted({name for row in history for name in row.get("metrics", {})} - {*_FIRST_COLUMNS})
        last = [name for name in _LAST_COLUMNS if name != "cost" or any("cost" in row for row in history)]
        columns = [durable.encode_cell(f"logged_{name}" if _TAKEN.fullmatch(name) else name) for name in metrics]
        lines = [durable.join_cells([*_FIRST_COLUMNS, *columns, *last])]
        for row in history:
            values = row.get("metrics", {})
            cells = [row.get(name) for name in _FIRST_COLUMNS]
            cells += [values.get(name) for name in metrics]
            cells += [row.get(name) for name in last]
            lines.append(durable.join_cells(_number(cell) for cell in cells))
        self._write(self.rounds_csv, "".join(line + "\n" for line in lines).encode())

    def read_rounds(self) -> list[dict[str, Any]]:
        """Reads rounds.csv.

        Returns:
            The history that `write_rounds` wrote; empty where there is no such file.

        Raises:
            RunFolderError: If it is no such table.
        """
        history: list[dict[str, Any]] = []
        try:
            # not splitlines: a metric's name may hold other characters that count as line ends there
            header, *lines = (_read(self.rounds_csv) or b"").decode().removesuffix("\n").split("\n")
            names = [durable.decode_cell(name) for name in durable.split_cells(header)]
            for line in lines:
                cells = dict(zip(names, durable.split_cells(line), strict=True))
                row: dict[str, Any] = {name: int(cells.pop(name)) for name in _FIRST_COLUMNS}
                row |= {name: float(cell) for name in _LAST_COLUMNS if (cell := cells.pop(name, ""))}
                row["metrics"] = {
                    name.removeprefix("logged_") if _TAKEN.fullmatch(name) else name: float(cell)
                    for name, cell in cells.items()
                    if cell
                }
                history.append(row)
        except (KeyError, ValueError) as error:
            raise _changed(self.rounds_csv, f"line {len(history) + 2} is no row of it ({error})") from error
        return history

    def write_query(self, round: int, query: RecordedQuery) -> None:
        """Records a query, before the oracle is asked: after a kill the same samples are asked, none twice.

        Args:
            round: The round that will train on the labels.
            query: What is asked.

        Raises:
            ValueError: If there is nothing to ask, an index comes twice, or there are not as many scores as indices.
            RunFolderError: If it cannot be written; an old record is then as it was.
        """
        indices = [operator.index(index) for index in query.dataset_indices]
        if not indices or len(set(indices)) < len(indices) or min(indices) < 0:
            raise ValueError(
                "Expected `dataset_indices` of a query to be one or more different indices from 0, but got "
                f"{len(indices)}, of which {len(set(indices))} are different{f': {indices[:10]}' if indices else ''}."
            )
        scores = [""] * len(indices) if query.scores is None else [repr(float(score)) for score in query.scores]
        if len(scores) != len(indices):
            raise ValueError(f"Expected `scores` to have {len(indices)} values, but got {len(scores)}.")
        strategy = durable.encode_cell(query.strategy)
        lines = [
            durable.join_cells((str(rank), str(index), strategy, score))
            for rank, (index, score) in enumerate(zip(indices, scores, strict=True), start=1)
        ]
        sealed, _ = durable.seal(lines, _query_chain_start(round, len(lines)))
        self._write(self.query_path(round), _QUERY_HEADER.encode() + b"\n" + sealed)

    def read_query(self, round: int) -> RecordedQuery | None:
        """Reads what was asked in a round.

        Args:
            round: The round that trains on the labels.

        Returns:
            The query, ``None`` where none was recorded.

        Raises:
            RunFolderError: If the file is not as it was written.
        """
        path = self.query_path(round)
        content = _read(path)
        if content is None:
            return None
        header, *lines = content.split(b"\n")
        if header.decode(errors="replace") != _QUERY_HEADER or len(lines) < 2 or lines.pop():
            raise _changed(path, f"it does not begin with {_QUERY_HEADER!r}, or does not end with a whole row")
        rows = []
        checksum = _query_chain_start(round, len(lines))
        for number, line in enumerate(lines, start=1):
            try:
                cells, checksum = durable.unseal(line, checksum)
                _, index, strategy, score = cells
                rows.append((int(index), durable.decode_cell(strategy), float(score) if score else None))
            except ValueError as error:
                raise _changed(path, f"row {number} (line {number + 1}): {error}") from error
        scores = [score for _, _, score in rows if score is not None]
        return RecordedQuery([index for index, _, _ in rows], scores or None, rows[0][1])

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
        self._write(self.run_json, (text + "\n").encode())

    def read_run(self) -> dict[str, Any] | None:
        """Reads run.json.

        Returns:
            What `write_run` wrote, ``None`` where there is no such file.

        Raises:
            RunFolderError: If it is no JSON object, or of a newer version of this package.
        """
        content = _read(self.run_json)
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

    def _write(self, path: Path, data: bytes) -> None:
        try:
            durable.write_atomically(path, data)
        except OSError as error:
            raise RunFolderError(
                f"{path} cannot be written: {error}. What was there before is as it was. Free some space or set "
                "`dirpath=` to another folder, and run again."
            ) from error


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


def _query_chain_start(round: int, rows: int) -> str:
    # round and count are in the chain: a record under another round's name, or without its last rows, is found
    return durable.chain_start(f"{_QUERY_HEADER}\nround {round}, {rows} rows")


def _number(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, Integral) else repr(float(value))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error}.") from error


def _changed(path: Path, what: str) -> RunFolderError:
    return RunFolderError(
        f"{path} is not as it was written: {what}. Restore it from a copy, or set `dirpath=` to another folder."
    )
