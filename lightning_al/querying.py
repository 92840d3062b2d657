"""The query: what is scored, with which random numbers, and what the strategy picks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_debug, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_al.costs import Costs, value_per_cost
from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.embeddings import eager, find_layer
from lightning_al.exceptions import ActiveLearningError
from lightning_al.oracles import Query
from lightning_al.predictions import ONE_DISTRIBUTION, NotFiniteError, OutputKind, look_like_probs
from lightning_al.ranks import on_rank_zero
from lightning_al.rounds import query_machine
from lightning_al.scoring import Scored, score_pool
from lightning_al.strategies import Random
from lightning_al.strategies.base import Outputs, QueryStrategy, ScoreStrategy

READABLE = {
    "pool": frozenset({"probs", "samples", "embeddings", "dataset_indices", "head"}),
    "labeled": frozenset({"probs", "samples", "embeddings", "dataset_indices", "targets"}),
    "target": frozenset({"probs", "samples", "embeddings", "dataset_indices"}),
}
"""The fields of ``Outputs`` that a run can give a strategy of each part of the data."""

_TARGETS_DRAWN = 1000
"""Pool samples that stand for those that predictions are wanted for, where nobody says which those are."""


def check_readable(strategy: QueryStrategy, kind: OutputKind) -> None:
    """Raise where a model that returns this kind cannot give a strategy what it reads.

    Raises:
        MisconfigurationException: It cannot; the message says what to take instead.
    """
    for part, collected in READABLE.items():
        missing = getattr(strategy.needs, part) - collected
        if missing:
            raise MisconfigurationException(
                f"{strategy.name} needs {sorted(missing)} of the {part} samples, which a run does not collect: it has "
                f"{', '.join(sorted(collected))}."
            )
    distributions = (strategy.needs.pool | strategy.needs.labeled | strategy.needs.target) & {"probs", "samples"}
    if kind == "regression" and (distributions or "head" in strategy.needs.pool):
        raise MisconfigurationException(
            f"{strategy.name} reads distributions over classes, and with outputs='regression' there are none. Take a "
            "strategy that reads embeddings: LCMD, PosteriorVariance, CoreSet, KMeans or TypiClust."
        )
    if kind not in ONE_DISTRIBUTION and distributions and not isinstance(strategy, ScoreStrategy):
        raise MisconfigurationException(
            f"{strategy.name} reads one distribution over classes a sample, and with outputs={kind!r} a sample has "
            "several. Take a strategy that scores each (Margin, Entropy, LeastConfidence), or one that reads "
            "embeddings alone (CoreSet, KMeans, TypiClust); a wrapper around one is not served."
        )


class Querying:
    """Picks samples of a pool with the trainer's model; the pool, the model and the global RNG stay as they are.

    Args:
        trainer: The running trainer.
        datamodule: The wrapped data.
        outputs: What the model returns.
        embedding_layer: The layer whose input is the embedding; None finds it.
        seed: Of the strategies' random numbers, with the round.
        draws: How many draws by dropout a strategy that reads some gets; None: as many as the model returns, else 20.
        costs: What samples cost: a score strategy picks by value per cost, and no query asks more than is left to
            spend.
    """

    def __init__(
        self,
        trainer: Trainer,
        datamodule: ActiveLearningDataModule,
        outputs: OutputKind,
        embedding_layer: str | None,
        seed: int,
        draws: int | None = None,
        costs: Costs | None = None,
    ) -> None:
        self.trainer, self.datamodule, self.seed = trainer, datamodule, seed
        self.outputs, self.embedding_layer, self.draws = outputs, embedding_layer, draws
        self.costs = costs
        self._targets: dict[int, Any] = {}
        self._target_sets: list[Dataset[Any] | None] = []  # the one, once it was asked for

    def rehearse(self, strategy: QueryStrategy) -> None:
        """Score two samples before the first fit: outputs that cannot be scored should not cost a fit to be found."""
        check_readable(strategy, self.outputs)
        if strategy.needs.target:
            dataset = self._target_set()
            if dataset is None and strategy.own_target:
                raise MisconfigurationException(
                    f"{strategy.name} seeks samples like those of a target set, and the datamodule names none: "
                    "give it a method `target_dataset()` that returns some, those of rare classes say."
                )
            if dataset is not None:
                title = "Checking the target set"
                self._score(strategy, torch.arange(1), strategy.needs.target, 0, title, dataset=dataset)
        module = self.trainer.lightning_module
        if not hasattr(module, "query_step") and not is_overridden("forward", module):
            raise MisconfigurationException(
                f"{type(module).__name__} has no `forward`, which a query calls to score the pool: define "
                "`forward(x)` to return the logits, or a method `query_step(batch, batch_idx)` that does."
            )
        if self.embedding_layer is not None:
            find_layer(self.trainer.lightning_module, self.embedding_layer)
        few = torch.arange(min(2, self.datamodule.pool.size))
        needs = (strategy.needs.pool | strategy.needs.labeled | strategy.needs.target) - {"targets"}
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

        if self.outputs == "logits" and "probs" in needs:
            self._warn_of_several_labels()

    def _warn_of_several_labels(self) -> None:
        """Warn where targets of a sample are several yes or no, which a softmax would make one class of."""
        known = self.datamodule.pool.labeled[:8].tolist()
        try:
            targets = torch.stack([torch.as_tensor(each) for each in self.datamodule.targets(known)])
        except (TypeError, ValueError, RuntimeError):  # none, or text, or boxes
            return
        several = targets.ndim == 2 and targets.shape[1] > 1 and bool(((targets == 0) | (targets == 1)).all())
        if several and bool((targets.sum(1) != 1).any()):  # else one-hot classes
            rank_zero_warn(
                f"A sample's target holds {targets.shape[1]} labels that do not exclude each other, and a softmax over "
                "them would change which samples are asked: say ActiveLearning(outputs='multilabel')."
            )

    def probs(self, indices: Tensor, round: int, title: str | None = None) -> Tensor | None:
        """The model's class probabilities of a few samples ``(B, C)``; None where it has none."""
        if self.outputs not in ONE_DISTRIBUTION:
            return None
        title = title or f"Query for round {round}: guessing {len(indices):,}"
        found = self._score(Random(), indices, frozenset({"probs"}), round, title).outputs.probs
        return None if found is None else found.cpu()

    def embeddings(self, indices: Tensor, round: int, title: str, dataset: Dataset[Any] | None = None) -> Tensor:
        """The model's embeddings of samples ``(B, D)``, of the pool by default."""
        found = self._score(Random(), indices, frozenset({"embeddings"}), round, title, dataset=dataset).outputs
        return found.require("embeddings", "what is compared").float().cpu()

    def pick(
        self, strategy: QueryStrategy, round: int, size: int, part: int = 1, without: Tensor | None = None
    ) -> Query:
        """The query of a round.

        Args:
            strategy: What picks.
            round: The round that will train on the labels.
            size: How many samples to pick; fewer where what is left to spend does not pay for them.
            part: 1; 2 and more replace what was rejected.
            without: Dataset indices that the strategy does not get to see.

        Raises:
            ScoringError: The model's outputs cannot be scored.
            ValueError: The strategy picks something else than ``size`` samples of the pool.
        """
        candidates = self._candidates(round, size, without)
        size = min(size, len(candidates))  # fewer where few are affordable
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + round + ((part - 1) << 40)) % (1 << 63))
        title = f"Query for round {round}: scoring {len(candidates):,} unlabeled"
        scored = self._score(strategy, candidates, strategy.needs.pool, round, title, sharded=strategy.sharded)
        labeled = self._labeled(strategy, round)
        more = {"target": self._target(strategy, candidates, scored, round)} if strategy.needs.target else {}

        def select() -> Tensor:
            if scored.scores is not None and isinstance(strategy, ScoreStrategy):
                values = scored.scores
                if self.costs is not None:
                    values = value_per_cost(values, self.costs.of(candidates))
                picked = strategy.select_from_scores(values, size, generator=generator)
            else:
                known = labeled and self._with_targets(strategy, labeled)
                picked = strategy.select(scored.outputs, size, labeled=known, generator=generator, **more)
            return checked_picks(picked, size, len(candidates), strategy)

        shard = scored.outputs.shard
        with isolate_rng():
            picked = on_rank_zero(self.trainer, select) if shard is None else shard.together(select)
        if self.costs is not None:
            picked = picked[self.costs.payable(candidates[picked], self.datamodule.pool, without)]
        scores = None if scored.scores is None else scored.scores.detach().cpu()[picked]
        indices, data = candidates[picked].long(), self.datamodule
        return Query(indices, round, strategy.name, scores, None, data.preview, part, path=data.path)

    def _labeled(self, strategy: QueryStrategy, round: int) -> Outputs | None:
        """What the strategy reads of the labeled samples, but for their targets."""
        known = self.datamodule.pool.labeled
        if not strategy.needs.labeled or not len(known):
            return None
        title = f"Query for round {round}: reading {len(known):,} labeled"
        needs = strategy.needs.labeled - {"targets"}
        return self._score(strategy, known, needs | {"dataset_indices"}, round, title).outputs

    def _with_targets(self, strategy: QueryStrategy, labeled: Outputs) -> Outputs:
        """The labeled samples with their labels, each read from the data once a run."""
        if "targets" not in strategy.needs.labeled or labeled.dataset_indices is None:
            return labeled
        indices = labeled.dataset_indices.tolist()
        new = [index for index in indices if index not in self._targets]
        self._targets.update(zip(new, self.datamodule.targets(new), strict=True))
        given = self.datamodule.given_labels  # they may have been corrected
        self._targets.update({index: given[index] for index in indices if index in given})
        try:
            targets = torch.stack([torch.as_tensor(self._targets[index]) for index in indices])
        except (TypeError, ValueError, RuntimeError) as error:
            raise MisconfigurationException(
                f"{strategy.name} reads the labels of the labeled samples, which must be numbers of one shape: {error}."
            ) from None
        return replace(labeled, targets=targets)

    def _target(self, strategy: QueryStrategy, candidates: Tensor, scored: Scored, round: int) -> Outputs:
        """What the strategy reads of the samples that predictions are wanted for.

        They are those of the datamodule's ``target_dataset()``, else drawn from the pool, which they are often like.
        """
        needs = strategy.needs.target
        dataset = self._target_set()
        if dataset is not None:
            title = f"Query for round {round}: reading {len(cast(Any, dataset)):,} targets"
            everything = torch.arange(len(cast(Any, dataset)))
            return self._score(strategy, everything, needs, round, title, dataset=dataset).outputs
        drawn = draw_targets(len(candidates), self.seed + round)
        if scored.scores is None and scored.outputs.shard is None and needs <= strategy.needs.pool:
            return scored.outputs.take(drawn)
        title = f"Query for round {round}: reading {len(drawn):,} targets"
        return self._score(strategy, candidates[drawn], needs, round, title).outputs

    def _target_set(self) -> Dataset[Any] | None:
        """The datamodule's, made once."""
        if not self._target_sets:
            self._target_sets.append(target_set(self.datamodule))
        return self._target_sets[0]

    def affordable(self, without: Tensor | None = None) -> Tensor:
        """The unlabeled samples that what is left to spend pays for, one at a time ``(U,)``; all without a limit.

        Args:
            without: Dataset indices that are asked for anyway: they are left out, and paid first.
        """
        pool = self.datamodule.pool
        unlabeled = pool.candidates()
        if without is not None:
            unlabeled = unlabeled[~torch.isin(unlabeled, without.to(unlabeled.dtype))]
        return unlabeled if self.costs is None else self.costs.affordable(unlabeled, pool, without)

    def _candidates(self, round: int, size: int, without: Tensor | None) -> Tensor:
        """The unlabeled samples, or the random part of them that ``limit_predict_batches`` leaves, ``size`` at least.

        In int32 where that holds them: the largest tensor of a round's bookkeeping.
        """
        unlabeled = self.affordable(without)
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
        dataset: Dataset[Any] | None = None,
        sharded: bool = False,
    ) -> Scored:
        """Run the model over samples, of the pool by default; ``look`` is shown all that it returns."""
        with query_machine(self.trainer, self.datamodule, self.seed + round, title, dataset) as machine:

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
                draws=self.draws,
                sharded=sharded,
            )


def target_set(datamodule: Any) -> Dataset[Any] | None:
    """The samples that a datamodule wants predictions for, of its method ``target_dataset()``; None where it has none.

    Raises:
        MisconfigurationException: It is no map-style dataset, or empty.
    """
    given = getattr(datamodule, "target_dataset", None)
    with isolate_rng():  # a split that it draws must not reach the coming fit
        found = given() if callable(given) else given
    if found is None:
        return None
    if not hasattr(found, "__len__") or not hasattr(found, "__getitem__") or isinstance(found, DataLoader):
        raise MisconfigurationException(
            f"Expected `target_dataset` to give a map-style dataset, but got a {type(found).__name__}."
        )
    if not len(found):
        raise MisconfigurationException("`target_dataset` gives no sample, so there is nothing to predict on.")
    return cast("Dataset[Any]", found)


def draw_targets(candidates: int, seed: int) -> Tensor:
    """Positions of pool samples that stand for those that predictions are wanted for, ascending."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + 1) % (1 << 63))
    return torch.randperm(candidates, generator=generator)[:_TARGETS_DRAWN].sort().values


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
