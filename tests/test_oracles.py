"""Oracles: what may be asked and answered, and the dataset as the one who answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_al.oracles import Answers, DatasetOracle, Oracle, Query


def make_query(indices: object = (7, 2, 9), scores: Tensor | None = None, probs: Tensor | None = None) -> Query:
    indices = indices if isinstance(indices, Tensor | np.ndarray) else torch.tensor(indices, dtype=torch.int64)
    return Query(indices, round=3, strategy="Margin", scores=scores, probs=probs, preview=lambda index: index * 10)


def test_a_query_holds_what_it_was_given() -> None:
    query = make_query(scores=torch.tensor([3.0, 2.0, 1.0]), probs=torch.full((3, 4), 0.25))
    assert len(query) == 3
    assert [query.preview(index) for index in query.dataset_indices.tolist()] == [70, 20, 90]
    assert len(make_query(torch.empty(0, dtype=torch.int64))) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": torch.tensor([1.0])}, r"`dataset_indices` to be an int64 tensor .* got \(1,\) torch.float32"),
        ({"indices": torch.tensor([[1]])}, r"`dataset_indices` .* got \(1, 1\)"),
        ({"indices": torch.tensor([1], dtype=torch.int32)}, r"`dataset_indices` .* torch.int32"),
        ({"indices": np.array([1])}, r"`dataset_indices` .* got array"),
        ({"scores": torch.zeros(2)}, r"`scores` to have 1 dimension\(s\) and 3 rows, .* got shape \(2,\)"),
        ({"scores": torch.zeros(3, 1)}, r"`scores` .* \(3, 1\)"),
        ({"probs": torch.zeros(2, 3)}, r"`probs` to have 2 dimension\(s\) and 3 rows"),
        ({"probs": torch.zeros(3)}, r"`probs`"),
    ],
)
def test_a_query_of_a_wrong_shape_raises(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_query(**arguments)


def test_the_dataset_answers_every_index_in_order_with_its_own_target() -> None:
    oracle = DatasetOracle()
    assert isinstance(oracle, Oracle)
    answers = oracle.label(make_query())
    assert list(answers.labels.items()) == [(7, None), (2, None), (9, None)]
    assert (answers.rejected, answers.pending) == ([], [])
    answers.check(make_query())


def test_answers_are_made_of_plain_integers() -> None:
    seven, two = torch.tensor([7, 2])
    answers = Answers(labels={seven: "weed"}, rejected=[two], pending=[np.int64(9)])
    assert answers == Answers(labels={7: "weed"}, rejected=[2], pending=[9])
    assert [type(index) for index in (*answers.labels, *answers.rejected, *answers.pending)] == [int, int, int]
    with pytest.raises(TypeError):
        Answers(rejected=[2.0])


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": {7: 1}, "rejected": [7]},
        {"labels": {7: 1}, "pending": [7]},
        {"rejected": [7], "pending": [7]},
        {"rejected": [7, 7]},
        {"pending": [7, 2, 7]},
    ],
)
def test_an_index_answered_twice_raises(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"more than once: \[7\]"):
        Answers(**arguments)


def test_answers_are_compared_with_what_was_asked() -> None:
    Answers(labels={2: 0, 7: 1}, pending=[9]).check(make_query())
    with pytest.raises(ValueError, match=r"round 3's query, but got 1 that were not asked: \[5\]"):
        Answers(labels={2: 0, 7: 1, 5: 1}, rejected=[9]).check(make_query())
    with pytest.raises(ValueError, match=r"3 dataset indices of round 3's query, but got 2 missing: \[2, 9\]"):
        Answers(labels={7: 1}).check(make_query())


def test_two_answers_do_not_share_their_lists() -> None:
    first, second = Answers(), Answers()
    first.labels[1] = 2
    first.rejected.append(3)
    assert second == Answers(labels={}, rejected=[], pending=[])
