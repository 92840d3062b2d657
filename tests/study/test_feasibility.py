"""A whole study: its files, its numbers against plain loops, and that it leaves everything else alone."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import logging
import os
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from lightning_al import ActiveLearning, ActiveLearningDataModule, FeasibilityStudy
from lightning_al.exceptions import ActiveLearningError, RunFolderError
from lightning_al.strategies import LeastConfidence, Margin
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from lightning_al.study import FeasibilityReport, compare_curves, kept_embeddings
from lightning_al.study import page as page_module
from lightning_al.study.subject import weights_digest
from tests._helpers import studies
from tests._helpers.studies import (
    CLASSES,
    NUM_FITS,
    PILOT,
    TEST,
    ImagesData,
    SmallNet,
    answer,
    files,
    images,
    rows,
    study,
    trainer,
)

TINY: dict[str, Any] = {
    "strategies": ["Margin"], "buckets": 2, "fractions": [1.0], "seeds": 1, "replicates": 2, "rounds": 1,
}  # fmt: skip
METRICS = ["accuracy", "precision", "recall", "f1", "auroc", "calibration_error"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    path = tmp_path_factory.mktemp("study") / "out"
    study(path).run(SmallNet, ImagesData(), trainer())
    return path


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than the fits."""
    monkeypatch.setattr(page_module, "write_page", lambda *_: None)


