"""DeepWeeds as published: ``images/``, ``labels/labels.csv`` and the five folds of the paper."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from examples import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPLITS = ("train", "val", "test")


class DeepWeedsDataModule(LightningDataModule):
    """Eight weeds of Australian rangelands and everything else, 17,509 photos of 256 px, in the paper's folds.

    The folder is laid out as published::

        data_dir/images/20160928-140314-0.jpg, ...
        data_dir/labels/labels.csv            Filename,Label,Species
        data_dir/labels/train_subset0.csv     Filename,Label; also val_subset0.csv, test_subset0.csv, ..., 4

    Args:
        data_dir: The folder with ``images`` and ``labels``.
        fold: Which of the paper's five folds, 0 to 4.
        image_size: Side of the square crop the network sees.
        batch_size: Photos in a batch.
        num_workers: Processes that read photos.
    """

    num_classes = 9

    def __init__(
        self,
        data_dir: Path,
        fold: Literal[0, 1, 2, 3, 4] = 0,
        image_size: int = 224,
        batch_size: int = 32,
        num_workers: int = 4,
    ) -> None:
        super().__init__()
        self.data_dir = Path(data_dir)
        self.fold = fold
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.class_names: list[str] = []
        self._rows: dict[str, list[tuple[str, int]]] = {}

    def prepare_data(self) -> None:
        """Look at every photo once, so that a broken one is found now and not in the middle of a round."""
        self._read_labels()
        names = [name for rows in self._rows.values() for name, _ in rows]
        rank_zero_info(f"Checking {len(names):,} photos in {self.data_dir / 'images'}.")
        check_photos(self.data_dir / "images", names)

    def setup(self, stage: str) -> None:
        """Read the label files."""
        self._read_labels()

    def _read_labels(self) -> None:
        if not self._rows:
            self.class_names, self._rows = read_fold(self.data_dir / "labels", self.fold)

    def _photos(self, split: str, transform: Callable[[Image.Image], Tensor]) -> Photos:
        self._read_labels()
        return Photos(self.data_dir / "images", self._rows[split], transform)

    def pool_dataset(self) -> Photos:
        """Return the training photos without augmentation: what a query scores."""
        return self._photos("train", evaluation_transform(self.image_size))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return the training photos, augmented and shuffled."""
        return self._loader(self._photos("train", training_transform(self.image_size)), shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return the validation photos."""
        return self._loader(self._photos("val", evaluation_transform(self.image_size)))

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return the test photos."""
        return self._loader(self._photos("test", evaluation_transform(self.image_size)))

    def _loader(self, photos: Photos, shuffle: bool = False) -> DataLoader[tuple[Tensor, int]]:
        return DataLoader(
            photos,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


class Photos(Dataset[tuple[Tensor, int]]):
    """Photos of a folder and their labels.

    Args:
        folder: Where the photos are.
        rows: File name and label of each.
        transform: Turns an RGB photo into a tensor.
    """

    def __init__(
        self, folder: Path, rows: Sequence[tuple[str, int]], transform: Callable[[Image.Image], Tensor]
    ) -> None:
        self.folder = folder
        self.rows = rows
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        name, label = self.rows[index]
        with Image.open(self.folder / name) as photo:
            return self.transform(photo.convert("RGB")), label


def training_transform(image_size: int) -> v2.Compose:
    """Return random crops, turns, flips and colors: weeds seen from above have no upright position.

    Args:
        image_size: Side of the square result.

    Returns:
        A transform of an RGB photo to a float tensor (3, image_size, image_size).
    """
    return v2.Compose(
        [
            v2.RandomRotation(180),
            v2.RandomResizedCrop(image_size, scale=(0.4, 1.0), ratio=(0.9, 1.1)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
            *_to_tensor(),
        ]
    )


def evaluation_transform(image_size: int) -> v2.Compose:
    """Return the central crop, resized so that 7/8 of the photo's side is seen, as 224 of 256 px.

    Args:
        image_size: Side of the square result.

    Returns:
        A transform of an RGB photo to a float tensor (3, image_size, image_size).
    """
    return v2.Compose([v2.Resize(round(image_size * 8 / 7)), v2.CenterCrop(image_size), *_to_tensor()])


def _to_tensor() -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]


def read_fold(folder: Path, fold: int) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
    """Read the label files of one fold.

    Args:
        folder: The folder with ``labels.csv`` and the folds' files.
        fold: Which fold.

    Returns:
        The class names by label, and by split the rows (file name, label). Where a fold's file contradicts
        ``labels.csv``, the latter's label is taken and a warning names the photo.

    Raises:
        DataError: A label file is missing, lacks a column, or names a photo that ``labels.csv`` does not list.
    """
    published = _read_csv(folder / "labels.csv", ("Filename", "Label", "Species"))
    labels = {row["Filename"]: int(row["Label"]) for row in published}
    species = {int(row["Label"]): row["Species"] for row in published}
    rows: dict[str, list[tuple[str, int]]] = {}
    contradicting = []
    for split in SPLITS:
        path = folder / f"{split}_subset{fold}.csv"
        listed = {row["Filename"]: int(row["Label"]) for row in _read_csv(path, ("Filename", "Label"))}
        unknown = [name for name in listed if name not in labels]
        if unknown:
            raise DataError(f"{path} names {len(unknown)} photos that labels.csv does not list: {_some(unknown)}.")
        contradicting += [
            f"{name} ({label}, not {labels[name]})" for name, label in listed.items() if label != labels[name]
        ]
        rows[split] = [(name, labels[name]) for name in listed]
    if contradicting:
        rank_zero_warn(
            f"{len(contradicting)} labels of fold {fold} differ from labels.csv, whose label is taken: "
            f"{_some(contradicting)}."
        )
    return [species[label] for label in sorted(species)], rows


def _read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"There is no {path}: set `data_dir` to the folder that holds DeepWeeds' `labels`.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path} lacks the columns {sorted(missing)}; it has {reader.fieldnames}.")
        return list(reader)


def check_photos(folder: Path, names: Sequence[str]) -> None:
    """Raise one error for all photos that are missing or cannot be read.

    Every photo is decoded once, at an eighth of its size: all 17,509 take some seconds on a local disk.

    Args:
        folder: Where the photos are.
        names: The file names of the photos.

    Raises:
        DataError: Some are missing or cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"There is no {folder}: set `data_dir` to the folder that holds DeepWeeds' `images`.")
    existing = {entry.name for entry in os.scandir(folder)}
    missing = [name for name in names if name not in existing]
    present = [name for name in names if name in existing]
    with ThreadPoolExecutor() as threads:
        readable = threads.map(_is_readable, [folder / name for name in present])
        unreadable = [name for name, good in zip(present, readable, strict=True) if not good]
    problems = [
        f"{len(broken):,} of {len(names):,} photos are {what}: {_some(broken)}"
        for what, broken in (("missing", missing), ("unreadable", unreadable))
        if broken
    ]
    if problems:
        raise DataError(
            f"In {folder}, {' and '.join(problems)}. Get these photos again, or take their rows out of the files in "
            f"{folder.parent / 'labels'}."
        )


def _is_readable(path: Path) -> bool:
    try:
        with Image.open(path) as photo:
            photo.draft("RGB", (32, 32))  # reads the whole file, but computes an eighth of the pixels
            photo.load()
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for files that are cut, empty or no image
        return False
    return True


def _some(names: Sequence[str], limit: int = 10) -> str:
    rest = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
