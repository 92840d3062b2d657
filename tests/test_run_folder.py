"""RUN_DIR: files as written by hand, read back exactly, and whole after a kill or a full disk."""

from __future__ import annotations

import csv
import errno
import gc
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al import durable
from lightning_al.exceptions import RunFolderError
from lightning_al.run_folder import RecordedQuery, RunFolder, run_folder
from tests._helpers import processes

HISTORY = [
    {"round": 0, "labeled": 100, "unlabeled": 900, "pending": 0, "rejected": 0,
     "metrics": {"val_loss": 1.5, "val_acc": torch.tensor(0.5), "labeled": 100.0, "round": 0.0},
     "seconds_fit": 2.5, "seconds_query": 0.25},
    {"round": 1, "labeled": 200, "unlabeled": 799, "pending": 2, "rejected": np.int64(1),
     "metrics": {"val_acc": 0.75, "test_acc": float("nan"), '=cmd|"a,b"': 1, "lr": 1e-3},
     "seconds_fit": 3, "seconds_query": None},
]  # fmt: skip
ROUNDS = """\
round,labeled,unlabeled,pending,rejected,"'=cmd|""a,b""\",lr,test_acc,val_acc,val_loss,seconds_fit,seconds_query
0,100,900,0,0,,,,0.5,1.5,2.5,0.25
1,200,799,2,1,1,0.001,nan,0.75,,3,
"""
TAKEN = ("round", "labeled", "unlabeled", "pending", "rejected", "cost", "seconds_fit", "seconds_query")
QUERY = RecordedQuery([41, 7, 12], [-0.25, 0.1, float("inf")], "Margin")


def query_by_hand(round: int, rows: list[str]) -> str:
    header = "rank,dataset_index,strategy,score,control,guess,confidence,path,checksum"
    previous = hashlib.sha256(f"{header}\nround {round}, {len(rows)} rows".encode()).hexdigest()[:16]
    text = header + "\n"
    for row in rows:
        previous = hashlib.sha256(f"{previous}\n{row}".encode()).hexdigest()[:16]
        text += f"{row},{previous}\n"
    return text


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "logs" / "active_learning")


def names(folder: RunFolder) -> list[str]:
    return sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file())


def test_paths(folder: RunFolder) -> None:
    paths = (folder.ledger_path, folder.checkpoint, folder.initial_weights, folder.rounds_csv, folder.queries)
    assert [str(path.relative_to(folder.path)) for path in (*paths, folder.run_json, folder.record_path(12))] == [
        "ledger.csv", "last-round.ckpt", "initial-weights.ckpt", "rounds.csv", "queries", "run.json",
        "queries/round-012.record",
    ]  # fmt: skip
    assert not folder.path.exists()
    assert RunFolder(str(folder.path)).path == folder.path
    assert repr(RunFolder("run")) == "RunFolder('run')"


def test_the_folder_of_a_run_is_the_one_named_or_lies_under_the_root(tmp_path: Path) -> None:
    assert run_folder("mine", tmp_path).path == Path("mine")
    assert run_folder(tmp_path / "mine", "elsewhere").path == tmp_path / "mine"
    for nothing in (None, ""):
        assert run_folder(nothing, str(tmp_path)).path == tmp_path / "active_learning"


def test_rounds_csv_is_what_one_would_write_by_hand(folder: RunFolder) -> None:
    folder.write_rounds(HISTORY)
    assert folder.rounds_csv.read_bytes().decode() == ROUNDS
    folder.write_rounds(HISTORY[:1])
    assert folder.rounds_csv.read_text() == (
        "round,labeled,unlabeled,pending,rejected,val_acc,val_loss,seconds_fit,seconds_query\n0,100,900,0,0,0.5,1.5,2.5,0.25\n"
    )
    assert names(folder) == ["rounds.csv"]


