"""Make the example's files from the published photos: a folder of photos for each species.

python -m examples.seedlings.prepare PHOTOS DIR                      # photos of 32 px
python -m examples.seedlings.prepare PHOTOS DIR --weights imagenet   # and features of an EfficientNet-B0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import train_test_split
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from examples.seedlings.data import PHOTOS

FEATURES = "plant_seedlings_v2_efficientnet_b0.npz"


def small_photos(paths: Sequence[str], side: int = 32) -> np.ndarray:
    """Shrink photos; each new pixel is the mean of the pixels that it covers.

    Args:
        paths: The photos, of any size.
        side: Width and height of the result in pixels.

    Returns:
        uint8 RGB (N, side, side, 3).
    """
    small = []
    for path in paths:
        with Image.open(path) as photo:
            small.append(np.asarray(photo.convert("RGB").resize((side, side), Image.Resampling.BOX)))
    return np.stack(small)


@torch.no_grad()
def features(paths: Sequence[str], weights: str, batch_size: int = 32) -> np.ndarray:
    """Compute what torchvision's EfficientNet-B0 hands to its last layer.

    Args:
        paths: The photos, of any size; they are resized, cropped to 224 px and normalized as in its training.
        weights: ``imagenet``, which torchvision downloads, or a local file with a ``state_dict``.
        batch_size: Photos in a batch.

    Returns:
        float16 (N, 1280).
    """
    recipe = EfficientNet_B0_Weights.DEFAULT
    network = efficientnet_b0(weights=recipe if weights == "imagenet" else None)
    if weights != "imagenet":
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.classifier = nn.Identity()
    network.eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    transform, found = recipe.transforms(), []
    for start in range(0, len(paths), batch_size):
        batch = []
        for path in paths[start : start + batch_size]:
            with Image.open(path) as photo:
                batch.append(transform(photo.convert("RGB")))
        found.append(network(torch.stack(batch).to(device)).half().cpu())
    return torch.cat(found).numpy()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files.

    Args:
        arguments: What to parse instead of the process's own arguments.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.seedlings.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="the published folder: one folder of photos a species")
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument(
        "--weights", help="compute features too: `imagenet`, or a file with EfficientNet-B0's state_dict"
    )
    parsed = parser.parse_args(arguments)
    try:
        source = ImageFolder(str(parsed.photos))
    except FileNotFoundError as error:
        parser.error(str(error))
    paths, labels = zip(*source.samples, strict=True)
    train, _ = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    split = np.ones(len(labels), dtype=np.uint8)
    split[train] = 0
    shared = {
        "labels": np.array(labels, dtype=np.int64),
        "split": split,
        "class_names": np.array(source.classes),
        "files": np.array([Path(path).relative_to(parsed.photos).as_posix() for path in paths]),
    }
    parsed.folder.mkdir(parents=True, exist_ok=True)
    np.savez(parsed.folder / PHOTOS, images=small_photos(paths), **shared)
    if parsed.weights is not None:
        np.savez(parsed.folder / FEATURES, embeddings=features(paths, parsed.weights), **shared)


if __name__ == "__main__":
    main()
