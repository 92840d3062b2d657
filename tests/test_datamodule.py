"""The wrapper shows the wrapped datamodule through, and its train loader gives the labeled samples only."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lightning_al import ActiveLearning, ActiveLearningDataModule
from lightning_al.exceptions import PoolError, ResumeError
from tests._helpers.rounds_fixtures import Net, Points, PointsData, make_trainer

SIZE = 20


def numbers(size: int = SIZE, shift: float = 0.0) -> TensorDataset:
    return TensorDataset(torch.arange(size).float().unsqueeze(1) + shift, torch.arange(size) % 3)


def collate_reversed(samples: list[Any]) -> Any:
    return torch.utils.data.default_collate(samples[::-1])


def seed_worker(worker: int) -> None:
    torch.manual_seed(worker)


class Data(LightningDataModule):
    """Numbers; counts its hooks; has attributes of many kinds, some with the names of the wrapper's own."""

    classes = ("a", "b", "c")

    def __init__(self, batch_size: int = 4, lr: float = 0.1, **loader: Any) -> None:
        super().__init__()
        self.save_hyperparameters("batch_size", "lr")
        self.batch_size = batch_size
        self.seed = 42
        self.fingerprint = "its own"
        self._threads = 3
        self.loader = loader
        self.calls: list[str] = []
        self._scale = 1.0

    @property
    def scale(self) -> float:
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        self._scale = value

    def setup(self, stage: str) -> None:
        self.calls.append(f"setup {stage}")
        self.dataset = numbers()

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset, **({"batch_size": self.batch_size, "shuffle": True} | self.loader))

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._scale = state_dict["scale"]


class Hooked(Data):
    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def teardown(self, stage: str) -> None:
        self.calls.append(f"teardown {stage}")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(numbers())

    def on_exception(self, exception: BaseException) -> None:
        self.calls.append("on_exception")


def wrap(data: LightningDataModule | None = None, **arguments: Any) -> ActiveLearningDataModule:
    wrapper = ActiveLearningDataModule(Data() if data is None else data, **({"initial": [7, 3, 11]} | arguments))
    wrapper.setup("fit")
    return wrapper


# -- transparency
def test_unknown_attributes_reach_the_wrapped_datamodule() -> None:
    inner = Data()
    wrapper = wrap(inner)
    assert wrapper.classes == ("a", "b", "c")
    assert wrapper.batch_size == 4
    assert wrapper.scale == 1.0
    assert wrapper._threads == 3
    assert wrapper.dataset is inner.dataset
    assert dict(wrapper.hparams) == {"batch_size": 4, "lr": 0.1}
    assert dict(wrapper.hparams_initial) == {"batch_size": 4, "lr": 0.1}
    with pytest.raises(AttributeError, match=r"Data.*no attribute 'missing'"):
        _ = wrapper.missing
    assert not hasattr(wrapper, "missing")


def test_setting_reaches_it_too() -> None:
    inner = Data()
    wrapper = wrap(inner)
    wrapper.batch_size = 5
    wrapper.scale = 2.5
    wrapper.prepare_data_per_node = False
    assert (inner.batch_size, inner.scale, inner.prepare_data_per_node) == (5, 2.5, False)
    assert wrapper.train_dataloader().batch_size == 5
    wrapper.hparams.batch_size = 6
    assert inner.hparams.batch_size == 6
    wrapper.note = "new"
    assert not hasattr(inner, "note")


def test_attributes_of_the_same_name_stay_apart() -> None:
    inner = Data()
    wrapper = wrap(inner, seed=1)
    assert (inner.seed, inner.fingerprint) == (42, "its own")
    assert wrapper.seed == 1
    assert wrapper.fingerprint != "its own"
    wrapper.seed = 2
    assert (wrapper.seed, inner.seed) == (2, 42)


@pytest.mark.parametrize("value", [True, False])
def test_prepare_data_per_node_is_the_wrapped_ones(value: bool) -> None:
    inner = Data()
    inner.prepare_data_per_node = value
    assert wrap(inner).prepare_data_per_node is value