def test_rounds_csv_has_cost_where_labels_have_a_price(folder: RunFolder) -> None:
    folder.write_rounds([{**HISTORY[0], "metrics": {}}, {**HISTORY[1], "metrics": {"cost": 9, "a": 1.0}, "cost": 12.5}])
    assert folder.rounds_csv.read_text() == (
        "round,labeled,unlabeled,pending,rejected,a,logged_cost,cost,seconds_fit,seconds_query\n0,100,900,0,0,,,,2.5,0.25\n"
        "1,200,799,2,1,1.0,9,12.5,3,\n"
    )
    folder.write_rounds([{**HISTORY[0], "metrics": {"cost": 9.0}}])  # no price, but a metric of this name
    assert folder.rounds_csv.read_text() == (
        "round,labeled,unlabeled,pending,rejected,logged_cost,seconds_fit,seconds_query\n0,100,900,0,0,9.0,2.5,0.25\n"
    )
    folder.write_rounds([])
    assert folder.rounds_csv.read_text() == "round,labeled,unlabeled,pending,rejected,seconds_fit,seconds_query\n"


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1).filter(lambda name: name not in TAKEN), st.floats(allow_nan=False), max_size=5)
)
def test_any_metric_name_and_value_comes_back_exactly(metrics: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(path)
        folder.write_rounds([{**HISTORY[0], "metrics": metrics}])
        with folder.rounds_csv.open(newline="", encoding="utf-8") as file:
            header, values = csv.reader(file)
        history = folder.read_rounds()
    columns = header[5:-2]
    assert not any(column.lstrip().startswith(("=", "+", "-", "@")) for column in columns)
    read = {durable.decode_cell(column): float(value) for column, value in zip(columns, values[5:-2], strict=True)}
    assert read == metrics
    assert history == [{**HISTORY[0], "metrics": metrics}]


def test_rounds_come_back(folder: RunFolder) -> None:
    assert folder.read_rounds() == []
    names = ("cost", "logged_cost", "logged_logged_seconds_fit", "logged_loss", "a\u2028b", "a\nb", "-x")
    metrics = {name: float(number) for number, name in enumerate(names)}
    for row in ({**HISTORY[0], "metrics": metrics}, {**HISTORY[0], "metrics": metrics, "cost": 12.5}):
        folder.write_rounds([row, row])
        assert folder.read_rounds() == [row, row]
    folder.write_rounds(HISTORY)
    first, second = folder.read_rounds()
    assert first["metrics"] == {"val_loss": 1.5, "val_acc": 0.5}
    assert second["seconds_fit"] == 3.0
    assert "seconds_query" not in second


def test_a_table_of_before_there_were_pending_answers_is_read(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    folder.rounds_csv.write_text(
        "round,labeled,unlabeled,rejected,val_acc,seconds_fit,seconds_query\n0,100,900,0,0.5,2.5,0.25\n1,200,799,1,,3,\n"
    )
    assert folder.read_rounds() == [
        {"round": 0, "labeled": 100, "unlabeled": 900, "pending": 0, "rejected": 0, "metrics": {"val_acc": 0.5},
         "seconds_fit": 2.5, "seconds_query": 0.25},
        {"round": 1, "labeled": 200, "unlabeled": 799, "pending": 0, "rejected": 1, "metrics": {}, "seconds_fit": 3.0},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        b"label,image\n3,a.png\n",
        b"\xff",
        b'"round\n',
        ROUNDS.encode()[:-5] + b"\n",
        ROUNDS.encode() + b"\n",
        b"round\n\n",
    ],
)
def test_a_table_that_is_no_rounds_csv_raises(folder: RunFolder, content: bytes) -> None:
    folder.path.mkdir(parents=True)
    folder.rounds_csv.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"rounds\.csv is not as it was written: line \d is no row"):
        folder.read_rounds()


def test_a_query_is_what_one_would_write_by_hand_and_comes_back(folder: RunFolder) -> None:
    assert folder.read_query(3) is None
    folder.write_query(3, QUERY)
    by_hand = query_by_hand(3, ["1,41,Margin,-0.25,,,,", "2,7,Margin,0.1,,,,", "3,12,Margin,inf,,,,"])
    assert folder.record_path(3).read_bytes().decode() == by_hand
    assert folder.read_query(3) == QUERY
    assert names(folder) == ["queries/round-003.record"]
    folder.write_query(3, RecordedQuery([5], None, "=Random"))
    assert folder.record_path(3).read_text() == query_by_hand(3, ["1,5,'=Random,,,,,"])
    assert folder.read_query(3) == RecordedQuery([5], None, "=Random")
    assert folder.read_query(2) is None


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10**6),
    st.dictionaries(st.integers(0, 2**63), st.floats(allow_nan=False), min_size=1),
    st.text(),
    st.booleans(),
)
def test_any_query_comes_back_exactly(round: int, asked: dict[int, float], strategy: str, scored: bool) -> None:
    query = RecordedQuery(list(asked), list(asked.values()) if scored else None, strategy)
    with tempfile.TemporaryDirectory() as path:
        RunFolder(path).write_query(round, query)
        assert RunFolder(path).read_query(round) == query


