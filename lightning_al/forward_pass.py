"""The model run over samples, batch by batch: what it says of each, as the fields that a strategy reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.embeddings import captured_calls, embedding_of, find_embedding_layer, find_layer
from lightning_al.exceptions import ScoringError
from lightning_al.functional.aggregation import aggregate
from lightning_al.mc_dropout import dropout_draws
from lightning_al.predictions import (
    DEFAULT_AGGREGATE,
    ONE_DISTRIBUTION,
    OutputKind,
    Prediction,
    check_finite,
    check_simplex,
    read,
    to_probs,
    units,
)
from lightning_al.strategies.base import ScoreStrategy

DRAWS = 20
"""Draws by dropout where a strategy reads some and no number is said."""

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Machine:
    """How a batch is run on this rank, and how the ranks' parts are put together; made by ``rounds.py``."""

    model: nn.Module
    batches: Callable[[Tensor], Iterable[Any]]
    """Dataset indices to batches on the device, in order."""
    step: Callable[[Any, int], Any]
    """Batch and its number to what the model returns."""
    rank: int
    world_size: int
    gather: Callable[[Tensor], Tensor]
    """``(n, ...)`` to ``(world_size, n, ...)``."""
    all_well: Callable[[bool], bool]
    """Whether every rank is well, the same answer on all."""
    batch_size: int | None = None
    """Samples in each batch but the last; None where it is not known."""
    seed: int = 0
    """Of what is drawn in a pass: the same on every rank."""