HOOKS = [
    "prepare_data",
    "on_after_batch_transfer",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_exception",
]


@pytest.mark.parametrize("kind", [Data, Hooked])
@pytest.mark.parametrize("hook", HOOKS)
def test_only_overridden_hooks_are_forwarded(kind: type[Data], hook: str) -> None:
    inner = kind()
    assert is_overridden(hook, wrap(inner)) == is_overridden(hook, inner)


def test_hooks_of_from_datasets_are_forwarded() -> None:
    inner = LightningDataModule.from_datasets(numbers(), val_dataset=numbers(5), batch_size=2)
    wrapper = wrap(inner)
    assert len(wrapper.val_dataloader().dataset) == 5
    assert len(wrapper.train_dataloader().dataset) == 3
    assert not is_overridden("test_dataloader", wrapper)


def test_forwarded_hooks_run_on_the_wrapped_datamodule() -> None:
    inner = Hooked()
    wrapper = wrap(inner)
    wrapper.prepare_data()
    wrapper.on_exception(RuntimeError())
    wrapper.teardown("fit")
    assert inner.calls == ["setup fit", "prepare_data", "on_exception", "teardown fit"]


def test_the_trainer_is_known_to_both() -> None:
    inner = Data()
    wrapper = wrap(inner)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    wrapper.trainer = trainer
    assert wrapper.trainer is trainer
    assert inner.trainer is trainer


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_are_whole_and_apart(how: str) -> None:
    wrapper = wrap(Hooked())
    wrapper.label([5], [2])
    twin = copy.deepcopy(wrapper) if how == "deepcopy" else pickle.loads(pickle.dumps(wrapper))
    assert twin.pool.digest() == wrapper.pool.digest()
    assert twin.datamodule is not wrapper.datamodule
    assert (twin.seed, twin.datamodule.seed) == (0, 42)
    twin.batch_size = 9
    twin.label([6])
    twin.prepare_data()  # a forwarded hook is bound to the copy
    assert wrapper.batch_size == 4
    assert wrapper.labeled_indices().tolist() == [7, 3, 11, 5]
    assert wrapper.calls == ["setup fit"]
    assert twin.calls == ["setup fit", "prepare_data"]


# -- setup
def test_the_wrapped_datamodule_is_set_up_once_until_torn_down() -> None:
    inner = Hooked()
    wrapper = ActiveLearningDataModule(inner, initial=4)
    wrapper.setup("fit")
    first = inner.dataset
    wrapper.setup("fit")
    assert inner.dataset is first
    wrapper.setup("test")
    wrapper.teardown("fit")
    wrapper.setup("fit")
    assert inner.calls == ["setup fit", "setup test", "teardown fit", "setup fit"]
    assert len(wrapper.labeled_indices()) == 4


def test_the_callback_does_not_set_up_again_what_it_wraps(tmp_path: Any) -> None:
    class Counted(PointsData):
        calls = 0

        def setup(self, stage: str) -> None:
            self.calls += 1

    inner = Counted()
    callback = ActiveLearning("Random", query_size=4, rounds=2, initial=8)
    make_trainer(tmp_path, [callback], max_epochs=1).fit(Net(), datamodule=inner)
    assert inner.calls == 1
    assert callback.history[-1]["labeled"] == 12


def test_the_pool_before_setup_says_what_to_call() -> None:
    with pytest.raises(MisconfigurationException, match=r"known after `setup\('fit'\)`"):
        _ = ActiveLearningDataModule(Data()).pool


@pytest.mark.parametrize(
    ("initial", "count"), [(5, 5), (0.25, 5), ([1, 2], 2), ((1, 2), 2), (range(3), 3), (torch.tensor([4, 9]), 2)]
)
def test_initial_labels(initial: Any, count: int) -> None:
    wrapper = wrap(initial=initial)
    assert len(wrapper.labeled_indices()) == count
    assert wrapper.labeled_indices().dtype == torch.int64
    assert sorted([*wrapper.labeled_indices().tolist(), *wrapper.unlabeled_indices().tolist()]) == list(range(SIZE))
    if not isinstance(initial, (int, float)):
        assert wrapper.labeled_indices().tolist() == list(initial)


