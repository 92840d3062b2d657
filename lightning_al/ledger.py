"""The ledger: who was asked, what was answered. Append-only, synced, every row chained to the one before."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_al import durable
from lightning_al.exceptions import LedgerError

COLUMNS = ("dataset_index", "round", "strategy", "score", "answer", "time", "checksum")
REJECTED = "rejected"
"""The answer of a sample that cannot be labeled. The label "rejected" is JSON and has quotes."""

_HEADER = ",".join(COLUMNS)
_HEADER_LINE = (_HEADER + "\n").encode()


@dataclass(frozen=True)
class LedgerRow:
    """One answer.

    Args:
        dataset_index: Which sample, an index into the training set.
        round: The round that first trains on the label (0: the initial labels).
        strategy: Who asked for it: the query strategy's name, or ``"initial"``.
        score: The strategy's score, higher is asked first; ``None`` where it gives none.
        answer: ``""`` (the dataset's own target), the label as JSON (see `encode_label`), or ``"rejected"``.
        time: When the answer came, for people; nothing computes with it.
    """

    dataset_index: int
    round: int
    strategy: str
    score: float | None
    answer: str
    time: str

    @property
    def rejected(self) -> bool:
        """Whether the sample was rejected."""
        return self.answer == REJECTED

    @property
    def label(self) -> Any:
        """The label, ``None`` where the dataset knows it or the sample was rejected."""
        return None if self.answer in ("", REJECTED) else json.loads(self.answer)


def encode_label(label: Any) -> str:
    """Writes a label as the ledger's ``answer``.

    Args:
        label: ``None`` (the dataset knows it), or a number, string, list or dict; tensors and arrays become lists.

    Returns:
        ``""`` for ``None``, else one line of JSON.

    Raises:
        ValueError: If the label cannot be read back from JSON (an object, NaN, a dict whose keys are no strings).

    Examples:
        >>> encode_label(3), encode_label("weed"), encode_label(None)
        ('3', '"weed"', '')
    """
    if label is None:
        return ""
    try:
        return json.dumps(_plain(label), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a label to be a finite number, string, list, dict or tensor, but got {label!r} ({error})."
        ) from error


def _plain(label: Any) -> Any:
    if hasattr(label, "tolist"):  # tensors, arrays and their scalars
        return label.tolist()
    if isinstance(label, list | tuple):
        return [_plain(item) for item in label]
    if isinstance(label, dict):
        if not all(isinstance(key, str) for key in label):
            raise TypeError("keys that are no strings do not come back from JSON as they were")
        return {key: _plain(value) for key, value in label.items()}
    return label


class Ledger:
    """RUN_DIR/ledger.csv: what people answered. It is appended to and never rewritten.

    Every row ends in a checksum over itself and the row before, so that a changed, dropped, doubled or moved row is
    found when the file is read. Rows missing from its end are not: a checkpoint that is ahead of the ledger tells.

    Args:
        path: The file. It is created by the first `append`.
    """

    def __init__(self, path: str | Path) -> None:
        """Remembers the path; nothing is read or created yet."""
        self.path = Path(path)
        self._verified: tuple[int, str] | None = None  # bytes that were checked, and the last checksum in them

    def read(self, *, repair: bool = True) -> list[LedgerRow]:
        """Reads and verifies all rows.

        A last row without its line end is a write that a kill cut short: its `append` never returned. It is left
        out with a warning.

        Args:
            repair: Also cut such a row off the file. ``False`` where another process may be writing to it.

        Returns:
            The rows, in the order they were appended; none where the file does not exist.

        Raises:
            LedgerError: If a row was changed, added, dropped or moved, or the file is no ledger.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            self._verified = None
            return []
        except OSError as error:
            raise LedgerError(f"The ledger {self.path} cannot be read: {error}.") from error
        whole = content.rfind(b"\n") + 1
        tail = content[whole:]
        if whole == 0 and not _HEADER_LINE.startswith(tail):
            raise self._not_a_ledger(tail)
        lines = content[:whole].split(b"\n")[:-1]
        if lines and lines[0] + b"\n" != _HEADER_LINE:
            raise self._not_a_ledger(lines[0])
        rows, checksum = self._verify(lines[1:])
        if tail:
            self._leave_out(tail, whole, len(rows), repair)
        self._verified = (whole, checksum)
        return rows

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Appends rows in one write and syncs them: when this returns they survive a kill and a power cut.

        Args:
            rows: The rows. None: nothing happens.

        Raises:
            ValueError: If a row holds something that cannot be written.
            LedgerError: If the ledger on disk is damaged, or the rows cannot be written (a full disk). The file
                is then as long as before: nothing is half written.
        """
        lines = [_encode(row) for row in rows]
        if not lines:
            return
        length, checksum = self._position()
        data, checksum = durable.seal(lines, checksum)
        if length == 0:
            data = _HEADER_LINE + data
        self._write(data, length)
        self._verified = (length + len(data), checksum)

    def _position(self) -> tuple[int, str]:
        """Where to write: the length of the verified file and its last checksum."""
        size = self._size()
        if self._verified is not None and size < self._verified[0]:
            raise LedgerError(
                f"The ledger {self.path} has {size} bytes, but had {self._verified[0]} when it was last read or "
                "written: rows were taken away while the run was on. Put the file back."
            )
        if self._verified is None or size != self._verified[0]:
            self.read()
        position = self._verified or (0, durable.chain_start(_HEADER))
        if self._size() != position[0]:
            raise LedgerError(
                f"The last row of the ledger {self.path} is cut short and could not be cut off the file, or another "
                "process is writing to it. Make the file writable, or end the other run."
            )
        return position

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _write(self, data: bytes, length: int) -> None:
        created = not self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file_descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | durable.BINARY, 0o666)
        except OSError as error:
            raise LedgerError(f"The ledger {self.path} cannot be opened for writing: {error}.") from error
        try:
            durable.write_all(file_descriptor, data)
            os.fsync(file_descriptor)
            if created:
                durable.sync_folder(self.path.parent)
        except BaseException as error:  # Ctrl-C too: an append that does not return leaves nothing behind
            rest = self._take_back(file_descriptor, length, created)
            if isinstance(error, OSError):
                raise LedgerError(
                    f"The answers could not be written to the ledger {self.path}: {error}. {rest} "
                    "Free some space (or set `dirpath=` to another disk) and run again."
                ) from error
            raise
        finally:
            os.close(file_descriptor)

    def _take_back(self, file_descriptor: int, length: int, created: bool) -> str:
        try:
            os.ftruncate(file_descriptor, length)
            if created:
                self.path.unlink()
        except OSError as error:
            return f"Its old length of {length} bytes could not be restored either ({error})."
        with contextlib.suppress(OSError):
            os.fsync(file_descriptor)
        return "It is as it was before."

    def _verify(self, lines: list[bytes]) -> tuple[list[LedgerRow], str]:
        rows = []
        checksum = durable.chain_start(_HEADER)
        for number, line in enumerate(lines, start=1):
            try:
                cells, checksum = durable.unseal(line, checksum)
                rows.append(_decode(cells))
            except ValueError as error:
                raise LedgerError(
                    f"Row {number} (line {number + 1}) of the ledger {self.path} cannot be trusted: {error}. The "
                    "ledger is only ever appended to: take back the edit (a spreadsheet that saves the file changes "
                    "it too) or restore a copy. Nothing was written."
                ) from error
        return rows, checksum

    def _leave_out(self, tail: bytes, whole: int, rows: int, repair: bool) -> None:
        outcome = "It is left out"
        if repair:
            try:
                os.truncate(self.path, whole)
                outcome += " and was cut off the file"
            except OSError as error:
                outcome += f", but could not be cut off the file ({error})"
        warnings.warn(
            f"Row {rows + 1} of the ledger {self.path} was cut short by a kill or a crash: {tail[:200]!r}. {outcome}; "
            f"the {rows} rows before it are whole.",
            stacklevel=3,
        )

    def _not_a_ledger(self, first: bytes) -> LedgerError:
        return LedgerError(
            f"Expected the first line of the ledger {self.path} to be {_HEADER!r}, but got {first[:200]!r}. The file "
            "is no ledger or its header was edited: restore it, or set `dirpath=` to another folder."
        )


def _encode(row: LedgerRow) -> str:
    for name in ("strategy", "answer", "time"):
        if not isinstance(getattr(row, name), str):
            raise ValueError(f"Expected `{name}` of a ledger row to be a string, but got {getattr(row, name)!r}.")
    for name in ("dataset_index", "round"):
        if operator.index(getattr(row, name)) < 0:
            raise ValueError(f"Expected `{name}` of a ledger row to be 0 or more, but got {getattr(row, name)!r}.")
    return durable.join_cells(
        (
            str(operator.index(row.dataset_index)),
            str(operator.index(row.round)),
            durable.encode_cell(row.strategy),
            "" if row.score is None else repr(float(row.score)),
            durable.encode_cell(row.answer),
            durable.encode_cell(row.time),
        )
    )


def _decode(cells: list[str]) -> LedgerRow:
    if len(cells) != len(COLUMNS) - 1:
        raise ValueError(f"it has {len(cells) + 1} cells where {len(COLUMNS)} belong")
    dataset_index, round_, strategy, score, answer, time = cells
    return LedgerRow(
        dataset_index=int(dataset_index),
        round=int(round_),
        strategy=durable.decode_cell(strategy),
        score=float(score) if score else None,
        answer=durable.decode_cell(answer),
        time=durable.decode_cell(time),
    )
