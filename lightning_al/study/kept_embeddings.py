"""The embeddings of a proxy study: extracted once, and kept in its folder for when it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_al.strategies.base import QueryStrategy
from lightning_al.study.backbones import Embedded, extract
from lightning_al.study.cell_store import CellStore
from lightning_al.study.full import FullFitter
from lightning_al.study.overlap import near_duplicates
from lightning_al.study.proxy import ProxyFitter

KEY = "embeddings"


def proxy_of(
    subject: FullFitter,
    backbone: str | Callable[..., Any] | None,
    strategies: Iterable[QueryStrategy],
    store: CellStore | None,
) -> ProxyFitter:
    """Make the fitter that stands for the whole model.

    Args:
        subject: Model, data and trainer.
        backbone: What embeds in the place of the model.
        strategies: The strategies that will query.
        store: Holds the embeddings of an earlier run, or keeps them; None does neither.

    Returns:
        The fitter.
    """
    embedded = _kept(store) if store is not None and store.has(KEY) else None
    if embedded is None:
        embedded = extract(
            subject.model,
            subject.datamodule,
            subject.trainer,
            backbone=backbone,
            outputs=subject.outputs,
            embedding_layer=subject.embedding_layer,
            targets=any(strategy.needs.target for strategy in strategies),
        )
        if store is not None:
            found = {name: value.numpy() for name, value in vars(embedded).items() if value is not None}
            store.write(KEY, {"key": KEY}, found)
    near = near_duplicates(embedded.pilot.numpy(), embedded.test.numpy())
    if near:
        rank_zero_warn(
            f"{near:,} of {len(embedded.test):,} test samples have the embedding of a pilot sample: near-duplicates "
            "flatter every fit. Take them out of one of the two."
        )
    return ProxyFitter(
        embedded.pilot,
        embedded.pilot_targets,
        embedded.test,
        embedded.test_targets,
        embedded.num_classes,
        subject.metrics,
        wanted=embedded.wanted,
    )


def _kept(store: CellStore) -> Embedded:
    return Embedded(**{name: torch.from_numpy(value) for name, value in store.read_arrays(KEY).items()})
