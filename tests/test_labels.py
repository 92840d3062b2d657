"""An oracle's labels in the place of targets, against torch's own Subset and collation."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate

from lightning_al.labels import check_kinds, labeled_subset, like, target_of, with_label

Pair = namedtuple("Pair", ["image", "target", "name"])


def numbers(size: int = 6) -> TensorDataset:
    return TensorDataset(torch.arange(size).float().unsqueeze(1), torch.arange(size) % 3)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ((1.5, 0), (1.5, 7)),
        ([1.5, 0, "a.png"], [1.5, 7, "a.png"]),
        ((1.5,), (1.5, 7)),
        (1.5, (1.5, 7)),
        (Pair(1.5, 0, "a"), Pair(1.5, 7, "a")),
        ({"x": 1.5, "label": 0}, {"x": 1.5, "label": 7}),
        ({"x": 1.5, "targets": 0}, {"x": 1.5, "targets": 7}),
        ({"x": 1.5}, {"x": 1.5, "label": 7}),
    ],
)
def test_a_label_takes_the_targets_place(sample: Any, expected: Any) -> None:
    got = with_label(sample, 7)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize("target", [torch.tensor(0), torch.tensor(0.0), np.int64(0), np.float32(0), 0, 0.0])
def test_own_targets_and_labels_fit_into_one_batch(target: Any) -> None:
    for own_first in (True, False):
        samples = [(1.5, target), with_label((1.5, target), 2)]
        batch = default_collate(samples if own_first else samples[::-1])
        assert batch[1].tolist() == ([0, 2] if own_first else [2, 0])
        assert batch[1].dtype == default_collate([target, target]).dtype


def test_multilabel_targets_stay_tensors() -> None:
    got = like([1, 0, 1], torch.zeros(3))
    assert torch.equal(got, torch.tensor([1.0, 0.0, 1.0]))
    assert like("weed", torch.tensor(0)) == "weed"
    assert like(3, None) == 3


def test_labeled_subset_equals_torchs_own_but_for_the_labels() -> None:
    dataset = numbers(20)
    indices = [7, 3, 19, 0]
    plain = labeled_subset(dataset, indices, {})
    assert type(plain) is Subset  # torch's own speed
    ours, theirs = labeled_subset(dataset, indices, {19: 2}), Subset(dataset, indices)
    assert len(ours) == 4
    for position in range(4):
        assert torch.equal(ours[position][0], theirs[position][0])
        assert int(ours[position][1]) == (2 if position == 2 else int(theirs[position][1]))
    batch = next(iter(DataLoader(ours, batch_size=4)))
    assert batch[0].flatten().tolist() == [7.0, 3.0, 19.0, 0.0]
    assert batch[1].tolist() == [1, 0, 2, 0]
    assert dataset[19][1] == 1  # the dataset itself is as before


# -- labels of another kind
@pytest.mark.parametrize(
    ("sample", "target"),
    [
        ((1.5, 3, "a"), 3),
        ([1.5, 3], 3),
        (Pair(1.5, 3, "a"), 3),
        ({"x": 1, "targets": 3}, 3),
        ((1.5,), None),
        (1.5, None),
    ],
)
def test_the_target_of_a_sample(sample: Any, target: Any) -> None:
    assert target_of(sample) == target


TARGETS: list[Any] = [
    2, True, 0.5, np.int64(2), np.float32(2), torch.tensor(2), torch.tensor(0.5), np.array(2),
    torch.zeros(3), np.zeros(3), [1, 0, 1], {"boxes": [1.0, 2.0]},
]  # fmt: skip
LABELS: list[Any] = [1, False, 2.0, "weed", [0, 1, 0], {"boxes": [3.0, 4.0]}]


@pytest.mark.parametrize("label", LABELS, ids=repr)
@pytest.mark.parametrize("target", TARGETS, ids=repr)
def test_labels_are_refused_exactly_where_torch_cannot_collate_them_with_a_target(target: Any, label: Any) -> None:
    try:
        default_collate([(1.5, target), with_label((1.5, target), label)])
    except (TypeError, ValueError, RuntimeError):
        with pytest.raises(ValueError, match="Expected the label of dataset index 7 to be"):
            check_kinds({7: label}, 3, target)
    else:
        check_kinds({7: label}, 3, target)


@pytest.mark.parametrize("target", ["crop", np.str_("crop")])
def test_text_fits_text_only(target: str) -> None:
    check_kinds({7: "weed"}, 3, target)
    for label in (label for label in LABELS if label != "weed"):
        with pytest.raises(ValueError, match="of dataset index 7 to be text, as the dataset's targets are"):
            check_kinds({7: label}, 3, target)


def test_a_label_of_another_kind_is_named() -> None:
    with pytest.raises(ValueError, match="dataset index 9") as caught:
        check_kinds({4: None, 7: 1, 9: "weed", 2: "crop"}, 3, torch.tensor(0))
    assert str(caught.value).startswith(
        "Expected the label of dataset index 9 to be a number, as the dataset's targets are (that of index 3 is "
        "tensor(0)), but got 'weed', and no batch could hold both."
    )


@pytest.mark.parametrize("target", [None, object(), b"mask"])
def test_targets_of_an_unknown_kind_fit_anything(target: Any) -> None:
    check_kinds(dict(enumerate(LABELS)), 3, target)
