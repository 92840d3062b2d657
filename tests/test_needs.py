"""What a strategy may ask for beside the pool's outputs: labels of the labeled, a target set, draws, the head."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_al import BADGE, FLQMI, ActiveLearning, Margin, Mixture
from lightning_al.oracles import Answers, Oracle, Query
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from tests._helpers.rounds_fixtures import (
    Net,
    Points,
    PointsData,
    WatchingOracle,
    make_trainer,
    run,
    same,
    weights_of,
    wrapped,
)


class Curious(QueryStrategy):
    """Keeps all that it was given; picks the first samples."""

    def __init__(self, **needs: set[str]) -> None:
        self.needs = Needs(**{part: frozenset(fields) for part, fields in needs.items()})
        self._seen: list[dict[str, Any]] = []

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        generator: Any = None,
        target: Outputs | None = None,
    ) -> Tensor:
        self._seen.append({"pool": pool, "labeled": labeled, "target": target})
        return torch.arange(query_size)


class Namer(Oracle):
    """Says another class than the dataset, so that its labels can be told from the dataset's own."""

    def label(self, query: Query) -> Answers:
        return Answers({index: (index + 1) % 3 for index in query.dataset_indices.tolist()})


def test_labels_of_the_labeled_are_those_given_else_the_datasets_own(tmp_path: Path) -> None:
    curious, data = Curious(pool={"probs"}, labeled={"probs", "targets"}), wrapped()
    run(tmp_path, data=data, al={"strategy": curious, "oracle": Namer()})
    first, second = (each["labeled"] for each in curious._seen)
    assert first.dataset_indices.tolist() == data.pool.labeled[:8].tolist()
    assert first.targets.tolist() == [i % 3 for i in first.dataset_indices.tolist()]
    asked = data.pool.labeled[8:12].tolist()
    assert second.dataset_indices.tolist()[8:] == asked
    assert second.targets.tolist() == first.targets.tolist() + [(i + 1) % 3 for i in asked]
    assert second.embeddings is None
    assert second.probs.shape == (12, 3)


class Named(Points):
    """Its targets are text."""

    def __getitem__(self, index: int) -> Any:
        return self.x[index], "red", index


class NamedData(PointsData):
    def __init__(self) -> None:
        super().__init__()
        self.train_set = Named()


class Unsupervised(Net):
    def loss(self, batch: Any) -> Tensor:
        return self(batch[0]).square().mean()


def test_labels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    curious = Curious(pool={"probs"}, labeled={"targets"})
    with pytest.raises(MisconfigurationException, match=r"Curious reads the labels.*must be numbers of one shape"):
        run(tmp_path, model=Unsupervised(), data=wrapped(NamedData()), al={"strategy": curious})


class WithTargets(PointsData):
    def target_dataset(self) -> Points:
        return Points(10, seed=5)


def test_the_target_set_is_the_datamodules(tmp_path: Path) -> None:
    curious = Curious(pool={"probs"}, target={"probs", "embeddings"})
    fitted = run(tmp_path, data=wrapped(WithTargets()), al={"strategy": curious, "rounds": 2})
    target = curious._seen[0]["target"]
    hidden = torch.tanh(Points(10, seed=5).x @ fitted.callback.oracle.weights[0]["body.weight"].T
                        + fitted.callback.oracle.weights[0]["body.bias"])  # fmt: skip
    torch.testing.assert_close(target.embeddings, hidden)
    assert target.probs.shape == (10, 3)


@pytest.mark.parametrize("pool", [{"probs"}, {"probs", "embeddings"}])
def test_else_the_target_set_is_drawn_from_the_pool(tmp_path: Path, pool: set[str]) -> None:
    curious, data = Curious(pool=pool, target={"embeddings"}), wrapped()
    fitted = run(tmp_path, data=data, al={"strategy": curious, "rounds": 2, "oracle": WatchingOracle(Net())})
    seen = curious._seen[0]
    known = set(data.pool.labeled[:8].tolist())
    rest = [i for i in range(48) if i not in known]
    assert len(seen["target"]) == 40
    if "embeddings" in pool:
        assert torch.equal(seen["target"].embeddings, seen["pool"].embeddings)
    assert seen["target"].dataset_indices.tolist() == rest
    assert fitted.picks == [rest[:4]]


