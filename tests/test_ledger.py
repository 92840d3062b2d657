"""The ledger: exact round trips, and nothing lost or accepted that was cut, changed or half written."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al import durable
from lightning_al.exceptions import LedgerError
from lightning_al.ledger import Ledger, LedgerRow, encode_label

HEADER = "dataset_index,round,strategy,score,answer,time,checksum\n"
ROWS = [
    LedgerRow(41, 0, "initial", None, "", "2026-01-02T03:04:05"),
    LedgerRow(7, 1, "Margin", -0.25, "3", "2026-01-02T03:05:00"),
    LedgerRow(12, 1, "Margin", 0.1, '"weed, small"', "2026-01-02T03:05:00"),
    LedgerRow(3, 1, "Margin", 1e-12, "rejected", "2026-01-02T03:05:00"),
    LedgerRow(5, 2, "Margin", 2.0, "-1", "2026-01-02T03:06:00"),
]
# the same by hand, without the checksum
CELLS = [
    "41,0,initial,,,2026-01-02T03:04:05",
    "7,1,Margin,-0.25,3,2026-01-02T03:05:00",
    '12,1,Margin,0.1,"""weed, small""",2026-01-02T03:05:00',
    "3,1,Margin,1e-12,rejected,2026-01-02T03:05:00",
    "5,2,Margin,2.0,'-1,2026-01-02T03:06:00",
]


def by_hand(cells: list[str]) -> str:
    """The file's text, by the rule: sha256 of the checksum before, a line feed, and the line."""
    text, previous = HEADER, hashlib.sha256(HEADER.rstrip("\n").encode()).hexdigest()[:16]
    for line in cells:
        previous = hashlib.sha256(f"{previous}\n{line}".encode()).hexdigest()[:16]
        text += f"{line},{previous}\n"
    return text


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "run" / "ledger.csv")
    ledger.append(ROWS)
    return ledger


def reading(path: Path, content: bytes) -> tuple[list[LedgerRow], list[str]]:
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = Ledger(path).read()
    return rows, [str(warning.message) for warning in caught]


def test_the_file_is_what_one_would_write_by_hand(ledger: Ledger) -> None:
    assert ledger.path.read_bytes().decode() == by_hand(CELLS)
    assert "41,0,initial,,,2026-01-02T03:04:05,f8162510875fa832\n" in ledger.path.read_text()  # the format is pinned


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text(by_hand(CELLS), newline="")
    assert Ledger(path).read() == ROWS


def test_appends_add_up_and_a_missing_or_empty_file_is_empty(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    assert ledger.read() == []
    ledger.append([])
    assert not ledger.path.exists()
    for row in ROWS:
        ledger.append([row])
    assert ledger.path.read_text() == by_hand(CELLS)
    assert reading(tmp_path / "empty.csv", b"") == ([], [])
    Ledger(tmp_path / "empty.csv").append(ROWS)
    assert (tmp_path / "empty.csv").read_text() == by_hand(CELLS)


def test_another_ledger_object_goes_on_after_an_append_by_the_first(ledger: Ledger) -> None:
    other = Ledger(ledger.path)
    other.append(ROWS[:1])
    ledger.append(ROWS[1:2])
    assert Ledger(ledger.path).read() == [*ROWS, ROWS[0], ROWS[1]]


NASTY = st.text() | st.sampled_from(
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "'=1", "'", "\\r", "'\\n", "a\r\nb", 'a"b', "a,b",
     " a ", "", "\0", "\u2028", "\x85", "\uff1d1", "-\\", "DDE('cmd';'/C calc')"]
)  # fmt: skip
SCORES = st.none() | st.floats(allow_nan=False)
ROW = st.builds(LedgerRow, st.integers(0, 2**63), st.integers(0, 10**6), NASTY, SCORES, NASTY, NASTY)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(ROW, max_size=4), max_size=4))
def test_any_text_and_number_comes_back_exactly(batches: list[list[LedgerRow]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.csv")
        for batch in batches:
            ledger.append(batch)
        rows = [row for batch in batches for row in batch]
        assert Ledger(ledger.path).read() == rows
        if rows:
            with ledger.path.open(newline="", encoding="utf-8") as file:
                header, *cells = csv.reader(file)  # what other programs see
            assert len(cells) == len(rows)
            for row, line in zip(rows, cells, strict=True):
                assert len(line) == len(header) == 7
                assert (int(line[0]), int(line[1])) == (row.dataset_index, row.round)
                for text, cell in zip((row.strategy, row.answer, row.time), (line[2], line[4], line[5]), strict=True):
                    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))
                    assert not cell.startswith(("\t", "\r", "\n"))
                    if text.isalnum():
                        assert cell == text


