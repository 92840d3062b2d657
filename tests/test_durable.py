"""Atomic writes and checksummed CSV lines, against the csv module and by hand."""

from __future__ import annotations

import csv
import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_al import durable

LINE_TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
CELLS = st.lists(LINE_TEXT | st.sampled_from(['"', '""', ",", '","', 'a"b', " ", ""]), min_size=1, max_size=6)


@given(CELLS)
def test_lines_mean_the_same_to_the_csv_module(cells: list[str]) -> None:
    line = durable.join_cells(cells)
    assert durable.split_cells(line) == cells
    if cells != [""]:  # for the csv module an empty line is no row
        assert list(csv.reader(io.StringIO(line, newline=""))) == [cells]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="").writerow(cells)
    assert durable.split_cells(buffer.getvalue()) == cells


@pytest.mark.parametrize("line", ['"a', 'a"b', '"a"b', '1,"a"",2', '"'])
def test_quotes_that_do_not_match_raise(line: str) -> None:
    with pytest.raises(ValueError, match="quotes do not match"):
        durable.split_cells(line)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1", "'=1"), ("+1", "'+1"), ("-1", "'-1"), ("@A", "'@A"), ("\t1", "'\t1"), ("\r1", r"'\r1"), (" =1", "' =1"),
        ("'a", "''a"), ("a\nb", r"'a\nb"), ("-\\n", r"'-\\n"), ("\0", r"'\0"), ("\uff1d1", "'\uff1d1"),
        ("", ""), ("1-1", "1-1"), ("a\\n", "a\\n"), ('"=1"', '"=1"'), ("[-1]", "[-1]"), ("1e-3", "1e-3"),
    ],
)  # fmt: skip
def test_cells_by_hand(text: str, cell: str) -> None:
    assert durable.encode_cell(text) == cell
    assert durable.decode_cell(cell) == text


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    cell = durable.encode_cell(text)
    assert durable.decode_cell(cell) == text
    assert not set(cell) & set("\r\n\0")


@pytest.mark.parametrize("cell", ["'a\\", "'\\x", "'\\\n"])
def test_an_escape_that_is_never_written_raises(cell: str) -> None:
    with pytest.raises(ValueError, match="Expected an escape"):
        durable.decode_cell(cell)


@given(st.lists(CELLS, max_size=5))
def test_sealed_lines_open_only_in_their_order(rows: list[list[str]]) -> None:
    start = durable.chain_start("a")
    data, last = durable.seal(map(durable.join_cells, rows), start)
    lines = data.split(b"\n")[:-1]
    previous = start
    for line, row in zip(lines, rows, strict=True):
        with pytest.raises(ValueError, match="checksum"):
            durable.unseal(line, durable.chain_start("b"))
        cells, previous = durable.unseal(line, previous)
        assert cells == row
    assert previous == last


def test_a_failed_replacement_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    durable.write_atomically(path, b"old")

    def write_half() -> None:
        with durable.replacing(path) as temporary:
            temporary.write_bytes(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    durable.write_atomically(tmp_path / "file", b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "file")]
    assert modes[0] == modes[1]


def test_writes_that_stop_early_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file_descriptor, data: write(file_descriptor, data[:3]))
    durable.write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_data_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(file_descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(file_descriptor).st_mode) else "file")
        fsync(file_descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        events.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    durable.write_atomically(tmp_path / "file", b"data")
    assert events == ["file", "name", "folder"]
