"""The small data and models that everything else is shown on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, TensorDataset

from lightning_al.demos import Classifier, DigitsCNN, DigitsDataModule, LinearHead


def fit(model: LightningModule, folder: Path, data: DigitsDataModule | None = None, **options: object) -> Trainer:
    options = {"max_epochs": 1} | options
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(accelerator="cpu", default_root_dir=folder, **quiet, **options)
    if data is not None:
        trainer.fit(model, datamodule=data)
    return trainer


def test_digits_are_all_real_digits_each_once_in_one_split() -> None:
    splits = DigitsDataModule().splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 1197, "val": 200, "test": 400}
    images = torch.cat([split.tensors[0] for split in splits.values()])
    targets = torch.cat([split.tensors[1] for split in splits.values()])
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    assert targets.dtype == torch.int64
    digits = load_digits()
    ours = sorted(
        (*(16 * image).flatten().tolist(), target) for image, target in zip(images, targets.tolist(), strict=True)
    )
    theirs = sorted((*row.tolist(), target) for row, target in zip(digits.data, digits.target.tolist(), strict=True))
    assert ours == theirs


def test_digits_split_is_stratified_and_the_same_whatever_the_seed() -> None:
    torch.manual_seed(1)
    first = DigitsDataModule().splits
    torch.manual_seed(2)
    second = DigitsDataModule(batch_size=7).splits
    for name, split in first.items():
        assert torch.equal(split.tensors[0], second[name].tensors[0])
        share = torch.bincount(split.tensors[1], minlength=10) / len(split)
        assert share.min() > 0.09
        assert share.max() < 0.11


def test_only_the_train_loader_shuffles() -> None:
    data = DigitsDataModule(batch_size=400)
    expected = data.splits["test"].tensors[1]
    assert torch.equal(next(iter(data.test_dataloader()))[1], expected)
    assert torch.equal(next(iter(data.predict_dataloader()))[1], expected)
    first = next(iter(data.train_dataloader()))[1]
    assert not torch.equal(first, data.splits["train"].tensors[1][:400])


def test_logged_accuracy_is_the_accuracy(tmp_path: Path) -> None:
    data, model = DigitsDataModule(), DigitsCNN(width=4)
    trainer = fit(model, tmp_path, data)
    logged = {"val": dict(trainer.callback_metrics), "test": trainer.test(model, data, verbose=False)[0]}
    assert {"train_loss", "val_loss", "val_acc"} == set(logged["val"])
    model.eval()
    for name, metrics in logged.items():
        images, targets = data.splits[name].tensors
        with torch.no_grad():
            logits = model(images)
        assert float(metrics[f"{name}_acc"]) == pytest.approx((logits.argmax(1) == targets).float().mean().item())
        if name == "val":
            expected = torch.nn.functional.cross_entropy(logits, targets).item()
            assert float(metrics["val_loss"]) == pytest.approx(expected, rel=1e-4)


def test_digits_cnn_learns_the_digits(tmp_path: Path) -> None:
    data, model = DigitsDataModule(), DigitsCNN()
    trainer = fit(model, tmp_path, data, max_epochs=5)
    assert trainer.test(model, data, verbose=False)[0]["test_acc"] > 0.95
    predictions = torch.cat(trainer.predict(model, data))
    assert (predictions == data.splits["test"].tensors[1]).float().mean() > 0.95


def test_linear_head_is_as_good_as_scikit_learns_logistic_regression(tmp_path: Path) -> None:
    splits = DigitsDataModule().splits
    (train, train_targets), (test, test_targets) = splits["train"].tensors, splits["test"].tensors
    reference = LogisticRegression(max_iter=2000).fit(train.flatten(1).numpy(), train_targets.numpy())
    expected = reference.score(test.flatten(1).numpy(), test_targets.numpy())
    model = LinearHead(num_features=64, num_classes=10, learning_rate=1e-2)
    loader = DataLoader(TensorDataset(train.flatten(1), train_targets), batch_size=32, shuffle=True)
    fit(model, tmp_path, max_epochs=20).fit(model, loader)
    with torch.no_grad():
        accuracy = (model(test.flatten(1)).argmax(1) == test_targets).float().mean().item()
    assert accuracy == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("model", [DigitsCNN(), LinearHead(3, 2)], ids=lambda model: type(model).__name__)
def test_every_parameter_can_be_drawn_anew(model: Classifier) -> None:
    before = {name: value.clone() for name, value in model.named_parameters()}
    for module in model.modules():
        if list(module.parameters(recurse=False)):
            module.reset_parameters()
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert model.configure_optimizers().param_groups[0]["lr"] == model.learning_rate
