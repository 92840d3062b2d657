"""Labels by people: the run asks, ends, takes what came back, and loses nothing."""

from __future__ import annotations

import csv
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_al import ActiveLearning, ActiveLearningDataModule, FileOracle
from lightning_al.exceptions import AnswersError
from lightning_al.ledger import Ledger
from lightning_al.pool_commands import export, import_answers, reject, status
from tests._helpers.rounds_fixtures import Net, Points, PointsData, make_trainer

TRUTH = [int(Points()[index][1]) for index in range(len(Points()))]
NAMES = [f"class {number}" for number in range(max(TRUTH) + 1)]


class Unlabeled(Dataset[Tensor]):
    """The points without their targets; each has a file's name."""

    classes = NAMES

    def __init__(self) -> None:
        self.points = Points()
        self.paths = [f"photos/{index:02d}.png" for index in range(len(self.points))]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Tensor:
        return self.points[index][0]


class UnlabeledData(PointsData):
    """Inputs alone to train on."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Unlabeled(), batch_size=8, shuffle=True)


class Plain(Net):
    """Trains on inputs and labels, and takes batches of either kind when it is asked."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return torch.nn.functional.cross_entropy(self(inputs), targets)


def fit(root: Path, oracle: FileOracle, *, resume: bool = True, rounds: int = 4, **arguments: Any) -> ActiveLearning:
    callback = ActiveLearning("Margin", 6, rounds=rounds, initial_strategy="Random", oracle=oracle, **arguments)
    trainer = make_trainer(root, [callback], enable_checkpointing=True, max_epochs=2)
    last = root / "active_learning" / "last-round.ckpt"
    data = ActiveLearningDataModule(UnlabeledData(), initial=8)
    torch.manual_seed(0)
    trainer.fit(Plain(), datamodule=data, ckpt_path=str(last) if resume and last.exists() else None)
    return callback