@pytest.fixture
def _unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before the first fit."""

    def fit(*_: Any, **__: Any) -> None:
        raise AssertionError("a fit was made")

    monkeypatch.setattr(Trainer, "fit", fit)


def cells(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text())["content"] for path in (folder / "cells").glob("*.json")]
    return {cell["key"]: cell for cell in found}


# -- what it leaves
def test_the_json_has_every_key_of_the_schema_and_is_the_report(folder: Path) -> None:
    text = (folder / "feasibility.json").read_text()
    found = json.loads(text)

    assert set(found) == {"schema", *(each.name for each in dataclasses.fields(FeasibilityReport))}
    assert found["schema"] == 1
    assert FeasibilityReport.from_json(text).to_json() == text
    assert found["data"] == {
        "pilot": PILOT, "test": TEST, "test_split": "test", "classes": CLASSES, "class_names": ["oak", "elm", "ash <b>"]
    }  # fmt: skip
    asked = {
        "mode": "full", "backbone": None, "delta": 0.5, "saving": 0.1, "replicates": 6, "rounds": 2, "initial": 9,
        "query_size": 9, "buckets": 3, "fractions": [0.5, 1.0], "seeds": 2, "strategies": ["LeastConfidence", "Margin"],
        "seed": 4, "label_cost": None, "hour_cost": None, "outputs": "logits",
    }  # fmt: skip
    assert found["settings"] == asked
    assert found["metric"] == {"name": "accuracy", "higher_is_better": True, "scale": 100, "unit": "points"}
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (found["failures"], found["cost"], found["confirm"]) == ([], None, None)
    for part in ("variance", "headroom", "pathology", "curves", "room", "target", "penalty_matrix"):
        assert found[part], part
    assert [arm["name"] for arm in found["pathology"]["by_strategy"]] == ["random", "LeastConfidence", "Margin"]


def test_the_table_has_a_row_of_each_fit_and_arm(folder: Path) -> None:
    found = rows(folder)
    place = ["part", "arm", "replicate", "bucket", "fraction", "round", "labels", "seed"]
    with (folder / "curves.csv").open() as file:
        header = next(csv.reader(file))

    assert header == [*place, *METRICS, "seconds_fit", "seconds_predict", "seconds_query", "peak_memory_mb"]
    count = {part: sum(row["part"] == part for row in found) for part in ("design", "simulation", "pilot")}
    assert count == {"design": 3 * 2 * 2, "simulation": 6 * 3 * 3, "pilot": 6}
    assert len(found) == sum(count.values())
    simulated = [row for row in found if row["part"] == "simulation"]
    assert all(int(row["labels"]) == 9 + 9 * int(row["round"]) for row in simulated)
    assert {row["labels"] for row in found if row["part"] == "pilot"} == {"90"}
    design = [(row["fraction"], row["labels"]) for row in found if row["part"] == "design"]
    assert set(design) == {("0.5", "15"), ("1.0", "30")}  # of buckets of 30
    assert all(0 <= float(row[metric]) <= 1 for row in found for metric in METRICS)
    spent = rows(folder, timeless=False)
    assert all(float(row["seconds_fit"]) > 0 and float(row["peak_memory_mb"]) > 0 for row in spent)
    queried = [float(row["seconds_query"]) > 0 for row in spent if row["part"] == "simulation"]
    assert queried == [row["round"] != "2" for row in simulated]


def test_seconds_are_those_of_each_fit_once(folder: Path) -> None:
    found, report = cells(folder).values(), json.loads((folder / "feasibility.json").read_text())
    assert report["seconds"]["fit"] == pytest.approx(sum(cell["seconds_fit"] for cell in found))
    queried = [sum(cell["seconds_query"].values()) for cell in found]
    assert report["seconds"]["query"] == pytest.approx(sum(queried))
    assert report["seconds"]["wall"] > report["seconds"]["fit"]


def test_the_table_alone_gives_the_same_answer(folder: Path) -> None:
    whole = answer(folder)
    alone = json.loads(compare_curves(folder / "curves.csv", "accuracy", seed=4).to_json())

    same = ("verdict", "headline", "reasons", "replicates", "required_R", "target", "room", "curves", "variance")
    for part in (*same, "penalty_matrix", "headroom", "curve", "exploratory", "legacy"):
        assert alone[part] == whole[part], part
    assert studies.timeless(alone["strategies"]) == whole["strategies"]


def test_each_arm_trains_on_the_first_labels_and_on_what_it_asked_for(folder: Path) -> None:
    found = cells(folder)
    assert len(found) == NUM_FITS
    for replicate in range(6):
        start = found[f"start-r{replicate:02d}"]
        for arm in ("random", "LeastConfidence", "Margin"):
            first, second = (found[f"simulation-r{replicate:02d}-{arm}-{round:02d}"] for round in (1, 2))
            asked = [*start["picked"][arm], *first["picked"][arm]]
            assert (start["labels"], first["labels"], second["labels"]) == (9, 18, 27)
            assert len(set(asked)) == 18
            assert set(asked) <= set(range(PILOT))
            assert second["picked"] == {}


def test_seeds_differ_between_fits_and_are_shared_by_the_arms(folder: Path) -> None:
    found = cells(folder)
    simulated = [cell for cell in found.values() if cell["part"] == "simulation"]
    by_place: dict[tuple[int, int], set[int]] = {}
    for cell in simulated:
        by_place.setdefault((cell["replicate"], cell["round"]), set()).add(cell["seed"])

    assert len(by_place) == 6 * 3
    assert all(len(seeds) == 1 for seeds in by_place.values())
    rest = [cell["seed"] for cell in found.values() if cell["part"] != "simulation"]
    assert len({*rest, *(seed for seeds in by_place.values() for seed in seeds)}) == 12 + 6 + 18
    # Three of the arms' fits that differ in nothing but the replicate, and the whole pilot's in nothing but the seed.
    assert len({found[f"pilot-r{r:02d}"]["metrics"]["auroc"] for r in range(6)}) > 3
    assert len({tuple(found[f"start-r{r:02d}"]["picked"]["random"]) for r in range(6)}) == 6


def by_hand(positions: list[int], seed: int) -> tuple[float, Tensor]:
    """Accuracy of a plain fit, and its probabilities of the whole pilot."""
    data = ImagesData()
    data.setup("fit")
    seed_everything(seed, workers=True, verbose=False)
    model = SmallNet()
    trainer().fit(model, DataLoader(Subset(data.train_set, positions), batch_size=16, shuffle=True))
    model.eval()
    with torch.no_grad():
        x, y = images(TEST, 1).tensors
        accuracy = float((model(x).argmax(dim=1) == y).double().mean())
        return accuracy, model(images(PILOT, 0).tensors[0]).softmax(dim=1)


def test_a_replicate_equals_a_loop_by_hand(folder: Path) -> None:
    found = cells(folder)
    start, order = found["start-r02"], found["simulation-r02-Margin-01"]
    everything = set(range(PILOT))
    labeled = studies.design().initial_set(2).tolist()
    for round, cell in enumerate([start, order, found["simulation-r02-Margin-02"]]):
        accuracy, probs = by_hand(labeled, cell["seed"])
        assert accuracy == pytest.approx(cell["metrics"]["accuracy"], abs=1e-6)
        if round < 2:
            top = probs.topk(2, dim=1).values
            margin = (top[:, 0] - top[:, 1]).tolist()
            closest = sorted(everything - set(labeled), key=lambda position: margin[position])[:9]
            assert set(cell["picked"]["Margin"]) == set(closest)
            labeled = labeled + cell["picked"]["Margin"]


def test_a_cell_of_the_random_design_equals_a_fit_by_hand(folder: Path) -> None:
    design = studies.design()
    cell = cells(folder)["design-50pct-b1-t1"]
    accuracy, _ = by_hand(design.bucket(1)[:15].tolist(), cell["seed"])
    assert accuracy == pytest.approx(cell["metrics"]["accuracy"], abs=1e-6)


def test_contact_sheets_are_drawn_and_the_page_shows_them(folder: Path) -> None:
    report = answer(folder)
    sheets = {arm["name"]: arm["sheet"] for arm in report["pathology"]["by_strategy"]}
    assert sheets == {name: f"sheets/{name}.png" for name in ("random", "LeastConfidence", "Margin")}
    for path in sheets.values():
        assert (folder / path).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (folder / "index.html").read_text()
    section = page[page.index('id="sheets"') :]
    assert section.count("data:image/jpeg;base64,") == 3
    assert "<b>" not in page


# -- who runs it
@pytest.mark.usefixtures("no_page")
def test_two_workers_give_the_same_answer(folder: Path, tmp_path: Path) -> None:
    study(tmp_path / "two", workers=2).run(SmallNet, ImagesData(), trainer())

    assert rows(tmp_path / "two") == rows(folder)
    assert answer(tmp_path / "two") == answer(folder)


@pytest.mark.usefixtures("no_page")
def test_a_function_may_make_the_trainer(tmp_path: Path) -> None:
    tiny = {**TINY, "seed": 4}
    one = study(tmp_path / "one", **tiny).run(SmallNet, ImagesData(), trainer)
    two = study(tmp_path / "two", **tiny).run(lambda: SmallNet(), ImagesData(), trainer())
    assert studies.timeless(one.to_dict()) == studies.timeless(two.to_dict())


# -- what it leaves alone
@pytest.mark.usefixtures("no_page")
def test_it_leaves_the_users_objects_and_folders_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model, data = SmallNet(), ImagesData()
    callback = ActiveLearning(strategy="Margin", query_size=5, rounds=2)
    given = trainer(
        callbacks=[callback, EarlyStopping("val_loss")], default_root_dir=tmp_path / "root", logger=True,
        enable_checkpointing=True, limit_val_batches=1.0,
    )  # fmt: skip
    wrapped = ActiveLearningDataModule(data, initial=12)
    before = weights_digest(model), list(given.callbacks), copy.deepcopy(vars(data))
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002 - the global one is tested
    environment, threads = dict(os.environ), torch.get_num_threads()

    study(tmp_path / "out", **TINY, seed=1).run(model, wrapped, given)

    assert {path.name for path in tmp_path.iterdir()} == {"here", "out"}
    assert list((tmp_path / "here").iterdir()) == []
    assert weights_digest(model) == before[0]
    assert model.training
    assert given.callbacks == before[1]
    assert (given.state.fn, given.global_step, given.current_epoch) == (None, 0, 0)
    assert vars(data).keys() == before[2].keys()
    assert wrapped.datamodule is data
    assert generators == (
        random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002 - the global one is tested
    )  # fmt: skip
    assert (dict(os.environ), torch.get_num_threads()) == (environment, threads)


class Witness(Callback):
    """Notes the callbacks of each fit and the samples it trained on."""

    seen: list[tuple[list[str], int]]

    def __init__(self) -> None:
        self.seen = []

    def __deepcopy__(self, memo: Any) -> Witness:
        copied = Witness()
        copied.seen = self.seen  # of all fits
        return copied

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        size = len(trainer.train_dataloader.dataset)
        self.seen.append(([type(callback).__name__ for callback in trainer.callbacks], size))


@pytest.mark.usefixtures("no_page")
def test_fits_have_the_users_callbacks_without_active_learning_and_its_settings_count(tmp_path: Path) -> None:
    witness = Witness()
    callback = ActiveLearning(strategy="Margin", query_size=5, rounds=2, outputs="probs", embedding_layer="layers.1")
    given = trainer(callbacks=[callback, witness])

    class Probabilities(SmallNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return torch.nn.functional.nll_loss(self(batch[0]).log(), batch[1])

    report = study(tmp_path, **TINY).run(Probabilities, ActiveLearningDataModule(ImagesData(), initial=7), given)

    assert report.settings["outputs"] == "probs"
    assert all("ActiveLearning" not in names and "Witness" in names for names, _ in witness.seen)
    # One timed fit, then 2 first ones, 2 buckets, 2 whole pilots and 2 arms' one round twice.
    assert sorted(size for _, size in witness.seen[1:]) == [9, 9, 18, 18, 18, 18, 45, 45, 90, 90]
    with np.load(tmp_path / "cells" / "pilot-r00.npz") as arrays:
        assert arrays["embeddings"].shape == (PILOT, 16)  # what goes into `layers.1`


@pytest.mark.usefixtures("no_page")
def test_a_model_in_the_place_of_a_function_is_told(tmp_path: Path) -> None:
    report = study(tmp_path, **TINY).run(SmallNet(), ImagesData(), trainer())
    assert any("began with the same weights" in note for note in report.notes)


@pytest.mark.usefixtures("no_page")
def test_a_dry_run_times_one_fit_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counted = studies.CountedFits(tmp_path / "fits")
    plan = study("out").dry_run(counted, ImagesData(), trainer())

    assert counted.made == 1
    assert (plan.design, plan.workers, plan.mode) == (studies.design(), 1, "full")
    assert plan.seconds is not None
    assert plan.seconds > 0
    assert [path.name for path in tmp_path.iterdir()] == ["fits"]


@pytest.mark.usefixtures("no_page")
def test_a_dry_run_of_a_study_that_was_begun_tells_what_is_left(tmp_path: Path) -> None:
    counted = studies.CountedFits(tmp_path / "fits")
    study(tmp_path / "out", **TINY).run(counted, ImagesData(), trainer())
    for key in ("pilot-r01", "simulation-r00-Margin-01", "simulation-r01-random-01"):
        (tmp_path / "out/cells" / f"{key}.json").unlink()
    before, made = {path.name for path in tmp_path.rglob("*")}, counted.made

    plan = study(tmp_path / "out", **TINY).dry_run(counted, ImagesData(), trainer())
    assert (plan.design.num_fits, plan.finished, plan.left, counted.made) == (10, 7, 3, made + 1)
    assert re.search(r"\nLeft +3 fits  about \d+ s, reckoned from one timed fit$", str(plan))
    more = study(tmp_path / "out", **{**TINY, "replicates": 3}).dry_run(counted, ImagesData(), trainer())
    assert (more.finished, more.left) == (7, 7)
    with pytest.raises(RunFolderError, match="`query_size` was 9, and is 8 now"):
        study(tmp_path / "out", **TINY, query_size=8).dry_run(counted, ImagesData(), trainer())
    assert {path.name for path in tmp_path.rglob("*")} == before


def interrupt(monkeypatch: pytest.MonkeyPatch, when: Callable[[], bool]) -> None:
    """Press Ctrl-C at the start of a fit."""

    def on_fit_start(model: LightningModule) -> None:
        if when():
            raise KeyboardInterrupt

    monkeypatch.setattr(SmallNet, "on_fit_start", on_fit_start)


@pytest.mark.usefixtures("no_page")
def test_ctrl_c_says_that_finished_fits_are_kept_and_how_to_go_on(tmp_path: Path) -> None:
    asked = study(tmp_path, **TINY)
    told = re.escape(f"Interrupted. Run the same again to go on: the fits that are finished are kept in {tmp_path}.")
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt(monkeypatch, lambda: len(list((tmp_path / "cells").glob("*.json"))) == 4)
        with pytest.raises(KeyboardInterrupt, match=f"^{told}$") as end:
            asked.run(SmallNet, ImagesData(), trainer())
    assert end.value.__suppress_context__
    before = files(tmp_path)
    assert len(before) == 4
    asked.run(SmallNet, ImagesData(), trainer())
    assert before.items() <= files(tmp_path).items()


class Read(TensorDataset):
    """Notes how often its samples were read."""

    count = 0

    def __getitem__(self, index: int) -> Any:
        type(self).count += 1
        return super().__getitem__(index)


@pytest.mark.usefixtures("no_page")
def test_a_second_start_reads_no_more_than_it_takes_to_know_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noted(ImagesData):
        def setup(self, stage: str) -> None:
            self.train_set, self.held_out = Read(*images(PILOT, 0).tensors), Read(*images(TEST, 1).tensors)

    study(tmp_path, **TINY).run(SmallNet, Noted(), trainer())
    monkeypatch.setattr(Read, "count", 0)
    study(tmp_path, **TINY).run(SmallNet, Noted(), trainer())
    # Each sample once, and besides a batch of each set, eight of each twice for its fingerprint, and the two sheets.
    assert Read.count <= PILOT + TEST + 16 + 60 + 2 * 2 * 8 + 2 * 9


# -- strategies that remember
class Counting(QueryStrategy):
    """Asks for the samples of the class that its number of queries points to, and remembers that number."""

    needs = Needs(pool=frozenset({"dataset_indices"}))

    def __init__(self) -> None:
        self._queries = torch.zeros((), dtype=torch.int64)

    def select(self, pool: Outputs, query_size: int, **_: Any) -> Tensor:
        wanted = pool.require("dataset_indices", self.name) % CLASSES == self._queries % CLASSES
        self._queries += 1
        return wanted.nonzero()[:query_size, 0]

    def state_dict(self) -> dict[str, Any]:
        return {"queries": self._queries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._queries = state["queries"]


@pytest.mark.usefixtures("no_page")
def test_what_a_strategy_remembers_goes_on_from_round_to_round(tmp_path: Path) -> None:
    strategy = Counting()
    more = {**TINY, "strategies": [strategy, "Margin"], "rounds": 3}
    study(tmp_path / "whole", **more).run(SmallNet, ImagesData(), trainer())
    found = cells(tmp_path / "whole")
    for replicate in ("r00", "r01"):  # each chain from the beginning, each round from the one before
        chain = [found[f"start-{replicate}"], *(found[f"simulation-{replicate}-Counting-0{i}"] for i in (1, 2, 3))]
        asked = [{position % CLASSES for position in cell["picked"].get("Counting", [])} for cell in chain]
        assert asked == [{0}, {1}, {2}, set()]
        assert [set(cell.get("states", {})) for cell in chain] == [{"Counting"}, {"Counting"}, {"Counting"}, set()]
    assert all("states" not in found[f"simulation-r00-{arm}-01"] for arm in ("random", "Margin"))
    assert int(strategy._queries) == 0

    killed = study(tmp_path / "killed", **more)
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt(monkeypatch, (tmp_path / "killed/cells/simulation-r00-Counting-01.json").exists)
        with pytest.raises(KeyboardInterrupt):
            killed.run(SmallNet, ImagesData(), trainer())
    killed.run(SmallNet, ImagesData(), trainer())
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    picked = {key: (cell["picked"], cell.get("states")) for key, cell in found.items()}
    assert {key: (cell["picked"], cell.get("states")) for key, cell in cells(tmp_path / "killed").items()} == picked


@pytest.mark.usefixtures("no_page")
def test_a_memory_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    class Forgetful(Counting):
        def state_dict(self) -> dict[str, Any]:
            return {"queries": Path("somewhere")}

    report = study(tmp_path, **{**TINY, "strategies": [Forgetful(), "Margin"], "rounds": 2})
    with pytest.raises(ActiveLearningError, match=r"Expected `state_dict` of Forgetful to hold tensors, numbers"):
        report.run(SmallNet, ImagesData(), trainer())


# -- the metric
class Uneven(ImagesData):
    """Nine in ten are of class 0, in training and test."""

    def setup(self, stage: str) -> None:
        def keep(data: TensorDataset) -> Subset[Any]:
            targets = data.tensors[1].tolist()
            return Subset(data, [i for i, y in enumerate(targets) if y == 0 or i % 15 in (1, 2)])

        self.train_set, self.held_out = keep(images(180, 0)), keep(images(120, 1))


@pytest.mark.usefixtures("no_page")
def test_macro_recall_decides_where_it_is_asked_for(tmp_path: Path) -> None:
    report = study(tmp_path, **{**TINY, "replicates": 6}, metric="recall", metrics=["accuracy"]).run(
        SmallNet, Uneven(), trainer()
    )
    found = [row for row in rows(tmp_path) if row["part"] == "simulation" and row["arm"] == "Margin"]

    assert {*found[0]} >= {"recall", "accuracy"}
    assert {*found[0]} & {"f1", "auroc"} == set()
    last = [float(row["recall"]) for row in found if row["round"] == "1"]
    assert report.curves is not None
    assert report.curves["arms"]["Margin"]["mean"][-1] == pytest.approx(100 * np.mean(last))
    assert [row["recall"] for row in found] != [row["accuracy"] for row in found]


@pytest.mark.usefixtures("no_page")
def test_a_metric_outside_of_the_unit_interval_needs_a_delta(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Set `delta`"):
        study(tmp_path, metric="MulticlassMatthewsCorrCoef")
    report = study(tmp_path, **TINY, metric="torchmetrics.classification.MulticlassMatthewsCorrCoef", delta=0.05).run(
        SmallNet, ImagesData(), trainer()
    )
    assert report.metric == {
        "name": "MulticlassMatthewsCorrCoef", "higher_is_better": True, "scale": 1, "unit": ""
    }  # fmt: skip
    assert report.settings["delta"] == 0.05


# -- too few, too little
@pytest.mark.usefixtures("no_page")
def test_few_replicates_are_inconclusive(tmp_path: Path) -> None:
    report = study(tmp_path, **TINY).run(SmallNet, ImagesData(), trainer())
    assert (report.verdict, report.flags[0], report.exploratory) == ("inconclusive", "too_few_replicates", True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategies": []}, "`strategies` to name at least one besides Random"),
        ({"strategies": ["Random"]}, "`strategies` to name at least one besides Random"),
        ({"strategies": "Margin"}, "`strategies` to be a list, but got 'Margin'"),
        ({"strategies": ["Margn"]}, "Did you mean 'Margin'"),
        ({"strategies": ["Margin", "Margin"]}, "`strategies` to have different names"),
        ({"strategies": [3]}, "`strategy` to be a `QueryStrategy` or one of"),
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
        ({"metric": 3}, "Expected a metric to be a name"),
        ({"metrics": "accuracy"}, "`metrics` to be a list"),
        ({"metrics": ["f1", "f1"]}, "`metrics` names 'f1' twice"),
        ({"mode": "quick"}, "`mode` to be 'full' or 'proxy', but got 'quick'"),
        ({"backbone": "resnet18"}, "`backbone` is for mode='proxy'"),
        ({"confirm": True}, "`confirm` is for mode='proxy'"),
        ({"buckets": 1}, "`buckets` to be a whole number of at least 2, but got 1"),
        ({"buckets": 2.5}, "`buckets` to be a whole number of at least 2, but got 2.5"),
        ({"fractions": []}, "`fractions` to be ascending shares"),
        ({"fractions": [0.5, 0.5]}, "`fractions` to be ascending shares"),
        ({"fractions": [0.8, 0.2]}, "`fractions` to be ascending shares"),
        ({"fractions": [0.2, 20]}, "`fractions` to be ascending shares"),
        ({"fractions": 0.2}, "`fractions` to be ascending shares"),
        ({"seeds": 0}, "`seeds` to be a whole number of at least 1, but got 0"),
        ({"replicates": 0}, "`replicates` to be a whole number of at least 1"),
        ({"replicates": True}, "`replicates` to be a whole number of at least 1, but got True"),
        ({"initial": 0}, "`initial` to be a whole number of at least 1"),
        ({"initial": 0.1}, "`initial` to be a whole number of at least 1"),
        ({"query_size": -1}, "`query_size` to be a whole number of at least 1"),
        ({"rounds": 0}, "`rounds` to be a whole number of at least 1"),
        ({"delta": 0}, "`delta` to be a number above 0"),
        ({"delta": float("nan")}, "`delta` to be a number above 0"),
        ({"delta": "1"}, "`delta` to be a number above 0"),
        ({"saving": 0.0}, "`saving` to be a share in"),
        ({"saving": 10}, "`saving` to be a share in"),
        ({"label_cost": -1}, "`label_cost` to be a number above 0, but got -1"),
        ({"label_cost": 1.0, "hour_cost": -2}, "`hour_cost` to be a number above 0, but got -2"),
        ({"hour_cost": 2.0}, "`hour_cost` alone has nothing"),
        ({"workers": 0}, "`workers` to be a number from 1"),
        ({"workers": "all"}, "`workers` to be a number from 1"),
        ({"runner": "ray"}, "`runner` to be"),
        ({"seed": -1}, "`seed` to be a whole number of at least 0"),
        ({"outputs": "scores"}, "`outputs` to be one of"),
        ({"output": 3}, "`output` to be"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FeasibilityStudy(**arguments)


class NoTest(ImagesData):
    """Has a validation set only."""

    test_dataloader = LightningDataModule.test_dataloader


class NothingToTest(NoTest):
    """Has a training set only."""

    val_dataloader = LightningDataModule.val_dataloader


class Stream(ImagesData):
    """Samples without an order."""

    def train_dataloader(self) -> DataLoader[Any]:
        class Endless(IterableDataset[Any]):
            def __iter__(self) -> Any:
                return iter(images(10, 0))

        return DataLoader(Endless(), batch_size=5)


class TwoTests(ImagesData):
    """Two test sets."""

    def test_dataloader(self) -> Any:
        return [super().test_dataloader(), super().test_dataloader()]


class DropsLast(ImagesData):
    """Batches that a first set does not fill."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=16, shuffle=True, drop_last=True)