def test_initial_labels_are_drawn_by_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = wrap(initial=6, seed=5).labeled_indices()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(one, wrap(initial=6, seed=5).labeled_indices())
    assert not torch.equal(one, wrap(initial=6, seed=6).labeled_indices())
    torch.manual_seed(1)
    wrap(initial=6, seed=5)
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_that_does_not_fit_the_data() -> None:
    with pytest.raises(ValueError, match="`initial` does not fit the training set: Index 20 is outside the dataset of"):
        wrap(initial=[0, 20])
    with pytest.raises(ValueError, match="`initial` asks for 21 samples and the training set has 20"):
        wrap(initial=21)


# -- loaders
def test_batches_equal_those_of_torchs_subset() -> None:
    for shuffle in (False, True):
        wrapper = wrap(Data(shuffle=shuffle, batch_size=2))
        torch.manual_seed(3)
        ours = list(wrapper.train_dataloader())
        torch.manual_seed(3)
        theirs = list(DataLoader(Subset(numbers(), [7, 3, 11]), batch_size=2, shuffle=shuffle))
        assert len(ours) == len(theirs) == 2
        for mine, its in zip(ours, theirs, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))


def test_the_train_loader_keeps_the_users_arguments() -> None:
    generator = torch.Generator()
    given = {
        "batch_size": 3,
        "num_workers": 2,
        "collate_fn": collate_reversed,
        "pin_memory": True,
        "timeout": 7.0,
        "worker_init_fn": seed_worker,
        "multiprocessing_context": "spawn",
        "generator": generator,
        "prefetch_factor": 5,
        "persistent_workers": True,
        "drop_last": True,
    }
    wrapper = wrap(Data(**given))
    loader = wrapper.train_dataloader()
    for name in given.keys() - {"multiprocessing_context"}:
        assert getattr(loader, name) == given[name], name
    assert loader.multiprocessing_context.get_start_method() == "spawn"
    assert loader.generator is generator
    scoring = wrapper.scoring_dataloader(wrapper.unlabeled_indices())
    for name in ("batch_size", "num_workers", "collate_fn", "pin_memory", "worker_init_fn", "prefetch_factor"):
        assert getattr(scoring, name) == given[name], name
    assert scoring.drop_last is False
    assert scoring.persistent_workers is False
    assert scoring.generator is None  # else a query would change the shuffle of the next fit


def test_the_scoring_loader_keeps_the_order() -> None:
    wrapper = wrap(Data(batch_size=3, in_order=False, drop_last=True))
    indices = torch.tensor([19, 0, 5, 4, 8, 12, 1])
    loader = wrapper.scoring_dataloader(indices)
    assert loader.in_order
    assert torch.cat([batch[0] for batch in loader]).flatten().tolist() == indices.tolist()
    assert [len(batch[0]) for batch in loader] == [3, 3, 1]
    assert wrapper.scoring_batch_size() == 3


def test_new_labels_are_in_the_next_train_loader() -> None:
    wrapper = wrap(Data(shuffle=False))
    wrapper.label([0, 19])
    wrapper.reject([4])
    batches = torch.cat([batch[0] for batch in wrapper.train_dataloader()])
    assert batches.flatten().tolist() == [7.0, 3.0, 11.0, 0.0, 19.0]
    assert 4 not in wrapper.unlabeled_indices().tolist()


def test_an_oracles_labels_take_the_place_of_targets() -> None:
    wrapper = wrap(Data(shuffle=False, batch_size=8))
    wrapper.label([0, 19, 4], [2, None, 1])
    images, targets = next(iter(wrapper.train_dataloader()))
    assert images.flatten().tolist() == [7.0, 3.0, 11.0, 0.0, 19.0, 4.0]
    assert targets.tolist() == [7 % 3, 3 % 3, 11 % 3, 2, 19 % 3, 1]
    assert targets.dtype == torch.int64


