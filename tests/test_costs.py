"""What samples cost: read, counted, weighed against scores, and limited, against sums worked out by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_al import ActiveLearning, Answers, Oracle, Pool, Query, labeling, reporting
from lightning_al.costs import Costs, cost_values, read_costs, value_per_cost
from lightning_al.functional import top_k
from lightning_al.stopping import Budget
from tests._helpers import runs


# -- read
@pytest.mark.parametrize(
    "cost",
    [
        [0.1, 2, 0],
        (0.1, 2.0, 0.0),
        torch.tensor([0.1, 2.0, 0.0], dtype=torch.float64),
        np.array([0.1, 2.0, 0.0]),
        pd.Series([0.1, 2.0, 0.0], index=[5, 6, 7]),
        [0.1, 2.0, 0.0].__getitem__,
        lambda index: np.float64([0.1, 2.0, 0.0][index]),
        lambda index: torch.tensor([0.1, 2.0, 0.0], dtype=torch.float64)[index],
    ],
)
def test_a_column(cost: Any) -> None:
    found = read_costs(cost, 3)
    assert found.dtype == torch.float64
    assert found.tolist() == [0.1, 2.0, 0.0]


@pytest.mark.parametrize("cost", [0.1, np.float32(0.5), torch.tensor(3)])
def test_one_number_is_kept_once(cost: Any) -> None:
    found = read_costs(cost, 1_000_000)
    assert found.shape == (1_000_000,)
    assert found.untyped_storage().nbytes() == 8
    assert found[7] == float(cost)


def test_a_column_is_a_copy() -> None:
    given = np.ones(3)
    found = read_costs(given, 3)
    given[0] = 9
    assert found.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (-1, "finite and at least 0, but got -1.0$|finite and at least 0, but got -1.0\\."),
        (float("nan"), "finite and at least 0, but got nan"),
        (float("inf"), "finite and at least 0, but got inf"),
        ([1, 2, -0.5], "at least 0, but got -0.5 for dataset index 2"),
        ([1, None, 3], "at least 0, but got nan for dataset index 1"),
        (torch.tensor([1.0, float("nan"), 3.0]), "at least 0, but got nan for dataset index 1"),
        ([1.0, 2.0], "one value for each of the 3 samples of the training set, but got 2"),
        ([[1.0, 2.0, 3.0]], r"but got values of shape \(1, 3\)"),
        ([[1.0], [2.0, 3.0]], "but got what holds no numbers"),
        (["dear", "cheap", "free"], "but got what holds no numbers"),
        (
            "lengths",
            "a number, a list or tensor of one a sample, or a callable of the dataset index, but got 'lengths'",
        ),
        (True, "but got True"),
        (lambda index: -index, "at least 0, but got -1.0 for dataset index 1"),
        (lambda index: "dear", "`cost` to return a number, but got 'dear' for dataset index 0"),
        (lambda index: None, "`cost` to return a number, but got None for dataset index 0"),
    ],
)
def test_bad_costs(cost: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_costs(cost, 3)


def test_bad_costs_that_need_no_data_are_found_at_once() -> None:
    with pytest.raises(ValueError, match=r"but got -2\.0"):
        ActiveLearning(rounds=2, cost=-2)
    assert cost_values(3).shape == ()


# -- counted
def test_rejections_cost_and_what_is_pending_does_not_yet() -> None:
    pool = Pool(100)
    pool.label(range(60))
    pool.reject(range(60, 63))
    pool.hold(range(70, 75))
    costs = Costs(read_costs(0.1, 100), most=6.5)
    assert costs.spent(pool) == pytest.approx(6.3)
    assert costs.left(pool) == pytest.approx(0.2)
    assert len(costs.affordable(pool.unlabeled, pool)) == 32
    assert costs.payable(pool.unlabeled, pool).tolist() == [0, 1]
    assert costs.payable(pool.unlabeled, pool, torch.tensor([99])).tolist() == [0]
    assert len(costs.affordable(pool.unlabeled, pool, torch.tensor([98, 99]))) == 0
    assert Costs(read_costs(0.1, 100)).left(pool) == math.inf


def test_a_pick_that_is_too_dear_is_left_out() -> None:
    costs = Costs(torch.tensor([5.0, 3.0, 3.0, 2.0, 1.0], dtype=torch.float64), most=9.0)
    assert costs.payable(torch.tensor([1, 0, 2, 4, 3]), Pool(5)).tolist() == [0, 1, 3]  # 3 + 5, not 3, then 1
    pool = Pool(5)
    pool.label([0, 1])  # 1 is left
    assert costs.affordable(pool.unlabeled, pool).tolist() == [4]


# -- weighed
def test_value_per_cost_by_hand() -> None:
    scores, costs = torch.tensor([0.0, 0.2, 0.9, 0.6]), torch.tensor([1.0, 1.0, 4.0, 2.0])  # mean 2
    assert value_per_cost(scores, costs).tolist() == pytest.approx([0, 0.4, 0.45, 0.6])
    assert value_per_cost(scores - 7, costs * 1000).tolist() == pytest.approx([0, 0.4, 0.45, 0.6], abs=1e-5)
    assert value_per_cost(torch.full((4,), -3.0), costs).argsort(descending=True, stable=True).tolist() == [0, 1, 3, 2]


@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=30), st.floats(0.01, 100), st.integers(1, 5))
def test_equal_costs_pick_as_without(values: list[float], cost: float, size: int) -> None:
    scores = torch.tensor(values + values[:1])  # a tie
    costs = read_costs(cost, len(scores))
    picks = [
        top_k(each, size, torch.Generator().manual_seed(0)).tolist() for each in (scores, value_per_cost(scores, costs))
    ]
    assert picks[0] == picks[1]


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.floats(0.125, 8, width=32)), min_size=2, max_size=30))
def test_better_or_cheaper_is_never_behind(samples: list[tuple[float, float]]) -> None:
    scores, costs = (torch.tensor(each) for each in zip(*samples, strict=True))
    values = value_per_cost(scores, costs)
    assert bool(values.isfinite().all())
    for i, j in ((i, j) for i in range(len(samples)) for j in range(len(samples))):
        if scores[i] >= scores[j] and costs[i] <= costs[j]:
            assert values[i] >= values[j]


# -- in runs
SIZE = 200
COLUMN = [1.0 + (index % 4) for index in range(SIZE)]


def cost_of(index: int) -> float:
    """Named in a config."""
    return COLUMN[index]


class PerBlock:
    """A callable with an argument of its own, named in a config."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, index: int) -> float:
        """Return the cost of a sample."""
        return self.factor * COLUMN[index]