class ForwardPass:
    """One run of the model over samples.

    Args:
        machine: How batches are run.
        kind: What the model returns.
        needs: Names of the fields of ``Outputs`` to collect.
        layer: The layer whose input is the embedding; None finds it.
        draws: How many draws by dropout to make where ``samples`` are needed; None: those that the model returns, else
            `DRAWS`.
        scorer: Scores each batch, so that nothing else of it is kept; None keeps the fields.
    """

    head: Head | None = None
    """The layer after the embedding, once the first batch was run."""

    def __init__(
        self,
        machine: Machine,
        kind: OutputKind,
        needs: frozenset[str],
        layer: str | None,
        draws: int | None,
        scorer: ScoreStrategy | None,
    ) -> None:
        self.machine, self.kind, self.needs, self.layer = machine, kind, needs, layer
        self.draws, self.scorer = draws, scorer
        self._captured: list[tuple[Any, Any]] | None = None
        self._draw: Callable[[int | None], None] | None = None

    def run(self, shard: Tensor) -> Iterator[dict[str, Tensor]]:
        """Run the samples at the dataset indices ``shard``.

        Yields:
            The fields of a batch by name; with a scorer ``scores`` alone.

        Raises:
            ScoringError: The model's outputs have the wrong shape or type, or are not finite.
        """
        done = 0
        with ExitStack() as stack:
            for number, batch in enumerate(self.machine.batches(shard)):
                if number == 0 and self.needs & {"embeddings", "head"}:
                    self._captured = self._open_capture(stack, batch)
                rows = min(self.machine.batch_size or len(shard), len(shard) - done)
                plain, samples = self._predict(stack, batch, number, rows)
                seen = shard[done : done + len(plain)]
                done += len(plain)
                yield self._fields(plain, samples, seen, first=number == 0)
        if done != len(shard):
            raise ScoringError(
                f"The model gave {done} outputs for {len(shard)} samples of the pool: `forward` or `query_step` must "
                "return one row a sample, and the pool's loader every sample once."
            )

    # -- forward passes
    def _predict(self, stack: ExitStack, batch: Any, number: int, rows: int) -> tuple[Prediction, Prediction | None]:
        """The batch's predictions without dropout, and its K draws where they are needed."""
        if "samples" not in self.needs:
            return self._step(batch, number, rows), None
        plain: Prediction | None
        if self._draw is None:
            plain = self._step(batch, number, rows)
            if plain.draws:
                return plain, plain
            if self.kind == "detection":
                raise ScoringError("Draws of boxes cannot be matched: take a strategy that reads one prediction each.")
            self._draw = stack.enter_context(dropout_draws(self.machine.model, self.machine.seed))
        else:
            plain = self._step(batch, number, rows) if self.needs - {"samples"} else None
        calls = list(self._captured or ())
        drawn = []
        for draw in range(self.draws or DRAWS):
            self._draw(draw)
            drawn.append(self._step(batch, number, rows))
        self._draw(None)
        if self._captured is not None:
            self._captured[:] = calls
        first = drawn[0]
        samples = Prediction(torch.stack([each.values for each in drawn], dim=1), True, first.given)
        if self.kind == "binary" and samples.values.ndim == 2:
            samples = Prediction(samples.values[..., None], True, first.given)
        return first if plain is None else plain, samples

    def _step(self, batch: Any, number: int, rows: int) -> Prediction:
        return read(self.machine.step(batch, number), self.kind, rows, self.machine.batch_size)

    # -- what a strategy reads of them
    def _fields(self, plain: Prediction, samples: Prediction | None, seen: Tensor, *, first: bool) -> dict[str, Tensor]:
        if self.scorer is not None and self.kind not in ONE_DISTRIBUTION:
            return {"scores": self._unit_scores(self.scorer, samples or plain, seen)}
        if self.kind not in ONE_DISTRIBUTION and self.needs & {"probs", "samples"}:
            raise ScoringError(f"outputs={self.kind!r} has no single distribution a sample that could be kept.")
        out: dict[str, Tensor] = {}
        if "probs" in self.needs:
            probs = self._distributions(plain, seen)
            out["probs"] = probs.mean(dim=1) if plain.draws else probs
        if samples is not None:
            out["samples"] = self._distributions(samples, seen)
        if self.scorer is not None:
            (field,) = out
            return {"scores": _scores(self.scorer, out[field], seen)}
        if self.needs & {"embeddings", "head"}:
            self._read_embeddings(out, plain, first=first)
        for name, values in out.items():
            check_finite(name, values, seen)
        return out

    def _distributions(self, prediction: Prediction, seen: Tensor) -> Tensor:
        probs = to_probs(prediction.values, self.kind)
        if self.kind in ("probs", "log_probs"):
            check_simplex(probs, self.kind, seen)
        return probs

    def _unit_scores(self, scorer: ScoreStrategy, prediction: Prediction, seen: Tensor) -> Tensor:
        """The score of each sample, of those of its labels, pixels or boxes."""
        how = DEFAULT_AGGREGATE[self.kind] if scorer.aggregate is None else scorer.aggregate
        scores, done = [], 0
        for block in units(prediction.values, self.kind, draws=prediction.draws, mask=prediction.given.get("mask")):
            size, each = block.shape[:2]
            values = block.flatten(0, 1)
            if prediction.draws and "probs" in self.needs:
                values = values.mean(dim=1)
            owners = seen[done : done + size].repeat_interleave(each)
            if self.kind == "detection" and len(values):
                check_simplex(values, self.kind, owners)
            flat = _scores(scorer, values, owners) if len(values) else values.new_zeros(0)
            scores.append(aggregate(flat.view(size, each), how))
            done += size
        return torch.cat(scores)

    # -- embeddings
    def _open_capture(self, stack: ExitStack, batch: Any) -> list[tuple[Any, Any]] | None:
        """Hook the embedding layer, unless the model returns embeddings itself."""
        if self.layer is None:
            first: list[Any] = []

            def forward() -> Any:
                first.append(self.machine.step(batch, 0))
                return first[0].get("logits") if isinstance(first[0], dict) else first[0]

            try:
                self.layer = find_embedding_layer(self.machine.model, forward)
            except ScoringError:
                if not (first and isinstance(first[0], dict) and "embeddings" in first[0]):
                    raise
            if first and isinstance(first[0], dict) and "embeddings" in first[0]:
                return None
        return stack.enter_context(captured_calls(self.machine.model, str(self.layer)))

    def _read_embeddings(self, out: dict[str, Tensor], plain: Prediction, *, first: bool) -> None:
        own = "embeddings" in plain.given
        found = plain.given["embeddings"] if own else embedding_of(self._captured or [], plain.values)
        if self._captured is not None:
            self._captured.clear()
        embeddings = _embeddings(found, len(plain), own=own, layer=self.layer)
        if "embeddings" in self.needs:
            out["embeddings"] = embeddings
        if "head" in self.needs and first:
            layer = None if own else find_layer(self.machine.model, str(self.layer))
            self.head = checked_head(layer, plain, found, self.kind)


