"""Curves side by side: what is paired, interpolated, averaged, dropped, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lightning_al.study.curves import direction, read_curves, read_whole
from tests._helpers.fits import table_of

LABELS = [10, 20, 40]


def three(arms: tuple[str, ...] = ("random", "Margin"), replicates: int = 3) -> list[dict[str, Any]]:
    """Each run's values are its own: .1 a replicate, .01 an arm, .001 a count."""
    values = {
        arm: np.array([[0.1 * r + 0.01 * a + 0.001 * i for i in range(3)] for r in range(replicates)])
        for a, arm in enumerate(arms)
    }
    return table_of(values, LABELS)


def test_values_stand_where_they_belong() -> None:
    rows = three()
    for table in (rows, rows[::-1]):
        curves = read_curves(table, "accuracy")
        assert curves.arms == ("random", "Margin")
        assert curves.replicates == ("0", "1", "2")
        assert curves.labels.tolist() == LABELS
        assert (curves.sign, curves.scale, curves.unit) == (1, 100.0, "points")
        for a, arm in enumerate(curves.arms):
            expected = [[10 * r + a + 0.1 * i for i in range(3)] for r in range(3)]
            assert curves.values[arm] == pytest.approx(np.array(expected))
    assert curves.notes == ()


@pytest.mark.parametrize("name", ["Random", "RANDOM", " random "])
def test_the_control_is_found_however_it_is_written(name: str) -> None:
    rows = [{**row, "arm": name if row["arm"] == "random" else row["arm"]} for row in three()]
    assert read_curves(rows, "accuracy").arms == ("random", "Margin")


def test_a_missing_count_is_interpolated() -> None:
    rows = [row for row in three() if not (row["arm"] == "Margin" and row["replicate"] == 1 and row["labels"] == 20)]
    curves = read_curves(rows, "accuracy")
    assert curves.labels.tolist() == LABELS
    first, last = 11.0, 11.2
    assert curves.values["Margin"][1].tolist() == pytest.approx([first, first + (last - first) / 3, last])


def test_nothing_is_extrapolated() -> None:
    """One arm starts at 20: so does the comparison, for all."""
    rows = [row for row in three() if not (row["arm"] == "Margin" and row["labels"] == 10)]
    curves = read_curves(rows, "accuracy")
    assert curves.labels.tolist() == [20, 40]
    assert curves.values["random"][0].tolist() == pytest.approx([0.1, 0.2])


def test_counts_of_their_own_are_put_on_all_counts() -> None:
    random = table_of({"random": np.array([[0.2, 0.4]])}, [10, 30])
    margin = table_of({"Margin": np.array([[0.3, 0.4, 0.6]])}, [5, 15, 35])
    curves = read_curves(random + margin, "accuracy")
    assert curves.labels.tolist() == [10, 15, 30]
    assert curves.values["random"][0].tolist() == pytest.approx([20, 25, 40])
    assert curves.values["Margin"][0].tolist() == pytest.approx([35, 40, 55])
    assert curves.flags == ("unpaired_start",)


def test_a_run_that_ended_early_goes_rather_than_the_end_of_all() -> None:
    rows = [row for row in three(replicates=4) if not (row["replicate"] == 2 and row["labels"] == 40)]
    curves = read_curves(rows, "accuracy")
    assert curves.labels.tolist() == LABELS
    assert curves.replicates == ("0", "1", "3")
    assert curves.notes == ("Replicates 2 do not span 10 to 40 labels and were dropped.",)


def test_a_replicate_without_an_arm_is_dropped_with_a_note() -> None:
    rows = [row for row in three() if not (row["arm"] == "Margin" and row["replicate"] == 1)]
    curves = read_curves(rows, "accuracy")
    assert curves.replicates == ("0", "2")
    assert curves.notes == ("Replicate 1 lacks Margin and was dropped.",)
    assert curves.values["random"][:, 0].tolist() == [0, 20]


def test_rows_without_a_number_are_left_out() -> None:
    rows = three()
    rows[1]["accuracy"] = math.nan  # random, replicate 0, 20 labels
    curves = read_curves(rows, "accuracy")
    assert curves.values["random"][0].tolist() == pytest.approx([0, 0.2 / 3, 0.2])
    assert curves.notes == ("1 rows without a finite accuracy were left out.",)


