"""A study's folder: every finished cell is written once, whole, and never again, so that a kill loses no fit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lightning_al import durable
from lightning_al.exceptions import RunFolderError
from lightning_al.study import cell_format
from lightning_al.study.cell_format import Arrays, Cell, EncodedCell

try:
    import fcntl
except ImportError:  # Windows: no lock there
    fcntl = None  # type: ignore[assignment]  # a module's type has no None

VERSION = 1
"""Of settings.json; a newer one is refused."""

_LONGEST_VALUE = 200


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
        with self._lock():
            found = self._read_settings()
            if found is None:
                text = json.dumps({"version": VERSION, "settings": wanted}, indent=2)
                self._write(self.settings, (text + "\n").encode())
            elif differences := _differences(found, wanted):
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
        content = _read(path)
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
            self._write(self._path(cell.key, "npz"), cell.npz)
        self._write(self._path(cell.key), cell.json)

    def failures(self) -> list[Failure]:
        """The tasks that failed and have not succeeded since, sorted by key.

        Raises:
            RunFolderError: If a record is not as it was written.
        """
        failures = []
        for path in sorted(self.failed.glob("*.json")):
            content = _read(path)
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
        self._write(
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
        content = _read(path)
        if content is None:
            return None
        try:
            return cell_format.unseal(content, key)
        except ValueError as error:
            raise self._damaged(path, str(error)) from error

    def _read_settings(self) -> dict[str, Any] | None:
        content = _read(self.settings)
        if content is None:
            if self.keys():
                raise RunFolderError(
                    f"{self.cells} holds cells, but {self.settings} is not there to tell of which study. Put it back, "
                    f"set `output` to another folder, or remove {self.folder} to begin again."
                )
            return None
        try:
            found = json.loads(content)
            version, settings = int(found["version"]), dict(found["settings"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise RunFolderError(
                f"{self.settings} is not as it was written ({type(error).__name__}: {error}). Put it back, set "
                f"`output` to another folder, or remove {self.folder} to begin again."
            ) from error
        if version > VERSION:
            raise RunFolderError(
                f"Expected {self.settings} to have version {VERSION}, but got {version}: a newer lightning-al wrote "
                "it. Install that one, or set `output` to another folder."
            )
        return settings

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / "study.lock", "a")  # noqa: SIM115 - closed below, which unlocks it
        except OSError as error:
            raise RunFolderError(
                f"The study's folder {self.folder} cannot be made or written to: {error}. Set `output` to another one."
            ) from error
        with lock:
            if fcntl is not None:
                try:  # a record lock: workers do not inherit it, and the system takes it back when this process dies
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise RunFolderError(
                        f"Another process is running a study in {self.folder} ({error}). Wait for it, end it, or set "
                        "`output` to another folder."
                    ) from error
            yield

    def _remove_leftovers(self) -> None:
        """Takes away what a kill left half written."""
        leftovers = [path for folder in (self.folder, self.cells, self.failed) for path in folder.glob(".*.tmp")]
        leftovers += [path for path in self.cells.glob("*.npz") if not path.with_suffix(".json").exists()]
        for path in leftovers:
            with contextlib.suppress(OSError):  # it is in nobody's way
                path.unlink()

    def _write(self, path: Path, data: bytes) -> None:
        try:
            durable.write_atomically(path, data)
        except OSError as error:
            raise RunFolderError(
                f"{path} cannot be written: {error}. What is finished is safe: free some space and run the same "
                "command again, or set `output` to another folder."
            ) from error

    def _damaged(self, path: Path, problem: str) -> RunFolderError:
        return RunFolderError(
            f"{path} is not as it was written: {problem}. Restore it from a copy, or remove it: the same command then "
            "makes it again."
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, old and new value of each setting that differs.

    Examples:
        >>> _differences({"seed": 0, "data": {"pilot": 9}}, {"data": {"pilot": 8}, "seed": 0})
        [('data.pilot', '9', '8')]
    """
    before, after = _flat(old), _flat(new)
    names = list(dict.fromkeys([*before, *after]))
    rows = [(name, before.get(name, "not set"), after.get(name, "not set")) for name in names]
    return [(name, _shorten(then), _shorten(now)) for name, then, now in rows if then != now]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The value of each setting as JSON, by its name with dots."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value, sort_keys=True)
    return flat


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error}.") from error
