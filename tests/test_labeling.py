"""Queries and answers on their way through the run's folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_al.exceptions import LedgerError, ResumeError
from lightning_al.labeling import Labeling
from lightning_al.ledger import Ledger
from lightning_al.oracles import Answers, DatasetOracle, Oracle, Query
from lightning_al.pool import Pool
from lightning_al.query_records import as_query
from lightning_al.run_folder import RunFolder


class Scripted(Oracle):
    """Gives the answers it was given; notes what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[list[int]] = []

    def label(self, query: Query) -> Answers:
        self.asked.append(query.dataset_indices.tolist())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def query(*indices: int, round: int = 1, scores: bool = True, probs: bool = True) -> Query:
    count = len(indices)
    return Query(
        torch.tensor(indices),
        round,
        "Margin",
        torch.arange(count).float() / 10 if scores else None,
        torch.full((count, 2), 0.5) if probs else None,
        lambda index: torch.zeros(4),
    )


def rows(folder: RunFolder) -> list[tuple[int, int, str, float | None, str]]:
    return [(r.dataset_index, r.round, r.strategy, r.score, r.answer) for r in Ledger(folder.ledger_path).read()]


def files(folder: RunFolder) -> dict[str, bytes]:
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in sorted(folder.path.rglob("*")) if p.is_file()}


def test_answers_are_recorded_in_the_order_asked(folder: RunFolder) -> None:
    oracle = Scripted(Answers(labels={4: None, 9: "weed"}, rejected=[7], pending=[2]))
    answers = Labeling(oracle, folder).ask(query(9, 2, 7, 4))
    assert answers.labels == {9: "weed", 4: None}
    assert (answers.rejected, answers.pending) == ([7], [2])
    score = [float(s) for s in torch.arange(4).float() / 10]
    assert rows(folder) == [
        (9, 1, "Margin", score[0], '"weed"'),
        (7, 1, "Margin", score[2], "rejected"),
        (4, 1, "Margin", score[3], ""),
    ]
    recorded = folder.read_query(1)
    assert recorded is not None
    assert recorded.dataset_indices == [9, 2, 7, 4]


@pytest.mark.parametrize("label", [np.int64(3), torch.tensor(3), np.array([1, 0]), (1, 0), {"box": (1, 2)}])
def test_labels_are_what_the_ledger_gives_back(folder: RunFolder, label: Any) -> None:
    answers = Labeling(Scripted(Answers(labels={4: label})), folder).ask(query(4))
    [row] = Ledger(folder.ledger_path).read()
    assert answers.labels == {4: row.label}
    assert type(answers.labels[4]) in (int, list, dict)
    alone = Labeling(Scripted(Answers(labels={4: label})), None).ask(query(4))
    assert alone.labels == answers.labels  # with a folder or without


def test_the_query_is_on_disk_before_the_oracle_is_asked(folder: RunFolder) -> None:
    class Looking(DatasetOracle):
        def label(self, query: Query) -> Answers:
            recorded = folder.read_query(1)
            assert recorded is not None
            assert recorded.dataset_indices == [5, 3]
            assert not folder.ledger_path.exists()
            return super().label(query)

    Labeling(Looking(), folder).ask(query(5, 3))
    assert [row[0] for row in rows(folder)] == [5, 3]


def test_only_what_the_ledger_lacks_is_asked_again(folder: RunFolder) -> None:
    first = Scripted(Answers(labels={9: 1}, rejected=[7], pending=[2, 4]))
    Labeling(first, folder).ask(query(9, 2, 7, 4))
    second = Scripted(Answers(labels={4: 0, 2: 1}))
    recorded = folder.read_query(1)
    assert recorded is not None
    answers = Labeling(second, folder).ask(as_query(1, recorded, lambda index: None))
    assert second.asked == [[2, 4]]
    assert answers.labels == {9: 1, 2: 1, 4: 0}
    assert answers.rejected == [7]
    assert [row[0] for row in rows(folder)] == [9, 7, 2, 4]
    third = Scripted()
    assert Labeling(third, folder).ask(as_query(1, recorded, lambda index: None)).labels == answers.labels
    assert third.asked == []


def test_probs_and_scores_follow_the_part_that_is_asked_again(folder: RunFolder) -> None:
    seen: list[Query] = []

    class Keeping(DatasetOracle):
        def label(self, query: Query) -> Answers:
            seen.append(query)
            return super().label(query)

    Labeling(Scripted(Answers(labels={9: 1, 7: 0}, pending=[2, 4])), folder).ask(query(9, 2, 7, 4))
    whole = query(9, 2, 7, 4)
    Labeling(Keeping(), folder).ask(whole)
    [part] = seen
    assert part.dataset_indices.tolist() == [2, 4]
    assert whole.scores is not None
    assert part.scores is not None
    assert part.scores.tolist() == whole.scores[[1, 3]].tolist()
    assert part.probs is not None
    assert part.probs.shape == (2, 2)


