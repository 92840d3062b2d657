"""Curves made elsewhere, whole and broken: the same report, never a crash or NaN; and all parts of a study's table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from lightning_al.study.compare import build_report, compare_curves
from lightning_al.study.reading import read_table
from lightning_al.study.report import FeasibilityReport
from tests._helpers.fits import table_of

LABELS = [50, 100, 150, 200]
Array = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


def simulation(replicates: int = 8, gain: float = 0.03, metric: str = "accuracy", seed: int = 0) -> Rows:
    """Margin gains from the second count on, KMeans does not; all start from the same value."""
    rng = np.random.default_rng(seed)
    shared = np.array([0.6, 0.7, 0.75, 0.78]) + rng.normal(0, 0.01, (replicates, 1))

    def runs(better: float) -> Array:
        return shared + (better + rng.normal(0, 0.004, (replicates, 4))) * [0, 1, 1, 1]

    return table_of({"random": runs(0), "Margin": runs(gain), "KMeans": runs(0)}, LABELS, metric)


def study(replicates: int = 6) -> Rows:
    """All parts of a study's table, with accuracy, recall and calibration error."""
    rng = np.random.default_rng(1)
    rows = [{**row, "part": "simulation", "seconds_fit": 2.0, "seconds_query": 0.5} for row in simulation(replicates)]
    for replicate in range(replicates):
        rows.append({"part": "pilot", "replicate": replicate, "labels": 1000, "accuracy": 0.85 + 0.001 * replicate})
    for fraction in (0.2, 0.4, 0.6, 0.8, 1.0):
        for bucket in range(5):
            for seed, noise in enumerate(rng.normal(0, 0.003, 3)):
                place = {"part": "design", "fraction": fraction, "bucket": bucket, "replicate": seed}
                value = 0.9 - 2 * (200 * fraction) ** -0.5 + 0.004 * bucket + noise
                rows.append({**place, "labels": round(200 * fraction), "accuracy": value})
    return [{**row, "recall": row["accuracy"] - 0.1, "calibration_error": 0.5 - 0.5 * row["accuracy"]} for row in rows]


def checked(report: FeasibilityReport) -> dict[str, Any]:
    """The report as JSON that any reader takes; fails where a number is NaN or infinite."""
    assert_finite(report.to_dict())
    text = report.to_json()
    assert FeasibilityReport.from_json(text).to_json() == text
    found: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert not math.isnan(sum(each["delta"] for each in report.strategies))
    return found


def assert_finite(value: Any) -> None:
    if isinstance(value, dict):
        for each in value.values():
            assert_finite(each)
    elif isinstance(value, list):
        for each in value:
            assert_finite(each)
    elif isinstance(value, float):
        assert math.isfinite(value)
    else:
        assert value is None or isinstance(value, (str, int))


def test_every_source_gives_the_same_report(tmp_path: Path) -> None:
    rows = simulation()
    frame = pd.DataFrame(rows)
    path = tmp_path / "curves.csv"
    frame.to_csv(path, index=False)
    first = compare_curves(rows, "accuracy").to_json()
    for source in (frame, frame.sample(frac=1, random_state=0), frame.to_dict("list"), path, str(path)):
        report = compare_curves(source, "accuracy")
        assert report.verdict == "promising"
        order = [arm["name"] for arm in report.strategies]
        if order == ["Margin", "KMeans"]:
            assert report.to_json() == first
        else:
            assert {arm["name"]: arm for arm in report.strategies} == {
                arm["name"]: arm for arm in compare_curves(rows, "accuracy").strategies
            }


