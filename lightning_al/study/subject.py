"""What a study is about: enough of model, data and trainer to know it again, and to tell a reader."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_al.dataset import fingerprint, training_dataset
from lightning_al.study.full_data import PilotData
from lightning_al.study.overlap import Contents

_TRAINER = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "limit_train_batches",
    "limit_val_batches",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_predict_batches",
    "overfit_batches",
    "precision",
)


def identity_of(model: LightningModule, trainer: Any, data: PilotData, contents: Contents) -> dict[str, Any]:
    """What decides the fits, as far as it can be seen: a folder whose study had another model is then refused.

    Args:
        model: The model, made under a fixed seed.
        trainer: The trainer as every fit has it.
        data: The data, set up.
        contents: Its samples.

    Returns:
        Numbers and strings. Code that changed under the same names is not seen.
    """
    hparams = {name: _shown(value) for name, value in sorted(model.hparams.items())}
    attributes = {  # a learning rate that the model did not save as a hyperparameter, say
        name: _shown(value)
        for name, value in sorted(vars(model).items())
        if isinstance(value, (bool, int, float, str)) and not name.startswith("_") and name not in hparams
    }
    train_loader, test_set = data.datamodule.train_dataloader(), contents.test.dataset
    return {
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "hparams": hparams,
        "attributes": attributes,
        "optimizers": _optimizers(model),
        "weights": weights_digest(model),
        "trainer": {name: _shown(getattr(trainer, name)) for name in _TRAINER},
        "callbacks": [[type(callback).__name__, _scalars(callback)] for callback in trainer.callbacks],
        "modules": hashlib.sha256(repr(model).encode()).hexdigest()[:16],  # the rate of a dropout, say
        "pilot": data.pool.size,
        "dataset": data.fingerprint,
        "batch_size": train_loader.batch_size,
        "contents": contents.digest if data.fingerprint else "",  # of samples that are drawn anew there is none
        "test": None if test_set is None else [len(test_set), fingerprint(test_set)[0]],
    }


def backbone_name(backbone: Any) -> str | None:
    """The name of what embeds in the model's place.

    Example:
        >>> backbone_name("resnet18"), backbone_name(torch.nn.Flatten()), backbone_name(torch.nn.Flatten)
        ('resnet18', 'Flatten', 'Flatten')
    """
    if backbone is None or isinstance(backbone, str):
        return backbone
    named: Any = backbone if hasattr(backbone, "__qualname__") else type(backbone)
    return str(named.__qualname__)


def description_of(data: PilotData) -> dict[str, Any]:
    """The data in numbers, for the report.

    Args:
        data: The data, set up.

    Returns:
        ``pilot``, ``test``, ``test_split``, ``classes`` and ``class_names``; None for what is not known.
    """
    names = class_names(data)
    dataset: Any = getattr(data.test_loader(), "dataset", None)
    number = getattr(data.datamodule, "num_classes", None)
    return {
        "pilot": data.pool.size,
        "test": len(dataset) if hasattr(dataset, "__len__") else None,
        "test_split": data.test_split,
        "classes": number if isinstance(number, int) else len(names) if names else None,
        "class_names": names,
    }


def class_names(data: PilotData) -> list[str] | None:
    """The classes' names, where the datamodule has ``class_names`` or its training set ``classes``."""
    holders: list[tuple[Any, str]] = [(data.datamodule, "class_names"), (data.datamodule, "classes")]
    dataset: Any = training_dataset(data.datamodule.train_dataloader())
    while dataset is not None:  # a Subset of an ImageFolder, say
        holders.append((dataset, "classes"))
        dataset = getattr(dataset, "dataset", None)
    for holder, name in holders:
        found: Any = getattr(holder, name, None)
        found = found.tolist() if hasattr(found, "tolist") else found
        if isinstance(found, Sequence) and not isinstance(found, str) and len(found):
            return [str(each) for each in found]
    return None


def weights_digest(model: torch.nn.Module) -> str:
    """A hash of all parameters and buffers.

    Example:
        >>> a, b = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        >>> weights_digest(a) == weights_digest(b), weights_digest(a) == weights_digest(a)
        (False, True)
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _optimizers(model: LightningModule) -> Any:
    """Optimizers and schedulers with their settings; None where the model cannot make them outside of a fit."""
    try:
        return _shown(model.configure_optimizers())
    except Exception:  # of the user's code: a schedule that asks the trainer for the number of steps, say
        return None


def _shown(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # JSON has no word for it
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Optimizer, LRScheduler)):
        settings = value.defaults if isinstance(value, Optimizer) else value.state_dict()
        numbers = {name: each for name, each in settings.items() if isinstance(each, (bool, int, float, str, tuple))}
        return {"class": type(value).__name__, **_shown(numbers)}
    if isinstance(value, Mapping):
        return {str(name): _shown(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    return type(value).__name__  # a repr may hold an address, which differs in each process


def _scalars(holder: Any) -> dict[str, Any]:
    """The public numbers and strings that an object holds, a callback's patience say; a path may be a temporary one."""
    return {
        name: value
        for name, value in sorted(vars(holder).items())
        if isinstance(value, (bool, int, float, str))
        and not name.startswith("_")
        and "path" not in name
        and "dir" not in name
    }
