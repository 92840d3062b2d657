"""What active learning costs beyond the fits and the forward passes: four figures, as ratios within one run.

python tests/benchmarks/overhead.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lightning_al import ActiveLearning, ActiveLearningDataModule, Margin, Pool
from lightning_al.demos import DigitsCNN, DigitsDataModule
from lightning_al.labels import labeled_subset
from lightning_al.querying import Querying


class ConvNet(LightningModule):
    """A convolutional net of a few million operations an image, about the least that anybody trains on photos."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(64, classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def seconds(act: Callable[[], Any]) -> float:
    gc.collect()
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def bookkeeping(size: int) -> tuple[float, float]:
    """Seconds and MB of a round's bookkeeping, in a fresh process so that the peak is this work's alone."""
    command = [sys.executable, __file__, "--one_round", str(size)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(out[-2]), float(out[-1])


def one_round(size: int) -> None:
    """Unlabeled indices, the highest scores, labeling, the checkpoint's state: everything but the forward pass."""
    pool, strategy = Pool(size), Margin()
    pool.label(torch.randperm(size, dtype=torch.int32)[:10_000])
    scores = torch.rand(size - 10_000)
    generator = torch.Generator().manual_seed(0)
    strategy.select_from_scores(torch.rand(1000), 100, generator=generator)  # first calls load libraries
    gc.collect()
    # The peak resident size of the process never falls: reset it to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    before, began = peak_megabytes(), time.perf_counter()
    unlabeled = pool.candidates()
    picked = strategy.select_from_scores(scores, 1000, generator=generator)
    pool.label(unlabeled[picked].long(), 1)
    del unlabeled, picked
    pool.state_dict()
    pool.digest()
    print(time.perf_counter() - began, peak_megabytes() - before)


def peak_megabytes() -> float:
    """Peak resident size of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sample_read(repeats: int) -> float:
    """Seconds of reading samples through the labeled subset, over those through torch's own."""

    class Numbers(Dataset[int]):
        def __len__(self) -> int:
            return 100_000

        def __getitem__(self, index: int) -> int:
            return index

    numbers = Numbers()
    indices = torch.randperm(100_000)[:50_000].tolist()
    ours, plain = labeled_subset(numbers, indices, {}), Subset(numbers, indices)
    ratios = []
    for _ in range(repeats):
        mine = seconds(lambda: [ours[i] for i in range(50_000)])
        ratios.append(mine / seconds(lambda: [plain[i] for i in range(50_000)]))
    return statistics.median(ratios)


def query(samples: int, repeats: int) -> float:
    """Seconds of a round's query, selection included, over a bare ``no_grad`` pass on the same pool."""
    images, labels = torch.rand(samples, 3, 32, 32), torch.randint(10, (samples,))
    loader = DataLoader(TensorDataset(images, labels), batch_size=256, shuffle=True)
    ratios: list[float] = []
    original = Querying.pick

    def timed(run: Querying, strategy: Any, round: int, size: int) -> Any:
        model, pool = run.trainer.lightning_module, run.datamodule.pool.unlabeled.tolist()

        @torch.no_grad()
        def bare() -> None:
            model.eval()
            for batch in DataLoader(Subset(loader.dataset, pool), batch_size=256):
                model(batch[0])

        bare()
        for _ in range(repeats):
            ours = seconds(lambda: original(run, strategy, round, size))
            ratios.append(ours / seconds(bare))
        return original(run, strategy, round, size)

    Querying.pick = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            learning = ActiveLearning("Margin", query_size=100, rounds=2, initial=500, dirpath=folder)
            quiet_trainer(learning, enable_checkpointing=False).fit(ConvNet(), loader)
    finally:
        Querying.pick = original
    return statistics.median(ratios)


def checkpoint_growth() -> tuple[float, float]:
    """A round's checkpoint with active learning over a plain fit's: sizes of the same model, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        plain = quiet_trainer(default_root_dir=folder)
        plain.fit(DigitsCNN(width=128), datamodule=DigitsDataModule())
        plain.save_checkpoint(Path(folder) / "plain.ckpt", weights_only=False)
        learning = ActiveLearning("Margin", query_size=100, rounds=2, dirpath=Path(folder) / "run")
        trainer = quiet_trainer(learning, default_root_dir=folder)
        trainer.fit(DigitsCNN(width=128), datamodule=ActiveLearningDataModule(DigitsDataModule()))
        return os.path.getsize(Path(folder) / "run" / "last-round.ckpt"), os.path.getsize(Path(folder) / "plain.ckpt")


def quiet_trainer(*callbacks: Any, **arguments: Any) -> Trainer:
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **arguments,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, to see that it runs")
    parser.add_argument("--one_round", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_round:
        one_round(arguments.one_round)
        return
    quick = arguments.quick
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)

    size = 100_000 if quick else 10_000_000
    took, megabytes = bookkeeping(size)
    rows = [
        (f"bookkeeping of a round, pool of {size:,}: seconds", took, 1.0),
        (f"bookkeeping of a round, pool of {size:,}: MB", megabytes, 100.0),
        ("a sample through the labeled subset / torch's Subset", sample_read(3 if quick else 21), 1.2),
        ("a round's query (Margin) / bare no_grad pass", query(2_000 if quick else 10_000, 1 if quick else 7), 1.10),
    ]
    with_al, plain = checkpoint_growth()
    rows.append(("last-round.ckpt / a plain fit's checkpoint, bytes", with_al / plain, 1.1))
    print(f"{'figure':66s} {'measured':>9s} {'target':>8s}")
    for name, value, target in rows:
        print(f"{name:66s} {value:9.3f} {target:8.2f}  {'met' if value <= target else 'MISSED'}")


if __name__ == "__main__":
    main()
