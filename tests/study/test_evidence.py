"""Cells that fail: tried twice, left out with their pair, and told; and what a confirmation changes in a report."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_al.exceptions import ActiveLearningError
from lightning_al.strategies import Margin
from lightning_al.strategies.base import Outputs
from lightning_al.study import page as page_module
from lightning_al.study.evidence import confirmed
from tests._helpers import studies
from tests._helpers.studies import ImagesData, SmallNet, answer, files, rows, study, trainer

SMALL: dict[str, Any] = {"strategies": ["Margin"], "buckets": 2, "fractions": [1.0], "seeds": 2, "rounds": 1}
DESIGN = studies.design(rounds=1, buckets=2, fractions=(1.0,), arms=("Margin",))


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "write_page", lambda *_: None)


class Unlucky(SmallNet):
    """Fails or diverges under some seeds, and remembers the seeds that it was tried with.

    Args:
        failing: Seeds under which it raises.
        diverging: Seeds under which its loss is NaN.
        tried: Grows by the seed of each fit.
    """

    def __init__(self, failing: set[int], diverging: set[int], tried: list[int]) -> None:
        super().__init__()
        self._failing, self._diverging, self._tried = failing, diverging, tried

    def on_train_start(self) -> None:
        self.seed = torch.initial_seed()
        self._tried.append(self.seed)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.seed in self._failing:
            raise RuntimeError("CUDA out of memory\nTried to allocate 2 GiB")
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.seed in self._diverging else loss


def run(folder: Path, failing: set[int], diverging: set[int] = frozenset(), **more: Any) -> tuple[Any, list[int]]:
    tried: list[int] = []
    report = study(folder, **{**SMALL, **more}).run(lambda: Unlucky(failing, diverging, tried), ImagesData(), trainer())
    return report, tried


def test_a_failed_fit_is_tried_twice_and_left_out_with_its_pair(tmp_path: Path) -> None:
    first, whole_pilot = DESIGN.fit_seed("simulation", 2, 1), DESIGN.fit_seed("pilot", 4)
    report, tried = run(tmp_path / "out", {first}, {whole_pilot}, replicates=7)
    run(tmp_path / "whole", set(), replicates=7)

    # both arms of replicate 2 have the seed of its first round, and each is tried twice
    assert (tried.count(first), tried.count(whole_pilot)) == (4, 2)
    assert [(failure["key"], failure["attempts"]) for failure in report.failures] == [
        ("pilot-r04", 2), ("simulation-r02-random", 2), ("simulation-r02-Margin", 2)
    ]  # fmt: skip
    told = {failure["key"]: failure["error"] for failure in report.failures}
    assert told["simulation-r02-Margin"] == "RuntimeError: CUDA out of memory Tried to allocate 2 GiB"
    assert "The loss became NaN or infinite in epoch 0" in told["pilot-r04"]
    assert report.replicates == 6
    assert "Replicates that lack a fit were left out, with all of their arms: 2." in report.notes
    # All others are what they would have been.
    good = [row for row in rows(tmp_path / "whole") if not is_lost(row)]
    assert [row for row in rows(tmp_path / "out") if not is_lost(row)] == good
    lost = [row for row in rows(tmp_path / "out") if is_lost(row)]
    assert [(row["part"], row["round"]) for row in lost] == [("simulation", "0")] * 2
    means = report.curves["arms"]["Margin"]["mean"]
    values = [float(row["accuracy"]) for row in good if (row["arm"], row["round"]) == ("Margin", "1")]
    assert means[-1] == pytest.approx(100 * np.mean(values))


def is_lost(row: dict[str, str]) -> bool:
    return (row["part"], row["replicate"]) in (("simulation", "2"), ("pilot", "4"))


def test_a_cell_that_came_right_later_leaves_no_trace(tmp_path: Path) -> None:
    broken = {DESIGN.fit_seed("simulation", 1, 0)}
    report, tried = run(tmp_path / "out", broken, replicates=3)
    keys = [failure["key"] for failure in report.failures]
    assert sorted(keys) == ["simulation-r01-Margin", "simulation-r01-random", "start-r01"]
    assert {failure["key"]: failure["attempts"] for failure in report.failures} == {
        "start-r01": 2, "simulation-r01-Margin": 0, "simulation-r01-random": 0
    }  # fmt: skip
    before = files(tmp_path / "out")

    report, tried = run(tmp_path / "out", set(), replicates=3)

    run(tmp_path / "whole", set(), replicates=3)
    later = DESIGN.fit_seed("simulation", 1, 1)
    assert tried == [DESIGN.fit_seed("simulation", 1, 0), later, later]  # each arm's round has the same seed
    assert report.failures == []
    assert answer(tmp_path / "out") == answer(tmp_path / "whole")
    after = files(tmp_path / "out")
    assert all(after[name] == kept for name, kept in before.items())


class Stumbling(Margin):
    """Fails under one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def select(self, pool: Outputs, query_size: int, *, generator: torch.Generator, **more: Any) -> Tensor:
        if generator.initial_seed() == self.seed:
            raise ValueError("no such neighbor")
        return super().select(pool, query_size, generator=generator, **more)


