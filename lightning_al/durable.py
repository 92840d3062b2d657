"""Files that survive a kill, a full disk and a spreadsheet: atomic writes, and CSV lines that carry a checksum chain.

A line is ``cell,cell,...,checksum``; its checksum covers the line and the checksum before it, so that a changed,
dropped, doubled or moved line is found. The chain finds accidents and careless edits: it is no signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

CHECKSUM_LENGTH = 16
"""Hex digits kept of a SHA-256: 64 bits, plenty against accidents, short enough to look at."""

BINARY = getattr(os, "O_BINARY", 0)
"""For ``os.open``: Windows would turn line feeds into two characters that no checksum covers."""

_RISKY = re.compile(r"\s*[=+\-@＝＋－＠']|[\t\r\n]|[^\r\n\0]*[\r\n\0]")  # noqa: RUF001 (Excel runs the wide ones too)
_NEEDS_QUOTES = re.compile(r'[",]|\A\s|\s\Z')
_ESCAPES = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", "\0": "\\0"}
_UNESCAPES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(,|\Z)')


def encode_cell(text: str) -> str:
    r"""Writes free text so that no spreadsheet runs it as a formula and a line stays one line.

    Text that starts like a formula (``= + - @``, tab, ``'``) or holds a line break gets a leading ``'``, and in it
    backslash, line breaks and NUL are written ``\\``, ``\r``, ``\n``, ``\0``. Anything else stays as it is.

    Args:
        text: The text of one cell.

    Returns:
        The cell's content, before CSV quoting. `decode_cell` gives the text back exactly.

    Examples:
        >>> encode_cell("=1+1"), encode_cell("Margin")
        ("'=1+1", 'Margin')
        >>> decode_cell(encode_cell("-a\\b\nc")) == "-a\\b\nc"
        True
    """
    if not _RISKY.match(text):
        return text
    return "'" + re.sub(r"[\\\r\n\0]", lambda match: _ESCAPES[match[0]], text)


def decode_cell(cell: str) -> str:
    """Undoes `encode_cell`.

    Args:
        cell: The cell's content, after CSV quoting was taken away.

    Returns:
        The text.

    Raises:
        ValueError: If the cell holds an escape that `encode_cell` does not write.

    Examples:
        >>> decode_cell("'=1+1")
        '=1+1'
    """
    if not cell.startswith("'"):
        return cell

    def unescape(match: re.Match[str]) -> str:
        if match[0] not in _UNESCAPES:
            raise ValueError(f"Expected an escape of a text cell to be one of {[*_UNESCAPES]}, but got {match[0]!r}.")
        return _UNESCAPES[match[0]]

    return re.sub(r"\\.?", unescape, cell[1:], flags=re.DOTALL)


def join_cells(cells: Iterable[str]) -> str:
    """Joins cells to one CSV line without line end.

    Args:
        cells: The cells' contents (without line breaks: see `encode_cell`).

    Returns:
        The line; a cell with a comma, a quote or space at its ends is quoted.

    Examples:
        >>> join_cells(["1", 'a "b", c'])
        '1,"a ""b"", c"'
    """
    return ",".join('"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell for cell in cells)


def split_cells(line: str) -> list[str]:
    """Splits one CSV line. The csv module is not used for it: it refuses cells past 131,072 characters.

    Args:
        line: The line, without its line end.

    Returns:
        The cells' contents.

    Raises:
        ValueError: If the quotes do not match.

    Examples:
        >>> split_cells('1,"a ""b"", c",')
        ['1', 'a "b", c', '']
    """
    if '"' not in line:
        return line.split(",")
    cells = []
    position, separator = 0, ","
    while separator:
        match = _CELL.match(line, position)
        if match is None:
            raise ValueError(f"Expected a CSV cell at character {position + 1}, but its quotes do not match.")
        quoted, plain, separator = match.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end()
    return cells


def chain_start(text: str) -> str:
    """The checksum that stands before a file's first line.

    Args:
        text: What the chain is tied to, for instance the header.

    Returns:
        A checksum (16 hex digits).

    Examples:
        >>> chain_start("dataset_index,round")
        '13ee91b4a69403a1'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:CHECKSUM_LENGTH]


def seal(lines: Iterable[str], previous: str) -> tuple[bytes, str]:
    """Adds the checksum to each line.

    Args:
        lines: CSV lines without line end.
        previous: The checksum before the first of them.

    Returns:
        The bytes to write, each line with its line end, and the last checksum.

    Raises:
        UnicodeEncodeError: If a line cannot be written as UTF-8 (a lone surrogate).
    """
    sealed = []
    for line in lines:
        body = line.encode()
        previous = _checksum(previous, body)
        sealed.append(b"%b,%b\n" % (body, previous.encode()))
    return b"".join(sealed), previous


def unseal(line: bytes, previous: str) -> tuple[list[str], str]:
    """Checks one line against its checksum and the one before, and splits it.

    Args:
        line: The line as read, without its line end.
        previous: The checksum of the line before.

    Returns:
        The cells without the checksum, and the checksum.

    Raises:
        ValueError: If the line was changed, or is not the one that followed.
    """
    body, _, found = line.rpartition(b",")
    expected = _checksum(previous, body)
    if found != expected.encode():
        raise ValueError("it does not match its checksum: the row was changed, or a row was added, dropped or moved")
    return split_cells(body.decode()), expected


def _checksum(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + b"\n" + body).hexdigest()[:CHECKSUM_LENGTH]


def write_all(file_descriptor: int, data: bytes) -> None:
    """Writes all of the data: one ``os.write`` may stop early, on a nearly full disk without an error.

    Args:
        file_descriptor: An open file.
        data: The bytes.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file_descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Makes a new or replaced name in a folder durable, where the system can (not on Windows).

    Args:
        folder: The folder.
    """
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse to sync a folder
        file_descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file_descriptor)
        finally:
            os.close(file_descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lets a file be written beside its place and then put there at once: a kill leaves the old or the new file.

    Args:
        path: The file to replace or create; its folder is created.

    Yields:
        The temporary path to write to, in the same folder. It is synced and renamed on the way out; after an
        exception it is removed and the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # one fixed name: what a kill left behind is overwritten by the next write instead of piling up
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        file_descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(file_descriptor)
        finally:
            os.close(file_descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces or creates a file; a kill leaves the old or the new content, never a part.

    Args:
        path: The file.
        data: Its new content.

    Raises:
        OSError: If it cannot be written (a full disk); the old file is then as it was.
    """
    with replacing(path) as temporary:
        file_descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o666)
        try:
            write_all(file_descriptor, data)
        finally:
            os.close(file_descriptor)