class OneClass(ImagesData):
    """Nothing but oaks."""

    def setup(self, stage: str) -> None:
        x = images(PILOT, 0).tensors[0]
        self.train_set = TensorDataset(x, torch.zeros(PILOT, dtype=torch.int64))
        self.held_out = images(TEST, 1)


class Curious(QueryStrategy):
    """Needs what nobody collects."""

    needs = Needs(pool=frozenset({"targets"}))

    def select(self, pool: Outputs, query_size: int, **_: Any) -> Tensor:
        raise NotImplementedError  # never asked: the study refuses it first


def used() -> Trainer:
    runner = trainer(max_epochs=1, limit_train_batches=1)
    data = ImagesData()
    runner.fit(SmallNet(), datamodule=data)
    return runner


WRONG_SUBJECTS: dict[str, tuple[dict[str, Any], Any, Any, Any, str]] = {
    "pilot too small for the rounds": ({}, SmallNet, ImagesData(20), trainer, "rounds"),
    "pilot too small for the buckets": (
        {"fractions": [0.02, 1.0]}, SmallNet, ImagesData(), trainer, "must have at least 300. Set fewer"
    ),
    "more labels than the pilot has": ({"rounds": 30}, SmallNet, ImagesData(), trainer, "make 279 labels"),
    "nothing to test on": ({}, SmallNet, NothingToTest(), trainer, "no `test_dataloader` and no `val_dataloader`"),
    "two test sets": ({}, SmallNet, TwoTests(), trainer, "`test_dataloader` to give one loader"),
    "a stream": ({}, SmallNet, Stream(), trainer, "Endless has no fixed order"),
    "a first set below a batch": ({}, SmallNet, DropsLast(), trainer, "leaves no batch to train on"),
    "one class": ({}, SmallNet, OneClass(), trainer, "Every training sample is of class 0"),
    "two devices": ({}, SmallNet, ImagesData(), lambda: trainer(devices=2), "has 2 devices"),
    "a used trainer": ({}, SmallNet, ImagesData(), used, "was used already"),
    "no trainer": ({}, SmallNet, ImagesData(), None, "Expected `trainer` for fits of the whole model"),
    "no epochs": ({}, SmallNet, ImagesData(), lambda: trainer(max_epochs=0), "`max_epochs=0` on the Trainer"),
    "a trainer of another kind": ({}, SmallNet, ImagesData(), 3, "`trainer` to be a lightning.pytorch.Trainer"),
    "a trainer's class": ({}, SmallNet, ImagesData(), lambda: 3, "`trainer` to make a lightning.pytorch.Trainer"),
    "no model": ({}, None, ImagesData(), trainer, "`model` to be a lightning.pytorch.LightningModule"),
    "another kind of model": ({}, lambda: 3, ImagesData(), trainer, "`model` to make a"),
    "no data": ({}, SmallNet, None, trainer, "`datamodule` to be a lightning.pytorch.LightningDataModule"),
    "needs": ({"strategies": [Curious()]}, SmallNet, ImagesData(), trainer, "Curious needs ['targets']"),
    "layer": ({"embedding_layer": "body"}, SmallNet, ImagesData(), trainer, "body"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_SUBJECTS)
def test_what_does_not_fit_a_study_is_refused_before_the_first_fit(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    arguments, model, data, make_trainer, message = WRONG_SUBJECTS[name]
    given = make_trainer() if name == "a used trainer" else make_trainer
    request.getfixturevalue("_unfitted")
    asked = study(tmp_path / "out", **arguments)
    with pytest.raises((ValueError, MisconfigurationException), match=re.escape(message)):
        asked.run(model, data, given)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_page")
def test_a_class_with_one_sample_is_no_hindrance(tmp_path: Path) -> None:
    class Lonely(ImagesData):
        def setup(self, stage: str) -> None:
            x, y = images(PILOT, 0).tensors
            y[y == 2] = 0
            y[-1] = 2
            self.train_set, self.held_out = TensorDataset(x, y), images(TEST, 1)

    report = study(tmp_path, **TINY).run(SmallNet, Lonely(), trainer())
    assert report.pathology is not None
    assert [arm["rare_recall"] is not None for arm in report.pathology["by_strategy"]] == [True, True]


class OnlyOaksInTest(ImagesData):
    """A test set without which AUROC has no meaning."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.held_out = TensorDataset(images(TEST, 1).tensors[0], torch.zeros(TEST, dtype=torch.int64))


@pytest.mark.usefixtures("no_page")
def test_a_metric_that_no_fit_produced_is_named_and_another_has_the_fits(tmp_path: Path) -> None:
    with pytest.raises(ActiveLearningError, match="No fit has a value of 'auroc'"):
        study(tmp_path, **TINY, metric="auroc").run(SmallNet, OnlyOaksInTest(), trainer())
    before = files(tmp_path)
    assert study(tmp_path, **TINY).run(SmallNet, OnlyOaksInTest(), trainer()).metric["name"] == "accuracy"
    assert files(tmp_path) == before


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("monitored", ["val_loss", None])
def test_a_validation_set_that_also_stops_the_fits_is_flagged(monitored: str | None, tmp_path: Path) -> None:
    callbacks = [EarlyStopping(monitored)] if monitored else []
    report = study(tmp_path, **TINY).run(SmallNet, NoTest(), trainer(callbacks=callbacks, limit_val_batches=1.0))

    assert report.data is not None
    assert report.data["test_split"] == "val"
    assert ("test_used_for_selection" in report.flags) == bool(monitored)


# -- prices
@pytest.mark.usefixtures("no_page")
def test_prices_are_reckoned_from_the_same_fits(folder: Path, tmp_path: Path) -> None:
    """Another price or delta in the same folder makes no fit and gives another report."""
    shutil.copytree(folder, tmp_path / "out")
    before = files(tmp_path / "out")
    report = study(tmp_path / "out", label_cost=2.0, hour_cost=5.0, delta=3.0).run(SmallNet, ImagesData(), trainer())

    assert files(tmp_path / "out") == before
    assert report.settings["delta"] == 3.0
    assert report.cost is not None
    arm = next(arm for arm in report.strategies if arm["name"] == report.cost["name"])
    needed, random_labels = arm["labels_to_target"], report.target["random_labels"]
    spent = [row for row in rows(folder, timeless=False) if row["part"] == "simulation"]

    def mean_seconds(name: str, labels: int) -> float:
        mine = [row for row in spent if row["arm"] == name and int(row["labels"]) == labels]
        return float(np.mean([float(row["seconds_fit"]) + float(row["seconds_query"]) for row in mine]))

    def reached(labels: float) -> list[int]:
        return [n for n in (9, 18, 27) if n < labels] + [next(n for n in (9, 18, 27) if n >= labels)]

    hours = sum(mean_seconds(arm["name"], n) for n in reached(needed)) - mean_seconds(
        "random", reached(random_labels)[-1]
    )
    assert report.cost["labels_saved"] == pytest.approx(random_labels - needed)
    assert report.cost["money_saved"] == pytest.approx(2 * (random_labels - needed))
    assert report.cost["hours"] == pytest.approx(hours / 3600)
    assert report.cost["net"] == pytest.approx(2 * (random_labels - needed) - 5 * hours / 3600)


# -- the same folder
@pytest.mark.usefixtures("no_page", "_unfitted")
def test_another_metric_decides_on_the_same_fits(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "out")
    report = study(tmp_path / "out", metric="calibration_error").run(SmallNet, ImagesData(), trainer())
    assert report.metric["higher_is_better"] is False
    alone = compare_curves(folder / "curves.csv", "calibration_error", seed=4)
    assert studies.timeless(alone.to_dict()["strategies"]) == studies.timeless(report.to_dict()["strategies"])


@pytest.mark.usefixtures("no_page", "_unfitted")
def test_a_finished_study_makes_no_fit_again(folder: Path) -> None:
    before, whole = files(folder), answer(folder)
    study(folder).run(SmallNet, ImagesData(), trainer())
    assert files(folder) == before
    assert answer(folder) == whole


def other_test() -> ImagesData:
    class OtherTest(ImagesData):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.held_out = images(TEST, 2)

    return OtherTest()


def other_batches() -> ImagesData:
    class OtherBatches(ImagesData):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(self.train_set, batch_size=8, shuffle=True)

    return OtherBatches()


class Unhelpful(SmallNet):
    """Keeps its step size to itself."""

    def __init__(self, step: float = 0.05) -> None:
        LightningModule.__init__(self)
        self.step = step
        self.layers = SmallNet().layers

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.step)


OTHERS: dict[str, tuple[dict[str, Any], Any, Any, dict[str, Any], str]] = {
    "strategies": ({"strategies": ["Margin"]}, SmallNet, ImagesData, {}, "`strategies.LeastConfidence` was"),
    "query size": ({"query_size": 8}, SmallNet, ImagesData, {}, "`query_size` was 9, and is 8 now"),
    "seed": ({"seed": 5}, SmallNet, ImagesData, {}, "`seed` was 4, and is 5 now"),
    "metrics": ({"metrics": ["f1"]}, SmallNet, ImagesData, {}, "`metrics` was"),
    "hyperparameter": ({}, lambda: SmallNet(lr=0.01), ImagesData, {}, "`subject.hparams.lr` was 0.05, and is 0.01"),
    "epochs": ({}, SmallNet, ImagesData, {"max_epochs": 3}, "`subject.trainer.max_epochs` was 2, and is 3 now"),
    "model": ({}, Unhelpful, ImagesData, {}, "`subject.model` was"),
    "data": ({}, SmallNet, lambda: ImagesData(noise=0.5), {}, "`subject.dataset` was"),
    "test set": ({}, SmallNet, other_test, {}, "`subject.test` was"),
    "batch size": ({}, SmallNet, other_batches, {}, "`subject.batch_size` was 16, and is 8 now"),
    "size of the pilot": ({}, SmallNet, lambda: ImagesData(96), {}, "`subject.pilot` was 90, and is 96 now"),
}  # fmt: skip


@pytest.mark.usefixtures("_unfitted")
@pytest.mark.parametrize("name", OTHERS)
def test_a_folder_of_another_study_is_refused(name: str, folder: Path) -> None:
    arguments, model, data, more, message = OTHERS[name]
    before = files(folder)
    with pytest.raises(RunFolderError, match=re.escape(message)):
        study(folder, **arguments).run(model, data(), trainer(**more))
    assert files(folder) == before


@pytest.mark.usefixtures("no_page")
def test_a_step_size_that_is_no_hyperparameter_is_seen_too(tmp_path: Path) -> None:
    study(tmp_path, **TINY).run(Unhelpful, ImagesData(), trainer())
    with pytest.raises(RunFolderError, match=re.escape("`subject.attributes.step` was 0.05, and is 0.1 now")):
        study(tmp_path, **TINY).run(lambda: Unhelpful(step=0.1), ImagesData(), trainer())


@pytest.mark.usefixtures("no_page")
def test_more_replicates_in_the_same_folder_make_only_the_new_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three, counted = {**TINY, "replicates": 3}, studies.CountedFits(tmp_path / "fits")
    study(tmp_path / "grown", **TINY).run(counted, ImagesData(), trainer())
    before, made = files(tmp_path / "grown"), counted.made
    assert made == 1 + 10  # one is timed

    study(tmp_path / "grown", **three).run(counted, ImagesData(), trainer())
    study(tmp_path / "fresh", **three).run(counted, ImagesData(), trainer())

    assert counted.made == made + 4 + (1 + 14)
    assert {name: kept for name, kept in files(tmp_path / "grown").items() if name in before} == before
    assert answer(tmp_path / "grown") == answer(tmp_path / "fresh")
    assert rows(tmp_path / "grown") == rows(tmp_path / "fresh")
    assert capsys.readouterr().err.count("Study: 4 of 4 fits in ") == 1
    # And fewer are the study that was asked for first, although the folder holds more.
    (tmp_path / "grown/cells/pilot-r01.json").unlink()
    study(tmp_path / "grown", **TINY).run(counted, ImagesData(), trainer())
    assert "Study: 1 of 1 fits in " in capsys.readouterr().err
    study(tmp_path / "small", **TINY).run(counted, ImagesData(), trainer())
    assert answer(tmp_path / "grown") == answer(tmp_path / "small")


class Warns(SmallNet):
    """Warns of what its user can act upon."""

    def on_train_start(self) -> None:
        rank_zero_warn("The learning rate is odd.")


@pytest.mark.usefixtures("no_page")
def test_lightnings_lines_on_each_fit_are_not_shown_and_a_models_own_warning_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.INFO):
        warnings.simplefilter("always")
        study(tmp_path / "out", **TINY).run(Warns, ImagesData(), lambda: trainer(logger=True))
    told = [str(each.message) for each in warned]
    assert "The learning rate is odd." in told
    assert not [text for text in told if re.search("logging interval|treespec|many workers", text)]
    assert "GPU available" not in caplog.text
    assert "The report: " in caplog.text


@pytest.mark.usefixtures("no_page")
def test_a_strategy_with_arguments_is_an_arm_of_its_own(tmp_path: Path) -> None:
    asked = study(tmp_path, **{**TINY, "strategies": [Margin(), LeastConfidence(), "Random"]})
    assert list(asked.strategies) == ["Margin", "LeastConfidence"]


# -- a proxy
PROXY: dict[str, Any] = {"mode": "proxy", "replicates": 6}


@pytest.mark.usefixtures("no_page")
def test_a_proxy_is_the_same_whoever_runs_it_and_keeps_its_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = study(tmp_path / "one", **PROXY).run(SmallNet, ImagesData())
    study(tmp_path / "two", **PROXY, workers=2).run(SmallNet, ImagesData(), trainer())

    # Without a trainer the same: nothing of it reaches the heads.
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert len(cells(tmp_path / "one")) == NUM_FITS + 1
    assert any("linear heads on frozen embeddings" in note for note in one.notes)
    assert one.variance is not None
    assert one.variance["sigma_training"] is one.variance["icc"] is None
    assert one.variance["sigma_data"] > 0

    monkeypatch.setattr(kept_embeddings, "extract", lambda *_, **__: pytest.fail("embeddings were extracted again"))
    before = files(tmp_path / "one")
    again = study(tmp_path / "one", **PROXY, label_cost=1.0).run(SmallNet, ImagesData())
    assert files(tmp_path / "one") == before
    assert again.cost is not None
    more = study(tmp_path / "one", **{**PROXY, "replicates": 8}).run(SmallNet, ImagesData())
    assert (more.replicates, len(cells(tmp_path / "one"))) == (8, NUM_FITS + 1 + 2 * 8)


@pytest.mark.usefixtures("no_page")
def test_a_backbone_of_ones_own_and_its_weights_belong_to_the_study(tmp_path: Path) -> None:
    def backbone(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 5))

    report = study(tmp_path, **PROXY, backbone=backbone(0)).run(SmallNet, ImagesData())
    assert report.settings["backbone"] == "Sequential"
    with np.load(tmp_path / "cells" / "embeddings.npz") as arrays:
        by_hand = backbone(0)(images(PILOT, 0).tensors[0]).detach().numpy()
        np.testing.assert_allclose(arrays["pilot"], by_hand, rtol=1e-5, atol=1e-6)
    with pytest.raises(RunFolderError, match="`backbone_weights` was"):
        study(tmp_path, **PROXY, backbone=backbone(1)).run(SmallNet, ImagesData())


class WithTargets(ImagesData):
    """Wants predictions for three test images."""

    seed = 1

    def target_dataset(self) -> Any:
        return Subset(images(30, self.seed), [2, 0, 1])


class OtherTargets(WithTargets):
    seed = 2


@pytest.mark.usefixtures("no_page")
def test_a_proxys_strategies_read_the_target_set(tmp_path: Path) -> None:
    asked = {**PROXY, "strategies": ["FLQMI"]}
    study(tmp_path / "out", **asked).run(SmallNet, WithTargets())
    with np.load(tmp_path / "out/cells/embeddings.npz") as arrays:
        assert arrays["wanted"].shape == (3, arrays["pilot"].shape[1])
    again = study(tmp_path / "out", **asked).run(SmallNet, WithTargets())  # of kept embeddings
    assert [each["name"] for each in again.strategies] == ["FLQMI"]
    with pytest.raises(RunFolderError, match="`target` was"):
        study(tmp_path / "out", **asked).run(SmallNet, OtherTargets())


@pytest.mark.usefixtures("_unfitted")
@pytest.mark.parametrize(
    ("mode", "strategy", "message"),
    [
        ("proxy", "FLQMI", "FLQMI seeks samples like those of a target set, and the datamodule names none"),
        ("full", "FLQMI", "FLQMI seeks samples like those of a target set, and the datamodule names none"),
        ("proxy", "EPIG", "EPIG reads several draws of the model.*mode='full'"),
        ("proxy", "BALD", "BALD reads several draws of the model.*mode='full'"),
    ],
)
def test_a_strategy_that_cannot_be_served_is_refused_before_anything_is_computed(
    mode: str, strategy: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        study(tmp_path / "out", mode=mode, strategies=[strategy]).run(SmallNet, ImagesData(), trainer())
    assert not (tmp_path / "out").exists()


class Holding(Margin):
    """Has an argument whose repr names an address."""

    def __init__(self) -> None:
        self.helper = object()


@pytest.mark.usefixtures("no_page")
def test_an_address_in_a_repr_is_no_difference(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first, second = Holding(), Holding()
    assert repr(first) != repr(second)
    study(tmp_path, **{**TINY, "strategies": [first]}).run(SmallNet, ImagesData(), trainer())
    request.getfixturevalue("_unfitted")
    study(tmp_path, **{**TINY, "strategies": [second]}).run(SmallNet, ImagesData(), trainer())


@pytest.mark.lightning_compat
@pytest.mark.usefixtures("no_page")
def test_the_whole_model_confirms_a_proxy(tmp_path: Path) -> None:
    more: dict[str, Any] = {"mode": "proxy", "confirm": True, "replicates": 6, "rounds": 1}
    report = study(tmp_path / "out", **more).run(SmallNet, ImagesData(), trainer())

    assert report.confirm is not None
    best = max(report.strategies, key=lambda arm: arm["delta"])["name"]
    assert [arm["name"] for arm in report.confirm["strategies"]] == [best]
    assert report.verdict == report.confirm["verdict"]
    assert report.reasons[-1].startswith("The proxy's linear heads had said")
    # The full study of that arm alone has these very fits, by a seed that is not the proxy's.
    apart: dict[str, Any] = {"replicates": 6, "rounds": 1, "strategies": [best], "seed": 4 + 2**31}
    alone = study(tmp_path / "full", **apart).run(SmallNet, ImagesData(), trainer())
    assert report.seeds == {"seed": 4, "confirm": 4 + 2**31}
    assert report.confirm["seeds"] == {"seed": 4 + 2**31}
    assert (report.confirm["notes"], report.confirm["failures"]) == (alone.notes, [])
    shared = {row["seed"] for row in rows(tmp_path / "out")} & {row["seed"] for row in rows(tmp_path / "full")}
    assert shared == set()
    assert studies.timeless(report.confirm["strategies"]) == studies.timeless(alone.strategies)
    simulated = [row for row in rows(tmp_path / "full") if row["part"] != "design"]
    assert rows(tmp_path / "out/confirm" / best) == simulated

    before = files(tmp_path / "out/confirm" / best)
    again = study(tmp_path / "out", **more).run(SmallNet, ImagesData(), trainer())
    assert files(tmp_path / "out/confirm" / best) == before
    assert studies.timeless(again.to_dict()) == studies.timeless(report.to_dict())


def test_a_proxy_that_is_to_be_confirmed_needs_a_trainer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected `trainer` for fits of the whole model"):
        study(tmp_path / "out", mode="proxy", confirm=True).run(SmallNet, ImagesData())
    assert not (tmp_path / "out").exists()