def sheet(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "active_learning" / "queries" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def truth_of(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [row | {"label": NAMES[TRUTH[int(row["dataset_index"])]]} for row in rows]


def labels(callback: ActiveLearning) -> dict[int, int]:
    return callback._active_run().datamodule.given_labels


def test_two_rounds_by_file_on_a_dataset_without_labels(tmp_path: Path) -> None:
    run = tmp_path / "active_learning"
    first = fit(tmp_path, FileOracle())
    assert first.history == []  # nothing to train on yet
    asked = sheet(tmp_path, "round-000.csv")
    assert len(asked) == 8
    assert {row["guess"] for row in asked} <= set(NAMES)
    assert all(0 < float(row["confidence"]) <= 1 and row["label"] == row["reject"] == "" for row in asked)
    assert [row["path"] for row in asked] == [f"photos/{int(row['dataset_index']):02d}.png" for row in asked]
    assert "8 waiting for an answer" in str(status(run))

    write(run / "queries" / "round-000.csv", truth_of(asked))  # filled in place
    second = fit(tmp_path, FileOracle())
    assert [row["labeled"] for row in second.history] == [8]
    assert labels(second) == {int(row["dataset_index"]): TRUTH[int(row["dataset_index"])] for row in asked}

    query = sheet(tmp_path, "round-001.csv")
    assert [float(row["score"]) for row in query] == sorted((float(row["score"]) for row in query), reverse=True)
    told = import_answers(run, write(tmp_path / "labels.csv", truth_of(query)[::-1]))
    assert (told.new, told.late, told.waiting) == (6, 0, 0)
    third = fit(tmp_path, FileOracle())
    assert [row["labeled"] for row in third.history] == [8, 14]
    rows = Ledger(run / "ledger.csv").read()
    assert [row.dataset_index for row in rows] == [int(row["dataset_index"]) for row in asked + query[::-1]]
    assert [row.round for row in rows] == [0] * 8 + [1] * 6


def test_rejected_samples_are_replaced_by_the_next_best_in_the_same_round(tmp_path: Path) -> None:
    run = tmp_path / "active_learning"
    fit(tmp_path, FileOracle())
    write(run / "queries" / "round-000.csv", truth_of(sheet(tmp_path, "round-000.csv")))
    fit(tmp_path, FileOracle())
    query = truth_of(sheet(tmp_path, "round-001.csv"))
    junk = query[1] | {"label": "", "reject": "x"}
    write(run / "queries" / "round-001.csv", [query[0], junk, *query[2:]])
    waiting = fit(tmp_path, FileOracle())
    assert [row["labeled"] for row in waiting.history] == [8]
    [more] = sheet(tmp_path, "round-001-2.csv")
    assert float(more["score"]) <= float(query[-1]["score"])  # the next best by the same scores
    import_answers(run, write(tmp_path / "labels.csv", truth_of([more])))
    done = fit(tmp_path, FileOracle())
    assert [row["labeled"] for row in done.history] == [8, 14]
    assert done.pool.rejected.tolist() == [int(junk["dataset_index"])]


def test_late_answers_train_in_the_next_round_and_corrections_take_their_place(tmp_path: Path) -> None:
    run, oracle = tmp_path / "active_learning", FileOracle(min_answers=4)
    fit(tmp_path, oracle)
    first = truth_of(sheet(tmp_path, "round-000.csv"))
    import_answers(run, write(tmp_path / "a.csv", first[:5]))
    begun = fit(tmp_path, FileOracle(min_answers=4))
    assert (begun.history[0]["labeled"], begun.history[0]["pending"]) == (5, 3)
    late = import_answers(run, write(tmp_path / "b.csv", first))
    assert (late.new, late.late, late.known) == (3, 3, 5)

    other = int(first[0]["dataset_index"])
    wrong = [{"dataset_index": other, "label": NAMES[(TRUTH[other] + 1) % len(NAMES)]}]
    with pytest.raises(AnswersError, match=rf"row 1: dataset index {other} has the answer .* already, .*--correct"):
        import_answers(run, write(tmp_path / "c.csv", wrong))
    assert import_answers(run, tmp_path / "c.csv", correct=True).corrected == 1
    junk = int(first[1]["dataset_index"])
    assert reject(run, [junk]) == 1  # labeled before: somebody changed their mind
    import_answers(run, write(tmp_path / "d.csv", truth_of(sheet(tmp_path, "round-001.csv"))))
    done = fit(tmp_path, FileOracle(min_answers=4))
    assert [row["labeled"] for row in done.history] == [5, 5 + 6 + 3 - 1]
    assert labels(done)[other] == (TRUTH[other] + 1) % len(NAMES)
    assert done.pool.rejected.tolist() == [junk]
    again = fit(tmp_path, FileOracle(min_answers=4))  # waits for the next query still; the ledger covers the pool
    assert len(again.history) == 2


BAD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "never asked": ([{"dataset_index": 10**6, "label": "0"}], "row 1: dataset index 1000000 was never asked for"),
    "unknown class": ([{"dataset_index": -1, "label": "clas 1"}], "row 1: `dataset_index` is '-1', which is no index"),
    "twice": (
        [{"dataset_index": 0, "label": "0"}, {"dataset_index": 0, "label": "1"}],
        "row 2: .*another answer in row 1",
    ),
    "both": ([{"dataset_index": 0, "label": "0", "reject": "x"}], "row 1: it has the label '0' and is rejected too"),
    "class": (
        [{"dataset_index": 0, "label": "clas 1"}],
        "row 1: the class 'clas 1' is not known; did you mean 'class 1'",
    ),
    "mixed up": ([{"dataset_index": 0, "path": "photos/elsewhere.png", "label": "0"}], "row 1: .*were rows mixed up"),
    "no column": ([{"index": 0, "label": "0"}], "to have the columns `dataset_index` .* it has `index`, `label`"),
    "path": ([{"path": "../../etc/passwd", "label": "0"}], "row 1: its path '../../etc/passwd' was never asked for"),
}  # fmt: skip


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("waiting")
    fit(root, FileOracle())
    return root


@pytest.mark.parametrize("case", list(BAD))
def test_answers_that_cannot_be_taken_change_nothing(case: str, waiting: Path, tmp_path: Path) -> None:
    rows, message = BAD[case]
    run = waiting / "active_learning"
    asked = [int(row["dataset_index"]) for row in sheet(waiting, "round-000.csv")]
    given = [row | {"dataset_index": asked[0]} if row.get("dataset_index") == 0 else row for row in rows]
    good = [{"dataset_index": asked[1], "label": "0"}]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    files = [write(tmp_path / "good.csv", good), write(tmp_path / "bad.csv", given)]
    with pytest.raises(AnswersError, match=message):
        import_answers(run, files)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t").replace("\n", "\r\n"),
        lambda text: text + "\n,,\n",
    ],
)
def test_what_spreadsheets_make_of_a_table_is_read(change: Any, waiting: Path, tmp_path: Path) -> None:
    from lightning_al.answer_sheet import decode

    text = "dataset_index,label,reject\n41,class 1,\n7,,x\n9,1.0,0\n"
    found = decode(change(text).encode(), "labels.csv", NAMES)
    assert [(each.dataset_index, each.label, each.rejected) for each in found] == [
        (41, 1, False), (7, None, True), (9, 1, False),
    ]  # fmt: skip


def test_what_is_open_is_exported_again(waiting: Path, tmp_path: Path) -> None:
    [path] = export(waiting / "active_learning", tmp_path)
    assert path.read_bytes() == (waiting / "active_learning" / "queries" / "round-000.csv").read_bytes()


def test_a_table_with_mistakes_keeps_the_run_waiting(tmp_path: Path) -> None:
    fit(tmp_path, FileOracle())
    table = tmp_path / "active_learning" / "queries" / "round-000.csv"
    rows = truth_of(sheet(tmp_path, "round-000.csv"))
    write(table, [rows[0] | {"label": "clas 1"}, *rows[1:]])
    with pytest.raises(AnswersError, match=r"round-000.csv was not taken, .* changed:\n  row 1: the class"):
        fit(tmp_path, FileOracle())
    assert not (tmp_path / "active_learning" / "ledger.csv").exists()
    write(table, rows)
    assert [row["labeled"] for row in fit(tmp_path, FileOracle()).history] == [8]


