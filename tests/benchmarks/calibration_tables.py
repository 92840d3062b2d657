"""The tables of the calibration: shares with exact intervals, beside what is wanted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tests._helpers.ground_truth import CASES

Record = dict[str, Any]
Found = list[tuple[str, tuple[Any, ...], list[Record]]]
"""Check, place and records of each batch."""

Row = dict[str, Any]

# What the prototype measured, at one seed a case: ICC, and gains in points.
PROTOTYPE: dict[str, dict[str, float]] = {
    "rare": {"ICC": 0.90, "Margin": 9.7, "CoreSet": 11.0},
    "separable": {"ICC": 0.25, "LeastConfidence": 0.0, "Margin": 0.0, "CoreSet": 0.0, "KMeans": 0.0},
    "training_noise": {"ICC": 0.02},
    "junk": {"ICC": 0.84, "LeastConfidence": -19.5, "Margin": -3.9, "CoreSet": 2.1},
}
PROTOTYPE_POWER = {0.25: 0.05, 0.5: 0.23, 0.75: 0.51, 1.0: 0.82, 1.5: 1.0}


def share(table: str, row: str, figure: str, values: Iterable[bool], wanted: str = "", met: Any = None) -> Row:
    """One row: a share and its exact (Clopper-Pearson) 95 % interval; ``met`` tells from share and interval."""
    known = list(values)
    exact = stats.binomtest(sum(known), len(known)).proportion_ci(method="exact")
    value, low, high = sum(known) / len(known), float(exact.low), float(exact.high)
    verdict = "" if met is None else ("met" if met(value, low, high) else "MISSED")
    return {
        "table": table, "row": row, "figure": figure, "sets": len(known), "share": value, "low": low, "high": high,
        "wanted": wanted, "met": verdict,
    }  # fmt: skip


def at_least(bound: float) -> Callable[[float, float, float], bool]:
    return lambda value, low, high: value >= bound


def at_most(bound: float) -> Callable[[float, float, float], bool]:
    return lambda value, low, high: value <= bound


def covers(nominal: float) -> Callable[[float, float, float], bool]:
    """Not significantly below nominal."""
    return lambda value, low, high: high >= nominal


def case_rows(found: Found) -> Iterator[Row]:
    for case in CASES:
        mine = [r for r in _records(found, "loop") if r.get("case") == case.name]
        name = f"{case.name} ({' or '.join(case.verdicts)})"
        yield share("cases", name, "right verdict", [r["right"] for r in mine], ">= .80", at_least(0.8))
        if case.flag:
            yield share("cases", name, case.flag, [r["flagged"] for r in mine], ">= .80", at_least(0.8))
        if "promising" not in case.verdicts:
            alarms = [r["verdict"] == "promising" for r in mine]
            yield share("cases", name, "promising", alarms, "<= .05", at_most(0.05))
        yield share("cases", name, "article's rule fired", [r["article"] for r in mine])


def null_rows(found: Found) -> Iterator[Row]:
    groups: dict[tuple[str, int], list[Record]] = {}
    for check, place, records in found:
        if check == "null":
            groups.setdefault(place, []).extend(records)
        if check == "loop" and place[2]:
            for record in records:
                groups.setdefault(("real loop", record["R"]), []).append(record)
                groups.setdefault((f"real loop of {CASES[place[0]].name}", record["R"]), []).append(record)
    for (law, replicates), records in sorted(groups.items(), key=lambda group: group[0][1]):
        row = f"{law}, R = {replicates}"
        alarms = [r["verdict"] == "promising" for r in records]
        yield share("null arms", row, "promising", alarms, "<= .05", at_most(0.05))
        missed = [r["missed"] for r in records]
        yield share("null arms", row, "an interval misses", missed, ".05", lambda v, low, high: low <= 0.05)


def coverage_rows(found: Found) -> Iterator[Row]:
    for place, records in _by_place(found, "known"):
        row = f"{place[0]}, R = {place[1]}"
        yield share("coverage", row, "gains, all at once", [r["gain"] for r in records], ".95", covers(0.95))
        yield share("coverage", row, "room", [r["room"] for r in records], ".95", covers(0.95))
        both, lows = ([flag for r in records for flag in r[name]] for name in ("saving", "saving_low"))
        yield share("coverage", row, "saving", both, ".95", covers(0.95))
        yield share("coverage", row, "saving, lower end", lows, ".975", covers(0.975))
    for place, records in _by_place(found, "icc"):
        row = f"ICC {place[0]}, shared {place[1]}"
        yield share("coverage", row, "ICC", [r["icc"] for r in records], ".95", covers(0.95))


def power_rows(found: Found) -> Iterator[Row]:
    for (gain,), records in _by_place(found, "power"):
        for verdict in ("promising", "inconclusive", "not_promising"):
            wanted = f"prototype {PROTOTYPE_POWER[gain]:.2f}" if verdict == "promising" else ""
            yield share("power", f"gain {gain}", verdict, [r["verdict"] == verdict for r in records], wanted)


def measured(found: Found) -> list[Row]:
    """Means over seeds and their standard deviations, beside the prototype's one seed."""
    rows: list[Row] = []
    for case in CASES:
        mine = [r for r in _records(found, "loop") if r.get("case") == case.name]
        figures = {"ICC": [r["icc"] for r in mine], "room": [r["room"] for r in mine]}
        figures |= {arm: [r["delta"][arm] for r in mine] for arm in case.arms}
        for figure, values in figures.items():
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            row: Row = {"case": case.name, "figure": figure, "mean": float(np.mean(values)), "sd": spread}
            savings = [r["saving"][figure] for r in mine if r["saving"].get(figure) is not None]
            if figure in case.arms:
                row |= {"saving": float(np.mean(savings)) if savings else None, "censored": len(mine) - len(savings)}
            rows.append(row | {"prototype": PROTOTYPE[case.name].get(figure)})
    return rows