@pytest.mark.parametrize("labels", [torch.tensor([2, 1]), np.array([2, 1]), [np.int64(2), torch.tensor(1)]])
def test_labels_of_any_number_type(labels: Any) -> None:
    wrapper = wrap(Data(shuffle=False, batch_size=8))
    wrapper.label([0, 19], labels)
    assert next(iter(wrapper.train_dataloader()))[1].tolist()[3:] == [2, 1]
    assert through_a_file(wrapper.state_dict())["labels"] == {"0": 2, "19": 1}


def test_labels_of_another_number_are_refused() -> None:
    wrapper = wrap()
    with pytest.raises(PoolError, match="Got 1 labels for 2 indices"):
        wrapper.label([0, 1], [2])
    assert wrapper.labeled_indices().tolist() == [7, 3, 11]


def test_a_training_set_that_changes_is_refused() -> None:
    inner = Data()
    wrapper = wrap(inner)
    inner.dataset = numbers(15)
    with pytest.raises(MisconfigurationException, match=r"had 20 samples and now has 15.*Split the data once"):
        wrapper.train_dataloader()


# -- the pool's own dataset
class Augmented(Dataset[Any]):
    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        return torch.rand(1) + index, index % 3


class AugmentedData(Data):
    def setup(self, stage: str) -> None:
        self.dataset = Augmented()


class WithPool(AugmentedData):
    def pool_dataset(self) -> Dataset[Any]:
        return numbers(shift=100.0)


def first_scored(wrapper: ActiveLearningDataModule) -> float:
    return float(next(iter(wrapper.scoring_dataloader(torch.tensor([4]))))[0])


def test_pool_dataset_comes_from_the_argument_then_the_method_then_the_training_set() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert first_scored(wrap(WithPool(), pool_dataset=numbers(shift=50.0))) == 54.0
        assert first_scored(wrap(WithPool())) == 104.0
        assert first_scored(wrap(Data())) == 4.0
        assert float(wrap(WithPool()).preview(4)[0]) == 104.0


def test_an_augmented_pool_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match=r"looks augmented.*`pool_dataset\(\)` on AugmentedData") as caught:
        wrap(AugmentedData())
    assert len(caught) == 1


class PlainAugmented(PointsData):
    def __init__(self) -> None:
        super().__init__()
        self.train_set = AugmentedPoints()


