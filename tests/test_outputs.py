"""What a model may answer, through the Trainer: the query equals one computed by hand. And what a run leaves."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.data import DataLoader, Dataset

from lightning_al import ActiveLearning, ActiveLearningDataModule, CoreSet, Margin
from lightning_al.ledger import Ledger
from lightning_al.run_folder import RunFolder
from tests._helpers.rounds_fixtures import (
    Net,
    Points,
    PointsData,
    WatchingOracle,
    least_margins,
    make_trainer,
    run,
    weights_of,
    wrapped,
)


def hidden_and_logits(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Net on all points, in float64, from its weights."""
    w = {name: value.double() for name, value in weights.items()}
    hidden = torch.tanh(Points().x.double() @ w["body.weight"].T + w["body.bias"])
    return hidden, hidden @ w["head.weight"].T + w["head.bias"]


def margins_are_least(weights: dict[str, Tensor], labeled: list[int], picked: list[int], slack: float) -> bool:
    """Whether no unlabeled point is surer than a picked one by more than rounding."""
    top = hidden_and_logits(weights)[1].softmax(-1).topk(2).values
    margin = (top[:, 0] - top[:, 1]).tolist()
    rest = set(range(48)) - set(labeled) - set(picked)
    return len(set(picked)) == 4 and max(margin[i] for i in picked) <= min(margin[i] for i in rest) + slack


# -- the kinds of outputs
class LogProbs(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).log_softmax(-1)

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.nll_loss(self(batch[0]), batch[1])


