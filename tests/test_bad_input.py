"""What is wrong is said as early as it can be known, with the value and the line to change, and nothing is lost."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, WeightedRandomSampler

import lightning_al
from lightning_al import ActiveLearning, ActiveLearningDataModule, Random, durable
from lightning_al.exceptions import ActiveLearningError, LedgerError, PoolError, ResumeError, ScoringError
from lightning_al.ledger import Ledger
from lightning_al.oracles import Answers, DatasetOracle, Oracle, Query
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from tests._helpers.rounds_fixtures import Net, Points, PointsData, WatchingOracle, make_trainer, wrapped


# -- the callback's own arguments
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "Margn"}, r"one of \[.*'Margin'.*\], but got 'Margn'. Did you mean 'Margin'"),
        ({"strategy": "Nonsense"}, r"one of \[.*'CoreSet'.*'Random'.*\], but got 'Nonsense'"),
        ({"strategy": lightning_al.Margin}, r"Write `Margin\(\)`: an instance, not the class"),
        ({"initial_strategy": "TypiClst"}, "Did you mean 'TypiClust'"),
        ({"query_size": 0}, "Expected `query_size` to be at least 1, but got 0"),
        ({"query_size": -3}, "Expected `query_size` to be at least 1, but got -3"),
        ({"query_size": 1.5}, r"`query_size` to be a count \(a whole number\) or a share in \(0, 1\), but got 1.5"),
        ({"query_size": -0.5}, "but got -0.5"),
        ({"query_size": True}, "but got True"),
        ({"query_size": "many"}, "but got 'many'"),
        ({"query_size": [1, 2]}, r"Expected `query_size` to be a count or a share in \(0, 1\), but got \[1, 2\]"),
        ({"query_size": (1, 2)}, r"but got \[1, 2\]"),
        ({"rounds": None}, r"Nothing ends the run, `rounds` and `budget` are both None.*`budget=1000`.*`rounds=10`"),
        ({"rounds": 0}, "Expected `rounds` to be a positive whole number, but got 0"),
        ({"rounds": 2.5}, "Expected `rounds` to be a positive whole number, but got 2.5"),
        ({"budget": -1}, "Expected `budget` to be a positive whole number, but got -1"),
        ({"budget": 5, "initial": 8}, "`budget=5` is below the 8 initial labels, which count too: raise it"),
        ({"budget": 1, "initial": [3, 4]}, "`budget=1` is below the 2 initial labels"),
        ({"initial": 0}, r"`initial=0` leaves nothing to train on.*initial_strategy='TypiClust'"),
        ({"initial": []}, "`initial=0` leaves nothing to train on"),
        ({"initial": -1}, "Expected `initial` to be at least 0, but got -1"),
        ({"initial": [4, 4]}, "list each dataset index once, but 4 stands there twice"),
        ({"initial": [4, -4]}, "list dataset indices, but got -4 in it"),
        ({"initial": 1.5}, "but got 1.5"),
        ({"reset": "never"}, "Expected `reset` to be 'initial', 'random' or 'keep', but got 'never'"),
        ({"outputs": "logit"}, "Expected `outputs` to be one of logits, .*, but got 'logit'"),
        ({"oracle": "me"}, "Expected `oracle` to be an instance of lightning_al.Oracle, but got 'me'"),
        ({"stopping": "soon"}, "Expected `stopping` to hold instances of StoppingRule, but got 'soon'"),
        ({"seed": 0.5}, "Expected `seed` to be a whole number, but got 0.5"),
    ],
)
def test_arguments_fail_in_the_constructor(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActiveLearning(**({"strategy": "Margin", "query_size": 4, "rounds": 3} | arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"query_size": np.int64(4)},
        {"query_size": 0.1},
        {"initial": range(4)},
        {"initial": torch.tensor([1, 2])},
        {"rounds": None, "stopping": lightning_al.TargetMetric("val_acc", 0.9)},
        {"initial": 0.5, "budget": 3},  # a share of what only `fit` knows
    ],
)
def test_arguments_that_are_fine(arguments: dict[str, Any]) -> None:
    ActiveLearning(**({"strategy": "Margin", "query_size": 4, "rounds": 3} | arguments))


# -- what only the trainer, the data or the model tell: before the first training step, and nothing is written
class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(Points())


class Given(PointsData):
    """The points with another train loader."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def train_dataloader(self) -> Any:
        return self.make(self.train_set)


