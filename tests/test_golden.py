"""Selections beside those of other libraries, in float64: the same picks in the same order.

What the others pick is written down here, by library and version, so that the comparison runs everywhere; where a
library's environment is there (`python -m tests.benchmarks.selection --peers` makes it), it is asked again. Only
selections without chance are compared, on inputs without ties: of equal gains each library takes another. One
difference is left, the first pick where nothing is labeled: see `from_the_largest_norm`.
"""

from __future__ import annotations

import functools
import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_al.functional.bait import bait
from lightning_al.functional.batch_bald import batch_bald
from lightning_al.functional.herding import max_herding
from lightning_al.functional.k_center import k_center_greedy
from lightning_al.functional.lcmd import lcmd
from lightning_al.functional.posterior_variance import posterior_variance
from tests.benchmarks.peers.contest import Contestant, Limits
from tests.benchmarks.peers.environments import DEFAULT_FOLDER, PEERS

bait_module = importlib.import_module("lightning_al.functional.bait")  # not the function
Arrays = dict[str, np.ndarray]

POOL, LABELED, COLUMNS, CLASSES, DRAWS = 150, 12, 6, 3, 8


@functools.cache
def all_arrays() -> Arrays:
    """The inputs. Python promises that its uniform numbers never change for a seed; NumPy and torch do not."""
    numbers = random.Random(39)

    def array(*shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        return np.array([numbers.random() for _ in range(count)]).reshape(shape)

    def probabilities(*shape: int) -> np.ndarray:
        weights = array(*shape) ** 4 + 0.01
        return weights / weights.sum(-1, keepdims=True)

    embeddings = array(POOL + LABELED, COLUMNS) - 0.4
    probs = probabilities(POOL + LABELED, CLASSES)
    # All draws of a sample are near its own mean, or every pick would tell as much as any other.
    samples = probabilities(POOL, 1, CLASSES) + array(POOL, 1, 1) * probabilities(POOL, DRAWS, CLASSES)
    return {
        "embeddings": embeddings[:POOL],
        "labeled_embeddings": embeddings[POOL:],
        "directions": embeddings[:POOL] / np.linalg.norm(embeddings[:POOL], axis=1, keepdims=True),
        "no_embeddings": embeddings[:0],
        "probs": probs[:POOL],
        "labeled_probs": probs[POOL:],
        "samples": samples / samples.sum(-1, keepdims=True),
    }


def bait_forward(overselection: float, **arguments: Any) -> torch.Tensor:
    """BAIT that takes no pick back, since it makes no more than are wanted; the package does not offer it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bait_module, "_OVERSAMPLING", int(overselection))
        return bait(**arguments)


def from_the_largest_norm(select: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The selection as bmdal_reg starts it where nothing is labeled: at the largest norm.

    Ours starts at the sample nearest the pool's mean: embeddings have no meaningful zero, and the largest norm is an
    outlier as a rule. Neither follows from the papers, which begin with labels; from the first pick on both agree.
    """

    def started(embeddings: torch.Tensor, labeled_embeddings: torch.Tensor, query_size: int) -> torch.Tensor:
        assert len(labeled_embeddings) == 0
        first = embeddings.norm(dim=1).argmax()[None]
        return torch.cat([first, select(embeddings, query_size - 1, embeddings[first])])

    return started


@dataclass(frozen=True)
class Golden:
    """A selection, and what another library picks."""

    peer: str
    version: str
    strategy: str
    ours: Callable[..., torch.Tensor]
    arrays: dict[str, str]  # in `all_arrays`, by the name that both sides know them by
    picks: list[int]
    numbers: dict[str, Any] = field(default_factory=dict)

    def inputs(self) -> Arrays:
        return {name: all_arrays()[source] for name, source in self.arrays.items()}

    def all_numbers(self) -> dict[str, Any]:
        return {"query_size": len(self.picks), **self.numbers}


def bmdal_reg(strategy: str, ours: Callable[..., torch.Tensor], arrays: dict[str, str], picks: list[int], **more: Any):
    return Golden("bmdal_reg", "3.0.2", strategy, ours, arrays, picks, more)


def activeml(strategy: str, ours: Callable[..., torch.Tensor], arrays: dict[str, str], picks: list[int], **more: Any):
    return Golden("scikit-activeml", "1.0.1", strategy, ours, arrays, picks, more)


POOL_ALONE = {"embeddings": "embeddings"}
WITH_LABELED = {"embeddings": "embeddings", "labeled_embeddings": "labeled_embeddings"}
NONE_LABELED = {"embeddings": "embeddings", "labeled_embeddings": "no_embeddings"}
UNSURE_POOL = {"embeddings": "embeddings", "probs": "probs"}
UNSURE = {**WITH_LABELED, "probs": "probs", "labeled_probs": "labeled_probs"}

K_CENTER = [93, 33, 149, 66, 2, 120, 49, 31]
GOLDEN = {
    "k-center": bmdal_reg("CoreSet", k_center_greedy, WITH_LABELED, K_CENTER),
    "k-center, another library": activeml("CoreSet", k_center_greedy, WITH_LABELED, K_CENTER),
    "k-center, nothing labeled": bmdal_reg(
        "CoreSet", from_the_largest_norm(k_center_greedy), NONE_LABELED, [108, 30, 134, 49, 56, 120, 21, 44]
    ),
    "LCMD": bmdal_reg("LCMD", lcmd, WITH_LABELED, [33, 149, 23, 49, 66, 59, 31, 11]),
    "LCMD, nothing labeled": bmdal_reg(
        "LCMD", from_the_largest_norm(lcmd), NONE_LABELED, [108, 30, 134, 115, 49, 44, 105, 2]
    ),
    "posterior variance": bmdal_reg(
        "PosteriorVariance", posterior_variance, POOL_ALONE, [108, 134, 31, 49, 21, 105, 88, 149]
    ),
    "BAIT, forward": bmdal_reg("BAIT", bait_forward, UNSURE, [31, 42, 102, 43, 87, 49, 19, 56], overselection=1.0),
    "BAIT": bmdal_reg("BAIT", bait, UNSURE, [31, 42, 102, 43, 49, 19, 133, 8]),
    "BAIT, nothing labeled": bmdal_reg("BAIT", bait, UNSURE_POOL, [31, 42, 43, 102, 133, 19, 108, 49]),
    "BatchBALD": activeml(
        # Exact on both sides: 3^7 outcomes of the seven picks before the last are all kept.
        "BatchBALD",
        lambda samples, **numbers: batch_bald(samples, **numbers),  # the others call the draws `samples`
        {"samples": "samples"},
        [8, 128, 109, 130, 44, 43, 102, 16],
        num_samples=3**7,
    ),
    "MaxHerding": activeml("MaxHerding", max_herding, {"embeddings": "directions"}, [52, 83, 3, 26, 72, 60, 50, 118]),
}
each_golden = pytest.mark.parametrize("name", GOLDEN)


@each_golden
def test_picks_what_another_library_picked(name):
    golden = GOLDEN[name]
    inputs = {key: torch.from_numpy(array) for key, array in golden.inputs().items()}
    assert golden.ours(**inputs, **golden.all_numbers()).tolist() == golden.picks


@pytest.fixture(scope="module")
def contestants() -> Iterator[dict[str, Contestant]]:
    """The libraries whose environments are there; a process of each starts when it is asked for something."""
    found = {
        peer.name: Contestant(DEFAULT_FOLDER / peer.name / "bin" / "python", peer.script, peer.strategies, Limits())
        for peer in PEERS
        if (DEFAULT_FOLDER / peer.name / "installed").exists()
    }
    yield found
    for contestant in found.values():
        contestant.close()


@each_golden
def test_another_library_picks_it_still(name, contestants, tmp_path: Path):
    golden = GOLDEN[name]
    if golden.peer not in contestants:
        pytest.skip(f"{golden.peer} has no environment here: `python -m tests.benchmarks.selection --peers` makes it")
    for key, array in golden.inputs().items():
        np.save(tmp_path / f"{key}.npy", array)
    contestants[golden.peer].load(
        {"strategy": golden.strategy, "folder": str(tmp_path), "numbers": golden.all_numbers()}
    )
    assert contestants[golden.peer].run()["picks"] == golden.picks
