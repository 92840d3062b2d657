"""A study before its first fit: what it trains, the plan, and all that decides the fits."""

from __future__ import annotations

import math
import re
from typing import Any, cast

from lightning.pytorch import LightningDataModule
from torch import nn

from lightning_al.callback import ActiveLearning
from lightning_al.dataset import fingerprint, training_dataset
from lightning_al.querying import target_set
from lightning_al.study.asked import Asked
from lightning_al.study.design import Design, sizes
from lightning_al.study.full import FullFitter
from lightning_al.study.full_trainer import plain_trainer, quiet
from lightning_al.study.overlap import refuse_shared
from lightning_al.study.proxy import check_strategies
from lightning_al.study.subject import backbone_name, weights_digest


def subject_of(asked: Asked, model: Any, datamodule: LightningDataModule, trainer: Any) -> FullFitter:
    """What a study trains, checked before anything is trained.

    Args:
        asked: What the study was asked.
        model: The model, or what makes it.
        datamodule: The data.
        trainer: A Trainer, or what makes one; a proxy may do without.

    Returns:
        The fitter of the whole model, its data set up.

    Raises:
        MisconfigurationException: Model, data, trainer or strategies do not fit a study.
        ValueError: There is no trainer for fits of the whole model, or an argument is out of its range.
    """
    if trainer is None:
        if asked.mode == "full" or asked.confirm:
            raise ValueError(
                "Expected `trainer` for fits of the whole model, but got None: pass a Trainer(max_epochs=...) that "
                "was not used, with the callbacks that your fits have."
            )
        trainer = plain_trainer
    with quiet(repeated=False):
        made = trainer() if callable(trainer) else trainer  # another kind is refused by the fitter
    own = next((each for each in getattr(made, "callbacks", []) if isinstance(each, ActiveLearning)), None)
    subject = FullFitter(
        model,
        datamodule,
        trainer,
        asked.metrics,
        outputs=asked.outputs or (own.outputs if own else "logits"),
        embedding_layer=asked.embedding_layer or (own.embedding_layer if own else None),
        draws=own.mc_samples if own else None,
    )
    smallest = min(asked.fractions) * subject.data.pool.size / asked.buckets
    if asked.mode == "proxy":
        check_strategies(asked.strategies.values())
    subject.check(asked.strategies.values(), max(1, int(smallest)))
    refuse_shared(training_dataset(subject.data.datamodule.train_dataloader()), subject.data.test_set)
    if any(strategy.needs.target for strategy in asked.strategies.values()):
        wanted = target_set(subject.data)
        if wanted is not None:
            refuse_shared(
                wanted, subject.data.test_set, "the target set", "a strategy would select for what it is tested on"
            )
    return subject


def design_of(asked: Asked, subject: FullFitter) -> Design:
    """The plan of the fits, for as many samples as the pilot has.

    Args:
        asked: What the study was asked.
        subject: Holds the pilot.

    Returns:
        The plan.

    Raises:
        ValueError: A size does not fit the pilot.
    """
    pilot = subject.data.pool.size
    initial, query_size = sizes(pilot, asked.rounds, asked.initial, asked.query_size)
    if min(asked.fractions) * pilot / asked.buckets < 2:
        least = math.ceil(2 * asked.buckets / min(asked.fractions))
        raise ValueError(
            f"{100 * min(asked.fractions):g} % of one of {asked.buckets} buckets of {pilot:,} samples is not even "
            f"two: the pilot must have at least {least:,}. Set fewer `buckets`, or larger `fractions`."
        )
    arms = tuple(asked.strategies)
    return Design(
        pilot, initial, query_size, asked.rounds, asked.replicates, asked.buckets, asked.fractions, asked.seeds, arms,
        asked.seed,
    )  # fmt: skip


def what_decides(asked: Asked, subject: FullFitter, design: Design) -> dict[str, Any]:
    """All that decides the cells; what is left out (replicates, delta, prices) may change in the same folder.

    Args:
        asked: What the study was asked.
        subject: What it trains.
        design: The plan of the fits.

    Returns:
        Numbers and strings by name, as JSON holds them.
    """
    wanted = target_set(subject.data) if any(each.needs.target for each in asked.strategies.values()) else None
    return {
        "mode": asked.mode,
        "outputs": subject.outputs,
        "embedding_layer": subject.embedding_layer,
        **({"mc_samples": subject.draws} if subject.draws is not None else {}),
        "backbone": backbone_name(asked.backbone),
        "backbone_weights": weights_digest(asked.backbone) if isinstance(asked.backbone, nn.Module) else None,
        # an address in a repr differs in each process
        "strategies": {arm: re.sub(r" at 0x\w+", "", repr(each)) for arm, each in asked.strategies.items()},
        "metrics": asked.metrics.definitions,
        "buckets": design.buckets,
        "fractions": list(design.fractions),
        "seeds": design.seeds,
        "rounds": design.rounds,
        "initial": design.initial,
        "query_size": design.query_size,
        "seed": design.seed,
        "subject": subject.identity,
        **({} if wanted is None else {"target": [len(cast(Any, wanted)), fingerprint(wanted)[0]]}),
    }