def print_tables(found: Found) -> list[Row]:
    """Print every table; return the rows that are shares."""
    rows = [row for table in (case_rows, null_rows, coverage_rows, power_rows) for row in table(found)]
    table = ""
    for row in rows:
        if row["table"] != table:
            table = row["table"]
            print(f"\n{table:48s} {'figure':22s} {'sets':>6s} {'share':>6s}   95 % interval  wanted")
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        line = f"{row['row']:48s} {row['figure']:22s} {row['sets']:6d} {row['share']:6.3f}  {interval}"
        print(f"{line}  {row['wanted']} {row['met']}".rstrip())
    print(
        f"\n{'means over seeds':16s} {'figure':16s} {'mean':>7s} {'SD':>6s} {'prototype':>10s} {'saving':>7s} "
        f"{'censored':>9s}"
    )
    for row in measured(found):
        prototype = "" if row["prototype"] is None else f"{row['prototype']:.2f}"
        saved = "" if row.get("saving") is None else f"{row['saving']:.2f}"
        print(
            f"{row['case']:16s} {row['figure']:16s} {row['mean']:7.2f} {row['sd']:6.2f} {prototype:>10s} {saved:>7s} "
            f"{row.get('censored', ''):>9}"
        )
    return rows


def write_tables(rows: list[Row], found: Found, output: Path) -> None:
    """Write results.csv (the shares) and results.json (also the measured gains and every case's verdicts)."""
    with (output / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    cases = [record for record in _records(found, "loop") if "case" in record]
    text = json.dumps({"shares": rows, "measured": measured(found), "cases": cases}, indent=1)
    (output / "results.json").write_text(text)


def _records(found: Found, wanted: str) -> list[Record]:
    return [record for check, _, records in found if check == wanted for record in records]


def _by_place(found: Found, wanted: str) -> list[tuple[tuple[Any, ...], list[Record]]]:
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for check, place, records in found:
        if check == wanted:
            groups.setdefault(place, []).extend(records)
    return list(groups.items())