class Token(Net):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1))


class Returning(Net):
    """Trains as ever; what it answers outside of training is changed."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits if self.training or self.trainer.validating else self.change(logits)


def loader(**arguments: Any) -> Any:
    return lambda dataset: DataLoader(dataset, **({"batch_size": 4, "shuffle": True} | arguments))


def weighted(dataset: Any) -> Any:
    return DataLoader(dataset, batch_size=4, sampler=WeightedRandomSampler([1.0] * len(dataset), len(dataset)))


class NeedsAnswers(Random):
    needs = Needs(pool=frozenset({"targets"}))


def plain(**data: Any) -> dict[str, Any]:
    return {"data": PointsData(), "al": data}


EARLY: dict[str, tuple[dict[str, Any], str]] = {
    "initial over the data": ({"data": wrapped(initial=49)}, "`initial` asks for 49 samples and the training set has"),
    "initial over the data, callback": (plain(initial=49), "`initial` asks for 49 samples and the training set has 48"),
    "initial out of range": (plain(initial=[0, 48]), "Index 48 is outside the dataset of 48 samples: expected 0 to 47"),
    "initial 0": ({"data": wrapped(initial=0)}, "`initial=0` leaves nothing to train on.*initial=20"),
    "cold start of 0": (
        {"data": wrapped(initial=0), "al": {"initial_strategy": "TypiClust"}},
        "`initial_strategy` picks `initial` samples, which is 0: say how many",
    ),
    "cold start of a list": (
        {"data": wrapped(initial=[3, 4]), "al": {"initial_strategy": "TypiClust"}},
        "`initial` lists the first 2 samples, so `initial_strategy` has none to pick: give their number, `initial=2`",
    ),
    "query over the data": ({"al": {"query_size": 49}}, "`query_size` asks for 49 samples and the training set has 48"),
    "budget below initial": ({"al": {"budget": 7}}, "`budget=7` is below the 8 initial labels, which count too"),
    "budget below a share": (plain(initial=0.5, budget=20), "`budget=20` is below the 24 initial labels"),
    "initial twice": (
        {"al": {"initial": 9}},
        "`initial` is 9 on ActiveLearning and 8 on ActiveLearningDataModule: say it once",
    ),
    "needs that a run cannot give": (
        {"al": {"strategy": NeedsAnswers()}},
        r"NeedsAnswers needs \['targets'\] of the pool samples, which a run does not collect: it has dataset_indices",
    ),
    "seed twice": (
        {"al": {"seed": 5}, "data": ActiveLearningDataModule(PointsData(), initial=8, seed=3)},
        "`seed` is 5 on ActiveLearning and 3 on ActiveLearningDataModule: say it once",
    ),
    "pool_dataset twice": ({"al": {"pool_dataset": Points()}}, "`pool_dataset` is .* on ActiveLearning and None on"),
    "pool_dataset of another length": (
        plain(initial=8, pool_dataset=Points(47)),
        "`pool_dataset` has 47 samples and the training set 48: they must be the same samples",
    ),
    "iterable": (
        {"data": wrapped(Given(lambda _: DataLoader(Stream(), batch_size=4)))},
        "needs a map-style training set.*Stream has no fixed order or length",
    ),
    "several loaders": (
        {"data": wrapped(Given(lambda d: [DataLoader(d), DataLoader(d)]))},
        r"to give one torch.utils.data.DataLoader, but got a list.*ConcatDataset\(\[...\]\)",
    ),
    "several loaders, callback": (
        {"data": Given(lambda d: {"a": DataLoader(d), "b": DataLoader(d)}), "al": {"initial": 8}},
        "but got a dict",
    ),
    "custom sampler": (
        {"data": wrapped(Given(weighted))},
        "sampler of its own, WeightedRandomSampler, which would give unlabeled samples. Leave out `sampler=`",
    ),
    "drop_last": (
        {"data": wrapped(Given(loader(batch_size=9, drop_last=True)))},
        "`drop_last=True` with 8 labels and a batch size of 9 leaves no batch to train on. Set `drop_last=False`",
    ),
    "drop_last, cold start": (
        {
            "data": wrapped(Given(loader(batch_size=9, drop_last=True))),
            "al": {"initial_strategy": "Random"},
        },
        "`drop_last=True` with 8 labels",
    ),
    "SWA": ({"more": [StochasticWeightAveraging(0.1)]}, "StochasticWeightAveraging.*Use.*WeightAveraging"),
    "random weights": (
        {"al": {"reset": "random"}, "model": Token},
        r"reset='random' cannot draw new weights for the model itself \(Token\)",
    ),
    "embedding_layer": (
        {"al": {"strategy": "CoreSet", "embedding_layer": "heat"}},
        r"no layer 'heat' for `embedding_layer`. Close to it: \['head'\]",
    ),
    "predicted classes": (
        {"model": lambda: Returning(lambda x: x.argmax(-1))},
        r"floating-point logits, but got torch.int64 of shape \(2,\).*`query_step\(batch, batch_idx\)`",
    ),
    "one logit": (
        {"model": lambda: Returning(lambda x: x[:, 0])},
        r"shape \(B, C\) with C >= 2, but got \(2,\). For one logit a sample say ActiveLearning\(outputs='binary'\)",
    ),
    "one row": ({"model": lambda: Returning(lambda x: x[:1])}, "returned 1 rows for a batch of 2 samples"),
    "a tuple": ({"model": lambda: Returning(lambda x: (x, x))}, "a tensor of logits, but got a tuple"),
    "logits as probabilities": (
        {"al": {"outputs": "probs"}},
        "outputs='probs', but the model's output for dataset index 0 is no distribution.*leave out `outputs=`",
    ),
}


@pytest.mark.parametrize("case", list(EARLY))
def test_known_before_the_first_step(tmp_path: Path, case: str) -> None:
    given, message = EARLY[case]
    model = given.get("model", Net)()
    data = given.get("data") or wrapped()
    steps: list[int] = []
    model.on_train_batch_start = lambda *_: steps.append(1)
    oracle = WatchingOracle()
    arguments = {"query_size": 4, "rounds": 3, "oracle": oracle} | given.get("al", {})
    trainer = make_trainer(tmp_path, [ActiveLearning(**arguments), *given.get("more", [])])
    with pytest.raises((ValueError, MisconfigurationException), match=message):
        trainer.fit(model, datamodule=data)
    assert steps == []
    assert oracle.queries == []
    assert list(tmp_path.iterdir()) == []


def test_several_plain_train_loaders(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [ActiveLearning("Random", 4, rounds=2, initial=8)])
    with pytest.raises(MisconfigurationException, match="but got a list: several train loaders cannot share one"):
        trainer.fit(Net(), [DataLoader(Points()), DataLoader(Points())])
    assert list(tmp_path.iterdir()) == []


def test_the_trainer_of_the_other_package(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning", reason="the other package is not installed")

    class Boring(other.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise AssertionError("nothing is trained")

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = other.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[ActiveLearning("Margin", 4, rounds=2, initial=8)],
    )
    with pytest.raises(MisconfigurationException, match=r"needs lightning.pytorch's Trainer, but got pytorch_l"):
        trainer.fit(Boring(), DataLoader(Points()))
    assert list(tmp_path.iterdir()) == []


# -- what only the query or the oracle tell: pool, ledger and folder as before, and the run goes on from there
class SometimesNaN(Net):
    """After its first fit it gives NaN for two samples, the model of a run that diverged."""

    ill = True

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if self.ill and not self.training and self.trainer.predicting and self.trainer.global_step > 0:
            points = Points().x
            for index in (31, 17):
                logits = torch.where((x == points[index]).all(-1, keepdim=True), torch.nan, logits)
        return logits


class Stubborn(QueryStrategy):
    """Answers what it was told to."""

    needs = Needs()

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def select(self, pool: Outputs, query_size: int, *, labeled: Any = None, generator: Any = None) -> Any:
        return self.answer


class Unwilling(Oracle):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def label(self, query: Query) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Wordy(Oracle):
    """Gives names where the dataset has numbers."""

    def label(self, query: Query) -> Answers:
        first, *others = query.dataset_indices.tolist()
        return Answers(labels={first: 1, **dict.fromkeys(others, "weed")})


LATE: dict[str, tuple[dict[str, Any], Any, str]] = {
    "NaN": ({"model": SometimesNaN}, ScoringError, "dataset index 17 are not finite.*The pool is unchanged"),
    "no tensor": (
        {"strategy": Stubborn([0, 1])},
        ValueError,
        r"Expected Stubborn.select to return 4 different pool positions from 0 to 39.*but got list",
    ),
    "a mask": ({"strategy": Stubborn(torch.ones(40) > 0)}, ValueError, r"but got torch.bool \(40,\)"),
    "doubled": ({"strategy": Stubborn(torch.tensor([1, 2, 2, 3]))}, ValueError, "but got 4, of which 3 are diff"),
    "too few": ({"strategy": Stubborn(torch.tensor([1, 2, 3]))}, ValueError, "but got 3, of which 3 are different"),
    "none": ({"strategy": Stubborn(torch.tensor([], dtype=torch.int64))}, ValueError, "but got 0"),
    "dataset indices": (
        {"strategy": Stubborn(torch.tensor([47, 1, 2, 3]))},
        ValueError,
        "but got positions from 1 to 47",
    ),
    "negative": ({"strategy": Stubborn(torch.tensor([-1, 1, 2, 3]))}, ValueError, "but got positions from -1 to 3"),
    "no answers": ({"oracle": Unwilling(None)}, ValueError, "Expected Unwilling.label to return `Answers"),
    "foreign answers": ({"oracle": Unwilling(Answers(labels={0: 1}))}, ValueError, "not asked|missing"),
    "text for numbers": (
        {"oracle": Wordy()},
        ValueError,
        r"Expected the label of dataset index \d+ to be a number, as the dataset's targets are.*but got 'weed'",
    ),
    "oracle fails": ({"oracle": Unwilling(ConnectionError("no network"))}, ConnectionError, "no network"),
    "stopping rule": (
        {"stopping": lightning_al.TargetMetric("val_acc", 0.9)},
        ValueError,
        r"waits for 'val_acc', which is not logged; there are \[.*'val_loss'.*\]",
    ),
}


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def lists(data: ActiveLearningDataModule) -> tuple[list[int], list[int], list[int], int]:
    return data.pool.labeled.tolist(), data.pool.pending.tolist(), data.pool.rejected.tolist(), data.pool.round


@pytest.mark.parametrize("case", list(LATE))
def test_a_failing_query_loses_nothing(tmp_path: Path, case: str) -> None:
    given, error, message = LATE[case]
    given = dict(given)
    model = given.pop("model", Net)()
    folder = tmp_path / "active_learning"

    def arguments(**other: Any) -> dict[str, Any]:
        return {"strategy": "Margin", "query_size": 4, "rounds": 2} | other

    data = wrapped()
    trainer = make_trainer(tmp_path, [ActiveLearning(**arguments(**given))], enable_checkpointing=True)
    with pytest.raises(error, match=message):
        trainer.fit(model, datamodule=data)
    initial = wrapped()
    initial.setup("fit")
    assert lists(data) == (initial.labeled_indices().tolist(), [], [], 0)
    assert [(r.dataset_index, r.round) for r in Ledger(folder / "ledger.csv").read()] == [
        (i, 0) for i in initial.labeled_indices().tolist()
    ]

    # The fit is not lost: mended, the run goes on behind it.
    mended = SometimesNaN() if isinstance(model, SometimesNaN) else Net()
    mended.ill = False
    again, other = wrapped(), ActiveLearning(**arguments())
    make_trainer(tmp_path, [other], enable_checkpointing=True).fit(
        mended, datamodule=again, ckpt_path=str(folder / "last-round.ckpt")
    )
    assert [row["labeled"] for row in other.history] == [8, 12]
    assert len(again.pool.labeled) == 12
    assert len(mended.seen) == 2 * 3  # two epochs of the second round only


def full_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the disk under the ledger takes ten bytes and no more."""
    write_all = durable.write_all

    def nearly_full(file: int, data: bytes) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith("ledger.csv"):
            write_all(file, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, data)

    monkeypatch.setattr(durable, "write_all", nearly_full)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="asks /proc which file is written")