class Probs(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(-1)

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.nll_loss(self(batch[0]).log(), batch[1])


@pytest.mark.parametrize(("outputs", "model"), [("logits", Net), ("log_probs", LogProbs), ("probs", Probs)])
def test_every_kind_asks_the_least_sure(tmp_path: Path, outputs: str, model: type[Net]) -> None:
    fitted = run(tmp_path, model=model(), al={"outputs": outputs, "strategy": "Margin"})
    oracle: Any = fitted.callback.oracle
    labeled = fitted.data.pool.labeled.tolist()
    for number, (weights, picked) in enumerate(zip(oracle.weights, oracle.picks, strict=True)):
        assert picked == least_margins(weights, labeled[: 8 + 4 * number], 4)


def told_of_probs(folder: Path, model: Net, **al: Any) -> list[str]:
    """The warnings of a run that take what the model returns for probabilities."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(folder, model=model, al={"rounds": 1, **al}, max_epochs=1)
    return [str(w.message) for w in caught if "looks like probabilities" in str(w.message)]


class ProbsInADict(Probs):
    def query_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"logits": self(batch[0])}


@pytest.mark.parametrize("strategy", ["Margin", "BADGE"])
@pytest.mark.parametrize("model", [Probs, ProbsInADict])
def test_probabilities_taken_for_logits_are_warned_of_once(tmp_path: Path, strategy: str, model: type[Net]) -> None:
    [told] = told_of_probs(tmp_path, model(), strategy=strategy)
    assert told.startswith(f"What {model.__name__} returns to be scored looks like probabilities")
    assert told.endswith("say ActiveLearning(outputs='probs').")


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        (Net, {}),
        (LogProbs, {}),  # their softmax is what they are the logarithm of
        (LogProbs, {"outputs": "log_probs"}),
        (Probs, {"outputs": "probs"}),
        (Probs, {"strategy": "CoreSet"}),  # looks at embeddings alone
        (Probs, {"strategy": "Random"}),
    ],
)
def test_nothing_else_is_taken_for_probabilities(tmp_path: Path, model: type[Net], arguments: dict[str, Any]) -> None:
    assert told_of_probs(tmp_path, model(), **arguments) == []


class Binary(Net):
    """One logit: class 0 against the others."""

    def __init__(self, column: bool) -> None:
        super().__init__()
        self.column = column

    def forward(self, x: Tensor) -> Tensor:
        logit = super().forward(x)[:, :1]
        return logit if self.column else logit[:, 0]

    def loss(self, batch: Any) -> Tensor:
        return binary_cross_entropy_with_logits(self(batch[0]).flatten(), (batch[1] == 0).float())


@pytest.mark.parametrize("column", [True, False])
def test_one_logit_asks_the_nearest_to_zero(tmp_path: Path, column: bool) -> None:
    data = wrapped(PointsData(batch_size=13))  # 40, 36 unlabeled: the last batch is of one, of ten
    fitted = run(tmp_path, model=Binary(column), data=data, al={"outputs": "binary"})
    oracle: Any = fitted.callback.oracle
    labeled = data.pool.labeled.tolist()
    for number, (weights, picked) in enumerate(zip(oracle.weights, oracle.picks, strict=True)):
        logit = hidden_and_logits(weights)[1][:, 0].abs().tolist()
        rest = [i for i in range(48) if i not in labeled[: 8 + 4 * number]]
        assert picked == sorted(rest, key=lambda i: logit[i])[:4]


# -- query_step and dict batches
class DictPoints(Dataset[dict[str, Any]]):
    def __init__(self) -> None:
        self.points = Points()

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> dict[str, Any]:
        x, label, _ = self.points[index]
        return {"pixel_values": x, "labels": label}


class DictData(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(DictPoints(), batch_size=4, shuffle=True)


class DictNet(Net):
    """As Hugging Face's models: `forward` takes keywords, so it cannot be called with a batch."""

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = Net.forward(self, pixel_values)
        return {"logits": logits, "loss": cross_entropy(logits, labels)}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(**batch)["loss"]

    def query_step(self, batch: Any, batch_idx: int) -> Any:
        assert not self.training
        assert not torch.is_grad_enabled()
        hidden = torch.tanh(self.body(batch["pixel_values"]))
        return {"logits": self.head(hidden), "embeddings": 2 * hidden}


def test_query_step_on_dict_batches(tmp_path: Path) -> None:
    data = wrapped(DictData())
    fitted = run(tmp_path, model=DictNet(), data=data)
    oracle: Any = fitted.callback.oracle
    labeled = data.pool.labeled.tolist()
    for number, (weights, picked) in enumerate(zip(oracle.weights, oracle.picks, strict=True)):
        assert picked == least_margins(weights, labeled[: 8 + 4 * number], 4)


# -- embeddings
class Spy(CoreSet):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[Any] = []

    def select(self, pool: Any, query_size: int, *, labeled: Any = None, generator: Any = None) -> Tensor:
        self._seen.append((pool.embeddings, None if labeled is None else labeled.embeddings))
        return super().select(pool, query_size, labeled=labeled, generator=generator)


class CompiledBody(Net):
    """Compiles part of itself."""

    def configure_model(self) -> None:
        torch._dynamo.reset()
        self.body.compile(backend="eager")


@pytest.mark.parametrize(
    ("model", "data", "factor", "arguments"),
    [
        (Net, PointsData, 1, {}),
        (CompiledBody, PointsData, 1, {}),
        (DictNet, DictData, 2, {}),
        (Net, PointsData, 1, {"precision": "bf16-mixed"}),
    ],
    ids=["hook", "compiled", "query_step", "bf16-mixed"],
)
def test_embeddings_of_pool_and_labeled_samples(
    tmp_path: Path, model: Any, data: Any, factor: float, arguments: dict[str, Any]
) -> None:
    spy, wrapper = Spy(), wrapped(data())
    fitted = run(tmp_path, model=model(), data=wrapper, al={"strategy": spy}, **arguments)
    order = wrapper.pool.labeled.tolist()
    half = 0.03 if arguments else 1e-5
    for number, (pool, labeled) in enumerate(spy._seen):
        known = order[: 8 + 4 * number]
        rest = [i for i in range(48) if i not in known]
        hidden = hidden_and_logits(fitted.callback.oracle.weights[number])[0] * factor
        torch.testing.assert_close(pool.double(), hidden[rest], atol=half, rtol=half)
        torch.testing.assert_close(labeled.double(), hidden[known], atol=half, rtol=half)
    assert len(spy._seen) == 2


def test_a_named_layer(tmp_path: Path) -> None:
    spy = Spy()
    fitted = run(tmp_path, al={"strategy": spy, "embedding_layer": "body"})
    known = fitted.data.pool.labeled.tolist()[:8]
    assert torch.equal(spy._seen[0][0], Points().x[[i for i in range(48) if i not in known]])
    assert torch.equal(spy._seen[0][1], Points().x[known])


# -- precision
@pytest.mark.parametrize(
    ("precision", "slack"), [("32-true", 1e-6), ("64-true", 1e-9), ("bf16-mixed", 0.05), ("bf16-true", 0.1)]
)
def test_precisions(tmp_path: Path, precision: str, slack: float) -> None:
    fitted = run(tmp_path, precision=precision)
    oracle: Any = fitted.callback.oracle
    labeled = fitted.data.pool.labeled.tolist()
    for number, (weights, picked) in enumerate(zip(oracle.weights, oracle.picks, strict=True)):
        assert margins_are_least(weights, labeled[: 8 + 4 * number], picked, slack)
    scores = torch.tensor([s for query in oracle.queries for s in query.scores.tolist()])
    assert torch.isfinite(scores).all()
    assert float(scores.min()) > 0.0


class HalfAnswers(Net):
    """A model that works in half precision by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).half()

    def loss(self, batch: Any) -> Tensor:
        return cross_entropy(self(batch[0]).float(), batch[1])


def test_float16_outputs(tmp_path: Path) -> None:
    fitted = run(tmp_path, model=HalfAnswers())
    oracle: Any = fitted.callback.oracle
    assert margins_are_least(oracle.weights[0], fitted.data.pool.labeled.tolist()[:8], oracle.picks[0], 5e-3)


# -- what a query leaves unchanged
class Careful(Net):
    """Dropout and batch norm: a query must not run them as training does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.frozen = nn.Dropout(0.5).eval()
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.frozen(self.norm(x)))