def test_a_query_of_tensors_is_written_as_numbers(folder: RunFolder) -> None:
    folder.write_query(1, RecordedQuery(torch.tensor([4, 2]), torch.tensor([0.5, 0.25]), "Margin"))
    assert folder.read_query(1) == RecordedQuery([4, 2], [0.5, 0.25], "Margin")


def test_every_changed_or_missing_byte_of_a_query_raises(folder: RunFolder) -> None:
    folder.write_query(3, QUERY)
    path = folder.record_path(3)
    content = path.read_bytes()
    for offset in range(len(content)):
        changed = bytearray(content)
        changed[offset] ^= 1
        for damaged in (bytes(changed), content[:offset], content[:offset] + content[offset + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(RunFolderError, match=r"round-003.record is not as it was written"):
                folder.read_query(3)


def test_rows_of_a_query_dropped_swapped_doubled_or_of_another_round_raise(folder: RunFolder) -> None:
    folder.write_query(3, QUERY)
    path = folder.record_path(3)
    header, *rows = path.read_text().splitlines(keepends=True)
    for damaged in (
        rows[:1],
        rows[:2],
        rows[1:],
        [rows[0], rows[2]],
        [rows[1], rows[0], rows[2]],
        [*rows, rows[2]],
        [],
    ):
        path.write_text(header + "".join(damaged))
        with pytest.raises(RunFolderError):
            folder.read_query(3)
    folder.write_query(3, QUERY)
    path.rename(folder.record_path(4))
    with pytest.raises(RunFolderError, match=r"row 1 \(line 2\): it does not match its checksum"):
        folder.read_query(4)
    path.write_text(query_by_hand(3, ["1,2,3"]))  # right checksums, wrong shape
    with pytest.raises(RunFolderError):
        folder.read_query(3)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (RecordedQuery([], None, "M"), "one or more different indices from 0, but got 0"),
        (RecordedQuery([3, 3], None, "M"), r"got 2, of which 1 are different: \[3, 3\]"),
        (RecordedQuery([3, -1], None, "M"), r"\[3, -1\]"),
        (RecordedQuery([3, 1], [0.5], "M"), "`scores` to have 2 values, but got 1"),
    ],
)
def test_a_query_that_makes_no_sense_is_not_written(folder: RunFolder, query: RecordedQuery, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        folder.write_query(1, query)
    assert not folder.path.exists()


def test_run_json_comes_back(folder: RunFolder) -> None:
    assert folder.read_run() is None
    info = {"finished": False, "pool_size": 5, "fingerprint": "ab", "strategy": "Margin", "seed": None}
    folder.write_run(info)
    assert json.loads(folder.run_json.read_text()) == {"version": 1, **info}
    assert folder.read_run() == {"version": 1, **info}
    for bad in ({"seed": {1, 2}}, {"seed": float("nan")}):
        with pytest.raises(ValueError, match="JSON"):
            folder.write_run(bad)
    assert folder.read_run() == {"version": 1, **info}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b'{"version": 1, "fini', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "no object with a version"),
        (b"{}", "no object with a version"),
        (b'{"version": 2}', "to have version 1, but got 2: a newer"),
    ],
)
def test_a_damaged_run_json_raises(folder: RunFolder, content: bytes, message: str) -> None:
    folder.path.mkdir(parents=True)
    folder.run_json.write_bytes(content)
    with pytest.raises(RunFolderError, match=message):
        folder.read_run()


def test_begun_and_finished(folder: RunFolder) -> None:
    assert (folder.exists, folder.is_unfinished) == (False, False)
    folder.path.mkdir(parents=True)
    (folder.path / "notes.txt").touch()
    assert (folder.exists, folder.is_unfinished) == (False, False)
    folder.ledger_path.touch()
    assert (folder.exists, folder.is_unfinished) == (True, True)
    folder.write_run({"finished": False})
    assert (folder.exists, folder.is_unfinished) == (True, True)
    folder.write_run({"finished": True})
    assert (folder.exists, folder.is_unfinished) == (True, False)