class DropoutNet(Net):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.body(x))))


@pytest.mark.parametrize(("given", "draws"), [(None, 20), (7, 7)])
def test_draws_by_dropout_through_the_trainer(tmp_path: Path, given: int | None, draws: int) -> None:
    curious = Curious(pool={"samples", "probs"})
    run(tmp_path, model=DropoutNet(), al={"strategy": curious, "mc_samples": given, "rounds": 2})
    pool = curious._seen[0]["pool"]
    assert pool.samples.shape == (40, draws, 3)
    torch.testing.assert_close(pool.samples.sum(-1), torch.ones(40, draws))
    torch.testing.assert_close(pool.probs.sum(-1), torch.ones(40))
    assert len(pool.samples[0].unique(dim=0)) == draws


class UsesHead(Curious):
    """Compares what the head says with what the model said, while the model is the one that said it."""

    def select(self, pool: Outputs, query_size: int, **more: Any) -> Tensor:
        torch.testing.assert_close(pool.head(pool.embeddings).softmax(-1), pool.probs)
        leaf = pool.embeddings.clone().requires_grad_()
        with torch.enable_grad():
            pool.head(leaf)[:, 0].sum().backward()
        assert leaf.grad.abs().sum() > 0
        return super().select(pool, query_size, **more)


def test_the_head_of_the_fitted_model(tmp_path: Path) -> None:
    curious, net = UsesHead(pool={"embeddings", "head", "probs"}), Net()
    run(tmp_path, model=net, al={"strategy": curious})
    assert len(curious._seen) == 2
    assert net.head.training


