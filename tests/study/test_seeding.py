"""The random numbers of a fit, and the caller's own."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from lightning_al.study.seeding import generators_in, seeded


def draw() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002 - the global one is tested


def test_draws_what_a_script_draws_that_begins_with_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    monkeypatch.delenv("PL_SEED_WORKERS", raising=False)
    with seeded(77):
        drawn, inside = draw(), (os.environ["PL_GLOBAL_SEED"], os.environ["PL_SEED_WORKERS"])
    assert os.environ["PL_GLOBAL_SEED"] == "1"
    assert "PL_SEED_WORKERS" not in os.environ
    seed_everything(77, workers=True, verbose=False)
    assert draw() == drawn
    assert inside == ("77", "1")


def test_the_callers_random_numbers_go_on_as_without() -> None:
    seed_everything(5, verbose=False)
    wanted = draw()
    seed_everything(5, verbose=False)
    with seeded(1):
        draw()
    with pytest.raises(RuntimeError, match="in a fit"):
        _draw_and_fail()
    assert draw() == wanted


def _draw_and_fail() -> None:
    with seeded(2):
        draw()
        raise RuntimeError("in a fit")


class Holder:
    def __init__(self, seed: int) -> None:
        self.torch = torch.Generator().manual_seed(seed)
        self.nested: dict[str, Any] = {"list": [np.random.default_rng(seed)], "self": self}
        self.legacy = np.random.RandomState(seed)
        self.python = random.Random(seed)

    def draw(self) -> list[float]:
        return [
            float(torch.rand((), generator=self.torch)),
            float(self.nested["list"][0].random()),
            float(self.legacy.rand()),
            self.python.random(),
        ]


def test_generators_that_the_data_hold_are_seeded_and_put_back() -> None:
    holder, untouched = Holder(3), Holder(3)
    holder.draw()
    with seeded(9, {"transform": holder}):
        first = holder.draw()
    assert first == Holder(9).draw()
    untouched.draw()
    assert holder.draw() == untouched.draw()


def test_long_lists_are_not_searched() -> None:
    assert generators_in({"samples": [random.Random(0)] * 1001}) == []
    assert len(generators_in({"samples": [random.Random(0)] * 1000})) == 1


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_refuses_seeds_that_lightning_would_replace_by_zero(seed: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 4294967295, but got {seed}"), seeded(seed):
        pass
