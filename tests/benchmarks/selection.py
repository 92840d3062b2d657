"""How fast are the selections? Beside other libraries, a plain baseline, and what this machine could do at best.

    python -m tests.benchmarks.selection --quick
    python -m tests.benchmarks.selection --peers --output outputs/selection

Every contestant is a process of its own, on one thread, with the same inputs; they select in turn, round by round, and
only the selection is timed. Ratios are medians over the rounds of both times; on a busy machine trust these, not times.
``roofline`` is our time over the longer of what cannot be avoided: reading the inputs once, and the products that the
strategy is made of, at the rates measured in the same run. ``all pairs`` is our time over that of one product of all
samples with all picks. ``picks`` is the share of ranks at which the baseline picks the same; in float32 its distances
are the less exact, and near ties may go the other way. With ``--peers`` other libraries are installed on first use,
each in an environment of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks import selection_tables as tables
from tests.benchmarks.peers.contest import Contestant, Limits, Outcome, compete
from tests.benchmarks.peers.environments import DEFAULT_FOLDER, PEERS, CannotInstallError, environment
from tests.benchmarks.roofline import measure_rates
from tests.benchmarks.selection_cases import CASES, GROWING, NEEDS, Case, growth_cases

PATIENCE = 10.0  # seconds that a contestant may spend on one case, but for the round that it is in


def own_contestants(limits: Limits) -> dict[str, Contestant]:
    """This package, and the baseline to compare it with."""
    return {
        tables.OURS: Contestant(sys.executable, "with_lightning_al.py", NEEDS, limits),
        tables.BASELINE: Contestant(sys.executable, "with_plain_torch.py", NEEDS, limits),
    }


def run_case(case: Case, contestants: dict[str, Contestant], rounds: int) -> dict[str, Outcome]:
    """Let the contestants select from the case's inputs."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = case.inputs()
        for name, array in inputs.items():
            np.save(Path(folder) / f"{name}.npy", array)
        request: dict[str, Any] = {"strategy": case.strategy, "folder": folder, "numbers": case.numbers(inputs)}
        del inputs
        return compete(contestants, request, rounds, PATIENCE)


def peer_contestants(folder: Path, limits: Limits) -> tuple[dict[str, Contestant], dict[str, str]]:
    """The other libraries, and why some of them cannot be installed."""
    contestants, errors = {}, {}
    for peer in PEERS:
        try:
            contestants[peer.name] = Contestant(environment(peer, folder), peer.script, peer.strategies, limits)
        except CannotInstallError as error:
            errors[peer.name] = str(error)
            print(f"{peer.name} cannot be installed: {error}", flush=True)
    return contestants, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="also run bmdal_reg, baal, scikit-activeml and modAL")
    parser.add_argument("--peers_folder", type=Path, default=DEFAULT_FOLDER, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=list(NEEDS), metavar="NAME", help="these strategies alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no_growth", action="store_true", help="leave out how time grows with N and B")
    parser.add_argument("--output", type=Path, help="folder for selection.json and selection.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 2 if arguments.quick else arguments.rounds
    limits = Limits(seconds=10) if arguments.quick else Limits()
    strategies = arguments.only or list(NEEDS)
    began = time.time()

    own, errors = own_contestants(limits), dict[str, str]()
    contestants = dict(own)
    if arguments.peers:
        peers, errors = peer_contestants(arguments.peers_folder, limits)
        contestants |= peers
    print(f"one thread, {rounds} rounds")
    try:
        rows = []
        for case in (case.quick() if arguments.quick else case for case in CASES if case.strategy in strategies):
            own[
                tables.OURS
            ].close()  # its memory is that of a new process, where no allocator keeps what earlier work freed
            rates = measure_rates(torch.device("cpu"))  # anew each time: what the machine has left for us changes
            rows.append(tables.case_row(case, run_case(case, contestants, rounds), rates))
            tables.print_case(rows[-1], header=len(rows) == 1)
        growth = []
        for strategy in (strategy for strategy in GROWING if strategy in strategies and not arguments.no_growth):
            for grows, cases in growth_cases(strategy, arguments.quick).items():
                found = [run_case(case, own, min(rounds, 3)) for case in cases]
                sizes = [case.samples if grows == "N" else case.query_size for case in cases]
                growth.append(tables.growth_row(strategy, grows, sizes, found))
    finally:
        for contestant in contestants.values():
            contestant.close()
    tables.print_growth(growth)
    if not arguments.quick:
        tables.print_targets(rows)
    print(f"{time.time() - began:.0f} s in all")
    if arguments.output:
        about = {"rounds": rounds, "quick": arguments.quick, "torch": torch.__version__, "not_installed": errors}
        tables.write(arguments.output, rows, growth, about)


if __name__ == "__main__":
    main()