def test_a_cell_larger_than_the_csv_module_takes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    row = LedgerRow(1, 1, "Margin", 0.5, encode_label([[i, -i] for i in range(40_000)]), "")
    ledger.append([row])
    assert len(row.answer) > csv.field_size_limit()
    assert Ledger(ledger.path).read() == [row]


def test_a_cut_at_every_byte_leaves_the_whole_rows_and_the_ledger_goes_on(ledger: Ledger, tmp_path: Path) -> None:
    content = ledger.path.read_bytes()
    path = tmp_path / "cut.csv"
    for length in range(len(content) + 1):
        cut = content[:length]
        whole = cut[: cut.rfind(b"\n") + 1]
        rows, messages = reading(path, cut)
        assert rows == ROWS[: max(whole.count(b"\n") - 1, 0)], length
        assert path.read_bytes() == whole
        if cut == whole:
            assert messages == []
        else:
            assert len(messages) == 1
            assert str(path) in messages[0]
            assert f"Row {len(rows) + 1} " in messages[0]
        Ledger(path).append(ROWS[len(rows) :])
        assert path.read_bytes() == (content if len(rows) < len(ROWS) else whole)


def test_a_torn_row_is_cut_by_the_next_append_too(ledger: Ledger) -> None:
    content = ledger.path.read_bytes()
    with ledger.path.open("ab") as file:
        file.write(b"9,3,Margin,0.5,1,2026")
    with pytest.warns(UserWarning, match="cut short"):
        ledger.append(ROWS[:1])
    assert ledger.path.read_bytes().startswith(content)
    assert Ledger(ledger.path).read() == [*ROWS, ROWS[0]]


def test_reading_without_repair_leaves_the_file_alone(ledger: Ledger) -> None:
    torn = ledger.path.read_bytes()[:-1]
    ledger.path.write_bytes(torn)
    reader = Ledger(ledger.path)
    with pytest.warns(UserWarning, match="is left out; the 4 rows"):
        assert reader.read(repair=False) == ROWS[:4]
    assert ledger.path.read_bytes() == torn
    with pytest.warns(UserWarning, match="cut off the file"):
        reader.append(ROWS[4:])
    assert ledger.path.read_text() == by_hand(CELLS)


def test_every_changed_byte_raises(ledger: Ledger, tmp_path: Path) -> None:
    content = ledger.path.read_bytes()
    path = tmp_path / "changed.csv"
    for offset in range(len(content) - 1):
        for byte in {content[offset] ^ 1, content[offset] ^ 0x80, ord("\n"), ord(",")} - {content[offset]}:
            changed = bytearray(content)
            changed[offset] = byte
            with pytest.raises(LedgerError):
                reading(path, bytes(changed))
            assert path.read_bytes() == changed
    # without its line end the last row is a torn one, whatever stands there
    rows, messages = reading(path, content[:-1] + b"x")
    assert rows == ROWS[:-1]
    assert len(messages) == 1


LINES = by_hand(CELLS).encode().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        ([LINES[0], *LINES[2:]], 1),  # dropped
        ([*LINES[:3], *LINES[4:]], 3),
        ([*LINES[:2], LINES[3], LINES[2], *LINES[4:]], 2),  # swapped
        ([*LINES[:3], LINES[2], *LINES[3:]], 3),  # doubled
        ([*LINES, LINES[-1]], 6),
        ([*LINES[:2], b"\n", *LINES[2:]], 2),  # an empty line
        ([*LINES, b"\n"], 6),
        ([line.replace(b"\n", b"\r\n") if number else line for number, line in enumerate(LINES)], 1),
        ([*LINES[:2], *by_hand([CELLS[0], "7,1,Margin,-0.25,4,2026-01-02T03:05:00"]).encode().splitlines(True)[2:],
          *LINES[3:]], 3),  # an answer changed along with its own checksum
    ],
)  # fmt: skip
def test_dropped_swapped_and_doubled_rows_raise_and_name_file_and_row(
    tmp_path: Path, lines: list[bytes], row: int
) -> None:
    path = tmp_path / "ledger.csv"
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match=rf"Row {row} \(line {row + 1}\) of the ledger .*ledger\.csv"):
        Ledger(path).read()
    with pytest.raises(LedgerError):
        Ledger(path).append(ROWS)
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("content", [b"label,image\n3,a.png\n", b"PK\x03\x04", b"\n", LINES[1], HEADER.encode()[1:]])
def test_a_file_that_is_no_ledger_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.csv"
    with pytest.raises(LedgerError, match="Expected the first line of the ledger"):
        reading(path, content)
    assert path.read_bytes() == content


