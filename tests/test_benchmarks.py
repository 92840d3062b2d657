"""What the selection benchmark compares is the same selection, and its tables tell it right. Nothing is timed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks import selection_tables as tables
from tests.benchmarks.peers.contest import Contestant, Limits, Outcome, compete
from tests.benchmarks.peers.environments import PEERS, CannotInstallError, Peer, environment, last_line
from tests.benchmarks.peers.with_lightning_al import SELECTIONS as OURS
from tests.benchmarks.peers.with_plain_torch import SELECTIONS as PLAIN
from tests.benchmarks.roofline import Rates, Work, all_pairs, compulsory, input_bytes
from tests.benchmarks.selection_cases import CASES, NEEDS, SAME_PICKS, Case

RATES = Rates(bytes_a_second=1e9, flops=1e10)


def picks(selections, case: Case, dtype: torch.dtype = torch.float32) -> list[int]:
    inputs = case.inputs()
    tensors = {name: torch.from_numpy(array).to(dtype) for name, array in inputs.items()}
    numbers = case.numbers(inputs) | ({"num_samples": 1000} if case.strategy == "BatchBALD" else {})
    return [int(pick) for pick in selections[case.strategy](**tensors, **numbers)()]


@pytest.mark.parametrize("strategy", sorted(SAME_PICKS))
def test_ours_and_the_baseline_pick_the_same(strategy):
    case = replace(next(case for case in CASES if case.strategy == strategy), samples=400, query_size=30)
    dtype = torch.float64 if case.dimensions else torch.float32  # else the plain sums' rounding may decide
    case = replace(case, dimensions=min(case.dimensions, 64))
    ours = picks(OURS, case, dtype)
    assert len(set(ours)) == 30
    assert ours == picks(PLAIN, case, dtype)


def test_batch_bald_picks_the_same_while_outcomes_are_enumerated():
    case = Case("BatchBALD", 60, classes=4, draws=8, query_size=5)  # 4^4 outcomes at most
    assert picks(OURS, case) == picks(PLAIN, case)


@pytest.mark.parametrize("strategy", sorted(set(NEEDS) - SAME_PICKS))
def test_what_draws_at_random_picks_as_many_different_samples(strategy):
    base = next(case for case in CASES if case.strategy == strategy)
    case = replace(base, samples=300, dimensions=min(base.dimensions, 32), query_size=8, draws=min(base.draws, 5))
    for selections in (OURS, PLAIN):
        chosen = picks(selections, case)
        assert len(set(chosen)) == 8
        assert set(chosen) <= set(range(300))


def test_inputs_are_repeatable_float32_and_as_large_as_named():
    for case in (replace(case, samples=50) for case in CASES):
        inputs, again = case.inputs(), case.inputs()
        assert set(inputs) == set(NEEDS[case.strategy])
        for name, array in inputs.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, again[name])
        assert sum(array.nbytes for name, array in inputs.items() if not name.startswith("labeled")) == input_bytes(
            case
        )


def test_the_roofline_is_the_longer_of_reading_and_multiplying():
    assert Work(bytes=2e9, flops=1e10).seconds(RATES) == 2.0
    assert Work(bytes=2e9, flops=3e10).seconds(RATES) == 3.0
    core_set = Case("CoreSet", 1000, 100, query_size=10)
    assert compulsory(core_set) == Work(4 * 1000 * 100)
    assert all_pairs(core_set) == Work(4 * 1000 * 100, 2 * 1000 * 100 * 10)
    assert all_pairs(Case("BADGE", 1000, 100, 7, 10)) == Work(4 * 1000 * 107, 2 * 1000 * 107 * 10)
    assert compulsory(Case("KMeans", 1000, 100, query_size=10)).flops == 20 * 2 * 1000 * 100 * 10
    assert compulsory(Case("BatchBALD", 1000, 0, 10, 10, draws=5)) is None


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_an_exponent_is_the_power_a_time_grows_with(power):
    sizes = [125, 250, 500, 1000]
    assert tables.exponent(sizes, [3e-4 * size**power for size in sizes]) == pytest.approx(power)


def test_growth_is_told_of_medians_and_not_where_one_is_missing():
    def outcomes(seconds: float, plain: float | None) -> dict[str, Outcome]:
        return {tables.OURS: Outcome([9.0, seconds, 0.0]), tables.BASELINE: Outcome([plain])}

    row = tables.growth_row("CoreSet", "B", [10, 20], [outcomes(1.0, 2.0), outcomes(2.0, None)])
    assert row[tables.OURS] == pytest.approx(1.0)
    assert row[tables.BASELINE] is None


def test_ratios_are_of_the_rounds_that_both_were_in():
    ours, theirs = Outcome([1.0, 2.0, 4.0]), Outcome([10.0, 30.0, None])
    assert tables.paired_ratio(theirs, ours) == 12.5  # of 10 and 15, and not 20 / 2
    assert tables.paired_ratio(Outcome([None, None, None]), ours) is None


def case_row(case: Case, others: dict[str, Outcome], megabytes: float = 1.0) -> tables.Row:
    ours = Outcome([0.5, 0.5], megabytes, [1, 2])
    return tables.case_row(
        case, {tables.OURS: ours, tables.BASELINE: Outcome([1.0, 1.0], 1.0, [1, 3]), **others}, RATES
    )


def test_a_row_says_which_targets_are_met():
    case = Case("CoreSet", 100_000, 1000, query_size=10, faster=4, roofline=1.5)  # 0.4 s to read
    row = case_row(case, {"quick": Outcome([1.5, 1.5]), "slow": Outcome([None, None], gave_up_after=40.0)})
    assert row["roofline"] == pytest.approx(1.25)
    assert row["same_picks"] == 0.5
    assert row["others"]["slow"] == {"ratio": 80.0, "at_least": True}
    assert row["targets"] == {"memory": True, "peer": False, "roofline": True}
    assert not case_row(case, {}, megabytes=150.0)["targets"]["memory"]  # 25 % of 381 MiB, 6 and 16 are 118


def test_a_peer_that_failed_meets_nothing_and_one_that_was_ended_may():
    case = Case("CoreSet", 1000, 100, query_size=10, faster=100)
    failed, ended = Outcome([None, None], error="MemoryError"), Outcome([None, None], gave_up_after=40.0)
    assert case_row(case, {"failed": failed})["targets"]["peer"] is None
    assert case_row(case, {"ended": ended})["targets"]["peer"] is None  # 80x or more: 100x is not known
    assert case_row(replace(case, faster=50), {"ended": ended, "failed": failed})["targets"]["peer"] is True


def test_tables_are_printed_and_written(tmp_path, capsys):
    case = Case("CoreSet", 50_000, 512, 10, 1000, faster=2, roofline=5)
    rows = [case_row(case, {"slow": Outcome([2.0, 2.0]), "broken": Outcome([None, None], error="ImportError: no")})]
    tables.print_case(rows[0], header=True)
    tables.print_targets(rows)
    grown = [{name: Outcome([seconds]) for name in (tables.OURS, tables.BASELINE)} for seconds in (1.0, 4.0)]
    tables.print_growth([tables.growth_row("CoreSet", "N", [1, 2], grown)])
    said = capsys.readouterr().out
    assert "CoreSet 50k/512/10/1k" in said
    assert "slow 4x, broken failed (ImportError: no)" in said
    assert "at least 2x faster than the best peer" in said
    assert "2.00" in said
    tables.write(tmp_path, rows, [], {"rounds": 2})
    assert (tmp_path / "selection.csv").read_text().splitlines()[2] == "CoreSet 50k/512/10/1k,slow,4.0,False,"
    assert '"rounds": 2' in (tmp_path / "selection.json").read_text()


def test_contestants_answer_are_ended_or_tell_their_error(tmp_path):
    script = tmp_path / "peer.py"
    serving = Path(tables.__file__).parent / "peers"
    script.write_text(f"""
