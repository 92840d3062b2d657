"""The tables of the selection benchmark: ratios, growth, and which targets were met."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.peers.contest import Outcome
from tests.benchmarks.roofline import Rates, all_pairs, compulsory, input_bytes
from tests.benchmarks.selection_cases import SAME_PICKS, Case

OURS, BASELINE = "lightning_al", "plain torch"
Row = dict[str, Any]

# A selection may keep so much beside its inputs: a share of their bytes, some numbers a sample, and its blocks.
MEMORY_SHARE, MEMORY_BYTES_A_SAMPLE, MEMORY_OF_BLOCKS = 0.25, 64, 16 << 20


def paired_ratio(theirs: Outcome, ours: Outcome) -> float | None:
    """Median, over the rounds that both were in, of their seconds over ours."""
    ratios = [a / b for a, b in zip(theirs.seconds, ours.seconds, strict=True) if a is not None and b is not None]
    return statistics.median(ratios) if ratios else None


def median_seconds(outcome: Outcome) -> float | None:
    seconds = [value for value in outcome.seconds if value is not None]
    return statistics.median(seconds) if seconds else None


def why_out(outcome: Outcome) -> str | None:
    """What became of one who failed or was ended."""
    return outcome.error or (f"over {outcome.gave_up_after:g} s" if outcome.gave_up_after else None)


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log seconds over log size, by least squares: time grows with size to this power."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def case_row(case: Case, outcomes: dict[str, Outcome], rates: Rates) -> Row:
    """What one case showed, with its targets."""
    ours = outcomes[OURS]
    seconds = median_seconds(ours)
    row: Row = {"case": case.name, "strategy": case.strategy, "seconds": seconds, "error": why_out(ours)}
    row |= {"rates": vars(rates), "megabytes": ours.megabytes}
    row["others"] = {name: _other(outcome, ours) for name, outcome in outcomes.items() if name != OURS}
    if seconds is None:
        return row | {"targets": {"runs": False}}
    if case.strategy in SAME_PICKS and outcomes[BASELINE].picks:
        pairs_of_picks = zip(ours.picks, outcomes[BASELINE].picks, strict=True)
        row["same_picks"] = statistics.fmean(mine == theirs for mine, theirs in pairs_of_picks)
    floor, pairs, size = compulsory(case), all_pairs(case), input_bytes(case)
    row["roofline"] = seconds / floor.seconds(rates) if floor else None
    row["all_pairs"] = seconds / pairs.seconds(rates) if pairs else None
    row["memory_share"] = ours.megabytes * 2**20 / size
    allowed = MEMORY_SHARE * size + MEMORY_BYTES_A_SAMPLE * case.samples + MEMORY_OF_BLOCKS
    known = not math.isnan(ours.megabytes)
    targets: dict[str, bool | None] = {"memory": ours.megabytes * 2**20 <= allowed if known else None}
    peers = {name: other for name, other in row["others"].items() if name != BASELINE}
    if case.faster is not None and peers:
        targets["peer"] = _faster_than_all(peers.values(), case.faster)
    if case.roofline is not None:
        targets["roofline"] = row["roofline"] <= case.roofline
    return row | {"targets": targets, "wanted": {"peer": case.faster, "roofline": case.roofline}}


def _other(outcome: Outcome, ours: Outcome) -> Row:
    """Their seconds over ours; a lower bound where they were ended, and no ratio where they failed."""
    ratio, own = paired_ratio(outcome, ours), median_seconds(ours)
    if ratio is None and outcome.gave_up_after and own:
        return {"ratio": outcome.gave_up_after / own, "at_least": True}
    return {"ratio": ratio, "at_least": False, "seconds": median_seconds(outcome), "error": why_out(outcome)}


def _faster_than_all(peers: Iterable[Row], wanted: float) -> bool | None:
    """Whether the best peer takes so many times longer; None where no peer ran, or that is not known."""
    ratios = [(peer["ratio"], peer["at_least"]) for peer in peers if peer["ratio"] is not None]
    if not ratios:
        return None
    if any(ratio < wanted and not at_least for ratio, at_least in ratios):
        return False
    return True if all(ratio >= wanted for ratio, _ in ratios) else None


def growth_row(strategy: str, grows: str, sizes: list[int], found: list[dict[str, Outcome]]) -> Row:
    """Seconds of ours and of the baseline by size, and the exponents of their growth."""
    row: Row = {"strategy": strategy, "grows": grows, "sizes": sizes}
    for name in (OURS, BASELINE):
        seconds = [median_seconds(outcomes[name]) for outcomes in found]
        known = [value for value in seconds if value is not None]
        row[f"{name} seconds"] = seconds
        row[name] = exponent(sizes, known) if len(known) == len(sizes) else None
    return row


def print_case(row: Row, header: bool) -> None:
    if header:
        columns = f"{'GB/s':>5s} {'GFLOP/s':>7s} {'ours ms':>9s} {'roofline':>9s} {'all pairs':>9s} {'memory':>12s}"
        print(f"\n{'strategy, N/D/C/B':36s} {columns} {'picks':>6s}  others' time over ours")
    if row["seconds"] is None:
        print(f"{row['case']:36s} FAILED: {row['error']}", flush=True)
        return
    memory = f"{row['megabytes']:.0f}M {row['memory_share']:.0%}"
    same = f"{row['same_picks']:.1%}" if "same_picks" in row else "-"
    print(
        f"{row['case']:36s} {row['rates']['bytes_a_second'] / 1e9:5.1f} {row['rates']['flops'] / 1e9:7.0f} "
        f"{1000 * row['seconds']:9.1f} {_times(row['roofline']):>9s} {_times(row['all_pairs']):>9s} "
        f"{memory:>12s} {same:>6s}  " + ", ".join(f"{name} {_told(other)}" for name, other in row["others"].items()),
        flush=True,
    )


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}x"


def _told(other: Row) -> str:
    if other["ratio"] is None:
        return f"failed ({other.get('error')})"
    return f"{'> ' if other['at_least'] else ''}{_times(other['ratio'])}"


def print_targets(rows: list[Row]) -> None:
    """One line a target."""
    print(f"\n{'target':78s} {'measured':>9s}")
    for row in rows:
        for name, met in row["targets"].items():
            verdict = {True: "met", False: "NOT MET", None: "not known"}[met]
            wanted = row.get("wanted", {}).get(name)
            if name == "memory":
                text = f"memory at most {MEMORY_SHARE:.0%} + {MEMORY_BYTES_A_SAMPLE} B a sample + 16 MiB"
                value = f"{row['megabytes']:.0f} MiB"
            elif name == "peer":
                text = f"at least {wanted:g}x faster than the best peer"
                value = _times(_best(row))
            elif name == "roofline":
                text, value = f"at most {wanted:g}x the roofline", _times(row["roofline"])
            else:
                text, value = name, "-"
            print(f"{row['case'] + ': ' + text:78s} {value:>9s}  {verdict}")


def _best(row: Row) -> float | None:
    ratios = [other["ratio"] for name, other in row["others"].items() if name != BASELINE and other["ratio"]]
    return min(ratios) if ratios else None


def print_growth(rows: list[Row]) -> None:
    if not rows:
        return
    print(f"\n{'growth, D = 128':24s} {'sizes':32s} {'ours ms':36s} {'exponent':>9s} {'of ' + BASELINE:>16s}")
    for row in rows:
        shown = " ".join("-" if value is None else f"{1000 * value:.3g}" for value in row[f"{OURS} seconds"])
        exponents = ["-" if row[name] is None else f"{row[name]:.2f}" for name in (OURS, BASELINE)]
        print(
            f"{row['strategy'] + ' over ' + row['grows']:24s} {' '.join(map(str, row['sizes'])):32s} {shown:36s} "
            f"{exponents[0]:>9s} {exponents[1]:>16s}"
        )


def write(folder: Path, rows: list[Row], growth: list[Row], about: Row) -> None:
    """The rows as they are in JSON, and one line a contestant in CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "selection.json").write_text(json.dumps({"about": about, "cases": rows, "growth": growth}, indent=1))
    with (folder / "selection.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "contestant", "time_over_ours", "at_least", "error"])
        for row in rows:
            for name, other in row["others"].items():
                ratio = "" if other["ratio"] is None else round(other["ratio"], 3)
                writer.writerow([row["case"], name, ratio, other["at_least"], other.get("error") or ""])
