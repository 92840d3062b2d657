"""A run's pictures for Lightning's loggers: those of them that take images show the same as the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_al.run_folder import RunFolder

CURVE, SHEET = "active_learning/metrics_against_labels", "active_learning/asked"
"""What the loggers call the learning curve and the contact sheets."""


def log_run_images(
    loggers: Iterable[Logger], folder: RunFolder, history: Sequence[Mapping[str, Any]], step: int
) -> None:
    """Hands the learning curve, and the contact sheets of the last round's query, to every logger that takes images.

    These are loggers with ``log_image(key, images, step)``, as ``WandbLogger``, and loggers whose ``experiment`` has
    ``add_image``, as ``TensorBoardLogger``. The others are left alone, and one that fails is no reason to end a run: it
    becomes a warning.

    Args:
        loggers: The trainer's; called on the process that writes, none other.
        folder: The run's folder, with the pictures.
        history: A mapping a round, as in ``ActiveLearning.history``; none: nothing is logged.
        step: The trainer's global step, where the logger's other curves are.
    """
    if not history:
        return
    pictures = pictures_of(folder, int(history[-1]["round"]))
    for logger in loggers:
        for name, path in pictures.items():
            try:
                log_picture(logger, name, path, step)
            except Exception as error:
                rank_zero_warn(f"{type(logger).__name__} did not take the picture {path}: {error!r}. The run goes on.")


def pictures_of(folder: RunFolder, round: int) -> dict[str, Path]:
    """Finds the pictures there are after a round.

    Args:
        folder: The run's folder.
        round: The round that was trained last; the query after it is the next round's.

    Returns:
        Path by the name that loggers give it: the learning curve, the first labels where a strategy picked them (after
        round 0), the query's sheet, and the sheets of what took the place of rejected samples.
    """
    found = {CURVE: folder.path / "metrics.png"}
    for asked in (0, 1) if round == 0 else (round + 1,):
        for of, part in folder.asked():
            if of == asked:
                name = SHEET + ("_first" if asked == 0 else "") + (f"_in_place_{part}" if part > 1 else "")
                found[name] = folder.query_path(of, part).with_suffix(".png")
    return {name: path for name, path in found.items() if path.exists()}


def log_picture(logger: Logger, name: str, path: Path, step: int) -> bool:
    """Hands one picture to one logger.

    Args:
        logger: The logger.
        name: What it calls the picture; the same at every step.
        path: The PNG.
        step: The trainer's global step.

    Returns:
        Whether it takes images.
    """
    from PIL import Image

    log_image = getattr(logger, "log_image", None)
    add_image = None if callable(log_image) else getattr(getattr(logger, "experiment", None), "add_image", None)
    if not callable(log_image) and not callable(add_image):
        return False
    with Image.open(path, formats=["PNG"]) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    if callable(log_image):
        log_image(key=name, images=[pixels], step=step)
    elif callable(add_image):
        add_image(name, pixels, global_step=step, dataformats="HWC")
    return True
