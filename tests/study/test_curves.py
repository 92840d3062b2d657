"""Curves side by side: what is paired, interpolated, averaged, dropped, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lightning_al.study.curves import read_curves, read_whole
from lightning_al.study.metric_direction import direction
from lightning_al.study.pairing import ENOUGH
from lightning_al.study.room import LEAST_REPLICATES
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
    assert curves.notes == (
        "Replicate 2 does not span 10 to 40 labels and was dropped: random ends at 20 in replicate 2; Margin ends at "
        "20 in replicate 2.",
    )


def test_runs_that_cost_replicates_are_named() -> None:
    rows = [
        row
        for row in three(replicates=8)
        if not (row["arm"] == "Margin" and row["replicate"] == 1 and row["labels"] == 10)
    ]
    rows = [row for row in rows if not (row["arm"] == "random" and row["replicate"] == 4 and row["labels"] == 40)]
    curves = read_curves(rows, "accuracy")
    assert curves.replicates == ("0", "2", "3", "5", "6", "7")
    assert curves.notes == (
        "Replicates 1, 4 do not span 10 to 40 labels and were dropped: Margin starts at 20 in replicate 1; random ends "
        "at 20 in replicate 4.",
    )


def test_a_range_cut_for_all_names_the_runs_that_cut_it() -> None:
    rows = [row for row in three() if not (row["arm"] == "Margin" and row["labels"] == 10)]
    assert read_curves(rows, "accuracy").notes == (
        "The curves are compared from 20 to 40 labels only, though some go from 10 to 40: Margin starts at 20 in "
        "replicates 0, 1, 2.",
    )
    four = three(("random", "A", "B", "C", "D", "E"), 1)
    cut = [row for row in four if row["arm"] == "random" or row["labels"] != 40]
    assert (
        read_curves(cut, "accuracy")
        .notes[0]
        .endswith(
            "from 10 to 40: A ends at 20 in replicate 0; B ends at 20 in replicate 0; C ends at 20 in replicate 0; "
            "D ends at 20 in replicate 0; and 1 more."
        )
    )


def lasting(ends: list[int]) -> list[dict[str, Any]]:
    """A replicate each that starts at 0 and ends at its count, both arms; one row for every tenth count."""
    return [
        {"arm": arm, "replicate": replicate, "labels": count, "accuracy": 0.5}
        for arm in ("random", "Margin")
        for replicate, end in enumerate(ends)
        for count in range(0, end + 10, 10)
    ]


@pytest.mark.parametrize(
    ("ends", "last", "replicates"),
    [
        ([20, 20, 100, 100, 100, 100, 100], 20, 7),  # 5 x 100 is more than 7 x 20, but no exact test
        ([20, 100, 100, 100, 100, 100, 100], 100, 6),
        ([20, 20, 100, 100, 100], 100, 3),  # too few either way
        ([20, 40], 40, 1),  # 2 x 20 = 1 x 40: the longer
        ([10, 10, 20], 10, 3),
        ([60] * 5 + [70] * 6, 60, 11),  # 11 x 60 = 660 against 6 x 70
        ([30] * 6 + [70] * 6, 70, 6),  # 12 x 30 = 360 against 6 x 70 = 420
    ],
)
def test_six_replicates_go_before_the_largest_product_and_that_before_length(
    ends: list[int], last: int, replicates: int
) -> None:
    curves = read_curves(lasting(ends), "accuracy")
    assert (curves.labels[0], curves.labels[-1], len(curves.replicates)) == (0, last, replicates)
    assert ENOUGH == LEAST_REPLICATES


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
    assert curves.notes == ("1 row without a finite accuracy was left out.",)


def test_doubled_rows_are_averaged_with_a_note() -> None:
    rows = three()
    curves = read_curves([*rows, {**rows[0], "accuracy": 0.5}], "accuracy")
    assert curves.values["random"][0, 0] == pytest.approx(25.0)
    assert curves.notes == ("1 label count of a run had several rows, which were averaged.",)


def test_a_fit_without_an_arm_is_refused_with_its_row() -> None:
    rows = [{**row, "part": "simulation"} for row in three()]
    pilot = {"part": "pilot", "arm": "", "replicate": 1, "labels": 100, "accuracy": 0.9}
    blank = {"part": "", "arm": math.nan, "replicate": 2, "labels": 20, "accuracy": 0.4}
    empty = {"part": "", "arm": "", "replicate": "", "labels": "", "accuracy": ""}
    with pytest.raises(
        ValueError, match=r"row 3 below the header \(replicate '2', 20 labels\) has an empty `arm`.*'random'"
    ):
        read_curves([rows[0], pilot, blank, *rows[1:]], "accuracy")
    assert read_curves([*rows, pilot, empty], "accuracy").notes == ("1 row without a finite accuracy was left out.",)


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
        (  # the second replicate starts after the first one ends, and neither has a range of its own
            [{"arm": arm, "replicate": r, "labels": n + 25 * r, "accuracy": 0.5}
             for arm, n in (("random", 10), ("Margin", 5)) for r in range(2)],
            "no replicate has two counts",
        ),
        ([{**three()[0], "part": "pilot"}, {**three()[0], "labels": "ten"}, *three()], "got 'ten' in row 2"),
        ([{**three()[0], "labels": -5}, *three()[1:]], "at least 0, but got -5 for arm 'random', replicate 0"),
        ([{**three()[0], "labels": None}, *three()[1:]], "at least 0, but got None"),
        ([{**row, "accuracy": None} for row in three()], "'accuracy' of `curves` to hold numbers, but it holds none"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_curves(rows, "accuracy")