def test_a_query_changes_neither_modes_nor_weights_nor_the_random_state(tmp_path: Path) -> None:
    from lightning_al.querying import Querying

    seen: list[Any] = []
    original = Querying.pick

    def watched(self: Querying, *args: Any) -> Any:
        module = self.trainer.lightning_module

        def state() -> Any:
            modes = {name: m.training for name, m in module.named_modules()}
            return modes, torch.get_rng_state().tolist(), {k: v.tolist() for k, v in module.state_dict().items()}

        before = state()
        result = original(self, *args)
        seen.append(before == state())
        return result

    model = Careful()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Querying, "pick", watched)
        run(tmp_path, model=model, al={"strategy": "CoreSet"})
    assert seen == [True, True]


# -- what a run leaves
def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class ImagePoints(Points):
    """The same classes as small images."""

    def __getitem__(self, index: int) -> Any:
        x, label, number = super().__getitem__(index)
        return x.repeat(32).reshape(1, 8, 8), label, number


class ImageData(PointsData):
    def __init__(self) -> None:
        super().__init__()
        self.train_set, self.val_set = ImagePoints(), ImagePoints(24, seed=1)


class ImageNet8(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)[:, :2])


def test_the_folder_tells_what_the_history_and_the_pool_tell(tmp_path: Path) -> None:
    data = ActiveLearningDataModule(ImageData(), initial=8, seed=4)
    callback = ActiveLearning(Margin(), 4, rounds=3, oracle=(oracle := WatchingOracle()))
    trainer = make_trainer(tmp_path, [callback], enable_checkpointing=True)
    model = ImageNet8()
    trainer.fit(model, datamodule=data)
    folder = RunFolder(tmp_path / "active_learning")

    rounds = read(folder.rounds_csv)
    assert [int(row["round"]) for row in rounds] == [0, 1, 2]
    assert [int(row["labeled"]) for row in rounds] == [8, 12, 16]
    assert [int(row["unlabeled"]) for row in rounds] == [40, 36, 32]
    for row, told in zip(rounds, callback.history, strict=True):
        assert float(row["val_loss"]) == told["metrics"]["val_loss"]
        assert float(row["train_loss"]) == told["metrics"]["train_loss"]
        assert float(row["seconds_fit"]) == told["seconds_fit"] > 0

    ledger = Ledger(folder.ledger_path).read()
    assert [row.dataset_index for row in ledger] == data.pool.labeled.tolist()
    assert [row.round for row in ledger] == data.pool.rounds().tolist() == [0] * 8 + [1] * 4 + [2] * 4
    assert [row.strategy for row in ledger] == ["initial"] * 8 + ["Margin"] * 8
    for number, query in enumerate(oracle.queries):
        recorded = folder.read_query(number + 1)
        assert recorded is not None
        assert recorded.dataset_indices == query.dataset_indices.tolist()
        assert recorded.scores == [row.score for row in ledger if row.round == number + 1] == query.scores.tolist()
        assert folder.query_path(number + 1).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in folder.queries.iterdir()) == [
        f"round-00{n}.{kind}" for n in (1, 2) for kind in ("csv", "png", "record")
    ]
    assert (folder.path / "metrics.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder.path / "metrics.svg").read_text()

    info = json.loads(folder.run_json.read_text())
    assert (info["finished"], info["pool_size"], info["seed"]) == (True, 48, 4)
    assert info["reason"] == "all 3 rounds are done."
    saved = torch.load(folder.checkpoint, weights_only=True)
    assert all(torch.equal(saved["state_dict"][k], v) for k, v in weights_of(model).items())


def test_a_fast_dev_run_leaves_nothing(tmp_path: Path) -> None:
    callback = ActiveLearning("Margin", 4, rounds=3)
    make_trainer(tmp_path, [callback], fast_dev_run=True).fit(Net(), datamodule=wrapped())
    assert list(tmp_path.iterdir()) == []
    assert callback.history


def test_dirpath_is_where_it_is_left(tmp_path: Path) -> None:
    callback = ActiveLearning("Random", 4, rounds=2, dirpath=tmp_path / "mine")
    make_trainer(tmp_path / "root", [callback]).fit(Net(), datamodule=wrapped())
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert len(read(tmp_path / "mine" / "rounds.csv")) == 2


def test_rejections_and_pending_are_in_the_folder_too(tmp_path: Path) -> None:
    class Picky(WatchingOracle):
        def label(self, query: Any) -> Any:
            answers = super().label(query)
            if query.part == 1:
                first, second, *_ = query.dataset_indices.tolist()
                del answers.labels[first], answers.labels[second]
                answers.rejected, answers.pending = [first], [second]
            return answers

    data = wrapped()
    fitted = run(tmp_path, data=data, al={"oracle": Picky()})
    assert [row["rejected"] for row in fitted.callback.history] == [0, 1, 2]
    assert [row["pending"] for row in fitted.callback.history] == [0, 1, 2]
    assert [(row["pending"], row["rejected"]) for row in read(tmp_path / "active_learning" / "rounds.csv")] == [
        ("0", "0"), ("1", "1"), ("2", "2"),
    ]  # fmt: skip
    assert [row["labeled"] for row in fitted.callback.history] == [8, 11, 14]  # what was rejected was replaced
    ledger = Ledger(tmp_path / "active_learning" / "ledger.csv").read()
    assert [row.dataset_index for row in ledger if row.rejected] == data.pool.rejected.tolist()
    assert [row.dataset_index for row in ledger if not row.rejected] == data.pool.labeled.tolist()
    picked = [i for query in fitted.callback.oracle.picks for i in query]
    assert [len(query) for query in fitted.callback.oracle.picks] == [4, 1, 4, 1]
    assert len(set(picked)) == len(picked)
