"""How often the study's verdicts are right and its intervals cover, on problems and curves whose truth is known.

Loops: simulated active learning on four cases with a known right verdict (50 seeds each), and on the same cases with
arms that are all random in disguise. Sets: drawn curves, for false alarms, coverage and power. Both are stored in the
output folder, each when it is finished: a run that was killed goes on when started again. What the statistics say of
them is stored under a name made from their source, and made anew where that changed. 50 minutes on one idle core, 42
of them the loops. Writes results.csv and results.json, and prints the tables.

python -m tests.benchmarks.calibration --workers 2 --output calibration
nohup nice -n 10 python -m tests.benchmarks.calibration --workers 1 --output calibration > calibration.log &
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_al.durable import replacing, write_atomically
from lightning_al.strategies import QueryStrategy, Random, get_strategy
from lightning_al.study import comparison, curves, room, saving, sign_flip, variance, verdict
from lightning_al.study.comparison import Comparison, compare_arms
from lightning_al.study.curves import Curves, read_curves, read_whole
from lightning_al.study.variance import decompose
from lightning_al.study.verdict import decide
from tests._helpers import simulated_curves as simulated
from tests._helpers.ground_truth import CASES, curve_table, fit_whole, make_data, nested_design, simulate
from tests.benchmarks.calibration_tables import print_tables, write_tables

Record = dict[str, Any]

DELTA, SAVING = 0.5, 0.1  # the study's defaults
REPLICATES, MOST_REPLICATES = 10, 20
DISGUISES = 4
GAINS = (0.25, 0.5, 0.75, 1.0, 1.5)
SPREAD = 0.8  # points; that of an arm's gain between replicates, in the power table
SETS_AT_ONCE = 100


@dataclass(frozen=True)
class Loop:
    """Simulated loops of one seed: a case with its own arms, or with arms that are all random in disguise."""

    case: int
    seed: int
    disguised: bool

    @property
    def name(self) -> str:
        return f"{'disguised' if self.disguised else 'case'}-{CASES[self.case].name}-{self.seed:03d}"

    def run(self, output: Path) -> None:
        """Store accuracies by arm, and of a case also those of the whole-pilot fits and of the nested design."""
        case, data = CASES[self.case], make_data(CASES[self.case].name, self.seed)
        arms: dict[str, QueryStrategy] = {"random": Random()}
        if self.disguised:
            arms |= {f"disguise_{i + 1}": Random() for i in range(DISGUISES)}
            arrays = simulate(case, data, self.seed, arms, range(MOST_REPLICATES))
        else:
            arms |= {name: get_strategy(name) for name in case.arms}
            arrays = simulate(case, data, self.seed, arms, range(REPLICATES))
            arrays["whole"] = fit_whole(case, data, self.seed, range(REPLICATES))
            arrays["design"] = nested_design(case, data, self.seed)
        with replacing(self.file(output)) as path, path.open("wb") as file:
            np.savez_compressed(file, **dict[str, Any](arrays))

    def file(self, output: Path) -> Path:
        return output / "loops" / f"{self.name}.npz"


@dataclass(frozen=True)
class Judged:
    """What the statistics say of one loop, or of a hundred drawn curve sets: a list of records."""

    check: str
    place: tuple[Any, ...]
    numbers: range
    statistics: str  # their fingerprint when the run began

    def run(self, output: Path) -> None:
        if self.check == "loop":
            records = judge_loop(Loop(*self.place), output)
        else:
            records = [DRAWN[self.check](self.generator(n), *self.place) for n in self.numbers]
        write_atomically(self.file(output), json.dumps(records).encode())

    def generator(self, number: int) -> np.random.Generator:
        """A stream of each set: it does not depend on how many sets there are."""
        return np.random.default_rng([*f"{self.check} {self.place}".encode(), number])

    def file(self, output: Path) -> Path:
        name = "-".join(map(str, (self.check, *self.place, self.numbers.start, self.numbers.stop)))
        return output / f"judged-{self.statistics}" / f"{name}.json"


def fingerprint() -> str:
    """What the statistics' source hashes to: judgements of another version are not taken for this one's."""
    modules = (comparison, curves, room, saving, sign_flip, variance, verdict)
    return hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in modules)).hexdigest()[:8]


def judge_loop(loop: Loop, output: Path) -> list[Record]:
    arrays = dict(np.load(loop.file(output)))
    if loop.disguised:
        parts = [slice(0, 6), slice(0, 10), slice(10, 20), slice(0, 20)]
        return [
            {"R": part.stop - part.start, **false_alarms(simulated.as_curves(arrays, part), None)} for part in parts
        ]
    case = CASES[loop.case]
    table = curve_table({arm: arrays[arm] for arm in ("random", *case.arms)}, arrays["whole"], arrays["design"])
    paired = read_curves(table, "accuracy")
    whole = read_whole(table, paired)
    compared = compare_arms(paired, delta=DELTA, saving=SAVING, whole=whole[1] if whole else None)
    spread = decompose(100 * arrays["design"])
    assert spread is not None
    said = decide(compared, spread)
    first = arrays["design"][:, :, 0]
    return [
        {
            "case": case.name,
            "seed": loop.seed,
            "verdict": said.verdict,
            "right": said.verdict in case.verdicts,
            "flags": list(said.flags),
            "flagged": case.flag is None or case.flag in said.flags,
            "article": bool(first[0].max() > first[3].min()),
            "icc": spread.icc,
            "room": compared.room.mean if compared.room else None,
            "delta": {arm.name: arm.delta for arm in compared.arms},
            "low": {arm.name: arm.low for arm in compared.arms},
            "high": {arm.name: arm.high for arm in compared.arms},
            "saving": {arm.name: arm.saving for arm in compared.arms},
        }
    ]


def false_alarms(paired: Curves, whole: Any) -> Record:
    compared = compare_arms(paired, delta=DELTA, saving=SAVING, whole=whole)
    said = decide(compared)
    return {"verdict": said.verdict, "missed": _missed(compared, [0.0] * len(compared.arms))}


def _missed(compared: Comparison, truth: Sequence[float]) -> bool:
    """Whether any of the simultaneous intervals misses its true gain."""
    return any(not arm.low <= gain <= arm.high for arm, gain in zip(compared.arms, truth, strict=True))


def draw_null(rng: np.random.Generator, law: str, replicates: int) -> Record:
    """All arms are random; there is much room, so that a saturated curve never hides a false alarm."""
    flat = [np.zeros(len(simulated.LABELS))] * DISGUISES
    spread = float(np.exp(rng.uniform(np.log(0.2), np.log(2))))
    paired = simulated.draw_curves(rng, _law(law), simulated.draw_shape(rng), replicates, flat, spread)
    return false_alarms(paired, paired.values["random"][:, -1] + 10)


def draw_known(rng: np.random.Generator, law: str, replicates: int) -> Record:
    """Arms that need two thirds or half of the labels: do the intervals hold the true gain, room and saving?"""
    shape = simulated.draw_shape(rng)
    lifts = [shape.faster(factor) for factor in (1.5, 2.0)]
    paired = simulated.draw_curves(rng, _law(law), shape, replicates, lifts, SPREAD)
    whole = shape.at(simulated.PILOT) + rng.normal(0, 1, replicates)
    compared = compare_arms(paired, delta=DELTA, saving=SAVING, whole=whole)
    truth = [simulated.true_saving(shape, lift, DELTA) for lift in lifts]
    most, found = simulated.true_room(shape, lifts), compared.room
    return {
        "gain": not _missed(compared, [float(simulated.area(lift)) for lift in lifts]),
        "room": found is not None and found.low <= most <= found.high,
        "saving": [arm.saving_low <= s <= arm.saving_high for arm, s in zip(compared.arms, truth, strict=True)],
        "saving_low": [arm.saving_low <= s for arm, s in zip(compared.arms, truth, strict=True)],
    }


def draw_icc(rng: np.random.Generator, icc: float, shared: float) -> Record:
    found = decompose(simulated.draw_design(rng, icc, shared))
    assert found is not None
    return {"icc": bool(found.icc_low <= icc <= found.icc_high)}


def draw_power(rng: np.random.Generator, gain: float) -> Record:
    """One arm of four gains; its curve leaves random's at once and stays above it by as much."""
    lift = np.array([0.0] + [1.0] * (len(simulated.LABELS) - 1))
    lifts = [lift * gain / float(simulated.area(lift)), *[np.zeros(len(lift))] * (DISGUISES - 1)]
    paired = simulated.draw_curves(rng, _law("normal"), simulated.draw_shape(rng), REPLICATES, lifts, SPREAD)
    compared = compare_arms(paired, delta=DELTA, saving=SAVING, whole=paired.values["random"][:, -1] + 10)
    return {"verdict": decide(compared).verdict}


