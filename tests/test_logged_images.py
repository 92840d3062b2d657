"""Loggers that take images get what the run's folder shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from lightning_al.logged_images import CURVE, SHEET, log_picture, log_run_images, pictures_of
from lightning_al.run_folder import RecordedQuery, RunFolder


class TakesImages(Logger):
    """As WandbLogger takes them."""

    name, version, experiment = "takes", 0, None

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.got: list[tuple[str, int, list[int], tuple[int, ...]]] = []

    def log_metrics(self, *args: Any, **kwargs: Any) -> None: ...

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        if self.error:
            raise self.error
        [image] = images
        self.got.append((key, step or 0, image[0, 0].tolist(), image.shape))


def picture(path: Path, color: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 9, 3), color, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run whose pictures differ in their gray: 1 is the curve, 10 times the round plus the part a sheet."""
    folder = RunFolder(tmp_path / "active_learning")
    picture(folder.path / "metrics.png", 1)
    for round, part in ((0, 1), (1, 1), (2, 1), (2, 2), (3, 1)):
        folder.write_query(round, RecordedQuery([10 * round + part], None, "Margin"), part)
        if round < 3:  # the third query is no images
            picture(folder.query_path(round, part).with_suffix(".png"), 10 * round + part)
    return folder


@pytest.mark.parametrize(
    ("round", "expected"),
    [
        (0, {CURVE: 1, f"{SHEET}_first": 1, SHEET: 11}),
        (1, {CURVE: 1, SHEET: 21, f"{SHEET}_in_place_2": 22}),
        (2, {CURVE: 1}),
        (3, {CURVE: 1}),
    ],
)
def test_a_round_has_the_curve_and_the_sheets_of_the_query_after_it(
    folder: RunFolder, round: int, expected: dict[str, int]
) -> None:
    taker = TakesImages()
    log_run_images([taker], folder, [{"round": 0}, {"round": round}], step=70 + round)
    assert taker.got == [(name, 70 + round, [gray] * 3, (6, 9, 3)) for name, gray in expected.items()]


def test_tensorboard_shows_the_pixels_at_the_step(folder: RunFolder, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, name="", version="")
    log_run_images([logger], folder, [{"round": 1}], step=35)
    logger.experiment.close()
    events = event_accumulator.EventAccumulator(str(tmp_path), {event_accumulator.IMAGES: 0})
    events.Reload()
    assert sorted(events.Tags()["images"]) == sorted([CURVE, SHEET, f"{SHEET}_in_place_2"])
    [shown] = events.Images(SHEET)
    assert (shown.step, shown.width, shown.height) == (35, 9, 6)
    (tmp_path / "back.png").write_bytes(shown.encoded_image_string)
    assert np.unique(np.asarray(Image.open(tmp_path / "back.png"))).tolist() == [21]


def test_a_logger_without_images_is_left_alone_and_one_that_fails_is_told_of(folder: RunFolder, tmp_path: Path) -> None:
    plain, after = CSVLogger(tmp_path / "csv", name="", version=""), TakesImages()
    assert log_picture(plain, CURVE, folder.path / "metrics.png", 1) is False
    with pytest.warns(UserWarning, match=r"TakesImages did not take .*metrics.png: OSError\('offline'\). The run goes"):
        log_run_images([plain, TakesImages(OSError("offline")), after], folder, [{"round": 2}], step=1)
    assert [name for name, *_ in after.got] == [CURVE]


def test_a_run_without_pictures_or_rounds_logs_nothing(tmp_path: Path, folder: RunFolder) -> None:
    taker = TakesImages()
    assert pictures_of(RunFolder(tmp_path / "absent"), 0) == {}
    log_run_images([taker], folder, [], step=1)
    assert taker.got == []
