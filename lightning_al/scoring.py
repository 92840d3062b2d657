"""One sharded pass over part of a dataset: what the model says of each sample, checked, in order, on every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_al.embeddings import captured_calls, embedding_of, find_embedding_layer
from lightning_al.exceptions import ActiveLearningError, ScoringError
from lightning_al.strategies.base import Outputs, QueryStrategy, ScoreStrategy

OutputKind = Literal["logits", "log_probs", "probs", "binary"]


class NotFiniteError(ScoringError):
    """The outputs have the right shape and are NaN or infinite."""


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


@dataclass(frozen=True)
class Scored:
    """A pass over the pool: scores alone for a score strategy, else the outputs it needs."""

    outputs: Outputs
    scores: Tensor | None = None


def to_probs(raw: Tensor, kind: OutputKind) -> Tensor:
    """What the model returned as probabilities ``(B, C)``, float32 or wider.

    Example:
        >>> to_probs(torch.tensor([0.0]), "binary").tolist()
        [[0.5, 0.5]]
    """
    values = raw if raw.dtype == torch.float64 else raw.float()
    if kind == "binary":
        positive = values.reshape(len(values)).sigmoid()
        return torch.stack([1 - positive, positive], dim=1)
    if kind == "logits":
        return values.softmax(dim=-1)
    return values.exp() if kind == "log_probs" else values


def look_like_probs(raw: Any) -> bool:
    """Whether what the model returned are distributions already, as far as their values tell.

    Logits of a trained or an untrained model hardly ever are: every row would have to be non-negative and sum to one.

    Example:
        >>> look_like_probs(torch.tensor([[0.2, 0.8]])), look_like_probs(torch.tensor([[0.2, 0.9]]))
        (True, False)
    """
    values = raw.get("logits") if isinstance(raw, dict) else raw
    if not isinstance(values, Tensor) or values.ndim != 2 or not len(values):
        return False
    return bool((values >= 0).all()) and bool(((values.float().sum(dim=1) - 1).abs() <= 1e-4).all())


def score_pool(
    strategy: QueryStrategy,
    indices: Tensor,
    machine: Machine,
    *,
    kind: OutputKind,
    needs: frozenset[str],
    embedding_layer: str | None = None,
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

    Returns:
        Outputs or scores of all ``N`` samples, the same on every rank.

    Raises:
        ScoringError: The model's outputs have the wrong shape or type, or are not finite.
    """
    if not needs:
        return Scored(Outputs(dataset_indices=indices))
    if not len(indices):
        raise ScoringError("There is no sample to score.")
    in_pass = isinstance(strategy, ScoreStrategy) and needs == {"probs"}
    parts: dict[str, list[Tensor]] = {}
    failure: BaseException | None = None
    # A rank without a sample of its own runs the first one, which is cut off again: gathering nothing crashes.
    shard = indices[machine.rank :: machine.world_size]
    shard = shard if len(shard) else indices[:1]
    try:
        for out, seen in _run(shard, machine, kind, needs, embedding_layer):
            if in_pass and isinstance(strategy, ScoreStrategy):
                out = {"scores": _scores(strategy, out["probs"], seen)}
            else:
                for name, values in out.items():
                    _check_finite(name, values, seen)
            for name, values in out.items():
                parts.setdefault(name, []).append(values)
    except (Exception, SystemExit) as error:  # the latter is Lightning's SIGTERMException
        failure = error
    # One rank alone must not raise while the others wait for its part.
    if not machine.all_well(failure is None):
        raise failure or ActiveLearningError("Scoring failed on another rank; its own message says why.")
    whole: dict[str, Any] = {name: _gather(torch.cat(values), len(indices), machine) for name, values in parts.items()}
    scores = whole.pop("scores", None)
    return Scored(Outputs(dataset_indices=indices, **whole), scores)