def test_a_full_disk_under_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "active_learning"
    data = wrapped()

    class FillingUp(DatasetOracle):
        def label(self, query: Query) -> Answers:
            answers = super().label(query)
            if query.round == 2:
                full_ledger(monkeypatch)
            return answers

    callback = ActiveLearning("Margin", 4, rounds=3, oracle=FillingUp())
    with pytest.raises(LedgerError, match=r"ledger.csv: .*No space left on device. It is as it was before"):
        make_trainer(tmp_path, [callback], enable_checkpointing=True).fit(Net(), datamodule=data)
    assert (len(data.pool.labeled), data.pool.round) == (12, 1)
    recorded = [r.dataset_index for r in Ledger(folder / "ledger.csv").read()]
    assert recorded == data.pool.labeled.tolist()

    monkeypatch.undo()
    again, other = wrapped(), ActiveLearning("Margin", 4, rounds=3, oracle=(oracle := WatchingOracle()))
    make_trainer(tmp_path, [other], enable_checkpointing=True).fit(
        Net(), datamodule=again, ckpt_path=str(folder / "last-round.ckpt")
    )
    assert len(oracle.queries) == 1  # that of round 2, as it was recorded
    assert again.pool.labeled.tolist()[:12] == recorded
    assert [r.dataset_index for r in Ledger(folder / "ledger.csv").read()] == again.pool.labeled.tolist()