@pytest.mark.parametrize(
    ("strategy", "outputs", "message"),
    [
        (Curious(pool={"targets"}), "logits", r"Curious needs \['targets'\] of the pool samples"),
        (Curious(labeled={"head"}), "logits", r"needs \['head'\] of the labeled samples"),
        (Margin(), "regression", "with outputs='regression' there are none. Take a strategy that reads embeddings"),
        (BADGE(), "multilabel", "BADGE reads one distribution over classes a sample, and with outputs='multilabel'"),
        (BADGE(), "dense", "Take a strategy that scores each"),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_first_fit(
    tmp_path: Path, strategy: QueryStrategy, outputs: Any, message: str
) -> None:
    net = Net()
    with pytest.raises(MisconfigurationException, match=message):
        run(tmp_path, model=net, al={"strategy": strategy, "outputs": outputs})
    assert net.seen == []


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_draws_are_counted(wrong: Any) -> None:
    with pytest.raises(ValueError, match="Expected `mc_samples` to be a positive whole number"):
        ActiveLearning("Margin", budget=10, mc_samples=wrong)


@pytest.mark.parametrize("asked", [{"strategy": "ClusterMargin"}, {"strategy": Mixture(["DCoM", "Random"])}])
def test_what_a_strategy_remembers_survives_a_kill_between_query_and_answer(tmp_path: Path, asked: Any) -> None:
    class Fails(WatchingOracle):
        def label(self, query: Query) -> Answers:
            if query.round == 1:
                raise KeyError("gone")
            return super().label(query)

    def settings(name: str, oracle: Oracle) -> Any:
        return {**copy.deepcopy(asked), "rounds": 4, "query_size": 3, "oracle": oracle, "dirpath": tmp_path / name}

    torch.manual_seed(0)
    whole = run(tmp_path, al=settings("whole", WatchingOracle()), enable_checkpointing=True)
    torch.manual_seed(0)
    with pytest.raises(KeyError, match="gone"):
        run(tmp_path, al=settings("killed", Fails()), enable_checkpointing=True)
    callback = ActiveLearning(**settings("killed", WatchingOracle()))
    trainer = make_trainer(tmp_path, [callback], enable_checkpointing=True)
    trainer.fit(Net(), datamodule=wrapped(), ckpt_path=tmp_path / "killed" / "last-round.ckpt")
    assert callback.oracle.picks == whole.picks


class Drawing(PointsData):
    """Draws when it is asked for its targets."""

    def target_dataset(self) -> Points:
        torch.rand(7)
        return Points(10, seed=5)


def test_the_target_set_is_made_once_and_draws_reach_no_fit(tmp_path: Path) -> None:
    calls = []

    class Counted(Drawing):
        def target_dataset(self) -> Points:
            calls.append(1)
            return super().target_dataset()

    torch.manual_seed(0)
    plain = run(tmp_path / "plain", data=wrapped(WithTargets()), al={"strategy": Curious(target={"probs"})})
    torch.manual_seed(0)
    drawn = run(tmp_path / "drawn", data=wrapped(Counted()), al={"strategy": Curious(target={"probs"})})
    assert same(weights_of(plain.model), weights_of(drawn.model))
    assert calls == [1]


class NoTargets(PointsData):
    def target_dataset(self) -> Points:
        return Points(0)


class AsAttribute(PointsData):
    target_dataset = Points(10, seed=5)


class ALoader(PointsData):
    def target_dataset(self) -> Any:
        return self.val_dataloader()


@pytest.mark.parametrize(
    ("data", "strategy", "message"),
    [
        (NoTargets, Curious(target={"probs"}), "`target_dataset` gives no sample"),
        (ALoader, Curious(target={"probs"}), "to give a map-style dataset, but got a DataLoader"),
        (PointsData, FLQMI(), r"FLQMI seeks samples like those of a target set.*method `target_dataset\(\)`"),
        (PointsData, Mixture(["FLQMI", "Random"]), "Mixture.* seeks samples like those of a target set"),
    ],
)
def test_targets_that_are_none_are_refused_before_the_first_fit(
    tmp_path: Path, data: Any, strategy: QueryStrategy, message: str
) -> None:
    net = Net()
    with pytest.raises(MisconfigurationException, match=message):
        run(tmp_path, model=net, data=wrapped(data()), al={"strategy": strategy})
    assert net.seen == []


def test_a_target_set_may_be_an_attribute(tmp_path: Path) -> None:
    curious = Curious(target={"probs"})
    run(tmp_path, data=wrapped(AsAttribute()), al={"strategy": curious, "rounds": 2})
    assert len(curious._seen[0]["target"]) == 10


class TwoLabels(Points):
    def __getitem__(self, index: int) -> Any:
        return self.x[index], (self.x[index] > 0).float(), index


class TwoLabelsData(PointsData):
    def __init__(self) -> None:
        super().__init__()
        self.train_set = TwoLabels()


def test_labels_that_do_not_exclude_each_other_are_warned_of(tmp_path: Path) -> None:
    for outputs, told in (("logits", True), ("multilabel", False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(tmp_path / outputs, model=Unsupervised(), data=wrapped(TwoLabelsData()),
                al={"strategy": "Margin", "outputs": outputs})  # fmt: skip
        assert any("2 labels that do not exclude each other" in str(each.message) for each in caught) is told


def test_a_frozen_norm_in_the_head_stays_frozen(tmp_path: Path) -> None:
    class Normed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(8)
            self.last = nn.Sequential(self.norm, self.head)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.body(x)))

        def on_train_start(self) -> None:
            self.norm.eval()

        def query_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
            hidden = torch.tanh(self.body(batch[0]))
            return {"logits": self.last(hidden), "embeddings": hidden, "head": self.last}

    modes = []

    class Watch(Curious):
        def select(self, pool: Outputs, query_size: int, **more: Any) -> Tensor:
            net.last.train()
            net.norm.eval()
            pool.head(pool.embeddings)
            modes.append((net.last.training, net.norm.training, net.head.training))
            return super().select(pool, query_size, **more)

    net = Normed()
    run(tmp_path, model=net, al={"strategy": Watch(pool={"embeddings", "head"}), "rounds": 2})
    assert modes == [(True, False, True)]
