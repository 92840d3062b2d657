"""When TCM goes over from TypiClust to Margin, and that it never goes back."""

from __future__ import annotations

import io
import math

import pytest
import torch

from lightning_al.strategies.base import Outputs
from lightning_al.strategies.margin import Margin
from lightning_al.strategies.tcm import TCM
from lightning_al.strategies.typiclust import TypiClust


def outputs(rows: int, seed: int = 0) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        probs=(2 * torch.randn(rows, 3, generator=generator)).softmax(1),
        embeddings=torch.randn(rows, 5, generator=generator),
    )


def picks_of(strategy, pool: Outputs, labeled: Outputs | None) -> list[int]:
    return strategy.select(pool, 8, labeled=labeled, generator=torch.Generator().manual_seed(2)).tolist()


POOL = outputs(120)


@pytest.mark.parametrize(
    ("labeled", "stage"),
    [(None, TypiClust()), (outputs(0), TypiClust()), (outputs(11), TypiClust()), (outputs(12), Margin())],
)
def test_switches_at_four_labels_for_each_of_three_classes(labeled, stage):
    assert picks_of(TypiClust(), POOL, labeled) != picks_of(Margin(), POOL, labeled)
    assert picks_of(TCM(labels_per_class=4), POOL, labeled) == picks_of(stage, POOL, labeled)


def test_stays_with_margin_when_labels_are_taken_back_and_after_a_checkpoint():
    strategy, file = TCM(labels_per_class=4), io.BytesIO()
    picks_of(strategy, POOL, outputs(12))
    assert picks_of(strategy, POOL, outputs(5)) == picks_of(Margin(), POOL, None)
    torch.save(strategy.state_dict(), file)
    file.seek(0)
    resumed = TCM(labels_per_class=4)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert picks_of(resumed, POOL, outputs(5)) == picks_of(Margin(), POOL, None)


def test_twenty_labels_a_class_by_default():
    assert repr(TCM()) == "TCM(labels_per_class=20)"
    assert picks_of(TCM(), POOL, outputs(59)) == picks_of(TypiClust(), POOL, outputs(59))
    assert picks_of(TCM(), POOL, outputs(60)) == picks_of(Margin(), POOL, None)


def test_asks_for_what_both_need():
    assert TCM.needs.pool == {"probs", "embeddings"}
    assert TCM.needs.labeled == {"embeddings"}
    with pytest.raises(ValueError, match="Expected `embeddings` in the outputs for TCM"):
        TCM().select(Outputs(probs=POOL.probs), 3)


def test_a_query_that_fails_does_not_switch():
    strategy, pool = TCM(labels_per_class=1), outputs(20)
    pool.probs[4, 1] = math.nan
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 4"):
        strategy.select(pool, 3, labeled=outputs(9))
    assert strategy.state_dict() == {"switched": False}


def test_wrong_arguments_and_states_are_refused():
    for count in (0, -1, 2.5, "3", True):
        with pytest.raises(ValueError, match="`labels_per_class` to be a positive integer, but got"):
            TCM(count)
    for state in ({}, {"switched": 1}, {"switched": True, "stray": 1}):
        with pytest.raises(ValueError, match="a bool `switched`, but got"):
            TCM().load_state_dict(state)