def test_all_rejected_at_a_cold_start(tmp_path: Path) -> None:
    class Strict(Oracle):
        def label(self, query: Query) -> Answers:
            return Answers(rejected=query.dataset_indices.tolist())

    callback = ActiveLearning("Random", 4, rounds=2, initial_strategy="Random", oracle=Strict())
    with pytest.raises(MisconfigurationException, match=r"None of the 48 samples is labeled \(48 were rejected, 0 are"):
        make_trainer(tmp_path, [callback]).fit(Net(), datamodule=wrapped())


# -- a second fit
def test_a_second_fit_on_a_finished_trainer_says_why_not(tmp_path: Path) -> None:
    data = wrapped()
    trainer = make_trainer(tmp_path, [ActiveLearning("Random", 4, rounds=2)])
    trainer.fit(Net(), datamodule=data)
    before = lists(data), contents(tmp_path / "active_learning", "ledger.csv", "run.json", "rounds.csv")
    with pytest.raises(MisconfigurationException, match=r"has run all its rounds.*Make a new Trainer"):
        trainer.fit(Net(), datamodule=data)
    assert (lists(data), contents(tmp_path / "active_learning", "ledger.csv", "run.json", "rounds.csv")) == before


def test_a_second_fit_after_an_error_names_the_checkpoint(tmp_path: Path) -> None:
    data = wrapped()
    callback = ActiveLearning("Random", 4, rounds=2, oracle=Unwilling(ConnectionError("no network")))
    trainer = make_trainer(tmp_path, [callback], enable_checkpointing=True)
    with pytest.raises(ConnectionError):
        trainer.fit(Net(), datamodule=data)
    checkpoint = tmp_path / "active_learning" / "last-round.ckpt"
    before = contents(tmp_path / "active_learning", "ledger.csv", "run.json", "last-round.ckpt")
    with pytest.raises(ResumeError, match="holds an unfinished run") as caught:
        trainer.fit(Net(), datamodule=data)
    assert f"ckpt_path={str(checkpoint)!r}" in str(caught.value)
    assert contents(tmp_path / "active_learning", "ledger.csv", "run.json", "last-round.ckpt") == before

    callback.oracle = DatasetOracle()
    other = make_trainer(tmp_path, [callback], enable_checkpointing=True)
    other.fit(Net(), datamodule=data, ckpt_path=str(checkpoint))
    assert [row["labeled"] for row in callback.history] == [8, 12]


