"""The page once more, of a study's folder and of curves made elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_al.exceptions import ActiveLearningError
from lightning_al.study import FeasibilityReport, compare_curves, make_report
from lightning_al.study import page as page_module


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "write_page", lambda report, folder: (folder / "index.html").write_text("a page"))


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["arm,replicate,labels,accuracy,score"]
    for replicate in range(8):
        for arm, gain in (("random", 0.0), ("Margin", 0.03)):
            levels = np.array([0.5, 0.6, 0.7]) + gain + 0.005 * rng.normal(size=3)
            lines += [f"{arm},{replicate},{n},{y},{40 * y}" for n, y in zip((10, 20, 30), levels, strict=True)]
    path = tmp_path / "curves.csv"
    path.write_text("\n".join(lines))
    return path


def read(folder: Path) -> dict[str, Any]:
    return FeasibilityReport.from_json((folder / "feasibility.json").read_text()).to_dict()


def test_curves_give_what_compare_curves_gives(curves: Path, tmp_path: Path) -> None:
    path = make_report(curves, metric="accuracy", saving=0.3)
    assert path == tmp_path / "curves" / "index.html"
    assert read(path.parent) == compare_curves(curves, "accuracy", saving=0.3).to_dict()
    assert read(path.parent)["settings"]["saving"] == 0.3

    there = make_report(curves, tmp_path / "there", metric="score", delta=0.4)
    assert read(there.parent) == compare_curves(curves, "score", delta=0.4).to_dict()


def test_a_study_goes_by_its_own_metric_or_by_another(curves: Path, tmp_path: Path) -> None:
    folder = make_report(curves, tmp_path / "study", metric="accuracy").parent
    shutil.copy(curves, folder)
    (folder / "sheets").mkdir()
    (folder / "sheets/Margin.png").write_bytes(b"a sheet")
    whole = (folder / "feasibility.json").read_bytes()

    assert make_report(folder) == folder / "index.html"
    copied = make_report(folder, tmp_path / "copy")
    assert (folder / "feasibility.json").read_bytes() == (tmp_path / "copy/feasibility.json").read_bytes() == whole
    assert (copied.parent / "sheets/Margin.png").read_bytes() == b"a sheet"
    other = make_report(folder, tmp_path / "other", metric="score", delta=1.0)
    assert read(other.parent)["metric"]["name"] == "score"
    assert (folder / "feasibility.json").read_bytes() == whole


def test_another_metric_does_not_overwrite_the_study(curves: Path, tmp_path: Path) -> None:
    folder = make_report(curves, tmp_path / "study", metric="accuracy").parent
    shutil.copy(curves, folder)
    whole = (folder / "feasibility.json").read_bytes()
    path = make_report(folder, metric="score", delta=1.0)
    assert path == folder / "curves" / "index.html"
    assert (folder / "feasibility.json").read_bytes() == whole


@pytest.mark.parametrize("asked", [{"delta": 3.0}, {"saving": 0.5}])
def test_a_study_is_not_judged_by_another_bar_in_silence(asked: dict[str, float], curves: Path, tmp_path: Path) -> None:
    folder = make_report(curves, tmp_path / "study", metric="accuracy").parent
    with pytest.raises(ActiveLearningError, match=r"has its answer.*--metric accuracy too"):
        make_report(folder, **asked)


def test_what_is_wrong_is_told(curves: Path, tmp_path: Path) -> None:
    for source, message in ((tmp_path / "no", "is no file and no folder"), (tmp_path, "Which column of")):
        with pytest.raises(ActiveLearningError, match=message):
            make_report(source)
    with pytest.raises(ActiveLearningError, match="Say --metric accuracy"):
        make_report(curves)
    with pytest.raises(ActiveLearningError, match="pass `delta`"):
        make_report(curves, metric="score")
    with pytest.raises(ActiveLearningError, match="'f1'"):
        make_report(curves, metric="f1")
    curves.write_text("")
    with pytest.raises(ActiveLearningError, match="it is empty"):
        make_report(curves, metric="accuracy")
