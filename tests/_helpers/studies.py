"""A feasibility study small enough to run in seconds: images of 4 x 4 pixels, three classes, a small network."""

from __future__ import annotations

import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_al import FeasibilityStudy, durable
from lightning_al.study.design import Design

PILOT, TEST, CLASSES = 90, 60, 3


def images(size: int, seed: int, noise: float = 0.35) -> TensorDataset:
    """Images (1, 4, 4) whose bright row tells the class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(size) % CLASSES
    x = noise * torch.randn(size, 1, 4, 4, generator=generator)
    x[torch.arange(size), 0, targets] += 0.5
    return TensorDataset(x, targets)


class ImagesData(LightningDataModule):
    """90 images to train on, 60 to test, and as many to validate."""

    class_names = ("oak", "elm", "ash <b>")
    num_classes = CLASSES

    def __init__(self, size: int = PILOT, noise: float = 0.35) -> None:
        super().__init__()
        self.size, self.noise = size, noise

    def setup(self, stage: str) -> None:
        self.train_set: Dataset[Any] = images(self.size, 0, self.noise)
        self.held_out: Dataset[Any] = images(TEST, 1, self.noise)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=16, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.held_out, batch_size=60)

    def test_dataloader(self) -> Any:
        return DataLoader(self.held_out, batch_size=60)


class SmallNet(LightningModule):
    """One hidden layer with dropout."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


TRAINER: dict[str, Any] = {
    "max_epochs": 2,
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "limit_val_batches": 0,
}

STUDY: dict[str, Any] = {
    "strategies": ["LeastConfidence", "Margin"],
    "buckets": 3,
    "fractions": [0.5, 1.0],
    "seeds": 2,
    "replicates": 6,
    "initial": 9,
    "query_size": 9,
    "rounds": 2,
    "workers": 1,
    "seed": 4,
}
NUM_FITS = 3 * 2 * 2 + 6 * (1 + 1 + 3 * 2)


def trainer(**more: Any) -> Trainer:
    """The trainer of each fit."""
    return Trainer(**{**TRAINER, **more})


def study(output: str | Path, **more: Any) -> FeasibilityStudy:
    """The study, with other arguments."""
    return FeasibilityStudy(**{**STUDY, "output": output, **more})


def design(**more: Any) -> Design:
    """What the study plans."""
    planned = Design(PILOT, 9, 9, 2, 6, 3, (0.5, 1.0), 2, ("LeastConfidence", "Margin"), seed=4)
    return replace(planned, **more)


def config(output: str = "out", **sections: Any) -> dict[str, Any]:
    """The same as a file for the command line, with other sections."""
    return {
        "seed_everything": 1,
        "trainer": TRAINER,
        "model": "tests._helpers.studies.SmallNet",
        "data": "tests._helpers.studies.ImagesData",
        "study": {**STUDY, "output": output},
        **sections,
    }


def write_config(folder: Path, **sections: Any) -> None:
    """Write ``study.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(config(**sections)))


def command_line(*more: str) -> None:
    """``lightning-al study --config study.yaml ...`` in this process."""
    from lightning_al.cli import main

    main(["study", "--config", "study.yaml", *more])


class CountedFits:
    """A function that makes models and notes each fit in a file, whichever process it is made in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> LightningModule:
        path = self.path

        class Counted(SmallNet):
            def on_fit_start(self) -> None:
                handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.write(handle, b".")
                os.close(handle)

        Counted.__qualname__ = "SmallNet"
        return Counted()

    @property
    def made(self) -> int:
        """How many."""
        return self.path.stat().st_size if self.path.exists() else 0


# -- what a study left
def answer(folder: Path) -> dict[str, Any]:
    """``feasibility.json`` without times."""
    return timeless(json.loads((folder / "feasibility.json").read_text()))


def timeless(value: Any) -> Any:
    """A report or part of one without the seconds it took."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if not key.startswith("seconds")}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def rows(folder: Path, timeless: bool = True) -> list[dict[str, str]]:
    """The rows of ``curves.csv``, without times and memory."""
    with (folder / "curves.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    hidden = ("seconds", "peak_memory") if timeless else ()
    return [{key: value for key, value in row.items() if not key.startswith(hidden)} for row in found]


def files(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, time of change and content of each finished cell."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in (folder / "cells").glob("*")
        if not path.name.startswith(".")
    }


# -- processes to be ended
def quick_command_line(*more: str) -> None:
    """The command line without figures, which take longer than all else."""
    from lightning_al.study import page

    page.write_page = lambda report, folder: None
    command_line(*more)


def killed_command_line(
    fatal: int | None, notes: Path, number: int = signal.SIGKILL, only: str = "", *more: str
) -> None:
    """The command line, which gets a signal at a moment, or none.

    Args:
        fatal: The number of the moment.
        notes: The file that lists the moments.
        number: The signal.
        only: The kind of moments that count; by default all.
        more: Arguments of the command line.
    """
    taken = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    count = 0

    def pass_by(moment: str) -> None:
        nonlocal count
        if only and not moment.startswith(only):
            return
        os.write(taken, f"{moment}\n".encode())
        count += 1
        if fatal is not None and count == fatal + 1:
            os.kill(os.getpid(), number)

    write_atomically, step = durable.write_atomically, SmallNet.training_step

    def watched_write(path: Any, data: bytes) -> None:
        path = Path(path)
        kind = "settings" if path.name == "settings.json" else "cell" if path.parent.name == "cells" else "conclusion"
        pass_by(f"{kind}: before {path.name}")
        if fatal is not None and count == fatal:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.tmp").write_bytes(data[: len(data) // 2])
        pass_by(f"{kind}: half of {path.name}")
        write_atomically(path, data)
        pass_by(f"{kind}: after {path.name}")

    def watched_step(model: SmallNet, batch: Any, batch_idx: int) -> Tensor:
        pass_by("fit: batch")
        return step(model, batch, batch_idx)

    durable.write_atomically = watched_write
    SmallNet.training_step = watched_step
    quick_command_line(*more)