def test_gains_are_told_in_points() -> None:
    rows = simulation()
    report = compare_curves(rows, "accuracy")
    frame = pd.DataFrame(rows).pivot(index="replicate", columns=["arm", "labels"], values="accuracy")
    gains = 100 * (frame["Margin"] - frame["random"])
    expected = np.trapezoid(gains.to_numpy(), LABELS, axis=1) / 150
    margin = report.strategies[0]
    assert margin["delta"] == pytest.approx(expected.mean())
    assert margin["sd"] == pytest.approx(expected.std(ddof=1))
    assert margin["wins"] == 8
    assert report.metric == {"name": "accuracy", "higher_is_better": True, "scale": 100, "unit": "points"}
    assert report.settings["delta"] == 0.5
    assert report.curves["labels"] == LABELS
    assert report.curves["arms"]["Margin"]["mean"] == pytest.approx((100 * frame["Margin"].mean()).tolist())
    for place, count in enumerate(LABELS):
        values, band = 100 * frame["KMeans", count].to_numpy(), report.curves["arms"]["KMeans"]
        ends = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
        assert (band["low"][place], band["high"][place]) == pytest.approx(ends)
    assert report.target["value"] == pytest.approx(100 * frame["random"].mean().iloc[-1] - 0.5)
    checked(report)


def test_values_above_one_need_a_delta_of_their_own() -> None:
    percent = [{**row, "accuracy": 100 * row["accuracy"]} for row in simulation()]
    with pytest.raises(
        ValueError, match=r"'accuracy' does not lie in \[0, 1\].*pass `delta`.*divide percentages by 100"
    ):
        compare_curves(percent, "accuracy")
    report = compare_curves(percent, "accuracy", delta=0.5)
    points = compare_curves(simulation(), "accuracy")
    assert report.metric["unit"] == ""
    assert report.strategies[0]["delta"] == pytest.approx(points.strategies[0]["delta"])
    assert report.verdict == points.verdict


def test_lower_is_better_equals_negated_values() -> None:
    lower = [{**row, "loss": 3 - 2 * row["accuracy"]} for row in simulation()]
    negated = [{**row, "score": -row["loss"]} for row in lower]
    one = compare_curves(lower, "loss", delta=0.01)
    other = compare_curves(negated, "score", delta=0.01, higher_is_better=True)
    assert (one.verdict, one.flags, one.strategies) == (other.verdict, other.flags, other.strategies)
    assert one.target["value"] == pytest.approx(-other.target["value"])
    for arm, band in one.curves["arms"].items():
        mirrored = other.curves["arms"][arm]
        assert band["low"] == pytest.approx([-high for high in mirrored["high"]])
    assert one.metric["higher_is_better"] is False


def test_an_unknown_metric_is_noted() -> None:
    report = compare_curves(simulation(metric="goodness"), "goodness")
    assert "A higher goodness was taken to be better" in report.notes[0]


def test_a_proxys_fits_tell_nothing_of_training_noise() -> None:
    whole, proxy = (
        build_report(read_table(study()), "accuracy", settings={"mode": mode}) for mode in ("full", "proxy")
    )
    assert any(reason.startswith("Training noise alone") for reason in whole.reasons)
    assert "composition_matters" in whole.flags
    against_noise = ("sigma_training", "icc", "icc_ci", "f", "p")
    assert [proxy.variance[name] for name in against_noise] == [None] * 5
    assert proxy.variance == {**whole.variance, **dict.fromkeys(against_noise)}
    assert proxy.reasons == [reason for reason in whole.reasons if not reason.startswith("Training noise alone")]
    assert set(whole.flags) - set(proxy.flags) == {"composition_matters"}
    assert (proxy.verdict, proxy.curve) == (whole.verdict, whole.curve)


def test_all_parts_of_a_studys_table_are_used() -> None:
    report = compare_curves(study(), "accuracy")
    found = checked(report)
    assert report.variance["icc"] > 0.5
    assert [each["labels"] for each in report.variance["by_fraction"]] == [40, 80, 120, 160, 200]
    assert len(report.variance["by_fraction"][0]["values"]) == 5
    assert len(report.variance["by_fraction"][0]["values"][0]) == 3
    assert report.headroom["all"] == pytest.approx(85.25)
    random = [row["accuracy"] for row in simulation(6) if row["arm"] == "random"]
    assert report.headroom["initial"] == pytest.approx(100 * np.mean(random[::4]))
    assert report.headroom["value"] == pytest.approx(report.headroom["all"] - report.headroom["initial"])
    area = np.trapezoid(np.reshape(random, (6, 4)), LABELS, axis=1).mean() / 1.5
    assert report.room["mean"] == pytest.approx(85.25 - area)
    assert [point["labels"] for point in report.curve["points"]] == [40, 80, 120, 160, 200, 1000]
    assert 0 < report.curve["c"] < 0.2
    assert list(report.legacy["metrics"]) == ["accuracy", "recall"]
    assert report.legacy["metrics"]["recall"]["fractions"] == [0.2, 0.4, 0.6, 0.8]
    assert report.strategies[0]["seconds_fit"] == 2.0
    assert report.strategies[0]["seconds_query"] == 0.5
    assert set(found) >= {"schema", "verdict", "headline", "reasons", "flags", "strategies", "variance", "curve"}


