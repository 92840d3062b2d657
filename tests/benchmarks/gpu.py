"""How much of a GPU do the selections use? N = 1M, D = 512, C = 1000, queries of 1000 and 10,000.

    python -m tests.benchmarks.gpu
    python -m tests.benchmarks.gpu --device cpu --samples 2000 --query_sizes 20   # the same code, small, to see it run

Peaks are measured in the same run: the bandwidth by a sum over 8 GiB, the rate by a product of 8192 x 8192 matrices in
full float32. ``bandwidth`` is one read of the inputs in our time, as a share of that peak. ``FLOP/s`` is what the
strategy is made of in our time: each sample with each pick (or centroid, 20 times). Selections that skip pairs without
a change of the picks can have more than 100 % of it. Without CUDA it says so and does nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.benchmarks.peers.with_lightning_al import SELECTIONS
from tests.benchmarks.roofline import all_pairs, compulsory, input_bytes, measure_rates, timed
from tests.benchmarks.selection_cases import CLOUDS, LABELED, NEEDS, TAILS, Case

SCORES = ("Entropy", "Margin", "LeastConfidence")
GREEDY = ("CoreSet", "BADGE", "LCMD", "KMeans")
ROWS_AT_ONCE = 1 << 16


def cases(samples: int, dimensions: int, classes: int, query_sizes: list[int]) -> Iterator[Case]:
    """Scores do not depend on the query's size; they are asked for the largest."""
    for strategy in SCORES:
        yield Case(strategy, samples, 0, classes, max(query_sizes))
    for strategy in GREEDY:
        for query_size in query_sizes:
            yield Case(strategy, samples, dimensions, classes if strategy == "BADGE" else 0, query_size)


def make_inputs(case: Case, device: torch.device) -> dict[str, Tensor]:
    """Clouds as the CPU's benchmark has them, and softmax outputs; made on the device, in place."""
    generator = torch.Generator(device).manual_seed(0)
    inputs = {}
    if "embeddings" in NEEDS[case.strategy]:
        spread = torch.arange(1, case.dimensions + 1, device=device) ** -0.5
        centres = torch.randn(CLOUDS, case.dimensions, generator=generator, device=device) * spread
        count = case.samples + LABELED
        points = torch.randn(count, case.dimensions, generator=generator, device=device).mul_(spread)
        for block in points.split(ROWS_AT_ONCE):
            block *= (TAILS["clouds"] * torch.randn(len(block), 1, generator=generator, device=device)).exp_()
            block += centres[torch.randint(CLOUDS, (len(block),), generator=generator, device=device)]
        inputs["embeddings"], inputs["labeled_embeddings"] = points[: case.samples], points[case.samples :]
    if "probs" in NEEDS[case.strategy]:
        probs = torch.randn(case.samples, case.classes, generator=generator, device=device)
        for block in probs.split(ROWS_AT_ONCE):
            block.copy_(block.mul_(3).softmax(1))
        inputs["probs"] = probs
    return {name: inputs[name] for name in NEEDS[case.strategy]}


def measure(case: Case, device: torch.device, repeats: int) -> tuple[float, float | None]:
    """Median seconds of a selection, and the most MiB that it holds beside its inputs: told of a GPU alone."""
    inputs = make_inputs(case, device)
    select = SELECTIONS[case.strategy](**inputs, query_size=case.query_size)
    select()  # the first call loads kernels
    if device.type == "cpu":
        return statistics.median(timed(select, device) for _ in range(repeats)), None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    seconds = statistics.median(timed(select, device) for _ in range(repeats))
    return seconds, (torch.cuda.max_memory_allocated(device) - before) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--query_sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--only", nargs="+", choices=[*SCORES, *GREEDY], metavar="NAME", help="these strategies alone")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here; nothing was measured.")
        return
    device = torch.device(arguments.device)
    torch.set_float32_matmul_precision("highest")
    if device.type == "cpu":
        torch.set_num_threads(1)
    rates = measure_rates(device)
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU, one thread'}: {rates}")
    print(f"{'strategy, N/D/C/B':32s} {'ms':>10s} {'bandwidth':>10s} {'FLOP/s':>8s} {'MiB':>8s} {'of inputs':>10s}")
    sizes = (arguments.samples, arguments.dimensions, arguments.classes, arguments.query_sizes)
    for case in cases(*sizes):
        if arguments.only and case.strategy not in arguments.only:
            continue
        try:
            seconds, megabytes = measure(case, device, arguments.repeats)
        except torch.OutOfMemoryError as error:
            print(f"{case.name:32s} out of memory: {str(error).splitlines()[0]}", flush=True)
            continue
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
        work = all_pairs(case) or compulsory(case)
        flops = f"{work.flops / seconds / rates.flops:.1%}" if work and work.flops else "-"
        bandwidth = f"{input_bytes(case) / seconds / rates.bytes_a_second:.1%}"
        memory, share = "-", "-"
        if megabytes is not None:
            memory, share = f"{megabytes:.0f}", f"{megabytes * 2**20 / input_bytes(case):.1%}"
        print(
            f"{case.name:32s} {1000 * seconds:10.1f} {bandwidth:>10s} {flops:>8s} {memory:>8s} {share:>10s}", flush=True
        )


if __name__ == "__main__":
    main()
