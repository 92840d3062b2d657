"""The query: what is scored, with which random numbers, and what the strategy picks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_debug, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.embeddings import eager, find_layer
from lightning_al.exceptions import ActiveLearningError
from lightning_al.oracles import Query
from lightning_al.ranks import on_rank_zero
from lightning_al.rounds import query_machine
from lightning_al.scoring import NotFiniteError, OutputKind, Scored, look_like_probs, score_pool
from lightning_al.strategies.base import QueryStrategy, ScoreStrategy

COLLECTED = frozenset({"probs", "embeddings", "dataset_indices"})
"""The fields of ``Outputs`` that a run can give a strategy."""


class Querying:
    """Picks samples of a pool with the trainer's model; the pool, the model and the global RNG stay as they are.

    Args:
        trainer: The running trainer.
        datamodule: The wrapped data.
        outputs: What the model returns.
        embedding_layer: The layer whose input is the embedding; None finds it.
        seed: Of the strategies' random numbers, with the round.
    """

    def __init__(
        self,
        trainer: Trainer,
        datamodule: ActiveLearningDataModule,
        outputs: OutputKind,
        embedding_layer: str | None,
        seed: int,
    ) -> None:
        self.trainer, self.datamodule, self.seed = trainer, datamodule, seed
        self.outputs, self.embedding_layer = outputs, embedding_layer

    def rehearse(self, strategy: QueryStrategy) -> None:
        """Score two samples before the first fit: outputs that cannot be scored should not cost a fit to be found."""
        unknown = (strategy.needs.pool | strategy.needs.labeled) - COLLECTED
        if unknown or strategy.needs.target:
            raise MisconfigurationException(
                f"{strategy.name} needs {sorted(unknown | strategy.needs.target)}, which a run does not collect: it "
                f"has {', '.join(sorted(COLLECTED))} of the pool and of the labeled samples."
            )
        module = self.trainer.lightning_module
        if not hasattr(module, "query_step") and not is_overridden("forward", module):
            raise MisconfigurationException(
                f"{type(module).__name__} has no `forward`, which a query calls to score the pool: define "
                "`forward(x)` to return the logits, or a method `query_step(batch, batch_idx)` that does."
            )
        if self.embedding_layer is not None:
            find_layer(self.trainer.lightning_module, self.embedding_layer)
        few = torch.arange(min(2, self.datamodule.pool.size))
        needs = strategy.needs.pool | strategy.needs.labeled
        returned: list[Any] = []
        try:
            with eager():  # nothing is compiled for a batch of two
                self._score(strategy, few, needs, 0, "Checking the query", returned.append)
        except NotFiniteError:
            pass  # a model may become finite by training
        except ActiveLearningError:  # another rank's too: on a rank that is well it has no closer name
            raise
        except Exception as error:
            # It may need what `on_train_start` prepares: the query itself will tell.
            rank_zero_debug(f"The model could not score two samples before its first fit: {error!r}")
        if self.outputs == "logits" and "probs" in needs and returned and all(map(look_like_probs, returned)):
            rank_zero_warn(
                f"What {type(module).__name__} returns to be scored looks like probabilities (no value is negative, "
                "each row sums to 1), and a second softmax would flatten them and change which samples are asked: say "
                "ActiveLearning(outputs='probs')."
            )

    def pick(self, strategy: QueryStrategy, round: int, size: int) -> Query:
        """The query of a round.

        Raises:
            ScoringError: The model's outputs cannot be scored.
            ValueError: The strategy picks something else than ``size`` samples of the pool.
        """
        candidates = self._candidates(round, size)
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + round) % (1 << 63))
        title = f"Query for round {round}: scoring {len(candidates):,} unlabeled"
        scored = self._score(strategy, candidates, strategy.needs.pool, round, title)
        labeled = None
        if strategy.needs.labeled and len(self.datamodule.pool.labeled):
            title = f"Query for round {round}: reading {len(self.datamodule.pool.labeled):,} labeled"
            labeled = self._score(strategy, self.datamodule.pool.labeled, strategy.needs.labeled, round, title).outputs

        def select() -> Tensor:
            if scored.scores is not None and isinstance(strategy, ScoreStrategy):
                picked = strategy.select_from_scores(scored.scores, size, generator=generator)
            else:
                picked = strategy.select(scored.outputs, size, labeled=labeled, generator=generator)
            return checked_picks(picked, size, len(candidates), strategy)

        with isolate_rng():
            picked = on_rank_zero(self.trainer, select)
        scores = None if scored.scores is None else scored.scores.detach().cpu()[picked]
        return Query(candidates[picked].long(), round, strategy.name, scores, None, self.datamodule.preview)

    def _candidates(self, round: int, size: int) -> Tensor:
        """The unlabeled samples, or the random part of them that ``limit_predict_batches`` leaves, ``size`` at least.

        In int32 where that holds them: the largest tensor of a round's bookkeeping.
        """
        unlabeled = self.datamodule.pool.candidates()
        limit = self.trainer.limit_predict_batches
        if limit == 1.0 and not isinstance(limit, int):
            return unlabeled
        batch = self.datamodule.scoring_batch_size() * self.trainer.world_size
        most = max(limit * batch if isinstance(limit, int) else int(limit * len(unlabeled)), size)
        if most >= len(unlabeled):
            return unlabeled
        generator = torch.Generator().manual_seed(self.seed + round)
        drawn = torch.randperm(len(unlabeled), generator=generator, dtype=torch.int32)[:most]
        return unlabeled[drawn.sort().values]

    def _score(
        self,
        strategy: QueryStrategy,
        indices: Tensor,
        needs: frozenset[str],
        round: int,
        title: str,
        look: Callable[[Any], None] = lambda returned: None,
    ) -> Scored:
        """Run the model over samples; ``look`` is shown all that it returns."""
        with query_machine(self.trainer, self.datamodule, self.seed + round, title) as machine:

            def step(batch: Any, number: int) -> Any:
                returned = machine.step(batch, number)
                look(returned)
                return returned

            return score_pool(
                strategy,
                indices.long() if "dataset_indices" in needs else indices,
                replace(machine, step=step),
                kind=self.outputs,
                needs=needs - {"dataset_indices"},
                embedding_layer=self.embedding_layer,
            )


def checked_picks(given: Any, size: int, candidates: int, strategy: QueryStrategy) -> Tensor:
    """What a strategy picked, on the CPU, where it keeps to what it was asked."""
    wanted = f"Expected {strategy.name}.select to return {size} different pool positions from 0 to {candidates - 1}"
    if not isinstance(given, Tensor) or given.dtype not in (torch.int64, torch.int32) or given.ndim != 1:
        got = f"{given.dtype} {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"{wanted}, an int64 tensor ({size},), but got {got}.")
    picked: Tensor = given.cpu().long()
    if len(picked) != size or len(picked.unique()) != size:
        raise ValueError(f"{wanted}, but got {len(picked)}, of which {len(picked.unique())} are different.")
    if int(picked.min()) < 0 or int(picked.max()) >= candidates:
        raise ValueError(f"{wanted}, but got positions from {int(picked.min())} to {int(picked.max())}.")
    return picked