def test_a_used_datamodule_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    data = wrapped()
    make_trainer(tmp_path, [ActiveLearning("Random", 4, rounds=3)]).fit(Net(), datamodule=data)
    before = lists(data), contents(tmp_path / "active_learning", "ledger.csv", "run.json")
    other = make_trainer(tmp_path, [ActiveLearning("Random", 4, rounds=3)])
    with pytest.raises(MisconfigurationException, match=r"in round 2 of an earlier fit, with 16 labels. Make a"):
        other.fit(Net(), datamodule=data)
    assert (lists(data), contents(tmp_path / "active_learning", "ledger.csv", "run.json")) == before


def test_a_plain_datamodule_serves_run_after_run(tmp_path: Path) -> None:
    data = PointsData()
    for number in range(2):
        callback = ActiveLearning("Random", 4, rounds=2, initial=8)
        make_trainer(tmp_path, [callback]).fit(Net(), datamodule=data)
        assert [row["labeled"] for row in callback.history] == [8, 12]
        assert (tmp_path / "active_learning-1").exists() == (number == 1)  # the first run is kept


# -- logger off, checkpointing off
def test_without_logger_and_checkpoints(tmp_path: Path) -> None:
    callback = ActiveLearning("Margin", 4, rounds=3)
    data = wrapped()
    make_trainer(tmp_path, [callback], logger=False, enable_checkpointing=False).fit(Net(), datamodule=data)
    folder = tmp_path / "active_learning"
    assert {p.name for p in folder.iterdir()} == {
        "answers.lock",
        "ledger.csv",
        "metrics.png",
        "metrics.svg",
        "queries",
        "rounds.csv",
        "run.json",
        "run.lock",
    }
    assert [r.dataset_index for r in Ledger(folder / "ledger.csv").read()] == data.pool.labeled.tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["active_learning"]