def test_a_lower_is_better_study_is_shown_upright() -> None:
    report = compare_curves(study(), "calibration_error")
    checked(report)
    assert report.headroom["initial"] > report.headroom["all"] > 0
    assert report.headroom["value"] > 0
    assert all(each["ci"][0] <= each["mean"] <= each["ci"][1] for each in report.variance["by_fraction"])
    assert all(each["low"] <= each["mean"] <= each["high"] for each in report.curve["fit"])
    assert report.curve["fit"][0]["mean"] > report.curve["fit"][-1]["mean"] > 0
    levels = [each["metric"] for each in report.curve["labels_for"]]
    assert levels == sorted(levels, reverse=True)


def test_costs_decide_with_the_gain() -> None:
    table = read_table(study())
    cheap = build_report(table, "accuracy", label_cost=10.0, hour_cost=1.0)
    assert cheap.verdict == "promising"
    needed = cheap.strategies[0]["labels_to_target"]
    assert cheap.cost["name"] == "Margin"
    assert cheap.cost["labels_saved"] == pytest.approx(cheap.target["random_labels"] - needed)
    assert cheap.cost["net"] == pytest.approx(10 * cheap.cost["labels_saved"] - cheap.cost["hours"])
    dear = build_report(table, "accuracy", label_cost=0.001, hour_cost=1e4)
    assert dear.verdict == "inconclusive"
    assert "not shown to be worth its price" in dear.headline
    with pytest.raises(ValueError, match="`label_cost` to be at least 0, but got -1"):
        build_report(table, "accuracy", label_cost=-1)


def test_settings_of_a_study_go_over_what_the_curves_tell() -> None:
    report = build_report(
        read_table(study()), "accuracy", settings={"mode": "full", "rounds": 9}, flags=["spam_suspected"]
    )
    assert (report.settings["mode"], report.settings["rounds"], report.settings["initial"]) == ("full", 9, 50)
    assert "spam_suspected" in report.flags
    small = build_report(read_table(simulation(metric="kappa")), "kappa", scale=1.0, delta=0.005)
    assert small.metric["unit"] == ""
    assert small.strategies[0]["delta"] == pytest.approx(0.025, abs=0.005)


def without(rows: Rows, **where: Any) -> Rows:
    return [row for row in rows if not all(row[name] == value for name, value in where.items())]


def changed(rows: Rows, change: Callable[[dict[str, Any]], float]) -> Rows:
    return [{**row, "accuracy": change(row)} for row in rows]


def moved(row: dict[str, Any]) -> float:
    """KMeans starts elsewhere."""
    return float(row["accuracy"]) + 0.01 * (row["arm"] == "KMeans")


def lost(row: dict[str, Any]) -> float:
    """Some values in the middle of a run are missing."""
    return math.nan if row["labels"] == 150 and row["replicate"] % 3 == 0 else float(row["accuracy"])


FEW = "too_few_replicates"


