"""The folder of a study: whole cells or none, damage found and named, one study and one process a folder."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_al import durable
from lightning_al.exceptions import RunFolderError
from lightning_al.study import cell_format
from lightning_al.study.cell_store import CellStore, Failure
from tests._helpers import processes

SETTINGS = {"replicates": 10, "fractions": (0.2, 1.0), "data": {"pilot": 900, "digest": "ab12"}}
ARRAYS = {
    "embeddings": np.arange(6, dtype=np.float32).reshape(3, 2),
    "file": np.array([True, False]),
    "none": np.ones(0),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def store(tmp_path: Path) -> CellStore:
    return CellStore(tmp_path / "feasibility")


def sealed_by_hand(key: str, content: Any, npz: str | None = None) -> bytes:
    text = json.dumps({"key": key, "npz": npz, "content": content})
    checksum = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f'{text[:-1]}, "checksum": "{checksum}"}}\n'.encode()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_as_written_by_hand(store: CellStore) -> None:
    with store.opened(SETTINGS):
        store.write("design-1", {"labels": 60, "metrics": {"accuracy": 0.5}, "picked": (3, 1)})
    written = (store.cells / "design-1.json").read_bytes()
    assert written == sealed_by_hand("design-1", {"labels": 60, "metrics": {"accuracy": 0.5}, "picked": [3, 1]})
    assert json.loads(store.settings.read_text()) == {
        "version": 1,
        "settings": {"replicates": 10, "fractions": [0.2, 1.0], "data": {"pilot": 900, "digest": "ab12"}},
    }
    assert sorted(everything(store.folder)) == ["cells/design-1.json", "settings.json", "study.lock"]


def test_cells_come_back(store: CellStore) -> None:
    assert store.keys() == []
    assert store.read("b.2") is None
    assert store.read_arrays("b.2") == {}
    store.write("b.2", {"seed": 7}, ARRAYS)
    store.write("a_1", {}, {})
    assert store.keys() == ["a_1", "b.2"]
    assert (store.has("a_1"), store.has("a_2")) == (True, False)
    assert store.read("b.2") == {"seed": 7}
    assert store.read_arrays("a_1") == {}
    arrays = store.read_arrays("b.2")
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_json_comes_back_exactly(cell: dict[str, Any]) -> None:
    encoded = cell_format.encode("any", cell)
    assert cell_format.decode(encoded) == cell
    assert encoded.json == sealed_by_hand("any", cell)


@pytest.mark.parametrize(
    ("cell", "arrays", "named"),
    [
        ({"accuracy": float("nan")}, None, "NaN"),
        ({"accuracy": float("inf")}, None, "infinity"),
        ({"accuracy": np.float32(0.5)}, None, "float32"),
        ({"labels": {1, 2}}, None, "set"),
        ({}, {"names": np.array(["a", {}], dtype=object)}, "names"),
    ],
)
def test_what_cannot_be_written_is_refused(store: CellStore, cell: Any, arrays: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        store.write("cell", cell, arrays)
    assert not store.folder.exists()


@pytest.mark.parametrize("key", ["", ".", "../start", "a/b", "a\\b", ".hidden", "ä", "a b", "a\n", "a" * 201, "a:b", 3])
def test_a_key_that_is_no_file_name_is_refused(store: CellStore, key: Any) -> None:
    for use in (store.has, store.read, store.read_arrays, lambda key: store.write(key, {}), store.clear_failure):
        with pytest.raises(ValueError, match="Expected a key"):
            use(key)


def test_a_cell_is_never_rewritten(store: CellStore) -> None:
    store.write("design-1", {"accuracy": 0.5}, {"x": np.zeros(2)})
    before = everything(store.folder)
    with pytest.raises(ValueError, match=r"`design-1` is in .* already"):
        store.write("design-1", {"accuracy": 0.6}, {"x": np.ones(2)})
    assert everything(store.folder) == before


# ---------------------------------------------------------------------------------------------------- kills and disks


def killed_in(name: str, after: int, folder: Path) -> int:
    """Writes a cell in a fork that dies at one of its calls to the system; its exit code."""
    child = os.fork()
    if child == 0:
        calls = 0
        real = getattr(os, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                os._exit(9)
            return real(*args, **kwargs)

        setattr(os, name, dying)
        CellStore(folder).write("design-1", {"accuracy": 0.5}, ARRAYS)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_a_kill_at_any_call_leaves_no_cell_or_a_whole_one(tmp_path: Path, name: str) -> None:
    kills = 0
    while True:
        store = CellStore(tmp_path / str(kills))
        with store.opened({}):
            pass
        code = killed_in(name, kills, store.folder)
        with store.opened({}):
            left = sorted(everything(store.folder))
        if store.has("design-1"):
            assert store.read("design-1") == {"accuracy": 0.5}
            assert [*store.read_arrays("design-1")] == [*ARRAYS]
            assert left == ["cells/design-1.json", "cells/design-1.npz", "settings.json", "study.lock"]
        else:
            assert left == ["settings.json", "study.lock"]
            store.write("design-1", {"accuracy": 0.5}, ARRAYS)
        if code == 0:
            break
        kills += 1
    assert kills >= 2  # two files, each of which makes the call


def test_a_full_disk_leaves_no_cell(store: CellStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", full)
        with pytest.raises(RunFolderError, match=r"design-1.json cannot be written: .*No space.*run the same command"):
            store.write("design-1", {})
    assert store.keys() == []
    store.write("design-1", {})
    assert store.keys() == ["design-1"]


# ------------------------------------------------------------------------------------------------------------- damage


def test_any_cut_and_any_changed_byte_is_found_and_named(store: CellStore) -> None:
    store.write("design-1", {"accuracy": 0.5, "n": [1, 2]}, {"x": np.arange(2)})
    for path, read in ((store.cells / "design-1.json", store.read), (store.cells / "design-1.npz", store.read_arrays)):
        whole = path.read_bytes()
        damaged = [whole[:length] for length in range(len(whole) - 1)]
        damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole) - 1)]
        for content in damaged:
            path.write_bytes(content)
            with pytest.raises(RunFolderError, match=rf"{path.name} is not as it was written.*remove it"):
                read("design-1")
        path.write_bytes(whole)
        read("design-1")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"9" * 5_000, "no JSON"),
        (b"[]", "no values"),
        (b'{"content": 1}', "no values"),
        (sealed_by_hand("design-2", {}), "it is the file of `design-2`"),
    ],
)
def test_hostile_content_is_found_and_named(store: CellStore, content: bytes, problem: str) -> None:
    store.write("design-1", {})
    (store.cells / "design-1.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"design-1.json is not as it was written: .*{problem}"):
        store.read("design-1")


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_is_never_loaded(store: CellStore, monkeypatch: pytest.MonkeyPatch, wrapped: bool) -> None:
    store.cells.mkdir(parents=True)
    monkeypatch.chdir(store.folder)
    content = pickle.dumps(Bomb())
    if wrapped:
        buffer = io.BytesIO()
        np.savez(buffer, x=np.array([Bomb()], dtype=object))
        content = buffer.getvalue()
    (store.cells / "bad.npz").write_bytes(content)
    (store.cells / "bad.json").write_bytes(sealed_by_hand("bad", {}, hashlib.sha256(content).hexdigest()[:16]))
    with pytest.raises(RunFolderError, match=r"bad.npz is not as it was written: it holds no plain arrays"):
        store.read_arrays("bad")
    assert not Path("exploded").exists()


def test_missing_arrays_are_named(store: CellStore) -> None:
    store.write("design-1", {"seed": 1}, ARRAYS)
    (store.cells / "design-1.npz").unlink()
    with pytest.raises(RunFolderError, match=r"design-1.npz is not as it was written: it is not there"):
        store.read_arrays("design-1")


# ---------------------------------------------------------------------------------------------------------- settings


def test_equal_settings_go_on(store: CellStore) -> None:
    with store.opened(SETTINGS) as opened:
        opened.write("design-1", {})
    before = everything(store.folder)
    with store.opened({"data": {"digest": "ab12", "pilot": 900}, "fractions": [0.2, 1.0], "replicates": 10}):
        assert store.keys() == ["design-1"]
    assert everything(store.folder) == before


def test_other_settings_are_refused_and_each_difference_is_named(store: CellStore) -> None:
    with store.opened(SETTINGS):
        pass
    other = {"replicates": 12, "data": {"pilot": 900, "digest": "cd34"}, "seed": 1}
    with pytest.raises(RunFolderError) as raised, store.opened(other):
        pass
    assert str(raised.value) == (
        f"{store.folder} holds a study of other settings:\n"
        "  `replicates` was 10, and is 12 now\n"
        "  `fractions` was [0.2, 1.0], and is not set now\n"
        '  `data.digest` was "ab12", and is "cd34" now\n'
        "  `seed` was not set, and is 1 now\n"
        f"Set `output` to another folder, set them as they were, or remove {store.folder} to begin again."
    )


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), ({}, []), ("1", 1)])
def test_settings_differ_where_their_json_does(store: CellStore, old: Any, new: Any) -> None:
    with store.opened({"value": old}):
        pass
    with pytest.raises(RunFolderError, match="`value` was"), store.opened({"value": new}):
        pass


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "settings.json is not as it was written"),
        (b"[" * 100_000, "settings.json is not as it was written"),
        (b"[]", "settings.json is not as it was written"),
        (b'{"version": "x", "settings": {}}', "settings.json is not as it was written"),
        (b'{"version": 1, "settings": 3}', "settings.json is not as it was written"),
        (b'{"version": 2, "settings": {}}', "version 1, but got 2: a newer lightning-al wrote it"),
    ],
)
def test_settings_that_cannot_be_read_are_named(store: CellStore, content: bytes, problem: str) -> None:
    store.folder.mkdir()
    store.settings.write_bytes(content)
    with pytest.raises(RunFolderError, match=problem), store.opened({}):
        pass


def test_cells_without_settings_are_refused(store: CellStore) -> None:
    store.write("design-1", {})
    with pytest.raises(RunFolderError, match=r"settings.json is not there"), store.opened({}):
        pass


def test_settings_must_be_json(store: CellStore) -> None:
    with pytest.raises(ValueError, match="Expected settings to hold what JSON holds"), store.opened({"seed": object()}):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="Set `output`"), CellStore(tmp_path / "file" / "study").opened({}):
        pass


# ---------------------------------------------------------------------------------------------------------- the lock


def hold(folder: str) -> None:
    with CellStore(folder).opened({}):
        Path("held").touch()
        time.sleep(60)


def test_a_folder_that_another_process_has_is_refused_until_that_dies(store: CellStore, tmp_path: Path) -> None:
    other = processes.start(tmp_path / "other", hold, str(store.folder))
    deadline = time.monotonic() + 60
    while not (tmp_path / "other" / "held").exists():
        assert other.process.is_alive(), other.output
        assert time.monotonic() < deadline
        time.sleep(0.05)
    told = (
        rf"Another process is running a study in .*feasibility: process {other.process.pid} on this host \(.*\), which "
        r"is alive\. Wait for it, end it, or set `output` to another folder"
    )
    with pytest.raises(RunFolderError, match=told), store.opened({}):
        pass
    other.process.kill()
    other.wait()
    with store.opened({}):
        pass


# ---------------------------------------------------------------------------------------------------------- failures


def test_failures_are_kept_until_cleared(store: CellStore) -> None:
    first = Failure("start-r03", "ValueError: NaN loss", "Traceback ...", 2)
    second = Failure("simulation-r03", "`start-r03`, which it goes on from, failed", "", 0)
    store.write_failure(first)
    store.write_failure(Failure("simulation-r03", "something else", "", 2))
    store.write_failure(second)
    assert store.failures() == [second, first]
    assert store.keys() == []
    store.clear_failure("simulation-r03")
    store.clear_failure("simulation-r04")
    assert store.failures() == [first]
    (store.failed / "start-r03.json").write_bytes(sealed_by_hand("start-r03", {"what": 1}))
    with pytest.raises(RunFolderError, match=r"start-r03.json is not as it was written"):
        store.failures()


def test_a_failure_says_how_to_try_again() -> None:
    assert str(Failure("start-r03", "ValueError: NaN loss", "", 2)) == (
        "Task `start-r03` failed 2 times: ValueError: NaN loss. Run the same command again to try it again; what is "
        "finished is not run again."
    )
    assert "Task `a` was not run: `b`, which" in str(Failure("a", "`b`, which it goes on from, failed", "", 0))
