"""A loop of each task of ``examples/tasks``: picks against loops over single numbers, the metric, and the table."""

from __future__ import annotations

import copy
import functools
import importlib
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from examples.tasks import comparison, detection, multilabel, regression, segmentation, text
from lightning_al import BADGE, LCMD, ActiveLearning, CoreSet, Entropy, Margin, Random, TypiClust
from lightning_al.strategies.base import QueryStrategy
from tests._helpers.rounds_fixtures import WatchingOracle

FOLDER = Path(__file__).parent.parent / "examples" / "tasks"
CLASSIFICATION, TAGGING = ({**text.TASKS[task], **text.COMMON} for task in ("classification", "tagging"))


class Run:
    """A whole loop with a strategy: its metric a round, what was labeled at each query, what was picked, the models."""

    def __init__(self, task: Mapping[str, Any], strategy: QueryStrategy, folder: Path, **loop: Any) -> None:
        torch.manual_seed(0)
        self.model, loaders = task["model"](), task["loaders"]()
        self.oracle = WatchingOracle(self.model)
        self.callback = ActiveLearning(strategy, seed=0, oracle=self.oracle, **{**task["loop"], **loop})
        history = comparison.fit(self.model, loaders, self.callback, task["epochs"], str(folder))
        self.dataset, self.collate = loaders[0].dataset, loaders[0].collate_fn
        self.labels = [row["labeled"] for row in history]
        self.metric = [float(row["metrics"][task["metric"]]) for row in history]
        assert all(math.isfinite(value) for value in self.metric)

    def picks_by_hand(self, score: Callable[[Any, Any], float]) -> list[list[int]]:
        """The highest scores of each query, of one sample at a time with the weights that the query had."""
        model, picks = copy.deepcopy(self.model).eval(), []
        for number, weights in enumerate(self.oracle.weights):
            model.load_state_dict(weights)
            labeled = set(self.callback.pool.labeled[: self.labels[number]].tolist())
            scores = {}
            for index in range(len(self.dataset)):
                if index not in labeled:
                    with torch.no_grad():
                        scores[index] = score(model, self.collate([self.dataset[index]]))
            size = self.labels[number + 1] - self.labels[number]
            picks.append(sorted(scores, key=lambda index: -scores[index])[:size])
        return picks


def entropy(probs: list[float]) -> float:
    return -sum(p * math.log(p) for p in probs if p > 0)


def margin(probs: list[float]) -> float:
    first, second = sorted(probs, reverse=True)[:2]
    return 1 - (first - second)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def highest_share(share: float) -> Callable[[list[float]], float]:
    return lambda values: mean(sorted(values)[-math.ceil(share * len(values)) :])


# -- the picks, by hand
@pytest.mark.parametrize(("how", "reduce"), [("mean", mean), ("max", max)])
def test_multilabel(how: Any, reduce: Callable[[list[float]], float], tmp_path: Path) -> None:
    def score(model: Any, batch: Any) -> float:
        yes = [1 / (1 + math.exp(-logit)) for logit in model(batch[0])[0].tolist()]
        return reduce([margin([p, 1 - p]) for p in yes])

    run = Run(multilabel.TASK, Margin(how), tmp_path, rounds=3)
    assert run.oracle.picks == run.picks_by_hand(score)
    assert run.metric[-1] > run.metric[0]


def test_segmentation(tmp_path: Path) -> None:
    def score(model: Any, batch: Any) -> float:
        probs, mask = model(batch[0])[0].softmax(0), batch[2][0]
        return highest_share(0.1)([entropy(pixel) for pixel in probs[:, mask].T.tolist()])

    run = Run({**segmentation.TASK, "epochs": 12}, Entropy(0.1), tmp_path, rounds=3)
    assert run.oracle.picks == run.picks_by_hand(score)
    assert run.metric[-1] > run.metric[0]


