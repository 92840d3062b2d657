"""One sharded pass over part of a dataset: what the model says of each sample, in order, on every rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.exceptions import ActiveLearningError, ScoringError
from lightning_al.forward_pass import ForwardPass
from lightning_al.forward_pass import Machine as Machine
from lightning_al.functional.shard import Shard
from lightning_al.predictions import NotFiniteError as NotFiniteError
from lightning_al.predictions import OutputKind as OutputKind
from lightning_al.predictions import look_like_probs as look_like_probs
from lightning_al.predictions import to_probs as to_probs
from lightning_al.strategies.base import Outputs, QueryStrategy, ScoreStrategy


@dataclass(frozen=True)
class Scored:
    """A pass over the pool: scores alone for a score strategy, else the outputs it needs."""

    outputs: Outputs
    scores: Tensor | None = None


def score_pool(
    strategy: QueryStrategy,
    indices: Tensor,
    machine: Machine,
    *,
    kind: OutputKind,
    needs: frozenset[str],
    embedding_layer: str | None = None,
    draws: int | None = None,
    sharded: bool = False,
) -> Scored:
    """Run the model once over the samples at ``indices`` and keep what the strategy needs.

    A score strategy's scores are taken batch by batch, so that the pass keeps one float a sample. Rank ``r`` of ``W``
    runs ``indices[r::W]``; the parts interleave back to the order of ``indices``.

    Args:
        strategy: The query strategy.
        indices: Dataset indices ``(N,)``, int64.
        machine: How batches are run and gathered.
        kind: What the model returns.
        needs: Names of the fields of ``Outputs`` to collect.
        embedding_layer: The layer whose input is the embedding, found by itself when None.
        draws: How many draws by dropout to make where samples are needed and the model returns none.
        sharded: Let each rank keep its own rows of the outputs; scores are gathered all the same.

    Returns:
        Outputs or scores of all ``N`` samples, the same on every rank, or outputs with a ``shard``.

    Raises:
        ScoringError: The model's outputs have the wrong shape or type, or are not finite.
    """
    if not needs:
        return Scored(Outputs(dataset_indices=indices))
    if not len(indices):
        raise ScoringError("There is no sample to score.")
    in_pass = strategy if isinstance(strategy, ScoreStrategy) and needs == strategy.needs.pool else None
    forward = ForwardPass(machine, kind, needs, embedding_layer, draws, in_pass)
    parts: dict[str, list[Tensor]] = {}
    failure: BaseException | None = None
    # A rank without a sample of its own runs the first one, which is cut off again: gathering nothing crashes.
    own = indices[machine.rank :: machine.world_size]
    own = own if len(own) else indices[:1]
    try:
        for out in forward.run(own):
            for name, values in out.items():
                parts.setdefault(name, []).append(values)
    except (Exception, SystemExit) as error:  # the latter is Lightning's SIGTERMException
        failure = error
    # One rank alone must not raise while the others wait for its part.
    if not machine.all_well(failure is None):
        raise failure or ActiveLearningError("Scoring failed on another rank; its own message says why.")
    fields: dict[str, Any] = {name: torch.cat(values) for name, values in parts.items()}
    shard = None
    if machine.world_size > 1:
        shard = _shard(machine, len(indices), next(iter(fields.values()), indices).device)
        fields = {name: values[: shard.rows] for name, values in fields.items()}
        if not sharded or in_pass is not None:
            fields, shard = {name: shard.join(values) for name, values in fields.items()}, None
    scores = fields.pop("scores", None)
    return Scored(Outputs(dataset_indices=indices, head=forward.head, shard=shard, **fields), scores)


def _shard(machine: Machine, size: int, device: torch.device) -> Shard:
    """Which of the samples this rank ran; what is on the CPU is gathered where the others can be reached from."""
    return Shard(machine.rank, machine.world_size, size, lambda mine: machine.gather(mine.to(device)).to(mine.device))
