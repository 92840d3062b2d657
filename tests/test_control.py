"""Control samples: drawn as random labels would be, flagged, and what they tell of the strategy's gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_al import ActiveLearning, ActiveLearningDataModule
from lightning_al.control import Gain, count_controls, draw_controls, estimate_gain
from lightning_al.demos import DigitsDataModule
from lightning_al.ledger import Ledger
from tests._helpers.rounds_fixtures import Net, make_trainer, wrapped
from tests._helpers.runs import DropoutMLP


def test_every_unlabeled_sample_has_the_same_chance() -> None:
    unlabeled = torch.tensor([3, 5, 8, 9, 20])
    counts = torch.zeros(21)
    for seed in range(4000):
        counts[draw_controls(unlabeled, 2, seed)] += 1
    expected = 4000 * 2 / 5
    assert counts[unlabeled].sum() == 8000
    assert float((counts[unlabeled] - expected).abs().max()) < 4 * (expected * 3 / 5) ** 0.5


@pytest.mark.parametrize(
    ("size", "fraction", "count"), [(10, 0.1, 1), (3, 0.1, 1), (1, 0.5, 0), (8, 0.95, 7), (8, 0, 0)]
)
def test_at_least_one_and_never_all_of_a_query(size: int, fraction: float, count: int) -> None:
    assert count_controls(size, fraction) == count


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan"), True, "0.1"])
def test_a_fraction_that_is_none_is_refused(fraction: object) -> None:
    with pytest.raises(ValueError, match=r"Expected `control_fraction` to be a share of each query in \[0, 1\)"):
        ActiveLearning(rounds=2, control_fraction=fraction)  # type: ignore[arg-type]  # what is tested


def test_controls_are_flagged_and_the_others_are_the_strategys(tmp_path: Path) -> None:
    callback = ActiveLearning("Margin", 5, rounds=3, control_fraction=0.4)
    data = wrapped()
    make_trainer(tmp_path, [callback], enable_checkpointing=True).fit(Net(), datamodule=data)
    rows = [row for row in Ledger(tmp_path / "active_learning" / "ledger.csv").read() if row.round]
    assert [row.strategy for row in rows] == (["Margin"] * 3 + ["control"] * 2) * 2
    assert [row.score is None for row in rows] == ([False] * 3 + [True] * 2) * 2
    assert len({row.dataset_index for row in rows}) == 10


def blobs(seed: int, picked: int, *, rare: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Five classes, two of which hold most of a pool; a good strategy asks for all of them alike."""
    rng = np.random.default_rng(seed)
    shares = [0.5, 0.38, 0.04, 0.04, 0.04] if rare else [0.2] * 5
    kinds = rng.choice(5, picked, p=shares)
    means = np.eye(5, 12) * 2.5
    return torch.tensor(means[kinds] + rng.normal(size=(picked, 12))), torch.tensor(kinds)


def gain(seed: int, *, rare: bool) -> Gain:
    parts = [blobs(3 * seed, 12, rare=True), blobs(3 * seed + 1, 40, rare=True), blobs(3 * seed + 2, 40, rare=rare)]
    points, kinds = (torch.cat(each) for each in zip(*parts, strict=True))
    by = ["initial"] * 12 + ["control"] * 40 + ["Margin"] * 40
    test = blobs(10_000 + seed, 400, rare=False)
    found = estimate_gain(points, kinds, by, *test, 5, seed)
    assert found is not None
    return found


def test_the_interval_is_as_wide_as_such_gains_vary() -> None:
    """Its half-width against the spread of the gains of many pairs of arms, both of them random."""
    drawn = [gain(seed, rare=True) for seed in range(16)]
    spread = float(np.std([each.points for each in drawn], ddof=1))
    half = float(np.mean([each.high - each.low for each in drawn])) / 2
    assert 0.7 < half / (1.96 * spread) < 1.5
    assert sum(each.low <= 0 <= each.high for each in drawn) >= 14
    assert {each.labels for each in drawn} == {52}


def test_a_strategy_that_asks_for_rare_classes_gains() -> None:
    assert np.mean([gain(seed, rare=False).points for seed in range(4)]) > 8


def test_few_controls_tell_nothing() -> None:
    points, kinds = torch.randn(20, 3), torch.tensor([0, 1] * 10)
    by = ["initial"] * 4 + ["control"] * 4 + ["Margin"] * 12
    assert estimate_gain(points, kinds, by, points, kinds, 2) is None


def test_a_run_tells_its_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = ActiveLearning("Margin", 20, rounds=3, control_fraction=0.3)
    trainer = make_trainer(tmp_path, [callback], max_epochs=3)
    torch.manual_seed(0)
    trainer.fit(DropoutMLP(), datamodule=ActiveLearningDataModule(DigitsDataModule(), initial=30))
    assert "control_gain" not in callback.history[0]["metrics"]
    metrics = callback.history[2]["metrics"]
    assert metrics["control_gain_low"] < metrics["control_gain"] < metrics["control_gain_high"]