def test_a_strategy_that_fails_takes_its_replicate_along(tmp_path: Path) -> None:
    place = DESIGN.fit_seed("simulation", 1, 1) * 1_000_003 % (1 << 63)
    more = {**SMALL, "rounds": 2, "replicates": 3, "strategies": [Stumbling(place)]}
    report = study(tmp_path, **more).run(SmallNet, ImagesData(), trainer())

    assert [failure["key"] for failure in report.failures] == ["simulation-r01-Stumbling"]
    assert report.replicates == 2
    names = {(row["arm"], row["replicate"]) for row in rows(tmp_path) if row["round"] == "2"}
    assert ("random", "1") in names
    assert ("Stumbling", "1") not in names
    picks = {arm["name"]: arm["picks"] for arm in report.pathology["by_strategy"]}
    assert picks == {"random": 18, "Stumbling": 18}


def test_a_study_that_lost_too_much_names_the_first_cause(tmp_path: Path) -> None:
    lost = {DESIGN.fit_seed("simulation", replicate, 0) for replicate in range(3)}
    with pytest.raises(ActiveLearningError, match=r"9 tasks of the study failed.*start-r00: RuntimeError: CUDA out"):
        run(tmp_path, lost, replicates=3)
    assert not (tmp_path / "feasibility.json").exists()
    report, tried = run(tmp_path, set(), replicates=3)
    assert (report.failures, len(tried)) == ([], 3 * 3)


def test_trial_fits_that_fail_leave_the_time_unknown_and_end_nothing(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Two trial fits failed, so how long .* RuntimeError: CUDA out of memory"):
        report, tried = run(tmp_path / "both", {4, 5}, replicates=2)
    assert (tried[:2], report.failures) == ([4, 5], [])
    with warnings.catch_warnings():  # one may have been the seed's
        warnings.simplefilter("error", UserWarning)
        _, tried = run(tmp_path / "one", {4}, replicates=2)
    assert tried[:2] == [4, 5]
    assert answer(tmp_path / "both") == answer(tmp_path / "one")


# -- a confirmation
def test_the_full_models_comparison_decides(tmp_path: Path) -> None:
    from tests.study.test_report import report

    proxy = report(
        verdict="promising", headline="The heads gain.", advice=["Run it."], winner="Margin", notes=["heads"],
        flags=["composition_matters", "uncertainty_harmful", "saturated", "spam_suspected"], seeds={"seed": 4},
        strategies=[{"name": "Margin"}, {"name": "KMeans"}], replicates=10, failures=[{"key": "design"}],
    )  # fmt: skip
    full = report(
        verdict="not_promising", headline="The model does not.", reasons=["No gain."], flags=["too_few_replicates"],
        advice=["Label at random."], strategies=[{"name": "Margin"}], required_R=40, replicates=9, seeds={"seed": 9},
        notes=["Replicate 3 was left out."], failures=[{"key": "start-r03", "error": "no memory", "attempts": 2}],
    )  # fmt: skip
    found = confirmed(proxy, full)

    assert (found.verdict, found.headline, found.required_R) == ("not_promising", "The model does not.", 40)
    assert found.reasons == ["No gain.", "The proxy's linear heads had said promising: The heads gain."]
    assert found.flags == ["too_few_replicates", "spam_suspected"]  # the heads' own comparison does not decide
    assert found.winner is None
    assert found.advice == ["Label at random."]
    assert found.strategies == [{"name": "Margin"}, {"name": "KMeans"}]
    assert found.confirm is not None
    assert (found.confirm["verdict"], found.confirm["replicates"]) == ("not_promising", 9)
    assert found.confirm["notes"] == ["Replicate 3 was left out."]
    assert found.confirm["failures"] == [{"key": "start-r03", "error": "no memory", "attempts": 2}]
    assert (found.notes, found.failures) == (["heads"], [{"key": "design"}])
    assert found.seeds == {"seed": 4, "confirm": 9}