DRAWN: dict[str, Callable[..., Record]] = {
    "null": draw_null,
    "known": draw_known,
    "icc": draw_icc,
    "power": draw_power,
}


def _law(name: str) -> simulated.Law:
    return next(law for law in simulated.LAWS if law.name == name)


def drawn_jobs(sets: int, statistics: str) -> list[Judged]:
    laws = [law.name for law in simulated.LAWS]
    places: list[tuple[str, tuple[Any, ...]]] = [("power", (gain,)) for gain in GAINS]
    places += [("null", (law, replicates)) for law in laws for replicates in (6, 10, 20)]
    places += [("known", (law, replicates)) for law in laws for replicates in (6, 10, 20)]
    places += [("icc", (icc, shared)) for icc in (0.1, 0.35, 0.7, 0.9) for shared in (0.0, 0.5)]
    return [
        Judged(check, place, range(start, min(start + SETS_AT_ONCE, sets)), statistics)
        for check, place in places
        for start in range(0, sets, SETS_AT_ONCE)
    ]


def finish(jobs: Sequence[Loop | Judged], output: Path, workers: int, what: str) -> None:
    """Run the jobs whose files are not there yet."""
    waiting = [job for job in jobs if not job.file(output).exists()]
    print(f"{what}: {len(jobs) - len(waiting)} of {len(jobs)} are there already", flush=True)
    if not waiting:
        return
    began = time.time()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker) as pool:
        for number, future in enumerate(as_completed([pool.submit(job.run, output) for job in waiting]), 1):
            future.result()
            if number % 20 == 0 or number == len(waiting):
                left = (time.time() - began) / number * (len(waiting) - number)
                print(f"  {number} of {len(waiting)}, {left / 60:.0f} min left", flush=True)


def _start_worker() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="generator seeds a case (default: 50)")
    parser.add_argument("--sets", type=int, default=2000, help="drawn sets a row of the tables (default: 2000)")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: 2)")
    parser.add_argument("--output", type=Path, default=Path("outputs/calibration"), help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="2 seeds and 100 sets, to see that it runs: 2 minutes")
    arguments = parser.parse_args()
    seeds, sets = (2, 100) if arguments.quick else (arguments.seeds, arguments.sets)

    loops = [Loop(case, seed, False) for seed in range(seeds) for case in range(len(CASES))]
    loops += [Loop(case, seed, True) for seed in range(seeds) for case in range(len(CASES))]
    finish(loops, arguments.output, arguments.workers, "loops")
    statistics = fingerprint()
    judged = [Judged("loop", (loop.case, loop.seed, loop.disguised), range(1), statistics) for loop in loops]
    jobs = [*judged, *drawn_jobs(sets, statistics)]
    finish(jobs, arguments.output, arguments.workers, "judgements")
    found = [(job.check, job.place, json.loads(job.file(arguments.output).read_text())) for job in jobs]
    rows = print_tables(found)
    write_tables(rows, found, arguments.output)


if __name__ == "__main__":
    main()