def test_without_checkpoints_a_broken_run_starts_again_and_asks_nothing_twice(tmp_path: Path) -> None:
    def fit(oracle: Oracle, data: ActiveLearningDataModule) -> None:
        torch.manual_seed(0)
        callback = ActiveLearning("Margin", 4, rounds=3, oracle=oracle)
        make_trainer(tmp_path, [callback], enable_checkpointing=False).fit(Net(), datamodule=data)

    class BreaksAtTwo(WatchingOracle):
        def label(self, query: Query) -> Answers:
            if query.round == 2:
                raise ConnectionError
            return super().label(query)

    used = wrapped()
    with pytest.raises(ConnectionError):
        fit(first := BreaksAtTwo(), used)
    before = contents(tmp_path / "active_learning", "ledger.csv")
    with pytest.raises(MisconfigurationException, match="Make a new ActiveLearningDataModule"):
        fit(WatchingOracle(), used)
    assert contents(tmp_path / "active_learning", "ledger.csv") == before
    data = wrapped()
    fit(second := WatchingOracle(), data)
    assert [q.round for q in first.queries] == [1]
    assert [q.round for q in second.queries] == [2]
    assert [r.dataset_index for r in Ledger(tmp_path / "active_learning" / "ledger.csv").read()] == (
        data.pool.labeled.tolist()
    )


