"""Does a strategy beat Random? Whole runs through the callback, paired by seed, on real data.

    python tests/benchmarks/paired_seeds.py digits
    python tests/benchmarks/paired_seeds.py seedlings --data_dir PATH

Every strategy of a seed starts from the same initial labels and the same weights. The figure of merit is the area
under the curve of test accuracy over the labels, in points of accuracy; its difference to Random gets a two-sided 95 %
t interval over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from scipy import integrate, stats
from torch.utils.data import DataLoader, TensorDataset

from lightning_al import ActiveLearning, ActiveLearningDataModule
from lightning_al.demos import DigitsCNN, DigitsDataModule, LinearHead


class TensorsDataModule(LightningDataModule):
    """Tensors in memory; the test set is what each round is measured on, and nothing selects on it."""

    def __init__(self, train: TensorDataset, test: TensorDataset, batch_size: int) -> None:
        super().__init__()
        self.train, self.test, self.batch_size = train, test, batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.test, batch_size=2048)


def digits() -> tuple[Any, Any, dict[str, Any], list[int]]:
    """Small CNN from scratch, 20 to 180 labels by 20."""
    splits = DigitsDataModule().splits
    data = TensorsDataModule(splits["train"], splits["test"], 32)
    return (lambda: DigitsCNN(), lambda: data, {"max_epochs": 40}, [20, 20, 180])


def seedlings(data_dir: Path) -> tuple[Any, Any, dict[str, Any], list[int]]:
    """A linear head on frozen, standardised features, 60 to 660 labels by 60."""
    file = np.load(data_dir / "plant_seedlings_v2_effnetlite0_224.npz", allow_pickle=False)
    features = torch.from_numpy(file["embeddings"].astype(np.float32))
    labels, held_out = torch.from_numpy(file["labels"]), torch.from_numpy(file["split"] == 1)
    mean, std = features[~held_out].mean(0), features[~held_out].std(0)
    features = (features - mean) / std.clamp(min=1e-6)
    train, test = (TensorDataset(features[part], labels[part]) for part in (~held_out, held_out))
    data = TensorsDataModule(train, test, 64)

    def make() -> LinearHead:
        return LinearHead(features.shape[1], 12, learning_rate=1e-3, weight_decay=0.1)

    return (make, lambda: data, {"max_epochs": 30}, [60, 60, 660])


def curve(make: Any, data: Any, trainer_args: dict[str, Any], plan: list[int], strategy: str, seed: int) -> list[float]:
    """Test accuracy (points) after each round."""
    seed_everything(seed, verbose=False)
    model: LightningModule = make()
    initial, query_size, budget = plan
    with tempfile.TemporaryDirectory() as folder:
        learning = ActiveLearning(strategy, query_size=query_size, budget=budget, dirpath=Path(folder) / "run")
        trainer = Trainer(
            **trainer_args,
            accelerator="cpu",
            callbacks=[learning],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            check_val_every_n_epoch=trainer_args["max_epochs"],
        )
        trainer.fit(model, datamodule=ActiveLearningDataModule(data(), initial=initial, seed=seed))
    assert [row["labeled"] for row in learning.history] == list(range(initial, budget + 1, query_size))
    return [100 * row["metrics"]["val_acc"] for row in learning.history]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["digits", "seedlings"])
    parser.add_argument("--data_dir", type=Path, help="folder of the seedlings' npz files")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--strategies", nargs="+", default=["Random", "Margin"])
    parser.add_argument("--output", type=Path, help="folder for curves.csv and the figure")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)

    setting = digits() if arguments.data == "digits" else seedlings(arguments.data_dir)
    initial, step, budget = setting[3]
    labels = np.arange(initial, budget + 1, step)
    curves: dict[str, Any] = {}
    began = time.time()
    for strategy in dict.fromkeys(["Random", *arguments.strategies]):
        curves[strategy] = np.array([curve(*setting, strategy, seed) for seed in range(arguments.seeds)])
        print(
            f"{strategy:16s} {np.round(curves[strategy].mean(0), 1).tolist()}  {time.time() - began:.0f} s", flush=True
        )

    areas = {
        name: integrate.trapezoid(values, labels, axis=1) / (labels[-1] - labels[0]) for name, values in curves.items()
    }
    print(f"\n{'strategy':16s} {'area':>7s} {'over Random, 95 % interval':>30s} {'p':>8s} {'seeds':>6s}")
    for name, area in areas.items():
        gain = area - areas["Random"]
        if name == "Random":
            print(f"{name:16s} {area.mean():7.2f}")
            continue
        half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
        p = stats.ttest_1samp(gain, 0).pvalue
        interval = f"{gain.mean():+.2f} [{gain.mean() - half:+.2f}, {gain.mean() + half:+.2f}]"
        print(f"{name:16s} {area.mean():7.2f} {interval:>30s} {p:8.4f} {len(gain):6d}")
    if arguments.output:
        save(arguments.output, arguments.data, labels, curves)


def save(folder: Path, name: str, labels: Any, curves: dict[str, Any]) -> None:
    """The curves as CSV, and a figure: means, and the 95 % t interval of each mean."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "replicate", "labels", "accuracy"])
        for arm, values in curves.items():
            for seed, row in enumerate(values):
                writer.writerows(
                    [arm.lower(), seed, n, round(float(y) / 100, 5)] for n, y in zip(labels, row, strict=True)
                )
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for (arm, values), color in zip(
        curves.items(), ("#7a7a7a", "#0b6e4f", "#c8553d", "#3d5a80", "#e0a458"), strict=False
    ):
        mean, seeds = values.mean(0), len(values)
        half = stats.t.ppf(0.975, seeds - 1) * values.std(0, ddof=1) / np.sqrt(seeds)
        axes.plot(labels, mean, color=color, label=arm, linewidth=2, marker="o", markersize=4)
        axes.fill_between(labels, mean - half, mean + half, color=color, alpha=0.18, linewidth=0)
    axes.set(
        xlabel="labels", ylabel="test accuracy (%)", title=f"{name.capitalize()}: mean of {seeds} seeds, 95 % interval"
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(folder / f"{name}.png", dpi=160)
    figure.savefig(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
