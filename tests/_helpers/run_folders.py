"""Folders of runs written by hand, so that what a page of them must say is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lightning_al.ledger import REJECTED, Ledger, LedgerRow, encode_label
from lightning_al.run_folder import RecordedQuery, RunFolder

NAMES = ["crop", "weed", "soil"]


def answer(index: int, round: int, label: Any, strategy: str = "Margin") -> LedgerRow:
    """A row of the ledger; the label "junk" is a rejection."""
    text = REJECTED if label == "junk" else encode_label(label)
    return LedgerRow(index, round, strategy, None, text, f"2026-01-02T03:04:{index % 60:02d}+00:00")


def round_row(round: int, labeled: int, metrics: dict[str, float] | None = None, **other: Any) -> dict[str, Any]:
    """A round's row of the history."""
    counts = {"labeled": labeled, "unlabeled": 100 - labeled, "pending": 0, "rejected": 0}
    return {"round": round, **counts, "metrics": metrics or {}, "seconds_fit": 2.0, "seconds_query": 0.5, **other}


def write_sheet(folder: RunFolder, round: int, part: int = 1) -> Path:
    """A contact sheet: gray noise."""
    path = folder.query_path(round, part).with_suffix(".png")
    noise = np.random.default_rng(round).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def write_run(
    root: Path,
    *,
    history: Sequence[dict[str, Any]] = (),
    queries: dict[tuple[int, int], RecordedQuery] | None = None,
    rows: Sequence[LedgerRow] = (),
    **info: Any,
) -> RunFolder:
    """A run's folder.

    Args:
        root: Where ``active_learning`` is made.
        history: Rows of rounds.csv.
        queries: What was asked; each has a contact sheet.
        rows: The ledger.
        info: Changes of run.json.
    """
    folder = RunFolder(root / "active_learning")
    known = {"finished": False, "reason": "", "pool_size": 100, "strategy": "Margin()", "seed": 7, "answers_for": 0}
    folder.write_run({**known, "classes": NAMES, "round": 0, **info})
    for (round, part), query in (queries or {}).items():
        folder.write_query(round, query, part)
        write_sheet(folder, round, part)
    Ledger(folder.ledger_path).append(rows)
    if history:
        folder.write_rounds(history)
    return folder


def eventful(root: Path, **info: Any) -> RunFolder:
    """Two rounds of a run in which all went wrong that people do, waiting for the third query.

    First labels 0 to 3; round 1 asked 10 to 15 (13 at random; 14 is junk, 15 came late) and 16 in place of 14; round 2
    asked 20 to 23 (22 at random; 23 is not answered yet); round 3 asks 30 and 31. The label of 1 was corrected.
    """
    queries = {
        (1, 1): RecordedQuery([10, 11, 12, 13, 14, 15], None, "Margin", frozenset([13]),
                              paths=[f"photos/{index}.png" for index in range(10, 16)]),
        (1, 2): RecordedQuery([16], None, "Margin"),
        (2, 1): RecordedQuery([20, 21, 22, 23], None, "Margin", frozenset([22])),
        (3, 1): RecordedQuery([30, 31], None, "Margin"),
    }  # fmt: skip
    rows = [answer(index, 0, index % 2, "initial") for index in range(4)]
    rows += [answer(index, 1, 1) for index in (10, 11, 12)] + [answer(13, 1, 2, "control"), answer(14, 1, "junk")]
    rows += [answer(16, 1, 0)]
    rows += [
        answer(20, 2, 1),
        answer(21, 2, 1),
        answer(22, 2, 2, "control"),
        answer(15, 2, 0),
        answer(1, 2, 2, "by hand"),
    ]
    history = [
        round_row(0, 4, {"val_acc": 0.5, "val_loss": 1.25}),
        round_row(1, 9, {"val_acc": 0.75, "val_loss": 0.75}, rejected=1, pending=1, cost=9.5),
        round_row(2, 13, {"val_acc": 0.625, "val_loss": 1.0}, rejected=1, pending=1, cost=14.25),
    ]
    return write_run(root, history=history, queries=queries, rows=rows, **{"round": 2, "answers_for": 3, **info})