def test_doubled_rows_are_averaged_with_a_note() -> None:
    rows = three()
    curves = read_curves([*rows, {**rows[0], "accuracy": 0.5}], "accuracy")
    assert curves.values["random"][0, 0] == pytest.approx(25.0)
    assert curves.notes == ("1 label counts of a run had several rows, which were averaged.",)


def test_a_row_without_an_arm_is_everyones() -> None:
    rows = [row for row in three() if row["labels"] != 10]
    rows += [{"arm": "", "replicate": r, "labels": 10, "accuracy": 0.1 * r} for r in range(3)]
    curves = read_curves(rows, "accuracy")
    assert curves.labels.tolist() == LABELS
    assert curves.values["random"][:, 0].tolist() == curves.values["Margin"][:, 0].tolist() == [0, 10, 20]
    assert curves.flags == ()


def test_only_rows_of_the_simulation_are_compared() -> None:
    rows = [{**row, "part": "simulation"} for row in three()]
    rows.append({"part": "pilot", "arm": "", "replicate": 1, "labels": 100, "accuracy": 0.9})
    rows.append({"part": "design", "arm": "", "replicate": 0, "labels": 15, "accuracy": 0.7})
    curves = read_curves(rows, "accuracy")
    assert curves.labels.tolist() == LABELS
    found = read_whole(rows, curves)
    assert found is not None
    assert found[0] == 100
    assert found[1] == pytest.approx([math.nan, 90, math.nan], nan_ok=True)
    assert read_whole(rows[:-2], curves) is None


@pytest.mark.parametrize(
    ("metric", "sign"),
    [
        ("accuracy", 1),
        ("f1", 1),
        ("calibration_error", -1),
        ("loss", -1),
        ("torchmetrics.classification.MulticlassCalibrationError", -1),
        ("torchmetrics.classification.MulticlassCohenKappa", 1),
        ("MeanSquaredError", -1),
        ("MulticlassHingeLoss", -1),
    ],
)
def test_the_direction_is_the_metrics(metric: str, sign: int) -> None:
    assert direction(metric) == (sign, ())
    assert direction(metric, higher_is_better=sign < 0) == (-sign, ())


@pytest.mark.parametrize("metric", ["my_score", "os.path", "Nothing", "no.such.Class"])
def test_an_unknown_metric_is_taken_as_better_when_higher(metric: str) -> None:
    sign, notes = direction(metric)
    assert sign == 1
    assert f"A higher {metric} was taken to be better" in notes[0]


def test_lower_is_better_turns_the_values() -> None:
    rows = [{**row, "calibration_error": row["accuracy"]} for row in three()]
    curves = read_curves(rows, "calibration_error")
    assert curves.sign == -1
    assert curves.values["Margin"][1].tolist() == pytest.approx([-11, -11.1, -11.2])


def test_a_class_path_finds_the_column_of_the_class() -> None:
    rows = [{**row, "MulticlassCohenKappa": -row["accuracy"]} for row in three()]
    curves = read_curves(rows, "torchmetrics.classification.MulticlassCohenKappa")
    assert (curves.metric, curves.scale, curves.unit) == ("MulticlassCohenKappa", 1.0, "")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (three(("Margin", "BADGE")), r"named 'random' .* but the arms are \['Margin', 'BADGE'\]"),
        (three(("random",)), "nothing to compare"),
        (three()[:9] + [{**row, "accuracy": None} for row in three()[9:]], r"\['Margin'\] have none"),
        ([row for row in three() if (row["arm"] == "random") == (not row["replicate"])], "random has 0; Margin has 1"),
        ([row for row in three() if row["labels"] == 10], "share a range of label counts"),
        ([{**three()[0], "labels": -5}, *three()[1:]], "at least 0, but got -5 for arm 'random', replicate 0"),
        ([{**three()[0], "labels": None}, *three()[1:]], "at least 0, but got None"),
        ([{**row, "accuracy": None} for row in three()], "'accuracy' of `curves` to hold numbers, but it holds none"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_curves(rows, "accuracy")
