"""What one fit of a study tells: its metrics, what each strategy asks for, what the model says of the pilot."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import Dataset

from lightning_al.checkpoints import best_checkpoint, load_weights
from lightning_al.querying import Querying
from lightning_al.rounds import evaluation_batches, query_machine, write_into
from lightning_al.scoring import OutputKind, Scored, score_pool, to_probs
from lightning_al.strategies import LeastConfidence, Random
from lightning_al.study.full_data import PilotData, class_indices
from lightning_al.study.memory import peak_memory_mb
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.types import Fit, Observation, Request

_EPOCHS_OBSERVED = 20


class CellFit(Callback):
    """Watches one fit and, while its model is still on the device, tests it and queries with it.

    Args:
        request: What was asked for.
        data: The pilot with the request's labels.
        metrics: The metrics of the test set.
        outputs: What the model returns.
        embedding_layer: The layer whose input is the embedding; None finds it.
        folder: Where the fit's checkpoints go.
        rehearse: Whether to score two samples before the fit, to find soon what could not be scored after it.
        draws: How many draws by dropout a strategy that reads some gets.
    """

    fit: Fit

    def __init__(
        self,
        request: Request,
        data: PilotData,
        metrics: StudyMetrics,
        outputs: OutputKind,
        embedding_layer: str | None,
        folder: Path,
        rehearse: bool,
        draws: int | None = None,
    ) -> None:
        self.request, self.data, self.metrics = request, data, metrics
        self.outputs, self.embedding_layer = outputs, embedding_layer
        self.folder, self.rehearse, self.draws = folder, rehearse, draws
        self.seconds_fit = self._began = 0.0
        self._losses_finite: Tensor | None = None
        self._stride = 1
        self._epochs: list[tuple[Tensor, Tensor]] = []

    # -- hooks of the trainer; this callback is the first of all
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Send what the callbacks write, those that the model brings too, into the folder."""
        write_into(trainer, self.folder)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out whether the model can be scored."""
        if self.rehearse:
            querying = self._querying(trainer)
            for strategy in [*self.request.queries.values()] or [LeastConfidence()]:
                querying.rehearse(strategy)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            self._stride = -(-trainer.max_epochs // _EPOCHS_OBSERVED)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note whether the loss is finite, without waiting for the device."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            finite = torch.isfinite(loss.detach()).all()
            self._losses_finite = finite if self._losses_finite is None else self._losses_finite & finite

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a fit that diverged; observe the pilot."""
        if self._losses_finite is not None and not bool(self._losses_finite):
            raise FloatingPointError(
                f"The loss became NaN or infinite in epoch {trainer.current_epoch} of a fit on "
                f"{len(self.request.labeled)} labels with seed {self.request.seed}. Lower the learning rate, clip the "
                "gradients, Trainer(gradient_clip_val=1.0), or look at the data."
            )
        if self.request.observe and (trainer.current_epoch + 1) % self._stride == 0:
            began = time.perf_counter()
            self._epochs.append(self._opinion(trainer))
            if len(self._epochs) > _EPOCHS_OBSERVED:  # of a fit whose epochs are not known beforehand
                self._epochs, self._stride = self._epochs[1::2], 2 * self._stride
            self._began += time.perf_counter() - began

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.seconds_fit = time.perf_counter() - self._began

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Test, query and observe with the best weights, as a run queries with them."""
        began = time.perf_counter()
        best = best_checkpoint(trainer)
        if best:
            load_weights(trainer, best)
        metrics = self.metrics.compute(*self._predict(trainer))
        seconds_predict = time.perf_counter() - began
        picked, seconds_query, states = self._query(trainer)
        self.fit = Fit(
            metrics=metrics,
            picked=picked,
            seconds_fit=self.seconds_fit,
            seconds_predict=seconds_predict,
            seconds_query=seconds_query,
            peak_memory_mb=peak_memory_mb(pl_module.device),
            observation=self._observe(trainer) if self.request.observe else None,
            states=states,
        )

    # -- after the fit
    def _predict(self, trainer: Trainer) -> tuple[Tensor, Tensor]:
        """Probabilities and targets of the test set."""
        probs, targets = [], []
        with query_machine(trainer, self.data, self.request.seed, "Testing") as machine:
            for number, batch in enumerate(evaluation_batches(trainer, self.data.test_loader(), "Testing")):
                raw = machine.step(batch, number)
                probs.append(to_probs(raw["logits"] if isinstance(raw, dict) else raw, self.outputs).cpu())
                targets.append(class_indices(batch).cpu())
        if not probs:
            raise ValueError(f"The {self.data.test_split}_dataloader has no batch: there is nothing to test on.")
        return torch.cat(probs), torch.cat(targets)

    def _querying(self, trainer: Trainer) -> SharedQuerying:
        each = [strategy.needs for strategy in self.request.queries.values()]
        needs = [(needs.pool | needs.labeled | needs.target) - {"targets"} for needs in each]
        return SharedQuerying(
            trainer, self.data, self.outputs, self.embedding_layer, self.request.seed, needs, self.draws
        )

    def _query(self, trainer: Trainer) -> tuple[dict[str, list[int]], dict[str, float], dict[str, dict[str, Any]]]:
        """What each arm asks for, the seconds it took, and what its strategy remembers of it."""
        picked, seconds, states = {}, {}, {}
        querying = self._querying(trainer)
        size = min(self.request.query_size, self.data.pool.num_unlabeled)
        for arm, strategy in self.request.queries.items():
            began, querying.borrowed = time.perf_counter(), 0.0
            asked = copy.deepcopy(strategy)  # what it remembers goes on where the request's sender says so alone
            query = querying.pick(asked, 0, size) if size else None
            picked[arm] = [] if query is None else query.dataset_indices.tolist()
            seconds[arm] = time.perf_counter() - began + querying.borrowed
            if state := asked.state_dict():
                states[arm] = state
        return picked, seconds, states

    # -- the whole pilot
    def _score(self, trainer: Trainer, needs: frozenset[str]) -> tuple[Scored, Tensor]:
        """What the model says of every sample of the pilot, and the given labels."""
        targets: list[Tensor] = []

        def noted(batches: Iterable[Any]) -> Iterator[Any]:
            for batch in batches:
                targets.append(class_indices(batch).cpu())
                yield batch

        with query_machine(trainer, self.data, self.request.seed, "Observing the pilot") as machine:
            scored = score_pool(
                Random(),
                torch.arange(self.data.pool.size),
                replace(machine, batches=lambda indices: noted(machine.batches(indices))),
                kind=self.outputs,
                needs=needs,
                embedding_layer=self.embedding_layer,
            )
        return scored, torch.cat(targets)

    def _opinion(self, trainer: Trainer) -> tuple[Tensor, Tensor]:
        scored, targets = self._score(trainer, frozenset({"probs"}))
        probs = scored.outputs.require("probs", "the observation").cpu()
        if int(targets.max()) >= probs.shape[1]:
            raise ValueError(
                f"The pilot has the class index {int(targets.max())}, and the model {probs.shape[1]} classes."
            )
        return probs.gather(1, targets[:, None])[:, 0].float(), probs.argmax(dim=1) == targets

    def _observe(self, trainer: Trainer) -> Observation:
        if not self._epochs:
            self._epochs.append(self._opinion(trainer))
        scored, targets = self._score(trainer, frozenset({"embeddings"}))
        confidence, correct = zip(*self._epochs, strict=True)
        return Observation(
            embeddings=scored.outputs.require("embeddings", "the observation").float().cpu().numpy(),
            confidence=torch.stack(confidence).numpy(),
            correct=torch.stack(correct).numpy(),
            targets=targets.numpy().astype(np.int64),
        )


class SharedQuerying(Querying):
    """One pass over the pool for all strategies; each sees the fields that it needs, as if it were alone.

    Args:
        trainer: The running trainer.
        datamodule: The wrapped data.
        outputs: What the model returns.
        embedding_layer: The layer whose input is the embedding; None finds it.
        seed: Of the strategies' random numbers, the same for each.
        needs: The fields that each strategy needs.
        draws: How many draws by dropout a strategy that reads some gets.
    """

    def __init__(
        self,
        trainer: Trainer,
        datamodule: PilotData,
        outputs: OutputKind,
        embedding_layer: str | None,
        seed: int,
        needs: Iterable[frozenset[str]],
        draws: int | None = None,
    ) -> None:
        super().__init__(trainer, datamodule, outputs, embedding_layer, seed, draws)
        self.borrowed = 0.0
        """Seconds of passes that were used and had been made for another strategy."""
        self._all_needs = frozenset({"probs", "dataset_indices"}).union(*needs)
        self._passes: dict[bytes, tuple[Scored, float]] = {}

    def _score(
        self,
        strategy: Any,
        indices: Tensor,
        needs: frozenset[str],
        round: int,
        title: str,
        look: Callable[[Any], None] = lambda returned: None,
        dataset: Dataset[Any] | None = None,
        sharded: bool = False,
    ) -> Scored:
        if dataset is not None:
            return super()._score(strategy, indices, needs, round, title, look, dataset)
        if not needs - {"dataset_indices"}:
            return super()._score(strategy, indices, needs, round, title, look)
        key = indices.long().numpy().tobytes()
        if key in self._passes:
            self.borrowed += self._passes[key][1]
        else:
            began = time.perf_counter()
            # `Random` stands for a strategy that takes no scores within the pass, which would be of use to itself only.
            scored = super()._score(Random(), indices, self._all_needs, round, title, look)
            self._passes[key] = scored, time.perf_counter() - began
        outputs = self._passes[key][0].outputs
        hidden = self._all_needs - needs - {"dataset_indices"}
        return Scored(replace(outputs, **dict.fromkeys(hidden)))