# -- what a review found
def test_a_share_waits_for_one_label_at_least() -> None:
    assert [FileOracle(min_answers=0.5).least_answers(asked) for asked in (1, 2, 5)] == [1, 1, 2]
    assert [FileOracle().least_answers(3), FileOracle(min_answers=9).least_answers(3)] == [3, 3]


def test_rejections_that_come_later_are_replaced_too(tmp_path: Path) -> None:
    run = tmp_path / "active_learning"
    fit(tmp_path, FileOracle())
    import_answers(run, write(tmp_path / "first.csv", truth_of(sheet(tmp_path, "round-000.csv"))))
    fit(tmp_path, FileOracle())
    query = truth_of(sheet(tmp_path, "round-001.csv"))
    reject(run, [int(query[0]["dataset_index"])])
    fit(tmp_path, FileOracle())
    reject(run, [int(query[1]["dataset_index"]), int(query[2]["dataset_index"])])
    fit(tmp_path, FileOracle())
    assert [len(sheet(tmp_path, f"round-001-{part}.csv")) for part in (2, 3)] == [1, 2]
    rest = [*query[3:], *(row for part in (2, 3) for row in truth_of(sheet(tmp_path, f"round-001-{part}.csv")))]
    import_answers(run, write(tmp_path / "rest.csv", rest))
    assert [row["labeled"] for row in fit(tmp_path, FileOracle()).history] == [8, 14]


def test_what_was_exported_and_filled_in_is_not_overwritten(tmp_path: Path, waiting: Path) -> None:
    [first] = export(waiting / "active_learning", tmp_path)
    first.write_text("filled in")
    [second] = export(waiting / "active_learning", tmp_path)
    assert first.read_text() == "filled in"
    assert second.name == "round-000-2.csv"


def test_a_run_that_waits_goes_on_by_itself_past_a_table_with_a_mistake(tmp_path: Path) -> None:
    queries = tmp_path / "active_learning" / "queries"

    def people() -> None:
        for name, wrong in (("round-000.csv", True), ("round-000.csv", False), ("round-001.csv", False)):
            while not (queries / name).exists():
                time.sleep(0.05)
            rows = truth_of(sheet(tmp_path, name))
            write(tmp_path / "new.csv", [rows[0] | {"label": "clas 1"}, *rows[1:]] if wrong else rows)
            (tmp_path / "new.csv").replace(queries / name)
            time.sleep(0.6)

    answering = threading.Thread(target=people, daemon=True)
    answering.start()
    with pytest.warns(UserWarning, match="the class 'clas 1' is not known(.|\n)*The run waits for it to be mended"):
        done = fit(tmp_path, FileOracle(poll=0.1), rounds=2)
    answering.join()
    assert [row["labeled"] for row in done.history] == [8, 14]


class Numbered(UnlabeledData):
    """The dataset has targets, numbers, and nobody says what the classes are called."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([tuple(Points()[index][:2]) for index in range(len(Points()))], batch_size=8, shuffle=True)


def test_a_label_of_another_kind_keeps_the_round_open_until_it_is_corrected(tmp_path: Path) -> None:
    run = tmp_path / "active_learning"

    def go_on() -> ActiveLearning:
        callback = ActiveLearning("Margin", 6, rounds=3, initial_strategy="Random", oracle=FileOracle())
        trainer = make_trainer(tmp_path, [callback], enable_checkpointing=True, max_epochs=1)
        trainer.fit(Plain(), datamodule=ActiveLearningDataModule(Numbered(), initial=4))
        return callback

    go_on()
    asked = [int(row["dataset_index"]) for row in sheet(tmp_path, "round-000.csv")]
    rows = [{"dataset_index": index, "label": TRUTH[index]} for index in asked]
    import_answers(run, write(tmp_path / "a.csv", [rows[0] | {"label": "weed"}, *rows[1:]]))
    with pytest.raises(ValueError, match=rf"label of dataset index {asked[0]} to be a number"):
        go_on()
    import_answers(run, write(tmp_path / "b.csv", rows[:1]), correct=True)
    done = go_on()
    assert [row["labeled"] for row in done.history] == [4]
    assert labels(done) == {index: TRUTH[index] for index in asked}


def test_names_that_are_numbers_and_files_of_several_samples() -> None:
    from lightning_al.answer_sheet import decode
    from lightning_al.class_names import label_of

    assert [label_of(text, ["1", "2", "3"]) for text in ("1", "1.0", "3")] == [0, 0, 2]
    assert label_of("1", ["01", "02"]) == 0
    with pytest.raises(ValueError, match="the class '0' is not known"):
        label_of("0", ["1", "2", "3"])
    paths = {3: "v.mp4", 5: "v.mp4", 7: "w.mp4 "}
    table = b"dataset_index,path,label\n3,v.mp4,0\n5,v.mp4,1\n7,w.mp4,2\n"
    assert [each.dataset_index for each in decode(table, "x", None, paths)] == [3, 5, 7]
    with pytest.raises(AnswersError, match=r"row 1: 2 samples have the path 'v.mp4': give their `dataset_index`"):
        decode(b"path,label\nv.mp4,0\n", "x", None, paths)