class Refusing(Oracle):
    """Rejects every fifth sample."""

    def label(self, query: Query) -> Answers:
        """Answer."""
        asked = query.dataset_indices.tolist()
        return Answers({index: index % 10 for index in asked if index % 5}, rejected=[i for i in asked if not i % 5])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder; the current folder is its parent, and no figures are drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labeling, "contact_sheet", lambda *_, **__: False)
    monkeypatch.setattr(reporting, "learning_curve", lambda *_, **__: None)
    return tmp_path / "active_learning"


def paid(folder: Path, round: int) -> float:
    """What all answers up to a round cost, by the ledger."""
    return sum(COLUMN[int(index)] for index, of, *_ in runs.ledger(folder) if int(of) <= round)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "rounds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fit(**arguments: Any) -> Any:
    return runs.fit(runs.active_learning(**{"cost": COLUMN, **arguments}), max_epochs=1)


@pytest.mark.parametrize("strategy", ["Margin", "Random"])
def test_labels_and_rejections_cost(strategy: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, callback, data = fit(strategy=strategy, oracle=Refusing())
    assert len(data.pool.rejected) > 0
    assert [row["cost"] for row in callback.history] == [paid(folder, round) for round in range(3)]
    assert [float(row["cost"]) for row in table(folder)] == [row["cost"] for row in callback.history]
    said = caplog.text
    assert said.count("Random will not look at costs when picking") == (strategy == "Random")
    assert f", cost {callback.history[-1]['cost']:,.6g}  " in said


def test_a_score_strategy_picks_by_value_per_cost(folder: Path) -> None:
    """The cheap half of a pool is asked before the dear one, whose samples are worth 1000 times less for the money."""
    fit(rounds=2, cost=[1.0 if index % 2 else 1000.0 for index in range(SIZE)])
    asked = [int(row[0]) for row in runs.ledger(folder) if row[1] == "1"]
    assert len(asked) == 25
    assert all(index % 2 for index in asked)
    assert all(0 <= float(row[3]) <= 1 for row in runs.ledger(folder) if row[1] == "1"), "scores are as they were"


@pytest.mark.parametrize("strategy", ["Margin", "KMeans"])
def test_equal_costs_change_nothing(strategy: str, folder: Path) -> None:
    fit(strategy=strategy, cost=2.5)
    fit(strategy=strategy, cost=None, dirpath="plain")
    assert runs.ledger(folder) == runs.ledger(Path("plain"))
    assert "cost" not in table(Path("plain"))[0]


@pytest.mark.parametrize(
    ("strategy", "oracle", "initial_strategy"),
    [("Margin", None, None), ("KMeans", None, None), ("Margin", Refusing, None), ("Margin", Refusing, "Random")],
)
def test_a_budget_in_cost_is_kept(strategy: str, oracle: Any, initial_strategy: Any, folder: Path) -> None:
    _, callback, data = fit(
        strategy=strategy,
        oracle=oracle and oracle(),
        initial_strategy=initial_strategy,
        rounds=None,
        stopping=Budget(cost=190.0),
    )
    spent = callback.history[-1]["cost"]
    assert 186 < spent <= 190  # less than the dearest is left
    assert spent == paid(folder, 99)
    reason = json.loads((folder / "run.json").read_text())["reason"]
    left = min(COLUMN[index] for index in data.pool.unlabeled.tolist())
    if spent == 190:
        assert reason == "the budget of 190 is spent (cost 190)."
    else:
        assert reason == (
            f"what is left of the budget of 190 (cost {spent:g}) pays for no unlabeled sample: the cheapest costs "
            f"{left:g}."
        )


def test_a_run_goes_on_with_more_money(folder: Path) -> None:
    _, first, _ = fit(rounds=None, stopping=Budget(cost=120.0))
    more = runs.active_learning(cost=COLUMN, rounds=None, stopping=Budget(cost=150.0))
    _, second, _ = runs.fit(more, max_epochs=1, ckpt_path=folder / "last-round.ckpt")
    assert first.history[-1]["cost"] <= 120 < second.history[-1]["cost"] <= 150
    assert [row["cost"] for row in second.history] == [paid(folder, n) for n in range(len(second.history))]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cost": COLUMN[:-1]}, ValueError, "each of the 200 samples of the training set, but got 199"),
        ({"cost": lambda index: math.nan if index == 9 else 1.0}, ValueError, "got nan for dataset index 9"),
        ({"cost": 0.0}, ValueError, r"above 0, but got 0 for dataset index \d+: Margin's scores are divided by it"),
        (
            {"cost": 0.0, "strategy": "KMeans", "initial_strategy": "Entropy"},
            ValueError,
            "got 0 for dataset index 0: Entropy's scores",
        ),
        (
            {"stopping": Budget(cost=5.0)},
            MisconfigurationException,
            r"The 30 initial labels cost \d+, which is above the budget of 5",
        ),
        (
            {"stopping": Budget(cost=0.5), "initial_strategy": "Random"},
            MisconfigurationException,
            "The budget of 0.5 pays for no sample: the cheapest costs 1",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_fit(
    arguments: Any, error: type[Exception], message: str, folder: Path
) -> None:
    with pytest.raises(error, match=message):
        fit(**arguments)
    assert not folder.exists()


def test_what_is_free_is_no_problem_where_nothing_is_divided(folder: Path) -> None:
    _, callback, data = fit(strategy="Random", rounds=2, cost=0)
    assert [row["cost"] for row in callback.history] == [0.0, 0.0]
    labeled = data.pool.labeled[:30].tolist()  # the first labels may be free: nobody asks for them
    fit(dirpath="margin", rounds=2, cost=[0.0 if index in labeled else 1.0 for index in range(SIZE)])
    assert [float(row["cost"]) for row in table(Path("margin"))] == [0.0, 25.0]


@pytest.mark.parametrize(
    ("cost", "factor"),
    [
        (COLUMN, 1.0),
        ("tests.test_costs.cost_of", 1.0),
        ({"class_path": "tests.test_costs.PerBlock", "init_args": {"factor": 3.0}}, 3.0),
        (2, None),
    ],
)
def test_in_a_config(cost: Any, factor: float | None, folder: Path) -> None:
    stopping = {
        "class_path": "AnyOf",
        "init_args": {
            "rules": [
                {"class_path": "Budget", "init_args": {"cost": 9999.0}},
                {"class_path": "StabilizingPredictions", "init_args": {"size": 20}},
                {"class_path": "MarginalValue", "init_args": {"metric": "val_acc", "gain": 0.01, "price": 100}},
            ]
        },
    }
    callback = {
        "class_path": "ActiveLearning",
        "init_args": {"strategy": "Margin", "query_size": 25, "rounds": 2, "cost": cost, "stopping": stopping},
    }
    config = {**runs.CONFIG, "trainer": {**runs.CONFIG["trainer"], "max_epochs": 1, "callbacks": [callback]}}
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    runs.command_line()
    expected = [paid(folder, n) * factor if factor else 2.0 * labels for n, labels in ((0, 30), (1, 55))]
    assert [float(row["cost"]) for row in table(folder)] == expected


def test_control_samples_are_paid_from_the_same_budget(folder: Path) -> None:
    _, callback, _ = fit(rounds=None, control_fraction=0.2, stopping=Budget(cost=190.0))
    assert {row[2] for row in runs.ledger(folder)} == {"initial", "Margin", "control"}
    assert 186 < callback.history[-1]["cost"] == paid(folder, 99) <= 190
