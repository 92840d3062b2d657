"""Tables of fits in every form they come in, and what is wrong with those that cannot be read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lightning_al.study.reading import in_order, metrics_in, name_of, numbers, read_table, require_columns, rows_of

ROWS = [{"arm": "random", "labels": 10, "accuracy": 0.5}, {"arm": "Margin, plain", "labels": 20, "accuracy": None}]


def test_every_source_gives_the_same_columns(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    sources: list[Any] = [ROWS, pd.DataFrame(ROWS), {name: [row[name] for row in ROWS] for name in ROWS[0]}, path]
    for source in [*sources, str(path)]:
        table = read_table(source)
        assert list(table) == ["arm", "labels", "accuracy"]
        assert table["arm"] == ["random", "Margin, plain"]
        assert numbers(table, "labels").tolist() == [10, 20]
        assert numbers(table, "accuracy")[0] == 0.5
        assert math.isnan(numbers(table, "accuracy")[1])


def test_a_file_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes("\ufeffarm, labels\r\nrandom,10\r\n\r\n".encode())
    assert read_table(path) == {"arm": ["random"], "labels": ["10"]}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "a DataFrame, a mapping of columns or a list of rows, but got int"),
        ([], "at least one row"),
        ({"arm": []}, "at least one row"),
        ({"arm": ["random"], "labels": []}, "of one length, but got {'arm': 1, 'labels': 0}"),
    ],
)
def test_what_is_no_table_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("arm,labels\nrandom\n", "header's 2 cells, but line 2 has 1"),
        ('arm,labels\n\n"a\nb",1\nrandom\n', "header's 2 cells, but line 5 has 1"),
        ("arm,labels, arm\nrandom,1,Margin\n", r"its own name, but \['arm'\] stand there twice"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "can't decode byte 0x89"),
        ("arm,labels\nrandom,1\n".encode("utf-16-le"), "it holds NUL bytes"),
        (b"arm,labels\nrandom,1\x00\n", "it holds NUL bytes"),
        (b"arm,labels\n" + b"a" * 200_000 + b",1\n", "field larger than field limit"),
    ],
)
def test_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"curves\.csv' to be a table as CSV.*{message}.*commas, in UTF-8") as raised:
        read_table(path)
    assert type(raised.value) is ValueError


def test_an_unnamed_column_may_stand_twice(tmp_path: Path) -> None:
    """As spreadsheets and pandas write what nobody named."""
    path = tmp_path / "curves.csv"
    path.write_text(",arm,\n0,random,\n")
    assert read_table(path)["arm"] == ["random"]


def test_metrics_are_what_tells_neither_place_nor_effort() -> None:
    place = {name: ["1"] for name in ("part", "arm", "replicate", "bucket", "fraction", "round", "labels", "seed", "")}
    effort = {name: [2.0] for name in ("seconds_fit", "seconds_of_my_own", "peak_memory_mb")}
    table = {**place, "f1": ["0.5"], "remark": ["good"], "late": [None], "half": ["", 0.5], **effort}
    assert metrics_in({name: column * (1 + (len(column) == 1)) for name, column in table.items()}) == ["f1", "half"]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.csv"):
        read_table(tmp_path / "absent.csv")


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"\['replicate'\] are not among \['arm', 'labels', 'accuracy'\]"):
        require_columns(read_table(ROWS), ["arm", "replicate"])


def test_text_among_numbers_is_named() -> None:
    with pytest.raises(ValueError, match=r"'accuracy' of `curves` to hold numbers, but got 'good' in row 2"):
        numbers({"accuracy": ["0.5", "good"]}, "accuracy")


def test_infinite_numbers_are_missing() -> None:
    assert [math.isnan(value) for value in numbers({"y": ["inf", "-inf", "nan", "", None, "1"]}, "y")] == [True] * 5 + [
        False
    ]


def test_parts_are_told_apart() -> None:
    table = read_table({"part": ["design", "simulation", "", math.nan, "pilot"], "labels": [1, 2, 3, 4, 5]})
    assert rows_of(table, "simulation")["labels"] == [2, 3, 4]
    assert rows_of(table, "design")["labels"] == [1]
    assert rows_of({"labels": [1]}, "simulation") == {"labels": [1]}
    assert rows_of({"labels": [1]}, "pilot") == {"labels": []}


def test_names_do_not_depend_on_how_a_number_was_written() -> None:
    assert [name_of(value) for value in (3, 3.0, "3", " 3.0 ", "v1.0", None)] == ["3", "3", "3", "3", "v1.0", ""]
    assert in_order({"10", "2", "-1", "b", "a"}) == ["-1", "2", "10", "a", "b"]