def test_detection(tmp_path: Path) -> None:
    def score(model: Any, batch: Any) -> float:
        cells = model(batch[0])[0][0].flatten(1).softmax(0).T.tolist()
        boxes = [cell[:-1] for cell in cells if cell[-1] < 0.8]
        return max((margin([p / sum(box) for p in box]) for box in boxes), default=0.0)

    run = Run({**detection.TASK, "epochs": 15}, Margin(), tmp_path, rounds=3)
    assert run.oracle.picks == run.picks_by_hand(score)
    assert run.metric[-1] > run.metric[0]
    boxes = run.model.eval().query_step((torch.stack([image for image, _ in run.dataset]),), 0)
    assert min(map(len, boxes)) == 0, "an image without boxes was scored"
    assert all(torch.allclose(each.sum(1), torch.ones(len(each))) for each in boxes)


def test_tagging(tmp_path: Path) -> None:
    def score(model: Any, batch: Any) -> float:  # one sentence: no padding
        probs = model(batch["input_ids"], batch["attention_mask"])[0].softmax(0)
        return mean([margin(token) for token in probs.T.tolist()])

    run = Run({**TAGGING, "epochs": 10}, Margin(), tmp_path, rounds=3)
    assert run.oracle.picks == run.picks_by_hand(score)
    assert run.metric[-1] > run.metric[0]


def test_classification(tmp_path: Path) -> None:
    def score(model: Any, batch: Any) -> float:
        return entropy(model(batch["input_ids"], batch["attention_mask"])[0].softmax(0).tolist())

    run = Run(CLASSIFICATION, Entropy(), tmp_path, rounds=3)
    assert run.oracle.picks == run.picks_by_hand(score)
    assert run.metric[-1] > run.metric[0]


def farthest_first(embeddings: Tensor, labeled: list[int], size: int) -> list[int]:
    """Greedy k-center by a loop over all pairs."""
    centers, picks = list(labeled), []
    distances = torch.cdist(embeddings.double(), embeddings.double())
    for _ in range(size):
        nearest = distances[:, centers].amin(1)
        picks.append(int(nearest.argmax()))
        centers.append(picks[-1])
    return picks


def hidden_units(model: Any, items: list[Any]) -> Tensor:
    return model.body(torch.stack([item[0] for item in items]))


def mean_vectors(model: Any, items: list[Any]) -> Tensor:
    return torch.stack([model.words(item["input_ids"]).mean(0) for item in items])


@pytest.mark.parametrize(
    ("task", "embed"),
    [(regression.TASK, hidden_units), (CLASSIFICATION, mean_vectors)],
    ids=["regression", "classification"],
)
def test_core_set_reads_the_last_layers_input(task: Any, embed: Callable[..., Tensor], tmp_path: Path) -> None:
    run = Run(task, CoreSet(), tmp_path, rounds=2)
    run.model.load_state_dict(run.oracle.weights[0])
    with torch.no_grad():
        embeddings = embed(run.model.eval(), list(run.dataset))
    labeled = run.callback.pool.labeled[: run.labels[0]].tolist()
    assert run.oracle.picks == [farthest_first(embeddings, labeled, run.labels[1] - run.labels[0])]


@pytest.mark.parametrize("strategy", [BADGE(), TypiClust()], ids=lambda each: each.name)
def test_embeddings_of_sentences(strategy: QueryStrategy, tmp_path: Path) -> None:
    run = Run(CLASSIFICATION, strategy, tmp_path, rounds=3)
    assert run.metric[-1] > run.metric[0]
    assert len(set(run.callback.pool.labeled.tolist())) == run.labels[-1] == 60


def test_regression(tmp_path: Path) -> None:
    task = {**regression.TASK, "loaders": functools.partial(regression.loaders, "made")}
    runs = [Run(task, strategy, tmp_path / strategy.name, rounds=3) for strategy in (LCMD(), Random())]
    assert runs[0].metric[0] == runs[1].metric[0], "pairs start from the same labels and weights"
    assert runs[0].metric[-1] < runs[0].metric[0]

    def crowded(run: Run) -> float:
        """The share of picks from where nine of ten inputs lie."""
        picks = torch.tensor(run.oracle.picks).flatten()
        return float((run.dataset.tensors[0][picks, :3].abs() <= 0.1001).all(1).float().mean())

    assert crowded(runs[0]) < crowded(runs[1])


