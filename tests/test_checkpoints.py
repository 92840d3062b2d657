"""The checkpoint after a round, where the disk is full."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.fabric.plugins.io.torch_io as torch_io
import pytest
import torch

from lightning_al import ActiveLearning, Answers, DatasetOracle, Query
from lightning_al.exceptions import RunFolderError
from tests._helpers.rounds_fixtures import Net, WatchingOracle, make_trainer, wrapped

resource = pytest.importorskip("resource", reason="limits the size of files as only Unix can")

Full = Callable[[], Any]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would not fit either."""
    monkeypatch.setattr("lightning_al.reporting.learning_curve", lambda *args, **kwargs: None)


@contextmanager
def small_files() -> Iterator[None]:
    """From the first call to the end no file may become larger than 4 KiB: a ledger may, a checkpoint not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def half_files() -> Iterator[None]:
    """From the first call to the end half of a checkpoint is written in its place before the disk is full."""
    save = torch_io._atomic_save

    def half(checkpoint: dict[str, Any], path: Any) -> None:
        save(checkpoint, path)
        os.truncate(path, os.path.getsize(path) // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        yield lambda: patch.setattr(torch_io, "_atomic_save", half)


class FillsUp(DatasetOracle):
    """Answers round 2 and then lets the disk be full."""

    def __init__(self, fill: Full) -> None:
        self.fill = fill

    def label(self, query: Query) -> Answers:
        if query.round == 2:
            self.fill()
        return super().label(query)


def fit(folder: Path, oracle: Any, ckpt_path: Path | None = None) -> list[int]:
    torch.manual_seed(1)
    data = wrapped()
    callback = ActiveLearning("Margin", 4, rounds=3, oracle=oracle)
    trainer = make_trainer(folder, [callback], enable_checkpointing=True)
    trainer.fit(Net(), datamodule=data, ckpt_path=ckpt_path)
    return data.pool.labeled.tolist()


@pytest.mark.parametrize("full_disk", [small_files, half_files])
def test_a_full_disk_leaves_the_last_checkpoint_and_says_how_to_go_on(tmp_path: Path, full_disk: Any) -> None:
    whole = fit(tmp_path / "whole", DatasetOracle())
    path = tmp_path / "cut" / "active_learning" / "last-round.ckpt"
    with full_disk() as fill, pytest.raises(RunFolderError) as caught:
        fit(tmp_path / "cut", FillsUp(fill))
    assert str(caught.value).startswith(f"The checkpoint {path} cannot be written: [Errno ")
    assert f"go on with trainer.fit(..., ckpt_path={str(path)!r}), or --ckpt_path {path}" in str(caught.value)
    assert "the last good checkpoint is still there" in str(caught.value)
    assert not list(path.parent.glob("*.new"))
    assert torch.load(path, weights_only=True)["callbacks"]["ActiveLearning"]["round"] == 1

    oracle = WatchingOracle()
    assert fit(tmp_path / "cut", oracle, ckpt_path=path) == whole
    assert oracle.queries == []  # the answers of round 2 were in the ledger


@pytest.mark.parametrize("full_disk", [small_files, half_files])
def test_a_full_disk_before_the_first_checkpoint_says_that_there_is_none(tmp_path: Path, full_disk: Any) -> None:
    with full_disk() as fill:
        fill()
        with pytest.raises(RunFolderError, match="start again: there is no earlier checkpoint"):
            fit(tmp_path, DatasetOracle())
    assert not list(tmp_path.glob("*/*.new"))
    assert len(fit(tmp_path, DatasetOracle())) == 16


def test_other_errors_of_a_save_keep_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(checkpoint: dict[str, Any], path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("of a callback's")

    monkeypatch.setattr(torch_io, "_atomic_save", interrupted)
    with pytest.raises(ValueError, match="of a callback's"):
        fit(tmp_path, DatasetOracle())
    assert not list(tmp_path.glob("*/*.new"))