def test_a_run_is_set_aside_and_never_deleted(folder: RunFolder) -> None:
    parent = folder.path.parent
    for text in ("first", "second", "third"):
        folder.path.mkdir(parents=True)
        folder.ledger_path.write_text(text)
        if text == "second":
            (parent / "active_learning-2").symlink_to(parent / "nowhere")  # taken, though it leads nowhere
        assert folder.set_aside().parent == parent
        assert not folder.exists
    kept = {path.name: (path / "ledger.csv").read_text() for path in parent.iterdir() if path.is_dir()}
    assert kept == {"active_learning-1": "first", "active_learning-3": "second", "active_learning-4": "third"}
    with pytest.raises(RunFolderError, match="cannot be renamed"):
        folder.set_aside()


def test_a_relative_folder_is_set_aside_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder("run").write_run({"finished": True})
    assert RunFolder("run").set_aside() == tmp_path / "run-1"
    assert RunFolder("run-1").read_run() == {"version": 1, "finished": True}


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_everything(folder: RunFolder, text: str) -> list[tuple[Path, Any]]:
    return [
        (folder.run_json, lambda: folder.write_run({"strategy": text})),
        (folder.rounds_csv, lambda: folder.write_rounds([{"round": 0, "metrics": {text: 1.0}}])),
        (folder.record_path(1), lambda: folder.write_query(1, RecordedQuery([1], None, text))),
    ]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_files(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    for _, write in write_everything(folder, "old"):
        write()
    before = {path: path.read_bytes() for path, _ in write_everything(folder, "new")}
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        for path, write in write_everything(folder, "new"):
            with pytest.raises(RunFolderError, match=rf"{path.name} cannot be written: .*No space left"):
                write()
    assert {path: path.read_bytes() for path in before} == before
    assert names(folder) == ["queries/round-001.record", "rounds.csv", "run.json"]


def test_a_really_full_disk(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        folder = RunFolder(tmp_path / "run")
        folder.write_query(1, QUERY)
        with pytest.raises(RunFolderError, match="No space left"):
            folder.write_query(1, RecordedQuery(list(range(5000)), None, "Margin"))
        assert folder.read_query(1) == QUERY
        assert names(folder) == ["queries/round-001.record"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(RunFolderError, match=r"run\.json cannot be written"):
        RunFolder(tmp_path / "run").write_run({})
    with pytest.raises(RunFolderError, match=r"run\.json cannot be read"):
        RunFolder(tmp_path / "run").read_run()


def test_a_kill_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from lightning_al.run_folder import RunFolder
        for moment in ("write", "half", "fsync", "replace", "renamed"):
            if os.fork() == 0:
                folder = RunFolder(f"{sys.argv[1]}/{moment}")
                folder.write_run({"strategy": "old"})
                def killed(*arguments, call=getattr(os, {"half": "write", "renamed": "replace"}.get(moment, moment))):
                    if moment == "half":
                        call(arguments[0], arguments[1][:5])
                    if moment == "renamed":
                        call(*arguments)
                    os.kill(os.getpid(), signal.SIGKILL)
                setattr(os, {"half": "write", "renamed": "replace"}.get(moment, moment), killed)
                folder.write_run({"strategy": "new"})
            assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(durable.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    for moment in ("write", "half", "fsync", "replace", "renamed"):
        folder = RunFolder(tmp_path / moment)
        info = folder.read_run()
        assert info == {"version": 1, "strategy": "new" if moment == "renamed" else "old"}
        folder.write_run({"strategy": "next"})  # what the kill left behind does not pile up
        assert names(folder) == ["run.json"]


def lock_or_say_why(path: str) -> None:
    try:
        RunFolder(path).lock()
    except RunFolderError as error:
        print(error)
    else:
        print("free")


def test_a_folder_is_locked_against_other_processes_until_the_holder_ends(tmp_path: Path) -> None:
    def other() -> str:
        return processes.run(tmp_path / "other", lock_or_say_why, str(tmp_path / "run")).output

    holder = RunFolder(tmp_path / "run")
    holder.lock()
    assert other() == (
        f"Another process is running in {tmp_path / 'run'}: process {os.getpid()} on this host "
        f"({socket.gethostname()}), which is alive. Wait for it, end it, or set `dirpath=` to another folder.\n"
    )
    holder.lock()  # once more: it is not lost
    assert other().startswith("Another process is running")
    del holder
    gc.collect()
    assert other() == "free\n"