def _run(
    shard: Tensor, machine: Machine, kind: OutputKind, needs: frozenset[str], layer: str | None
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Per batch: the fields of ``needs``, and the dataset indices they belong to."""
    done = 0
    with ExitStack() as stack:
        captured: list[tuple[Any, Any]] | None = None
        for number, batch in enumerate(machine.batches(shard)):
            if "embeddings" in needs and number == 0:
                captured = _open_capture(stack, machine, batch, layer)
            raw = machine.step(batch, number)
            given = raw if isinstance(raw, dict) else {"logits": raw}
            if "logits" not in given:
                raise ScoringError(f"`query_step` returned a dict without 'logits'; it has {sorted(given)}.")
            logits = given["logits"]
            size = len(logits) if isinstance(logits, Tensor) and logits.ndim else 0
            seen = shard[done : done + size]
            _check_shape(logits, kind, min(machine.batch_size or len(shard), len(shard) - done), machine.batch_size)
            done += size
            out: dict[str, Tensor] = {}
            if "probs" in needs:
                out["probs"] = to_probs(logits, kind)
                if kind in ("probs", "log_probs"):
                    _check_simplex(out["probs"], kind, seen)
            if "embeddings" in needs:
                embeddings = given["embeddings"] if "embeddings" in given else embedding_of(captured or [], logits)
                if captured is not None:
                    captured.clear()
                out["embeddings"] = _embeddings(embeddings, size, own="embeddings" in given, layer=layer)
            yield out, seen
    if done != len(shard):
        raise ScoringError(
            f"The model gave {done} outputs for {len(shard)} samples of the pool: `forward` or `query_step` must "
            "return one row a sample, and the pool's loader every sample once."
        )


def _scores(strategy: ScoreStrategy, probs: Tensor, seen: Tensor) -> Tensor:
    try:
        scores = strategy.score(probs)
    except ValueError:  # it knows the position in the batch only
        _check_finite("probs", probs, seen)
        raise
    if scores.shape != probs.shape[:1]:
        raise ScoringError(
            f"Expected {strategy.name}.score to return one score a sample, ({len(probs)},), but got "
            f"{tuple(scores.shape)}."
        )
    if not bool(torch.isfinite(scores).all()):
        _check_finite("probs", probs, seen)
        _check_finite("scores", scores, seen)
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


def _open_capture(stack: ExitStack, machine: Machine, batch: Any, layer: str | None) -> list[tuple[Any, Any]] | None:
    """Hook the embedding layer, unless the model returns embeddings itself."""
    if layer is None:
        first: list[Any] = []

        def forward() -> Any:
            first.append(machine.step(batch, 0))
            return first[0]["logits"] if isinstance(first[0], dict) else first[0]

        found: str | None
        try:
            found = find_embedding_layer(machine.model, forward)
        except ScoringError:
            found = None
            if not (first and isinstance(first[0], dict) and "embeddings" in first[0]):
                raise
        if first and isinstance(first[0], dict) and "embeddings" in first[0]:
            return None
        layer = found
    return stack.enter_context(captured_calls(machine.model, str(layer)))


def _gather(mine: Tensor, size: int, machine: Machine) -> Tensor:
    if machine.world_size == 1:
        return mine
    most = -(-size // machine.world_size)
    padded = mine.new_zeros((most, *mine.shape[1:]))
    padded[: len(mine)] = mine[:most]
    return machine.gather(padded).transpose(0, 1).flatten(0, 1)[:size]


def _check_shape(logits: Any, kind: OutputKind, rows: int, batch_size: int | None) -> None:
    """Check one batch's output of ``rows`` samples, at most so many where the batch size is not known."""
    if not isinstance(logits, Tensor):
        raise ScoringError(
            f"Expected the model to return a tensor of {kind}, but got a {type(logits).__name__}. Return the {kind} "
            "alone from `forward`, or add a method `query_step(batch, batch_idx)` that does."
        )
    shape = tuple(logits.shape)
    if not logits.is_floating_point():
        raise ScoringError(
            f"Expected the model to return floating-point {kind}, but got {logits.dtype} of shape {shape}. Predicted "
            "classes cannot be scored: return what they are taken from in `forward`, or add a method "
            "`query_step(batch, batch_idx)` that does."
        )
    wanted = "(B,) or (B, 1)" if kind == "binary" else "(B, C) with C >= 2"
    right = logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1)
    if kind != "binary":
        right = logits.ndim == 2 and logits.shape[1] >= 2
    if not right:
        one = kind != "binary" and (logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1))
        hint = " For one logit a sample say ActiveLearning(outputs='binary')." if one else ""
        if batch_size is not None and rows == 1 and logits.ndim < (1 if kind == "binary" else 2):
            hint = " A batch of one sample lost its first dimension: write `squeeze(-1)` in place of `squeeze()`."
        elif logits.ndim > 2:
            hint = " Add a method `query_step(batch, batch_idx)` that returns one row a sample."
        raise ScoringError(f"Expected the model to return {kind} of shape {wanted}, but got {shape}.{hint}")
    if len(logits) > rows or (batch_size is not None and len(logits) != rows):
        raise ScoringError(
            f"The model returned {len(logits)} rows for a batch of {rows} samples: `forward` or `query_step` must "
            "return one row a sample."
        )


def _check_simplex(probs: Tensor, kind: OutputKind, seen: Tensor) -> None:
    off = ((probs.sum(dim=-1) - 1).abs() > 1e-2) | (probs < 0).any(dim=-1)
    if bool(off.any()):
        row = int(off.nonzero()[0])
        raise ScoringError(
            f"outputs={kind!r}, but the model's output for dataset index {int(seen[row])} is no distribution: its "
            f"probabilities sum to {float(probs[row].sum()):.4g}, the least is {float(probs[row].min()):.4g}. If the "
            "model returns logits, leave out `outputs=`."
        )


def _check_finite(name: str, values: Tensor, seen: Tensor) -> None:
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        row = int((~finite.flatten(1).all(dim=1) if values.ndim > 1 else ~finite).nonzero()[0])
        what = "probabilities of the model" if name == "probs" else name
        raise NotFiniteError(
            f"The {what} for dataset index {int(seen[row])} are not finite (NaN or infinite). The pool is unchanged. "
            "The fit may have diverged: look at the loss and lower the learning rate, or look at that sample."
        )
