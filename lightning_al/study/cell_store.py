"""A study's folder: every finished cell is written once, whole, and never again, so that a kill loses no fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lightning_al.exceptions import RunFolderError
from lightning_al.locked_folder import LockedFolder
from lightning_al.study import cell_format, kept_settings
from lightning_al.study.cell_format import Arrays, Cell, EncodedCell


@dataclass(frozen=True)
class Failure:
    """A task that came to nothing.

    Args:
        key: The task's key.
        error: What went wrong, in one line.
        details: The end of the traceback, and of what the worker printed.
        attempts: How often it was tried; 0 where a task failed that it goes on from.
    """

    key: str
    error: str
    details: str
    attempts: int

    def __str__(self) -> str:
        """For people, with what to do."""
        tries = {0: "was not run", 1: "failed"}.get(self.attempts, f"failed {self.attempts} times")
        return (
            f"Task `{self.key}` {tries}: {self.error}. Run the same command again to try it again; what is finished "
            "is not run again."
        )


class CellStore:
    """The folder of one study: ``settings.json``, ``cells/<key>.json`` and ``.npz``, ``failures/<task>.json``.

    One process writes to it. Others may read: a cell that is there is whole.

    Args:
        folder: The folder. `opened` creates it.
    """

    def __init__(self, folder: str | Path) -> None:
        """Names the paths; nothing is read or created yet."""
        self.folder = Path(folder)
        self.settings = self.folder / "settings.json"
        self.cells = self.folder / "cells"
        self.failed = self.folder / "failures"
        self.logs = self.folder / "logs"
        self._files = LockedFolder(self.folder, "study.lock", doing="running a study", option="`output`")

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"CellStore({str(self.folder)!r})"

    @contextlib.contextmanager
    def opened(self, settings: Mapping[str, Any]) -> Iterator[CellStore]:
        """Begins a study in the folder or goes on with it, and keeps other processes out meanwhile.

        Args:
            settings: All that decides the results, as JSON holds it: two studies of equal settings have equal cells.

        Yields:
            This store.

        Raises:
            ValueError: If the settings cannot be written as JSON.
            RunFolderError: If another process runs here, the folder holds a study of other settings (each one that
                differs is named with both values), or it cannot be read or written.
        """
        wanted = cell_format.plain("settings", settings)
        with self._files.lock():
            found = self._read_settings()
            if found is None:
                self._files.write(self.settings, kept_settings.encode(wanted))
            elif differences := kept_settings.differences(found, wanted):
                raise RunFolderError(
                    f"{self.folder} holds a study of other settings:\n"
                    + "".join(f"  `{name}` was {old}, and is {new} now\n" for name, old, new in differences)
                    + f"Set `output` to another folder, set them as they were, or remove {self.folder} to begin again."
                )
            self._remove_leftovers()
            yield self

    def has(self, key: str) -> bool:
        """Whether a cell is there.

        Args:
            key: The cell's key.

        Raises:
            ValueError: If it is no key.
        """
        return self._path(key).exists()

    def keys(self) -> list[str]:
        """Keys of the cells that are there, sorted."""
        return sorted(path.stem for path in self.cells.glob("*.json") if cell_format.is_key(path.stem))

    def read(self, key: str) -> Cell | None:
        """Reads a cell.

        Args:
            key: The cell's key.

        Returns:
            The cell as it comes back from JSON, None where it is not there.

        Raises:
            ValueError: If it is no key.
            RunFolderError: If its file is not as it was written.
        """
        found = self._read_cell(key)
        return None if found is None else found[0]

    def read_arrays(self, key: str) -> dict[str, npt.NDArray[Any]]:
        """Reads the arrays of a cell.

        Args:
            key: The cell's key.

        Returns:
            The arrays by name; none where it has none, or is not there.

        Raises:
            ValueError: If it is no key.
            RunFolderError: If its files are not as they were written.
        """
        _, digest = self._read_cell(key) or ({}, None)
        if digest is None:
            return {}
        path = self._path(key, "npz")
        content = self._files.read(path)
        if content is None or cell_format.digest(content) != digest:
            raise self._damaged(path, "it does not match its checksum" if content else "it is not there")
        try:
            return cell_format.decode_arrays(content)
        except ValueError as error:
            raise self._damaged(path, str(error)) from error

    def write(self, key: str, cell: Cell, arrays: Arrays | None = None) -> None:
        """Writes a cell: when this returns it survives a kill and a power cut.

        Args:
            key: The cell's key, of letters, digits, ``.``, ``_`` and ``-``.
            cell: Values that JSON holds.
            arrays: Numbers that belong to it.

        Raises:
            ValueError: If it was written before, or cannot be written as JSON (NaN, say) and plain arrays.
            RunFolderError: If it cannot be written (a full disk); there is then no such cell.
        """
        self.put(cell_format.encode(key, cell, arrays))

    def put(self, cell: EncodedCell) -> None:
        """Writes a cell that was encoded elsewhere, as `write`.

        Args:
            cell: What `encode` made.

        Raises:
            ValueError: If it was written before.
            RunFolderError: If it cannot be written; there is then no such cell.
        """
        if self.has(cell.key):
            raise ValueError(f"Expected each cell to be made once, but `{cell.key}` is in {self.cells} already.")
        if cell.npz is not None:  # first: a cell is there once its JSON is
            self._files.write(self._path(cell.key, "npz"), cell.npz)
        self._files.write(self._path(cell.key), cell.json)

    def failures(self) -> list[Failure]:
        """The tasks that failed and have not succeeded since, sorted by key.

        Raises:
            RunFolderError: If a record is not as it was written.
        """
        failures = []
        for path in sorted(self.failed.glob("*.json")):
            content = self._files.read(path)
            if content is not None:
                try:
                    failures.append(Failure(**cell_format.unseal(content, path.stem)[0]))
                except (TypeError, ValueError) as error:
                    raise self._damaged(path, str(error)) from error
        return failures

    def write_failure(self, failure: Failure) -> None:
        """Records that a task failed; replaces an older record.

        Args:
            failure: What went wrong.

        Raises:
            RunFolderError: If it cannot be written.
        """
        self._files.write(
            self.failed / f"{cell_format.check_key(failure.key)}.json", cell_format.seal(failure.key, asdict(failure))
        )

    def clear_failure(self, key: str) -> None:
        """Forgets that a task failed: it has succeeded now.

        Args:
            key: The task's key.
        """
        (self.failed / f"{cell_format.check_key(key)}.json").unlink(missing_ok=True)

    def _path(self, key: str, suffix: str = "json") -> Path:
        return self.cells / f"{cell_format.check_key(key)}.{suffix}"

    def _read_cell(self, key: str) -> tuple[Cell, str | None] | None:
        path = self._path(key)
        content = self._files.read(path)
        if content is None:
            return None
        try:
            return cell_format.unseal(content, key)
        except ValueError as error:
            raise self._damaged(path, str(error)) from error

    def _read_settings(self) -> dict[str, Any] | None:
        content = self._files.read(self.settings)
        if content is None:
            if self.keys():
                raise RunFolderError(
                    f"{self.cells} holds cells, but {self.settings} is not there to tell of which study. Put it back, "
                    f"set `output` to another folder, or remove {self.folder} to begin again."
                )
            return None
        try:
            version, settings = kept_settings.decode(content)
        except ValueError as error:
            raise RunFolderError(
                f"{self.settings} is not as it was written ({error}). Put it back, set `output` to another folder, or "
                f"remove {self.folder} to begin again."
            ) from error
        if version > kept_settings.VERSION:
            raise RunFolderError(
                f"Expected {self.settings} to have version {kept_settings.VERSION}, but got {version}: a newer "
                "lightning-al wrote it. Install that one, or set `output` to another folder."
            )
        return settings

    def _remove_leftovers(self) -> None:
        """Takes away what a kill left half written."""
        leftovers = [path for folder in (self.folder, self.cells, self.failed) for path in folder.glob(".*.tmp")]
        leftovers += [path for path in self.cells.glob("*.npz") if not path.with_suffix(".json").exists()]
        for path in leftovers:
            with contextlib.suppress(OSError):  # it is in nobody's way
                path.unlink()

    def _damaged(self, path: Path, problem: str) -> RunFolderError:
        return RunFolderError(
            f"{path} is not as it was written: {problem}. Restore it from a copy, or remove it: the same command then "
            "makes it again."
        )
