"""Extraction against running the networks by hand."""

from __future__ import annotations

import copy
import urllib.error
from typing import Any

import pytest
import torch
import torchvision
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from lightning_al import ActiveLearningDataModule
from lightning_al.demos import DigitsCNN, DigitsDataModule
from lightning_al.exceptions import ScoringError
from lightning_al.study.backbones import Embedded, extract, load_backbone


def trainer(**arguments: Any) -> Trainer:
    return Trainer(
        **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": 3} | arguments
    )


class Images(LightningDataModule):
    """Gray images as tuples or dicts; the train loader shuffles, drops and changes them, the others do not."""

    def __init__(self, key: str | None = None, *, images: torch.Tensor | None = None, **test: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(30, 1, 8, 8, generator=generator) if images is None else images
        self.targets = torch.randint(4, (30,), generator=generator)
        self.key, self.test = key, test

    def _set(self, part: slice, noise: float = 0.0) -> Dataset[Any]:
        return _Samples(self.images[part], self.targets[part], self.key, noise)

    def pool_dataset(self) -> Dataset[Any]:
        return self._set(slice(0, 20))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self._set(slice(0, 20), noise=1.0), batch_size=6, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self._set(slice(20, 30)), **{"batch_size": 4} | self.test)


class _Samples(Dataset[Any]):
    def __init__(self, images: torch.Tensor, targets: torch.Tensor, key: str | None, noise: float) -> None:
        self.images, self.targets, self.key, self.noise = images, targets, key, noise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index] + self.noise * torch.rand(1)
        return (image, self.targets[index]) if self.key is None else {"image": image, self.key: self.targets[index]}


class Flat(nn.Module):
    """Embeds by flattening twice the image."""

    def forward(self, batch: Any) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return 2 * (batch["image"] if isinstance(batch, dict) else batch)


def check_digits(found: Embedded, model: DigitsCNN) -> None:
    splits = DigitsDataModule().splits
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for mine, targets, split in (
            (found.pilot, found.pilot_targets, "train"),
            (found.test, found.test_targets, "test"),
        ):
            images, labels = splits[split].tensors
            torch.testing.assert_close(mine, model.features(images), atol=1e-5, rtol=1e-5)
            assert mine.dtype == torch.float32
            assert torch.equal(targets, labels)
    assert found.num_classes == 10


def test_the_models_own_embeddings_in_order():
    model = DigitsCNN()
    weights = copy.deepcopy(model.state_dict())
    check_digits(extract(model, DigitsDataModule(), trainer()), model)
    assert model.training
    assert model._trainer is None
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_factory_is_called_under_the_seed():
    torch.manual_seed(7)
    model = DigitsCNN()
    before = torch.get_rng_state()
    check_digits(extract(DigitsCNN, ActiveLearningDataModule(DigitsDataModule()), trainer, seed=7), model)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_named_layer():
    model = DigitsCNN()
    found = extract(model, DigitsDataModule(), trainer(), embedding_layer="features.6")
    with torch.no_grad():
        expected = model.eval().features[:6](DigitsDataModule().splits["test"].tensors[0])
    torch.testing.assert_close(found.test, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ScoringError, match="no layer 'haed'"):
        extract(model, DigitsDataModule(), trainer(), embedding_layer="haed")


def test_a_target_set_is_embedded_where_it_is_asked_for_and_needs_no_labels():
    class WithTargets(DigitsDataModule):
        def target_dataset(self) -> Any:
            return [(image,) for image, _ in torch.utils.data.Subset(self.splits["test"], [5, 3])]

    model = DigitsCNN()
    found = extract(model, WithTargets(), trainer(), targets=True)
    torch.testing.assert_close(found.wanted, found.test[[5, 3]], atol=1e-5, rtol=1e-5)
    check_digits(found, model)
    assert extract(model, WithTargets(), trainer()).wanted is None
    assert extract(model, DigitsDataModule(), trainer(), targets=True).wanted is None


def test_nothing_is_trained_and_nothing_of_the_users_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []

    class Spy(Callback):
        def setup(self, *args: Any, **kwargs: Any) -> None:
            ran.append("setup")

    class Scheduled(DigitsCNN):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            # raises where the fit's length is 0
            return [optimizer], [
                torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, self.trainer.estimated_stepping_batches)
            ]

        def training_step(self, *args: Any) -> Any:
            ran.append("training_step")
            return super().training_step(*args)

        def test_step(self, *args: Any) -> None:
            ran.append("test_step")

        validation_step = test_step

    given = Trainer(accelerator="cpu", max_epochs=2, callbacks=[Spy()])
    model = Scheduled()
    check_digits(extract(model, DigitsDataModule(), given), model)
    assert ran == []
    assert given.state.fn is None
    assert given.limit_train_batches == 1.0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "backbone"),
    [
        (None, Flat()),
        ("label", Flat),
        ("labels", lambda: Flat()),
        ("target", f"{__name__}.Flat"),
        ("targets", Flat()),
        ("y", Flat()),
    ],
    ids=["tuple-module", "label-class", "labels-function", "target-path", "targets", "y"],
)
def test_a_module_embeds_the_pilot_without_augmentation(key, backbone):
    data = Images(key)
    found = extract(DigitsCNN, data, trainer(), backbone=backbone, outputs="binary", embedding_layer="of the model")
    torch.testing.assert_close(found.pilot, 2 * data.images[:20].flatten(1))
    torch.testing.assert_close(found.test, 2 * data.images[20:].flatten(1))
    assert torch.equal(torch.cat([found.pilot_targets, found.test_targets]), data.targets)