# -- what goes wrong
@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (None, ValueError, r"Expected Scripted.label to return `Answers\(.*but got a NoneType"),
        ({9: 1}, ValueError, "but got a dict"),
        (Answers(labels={9: 1}), ValueError, r"but got 1 missing: \[2\].*`pending`"),
        (Answers(labels={9: 1, 2: 1, 3: 1}), ValueError, r"1 that were not asked: \[3\]"),
        (Answers(labels={9: object(), 2: 1}), ValueError, "Expected a label to be a finite number, string, list"),
        (Answers(labels={9: float("nan"), 2: 1}), ValueError, "but got nan"),
        (ConnectionError("no network"), ConnectionError, "no network"),
    ],
)
def test_bad_answers_leave_the_ledger_as_it_was(
    folder: RunFolder, answer: Any, error: type[Exception], message: str
) -> None:
    labeling = Labeling(Scripted(answer, Answers(labels={9: 1, 2: 0})), folder)
    labeling.record_initial([5], {})
    before = files(folder)["ledger.csv"]
    with pytest.raises(error, match=message):
        labeling.ask(query(9, 2))
    assert files(folder)["ledger.csv"] == before
    assert labeling.ask(query(9, 2)).labels == {9: 1, 2: 0}  # asked once more, in the same process
    assert [row[0] for row in rows(folder)] == [5, 9, 2]


def test_a_full_disk_loses_no_answer_that_was_there(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    labeling = Labeling(Scripted(Answers(labels={9: 1, 2: 0}), Answers(labels={9: 1, 2: 0})), folder)
    labeling.record_initial([5, 6], {})
    before = files(folder)["ledger.csv"]
    write = os.write
    room = [10]

    def nearly_full(file: int, data: Any) -> int:
        """Ten bytes fit; then nothing."""
        part = bytes(data)[: room[0]]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= len(part)
        return write(file, part)

    folder.write_query(1, _recorded(9, 2))
    folder.query_path(1).touch()  # people have their table
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", nearly_full)
        with pytest.raises(LedgerError, match=r"No space left.*It is as it was before.*Free some space"):
            labeling.ask(query(9, 2))
    assert files(folder)["ledger.csv"] == before
    assert labeling.ask(query(9, 2)).labels == {9: 1, 2: 0}
    assert [row[0] for row in rows(folder)] == [5, 6, 9, 2]


def _recorded(*indices: int) -> Any:
    from lightning_al.run_folder import RecordedQuery

    return RecordedQuery(list(indices), None, "Margin")


# -- the first labels
def test_initial_labels_are_recorded_once(folder: RunFolder) -> None:
    Labeling(DatasetOracle(), folder).record_initial([5, 1, 3], {})
    before = files(folder)
    Labeling(DatasetOracle(), folder).record_initial([5, 1, 3], {})
    assert files(folder) == before
    assert rows(folder) == [(i, 0, "initial", None, "") for i in (5, 1, 3)]


def test_initial_labels_cut_by_a_kill_are_completed(folder: RunFolder) -> None:
    Labeling(DatasetOracle(), folder).record_initial([5, 1], {})
    Labeling(DatasetOracle(), folder).record_initial([5, 1, 3], {})
    assert [row[0] for row in rows(folder)] == [5, 1, 3]


@pytest.mark.parametrize("other", [[5, 2, 3], [1, 5, 3], [5]])
def test_other_initial_labels_are_refused(folder: RunFolder, other: list[int]) -> None:
    Labeling(DatasetOracle(), folder).record_initial([5, 1, 3], {})
    before = files(folder)
    with pytest.raises(ResumeError, match="initial labels are not those of this run: `initial` or `seed` differs"):
        Labeling(DatasetOracle(), folder).record_initial(other, {})
    assert files(folder) == before


# -- ledger against a restored pool
def pool_of(labeled: list[int], rejected: Sequence[int] = (), round: int = 1) -> Pool:
    pool = Pool(20)
    pool.label([5, 1], 0)
    pool.round = round
    pool.label(labeled)
    pool.reject(rejected)
    return pool


def test_a_ledger_covers_the_pool_or_is_refused(folder: RunFolder) -> None:
    labeling = Labeling(Scripted(Answers(labels={9: 1}, rejected=[7])), folder)
    labeling.record_initial([5, 1], {})
    labeling.ask(query(9, 7))
    Labeling(DatasetOracle(), folder).check_covers(pool_of([9], [7]))
    Labeling(DatasetOracle(), folder).check_covers(pool_of([], round=0))  # ahead of the checkpoint: replayed
    for pool in (pool_of([9, 3], [7]), pool_of([8], [7]), pool_of([9], [6])):
        with pytest.raises(ResumeError, match="They are not of the same run, or rows of the ledger are lost"):
            Labeling(DatasetOracle(), folder).check_covers(pool)


def test_without_a_folder_nothing_is_kept_or_compared() -> None:
    labeling = Labeling(Scripted(Answers(labels={9: 1})), None)
    labeling.record_initial([5], {})
    assert labeling.ask(query(9)).labels == {9: 1}
    assert labeling.recorded(1) is None
    labeling.check_covers(pool_of([3]))
    labeling.draw_sheet(query(9))


# -- contact sheets
def test_a_sheet_of_images_is_drawn_once_and_the_random_state_is_kept(folder: RunFolder) -> None:
    def preview(index: int) -> Any:
        return torch.rand(1, 8, 8), index % 3

    images = Query(torch.tensor([4, 2]), 1, "Margin", None, None, preview)
    labeling = Labeling(DatasetOracle(), folder)
    labeling.ask(images)
    state = torch.get_rng_state()
    labeling.draw_sheet(images)
    assert torch.equal(torch.get_rng_state(), state)
    sheet = folder.query_path(1).with_suffix(".png")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    changed = sheet.stat().st_mtime_ns
    labeling.draw_sheet(images)
    assert sheet.stat().st_mtime_ns == changed