class AugmentedPoints(Points):
    def __getitem__(self, index: int) -> Any:
        x, target, index = super().__getitem__(index)
        return x + torch.rand(2), target, index


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (
            lambda: {"datamodule": ActiveLearningDataModule(PlainAugmented(), initial=8)},
            "a method `pool_dataset()` on PlainAugmented, or ActiveLearningDataModule(pool_dataset=...).",
        ),
        (
            lambda: {"datamodule": PlainAugmented()},
            "a method `pool_dataset()` on PlainAugmented, or ActiveLearning(pool_dataset=...).",
        ),
        (lambda: {"train_dataloaders": PlainAugmented().train_dataloader()}, "ActiveLearning(pool_dataset=...)."),
    ],
    ids=["wrapped", "plain datamodule", "loaders"],
)
def test_the_warning_names_the_line_that_the_user_wrote(tmp_path: Any, make: Any, remedy: str) -> None:
    given = make()
    own = isinstance(given.get("datamodule"), ActiveLearningDataModule)
    callback = ActiveLearning("Random", query_size=4, rounds=1, initial=None if own else 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_trainer(tmp_path, [callback], max_epochs=1).fit(Net(), **given)
    [told] = [str(w.message) for w in caught if "looks augmented" in str(w.message)]
    assert told.endswith(f"Give the samples without it: {remedy}")


# -- labels that do not fit
def test_labels_are_compared_with_what_their_batch_will_hold() -> None:
    wrapper = wrap()
    wrapper.check_labels({0: 2, 1: None, 2: 1.0})
    with pytest.raises(
        ValueError, match=r"index 4 to be a number, .*\(that of index 7 is tensor\(1\)\), but got 'weed'"
    ):
        wrapper.check_labels({0: 2, 4: "weed"})
    text = ActiveLearningDataModule(Data(), initial=0)
    text.setup("fit")
    with pytest.raises(ValueError, match=r"that of index 5 is tensor\(2\)\), but got \[1\]"):
        text.check_labels({5: [1]})  # nothing is labeled yet: its own target
    text.label_in_round([5], ["weed"], 0)
    text.check_labels({6: "crop"})
    with pytest.raises(ValueError, match=r"index 6 to be text, .*\(that of index 5 is 'weed'\), but got 1"):
        text.check_labels({6: 1})


def test_comparing_labels_draws_nothing() -> None:
    wrapper = wrap(WithPool())
    state = torch.get_rng_state()
    wrapper.check_labels({0: 2})
    assert torch.equal(torch.get_rng_state(), state)


# -- pool datasets that do not fit
class Shapeless:
    """Neither length nor items."""


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (numbers(19), "`pool_dataset` has 19 samples and the training set 20: they must be the same samples"),
        (Shapeless(), "Expected `pool_dataset` to be a map-style dataset.*got a Shapeless"),
    ],
)
def test_pool_datasets_that_do_not_fit(dataset: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        wrap(pool_dataset=dataset)


# -- construction
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": -1}, "Expected `initial` to be at least 0, but got -1"),
        ({"initial": [1, 1]}, "1 stands there twice"),
        ({"initial": 1.5}, "but got 1.5"),
        ({"initial": "all"}, "but got 'all'"),
        ({"seed": 0.5}, "Expected `seed` to be a whole number, but got 0.5"),
        ({"datamodule": numbers()}, "to be a lightning.pytorch.LightningDataModule, but got a TensorDataset"),
        ({"datamodule": ActiveLearningDataModule(Data())}, "is an ActiveLearningDataModule already"),
    ],
)
def test_bad_arguments_fail_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActiveLearningDataModule(**({"datamodule": Data()} | arguments))


def test_a_datamodule_of_the_other_package_is_refused() -> None:
    other = pytest.importorskip("pytorch_lightning", reason="the other package is not installed")
    with pytest.raises(ValueError, match=r"Import it from lightning\.pytorch: the two packages do not mix"):
        ActiveLearningDataModule(other.LightningDataModule())


# -- checkpoints
def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_state_comes_back_with_labels_and_the_wrapped_ones_state() -> None:
    wrapper = wrap(Data(shuffle=False))
    wrapper.scale = 3.0
    wrapper.label([0, 2], [1, "weed"])
    wrapper.reject([5])
    state = through_a_file(wrapper.state_dict())
    other = wrap(Data(shuffle=False), initial=2, seed=9)
    other.load_state_dict(state)
    assert other.pool.digest() == wrapper.pool.digest()
    assert other._labels == {0: 1, 2: "weed"}
    assert other.scale == 3.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PointsData(), "The checkpoint is of a dataset with 20 samples; this one has 48"),
        (Data(), "as many samples \\(20\\), but not the same ones"),
    ],
)
def test_state_of_another_dataset_is_refused(data: LightningDataModule, message: str) -> None:
    state = wrap().state_dict()
    other = wrap(data, initial=2, pool_dataset=None if isinstance(data, PointsData) else numbers(shift=1.0))
    before = other.pool.digest()
    with pytest.raises(ResumeError, match=message):
        other.load_state_dict(state)
    assert other.pool.digest() == before


@pytest.mark.parametrize("change", ["labels", "pool", "index"])
def test_a_tampered_state_is_refused_and_the_pool_is_as_before(change: str) -> None:
    wrapper = wrap()
    wrapper.label([0], [1])
    state = wrapper.state_dict()
    if change == "labels":
        state["labels"] = {"zero": 1}
    elif change == "pool":
        state["pool"]["labeled"] = state["pool"]["labeled"][:-1]
    else:
        del state["labels"]
    other = wrap(initial=2)
    before = other.pool.digest()
    with pytest.raises(PoolError, match="changed"):
        other.load_state_dict(state)
    assert other.pool.digest() == before
