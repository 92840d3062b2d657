"""What a parent learns of a run in another process: where it is, and the pool and history that its files hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightning_al.exceptions import RunFolderError
from lightning_al.ledger import REJECTED, Ledger, LedgerRow
from lightning_al.run_folder import RecordedQuery, RunFolder
from lightning_al.spawned import SharedPath, pool_of


def test_shared_path_reaches_the_parent(tmp_path: Path) -> None:
    shared = SharedPath()
    assert shared.read() is None
    child = os.fork()
    if child == 0:
        shared.write(tmp_path / "größer")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    assert shared.read() == tmp_path / "größer"
    shared.write(Path("short"))
    assert shared.read() == Path.cwd() / "short", "absolute, and nothing of the longer one is left"
    shared.write(None)
    assert shared.read() is None


def test_pool_of_a_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_run({"finished": True, "pool_size": 9})
    folder.write_query(1, RecordedQuery([7, 3, 8, 0], None, "Random"))
    rows = [(4, 0, ""), (2, 0, ""), (7, 1, "5"), (3, 1, REJECTED), (8, 1, "")]
    Ledger(folder.ledger_path).append([LedgerRow(i, r, "Random", None, answer, "now") for i, r, answer in rows])

    pool = pool_of(folder)

    assert pool.labeled.tolist() == [4, 2, 7, 8]
    assert pool.rounds("labeled").tolist() == [0, 0, 1, 1]
    assert (pool.rejected.tolist(), pool.rounds("rejected").tolist()) == ([3], [1])
    assert (pool.pending.tolist(), pool.rounds("pending").tolist()) == ([0], [1])
    assert pool.unlabeled.tolist() == [1, 5, 6]
    assert pool.round == 1


def test_pool_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        pool_of(RunFolder(tmp_path))


def test_rounds_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_rounds() == []
    row = {"labeled": 10, "unlabeled": 90, "pending": 2, "rejected": 1, "seconds_fit": 0.1, "seconds_query": 2.0}
    metrics = [{"val_acc": 0.1}, {"val_acc": 1 / 3, "loss, all": 1e-30}, {}]
    history = [{**row, "round": number, "metrics": values} for number, values in enumerate(metrics)]

    folder.write_rounds(history)

    assert folder.read_rounds() == history


def test_rounds_that_were_edited(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    row = {
        "round": 0,
        "labeled": 5,
        "unlabeled": 4,
        "pending": 0,
        "rejected": 0,
        "seconds_fit": 1.0,
        "seconds_query": 1.0,
    }
    folder.write_rounds([row])
    folder.rounds_csv.write_text(folder.rounds_csv.read_text().replace("0,5,4", "0,five,4"))

    with pytest.raises(RunFolderError, match="line 2 is no row of it"):
        folder.read_rounds()