@pytest.mark.parametrize("damage", ["changed", "other initial"])
def test_a_ledger_that_cannot_be_trusted_stops_a_new_start(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "active_learning"
    callback = ActiveLearning("Margin", 4, rounds=3, oracle=Unwilling(ConnectionError()))
    with pytest.raises(ConnectionError):
        make_trainer(tmp_path, [callback], enable_checkpointing=False).fit(Net(), datamodule=wrapped())
    if damage == "changed":
        ledger = folder / "ledger.csv"
        ledger.write_text(ledger.read_text().replace(",initial,", ",Margin,", 1))
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    data = wrapped(initial=[*range(8)]) if damage == "other initial" else wrapped()
    error, message = (LedgerError, "Row 1") if damage == "changed" else (ResumeError, "`initial` or `seed` differs")
    with pytest.raises(error, match=message):
        make_trainer(tmp_path, [ActiveLearning("Margin", 4, rounds=3)], enable_checkpointing=True).fit(
            Net(), datamodule=data
        )
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


# -- nothing that runs code from a file
PACKAGE = Path(lightning_al.__file__).parent
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def dangers(source: str) -> list[str]:
    """Unpickling, evaluation and loading of objects in a module's source."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name in FORBIDDEN_CALLS:
                found.append(name)
            if name == "torch.load" and keywords.get("weights_only") != "True":
                found.append("torch.load without weights_only=True")
            if name.split(".")[-1] in ("load", "load_all", "full_load", "unsafe_load") and name.startswith("yaml."):
                found.append(name)
            if keywords.get("allow_pickle") == "True":
                found.append(f"{name}(allow_pickle=True)")
    return found


def test_the_search_finds_what_it_looks_for() -> None:
    bad = ["import pickle", "from joblib import load", "eval('1')", "torch.load('x')", "yaml.load('x')"]
    assert [len(dangers(line)) for line in [*bad, "np.load('x', allow_pickle=True)"]] == [1] * 6
    assert dangers("model.eval()\ntorch.compile(model)\ntorch.load('x', weights_only=True)\nyaml.safe_load('')") == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_pickle_and_no_evaluation(path: Path) -> None:
    # A worker of a study is handed its model by the process that started it, through a pipe: nothing lay on a disk.
    handed_over = ["pickle"] if path.relative_to(PACKAGE) == Path("study/worker.py") else []
    assert dangers(path.read_text()) == handed_over


@pytest.mark.parametrize("strategy", ["Random", "Margin", "BADGE"])
def test_the_state_loads_without_running_code(tmp_path: Path, strategy: str) -> None:
    class Mixed(Oracle):
        """NumPy numbers, tensors and text: as an oracle of the user's may give."""

        def label(self, query: Query) -> Answers:
            if query.part > 1:  # in the place of the rejected one
                return Answers(labels={query.dataset_indices[0]: True})
            first, second, third, fourth = query.dataset_indices.tolist()
            return Answers(labels={first: np.int64(1), second: torch.tensor(2)}, rejected=[third], pending=[fourth])

    callback = ActiveLearning(strategy, 4, rounds=3, oracle=Mixed())
    data = wrapped()
    make_trainer(tmp_path, [callback], enable_checkpointing=True).fit(Net(), datamodule=data)
    saved = torch.load(tmp_path / "active_learning" / "last-round.ckpt", weights_only=True)
    state = saved["ActiveLearningDataModule"]
    assert state["pool"]["labeled"].tolist() == data.pool.labeled.tolist()
    assert sorted(state["labels"].values()) == [1, 1, 1, 1, 2, 2]
    assert len(data.pool.rejected) == len(data.pool.pending) == 2
    assert saved["callbacks"]["ActiveLearning"]["round"] == 2
    torch.load(tmp_path / "active_learning" / "initial-weights.ckpt", weights_only=True)


def test_two_callbacks(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [ActiveLearning("Random", 4, rounds=2)])
    trainer.callbacks.append(ActiveLearning("Random", 4, rounds=2))  # past the Trainer's own check
    with pytest.raises(MisconfigurationException, match=r"two ActiveLearning callbacks.*keep one"):
        trainer.fit(Net(), datamodule=wrapped())


@pytest.mark.parametrize("error", [PoolError, ScoringError])
def test_wrong_values_are_value_errors_too(error: type[Exception]) -> None:
    assert issubclass(error, ValueError)
    assert issubclass(error, ActiveLearningError)
