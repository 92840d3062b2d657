"""Plant Seedlings V2, 12 species: photos at 32 px, or the features of a frozen network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from examples import DataError

PHOTOS = "plant_seedlings_v2_32.npz"
FEATURES = "plant_seedlings_v2_effnetlite0_224.npz"


class SeedlingsDataModule(LightningDataModule):
    """What photos and features share: the split, the loaders, and the scoring of the pool without augmentation.

    Training uses the file's training split. Every fifth held-out photo validates, the others test.

    Args:
        data_dir: The folder with the ``.npz`` file.
        file: The file's name, where it is another.
        batch_size: Samples in a training batch.
        num_workers: Processes that load data; 0 is fastest, since everything is in memory.
    """

    num_classes = 12
    usual_file: str
    array: str
    """The file's array of inputs."""

    def __init__(self, data_dir: Path, file: str | None = None, batch_size: int = 32, num_workers: int = 0) -> None:
        super().__init__()
        self.path = Path(data_dir) / (file or self.usual_file)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._splits: dict[str, TensorDataset] | None = None

    def _inputs(self, array: Tensor, is_train: Tensor) -> Tensor:
        """Return what the model sees (N, ...), of the file's array; only samples for training may be summed up."""
        raise NotImplementedError  # each of the two datamodules has its own

    def setup(self, stage: str) -> None:
        """Read the file once."""
        if self._splits is not None:
            return
        array, labels, split = (torch.from_numpy(each) for each in read_npz(self.path, self.array))
        inputs, is_train = self._inputs(array, split == 0), split == 0
        held_out = torch.nonzero(~is_train).flatten()
        val = torch.zeros(len(held_out), dtype=torch.bool)
        val[::5] = True
        parts = {"train": is_train, "val": held_out[val], "test": held_out[~val]}
        self._splits = {name: TensorDataset(inputs[part], labels[part]) for name, part in parts.items()}

    def _split(self, name: str) -> TensorDataset:
        self.setup("fit")
        assert self._splits is not None
        return self._splits[name]

    def training_dataset(self) -> Dataset[tuple[Tensor, ...]]:
        """Return what one trains on; subclasses augment it here."""
        return self._split("train")

    def pool_dataset(self) -> Dataset[tuple[Tensor, ...]]:
        """Return the same samples in the same order without augmentation: what a query scores."""
        return self._split("train")

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the training samples, shuffled."""
        return DataLoader(
            self.training_dataset(), batch_size=self.batch_size, shuffle=True, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the validation samples."""
        return DataLoader(self._split("val"), batch_size=256, num_workers=self.num_workers)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the test samples."""
        return DataLoader(self._split("test"), batch_size=256, num_workers=self.num_workers)


class SeedlingsPhotos(SeedlingsDataModule):
    """Photos (3, 32, 32) as floats in [-1, 1], with random flips and quarter turns for training.

    Args:
        data_dir: The folder with ``plant_seedlings_v2_32.npz``.
        file: The file's name, where it is another.
        batch_size: Samples in a training batch.
        num_workers: Processes that load data; 0 is fastest, since everything is in memory.
    """

    usual_file, array = PHOTOS, "images"

    def _inputs(self, array: Tensor, is_train: Tensor) -> Tensor:
        return array.permute(0, 3, 1, 2).float() / 127.5 - 1

    def training_dataset(self) -> Dataset[tuple[Tensor, ...]]:
        """Return the photos, flipped and turned at random each time one is read."""
        return FlippedAndTurned(self._split("train"))


class SeedlingsFeatures(SeedlingsDataModule):
    """Features of a frozen network, standardized by mean and deviation of the training split.

    Args:
        data_dir: The folder with ``plant_seedlings_v2_effnetlite0_224.npz``.
        file: The file's name, where it is another.
        batch_size: Samples in a training batch.
        num_workers: Processes that load data; 0 is fastest, since everything is in memory.
    """

    usual_file, array = FEATURES, "embeddings"

    def _inputs(self, array: Tensor, is_train: Tensor) -> Tensor:
        features = array.float()  # stored as float16, too coarse to sum up
        mean, std = features[is_train].mean(0), features[is_train].std(0)
        return (features - mean) / std.clamp_min(1e-6)


class FlippedAndTurned(Dataset[tuple[Tensor, ...]]):
    """Another data set's images, each mirrored or not and turned by a multiple of 90 degrees.

    A seedling seen from above has no upright position, so all eight views are as likely.

    Args:
        dataset: Gives images (C, H, W) with H equal to W, and targets.
    """

    def __init__(self, dataset: TensorDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image, target = self.dataset[index]
        view = int(torch.randint(8, ()))
        if view >= 4:
            image = image.flip(-1)
        return torch.rot90(image, view % 4, (-2, -1)), target


def read_npz(path: Path, inputs: str) -> list[np.ndarray]:
    """Read inputs, labels and split.

    Args:
        path: An ``.npz`` file, without pickled objects.
        inputs: The name of the array with the inputs.

    Returns:
        The arrays ``inputs``, ``labels`` and ``split``.

    Raises:
        DataError: No such file, an array is missing, or the lengths differ.
    """
    if not path.is_file():
        raise DataError(
            f"There is no {path}: set `data_dir` to the folder that holds {path.name}. "
            "examples/seedlings/README.md says how to make it."
        )
    names = (inputs, "labels", "split")
    with np.load(path, allow_pickle=False) as archive:
        missing = [name for name in names if name not in archive]
        if missing:
            raise DataError(f"{path} lacks the arrays {missing}; it holds {sorted(archive)}.")
        arrays = [archive[name] for name in names]
    lengths = {name: len(array) for name, array in zip(names, arrays, strict=True)}
    if len(set(lengths.values())) != 1:
        raise DataError(f"The arrays of {path} differ in length: {lengths}.")
    return arrays
