"""The table of a study: what stands in the file is what the cells hold."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning_al.study.design import Design
from lightning_al.study.reading import read_table
from lightning_al.study.table import picks_of, rows_of, write_rows

DESIGN = Design(40, 4, 3, 2, 2, 2, (0.5,), 1, ("Margin",), seed=0)


def cell(part: str, arm: str = "", replicate: int = 0, **more: Any) -> dict[str, Any]:
    common = {
        "part": part, "arm": arm, "replicate": replicate, "bucket": None, "fraction": None, "round": None, "labels": 4,
        "seed": 9, "metrics": {"accuracy": 0.1 + 0.2, "auroc": None}, "seconds_fit": 1.5, "seconds_predict": 0.25,
        "seconds_query": {}, "peak_memory_mb": 3.0, "picked": {},
    }  # fmt: skip
    return {**common, **more}


CELLS = [
    cell("pilot", replicate=1, labels=40),
    cell("simulation", "Margin", 0, round=1, labels=7, seconds_query={"Margin": 0.5}, picked={"Margin": [8, 2, 5]}),
    cell("simulation", "random", 0, round=1, labels=7, seconds_query={"random": 0.1}, picked={"random": [1, 2, 3]}),
    cell(
        "simulation", round=0, seconds_query={"random": 0.2, "Margin": 0.4},
        picked={"random": [0, 4, 6], "Margin": [3, 1, 9]},
    ),
    cell("design", fraction=0.5, bucket=1, labels=10),
    cell("design", fraction=0.5, bucket=0, labels=10),
]  # fmt: skip


def test_rows_stand_in_an_order_of_their_own_with_the_seconds_of_their_arm() -> None:
    found = rows_of(CELLS, DESIGN)
    assert found == rows_of(CELLS[::-1], DESIGN)
    assert [(row["part"], row["arm"], row["bucket"], row["round"], row["seconds_query"]) for row in found] == [
        ("design", "", 0, None, 0.0),
        ("design", "", 1, None, 0.0),
        ("simulation", "random", None, 0, 0.2),
        ("simulation", "random", None, 1, 0.1),
        ("simulation", "Margin", None, 0, 0.4),
        ("simulation", "Margin", None, 1, 0.5),
        ("pilot", "", None, None, 0.0),
    ]


def test_the_file_gives_every_number_back(tmp_path: Path) -> None:
    rows = rows_of(CELLS, DESIGN)
    write_rows(rows, tmp_path / "curves.csv")

    with (tmp_path / "curves.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == [
        "part", "arm", "replicate", "bucket", "fraction", "round", "labels", "seed", "accuracy", "auroc", "seconds_fit",
        "seconds_predict", "seconds_query", "peak_memory_mb",
    ]  # fmt: skip
    assert [float(row["accuracy"]) for row in read] == [0.1 + 0.2] * 7
    assert {row["auroc"] for row in read} == {""}
    assert [row["bucket"] for row in read] == ["0", "1", "", "", "", "", ""]
    assert read_table(tmp_path / "curves.csv").keys() == read_table(rows).keys()


def test_a_name_with_commas_and_quotes_survives(tmp_path: Path) -> None:
    name = 'Power("Margin", beta=1.0)'
    write_rows([{**row, "arm": name} for row in rows_of(CELLS[:1], DESIGN)], tmp_path / "curves.csv")
    assert read_table(tmp_path / "curves.csv")["arm"] == [name]


def test_picks_follow_the_rounds_and_leave_out_what_is_not_whole() -> None:
    assert picks_of(CELLS, DESIGN) == {"random": [[0, 4, 6, 1, 2, 3]], "Margin": [[3, 1, 9, 8, 2, 5]]}
    assert picks_of([CELLS[3], CELLS[2]], DESIGN) == {"random": [[0, 4, 6, 1, 2, 3]], "Margin": []}