import sys, time
sys.path.insert(0, {str(serving)!r})
from serving import serve
def right(probs, query_size):
    print("this is no answer")
    return lambda: probs[:, 0].argsort()[:query_size]
def wrong(probs, query_size):
    def select():
        if len(probs) > 600:
            raise RuntimeError("too many")
        return []
    return select
def slow(probs, query_size):
    return lambda: time.sleep(60 if len(probs) > 600 else 0) or []
serve({{"right": right, "wrong": wrong, "slow": slow}})
""")
    probs = np.random.default_rng(0).random((700, 2), dtype=np.float32)
    np.save(tmp_path / "probs.npy", probs)
    contestant = Contestant(sys.executable, str(script), ("right", "wrong", "slow"), Limits(seconds=1.0))

    def compete_in(strategy: str) -> Outcome:
        request = {"strategy": strategy, "folder": str(tmp_path), "numbers": {"query_size": 5}}
        return compete({"peer": contestant}, request, 2, patience=60)["peer"]

    try:
        assert compete_in("right").picks == probs[:, 0].argsort()[:5].tolist()
        wrong = compete_in("wrong")
        assert (wrong.error, wrong.seconds) == ("RuntimeError: too many", [None, None])
        assert compete_in("slow").gave_up_after == 1.0
        assert None not in compete_in("right").seconds  # a new process, after one that was ended
    finally:
        contestant.close()


def test_each_peer_script_offers_what_is_said_of_it():
    for peer in PEERS:
        text = (Path(tables.__file__).parent / "peers" / peer.script).read_text()
        offered = text.split("SELECTIONS = {")[1].split("}\n")[0]
        assert {line.split('"')[1] for line in offered.splitlines() if '":' in line} == peer.strategies


def test_a_peer_that_cannot_be_installed_says_why(tmp_path, monkeypatch):
    def create(home: Path, **options: bool) -> None:
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "python").write_text("#!/bin/sh\necho looking >&2; echo ERROR: no such version >&2; exit 1\n")
        (home / "bin" / "python").chmod(0o755)

    monkeypatch.setattr("venv.create", create)
    peer = Peer("none", "none.py", ("none",), frozenset())
    for _ in range(2):  # the first failure leaves nothing that the second takes for an environment
        with pytest.raises(CannotInstallError, match=r"^ERROR: no such version$"):
            environment(peer, tmp_path)
        (tmp_path / "none" / "bin" / "python").unlink()
        (tmp_path / "none" / "bin").rmdir()
    assert last_line("Traceback:\n  File\nValueError: bad\n\n") == "ValueError: bad"
