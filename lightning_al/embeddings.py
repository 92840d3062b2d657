"""Embeddings of a model that was never written to give any: the input of its last linear layer, by a forward hook."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.exceptions import ScoringError


def eager() -> AbstractContextManager[Any]:
    """Run compiled models as they were written: a hook set after `torch.compile` does not fire inside the graph."""
    set_stance = getattr(torch.compiler, "set_stance", None)
    return set_stance("force_eager") if set_stance is not None else nullcontext()


def _is_linear(module: nn.Module) -> bool:
    # Also the parametrised, quantised and LoRA layers, which are Linears by their attributes only.
    return isinstance(module, nn.Linear) or (hasattr(module, "in_features") and hasattr(module, "out_features"))


def find_embedding_layer(model: nn.Module, forward: Callable[[], Any]) -> str:
    """The name of the linear layer whose input is the embedding.

    It is the one whose output is what ``forward`` returned; else the last one that ran. The order in which the layers
    were registered does not matter.

    Args:
        model: The model that ``forward`` runs.
        forward: Runs the model once on one batch and returns its logits.

    Raises:
        ScoringError: No linear layer ran.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> find_embedding_layer(model, lambda: model(torch.zeros(2, 4)))
        '2'
    """
    ran: list[tuple[str, Any]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, output: ran.append((name, output))

    handles = [m.register_forward_hook(note(n)) for n, m in model.named_modules() if _is_linear(m)]
    try:
        with eager():
            logits = forward()
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise ScoringError(
            "This strategy needs embeddings, and no linear layer ran in `forward`. Name the layer whose input is the "
            "embedding, ActiveLearning(embedding_layer='backbone.fc'), or return them from the model's `query_step`."
        )
    return next((name for name, output in ran if output is logits), ran[-1][0])


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The layer of that name.

    Raises:
        ScoringError: The model has none; the message lists the closest names.

    Example:
        >>> find_layer(nn.Sequential(nn.Linear(4, 8)), "0")
        Linear(in_features=4, out_features=8, bias=True)
    """
    try:
        return model.get_submodule(layer)
    except AttributeError:
        names = [name for name, _ in model.named_modules() if name]
        close = difflib.get_close_matches(layer, names, n=3)
        linear = [name for name, module in model.named_modules() if _is_linear(module)]
        raise ScoringError(
            f"The model has no layer {layer!r} for `embedding_layer`. "
            + (f"Close to it: {close}. " if close else "")
            + f"Its linear layers are {linear[-10:]}; `model.named_modules()` lists all {len(names)}."
        ) from None


@contextmanager
def captured_calls(model: nn.Module, layer: str) -> Iterator[list[tuple[Any, Any]]]:
    """While this is open, each call of ``layer`` leaves its input and its output in the list.

    Raises:
        ScoringError: The model has no layer of that name.
    """
    captured: list[tuple[Any, Any]] = []
    module = find_layer(model, layer)

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        captured.append((args[0] if args else next(iter(kwargs.values()), None), output))

    handle = module.register_forward_hook(keep, with_kwargs=True)
    try:
        with eager():
            yield captured
    finally:
        handle.remove()


def embedding_of(calls: list[tuple[Any, Any]], logits: Tensor) -> Any:
    """The input of the call whose output is what the model returned, else of the last: a layer may run twice."""
    return next((given for given, output in calls if output is logits), calls[-1][0] if calls else None)