def test_rows_of_a_wrong_shape_with_right_checksums_raise(tmp_path: Path) -> None:
    for line, message in (("1,2,3", "4 cells where 7"), ("x,1,M,,,t", "invalid literal"), ('1,1,"M,,,t', "quotes")):
        with pytest.raises(LedgerError, match=message):
            reading(tmp_path / "ledger.csv", by_hand([CELLS[0], line]).encode())


def test_a_ledger_that_shrinks_during_a_run_is_refused(ledger: Ledger) -> None:
    ledger.path.write_text(by_hand(CELLS[:2]))
    with pytest.raises(LedgerError, match="rows were taken away"):
        ledger.append(ROWS)
    ledger.path.unlink()
    with pytest.raises(LedgerError, match="has 0 bytes"):
        ledger.append(ROWS)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger(tmp_path).read()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (LedgerRow(-1, 0, "M", None, "", ""), "`dataset_index` of a ledger row to be 0 or more, but got -1"),
        (LedgerRow(1, -2, "M", None, "", ""), "`round`"),
        (LedgerRow(1, 0, "M", None, 3, ""), "`answer` of a ledger row to be a string, but got 3"),
        (LedgerRow(1, 0, "\ud800", None, "", ""), "surrogates"),
    ],
)
def test_a_row_that_cannot_be_written_leaves_all_as_it_was(ledger: Ledger, row: LedgerRow, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ledger.append([ROWS[0], row])
    assert ledger.path.read_text() == by_hand(CELLS)


def test_numbers_of_numpy_and_torch_are_written_as_numbers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.append([LedgerRow(np.int64(4), torch.tensor(2), "M", torch.tensor(0.5), "", "")])
    assert ledger.read() == [LedgerRow(4, 2, "M", 0.5, "", "")]


@pytest.mark.parametrize(
    ("label", "text"),
    [(None, ""), (3, "3"), (True, "true"), ("rejected", '"rejected"'), ("", '""'), ("=1", '"=1"'), (-1, "-1"),
     ([1, [2.5, None]], "[1, [2.5, null]]"), ({"box": [0, 1]}, '{"box": [0, 1]}')],
)  # fmt: skip
def test_labels_come_back(label: object, text: str) -> None:
    assert encode_label(label) == text
    row = LedgerRow(1, 1, "M", None, text, "")
    assert row.label == label
    assert not row.rejected


def test_labels_of_numpy_and_torch_are_written_as_json_and_others_refused() -> None:
    assert encode_label(np.int64(3)) == encode_label(torch.tensor(3)) == "3"
    assert json.loads(encode_label((np.array([1, 2]), {"mask": torch.zeros(1, 2)}))) == [[1, 2], {"mask": [[0.0, 0.0]]}]
    assert LedgerRow(1, 1, "M", None, "rejected", "").rejected
    assert LedgerRow(1, 1, "M", None, "rejected", "").label is None
    for label in (float("nan"), {1: 2}, object(), {"a": {3}}):
        with pytest.raises(ValueError, match="Expected a label to be"):
            encode_label(label)


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("call", ["write", "fsync", "half write"])
def test_a_full_disk_leaves_the_ledger_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool, call: str
) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    if begun:
        ledger.append(ROWS[:2])
    write = os.write
    calls: list[int] = []

    def half(file_descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        return write(file_descriptor, data[: len(data) // 2]) if len(calls) == 1 else full()

    with monkeypatch.context() as patch:
        patch.setattr(os, call.split()[-1], half if call == "half write" else full)
        with pytest.raises(LedgerError, match=r"No space left on device. It is as it was before. Free some space"):
            ledger.append(ROWS[2:])
    assert ledger.path.exists() == begun
    if begun:
        assert ledger.path.read_text() == by_hand(CELLS[:2])
    ledger.append(ROWS[2:] if begun else ROWS)  # after some space was freed
    assert ledger.path.read_text() == by_hand(CELLS)


def test_ctrl_c_in_the_middle_of_a_write_leaves_nothing_behind(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def interrupted(file_descriptor: int, data: memoryview) -> int:
        write(file_descriptor, data[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.append(ROWS)
    assert ledger.path.read_text() == by_hand(CELLS)


def test_writes_that_stop_early_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file_descriptor, data: write(file_descriptor, data[:7]))
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.append(ROWS)
    assert ledger.path.read_text() == by_hand(CELLS)


def test_an_append_is_on_the_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, int]] = []
    fsync = os.fsync

    def noted(file_descriptor: int) -> None:
        status = os.fstat(file_descriptor)
        synced.append((stat.S_ISDIR(status.st_mode), 0 if stat.S_ISDIR(status.st_mode) else status.st_size))
        fsync(file_descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.append(ROWS[:2])
    ledger.append(ROWS[2:])
    sizes = [len(by_hand(CELLS[:2]).encode()), len(by_hand(CELLS).encode())]
    assert synced == [(False, sizes[0]), (True, 0), (False, sizes[1])]  # the new name too


def fill(ledger: Ledger) -> tuple[list[LedgerRow], bytes]:
    """Appends 20 rows at a time until that fails; what was there before the failure."""
    rows: list[LedgerRow] = []
    content = b""
    for number in range(1000):
        batch = [LedgerRow(20 * number + i, number, "Margin", 0.5, '"a label"', "now") for i in range(20)]
        try:
            ledger.append(batch)
        except LedgerError as error:
            if "It is as it was before" not in str(error):
                raise
            return rows, content
        rows += batch
        content = ledger.path.read_bytes()
    raise AssertionError("the disk never filled")


def test_a_really_full_disk(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        ledger = Ledger(tmp_path / "ledger.csv")
        blocker = tmp_path / "blocker"
        blocker.write_bytes(b"x" * 8192)
        rows, content = fill(ledger)
        assert rows
        assert ledger.path.read_bytes() == content
        assert Ledger(ledger.path).read() == rows
        blocker.unlink()
        ledger.append(ROWS)
        assert Ledger(ledger.path).read() == rows + ROWS
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_at_its_size_limit(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.csv")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        rows, content = fill(ledger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert rows
    assert ledger.path.read_bytes() == content
    assert Ledger(ledger.path).read() == rows


def test_a_kill_while_writing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from lightning_al.ledger import Ledger, LedgerRow
        write = os.write
        def batch(number):
            return [LedgerRow(10 * number + i, number, "Margin", 0.5, "3", "now") for i in range(10)]
        for step in range(0, 700, 50):  # bytes of the third append that reach the disk
            if os.fork() == 0:
                ledger = Ledger(f"{sys.argv[1]}/{step}/ledger.csv")
                ledger.append(batch(0))
                ledger.append(batch(1))
                def killed(file_descriptor, data):
                    write(file_descriptor, data[:step])
                    os.kill(os.getpid(), signal.SIGKILL)
                os.write = killed
                ledger.append(batch(2))
            assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
        """
    )
    root = str(Path(durable.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    everything = [LedgerRow(i, i // 10, "Margin", 0.5, "3", "now") for i in range(30)]
    lengths = []
    for step in range(0, 700, 50):
        path = tmp_path / str(step) / "ledger.csv"
        rows, _ = reading(path, path.read_bytes())
        assert rows == everything[: len(rows)]
        lengths.append(len(rows))
    assert lengths[0] == 20
    assert lengths == sorted(lengths)
    assert lengths[-1] == 30


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    rows = [LedgerRow(i, i // 1000, "Margin", i / 7, str(i % 10), "2026-01-02T03:04:05") for i in range(100_000)]
    ledger = Ledger(tmp_path / "ledger.csv")
    ledger.append(rows[:99_990])
    ledger.append(rows[99_990:])
    assert Ledger(ledger.path).read() == rows