# -- the data
def test_properties_of_digits() -> None:
    train, test = multilabel.datasets()
    assert (len(train), len(test)) == (1200, 597)
    seen = {tuple(labels.int().tolist()) for labels in train.tensors[1]}
    wanted = {tuple(int(d in which) for which in multilabel.PROPERTIES.values()) for d in range(10)}
    assert seen == wanted


def test_padding_of_canvases_is_blank_and_has_no_class() -> None:
    images, classes, mask = segmentation.canvases(20, seed=3).tensors
    assert not images[:, 0][~mask].any()
    assert (classes[~mask] == segmentation.IGNORED).all()
    assert sorted(classes[mask].unique().tolist()) == [0, 1, 2, 3]
    assert mask.flatten(1).sum(1).unique().numel() > 10, "canvases of several sizes"


def test_centers_of_scenes_are_where_the_ink_is() -> None:
    images, targets = detection.scenes(60, seed=3).tensors
    empty = (targets[:, 0] == detection.DIGITS).all(-1).all(-1)
    assert 0.1 < float(empty.float().mean()) < 0.6
    assert float(images[empty].max()) <= 0.2 < float(images[~empty].flatten(1).amax(1).min())
    number, row, column = (targets[:, 0] < detection.DIGITS).nonzero().T
    for i, r, c in zip(number.tolist(), row.tolist(), column.tolist(), strict=True):
        top, left = (round(8 * (at + float(off))) for at, off in zip((r, c), targets[i, 1:, r, c], strict=True))
        assert images[i, 0, top : top + 8, left : left + 8].max() > 0.8


def test_sentences_are_padded_to_the_longest_of_a_batch() -> None:
    items = text.sentences("tagging", 8, seed=0)
    batch = text.collate(items)
    for row, item in enumerate(items):
        length = len(item["input_ids"])
        assert batch["attention_mask"][row].sum() == length
        assert (batch["labels"][row, length:] == text.IGNORED).all()
        words = [1, *item["input_ids"].tolist()]
        wanted = [(word + (before % 2 == 0)) % text.TAGS for before, word in itertools.pairwise(words)]
        assert item["labels"].tolist() == wanted


# -- the comparison
def test_area_and_interval() -> None:
    assert comparison.area([10, 20, 40], [0.0, 1.0, 1.0]) == pytest.approx(25 / 30)
    differences = [0.1, 0.3, 0.2, 0.6]
    wanted = stats.t.interval(0.95, 3, loc=0.3, scale=stats.sem(differences))
    middle, half = comparison.interval(differences)
    assert (middle - half, middle + half) == pytest.approx(wanted)
    assert comparison.interval([0.5]) == (0.5, math.inf)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    short = {**multilabel.TASK, "loop": {**multilabel.TASK["loop"], "rounds": 2}, "epochs": 3}
    comparison.main(short, ["--strategy", "Entropy", "--aggregate", "max", "--seeds", "2"])
    head, *rows, areas, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["labels", "Random", "Entropy", "(accuracy,", "2", "seeds)"]
    assert [row.split()[0] for row in rows] == ["20", "40"]
    assert rows[0].split()[1] == rows[0].split()[2], "pairs start alike"
    random, entropies = (float(value) for value in areas.split()[1:])
    assert float(last.split()[3].rstrip(",")) == pytest.approx(entropies - random, abs=2e-4)
    assert last.endswith("higher is better")


@pytest.mark.parametrize("name", ["multilabel", "segmentation", "regression", "detection", "text"])
def test_each_file_is_described_and_in_the_readme(name: str) -> None:
    module = importlib.import_module(f"examples.tasks.{name}")
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    commands = [line for line in module.__doc__.splitlines() if line.startswith("python ")]
    assert commands
    assert all(line in readme for line in commands)


def test_a_file_is_a_script(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "regression.py"), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--strategy" in done.stdout
