"""Draws of a model's weights by dropout, the same ones for every sample.

Dropout in training mode gives each sample of a batch a mask of its own: then a joint distribution of two samples has no
meaning, and a query depends on the batch size and on the number of devices. Here draw k has one mask a layer, as one
network of an ensemble would. The first dimension of what a layer sees is taken for that of the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lightning_al.embeddings import eager
from lightning_al.exceptions import ScoringError

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@contextmanager
def dropout_draws(model: nn.Module, seed: int) -> Iterator[Callable[[int | None], None]]:
    """While this is open, the model's dropout layers drop, though it is in evaluation mode.

    Args:
        model: The model, in evaluation mode.
        seed: Of the masks: the same on every rank.

    Yields:
        A function to call before each forward pass: it says which draw that is of, from 0 on; None is no dropout.

    Raises:
        ScoringError: The model has no dropout layer.

    References:
        Gal and Ghahramani (ICML 2016), *Dropout as a Bayesian Approximation*; the consistent masks: Kirsch, van
        Amersfoort and Gal (NeurIPS 2019), *BatchBALD*.

    Example:
        >>> model = nn.Sequential(nn.Dropout(0.5)).eval()
        >>> with dropout_draws(model, seed=0) as draw:
        ...     draw(3)
        ...     rows = model(torch.ones(2, 8))
        >>> bool((rows[0] == rows[1]).all()), sorted(set(rows[0].tolist()))
        (True, [0.0, 2.0])
    """
    layers = [module for module in model.modules() if isinstance(module, _DROPOUTS) and module.p > 0]
    if not layers:
        raise ScoringError(
            "`mc_samples` are drawn by dropout, and the model has no dropout layer (torch.nn.Dropout with p > 0). Add "
            "one, or return the draws of an ensemble, (B, K, C), from `query_step`."
        )
    chosen: int | None = None
    calls = [0] * len(layers)  # a layer that runs twice in a forward pass drops twice, independently
    masks: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def choose(draw: int | None) -> None:
        nonlocal chosen
        if chosen is not None and not any(calls):
            raise ScoringError(
                "None of the model's dropout layers ran in `forward`, so that all draws would be the same. Only layers "
                "are seen: write torch.nn.Dropout in the place of torch.nn.functional.dropout."
            )
        chosen = draw
        calls[:] = [0] * len(layers)

    def dropping(number: int) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            if chosen is None:
                return output
            call = calls[number]
            calls[number] += 1
            key = (number, call, chosen, output.shape[1:], output.dtype, output.device)
            if key not in masks:
                mine = ((seed * 1_000_003 + chosen) * 1_009 + number) * 101 + call
                masks[key] = _mask(module, output[:1], mine)
            scale, shift = masks[key]
            return output * scale + shift

        return hook

    with ExitStack() as stack:
        stack.enter_context(eager())  # a hook that is set after `torch.compile` does not fire inside the graph
        for number, layer in enumerate(layers):
            stack.enter_context(_hooked(layer, dropping(number)))
        yield choose


@contextmanager
def _hooked(layer: nn.Module, hook: Callable[..., Tensor]) -> Iterator[None]:
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _mask(layer: nn.Module, like: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What one draw of a dropout layer multiplies by, and adds: every kind of dropout is linear in its input."""
    zeros, ones = torch.zeros_like(like, device="cpu"), torch.ones_like(like, device="cpu")
    results = []
    layer.training = True
    try:
        with isolate_rng():
            for given in (zeros, ones):
                torch.manual_seed(seed % (1 << 63))
                results.append(layer.forward(given).to(like.device))
    finally:
        layer.training = False
    shift = results[0]
    return results[1] - shift, shift