def checked_head(layer: nn.Module | None, plain: Prediction, embeddings: Any, kind: OutputKind) -> Head:
    """The layer after the embedding as a function to logits, where it is the model's last.

    Args:
        layer: The layer; None where the model returned its own embeddings.
        plain: A batch's predictions, with the model's own ``head`` where it returned one.
        embeddings: The batch's embeddings.
        kind: What the model returns.

    Returns:
        Embeddings ``(M, D)`` to logits ``(M, C)``, float32; differentiable.

    Raises:
        ScoringError: There is none, or it does not lead to what the model returned.
    """
    last: Any = plain.given.get("head", layer)
    if last is None:
        raise ScoringError(
            "This strategy reads the model's head, and `query_step` returned 'embeddings' without one: return 'head' "
            "too, the layer from embeddings to logits."
        )

    def head(values: Tensor) -> Tensor:
        parameter = next(last.parameters(), None) if isinstance(last, nn.Module) else None
        modules = list(last.modules()) if isinstance(last, nn.Module) else []
        modes = [module.training for module in modules]
        for module in modules:
            module.training = False
        try:
            logits: Tensor = last(values if parameter is None else values.to(parameter.device, parameter.dtype)).float()
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
        if kind == "binary":
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits

    said, led = to_probs(plain.values, kind), head(embeddings).softmax(dim=-1)
    if plain.draws or said.shape != led.shape or not torch.allclose(said.float(), led, atol=0.02):
        raise ScoringError(
            "This strategy reads the model's head, and what the layer after the embedding returns is not what the "
            "model returned: name its last layer in `embedding_layer`, or return 'embeddings' and 'head' from "
            "`query_step`."
        )
    return head


def _scores(strategy: ScoreStrategy, probs: Tensor, seen: Tensor) -> Tensor:
    """The strategy's scores of distributions, each named by the dataset index that it belongs to."""
    try:
        scores = strategy.score(probs)
    except ValueError:  # it knows the position in the batch only
        check_finite("probs", probs, seen)
        raise
    if scores.shape != probs.shape[:1]:
        raise ScoringError(
            f"Expected {strategy.name}.score to return one score a sample, ({len(probs)},), but got "
            f"{tuple(scores.shape)}."
        )
    if not bool(torch.isfinite(scores).all()):
        check_finite("probs", probs, seen)
        check_finite("scores", scores, seen)
    return scores


def _embeddings(values: Any, size: int, *, own: bool, layer: str | None) -> Tensor:
    """One flat row a sample."""
    if isinstance(values, Tensor) and values.is_floating_point() and values.ndim > 1 and len(values) == size:
        return values.detach().flatten(1)
    got = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    if own:
        line = "`query_step` must return 'embeddings' with a row a sample"
    elif values is None and layer is not None:
        line = f"the layer {layer!r} did not run in `forward`, name one that does in `embedding_layer`"
    else:
        line = "name the layer whose input has a row a sample, ActiveLearning(embedding_layer='backbone.fc')"
    raise ScoringError(f"Expected one floating-point embedding a sample, ({size}, D), but got {got}: {line}.")
