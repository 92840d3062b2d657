"""Stopping rules on histories and curves whose answer is known, and in runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from lightning_al import labeling, reporting
from lightning_al import run as run_module
from lightning_al.stopping import (
    AllOf,
    AnyOf,
    Budget,
    MarginalValue,
    StabilizingPredictions,
    StoppingRule,
    TargetMetric,
    cohens_kappa,
)
from lightning_al.stopping.marginal_value import gain_ahead
from tests._helpers import ranks, runs
from tests._helpers.processes import run, start_ranks, wait_all


def history(*values: float, name: str = "val_acc") -> list[dict[str, Any]]:
    return [{"labeled": 10 * (n + 1), "metrics": {name: value}} for n, value in enumerate(values)]


# -- TargetMetric
@pytest.mark.parametrize(
    ("mode", "values", "stops"),
    [
        ("max", [0.5, 0.89], False),
        ("max", [0.5, 0.9], True),
        ("max", [0.5, 0.95], True),
        ("max", [0.95, 0.5], False),  # the last round counts: its model is the one there is
        ("min", [0.95, 0.91], False),
        ("min", [0.95, 0.9], True),
        ("max", [float("nan")], False),
        ("min", [float("nan")], False),
    ],
)
def test_target_metric(mode: Any, values: list[float], stops: bool) -> None:
    assert (TargetMetric("val_acc", 0.9, mode).reason_to_stop(history(*values)) is not None) is stops


def test_the_reason_says_value_target_and_labels() -> None:
    assert TargetMetric("loss", 0.25, "min").reason_to_stop(history(0.5, 0.1234567, name="loss")) == (
        "loss reached 0.1235 (target 0.25) with 20 labels."
    )


@pytest.mark.parametrize(
    "rule",
    [
        TargetMetric("val_acc", 0.9),
        Budget(labels=1),
        Budget(cost=1.0),
        MarginalValue("val_acc", 1, 1),
        StabilizingPredictions(),
    ],
)
def test_nothing_is_said_before_the_first_round(rule: StoppingRule) -> None:
    assert rule.reason_to_stop([]) is None
    assert AnyOf([rule]).reason_to_stop([]) is None


@pytest.mark.parametrize("rule", [TargetMetric("val_acc", 0.9), MarginalValue("val_acc", 0.01, 100)])
def test_a_metric_that_is_not_logged_lists_what_is(rule: StoppingRule) -> None:
    message = rf"{type(rule).__name__} waits for 'val_acc', which is not logged; there are \['loss'\].*self.log"
    for asked in (rule, AnyOf([Budget(labels=1), rule]), AllOf([Budget(labels=99), rule])):
        with pytest.raises(ValueError, match=message):
            asked.reason_to_stop(history(0.5, name="loss"))


# -- Budget
@pytest.mark.parametrize(
    ("rule", "labeled", "cost", "reason"),
    [
        (Budget(labels=30), 29, 99.0, None),
        (Budget(labels=30), 30, 0.0, "the budget of 30 labels is spent."),
        (Budget(cost=2.5), 999, 2.4, None),
        (Budget(cost=0.3), 3, 0.1 + 0.2 - 1e-12, "the budget of 0.3 is spent (cost 0.3)."),  # rounding of sums
        (Budget(labels=30, cost=1234.5), 12, 1300.0, "the budget of 1,234.5 is spent (cost 1,300)."),
        (Budget(labels=30, cost=1234.5), 31, 1300.0, "the budget of 30 labels is spent."),
    ],
)
def test_budget(rule: Budget, labeled: int, cost: float, reason: str | None) -> None:
    assert rule.reason_to_stop([{"labeled": labeled, "cost": cost, "metrics": {}}]) == reason


# -- kappa
def test_kappa_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 3, 10):
        first = torch.randint(classes, (200,), generator=generator)
        changed = torch.rand(200, generator=generator) < 0.3
        second = torch.where(changed, torch.randint(classes, (200,), generator=generator), first)
        assert cohens_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "kappa"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], 1.0),
        ([0, 0, 1, 1], [1, 1, 0, 0], -1.0),
        ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),
        ([0, 0, 0, 0], [1, 1, 1, 1], 0.0),
        ([0, 0, 0, 1], [0, 0, 0, 0], 0.0),  # (0.75 - 0.75) / 0.25
        ([7, 7], [7, 7], 0.0),  # 0 / 0: chance alone explains it
    ],
)
def test_kappa_by_hand(first: list[int], second: list[int], kappa: float) -> None:
    assert cohens_kappa(torch.tensor(first), torch.tensor(second)) == kappa


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [1, 2])])
def test_kappa_of_other_samples(first: list[int], second: list[int]) -> None:
    with pytest.raises(ValueError, match="two predictions of the same samples"):
        cohens_kappa(torch.tensor(first), torch.tensor(second))


# -- StabilizingPredictions
class Predictions:
    """Predicts, round after round, all classes right but for a given number of samples."""

    def __init__(self, size: int) -> None:
        self.classes = torch.arange(size) % 4
        self.seen: list[list[int]] = []

    def show(self, rule: StoppingRule, wrong: int) -> str | None:
        def predict(indices: Tensor) -> Tensor:
            self.seen.append(indices.tolist())
            found = self.classes[indices].clone()
            found[:wrong] = (found[:wrong] + 1) % 4
            return found

        rule.observe(predict)
        return rule.reason_to_stop([])


def test_stability_has_to_last() -> None:
    rule, model = StabilizingPredictions(size=400, kappa=0.99, rounds=3), Predictions(1000)
    rule.begin(torch.arange(1000))
    # samples that change from round to round: 40, 20, 2, 2, 8, 2, 0, 2; 3 of 400 are a kappa of 0.99
    stopped = [model.show(rule, wrong) is not None for wrong in (60, 20, 40, 42, 44, 52, 50, 50, 48)]
    assert stopped == [False] * 8 + [True]
    reason = rule.reason_to_stop([])
    assert reason is not None
    assert reason.startswith("predictions on 400 samples have stabilized: kappa 0.99")


def test_the_stop_set_is_drawn_once_from_what_was_unlabeled_at_the_start() -> None:
    unlabeled = torch.arange(100, 200)
    rule, model = StabilizingPredictions(size=30, seed=1), Predictions(200)
    rule.begin(unlabeled)
    for _ in range(3):
        model.show(rule, 0)
    assert model.seen[0] == model.seen[1] == model.seen[2]
    assert len(set(model.seen[0])) == 30
    assert set(model.seen[0]) <= set(unlabeled.tolist())
    other = StabilizingPredictions(size=30, seed=2)
    other.begin(unlabeled)
    model.show(other, 0)
    assert model.seen[-1] != model.seen[0]
    whole = StabilizingPredictions(size=1000)
    whole.begin(unlabeled)
    model.show(whole, 0)
    assert model.seen[-1] == unlabeled.tolist()


def test_a_run_begins_with_nothing_remembered() -> None:
    rule, model = StabilizingPredictions(size=50, rounds=1), Predictions(100)
    rule.begin(torch.arange(100))
    assert [model.show(rule, 0) is None for _ in range(2)] == [True, False]
    rule.begin(torch.arange(100))
    assert model.show(rule, 0) is None


def test_its_state_comes_back_from_a_checkpoint(tmp_path: Path) -> None:
    rule, model = AnyOf([Budget(labels=99), StabilizingPredictions(size=50, rounds=2)]), Predictions(100)
    rule.begin(torch.arange(100))
    model.show(rule, 0)
    model.show(rule, 0)
    torch.save(rule.state_dict(), tmp_path / "state")
    other = AnyOf([Budget(labels=99), StabilizingPredictions(size=50, rounds=2)])
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))

    other.observe(lambda indices: model.classes[indices])
    assert other.rules[1].reason_to_stop([]) == (
        "predictions on 50 samples have stabilized: kappa 1.0000, 1.0000 in the last 2 rounds (at least 0.99)."
    )


@pytest.mark.parametrize(
    ("rule", "state", "message"),
    [
        (Budget(labels=1), {"size": 3}, "Expected no state for Budget"),
        (AnyOf([Budget(labels=1)]), {"rules": [{}, {}]}, "states of 1 rules"),
        (AnyOf([Budget(labels=1)]), {}, "states of 1 rules"),
        (StabilizingPredictions(9), {}, "a stop set of 9 samples"),
        (StabilizingPredictions(9), {"size": 9, "seed": 1}, "drawn with seed 0"),
        (StabilizingPredictions(9), {"size": 9, "seed": 0}, "part of it is missing"),
        (
            StabilizingPredictions(2),
            {"size": 2, "seed": 0, "kappas": [], "stop_set": [1, 2], "predicted": [1]},
            "Expected 2 predictions, but got 1",
        ),
    ],
)
def test_a_state_of_another_rule(rule: StoppingRule, state: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule.load_state_dict(state)


# -- MarginalValue
COUNTS = [100.0 + 50 * n for n in range(14)]


def accuracy(labels: float) -> float:
    return float(0.95 - 2.0 * labels**-0.5)


def curve(counts: list[float], noise: float = 0.0, *, mode: str = "max", cost: float | None = None) -> Any:
    rng = np.random.default_rng(0)
    rows = []
    for n in counts:
        value = accuracy(n) + noise * rng.standard_normal()
        rows.append({"labeled": int(n), "metrics": {"m": value if mode == "max" else 1 - value}})
        if cost is not None:
            rows[-1]["cost"] = cost * n
    return rows


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(("cost", "price"), [(None, 100.0), (3.0, 300.0)])
def test_a_run_without_noise_stops_where_the_curve_says(mode: Any, cost: float | None, price: float) -> None:
    rule = MarginalValue("m", gain=0.01, price=price, mode=mode)
    rows = curve(COUNTS, mode=mode, cost=cost)
    stopped = [rule.reason_to_stop(rows[: n + 1]) is not None for n in range(len(rows))]
    worth = [accuracy(n + 50) - accuracy(n) >= 0.01 / 100 * 50 for n in COUNTS]  # 50 labels have to bring 0.005
    assert stopped == [not enough for enough in worth]
    assert stopped.index(True) == 7  # 2 (400^-0.5 - 450^-0.5) = 0.0057 and 2 (450^-0.5 - 500^-0.5) = 0.0048


def test_noise_makes_it_wait_and_the_upper_end_is_above_the_truth() -> None:
    counts = np.array(COUNTS[:8])
    truth = accuracy(500) - accuracy(450)
    rng = np.random.default_rng(0)
    found = [
        gain_ahead(counts, np.array([accuracy(n) for n in counts]) + 0.005 * rng.standard_normal(8), 450, 50)
        for _ in range(40)
    ]
    assert all(each.low <= each.value <= each.high for each in found)
    assert np.median([each.value for each in found]) == pytest.approx(truth, rel=0.15)
    assert np.mean([each.high < truth for each in found]) <= 0.1  # nominally 0.025
    # not yet as sure as without noise: below 0.005 is the truth
    assert MarginalValue("m", 0.01, 100).reason_to_stop(curve(COUNTS[:8])) is not None
    assert MarginalValue("m", 0.01, 100).reason_to_stop(curve(COUNTS[:8], noise=0.01)) is None


def test_a_flat_curve_ends_and_a_steep_one_does_not() -> None:
    flat = history(*[0.8 + 1e-4 * (-1) ** n for n in range(8)], name="m")
    steep = history(*[0.1 * n for n in range(8)], name="m")
    assert MarginalValue("m", 0.01, 10).reason_to_stop(flat) is not None
    assert MarginalValue("m", 0.01, 10).reason_to_stop(steep) is None


def test_what_few_rounds_do_not_tell() -> None:
    rule = MarginalValue("m", 1.0, 1)  # nothing is worth that much
    for rows in (curve(COUNTS[:5]), curve([100.0] * 9)):
        assert rule.reason_to_stop(rows) is None
        rounds = len({row["labeled"] for row in rows})
        assert rule.outlook(rows) == f"gain of m by the next labels: not yet known ({rounds} of 6 rounds)."
    assert rule.reason_to_stop(curve(COUNTS[:6])) is not None


# -- several
def test_any_and_all() -> None:
    reached, missed, spent = TargetMetric("val_acc", 0.5), TargetMetric("val_acc", 0.9), Budget(labels=10)
    rows = history(0.6)
    both = "val_acc reached 0.6 (target 0.5) with 10 labels; the budget of 10 labels is spent."
    assert AnyOf([reached, spent]).reason_to_stop(rows) == AllOf([reached, spent]).reason_to_stop(rows) == both
    assert AnyOf([missed, spent]).reason_to_stop(rows) == "the budget of 10 labels is spent."
    assert AllOf([missed, spent]).reason_to_stop(rows) is None
    assert AnyOf([missed]).reason_to_stop(rows) is None
    assert AllOf([spent, AnyOf([missed, reached])]).reason_to_stop(rows) is not None


def test_limits_of_several() -> None:
    low, high, none = Budget(labels=10, cost=5.0), Budget(labels=20, cost=7.0), TargetMetric("m", 1)
    assert (AnyOf([low, high, none]).most_labels, AnyOf([low, high, none]).most_cost) == (10, 5.0)
    assert (AllOf([low, high]).most_labels, AllOf([low, high]).most_cost) == (20, 7.0)
    assert (AllOf([low, none]).most_labels, AnyOf([none]).most_cost) == (None, None)
    assert AllOf([low, none]).needs_cost
    assert not AllOf([none]).needs_cost
    assert AnyOf([AllOf([none, StabilizingPredictions()])]).needs_predictions
    assert not AnyOf([low]).needs_predictions


@pytest.mark.parametrize(
    ("rule", "arguments", "message"),
    [
        (TargetMetric, {"metric": "m", "value": 0.9, "mode": "up"}, "`mode` to be 'max' or 'min', but got 'up'"),
        (TargetMetric, {"metric": "m", "value": float("nan")}, "Expected `value` to be a number, but got nan"),
        (TargetMetric, {"metric": "m", "value": "high"}, "Expected `value` to be a number, but got 'high'"),
        (Budget, {}, "Expected Budget to have a limit"),
        (Budget, {"labels": 1.5}, "`labels` to be a positive whole number, but got 1.5"),
        (Budget, {"labels": 0}, "`labels` to be a positive whole number, but got 0"),
        (Budget, {"cost": 0}, "`cost` to be a positive number, but got 0"),
        (Budget, {"cost": float("inf")}, "`cost` to be a positive number, but got inf"),
        (StabilizingPredictions, {"size": 1}, "`size` to be a whole number of at least 2, but got 1"),
        (StabilizingPredictions, {"rounds": 0}, "`rounds` to be a whole number of at least 1, but got 0"),
        (StabilizingPredictions, {"seed": -1}, "`seed` to be a whole number of at least 0, but got -1"),
        (StabilizingPredictions, {"kappa": 0}, r"`kappa` to be in \(0, 1\], but got 0"),
        (StabilizingPredictions, {"kappa": 99}, r"`kappa` to be in \(0, 1\], but got 99"),
        (MarginalValue, {"metric": "m", "gain": 0, "price": 1}, "`gain` to be a positive number, but got 0"),
        (MarginalValue, {"metric": "m", "gain": 1, "price": -2}, "`price` to be a positive number, but got -2"),
        (MarginalValue, {"metric": "m", "gain": 1, "price": 1, "mode": "up"}, "`mode` to be 'max' or 'min'"),
        (AnyOf, {"rules": []}, "list instances of StoppingRule, but got none"),
        (AllOf, {"rules": ["Budget"]}, "list instances of StoppingRule, but got 'Budget'"),
    ],
)
def test_bad_arguments(rule: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule(**arguments)


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        StoppingRule()  # type: ignore[abstract]  # what is tested


# -- in runs
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder; the current folder is its parent, and no figures are drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labeling, "contact_sheet", lambda *_, **__: False)
    monkeypatch.setattr(reporting, "learning_curve", lambda *_, **__: None)
    return tmp_path / "active_learning"


def stable(rounds: int = 2, kappa: float = 0.5) -> StabilizingPredictions:
    return StabilizingPredictions(size=60, kappa=kappa, rounds=rounds)


def kappas(folder: Path) -> list[float]:
    state = runs.checkpoint(folder)["callbacks"]["ActiveLearning"]["stopping"]
    found: list[float] = state["rules"][0]["kappas"]
    return found


def test_a_run_ends_by_its_stop_set_and_says_why(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rule looks on only: what is picked is the same as without, and the last weights stay."""
    with_rule, without = runs.active_learning(stopping=stable(), rounds=9), runs.active_learning(dirpath="plain")
    trainer, callback, _ = runs.fit(with_rule, max_epochs=8)
    reason = json.loads((folder / "run.json").read_text())["reason"]
    assert reason.startswith("predictions on 60 samples have stabilized: kappa 0.")
    assert 3 <= len(callback.history) < 9
    assert f"Active learning ended: {reason}" in caplog.text

    other, plain, _ = runs.fit(without, max_epochs=8)
    rows = [[{**row, "seconds_fit": 0, "seconds_query": 0} for row in each.history] for each in (callback, plain)]
    assert len(rows[1]) == 3
    assert rows[0][:3] == rows[1]
    if len(rows[0]) == 3:
        weights = [each.lightning_module.state_dict() for each in (trainer, other)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_killed_run_goes_on_with_the_stop_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rule() -> Any:
        return runs.active_learning(stopping=stable(kappa=1.0), rounds=4)

    runs.fit(rule())
    whole, its_kappas = runs.digests(folder), kappas(folder)
    assert len(its_kappas) == 2  # the last checkpoint is of before the last round's
    folder.rename(folder.with_name("whole"))

    class Killed(RuntimeError):
        pass

    for moment in ("_next_round", "_say"):
        with monkeypatch.context() as patch:
            calls, original = iter(range(99)), getattr(run_module.Run, moment)

            def kill(self: Any, calls: Any = calls, original: Any = original) -> None:
                if next(calls) == 2:
                    raise Killed
                original(self)

            patch.setattr(run_module.Run, moment, kill)
            with pytest.raises(Killed):
                runs.fit(rule())
        runs.fit(rule(), ckpt_path=folder / "last-round.ckpt")
        assert runs.digests(folder) == whole
        assert kappas(folder) == its_kappas
        folder.rename(folder.with_name(moment))


def test_other_rules_begin_anew_when_a_run_goes_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs.fit(runs.active_learning(stopping=TargetMetric("val_acc", 2.0), rounds=2))
    caplog.clear()
    path = folder / "last-round.ckpt"
    _, callback, _ = runs.fit(runs.active_learning(stopping=stable(kappa=0.01, rounds=1), rounds=9), ckpt_path=path)
    assert "begin anew" in caplog.text
    assert len(callback.history) == 3  # its first look is at the second round, already there
    assert kappas(folder) == []


def fit_with_stop_set(devices: int) -> None:
    """The run of :func:`ranks.fit` with a rule; a rank in a process of its own."""
    original = runs.active_learning
    runs.active_learning = lambda **more: original(**more, stopping=stable(kappa=1.0))  # type: ignore[assignment]
    ranks.fit(size=56, devices=devices, rounds=9)


def test_two_ranks_see_what_one_sees(tmp_path: Path) -> None:
    run(tmp_path / "one", fit_with_stop_set, 1)
    wait_all(start_ranks(tmp_path / "two", fit_with_stop_set, 2))
    one, two = (tmp_path / name / "active_learning" for name in ("one", "two"))
    states = [runs.checkpoint(each)["callbacks"]["ActiveLearning"]["stopping"]["rules"][0] for each in (one, two)]
    assert states[0]["predicted"].tolist() == states[1]["predicted"].tolist()
    assert len(states[0]["predicted"]) == 26  # all that was unlabeled
    assert len(json.loads((two.parent / "rank-1.json").read_text())["history"]) == 3  # then the pool is empty
    assert [row[:3] for row in runs.ledger(one)] == [row[:3] for row in runs.ledger(two)]


def test_a_misspelt_metric_is_found_in_the_first_round(folder: Path) -> None:
    rules = [Budget(labels=9999), AllOf([stable(), MarginalValue("val_ac", 0.1, 10)])]
    with pytest.raises(
        ValueError, match=r"MarginalValue waits for 'val_ac', which is not logged; there are .*'val_acc'"
    ):
        runs.fit(runs.active_learning(stopping=rules))
    assert len(runs.ledger(folder)) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stopping": stable(), "outputs": "regression", "strategy": "KMeans"}, "outputs='regression' a sample has no"),
        ({"stopping": Budget(cost=5.0)}, "counts costs, and samples have none: say ActiveLearning"),
        ({"stopping": [Budget(labels=20)]}, "20 labels are below the 30 initial ones"),
    ],
)
def test_what_a_rule_lacks_is_said_before_the_first_fit(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        runs.fit(runs.active_learning(**arguments))
    assert not folder.exists()


def test_a_budget_of_labels_cuts_the_last_query(folder: Path) -> None:
    _, callback, _ = runs.fit(runs.active_learning(stopping=Budget(labels=67), rounds=9, query_size=20))
    assert [row["labeled"] for row in callback.history] == [30, 50, 67]
    assert json.loads((folder / "run.json").read_text())["reason"] == "the budget of 67 labels is spent."
