"""The report as JSON: everything comes back, and nothing else is taken for one."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_al.study import FeasibilityReport
from lightning_al.study import page as page_module


def report(**more: Any) -> FeasibilityReport:
    given: dict[str, Any] = {
        "verdict": "inconclusive", "headline": "It cannot be told.", "reasons": [], "flags": [],
        "metric": {"name": "accuracy", "higher_is_better": True, "scale": 100, "unit": "points"}, "strategies": [],
        "replicates": 6, "exploratory": False, "required_R": None,
    }  # fmt: skip
    return FeasibilityReport(**{**given, **more})


def test_json_holds_plain_values_and_none_for_what_is_unbounded() -> None:
    made = report(
        strategies=[{"ci": (-math.inf, np.float64(1.5)), "wins": np.int64(3), "censored": np.bool_(True)}],
        curves={"labels": np.array([10, 20]), "nan": math.nan},
        headline="Größe ≥ 1",
    )
    found = json.loads(made.to_json())
    assert found["strategies"] == [{"ci": [None, 1.5], "wins": 3, "censored": True}]
    assert found["curves"] == {"labels": [10, 20], "nan": None}
    assert found["headline"] == "Größe ≥ 1"
    assert list(found) == ["schema", *(each.name for each in dataclasses.fields(FeasibilityReport))]


def test_it_comes_back() -> None:
    made = report(notes=["a"], cost={"net": 1.5}, required_R=40)
    again = FeasibilityReport.from_json(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", "it has no 'verdict'"),
        ("{}", "it has no 'verdict'"),
        ('{"verdict": "promising"}', "schema 1, but got None"),
        ('{"verdict": "promising", "schema": 2}', "schema 1, but got 2"),
        ('{"verdict": "promising", "schema": 1, "what": 0}', "got ['what'] too"),
        ('{"verdict": "promising", "schema": 1}', "The report is not whole"),
    ],
)
def test_what_is_no_report(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("]", r"\]")):
        FeasibilityReport.from_json(text)


METRIC = {"name": "accuracy", "higher_is_better": True, "scale": 100, "unit": "points"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "maybe"}, "`verdict` of a report to be of type Literal['promising', 'not_promising', "),
        ({"verdict": ["promising"]}, "but got ['promising']"),
        ({"reasons": "none"}, "`reasons` of a report to be of type list[str], but got 'none'"),
        ({"flags": [1]}, "`flags` of a report to be of type list[str], but got [1]"),
        ({"metric": "accuracy"}, "`metric` of a report to be of type dict[str, Any], but got 'accuracy'"),
        ({"metric": {**METRIC, "scale": "100"}}, "`metric.scale` of a report to be of type float, but got '100'"),
        ({"metric": {"name": "accuracy"}}, "`metric.higher_is_better` of a report to be of type bool, but got None"),
        ({"strategies": [{}, "Margin"]}, "`strategies` of a report to be of type list[dict[str, Any]], but got [{}, "),
        ({"replicates": 6.5}, "`replicates` of a report to be of type int, but got 6.5"),
        ({"replicates": True}, "`replicates` of a report to be of type int, but got True"),
        ({"exploratory": "no"}, "`exploratory` of a report to be of type bool"),
        ({"required_R": "40"}, "`required_R` of a report to be of type int | None, but got '40'"),
        ({"room": []}, "`room` of a report to be of type dict[str, Any] | None, but got []"),
        ({"seconds": {"fit": "long"}}, "`seconds` of a report to be of type dict[str, float], but got {'fit': 'long'}"),
        ({"notes": None}, "`notes` of a report to be of type list[str], but got None"),
    ],
)
def test_a_part_of_the_wrong_type_is_named(changes: dict[str, Any], message: str) -> None:
    whole = report(seconds={"fit": 1}, required_R=40, room={"ci": [None, 1]}).to_dict()
    assert FeasibilityReport.from_json(json.dumps(whole)).required_R == 40
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the message is compared below
        FeasibilityReport.from_json(json.dumps({**whole, **changes}))
    assert message in str(raised.value)


def test_saving_makes_the_folder_and_tells_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(page_module, "write_page", lambda *given: drawn.append(given))
    made = report()
    folder = tmp_path / "a" / "b"

    assert made.save(str(folder)) == folder / "index.html"
    assert (folder / "feasibility.json").read_text() == made.to_json()
    assert drawn == [(made.to_dict(), folder)]