@pytest.mark.parametrize(
    ("rows", "replicates", "flags", "note"),
    [
        (simulation(1), 1, [FEW], "One replicate"),
        (simulation(2), 2, [FEW], ""),
        (simulation(4), 4, [FEW], ""),
        (without(simulation(6), arm="Margin", replicate=2), 5, [FEW], "Replicate 2 lacks Margin"),
        (without(simulation(), arm="Margin", replicate=2, labels=100), 8, [], ""),
        (without(simulation(), arm="Margin", labels=100), 8, [], ""),
        (without(simulation(), arm="KMeans", labels=50), 8, ["unpaired_start"], ""),
        (without(simulation(), arm="KMeans", replicate=0, labels=200), 7, [], "Replicate 0 does not span"),
        (changed(simulation(), moved), 8, ["unpaired_start"], ""),
        (changed(simulation(), lost), 8, [], "without a finite accuracy"),
        ([*simulation(), *simulation()], 8, [], "several rows, which were averaged"),
        (changed(simulation(), lambda row: 0.5), 8, ["saturated"], ""),
        (changed(simulation(3), lambda row: 0.5 + 0.1 * (row["arm"] == "Margin")), 3, [FEW, "unpaired_start"], ""),
        (simulation(18), 18, [], ""),
    ],
)  # fmt: skip
def test_imperfect_curves_are_told_honestly(rows: Rows, replicates: int, flags: list[str], note: str) -> None:
    report = compare_curves(rows, "accuracy")
    found = checked(report)
    assert report.replicates == replicates
    assert report.flags == flags
    assert report.exploratory is (replicates < 6)
    assert (report.verdict == "inconclusive") is (replicates < 6)
    assert note in " ".join(report.notes)
    for arm in found["strategies"]:
        assert (arm["ci"] == [None, None]) is (replicates == 1)


@pytest.mark.parametrize("gain", [0.03, -0.03])
def test_where_random_never_rises_no_saving_is_told(gain: float) -> None:
    """Random is at its last level with the first labels: how few would do is not known."""
    rng = np.random.default_rng(0)
    random = 0.6 + rng.normal(0, 0.001, (8, 4))
    curves = {"random": random, "Margin": random + gain * np.array([0, 1, 1, 1]), "KMeans": random}
    report = compare_curves(table_of(curves, LABELS), "accuracy")
    found = checked(report)
    assert report.target["random_labels"] == 50
    assert report.target["at_once"] is True
    for arm in found["strategies"]:
        assert (arm["saving"], arm["saving_ci"], arm["label_ratio"], arm["label_ratio_ci"]) == (
            None, [None, None], None, [None, None]
        )  # fmt: skip
    assert [arm["censored"] for arm in found["strategies"]] == [gain < 0, False]
    assert any("not known (censored): the first 50 do" in note for note in report.notes)
    priced = build_report(read_table(table_of(curves, LABELS)), "accuracy", label_cost=1.0)
    assert priced.cost["ci"] == (None, None)
    assert priced.verdict != "promising"
    assert "0 %" not in " ".join([report.headline, *report.reasons])
    assert compare_curves(simulation(), "accuracy").target["at_once"] is False
    assert not any("censored" in note for note in compare_curves(simulation(), "accuracy").notes)


def test_curves_made_elsewhere_have_the_parts_that_they_can_have() -> None:
    report = compare_curves(simulation(), "accuracy")
    assert report.settings["mode"] == "curves"
    absent = ("variance", "curve", "headroom", "pathology", "cost", "legacy", "confirm", "data")
    assert [getattr(report, name) for name in absent] == [None] * len(absent)
    assert "finished fits" not in " ".join(report.advice + report.reasons)
    few = {
        mode: build_report(read_table(simulation(2)), "accuracy", settings={"mode": mode})
        for mode in ("curves", "full")
    }
    assert {mode: "finished fits are kept" in " ".join(each.advice) for mode, each in few.items()} == {
        "curves": False,
        "full": True,
    }


def test_a_collapsed_run_is_named() -> None:
    rows = simulation()
    for row in rows:
        if row["arm"] == "KMeans" and row["replicate"] == 5 and row["labels"] >= 150:
            row["accuracy"] = 0.1
    report = compare_curves(rows, "accuracy")
    assert {arm["name"]: arm["collapses"] for arm in report.strategies} == {"Margin": [], "KMeans": ["5"]}
    assert any("KMeans alone collapsed in replicate 5" in reason for reason in report.reasons)


def test_the_seed_moves_the_bootstrap_only() -> None:
    one, other = (compare_curves(simulation(), "accuracy", seed=seed).strategies[0] for seed in (0, 1))
    assert one["ci"] == other["ci"]
    assert one["saving_ci"] != other["saving_ci"]
    assert one["saving_ci"] == compare_curves(simulation(), "accuracy", seed=0).strategies[0]["saving_ci"]