@pytest.mark.parametrize(
    ("test", "rows"),
    [({"batch_size": 4, "drop_last": True}, 8), ({"sampler": [3, 1, 5]}, 3), ({"batch_sampler": [[0, 2], [7]]}, 3)],
)
def test_the_test_set_is_what_its_loader_gives(test, rows):
    if "batch_sampler" in test:
        test = test | {"batch_size": 1}
    data = Images(**test)
    found = extract(DigitsCNN, data, trainer(), backbone=Flat())
    order = test.get("sampler") or [i for batch in test.get("batch_sampler", [range(rows)]) for i in batch]
    torch.testing.assert_close(found.test, 2 * data.images[20:][list(order)].flatten(1))
    assert torch.equal(found.test_targets, data.targets[20:][list(order)])


def test_a_test_set_without_a_length():
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from ((data.images[i], data.targets[i]) for i in range(20, 27))

    data = Images()
    data.val_dataloader = lambda: DataLoader(Stream(), batch_size=3)
    found = extract(DigitsCNN, data, trainer(), backbone=Flat())
    torch.testing.assert_close(found.test, 2 * data.images[20:27].flatten(1))


def test_bad_embeddings_are_told():
    class Whole(nn.Module):
        def forward(self, images: torch.Tensor) -> Any:
            return {"features": images}

    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) / 0

    with pytest.raises(ScoringError, match="floating-point embedding a sample"):
        extract(DigitsCNN, Images(), trainer(), backbone=Whole())
    with pytest.raises(ScoringError, match=r"not finite|NaN or infinite"):
        extract(DigitsCNN, Images(), trainer(), backbone=Broken())


def test_several_devices_are_refused():
    with pytest.raises(MisconfigurationException, match="2 devices"):
        extract(DigitsCNN, Images(), trainer(devices=2))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet-18", r"but got 'resnet-18'. Close to it: \['resnet18'"),
        ("my_project.Missing", r"'my_project.Missing'. \(No module named 'my_project'\)"),
        ("torch.nn.Missing", "has no attribute 'Missing'"),
        ("torch.float32", "torch.nn.Module or what makes one"),
        (lambda: 3, "torch.nn.Module or what makes one"),
        (5, "but got 5"),
    ],
)
def test_an_unknown_backbone_is_refused(backbone, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(backbone)


# -- torchvision, without a network
@pytest.fixture
def resnet(monkeypatch) -> nn.Module:
    """A ResNet-18 whose weights take the place of the downloaded ones."""
    torch.manual_seed(3)
    network = torchvision.models.resnet18().eval()
    asked = []

    def load(url: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(url)
        return network.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    yield network
    assert set(asked) == {torchvision.models.ResNet18_Weights.DEFAULT.url}


def features(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    network.fc = nn.Identity()
    with torch.no_grad():
        return network(torchvision.models.ResNet18_Weights.DEFAULT.transforms()(images))


def test_a_torchvision_backbone_with_the_transforms_of_its_weights(resnet):
    data = Images(
        images=torch.randint(0, 256, (30, 1, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    )
    data.pool_dataset = lambda: TensorDataset(data.images[:3].repeat(1, 3, 1, 1), data.targets[:3])
    data.train_dataloader = lambda: DataLoader(data.pool_dataset(), batch_size=3)
    data.val_dataloader = lambda: DataLoader(TensorDataset(data.images[20:22], data.targets[20:22]), batch_size=2)
    found = extract(DigitsCNN, data, trainer(), backbone="resnet18", outputs="binary")
    expected = features(resnet, data.images[[0, 1, 2, 20, 21]].repeat(1, 3, 1, 1))
    torch.testing.assert_close(torch.cat([found.pilot, found.test]), expected, atol=1e-4, rtol=1e-4)


def test_images_that_are_normalized_already_are_told_once(resnet):
    network = load_backbone("resnet18").eval()
    with torch.no_grad():
        network(torch.rand(1, 3, 8, 8))
        network(torch.rand(1, 3, 8, 8) - 3)  # it looked at the first batch
    network = load_backbone("resnet18").eval()
    with torch.no_grad(), pytest.warns(UserWarning, match=r"normalizes images in \[0, 1\].* from -3.0 to -2"):
        network(torch.tensor([-3.0, -2.0]).repeat(1, 3, 4, 4))
    del resnet


def test_what_is_no_image_is_refused(monkeypatch):
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: torchvision.models.resnet18().state_dict()
    )
    network = load_backbone("resnet18")
    for given, got in (
        (torch.rand(2, 4, 8, 8), r"\(2, 4, 8, 8\)"),
        (torch.rand(2, 8), r"\(2, 8\)"),
        ({"x": 1}, "a dict"),
    ):
        with pytest.raises(MisconfigurationException, match=f"takes images .* but got {got}"):
            network(given)


def test_no_network_says_what_to_do(monkeypatch):
    def load(*args: Any, **kwargs: Any) -> Any:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    with pytest.raises(
        MisconfigurationException, match=r"'resnet18' cannot be read .*download https://.*resnet18-.*\.pth"
    ):
        extract(DigitsCNN, Images(), trainer(), backbone="resnet18")
