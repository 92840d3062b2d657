"""The page once more, of a study's folder and of curves made elsewhere."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_al.exceptions import ActiveLearningError
from lightning_al.study import FeasibilityReport, compare_curves, make_report
from lightning_al.study import page as page_module
from lightning_al.study.compare import build_report
from lightning_al.study.reading import read_table
from lightning_al.study.table import write_rows


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


@pytest.fixture
def study(curves: Path, tmp_path: Path) -> Path:
    """The folder of a full study that was asked otherwise than by default: lower is better, seed 7, prices."""
    table = {**read_table(curves), "round": [0, 1, 2] * 16, "seconds_fit": [60.0] * 48}
    table["error"] = [1 - float(value) for value in table["accuracy"]]
    table["f1"] = [float(value) - 0.1 for value in table["accuracy"]]
    table["MulticlassCohenKappa"] = [float(value) - 0.2 for value in table["accuracy"]]
    report = build_report(table, **ASKED)
    report.settings |= {"buckets": 5, "outputs": "logits"}
    report.data, report.seconds, report.versions["torch"] = {"pilot": {"size": 60}}, {"fit": 2880.0}, "2.9"
    report.notes.append("Of the data.")
    report.pathology = {"by_strategy": []}
    folder = report.save(tmp_path / "study").parent
    write_rows([dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)], folder / "curves.csv")
    return folder


ASKED: dict[str, Any] = {
    "metric": "error", "higher_is_better": False, "scale": 1.0, "delta": 0.002, "saving": 0.3, "seed": 7,
    "label_cost": 5.0, "hour_cost": 2.0, "flags": ["spam_suspected"], "settings": {"mode": "full"},
}  # fmt: skip
OF_THE_CURVES = ("verdict", "headline", "reasons", "flags", "metric", "strategies", "target", "room", "cost", "advice")


@pytest.mark.parametrize(
    "asked",
    [{"metric": "error"}, {"delta": 0.05}, {"saving": 0.6}, {"higher_is_better": True}, {"metric": "path.to.error"}],
)
def test_a_study_is_judged_anew_as_it_was_asked(asked: dict[str, Any], study: Path, capsys: Any) -> None:
    whole = {path: path.read_bytes() for path in study.iterdir()}
    page = make_report(study, **asked)
    assert page.parent.parent == study
    assert {path: path.read_bytes() for path in study.iterdir() if path.is_file()} == whole
    expected = build_report(read_table(study / "curves.csv"), **{**ASKED, **asked, "metric": "error"}).to_dict()
    found = read(page.parent)
    assert {name: found[name] for name in OF_THE_CURVES} == {name: expected[name] for name in OF_THE_CURVES}
    assert found["settings"] == {**expected["settings"], "buckets": 5, "outputs": "logits"}
    assert found["settings"]["mode"] == "full"
    assert (found["settings"]["seed"], found["settings"]["label_cost"]) == (7, 5.0)
    assert (found["data"], found["seconds"], found["versions"]["torch"]) == (
        {"pilot": {"size": 60}}, {"fit": 2880.0}, "2.9"
    )  # fmt: skip
    assert found["pathology"] == {"by_strategy": []}
    assert found["notes"][:-1] == [*expected["notes"], "Of the data."]
    assert "The study went by error, with 0.002 as the least gain and 30 % as the least saving" in found["notes"][-1]
    assert capsys.readouterr().out.endswith(
        f"The report: {page}\nThe study's own answer, by error, stays in {study}: promising.\n"
    )


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ({"metric": "f1"}, {"higher_is_better": True, "scale": 100.0, "delta": 0.5}),
        ({"metric": "f1", "delta": 4.0, "saving": 0.2, "higher_is_better": False}, {"scale": 100.0}),
        # torchmetrics' range of it is [-1, 1]: no points, though all values here lie in [0, 1]
        ({"metric": "torchmetrics.classification.MulticlassCohenKappa", "delta": 0.01}, {"scale": 1.0}),
        ({"metric": "score", "delta": 1.0}, {"higher_is_better": True, "scale": 1.0}),
    ],
)
def test_another_metric_goes_by_what_is_known_of_it(asked: dict[str, Any], known: dict[str, Any], study: Path) -> None:
    whole = (study / "feasibility.json").read_bytes()
    page = make_report(study, **asked)
    name = asked["metric"].rpartition(".")[2]
    assert page.parent.parent == study
    assert (study / "feasibility.json").read_bytes() == whole
    wanted = {**ASKED, "higher_is_better": True, **known, **asked, "metric": name}
    expected, found = build_report(read_table(study / "curves.csv"), **wanted).to_dict(), read(page.parent)
    assert {each: found[each] for each in OF_THE_CURVES} == {each: expected[each] for each in OF_THE_CURVES}
    assert found["metric"]["higher_is_better"] is wanted["higher_is_better"]
    assert found["metric"]["scale"] == wanted["scale"]
    assert (found["settings"]["saving"], found["settings"]["seed"]) == (wanted["saving"], 7)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"metric": "f1"}, "rejudged-f1-delta-0.5-saving-0.3"),
        ({"metric": "f1", "delta": 1.0}, "rejudged-f1-delta-1-saving-0.3"),
        ({"metric": "f1", "delta": 1.0000001, "saving": 0.25}, "rejudged-f1-delta-1.0000001-saving-0.25"),
        ({"delta": 10.0}, "rejudged-error-lower-is-better-delta-10-saving-0.3"),
        ({"higher_is_better": True}, "rejudged-error-delta-0.002-saving-0.3"),
        ({"metric": "path.to.error", "saving": 0.3}, "rejudged-error-lower-is-better-delta-0.002-saving-0.3"),
    ],
)
def test_a_folder_of_fits_judged_anew_is_named_after_all_that_the_answer_goes_by(
    asked: dict[str, Any], name: str, study: Path
) -> None:
    before = {path.name for path in study.iterdir()}
    assert make_report(study, **asked) == make_report(study, **asked) == study / name / "index.html"
    assert {path.name for path in study.iterdir()} == before | {name}


@pytest.mark.parametrize("name", ["cells", "sheets", "confirm", "logs", "failures"])
def test_a_metric_may_have_the_name_of_a_folder_of_the_study(name: str, study: Path) -> None:
    table = study / "curves.csv"
    table.write_text(table.read_text().replace("score", name, 1))
    page = make_report(study, metric=name, delta=1.0)
    assert page.parent == study / f"rejudged-{name}-delta-1-saving-0.3"
    assert read(page.parent)["metric"]["name"] == name
    assert not (study / name).exists()


def test_a_metric_without_points_needs_a_delta(study: Path) -> None:
    with pytest.raises(ActiveLearningError, match="pass `delta`"):
        make_report(study, metric="MulticlassCohenKappa")
    with pytest.raises(ActiveLearningError, match=r"curves\.csv: .*'recall'.* not among"):
        make_report(study, metric="recall")
    (study / "curves.csv").unlink()
    with pytest.raises(ActiveLearningError, match=r"study has no curves\.csv: give"):
        make_report(study, delta=1.0)


def test_output_says_where_but_never_over_the_studys_answer(study: Path, tmp_path: Path, capsys: Any) -> None:
    (study / "sheets").mkdir()
    (study / "sheets/Margin.png").write_bytes(b"a sheet")
    there = make_report(study, tmp_path / "there", saving=0.6).parent
    assert there == tmp_path / "there"
    assert (there / "sheets/Margin.png").read_bytes() == b"a sheet"
    capsys.readouterr()
    before = (study / "feasibility.json").read_bytes()
    with pytest.raises(ActiveLearningError, match=r"own answer in .* would be overwritten. Give another --output"):
        make_report(study, study / ".", saving=0.6)
    assert (study / "feasibility.json").read_bytes() == before


def test_a_replicate_that_lacks_a_fit_is_left_out_as_by_the_study(study: Path) -> None:
    lines = (study / "curves.csv").read_text().splitlines()
    lost = next(number for number, line in enumerate(lines) if ",Margin,7," in line and ",30," in line)
    (study / "curves.csv").write_text("\n".join(lines[:lost] + lines[lost + 1 :]))
    found = read(make_report(study, metric="error").parent)
    assert found["replicates"] == 7
    rest = read_table([row for row in csv.DictReader(lines) if row["replicate"] != "7"])
    assert found["strategies"] == build_report(rest, **ASKED).to_dict()["strategies"]


def test_a_proxy_is_judged_without_its_confirmation(study: Path) -> None:
    confirmed = json.loads((study / "feasibility.json").read_text())
    confirmed["settings"]["mode"], confirmed["confirm"] = "proxy", {"verdict": "promising"}
    (study / "feasibility.json").write_text(json.dumps(confirmed))
    found = read(make_report(study, delta=0.01).parent)
    assert (found["settings"]["mode"], found["confirm"]) == ("proxy", None)
    assert found["notes"][-1].startswith("The full model's confirmation is on the study's own page")


def test_the_only_metric_is_taken_and_of_several_all_are_named(curves: Path) -> None:
    with pytest.raises(ActiveLearningError, match=r"Say --metric NAME: it may be one of accuracy, score\."):
        make_report(curves)
    lines = [line.rpartition(",")[0] for line in curves.read_text().splitlines()]
    timed = [f"{line},{'seconds_fit,remark' if number == 0 else '2.0,good'}" for number, line in enumerate(lines)]
    curves.write_text("\n".join(timed))
    assert read(make_report(curves).parent) == compare_curves(curves, "accuracy").to_dict()
    curves.write_text("\n".join(line.rpartition(",")[0].rpartition(",")[0].rpartition(",")[0] for line in timed))
    with pytest.raises(ActiveLearningError, match=r"none of the columns \['arm', 'replicate', 'labels'\] can be one"):
        make_report(curves)


def test_the_direction_may_be_told(curves: Path) -> None:
    page = make_report(curves, metric="score", delta=0.4, higher_is_better=False)
    assert read(page.parent) == compare_curves(curves, "score", delta=0.4, higher_is_better=False).to_dict()
    assert read(page.parent)["verdict"] == "not_promising"


def test_a_file_without_suffix_gets_a_folder_beside_it(curves: Path, tmp_path: Path) -> None:
    plain = curves.rename(tmp_path / "measured")
    assert make_report(plain, metric="accuracy") == tmp_path / "measured-report" / "index.html"
    with pytest.raises(ActiveLearningError, match=r"cannot be written into .*measured .*Set another output"):
        make_report(plain, plain, metric="accuracy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"feasibility\.json: .*it is not JSON.*Run the study again.*curves\.csv alone"),
        (b"\xff\xfe", r"feasibility\.json: .*can't decode"),
        (b'{"verdict": "promising", "schema": 1}', r"feasibility\.json: The report is not whole"),
    ],
)
def test_a_broken_answer_is_told_with_its_file(content: bytes, message: str, study: Path) -> None:
    (study / "feasibility.json").write_bytes(content)
    for asked in ({}, {"metric": "f1"}):
        with pytest.raises(ActiveLearningError, match=message):
            make_report(study, **asked)  # type: ignore[arg-type]  # what is tested
    assert read(make_report(study / "curves.csv", metric="f1").parent)["settings"]["mode"] == "curves"


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("settings", "delta", "0.5", "`delta` to be a number above 0, but got '0.5'"),
        ("settings", "saving", 30, "`saving` to be a share in"),
        ("settings", "seed", None, "no `delta` or no `seed` under `settings`"),
        ("settings", "label_cost", "5", "`label_cost` to be a number above 0, but got '5'"),
        ("metric", "scale", "points", "`metric.scale` of a report to be of type float, but got 'points'"),
    ],
)
def test_an_answer_changed_by_hand_is_told(part: str, key: str, value: Any, message: str, study: Path) -> None:
    changed = json.loads((study / "feasibility.json").read_text())
    changed[part][key] = value
    (study / "feasibility.json").write_text(json.dumps(changed))
    with pytest.raises(ActiveLearningError, match=rf"feasibility\.json: .*{message}"):
        make_report(study, delta=1.0) if part == "settings" else make_report(study)


def test_an_answer_that_no_page_can_show_is_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(report: Any, folder: Path) -> None:
        raise KeyError("name")

    monkeypatch.setattr(page_module, "write_page", broken)
    with pytest.raises(ActiveLearningError, match=r"json holds what no page can show \(KeyError: 'name'\)"):
        make_report(study)
    with pytest.raises(KeyError):  # not of a file: a mistake of ours, whose traceback is wanted
        make_report(study, delta=1.0)


def test_what_is_wrong_is_told(curves: Path, tmp_path: Path) -> None:
    with pytest.raises(ActiveLearningError, match="no is no file and no folder: give"):
        make_report(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ActiveLearningError, match=r"empty has no curves\.csv and no feasibility\.json"):
        make_report(tmp_path / "empty")
    with pytest.raises(ActiveLearningError, match="pass `delta`"):
        make_report(curves, metric="score")
    with pytest.raises(ActiveLearningError, match="'f1'"):
        make_report(curves, metric="f1")
    for content, message in ((b"", "it is empty"), (b"\x89PNG\x00", "cannot be read as such")):
        curves.write_bytes(content)
        with pytest.raises(ActiveLearningError, match=rf"curves\.csv: .*{message}"):
            make_report(curves, metric="accuracy")
