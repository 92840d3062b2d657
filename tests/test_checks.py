"""What a run says of its set-up before it begins; refusals are in test_bad_input.py."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from lightning_al import ActiveLearning
from lightning_al.oracles import Answers, DatasetOracle, Oracle, Query
from tests._helpers.rounds_fixtures import Net, PointsData, WatchingOracle, make_trainer, wrapped


class Somebody(Oracle):
    def label(self, query: Query) -> Answers:
        return DatasetOracle().label(query)


def unasked(folder: Path, data: Any = None, ckpt_path: Any = None, **arguments: Any) -> list[str]:
    """The warnings of a run that tell of labels nobody is asked for."""
    callback = ActiveLearning(**({"strategy": "Random", "query_size": 4, "rounds": 2} | arguments))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer(folder, [callback], enable_checkpointing=True, max_epochs=1)
        trainer.fit(Net(), datamodule=wrapped() if data is None else data, ckpt_path=ckpt_path)
    return [str(w.message) for w in caught if "is not asked for them" in str(w.message)]


def test_somebody_who_labels_is_not_asked_for_the_first_ones(tmp_path: Path) -> None:
    [told] = unasked(tmp_path, oracle=Somebody())
    assert told == (
        "The first 8 labels are the dataset's own targets: Somebody is not asked for them. To have them asked too, say "
        "ActiveLearning(initial_strategy='Random')."
    )
    path = tmp_path / "active_learning" / "last-round.ckpt"
    assert unasked(tmp_path, oracle=Somebody(), rounds=3, ckpt_path=path) == []  # said when the run began
    [told] = unasked(tmp_path / "listed", oracle=Somebody(), data=PointsData(), initial=[4, 8, 15])
    assert told.endswith("(initial_strategy='Random') and their number, `initial=3`.")


@pytest.mark.parametrize(
    "arguments", [{}, {"oracle": WatchingOracle()}, {"oracle": Somebody(), "initial_strategy": "Random"}]
)
def test_where_all_is_asked_or_nothing_it_is_not_said(tmp_path: Path, arguments: dict[str, Any]) -> None:
    assert unasked(tmp_path, **arguments) == []
